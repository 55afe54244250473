//! Writing a state back: from the records to the table, as it is stored.

use super::kept;
use super::read::{among, key_is, key_literal};
use crate::Result;
use crate::layout::{Field, Layout};
use crate::name::{Quoted, TableName, literal};
use crate::schema::Column;
use crate::sql::expression::{balanced, col};
use crate::sql::restore::{inserted, then};
use crate::sql::{Rows, WriteBack, check_tx, scoped};
use crate::value::Value;

/// The live row, alias `t`, is the state's, alias `s`.
fn is_the_row(back: &WriteBack<'_>) -> String {
    if let Some(key) = back.now_at {
        return key_is(back.layout, |field| col("t", &field.name), |n| key_literal(&key[n]));
    }
    same_key(back.layout, back.key)
}

pub(super) fn same_key(layout: &Layout, key: &[String]) -> String {
    layout
        .key_fields()
        .zip(key)
        .map(|(field, then)| {
            let (live, state) = (col("t", &field.name), col("s", then));
            if field.plain_equality {
                format!("{live} = {state}")
            } else {
                format!("{live} = {state} AND {live} = {state} COLLATE BINARY")
            }
        })
        .collect::<Vec<_>>()
        .join(" AND ")
}

/// The row of alias `row` is none of those that are left as they are.
fn is_not_left(back: &WriteBack<'_>, row: &str, name: impl Fn(&Field) -> String) -> String {
    if back.except.is_empty() {
        return String::new();
    }
    let left = among(back.layout, row, name, Rows::Keys(back.except)).unwrap_or_default();
    format!(" AND NOT {left}")
}

fn differs(field: &Field, then: &str) -> String {
    let (live, state) = (col("t", &field.name), col("s", then));
    format!("({live} IS NOT {state} COLLATE BINARY OR typeof({live}) IS NOT typeof({state}))")
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
        back.layout.table.quoted(),
        set.join(", "),
        back.state,
        is_the_row(back),
        balanced(&any, "OR", "0"),
        is_not_left(back, "t", |field| field.name.clone()),
    )
}

/// A value that somebody typed; the column's affinity makes it what it is to be.
fn given(_column: &Column, value: Option<&str>) -> String {
    value.map_or_else(|| "NULL".to_owned(), literal)
}

pub(super) fn insert_from(back: &WriteBack<'_>) -> String {
    let (names, values) = inserted(back, given);
    let table = back.layout.table.quoted();
    format!(
        "INSERT INTO {table} ({names})
SELECT {values} FROM (
{}
) AS s
WHERE NOT EXISTS (SELECT 1 FROM {table} AS t WHERE {}){}",
        back.state,
        same_key(back.layout, back.key),
        is_not_left(back, "s", then(back)),
    )
}

/// The rows of alias `t` that these records are about and the state does not have.
fn beyond(back: &WriteBack<'_>, rows: Rows<'_>) -> String {
    let own = |field: &Field| field.name.clone();
    let live: Vec<String> = back
        .layout
        .key_fields()
        .map(|field| {
            format!("{}{}", col("t", &field.name), if field.plain_equality { "" } else { " COLLATE BINARY" })
        })
        .collect();
    let then: Vec<String> = back.key.iter().map(|name| col("s", name)).collect();
    // A list of the state's keys is worked out once; looked for row by row, the whole state would be each time.
    format!(
        "{} AS t WHERE {} AND ({}) NOT IN (SELECT {} FROM (
{}
) AS s){}",
        back.layout.table.quoted(),
        among(back.layout, "t", own, rows).unwrap_or_else(|| "1".to_owned()),
        live.join(", "),
        then.join(", "),
        back.state,
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
        .map(|(field, value)| format!("{} = {}", Quoted::new(&field.name), key_literal(value)))
        .collect();
    format!(
        "UPDATE {} AS t SET {} WHERE {}",
        layout.table.quoted(),
        set.join(", "),
        key_is(layout, |field| col("t", &field.name), |n| key_literal(&from[n])),
    )
}

pub(super) fn overwritten(layout: &Layout, tx: &str) -> Result<String> {
    let touched = among(layout, "h", |field| field.history.clone(), Rows::TouchedBy(check_tx(tx)?));
    Ok(scoped::overwritten(layout, &touched.unwrap_or_default(), tx))
}

pub(super) fn count_collateral(layout: &Layout, own: &str, rows: Rows<'_>) -> Result<String> {
    let among = among(layout, "h", |field| field.history.clone(), rows).unwrap_or_else(|| "1".to_owned());
    Ok(format!(
        "SELECT count(*) FROM {} AS h JOIN afterimage_scope AS c ON c.id = h.history_scope WHERE c.tx = {} AND NOT ({among})",
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
        layout.table.quoted(),
        key_is(layout, |field| col("t", &field.name), |n| key_literal(&key[n])),
    )
}

pub(super) fn row_exists(table: &TableName, columns: &[&Column], values: &[Value]) -> String {
    let terms: Vec<String> = columns
        .iter()
        .zip(values)
        .map(|(column, value)| format!("{} = {}", col("t", &column.name), key_literal(value)))
        .collect();
    format!("SELECT EXISTS (SELECT 1 FROM {} AS t WHERE {})", table.quoted(), terms.join(" AND "))
}
