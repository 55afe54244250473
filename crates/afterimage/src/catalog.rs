//! What the catalogue says: tracked tables, their epochs, their gaps.

use std::sync::Arc;

use afterimage_core::record::{Epoch, epoch_at};
use afterimage_core::sql::question::{MOST_KEPT, Question};
use afterimage_core::sql::{First, catalog as sql};
use afterimage_core::{Field, Keeping, Layout, Moment, Storage, TableName, Tracking, suggest};
use serde::Serialize;

use crate::error::{Error, ErrorKind, Result};
use crate::hold::Hold;
use crate::redact::{self, Redaction, Redactions};
use crate::remembered::Entries;
pub(crate) use crate::remembered::{entries, with_seen};
use crate::removal::{ARCHIVE, Removal};
use crate::serialized::{as_optional_text, as_text};
use crate::session::{Cell, Row, Session};
use crate::shelf::Moved;
use crate::{introspect, key};

/// How far tracking of a table has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Captured, and its baseline is still being written.
    Baseline,
    /// Captured, baseline and all.
    Active,
    /// Not captured any more; the history stays.
    Stopped,
}

impl Stage {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Active => "active",
            Self::Stopped => "stopped",
        }
    }

    fn from_str(text: &str) -> Self {
        match text {
            "baseline" => Self::Baseline,
            "stopped" => Self::Stopped,
            _ => Self::Active,
        }
    }
}

/// A tracked table, as the catalogue knows it.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) id: i64,
    pub(crate) table: TableName,
    pub(crate) tracking: Tracking,
    pub(crate) stage: Stage,
    pub(crate) since: Moment,
    pub(crate) epochs: Vec<Epoch>,
    pub(crate) gaps: Vec<Gap>,
    pub(crate) removals: Vec<Removal>,
    pub(crate) holds: Vec<Hold>,
    pub(crate) redactions: Redactions,
    /// Where records are that were moved out of the database, oldest first.
    pub(crate) archives: Vec<Moved>,
    /// The whole of it, where this is what somebody sees who may not see all.
    pub(crate) whole: Option<Arc<Entry>>,
}

/// A stretch in which changes of a table, or of one row, may be missing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gap {
    /// The row's key as JSON; `None` where it is the whole table.
    pub key: Option<String>,
    /// From when.
    #[serde(serialize_with = "as_text")]
    pub from: Moment,
    /// Until when; `None` while it is open.
    #[serde(serialize_with = "as_optional_text")]
    pub to: Option<Moment>,
    /// What caused it.
    pub cause: String,
    /// Who or what recorded it.
    pub recorded_by: Option<String>,
}

impl Gap {
    /// Whether a moment lies in it. Its end is exact again.
    pub fn contains(&self, moment: Moment) -> bool {
        self.from <= moment && self.to.is_none_or(|to| moment < to)
    }
}

impl Entry {
    /// As it is, whoever sees it.
    pub(crate) fn whole(&self) -> &Self {
        self.whole.as_deref().unwrap_or(self)
    }

    /// Whether it is only for whoever sees it that a field of it is masked.
    pub(crate) fn hides(&self, field: &Field) -> bool {
        let of_whole = |whole: &Arc<Self>| {
            let mut fields = whole.epochs.iter().rev().flat_map(|epoch| &epoch.layout.fields);
            fields.find(|known| known.bit == field.bit).is_some_and(|known| known.keeping == Keeping::Stored)
        };
        field.keeping == Keeping::Masked && self.whole.as_ref().is_some_and(of_whole)
    }

    /// The layout of a moment.
    pub(crate) fn layout_at(&self, moment: Moment) -> Option<&Layout> {
        epoch_at(&self.epochs, moment).map(|epoch| &epoch.layout)
    }

    /// The layout of now.
    pub(crate) fn layout(&self) -> Result<&Layout> {
        self.epochs.last().map(|epoch| &epoch.layout).ok_or_else(|| {
            Error::new(ErrorKind::Unknowable, "the catalogue has no epoch of it").on(&self.table)
        })
    }

    /// A question of its history, as it is asked. Of one in partitions a plan is as large as there are partitions: none is kept.
    pub(crate) fn asked(&self, question: Question) -> Question {
        Question { kept: question.kept && self.tracking.partitions.is_none(), ..question }
    }

    /// Whether any of its records may be sparse.
    pub(crate) fn sparse(&self) -> bool {
        self.epochs.iter().any(|epoch| epoch.layout.storage == Storage::Delta)
    }

    /// Whether every row's records begin with its creation: not where the baseline was left out, or was interrupted, or where
    /// records were removed.
    pub(crate) fn has_whole_baseline(&self) -> bool {
        self.first() == First::Creation
    }

