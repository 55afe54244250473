//! Records in Parquet files, for as long as they are kept: each with the whole row as it stood after it, what its changed fields were
//! before, and when the next record of the row followed. So a table as of a time is one condition:
//!
//! ```sql
//! SELECT * FROM read_parquet('orders/*/*.parquet')
//! WHERE history_date <= '2024-03-01' AND history_until > '2024-03-01' AND history_type <> '-'
//! ```
//!
//! A file is of one table. Its columns are the record's header, which begins with `history_`, and then the table's own, in the types
//! that they had, as far as Parquet has these:
//!
//! | column | holds |
//! | --- | --- |
//! | `history_id`, `history_date`, `history_type` | number, moment in UTC, and `+`, `~` or `-` |
//! | `history_until`, `history_until_id` | moment and number of the record of the row that followed |
//! | `history_user`, `history_change_reason`, `history_context`, `history_tx`, `history_old_key` | as in the database |
//! | `history_tx_began` | when its transaction had begun at the latest, where that is known |
//! | `history_scope` | the number of its context, where contexts stand beside records |
//! | `history_departed` | whether the row went on under another key, which the record of its arrival there tells |
//! | `history_changed` | the names of the columns that it says changed |
//! | `history_before` | what these were before, under their names |
//! | `history_other` | what a column cannot hold as it is, as JSON |
//!
//! Whatever a value is, it is read as it was written: what Parquet's type does not tell exactly (text in an integer column of SQLite's,
//! `infinity`, a float with an exponent) stands in `history_other` besides. A masked value is `(masked)`.

mod columns;
mod error;
mod file;
mod glimpse;
mod numbers;

pub use columns::{Columns, Kind};
pub use error::{Error, Result};
pub use file::{Archived, Reader, Writer};
pub use glimpse::{Glimpse, glimpse};
pub use numbers::{read_numbers, write_numbers};
