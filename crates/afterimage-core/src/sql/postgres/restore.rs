//! Writing a state back: typed, from the records to the table, without a detour by text.

use super::history::kept;
use super::live;
use super::read::{among, key_among, key_value, within};
use crate::Result;
use crate::layout::{Field, Layout};
use crate::name::{Quoted, TableName, literal};
use crate::schema::Column;
use crate::sql::expression::{balanced, col};
use crate::sql::restore::{inserted, then};
use crate::sql::{Bound, Dialect as _, Rows, WriteBack, check_tx};
use crate::value::Value;

/// The live row, alias `t`, is the state's, alias `s`.
fn is_the_row(back: &WriteBack<'_>) -> String {
    if let Some(key) = back.now_at {
        return key_among(back.layout, "t", |field| field.name.clone(), &[key.to_vec()]);
    }
    same_key(back.layout, back.key)
}

pub(super) fn same_key(layout: &Layout, key: &[String]) -> String {
    layout
        .key_fields()
        .zip(key)
        .map(|(field, then)| format!("{} = {}", col("t", &field.name), col("s", then)))
        .collect::<Vec<_>>()
        .join(" AND ")
}

/// The row of alias `row` is none of those that are left as they are.
fn is_not_left(back: &WriteBack<'_>, row: &str, name: impl Fn(&Field) -> String) -> String {
    if back.except.is_empty() {
        return String::new();
    }
    format!(" AND NOT {}", key_among(back.layout, row, name, back.except))
}

/// The stored image differs. The cast takes a domain to the type it stands on, which is what the history holds.
fn differs(field: &Field, then: &str) -> String {
    format!("ROW({}::{})::record *<> ROW({})::record", col("t", &field.name), field.sql_type, col("s", then))
}

pub(super) fn update_from(back: &WriteBack<'_>) -> String {
    let set: Vec<String> = back
        .columns
        .iter()
        .map(|(field, then)| format!("{} = {}", Quoted::new(&field.name), col("s", then)))
        .collect();
    let any: Vec<String> = back.columns.iter().map(|(field, then)| differs(field, then)).collect();
    format!(
        "UPDATE {} AS t SET {}
FROM (
{}
) AS s
WHERE {} AND ({}){}",
        live(back.layout),
        set.join(", "),
        back.state,
        is_the_row(back),
        balanced(&any, "OR", "false"),
        is_not_left(back, "t", |field| field.name.clone()),
    )
}

/// A value that somebody typed, as the column's type.
fn given(column: &Column, value: Option<&str>) -> String {
    value.map_or_else(
        || "NULL".to_owned(),
        |text| format!("CAST({}::text AS {})", literal(text), column.sql_type),
    )
}

pub(super) fn insert_from(back: &WriteBack<'_>) -> String {
    let (names, values) = inserted(back, given);
    format!(
        "INSERT INTO {} ({names}) OVERRIDING SYSTEM VALUE
SELECT {values} FROM (
{}
) AS s
WHERE NOT EXISTS (SELECT 1 FROM {} AS t WHERE {}){}",
        back.layout.table.quoted(),
        back.state,
        live(back.layout),
        same_key(back.layout, back.key),
        is_not_left(back, "s", then(back)),
    )
}

/// The rows of alias `t` that these records are about and the state does not have.
fn beyond(back: &WriteBack<'_>, rows: Rows<'_>) -> String {
    let own = |field: &Field| field.name.clone();
    format!(
        "{} AS t WHERE {} AND NOT EXISTS (SELECT 1 FROM (
{}
) AS s WHERE {}){}",
        live(back.layout),
        among(back.layout, "t", own, rows).unwrap_or_else(|| "true".to_owned()),
        back.state,
        same_key(back.layout, back.key),
        is_not_left(back, "t", own),
    )
}

pub(super) fn delete_beyond(back: &WriteBack<'_>, rows: Rows<'_>) -> String {
    format!("DELETE FROM {}", beyond(back, rows))
}

