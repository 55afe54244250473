//! `prune`, `partition`, `dedupe`, `baseline`, `hold` and `removals`.

use afterimage::{
    Afterimage, Dedupe, Deduped, Hold, Moment, Partition, Partitioned, Prune, Pruned, Pruning, Redact,
    Removal, Retention, TableName,
};

use super::restore::{awaited, context, count};
use super::{Done, Failure};
use crate::Outcome;
use crate::arguments;
use crate::config::Config;
use crate::output::{self, Format, harmless};
use crate::terminal::Bar;

pub(super) async fn prune(audit: &Afterimage, config: &Config, request: arguments::Prune) -> Done {
    let context = context(config, &request.who, true)?;
    let mut done = Vec::new();
    for (tables, keep) in asked(audit, config, &request).await? {
        let mut prune = Prune::new().tables(tables).dry_run(request.dry_run).exact(request.exact);
        if let Some(keep) = keep {
            prune = prune.keep(keep);
        }
        let bar = Bar::default();
        let mut show = |progress: Pruning| {
            bar.show(&progress.table.to_string(), progress.done, Some(progress.total), "records");
        };
        done.extend(audit.prune_with(&prune, &context, &mut show).await?);
    }
    if config.format == Some(Format::Json) {
        output::json(&done)?;
        return Ok(Outcome::Done);
    }
    if done.is_empty() {
        println!("no table says how long its records are kept: all of them are");
    }
    for one in &done {
        println!("{}", pruned(config, one, request.dry_run));
    }
    Ok(Outcome::Done)
}

/// What is to be pruned by which rule: the settings are heard before the tables themselves.
async fn asked(
    audit: &Afterimage,
    config: &Config,
    request: &arguments::Prune,
) -> Result<Vec<(Vec<String>, Option<Retention>)>, Failure> {
    if request.keep.is_some() && request.tables.is_empty() {
        return Err(Failure::Usage("of which tables? Name them with --keep".to_owned()));
    }
    if request.keep.is_some() || config.retention.is_empty() {
        return Ok(vec![(request.tables.clone(), request.keep.clone())]);
    }
    // However a table is written, there or here, it is the same one.
    let mut settings: Vec<(String, Retention)> = Vec::new();
    for (name, keep) in &config.retention {
        let table = audit.tracked_table(name).await?.table.to_string();
        if settings.iter().any(|(known, _)| *known == table) {
            return Err(Failure::Usage(format!("[retention] names the table {table} twice")));
        }
        settings.push((table, keep.clone()));
    }
    let mut tables = Vec::new();
    for name in &request.tables {
        tables.push(audit.tracked_table(name).await?.table.to_string());
    }
    if tables.is_empty() {
        let own = audit.status().await?.into_iter().filter(|one| one.tracking.retention.is_some());
        tables = own.map(|one| one.table.to_string()).collect();
        let others: Vec<String> = settings
            .iter()
            .map(|(table, _)| table)
            .filter(|table| !tables.contains(table))
            .cloned()
            .collect();
        tables.extend(others);
    }
    let of_settings =
        |table: &String| settings.iter().find(|(known, _)| known == table).map(|(_, keep)| keep.clone());
    Ok(tables.into_iter().map(|table| (vec![table.clone()], of_settings(&table))).collect())
}

fn pruned(config: &Config, one: &Pruned, dry_run: bool) -> String {
    let table = harmless(&one.table.to_string());
    if let Some(why) = &one.kept_by {
        return format!("{table}: nothing goes: {}", harmless(why));
    }
    let held = match one.rows_held {
        0 => String::new(),
        rows => format!(" ({} under a hold)", count(rows as u64, "row")),
    };
    let records = count(one.records, "record");
    if one.records == 0 {
        return format!("{table}: nothing to prune, keeping {}{held}", one.keep);
    }
    let until = one.until.map(|until| format!(", whole from {} on", until.in_zone(&config.tz)));
    let verb = if dry_run { "would go" } else { "gone" };
    format!("{table}: {records} {verb}, keeping {}{}{held}", one.keep, until.unwrap_or_default())
}

