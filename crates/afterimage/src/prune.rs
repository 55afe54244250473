//! Retention: which records may go, and letting them go.

mod contexts;
#[cfg(feature = "postgres")]
mod parts;

use afterimage_core::record::all_fields;
use afterimage_core::sql::Bound;
use afterimage_core::sql::catalog as sql;
use afterimage_core::sql::log::{Position, Source};
use afterimage_core::sql::retention::{self, Doomed};
use afterimage_core::{Context, Cut, Moment, Retention, TableName, Value};
use serde::Serialize;

use crate::batches::Batches;
use crate::catalog::{self, Entry};
use crate::database::Afterimage;
use crate::error::{Error, ErrorKind, Result};
use crate::removal::{FIRST_BATCH, Held, LARGEST_BATCH, enter, guarded, others};
use crate::serialized::{as_optional_text, as_text};
use crate::session::{Cell, Row, Session};
use crate::{as_of, introspect, migrate};

/// Which records are to go.
///
/// ```
/// # use afterimage::{Afterimage, Context, Prune, Retention, Tracking};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
/// # sqlx::query("CREATE TABLE orders (id INTEGER PRIMARY KEY, total NUMERIC)").execute(&pool).await?;
/// # let audit = Afterimage::from_sqlite(pool.clone());
/// audit.track("orders", Tracking::new().keep(Retention::versions(20))).await?;
/// let pruned = audit.prune(&Prune::new(), &Context::actor("keeper").reason("as declared")).await?;
/// assert_eq!(pruned[0].records, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Prune {
    tables: Vec<String>,
    keep: Option<Retention>,
    dry_run: bool,
    exact: bool,
}

impl Prune {
    /// What may go of every table that says how long its records are kept.
    pub fn new() -> Self {
        Self::default()
    }

    /// Of these tables only.
    #[must_use]
    pub fn tables<S: Into<String>>(mut self, tables: impl IntoIterator<Item = S>) -> Self {
        self.tables = tables.into_iter().map(Into::into).collect();
        self
    }

    /// By this rule, whatever the tables themselves say.
    #[must_use]
    pub fn keep(mut self, retention: Retention) -> Self {
        self.keep = Some(retention);
        self
    }

    /// Says what would go, and lets nothing go.
    #[must_use]
    pub fn dry_run(mut self, yes: bool) -> Self {
        self.dry_run = yes;
        self
    }

    /// Of a history in partitions, lets also go what is older than is kept but in one partition with what is not: record by
    /// record, as of any other history. Else it goes with its partition, once all of that is old enough.
    #[must_use]
    pub fn exact(mut self, yes: bool) -> Self {
        self.exact = yes;
        self
    }
}

/// What went of one table, or would go.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Pruned {
    /// The table.
    #[serde(serialize_with = "as_text")]
    pub table: TableName,
    /// What is kept.
    #[serde(serialize_with = "as_text")]
    pub keep: Retention,
    /// How many records went, or would go.
    pub records: u64,
    /// Up to where the history is not whole any more, if anything went.
    #[serde(serialize_with = "as_optional_text")]
    pub until: Option<Moment>,
    /// Why nothing may go: the table is under a hold, or it is kept until some day.
    pub kept_by: Option<String>,
    /// How many rows are under a hold.
    pub rows_held: usize,
}

/// How far [`prune_with`](Afterimage::prune_with) has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pruning {
    /// The table.
    pub table: TableName,
    /// Records that went by now.
    pub done: u64,
    /// How many there were to go when it began.
    pub total: u64,
}

impl Afterimage {
    /// Says how long the records of a table are kept, from now on, or that they are for ever: what [`prune`](Self::prune) goes
    /// by. Nothing goes by this alone. Tracking a table again without a word of it leaves it as it is.
    pub async fn set_retention(&self, table: &str, retention: Option<Retention>) -> Result<()> {
        self.sees_all()?;
        self.writing(async |session| {
            catalog::ensure(session).await?;
            let entry = catalog::find(session, table).await?;
            let mut tracking = entry.tracking.clone();
            tracking.retention = retention;
            session
                .run(&sql::update_tracked(session.dialect(), entry.id, &entry.table, &tracking))
                .await
                .map(drop)
        })
        .await
    }

