//! Questions about records.

use super::read::{as_text, key_json, key_value};
use crate::layout::{Field, Keeping, Layout};
use crate::name::literal;
use crate::search::Needle;
use crate::sql::expression::{col, is_gone, mask_names};
use crate::sql::log::{Position, Read, Source, Spelling, pattern, says_changed};
use crate::sql::question::{Given, Question};
use crate::sql::{Dialect as _, log};
use crate::time::Moment;
use crate::value::{Shown, Value};

struct Postgres;

pub(in crate::sql) const SPELLING: &dyn Spelling = &Postgres;

impl Spelling for Postgres {
    fn at(&self, moment: Moment) -> String {
        super::Postgres.moment(moment)
    }

    fn user(&self) -> &'static str {
        "h.history_user"
    }

    fn reason(&self) -> &'static str {
        "h.history_change_reason"
    }

    fn context(&self, member: &str) -> String {
        format!("(h.history_context ->> {})", literal(member))
    }

    fn head(&self) -> [String; 8] {
        head()
    }

    fn transaction(&self) -> [String; 2] {
        // Where it is not said, a second before the record at the earliest.
        let began = "coalesce(h.history_tx_start, h.history_date - interval '1 second')";
        [super::Postgres.micros(began), "NULL".to_owned()]
    }

    fn shown(&self, field: &Field, alias: &str) -> String {
        as_text(field, alias, &field.history)
    }

    fn from(&self, source: &Source<'_>, previous: bool) -> String {
        let history = source.layout.history.quoted();
        let joins = if previous { joined(source) } else { String::new() };
        format!("{history} AS h{joins}")
    }

    fn of_transaction(&self, transactions: &[&str]) -> String {
        if transactions.is_empty() {
            return "false".to_owned();
        }
        let ids: Vec<String> = transactions.iter().map(|id| format!("{id}::bigint")).collect();
        format!("h.history_tx IN ({})", ids.join(", "))
    }

    fn not_of(&self, alias: &str, transactions: &[String]) -> String {
        super::read::not_of(alias, transactions)
    }

    fn key_is(&self, layout: &Layout, key: &[Value]) -> String {
        self.key_given(layout, key, &mut Given::inside(&super::Postgres))
    }

    fn key_given(&self, layout: &Layout, key: &[Value], given: &mut Given<'_>) -> String {
        super::read::key_is(layout, "h", |field| field.history.clone(), key, given)
    }

    fn same_row(&self, layout: &Layout, a: &str, b: &str) -> String {
        same_key(layout, a, b)
    }

    /// Looked up for one record after the other: a join with all records would not stop after a page.
    fn is_latest(&self, layout: &Layout) -> String {
        format!(
            "h.history_id = (SELECT x.history_id FROM {} AS x WHERE {} ORDER BY x.history_date DESC, x.history_id DESC LIMIT 1)",
            layout.history.quoted(),
            self.same_row(layout, "x", "h"),
        )
    }

    fn value_is(&self, expression: &str, field: &Field, value: &Value) -> String {
        format!("{expression} = {}", key_value(field, &literal(&value.to_string())))
    }

    fn departs(&self, layout: &Layout) -> String {
        format!(
            "(h.history_type = '-' AND EXISTS (SELECT 1 FROM {} AS a WHERE a.history_date = h.history_date AND a.history_id > h.history_id AND a.history_old_key = {}))",
            layout.history.quoted(),
            key_json(layout, "h", true)
        )
    }

    fn holds(&self, text: &str, needle: &Needle) -> String {
        let terms: Vec<String> =
            needle.forms().iter().map(|form| format!("{text} ILIKE {} ESCAPE '\\'", pattern(form))).collect();
        format!("({})", terms.join(" OR "))
    }

    fn may_be(&self, value: &str, field: &Field, needle: &Needle) -> Option<String> {
        if needle.is_null() {
            return Some(format!("{value} IS NULL"));
        }
        if field.keeping == Keeping::Masked {
            return None;
        }
        match field.shown {
            _ if is_number(field) => {
                let numbers: Vec<String> =
                    needle.numbers().iter().map(|number| format!("{number}::numeric")).collect();
                let as_number =
                    if field.sql_type == "oid" { format!("{value}::bigint") } else { value.to_owned() };
                (!numbers.is_empty()).then(|| format!("{as_number}::numeric IN ({})", numbers.join(", ")))
            }
            Shown::Bool => needle.boolean().map(|wanted| format!("{value} = {wanted}")),
            _ => {
                let text = if field.sql_type == "text" { value.to_owned() } else { format!("{value}::text") };
                let mut terms = self.holds(&text, needle);
                if let Some(prefix) = needle.time_prefix() {
                    terms = format!(
                        "({terms} OR {text} LIKE {})",
                        literal(&format!("{}%", prefix.replace('T', " ")))
                    );
                }
                Some(terms)
            }
        }
    }

    fn before(&self, source: &Source<'_>, field: &Field) -> String {
        before(source, field)
    }
}

