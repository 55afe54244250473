//! The log as it grows.

use std::collections::{HashSet, VecDeque};

use afterimage_core::query::Query;
use afterimage_core::{Database, Moment};

use crate::database::Afterimage;
use crate::error::Result;
use crate::log::{self, LogEntry, LogQuery};
use crate::session::{Cell, Session};

/// Changes as they are committed, each once: asks again whenever [`next`](Follow::next) is called.
///
/// A record that is dated by hand, as imports do, is not among them.
#[derive(Debug)]
pub struct Follow {
    audit: Afterimage,
    query: Query,
    seen: Seen,
}

/// What has been seen.
#[derive(Debug)]
enum Seen {
    /// Transactions follow one another: up to this number.
    Numbers(i64),
    /// Transactions overlap: those that a snapshot shows.
    Snapshot(Snapshot, VecDeque<(i64, Moment)>),
}

/// Before following began, a transaction may have been open for as long.
const LONGEST_BEFORE: i64 = 3_600_000_000;

impl Afterimage {
    /// Follows the log from now on: what of it answers a query.
    pub async fn follow(&self, query: Query) -> Result<Follow> {
        let seen = self.reading(async |session| begin(session).await).await?;
        Ok(Follow { audit: self.clone(), query, seen })
    }
}

impl Follow {
    /// What was committed since the last call, oldest first; nothing, where nothing was.
    pub async fn next(&mut self) -> Result<Vec<LogEntry>> {
        let (query, seen) = (&self.query, &mut self.seen);
        self.audit
            .reading(async |session| match seen {
                Seen::Numbers(last) => by_number(session, query, last).await,
                Seen::Snapshot(snapshot, times) => by_snapshot(session, query, snapshot, times).await,
            })
            .await
    }
}

async fn begin(session: &mut Session) -> Result<Seen> {
    if session.dialect().database() == Database::Postgres {
        let snapshot = Snapshot::of(session).await?;
        let now = snapshot.taken.as_micros();
        let from = if snapshot.running.is_empty() { now } else { now - LONGEST_BEFORE };
        let times = VecDeque::from([(snapshot.next, Moment::from_micros(from))]);
        return Ok(Seen::Snapshot(snapshot, times));
    }
    let last = session.int("SELECT history_id FROM afterimage_state", &[]).await?;
    Ok(Seen::Numbers(last.unwrap_or_default()))
}

async fn by_number(session: &mut Session, query: &Query, last: &mut i64) -> Result<Vec<LogEntry>> {
    let newest = session.int("SELECT history_id FROM afterimage_state", &[]).await?.unwrap_or_default();
    let mut entries = Vec::new();
    if newest > *last {
        log::each(session, &LogQuery::from(query.clone()), |entry| {
            let new = entry.header.id > *last;
            if new {
                entries.push(entry);
            }
            new
        })
        .await?;
        entries.reverse();
    }
    *last = newest;
    Ok(entries)
}

async fn by_snapshot(
    session: &mut Session,
    query: &Query,
    seen: &mut Snapshot,
    times: &mut VecDeque<(i64, Moment)>,
) -> Result<Vec<LogEntry>> {
    let now = Snapshot::of(session).await?;
    let mut query = query.clone();
    query.from = query.from.max(times.front().map(|(_, from)| *from));
    let mut entries = Vec::new();
    log::each(session, &LogQuery::from(query), |entry| {
        let tx = entry.header.tx.as_deref().and_then(|tx| tx.parse().ok()).unwrap_or_default();
        if !seen.shows(tx) {
            entries.push(entry);
        }
        true
    })
    .await?;
    entries.reverse();
    // A transaction numbered when or after a snapshot was taken has all its records after that time. So, of the times of
    // snapshots, the newest that no running transaction was numbered before bounds what is still to come.
    times.push_back((now.next, now.taken));
    while times.len() > 1 && times[1].0 <= now.oldest {
        times.pop_front();
    }
    *seen = now;
    Ok(entries)
}

/// Which transactions a PostgreSQL snapshot shows.
#[derive(Debug)]
struct Snapshot {
    /// All below this have ended.
    oldest: i64,
    /// None from this on has begun.
    next: i64,
    running: HashSet<i64>,
    taken: Moment,
}

impl Snapshot {
    async fn of(session: &mut Session) -> Result<Self> {
        let sql = "SELECT pg_catalog.pg_current_snapshot()::text, (extract(epoch FROM pg_catalog.now()) * 1000000)::bigint";
        let row = session.row(sql, &[]).await?.unwrap_or_default();
        let taken = Moment::from_micros(row.get(1).and_then(Cell::int).unwrap_or_default());
        let text = row.into_iter().next().and_then(Cell::text).unwrap_or_default();
        let mut parts = text.split(':');
        let mut number = || parts.next().and_then(|part| part.parse().ok()).unwrap_or_default();
        let (oldest, next) = (number(), number());
        let running = parts.next().unwrap_or_default().split(',').filter_map(|id| id.parse().ok()).collect();
        Ok(Self { oldest, next, running, taken })
    }

    fn shows(&self, tx: i64) -> bool {
        tx < self.oldest || (tx < self.next && !self.running.contains(&tx))
    }
}
