//! Values as HTML: nothing in them is ever markup, turns a line around, or hides.

use std::fmt;

use afterimage::Value;
use similar::{Algorithm, ChangeTag, TextDiff};

/// HTML that is safe as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Html(String);

impl fmt::Display for Html {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl askama::filters::HtmlSafe for Html {}

/// How much of a text is shown where there is little room, in characters.
pub(crate) const SHORT: usize = 240;

/// How much of a text is shown where it is what the page is about.
pub(crate) const LONG: usize = 20_000;

/// Texts up to this long are compared as a whole.
const WHOLE: usize = 40;

/// Unchanged text in the middle of a comparison is left out beyond this, in characters.
const KEPT: usize = 60;

/// Texts beyond this many bytes are not compared word by word.
const COMPARED: usize = 50_000;

/// Appends text, escaped; what is no visible character is written out.
fn escape(html: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            '\n' | '\t' => html.push(c),
            c if c.is_control() || turns(c) => {
                html.push_str("<span class=\"ctl\">");
                html.push_str(&c.escape_unicode().to_string().replace(['{', '}'], ""));
                html.push_str("</span>");
            }
            c => html.push(c),
        }
    }
}

/// Whether a character changes the direction of what follows, or is not there to see.
fn turns(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}' | '\u{2066}'..='\u{2069}' | '\u{61c}' | '\u{feff}')
}

/// The beginning of a text, and how many characters follow.
fn cut(text: &str, limit: usize) -> (&str, usize) {
    match text.char_indices().nth(limit) {
        Some((at, _)) => (&text[..at], text[at..].chars().count()),
        None => (text, 0),
    }
}

fn isolated(html: &mut String, text: &str, limit: usize) {
    let (begin, more) = cut(text, limit);
    html.push_str("<bdi>");
    escape(html, begin);
    html.push_str("</bdi>");
    if more > 0 {
        html.push_str(&format!(" <span class=\"quiet\">… {more} more characters</span>"));
    }
}

/// Text that comes from somewhere: a name, a reason.
pub(crate) fn text(text: &str) -> Html {
    let mut html = String::new();
    isolated(&mut html, text, SHORT);
    Html(html)
}

fn append(html: &mut String, value: &Value, limit: usize) {
    match value {
        Value::Null => html.push_str("<span class=\"none\">none</span>"),
        Value::Text(text) if text.is_empty() => html.push_str("<span class=\"none\">empty</span>"),
        Value::Masked => html.push_str("<span class=\"none\">hidden by policy</span>"),
        Value::Redacted => html.push_str("<span class=\"none\">redacted</span>"),
        Value::Unknown => html.push_str("<span class=\"none\">not known any more</span>"),
        other => isolated(html, &other.to_string(), limit),
    }
}

/// A value, up to so many characters.
pub(crate) fn value(value: &Value, limit: usize) -> Html {
    let mut html = String::new();
    append(&mut html, value, limit);
    Html(html)
}

fn removed(html: &mut String, value: &Value, limit: usize) {
    // What is not there cannot be struck out.
    if value.is_null() {
        return append(html, value, limit);
    }
    html.push_str("<del><span class=\"sr\">removed: </span>");
    append(html, value, limit);
    html.push_str("</del>");
}

fn added(html: &mut String, value: &Value, limit: usize) {
    if value.is_null() {
        return append(html, value, limit);
    }
    html.push_str("<ins><span class=\"sr\">added: </span>");
    append(html, value, limit);
    html.push_str("</ins>");
}

/// A change of a value in one line: `old → new`, long texts word by word with what is the same left out.
pub(crate) fn change(old: &Value, new: &Value, limit: usize) -> Html {
    let mut html = String::new();
    match (old, new) {
        (Value::Masked, Value::Masked) => {
            html.push_str("<span class=\"none\">changed, hidden by policy</span>")
        }
        (Value::Text(old), Value::Text(new)) if by_words(old, new) => words(&mut html, old, new, true),
        (old, new) => {
            removed(&mut html, old, limit);
            html.push_str(" <span class=\"arrow\" aria-hidden=\"true\">→</span> ");
            added(&mut html, new, limit);
            if let Some(delta) = delta(old, new) {
                html.push_str(" <span class=\"quiet\">");
                escape(&mut html, &delta);
                html.push_str("</span>");
            }
        }
    }
    Html(html)
}

