//! SeaORM's statements on a session.

use std::sync::Arc;

use futures_util::TryStreamExt as _;
use futures_util::stream::BoxStream;
use sea_orm::sea_query::Values;
use sea_orm::{DbErr, ExecResult, QueryResult, RuntimeErr};
use sea_query_sqlx::SqlxValues;
use sqlx::AssertSqlSafe;

use crate::once;
use crate::session::{Session, whichever};

/// SQL and the values of its parameters.
#[derive(Debug)]
pub(super) struct Call {
    sql: String,
    values: SqlxValues,
    /// Whether it is worth keeping prepared.
    kept: bool,
}

impl Call {
    pub(super) fn new(sql: String, values: Option<Values>, kept: bool) -> Self {
        Self { sql, values: SqlxValues(values.unwrap_or(Values(Vec::new()))), kept }
    }

    pub(super) async fn execute(self, session: &mut Session) -> Result<ExecResult, DbErr> {
        let Self { sql, values, kept } = self;
        whichever!(session, connection => {
            let query = sqlx::query_with(AssertSqlSafe(sql), values).persistent(kept);
            query.execute(&mut **connection).await.map(Into::into).map_err(not_executed)
        })
    }

    /// The rows, as they come.
    pub(super) fn rows(self, session: &mut Session) -> BoxStream<'_, Result<QueryResult, DbErr>> {
        let Self { sql, values, kept } = self;
        whichever!(session, connection => {
            let rows = if kept {
                sqlx::query_with(AssertSqlSafe(sql), values).fetch(&mut **connection)
            } else {
                once::rows(&mut **connection, sql, values)
            };
            Box::pin(rows.map_ok(Into::into).map_err(not_read))
        })
    }

    pub(super) async fn one(self, session: &mut Session) -> Result<Option<QueryResult>, DbErr> {
        self.rows(session).try_next().await
    }

    pub(super) async fn all(self, session: &mut Session) -> Result<Vec<QueryResult>, DbErr> {
        self.rows(session).try_collect().await
    }
}

/// Runs statements that take no parameters.
pub(super) async fn unprepared(session: &mut Session, sql: &str) -> Result<ExecResult, DbErr> {
    use sqlx::Executor as _;
    let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
    whichever!(session, connection => {
        (&mut **connection).execute(sql).await.map(Into::into).map_err(not_executed)
    })
}

fn not_executed(error: sqlx::Error) -> DbErr {
    DbErr::Exec(RuntimeErr::SqlxError(Arc::new(error)))
}

fn not_read(error: sqlx::Error) -> DbErr {
    DbErr::Query(RuntimeErr::SqlxError(Arc::new(error)))
}
