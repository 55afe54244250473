//! The versions of a row: all of them, or the one in force at a time.

use std::collections::HashSet;

use afterimage_core::record::{Epoch, Fold, Record, all_fields};
use afterimage_core::sql::Bound;
use afterimage_core::sql::archive::arrivals;
use afterimage_core::sql::log::Position;
#[cfg(feature = "mysql")]
use afterimage_core::sql::mariadb;
use afterimage_core::{Action, Field, Header, Layout, Moment, Value, Version, layout};

use crate::catalog::{self, Entry};
use crate::database::Afterimage;
use crate::error::{Error, ErrorKind, Result};
use crate::key;
use crate::redact::texts;
#[cfg(feature = "mysql")]
use crate::session::real;
use crate::session::{Cell, Row, Session};
use crate::shelf::Shelf;

/// A point in time, as people mean it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PointInTime {
    /// Now.
    Now,
    /// A moment; what is dated exactly then is part of it.
    At(Moment),
    /// Right after a transaction.
    After(String),
}

impl PointInTime {
    /// Reads `tx:ID`, `now`, or a time.
    pub fn parse(text: &str, zone: &str) -> Result<Self> {
        if let Some(tx) = text.strip_prefix("tx:") {
            return Ok(Self::After(tx.to_owned()));
        }
        Ok(Self::At(Moment::parse(text, Moment::now(), zone)?))
    }
}

/// One of a row's versions, as people name it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Selector {
    /// By its number.
    Number(u64),
    /// The newest.
    Current,
    /// The one before the newest.
    Previous,
    /// By the `history_id` of its record.
    Record(i64),
    /// The one in force at a time.
    At(PointInTime),
}

impl Selector {
    /// Reads a number, `current`, `previous`, `id:N` for a `history_id`, a time, or `tx:ID`.
    pub fn parse(text: &str, zone: &str) -> Result<Self> {
        let digits = text.strip_prefix('v').unwrap_or(text);
        if !digits.is_empty() && digits.len() < 8 && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(Self::Number(digits.parse().unwrap_or_default()));
        }
        match text {
            "current" | "now" => Ok(Self::Current),
            "previous" => Ok(Self::Previous),
            _ => match text.strip_prefix("id:").and_then(|id| id.parse().ok()) {
                Some(id) => Ok(Self::Record(id)),
                None => Ok(Self::At(PointInTime::parse(text, zone)?)),
            },
        }
    }
}

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => write!(f, "version {number}"),
            Self::Current => f.write_str("the current version"),
            Self::Previous => f.write_str("the previous version"),
            Self::Record(id) => write!(f, "the version of record {id}"),
            Self::At(PointInTime::Now) => f.write_str("the version of now"),
            Self::At(PointInTime::At(moment)) => write!(f, "the version of {moment}"),
            Self::At(PointInTime::After(tx)) => write!(f, "the version after transaction {tx}"),
        }
    }
}

/// The version that is meant, of a row's versions, oldest first.
pub(crate) async fn select<'v>(
    session: &mut Session,
    entry: &Entry,
    versions: &'v [Version],
    selector: &Selector,
) -> Result<&'v Version> {
    let found = match selector {
        Selector::Number(number) => {
            usize::try_from(*number).ok().and_then(|n| versions.get(n.checked_sub(1)?))
        }
        Selector::Current => versions.last(),
        Selector::Previous => versions.len().checked_sub(2).and_then(|n| versions.get(n)),
        Selector::Record(id) => versions.iter().find(|version| version.header.id == *id),
        Selector::At(at) => {
            let point = crate::as_of::resolve(session, entry, at).await?;
            crate::as_of::answerable_of_row(entry, point.bound, None)?;
            let found = versions.iter().rev().find(|version| point.shows(&version.header));
            if let (None, Some(error)) = (found, crate::as_of::removed(entry, point.bound)) {
                return Err(error);
            }
            found
        }
    };
    found.ok_or_else(|| {
        let message = match (selector, versions.len()) {
            (Selector::At(at), _) => format!("the row did not exist yet at {}", said(at)),
            (_, 1) => format!("there is no such version: {selector}; it has one"),
            (_, count) => format!("there is no such version: {selector}; it has {count}"),
        };
        Error::new(ErrorKind::NotFound, message).on(&entry.table)
    })
}

