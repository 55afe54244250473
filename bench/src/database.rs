//! One database with three tables alike: plain, and tracked in either storage.

use std::time::Instant;

use afterimage::{Afterimage, Storage, Tracking};
use afterimage_core::Layout;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use tempfile::TempDir;

use crate::Outcome;

/// The sides that are compared, and the tables they write.
pub(crate) const SIDES: [(&str, &str); 3] =
    [("plain", "orders_plain"), ("snapshot", "orders_snapshot"), ("delta", "orders_delta")];

/// A connection to a database under test.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) audit: Afterimage,
    connection: Connection,
    _folder: TempDir,
}

#[derive(Debug)]
enum Connection {
    Postgres(sqlx::PgConnection),
    Sqlite(sqlx::SqliteConnection),
}

impl Bench {
    pub(crate) async fn open(database: &str) -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let url = match database {
            "postgres" => std::env::var("AFTERIMAGE_BENCH_POSTGRES")
                .map_err(|_| "no PostgreSQL: run this by `cargo xtask bench`, which starts one")?,
            _ => format!("sqlite://{}?mode=rwc", folder.path().join("bench.db").display()),
        };
        let mut connection = match database {
            "postgres" => Connection::Postgres(sqlx::PgConnection::connect(&url).await?),
            _ => Connection::Sqlite(sqlx::SqliteConnection::connect(&url).await?),
        };
        if let Connection::Sqlite(sqlite) = &mut connection {
            sqlite
                .execute(
                    "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -400000",
                )
                .await?;
        }
        let audit = Afterimage::connect(&url).await?;
        Ok(Self { audit, connection, _folder: folder })
    }

    pub(crate) fn is_postgres(&self) -> bool {
        matches!(self.connection, Connection::Postgres(_))
    }

    pub(crate) fn name(&self) -> &'static str {
        if self.is_postgres() { "PostgreSQL (fsync off)" } else { "SQLite (WAL, synchronous NORMAL)" }
    }

    /// Runs statements.
    pub(crate) async fn run(&mut self, sql: &str) -> Outcome {
        let query = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        match &mut self.connection {
            Connection::Postgres(c) => c.execute(query).await.map(drop)?,
            Connection::Sqlite(c) => c.execute(query).await.map(drop)?,
        }
        Ok(())
    }

    /// Runs statements, and says how long they took.
    pub(crate) async fn timed(&mut self, sql: &str) -> Outcome<f64> {
        let begun = Instant::now();
        self.run(sql).await?;
        Ok(begun.elapsed().as_secs_f64())
    }

    /// Runs a prepared statement with one integer.
    pub(crate) async fn prepared(&mut self, sql: &'static str, id: i64) -> Outcome {
        match &mut self.connection {
            Connection::Postgres(c) => sqlx::query(sql).bind(id).execute(c).await.map(drop)?,
            Connection::Sqlite(c) => sqlx::query(sql).bind(id).execute(c).await.map(drop)?,
        }
        Ok(())
    }

    /// Fetches all rows of a query; gives how many, and how long it took.
    pub(crate) async fn fetch(&mut self, sql: &str) -> Outcome<(usize, f64)> {
        let query = sqlx::query(AssertSqlSafe(sql.to_owned())).persistent(false);
        let begun = Instant::now();
        let rows = match &mut self.connection {
            Connection::Postgres(c) => query_len_postgres(c, sql).await?,
            Connection::Sqlite(c) => query.fetch_all(c).await?.len(),
        };
        Ok((rows, begun.elapsed().as_secs_f64()))
    }

    /// Fetches by one key given as text; gives how long it took.
    pub(crate) async fn fetch_row(&mut self, sql: &str, key: &str) -> Outcome<f64> {
        let sql = AssertSqlSafe(sql.to_owned());
        let begun = Instant::now();
        match &mut self.connection {
            Connection::Postgres(c) => sqlx::query(sql).bind(key).fetch_all(c).await.map(drop)?,
            Connection::Sqlite(c) => sqlx::query(sql).bind(key).fetch_all(c).await.map(drop)?,
        }
        Ok(begun.elapsed().as_secs_f64())
    }

    /// One value, as text.
    pub(crate) async fn text(&mut self, sql: &str) -> Outcome<String> {
        let sql = AssertSqlSafe(format!("SELECT CAST(({sql}) AS TEXT)"));
        Ok(match &mut self.connection {
            Connection::Postgres(c) => sqlx::query_scalar(sql).fetch_one(c).await?,
            Connection::Sqlite(c) => sqlx::query_scalar(sql).fetch_one(c).await?,
        })
    }

    /// Creates the three tables anew, the last two tracked.
    pub(crate) async fn fresh_tables(&mut self) -> Outcome {
        let columns = if self.is_postgres() {
            "id bigint PRIMARY KEY, customer text, status text, total numeric(12,2), note text, created_at timestamptz, qty int"
        } else {
            "id INTEGER PRIMARY KEY, customer TEXT, status TEXT, total NUMERIC, note TEXT, created_at TEXT, qty INTEGER"
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

    /// The statement that creates so many orders.
    pub(crate) fn insert(&self, table: &str, rows: u32) -> String {
        if self.is_postgres() {
            format!(
                "INSERT INTO {table} SELECT i, 'customer ' || i % 5000, 'open', (i % 100000) * 1.25, repeat('n', 120), now(), i % 7 FROM generate_series(1, {rows}) AS i"
            )
        } else {
            format!(
                "WITH RECURSIVE g(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM g WHERE i < {rows}) INSERT INTO {table} SELECT i, 'customer ' || i % 5000, 'open', i % 100000 * 1.25, printf('%.*c', 120, 'n'), '2026-11-22 10:00:00', i % 7 FROM g"
            )
        }
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
        // The bits of status and qty, which is what an update changes; all of them and the full one of a creation.
        let bit = |name: &str| layout.field(name).map_or(0, |field| field.word_and_bit().1);
        let full = layout.full_mask()[0];
        let changed = bit("status") | bit("qty") | i64::from(!sparse);
        let mask = format!("CASE WHEN k = 0 THEN {full} ELSE {changed} END");
        let kept =
            |value: &str| if sparse { format!("CASE WHEN k = 0 THEN {value} END") } else { value.to_owned() };
        let columns = "id, customer, status, total, note, created_at, qty";
        if self.is_postgres() {
            let values = [
                "id".to_owned(),
                kept("'customer ' || id % 5000"),
                "'v' || k || '-' || id % 1000".to_owned(),
                kept("(id % 100000) * 1.25"),
                kept("repeat('n', 120)"),
                kept("'2026-01-01'::timestamptz"),
                "(id + k) % 7".to_owned(),
            ];
            let source = format!(
                "(SELECT s, (s - 1) % {rows} + 1 AS id, (s - 1) / {rows} AS k FROM generate_series(1::bigint, {all}::bigint) AS s) AS g"
            );
            self.run(&format!(
                "INSERT INTO {table}_history (history_date, history_tx, history_type, history_user, history_changed, {columns})
                 SELECT to_timestamp(({begin}::bigint + s::bigint * {step}::bigint) / 1e6), s, CASE WHEN k = 0 THEN '+' ELSE '~' END, (1 + s * 19 % 50)::text, {mask}, {} FROM {source} ORDER BY s",
                values.join(", ")
            ))
            .await?;
            self.run(&format!(
                "SET session_replication_role = replica; INSERT INTO {table} SELECT id, 'customer ' || id % 5000, 'v{last}-' || id % 1000, (id % 100000) * 1.25, repeat('n', 120), '2026-01-01', (id + {last}) % 7 FROM generate_series(1, {rows}) AS id; RESET session_replication_role",
                last = versions - 1
            ))
            .await?;
            let since = format!("to_timestamp(({begin} - 1) / 1e6)");
            self.run(&format!("UPDATE afterimage.tracked SET since = {since} WHERE table_name = '{table}'; UPDATE afterimage.epoch SET from_date = {since} WHERE table_id = {}", layout.id)).await?;
        } else {
            let values = [
                "id".to_owned(),
                kept("'customer ' || id % 5000"),
                "'v' || k || '-' || id % 1000".to_owned(),
                kept("(id % 100000) * 1.25"),
                kept("printf('%.*c', 120, 'n')"),
                kept("'2026-01-01 00:00:00'"),
                "(id + k) % 7".to_owned(),
            ];
            let series =
                format!("WITH RECURSIVE g(s) AS (SELECT 1 UNION ALL SELECT s + 1 FROM g WHERE s < {all})");
            let first: i64 = self.text("SELECT history_id FROM afterimage_state").await?.parse()?;
            let scope: i64 = self.text("SELECT last_scope FROM afterimage_state").await?.parse()?;
            self.run(&format!(
                "BEGIN;
                 INSERT INTO afterimage_scope (id, tx, actor, began, first_id, last_date, last_id) {series}
                 SELECT {scope} + s, {scope} + s, CAST(1 + s * 19 % 50 AS TEXT), {begin} + s * {step}, {first} + s, {begin} + s * {step}, {first} + s FROM g;
                 INSERT INTO {table}_history (history_id, history_date, history_type, history_scope, history_changed, {columns}) {series}
                 SELECT {first} + s, {begin} + s * {step}, CASE WHEN k = 0 THEN '+' ELSE '~' END, {scope} + s, {mask}, {} FROM (SELECT s, (s - 1) % {rows} + 1 AS id, (s - 1) / {rows} AS k FROM g);
                 UPDATE afterimage_state SET history_id = {first} + {all}, last_scope = {scope} + {all};
                 UPDATE afterimage_tracked SET since = {begin} - 1 WHERE table_name = '{table}';
                 UPDATE afterimage_epoch SET from_date = {begin} - 1 WHERE table_id = {};
                 COMMIT",
                values.join(", "),
                layout.id
            ))
            .await?;
        }
        Ok(())
    }

    /// The layout of a tracked table, from the catalogue.
    pub(crate) async fn layout(&mut self, table: &str) -> Outcome<Layout> {
        let (epoch, tracked) = if self.is_postgres() {
            ("afterimage.epoch", "afterimage.tracked")
        } else {
            ("afterimage_epoch", "afterimage_tracked")
        };
        let json = self
            .text(&format!("SELECT layout FROM {epoch} WHERE table_id = (SELECT id FROM {tracked} WHERE table_name = '{table}') ORDER BY number DESC LIMIT 1"))
            .await?;
        Ok(serde_json::from_str(&json)?)
    }
}

async fn query_len_postgres(connection: &mut sqlx::PgConnection, sql: &str) -> Outcome<usize> {
    Ok(sqlx::query(AssertSqlSafe(sql.to_owned())).persistent(false).fetch_all(connection).await?.len())
}
