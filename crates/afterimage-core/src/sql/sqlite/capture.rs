//! Capture: row triggers, their column names written out.
//!
//! SQLite fires the trigger created last first; ours are created after the user's, so that a user's trigger which
//! writes the same row again finds the outer change recorded already.

use super::history::{full_row, insert_into};
use super::{TICK, baseline, differs, kept, overtaken, replaced, table_literal, trigger_name};
use crate::layout::{Field, Layout};
use crate::name::literal;
use crate::schema::Table;
use crate::sql::Script;
use crate::sql::expression::{balanced, col, fields_by_word, full_mask};

/// Every trigger that a tracked table may have.
const TRIGGERS: [&str; 14] = [
    "insert",
    "insert_replacing",
    "update",
    "update_moving",
    "delete",
    "before_insert",
    "before_update",
    "explicit_insert",
    "explicit_update",
    "explicit_delete",
    "keyless_insert",
    "keyless_update",
    "baseline_update",
    "baseline_delete",
];

pub(super) fn trigger_names(id: i64) -> Vec<String> {
    TRIGGERS.iter().map(|what| trigger_name(id, what)).collect()
}

pub(super) fn triggers(layout: &Layout, table: &Table, baseline: bool) -> Script {
    let before_replacing = if baseline { baseline::of_pending(layout) } else { Script::new() };
    let mut script = replaced::before(layout, table, &before_replacing);
    if baseline {
        script.extend(baseline::triggers(layout));
    }
    script.extend(explicit_time(layout));
    script.extend(keyless(layout, table));
    script.extend([
        delete(layout, table),
        update_moving(layout, table),
        update(layout, table),
        replaced::insert_replacing(layout),
        insert(layout),
    ]);
    script
}

pub(super) fn create_trigger(
    layout: &Layout,
    what: &str,
    event: &str,
    when: Option<&str>,
    body: &[String],
) -> String {
    let when = when.map(|when| format!("\nWHEN {when}")).unwrap_or_default();
    let body: String =
        body.iter().map(|statement| format!("  {}\n", statement.replace('\n', "\n  "))).collect();
    format!(
        "CREATE TRIGGER {} {event} ON {}{when}\nBEGIN\n{body}END",
        trigger_name(layout.id, what),
        layout.table.quoted()
    )
}

/// A record of a whole row: creation, deletion, departure or arrival.
pub(super) fn record_full(layout: &Layout, sign: &str, row: &str, old_key: &str, from: &str) -> String {
    format!(
        "{}\nSELECT s.history_id, coalesce(s.at, s.history_date), '{sign}', s.scope, {}, {old_key}, {}\nFROM afterimage_state AS s{from};",
        insert_into(layout),
        full_mask(layout).join(", "),
        full_row(layout, row),
    )
}

fn insert(layout: &Layout) -> String {
    let nothing_replaced = format!("NOT EXISTS (SELECT 1 FROM {})", replaced::pending(layout));
    let body = [TICK.to_owned(), record_full(layout, "+", "NEW", "NULL", "")];
    create_trigger(layout, "insert", "AFTER INSERT", Some(&nothing_replaced), &body)
}

fn delete(layout: &Layout, table: &Table) -> String {
    let pending = replaced::pending(layout);
    let same = super::same_key(layout, &pending, "OLD");
    let mut body = vec![
        // With recursive_triggers on, REPLACE deletes aloud: then there is nothing left to find out afterwards,
        // unless a cascade of that very deletion has found it out already.
        format!("DELETE FROM {pending} WHERE history_done = 0 AND {same};"),
        TICK.to_owned(),
    ];
    body.extend(overtaken::catch_up(layout, table));
    body.push(record_full(
        layout,
        "-",
        "OLD",
        "NULL",
        &format!("\nWHERE NOT EXISTS (SELECT 1 FROM {pending} WHERE history_done = 2 AND {same})"),
    ));
    create_trigger(layout, "delete", "AFTER DELETE", None, &body)
}

