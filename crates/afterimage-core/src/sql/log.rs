//! Questions about records over any number of histories, newest first.
//!
//! Two steps: *positions* finds the records that may answer, in all histories at once, by their headers and by a first
//! look at their values; *records at* those positions come with the values they changed, old and new. Of one history both are
//! one question. The exact rule about values is [`Needle`]'s, applied to what the second step gives; so the first may find too
//! much, never too little.

use crate::Database;
use crate::layout::{Field, Layout};
use crate::name::literal;
use crate::query::{ChangeWanted, Choice, Query, Wanted};
use crate::search::Needle;
use crate::sql::expression::{balanced, col, mask_names};
use crate::sql::question::{Given, MOST_KEPT, Question};
use crate::sql::{Dialect, then};
use crate::time::Moment;
use crate::value::Value;

/// The history of one table, as questions about records see it.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Its newest layout.
    pub layout: &'a Layout,
    /// Every field that any of its epochs had.
    pub fields: &'a [Field],
    /// Whether any of its records is sparse.
    pub sparse: bool,
}

/// What a query asks of one table.
#[derive(Debug)]
pub struct Part<'a> {
    /// The history.
    pub source: Source<'a>,
    /// Only rows of these keys, each in the key's order; all, where none is named.
    pub keys: Vec<Vec<Value>>,
    /// Not rows of these keys.
    pub not_keys: Vec<Vec<Value>>,
    /// The fields, of which one must have changed; all, where none is named.
    pub changed: Vec<&'a Field>,
    /// Only rows that then referred to another, before the record or after it: by any of these foreign keys, each with
    /// its fields and the values they must have.
    pub refers: Vec<Vec<(&'a Field, Value)>>,
    /// Only the newest record of each row.
    pub latest: bool,
    /// Up to when what was before a record may be in an archive.
    pub archived_until: Option<Moment>,
}

impl Part<'_> {
    /// Whether only an archive tells what was before a record: the exact rule looks at each of these.
    fn is_told_elsewhere(&self, spelling: &dyn Spelling) -> Option<String> {
        let until = spelling.at(self.archived_until?);
        let layout = self.source.layout;
        Some(format!(
            "(h.history_date <= {until} AND h.history_type <> '-' AND (h.history_old_key IS NOT NULL OR NOT EXISTS (SELECT 1 FROM {} AS x WHERE {} AND (x.history_date, x.history_id) < (h.history_date, h.history_id))))",
            layout.history.quoted(),
            spelling.same_row(layout, "x", "h"),
        ))
    }
}

/// Which of the values after a record are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// Those that it changed, those of the key, and maybe others.
    Changed,
    /// All that it holds.
    All,
}

impl Read {
    /// The value of a field after a record of alias `h`, where it is read.
    pub(super) fn new_value(self, source: &Source<'_>, field: &Field, value: &str) -> String {
        // A sparse record holds little else.
        if self == Self::All || source.sparse || source.layout.is_key(field) {
            format!(", {value}")
        } else {
            format!(", CASE WHEN {} THEN {value} END", says_changed("h", field))
        }
    }
}

/// A value to be read.
#[derive(Debug)]
pub(super) struct Asked {
    /// Its expression.
    pub(super) sql: String,
    pub(super) holds: Holds,
}

/// What a value may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    /// A whole number, or a text.
    Known,
    /// What somebody gave as a text.
    Given,
    /// Anything.
    Anything,
}

/// A position in the log: a date and a number.
pub type Position = (Moment, i64);

/// How a database spells what questions about records need.
pub(super) trait Spelling {
    /// A moment.
    fn at(&self, moment: Moment) -> String;

    /// The user of a record of alias `h`.
    fn user(&self) -> &'static str;

    /// Its reason.
    fn reason(&self) -> &'static str;

    /// A member of its context, as text.
    fn context(&self, member: &str) -> String;

    /// The columns of the header of alias `h` but for the mask.
    fn head(&self) -> [String; 8];

