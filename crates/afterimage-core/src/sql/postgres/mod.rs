//! PostgreSQL.
//!
//! Statement triggers with transition tables record a statement at once. Everything of ours lives in schema
//! `afterimage`; the history stands beside its table.

mod capture;
mod catalog;
mod check;
mod header;
mod history;
mod image;
mod log;
mod overtaken;
pub mod partitions;
mod put_back;
mod read;
mod restore;
mod trigger;

use crate::layout::{Field, Layout};
use crate::name::{TableName, literal};
use crate::schema::{Column, Table};
use crate::sql::log::{Position, Read, Source};
use crate::sql::question::{About, Alone, Question};
use crate::sql::{AsOf, Bound, Dialect, First, Rows, Script, WriteBack, check_tx};
use crate::time::Moment;
use crate::value::Shown;
use crate::value::Value;
use crate::{Context, Database, Result};

pub use capture::functions;
pub use history::{baseline_columns, baseline_source, interrupted, late};
pub(super) use log::SPELLING;
pub(super) use put_back::{put_value, record_as_json};
pub use trigger::{Level, Trigger, level, triggers};

/// The SQL of PostgreSQL.
#[derive(Debug)]
pub struct Postgres;

/// What a session sets before it reads values as text or runs a script: whatever the server's settings are, a value
/// has one text, and a literal one meaning.
pub const SESSION: &str = "SET LOCAL timezone = 'UTC'; SET LOCAL datestyle = 'ISO, MDY'; SET LOCAL intervalstyle = 'postgres'; \
SET LOCAL extra_float_digits = 1; SET LOCAL bytea_output = 'hex'; SET LOCAL lc_monetary = 'C'; SET LOCAL xmlbinary = 'base64'; \
SET LOCAL standard_conforming_strings = on; SET LOCAL row_security = off";

/// Whether a session is as if that had been set, but for what money looks like: drivers set most of it, and it is the servers'
/// own choice. One that reads serializably could keep others from writing.
const AS_SET: &str = "pg_catalog.current_setting('TimeZone') = 'UTC' AND pg_catalog.current_setting('DateStyle') = 'ISO, MDY' \
AND pg_catalog.current_setting('IntervalStyle') = 'postgres' AND pg_catalog.current_setting('extra_float_digits')::int > 0 \
AND pg_catalog.current_setting('bytea_output') = 'hex' AND pg_catalog.current_setting('xmlbinary') = 'base64' \
AND pg_catalog.current_setting('standard_conforming_strings') = 'on' AND pg_catalog.current_setting('transaction_isolation') <> 'serializable'";

const MONEY_AS_SET: &str = " AND pg_catalog.current_setting('lc_monetary') IN ('C', 'POSIX')";

/// Types that hold no money.
const PLAIN: [&str; 24] = [
    "bigint",
    "boolean",
    "bytea",
    "character",
    "character varying",
    "cidr",
    "date",
    "double precision",
    "inet",
    "integer",
    "interval",
    "json",
    "jsonb",
    "macaddr",
    "numeric",
    "oid",
    "real",
    "smallint",
    "text",
    "time without time zone",
    "timestamp with time zone",
    "timestamp without time zone",
    "uuid",
    "xml",
];

impl Dialect for Postgres {
    fn database(&self) -> Database {
        Database::Postgres
    }

    fn catalog(&self) -> Script {
        catalog::create()
    }

    fn catalog_table(&self, name: &str) -> String {
        format!("afterimage.{name}")
    }

    fn moment(&self, moment: Moment) -> String {
        format!("'{moment}'::timestamptz")
    }

    fn micros(&self, expression: &str) -> String {
        format!("(extract(epoch FROM {expression}) * 1000000)::bigint")
    }