/// The mask of an update, word by word: the bits of the fields whose stored image differs.
pub(super) fn update_mask(layout: &Layout, before: &str, after: &str, full: bool) -> Vec<String> {
    fields_by_word(layout)
        .into_iter()
        .enumerate()
        .map(|(word, fields)| {
            let mut bits: Vec<String> = fields
                .into_iter()
                .map(|field| format!("{} * {}", differs(field, before, after), field.word_and_bit().1))
                .collect();
            if word == 0 && full {
                bits.push("1".to_owned());
            }
            balanced(&bits, "+", "0")
        })
        .collect()
}

/// Whether any of these fields differs.
pub(super) fn any_differs<'a>(
    fields: impl IntoIterator<Item = &'a Field>,
    before: &str,
    after: &str,
) -> String {
    let terms: Vec<String> = fields.into_iter().map(|field| differs(field, before, after)).collect();
    balanced(&terms, "OR", "0")
}

/// The values that the record of an update keeps: the key, and what changed.
pub(super) fn changed_row(layout: &Layout, before: &str, after: &str) -> Vec<String> {
    let full = layout.storage == crate::Storage::Snapshot;
    let value = |field: &Field| {
        if full || layout.is_key(field) {
            kept(field, after)
        } else {
            format!("CASE WHEN {} THEN {} END", differs(field, before, after), kept(field, after))
        }
    };
    layout.fields.iter().map(value).collect()
}

/// A record of an update that leaves the key as it is.
pub(super) fn record_update(layout: &Layout, condition: &str) -> String {
    let full = layout.storage == crate::Storage::Snapshot;
    format!(
        "{}\nSELECT s.history_id, coalesce(s.at, s.history_date), '~', s.scope, {}, NULL, {}\nFROM afterimage_state AS s{condition};",
        insert_into(layout),
        update_mask(layout, "OLD", "NEW", full).join(", "),
        changed_row(layout, "OLD", "NEW").join(", "),
    )
}

fn update(layout: &Layout, table: &Table) -> String {
    let moving = replaced::may_replace(layout, table);
    let when = if layout.record_unchanged {
        format!("NOT {moving}")
    } else {
        let rest = layout.fields.iter().filter(|field| !replaced::is_deciding(layout, table, field));
        format!("{} AND NOT {moving}", any_differs(rest, "OLD", "NEW"))
    };
    let mut body = vec![TICK.to_owned()];
    body.extend(overtaken::catch_up(layout, table));
    body.push(record_update(layout, ""));
    create_trigger(layout, "update", "AFTER UPDATE", Some(&when), &body)
}

/// An update that touches the key or another unique column: it may move the row, and replace others.
fn update_moving(layout: &Layout, table: &Table) -> String {
    let when = replaced::may_replace(layout, table);
    let moved = any_differs(layout.key_fields(), "OLD", "NEW");
    let changed =
        if layout.record_unchanged { "1".to_owned() } else { any_differs(&layout.fields, "OLD", "NEW") };
    let next = "UPDATE afterimage_state SET history_id = history_id + 1;".to_owned();
    let mut body = vec![TICK.to_owned()];
    body.extend(replaced::record_victims_of_update(layout));
    let not_yet =
        overtaken::recorded(layout, table).map(|done| format!(" AND NOT {done}")).unwrap_or_default();
    body.extend([
        record_full(layout, "-", "OLD", "NULL", &format!(" WHERE {moved}{not_yet}")),
        next,
        record_full(layout, "+", "NEW", &key_json(layout, "OLD"), &format!(" WHERE {moved}{not_yet}")),
        record_update(layout, &format!(" WHERE NOT {moved} AND {changed}{not_yet}")),
        replaced::done(layout, "NEW"),
    ]);
    body.extend(overtaken::forget(layout, table));
    create_trigger(layout, "update_moving", "AFTER UPDATE", Some(&when), &body)
}

