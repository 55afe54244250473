//! SQLite: `PRAGMA table_list`, `table_xinfo` and `index_xinfo`.

use afterimage_core::name::literal;
use afterimage_core::schema::{IndexPart, Reference, Shape, SqliteShape, UniqueIndex};
use afterimage_core::sql::sqlite::Affinity;
use afterimage_core::value::Shown;
use afterimage_core::{Column, Table, TableName};

use super::{Found, sqlite_index};
use crate::error::Result;
use crate::session::{Cell, Row, Session};

pub(super) async fn find(session: &mut Session, name: &str) -> Result<Option<Found>> {
    let bare = name.strip_prefix("main.").filter(|bare| !bare.is_empty());
    for candidate in [Some(name), bare].into_iter().flatten() {
        let list = format!(
            "SELECT schema, name, type, wr, strict FROM pragma_table_list WHERE lower(name) = lower({}) ORDER BY schema = 'temp'",
            literal(candidate)
        );
        if let Some(row) = session.row(&list, &[]).await? {
            return describe(session, row).await.map(Some);
        }
    }
    Ok(None)
}

pub(super) async fn names(session: &mut Session) -> Result<Vec<String>> {
    let sql = "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
      AND name NOT LIKE 'afterimage\\_%' ESCAPE '\\' ORDER BY name";
    Ok(session
        .rows(sql, &[])
        .await?
        .into_iter()
        .filter_map(|mut row| row.pop().and_then(Cell::text))
        .collect())
}

async fn describe(session: &mut Session, row: Row) -> Result<Found> {
    let without_rowid = row[3].int() == Some(1);
    let strict = row[4].int() == Some(1);
    let mut texts = row.into_iter().filter_map(Cell::text);
    let (schema, name, kind) = (
        texts.next().unwrap_or_default(),
        texts.next().unwrap_or_default(),
        texts.next().unwrap_or_default(),
    );
    let table = TableName::bare(name);
    let other = match (schema.as_str(), kind.as_str()) {
        ("temp", _) => Some("a temporary table"),
        (_, "view") => Some("a view"),
        (_, "virtual") => Some("a virtual table"),
        (_, "shadow") => Some("the shadow of a virtual table"),
        ("main", _) => None,
        _ => Some("in an attached database"),
    };
    if let Some(what) = other {
        return Ok(Found::Other(table, what));
    }
    let info = format!(
        "SELECT cid, name, type, \"notnull\", dflt_value, pk, hidden FROM pragma_table_xinfo({}) WHERE hidden <> 1 ORDER BY cid",
        literal(&table.name)
    );
    let mut columns = Vec::new();
    let mut key: Vec<(i64, String)> = Vec::new();
    let mut defaults = Vec::new();
    for row in session.rows(&info, &[]).await? {
        if let (Some(1), Some(name), Some(default)) =
            (row[3].int(), row[1].clone().text(), row[4].clone().text())
        {
            // Outside a table's own text, "x" is a name.
            let text = default.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
            defaults.push((name, text.map_or(default.clone(), |text| literal(&text.replace("\"\"", "\"")))));
        }
        let (column, place) = column(row, strict);
        if place > 0 {
            key.push((place, column.name.clone()));
        }
        columns.push(column);
    }
    key.sort();
    let rowid_alias = !without_rowid
        && key.len() == 1
        && columns.iter().any(|c| c.name == key[0].1 && c.sql_type.eq_ignore_ascii_case("integer"));
    if rowid_alias || without_rowid {
        // The rowid is never NULL, and a table without rowid keeps its key NOT NULL by itself.
        columns
            .iter_mut()
            .filter(|c| key.iter().any(|(_, name)| *name == c.name))
            .for_each(|c| c.nullable = false);
    }
    let collates = collates(session, &table).await?;
    if collates {
        // Plain equality would follow a collation, which numbers have none of but a text in their column has.
        columns.iter_mut().for_each(|column| column.plain_equality = false);
    }
    let unique = unique_indexes(session, &table, collates).await?;
    let overtaken = overtaken(session, &table).await?;
    let shape = SqliteShape { without_rowid, rowid_alias, unique, defaults, overtaken };
    let key = key.into_iter().map(|(_, name)| name).collect();
    Ok(Found::Table(Box::new(Table { name: table, columns, key, shape: Shape::Sqlite(shape) })))
}

/// Whether any column may have a collation of its own: no pragma tells.
async fn collates(session: &mut Session, table: &TableName) -> Result<bool> {
    let sql =
        "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?1 AND sql LIKE '%collate%'";
    Ok(session.int(sql, &[Cell::Text(table.name.clone())]).await?.unwrap_or_default() > 0)
}

/// Whether the cascades of an update reach the table again, or another one where a trigger may.
async fn overtaken(session: &mut Session, table: &TableName) -> Result<bool> {
    let sql = "WITH RECURSIVE acts(child, parent) AS (
        SELECT lower(m.name), lower(k.\"table\") FROM sqlite_schema AS m, pragma_foreign_key_list(m.name) AS k
        WHERE m.type = 'table' AND k.on_update NOT IN ('NO ACTION', 'RESTRICT')
      ), reached(name) AS (
        SELECT child FROM acts WHERE parent = lower(?1)
        UNION SELECT acts.child FROM acts JOIN reached ON acts.parent = reached.name
      )
      SELECT count(*) FROM reached WHERE name = lower(?1) OR EXISTS (SELECT 1 FROM sqlite_schema AS m
        WHERE m.type = 'trigger' AND lower(m.tbl_name) = reached.name AND m.name NOT LIKE 'afterimage\\_%' ESCAPE '\\')";
    Ok(session.int(sql, &[Cell::Text(table.name.clone())]).await?.unwrap_or_default() > 0)
}

