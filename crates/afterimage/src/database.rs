//! The handle on a database.

use std::time::Duration;

use afterimage_core::Database;
use afterimage_core::sql::{self, Dialect};

use crate::error::{Error, ErrorKind, Result};
use crate::events::Subscribers;
use crate::lent::Lent;
use crate::remembered::Remembered;
use crate::session::Session;
use crate::sight::Eyes;

/// A database whose tables are, or will be, tracked. Cheap to clone: it holds a pool.
#[derive(Debug, Clone)]
pub struct Afterimage {
    pools: Pools,
    remembered: Remembered,
    pub(crate) subscribers: Subscribers,
    /// Whether transactions begun here are recorded.
    pub(crate) records: bool,
    /// Whose questions are asked here.
    pub(crate) eyes: Eyes,
}

#[derive(Debug, Clone)]
enum Pools {
    #[cfg(feature = "postgres")]
    Postgres(sqlx::PgPool),
    #[cfg(feature = "sqlite")]
    Sqlite(sqlx::SqlitePool),
    #[cfg(feature = "mysql")]
    MariaDb {
        /// The user's, in whatever mode the user wants it.
        users: sqlx::MySqlPool,
        /// The engine's: how SQL is read there is a setting of the session, and no setting of a user's session is
        /// changed.
        own: sqlx::MySqlPool,
    },
}

/// A pool of the engine's own to the same server.
#[cfg(feature = "mysql")]
fn own_pool(options: sqlx::mysql::MySqlConnectOptions) -> sqlx::MySqlPool {
    use afterimage_core::sql::mariadb;
    use sqlx::Executor as _;
    sqlx::mysql::MySqlPoolOptions::new()
        .max_connections(4)
        .acquire_timeout(Duration::from_secs(10))
        .test_before_acquire(false)
        .after_connect(|connection, _| {
            Box::pin(async move {
                connection.execute(sqlx::raw_sql(mariadb::SESSION)).await?;
                // Before 10.6.18 and 10.11.8 there is no such setting.
                match connection.execute(mariadb::SNAPSHOT_ISOLATION).await {
                    Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("HY000") => {}
                    Err(error) => return Err(error),
                    Ok(_) => {}
                }
                Ok(())
            })
        })
        // Whoever tracks or migrates holds a lock by name, which outlasts transactions.
        .after_release(|connection, _| {
            Box::pin(async move {
                connection.execute("DO RELEASE_ALL_LOCKS()").await?;
                Ok(true)
            })
        })
        .connect_lazy_with(options.pipes_as_concat(false).no_engine_substitution(false).timezone(None))
}

impl Afterimage {
    fn over(pools: Pools) -> Self {
        Self {
            pools,
            remembered: Remembered::default(),
            subscribers: Subscribers::default(),
            records: true,
            eyes: Eyes::default(),
        }
    }

    /// Switches recording off, or on again, for all transactions that begin through this handle: with `false` each is as if
    /// its context said [`skip`](afterimage_core::Context::skip), with the right that it needs and the gap that it leaves.
    ///
    /// It is a switch of this handle and its later clones, not of the database: what other programs write, and what
    /// runs outside [`begin`](Self::begin), is recorded as ever.
    #[must_use]
    pub fn recording(self, on: bool) -> Self {
        Self { records: on, ..self }
    }

    /// The same database, for somebody whom nobody listens to.
    pub(crate) fn without_subscribers(&self) -> Self {
        Self { subscribers: Subscribers::default(), ..self.clone() }
    }

    /// Uses a PostgreSQL pool. A baseline of a large table takes two connections more, which it opens itself.
    #[cfg(feature = "postgres")]
    pub fn from_postgres(pool: sqlx::PgPool) -> Self {
        Self::over(Pools::Postgres(pool))
    }

    /// Uses an SQLite pool.
    #[cfg(feature = "sqlite")]
    pub fn from_sqlite(pool: sqlx::SqlitePool) -> Self {
        Self::over(Pools::Sqlite(pool))
    }

    /// Uses a MariaDB pool for transactions of the user's; the engine opens connections of its own beside it.
    #[cfg(feature = "mysql")]
    pub fn from_mariadb(pool: sqlx::MySqlPool) -> Self {
        let own = own_pool((*pool.connect_options()).clone());
        Self::over(Pools::MariaDb { users: pool, own })
    }

    /// Connects to `postgres://…`, `mariadb://…`, `sqlite:…` or the path of an SQLite file.
    ///
    /// Errors name the address without its password.
    pub async fn connect(url: &str) -> Result<Self> {
        let scheme = url.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
        let connected = match scheme.as_deref() {
            Some("postgres" | "postgresql") => Self::connect_postgres(url).await,
            Some("mysql" | "mariadb") => Self::connect_mariadb(url).await,
            Some("sqlite") | None => Self::connect_sqlite(url).await,
            Some(_) if std::path::Path::new(url).exists() => Self::connect_sqlite(url).await,
            Some(other) => Err(Error::new(
                ErrorKind::Connection,
                format!(
                    "{other:?} is not a kind of database known here: postgres://…, mariadb://… or sqlite:…"
                ),
            )),
        };
        connected.map_err(|error| error.after_connecting(url))
    }