fn is_number(field: &Field) -> bool {
    field.shown == Shown::Number
        || ["numeric", "money"].iter().any(|number| field.sql_type.starts_with(number))
            && !super::read::is_array(field)
}

fn same_key(layout: &Layout, a: &str, b: &str) -> String {
    layout
        .key_fields()
        .map(|field| format!("{} = {}", col(a, &field.history), col(b, &field.history)))
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
            "\n  LEFT JOIN LATERAL (SELECT * FROM {history} AS x WHERE h.history_type = '~' AND {} AND (x.history_date, x.history_id) < (h.history_date, h.history_id) ORDER BY x.history_date DESC, x.history_id DESC LIMIT 1) AS p ON true",
            same_key(layout, "x", "h")
        )
    };
    format!(
        "{previous}\n  LEFT JOIN LATERAL (SELECT * FROM {history} AS x WHERE h.history_old_key IS NOT NULL AND x.history_date = h.history_date AND x.history_id < h.history_id AND x.history_type = '-' AND {} = h.history_old_key ORDER BY x.history_id DESC LIMIT 1) AS d ON true",
        key_json(layout, "x", true)
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

/// The columns of the header of alias `h` but for the mask.
fn head() -> [String; 8] {
    let own = |column: &str| format!("h.{column}");
    [
        own("history_id"),
        super::Postgres.micros("h.history_date"),
        own("history_type::text"),
        own("history_user"),
        own("history_change_reason"),
        own("history_context::text"),
        own("history_tx::text"),
        own("history_old_key::text"),
    ]
}

pub(super) fn versions(source: &Source<'_>) -> String {
    log::versions(&Postgres, source, &head())
}

pub(super) fn records_at(source: &Source<'_>, read: Read, positions: &[Position]) -> Question {
    let mut given = Given::beside(&super::Postgres);
    let list = |members: Vec<String>| format!("{{{}}}", members.join(","));
    let dates = list(positions.iter().map(|(date, _)| format!("\"{date}\"")).collect());
    let ids = list(positions.iter().map(|(_, id)| id.to_string()).collect());
    let at = format!(
        "unnest({}::timestamptz[], {}::bigint[]) AS w (date, id) JOIN {} AS h ON h.history_date = w.date AND h.history_id = w.id",
        given.text(&dates),
        given.text(&ids),
        source.layout.history.quoted(),
    );
    given.ask(records(source, read, &at))
}

/// The records that are called `h`.
pub(super) fn records(source: &Source<'_>, read: Read, from: &str) -> String {
    let layout = source.layout;
    let words: Vec<String> = layout.word_columns().map(|word| format!("h.{word}")).collect();
    let text = |field: &Field, expression: &str| match (field.shown, field.keeping) {
        (Shown::Json, Keeping::Stored) if super::read::is_array(field) => {
            format!("to_json({expression})::text")
        }
        _ => format!("({expression})::text"),
    };
    let new = |field| read.new_value(source, field, &as_text(field, "h", &field.history));
    let new: String = source.fields.iter().map(new).collect();
    let old: String = source
        .fields
        .iter()
        .map(|field| {
            let old = Postgres.old(source, field);
            format!(", CASE WHEN {} THEN {} END", says_changed("h", field), text(field, &old))
        })
        .collect();
    format!(
        "SELECT {}, {}{new}{old}
FROM {from}{}",
        head().join(", "),
        words.join(", "),
        joined(source),
    )
}

/// The state of a row right before a record, field by field: the full row where records are full.
pub(super) fn state_before(source: &Source<'_>, position: Position) -> String {
    let fields: Vec<String> = source
        .fields
        .iter()
        .map(|field| {
            let value = before(source, field);
            let value = if field.shown == Shown::Json && super::read::is_array(field) {
                format!("to_json({value})")
            } else {
                value
            };
            format!("({value})::text")
        })
        .collect();
    format!(
        "SELECT {} FROM {} AS h WHERE h.history_date = {} AND h.history_id = {}",
        fields.join(", "),
        source.layout.history.quoted(),
        super::Postgres.moment(position.0),
        position.1
    )
}

pub(super) fn newest_of_each(layout: &Layout, deleted: Option<bool>, limit: Option<u64>) -> String {
    let key: Vec<String> = layout.key_fields().map(|field| col("h", &field.history)).collect();
    let key = key.join(", ");
    format!(
        "SELECT {}, n.history_id FROM (SELECT DISTINCT ON ({key}) {key}, h.history_date, h.history_id, h.history_type FROM {} AS h ORDER BY {key}, h.history_date DESC, h.history_id DESC) AS n WHERE {}{}",
        super::Postgres.micros("n.history_date"),
        layout.history.quoted(),
        is_gone("n", deleted),
        limit.map(|limit| format!(" LIMIT {limit}")).unwrap_or_default()
    )
}
