//! Reports: who did what in a period, counted and told one by one, with what may be missing from it.

use std::collections::BTreeMap;

use afterimage_core::{Action, Keeping, Moment, TableName};
use serde::Serialize;

use crate::catalog::Gap;
use crate::database::Afterimage;
use crate::error::Result;
use crate::hold::Hold;
use crate::log::{self, LogEntry, LogQuery};
use crate::removal::Removal;
use crate::serialized::{as_optional_text, as_text};
use crate::session::Session;
use crate::{catalog, introspect};

/// What a report begins with: everything but the changes themselves.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ReportHead {
    /// When it was made: it tells what had been committed by then.
    #[serde(serialize_with = "as_text")]
    pub made: Moment,
    /// What was asked for, in the words of the query grammar; empty for everything.
    pub query: String,
    /// From when, inclusive.
    #[serde(serialize_with = "as_optional_text")]
    pub from: Option<Moment>,
    /// Until when, exclusive.
    #[serde(serialize_with = "as_optional_text")]
    pub before: Option<Moment>,
    /// How many changes there are.
    pub records: u64,
    /// How many of them, by user, table and action, in this order.
    pub counts: Vec<ReportCount>,
    /// The tables that were asked about.
    pub tables: Vec<ReportTable>,
}

/// How many changes of one kind somebody made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ReportCount {
    /// Who, where anybody said.
    pub user: Option<String>,
    /// Of which table.
    #[serde(serialize_with = "as_text")]
    pub table: TableName,
    /// `create`, `update` or `delete`.
    pub action: &'static str,
    /// So many.
    pub records: u64,
}

/// What has to be known of a table by whoever reads the report.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ReportTable {
    /// The table.
    #[serde(serialize_with = "as_text")]
    pub table: TableName,
    /// Since when it is tracked.
    #[serde(serialize_with = "as_text")]
    pub since: Moment,
    /// Whether it is captured at present.
    pub captured: bool,
    /// Columns whose values are kept nowhere, or are hidden from whoever asks.
    pub masked: Vec<String>,
    /// Columns that are not tracked.
    pub left_out: Vec<String>,
    /// How long its records are kept, if not for ever.
    pub keep: Option<String>,
    /// Stretches of the period in which changes may be missing, what was pruned among them.
    pub gaps: Vec<Gap>,
    /// What was ever removed of its history.
    pub removals: Vec<Removal>,
    /// Holds that are in force.
    pub holds: Vec<Hold>,
}

/// What takes a report as it is read.
pub trait ReportSink {
    /// Takes what it begins with; says whether the changes are wanted too.
    fn begin(&mut self, head: &ReportHead) -> bool;

    /// Takes the next change; says whether there is to be another.
    fn change(&mut self, entry: &LogEntry) -> bool;
}

impl Afterimage {
    /// Reports on what answers a query: first what there is altogether, and what may be missing from it; then every change,
    /// newest first, as long as `sink` wants more. Both are of one moment, which is read from while the changes are taken: so
    /// many as there may be, one at a time is in memory.
    ///
    /// A query's limit and place are of no concern here: a report tells all.
    pub async fn report(&self, query: &LogQuery, sink: &mut (impl ReportSink + Send)) -> Result<()> {
        let query = LogQuery { limit: None, after: None, ..query.clone() };
        self.reading(async |session| {
            let head = head(session, &query).await?;
            if sink.begin(&head) {
                log::each(session, &query, |entry| sink.change(&entry)).await?;
            }
            Ok(())
        })
        .await
    }
}

async fn head(session: &mut Session, query: &LogQuery) -> Result<ReportHead> {
    let summary = log::summary_of(session, query).await?;
    let mut counts: BTreeMap<(Option<String>, String, u8), ReportCount> = BTreeMap::new();
    for count in summary.counts {
        let place = match count.action {
            Action::Create => 0,
            Action::Update => 1,
            Action::Delete => 2,
        };
        let kind = (count.user.clone(), count.table.to_string(), place);
        let known = counts.entry(kind).or_insert_with(|| ReportCount {
            user: count.user,
            table: count.table,
            action: count.action.name(),
            records: 0,
        });
        known.records += count.records;
    }
    Ok(ReportHead {
        made: Moment::now(),
        query: query.query.to_string(),
        from: query.query.from,
        before: query.query.before,
        records: summary.records,
        counts: counts.into_values().collect(),
        tables: tables(session, query).await?,
    })
}

async fn tables(session: &mut Session, query: &LogQuery) -> Result<Vec<ReportTable>> {
    let sees_all = !session.remembered().eyes.are_somebodys();
    let mut tables = Vec::new();
    for entry in log::entries_asked(session, query).await? {
        let layout = entry.layout()?;
        let of_table = |one: &Removal| one.table_id == entry.id;
        tables.push(ReportTable {
            table: introspect::seen(session, &entry.table).await?,
            since: entry.since,
            captured: entry.stage != catalog::Stage::Stopped,
            masked: layout
                .fields
                .iter()
                .filter(|field| field.keeping == Keeping::Masked)
                .map(|field| field.name.clone())
                .collect(),
            left_out: layout.left_out.iter().filter(|_| sees_all).map(|column| column.name.clone()).collect(),
            keep: entry.tracking.retention.as_ref().map(ToString::to_string),
            gaps: log::gaps_of(&entry, &query.query),
            removals: entry.removals.iter().filter(|one| sees_all && of_table(one)).cloned().collect(),
            holds: entry
                .holds
                .iter()
                .filter(|hold| sees_all && hold.lifted.is_none())
                .map(|hold| hold.named(&entry))
                .collect(),
        });
    }
    Ok(tables)
}
