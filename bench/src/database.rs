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
