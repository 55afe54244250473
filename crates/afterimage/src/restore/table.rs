//! Many rows of a table brought back to a time.

use afterimage_core::query::Query;
use afterimage_core::sql::{Rows, WriteBack};
use afterimage_core::{Context, Field, Keeping, Moment, Value};
use serde_json::json;

use super::transaction::{newest, refused, without_collateral};
use super::{
    Conflicts, Restored, columns, defer_constraints, naming, own_transaction, reading, stage, text, writable,
};
use crate::as_of::{self, Point, Wanted};
use crate::catalog;
use crate::database::Afterimage;
use crate::error::{Error, ErrorKind, Result};
use crate::log::{self, LogQuery};
use crate::session::Session;
use crate::versions::PointInTime;

/// Rows of a table to be brought back to a time: after an UPDATE without its WHERE.
#[derive(Debug, Clone)]
pub struct RevertTable {
    table: String,
    to: PointInTime,
    filter: Option<String>,
    fields: Vec<String>,
    conflicts: Conflicts,
    delete_created: bool,
    dry_run: bool,
}

impl RevertTable {
    /// Brings all rows of the table back to what they were at a time. Rows created since stay.
    pub fn new(table: impl Into<String>, to: PointInTime) -> Self {
        Self {
            table: table.into(),
            to,
            filter: None,
            fields: Vec::new(),
            conflicts: Conflicts::default(),
            delete_created: false,
            dry_run: false,
        }
    }

    /// Only rows of which this was true then, as SQL over the columns of that time.
    #[must_use]
    pub fn filter(mut self, condition: impl Into<String>) -> Self {
        self.filter = Some(condition.into());
        self
    }

    /// Only these fields, of rows that are there.
    #[must_use]
    pub fn fields<S: Into<String>>(mut self, fields: impl IntoIterator<Item = S>) -> Self {
        self.fields = fields.into_iter().map(Into::into).collect();
        self
    }

    /// What to do with rows that more than one transaction changed since that time.
    #[must_use]
    pub fn conflicts(mut self, conflicts: Conflicts) -> Self {
        self.conflicts = conflicts;
        self
    }

    /// Also deletes the rows that were created since.
    #[must_use]
    pub fn delete_created(mut self, yes: bool) -> Self {
        self.delete_created = yes;
        self
    }

    /// Says what would be written, and writes nothing.
    #[must_use]
    pub fn dry_run(mut self, yes: bool) -> Self {
        self.dry_run = yes;
        self
    }
}

impl Afterimage {
    /// Brings rows of a table back to a time, in one transaction: rows that changed since are updated, rows deleted
    /// since are inserted; rows created since stay, unless asked otherwise.
    ///
    /// A row that more than one transaction changed since is a [`Conflict`](super::Conflict): most likely only one of
    /// them was the mistake.
    pub async fn revert_table(&self, request: &RevertTable, context: &Context) -> Result<Restored> {
        let limits = request.filter.is_some() || !request.fields.is_empty();
        if request.delete_created && limits {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "rows created since can be deleted only where the whole table is brought back, without a condition or chosen fields",
            ));
        }
        request.only_reads(self).await?;
        self.restoring(context, request.dry_run, async |tx| request.run(&mut *tx).await).await
    }
}

impl RevertTable {
    /// A condition that somebody typed is asked once where nothing can be written: one that tries fails there.
    async fn only_reads(&self, audit: &Afterimage) -> Result<()> {
        let Some(filter) = &self.filter else { return Ok(()) };
        audit
            .reading(async |session| {
                let entry = catalog::find(session, &self.table).await?;
                as_of::may_filter(session, &entry)?;
                let point = as_of::resolve(session, &entry, &self.to).await?;
                as_of::answerable(&entry, point.bound)?;
                let (state, _) =
                    as_of::state_sql(session.dialect(), &entry, &point, &Wanted::filtered(Some(filter)))?;
                let sql = format!("SELECT count(*) FROM (\n{state}\n) AS s");
                session.rows(&sql, &[]).await.map(drop).map_err(|error| error.on(&entry.table))
            })
            .await
    }

