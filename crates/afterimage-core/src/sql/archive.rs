//! Reading the records of a history for an archive: row by row, each row's in order.

use std::cmp::Ordering;

use super::log::{self, Asked, Holds, Position, Source};
use super::{Bound, Dialect, mariadb, postgres, sqlite};
use crate::Database;
use crate::layout::{Field, Layout};
use crate::name::{Quoted, literal};
use crate::record::{Header, Record};
use crate::sql::expression::col;
use crate::sql::scoped::key_columns;
use crate::time::Moment;
use crate::value::Value;

/// Of each field whether its values are [told apart](row_by_row) from others, as one row of booleans; nothing where none is.
pub fn told_apart(dialect: &dyn Dialect, source: &Source<'_>) -> Option<String> {
    log::spelling(dialect.database()).told_apart(source)
}

/// All records up to a bound, of one row after the other, oldest first within it; in [byte order](Dialect::byte_order) of their keys,
/// unless these equal one another by other rules than their bytes. Of each, after its header, its mask and its fields as
/// [`records_of_key`](Dialect::records_of_key) has them: a number that is the same for all of a row, when its transaction had begun at
/// the latest, in microseconds, the number of its context, where contexts stand beside records, whether it is a departure that its
/// arrival tells, and the fields of the departure that it arrived from. SQLite
/// hands all of these over in one JSON text, but for those that are told apart.
pub fn row_by_row(dialect: &dyn Dialect, source: &Source<'_>, bound: Bound, apart: &[bool]) -> String {
    let spelling = log::spelling(dialect.database());
    let layout = source.layout;
    let ours = |sql| Asked { sql, holds: Holds::Known };
    let of = |alias| {
        let holds = |apart: &bool| if *apart { Holds::Anything } else { Holds::Known };
        let holds = apart.iter().map(holds).chain(std::iter::repeat(Holds::Known));
        let of = move |(field, holds)| Asked { sql: spelling.shown(field, alias), holds };
        source.fields.iter().zip(holds).map(of)
    };
    let head = |(sql, name)| match name {
        "history_user" | "history_change_reason" => Asked { sql, holds: Holds::Given },
        _ => ours(sql),
    };
    let mut values: Vec<Asked> = spelling.head().into_iter().zip(log::HEAD).map(head).collect();
    values.extend(layout.word_columns().map(|word| ours(format!("h.{word}"))));
    values.extend(of("h"));
    let (number, order) = match is_in_byte_order(layout) {
        // Whoever reads them sees by the key itself where a row ends.
        true => ("NULL".to_owned(), byte_order(dialect, layout, |field| col("h", &field.history))),
        false => {
            let key = key_columns(layout, "h");
            (format!("dense_rank() OVER (ORDER BY {key})"), key)
        }
    };
    let [began, scope] = spelling.transaction();
    let departs = format!("CASE WHEN {} THEN 1 ELSE 0 END", spelling.departs(layout));
    values.extend([number, began, scope, departs].map(ours));
    values.extend(of("d"));
    // What was before follows from the records themselves.
    let source = Source { sparse: true, ..*source };
    format!(
        "SELECT {}\nFROM {}\nWHERE {}\nORDER BY {order}, {}, h.history_id",
        spelling.handed_over(&values).join(", "),
        spelling.from(&source, true),
        dialect.within("h", bound),
        col("h", "history_date"),
    )
}

/// Whether what [`row_by_row`] gives is in byte order.
pub fn is_in_byte_order(layout: &Layout) -> bool {
    layout.key_fields().all(|field| field.plain_equality)
}

fn byte_order(dialect: &dyn Dialect, layout: &Layout, value: impl Fn(&Field) -> String) -> String {
    let each = layout.key_fields().map(|field| dialect.byte_order(field, &value(field)));
    each.collect::<Vec<_>>().join(", ")
}

/// Rows of a state, in byte order of their keys, each value as the text from which it is shown.
pub fn rows_in_byte_order(dialect: &dyn Dialect, layout: &Layout, rows: &str) -> String {
    let spelling = log::spelling(dialect.database());
    let value = |field: &Field| {
        let then = Field { history: field.name.clone(), ..field.clone() };
        spelling.shown(&then, "q")
    };
    let columns: Vec<String> = layout.fields.iter().map(value).collect();
    let order = byte_order(dialect, layout, |field| col("q", &field.name));
    format!("SELECT {}\nFROM (\n{rows}\n) AS q\nORDER BY {order}", columns.join(", "))
}

