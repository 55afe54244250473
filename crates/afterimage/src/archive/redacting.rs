//! Redacting what is in archives.

use std::io::BufWriter;

use afterimage_archive::{Reader, Writer};
use afterimage_core::Moment;
use afterimage_core::sql::catalog::{self as sql, NewArchive};

use super::manifest::{Manifest, Part};
use super::moving::found;
use super::shelf::{Shelves, redact};
use super::store::{Store, sha256_of};
use super::{folder_of, manifest_of};
use crate::catalog::{self, Entry};
use crate::database::Afterimage;
use crate::error::{Error, ErrorKind, Result};
use crate::session::Session;
use crate::shelf::Moved;

/// Why an archive is not asked any more in whose place another is.
const REDACTED: &str = "redacted";

impl Afterimage {
    /// Writes those files of a table's archives anew that hold what was redacted of it, and removes what they were. Gives how many
    /// records were.
    ///
    /// Killed at any point, nothing is lost, and the next redaction of the table goes on.
    pub(crate) async fn redact_archives(&self, table: &str) -> Result<u64> {
        let entry = self.reading(async |session| catalog::find(session, table).await).await?;
        let mut records = 0;
        for moved in entry.archives.iter().filter(|_| !entry.redactions.is_empty()) {
            records += self.redact_archive(&entry, moved).await.map_err(|error| error.on(&entry.table))?;
        }
        self.forget_redacted(&entry).await.map_err(|error| error.on(&entry.table))?;
        Ok(records)
    }

    async fn redact_archive(&self, entry: &Entry, moved: &Moved) -> Result<u64> {
        let shelves = self.remembered().shelves;
        let store = shelves.store(&moved.url)?;
        let folder = folder_of(&moved.manifest);
        let manifest = shelves.manifest(&store, moved).await?;
        let run = uuid::Uuid::now_v7().simple().to_string();
        let mut anew = Manifest {
            run: run.clone(),
            written: Moment::now(),
            parts: Vec::new(),
            ..Manifest::clone(&manifest)
        };
        let mut records = 0;
        for (n, part) in manifest.parts.iter().enumerate() {
            let month = part.path.split('/').next().unwrap_or_default();
            let path = format!("{month}/{run}-{n}.parquet");
            match rewritten(entry, &store, &shelves, folder, part, &path).await? {
                Some((touched, part)) => {
                    records += touched;
                    anew.parts.push(part);
                }
                None => anew.parts.push(part.clone()),
            }
        }
        if records == 0 {
            return Ok(0);
        }
        let json = anew.to_json()?;
        let path = manifest_of(folder, &run);
        store.put(&path, json.clone()).await?;
        let sha256 = sha256_of(&json);
        let exchanged = self.writing(async |session| {
            catalog::ensure(session).await?;
            let now = found(session, entry.id).await?;
            if !now.archives.contains(moved) || now.redactions != entry.redactions {
                let message = "its archives were changed meanwhile: run it again";
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            let dialect = session.dialect();
            let entering = NewArchive {
                table: entry.id,
                removal: moved.removal,
                manifest: &path,
                url: &moved.url,
                sha256: &sha256,
                cut: moved.cut,
                others: &moved.others,
                course: moved.course,
            };
            session.run(&sql::insert_archive(dialect, &entering)).await?;
            session.run(&sql::end_archive(dialect, moved.id, REDACTED)).await.map(drop)
        });
        match exchanged.await {
            Ok(()) => Ok(records),
            Err(error) => {
                let own = anew.parts.iter().filter(|part| part.path.contains(&run));
                let files = own.map(|part| part.path.clone()).collect();
                self.forget_unless_known(&store, entry, &path, files).await;
                Err(error)
            }
        }
    }

    /// Removes the files in whose place others are.
    async fn forget_redacted(&self, entry: &Entry) -> Result<()> {
        let replaced = self.reading(async |session| replaced(session, entry).await).await?;
        let now = self.reading(async |session| found(session, entry.id).await).await?;
        let shelves = self.remembered().shelves;
        for moved in replaced {
            let store = shelves.store(&moved.url)?;
            let bytes = match store.get(&moved.manifest).await {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let old = Manifest::read(&bytes, &moved.manifest)?;
            let mut stays: Vec<String> = Vec::new();
            for moved in &now.archives {
                let store = shelves.store(&moved.url)?;
                let manifest = shelves.manifest(&store, moved).await?;
                stays.extend(manifest.parts.iter().map(|part| part.sha256.clone()));
            }
            let folder = folder_of(&moved.manifest);
            let goes = old.parts.iter().filter(|part| !stays.contains(&part.sha256));
            for part in goes {
                shelves.forget(&part.sha256);
                store.remove(&format!("{folder}/{}", part.path)).await?;
            }
            store.remove(&moved.manifest).await?;
        }
        Ok(())
    }
}

/// The archives of a table in whose place others are.
async fn replaced(session: &mut Session, entry: &Entry) -> Result<Vec<Moved>> {
    let sql = sql::ended_archives(session.dialect(), entry.id, REDACTED);
    Ok(session.ask(&sql).await?.iter().map(|row| Moved::read(row).1).collect())
}

/// A file, written anew where something of it was redacted: in how many records, and what it is now.
async fn rewritten(
    entry: &Entry,
    store: &Store,
    shelves: &Shelves,
    folder: &str,
    part: &Part,
    path: &str,
) -> Result<Option<(u64, Part)>> {
    let reader = Reader::open(shelves.file(store, &format!("{folder}/{}", part.path), part).await?)?;
    let columns = reader.columns().clone();
    let mut writer = Writer::new(columns.clone(), BufWriter::new(tempfile::tempfile()?))?;
    let mut touched = 0;
    for archived in reader {
        let mut archived = archived?;
        touched += u64::from(redact(entry, columns.fields(), &mut archived.record, &mut archived.before));
        writer.push(&archived)?;
    }
    if touched == 0 {
        return Ok(None);
    }
    let mut file = writer.finish()?.into_inner().map_err(|error| error.into_error())?;
    let whole = format!("{folder}/{path}");
    let (bytes, sha256) = store.send(&whole, &mut file).await?;
    let (fetched, fetched_bytes, fetched_sha256) = store.fetch(&whole).await?;
    let records =
        Reader::open(fetched)?.map(|record| record.map(|_| 1)).sum::<afterimage_archive::Result<u64>>()?;
    if (fetched_bytes, &fetched_sha256, records) != (bytes, &sha256, part.records) {
        let message = format!("what was read back of {whole} is not what was written");
        return Err(Error::new(ErrorKind::Conflict, message));
    }
    Ok(Some((touched, Part { path: path.to_owned(), bytes, sha256, ..part.clone() })))
}
