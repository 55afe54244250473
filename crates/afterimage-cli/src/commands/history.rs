//! `history` and `show`.

use std::io::Write as _;

use afterimage::{Action, Afterimage, PointInTime, RowJson, Version};

use super::{Done, Failure};
use crate::Outcome;
use crate::config::Config;
use crate::output::{self, Format};

pub(super) async fn history(
    audit: &Afterimage,
    config: &Config,
    table: &str,
    key: &str,
    limit: Option<usize>,
) -> Done {
    let mut versions = audit.history(table, key).await?;
    versions.truncate(limit.unwrap_or(usize::MAX));
    print(config, &versions)?;
    Ok(Outcome::Done)
}

/// Prints versions as `history` does.
pub(crate) fn print(config: &Config, versions: &[Version]) -> Result<(), Failure> {
    match config.format {
        Some(Format::Json) => output::json(versions)?,
        Some(Format::Csv) => csv(versions)?,
        _ => {
            let rows = versions.iter().map(|version| line(version, &config.tz)).collect();
            let when = format!("when ({})", config.tz);
            output::table(&["version", &when, "who", "what", "changes", "why"], rows)?;
        }
    }
    Ok(())
}

fn line(version: &Version, tz: &str) -> Vec<String> {
    let header = &version.header;
    vec![
        version.number.to_string(),
        header.date.in_zone(tz),
        output::harmless(header.user.as_deref().unwrap_or("")),
        format!("{}{}", what(version), if header.archive.is_some() { " (archived)" } else { "" }),
        changes(version),
        output::harmless(header.reason.as_deref().unwrap_or("")),
    ]
}

fn what(version: &Version) -> &'static str {
    match version.header.action {
        Action::Create if version.header.old_key.is_some() => "key changed",
        Action::Create => "created",
        Action::Update => "updated",
        Action::Delete => "deleted",
    }
}

/// One change a line: `field: old → new`; of a creation or a deletion the values that were there.
fn changes(version: &Version) -> String {
    let lines: Vec<String> = version
        .changes
        .iter()
        .map(|change| {
            let (old, new) = (output::shown(&change.old), output::shown(&change.new));
            match version.header.action {
                Action::Create if version.header.old_key.is_none() => format!("{}: {new}", change.field),
                Action::Delete => format!("{}: {old}", change.field),
                _ => format!("{}: {old} → {new}", change.field),
            }
        })
        .collect();
    lines.join("\n")
}

fn csv(versions: &[Version]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let columns = [
        "version",
        "history_id",
        "history_date",
        "history_type",
        "history_user",
        "history_change_reason",
        "history_context",
        "history_tx",
        "row",
        "changes",
    ];
    output::csv_line(&mut out, columns)?;
    for version in versions {
        let header = &version.header;
        let document = serde_json::to_value(version).unwrap_or_default();
        let changes = document.get("changes").map(ToString::to_string).unwrap_or_default();
        output::csv_line(
            &mut out,
            [
                version.number.to_string(),
                header.id.to_string(),
                header.date.to_string(),
                header.action.sign().to_owned(),
                header.user.clone().unwrap_or_default(),
                header.reason.clone().unwrap_or_default(),
                header.context.clone().unwrap_or_default(),
                header.tx.clone().unwrap_or_default(),
                serde_json::to_string(&RowJson(&version.row)).unwrap_or_default(),
                changes,
            ],
        )?;
    }
    Ok(out.flush()?)
}

fn point(config: &Config, at: &str) -> Result<PointInTime, Failure> {
    Ok(if at == "now" { PointInTime::Now } else { PointInTime::parse(at, &config.tz)? })
}

/// `show --related`: as JSON one document, else the row and then the rows of each table.
pub(super) async fn show_with_related(
    audit: &Afterimage,
    config: &Config,
    table: &str,
    key: &str,
    at: &str,
) -> Done {
    let (version, related) = audit.show_with_related(table, key, &point(config, at)?).await?;
    there(config, table, key, &version)?;
    if config.format == Some(Format::Json) {
        let rows: serde_json::Map<_, _> = related
            .iter()
            .map(|one| {
                let named = one.rows.rows.iter().map(|row| {
                    let named: Vec<_> = one.rows.columns.iter().cloned().zip(row.iter().cloned()).collect();
                    serde_json::to_value(RowJson(&named)).unwrap_or_default()
                });
                (one.table.to_string(), named.collect())
            })
            .collect();
        output::json(&serde_json::json!({ "row": RowJson(&version.row), "related": rows }))?;
        return Ok(Outcome::Done);
    }
    row(config, &version)?;
    for one in related {
        let by = output::harmless(&one.by.join(", "));
        println!("\n{} by {by}: {} rows", output::harmless(&one.table.to_string()), one.rows.rows.len());
        let header: Vec<&str> = one.rows.columns.iter().map(String::as_str).collect();
        let rows: Vec<_> = one.rows.rows.iter().map(|row| row.iter().map(output::shown).collect()).collect();
        if !rows.is_empty() {
            output::table(&header, rows)?;
        }
    }
    Ok(Outcome::Done)
}

fn there(config: &Config, table: &str, key: &str, version: &Version) -> Result<(), Failure> {
    if version.header.action == Action::Delete {
        let when = version.header.date.in_zone(&config.tz);
        return Err(Failure::Gone(format!("{table}: the row {key} was deleted on {when}")));
    }
    Ok(())
}

pub(super) async fn show(audit: &Afterimage, config: &Config, table: &str, key: &str, at: &str) -> Done {
    let version = audit.show(table, key, &point(config, at)?).await?;
    there(config, table, key, &version)?;
    row(config, &version)?;
    Ok(Outcome::Done)
}

fn row(config: &Config, version: &Version) -> Result<(), Failure> {
    match config.format {
        Some(Format::Json) => output::json(&RowJson(&version.row))?,
        Some(Format::Csv) => {
            let mut out = std::io::stdout().lock();
            output::csv_line(&mut out, version.row.iter().map(|(name, _)| name))?;
            output::csv_line(&mut out, version.row.iter().map(|(_, value)| output::csv_value(value)))?;
        }
        _ => {
            let rows =
                version.row.iter().map(|(name, value)| vec![output::harmless(name), output::shown(value)]);
            output::table(&["column", "value"], rows.collect())?;
        }
    }
    Ok(())
}
