//! `migrate`: follows a table whose columns, name or options changed.

use std::sync::Arc;

use afterimage_core::drift::{self, Change, Numbers, Renames};
use afterimage_core::sql::{Script, catalog as sql, mariadb};
use afterimage_core::{Database, Layout, Moment, Table, TableName, Tracking};

use crate::catalog::{self, Entry, Stage};
use crate::database::Afterimage;
use crate::error::{Error, ErrorKind, Result};
use crate::health::{self, Fault};
use crate::introspect;
use crate::lost;
use crate::resync;
use crate::session::{Cell, Session};
use crate::transaction::Tx;

/// What `migrate` did to one table.
#[derive(Debug, Clone, PartialEq)]
pub struct Migrated {
    /// The table, under its present name.
    pub table: TableName,
    /// What had changed.
    pub changes: Vec<Change>,
    /// Whether triggers were missing, so that changes may be missing too: a gap was recorded.
    pub gap: bool,
    /// Records written for what the records did not know.
    pub resynced: u64,
}

/// A table brought up to date.
#[derive(Debug)]
pub(crate) struct FollowedTable {
    pub(crate) layout: Layout,
    pub(crate) changes: Vec<Change>,
    pub(crate) gap: bool,
    pub(crate) resynced: u64,
}

/// What has to run to bring a table up to date; the same that `plan` prints.
#[derive(Debug)]
pub(crate) struct Following {
    pub(crate) table: TableName,
    before: Script,
    entering: Script,
    resync: Script,
    after: Script,
    layout: Layout,
    changes: Vec<Change>,
    gap: bool,
}

impl Following {
    /// Every statement, in order.
    pub(crate) fn script(self) -> Script {
        [self.before, self.entering, self.resync, self.after].concat()
    }

    async fn run(self, session: &mut Session) -> Result<FollowedTable> {
        session.run_all(&self.before).await?;
        // What says that it is done is one transaction with the records that make it so, where what came before could not
        // be part of one.
        catalog::begin_again(session).await?;
        session.run_all(&self.entering).await?;
        let mut resynced = 0;
        for statement in &self.resync {
            let rows = session.run(statement).await?;
            if resync::writes_records(statement) {
                resynced += rows;
            }
        }
        session.run_all(&self.after).await?;
        Ok(FollowedTable { layout: self.layout, changes: self.changes, gap: self.gap, resynced })
    }
}

impl Afterimage {
    /// Applies what schema changes need, to all tracked tables or to the named ones. `renames` are columns whose
    /// rename the database no longer shows: old name, new name.
    pub async fn migrate(&self, tables: &[String], renames: &[(String, String)]) -> Result<Vec<Migrated>> {
        let chosen = self.reading(async |session| chosen(session, tables).await).await?;
        let mut migrated = Vec::new();
        for entry in chosen {
            let name = entry.table.clone();
            let one = self.writing(async |session| migrate_one(session, entry.id, renames).await).await;
            match one {
                Ok(Some(done)) => migrated.push(done),
                Ok(None) => {}
                Err(error) => {
                    let error = error.on(&name);
                    return Err(migrated
                        .iter()
                        .fold(error, |error, done| error.after(format!("migrated {}", done.table))));
                }
            }
        }
        Ok(migrated)
    }
}

impl Tx {
    /// Changes the schema of a tracked table, and follows it, in this transaction: runs `statements` (an `ALTER
    /// TABLE`, or several statements) with capture out of the way, then brings the history along.
    ///
    /// On SQLite a column renamed by statements that also drop something counts as a new one: rename it in a call of
    /// its own.
    pub async fn alter(&mut self, table: &str, statements: &str) -> Result<Migrated> {
        let writing = self.writing()?;
        let at = writing.explicit_time();
        let session = &mut writing.session;
        if session.dialect().database() == Database::MariaDb {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "MariaDB commits at every change of a schema, so that none can be part of a transaction: make it, then migrate",
            ));
        }
        let entry = catalog::find(session, table).await?;
        alter_in(session, &entry, statements, at).await
    }
}

/// Runs a schema change inside the open transaction and follows it.
async fn alter_in(
    session: &mut Session,
    entry: &Entry,
    statements: &str,
    at: Option<Moment>,
) -> Result<Migrated> {
    let (_, following) = alter_script(session, entry, statements, at).await?;
    let table = introspect::seen(session, &following.table).await?;
    let followed = following.run(session).await?;
    Ok(migrated(table, followed))
}

