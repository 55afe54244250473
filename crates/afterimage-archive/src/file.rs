//! A file: records written one after the other, and read again.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use afterimage_core::layout::{self, names};
use afterimage_core::{Action, Header, Moment, Record, Value};
use arrow_array::builder::{
    BooleanBuilder, Int64Builder, ListBuilder, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Int64Array, ListArray, RecordBatch, StringArray, StructArray,
    TimestampMicrosecondArray,
};
use arrow_schema::{DataType, Field as ArrowField, Fields, Schema, SchemaRef, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::ChunkReader;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::columns::{Columns, Values, of_other, other_of, value_at};
use crate::error::{Error, Result};

/// So many records are put into columns at once.
const BATCH: usize = 4096;

/// Or so many bytes of text.
const PENDING: usize = 4 << 20;

/// So many stand in one group of a file, which has statistics of its own.
const GROUP: usize = 128 * 1024;

/// Where a file keeps what its columns are.
const FIELDS: &str = "afterimage.fields";

/// A record as an archive keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct Archived {
    /// The record, which holds the whole row.
    pub record: Record,
    /// Of the fields that it changed, what they were before; of others NULL.
    pub before: Vec<Value>,
    /// Moment and number of the record of the row that followed.
    pub until: (Moment, i64),
    /// When its transaction had begun at the latest.
    pub began: Option<Moment>,
    /// The number of its context.
    pub scope: Option<i64>,
    /// Whether the row went on under another key, which the record of its arrival there tells.
    pub departed: bool,
}

pub(crate) fn moments() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn changed_item() -> Arc<ArrowField> {
    Arc::new(ArrowField::new("item", DataType::Utf8, true))
}

fn of_fields(columns: &Columns) -> Fields {
    let field = |(field, kind): (&afterimage_core::Field, &crate::Kind)| {
        ArrowField::new(&field.history, kind.data_type(), true)
    };
    columns.fields.iter().zip(&columns.kinds).map(field).collect()
}

fn schema(columns: &Columns) -> SchemaRef {
    let text = |name: &str, nullable| ArrowField::new(name, DataType::Utf8, nullable);
    let mut fields = vec![
        ArrowField::new("history_id", DataType::Int64, false),
        ArrowField::new("history_date", moments(), false),
        ArrowField::new("history_until", moments(), false),
        ArrowField::new("history_until_id", DataType::Int64, false),
        text("history_type", false),
        text("history_user", true),
        text("history_change_reason", true),
        text("history_context", true),
        text("history_tx", true),
        ArrowField::new("history_tx_began", moments(), true),
        ArrowField::new("history_scope", DataType::Int64, true),
        text("history_old_key", true),
        ArrowField::new("history_departed", DataType::Boolean, false),
        ArrowField::new("history_changed", DataType::List(changed_item()), false),
    ];
    let own = of_fields(columns);
    fields.extend(own.iter().map(|field| field.as_ref().clone()));
    fields.push(ArrowField::new("history_before", DataType::Struct(own), false));
    fields.push(text("history_other", true));
    Arc::new(Schema::new(fields))
}

/// What columns cannot hold as it is.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Other {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    now: Vec<(u16, Box<RawValue>)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    before: Vec<(u16, Box<RawValue>)>,
}

/// Writes a file.
pub struct Writer<W: Write + Send> {
    columns: Columns,
    schema: SchemaRef,
    batch: Batch,
    writer: ArrowWriter<W>,
}

impl<W: Write + Send> std::fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("columns", &self.columns).finish_non_exhaustive()
    }
}

impl<W: Write + Send> Writer<W> {
    /// Begins a file with these columns.
    pub fn new(columns: Columns, into: W) -> Result<Self> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
            .set_max_row_group_row_count(Some(GROUP))
            .set_key_value_metadata(Some(vec![KeyValue::new(
                FIELDS.to_owned(),
                serde_json::to_string(&columns.fields)?,
            )]))
            .build();
        let schema = schema(&columns);
        let writer = ArrowWriter::try_new(into, Arc::clone(&schema), Some(properties))?;
        Ok(Self { batch: Batch::new(&columns), columns, schema, writer })
    }

    /// Takes the next record, whose values are those of the columns' fields.
    pub fn push(&mut self, archived: &Archived) -> Result<()> {
        self.batch.push(&self.columns, archived)?;
        if self.batch.rows == BATCH || self.batch.bytes > PENDING {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if self.batch.rows > 0 {
            let batch = self.batch.finish(&self.columns, &self.schema)?;
            self.writer.write(&batch)?;
        }
        Ok(())
    }

    /// Writes out what it holds in memory, as a group of its own.
    pub fn write_out(&mut self) -> Result<()> {
        self.flush()?;
        Ok(self.writer.flush()?)
    }

    /// How many bytes of memory it takes by now.
    pub fn memory(&self) -> usize {
        self.writer.memory_size() + self.batch.bytes
    }

    /// Ends the file, and gives what it was written into.
    pub fn finish(mut self) -> Result<W> {
        self.flush()?;
        Ok(self.writer.into_inner()?)
    }
}