    #[cfg(feature = "postgres")]
    async fn connect_postgres(url: &str) -> Result<Self> {
        use sqlx::Connection as _;
        let options: sqlx::postgres::PgConnectOptions = url.parse()?;
        let options = options.application_name("afterimage");
        // A pool would try again until its time is up, and then say only that.
        sqlx::PgConnection::connect_with(&options).await?.close().await?;
        let pool = sqlx::postgres::PgPoolOptions::new()
            .max_connections(4)
            .acquire_timeout(Duration::from_secs(10))
            // Whether one is still there shows when a transaction begins on it.
            .test_before_acquire(false)
            .connect_lazy_with(options);
        Ok(Self::from_postgres(pool))
    }

    #[cfg(not(feature = "postgres"))]
    async fn connect_postgres(_url: &str) -> Result<Self> {
        Err(Error::new(ErrorKind::Connection, "this program was built without PostgreSQL"))
    }

    #[cfg(feature = "mysql")]
    async fn connect_mariadb(url: &str) -> Result<Self> {
        use sqlx::{Connection as _, Row as _};
        let options: sqlx::mysql::MySqlConnectOptions = url.parse()?;
        let mut first = sqlx::MySqlConnection::connect_with(&options).await?;
        let row = sqlx::query("SELECT VERSION(), DATABASE()").fetch_one(&mut first).await?;
        // A pool would try again until its time is up, and then say only that.
        sqlx::raw_sql(afterimage_core::sql::mariadb::SESSION).execute(&mut first).await?;
        first.close().await?;
        let version: String = row.try_get(0)?;
        if !version.contains("MariaDB") {
            return Err(Error::new(
                ErrorKind::Connection,
                format!("this server is MySQL {version}: MariaDB is what is supported"),
            ));
        }
        if row.try_get::<Option<String>, _>(1)?.is_none() {
            return Err(Error::new(
                ErrorKind::Connection,
                "the address names no database: mariadb://user@host/database",
            ));
        }
        let pool = own_pool(options);
        Ok(Self::over(Pools::MariaDb { users: pool.clone(), own: pool }))
    }

    #[cfg(not(feature = "mysql"))]
    async fn connect_mariadb(_url: &str) -> Result<Self> {
        Err(Error::new(ErrorKind::Connection, "this program was built without MariaDB"))
    }

    #[cfg(feature = "sqlite")]
    async fn connect_sqlite(url: &str) -> Result<Self> {
        use std::str::FromStr as _;
        let address = if url.starts_with("sqlite:") { url.to_owned() } else { format!("sqlite://{url}") };
        let options = sqlx::sqlite::SqliteConnectOptions::from_str(&address)?
            .busy_timeout(Duration::from_secs(10))
            // Rows come from another thread: a small buffer has both wait for one another at each.
            .row_buffer_size(1024);
        let pool = sqlx::sqlite::SqlitePoolOptions::new()
            .max_connections(4)
            .acquire_timeout(Duration::from_secs(10))
            .test_before_acquire(false)
            .connect_with(options)
            .await?;
        Ok(Self::from_sqlite(pool))
    }

    #[cfg(not(feature = "sqlite"))]
    async fn connect_sqlite(_url: &str) -> Result<Self> {
        Err(Error::new(ErrorKind::Connection, "this program was built without SQLite"))
    }

    /// Which database this is.
    pub fn database(&self) -> Database {
        match self.pools {
            #[cfg(feature = "postgres")]
            Pools::Postgres(_) => Database::Postgres,
            #[cfg(feature = "sqlite")]
            Pools::Sqlite(_) => Database::Sqlite,
            #[cfg(feature = "mysql")]
            Pools::MariaDb { .. } => Database::MariaDb,
        }
    }

    /// For a session of its own.
    pub(crate) fn remembered(&self) -> Remembered {
        self.remembered.clone()
    }

