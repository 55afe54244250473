//! A row with the rows that belong to it: its timeline, its state, and how that differs.
//!
//! Rows belong to a row by a foreign key, of tables that its tracking declares as related, or else of every tracked
//! table that refers to it. A link between two tables belongs to both: each side's timeline tells it.

use std::sync::Arc;

use afterimage_core::name::literal;
use afterimage_core::{Action, Quoted, TableName, Value, Version};

use crate::as_of::{self, AsOfQuery, TableState, Wanted};
use crate::catalog::{self, Entry, Stage};
use crate::database::Afterimage;
use crate::error::{Error, ErrorKind, Result};
use crate::log::{self, LogPage, LogQuery, LogSource};
use crate::session::Session;
use crate::versions::{self, PointInTime, Selector};
use crate::{across, introspect, key, migrate};

/// The rows of one table that belong to a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Related {
    /// The table.
    pub table: TableName,
    /// The columns by which they refer to it.
    pub by: Vec<String>,
    /// The columns of their key.
    pub key: Vec<String>,
    /// The rows, in key order.
    pub rows: TableState,
}

/// How the rows of one table that belong to a row differ between two versions of it.
#[derive(Debug, Clone, PartialEq)]
pub struct RelatedChange {
    /// The table.
    pub table: TableName,
    /// Rows that belong to the newer version only, in key order.
    pub added: Vec<Vec<(String, Value)>>,
    /// Rows that belonged to the older version only.
    pub removed: Vec<Vec<(String, Value)>>,
    /// Rows that belong to both and differ: the older state, the newer one.
    pub changed: Vec<[Vec<(String, Value)>; 2]>,
}

/// A tracked table that refers to another.
struct Child {
    entry: Arc<Entry>,
    columns: Vec<String>,
    target_columns: Vec<String>,
}

impl Afterimage {
    /// The log of a row and of the rows that belonged to it when they changed, newest first.
    pub async fn timeline(&self, table: &str, key: &str, query: &LogQuery) -> Result<LogPage> {
        self.reading(async |session| {
            let entry = catalog::find(session, table).await?;
            let versions = versions::of_row(session, &entry, key).await?;
            let mut own = LogSource::new(session, entry.clone()).await?;
            // Whatever keys it had, and whatever it was referred to by.
            for version in &versions {
                let at = keys_of(&entry, version)?;
                if !own.keys.contains(&at) {
                    own.keys.push(at);
                }
            }
            if own.keys.is_empty() {
                own.keys.push(key::values(entry.layout()?, key)?);
            }
            let mut sources = vec![own];
            for child in children(session, &entry).await? {
                let mut source = LogSource::new(session, child.entry.clone()).await?;
                for version in &versions {
                    if let Some(values) = child.referred(version)
                        && !source.refers.contains(&values)
                    {
                        source.refers.push(values);
                    }
                }
                if !source.refers.is_empty() {
                    sources.push(source);
                }
            }
            let mut entries = Vec::new();
            let (next, gaps) = log::each_of(session, &sources, query, |entry| {
                entries.push(entry);
                true
            })
            .await?;
            Ok(LogPage { entries, next, gaps })
        })
        .await
    }

    /// A row as of a time, and the rows that belonged to it then, all as of one moment.
    pub async fn show_with_related(
        &self,
        table: &str,
        key: &str,
        at: &PointInTime,
    ) -> Result<(Version, Vec<Related>)> {
        let version = self.show(table, key, at).await?;
        let related = self
            .reading(async |session| {
                let entry = catalog::find(session, table).await?;
                related(session, &entry, &version, at).await
            })
            .await?;
        Ok((version, related))
    }

    /// How the rows that belong to a row differ between two of its versions, each seen at the end of its time: right
    /// before the next version began.
    pub async fn diff_related(
        &self,
        table: &str,
        key: &str,
        from: &PointInTime,
        to: &PointInTime,
    ) -> Result<Vec<RelatedChange>> {
        self.reading(async |session| {
            let entry = catalog::find(session, table).await?;
            let versions = versions::of_row(session, &entry, key).await?;
            let mut sides = Vec::new();
            for at in [from, to] {
                let version =
                    versions::select(session, &entry, &versions, &Selector::At(at.clone())).await?.clone();
                sides.push(related(session, &entry, &version, at).await?);
            }
            let newer = sides.pop().unwrap_or_default();
            let older = sides.pop().unwrap_or_default();
            Ok(older.into_iter().zip(newer).filter_map(|(old, new)| compare(old, new)).collect())
        })
        .await
    }
}

/// The key under which a version's row lived.
fn keys_of(entry: &Entry, version: &Version) -> Result<Vec<Value>> {
    let layout = as_of::layout_at(entry, afterimage_core::sql::Bound::Time(version.header.date))?;
    Ok(layout
        .key
        .iter()
        .map(|name| value_of(version, name).map_or(Value::Null, |value| Value::Text(value.to_string())))
        .collect())
}

fn value_of<'v>(version: &'v Version, name: &str) -> Option<&'v Value> {
    version.row.iter().find(|(known, _)| known == name).map(|(_, value)| value)
}

impl Child {
    /// Its columns, with the values by which they refer to that version of the other row.
    fn referred(&self, version: &Version) -> Option<Vec<(String, Value)>> {
        self.columns
            .iter()
            .zip(&self.target_columns)
            .map(|(column, target)| {
                let value = value_of(version, target).filter(|value| value.is_known())?;
                Some((column.clone(), value.clone()))
            })
            .collect()
    }
}

