//! The catalogue's own statements: the same for every database, since each keeps text, integers and its own moments.

use crate::Database;
use crate::layout::Layout;
use crate::name::{TableName, literal};
use crate::sql::Dialect;
use crate::sql::question::{Given, Question};
use crate::time::Moment;
use crate::tracking::Tracking;

/// The columns of a tracked table's row in the catalogue, in the order in which [`tracked`] reads them.
pub const TRACKED_COLUMNS: [&str; 7] =
    ["id", "schema_name", "table_name", "history_name", "tracking", "state", "since"];

/// Which revision of the catalogue this is: a random text, another after each change; and the schema that a table without one
/// is in.
pub fn revision(dialect: &dyn Dialect) -> Question {
    let [value, schema] = revised(dialect);
    Given::beside(dialect).ask(format!("SELECT ({value}), {schema}"))
}

/// A question as it is asked in no transaction: before the columns of each row, the revision of the catalogue, where the session is
/// as the question needs it, and the schema. Nothing where it has to be asked in one.
pub fn alone(dialect: &dyn Dialect, question: &Question) -> Option<String> {
    let is_set = dialect.session_is_set(question.alone.as_ref()?);
    let [value, schema] = revised(dialect);
    Some(format!(
        "SELECT CASE WHEN {is_set} THEN ({value}) END, {schema}, q.*\nFROM (\n{}\n) AS q",
        question.sql
    ))
}

/// What gives the revision, and the schema.
fn revised(dialect: &dyn Dialect) -> [String; 2] {
    let schema = if dialect.database() == Database::Postgres { DEFAULT_SCHEMA } else { "NULL" };
    let setting = dialect.catalog_table("setting");
    [format!("SELECT value FROM {setting} WHERE name = 'revision'"), schema.to_owned()]
}

/// PostgreSQL's schema for what is named without one.
pub const DEFAULT_SCHEMA: &str = "pg_catalog.current_schema()::text";

/// The tables whose changes give the catalogue another revision.
pub(super) const REVISED: [&str; 7] = ["tracked", "epoch", "gap", "removal", "hold", "redaction", "archive"];

/// Those in which what is written stays.
pub(super) const STAYING: [&str; 4] = ["removal", "hold", "redaction", "archive"];

/// Reads every tracked table.
pub fn tracked(dialect: &dyn Dialect) -> String {
    format!(
        "SELECT id, schema_name, table_name, history_name, tracking, state, {} FROM {} ORDER BY id",
        dialect.micros("since"),
        dialect.catalog_table("tracked"),
    )
}

/// Reads the epochs of all tables, or of one, oldest first.
pub fn epochs(dialect: &dyn Dialect, table: Option<i64>) -> String {
    let only = table.map(|id| format!(" WHERE table_id = {id}")).unwrap_or_default();
    format!(
        "SELECT table_id, number, {}, layout FROM {}{only} ORDER BY table_id, number",
        dialect.micros("from_date"),
        dialect.catalog_table("epoch"),
    )
}

/// Reads the gaps of all tables, or of one, oldest first.
pub fn gaps(dialect: &dyn Dialect, table: Option<i64>) -> String {
    let only = table.map(|id| format!(" WHERE table_id = {id}")).unwrap_or_default();
    format!(
        "SELECT table_id, \"key\", {}, {}, cause, recorded_by FROM {}{only} ORDER BY id",
        dialect.micros("from_date"),
        dialect.micros("to_date"),
        dialect.catalog_table("gap"),
    )
}

/// Reads what was removed of all tables, oldest first.
pub fn removals(dialect: &dyn Dialect) -> String {
    format!(
        "SELECT id, table_id, table_name, what, {}, rule, records, recorded_by, reason, {}, {} FROM {} ORDER BY id",
        dialect.micros("until_date"),
        dialect.micros("began"),
        dialect.micros("ended"),
        dialect.catalog_table("removal"),
    )
}

/// Reads the holds of all tables, oldest first.
pub fn holds(dialect: &dyn Dialect) -> String {
    format!(
        "SELECT id, table_id, \"key\", reason, placed_by, {}, lifted_by, {} FROM {} ORDER BY id",
        dialect.micros("placed"),
        dialect.micros("lifted"),
        dialect.catalog_table("hold"),
    )
}

