//! Archives: old records in Parquet files, in a folder or a bucket.

mod files;
mod fold;
mod manifest;
mod moving;
mod putting_back;
mod redacting;
pub(crate) mod shelf;
mod store;
mod verify;

use afterimage_core::record::all_fields;
use afterimage_core::sql::Bound;
use afterimage_core::sql::archive::{row_by_row, told_apart};
use afterimage_core::sql::catalog::Course;
use afterimage_core::sql::log::Source;
use afterimage_core::{Context, Moment, Retention, TableName};
use serde::Serialize;

use crate::catalog::{self, Entry};
use crate::database::Afterimage;
use crate::error::{Error, ErrorKind, Result};
use crate::hold::said;
use crate::redact::texts;
use crate::removal::{Held, guarded, others};
use crate::serialized::as_text;
use crate::versions::key_of;
use crate::{as_of, introspect, migrate};
use files::Files;
use fold::Rows;
use manifest::Manifest;
use moving::Moving;
pub use putting_back::BroughtBack;
use store::Store;
pub use verify::ArchiveFault;

/// Which records are to be archived, and where.
///
/// ```
/// # use afterimage::{Afterimage, Archive, Context, Retention, Tracking};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
/// # sqlx::query("CREATE TABLE orders (id INTEGER PRIMARY KEY, total NUMERIC)").execute(&pool).await?;
/// # let audit = Afterimage::from_sqlite(pool.clone());
/// # audit.track("orders", Tracking::new()).await?;
/// # let folder = tempfile::tempdir()?;
/// # let url = format!("file://{}", folder.path().display());
/// let older = Retention::days(365);
/// let done = audit.archive(&Archive::new(&url, older).tables(["orders"]), &Context::actor("keeper")).await?;
/// assert_eq!(done[0].records, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Archive {
    url: String,
    older_than: Retention,
    tables: Vec<String>,
    copy: bool,
}

impl Archive {
    /// What is older than is kept by a rule that speaks of time only, of all tables, to a place: `file:///folder` or
    /// `s3://bucket/folder`.
    pub fn new(url: impl Into<String>, older_than: Retention) -> Self {
        Self { url: url.into(), older_than, tables: Vec::new(), copy: false }
    }

    /// Of these tables only.
    #[must_use]
    pub fn tables<S: Into<String>>(mut self, tables: impl IntoIterator<Item = S>) -> Self {
        self.tables = tables.into_iter().map(Into::into).collect();
        self
    }

    /// Leaves the records in the database, which goes on to answer by itself: the archive is a copy that nothing here asks.
    #[must_use]
    pub fn copy(mut self, yes: bool) -> Self {
        self.copy = yes;
        self
    }
}

/// What was archived of one table.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Archived {
    /// The table.
    #[serde(serialize_with = "as_text")]
    pub table: TableName,
    /// The name of the run, with which its files begin.
    pub run: String,
    /// How many records it wrote.
    pub records: u64,
    /// In how many files.
    pub files: usize,
    /// Of how many bytes.
    pub bytes: u64,
    /// The time of before which it is.
    #[serde(serialize_with = "as_text")]
    pub cut: Moment,
    /// How many records left the database, those too that an interrupted run had left to be moved.
    pub moved: u64,
    /// Why nothing was moved: the table is under a hold.
    pub kept_by: Option<String>,
}

/// How far [`archive_with`](Afterimage::archive_with) has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archiving {
    /// The table.
    pub table: TableName,
    /// Whether records are read by now, or removed.
    pub removes: bool,
    /// Records that were by now.
    pub done: u64,
    /// How many there are to be.
    pub total: u64,
}

impl Afterimage {
    /// Moves old records to Parquet files that other programs read as they are, in folders by table and month. They leave the database
    /// once every file is read back and was compared with what the database said, in batches that each take a moment; from then on
    /// what is asked here is answered from both.
    ///
    /// What is moved is what [`prune`](Self::prune) would remove by the same rule: every record that another of its row followed by the
    /// cut, but for rows that are under a [hold](Self::hold). Each holds the whole row, what its changed fields were before, and when
    /// the next one followed. It is of one moment, which is held open while it is read; memory does not grow with the records, and a
    /// temporary folder takes the files until they are sent.
    ///
    /// Killed at any point nothing is lost, and the next run goes on. A run whose manifest is not there yet leaves files that no
    /// manifest names, which [`verify_archive`](Self::verify_archive) tells.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] for an address that is none, or a rule that does not speak of time; [`ErrorKind::Connection`]
    /// where the place does not answer or has no room; [`ErrorKind::Conflict`] where what was read back is not what was written, where
    /// records of the table were removed or moved meanwhile by another run, or are being brought back; [`ErrorKind::Drifted`] where the
    /// guards of a history are not those of this version: migrate first. No table after the one of which it speaks is archived then.
    pub async fn archive(&self, request: &Archive, context: &Context) -> Result<Vec<Archived>> {
        self.archive_with(request, context, &mut |_| {}).await
    }

