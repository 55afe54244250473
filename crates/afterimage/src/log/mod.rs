//! The log: changes of all tracked tables, newest first, by every filter.

mod entry;
mod older;
mod source;
mod summary;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use afterimage_core::matching::Matcher;
use afterimage_core::query::Query;
use afterimage_core::sql::log::{self as sql, Position};
use afterimage_core::{Action, FieldChange, Header, Moment, TableName, Value};
use serde::ser::{Serialize, SerializeMap, Serializer};

use entry::{Entries, entries, newest};
use older::Older;
pub(crate) use source::{LogSource, entries_asked, gaps_of};
use source::{gaps, sources};
pub(crate) use summary::summary_of;
pub use summary::{LogCount, LogSummary};

use crate::catalog::{self, Entry, Gap};
use crate::database::Afterimage;
use crate::error::{Error, ErrorKind, Result};
use crate::session::Session;

/// So many records are looked at together where the exact rule may leave some out.
const CHUNK: u64 = 500;

/// So many are asked for where a page wants no more, and one: a few numbers, so that questions have few texts.
const PAGES: [u64; 6] = [2, 11, 26, 51, 101, 251];

/// So many histories are asked by one statement.
const HISTORIES: usize = 100;

/// A place in the log, between two entries: where the next page begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    date: Moment,
    id: i64,
}

impl Cursor {
    /// The place right before a record, so that a page that begins here begins with it.
    pub fn of_record(date: Moment, id: i64) -> Self {
        Self { date, id: id.saturating_add(1) }
    }

    /// The moment of the record.
    pub fn date(self) -> Moment {
        self.date
    }

    /// Whether it is the place of a newer record than another.
    pub fn is_newer_than(self, other: Self) -> bool {
        self.position() > other.position()
    }

    pub(crate) fn position(self) -> Position {
        (self.date, self.id)
    }
}

/// `date.id`, both as numbers: what a URL or a script keeps.
impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.date.as_micros(), self.id)
    }
}

impl std::str::FromStr for Cursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        text.split_once('.')
            .and_then(|(date, id)| {
                Some(Self { date: Moment::from_micros(date.parse().ok()?), id: id.parse().ok()? })
            })
            .ok_or_else(|| Error::new(ErrorKind::InvalidInput, format!("{text:?} is no place in the log")))
    }
}

/// Which changes, and how many of them.
#[derive(Debug, Clone, Default)]
pub struct LogQuery {
    /// Which.
    pub query: Query,
    /// At most so many; all, where not given.
    pub limit: Option<u64>,
    /// Only what is older than this place: the next page.
    pub after: Option<Cursor>,
    /// Only the newest record of each row: what became of it last.
    pub latest: bool,
}

impl LogQuery {
    /// The changes that answer a query as people type it: see [`Query`]. UTC is the zone of times without one.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(Self::from(Query::parse(text, Moment::now(), "UTC")?))
    }

    /// At most so many.
    #[must_use]
    pub fn limit(mut self, limit: u64) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Only the newest record of each row, of those that answer otherwise: what became of it last.
    ///
    /// With `action:delete` that is the rows that are deleted, the last one first.
    #[must_use]
    pub fn latest(mut self) -> Self {
        self.latest = true;
        self
    }

    /// The page that begins at this place.
    #[must_use]
    pub fn after(mut self, cursor: Cursor) -> Self {
        self.after = Some(cursor);
        self
    }
}

impl From<Query> for LogQuery {
    fn from(query: Query) -> Self {
        Self { query, limit: None, after: None, latest: false }
    }
}

/// One record, seen as what it changed.
#[derive(Debug, Clone, PartialEq)]
pub struct LogEntry {
    /// The table, as this connection would name it.
    pub table: TableName,
    /// The row's key.
    pub key: Vec<(String, Value)>,
    /// The header of the record. A row that changed its key is an update here, whose header names the old key.
    pub header: Header,
    /// What changed, in the order of the table's columns of that time.
    pub changes: Vec<FieldChange>,
}

impl LogEntry {
    /// Its place in the log.
    pub fn cursor(&self) -> Cursor {
        Cursor { date: self.header.date, id: self.header.id }
    }

    /// What happened to the row: a change of its key is an update.
    pub fn action(&self) -> Action {
        if self.header.old_key.is_some() { Action::Update } else { self.header.action }
    }
}

struct KeyJson<'a>(&'a [(String, Value)]);

impl Serialize for KeyJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl Serialize for LogEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &self.header.id)?;
        map.serialize_entry("date", &self.header.date.to_string())?;
        map.serialize_entry("action", self.action().name())?;
        map.serialize_entry("table", &self.table.to_string())?;
        map.serialize_entry("key", &KeyJson(&self.key))?;
        self.header.serialize_log_members(&mut map)?;
        map.serialize_entry("changes", &afterimage_core::record::ChangesJson(&self.changes))?;
        map.end()
    }
}

