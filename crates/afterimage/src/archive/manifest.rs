//! What a run of an archive wrote, as a file beside it.

use afterimage_core::Moment;
use afterimage_core::record::Epoch;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// The form of these files.
const FORMAT: u32 = 1;

/// One file of records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    /// Where it is, from the table's folder on.
    pub(super) path: String,
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) sha256: String,
    /// The dates of its first and its last record.
    pub(super) from: Moment,
    pub(super) to: Moment,
    /// When the last of its records was followed.
    pub(super) until: Moment,
    /// The numbers of the records that followed, by which it is known whether one of a row is in it.
    pub(super) followers: Beside,
}

/// A file that stands beside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Beside {
    /// Where it is, from the table's folder on.
    pub(super) path: String,
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

/// A layout, and from when on it held.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Then {
    pub(super) number: i64,
    pub(super) from: Moment,
    pub(super) layout: afterimage_core::Layout,
}

/// What one run wrote of one table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) format: u32,
    /// What wrote it.
    pub(super) by: String,
    pub(super) run: String,
    pub(super) table: String,
    pub(super) database: String,
    /// Whether the records stay in the database.
    pub(super) copy: bool,
    /// Everything of before this is in it that was followed by then.
    pub(super) cut: Moment,
    pub(super) written: Moment,
    pub(super) records: u64,
    /// How long the longest of its transactions took, in microseconds: so far around a time it has to be looked whether one had ended.
    pub(super) longest_transaction: i64,
    pub(super) actor: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) epochs: Vec<Then>,
    pub(super) parts: Vec<Part>,
}

impl Manifest {
    pub(super) fn new(run: &str, table: &str, database: &str, cut: Moment, epochs: &[Epoch]) -> Self {
        let then =
            |epoch: &Epoch| Then { number: epoch.number, from: epoch.from, layout: epoch.layout.clone() };
        Self {
            format: FORMAT,
            by: concat!("afterimage ", env!("CARGO_PKG_VERSION")).to_owned(),
            run: run.to_owned(),
            table: table.to_owned(),
            database: database.to_owned(),
            copy: false,
            cut,
            written: Moment::now(),
            records: 0,
            longest_transaction: 0,
            actor: None,
            reason: None,
            epochs: epochs.iter().map(then).collect(),
            parts: Vec::new(),
        }
    }

    pub(super) fn to_json(&self) -> Result<Vec<u8>> {
        serde_json::to_vec_pretty(self).map_err(|error| Error::new(ErrorKind::Unknowable, error.to_string()))
    }

    pub(super) fn read(bytes: &[u8], path: &str) -> Result<Self> {
        let unreadable = |why: String| {
            Error::new(ErrorKind::Unknowable, format!("the manifest {path} cannot be read: {why}"))
        };
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| unreadable(error.to_string()))?;
        match manifest.format {
            FORMAT => Ok(manifest),
            other => Err(unreadable(format!("it has form {other}, which a later version wrote"))),
        }
    }
}
