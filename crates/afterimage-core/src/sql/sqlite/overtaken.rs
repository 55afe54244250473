//! An update that its own cascades overtake.
//!
//! SQLite carries the cascades of an update out before it fires the triggers of the row that caused them. Where they
//! come back to that row, the record of its second state would be written before that of the first. So there an
//! update that may cascade leaves what it found, and the key that it goes to, in the pending table (`history_done` 3);
//! the update that overtakes it finds it there, records it first, and says so (4): its own trigger then has nothing
//! left to do. Only tables that foreign keys lead back to have any of this.

use super::TICK;
use super::capture::{any_differs, key_json, record_full, update_mask};
use super::history::{full_row, insert_into};
use super::replaced::{binary_same_key, pending};
use crate::Storage;
use crate::layout::{Field, Layout};
use crate::name::Quoted;
use crate::schema::Table;
use crate::sql::Script;
use crate::sql::expression::col;

fn possible(table: &Table) -> bool {
    table.sqlite().is_some_and(|shape| shape.overtaken)
}

fn arrivals(layout: &Layout) -> impl Iterator<Item = (String, &Field)> {
    layout.key_fields().enumerate().map(|(n, field)| (format!("history_to_{n}"), field))
}

/// The columns of the pending table for the key that a row goes to.
pub(super) fn arrival_columns(layout: &Layout, table: &Table) -> String {
    if !possible(table) {
        return String::new();
    }
    arrivals(layout)
        .map(|(name, field)| format!(", {name} {}", field.sql_type).trim_end().to_owned())
        .collect()
}

/// That the row `p` of the pending table was going to the key of `row`.
fn going_to(layout: &Layout, p: &str, row: &str) -> String {
    arrivals(layout)
        .map(|(name, field)| format!("{p}.{name} IS {} COLLATE BINARY", col(row, &field.name)))
        .collect::<Vec<_>>()
        .join(" AND ")
}

/// Before an update that may cascade: what it finds, and where it goes.
pub(super) fn remember(layout: &Layout, table: &Table) -> Script {
    if !possible(table) {
        return Script::new();
    }
    let (to, new): (Vec<String>, Vec<String>) =
        arrivals(layout).map(|(name, field)| (name, col("NEW", &field.name))).unzip();
    vec![format!(
        "INSERT INTO {} (history_done, {}, {})\nVALUES (3, {}, {});",
        pending(layout),
        Quoted::list(layout.fields.iter().map(|field| field.name.as_str())),
        to.join(", "),
        full_row(layout, "OLD"),
        new.join(", "),
    )]
}

/// Records the update that this write of the same row overtakes: `OLD` is how that one left the row. An update that
/// never came about, because its statement ignored it, left no other row behind.
pub(super) fn catch_up(layout: &Layout, table: &Table) -> Script {
    if !possible(table) {
        return Script::new();
    }
    let pending = pending(layout);
    let moved = any_differs(layout.key_fields(), "p", "OLD");
    let changed = any_differs(&layout.fields, "p", "OLD");
    let there = super::same_key(layout, "t", "p");
    let overtaken = format!(
        "p.history_done = 3 AND {} AND {changed} AND (NOT {moved} OR NOT EXISTS (SELECT 1 FROM {} AS t WHERE {there}))",
        going_to(layout, "p", "OLD"),
        layout.table.quoted(),
    );
    let next = format!(
        "UPDATE afterimage_state SET history_id = history_id + 1 WHERE EXISTS (SELECT 1 FROM {pending} WHERE history_done = 3);"
    );
    let from = |condition: &str| format!(", {pending} AS p WHERE {overtaken} AND {condition}");
    let full = layout.storage == Storage::Snapshot;
    // A row that is still under its old key never left it: its statement ignored that update.
    let ignored = format!(
        "DELETE FROM {pending} WHERE history_done = 3 AND {} AND NOT ({});",
        binary_same_key(layout, &pending, "OLD"),
        going_to(layout, &pending, "OLD"),
    );
    vec![
        ignored,
        record_full(layout, "-", "p", "NULL", &from(&moved)),
        next.clone(),
        record_full(layout, "+", "OLD", &key_json(layout, "p"), &from(&moved)),
        format!(
            "{}\nSELECT s.history_id, coalesce(s.at, s.history_date), '~', s.scope, {}, NULL, {}\nFROM afterimage_state AS s{};",
            insert_into(layout),
            update_mask(layout, "p", "OLD", full).join(", "),
            super::capture::changed_row(layout, "p", "OLD").join(", "),
            from(&format!("NOT {moved}")),
        ),
        next,
        format!(
            "UPDATE {pending} SET history_done = 4 WHERE history_n IN (SELECT p.history_n FROM {pending} AS p WHERE {overtaken});"
        ),
    ]
}

/// The same before an update that may itself be overtaken.
pub(super) fn catch_up_before(layout: &Layout, table: &Table) -> Script {
    let mut script = catch_up(layout, table);
    if !script.is_empty() {
        script.insert(0, TICK.to_owned());
    }
    script
}

/// That this update was recorded by the one that overtook it.
pub(super) fn recorded(layout: &Layout, table: &Table) -> Option<String> {
    possible(table).then(|| {
        format!(
            "EXISTS (SELECT 1 FROM {} AS o WHERE o.history_done = 4 AND {} AND {})",
            pending(layout),
            binary_same_key(layout, "o", "OLD"),
            going_to(layout, "o", "NEW"),
        )
    })
}

/// What was remembered of this update is not needed any more.
pub(super) fn forget(layout: &Layout, table: &Table) -> Script {
    if !possible(table) {
        return Script::new();
    }
    let pending = pending(layout);
    vec![format!(
        "DELETE FROM {pending} WHERE history_done IN (3, 4) AND {} AND {};",
        binary_same_key(layout, &pending, "OLD"),
        going_to(layout, &pending, "NEW"),
    )]
}
