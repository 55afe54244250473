//! Whether an archive holds what it says.

use std::collections::BTreeSet;

use afterimage_archive::Reader;
use serde::Serialize;

use super::MANIFESTS;
use super::manifest::Manifest;
use super::store::{self, Store};
use crate::database::Afterimage;
use crate::error::{Error, ErrorKind, Result};

/// What is not as it should be with a file of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ArchiveFault {
    /// The file, from the archive's own folder on.
    pub file: String,
    /// What is wrong with it.
    pub fault: String,
}

impl Afterimage {
    /// Reads all of an archive: every file that its manifests name, compared with the SHA-256 that they say, and to its last record.
    /// Gives what is wrong, and how many records are sound. It needs no database.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] where there is nothing; [`ErrorKind::Connection`] where the place does not answer.
    pub async fn verify_archive(url: &str) -> Result<(Vec<ArchiveFault>, u64)> {
        let store = Store::open(url)?;
        let mut faults = Vec::new();
        let mut sound = 0;
        let there: BTreeSet<String> = store.list("").await?.into_iter().collect();
        let mut named = BTreeSet::new();
        let in_folder = format!("/{MANIFESTS}/");
        if there.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, format!("there is no archive at {}", store.url)));
        }
        let manifests = |path: &&String| path.contains(&in_folder) && path.ends_with(".json");
        for path in there.iter().filter(manifests) {
            let mut fault =
                |file: &str, fault: String| faults.push(ArchiveFault { file: file.to_owned(), fault });
            let manifest = match Manifest::read(&store.get(path).await?, path) {
                Ok(manifest) => manifest,
                Err(error) => {
                    fault(path, error.to_string());
                    continue;
                }
            };
            let folder = path.split(&in_folder).next().unwrap_or_default();
            for part in &manifest.parts {
                let file = format!("{folder}/{}", part.path);
                named.insert(file.clone());
                if !there.contains(&file) {
                    fault(&file, "it is missing".to_owned());
                    continue;
                }
                let (fetched, bytes, sha256) = store.fetch(&file).await?;
                if (bytes, &sha256) != (part.bytes, &part.sha256) {
                    fault(
                        &file,
                        format!(
                            "it is not what was written: {bytes} bytes where {} were, of another SHA-256",
                            part.bytes
                        ),
                    );
                    continue;
                }
                let beside = format!("{folder}/{}", part.followers.path);
                let as_written = match there.contains(&beside) {
                    true => store::sha256_of(&store.get(&beside).await?) == part.followers.sha256,
                    false => false,
                };
                if !as_written {
                    fault(&beside, "it is missing, or not what was written".to_owned());
                }
                match Reader::open(fetched).and_then(|records| {
                    records.map(|record| record.map(|_| 1)).sum::<afterimage_archive::Result<u64>>()
                }) {
                    Ok(records) if records == part.records => sound += records,
                    Ok(records) => {
                        fault(&file, format!("it holds {records} records, and should hold {}", part.records))
                    }
                    Err(error) => fault(&file, error.to_string()),
                }
            }
        }
        for path in there.iter().filter(|path| path.ends_with(".parquet") && !named.contains(*path)) {
            let fault = "no manifest names it: the run that wrote it did not end, and other programs read it all the same".to_owned();
            faults.push(ArchiveFault { file: path.clone(), fault });
        }
        Ok((faults, sound))
    }
}
