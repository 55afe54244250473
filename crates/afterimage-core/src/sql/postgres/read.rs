//! Reading: the records of a row, and a table as of a time.

use crate::layout::{Field, Keeping, Layout};
use crate::name::{Quoted, literal};
use crate::sql::expression::{balanced, col, mask_names};
use crate::sql::question::{Given, Question};
use crate::sql::{AsOf, Bound, Dialect as _, Rows};
use crate::value::{Shown, Value};

/// A condition on the records of an alias.
pub(super) fn within(alias: &str, bound: Bound) -> String {
    bounded(alias, bound, &mut Given::inside(&super::Postgres))
}

fn bounded(alias: &str, bound: Bound, given: &mut Given<'_>) -> String {
    match bound {
        Bound::Now => "true".to_owned(),
        Bound::Time(moment) => format!("{alias}.history_date <= {}", given.moment(moment)),
        Bound::Position(moment, id) => {
            let (at, id) = (given.moment(moment), given.number(id));
            format!("({alias}.history_date, {alias}.history_id) <= ({at}, {id})")
        }
    }
}

/// A value as the text from which it is shown.
pub(super) fn as_text(field: &Field, alias: &str, column: &str) -> String {
    let column = col(alias, column);
    match (field.shown, field.keeping) {
        (Shown::Json, Keeping::Stored) if is_array(field) => format!("to_json({column})::text"),
        _ => format!("{column}::text"),
    }
}

pub(super) fn is_array(field: &Field) -> bool {
    field.sql_type.ends_with("[]")
}

/// A key given as text, as the key column's type without its modifier: `varchar(3)` would cut it, `numeric(9,2)` round it.
pub(super) fn key_value(field: &Field, text: &str) -> String {
    let mut bare = field.sql_type.clone();
    if let (Some(open), Some(close)) = (bare.find('('), bare.find(')')) {
        bare.replace_range(open..=close, "");
    }
    match bare.trim() {
        "text" | "character varying" => format!("{text}::text"),
        "character" => format!("{text}::text::bpchar"),
        other => format!("{text}::text::{other}"),
    }
}

/// The key of a row of alias `row`, by the columns that `name` gives, is this one.
pub(super) fn key_is(
    layout: &Layout,
    row: &str,
    name: impl Fn(&Field) -> String,
    key: &[Value],
    given: &mut Given<'_>,
) -> String {
    let terms = layout.key_fields().zip(key).map(|(field, value)| {
        let text = given.key(value, || literal(&value.to_string()));
        format!("{} = {}", col(row, &name(field)), key_value(field, &text))
    });
    format!("({})", terms.collect::<Vec<_>>().join(" AND "))
}

pub(super) fn records_of_key(
    layout: &Layout,
    fields: &[Field],
    key: &[Value],
    bound: Bound,
    settled: &[&Layout],
) -> Question {
    let mut given = Given::beside(&super::Postgres);
    let words: Vec<String> = layout.word_columns().map(|word| format!("h.{word}")).collect();
    let columns: String =
        fields.iter().map(|field| format!(", {}", as_text(field, "h", &field.history))).collect();
    let is = key_is(layout, "h", |field| field.history.clone(), key, &mut given);
    let (beside, within) = match bound {
        Bound::Time(moment) if !settled.is_empty() => settled_at(settled, &given.moment(moment)),
        _ => (String::new(), bounded("h", bound, &mut given)),
    };
    let sql = format!(
        "SELECT h.history_id, {}, h.history_type::text, h.history_user, h.history_change_reason, h.history_context::text, h.history_tx::text, h.history_old_key::text, {}{columns}
FROM {beside}{} AS h
WHERE {is} AND {within}
ORDER BY h.history_date, h.history_id",
        super::Postgres.micros("h.history_date"),
        words.join(", "),
        layout.history.quoted(),
    );
    given.ask_one(sql, layout, settled, fields)
}

/// At so many records in the second after a time, who wrote them is another question: a plan for any time expects a great many,
/// which it would compile, were there no limit.
const MANY: usize = 100;

