"""A history package of Django's that does what it is told: `worker.py PACKAGE DATABASE ADDRESS` reads lines of JSON,
`[what, with]`, and answers each with a line of figures, in seconds unless their name says another unit."""

import contextlib
import json
import sys
import time
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from itertools import pairwise
from statistics import median
from types import SimpleNamespace
from unittest import mock
from urllib.parse import unquote, urlsplit

import django
from django.conf import settings

PACKAGE, KIND, ADDRESS = sys.argv[1:4]
POSTGRES = KIND == "postgres"
USERS, VERSIONS, DAY = 50, 10, timedelta(days=1)
STATUSES = ["new", "paid", "packed", "shipped", "returned", "closed"]
NOTES = (
    "please deliver before noon and ring twice, else leave the parcel with the neighbour at number nine, who is there all"
    " day; the invoice goes to the address of the company, as agreed by phone",
    "fragile, from the upper shelf of the second warehouse; checked by two",
)
COLUMNS = ["id", "status", "total", "customer_notes", "internal_notes", "created_at", "last_modified_at"]
EPOCH = datetime(2026, 1, 1, tzinfo=timezone.utc)


def database():
    if not POSTGRES:
        pragmas = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-400000"
        options = {"transaction_mode": "IMMEDIATE", "init_command": pragmas}
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": ADDRESS, "OPTIONS": options}
    import psycopg

    name, at = "bench_" + PACKAGE.replace("-", "_").lower(), urlsplit(ADDRESS)
    with psycopg.connect(ADDRESS, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name}")
        connection.execute(f"CREATE DATABASE {name}")
    access = {"USER": unquote(at.username or ""), "PASSWORD": unquote(at.password or "")}
    return {"ENGINE": "django.db.backends.postgresql", "NAME": name, "HOST": at.hostname, "PORT": at.port} | access


APPS = {
    "django-simple-history": ["simple_history"],
    "django-auditlog": ["auditlog"],
    "django-pghistory": ["pgtrigger", "pghistory"],
}
settings.configure(
    PACKAGE=PACKAGE,
    SECRET_KEY="bench",
    USE_TZ=True,
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", *APPS.get(PACKAGE, []), "orders"],
    DATABASES={"default": database()},
    PGTRIGGER_INSTALL_ON_MIGRATE=True,
)
django.setup()

from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection, transaction
from django.db.models import F
from orders.models import Order

HISTORY = {
    "django-simple-history": ["orders_historicalorder"],
    "django-auditlog": ["auditlog_logentry"],
    "django-pghistory": ["orders_orderevent", "pghistory_context"],
}.get(PACKAGE, [])
if PACKAGE == "django-simple-history":
    from simple_history.models import HistoricalRecords
    from simple_history.utils import bulk_create_with_history
elif PACKAGE == "django-auditlog":
    from auditlog.context import set_actor
    from auditlog.models import LogEntry
elif PACKAGE == "django-pghistory":
    import pghistory
    from pghistory.models import Events


def run(sql, *values):
    with connection.cursor() as cursor:
        cursor.execute(sql, values or None)
        return cursor.fetchall() if cursor.description else None


def records():
    return run(f"SELECT count(*) FROM {HISTORY[0]}")[0][0] if HISTORY else 0


@contextlib.contextmanager
def acting(user):
    """Who writes, as the package's middleware would say it."""
    if PACKAGE == "django-simple-history":
        HistoricalRecords.context.request = SimpleNamespace(user=user)
        try:
            yield
        finally:
            del HistoricalRecords.context.request
    elif PACKAGE == "django-auditlog":
        with set_actor(user):
            yield
    elif PACKAGE == "django-pghistory":
        with pghistory.context(user=user.pk):
            yield
    else:
        yield


def order(number, k):
    return dict(
        status=STATUSES[(number + k) % 6],
        total=Decimal((number * 37) % 900_000 + 1000 + 125 * k) / 100,
        customer_notes=f"{number:08d} {NOTES[0]}",
        internal_notes=f"{number:08d} {NOTES[1]}",
        created_at=EPOCH,
        last_modified_at=EPOCH,
    )


def fresh():
    for table in ["orders_order", *HISTORY]:
        run(f"TRUNCATE {table} RESTART IDENTITY CASCADE" if POSTGRES else f"DELETE FROM {table}")


