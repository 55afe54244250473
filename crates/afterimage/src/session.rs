//! One connection, of either database, with rows that have no static type: what the engine itself talks through.

use afterimage_core::sql::question::Question;
use afterimage_core::sql::{self, Dialect};
use afterimage_core::{Database, Value};
#[cfg(feature = "sqlite")]
use futures_util::StreamExt as _;
use futures_util::TryStreamExt as _;
use sqlx::{AssertSqlSafe, Executor as _, Row as _, TypeInfo as _, ValueRef as _};

use crate::error::{Error, ErrorKind, Result};
use crate::lent::Lent;
#[cfg(all(feature = "archive", feature = "sqlite"))]
use crate::packed::unpacked;
use crate::remembered::Remembered;

/// One value of a row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    Null,
    Int(i64),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
}

impl Cell {
    /// A text, which is shown as the bytes it is where it is no UTF-8.
    #[cfg(any(feature = "sqlite", feature = "mysql"))]
    pub(crate) fn of_bytes(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => Self::Text(text),
            Err(bytes) => Self::Blob(bytes.into_bytes()),
        }
    }

    /// What a question is given: bytes, or a text.
    pub(crate) fn of_given(value: &Value) -> Self {
        match value {
            Value::Bytes(bytes) => Self::Blob(bytes.clone()),
            other => Self::Text(other.to_string()),
        }
    }

    pub(crate) fn text(self) -> Option<String> {
        match self {
            Self::Null => None,
            Self::Text(text) => Some(text),
            Self::Int(int) => Some(int.to_string()),
            Self::Real(real) => Some(format!("{real:?}")),
            Self::Blob(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        }
    }

    pub(crate) fn int(&self) -> Option<i64> {
        match self {
            Self::Int(int) => Some(*int),
            Self::Text(text) => text.parse().ok(),
            _ => None,
        }
    }
}

pub(crate) type Row = Vec<Cell>;

/// What a session that is in no transaction says to whatever takes more than one question.
fn needs_a_transaction() -> Error {
    Error::new(ErrorKind::Database, "this is no single question of a catalogue that is as it was")
}

/// A query with its parameters, which is kept prepared: the same for every driver, whose types for it have nothing in common.
macro_rules! bound {
    ($sql:expr, $parameters:expr) => {
        bound!($sql, $parameters, true)
    };
    ($sql:expr, $parameters:expr, $kept:expr) => {
        $parameters.iter().fold(
            sqlx::query($sql).persistent($kept),
            |query, parameter: &Cell| match parameter.clone() {
                Cell::Null => query.bind(None::<String>),
                Cell::Int(int) => query.bind(int),
                Cell::Real(real) => query.bind(real),
                Cell::Text(text) => query.bind(text),
                Cell::Blob(bytes) => query.bind(bytes),
            },
        )
    };
}

/// The same for a connection of whichever database.
macro_rules! whichever {
    ($session:expr, $connection:ident => $work:expr) => {
        match $session {
            #[cfg(feature = "postgres")]
            $crate::session::Session::Postgres($connection) => $work,
            #[cfg(feature = "sqlite")]
            $crate::session::Session::Sqlite($connection) => $work,
            #[cfg(feature = "mysql")]
            $crate::session::Session::MariaDb($connection) => $work,
        }
    };
}
/// Hands over the rows of a query one by one.
macro_rules! handed_over {
    ($session:expr, $query:expr, $take:ident) => {
        handed_over!($session, $query, $take, cells_of_sqlite)
    };
    ($session:expr, $query:expr, $take:ident, $cells_of_sqlite:ident) => {{
        #[cfg(any(feature = "postgres", feature = "mysql"))]
        macro_rules! each {
            ($connection:ident, $cells:ident) => {{
                let mut rows = $query.fetch(&mut **$connection);
                while let Some(row) = rows.try_next().await? {
                    if !$take($cells(&row)?)? {
                        break;
                    }
                }
            }};
        }
        match $session {
            #[cfg(feature = "postgres")]
            Session::Postgres(connection) => each!(connection, cells_of_postgres),
            // Another thread reads them: taken one by one, each would wake it.
            #[cfg(feature = "sqlite")]
            Session::Sqlite(connection) => {
                let mut some = $query.fetch(&mut **connection).ready_chunks(SOME);
                'rows: while let Some(rows) = some.next().await {
                    for row in rows {
                        if !$take($cells_of_sqlite(&row?)?)? {
                            break 'rows;
                        }
                    }
                }
            }
            #[cfg(feature = "mysql")]
            Session::MariaDb(connection) => each!(connection, cells_of_mariadb),
        }
        Ok(())
    }};
}

