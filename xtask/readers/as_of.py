"""What DuckDB and PySpark read of an archive is the table as the database says it was.

Usage: as_of.py PROGRAM FOLDER [POSTGRES_URL]. Over SQLite where no server is named.
"""

import decimal
import json
import random
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

import duckdb
from pyspark.sql import SparkSession
from pyspark.sql import functions as f

ROWS = 300
ROUNDS = 8
COLUMNS = ["id", "customer", "total", "paid", "note", "due"]


def main(program: str, folder: Path, postgres: str | None) -> None:
    url = postgres or str(folder / "shop.db")
    sql = Sql(url, postgres is not None)

    def afterimage(*arguments: str) -> str:
        command = [program, "--database-url", url, *arguments]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
        return done.stdout

    truth = "boolean" if postgres else "INTEGER"
    sql(f"CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, total NUMERIC(10, 2), paid {truth}, note TEXT, due DATE)")
    sql("".join(f"INSERT INTO orders VALUES ({n}, 'Ann {n} ö', {n}.50, {sql.truth(False)}, NULL, '2026-01-31');" for n in range(ROWS)))
    afterimage("track", "orders", "--storage", "delta")
    dice = random.Random(7)
    times = []
    for turn in range(ROUNDS):
        statements = []
        for _ in range(60):
            row = dice.randrange(ROWS + 40)
            statements.append(dice.choice([
                f"UPDATE orders SET total = total + 0.25 WHERE id = {row}",
                f"UPDATE orders SET paid = {sql.truth(turn % 2 == 0)}, note = 'paid in {turn}' WHERE id = {row}",
                f"UPDATE orders SET note = NULL, due = '2027-0{turn + 1}-01' WHERE id = {row}",
                f"DELETE FROM orders WHERE id = {row}",
                f"INSERT INTO orders VALUES ({row}, 'Bob ''{row}''', 1.00, {sql.truth(True)}, '', NULL) ON CONFLICT DO NOTHING",
                f"UPDATE orders SET id = id + 1000 WHERE id = {row} AND id < 1000",
            ]))
        sql("BEGIN;" + ";".join(statements) + ";COMMIT")
        time.sleep(0.05)
        times.append(datetime.now(timezone.utc))
        time.sleep(0.05)
    # From here on every row has changed: what it was then is old.
    sql("UPDATE orders SET customer = 'somebody'")
    sql("DELETE FROM orders WHERE id % 3 = 0")
    sql("".join(f"INSERT INTO orders VALUES ({n}, 'back', 0, {sql.truth(False)}, NULL, NULL) ON CONFLICT DO NOTHING;" for n in range(1400)))
    stamps = [moment.isoformat(timespec="microseconds").replace("+00:00", "Z") for moment in times]
    before = [rows_of(json.loads(afterimage("as-of", "orders", stamp, "--format", "json"))) for stamp in stamps]
    assert len(before[0]) > ROWS // 2, "there is something to compare"
    time.sleep(1.1)
    archive = folder / "archive"
    print(afterimage("archive", "orders", "--older-than", "1 second", "--to", f"file://{archive}").strip())
    after = [rows_of(json.loads(afterimage("as-of", "orders", stamp, "--format", "json"))) for stamp in stamps]
    assert after == before, "the table as of a time is another since its records were moved"
    [table] = [path for path in archive.iterdir() if path.is_dir()]
    spark = (
        SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
        .config("spark.sql.session.timeZone", "UTC").config("spark.sql.shuffle.partitions", "1").getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    records = spark.read.parquet(str(table))
    database = duckdb.connect()
    database.sql("SET TimeZone = 'UTC'")
    for moment, stamp, expected in zip(times, stamps, before, strict=True):
        said = database.sql(
            f"SELECT {', '.join(COLUMNS)} FROM read_parquet('{table}/*/*.parquet')"
            f" WHERE history_date <= '{stamp}' AND history_until > '{stamp}' AND history_type <> '-'"
        ).fetchall()
        same("DuckDB", stamp, rows_of([dict(zip(COLUMNS, row, strict=True)) for row in said]), expected)
        at = f.lit(moment)
        then = records.where((f.col("history_date") <= at) & (f.col("history_until") > at) & (f.col("history_type") != "-"))
        same("PySpark", stamp, rows_of([row.asDict() for row in then.select(*COLUMNS).collect()]), expected)
    print(f"DuckDB {duckdb.__version__} and PySpark {spark.version} read the same {len(times)} times as the database")
    spark.stop()


def same(reader: str, stamp: str, found: list, expected: list) -> None:
    if found != expected:
        sys.exit(f"{reader} as of {stamp}: {len(found)} rows, and the database has {len(expected)}\n"
                 f"{[row for row in found if row not in expected][:3]}\n{[row for row in expected if row not in found][:3]}")


def rows_of(rows: list[dict]) -> list[list[str | None]]:
    return sorted([text(row[column]) for column in COLUMNS] for row in rows)


def text(value: object) -> str | None:
    """A value as text that says nothing of its type."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, int | float | decimal.Decimal):
        return f"{float(value):.2f}"
    try:
        return f"{float(str(value)):.2f}"
    except ValueError:
        return "'" + str(value)


class Sql:
    """Runs statements as other programs would."""

    def __init__(self, url: str, postgres: bool) -> None:
        self.command = ["psql", "--quiet", "--set", "ON_ERROR_STOP=1", url] if postgres else ["sqlite3", url]
        self.postgres = postgres

    def __call__(self, statements: str) -> None:
        subprocess.run(self.command, input=statements + ";", check=True, text=True, stdout=subprocess.DEVNULL)

    def truth(self, truth: bool) -> str:
        return str(truth).lower() if self.postgres else str(int(truth))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None)
