//! Records as entries of the log.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use afterimage_core::matching::{Changed, Matcher, Seen};
use afterimage_core::query::Query;
use afterimage_core::record::{Record, epoch_at};
use afterimage_core::sql::log::{self as sql, Position};
use afterimage_core::sql::question::Question;
use afterimage_core::sql::{First, retention};
use afterimage_core::{Action, Field, FieldChange, Header, Value, layout};

use super::LogEntry;
use super::source::LogSource;
use crate::error::{Error, ErrorKind, Result};
use crate::key;
use crate::redact::texts;
use crate::session::{Cell, Row, Session};
use crate::shelf::{Shelf, Shelved};
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

/// Entries, by the place of their history and their number.
pub(super) type Entries = HashMap<(usize, i64), SeenEntry>;

/// The records at some positions.
pub(super) async fn entries(
    session: &mut Session,
    sources: &[LogSource],
    found: &[(usize, Position)],
) -> Result<Entries> {
    let mut entries = HashMap::with_capacity(found.len());
    for (part, source) in sources.iter().enumerate() {
        let positions: Vec<Position> =
            found.iter().filter(|(of, _)| *of == part).map(|(_, position)| *position).collect();
        if positions.is_empty() {
            continue;
        }
        let question = session.dialect().records_at(&source.source()?, source.read(), &positions);
        let records = records(session, source, question).await?;
        take_in(session, part, source, records, &mut entries).await?;
    }
    Ok(entries)
}

/// The newest records of the only history that may answer: where they stand, and those that may be told.
pub(super) async fn newest(
    session: &mut Session,
    source: &LogSource,
    query: &Query,
    after: Option<Position>,
    limit: u64,
) -> Result<(Vec<(usize, Position)>, Entries)> {
    let question =
        sql::newest_records(session.dialect(), &source.part(query)?, source.read(), query, after, limit);
    let records = records(session, source, question).await?;
    let mut found: Vec<(usize, Position)> = records.iter().map(|(record, _)| (0, at(record))).collect();
    found.sort_by_key(|(_, position)| Reverse(*position));
    let mut entries = HashMap::with_capacity(found.len());
    take_in(session, 0, source, records, &mut entries).await?;
    Ok((found, entries))
}

/// Records, each with what its row was before it.
async fn records(
    session: &mut Session,
    source: &LogSource,
    question: Question,
) -> Result<Vec<(Record, Vec<Value>)>> {
    let question = source.entry.asked(question);
    let mut records = Vec::new();
    // Each is taken in while the database finds the next.
    let take = |row| {
        records.push(record_and_before(row, source)?);
        Ok(true)
    };
    session.each_answer(&question, take).await.map_err(|error| error.on(&source.entry.table))?;
    Ok(records)
}

/// Puts records of the history of this place among the entries.
async fn take_in(
    session: &mut Session,
    part: usize,
    source: &LogSource,
    records: Vec<(Record, Vec<Value>)>,
    entries: &mut Entries,
) -> Result<()> {
    let positions: Vec<Position> = records.iter().map(|(record, _)| at(record)).collect();
    let begins = first_of_their_row(session, source, &positions).await?;
    let unknown = |(record, olds): &&(Record, Vec<Value>)| is_unknown(record, olds, &begins);
    let unknown: Vec<&Record> = records.iter().filter(unknown).map(|(record, _)| record).collect();
    let mut before = archived_before(session, source, &unknown).await?;
    for (record, olds) in records {
        let id = record.header.id;
        let seen = match before.remove(&id) {
            // SQL could not tell what it referred to before.
            Some(before) if !source.refers_to(&record, &before) => continue,
            Some(before) => seen(source, record, before, false)?,
            None => {
                let unknown = is_unknown(&record, &olds, &begins);
                seen(source, record, olds, unknown)?
            }
        };
        entries.insert((part, id), seen);
    }
    Ok(())
}

