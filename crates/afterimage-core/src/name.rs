//! Names of tables and columns, and the one way they reach SQL.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Database;
use crate::error::{Error, ErrorKind, Result};

/// An identifier, quoted for SQL. Nothing else puts a name into a statement.
///
/// ```
/// use afterimage_core::Quoted;
/// assert_eq!(Quoted::new(r#"say "hi""#).to_string(), r#""say ""hi""""#);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Quoted(String);

impl Quoted {
    /// Quotes one identifier.
    pub fn new(identifier: &str) -> Self {
        Self(format!("\"{}\"", identifier.replace('"', "\"\"")))
    }

    /// Quotes several, separated by commas.
    pub fn list<'a>(identifiers: impl IntoIterator<Item = &'a str>) -> String {
        identifiers.into_iter().map(|name| Self::new(name).0).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Text as an SQL string literal. Sessions that run our scripts have `standard_conforming_strings` on.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A table, with its schema where the database has schemas.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableName {
    /// The schema; `None` on SQLite.
    pub schema: Option<String>,
    /// The table itself.
    pub name: String,
}

impl TableName {
    /// A table without a schema (SQLite), or in whichever schema the connection looks first.
    pub fn bare(name: impl Into<String>) -> Self {
        Self { schema: None, name: name.into() }
    }

    /// A table in a schema.
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self { schema: Some(schema.into()), name: name.into() }
    }

    /// The name as SQL: quoted, and qualified where it has a schema.
    pub fn quoted(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", Quoted::new(schema), Quoted::new(&self.name)),
            None => Quoted::new(&self.name).to_string(),
        }
    }

    /// Another table beside this one.
    #[must_use]
    pub fn sibling(&self, name: impl Into<String>) -> Self {
        Self { schema: self.schema.clone(), name: name.into() }
    }

    /// The name the history of this table gets unless an option says otherwise.
    ///
    /// PostgreSQL cuts identifiers at 63 bytes; a name that would be cut gets a hash instead, so that two long
    /// names that begin alike keep two histories.
    ///
    /// ```
    /// use afterimage_core::{Database, TableName};
    /// assert_eq!(TableName::bare("orders").history(Database::Sqlite).name, "orders_history");
    /// assert_eq!(TableName::bare("x".repeat(63)).history(Database::Postgres).name.len(), 63);
    /// ```
    #[must_use]
    pub fn history(&self, database: Database) -> Self {
        self.sibling(fitted(&self.name, "_history", database))
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = &self.schema {
            write!(f, "{schema}.")?;
        }
        f.write_str(&self.name)
    }
}

/// `stem` and `suffix` as one identifier within the database's limit.
pub fn fitted(stem: &str, suffix: &str, database: Database) -> String {
    let whole = format!("{stem}{suffix}");
    let limit = match database {
        Database::Postgres => 63,
        Database::Sqlite => return whole,
        // In characters there; bytes are on the safe side.
        Database::MariaDb => 64,
    };
    if whole.len() <= limit {
        return whole;
    }
    let tail = format!("_{:08x}{suffix}", fingerprint(stem));
    let mut end = limit - tail.len();
    while !stem.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{tail}", &stem[..end])
}

/// A short hash that is the same on every machine and with every compiler (FNV-1a, 32 bits).
pub fn fingerprint(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// Refuses a name that no database can hold.
pub fn check(name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::new(ErrorKind::InvalidName, "a name cannot be empty"));
    }
    if name.contains('\0') {
        return Err(Error::new(ErrorKind::InvalidName, format!("the name {name:?} holds a NUL character")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_that_begin_alike_keep_two_histories() {
        let (a, b) = (format!("{}a", "é".repeat(31)), format!("{}b", "é".repeat(31)));
        let histories = [&a, &b].map(|n| TableName::bare(n.clone()).history(Database::Postgres).name);
        assert_ne!(histories[0], histories[1]);
        assert!(histories.iter().all(|name| name.len() <= 63 && name.ends_with("_history")));
    }

    #[test]
    fn literals_double_their_quotes() {
        assert_eq!(literal("o'neil"), "'o''neil'");
    }
}