/// Records that wait to be written together.
struct Batch {
    rows: usize,
    bytes: usize,
    ids: Int64Builder,
    dates: TimestampMicrosecondBuilder,
    until: TimestampMicrosecondBuilder,
    until_ids: Int64Builder,
    texts: [StringBuilder; 6],
    began: TimestampMicrosecondBuilder,
    scopes: Int64Builder,
    departed: BooleanBuilder,
    changed: ListBuilder<StringBuilder>,
    now: Vec<Values>,
    before: Vec<Values>,
    other: StringBuilder,
}

fn length(value: &Value) -> usize {
    match value {
        Value::Number(text) | Value::Text(text) | Value::Json(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        _ => 0,
    }
}

fn moment_builder() -> TimestampMicrosecondBuilder {
    TimestampMicrosecondBuilder::new().with_data_type(moments())
}

impl Batch {
    fn new(columns: &Columns) -> Self {
        let values = || {
            let each = columns.fields.iter().zip(&columns.kinds);
            each.map(|(field, kind)| Values::new(*kind, field)).collect()
        };
        Self {
            rows: 0,
            bytes: 0,
            ids: Int64Builder::new(),
            dates: moment_builder(),
            until: moment_builder(),
            until_ids: Int64Builder::new(),
            texts: Default::default(),
            began: moment_builder(),
            scopes: Int64Builder::new(),
            departed: BooleanBuilder::new(),
            changed: ListBuilder::new(StringBuilder::new()),
            now: values(),
            before: values(),
            other: StringBuilder::new(),
        }
    }

    fn push(&mut self, columns: &Columns, archived: &Archived) -> Result<()> {
        let Archived { record, before, until, began, scope, departed } = archived;
        let header = &record.header;
        if record.values.len() != columns.fields.len() || before.len() != columns.fields.len() {
            return Err(Error::new("a record has other fields than its file"));
        }
        self.rows += 1;
        self.bytes += record.values.iter().chain(before).map(length).sum::<usize>();
        self.bytes += header.context.as_ref().map_or(0, String::len);
        self.ids.append_value(header.id);
        self.dates.append_value(header.date.as_micros());
        self.until.append_value(until.0.as_micros());
        self.until_ids.append_value(until.1);
        let texts = [
            Some(header.action.sign()),
            header.user.as_deref(),
            header.reason.as_deref(),
            header.context.as_deref(),
            header.tx.as_deref(),
            header.old_key.as_deref(),
        ];
        for (builder, text) in self.texts.iter_mut().zip(texts) {
            builder.append_option(text);
        }
        self.began.append_option(began.map(Moment::as_micros));
        self.scopes.append_option(*scope);
        self.departed.append_value(*departed);
        for field in columns.fields.iter().filter(|field| names(&record.mask, field)) {
            self.changed.values().append_value(&field.history);
        }
        self.changed.append(true);
        let mut other = Other::default();
        for (n, field) in columns.fields.iter().enumerate() {
            if !self.now[n].push(&record.values[n]) {
                other.now.push((field.bit, other_of(&record.values[n])?));
            }
            if !self.before[n].push(&before[n]) {
                other.before.push((field.bit, other_of(&before[n])?));
            }
        }
        if other.now.is_empty() && other.before.is_empty() {
            self.other.append_null();
        } else {
            self.other.append_value(serde_json::to_string(&other)?);
        }
        Ok(())
    }

    fn finish(&mut self, columns: &Columns, schema: &SchemaRef) -> Result<RecordBatch> {
        self.rows = 0;
        self.bytes = 0;
        let [kind, user, reason, context, tx, old_key] =
            self.texts.each_mut().map(|builder| -> ArrayRef { Arc::new(builder.finish()) });
        let mut arrays: Vec<ArrayRef> = vec![
            Arc::new(self.ids.finish()),
            Arc::new(self.dates.finish()),
            Arc::new(self.until.finish()),
            Arc::new(self.until_ids.finish()),
            kind,
            user,
            reason,
            context,
            tx,
            Arc::new(self.began.finish()),
            Arc::new(self.scopes.finish()),
            old_key,
            Arc::new(self.departed.finish()),
            Arc::new(self.changed.finish()),
        ];
        arrays.extend(self.now.iter_mut().map(Values::finish));
        let before: Vec<ArrayRef> = self.before.iter_mut().map(Values::finish).collect();
        arrays.push(Arc::new(StructArray::try_new(of_fields(columns), before, None)?));
        arrays.push(Arc::new(self.other.finish()));
        Ok(RecordBatch::try_new(Arc::clone(schema), arrays)?)
    }
}

type Builder<R> = ParquetRecordBatchReaderBuilder<R>;

/// Reads the records of a file, in the order in which they were written.
pub struct Reader {
    columns: Columns,
    batches: ParquetRecordBatchReader,
    loaded: Option<Loaded>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("columns", &self.columns).finish_non_exhaustive()
    }
}

