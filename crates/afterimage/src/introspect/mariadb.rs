//! MariaDB: `information_schema`, whose `COLUMN_TYPE` declares a type whole.

use afterimage_core::name::literal;
use afterimage_core::schema::{MariaDbShape, Reference, Shape};
use afterimage_core::value::Shown;
use afterimage_core::{Column, Table, TableName};

use super::{Found, mariadb_cascades};
use crate::error::Result;
use crate::session::{Cell, Row, Session};

pub(super) async fn find(session: &mut Session, name: &str) -> Result<Option<Found>> {
    // The server knows no other characters in names, and compares with none.
    if name.chars().any(|c| u32::from(c) > 0xFFFF) {
        return Ok(None);
    }
    let relation = "SELECT t.table_name, t.table_type, t.engine FROM information_schema.tables AS t \
      WHERE t.table_schema = DATABASE() AND t.table_name = ?";
    let mut row = session.row(relation, &[Cell::Text(name.to_owned())]).await?;
    if row.is_none() {
        // Its database's name before it, where that is this connection's.
        let own = session.row("SELECT DATABASE()", &[]).await?.and_then(|mut row| row.pop()?.text());
        let bare = own.and_then(|own| name.strip_prefix(&own)?.strip_prefix('.').map(str::to_owned));
        if let Some(bare) = bare {
            row = session.row(relation, &[Cell::Text(bare)]).await?;
        }
    }
    match row {
        Some(row) => describe(session, row).await.map(Some),
        None => Ok(None),
    }
}

pub(super) async fn names(session: &mut Session) -> Result<Vec<String>> {
    let sql = "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() \
      AND table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') AND table_name NOT LIKE 'afterimage\\_%' ESCAPE '\\' ORDER BY table_name";
    Ok(session
        .rows(sql, &[])
        .await?
        .into_iter()
        .filter_map(|mut row| row.pop().and_then(Cell::text))
        .collect())
}

async fn describe(session: &mut Session, row: Row) -> Result<Found> {
    let mut texts = row.into_iter().map(|cell| cell.text().unwrap_or_default());
    let mut next = || texts.next().unwrap_or_default();
    let (name, kind, engine) = (next(), next(), next());
    let table = TableName::bare(name);
    match kind.as_str() {
        "BASE TABLE" | "SYSTEM VERSIONED" => {}
        "VIEW" => return Ok(Found::Other(table, "a view")),
        "SEQUENCE" => return Ok(Found::Other(table, "a sequence")),
        "TEMPORARY" => return Ok(Found::Other(table, "a temporary table")),
        _ => return Ok(Found::Other(table, "not a base table")),
    }
    let own = literal(&table.name);
    let columns = session
        .rows(
            &format!(
                "SELECT c.column_name, c.column_type, c.character_set_name, c.collation_name, c.is_nullable, c.column_default, c.is_generated, c.ordinal_position, \
                   EXISTS (SELECT 1 FROM information_schema.check_constraints AS k WHERE k.constraint_schema = DATABASE() AND k.table_name = c.table_name \
                     AND REPLACE(REPLACE(k.check_clause, '`', ''), '\"', '') = 'json_valid(' || c.column_name || ')') \
                 FROM information_schema.columns AS c WHERE c.table_schema = DATABASE() AND c.table_name = {own} ORDER BY c.ordinal_position"
            ),
            &[],
        )
        .await?
        .into_iter()
        .map(column)
        .collect();
    let key = texts_of(
        session,
        &format!(
            "SELECT column_name FROM information_schema.statistics WHERE table_schema = DATABASE() AND table_name = {own} AND index_name = 'PRIMARY' ORDER BY seq_in_index"
        ),
    )
    .await?;
    // Of this database alone: for what refers to it from others, the server would open every table of every database.
    let constrained = texts_of(
        session,
        &format!(
            "SELECT column_name FROM information_schema.statistics WHERE table_schema = DATABASE() AND table_name = {own} AND non_unique = 0 \
             UNION SELECT column_name FROM information_schema.key_column_usage WHERE table_schema = DATABASE() AND table_name = {own} AND referenced_table_name IS NOT NULL \
             UNION SELECT referenced_column_name FROM information_schema.key_column_usage WHERE table_schema = DATABASE() AND referenced_table_schema = DATABASE() AND referenced_table_name = {own}"
        ),
    )
    .await?;
    let cascades = mariadb_cascades::of(session, &table).await?;
    let shape = MariaDbShape {
        engine,
        constrained,
        cascades: cascades.all,
        own: cascades.own,
        unfollowable: cascades.unfollowable,
    };
    Ok(Found::Table(Box::new(Table { name: table, columns, key, shape: Shape::MariaDb(shape) })))
}

