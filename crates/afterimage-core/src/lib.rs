//! The pure part of Afterimage: no input or output, no async, no database driver.
//!
//! Data flows one way: *tracking + schema → SQL → records → views*.
//!
//! | module | holds |
//! | --- | --- |
//! | [`name`] | table names and [`name::Quoted`], the only road by which an identifier reaches SQL |
//! | [`schema`] | a table as the database describes it |
//! | [`tracking`] | the options a user chose for a tracked table |
//! | [`layout`] | which column of the history holds which column of the table, and at which bit of the mask |
//! | [`drift`] | what changed between a layout and the table of today |
//! | [`context`] | who and why, and its encoding for each database |
//! | [`record`] | records, and folding them into versions and changes |
//! | [`query`] | what people ask of the log |
//! | [`search`] | values found as people type them |
//! | [`matching`] | whether a record answers a query, exactly |
//! | `past` (feature `past`) | statements written for the present, made to read the past |
//! | [`diff`] | two states of a row compared |
//! | [`value`] | one value as it is shown: the canonical form of each type |
//! | [`time`] | moments, and times as people type them |
//! | [`sql`] | every line of SQL that Afterimage sends, one folder per database |

pub mod context;
pub mod diff;
pub mod drift;
mod error;
pub mod layout;
pub mod matching;
pub mod name;
mod partition;
#[cfg(feature = "past")]
pub mod past;
pub mod query;
pub mod record;
mod retention;
pub mod schema;
pub mod search;
pub mod sql;
pub mod suggest;
pub mod time;
pub mod tracking;
pub mod value;

pub use context::Context;
pub use error::{Error, ErrorKind, Result};
pub use layout::{Field, Keeping, Layout};
pub use name::{Quoted, TableName};
pub use partition::{Partitions, Period};
pub use query::Query;
pub use record::{Action, FieldChange, Header, Record, Version};
pub use retention::{Cut, Retention};
pub use schema::{Column, Table};
pub use time::Moment;
pub use tracking::{Storage, Tracking};
pub use value::Value;

/// The databases whose SQL this crate writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Database {
    /// PostgreSQL 14 and later (15 is what the tests run).
    Postgres,
    /// SQLite 3.38 and later.
    Sqlite,
    /// MariaDB 10.6 and later (10.11 is what the tests run).
    MariaDb,
}

impl std::fmt::Display for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Postgres => "PostgreSQL",
            Self::Sqlite => "SQLite",
            Self::MariaDb => "MariaDB",
        })
    }
}
