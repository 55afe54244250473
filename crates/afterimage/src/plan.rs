//! `plan`: the SQL that `track` or `migrate` would run, for any migration tool.

use afterimage_core::sql::{Dialect, catalog as sql};
use afterimage_core::{Database, Layout, TableName, Tracking};
use serde::Serialize;

use crate::catalog::{self, Entry, Stage};
use crate::database::Afterimage;
use crate::error::{Error, ErrorKind, Result};
use crate::introspect;
use crate::migrate;
use crate::serialized::as_text;
use crate::session::Session;
use crate::track;

/// A migration: what to run, and what takes it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The statements, in order, one transaction.
    pub up: Vec<String>,
    /// The statements that take it back, in order.
    pub down: Vec<String>,
}

/// The plan of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedTable {
    /// The table.
    #[serde(serialize_with = "as_text")]
    pub table: TableName,
    /// The migration.
    #[serde(flatten)]
    pub plan: Plan,
}

impl Afterimage {
    /// The SQL that would track a table, or follow it where it is tracked and has changed. Nothing is changed.
    pub async fn plan(&self, table: &str, tracking: &Tracking) -> Result<PlannedTable> {
        self.trying(async |session| {
            let known = catalog::exists(session).await?;
            if known && let Ok(entry) = catalog::find(session, table).await {
                return follow(session, &entry, None).await;
            }
            let described = introspect::table(session, table).await?;
            let dialect = session.dialect();
            let whole = known && catalog::keeps_removals(session).await?;
            let id = match whole {
                true => session.int(&sql::next_id(dialect), &[]).await?.unwrap_or(1),
                false => {
                    catalog::entries(session).await?.iter().map(|entry| entry.id).max().unwrap_or_default()
                        + 1
                }
            };
            let layout = Layout::new(id, &described, tracking, dialect.database())?;
            let mut up = dialect.session_of_a_script();
            up.extend(if whole { Vec::new() } else { dialect.catalog() });
            up.extend(track::script(session, &layout, &described, tracking, true, None));
            up.extend(dialect.baseline(&layout));
            let table = introspect::seen(session, &described.name).await?;
            Ok(PlannedTable { table, plan: Plan { up, down: down(dialect, &layout) } })
        })
        .await
    }

    /// One migration that holds a schema change and what the history needs for it. The change is tried in a
    /// transaction that is rolled back.
    pub async fn plan_after(&self, table: &str, statements: &str) -> Result<PlannedTable> {
        if self.database() == Database::MariaDb {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "MariaDB cannot try a schema change without making it: make it, then migrate",
            ));
        }
        self.trying(async |session| {
            let entry = catalog::find(session, table).await?;
            follow(session, &entry, Some(statements)).await
        })
        .await
    }

    /// Runs `work` in a transaction that is always rolled back.
    async fn trying<T>(&self, work: impl AsyncFnOnce(&mut Session) -> Result<T>) -> Result<T> {
        let mut outcome = None;
        let rolled_back = self
            .writing(async |session| {
                outcome = Some(work(session).await);
                Err::<(), _>(Error::new(ErrorKind::Database, "rolled back on purpose"))
            })
            .await;
        match (outcome, rolled_back) {
            (Some(outcome), _) => outcome,
            (None, Err(error)) => Err(error),
            (None, Ok(())) => Err(Error::new(ErrorKind::Database, "nothing was tried")),
        }
    }
}

fn down(dialect: &dyn Dialect, layout: &Layout) -> Vec<String> {
    let mut down = dialect.session_of_a_script();
    down.extend(dialect.remove_capture(layout));
    down.extend(dialect.drop_history(layout));
    down.extend(sql::forget(dialect, layout.id));
    down
}

/// Tries the change, and tells what it takes.
async fn follow(session: &mut Session, entry: &Entry, statements: Option<&str>) -> Result<PlannedTable> {
    let mut up = session.dialect().session_of_a_script();
    let following = match statements {
        Some(statements) => {
            let (before, following) = migrate::alter_script(session, entry, statements, None).await?;
            up.extend(before);
            up.push(statements.trim().trim_end_matches(';').to_owned());
            following
        }
        None => {
            let table = migrate::find_today(session, entry).await?;
            let stopped = entry.stage == Stage::Stopped;
            let (known, lost) = migrate::known(session, entry, &table, &[], stopped).await?;
            migrate::following(session, entry, &table, &entry.tracking, &known, None, lost).await?
        }
    };
    let table = introspect::seen(session, &following.table).await?;
    up.extend(following.script());
    // A history is never narrowed: what is recorded stays. The way back is to follow the table back.
    let down = vec!["-- take the schema change back, then: afterimage migrate".to_owned()];
    Ok(PlannedTable { table, plan: Plan { up, down } })
}
