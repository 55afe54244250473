//! Questions about records.

use super::packed;
use super::read::{head, header, key_given, key_literal};
use crate::layout::{Field, Keeping, Layout};
use crate::name::literal;
use crate::search::Needle;
use crate::sql::expression::{col, mask_names};
use crate::sql::log::{Asked, Position, Read, Source, Spelling, pattern, says_changed};
use crate::sql::question::{Given, Question};
use crate::sql::{log, scoped};
use crate::time::Moment;
use crate::value::{Shown, Value};

struct Sqlite;

pub(in crate::sql) const SPELLING: &dyn Spelling = &Sqlite;

impl Spelling for Sqlite {
    fn at(&self, moment: Moment) -> String {
        moment.as_micros().to_string()
    }

    fn user(&self) -> &'static str {
        "c.actor"
    }

    fn reason(&self) -> &'static str {
        "c.reason"
    }

    fn context(&self, member: &str) -> String {
        format!("json_extract(c.context, {})", literal(&format!("$.{member}")))
    }

    fn head(&self) -> [String; 8] {
        head("h")
    }

    fn transaction(&self) -> [String; 2] {
        scoped::transaction()
    }

    fn shown(&self, field: &Field, alias: &str) -> String {
        col(alias, &field.history)
    }

    fn told_apart(&self, source: &Source<'_>) -> Option<String> {
        Some(packed::told_apart(source))
    }

    fn handed_over(&self, values: &[Asked]) -> Vec<String> {
        packed::columns(values)
    }

    fn from(&self, source: &Source<'_>, previous: bool) -> String {
        let history = source.layout.history.quoted();
        let joins = if previous { joined(source) } else { String::new() };
        format!("{history} AS h LEFT JOIN afterimage_scope AS c ON c.id = h.history_scope{joins}")
    }

    fn of_transaction(&self, transactions: &[&str]) -> String {
        let each: Vec<String> = transactions
            .iter()
            .map(|id| {
                format!(
                    "(h.history_id BETWEEN (SELECT first_id FROM afterimage_scope WHERE id = {id}) AND coalesce((SELECT last_id FROM afterimage_scope WHERE id = {id}), 9223372036854775807) AND c.tx = {id})"
                )
            })
            .collect();
        if each.is_empty() { "0".to_owned() } else { format!("({})", each.join(" OR ")) }
    }

    fn not_of(&self, alias: &str, transactions: &[String]) -> String {
        scoped::not_of(alias, transactions)
    }

    fn key_is(&self, layout: &Layout, key: &[Value]) -> String {
        self.key_given(layout, key, &mut Given::inside(&super::Sqlite))
    }

    fn key_given(&self, layout: &Layout, key: &[Value], given: &mut Given<'_>) -> String {
        format!("({})", key_given(layout, key, given))
    }

    fn same_row(&self, layout: &Layout, a: &str, b: &str) -> String {
        same_key(layout, a, b)
    }

    fn value_is(&self, expression: &str, _field: &Field, value: &Value) -> String {
        // A CASE has no affinity, by which a number would be found by its text.
        match value {
            Value::Number(digits) => format!("{expression} = {digits}"),
            other => format!("{expression} = {}", key_literal(other)),
        }
    }

    fn departs(&self, layout: &Layout) -> String {
        scoped::departs(layout)
    }

    fn holds(&self, text: &str, needle: &Needle) -> String {
        let terms: Vec<String> =
            needle.forms().iter().map(|form| format!("{text} LIKE {} ESCAPE '\\'", pattern(form))).collect();
        format!("({})", terms.join(" OR "))
    }

    fn may_be(&self, value: &str, field: &Field, needle: &Needle) -> Option<String> {
        if needle.is_null() {
            return Some(format!("{value} IS NULL"));
        }
        if field.keeping == Keeping::Masked {
            return None;
        }
        let mut terms = vec![self.holds(value, needle)];
        if !needle.numbers().is_empty() {
            // As a float, which is how SQLite compares; the exact rule comes after.
            terms.push(format!("({value}) + 0 IN ({})", needle.numbers().join(", ")));
        }
        if let Some(prefix) = needle.time_prefix() {
            let (day, time) = prefix.split_at(prefix.len().min(10));
            for time in [time.replacen('T', " ", 1), time.replacen(' ', "T", 1)] {
                terms.push(format!("{value} LIKE {}", literal(&format!("{day}{time}%"))));
            }
        }
        if needle.boolean().is_some() && field.shown == Shown::Bool {
            terms.push(format!("{value} IS NOT NULL"));
        }
        terms.dedup();
        Some(format!("({})", terms.join(" OR ")))
    }

    fn before(&self, source: &Source<'_>, field: &Field) -> String {
        before(source, field)
    }
}

