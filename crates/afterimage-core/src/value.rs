//! One value as it is shown: in JSON, in CSV, in a terminal. Storage never uses this: it is typed.
//!
//! | kind of column | shown in JSON as |
//! | --- | --- |
//! | integers of up to 64 bits, floats | a number, with all its digits; `"NaN"`, `"Infinity"`, `"-Infinity"` |
//! | exact decimals | a string, all digits kept |
//! | booleans | `true`, `false` |
//! | bytes | `{"$bytes":"…"}`, base64url without padding |
//! | timestamps with zone | `"2026-11-22T20:08:00.123456Z"`; without zone, without the `Z` |
//! | JSON and arrays | nested JSON, as the database holds it |
//! | masked | `{"$masked":true}` |
//! | redacted | `{"$redacted":true}` |
//! | not known | `{"$unknown":true}`: what a field was before the first record of its row that is kept |
//! | everything else | the database's own text |

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// How the text of a column's value is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shown {
    /// Integers and floats.
    Number,
    /// `t` and `f`.
    Bool,
    /// `\x…`.
    Bytes,
    /// A timestamp, in UTC where it has a zone.
    Timestamp,
    /// A timestamp without a zone.
    LocalTimestamp,
    /// JSON text.
    Json,
    /// Text as it is: also exact decimals, dates, uuids and all other types.
    Text,
    /// Whatever the value itself says (SQLite, where a column may hold any type).
    Dynamic,
}

/// One value as it is shown.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// SQL NULL.
    Null,
    /// A boolean.
    Bool(bool),
    /// A number, as the digits the database gave.
    Number(String),
    /// Text, and every type that is shown as text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// JSON, as the database holds it.
    Json(String),
    /// A value that was there but is kept in the clear nowhere.
    Masked,
    /// A value that was there and was removed on request; no record holds it any more.
    Redacted,
    /// A value that no record tells: that of before the first record of its row, where that is not how the row came to be.
    Unknown,
}

impl Value {
    /// From the database's text for a column of that kind.
    ///
    /// ```
    /// use afterimage_core::value::{Shown, Value};
    /// let json = |kind, text: &str| serde_json::to_string(&Value::from_text(kind, text.into())).unwrap();
    /// assert_eq!(json(Shown::Number, "-0"), "-0");
    /// assert_eq!(json(Shown::Number, "NaN"), r#""NaN""#);
    /// assert_eq!(json(Shown::Bytes, r"\x00ff"), r#"{"$bytes":"AP8"}"#);
    /// assert_eq!(json(Shown::Timestamp, "2026-11-22 20:08:00.1+00"), r#""2026-11-22T20:08:00.100000Z""#);
    /// ```
    pub fn from_text(kind: Shown, text: String) -> Self {
        match kind {
            Shown::Number if is_json_number(&text) => Self::Number(text),
            Shown::Bool => Self::Bool(text.starts_with('t')),
            Shown::Bytes => hex(&text).map_or(Self::Text(text), Self::Bytes),
            Shown::Timestamp => Self::Text(iso(&text, true).unwrap_or(text)),
            Shown::LocalTimestamp => Self::Text(iso(&text, false).unwrap_or(text)),
            Shown::Json => Self::Json(text),
            Shown::Number | Shown::Text | Shown::Dynamic => Self::Text(text),
        }
    }

    /// From bytes as JSON shows them: base64url without padding.
    pub fn from_base64(text: &str) -> Option<Self> {
        URL_SAFE_NO_PAD.decode(text).ok().map(Self::Bytes)
    }

    /// From a float of a database that hands over floats (SQLite).
    pub fn from_f64(value: f64) -> Self {
        if value.is_nan() {
            Self::Text("NaN".to_owned())
        } else if value.is_infinite() {
            Self::Text(if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned())
        } else {
            Self::Number(format!("{value:?}"))
        }
    }

    /// Whether this is a value, and known: neither NULL, nor one that is kept nowhere.
    pub fn is_known(&self) -> bool {
        !matches!(self, Self::Null | Self::Masked | Self::Redacted | Self::Unknown)
    }