fn at(record: &Record) -> Position {
    (record.header.date, record.header.id)
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

/// A record, and what its row was before it.
fn record_and_before(mut row: Row, source: &LogSource) -> Result<(Record, Vec<Value>)> {
    let olds = row.split_off(row.len() - source.fields.len());
    let record = versions::record(row, source.layout()?, &source.fields)?;
    let olds = source.fields.iter().zip(olds).map(|(field, cell)| versions::value(field, cell)).collect();
    Ok((record, olds))
}

fn arrived(header: &Header) -> bool {
    header.action == Action::Create && header.old_key.is_some()
}

/// Whether no record in the database tells what was before one.
fn is_unknown(record: &Record, olds: &[Value], begins: &HashSet<i64>) -> bool {
    match record.header.action {
        Action::Update => begins.contains(&record.header.id),
        // Of a departure that is left, at least the key would be there.
        _ => arrived(&record.header) && olds.iter().all(Value::is_null),
    }
}

/// What an archive tells of what was before some records, which no other tells: by their numbers.
async fn archived_before(
    session: &mut Session,
    source: &LogSource,
    unknown: &[&Record],
) -> Result<HashMap<i64, Vec<Value>>> {
    let mut before = HashMap::new();
    let Some(until) = source.entry.archived_until().filter(|_| !unknown.is_empty()) else {
        return Ok(before);
    };
    if unknown.iter().all(|record| record.header.date > until) {
        return Ok(before);
    }
    let Some(shelf) = Shelf::of(session, &source.entry).await? else { return Ok(before) };
    let changed: Vec<Position> =
        unknown.iter().filter(|record| !arrived(&record.header)).map(|record| at(record)).collect();
    for shelved in shelf.before(&changed, false).await? {
        before.insert(shelved.until.1, shelved.record.values);
    }
    let layout = source.layout()?;
    let arrivals: Vec<&&Record> = unknown.iter().filter(|record| arrived(&record.header)).collect();
    let dates = arrivals.iter().map(|record| record.header.date).collect();
    let departures = shelf.of_moments(&dates).await?;
    for record in arrivals {
        let Some(old_key) = &record.header.old_key else { continue };
        let old_key = texts(&key::values(layout, old_key)?);
        let departed = |shelved: &&Shelved| {
            shelved.record.header.action == Action::Delete
                && shelved.record.header.date == record.header.date
                && texts(&versions::key_of(layout, &source.fields, &shelved.record.values)) == old_key
        };
        if let Some(from) = departures.iter().find(departed) {
            before.insert(record.header.id, from.record.values.clone());
        }
    }
    Ok(before)
}

/// Whose departures these are, by key as texts: the numbers of those that an arrival in an archive tells.
pub(super) async fn departed(
    session: &mut Session,
    source: &LogSource,
    departures: &[(Position, Vec<String>)],
) -> Result<HashSet<i64>> {
    let Some(until) = source.entry.archived_until() else { return Ok(HashSet::new()) };
    let old = departures.iter().filter(|((date, _), _)| *date <= until);
    let old: Vec<&(Position, Vec<String>)> = old.collect();
    if old.is_empty() {
        return Ok(HashSet::new());
    }
    let Some(shelf) = Shelf::of(session, &source.entry).await? else { return Ok(HashSet::new()) };
    let dates = old.iter().map(|((date, _), _)| *date).collect();
    let layout = source.layout()?;
    let mut told = HashSet::new();
    for arrival in shelf.of_moments(&dates).await? {
        let header = arrival.record.header;
        let Some(old_key) = header.old_key.as_deref() else { continue };
        let old_key = texts(&key::values(layout, old_key)?);
        let left = |((date, id), key): &&&(Position, Vec<String>)| {
            *date == header.date && *id < header.id && *key == old_key
        };
        told.extend(old.iter().find(left).map(|((_, id), _)| *id));
    }
    Ok(told)
}

/// What records of an archive do not tell of what was before them, because another archive does.
pub(super) async fn complete(
    session: &mut Session,
    source: &LogSource,
    shelved: &mut [Shelved],
) -> Result<()> {
    let unknown = |shelved: &&Shelved| shelved.before.contains(&Value::Unknown);
    let records: Vec<&Record> = shelved.iter().filter(unknown).map(|shelved| &shelved.record).collect();
    let before = archived_before(session, source, &records).await?;
    for one in shelved {
        let Some(before) = before.get(&one.record.header.id) else { continue };
        for (old, known) in one.before.iter_mut().zip(before) {
            if *old == Value::Unknown {
                old.clone_from(known);
            }
        }
    }
    Ok(())
}

/// An entry for a record of an archive.
pub(super) fn archived(source: &LogSource, shelved: Shelved) -> Result<SeenEntry> {
    // Of each field that it changed it is known what it was, or that it is not.
    seen(source, shelved.record, shelved.before, false)
}

fn seen(source: &LogSource, mut record: Record, mut olds: Vec<Value>, unknown: bool) -> Result<SeenEntry> {
    let layout = source.layout()?;
    let header = record.header;
    let epoch = epoch_at(&source.entry.epochs, header.date).ok_or_else(|| {
        Error::new(ErrorKind::Unknowable, "the catalogue has no epoch of it").on(&source.entry.table)
    })?;
    let moved = arrived(&header);
    if header.archive.is_none() {
        let at = (header.date, header.id);
        source.entry.redact_record(&source.fields, at, &mut record.values, Some(&mut olds));
    }
    let key = layout
        .key_fields()
        .filter_map(|field| {
            let place = source.place(field)?;
            Some((field.name.clone(), record.values[place].clone()))
        })
        .collect();
    let mut changes = Vec::new();
    let mut places = Vec::new();
    for field in &epoch.layout.fields {
        let Some(place) = source.place(field).filter(|_| layout::names(&record.mask, field)) else {
            continue;
        };
        let told = std::mem::replace(&mut record.values[place], Value::Null);
        let (old, new) = match header.action {
            Action::Delete => (told, Value::Null),
            Action::Create if !moved => (Value::Null, told),
            _ if unknown => (Value::Unknown, told),
            _ => (std::mem::replace(&mut olds[place], Value::Null), told),
        };
        let same = old == new && (moved || old.is_null());
        if !same {
            changes.push(FieldChange { field: field.name.clone(), old, new });
            places.push(place);
        }
    }
    Ok(SeenEntry { entry: LogEntry { table: source.seen.clone(), key, header, changes }, places })
}