    /// When the transaction of alias `h` had begun at the latest, in microseconds, and the number of its context, where contexts
    /// stand beside records.
    fn transaction(&self) -> [String; 2];

    /// The value of a field in a record of an alias, as the text from which it is shown.
    fn shown(&self, field: &Field, alias: &str) -> String;

    /// Of each field whether its values have to be told apart from others where many rows are handed over, as a row of booleans.
    fn told_apart(&self, _source: &Source<'_>) -> Option<String> {
        None
    }

    /// The columns by which many rows of these values are handed over.
    fn handed_over(&self, values: &[Asked]) -> Vec<String> {
        values.iter().map(|value| value.sql.clone()).collect()
    }

    /// The records as alias `h`, with their contexts where those stand elsewhere; `previous` joins the record before
    /// each as alias `p`, and the one from which it departed as `d`.
    fn from(&self, source: &Source<'_>, previous: bool) -> String;

    /// Whether a record belongs to one of these transactions.
    fn of_transaction(&self, transactions: &[&str]) -> String;

    /// And that an alias' record belongs to none of these, to be added to a condition.
    fn not_of(&self, alias: &str, transactions: &[String]) -> String;

    /// Whether the key of a record is this one.
    fn key_is(&self, layout: &Layout, key: &[Value]) -> String;

    /// The same of one that a question is given.
    fn key_given(&self, layout: &Layout, key: &[Value], _given: &mut Given<'_>) -> String {
        self.key_is(layout, key)
    }

    /// Whether a record is older than one of that moment and number. Records of one statement may share their moment, so
    /// that the index has to begin at the number.
    fn older(&self, at: &str, id: &str) -> String {
        format!("(h.history_date, h.history_id) < ({at}, {id})")
    }

    /// Whether the records of two aliases are of the same row.
    fn same_row(&self, layout: &Layout, a: &str, b: &str) -> String;

    /// Whether a record of alias `x` of the same row is newer than that of alias `h`.
    fn newer(&self) -> &'static str {
        "(x.history_date, x.history_id) > (h.history_date, h.history_id)"
    }

    /// Whether a record of alias `h` is the newest of its row.
    fn is_latest(&self, layout: &Layout) -> String {
        format!(
            "NOT EXISTS (SELECT 1 FROM {} AS x WHERE {} AND {})",
            layout.history.quoted(),
            self.same_row(layout, "x", "h"),
            self.newer()
        )
    }

    /// Whether a value of a field, of whichever alias, is this one.
    fn value_is(&self, expression: &str, field: &Field, value: &Value) -> String;

    /// Whether a record is a departure, which is told by its arrival.
    fn departs(&self, layout: &Layout) -> String;

    /// Whether a text may hold what is looked for.
    fn holds(&self, text: &str, needle: &Needle) -> String;

    /// Whether a value may be what is looked for.
    fn may_be(&self, value: &str, field: &Field, needle: &Needle) -> Option<String>;

    /// The value of a field in the newest record, before one of alias `h`, that names it.
    fn before(&self, source: &Source<'_>, field: &Field) -> String;

    /// The value that a field had before a record of alias `h` that changed it, for comparisons: what a creation changed was
    /// nothing.
    fn old(&self, source: &Source<'_>, field: &Field) -> String {
        let before = if source.sparse { self.before(source, field) } else { col("p", &field.history) };
        format!(
            "CASE h.history_type WHEN '~' THEN {before} WHEN '-' THEN {} ELSE {} END",
            col("h", &field.history),
            col("d", &field.history)
        )
    }
}

/// How a database spells it.
pub(super) fn spelling(database: Database) -> &'static dyn Spelling {
    match database {
        Database::Postgres => super::postgres::SPELLING,
        Database::Sqlite => super::sqlite::SPELLING,
        Database::MariaDb => super::mariadb::SPELLING,
    }
}

