//! `revert`, `restore` and `resync`.

use std::io::{IsTerminal as _, Write as _};

use afterimage::{
    Afterimage, Conflicts, Context, PointInTime, Restore, Restored, Resync, Revert, RevertTable,
    RevertTransaction, Selector, Stale,
};
use serde_json::json;

use super::{Done, Failure, log};
use crate::Outcome;
use crate::arguments::{self, Who};
use crate::config::Config;
use crate::output::{self, Format, harmless, shown};
use crate::terminal::{Meaning, Page, Waiting, paint};

const REVERTING: &str = "taking it back";

/// What a question or a way back gives, which is said to be waited for if it takes a while.
pub(super) async fn awaited<T>(what: &str, work: impl Future<Output = T>) -> T {
    let _waiting = Waiting::begin(what);
    work.await
}

pub(super) async fn revert(audit: &Afterimage, config: &Config, request: arguments::Revert) -> Done {
    let usage = |message: &str| Err(Failure::Usage(message.to_owned()));
    let context = context(config, &request.who, request.dry_run)?;
    let conflicts = match request.conflicts {
        arguments::OnConflict::Refuse => Conflicts::Refuse,
        arguments::OnConflict::Skip => Conflicts::Skip,
        arguments::OnConflict::Overwrite => Conflicts::Overwrite,
    };
    match (&request.table, &request.key, &request.tx, &request.to) {
        (None, None, Some(tx), None) => {
            let undo = |dry| RevertTransaction::new(tx).conflicts(conflicts).dry_run(dry);
            if !request.dry_run && !request.yes && asks() {
                let would =
                    awaited("what that would change", audit.revert_transaction(&undo(true), &context))
                        .await?;
                if !goes_on(config, &would, conflicts)? {
                    return Ok(Outcome::Done);
                }
            }
            let done = awaited(REVERTING, audit.revert_transaction(&undo(request.dry_run), &context)).await?;
            report(config, &done)
        }
        (Some(table), Some(key), None, Some(to)) if request.filter.is_none() => {
            let mut revert = Revert::new(table, key, Selector::parse(to, &config.tz)?)
                .fields(request.fields.clone())
                .dry_run(request.dry_run);
            if let Some(expect) = &request.expect {
                revert = revert.expect(Selector::parse(expect, &config.tz)?);
            }
            match audit.revert(&revert, &context).await {
                Ok(done) => report(config, &done),
                Err(error) => {
                    if let Some(stale) = error.stale() {
                        three_way(config, stale)?;
                    }
                    Err(error.into())
                }
            }
        }
        (Some(table), None, None, Some(to)) => {
            let back = |dry| {
                let mut back = RevertTable::new(table, PointInTime::parse(to, &config.tz)?)
                    .fields(request.fields.clone())
                    .conflicts(conflicts)
                    .delete_created(request.delete_created)
                    .dry_run(dry);
                if let Some(filter) = &request.filter {
                    back = back.filter(filter);
                }
                Ok::<_, afterimage::Error>(back)
            };
            if !request.dry_run && !request.yes && asks() {
                let would =
                    awaited("what that would change", audit.revert_table(&back(true)?, &context)).await?;
                if !goes_on(config, &would, conflicts)? {
                    return Ok(Outcome::Done);
                }
            }
            let done = awaited(REVERTING, audit.revert_table(&back(request.dry_run)?, &context)).await?;
            report(config, &done)
        }
        (Some(_), _, _, None) => usage("revert to what? Give --to VERSION, or a time"),
        (None, None, None, _) => {
            usage("revert what? Give TABLE KEY --to VERSION, TABLE --to TIME, or --tx ID")
        }
        _ => usage("give either TABLE KEY --to VERSION, or TABLE --to TIME [--where SQL], or --tx ID"),
    }
}

pub(super) async fn restore(audit: &Afterimage, config: &Config, request: arguments::Restore) -> Done {
    let context = context(config, &request.who, request.dry_run)?;
    let mut restore =
        Restore::new(&request.table, &request.key).related(request.related).dry_run(request.dry_run);
    for (column, value) in &request.set {
        restore = restore.set(column, Some(value.clone()));
    }
    for column in &request.set_null {
        restore = restore.set(column, None);
    }
    report(config, &audit.restore(&restore, &context).await?)
}

