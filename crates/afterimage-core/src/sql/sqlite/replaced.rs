//! Rows that `INSERT OR REPLACE` and `UPDATE OR REPLACE` delete without firing a delete trigger.
//!
//! Before such a statement the rows it may replace are copied into a pending table; afterwards those that are gone
//! get their record, and a row replaced under its own key becomes an update. Whether the statement replaces, ignores
//! or fails is not known before, which is why nothing is recorded then.
//!
//! What is pending is not simply cleared before a statement: that statement may be one of a cascade, or of a user's
//! trigger, in the middle of another whose rows are pending still. What a finished statement left there does no harm:
//! its rows are there, so they are not taken for replaced, and are copied anew before they can be. The oldest of it
//! goes, so that it stays a handful.

use super::baseline::rowid;
use super::capture::{any_differs, create_trigger, history_key_is, record_full, too_old, update_mask};
use super::history::{full_row, insert_into};
use super::{TICK, differs, overtaken, same_key};
use crate::layout::{Field, Layout};
use crate::name::Quoted;
use crate::schema::{IndexPart, Table, UniqueIndex};
use crate::sql::Script;
use crate::sql::expression::{balanced, col, full_mask};

/// The pending table.
pub(super) fn pending(layout: &Layout) -> String {
    format!("afterimage_pending_{}", layout.id)
}

