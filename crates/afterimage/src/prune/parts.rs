//! Letting whole partitions go.
//!
//! What is to stay of them is copied beside, and takes their place. Whoever reads has to see that copy before it does, and has to
//! know by then that what was before the cut is not told any more: so it is made, and that is said, in one transaction, and takes its
//! place in another, once everybody who began to read before the first has finished. Meanwhile what is to go takes no record.
//! Whatever comes between leaves all as it was.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use afterimage_core::Moment;
use afterimage_core::record::all_fields;
use afterimage_core::sql::catalog as sql;
use afterimage_core::sql::log::Source;
use afterimage_core::sql::postgres::partitions::{self, Staying, Stretch};
use afterimage_core::{Period, TableName};

use super::{Doom, Pruned, Pruning, Run, others};
use crate::catalog;
use crate::error::{Error, ErrorKind, Result};
use crate::partition::{PATIENCE, Parts, as_owner, claim, fences, in_turn};
use crate::removal::{TO_COME, enter};
use crate::session::{Cell, Session};

/// What the name of the copy ends with.
const STAYING: &str = "_staying";

/// What stays is copied where no more than so many times as many records stay as go.
const WORTH: u64 = 4;

/// The partitions of a history that can go.
#[derive(Debug)]
pub(super) struct Old {
    /// Up to where they reach.
    pub(super) to: Moment,
    parts: Vec<TableName>,
    /// What is to stay of them, until it takes their place; and the name that it has then.
    copy: TableName,
    name: TableName,
}

impl Old {
    /// Those that end by a moment; nothing where a history is not in partitions, and `Some(None)` where none of them has ended.
    pub(super) async fn of(
        session: &mut Session,
        entry: &catalog::Entry,
        moment: Moment,
    ) -> Result<Option<Option<Self>>> {
        let Some(parts) = Parts::of(session, entry).await? else { return Ok(None) };
        let Some((to, old)) = parts.until(moment) else { return Ok(Some(None)) };
        let layout = entry.layout()?;
        let period = entry.tracking.partitions.map_or(Period::Day, |partitions| partitions.by);
        Ok(Some(Some(Self {
            to,
            parts: old.iter().map(|(name, _)| name.clone()).collect(),
            copy: partitions::named(layout, STAYING),
            name: partitions::named(layout, &partitions::until(period, to)?),
        })))
    }

    /// Whether so much goes that what stays is better copied than what goes removed.
    pub(super) async fn is_worth_it(&self, session: &mut Session, doom: &Doom) -> Result<bool> {
        // What stays is hardly more than there are rows: where the planner knows how many, nothing has to be counted.
        let table = &doom.entry.layout()?.table;
        let row = session.ask_row(&partitions::estimates(table, &self.parts)).await?.unwrap_or_default();
        if let [Cell::Int(rows @ 0..), Cell::Int(records)] = row[..]
            && records / 2 > rows
        {
            return Ok(true);
        }
        let row =
            session.ask_row(&partitions::count_staying(&self.staying(doom)?)).await?.unwrap_or_default();
        let count = |at: usize| row.get(at).and_then(Cell::int).unwrap_or_default().unsigned_abs();
        let gone = count(0).saturating_sub(count(1));
        Ok(gone > 0 && gone.saturating_mul(WORTH) >= count(1))
    }

    fn staying<'a>(&self, doom: &'a Doom) -> Result<Staying<'a>> {
        let layout = doom.entry.layout()?;
        Ok(Staying { layout, before: self.to, unfinished: &doom.unfinished, held: &doom.held })
    }
}

/// The last moment of what ends at one.
pub(super) fn last(to: Moment) -> Moment {
    Moment::from_micros(to.as_micros().saturating_sub(1))
}

/// What is to take the place of partitions.
struct Copied {
    doom: Doom,
    /// What will be gone by it.
    pruned: Pruned,
    /// The transaction that made it.
    tx: i64,
}

fn busy(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Busy, message)
}