    fn clock(&self) -> &'static str {
        "clock_timestamp()"
    }

    fn open(&self, writes: bool) -> String {
        if writes {
            return format!("BEGIN; {SESSION}");
        }
        // Questions about whole tables sort them; compiling their plans takes longer than it saves.
        format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; {SESSION}; SET LOCAL jit = off; SET LOCAL work_mem = '64MB'"
        )
    }

    fn open_to_answer(&self) -> String {
        // Planning some of them anew each time, for what they ask about, takes longer than answering them.
        format!("{}; SET LOCAL plan_cache_mode = force_generic_plan", self.open(false))
    }

    fn opened_in(&self) -> &'static str {
        "pg_catalog.pg_current_xact_id()::text::bigint"
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

    fn install_capture(&self, layout: &Layout, table: &Table, _baseline: bool) -> Script {
        let mut script: Script =
            capture::functions(layout, table).into_iter().flat_map(|function| function.create()).collect();
        script.extend(trigger::create(layout, table));
        script
    }

    fn remove_capture(&self, layout: &Layout) -> Script {
        capture::names(layout.id).map(|name| format!("DROP FUNCTION IF EXISTS {name}() CASCADE")).to_vec()
    }

    fn baseline(&self, layout: &Layout) -> Script {
        history::baseline(layout)
    }

    fn begin(&self) -> &'static str {
        "BEGIN"
    }

    fn set_context(&self, context: &Context, _again: bool) -> Result<String> {
        let digits: String = context.to_json()?.bytes().map(|byte| format!("{byte:02x}")).collect();
        Ok(format!(
            "SELECT set_config('afterimage.context', convert_from(decode('{digits}', 'hex'), 'UTF8'), true)"
        ))
    }

    fn parameter(&self, place: usize, about: About<'_>) -> (String, Value) {
        let name = match about {
            About::Text(_) => format!("${place}::text"),
            About::Number(_) => format!("${place}::text::bigint"),
            About::Moment(_) => format!("${place}::text::timestamptz"),
            About::Key(_) => format!("${place}"),
        };
        // Of one type, whatever is asked about: the driver goes by the text when it looks for what is prepared.
        (name, Value::Text(about.value().to_string()))
    }

    fn are_plain(&self, fields: &[Field]) -> bool {
        let bare =
            |field: &Field| field.sql_type.split(['(', '[']).next().unwrap_or_default().trim().to_owned();
        fields.iter().all(|field| PLAIN.contains(&bare(field).as_str()))
    }

    fn is_short(&self, looked_up: u64) -> bool {
        // It compiles the plan of a question that it expects to be long, which takes it longer than to answer, and only what a
        // transaction sets keeps it from that.
        looked_up <= 4000
    }

    fn session_is_set(&self, alone: &Alone) -> String {
        let money = if alone.plain { "" } else { MONEY_AS_SET };
        let hides = |history: &TableName| {
            format!(" AND NOT pg_catalog.row_security_active({})", literal(&history.quoted()))
        };
        format!("{AS_SET}{money}{}", alone.histories.iter().map(hides).collect::<String>())
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
        log::records(source, read, &format!("({}) AS h", found("h.*")))
    }

    fn newest_of_each(&self, layout: &Layout, deleted: Option<bool>, limit: Option<u64>) -> String {
        log::newest_of_each(layout, deleted, limit)
    }

    fn versions(&self, source: &Source<'_>) -> String {
        log::versions(source)
    }

    fn state_before(&self, source: &Source<'_>, position: Position) -> String {
        log::state_before(source, position)
    }

    fn unfinished(&self, histories: &[&Layout], bound: Bound) -> Question {
        read::unfinished(histories, bound)
    }

    fn unfinished_unless_long(&self, histories: &[&Layout], bound: Bound) -> Option<Question> {
        read::unfinished_unless_long(histories, bound)
    }

    fn position_of_tx(&self, histories: &[&Layout], tx: &str) -> Result<String> {
        let tx = check_tx(tx)?;
        let each: Vec<String> = histories
            .iter()
            .map(|layout| {
                format!(
                    "SELECT history_date, history_id FROM {} WHERE history_tx = {tx}::bigint",
                    layout.history.quoted()
                )
            })
            .collect();
        Ok(format!(
            "SELECT {}, history_id FROM ({}) AS x ORDER BY history_date DESC, history_id DESC LIMIT 1",
            self.micros("history_date"),
            each.join(" UNION ALL ")
        ))
    }

    fn count_of_tx(&self, layout: &Layout, tx: &str) -> Result<String> {
        Ok(format!(
            "SELECT count(*) FROM {} WHERE history_tx = {}::bigint",
            layout.history.quoted(),
            check_tx(tx)?
        ))
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
        restore::contested(layout, beyond)
    }

    fn count_collateral(&self, layout: &Layout, own: &str, rows: Rows<'_>) -> Result<String> {
        restore::count_collateral(layout, own, rows)
    }

    fn own_transaction(&self) -> &'static str {
        "SELECT pg_catalog.pg_current_xact_id()::text"
    }

    fn own_transaction_if_any(&self) -> &'static str {
        "SELECT pg_catalog.pg_current_xact_id_if_assigned()::text"
    }

    fn live_row(&self, layout: &Layout, fields: &[Field], key: &[Value]) -> String {
        restore::live_row(layout, fields, key)
    }

    fn row_exists(&self, table: &TableName, columns: &[&Column], values: &[Value]) -> String {
        restore::row_exists(table, columns, values)
    }

    fn live(&self, layout: &Layout) -> String {
        live(layout)
    }

    fn same_row(&self, layout: &Layout, key: &[String]) -> String {
        restore::same_key(layout, key)
    }

    fn kept(&self, field: &Field, row: &str) -> String {
        history::kept(field, row)
    }

    fn within(&self, alias: &str, bound: Bound) -> String {
        read::within(alias, bound)
    }

    fn beyond(&self, alias: &str, bound: Bound) -> String {
        format!("NOT {}", read::within(alias, bound))
    }

    fn written_since(&self, as_of: &AsOf<'_>) -> Option<String> {
        Some(read::written_since(as_of))
    }

    fn count_as_of(&self, as_of: &AsOf<'_>) -> String {
        read::count_as_of(as_of)
    }

    fn byte_order(&self, field: &Field, value: &str) -> String {
        match field.shown {
            Shown::Text | Shown::Json => format!("({value})::text COLLATE \"C\""),
            _ => value.to_owned(),
        }
    }

    fn shown(&self, _layout: &Layout, query: &str, fields: &[&Field]) -> String {
        let columns: Vec<String> =
            fields.iter().map(|field| read::as_text(field, "q", &field.name)).collect();
        format!("SELECT {} FROM (\n{query}\n) AS q", columns.join(", "))
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

/// The live table: its own rows only, unless it is the root of a partition tree.
fn live(layout: &Layout) -> String {
    let only = if layout.only { "ONLY " } else { "" };
    format!("{only}{}", layout.table.quoted())
}

/// A table's name as text for a message inside a function.
fn message_name(table: &TableName) -> String {
    literal(&table.to_string())
}