/// What `history_done` says of a row: 0 it may be replaced, 1 it was dealt with, 2 its deletion is recorded;
/// of a row that is being updated see `overtaken`.
pub(super) fn create_pending(layout: &Layout, table: &Table) -> Script {
    let columns: String = layout
        .fields
        .iter()
        .map(|field| format!(", {} {}", Quoted::new(&field.name), field.sql_type).trim_end().to_owned())
        .collect();
    let arrivals = overtaken::arrival_columns(layout, table);
    vec![format!(
        "CREATE TABLE {} (history_n INTEGER PRIMARY KEY, history_done INTEGER{columns}{arrivals})",
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
    let mut terms: Vec<String> = deciding_columns(layout, table)
        .map(|column| match layout.field(column) {
            Some(field) => differs(field, "OLD", "NEW"),
            None => {
                let (old, new) = (col("OLD", column), col("NEW", column));
                format!("({old} IS NOT {new} COLLATE BINARY OR typeof({old}) IS NOT typeof({new}))")
            }
        })
        .collect();
    terms.extend(hidden_rowid(table).map(|name| format!("OLD.{name} <> NEW.{name}")));
    balanced(&terms, "OR", "0")
}

/// The rowid of a table whose key is another: it can be written by name, and so replace a row.
fn hidden_rowid(table: &Table) -> Option<&'static str> {
    rowid(table).filter(|_| !table.sqlite().is_some_and(|shape| shape.rowid_alias))
}

/// The triggers that copy what may be replaced.
///
/// `then` is what else has to happen before the statement goes on.
pub(super) fn before(layout: &Layout, table: &Table, then: &[String]) -> Script {
    let pending = pending(layout);
    let alias = alias(layout, table);
    let from = format!("{} AS {alias}", layout.table.quoted());
    let conflicts = conflicts(&alias, layout, table);
    let clear = format!(
        "DELETE FROM {pending} WHERE history_done IN (1, 2) OR history_n <= (SELECT max(history_n) FROM {pending}) - {};",
        2 * conflicts.len() + 2
    );
    let copy = |condition: &str, but: &str| {
        [
            format!(
                "DELETE FROM {pending} WHERE history_done = 0 AND EXISTS (SELECT 1 FROM {from} WHERE {condition}{but} AND {same});",
                same = same_key(layout, &alias, &pending),
            ),
            format!(
                "INSERT INTO {pending} (history_done, {columns})\nSELECT 0, {values} FROM {from}\nWHERE {condition}{but};",
                columns = Quoted::list(layout.fields.iter().map(|field| field.name.as_str())),
                values = full_row(layout, &alias),
            ),
        ]
    };
    let any_conflict: String = conflicts
        .iter()
        .map(|condition| format!("\n  OR EXISTS (SELECT 1 FROM {from} WHERE {condition})"))
        .collect();
    let when_insert = format!("EXISTS (SELECT 1 FROM {pending}){any_conflict}");
    let mut on_insert = vec![clear.clone()];
    on_insert.extend(conflicts.iter().flat_map(|condition| copy(condition, "")));
    on_insert.extend_from_slice(then);
    let not_itself = format!(" AND {}", any_differs(layout.key_fields(), &alias, "OLD"));
    let mut on_update = overtaken::catch_up_before(layout, table);
    on_update.push(clear);
    on_update.extend(overtaken::remember(layout, table));
    on_update.extend(conflicts.iter().flat_map(|condition| copy(condition, &not_itself)));
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

/// What the table is called where its rows are looked through: a partial index may name it in its condition.
fn alias(layout: &Layout, table: &Table) -> String {
    let unique = table.sqlite().map(|shape| shape.unique.as_slice()).unwrap_or_default();
    let named = unique.iter().any(|index| index.predicate.as_ref().is_some_and(|text| text.contains('.')));
    if named { layout.table.quoted().to_string() } else { "t".to_owned() }
}

/// A column of the new row as it will stand: before the insert, `NEW` still has a NULL where `OR REPLACE` will put the
/// default.
fn of_new_row(column: &str, table: &Table) -> String {
    let new = col("NEW", column);
    let defaults = table.sqlite().map(|shape| shape.defaults.as_slice()).unwrap_or_default();
    match defaults.iter().find(|(name, _)| name == column) {
        Some((_, default)) => format!("coalesce({new}, {default})"),
        None => new,
    }
}

/// One condition per unique index, the key first: that row `t` stands where `NEW` wants to be.
fn conflicts(t: &str, layout: &Layout, table: &Table) -> Vec<String> {
    let key = layout
        .key_fields()
        .map(|field| format!("{} = {}", col(t, &field.name), of_new_row(&field.name, table)))
        .collect::<Vec<_>>()
        .join(" AND ");
    let rowid = hidden_rowid(table).map(|name| format!("{t}.{name} = NEW.{name}"));
    let unique = table.sqlite().map(|shape| shape.unique.as_slice()).unwrap_or_default();
    std::iter::once(key).chain(rowid).chain(unique.iter().map(|index| conflict(t, index, table))).collect()
}

/// Whether the new row is in a partial index does not matter: to copy a row too many is harmless.
fn conflict(t: &str, index: &UniqueIndex, table: &Table) -> String {
    let mut terms: Vec<String> = index
        .parts
        .iter()
        .map(|part| match part {
            IndexPart::Column { name, collation } => {
                format!("{} = {} COLLATE {collation}", col(t, name), of_new_row(name, table))
            }
            IndexPart::Expression(expression) => format!("({expression}) = {}", of_new(expression, table)),
        })
        .collect();
    terms.extend(index.predicate.as_ref().map(|predicate| format!("({predicate})")));
    terms.join(" AND ")
}

/// An expression over the table's columns, evaluated for the new row. The columns of NEW have no affinity; below the
/// table's own they take theirs.
fn of_new(expression: &str, table: &Table) -> String {
    let columns: Vec<&str> = table.columns.iter().map(|c| c.name.as_str()).collect();
    let new: Vec<String> = columns.iter().map(|name| of_new_row(name, table)).collect();
    format!(
        "(SELECT {expression} FROM (SELECT {} FROM {} WHERE 0 UNION ALL SELECT {}))",
        Quoted::list(columns),
        table.name.quoted(),
        new.join(", ")
    )
}

/// Records what was replaced: what is pending and fulfils the condition made of its being gone. The numbers follow
/// the state's, which then moves past them.
pub(super) fn record_victims(layout: &Layout, condition: impl Fn(&str) -> String) -> Script {
    let pending = pending(layout);
    let gone = format!(
        "NOT EXISTS (SELECT 1 FROM {} AS t WHERE {})",
        layout.table.quoted(),
        same_key(layout, "t", "p")
    );
    vec![
        format!(
            "SELECT RAISE(ABORT, {})
WHERE (SELECT at FROM afterimage_state) IS NOT NULL AND EXISTS (SELECT 1 FROM {pending} AS p JOIN {} AS h ON {}
  WHERE p.history_done = 0 AND {} AND h.history_date > (SELECT at FROM afterimage_state));",
            too_old(layout),
            layout.history.quoted(),
            history_key_is(layout, "h", "p"),
            condition(&gone),
        ),
        format!(
            "{}
SELECT s.history_id + row_number() OVER (ORDER BY p.history_n), coalesce(s.at, s.history_date), '-', s.scope, {}, NULL, {}
FROM {pending} AS p, afterimage_state AS s
WHERE p.history_done = 0 AND {};",
            insert_into(layout),
            full_mask(layout).join(", "),
            full_row(layout, "p"),
            condition(&gone),
        ),
        format!(
            "UPDATE afterimage_state SET history_id = history_id + 1 + (SELECT count(*) FROM {pending} WHERE history_done = 0);"
        ),
    ]
}

/// An update that moves a row onto another replaces that one, whose key is then there still.
pub(super) fn record_victims_of_update(layout: &Layout) -> Script {
    let pending = pending(layout);
    let mut script = vec![format!(
        "DELETE FROM {pending} WHERE history_done = 0 AND {};",
        same_key(layout, &pending, "OLD")
    )];
    let same = binary_same_key(layout, "p", "NEW");
    script.extend(record_victims(layout, |gone| format!("({same} OR {gone})")));
    script
}

/// An insert after which rows may be gone: those get their deletion first, then the new row its record.
pub(super) fn insert_replacing(layout: &Layout) -> String {
    let pending = pending(layout);
    let same = binary_same_key(layout, "p", "NEW");
    let changed =
        if layout.record_unchanged { "1".to_owned() } else { any_differs(&layout.fields, "p", "NEW") };
    // A row replaced under its own key is an update, not a victim.
    let victims = record_victims(layout, |gone| format!("NOT ({same}) AND {gone}"));
    let replaced = format!(
        "{}
SELECT s.history_id, coalesce(s.at, s.history_date), '~', s.scope, {}, NULL, {}
FROM {pending} AS p, afterimage_state AS s
WHERE p.history_done = 0 AND {same} AND {changed};",
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
    body.extend([replaced, created, done(layout, "NEW")]);
    create_trigger(
        layout,
        "insert_replacing",
        "AFTER INSERT",
        Some(&format!("EXISTS (SELECT 1 FROM {pending})")),
        &body,
    )
}

/// What is pending has been dealt with, as far as it concerns this row or is gone. It stays until the next statement,
/// so that the order of our triggers does not matter.
pub(super) fn done(layout: &Layout, row: &str) -> String {
    let pending = pending(layout);
    let same = binary_same_key(layout, &pending, row);
    format!(
        "UPDATE {pending} SET history_done = CASE WHEN {same} THEN 1 ELSE 2 END\nWHERE history_done = 0 AND ({same} OR NOT EXISTS (SELECT 1 FROM {} AS t WHERE {}));",
        layout.table.quoted(),
        same_key(layout, "t", &pending),
    )
}

pub(super) fn binary_same_key(layout: &Layout, a: &str, b: &str) -> String {
    layout
        .key_fields()
        .map(|field| format!("{} IS {} COLLATE BINARY", col(a, &field.name), col(b, &field.name)))
        .collect::<Vec<_>>()
        .join(" AND ")
}
