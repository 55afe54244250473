//! What is sent to begin a transaction.

use afterimage_core::{Context, Database, sql};
use diesel::backend::Backend;
use diesel::result::{Error, QueryResult};

/// A database that Afterimage records: PostgreSQL, MariaDB or SQLite, each with the feature that is called after it.
pub trait Recorded: Backend + sealed::Sealed {}

pub(crate) mod sealed {
    use afterimage_core::Database;

    pub trait Sealed {
        const DATABASE: Database;
    }
}

macro_rules! recorded {
    ($($feature:literal $backend:ty: $database:ident;)*) => {
        $(
            #[cfg(feature = $feature)]
            impl sealed::Sealed for $backend {
                const DATABASE: Database = Database::$database;
            }

            #[cfg(feature = $feature)]
            impl Recorded for $backend {}
        )*
    };
}

recorded! {
    "sqlite" diesel::sqlite::Sqlite: Sqlite;
    "postgres" diesel::pg::Pg: Postgres;
    "mysql" diesel::mysql::Mysql: MariaDb;
}

/// How a transaction begins.
#[derive(Debug)]
pub(crate) struct Script {
    /// The first message.
    pub(crate) begin: String,
    /// What follows it.
    pub(crate) then: Vec<String>,
    /// What is sent before it is committed.
    pub(crate) clear: Option<&'static str>,
}

impl Script {
    /// One whose records carry a context.
    pub(crate) fn begin<B: Recorded>(context: &Context) -> QueryResult<Self> {
        let dialect = sql::dialect(B::DATABASE);
        let (begin, clear) = (dialect.begin(), dialect.clear_context());
        let set = dialect.set_context(context, false).map_err(refused)?;
        Ok(match B::DATABASE {
            // It runs in this process: a message less is worth nothing, and each statement may fail by itself.
            Database::Sqlite => Self { begin: begin.to_owned(), then: vec![set], clear },
            _ => Self { begin: format!("{begin}; {set}"), then: Vec::new(), clear },
        })
    }

    /// One in which views are made, to be rolled back.
    pub(crate) fn views<B: Recorded>(views: &[String]) -> QueryResult<Self> {
        let mut then = views.to_vec();
        match B::DATABASE {
            Database::MariaDb => return Err(refused(NoViews)),
            Database::Postgres => then.push("SET TRANSACTION READ ONLY".to_owned()),
            _ => {}
        }
        Ok(Self { begin: "BEGIN".to_owned(), then, clear: None })
    }

    /// Whether a first message that failed may have begun a transaction all the same.
    pub(crate) fn may_be_half_begun(&self, error: &Error) -> bool {
        self.begin.contains(';')
            && !matches!(error, Error::AlreadyInTransaction | Error::BrokenTransactionManager)
    }
}

/// MariaDB has no temporary views.
#[derive(Debug, thiserror::Error)]
#[error("MariaDB has no views of a session: make them in a database of their own, and connect to that")]
struct NoViews;

/// A context has no place.
#[derive(Debug, thiserror::Error)]
#[error("nothing is tracked in this database yet, so a context has no place")]
struct NotTracked(#[source] Error);

fn refused(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::QueryBuilderError(Box::new(error))
}

/// What is wrong where there is no place for a context.
pub(crate) fn not_tracked(error: Error) -> Error {
    let Error::DatabaseError(_, said) = &error else { return error };
    let said = said.message();
    let is_missing = said.contains("no such table") || said.contains("doesn't exist");
    if is_missing && said.contains("afterimage_") { refused(NotTracked(error)) } else { error }
}

/// Whether somebody committed on this SQLite database without deleting their context, which is still there.
pub(crate) fn is_left_behind(error: &Error) -> bool {
    matches!(error, Error::DatabaseError(_, said) if said.message().contains(sql::sqlite::CONTEXT_IS_SET))
}
