//! The files of one run: one or more for each month, written beside and then sent.

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher};
use std::io::{BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};

use afterimage_archive::{Archived, Columns, Reader, Writer, write_numbers};
use afterimage_core::{Field, Moment, Period, Value, layout};

use super::MANIFESTS;
use super::manifest::{Beside, Manifest, Part};
use super::store::{Store, sha256_of};
use crate::error::{Error, ErrorKind, Result};

/// So many records are in one file at most.
const LARGEST: u64 = 1_000_000;

/// So much memory all that are being written take together at most.
const MEMORY: usize = 192 << 20;

/// How many records are written between two looks at the memory.
const LOOK: u64 = 10_000;

/// A file that is being written, or was.
struct Piece {
    writer: Option<Writer<BufWriter<File>>>,
    file: Option<File>,
    month: Moment,
    records: u64,
    from: Moment,
    to: Moment,
    until: Moment,
    digest: Digest,
    /// The numbers of the records that followed, eight bytes each.
    followers: BufWriter<File>,
}

/// All of a run's files.
pub(super) struct Files {
    columns: Columns,
    /// Those that are being written, by month.
    open: BTreeMap<Moment, Piece>,
    closed: Vec<Piece>,
    written: u64,
    longest_transaction: i64,
}

impl Files {
    pub(super) fn new(fields: &[Field]) -> Result<Self> {
        let columns = Columns::new(fields.to_vec());
        Ok(Self { columns, open: BTreeMap::new(), closed: Vec::new(), written: 0, longest_transaction: 0 })
    }

    pub(super) fn push(&mut self, archived: &Archived) -> Result<()> {
        let date = archived.record.header.date;
        let month = Period::Month.begin(date)?;
        if !self.open.contains_key(&month) {
            self.open.insert(month, Piece::begin(&self.columns, month, date)?);
        }
        let Some(piece) = self.open.get_mut(&month) else { return Ok(()) };
        piece.push(archived)?;
        if piece.records == LARGEST {
            self.close(month)?;
        }
        if let Some(began) = archived.began {
            self.longest_transaction = self.longest_transaction.max(date.as_micros() - began.as_micros());
        }
        self.written += 1;
        if self.written.is_multiple_of(LOOK) {
            self.bound_memory()?;
        }
        Ok(())
    }

    fn close(&mut self, month: Moment) -> Result<()> {
        if let Some(mut piece) = self.open.remove(&month) {
            piece.end()?;
            self.closed.push(piece);
        }
        Ok(())
    }

    /// Where many months are open at once, those that take most are written out.
    fn bound_memory(&mut self) -> Result<()> {
        while self.open.values().map(Piece::memory).sum::<usize>() > MEMORY {
            let largest = self.open.iter().max_by_key(|(_, piece)| piece.memory());
            let Some(month) = largest.map(|(month, _)| *month) else { return Ok(()) };
            if let Some(piece) = self.open.get_mut(&month) {
                piece.write_out()?;
            }
        }
        Ok(())
    }

    /// Sends every file, and reads it back.
    pub(super) async fn send(mut self, store: &Store, folder: &str, manifest: &mut Manifest) -> Result<()> {
        for month in self.open.keys().copied().collect::<Vec<_>>() {
            self.close(month)?;
        }
        self.closed.sort_by_key(|piece| piece.month);
        manifest.longest_transaction = self.longest_transaction;
        for (n, piece) in self.closed.iter_mut().enumerate() {
            let Some(file) = piece.file.as_mut() else { continue };
            let month = piece.month.formatted("UTC", "%Y-%m");
            let path = format!("month={month}/{}-{n}.parquet", manifest.run);
            let whole = format!("{folder}/{path}");
            let (bytes, sha256) = store.send(&whole, file).await?;
            let beside = format!("{MANIFESTS}/{}-{n}.followers", manifest.run);
            let numbers = write_numbers(piece.followers()?)?;
            let followers =
                Beside { path: beside.clone(), bytes: numbers.len() as u64, sha256: sha256_of(&numbers) };
            // From here on it is there, whatever comes of it.
            manifest.records += piece.records;
            manifest.parts.push(Part {
                path,
                records: piece.records,
                bytes,
                sha256: sha256.clone(),
                from: piece.from,
                to: piece.to,
                until: piece.until,
                followers,
            });
            store.put(&format!("{folder}/{beside}"), numbers).await?;
            let (fetched, fetched_bytes, fetched_sha256) = store.fetch(&whole).await?;
            if (fetched_bytes, &fetched_sha256) != (bytes, &sha256)
                || digest_of(fetched)? != piece.digest.finish()
            {
                let message = format!("what was read back of {whole} is not what was written");
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            // Nothing is kept of what was sent.
            piece.file = None;
        }
        Ok(())
    }
}

impl Piece {
    fn begin(columns: &Columns, month: Moment, date: Moment) -> Result<Self> {
        let writer = Writer::new(columns.clone(), BufWriter::new(tempfile::tempfile()?))?;
        let digest = Digest::default();
        Ok(Self {
            writer: Some(writer),
            file: None,
            month,
            records: 0,
            from: date,
            to: date,
            until: date,
            digest,
            followers: BufWriter::new(tempfile::tempfile()?),
        })
    }

