//! Moving partitions: a history that becomes the first of them, those that are made ahead, and what has to be alone for it.

use std::sync::Arc;
use std::time::Duration;

use afterimage_core::sql::catalog as sql;
use afterimage_core::sql::postgres::partitions::{self, REST, Stretch};
use afterimage_core::{Moment, Partitions, Period, TableName, Tracking};

use super::{Partition, Partitioned};
use crate::catalog::{self, Entry};
use crate::database::Afterimage;
use crate::doctor::{Finding, Severity};
use crate::error::{Error, ErrorKind, Result};
use crate::introspect;
use crate::removal::guarded;
use crate::session::{Cell, Row, Session};
use crate::turn::Turns;

/// From so many on, partitions are a burden.
const MANY: usize = 200;

/// So far ahead, at least, ends the partition that what was recorded so far becomes: until then writers go on as they did, if
/// the way there is interrupted.
const MARGIN_MICROS: i64 = 31 * 24 * 3600 * 1_000_000;

/// The partitions that a history is in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parts {
    /// Each with its stretch, oldest first.
    stretches: Vec<(TableName, Stretch)>,
    /// That of everything else.
    rest: Option<TableName>,
    /// Whether there is something in it.
    crowded: bool,
}

impl Parts {
    /// Those of a history that is in some.
    pub(crate) async fn of(session: &mut Session, entry: &Entry) -> Result<Option<Self>> {
        if !matches!(session, Session::Postgres(_)) {
            return Ok(None);
        }
        let layout = entry.layout()?;
        if session.int(&partitions::is_partitioned(layout), &[]).await? != Some(1) {
            return Ok(None);
        }
        let mut parts = Self::default();
        for row in session.ask(&partitions::list(layout)).await? {
            let mut texts = row.into_iter().map(|cell| cell.text().unwrap_or_default());
            let mut next = || texts.next().unwrap_or_default();
            let name = TableName::new(next(), next());
            match partitions::stretch(&next()) {
                Some(stretch) => parts.stretches.push((name, stretch)),
                None => parts.rest = Some(name),
            }
        }
        parts.stretches.sort_by_key(|(_, stretch)| stretch.from);
        if let Some(rest) = &parts.rest {
            let any = format!("SELECT EXISTS (SELECT 1 FROM {})::int", rest.quoted());
            parts.crowded = session.int(&any, &[]).await? == Some(1);
        }
        Ok(Some(parts))
    }

    /// Up to where there is one for every time.
    pub(crate) fn end(&self) -> Option<Moment> {
        self.stretches.last().and_then(|(_, stretch)| stretch.to)
    }

    /// The last end of a partition that is not later than a moment, and the partitions up to there.
    pub(crate) fn until(&self, moment: Moment) -> Option<(Moment, &[(TableName, Stretch)])> {
        let older = |(_, stretch): &(TableName, Stretch)| stretch.to.is_some_and(|to| to <= moment);
        let count = self.stretches.iter().take_while(|part| older(part)).count();
        let to = self.stretches.get(count.checked_sub(1)?)?.1.to?;
        Some((to, &self.stretches[..count]))
    }
}

/// What only one run may have that moves the partitions of a history: until it is dropped.
pub(crate) async fn claim(audit: &Afterimage, id: i64) -> Result<sqlx::PgConnection> {
    let mut connection = audit.connection_of_its_own().await?;
    let claimed: i32 =
        sqlx::query_scalar(sqlx::AssertSqlSafe(partitions::claim(id))).fetch_one(&mut connection).await?;
    if claimed == 1 {
        return Ok(connection);
    }
    Err(Error::new(ErrorKind::Busy, "another run of partition or prune is moving its partitions"))
}

/// How long it goes on trying to get its turn, or waits for those who read.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Turns of 40 ms, for which whoever comes behind waits at most.
const TURNS: Turns =
    Turns { length: "40ms", patience: PATIENCE, pauses: [Duration::from_millis(50), Duration::from_secs(1)] };

