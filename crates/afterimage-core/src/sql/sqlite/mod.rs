//! SQLite.
//!
//! Triggers run in the *writer's* SQLite, which may be as old as 3.38, with any pragmas: their SQL uses nothing newer,
//! no pragma function (refused where `trusted_schema` is off), and no constraint on the history that the writer's
//! `OR IGNORE` or `OR REPLACE` could turn against a record.
//!
//! One row, `afterimage_state`, holds the sequence, the clock and the context in force. There is one writer at a time,
//! so it never races; and because ids and capture times both come from it, the order of ids is the order of records.

mod affinity;
mod baseline;
mod capture;
mod catalog;
mod check;
mod history;
mod log;
mod overtaken;
mod packed;
mod read;
mod replaced;
mod restore;

use crate::layout::{Field, Keeping, Layout};
use crate::name::TableName;
use crate::schema::{Column, Table};
use crate::sql::expression::{balanced, col};
use crate::sql::log::{Position, Read, Source};
use crate::sql::question::{About, Given, Question};
use crate::sql::{AsOf, Bound, Dialect, First, Rows, Script, WriteBack, check_tx, scoped};
use crate::time::Moment;
use crate::value::Value;
use crate::{Context, Database, Result};

pub use affinity::Affinity;
pub use baseline::{Batch, batch, set_numbers_aside};
pub use catalog::{CONTEXT_IS_SET, SET_CONTEXT, context};
pub(super) use log::SPELLING;
pub(super) use read::recorded_literal;

/// The SQL of SQLite.
#[derive(Debug)]
pub struct Sqlite;

macro_rules! clock {
    () => {
        "CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000"
    };
}

/// The clock, in microseconds: SQLite's `now` counts milliseconds, and is one value during a statement.
const CLOCK: &str = clock!();

/// Takes the next number and the time. The clock may go back; the state never does.
const TICK: &str = concat!(
    "UPDATE afterimage_state SET history_id = history_id + 1, history_date = max(history_date, ",
    clock!(),
    ");"
);

impl Dialect for Sqlite {
    fn database(&self) -> Database {
        Database::Sqlite
    }

    fn catalog(&self) -> Script {
        catalog::create()
    }

    fn catalog_table(&self, name: &str) -> String {
        format!("afterimage_{name}")
    }

    fn moment(&self, moment: Moment) -> String {
        moment.as_micros().to_string()
    }

    fn micros(&self, expression: &str) -> String {
        expression.to_owned()
    }

