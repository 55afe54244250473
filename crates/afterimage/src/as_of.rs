//! A table as of a time.

use std::sync::Arc;

use afterimage_core::sql::question::Question;
use afterimage_core::sql::{AsOf, Bound, Dialect, Rows, live};
use afterimage_core::{Database, Field, Header, Layout, Moment, Value};

use crate::catalog::{self, Entry, Stage};
use crate::database::Afterimage;
use crate::error::{Error, ErrorKind, Result};
use crate::session::{Cell, Row, Session};
use crate::versions::{PointInTime, value};
use crate::{across, health, introspect, key, shelf};

/// Which rows of a table, as of when.
#[derive(Debug, Clone)]
pub struct AsOfQuery {
    /// The table.
    pub table: String,
    /// As of when.
    pub at: PointInTime,
    /// A condition on the state, as SQL over the table's columns of that time.
    pub filter: Option<String>,
    /// At most so many rows, in key order.
    pub limit: Option<u64>,
    /// Only the rows after this key, which need not be one of them: the next page.
    pub after: Option<String>,
    /// Where to begin.
    pub start: Start,
}

/// Where an as-of begins. It is a matter of cost: wherever the records give the live table, both tell the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// Wherever there is less to do.
    #[default]
    LeastWork,
    /// From the records alone, whatever the live table says.
    Records,
    /// From the live rows, with what was written since undone: where nothing tells that these may say otherwise, and the
    /// database has a good way.
    LiveRows,
}

impl AsOfQuery {
    /// All rows of a table.
    pub fn new(table: impl Into<String>, at: PointInTime) -> Self {
        Self { table: table.into(), at, filter: None, limit: None, after: None, start: Start::default() }
    }
}

/// A table as of a time, in key order.
#[derive(Debug, Clone, PartialEq)]
pub struct TableState {
    /// The columns of that time.
    pub columns: Vec<String>,
    /// The rows, in key order.
    pub rows: Vec<Vec<Value>>,
    /// How many of them came from an archive.
    pub archived: u64,
}

/// What was read of a table.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TableRead {
    /// The columns of that time.
    pub columns: Vec<String>,
    /// How many rows came from an archive.
    pub archived: u64,
}

/// A point in time, settled.
#[derive(Debug, Clone)]
pub(crate) struct Point {
    pub(crate) bound: Bound,
    pub(crate) unfinished: Vec<String>,
}

impl Point {
    /// Whether a record is part of it.
    pub(crate) fn shows(&self, header: &Header) -> bool {
        let finished = !header.tx.as_ref().is_some_and(|tx| self.unfinished.contains(tx));
        finished && self.bound.includes((header.date, header.id))
    }
}

impl Afterimage {
    /// A table as of a time, whole. For a large one, see [`as_of_each`](Self::as_of_each).
    pub async fn as_of(&self, query: &AsOfQuery) -> Result<TableState> {
        let mut rows = Vec::new();
        let read = self.as_of_each(query, |_, row| {
            rows.push(row);
            true
        });
        let TableRead { columns, archived } = read.await?;
        Ok(TableState { columns, rows, archived })
    }

    /// A table as of a time, row by row in key order; `take` gets the columns' names and a row, and says whether it
    /// wants more. Gives the columns' names.
    ///
    /// Of a time whose records are in an archive, text in a key is ordered by its bytes, whatever its collation, and there can be no
    /// condition.
    pub async fn as_of_each(
        &self,
        query: &AsOfQuery,
        mut take: impl FnMut(&[String], Vec<Value>) -> bool,
    ) -> Result<TableRead> {
        self.reading(async |session| each(session, query, &mut take).await).await
    }

