//! What somebody may see: tables that are not there for them, columns whose values they never get.

use std::sync::Arc;

use afterimage_core::{Keeping, TableName};

use crate::catalog::Entry;
use crate::database::Afterimage;
use crate::error::Result;
use crate::introspect;
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
    /// tracked, and a value of a column that they may not see is [`Value::Masked`](crate::Value::Masked), never to be found by what it is.
    ///
    /// So it is when something is written back, too: what is not there is not written, nor is a value that is masked, and what
    /// cannot be done without is refused.
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

    /// Whether they are those of somebody who may not see everything.
    pub(crate) fn are_somebodys(&self) -> bool {
        self.0.is_some()
    }

    /// Whether a table is there for them.
    pub(crate) async fn see(&self, session: &mut Session, table: &TableName) -> Result<bool> {
        let Some(sight) = &self.0 else { return Ok(true) };
        Ok(sight.sees_table(&introspect::seen(session, table).await?))
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
