//! Rows that `INSERT OR REPLACE` and `UPDATE OR REPLACE` delete without firing a delete trigger.
//!
//! Before such a statement the rows it may replace are copied into a pending table; afterwards those that are gone
//! get their record, and a row replaced under its own key becomes an update. Whether the statement replaces, ignores
//! or fails is not known before, which is why nothing is recorded then.

use super::capture::{any_differs, create_trigger, record_full, update_mask};
use super::history::{full_row, insert_into};
use super::{TICK, differs, same_key};
use crate::layout::{Field, Layout};
use crate::name::Quoted;
use crate::schema::{IndexPart, Table, UniqueIndex};
use crate::sql::Script;
use crate::sql::expression::{balanced, col, full_mask};

/// The pending table.
pub(super) fn pending(layout: &Layout) -> String {
    format!("afterimage_pending_{}", layout.id)
}

pub(super) fn create_pending(layout: &Layout) -> Script {
    let columns: String = layout
        .fields
        .iter()
        .map(|field| format!(", {} {}", Quoted::new(&field.name), field.sql_type).trim_end().to_owned())
        .collect();
    vec![format!(
        "CREATE TABLE {} (history_n INTEGER PRIMARY KEY, history_done INTEGER{columns})",
        pending(layout)
    )]
}

/// The columns whose update can move a row, or put it where another stands.
fn deciding_columns<'a>(layout: &'a Layout, table: &'a Table) -> impl Iterator<Item = &'a str> {
    let unique = table.sqlite().map(|shape| shape.unique.as_slice()).unwrap_or_default();
    let any = unique.iter().any(|index| {
        index.predicate.is_some() || index.parts.iter().any(|part| matches!(part, IndexPart::Expression(_)))
    });
    let among = move |column: &str| {
        any || layout.key.iter().any(|name| name == column)
            || unique.iter().flat_map(|index| &index.parts).any(|part| match part {
                IndexPart::Column { name, .. } => name == column,
                IndexPart::Expression(_) => true,
            })
    };
    table.columns.iter().map(|column| column.name.as_str()).filter(move |column| among(column))
}

/// Whether an update of this field may move or replace a row.
pub(super) fn is_deciding(layout: &Layout, table: &Table, field: &Field) -> bool {
    deciding_columns(layout, table).any(|column| column == field.name)
}

/// Whether an update may move or replace a row; columns that are not tracked may decide too.
pub(super) fn may_replace(layout: &Layout, table: &Table) -> String {
    let terms: Vec<String> = deciding_columns(layout, table)
        .map(|column| match layout.field(column) {
            Some(field) => differs(field, "OLD", "NEW"),
            None => {
                let (old, new) = (col("OLD", column), col("NEW", column));
                format!("({old} IS NOT {new} COLLATE BINARY OR typeof({old}) IS NOT typeof({new}))")
            }
        })
        .collect();
    balanced(&terms, "OR", "0")
}

/// The triggers that copy what may be replaced.
///
/// `then` is what else has to happen before the statement goes on.
pub(super) fn before(layout: &Layout, table: &Table, then: &[String]) -> Script {
    let pending = pending(layout);
    let clear = format!("DELETE FROM {pending};");
    let conflicts = conflicts(layout, table);
    let copy = |condition: &str, but: &str| {
        format!(
            "INSERT INTO {pending} (history_done, {columns})\nSELECT 0, {values} FROM {table} AS t\nWHERE {condition}{but} AND NOT EXISTS (SELECT 1 FROM {pending} AS p WHERE {same});",
            columns = Quoted::list(layout.fields.iter().map(|field| field.name.as_str())),
            values = full_row(layout, "t"),
            table = layout.table.quoted(),
            same = same_key(layout, "p", "t"),
        )
    };
    let any_conflict: String = conflicts
        .iter()
        .map(|condition| {
            format!("\n  OR EXISTS (SELECT 1 FROM {} AS t WHERE {condition})", layout.table.quoted())
        })
        .collect();
    let when_insert = format!("EXISTS (SELECT 1 FROM {pending}){any_conflict}");
    let mut on_insert = vec![clear.clone()];
    on_insert.extend(conflicts.iter().map(|condition| copy(condition, "")));
    on_insert.extend_from_slice(then);
    let not_itself = format!(" AND {}", any_differs(layout.key_fields(), "t", "OLD"));
    let mut on_update = vec![clear];
    on_update.extend(conflicts.iter().map(|condition| copy(condition, &not_itself)));
    on_update.extend_from_slice(then);
    vec![
        create_trigger(layout, "before_insert", "BEFORE INSERT", Some(&when_insert), &on_insert),
        create_trigger(
            layout,
            "before_update",
            "BEFORE UPDATE",
            Some(&may_replace(layout, table)),
            &on_update,
        ),
    ]
}

