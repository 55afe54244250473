//! Which column of the history holds which column of the table, and at which bit of the mask.
//!
//! A record is a header, a mask and the row's own columns. Bit 0 of the mask says that the record holds the full
//! row; each field has a bit of its own, numbered once and never given to another. The mask is cut into words of
//! 63 bits, so that no database ever meets the sign bit: `history_changed`, `history_changed_1`, …

use serde::{Deserialize, Serialize};

use crate::Database;
use crate::error::{Error, ErrorKind, Result};
use crate::name::{self, TableName};
use crate::schema::{Column, MariaDbShape, Table};
use crate::tracking::{Storage, Tracking};
use crate::value::Shown;

/// Bits of one word of the mask.
pub const WORD_BITS: u16 = 63;

/// The bit that says that a record holds the full row.
pub const FULL_BIT: u16 = 0;

/// What the columns of a record's header begin with. A table with such a column is refused.
pub const RESERVED_PREFIX: &str = "history_";

/// What is kept of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keeping {
    /// Its values.
    Stored,
    /// That it changed, and whether it was NULL.
    Masked,
}

/// One tracked column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Its bit in the mask.
    pub bit: u16,
    /// The column of the table.
    pub name: String,
    /// The column of the history: the same name, unless an earlier, different column took it.
    pub history: String,
    /// Its type as SQL.
    pub sql_type: String,
    /// Its collation as SQL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collation: Option<String>,
    /// How its values are shown.
    pub shown: Shown,
    /// Whether plain equality tells stored images apart.
    pub plain_equality: bool,
    /// What is kept of it.
    pub keeping: Keeping,
    /// The database's own number for the column.
    pub number: i32,
}

impl Field {
    /// The word of the mask and the bit's value in it.
    pub fn word_and_bit(&self) -> (usize, i64) {
        (usize::from(self.bit / WORD_BITS), 1 << (self.bit % WORD_BITS))
    }
}

/// The history of one table during one epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// The number of the table in the catalogue.
    pub id: i64,
    /// The tracked table.
    pub table: TableName,
    /// Its history.
    pub history: TableName,
    /// The names of the key columns.
    pub key: Vec<String>,
    /// The tracked columns, in the table's order, key columns among them.
    pub fields: Vec<Field>,
    /// The first bit never given to a field.
    pub next_bit: u16,
    /// Full or sparse records.
    pub storage: Storage,
    /// Whether updates that change nothing are recorded.
    #[serde(default)]
    pub record_unchanged: bool,
    /// Whether the table's rows are its own only, not those of tables that inherit from it (PostgreSQL's `ONLY`).
    #[serde(default)]
    pub only: bool,
    /// Whether two rows may share a key until their transaction ends (PostgreSQL's deferrable keys).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared_key: bool,
    /// From how many other tables cascades reach its rows (MariaDB, where they fire no trigger).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub sources: u16,
    /// Columns of the history that no field uses any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retired: Vec<String>,
    /// Columns of the table that are not tracked: remembered, so that a rename does not make one tracked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(number: &u16) -> bool {
    *number == 0
}

/// A column that is not tracked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Its name.
    pub name: String,
    /// The database's own number for it.
    pub number: i32,
}

impl Layout {
    /// The layout of a table that was never tracked before.
    pub fn new(id: i64, table: &Table, tracking: &Tracking, database: Database) -> Result<Self> {
        check_trackable(table)?;
        tracking.check(table)?;
        let history = match &tracking.history {
            Some(history) => {
                name::check(history)?;
                table.name.sibling(history.clone())
            }
            None => table.name.history(database),
        };
        let mut layout = Self {
            id,
            table: table.name.clone(),
            history,
            key: table.key.clone(),
            fields: Vec::new(),
            next_bit: FULL_BIT + 1,
            storage: tracking.storage,
            record_unchanged: tracking.record_unchanged,
            only: table.postgres().is_some_and(|shape| !shape.partitioned),
            shared_key: table.shares_keys(),
            sources: table.cascade_sources(),
            retired: Vec::new(),
            left_out: Vec::new(),
        };
        for column in &table.columns {
            if tracking.covers(&column.name, &table.key) {
                let field = layout.field_for(column, tracking);
                layout.fields.push(field);
            } else {
                layout.left_out.push(LeftOut { name: column.name.clone(), number: column.number });
            }
        }
        Ok(layout)
    }