pub(super) fn count_beyond(back: &WriteBack<'_>, rows: Rows<'_>) -> String {
    format!("SELECT count(*) FROM {}", beyond(back, rows))
}

pub(super) fn move_row(layout: &Layout, from: &[Value], to: &[Value]) -> String {
    let set: Vec<String> = layout
        .key_fields()
        .zip(to)
        .map(|(field, value)| {
            format!("{} = {}", Quoted::new(&field.name), key_value(field, &literal(&value.to_string())))
        })
        .collect();
    format!(
        "UPDATE {} AS t SET {} WHERE {}",
        live(layout),
        set.join(", "),
        key_among(layout, "t", |field| field.name.clone(), &[from.to_vec()])
    )
}

/// The newest record of each row that some records are of, where `condition` on it, alias `n`, holds.
fn newest_of(layout: &Layout, rows: &str, condition: &str) -> String {
    let columns =
        |alias: &str| layout.key_fields().map(|field| col(alias, &field.history)).collect::<Vec<_>>();
    let same: Vec<String> =
        columns("x").iter().zip(columns("k")).map(|(own, other)| format!("{own} = {other}")).collect();
    format!(
        "SELECT {}, n.history_id FROM (SELECT {} FROM {history} AS h WHERE {rows}) AS k
CROSS JOIN LATERAL (SELECT x.history_date, x.history_id, x.history_tx FROM {history} AS x WHERE {} ORDER BY x.history_date DESC, x.history_id DESC LIMIT 1) AS n
WHERE {condition}",
        super::Postgres.micros("n.history_date"),
        columns("h").join(", "),
        same.join(" AND "),
        history = layout.history.quoted(),
    )
}

fn key_columns(layout: &Layout) -> String {
    layout.key_fields().map(|field| col("h", &field.history)).collect::<Vec<_>>().join(", ")
}

pub(super) fn overwritten(layout: &Layout, tx: &str) -> Result<String> {
    let tx = check_tx(tx)?;
    let rows = format!("h.history_tx = {tx}::bigint GROUP BY {}", key_columns(layout));
    Ok(newest_of(layout, &rows, &format!("n.history_tx <> {tx}::bigint")))
}

pub(super) fn contested(layout: &Layout, beyond: Bound) -> String {
    let rows = format!(
        "NOT {} GROUP BY {} HAVING count(DISTINCT h.history_tx) > 1",
        within("h", beyond),
        key_columns(layout)
    );
    newest_of(layout, &rows, "true")
}

pub(super) fn count_collateral(layout: &Layout, own: &str, rows: Rows<'_>) -> Result<String> {
    let among = among(layout, "h", |field| field.history.clone(), rows).unwrap_or_else(|| "true".to_owned());
    Ok(format!(
        "SELECT count(*) FROM {} AS h WHERE h.history_tx = {}::bigint AND NOT {among}",
        layout.history.quoted(),
        check_tx(own)?
    ))
}

pub(super) fn live_row(layout: &Layout, fields: &[Field], key: &[Value]) -> String {
    let columns: Vec<String> =
        fields.iter().map(|field| format!("{} AS {}", kept(field, "t"), Quoted::new(&field.name))).collect();
    format!(
        "SELECT {} FROM {} AS t WHERE {}",
        columns.join(", "),
        live(layout),
        key_among(layout, "t", |field| field.name.clone(), &[key.to_vec()])
    )
}

pub(super) fn row_exists(table: &TableName, columns: &[&Column], values: &[Value]) -> String {
    let terms: Vec<String> = columns
        .iter()
        .zip(values)
        .map(|(column, value)| {
            format!("{} = {}", col("t", &column.name), given(column, Some(&value.to_string())))
        })
        .collect();
    format!("SELECT (EXISTS (SELECT 1 FROM {} AS t WHERE {}))::int", table.quoted(), terms.join(" AND "))
}