/// What a question about the records until a time stands beside, and the condition under which it gives those of transactions that
/// did not write after it: none, where one took long by then, or many records came right after it.
fn settled_at(histories: &[&Layout], at: &str) -> (String, String) {
    let [_, after] = Sides::new("b.at".to_owned(), None).shortly(histories);
    (
        format!(
            "(SELECT b.at, ARRAY({after} LIMIT {MANY}) AS transactions FROM {} OFFSET 0) AS since, ",
            unseen(&format!("{at} AS at"))
        ),
        format!(
            "h.history_date <= since.at AND cardinality(since.transactions) < {MANY} AND h.history_tx <> ALL (since.transactions) AND ({}) IS NOT TRUE",
            long_since(histories, "since.at")
        ),
    )
}

/// What a question is given, as the row `b` of another query (`OFFSET 0` keeps it that): a plan for these values then expects what a
/// plan for any does, which PostgreSQL keeps only where it looks no dearer; and no other process works on it.
fn unseen(named: &str) -> String {
    format!("(SELECT {named} OFFSET 0) AS b")
}

/// `{"id": row.id}`, as records keep the key a row had before.
pub(super) fn key_json(layout: &Layout, row: &str, history: bool) -> String {
    let members: Vec<String> = layout
        .key_fields()
        .map(|field| {
            let column = if history { &field.history } else { &field.name };
            format!("{}, {}", literal(&field.name), col(row, column))
        })
        .collect();
    format!("jsonb_build_object({})", members.join(", "))
}

pub(super) fn arrival_of(layout: &Layout) -> String {
    let key: Vec<String> =
        layout.key_fields().map(|field| format!("{}::text", col("h", &field.history))).collect();
    let history = layout.history.quoted();
    format!(
        "SELECT h.history_id, {} FROM {history} AS d JOIN {history} AS h ON h.history_date = d.history_date AND h.history_id > d.history_id AND h.history_old_key = {}\nWHERE d.history_id = $1 AND d.history_date = 'epoch'::timestamptz + $2 * interval '1 microsecond'\nORDER BY h.history_id LIMIT 1",
        key.join(", "),
        key_json(layout, "d", true),
    )
}

/// Both sides of a time, or of a record: where writers meet, records of several transactions share a date.
struct Sides {
    at: String,
    before: String,
    after: String,
}

impl Sides {
    /// Of the bound that is called so: a time, and a record's number where it is one.
    fn new(at: String, id: Option<&str>) -> Self {
        let side = |sign: &str| match id {
            Some(id) => format!("(x.history_date, x.history_id) {sign} ({at}, {id})"),
            None => format!("x.history_date {sign} {at}"),
        };
        Self { before: side("<="), after: side(">"), at }
    }

    /// The transactions of the records that come shortly before, and of those that come shortly after.
    ///
    /// A record says when its transaction began only if that is more than a second before; so the others have both their
    /// sides within a second.
    fn shortly(&self, histories: &[&Layout]) -> [String; 2] {
        let Self { at, before, after } = self;
        [
            transactions(histories, &format!("{before} AND x.history_date >= {at} - interval '1 second'")),
            transactions(histories, &format!("{after} AND x.history_date <= {at} + interval '1 second'")),
        ]
    }
}

/// The transactions of these records, each as often as it has any.
fn transactions(histories: &[&Layout], condition: &str) -> String {
    let of = |layout: &&Layout| {
        format!("SELECT x.history_tx FROM {} AS x WHERE {condition}", layout.history.quoted())
    };
    histories.iter().map(of).collect::<Vec<_>>().join(" UNION ALL ")
}

/// Whether any transaction had begun by a time of which a record says when that was.
fn long_since(histories: &[&Layout], at: &str) -> String {
    let of = |layout: &&Layout| {
        format!("(SELECT min(x.history_tx_start) FROM {} AS x) <= {at}", layout.history.quoted())
    };
    let each: Vec<String> = histories.iter().map(of).collect();
    balanced(&each, "OR", "false")
}