/// So many of SQLite's rows are taken at once at most.
#[cfg(feature = "sqlite")]
const SOME: usize = 1024;

#[cfg(feature = "sqlite")]
pub(crate) use bound;
#[cfg(feature = "sea-orm")]
pub(crate) use whichever;

/// A connection of any of the databases.
#[derive(Debug)]
pub(crate) enum Session {
    #[cfg(feature = "postgres")]
    Postgres(Lent<sqlx::Postgres>),
    #[cfg(feature = "sqlite")]
    Sqlite(Lent<sqlx::Sqlite>),
    #[cfg(feature = "mysql")]
    MariaDb(Lent<sqlx::MySql>),
}

impl Session {
    pub(crate) fn dialect(&self) -> &'static dyn Dialect {
        sql::dialect(match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => Database::Postgres,
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => Database::Sqlite,
            #[cfg(feature = "mysql")]
            Self::MariaDb(_) => Database::MariaDb,
        })
    }

    /// The PostgreSQL connection.
    #[cfg(feature = "postgres")]
    pub(crate) fn postgres(&mut self) -> Result<&mut sqlx::PgConnection> {
        match self {
            Self::Postgres(connection) => Ok(connection),
            #[allow(unreachable_patterns)]
            _ => Err(Error::new(ErrorKind::InvalidInput, "this is no PostgreSQL database")),
        }
    }

    /// The SQLite connection.
    #[cfg(feature = "sqlite")]
    pub(crate) fn sqlite(&mut self) -> Result<&mut sqlx::SqliteConnection> {
        match self {
            Self::Sqlite(connection) => Ok(connection),
            #[allow(unreachable_patterns)]
            _ => Err(Error::new(ErrorKind::InvalidInput, "this is no SQLite database")),
        }
    }

    /// The MariaDB connection.
    #[cfg(feature = "mysql")]
    pub(crate) fn mariadb(&mut self) -> Result<&mut sqlx::MySqlConnection> {
        match self {
            Self::MariaDb(connection) => Ok(connection),
            #[allow(unreachable_patterns)]
            _ => Err(Error::new(ErrorKind::InvalidInput, "this is no MariaDB database")),
        }
    }

    /// Whether it may be sent. A zero byte, which no statement can hold, nor any text of PostgreSQL, is somebody's input; a session
    /// that is in no transaction asks one question.
    fn sound(&mut self, sql: &str, parameters: &[Cell]) -> Result<()> {
        if !self.remembered().may_ask() {
            return Err(needs_a_transaction());
        }
        let holds = |parameter: &Cell| matches!(parameter, Cell::Text(text) if text.contains('\0'));
        let in_parameters = self.dialect().database() == Database::Postgres && parameters.iter().any(holds);
        if sql.contains('\0') || in_parameters {
            return Err(Error::new(ErrorKind::InvalidInput, "a zero byte stands in what is asked for"));
        }
        Ok(())
    }

    /// A message that the server does not prepare.
    fn raw(&mut self, sql: &str) -> Result<sqlx::RawSql> {
        self.sound(sql, &[])?;
        Ok(sqlx::raw_sql(AssertSqlSafe(sql.to_owned())))
    }

    /// Runs statements that give no rows and take no parameters.
    pub(crate) async fn run(&mut self, sql: &str) -> Result<u64> {
        let sql = self.raw(sql)?;
        whichever!(self, connection => Ok((&mut **connection).execute(sql).await?.rows_affected()))
    }

    /// Runs the statements of a script, one after the other; the error names the one that failed.
    pub(crate) async fn run_all(&mut self, script: &[String]) -> Result<()> {
        for statement in script {
            self.run(statement).await?;
        }
        Ok(())
    }

    /// Runs a statement that is one statement, whatever somebody wrote in it.
    pub(crate) async fn run_one(&mut self, sql: &str) -> Result<u64> {
        #[cfg(feature = "mysql")]
        if let Self::MariaDb(_) = self {
            self.sound(sql, &[])?;
            return self.run(&afterimage_core::sql::mariadb::once(sql, &[])).await;
        }
        self.execute(sql, &[]).await
    }

    /// Runs a statement with parameters, which is kept prepared.
    pub(crate) async fn execute(&mut self, sql: &str, parameters: &[Cell]) -> Result<u64> {
        self.sound(sql, parameters)?;
        let sql = AssertSqlSafe(sql.to_owned());
        whichever!(self, connection => {
            Ok(bound!(sql, parameters).execute(&mut **connection).await?.rows_affected())
        })
    }

    /// All rows of a query that is ours to the last word, by one message, which the server does not prepare and remember.
    ///
    /// Such a message may hold several statements: nothing that somebody else wrote as SQL may stand in it.
    pub(crate) async fn ask(&mut self, sql: &str) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        self.ask_each(sql, |row| {
            rows.push(row);
            Ok(true)
        })
        .await?;
        Ok(rows)
    }

    /// The first row of one.
    pub(crate) async fn ask_row(&mut self, sql: &str) -> Result<Option<Row>> {
        Ok(self.ask(sql).await?.into_iter().next())
    }

    /// Hands over the answers to a question of ours one by one, until `take` says that it has enough.
    pub(crate) async fn each_answer(
        &mut self,
        question: &Question,
        take: impl FnMut(Row) -> Result<bool>,
    ) -> Result<()> {
        if self.remembered().guesses() {
            return self.answer_alone(question, take).await;
        }
        self.put_each(&question.sql, question, take).await
    }

    /// Puts a question by this text.
    async fn put_each(
        &mut self,
        sql: &str,
        question: &Question,
        take: impl FnMut(Row) -> Result<bool>,
    ) -> Result<()> {
        if !question.kept && question.given.is_empty() {
            return self.ask_each(sql, take).await;
        }
        let given: Vec<Cell> = question.given.iter().map(Cell::of_given).collect();
        self.each_of(sql, &given, question.kept, take).await
    }

    /// The same of the one question of a session that is in no transaction: the answer tells whether the catalogue is as it was
    /// taken for.
    async fn answer_alone(
        &mut self,
        question: &Question,
        mut take: impl FnMut(Row) -> Result<bool>,
    ) -> Result<()> {
        // One that is not kept is sent in two messages, between which a proxy may change the server.
        let sql = if question.kept { sql::catalog::alone(self.dialect(), question) } else { None };
        let (Some(sql), Some(expected)) = (sql, self.remembered().ask()) else {
            return Err(needs_a_transaction());
        };
        let (mut found, mut is_set) = (false, true);
        let put = self.put_each(&sql, question, |mut row| {
            let rest = row.split_off(2);
            is_set = row[0] != Cell::Null;
            if row.into_iter().map(Cell::text).ne(expected.iter().cloned()) {
                return Err(needs_a_transaction());
            }
            found = true;
            take(rest)
        });
        let put = put.await;
        if !is_set && question.alone.as_ref().is_some_and(|alone| alone.plain) {
            self.remembered().guesses_no_more();
        }
        put?;
        if !found {
            // No row tells it.
            return Err(needs_a_transaction());
        }
        self.remembered().answered();
        Ok(())
    }

    /// All answers to one.
    pub(crate) async fn answers(&mut self, question: &Question) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        self.each_answer(question, |row| {
            rows.push(row);
            Ok(true)
        })
        .await?;
        Ok(rows)
    }

    /// All rows of a query.
    pub(crate) async fn rows(&mut self, sql: &str, parameters: &[Cell]) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        self.each(sql, parameters, |row| {
            rows.push(row);
            Ok(true)
        })
        .await?;
        Ok(rows)
    }

    /// The first row of a query.
    pub(crate) async fn row(&mut self, sql: &str, parameters: &[Cell]) -> Result<Option<Row>> {
        let mut first = None;
        self.each(sql, parameters, |row| {
            first = Some(row);
            Ok(false)
        })
        .await?;
        Ok(first)
    }

    /// The first value of the first row, as an integer.
    pub(crate) async fn int(&mut self, sql: &str, parameters: &[Cell]) -> Result<Option<i64>> {
        Ok(self.row(sql, parameters).await?.and_then(|row| row.first().and_then(Cell::int)))
    }

    /// Hands over the rows of a query one by one, until `take` says that it has enough.
    pub(crate) async fn each(
        &mut self,
        sql: &str,
        parameters: &[Cell],
        take: impl FnMut(Row) -> Result<bool>,
    ) -> Result<()> {
        self.each_of(sql, parameters, true, take).await
    }

    async fn each_of(
        &mut self,
        sql: &str,
        parameters: &[Cell],
        kept: bool,
        mut take: impl FnMut(Row) -> Result<bool>,
    ) -> Result<()> {
        self.sound(sql, parameters)?;
        #[cfg(feature = "mysql")]
        if let Self::MariaDb(_) = self {
            let values: Vec<String> = parameters.iter().map(literal_of_mariadb).collect();
            let sql = sqlx::raw_sql(AssertSqlSafe(afterimage_core::sql::mariadb::once(sql, &values)));
            return handed_over!(self, sql, take);
        }
        let sql = AssertSqlSafe(sql.to_owned());
        handed_over!(self, bound!(sql, parameters, kept), take)
    }

    /// Hands over the rows of a query of [ours](Self::ask) one by one, until `take` says that it has enough.
    pub(crate) async fn ask_each(
        &mut self,
        sql: &str,
        mut take: impl FnMut(Row) -> Result<bool>,
    ) -> Result<()> {
        let sql = self.raw(sql)?;
        handed_over!(self, sql, take)
    }

    /// The same of a query whose rows SQLite hands over packed.
    #[cfg(feature = "archive")]
    pub(crate) async fn ask_each_packed(
        &mut self,
        sql: &str,
        mut take: impl FnMut(Row) -> Result<bool>,
    ) -> Result<()> {
        let sql = self.raw(sql)?;
        handed_over!(self, sql, take, unpacked)
    }

    /// Commits the transaction it is in.
    pub(crate) async fn commit(self) -> Result<()> {
        whichever!(self, connection => connection.commit().await)
    }

    /// Ends a transaction that only read, which nobody has to wait for.
    pub(crate) async fn end_reading(self) -> Result<()> {
        match self {
            // A connection in a transaction is not given back to the pool by its driver.
            #[cfg(feature = "mysql")]
            Self::MariaDb(connection) => connection.commit().await,
            #[allow(unreachable_patterns)]
            // Rolls back as it goes back to the pool.
            other => {
                drop(other);
                Ok(())
            }
        }
    }

    /// Rolls the transaction back that it is in.
    pub(crate) async fn rollback(self) -> Result<()> {
        whichever!(self, connection => connection.rollback().await)
    }

    /// Begins a transaction inside the present one.
    pub(crate) async fn nest(&mut self) -> Result<()> {
        whichever!(self, connection => connection.nest().await)
    }

    /// Commits the innermost transaction.
    pub(crate) async fn commit_nested(&mut self) -> Result<()> {
        whichever!(self, connection => connection.commit_innermost().await)
    }

    /// Rolls the innermost transaction back.
    pub(crate) async fn rollback_nested(&mut self) -> Result<()> {
        whichever!(self, connection => connection.rollback_innermost().await)
    }

    /// Rolls the innermost transaction back before anything else is sent.
    pub(crate) fn start_rollback(&mut self) {
        whichever!(self, connection => connection.start_rollback());
    }

    /// What a session that is in no transaction says where the answer to its question is not the whole answer.
    pub(crate) fn asks_more(&mut self) -> Error {
        self.remembered().asks_more();
        needs_a_transaction()
    }

    /// What is known of the catalogue.
    pub(crate) fn remembered(&mut self) -> &mut Remembered {
        whichever!(self, connection => connection.remembered())
    }
}

