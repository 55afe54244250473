//! Archives, as checks of a case that was run.

use std::path::Path;

use afterimage::{Action, Archive, AsOfQuery, Context, Moment, PointInTime, Retention, Value};

use super::prune::names;
use super::run::{Outcome, World};
use crate::archived::{address, read, says_what_the_log_says};

/// Whatever was written, over either storage: each record that another of its row followed is in the archive, and says what the log
/// says of it; and the archived rows that were current at a time are rows of the table as of then.
pub async fn archived(world: &mut World) -> Outcome {
    let PointInTime::At(cut) = world.db.moment().await else { return Ok(()) };
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let archive = Archive::new(address(folder.path()), Retention::until(cut)).tables(names(world));
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
