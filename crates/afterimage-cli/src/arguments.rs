//! The command line: stable for scripts.

use afterimage::{Period, Retention, Storage, Tracking};
use clap::{Args, Parser, Subcommand};

use crate::output::Format;
use crate::terminal::Colour;

/// Audit trail and version history for any table of PostgreSQL, MariaDB or SQLite.
///
/// Every write is captured inside the writer's transaction, whoever writes: an application, a bulk statement, raw SQL,
/// a shell, another program. No code needed.
#[derive(Debug, Parser)]
#[command(
    name = "afterimage",
    version,
    max_term_width = 100,
    after_help = "Begin with: afterimage demo\n\nSettings may also stand in afterimage.toml, of the current folder or of ~/.config/afterimage:\n  database_url, password_file, format, tz, actor, color, pager, users, views, link_key, and a table [retention]"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The database: postgres://…, mariadb://…, sqlite:… or the path of an SQLite file [env: DATABASE_URL]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) database_url: Option<String>,
    /// How to print: table, json or csv
    #[arg(long, global = true, value_name = "FORMAT")]
    pub(crate) format: Option<Format>,
    /// The time zone of times without one, such as Europe/Berlin
    #[arg(long, global = true, value_name = "ZONE")]
    pub(crate) tz: Option<String>,
    /// When to colour; on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_name = "WHEN")]
    pub(crate) color: Option<Colour>,
    /// Print straight to the terminal, without a pager
    #[arg(long, global = true)]
    pub(crate) no_pager: bool,
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
        #[command(flatten)]
        who: Who,
    },
    /// What is tracked, and how it is
    Status {
        /// End with 3 where anything needs mending
        #[arg(long)]
        check: bool,
    },
    /// How much the histories take, how fast they grow, and what that comes to in a year
    Stats,
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
    /// Changes of all tracked tables, newest first
    #[command(
        after_help = "-q takes the options in one line, with - for the opposite, and words to look for anywhere:\n\n  afterimage log --user 42 --since yesterday\n  afterimage log --table orders --field total --was 1,249\n  afterimage log -q 'actor:42 -table:customers field:total reason:\"price match\" at:>2h'\n  afterimage log --follow --format json\n\nKeys: table key actor label action field was now reason request tx at since until before"
    )]
    Log(Log),
    /// What differs between two versions of a row
    #[command(
        after_help = "A version is a number, current, previous, id:HISTORY_ID, a time, or tx:ID.\n\n  afterimage diff orders 42 3 7\n  afterimage diff orders 42 previous current\n  afterimage diff orders 42 yesterday now --fields total,status"
    )]
    Diff(Diff),
    /// Write old values back: of a row, of many rows of a table, or all that a transaction did
    #[command(
        after_help = "It is one transaction, recorded like any other; what cannot be given back truly is refused.\n\n  afterimage revert orders 42 --to 3 --reason 'typing error' --dry-run\n  afterimage revert orders 42 --to previous --fields total --reason 'wrong price' --expect 7\n  afterimage revert orders --to '10 minutes ago' --where \"status = 'open'\" --reason 'UPDATE without WHERE'\n  afterimage revert --tx 7711 --reason 'wrong file imported'"
    )]
    Revert(Revert),
    /// Bring a deleted row back to life
    #[command(
        after_help = "  afterimage restore orders 42 --reason 'deleted by mistake'\n  afterimage restore customers 7 --related --reason 'with the orders that went with it'\n  afterimage restore orders 42 --set 'card=' --reason 'its card number is masked'"
    )]
    Restore(Restore),
    /// Record what is there now, after verify found a difference
    Resync {
        /// The table
        table: String,
        #[command(flatten)]
        who: Who,
    },
    /// Remove the records that no retention keeps
    #[command(
        after_help = "How long records are kept is said with track --keep, under [retention] in afterimage.toml, or here. What any rule keeps is kept;\nwhatever they say, the version that was current at the cut stays, and so does each row's last record.\n\n  afterimage track orders --keep '365 days'\n  afterimage prune --dry-run\n  afterimage prune orders --keep '10 years, last 20 versions' --reason 'as the law asks'"
    )]
    Prune(Prune),
    /// Put histories into partitions by time (PostgreSQL), or make those that are missing ahead of time
    #[command(
        after_help = "Once:   afterimage partition orders --by month\nand from then on, in cron:   afterimage partition"
    )]
    Partition(Partition),
    /// Copy old records to Parquet files, and check those
    #[command(
        args_conflicts_with_subcommands = true,
        subcommand_negates_reqs = true,
        after_help = "They leave the database once every file was read back and compared; what is asked is answered from both.\n\n  afterimage archive orders --older-than '365 days' --to file:///srv/archive\n  afterimage archive --older-than '1 year' --to s3://bucket/shop      (keys: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT)\n  afterimage archive verify file:///srv/archive\n  afterimage archive restore orders"
    )]
    Archive(Archive),
    /// Remove records that changed nothing
    #[command(
        after_help = "Never a creation or a deletion, nor what gives a reason, or was written by another than the record before.\n\n  afterimage dedupe orders --ignore updated_at --since '30 days ago' --dry-run"
    )]
    Dedupe(Dedupe),
    /// Write the baseline of rows that have no record
    Baseline {
        /// The tables
        #[arg(required = true)]
        tables: Vec<String>,
        #[command(flatten)]
        who: Who,
    },
    /// Legal holds: what keeps records from being removed; without a table, all of them
    #[command(
        after_help = "  afterimage hold orders --reason 'case 7'\n  afterimage hold orders 42 --reason 'case 8'\n  afterimage hold\n  afterimage hold --lift 1"
    )]
    Hold(Hold),
    /// Remove the values of chosen fields of a row from its history, and say in their place that they were there
    #[command(
        after_help = "What the row itself holds now stays: change it first.\n\n  afterimage redact customers 7 --fields email,phone --reason 'request 12' --dry-run"
    )]
    Redact(Redact),
    /// What was removed from the histories, by whom and why
    Removals,
    /// Who did what in a period, counted and told one by one, with what may be missing from it
    #[command(
        after_help = "It is written into a file by the name's ending (.html, .csv, .json, .pdf), or else to standard output.\n\n  afterimage report --since 2026-10-01 --until 2026-12-31 --table payments -o fourth-quarter.html\n  afterimage report --user 42 --as csv > ann.csv\n  afterimage report -q 'table:orders field:total' --summary"
    )]
    Report(Report),
    /// Print completions for a shell
    #[command(after_help = "  afterimage completions bash > /etc/bash_completion.d/afterimage")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a folder
    #[command(after_help = "  afterimage man /usr/local/share/man/man1")]
    Man {
        /// The folder
        folder: std::path::PathBuf,
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
        /// With the rows of other tables that belonged to it then
        #[arg(long)]
        related: bool,
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
    /// Print the SQL of views that show tables as of a time, under their own names, for any client
    #[command(
        after_help = "In the session that runs it, or in a schema (on MariaDB a database) that it makes:\n\n  afterimage views 2026-07-01 orders customers > then.sql      # and in psql: \\i then.sql\n  afterimage views 2026-07-01 --schema july | psql shop        # and then: SET search_path = july"
    )]
    Views(Views),
    /// Replay the records and compare with the live tables; ends with 3 where they differ
    Verify {
        /// The tables; all, where none is named
        tables: Vec<String>,
    },
    /// The web interface and REST API
    #[command(
        after_help = "Without users it listens on this machine only, and whoever uses that may see and revert everything.\n\n  afterimage serve\n  afterimage user add ann --role reverter && afterimage serve --listen 0.0.0.0:8080"
    )]
    Serve(Serve),
    /// Who may log in to serve
    User {
        #[command(subcommand)]
        command: UserCommand,
    },
    /// Thirteen years of real edits to one table, and a tour of what can be asked
    Demo {
        /// Into this database instead of a file of its own: makes a table country_codes there, or anew that of an
        /// earlier demo
        #[arg(long, value_name = "URL")]
        into: Option<String>,
        /// Only the tour, without the web interface after it
        #[arg(long)]
        no_serve: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub(crate) listen: std::net::SocketAddr,
    /// How to tell on standard error what happens
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT")]
    pub(crate) log_format: LogFormat,
    /// Who logged in, was refused, wrote back or took away goes to the end of this file too, a JSON document a line
    #[arg(long, value_name = "FILE")]
    pub(crate) access_log: Option<std::path::PathBuf>,
    /// Proxies that are believed when they say where a request comes from (X-Forwarded-For): addresses or networks
    #[arg(long, value_name = "NETWORK", value_delimiter = ',')]
    pub(crate) trust_proxy: Vec<String>,
    /// Who asks is whom these proxies name in this header, which they must remove from what comes from elsewhere
    #[arg(long, value_name = "HEADER", requires = "trust_proxy")]
    pub(crate) user_header: Option<String>,
    /// What somebody may whom they name and nobody added; nothing, where not given
    #[arg(long, value_enum, value_name = "ROLE", requires = "user_header")]
    pub(crate) user_header_role: Option<RoleName>,
}

