//! The one error of the library.

use std::error::Error as StdError;
use std::fmt;

use afterimage_core::TableName;

use crate::restore::Stale;

/// The result of everything that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The database cannot be reached, or its address cannot be read.
    Connection,
    /// There is no such table, or it is not tracked.
    NotFound,
    /// The table cannot be tracked, or not so.
    Untrackable,
    /// A name, an option, a key or a time that cannot be used.
    InvalidInput,
    /// The role lacks a right.
    Forbidden,
    /// A lock could not be had in time, or another run of the same thing is going on.
    Busy,
    /// The history cannot answer: before tracking began, inside a gap, or it does not hold together.
    Unknowable,
    /// What was asked for no longer fits what is there: a row changed since, a key was taken, a parent is missing.
    Conflict,
    /// The table is not what the catalogue says: `migrate` follows it.
    Drifted,
    /// Anything else that the database said.
    Database,
}

/// What went wrong, where, and what had been done before.
pub struct Error(Box<Body>);

struct Body {
    kind: ErrorKind,
    message: String,
    table: Option<TableName>,
    sqlstate: Option<String>,
    done: Vec<String>,
    stale: Option<Box<Stale>>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Body {
            kind,
            message: message.into(),
            table: None,
            sqlstate: None,
            done: Vec::new(),
            stale: None,
            source: None,
        }))
    }

    pub(crate) fn on(mut self, table: &TableName) -> Self {
        self.0.table.get_or_insert_with(|| table.clone());
        self
    }

    pub(crate) fn after(mut self, done: impl Into<String>) -> Self {
        self.0.done.push(done.into());
        self
    }

    /// The same, but for what caused it.
    #[cfg(feature = "sea-orm")]
    pub(crate) fn again(&self) -> Self {
        let Body { kind, message, table, sqlstate, done, stale: _, source: _ } = &*self.0;
        Self(Box::new(Body {
            kind: *kind,
            message: message.clone(),
            table: table.clone(),
            sqlstate: sqlstate.clone(),
            done: done.clone(),
            stale: None,
            source: None,
        }))
    }

    #[cfg(feature = "sea-orm")]
    pub(crate) fn with_sqlstate(mut self, sqlstate: Option<String>) -> Self {
        self.0.sqlstate = sqlstate;
        self
    }

    pub(crate) fn with_stale(mut self, stale: Stale) -> Self {
        self.0.stale = Some(Box::new(stale));
        self
    }

    /// Where a revert expected another current version: the three states of the row.
    pub fn stale(&self) -> Option<&Stale> {
        self.0.stale.as_deref()
    }

    /// Whether somebody had it end, or it had waited as long as it was to: a timeout of a statement's or of a lock's.
    pub(crate) fn is_given_up(&self) -> bool {
        matches!(self.0.sqlstate.as_deref(), Some("57014" | "55P03"))
    }

    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The table it concerns.
    pub fn table(&self) -> Option<&TableName> {
        self.0.table.as_ref()
    }

    /// The database's own code, where the database gave one.
    pub fn sqlstate(&self) -> Option<&str> {
        self.0.sqlstate.as_deref()
    }

    /// What had been done before it failed, and stays done.
    pub fn done(&self) -> &[String] {
        &self.0.done
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(table) = &self.0.table {
            write!(f, "{table}: ")?;
        }
        f.write_str(&self.0.message)?;
        if !self.0.done.is_empty() {
            write!(f, " (done before: {})", self.0.done.join(", "))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl From<afterimage_core::Error> for Error {
    fn from(error: afterimage_core::Error) -> Self {
        use afterimage_core::ErrorKind as Core;
        let kind = match error.kind() {
            Core::Untrackable => ErrorKind::Untrackable,
            Core::Inconsistent => ErrorKind::Unknowable,
            _ => ErrorKind::InvalidInput,
        };
        let own = Self::new(kind, error.message());
        match error.table_name() {
            Some(table) => own.on(table),
            None => own,
        }
    }
}

#[cfg(feature = "archive")]
impl From<afterimage_archive::Error> for Error {
    fn from(error: afterimage_archive::Error) -> Self {
        let mut mapped = Self::new(ErrorKind::Unknowable, error.to_string());
        mapped.0.source = Some(Box::new(error));
        mapped
    }
}

#[cfg(feature = "archive")]
impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        let mut mapped = Self::new(ErrorKind::Connection, format!("a temporary file failed: {error}"));
        mapped.0.source = Some(Box::new(error));
        mapped
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let (kind, message, sqlstate) = match &error {
            sqlx::Error::Database(database) => {
                let code = database.code().map(|code| code.into_owned());
                (kind_of_code(code.as_deref()), database.message().to_owned(), code)
            }
            sqlx::Error::Io(io) => {
                (ErrorKind::Connection, format!("the database cannot be reached: {io}"), None)
            }
            sqlx::Error::Tls(tls) => {
                (ErrorKind::Connection, format!("the connection cannot be secured: {tls}"), None)
            }
            sqlx::Error::PoolTimedOut => {
                (ErrorKind::Connection, "no connection became free in time".to_owned(), None)
            }
            // Its text quotes the address, password and all.
            sqlx::Error::Configuration(_) => {
                (ErrorKind::Connection, "the database address cannot be read".to_owned(), None)
            }
            other => (ErrorKind::Database, other.to_string(), None),
        };
        let keep_source = !matches!(error, sqlx::Error::Configuration(_));
        let mut own = Self::new(kind, message);
        own.0.sqlstate = sqlstate;
        own.0.source = keep_source.then(|| error.into());
        own
    }
}

fn kind_of_code(code: Option<&str>) -> ErrorKind {
    match code {
        Some("40001" | "23503" | "23505" | "787" | "1555" | "2067") => ErrorKind::Conflict,
        Some("42501") => ErrorKind::Forbidden,
        Some("55P03" | "57014" | "40P01" | "5" | "6" | "261" | "517") => ErrorKind::Busy,
        Some("22P02" | "22007" | "22008" | "22003") => ErrorKind::InvalidInput,
        Some("28000" | "28P01" | "3D000" | "08006" | "57P03" | "53300" | "14") => ErrorKind::Connection,
        _ => ErrorKind::Database,
    }
}