/// A JSON value as a parameter: objects and arrays as their text.
pub(crate) fn cell(value: &serde_json::Value) -> Cell {
    use serde_json::Value as Json;
    match value {
        Json::Null => Cell::Null,
        Json::Bool(value) => Cell::Int((*value).into()),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(int), _) => Cell::Int(int),
            (None, Some(real)) => Cell::Real(real),
            (None, None) => Cell::Text(number.to_string()),
        },
        Json::String(text) => Cell::Text(text.clone()),
        Json::Array(_) | Json::Object(_) => Cell::Text(value.to_string()),
    }
}

/// What a row holds of a database.
type Raw<'r, D> = <D as sqlx::Database>::ValueRef<'r>;

/// What a value is told as, or why it cannot be.
type Told<T> = std::result::Result<T, sqlx::error::BoxDynError>;

/// A value of a row: what `tell` makes of one that is not NULL.
fn cell_at<'r, R: sqlx::Row>(
    row: &'r R,
    at: usize,
    tell: impl FnOnce(Raw<'r, R::Database>) -> Told<Cell>,
) -> Result<Cell>
where
    usize: sqlx::ColumnIndex<R>,
{
    let raw = row.try_get_raw(at)?;
    if raw.is_null() {
        return Ok(Cell::Null);
    }
    Ok(tell(raw).map_err(|source| sqlx::Error::ColumnDecode { index: at.to_string(), source })?)
}

