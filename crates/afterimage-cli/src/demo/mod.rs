//! `demo`: thirteen years of real edits, replayed, and a tour of what can be asked.

mod replay;
mod tour;

use std::path::Path;

use afterimage::Afterimage;

use crate::commands::Failure;

/// The file the demo leaves in the current folder.
pub(crate) const FILE: &str = "afterimage-demo.db";

/// The table in it.
const TABLE: &str = "country_codes";

/// Replays and asks, in a file of its own or in the database at `into`; gives the database.
pub(crate) async fn run(into: Option<&str>) -> Result<Afterimage, Failure> {
    let audit = match into {
        None => {
            clear_file(Path::new(FILE)).await?;
            Afterimage::connect(&format!("sqlite://{FILE}?mode=rwc")).await?
        }
        Some(url) => {
            let audit = Afterimage::connect(url).await?;
            clear_table(&audit).await?;
            audit
        }
    };
    let place = into.map_or_else(|| FILE.to_owned(), afterimage::redacted);
    let replayed = replay::run(&audit).await?;
    tour::run(&audit, &place, &replayed).await?;
    Ok(audit)
}

/// Removes what an earlier demo left, and nothing else.
async fn clear_file(file: &Path) -> Result<(), Failure> {
    if !file.exists() {
        return Ok(());
    }
    let ours = match Afterimage::connect(FILE).await {
        Ok(audit) => audit.tracking(TABLE).await.is_ok_and(|tracking| tracking.is_some()),
        Err(_) => false,
    };
    if !ours && std::fs::metadata(file)?.len() > 0 {
        return Err(Failure::Usage(format!(
            "{FILE} is here already, and no demo left it: move it away first"
        )));
    }
    for suffix in ["", "-wal", "-shm", "-journal"] {
        match std::fs::remove_file(format!("{FILE}{suffix}")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

/// Drops the table that an earlier demo left in a database. Where anything else is tracked, the demo keeps out of it.
async fn clear_table(audit: &Afterimage) -> Result<(), Failure> {
    let tracked = audit.status().await?;
    if let Some(other) = tracked.iter().find(|table| table.table.name != TABLE) {
        return Err(Failure::Usage(format!(
            "{} is tracked in that database: give the demo one of its own",
            other.table
        )));
    }
    if tracked.is_empty() {
        return Ok(());
    }
    if !replay::left(audit).await? {
        return Err(Failure::Usage(format!("{TABLE} is tracked in that database, and no demo left it")));
    }
    audit.untrack(TABLE, true).await?;
    Ok(audit.execute(&format!("DROP TABLE {TABLE}")).await?)
}
