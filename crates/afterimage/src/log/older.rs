//! What of the log is in archives.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};

use afterimage_core::query::Query;
use afterimage_core::sql::log::Position;
use afterimage_core::{Action, Moment, Value};

use super::entry::{self, Entries};
use super::source::LogSource;
use crate::error::Result;
use crate::redact::texts;
use crate::session::Session;
use crate::shelf::{Shelf, Shelved};
use crate::versions;

/// So many are read at once at most: a file is gone through for each time.
const MOST: u64 = 20_000;

/// The archives of some histories, newest records first.
#[derive(Default)]
pub(super) struct Older {
    /// Up to where there are any.
    until: Option<Moment>,
    /// Once they are needed: by the place of their history.
    shelves: Option<Vec<(usize, Shelf)>>,
    /// What comes next.
    next: VecDeque<(usize, Shelved)>,
    /// Where to go on reading.
    after: Option<Position>,
    exhausted: bool,
    /// How many to read the next time.
    many: u64,
    /// The keys that a query names, as the records of each history have them.
    keys: HashMap<usize, [Vec<Vec<String>>; 2]>,
    /// Where the records of those rows stand, of histories of which only some are asked for.
    rows: HashMap<usize, HashSet<Position>>,
}

impl Older {
    pub(super) fn of(sources: &[LogSource]) -> Self {
        let until = sources.iter().filter_map(|source| source.entry.archived_until()).max();
        Self { until, ..Self::default() }
    }

    /// The positions of the next records that may answer: older than one, newer than the other, and so many at most. Their entries are
    /// put beside those that are there.
    #[allow(clippy::too_many_arguments, reason = "a page of the log is all of these")]
    pub(super) async fn take(
        &mut self,
        session: &mut Session,
        sources: &[LogSource],
        query: &Query,
        after: Option<Position>,
        down_to: Option<Position>,
        limit: u64,
        entries: &mut Entries,
    ) -> Result<Vec<(usize, Position)>> {
        let Some(until) = self.until else { return Ok(Vec::new()) };
        if down_to.is_some_and(|(date, _)| date > until) || query.from.is_some_and(|from| from > until) {
            return Ok(Vec::new());
        }
        // What was told, or stood here too.
        while self.next.front().is_some_and(|(_, shelved)| after.is_some_and(|after| shelved.at() >= after)) {
            self.next.pop_front();
        }
        let mut taken = Vec::new();
        let mut at = 0;
        while (taken.len() as u64) < limit {
            let Some((part, shelved)) = self.next.get(at) else {
                if self.exhausted {
                    break;
                }
                self.read(session, sources, query, after, limit).await?;
                continue;
            };
            let position = shelved.at();
            if down_to.is_some_and(|down_to| position < down_to) {
                break;
            }
            // What is here too is told once.
            if let Entry::Vacant(place) = entries.entry((*part, position.1)) {
                place.insert(entry::archived(&sources[*part], shelved.clone())?);
                taken.push((*part, position));
            }
            at += 1;
        }
        Ok(taken)
    }

    /// Reads the next ones.
    async fn read(
        &mut self,
        session: &mut Session,
        sources: &[LogSource],
        query: &Query,
        after: Option<Position>,
        limit: u64,
    ) -> Result<()> {
        if self.shelves.is_none() {
            let mut shelves = Vec::new();
            for (part, source) in sources.iter().enumerate() {
                if let Some(shelf) = Shelf::of(session, &source.entry).await? {
                    let (wanted, here) = as_recorded(session, source, &source.keys).await?;
                    let (not, _) = as_recorded(session, source, &source.not_keys).await?;
                    if !source.keys.is_empty() {
                        let rows = shelf.before(&here, true).await?;
                        self.rows.insert(part, rows.iter().map(Shelved::at).collect());
                    }
                    self.keys.insert(part, [wanted, not]);
                    shelves.push((part, shelf));
                }
            }
            self.shelves = Some(shelves);
        }
        self.many = (self.many * 8).clamp(limit.min(MOST), MOST);
        let many = usize::try_from(self.many).unwrap_or(usize::MAX);
        let from = match (self.after, after) {
            (Some(own), Some(after)) => Some(own.min(after)),
            (own, after) => own.or(after),
        };
        let mut found: Vec<(usize, Position)> = Vec::new();
        let shelves = self.shelves.as_deref().unwrap_or_default();
        for (part, shelf) in shelves {
            let newest = shelf.newest(query, from, self.rows.get(part), many).await?;
            found.extend(newest.into_iter().map(|position| (*part, position)));
        }
        found.sort_unstable_by_key(|(_, position)| std::cmp::Reverse(*position));
        self.exhausted = found.len() < many;
        found.truncate(many);
        self.after = found.last().map(|(_, position)| *position).or(self.after);
        let mut read = Vec::new();
        for (part, shelf) in shelves {
            let of_it: Vec<Position> =
                found.iter().filter(|(of, _)| of == part).map(|(_, position)| *position).collect();
            let source = &sources[*part];
            let keys = self.keys.get(part);
            let mut shelved = shelf.at(&of_it).await?;
            entry::complete(session, source, &mut shelved).await?;
            // Whose arrival another run has taken, that run has told.
            let departures: Vec<_> = shelved
                .iter()
                .filter(|shelved| shelved.record.header.action == Action::Delete)
                .map(|shelved| {
                    let key = source.layout().map(|layout| {
                        texts(&versions::key_of(layout, &source.fields, &shelved.record.values))
                    });
                    (shelved.at(), key.unwrap_or_default())
                })
                .collect();
            let departed = entry::departed(session, source, &departures).await?;
            let asked_for = shelved.into_iter().filter(|shelved| {
                !departed.contains(&shelved.record.header.id) && is_asked_for(source, keys, shelved)
            });
            read.extend(asked_for.map(|one| (*part, one)));
        }
        read.sort_by_key(|(_, shelved)| std::cmp::Reverse(shelved.at()));
        self.next.extend(read);
        Ok(())
    }
}

/// Keys as the records have them, however they were written, and where records of theirs stand in the database.
async fn as_recorded(
    session: &mut Session,
    source: &LogSource,
    keys: &[Vec<Value>],
) -> Result<(Vec<Vec<String>>, Vec<Position>)> {
    let (mut known, mut here) = (Vec::new(), Vec::new());
    for key in keys {
        known.push(texts(key));
        if let Some((recorded, positions)) = versions::recorded(session, &source.entry, key).await? {
            known.push(texts(&recorded));
            here.extend(positions);
        }
    }
    Ok((known, here))
}

/// Whether a record is of a row that is asked for, and referred to what is.
fn is_asked_for(source: &LogSource, keys: Option<&[Vec<Vec<String>>; 2]>, shelved: &Shelved) -> bool {
    let Ok(now) = source.layout() else { return false };
    let values = &shelved.record.values;
    if let Some([wanted, not]) = keys
        && !(wanted.is_empty() && not.is_empty())
    {
        let key = texts(&versions::key_of(now, &source.fields, values));
        if !wanted.is_empty() && !wanted.contains(&key) || not.contains(&key) {
            return false;
        }
    }
    source.refers_to(&shelved.record, &shelved.before)
}