/// One condition per unique index, the key first: that row `t` stands where `NEW` wants to be.
fn conflicts(layout: &Layout, table: &Table) -> Vec<String> {
    let key = layout
        .key_fields()
        .map(|field| format!("{} = {}", col("t", &field.name), col("NEW", &field.name)))
        .collect::<Vec<_>>()
        .join(" AND ");
    let unique = table.sqlite().map(|shape| shape.unique.as_slice()).unwrap_or_default();
    std::iter::once(key).chain(unique.iter().map(|index| conflict(index, table))).collect()
}

fn conflict(index: &UniqueIndex, table: &Table) -> String {
    let mut terms: Vec<String> = index
        .parts
        .iter()
        .map(|part| match part {
            IndexPart::Column { name, collation } => {
                format!("{} = {} COLLATE {collation}", col("t", name), col("NEW", name))
            }
            IndexPart::Expression(expression) => format!("({expression}) = {}", of_new(expression, table)),
        })
        .collect();
    if let Some(predicate) = &index.predicate {
        terms.push(format!("({predicate})"));
        terms.push(of_new(predicate, table));
    }
    terms.join(" AND ")
}

/// An expression over the table's columns, evaluated for the new row.
fn of_new(expression: &str, table: &Table) -> String {
    let columns: Vec<String> = table
        .columns
        .iter()
        .map(|c| format!("{} AS {}", col("NEW", &c.name), Quoted::new(&c.name)))
        .collect();
    format!("(SELECT {expression} FROM (SELECT {}))", columns.join(", "))
}

/// Records what was replaced under another key. The numbers follow the state's, which then moves past them.
pub(super) fn record_victims(layout: &Layout) -> Script {
    let pending = pending(layout);
    vec![
        format!(
            "{}\nSELECT s.history_id + p.history_n, coalesce(s.at, s.history_date), '-', s.scope, {}, NULL, {}\nFROM {pending} AS p, afterimage_state AS s\nWHERE p.history_done = 0 AND ({} OR NOT EXISTS (SELECT 1 FROM {} AS t WHERE {}));",
            insert_into(layout),
            full_mask(layout).join(", "),
            full_row(layout, "p"),
            binary_same_key(layout, "p", "NEW"),
            layout.table.quoted(),
            same_key(layout, "t", "p"),
        ),
        format!(
            "UPDATE afterimage_state SET history_id = history_id + 1 + (SELECT coalesce(max(history_n), 0) FROM {pending});"
        ),
    ]
}

/// An insert after which rows may be gone: those get their deletion first, then the new row its record.
pub(super) fn insert_replacing(layout: &Layout) -> String {
    let pending = pending(layout);
    let same = binary_same_key(layout, "p", "NEW");
    let changed =
        if layout.record_unchanged { "1".to_owned() } else { any_differs(&layout.fields, "p", "NEW") };
    let victims = record_victims(layout).into_iter().map(|statement| {
        // A row replaced under its own key is an update, not a victim.
        statement.replace(&format!("({same} OR NOT EXISTS"), &format!("(NOT ({same}) AND NOT EXISTS"))
    });
    let replaced = format!(
        "{}\nSELECT s.history_id, coalesce(s.at, s.history_date), '~', s.scope, {}, NULL, {}\nFROM {pending} AS p, afterimage_state AS s\nWHERE p.history_done = 0 AND {same} AND {changed};",
        insert_into(layout),
        update_mask(layout, "p", "NEW", true).join(", "),
        full_row(layout, "NEW"),
    );
    let created = record_full(
        layout,
        "+",
        "NEW",
        "NULL",
        &format!("\nWHERE NOT EXISTS (SELECT 1 FROM {pending} AS p WHERE p.history_done = 0 AND {same})"),
    );
    let mut body = vec![TICK.to_owned()];
    body.extend(victims);
    body.extend([replaced, created, done(layout)]);
    create_trigger(
        layout,
        "insert_replacing",
        "AFTER INSERT",
        Some(&format!("EXISTS (SELECT 1 FROM {pending})")),
        &body,
    )
}

/// What is pending has been dealt with. It stays until the next statement, so that the order of our triggers does
/// not matter.
pub(super) fn done(layout: &Layout) -> String {
    format!("UPDATE {} SET history_done = 1;", pending(layout))
}

fn binary_same_key(layout: &Layout, a: &str, b: &str) -> String {
    layout
        .key_fields()
        .map(|field| format!("{} IS {} COLLATE BINARY", col(a, &field.name), col(b, &field.name)))
        .collect::<Vec<_>>()
        .join(" AND ")
}
