//! The catalogue, the state and the context.
//!
//! `afterimage_context` is a view over the one row of `afterimage_state`: what a client inserts there becomes a row of
//! `afterimage_scope`, which the records refer to. So a record carries eight bytes instead of a copy of its context,
//! and the same page holds the sequence, the clock and the context.
//!
//! A client that forgets to delete its context before COMMIT would lend it to the next transaction. While it is set,
//! the state's row points at a row that never exists, by a deferred foreign key: its COMMIT fails, wherever foreign
//! keys are on.

use super::CLOCK;
use crate::sql::Script;
use crate::sql::catalog::{REVISED, STAYING};
use crate::sql::scoped::{CONTEXT_COLUMNS, context_row, context_values, hex};
use crate::{Context, Result};

pub(super) fn create() -> Script {
    let mut script: Script = TABLES.iter().map(ToString::to_string).collect();
    script.push(format!("INSERT OR IGNORE INTO afterimage_state (one, history_id, history_date, last_scope) VALUES (1, 0, {CLOCK}, 0)"));
    script.extend(GUARDS.iter().map(ToString::to_string));
    script.extend(staying());
    script.extend(revised());
    script.push(VIEW.to_owned());
    script.push(on_insert());
    script.push(on_update());
    script.push(ON_DELETE.to_owned());
    script
}

const TABLES: [&str; 13] = [
    "CREATE TABLE IF NOT EXISTS afterimage_setting (
  name TEXT PRIMARY KEY NOT NULL,
  value TEXT
)",
    "INSERT OR IGNORE INTO afterimage_setting (name, value)
VALUES ('version', '3'), ('incarnation', lower(hex(randomblob(16)))), ('revision', lower(hex(randomblob(16)))), ('explicit_time', 'refused'), ('skip', 'refused')",
    "CREATE TABLE IF NOT EXISTS afterimage_tracked (
  id INTEGER PRIMARY KEY,
  schema_name TEXT,
  table_name TEXT NOT NULL,
  history_name TEXT NOT NULL,
  tracking TEXT NOT NULL,
  state TEXT NOT NULL,
  since INTEGER NOT NULL,
  baseline_next INTEGER
)",
    "CREATE TABLE IF NOT EXISTS afterimage_epoch (
  table_id INTEGER NOT NULL,
  number INTEGER NOT NULL,
  from_date INTEGER NOT NULL,
  layout TEXT NOT NULL,
  PRIMARY KEY (table_id, number)
)",
    "CREATE TABLE IF NOT EXISTS afterimage_gap (
  id INTEGER PRIMARY KEY,
  table_id INTEGER NOT NULL,
  key TEXT,
  from_date INTEGER NOT NULL,
  to_date INTEGER,
  cause TEXT NOT NULL,
  recorded_by TEXT
)",
    "CREATE TABLE IF NOT EXISTS afterimage_scope (
  id INTEGER PRIMARY KEY,
  tx INTEGER NOT NULL,
  actor TEXT,
  reason TEXT,
  context TEXT,
  began INTEGER NOT NULL,
  first_id INTEGER NOT NULL,
  last_date INTEGER,
  last_id INTEGER
)",
    "CREATE TABLE IF NOT EXISTS afterimage_never (
  id INTEGER PRIMARY KEY CHECK (0)
)",
    // What left the histories, by whose wish: records cannot go without it, and while it is open no transaction can be
    // committed, wherever foreign keys are on.
    "CREATE TABLE IF NOT EXISTS afterimage_removal (
  id INTEGER PRIMARY KEY,
  table_id INTEGER NOT NULL,
  table_name TEXT NOT NULL,
  what TEXT NOT NULL,
  until_date INTEGER,
  rule TEXT,
  records INTEGER NOT NULL,
  recorded_by TEXT,
  reason TEXT,
  began INTEGER NOT NULL,
  ended INTEGER NOT NULL,
  open_in INTEGER REFERENCES afterimage_never DEFERRABLE INITIALLY DEFERRED
)",
    "CREATE TABLE IF NOT EXISTS afterimage_hold (
  id INTEGER PRIMARY KEY,
  table_id INTEGER NOT NULL,
  key TEXT,
  reason TEXT NOT NULL,
  placed_by TEXT,
  placed INTEGER NOT NULL,
  lifted_by TEXT,
  lifted INTEGER
)",
    "CREATE TABLE IF NOT EXISTS afterimage_redaction (
  id INTEGER PRIMARY KEY,
  table_id INTEGER NOT NULL,
  key TEXT NOT NULL,
  bit INTEGER NOT NULL,
  from_id INTEGER NOT NULL,
  from_date INTEGER NOT NULL,
  before_id INTEGER NOT NULL,
  before_date INTEGER NOT NULL,
  removal_id INTEGER NOT NULL
)",
    // Where records are that were moved out of the database.
    "CREATE TABLE IF NOT EXISTS afterimage_archive (
  id INTEGER PRIMARY KEY,
  table_id INTEGER NOT NULL,
  removal_id INTEGER NOT NULL,
  manifest TEXT NOT NULL,
  url TEXT NOT NULL,
  sha256 TEXT NOT NULL,
  cut INTEGER NOT NULL,
  others TEXT NOT NULL,
  complete INTEGER NOT NULL,
  ended INTEGER,
  ended_by TEXT
)",
    "UPDATE afterimage_setting SET value = '3' WHERE name = 'version' AND value IN ('1', '2')",
    "CREATE TABLE IF NOT EXISTS afterimage_state (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  history_id INTEGER NOT NULL,
  history_date INTEGER NOT NULL,
  last_scope INTEGER NOT NULL,
  scope INTEGER,
  at INTEGER,
  skip INTEGER,
  the_context_must_be_deleted_before_commit INTEGER
    REFERENCES afterimage_never DEFERRABLE INITIALLY DEFERRED
)",
];

