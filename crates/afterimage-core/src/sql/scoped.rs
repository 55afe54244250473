//! What SQLite and MariaDB have in common: a record refers to its context by the number of a row of `afterimage_scope`, and
//! along a row numbers rise with dates; an arrival has the number after its departure's.

use serde_json::Value as Json;

use super::Bound;
use super::expression::{col, is_gone};
use super::question::Given;
use crate::layout::Layout;
use crate::{Context, Result};

/// The columns of a context by the public contract, in the order of [`context_row`].
pub(super) const CONTEXT_COLUMNS: &str = "actor, label, reason, remote_addr, correlation_id, extra, at, skip";

/// The values of a context's row: text, integers and nulls.
pub(super) fn context_row(context: &Context) -> Result<Vec<Json>> {
    context.check()?;
    let mut values: Vec<Json> = crate::context::KEYS
        .iter()
        .map(|key| match context.get(key) {
            None | Some(Json::Null) => Json::Null,
            Some(Json::String(value)) => Json::from(value.as_str()),
            Some(other) => Json::from(other.to_string()),
        })
        .collect();
    let extra = context.extra();
    values.push(if extra.is_empty() { Json::Null } else { Json::from(Json::Object(extra).to_string()) });
    values.push(context.explicit_time().map_or(Json::Null, |at| Json::from(at.as_micros())));
    values.push(if context.skips() { Json::from(1) } else { Json::Null });
    Ok(values)
}

/// The same as SQL; `text` writes a text.
pub(super) fn context_values(context: &Context, text: impl Fn(&str) -> String) -> Result<Vec<String>> {
    let sql = |value: Json| match value {
        Json::String(value) => text(&value),
        Json::Null => "NULL".to_owned(),
        number => number.to_string(),
    };
    Ok(context_row(context)?.into_iter().map(sql).collect())
}

/// Text as hex digits: whatever it holds, nothing needs escaping.
pub(super) fn hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from(b"0123456789ABCDEF"[usize::from(half)]);
    let digits = bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xF)]);
    "X'".chars().chain(digits).chain(['\'']).collect()
}

/// A condition on the records of an alias: up to a bound.
pub(super) fn within(alias: &str, bound: Bound) -> String {
    // Moments are numbers in both.
    bounded(alias, bound, &mut Given::inside(&super::sqlite::Sqlite))
}

/// The same, of a bound that a question is given.
pub(super) fn bounded(alias: &str, bound: Bound, given: &mut Given<'_>) -> String {
    match bound {
        Bound::Now => "TRUE".to_owned(),
        Bound::Time(at) => format!("{alias}.history_date <= {}", given.moment(at)),
        Bound::Position(at, id) => {
            let (at, id) = (given.moment(at), given.number(id));
            format!(
                "({alias}.history_date < {at} OR ({alias}.history_date = {at} AND {alias}.history_id <= {id}))"
            )
        }
    }
}

/// The opposite, written so that an index can find them.
pub(super) fn beyond(alias: &str, bound: Bound) -> String {
    match bound {
        Bound::Now => "FALSE".to_owned(),
        Bound::Time(at) => format!("{alias}.history_date > {}", at.as_micros()),
        Bound::Position(at, id) => {
            let at = at.as_micros();
            format!(
                "({alias}.history_date >= {at} AND ({alias}.history_date > {at} OR {alias}.history_id > {id}))"
            )
        }
    }
}

/// And of none of these transactions, to be added to a condition.
pub(super) fn not_of(alias: &str, transactions: &[String]) -> String {
    if transactions.is_empty() {
        return String::new();
    }
    format!(
        " AND ({alias}.history_scope IS NULL OR {alias}.history_scope NOT IN (SELECT w.id FROM afterimage_scope AS w WHERE w.tx IN ({})))",
        transactions.join(", ")
    )
}

/// Whether a record of alias `h` is a departure, which is told by its arrival.
pub(super) fn departs(layout: &Layout) -> String {
    format!(
        "(h.history_type = '-' AND EXISTS (SELECT 1 FROM {} AS a WHERE a.history_id = h.history_id + 1 AND a.history_date = h.history_date AND a.history_old_key IS NOT NULL))",
        layout.history.quoted()
    )
}

/// The columns of the history that hold the key.
pub(super) fn key_columns(layout: &Layout, alias: &str) -> String {
    layout.key_fields().map(|field| col(alias, &field.history)).collect::<Vec<_>>().join(", ")
}

/// The columns of the header of an alias' records but for the mask; the context is alias `c`. `text` is the type of text.
pub(super) fn head(alias: &str, text: &str) -> [String; 8] {
    let own = |column: &str| format!("{alias}.{column}");
    [
        own("history_id"),
        own("history_date"),
        own("history_type"),
        "c.actor".to_owned(),
        "c.reason".to_owned(),
        "c.context".to_owned(),
        format!("CAST(c.tx AS {text})"),
        own("history_old_key"),
    ]
}

/// When the transaction of alias `h` began, whose first context has its number, and the number of its context.
pub(super) fn transaction() -> [String; 2] {
    let began = "(SELECT w.began FROM afterimage_scope AS w WHERE w.id = c.tx)";
    [began.to_owned(), "h.history_scope".to_owned()]
}

/// The same with the words of the mask.
pub(super) fn header(alias: &str, layout: &Layout, text: &str) -> String {
    let words: Vec<String> = layout.word_columns().map(|word| format!("{alias}.{word}")).collect();
    format!("{}, {}", head(alias, text).join(", "), words.join(", "))
}

pub(super) fn newest_of_each(layout: &Layout, deleted: Option<bool>, limit: Option<u64>) -> String {
    let history = layout.history.quoted();
    format!(
        "SELECT n.history_date, n.history_id FROM (SELECT max(h.history_id) AS last FROM {history} AS h GROUP BY {}) AS k JOIN {history} AS n ON n.history_id = k.last WHERE {} ORDER BY {}{}",
        key_columns(layout, "h"),
        is_gone("n", deleted),
        key_columns(layout, "n"),
        limit.map(|limit| format!(" LIMIT {limit}")).unwrap_or_default()
    )
}

/// The newest record of each row of which records fulfil a condition, and all together another.
fn newest(layout: &Layout, rows: &str, having: &str) -> String {
    let history = layout.history.quoted();
    format!(
        "SELECT n.history_date, n.history_id FROM (SELECT max(h.history_id) AS last FROM {history} AS h LEFT JOIN afterimage_scope AS c ON c.id = h.history_scope WHERE {rows} GROUP BY {} HAVING {having}) AS k JOIN {history} AS n ON n.history_id = k.last",
        key_columns(layout, "h"),
    )
}

/// Of the rows that a transaction touched, those that another changed later.
pub(super) fn overwritten(layout: &Layout, touched: &str, tx: &str) -> String {
    newest(layout, touched, &format!("max(h.history_id) > max(CASE WHEN c.tx = {tx} THEN h.history_id END)"))
}

/// A record's transaction is that of its context, or else its moment, which is all that is known of it.
pub(super) fn contested(layout: &Layout, since: Bound) -> String {
    let several = "count(DISTINCT coalesce(c.tx, -h.history_date)) > 1";
    newest(layout, &beyond("h", since), several)
}