/// The foreign keys of a table. One that names no columns of the other means its key.
pub(super) async fn references(session: &mut Session, table: &Table) -> Result<Vec<Reference>> {
    let sql = format!(
        "SELECT f.id, f.\"from\", f.\"table\", coalesce(f.\"to\", (SELECT x.name FROM pragma_table_xinfo(f.\"table\") AS x WHERE x.pk = f.seq + 1)) \
         FROM pragma_foreign_key_list({}) AS f ORDER BY f.id, f.seq",
        literal(&table.name.name)
    );
    let mut last = None;
    let mut references: Vec<Reference> = Vec::new();
    for row in session.rows(&sql, &[]).await? {
        let constraint = row[0].int();
        let mut texts = row.into_iter().skip(1).map(|cell| cell.text().unwrap_or_default());
        let mut next = || texts.next().unwrap_or_default();
        let (own, target, other) = (next(), next(), next());
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

fn column(row: Row, strict: bool) -> (Column, i64) {
    let number = row[0].int().and_then(|n| i32::try_from(n).ok()).unwrap_or_default();
    let nullable = row[3].int() != Some(1);
    let place = row[5].int().unwrap_or_default();
    let generated = matches!(row[6].int(), Some(2 | 3));
    let mut texts = row.into_iter().skip(1);
    let name = texts.next().and_then(Cell::text).unwrap_or_default();
    let declared = texts.next().and_then(Cell::text).unwrap_or_default();
    let default = texts.nth(1).and_then(Cell::text);
    let sql_type = history_type(&declared, strict);
    let plain_equality = matches!(Affinity::of(&sql_type), Affinity::Integer | Affinity::Real);
    let column = Column {
        name,
        sql_type,
        collation: None,
        shown: Shown::Dynamic,
        plain_equality,
        nullable,
        generated,
        identity: false,
        number,
        fill: default.filter(|text| sqlite_index::is_constant(text)),
    };
    (column, place)
}

/// The type to declare in the history: the same where it is plain words, else one of the same affinity. In a STRICT
/// table `ANY` keeps every value as it is, which in our history takes no type at all.
fn history_type(declared: &str, strict: bool) -> String {
    if strict && declared.eq_ignore_ascii_case("any") {
        return String::new();
    }
    let plain = declared.chars().all(|c| c.is_ascii_alphanumeric() || " _(),".contains(c));
    let keyword = [
        "GENERATED",
        "ALWAYS",
        "PRIMARY",
        "REFERENCES",
        "CHECK",
        "UNIQUE",
        "DEFAULT",
        "COLLATE",
        "CONSTRAINT",
        "NOT",
        "AS",
    ];
    let words_ok = !declared
        .split([' ', '(', ')', ','])
        .any(|word| keyword.iter().any(|k| k.eq_ignore_ascii_case(word)));
    if plain && words_ok && declared.matches('(').count() == declared.matches(')').count() {
        return declared.to_owned();
    }
    Affinity::of(declared).sql_type().to_owned()
}

/// The unique indexes; also that of the key, where the key may have another collation than its columns.
async fn unique_indexes(
    session: &mut Session,
    table: &TableName,
    collates: bool,
) -> Result<Vec<UniqueIndex>> {
    let but_the_keys = if collates { "" } else { "AND l.origin <> 'pk' " };
    let list = format!(
        "SELECT l.name, s.sql FROM pragma_index_list({}) AS l LEFT JOIN sqlite_schema AS s ON s.type = 'index' AND s.name = l.name \
         WHERE l.\"unique\" {but_the_keys}ORDER BY l.seq",
        literal(&table.name)
    );
    let mut indexes = Vec::new();
    for row in session.rows(&list, &[]).await? {
        let mut cells = row.into_iter().map(Cell::text);
        let name = cells.next().flatten().unwrap_or_default();
        let definition = cells.next().flatten().map(|sql| sqlite_index::parse(&sql));
        let info = format!(
            "SELECT name, coll FROM pragma_index_xinfo({}) WHERE \"key\" = 1 ORDER BY seqno",
            literal(&name)
        );
        let mut parts = Vec::new();
        for (n, row) in session.rows(&info, &[]).await?.into_iter().enumerate() {
            let mut cells = row.into_iter().map(Cell::text);
            let column = cells.next().flatten();
            let collation = cells.next().flatten().unwrap_or_else(|| "BINARY".to_owned());
            parts.push(match (column, &definition) {
                (Some(name), _) => IndexPart::Column { name, collation },
                (None, Some(definition)) => {
                    IndexPart::Expression(definition.parts.get(n).cloned().unwrap_or_default())
                }
                (None, None) => continue,
            });
        }
        indexes
            .push(UniqueIndex { parts, predicate: definition.and_then(|definition| definition.predicate) });
    }
    Ok(indexes)
}
