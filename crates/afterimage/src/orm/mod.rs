//! SeaORM: a transaction with a context, and the past, as connections that its queries run on; and versions as models.
//!
//! Models need nothing for it: no macro, no change.
//!
//! ```
//! use afterimage::orm::Tracked as _;
//! use afterimage::{Afterimage, Context, PointInTime};
//! use sea_orm::{ActiveModelTrait as _, ConnectionTrait as _, EntityTrait as _, Set};
//!
//! mod order {
//!     use sea_orm::entity::prelude::*;
//!
//!     #[sea_orm::model]
//!     #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
//!     #[sea_orm(table_name = "orders")]
//!     pub struct Model {
//!         #[sea_orm(primary_key)]
//!         pub id: i32,
//!         pub status: String,
//!     }
//!
//!     impl ActiveModelBehavior for ActiveModel {}
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let mut options = sea_orm::ConnectOptions::new("sqlite::memory:");
//! # options.max_connections(1);
//! # let db = sea_orm::Database::connect(options).await?;
//! # db.execute_unprepared("CREATE TABLE orders (id INTEGER PRIMARY KEY, status TEXT NOT NULL)").await?;
//! let audit = Afterimage::from_sea_orm(&db)?;
//! Afterimage::builder().track::<order::Entity>(|t| t.delta()).install(&audit).await?;
//!
//! let tx = audit.begin(&Context::actor("42").reason("a call")).await?;
//! let order = order::ActiveModel { status: Set("open".to_owned()), ..Default::default() }.insert(&tx).await?;
//! tx.commit().await?;
//!
//! let version = order::Entity::history_of(order.id).one(&audit).await?.unwrap();
//! assert_eq!((version.model, version.header.user.as_deref()), (order, Some("42")));
//!
//! let past = audit.at(PointInTime::At(version.header.date)).await?;
//! assert_eq!(order::Entity::find().all(&past).await?.len(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! What does not fit is an error of the compiler: a column of another entity, a key of another type.
//!
//! ```compile_fail,E0308
//! # mod order { use sea_orm::entity::prelude::*;
//! #   #[sea_orm::model] #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)] #[sea_orm(table_name = "orders")]
//! #   pub struct Model { #[sea_orm(primary_key)] pub id: i32, pub status: String }
//! #   impl ActiveModelBehavior for ActiveModel {} }
//! # mod item { use sea_orm::entity::prelude::*;
//! #   #[sea_orm::model] #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)] #[sea_orm(table_name = "item")]
//! #   pub struct Model { #[sea_orm(primary_key)] pub id: i32, pub name: String }
//! #   impl ActiveModelBehavior for ActiveModel {} }
//! use afterimage::Afterimage;
//! Afterimage::builder().track::<order::Entity>(|t| t.exclude(item::Column::Name));
//! ```
//!
//! ```compile_fail,E0308
//! # mod order { use sea_orm::entity::prelude::*;
//! #   #[sea_orm::model] #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)] #[sea_orm(table_name = "orders")]
//! #   pub struct Model { #[sea_orm(primary_key)] pub id: i32, pub status: String }
//! #   impl ActiveModelBehavior for ActiveModel {} }
//! use afterimage::orm::Tracked as _;
//! order::Entity::history_of("1");
//! ```

mod history;
mod past;
mod referred;
mod registration;
mod soft_delete;
mod statement;
mod tx;

pub use history::{Changed, ColumnOf, History, Tracked, TrackedModel, Version, diff};
pub use referred::Referred;
pub use registration::Options;
pub use soft_delete::{KeyOf, SoftDelete};

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
