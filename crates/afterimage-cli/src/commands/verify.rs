//! `verify`.

use afterimage::Afterimage;

use super::Done;
use crate::Outcome;
use crate::config::Config;
use crate::output::{self, Format};
use crate::terminal::Waiting;

pub(super) async fn run(audit: &Afterimage, config: &Config, tables: &[String]) -> Done {
    let waiting = Waiting::begin("");
    let verdicts = audit
        .verify_with(tables, |next| {
            let table = output::harmless(&next.table.to_string());
            waiting
                .goes_on(format!("table {} of {}, {table}: its records and its rows", next.number, next.of));
        })
        .await?;
    drop(waiting);
    if config.format == Some(Format::Json) {
        output::json(&verdicts)?;
    } else {
        for one in &verdicts {
            let table = output::harmless(&one.table.to_string());
            let word = if one.is_whole() { "whole" } else { "NOT whole" };
            let differences = match one.difference_count {
                1 => "1 difference".to_owned(),
                count => format!("{count} differences"),
            };
            println!("{table}: {word}; {} records, {} rows, {differences}", one.records, one.rows);
            for difference in &one.differences {
                println!("  {}", output::harmless(&difference.to_string()));
            }
            let more = one.difference_count - one.differences.len() as u64;
            if more > 0 {
                println!("  and {more} more");
            }
            for fault in &one.faults {
                println!("  {}", output::harmless(&fault.to_string()));
            }
            for gap in &one.gaps {
                let to = gap.to.map_or_else(|| "now".to_owned(), |to| to.in_zone(&config.tz));
                println!("  gap from {} to {to}: {}", gap.from.in_zone(&config.tz), gap.cause);
            }
        }
    }
    let whole = verdicts.iter().all(afterimage::Verdict::is_whole);
    Ok(if whole { Outcome::Done } else { Outcome::Found })
}
