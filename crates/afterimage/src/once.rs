//! Statements of others that are not kept prepared.

use afterimage_core::sql::mariadb;
use futures_util::stream::BoxStream;
use sqlx::database::HasStatementCache;
use sqlx::{Arguments as _, AssertSqlSafe, Connection, Database, Executor, IntoArguments};

/// What MariaDB's driver calls it.
const MARIADB: &str = "MySQL";

/// The rows of a statement that is not kept prepared, as they come.
///
/// On MariaDB one without parameters is [one message](mariadb::once).
pub(crate) fn rows<'c, C: Connection>(
    connection: &'c mut C,
    sql: String,
    arguments: impl IntoArguments<C::Database>,
) -> BoxStream<'c, sqlx::Result<<C::Database as Database>::Row>>
where
    C::Database: HasStatementCache,
    <C::Database as Database>::Arguments: IntoArguments<C::Database>,
    &'c mut C: Executor<'c, Database = C::Database>,
{
    let arguments = arguments.into_arguments();
    if C::Database::NAME == MARIADB && arguments.len() == 0 {
        connection.fetch(sqlx::raw_sql(AssertSqlSafe(mariadb::once(&sql, &[]))))
    } else {
        sqlx::query_with(AssertSqlSafe(sql), arguments).persistent(false).fetch(connection)
    }
}
