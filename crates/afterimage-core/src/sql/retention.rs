//! What may go of a history, and how it goes.
//!
//! Records go oldest first. Whatever has gone, the oldest one of a row that is left holds the whole row, so that the rest
//! follows from it.

use super::log::{self, Position, Source, Spelling};
use super::{Bound, Dialect};
use crate::layout::{FULL_BIT, Field, Layout, word_column};
use crate::name::Quoted;
use crate::sql::expression::{col, mask_names};
use crate::time::Moment;
use crate::value::Value;
use crate::{Cut, Database};

/// Which records of a history may go.
#[derive(Debug, Clone, Copy)]
pub struct Doomed<'a> {
    /// The history.
    pub layout: &'a Layout,
    /// Up to where.
    pub cut: Cut,
    /// Transactions that had not ended at the cut: what was current before them has to stay.
    pub unfinished: &'a [String],
    /// Rows of which nothing may go, each by its key, in the key's order.
    pub held: &'a [Vec<Value>],
}

/// A condition on the records of alias `h`.
fn may_go(dialect: &dyn Dialect, doomed: &Doomed<'_>) -> String {
    let spelling = log::spelling(dialect.database());
    let Doomed { layout, cut, unfinished, held } = doomed;
    let history = layout.history.quoted();
    let same = spelling.same_row(layout, "x", "h");
    let newer = spelling.newer();
    let order = "ORDER BY x.history_date, x.history_id LIMIT 1";
    let mut terms = Vec::new();
    if let Some(moment) = cut.moment {
        let bound = Bound::Time(moment);
        terms.push(dialect.within("h", bound));
        // As a look-up for each: asked at once, all would be sorted for every batch.
        terms.push(format!(
            "(SELECT 1 FROM {history} AS x WHERE {same} AND {newer} AND {}{} {order}) IS NOT NULL",
            dialect.within("x", bound),
            spelling.not_of("x", unfinished),
        ));
    }
    if let Some(versions) = cut.versions {
        terms.push(format!(
            "(SELECT 1 FROM {history} AS x WHERE {same} AND {newer} {order} OFFSET {}) IS NOT NULL",
            versions.max(1) - 1
        ));
    }
    if terms.is_empty() {
        terms.push("1 = 0".to_owned());
    }
    terms.extend(held.iter().map(|key| format!("NOT ({})", spelling.key_is(layout, key))));
    terms.join("\n  AND ")
}

/// The next records that may go, oldest first, after a position: of each its date in microseconds and its number; the same of
/// the one that follows it along its row, and 1 where that holds the whole row, where these are wanted.
pub fn next(
    dialect: &dyn Dialect,
    doomed: &Doomed<'_>,
    with_following: bool,
    after: Option<Position>,
    limit: i64,
) -> String {
    let spelling = log::spelling(dialect.database());
    let history = doomed.layout.history.quoted();
    let after = after
        .map(|(date, id)| format!("{} AND ", dialect.beyond("h", Bound::Position(date, id))))
        .unwrap_or_default();
    let following = |what: &str| match with_following {
        true => following(spelling, doomed.layout, &history, what),
        false => "NULL".to_owned(),
    };
    format!(
        "SELECT {}, h.history_id, {}, {}, {}\nFROM {history} AS h\nWHERE {after}{}\nORDER BY h.history_date, h.history_id LIMIT {limit}",
        dialect.micros("h.history_date"),
        following(&dialect.micros("x.history_date")),
        following("x.history_id"),
        following(&format!("x.{} & {}", word_column(0), 1_i64 << FULL_BIT)),
        may_go(dialect, doomed),
    )
}

/// Records that changed nothing, or nothing but what is ignored.
#[derive(Debug, Clone, Copy)]
pub struct Duplicates<'a> {
    /// The history.
    pub source: Source<'a>,
    /// The bits of the fields that are ignored, word by word.
    pub ignored: &'a [i64],
    /// Only records that are not older.
    pub since: Option<Moment>,
    /// Rows of which nothing may go, each by its key, in the key's order.
    pub held: &'a [Vec<Value>],
}

