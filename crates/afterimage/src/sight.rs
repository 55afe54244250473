//! What somebody may see: tables that are not there for them, columns whose values they never get.

use std::sync::Arc;

use afterimage_core::{Keeping, TableName, Value, Version};

use crate::catalog::Entry;
use crate::database::Afterimage;
use crate::error::Result;
use crate::introspect;
use crate::log::LogEntry;
use crate::remembered::Entries;
use crate::session::Session;

/// What somebody may see. See [`Afterimage::seen_through`].
pub trait Sight: Send + Sync {
    /// Whether this table and its history are there at all.
    fn sees_table(&self, table: &TableName) -> bool;

    /// Whether the values of this column are shown, of a table that is. The columns of a key always are.
    fn sees_column(&self, table: &TableName, column: &str) -> bool;
}

/// A handle's sight.
#[derive(Clone, Default)]
pub(crate) struct Eyes(Option<Arc<dyn Sight>>);

impl std::fmt::Debug for Eyes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Eyes(of somebody)" } else { "Eyes(of everybody)" })
    }
}

impl Afterimage {
    /// The same database, as somebody may see it: whatever is asked of this handle, a table that they may not see is not
    /// tracked, and a value of a column that they may not see is [`Value::Masked`], never to be found by what it is.
    ///
    /// What is written back goes on as ever, and only what is said of it is masked: whether somebody may revert is for
    /// the caller to decide.
    #[must_use]
    pub fn seen_through(&self, sight: Arc<dyn Sight>) -> Self {
        let mut seen = self.clone();
        seen.eyes = Eyes(Some(sight));
        seen
    }
}

impl Eyes {
    /// What of the catalogue is there for them.
    pub(crate) async fn over(&self, session: &mut Session, entries: Entries) -> Result<Entries> {
        let Some(sight) = &self.0 else { return Ok(entries) };
        let mut seen = Vec::new();
        for entry in entries {
            let name = introspect::seen(session, &entry.table).await?;
            if sight.sees_table(&name) {
                seen.push(masked(entry, &name, sight.as_ref()));
            }
        }
        Ok(seen)
    }

    /// Leaves out of an entry what they may not see.
    pub(crate) fn dim(&self, entry: &mut LogEntry) {
        let Some(sight) = &self.0 else { return };
        let hidden = |column: &str| {
            !sight.sees_table(&entry.table)
                || !sight.sees_column(&entry.table, column)
                    && !entry.key.iter().any(|(name, _)| name == column)
        };
        for change in &mut entry.changes {
            if hidden(&change.field) {
                mask(&mut change.old);
                mask(&mut change.new);
            }
        }
    }

    /// The same of a version of a row.
    pub(crate) fn dim_version(&self, table: &TableName, version: &mut Version) {
        let Some(sight) = &self.0 else { return };
        let hidden = |column: &str| !sight.sees_column(table, column);
        for (_, value) in version.row.iter_mut().filter(|(name, _)| hidden(name)) {
            mask(value);
        }
        for change in version.changes.iter_mut().filter(|change| hidden(&change.field)) {
            mask(&mut change.old);
            mask(&mut change.new);
        }
    }
}

fn mask(value: &mut Value) {
    if !value.is_null() {
        *value = Value::Masked;
    }
}

/// The table as it is for those who may not see all of its columns: as if these had been masked from the beginning.
fn masked(entry: Arc<Entry>, name: &TableName, sight: &dyn Sight) -> Arc<Entry> {
    let key = entry.epochs.last().map(|epoch| epoch.layout.key.clone()).unwrap_or_default();
    // A column is the same whatever it was called.
    let hidden: Vec<u16> = entry
        .epochs
        .iter()
        .flat_map(|epoch| &epoch.layout.fields)
        .filter(|field| !key.contains(&field.name) && !sight.sees_column(name, &field.name))
        .map(|field| field.bit)
        .collect();
    if hidden.is_empty() {
        return entry;
    }
    let mut entry = Entry { whole: Some(Arc::clone(&entry)), ..Entry::clone(&entry) };
    for field in entry.epochs.iter_mut().flat_map(|epoch| &mut epoch.layout.fields) {
        if hidden.contains(&field.bit) {
            field.keeping = Keeping::Masked;
        }
    }
    Arc::new(entry)
}
