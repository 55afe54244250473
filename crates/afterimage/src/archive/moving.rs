//! Letting the records go that an archive has.

use std::collections::HashSet;

use afterimage_archive::{Reader, glimpse};
use afterimage_core::record::all_fields;
use afterimage_core::sql::catalog::{self as sql, Course, NewArchive};
use afterimage_core::sql::log::{Position, Source};
use afterimage_core::sql::retention;
use afterimage_core::{Context, Field, Moment, Retention, Value};

use super::manifest::Part;
use super::store::Store;
use super::{Archiving, folder_of};
use crate::batches::Batches;
use crate::catalog::{self, Entry};
use crate::database::Afterimage;
use crate::error::{Error, ErrorKind, Result};
use crate::redact::texts;
use crate::removal::{ARCHIVE, FIRST_BATCH, Held, LARGEST_BATCH, enter, others};
use crate::session::Session;
use crate::shelf::Moved;

/// An archive that is whole, and of which the database does not know yet.
pub(super) struct Moving<'a> {
    pub(super) entry: &'a Entry,
    /// What had been removed of the table when it was read.
    pub(super) seen: &'a str,
    pub(super) manifest: &'a str,
    pub(super) url: &'a str,
    pub(super) sha256: &'a str,
    pub(super) cut: Moment,
}

/// What a batch goes by.
struct Batch<'a> {
    id: i64,
    archive: i64,
    /// Rows of which nothing may go.
    held: &'a [Vec<Value>],
    gone: &'a [Position],
    /// The oldest that are left of their rows.
    left: &'a [Position],
}

impl Afterimage {
    /// Enters an archive into the catalogue: from here on it is asked. Gives its number.
    pub(super) async fn enter_archive(
        &self,
        moving: &Moving<'_>,
        older_than: &Retention,
        context: &Context,
    ) -> Result<i64> {
        self.removing(async |session| {
            catalog::ensure(session).await?;
            let entry = found(session, moving.entry.id).await?;
            if others(&entry, None) != moving.seen || entry.epochs != moving.entry.epochs {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    "its records or its columns were changed while they were read: nothing was moved, run it again",
                ));
            }
            let dialect = session.dialect();
            session.run_all(&dialect.tick()).await?;
            let rule = format!("older than {older_than}, to {}", moving.url);
            let removal = enter(session, entry.layout()?, ARCHIVE, Some(&rule), context, None).await?;
            let entering = NewArchive {
                table: entry.id,
                removal,
                manifest: moving.manifest,
                url: moving.url,
                sha256: moving.sha256,
                cut: moving.cut,
                others: moving.seen,
                course: Course::Leaving,
            };
            session.run(&sql::insert_archive(dialect, &entering)).await?;
            let entered = found(session, entry.id).await?;
            let moved = entered.archives.iter().find(|moved| moved.removal == removal);
            moved.map(|moved| moved.id).ok_or_else(|| gone_meanwhile("its archive"))
        })
        .await
    }

    /// Lets the records go that an archive has, month by month, oldest first along each row. Gives how many went.
    ///
    /// Where others have removed records of the table since it was written, the rest stays for another run: what is here and in an
    /// archive is told once.
    pub(super) async fn move_to(
        &self,
        id: i64,
        archive: i64,
        progress: &mut (dyn FnMut(Archiving) + Send),
    ) -> Result<u64> {
        let entry = self.reading(async |session| found(session, id).await).await?;
        let Some(moved) = entry.archives.iter().find(|moved| moved.id == archive).cloned() else {
            return Ok(0);
        };
        let shelves = self.remembered().shelves;
        let store = shelves.store(&moved.url)?;
        let manifest = shelves.manifest(&store, &moved).await?;
        let mut done =
            Archiving { table: entry.table.clone(), removes: true, done: 0, total: manifest.records };
        let mut batches = Batches::new(self.database(), FIRST_BATCH, LARGEST_BATCH);
        let (mut gone, mut stopped) = (0, false);
        'archive: for part in &manifest.parts {
            loop {
                let held = self.reading(async |session| Held::of(found(session, id).await?.as_ref())).await?;
                let rows = self.to_go(&entry, &store, &moved, part, &held.rows).await?;
                let mut at = 0;
                while at < rows.len() {
                    let size = usize::try_from(batches.size()).unwrap_or(1);
                    let some = &rows[at..rows.len().min(at + size)];
                    let positions: Vec<Position> = some.iter().map(|(position, _)| *position).collect();
                    let all: HashSet<Position> = positions.iter().copied().collect();
                    let left = some.iter().map(|(_, until)| *until).filter(|until| !all.contains(until));
                    let left: Vec<Position> = left.collect();
                    let batch = Batch { id, archive, held: &held.rows, gone: &positions, left: &left };
                    batches.begin().await;
                    let went = self.removing(async |session| batch.let_go(session).await).await?;
                    batches.end();
                    match went {
                        Went::Gone(records) => gone += records,
                        // It is looked for again what may go.
                        Went::Held => break,
                        Went::Others => {
                            stopped = true;
                            break 'archive;
                        }
                    }
                    at += some.len();
                    done.done += some.len() as u64;
                    progress(done.clone());
                }
                if at >= rows.len() {
                    break;
                }
            }
        }
        self.writing(async |session| {
            catalog::ensure(session).await?;
            let now = found(session, id).await?;
            let removal = now.removals.iter().find(|removal| removal.id == moved.removal);
            let untouched = removal.is_none_or(|removal| removal.records == 0);
            let sql = match stopped && untouched {
                // Nothing went by it: it is nothing but a copy.
                true => sql::end_archive(session.dialect(), archive, "others removed records meanwhile"),
                false => sql::turn_archive(session.dialect(), archive, Course::Gone),
            };
            session.run(&sql).await.map(drop)
        })
        .await?;
        Ok(gone)
    }

    /// The records of a file that may go, each with the one that followed it.
    async fn to_go(
        &self,
        entry: &Entry,
        store: &Store,
        moved: &Moved,
        part: &Part,
        held: &[Vec<Value>],
    ) -> Result<Vec<(Position, Position)>> {
        let path = format!("{}/{}", folder_of(&moved.manifest), part.path);
        let shelves = self.remembered().shelves;
        let file = shelves.file(store, &path, part).await?;
        let mut rows = Vec::new();
        if held.is_empty() {
            glimpse(file, false, |glimpse| rows.push((glimpse.at, glimpse.until)))?;
            return Ok(rows);
        }
        let held: Vec<Vec<String>> = held.iter().map(|key| texts(key)).collect();
        let reader = Reader::open(file)?;
        let place = |key: &Field| reader.columns().fields().iter().position(|field| field.bit == key.bit);
        let key: Vec<usize> = entry.layout()?.key_fields().filter_map(place).collect();
        for archived in reader {
            let archived = archived?;
            let header = &archived.record.header;
            let values: Vec<String> = key.iter().map(|n| archived.record.values[*n].to_string()).collect();
            if !held.contains(&values) {
                rows.push(((header.date, header.id), archived.until));
            }
        }
        Ok(rows)
    }
}