    /// The same, and tells `progress` how it gets on.
    pub async fn archive_with(
        &self,
        request: &Archive,
        context: &Context,
        progress: &mut (dyn FnMut(Archiving) + Send),
    ) -> Result<Vec<Archived>> {
        self.sees_all()?;
        let store = Store::open(&request.url)?;
        let cut = request.older_than.cut(Moment::now())?;
        let cut = cut.filter(|cut| cut.versions.is_none()).and_then(|cut| cut.moment).ok_or_else(|| {
            let message = format!("{} does not say from when on records stay", request.older_than);
            Error::new(ErrorKind::InvalidInput, message)
        })?;
        let chosen = self.reading(async |session| match request.tables.is_empty() {
            true => catalog::entries(session).await,
            false => migrate::chosen(session, &request.tables).await,
        });
        let mut done = Vec::new();
        for entry in chosen.await? {
            let one = self.archived(&entry, &store, cut, request, context, progress).await;
            match one.map_err(|error| error.on(&entry.table)) {
                Ok(one) => done.push(one),
                Err(error) => {
                    return Err(done.iter().fold(error, |error, done: &Archived| {
                        error.after(format!("archived {} records of {}", done.records, done.table))
                    }));
                }
            }
        }
        Ok(done)
    }

    async fn archived(
        &self,
        entry: &Entry,
        store: &Store,
        cut: Moment,
        request: &Archive,
        context: &Context,
        progress: &mut (dyn FnMut(Archiving) + Send),
    ) -> Result<Archived> {
        let run = uuid::Uuid::now_v7().simple().to_string();
        let mut archived = Archived {
            table: entry.table.clone(),
            run: run.clone(),
            records: 0,
            files: 0,
            bytes: 0,
            cut,
            moved: 0,
            kept_by: None,
        };
        let mut held = Vec::new();
        if !request.copy {
            let Held { table, rows } = Held::of(entry)?;
            archived.kept_by = table;
            if archived.kept_by.is_some() {
                return Ok(archived);
            }
            held = rows.iter().map(|key| texts(key)).collect();
            self.reading(async |session| guarded(session, entry).await).await?;
            // What an interrupted run has left.
            for moved in entry.archives.iter().filter(|moved| moved.course == Course::Leaving) {
                archived.moved += self.move_to(entry.id, moved.id, progress).await?;
            }
        }
        let folder = store::part(&entry.table.to_string());
        let mut manifest =
            Manifest::new(&run, &entry.table.to_string(), &self.database().to_string(), cut, &entry.epochs);
        manifest.actor = said(context, "actor");
        manifest.reason = said(context, "reason");
        manifest.copy = request.copy;
        let (table, seen, files) = self.written(entry, cut, request.copy, &held, progress).await?;
        archived.table = table;
        let whole = manifest_of(&folder, &run);
        let sent = async || {
            files.send(store, &folder, &mut manifest).await?;
            let json = manifest.to_json()?;
            if manifest.records > 0 {
                store.put(&whole, json.clone()).await?;
            }
            Ok(store::sha256_of(&json))
        };
        let sha256: Result<String> = sent().await;
        archived.records = manifest.records;
        archived.files = manifest.parts.len();
        archived.bytes = manifest.parts.iter().map(|part| part.bytes).sum();
        let entered = match sha256 {
            Ok(_) if request.copy || manifest.records == 0 => return Ok(archived),
            Ok(sha256) => {
                let moved =
                    Moving { entry, seen: &seen, manifest: &whole, url: &store.url, sha256: &sha256, cut };
                self.enter_archive(&moved, &request.older_than, context).await
            }
            Err(error) => Err(error),
        };
        let id = match entered {
            Ok(id) => id,
            Err(error) => {
                let both = |part: &manifest::Part| [part.path.clone(), part.followers.path.clone()];
                let files = manifest.parts.iter().flat_map(both).collect();
                self.forget_unless_known(store, entry, &whole, files).await;
                return Err(error);
            }
        };
        archived.moved += self.move_to(entry.id, id, progress).await?;
        Ok(archived)
    }