/// Reads what was redacted of all tables, oldest first.
pub fn redactions(dialect: &dyn Dialect) -> String {
    format!(
        "SELECT table_id, \"key\", bit, from_id, {}, before_id, {} FROM {} ORDER BY id",
        dialect.micros("from_date"),
        dialect.micros("before_date"),
        dialect.catalog_table("redaction"),
    )
}

fn archives_of_which(dialect: &dyn Dialect, condition: &str) -> String {
    format!(
        "SELECT id, table_id, removal_id, manifest, url, sha256, {}, others, complete FROM {} WHERE {condition} ORDER BY id",
        dialect.micros("cut"),
        dialect.catalog_table("archive"),
    )
}

/// Reads the archives of all tables that records were moved to and that are in force, oldest first.
pub fn archives(dialect: &dyn Dialect) -> String {
    archives_of_which(dialect, "ended IS NULL")
}

/// Reads the archives of a table that are not in force any more, for this reason.
pub fn ended_archives(dialect: &dyn Dialect, table: i64, why: &str) -> String {
    archives_of_which(dialect, &format!("table_id = {table} AND ended_by = {}", literal(why)))
}

/// The manifests of all archives that a table ever had, in force or not.
pub fn known_manifests(dialect: &dyn Dialect, table: i64) -> String {
    format!("SELECT manifest FROM {} WHERE table_id = {table}", dialect.catalog_table("archive"))
}

/// What is to be written of an archive before any record is moved to it.
#[derive(Debug, Clone, Copy)]
pub struct NewArchive<'a> {
    /// The table.
    pub table: i64,
    /// The removal by which records are moved.
    pub removal: i64,
    /// Its manifest, from the archive's own folder on.
    pub manifest: &'a str,
    /// Where it is.
    pub url: &'a str,
    /// The SHA-256 of its manifest.
    pub sha256: &'a str,
    /// Everything of before this that was followed by then is in it.
    pub cut: Moment,
    /// What had been removed of the table before, which others must not have added to.
    pub others: &'a str,
    /// Which way its records go.
    pub course: Course,
}

/// Which way the records of an archive go. None goes back to one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// They leave the database.
    Leaving,
    /// All that were to go are gone.
    Gone,
    /// They are brought back.
    Returning,
}

impl Course {
    /// As it is kept.
    fn code(self) -> i64 {
        match self {
            Self::Leaving => 0,
            Self::Gone => 1,
            Self::Returning => 2,
        }
    }

    /// From what is kept.
    pub fn from_code(code: i64) -> Self {
        [Self::Leaving, Self::Gone]
            .into_iter()
            .find(|course| course.code() == code)
            .unwrap_or(Self::Returning)
    }
}

/// Enters an archive.
pub fn insert_archive(dialect: &dyn Dialect, archiving: &NewArchive<'_>) -> String {
    let archive = dialect.catalog_table("archive");
    format!(
        "INSERT INTO {archive} (id, table_id, removal_id, manifest, url, sha256, cut, others, complete)\nSELECT coalesce(max(id), 0) + 1, {}, {}, {}, {}, {}, {}, {}, {} FROM {archive}",
        archiving.table,
        archiving.removal,
        literal(archiving.manifest),
        literal(archiving.url),
        literal(archiving.sha256),
        dialect.moment(archiving.cut),
        literal(archiving.others),
        archiving.course.code(),
    )
}

/// Says which way the records of an archive go from now on, where they do not yet.
pub fn turn_archive(dialect: &dyn Dialect, id: i64, course: Course) -> String {
    let (archive, code) = (dialect.catalog_table("archive"), course.code());
    format!("UPDATE {archive} SET complete = {code} WHERE id = {id} AND complete < {code}")
}

/// Says that an archive is not read any more, and why.
pub fn end_archive(dialect: &dyn Dialect, id: i64, why: &str) -> String {
    format!(
        "UPDATE {} SET ended = {}, ended_by = {} WHERE id = {id} AND ended IS NULL",
        dialect.catalog_table("archive"),
        dialect.clock(),
        literal(why)
    )
}

