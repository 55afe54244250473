//! The log as it grows.

use std::collections::{BTreeMap, HashSet, VecDeque};

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
    /// Transactions overlap: those that a snapshot shows; and numbers with their times, by which to look back.
    Snapshot(Snapshot, VecDeque<(i64, Moment)>),
    /// Transactions overlap, and no snapshot tells which: the numbers seen of the last minute, with their times.
    Minute(BTreeMap<i64, Moment>),
}

/// On MariaDB a transaction that goes on for longer after writing a record is not followed, in microseconds.
const LONGEST_UNSEEN: i64 = 60_000_000;

/// Before following began, a transaction may have been open for as long, in microseconds.
const LONGEST_BEFORE: i64 = 3_600_000_000;

/// So often, in microseconds, a transaction number is taken to look back no further than that.
const NUMBER_EVERY: i64 = 60_000_000;

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
                Seen::Minute(seen) => by_minute(session, query, seen).await,
            })
            .await
    }
}

async fn begin(session: &mut Session) -> Result<Seen> {
    if session.dialect().database() == Database::Postgres {
        let snapshot = Snapshot::of(session).await?;
        let mut times =
            VecDeque::from([(0, Moment::from_micros(snapshot.taken.as_micros() - LONGEST_BEFORE))]);
        times.extend(numbered(session, &snapshot).await?);
        return Ok(Seen::Snapshot(snapshot, times));
    }
    if session.dialect().database() == Database::MariaDb {
        let mut seen = BTreeMap::new();
        by_minute(session, &Query::default(), &mut seen).await?;
        return Ok(Seen::Minute(seen));
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

async fn by_minute(
    session: &mut Session,
    query: &Query,
    seen: &mut BTreeMap<i64, Moment>,
) -> Result<Vec<LogEntry>> {
    let now = session.int("SELECT afterimage_clock()", &[]).await?.unwrap_or_default();
    let from = Moment::from_micros(now - LONGEST_UNSEEN);
    let mut query = query.clone();
    query.from = query.from.max(Some(from));
    let mut entries = Vec::new();
    log::each(session, &LogQuery::from(query), |entry| {
        if seen.insert(entry.header.id, entry.header.date).is_none() {
            entries.push(entry);
        }
        true
    })
    .await?;
    entries.reverse();
    seen.retain(|_, date| *date >= from);
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
    let newest = times.back().map_or(0, |(_, taken)| taken.as_micros());
    if now.taken.as_micros() - newest > NUMBER_EVERY {
        times.extend(numbered(session, &now).await?);
    }
    while times.len() > 1 && times[1].0 <= now.oldest {
        times.pop_front();
    }
    *seen = now;
    Ok(entries)
}

/// A number that no transaction had before, and the time. Whichever has a higher one wrote all its records after that
/// time; so, of such times, the newest that no running transaction has a lower number than bounds what is still to come.
///
/// A snapshot would not do for that: where it ends is where the last finished transaction was numbered, and one that is
/// running may have a higher number. A standby gives no numbers.
async fn numbered(session: &mut Session, snapshot: &Snapshot) -> Result<Option<(i64, Moment)>> {
    let sql =
        "SELECT CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_current_xact_id()::text END";
    let row = session.row(sql, &[]).await?;
    let number = row.and_then(|mut row| row.pop()?.text()).and_then(|text| text.parse().ok());
    Ok(number.map(|number| (number, snapshot.taken)))
}

/// Which transactions a PostgreSQL snapshot shows.
#[derive(Debug)]
struct Snapshot {
    /// All below this have ended.
    oldest: i64,
    /// None from this on has ended.
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