/// Runs a statement when its turn comes.
pub(crate) async fn in_turn(session: &mut Session, statement: &str) -> Result<()> {
    if TURNS.take(session, statement).await? {
        return Ok(());
    }
    let message = format!(
        "its history was in use by others for {} s, in a transaction that is still open or by a VACUUM of it: run it again later",
        PATIENCE.as_secs()
    );
    Err(Error::new(ErrorKind::Busy, message))
}

impl Afterimage {
    /// Those of one table, where whoever asks has claimed them already.
    pub(crate) async fn partitioned_under_claim(&self, id: i64) -> Result<()> {
        let entries = self.reading(async |session| catalog::entries(session).await).await?;
        let Some(entry) = entries.iter().find(|entry| entry.id == id) else { return Ok(()) };
        self.partitioned(entry, Partition::new().wanted(entry)).await.map(drop)
    }

    pub(super) async fn partitioned(&self, entry: &Entry, wanted: Partitions) -> Result<Partitioned> {
        let now = Moment::now();
        let mut parts = self.reading(async |session| Parts::of(session, entry).await).await?;
        let mut made = Vec::new();
        let begun = parts.is_none();
        match &parts {
            None => made.extend(self.put_into_parts(entry, wanted, now).await?),
            Some(parts) if parts.crowded => {
                made.extend(self.empty_the_rest(entry, wanted, now, parts).await?)
            }
            Some(_) => {}
        }
        made.extend(self.make_ahead(entry, wanted, now).await?);
        if begun {
            let analyze = partitions::analyze(&entry.layout()?.history);
            self.writing(async |session| session.run(&analyze).await).await?;
        }
        parts = self.reading(async |session| Parts::of(session, entry).await).await?;
        let parts = parts.unwrap_or_default();
        let table = self.reading(async |session| introspect::seen(session, &entry.table).await).await?;
        Ok(Partitioned {
            table,
            by: wanted.by,
            begun,
            made,
            partitions: parts.stretches.len() + 1,
            until: parts.end(),
        })
    }

    /// A history becomes the first partition of a table that takes its place. Gives the partitions that were made.
    async fn put_into_parts(&self, entry: &Entry, wanted: Partitions, now: Moment) -> Result<Vec<String>> {
        let layout = entry.layout()?;
        let to = self
            .reading(async |session| {
                guarded(session, entry).await?;
                let obstacles: Vec<String> = session
                    .ask(&partitions::obstacles(layout))
                    .await?
                    .into_iter()
                    .filter_map(|mut row| row.pop()?.text())
                    .collect();
                if !obstacles.is_empty() {
                    let message = format!(
                        "this depends on its history as it stands, and would stay behind: {}",
                        obstacles.join(", ")
                    );
                    return Err(Error::new(ErrorKind::Conflict, message));
                }
                let indexes = session.int(&partitions::count_indexes(layout), &[]).await?.unwrap_or_default();
                if indexes != i64::try_from(partitions::INDEX_COUNT).unwrap_or_default() {
                    let message = "an index of its history is missing, which would have to be built while writers wait: resync it first, or make the index";
                    return Err(Error::new(ErrorKind::Drifted, message));
                }
                border(session, &layout.history, wanted.by, now).await
            })
            .await?;
        let stretch = Stretch { from: None, to: Some(to) };
        let first = partitions::named(layout, &partitions::until(wanted.by, to)?);
        let rest = partitions::named(layout, REST);
        let swap = async |session: &mut Session, entry: &Entry| {
            let parent = partitions::parent(layout);
            session.run_all(&partitions::create_parent(layout)).await?;
            as_owner(session, &layout.history, &parent).await?;
            session.run_all(&partitions::create_part(&parent, &rest)).await?;
            as_owner(session, &layout.history, &rest).await?;
            session.run(&partitions::attach_rest(&parent, &rest)).await?;
            in_turn(session, &partitions::lock(layout)).await?;
            session.run_all(&partitions::take_place(layout, &first, to)).await?;
            remember(session, entry, wanted).await
        };
        self.fenced(entry, &layout.history, stretch, swap).await?;
        Ok(vec![first.name])
    }

