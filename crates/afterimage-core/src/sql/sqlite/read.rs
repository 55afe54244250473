//! Reading: the records of a row, and a table as of a time.
//!
//! Along a row, ids and dates rise together; so the newest record of a key is the one with the highest id.

use super::Affinity;
use crate::layout::{Field, Layout};
use crate::name::literal;
use crate::sql::expression::{balanced, col, mask_names};
use crate::sql::question::{Given, Question};
use crate::sql::scoped::{beyond, bounded, hex, key_columns, within};
use crate::sql::{AsOf, Bound, Rows, scoped};
use crate::value::Value;

/// The columns of a record's header but for the mask; the context is alias `c`.
pub(super) fn head(alias: &str) -> [String; 8] {
    scoped::head(alias, "TEXT")
}

pub(super) fn header(alias: &str, layout: &Layout) -> String {
    scoped::header(alias, layout, "TEXT")
}

/// Whether a column has no type that values take on: 1 and 1.0 are equal there, and differ.
fn takes_values_as_they_are(field: &Field) -> bool {
    Affinity::of(&field.sql_type) == Affinity::Blob
}

/// A key given as text, against the history's key columns: a column without a type of its own also matches a number.
pub(super) fn key_is(
    layout: &Layout,
    column: impl Fn(&Field) -> String,
    value: impl Fn(usize) -> String,
) -> String {
    layout
        .key_fields()
        .enumerate()
        .map(|(n, field)| {
            let column = column(field);
            let parameter = value(n);
            if takes_values_as_they_are(field) {
                let number = format!("CAST({parameter} AS NUMERIC)");
                format!("({column} = {parameter} OR ({column} = {number} AND CAST({number} AS TEXT) = {parameter}))")
            } else {
                format!("{column} = {parameter}")
            }
        })
        .collect::<Vec<_>>()
        .join(" AND ")
}

/// Whether the key of a record of alias `h` is this one.
pub(super) fn key_given(layout: &Layout, key: &[Value], given: &mut Given<'_>) -> String {
    let names: Vec<String> = key.iter().map(|value| given.key(value, || key_literal(value))).collect();
    key_is(layout, |field| col("h", &field.history), |n| names[n].clone())
}

/// The transaction that may have begun by a time, and ended after it: since they follow one another there is at most one, the first
/// to end after it.
pub(super) fn spanning(at: &str) -> String {
    format!(
        "(SELECT tx, began, last_date FROM afterimage_scope WHERE last_date > began AND last_date > {at} ORDER BY last_date LIMIT 1) AS t WHERE t.began <= {at}"
    )
}

pub(super) fn records_of_key(
    layout: &Layout,
    fields: &[Field],
    key: &[Value],
    bound: Bound,
    settled: &[&Layout],
) -> Question {
    let mut given = Given::beside(&super::Sqlite);
    let is = key_given(layout, key, &mut given);
    let columns: String = fields.iter().map(|field| format!(", {}", col("h", &field.history))).collect();
    let mut within = bounded("h", bound, &mut given);
    if let (Bound::Time(at), false) = (bound, settled.is_empty()) {
        within.push_str(&format!(" AND NOT EXISTS (SELECT 1 FROM {})", spanning(&given.moment(at))));
    }
    let sql = format!(
        "SELECT {}{columns}
FROM {} AS h LEFT JOIN afterimage_scope AS c ON c.id = h.history_scope
WHERE {is} AND {within}
ORDER BY h.history_date, h.history_id",
        header("h", layout),
        layout.history.quoted(),
    );
    given.ask_one(sql, layout, settled, fields)
}

/// A trigger writes the arrival right after the departure: it has the next number.
pub(super) fn arrival_of(layout: &Layout) -> String {
    format!(
        "SELECT h.history_id, {} FROM {} AS h WHERE h.history_id = ?1 + 1 AND h.history_date = ?2 AND h.history_old_key IS NOT NULL",
        key_columns(layout, "h"),
        layout.history.quoted()
    )
}

