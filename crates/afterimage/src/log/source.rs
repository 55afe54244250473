//! The histories that a query is about, and what it asks of each.

use std::sync::Arc;

use afterimage_core::query::Query;
use afterimage_core::record::all_fields;
use afterimage_core::sql::log::{Part, Read, Source};
use afterimage_core::{Field, Layout, Record, TableName, Value, layout, suggest};

use super::LogQuery;
use crate::catalog::{self, Entry, Gap};
use crate::error::{Error, ErrorKind, Result};
use crate::session::Session;
use crate::{introspect, key};

/// One history that may answer, with what the query asks of it.
#[derive(Debug)]
pub(crate) struct LogSource {
    pub(super) entry: Arc<Entry>,
    pub(super) seen: TableName,
    pub(super) fields: Vec<Field>,
    /// By a field's bit, where it stands among these.
    places: Vec<Option<usize>>,
    /// Everything that each field was ever called.
    pub(super) names: Vec<Vec<String>>,
    pub(crate) keys: Vec<Vec<Value>>,
    pub(super) not_keys: Vec<Vec<Value>>,
    /// Foreign keys, by columns and values, of which one must be the row's.
    pub(crate) refers: Vec<Vec<(String, Value)>>,
    /// Only the newest record of each row.
    latest: bool,
}

impl LogSource {
    pub(crate) async fn new(session: &mut Session, entry: Arc<Entry>) -> Result<Self> {
        let fields = all_fields(&entry.epochs);
        let names = fields
            .iter()
            .map(|field| {
                let epochs = entry.epochs.iter().flat_map(|epoch| &epoch.layout.fields);
                epochs.filter(|then| then.bit == field.bit).map(|then| then.name.clone()).collect()
            })
            .collect();
        let mut places = Vec::new();
        for (place, field) in fields.iter().enumerate() {
            let bit = usize::from(field.bit);
            places.resize(places.len().max(bit + 1), None);
            places[bit] = Some(place);
        }
        let seen = introspect::seen(session, &entry.table).await?;
        Ok(Self {
            entry,
            seen,
            fields,
            places,
            names,
            keys: Vec::new(),
            not_keys: Vec::new(),
            refers: Vec::new(),
            latest: false,
        })
    }

    pub(super) fn layout(&self) -> Result<&Layout> {
        self.entry.layout()
    }

    /// Where a field of any epoch stands among those of all.
    pub(super) fn place(&self, field: &Field) -> Option<usize> {
        self.places.get(usize::from(field.bit)).copied().flatten()
    }

    pub(super) fn source(&self) -> Result<Source<'_>> {
        Ok(Source { layout: self.layout()?, fields: &self.fields, sparse: self.entry.sparse() })
    }

    /// What is read of its records. Where an archive may tell what was before one, [`refers_to`](Self::refers_to) looks at what it
    /// did not change, too.
    pub(super) fn read(&self) -> Read {
        let told_elsewhere = !self.refers.is_empty() && self.entry.archived_until().is_some();
        if told_elsewhere { Read::All } else { Read::Changed }
    }

    pub(super) fn part(&self, query: &Query) -> Result<Part<'_>> {
        let wanted = &query.change.fields;
        let called = |names: &[String]| names.iter().any(|name| wanted.contains(name));
        Ok(Part {
            source: self.source()?,
            keys: self.keys.clone(),
            not_keys: self.not_keys.clone(),
            changed: self
                .fields
                .iter()
                .zip(&self.names)
                .filter(|(_, names)| called(names))
                .map(|(field, _)| field)
                .collect(),
            refers: self
                .refers
                .iter()
                .map(|key| {
                    let field = |name: &String| self.fields.iter().find(|field| field.name == *name);
                    key.iter().filter_map(|(name, value)| Some((field(name)?, value.clone()))).collect()
                })
                .collect(),
            latest: self.latest,
            archived_until: self.entry.archived_until(),
        })
    }

    /// Whether the row of a record referred to what is asked for, before it or after it. Of the record all was
    /// [read](Self::read), and it holds the whole row.
    pub(super) fn refers_to(&self, record: &Record, before: &[Value]) -> bool {
        let referred = |key: &Vec<(String, Value)>| {
            let side = |old: bool| {
                key.iter().all(|(name, value)| {
                    let place = self.fields.iter().position(|field| field.name == *name);
                    place.is_some_and(|place| {
                        let changed = layout::names(&record.mask, &self.fields[place]);
                        let then = if old && changed { &before[place] } else { &record.values[place] };
                        then.to_string() == value.to_string()
                    })
                })
            };
            side(false) || side(true)
        };
        self.refers.is_empty() || self.refers.iter().any(referred)
    }

    fn ever_had(&self, field: &str) -> bool {
        self.names.iter().flatten().any(|name| name == field)
    }
}

