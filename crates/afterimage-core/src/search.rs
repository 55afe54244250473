//! Values found as people type them: `1,149` finds 1149.00, `köln` finds Köln however it is composed.
//!
//! [`Needle::matches`] is the exact rule. What SQL is given to preselect by ([`Needle::forms`], [`Needle::numbers`], …)
//! may find too much, never too little among values stored in a canonical form of Unicode, composed or decomposed.

use std::ops::Range;

use unicode_normalization::UnicodeNormalization as _;

use crate::layout::{Field, Keeping};
use crate::value::{Shown, Value};

/// What is looked for, read in every way it may be meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needle {
    text: String,
    folded: String,
    numbers: Vec<String>,
    forms: Vec<String>,
}

/// A number longer than this is text.
const LONGEST_NUMBER: usize = 80;

impl Needle {
    /// Reads what somebody typed.
    pub fn new(text: &str) -> Self {
        let text = text.trim().to_owned();
        let folded = fold(&text);
        Self { numbers: numbers(&text), forms: forms(&text), folded, text }
    }

    /// Whether NULL is looked for.
    pub fn is_null(&self) -> bool {
        self.text == "∅" || self.folded == "null"
    }

    /// The numbers it may mean, as plain decimals: a separator may stand between thousands or before the fraction.
    ///
    /// ```
    /// use afterimage_core::search::Needle;
    /// assert_eq!(Needle::new("1,149").numbers(), ["1149", "1.149"]);
    /// assert_eq!(Needle::new("1.149,50").numbers(), ["1149.5"]);
    /// assert_eq!(Needle::new("order 7").numbers(), [""; 0]);
    /// ```
    pub fn numbers(&self) -> &[String] {
        &self.numbers
    }

    /// The texts to look for with LIKE.
    pub fn forms(&self) -> &[String] {
        &self.forms
    }

    /// The text, where it may be the beginning of a date or a time.
    pub fn time_prefix(&self) -> Option<&str> {
        let bytes = self.text.as_bytes();
        let year = bytes.len() >= 4 && bytes[..4].iter().all(u8::is_ascii_digit);
        let rest = bytes.get(4..).unwrap_or_default();
        let dated = rest.is_empty() || rest[0] == b'-';
        let fits = rest.iter().all(|b| b.is_ascii_digit() || b"-:. TZ+".contains(b));
        (year && dated && fits).then_some(&*self.text)
    }

    /// The truth value it may mean.
    pub fn boolean(&self) -> Option<bool> {
        match self.folded.as_str() {
            "true" | "t" | "yes" => Some(true),
            "false" | "f" | "no" => Some(false),
            _ => None,
        }
    }

    /// Whether a text is this, or has it as whole words; case and composition aside.
    ///
    /// ```
    /// use afterimage_core::search::Needle;
    /// assert!(Needle::new("KÖLN").found_in("nach Ko\u{308}ln, heute"));
    /// assert!(!Needle::new("bob").found_in("Bobby Tables"));
    /// ```
    pub fn found_in(&self, text: &str) -> bool {
        words_at(&fold(text), &self.folded).next().is_some()
    }

    /// Whether a value of this field is what is looked for. A masked one never is.
    pub fn matches(&self, field: &Field, value: &Value) -> bool {
        if self.is_null() {
            return value.is_null();
        }
        if field.keeping == Keeping::Masked {
            return false;
        }
        match value {
            Value::Null | Value::Masked | Value::Redacted | Value::Unknown => false,
            Value::Text(text) if self.text.is_empty() => text.is_empty(),
            Value::Bool(value) => self.boolean() == Some(*value),
            Value::Number(digits) => self.is_number(digits) || self.text == *digits,
            Value::Bytes(_) => {
                let shown = value.to_string();
                self.text.len() > 2 && shown.starts_with(&self.text.to_ascii_lowercase())
            }
            Value::Json(json) => self.found_in(json),
            Value::Text(text) if is_decimal(field) => self.is_number(text),
            Value::Text(text) => self.begins(text) || self.found_in(text),
        }
    }

    /// Whether a value is, or has, what is looked for, by how it is shown: where its column is not at hand.
    ///
    /// ```
    /// use afterimage_core::{Value, search::Needle};
    /// assert!(Needle::new("1,149").is_in(&Value::Number("1149.00".into())));
    /// assert!(Needle::new("köln").is_in(&Value::Text("Köln, Deutz".into())));
    /// assert!(!Needle::new("köln").is_in(&Value::Masked));
    /// ```
    pub fn is_in(&self, value: &Value) -> bool {
        match value {
            Value::Null | Value::Masked | Value::Redacted | Value::Unknown => false,
            Value::Bool(value) => self.boolean() == Some(*value),
            value => {
                let text = value.to_string();
                self.is_number(&text) || self.begins(&text) || self.found_in(&text)
            }
        }
    }

    fn is_number(&self, digits: &str) -> bool {
        !self.numbers.is_empty()
            && decimal(digits.trim_start_matches(CURRENCIES))
                .is_some_and(|value| self.numbers.contains(&value))
    }