    /// Several tables as of one time, read in one transaction: they fit together.
    pub async fn as_of_tables(&self, tables: &[&str], at: &PointInTime) -> Result<Vec<TableState>> {
        self.reading(async |session| {
            let mut states = Vec::new();
            for table in tables {
                let mut rows = Vec::new();
                let mut take = |_: &[String], row: Vec<Value>| {
                    rows.push(row);
                    true
                };
                let query = AsOfQuery::new(*table, at.clone());
                let TableRead { columns, archived } = each(session, &query, &mut take).await?;
                states.push(TableState { columns, rows, archived });
            }
            Ok(states)
        })
        .await
    }

    /// How many rows a table had as of a time, counted up to so many: it costs no more than these.
    pub async fn count_as_of_up_to(&self, table: &str, at: &PointInTime, most: u64) -> Result<u64> {
        self.reading(async |session| {
            let (entry, point) = asked(session, table, at).await?;
            if entry.is_archived_at(point.bound) {
                return across::count(session, &entry, &point, most).await;
            }
            let as_of = AsOf {
                layout: layout_at(&entry, point.bound)?,
                fields: &[],
                sparse: false,
                bound: point.bound,
                unfinished: &point.unfinished,
                rows: Rows::All,
                first: true,
            };
            let rows = session.dialect().as_of(&as_of);
            let sql = format!("SELECT count(*) FROM (\n{rows}\nLIMIT {most}) AS rows_then");
            let count = session.ask_row(&sql).await?.and_then(|row| row.first().and_then(Cell::int));
            Ok(count.unwrap_or_default().unsigned_abs())
        })
        .await
    }

    /// How many rows a table had as of a time.
    pub async fn count_as_of(&self, table: &str, at: &PointInTime) -> Result<i64> {
        self.reading(async |session| {
            let (entry, point) = asked(session, table, at).await?;
            if entry.is_archived_at(point.bound) {
                let count = across::count(session, &entry, &point, u64::MAX).await?;
                return Ok(i64::try_from(count).unwrap_or(i64::MAX));
            }
            let layout = layout_at(&entry, point.bound)?;
            let (bound, unfinished) = (point.bound, point.unfinished.as_slice());
            let as_of =
                AsOf { layout, fields: &[], sparse: false, bound, unfinished, rows: Rows::All, first: false };
            let balanced = entry.has_whole_baseline() && !layout.shared_key;
            let sql = if balanced && starts_from_live(session, &entry, &point, Start::LeastWork).await? {
                live::count_as_of(session.dialect(), layout, bound)
            } else if balanced {
                session.dialect().count_as_of(&as_of)
            } else {
                // Creations and deletions do not balance.
                format!("SELECT count(*) FROM (\n{}\n) AS rows_then", session.dialect().as_of(&as_of))
            };
            let count = session.ask_row(&sql).await?.and_then(|row| row.first().and_then(Cell::int));
            Ok(count.unwrap_or_default())
        })
        .await
    }
}

/// The table that a question is about, and the point in time, which can be answered.
async fn asked(session: &mut Session, table: &str, at: &PointInTime) -> Result<(Arc<Entry>, Point)> {
    let entry = catalog::find(session, table).await?;
    let point = resolve(session, &entry, at).await?;
    answerable_with_archives(&entry, point.bound)?;
    Ok((entry, point))
}

/// The rows of a table as of a time, wherever they are.
async fn each(
    session: &mut Session,
    query: &AsOfQuery,
    take: &mut impl FnMut(&[String], Vec<Value>) -> bool,
) -> Result<TableRead> {
    let (entry, point) = asked(session, &query.table, &query.at).await?;
    if entry.is_archived_at(point.bound) {
        return across::rows(session, &entry, &point, query, take).await;
    }
    let (sql, fields) = as_of_sql(session, &entry, &point, query).await?;
    let columns: Vec<String> = fields.iter().map(|field| field.name.clone()).collect();
    let give = |row: Row| Ok(take(&columns, shown(&entry, &fields, point.bound, row)));
    // A condition that somebody typed goes where only one statement can.
    let read = match query.filter {
        Some(_) => session.each(&sql, &[], give).await,
        None => session.ask_each(&sql, give).await,
    };
    read.map_err(|error| error.on(&entry.table))?;
    Ok(TableRead { columns, archived: 0 })
}