/// Transactions with records on both sides. Those that took long are found by an index of their own, or by the records since:
/// that is planned for each time anew.
pub(super) fn unfinished(histories: &[&Layout], bound: Bound) -> Question {
    let sides = match bound {
        Bound::Time(moment) if !histories.is_empty() => Sides::new(super::Postgres.moment(moment), None),
        Bound::Position(moment, id) if !histories.is_empty() => {
            Sides::new(super::Postgres.moment(moment), Some(&id.to_string()))
        }
        _ => return Question::once("SELECT NULL::text WHERE false".to_owned()),
    };
    let [before, after] = sides.shortly(histories);
    let long = format!("x.history_tx_start <= {} AND {}", sides.at, sides.after);
    Question::once(format!(
        "SELECT history_tx::text FROM (
(({before}) INTERSECT ({after}))
UNION ({})
) AS x",
        transactions(histories, &long),
    ))
}

/// The same where no transaction took long; where one may have, there is a row without any.
///
/// A plan for any time expects a great many, for whom it would make room and start other processes. So they are gathered in
/// arrays, of which it expects few, as of a time that it does not see.
pub(super) fn unfinished_unless_long(histories: &[&Layout], bound: Bound) -> Option<Question> {
    let moment = bound.moment().filter(|_| !histories.is_empty())?;
    let mut given = Given::beside(&super::Postgres);
    let at = given.moment(moment);
    let (named, id) = match bound {
        Bound::Position(_, id) => (format!("{at} AS at, {} AS id", given.number(id)), Some("b.id")),
        _ => (format!("{at} AS at"), None),
    };
    let [before, after] = Sides::new("b.at".to_owned(), id).shortly(histories);
    Some(given.ask(format!(
        "SELECT t::text FROM unnest((
  SELECT ARRAY(SELECT unnest(ARRAY({before})) INTERSECT SELECT unnest(ARRAY({after})))
  FROM {}
)) AS t
UNION ALL
SELECT NULL WHERE {}",
        unseen(&named),
        long_since(histories, &at),
    )))
}

/// The key of a row of alias `row`, by the columns that `name` gives, is one of these.
pub(super) fn key_among(
    layout: &Layout,
    row: &str,
    name: impl Fn(&Field) -> String,
    keys: &[impl AsRef<[Value]>],
) -> String {
    let mut given = Given::inside(&super::Postgres);
    let each: Vec<String> =
        keys.iter().map(|key| key_is(layout, row, &name, key.as_ref(), &mut given)).collect();
    format!("({})", balanced(&each, "OR", "false"))
}

/// The rows of alias `row` are those asked for; their key's columns are called as `name` says.
pub(super) fn among(
    layout: &Layout,
    row: &str,
    name: impl Fn(&Field) -> String,
    rows: Rows<'_>,
) -> Option<String> {
    let by = |condition: String| {
        let own: Vec<String> = layout.key_fields().map(|field| col(row, &name(field))).collect();
        let theirs: Vec<String> = layout.key_fields().map(|field| col("x", &field.history)).collect();
        format!(
            "({}) IN (SELECT {} FROM {} AS x WHERE {condition})",
            own.join(", "),
            theirs.join(", "),
            layout.history.quoted()
        )
    };
    match rows {
        Rows::All => None,
        Rows::Keys(keys) => Some(key_among(layout, row, name, keys)),
        Rows::After(key) => {
            let own: Vec<String> = layout.key_fields().map(|field| col(row, &name(field))).collect();
            let values = layout.key_fields().zip(key);
            let values: Vec<String> =
                values.map(|(field, value)| key_value(field, &literal(&value.to_string()))).collect();
            Some(format!("({}) > ({})", own.join(", "), values.join(", ")))
        }
        Rows::TouchedBy(tx) => Some(by(format!("x.history_tx = {}::bigint", literal(tx)))),
        Rows::Beyond(bound) => Some(by(format!("NOT {}", within("x", bound)))),
    }
}

/// The records that an as-of looks at.
fn condition(as_of: &AsOf<'_>) -> String {
    let AsOf { layout, bound, unfinished, rows, .. } = as_of;
    let mut condition = within("h", *bound);
    if let Some(among) = among(layout, "h", |field| field.history.clone(), *rows) {
        condition.push_str(" AND ");
        condition.push_str(&among);
    }
    condition.push_str(&not_of("h", unfinished));
    condition
}

