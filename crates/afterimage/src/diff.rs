//! Two versions of a row compared, with the labels of the rows they refer to.

use std::collections::BTreeMap;

use afterimage_core::diff::{self, DiffOptions, FieldDiff};
use afterimage_core::{Action, Moment, Table, TableName, Value, Version};

use crate::catalog::{self, Entry};
use crate::database::Afterimage;
use crate::error::Result;
use crate::session::Session;
use crate::versions::{self, Selector};
use crate::{introspect, migrate};

/// Two versions of a row, and how they differ.
#[derive(Debug, Clone, PartialEq)]
pub struct Diff {
    /// The version that is compared.
    pub from: Version,
    /// The version that it is compared with.
    pub to: Version,
    /// The fields that differ.
    pub fields: Vec<FieldDiff>,
    /// For fields that refer to a row of another table: what that row was called then, on either side.
    pub labels: BTreeMap<String, [Option<Label>; 2]>,
}

/// A row that another refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Label {
    /// What it was called at that time.
    Named(String),
    /// It is there, and has no label of its own.
    Unnamed,
    /// It was deleted, and what it was called last.
    Deleted(Option<String>),
}

/// A row of another table that a version refers to.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Referred {
    /// The column that refers to it.
    pub column: String,
    /// Its table.
    pub table: TableName,
    /// Its key.
    pub key: Value,
    /// What it was called then.
    pub label: Label,
    /// Whether its table is tracked, so that it has versions of its own.
    pub tracked: bool,
}

impl std::fmt::Display for Label {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name),
            Self::Unnamed => Ok(()),
            Self::Deleted(Some(name)) => write!(f, "{name}, deleted"),
            Self::Deleted(None) => f.write_str("deleted"),
        }
    }
}

impl Afterimage {
    /// Compares two versions of a row. Where a field refers to a row of another table that is tracked with a label, the
    /// label of that time comes with it.
    pub async fn diff(
        &self,
        table: &str,
        key: &str,
        from: &Selector,
        to: &Selector,
        options: &DiffOptions,
    ) -> Result<Diff> {
        self.reading(async |session| {
            let entry = catalog::find(session, table).await?;
            let versions = versions::of_row(session, &entry, key).await?;
            let from = versions::select(session, &entry, &versions, from).await?.clone();
            let to = versions::select(session, &entry, &versions, to).await?.clone();
            let state = |version: &Version| match version.header.action {
                // Nothing is left of a deleted row.
                Action::Delete => Vec::new(),
                _ => named_as_of(&entry, version, to.header.date),
            };
            let fields = diff::diff(&state(&from), &state(&to), options)
                .map_err(|error| crate::Error::from(error).on(&entry.table))?;
            let labels = labels(session, &entry, &fields, [&from, &to]).await?;
            Ok(Diff { from, to, fields, labels })
        })
        .await
    }
}

/// A row of a version, its columns called as they were at a moment: a column is the same whatever it was called.
fn named_as_of(entry: &Entry, version: &Version, moment: Moment) -> Vec<(String, Value)> {
    let (Some(then), Some(there)) = (entry.layout_at(version.header.date), entry.layout_at(moment)) else {
        return version.row.clone();
    };
    let called = |name: &String| {
        let bit = then.field(name)?.bit;
        there.fields.iter().find(|field| field.bit == bit).map(|field| field.name.clone())
    };
    version
        .row
        .iter()
        .map(|(name, value)| (called(name).unwrap_or_else(|| name.clone()), value.clone()))
        .collect()
}

impl Afterimage {
    /// The rows that a version of a row refers to, by foreign keys of one column, as they were called when it began.
    pub async fn referred(&self, table: &str, version: &Version) -> Result<Vec<Referred>> {
        self.reading(async |session| {
            let entry = catalog::find(session, table).await?;
            let Ok(today) = migrate::find_today(session, &entry).await else { return Ok(Vec::new()) };
            let mut referred = Vec::new();
            for reference in introspect::references(session, &today).await? {
                let [column] = reference.columns.as_slice() else { continue };
                let value = version.row.iter().find(|(name, _)| name == column).map(|(_, value)| value);
                let Some(key) = value.filter(|value| value.is_known()) else {
                    continue;
                };
                if let Some(label) = label_of(session, &reference.target, key, version).await? {
                    let tracked = catalog::find_exact(session, &reference.target).await?.is_some();
                    let table = introspect::seen(session, &reference.target).await?;
                    let (column, key) = (column.clone(), key.clone());
                    referred.push(Referred { column, table, key, label, tracked });
                }
            }
            Ok(referred)
        })
        .await
    }
}

async fn labels(
    session: &mut Session,
    entry: &Entry,
    fields: &[FieldDiff],
    versions: [&Version; 2],
) -> Result<BTreeMap<String, [Option<Label>; 2]>> {
    let mut labels = BTreeMap::new();
    let Ok(table) = migrate::find_today(session, entry).await else { return Ok(labels) };
    for reference in introspect::references(session, &table).await? {
        let [column] = reference.columns.as_slice() else { continue };
        let Some(field) = fields.iter().find(|field| field.field == *column) else { continue };
        let mut both = [None, None];
        for ((label, value), version) in both.iter_mut().zip([&field.old, &field.new]).zip(versions) {
            if value.is_known() {
                *label = label_of(session, &reference.target, value, version).await?;
            }
        }
        if both.iter().any(Option::is_some) {
            labels.insert(column.clone(), both);
        }
    }
    Ok(labels)
}

/// What a row was called when a version began; of one that has been deleted since, that too.
async fn label_of(
    session: &mut Session,
    target: &TableName,
    key: &Value,
    version: &Version,
) -> Result<Option<Label>> {
    let Some(entry) = catalog::find_exact(session, target).await? else {
        let eyes = session.remembered().eyes.clone();
        return if eyes.see(session, target).await? {
            untracked(session, target, key).await
        } else {
            Ok(None)
        };
    };
    let Ok(mut versions) = versions::of_row(session, &entry, &key.to_string()).await else { return Ok(None) };
    let gone = versions.last().is_some_and(|last| last.header.action == Action::Delete);
    versions.retain(|then| then.header.date <= version.header.date);
    let column = entry.tracking.label.as_deref();
    let named = versions
        .last()
        .and_then(|then| then.row.iter().find(|(name, _)| Some(name.as_str()) == column))
        .map(|(_, value)| value.to_string());
    Ok(Some(match (gone, named) {
        (true, named) => Label::Deleted(named),
        (false, Some(named)) => Label::Named(named),
        (false, None) => Label::Unnamed,
    }))
}

/// Of a table that is not tracked it can only be said whether the row is there.
async fn untracked(session: &mut Session, target: &TableName, key: &Value) -> Result<Option<Label>> {
    let Some(table): Option<Table> = introspect::exact(session, target).await? else {
        return Ok(Some(Label::Deleted(None)));
    };
    let [name] = table.key.as_slice() else { return Ok(None) };
    let Some(column) = table.column(name) else { return Ok(None) };
    let sql = session.dialect().row_exists(target, &[column], std::slice::from_ref(key));
    let there = session.int(&sql, &[]).await? == Some(1);
    Ok(Some(if there { Label::Unnamed } else { Label::Deleted(None) }))
}
