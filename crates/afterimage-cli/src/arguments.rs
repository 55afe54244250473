//! The command line: stable for scripts.

use afterimage::{Storage, Tracking};
use clap::{Args, Parser, Subcommand};

use crate::output::Format;

/// Audit trail and version history for any table of PostgreSQL or SQLite.
///
/// Every write is captured inside the writer's transaction, whoever writes: an application, a bulk statement, raw SQL,
/// a shell, another program. No code needed.
#[derive(Debug, Parser)]
#[command(name = "afterimage", version, max_term_width = 100, after_help = "Begin with: afterimage demo")]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The database: postgres://…, sqlite:… or the path of an SQLite file [env: DATABASE_URL]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) database_url: Option<String>,
    /// How to print: table, json or csv
    #[arg(long, global = true, value_name = "FORMAT")]
    pub(crate) format: Option<Format>,
    /// The time zone of times without one, such as Europe/Berlin
    #[arg(long, global = true, value_name = "ZONE")]
    pub(crate) tz: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Track tables: install capture, and write a baseline of the rows that are there
    #[command(
        after_help = "Again with other options, it changes them. Killed, it goes on where it stopped.\n\n  afterimage track orders customers\n  afterimage track orders --storage delta --exclude cache_key --mask card_number"
    )]
    Track(Track),
    /// Stop tracking a table; its history stays
    Untrack {
        /// The table
        table: String,
        /// Drop its history too
        #[arg(long)]
        drop_history: bool,
    },
    /// What is tracked, and how it is
    Status {
        /// End with 3 where anything needs mending
        #[arg(long)]
        check: bool,
    },
    /// What could go wrong, and the mend; ends with 3 where there is a hazard
    Doctor,
    /// Print the SQL that track or migrate would run, for any migration tool
    #[command(
        after_help = "  afterimage plan orders > migration.sql\n  afterimage plan orders --after 'ALTER TABLE orders ADD COLUMN vat numeric'"
    )]
    Plan(Plan),
    /// Follow schema changes of tracked tables
    Migrate {
        /// The tables; all, where none is named
        tables: Vec<String>,
        /// A column whose rename the database no longer shows, such as a table rebuilt by a migration tool
        #[arg(long, value_name = "OLD=NEW", value_parser = pair)]
        rename: Vec<(String, String)>,
    },
    /// All versions of a row, newest first
    #[command(
        after_help = "KEY is the value itself, or col=value,col=value or a JSON object where the key has several columns.\n\n  afterimage history orders 42\n  afterimage history order_items 'order_id=42,line=1'"
    )]
    History {
        /// The table
        table: String,
        /// The row's key
        key: String,
        /// At most so many versions
        #[arg(long)]
        limit: Option<usize>,
    },
    /// One row, as of a time
    #[command(
        after_help = "  afterimage show orders 42 --at 2026-07-01\n  afterimage show orders 42 --at 'yesterday 15:00'"
    )]
    Show {
        /// The table
        table: String,
        /// The row's key
        key: String,
        /// As of when: a date or time, "2h ago", or tx:ID for right after a transaction
        #[arg(long, default_value = "now")]
        at: String,
    },
    /// A table as of a time, in key order
    #[command(
        after_help = "  afterimage as-of orders 2026-07-01\n  afterimage as-of orders '2h ago' --where \"status = 'open'\" --limit 20 --format csv"
    )]
    AsOf {
        /// The table
        table: String,
        /// As of when: a date or time, "2h ago", or tx:ID for right after a transaction
        time: String,
        /// Only rows of which this is true, as SQL over the columns of that time
        #[arg(long = "where", value_name = "SQL")]
        filter: Option<String>,
        /// At most so many rows
        #[arg(long)]
        limit: Option<u64>,
    },
    /// Replay the records and compare with the live tables; ends with 3 where they differ
    Verify {
        /// The tables; all, where none is named
        tables: Vec<String>,
    },
    /// Thirteen years of real edits to one table, and a tour of what can be asked
    Demo {
        /// Only the tour, without the web interface that is to come
        #[arg(long)]
        no_serve: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Track {
    /// The tables: table, or schema.table
    #[arg(required_unless_present = "all")]
    pub(crate) tables: Vec<String>,
    /// Every table that has a key
    #[arg(long, conflicts_with = "tables")]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) options: Options,
    /// Write no baseline: rows that are there have no history until they change
    #[arg(long)]
    pub(crate) no_baseline: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// snapshot: each record holds the whole row; delta: updates hold the changed columns only [default: snapshot]
    #[arg(long)]
    pub(crate) storage: Option<Storage>,
    /// Only these columns
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    pub(crate) include: Vec<String>,
    /// Not these columns
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    pub(crate) exclude: Vec<String>,
    /// Never store the values of these columns, only that they changed
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    pub(crate) mask: Vec<String>,
    /// The column that names a row for people
    #[arg(long, value_name = "COLUMN")]
    pub(crate) label: Option<String>,
    /// A table whose rows belong to a row of this one
    #[arg(long, value_name = "TABLE", value_delimiter = ',')]
    pub(crate) related: Vec<String>,
    /// Also record updates that change nothing
    #[arg(long)]
    pub(crate) record_unchanged: bool,
    /// The name of the history table, where it is not the table's with _history behind
    #[arg(long, value_name = "NAME")]
    pub(crate) history: Option<String>,
}

impl Options {
    /// Whether any option was given at all.
    pub(crate) fn any(&self) -> bool {
        self.storage.is_some() || self.tracking() != Tracking::new()
    }

    pub(crate) fn tracking(&self) -> Tracking {
        let mut tracking = Tracking::new()
            .storage(self.storage.unwrap_or_default())
            .include(self.include.clone())
            .exclude(self.exclude.clone())
            .mask(self.mask.clone())
            .related(self.related.clone())
            .record_unchanged(self.record_unchanged);
        tracking.label.clone_from(&self.label);
        tracking.history.clone_from(&self.history);
        tracking
    }
}

#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// The tables
    #[arg(required = true)]
    pub(crate) tables: Vec<String>,
    #[command(flatten)]
    pub(crate) options: Options,
    /// A schema change to plan together with what the history needs for it
    #[arg(long, value_name = "SQL")]
    pub(crate) after: Option<String>,
    /// Print what takes it back instead
    #[arg(long)]
    pub(crate) down: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((old, new)) if !old.is_empty() && !new.is_empty() => Ok((old.to_owned(), new.to_owned())),
        _ => Err("write OLD=NEW".to_owned()),
    }
}
