//! One database with three tables alike: plain, and tracked in either storage.

use std::time::Instant;

use afterimage::{Afterimage, Past, Storage, Tracking};
use afterimage_core::Layout;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use tempfile::TempDir;

use crate::Outcome;

/// The sides that are compared, and the tables they write.
pub(crate) const SIDES: [(&str, &str); 3] =
    [("plain", "orders_plain"), ("snapshot", "orders_snapshot"), ("delta", "orders_delta")];

/// What is measured, as `--database` calls it.
pub(crate) const KINDS: [(&str, Kind); 3] =
    [("postgres", Kind::Postgres), ("sqlite", Kind::Sqlite), ("mariadb", Kind::MariaDb)];

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Postgres,
    Sqlite,
    MariaDb,
}

/// A connection to a database under test.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) kind: Kind,
    pub(crate) audit: Afterimage,
    connection: Connection,
    _folder: TempDir,
}

#[derive(Debug)]
enum Connection {
    Postgres(sqlx::PgConnection),
    Sqlite(sqlx::SqliteConnection),
    MariaDb(sqlx::MySqlConnection),
}

/// The same for every driver, whose types for it have nothing in common.
macro_rules! by_driver {
    ($bench:ident, $connection:ident => $does:expr) => {
        match &mut $bench.connection {
            Connection::Postgres($connection) => $does,
            Connection::Sqlite($connection) => $does,
            Connection::MariaDb($connection) => $does,
        }
    };
}