    /// Whether this is SQL NULL.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}

/// What a terminal shows: NULL as `∅`, text bare, the rest as in JSON.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("∅"),
            Self::Text(text) | Self::Number(text) | Self::Json(text) => f.write_str(text),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Bytes(bytes) => {
                f.write_str("\\x")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Self::Masked => f.write_str("•••"),
            Self::Redacted => f.write_str("(redacted)"),
            Self::Unknown => f.write_str("?"),
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_none(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(text) | Self::Json(text) => match RawValue::from_string(text.clone()) {
                Ok(raw) => raw.serialize(serializer),
                Err(_) => serializer.serialize_str(text),
            },
            Self::Text(text) => serializer.serialize_str(text),
            Self::Bytes(bytes) => tagged(serializer, "$bytes", &URL_SAFE_NO_PAD.encode(bytes)),
            Self::Masked => tagged(serializer, "$masked", &true),
            Self::Redacted => tagged(serializer, "$redacted", &true),
            Self::Unknown => tagged(serializer, "$unknown", &true),
        }
    }
}

fn tagged<S: Serializer, T: Serialize + ?Sized>(
    serializer: S,
    tag: &str,
    value: &T,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(1))?;
    map.serialize_entry(tag, value)?;
    map.end()
}

fn is_json_number(text: &str) -> bool {
    text.bytes().next_back().is_some_and(|last| last.is_ascii_digit())
        && serde_json::from_str::<&RawValue>(text).is_ok()
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("\\x")?.as_bytes();
    let nibble = |b: u8| char::from(b).to_digit(16).map(|n| n as u8);
    digits.chunks(2).map(|pair| Some(nibble(pair[0])? << 4 | nibble(*pair.get(1)?)?)).collect()
}

/// `2026-11-22 20:08:00.1[+00]` as ISO 8601 with six decimals; `None` for what has no such form (infinity, BC).
fn iso(text: &str, zoned: bool) -> Option<String> {
    let local = if zoned { text.strip_suffix("+00")? } else { text };
    let (date, time) = local.split_once(' ')?;
    let (seconds, fraction) = time.split_once('.').unwrap_or((time, ""));
    if seconds.len() != 8 || fraction.len() > 6 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(format!("{date}T{seconds}.{fraction:0<6}{}", if zoned { "Z" } else { "" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(value: &Value) -> String {
        serde_json::to_string(value).unwrap()
    }

    #[test]
    fn what_is_shown_can_be_told_apart_from_null_and_from_text_that_looks_like_it() {
        let shown = [
            Value::Null,
            Value::Text("null".into()),
            Value::Masked,
            Value::Text(r#"{"$masked":true}"#.into()),
            Value::Redacted,
            Value::Text("(redacted)".into()),
            Value::Unknown,
            Value::Text("?".into()),
            Value::Number("1".into()),
            Value::Text("1".into()),
            Value::Bool(true),
            Value::Text("true".into()),
        ]
        .map(|v| json(&v));
        let distinct: std::collections::BTreeSet<_> = shown.iter().collect();
        assert_eq!(distinct.len(), shown.len());
    }

    #[test]
    fn numbers_keep_every_digit() {
        let digits = "123456789012345678901234567890.00";
        assert_eq!(json(&Value::Json(format!("[{digits}]"))), format!("[{digits}]"));
        assert_eq!(
            json(&Value::from_text(Shown::Number, "9223372036854775807".into())),
            "9223372036854775807"
        );
        assert_eq!(json(&Value::from_f64(0.1 + 0.2)), "0.30000000000000004");
        assert_eq!(json(&Value::from_f64(-0.0)), "-0.0");
        assert_eq!(json(&Value::from_f64(f64::NEG_INFINITY)), "\"-Infinity\"");
    }

    #[test]
    fn times_that_have_no_iso_form_stay_as_they_are() {
        assert_eq!(json(&Value::from_text(Shown::Timestamp, "infinity".into())), "\"infinity\"");
        assert_eq!(
            json(&Value::from_text(Shown::LocalTimestamp, "0044-03-15 12:00:00 BC".into())),
            "\"0044-03-15 12:00:00 BC\""
        );
    }
}