/// The rows that a query asks for, each value as the text from which it is shown.
async fn as_of_sql(
    session: &mut Session,
    entry: &Entry,
    point: &Point,
    query: &AsOfQuery,
) -> Result<(String, Vec<Field>)> {
    let dialect = session.dialect();
    let (filter, limit) = (query.filter.as_deref(), query.limit);
    if filter.is_some() {
        may_filter(session, entry)?;
    }
    // With a limit, reading the records in the order of the key stops early. In a union SQLite compares a column with what
    // somebody typed by other rules than in the table.
    let whole = limit.is_none()
        && query.after.is_none()
        && (filter.is_none() || dialect.database() == Database::Postgres);
    let from_live = whole && starts_from_live(session, entry, point, query.start).await?;
    let after = match &query.after {
        Some(text) => Some(key::values(layout_at(entry, point.bound)?, text)?),
        None => None,
    };
    let wanted = Wanted { filter, limit, from_live, after: after.as_deref(), ..Wanted::default() };
    let (sql, layout) = state_sql(dialect, entry, point, &wanted)?;
    let fields: Vec<&Field> = layout.fields.iter().collect();
    Ok((dialect.shown(layout, &sql, &fields), layout.fields.clone()))
}

/// A row of a state, as it is shown.
pub(crate) fn shown(entry: &Entry, fields: &[Field], bound: Bound, row: Row) -> Vec<Value> {
    let mut values: Vec<Value> = fields.iter().zip(row).map(|(field, cell)| value(field, cell)).collect();
    entry.redact_row(fields, bound, &mut values);
    values
}

/// Refuses a condition of somebody who may not see everything: it could tell what is in columns, or in tables, that are not
/// there for them.
pub(crate) fn may_filter(session: &mut Session, entry: &Entry) -> Result<()> {
    if session.remembered().eyes.are_somebodys() {
        return Err(Error::new(
            ErrorKind::Forbidden,
            "a condition could tell what is in columns that are not shown: there is none to be given",
        )
        .on(&entry.table));
    }
    Ok(())
}

/// Beyond so many records, undoing them is not tried.
const FEW: u32 = 20_000;

/// So few records are read as they are.
const HARDLY_ANY: u32 = 10_000;

/// Whether the live rows, with what was written since undone, are less work than the records and tell the same: all of what
/// was written since is known, and the table's columns are those of that time.
async fn starts_from_live(session: &mut Session, entry: &Entry, point: &Point, start: Start) -> Result<bool> {
    let (Some(moment), Some(epoch)) = (point.bound.moment(), entry.epochs.last()) else { return Ok(false) };
    let known = start != Start::Records
        && point.unfinished.is_empty()
        && entry.stage == Stage::Active
        && epoch.from <= moment
        && !entry.gaps.iter().any(|gap| gap.to.is_none_or(|to| to > moment));
    if !known {
        return Ok(false);
    }
    if start == Start::LeastWork && !few_are_beyond(session, &epoch.layout, point.bound).await? {
        return Ok(false);
    }
    Ok(match introspect::exact(session, &entry.table).await? {
        Some(table) => {
            introspect::is_readable(session, &table).await?
                && health::faults(session, entry, &table).await?.is_empty()
        }
        None => false,
    })
}

/// Whether undoing what is beyond a bound is less work than reading what is within.
async fn few_are_beyond(session: &mut Session, layout: &Layout, bound: Bound) -> Result<bool> {
    let sql = live::amounts(session.dialect(), layout, bound, FEW + 1, 4 * FEW + HARDLY_ANY);
    let row = session.ask_row(&sql).await.map_err(|error| error.on(&layout.table))?.unwrap_or_default();
    let amount = |at: usize| row.get(at).and_then(Cell::int).unwrap_or_default();
    let (beyond, within) = (amount(0), amount(1));
    Ok(beyond <= i64::from(FEW) && within >= 4 * beyond + i64::from(HARDLY_ANY))
}

