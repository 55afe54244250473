//! MariaDB (10.6 and later).
//!
//! Row triggers, as on SQLite, and like there a record refers to its context by a number: `history_scope`. Other than
//! there, many write at once, so nothing is shared that a transaction would have to wait for: numbers come from a
//! sequence, the time from the clock under the row's own lock, the context from a row of the connection's own.
//!
//! Everything here is written for one `sql_mode`, that of [`SESSION`], which triggers and procedures keep from their
//! creation: names stand in double quotes, `||` joins texts, and no backslash escapes anything.

pub mod baseline;
mod capture;
mod cascade;
mod catalog;
mod check;
mod history;
mod log;
mod read;
mod restore;
mod value;

use crate::layout::{Field, Keeping, Layout};
use crate::name::{Quoted, TableName};
use crate::schema::{Column, Table};
use crate::sql::expression::col;
use crate::sql::log::{Position, Read, Source};
use crate::sql::question::{About, Question};
use crate::sql::{AsOf, Bound, Dialect, First, Rows, Script, WriteBack, check_tx, scoped};
use crate::time::Moment;
use crate::value::Shown;
use crate::value::Value;
use crate::{Context, Database, Result};

pub(super) use log::SPELLING;
pub use value::is_single;
pub(super) use value::recorded_literal;

/// The SQL of MariaDB.
#[derive(Debug)]
pub struct MariaDb;

macro_rules! sql_mode {
    () => {
        "SET SESSION sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES,STRICT_ALL_TABLES,ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO'"
    };
}

/// How SQL is read.
const SQL_MODE: &str = sql_mode!();

/// What a session of the engine's own sets: how SQL is read, in which zone times are shown, that an EXISTS stays the
/// look-up it is written as (else whole histories are read to answer it) and is asked again for each key (else the answer
/// for 'A' is given for 'a'), that a grouped subquery is not read anew for each row that it is joined with (else, below an
/// `IN`, rows go missing: 10.11.19), that whoever reads one moment and writes finds out when somebody else wrote meanwhile,
/// and that a text of ours is compared as that of a parameter is, whatever the address says of collations.
pub const SESSION: &str = concat!(
    sql_mode!(),
    ", time_zone = '+00:00', optimizer_switch = 'exists_to_in=off,subquery_cache=off,split_materialized=off'; SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ; SET NAMES utf8mb4"
);

/// Refuses to write what somebody else wrote since this transaction's moment; known since 10.6.18 and 10.11.8.
pub const SNAPSHOT_ISOLATION: &str = "SET SESSION innodb_snapshot_isolation = ON";

/// A statement, one only, that is prepared for this once, with the values of its parameters: it reads the same in whatever
/// mode a session reads SQL. It is one message; the driver's own way takes three, and the next one may wait 40 ms for the
/// last of these to be acknowledged.
///
/// MariaDB answers some statements wrongly that it prepared before and are asked again: where it takes another way then than it
/// took at first, a subquery may find nothing of what is there.
pub fn once(sql: &str, values: &[String]) -> String {
    let using = if values.is_empty() { String::new() } else { format!(" USING {}", values.join(", ")) };
    format!("EXECUTE IMMEDIATE {}{using}", text(sql))
}

/// Text, in whatever mode a session reads SQL.
pub fn text(text: &str) -> String {
    format!("CONVERT({} USING utf8mb4)", bytes(text.as_bytes()))
}

/// Bytes.
pub fn bytes(bytes: &[u8]) -> String {
    scoped::hex(bytes)
}

impl Dialect for MariaDb {
    fn database(&self) -> Database {
        Database::MariaDb
    }

    fn catalog(&self) -> Script {
        catalog::create()
    }

    fn session_of_a_script(&self) -> Script {
        vec![SQL_MODE.to_owned()]
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
        "afterimage_clock()"
    }

    fn open(&self, writes: bool) -> String {
        if writes { "START TRANSACTION" } else { "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY" }
            .to_owned()
    }