/// Runs a schema change inside the open transaction; gives what had to run before it, and what follows it.
pub(crate) async fn alter_script(
    session: &mut Session,
    entry: &Entry,
    statements: &str,
    at: Option<Moment>,
) -> Result<(Script, Following)> {
    let standing = find_today(session, entry).await?;
    let stopped = entry.stage == Stage::Stopped;
    let (_, lost) = known(session, entry, &standing, &[], stopped).await?;
    let before = removable(session, entry)?;
    let page = root_page(session, &entry.table.name).await?;
    session.run_all(&before).await?;
    session.run(statements).await.map_err(|error| error.on(&entry.table))?;
    let mut entry = entry.clone();
    if let Some(name) = name_of_page(session, page, &entry.table.name).await? {
        entry.table.name = name;
    }
    let entry = &entry;
    let table = find_today(session, entry).await?;
    let says = |word: &str| statements.to_ascii_lowercase().contains(word);
    let numbers = match (table.postgres(), says("rename") && !says("drop")) {
        (Some(_), _) => Numbers::Identity,
        (None, true) => Numbers::Rename,
        (None, false) => Numbers::Nothing,
    };
    let known = Renames { told: Vec::new(), numbers };
    let following = following(session, entry, &table, &entry.tracking, &known, at, lost).await?;
    Ok((before, following))
}

/// Where SQLite keeps a table: inside a transaction it stays there whatever it is called, and our triggers, by which a
/// renamed table is found at other times, are out of the way.
async fn root_page(session: &mut Session, table: &str) -> Result<Option<i64>> {
    match session {
        #[cfg(feature = "sqlite")]
        Session::Sqlite(_) => {
            let sql = "SELECT rootpage FROM sqlite_schema WHERE type = 'table' AND lower(name) = lower(?1)";
            session.int(sql, &[Cell::Text(table.to_owned())]).await
        }
        #[cfg(feature = "postgres")]
        Session::Postgres(_) => Ok(None),
        #[cfg(feature = "mysql")]
        Session::MariaDb(_) => Ok(None),
    }
}

/// What the table of a root page is called, where nothing has its old name any more.
async fn name_of_page(session: &mut Session, page: Option<i64>, old: &str) -> Result<Option<String>> {
    let (Some(page), None) = (page, root_page(session, old).await?) else { return Ok(None) };
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage = ?1";
    let row = session.row(sql, &[Cell::Int(page)]).await?;
    Ok(row.and_then(|mut row| row.pop()).and_then(Cell::text))
}

/// On SQLite our triggers name the columns, and so stand in the way of an ALTER. PostgreSQL's do not; MariaDB's fail every
/// write after it, which is better than one that goes unrecorded, until they are exchanged.
fn removable(session: &Session, entry: &Entry) -> Result<Vec<String>> {
    match session {
        #[cfg(feature = "sqlite")]
        Session::Sqlite(_) => Ok(session.dialect().remove_capture(entry.layout()?)),
        #[cfg(feature = "postgres")]
        Session::Postgres(_) => Ok(Vec::new()),
        #[cfg(feature = "mysql")]
        Session::MariaDb(_) => Ok(Vec::new()),
    }
}

fn migrated(table: TableName, followed: FollowedTable) -> Migrated {
    Migrated { table, changes: followed.changes, gap: followed.gap, resynced: followed.resynced }
}

/// The tracked tables named, or all that are captured.
pub(crate) async fn chosen(session: &mut Session, tables: &[String]) -> Result<Vec<Arc<Entry>>> {
    if tables.is_empty() {
        let all = catalog::entries(session).await?;
        return Ok(all.into_iter().filter(|entry| entry.stage != Stage::Stopped).collect());
    }
    let mut chosen = Vec::new();
    for name in tables {
        chosen.push(catalog::find(session, name).await?);
    }
    Ok(chosen)
}

async fn migrate_one(
    session: &mut Session,
    id: i64,
    renames: &[(String, String)],
) -> Result<Option<Migrated>> {
    // The catalogue too may be that of an earlier version.
    catalog::ensure(session).await?;
    let entry = catalog::entries(session).await?.into_iter().find(|entry| entry.id == id);
    let Some(entry) = entry else { return Ok(None) };
    let table = find_today(session, &entry).await?;
    let followed = follow_in(session, &entry, &table, &entry.tracking, renames, None, false).await?;
    let nothing = followed.changes.is_empty() && !followed.gap && followed.resynced == 0;
    let seen = introspect::seen(session, &table.name).await?;
    Ok((!nothing).then(|| migrated(seen, followed)))
}

/// The tracked table as it is today, wherever it went.
pub(crate) async fn find_today(session: &mut Session, entry: &Entry) -> Result<Table> {
    if let Some(name) = health::whereabouts(session, entry).await?
        && let Some(table) = introspect::exact(session, &name).await?
    {
        return Ok(table);
    }
    Err(Error::new(ErrorKind::Drifted, "the table is gone; untrack it, its history can stay")
        .on(&entry.table))
}

