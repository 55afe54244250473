//! Questions about records.

use super::keys_are_equal;
use super::read::{head, header, key_is, of_tx};
use super::value::{as_text, handed_over, is_single, key_literal};
use crate::layout::{Field, Keeping, Layout};
use crate::name::literal;
use crate::search::Needle;
use crate::sql::expression::{col, mask_names};
use crate::sql::log::{Position, Read, Source, Spelling, pattern, says_changed};
use crate::sql::question::Question;
use crate::sql::{log, scoped};
use crate::time::Moment;
use crate::value::Value;

struct MariaDb;

pub(in crate::sql) const SPELLING: &dyn Spelling = &MariaDb;

impl Spelling for MariaDb {
    fn at(&self, moment: Moment) -> String {
        moment.as_micros().to_string()
    }

    fn user(&self) -> &'static str {
        // In a form that tells the optimizer nothing about NULL: it would begin with the contexts, and read the whole
        // history for each, instead of the newest records first.
        "COALESCE(c.actor, NULL)"
    }

    fn reason(&self) -> &'static str {
        "c.reason"
    }

    fn context(&self, member: &str) -> String {
        // JSON_VALUE knows no objects.
        let path = literal(&format!("$.\"{member}\""));
        format!("JSON_UNQUOTE(NULLIF(JSON_EXTRACT(c.context, {path}), 'null'))")
    }

    fn head(&self) -> [String; 8] {
        head("h")
    }

    fn transaction(&self) -> [String; 2] {
        scoped::transaction()
    }

    fn shown(&self, field: &Field, alias: &str) -> String {
        handed_over(field, &col(alias, &field.history))
    }

    fn from(&self, source: &Source<'_>, previous: bool) -> String {
        let history = source.layout.history.quoted();
        let joins = if previous { joined(source) } else { String::new() };
        format!("{history} AS h LEFT JOIN afterimage_scope AS c ON c.id = h.history_scope{joins}")
    }

    fn of_transaction(&self, transactions: &[&str]) -> String {
        let each: Vec<String> = transactions.iter().map(|id| of_tx("h", id)).collect();
        if each.is_empty() { "FALSE".to_owned() } else { format!("({})", each.join(" OR ")) }
    }

    fn not_of(&self, alias: &str, transactions: &[String]) -> String {
        scoped::not_of(alias, transactions)
    }

    fn key_is(&self, layout: &Layout, key: &[Value]) -> String {
        key_is(layout, |field| col("h", &field.history), key)
    }

    fn older(&self, at: &str, id: &str) -> String {
        // Rows that are compared as such are no range of an index there.
        format!("h.history_date <= {at} AND (h.history_date < {at} OR h.history_id < {id})")
    }

    fn same_row(&self, layout: &Layout, a: &str, b: &str) -> String {
        same_key(layout, a, b)
    }

    fn newer(&self) -> &'static str {
        "x.history_date >= h.history_date AND x.history_id > h.history_id"
    }

    fn value_is(&self, expression: &str, field: &Field, value: &Value) -> String {
        format!("{expression} = {}", key_literal(&field.sql_type, field.shown, value))
    }

    fn departs(&self, layout: &Layout) -> String {
        scoped::departs(layout)
    }

    fn holds(&self, text: &str, needle: &Needle) -> String {
        let terms: Vec<String> = needle
            .forms()
            .iter()
            .map(|form| {
                format!(
                    "CONVERT({text} USING utf8mb4) COLLATE utf8mb4_general_ci LIKE {} ESCAPE '\\'",
                    pattern(form)
                )
            })
            .collect();
        format!("({})", terms.join(" OR "))
    }

    fn may_be(&self, value: &str, field: &Field, needle: &Needle) -> Option<String> {
        if needle.is_null() {
            return Some(format!("{value} IS NULL"));
        }
        if field.keeping == Keeping::Masked {
            return None;
        }
        let text = as_text(field, value);
        let mut terms = vec![self.holds(&text, needle)];
        if is_single(field) {
            // What is found is told in more digits than its text has; the exact rule comes after.
            let near = |number: &String| format!("ABS(({value}) + 0 - {number}) <= ABS({number}) * 1e-6");
            terms.extend(needle.numbers().iter().map(near));
        } else if !needle.numbers().is_empty() {
            // As a float; the exact rule comes after.
            terms.push(format!("({value}) + 0 IN ({})", needle.numbers().join(", ")));
        }
        if let Some(prefix) = needle.time_prefix() {
            let (day, time) = prefix.split_at(prefix.len().min(10));
            terms.push(format!("{text} LIKE {}", literal(&format!("{day}{}%", time.replacen('T', " ", 1)))));
        }
        Some(format!("({})", terms.join(" OR ")))
    }

    fn before(&self, source: &Source<'_>, field: &Field) -> String {
        before(source, field)
    }
}