/// Changes of several fields, each with its name.
pub(crate) fn named_changes<'f>(changes: impl Iterator<Item = (&'f str, Html)>) -> Html {
    let mut html = String::from("<dl class=\"fields\">");
    for (name, Html(change)) in changes {
        html.push_str(&format!("<div><dt>{}</dt><dd>{change}</dd></div>", text(name)));
    }
    html.push_str("</dl>");
    Html(html)
}

/// A value that came to be, with nothing before it.
pub(crate) fn created(new: &Value, limit: usize) -> Html {
    let mut html = String::new();
    added(&mut html, new, limit);
    Html(html)
}

/// A value that went away, with nothing after it.
pub(crate) fn deleted(old: &Value, limit: usize) -> Html {
    let mut html = String::new();
    removed(&mut html, old, limit);
    Html(html)
}

/// The two sides of a comparison, apart.
pub(crate) fn sides(old: &Value, new: &Value) -> (Html, Html) {
    let (mut left, mut right) = (String::new(), String::new());
    match (old, new) {
        (Value::Text(old), Value::Text(new)) if by_words(old, new) => {
            for (tag, piece) in pieces(old, new) {
                match tag {
                    ChangeTag::Equal => {
                        escape(&mut left, &piece);
                        escape(&mut right, &piece);
                    }
                    ChangeTag::Delete => mark(&mut left, "del", "removed", &piece),
                    ChangeTag::Insert => mark(&mut right, "ins", "added", &piece),
                }
            }
            left = format!("<bdi>{left}</bdi>");
            right = format!("<bdi>{right}</bdi>");
        }
        (old, new) => {
            removed(&mut left, old, LONG);
            added(&mut right, new, LONG);
        }
    }
    (Html(left), Html(right))
}

fn by_words(old: &str, new: &str) -> bool {
    let long = |text: &str| text.chars().nth(WHOLE).is_some();
    (long(old) || long(new)) && !old.is_empty() && !new.is_empty() && old.len() + new.len() <= COMPARED
}

fn mark(html: &mut String, tag: &str, said: &str, piece: &str) {
    html.push_str(&format!("<{tag}><span class=\"sr\">{said}: </span>"));
    escape(html, piece);
    html.push_str(&format!("</{tag}>"));
}

/// What is the same, what went and what came, neighbours of a kind in one piece.
fn pieces(old: &str, new: &str) -> Vec<(ChangeTag, String)> {
    let diff = TextDiff::configure().algorithm(Algorithm::Patience).diff_words(old, new);
    let mut pieces: Vec<(ChangeTag, String)> = Vec::new();
    for change in diff.iter_all_changes() {
        match pieces.last_mut() {
            Some((tag, piece)) if *tag == change.tag() => piece.push_str(change.value()),
            _ => pieces.push((change.tag(), change.value().to_owned())),
        }
    }
    pieces
}

fn words(html: &mut String, old: &str, new: &str, elide: bool) {
    html.push_str("<bdi>");
    let pieces = pieces(old, new);
    let last = pieces.len().saturating_sub(1);
    for (n, (tag, piece)) in pieces.iter().enumerate() {
        match tag {
            ChangeTag::Equal if elide => {
                let count = piece.chars().count();
                let (head, tail) = (if n == 0 { 0 } else { KEPT / 2 }, if n == last { 0 } else { KEPT / 2 });
                if count <= head + tail + 10 {
                    escape(html, piece);
                } else {
                    escape(html, &piece.chars().take(head).collect::<String>());
                    html.push_str("<span class=\"quiet\"> … </span>");
                    escape(html, &piece.chars().skip(count - tail).collect::<String>());
                }
            }
            ChangeTag::Equal => escape(html, piece),
            ChangeTag::Delete => mark(html, "del", "removed", piece),
            ChangeTag::Insert => mark(html, "ins", "added", piece),
        }
    }
    html.push_str("</bdi>");
}

