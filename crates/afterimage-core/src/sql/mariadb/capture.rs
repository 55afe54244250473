//! Capture: row triggers, their column names written out.
//!
//! Each takes its time under the lock of the row it is about, so that along a row times follow one another; a statement
//! that waits for a lock while others write would date too early what it does afterwards. What does not change from row
//! to row, the context, is looked up once in a statement: `@@timestamp` tells statements apart, unless somebody has set it.

use super::catalog::{OWN_CONTEXT, identify_statement, micros_of_uuid};
use super::{NEXT, cascade, differs, full_row, insert_into, kept, keys_are_equal};
use crate::layout::{Field, Layout};
use crate::name::literal;
use crate::schema::Table;
use crate::sql::Script;
use crate::sql::expression::{balanced, col, fields_by_word, full_mask};
use crate::value::Shown;

const TRIGGERS: [&str; 5] = ["insert", "update", "delete", "baseline_update", "baseline_delete"];

fn trigger_name(id: i64, what: &str) -> String {
    format!("afterimage_{id}_{what}")
}

pub(super) fn trigger_names(id: i64) -> Vec<String> {
    TRIGGERS.iter().map(|what| trigger_name(id, what)).collect()
}

pub(super) fn triggers(layout: &Layout, table: &Table, baseline: bool) -> Script {
    let mut script = Script::new();
    if baseline {
        script.extend(baseline_triggers(layout));
    } else {
        script.extend(
            ["baseline_update", "baseline_delete"]
                .map(|what| format!("DROP TRIGGER IF EXISTS {}", trigger_name(layout.id, what))),
        );
    }
    script.extend([insert(layout), update(layout, table), delete(layout)]);
    script.extend(cascade::install(layout, table, baseline));
    script
}

fn create_trigger(layout: &Layout, what: &str, event: &str, body: &str) -> String {
    format!(
        "CREATE OR REPLACE TRIGGER {} {event} ON {} FOR EACH ROW\n{body}",
        trigger_name(layout.id, what),
        layout.table.quoted(),
    )
}

/// The time of this record, and the context of its statement.
pub(super) fn prologue(layout: &Layout) -> String {
    let id = layout.id;
    format!(
        "  DECLARE clock CHAR(36) CHARACTER SET ascii DEFAULT UUID();
  DECLARE now BIGINT DEFAULT {};",
        micros_of_uuid("clock")
    ) + &format!(
        "
  DECLARE recorded BOOLEAN DEFAULT TRUE;
  IF NOT (@afterimage_{id}_at <=> @@timestamp AND @afterimage_{id}_turn <=> @afterimage_turn)
    OR ABS(now DIV 1000000 - @@timestamp) > 600 THEN
    {};
    SET @afterimage_{id}_at = @@timestamp, @afterimage_{id}_turn = @afterimage_turn;
  END IF;",
        identify_statement()
    )
}

