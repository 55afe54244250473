//! `track`: installs capture and writes the baseline.

use std::sync::Arc;

use afterimage_core::sql::catalog as sql;
use afterimage_core::{Context, Database, Layout, Moment, Storage, Table, TableName, Tracking};

use crate::baseline::{self, Progress, Snapshot};
use crate::catalog::{self, Entry, Stage};
use crate::database::Afterimage;
use crate::error::{Error, ErrorKind, Result};
use crate::introspect;
use crate::migrate;
use crate::scope::within_current;
use crate::session::Session;

/// A request to track a table.
#[derive(Debug, Clone, Default)]
pub struct Track {
    table: String,
    tracking: Tracking,
    no_baseline: bool,
    context: Context,
}

impl Track {
    /// Tracks `table` (or `schema.table`) as `tracking` says.
    pub fn new(table: impl Into<String>, tracking: Tracking) -> Self {
        Self { table: table.into(), tracking, ..Self::default() }
    }

    /// Writes no baseline: rows that are there already have no history until they change.
    #[must_use]
    pub fn no_baseline(mut self, yes: bool) -> Self {
        self.no_baseline = yes;
        self
    }

    /// Who tracks, and why; an explicit time in it dates the beginning of the history, for imports.
    #[must_use]
    pub fn context(mut self, context: Context) -> Self {
        self.context = context;
        self
    }
}

/// What `track` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracked {
    /// The table.
    pub table: TableName,
    /// Its history.
    pub history: TableName,
    /// Rows that got a baseline record.
    pub baseline: u64,
    /// Whether it was tracked before, so that only options changed or a baseline went on.
    pub again: bool,
}

/// Up to this many bytes a table's baseline is written under the lock that installs its triggers.
const SMALL_BYTES: i64 = 4 << 20;

/// The same for SQLite, in rows.
const SMALL_ROWS: i64 = 5_000;

impl Afterimage {
    /// Tracks a table: installs capture and writes the baseline. Called again, it changes the options, or goes on
    /// with a baseline that was interrupted.
    pub async fn track(&self, table: impl Into<String>, tracking: Tracking) -> Result<Tracked> {
        self.track_with(Track::new(table, tracking), &mut |_| {}).await
    }

    /// Tracks a table, telling `progress` how the baseline gets on.
    pub async fn track_with(
        &self,
        request: Track,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Tracked> {
        let (installed, snapshot) = self.install(&request).await?;
        let baseline = match installed.pending {
            false => installed.baseline,
            true => baseline::finish(self, installed.id, snapshot, progress).await.map_err(|error| {
                error.after("capture is installed; track it again to go on with the baseline")
            })?,
        };
        let layout = &installed.layout;
        self.reading(async |session| {
            let table = introspect::seen(session, &layout.table).await?;
            let history = introspect::seen(session, &layout.history).await?;
            Ok(Tracked { table, history, baseline, again: installed.again })
        })
        .await
    }

    async fn install(&self, request: &Track) -> Result<(Installed, Snapshot)> {
        self.writing_as(&request.context, async |session| {
            let installed = install(session, request, &request.context).await?;
            // Taken while the lock still keeps writers out: what it sees is what was there at the install.
            let first_baseline = installed.pending && !installed.again;
            let snapshot = if first_baseline {
                baseline::snapshot(self, installed.id).await?
            } else {
                Snapshot::default()
            };
            Ok((installed, snapshot))
        })
        .await
    }

    /// Runs `work` in a transaction of the engine's own that carries a context.
    pub(crate) async fn writing_as<T>(
        &self,
        context: &Context,
        work: impl AsyncFnOnce(&mut Session) -> Result<T>,
    ) -> Result<T> {
        let context = &within_current(context);
        self.writing(async |session| {
            catalog::ensure(session).await?;
            let within = enter(session, context).await?;
            let value = work(session).await?;
            leave(session, within).await?;
            Ok(value)
        })
        .await
    }
}

/// Sets a context inside a transaction of the engine's own; an empty one is not worth a row.
pub(crate) async fn enter(session: &mut Session, context: &Context) -> Result<bool> {
    if *context == Context::new() {
        return Ok(false);
    }
    let set = session.dialect().set_context(context, false)?;
    session.run(&set).await?;
    Ok(true)
}

pub(crate) async fn leave(session: &mut Session, entered: bool) -> Result<()> {
    #[cfg(feature = "sqlite")]
    if let (Session::Sqlite(_), true) = (&*session, entered) {
        session.run("DELETE FROM afterimage_context").await?;
    }
    #[cfg(feature = "mysql")]
    if let (Session::MariaDb(_), true) = (&*session, entered) {
        session.run("DELETE FROM afterimage_context").await?;
    }
    let _ = entered;
    Ok(())
}

/// A table after its capture was installed.
#[derive(Debug)]
pub(crate) struct Installed {
    pub(crate) id: i64,
    pub(crate) layout: Layout,
    pub(crate) baseline: u64,
    pub(crate) pending: bool,
    pub(crate) again: bool,
}

/// Installs capture in the open transaction; a small table gets its baseline at once.
pub(crate) async fn install(session: &mut Session, request: &Track, context: &Context) -> Result<Installed> {
    let table = introspect::table(session, &request.table).await?;
    refuse_own(&table)?;
    match catalog::find_exact(session, &table.name).await? {
        Some(entry) => again(session, entry, &table, request, context).await,
        None => first_time(session, &table, request, context).await.map_err(|error| error.on(&table.name)),
    }
}

async fn again(
    session: &mut Session,
    entry: Arc<Entry>,
    table: &Table,
    request: &Track,
    context: &Context,
) -> Result<Installed> {
    let stopped = entry.stage == Stage::Stopped;
    let pending = entry.stage == Stage::Baseline;
    let id = entry.id;
    if pending && session.dialect().database() == Database::MariaDb {
        // Interrupted, perhaps before its history was there.
        session.run_all(&session.dialect().create_history(entry.layout()?)).await?;
    }
    let followed =
        migrate::follow_in(session, &entry, table, &request.tracking, &[], context.explicit_time(), stopped)
            .await?;
    Ok(Installed { id, layout: followed.layout, baseline: followed.resynced, pending, again: true })
}

async fn first_time(
    session: &mut Session,
    table: &Table,
    request: &Track,
    context: &Context,
) -> Result<Installed> {
    let dialect = session.dialect();
    let id = session.int(&sql::next_id(dialect), &[]).await?.unwrap_or(1);
    // What cannot be tracked is refused before anybody has to wait for the lock.
    Layout::new(id, table, &request.tracking, dialect.database())?;
    migrate::lock(session, table).await?;
    // Whoever had the lock before us may have changed the table.
    let table = &introspect::exact(session, &table.name)
        .await?
        .ok_or_else(|| Error::new(ErrorKind::NotFound, "it was dropped meanwhile"))?;
    let layout = Layout::new(id, table, &request.tracking, dialect.database())?;
    if introspect::taken(session, &layout.history).await? {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            format!(
                "its history would be called {}, and that name is taken: choose another with the option history",
                layout.history
            ),
        ));
    }
    let without = request.no_baseline && !is_empty(session, table).await?;
    if without && layout.storage == Storage::Delta {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            "sparse records build on a baseline: without one, choose snapshot",
        ));
    }
    let small = request.no_baseline || is_small(session, table).await?;
    let mut script = script(session, &layout, table, &request.tracking, small, context.explicit_time());
    if without {
        let since = format!("(SELECT since FROM {} WHERE id = {id})", dialect.catalog_table("tracked"));
        let cause = "no baseline was written: rows that were there are not known until they change";
        script.push(sql::insert_gap(dialect, id, None, &since, "NULL", cause, "track"));
    }
    session.run_all(&script).await?;
    catalog::begin_again(session).await?;
    let mut baseline = 0;
    if small && !request.no_baseline {
        for statement in dialect.baseline(&layout) {
            let written = session.run(&statement).await?;
            if statement.starts_with("INSERT") {
                baseline = written;
            }
        }
    }
    #[cfg(feature = "sqlite")]
    if let (Session::Sqlite(_), false) = (&*session, small) {
        baseline::sqlite::set_numbers_aside(session, &layout, table).await?;
    }
    Ok(Installed { id, layout, baseline, pending: !small, again: false })
}

