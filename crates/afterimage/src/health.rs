//! Whether what is installed is what should be, and whether the table is what the catalogue says.

use afterimage_core::drift::{self, Change, Numbers, Renames};
use afterimage_core::{Layout, Table, TableName};
use serde::Serialize;

use crate::catalog::{Entry, Stage};
use crate::error::Result;
use crate::introspect;
use crate::session::{Cell, Session};

/// How a tracked table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum State {
    /// Everything is as it should be.
    Ok,
    /// Captured; its baseline is being written, or was interrupted.
    Baseline,
    /// Its columns, its name or its triggers' surroundings changed: `migrate` follows.
    Drifted,
    /// Its capture is of another version, or was changed by hand: `migrate` renews it.
    Outdated,
    /// Triggers are missing or disabled: changes are being lost.
    Missing,
    /// The table is gone.
    Gone,
    /// Not tracked any more; the history stays.
    Stopped,
}

/// Something about a tracked table that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The table is gone.
    Gone,
    /// A trigger is missing.
    Missing(String),
    /// A trigger is disabled.
    Disabled(String),
    /// A trigger or its function is not the one that this version makes.
    Outdated(String),
    /// A trigger of ours that should not be there any more.
    Stale {
        /// The trigger.
        name: String,
        /// The statement that removes it.
        mend: String,
    },
    /// The table changed.
    Changed(Change),
    /// The table changed so that it cannot be followed.
    Unfollowable(String),
    /// A user's trigger was created after ours, and may fire first.
    Order(String),
}

impl Fault {
    /// Whether changes may go unrecorded because of it.
    pub fn loses_changes(&self) -> bool {
        matches!(self, Self::Missing(_) | Self::Disabled(_))
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Gone => f.write_str("the table is gone"),
            Self::Missing(name) => write!(f, "{name} is missing: changes are not recorded"),
            Self::Disabled(name) => write!(f, "{name} is disabled: changes are not recorded"),
            Self::Outdated(name) => write!(f, "{name} is not what this version installs"),
            Self::Stale { name, .. } => write!(f, "{name} is left over"),
            Self::Changed(change) => write!(f, "{change}"),
            Self::Unfollowable(why) => f.write_str(why),
            Self::Order(name) => write!(f, "the trigger {name} was created after ours and may fire first"),
        }
    }
}

/// The state that these faults amount to.
pub(crate) fn state(stage: Stage, faults: &[Fault]) -> State {
    if stage == Stage::Stopped {
        State::Stopped
    } else if faults.contains(&Fault::Gone) {
        State::Gone
    } else if faults.iter().any(Fault::loses_changes) {
        State::Missing
    } else if faults.iter().any(|fault| matches!(fault, Fault::Changed(_) | Fault::Unfollowable(_))) {
        State::Drifted
    } else if !faults.is_empty() {
        State::Outdated
    } else if stage == Stage::Baseline {
        State::Baseline
    } else {
        State::Ok
    }
}

/// Where the tracked table is now: under its name, or where our triggers went with it.
pub(crate) async fn whereabouts(session: &mut Session, entry: &Entry) -> Result<Option<TableName>> {
    if introspect::exact(session, &entry.table).await?.is_some() {
        return Ok(Some(entry.table.clone()));
    }
    Ok(match session {
        #[cfg(feature = "postgres")]
        Session::Postgres(_) => session
            .row(
                "SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_trigger AS t \
                 JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid AND NOT c.relispartition JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
                 JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid JOIN pg_catalog.pg_namespace AS pn ON pn.oid = p.pronamespace \
                 WHERE pn.nspname = 'afterimage' AND p.proname = 'capture_' || $1 || '_truncate'",
                &[Cell::Text(entry.id.to_string())],
            )
            .await?
            .and_then(|row| {
                let mut texts = row.into_iter().filter_map(Cell::text);
                Some(TableName::new(texts.next()?, texts.next()?))
            }),
        #[cfg(feature = "sqlite")]
        Session::Sqlite(_) => session
            .row(
                "SELECT tbl_name FROM sqlite_schema WHERE type = 'trigger' AND name = ?1",
                &[Cell::Text(format!("afterimage_{}_insert", entry.id))],
            )
            .await?
            .and_then(|mut row| row.pop().and_then(Cell::text))
            .map(TableName::bare),
        #[cfg(feature = "mysql")]
        Session::MariaDb(_) => session
            .row(
                "SELECT event_object_table FROM information_schema.triggers WHERE event_object_schema = DATABASE() AND trigger_name = ?",
                &[Cell::Text(format!("afterimage_{}_insert", entry.id))],
            )
            .await?
            .and_then(|mut row| row.pop().and_then(Cell::text))
            .map(TableName::bare),
    })
}