/// The names of a record's header but for the mask, in the order in which it is read.
pub(super) const HEAD: [&str; 8] = [
    "history_id",
    "history_date",
    "history_type",
    "history_user",
    "history_change_reason",
    "history_context",
    "history_tx",
    "history_old_key",
];

/// All records as versions, whose header is `head`.
pub(super) fn versions(spelling: &dyn Spelling, source: &Source<'_>, head: &[String; 8]) -> String {
    let layout = source.layout;
    let mut columns: Vec<String> =
        head.iter().zip(HEAD).map(|(value, name)| format!("{value} AS {name}")).collect();
    columns.extend(layout.word_columns().map(|word| format!("h.{word} AS {word}")));
    columns.extend(source.fields.iter().map(|field| {
        let recorded = col("h", &field.history);
        let value = if source.sparse && !layout.is_key(field) {
            format!(
                "CASE WHEN {} THEN {recorded} ELSE {} END",
                mask_names("h", field),
                spelling.before(source, field)
            )
        } else {
            recorded
        };
        format!("{value} AS {}", then::version_column(field))
    }));
    format!(
        "SELECT {}\nFROM {}\nWHERE NOT {}",
        columns.join(", "),
        spelling.from(source, false),
        spelling.departs(layout)
    )
}

/// The rows whose key is among those of records that fulfil a condition on alias `x`.
fn key_among_records(layout: &Layout, condition: &str) -> String {
    let columns = |alias: &str| {
        layout.key_fields().map(|field| col(alias, &field.history)).collect::<Vec<_>>().join(", ")
    };
    format!(
        "({}) IN (SELECT {} FROM {} AS x WHERE {condition})",
        columns("h"),
        columns("x"),
        layout.history.quoted()
    )
}

/// A pattern that finds the text anywhere; a backslash escapes.
pub(super) fn pattern(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    literal(&format!("%{escaped}%"))
}

/// Whether a record of this alias says that a field changed.
pub(super) fn says_changed(alias: &str, field: &Field) -> String {
    let (word, bit) = field.word_and_bit();
    format!("({alias}.{} & {bit}) <> 0", crate::layout::word_column(word))
}

/// The condition on records of alias `h`, and whether it looks at the values before them.
pub(super) fn condition(
    spelling: &dyn Spelling,
    part: &Part<'_>,
    query: &Query,
    after: Option<Position>,
    given: &mut Given<'_>,
) -> (String, bool) {
    let layout = part.source.layout;
    let mut all = vec![format!("NOT {}", spelling.departs(layout))];
    if let Some(from) = query.from {
        all.push(format!("h.history_date >= {}", given.moment(from)));
    }
    if let Some(before) = query.before {
        all.push(format!("h.history_date < {}", given.moment(before)));
    }
    if part.latest {
        all.push(spelling.is_latest(layout));
    }
    if let Some((date, id)) = after {
        let (at, id) = (given.moment(date), given.number(id));
        all.push(spelling.older(&at, &id));
    }
    one_of(&mut all, spelling.user(), &query.actors);
    one_of(&mut all, &spelling.context("correlation_id"), &query.correlations);
    let transactions = |ids: &[String]| {
        spelling.of_transaction(
            &ids.iter().filter(|id| super::check_tx(id).is_ok()).map(String::as_str).collect::<Vec<_>>(),
        )
    };
    if !query.transactions.wanted.is_empty() {
        all.push(transactions(&query.transactions.wanted));
    }
    if !query.transactions.not.is_empty() {
        all.push(format!("({}) IS NOT TRUE", transactions(&query.transactions.not)));
    }
    let mut any_key = |keys: &[Vec<Value>]| {
        let each: Vec<String> = keys.iter().map(|key| spelling.key_given(layout, key, given)).collect();
        balanced(&each, "OR", "1 = 0")
    };
    if !part.keys.is_empty() {
        all.push(format!("({})", any_key(&part.keys)));
    }
    if !part.not_keys.is_empty() {
        all.push(format!("NOT ({})", any_key(&part.not_keys)));
    }
    actions(&mut all, spelling, query);
    for phrase in &query.reasons {
        if !phrase.negated {
            all.push(spelling.holds(spelling.reason(), &Needle::new(&phrase.text)));
        }
    }
    for phrase in &query.labels {
        if !phrase.negated {
            all.push(spelling.holds(&spelling.context("label"), &Needle::new(&phrase.text)));
        }
    }
    let mut previous = change(&mut all, spelling, part, query);
    if !part.refers.is_empty() {
        let each: Vec<String> = part.refers.iter().map(|key| refers(spelling, part, key)).collect();
        all.push(format!("({})", each.join("\n      OR ")));
        previous = true;
    }
    for phrase in query.text.iter().filter(|phrase| !phrase.negated) {
        all.push(anywhere(spelling, part, &Needle::new(&phrase.text)));
        previous = true;
    }
    (all.join("\n    AND "), previous)
}