    fn clock(&self) -> &'static str {
        "(SELECT coalesce(at, history_date) FROM afterimage_state)"
    }

    fn tick(&self) -> Script {
        vec![format!("UPDATE afterimage_state SET history_date = max(history_date + 1, {CLOCK})")]
    }

    fn open(&self, writes: bool) -> String {
        if writes { "BEGIN IMMEDIATE" } else { "BEGIN" }.to_owned()
    }

    fn opened_in(&self) -> &'static str {
        "1"
    }

    fn create_history(&self, layout: &Layout) -> Script {
        history::create(layout)
    }

    fn alter_history(&self, old: &Layout, new: &Layout, fills: &[(u16, String)]) -> Script {
        history::alter(old, new, fills)
    }

    fn drop_history(&self, layout: &Layout) -> Script {
        vec![format!("DROP TABLE IF EXISTS {}", layout.history.quoted())]
    }

    fn install_capture(&self, layout: &Layout, table: &Table, baseline: bool) -> Script {
        let mut script = self.remove_capture(layout);
        script.extend(history::guards(layout));
        script.extend(replaced::create_pending(layout, table));
        script.extend(capture::triggers(layout, table, baseline));
        script
    }

    fn remove_capture(&self, layout: &Layout) -> Script {
        let mut script: Script = capture::trigger_names(layout.id)
            .into_iter()
            .map(|name| format!("DROP TRIGGER IF EXISTS {name}"))
            .collect();
        script.push(format!("DROP TABLE IF EXISTS {}", replaced::pending(layout)));
        script
    }

    fn baseline(&self, layout: &Layout) -> Script {
        baseline::whole(layout)
    }

    fn begin(&self) -> &'static str {
        "BEGIN IMMEDIATE"
    }

    fn set_context(&self, context: &Context, again: bool) -> Result<String> {
        catalog::set_context(context, again)
    }

    fn clear_context(&self) -> Option<&'static str> {
        Some("DELETE FROM afterimage_context")
    }

    fn parameter(&self, place: usize, about: About<'_>) -> (String, Value) {
        match about {
            About::Text(_) | About::Key(_) => (format!("?{place}"), about.value()),
            About::Number(_) => (format!("CAST(?{place} AS INTEGER)"), about.value()),
            About::Moment(at) => {
                (format!("CAST(?{place} AS INTEGER)"), About::Number(at.as_micros()).value())
            }
        }
    }

    fn records_of_key(
        &self,
        layout: &Layout,
        fields: &[Field],
        key: &[Value],
        bound: Bound,
        settled: &[&Layout],
    ) -> Question {
        read::records_of_key(layout, fields, key, bound, settled)
    }

    fn arrival_of(&self, layout: &Layout) -> String {
        read::arrival_of(layout)
    }

    fn records_at(&self, source: &Source<'_>, read: Read, positions: &[Position]) -> Question {
        log::records_at(source, read, positions)
    }

    fn records_where(&self, source: &Source<'_>, read: Read, found: &dyn Fn(&str) -> String) -> String {
        log::records(source, read, &format!("({})", found("h.history_date, h.history_id")))
    }

    fn newest_of_each(&self, layout: &Layout, deleted: Option<bool>, limit: Option<u64>) -> String {
        scoped::newest_of_each(layout, deleted, limit)
    }

    fn versions(&self, source: &Source<'_>) -> String {
        log::versions(source)
    }

    fn state_before(&self, source: &Source<'_>, position: Position) -> String {
        log::state_before(source, position)
    }

    fn unfinished(&self, histories: &[&Layout], bound: Bound) -> Question {
        let Some(at) = bound.moment() else { return Question::once("SELECT NULL WHERE 0".to_owned()) };
        let mut given = Given::beside(self);
        let at = given.moment(at);
        // Where one ended is an upper bound: a write of which nothing was recorded takes a time too.
        let later: Vec<String> = histories
            .iter()
            .map(|layout| {
                format!(
                    "EXISTS (SELECT 1 FROM {} AS h WHERE h.history_date > {at} AND h.history_date <= t.last_date AND h.history_scope IN (SELECT w.id FROM afterimage_scope AS w WHERE w.tx = t.tx))",
                    layout.history.quoted()
                )
            })
            .collect();
        let later = balanced(&later, "OR", "0");
        given.ask(format!("SELECT CAST(t.tx AS TEXT) FROM {} AND {later}", read::spanning(&at)))
    }

    fn position_of_tx(&self, _histories: &[&Layout], tx: &str) -> Result<String> {
        let id = check_tx(tx)?;
        Ok(format!(
            "SELECT last_date, last_id FROM afterimage_scope WHERE id = {id} AND tx = {id} AND last_date IS NOT NULL"
        ))
    }

    fn count_of_tx(&self, layout: &Layout, tx: &str) -> Result<String> {
        let scopes = format!("SELECT id FROM afterimage_scope WHERE tx = {}", check_tx(tx)?);
        Ok(format!("SELECT count(*) FROM {} WHERE history_scope IN ({scopes})", layout.history.quoted()))
    }

    fn as_of(&self, as_of: &AsOf<'_>) -> String {
        read::as_of(as_of)
    }

    fn update_from(&self, back: &WriteBack<'_>) -> String {
        restore::update_from(back)
    }

    fn insert_from(&self, back: &WriteBack<'_>) -> String {
        restore::insert_from(back)
    }

    fn delete_beyond(&self, back: &WriteBack<'_>, rows: Rows<'_>) -> String {
        restore::delete_beyond(back, rows)
    }

    fn count_beyond(&self, back: &WriteBack<'_>, rows: Rows<'_>) -> String {
        restore::count_beyond(back, rows)
    }

    fn move_row(&self, layout: &Layout, from: &[Value], to: &[Value]) -> String {
        restore::move_row(layout, from, to)
    }

    fn overwritten(&self, layout: &Layout, tx: &str) -> Result<String> {
        restore::overwritten(layout, tx)
    }

    fn contested(&self, layout: &Layout, beyond: Bound) -> String {
        scoped::contested(layout, beyond)
    }

    fn count_collateral(&self, layout: &Layout, own: &str, rows: Rows<'_>) -> Result<String> {
        restore::count_collateral(layout, own, rows)
    }

    fn own_transaction(&self) -> &'static str {
        "SELECT CAST(c.tx AS TEXT) FROM afterimage_state AS s JOIN afterimage_scope AS c ON c.id = s.scope"
    }

    fn live_row(&self, layout: &Layout, fields: &[Field], key: &[Value]) -> String {
        restore::live_row(layout, fields, key)
    }

    fn row_exists(&self, table: &TableName, columns: &[&Column], values: &[Value]) -> String {
        restore::row_exists(table, columns, values)
    }

    fn same_row(&self, layout: &Layout, key: &[String]) -> String {
        restore::same_key(layout, key)
    }

    fn kept(&self, field: &Field, row: &str) -> String {
        kept(field, row)
    }

    fn within(&self, alias: &str, bound: Bound) -> String {
        scoped::within(alias, bound)
    }

    fn beyond(&self, alias: &str, bound: Bound) -> String {
        scoped::beyond(alias, bound)
    }

    fn written_since(&self, as_of: &AsOf<'_>) -> Option<String> {
        let as_of = AsOf { rows: Rows::Beyond(as_of.bound), first: false, ..as_of.clone() };
        // In parentheses, since its own order is not that of the whole.
        Some(format!("SELECT * FROM (\n{}\n)", read::as_of(&as_of)))
    }

    fn count_as_of(&self, as_of: &AsOf<'_>) -> String {
        read::count_as_of(as_of)
    }

    fn byte_order(&self, _field: &Field, value: &str) -> String {
        format!("{value} COLLATE BINARY")
    }

    fn shown(&self, _layout: &Layout, query: &str, fields: &[&Field]) -> String {
        let columns: Vec<String> = fields.iter().map(|field| col("q", &field.name)).collect();
        format!("SELECT {} FROM (\n{query}\n) AS q", columns.join(", "))
    }

    fn differences(&self, layout: &Layout, sparse: bool) -> String {
        check::differences(layout, sparse)
    }

    fn broken_sequences(&self, layout: &Layout, first: First) -> String {
        check::broken_sequences(layout, first)
    }

    fn resync(&self, layout: &Layout, sparse: bool, _new_epoch: bool) -> Script {
        check::resync(layout, sparse)
    }
}

