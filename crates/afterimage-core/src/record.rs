//! Records, and folding them into versions and changes.

use std::collections::HashMap;
use std::sync::Arc;

use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::{Error, ErrorKind, Result};
use crate::layout::{self, Field, Layout};
use crate::time::Moment;
use crate::value::Value;

/// What happened to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Action {
    /// `+`: it came to be, or arrived under this key.
    #[serde(rename = "+")]
    Create,
    /// `~`: it changed.
    #[serde(rename = "~")]
    Update,
    /// `-`: it was deleted, or departed from this key.
    #[serde(rename = "-")]
    Delete,
}

impl Action {
    /// From the sign that stands in `history_type`.
    pub fn from_sign(sign: &str) -> Option<Self> {
        match sign {
            "+" => Some(Self::Create),
            "~" => Some(Self::Update),
            "-" => Some(Self::Delete),
            _ => None,
        }
    }

    /// What it is called where signs would not do.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }

    /// The sign that stands in `history_type`.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Create => "+",
            Self::Update => "~",
            Self::Delete => "-",
        }
    }
}

/// The header of a record.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// Its number, from one sequence for all tables.
    pub id: i64,
    /// When it was captured.
    pub date: Moment,
    /// What happened.
    pub action: Action,
    /// The actor's id.
    pub user: Option<String>,
    /// The reason.
    pub reason: Option<String>,
    /// The rest of the context, as JSON.
    pub context: Option<String>,
    /// The database transaction.
    pub tx: Option<String>,
    /// The key the row had before, as JSON, where it arrived here by a change of its key.
    pub old_key: Option<String>,
    /// The archive that it was read from; nothing where it is in the database.
    pub archive: Option<Arc<str>>,
}

/// A record as it is stored: a header, a mask, and one value for each column of the history that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The header.
    pub header: Header,
    /// The mask, word by word.
    pub mask: Vec<i64>,
    /// The values, in the order of the fields they were read for.
    pub values: Vec<Value>,
}

/// A layout and the moment from which it holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Epoch {
    /// Its number, counted from 1.
    pub number: i64,
    /// The moment from which it holds, inclusive.
    pub from: Moment,
    /// The layout.
    pub layout: Layout,
}

/// Every field that any epoch of a table had, each once, in its newest form; the newest epoch's fields come first.
pub fn all_fields(epochs: &[Epoch]) -> Vec<Field> {
    let mut fields: Vec<Field> = Vec::new();
    for field in epochs.iter().rev().flat_map(|epoch| &epoch.layout.fields) {
        if !fields.iter().any(|known| known.bit == field.bit) {
            fields.push(field.clone());
        }
    }
    fields
}

/// The epoch in force at a moment, or the first one where that is earlier than all.
pub fn epoch_at(epochs: &[Epoch], moment: Moment) -> Option<&Epoch> {
    epochs.iter().rev().find(|epoch| epoch.from <= moment).or_else(|| epochs.first())
}

/// One changed field of a record.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldChange {
    /// The column's name at that time.
    pub field: String,
    /// Its value before.
    pub old: Value,
    /// Its value after.
    pub new: Value,
}

/// The full state of a row from one record until the next, and what that record changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Version {
    /// Its number along the row's life, counted from 1.
    pub number: u64,
    /// The header of the record.
    pub header: Header,
    /// The row: the columns of that time, in the table's order. A deleted row as it was last.
    pub row: Vec<(String, Value)>,
    /// What changed.
    pub changes: Vec<FieldChange>,
}

/// Folds records, oldest first, into versions.
#[derive(Debug)]
pub struct Fold<'a> {
    epochs: &'a [Epoch],
    fields: Vec<Field>,
    state: HashMap<u16, Value>,
    whole: bool,
    number: u64,
}

impl<'a> Fold<'a> {
    /// A fold over records that were read with the columns of [`all_fields`].
    pub fn new(epochs: &'a [Epoch]) -> Self {
        Self { epochs, fields: all_fields(epochs), state: HashMap::new(), whole: false, number: 0 }
    }

