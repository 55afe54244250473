//! The text of a `CREATE INDEX`: its parts and its condition, which no pragma tells.

use crate::sqlite_text::{Piece, pieces};

/// The parts of an index as SQL, and the condition of a partial one.
#[derive(Debug, PartialEq)]
pub(super) struct Definition {
    pub(super) parts: Vec<String>,
    pub(super) predicate: Option<String>,
}

/// Splits `CREATE UNIQUE INDEX … ON table (part, part) WHERE condition`.
pub(super) fn parse(sql: &str) -> Definition {
    let mut depth = 0_usize;
    let mut parts = Vec::new();
    let mut current = String::new();
    let mut rest = String::new();
    let mut listed = false;
    for piece in pieces(sql) {
        let target = if listed { &mut rest } else { &mut current };
        match piece {
            Piece::Quoted(text) => target.push_str(text),
            Piece::Comment | Piece::Unended => target.push(' '),
            Piece::Plain('(') if !listed => {
                depth += 1;
                if depth == 1 { current.clear() } else { current.push('(') }
            }
            Piece::Plain(')') if !listed && depth == 1 => {
                parts.push(part(&current));
                listed = true;
            }
            Piece::Plain(')') if !listed => {
                depth = depth.saturating_sub(1);
                current.push(')');
            }
            Piece::Plain(',') if !listed && depth == 1 => {
                parts.push(part(&current));
                current.clear();
            }
            Piece::Plain(c) => target.push(c),
        }
    }
    let rest = rest.trim();
    let predicate =
        rest.get(..5).filter(|word| word.eq_ignore_ascii_case("where")).map(|_| rest[5..].trim().to_owned());
    Definition { parts, predicate }
}

/// A part without its direction, which says nothing about what is unique.
fn part(text: &str) -> String {
    let text = text.trim();
    let without = |suffix: &str| {
        let cut = text.len().checked_sub(suffix.len())?;
        text.get(cut..)
            .filter(|tail| tail.eq_ignore_ascii_case(suffix))
            .map(|_| text[..cut].trim_end().to_owned())
    };
    without(" asc").or_else(|| without(" desc")).unwrap_or_else(|| text.to_owned())
}

/// Whether a default is a literal, so that a column added with it is the same in every row.
pub(super) fn is_constant(text: &str) -> bool {
    let text = text.trim();
    let digits = text.strip_prefix(['x', 'X']).unwrap_or(text);
    let quoted = !digits.is_empty()
        && pieces(digits)
            .iter()
            .all(|piece| matches!(piece, Piece::Quoted(quoted) if quoted.starts_with('\'')));
    let number = text.trim_start_matches(['+', '-']).parse::<f64>().is_ok()
        && text.contains(|c: char| c.is_ascii_digit());
    quoted || number || ["true", "false"].iter().any(|word| word.eq_ignore_ascii_case(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_condition_are_found() {
        let definition = parse(
            "CREATE UNIQUE INDEX \"a(b\" ON \"t,(\" (lower(name), \"odd,)\" DESC) WHERE deleted IS NULL",
        );
        assert_eq!(definition.parts, ["lower(name)", "\"odd,)\""]);
        assert_eq!(definition.predicate.as_deref(), Some("deleted IS NULL"));
        assert_eq!(parse("CREATE UNIQUE INDEX i ON t(a)").predicate, None);
        let commented =
            parse("CREATE UNIQUE INDEX i -- don't (\nON t /* ) */ (a, b /*,*/) WHERE a /* it's */ > 0");
        assert_eq!(commented.parts, ["a", "b"]);
        assert_eq!(commented.predicate.as_deref(), Some("a   > 0"));
    }

    #[test]
    fn constants_are_literals_only() {
        for text in ["'x'", "'it''s'", "1", "-1.5", "TRUE", "X'00ff'", "''"] {
            assert!(is_constant(text), "{text}");
        }
        for text in ["CURRENT_TIMESTAMP", "(1+1)", "'a' || 'b'", "NULL", "", "inf"] {
            assert!(!is_constant(text), "{text}");
        }
    }
}