async fn texts_of(session: &mut Session, sql: &str) -> Result<Vec<String>> {
    let rows = session.rows(sql, &[]).await?;
    Ok(rows.into_iter().filter_map(|mut row| row.pop().and_then(Cell::text)).collect())
}

fn column(row: Row) -> Column {
    let number = row[7].int().and_then(|n| i32::try_from(n).ok()).unwrap_or_default();
    let json = row[8].int() == Some(1);
    let mut texts = row.into_iter().map(Cell::text);
    let mut next = || texts.next().flatten();
    let (name, declared) = (next().unwrap_or_default(), next().unwrap_or_default());
    let (charset, collation) = (next(), next());
    let nullable = next().as_deref() == Some("YES");
    let default = next();
    let generated = next().as_deref() == Some("ALWAYS");
    let sql_type = match &charset {
        Some(charset) => format!("{declared} CHARACTER SET {charset}"),
        None => declared.clone(),
    };
    let base = declared.split([' ', '(']).next().unwrap_or_default().to_owned();
    let numeric = ["tinyint", "smallint", "mediumint", "int", "bigint", "float", "double", "bit", "year"];
    let bytes = [
        "binary",
        "varbinary",
        "tinyblob",
        "blob",
        "mediumblob",
        "longblob",
        "geometry",
        "point",
        "linestring",
        "polygon",
        "multipoint",
        "multilinestring",
        "multipolygon",
        "geometrycollection",
    ];
    let shown = match base.as_str() {
        _ if json => Shown::Json,
        base if numeric.contains(&base) => Shown::Number,
        base if bytes.contains(&base) => Shown::Bytes,
        "timestamp" => Shown::Timestamp,
        "datetime" => Shown::LocalTimestamp,
        _ => Shown::Text,
    };
    let exact = [
        "tinyint",
        "smallint",
        "mediumint",
        "int",
        "bigint",
        "bit",
        "year",
        "decimal",
        "date",
        "datetime",
        "timestamp",
        "time",
        "uuid",
        "inet4",
        "inet6",
    ];
    Column {
        name,
        collation,
        shown,
        plain_equality: exact.contains(&base.as_str()),
        nullable,
        generated,
        identity: false,
        number,
        fill: fill(default, nullable, &base),
        sql_type,
    }
}

/// The value that rows had when the column was added: a default that is a literal; NULL says nothing of its own. A column
/// that cannot be NULL and has no default got the type's own nothing.
fn fill(default: Option<String>, nullable: bool, base: &str) -> Option<String> {
    let constant = |text: &str| {
        text.starts_with('\'') && text.ends_with('\'') && text.len() > 1
            || text.trim_start_matches('-').parse::<f64>().is_ok()
                && text.contains(|c: char| c.is_ascii_digit())
            || text.starts_with("b'")
            || text.starts_with("x'")
    };
    match default {
        // The server writes a literal with backslashes for what needs them, which our mode does not read.
        Some(text) if constant(&text) && !text.contains('\\') => Some(text),
        Some(_) => None,
        None if nullable => None,
        None => match base {
            "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "float" | "double" | "decimal"
            | "bit" | "year" => Some("0".to_owned()),
            "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" | "binary" | "varbinary"
            | "tinyblob" | "blob" | "mediumblob" | "longblob" => Some("''".to_owned()),
            _ => None,
        },
    }
}

/// The foreign keys of a table, to tables of the same database.
pub(super) async fn references(session: &mut Session, table: &Table) -> Result<Vec<Reference>> {
    let sql = format!(
        "SELECT constraint_name, column_name, referenced_table_name, referenced_column_name FROM information_schema.key_column_usage \
         WHERE table_schema = DATABASE() AND table_name = {} AND referenced_table_schema = DATABASE() ORDER BY constraint_name, ordinal_position",
        literal(&table.name.name)
    );
    let mut last = String::new();
    let mut references: Vec<Reference> = Vec::new();
    for row in session.rows(&sql, &[]).await? {
        let mut texts = row.into_iter().map(|cell| cell.text().unwrap_or_default());
        let mut next = || texts.next().unwrap_or_default();
        let (constraint, own, target, other) = (next(), next(), next(), next());
        match references.last_mut().filter(|_| last == constraint) {
            Some(reference) => {
                reference.columns.push(own);
                reference.target_columns.push(other);
            }
            None => references.push(Reference {
                columns: vec![own],
                target: TableName::bare(target),
                target_columns: vec![other],
            }),
        }
        last = constraint;
    }
    Ok(references)
}