    /// Takes the next record and gives the version it begins.
    pub fn next(&mut self, record: Record) -> Result<Version> {
        let Record { header, mask, values } = record;
        let full = layout::is_full(&mask);
        if !full && !self.whole {
            return Err(Error::new(
                ErrorKind::Inconsistent,
                format!(
                    "record {} holds changed columns only, and no earlier record holds the whole row",
                    header.id
                ),
            ));
        }
        let epoch = epoch_at(self.epochs, header.date)
            .ok_or_else(|| Error::new(ErrorKind::Inconsistent, "the catalogue has no epoch"))?;
        // Its departure was left out by whoever follows the row through a change of key.
        let moved = header.action == Action::Create && header.old_key.is_some() && self.whole;
        // Of what was before the first record that is kept, only a creation says that it was nothing.
        let begins = self.number == 0 && (header.action == Action::Update || header.old_key.is_some());
        let before = std::mem::take(&mut self.state);
        let mut after = if full { HashMap::new() } else { before.clone() };
        for (field, value) in self.fields.iter().zip(values) {
            if full || layout::names(&mask, field) {
                after.insert(field.bit, shown(field, value));
            }
        }
        let changes = epoch
            .layout
            .fields
            .iter()
            .filter_map(|field| {
                let value =
                    |state: &HashMap<u16, Value>| state.get(&field.bit).cloned().unwrap_or(Value::Null);
                let (old, new) = match header.action {
                    Action::Create if moved => {
                        let (old, new) = (value(&before), value(&after));
                        if old == new {
                            return None;
                        }
                        (old, new)
                    }
                    Action::Create if begins => (Value::Unknown, value(&after)),
                    Action::Create => (Value::Null, value(&after)),
                    Action::Delete => (value(&after), Value::Null),
                    Action::Update if layout::names(&mask, field) => {
                        (if begins { Value::Unknown } else { value(&before) }, value(&after))
                    }
                    Action::Update => return None,
                };
                let both_null = old.is_null() && new.is_null();
                (!both_null).then(|| FieldChange { field: field.name.clone(), old, new })
            })
            .collect();
        let row = epoch
            .layout
            .fields
            .iter()
            .map(|field| (field.name.clone(), after.get(&field.bit).cloned().unwrap_or(Value::Null)))
            .collect();
        self.whole = header.action != Action::Delete;
        self.state = after;
        self.number += 1;
        Ok(Version { number: self.number, header, row, changes })
    }
}

/// A masked field's stored value only says whether it was NULL.
fn shown(field: &Field, value: Value) -> Value {
    match field.keeping {
        crate::layout::Keeping::Masked if !value.is_null() => Value::Masked,
        _ => value,
    }
}

/// A row as a JSON object, its columns in order.
#[derive(Debug)]
pub struct RowJson<'a>(pub &'a [(String, Value)]);

impl Serialize for RowJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// Changes as a JSON object: `{field: [old, new]}`.
#[derive(Debug)]
pub struct ChangesJson<'a>(pub &'a [FieldChange]);

impl Serialize for ChangesJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|change| (&change.field, (&change.old, &change.new))))
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("version", &self.number)?;
        self.header.serialize_members(&mut map)?;
        map.serialize_entry("row", &RowJson(&self.row))?;
        map.serialize_entry("changes", &ChangesJson(&self.changes))?;
        map.end()
    }
}

impl Header {
    /// A member of the context, as text.
    pub fn context_member(&self, member: &str) -> Option<String> {
        let context: serde_json::Value = serde_json::from_str(self.context.as_deref()?).ok()?;
        match context.get(member)? {
            serde_json::Value::Null => None,
            serde_json::Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }

    /// The members that an entry of the log has, by the names they have there.
    pub fn serialize_log_members<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let raw =
            |json: &Option<String>| json.as_ref().and_then(|json| RawValue::from_string(json.clone()).ok());
        map.serialize_entry("user", &self.user)?;
        map.serialize_entry("reason", &self.reason)?;
        map.serialize_entry("context", &raw(&self.context))?;
        map.serialize_entry("tx", &self.tx)?;
        if self.old_key.is_some() {
            map.serialize_entry("old_key", &raw(&self.old_key))?;
        }
        self.serialize_origin(map)
    }

    fn serialize_members<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let raw =
            |json: &Option<String>| json.as_ref().and_then(|json| RawValue::from_string(json.clone()).ok());
        map.serialize_entry("history_id", &self.id)?;
        map.serialize_entry("history_date", &self.date.to_string())?;
        map.serialize_entry("history_type", &self.action)?;
        map.serialize_entry("history_user", &self.user)?;
        map.serialize_entry("history_change_reason", &self.reason)?;
        map.serialize_entry("history_context", &raw(&self.context))?;
        map.serialize_entry("history_tx", &self.tx)?;
        if self.old_key.is_some() {
            map.serialize_entry("history_old_key", &raw(&self.old_key))?;
        }
        self.serialize_origin(map)
    }

    fn serialize_origin<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        match &self.archive {
            Some(archive) => map.serialize_entry("archive", &**archive),
            None => Ok(()),
        }
    }
}
