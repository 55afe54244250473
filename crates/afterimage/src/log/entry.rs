//! Records as entries of the log.

use std::collections::{HashMap, HashSet};

use afterimage_core::matching::{Changed, Matcher, Seen};
use afterimage_core::record::{Epoch, epoch_at};
use afterimage_core::sql::log::Position;
use afterimage_core::sql::{First, retention};
use afterimage_core::{Action, Field, FieldChange, Value, layout};

use super::LogEntry;
use super::source::LogSource;
use crate::error::{Error, ErrorKind, Result};
use crate::session::{Cell, Row, Session};
use crate::versions;

/// An entry, with its values by field.
#[derive(Debug)]
pub(super) struct SeenEntry {
    pub(super) entry: LogEntry,
    /// The place among the source's fields of each change.
    places: Vec<usize>,
}

impl SeenEntry {
    pub(super) fn answers(&self, source: &LogSource, matcher: &Matcher) -> bool {
        if matcher.accepts_all() {
            return true;
        }
        let changes: Vec<Changed<'_>> = self
            .entry
            .changes
            .iter()
            .zip(&self.places)
            .map(|(change, place)| Changed {
                field: &source.fields[*place],
                names: &source.names[*place],
                old: &change.old,
                new: &change.new,
            })
            .collect();
        let key: Vec<(&Field, &Value)> = self
            .entry
            .key
            .iter()
            .filter_map(|(name, value)| {
                Some((source.fields.iter().find(|field| field.name == *name)?, value))
            })
            .collect();
        let header = &self.entry.header;
        let label = header.context_member("label");
        matcher.accepts(&Seen {
            user: header.user.as_deref(),
            label: label.as_deref(),
            reason: header.reason.as_deref(),
            key: &key,
            changes: &changes,
        })
    }
}

/// The records at some positions, by history and number.
pub(super) async fn entries(
    session: &mut Session,
    sources: &[LogSource],
    found: &[(usize, Position)],
) -> Result<HashMap<(usize, i64), SeenEntry>> {
    let mut entries = HashMap::with_capacity(found.len());
    for (part, source) in sources.iter().enumerate() {
        let positions: Vec<Position> =
            found.iter().filter(|(of, _)| *of == part).map(|(_, position)| *position).collect();
        if positions.is_empty() {
            continue;
        }
        let begins = first_of_their_row(session, source, &positions).await?;
        let sql = session.dialect().records_at(&source.source()?, &positions);
        for row in session.ask(&sql).await.map_err(|error| error.on(&source.entry.table))? {
            let seen = entry(row, source, &begins)?;
            entries.insert((part, seen.entry.header.id), seen);
        }
    }
    Ok(entries)
}

/// Of these records, those before which no record of their row is left, where that is not how all rows begin.
async fn first_of_their_row(
    session: &mut Session,
    source: &LogSource,
    positions: &[Position],
) -> Result<HashSet<i64>> {
    let may_begin: Vec<Position> = match source.entry.first() {
        First::Creation => Vec::new(),
        First::AnyUntil(horizon) => positions.iter().filter(|(date, _)| *date <= horizon).copied().collect(),
        First::Any => positions.to_vec(),
    };
    if may_begin.is_empty() {
        return Ok(HashSet::new());
    }
    let sql = retention::first_of_their_row(session.dialect(), source.layout()?, &may_begin);
    let rows = session.ask(&sql).await.map_err(|error| error.on(&source.entry.table))?;
    Ok(rows.iter().filter_map(|row| row.first().and_then(Cell::int)).collect())
}

fn entry(mut row: Row, source: &LogSource, begins: &HashSet<i64>) -> Result<SeenEntry> {
    let layout = source.layout()?;
    let olds = row.split_off(row.len() - source.fields.len());
    let mut record = versions::record(row, layout, &source.fields)?;
    let header = record.header;
    let epoch: &Epoch = epoch_at(&source.entry.epochs, header.date).ok_or_else(|| {
        Error::new(ErrorKind::Unknowable, "the catalogue has no epoch of it").on(&source.entry.table)
    })?;
    let mut olds: Vec<Value> =
        source.fields.iter().zip(olds).map(|(field, cell)| versions::value(field, cell)).collect();
    let moved = header.action == Action::Create && header.old_key.is_some();
    // What was before it, no record tells.
    let unknown = match header.action {
        Action::Update => begins.contains(&header.id),
        // Of a departure that is left, at least the key would be there.
        _ => moved && olds.iter().all(Value::is_null),
    };
    source.entry.redact_record(&source.fields, (header.date, header.id), &mut record.values, Some(&mut olds));
    let mut changes = Vec::new();
    let mut places = Vec::new();
    for field in &epoch.layout.fields {
        let Some(place) = source.fields.iter().position(|known| known.bit == field.bit) else { continue };
        if !layout::names(&record.mask, field) {
            continue;
        }
        let (old, new) = match header.action {
            Action::Delete => (record.values[place].clone(), Value::Null),
            Action::Create if !moved => (Value::Null, record.values[place].clone()),
            _ if unknown => (Value::Unknown, record.values[place].clone()),
            _ => (olds[place].clone(), record.values[place].clone()),
        };
        let same = old == new && (moved || old.is_null());
        if !same {
            changes.push(FieldChange { field: field.name.clone(), old, new });
            places.push(place);
        }
    }
    let key = layout
        .key_fields()
        .filter_map(|field| {
            let place = source.fields.iter().position(|known| known.bit == field.bit)?;
            Some((field.name.clone(), record.values[place].clone()))
        })
        .collect();
    Ok(SeenEntry { entry: LogEntry { table: source.seen.clone(), key, header, changes }, places })
}