fn said(at: &PointInTime) -> String {
    match at {
        PointInTime::Now => "now".to_owned(),
        PointInTime::At(moment) => moment.to_string(),
        PointInTime::After(tx) => format!("the end of transaction {tx}"),
    }
}

/// A column that no record fills is wider than any row has: no more key changes than this are followed.
const LONGEST_LINEAGE: usize = 1000;

impl Afterimage {
    /// All versions of a row, newest first, through every change of its key.
    pub async fn history(&self, table: &str, key: &str) -> Result<Vec<Version>> {
        self.answering(async |session| {
            let entry = catalog::find(session, table).await?;
            let mut versions = of_row(session, &entry, key).await?;
            versions.reverse();
            Ok(versions)
        })
        .await
    }

    /// One version of a row.
    pub async fn version(&self, table: &str, key: &str, selector: &Selector) -> Result<Version> {
        let ask = async |session: &mut Session| {
            let entry = catalog::find(session, table).await?;
            let versions = of_row(session, &entry, key).await?;
            select(session, &entry, &versions, selector).await.cloned()
        };
        // What a time is takes a question of its own.
        match selector {
            Selector::At(_) => self.reading(ask).await,
            _ => self.answering(ask).await,
        }
    }

    /// The row as of a time: the version in force then, which may be its deletion. An error where it did not exist
    /// yet, or where the history cannot say.
    pub async fn show(&self, table: &str, key: &str, at: &PointInTime) -> Result<Version> {
        let ask = async |session: &mut Session| {
            let entry = catalog::find(session, table).await?;
            let values = key::values(entry.layout()?, key)?;
            if let (true, PointInTime::At(moment)) = (session.remembered().guesses(), at) {
                return settled(session, &entry, key, &values, Bound::Time(*moment)).await;
            }
            let point = crate::as_of::resolve(session, &entry, at).await?;
            crate::as_of::answerable_of_row(&entry, point.bound, Some(key))?;
            let records = match entry.is_archived_at(point.bound) {
                true => read(session, &entry, &values, point.bound).await?,
                false => kept(session, &entry, &values, point.bound, &[]).await?,
            };
            let known = !records.is_empty();
            let finished: Vec<Record> = records
                .into_iter()
                .filter(|record| !record.header.tx.as_ref().is_some_and(|tx| point.unfinished.contains(tx)))
                .collect();
            if let Some(version) = fold(&entry.epochs, finished)?.pop() {
                return Ok(version);
            }
            if let Some(error) = crate::as_of::removed(&entry, point.bound) {
                return Err(error);
            }
            Err(if known || !read(session, &entry, &values, Bound::Now).await?.is_empty() {
                Error::new(ErrorKind::NotFound, format!("the row {key} did not exist yet")).on(&entry.table)
            } else {
                no_record(&entry, key)
            })
        };
        // Where transactions took long, which had not ended is a question of its own.
        if self.remembered().knows_long_ones() { self.reading(ask).await } else { self.answering(ask).await }
    }
}

/// The row as of a time, by the one question of a session that is in no transaction; an error where there is more to ask.
async fn settled(
    session: &mut Session,
    entry: &Entry,
    key: &str,
    values: &[Value],
    bound: Bound,
) -> Result<Version> {
    crate::as_of::answerable_of_row(entry, bound, Some(key))?;
    let all = catalog::entries(session).await?;
    if !catalog::may_be_kept(&all) || all.iter().any(|entry| entry.is_archived_at(bound)) {
        return Err(session.asks_more());
    }
    let records = kept(session, entry, values, bound, &catalog::histories(&all)).await?;
    fold(&entry.epochs, records)?.pop().ok_or_else(|| session.asks_more())
}