def timed(does, *arguments):
    begun = time.perf_counter()
    result = does(*arguments)
    return result, time.perf_counter() - begun


def single(rows, durable):
    fresh()
    if POSTGRES:
        run(f"SET synchronous_commit = {'on' if durable else 'off'}")
    else:
        run(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
    users, orders = list(User.objects.order_by("id")), {}

    def create(number):
        orders[number] = Order.objects.create(id=number, **order(number, 0))

    def update(number, k):
        new, changed = order(number, k), orders[number]
        changed.status, changed.total = new["status"], new["total"]
        changed.save()

    def delete(number):
        orders[number].delete()

    def all_of(does, plan):
        for n, arguments in enumerate(plan):
            with acting(users[n * 19 % USERS]), transaction.atomic():
                does(*arguments)

    plans = {
        "create": (create, [(number,) for number in range(1, rows + 1)]),
        "update": (update, [(n * 7919 % rows + 1, 1 + n // rows) for n in range(rows * 5 // 2)]),
        "delete": (delete, [(n * 4 + 1,) for n in range(rows // 4)]),
    }
    return {name: timed(all_of, does, plan)[1] / len(plan) for name, (does, plan) in plans.items()}


def bulk(rows):
    fresh()
    new = [Order(id=number, **order(number, 0)) for number in range(1, rows + 1)]
    figures, before = {}, records()

    def step(name, does):
        nonlocal before
        _, seconds = timed(does)
        after = records()
        if not HISTORY or after - before >= rows:
            figures[name] = seconds
        before = after

    with acting(User.objects.get(pk=1)):
        if PACKAGE == "django-simple-history":
            step("create", lambda: bulk_create_with_history(new, Order, batch_size=1000))
        else:
            step("create", lambda: Order.objects.bulk_create(new, batch_size=1000))
        step("update", lambda: Order.objects.update(status="bulk", total=F("total") + 1))
        step("delete", lambda: Order.objects.all().delete())
    return figures


def sql_values(k):
    """The columns of the order `id` in version `k`, as SQL over `id` and `k`."""
    listed = ", ".join(f"'{status}'" for status in STATUSES)
    cents = f"((id * 37) % 900000 + 1000 + 125 * ({k}))"
    if POSTGRES:
        time_ = "'2026-01-01'::timestamptz + (id % 1000) * interval '1 second'"
        notes = [f"lpad(id::text, 8, '0') || ' {text}'" for text in NOTES]
        return ["id", f"(ARRAY[{listed}])[(id + {k}) % 6 + 1]", f"({cents} / 100.0)::numeric(10,2)", *notes, time_, time_]
    time_ = "datetime('2026-01-01', (id % 1000) || ' seconds')"
    notes = [f"printf('%08d', id) || ' {text}'" for text in NOTES]
    return ["id", f"json_extract(json_array({listed}), '$[' || ((id + {k}) % 6) || ']')", f"{cents} / 100.0", *notes, time_, time_]


def fill(rows, end):
    """A history of a hundred days, ten versions of each row, and the rows as they are at its end."""
    fresh()
    settings.END = datetime.fromtimestamp(end / 1e6, timezone.utc)
    settings.ROWS = rows
    count, step = rows * VERSIONS, 100 * 86_400_000_000 // (rows * VERSIONS)
    begin = end - count * step

    def numbers(last):
        if POSTGRES:
            return f"(SELECT s FROM generate_series(1::bigint, {last}) AS s) AS numbers"
        return f"(WITH RECURSIVE g(s) AS (SELECT 1 UNION ALL SELECT s + 1 FROM g WHERE s < {last}) SELECT s FROM g) AS numbers"

    source = f"(SELECT s, (s - 1) % {rows} + 1 AS id, (s - 1) / {rows} AS k FROM {numbers(count)}) AS v ORDER BY s"
    micros = f"({begin} + s * {step})"
    at = f"to_timestamp({micros} / 1e6)" if POSTGRES else f"strftime('%Y-%m-%d %H:%M:%f', {micros} / 1e6, 'unixepoch')"
    user, names = f"(1 + s * 19 % {USERS})", ", ".join(COLUMNS)
    values, before = sql_values("k"), sql_values("k - 1")

    def insert(table, columns, expressions):
        with connection.cursor() as cursor:
            cursor.execute(f"INSERT INTO {table} ({columns}) SELECT {', '.join(expressions)} FROM {source}")

    with transaction.atomic():
        if POSTGRES:
            run("SET LOCAL session_replication_role = replica")
        live = f"(SELECT s AS id, {VERSIONS - 1} AS k FROM {numbers(rows)}) AS v"
        run(f"INSERT INTO orders_order ({names}) SELECT {', '.join(values)} FROM {live}")
        sign = "CASE WHEN k = 0 THEN '+' ELSE '~' END"
        if PACKAGE == "django-simple-history":
            more = "history_date, history_change_reason, history_type, history_user_id"
            insert(HISTORY[0], f"{names}, {more}", [*values, at, "NULL", sign, user])
        elif PACKAGE == "django-pghistory":
            key, label = "md5(s::text)::uuid", "CASE WHEN k = 0 THEN 'insert' ELSE 'update' END"
            insert(HISTORY[1], "id, created_at, updated_at, metadata", [key, at, at, f"jsonb_build_object('user', {user})"])
            more = "pgh_created_at, pgh_label, pgh_obj_id, pgh_context_id"
            insert(HISTORY[0], f"{names}, {more}", [*values, at, label, "id", key])
        elif PACKAGE == "django-auditlog":
            from django.contrib.contenttypes.models import ContentType

            model = ContentType.objects.get_for_model(Order).pk
            pair, pairs, text = ("jsonb_build_array", "jsonb_build_object", "text") if POSTGRES else ("json_array", "json_object", "text")
            cast = lambda value: f"CAST({value} AS {text})"
            created = ", ".join(f"'{name}', {pair}('None', {cast(value)})" for name, value in zip(COLUMNS, values))
            changed = ", ".join(
                f"'{COLUMNS[n]}', {pair}({cast(before[n])}, {cast(values[n])})" for n in (1, 2)
            )
            changes = f"CASE WHEN k = 0 THEN {pairs}({created}) ELSE {pairs}({changed}) END"
            columns = "content_type_id, object_pk, object_id, object_repr, action, changes_text, changes, actor_id, actor_email, timestamp"
            told = ["CAST(id AS text)", "id", "'Order object (' || id || ')'", "CASE WHEN k = 0 THEN 0 ELSE 1 END", "''"]
            insert(HISTORY[0], columns, [str(model), *told, changes, user, f"'u' || {user} || '@example.com'", at])
    run("VACUUM ANALYZE" if POSTGRES else "ANALYZE")
    return {}


def reading():
    middle, end = settings.END - 50 * DAY, settings.END
    day = (middle, middle + DAY)
    keys = [n * 997 % settings.ROWS + 1 for n in range(40)]
    figures = {}

    def ask(name, does, *arguments):
        figures[name] = timed(lambda: does(*arguments))[1]

    def often(name, does):
        figures[name] = median(timed(does)[1] for _ in range(9))

    def each(name, does):
        figures[name] = median(timed(does, key)[1] for key in keys)

    if PACKAGE == "Django":
        ask("as of the middle: count", Order.objects.count)
        ask("as of the middle: all rows", lambda: list(Order.objects.all()))
        each("as of the middle: one row", lambda key: Order.objects.get(pk=key))
        often("as of the middle: 50 rows, filtered", lambda: list(Order.objects.filter(status="shipped")[:50]))
    elif PACKAGE == "django-simple-history":
        history = Order.history
        late = end - DAY
        ask("as of the middle: count", lambda: history.as_of(middle).count())
        ask("as of the middle: all rows", lambda: list(history.as_of(middle)))
        ask("as of a day ago, 1 % of the records after it: count", lambda: history.as_of(late).count())
        ask("as of a day ago: all rows", lambda: list(history.as_of(late)))
        each("as of the middle: one row", lambda key: Order(pk=key).history.as_of(middle))
        often("as of the middle: 50 rows, filtered", lambda: list(history.as_of(middle).filter(status="shipped")[:50]))
        each("the newest 50 changes of a row", lambda key: list(history.filter(id=key)[:50]))
        each(
            "a row's versions, with what changed",
            lambda key: [a.diff_against(b).changes for a, b in pairwise(list(history.filter(id=key)))],
        )
        often("a first page of 50 changes", lambda: list(history.all()[:50]))
        often("the last hour", lambda: list(history.filter(history_date__gte=end - DAY / 24)))
        often("a user's day", lambda: list(history.filter(history_user_id=7, history_date__gte=day[0], history_date__lt=day[1])))
    elif PACKAGE == "django-auditlog":
        log = LogEntry.objects
        each("the newest 50 changes of a row", lambda key: list(log.get_for_object(Order(pk=key))[:50]))
        each(
            "a row's versions, with what changed",
            lambda key: [entry.changes_dict for entry in log.get_for_object(Order(pk=key))],
        )
        of_orders = log.get_for_model(Order)
        often("a first page of 50 changes", lambda: list(of_orders[:50]))
        often("the last hour", lambda: list(of_orders.filter(timestamp__gte=end - DAY / 24)))
        often("a user's day", lambda: list(of_orders.filter(actor_id=7, timestamp__gte=day[0], timestamp__lt=day[1])))
    elif PACKAGE == "django-pghistory":
        # It has no question as of a time: the last event of each row by hand.
        from orders.models import OrderEvent

        events = OrderEvent.objects
        each("the newest 50 changes of a row", lambda key: list(events.filter(pgh_obj_id=key).order_by("-pgh_id")[:50]))
        each(
            "a row's versions, with what changed",
            lambda key: [event.pgh_diff for event in Events.objects.tracks(Order(pk=key)).order_by("pgh_id")],
        )

        def then(at):
            last = events.filter(pgh_created_at__lte=at).order_by("pgh_obj_id", "-pgh_id").distinct("pgh_obj_id")
            return events.filter(pgh_id__in=last.values("pgh_id")).exclude(pgh_label="delete")

        ask("as of the middle: count", lambda: then(middle).count())
        ask("as of the middle: all rows", lambda: list(then(middle)))
        often("a first page of 50 changes", lambda: list(events.order_by("-pgh_id")[:50]))
        often("the last hour", lambda: list(events.filter(pgh_created_at__gte=end - DAY / 24)))
        of_day = dict(pgh_created_at__gte=day[0], pgh_created_at__lt=day[1])
        often("a user's day", lambda: list(events.filter(pgh_context__metadata__user=7, **of_day)))
    return figures


def storage():
    if not HISTORY:
        return {}
    changes, sizes = records(), {"bytes of records": 0, "bytes of indexes": 0, "bytes of contexts": 0}
    for table in HISTORY:
        if POSTGRES:
            own, indexes = run("SELECT pg_table_size(%s::regclass), pg_indexes_size(%s::regclass)", table, table)[0]
        else:
            size = "SELECT coalesce(sum(s.pgsize), 0) FROM dbstat s JOIN sqlite_master m ON m.name = s.name WHERE s.aggregate = 1 AND m.type = %s AND m.tbl_name = %s"
            own, indexes = (run(size, kind, table)[0][0] for kind in ("table", "index"))
        if table == "pghistory_context":
            sizes["bytes of contexts"] = own + indexes
        else:
            sizes["bytes of records"], sizes["bytes of indexes"] = own, indexes
    sizes = {name: size / changes for name, size in sizes.items() if size}
    return sizes | {"bytes in all": sum(sizes.values())}


def pruning():
    middle = settings.END - 50 * DAY
    if PACKAGE == "django-simple-history":
        from django.utils import timezone as clock

        with mock.patch.object(clock, "now", return_value=settings.END):
            return {"deletion": timed(lambda: call_command("clean_old_history", "orders.Order", days=50, verbosity=0))[1]}
    if PACKAGE == "django-auditlog":
        flush = lambda: call_command("auditlogflush", yes=True, before_date=middle.date(), stdout=open("/dev/null", "w"))
        return {"deletion": timed(flush)[1]}
    if PACKAGE == "django-pghistory":
        # It has no command; contexts that nothing refers to any more stay.
        from orders.models import OrderEvent

        return {"deletion": timed(lambda: OrderEvent.objects.filter(pgh_created_at__lt=middle).delete())[1]}
    return {}


def set_up():
    if PACKAGE == "django-simple-history":
        call_command("migrate", "auth", verbosity=0)
    call_command("migrate", run_syncdb=True, verbosity=0)
    User.objects.bulk_create(
        User(id=number, username=f"u{number}", email=f"u{number}@example.com") for number in range(1, USERS + 1)
    )


set_up()
for line in sys.stdin:
    what, arguments = json.loads(line)
    does = {"single": single, "bulk": bulk, "fill": fill, "reading": reading, "storage": storage, "pruning": pruning}[what]
    print(json.dumps(does(**arguments)), flush=True)
