//! What people ask of the log: one grammar for the command line, the library, REST and web pages.
//!
//! `actor:bob -table:customer field:total was:1249 now:1149 reason:"price match" at:>2h some words`
//!
//! | key, and its other names | asks for |
//! | --- | --- |
//! | `table`, `model` | records of this table |
//! | `key`, `row` | records of this row |
//! | `actor`, `user` | records of this actor, by id |
//! | `label` | these words in the actor's name |
//! | `action` | `create`, `update`, `delete`, or `restore`: what wrote an older state back |
//! | `field`, `column` | a change of this column |
//! | `was`, `old` | a change from this value |
//! | `now`, `new` | a change to this value |
//! | `reason`, `why` | these words in the reason |
//! | `request`, `correlation` | records of this request, job or trace |
//! | `tx`, `transaction` | records of this database transaction |
//! | `at`, `when` | a day, a second, `>TIME`, `>=TIME`, `<TIME`, `<=TIME`, or `FROM..TO` |
//! | `since`, `after` | at this time or later |
//! | `until` | at this time or earlier |
//! | `before` | earlier than this time |
//!
//! Anything else is looked for in values, old and new, in keys, labels and reasons. `-` in front asks for the opposite.
//! Several of a key that a record has once mean *any of these*; everything else holds together. `field`, `was` and `now`
//! speak of one and the same change. A text with blanks, or with a colon in it, goes into quotes.

use std::fmt;

use crate::error::{Error, ErrorKind, Result};
use crate::suggest;
use crate::time::Moment;

/// Each key with its other names; the first is what it is printed as.
const KEYS: [&[&str]; 15] = [
    &["table", "model"],
    &["key", "row"],
    &["actor", "user"],
    &["label"],
    &["action"],
    &["field", "column"],
    &["was", "old"],
    &["now", "new"],
    &["reason", "why"],
    &["request", "correlation", "correlation_id"],
    &["tx", "transaction"],
    &["at", "when"],
    &["since", "after"],
    &["until"],
    &["before"],
];

/// Of something that a record has once: any of these, none of those.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Choice {
    /// Any of these; whatever it is, where there is none.
    pub wanted: Vec<String>,
    /// None of these.
    pub not: Vec<String>,
}

/// What happened, as people ask for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// A row came to be.
    Create,
    /// A row changed, its key included.
    Update,
    /// A row was deleted.
    Delete,
    /// An older state was written back: a revert, or a row brought back to life.
    Restore,
}

const ACTIONS: [(&str, Wanted); 4] = [
    ("create", Wanted::Create),
    ("update", Wanted::Update),
    ("delete", Wanted::Delete),
    ("restore", Wanted::Restore),
];

impl std::str::FromStr for Wanted {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let known = ACTIONS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        known.map(|(_, wanted)| *wanted).ok_or_else(|| {
            let hint = suggest::hint(text, ACTIONS.map(|(name, _)| name));
            wrong(format!("{text:?} is not an action{hint}")).help("create, update, delete or restore")
        })
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ACTIONS.iter().find(|(_, wanted)| wanted == self).map_or("", |(name, _)| name))
    }
}

/// Which actions: any of these, none of those.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ActionChoice {
    /// Any of these; all, where there is none.
    pub wanted: Vec<Wanted>,
    /// None of these.
    pub not: Vec<Wanted>,
}

/// Words to be found in a text, or not to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phrase {
    /// The words.
    pub text: String,
    /// Whether they must not be there.
    pub negated: bool,
}

/// One change: of one of these fields, from all of these values, to all of those.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChangeWanted {
    /// Of one of these; of any, where there is none.
    pub fields: Vec<String>,
    /// From a value that is found by each of these.
    pub was: Vec<String>,
    /// To a value that is found by each of these.
    pub now: Vec<String>,
}

/// A question to the log. Everything in it holds together; nothing in it asks for everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Query {
    /// Tables.
    pub tables: Choice,
    /// Keys of rows.
    pub keys: Choice,
    /// Actors, by id.
    pub actors: Choice,
    /// Requests, jobs, traces.
    pub correlations: Choice,
    /// Database transactions.
    pub transactions: Choice,
    /// What happened.
    pub actions: ActionChoice,
    /// Words of the actor's name.
    pub labels: Vec<Phrase>,
    /// Words of the reason.
    pub reasons: Vec<Phrase>,
    /// A change that the record must have.
    pub change: ChangeWanted,
    /// Changes that it must not have.
    pub no_change: Vec<ChangeWanted>,
    /// Words to be found anywhere.
    pub text: Vec<Phrase>,
    /// From when, inclusive.
    pub from: Option<Moment>,
    /// Until when, exclusive.
    pub before: Option<Moment>,
}

fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidQuery, message)
}

impl Query {
    /// Reads a query as people type it; `now` and `zone` settle times that are relative or have no zone.
    ///
    /// ```
    /// use afterimage_core::{Moment, query::Query};
    /// let query = Query::parse("actor:bob field:total was:1249 -action:delete", Moment::now(), "UTC")?;
    /// assert_eq!(query.actors.wanted, ["bob"]);
    /// let error = Query::parse("acter:bob", Moment::now(), "UTC").unwrap_err();
    /// assert!(error.to_string().contains(r#"did you mean "actor"?"#));
    /// # Ok::<(), afterimage_core::Error>(())
    /// ```
    pub fn parse(text: &str, now: Moment, zone: &str) -> Result<Self> {
        if text.contains('\0') {
            return Err(wrong("a query cannot hold a NUL character"));
        }
        let mut query = Self::default();
        for term in terms(text)? {
            query.take(term, now, zone)?;
        }
        Ok(query)
    }

    /// This query and another: what answers both. Periods overlap, or nothing answers.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        let both = |own: &mut Choice, other: Choice| {
            own.wanted.extend(other.wanted);
            own.not.extend(other.not);
        };
        both(&mut self.tables, other.tables);
        both(&mut self.keys, other.keys);
        both(&mut self.actors, other.actors);
        both(&mut self.correlations, other.correlations);
        both(&mut self.transactions, other.transactions);
        self.actions.wanted.extend(other.actions.wanted);
        self.actions.not.extend(other.actions.not);
        self.labels.extend(other.labels);
        self.reasons.extend(other.reasons);
        self.change.fields.extend(other.change.fields);
        self.change.was.extend(other.change.was);
        self.change.now.extend(other.change.now);
        self.no_change.extend(other.no_change);
        self.text.extend(other.text);
        self.since(other.from);
        self.earlier(other.before);
        self
    }

    fn since(&mut self, from: Option<Moment>) {
        self.from = self.from.max(from);
    }

    fn earlier(&mut self, before: Option<Moment>) {
        self.before = match (self.before, before) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }

    fn take(&mut self, term: Term, now: Moment, zone: &str) -> Result<()> {
        let Term { negated, key, value, quoted } = term;
        let Some(key) = key else {
            self.text.push(Phrase { text: value, negated });
            return Ok(());
        };
        if value.is_empty() && !quoted {
            return Err(wrong(format!("{key}: has no value (empty text is {key}:\"\")")));
        }
        let choose = |choice: &mut Choice, value: String| {
            if negated { choice.not.push(value) } else { choice.wanted.push(value) }
        };
        match key {
            "table" => choose(&mut self.tables, value),
            "key" => choose(&mut self.keys, value),
            "actor" => choose(&mut self.actors, value),
            "request" => choose(&mut self.correlations, value),
            "tx" => choose(&mut self.transactions, value),
            "action" => {
                let action = value.parse()?;
                if negated { self.actions.not.push(action) } else { self.actions.wanted.push(action) }
            }
            "label" => self.labels.push(Phrase { text: value, negated }),
            "reason" => self.reasons.push(Phrase { text: value, negated }),
            "field" | "was" | "now" => {
                let mut not = ChangeWanted::default();
                let change = if negated { &mut not } else { &mut self.change };
                match key {
                    "field" => change.fields.push(value),
                    "was" => change.was.push(value),
                    _ => change.now.push(value),
                }
                if negated {
                    self.no_change.push(not);
                }
            }
            _ if negated => return Err(wrong(format!("-{key}: a time cannot be negated"))),
            _ => self.period(key, &value, now, zone)?,
        }
        Ok(())
    }

    fn period(&mut self, key: &str, value: &str, now: Moment, zone: &str) -> Result<()> {
        let at = |text: &str| Moment::parse(text, now, zone);
        match key {
            "since" => self.since(Some(at(value)?)),
            "until" => self.earlier(Some(at(value)?.next())),
            "before" => self.earlier(Some(at(value)?)),
            _ => {
                if let Some(time) = value.strip_prefix(">=") {
                    self.since(Some(at(time)?));
                } else if let Some(time) = value.strip_prefix('>') {
                    self.since(Some(at(time)?.next()));
                } else if let Some(time) = value.strip_prefix("<=") {
                    self.earlier(Some(at(time)?.next()));
                } else if let Some(time) = value.strip_prefix('<') {
                    self.earlier(Some(at(time)?));
                } else if let Some((from, to)) = value.split_once("..") {
                    if !from.is_empty() {
                        self.since(Some(at(from)?));
                    }
                    if !to.is_empty() {
                        self.earlier(Some(at(to)?.next()));
                    }
                } else {
                    let (from, before) = Moment::parse_span(value, now, zone)?;
                    self.since(Some(from));
                    self.earlier(Some(before));
                }
            }
        }
        Ok(())
    }
}

