//! SQLite's SQL as text: where its strings, quoted names and comments are.

/// A piece of SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece<'s> {
    /// A string or a quoted name, with its quotes.
    Quoted(&'s str),
    /// A comment.
    Comment,
    /// Anything else, character by character.
    Plain(char),
    /// A string, a name or a comment without an end.
    Unended,
}

/// Splits SQL.
pub(crate) fn pieces(mut sql: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    while let Some(first) = sql.chars().next() {
        let (length, piece) = if sql.starts_with("--") {
            (sql.find('\n').unwrap_or(sql.len()), Piece::Comment)
        } else if let Some(comment) = sql.strip_prefix("/*") {
            match comment.find("*/") {
                Some(at) => (at + 4, Piece::Comment),
                None => (sql.len(), Piece::Unended),
            }
        } else if matches!(first, '\'' | '"' | '`' | '[') {
            let close = if first == '[' { ']' } else { first };
            match sql[1..].find(close) {
                Some(at) => (at + 2, Piece::Quoted(&sql[..at + 2])),
                None => (sql.len(), Piece::Unended),
            }
        } else {
            (first.len_utf8(), Piece::Plain(first))
        };
        pieces.push(piece);
        sql = &sql[length..];
    }
    pieces
}

/// Whether a text stays inside the parentheses into which it is put, and so inside its statement.
pub(crate) fn is_one_expression(sql: &str) -> bool {
    let mut depth = 0_i64;
    for piece in pieces(sql) {
        match piece {
            Piece::Plain('(') => depth += 1,
            Piece::Plain(')') => depth -= 1,
            Piece::Plain(';' | '\0') | Piece::Unended => return false,
            _ => {}
        }
        if depth < 0 {
            return false;
        }
    }
    depth == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_its_parentheses_is_no_expression() {
        for good in
            ["a = 1", "a IN (1, 2) -- ;", "t = ';)'", "\"a;\" > 0 /* ) */", "t = 'it''s; )'", "[a;)] = 1"]
        {
            assert!(is_one_expression(good), "{good}");
        }
        for bad in ["1); DELETE FROM item; --", "a = 1;", ") OR (1", "(a", "t = 'x", "a /* (", "\0"] {
            assert!(!is_one_expression(bad), "{bad}");
        }
    }
}