/// A page of the log.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LogPage {
    /// The changes, newest first.
    pub entries: Vec<LogEntry>,
    /// Where the next page begins; `None` where there is none.
    pub next: Option<Cursor>,
    /// Stretches, within the time asked for, in which changes may be missing.
    pub gaps: Vec<(TableName, Gap)>,
}

impl Afterimage {
    /// Changes of all tracked tables, newest first.
    ///
    /// ```
    /// # use afterimage::{Afterimage, LogQuery, Tracking};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    /// # sqlx::query("CREATE TABLE orders (id INTEGER PRIMARY KEY, total NUMERIC)").execute(&pool).await?;
    /// # let audit = Afterimage::from_sqlite(pool.clone());
    /// # audit.track("orders", Tracking::new()).await?;
    /// sqlx::query("INSERT INTO orders VALUES (1, 1249); UPDATE orders SET total = 1149").execute(&pool).await?;
    /// let page = audit.log(&LogQuery::parse(r#"table:orders field:total was:"1,249""#)?.limit(50)).await?;
    /// assert_eq!(page.entries[0].changes[0].new.to_string(), "1149");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn log(&self, query: &LogQuery) -> Result<LogPage> {
        let ask = async |session: &mut Session| page(session, query).await;
        let is_page = query.limit.is_some_and(|limit| limit < CHUNK);
        let of_one_table = query.query.tables.wanted.len() == 1;
        if is_page && of_one_table && sql::may_be_asked_alone(&query.query) {
            self.answering(ask).await
        } else {
            self.reading(ask).await
        }
    }

    /// Changes of all tracked tables, newest first, one by one, until `take` says that it has enough. Gives where the
    /// next page begins, and the gaps.
    pub async fn log_each(
        &self,
        query: &LogQuery,
        take: impl FnMut(LogEntry) -> bool,
    ) -> Result<(Option<Cursor>, Vec<(TableName, Gap)>)> {
        self.reading(async |session| each(session, query, take).await).await
    }
}

impl Afterimage {
    /// The newest record of each row that is there, in key order.
    pub async fn latest_of_each(&self, table: &str, limit: Option<u64>) -> Result<Vec<LogEntry>> {
        self.newest(table, false, limit).await
    }

    /// The deletion of each row that is deleted, in key order: who deleted it, when and why, and in its changes what
    /// it was. [`restore`](Self::restore) brings one back. A row that went on under another key is among them, as one
    /// that left this one.
    pub async fn deleted_rows(&self, table: &str, limit: Option<u64>) -> Result<Vec<LogEntry>> {
        self.newest(table, true, limit).await
    }

    async fn newest(&self, table: &str, deleted: bool, limit: Option<u64>) -> Result<Vec<LogEntry>> {
        self.reading(async |session| {
            let entry = catalog::find(session, table).await?;
            let sql = session.dialect().newest_of_each(entry.layout()?, Some(deleted), limit);
            let mut positions = Vec::new();
            for row in session.ask(&sql).await? {
                let int = |at: usize| row.get(at).and_then(crate::session::Cell::int).unwrap_or_default();
                positions.push((Moment::from_micros(int(0)), int(1)));
            }
            let place: HashMap<i64, usize> =
                positions.iter().enumerate().map(|(place, (_, id))| (*id, place)).collect();
            let mut newest = at(session, &entry, &positions).await?;
            newest.sort_by_key(|entry| place.get(&entry.header.id).copied());
            Ok(newest)
        })
        .await
    }
}

async fn page(session: &mut Session, query: &LogQuery) -> Result<LogPage> {
    let mut entries = Vec::new();
    let take = |entry| {
        entries.push(entry);
        true
    };
    let (next, gaps) = each(session, query, take).await?;
    Ok(LogPage { entries, next, gaps })
}

/// The log as one session sees it.
pub(crate) async fn each(
    session: &mut Session,
    query: &LogQuery,
    take: impl FnMut(LogEntry) -> bool,
) -> Result<(Option<Cursor>, Vec<(TableName, Gap)>)> {
    let sources = sources(session, query).await?;
    each_of(session, &sources, query, take).await
}