    /// What the partition of everything else holds becomes the partition of its time, and another takes its place. Gives the
    /// partitions that were made.
    async fn empty_the_rest(
        &self,
        entry: &Entry,
        wanted: Partitions,
        now: Moment,
        parts: &Parts,
    ) -> Result<Vec<String>> {
        let layout = entry.layout()?;
        let Some(rest) = parts.rest.clone() else { return Ok(Vec::new()) };
        let to = self
            .reading(async |session| {
                guarded(session, entry).await?;
                border(session, &rest, wanted.by, now).await
            })
            .await?;
        let stretch = Stretch { from: parts.end(), to: Some(to) };
        let name = partitions::named(layout, &partitions::until(wanted.by, to)?);
        let filled = name.clone();
        let swap = async |session: &mut Session, _: &Entry| {
            in_turn(session, &partitions::lock(layout)).await?;
            session.run(&partitions::detach(&layout.history, &rest)).await?;
            session.run(&partitions::rename(&rest, &filled.name)).await?;
            session.run(&partitions::attach(&layout.history, &filled, stretch)).await?;
            session.run(&partitions::unfence(&filled)).await?;
            session.run_all(&partitions::create_part(&layout.history, &rest)).await?;
            as_owner(session, &layout.history, &rest).await?;
            session.run(&partitions::attach_rest(&layout.history, &rest)).await
        };
        self.fenced(entry, &rest, stretch, swap).await?;
        Ok(vec![name.name])
    }

    /// Makes sure that all of a table is of a stretch, while writers go on, and then does `swap` in a transaction of its own.
    /// Whatever fails, the table takes every record again.
    async fn fenced<T>(
        &self,
        entry: &Entry,
        table: &TableName,
        stretch: Stretch,
        swap: impl AsyncFnOnce(&mut Session, &Entry) -> Result<T>,
    ) -> Result<()> {
        self.writing(async |session| {
            catalog::ensure(session).await?;
            let statements = partitions::fence(table, stretch);
            in_turn(session, &statements.join("; ")).await
        })
        .await?;
        let one_by_one = async {
            self.writing(async |session| session.run(&partitions::validate(table)).await).await?;
            self.writing(async |session| {
                catalog::alone(session).await?;
                let entry = same(session, entry).await?;
                swap(session, &entry).await
            })
            .await
            .map(drop)
        };
        let done: Result<()> = one_by_one.await;
        if let Err(error) = done {
            let freed =
                self.writing(async |session| in_turn(session, &partitions::unfence(table)).await).await;
            return Err(match freed {
                Ok(()) => error,
                Err(_) => error.after(format!(
                    "{table} refuses records outside of its time: run it again, or ALTER TABLE {} DROP CONSTRAINT afterimage_fence",
                    table.quoted()
                )),
            });
        }
        Ok(())
    }

    /// Makes what is missing ahead of time.
    async fn make_ahead(&self, entry: &Entry, wanted: Partitions, now: Moment) -> Result<Vec<String>> {
        let layout = entry.layout()?;
        let mut until = wanted.by.begin(now)?;
        for _ in 0..=wanted.ahead {
            until = wanted.by.after(until)?;
        }
        let mut made = Vec::new();
        loop {
            let one = self.writing(async |session| {
                catalog::alone(session).await?;
                let entry = same(session, entry).await?;
                if entry.tracking.partitions != Some(wanted) {
                    remember(session, &entry, wanted).await?;
                }
                let Some(from) = Parts::of(session, &entry).await?.and_then(|parts| parts.end()) else {
                    return Ok(None);
                };
                if from >= until {
                    return Ok(None);
                }
                // The first may begin where another period was chosen before.
                let begin = wanted.by.begin(from)?;
                let stretch = Stretch { from: Some(from), to: Some(wanted.by.after(begin)?) };
                let name = partitions::named(layout, &wanted.by.suffix(from)?);
                session.run_all(&partitions::create_part(&layout.history, &name)).await?;
                as_owner(session, &layout.history, &name).await?;
                in_turn(session, &partitions::attach(&layout.history, &name, stretch)).await?;
                Ok(Some(name.name))
            });
            match one.await? {
                Some(name) => made.push(name),
                None => return Ok(made),
            }
        }
    }
}

