//! SeaORM: a transaction with a context, and the past, as connections that its queries run on; and versions as models.
//!
//! Models need nothing for it: no macro, no change.

mod history;
mod past;
mod statement;
mod tx;

pub use history::{Changed, ColumnOf, History, Tracked, TrackedModel, Version, diff};

use afterimage_core::Database;
use sea_orm::{DbBackend, DbErr};

use crate::error::{Error, ErrorKind};

/// What SeaORM calls a database.
fn backend(database: Database) -> DbBackend {
    match database {
        Database::Postgres => DbBackend::Postgres,
        Database::Sqlite => DbBackend::Sqlite,
        _ => DbBackend::MySql,
    }
}

impl From<Error> for DbErr {
    fn from(error: Error) -> Self {
        Self::Custom(error.to_string())
    }
}

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        let sqlstate = match &error {
            DbErr::Conn(inner) | DbErr::Exec(inner) | DbErr::Query(inner) => sqlstate(inner),
            _ => None,
        };
        Self::new(ErrorKind::Database, error.to_string()).with_sqlstate(sqlstate)
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
