//! The options a user chose for a tracked table. They are kept in the database, so that every tool sees the same.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::partition::Partitions;
use crate::retention::Retention;
use crate::schema::Table;
use crate::suggest;

/// Whether records keep all columns of the row or only the changed ones. A matter of cost, never of what can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// Every record holds the whole row: the fastest to read as of a time.
    #[default]
    Snapshot,
    /// An update holds the changed columns only: the smallest.
    Delta,
}

impl std::fmt::Display for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Snapshot => "snapshot",
            Self::Delta => "delta",
        })
    }
}

impl std::str::FromStr for Storage {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "snapshot" => Ok(Self::Snapshot),
            "delta" => Ok(Self::Delta),
            _ => Err(Error::new(ErrorKind::InvalidOption, format!("{text:?} is not a storage"))
                .help("snapshot or delta")),
        }
    }
}

/// How one table is tracked.
///
/// ```
/// use afterimage_core::{Storage, Tracking};
/// let tracking = Tracking::new().storage(Storage::Delta).exclude(["cache_key"]).mask(["card_number"]);
/// assert_eq!(tracking.storage, Storage::Delta);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Tracking {
    /// Full or sparse records.
    pub storage: Storage,
    /// Only these columns (and the key), where not empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// Not these columns; wins over `include`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Of these columns only that they changed, and whether they were NULL: never the value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mask: Vec<String>,
    /// The column whose value names a row for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Tables whose rows belong to a row of this one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub related: Vec<String>,
    /// Whether an update that changes no tracked column is recorded too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub record_unchanged: bool,
    /// The name of the history table, where it is not `<table>_history`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<String>,
    /// How long records are kept; where it does not say, as was said before, and for ever where nobody ever did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// How the history is cut into partitions, which `partition` does; where it does not say, as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions: Option<Partitions>,
}

macro_rules! columns_setter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[must_use]
        pub fn $name<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
            self.$name = names.into_iter().map(Into::into).collect();
            self
        }
    };
}

impl Tracking {
    /// Every column, in full records.
    pub fn new() -> Self {
        Self::default()
    }

    /// Chooses full or sparse records.
    #[must_use]
    pub fn storage(mut self, storage: Storage) -> Self {
        self.storage = storage;
        self
    }

    columns_setter! {
        /// Tracks only these columns, and the key.
        include
    }
    columns_setter! {
        /// Leaves these columns out.
        exclude
    }
    columns_setter! {
        /// Never stores the values of these columns.
        mask
    }
    columns_setter! {
        /// Names the tables whose rows belong to a row of this one.
        related
    }

    /// Names the column that names a row for people.
    #[must_use]
    pub fn label(mut self, column: impl Into<String>) -> Self {
        self.label = Some(column.into());
        self
    }

    /// Also records updates that change nothing.
    #[must_use]
    pub fn record_unchanged(mut self, yes: bool) -> Self {
        self.record_unchanged = yes;
        self
    }

    /// Names the history table.
    #[must_use]
    pub fn history(mut self, name: impl Into<String>) -> Self {
        self.history = Some(name.into());
        self
    }

    /// Says how long records are kept: what `prune` goes by.
    #[must_use]
    pub fn keep(mut self, retention: Retention) -> Self {
        self.retention = Some(retention);
        self
    }

    /// Checks the options against the table: every name must be a column, and the key cannot be left out or masked.
    pub fn check(&self, table: &Table) -> Result<()> {
        let named = self.include.iter().chain(&self.exclude).chain(&self.mask).chain(&self.label);
        for name in named {
            if table.column(name).is_none() {
                let columns = table.columns.iter().map(|column| column.name.as_str());
                return Err(Error::new(
                    ErrorKind::InvalidOption,
                    format!("there is no column {name:?}{}", suggest::hint(name, columns)),
                )
                .table(&table.name));
            }
        }
        for (names, what) in [(&self.exclude, "excluded"), (&self.mask, "masked")] {
            if let Some(name) = names.iter().find(|name| table.key.contains(name)) {
                return Err(Error::new(
                    ErrorKind::InvalidOption,
                    format!("the key column {name:?} cannot be {what}: records are found by it"),
                )
                .table(&table.name));
            }
        }
        Ok(())
    }

    /// Whether a column of the table is tracked at all.
    pub fn covers(&self, column: &str, key: &[String]) -> bool {
        let among = |names: &[String]| names.iter().any(|name| name == column);
        among(key)
            || (!among(&self.exclude)
                && (self.include.is_empty() || among(&self.include) || among(&self.mask)))
    }
}