/// The log of some histories.
pub(crate) async fn each_of(
    session: &mut Session,
    sources: &[LogSource],
    query: &LogQuery,
    mut take: impl FnMut(LogEntry) -> bool,
) -> Result<(Option<Cursor>, Vec<(TableName, Gap)>)> {
    let LogQuery { query, limit, after, latest } = query;
    // The newest record of a row is never in an archive.
    let mut older = if *latest { Older::default() } else { Older::of(sources) };
    let gaps = gaps(sources, query);
    let matcher = Matcher::new(query);
    let mut left = limit.unwrap_or(u64::MAX);
    let mut after = after.map(Cursor::position);
    let cursor = |(date, id)| Cursor { date, id };
    loop {
        // One more than asked for tells whether there is a next page.
        let page = PAGES.into_iter().find(|page| *page > left && matcher.accepts_all());
        let chunk = page.unwrap_or(CHUNK);
        let (mut found, mut entries) = match sources {
            [source] => newest(session, source, query, after, chunk).await?,
            _ => {
                let found = positions(session, sources, query, after, chunk).await?;
                let entries = entries(session, sources, &found).await?;
                (found, entries)
            }
        };
        let here_exhausted = (found.len() as u64) < chunk;
        let down_to = if here_exhausted { None } else { found.last().map(|(_, position)| *position) };
        let archived = older.take(session, sources, query, after, down_to, chunk, &mut entries).await?;
        let exhausted = here_exhausted && (archived.len() as u64) < chunk;
        if !archived.is_empty() {
            found.extend(archived);
            found.sort_by_key(|(_, position)| std::cmp::Reverse(*position));
            if !exhausted {
                found.truncate(usize::try_from(chunk).unwrap_or(usize::MAX));
            }
        }
        let departed = departed(session, sources, &entries).await?;
        for (part, position) in found {
            let Some(seen) = entries.remove(&(part, position.1)) else { continue };
            if departed.contains(&(part, position.1)) {
                continue;
            }
            if seen.answers(&sources[part], &matcher) {
                if left == 0 {
                    return Ok((after.map(cursor), gaps));
                }
                left -= 1;
                if !take(seen.entry) {
                    return Ok((Some(cursor(position)), gaps));
                }
            }
            after = Some(position);
        }
        if exhausted {
            return Ok((None, gaps));
        }
    }
}

/// Of these entries, the departures whose arrivals are in an archive, which tells them.
async fn departed(
    session: &mut Session,
    sources: &[LogSource],
    entries: &Entries,
) -> Result<HashSet<(usize, i64)>> {
    let mut all = HashSet::new();
    for (part, source) in sources.iter().enumerate().filter(|(_, source)| !source.entry.archives.is_empty()) {
        let here = entries.iter().filter(|((of, _), seen)| {
            *of == part && seen.entry.header.action == Action::Delete && seen.entry.header.archive.is_none()
        });
        let departures: Vec<_> = here
            .map(|(_, seen)| {
                let key = seen.entry.key.iter().map(|(_, value)| value.to_string()).collect();
                ((seen.entry.header.date, seen.entry.header.id), key)
            })
            .collect();
        let told = entry::departed(session, source, &departures).await?;
        all.extend(told.into_iter().map(|id| (part, id)));
    }
    Ok(all)
}

/// The newest positions that may answer, each with the place of its history.
async fn positions(
    session: &mut Session,
    sources: &[LogSource],
    query: &Query,
    after: Option<Position>,
    limit: u64,
) -> Result<Vec<(usize, Position)>> {
    let parts = sources.iter().map(|source| source.part(query)).collect::<Result<Vec<_>>>()?;
    let mut found = Vec::new();
    for (n, (parts, sources)) in parts.chunks(HISTORIES).zip(sources.chunks(HISTORIES)).enumerate() {
        let question = sql::positions(session.dialect(), parts, query, after, limit);
        let question = sources.iter().fold(question, |question, source| source.entry.asked(question));
        for row in session.answers(&question).await? {
            let int = |at: usize| row.get(at).and_then(crate::session::Cell::int).unwrap_or_default();
            let part = usize::try_from(int(0)).unwrap_or_default() + n * HISTORIES;
            found.push((part, (Moment::from_micros(int(1)), int(2))));
        }
    }
    found.sort_by_key(|(_, position)| std::cmp::Reverse(*position));
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(found)
}

/// The entries at some positions of one history.
pub(crate) async fn at(
    session: &mut Session,
    entry: &Arc<Entry>,
    positions: &[Position],
) -> Result<Vec<LogEntry>> {
    let source = LogSource::new(session, Arc::clone(entry)).await?;
    let mut found = Vec::new();
    for some in positions.chunks(usize::try_from(CHUNK).unwrap_or(usize::MAX)) {
        let some: Vec<(usize, Position)> = some.iter().map(|position| (0, *position)).collect();
        found.extend(entries(session, std::slice::from_ref(&source), &some).await?.into_values());
    }
    let mut found: Vec<LogEntry> = found.into_iter().map(|seen| seen.entry).collect();
    found.sort_by_key(|entry| std::cmp::Reverse((entry.header.date, entry.header.id)));
    Ok(found)
}
