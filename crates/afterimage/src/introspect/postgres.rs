//! PostgreSQL: `pg_attribute` and `format_type`, with domains resolved.

use afterimage_core::schema::{PostgresShape, Reference, Shape};
use afterimage_core::value::Shown;
use afterimage_core::{Column, Table, TableName};

use super::Found;
use crate::error::Result;
use crate::session::{Cell, Row, Session};

const RELATION: &str = "SELECT c.oid::bigint, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text, c.relispartition, \
  CASE WHEN c.relkind = 'r' THEN pg_catalog.pg_relation_size(c.oid) ELSE 0 END \
  FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'i', 'c')";

/// Finds what a user means: the whole text as a name on the search path, else `schema.table`.
pub(super) async fn find(session: &mut Session, name: &str) -> Result<Option<Found>> {
    let visible = format!("{RELATION} AND c.relname = $1 AND pg_catalog.pg_table_is_visible(c.oid)");
    let mut row = session.row(&visible, &[Cell::Text(name.to_owned())]).await?;
    for (at, _) in name.match_indices('.') {
        if row.is_none() {
            row = qualified(session, &name[..at], &name[at + 1..]).await?;
        }
    }
    match row {
        Some(row) => describe(session, row).await.map(Some),
        None => Ok(None),
    }
}

pub(super) async fn exact(session: &mut Session, name: &TableName) -> Result<Option<Found>> {
    match qualified(session, name.schema.as_deref().unwrap_or("public"), &name.name).await? {
        Some(row) => describe(session, row).await.map(Some),
        None => Ok(None),
    }
}

async fn qualified(session: &mut Session, schema: &str, name: &str) -> Result<Option<Row>> {
    let sql = format!("{RELATION} AND n.nspname = $1 AND c.relname = $2");
    session.row(&sql, &[Cell::Text(schema.to_owned()), Cell::Text(name.to_owned())]).await
}

pub(super) async fn names(session: &mut Session) -> Result<Vec<String>> {
    let sql = "SELECT CASE WHEN pg_catalog.pg_table_is_visible(c.oid) THEN c.relname ELSE n.nspname || '.' || c.relname END::text \
      FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
      WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't' \
      AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'afterimage', 'pg_toast') ORDER BY 1";
    Ok(session
        .rows(sql, &[])
        .await?
        .into_iter()
        .filter_map(|mut row| row.pop().and_then(Cell::text))
        .collect())
}

async fn describe(session: &mut Session, row: Row) -> Result<Found> {
    let oid = row[0].int().unwrap_or_default();
    let bytes = row[6].int().unwrap_or_default();
    let is_partition = row[5].int() == Some(1);
    let mut texts = row.into_iter().skip(1).map(|cell| cell.text().unwrap_or_default());
    let mut next = || texts.next().unwrap_or_default();
    let name = TableName::new(next(), next());
    let (kind, persistence) = (next(), next());
    let other = match (kind.as_str(), persistence.as_str()) {
        ("v", _) => Some("a view"),
        ("m", _) => Some("a materialised view"),
        ("f", _) => Some("a foreign table"),
        ("S" | "i" | "c", _) => Some("a sequence, an index or a type"),
        (_, "t") => Some("a temporary table"),
        _ if is_partition => {
            Some("a partition (track the partitioned table instead: its partitions come along)")
        }
        _ => None,
    };
    if let Some(what) = other {
        return Ok(Found::Other(name, what));
    }
    let id = [Cell::Int(oid)];
    // Whatever the path, a type's name says the same: qualified, unless it is PostgreSQL's own.
    let path = session.row("SELECT pg_catalog.current_setting('search_path')", &[]).await?;
    session.run("SET LOCAL search_path = pg_catalog").await?;
    let columns = session.rows(COLUMNS, &id).await?.into_iter().map(column).collect();
    let restore = path.and_then(|mut row| row.pop()).unwrap_or(Cell::Null);
    session.rows("SELECT pg_catalog.set_config('search_path', $1, true)", &[restore]).await?;
    let key = session.rows(KEY, &id).await?;
    let deferrable_key = key.first().is_some_and(|row| row[0].int() == Some(0));
    let key = key.into_iter().filter_map(|mut row| row.pop().and_then(Cell::text)).collect();
    let partitions = session
        .rows(PARTITIONS, &id)
        .await?
        .into_iter()
        .filter_map(|row| {
            let mut texts = row.into_iter().filter_map(Cell::text);
            Some(TableName::new(texts.next()?, texts.next()?))
        })
        .collect();
    let shape = PostgresShape {
        oid: u32::try_from(oid).unwrap_or_default(),
        partitions,
        partitioned: kind == "p",
        inherits: session.int(INHERITS, &id).await?.unwrap_or_default() > 0,
        written_again: session.int(WRITTEN_AGAIN, &id).await?.unwrap_or_default() > 0,
        overtaken: session.int(OVERTAKEN, &id).await?.unwrap_or_default() > 0,
        deferrable_key,
        bytes,
    };
    Ok(Found::Table(Box::new(Table { name, columns, key, shape: Shape::Postgres(shape) })))
}