/// One piece of a query.
struct Term {
    negated: bool,
    key: Option<&'static str>,
    value: String,
    quoted: bool,
}

/// Cuts a query into its pieces.
fn terms(text: &str) -> Result<Vec<Term>> {
    let mut rest = text.trim_start();
    let mut terms = Vec::new();
    while !rest.is_empty() {
        let (negated, after) = match rest.strip_prefix('-') {
            Some(after) if after.starts_with(|c: char| !c.is_whitespace()) => (true, after),
            _ => (false, rest),
        };
        let (key, after) = match key(after)? {
            Some((key, after)) => (Some(key), after),
            None => (None, after),
        };
        // A number is one, whatever stands before it.
        let number = negated && key.is_none() && after.starts_with(|c: char| c.is_ascii_digit());
        let from = if number { rest } else { after };
        let quoted = from.starts_with(['"', '\'']);
        let (value, after) = value(from)?;
        terms.push(Term { negated: negated && !number, key, value, quoted });
        rest = after.trim_start();
    }
    Ok(terms)
}

/// The key at the beginning, if there is one. What is no key but looks like one is refused, unless it is a single
/// letter (a drive), or an address follows.
fn key(text: &str) -> Result<Option<(&'static str, &str)>> {
    let end = text.find(|c: char| !c.is_ascii_alphabetic() && c != '_').unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let Some(value) = rest.strip_prefix(':') else { return Ok(None) };
    let word = word.to_ascii_lowercase();
    if let Some(names) = KEYS.iter().find(|names| names.contains(&word.as_str())) {
        return Ok(Some((names[0], value)));
    }
    if word.len() < 2 || value.starts_with("//") {
        return Ok(None);
    }
    let hint = suggest::hint(&word, KEYS.iter().flat_map(|names| names.iter().copied()));
    let names: Vec<&str> = KEYS.iter().map(|names| names[0]).collect();
    Err(wrong(format!("{word:?} is not something to ask for{hint}"))
        .help(format!("there are {}; text with a colon goes into quotes", names.join(", "))))
}

/// The value at the beginning: up to a blank, or between quotes.
fn value(text: &str) -> Result<(String, &str)> {
    let Some(quote) = text.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        let (mut value, mut rest) = (text[..end].to_owned(), &text[end..]);
        // `at:>"2 days ago"`: an operator may stand before the quotes.
        if let Some((operator, _)) = value.split_once('"')
            && !operator.is_empty()
            && operator.chars().all(|c| matches!(c, '<' | '>' | '='))
        {
            let (inside, after) = self::value(&text[operator.len()..])?;
            (value, rest) = (format!("{operator}{inside}"), after);
        }
        return Ok((value, rest));
    };
    let mut value = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' if quote == '"' => match characters.next() {
                Some((_, escaped @ ('"' | '\\'))) => value.push(escaped),
                Some((_, other)) => value.extend(['\\', other]),
                None => value.push('\\'),
            },
            c if c == quote => return Ok((value, &text[at + 1..])),
            c => value.push(c),
        }
    }
    Err(wrong(format!("the quote at {text} is not closed")))
}