pub(super) async fn partition(audit: &Afterimage, config: &Config, request: &arguments::Partition) -> Done {
    let mut partition = Partition::new().tables(&request.tables);
    if let Some(by) = request.by {
        partition = partition.by(by);
    }
    if let Some(ahead) = request.ahead {
        partition = partition.ahead(ahead);
    }
    let done = awaited("partitions", audit.partition(&partition)).await?;
    if config.format == Some(Format::Json) {
        output::json(&done)?;
        return Ok(Outcome::Done);
    }
    if done.is_empty() {
        println!("no history is in partitions: name the tables that are to have theirs so");
    }
    for Partitioned { table, by, begun, made, partitions, until, .. } in &done {
        let until = until.map(|until| format!(", ready until {}", until.in_zone(&config.tz)));
        let made = match begun {
            true => "the first of which holds what was there before".to_owned(),
            false => format!("{} made now", made.len()),
        };
        println!(
            "{}: {} by {by}, {made}{}",
            harmless(&table.to_string()),
            count(*partitions as u64, "partition"),
            until.unwrap_or_default()
        );
    }
    Ok(Outcome::Done)
}

pub(super) async fn dedupe(audit: &Afterimage, config: &Config, request: arguments::Dedupe) -> Done {
    let context = context(config, &request.who, true)?;
    let mut dedupe = Dedupe::new().tables(&request.tables).ignore(&request.ignore).dry_run(request.dry_run);
    if let Some(since) = &request.since {
        dedupe =
            dedupe.since(Moment::parse(since, Moment::now(), &config.tz).map_err(afterimage::Error::from)?);
    }
    let done = awaited("records that changed nothing", audit.dedupe(&dedupe, &context)).await?;
    if config.format == Some(Format::Json) {
        output::json(&done)?;
        return Ok(Outcome::Done);
    }
    let verb = if request.dry_run { "would go" } else { "gone" };
    for Deduped { table, records, kept_by, .. } in &done {
        let table = harmless(&table.to_string());
        match kept_by {
            Some(why) => println!("{table}: nothing goes: {}", harmless(why)),
            None => println!("{table}: {} {verb}", count(*records, "record")),
        }
    }
    Ok(Outcome::Done)
}

pub(super) async fn baseline(
    audit: &Afterimage,
    config: &Config,
    tables: &[String],
    who: &arguments::Who,
) -> Done {
    let context = context(config, who, true)?;
    // One name that is wrong, and nothing is written.
    for table in tables {
        audit.tracked_table(table).await?;
    }
    let mut done = Vec::new();
    for table in tables {
        done.push((table, awaited("rows without a record", audit.baseline(table, &context)).await?));
    }
    if config.format == Some(Format::Json) {
        let all: Vec<_> = done
            .iter()
            .map(|(table, records)| serde_json::json!({ "table": table, "records": records }))
            .collect();
        output::json(&all)?;
        return Ok(Outcome::Done);
    }
    for (table, records) in done {
        let table = harmless(table);
        match records {
            0 => println!("{table}: every row has a record"),
            records => println!("{table}: baseline of {}", count(records, "row")),
        }
    }
    Ok(Outcome::Done)
}

pub(super) async fn redact(audit: &Afterimage, config: &Config, request: arguments::Redact) -> Done {
    let context = context(config, &request.who, request.dry_run)?;
    let redact = Redact::new(&request.table, &request.key)
        .fields(&request.fields)
        .every_life(request.every_life)
        .dry_run(request.dry_run);
    let done = awaited("its records", audit.redact(&redact, &context)).await?;
    if config.format == Some(Format::Json) {
        output::json(&done)?;
        return Ok(Outcome::Done);
    }
    let row = format!("{} {}", harmless(&done.table.to_string()), harmless(&request.key));
    let verb = if request.dry_run { "would be redacted" } else { "redacted" };
    match done.records {
        0 => println!("{row}: nothing to redact"),
        records => println!("{row}: {verb} in {}", count(records, "record")),
    }
    if done.other_lives > 0 {
        let rows = count(done.other_lives as u64, "other row");
        println!("{rows} had that key before, and went or left it: --every-life for these too");
    }
    if !done.still_there.is_empty() {
        let fields: Vec<String> = done.still_there.iter().map(|field| harmless(field)).collect();
        println!(
            "the row itself still has a value in {}, which stays in its newest records: change it there first",
            fields.join(", ")
        );
    }
    Ok(Outcome::Done)
}