fn one_of(all: &mut Vec<String>, expression: &str, choice: &Choice) {
    let list = |texts: &[String]| texts.iter().map(|text| literal(text)).collect::<Vec<_>>().join(", ");
    if !choice.wanted.is_empty() {
        all.push(format!("{expression} IN ({})", list(&choice.wanted)));
    }
    if !choice.not.is_empty() {
        all.push(format!("({expression} IN ({})) IS NOT TRUE", list(&choice.not)));
    }
}

fn actions(all: &mut Vec<String>, spelling: &dyn Spelling, query: &Query) {
    let one = |wanted: &Wanted| match wanted {
        Wanted::Create => "(h.history_type = '+' AND h.history_old_key IS NULL)".to_owned(),
        Wanted::Update => {
            "(h.history_type = '~' OR h.history_type = '+' AND h.history_old_key IS NOT NULL)".to_owned()
        }
        Wanted::Delete => "h.history_type = '-'".to_owned(),
        Wanted::Restore => format!("{} IS NOT NULL", spelling.context("restored_from")),
    };
    let any = |wanted: &[Wanted]| wanted.iter().map(one).collect::<Vec<_>>().join(" OR ");
    if !query.actions.wanted.is_empty() {
        all.push(format!("({})", any(&query.actions.wanted)));
    }
    if !query.actions.not.is_empty() {
        all.push(format!("NOT ({})", any(&query.actions.not)));
    }
}

/// The wanted change; gives whether it looks at old values.
fn change(all: &mut Vec<String>, spelling: &dyn Spelling, part: &Part<'_>, query: &Query) -> bool {
    let wanted = &query.change;
    if wanted.fields.is_empty() && wanted.was.is_empty() && wanted.now.is_empty() {
        return false;
    }
    let fields: Vec<&Field> =
        if wanted.fields.is_empty() { part.source.fields.iter().collect() } else { part.changed.clone() };
    let needles = |texts: &[String]| texts.iter().map(|text| Needle::new(text)).collect::<Vec<_>>();
    let (was, now) = (needles(&wanted.was), needles(&wanted.now));
    let elsewhere = part.is_told_elsewhere(spelling).filter(|_| !was.is_empty());
    let terms: Vec<String> = fields
        .into_iter()
        .filter_map(|field| {
            let mut terms = vec![says_changed("h", field)];
            for needle in &was {
                let may_be = spelling.may_be(&spelling.old(&part.source, field), field, needle)?;
                terms.push(match &elsewhere {
                    Some(elsewhere) => format!("({may_be} OR {elsewhere})"),
                    None => may_be,
                });
            }
            for needle in &now {
                let new = col("h", &field.history);
                let new = if needle.is_null() {
                    format!("({new} IS NULL OR h.history_type = '-')")
                } else {
                    format!("(h.history_type <> '-' AND {})", spelling.may_be(&new, field, needle)?)
                };
                terms.push(new);
            }
            Some(format!("({})", terms.join(" AND ")))
        })
        .collect();
    all.push(format!("({})", balanced(&terms, "OR", "1 = 0")));
    !was.is_empty()
}