/// A condition on the records of alias `h`: updates without a reason, by whoever wrote the record before, that say of no field
/// but the ignored ones that it changed. The newest record of a row stays where it says so of one: the row has that value.
fn is_duplicate(dialect: &dyn Dialect, duplicates: &Duplicates<'_>) -> String {
    let spelling = log::spelling(dialect.database());
    let Duplicates { source, ignored, since, held } = duplicates;
    let layout = source.layout;
    let history = layout.history.quoted();
    let bits = |ignored: &dyn Fn(usize) -> i64| {
        let each: Vec<String> = (0..layout.words())
            .map(|n| {
                let full = if n == 0 { 1 << FULL_BIT } else { 0 };
                format!("(h.{} & {}) = 0", word_column(n), i64::MAX & !(full | ignored(n)))
            })
            .collect();
        each.join(" AND ")
    };
    let same = spelling.same_row(layout, "x", "h");
    let newer = spelling.newer();
    // Who wrote a record: who it says, or else whom the database took them for.
    let writer_of = |record: &str, context: &str| match dialect.database() {
        Database::Postgres => {
            format!("coalesce({record}.history_user, {record}.history_context ->> 'session_user')")
        }
        Database::Sqlite | Database::MariaDb => format!("coalesce({context}.actor, {context}.context)"),
    };
    let before = |what: &str| {
        let joined = match dialect.database() {
            Database::Postgres => "",
            _ => " LEFT JOIN afterimage_scope AS w ON w.id = x.history_scope",
        };
        format!(
            "(SELECT {what} FROM {history} AS x{joined} WHERE {same} AND (x.history_date, x.history_id) < (h.history_date, h.history_id) ORDER BY x.history_date DESC, x.history_id DESC LIMIT 1)"
        )
    };
    let is_same = match dialect.database() {
        Database::Postgres => "IS NOT DISTINCT FROM",
        Database::Sqlite => "IS",
        Database::MariaDb => "<=>",
    };
    let mut terms = vec![
        "h.history_type = '~'".to_owned(),
        bits(&|n| ignored.get(n).copied().unwrap_or_default()),
        format!("{} IS NULL", spelling.reason()),
        format!("{} IS NOT NULL", before("x.history_id")),
        format!("{} {is_same} {}", before(&writer_of("x", "w")), writer_of("h", "c")),
        format!(
            "({} OR (SELECT 1 FROM {history} AS x WHERE {same} AND {newer} ORDER BY x.history_date, x.history_id LIMIT 1) IS NOT NULL)",
            bits(&|_| 0)
        ),
    ];
    terms.extend(since.map(|since| format!("h.history_date >= {}", dialect.moment(since))));
    terms.extend(held.iter().map(|key| format!("NOT ({})", spelling.key_is(layout, key))));
    terms.join("\n  AND ")
}

/// The next duplicates, oldest first, after a position: of each its date in microseconds and its number, the same of the record
/// that follows it along its row, and the words of its mask.
pub fn next_duplicates(
    dialect: &dyn Dialect,
    duplicates: &Duplicates<'_>,
    after: Option<Position>,
    limit: i64,
) -> String {
    let spelling = log::spelling(dialect.database());
    let layout = duplicates.source.layout;
    let history = layout.history.quoted();
    let after = after
        .map(|(date, id)| format!("{} AND ", dialect.beyond("h", Bound::Position(date, id))))
        .unwrap_or_default();
    let words: Vec<String> = layout.word_columns().map(|word| format!("h.{word}")).collect();
    format!(
        "SELECT {}, h.history_id, {}, {}, {}\nFROM {}\nWHERE {after}{}\nORDER BY h.history_date, h.history_id LIMIT {limit}",
        dialect.micros("h.history_date"),
        following(spelling, layout, &history, &dialect.micros("x.history_date")),
        following(spelling, layout, &history, "x.history_id"),
        words.join(", "),
        spelling.from(&duplicates.source, false),
        is_duplicate(dialect, duplicates),
    )
}

/// How many duplicates there are.
pub fn count_duplicates(dialect: &dyn Dialect, duplicates: &Duplicates<'_>) -> String {
    let spelling = log::spelling(dialect.database());
    format!(
        "SELECT count(*) FROM {} WHERE {}",
        spelling.from(&duplicates.source, false),
        is_duplicate(dialect, duplicates)
    )
}

/// What the record says that follows one of alias `h` along its row.
fn following(spelling: &dyn Spelling, layout: &Layout, history: &str, what: &str) -> String {
    format!(
        "(SELECT {what} FROM {history} AS x WHERE {} AND {} ORDER BY x.history_date, x.history_id LIMIT 1)",
        spelling.same_row(layout, "x", "h"),
        spelling.newer()
    )
}

/// How many records may go.
pub fn count_doomed(dialect: &dyn Dialect, doomed: &Doomed<'_>) -> String {
    format!("SELECT count(*) FROM {} AS h WHERE {}", doomed.layout.history.quoted(), may_go(dialect, doomed))
}