/// All versions of a row, oldest first, through every change of its key.
pub(crate) async fn of_row(session: &mut Session, entry: &Entry, key: &str) -> Result<Vec<Version>> {
    let values = key::values(entry.layout()?, key)?;
    let records = lineage(session, entry, &values).await?;
    if records.is_empty() {
        return Err(no_record(entry, key));
    }
    fold(&entry.epochs, records)
}

fn no_record(entry: &Entry, key: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no record of a row {key}")).on(&entry.table)
}

fn fold(epochs: &[Epoch], records: Vec<Record>) -> Result<Vec<Version>> {
    let mut fold = Fold::new(epochs);
    records.into_iter().map(|record| fold.next(record).map_err(Error::from)).collect()
}

/// The records of one key, oldest first, wherever they are.
async fn read(session: &mut Session, entry: &Entry, key: &[Value], bound: Bound) -> Result<Vec<Record>> {
    let Some(until) = entry.archived_until() else { return kept(session, entry, key, bound, &[]).await };
    // A row's last record is always here: from the oldest one that is, archived ones lead back.
    let here = kept(session, entry, key, Bound::Now, &[]).await?;
    // One that was dated by hand may stand before them.
    let at = |record: &Record| (record.header.date, record.header.id);
    let old: Vec<Position> = here.iter().map(at).filter(|(date, _)| *date <= until).collect();
    let mut records = here;
    if !old.is_empty()
        && let Some(shelf) = Shelf::of(session, entry).await?
    {
        let before = shelf.before(&old, true).await?;
        records.extend(before.into_iter().map(|shelved| shelved.record));
    }
    // What is here too comes first of its position, and is told as it is here.
    records.sort_by_key(at);
    records.dedup_by_key(|record| at(record));
    records.retain(|record| bound.includes(at(record)));
    Ok(records)
}

/// The records of one key that are in the database, oldest first.
///
/// Where `settled` names histories, as [the question](Dialect::records_of_key) says.
async fn kept(
    session: &mut Session,
    entry: &Entry,
    key: &[Value],
    bound: Bound,
    settled: &[&Layout],
) -> Result<Vec<Record>> {
    let layout = entry.layout()?;
    let fields = all_fields(&entry.epochs);
    let question = entry.asked(session.dialect().records_of_key(layout, &fields, key, bound, settled));
    let mut records = Vec::new();
    let take = |row: Row| {
        let mut record = record(row, layout, &fields)?;
        entry.redact_record(&fields, (record.header.date, record.header.id), &mut record.values, None);
        records.push(record);
        Ok(true)
    };
    session.each_answer(&question, take).await.map_err(|error| error.on(&entry.table))?;
    records.sort_by_key(|record: &Record| (record.header.date, record.header.id));
    Ok(records)
}

/// The key of a row as its records have it, however it was written.
pub(crate) async fn key_of_row(session: &mut Session, entry: &Entry, key: &str) -> Result<Vec<Value>> {
    let layout = entry.layout()?;
    let fields = all_fields(&entry.epochs);
    let records = kept(session, entry, &key::values(layout, key)?, Bound::Now, &[]).await?;
    let record = records.last().ok_or_else(|| no_record(entry, key))?;
    Ok(key_of(layout, &fields, &record.values))
}

/// A key as the records of its row have it that are in the database, however it was written, and where these stand; nothing where
/// there is no such row.
pub(crate) async fn recorded(
    session: &mut Session,
    entry: &Entry,
    key: &[Value],
) -> Result<Option<(Vec<Value>, Vec<Position>)>> {
    let layout = entry.layout()?;
    let records = kept(session, entry, key, Bound::Now, &[]).await?;
    let Some(last) = records.last() else { return Ok(None) };
    let key = key_of(layout, &all_fields(&entry.epochs), &last.values);
    Ok(Some((key, records.iter().map(|record| (record.header.date, record.header.id)).collect())))
}