/// The row referred so, before the record or after it. Few rows ever did; of those, each record is looked at.
fn refers(spelling: &dyn Spelling, part: &Part<'_>, key: &[(&Field, Value)]) -> String {
    let ever: Vec<String> =
        key.iter().map(|(field, value)| spelling.value_is(&col("x", &field.history), field, value)).collect();
    let side = |expression: &dyn Fn(&Field) -> String| -> String {
        let terms: Vec<String> =
            key.iter().map(|(field, value)| spelling.value_is(&expression(field), field, value)).collect();
        terms.join(" AND ")
    };
    let old = |field: &Field| spelling.old(&part.source, field);
    let new = |field: &Field| {
        format!(
            "CASE WHEN {} THEN {} ELSE {} END",
            mask_names("h", field),
            col("h", &field.history),
            spelling.old(&part.source, field)
        )
    };
    let elsewhere = part.is_told_elsewhere(spelling).map(|told| format!(" OR {told}")).unwrap_or_default();
    format!(
        "({} AND (({}) OR ({})){elsewhere})",
        key_among_records(part.source.layout, &ever.join(" AND ")),
        side(&new),
        side(&old)
    )
}

/// Free text: in a value, old or new, in the key, or in what the context says.
fn anywhere(spelling: &dyn Spelling, part: &Part<'_>, needle: &Needle) -> String {
    let mut terms = vec![
        spelling.holds(spelling.user(), needle),
        spelling.holds(spelling.reason(), needle),
        spelling.holds(&spelling.context("label"), needle),
    ];
    let mut old = Vec::new();
    for field in part.source.fields {
        let key = part.source.layout.is_key(field);
        if let Some(found) = spelling.may_be(&col("h", &field.history), field, needle) {
            terms.push(if key { found } else { format!("({} AND {found})", says_changed("h", field)) });
        }
        if !key && let Some(found) = spelling.may_be(&spelling.old(&part.source, field), field, needle) {
            old.push(format!("({} AND {found})", says_changed("h", field)));
        }
    }
    // The record before costs a look-up: last, and of updates only.
    if !old.is_empty() {
        terms.push(format!("(h.history_type <> '-' AND {})", balanced(&old, "OR", "1 = 0")));
        terms.extend(part.is_told_elsewhere(spelling));
    }
    format!("({})", terms.join("\n      OR "))
}