/// A column with the type its domain stands on. `format_type` qualifies whatever the search path does not show, so
/// the text is good only under the same path; we ask under `pg_catalog` alone.
const COLUMNS: &str = "WITH RECURSIVE base AS ( \
    SELECT a.attnum, a.atttypid AS typid, a.atttypmod AS typmod FROM pg_catalog.pg_attribute AS a \
    WHERE a.attrelid = $1::bigint::oid AND a.attnum > 0 AND NOT a.attisdropped \
  UNION ALL \
    SELECT b.attnum, t.typbasetype, t.typtypmod FROM base AS b JOIN pg_catalog.pg_type AS t ON t.oid = b.typid WHERE t.typtype = 'd' \
  ) \
  SELECT a.attname::text, pg_catalog.format_type(b.typid, b.typmod), \
    CASE WHEN a.attcollation <> t.typcollation AND a.attcollation <> 0 THEN pg_catalog.quote_ident(cn.nspname) || '.' || pg_catalog.quote_ident(c.collname) END, \
    t.typname::text, t.typtype::text, (t.typcategory = 'A')::int, coalesce(c.collisdeterministic, true)::int, (NOT a.attnotnull)::int, a.attnum::int, \
    (a.attgenerated <> '')::int, (a.attidentity = 'a')::int, \
    CASE WHEN a.atthasmissing THEN pg_catalog.quote_literal((pg_catalog.array_to_json(a.attmissingval::text::text[])->>0)) || '::' || pg_catalog.format_type(b.typid, b.typmod) END \
  FROM base AS b JOIN pg_catalog.pg_type AS t ON t.oid = b.typid AND t.typtype <> 'd' \
  JOIN pg_catalog.pg_attribute AS a ON a.attrelid = $1::bigint::oid AND a.attnum = b.attnum \
  LEFT JOIN pg_catalog.pg_collation AS c ON c.oid = a.attcollation \
  LEFT JOIN pg_catalog.pg_namespace AS cn ON cn.oid = c.collnamespace \
  ORDER BY a.attnum";

/// The primary key, or else a unique index whose columns cannot be NULL.
const KEY: &str = "WITH chosen AS ( \
    SELECT i.indexrelid, i.indrelid, i.indkey, i.indnkeyatts, i.indimmediate FROM pg_catalog.pg_index AS i \
    WHERE i.indrelid = $1::bigint::oid AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL AND (i.indisprimary OR (i.indimmediate AND i.indisvalid \
      AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) AND NOT a.attnotnull))) \
    ORDER BY i.indisprimary DESC, i.indisreplident DESC, i.indexrelid LIMIT 1) \
  SELECT c.indimmediate::int, a.attname::text FROM chosen AS c, pg_catalog.generate_series(0, c.indnkeyatts - 1) AS n \
  JOIN pg_catalog.pg_attribute AS a ON true WHERE a.attrelid = c.indrelid AND a.attnum = c.indkey[n] ORDER BY n";

const PARTITIONS: &str = "SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_partition_tree($1::bigint::oid) AS p \
  JOIN pg_catalog.pg_class AS c ON c.oid = p.relid JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
  WHERE p.level > 0 ORDER BY p.level, 1, 2";

const INHERITS: &str = "SELECT count(*) FROM pg_catalog.pg_inherits AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid \
  WHERE (i.inhparent = $1::bigint::oid OR i.inhrelid = $1::bigint::oid) AND NOT c.relispartition";

/// Somebody else's row triggers AFTER writes of this table; or any trigger on a table that its cascades reach.
const WRITTEN_AGAIN: &str = "WITH RECURSIVE reached AS ( \
    SELECT $1::bigint::oid AS oid \
  UNION \
    SELECT f.conrelid FROM reached AS r JOIN pg_catalog.pg_constraint AS f ON f.confrelid = r.oid AND f.contype = 'f' \
    WHERE f.confdeltype IN ('c', 'n', 'd') OR f.confupdtype IN ('c', 'n', 'd') \
  ), self AS ( \
    SELECT $1::bigint::oid AS oid UNION SELECT relid::oid FROM pg_catalog.pg_partition_tree($1::bigint::oid) \
  ) \
  SELECT count(*) FROM pg_catalog.pg_trigger AS t \
  WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' AND t.tgname NOT LIKE '!afterimage%' AND NOT t.tginitdeferred \
  AND ((t.tgrelid IN (SELECT oid FROM self) AND t.tgtype & 1 = 1 AND t.tgtype & 66 = 0) \
    OR (t.tgrelid IN (SELECT oid FROM reached) AND t.tgrelid NOT IN (SELECT oid FROM self)))";