    fn open_to_remove(&self) -> String {
        // So that what a statement reads is not locked: neither for writers, nor against what they wrote meanwhile.
        "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; START TRANSACTION".to_owned()
    }

    fn opened_in(&self) -> &'static str {
        "CONNECTION_ID()"
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
        let mut script = history::guards(layout);
        script.extend(capture::triggers(layout, table, baseline));
        script
    }

    fn remove_capture(&self, layout: &Layout) -> Script {
        let mut script: Script = capture::trigger_names(layout.id)
            .into_iter()
            .map(|name| format!("DROP TRIGGER IF EXISTS {name}"))
            .collect();
        script.extend(cascade::remove(layout));
        script
    }

    fn baseline(&self, layout: &Layout) -> Script {
        baseline::whole(layout)
    }

    fn begin(&self) -> &'static str {
        "START TRANSACTION"
    }

    fn set_context(&self, context: &Context, again: bool) -> Result<String> {
        catalog::set_context(context, again)
    }

    fn clear_context(&self) -> Option<&'static str> {
        // By its number, so that no gap beside it is locked.
        Some("DELETE FROM afterimage_context WHERE number = @afterimage_context")
    }

    fn keeps_questions(&self) -> bool {
        false
    }

    fn parameter(&self, _place: usize, about: About<'_>) -> (String, Value) {
        ("?".to_owned(), about.value())
    }

    fn records_of_key(
        &self,
        layout: &Layout,
        fields: &[Field],
        key: &[Value],
        bound: Bound,
        _settled: &[&Layout],
    ) -> Question {
        // It keeps no question prepared: none is asked alone.
        read::records_of_key(layout, fields, key, bound)
    }

    fn arrival_of(&self, layout: &Layout) -> String {
        read::arrival_of(layout)
    }

    fn records_at(&self, source: &Source<'_>, read: Read, positions: &[Position]) -> Question {
        log::records_at(source, read, positions)
    }

    fn records_where(&self, source: &Source<'_>, read: Read, found: &dyn Fn(&str) -> String) -> String {
        log::records_where(source, read, &format!("({})", found("h.history_date, h.history_id")))
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
        Question::once(read::unfinished(histories, bound))
    }

    fn position_of_tx(&self, histories: &[&Layout], tx: &str) -> Result<String> {
        Ok(read::position_of_tx(histories, check_tx(tx)?))
    }

    fn count_of_tx(&self, layout: &Layout, tx: &str) -> Result<String> {
        Ok(format!(
            "SELECT count(*) FROM {} AS h WHERE {}",
            layout.history.quoted(),
            read::of_tx("h", check_tx(tx)?)
        ))
    }

    fn as_of(&self, as_of: &AsOf<'_>) -> String {
        read::as_of(as_of)
    }

    fn stage(&self, back: &WriteBack<'_>, rows: Rows<'_>) -> Script {
        restore::stage(back, rows)
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
        "SELECT CAST(coalesce(s.tx, s.number) AS CHAR) FROM afterimage_session AS s WHERE s.conn = CONNECTION_ID() ORDER BY s.number DESC LIMIT 1"
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

    fn written_since(&self, _as_of: &AsOf<'_>) -> Option<String> {
        // Measured: with one record of a hundred beyond the bound, telling live rows from written ones took longer than
        // reading all of it from the records.
        None
    }

    fn count_as_of(&self, as_of: &AsOf<'_>) -> String {
        read::count_as_of(as_of)
    }

    /// Text by its bytes, as in the index of the records along which pages are read.
    fn key_order(&self, layout: &Layout, row: &str) -> String {
        let order = layout.key_fields().map(|field| {
            let collate = history::key_collation(field).map(|name| format!(" COLLATE {name}"));
            format!("{}{}", col(row, &field.name), collate.unwrap_or_default())
        });
        order.collect::<Vec<_>>().join(", ")
    }

    fn byte_order(&self, field: &Field, value: &str) -> String {
        match field.shown {
            Shown::Text | Shown::Json => {
                format!("CAST({value} AS CHAR CHARACTER SET utf8mb4) COLLATE utf8mb4_nopad_bin")
            }
            _ => value.to_owned(),
        }
    }

    fn shown(&self, layout: &Layout, query: &str, fields: &[&Field]) -> String {
        // The order of a derived table is nobody's promise.
        let columns: Vec<String> =
            fields.iter().map(|field| value::handed_over(field, &col("q", &field.name))).collect();
        format!(
            "SELECT {} FROM (\n{query}\n) AS q ORDER BY {}",
            columns.join(", "),
            self.key_order(layout, "q")
        )
    }

    fn differences(&self, layout: &Layout, sparse: bool) -> String {
        check::differences(layout, sparse)
    }

    fn broken_sequences(&self, layout: &Layout, first: First) -> String {
        check::broken_sequences(layout, first)
    }

    fn resync(&self, layout: &Layout, sparse: bool, new_epoch: bool) -> Script {
        check::resync(layout, sparse, new_epoch)
    }
}

