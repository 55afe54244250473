//! How many changes there are: by table, user, action and time.

use std::collections::HashMap;

use afterimage_core::matching::Matcher;
use afterimage_core::sql::log::{self as sql, QUARTER};
use afterimage_core::{Action, Moment, TableName};

use super::{HISTORIES, LogEntry, LogQuery, LogSource, each_of, sources};
use crate::database::Afterimage;
use crate::error::Result;
use crate::session::Session;

/// How many changes there are of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogCount {
    /// Of this table.
    pub table: TableName,
    /// Within the quarter of an hour that begins then. Days begin with one, in every time zone.
    pub quarter: Moment,
    /// By this user.
    pub user: Option<String>,
    /// What happened.
    pub action: Action,
    /// So many.
    pub records: u64,
}

/// How many changes there are, by kind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogSummary {
    /// The newest of them, counted: each kind once, in no order.
    pub counts: Vec<LogCount>,
    /// How many those are, together.
    pub records: u64,
    /// Whether there may be older ones that are not counted: those up to the limit only are.
    pub more: bool,
}

/// The quarter of an hour of a moment.
fn quarter(date: Moment) -> Moment {
    let date = date.as_micros();
    Moment::from_micros(date - date.rem_euclid(QUARTER))
}

impl LogSummary {
    /// Of these changes, where they are all there are.
    pub fn of(entries: &[LogEntry]) -> Self {
        let mut kinds: HashMap<Kind, u64> = HashMap::new();
        for entry in entries {
            let kind =
                (entry.table.clone(), quarter(entry.header.date), entry.header.user.clone(), entry.action());
            *kinds.entry(kind).or_default() += 1;
        }
        Self::from_kinds(kinds)
    }

    fn from_kinds(kinds: HashMap<Kind, u64>) -> Self {
        let counts: Vec<LogCount> = kinds
            .into_iter()
            .map(|((table, quarter, user, action), records)| LogCount {
                table,
                quarter,
                user,
                action,
                records,
            })
            .collect();
        let records = counts.iter().map(|count| count.records).sum();
        Self { counts, records, more: false }
    }
}

impl Afterimage {
    /// Counts the changes that answer a query, the newest up to its limit: the cost is bounded by that, whatever there is.
    ///
    /// Where a query asks for values or words, each of them has to be looked at, which costs as much as reading them.
    pub async fn log_summary(&self, query: &LogQuery) -> Result<LogSummary> {
        self.reading(async |session| summary_of(session, query).await).await
    }
}

/// The same, as one session sees it.
pub(crate) async fn summary_of(session: &mut Session, query: &LogQuery) -> Result<LogSummary> {
    let mut kinds: HashMap<Kind, u64> = HashMap::new();
    let limit = query.limit.unwrap_or(u64::MAX);
    let mut add = |kind: Kind, records: u64| *kinds.entry(kind).or_default() += records;
    let sources = sources(session, query).await?;
    let from = query.query.from;
    let in_archives = |source: &LogSource| {
        let until = source.entry.archived_until();
        until.is_some_and(|until| from.is_none_or(|from| from <= until))
    };
    let here = !sources.iter().any(in_archives) || query.latest;
    let more = if here && Matcher::new(&query.query).accepts_all() && query.after.is_none() {
        counted(session, &sources, query, &mut add).await?;
        None
    } else {
        Some(looked_at(session, &sources, query, &mut add).await?)
    };
    let summary = LogSummary::from_kinds(kinds);
    Ok(LogSummary { more: more.unwrap_or(summary.records >= limit), ..summary })
}

/// Table, quarter of an hour, user, action.
type Kind = (TableName, Moment, Option<String>, Action);

async fn counted(
    session: &mut Session,
    sources: &[LogSource],
    query: &LogQuery,
    add: &mut impl FnMut(Kind, u64),
) -> Result<()> {
    // What SQL reads as a number of rows.
    let limit = query.limit.unwrap_or(u64::MAX).min(i64::MAX.unsigned_abs());
    let parts = sources.iter().map(|source| source.part(&query.query)).collect::<Result<Vec<_>>>()?;
    for (n, parts) in parts.chunks(HISTORIES).enumerate() {
        let sql = sql::summary(session.dialect(), parts, &query.query, limit);
        for row in session.ask(&sql).await? {
            let int = |at: usize| row.get(at).and_then(crate::session::Cell::int).unwrap_or_default();
            let text = |at: usize| row.get(at).cloned().and_then(crate::session::Cell::text);
            let part = usize::try_from(int(0)).unwrap_or_default() + n * HISTORIES;
            let (Some(source), Some(action)) =
                (sources.get(part), text(3).and_then(|sign| Action::from_sign(&sign)))
            else {
                continue;
            };
            let kind = (source.seen.clone(), Moment::from_micros(int(1)), text(2), action);
            add(kind, int(4).unsigned_abs());
        }
    }
    Ok(())
}

/// Gives whether there are more.
async fn looked_at(
    session: &mut Session,
    sources: &[LogSource],
    query: &LogQuery,
    add: &mut impl FnMut(Kind, u64),
) -> Result<bool> {
    let (next, _) = each_of(session, sources, query, |entry| {
        let quarter = quarter(entry.header.date);
        let action = entry.action();
        add((entry.table, quarter, entry.header.user, action), 1);
        true
    })
    .await?;
    Ok(next.is_some())
}