/// Which rows of a state are wanted, and how they are best found.
#[derive(Debug, Default)]
pub(crate) struct Wanted<'a> {
    pub(crate) filter: Option<&'a str>,
    pub(crate) limit: Option<u64>,
    /// Only those after this key.
    pub(crate) after: Option<&'a [Value]>,
    /// Only the first ones will be fetched.
    pub(crate) first: bool,
    /// From the live rows, with what was written since undone.
    pub(crate) from_live: bool,
}

impl<'a> Wanted<'a> {
    /// Those of which a condition is true.
    pub(crate) fn filtered(filter: Option<&'a str>) -> Self {
        Self { filter, ..Self::default() }
    }
}

/// The state of a table at a point, typed, in key order; and the layout of that time.
pub(crate) fn state_sql<'e>(
    dialect: &dyn Dialect,
    entry: &'e Entry,
    point: &Point,
    wanted: &Wanted<'_>,
) -> Result<(String, &'e Layout)> {
    let layout = layout_at(entry, point.bound)?;
    let as_of = AsOf {
        layout,
        fields: &layout.fields,
        sparse: entry.sparse(),
        bound: point.bound,
        unfinished: &point.unfinished,
        rows: wanted.after.map_or(Rows::All, Rows::After),
        first: wanted.first || wanted.limit.is_some(),
    };
    let recent = if wanted.from_live { live::as_of(dialect, &as_of) } else { None };
    let mut sql = recent.unwrap_or_else(|| dialect.as_of(&as_of));
    let alias = afterimage_core::Quoted::new(&entry.table.name);
    if let Some(filter) = wanted.filter {
        check_filter(dialect.database(), filter)?;
        let order = dialect.key_order(layout, &entry.table.name);
        sql = format!("SELECT * FROM (\n{sql}\n) AS {alias}\nWHERE ({filter}\n)\nORDER BY {order}");
    }
    if let Some(limit) = wanted.limit {
        sql.push_str(&format!("\nLIMIT {limit}"));
    }
    Ok((sql, layout))
}

/// A condition that somebody typed must not write. PostgreSQL's transaction is read-only, and takes one statement at a
/// time; on SQLite a SELECT cannot write, so that it is enough that the condition stays inside ours.
fn check_filter(database: Database, filter: &str) -> Result<()> {
    #[cfg(feature = "sqlite")]
    if database == Database::Sqlite && !crate::sqlite_text::is_one_expression(filter) {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            format!(
                "{filter:?} is not one condition: its parentheses or quotes do not close, or it goes on after them"
            ),
        ));
    }
    let _ = (database, filter);
    Ok(())
}

/// The layout in force at a bound.
pub(crate) fn layout_at(entry: &Entry, bound: Bound) -> Result<&Layout> {
    match bound.moment() {
        None => entry.layout(),
        Some(moment) => entry.layout_at(moment).map_or_else(|| entry.layout(), Ok),
    }
}

/// Settles what a point in time means: up to which record, and which transactions had not ended.
pub(crate) async fn resolve(session: &mut Session, entry: &Entry, at: &PointInTime) -> Result<Point> {
    let all = catalog::entries(session).await?;
    let histories = catalog::histories(&all);
    let dialect = session.dialect();
    let bound = match at {
        PointInTime::Now => return Ok(Point { bound: Bound::Now, unfinished: Vec::new() }),
        PointInTime::At(moment) => Bound::Time(*moment),
        PointInTime::After(tx) => {
            let sql = dialect.position_of_tx(&histories, tx)?;
            let row = session.ask_row(&sql).await?;
            let here = row.and_then(|row| Some((Moment::from_micros(row[0].int()?), row[1].int()?)));
            let until = all.iter().filter_map(|entry| entry.archived_until()).max();
            let there = match here {
                Some((date, _)) if until.is_none_or(|until| date > until) => None,
                _ => shelf::last_of(session, tx, here.map(|(date, _)| date)).await?,
            };
            let (date, id) = here.max(there).ok_or_else(|| {
                Error::new(ErrorKind::NotFound, format!("there is no record of a transaction {tx}"))
                    .on(&entry.table)
            })?;
            Bound::Position(date, id)
        }
    };
    let mut unfinished = unfinished(session, &all, bound).await?;
    if all.iter().any(|entry| entry.is_archived_at(bound)) {
        unfinished.extend(shelf::unfinished(session, bound).await?);
        unfinished.sort_unstable();
        unfinished.dedup();
    }
    Ok(Point { bound, unfinished })
}

