//! Whether a record answers a query: the exact rule, of which the SQL is only a first look.

use crate::layout::Field;
use crate::query::{ChangeWanted, Phrase, Query};
use crate::search::Needle;
use crate::value::Value;

/// One changed field of a record, with the field as it is kept.
#[derive(Debug, Clone, Copy)]
pub struct Changed<'a> {
    /// The field, in its newest form.
    pub field: &'a Field,
    /// Everything it was ever called.
    pub names: &'a [String],
    /// Its value before.
    pub old: &'a Value,
    /// Its value after.
    pub new: &'a Value,
}

/// What the exact rule looks at.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The actor's id.
    pub user: Option<&'a str>,
    /// The actor's name.
    pub label: Option<&'a str>,
    /// The reason.
    pub reason: Option<&'a str>,
    /// The key's values.
    pub key: &'a [(&'a Field, &'a Value)],
    /// What changed.
    pub changes: &'a [Changed<'a>],
}

/// A query's conditions on values and words, ready to be applied to many records.
#[derive(Debug)]
pub struct Matcher {
    change: Wanted,
    no_change: Vec<Wanted>,
    text: Vec<(Needle, bool)>,
    reasons: Vec<(Needle, bool)>,
    labels: Vec<(Needle, bool)>,
}

#[derive(Debug)]
struct Wanted {
    fields: Vec<String>,
    was: Vec<Needle>,
    now: Vec<Needle>,
}

impl Wanted {
    fn new(wanted: &ChangeWanted) -> Self {
        let needles = |texts: &[String]| texts.iter().map(|text| Needle::new(text)).collect();
        Self { fields: wanted.fields.clone(), was: needles(&wanted.was), now: needles(&wanted.now) }
    }

    fn is_anything(&self) -> bool {
        self.fields.is_empty() && self.was.is_empty() && self.now.is_empty()
    }

    fn is(&self, change: &Changed<'_>) -> bool {
        (self.fields.is_empty() || self.fields.iter().any(|name| change.names.contains(name)))
            && self.was.iter().all(|needle| needle.matches(change.field, change.old))
            && self.now.iter().all(|needle| needle.matches(change.field, change.new))
    }
}

impl Matcher {
    /// The conditions of a query that concern values and words.
    pub fn new(query: &Query) -> Self {
        let phrases = |phrases: &[Phrase]| {
            phrases.iter().map(|phrase| (Needle::new(&phrase.text), phrase.negated)).collect()
        };
        Self {
            change: Wanted::new(&query.change),
            no_change: query.no_change.iter().map(Wanted::new).collect(),
            text: phrases(&query.text),
            reasons: phrases(&query.reasons),
            labels: phrases(&query.labels),
        }
    }

    /// Whether there is no such condition, so that SQL alone decides.
    pub fn accepts_all(&self) -> bool {
        self.change.is_anything()
            && self.no_change.is_empty()
            && self.text.is_empty()
            && self.reasons.is_empty()
            && self.labels.is_empty()
    }

    /// Whether a record answers.
    pub fn accepts(&self, seen: &Seen<'_>) -> bool {
        let said = |text: Option<&str>, phrases: &[(Needle, bool)]| {
            phrases.iter().all(|(needle, not)| text.is_some_and(|text| needle.found_in(text)) != *not)
        };
        (self.change.is_anything() || seen.changes.iter().any(|change| self.change.is(change)))
            && self.no_change.iter().all(|not| !seen.changes.iter().any(|change| not.is(change)))
            && said(seen.reason, &self.reasons)
            && said(seen.label, &self.labels)
            && self.text.iter().all(|(needle, not)| anywhere(seen, needle) != *not)
    }
}

fn anywhere(seen: &Seen<'_>, needle: &Needle) -> bool {
    [seen.user, seen.label, seen.reason].into_iter().flatten().any(|text| needle.found_in(text))
        || seen.key.iter().any(|(field, value)| needle.matches(field, value))
        || seen.changes.iter().any(|change| {
            let visible = |value: &Value| !value.is_null() && needle.matches(change.field, value);
            visible(change.old) || visible(change.new)
        })
}
