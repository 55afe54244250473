//! `status`: what is tracked, and how it is.

use afterimage_core::{Field, Keeping, Moment, Storage, TableName, Tracking};
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::catalog::{self, Entry, Gap};
use crate::database::Afterimage;
use crate::error::Result;
use crate::health::{self, Fault, State};
use crate::introspect;
use crate::session::Session;

/// How one tracked table is.
#[derive(Debug, Clone, PartialEq)]
pub struct TableStatus {
    /// The table.
    pub table: TableName,
    /// Its history.
    pub history: TableName,
    /// Full or sparse records.
    pub storage: Storage,
    /// How many records it has.
    pub records: i64,
    /// How it is.
    pub state: State,
    /// Since when it is tracked.
    pub since: Moment,
    /// The options.
    pub tracking: Tracking,
    /// What is not as it should be.
    pub faults: Vec<Fault>,
    /// Stretches in which changes may be missing.
    pub gaps: Vec<Gap>,
}

impl TableStatus {
    /// Whether there is nothing to mend.
    pub fn is_healthy(&self) -> bool {
        matches!(self.state, State::Ok | State::Stopped)
    }
}

impl Serialize for TableStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let faults: Vec<String> = self.faults.iter().map(ToString::to_string).collect();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("table", &self.table.to_string())?;
        map.serialize_entry("storage", &self.storage)?;
        map.serialize_entry("records", &self.records)?;
        map.serialize_entry("state", &self.state)?;
        map.serialize_entry("history", &self.history.to_string())?;
        map.serialize_entry("since", &self.since.to_string())?;
        map.serialize_entry("tracking", &self.tracking)?;
        map.serialize_entry("faults", &faults)?;
        map.serialize_entry("gaps", &self.gaps)?;
        map.end()
    }
}

/// A tracked table, as far as the catalogue alone knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct TrackedTable {
    /// The table.
    pub table: TableName,
    /// The columns of its key.
    pub key: Vec<String>,
    /// Its tracked columns, in the table's order.
    pub columns: Vec<TrackedColumn>,
    /// Since when it is tracked.
    pub since: Moment,
    /// Whether it is captured at present.
    pub captured: bool,
    /// The options.
    pub tracking: Tracking,
    /// Stretches in which changes may be missing.
    pub gaps: Vec<Gap>,
}

/// A tracked column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackedColumn {
    /// Its name.
    pub name: String,
    /// What it was called, and from when on, oldest first; its present name is the last.
    pub names: Vec<(Moment, String)>,
    /// Its type as SQL.
    pub sql_type: String,
    /// Whether its values are kept out of sight.
    pub masked: bool,
}

impl TrackedColumn {
    /// What it was called at a moment; before it was a column, what it was called first.
    pub fn name_at(&self, moment: Moment) -> &str {
        let at = self.names.iter().rev().find(|(from, _)| *from <= moment).or_else(|| self.names.first());
        at.map_or(self.name.as_str(), |(_, name)| name.as_str())
    }
}

impl Afterimage {
    /// One tracked table, by the name that people give it.
    pub async fn tracked_table(&self, name: &str) -> Result<TrackedTable> {
        self.reading(async |session| {
            let entry = catalog::find(session, name).await?;
            tracked(session, &entry).await
        })
        .await
    }

    /// Every tracked table, without looking at the tables themselves: what it costs does not depend on how much there is.
    pub async fn tracked(&self) -> Result<Vec<TrackedTable>> {
        self.reading(async |session| {
            let mut all = Vec::new();
            for entry in catalog::entries(session).await? {
                all.push(tracked(session, &entry).await?);
            }
            Ok(all)
        })
        .await
    }

    /// How every tracked table is.
    pub async fn status(&self) -> Result<Vec<TableStatus>> {
        self.reading(async |session| {
            let mut all = Vec::new();
            for entry in catalog::entries(session).await? {
                all.push(of_table(session, &entry, None).await?);
            }
            Ok(all)
        })
        .await
    }
}