const GUARDS: [&str; 6] = [
    "CREATE INDEX IF NOT EXISTS afterimage_removal_open ON afterimage_removal (table_id) WHERE open_in IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS afterimage_scope_lasting ON afterimage_scope (last_date) WHERE last_date > began",
    "CREATE TRIGGER IF NOT EXISTS afterimage_scope_update BEFORE UPDATE ON afterimage_scope
WHEN OLD.last_date IS NOT NULL OR NEW.id IS NOT OLD.id OR NEW.tx IS NOT OLD.tx OR NEW.actor IS NOT OLD.actor
  OR NEW.reason IS NOT OLD.reason OR NEW.context IS NOT OLD.context
BEGIN
  SELECT RAISE(ABORT, 'afterimage: a context cannot be changed once it is written');
END",
    "CREATE TRIGGER IF NOT EXISTS afterimage_scope_replace BEFORE INSERT ON afterimage_scope
WHEN EXISTS (SELECT 1 FROM afterimage_scope AS c WHERE c.id = NEW.id)
BEGIN
  SELECT RAISE(ABORT, 'afterimage: a context cannot be changed once it is written');
END",
    // An earlier one knew of no removal.
    "DROP TRIGGER IF EXISTS afterimage_scope_delete",
    "CREATE TRIGGER IF NOT EXISTS afterimage_scope_delete BEFORE DELETE ON afterimage_scope
WHEN (SELECT history_id FROM afterimage_state) >= OLD.first_id
  AND NOT EXISTS (SELECT 1 FROM afterimage_removal AS r WHERE r.open_in IS NOT NULL)
BEGIN
  SELECT RAISE(ABORT, 'afterimage: a context that records refer to cannot be deleted');
END",
];

/// What is written down of removals, holds, redactions and archives stays; a removal only goes on, a hold is only lifted, an archive
/// only completed and ended.
fn staying() -> Script {
    let refuse = "SELECT RAISE(ABORT, 'afterimage: what is written down of removals, holds, redactions and archives stays');";
    let same = |columns: &[&str]| {
        columns.iter().map(|column| format!("NEW.{column} IS OLD.{column}")).collect::<Vec<_>>().join(" AND ")
    };
    let removal = format!(
        "{} AND NEW.records >= OLD.records AND (OLD.until_date IS NULL OR coalesce(NEW.until_date >= OLD.until_date, 0))",
        same(&["id", "table_id", "table_name", "what", "rule", "recorded_by", "reason", "began"])
    );
    let hold = format!(
        "OLD.lifted IS NULL AND NEW.lifted IS NOT NULL AND {}",
        same(&["id", "table_id", "key", "reason", "placed_by", "placed"])
    );
    let archive = format!(
        "OLD.ended IS NULL AND NEW.complete >= OLD.complete AND {}",
        same(&["id", "table_id", "removal_id", "manifest", "url", "sha256", "cut", "others"])
    );
    let may_change = [removal.as_str(), &hold, "0", &archive];
    let mut script = Script::new();
    for (table, allowed) in STAYING.iter().zip(may_change) {
        for (what, event, condition) in [
            ("stays", "DELETE", String::new()),
            ("goes_on", "UPDATE", format!("WHEN NOT ({allowed})\n")),
            // `OR REPLACE` deletes without a word.
            (
                "is_new",
                "INSERT",
                format!("WHEN EXISTS (SELECT 1 FROM afterimage_{table} AS x WHERE x.id = NEW.id)\n"),
            ),
        ] {
            script.push(format!(
                "CREATE TRIGGER IF NOT EXISTS afterimage_{table}_{what} BEFORE {event} ON afterimage_{table}
{condition}BEGIN
  {refuse}
END"
            ));
        }
    }
    script
}