    /// Whether a text that looks like a time begins so; blank and `T` alike.
    fn begins(&self, text: &str) -> bool {
        let Some(prefix) = self.time_prefix() else { return false };
        let looks = text.len() >= 10 && text.as_bytes()[4] == b'-' && text.as_bytes()[7] == b'-';
        looks
            && text
                .get(..prefix.len())
                .is_some_and(|begin| begin.replace('T', " ") == prefix.replace('T', " "))
    }

    /// Where a text has it, as ranges of its bytes: for marking. Of a text that normalising makes longer or shorter,
    /// nothing is marked.
    pub fn marks(&self, text: &str) -> Vec<Range<usize>> {
        let folded: Vec<String> = text.chars().map(|c| fold(c.encode_utf8(&mut [0; 4]))).collect();
        if folded.concat() != fold(text) {
            return Vec::new();
        }
        let whole = folded.concat();
        let place = |at: usize| {
            let (mut seen, mut place) = (0, 0);
            for (c, folded) in text.chars().zip(&folded) {
                if seen >= at {
                    break;
                }
                seen += folded.len();
                place += c.len_utf8();
            }
            place
        };
        words_at(&whole, &self.folded).map(|at| place(at)..place(at + self.folded.len())).collect()
    }
}

/// Exact decimals are shown as text.
fn is_decimal(field: &Field) -> bool {
    let kind = field.sql_type.to_ascii_lowercase();
    field.shown == Shown::Text
        && !kind.ends_with("[]")
        && ["numeric", "decimal", "money"].iter().any(|decimal| kind.starts_with(decimal))
}

/// Compatibility forms made one, lower case.
fn fold(text: &str) -> String {
    text.nfkc().flat_map(char::to_lowercase).nfkc().collect()
}

/// Where `text` has `words`, bounded by what is neither letter nor digit.
fn words_at<'t>(text: &'t str, words: &'t str) -> impl Iterator<Item = usize> + 't {
    let bounded = |inner: Option<char>, outer: Option<char>| {
        !(inner.is_some_and(char::is_alphanumeric) && outer.is_some_and(char::is_alphanumeric))
    };
    text.match_indices(words).map(|(at, _)| at).filter(move |at| {
        let end = at + words.len();
        !words.is_empty()
            && bounded(words.chars().next(), text[..*at].chars().next_back())
            && bounded(words.chars().next_back(), text[end..].chars().next())
    })
}

fn forms(text: &str) -> Vec<String> {
    let mut variants = vec![text.to_owned()];
    if !text.is_ascii() {
        // What compares without case may know ASCII only.
        variants.push(text.to_lowercase());
        variants.push(text.to_uppercase());
        let mut characters = text.chars();
        let first: String = characters.next().into_iter().flat_map(char::to_uppercase).collect();
        variants.push(first + &characters.as_str().to_lowercase());
    }
    let mut forms: Vec<String> = Vec::new();
    for variant in variants {
        for form in [variant.nfc().collect::<String>(), variant.nfd().collect(), variant.nfkc().collect()] {
            if !forms.contains(&form) {
                forms.push(form);
            }
        }
    }
    forms
}

const CURRENCIES: [char; 4] = ['€', '$', '£', '¥'];

fn numbers(text: &str) -> Vec<String> {
    let bare = text.trim_start_matches(CURRENCIES).trim_end_matches(CURRENCIES).trim();
    let bare = bare.replace(['\u{a0}', '\u{202f}', '\u{2009}', '_', '\''], " ").replace('\u{2212}', "-");
    if bare.len() > LONGEST_NUMBER || !bare.bytes().any(|b| b.is_ascii_digit()) {
        return Vec::new();
    }
    let mut readings: Vec<String> = [(',', '.'), ('.', ',')]
        .into_iter()
        .filter_map(|(thousands, point)| ungrouped(&bare, thousands, point))
        .filter_map(|digits| decimal(&digits))
        .collect();
    // `1.149` is first of all what it says.
    if let Some(plain) = decimal(&bare)
        && let Some(at) = readings.iter().position(|reading| *reading == plain)
    {
        readings.swap(0, at);
    }
    readings.dedup();
    readings
}

/// The digits with a point before the fraction, where the text is a number with these separators; blanks may stand
/// between thousands too.
fn ungrouped(text: &str, thousands: char, point: char) -> Option<String> {
    let (whole, fraction) = match text.split_once(point) {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (text, None),
    };
    let (sign, whole) = match whole.strip_prefix(['-', '+']) {
        Some(rest) => (&whole[..1], rest),
        None => ("", whole),
    };
    let groups: Vec<&str> = whole.split([thousands, ' ']).collect();
    let grouped = groups.len() == 1
        || (groups.iter().skip(1).all(|group| group.len() == 3) && (1..=3).contains(&groups[0].len()));
    if !grouped {
        return None;
    }
    let whole = groups.concat();
    Some(match fraction {
        Some(fraction) => format!("{sign}{whole}.{fraction}"),
        None => format!("{sign}{whole}"),
    })
}

