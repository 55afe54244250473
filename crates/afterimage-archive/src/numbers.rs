//! Numbers of records, as a file that is small and quickly read.

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::WriterProperties;
use parquet::file::reader::ChunkReader;

use crate::error::Result;
use crate::file::{found, sound};

const COLUMN: &str = "history_until_id";

/// Writes numbers, which come back sorted.
pub fn write_numbers(mut numbers: Vec<i64>) -> Result<Vec<u8>> {
    numbers.sort_unstable();
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_dictionary_enabled(false)
        .set_encoding(Encoding::DELTA_BINARY_PACKED)
        .build();
    let schema = Arc::new(Schema::new(vec![Field::new(COLUMN, DataType::Int64, false)]));
    let mut writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&schema), Some(properties))?;
    writer.write(&RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(numbers))])?)?;
    Ok(writer.into_inner()?)
}

/// Reads them.
pub fn read_numbers<R: ChunkReader + 'static>(file: R) -> Result<Vec<i64>> {
    let mut batches = sound(|| ParquetRecordBatchReaderBuilder::try_new(file))??.build()?;
    let mut numbers = Vec::new();
    while let Some(batch) = sound(|| batches.next())? {
        let batch = batch?;
        let column = found(batch.column_by_name(COLUMN), COLUMN, &DataType::Int64)?;
        numbers.extend_from_slice(column.as_primitive::<Int64Type>().values());
    }
    Ok(numbers)
}