impl Reader {
    /// Opens a file.
    pub fn open<R: ChunkReader + 'static>(file: R) -> Result<Self> {
        Self::opened(file, |builder| builder)
    }

    /// Opens a file to read some of its records: those at these places, counted from 0, in ascending order.
    pub fn of_places<R: ChunkReader + 'static>(file: R, places: &[usize]) -> Result<Self> {
        let selection = |builder: Builder<R>| {
            let total = usize::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or_default();
            let known = places.iter().filter(|place| **place < total).map(|place| *place..place + 1);
            builder.with_row_selection(RowSelection::from_consecutive_ranges(known, total))
        };
        Self::opened(file, selection)
    }

    fn opened<R: ChunkReader + 'static>(
        file: R,
        prepared: impl FnOnce(Builder<R>) -> Builder<R>,
    ) -> Result<Self> {
        let builder = sound(|| Builder::try_new(file))??;
        let mut entries = builder.metadata().file_metadata().key_value_metadata().into_iter().flatten();
        let fields = entries.find(|entry| entry.key == FIELDS).and_then(|entry| entry.value.clone());
        let fields = fields
            .ok_or_else(|| Error::new("it is no file of an archive: it does not say what its columns are"))?;
        let columns = Columns::new(serde_json::from_str(&fields)?);
        let batches = prepared(builder.with_batch_size(BATCH)).build()?;
        Ok(Self { columns, batches, loaded: None })
    }

    /// Its columns.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    fn read(&mut self) -> Result<Option<Archived>> {
        loop {
            match &mut self.loaded {
                Some(loaded) if loaded.next < loaded.ids.len() => {
                    return loaded.record(&self.columns).map(Some);
                }
                _ => match sound(|| self.batches.next())? {
                    Some(batch) => self.loaded = Some(Loaded::new(&self.columns, &batch?)?),
                    None => return Ok(None),
                },
            }
        }
    }
}

impl Iterator for Reader {
    type Item = Result<Archived>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// The libraries give up where some kinds of damage meet them; a file is somebody's input.
pub(crate) fn sound<T>(read: impl FnOnce() -> T) -> Result<T> {
    catch_unwind(AssertUnwindSafe(read))
        .map_err(|_| Error::new("the file is no sound Parquet: it was damaged"))
}

/// The columns of some records, found once.
struct Loaded {
    next: usize,
    ids: Int64Array,
    dates: TimestampMicrosecondArray,
    until: TimestampMicrosecondArray,
    until_ids: Int64Array,
    kinds: StringArray,
    users: StringArray,
    reasons: StringArray,
    contexts: StringArray,
    transactions: StringArray,
    began: TimestampMicrosecondArray,
    scopes: Int64Array,
    departed: BooleanArray,
    old_keys: StringArray,
    changed: ListArray,
    /// The names in it, of all records.
    names: StringArray,
    now: Vec<ArrayRef>,
    before: Vec<ArrayRef>,
    other: StringArray,
}

pub(crate) fn found<'b>(column: Option<&'b ArrayRef>, name: &str, of: &DataType) -> Result<&'b ArrayRef> {
    let column = column.ok_or_else(|| Error::new(format!("the column {name:?} is missing")))?;
    match column.data_type() {
        found if found == of => Ok(column),
        found => Err(Error::new(format!("the column {name:?} holds {found}, where {of} should be"))),
    }
}

