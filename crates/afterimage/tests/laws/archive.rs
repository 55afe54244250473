//! Archives, as checks of a case that was run.

use std::path::Path;

use afterimage::{
    Action, Archive, AsOfQuery, Context, ErrorKind, LogEntry, LogQuery, Moment, PointInTime, Retention,
    Value, Version,
};

use super::check;
use super::prune::names;
use super::run::{Outcome, World};
use super::schema::TRACKED;
use crate::archived::{address, read, says_what_the_log_says};

/// Whatever was written, over either storage: each record that another of its row followed is in the archive, and says what the log
/// says of it; and the archived rows that were current at a time are rows of the table as of then.
pub async fn archived(world: &mut World) -> Outcome {
    let PointInTime::At(cut) = world.db.moment().await else { return Ok(()) };
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let archive = Archive::new(address(folder.path()), Retention::until(cut)).copy(true).tables(names(world));
    let done = world
        .db
        .audit
        .archive(&archive, &Context::actor("keeper"))
        .await
        .map_err(|error| error.to_string())?;
    says_what_the_log_says(&world.db.audit, folder.path()).await?;
    let (faults, sound) =
        afterimage::Afterimage::verify_archive(&address(folder.path())).await.or_else(|error| match error
            .kind()
        {
            afterimage::ErrorKind::NotFound => Ok((Vec::new(), 0)),
            _ => Err(error.to_string()),
        })?;
    let records: u64 = done.iter().map(|one| one.records).sum();
    if !faults.is_empty() || sound != records {
        return Err(format!("of {records} records {sound} are sound: {faults:?}"));
    }
    // Each was current until the next of its row began, and no other of its row in between.
    let all = read(folder.path());
    for (id, (_, archived)) in &all {
        let from = (archived.record.header.date, *id);
        if archived.until <= from || archived.until.0 > Moment::from_micros(cut.as_micros()) {
            return Err(format!("record {id} of {:?} was current until {:?}", from.0, archived.until));
        }
    }
    for (at, _) in world.moments().into_iter().rev().take(4) {
        let at = Moment::from_micros(at);
        for table in names(world) {
            holds(world, &table, at, folder.path()).await?;
        }
    }
    Ok(())
}

/// The archived rows that were current at a time are rows of the table as of then.
async fn holds(world: &World, table: &str, at: Moment, archive: &Path) -> Outcome {
    let query = AsOfQuery::new(table, PointInTime::At(at));
    let state = world.db.audit.as_of(&query).await.map_err(|error| error.to_string())?;
    let own = world.db.audit.tracked_table(table).await.map_err(|error| error.to_string())?.table;
    let ends = own.name;
    let folders = std::fs::read_dir(archive).map_err(|error| error.to_string())?;
    let folders = folders.flatten().map(|entry| entry.path());
    let of_table = folders.filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name == ends || name.ends_with(&format!(".{ends}"))
    });
    for (id, (reader, archived)) in of_table.flat_map(|folder| read(&folder)) {
        let header = &archived.record.header;
        if header.date > at || archived.until.0 <= at || header.action == Action::Delete {
            continue;
        }
        // By the names that the columns had then, as far as these are those of now.
        let known: Vec<(usize, usize)> = reader
            .columns()
            .fields()
            .iter()
            .enumerate()
            .filter_map(|(n, field)| Some((n, state.columns.iter().position(|name| *name == field.name)?)))
            .collect();
        let is = |row: &Vec<Value>| known.iter().all(|(n, at)| row[*at] == archived.record.values[*n]);
        if !state.rows.iter().any(is) {
            return Err(format!(
                "{table} as of {at} has not what record {id} says: {:?}\n{state:?}",
                archived.record.values
            ));
        }
    }
    Ok(())
}

/// What is asked of a history, whatever of it is where.
#[derive(Debug, PartialEq)]
struct Answers {
    log: Vec<LogEntry>,
    /// Of each table, by key.
    histories: Vec<(String, String, Vec<Version>)>,
    /// Of each table, as of the end of each transaction.
    after: Vec<(String, String, Vec<Vec<Value>>)>,
}

/// Of so many transactions it is asked what there was after them.
const TRANSACTIONS: usize = 4;