/// The records of a history at these positions.
pub(super) fn at(dialect: &dyn Dialect, alias: &str, positions: &[Position]) -> String {
    let list = |each: &dyn Fn(&Position) -> String| positions.iter().map(each).collect::<Vec<_>>().join(", ");
    match dialect.database() {
        Database::Postgres => format!(
            "({alias}history_date, {alias}history_id) IN (VALUES {})",
            list(&|(date, id)| format!("({}, {id}::bigint)", dialect.moment(*date)))
        ),
        // A number names a record there.
        Database::Sqlite | Database::MariaDb => {
            format!("{alias}history_id IN ({})", list(&|(_, id)| id.to_string()))
        }
    }
}

/// Makes records hold the whole row that do not, which those before them will not tell any more.
pub fn fill(dialect: &dyn Dialect, source: &Source<'_>, positions: &[Position]) -> String {
    let fields: Vec<&Field> = source.fields.iter().filter(|field| !source.layout.is_key(field)).collect();
    let filled = take_over(dialect, source, &fields, &[1 << FULL_BIT], positions);
    format!("{filled} AND (h.{} & {}) = 0", word_column(0), 1_i64 << FULL_BIT)
}

/// Makes records name fields that those before them named, with the values these gave them; `words` is what their masks say
/// then, too.
pub fn take_over(
    dialect: &dyn Dialect,
    source: &Source<'_>,
    fields: &[&Field],
    words: &[i64],
    positions: &[Position],
) -> String {
    format!(
        "UPDATE {} AS h SET\n  {}\nWHERE {}",
        source.layout.history.quoted(),
        taken_over(log::spelling(dialect.database()), source, fields, words).join(",\n  "),
        at(dialect, "h.", positions)
    )
}

/// What is set for it, of a record of alias `h`.
pub(super) fn taken_over(
    spelling: &dyn Spelling,
    source: &Source<'_>,
    fields: &[&Field],
    words: &[i64],
) -> Vec<String> {
    let mut set: Vec<String> = fields
        .iter()
        .map(|field| {
            format!(
                "{} = CASE WHEN {} THEN {} ELSE {} END",
                Quoted::new(&field.history),
                mask_names("h", field),
                col("h", &field.history),
                spelling.before(source, field)
            )
        })
        .collect();
    // Last: MariaDB gives what comes after it the new value.
    set.extend(words.iter().enumerate().filter(|(_, bits)| **bits != 0).map(|(n, bits)| {
        let word = word_column(n);
        format!("{word} = h.{word} | {bits}")
    }));
    set
}

/// Removes the records at these positions.
pub fn remove(dialect: &dyn Dialect, layout: &Layout, positions: &[Position]) -> String {
    format!("DELETE FROM {} WHERE {}", layout.history.quoted(), at(dialect, "", positions))
}

/// Until when the transactions lasted that wrote these records, in microseconds.
pub fn ended(
    dialect: &dyn Dialect,
    histories: &[&Layout],
    layout: &Layout,
    positions: &[Position],
) -> String {
    let own = layout.history.quoted();
    let there = at(dialect, "h.", positions);
    match dialect.database() {
        Database::Postgres => {
            let each: Vec<String> = histories
                .iter()
                .map(|history| {
                    format!(
                        "SELECT max(x.history_date) AS last FROM {} AS x WHERE x.history_tx IN (SELECT history_tx FROM w) AND x.history_date >= (SELECT min(history_date) FROM w)",
                        history.history.quoted()
                    )
                })
                .collect();
            format!(
                "WITH w AS MATERIALIZED (SELECT h.history_tx, h.history_date FROM {own} AS h WHERE {there})\nSELECT {} FROM ({}) AS x",
                dialect.micros("max(last)"),
                each.join(" UNION ALL ")
            )
        }
        Database::Sqlite | Database::MariaDb => format!(
            "SELECT max(coalesce(t.last_date, h.history_date)) FROM {own} AS h LEFT JOIN afterimage_scope AS c ON c.id = h.history_scope LEFT JOIN afterimage_scope AS t ON t.id = c.tx WHERE {there}"
        ),
    }
}

/// Of these records, the numbers of those that are the first of their row.
pub fn first_of_their_row(dialect: &dyn Dialect, layout: &Layout, positions: &[Position]) -> String {
    let spelling = log::spelling(dialect.database());
    let history = layout.history.quoted();
    format!(
        "SELECT h.history_id FROM {history} AS h WHERE {} AND NOT EXISTS (SELECT 1 FROM {history} AS x WHERE {} AND (x.history_date, x.history_id) < (h.history_date, h.history_id))",
        at(dialect, "h.", positions),
        spelling.same_row(layout, "x", "h"),
    )
}