/// The records of two aliases are of the same row.
fn same_key(layout: &Layout, a: &str, b: &str) -> String {
    keys_are_equal(layout, |field| col(a, &field.history), |field| col(b, &field.history))
}

/// The record before, and the one from which it departed.
fn joined(source: &Source<'_>) -> String {
    let layout = source.layout;
    let history = layout.history.quoted();
    let previous = if source.sparse {
        String::new()
    } else {
        format!(
            "\n  LEFT JOIN {history} AS p ON p.history_id = CASE WHEN h.history_type = '~' THEN (SELECT x.history_id FROM {history} AS x WHERE {} AND x.history_id < h.history_id ORDER BY x.history_date DESC, x.history_id DESC LIMIT 1) END",
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
        "(SELECT {} FROM {} AS x WHERE {} AND x.history_id < h.history_id AND {} ORDER BY x.history_date DESC, x.history_id DESC LIMIT 1)",
        col("x", &field.history),
        source.layout.history.quoted(),
        same_key(source.layout, "x", "h"),
        mask_names("x", field),
    )
}

pub(super) fn records_at(source: &Source<'_>, read: Read, positions: &[Position]) -> Question {
    let ids: Vec<String> = positions.iter().map(|(_, id)| id.to_string()).collect();
    let from = format!("{} AS h", source.layout.history.quoted());
    Question::once(format!("{}\nWHERE h.history_id IN ({})", records(source, read, &from), ids.join(", ")))
}

/// The records of the numbers that a query gives, which come first: the records are looked up one by one.
pub(super) fn records_where(source: &Source<'_>, read: Read, numbers: &str) -> String {
    let history = source.layout.history.quoted();
    records(
        source,
        read,
        &format!("{numbers} AS w STRAIGHT_JOIN {history} AS h ON h.history_id = w.history_id"),
    )
}

/// Records of alias `h`.
fn records(source: &Source<'_>, read: Read, from: &str) -> String {
    let layout = source.layout;
    let new = |field: &Field| read.new_value(source, field, &handed_over(field, &col("h", &field.history)));
    let new: String = source.fields.iter().map(new).collect();
    let old: String = source
        .fields
        .iter()
        .map(|field| {
            let old = handed_over(field, &format!("({})", MariaDb.old(source, field)));
            format!(", CASE WHEN {} THEN {old} END", says_changed("h", field))
        })
        .collect();
    format!(
        "SELECT {}{new}{old}
FROM {from} LEFT JOIN afterimage_scope AS c ON c.id = h.history_scope{}",
        header("h", layout),
        joined(source),
    )
}

/// The state of a row right before a record, field by field.
pub(super) fn state_before(source: &Source<'_>, position: Position) -> String {
    let fields: Vec<String> =
        source.fields.iter().map(|field| handed_over(field, &before(source, field))).collect();
    format!(
        "SELECT {} FROM {} AS h WHERE h.history_id = {}",
        fields.join(", "),
        source.layout.history.quoted(),
        position.1
    )
}

pub(super) fn versions(source: &Source<'_>) -> String {
    log::versions(&MariaDb, source, &head("h"))
}