/// The tracked tables whose rows belong to rows of this one.
async fn children(session: &mut Session, entry: &Entry) -> Result<Vec<Child>> {
    let target = migrate::find_today(session, entry).await?.name;
    let mut declared = Vec::new();
    for name in &entry.tracking.related {
        declared.push(catalog::find(session, name).await?.id);
    }
    let mut children = Vec::new();
    for other in catalog::entries(session).await? {
        if other.stage == Stage::Stopped || !(declared.is_empty() || declared.contains(&other.id)) {
            continue;
        }
        let Some(table) = introspect::exact(session, &other.table).await? else { continue };
        let before = children.len();
        for reference in introspect::references(session, &table).await? {
            let layout = other.layout()?;
            let kept = reference.columns.iter().all(|column| layout.field(column).is_some());
            if reference.target == target && kept {
                let (columns, target_columns) = (reference.columns, reference.target_columns);
                children.push(Child { entry: other.clone(), columns, target_columns });
            }
        }
        if declared.contains(&other.id) && children.len() == before {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("{} is declared as related, and refers to it by no tracked foreign key", other.table),
            )
            .on(&entry.table));
        }
    }
    Ok(children)
}

/// The rows that belonged to a version's row at a time.
async fn related(
    session: &mut Session,
    entry: &Entry,
    version: &Version,
    at: &PointInTime,
) -> Result<Vec<Related>> {
    let mut related = Vec::new();
    for child in children(session, entry).await? {
        let seen = introspect::seen(session, &child.entry.table).await?;
        let mut rows = TableState { columns: Vec::new(), rows: Vec::new(), archived: 0 };
        if let Some(referred) = child.referred(version)
            && version.header.action != Action::Delete
        {
            let point = as_of::resolve(session, &child.entry, at).await?;
            rows = referring(session, &child.entry, &point, &referred).await?;
        }
        let key = child.entry.layout()?.key.clone();
        related.push(Related { table: seen, by: child.columns, key, rows });
    }
    Ok(related)
}

/// The rows that referred so, as of a time.
async fn referring(
    session: &mut Session,
    entry: &Entry,
    point: &as_of::Point,
    referred: &[(String, Value)],
) -> Result<TableState> {
    if entry.is_archived_at(point.bound) {
        return referring_then(session, entry, point, referred).await;
    }
    as_of::answerable(entry, point.bound)?;
    let condition: Vec<String> = referred
        .iter()
        .map(|(column, value)| format!("{} = {}", Quoted::new(column), literal(&value.to_string())))
        .collect();
    let filter = condition.join(" AND ");
    let dialect = session.dialect();
    let (sql, layout) = as_of::state_sql(dialect, entry, point, &Wanted::filtered(Some(&filter)))?;
    let fields: Vec<_> = layout.fields.iter().collect();
    let columns = fields.iter().map(|field| field.name.clone()).collect();
    let mut rows = Vec::new();
    for row in session.rows(&dialect.shown(layout, &sql, &fields), &[]).await? {
        rows.push(as_of::shown(entry, &layout.fields, point.bound, row));
    }
    Ok(TableState { columns, rows, archived: 0 })
}

/// The rows that referred so, of a time whose records are in an archive.
async fn referring_then(
    session: &mut Session,
    entry: &Entry,
    point: &as_of::Point,
    referred: &[(String, Value)],
) -> Result<TableState> {
    let mut rows = Vec::new();
    let query = AsOfQuery::new(String::new(), PointInTime::Now);
    let take = |columns: &[String], row: Vec<Value>| {
        let is = |(column, value): &(String, Value)| {
            let place = columns.iter().position(|name| name == column);
            place.is_some_and(|place| row[place].to_string() == value.to_string())
        };
        if referred.iter().all(is) {
            rows.push(row);
        }
        true
    };
    let read = across::rows(session, entry, point, &query, take).await?;
    Ok(TableState { columns: read.columns, rows, archived: read.archived })
}

fn compare(old: Related, new: Related) -> Option<RelatedChange> {
    let named = |state: TableState| -> Vec<Vec<(String, Value)>> {
        let TableState { columns, rows, .. } = state;
        rows.into_iter().map(|row| columns.iter().cloned().zip(row).collect()).collect()
    };
    let (older, newer) = (named(old.rows), named(new.rows));
    let key = |row: &[(String, Value)]| -> Vec<Value> {
        row.iter().filter(|(name, _)| new.key.contains(name)).map(|(_, value)| value.clone()).collect()
    };
    let find = |rows: &[Vec<(String, Value)>], row: &[(String, Value)]| {
        rows.iter().find(|other| key(other) == key(row)).cloned()
    };
    let removed: Vec<_> = older.iter().filter(|row| find(&newer, row).is_none()).cloned().collect();
    let added: Vec<_> = newer.iter().filter(|row| find(&older, row).is_none()).cloned().collect();
    let changed: Vec<_> = newer
        .iter()
        .filter_map(|after| Some([find(&older, after).filter(|before| before != after)?, after.clone()]))
        .collect();
    let nothing = added.is_empty() && removed.is_empty() && changed.is_empty();
    (!nothing).then_some(RelatedChange { table: new.table, added, removed, changed })
}
