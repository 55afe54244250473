//! What every test begins with: a database of its own, the library on it, and a plain connection beside it that
//! knows nothing of the library.

#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;

use afterimage::{Afterimage, Context, Database, Error, Moment, PointInTime, Storage, Tracking, Version};
use serde_json::Value as Json;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, Row as _};
use tempfile::TempDir;

/// Runs a test on every database.
#[macro_export]
macro_rules! on_every_database {
    ($(#[$attribute:meta])* async fn $name:ident($db:ident: &mut TestDb) $body:block) => {
        mod $name {
            use super::*;

            async fn test($db: &mut TestDb) $body

            $(#[$attribute])*
            #[tokio::test]
            async fn sqlite() {
                test(&mut TestDb::sqlite().await).await;
            }

            $(#[$attribute])*
            #[tokio::test]
            async fn postgres() {
                test(&mut TestDb::postgres().await).await;
            }

            $(#[$attribute])*
            #[tokio::test]
            async fn mariadb() {
                test(&mut TestDb::mariadb().await).await;
            }
        }
    };
}

pub const STORAGES: [Storage; 2] = [Storage::Snapshot, Storage::Delta];

pub enum Writer {
    Sqlite(sqlx::SqliteConnection),
    Postgres(sqlx::PgConnection),
    MariaDb(sqlx::MySqlConnection),
}

impl Writer {
    pub async fn connect(database: Database, url: &str) -> Self {
        match database {
            Database::Postgres => Self::Postgres(sqlx::PgConnection::connect(url).await.unwrap()),
            Database::MariaDb => Self::MariaDb(sqlx::MySqlConnection::connect(url).await.unwrap()),
            _ => Self::Sqlite(sqlx::SqliteConnection::connect(url).await.unwrap()),
        }
    }

    /// Runs statements; gives how many rows they met.
    pub async fn run(&mut self, sql: &str) -> Result<u64, sqlx::Error> {
        let query = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        Ok(match self {
            Self::Sqlite(c) => c.execute(query).await?.rows_affected(),
            Self::Postgres(c) => c.execute(query).await?.rows_affected(),
            Self::MariaDb(c) => c.execute(query).await?.rows_affected(),
        })
    }
}

/// A database, empty at first.
pub struct TestDb {
    pub audit: Afterimage,
    pub writer: Writer,
    pub url: String,
    folder: Option<TempDir>,
}

impl TestDb {
    pub async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}?mode=rwc", folder.path().join("test.db").display());
        let mut writer = sqlx::SqliteConnection::connect(&url).await.unwrap();
        writer.execute("PRAGMA journal_mode = WAL").await.unwrap();
        let audit = Afterimage::connect(&url).await.unwrap();
        Self { audit, writer: Writer::Sqlite(writer), url, folder: Some(folder) }
    }

    pub async fn postgres() -> Self {
        let server = std::env::var("AFTERIMAGE_TEST_POSTGRES")
            .expect("no PostgreSQL for the tests: run them by `cargo xtask test`, which starts one");
        Self::on_postgres(&server).await
    }

    /// On a server of the test's own.
    pub async fn on_postgres(server: &str) -> Self {
        let name = format!("t{}_{}", std::process::id(), unique());
        let mut admin = sqlx::PgConnection::connect(server).await.unwrap();
        admin.execute(sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}")))).await.unwrap();
        let url = format!("{}/{name}", server.rsplit_once('/').unwrap().0);
        let writer = sqlx::PgConnection::connect(&url).await.unwrap();
        let audit = Afterimage::connect(&url).await.unwrap();
        Self { audit, writer: Writer::Postgres(writer), url, folder: None }
    }

    pub async fn mariadb() -> Self {
        let server = std::env::var("AFTERIMAGE_TEST_MARIADB")
            .expect("no MariaDB for the tests: run them by `cargo xtask test`, which starts one");
        Self::on_mariadb(&server).await
    }

    /// On a server of the test's own.
    pub async fn on_mariadb(server: &str) -> Self {
        let name = format!("t{}_{}", std::process::id(), unique());
        let mut admin = sqlx::MySqlConnection::connect(server).await.unwrap();
        let create = format!("CREATE DATABASE {name} CHARACTER SET utf8mb4");
        admin.execute(sqlx::raw_sql(AssertSqlSafe(create))).await.unwrap();
        let url = format!("{server}/{name}");
        let mut writer = sqlx::MySqlConnection::connect(&url).await.unwrap();
        writer.execute(MARIADB_MODE).await.unwrap();
        let audit = Afterimage::connect(&url).await.unwrap();
        Self { audit, writer: Writer::MariaDb(writer), url, folder: None }
    }

    /// Another, empty one of the same kind.
    pub async fn like(&self) -> Self {
        match self.audit.database() {
            Database::Postgres => Self::postgres().await,
            Database::MariaDb => Self::mariadb().await,
            _ => Self::sqlite().await,
        }
    }

    pub fn is_postgres(&self) -> bool {
        self.audit.database() == Database::Postgres
    }

    pub fn is_mariadb(&self) -> bool {
        self.audit.database() == Database::MariaDb
    }

    pub fn is_sqlite(&self) -> bool {
        self.audit.database() == Database::Sqlite
    }

    /// The SQLite file.
    pub fn file(&self) -> PathBuf {
        self.folder.as_ref().unwrap().path().join("test.db")
    }

    /// Picks what differs between the databases.
    pub fn by<T>(&self, sqlite: T, postgres: T) -> T {
        if self.audit.database() == Database::Postgres { postgres } else { sqlite }
    }

    /// Picks what differs between three databases.
    pub fn by3<T>(&self, sqlite: T, postgres: T, mariadb: T) -> T {
        match self.audit.database() {
            Database::Postgres => postgres,
            Database::MariaDb => mariadb,
            _ => sqlite,
        }
    }

    /// Runs statements on the plain connection; what goes wrong is a failure of the test.
    pub async fn run(&mut self, sql: &str) {
        self.try_run(sql).await.unwrap_or_else(|error| panic!("{sql}\n{error}"));
    }

    /// Runs statements on the plain connection.
    pub async fn try_run(&mut self, sql: &str) -> Result<(), String> {
        if sql.trim().is_empty() {
            return Ok(());
        }
        let sql = if self.is_mariadb() { in_mariadbs_words(sql) } else { sql.to_owned() };
        self.writer.run(&sql).await.map(drop).map_err(|error| error.to_string())
    }

    /// Runs statements with a context, as a plain client does by the public contract.
    pub async fn run_as(&mut self, actor: &str, reason: &str, sql: &str) {
        let set = self.by(
            format!("INSERT INTO afterimage_context (actor, reason) VALUES ('{actor}', '{reason}')"),
            format!("SELECT set_config('afterimage.context', '{{\"actor\":\"{actor}\",\"reason\":\"{reason}\"}}', true)"),
        );
        let clear = self.by("DELETE FROM afterimage_context;", "");
        self.run(&format!("BEGIN; {set}; {sql}; {clear} COMMIT")).await;
    }

    /// Moves SQLite's clock on: it counts milliseconds, and two statements of one millisecond share their moment.
    pub async fn tick(&mut self) {
        if self.is_sqlite() {
            self.run("UPDATE afterimage_state SET history_date = history_date + 1000").await;
        }
    }

    /// A moment between what was and what will be.
    pub async fn moment(&mut self) -> PointInTime {
        self.tick().await;
        let sql = self.by3(
            "SELECT history_date FROM afterimage_state",
            "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
            "SELECT afterimage_clock()",
        );
        let micros = self.text(sql).await.unwrap().parse().unwrap();
        self.tick().await;
        PointInTime::At(Moment::from_micros(micros))
    }

    /// Another plain connection to the PostgreSQL database.
    pub async fn another(&self) -> sqlx::PgConnection {
        sqlx::PgConnection::connect(&self.url).await.unwrap()
    }

    /// Puts the history of a table of schema `public` on PostgreSQL into partitions, and cuts what it holds up at some moments,
    /// oldest first: as if it had been in partitions all along.
    pub async fn cut_up(&mut self, table: &str, moments: &[Moment]) {
        self.audit.partition(&afterimage::Partition::new().tables([table])).await.unwrap();
        let history = format!("\"{table}_history\"");
        let of_first = |what: &str| {
            format!(
                "SELECT {what} FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid WHERE i.inhparent = '{history}'::regclass AND pg_get_expr(c.relpartbound, c.oid) LIKE '%MINVALUE%'"
            )
        };
        let first = self.text(&of_first("c.oid::regclass")).await.unwrap();
        let end = of_first("substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO .''(.*)''.')");
        let end = self.text(&end).await.unwrap();
        self.run(&format!("ALTER TABLE {history} DETACH PARTITION {first}; ALTER TABLE {first} RENAME TO whole; ALTER TABLE whole DISABLE TRIGGER ALL")).await;
        let mut from = "MINVALUE".to_owned();
        for (n, to) in moments.iter().map(Moment::to_string).chain([end]).enumerate() {
            let part = format!("\"{table}_part_{n}\"");
            self.run(&format!(
                "CREATE TABLE {part} (LIKE {history} INCLUDING ALL);
                 INSERT INTO {part} SELECT * FROM whole WHERE history_date < '{to}';
                 DELETE FROM whole WHERE history_date < '{to}';
                 ALTER TABLE {history} ATTACH PARTITION {part} FOR VALUES FROM ({from}) TO ('{to}');
                 CREATE TRIGGER afterimage_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {part} EXECUTE FUNCTION afterimage.append_only()"
            ))
            .await;
            from = format!("'{to}'");
        }
        self.run("DROP TABLE whole").await;
    }

    /// One value, as text.
    pub async fn text(&mut self, sql: &str) -> Option<String> {
        let query = sqlx::query(AssertSqlSafe(format!("SELECT CAST(({sql}) AS TEXT)")));
        match &mut self.writer {
            Writer::Sqlite(c) => query_sqlite(c, sql).await,
            Writer::MariaDb(c) => {
                let cast = format!("SELECT CAST(({sql}) AS CHAR)");
                sqlx::query(AssertSqlSafe(cast)).fetch_one(c).await.unwrap().get(0)
            }
            Writer::Postgres(c) => query.fetch_one(c).await.unwrap().get(0),
        }
    }

    /// The last column of each row, as text.
    pub async fn lines(&mut self, sql: &str) -> Vec<String> {
        let sql = &if self.is_mariadb() { in_mariadbs_words(sql) } else { sql.to_owned() };
        let query = sqlx::query(AssertSqlSafe(sql.to_owned()));
        match &mut self.writer {
            Writer::Sqlite(c) => query_lines_sqlite(c, sql).await,
            Writer::MariaDb(c) => {
                // A statement that is kept prepared would go on in the database that it was prepared in.
                let query = sqlx::query(AssertSqlSafe(sql.to_owned())).persistent(false);
                let rows = query.fetch_all(c).await.unwrap();
                rows.iter().map(|row| row.get(row.len() - 1)).collect()
            }
            Writer::Postgres(c) => {
                query.fetch_all(c).await.unwrap().iter().map(|row| row.get(row.len() - 1)).collect()
            }
        }
    }

    /// Changes a schema and follows: in one transaction, where the database can.
    pub async fn alter(&mut self, table: &str, ddl: &str) {
        if self.is_mariadb() {
            self.run(ddl).await;
            self.audit.migrate(&[], &[]).await.unwrap();
            return;
        }
        let mut tx = self.audit.begin(&actor("1")).await.unwrap();
        tx.alter(table, ddl).await.unwrap();
        tx.commit().await.unwrap();
    }

    pub async fn track(&self, table: &str, tracking: Tracking) {
        self.audit.track(table, tracking).await.unwrap();
    }

    /// The row's versions, oldest first.
    pub async fn versions(&self, table: &str, key: &str) -> Vec<Version> {
        let mut versions = self.audit.history(table, key).await.unwrap();
        versions.reverse();
        versions
    }

    /// The signs of a row's records, oldest first.
    pub async fn signs(&self, table: &str, key: &str) -> String {
        match self.audit.history(table, key).await {
            Ok(mut versions) => {
                versions.reverse();
                versions.iter().map(|version| version.header.action.sign()).collect()
            }
            Err(_) => String::new(),
        }
    }

    /// The table as of a time, as JSON rows.
    pub async fn as_of(&self, table: &str, at: PointInTime) -> Vec<Json> {
        let state = self.audit.as_of(&afterimage::AsOfQuery::new(table, at)).await.unwrap();
        state
            .rows
            .iter()
            .map(|row| {
                let named: Vec<(String, afterimage::Value)> =
                    state.columns.iter().cloned().zip(row.iter().cloned()).collect();
                serde_json::to_value(afterimage::RowJson(&named)).unwrap()
            })
            .collect()
    }

    /// The records give the live table, bit for bit, or the test fails and says where not.
    pub async fn verify(&self) {
        for verdict in self.audit.verify(&[]).await.unwrap() {
            assert!(verdict.is_whole(), "{}: {:#?} {:?}", verdict.table, verdict.differences, verdict.faults);
        }
    }
}

/// What a plain client of the tests sets, so that names stand in double quotes there too.
pub const MARIADB_MODE: &str = "SET SESSION sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES,STRICT_TRANS_TABLES', time_zone = '+00:00', optimizer_switch = 'exists_to_in=off'";

/// The tables of the tests, declared so that MariaDB takes them: a text that is indexed has a length there.
fn in_mariadbs_words(sql: &str) -> String {
    let sql = match sql.strip_suffix(" ON CONFLICT DO NOTHING") {
        Some(insert) => insert.replacen("INSERT", "INSERT IGNORE", 1),
        None => sql.to_owned(),
    };
    let sql = sql
        .replace("CAST(rank AS TEXT)", "CAST(rank AS CHAR)")
        .replace("CAST(parent AS TEXT)", "CAST(parent AS CHAR)")
        .replace("DROP TABLE item CASCADE", "DROP TABLE item")
        .replace('🦀', "ñ");
    let sql = ["place", "poll", "parent", "person", "org", "orders", "doc", "team", "customer", "item"]
        .iter()
        .fold(sql, |sql, table| {
            [" ", ",", ")"].iter().fold(sql, |sql, next| {
                sql.replace(&format!("REFERENCES {table}{next}"), &format!("REFERENCES {table} (id){next}"))
            })
        });
    sql.replace("(id) (", "(")
        .replace("TEXT PRIMARY KEY", "VARCHAR(190) PRIMARY KEY")
        .replace("TEXT UNIQUE", "VARCHAR(190) UNIQUE")
        .replace("text PRIMARY KEY", "VARCHAR(190) PRIMARY KEY")
        .replace("text UNIQUE", "VARCHAR(190) UNIQUE")
        .replace("BEGIN;", "START TRANSACTION;")
}

/// Runs statements on another connection.
pub async fn run_on(connection: &mut sqlx::PgConnection, sql: &str) -> Result<(), String> {
    let done = connection.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await;
    done.map(drop).map_err(|error| error.to_string())
}

async fn query_sqlite(connection: &mut sqlx::SqliteConnection, sql: &str) -> Option<String> {
    sqlx::query(AssertSqlSafe(format!("SELECT CAST(({sql}) AS TEXT)")))
        .fetch_one(connection)
        .await
        .unwrap()
        .get(0)
}

async fn query_lines_sqlite(connection: &mut sqlx::SqliteConnection, sql: &str) -> Vec<String> {
    let rows = sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_all(connection).await.unwrap();
    rows.iter().map(|row| row.get(row.len() - 1)).collect()
}

fn unique() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    nanos ^ NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A version's changes as `field: old -> new`, in order.
pub fn changes(version: &Version) -> Vec<String> {
    version.changes.iter().map(|c| format!("{}: {} -> {}", c.field, c.old, c.new)).collect()
}

/// A row as JSON.
pub fn row(version: &Version) -> Json {
    serde_json::to_value(afterimage::RowJson(&version.row)).unwrap()
}

/// A moment after all that was written: the clock of an SQLite file that was moved on is ahead of the machine's.
pub fn now() -> PointInTime {
    PointInTime::At(Moment::from_micros(Moment::now().as_micros() + 1_000_000))
}

pub fn at(version: &Version) -> PointInTime {
    PointInTime::At(version.header.date)
}

pub fn actor(id: &str) -> Context {
    Context::actor(id)
}

pub fn message<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    result.expect_err("this should have failed").to_string()
}