/// Whoever remembers what the catalogue said sees that it says something else now.
fn revised() -> Script {
    let events = ["INSERT", "UPDATE", "DELETE"];
    let trigger = |table: &str, event: &str| {
        format!(
            "CREATE TRIGGER IF NOT EXISTS afterimage_{table}_{} AFTER {event} ON afterimage_{table}
BEGIN
  UPDATE afterimage_setting SET value = lower(hex(randomblob(16))) WHERE name = 'revision';
END",
            event.to_lowercase()
        )
    };
    REVISED.iter().flat_map(|table| events.map(|event| trigger(table, event))).collect()
}

const VIEW: &str = "CREATE VIEW IF NOT EXISTS afterimage_context AS
SELECT c.actor,
  json_extract(c.context, '$.label') AS label,
  c.reason,
  json_extract(c.context, '$.remote_addr') AS remote_addr,
  json_extract(c.context, '$.correlation_id') AS correlation_id,
  c.context AS extra,
  s.at,
  s.skip
FROM afterimage_state AS s JOIN afterimage_scope AS c ON c.id = s.scope";

/// What a context's row becomes: `extra` with the named columns in it, and the real time where another is asked for.
fn context_json(extra: &str) -> String {
    format!(
        "nullif(json_patch({extra}, json_patch('{{}}', json_object(
      'label', NEW.label, 'remote_addr', NEW.remote_addr, 'correlation_id', NEW.correlation_id,
      'recorded_at', CASE WHEN NEW.at IS NOT NULL THEN strftime('%Y-%m-%dT%H:%M:%fZ', 'now') END))), '{{}}')"
    )
}

/// `extra` of a context that is set anew: it holds the named columns too, of which one set to NULL has to go.
fn extra_of_update() -> String {
    let gone = ["label", "remote_addr", "correlation_id"].map(|name| {
        format!("CASE WHEN NEW.{name} IS NULL AND OLD.{name} IS NOT NULL THEN '$.{name}' ELSE '$.\"\"' END")
    });
    format!("json_remove(coalesce(NEW.extra, '{{}}'), {})", gone.join(", "))
}

/// An explicit time as microseconds, whether given so or as ISO 8601.
const AT: &str = "CASE typeof(NEW.at) WHEN 'text' THEN CAST(round((julianday(NEW.at) - 2440587.5) * 86400000.0) AS INTEGER) * 1000 ELSE CAST(NEW.at AS INTEGER) END";

/// Whether writes are to go unrecorded: 1, or NULL.
const SKIP: &str = "CASE WHEN NEW.skip THEN 1 END";

fn checks() -> String {
    format!(
        "  SELECT RAISE(ABORT, 'afterimage: extra must be a JSON object')
  WHERE NEW.extra IS NOT NULL AND CASE WHEN json_valid(NEW.extra) THEN json_type(NEW.extra) IS NOT 'object' ELSE 1 END;
  SELECT RAISE(ABORT, 'afterimage: skip is a column of its own')
  WHERE NEW.extra IS NOT NULL AND CASE WHEN json_valid(NEW.extra) THEN json_type(NEW.extra, '$.skip') IS NOT NULL ELSE 0 END;
  SELECT RAISE(ABORT, 'afterimage: an explicit time needs the setting explicit_time')
  WHERE NEW.at IS NOT NULL AND (SELECT value FROM afterimage_setting WHERE name = 'explicit_time') IS NOT 'allowed';
  SELECT RAISE(ABORT, 'afterimage: skip needs the setting skip')
  WHERE {SKIP} IS NOT NULL AND (SELECT value FROM afterimage_setting WHERE name = 'skip') IS NOT 'allowed';
  SELECT RAISE(ABORT, 'afterimage: the explicit time is not a time, or is in the future')
  WHERE NEW.at IS NOT NULL AND ({AT} IS NULL OR {AT} > {CLOCK});"
    )
}

