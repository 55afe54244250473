//! The past, as a connection of SeaORM's that only reads.

use std::future::Future;
use std::pin::Pin;

use futures_util::TryStreamExt as _;
use futures_util::stream::BoxStream;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, Statement, StreamTrait};

use super::backend;
use super::statement::Call;
use crate::error::{Error, ErrorKind};
use crate::past::{Past, Reading};

impl Past {
    pub(super) async fn call(&self, reading: &mut Reading, stmt: Statement) -> Result<Call, DbErr> {
        let sql = self.rewritten(reading, &stmt.sql).await?;
        Ok(Call::new(sql, stmt.values, false))
    }
}

fn only_read() -> DbErr {
    Error::new(ErrorKind::InvalidInput, "the past can only be read").into()
}

#[async_trait::async_trait]
impl ConnectionTrait for Past {
    fn get_database_backend(&self) -> DbBackend {
        backend(self.database)
    }

    /// Refused: the past can only be read.
    async fn execute_raw(&self, _: Statement) -> Result<ExecResult, DbErr> {
        Err(only_read())
    }

    /// Refused: the past can only be read.
    async fn execute_unprepared(&self, _: &str) -> Result<ExecResult, DbErr> {
        Err(only_read())
    }

    async fn query_one_raw(&self, stmt: Statement) -> Result<Option<QueryResult>, DbErr> {
        let mut reading = self.reading.lock().await;
        self.call(&mut reading, stmt).await?.one(&mut reading.session).await
    }

    async fn query_all_raw(&self, stmt: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let mut reading = self.reading.lock().await;
        self.call(&mut reading, stmt).await?.all(&mut reading.session).await
    }
}

impl StreamTrait for Past {
    type Stream<'a> = BoxStream<'a, Result<QueryResult, DbErr>>;

    fn get_database_backend(&self) -> DbBackend {
        backend(self.database)
    }

    /// Whoever else asks this connection waits until the stream is read or dropped.
    fn stream_raw<'a>(
        &'a self,
        stmt: Statement,
    ) -> Pin<Box<dyn Future<Output = Result<Self::Stream<'a>, DbErr>> + 'a + Send>> {
        Box::pin(async move {
            let mut reading = self.reading.lock().await;
            let call = self.call(&mut reading, stmt).await?;
            let stream: Self::Stream<'a> = Box::pin(async_stream::try_stream! {
                let mut rows = call.rows(&mut reading.session);
                while let Some(row) = rows.try_next().await? {
                    yield row;
                }
            });
            Ok(stream)
        })
    }
}