/// Everything that is not as it should be with a tracked table that is there.
pub(crate) async fn faults(session: &mut Session, entry: &Entry, table: &Table) -> Result<Vec<Fault>> {
    let entry = entry.whole();
    let layout = entry.layout()?;
    let mut faults = match session {
        #[cfg(feature = "postgres")]
        Session::Postgres(_) => postgres(session, layout, table).await?,
        #[cfg(feature = "sqlite")]
        Session::Sqlite(_) => sqlite(session, layout, table, entry.stage == Stage::Baseline).await?,
        #[cfg(feature = "mysql")]
        Session::MariaDb(_) => mariadb(session, layout, table, entry.stage == Stage::Baseline).await?,
    };
    let captured = !faults.iter().any(Fault::loses_changes);
    let known = Renames { told: Vec::new(), numbers: numbers(table, captured) };
    match drift::follow(layout, &entry.tracking, table, &known) {
        Ok(followed) => faults.extend(followed.changes.into_iter().map(Fault::Changed)),
        Err(error) => faults.push(Fault::Unfollowable(error.to_string())),
    }
    Ok(faults)
}

/// What the numbers of a table's columns say, if nothing was lost since it was last followed (`captured`).
pub(crate) fn numbers(table: &Table, captured: bool) -> Numbers {
    if table.postgres().is_some() || captured { Numbers::Rename } else { Numbers::Nothing }
}

/// A trigger of SQLite as a fault names it.
pub(crate) fn trigger(name: &str) -> String {
    format!("the trigger {name}")
}

/// A trigger of PostgreSQL, whose names are the same on every table, as a fault names it.
pub(crate) fn trigger_on(name: &str, table: &TableName) -> String {
    format!("the trigger {name} on {table}")
}

/// The statements that remove triggers of ours which should not be there any more.
pub(crate) async fn stale(session: &mut Session, layout: &Layout, table: &Table) -> Result<Vec<String>> {
    #[cfg(feature = "postgres")]
    if let Session::Postgres(_) = session {
        let faults = postgres(session, layout, table).await?;
        let mends = faults.into_iter().filter_map(|fault| match fault {
            Fault::Stale { mend, .. } => Some(mend),
            _ => None,
        });
        return Ok(mends.collect());
    }
    let _ = (session, layout, table);
    Ok(Vec::new())
}

#[cfg(feature = "postgres")]
async fn postgres(session: &mut Session, layout: &Layout, table: &Table) -> Result<Vec<Fault>> {
    use afterimage_core::sql::postgres as sql;
    let id = [Cell::Text(format!("capture\\_{}\\_%", layout.id))];
    let installed = session
        .rows(
            "SELECT n.nspname::text, c.relname::text, t.tgname::text, t.tgenabled::text, p.proname::text, t.tgtype::int, c.relispartition::int, (t.tgparentid <> 0)::int FROM pg_catalog.pg_trigger AS t \
             JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
             JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid JOIN pg_catalog.pg_namespace AS pn ON pn.oid = p.pronamespace \
             WHERE pn.nspname = 'afterimage' AND p.proname LIKE $1",
            &id,
        )
        .await?;
    let mut faults = Vec::new();
    let expected = sql::triggers(layout, table);
    let row_level = sql::level(table) != sql::Level::Statement;
    let text = |row: &Vec<Cell>, at: usize| row[at].clone().text().unwrap_or_default();
    for trigger in &expected {
        let name = trigger_on(trigger.name, &trigger.table);
        let found = installed.iter().find(|row| {
            Some(text(row, 0)) == trigger.table.schema
                && text(row, 1) == trigger.table.name
                && text(row, 2) == trigger.name
        });
        match found {
            None => faults.push(Fault::Missing(name)),
            Some(row) if !["O", "A"].contains(&text(row, 3).as_str()) => faults.push(Fault::Disabled(name)),
            Some(row)
                if trigger.name != "!afterimage_truncate"
                    && (row[5].int().unwrap_or_default() & 1 == 1) != row_level =>
            {
                faults.push(Fault::Outdated(name));
            }
            Some(_) => {}
        }
    }
    for row in &installed {
        let on = TableName::new(text(row, 0), text(row, 1));
        let trigger = text(row, 2);
        let cloned = row[7].int() == Some(1);
        if !cloned && !expected.iter().any(|e| e.table == on && e.name == trigger) {
            let mend = format!("DROP TRIGGER {} ON {}", afterimage_core::Quoted::new(&trigger), on.quoted());
            faults.push(Fault::Stale { name: format!("the trigger {trigger} on {on}"), mend });
        }
    }
    let bodies = session
        .rows(
            "SELECT p.proname::text, p.prosrc::text, (SELECT count(*) FROM pg_catalog.aclexplode(coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))) AS a WHERE a.grantee = 0) \
             FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace \
             WHERE n.nspname = 'afterimage' AND p.proname LIKE $1",
            &id,
        )
        .await?;
    for function in sql::functions(layout, table) {
        let installed = bodies.iter().find(|row| format!("afterimage.{}", text(row, 0)) == function.name);
        if installed.is_none_or(|row| text(row, 1) != function.body || row[2].int() != Some(0)) {
            faults.push(Fault::Outdated(format!("the function {}", function.name)));
        }
    }
    Ok(faults)
}

