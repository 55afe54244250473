//! Every line of SQL that Afterimage sends: one folder per database, one trait over them.
//!
//! A script is a list of statements, in order. What `track` runs is what `plan` prints.

use std::fmt::Debug;

use crate::layout::{Field, Layout};
use crate::name::{Quoted, TableName};
use crate::schema::{Column, Table};
use crate::sql::log::{Position, Read, Source};
use crate::sql::question::{About, Alone, Question};
use crate::time::Moment;
use crate::value::Value;
use crate::{Context, Database, Error, ErrorKind, Result};

pub mod archive;
pub mod catalog;
mod expression;
pub mod live;
pub mod log;
pub mod mariadb;
pub mod postgres;
pub mod question;
mod restore;
pub mod retention;
mod scoped;
pub mod sizes;
pub mod sqlite;
pub mod then;

/// Statements, in the order in which they run.
pub type Script = Vec<String>;

/// A transaction that lasts no more microseconds than these is a short one: all its records are within them. What a longer one wrote
/// later says when it began, or how long it lasted. PostgreSQL's text says `interval '1 second'`.
pub const SHORT: i64 = 1_000_000;

/// Up to which record an as-of looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// All records: the state of now.
    Now,
    /// Records dated at or before this.
    Time(Moment),
    /// Records at or before this one, in the order (date, id): the state right after a transaction.
    Position(Moment, i64),
}

impl Bound {
    /// The time of the bound.
    pub fn moment(self) -> Option<Moment> {
        match self {
            Self::Now => None,
            Self::Time(moment) | Self::Position(moment, _) => Some(moment),
        }
    }

    /// Whether a record of this moment and number is within it.
    pub fn includes(self, at: log::Position) -> bool {
        match self {
            Self::Now => true,
            Self::Time(moment) => at.0 <= moment,
            Self::Position(moment, id) => at <= (moment, id),
        }
    }
}

/// What a table's as-of reads.
#[derive(Debug, Clone)]
pub struct AsOf<'a> {
    /// The history.
    pub layout: &'a Layout,
    /// The fields wanted; key fields come first in the result whether asked for or not.
    pub fields: &'a [Field],
    /// Whether any record it may meet is sparse.
    pub sparse: bool,
    /// Up to which record.
    pub bound: Bound,
    /// Transactions that had not ended at that time, or whose records are to be left out.
    pub unfinished: &'a [String],
    /// Which rows.
    pub rows: Rows<'a>,
    /// Whether only the first of them will be fetched: then it has to stop early.
    pub first: bool,
}

/// Which rows an as-of reads.
#[derive(Debug, Clone, Copy)]
pub enum Rows<'a> {
    /// All of them.
    All,
    /// Those of these keys, each in the key's order.
    Keys(&'a [Vec<Value>]),
    /// Those that come after this key, in the key's order.
    After(&'a [Value]),
    /// Those that a transaction wrote.
    TouchedBy(&'a str),
    /// Those with records beyond a bound.
    Beyond(Bound),
}

/// Which records may be the first of their row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// Creations, since there is a baseline.
    Creation,
    /// Also others of up to a moment: what came before them was removed.
    AnyUntil(Moment),
    /// Any.
    Any,
}

impl First {
    /// The condition on a record that has none before it, by which it cannot be the first; to be followed by others, of
    /// which any may hold.
    fn cannot_be(self, dialect: &dyn Dialect) -> String {
        match self {
            Self::Creation => "history_before IS NULL OR ".to_owned(),
            Self::AnyUntil(moment) => {
                format!("history_before IS NULL AND history_date > {} OR ", dialect.moment(moment))
            }
            Self::Any => String::new(),
        }
    }
}

/// A state to be written back.
#[derive(Debug, Clone)]
pub struct WriteBack<'a> {
    /// The table of today.
    pub layout: &'a Layout,
    /// The columns to write: the field of today, and what the state calls it.
    pub columns: &'a [(Field, String)],
    /// What the state calls the key's columns, in the key's order.
    pub key: &'a [String],
    /// The state, as a query.
    pub state: &'a str,
    /// The key under which the one row of the state lives today, where that may be another.
    pub now_at: Option<&'a [Value]>,
    /// Columns that an insert gives a value of its own, as text; `None` for NULL.
    pub set: &'a [(Column, Option<String>)],
    /// Rows that are left as they are, by the key of today.
    pub except: &'a [Vec<Value>],
}

