//! Reading a table's description from the database's own catalogue.

#[cfg(feature = "mysql")]
mod mariadb;
#[cfg(feature = "mysql")]
mod mariadb_cascades;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(feature = "sqlite")]
mod sqlite_index;

use afterimage_core::schema::Reference;
use afterimage_core::{Table, TableName, suggest};

use crate::error::{Error, ErrorKind, Result};
use crate::session::{Cell, Session};

/// What stands behind a name.
#[derive(Debug)]
pub(crate) enum Found {
    /// A table that can be described.
    Table(Box<Table>),
    /// Something else, with what it is.
    Other(TableName, &'static str),
}

/// Describes the table a user named: `table`, or `schema.table`.
pub(crate) async fn table(session: &mut Session, name: &str) -> Result<Table> {
    afterimage_core::name::check(name)?;
    let (found, names) = match session {
        #[cfg(feature = "postgres")]
        Session::Postgres(_) => (postgres::find(session, name).await?, postgres::names(session).await?),
        #[cfg(feature = "sqlite")]
        Session::Sqlite(_) => (sqlite::find(session, name).await?, sqlite::names(session).await?),
        #[cfg(feature = "mysql")]
        Session::MariaDb(_) => (mariadb::find(session, name).await?, mariadb::names(session).await?),
    };
    match found {
        Some(Found::Table(table)) => Ok(*table),
        Some(Found::Other(name, what)) => {
            Err(Error::new(ErrorKind::Untrackable, format!("it is {what}, not an ordinary table")).on(&name))
        }
        None => {
            let hint = suggest::hint(name, names.iter().map(String::as_str));
            Err(Error::new(ErrorKind::NotFound, format!("there is no table {name:?}{hint}")))
        }
    }
}

/// Describes a table by its exact name; `None` where it is gone.
pub(crate) async fn exact(session: &mut Session, name: &TableName) -> Result<Option<Table>> {
    let found = match session {
        #[cfg(feature = "postgres")]
        Session::Postgres(_) => postgres::exact(session, name).await?,
        #[cfg(feature = "sqlite")]
        Session::Sqlite(_) => sqlite::find(session, &name.name).await?,
        #[cfg(feature = "mysql")]
        Session::MariaDb(_) => mariadb::find(session, &name.name).await?,
    };
    Ok(match found {
        Some(Found::Table(table)) => Some(*table),
        _ => None,
    })
}

/// The foreign keys of a table.
pub(crate) async fn references(session: &mut Session, table: &Table) -> Result<Vec<Reference>> {
    match session {
        #[cfg(feature = "postgres")]
        Session::Postgres(_) => postgres::references(session, table).await,
        #[cfg(feature = "sqlite")]
        Session::Sqlite(_) => sqlite::references(session, table).await,
        #[cfg(feature = "mysql")]
        Session::MariaDb(_) => mariadb::references(session, table).await,
    }
}

/// Whether this connection may read all rows of a table.
pub(crate) async fn is_readable(session: &mut Session, table: &Table) -> Result<bool> {
    #[cfg(feature = "postgres")]
    if let Session::Postgres(_) = session {
        let name = Cell::Text(table.name.quoted());
        let sql = "SELECT (pg_catalog.has_table_privilege($1, 'SELECT') AND NOT pg_catalog.row_security_active($1))::int";
        return Ok(session.int(sql, &[name]).await? == Some(1));
    }
    #[cfg(feature = "mysql")]
    if let Session::MariaDb(_) = session {
        // There a statement that fails leaves the transaction as it was.
        return Ok(session.run(&format!("SELECT 1 FROM {} LIMIT 0", table.name.quoted())).await.is_ok());
    }
    let _ = (session, table);
    Ok(true)
}

/// A name as this connection would say it: without its schema, where that is the connection's default.
pub(crate) async fn seen(session: &mut Session, name: &TableName) -> Result<TableName> {
    #[cfg(feature = "postgres")]
    if let Session::Postgres(_) = session {
        let default = match session.remembered().default_schema() {
            known @ Some(_) => known,
            None => {
                let sql = format!("SELECT {}", afterimage_core::sql::catalog::DEFAULT_SCHEMA);
                session.row(&sql, &[]).await?.and_then(|mut row| row.pop().and_then(Cell::text))
            }
        };
        if default == name.schema {
            return Ok(TableName::bare(name.name.clone()));
        }
    }
    let _ = session;
    Ok(name.clone())
}

/// The exact name of the table, view or the like that a statement of this connection means by a name.
#[cfg(feature = "past")]
pub(crate) async fn named(session: &mut Session, name: &TableName) -> Result<Option<TableName>> {
    let text = |text: &str| Cell::Text(text.to_owned());
    let schema = name.schema.as_deref().map_or(Cell::Null, text);
    let (sql, parameters) = match session {
        #[cfg(feature = "postgres")]
        Session::Postgres(_) => (
            "SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = pg_catalog.to_regclass($1)::oid",
            vec![Cell::Text(name.quoted())],
        ),
        // A temporary one comes first.
        #[cfg(feature = "sqlite")]
        Session::Sqlite(_) => (
            "SELECT schema, name FROM (
               SELECT 1 AS place, 'temp' AS schema, name FROM sqlite_temp_schema WHERE type IN ('table', 'view')
               UNION ALL SELECT 2, NULL, name FROM sqlite_schema WHERE type IN ('table', 'view')
             ) WHERE lower(name) = lower(?1) AND (?2 IS NULL OR lower(coalesce(schema, 'main')) = lower(?2)) ORDER BY place LIMIT 1",
            vec![text(&name.name), schema],
        ),
        #[cfg(feature = "mysql")]
        Session::MariaDb(_) => (
            "SELECT NULL, table_name FROM information_schema.tables WHERE table_schema = DATABASE() AND table_schema = COALESCE(?, DATABASE()) AND table_name = ? AND (BINARY table_name = ? OR @@lower_case_table_names <> 0)",
            vec![schema, text(&name.name), text(&name.name)],
        ),
    };
    let row = session.row(sql, &parameters).await?;
    Ok(row.and_then(|row| {
        let mut texts = row.into_iter().map(Cell::text);
        let schema = texts.next().flatten();
        Some(TableName { schema, name: texts.next().flatten()? })
    }))
}