/// By how much a number changed.
fn delta(old: &Value, new: &Value) -> Option<String> {
    let ((old, a), (new, b)) = (number(old)?, number(new)?);
    let scale = a.max(b);
    let at = |value: i128, has: u32| value.checked_mul(10_i128.checked_pow(scale - has)?);
    let (old, new) = (at(old, a)?, at(new, b)?);
    let difference = new.checked_sub(old)?;
    let sign = if difference < 0 { "−" } else { "+" };
    let digits = difference.unsigned_abs().to_string();
    let digits = format!("{digits:0>width$}", width = scale as usize + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale as usize);
    let mut text = format!("({sign}{whole}");
    if !fraction.is_empty() {
        text.push('.');
        text.push_str(fraction);
    }
    if old > 0 {
        let percent = difference.checked_mul(1000)? / old;
        // Of thousands of percent nobody learns anything.
        if percent != 0 && percent.abs() < 10_000 {
            text.push_str(&format!(", {sign}{} %", (percent.abs() + 5) / 10));
        }
    }
    text.push(')');
    Some(text)
}

/// A decimal as its digits and how many of them stand after the point. Text is one where it has a point.
fn number(value: &Value) -> Option<(i128, u32)> {
    let text = match value {
        Value::Number(text) => text,
        Value::Text(text) if text.contains('.') => text,
        _ => return None,
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if digits.is_empty() || !plain(digits) || !plain(fraction) || fraction.len() > 18 {
        return None;
    }
    Some((format!("{whole}{fraction}").parse().ok()?, u32::try_from(fraction.len()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(text: &str) -> Value {
        Value::Text(text.into())
    }

    #[test]
    fn nothing_in_a_value_is_markup_or_turns_the_line_around() {
        let html = value(&t("<script>alert('x')</script>\u{202e}\u{0}"), LONG).to_string();
        assert!(!html.contains("<script") && html.contains("&lt;script&gt;alert(&#39;x&#39;)"));
        assert!(html.contains("\\u202e") && html.contains("\\u0<"), "{html}");
        assert!(html.starts_with("<bdi>"));
    }

    #[test]
    fn a_change_of_a_number_says_by_how_much() {
        assert_eq!(delta(&t("1249.00"), &t("1149.00")).unwrap(), "(−100.00, −8 %)");
        assert_eq!(delta(&Value::Number("3".into()), &Value::Number("10".into())).unwrap(), "(+7, +233 %)");
        assert_eq!(delta(&t("0.5"), &t("0.05")).unwrap(), "(−0.45, −90 %)");
        assert_eq!(delta(&t("-1.0"), &t("1.0")).unwrap(), "(+2.0)");
        assert_eq!(delta(&t("2026.11.20"), &t("2026.11.21")), None);
        assert_eq!(delta(&t("12"), &t("13")), None);
    }

    #[test]
    fn long_texts_are_compared_word_by_word_with_the_middle_left_out() {
        let old = "Please leave the parcel with the neighbour at number 14 if nobody is home; ring twice, wait, then call.";
        let html = change(&t(old), &t(&old.replace("14", "41")), SHORT).to_string();
        assert!(html.contains("<del><span class=\"sr\">removed: </span>14</del><ins>"), "{html}");
        assert!(html.contains("…"), "{html}");
    }

    #[test]
    fn what_is_not_there_is_told_from_what_is_empty_and_from_what_is_hidden() {
        let shown: Vec<String> = [Value::Null, t(""), Value::Masked, t("none")]
            .iter()
            .map(|v| value(v, SHORT).to_string())
            .collect();
        let distinct: std::collections::BTreeSet<_> = shown.iter().collect();
        assert_eq!(distinct.len(), shown.len());
    }
}