    /// Which records may be the first of their row.
    pub(crate) fn first(&self) -> First {
        match self.horizon() {
            _ if self.gaps.iter().any(|gap| gap.key.is_none() && gap.from <= self.since) => First::Any,
            Some(horizon) => First::AnyUntil(horizon),
            None => First::Creation,
        }
    }

    /// Up to where records were removed: what was before it is not known any more, or an archive tells it.
    pub(crate) fn horizon(&self) -> Option<Moment> {
        // What was brought back from an archive is here again.
        let away = |removal: &&Removal| {
            removal.what != ARCHIVE || self.archives.iter().any(|moved| moved.removal == removal.id)
        };
        self.removals.iter().filter(away).filter_map(|removal| removal.until).max()
    }

    /// The removal up to which what was is not known any more.
    pub(crate) fn last_removal(&self) -> Option<&Removal> {
        let lost = |removal: &&Removal| removal.until.is_some() && removal.what != ARCHIVE;
        self.removals.iter().filter(lost).max_by_key(|removal| removal.until)
    }

    /// The stretch of which records were removed, as a gap.
    pub(crate) fn removed(&self) -> Option<Gap> {
        let removal = self.last_removal()?;
        Some(Gap {
            key: None,
            from: self.since,
            to: removal.until,
            cause: removal.cause(),
            recorded_by: removal.recorded_by.clone(),
        })
    }

    /// Whether a gap of the whole table is open.
    pub(crate) fn has_open_gap(&self) -> bool {
        self.gaps.iter().any(|gap| gap.to.is_none() && gap.key.is_none())
    }

    pub(crate) fn next_epoch(&self) -> i64 {
        self.epochs.last().map_or(1, |epoch| epoch.number + 1)
    }
}

/// Whether the catalogue is there at all.
pub(crate) async fn exists(session: &mut Session) -> Result<bool> {
    let sql = match session {
        #[cfg(feature = "postgres")]
        Session::Postgres(_) => "SELECT (pg_catalog.to_regclass('afterimage.tracked') IS NOT NULL)::int",
        #[cfg(feature = "sqlite")]
        Session::Sqlite(_) => "SELECT count(*) FROM sqlite_schema WHERE name = 'afterimage_state'",
        // The last that the catalogue's script creates.
        #[cfg(feature = "mysql")]
        Session::MariaDb(_) => {
            "SELECT count(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = 'afterimage_context'"
        }
    };
    Ok(session.int(sql, &[]).await?.unwrap_or_default() > 0)
}

/// Whether the catalogue is new enough to know what was removed.
pub(crate) async fn keeps_removals(session: &mut Session) -> Result<bool> {
    keeps(session, "redaction").await
}

/// Whether it has a table of this name.
async fn keeps(session: &mut Session, table: &str) -> Result<bool> {
    let sql = match session {
        #[cfg(feature = "postgres")]
        Session::Postgres(_) => {
            format!("SELECT (pg_catalog.to_regclass('afterimage.{table}') IS NOT NULL)::int")
        }
        #[cfg(feature = "sqlite")]
        Session::Sqlite(_) => format!("SELECT count(*) FROM sqlite_schema WHERE name = 'afterimage_{table}'"),
        #[cfg(feature = "mysql")]
        Session::MariaDb(_) => format!(
            "SELECT count(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = 'afterimage_{table}'"
        ),
    };
    Ok(session.int(&sql, &[]).await?.unwrap_or_default() > 0)
}

/// Waits for whoever is tracking, untracking or migrating, and keeps others waiting until the transaction is over. SQLite's
/// own lock does that. MariaDB sees the moment of the first thing that is read: nothing may have been read before.
pub(crate) async fn alone(session: &mut Session) -> Result<()> {
    #[cfg(feature = "postgres")]
    if let Session::Postgres(_) = session {
        // Any number will do that nobody else is likely to use: the letters "afterimg" as one.
        session.run("SELECT pg_catalog.pg_advisory_xact_lock(7018141438079856999)").await?;
    }
    #[cfg(feature = "mysql")]
    if let Session::MariaDb(_) = session {
        let had = session.int("SELECT GET_LOCK(CONCAT('afterimage.', MD5(DATABASE())), 60)", &[]).await?;
        if had != Some(1) {
            return Err(Error::new(
                ErrorKind::Busy,
                "somebody else is tracking or migrating for a minute now",
            ));
        }
    }
    let _ = session;
    Ok(())
}

/// Creates the catalogue where it is missing, alone.
pub(crate) async fn ensure(session: &mut Session) -> Result<()> {
    alone(session).await?;
    if exists(session).await? && keeps(session, "archive").await? {
        return Ok(());
    }
    let script = session.dialect().catalog();
    session.run_all(&script).await?;
    begin_again(session).await
}