/// How to tell what happens.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// A JSON document a line.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Add somebody; the password is asked for, or read from what is piped in
    Add {
        /// The name they log in with, by which what they write back is recorded
        name: String,
        /// What they may
        #[arg(long, value_enum, default_value = "viewer")]
        role: RoleName,
        /// What they are called
        #[arg(long)]
        label: Option<String>,
        /// Only these tables
        #[arg(long, value_name = "TABLE", value_delimiter = ',')]
        tables: Vec<String>,
        /// Columns whose values they never see
        #[arg(long, value_name = "TABLE.COLUMN", value_delimiter = ',')]
        hide: Vec<String>,
        /// The file that holds the password
        #[arg(long, value_name = "FILE")]
        password_file: Option<std::path::PathBuf>,
        /// Without a password: a proxy names them (serve --user-header), or they have tokens only
        #[arg(long, conflicts_with = "password_file")]
        no_password: bool,
    },
    /// Everybody
    List,
    /// Remove somebody
    Remove {
        /// Their name
        name: String,
    },
    /// Give somebody another password
    Password {
        /// Their name
        name: String,
        /// The file that holds it
        #[arg(long, value_name = "FILE")]
        password_file: Option<std::path::PathBuf>,
    },
    /// Make a token for a program of somebody's: Authorization: Bearer …
    Token {
        /// Their name
        name: String,
        /// What the token is called
        token: String,
        /// Until when it is valid: 90d, 12h, or a date
        #[arg(long, value_name = "TIME", default_value = "90d")]
        expires: String,
        /// No more than this, whatever they may
        #[arg(long, value_enum, default_value = "viewer")]
        role: RoleName,
    },
    /// Take a token away
    Revoke {
        /// Their name
        name: String,
        /// What the token is called
        token: String,
    },
}