/// The transactions that had begun by a bound, and had not ended.
pub(crate) async fn unfinished(
    session: &mut Session,
    tracked: &[Arc<Entry>],
    bound: Bound,
) -> Result<Vec<String>> {
    let (dialect, histories) = (session.dialect(), catalog::histories(tracked));
    if catalog::may_be_kept(tracked)
        && !session.remembered().knows_long_ones()
        && let Some(question) = dialect.unfinished_unless_long(&histories, bound)
    {
        match transactions(session, &question).await? {
            Some(all) => return Ok(all),
            None => session.remembered().learns_of_long_ones(),
        }
    }
    Ok(transactions(session, &dialect.unfinished(&histories, bound)).await?.unwrap_or_default())
}

/// The transactions that a question gives; nothing where one is not said.
async fn transactions(session: &mut Session, question: &Question) -> Result<Option<Vec<String>>> {
    let rows = session.answers(question).await?;
    Ok(rows.into_iter().map(|mut row| row.pop()?.text()).collect())
}

/// Refuses what the history in the database alone cannot say of a whole table.
pub(crate) fn answerable(entry: &Entry, bound: Bound) -> Result<()> {
    answerable_with_archives(entry, bound)?;
    entry.refuse_archived(bound)
}

/// Refuses what the history cannot say of a whole table, whatever archives have of it.
fn answerable_with_archives(entry: &Entry, bound: Bound) -> Result<()> {
    answerable_of_row(entry, bound, None)?;
    match removed(entry, bound) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// What to say of a time of which records were removed: of a row, where none is left that was current then.
pub(crate) fn removed(entry: &Entry, bound: Bound) -> Option<Error> {
    let (moment, removal) = (bound.moment()?, entry.last_removal()?);
    let horizon = removal.until.filter(|horizon| moment < *horizon)?;
    let message = format!(
        "its records of before {horizon} were {}: what it was at {moment} is not known any more",
        removal.cause()
    );
    Some(Error::new(ErrorKind::Unknowable, message).on(&entry.table))
}

/// Refuses what the history cannot say: before tracking began, inside a gap, before the baseline is whole. Where records were
/// [`removed`], those of a row that are left may still tell.
pub(crate) fn answerable_of_row(entry: &Entry, bound: Bound, key: Option<&str>) -> Result<()> {
    let refuse = |message: String| Err(Error::new(ErrorKind::Unknowable, message).on(&entry.table));
    let moment = bound.moment();
    if let Some(moment) = moment.filter(|moment| *moment < entry.since) {
        return refuse(format!("it is tracked since {}; what it was at {moment} is not known", entry.since));
    }
    if entry.stage == Stage::Baseline {
        return refuse("its baseline is not finished: track it again to go on with it".to_owned());
    }
    let at = moment.unwrap_or_else(Moment::now);
    let concerns = |gap: &Option<String>| match (gap, key) {
        (Some(gap), Some(key)) => key::is_same(entry, gap, key),
        _ => true,
    };
    if let Some(gap) = entry.gaps.iter().find(|gap| gap.contains(at) && concerns(&gap.key)) {
        let until = gap.to.map_or_else(|| "now".to_owned(), |to| to.to_string());
        return refuse(format!("{at} lies in a gap, from {} to {until}: {}", gap.from, gap.cause));
    }
    Ok(())
}