/// A value of a key as a literal.
pub(super) fn key_literal(value: &Value) -> String {
    match value {
        Value::Bytes(bytes) => hex(bytes),
        other => literal(&other.to_string()),
    }
}

/// A value of a record, as it was shown, as a literal for its column of the history.
pub(in crate::sql) fn recorded_literal(field: &Field, value: &Value) -> String {
    let of_floats = || {
        let declared = field.sql_type.to_ascii_uppercase();
        ["REAL", "FLOA", "DOUB"].iter().any(|part| declared.contains(part))
    };
    match value {
        Value::Number(digits) => digits.clone(),
        Value::Text(text) if text == "Infinity" && of_floats() => "9e999".to_owned(),
        Value::Text(text) if text == "-Infinity" && of_floats() => "-9e999".to_owned(),
        // No literal holds a zero byte.
        Value::Text(text) if text.contains('\0') => format!("CAST({} AS TEXT)", hex(text.as_bytes())),
        other => key_literal(other),
    }
}

/// The rows of alias `row` are those asked for; their key's columns are called as `name` says.
pub(super) fn among(
    layout: &Layout,
    row: &str,
    name: impl Fn(&Field) -> String,
    rows: Rows<'_>,
) -> Option<String> {
    let own = || layout.key_fields().map(|field| col(row, &name(field))).collect::<Vec<_>>().join(", ");
    let by = |source: String| format!("({}) IN (SELECT {} FROM {source})", own(), key_columns(layout, "x"));
    let history = layout.history.quoted();
    match rows {
        Rows::All => None,
        Rows::Keys(keys) => {
            let each: Vec<String> = keys
                .iter()
                .map(|key| {
                    format!("({})", key_is(layout, |field| col(row, &name(field)), |n| key_literal(&key[n])))
                })
                .collect();
            Some(format!("({})", balanced(&each, "OR", "0")))
        }
        Rows::After(key) => {
            let value = |(field, value): (&Field, &Value)| match value {
                // Among values without a type, a number comes before every text.
                Value::Text(digits) if takes_values_as_they_are(field) && digits.parse::<f64>().is_ok() => {
                    format!("CAST({} AS NUMERIC)", literal(digits))
                }
                value => key_literal(value),
            };
            let values: Vec<String> = layout.key_fields().zip(key).map(value).collect();
            Some(format!("({}) > ({})", own(), values.join(", ")))
        }
        // There is one writer at a time: all numbers from its first to its last are its own.
        Rows::TouchedBy(tx) => Some(by(format!(
            "afterimage_scope AS w JOIN {history} AS x ON x.history_id BETWEEN w.first_id AND coalesce(w.last_id, 9223372036854775807) WHERE w.id = {tx} AND w.tx = {tx}"
        ))),
        Rows::Beyond(bound) => Some(by(format!("{history} AS x WHERE {}", beyond("x", bound)))),
    }
}

/// The records that an as-of looks at.
fn condition(as_of: &AsOf<'_>) -> String {
    let AsOf { layout, bound, unfinished, rows, .. } = as_of;
    let mut condition = within("h", *bound);
    if let Some(among) = among(layout, "h", |field| field.history.clone(), *rows) {
        condition.push_str(" AND ");
        condition.push_str(&among);
    }
    condition.push_str(&scoped::not_of("h", unfinished));
    condition
}

/// The creations less the deletions until then: the key's index tells both, and the order does not matter.
pub(super) fn count_as_of(as_of: &AsOf<'_>) -> String {
    format!(
        "SELECT coalesce(sum(CASE h.history_type WHEN '+' THEN 1 WHEN '-' THEN -1 END), 0) FROM {} AS h WHERE {}",
        as_of.layout.history.quoted(),
        condition(as_of),
    )
}

