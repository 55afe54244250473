//! The catalogue's own statements: the same for every database, since each keeps text, integers and its own moments.

use crate::Database;
use crate::layout::Layout;
use crate::name::{TableName, literal};
use crate::sql::Dialect;
use crate::time::Moment;
use crate::tracking::Tracking;

/// The columns of a tracked table's row in the catalogue, in the order in which [`tracked`] reads them.
pub const TRACKED_COLUMNS: [&str; 7] =
    ["id", "schema_name", "table_name", "history_name", "tracking", "state", "since"];

/// Which revision of the catalogue this is: a random text, another after each change; and the schema that a table without one
/// is in.
pub fn revision(dialect: &dyn Dialect) -> String {
    let schema = if dialect.database() == Database::Postgres { DEFAULT_SCHEMA } else { "NULL" };
    format!("SELECT value, {schema} FROM {} WHERE name = 'revision'", dialect.catalog_table("setting"))
}

/// PostgreSQL's schema for what is named without one.
pub const DEFAULT_SCHEMA: &str = "pg_catalog.current_schema()::text";

/// The tables whose changes give the catalogue another revision.
pub(super) const REVISED: [&str; 3] = ["tracked", "epoch", "gap"];

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

/// The number for the next tracked table.
pub fn next_id(dialect: &dyn Dialect) -> String {
    format!("SELECT coalesce(max(id), 0) + 1 FROM {}", dialect.catalog_table("tracked"))
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

/// Removes every trace of a table from the catalogue.
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
