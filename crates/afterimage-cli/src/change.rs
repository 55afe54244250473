//! One change, for people to read.

use afterimage::{Action, FieldChange, Value};
use similar::{ChangeTag, TextDiff};

use crate::output::{harmless, shown};
use crate::terminal::{Meaning, paint};

/// A text that is longer is compared word by word.
const LONG: usize = 40;

/// So many words are left around a change inside a long text.
const AROUND: usize = 4;

/// `field: old → new`; of a creation or a deletion the value that was there.
pub(crate) fn line(action: Action, change: &FieldChange) -> String {
    let field = harmless(&change.field);
    match action {
        Action::Create => format!("{field}: {}", paint(Meaning::Added, &shown(&change.new))),
        Action::Delete => format!("{field}: {}", paint(Meaning::Removed, &shown(&change.old))),
        Action::Update => format!("{field}: {}", between(&change.old, &change.new)),
    }
}

/// From one value to another.
pub(crate) fn between(old: &Value, new: &Value) -> String {
    if let (Value::Text(a), Value::Text(b)) = (old, new)
        && a.chars().count().min(b.chars().count()) > LONG
    {
        return words(&harmless(a), &harmless(b));
    }
    let (from, to) = (shown(old), shown(new));
    let by = match (digits(old), digits(new)) {
        (Some(a), Some(b)) => difference(a, b).map(|by| paint(Meaning::Dim, &format!(" ({by})"))),
        _ => None,
    };
    format!("{} → {}{}", paint(Meaning::Removed, &from), paint(Meaning::Added, &to), by.unwrap_or_default())
}

/// Two long texts, with what left and what came marked, and what stayed left out where there is much of it.
fn words(old: &str, new: &str) -> String {
    let diff = TextDiff::from_words(old, new);
    let mut shown = String::new();
    let mut same: Vec<&str> = Vec::new();
    for change in diff.iter_all_changes() {
        let text = change.value();
        match change.tag() {
            ChangeTag::Equal => same.push(text),
            tag => {
                stayed(&mut shown, &mut same, false);
                let (mark, meaning) = match tag {
                    ChangeTag::Delete => (format!("[-{text}-]"), Meaning::Removed),
                    _ => (format!("{{+{text}+}}"), Meaning::Added),
                };
                shown.push_str(&paint(meaning, &mark));
            }
        }
    }
    stayed(&mut shown, &mut same, true);
    shown
}

fn stayed(shown: &mut String, same: &mut Vec<&str>, last: bool) {
    let around = 2 * AROUND;
    let head = if shown.is_empty() { 0 } else { around };
    let tail = if last { 0 } else { around };
    if same.len() > head + tail + 2 {
        shown.push_str(&same[..head].concat());
        shown.push('…');
        shown.push_str(&same[same.len() - tail..].concat());
    } else {
        shown.push_str(&same.concat());
    }
    same.clear();
}

/// A value that is a number, as its digits. Text that only looks like one is counted as one too: exact decimals are
/// shown as text.
fn digits(value: &Value) -> Option<&str> {
    let (Value::Number(text) | Value::Text(text)) = value else { return None };
    let digits = text.strip_prefix('-').unwrap_or(text).len();
    (is_number(text) && digits <= 30).then_some(text)
}

/// Whether a text is a number.
pub(crate) fn is_number(text: &str) -> bool {
    let bare = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = bare.split_once('.').unwrap_or((bare, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    // A leading zero is a name's, not a number's.
    all_digits(whole) && all_digits(fraction) && (whole == "0" || !whole.starts_with('0'))
}

/// How much more or less, exactly.
fn difference(old: &str, new: &str) -> Option<String> {
    let places = |text: &str| text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let scale = places(old).max(places(new));
    let scaled = |text: &str| -> Option<i128> {
        let padding = scale - places(text);
        format!("{}{}", text.replace('.', ""), "0".repeat(padding)).parse().ok()
    };
    let by = scaled(new)?.checked_sub(scaled(old)?)?;
    if by == 0 {
        return None;
    }
    let plain = format!("{:0>width$}", by.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = plain.split_at(plain.len() - scale);
    let sign = if by < 0 { '−' } else { '+' };
    Some(if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn numbers_say_by_how_much_exactly() {
        assert_eq!(between(&text("1249.00"), &text("1149.00")), "1249.00 → 1149.00 (−100.00)");
        assert_eq!(between(&Value::Number("1".into()), &Value::Number("-1.5".into())), "1 → -1.5 (−2.5)");
        assert_eq!(between(&text("0.1"), &text("0.3")), "0.1 → 0.3 (+0.2)");
        assert_eq!(between(&text("007"), &text("008")), "007 → 008");
        assert_eq!(between(&text("2026-01-01"), &text("2027-01-01")), "2026-01-01 → 2027-01-01");
        assert_eq!(between(&Value::Null, &text("3")), "∅ → 3");
    }

    #[test]
    fn long_texts_are_compared_word_by_word() {
        let old =
            "Please deliver before the fourteenth of September, and ring twice at the door of the blue house";
        let new = old.replace("September", "October").replace("blue", "red");
        let shown = between(&text(old), &text(&new));
        assert!(shown.contains("[-September,-]{+October,+}") && shown.contains("[-blue-]{+red+}"), "{shown}");
        assert!(shown.starts_with('…') && shown.contains("at the door of the"), "{shown}");
    }
}