/// An explicit time, and writes that are to be skipped: by the rights that were asked for when they were set.
pub(super) fn special(layout: &Layout, rows: &[&str]) -> String {
    let id = layout.id;
    let newer: Vec<String> = rows
        .iter()
        .map(|row| {
            format!(
                "EXISTS (SELECT 1 FROM {} AS h WHERE {} AND h.history_date > now)",
                layout.history.quoted(),
                key_is(layout, "h", row)
            )
        })
        .collect();
    let too_old = literal(&format!(
        "afterimage: \"{}\" has a newer record of this row than the explicit time",
        layout.table.name
    ));
    format!(
        "
  IF @afterimage_special THEN
    BEGIN
      DECLARE given, skipped BIGINT;
      SELECT s.at, s.skip INTO given, skipped FROM afterimage_session AS s WHERE {own};
      IF skipped THEN
        SET recorded = FALSE;
        INSERT INTO afterimage_gap (table_id, from_date, cause, recorded_by)
        SELECT {id}, now, 'writes were skipped', c.actor FROM afterimage_scope AS c
        WHERE c.id = @afterimage_scope AND NOT EXISTS (SELECT 1 FROM afterimage_gap AS g WHERE g.table_id = {id} AND g.\"key\" IS NULL AND g.to_date IS NULL);
      ELSEIF given IS NOT NULL THEN
        SET now = given;
        IF {newer} THEN
          SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = {too_old};
        END IF;
      END IF;
    END;
  END IF;",
        own = OWN_CONTEXT,
        newer = if newer.is_empty() { "FALSE".to_owned() } else { newer.join(" OR ") },
    )
}

/// The history's key is the row's.
fn key_is(layout: &Layout, history: &str, row: &str) -> String {
    keys_are_equal(layout, |field| col(history, &field.history), |field| col(row, &field.name))
}

const NOTE_DATE: &str = "SET @afterimage_date = now;";

fn record(layout: &Layout, number: &str, sign: &str, old_key: &str, row: &str) -> String {
    format!(
        "{}\n    VALUES ({number}, now, '{sign}', @afterimage_scope, {}, {old_key}, {});",
        insert_into(layout),
        full_mask(layout).join(", "),
        full_row(layout, row)
    )
}

fn insert(layout: &Layout) -> String {
    let body = format!(
        "BEGIN
{}{}
  IF recorded THEN
    {}
    {NOTE_DATE}
  END IF;
END",
        prologue(layout),
        special(layout, &["NEW"]),
        record(layout, NEXT, "+", "NULL", "NEW"),
    );
    create_trigger(layout, "insert", "AFTER INSERT", &body)
}

fn delete(layout: &Layout) -> String {
    let body = format!(
        "BEGIN
{}{}
  IF recorded THEN
    {}
    {NOTE_DATE}
  END IF;
END",
        prologue(layout),
        special(layout, &["OLD"]),
        record(layout, NEXT, "-", "NULL", "OLD"),
    );
    create_trigger(layout, "delete", "AFTER DELETE", &body)
}

/// The mask of an update, word by word.
pub(super) fn mask(layout: &Layout, differs: impl Fn(&Field) -> String) -> Vec<String> {
    fields_by_word(layout)
        .into_iter()
        .map(|fields| {
            let bits: Vec<String> = fields
                .into_iter()
                .map(|field| format!("({}) * {}", differs(field), field.word_and_bit().1))
                .collect();
            balanced(&bits, "+", "0")
        })
        .collect()
}

fn update(layout: &Layout, table: &Table) -> String {
    let full = layout.storage == crate::Storage::Snapshot;
    let words = mask(layout, |field| differs(field, "OLD", "NEW"));
    let declared: String = words
        .iter()
        .enumerate()
        .map(|(n, word)| format!("  DECLARE changed_{n} BIGINT DEFAULT {word};\n"))
        .collect();
    let changed: Vec<String> = (0..words.len()).map(|n| format!("changed_{n} <> 0")).collect();
    let changed =
        if layout.record_unchanged { "TRUE".to_owned() } else { format!("({})", changed.join(" OR ")) };
    let moved = format!("({})", moves(layout));
    let masks: Vec<String> = (0..words.len())
        .map(|n| if n == 0 && full { "changed_0 + 1".to_owned() } else { format!("changed_{n}") })
        .collect();
    let values: Vec<String> = layout
        .fields
        .iter()
        .map(|field| {
            if full || layout.is_key(field) {
                kept(field, "NEW")
            } else {
                format!("IF({}, {}, NULL)", changes(field), kept(field, "NEW"))
            }
        })
        .collect();
    let body = format!(
        "main: BEGIN
{declared}{prologue}
  IF NOT {changed} THEN
    LEAVE main;
  END IF;{phantom}{special}
  IF NOT recorded THEN
    LEAVE main;
  END IF;
  IF {moved} THEN
    BEGIN
      DECLARE number BIGINT DEFAULT {NEXT};
    {departure}
    {arrival}
    END;
  ELSE
    {into}
    VALUES ({NEXT}, now, '~', @afterimage_scope, {masks}, NULL, {values});
  END IF;
  {NOTE_DATE}
END",
        prologue = prologue(layout),
        phantom = phantom(layout, table),
        special = special(layout, &["OLD", "NEW"]),
        departure = record(layout, "number", "-", "NULL", "OLD"),
        arrival = record(layout, "number + 1", "+", &key_json(layout, "OLD"), "NEW"),
        into = insert_into(layout),
        masks = masks.join(", "),
        values = values.join(", "),
    );
    create_trigger(layout, "update", "AFTER UPDATE", &body)
}

/// Whether the mask of this update names a field of the key.
fn moves(layout: &Layout) -> String {
    layout.key_fields().map(changes).collect::<Vec<_>>().join(" OR ")
}

/// Whether the mask of this update names the field.
fn changes(field: &Field) -> String {
    let (word, bit) = field.word_and_bit();
    format!("changed_{word} & {bit}")
}

/// `UPDATE IGNORE` that meets a duplicate key or a foreign key fires the trigger and leaves the row as it was. Only an
/// update of columns that such a constraint is about can meet one; then the table itself is asked: whether the row is there
/// as it is to be, and, since another may be just like it, no longer where it was.
///
/// Each question stands in a statement of its own: the server prepares a statement's tables whether or not it comes to read
/// them, 12 µs a row.
fn phantom(layout: &Layout, table: &Table) -> String {
    let Some(shape) = table.mariadb() else { return String::new() };
    let deciding: Vec<String> = table
        .columns
        .iter()
        .filter(|column| shape.constrained.contains(&column.name))
        .map(|column| {
            format!("NOT (BINARY {} <=> BINARY {})", col("OLD", &column.name), col("NEW", &column.name))
        })
        .collect();
    if deciding.is_empty() {
        return String::new();
    }
    let same: Vec<String> =
        layout.fields.iter().map(|field| format!("NOT ({})", differs(field, "o", "NEW"))).collect();
    format!(
        "
  IF {} THEN
    IF NOT EXISTS (SELECT 1 FROM {live} AS o WHERE {} AND {}) THEN
      LEAVE main;
    END IF;
  END IF;
  IF {} THEN
    IF EXISTS (SELECT 1 FROM {live} AS o WHERE {}) THEN
      LEAVE main;
    END IF;
  END IF;",
        deciding.join(" OR "),
        keys_are_equal(layout, |field| col("o", &field.name), |field| col("NEW", &field.name)),
        balanced(&same, "AND", "TRUE"),
        moves(layout),
        keys_are_equal(layout, |field| col("o", &field.name), |field| col("OLD", &field.name)),
        live = layout.table.quoted(),
    )
}

/// A key as JSON: numbers as they are, bytes as hex digits, the rest as text.
pub(super) fn key_json(layout: &Layout, row: &str) -> String {
    let members: Vec<String> = layout
        .key_fields()
        .map(|field| {
            let value = col(row, &field.name);
            let name = literal(&format!("{}:", serde_json::Value::from(field.name.as_str())));
            let text = match field.shown {
                Shown::Number if field.plain_equality => format!("{value} + 0"),
                Shown::Bytes => format!("CONCAT('{{\"$hex\":\"', HEX({value}), '\"}}')"),
                _ => format!("JSON_QUOTE(CAST({value} AS CHAR CHARACTER SET utf8mb4))"),
            };
            format!("{name}, {text}")
        })
        .collect();
    format!("CONCAT('{{', {}, '}}')", members.join(", ',', "))
}

/// Whether the history has no record of a row yet; asked of what is there now, not of an older snapshot.
pub(super) fn has_no_record(layout: &Layout, row: &str) -> String {
    format!("NOT EXISTS ({} LOCK IN SHARE MODE)", record_of(layout, row))
}

/// Finds a row's records.
pub(super) fn record_of(layout: &Layout, row: &str) -> String {
    format!("SELECT 1 FROM {} AS h WHERE {}", layout.history.quoted(), key_is(layout, "h", row))
}

/// While a baseline is being written: the record that a row should have had before its first change.
fn baseline_triggers(layout: &Layout) -> Script {
    ["update", "delete"]
        .map(|event| {
            let body = format!(
                "IF {} THEN
    {}
    SELECT {NEXT}, t.since, '+', NULL, {}, NULL, {} FROM afterimage_tracked AS t WHERE t.id = {};
END IF",
                has_no_record(layout, "OLD"),
                insert_into(layout),
                full_mask(layout).join(", "),
                full_row(layout, "OLD"),
                layout.id,
            );
            create_trigger(
                layout,
                &format!("baseline_{event}"),
                &format!("BEFORE {}", event.to_uppercase()),
                &body,
            )
        })
        .to_vec()
}