#[cfg(feature = "sqlite")]
async fn sqlite(session: &mut Session, layout: &Layout, table: &Table, baseline: bool) -> Result<Vec<Fault>> {
    let rows = session
        .rows(
            "SELECT name, sql, CASE WHEN tbl_name = ?1 THEN rowid END FROM sqlite_schema WHERE type = 'trigger' AND tbl_name IN (?1, ?2)",
            &[Cell::Text(table.name.name.clone()), Cell::Text(layout.history.name.clone())],
        )
        .await?;
    let installed: Vec<(String, String, i64)> = rows
        .into_iter()
        .map(|row| {
            let at = row[2].int().unwrap_or_default();
            let mut texts = row.into_iter().map(|cell| cell.text().unwrap_or_default());
            (texts.next().unwrap_or_default(), texts.next().unwrap_or_default(), at)
        })
        .collect();
    let mut faults = Vec::new();
    let script = session.dialect().install_capture(layout, table, baseline);
    let of_history = format!(" ON {}", layout.history.quoted());
    let (guards, script): (Vec<String>, Vec<String>) = script
        .into_iter()
        .filter(|statement| statement.starts_with("CREATE TRIGGER "))
        .partition(|statement| statement.lines().next().is_some_and(|line| line.ends_with(&of_history)));
    for guard in &guards {
        if !installed.iter().any(|(_, sql, _)| sql == guard) {
            faults
                .push(Fault::Outdated("a guard that keeps records from being changed or deleted".to_owned()));
        }
    }
    let expected = script.iter().filter_map(|statement| {
        let name = statement.strip_prefix("CREATE TRIGGER ")?.split_whitespace().next()?;
        Some((name, statement))
    });
    let mut first_of_ours = i64::MAX;
    for (name, statement) in expected {
        match installed.iter().find(|(installed, ..)| installed == name) {
            None => faults.push(Fault::Missing(trigger(name))),
            Some((_, sql, at)) => {
                first_of_ours = first_of_ours.min(*at);
                if sql != statement {
                    faults.push(Fault::Outdated(format!("the trigger {name}")));
                }
            }
        }
    }
    let ours = format!("afterimage_{}_", layout.id);
    for (name, _, at) in &installed {
        if !name.starts_with(&ours) && *at > first_of_ours {
            faults.push(Fault::Order(name.clone()));
        }
    }
    Ok(faults)
}

#[cfg(feature = "mysql")]
async fn mariadb(
    session: &mut Session,
    layout: &Layout,
    table: &Table,
    baseline: bool,
) -> Result<Vec<Fault>> {
    let rows = session
        .rows(
            "SELECT trigger_name, action_statement, event_object_table FROM information_schema.triggers WHERE event_object_schema = DATABASE() AND trigger_name LIKE ? ESCAPE '\\'",
            &[Cell::Text(format!("afterimage\\_{}\\_%", layout.id))],
        )
        .await?;
    let installed: Vec<[String; 3]> = rows
        .into_iter()
        .filter_map(|row| {
            let texts: Vec<String> = row.into_iter().map(|cell| cell.text().unwrap_or_default()).collect();
            texts.try_into().ok()
        })
        .collect();
    let mut faults = Vec::new();
    for statement in session.dialect().install_capture(layout, table, baseline) {
        let Some((head, body)) = statement.split_once(" FOR EACH ROW\n") else { continue };
        let name = head.split_whitespace().nth(4).unwrap_or_default();
        let of_history = head.ends_with(&format!(" ON {}", layout.history.quoted()));
        let bare = name.trim_matches('"');
        match installed.iter().find(|[installed, ..]| installed == bare) {
            Some([_, text, _]) if text.trim() == body.trim() => {}
            _ if of_history => faults
                .push(Fault::Outdated("a guard that keeps records from being changed or deleted".to_owned())),
            None => faults.push(Fault::Missing(trigger(name))),
            Some(_) => faults.push(Fault::Outdated(trigger(name))),
        }
    }
    Ok(faults)
}
