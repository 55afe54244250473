//! `doctor`.

use afterimage::{Afterimage, Severity};

use super::Done;
use crate::Outcome;
use crate::config::Config;
use crate::output::{self, Format};

pub(super) async fn run(audit: &Afterimage, config: &Config) -> Done {
    let findings = audit.doctor().await?;
    if config.format == Some(Format::Json) {
        output::json(&findings)?;
    } else if findings.is_empty() {
        println!("nothing found");
    } else {
        let rows = findings
            .iter()
            .map(|one| {
                vec![
                    format!("{:?}", one.severity).to_lowercase(),
                    output::harmless(one.table.as_deref().unwrap_or("")),
                    output::harmless(&one.finding),
                    output::harmless(&one.mend),
                ]
            })
            .collect();
        output::table(&["severity", "table", "finding", "mend"], rows)?;
    }
    let hazard = findings.iter().any(|one| one.severity > Severity::Notice);
    Ok(if hazard { Outcome::Found } else { Outcome::Done })
}