    /// Lets the records go that no retention keeps: oldest first, in batches that each take a moment, so that writers hardly
    /// wait. What went, by which rule and by whose wish is recorded ([`removals`](Self::removals)).
    ///
    /// Every time that is not before the cut can still be asked for: the version that was current then stays, as does every
    /// row's last record. Of a time before it, answers say that its records were pruned.
    ///
    /// Killed at any point, nothing is lost that was to stay, and the next run goes on.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] where a table is named that does not say how long its records are kept;
    /// [`ErrorKind::Drifted`] where the guards of a history are not those of this version: migrate first.
    pub async fn prune(&self, request: &Prune, context: &Context) -> Result<Vec<Pruned>> {
        self.prune_with(request, context, &mut |_| {}).await
    }

    /// The same, and tells `progress` how it gets on.
    pub async fn prune_with(
        &self,
        request: &Prune,
        context: &Context,
        progress: &mut (dyn FnMut(Pruning) + Send),
    ) -> Result<Vec<Pruned>> {
        self.sees_all()?;
        let (mut all, mut last) = (Vec::new(), None);
        let pruned = self.prune_each(request, context, progress, &mut all, &mut last).await;
        // Also where one of the tables could not be pruned.
        let forgotten = match last {
            Some((removal, until)) => self.forget_contexts(removal, until).await,
            None => Ok(()),
        };
        pruned.and(forgotten)?;
        Ok(all)
    }

    /// Prunes each table; `last` is the number of the last removal, and the latest moment of any.
    async fn prune_each(
        &self,
        request: &Prune,
        context: &Context,
        progress: &mut (dyn FnMut(Pruning) + Send),
        all: &mut Vec<Pruned>,
        last: &mut Option<(i64, Moment)>,
    ) -> Result<()> {
        let now = Moment::now();
        let chosen = self.reading(async |session| {
            let chosen = match request.tables.is_empty() {
                true => catalog::entries(session).await?,
                false => migrate::chosen(session, &request.tables).await?,
            };
            Ok(chosen)
        });
        for entry in chosen.await? {
            if request.keep.is_none() && entry.tracking.retention.is_none() {
                if request.tables.is_empty() {
                    continue;
                }
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    "nothing says how long its records are kept, so all of them are",
                )
                .on(&entry.table));
            };
            let (id, keep) = (entry.id, request.keep.clone());
            let run = Run { audit: self, id, keep, exact: request.exact, now, context };
            let one = match request.dry_run {
                true => run.look().await,
                false => run.prune(progress, last).await,
            };
            match one {
                Ok(one) => all.push(one),
                Err(error) => {
                    let error = error.on(&entry.table);
                    return Err(all.iter().fold(error, |error, done: &Pruned| {
                        error.after(format!("pruned {} records of {}", done.records, done.table))
                    }));
                }
            }
        }
        Ok(())
    }
}

/// One table that is pruned.
struct Run<'a> {
    audit: &'a Afterimage,
    id: i64,
    /// By this rule, or else by the table's own, as it is by then.
    keep: Option<Retention>,
    /// Whether a partition is cut through.
    #[cfg_attr(not(feature = "postgres"), allow(dead_code, reason = "there are none"))]
    exact: bool,
    now: Moment,
    context: &'a Context,
}

/// What may go of a table, as one session sees it.
struct Doom {
    entry: std::sync::Arc<Entry>,
    cut: Cut,
    unfinished: Vec<String>,
    held: Vec<Vec<Value>>,
    /// The partitions that are older than the cut, where it goes by these.
    #[cfg(feature = "postgres")]
    old: Option<parts::Old>,
}

/// The next records to go.
struct Batch {
    doom: Doom,
    gone: Vec<Position>,
    /// The oldest that are left of their rows, and do not hold the whole row.
    to_fill: Vec<Position>,
    /// Until when the history is not whole, once these are gone.
    until: Option<Moment>,
}

