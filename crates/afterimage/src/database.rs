//! The handle on a database.

use std::time::Duration;

use afterimage_core::Database;
use afterimage_core::sql::{self, Dialect};

use crate::error::{Error, ErrorKind, Result};
use crate::session::{Lent, Session};

/// A database whose tables are, or will be, tracked. Cheap to clone: it holds a pool.
#[derive(Debug, Clone)]
pub struct Afterimage {
    pools: Pools,
}

#[derive(Debug, Clone)]
enum Pools {
    #[cfg(feature = "postgres")]
    Postgres(sqlx::PgPool),
    #[cfg(feature = "sqlite")]
    Sqlite(sqlx::SqlitePool),
}

impl Afterimage {
    /// Uses a PostgreSQL pool. A baseline of a large table takes two connections more, which it opens itself.
    #[cfg(feature = "postgres")]
    pub fn from_postgres(pool: sqlx::PgPool) -> Self {
        Self { pools: Pools::Postgres(pool) }
    }

    /// Uses an SQLite pool.
    #[cfg(feature = "sqlite")]
    pub fn from_sqlite(pool: sqlx::SqlitePool) -> Self {
        Self { pools: Pools::Sqlite(pool) }
    }

    /// Connects to `postgres://…`, `sqlite:…` or the path of an SQLite file.
    ///
    /// Errors name the address without its password.
    pub async fn connect(url: &str) -> Result<Self> {
        let scheme = url.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
        let connected = match scheme.as_deref() {
            Some("postgres" | "postgresql") => Self::connect_postgres(url).await,
            Some("mysql" | "mariadb") => {
                Err(Error::new(ErrorKind::Connection, "MariaDB and MySQL are not supported yet"))
            }
            Some("sqlite") | None => Self::connect_sqlite(url).await,
            Some(_) if std::path::Path::new(url).exists() => Self::connect_sqlite(url).await,
            Some(other) => Err(Error::new(
                ErrorKind::Connection,
                format!("{other:?} is not a kind of database known here: postgres://… or sqlite:…"),
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
            .connect_lazy_with(options);
        Ok(Self::from_postgres(pool))
    }

    #[cfg(not(feature = "postgres"))]
    async fn connect_postgres(_url: &str) -> Result<Self> {
        Err(Error::new(ErrorKind::Connection, "this program was built without PostgreSQL"))
    }

    #[cfg(feature = "sqlite")]
    async fn connect_sqlite(url: &str) -> Result<Self> {
        use std::str::FromStr as _;
        let address = if url.starts_with("sqlite:") { url.to_owned() } else { format!("sqlite://{url}") };
        let options =
            sqlx::sqlite::SqliteConnectOptions::from_str(&address)?.busy_timeout(Duration::from_secs(10));
        let pool = sqlx::sqlite::SqlitePoolOptions::new()
            .max_connections(4)
            .acquire_timeout(Duration::from_secs(10))
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
        }
    }

    pub(crate) fn dialect(&self) -> &'static dyn Dialect {
        sql::dialect(self.database())
    }

    pub(crate) async fn session(&self) -> Result<Session> {
        Ok(match &self.pools {
            #[cfg(feature = "postgres")]
            Pools::Postgres(pool) => Session::Postgres(Lent::Pooled(pool.acquire().await?)),
            #[cfg(feature = "sqlite")]
            Pools::Sqlite(pool) => Session::Sqlite(Lent::Pooled(pool.acquire().await?)),
        })
    }

    /// A session that waits for nobody's pool: for work that needs several at once.
    #[cfg(feature = "postgres")]
    pub(crate) async fn connection_of_its_own(&self) -> Result<sqlx::PgConnection> {
        use sqlx::Connection as _;
        match &self.pools {
            Pools::Postgres(pool) => Ok(sqlx::PgConnection::connect_with(&pool.connect_options()).await?),
            #[cfg(feature = "sqlite")]
            Pools::Sqlite(_) => Err(Error::new(ErrorKind::Database, "not a PostgreSQL database")),
        }
    }

    #[cfg(feature = "sqlite")]
    pub(crate) fn sqlite_pool(&self) -> Option<sqlx::SqlitePool> {
        match &self.pools {
            Pools::Sqlite(pool) => Some(pool.clone()),
            #[cfg(feature = "postgres")]
            Pools::Postgres(_) => None,
        }
    }

    /// Runs `work` in a transaction that only reads, and sees one moment.
    pub(crate) async fn reading<T>(&self, work: impl AsyncFnOnce(&mut Session) -> Result<T>) -> Result<T> {
        self.inside(self.dialect().open(false), work).await
    }

    /// Runs `work` in a transaction of the engine's own.
    pub(crate) async fn writing<T>(&self, work: impl AsyncFnOnce(&mut Session) -> Result<T>) -> Result<T> {
        self.inside(self.dialect().open(true), work).await
    }

    /// Runs `work` in a transaction that rolls back by itself when the caller is cancelled.
    async fn inside<T>(&self, open: String, work: impl AsyncFnOnce(&mut Session) -> Result<T>) -> Result<T> {
        let mut session = self.open(open).await?;
        match work(&mut session).await {
            Ok(value) => {
                session.commit().await?;
                Ok(value)
            }
            Err(error) => {
                // The first error is the one to tell; a connection that is gone has rolled back by itself.
                let _ = session.rollback().await;
                Err(error)
            }
        }
    }

    /// Opens a transaction on a task of its own: a caller that is cancelled while it waits leaves none half-open to
    /// the pool's next borrower.
    pub(crate) async fn open(&self, begin: String) -> Result<Session> {
        let begin = sqlx::AssertSqlSafe(begin);
        Ok(match self.pools.clone() {
            #[cfg(feature = "postgres")]
            Pools::Postgres(pool) => {
                let begun = tokio::spawn(async move { pool.begin_with(begin).await }).await;
                Session::Postgres(Lent::InTransaction(begun.map_err(not_begun)??))
            }
            #[cfg(feature = "sqlite")]
            Pools::Sqlite(pool) => {
                let begun = tokio::spawn(async move { pool.begin_with(begin).await }).await;
                Session::Sqlite(Lent::InTransaction(begun.map_err(not_begun)??))
            }
        })
    }
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
