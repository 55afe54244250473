//! What a page or an answer is asked for: the query grammar, and each of its keys as a parameter of its own.

use afterimage::{Cursor, Moment, Needle, Query};

use crate::address::encoded;
use crate::failure::Failure;

/// The parameters of an address, in their order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub(crate) fn read(query: &str) -> Self {
        let pairs = form_urlencoded::parse(query.as_bytes());
        // What a form sends of fields that were left alone is nothing.
        Self(
            pairs
                .filter(|(_, value)| !value.is_empty())
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }

    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn has(&self, name: &str, value: &str) -> bool {
        self.all(name).any(|known| known == value)
    }

    /// Those of these names.
    pub(crate) fn only(&self, names: &[&str]) -> Self {
        Self(self.0.iter().filter(|(name, _)| names.contains(&name.as_str())).cloned().collect())
    }

    /// Without any of these names.
    pub(crate) fn without(&self, names: &[&str]) -> Self {
        Self(self.0.iter().filter(|(name, _)| !names.contains(&name.as_str())).cloned().collect())
    }

    /// Without this one.
    pub(crate) fn less(&self, name: &str, value: &str) -> Self {
        Self(self.0.iter().filter(|(n, v)| n != name || v != value).cloned().collect())
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.0.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn pairs(&self) -> impl Iterator<Item = &(String, String)> {
        self.0.iter()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A path with these behind it.
    pub(crate) fn on(&self, path: &str) -> String {
        let pairs: Vec<String> =
            self.0.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
        if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
    }
}

/// The parameters that say which changes are asked for.
pub(crate) const NAMES: [&str; 15] = [
    "q", "table", "key", "actor", "label", "action", "field", "was", "now", "reason", "request", "tx",
    "since", "until", "range",
];

/// Periods by their names, newest first.
pub(crate) const RANGES: [(&str, &str, Option<i64>); 5] = [
    ("1h", "last hour", Some(3600)),
    ("24h", "last 24 hours", Some(24 * 3600)),
    ("7d", "last 7 days", Some(7 * 24 * 3600)),
    ("30d", "last 30 days", Some(30 * 24 * 3600)),
    ("all", "all time", None),
];

/// So many seconds back it is looked for words and values, where nobody says how far.
pub(crate) const LOOKED_BACK: i64 = 30 * 24 * 3600;

/// The values that are looked for, to be pointed out where they are found.
#[derive(Debug, Default)]
pub(crate) struct Sought {
    pub(crate) anywhere: Vec<Needle>,
    pub(crate) was: Vec<Needle>,
    pub(crate) now: Vec<Needle>,
}

/// Which changes are asked for.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    pub(crate) query: Query,
    /// Whether a period is given, in whatever way.
    pub(crate) bounded: bool,
    pub(crate) after: Option<Cursor>,
}

impl Filter {
    pub(crate) fn read(parameters: &Parameters, now: Moment, zone: &str) -> Result<Self, Failure> {
        let mut query = Query::default();
        for text in parameters.all("q") {
            query = query.and(Query::parse(text, now, zone).map_err(afterimage::Error::from)?);
        }
        let owned = |name: &'static str| parameters.all(name).map(ToOwned::to_owned);
        query.tables.wanted.extend(owned("table"));
        query.keys.wanted.extend(owned("key"));
        query.actors.wanted.extend(owned("actor"));
        query.correlations.wanted.extend(owned("request"));
        query.transactions.wanted.extend(owned("tx"));
        query.change.fields.extend(owned("field"));
        query.change.was.extend(owned("was"));
        query.change.now.extend(owned("now"));
        let phrase = |text: String| afterimage::Phrase { text, negated: false };
        query.reasons.extend(owned("reason").map(phrase));
        query.labels.extend(owned("label").map(phrase));
        for action in parameters.all("action") {
            query.actions.wanted.push(action.parse().map_err(afterimage::Error::from)?);
        }
        let moment = |text: &str| Moment::parse(text, now, zone).map_err(afterimage::Error::from);
        let mut period = Query::default();
        for since in parameters.all("since") {
            period.from = period.from.max(Some(moment(since)?));
        }
        for until in parameters.all("until") {
            let until = until_end_of(until, now, zone)?;
            period.before = Some(period.before.map_or(until, |before: Moment| before.min(until)));
        }
        let mut bounded = false;
        // A time that somebody typed is meant rather than a period that was chosen before.
        let typed = parameters.first("since").or(parameters.first("until")).is_some();
        for range in parameters.all("range").filter(|_| !typed) {
            let Some((.., seconds)) = RANGES.iter().find(|(name, ..)| *name == range) else {
                let names: Vec<&str> = RANGES.iter().map(|(name, ..)| *name).collect();
                return Err(Failure::wrong(format!(
                    "{range:?} is no period; there are {}",
                    names.join(", ")
                )));
            };
            bounded = true;
            period.from = period.from.max(seconds.map(|seconds| ago(now, seconds)));
        }
        let query = query.and(period);
        bounded |= query.from.is_some() || query.before.is_some();
        let after = match parameters.first("before") {
            Some(text) => Some(text.parse().map_err(Failure::from)?),
            None => None,
        };
        Ok(Self { query, bounded, after })
    }

