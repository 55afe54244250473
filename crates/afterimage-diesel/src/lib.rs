//! Afterimage for Diesel: transactions that say who writes and why, and tables as of a time for queries of one's own.
//!
//! What records the changes are triggers in the database, so that whatever Diesel writes is recorded with or without this crate.
//! It adds a [`Context`] to a transaction, in the message that begins it, and shows a program's own queries the tables as they were.
//! It opens no connection: tables are tracked, and histories asked, by the program `afterimage` or the crate of that name.
//!
//! ```no_run
//! use afterimage_diesel::{Audited as _, Context};
//! use diesel::prelude::*;
//!
//! diesel::table! { orders { id -> BigInt, status -> Text } }
//!
//! fn cancel(connection: &mut SqliteConnection, user: &str) -> QueryResult<usize> {
//!     connection.audited_transaction(&Context::actor(user).reason("customer request"), |connection| {
//!         diesel::update(orders::table.find(1)).set(orders::status.eq("cancelled")).execute(connection)
//!     })
//! }
//! ```
//!
//! A connection of a pool is one that [`DerefMut`](std::ops::DerefMut) leads to: the methods are there on it, too. Those of
//! diesel-async come with the feature `async`, as [`AsyncAudited`]; a `SyncConnectionWrapper` hands over the connection inside it by its
//! `spawn_blocking`.

#[cfg(feature = "async")]
mod asynchronous;
mod script;

use afterimage_core::Database;
use diesel::Connection;
use diesel::connection::{AnsiTransactionManager, CacheSize, TransactionManager};
use diesel::result::{Error, QueryResult};

pub use afterimage_core::Context;
#[cfg(feature = "async")]
pub use asynchronous::{AsyncAudited, Work};
pub use script::Recorded;

use script::sealed::Sealed as _;
use script::{Script, not_tracked};

/// A connection whose transactions say who writes, and why.
pub trait Audited: Connection<TransactionManager = AnsiTransactionManager> + Sized
where
    Self::Backend: Recorded,
{
    /// Runs `work` in a transaction whose records carry this context: committed where it gives `Ok`, else rolled back, as with
    /// [`Connection::transaction`]. Such transactions within it are savepoints, and carry the same context.
    ///
    /// PostgreSQL and MariaDB are given the context in the message that begins the transaction; SQLite by a statement more, in a
    /// transaction that takes the lock for writing from its beginning.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyInTransaction`] in a transaction: what it has recorded so far said something else.
    /// [`Error::QueryBuilderError`] for a context that cannot be kept, and on SQLite and MariaDB where nothing is tracked in the
    /// database. And what `work` gives.
    fn audited_transaction<T, E, F>(&mut self, context: &Context, work: F) -> Result<T, E>
    where
        F: FnOnce(&mut Self) -> Result<T, E>,
        E: From<Error>,
    {
        let script = Script::begin::<Self::Backend>(context)?;
        begin(self, &script).map_err(not_tracked)?;
        let worked = work(self);
        ended(self, script.clear, worked)
    }

    /// Runs `work` where tables that are named without a schema are what these views show, which `Past::views` of the crate
    /// `afterimage` gives for a session, and the command `afterimage views` prints. Nothing of it stays: what `work` writes is rolled
    /// back, where it is not refused, as PostgreSQL does.
    ///
    /// What is prepared for a view is not what is prepared for its table: no statement is kept within, and what was kept before is
    /// prepared anew, so that the connection keeps statements from then on, even if it did not.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyInTransaction`] in a transaction. On MariaDB, which has no views of a session:
    /// [`Error::QueryBuilderError`]; there such a connection is one to the database in which the views were made. And what `work`
    /// gives.
    fn with_views<T, E, F>(&mut self, views: &[String], work: F) -> Result<T, E>
    where
        F: FnOnce(&mut Self) -> Result<T, E>,
        E: From<Error>,
    {
        let mut script = Script::views::<Self::Backend>(views)?;
        if Self::Backend::DATABASE == Database::Postgres {
            // They stay on the server otherwise.
            script.then.push("DEALLOCATE ALL".to_owned());
        }
        self.set_prepared_statement_cache_size(CacheSize::Disabled);
        let worked = begin(self, &script).map_err(E::from).and_then(|()| {
            let worked = work(self);
            let rolled_back = AnsiTransactionManager::rollback_transaction(self);
            worked.and_then(|value| rolled_back.map(|()| value).map_err(E::from))
        });
        self.set_prepared_statement_cache_size(CacheSize::Unbounded);
        worked
    }
}

impl<C> Audited for C
where
    C: Connection<TransactionManager = AnsiTransactionManager>,
    C::Backend: Recorded,
{
}

/// Begins a transaction; where that fails half way, nothing is left open.
fn begin<C>(connection: &mut C, script: &Script) -> QueryResult<()>
where
    C: Connection<TransactionManager = AnsiTransactionManager>,
{
    if let Err(error) = AnsiTransactionManager::begin_transaction_sql(connection, &script.begin) {
        if script.may_be_half_begun(&error) {
            let _ = connection.batch_execute("ROLLBACK");
        }
        return Err(error);
    }
    for statement in &script.then {
        let mut done = connection.batch_execute(statement);
        if let (Err(error), Some(clear)) = (&done, script.clear)
            && script::is_left_behind(error)
        {
            done = connection.batch_execute(clear).and_then(|()| connection.batch_execute(statement));
        }
        if done.is_err() {
            let _ = AnsiTransactionManager::rollback_transaction(connection);
            return done;
        }
    }
    Ok(())
}

/// Ends a transaction as the work in it did.
fn ended<C, T, E>(connection: &mut C, clear: Option<&str>, mut worked: Result<T, E>) -> Result<T, E>
where
    C: Connection<TransactionManager = AnsiTransactionManager>,
    E: From<Error>,
{
    if let (Ok(_), Some(clear)) = (&worked, clear)
        && let Err(error) = connection.batch_execute(clear)
    {
        worked = Err(error.into());
    }
    if worked.is_ok() {
        AnsiTransactionManager::commit_transaction(connection)?;
        return worked;
    }
    match AnsiTransactionManager::rollback_transaction(connection) {
        Ok(()) | Err(Error::BrokenTransactionManager) => worked,
        Err(failed) => Err(failed.into()),
    }
}