fn same_key(layout: &Layout, a: &str, b: &str) -> String {
    layout
        .key_fields()
        .map(|field| format!("{} = {} COLLATE BINARY", col(a, &field.history), col(b, &field.history)))
        .collect::<Vec<_>>()
        .join(" AND ")
}

/// The record before, and the one from which it departed.
fn joined(source: &Source<'_>) -> String {
    let layout = source.layout;
    let history = layout.history.quoted();
    let previous = if source.sparse {
        String::new()
    } else {
        format!(
            "\n  LEFT JOIN {history} AS p ON p.history_id = CASE WHEN h.history_type = '~' THEN (SELECT x.history_id FROM {history} AS x WHERE {} AND (x.history_date, x.history_id) < (h.history_date, h.history_id) ORDER BY x.history_date DESC, x.history_id DESC LIMIT 1) END",
            same_key(layout, "x", "h")
        )
    };
    format!(
        "{previous}\n  LEFT JOIN {history} AS d ON d.history_id = CASE WHEN h.history_old_key IS NOT NULL THEN h.history_id - 1 END"
    )
}

/// The value in the newest record before that names the field.
fn before(source: &Source<'_>, field: &Field) -> String {
    format!(
        "(SELECT {} FROM {} AS x WHERE {} AND (x.history_date, x.history_id) < (h.history_date, h.history_id) AND {} ORDER BY x.history_date DESC, x.history_id DESC LIMIT 1)",
        col("x", &field.history),
        source.layout.history.quoted(),
        same_key(source.layout, "x", "h"),
        mask_names("x", field),
    )
}

pub(super) fn records_at(source: &Source<'_>, read: Read, positions: &[Position]) -> Question {
    let mut given = Given::beside(&super::Sqlite);
    let ids: Vec<String> = positions.iter().map(|(_, id)| id.to_string()).collect();
    let ids = format!("[{}]", ids.join(","));
    let ids = given.text(&ids);
    given.ask(records(source, read, &format!("(SELECT value AS history_id FROM json_each({ids}))")))
}

/// The records of some numbers. They come first: the records are looked up one by one.
pub(super) fn records(source: &Source<'_>, read: Read, numbers: &str) -> String {
    let layout = source.layout;
    let new = |field: &Field| read.new_value(source, field, &col("h", &field.history));
    let new: String = source.fields.iter().map(new).collect();
    let old: String = source
        .fields
        .iter()
        .map(|field| {
            format!(", CASE WHEN {} THEN {} END", says_changed("h", field), Sqlite.old(source, field))
        })
        .collect();
    format!(
        "SELECT {}{new}{old}
FROM {numbers} AS w CROSS JOIN {} AS h ON h.history_id = w.history_id LEFT JOIN afterimage_scope AS c ON c.id = h.history_scope{}",
        header("h", layout),
        layout.history.quoted(),
        joined(source),
    )
}

/// The state of a row right before a record, field by field.
pub(super) fn state_before(source: &Source<'_>, position: Position) -> String {
    let fields: Vec<String> = source.fields.iter().map(|field| before(source, field)).collect();
    format!(
        "SELECT {} FROM {} AS h WHERE h.history_id = {}",
        fields.join(", "),
        source.layout.history.quoted(),
        position.1
    )
}

pub(super) fn versions(source: &Source<'_>) -> String {
    log::versions(&Sqlite, source, &head("h"))
}