/// The lives of the rows that ever had a key, the newest last: each from how it came to be, or from its first record that is
/// left, through every change of its key, to its end.
pub(crate) async fn lives(session: &mut Session, entry: &Entry, key: &str) -> Result<Vec<Vec<Version>>> {
    let values = key::values(entry.layout()?, key)?;
    let mut records = read(session, entry, &values, Bound::Now).await?;
    if records.is_empty() {
        return Err(no_record(entry, key));
    }
    let mut lives: Vec<Vec<Version>> = Vec::new();
    while !records.is_empty() {
        let begins = |record: &Record| record.header.action == Action::Create;
        let last = records.iter().rposition(begins).unwrap_or_default();
        let life = records.split_off(last);
        // A row that came back to this key has lived under it before.
        let begin = life.first().map(|record| record.header.id);
        let told = lives.iter().flatten().any(|version| Some(version.header.id) == begin);
        if !told {
            lives.push(fold(&entry.epochs, through_changes_of_key(session, entry, life).await?)?);
        }
    }
    lives.reverse();
    Ok(lives)
}

/// The records of a row through changes of its key.
async fn lineage(session: &mut Session, entry: &Entry, key: &[Value]) -> Result<Vec<Record>> {
    let records = read(session, entry, key, Bound::Now).await?;
    through_changes_of_key(session, entry, records).await
}

/// The records of a row under one key, with those under others: backwards from how it arrived here, forwards to where it went.
async fn through_changes_of_key(
    session: &mut Session,
    entry: &Entry,
    mut records: Vec<Record>,
) -> Result<Vec<Record>> {
    let layout = entry.layout()?;
    for _ in 0..LONGEST_LINEAGE {
        let Some(first) = records.first() else { return Ok(records) };
        let Some(old_key) = first.header.old_key.clone() else { break };
        let (date, id) = (first.header.date, first.header.id);
        let key = key::values(layout, &old_key)?;
        let mut earlier = read(session, entry, &key, Bound::Position(date, id)).await?;
        // The departure itself is told by the arrival. Where keys were exchanged, others have arrived at the old one since.
        let departs = |record: &Record| record.header.action == Action::Delete && record.header.date == date;
        let Some(departure) = earlier.iter().rposition(departs) else { break };
        earlier.truncate(departure);
        // What the old key was before this row is another row's life.
        let begin =
            earlier.iter().rposition(|record| record.header.action == Action::Delete).map_or(0, |at| at + 1);
        if begin == earlier.len() {
            break;
        }
        earlier.drain(..begin);
        earlier.append(&mut records);
        records = earlier;
    }
    for _ in 0..LONGEST_LINEAGE {
        let Some(last) = records.last().filter(|record| record.header.action == Action::Delete) else {
            break;
        };
        let Some((id, key)) = arrival_of(session, entry, last).await? else { break };
        let there = read(session, entry, &key, Bound::Now).await?;
        let Some(begin) = there.iter().position(|record| record.header.id == id) else { break };
        // What the new key was after this row departed from it again is another row's life.
        let end = there[begin..].iter().position(|record| record.header.action == Action::Delete);
        records.pop();
        let end = end.map_or(there.len(), |at| begin + at + 1);
        records.extend_from_slice(&there[begin..end]);
    }
    Ok(records)
}