/// Whether a name is taken, by whatever.
pub(crate) async fn taken(session: &mut Session, name: &TableName) -> Result<bool> {
    let (sql, parameters) = match session {
        #[cfg(feature = "postgres")]
        Session::Postgres(_) => (
            "SELECT count(*) FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE c.relname = $1 AND n.nspname = $2",
            vec![Cell::Text(name.name.clone()), Cell::Text(name.schema.clone().unwrap_or_default())],
        ),
        #[cfg(feature = "sqlite")]
        Session::Sqlite(_) => (
            "SELECT count(*) FROM sqlite_schema WHERE lower(name) = lower(?1)",
            vec![Cell::Text(name.name.clone())],
        ),
        #[cfg(feature = "mysql")]
        Session::MariaDb(_) => (
            "SELECT count(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?",
            vec![Cell::Text(name.name.clone())],
        ),
    };
    Ok(session.int(sql, &parameters).await?.unwrap_or_default() > 0)
}

/// Every ordinary table, as a user would name it.
pub(crate) async fn names(session: &mut Session) -> Result<Vec<String>> {
    match session {
        #[cfg(feature = "postgres")]
        Session::Postgres(_) => postgres::names(session).await,
        #[cfg(feature = "sqlite")]
        Session::Sqlite(_) => sqlite::names(session).await,
        #[cfg(feature = "mysql")]
        Session::MariaDb(_) => mariadb::names(session).await,
    }
}
