//! Errors of the pure part: what a user asked for does not fit the table, or cannot be read.

use crate::name::TableName;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A name that cannot be an identifier (it is empty, or holds a NUL character).
    InvalidName,
    /// The table cannot be tracked: no key, a view, a reserved column name.
    Untrackable,
    /// An option names a column or table that does not exist, or two options contradict each other.
    InvalidOption,
    /// A time that cannot be read.
    InvalidTime,
    /// A key that does not fit the key columns of the table.
    InvalidKey,
    /// A query that cannot be read.
    InvalidQuery,
    /// A context that cannot be used: a reserved key, or text that no database can hold.
    InvalidContext,
    /// A history that does not hold together: a record without the one it builds on.
    Inconsistent,
}

/// An error with the table it concerns and, where there is one, the way out.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}{}", table.as_ref().map(|t| format!("{t}: ")).unwrap_or_default(), self.message())]
pub struct Error {
    kind: ErrorKind,
    message: String,
    table: Option<TableName>,
    help: Option<String>,
}

impl Error {
    /// An error of this kind; `message` is a clause without a full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), table: None, help: None }
    }

    /// Names the table it concerns.
    #[must_use]
    pub fn table(mut self, table: &TableName) -> Self {
        self.table = Some(table.clone());
        self
    }

    /// Adds the way out.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What went wrong and the way out, without the table.
    pub fn message(&self) -> String {
        let help = self.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
        format!("{}{help}", self.message)
    }

    /// The table it concerns.
    pub fn table_name(&self) -> Option<&TableName> {
        self.table.as_ref()
    }
}