/// The query as text that is read as the same query.
impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut pieces = Vec::new();
        let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        let mut choice = |key: &str, choice: &Choice| {
            pieces.extend(choice.wanted.iter().map(|value| format!("{key}:{}", quoted(value))));
            pieces.extend(choice.not.iter().map(|value| format!("-{key}:{}", quoted(value))));
        };
        choice("table", &self.tables);
        choice("key", &self.keys);
        choice("actor", &self.actors);
        choice("request", &self.correlations);
        choice("tx", &self.transactions);
        pieces.extend(self.actions.wanted.iter().map(|action| format!("action:{action}")));
        pieces.extend(self.actions.not.iter().map(|action| format!("-action:{action}")));
        let mut phrases = |key: &str, phrases: &[Phrase]| {
            pieces.extend(phrases.iter().map(|phrase| {
                format!("{}{key}{}", if phrase.negated { "-" } else { "" }, quoted(&phrase.text))
            }));
        };
        phrases("label:", &self.labels);
        phrases("reason:", &self.reasons);
        phrases("", &self.text);
        let mut changes = |sign: &str, change: &ChangeWanted| {
            for (key, values) in [("field", &change.fields), ("was", &change.was), ("now", &change.now)] {
                pieces.extend(values.iter().map(|value| format!("{sign}{key}:{}", quoted(value))));
            }
        };
        changes("", &self.change);
        self.no_change.iter().for_each(|not| changes("-", not));
        pieces.extend(self.from.map(|from| format!("since:{from}")));
        pieces.extend(self.before.map(|before| format!("before:{before}")));
        f.write_str(&pieces.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Moment = Moment::from_micros(1_795_384_800_000_000);

    fn parse(text: &str) -> Query {
        Query::parse(text, NOW, "UTC").unwrap()
    }

    fn refused(text: &str) -> String {
        Query::parse(text, NOW, "UTC").unwrap_err().to_string()
    }

    #[test]
    fn every_key_says_what_it_asks_for() {
        let query = parse(
            r#"user:bob -table:customer field:total was:1249 now:1149 action:restore request:7f3a reason:"price match" at:>2h "two words" tx:77"#,
        );
        assert_eq!(query.actors.wanted, ["bob"]);
        assert_eq!(query.tables.not, ["customer"]);
        let change =
            ChangeWanted { fields: vec!["total".into()], was: vec!["1249".into()], now: vec!["1149".into()] };
        assert_eq!(query.change, change);
        assert_eq!(query.actions.wanted, [Wanted::Restore]);
        assert_eq!(query.correlations.wanted, ["7f3a"]);
        assert_eq!(query.reasons, [Phrase { text: "price match".into(), negated: false }]);
        assert_eq!(query.text, [Phrase { text: "two words".into(), negated: false }]);
        assert_eq!(query.transactions.wanted, ["77"]);
        assert_eq!(query.from, Some(Moment::from_micros(NOW.as_micros() - 7_200_000_000 + 1)));
    }

    #[test]
    fn a_day_is_all_of_it() {
        let query = parse("at:2026-11-20");
        assert_eq!(query.from.unwrap().to_string(), "2026-11-20T00:00:00.000000Z");
        assert_eq!(query.before.unwrap().to_string(), "2026-11-21T00:00:00.000000Z");
        assert_eq!(
            parse("at:2026-11-20..2026-11-22").before.unwrap().to_string(),
            "2026-11-22T00:00:00.000001Z"
        );
        assert_eq!(
            parse(r#"at:>="2 days ago" at:<1h"#).before.unwrap().as_micros(),
            NOW.as_micros() - 3_600_000_000
        );
    }

    #[test]
    fn what_cannot_be_read_is_shown() {
        assert!(refused("feild:total").contains("did you mean \"field\"?"));
        assert!(refused("actor:").contains("actor: has no value"));
        assert!(refused("action:destroy").contains("create, update, delete or restore"));
        assert!(refused("reason:\"open").contains("not closed"));
        assert!(refused("-at:2h").contains("cannot be negated"));
        assert!(refused("at:whenever").contains("is not a time"));
        assert!(refused("a\0b").contains("NUL"));
    }

    #[test]
    fn text_that_is_no_key_is_looked_for() {
        for text in ["http://example.com", "12:30", r"C:\x", "-", "-5", "→"] {
            assert_eq!(parse(text).text, [Phrase { text: text.to_owned(), negated: false }]);
        }
        assert_eq!(parse("-spam").text, [Phrase { text: "spam".to_owned(), negated: true }]);
    }

    fn texts() -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec("[^\0]{1,8}", 0..3)
    }

    fn choice() -> impl Strategy<Value = Choice> {
        (texts(), texts()).prop_map(|(wanted, not)| Choice { wanted, not })
    }

    fn phrases() -> impl Strategy<Value = Vec<Phrase>> {
        prop::collection::vec(
            ("[^\0]{1,8}", any::<bool>()).prop_map(|(text, negated)| Phrase { text, negated }),
            0..3,
        )
    }

    proptest! {
        #[test]
        fn a_query_is_read_as_it_is_printed(
            tables in choice(), actors in choice(), labels in phrases(), text in phrases(), fields in texts(),
            was in texts(), not in prop::collection::vec("[^\0]{1,8}", 0..3), from in prop::option::of(0..2_000_000_000_000_000_i64),
        ) {
            let query = Query {
                tables, actors, labels, text,
                change: ChangeWanted { fields, was, now: Vec::new() },
                no_change: not.into_iter().map(|value| ChangeWanted { now: vec![value], ..ChangeWanted::default() }).collect(),
                actions: ActionChoice { wanted: vec![Wanted::Create], not: vec![Wanted::Restore] },
                from: from.map(Moment::from_micros),
                ..Query::default()
            };
            prop_assert_eq!(parse(&query.to_string()), query);
        }
    }
}