/// Brings a tracked table's layout, history and capture up to date in the open transaction.
pub(crate) async fn follow_in(
    session: &mut Session,
    entry: &Entry,
    table: &Table,
    tracking: &Tracking,
    renames: &[(String, String)],
    at: Option<Moment>,
    stopped: bool,
) -> Result<FollowedTable> {
    // Whoever does not say how long records are kept leaves that as it was said before, perhaps by somebody else; how they
    // are cut into partitions is as it is.
    let retention = tracking.retention.clone().or_else(|| entry.tracking.retention.clone());
    let partitions = entry.tracking.partitions;
    let tracking = &Tracking { retention, partitions, ..tracking.clone() };
    let faults = health::faults(session, entry, table).await?;
    let behind = !faults.is_empty() || stopped || entry.has_open_gap();
    // How long records are kept is nothing to their capture.
    let captured = |tracking: &Tracking| Tracking { retention: None, ..tracking.clone() };
    if !behind && captured(tracking) == captured(&entry.tracking) && renames.is_empty() {
        if *tracking != entry.tracking {
            let options = sql::update_tracked(session.dialect(), entry.id, &entry.table, tracking);
            session.run(&options).await?;
        }
        return Ok(FollowedTable {
            layout: entry.layout()?.clone(),
            changes: Vec::new(),
            gap: false,
            resynced: 0,
        });
    }
    lock(session, table).await?;
    // Whoever had the lock before us may have changed the table.
    let table = find_today(session, entry).await?;
    let (known, lost) = known(session, entry, &table, renames, stopped).await?;
    following(session, entry, &table, tracking, &known, at, lost).await?.run(session).await
}

/// What can be known of a table as it stands: which of its columns are renamed ones, and since when changes may have
/// gone unrecorded.
pub(crate) async fn known(
    session: &mut Session,
    entry: &Entry,
    table: &Table,
    told: &[(String, String)],
    stopped: bool,
) -> Result<(Renames, Option<Moment>)> {
    let faults = health::faults(session, entry, table).await?;
    let lost = lost::since(session, entry, table, &faults, stopped).await?;
    let captured = !stopped && !faults.iter().any(Fault::loses_changes);
    Ok((Renames { told: told.to_vec(), numbers: health::numbers(table, captured) }, lost))
}

/// What follows the table; where changes may have been lost, also a gap, and records of what is there now.
pub(crate) async fn following(
    session: &mut Session,
    entry: &Entry,
    table: &Table,
    tracking: &Tracking,
    renames: &Renames,
    at: Option<Moment>,
    lost: Option<Moment>,
) -> Result<Following> {
    let dialect = session.dialect();
    let old = entry.layout()?;
    let drift::Followed { layout, tracking, changes } = drift::follow(old, tracking, table, renames)?;
    if tracking.history.as_ref().is_some_and(|name| *name != layout.history.name) {
        return Err(
            Error::new(ErrorKind::InvalidInput, "the name of a history cannot be changed").on(&entry.table)
        );
    }
    let fills: Vec<(u16, String)> = layout
        .fields
        .iter()
        .filter(|field| field.bit >= old.next_bit)
        .filter_map(|field| Some((field.bit, table.column(&field.name)?.fill.clone()?)))
        .collect();
    let new_epoch = layout != *old;
    let mut script = dialect.alter_history(old, &layout, &fills);
    script.extend(health::stale(session, &layout, table).await?);
    script.extend(dialect.install_capture(&layout, table, entry.stage == Stage::Baseline));
    let mut entering = dialect.tick();
    let from = sql::moment_or_clock(dialect, at);
    entering.push(sql::update_tracked(dialect, entry.id, &table.name, &tracking));
    if entry.stage == Stage::Stopped {
        entering.push(sql::set_state(dialect, entry.id, Stage::Active.as_str()));
    }
    if new_epoch {
        entering.push(sql::insert_epoch(dialect, entry.next_epoch(), &layout, &from));
    }
    let sparse = entry.sparse() || layout.storage == afterimage_core::Storage::Delta;
    let resync = match entry.stage {
        // An install that was cut short may have left some triggers only.
        Stage::Baseline if lost.is_some() && dialect.database() == Database::MariaDb => {
            mariadb::baseline::mend(&layout, sparse)
        }
        Stage::Baseline => Script::new(),
        _ => dialect.resync(&layout, sparse, new_epoch),
    };
    let mut after = Script::new();
    if lost.is_some() && entry.has_open_gap() {
        after.push(sql::close_gaps(dialect, entry.id, &from));
    } else if let Some(since) = lost {
        let since = dialect.moment(since);
        let cause = "its triggers were missing";
        after.push(sql::insert_gap(dialect, entry.id, None, &since, &from, cause, "migrate"));
    }
    Ok(Following {
        table: table.name.clone(),
        before: script,
        entering,
        resync,
        after,
        layout,
        changes,
        gap: lost.is_some(),
    })
}

/// Keeps writers out while triggers are exchanged: waits for the lock in short turns, so that nobody queues behind us
/// for long. SQLite's transaction has the only lock there is.
pub(crate) async fn lock(session: &mut Session, table: &Table) -> Result<()> {
    #[cfg(feature = "postgres")]
    if let Session::Postgres(_) = session {
        return crate::baseline::postgres::lock(session, table).await;
    }
    let _ = (session, table);
    Ok(())
}