    /// What it looks for in values.
    pub(crate) fn sought(&self) -> Sought {
        let needles = |texts: &[String]| texts.iter().map(|text| Needle::new(text)).collect();
        let words = self.query.text.iter().filter(|phrase| !phrase.negated);
        Sought {
            anywhere: words.map(|phrase| Needle::new(&phrase.text)).collect(),
            was: needles(&self.query.change.was),
            now: needles(&self.query.change.now),
        }
    }

    /// Whether an index answers it, so that it costs nothing to look at all time.
    pub(crate) fn is_cheap(&self) -> bool {
        let Query {
            change,
            no_change,
            text,
            reasons,
            labels,
            correlations,
            transactions,
            actors,
            keys,
            actions,
            ..
        } = &self.query;
        change.fields.is_empty()
            && change.was.is_empty()
            && change.now.is_empty()
            && no_change.is_empty()
            && [text, reasons, labels].iter().all(|phrases| phrases.is_empty())
            && [correlations, transactions, actors, keys]
                .iter()
                .all(|choice| choice.not.is_empty() && (choice.wanted.is_empty() || *choice == keys))
            && actions.wanted.is_empty()
            && actions.not.is_empty()
    }
}

/// So many seconds before a moment, to the minute: what is asked again in a moment is the same question.
pub(crate) fn ago(now: Moment, seconds: i64) -> Moment {
    const MINUTE: i64 = 60_000_000;
    let then = now.as_micros().saturating_sub(seconds.saturating_mul(1_000_000));
    Moment::from_micros(then - then.rem_euclid(MINUTE))
}

/// The end of what a text names: of a day, its end.
fn until_end_of(text: &str, now: Moment, zone: &str) -> Result<Moment, Failure> {
    let (from, end) = Moment::parse_span(text, now, zone).map_err(afterimage::Error::from)?;
    // A span of a second is a time that was meant to the second.
    let is_day = end.as_micros() - from.as_micros() > 1_000_000;
    Ok(if is_day { end } else { from.next() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(query: &str) -> Result<Filter, Failure> {
        let now = Moment::parse("2026-11-22T12:00:00Z", Moment::from_micros(0), "UTC").unwrap();
        Filter::read(&Parameters::read(query), now, "UTC")
    }

    #[test]
    fn parameters_and_the_grammar_ask_the_same() {
        let one = filter("q=actor%3Abob+field%3Atotal+was%3A1249").unwrap().query;
        let other = filter("actor=bob&field=total&was=1249&now=").unwrap().query;
        assert_eq!(one, other);
    }

    #[test]
    fn a_day_ends_with_its_end() {
        let query = filter("since=2026-11-20&until=2026-11-20").unwrap().query;
        assert_eq!(query.before.unwrap().as_micros() - query.from.unwrap().as_micros(), 86_400_000_000);
    }

    #[test]
    fn a_time_that_was_typed_wins_over_a_period_that_was_chosen() {
        let query = filter("range=1h&since=2026-11-01").unwrap().query;
        assert_eq!(query.from.unwrap().to_string(), "2026-11-01T00:00:00.000000Z");
    }

    #[test]
    fn an_unknown_key_or_period_is_refused_with_what_there_is() {
        assert!(filter("q=acter%3Abob").unwrap_err().detail.contains("did you mean \"actor\"?"));
        assert!(filter("range=3d").unwrap_err().detail.contains("24h"));
    }
}
