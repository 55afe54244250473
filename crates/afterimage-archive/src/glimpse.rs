//! What is seen of the records of a file in passing: enough to tell which of them to read.

use afterimage_core::{Action, Moment};
use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{Array as _, RecordBatch, StringArray};
use arrow_schema::DataType;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::ChunkReader;

use crate::error::Result;
use crate::file::{found, moments, sound};

/// So many are looked at together.
const BATCH: usize = 16 * 1024;

const PLACES: [&str; 7] = [
    "history_id",
    "history_date",
    "history_until",
    "history_until_id",
    "history_tx_began",
    "history_type",
    "history_departed",
];

const HEADERS: [&str; 5] =
    ["history_user", "history_change_reason", "history_context", "history_tx", "history_old_key"];

/// A record of a file, without its values.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Glimpse<'b> {
    /// Its place in the file, counted from 0.
    pub place: usize,
    /// Its moment and number.
    pub at: (Moment, i64),
    /// Those of the record of the row that followed.
    pub until: (Moment, i64),
    /// When its transaction had begun at the latest.
    pub began: Option<Moment>,
    /// What happened.
    pub action: Option<Action>,
    /// Whether the row went on under another key.
    pub departed: bool,
    /// The actor; nothing where headers are not looked at, as for all that follows.
    pub user: Option<&'b str>,
    /// The reason.
    pub reason: Option<&'b str>,
    /// The rest of the context, as JSON.
    pub context: Option<&'b str>,
    /// The transaction.
    pub tx: Option<&'b str>,
    /// The key the row had before.
    pub old_key: Option<&'b str>,
}

/// Shows the records of a file, in the order in which they were written: where they stand, and with `headers` what is said of them.
pub fn glimpse<R: ChunkReader + 'static>(
    file: R,
    headers: bool,
    mut see: impl FnMut(&Glimpse<'_>),
) -> Result<()> {
    let builder = sound(|| ParquetRecordBatchReaderBuilder::try_new(file))??;
    let wanted = PLACES.iter().chain(if headers { HEADERS.as_slice() } else { &[] });
    let mask = ProjectionMask::columns(builder.parquet_schema(), wanted.copied());
    let mut batches = builder.with_projection(mask).with_batch_size(BATCH).build()?;
    let mut place = 0;
    while let Some(batch) = sound(|| batches.next())? {
        let batch = batch?;
        shown(&batch, headers, &mut place, &mut see)?;
    }
    Ok(())
}

fn shown(
    batch: &RecordBatch,
    headers: bool,
    place: &mut usize,
    see: &mut impl FnMut(&Glimpse<'_>),
) -> Result<()> {
    let column = |name: &str, of: &DataType| found(batch.column_by_name(name), name, of);
    let [ids, until_ids] = ["history_id", "history_until_id"].map(|name| column(name, &DataType::Int64));
    let (ids, until_ids) = (ids?.as_primitive::<Int64Type>(), until_ids?.as_primitive::<Int64Type>());
    let [dates, until, began] =
        ["history_date", "history_until", "history_tx_began"].map(|name| column(name, &moments()));
    let dates = dates?.as_primitive::<TimestampMicrosecondType>();
    let until = until?.as_primitive::<TimestampMicrosecondType>();
    let began = began?.as_primitive::<TimestampMicrosecondType>();
    let texts: Vec<&StringArray> = match headers {
        true => HEADERS
            .iter()
            .map(|name| Ok(column(name, &DataType::Utf8)?.as_string::<i32>()))
            .collect::<Result<_>>()?,
        false => Vec::new(),
    };
    let departed = column("history_departed", &DataType::Boolean)?.as_boolean();
    let kinds = column("history_type", &DataType::Utf8)?.as_string::<i32>();
    for row in 0..batch.num_rows() {
        let text =
            |n: usize| texts.get(n).filter(|column| !column.is_null(row)).map(|column| column.value(row));
        see(&Glimpse {
            place: *place,
            at: (Moment::from_micros(dates.value(row)), ids.value(row)),
            until: (Moment::from_micros(until.value(row)), until_ids.value(row)),
            began: (!began.is_null(row)).then(|| Moment::from_micros(began.value(row))),
            action: Action::from_sign(kinds.value(row)),
            departed: departed.value(row),
            user: text(0),
            reason: text(1),
            context: text(2),
            tx: text(3),
            old_key: text(4),
        });
        *place += 1;
    }
    Ok(())
}