impl Run<'_> {
    /// Lets the partitions go that end before the cut, but for what is to stay of them.
    pub(super) async fn let_parts_go(
        &self,
        pruned: Pruned,
        progress: &mut (dyn FnMut(Pruning) + Send),
    ) -> Result<Pruned> {
        let _claimed = claim(self.audit, self.id).await?;
        // Records of a time that no partition was made for would be looked through while everybody waits.
        self.audit.partitioned_under_claim(self.id).await?;
        let error = match self.copy_and_swap(progress).await {
            Ok(Some(done)) => return Ok(done),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        let left = self.audit.writing(async |session| self.leave(session).await).await;
        match (error, left) {
            (Some(error), Err(_)) => {
                Err(error.after("what is to go takes no records until it is pruned again"))
            }
            (Some(error), Ok(())) | (None, Err(error)) => Err(error),
            (None, Ok(())) => Ok(pruned),
        }
    }

    /// Undoes what a run began that was killed.
    pub(super) async fn tidy(&self) -> Result<()> {
        let left = self.audit.reading(async |session| {
            let entries = catalog::entries(session).await?;
            let Some(entry) = entries.iter().find(|entry| entry.id == self.id) else { return Ok(false) };
            let parts = Parts::of(session, entry).await?;
            Ok(match parts {
                Some(_) => {
                    entry.removals.iter().any(|removal| removal.id == TO_COME)
                        || !fences(session, entry).await?.is_empty()
                }
                None => false,
            })
        });
        if !left.await? {
            return Ok(());
        }
        let _claimed = claim(self.audit, self.id).await?;
        self.audit.writing(async |session| self.leave(session).await).await
    }

    async fn copy_and_swap(&self, progress: &mut (dyn FnMut(Pruning) + Send)) -> Result<Option<Pruned>> {
        self.audit.writing(async |session| self.close(session).await).await?;
        let copied = self.audit.writing(async |session| self.copy(session).await).await?;
        let Some(copied) = copied else { return Ok(None) };
        let begun = Instant::now();
        self.wait_for_readers(copied.tx, begun).await?;
        let mut pause = Duration::from_millis(50);
        loop {
            match self.audit.removing(async |session| self.take_place(session, &copied).await).await {
                Err(error) if error.kind() == ErrorKind::Busy && begun.elapsed() < PATIENCE => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
                Err(error) => return Err(error),
                Ok(false) => {
                    return Err(busy("others changed what may go of it meanwhile: prune again"));
                }
                Ok(true) => break,
            }
        }
        let pruned = copied.pruned;
        progress(Pruning { table: pruned.table.clone(), done: pruned.records, total: pruned.records });
        Ok(Some(pruned))
    }

    /// Waits until everybody has finished who began before a transaction ended, and may not see what it wrote.
    async fn wait_for_readers(&self, tx: i64, begun: Instant) -> Result<()> {
        let blind = async || {
            self.audit
                .reading(async |session| {
                    let rows = session.ask(&partitions::blind_to(tx)).await?;
                    Ok(rows.into_iter().filter_map(|mut row| row.pop()?.text()).collect::<BTreeSet<String>>())
                })
                .await
        };
        // Those who begin later see it, whatever number it is by which the system says so.
        let mut awaited = blind().await?;
        while !awaited.is_empty() {
            if begun.elapsed() > PATIENCE {
                let who = awaited.iter().next().and_then(|one| one.split(' ').next()).unwrap_or_default();
                return Err(busy(format!(
                    "a transaction that began before has been open for {} s or more (process {who}): prune again later",
                    PATIENCE.as_secs()
                )));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            let still = blind().await?;
            awaited.retain(|one| still.contains(one));
        }
        Ok(())
    }

    /// What is to go takes no records from now on.
    async fn close(&self, session: &mut Session) -> Result<()> {
        catalog::ensure(session).await?;
        let (_, doom) = self.doom(session).await?;
        let Some(old) = doom.and_then(|doom| doom.old) else { return Ok(()) };
        for part in &old.parts {
            in_turn(session, &partitions::close(part).join("; ")).await?;
        }
        Ok(())
    }

    /// Copies what is to stay, and says what will be gone.
    async fn copy(&self, session: &mut Session) -> Result<Option<Copied>> {
        catalog::ensure(session).await?;
        session.run(partitions::QUICKLY).await?;
        let (mut pruned, doom) = self.doom(session).await?;
        let Some(doom) = doom else { return Ok(None) };
        let Some(old) = doom.old.as_ref() else { return Ok(None) };
        let layout = doom.entry.layout()?;
        clear(session, &old.copy).await?;
        session.run(&partitions::create_copy(&layout.history, &old.copy)).await?;
        session.run(&partitions::mark_copy(&old.copy)).await?;
        let columns = session.ask_row(&partitions::columns(layout)).await?;
        let columns = columns.and_then(|mut row| row.pop()?.text()).unwrap_or_default();
        let staying = old.staying(&doom)?;
        let stay = session.run(&partitions::copy_staying(&staying, &old.copy, &columns)).await?;
        let all = session.int(&partitions::count_before(layout, old.to), &[]).await?.unwrap_or_default();
        let gone = all.unsigned_abs().saturating_sub(stay);
        if gone == 0 {
            return Ok(None);
        }
        if doom.entry.sparse() {
            let fields = all_fields(&doom.entry.epochs);
            let source = Source { layout, fields: &fields, sparse: true };
            session.run_all(&partitions::fill(&staying, &source, &old.copy)).await?;
        }
        session.run_all(&partitions::index_copy(layout, &old.copy)).await?;
        session.run_all(&partitions::guards(&old.copy)).await?;
        session.run(&partitions::all_before(&old.copy, old.to)).await?;
        as_owner(session, &layout.history, &old.copy).await?;
        session.run(&partitions::analyze(&old.copy)).await?;
        if let Some(until) = doom.cut.moment {
            session.run_all(&partitions::leaving(self.id, until)).await?;
        }
        let tx = session.int(partitions::THIS, &[]).await?.unwrap_or_default();
        (pruned.records, pruned.until) = (gone, doom.cut.moment);
        Ok(Some(Copied { doom, pruned, tx }))
    }

    /// What is to stay takes the place of all that was there; not, where something has changed since it was copied.
    async fn take_place(&self, session: &mut Session, copied: &Copied) -> Result<bool> {
        catalog::alone(session).await?;
        let doom = &copied.doom;
        let Some(old) = &doom.old else { return Ok(false) };
        let entries = catalog::entries(session).await?;
        let now = entries.iter().find(|entry| entry.id == self.id);
        let same = now.is_some_and(|now| {
            now.epochs == doom.entry.epochs
                && now.holds == doom.entry.holds
                && others(now, None) == others(&doom.entry, None)
        });
        if !same {
            return Ok(false);
        }
        let dialect = session.dialect();
        let layout = doom.entry.layout()?;
        session.run_all(&dialect.tick()).await?;
        let rule = copied.pruned.keep.to_string();
        let removal = enter(session, layout, "prune", Some(&rule), self.context, None).await?;
        session.run(&sql::open_removal(dialect, removal, doom.cut.moment)).await?;
        in_turn(session, &partitions::lock(layout)).await?;
        for part in &old.parts {
            session.run(&partitions::detach(&layout.history, part)).await?;
            session.run(&partitions::drop(part)).await?;
        }
        session.run(&partitions::rename(&old.copy, &old.name.name)).await?;
        let stretch = Stretch { from: None, to: Some(old.to) };
        session.run(&partitions::attach(&layout.history, &old.name, stretch)).await?;
        session.run(&partitions::unfence(&old.name)).await?;
        session.run(&partitions::unmark_copy(&old.name)).await?;
        session.run(&sql::close_removal(dialect, removal, copied.pruned.records)).await?;
        session.run_all(&partitions::not_leaving(self.id)).await?;
        Ok(true)
    }

    /// Leaves everything as it was, where nothing comes of it.
    async fn leave(&self, session: &mut Session) -> Result<()> {
        catalog::alone(session).await?;
        let entries = catalog::entries(session).await?;
        let Some(entry) = entries.iter().find(|entry| entry.id == self.id) else { return Ok(()) };
        let layout = entry.layout()?;
        clear(session, &partitions::named(layout, STAYING)).await?;
        session.run_all(&partitions::not_leaving(self.id)).await?;
        for (table, _) in fences(session, entry).await? {
            in_turn(session, &partitions::unfence(&table)).await?;
        }
        Ok(())
    }
}

/// Removes what an earlier run copied; never a table of somebody else's.
async fn clear(session: &mut Session, copy: &TableName) -> Result<()> {
    let row = session.ask_row(&partitions::copy(copy)).await?.unwrap_or_default();
    let is = |at: usize| row.get(at).and_then(Cell::int) == Some(1);
    match (is(0), is(1)) {
        (false, _) => Ok(()),
        (true, true) => session.run(&partitions::drop(copy)).await.map(drop),
        (true, false) => Err(Error::new(
            ErrorKind::Conflict,
            format!("there is a table {copy} already, whose name is needed for what is to stay: rename it"),
        )),
    }
}