/// And of none of these transactions.
pub(super) fn not_of(alias: &str, transactions: &[String]) -> String {
    if transactions.is_empty() {
        return String::new();
    }
    let list: Vec<String> = transactions.iter().map(|tx| format!("{}::bigint", literal(tx))).collect();
    format!(" AND {alias}.history_tx NOT IN ({})", list.join(", "))
}

/// The creations less the deletions until then: the key's index tells both, and the order does not matter.
pub(super) fn count_as_of(as_of: &AsOf<'_>) -> String {
    format!(
        "SELECT count(*) FILTER (WHERE h.history_type = '+') - count(*) FILTER (WHERE h.history_type = '-')\nFROM {} AS h WHERE {} AND h.history_type <> '~'",
        as_of.layout.history.quoted(),
        condition(as_of),
    )
}

pub(super) fn as_of(as_of: &AsOf<'_>) -> String {
    format!("{}\nORDER BY {}", state(as_of), order_by_key(as_of.layout, "n"))
}

/// The rows of an as-of with records beyond its bound: each by a look-up of its own, since they are few.
pub(super) fn written_since(as_of: &AsOf<'_>) -> String {
    let AsOf { layout, bound, .. } = as_of;
    let keys: Vec<String> = layout.key_fields().map(|field| col("x", &field.history)).collect();
    let same: Vec<String> = layout
        .key_fields()
        .map(|field| format!("{} = {}", col("h", &field.history), col("k", &field.history)))
        .collect();
    let row = state_where(as_of, &format!("{} AND {}", condition(as_of), same.join(" AND ")));
    format!(
        "SELECT s.*
FROM (SELECT DISTINCT {} FROM {} AS x WHERE NOT {}) AS k
CROSS JOIN LATERAL (
{row}
) AS s",
        keys.join(", "),
        layout.history.quoted(),
        within("x", *bound),
    )
}

/// The table as of a time, in no order.
pub(super) fn state(as_of: &AsOf<'_>) -> String {
    state_where(as_of, &condition(as_of))
}

fn state_where(as_of: &AsOf<'_>, condition: &str) -> String {
    let AsOf { layout, fields, sparse, .. } = as_of;
    let history = layout.history.quoted();
    let key: Vec<String> = layout.key_fields().map(|field| col("h", &field.history)).collect();
    let key = key.join(", ");
    let rest: Vec<&Field> = fields.iter().filter(|field| !layout.is_key(field)).collect();
    if !sparse {
        // A condition on the key can reach the index only by way of `n`, which holds it as it is if equal keys look equal.
        let alias = |field: &Field| if layout.is_key(field) && field.plain_equality { "n" } else { "l" };
        let columns: Vec<String> = layout
            .key_fields()
            .chain(rest)
            .map(|field| format!("{} AS {}", col(alias(field), &field.history), Quoted::new(&field.name)))
            .collect();
        // The newest record of each key from the key's index, in key order, and then its row, one by one: so that a
        // limit stops early. A join would be planned for a whole table, and read all of the history for it.
        return format!(
            "SELECT {}
FROM (SELECT DISTINCT ON ({key}) {key}, h.history_date, h.history_id, h.history_type
  FROM {history} AS h WHERE {condition}
  ORDER BY {key}, h.history_date DESC, h.history_id DESC) AS n
CROSS JOIN LATERAL (SELECT * FROM {history} AS x
  WHERE x.history_date = n.history_date AND x.history_id = n.history_id LIMIT 1) AS l
WHERE n.history_type <> '-'",
            columns.join(", "),
        );
    }
    if as_of.first {
        return looked_up(as_of, condition);
    }
    // The records come sorted, newest first within a row, which an aggregate directly above a sorted subquery keeps
    // (PostgreSQL 15, 9.21). An ORDER BY of its own would have every aggregate sort every row's records again.
    let newest = |expression: &str, filter: &str| format!("(array_agg({expression}){filter})[1]");
    let mut inner: Vec<String> = layout.key_fields().map(|field| col("h", &field.history)).collect();
    let mut outer: Vec<String> = Vec::new();
    for field in layout.key_fields() {
        let name = Quoted::new(&field.name);
        if field.plain_equality || is_array(field) {
            outer.push(format!("{} AS {name}", col("n", &field.history)));
        } else {
            // Of keys that are equal and look different, 1.0 and 1.00, the newest.
            inner.push(format!("{} AS history_k{}", newest(&col("h", &field.history), ""), field.bit));
            outer.push(format!("n.history_k{} AS {name}", field.bit));
        }
    }
    for field in rest {
        let filter = format!(" FILTER (WHERE {})", mask_names("h", field));
        let name = Quoted::new(&field.name);
        if is_array(field) {
            // An array of arrays would become one array: find the record, then its value.
            inner.push(format!("{} AS history_d{}", newest("h.history_date", &filter), field.bit));
            inner.push(format!("{} AS history_i{}", newest("h.history_id", &filter), field.bit));
            outer.push(format!(
                "(SELECT {} FROM {history} AS x WHERE x.history_date = n.history_d{bit} AND x.history_id = n.history_i{bit}) AS {name}",
                col("x", &field.history),
                bit = field.bit
            ));
        } else {
            inner.push(format!("{} AS history_f{}", newest(&col("h", &field.history), &filter), field.bit));
            outer.push(format!("n.history_f{} AS {name}", field.bit));
        }
    }
    format!(
        "SELECT {}
FROM (SELECT {}
  FROM (SELECT * FROM {history} AS h WHERE {condition}
    ORDER BY {key}, h.history_date DESC, h.history_id DESC) AS h GROUP BY {key}
  HAVING {} <> '-') AS n",
        outer.join(", "),
        inner.join(",\n    "),
        newest("h.history_type", ""),
    )
}