pub(super) fn as_of(as_of: &AsOf<'_>) -> String {
    let AsOf { layout, fields, sparse, .. } = as_of;
    let history = layout.history.quoted();
    let condition = condition(as_of);
    let key = key_columns(layout, "h");
    let order = key_columns(layout, "l");
    if as_of.first {
        return first_as_of(as_of);
    }
    let rest = fields.iter().filter(|field| !layout.is_key(field));
    // A condition of an outer query on the key reaches into `n` only by way of its own columns, which hold any of equal keys.
    let mut columns = named(layout.key_fields(), |field| {
        col(if takes_values_as_they_are(field) { "l" } else { "n" }, &field.history)
    });
    if !sparse {
        columns.extend(named(rest, |field| col("l", &field.history)));
        return format!(
            "SELECT {}
FROM (SELECT {key}, max(h.history_id) AS history_last FROM {history} AS h WHERE {condition} GROUP BY {key}) AS n
JOIN {history} AS l ON l.history_id = n.history_last
WHERE l.history_type <> '-'
ORDER BY {order}",
            columns.join(", ")
        );
    }
    let rest: Vec<&Field> = rest.collect();
    let newest: String = rest
        .iter()
        .map(|field| {
            format!(
                ",\n    max(CASE WHEN {} THEN h.history_id END) AS history_f{}",
                mask_names("h", field),
                field.bit
            )
        })
        .collect();
    columns.extend(named(rest.into_iter(), |field| {
        format!(
            "(SELECT {} FROM {history} AS h WHERE h.history_id = n.history_f{})",
            col("h", &field.history),
            field.bit
        )
    }));
    format!(
        "SELECT {}
FROM (SELECT {key}, max(h.history_id) AS history_last{newest}
  FROM {history} AS h WHERE {condition} GROUP BY {key}) AS n
JOIN {history} AS l ON l.history_id = n.history_last
WHERE l.history_type <> '-'
ORDER BY {order}",
        columns.join(", ")
    )
}

/// The same, row by row in the order of the key's index: each row's newest record is told by looking for a newer one. Of
/// the whole table that would take longer than grouping does, but it stops as soon as nobody asks for more.
fn first_as_of(as_of: &AsOf<'_>) -> String {
    let AsOf { layout, fields, sparse, .. } = as_of;
    let history = layout.history.quoted();
    let same: Vec<String> = layout
        .key_fields()
        .map(|field| format!("{} = {}", col("h", &field.history), col("l", &field.history)))
        .collect();
    let newest = |value: &str, names: &str| {
        format!(
            "(SELECT {value} FROM {history} AS h WHERE {} AND {}{names} ORDER BY h.history_date DESC, h.history_id DESC LIMIT 1)",
            same.join(" AND "),
            condition(as_of)
        )
    };
    let rest = fields.iter().filter(|field| !layout.is_key(field));
    let mut columns = named(layout.key_fields(), |field| col("l", &field.history));
    columns.extend(named(rest, |field| {
        if *sparse {
            newest(&col("h", &field.history), &format!(" AND {}", mask_names("h", field)))
        } else {
            col("l", &field.history)
        }
    }));
    let among = among(layout, "l", |field| field.history.clone(), as_of.rows);
    format!(
        "SELECT {}
FROM {history} AS l
WHERE {}l.history_type <> '-' AND l.history_id = {}
ORDER BY {}",
        columns.join(", "),
        among.map(|among| format!("{among} AND ")).unwrap_or_default(),
        newest("h.history_id", ""),
        key_columns(layout, "l")
    )
}

fn named<'f>(fields: impl Iterator<Item = &'f Field>, expression: impl Fn(&Field) -> String) -> Vec<String> {
    fields.map(|field| format!("{} AS {}", expression(field), crate::Quoted::new(&field.name))).collect()
}

/// The state of now from the records, for comparing with the live table.
pub(super) fn replay(layout: &Layout, sparse: bool) -> String {
    as_of(&AsOf {
        layout,
        fields: &layout.fields,
        sparse,
        bound: Bound::Now,
        unfinished: &[],
        rows: Rows::All,
        first: false,
    })
}