    /// The numbers of the records that followed its own.
    fn followers(&mut self) -> Result<Vec<i64>> {
        self.followers.flush()?;
        let file = self.followers.get_mut();
        file.seek(SeekFrom::Start(0))?;
        let mut file = BufReader::new(file);
        let mut numbers = Vec::new();
        for _ in 0..self.records {
            let mut number = [0; 8];
            file.read_exact(&mut number)?;
            numbers.push(i64::from_le_bytes(number));
        }
        Ok(numbers)
    }

    fn push(&mut self, archived: &Archived) -> Result<()> {
        let date = archived.record.header.date;
        (self.from, self.to) = (self.from.min(date), self.to.max(date));
        self.until = self.until.max(archived.until.0);
        self.records += 1;
        self.followers.write_all(&archived.until.1.to_le_bytes())?;
        digest(archived, &mut self.digest);
        match &mut self.writer {
            Some(writer) => Ok(writer.push(archived)?),
            None => Ok(()),
        }
    }

    fn memory(&self) -> usize {
        self.writer.as_ref().map_or(0, Writer::memory)
    }

    fn write_out(&mut self) -> Result<()> {
        match &mut self.writer {
            Some(writer) => Ok(writer.write_out()?),
            None => Ok(()),
        }
    }

    fn end(&mut self) -> Result<()> {
        if let Some(writer) = self.writer.take() {
            let file = writer.finish()?.into_inner().map_err(|error| error.into_error())?;
            self.file = Some(file);
        }
        Ok(())
    }
}

/// A hasher that is given much at once: little by little takes it twice the time.
#[derive(Default)]
struct Digest {
    hasher: DefaultHasher,
    pending: Vec<u8>,
}

impl Hasher for Digest {
    fn write(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
        if self.pending.len() > 4096 {
            self.hasher.write(&self.pending);
            self.pending.clear();
        }
    }

    fn finish(&self) -> u64 {
        let mut all = self.hasher.clone();
        all.write(&self.pending);
        all.finish()
    }
}

/// Takes everything in of what an archive keeps of a record: two of the same digest are the same.
fn digest(archived: &Archived, into: &mut Digest) {
    let Archived { record, before, until, began, scope, departed } = archived;
    let header = &record.header;
    (header.id, header.date, header.action).hash(into);
    (&header.user, &header.reason, &header.context, &header.tx, &header.old_key).hash(into);
    (until, began, scope, departed).hash(into);
    // That a record holds the whole row is not said of each; what it says changed is, by whichever word.
    for (n, word) in record.mask.iter().enumerate() {
        let changed = if n == 0 { *word & !(1 << layout::FULL_BIT) } else { *word };
        if changed != 0 {
            (n, changed).hash(into);
        }
    }
    for value in record.values.iter().chain(before) {
        std::mem::discriminant(value).hash(into);
        match value {
            Value::Number(text) | Value::Text(text) | Value::Json(text) => text.hash(into),
            Value::Bytes(bytes) => bytes.hash(into),
            Value::Bool(truth) => truth.hash(into),
            Value::Null | Value::Masked | Value::Redacted | Value::Unknown => {}
        }
    }
}

/// That of all records of a file.
fn digest_of(file: File) -> Result<u64> {
    let mut all = Digest::default();
    for archived in Reader::open(file)? {
        digest(&archived?, &mut all);
    }
    Ok(all.finish())
}