/// The SQL of one database.
pub trait Dialect: Debug + Send + Sync {
    /// Which database.
    fn database(&self) -> Database;

    /// Creates the catalogue, the context and the sequence, where they are missing.
    fn catalog(&self) -> Script;

    /// What a script begins with that somebody else runs: how its SQL is to be read.
    fn session_of_a_script(&self) -> Script {
        Script::new()
    }

    /// The name of a table of the catalogue.
    fn catalog_table(&self, name: &str) -> String;

    /// A moment as a literal of the type in which the database keeps `history_date`.
    fn moment(&self, moment: Moment) -> String;

    /// An expression of that type, as microseconds since the epoch.
    fn micros(&self, expression: &str) -> String;

    /// The database's clock, as that type.
    fn clock(&self) -> &'static str;

    /// Moves the clock on before something of the engine's own is dated.
    fn tick(&self) -> Script {
        Script::new()
    }

    /// Opens a transaction of the engine's own that writes, or one that only reads and sees one moment.
    fn open(&self, writes: bool) -> String;

    /// The same for one that removes records, or changes some: it must not keep writers waiting.
    fn open_to_remove(&self) -> String {
        self.open(true)
    }

    /// The same for one that only reads, in which the engine asks: what it asks it keeps prepared.
    fn open_to_answer(&self) -> String {
        self.open(false)
    }

    /// What says that a removal is open in this transaction, and in no other.
    fn opened_in(&self) -> &'static str;

    /// Creates the history table with its indexes and guards.
    fn create_history(&self, layout: &Layout) -> Script;

    /// Brings the history table from one layout to the next; `fills` are the constant defaults of new fields.
    fn alter_history(&self, old: &Layout, new: &Layout, fills: &[(u16, String)]) -> Script;

    /// Drops the history table.
    fn drop_history(&self, layout: &Layout) -> Script;

    /// Installs or replaces capture. `baseline` adds what a baseline in progress needs.
    fn install_capture(&self, layout: &Layout, table: &Table, baseline: bool) -> Script;

    /// Removes capture.
    fn remove_capture(&self, layout: &Layout) -> Script;

    /// Writes the baseline of all rows that have no record yet, in one go.
    fn baseline(&self, layout: &Layout) -> Script;

    /// Opens a transaction of a user's.
    fn begin(&self) -> &'static str;

    /// Sets the context of the open transaction; `again` where it has one already.
    fn set_context(&self, context: &Context, again: bool) -> Result<String>;