async fn answers(world: &mut World) -> Outcome<Answers> {
    let failed = |error: afterimage::Error| error.to_string();
    let mut log = world.db.audit.log(&LogQuery::parse("").map_err(failed)?).await.map_err(failed)?.entries;
    for entry in &mut log {
        entry.header.archive = None;
    }
    let mut histories = Vec::new();
    for table in 0..world.schema.tables.len() {
        for twin in TRACKED {
            let name = world.schema.name(table, twin);
            for key in check::lives(world, table, twin).await?.into_keys() {
                let mut versions = world.db.audit.history(&name, &key).await.map_err(failed)?;
                for version in &mut versions {
                    version.header.archive = None;
                }
                histories.push((name.clone(), key, versions));
            }
        }
    }
    let mut transactions: Vec<&String> = log.iter().filter_map(|entry| entry.header.tx.as_ref()).collect();
    transactions.dedup();
    let every = transactions.len().div_ceil(TRANSACTIONS).max(1);
    let mut after = Vec::new();
    for tx in transactions.into_iter().step_by(every) {
        for name in names(world) {
            let query = AsOfQuery::new(&name, PointInTime::After(tx.clone()));
            let rows = match world.db.audit.as_of(&query).await {
                Ok(state) => state.rows,
                Err(error) if error.kind() == ErrorKind::Unknowable => Vec::new(),
                Err(error) => return Err(error.to_string()),
            };
            after.push((name, tx.clone(), rows));
        }
    }
    Ok(Answers { log, histories, after })
}

/// Wherever records are: whatever was moved to archives, by however many runs, every question has the answer that it had.
pub async fn moved(world: &mut World) -> Outcome {
    let mut dates: Vec<i64> =
        world.commits.iter().flat_map(|commit| &commit.added).map(|record| record.date).collect();
    dates.sort_unstable();
    let PointInTime::At(end) = world.db.moment().await else { return Ok(()) };
    let mut cuts: Vec<Moment> = [dates.len() / 3, dates.len() * 2 / 3]
        .iter()
        .filter_map(|n| dates.get(*n))
        .map(|at| Moment::from_micros(*at))
        .collect();
    cuts.push(end);
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let before = answers(world).await?;
    let rows = before.histories.len() as u64;
    let there = super::model::records(&mut world.db, &world.schema).await.len() as u64;
    for (n, cut) in cuts.into_iter().enumerate() {
        let archive = Archive::new(address(folder.path()), Retention::until(cut)).tables(names(world));
        let done = world.db.audit.archive(&archive, &Context::actor("keeper")).await;
        for one in done.map_err(|error| error.to_string())? {
            if one.moved != one.records {
                return Err(format!("not all that was archived left the database: {one:?}"));
            }
        }
        let now = answers(world).await?;
        differ("the log", &before.log, &now.log)?;
        differ("a history", &before.histories, &now.histories)?;
        differ("what was after a transaction", &before.after, &now.after)?;
        check::whole(world).await?;
        for (at, expected) in world.moments() {
            check::shows(world, at, expected, &format!("after what was before {cut} was moved")).await?;
        }
        // Some records are here, and some there.
        if n == 1 {
            check::undivided(world).await?;
        }
    }
    let left = super::model::records(&mut world.db, &world.schema).await.len() as u64;
    if left > rows {
        return Err(format!("of {rows} rows {left} records are left"));
    }
    // And brought back, they are where they were, and the archive is not asked any more.
    let names = names(world);
    let tables: Vec<&str> = names.iter().map(String::as_str).collect();
    let back = world.db.audit.bring_back(&tables, &Context::actor("keeper")).await;
    back.map_err(|error| error.to_string())?;
    folder.close().map_err(|error| error.to_string())?;
    let now = answers(world).await?;
    differ("the log, brought back,", &before.log, &now.log)?;
    differ("a history, brought back,", &before.histories, &now.histories)?;
    differ("what was after a transaction, brought back,", &before.after, &now.after)?;
    let records = super::model::records(&mut world.db, &world.schema).await.len() as u64;
    if records != there {
        return Err(format!("of {there} records {records} are back"));
    }
    check::whole(world).await
}

fn differ<T: PartialEq + std::fmt::Debug>(what: &str, before: &[T], now: &[T]) -> Outcome {
    if before.len() != now.len() {
        let new: Vec<&T> = now.iter().filter(|one| !before.contains(one)).collect();
        let gone: Vec<&T> = before.iter().filter(|one| !now.contains(one)).collect();
        return Err(format!("{what}: {new:?} were not there, and {gone:?} are not"));
    }
    match before.iter().zip(now).find(|(before, now)| before != now) {
        Some((before, now)) => Err(format!("{what} was\n{before:?}\nand is\n{now:?}")),
        None => Ok(()),
    }
}