/// Where the records of some transactions stand, up to a bound: of each its date in microseconds and its number.
pub fn of_transactions(dialect: &dyn Dialect, layout: &Layout, ids: &[String], bound: Bound) -> String {
    let spelling = log::spelling(dialect.database());
    let ids: Vec<&str> = ids.iter().map(String::as_str).filter(|id| super::check_tx(id).is_ok()).collect();
    let source = Source { layout, fields: &[], sparse: false };
    format!(
        "SELECT {}, h.history_id FROM {} WHERE {} AND {}",
        dialect.micros("h.history_date"),
        spelling.from(&source, false),
        dialect.within("h", bound),
        spelling.of_transaction(&ids),
    )
}

/// The records by which rows arrived under other keys at a moment: of each its number, the key before as JSON, and its key.
pub fn arrivals(dialect: &dyn Dialect, layout: &Layout, date: Moment) -> String {
    let spelling = log::spelling(dialect.database());
    let [.., old_key] = spelling.head();
    let key: Vec<String> = layout.key_fields().map(|field| spelling.shown(field, "h")).collect();
    let source = Source { layout, fields: &[], sparse: false };
    format!(
        "SELECT h.history_id, {old_key}, {} FROM {} WHERE h.history_date = {} AND h.history_old_key IS NOT NULL ORDER BY h.history_id",
        key.join(", "),
        spelling.from(&source, false),
        dialect.moment(date),
    )
}

/// Of these histories, the transactions that wrote within so many microseconds after a bound.
pub fn transactions_after(
    dialect: &dyn Dialect,
    histories: &[&Layout],
    bound: Bound,
    within: i64,
) -> Option<String> {
    let until = Moment::from_micros(bound.moment()?.as_micros().saturating_add(within));
    let spelling = log::spelling(dialect.database());
    let [.., tx, _] = spelling.head();
    let each: Vec<String> = histories
        .iter()
        .map(|layout| {
            let source = Source { layout, fields: &[], sparse: false };
            format!(
                "SELECT {tx} AS tx FROM {} WHERE {} AND {}",
                spelling.from(&source, false),
                dialect.beyond("h", bound),
                dialect.within("h", Bound::Time(until)),
            )
        })
        .collect();
    (!each.is_empty())
        .then(|| format!("SELECT DISTINCT tx FROM ({}) AS x WHERE tx IS NOT NULL", each.join(" UNION ALL ")))
}

/// The numbers of the records at these positions that are there.
pub fn present(dialect: &dyn Dialect, layout: &Layout, positions: &[Position]) -> String {
    format!(
        "SELECT h.history_id FROM {} AS h WHERE {}",
        layout.history.quoted(),
        super::retention::at(dialect, "h.", positions)
    )
}

/// A record that is put back where it was.
#[derive(Debug, Clone, Copy)]
pub struct PutBack<'a> {
    /// The record, which holds the whole row, its values in the order of the fields.
    pub record: &'a Record,
    /// When its transaction had begun at the latest.
    pub began: Option<Moment>,
    /// The number of its context, where contexts stand beside records.
    pub scope: Option<i64>,
}

