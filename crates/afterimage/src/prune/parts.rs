//! Letting whole partitions go.
//!
//! What is to stay of them is copied beside, and takes their place. Whoever reads has to see that copy before it does, and has to
//! know by then that what was before the cut is not told any more: so it is made, and said, in one transaction, and takes its
//! place in another, once everybody who began to read before the first has finished.

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
use crate::partition::{Parts, as_owner, in_turn};
use crate::removal::enter;
use crate::session::{Cell, Session};

/// How long to wait for those who read, or use the history.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is begun again where somebody wrote into what is to go.
const ATTEMPTS: usize = 3;

/// The partitions of a history that can go.
#[derive(Debug)]
pub(super) struct Old {
    /// Up to where they reach.
    pub(super) to: Moment,
    parts: Vec<TableName>,
    /// What is to stay of them, until it takes their place; and the name that it has then.
    copy: TableName,
    name: TableName,
    /// Whether there is more in them than an earlier run left.
    pub(super) worthwhile: bool,
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
        let name = partitions::named(layout, &partitions::until(period, to)?);
        let copy = partitions::named(layout, "_staying");
        let begun = session.int(&partitions::exists(&copy), &[]).await? == Some(1);
        let told = entry.horizon().is_some_and(|horizon| horizon >= last(to));
        Ok(Some(Some(Self {
            to,
            parts: old.iter().map(|(name, _)| name.clone()).collect(),
            copy,
            name,
            worthwhile: begun || !told || old.len() > 1,
        })))
    }
}

/// The last moment of what ends at one.
pub(super) fn last(to: Moment) -> Moment {
    Moment::from_micros(to.as_micros().saturating_sub(1))
}

/// What is to take the place of partitions.
struct Copied {
    doom: Doom,
    removal: i64,
    gone: u64,
    /// The transaction that made it, and the first whose records it may not have seen.
    tx: i64,
    unseen: i64,
}

impl Run<'_> {
    /// Lets the partitions go that end before the cut, but for what is to stay of them.
    pub(super) async fn let_parts_go(
        &self,
        progress: &mut (dyn FnMut(Pruning) + Send),
    ) -> Result<Option<Pruned>> {
        for _ in 0..ATTEMPTS {
            let copied = self.audit.removing(async |session| self.copy(session).await).await?;
            let Some((mut pruned, copied)) = copied else { return Ok(None) };
            let begun = Instant::now();
            loop {
                let seen = self.audit.reading(async |session| all_see(session, copied.tx).await).await?;
                if seen {
                    break;
                }
                if begun.elapsed() > PATIENCE {
                    let message = format!(
                        "transactions have been open for {} s, or more, which began before what is to stay was set aside: prune again later",
                        PATIENCE.as_secs()
                    );
                    return Err(Error::new(ErrorKind::Busy, message));
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let mut pause = Duration::from_millis(50);
            let swapped = loop {
                let swapped =
                    self.audit.removing(async |session| self.take_place(session, &copied).await).await;
                match swapped {
                    Err(error) if error.kind() == ErrorKind::Busy && begun.elapsed() < PATIENCE => {
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(Duration::from_secs(1));
                    }
                    swapped => break swapped?,
                }
            };
            if swapped {
                pruned.records = copied.gone;
                pruned.until = copied.doom.cut.moment;
                progress(Pruning { table: pruned.table.clone(), done: copied.gone, total: copied.gone });
                return Ok(Some(pruned));
            }
        }
        let message =
            "records are being written into what is to go, or others remove some of it: prune again later";
        Err(Error::new(ErrorKind::Busy, message))
    }

    /// Copies what is to stay, and says what will be gone.
    async fn copy(&self, session: &mut Session) -> Result<Option<(Pruned, Copied)>> {
        catalog::ensure(session).await?;
        session.run(partitions::QUICKLY).await?;
        let row = session.ask_row(partitions::WRITING).await?.unwrap_or_default();
        let int = |at: usize| row.get(at).and_then(Cell::int).unwrap_or_default();
        let (unseen, tx) = (int(0), int(1));
        let (pruned, doom) = self.doom(session).await?;
        let Some(doom) = doom else { return Ok(None) };
        let Some(old) = doom.old.as_ref().filter(|old| old.worthwhile) else { return Ok(None) };
        let dialect = session.dialect();
        let layout = doom.entry.layout()?;
        session.run_all(&dialect.tick()).await?;
        session.run(&partitions::drop(&old.copy)).await?;
        session.run(&partitions::create_copy(&layout.history, &old.copy)).await?;
        let columns = session.ask_row(&partitions::columns(layout)).await?;
        let columns = columns.and_then(|mut row| row.pop()?.text()).unwrap_or_default();
        let staying = Staying { layout, before: old.to, unfinished: &doom.unfinished, held: &doom.held };
        let stay = session.run(&partitions::copy_staying(&staying, &old.copy, &columns)).await?;
        let all = session.int(&partitions::count_before(layout, old.to), &[]).await?.unwrap_or_default();
        let gone = all.unsigned_abs().saturating_sub(stay);
        if gone == 0 {
            session.run(&partitions::drop(&old.copy)).await?;
            return Ok(None);
        }
        if doom.entry.sparse() {
            let fields = all_fields(&doom.entry.epochs);
            let source = Source { layout, fields: &fields, sparse: true };
            session.run_all(&partitions::fill(&staying, &source, &old.copy)).await?;
        }
        session.run_all(&partitions::guards(&old.copy)).await?;
        session.run(&partitions::all_before(&old.copy, old.to)).await?;
        as_owner(session, &layout.history, &old.copy).await?;
        let rule = pruned.keep.to_string();
        let removal = enter(session, layout, "prune", Some(&rule), self.context, None).await?;
        session.run(&sql::open_removal(dialect, removal, doom.cut.moment)).await?;
        session.run(&sql::close_removal(dialect, removal, 0)).await?;
        Ok(Some((pruned, Copied { doom, removal, gone, tx, unseen })))
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
                && others(now, Some(copied.removal)) == others(&doom.entry, None)
        });
        if !same {
            return Ok(false);
        }
        let dialect = session.dialect();
        let layout = doom.entry.layout()?;
        in_turn(session, &partitions::lock(layout)).await?;
        session.run("SET LOCAL enable_seqscan = off").await?;
        for part in &old.parts {
            if session.int(&partitions::written_since(part, copied.unseen), &[]).await? == Some(1) {
                return Ok(false);
            }
        }
        for part in &old.parts {
            session.run(&partitions::detach(&layout.history, part)).await?;
            session.run(&partitions::drop(part)).await?;
        }
        session.run(&partitions::rename(&old.copy, &old.name.name)).await?;
        let stretch = Stretch { from: None, to: Some(old.to) };
        session.run(&partitions::attach(&layout.history, &old.name, stretch)).await?;
        session.run(&partitions::unfence(&old.name)).await?;
        session.run(&sql::close_removal(dialect, copied.removal, copied.gone)).await?;
        Ok(true)
    }
}

async fn all_see(session: &mut Session, tx: i64) -> Result<bool> {
    Ok(session.int(&partitions::all_see(tx), &[]).await? == Some(1))
}
