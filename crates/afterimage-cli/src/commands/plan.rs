//! `plan`.

use afterimage::{Afterimage, PlannedTable};

use super::Done;
use crate::Outcome;
use crate::arguments::Plan;
use crate::config::Config;
use crate::output::{self, Format};

pub(super) async fn run(audit: &Afterimage, config: &Config, request: Plan) -> Done {
    let mut planned: Vec<PlannedTable> = Vec::new();
    for table in &request.tables {
        planned.push(match &request.after {
            Some(statements) => audit.plan_after(table, statements).await?,
            None => audit.plan(table, &request.options.tracking()).await?,
        });
    }
    if config.format == Some(Format::Json) {
        output::json(&planned)?;
        return Ok(Outcome::Done);
    }
    println!("BEGIN;");
    for one in &planned {
        println!("\n-- {}", output::harmless(&one.table.to_string()));
        let statements = if request.down { &one.plan.down } else { &one.plan.up };
        for statement in statements {
            let end = if statement.starts_with("--") { "" } else { ";" };
            println!("{statement}{end}");
        }
    }
    println!("\nCOMMIT;");
    Ok(Outcome::Done)
}