impl Run<'_> {
    /// What may go; or why nothing may.
    async fn doom(&self, session: &mut Session) -> Result<(Pruned, Option<Doom>)> {
        let all = catalog::entries(session).await?;
        let entry = all.iter().find(|entry| entry.id == self.id).cloned();
        let entry = entry.ok_or_else(|| Error::new(ErrorKind::NotFound, "it was untracked meanwhile"))?;
        let keep = self.keep.clone().or_else(|| entry.tracking.retention.clone());
        let keep = keep.ok_or_else(|| {
            Error::new(
                ErrorKind::Busy,
                "nothing says any more how long its records are kept: all of them are",
            )
        })?;
        let mut pruned = Pruned {
            table: introspect::seen(session, &entry.table).await?,
            keep: keep.clone(),
            records: 0,
            until: None,
            kept_by: None,
            rows_held: 0,
        };
        let Held { table, rows: held } = Held::of(&entry)?;
        pruned.kept_by = table;
        pruned.rows_held = held.len();
        let cut = keep.cut(self.now)?;
        if pruned.kept_by.is_none() && cut.is_none() {
            pruned.kept_by = Some(format!("it is kept {keep}"));
        }
        let (None, Some(cut)) = (&pruned.kept_by, cut) else { return Ok((pruned, None)) };
        #[cfg(feature = "postgres")]
        let mut cut = cut;
        #[cfg(feature = "postgres")]
        let mut old = None;
        #[cfg(feature = "postgres")]
        if let (Some(moment), None, false) = (cut.moment, cut.versions, self.exact) {
            match parts::Old::of(session, &entry, moment).await? {
                None => {}
                // What is older than is kept is in one partition with what is not.
                Some(None) => return Ok((pruned, None)),
                Some(found) => {
                    cut.moment = found.as_ref().map(|old| parts::last(old.to));
                    old = found;
                }
            }
        }
        let unfinished = match cut.moment {
            Some(moment) => as_of::unfinished(session, &all, Bound::Time(moment)).await?,
            None => Vec::new(),
        };
        Ok((
            pruned,
            Some(Doom {
                entry,
                cut,
                unfinished,
                held,
                #[cfg(feature = "postgres")]
                old,
            }),
        ))
    }

    async fn look(&self) -> Result<Pruned> {
        self.audit
            .reading(async |session| {
                let (mut pruned, doom) = self.doom(session).await?;
                if let Some(doom) = doom {
                    pruned.records = doom.count(session).await?;
                    if pruned.records > 0 {
                        pruned.until = doom.cut.moment;
                    }
                }
                Ok(pruned)
            })
            .await
    }

    async fn prune(
        &self,
        progress: &mut (dyn FnMut(Pruning) + Send),
        last: &mut Option<(i64, Moment)>,
    ) -> Result<Pruned> {
        #[cfg(feature = "postgres")]
        self.tidy().await?;
        let (mut pruned, way) = self
            .audit
            .reading(async |session| {
                let (pruned, doom) = self.doom(session).await?;
                let Some(doom) = doom else { return Ok((pruned, Way::Batches(0))) };
                let way = doom.way(session).await?;
                if !matches!(way, Way::Batches(0)) {
                    guarded(session, &doom.entry).await?;
                }
                Ok((pruned, way))
            })
            .await?;
        #[cfg(feature = "postgres")]
        if matches!(way, Way::Parts) {
            return self.let_parts_go(pruned, progress).await;
        }
        let Way::Batches(total) = way else { return Ok(pruned) };
        let mut removal = None;
        let mut after = None;
        let mut batches = Batches::new(self.audit.database(), FIRST_BATCH, LARGEST_BATCH);
        // What there was to go when it began: a cut by versions moves on as the table is written.
        while pruned.records < total {
            let size = batches.size();
            let batch = self.audit.reading(async |session| self.next(session, after, size).await).await?;
            let Some(batch) = batch else { break };
            batches.begin().await;
            let gone = self.audit.removing(async |session| self.let_go(session, &batch, &mut removal).await);
            let gone = gone.await?;
            batches.end();
            // Something changed what may go: it is looked for again.
            let Some(gone) = gone else { continue };
            pruned.records += gone;
            pruned.until = pruned.until.max(batch.until);
            if let (Some(removal), Some(until)) = (removal, pruned.until) {
                *last = Some((removal, last.map_or(until, |(_, latest)| latest.max(until))));
            }
            after = batch.gone.last().copied();
            progress(Pruning { table: pruned.table.clone(), done: pruned.records, total });
        }
        Ok(pruned)
    }

    /// The next batch: what is in it may go whatever happens meanwhile, but for a hold.
    async fn next(
        &self,
        session: &mut Session,
        after: Option<Position>,
        limit: i64,
    ) -> Result<Option<Batch>> {
        let (_, doom) = self.doom(session).await?;
        let Some(doom) = doom else { return Ok(None) };
        let dialect = session.dialect();
        // Full records need nothing of those before them.
        let with_following = doom.entry.sparse() || doom.cut.moment.is_none();
        let rows =
            session.ask(&retention::next(dialect, &doom.doomed()?, with_following, after, limit)).await?;
        let int = |row: &Row, at: usize| row.get(at).and_then(Cell::int);
        let position = |row: &Row, at: usize| Some((Moment::from_micros(int(row, at)?), int(row, at + 1)?));
        let gone: Vec<Position> = rows.iter().filter_map(|row| position(row, 0)).collect();
        if gone.is_empty() {
            return Ok(None);
        }
        let goes = |position: &Position| gone.binary_search(position).is_ok();
        let left: Vec<(Position, bool)> = rows
            .iter()
            .filter_map(|row| Some((position(row, 2)?, int(row, 4) == Some(1))))
            .filter(|(position, _)| !goes(position))
            .collect();
        let until = match doom.cut.moment {
            Some(moment) => Some(moment),
            None => {
                let all = catalog::entries(session).await?;
                let histories = catalog::histories(&all);
                let left: Vec<Position> = left.iter().map(|(position, _)| *position).collect();
                let sql = retention::ended(dialect, &histories, doom.entry.layout()?, &left);
                let row = session.ask_row(&sql).await?;
                let ended = row.as_ref().and_then(|row| int(row, 0)).map(Moment::from_micros);
                ended.max(left.iter().map(|(date, _)| *date).max())
            }
        };
        let mut to_fill: Vec<Position> =
            left.into_iter().filter(|(_, full)| !full).map(|(position, _)| position).collect();
        to_fill.sort_unstable();
        to_fill.dedup();
        Ok(Some(Batch { doom, gone, to_fill, until }))
    }

    /// Lets a batch go, in one transaction with the record of it; nothing, where something changed since it was looked for: a
    /// hold, the rule, the columns, or that somebody else removed records of the table.
    async fn let_go(
        &self,
        session: &mut Session,
        batch: &Batch,
        removal: &mut Option<i64>,
    ) -> Result<Option<u64>> {
        catalog::ensure(session).await?;
        let (pruned, doom) = self.doom(session).await?;
        let same = doom.is_some_and(|now| {
            now.cut == batch.doom.cut
                && now.held == batch.doom.held
                && now.entry.epochs == batch.doom.entry.epochs
                && others(&now.entry, *removal) == others(&batch.doom.entry, *removal)
        });
        if !same {
            return Ok(None);
        }
        let (dialect, entry) = (session.dialect(), &batch.doom.entry);
        let layout = entry.layout()?;
        session.run_all(&dialect.tick()).await?;
        let rule = pruned.keep.to_string();
        let id = enter(session, layout, "prune", Some(&rule), self.context, *removal).await?;
        session.run(&sql::open_removal(dialect, id, batch.until)).await?;
        if !batch.to_fill.is_empty() {
            let fields = all_fields(&entry.epochs);
            let source = Source { layout, fields: &fields, sparse: true };
            session.run(&retention::fill(dialect, &source, &batch.to_fill)).await?;
        }
        let gone = session.run(&retention::remove(dialect, layout, &batch.gone)).await?;
        session.run(&sql::close_removal(dialect, id, gone)).await?;
        *removal = Some(id);
        Ok(Some(gone))
    }
}

/// How records go.
enum Way {
    /// So many of them, a batch at a time.
    Batches(u64),
    /// With the partitions that they are in.
    #[cfg(feature = "postgres")]
    Parts,
}

impl Doom {
    fn doomed(&self) -> Result<Doomed<'_>> {
        Ok(Doomed {
            layout: self.entry.layout()?,
            cut: self.cut,
            unfinished: &self.unfinished,
            held: &self.held,
        })
    }

    async fn way(&self, session: &mut Session) -> Result<Way> {
        #[cfg(feature = "postgres")]
        if let Some(old) = &self.old
            && old.is_worth_it(session, self).await?
        {
            return Ok(Way::Parts);
        }
        Ok(Way::Batches(self.count(session).await?))
    }

    async fn count(&self, session: &mut Session) -> Result<u64> {
        let sql = retention::count_doomed(session.dialect(), &self.doomed()?);
        Ok(session.int(&sql, &[]).await?.unwrap_or_default().unsigned_abs())
    }
}