impl Loaded {
    fn new(columns: &Columns, batch: &RecordBatch) -> Result<Self> {
        let column = |name: &str, of: &DataType| found(batch.column_by_name(name), name, of);
        let ints =
            |name: &str| Ok::<_, Error>(column(name, &DataType::Int64)?.as_primitive::<Int64Type>().clone());
        let dates = |name: &str| {
            Ok::<_, Error>(column(name, &moments())?.as_primitive::<TimestampMicrosecondType>().clone())
        };
        let texts = |name: &str| Ok::<_, Error>(column(name, &DataType::Utf8)?.as_string::<i32>().clone());
        let own = of_fields(columns);
        let changed = column("history_changed", &DataType::List(changed_item()))?.as_list::<i32>();
        let before = column("history_before", &DataType::Struct(own.clone()))?.as_struct();
        let each = |of: &dyn Fn(&str) -> Option<ArrayRef>| -> Result<Vec<ArrayRef>> {
            own.iter()
                .map(|field| Ok(found(of(field.name()).as_ref(), field.name(), field.data_type())?.clone()))
                .collect()
        };
        Ok(Self {
            next: 0,
            ids: ints("history_id")?,
            dates: dates("history_date")?,
            until: dates("history_until")?,
            until_ids: ints("history_until_id")?,
            kinds: texts("history_type")?,
            users: texts("history_user")?,
            reasons: texts("history_change_reason")?,
            contexts: texts("history_context")?,
            transactions: texts("history_tx")?,
            began: dates("history_tx_began")?,
            scopes: ints("history_scope")?,
            departed: column("history_departed", &DataType::Boolean)?.as_boolean().clone(),
            old_keys: texts("history_old_key")?,
            changed: changed.clone(),
            names: changed.values().as_string::<i32>().clone(),
            now: each(&|name| batch.column_by_name(name).cloned())?,
            before: each(&|name| before.column_by_name(name).cloned())?,
            other: texts("history_other")?,
        })
    }

    fn record(&mut self, columns: &Columns) -> Result<Archived> {
        let row = self.next;
        self.next += 1;
        let text = |column: &StringArray| (!column.is_null(row)).then(|| column.value(row).to_owned());
        let other: Other = match self.other.is_null(row) {
            false => serde_json::from_str(self.other.value(row))?,
            true => Other::default(),
        };
        let value = |column: &ArrayRef, n: usize, other: &[(u16, Box<RawValue>)]| {
            let field = &columns.fields[n];
            match other.iter().find(|(bit, _)| *bit == field.bit) {
                Some((_, json)) => of_other(json),
                None => Ok(value_at(column, columns.kinds[n], field, row)),
            }
        };
        let place = |row: usize| usize::try_from(self.changed.value_offsets()[row]).unwrap_or_default();
        let is_changed = |name: &str| (place(row)..place(row + 1)).any(|at| self.names.value(at) == name);
        let mut mask = vec![1 << layout::FULL_BIT];
        let mut values = Vec::with_capacity(columns.fields.len());
        let mut before = Vec::with_capacity(columns.fields.len());
        for (n, field) in columns.fields.iter().enumerate() {
            values.push(value(&self.now[n], n, &other.now)?);
            before.push(value(&self.before[n], n, &other.before)?);
            if is_changed(&field.history) {
                let (word, bit) = field.word_and_bit();
                if mask.len() <= word {
                    mask.resize(word + 1, 0);
                }
                mask[word] |= bit;
            }
        }
        let action = Action::from_sign(self.kinds.value(row))
            .ok_or_else(|| Error::new(format!("a record is of the type {:?}", self.kinds.value(row))))?;
        let header = Header {
            id: self.ids.value(row),
            date: Moment::from_micros(self.dates.value(row)),
            action,
            user: text(&self.users),
            reason: text(&self.reasons),
            context: text(&self.contexts),
            tx: text(&self.transactions),
            old_key: text(&self.old_keys),
            archive: None,
        };
        Ok(Archived {
            record: Record { header, mask, values },
            before,
            until: (Moment::from_micros(self.until.value(row)), self.until_ids.value(row)),
            began: (!self.began.is_null(row)).then(|| Moment::from_micros(self.began.value(row))),
            scope: (!self.scopes.is_null(row)).then(|| self.scopes.value(row)),
            departed: self.departed.value(row),
        })
    }
}