/// How many triggers there are that can write a row of the table between what a foreign key does to it and the row's own
/// triggers: those on any table of the cascades in which it takes part, itself included.
const OVERTAKEN: &str = "WITH RECURSIVE acts AS ( \
    SELECT f.conrelid, f.confrelid FROM pg_catalog.pg_constraint AS f \
    WHERE f.contype = 'f' AND (f.confdeltype IN ('c', 'n', 'd') OR f.confupdtype IN ('c', 'n', 'd')) \
  ), causes AS ( \
    SELECT a.confrelid AS oid FROM acts AS a WHERE a.conrelid = $1::bigint::oid \
  UNION \
    SELECT a.confrelid FROM causes AS c JOIN acts AS a ON a.conrelid = c.oid \
  ), reached AS ( \
    SELECT oid FROM causes \
  UNION \
    SELECT a.conrelid FROM reached AS r JOIN acts AS a ON a.confrelid = r.oid \
  ) \
  SELECT count(*) FROM pg_catalog.pg_trigger AS t WHERE t.tgrelid IN (SELECT oid FROM reached) \
  AND NOT t.tgisinternal AND t.tgenabled <> 'D' AND t.tgname NOT LIKE '!afterimage%' AND NOT t.tginitdeferred \
  AND t.tgtype & 66 = 0";

fn column(row: Row) -> Column {
    let flag = |cell: &Cell| cell.int() == Some(1);
    let (array, deterministic, nullable) = (flag(&row[5]), flag(&row[6]), flag(&row[7]));
    let (generated, identity) = (flag(&row[9]), flag(&row[10]));
    let number = row[8].int().and_then(|n| i32::try_from(n).ok()).unwrap_or_default();
    let mut cells = row.into_iter();
    let mut text = || cells.next().and_then(Cell::text);
    let (name, sql_type, collation) = (text().unwrap_or_default(), text().unwrap_or_default(), text());
    let (type_name, type_type) = (text().unwrap_or_default(), text().unwrap_or_default());
    let fill = cells.nth(6).and_then(Cell::text);
    Column {
        name,
        sql_type,
        collation,
        shown: if array { Shown::Json } else { shown(&type_name) },
        plain_equality: !array && (type_type == "e" || plain_equality(&type_name, deterministic)),
        nullable,
        generated,
        identity,
        number,
        fill: if array { None } else { fill },
    }
}

fn shown(type_name: &str) -> Shown {
    match type_name {
        "int2" | "int4" | "int8" | "float4" | "float8" | "oid" => Shown::Number,
        "bool" => Shown::Bool,
        "bytea" => Shown::Bytes,
        "timestamptz" => Shown::Timestamp,
        "timestamp" => Shown::LocalTimestamp,
        "json" | "jsonb" => Shown::Json,
        _ => Shown::Text,
    }
}

/// Types whose `=` holds only between equal images.
fn plain_equality(type_name: &str, deterministic: bool) -> bool {
    match type_name {
        "bool" | "int2" | "int4" | "int8" | "oid" | "date" | "time" | "timestamp" | "timestamptz"
        | "uuid" | "bytea" => true,
        "text" | "varchar" => deterministic,
        _ => false,
    }
}

/// Foreign keys: the columns of both sides, paired, one row a pair.
const REFERENCES: &str = "SELECT f.oid::bigint, a.attname::text, n.nspname::text, c.relname::text, b.attname::text \
  FROM pg_catalog.pg_constraint AS f CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(f.conkey), pg_catalog.unnest(f.confkey)) WITH ORDINALITY AS k (own, other, place) \
  JOIN pg_catalog.pg_attribute AS a ON a.attrelid = f.conrelid AND a.attnum = k.own \
  JOIN pg_catalog.pg_attribute AS b ON b.attrelid = f.confrelid AND b.attnum = k.other \
  JOIN pg_catalog.pg_class AS c ON c.oid = f.confrelid JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
  WHERE f.conrelid = $1::bigint::oid AND f.contype = 'f' AND f.conparentid = 0 ORDER BY f.oid, k.place";

/// The foreign keys of a table.
pub(super) async fn references(session: &mut Session, table: &Table) -> Result<Vec<Reference>> {
    let oid = table.postgres().map(|shape| i64::from(shape.oid)).unwrap_or_default();
    let mut last = None;
    let mut references: Vec<Reference> = Vec::new();
    for row in session.rows(REFERENCES, &[Cell::Int(oid)]).await? {
        let constraint = row[0].int();
        let mut texts = row.into_iter().skip(1).map(|cell| cell.text().unwrap_or_default());
        let mut next = || texts.next().unwrap_or_default();
        let (own, schema, name, other) = (next(), next(), next(), next());
        match references.last_mut().filter(|_| last == constraint) {
            Some(reference) => {
                reference.columns.push(own);
                reference.target_columns.push(other);
            }
            None => references.push(Reference {
                columns: vec![own],
                target: TableName::new(schema, name),
                target_columns: vec![other],
            }),
        }
        last = constraint;
    }
    Ok(references)
}