/// What a record keeps of a field's value in some row.
fn kept(field: &Field, row: &str) -> String {
    match field.keeping {
        Keeping::Stored => col(row, &field.name),
        Keeping::Masked => format!("CASE WHEN {} IS NOT NULL THEN 1 END", col(row, &field.name)),
    }
}

/// Whether the stored image of a column differs between two rows.
///
/// `IS NOT` compares by the column's collation, and 1 with 1.0 as equal: neither is what is stored.
fn differs(field: &Field, before: &str, after: &str) -> String {
    let (a, b) = (col(before, &field.name), col(after, &field.name));
    if field.plain_equality {
        format!("({a} IS NOT {b})")
    } else {
        format!("({a} IS NOT {b} COLLATE BINARY OR typeof({a}) IS NOT typeof({b}))")
    }
}

/// `left.key = right.key`, column by column; the names of the left side's columns come from the table, those of
/// the right side too. Exact, and able to use the left side's index whatever its collation.
fn same_key(layout: &Layout, left: &str, right: &str) -> String {
    let terms: Vec<String> = layout
        .key_fields()
        .map(|field| {
            let (a, b) = (col(left, &field.name), col(right, &field.name));
            if field.plain_equality {
                format!("{a} = {b}")
            } else {
                format!("{a} = {b} AND {a} = {b} COLLATE BINARY")
            }
        })
        .collect();
    terms.join(" AND ")
}

/// The columns of the history that a record fills, after the header's fixed part.
fn history_columns(layout: &Layout) -> String {
    let columns: Vec<&str> = layout.fields.iter().map(|field| field.history.as_str()).collect();
    crate::name::Quoted::list(columns)
}

/// The header's columns, in the order in which records are inserted.
fn header_columns(layout: &Layout) -> String {
    let words: Vec<String> = layout.word_columns().collect();
    format!("history_id, history_date, history_type, history_scope, {}, history_old_key", words.join(", "))
}

fn trigger_name(id: i64, what: &str) -> String {
    format!("afterimage_{id}_{what}")
}

fn table_literal(table: &TableName) -> String {
    table.name.replace('\'', "''")
}