/// What somebody may.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum RoleName {
    /// See, and take away as a file
    Viewer,
    /// Write old values back, too
    Reverter,
    /// Everything
    Admin,
}

impl From<RoleName> for afterimage_web::Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Viewer => Self::Viewer,
            RoleName::Reverter => Self::Reverter,
            RoleName::Admin => Self::Admin,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Views {
    /// As of when: a date or time, "2h ago", or tx:ID for right after a transaction
    pub(crate) time: String,
    /// The tables; all, where none is named
    pub(crate) tables: Vec<String>,
    /// Make this schema, and the views in it
    #[arg(long, value_name = "NAME")]
    pub(crate) schema: Option<String>,
}

/// Which changes; several of an option mean any of them.
#[derive(Debug, Args)]
pub(crate) struct Log {
    /// Of this table
    #[arg(long, value_name = "TABLE")]
    pub(crate) table: Vec<String>,
    /// Of the row with this key
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Vec<String>,
    /// By this user's id
    #[arg(long, value_name = "ID")]
    pub(crate) user: Vec<String>,
    /// create, update, delete, or restore: what wrote an older state back
    #[arg(long, value_name = "ACTION")]
    pub(crate) action: Vec<String>,
    /// That changed this column
    #[arg(long, value_name = "COLUMN")]
    pub(crate) field: Vec<String>,
    /// From this value
    #[arg(long, value_name = "VALUE", allow_hyphen_values = true)]
    pub(crate) was: Vec<String>,
    /// To this value
    #[arg(long, value_name = "VALUE", allow_hyphen_values = true)]
    pub(crate) now: Vec<String>,
    /// With these words in the reason
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Vec<String>,
    /// Of this request, job or trace
    #[arg(long, value_name = "ID")]
    pub(crate) correlation: Vec<String>,
    /// Of this transaction
    #[arg(long, value_name = "ID")]
    pub(crate) tx: Vec<String>,
    /// At this time or later
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// At this time or earlier
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// At most so many [default: 50 in tables, all in json and csv]
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// The page after this one, as the page before says
    #[arg(long, value_name = "CURSOR")]
    pub(crate) after: Option<String>,
    /// Of the one row that --table and --key name, also the rows that referred to it
    #[arg(long, requires = "table", requires = "key", conflicts_with = "follow")]
    pub(crate) related: bool,
    /// Go on with changes as they are committed
    #[arg(long, short, conflicts_with_all = ["limit", "after", "until"])]
    pub(crate) follow: bool,
    /// A query in one line
    #[arg(long, short, value_name = "QUERY", allow_hyphen_values = true)]
    pub(crate) query: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// The table
    pub(crate) table: String,
    /// The row's key
    pub(crate) key: String,
    /// The version to compare
    pub(crate) from: String,
    /// The version to compare it with
    #[arg(default_value = "current")]
    pub(crate) to: String,
    /// Only these columns
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    pub(crate) fields: Vec<String>,
    /// Not these columns
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    pub(crate) exclude: Vec<String>,
}

