//! Values: what kind a column holds, how it is shown as text, and how a text becomes one.

use crate::layout::{Field, Keeping};
use crate::name::literal;
use crate::sql::scoped::hex;
use crate::value::{Shown, Value};

/// The type's first word.
fn base(sql_type: &str) -> &str {
    sql_type.split([' ', '(']).next().unwrap_or_default()
}

/// Whether a field is a float, of which no text is made where it is compared: of one of four bytes it would have six digits.
pub(super) fn is_float(field: &Field) -> bool {
    matches!(base(&field.sql_type), "float" | "double")
}

/// Whether a field's values are members of a list, and sort by their places in it.
pub(super) fn is_enumerated(field: &Field) -> bool {
    matches!(base(&field.sql_type), "enum" | "set")
}

/// Whether a field is an instant.
pub(super) fn is_timestamp(field: &Field) -> bool {
    base(&field.sql_type) == "timestamp"
}

fn is_integer(sql_type: &str) -> bool {
    matches!(base(sql_type), "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "bit")
}

/// Whether a field holds text that compares by a collation.
pub(super) fn is_text(field: &Field) -> bool {
    field.collation.is_some()
}

/// Whether a field is a float of four bytes.
pub fn is_single(field: &Field) -> bool {
    field.shown == Shown::Number && base(&field.sql_type) == "float"
}

/// A value as it is handed over: as the text that is shown of it. Of a float of four bytes it would have six digits, and it is
/// handed over as one of eight.
pub(super) fn handed_over(field: &Field, value: &str) -> String {
    match field.keeping == Keeping::Stored && is_single(field) {
        true => format!("CAST({value} AS DOUBLE)"),
        false => as_text(field, value),
    }
}

/// The text of a value; of a float, the value itself.
pub(super) fn as_text(field: &Field, value: &str) -> String {
    if field.keeping == Keeping::Masked || is_float(field) {
        return value.to_owned();
    }
    match field.shown {
        // Without leading zeros, and a bit as the number it is.
        Shown::Number => format!("CAST({value} + 0 AS CHAR)"),
        Shown::Bytes => format!("'\\x' || LOWER(HEX({value}))"),
        Shown::Timestamp => format!("CAST({value} AS CHAR) || '+00'"),
        _ => format!("CAST({value} AS CHAR CHARACTER SET utf8mb4)"),
    }
}

/// A value of a record, as it was shown, as a literal for its column of the history.
pub(in crate::sql) fn recorded_literal(field: &Field, value: &Value) -> String {
    match value {
        Value::Number(digits) => digits.clone(),
        value => key_literal(&field.sql_type, field.shown, value),
    }
}

/// A text given as an expression, as a value to be compared with a column of this type. What is no such value is NULL.
pub(super) fn given(sql_type: &str, shown: Shown, text: &str) -> String {
    let read = |expression: &str| format!("(SELECT {expression} FROM (SELECT {text} AS v) AS given)");
    if is_integer(sql_type) {
        let sign =
            if sql_type.contains("unsigned") || base(sql_type) == "bit" { "UNSIGNED" } else { "SIGNED" };
        return read(&format!(
            "CASE WHEN given.v REGEXP '^ *[-+]{{0,1}}[0-9]+ *$' THEN CAST(given.v AS {sign}) END"
        ));
    }
    if base(sql_type) == "float" {
        // As it is stored: what it is near as a number of eight bytes is another one.
        return read(
            "CASE WHEN given.v REGEXP '^ *[-+]{0,1}([0-9]+[.]{0,1}[0-9]*|[.][0-9]+)([eE][-+]{0,1}[0-9]+){0,1} *$' THEN CAST(given.v AS FLOAT) END",
        );
    }
    match shown {
        Shown::Bytes => {
            read("CASE WHEN LEFT(given.v, 2) = '\\x' THEN UNHEX(SUBSTR(given.v, 3)) ELSE given.v END")
        }
        Shown::Timestamp | Shown::LocalTimestamp => read("REPLACE(REPLACE(given.v, 'T', ' '), 'Z', '')"),
        _ => text.to_owned(),
    }
}

/// The same of a value that is known here.
pub(super) fn key_literal(sql_type: &str, shown: Shown, value: &Value) -> String {
    match value {
        Value::Bytes(bytes) => hex(bytes),
        Value::Null => "NULL".to_owned(),
        other => {
            let text = other.to_string();
            let digits = text.strip_prefix(['-', '+']).unwrap_or(&text);
            let number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            if is_integer(sql_type) && number && digits.len() <= 20 {
                return text;
            }
            given(sql_type, shown, &literal(&text))
        }
    }
}
