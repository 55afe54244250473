//! `migrate`.

use afterimage::Afterimage;

use super::Done;
use crate::Outcome;
use crate::config::Config;
use crate::output::{self, Format};

pub(super) async fn run(
    audit: &Afterimage,
    config: &Config,
    tables: &[String],
    renames: &[(String, String)],
) -> Done {
    let migrated = audit.migrate(tables, renames).await?;
    if config.format == Some(Format::Json) {
        let all: Vec<_> = migrated
            .iter()
            .map(|one| {
                let changes: Vec<String> = one.changes.iter().map(ToString::to_string).collect();
                serde_json::json!({
                    "table": one.table.to_string(), "changes": changes, "gap": one.gap, "resynced": one.resynced,
                })
            })
            .collect();
        output::json(&all)?;
        return Ok(Outcome::Done);
    }
    if migrated.is_empty() {
        println!("everything is up to date");
    }
    for one in &migrated {
        println!("{} is up to date", output::harmless(&one.table.to_string()));
        for change in &one.changes {
            println!("  {}", output::harmless(&change.to_string()));
        }
        if one.gap {
            println!("  its triggers were missing: a gap is recorded, in which changes may be missing");
        }
        if one.resynced > 0 {
            println!("  {} rows were recorded as they are now", one.resynced);
        }
    }
    Ok(Outcome::Done)
}
