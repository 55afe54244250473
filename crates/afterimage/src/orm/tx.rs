//! A transaction with a context, as a connection of SeaORM's.

use std::future::Future;
use std::pin::Pin;

use futures_util::TryStreamExt as _;
use futures_util::stream::BoxStream;
use sea_orm::{
    AccessMode, ConnectionTrait, DbBackend, DbErr, ExecResult, IsolationLevel, QueryResult, Statement,
    StreamTrait, TransactionError, TransactionOptions, TransactionSession, TransactionTrait,
};

use super::backend;
use super::statement::{Call, unprepared};
use crate::transaction::Tx;

#[async_trait::async_trait]
impl ConnectionTrait for Tx {
    fn get_database_backend(&self) -> DbBackend {
        backend(self.database())
    }

    async fn execute_raw(&self, stmt: Statement) -> Result<ExecResult, DbErr> {
        Call::new(stmt.sql, stmt.values, true).execute(&mut self.shared().await?.session).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        unprepared(&mut self.shared().await?.session, sql).await
    }

    async fn query_one_raw(&self, stmt: Statement) -> Result<Option<QueryResult>, DbErr> {
        Call::new(stmt.sql, stmt.values, true).one(&mut self.shared().await?.session).await
    }

    async fn query_all_raw(&self, stmt: Statement) -> Result<Vec<QueryResult>, DbErr> {
        Call::new(stmt.sql, stmt.values, true).all(&mut self.shared().await?.session).await
    }
}

impl StreamTrait for Tx {
    type Stream<'a> = BoxStream<'a, Result<QueryResult, DbErr>>;

    fn get_database_backend(&self) -> DbBackend {
        backend(self.database())
    }

    /// Whoever else uses the transaction waits until the stream is read or dropped.
    fn stream_raw<'a>(
        &'a self,
        stmt: Statement,
    ) -> Pin<Box<dyn Future<Output = Result<Self::Stream<'a>, DbErr>> + 'a + Send>> {
        Box::pin(async move {
            let mut writing = self.shared().await?;
            let stream: Self::Stream<'a> = Box::pin(async_stream::try_stream! {
                let mut rows = Call::new(stmt.sql, stmt.values, true).rows(&mut writing.session);
                while let Some(row) = rows.try_next().await? {
                    yield row;
                }
            });
            Ok(stream)
        })
    }
}

#[async_trait::async_trait]
impl TransactionTrait for Tx {
    type Transaction = Self;

    /// By a savepoint; see [`Tx::nest`].
    async fn begin(&self) -> Result<Self, DbErr> {
        Ok(self.nest().await?)
    }

    async fn begin_with_config(
        &self,
        isolation_level: Option<IsolationLevel>,
        access_mode: Option<AccessMode>,
    ) -> Result<Self, DbErr> {
        if isolation_level.is_some() || access_mode.is_some() {
            return Err(DbErr::Custom(
                "a nested transaction has the isolation and the access of the one outside it".to_owned(),
            ));
        }
        self.begin().await
    }

    async fn begin_with_options(&self, options: TransactionOptions) -> Result<Self, DbErr> {
        self.begin_with_config(options.isolation_level, options.access_mode).await
    }

    async fn transaction<F, T, E>(&self, callback: F) -> Result<T, TransactionError<E>>
    where
        F: for<'c> FnOnce(&'c Self) -> Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'c>> + Send,
        T: Send,
        E: std::fmt::Display + std::fmt::Debug + Send,
    {
        self.transaction_with_config(callback, None, None).await
    }

    async fn transaction_with_config<F, T, E>(
        &self,
        callback: F,
        isolation_level: Option<IsolationLevel>,
        access_mode: Option<AccessMode>,
    ) -> Result<T, TransactionError<E>>
    where
        F: for<'c> FnOnce(&'c Self) -> Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'c>> + Send,
        T: Send,
        E: std::fmt::Display + std::fmt::Debug + Send,
    {
        let failed = |error| TransactionError::Connection(error);
        let nested = self.begin_with_config(isolation_level, access_mode).await.map_err(failed)?;
        match callback(&nested).await {
            Ok(value) => {
                TransactionSession::commit(nested).await.map_err(failed)?;
                Ok(value)
            }
            Err(error) => {
                TransactionSession::rollback(nested).await.map_err(failed)?;
                Err(TransactionError::Transaction(error))
            }
        }
    }
}

#[async_trait::async_trait]
impl TransactionSession for Tx {
    async fn commit(self) -> Result<(), DbErr> {
        Ok(Self::commit(self).await?)
    }

    async fn rollback(self) -> Result<(), DbErr> {
        Ok(Self::rollback(self).await?)
    }
}