/// Puts records back into a history, as they were.
pub fn put_back(dialect: &dyn Dialect, layout: &Layout, fields: &[Field], records: &[PutBack<'_>]) -> String {
    let history = layout.history.quoted();
    let words: Vec<String> = layout.word_columns().collect();
    let word = |record: &Record, n: usize| record.mask.get(n).copied().unwrap_or_default();
    let own = fields.iter().map(|field| field.history.as_str());
    match dialect.database() {
        Database::Postgres => {
            let head = log::HEAD.into_iter().chain(["history_tx_start"]);
            let columns = Quoted::list(head.clone().chain(words.iter().map(String::as_str)).chain(own));
            let mut values: Vec<String> =
                head.chain(words.iter().map(String::as_str)).map(|name| col("r", name)).collect();
            values.extend(fields.iter().map(postgres::put_value));
            let all: Vec<String> =
                records.iter().map(|put| postgres::record_as_json(put, layout, fields)).collect();
            format!(
                "INSERT INTO {history} ({columns})\nSELECT {} FROM json_array_elements({}::json) AS o, json_populate_record(NULL::{history}, o.value) AS r",
                values.join(", "),
                literal(&format!("[{}]", all.join(",\n")))
            )
        }
        Database::Sqlite | Database::MariaDb => {
            let recorded = recorded_literal(dialect.database());
            let head = ["history_id", "history_date", "history_type", "history_scope", "history_old_key"];
            let columns = Quoted::list(head.into_iter().chain(words.iter().map(String::as_str)).chain(own));
            let rows: Vec<String> = records
                .iter()
                .map(|PutBack { record, scope, .. }| {
                    let header = &record.header;
                    let mut values = vec![
                        header.id.to_string(),
                        header.date.as_micros().to_string(),
                        literal(header.action.sign()),
                        scope.map_or_else(|| "NULL".to_owned(), |scope| scope.to_string()),
                        header.old_key.as_deref().map_or_else(|| "NULL".to_owned(), literal),
                    ];
                    values.extend((0..words.len()).map(|n| word(record, n).to_string()));
                    values.extend(
                        fields.iter().zip(&record.values).map(|(field, value)| recorded(field, value)),
                    );
                    format!("({})", values.join(", "))
                })
                .collect();
            format!("INSERT INTO {history} ({columns})\nVALUES {}", rows.join(",\n"))
        }
    }
}

/// A row as it was, from the values of a layout's fields as they were shown: typed, under the names of its columns.
pub fn row_of(dialect: &dyn Dialect, layout: &Layout, header: &Header, values: &[Value]) -> String {
    let name = |field: &Field| Quoted::new(&field.name).to_string();
    match dialect.database() {
        Database::Postgres => {
            let record = Record { header: header.clone(), mask: Vec::new(), values: values.to_vec() };
            let put = PutBack { record: &record, began: None, scope: None };
            let columns: Vec<String> = layout
                .fields
                .iter()
                .map(|field| format!("{} AS {}", postgres::put_value(field), name(field)))
                .collect();
            format!(
                "SELECT {} FROM (SELECT {}::json AS value) AS o, json_populate_record(NULL::{}, o.value) AS r",
                columns.join(", "),
                literal(&postgres::record_as_json(&put, layout, &layout.fields)),
                layout.history.quoted()
            )
        }
        Database::Sqlite | Database::MariaDb => {
            let recorded = recorded_literal(dialect.database());
            let columns: Vec<String> = layout
                .fields
                .iter()
                .zip(values)
                .map(|(field, value)| format!("{} AS {}", recorded(field, value), name(field)))
                .collect();
            format!("SELECT {}", columns.join(", "))
        }
    }
}

fn recorded_literal(database: Database) -> impl Fn(&Field, &Value) -> String {
    move |field, value| match (value, database) {
        (Value::Null | Value::Redacted | Value::Unknown, _) => "NULL".to_owned(),
        (Value::Masked, _) => "1".to_owned(),
        (value, Database::MariaDb) => mariadb::recorded_literal(field, value),
        (value, _) => sqlite::recorded_literal(field, value),
    }
}

/// Compares two keys, value by value, as byte order has them.
pub fn compare_keys(a: &[Value], b: &[Value]) -> Ordering {
    a.iter().zip(b).fold(Ordering::Equal, |order, (a, b)| order.then_with(|| compare(a, b)))
}

fn compare(a: &Value, b: &Value) -> Ordering {
    let rank = |value: &Value| match value {
        Value::Null | Value::Masked | Value::Redacted | Value::Unknown => 0,
        Value::Bool(_) | Value::Number(_) => 1,
        Value::Text(_) | Value::Json(_) => 2,
        Value::Bytes(_) => 3,
    };
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Number(a), Value::Number(b)) => match (a.parse::<i128>(), b.parse::<i128>()) {
            (Ok(a), Ok(b)) => a.cmp(&b),
            _ => {
                let float = |text: &str| text.parse::<f64>().unwrap_or(f64::NAN);
                float(a).total_cmp(&float(b))
            }
        },
        (Value::Text(a) | Value::Json(a), Value::Text(b) | Value::Json(b)) => a.cmp(b),
        (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
        _ => rank(a).cmp(&rank(b)),
    }
}
