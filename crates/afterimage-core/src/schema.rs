//! A table as the database describes it.
//!
//! The driver fills these from the database's own catalogue (`pg_attribute` and `format_type`,
//! `PRAGMA table_xinfo`); nothing here guesses at types.

use serde::{Deserialize, Serialize};

use crate::name::TableName;
use crate::value::Shown;

/// A table of today.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: TableName,
    /// Its columns, in the table's own order.
    pub columns: Vec<Column>,
    /// The names of its key columns, in the key's own order. Empty where it has no key.
    pub key: Vec<String>,
    /// What only one of the databases has.
    pub shape: Shape,
}

impl Table {
    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Whether two rows may share a key until their transaction ends.
    pub fn shares_keys(&self) -> bool {
        self.postgres().is_some_and(|shape| shape.deferrable_key)
    }

    /// From how many tables cascades reach its rows where they fire no trigger.
    pub fn cascade_sources(&self) -> u16 {
        self.mariadb().map_or(0, |shape| u16::try_from(shape.sources().len()).unwrap_or(u16::MAX))
    }

    /// The PostgreSQL side of the shape.
    pub fn postgres(&self) -> Option<&PostgresShape> {
        match &self.shape {
            Shape::Postgres(shape) => Some(shape),
            _ => None,
        }
    }

    /// The SQLite side of the shape.
    pub fn sqlite(&self) -> Option<&SqliteShape> {
        match &self.shape {
            Shape::Sqlite(shape) => Some(shape),
            _ => None,
        }
    }

    /// The MariaDB side of the shape.
    pub fn mariadb(&self) -> Option<&MariaDbShape> {
        match &self.shape {
            Shape::MariaDb(shape) => Some(shape),
            _ => None,
        }
    }
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type as SQL that declares it again: domains resolved to what they stand on, type modifiers included.
    pub sql_type: String,
    /// The collation to declare with it, as SQL; `None` for the database's default.
    pub collation: Option<String>,
    /// How its values are shown.
    pub shown: Shown,
    /// Whether `IS DISTINCT FROM` (PostgreSQL) or `IS NOT` (SQLite) already tells stored images apart.
    pub plain_equality: bool,
    /// Whether it may be NULL.
    pub nullable: bool,
    /// Whether the database computes it from others, so that no statement may give it a value.
    pub generated: bool,
    /// Whether the database numbers it unless told to override that (PostgreSQL's `GENERATED ALWAYS AS IDENTITY`).
    pub identity: bool,
    /// The database's own number for it: `attnum`, which survives a rename, or SQLite's `cid`, which does not.
    pub number: i32,
    /// The value every row had when the column was added, as an SQL literal, where the database keeps one value
    /// for all (a constant default).
    pub fill: Option<String>,
}

/// A foreign key: columns of a table that name a row of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Its columns.
    pub columns: Vec<String>,
    /// The table that it names rows of.
    pub target: TableName,
    /// The columns by which it names them, in the same order.
    pub target_columns: Vec<String>,
}

/// What only one of the databases has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// PostgreSQL.
    Postgres(PostgresShape),
    /// SQLite.
    Sqlite(SqliteShape),
    /// MariaDB.
    MariaDb(MariaDbShape),
}

/// PostgreSQL's side of a table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PostgresShape {
    /// Its object id.
    pub oid: u32,
    /// Every table of its partition tree but itself, intermediate ones included; empty for an ordinary table.
    pub partitions: Vec<TableName>,
    /// Whether it is the root of a partition tree.
    pub partitioned: bool,
    /// Whether it inherits, or is inherited from, other than by partitioning.
    pub inherits: bool,
    /// Whether a trigger `AFTER … FOR EACH ROW` of somebody else's, on it or on a table its cascades reach,
    /// may write it again inside one statement.
    pub written_again: bool,
    /// Whether a trigger `AFTER` of somebody's may write a row that a foreign key has changed, before its own triggers fire.
    pub overtaken: bool,
    /// Whether its key is checked only when the statement or the transaction ends.
    pub deferrable_key: bool,
    /// Its size on disk in bytes, without indexes.
    pub bytes: i64,
}

/// SQLite's side of a table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SqliteShape {
    /// Whether it has no rowid.
    pub without_rowid: bool,
    /// Whether its key is an alias of the rowid.
    pub rowid_alias: bool,
    /// Its unique indexes besides the key.
    pub unique: Vec<UniqueIndex>,
    /// The defaults, as SQL, of columns that cannot be NULL: `OR REPLACE` puts them in the place of a NULL.
    pub defaults: Vec<(String, String)>,
    /// Whether an update of its rows may come back to them by foreign keys, before its own triggers fire.
    pub overtaken: bool,
}

/// MariaDB's side of a table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MariaDbShape {
    /// The storage engine.
    pub engine: String,
    /// Columns of a key, a unique index or a foreign key, either way: an update of one may be ignored after all.
    pub constrained: Vec<String>,
    /// The ways by which changes of other rows reach its rows without firing a trigger.
    pub cascades: Vec<Cascade>,
    /// The foreign keys by which it refers to itself and is reached again by a cascade.
    pub own: Vec<OwnLink>,
    /// A way that cannot be recorded, in words.
    pub unfollowable: Option<String>,
}

impl MariaDbShape {
    /// The tables from whose rows cascades come.
    pub fn sources(&self) -> Vec<&TableName> {
        let mut sources: Vec<&TableName> = self.cascades.iter().map(|cascade| &cascade.from).collect();
        sources.sort();
        sources.dedup();
        sources
    }
}

/// A way by which the change of a row reaches rows of the tracked table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cascade {
    /// The table of that row.
    pub from: TableName,
    /// What happens to it.
    pub on: CascadeOn,
    /// From there to the tracked table, which is the last child.
    pub path: Vec<Link>,
}

/// What a cascade follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CascadeOn {
    /// The deletion of a row.
    Delete,
    /// The change of the columns that others refer to.
    Update,
}

/// One step of a cascade: a table, and how its rows refer to those of the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The table that refers.
    pub child: TableName,
    /// Its columns.
    pub columns: Vec<String>,
    /// Those that they refer to.
    pub parent_columns: Vec<String>,
}

/// How a table refers to itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnLink {
    /// The columns.
    pub link: Link,
    /// Whether the rows that refer go too, and with them those that refer to them.
    pub deletes: bool,
}

/// A unique index of a SQLite table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UniqueIndex {
    /// The parts of the index: columns and expressions, with their collation.
    pub parts: Vec<IndexPart>,
    /// The condition of a partial index, as SQL.
    pub predicate: Option<String>,
}

/// One part of an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum IndexPart {
    /// A column, compared under a collation.
    Column {
        /// Its name.
        name: String,
        /// The collation, as SQL.
        collation: String,
    },
    /// An expression, as SQL.
    Expression(String),
}
