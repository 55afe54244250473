//! One database with three tables alike: plain, and tracked in either storage.

use std::time::Instant;

use afterimage::{Afterimage, Past, Storage, Tracking};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use tempfile::TempDir;

use crate::Outcome;
use crate::orders;

/// What an application sets on SQLite.
pub(crate) const PRAGMAS: [&str; 2] = ["PRAGMA journal_mode = WAL", "PRAGMA cache_size = -400000"];

/// The tables that are compared: without an audit trail, and with one in either storage.
pub(crate) const TABLES: [(&str, &str); 3] =
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
    url: String,
    connection: Connection,
    _folder: TempDir,
}

/// A connection of one of the drivers.
#[derive(Debug)]
pub(crate) enum Connection {
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
                for pragma in PRAGMAS {
                    connection.execute(pragma).await?;
                }
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
        Ok(Self { kind, audit, url, connection, _folder: folder })
    }

    pub(crate) fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Where it is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Its name and version.
    pub(crate) async fn describe(&mut self) -> Outcome<String> {
        Ok(match self.kind {
            Kind::Postgres => {
                format!("PostgreSQL {}", self.text("SELECT current_setting('server_version')").await?)
            }
            Kind::Sqlite => format!("SQLite {} (WAL)", self.text("SELECT sqlite_version()").await?),
            Kind::MariaDb => self.text("SELECT concat('MariaDB ', version())").await?,
        })
    }

    /// What makes a session wait for the disk at each commit, or not.
    pub(crate) fn durability(&self, durable: bool) -> &'static str {
        match (self.kind, durable) {
            (Kind::Postgres, true) => "SET synchronous_commit = on",
            (Kind::Postgres, false) => "SET synchronous_commit = off",
            (Kind::Sqlite, true) => "PRAGMA synchronous = FULL",
            (Kind::Sqlite, false) => "PRAGMA synchronous = NORMAL",
            (Kind::MariaDb, true) => "SET GLOBAL innodb_flush_log_at_trx_commit = 1",
            (Kind::MariaDb, false) => "SET GLOBAL innodb_flush_log_at_trx_commit = 2",
        }
    }

    pub(crate) async fn set_durable(&mut self, durable: bool) -> Outcome {
        self.run(self.durability(durable)).await
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
            Kind::Sqlite => self.run("PRAGMA wal_checkpoint(TRUNCATE)").await,
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
                self.run("ANALYZE TABLE orders_plain, orders_snapshot, orders_delta, orders_snapshot_history, orders_delta_history, orders_bare_log, afterimage_scope").await
            }
        }
    }

    /// Runs statements, and says how long they took.
    pub(crate) async fn timed(&mut self, sql: &str) -> Outcome<f64> {
        let begun = Instant::now();
        self.run(sql).await?;
        Ok(begun.elapsed().as_secs_f64())
    }

    /// Fetches all rows of a query; gives how many, and how long it took.
    pub(crate) async fn fetch(&mut self, sql: &str) -> Outcome<(usize, f64)> {
        let sql = AssertSqlSafe(sql.to_owned());
        let begun = Instant::now();
        let rows = by_driver!(self, c => sqlx::query(sql).fetch_all(c).await?.len());
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

    /// Fetches all rows of a query about one row; gives how many, and how long it took.
    pub(crate) async fn fetch_of(&mut self, sql: &str, id: i64) -> Outcome<(usize, f64)> {
        let sql = AssertSqlSafe(sql.to_owned());
        let begun = Instant::now();
        let rows = by_driver!(self, c => sqlx::query(sql).bind(id).fetch_all(c).await?.len());
        Ok((rows, begun.elapsed().as_secs_f64()))
    }

    /// The one parameter of a query.
    pub(crate) fn parameter(&self) -> &'static str {
        if self.kind == Kind::Postgres { "$1" } else { "?" }
    }

    /// One value, as text.
    pub(crate) async fn text(&mut self, sql: &str) -> Outcome<String> {
        let text = if self.kind == Kind::MariaDb { "CHAR" } else { "TEXT" };
        let sql = AssertSqlSafe(format!("SELECT CAST(({sql}) AS {text})"));
        Ok(by_driver!(self, c => sqlx::query_scalar(sql).fetch_one(c).await?))
    }

    /// Creates the three tables anew, the last two tracked, and the one with a trigger of somebody's.
    pub(crate) async fn fresh_tables(&mut self) -> Outcome {
        let columns = orders::columns(self.kind);
        for (side, table) in TABLES {
            if self.audit.tracking(table).await?.is_some() {
                self.audit.untrack(table, true).await?;
            }
            self.run(&format!("DROP TABLE IF EXISTS {table}")).await?;
            self.run(&format!("CREATE TABLE {table} ({columns})")).await?;
            if let Ok(storage) = side.parse::<Storage>() {
                self.audit.track(table, Tracking::new().storage(storage)).await?;
            }
        }
        self.fresh_bare_table().await
    }
}