/// MariaDB ends a transaction with whatever creates or changes a table: what follows has one again.
pub(crate) async fn begin_again(session: &mut Session) -> Result<()> {
    #[cfg(feature = "mysql")]
    if let Session::MariaDb(_) = session {
        session.run("START TRANSACTION").await?;
    }
    let _ = session;
    Ok(())
}

/// Reads all tracked tables.
pub(crate) async fn read(session: &mut Session) -> Result<Entries> {
    let dialect = session.dialect();
    let mut entries = Vec::new();
    for row in session.rows(&sql::tracked(dialect), &[]).await? {
        entries.push(entry(row)?);
    }
    for row in session.rows(&sql::epochs(dialect, None), &[]).await? {
        let (table, epoch) = epoch(row)?;
        if let Some(entry) = entries.iter_mut().find(|entry| entry.id == table) {
            entry.epochs.push(epoch);
        }
    }
    for row in session.rows(&sql::gaps(dialect, None), &[]).await? {
        let (table, gap) = gap(row);
        if let Some(entry) = entries.iter_mut().find(|entry| entry.id == table) {
            entry.gaps.push(gap);
        }
    }
    if keeps_removals(session).await? {
        for row in session.rows(&sql::removals(dialect), &[]).await? {
            let removal = Removal::read(&row);
            if let Some(entry) = entries.iter_mut().find(|entry| entry.id == removal.table_id) {
                entry.removals.push(removal);
            }
        }
        #[cfg(feature = "postgres")]
        if let Session::Postgres(_) = session {
            for row in session.rows(afterimage_core::sql::postgres::partitions::LEAVING, &[]).await? {
                let int = |at: usize| row.get(at).and_then(Cell::int).unwrap_or_default();
                if let Some(entry) = entries.iter_mut().find(|entry| entry.id == int(0)) {
                    entry.removals.push(Removal::to_come(int(0), Moment::from_micros(int(1))));
                }
            }
        }
        for row in session.rows(&sql::holds(dialect), &[]).await? {
            let hold = Hold::read(&row);
            if let Some(entry) = entries.iter_mut().find(|entry| entry.id == hold.table_id) {
                entry.holds.push(hold);
            }
        }
        if keeps(session, "archive").await? {
            for row in session.rows(&sql::archives(dialect), &[]).await? {
                let (table, moved) = Moved::read(&row);
                if let Some(entry) = entries.iter_mut().find(|entry| entry.id == table) {
                    entry.archives.push(moved);
                }
            }
        }
        for row in session.rows(&sql::redactions(dialect), &[]).await? {
            let (table, key, redaction) = redaction(row);
            let Some(entry) = entries.iter_mut().find(|entry| entry.id == table) else { continue };
            match entry.layout().ok().and_then(|layout| key::of_kept(layout, &key)) {
                Some(key) => entry.redactions.entry(redact::texts(&key)).or_default().push(redaction),
                None => {
                    tracing::error!(table = %entry.table, "a redaction cannot be read: its values are shown as NULL")
                }
            }
        }
    }
    Ok(entries.into_iter().map(Arc::new).collect())
}

/// The manifests of all archives that a table ever had.
#[cfg(feature = "archive")]
pub(crate) async fn manifests(session: &mut Session, table: i64) -> Result<Vec<String>> {
    if !keeps(session, "archive").await? {
        return Ok(Vec::new());
    }
    let rows = session.ask(&sql::known_manifests(session.dialect(), table)).await?;
    Ok(rows.into_iter().filter_map(|mut row| row.pop()?.text()).collect())
}

/// Whether a removal of a table is open, which nobody commits but by hand.
pub(crate) async fn has_open_removal(session: &mut Session, entry: &Entry) -> Result<bool> {
    if !keeps_removals(session).await? {
        return Ok(false);
    }
    let removal = session.dialect().catalog_table("removal");
    let open =
        format!("SELECT count(*) FROM {removal} WHERE table_id = {} AND open_in IS NOT NULL", entry.id);
    Ok(session.int(&open, &[]).await?.unwrap_or_default() > 0)
}

/// Everything that was ever removed, of tables too that are not tracked any more.
pub(crate) async fn removals(session: &mut Session) -> Result<Vec<Removal>> {
    if !exists(session).await? || !keeps_removals(session).await? {
        return Ok(Vec::new());
    }
    Ok(session.rows(&sql::removals(session.dialect()), &[]).await?.iter().map(Removal::read).collect())
}

/// The histories of tables, as they are now.
pub(crate) fn histories<'e>(entries: impl IntoIterator<Item = &'e Arc<Entry>>) -> Vec<&'e Layout> {
    entries.into_iter().filter_map(|entry| entry.layout().ok()).collect()
}

