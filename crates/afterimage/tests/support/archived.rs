//! What an archive in a folder holds, and whether that is what the log says.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use afterimage::{Action, Afterimage, LogQuery, Value};
use afterimage_archive::{Archived, Reader};

pub(crate) fn address(folder: &Path) -> String {
    format!("file://{}", folder.display())
}

/// Its files.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|ending| ending == "parquet") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The manifest of a folder of them that has one.
pub(crate) fn manifest(folder: &Path) -> PathBuf {
    let mut paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.find(|path| path.extension().is_some_and(|ending| ending == "json")).unwrap()
}

/// Its records, by number, each with a reader that knows its columns.
pub(crate) fn read(folder: &Path) -> BTreeMap<i64, (Reader, Archived)> {
    let mut records = BTreeMap::new();
    for path in files(folder) {
        let open = || Reader::open(std::fs::File::open(&path).unwrap()).unwrap();
        for archived in open() {
            let archived = archived.unwrap();
            records.insert(archived.record.header.id, (open(), archived));
        }
    }
    records
}

/// What the log says of each archived record, it says itself: who, why, and of each field what it was and became. Gives how many
/// were compared.
pub(crate) async fn says_what_the_log_says(audit: &Afterimage, folder: &Path) -> Result<usize, String> {
    let log = audit.log(&LogQuery::parse("").unwrap()).await.map_err(|error| error.to_string())?;
    let archived = read(folder);
    let mut compared = 0;
    for entry in log.entries {
        let Some((reader, Archived { record, before, .. })) = archived.get(&entry.header.id) else {
            continue;
        };
        if record.header != entry.header {
            return Err(format!("archived {:?}\nlogged   {:?}", record.header, entry.header));
        }
        let said: BTreeMap<&str, [&Value; 2]> =
            entry.changes.iter().map(|change| (change.field.as_str(), [&change.old, &change.new])).collect();
        let mut told: BTreeMap<&str, [&Value; 2]> = BTreeMap::new();
        for (n, field) in reader.columns().fields().iter().enumerate() {
            let arrived = record.header.old_key.is_some();
            let [old, new] = match record.header.action {
                Action::Delete => [&record.values[n], &Value::Null],
                Action::Create if !arrived => [&Value::Null, &record.values[n]],
                _ => [&before[n], &record.values[n]],
            };
            // A column that there was no more, or not yet, changed nothing that is told.
            let then = entry.changes.iter().any(|change| change.field == field.name);
            let names = afterimage_core::layout::names(&record.mask, field);
            if names
                && !(old == new && (arrived || old.is_null()))
                && (then || !old.is_null() || !new.is_null())
            {
                told.insert(&field.name, [old, new]);
            }
        }
        if told != said {
            return Err(format!("{:?}\narchived {told:?}\nlogged   {said:?}", record.header));
        }
        compared += 1;
    }
    Ok(compared)
}
