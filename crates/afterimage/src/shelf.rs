//! Records that were moved to archives, for questions about the past.

use afterimage_core::sql::Bound;
use afterimage_core::sql::catalog::Course;
use afterimage_core::sql::log::Position;
use afterimage_core::{Moment, Record, Value};

use crate::catalog::Entry;
use crate::error::{Error, ErrorKind, Result};
use crate::session::{Cell, Row};

#[cfg(feature = "archive")]
pub(crate) use crate::archive::shelf::{Shelf, Shelves, last_of, unfinished};

/// An archive that records of a table were moved to, as the catalogue knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(not(feature = "archive"), allow(dead_code, reason = "nothing is read there"))]
pub(crate) struct Moved {
    pub(crate) id: i64,
    /// The removal by which they went.
    pub(crate) removal: i64,
    /// Its manifest, from the archive's own folder on.
    pub(crate) manifest: String,
    /// Where it is.
    pub(crate) url: String,
    /// The SHA-256 of its manifest.
    pub(crate) sha256: String,
    /// Everything up to this that was followed by then is in it.
    pub(crate) cut: Moment,
    /// What had been removed of the table when it was written.
    pub(crate) others: String,
    /// Which way its records go.
    pub(crate) course: Course,
}

impl Moved {
    /// The number of the table, and its archive.
    pub(crate) fn read(row: &Row) -> (i64, Self) {
        let int = |at: usize| row.get(at).and_then(Cell::int).unwrap_or_default();
        let text = |at: usize| row.get(at).cloned().and_then(Cell::text).unwrap_or_default();
        let moved = Self {
            id: int(0),
            removal: int(2),
            manifest: text(3),
            url: text(4),
            sha256: text(5),
            cut: Moment::from_micros(int(6)),
            others: text(7),
            course: Course::from_code(int(8)),
        };
        (int(1), moved)
    }
}

impl Entry {
    /// Up to where records may be in an archive, and not here: what was current then is here.
    pub(crate) fn archived_until(&self) -> Option<Moment> {
        self.archives.iter().map(|moved| moved.cut).max()
    }

    /// Whether what is asked for as of a bound may be in an archive.
    pub(crate) fn is_archived_at(&self, bound: Bound) -> bool {
        let Some(until) = self.archived_until() else { return false };
        match bound {
            Bound::Now => false,
            Bound::Time(moment) => moment < until,
            Bound::Position(moment, _) => moment <= until,
        }
    }

    /// Refuses a question that is asked of the database alone, of a time whose records are in an archive.
    pub(crate) fn refuse_archived(&self, bound: Bound) -> Result<()> {
        let Some(moved) = self.archives.last().filter(|_| self.is_archived_at(bound)) else { return Ok(()) };
        let until = self.archived_until().unwrap_or(moved.cut);
        let message = format!(
            "its records of before {until} are in the archive {}, which is not asked here: bring them back with `archive restore` first",
            moved.url
        );
        Err(Error::new(ErrorKind::Unknowable, message).on(&self.table))
    }
}

/// A record of an archive, with its values in the order of the table's fields of now.
#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "archive"), allow(dead_code, reason = "nothing is put back there"))]
pub(crate) struct Shelved {
    /// The record, which holds the whole row.
    pub(crate) record: Record,
    /// Of the fields that it changed, what they were before; of others NULL.
    pub(crate) before: Vec<Value>,
    /// The record of the row that followed.
    pub(crate) until: Position,
    /// When its transaction had begun at the latest.
    pub(crate) began: Option<Moment>,
    /// The number of its context, where contexts stand beside records.
    pub(crate) scope: Option<i64>,
}

impl Shelved {
    /// Its moment and number.
    pub(crate) fn at(&self) -> Position {
        (self.record.header.date, self.record.header.id)
    }
}

#[cfg(not(feature = "archive"))]
mod none {
    use super::*;
    use crate::as_of::Point;
    use crate::session::Session;
    use afterimage_core::query::Query;

    /// What a program does not have that was built without archives.
    #[derive(Debug)]
    pub(crate) enum Shelf {}

    fn without(entry: &Entry) -> Error {
        let urls: Vec<&str> = entry.archives.iter().map(|moved| moved.url.as_str()).collect();
        let message = format!(
            "its older records are in the archive {}, which this program cannot read: it was built without archives",
            urls.last().copied().unwrap_or_default()
        );
        Error::new(ErrorKind::Unknowable, message).on(&entry.table)
    }

    impl Shelf {
        pub(crate) async fn of(_session: &mut Session, entry: &Entry) -> Result<Option<Self>> {
            if entry.archives.is_empty() { Ok(None) } else { Err(without(entry)) }
        }

        pub(crate) async fn before(&self, _of: &[Position], _all: bool) -> Result<Vec<Shelved>> {
            match *self {}
        }

        pub(crate) async fn of_moments(
            &self,
            _dates: &std::collections::HashSet<Moment>,
        ) -> Result<Vec<Shelved>> {
            match *self {}
        }

        pub(crate) async fn newest(
            &self,
            _query: &Query,
            _after: Option<Position>,
            _of: Option<&std::collections::HashSet<Position>>,
            _limit: usize,
        ) -> Result<Vec<Position>> {
            match *self {}
        }

        pub(crate) async fn at(&self, _positions: &[Position]) -> Result<Vec<Shelved>> {
            match *self {}
        }

        pub(crate) async fn current(
            &self,
            _point: &Point,
            _unfinished: &std::collections::HashSet<Position>,
        ) -> Result<std::iter::Empty<Result<(Vec<Value>, Shelved)>>> {
            match *self {}
        }

        pub(crate) async fn of_transactions(&self, _ids: &[String], _bound: Bound) -> Result<Vec<Position>> {
            match *self {}
        }
    }

    pub(crate) async fn unfinished(session: &mut Session, bound: Bound) -> Result<Vec<String>> {
        for entry in crate::catalog::entries(session).await? {
            if entry.is_archived_at(bound) {
                return Err(without(&entry));
            }
        }
        Ok(Vec::new())
    }

    pub(crate) async fn last_of(
        _session: &mut Session,
        _tx: &str,
        _near: Option<Moment>,
    ) -> Result<Option<Position>> {
        Ok(None)
    }
}

#[cfg(not(feature = "archive"))]
pub(crate) use none::{Shelf, last_of, unfinished};