    pub(crate) fn dialect(&self) -> &'static dyn Dialect {
        sql::dialect(self.database())
    }

    pub(crate) async fn session(&self) -> Result<Session> {
        let remembered = self.remembered();
        Ok(match &self.pools {
            #[cfg(feature = "postgres")]
            Pools::Postgres(pool) => Session::Postgres(Lent::pooled(pool, remembered).await?),
            #[cfg(feature = "sqlite")]
            Pools::Sqlite(pool) => Session::Sqlite(Lent::pooled(pool, remembered).await?),
            #[cfg(feature = "mysql")]
            Pools::MariaDb { own, .. } => Session::MariaDb(Lent::pooled(own, remembered).await?),
        })
    }

    /// A session that waits for nobody's pool: for work that needs several at once.
    #[cfg(feature = "postgres")]
    pub(crate) async fn connection_of_its_own(&self) -> Result<sqlx::PgConnection> {
        use sqlx::Connection as _;
        match &self.pools {
            Pools::Postgres(pool) => Ok(sqlx::PgConnection::connect_with(&pool.connect_options()).await?),
            #[allow(unreachable_patterns)]
            _ => Err(Error::new(ErrorKind::Database, "not a PostgreSQL database")),
        }
    }

    #[cfg(feature = "sqlite")]
    pub(crate) fn sqlite_pool(&self) -> Option<sqlx::SqlitePool> {
        match &self.pools {
            Pools::Sqlite(pool) => Some(pool.clone()),
            #[allow(unreachable_patterns)]
            _ => None,
        }
    }

    #[cfg(feature = "mysql")]
    pub(crate) fn users_mariadb_pool(&self) -> Option<sqlx::MySqlPool> {
        match &self.pools {
            Pools::MariaDb { users, .. } => Some(users.clone()),
            #[allow(unreachable_patterns)]
            _ => None,
        }
    }

    /// Runs `work`, which only reads. What one question answers is asked in no transaction: a statement sees one moment by itself.
    /// Where it takes more than one, or the catalogue is not as it was read last, it is run again, [in one](Self::reading).
    pub(crate) async fn answering<T>(
        &self,
        work: impl AsyncFnOnce(&mut Session) -> Result<T> + Copy,
    ) -> Result<T> {
        if let Some(mut session) = self.at_hand().await? {
            let answer = work(&mut session).await;
            let is_told = match &answer {
                _ if session.remembered().guessed_right() => true,
                Ok(_) => false,
                // Whoever gave up waiting does not want to wait again.
                Err(error) => error.is_given_up(),
            };
            if is_told {
                return answer;
            }
        }
        self.reading(work).await
    }

    /// A session that is in no transaction, for one question; nothing where it would not know what to ask.
    async fn at_hand(&self) -> Result<Option<Session>> {
        let Some(remembered) = self.remembered().guessing(self.eyes.clone()) else { return Ok(None) };
        Ok(match &self.pools {
            #[cfg(feature = "postgres")]
            Pools::Postgres(pool) => Some(Session::Postgres(Lent::at_hand(pool, remembered).await?)),
            #[cfg(feature = "sqlite")]
            Pools::Sqlite(pool) => Some(Session::Sqlite(Lent::at_hand(pool, remembered).await?)),
            // It keeps no question prepared.
            #[cfg(feature = "mysql")]
            Pools::MariaDb { .. } => None,
        })
    }

    /// Runs `work` in a transaction that only reads, and sees one moment.
    pub(crate) async fn reading<T>(&self, work: impl AsyncFnOnce(&mut Session) -> Result<T>) -> Result<T> {
        let mut session = self.open(self.dialect().open_to_answer()).await?;
        session.remembered().sees_one_moment = true;
        session.remembered().eyes = self.eyes.clone();
        match work(&mut session).await {
            Ok(value) => {
                session.end_reading().await?;
                Ok(value)
            }
            Err(error) => Err(rolled_back(session, error).await),
        }
    }

    /// Runs `work` in a transaction of the engine's own.
    pub(crate) async fn writing<T>(&self, work: impl AsyncFnOnce(&mut Session) -> Result<T>) -> Result<T> {
        self.committing(self.dialect().open(true), work).await
    }

    /// Runs `work`, which removes records, in a transaction of the engine's own.
    pub(crate) async fn removing<T>(&self, work: impl AsyncFnOnce(&mut Session) -> Result<T>) -> Result<T> {
        self.committing(self.dialect().open_to_remove(), work).await
    }

    async fn committing<T>(
        &self,
        begin: String,
        work: impl AsyncFnOnce(&mut Session) -> Result<T>,
    ) -> Result<T> {
        let mut session = self.open(begin).await?;
        match work(&mut session).await {
            Ok(value) => {
                session.commit().await?;
                Ok(value)
            }
            Err(error) => Err(rolled_back(session, error).await),
        }
    }

    /// Opens a transaction on a task of its own: a caller that is cancelled while it waits leaves none half-open to
    /// the pool's next borrower.
    pub(crate) async fn open(&self, begin: String) -> Result<Session> {
        let begin = sqlx::AssertSqlSafe(begin);
        let remembered = self.remembered();
        Ok(match self.pools.clone() {
            #[cfg(feature = "postgres")]
            Pools::Postgres(pool) => {
                let begun = tokio::spawn(async move { Lent::begin(&pool, begin, remembered).await }).await;
                Session::Postgres(begun.map_err(not_begun)??)
            }
            #[cfg(feature = "sqlite")]
            Pools::Sqlite(pool) => {
                let begun = tokio::spawn(async move { Lent::begin(&pool, begin, remembered).await }).await;
                Session::Sqlite(begun.map_err(not_begun)??)
            }
            #[cfg(feature = "mysql")]
            Pools::MariaDb { own, .. } => {
                let begun = tokio::spawn(async move { Lent::begin(&own, begin, remembered).await }).await;
                Session::MariaDb(begun.map_err(not_begun)??)
            }
        })
    }
}