impl Bench {
    pub(crate) async fn open(kind: Kind) -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let server = |variable: &str| {
            std::env::var(variable)
                .map_err(|_| format!("no {variable}: run this by `cargo xtask bench`, which starts a server"))
        };
        let (url, connection) = match kind {
            Kind::Postgres => {
                let url = server("AFTERIMAGE_BENCH_POSTGRES")?;
                let connection = sqlx::PgConnection::connect(&url).await?;
                (url, Connection::Postgres(connection))
            }
            Kind::Sqlite => {
                let url = format!("sqlite://{}?mode=rwc", folder.path().join("bench.db").display());
                let mut connection = sqlx::SqliteConnection::connect(&url).await?;
                connection
                    .execute(
                        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -400000",
                    )
                    .await?;
                (url, Connection::Sqlite(connection))
            }
            Kind::MariaDb => {
                let server = server("AFTERIMAGE_BENCH_MARIADB")?;
                let mut connection = sqlx::MySqlConnection::connect(&server).await?;
                let create =
                    "CREATE OR REPLACE DATABASE afterimage_bench CHARACTER SET utf8mb4; USE afterimage_bench";
                connection.execute(sqlx::raw_sql(create)).await?;
                (format!("{server}/afterimage_bench"), Connection::MariaDb(connection))
            }
        };
        let audit = Afterimage::connect(&url).await?;
        Ok(Self { kind, audit, connection, _folder: folder })
    }

    pub(crate) fn name(&self) -> &'static str {
        match self.kind {
            Kind::Postgres => "PostgreSQL (fsync off)",
            Kind::Sqlite => "SQLite (WAL, synchronous NORMAL)",
            Kind::MariaDb => "MariaDB (innodb_flush_log_at_trx_commit = 2, no binary log)",
        }
    }

    /// How a statement's one parameter is written.
    pub(crate) fn parameter(&self) -> &'static str {
        if self.kind == Kind::Postgres { "$1" } else { "?" }
    }

    /// Runs statements.
    pub(crate) async fn run(&mut self, sql: &str) -> Outcome {
        let query = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        by_driver!(self, c => c.execute(query).await.map(drop)?);
        Ok(())
    }

    /// Waits until what was written is written for good: what one side leaves to be done is not to be paid by the next.
    pub(crate) async fn settle(&mut self) -> Outcome {
        match self.kind {
            Kind::Postgres => self.run("CHECKPOINT").await,
            Kind::Sqlite => Ok(()),
            Kind::MariaDb => self.run("SET GLOBAL innodb_max_purge_lag_wait = 0").await,
        }
    }

    /// Lets the database know what the tables hold.
    pub(crate) async fn analyze(&mut self) -> Outcome {
        match self.kind {
            Kind::Postgres => self.run("VACUUM ANALYZE").await,
            Kind::Sqlite => self.run("ANALYZE").await,
            Kind::MariaDb => {
                self.settle().await?;
                self.run("ANALYZE TABLE orders_plain, orders_snapshot, orders_delta, orders_snapshot_history, orders_delta_history, afterimage_scope").await
            }
        }
    }

    /// Runs statements, and says how long they took.
    pub(crate) async fn timed(&mut self, sql: &str) -> Outcome<f64> {
        let begun = Instant::now();
        self.run(sql).await?;
        Ok(begun.elapsed().as_secs_f64())
    }

    /// Runs a prepared statement with one integer.
    pub(crate) async fn prepared(&mut self, sql: &str, id: i64) -> Outcome {
        let sql = AssertSqlSafe(sql.to_owned());
        by_driver!(self, c => sqlx::query(sql).bind(id).execute(c).await.map(drop)?);
        Ok(())
    }

    /// Fetches all rows of a query; gives how many, and how long it took.
    pub(crate) async fn fetch(&mut self, sql: &str) -> Outcome<(usize, f64)> {
        let sql = AssertSqlSafe(sql.to_owned());
        let begun = Instant::now();
        let rows = by_driver!(self, c => sqlx::query(sql).persistent(false).fetch_all(c).await?.len());
        Ok((rows, begun.elapsed().as_secs_f64()))
    }

    /// Fetches all rows of a query asked of the past; gives how many.
    pub(crate) async fn rows_of_then(&self, past: &Past, sql: &str) -> Outcome<usize> {
        let mut rows = 0;
        let sql = AssertSqlSafe(sql.to_owned());
        macro_rules! count {
            ($driver:ident) => {
                past.$driver().each(sqlx::query(sql), |_| {
                    rows += 1;
                    Ok(true)
                })
            };
        }
        match self.kind {
            Kind::Postgres => count!(postgres).await?,
            Kind::Sqlite => count!(sqlite).await?,
            Kind::MariaDb => count!(mariadb).await?,
        }
        Ok(rows)
    }

    /// Fetches by one key given as text; gives how long it took.
    pub(crate) async fn fetch_row(&mut self, sql: &str, key: &str) -> Outcome<f64> {
        let sql = AssertSqlSafe(sql.to_owned());
        let begun = Instant::now();
        by_driver!(self, c => sqlx::query(sql).bind(key).fetch_all(c).await.map(drop)?);
        Ok(begun.elapsed().as_secs_f64())
    }

    /// One value, as text.
    pub(crate) async fn text(&mut self, sql: &str) -> Outcome<String> {
        let text = if self.kind == Kind::MariaDb { "CHAR" } else { "TEXT" };
        let sql = AssertSqlSafe(format!("SELECT CAST(({sql}) AS {text})"));
        Ok(by_driver!(self, c => sqlx::query_scalar(sql).fetch_one(c).await?))
    }

    /// Creates the three tables anew, the last two tracked.
    pub(crate) async fn fresh_tables(&mut self) -> Outcome {
        let columns = match self.kind {
            Kind::Postgres => {
                "id bigint PRIMARY KEY, customer text, status text, total numeric(12,2), note text, created_at timestamptz, qty int"
            }
            Kind::Sqlite => {
                "id INTEGER PRIMARY KEY, customer TEXT, status TEXT, total NUMERIC, note TEXT, created_at TEXT, qty INTEGER"
            }
            Kind::MariaDb => {
                "id bigint PRIMARY KEY, customer varchar(100), status varchar(20), total decimal(12,2), note text, created_at datetime(6), qty int"
            }
        };
        for (side, table) in SIDES {
            if self.audit.tracking(table).await?.is_some() {
                self.audit.untrack(table, true).await?;
            }
            self.run(&format!("DROP TABLE IF EXISTS {table}")).await?;
            self.run(&format!("CREATE TABLE {table} ({columns})")).await?;
            if let Ok(storage) = side.parse::<Storage>() {
                self.audit.track(table, Tracking::new().storage(storage)).await?;
            }
        }
        Ok(())
    }

    /// The numbers from 1 on, to read from: a row each, with the one column `s`.
    fn numbers(&self, last: i64) -> String {
        match self.kind {
            Kind::Postgres => {
                format!("(SELECT s FROM generate_series(1::bigint, {last}::bigint) AS s) AS numbers")
            }
            Kind::Sqlite => format!(
                "(WITH RECURSIVE g(s) AS (SELECT 1 UNION ALL SELECT s + 1 FROM g WHERE s < {last}) SELECT s FROM g) AS numbers"
            ),
            Kind::MariaDb => format!("(SELECT seq AS s FROM seq_1_to_{last}) AS numbers"),
        }
    }

    /// The columns of the order `id` in its version `k`, in order.
    fn order(&self) -> [&'static str; 7] {
        match self.kind {
            Kind::Postgres => [
                "id",
                "'customer ' || id % 5000",
                "'v' || k || '-' || id % 1000",
                "(id % 100000) * 1.25",
                "repeat('n', 120)",
                "'2026-01-01'::timestamptz",
                "(id + k) % 7",
            ],
            Kind::Sqlite => [
                "id",
                "'customer ' || id % 5000",
                "'v' || k || '-' || id % 1000",
                "(id % 100000) * 1.25",
                "printf('%.*c', 120, 'n')",
                "'2026-01-01 00:00:00'",
                "(id + k) % 7",
            ],
            Kind::MariaDb => [
                "id",
                "concat('customer ', id % 5000)",
                "concat('v', k, '-', id % 1000)",
                "(id % 100000) * 1.25",
                "repeat('n', 120)",
                "'2026-01-01 00:00:00'",
                "(id + k) % 7",
            ],
        }
    }

    /// The statement that creates so many orders, whose columns are expressions over `id` and `k`.
    fn insert_orders(&self, table: &str, columns: &[&str], rows: u32, k: u32) -> String {
        format!(
            "INSERT INTO {table} SELECT {} FROM (SELECT s AS id, {k} AS k FROM {}) AS v",
            columns.join(", "),
            self.numbers(rows.into())
        )
    }

    /// The statement that creates so many orders, all of them open.
    pub(crate) fn insert(&self, table: &str, rows: u32) -> String {
        let [id, customer, _, total, note, created_at, qty] = self.order();
        self.insert_orders(table, &[id, customer, "'open'", total, note, created_at, qty], rows, 0)
    }

    /// Fills a history and its table as if each version had been written `step` microseconds after the one before, by
    /// one of 50 users, the last of them at `end`.
    pub(crate) async fn fill_history(
        &mut self,
        table: &str,
        sparse: bool,
        rows: u32,
        versions: u32,
        end: i64,
        step: i64,
    ) -> Outcome {
        let all = i64::from(rows * versions);
        let begin = end - all * step;
        let layout = self.layout(table).await?;
        let live = self.insert_orders(table, &self.order(), rows, versions - 1);
        self.fill_unrecorded(table, &live).await?;
        // The bits of status and qty, which is what an update changes; all of them and the full one of a creation.
        let bit = |name: &str| layout.field(name).map_or(0, |field| field.word_and_bit().1);
        let full = layout.full_mask()[0];
        let changed = bit("status") | bit("qty") | i64::from(!sparse);
        let mask = format!("CASE WHEN k = 0 THEN {full} ELSE {changed} END");
        let sign = "CASE WHEN k = 0 THEN '+' ELSE '~' END";
        let columns = ["id", "customer", "status", "total", "note", "created_at", "qty"];
        let kept: Vec<String> = columns
            .iter()
            .zip(self.order())
            .map(|(column, value)| match *column {
                "id" | "status" | "qty" => value.to_owned(),
                _ if sparse => format!("CASE WHEN k = 0 THEN {value} END"),
                _ => value.to_owned(),
            })
            .collect();
        let (columns, kept) = (columns.join(", "), kept.join(", "));
        let numbers = self.numbers(all);
        // MariaDB's slash gives a fraction.
        let over = if self.kind == Kind::MariaDb { "DIV" } else { "/" };
        let source = format!(
            "(SELECT s, (s - 1) % {rows} + 1 AS id, (s - 1) {over} {rows} AS k FROM {numbers}) AS v ORDER BY s"
        );
        let sql = match self.kind {
            Kind::Postgres => {
                let since = format!("to_timestamp(({begin} - 1) / 1e6)");
                format!(
                    "INSERT INTO {table}_history (history_date, history_tx, history_type, history_user, history_changed, {columns})
                     SELECT to_timestamp(({begin}::bigint + s * {step}::bigint) / 1e6), s, {sign}, (1 + s * 19 % 50)::text, {mask}, {kept} FROM {source};
                     UPDATE afterimage.tracked SET since = {since} WHERE table_name = '{table}';
                     UPDATE afterimage.epoch SET from_date = {since} WHERE table_id = {}",
                    layout.id
                )
            }
            Kind::Sqlite => {
                let first: i64 = self.text("SELECT history_id FROM afterimage_state").await?.parse()?;
                let scope: i64 = self.text("SELECT last_scope FROM afterimage_state").await?.parse()?;
                format!(
                    "BEGIN;
                     INSERT INTO afterimage_scope (id, tx, actor, began, first_id, last_date, last_id)
                     SELECT {scope} + s, {scope} + s, CAST(1 + s * 19 % 50 AS TEXT), {begin} + s * {step}, {first} + s, {begin} + s * {step}, {first} + s FROM {numbers};
                     INSERT INTO {table}_history (history_id, history_date, history_type, history_scope, history_changed, {columns})
                     SELECT {first} + s, {begin} + s * {step}, {sign}, {scope} + s, {mask}, {kept} FROM {source};
                     UPDATE afterimage_state SET history_id = {first} + {all}, last_scope = {scope} + {all};
                     UPDATE afterimage_tracked SET since = {begin} - 1 WHERE table_name = '{table}';
                     UPDATE afterimage_epoch SET from_date = {begin} - 1 WHERE table_id = {};
                     COMMIT",
                    layout.id
                )
            }
            Kind::MariaDb => {
                let first: i64 = self.text("SELECT NEXTVAL(afterimage_sequence)").await?.parse()?;
                let scope: i64 = self.text("SELECT NEXTVAL(afterimage_scopes)").await?.parse()?;
                format!(
                    "INSERT INTO afterimage_scope (id, tx, actor, began, last_date)
                     SELECT {scope} + s, {scope} + s, 1 + s * 19 % 50, {begin} + s * {step}, {begin} + s * {step} FROM {numbers};
                     INSERT INTO {table}_history (history_id, history_date, history_type, history_scope, history_changed, {columns})
                     SELECT {first} + 2 * s, {begin} + s * {step}, {sign}, {scope} + s, {mask}, {kept} FROM {source};
                     SELECT SETVAL(afterimage_sequence, {}), SETVAL(afterimage_scopes, {});
                     UPDATE afterimage_tracked SET since = {begin} - 1 WHERE table_name = '{table}';
                     UPDATE afterimage_epoch SET from_date = {begin} - 1 WHERE table_id = {}",
                    first + 2 * all,
                    scope + all,
                    layout.id
                )
            }
        };
        self.run(&sql).await
    }

    /// Runs a statement that fills a table, and leaves no record of it.
    async fn fill_unrecorded(&mut self, table: &str, fill: &str) -> Outcome {
        let sql = match self.kind {
            Kind::Postgres => {
                format!("SET session_replication_role = replica; {fill}; RESET session_replication_role")
            }
            Kind::Sqlite => {
                let capture = format!("FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = '{table}'");
                let list = |columns: &str| format!("SELECT group_concat({columns}, ';') {capture}");
                let drop = self.text(&list("'DROP TRIGGER \"' || name || '\"'")).await?;
                let create = self.text(&list("sql")).await?;
                format!("BEGIN; {drop}; {fill}; {create}; COMMIT")
            }
            // Which fires no trigger.
            Kind::MariaDb => format!("{fill}; TRUNCATE TABLE {table}_history"),
        };
        self.run(&sql).await
    }

    /// The layout of a tracked table, from the catalogue.
    pub(crate) async fn layout(&mut self, table: &str) -> Outcome<Layout> {
        let schema = if self.kind == Kind::Postgres { "afterimage." } else { "afterimage_" };
        let json = self
            .text(&format!("SELECT layout FROM {schema}epoch WHERE table_id = (SELECT id FROM {schema}tracked WHERE table_name = '{table}') ORDER BY number DESC LIMIT 1"))
            .await?;
        Ok(serde_json::from_str(&json)?)
    }
}
