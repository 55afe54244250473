//! Who and why, for one transaction.

use serde_json::{Map, Value as Json};

use crate::error::{Error, ErrorKind, Result};
use crate::time::Moment;

/// The keys with a meaning of their own; any other key is kept as it is.
pub const KEYS: [&str; 5] = ["actor", "label", "reason", "remote_addr", "correlation_id"];

/// Who changes data, and why: belongs to one transaction.
///
/// ```
/// use afterimage_core::Context;
/// let context = Context::actor("42").label("ann@example.com").reason("price match").with("ticket", 7);
/// assert_eq!(
///     context.to_json().unwrap(),
///     r#"{"actor":"42","label":"ann@example.com","reason":"price match","ticket":7}"#
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Context {
    members: Map<String, Json>,
    at: Option<Moment>,
    skip: bool,
}

impl Context {
    /// A context without anything in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// A context of this actor: the id under which the application knows the user.
    pub fn actor(id: impl Into<String>) -> Self {
        Self::new().set("actor", id.into())
    }

    /// The actor's name as people know it, kept beside the id so that it survives the user's deletion.
    #[must_use]
    pub fn label(self, label: impl Into<String>) -> Self {
        self.set("label", label.into())
    }

    /// Why.
    #[must_use]
    pub fn reason(self, reason: impl Into<String>) -> Self {
        self.set("reason", reason.into())
    }

    /// From where.
    #[must_use]
    pub fn remote_addr(self, address: impl Into<String>) -> Self {
        self.set("remote_addr", address.into())
    }

    /// What ties this transaction to a request, a job or a trace.
    #[must_use]
    pub fn correlation_id(self, id: impl Into<String>) -> Self {
        self.set("correlation_id", id.into())
    }

    /// Anything else, as JSON.
    #[must_use]
    pub fn with(self, key: impl Into<String>, value: impl Into<Json>) -> Self {
        self.set(key, value)
    }

    /// Dates the records at this time instead of the time of capture: for imports. It needs a right that a plain
    /// writer lacks, and is refused for a row that already has a newer record.
    #[must_use]
    pub fn at(mut self, moment: Moment) -> Self {
        self.at = Some(moment);
        self
    }

    /// Leaves what is written unrecorded, which makes a gap of every table written: open until a `resync`. It needs a
    /// right that a plain writer lacks.
    #[must_use]
    pub fn skip(mut self) -> Self {
        self.skip = true;
        self
    }

    /// Whether records are not to be written.
    pub fn skips(&self) -> bool {
        self.skip
    }

    /// The explicit time, if one was asked for.
    pub fn explicit_time(&self) -> Option<Moment> {
        self.at
    }

    /// This context inside another: what it does not say itself, the outer one says. Another actor's label is not taken
    /// over.
    #[must_use]
    pub fn within(&self, outer: &Self) -> Self {
        let mut members = outer.members.clone();
        if self.get("actor").is_some_and(|actor| Some(actor) != outer.get("actor")) {
            members.shift_remove("label");
        }
        members.extend(self.members.clone());
        Self { members, at: self.at.or(outer.at), skip: self.skip || outer.skip }
    }

    /// One of the members.
    pub fn get(&self, key: &str) -> Option<&Json> {
        self.members.get(key)
    }

    /// The members other than those of [`KEYS`].
    pub fn extra(&self) -> Map<String, Json> {
        self.members
            .iter()
            .filter(|(key, _)| !KEYS.contains(&key.as_str()))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    }

    /// Refuses what no database can hold, or what needs another road.
    pub fn check(&self) -> Result<()> {
        for (key, value) in &self.members {
            if key == "at" || key == "skip" {
                return Err(Error::new(ErrorKind::InvalidContext, format!("the key {key:?} is reserved"))
                    .help("an explicit time is set with Context::at, skipping with Context::skip"));
            }
            if has_nul(value) || key.contains('\0') {
                return Err(Error::new(ErrorKind::InvalidContext, format!("{key:?} holds a NUL character")));
            }
        }
        Ok(())
    }

    /// The context as one JSON object, in the form PostgreSQL's triggers read.
    pub fn to_json(&self) -> Result<String> {
        self.check()?;
        let mut members = self.members.clone();
        if let Some(at) = self.at {
            members.insert("at".to_owned(), Json::String(at.to_string()));
        }
        if self.skip {
            members.insert("skip".to_owned(), Json::Bool(true));
        }
        Ok(Json::Object(members).to_string())
    }

    fn set(mut self, key: impl Into<String>, value: impl Into<Json>) -> Self {
        self.members.insert(key.into(), value.into());
        self
    }
}

fn has_nul(value: &Json) -> bool {
    match value {
        Json::String(text) => text.contains('\0'),
        Json::Array(items) => items.iter().any(has_nul),
        Json::Object(members) => members.iter().any(|(key, value)| key.contains('\0') || has_nul(value)),
        Json::Null | Json::Bool(_) | Json::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inner_context_wins_where_it_says_something() {
        let outer = Context::actor("1").reason("outer").correlation_id("r1");
        let inner = Context::new().reason("inner").within(&outer);
        assert_eq!(inner, Context::actor("1").reason("inner").correlation_id("r1"));
    }

    #[test]
    fn nobody_gets_anothers_name() {
        let ann = Context::actor("1").label("ann").correlation_id("r1");
        assert_eq!(Context::actor("2").within(&ann), Context::actor("2").correlation_id("r1"));
        assert_eq!(Context::actor("1").reason("x").within(&ann).get("label"), ann.get("label"));
        assert_eq!(Context::new().reason("x").within(&ann).get("label"), ann.get("label"));
    }

    #[test]
    fn text_that_a_database_cannot_hold_is_refused_before_it_gets_there() {
        assert_eq!(Context::actor("a\0b").to_json().unwrap_err().kind(), ErrorKind::InvalidContext);
        let nested = Context::new().with("x", serde_json::json!([{"y": "\u{0}"}]));
        assert_eq!(nested.to_json().unwrap_err().kind(), ErrorKind::InvalidContext);
    }

    #[test]
    fn reserved_keys_cannot_be_smuggled_in() {
        for key in ["at", "skip"] {
            assert!(Context::new().with(key, true).to_json().is_err());
        }
    }
}