/// A key as JSON, exact for every storage class also where the writer's SQLite rounds reals in JSON (before 3.43).
/// Without SQLite's JSON functions, which an old one refuses in a trigger where `trusted_schema` is off.
pub(super) fn key_json(layout: &Layout, row: &str) -> String {
    let members: Vec<String> = layout
        .key_fields()
        .map(|field| {
            let value = col(row, &field.name);
            let text = json_text(&value);
            let name = serde_json::Value::from(field.name.as_str()).to_string();
            format!(
                "{} || CASE typeof({value}) WHEN 'blob' THEN '{{\"$hex\":\"' || hex({value}) || '\"}}' WHEN 'text' THEN CASE WHEN instr(CAST({value} AS BLOB), X'00') THEN '{{\"$hex\":\"' || hex({value}) || '\"}}' ELSE {text} END ELSE quote({value}) END",
                literal(&format!("{name}:"))
            )
        })
        .collect();
    format!("'{{' || {} || '}}'", members.join(" || ',' || "))
}

/// Text as JSON, without NUL, which SQLite's `replace` cannot find: what must be escaped, a few characters at a time, since an old SQLite's parser nests no deeper.
fn json_text(value: &str) -> String {
    let mut escapes = vec![("'\\'".to_owned(), "\\\\".to_owned()), ("'\"'".to_owned(), "\\\"".to_owned())];
    escapes.extend((1..0x20).map(|control| (format!("char({control})"), format!("\\u{control:04x}"))));
    let mut stages = format!("s0(x) AS (SELECT {value})");
    let mut last = 0;
    for some in escapes.chunks(6) {
        let replaced =
            some.iter().fold("x".to_owned(), |x, (from, to)| format!("replace({x}, {from}, '{to}')"));
        stages.push_str(&format!(", s{}(x) AS (SELECT {replaced} FROM s{last})", last + 1));
        last += 1;
    }
    format!("'\"' || (WITH {stages} SELECT x FROM s{last}) || '\"'")
}

/// What is said of a record dated by hand before its row's newest one, as a literal.
pub(super) fn too_old(layout: &Layout) -> String {
    format!(
        "'afterimage: \"{}\" has a newer record of this row than the explicit time'",
        table_literal(&layout.table)
    )
}

/// A record dated by hand is refused when its row has a newer one. Three triggers of their own, so that nobody else
/// pays for it.
fn explicit_time(layout: &Layout) -> Script {
    let check = |row: &str| {
        format!(
            "SELECT RAISE(ABORT, {})\nWHERE EXISTS (SELECT 1 FROM {} AS h WHERE {} AND h.history_date > (SELECT at FROM afterimage_state));",
            too_old(layout),
            layout.history.quoted(),
            history_key_is(layout, "h", row),
        )
    };
    [
        ("INSERT", vec![check("NEW")]),
        ("UPDATE", vec![check("OLD"), check("NEW")]),
        ("DELETE", vec![check("OLD")]),
    ]
    .into_iter()
    .map(|(event, body)| {
        let what = format!("explicit_{}", event.to_lowercase());
        let when = "(SELECT at FROM afterimage_state) IS NOT NULL";
        create_trigger(layout, &what, &format!("AFTER {event}"), Some(when), &body)
    })
    .collect()
}

/// `h.key = row.key`, by the history's own columns. Key columns of the history compare by bytes.
pub(super) fn history_key_is(layout: &Layout, history: &str, row: &str) -> String {
    layout
        .key_fields()
        .map(|field| format!("{} = {} COLLATE BINARY", col(history, &field.history), col(row, &field.name)))
        .collect::<Vec<_>>()
        .join(" AND ")
}

/// SQLite lets NULL into a primary key; a row without key cannot be found again, so it is refused.
fn keyless(layout: &Layout, table: &Table) -> Script {
    let nullable: Vec<String> = layout
        .key_fields()
        .filter(|field| table.column(&field.name).is_some_and(|column| column.nullable))
        .map(|field| format!("{} IS NULL", col("NEW", &field.name)))
        .collect();
    if nullable.is_empty() {
        return Script::new();
    }
    let body = [format!(
        "SELECT RAISE(ABORT, 'afterimage: a row of \"{}\" without a key cannot be recorded');",
        table_literal(&layout.table)
    )];
    ["insert", "update"]
        .map(|event| {
            let what = format!("keyless_{event}");
            create_trigger(
                layout,
                &what,
                &format!("AFTER {}", event.to_uppercase()),
                Some(&nullable.join(" OR ")),
                &body,
            )
        })
        .to_vec()
}