/// Enters that a field of a row was redacted in its records from one on, before another.
pub fn insert_redaction(
    dialect: &dyn Dialect,
    table: i64,
    key: &str,
    bit: u16,
    range: [(Moment, i64); 2],
    removal: i64,
) -> String {
    let [from, before] = range;
    let redaction = dialect.catalog_table("redaction");
    format!(
        "INSERT INTO {redaction} (id, table_id, \"key\", bit, from_id, from_date, before_id, before_date, removal_id)\nSELECT coalesce(max(id), 0) + 1, {table}, {}, {bit}, {}, {}, {}, {}, {removal} FROM {redaction}",
        literal(key),
        from.1,
        dialect.moment(from.0),
        before.1,
        dialect.moment(before.0)
    )
}

/// The number for the next removal.
pub fn next_removal(dialect: &dyn Dialect) -> String {
    format!("SELECT coalesce(max(id), 0) + 1 FROM {}", dialect.catalog_table("removal"))
}

/// What is to be written of a removal before anything goes.
#[derive(Debug, Clone, Copy)]
pub struct Removing<'a> {
    /// Its number.
    pub id: i64,
    /// What removes: `prune`, `dedupe`, …
    pub what: &'a str,
    /// The rule it goes by, in words.
    pub rule: Option<&'a str>,
    /// Who asked for it.
    pub by: Option<&'a str>,
    /// Why.
    pub reason: Option<&'a str>,
}

/// Enters a removal.
pub fn insert_removal(dialect: &dyn Dialect, layout: &Layout, removing: &Removing<'_>) -> String {
    let text = |text: Option<&str>| text.map_or_else(|| "NULL".to_owned(), literal);
    let clock = dialect.clock();
    format!(
        "INSERT INTO {} (id, table_id, table_name, what, rule, records, recorded_by, reason, began, ended)\nVALUES ({}, {}, {}, {}, {}, 0, {}, {}, {clock}, {clock})",
        dialect.catalog_table("removal"),
        removing.id,
        layout.id,
        literal(&layout.table.to_string()),
        literal(removing.what),
        text(removing.rule),
        text(removing.by),
        text(removing.reason),
    )
}

/// Opens a removal: until it is [closed](close_removal), and within this transaction only, records of its table can be changed
/// and deleted. `until` is up to where the history is then not whole.
pub fn open_removal(dialect: &dyn Dialect, id: i64, until: Option<Moment>) -> String {
    let until = until.map(|until| dialect.moment(until));
    let until = until.map(|until| {
        format!(", until_date = CASE WHEN until_date > {until} THEN until_date ELSE {until} END")
    });
    format!(
        "UPDATE {} SET open_in = {}{} WHERE id = {id}",
        dialect.catalog_table("removal"),
        dialect.opened_in(),
        until.unwrap_or_default()
    )
}

/// Closes a removal, by which so many records more are gone.
pub fn close_removal(dialect: &dyn Dialect, id: i64, records: u64) -> String {
    format!(
        "UPDATE {} SET open_in = NULL, records = records + {records}, ended = {} WHERE id = {id}",
        dialect.catalog_table("removal"),
        dialect.clock()
    )
}

/// Enters a hold: of a row, by its key as JSON, or of the whole table.
pub fn insert_hold(
    dialect: &dyn Dialect,
    table: i64,
    key: Option<&str>,
    reason: &str,
    by: Option<&str>,
) -> String {
    let text = |text: Option<&str>| text.map_or_else(|| "NULL".to_owned(), literal);
    let hold = dialect.catalog_table("hold");
    format!(
        "INSERT INTO {hold} (id, table_id, \"key\", reason, placed_by, placed)\nSELECT coalesce(max(id), 0) + 1, {table}, {}, {}, {}, {} FROM {hold}",
        text(key),
        literal(reason),
        text(by),
        dialect.clock()
    )
}

/// Lifts a hold.
pub fn lift_hold(dialect: &dyn Dialect, id: i64, by: Option<&str>) -> String {
    format!(
        "UPDATE {} SET lifted = {}, lifted_by = {} WHERE id = {id} AND lifted IS NULL",
        dialect.catalog_table("hold"),
        dialect.clock(),
        by.map_or_else(|| "NULL".to_owned(), literal)
    )
}

/// The number for the next tracked table: one that was never another's, of which something is still told.
pub fn next_id(dialect: &dyn Dialect) -> String {
    format!(
        "SELECT coalesce(max(id), 0) + 1 FROM (SELECT id FROM {} UNION ALL SELECT table_id FROM {}) AS known",
        dialect.catalog_table("tracked"),
        dialect.catalog_table("removal")
    )
}

