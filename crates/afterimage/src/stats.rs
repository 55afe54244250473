//! How much the histories take, how fast they grow, and what that comes to.

use afterimage_core::Moment;
use afterimage_core::sql::sizes;
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::catalog::{self, Entry};
use crate::database::Afterimage;
use crate::error::Result;
use crate::introspect;
use crate::session::{Cell, Session};
use crate::status::TableStatus;

/// What a database says without counting is believed of more than so many rows.
const COUNTED: i64 = 100_000;

/// Growth is told from no more than so many of the newest records.
const LOOKED_AT: u64 = 50_000;

/// And from no longer than so many days.
const DAYS: i64 = 30;

const DAY: i64 = 86_400_000_000;

/// A number of bytes, which people read in powers of 1024.
///
/// ```
/// # use afterimage::Bytes;
/// assert_eq!(Bytes(1_536).to_string(), "1.5 KiB");
/// assert_eq!(Bytes(300 * 1024 * 1024).to_string(), "300 MiB");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub i64);

impl std::fmt::Display for Bytes {
    #[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (mut size, mut unit) = (self.0 as f64, "B");
        for next in ["KiB", "MiB", "GiB", "TiB"] {
            if size < 1024.0 {
                break;
            }
            (size, unit) = (size / 1024.0, next);
        }
        let digits = usize::from(unit != "B" && size < 100.0);
        write!(f, "{size:.digits$} {unit}")
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.0)
    }
}

/// How much the history of one tracked table takes.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TableStats {
    /// How the table is, with its records.
    pub status: TableStatus,
    /// Whether records and rows are what the database estimates, since counting them would take long.
    pub estimated: bool,
    /// The rows of the table.
    pub rows: i64,
    /// The bytes of the history's table; `None` where the database does not say.
    pub table_bytes: Option<Bytes>,
    /// The bytes of its indexes.
    pub index_bytes: Option<Bytes>,
    /// The date of its oldest record.
    pub oldest: Option<Moment>,
    /// The date of its newest record.
    pub newest: Option<Moment>,
    /// How many records come a day, by the newest of the last thirty days.
    pub per_day: f64,
}

impl TableStats {
    /// The bytes of its table and its indexes.
    pub fn bytes(&self) -> Option<Bytes> {
        Some(Bytes(self.table_bytes?.0 + self.index_bytes?.0))
    }

    /// The records for each row of the table.
    #[allow(clippy::cast_precision_loss, reason = "a mean of counts")]
    pub fn records_per_row(&self) -> Option<f64> {
        (self.rows > 0).then(|| self.status.records as f64 / self.rows as f64)
    }

    /// The bytes that it will take after so many days, if it goes on as it does.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a forecast")]
    pub fn bytes_in(&self, days: u32) -> Option<Bytes> {
        let Bytes(bytes) = self.bytes()?;
        if self.status.records == 0 {
            return None;
        }
        let each = bytes as f64 / self.status.records as f64;
        Some(Bytes(bytes + (each * self.per_day * f64::from(days)) as i64))
    }
}

impl Serialize for TableStats {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let text = |moment: Option<Moment>| moment.map(|moment| moment.to_string());
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("table", &self.status.table.to_string())?;
        map.serialize_entry("history", &self.status.history.to_string())?;
        map.serialize_entry("storage", &self.status.storage)?;
        map.serialize_entry("records", &self.status.records)?;
        map.serialize_entry("rows", &self.rows)?;
        map.serialize_entry("estimated", &self.estimated)?;
        map.serialize_entry("records_per_row", &self.records_per_row())?;
        map.serialize_entry("table_bytes", &self.table_bytes)?;
        map.serialize_entry("index_bytes", &self.index_bytes)?;
        map.serialize_entry("records_per_day", &self.per_day)?;
        map.serialize_entry("oldest", &text(self.oldest))?;
        map.serialize_entry("newest", &text(self.newest))?;
        map.serialize_entry("bytes_in_a_year", &self.bytes_in(365))?;
        map.end()
    }
}