impl Afterimage {
    /// Every ordinary table that is not tracked or one of Afterimage's own, as a user would name it.
    pub async fn tables(&self) -> Result<Vec<String>> {
        self.reading(async |session| {
            let histories: Vec<String> = catalog::entries(session)
                .await?
                .iter()
                .filter_map(|e| Some(e.layout().ok()?.history.name.clone()))
                .collect();
            let bare = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
            let names = introspect::names(session).await?;
            Ok(names.into_iter().filter(|name| !histories.contains(&bare(name))).collect())
        })
        .await
    }

    /// The options of a table, where it is tracked.
    pub async fn tracking(&self, table: &str) -> Result<Option<Tracking>> {
        self.reading(async |session| {
            Ok(catalog::find(session, table).await.ok().map(|entry| entry.tracking.clone()))
        })
        .await
    }

    /// Whether records may be dated by hand. PostgreSQL has a right for it, `EXECUTE` on
    /// `afterimage.explicit_time()`; SQLite has no roles, so it is a setting of the file, refused at first.
    pub async fn allow_explicit_time(&self, allowed: bool) -> Result<()> {
        self.allow("explicit_time", allowed).await
    }

    /// Whether writes may go unrecorded, with [`Context::skip`](crate::Context::skip). PostgreSQL has a right for it,
    /// `EXECUTE` on `afterimage.skip()`; on SQLite it is a setting of the file, refused at first.
    pub async fn allow_skip(&self, allowed: bool) -> Result<()> {
        self.allow("skip", allowed).await
    }

    async fn allow(&self, what: &str, allowed: bool) -> Result<()> {
        self.writing(async |session| {
            catalog::ensure(session).await?;
            let value = if allowed { "allowed" } else { "refused" };
            let setting = session.dialect().catalog_table("setting");
            session
                .run(&format!("UPDATE {setting} SET value = '{value}' WHERE name = '{what}'"))
                .await
                .map(drop)
        })
        .await
    }
}

async fn tracked(session: &mut Session, entry: &Entry) -> Result<TrackedTable> {
    let layout = entry.layout()?;
    let names = |field: &Field| {
        let mut names: Vec<(Moment, String)> = Vec::new();
        for epoch in &entry.epochs {
            let then = epoch.layout.fields.iter().find(|then| then.bit == field.bit);
            if let Some(then) = then.filter(|then| names.last().is_none_or(|(_, last)| *last != then.name)) {
                names.push((epoch.from, then.name.clone()));
            }
        }
        names
    };
    let column = |field: &Field| TrackedColumn {
        name: field.name.clone(),
        names: names(field),
        sql_type: field.sql_type.clone(),
        masked: field.keeping == Keeping::Masked,
    };
    Ok(TrackedTable {
        key: layout.key.clone(),
        columns: layout.fields.iter().map(column).collect(),
        since: entry.since,
        captured: entry.stage != catalog::Stage::Stopped,
        tracking: entry.tracking.clone(),
        gaps: entry.gaps.clone(),
        table: introspect::seen(session, &entry.table).await?,
    })
}

/// How a table is, with so many records, or those that are counted.
pub(crate) async fn of_table(
    session: &mut Session,
    entry: &Entry,
    records: Option<i64>,
) -> Result<TableStatus> {
    let layout = entry.layout()?.clone();
    let mut faults = match health::whereabouts(session, entry).await? {
        _ if entry.stage == catalog::Stage::Stopped => Vec::new(),
        None => vec![Fault::Gone],
        Some(name) => match introspect::exact(session, &name).await? {
            Some(table) => health::faults(session, entry, &table).await?,
            None => vec![Fault::Gone],
        },
    };
    let records = match introspect::exact(session, &layout.history).await? {
        Some(_) if records.is_some() => records,
        Some(_) => session.int(&session.dialect().count(&layout.history), &[]).await?,
        // Somebody dropped it, or tracking was interrupted before it was made.
        None => {
            faults.push(Fault::Missing(format!("the history {}", layout.history)));
            None
        }
    };
    Ok(TableStatus {
        records: records.unwrap_or_default(),
        state: health::state(entry.stage, &faults),
        storage: layout.storage,
        history: introspect::seen(session, &layout.history).await?,
        since: entry.since,
        faults,
        gaps: entry.gaps.clone(),
        tracking: entry.tracking.clone(),
        table: introspect::seen(session, &entry.table).await?,
    })
}