    async fn run(&self, tx: &mut crate::writing::Writing) -> Result<Restored> {
        let session = &mut tx.session;
        let (entry, table, point, conflicts) = reading(session, async |session| {
            let entry = catalog::find(session, &self.table).await?;
            let table = writable(session, &entry).await?;
            let point = as_of::resolve(session, &entry, &self.to).await?;
            as_of::answerable(&entry, point.bound)?;
            let since = since(&point)?;
            if let Some(key) = entry.redacted_since(since, &self.fields) {
                return Err(Error::new(
                    ErrorKind::Unknowable,
                    format!(
                        "the row {} was redacted since: bring back other fields, or other rows one by one",
                        key.join(",")
                    ),
                )
                .on(&entry.table));
            }
            let then = as_of::layout_at(&entry, point.bound)?;
            if self.fields.is_empty() {
                nothing_masked(session, &entry, since).await?;
                let gone = then.fields.iter().find(|field| {
                    !entry.layout().is_ok_and(|now| now.fields.iter().any(|f| f.bit == field.bit))
                });
                if let Some(field) = gone {
                    return Err(Error::new(
                        ErrorKind::Unknowable,
                        format!("the column {:?} is gone: choose fields that are still there", field.name),
                    )
                    .on(&entry.table));
                }
            }
            let conflicts = match self.conflicts {
                Conflicts::Overwrite => Vec::new(),
                _ => {
                    newest(session, &entry, &session.dialect().contested(entry.layout()?, point.bound))
                        .await?
                }
            };
            Ok((entry, table, point, conflicts))
        })
        .await?;
        if !conflicts.is_empty() && self.conflicts == Conflicts::Refuse && !self.dry_run {
            return Err(refused(&conflicts));
        }
        let except: Vec<Vec<Value>> = conflicts
            .iter()
            .map(|conflict| conflict.key.iter().map(|(_, value)| value.clone()).collect())
            .collect();
        tx.enter(&naming(match &self.to {
            PointInTime::After(id) => json!({ "after_tx": id }),
            _ => json!({ "at": text(since(&point)?) }),
        }))
        .await?;
        let session = &mut tx.session;
        defer_constraints(session).await?;
        let own = own_transaction(session).await?;
        let dialect = session.dialect();
        let today = entry.layout()?;
        let wanted = Wanted::filtered(self.filter.as_deref());
        let (state, then) = as_of::state_sql(dialect, &entry, &point, &wanted)?;
        let mut all = columns::common(today, &table, then);
        if !self.fields.is_empty() {
            all = columns::chosen(all, &entry, &table, &self.fields)?;
        }
        let changeable: Vec<(Field, String)> = all
            .iter()
            .filter(|(field, _)| {
                !today.is_key(field) && !table.column(&field.name).is_some_and(|column| column.identity)
            })
            .cloned()
            .collect();
        let key = columns::key_then(today, then)?;
        let back = |columns| WriteBack {
            layout: today,
            columns,
            key: &key,
            state: &state,
            now_at: None,
            set: &[],
            except: &except,
        };
        let run = async |session: &mut Session, sql: String| {
            session.run_one(&sql).await.map_err(|error| error.on(&entry.table))
        };
        let rows = Rows::Beyond(point.bound);
        stage(session, &back(&all), rows).await?;
        if self.fields.is_empty() {
            run(session, dialect.insert_from(&back(&all))).await?;
        }
        if !changeable.is_empty() {
            run(session, dialect.update_from(&back(&changeable))).await?;
        }
        let mut stayed = 0;
        if self.delete_created {
            run(session, dialect.delete_beyond(&back(&all), rows)).await?;
        } else if self.filter.is_none() {
            let count = session.int(&dialect.count_beyond(&back(&all), rows), &[]).await?;
            stayed = u64::try_from(count.unwrap_or_default()).unwrap_or_default();
        }
        without_collateral(session, &own, &[entry.id], rows).await?;
        Ok(Restored { conflicts, stayed, ..Restored::default() })
    }
}

/// The moment after which records are taken back.
fn since(point: &Point) -> Result<Moment> {
    point.bound.moment().ok_or_else(|| {
        Error::new(ErrorKind::InvalidInput, "a table is brought back to a time of the past, not to now")
    })
}

/// Refuses where a masked field changed since, or a row that has one left its key, so that it would have to be
/// inserted anew: what it was is kept nowhere.
async fn nothing_masked(session: &mut Session, entry: &catalog::Entry, since: Moment) -> Result<()> {
    let masked: Vec<&str> = entry
        .layout()?
        .fields
        .iter()
        .filter(|field| field.keeping == Keeping::Masked)
        .map(|field| field.name.as_str())
        .collect();
    if masked.is_empty() {
        return Ok(());
    }
    let mut query = Query::default();
    query.tables.wanted.push(entry.table.to_string());
    query.from = Some(since.next());
    let mut lost = None;
    log::each(session, &LogQuery::from(query), |record| {
        let changed = record.changes.iter().any(|change| masked.contains(&change.field.as_str()));
        let needed = changed || record.header.old_key.is_some();
        if needed {
            lost = Some(record.header.date);
        }
        !needed
    })
    .await?;
    match lost {
        None => Ok(()),
        Some(date) => Err(Error::new(
            ErrorKind::Unknowable,
            format!(
                "a masked field changed since ({date}), or its row left its key, and what it was is kept nowhere: choose other fields"
            ),
        )
        .on(&entry.table)),
    }
}