/// What a record keeps of a field's value in some row.
fn kept(field: &Field, row: &str) -> String {
    match field.keeping {
        Keeping::Stored => col(row, &field.name),
        Keeping::Masked => format!("IF({} IS NULL, NULL, 1)", col(row, &field.name)),
    }
}

/// Whether two values of a column differ as they are stored. `<=>` compares by the column's collation, which takes 'a',
/// 'A' and 'a ' for one, and −0 for 0; a float as text has six digits only, so that it needs both. Of a timestamp in a row
/// looked up by its key, 10.11 compares a trigger's value without its fraction.
fn values_differ(field: &Field, a: &str, b: &str) -> String {
    if value::is_timestamp(field) {
        format!("NOT (UNIX_TIMESTAMP({a}) <=> UNIX_TIMESTAMP({b}))")
    } else if field.plain_equality {
        format!("NOT ({a} <=> {b})")
    } else if value::is_float(field) {
        format!("NOT ({a} <=> {b} AND BINARY {a} <=> BINARY {b})")
    } else {
        format!("NOT (BINARY {a} <=> BINARY {b})")
    }
}

/// Whether the stored image of a column differs between two rows.
fn differs(field: &Field, before: &str, after: &str) -> String {
    values_differ(field, &col(before, &field.name), &col(after, &field.name))
}

/// `left.key = right.key`, column by column: exact, and able to use the index of either side.
fn keys_are_equal(
    layout: &Layout,
    left: impl Fn(&Field) -> String,
    right: impl Fn(&Field) -> String,
) -> String {
    let terms: Vec<String> = layout
        .key_fields()
        .map(|field| {
            let (a, b) = (left(field), right(field));
            if field.plain_equality {
                format!("{a} = {b}")
            } else {
                format!("{a} = {b} AND BINARY {a} = BINARY {b}")
            }
        })
        .collect();
    terms.join(" AND ")
}

/// The columns of the history that a record fills, after the header's fixed part.
fn history_columns(layout: &Layout) -> String {
    Quoted::list(layout.fields.iter().map(|field| field.history.as_str()))
}

/// The header's columns, in the order in which records are inserted.
fn header_columns(layout: &Layout) -> String {
    let words: Vec<String> = layout.word_columns().collect();
    format!("history_id, history_date, history_type, history_scope, {}, history_old_key", words.join(", "))
}

/// `INSERT INTO history (…)` up to the values that follow.
fn insert_into(layout: &Layout) -> String {
    format!(
        "INSERT INTO {} ({}, {})",
        layout.history.quoted(),
        header_columns(layout),
        history_columns(layout)
    )
}

/// The values a full record keeps of a row.
fn full_row(layout: &Layout, row: &str) -> String {
    layout.fields.iter().map(|field| kept(field, row)).collect::<Vec<_>>().join(", ")
}

/// The next number; an arrival takes the one after its departure's, so every other stays free.
const NEXT: &str = "NEXTVAL(afterimage_sequence)";