/// Who does it, and why.
#[derive(Debug, Args)]
pub(crate) struct Who {
    /// Why: recorded with what is written
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Who does it: the id under which applications know the user [env: AFTERIMAGE_ACTOR]
    #[arg(long, value_name = "ID")]
    pub(crate) actor: Option<String>,
}

/// What to do with rows that changed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OnConflict {
    /// Write nothing at all
    Refuse,
    /// Leave those rows alone
    Skip,
    /// Bring them back too
    Overwrite,
}

#[derive(Debug, Args)]
pub(crate) struct Revert {
    /// The table
    pub(crate) table: Option<String>,
    /// The row's key; many rows, where there is none
    pub(crate) key: Option<String>,
    /// The version, or the time, to go back to
    #[arg(long, value_name = "VERSION")]
    pub(crate) to: Option<String>,
    /// Undo this transaction
    #[arg(long, value_name = "ID")]
    pub(crate) tx: Option<String>,
    /// Only these columns
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    pub(crate) fields: Vec<String>,
    /// Refuse where the current version is another than this: somebody changed the row since
    #[arg(long, value_name = "VERSION")]
    pub(crate) expect: Option<String>,
    /// Of many rows, those of which this was true then, as SQL
    #[arg(long = "where", value_name = "SQL")]
    pub(crate) filter: Option<String>,
    /// What to do with rows that changed again
    #[arg(long, value_enum, default_value = "refuse")]
    pub(crate) conflicts: OnConflict,
    /// Of a whole table, also delete the rows created since
    #[arg(long)]
    pub(crate) delete_created: bool,
    /// Say what would be written, and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) who: Who,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The table
    pub(crate) table: String,
    /// The row's key
    pub(crate) key: String,
    /// Give a column another value
    #[arg(long, value_name = "COLUMN=VALUE", value_parser = given)]
    pub(crate) set: Vec<(String, String)>,
    /// Give a column no value
    #[arg(long, value_name = "COLUMN")]
    pub(crate) set_null: Vec<String>,
    /// Also the rows that referred to it and were deleted in the same transaction
    #[arg(long)]
    pub(crate) related: bool,
    /// Say what would be written, and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) who: Who,
}

fn given(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((column, value)) if !column.is_empty() => Ok((column.to_owned(), value.to_owned())),
        _ => Err("write COLUMN=VALUE".to_owned()),
    }
}

#[derive(Debug, Args)]
pub(crate) struct Prune {
    /// The tables; all that say how long their records are kept, where none is named
    pub(crate) tables: Vec<String>,
    /// What is kept, whatever is said elsewhere: '365 days', 'last 20 versions', 'until 2030-01-01', or several with commas
    #[arg(long, value_name = "RULES")]
    pub(crate) keep: Option<Retention>,
    /// Of histories in partitions, let also go what is in one partition with what is kept: record by record
    #[arg(long)]
    pub(crate) exact: bool,
    /// Say what would go, and let nothing go
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) who: Who,
}

#[derive(Debug, Args)]
pub(crate) struct Partition {
    /// The tables; all whose histories are in partitions already, where none is named
    pub(crate) tables: Vec<String>,
    /// What one partition holds: day, week, month or year
    #[arg(long, value_name = "PERIOD")]
    pub(crate) by: Option<Period>,
    /// How many to make ahead of time
    #[arg(long, value_name = "COUNT")]
    pub(crate) ahead: Option<u16>,
}