/// The same for the first ones only: the keys in the order of their index, and each value looked up when it is wanted, those
/// that a condition asks for of all rows, the others of the rows that stay. The planner would sort all records instead, where
/// there are not very many.
fn looked_up(as_of: &AsOf<'_>, condition: &str) -> String {
    let AsOf { layout, fields, .. } = as_of;
    let history = layout.history.quoted();
    let key: Vec<String> = layout.key_fields().map(|field| col("h", &field.history)).collect();
    let same: Vec<String> = layout
        .key_fields()
        .map(|field| format!("{} = {}", col("h", &field.history), col("n", &field.history)))
        .collect();
    let columns: Vec<String> = layout
        .key_fields()
        .chain(fields.iter().filter(|field| !layout.is_key(field)))
        .map(|field| {
            let name = Quoted::new(&field.name);
            if layout.is_key(field) && field.plain_equality {
                return format!("{} AS {name}", col("n", &field.history));
            }
            // Of keys that are equal and look different, 1.0 and 1.00, the newest.
            let named = if layout.is_key(field) {
                String::new()
            } else {
                format!(" AND {}", mask_names("h", field))
            };
            format!(
                "(SELECT {} FROM {history} AS h WHERE {} AND {condition}{named} ORDER BY h.history_date DESC, h.history_id DESC LIMIT 1) AS {name}",
                col("h", &field.history),
                same.join(" AND "),
            )
        })
        .collect();
    let key = key.join(", ");
    format!(
        "SELECT {}
FROM (SELECT DISTINCT ON ({key}) {key}, h.history_type
  FROM {history} AS h WHERE {condition}
  ORDER BY {key}, h.history_date DESC, h.history_id DESC) AS n
WHERE n.history_type <> '-'",
        columns.join(",\n  "),
    )
}

fn order_by_key(layout: &Layout, alias: &str) -> String {
    layout.key_fields().map(|field| col(alias, &field.history)).collect::<Vec<_>>().join(", ")
}

/// The state of now from the records, for comparing with the live table.
pub(super) fn replay(layout: &Layout, sparse: bool) -> String {
    state(&AsOf {
        layout,
        fields: &layout.fields,
        sparse,
        bound: Bound::Now,
        unfinished: &[],
        rows: Rows::All,
        first: false,
    })
}