    /// Clears the context of the open transaction before it ends, where it would not end with it.
    fn clear_context(&self) -> Option<&'static str> {
        None
    }

    /// Whether questions are kept prepared, with what they ask about beside their text.
    fn keeps_questions(&self) -> bool {
        true
    }

    /// A parameter, by its place, and its value, as a text or bytes.
    fn parameter(&self, place: usize, about: About<'_>) -> (String, Value);

    /// Whether these fields are of types that everybody knows, none of which can hold money, which each session may write in its
    /// own way.
    fn are_plain(&self, _fields: &[Field]) -> bool {
        true
    }

    /// Whether a question that looks up so many records may be asked in no transaction.
    fn is_short(&self, _looked_up: u64) -> bool {
        true
    }

    /// Whether a session is as a question needs it that is asked in no transaction.
    fn session_is_set(&self, _alone: &Alone) -> String {
        "TRUE".to_owned()
    }

    /// The records of the row of a key, oldest first, bounded: header columns, mask words, then `fields`.
    ///
    /// Where `settled` names histories, which are to be all that are tracked, and the bound is a time, those of transactions that had
    /// not ended are left out; or none are given, where that takes more than this question.
    fn records_of_key(
        &self,
        layout: &Layout,
        fields: &[Field],
        key: &[Value],
        bound: Bound,
        settled: &[&Layout],
    ) -> Question;

    /// The arrival that belongs to a departure: its parameters are the departure's id and date (in microseconds).
    fn arrival_of(&self, layout: &Layout) -> String;

    /// The records at these positions, in any order: header columns, mask words, the values of `fields` that are to be read, and
    /// the values that those which changed had before.
    fn records_at(&self, source: &Source<'_>, read: Read, positions: &[Position]) -> Question;

    /// The same of those that a query finds. `found` writes it, once, with the columns that it is to select of a record: its table is
    /// called `h`.
    fn records_where(&self, source: &Source<'_>, read: Read, found: &dyn Fn(&str) -> String) -> String;

    /// All records as versions: the header's columns under the names of a record's, the words of the mask, and each of the
    /// source's fields as it was after the record, typed, under [`then::version_column`]. A departure is told by its arrival.
    fn versions(&self, source: &Source<'_>) -> String;

    /// The position of each row's newest record, in the order of the keys: where it matters, only of rows that are deleted,
    /// or that are not. Its second column is called `history_id`.
    fn newest_of_each(&self, layout: &Layout, deleted: Option<bool>, limit: Option<u64>) -> String;

    /// One row: the values of `fields` that a row had right before one of its records.
    fn state_before(&self, source: &Source<'_>, position: Position) -> String;

    /// The transactions that had not ended at that time, of all these histories.
    fn unfinished(&self, histories: &[&Layout], bound: Bound) -> Question;

    /// The same by a question that is kept prepared, where that pays; a row without any where the other one has to be asked.
    fn unfinished_unless_long(&self, _histories: &[&Layout], _bound: Bound) -> Option<Question> {
        None
    }

    /// The position of the last record of a transaction, over all these histories.
    fn position_of_tx(&self, histories: &[&Layout], tx: &str) -> Result<String>;

    /// How many records a transaction wrote into a history.
    fn count_of_tx(&self, layout: &Layout, tx: &str) -> Result<String>;

    /// A table as of a time: the key's columns and then `fields`, under their present names, typed.
    fn as_of(&self, as_of: &AsOf<'_>) -> String;

    /// What has to run before the statements that write a state back, or delete these rows: where a statement whose
    /// triggers write a history cannot read it too.
    fn stage(&self, _back: &WriteBack<'_>, _rows: Rows<'_>) -> Script {
        Script::new()
    }

    /// Updates the rows that are there and differ from the state.
    fn update_from(&self, back: &WriteBack<'_>) -> String;

    /// Inserts the rows of the state that are not there.
    fn insert_from(&self, back: &WriteBack<'_>) -> String;

    /// Deletes the rows that these records are about and the state does not have.
    fn delete_beyond(&self, back: &WriteBack<'_>, rows: Rows<'_>) -> String;

    /// How many rows that would delete.
    fn count_beyond(&self, back: &WriteBack<'_>, rows: Rows<'_>) -> String;

    /// Gives the row of one key another: the key's values, those it has and those it is to have.
    fn move_row(&self, layout: &Layout, from: &[Value], to: &[Value]) -> String;

    /// The newest record, as date in microseconds and number, of each row that a transaction touched and another changed
    /// later.
    fn overwritten(&self, layout: &Layout, tx: &str) -> Result<String>;

    /// The newest record of each row that more than one transaction changed beyond a bound.
    fn contested(&self, layout: &Layout, beyond: Bound) -> String;

    /// How many records the open transaction, by its number, wrote of rows that these are not about.
    fn count_collateral(&self, layout: &Layout, own: &str, rows: Rows<'_>) -> Result<String>;

    /// The number of the open transaction, as text.
    fn own_transaction(&self) -> &'static str;

    /// The same, where it wrote anything by now.
    fn own_transaction_if_any(&self) -> &'static str {
        self.own_transaction()
    }

    /// The live row of a key: `fields`, under their present names, typed.
    fn live_row(&self, layout: &Layout, fields: &[Field], key: &[Value]) -> String;

    /// Whether a table has a row with these values in these columns: one row, 1 or 0.
    fn row_exists(&self, table: &TableName, columns: &[&Column], values: &[Value]) -> String;

    /// The live table, of a layout's own rows, to be read from.
    fn live(&self, layout: &Layout) -> String {
        layout.table.quoted()
    }

    /// The live row of alias `t` is that of alias `s`, which calls the key's columns `key`, in the key's order.
    fn same_row(&self, layout: &Layout, key: &[String]) -> String;

    /// What a record keeps of a field's value in a row of the table.
    fn kept(&self, field: &Field, row: &str) -> String;

    /// A condition on the records of an alias: up to a bound.
    fn within(&self, alias: &str, bound: Bound) -> String;

    /// The opposite, which an index answers.
    fn beyond(&self, alias: &str, bound: Bound) -> String;

    /// The rows of an as-of that have records beyond its bound, in no order; nothing where live rows are no help.
    fn written_since(&self, as_of: &AsOf<'_>) -> Option<String>;

    /// How many rows a table had as of a time: from the key's index alone. Exact where each row's records begin with its
    /// creation, and no two rows ever share a key.
    fn count_as_of(&self, as_of: &AsOf<'_>) -> String;

    /// The order of a key, whose columns are those of alias `row`, in which pages of a table follow one another.
    fn key_order(&self, layout: &Layout, row: &str) -> String {
        layout.key.iter().map(|name| expression::col(row, name)).collect::<Vec<_>>().join(", ")
    }

    /// What puts values of a field of a key, given as SQL, into an order that is the same everywhere: numbers as such, text by the
    /// bytes of its UTF-8.
    fn byte_order(&self, field: &Field, value: &str) -> String;

    /// Wraps a query of a table's rows in the order of its key, whose columns are `fields`, so that it gives the text that
    /// is shown of each.
    fn shown(&self, layout: &Layout, query: &str, fields: &[&Field]) -> String;

    /// Compares what the records give with the live table: one row per difference, which is the key's columns, a
    /// word for each word of the mask, and 1 where the row is live, 1 where it is recorded.
    fn differences(&self, layout: &Layout, sparse: bool) -> String;

    /// Records that do not follow one another: the key's columns, `history_id`, and what is wrong.
    fn broken_sequences(&self, layout: &Layout, first: First) -> String;

    /// Writes a record for every difference between the records and the live table; dated at the beginning of the
    /// newest epoch, where the same transaction began it: were they any later, an as-of in between would show the
    /// columns of the one without the values of the other.
    fn resync(&self, layout: &Layout, sparse: bool, new_epoch: bool) -> Script;

    /// A query that gives one row, how many rows a table has.
    fn count(&self, table: &TableName) -> String {
        format!("SELECT count(*) FROM {}", table.quoted())
    }
}

/// The row that a full record holds, under the columns' names of that layout, typed: what was deleted, say.
pub fn recorded(dialect: &dyn Dialect, layout: &Layout, position: Position) -> String {
    let columns: Vec<String> = layout
        .fields
        .iter()
        .map(|field| format!("{} AS {}", expression::col("h", &field.history), Quoted::new(&field.name)))
        .collect();
    format!(
        "SELECT {} FROM {} AS h WHERE h.history_date = {} AND h.history_id = {}",
        columns.join(", "),
        layout.history.quoted(),
        dialect.moment(position.0),
        position.1
    )
}

/// Refuses what cannot be the number of a transaction, since it goes into SQL as it is.
fn check_tx(tx: &str) -> Result<&str> {
    if tx.is_empty() || tx.len() > 19 || !tx.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Error::new(ErrorKind::InvalidTime, format!("{tx:?} is not the number of a transaction")));
    }
    Ok(tx)
}

/// The SQL of a database.
pub fn dialect(database: Database) -> &'static dyn Dialect {
    match database {
        Database::Postgres => &postgres::Postgres,
        Database::Sqlite => &sqlite::Sqlite,
        Database::MariaDb => &mariadb::MariaDb,
    }
}