/// Rolls back after an error, which is the one to tell: a connection that is gone has rolled back by itself. Where the caller
/// is cancelled, dropping the session does.
async fn rolled_back(session: Session, error: Error) -> Error {
    let _ = session.rollback().await;
    error
}

/// The task on which a transaction began stopped before it had.
pub(crate) fn not_begun(error: tokio::task::JoinError) -> Error {
    Error::new(ErrorKind::Connection, format!("the transaction could not begin: {error}"))
}

impl Error {
    fn after_connecting(self, url: &str) -> Self {
        let message = format!("cannot use {}: {}", redacted(url), self);
        Self::new(
            if self.kind() == ErrorKind::Database { ErrorKind::Connection } else { self.kind() },
            message,
        )
    }
}

/// A database address without what is secret in it.
///
/// ```
/// assert_eq!(afterimage::redacted("postgres://ann:s3cret@db/shop?password=x"), "postgres://ann:***@db/shop?password=***");
/// assert_eq!(afterimage::redacted("postgres://ann:s3?cr@t@db/shop"), "postgres://ann:***@db/shop");
/// assert_eq!(afterimage::redacted("postgres:/ann:s3cret@db/shop"), "postgres:/ann:***@db/shop");
/// assert_eq!(afterimage::redacted("ann:s3cret@db/shop"), "ann:***@db/shop");
/// assert_eq!(afterimage::redacted("shop.db"), "shop.db");
/// ```
pub fn redacted(url: &str) -> String {
    // A password may hold anything, a question mark too: the address goes on to the last @.
    let host = url.rfind('@').map_or(0, |at| at + 1);
    let (address, query) = match url[host..].split_once('?') {
        Some((rest, query)) => (&url[..host + rest.len()], query),
        None => (url, ""),
    };
    let (scheme, rest) = match address.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => match address.split_once(':') {
            Some((scheme, rest)) if host > 0 => (format!("{scheme}:"), rest),
            _ => (String::new(), address),
        },
    };
    let address = match rest.rsplit_once('@') {
        Some((login, host)) => {
            let user = match login.split_once(':') {
                Some((user, _)) => format!("{user}:***"),
                None if scheme.ends_with("://") => login.to_owned(),
                None => "***".to_owned(),
            };
            format!("{scheme}{user}@{host}")
        }
        None => address.to_owned(),
    };
    if query.is_empty() {
        return address;
    }
    let query: Vec<String> = query
        .split('&')
        .map(|pair| match pair.split_once('=') {
            Some((key, _))
                if key.to_ascii_lowercase().contains("pass") || key.to_ascii_lowercase().contains("key") =>
            {
                format!("{key}=***")
            }
            _ => pair.to_owned(),
        })
        .collect();
    format!("{address}?{}", query.join("&"))
}

#[cfg(all(test, feature = "sqlite"))]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::{Tracking, catalog};

    /// What SQLite is asked no message shows.
    #[tokio::test]
    async fn one_question_is_asked_alone_on_sqlite() {
        let options = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1);
        let pool = options.connect("sqlite::memory:").await.unwrap();
        let audit = Afterimage::from_sqlite(pool.clone());
        let create = "CREATE TABLE doc (id INTEGER PRIMARY KEY, n INTEGER)";
        sqlx::raw_sql(create).execute(&pool).await.unwrap();
        audit.track("doc", Tracking::new()).await.unwrap();
        sqlx::raw_sql("INSERT INTO doc VALUES (1, 1)").execute(&pool).await.unwrap();
        assert!(audit.at_hand().await.unwrap().is_none(), "nothing is known yet");
        audit.history("doc", "1").await.unwrap();
        let mut session = audit.at_hand().await.unwrap().unwrap();
        let entry = catalog::find(&mut session, "doc").await.unwrap();
        assert!(!session.remembered().guessed_right());
        assert_eq!(crate::versions::of_row(&mut session, &entry, "1").await.unwrap().len(), 1);
        assert!(session.remembered().guessed_right());
        // It is the only one.
        crate::versions::of_row(&mut session, &entry, "1").await.unwrap_err();
        assert!(!session.remembered().guessed_right());
    }
}
