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

pub(crate) async fn run() -> Result<(), Failure> {
    clear(Path::new(FILE)).await?;
    let audit = Afterimage::connect(&format!("sqlite://{FILE}?mode=rwc")).await?;
    let replayed = replay::run(&audit).await?;
    tour::run(&audit, &replayed).await
}

/// Removes what an earlier demo left, and nothing else.
async fn clear(file: &Path) -> Result<(), Failure> {
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