/// Whether a question about all histories may be kept: its text would be too long, or its plan, which looks at every partition.
pub(crate) fn may_be_kept(entries: &[Arc<Entry>]) -> bool {
    entries.len() <= MOST_KEPT && entries.iter().all(|entry| entry.tracking.partitions.is_none())
}

/// The tracked table that a user names: `table` or `schema.table`.
pub(crate) async fn find(session: &mut Session, name: &str) -> Result<Arc<Entry>> {
    let entries = entries(session).await?;
    let matches = |entry: &Entry| {
        entry.table.name == name
            || entry.table.to_string() == name
            || (entry.table.schema.is_none() && name.strip_prefix("main.") == Some(&entry.table.name))
    };
    // Names are case-sensitive where the database's are; SQLite's are not.
    let loosely = |entry: &Entry| entry.table.schema.is_none() && entry.table.name.eq_ignore_ascii_case(name);
    let mut found: Vec<&Arc<Entry>> = entries.iter().filter(|entry| matches(entry)).collect();
    if found.is_empty() {
        found = entries.iter().filter(|entry| loosely(entry)).collect();
    }
    if found.len() > 1 {
        // As everywhere else, a bare name means the table in the connection's own schema.
        let mut here = Vec::new();
        for entry in &found {
            if introspect::seen(session, &entry.table).await?.schema.is_none() {
                here.push(*entry);
            }
        }
        found = if here.is_empty() { found } else { here };
    }
    match found.as_slice() {
        [one] => Ok(Arc::clone(one)),
        [] => {
            let names: Vec<String> = entries.iter().map(|entry| entry.table.name.clone()).collect();
            let hint = suggest::hint(name, names.iter().map(String::as_str));
            Err(Error::new(ErrorKind::NotFound, format!("{name:?} is not tracked{hint}")))
        }
        several => Err(Error::new(
            ErrorKind::InvalidInput,
            format!(
                "{name:?} could be {}: name the schema too",
                several.iter().map(|entry| entry.table.to_string()).collect::<Vec<_>>().join(" or ")
            ),
        )),
    }
}

/// The tracked table of that very name, in whichever stage.
pub(crate) async fn find_exact(session: &mut Session, table: &TableName) -> Result<Option<Arc<Entry>>> {
    Ok(entries(session).await?.iter().find(|entry| entry.table == *table).cloned())
}

fn entry(row: Row) -> Result<Entry> {
    let id = row[0].int().unwrap_or_default();
    let since = Moment::from_micros(row[6].int().unwrap_or_default());
    let mut texts = row.into_iter().skip(1).map(Cell::text);
    let mut next = || texts.next().flatten();
    let (schema, name, _history, tracking, state) = (next(), next(), next(), next(), next());
    let table = TableName { schema, name: name.unwrap_or_default() };
    Ok(Entry {
        id,
        tracking: read_json(&tracking.unwrap_or_default(), &table)?,
        stage: Stage::from_str(&state.unwrap_or_default()),
        since,
        epochs: Vec::new(),
        gaps: Vec::new(),
        removals: Vec::new(),
        holds: Vec::new(),
        redactions: Redactions::new(),
        archives: Vec::new(),
        whole: None,
        table,
    })
}

fn epoch(row: Row) -> Result<(i64, Epoch)> {
    let table = row[0].int().unwrap_or_default();
    let number = row[1].int().unwrap_or_default();
    let from = Moment::from_micros(row[2].int().unwrap_or_default());
    let layout = row.into_iter().nth(3).and_then(Cell::text).unwrap_or_default();
    let layout: Layout = read_json(&layout, &TableName::bare("the catalogue"))?;
    Ok((table, Epoch { number, from, layout }))
}

fn gap(row: Row) -> (i64, Gap) {
    let table = row[0].int().unwrap_or_default();
    let from = Moment::from_micros(row[2].int().unwrap_or_default());
    let to = row[3].int().map(Moment::from_micros);
    let mut texts = row.into_iter().map(Cell::text);
    let key = texts.nth(1).flatten();
    let cause = texts.nth(2).flatten().unwrap_or_default();
    (table, Gap { key, from, to, cause, recorded_by: texts.next().flatten() })
}

fn redaction(row: Row) -> (i64, String, Redaction) {
    let int = |at: usize| row.get(at).and_then(Cell::int).unwrap_or_default();
    let position = |at: usize| (Moment::from_micros(int(at + 1)), int(at));
    let redaction = Redaction::new(u16::try_from(int(2)).unwrap_or_default(), position(3), position(5));
    (int(0), row.get(1).cloned().and_then(Cell::text).unwrap_or_default(), redaction)
}

fn read_json<T: serde::de::DeserializeOwned>(text: &str, table: &TableName) -> Result<T> {
    serde_json::from_str(text).map_err(|error| {
        Error::new(ErrorKind::Unknowable, format!("the catalogue cannot be read: {error}")).on(table)
    })
}