#[derive(Debug, Args)]
pub(crate) struct Archive {
    #[command(subcommand)]
    pub(crate) command: Option<ArchiveCommand>,
    /// The tables; all, where none is named
    pub(crate) tables: Vec<String>,
    /// Records that are older than this, and that another of their row followed by then: '365 days', '1 year'
    #[arg(long, value_name = "SPAN", required = true)]
    pub(crate) older_than: Option<Retention>,
    /// Where to: file:///folder or s3://bucket/folder
    #[arg(long, value_name = "URL", required = true)]
    pub(crate) to: Option<String>,
    /// Leave the records in the database: a copy, which nothing here asks
    #[arg(long)]
    pub(crate) copy: bool,
    #[command(flatten)]
    pub(crate) who: Who,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ArchiveCommand {
    /// Read all of an archive, and compare it with what its manifests say; ends with 3 where it differs
    Verify {
        /// The archive
        url: String,
    },
    /// Bring everything back into the database that was moved to archives; the files stay, as copies
    Restore {
        /// The tables; all, where none is named
        tables: Vec<String>,
        #[command(flatten)]
        who: Who,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Dedupe {
    /// The tables; all, where none is named
    pub(crate) tables: Vec<String>,
    /// Also records that changed nothing but these columns
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    pub(crate) ignore: Vec<String>,
    /// Only records of this time or later
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Say what would go, and let nothing go
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) who: Who,
}

#[derive(Debug, Args)]
pub(crate) struct Redact {
    /// The table
    pub(crate) table: String,
    /// The row's key
    pub(crate) key: String,
    /// These fields
    #[arg(long, value_name = "COLUMN", value_delimiter = ',', required = true)]
    pub(crate) fields: Vec<String>,
    /// Also of the rows that had this key before
    #[arg(long)]
    pub(crate) every_life: bool,
    /// Say what would go, and let nothing go
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) who: Who,
}

/// What a report is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum As {
    /// A page that stands alone and can be printed
    Html,
    /// A line for each count and each changed field, harmless to spreadsheets
    Csv,
    /// One document
    Json,
    /// Pages
    Pdf,
}

#[derive(Debug, Args)]
pub(crate) struct Report {
    /// On these tables; all, where none is named
    #[arg(long, value_name = "TABLE")]
    pub(crate) table: Vec<String>,
    /// On what this user did
    #[arg(long, value_name = "ID")]
    pub(crate) user: Vec<String>,
    /// From this time on
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Up to this time; a date is the whole of that day
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// A query in one line, as of log
    #[arg(long, short, value_name = "QUERY", allow_hyphen_values = true)]
    pub(crate) query: Option<String>,
    /// What it is called
    #[arg(long, value_name = "TEXT", default_value = "Changes")]
    pub(crate) title: String,
    /// Only what there is altogether, without the changes one by one
    #[arg(long)]
    pub(crate) summary: bool,
    /// As what it is written
    #[arg(long = "as", value_enum, value_name = "KIND")]
    pub(crate) kind: Option<As>,
    /// Into this file
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<std::path::PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Hold {
    /// The table
    pub(crate) table: Option<String>,
    /// Of one row only, by its key
    pub(crate) key: Option<String>,
    /// Lift the hold of this number
    #[arg(long, value_name = "ID", conflicts_with_all = ["table", "key"])]
    pub(crate) lift: Option<i64>,
    #[command(flatten)]
    pub(crate) who: Who,
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
    /// How long records are kept: '365 days', 'last 20 versions', 'until 2030-01-01', several with commas, or 'ever'
    #[arg(long, value_name = "RULES", value_parser = keep)]
    pub(crate) keep: Option<Keep>,
}

/// What is kept; nothing says so where it is for ever.
#[derive(Debug, Clone)]
pub(crate) struct Keep(pub(crate) Option<Retention>);

fn keep(text: &str) -> Result<Keep, String> {
    match text {
        "ever" => Ok(Keep(None)),
        rules => rules.parse::<Retention>().map(|keep| Keep(Some(keep))).map_err(|error| error.to_string()),
    }
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
