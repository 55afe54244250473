"""Asks the questions of the API by a client that was generated from its document."""

import sys

from afterimage_client import Client
from afterimage_client.api.default import diff, history, log, record, revert, tables
from afterimage_client.models import LogRange, RevertBody

client = Client(base_url=sys.argv[1])

known = tables.sync(client=client)
assert [table.table for table in known.tables] == ["country_codes"], known

page = log.sync(client=client, range_=LogRange.ALL, limit=5)
assert len(page.entries) == 5 and page.next_, page

row = record.sync("country_codes", "TUR", client=client)
versions = history.sync("country_codes", "TUR", client=client, limit=2)
assert versions.count == row.version and len(versions.results) == 2, versions

difference = diff.sync("country_codes", "TUR", client=client, from_="1", to="current")
assert difference.changes, difference

would = revert.sync("country_codes", "TUR", client=client, body=RevertBody(to=1, dry_run=True))
assert would.dry_run, would
missing = record.sync_detailed("country_codes", "nowhere", client=client)
assert missing.status_code == 404 and missing.parsed.status == 404, missing
print("the generated client asks and is answered")
