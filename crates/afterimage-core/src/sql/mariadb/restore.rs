//! Writing a state back: from the records to the table, as it is stored.
//!
//! A statement whose triggers write a history cannot read that history. So the state, and the keys of the rows that are
//! meant, are laid out in temporary tables first.

use super::read::{among, key_is, of_tx};
use super::value::key_literal;
use super::{kept, keys_are_equal, values_differ};
use crate::Result;
use crate::layout::{Field, Layout};
use crate::name::{Quoted, TableName, literal};
use crate::schema::Column;
use crate::sql::expression::{balanced, col};
use crate::sql::restore::{inserted, then};
use crate::sql::{Rows, Script, WriteBack, check_tx, scoped};
use crate::value::Value;

const STATE: &str = "SELECT * FROM afterimage_then";

pub(super) fn stage(back: &WriteBack<'_>, rows: Rows<'_>) -> Script {
    // Looked up by key, row by row; the state of one row that lives elsewhere now has none.
    let lay_out = |name: &str, key: String, query: &str| {
        let key = if key.is_empty() { key } else { format!(" (KEY history_key ({key}))") };
        [
            format!("DROP TEMPORARY TABLE IF EXISTS afterimage_{name}"),
            format!("CREATE TEMPORARY TABLE afterimage_{name}{key} AS\n{query}"),
        ]
    };
    let key = Quoted::list(back.key.iter().map(String::as_str));
    let mut script = lay_out("then", key, back.state).to_vec();
    let history = back.layout.history.quoted();
    let touched = match rows {
        Rows::All | Rows::Keys(_) | Rows::After(_) => None,
        Rows::TouchedBy(tx) => Some(of_tx("x", tx)),
        Rows::Beyond(bound) => Some(scoped::beyond("x", bound)),
    };
    if let Some(condition) = touched {
        let keys = scoped::key_columns(back.layout, "x");
        script.extend(lay_out(
            "touched",
            Quoted::list(back.layout.key_fields().map(|field| field.history.as_str())),
            &format!("SELECT DISTINCT {keys} FROM {history} AS x WHERE {condition}"),
        ));
    }
    script
}

/// The rows of alias `t` whose keys were laid out.
fn is_meant(back: &WriteBack<'_>, rows: Rows<'_>) -> String {
    let own = |field: &Field| field.name.clone();
    match rows {
        Rows::All | Rows::Keys(_) | Rows::After(_) => {
            among(back.layout, "t", own, rows).unwrap_or_else(|| "TRUE".to_owned())
        }
        Rows::TouchedBy(_) | Rows::Beyond(_) => {
            let same =
                keys_are_equal(back.layout, |field| col("t", &field.name), |field| col("x", &field.history));
            format!("EXISTS (SELECT 1 FROM afterimage_touched AS x WHERE {same})")
        }
    }
}

/// The live row, alias `t`, is the state's, alias `s`.
fn is_the_row(back: &WriteBack<'_>) -> String {
    if let Some(key) = back.now_at {
        return key_is(back.layout, |field| col("t", &field.name), key);
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
                format!("{live} = {state} AND BINARY {live} = BINARY {state}")
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
    values_differ(field, &col("t", &field.name), &col("s", then))
}

pub(super) fn update_from(back: &WriteBack<'_>) -> String {
    let set: Vec<String> = back
        .columns
        .iter()
        .map(|(field, then)| format!("{} = {}", col("t", &field.name), col("s", then)))
        .collect();
    let any: Vec<String> = back.columns.iter().map(|(field, then)| differs(field, then)).collect();
    format!(
        "UPDATE {} AS t JOIN (
{}
) AS s ON {}
SET {}
WHERE ({}){}",
        back.layout.table.quoted(),
        STATE,
        is_the_row(back),
        set.join(", "),
        balanced(&any, "OR", "FALSE"),
        is_not_left(back, "t", |field| field.name.clone()),
    )
}

/// A value that somebody typed; the column's type makes it what it is to be.
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
        STATE,
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
        back.layout.table.quoted(),
        is_meant(back, rows),
        STATE,
        same_key(back.layout, back.key),
        is_not_left(back, "t", own),
    )
}

pub(super) fn delete_beyond(back: &WriteBack<'_>, rows: Rows<'_>) -> String {
    format!("DELETE t FROM {}", beyond(back, rows))
}

pub(super) fn count_beyond(back: &WriteBack<'_>, rows: Rows<'_>) -> String {
    format!("SELECT count(*) FROM {}", beyond(back, rows))
}

pub(super) fn move_row(layout: &Layout, from: &[Value], to: &[Value]) -> String {
    let set: Vec<String> = layout
        .key_fields()
        .zip(to)
        .map(|(field, value)| {
            format!("{} = {}", Quoted::new(&field.name), key_literal(&field.sql_type, field.shown, value))
        })
        .collect();
    format!(
        "UPDATE {} AS t SET {} WHERE {}",
        layout.table.quoted(),
        set.join(", "),
        key_is(layout, |field| col("t", &field.name), from),
    )
}

pub(super) fn overwritten(layout: &Layout, tx: &str) -> Result<String> {
    let touched = among(layout, "h", |field| field.history.clone(), Rows::TouchedBy(check_tx(tx)?));
    Ok(scoped::overwritten(layout, &touched.unwrap_or_default(), tx))
}

pub(super) fn count_collateral(layout: &Layout, own: &str, rows: Rows<'_>) -> Result<String> {
    let among = among(layout, "h", |field| field.history.clone(), rows).unwrap_or_else(|| "TRUE".to_owned());
    Ok(format!(
        "SELECT count(*) FROM {} AS h WHERE {} AND NOT ({among})",
        layout.history.quoted(),
        of_tx("h", check_tx(own)?)
    ))
}

pub(super) fn live_row(layout: &Layout, fields: &[Field], key: &[Value]) -> String {
    let columns: Vec<String> =
        fields.iter().map(|field| format!("{} AS {}", kept(field, "t"), Quoted::new(&field.name))).collect();
    format!(
        "SELECT {} FROM {} AS t WHERE {}",
        columns.join(", "),
        layout.table.quoted(),
        key_is(layout, |field| col("t", &field.name), key),
    )
}

pub(super) fn row_exists(table: &TableName, columns: &[&Column], values: &[Value]) -> String {
    let terms: Vec<String> = columns
        .iter()
        .zip(values)
        .map(|(column, value)| {
            format!("{} = {}", col("t", &column.name), key_literal(&column.sql_type, column.shown, value))
        })
        .collect();
    format!("SELECT EXISTS (SELECT 1 FROM {} AS t WHERE {})", table.quoted(), terms.join(" AND "))
}