/// A value as this type, which is known to be its own.
fn own<'r, D: sqlx::Database, T: sqlx::Decode<'r, D>>(raw: Raw<'r, D>) -> Told<T> {
    T::decode(raw)
}

/// Our queries ask PostgreSQL for integers, booleans and text, and nothing else.
#[cfg(feature = "postgres")]
fn cells_of_postgres(row: &sqlx::postgres::PgRow) -> Result<Row> {
    use sqlx::postgres::types::Oid;
    let tell = |raw: Raw<'_, sqlx::Postgres>| {
        let kind = raw.type_info();
        Ok(match kind.name() {
            "TEXT" | "NAME" | "VARCHAR" => Cell::Text(own::<sqlx::Postgres, _>(raw)?),
            "INT8" => Cell::Int(own::<sqlx::Postgres, _>(raw)?),
            "INT4" => Cell::Int(own::<sqlx::Postgres, i32>(raw)?.into()),
            "INT2" => Cell::Int(own::<sqlx::Postgres, i16>(raw)?.into()),
            "BOOL" => Cell::Int(own::<sqlx::Postgres, bool>(raw)?.into()),
            "OID" => Cell::Int(own::<sqlx::Postgres, Oid>(raw)?.0.into()),
            other => return Err(format!("a query of ours gave a value of type {other}").into()),
        })
    };
    (0..row.len()).map(|at| cell_at(row, at, tell)).collect()
}