/// The first of the last so many contexts before a number whose transactions began before a moment. For databases on which contexts
/// stand beside the records.
pub fn first_of_contexts(before: Moment, below: i64, limit: i64) -> String {
    format!(
        "SELECT min(x.id) FROM (SELECT c.id FROM afterimage_scope AS c WHERE c.id < {below} AND c.began < {} ORDER BY c.id DESC LIMIT {limit}) AS x",
        before.as_micros()
    )
}

/// Contexts, from one number on and below another, that ended before a moment and to which no record refers any more, the newest
/// first: the number of each, that of its transaction, and how many others this has. A transaction's first context has its number,
/// and tells of all of them which they are and when it ended: it has to outlive them. For databases on which contexts stand beside
/// the records.
pub fn unreferred_contexts(
    dialect: &dyn Dialect,
    histories: &[&Layout],
    before: Moment,
    (from, below): (i64, i64),
) -> String {
    let within = |number: &str| format!("{number} >= {from} AND {number} < {below}");
    let sqlite = dialect.database() == Database::Sqlite;
    let unreferred = |layout: &&Layout| {
        let history = layout.history.quoted();
        if sqlite {
            // All numbers from a transaction's first record to its last are its own.
            format!(
                " AND NOT EXISTS (SELECT 1 FROM {history} AS h WHERE h.history_id BETWEEN t.first_id AND t.last_id AND (c.id = t.id OR h.history_scope = c.id))"
            )
        } else {
            // It reads the history, and puts what it finds beside: no more than that is asked about.
            format!(
                " AND c.id NOT IN (SELECT h.history_scope FROM {history} AS h WHERE {})",
                within("h.history_scope")
            )
        }
    };
    let unreferred: String = histories.iter().map(unreferred).collect();
    let others = match sqlite {
        // None of them is referred to where the first goes.
        true => "0",
        false => {
            "CASE WHEN c.id = c.tx THEN (SELECT count(*) FROM afterimage_scope AS o WHERE o.tx = c.tx AND o.id <> c.id) ELSE 0 END"
        }
    };
    format!(
        "SELECT c.id, c.tx, {others} FROM afterimage_scope AS c JOIN afterimage_scope AS t ON t.id = c.tx WHERE {} AND t.tx = t.id AND t.last_date < {}{unreferred} ORDER BY c.id DESC",
        within("c.id"),
        before.as_micros()
    )
}

/// Removes these contexts.
pub fn forget_contexts(ids: &[i64]) -> String {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    format!("DELETE FROM afterimage_scope WHERE id IN ({})", ids.join(", "))
}

/// When a transaction began, as far as these histories tell, in microseconds: no record of it is older.
pub fn began(dialect: &dyn Dialect, histories: &[&Layout], tx: &str) -> crate::Result<String> {
    let tx = super::check_tx(tx)?;
    Ok(match dialect.database() {
        Database::Postgres => {
            let each: Vec<String> = histories
                .iter()
                .map(|layout| {
                    format!(
                        "SELECT min(coalesce(history_tx_start, history_date - interval '1 second')) AS began FROM {} WHERE history_tx = {tx}::bigint",
                        layout.history.quoted()
                    )
                })
                .collect();
            format!("SELECT {} FROM ({}) AS x", dialect.micros("min(began)"), each.join(" UNION ALL "))
        }
        _ => format!("SELECT min(began) FROM afterimage_scope WHERE tx = {tx}"),
    })
}

/// Which values are to be removed: of the records of one key, from one on, before another, those of some fields.
#[derive(Debug, Clone, Copy)]
pub struct Redacting<'a> {
    /// The history.
    pub layout: &'a Layout,
    /// The key, in the key's order.
    pub key: &'a [Value],
    /// The first record.
    pub from: Position,
    /// The record before which it ends.
    pub before: Position,
    /// The fields.
    pub fields: &'a [&'a Field],
}

/// Removes the values.
pub fn redact(dialect: &dyn Dialect, redacting: &Redacting<'_>) -> String {
    let Redacting { layout, key, from, before, fields } = redacting;
    let set: Vec<String> =
        fields.iter().map(|field| format!("{} = NULL", Quoted::new(&field.history))).collect();
    // By date first: a baseline that was long in coming has higher numbers than what came after it.
    let side = |sign: &str, (date, id): Position| {
        format!("(h.history_date, h.history_id) {sign} ({}, {id})", dialect.moment(date))
    };
    format!(
        "UPDATE {} AS h SET {} WHERE {} AND {} AND {}",
        layout.history.quoted(),
        set.join(", "),
        log::spelling(dialect.database()).key_is(layout, key),
        side(">=", *from),
        side("<", *before)
    )
}