pub(super) async fn hold(audit: &Afterimage, config: &Config, request: arguments::Hold) -> Done {
    let context = context(config, &request.who, true)?;
    if let Some(id) = request.lift {
        audit.lift_hold(id, &context).await?;
        println!("hold {id} is lifted");
        return Ok(Outcome::Done);
    }
    let Some(table) = &request.table else { return holds(audit, config).await };
    let id = audit.hold(table, request.key.as_deref(), &context).await?;
    if config.format == Some(Format::Json) {
        output::json(&serde_json::json!({ "id": id }))?;
    } else {
        let row = request.key.as_deref().map(|key| format!(" {}", harmless(key))).unwrap_or_default();
        println!("{}{row} is held; lift it with: afterimage hold --lift {id}", harmless(table));
    }
    Ok(Outcome::Done)
}

async fn holds(audit: &Afterimage, config: &Config) -> Done {
    let holds = audit.holds().await?;
    let columns = ["id", "table", "key", "reason", "by", "since", "lifted", "lifted_by"];
    let time = |moment: Moment| moment.in_zone(&config.tz);
    let row = |(table, hold): &(TableName, Hold)| {
        let text = |text: &Option<String>| text.as_deref().map(harmless).unwrap_or_default();
        vec![
            hold.id.to_string(),
            harmless(&table.to_string()),
            text(&hold.key),
            harmless(&hold.reason),
            text(&hold.placed_by),
            time(hold.placed),
            hold.lifted.map(time).unwrap_or_default(),
            text(&hold.lifted_by),
        ]
    };
    match config.format {
        Some(Format::Json) => {
            let all: Vec<_> = holds
                .iter()
                .map(|(table, hold)| {
                    let mut one = serde_json::to_value(hold).unwrap_or_default();
                    one["table"] = table.to_string().into();
                    one
                })
                .collect();
            output::json(&all)?;
        }
        Some(Format::Csv) => csv(&columns, holds.iter().map(row))?,
        _ if holds.is_empty() => println!("nothing is held"),
        _ => output::table(&columns, holds.iter().map(row).collect())?,
    }
    Ok(Outcome::Done)
}

pub(super) async fn removals(audit: &Afterimage, config: &Config) -> Done {
    let removals = audit.removals().await?;
    let columns = ["id", "table", "what", "records", "whole_from", "rule", "by", "reason", "ended"];
    let row = |one: &Removal| {
        let text = |text: &Option<String>| text.as_deref().map(harmless).unwrap_or_default();
        vec![
            one.id.to_string(),
            harmless(&one.table),
            one.what.clone(),
            one.records.to_string(),
            one.until.map(|until| until.in_zone(&config.tz)).unwrap_or_default(),
            text(&one.rule),
            text(&one.recorded_by),
            text(&one.reason),
            one.ended.in_zone(&config.tz),
        ]
    };
    match config.format {
        Some(Format::Json) => output::json(&removals)?,
        Some(Format::Csv) => csv(&columns, removals.iter().map(row))?,
        _ if removals.is_empty() => println!("nothing was ever removed"),
        _ => output::table(&columns, removals.iter().map(row).collect())?,
    }
    Ok(Outcome::Done)
}

fn csv(columns: &[&str], rows: impl Iterator<Item = Vec<String>>) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    output::csv_line(&mut out, columns)?;
    for row in rows {
        output::csv_line(&mut out, row)?;
    }
    Ok(())
}