/// The first border between periods that is safely ahead of a moment, and of every record of a table.
async fn border(session: &mut Session, table: &TableName, by: Period, now: Moment) -> Result<Moment> {
    let newest = format!("SELECT {} FROM {}", session.dialect().micros("max(history_date)"), table.quoted());
    let newest = session.int(&newest, &[]).await?.map_or(now, Moment::from_micros);
    let ahead = Moment::from_micros(now.as_micros().saturating_add(MARGIN_MICROS)).max(newest);
    Ok(by.after(by.begin(ahead)?)?)
}

/// Gives a table the owner and the rights of another.
pub(crate) async fn as_owner(session: &mut Session, from: &TableName, to: &TableName) -> Result<()> {
    let statements = session.ask(&partitions::rights(from, to)).await?;
    for mut row in statements {
        if let Some(statement) = row.pop().and_then(Cell::text) {
            session.run(&statement).await?;
        }
    }
    Ok(())
}

/// The table as it is now, where its layout is still that of before.
async fn same(session: &mut Session, entry: &Entry) -> Result<Arc<Entry>> {
    let all = catalog::entries(session).await?;
    match all.iter().find(|now| now.id == entry.id && now.epochs == entry.epochs) {
        Some(now) => Ok(Arc::clone(now)),
        None => Err(Error::new(ErrorKind::Busy, "it was migrated or untracked meanwhile: run it again")),
    }
}

/// Keeps in the catalogue how a history is cut.
async fn remember(session: &mut Session, entry: &Entry, wanted: Partitions) -> Result<()> {
    let tracking = Tracking { partitions: Some(wanted), ..entry.tracking.clone() };
    session.run(&sql::update_tracked(session.dialect(), entry.id, &entry.table, &tracking)).await.map(drop)
}

/// Which of a history and its partitions take no records but some, and which these are.
pub(crate) async fn fences(session: &mut Session, entry: &Entry) -> Result<Vec<(TableName, String)>> {
    let rows = session.ask(&partitions::fenced(entry.layout()?)).await?;
    let fence = |row: Row| {
        let mut texts = row.into_iter().map(|cell| cell.text().unwrap_or_default());
        let mut next = || texts.next().unwrap_or_default();
        (TableName::new(next(), next()), next())
    };
    Ok(rows.into_iter().map(fence).collect())
}

/// What is not as it should be with the partitions of a history.
pub(crate) async fn look(session: &mut Session, entry: &Entry, findings: &mut Vec<Finding>) -> Result<()> {
    if !matches!(session, Session::Postgres(_)) {
        return Ok(());
    }
    for (table, fence) in fences(session, entry).await? {
        let (what, command) = match fence.contains("false") {
            true => ("a run of prune", "prune"),
            false => ("putting its history into partitions", "partition"),
        };
        findings.push(Finding::new(
            Severity::Danger,
            Some(entry),
            format!("{what} was interrupted, or is going on: {table} takes no record that is not of {fence}"),
            format!("afterimage {command} it again, or: {}", partitions::unfence(&table)),
        ));
    }
    let Some(parts) = Parts::of(session, entry).await? else { return Ok(()) };
    let behind = parts.end().is_none_or(|end| end <= Moment::now());
    if parts.crowded || behind {
        findings.push(Finding::new(
            Severity::Warning,
            Some(entry),
            "its history holds records, or will, of a time that no partition was made for: they stand together in one, and go one by one",
            "afterimage partition, once in a while",
        ));
    }
    if parts.stretches.len() > MANY {
        findings.push(Finding::new(
            Severity::Warning,
            Some(entry),
            format!(
                "its history is in {} partitions: each write looks at those ahead, each question at all, and takes as many locks",
                parts.stretches.len()
            ),
            "prune, or longer partitions from now on: afterimage partition --by year --ahead 1",
        ));
    }
    Ok(())
}