    /// A new field for a column, with a bit and a history column that were never used before.
    pub fn field_for(&mut self, column: &Column, tracking: &Tracking) -> Field {
        let bit = self.next_bit;
        self.next_bit += 1;
        let taken = |name: &str| {
            self.retired.iter().chain(self.fields.iter().map(|field| &field.history)).any(|used| used == name)
        };
        let history =
            if taken(&column.name) { format!("{}_{bit}", column.name) } else { column.name.clone() };
        let masked = tracking.mask.contains(&column.name);
        Field {
            bit,
            name: column.name.clone(),
            history,
            sql_type: column.sql_type.clone(),
            collation: column.collation.clone(),
            shown: column.shown,
            plain_equality: column.plain_equality,
            keeping: if masked { Keeping::Masked } else { Keeping::Stored },
            number: column.number,
        }
    }

    /// The field of a column.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// The key's fields, in the key's order.
    pub fn key_fields(&self) -> impl Iterator<Item = &Field> {
        self.key.iter().filter_map(|name| self.field(name))
    }

    /// Whether a field belongs to the key.
    pub fn is_key(&self, field: &Field) -> bool {
        self.key.contains(&field.name)
    }

    /// How many words the mask has.
    pub fn words(&self) -> usize {
        usize::from((self.next_bit - 1) / WORD_BITS) + 1
    }

    /// The columns of the mask.
    pub fn word_columns(&self) -> impl Iterator<Item = String> + use<> {
        (0..self.words()).map(word_column)
    }

    /// The mask of a record that names every field and holds the full row, word by word.
    pub fn full_mask(&self) -> Vec<i64> {
        let mut words = vec![0; self.words()];
        words[0] = 1 << FULL_BIT;
        for field in &self.fields {
            let (word, bit) = field.word_and_bit();
            words[word] |= bit;
        }
        words
    }
}

/// The name of the n-th word of the mask.
pub fn word_column(word: usize) -> String {
    if word == 0 { "history_changed".to_owned() } else { format!("history_changed_{word}") }
}

/// Whether a mask names a field.
pub fn names(mask: &[i64], field: &Field) -> bool {
    let (word, bit) = field.word_and_bit();
    mask.get(word).is_some_and(|w| w & bit != 0)
}

/// Whether a mask says that the record holds the full row.
pub fn is_full(mask: &[i64]) -> bool {
    mask.first().is_some_and(|word| word & 1 << FULL_BIT != 0)
}

/// Refuses a table whose rows cannot be told apart, or whose columns collide with a record's header.
pub fn check_trackable(table: &Table) -> Result<()> {
    if table.key.is_empty() {
        return Err(Error::new(
            ErrorKind::Untrackable,
            "it has no primary key, so its rows cannot be told apart",
        )
        .table(&table.name)
        .help("add one: ALTER TABLE … ADD PRIMARY KEY, or a unique identity column"));
    }
    if let Some(shape) = table.mariadb() {
        check_mariadb(table, shape)?;
    }
    if let Some(column) = table.columns.iter().find(|c| c.name.to_lowercase().starts_with(RESERVED_PREFIX)) {
        return Err(Error::new(
            ErrorKind::Untrackable,
            format!(
                "its column {:?} begins with {RESERVED_PREFIX:?}, which the header of records needs",
                column.name
            ),
        )
        .table(&table.name)
        .help("rename the column"));
    }
    Ok(())
}

/// What fires no trigger there cannot be recorded.
fn check_mariadb(table: &Table, shape: &MariaDbShape) -> Result<()> {
    if !shape.engine.eq_ignore_ascii_case("InnoDB") {
        return Err(Error::new(
            ErrorKind::Untrackable,
            format!(
                "its engine {} has no transactions, so that a write and its record could come apart",
                shape.engine
            ),
        )
        .table(&table.name)
        .help("ALTER TABLE … ENGINE = InnoDB"));
    }
    if let Some(way) = &shape.unfollowable {
        return Err(Error::new(
            ErrorKind::Untrackable,
            format!("{way}: that fires no trigger on MariaDB, and cannot be recorded"),
        )
        .table(&table.name)
        .help("make that foreign key RESTRICT, and delete or change these rows first"));
    }
    Ok(())
}
