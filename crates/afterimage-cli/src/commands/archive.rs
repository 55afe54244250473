//! `archive`: old records as Parquet files.

use afterimage::{Afterimage, Archive, Archived, Archiving, BroughtBack};

use super::restore::{awaited, context, count};
use super::{Done, Failure};
use crate::Outcome;
use crate::arguments::{self, ArchiveCommand};
use crate::config::Config;
use crate::output::{self, Format, harmless};
use crate::terminal::Bar;

pub(super) async fn run(audit: &Afterimage, config: &Config, request: arguments::Archive) -> Done {
    if let Some(ArchiveCommand::Restore { tables, who }) = &request.command {
        return restore(audit, config, tables, who).await;
    }
    let (Some(older_than), Some(to)) = (request.older_than, request.to) else {
        return Err(Failure::Usage("say --older-than and --to".to_owned()));
    };
    let context = context(config, &request.who, true)?;
    let archive = Archive::new(to, older_than).tables(&request.tables).copy(request.copy);
    let bar = Bar::default();
    let mut show = |progress: Archiving| {
        let what = if progress.removes { "records moved" } else { "records read" };
        bar.show(&progress.table.to_string(), progress.done, Some(progress.total), what);
    };
    let done = audit.archive_with(&archive, &context, &mut show).await?;
    drop(bar);
    if config.format == Some(Format::Json) {
        output::json(&done)?;
        return Ok(Outcome::Done);
    }
    if done.is_empty() {
        println!("nothing is tracked");
    }
    for Archived { table, records, files, bytes, cut, moved, kept_by, .. } in &done {
        let table = harmless(&table.to_string());
        let cut = cut.in_zone(&config.tz);
        if let Some(why) = kept_by {
            println!("{table}: nothing moved: {}", harmless(why));
            continue;
        }
        match records {
            0 => println!("{table}: nothing that is older than {cut} and was followed by then"),
            records => println!(
                "{table}: {} of before {cut} in {}, {}",
                count(*records, "record"),
                count(*files as u64, "file"),
                afterimage::Bytes(i64::try_from(*bytes).unwrap_or(i64::MAX))
            ),
        }
        if *moved > 0 {
            println!("{table}: {} left the database", count(*moved, "record"));
        }
    }
    Ok(Outcome::Done)
}

async fn restore(audit: &Afterimage, config: &Config, tables: &[String], who: &arguments::Who) -> Done {
    let context = context(config, who, true)?;
    let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
    let bar = Bar::default();
    let mut show = |progress: Archiving| {
        bar.show(&progress.table.to_string(), progress.done, Some(progress.total), "records brought back");
    };
    let done = audit.bring_back_with(&tables, &context, &mut show).await?;
    drop(bar);
    if config.format == Some(Format::Json) {
        output::json(&done)?;
        return Ok(Outcome::Done);
    }
    for BroughtBack { table, records, archives, .. } in &done {
        let table = harmless(&table.to_string());
        match archives.as_slice() {
            [] => println!("{table}: nothing of it is in an archive"),
            archives => println!(
                "{table}: {} brought back from {}, which is a copy now",
                count(*records, "record"),
                harmless(&archives.join(" and "))
            ),
        }
    }
    Ok(Outcome::Done)
}

pub(super) async fn verify(config: &Config, url: &str) -> Done {
    let (faults, sound) = awaited("the archive", Afterimage::verify_archive(url)).await?;
    if config.format == Some(Format::Json) {
        output::json(&serde_json::json!({ "sound": sound, "faults": faults }))?;
    } else {
        for fault in &faults {
            println!("{}: {}", harmless(&fault.file), harmless(&fault.fault));
        }
        println!("{} sound, {}", count(sound, "record"), count(faults.len() as u64, "fault"));
    }
    Ok(if faults.is_empty() { Outcome::Done } else { Outcome::Found })
}
