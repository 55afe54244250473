//! Records as JSON, from which PostgreSQL reads rows of a history.

use serde::ser::{SerializeMap as _, Serializer};
use serde_json::value::RawValue;

use super::read::is_array;
use crate::layout::{Field, Keeping, Layout};
use crate::name::literal;
use crate::sql::SHORT;
use crate::sql::archive::PutBack;
use crate::sql::expression::col;
use crate::value::{Shown, Value};

/// JSON reads JSON's null as SQL's: what a column of JSON holds is told as text, beside the columns.
fn beside(field: &Field) -> Option<String> {
    let json = field.shown == Shown::Json && field.keeping == Keeping::Stored && !is_array(field);
    json.then(|| format!("json of {}", field.history))
}

/// The value of a field of the record `r`, which `o` tells.
pub(in crate::sql) fn put_value(field: &Field) -> String {
    match beside(field) {
        Some(name) => format!("(o.value ->> {})::{}", literal(&name), field.sql_type),
        None => col("r", &field.history),
    }
}

pub(in crate::sql) fn record_as_json(put: &PutBack<'_>, layout: &Layout, fields: &[Field]) -> String {
    let mut out = Vec::new();
    // Text and numbers: nothing in it can fail to be written.
    let _ = write(put, layout, fields, &mut serde_json::Serializer::new(&mut out));
    String::from_utf8(out).unwrap_or_default()
}

fn write(
    put: &PutBack<'_>,
    layout: &Layout,
    fields: &[Field],
    out: &mut serde_json::Serializer<&mut Vec<u8>>,
) -> serde_json::Result<()> {
    let PutBack { record, began, .. } = put;
    let header = &record.header;
    let raw = |json: &Option<String>| json.as_ref().and_then(|json| RawValue::from_string(json.clone()).ok());
    let said = began.filter(|began| header.date.as_micros() - began.as_micros() > SHORT);
    let mut map = out.serialize_map(None)?;
    map.serialize_entry("history_id", &header.id)?;
    map.serialize_entry("history_date", &header.date.to_string())?;
    map.serialize_entry("history_type", header.action.sign())?;
    map.serialize_entry("history_user", &header.user)?;
    map.serialize_entry("history_change_reason", &header.reason)?;
    map.serialize_entry("history_context", &raw(&header.context))?;
    map.serialize_entry("history_tx", &header.tx)?;
    map.serialize_entry("history_tx_start", &said.map(|began| began.to_string()))?;
    map.serialize_entry("history_old_key", &raw(&header.old_key))?;
    for (n, word) in layout.word_columns().enumerate() {
        map.serialize_entry(&word, &record.mask.get(n).copied().unwrap_or_default())?;
    }
    for (field, value) in fields.iter().zip(&record.values) {
        if let (Value::Json(json), Some(name)) = (value, beside(field)) {
            map.serialize_entry(&name, json)?;
            continue;
        }
        match value {
            Value::Null | Value::Redacted | Value::Unknown => map.serialize_entry(&field.history, &())?,
            Value::Masked => map.serialize_entry(&field.history, &true)?,
            Value::Bool(truth) => map.serialize_entry(&field.history, truth)?,
            Value::Json(json) => match RawValue::from_string(json.clone()) {
                Ok(raw) => map.serialize_entry(&field.history, &raw)?,
                Err(_) => map.serialize_entry(&field.history, json)?,
            },
            // What text says exactly, whatever the type.
            Value::Bytes(bytes) => {
                let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                map.serialize_entry(&field.history, &format!("\\x{digits}"))?;
            }
            other => map.serialize_entry(&field.history, &other.to_string())?,
        }
    }
    map.end()
}