/// A number with or without an exponent as a plain decimal: no leading or trailing zeros, no `-0`.
fn decimal(text: &str) -> Option<String> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, digits) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = [whole, fraction].concat();
    if all.is_empty() || !all.bytes().all(|b| b.is_ascii_digit()) || exponent.unsigned_abs() > 400 {
        return None;
    }
    let point = i64::try_from(whole.len()).ok()? + i64::from(exponent);
    let length = i64::try_from(all.len()).ok()?;
    let padded = match point {
        ..=0 => format!("{}{all}", "0".repeat(usize::try_from(1 - point).ok()?)),
        _ if point > length => format!("{all}{}", "0".repeat(usize::try_from(point - length).ok()?)),
        _ => all,
    };
    let (whole, fraction) = padded.split_at(usize::try_from(point.max(1)).ok()?);
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    let whole = if whole.is_empty() { "0" } else { whole };
    let plain = if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") };
    Some(if negative && plain != "0" { format!("-{plain}") } else { plain })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn field(shown: Shown, sql_type: &str) -> Field {
        Field {
            bit: 1,
            name: "f".into(),
            history: "f".into(),
            sql_type: sql_type.into(),
            collation: None,
            shown,
            plain_equality: true,
            keeping: Keeping::Stored,
            number: 1,
        }
    }

    fn finds(needle: &str, shown: Shown, sql_type: &str, value: Value) -> bool {
        Needle::new(needle).matches(&field(shown, sql_type), &value)
    }

    #[test]
    fn numbers_are_found_as_people_write_them() {
        let found = |needle: &str, value: &str| {
            finds(needle, Shown::Text, "numeric(12,2)", Value::Text(value.into()))
        };
        for needle in
            ["1149", "1,149", "1149.00", "1.149,00", "1 149", "1'149.0", "€1,149", "+1149", "1.149e3"]
        {
            assert!(found(needle, "1149.00"), "{needle}");
        }
        assert!(found("1,149", "1.149") && found("-3", "-3.00") && found("0", "-0.00"));
        assert!(!found("1149", "11490") && !found("114", "1149.00") && !found("11,49", "1149.00"));
        let long = "123456789012345678901234567890.10";
        assert!(found(long, "123456789012345678901234567890.1000"));
        assert!(finds("0.1", Shown::Number, "double precision", Value::Number("1e-1".into())));
        assert!(Needle::new("1e999999999").numbers().is_empty());
    }

    #[test]
    fn text_is_found_by_whole_words() {
        let found = |needle: &str, value: &str| finds(needle, Shown::Text, "text", Value::Text(value.into()));
        assert!(found("köln", "Köln") && found("Ko\u{308}ln", "KÖLN") && found("ﬁne", "fine"));
        assert!(found("do not ship", "URGENT: do not ship, fraud"));
        assert!(!found("ship", "shipping") && !found("", "x") && found("", ""));
    }

    #[test]
    fn times_are_found_by_their_beginning() {
        let stored = || Value::Text("2026-11-20T15:00:00.000000Z".into());
        for needle in ["2026", "2026-11", "2026-11-20", "2026-11-20 15:00", "2026-11-20T15"] {
            assert!(finds(needle, Shown::Timestamp, "timestamp with time zone", stored()), "{needle}");
        }
        assert!(!finds("2026-11-21", Shown::Timestamp, "timestamp with time zone", stored()));
    }

    #[test]
    fn null_is_found_by_its_name_and_a_masked_value_by_none() {
        assert!(
            finds("null", Shown::Text, "text", Value::Null) && finds("∅", Shown::Text, "text", Value::Null)
        );
        assert!(!finds("x", Shown::Text, "text", Value::Null));
        let mut masked = field(Shown::Text, "text");
        masked.keeping = Keeping::Masked;
        assert!(!Needle::new("4111").matches(&masked, &Value::Masked));
    }

    #[test]
    fn what_is_found_can_be_marked() {
        assert_eq!(Needle::new("köln").marks("nach Köln"), std::iter::once(5..10).collect::<Vec<_>>());
        assert_eq!(Needle::new("a").marks("a ba a"), [0..1, 5..6]);
    }

    /// SQL's LIKE: without case where the letters are ASCII.
    fn like(text: &str, form: &str) -> bool {
        text.to_ascii_lowercase().contains(&form.to_ascii_lowercase())
    }

    proptest! {
        #[test]
        fn preselection_never_finds_too_little(text in "[a-zA-Zäöüß é]{1,10}", upper in any::<bool>(), decomposed in any::<bool>()) {
            let needle = Needle::new(&text);
            let stored = if upper { needle.text.to_uppercase() } else { needle.text.to_lowercase() };
            let stored: String = if decomposed { stored.nfd().collect() } else { stored.nfc().collect() };
            if !needle.text.is_empty() && needle.found_in(&stored) {
                prop_assert!(needle.forms().iter().any(|form| like(&stored, form)), "{:?} in {:?}", needle.forms(), stored);
            }
        }

        #[test]
        fn a_decimal_is_itself(whole in 0_u64.., fraction in 0_u32..) {
            let plain = format!("{whole}.{fraction}");
            prop_assert!(finds(&plain, Shown::Number, "numeric", Value::Number(plain.clone())));
        }
    }
}
