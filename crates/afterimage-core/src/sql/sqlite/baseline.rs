//! The baseline: `+` records for the rows that were there before.
//!
//! A small table gets it in the transaction that installs capture. A large one gets it in batches, each a short
//! transaction of its own; until the last, three more triggers write a row's baseline record just before its first
//! change. Their numbers come from a range set aside at the install, so that a row's baseline record always comes
//! before its other records. One writer at a time makes both exact, and a killed run can simply go on.

use super::CLOCK;
use super::capture::{create_trigger, history_key_is};
use super::history::{full_row, insert_into};
use crate::layout::Layout;
use crate::schema::Table;
use crate::sql::Script;
use crate::sql::expression::{col, full_mask};

/// The whole baseline at once.
pub(super) fn whole(layout: &Layout) -> Script {
    let order = layout.key_fields().map(|field| col("t", &field.name)).collect::<Vec<_>>().join(", ");
    vec![
        format!("UPDATE afterimage_state SET history_date = max(history_date, {CLOCK})"),
        format!(
            "{}
SELECT s.history_id + row_number() OVER (ORDER BY {order}), coalesce(s.at, s.history_date), '+', s.scope, {}, NULL, {}
FROM {} AS t, afterimage_state AS s
WHERE NOT EXISTS (SELECT 1 FROM {} AS h WHERE {})",
            insert_into(layout),
            full_mask(layout).join(", "),
            full_row(layout, "t"),
            layout.table.quoted(),
            layout.history.quoted(),
            history_key_is(layout, "h", "t"),
        ),
        adopt_numbers(layout),
    ]
}

/// The state's number moves past those of a bulk insert into a history.
pub(super) fn adopt_numbers(layout: &Layout) -> String {
    format!(
        "UPDATE afterimage_state SET history_id = max(history_id, coalesce((SELECT max(history_id) FROM {}), 0))",
        layout.history.quoted()
    )
}

/// While a baseline is being written: the record that a row should have had before its first change.
pub(super) fn triggers(layout: &Layout) -> Script {
    let missing = format!(
        "NOT EXISTS (SELECT 1 FROM {} AS h WHERE {})",
        layout.history.quoted(),
        history_key_is(layout, "h", "OLD")
    );
    let take =
        format!("UPDATE afterimage_tracked SET baseline_next = baseline_next + 1 WHERE id = {};", layout.id);
    let record = format!(
        "{}\nSELECT b.baseline_next - 1, b.since, '+', NULL, {}, NULL, {}\nFROM afterimage_tracked AS b WHERE b.id = {};",
        insert_into(layout),
        full_mask(layout).join(", "),
        full_row(layout, "OLD"),
        layout.id,
    );
    ["update", "delete"]
        .map(|event| {
            create_trigger(
                layout,
                &format!("baseline_{event}"),
                &format!("BEFORE {}", event.to_uppercase()),
                Some(&missing),
                &[take.clone(), record.clone()],
            )
        })
        .to_vec()
}

/// A row about to be replaced without a delete trigger needs its baseline record too.
pub(super) fn of_pending(layout: &Layout) -> Script {
    let pending = super::replaced::pending(layout);
    let missing = format!(
        "NOT EXISTS (SELECT 1 FROM {} AS h WHERE {})",
        layout.history.quoted(),
        history_key_is(layout, "h", "p")
    );
    // Not one more than are written: the range holds as many as there are rows.
    vec![
        format!(
            "UPDATE afterimage_tracked SET baseline_next = baseline_next + (SELECT count(*) FROM {pending} AS p WHERE p.history_done = 0 AND {missing}) WHERE id = {};",
            layout.id
        ),
        format!(
            "{}
SELECT b.baseline_next - row_number() OVER (ORDER BY p.history_n), b.since, '+', NULL, {}, NULL, {}
FROM {pending} AS p, afterimage_tracked AS b
WHERE b.id = {} AND p.history_done = 0 AND {missing};",
            insert_into(layout),
            full_mask(layout).join(", "),
            full_row(layout, "p"),
            layout.id,
        ),
    ]
}

/// Sets a range of numbers aside for the baseline: as many as there can be rows.
pub fn set_numbers_aside(layout: &Layout, table: &Table) -> Script {
    let rowid = rowid(table);
    let rows = match rowid {
        Some(name) => format!(
            "min(coalesce((SELECT max({name}) - min({name}) + 1 FROM {}), 0), 1 << 40)",
            layout.table.quoted()
        ),
        None => "1 << 40".to_owned(),
    };
    vec![
        format!(
            "UPDATE afterimage_tracked SET baseline_next = (SELECT history_id + 1 FROM afterimage_state) WHERE id = {}",
            layout.id
        ),
        format!("UPDATE afterimage_state SET history_id = history_id + {rows}"),
    ]
}

/// The name under which the rowid can be had, where there is one.
pub(super) fn rowid(table: &Table) -> Option<&'static str> {
    if table.sqlite().is_some_and(|shape| shape.without_rowid) {
        return None;
    }
    let free = |name: &str| !table.columns.iter().any(|column| column.name.eq_ignore_ascii_case(name));
    ["rowid", "_rowid_", "oid"].into_iter().find(|name| free(name))
}

/// One batch of a baseline.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Gives the position where the batch ends; its parameters are where it begins, then how many rows.
    pub end: String,
    /// Writes the records of the batch; its parameters are where it begins, then where it ends.
    pub write: String,
    /// Counts the numbers it took; its parameter is how many.
    pub adopt: String,
    /// How many values a position has.
    pub width: usize,
}

/// The statements of one batch: by rowid, or by key where the table has none.
pub fn batch(layout: &Layout, table: &Table) -> Batch {
    let position: Vec<String> = match rowid(table) {
        Some(name) => vec![format!("t.{name}")],
        None => layout.key_fields().map(|field| col("t", &field.name)).collect(),
    };
    let width = position.len();
    let row = position.join(", ");
    let parameters =
        |from: usize| (from..from + width).map(|n| format!("?{n}")).collect::<Vec<_>>().join(", ");
    let after_start = format!("(({row}) > ({}) OR ?1 IS NULL)", parameters(1));
    let from = layout.table.quoted();
    let names: Vec<String> = (0..width).map(|n| format!("p{n}")).collect();
    let aliased =
        position.iter().zip(&names).map(|(c, n)| format!("{c} AS {n}")).collect::<Vec<_>>().join(", ");
    let newest = names.iter().map(|n| format!("{n} DESC")).collect::<Vec<_>>().join(", ");
    Batch {
        end: format!(
            "SELECT {} FROM (SELECT {aliased} FROM {from} AS t WHERE {after_start} ORDER BY {row} LIMIT ?{}) ORDER BY {newest} LIMIT 1",
            names.join(", "),
            width + 1
        ),
        write: format!(
            "{}
SELECT b.baseline_next + row_number() OVER () - 1, b.since, '+', NULL, {}, NULL, {}
FROM {from} AS t, afterimage_tracked AS b
WHERE b.id = {} AND {after_start} AND ({row}) <= ({})
AND NOT EXISTS (SELECT 1 FROM {} AS h WHERE {})",
            insert_into(layout),
            full_mask(layout).join(", "),
            full_row(layout, "t"),
            layout.id,
            parameters(width + 1),
            layout.history.quoted(),
            history_key_is(layout, "h", "t"),
        ),
        adopt: format!(
            "UPDATE afterimage_tracked SET baseline_next = baseline_next + ?1 WHERE id = {}",
            layout.id
        ),
        width,
    }
}
