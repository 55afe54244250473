//! The tour: a few questions, each with the command that asks it.

use afterimage::{Afterimage, Context, LogQuery, Moment, PointInTime, Revert, Selector, Version};

use super::TABLE;
use super::replay::Replayed;
use crate::change;
use crate::commands::Failure;
use crate::output::{harmless, shown};

pub(super) async fn run(audit: &Afterimage, place: &str, replayed: &Replayed) -> Result<(), Failure> {
    let day = |moment: Moment| moment.to_string()[..10].to_owned();
    println!("Thirteen years of real edits to one table: the world's country codes.");
    println!(
        "{} revisions by {} editors, {} to {}: {} changes, replayed into {place} in {:.1} s.",
        replayed.revisions,
        replayed.editors,
        day(replayed.first),
        day(replayed.last),
        replayed.changes,
        replayed.took.as_secs_f64(),
    );
    println!("Triggers captured each one, in the transaction that made it. Now ask:");

    eswatini(audit).await?;
    macedonia(audit).await?;
    turkey(audit).await?;
    truth(audit).await?;

    println!("\nIt stays. Every command above is one to try, with");
    println!("  export DATABASE_URL={place}");
    println!("and on a table of your own: afterimage track TABLE");
    Ok(())
}

fn ask(query: &str) -> Result<LogQuery, Failure> {
    Ok(LogQuery::parse(query)?)
}

fn question(text: &str) {
    println!("\n── {text}");
}

fn command(text: &str) {
    println!("   $ {text}");
}

fn answer(text: &str) {
    println!("     {}", harmless(text));
}

async fn eswatini(audit: &Afterimage) -> Result<(), Failure> {
    question("What was Eswatini called on 2017-06-01, and two years later?");
    for date in ["2017-06-01", "2019-06-01"] {
        command(&format!("afterimage show {TABLE} SWZ --at {date}"));
        let version = audit.show(TABLE, "SWZ", &PointInTime::parse(date, "UTC")?).await?;
        let value = version.row.iter().find(|(name, _)| name == "name").map(|(_, value)| shown(value));
        answer(&format!("name: {}", value.unwrap_or_default()));
    }
    Ok(())
}

async fn macedonia(audit: &Afterimage) -> Result<(), Failure> {
    question("Who named North Macedonia \"Macedonia Utara\", and when was it mended?");
    command(&format!("afterimage history {TABLE} MKD"));
    let versions = oldest_first(audit, "MKD").await?;
    let to = |version: &&Version, name: &str| {
        version.changes.iter().any(|change| change.field == "name" && shown(&change.new) == name)
    };
    let slipped = versions.iter().find(|version| to(version, "Macedonia Utara"));
    let Some(slipped) = slipped else { return Ok(()) };
    describe(slipped, &["name"]);
    let mended =
        versions.iter().find(|version| version.number > slipped.number && to(version, "North Macedonia"));
    if let Some(mended) = mended {
        describe(mended, &["name"]);
    }
    question("What else did that revision touch?");
    let tx = slipped.header.tx.clone().unwrap_or_default();
    command(&format!("afterimage log --tx {tx}"));
    let page = audit.log(&ask(&format!("tx:{tx}"))?).await?;
    answer(&format!("{} countries, such as", page.entries.len()));
    for entry in page.entries.iter().filter(|entry| entry.key[0].1.to_string().starts_with('S')).take(3) {
        let name = entry.changes.iter().find(|change| change.field == "name");
        if let Some(change) = name.or(entry.changes.first()) {
            answer(&format!("  {}  {}", entry.key[0].1, change::line(entry.action(), change)));
        }
    }
    Ok(())
}

async fn turkey(audit: &Afterimage) -> Result<(), Failure> {
    question("Turkey has no currency today. When did it lose it?");
    command("afterimage log -q 'key:TUR field:currency now:null'");
    let versions = oldest_first(audit, "TUR").await?;
    let lost = versions.iter().rev().find(|version| {
        version.changes.iter().any(|change| change.field == "currency" && change.new.is_null())
    });
    let Some(lost) = lost else { return Ok(()) };
    describe(lost, &["currency", "currency_name"]);

    question("Give it back: only these fields, from the version before, and say why.");
    let before = lost.number - 1;
    let fields = ["currency", "currency_name"];
    let reason = "its currency is the lira";
    command(&format!(
        "afterimage revert {TABLE} TUR --to {before} --fields {} --reason \"{reason}\"",
        fields.join(",")
    ));
    let revert = Revert::new(TABLE, "TUR", Selector::Number(before)).fields(fields);
    let done = audit.revert(&revert, &Context::new().reason(reason)).await?;
    for entry in &done.entries {
        for change in &entry.changes {
            answer(&change::line(entry.action(), change));
        }
    }
    question("It is one more record, which says what it restored from:");
    command("afterimage log --action restore");
    for entry in audit.log(&ask("action:restore")?).await?.entries {
        let from = entry.header.context_member("restored_from").unwrap_or_default();
        let version = serde_json::from_str::<serde_json::Value>(&from).unwrap_or_default()["version"].clone();
        let why = entry.header.reason.unwrap_or_default();
        answer(&format!("{}  “{why}”, restored from version {version}", entry.key[0].1));
    }
    Ok(())
}

async fn truth(audit: &Afterimage) -> Result<(), Failure> {
    question("Is that all true? Replay every record and compare with the table:");
    command("afterimage verify");
    for verdict in audit.verify(&[]).await? {
        let word = if verdict.is_whole() { "whole" } else { "NOT whole" };
        answer(&format!(
            "{}: {word}; {} records give its {} rows",
            verdict.table, verdict.records, verdict.rows
        ));
    }
    Ok(())
}

async fn oldest_first(audit: &Afterimage, key: &str) -> Result<Vec<Version>, Failure> {
    let mut versions = audit.history(TABLE, key).await?;
    versions.reverse();
    Ok(versions)
}

/// When, who, which revision, and these fields.
fn describe(version: &Version, fields: &[&str]) {
    let header = &version.header;
    let context: serde_json::Value =
        header.context.as_deref().and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
    let revision = context.get("revision").and_then(serde_json::Value::as_str).unwrap_or("?");
    let when = header.date.to_string().replace('T', " ");
    answer(&format!("{}  {}  revision {revision}", &when[..16], header.user.as_deref().unwrap_or("?")));
    for change in version.changes.iter().filter(|change| fields.contains(&change.field.as_str())) {
        answer(&format!("  {}: {} → {}", change.field, shown(&change.old), shown(&change.new)));
    }
}