/// What SQLite says where a context is set that nobody deleted.
pub const CONTEXT_IS_SET: &str = "afterimage: a context is set already";

fn on_insert() -> String {
    format!(
        "CREATE TRIGGER IF NOT EXISTS afterimage_context_insert INSTEAD OF INSERT ON afterimage_context
BEGIN
  SELECT RAISE(ABORT, '{CONTEXT_IS_SET}: delete it first')
  WHERE (SELECT scope FROM afterimage_state) IS NOT NULL;
{}
  UPDATE afterimage_state SET history_date = max(history_date + 1, {CLOCK}), last_scope = last_scope + 1,
    scope = last_scope + 1, at = {AT}, skip = {SKIP}, the_context_must_be_deleted_before_commit = 1;
  INSERT INTO afterimage_scope (id, tx, actor, reason, context, began, first_id)
  SELECT s.scope, s.scope, NEW.actor, NEW.reason, {},
    coalesce(s.at, s.history_date), s.history_id + 1
  FROM afterimage_state AS s;
END",
        checks(),
        context_json("coalesce(NEW.extra, '{}')")
    )
}

/// A context set anew inside its transaction: records from here on carry it, those before keep theirs.
fn on_update() -> String {
    format!(
        "CREATE TRIGGER IF NOT EXISTS afterimage_context_update INSTEAD OF UPDATE ON afterimage_context
BEGIN
{}
  INSERT INTO afterimage_scope (id, tx, actor, reason, context, began, first_id)
  SELECT s.last_scope + 1, c.tx, NEW.actor, NEW.reason, {}, c.began, s.history_id + 1
  FROM afterimage_state AS s JOIN afterimage_scope AS c ON c.id = s.scope;
  UPDATE afterimage_state SET last_scope = last_scope + 1, scope = last_scope + 1, at = {AT}, skip = {SKIP};
END",
        checks(),
        context_json(&extra_of_update())
    )
}

/// The transaction's own row learns where it ended; a context under which nothing was written leaves nothing.
const ON_DELETE: &str =
    "CREATE TRIGGER IF NOT EXISTS afterimage_context_delete INSTEAD OF DELETE ON afterimage_context
BEGIN
  UPDATE afterimage_scope SET last_id = (SELECT history_id FROM afterimage_state),
    last_date = (SELECT coalesce(at, history_date) FROM afterimage_state)
  WHERE id = (SELECT c.tx FROM afterimage_state AS s JOIN afterimage_scope AS c ON c.id = s.scope)
    AND first_id <= (SELECT history_id FROM afterimage_state);
  DELETE FROM afterimage_scope
  WHERE id >= (SELECT c.tx FROM afterimage_state AS s JOIN afterimage_scope AS c ON c.id = s.scope)
    AND first_id > (SELECT history_id FROM afterimage_state);
  UPDATE afterimage_state SET scope = NULL, at = NULL, skip = NULL, the_context_must_be_deleted_before_commit = NULL;
END";

/// Sets a context, whose [row](context) is bound to it: prepared once, where its many triggers are compiled.
pub const SET_CONTEXT: &str = "INSERT INTO afterimage_context (actor, label, reason, remote_addr, correlation_id, extra, at, skip) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

/// The row of a context: text, integers and nulls.
///
/// # Errors
///
/// What a context may not hold.
pub fn context(context: &Context) -> Result<Vec<serde_json::Value>> {
    context_row(context)
}

pub(super) fn set_context(context: &Context, again: bool) -> Result<String> {
    let values = context_values(context, |text| format!("CAST({} AS TEXT)", hex(text.as_bytes())))?;
    let values = values.join(", ");
    Ok(if again {
        format!("UPDATE afterimage_context SET ({CONTEXT_COLUMNS}) = ({values})")
    } else {
        format!("INSERT INTO afterimage_context ({CONTEXT_COLUMNS}) VALUES ({values})")
    })
}