/// Enters a tracked table. `since` is SQL: a literal or the database's clock.
pub fn insert_tracked(
    dialect: &dyn Dialect,
    layout: &Layout,
    tracking: &Tracking,
    state: &str,
    since: &str,
) -> String {
    format!(
        "INSERT INTO {} (id, schema_name, table_name, history_name, tracking, state, since)\nVALUES ({}, {}, {}, {}, {}, {}, {since})",
        dialect.catalog_table("tracked"),
        layout.id,
        layout.table.schema.as_deref().map_or_else(|| "NULL".to_owned(), literal),
        literal(&layout.table.name),
        literal(&layout.history.name),
        literal(&json(tracking)),
        literal(state),
    )
}

/// Enters the options and the name of a tracked table anew.
pub fn update_tracked(dialect: &dyn Dialect, id: i64, table: &TableName, tracking: &Tracking) -> String {
    format!(
        "UPDATE {} SET schema_name = {}, table_name = {}, tracking = {} WHERE id = {id}",
        dialect.catalog_table("tracked"),
        table.schema.as_deref().map_or_else(|| "NULL".to_owned(), literal),
        literal(&table.name),
        literal(&json(tracking)),
    )
}

/// Dates the beginning of a table's history anew, and that of its first epoch; `at` is SQL.
pub fn begin_at(dialect: &dyn Dialect, id: i64, at: &str) -> Vec<String> {
    let (tracked, epoch) = (dialect.catalog_table("tracked"), dialect.catalog_table("epoch"));
    vec![
        format!("UPDATE {tracked} SET since = {at} WHERE id = {id}"),
        format!(
            "UPDATE {epoch} SET from_date = (SELECT since FROM {tracked} WHERE id = {id}) WHERE table_id = {id} AND number = 1"
        ),
    ]
}

/// Sets the state of a tracked table.
pub fn set_state(dialect: &dyn Dialect, id: i64, state: &str) -> String {
    format!("UPDATE {} SET state = {} WHERE id = {id}", dialect.catalog_table("tracked"), literal(state))
}

/// Enters an epoch; `from` is SQL.
pub fn insert_epoch(dialect: &dyn Dialect, number: i64, layout: &Layout, from: &str) -> String {
    format!(
        "INSERT INTO {} (table_id, number, from_date, layout)\nVALUES ({}, {number}, {from}, {})",
        dialect.catalog_table("epoch"),
        layout.id,
        literal(&json(layout)),
    )
}

/// Enters a gap; `from` and `to` are SQL.
pub fn insert_gap(
    dialect: &dyn Dialect,
    table: i64,
    key: Option<&str>,
    from: &str,
    to: &str,
    cause: &str,
    by: &str,
) -> String {
    format!(
        "INSERT INTO {} (table_id, \"key\", from_date, to_date, cause, recorded_by)\nVALUES ({table}, {}, {from}, {to}, {}, {})",
        dialect.catalog_table("gap"),
        key.map_or_else(|| "NULL".to_owned(), literal),
        literal(cause),
        literal(by),
    )
}

/// Closes the open gaps of a table at a moment given as SQL.
pub fn close_gaps(dialect: &dyn Dialect, table: i64, to: &str) -> String {
    format!(
        "UPDATE {} SET to_date = {to} WHERE table_id = {table} AND to_date IS NULL",
        dialect.catalog_table("gap")
    )
}

/// Removes a table from the catalogue; what was removed of it stays written down.
pub fn forget(dialect: &dyn Dialect, id: i64) -> Vec<String> {
    [("gap", "table_id"), ("epoch", "table_id"), ("tracked", "id")]
        .map(|(table, column)| format!("DELETE FROM {} WHERE {column} = {id}", dialect.catalog_table(table)))
        .to_vec()
}

/// The moment as the database keeps it, or its clock.
pub fn moment_or_clock(dialect: &dyn Dialect, moment: Option<Moment>) -> String {
    moment.map_or_else(|| dialect.clock().to_owned(), |moment| dialect.moment(moment))
}

fn json<T: serde::Serialize>(value: &T) -> String {
    // Options and layouts are plain data with text keys: this cannot fail.
    serde_json::to_string(value).unwrap_or_default()
}