/// The positions of the newest records that may answer, in all these histories, older than `after`: the place of the history in
/// the list, its date in microseconds, its number.
pub fn positions(
    dialect: &dyn Dialect,
    parts: &[Part<'_>],
    query: &Query,
    after: Option<Position>,
    limit: u64,
) -> Question {
    let mut given = given_of(dialect, parts, query);
    let found = newest(spelling(dialect.database()), "", parts, query, after, limit, &mut given);
    let date = dialect.micros("history_date");
    given.ask(format!("SELECT part, {date}, history_id FROM {found}"))
}

/// The newest records of one history that may answer, older than `after`, as [`records_at`](Dialect::records_at) gives them.
pub fn newest_records(
    dialect: &dyn Dialect,
    part: &Part<'_>,
    read: Read,
    query: &Query,
    after: Option<Position>,
    limit: u64,
) -> Question {
    let mut given = given_of(dialect, std::slice::from_ref(part), query);
    let newest = newest_of(spelling(dialect.database()), part, query, after, limit, &mut given);
    let Source { layout, fields, sparse } = part.source;
    let sql = dialect.records_where(&part.source, read, &|columns| format!("SELECT {columns}\n  {newest}"));
    let looked_up = limit.saturating_mul(if sparse { fields.len() as u64 } else { 2 });
    if may_be_asked_alone(query) && dialect.is_short(looked_up) {
        given.ask_one(sql, layout, &[], fields)
    } else {
        given.ask(sql)
    }
}

/// Whether a page of the newest changes of one history may be asked in no transaction: its text says nothing of what is asked, and
/// it is of all times.
pub fn may_be_asked_alone(query: &Query) -> bool {
    query.from.is_none() && query.before.is_none() && stands_beside(query)
}

/// Where what a question asks about stands.
fn given_of<'d>(dialect: &'d dyn Dialect, parts: &[Part<'_>], query: &Query) -> Given<'d> {
    let in_text = !stands_beside(query)
        || parts.iter().any(|part| !part.refers.is_empty() || part.keys.len() + part.not_keys.len() > 1)
        || parts.len() > MOST_KEPT;
    if in_text { Given::inside(dialect) } else { Given::beside(dialect) }
}

/// What a question asks about stands beside its text where the text then says nothing else of it. Whose changes are asked for
/// stays in it: a plan for anybody's would go through all records of everybody, to find the few of somebody.
fn stands_beside(query: &Query) -> bool {
    let Query {
        tables: _,
        keys: _,
        actors,
        correlations,
        transactions,
        actions: _,
        labels,
        reasons,
        change: ChangeWanted { fields: _, was, now },
        no_change: _,
        text,
        from: _,
        before: _,
    } = query;
    [actors, correlations, transactions].into_iter().all(|choice| *choice == Choice::default())
        && labels.is_empty()
        && reasons.is_empty()
        && text.is_empty()
        && was.is_empty()
        && now.is_empty()
}

/// A period of so many microseconds begins wherever a day begins anywhere: offsets of time zones are multiples of it.
pub const QUARTER: i64 = 15 * 60 * 1_000_000;

/// How many of the newest records that may answer, in all these histories together, there are of each: the place of the
/// history in the list, the [`QUARTER`] of an hour that begins at so many microseconds, the user, the sign of what
/// happened (a change of the key is an update), and their number.
pub fn summary(dialect: &dyn Dialect, parts: &[Part<'_>], query: &Query, limit: u64) -> String {
    let spelling = spelling(dialect.database());
    let header = format!(
        ", {} AS who, CASE WHEN h.history_type = '-' THEN '-' WHEN h.history_type = '+' AND h.history_old_key IS NULL THEN '+' ELSE '~' END AS sign",
        spelling.user()
    );
    let found = newest(spelling, &header, parts, query, None, limit, &mut Given::inside(dialect));
    let at = dialect.micros("history_date");
    format!(
        "SELECT part, {at} - {at} % {QUARTER} AS quarter, who, sign, count(*) FROM (SELECT * FROM {found}) AS n\nGROUP BY 1, 2, 3, 4"
    )
}

/// What comes after `FROM`, up to the end: the newest records that may answer. `header` is what is wanted of them beside
/// their positions.
fn newest(
    spelling: &dyn Spelling,
    header: &str,
    parts: &[Part<'_>],
    query: &Query,
    after: Option<Position>,
    limit: u64,
    given: &mut Given<'_>,
) -> String {
    let each: Vec<String> = parts
        .iter()
        .enumerate()
        .map(|(n, part)| {
            let own = newest_of(spelling, part, query, after, limit, given);
            format!(
                "SELECT * FROM (SELECT {n} AS part, h.history_date, h.history_id{header}\n  {own}) AS part_{n}"
            )
        })
        .collect();
    format!(
        "(
{}
) AS found
ORDER BY history_date DESC, history_id DESC LIMIT {limit}",
        each.join("\nUNION ALL\n")
    )
}

/// The newest records of one history that may answer, as `h`, from `FROM` on.
fn newest_of(
    spelling: &dyn Spelling,
    part: &Part<'_>,
    query: &Query,
    after: Option<Position>,
    limit: u64,
    given: &mut Given<'_>,
) -> String {
    let (condition, previous) = condition(spelling, part, query, after, given);
    format!(
        "FROM {}
  WHERE {condition}
  ORDER BY h.history_date DESC, h.history_id DESC LIMIT {limit}",
        spelling.from(&part.source, previous)
    )
}