pub(super) async fn resync(audit: &Afterimage, config: &Config, table: &str, who: &Who) -> Done {
    let context = context(config, who, true)?;
    let done = awaited("its records and its rows", audit.resync(&Resync::new(table), &context)).await?;
    if config.format == Some(Format::Json) {
        output::json(&json!({ "table": table, "records": done.records, "gaps": done.gaps }))?;
    } else {
        println!(
            "{}: {} recorded as it is now, {} closed",
            harmless(table),
            count(done.records, "row"),
            count(done.gaps, "gap")
        );
    }
    Ok(Outcome::Done)
}

pub(super) fn count(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// Who does it and why. Where nobody is named, at least whose session it is.
pub(super) fn context(config: &Config, who: &Who, reason_optional: bool) -> Result<Context, Failure> {
    let mut context = Context::new();
    match who.actor.as_ref().or(config.actor.as_ref()) {
        Some(actor) => context = Context::actor(actor),
        None => {
            if let Ok(user) = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")) {
                context = context.with("os_user", user);
            }
        }
    }
    match &who.reason {
        Some(reason) => Ok(context.reason(reason)),
        None if reason_optional => Ok(context),
        None => {
            Err(Failure::Usage("why? Give --reason; it is recorded with what is written back".to_owned()))
        }
    }
}

/// Whether there is somebody to ask.
fn asks() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

fn goes_on(config: &Config, would: &Restored, conflicts: Conflicts) -> Result<bool, Failure> {
    print(config, would)?;
    if would.records == 0 {
        return Ok(false);
    }
    if !would.conflicts.is_empty() && conflicts == Conflicts::Refuse {
        // It will be refused, and the error says what can be done.
        return Ok(true);
    }
    print!("Go on? [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn report(config: &Config, done: &Restored) -> Done {
    match config.format {
        Some(Format::Json) => {
            let conflicts: Vec<_> = done.conflicts.iter().map(|conflict| &conflict.newest).collect();
            output::json(&json!({
                "dry_run": done.dry_run, "records": done.records, "entries": done.entries,
                "conflicts": conflicts, "stayed": done.stayed,
            }))?;
        }
        _ => print(config, done)?,
    }
    Ok(Outcome::Done)
}

fn print(config: &Config, done: &Restored) -> std::io::Result<()> {
    let mut out = Page::open();
    for entry in &done.entries {
        write!(out, "{}", log::block(entry, &config.tz))?;
    }
    let more = done.records.saturating_sub(done.entries.len() as u64);
    if more > 0 {
        writeln!(out, "… and {} more", count(more, "record"))?;
    }
    for conflict in &done.conflicts {
        let key: Vec<String> =
            conflict.key.iter().map(|(name, value)| format!("{}={}", harmless(name), shown(value))).collect();
        let said = format!(
            "! {} {} changed again on {}",
            harmless(&conflict.table.to_string()),
            key.join(","),
            conflict.newest.header.date.in_zone(&config.tz)
        );
        writeln!(out, "{}", paint(Meaning::Warning, &said))?;
    }
    if done.stayed > 0 {
        let rows = count(done.stayed, "row");
        writeln!(out, "{rows} created since: left as they are (--delete-created would delete them)")?;
    }
    let records = count(done.records, "record");
    match (done.records, done.dry_run) {
        (0, _) => writeln!(out, "nothing to write: it is so already"),
        (_, true) => writeln!(out, "{records} would be written; nothing was"),
        (_, false) => writeln!(out, "{records} written"),
    }?;
    out.flush()
}

/// What the row was when it was looked at, what it was to become, and what it is.
fn three_way(config: &Config, stale: &Stale) -> Result<(), Failure> {
    if config.format == Some(Format::Json) {
        return Ok(output::json(&json!({ "then": stale.then, "target": stale.target, "now": stale.now }))?);
    }
    let value = |row: &[(String, afterimage::Value)], name: &str| {
        row.iter().find(|(known, _)| known == name).map(|(_, value)| shown(value)).unwrap_or_default()
    };
    let rows = stale
        .now
        .row
        .iter()
        .map(|(name, now)| {
            vec![harmless(name), value(&stale.then.row, name), value(&stale.target.row, name), shown(now)]
        })
        .filter(|row| row[1] != row[3] || row[2] != row[3])
        .collect();
    let header = [
        "column".to_owned(),
        format!("then (v{})", stale.then.number),
        format!("target (v{})", stale.target.number),
        format!("now (v{})", stale.now.number),
    ];
    Ok(output::table(&header.each_ref().map(String::as_str), rows)?)
}