/// The tables that a query is about.
pub(crate) async fn entries_asked(session: &mut Session, query: &LogQuery) -> Result<Vec<Arc<Entry>>> {
    Ok(sources(session, query).await?.into_iter().map(|source| source.entry).collect())
}

/// The histories that a query is about.
pub(super) async fn sources(session: &mut Session, query: &LogQuery) -> Result<Vec<LogSource>> {
    let LogQuery { query, latest, .. } = query;
    let mut chosen: Vec<Arc<Entry>> = Vec::new();
    if query.tables.wanted.is_empty() {
        chosen = catalog::entries(session).await?;
    }
    for name in &query.tables.wanted {
        let entry = catalog::find(session, name).await?;
        if chosen.iter().all(|known| known.id != entry.id) {
            chosen.push(entry);
        }
    }
    for name in &query.tables.not {
        let entry = catalog::find(session, name).await?;
        chosen.retain(|known| known.id != entry.id);
    }
    let mut sources = Vec::new();
    for entry in chosen {
        let Ok(layout) = entry.layout() else { continue };
        let read = |texts: &[String]| -> Result<Vec<Vec<Value>>> {
            let mut keys = Vec::new();
            for text in texts {
                match key::values(layout, text) {
                    Ok(key) => keys.push(key),
                    // A key that is one of other tables only.
                    Err(_) if query.tables.wanted.is_empty() => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(keys)
        };
        let (keys, not_keys) = (read(&query.keys.wanted)?, read(&query.keys.not)?);
        if keys.is_empty() && !query.keys.wanted.is_empty() {
            continue;
        }
        sources.push(LogSource { keys, not_keys, latest: *latest, ..LogSource::new(session, entry).await? });
    }
    for name in query.change.fields.iter().chain(query.no_change.iter().flat_map(|not| &not.fields)) {
        if !sources.is_empty() && !sources.iter().any(|source| source.ever_had(name)) {
            let known = sources.iter().flat_map(|source| &source.fields).map(|field| field.name.as_str());
            let hint = suggest::hint(name, known);
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("no table asked about has a tracked column {name:?}{hint}"),
            ));
        }
    }
    if !query.change.fields.is_empty() {
        sources.retain(|source| query.change.fields.iter().any(|name| source.ever_had(name)));
    }
    Ok(sources)
}

/// The gaps, within the time asked for, of a history, and the stretch of which records were removed.
pub(crate) fn gaps_of(entry: &Entry, query: &Query) -> Vec<Gap> {
    let concerns = |gap: &Gap| {
        query.before.is_none_or(|before| gap.from < before)
            && query.from.is_none_or(|from| gap.to.is_none_or(|to| to > from))
    };
    entry.gaps.iter().cloned().chain(entry.removed()).filter(concerns).collect()
}

/// The gaps of these histories.
pub(super) fn gaps(sources: &[LogSource], query: &Query) -> Vec<(TableName, Gap)> {
    sources
        .iter()
        .flat_map(|source| gaps_of(&source.entry, query).into_iter().map(|gap| (source.seen.clone(), gap)))
        .collect()
}
