//! What writing a version back would do, field by field, and what stands in the way: for whoever chooses.

use afterimage_core::{Action, Field, Keeping, Layout, Value, Version};

use crate::catalog::{self, Entry};
use crate::database::Afterimage;
use crate::error::Result;
use crate::migrate;
use crate::versions::{self, Selector};

/// What reverting a row would change. See [`Afterimage::preview_revert`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RevertPreview {
    /// The version that would be written back.
    pub target: Version,
    /// The current version: of a row that is deleted, its deletion.
    pub current: Version,
    /// The fields that differ; of a row that is deleted, all of them.
    pub fields: Vec<PreviewedField>,
}

/// A field that reverting would change, or cannot.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PreviewedField {
    /// What it is called today; what it was called then, where it is no column any more.
    pub field: String,
    /// What it is now; NULL, where the row is deleted.
    pub now: Value,
    /// What it was.
    pub then: Value,
    /// Why it cannot be written back, where it cannot.
    pub obstacle: Option<Obstacle>,
}

/// Why a field cannot be written back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Obstacle {
    /// It is of the key, by which the row is found.
    Key,
    /// The database computes it.
    Computed,
    /// It is masked: what it was is kept nowhere.
    Masked,
    /// It was redacted: what it was is kept nowhere.
    Redacted,
    /// It is hidden from whoever asks.
    Hidden,
    /// It was no column then.
    New,
    /// It is no column any more.
    Gone,
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Key => "it is of the key, by which the row is found",
            Self::Computed => "the database computes it",
            Self::Masked => "what it was is kept nowhere",
            Self::Redacted => "it was redacted: what it was is kept nowhere",
            Self::Hidden => "it is hidden from you",
            Self::New => "it was no column then, and stays as it is",
            Self::Gone => "it is no column any more",
        })
    }
}

impl Afterimage {
    /// What [`revert`](Self::revert) of a row would change, field by field, without writing anything: what can be chosen with
    /// [`Revert::fields`](crate::Revert::fields), and what cannot.
    pub async fn preview_revert(&self, table: &str, key: &str, to: &Selector) -> Result<RevertPreview> {
        self.reading(async |session| {
            let entry = catalog::find(session, table).await?;
            let versions = versions::of_row(session, &entry, key).await?;
            let target = versions::select(session, &entry, &versions, to).await?.clone();
            let current = versions::select(session, &entry, &versions, &Selector::Current).await?.clone();
            let computed: Vec<String> = migrate::find_today(session, &entry)
                .await?
                .columns
                .into_iter()
                .filter(|column| column.generated)
                .map(|column| column.name)
                .collect();
            let since = versions.iter().filter(|version| version.number > target.number);
            let changed = |field: &Field| {
                since.clone().any(|version| {
                    let name = entry.layout_at(version.header.date).and_then(|layout| name_of(layout, field));
                    version.changes.iter().any(|change| Some(change.field.as_str()) == name)
                })
            };
            let fields = fields(&entry, &target, &current, &computed, changed)?;
            Ok(RevertPreview { target, current, fields })
        })
        .await
    }
}

/// What a field was called in a layout.
fn name_of<'l>(layout: &'l Layout, field: &Field) -> Option<&'l str> {
    layout.fields.iter().find(|known| known.bit == field.bit).map(|known| known.name.as_str())
}

fn fields(
    entry: &Entry,
    target: &Version,
    current: &Version,
    computed: &[String],
    changed: impl Fn(&Field) -> bool,
) -> Result<Vec<PreviewedField>> {
    let today = entry.layout()?;
    let gone = current.header.action == Action::Delete;
    let value = |version: &Version, field: &Field| {
        let name = name_of(entry.layout_at(version.header.date)?, field)?;
        version.row.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    };
    let mut fields = Vec::new();
    for field in &today.fields {
        let now = if gone { None } else { value(current, field) };
        let was = value(target, field);
        let masked = field.keeping == Keeping::Masked;
        let differs = if gone { was.is_some() } else { now != was || masked && changed(field) };
        if !differs {
            continue;
        }
        let obstacle = match &was {
            None => Some(Obstacle::New),
            Some(_) if entry.hides(field) => Some(Obstacle::Hidden),
            Some(Value::Redacted) => Some(Obstacle::Redacted),
            Some(_) if masked => Some(Obstacle::Masked),
            Some(_) if gone => None,
            Some(_) if today.is_key(field) => Some(Obstacle::Key),
            Some(_) if computed.contains(&field.name) => Some(Obstacle::Computed),
            Some(_) => None,
        };
        // What is NULL is no secret, and can be given back.
        let obstacle = obstacle.filter(|_| !(gone && was.as_ref().is_some_and(Value::is_null)));
        let (now, then) = (now.unwrap_or(Value::Null), was.unwrap_or(Value::Null));
        fields.push(PreviewedField { field: field.name.clone(), now, then, obstacle });
    }
    let before = entry.layout_at(target.header.date).map_or(&[][..], |layout| layout.fields.as_slice());
    for field in before.iter().filter(|field| name_of(today, field).is_none()) {
        if let Some(then) = value(target, field).filter(|value| !value.is_null()) {
            let obstacle = Some(Obstacle::Gone);
            fields.push(PreviewedField { field: field.name.clone(), now: Value::Null, then, obstacle });
        }
    }
    Ok(fields)
}