/// Everything that `track` installs, in order; the same that `plan` prints.
pub(crate) fn script(
    session: &Session,
    layout: &Layout,
    table: &Table,
    tracking: &Tracking,
    small: bool,
    at: Option<Moment>,
) -> Vec<String> {
    let dialect = session.dialect();
    let since = sql::moment_or_clock(dialect, at);
    let stage = if small { Stage::Active } else { Stage::Baseline };
    let from = format!("(SELECT since FROM {} WHERE id = {})", dialect.catalog_table("tracked"), layout.id);
    let mut entered = dialect.tick();
    entered.push(sql::insert_tracked(dialect, layout, tracking, stage.as_str(), &since));
    entered.push(sql::insert_epoch(dialect, 1, layout, &from));
    let mut installed = dialect.create_history(layout);
    installed.extend(dialect.install_capture(layout, table, !small));
    if dialect.database() != Database::MariaDb {
        return [installed, entered].concat();
    }
    // Each statement commits: what was begun has to be known, and counts from when it is done.
    let dated = match at {
        Some(_) => Vec::new(),
        None => sql::begin_at(dialect, layout.id, dialect.clock()),
    };
    [entered, installed, dated].concat()
}

async fn is_empty(session: &mut Session, table: &Table) -> Result<bool> {
    let some = format!("SELECT count(*) FROM (SELECT 1 FROM {} LIMIT 1) AS one", table.name.quoted());
    Ok(session.int(&some, &[]).await? == Some(0))
}

async fn is_small(session: &mut Session, table: &Table) -> Result<bool> {
    if let Some(shape) = table.postgres() {
        return Ok(!shape.partitioned && shape.bytes <= SMALL_BYTES);
    }
    if table.mariadb().is_some() {
        // What creates a trigger ends the transaction: no baseline can be part of it.
        return Ok(false);
    }
    let some =
        format!("SELECT count(*) FROM (SELECT 1 FROM {} LIMIT {})", table.name.quoted(), SMALL_ROWS + 1);
    Ok(session.int(&some, &[]).await?.unwrap_or_default() <= SMALL_ROWS)
}

fn refuse_own(table: &Table) -> Result<()> {
    let ours =
        table.name.schema.as_deref() == Some("afterimage") || table.name.name.starts_with("afterimage_");
    let history = table.column("history_id").is_some() && table.column("history_type").is_some();
    if ours || history {
        return Err(Error::new(ErrorKind::Untrackable, "it is one of Afterimage's own").on(&table.name));
    }
    Ok(())
}
