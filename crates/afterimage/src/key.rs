//! Keys as people write them: the value itself, `col=value,col=value`, or a JSON object.

use afterimage_core::{Layout, Value};
use serde_json::Value as Json;

use crate::catalog::Entry;
use crate::error::{Error, ErrorKind, Result};
use crate::session::Cell;

/// The key's values in the key's order.
pub(crate) fn parse(layout: &Layout, text: &str) -> Result<Vec<Cell>> {
    if let [_] = layout.key.as_slice() {
        // Whatever characters it has, it is the value; only a JSON object that names the column is one.
        return Ok(match object(layout, text)? {
            Some(cells) => cells,
            None => vec![cell(layout, 0, text)],
        });
    }
    if let Some(cells) = object(layout, text)? {
        return Ok(cells);
    }
    let mut cells = vec![None; layout.key.len()];
    for (n, name) in layout.key.iter().enumerate() {
        cells[n] = named(layout, text, name);
    }
    let missing: Vec<&str> = layout
        .key
        .iter()
        .zip(&cells)
        .filter(|(_, cell)| cell.is_none())
        .map(|(name, _)| name.as_str())
        .collect();
    if !missing.is_empty() {
        let example = layout.key.iter().map(|name| format!("{name}=…")).collect::<Vec<_>>().join(",");
        return Err(Error::new(
            ErrorKind::InvalidInput,
            format!(
                "the key {text:?} does not say {}: write {example}, or a JSON object",
                missing.join(", ")
            ),
        )
        .on(&layout.table));
    }
    Ok(cells.into_iter().enumerate().map(|(n, value)| cell(layout, n, value.unwrap_or_default())).collect())
}

/// The key's values in the key's order, as text or bytes.
pub(crate) fn values(layout: &Layout, text: &str) -> Result<Vec<Value>> {
    Ok(parse(layout, text)?.into_iter().map(value).collect())
}

/// A value of a key, as text or bytes.
pub(crate) fn value(cell: Cell) -> Value {
    match cell {
        Cell::Blob(bytes) => Value::Bytes(bytes),
        other => Value::Text(other.text().unwrap_or_default()),
    }
}

/// A key as the catalogue keeps it: its values in the key's order, whatever its columns come to be called.
pub(crate) fn kept(values: &[Value]) -> String {
    let values: Vec<Json> =
        values.iter().map(|value| serde_json::to_value(value).unwrap_or_default()).collect();
    Json::Array(values).to_string()
}

/// One that is kept, as JSON by the names that its columns have now.
pub(crate) fn named_kept(layout: &Layout, text: &str) -> Option<String> {
    let Ok(Json::Array(values)) = serde_json::from_str(text) else { return None };
    let named = |values: Vec<Json>| layout.key.iter().cloned().zip(values).collect();
    (values.len() == layout.key.len()).then(|| Json::Object(named(values)).to_string())
}

/// The values of one that is kept; none where it is not one of as many columns.
pub(crate) fn of_kept(layout: &Layout, text: &str) -> Option<Vec<Value>> {
    values(layout, &named_kept(layout, text)?).ok()
}

/// Whether two texts are the same key of a table, however either is written.
pub(crate) fn is_same(entry: &Entry, a: &str, b: &str) -> bool {
    let read = |text: &str| entry.layout().and_then(|layout| parse(layout, text)).ok();
    read(a).is_some_and(|a| Some(a) == read(b))
}

/// The value after `name=`, up to the next `,name=` of another key column.
fn named<'t>(layout: &Layout, text: &'t str, name: &str) -> Option<&'t str> {
    let starts = |rest: &str| layout.key.iter().any(|key| rest.starts_with(&format!("{key}=")));
    let begin = std::iter::once(0)
        .chain(text.match_indices(',').map(|(at, _)| at + 1))
        .find(|at| text[*at..].starts_with(&format!("{name}=")))?;
    let value = &text[begin + name.len() + 1..];
    let end =
        value.match_indices(',').map(|(at, _)| at).find(|at| starts(&value[at + 1..])).unwrap_or(value.len());
    Some(&value[..end])
}

fn object(layout: &Layout, text: &str) -> Result<Option<Vec<Cell>>> {
    let Ok(Json::Object(members)) = serde_json::from_str(text) else { return Ok(None) };
    if !layout.key.iter().all(|name| members.contains_key(name)) {
        return Ok(None);
    }
    layout
        .key
        .iter()
        .enumerate()
        .map(|(n, name)| match &members[name] {
            Json::String(text) => Ok(cell(layout, n, text)),
            Json::Object(bytes) if bytes.len() == 1 && bytes.contains_key("$bytes") => {
                // As it is shown everywhere; what a trigger noted of an old key is in hex, which SQL can write.
                let shown = bytes["$bytes"].as_str().unwrap_or_default();
                let Some(Value::Bytes(bytes)) = Value::from_base64(shown) else {
                    return Err(Error::new(ErrorKind::InvalidInput, format!("{shown:?} is no base64url")));
                };
                let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                Ok(cell(layout, n, &format!("\\x{digits}")))
            }
            Json::Object(hex) if hex.len() == 1 && hex.contains_key("$hex") => {
                let digits = hex["$hex"].as_str().unwrap_or_default();
                Ok(cell(layout, n, &format!("\\x{digits}")))
            }
            Json::Null => {
                Err(Error::new(ErrorKind::InvalidInput, format!("the key column {name:?} is never null")))
            }
            other => Ok(cell(layout, n, &other.to_string())),
        })
        .collect::<Result<Vec<_>>>()
        .map(Some)
}

/// On SQLite a key of bytes is written `\x…`; everywhere else the database reads the text.
fn cell(layout: &Layout, n: usize, text: &str) -> Cell {
    let untyped = layout.table.schema.is_none()
        && layout.key_fields().nth(n).is_some_and(|field| {
            let declared = field.sql_type.to_ascii_uppercase();
            declared.is_empty() || declared.contains("BLOB")
        });
    match text.strip_prefix("\\x") {
        Some(digits) if untyped => bytes(digits).map_or_else(|| Cell::Text(text.to_owned()), Cell::Blob),
        _ => Cell::Text(text.to_owned()),
    }
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    if !digits.is_ascii() || digits.len() % 2 == 1 {
        return None;
    }
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok()).collect()
}
