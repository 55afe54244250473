//! One row: back to a version, or back to life.

use afterimage_core::{Action, Context, TableName, Version};
use serde_json::json;

use super::known::Row;
use super::{Restored, naming, related};
use crate::database::Afterimage;
use crate::error::{ErrorKind, Result};
use crate::versions::Selector;

/// A row to be brought back to one of its versions.
#[derive(Debug, Clone)]
pub struct Revert {
    table: String,
    key: String,
    to: Selector,
    fields: Vec<String>,
    expect: Option<Selector>,
    dry_run: bool,
}

impl Revert {
    /// Writes the values of a version back. A row that is deleted comes back to life with them.
    pub fn new(table: impl Into<String>, key: impl Into<String>, to: Selector) -> Self {
        let (table, key) = (table.into(), key.into());
        Self { table, key, to, fields: Vec::new(), expect: None, dry_run: false }
    }

    /// Only these fields.
    #[must_use]
    pub fn fields<S: Into<String>>(mut self, fields: impl IntoIterator<Item = S>) -> Self {
        self.fields = fields.into_iter().map(Into::into).collect();
        self
    }

    /// Refuses where the current version is another than this, by number: somebody changed the row since it was
    /// looked at. The error has a [`Stale`].
    #[must_use]
    pub fn expect(mut self, version: Selector) -> Self {
        self.expect = Some(version);
        self
    }

    /// Says what would be written, and writes nothing.
    #[must_use]
    pub fn dry_run(mut self, yes: bool) -> Self {
        self.dry_run = yes;
        self
    }
}

/// A deleted row to be brought back to life.
#[derive(Debug, Clone)]
pub struct Restore {
    table: String,
    key: String,
    set: Vec<(String, Option<String>)>,
    related: bool,
    expect: Option<Selector>,
    dry_run: bool,
}

impl Restore {
    /// Brings the row back as it was last, under its key.
    pub fn new(table: impl Into<String>, key: impl Into<String>) -> Self {
        let (table, key) = (table.into(), key.into());
        Self { table, key, set: Vec::new(), related: false, expect: None, dry_run: false }
    }

    /// Gives a column another value: where what it was is not kept, or cannot be any more. The database reads the text.
    #[must_use]
    pub fn set(mut self, column: impl Into<String>, value: Option<String>) -> Self {
        self.set.push((column.into(), value));
        self
    }

    /// Also brings back the rows that refer to it and were deleted in the same transaction.
    #[must_use]
    pub fn related(mut self, yes: bool) -> Self {
        self.related = yes;
        self
    }

    /// Refuses where the current version, which is its deletion, is another than this: it came back and went again since
    /// it was looked at. The error has a [`Stale`].
    #[must_use]
    pub fn expect(mut self, version: Selector) -> Self {
        self.expect = Some(version);
        self
    }

    /// Says what would be written, and writes nothing.
    #[must_use]
    pub fn dry_run(mut self, yes: bool) -> Self {
        self.dry_run = yes;
        self
    }
}

/// A revert that expected another current version: three states of the row.
#[derive(Debug, Clone, PartialEq)]
pub struct Stale {
    /// The table.
    pub table: TableName,
    /// The version that was expected to be the current one.
    pub then: Version,
    /// The version that was to be written back.
    pub target: Version,
    /// The version that is current.
    pub now: Version,
}

impl Afterimage {
    /// Writes an old version of a row back, in one record that names what it restored from.
    ///
    /// Refused, with nothing written: a stale expectation, a version whose values cannot all be given back (a column is
    /// gone, a masked value would be needed), a history with a gap, a table that is not captured.
    pub async fn revert(&self, request: &Revert, context: &Context) -> Result<Restored> {
        self.restoring(context, request.dry_run, async |tx| {
            let seen = Row::look(tx, &request.table, &request.key).await?;
            let target = seen.select(&mut tx.session, &request.to).await?;
            let now = seen.now()?.clone();
            if let Some(expected) = &request.expect {
                let then = seen.select(&mut tx.session, expected).await?;
                if then.number != now.number {
                    return Err(seen.stale(then, target, now));
                }
            }
            if target.header.action == Action::Delete {
                return Err(seen.refuse(
                    ErrorKind::InvalidInput,
                    format!("version {} is its deletion: there are no values to write back", target.number),
                ));
            }
            tx.enter(&naming(json!({
                "version": target.number,
                "history_id": target.header.id,
                "history_date": target.header.date.to_string(),
            })))
            .await?;
            if now.header.action == Action::Delete {
                if !request.fields.is_empty() {
                    return Err(seen.refuse(
                        ErrorKind::InvalidInput,
                        "the row is deleted, so that it can only come back whole: leave out the fields"
                            .to_owned(),
                    ));
                }
                seen.insert(tx, &target, &[]).await?;
            } else {
                seen.update(tx, &target, &request.fields).await?;
            }
            Ok(Restored::default())
        })
        .await
    }

    /// Brings a deleted row back to life under its key, as it was last, in one record that names what it restored
    /// from.
    ///
    /// Refused, with nothing written: a row that is not deleted, or whose key was taken meanwhile; a row it refers to
    /// that is missing; a masked value, unless [`Restore::set`] gives another.
    pub async fn restore(&self, request: &Restore, context: &Context) -> Result<Restored> {
        self.restoring(context, request.dry_run, async |tx| {
            let seen = Row::look(tx, &request.table, &request.key).await?;
            let deletion = seen.now()?.clone();
            let last = seen.versions.iter().rev().find(|version| version.header.action != Action::Delete);
            if let (Some(expected), Some(last)) = (&request.expect, last) {
                let then = seen.select(&mut tx.session, expected).await?;
                if then.number != deletion.number {
                    return Err(seen.stale(then, last.clone(), deletion));
                }
            }
            if deletion.header.action != Action::Delete {
                return Err(seen.refuse(
                    ErrorKind::Conflict,
                    format!(
                        "the row {} is not deleted (its current version is {})",
                        seen.key, deletion.number
                    ),
                ));
            }
            // Where nothing else is left of the row, its deletion still says what it was.
            let last = last.cloned().unwrap_or_else(|| deletion.clone());
            tx.enter(&naming(json!({
                "version": last.number,
                "history_id": last.header.id,
                "history_date": last.header.date.to_string(),
            })))
            .await?;
            seen.insert(tx, &last, &request.set).await?;
            if request.related {
                related::restore(tx, &seen.entry, &seen.table, &seen.live_key, &deletion).await?;
            }
            Ok(Restored::default())
        })
        .await
    }
}