impl Afterimage {
    /// How much the history of every tracked table takes, and how fast it grows. What it costs hardly depends on how much there
    /// is: a database that estimates large tables is believed, and growth is told from the newest records.
    ///
    /// On SQLite and MariaDB who wrote and why stands beside the histories, once for each transaction of all tables; it is not
    /// part of the bytes.
    pub async fn stats(&self) -> Result<Vec<TableStats>> {
        self.reading(async |session| {
            let mut all = Vec::new();
            for entry in catalog::entries(session).await? {
                all.push(of_table(session, &entry).await?);
            }
            Ok(all)
        })
        .await
    }
}

async fn of_table(session: &mut Session, entry: &Entry) -> Result<TableStats> {
    let layout = entry.layout()?.clone();
    let there = introspect::exact(session, &layout.history).await?.is_some();
    let live = introspect::exact(session, &entry.table).await?.is_some();
    let mut known: [Option<i64>; 4] = [None; 4];
    let mut growth: [Option<i64>; 4] = [None; 4];
    if there {
        if live && can_say(session).await? {
            known = ints(session.ask_row(&sizes::sizes(session.dialect(), &layout)).await?);
        }
        let since = Moment::from_micros(Moment::now().as_micros() - DAYS * DAY);
        let sql = sizes::growth(session.dialect(), &layout, since, LOOKED_AT);
        growth = ints(session.ask_row(&sql).await?);
    }
    let [records, rows, table_bytes, index_bytes] = known;
    let large = |estimate: Option<i64>| estimate.filter(|estimate| *estimate >= COUNTED);
    let (records, rows) = (large(records), large(rows));
    let counted = match records {
        Some(records) => records,
        None if there => {
            session.int(&session.dialect().count(&layout.history), &[]).await?.unwrap_or_default()
        }
        None => 0,
    };
    let counted_rows = match rows {
        Some(rows) => rows,
        None if live => session.int(&session.dialect().count(&entry.table), &[]).await?.unwrap_or_default(),
        None => 0,
    };
    let [recent, first, oldest, newest] = growth;
    Ok(TableStats {
        status: crate::status::of_table(session, entry, Some(counted)).await?,
        estimated: records.is_some() || rows.is_some(),
        rows: counted_rows,
        table_bytes: table_bytes.map(Bytes),
        index_bytes: index_bytes.map(Bytes),
        oldest: oldest.map(Moment::from_micros),
        newest: newest.map(Moment::from_micros),
        per_day: per_day(recent.unwrap_or_default(), first, entry.since),
    })
}

/// So many of the newest records, the first of which is of that moment, as records a day.
#[allow(clippy::cast_precision_loss, reason = "a rate")]
fn per_day(recent: i64, first: Option<i64>, since: Moment) -> f64 {
    let now = Moment::now().as_micros();
    let begin = match first {
        Some(first) if recent.unsigned_abs() >= LOOKED_AT => first,
        _ => since.as_micros().max(now - DAYS * DAY),
    };
    // A day at least: what came within an hour says nothing of days.
    recent as f64 / ((now - begin).max(DAY) as f64 / DAY as f64)
}

fn ints(row: Option<Vec<Cell>>) -> [Option<i64>; 4] {
    let row = row.unwrap_or_default();
    [0, 1, 2, 3].map(|at| row.get(at).and_then(Cell::int))
}

/// Whether the database can say what a table takes: an SQLite that was built without it cannot.
async fn can_say(session: &mut Session) -> Result<bool> {
    if session.dialect().database() != afterimage_core::Database::Sqlite {
        return Ok(true);
    }
    let sql = "SELECT count(*) FROM pragma_compile_options WHERE compile_options = 'ENABLE_DBSTAT_VTAB'";
    Ok(session.int(sql, &[]).await?.unwrap_or_default() > 0)
}
