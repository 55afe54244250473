//! Addresses: every state of a page is one.

use std::fmt::Write as _;

use afterimage::{Cursor, LogEntry, TableName, Value};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What stands for itself in a segment of a path, or in a query.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Text as one segment of a path, or as a value of a query.
pub(crate) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

/// Whether an address is a page of this service, and no other site's: browsers read a backslash as a slash, and leave out
/// what is no character.
pub(crate) fn is_within(to: &str) -> bool {
    to.starts_with('/') && !to.starts_with("//") && !to.contains('\\') && !to.chars().any(char::is_control)
}

/// A key as people write it, and as it is read again: the value itself, or a JSON object of several.
pub(crate) fn key_text(key: &[(String, Value)]) -> String {
    match key {
        // What would be no segment of a path, or a way up in it, however it is written.
        [(_, value)] if !["", ".", ".."].contains(&value.to_string().as_str()) => value.to_string(),
        several => {
            let plain = several.len() > 1
                && several.iter().all(|(name, value)| {
                    let text = value.to_string();
                    !name.contains(['=', ',']) && !text.contains(['=', ',', '{', '"'])
                });
            if plain {
                let pairs: Vec<String> =
                    several.iter().map(|(name, value)| format!("{name}={value}")).collect();
                pairs.join(",")
            } else {
                serde_json::to_string(&afterimage::RowJson(several)).unwrap_or_default()
            }
        }
    }
}

/// Where the pages are, and in which zone their times are.
#[derive(Debug, Clone)]
pub(crate) struct Links {
    /// The path under which the router is nested, without a slash at its end.
    pub(crate) base: String,
    /// `tz=…`, where it is not the usual one.
    zone: Option<String>,
}

impl Links {
    /// For pages in a zone, where another, or the same, is the usual one.
    pub(crate) fn new(base: String, zone: &str, usual: &str) -> Self {
        Self { base, zone: (zone != usual).then(|| format!("tz={}", encoded(zone))) }
    }

    /// The same pages below a path.
    pub(crate) fn below(&self, path: &str) -> Self {
        Self { base: format!("{}{path}", self.base), ..self.clone() }
    }

    /// Whether the addresses say a zone.
    pub(crate) fn has_zone(&self) -> bool {
        self.zone.is_some()
    }

    /// A page, as it is.
    pub(crate) fn exactly(&self, path: &str) -> String {
        // The root of a nested router has no slash at its end.
        let path = match path.strip_prefix('/') {
            Some(rest) if !self.base.is_empty() && (rest.is_empty() || rest.starts_with('?')) => rest,
            _ => path,
        };
        format!("{}{path}", self.base)
    }

    /// A page, with the zone kept.
    pub(crate) fn to(&self, path: &str) -> String {
        let mut address = self.exactly(path);
        if let Some(zone) = &self.zone {
            let _ = write!(address, "{}{zone}", if path.contains('?') { '&' } else { '?' });
        }
        address
    }

    pub(crate) fn asset(&self, name: &str) -> String {
        format!("{}/assets/{name}?v={:x}", self.base, crate::page::assets::version(name))
    }

    pub(crate) fn table(&self, table: &TableName) -> String {
        self.to(&format!("/r/{}", encoded(&table.to_string())))
    }

    pub(crate) fn record(&self, table: &str, key: &str) -> String {
        self.within(table, key, "")
    }

    /// Something of a record: `rest` begins with a slash.
    pub(crate) fn within(&self, table: &str, key: &str, rest: &str) -> String {
        self.to(&format!("/r/{}/{}{rest}", encoded(table), encoded(key)))
    }

    pub(crate) fn event(&self, entry: &LogEntry) -> String {
        self.to(&format!("/e/{}.{}", entry.header.date.as_micros(), entry.header.id))
    }

    pub(crate) fn transaction(&self, id: &str) -> String {
        self.to(&format!("/tx/{}", encoded(id)))
    }

    pub(crate) fn actor(&self, id: &str) -> String {
        self.to(&format!("/actor/{}", encoded(id)))
    }
}

/// An event's name in its address: its place in the log.
pub(crate) fn event(text: &str) -> Option<Cursor> {
    let (date, id) = text.split_once('.')?;
    Some(Cursor::of_record(afterimage::Moment::from_micros(date.parse().ok()?), id.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_can_hold_anything() {
        assert_eq!(encoded("a/b c?d#e%"), "a%2Fb%20c%3Fd%23e%25");
        assert_eq!(encoded("köln"), "k%C3%B6ln");
    }

    #[test]
    fn a_key_is_written_as_it_is_read() {
        let text = |text: &str| Value::Text(text.into());
        let pair = |a: &str, b: &str| vec![("a".to_owned(), text(a)), ("b".to_owned(), text(b))];
        assert_eq!(key_text(&pair("1", "2")), "a=1,b=2");
        assert_eq!(key_text(&pair("1,b=3", "2")), r#"{"a":"1,b=3","b":"2"}"#);
        assert_eq!(key_text(&[("id".into(), text("a=1,b=2"))]), "a=1,b=2");
        for odd in ["", ".", ".."] {
            assert_eq!(key_text(&[("id".into(), text(odd))]), format!(r#"{{"id":"{odd}"}}"#));
        }
    }
}