    /// Removes a manifest and files of its folder that came to nothing: what nothing knows of is nothing but twice the same to whoever
    /// reads the folder. A commit whose answer was lost may be one all the same.
    async fn forget_unless_known(&self, store: &Store, entry: &Entry, manifest: &str, files: Vec<String>) {
        let known = self.reading(async |session| catalog::manifests(session, entry.id).await).await;
        if known.is_ok_and(|known| !known.iter().any(|path| path == manifest)) {
            let folder = folder_of(manifest);
            let files = files.into_iter().map(|path| format!("{folder}/{path}"));
            store.forget(std::iter::once(manifest.to_owned()).chain(files)).await;
        }
    }

    /// Writes what is to be archived into files beside, but for rows that are held; with them, the table as it is named here, and
    /// what had been removed of it.
    async fn written(
        &self,
        entry: &Entry,
        cut: Moment,
        copy: bool,
        held: &[Vec<String>],
        progress: &mut (dyn FnMut(Archiving) + Send),
    ) -> Result<(TableName, String, Files)> {
        let fields = all_fields(&entry.epochs);
        self.reading(async |session| {
            let table = introspect::seen(session, &entry.table).await?;
            let all = catalog::entries(session).await?;
            let now = all.iter().find(|now| now.id == entry.id);
            let seen = now.map(|now| others(now, None)).unwrap_or_default();
            if !copy && let Some(now) = now {
                settled(now)?;
            }
            let dialect = session.dialect();
            let bound = Bound::Time(cut);
            let unfinished = as_of::unfinished(session, &all, bound).await?;
            let source = Source { layout: entry.layout()?, fields: &fields, sparse: entry.sparse() };
            let total = session.int(&dialect.count(&source.layout.history), &[]).await?;
            let total = total.unwrap_or_default().unsigned_abs();
            let is_held = |archived: &afterimage_archive::Archived| {
                !held.is_empty()
                    && held.contains(&texts(&key_of(source.layout, &fields, &archived.record.values)))
            };
            let apart = match told_apart(dialect, &source) {
                Some(sql) => session.ask_row(&sql).await?.unwrap_or_default(),
                None => Vec::new(),
            };
            let mut apart: Vec<bool> = apart.iter().map(|cell| cell.int() == Some(1)).collect();
            loop {
                let mut files = Files::new(&fields)?;
                let mut rows = Rows::new(entry, &fields, &unfinished)?;
                let mut read = 0_u64;
                let take = |row| {
                    for archived in rows.next(row)? {
                        if !is_held(&archived) {
                            files.push(&archived)?;
                        }
                    }
                    read += 1;
                    if read.is_multiple_of(10_000) {
                        progress(Archiving { table: table.clone(), removes: false, done: read, total });
                    }
                    Ok(true)
                };
                let sql = row_by_row(dialect, &source, bound, &apart);
                match session.ask_each_packed(&sql, take).await {
                    // All that stands in one text is longer than SQLite lets a text be.
                    Err(error) if error.sqlstate() == Some(TOO_BIG) && apart.contains(&false) => {
                        apart.fill(true);
                    }
                    read => {
                        read?;
                        progress(Archiving { table: table.clone(), removes: false, done: total, total });
                        return Ok((table, seen, files));
                    }
                }
            }
        })
        .await
    }
}

/// Refuses where records are here and in an archive: they would be in two.
fn settled(entry: &Entry) -> Result<()> {
    let message = match entry.archives.iter().map(|moved| moved.course).find(|course| *course != Course::Gone)
    {
        None => return Ok(()),
        Some(Course::Returning) => {
            "its records are being brought back, or were until that was interrupted: bring them back first"
        }
        Some(_) => "another run began to move records of it, and has not finished: run it again",
    };
    Err(Error::new(ErrorKind::Conflict, message))
}

/// SQLite's code for a value that is longer than it takes.
const TOO_BIG: &str = "18";

/// The folder of the table that a manifest is of.
fn folder_of(manifest: &str) -> &str {
    manifest.split(&format!("/{MANIFESTS}/")).next().unwrap_or_default()
}

/// What of a table's folder other programs pass over.
const MANIFESTS: &str = "_manifests";

fn manifest_of(folder: &str, run: &str) -> String {
    format!("{folder}/{MANIFESTS}/{run}.json")
}
