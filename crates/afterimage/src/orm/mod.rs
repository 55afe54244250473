//! SeaORM: a transaction with a context, and the past, as connections that its queries run on; and versions as models.
//!
//! Models need nothing for it: no macro, no change.

mod history;
mod past;
mod registration;
mod statement;
mod tx;

pub use history::{Changed, ColumnOf, History, Tracked, TrackedModel, Version, diff};
pub use registration::Options;

use std::sync::Arc;

use afterimage_core::Database;
use sea_orm::{DatabaseConnection, DbBackend, DbErr, EntityTrait, IdenStatic as _, Iterable as _};

use crate::database::Afterimage;
use crate::error::{Error, ErrorKind, Result};
use crate::events::{ModelAudited, Subscriber};

/// What SeaORM calls a database.
fn backend(database: Database) -> DbBackend {
    match database {
        Database::Postgres => DbBackend::Postgres,
        Database::Sqlite => DbBackend::Sqlite,
        _ => DbBackend::MySql,
    }
}

impl Afterimage {
    /// Uses the pool of a connection of SeaORM's.
    pub fn from_sea_orm(db: &DatabaseConnection) -> Result<Self> {
        match db.get_database_backend() {
            #[cfg(feature = "postgres")]
            DbBackend::Postgres => Ok(Self::from_postgres(db.get_postgres_connection_pool().clone())),
            #[cfg(feature = "sqlite")]
            DbBackend::Sqlite => Ok(Self::from_sqlite(db.get_sqlite_connection_pool().clone())),
            #[cfg(feature = "mysql")]
            DbBackend::MySql => Ok(Self::from_mariadb(db.get_mysql_connection_pool().clone())),
            #[allow(unreachable_patterns)]
            other => Err(Error::new(
                ErrorKind::Connection,
                format!("this program was built without what tracks {other:?}"),
            )),
        }
    }
}

impl Afterimage {
    /// Tells a subscriber the changes of an entity: see [`subscribe`](Self::subscribe).
    pub fn subscribe_to_model<E: EntityTrait>(&self, subscriber: impl Subscriber) {
        self.subscribe_to(history::table_of::<E>().to_string(), subscriber);
    }
}

impl ModelAudited {
    /// The columns of the entity that changed.
    pub fn changed_columns<E: EntityTrait>(&self) -> Vec<E::Column> {
        E::Column::iter().filter(|column| self.changed_fields().any(|name| name == column.as_str())).collect()
    }
}

/// It comes back as it was where it is turned into one of ours again.
impl From<Error> for DbErr {
    fn from(error: Error) -> Self {
        Self::TryIntoErr { from: "statement", into: "result", source: Arc::new(error) }
    }
}

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        let sqlstate = match &error {
            DbErr::TryIntoErr { source, .. } => match source.downcast_ref::<Self>() {
                Some(ours) => return ours.again(),
                None => None,
            },
            DbErr::Conn(inner) | DbErr::Exec(inner) | DbErr::Query(inner) => sqlstate(inner),
            _ => None,
        };
        let kind = match &error {
            DbErr::RecordNotFound(_) | DbErr::RecordNotUpdated => ErrorKind::NotFound,
            _ => ErrorKind::Database,
        };
        Self::new(kind, error.to_string()).with_sqlstate(sqlstate)
    }
}

fn sqlstate(error: &sea_orm::RuntimeErr) -> Option<String> {
    match error {
        sea_orm::RuntimeErr::SqlxError(error) => {
            error.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned())
        }
        sea_orm::RuntimeErr::Internal(_) => None,
    }
}