/// The record by which a row arrived elsewhere that departed, and the key that it has there.
async fn arrival_of(
    session: &mut Session,
    entry: &Entry,
    departure: &Record,
) -> Result<Option<(i64, Vec<Value>)>> {
    let layout = entry.layout()?;
    let (id, date) = (departure.header.id, departure.header.date);
    let sql = session.dialect().arrival_of(layout);
    if let Some(mut arrival) = session.row(&sql, &[Cell::Int(id), Cell::Int(date.as_micros())]).await? {
        let key = arrival.split_off(1).into_iter().map(key::value).collect();
        return Ok(Some((arrival[0].int().unwrap_or_default(), key)));
    }
    if entry.archived_until().is_none_or(|until| date > until) {
        return Ok(None);
    }
    let fields = all_fields(&entry.epochs);
    let from = texts(&key_of(layout, &fields, &departure.values));
    let is = |arrived: i64, old_key: &str| -> Result<bool> {
        Ok(arrived > id && texts(&key::values(layout, old_key)?) == from)
    };
    // The departure may be in an archive, and the arrival here.
    for mut row in session.ask(&arrivals(session.dialect(), layout, date)).await? {
        let key = row.split_off(2);
        let (old_key, arrived) = (row.pop().and_then(Cell::text), row.pop().and_then(|cell| cell.int()));
        if let (Some(old_key), Some(arrived)) = (old_key, arrived)
            && is(arrived, &old_key)?
        {
            return Ok(Some((arrived, key.into_iter().map(key::value).collect())));
        }
    }
    let Some(shelf) = Shelf::of(session, entry).await? else { return Ok(None) };
    for arrived in shelf.of_moments(&HashSet::from([date])).await?.into_iter().map(|shelved| shelved.record) {
        let Some(old_key) = &arrived.header.old_key else { continue };
        if is(arrived.header.id, old_key)? {
            return Ok(Some((arrived.header.id, key_of(layout, &fields, &arrived.values))));
        }
    }
    Ok(None)
}

/// The values of a record's key, in the key's order.
pub(crate) fn key_of(layout: &Layout, fields: &[Field], values: &[Value]) -> Vec<Value> {
    let value = |key: &Field| {
        let place = fields.iter().position(|field| field.bit == key.bit);
        place.and_then(|place| values.get(place)).cloned().unwrap_or(Value::Null)
    };
    layout.key_fields().map(value).collect()
}

/// A row of `records_of_key`.
pub(crate) fn record(row: Row, layout: &Layout, fields: &[Field]) -> Result<Record> {
    let id = row[0].int().unwrap_or_default();
    let date = Moment::from_micros(row[1].int().unwrap_or_default());
    let mut cells = row.into_iter().skip(2);
    let mut text = || cells.next().and_then(Cell::text);
    let action = text().and_then(|sign| Action::from_sign(&sign)).ok_or_else(|| {
        Error::new(ErrorKind::Unknowable, format!("record {id} has no type")).on(&layout.table)
    })?;
    let header = Header {
        id,
        date,
        action,
        user: text(),
        reason: text(),
        context: text(),
        tx: text(),
        old_key: text(),
        archive: None,
    };
    let mask: Vec<i64> =
        cells.by_ref().take(layout.words()).map(|cell| cell.int().unwrap_or_default()).collect();
    let values = fields.iter().zip(cells).map(|(field, cell)| value(field, cell)).collect();
    Ok(Record { header, mask, values })
}

/// A cell of a history as it is shown. What a masked field holds only says whether it was NULL.
pub(crate) fn value(field: &Field, cell: Cell) -> Value {
    match (field.keeping, cell) {
        (_, Cell::Null) => Value::Null,
        (layout::Keeping::Masked, _) => Value::Masked,
        (_, Cell::Int(int)) => Value::Number(int.to_string()),
        (_, Cell::Real(real)) => Value::from_f64(real),
        (_, Cell::Blob(bytes)) => Value::Bytes(bytes),
        // As short as its type allows: as a double it has digits more.
        #[cfg(feature = "mysql")]
        (_, Cell::Text(text)) if mariadb::is_single(field) => {
            let shortest = text.parse::<f64>().map(|double| real(double, double as f32));
            Value::from_text(field.shown, shortest.unwrap_or(text))
        }
        (_, Cell::Text(text)) => Value::from_text(field.shown, text),
    }
}