/// What became of a batch.
enum Went {
    Gone(u64),
    /// Another row is held by now, or one is not any more.
    Held,
    /// Others have removed records meanwhile, or the archive is not in force any more.
    Others,
}

impl Batch<'_> {
    /// Lets it go, in one transaction with the record of it.
    async fn let_go(&self, session: &mut Session) -> Result<Went> {
        catalog::ensure(session).await?;
        let entry = found(session, self.id).await?;
        let moved =
            entry.archives.iter().find(|moved| moved.id == self.archive && moved.course == Course::Leaving);
        let Some(moved) = moved else { return Ok(Went::Others) };
        let held = Held::of(&entry)?;
        if let Some(why) = held.table {
            return Err(Error::new(ErrorKind::Conflict, format!("nothing more is moved: {why}")));
        }
        if others(&entry, Some(moved.removal)) != moved.others {
            return Ok(Went::Others);
        }
        if held.rows != self.held {
            return Ok(Went::Held);
        }
        let (dialect, layout) = (session.dialect(), entry.layout()?);
        session.run_all(&dialect.tick()).await?;
        session.run(&sql::open_removal(dialect, moved.removal, Some(moved.cut))).await?;
        if entry.sparse() && !self.left.is_empty() {
            let fields = all_fields(&entry.epochs);
            let source = Source { layout, fields: &fields, sparse: true };
            session.run(&retention::fill(dialect, &source, self.left)).await?;
        }
        let gone = session.run(&retention::remove(dialect, layout, self.gone)).await?;
        session.run(&sql::close_removal(dialect, moved.removal, gone)).await?;
        Ok(Went::Gone(gone))
    }
}

/// The table as it is by now.
pub(super) async fn found(session: &mut Session, id: i64) -> Result<std::sync::Arc<Entry>> {
    let all = catalog::entries(session).await?;
    all.iter().find(|entry| entry.id == id).cloned().ok_or_else(|| gone_meanwhile("it"))
}

fn gone_meanwhile(what: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("{what} was untracked meanwhile"))
}
