//! The same for connections of diesel-async.

use std::future::Future;

use diesel::connection::CacheSize;
use diesel::result::{Error, QueryResult};
use diesel_async::{AnsiTransactionManager, AsyncConnection, TransactionManager};

use crate::Context;
use crate::script::{Recorded, Script, not_tracked};

/// What is to be done with a connection: an `async |connection| { … }` whose future may go to another thread.
pub trait Work<C, T>: AsyncFnOnce(C) -> T + FnOnce(C) -> <Self as Work<C, T>>::Done {
    /// What it gives.
    type Done: Future<Output = T>;
}

impl<F, C, T, D> Work<C, T> for F
where
    F: AsyncFnOnce(C) -> T + FnOnce(C) -> D,
    D: Future<Output = T>,
{
    type Done = D;
}

/// A connection of diesel-async whose transactions say who writes, and why.
///
/// Whoever drops what these give before it is done leaves the connection in its transaction, as with diesel-async's own: a pool
/// throws such a connection away, and who has no pool does so, too.
///
/// ```no_run
/// use afterimage_diesel::{AsyncAudited as _, Context};
/// use diesel::{ExpressionMethods as _, QueryDsl as _, QueryResult};
/// use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
///
/// diesel::table! { orders { id -> BigInt, status -> Text } }
///
/// async fn cancel(connection: &mut AsyncPgConnection, user: &str) -> QueryResult<usize> {
///     let context = Context::actor(user).reason("customer request");
///     connection
///         .audited_transaction(&context, async |connection| {
///             diesel::update(orders::table.find(1)).set(orders::status.eq("cancelled")).execute(connection).await
///         })
///         .await
/// }
/// ```
pub trait AsyncAudited: AsyncConnection<TransactionManager = AnsiTransactionManager> + Sized
where
    Self::Backend: Recorded,
{
    /// Runs `work` in a transaction whose records carry this context; as [`Audited`](crate::Audited)'s, with the same errors.
    fn audited_transaction<'a, 'c, T, E, F>(
        &'c mut self,
        context: &Context,
        work: F,
    ) -> impl Future<Output = Result<T, E>> + Send + 'c
    where
        for<'r> F: AsyncFnOnce(&'r mut Self) -> Result<T, E>
            + Work<&'r mut Self, Result<T, E>, Done: Send>
            + Send
            + 'a,
        E: From<Error> + Send + 'a,
        T: Send + 'a,
        'a: 'c,
    {
        let script = Script::begin::<Self::Backend>(context);
        async move {
            let script = script?;
            begin(self, &script).await.map_err(not_tracked)?;
            let worked = work(self).await;
            ended(self, script.clear, worked).await
        }
    }

    /// Runs `work` where tables are what these views show; as [`Audited`](crate::Audited)'s, with the same errors.
    fn with_views<'a, 'c, T, E, F>(
        &'c mut self,
        views: &[String],
        work: F,
    ) -> impl Future<Output = Result<T, E>> + Send + 'c
    where
        for<'r> F: AsyncFnOnce(&'r mut Self) -> Result<T, E>
            + Work<&'r mut Self, Result<T, E>, Done: Send>
            + Send
            + 'a,
        E: From<Error> + Send + 'a,
        T: Send + 'a,
        'a: 'c,
    {
        let script = Script::views::<Self::Backend>(views);
        async move {
            let script = script?;
            self.set_prepared_statement_cache_size(CacheSize::Disabled);
            let worked = match begin(self, &script).await {
                Ok(()) => {
                    let worked = work(self).await;
                    let rolled_back = AnsiTransactionManager::rollback_transaction(self).await;
                    worked.and_then(|value| rolled_back.map(|()| value).map_err(E::from))
                }
                Err(error) => Err(error.into()),
            };
            self.set_prepared_statement_cache_size(CacheSize::Unbounded);
            worked
        }
    }
}

impl<C> AsyncAudited for C
where
    C: AsyncConnection<TransactionManager = AnsiTransactionManager>,
    C::Backend: Recorded,
{
}

/// Begins a transaction; where that fails half way, nothing is left open.
async fn begin<C>(connection: &mut C, script: &Script) -> QueryResult<()>
where
    C: AsyncConnection<TransactionManager = AnsiTransactionManager>,
{
    if let Err(error) = AnsiTransactionManager::begin_transaction_sql(connection, &script.begin).await {
        if script.may_be_half_begun(&error) {
            let _ = connection.batch_execute("ROLLBACK").await;
        }
        return Err(error);
    }
    for statement in &script.then {
        let done = connection.batch_execute(statement).await;
        if done.is_err() {
            let _ = AnsiTransactionManager::rollback_transaction(connection).await;
            return done;
        }
    }
    Ok(())
}

/// Ends a transaction as the work in it did.
async fn ended<C, T, E>(connection: &mut C, clear: Option<&str>, mut worked: Result<T, E>) -> Result<T, E>
where
    C: AsyncConnection<TransactionManager = AnsiTransactionManager>,
    E: From<Error>,
{
    if let (Ok(_), Some(clear)) = (&worked, clear)
        && let Err(error) = connection.batch_execute(clear).await
    {
        worked = Err(error.into());
    }
    if worked.is_ok() {
        AnsiTransactionManager::commit_transaction(connection).await?;
        return worked;
    }
    match AnsiTransactionManager::rollback_transaction(connection).await {
        Ok(()) | Err(Error::BrokenTransactionManager) => worked,
        Err(failed) => Err(failed.into()),
    }
}