#[cfg(feature = "sqlite")]
fn cells_of_sqlite(row: &sqlx::sqlite::SqliteRow) -> Result<Row> {
    (0..row.len()).map(|at| cell_of_sqlite(row, at)).collect()
}

#[cfg(feature = "sqlite")]
pub(crate) fn cell_of_sqlite(row: &sqlx::sqlite::SqliteRow, at: usize) -> Result<Cell> {
    cell_at(row, at, |raw| {
        let kind = raw.type_info();
        Ok(match kind.name() {
            "INTEGER" => Cell::Int(own::<sqlx::Sqlite, _>(raw)?),
            "REAL" => Cell::Real(own::<sqlx::Sqlite, _>(raw)?),
            "BLOB" => Cell::Blob(own::<sqlx::Sqlite, _>(raw)?),
            _ => Cell::of_bytes(own::<sqlx::Sqlite, _>(raw)?),
        })
    })
}

#[cfg(feature = "mysql")]
fn literal_of_mariadb(cell: &Cell) -> String {
    use afterimage_core::sql::mariadb;
    match cell {
        Cell::Null => "NULL".to_owned(),
        Cell::Int(int) => int.to_string(),
        Cell::Real(real) => format!("{real:e}"),
        Cell::Text(text) => mariadb::text(text),
        Cell::Blob(bytes) => mariadb::bytes(bytes),
    }
}

/// Our queries ask MariaDB for numbers and text.
#[cfg(feature = "mysql")]
fn cells_of_mariadb(row: &sqlx::mysql::MySqlRow) -> Result<Row> {
    let tell = |raw: Raw<'_, sqlx::MySql>| {
        let kind = raw.type_info();
        let kind = kind.name();
        Ok(if kind == "DOUBLE" {
            let value = own::<sqlx::MySql, f64>(raw)?;
            Cell::Text(real(value, value))
        } else if kind == "BOOLEAN" || kind.contains("INT") && !kind.contains("UNSIGNED") {
            Cell::Int(own::<sqlx::MySql, _>(raw)?)
        } else if kind.contains("INT") {
            let value = own::<sqlx::MySql, u64>(raw)?;
            i64::try_from(value).map_or_else(|_| Cell::Text(value.to_string()), Cell::Int)
        } else {
            Cell::of_bytes(own::<sqlx::MySql, _>(raw)?)
        })
    };
    (0..row.len()).map(|at| cell_at(row, at, tell)).collect()
}

/// The digits of a float, without a fraction that says nothing.
#[cfg(feature = "mysql")]
pub(crate) fn real(value: f64, shortest: impl std::fmt::Debug) -> String {
    let text = format!("{shortest:?}");
    if value.fract() == 0.0 { text.strip_suffix(".0").unwrap_or(&text).to_owned() } else { text }
}
