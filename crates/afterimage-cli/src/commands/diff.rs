//! `diff`.

use std::io::Write as _;

use afterimage::{Afterimage, Diff, DiffOptions, Label, Selector, Version};
use serde_json::json;

use super::Done;
use crate::Outcome;
use crate::arguments;
use crate::change;
use crate::config::Config;
use crate::output::{self, Format, harmless};
use crate::terminal::{Meaning, Page, paint};

pub(super) async fn run(audit: &Afterimage, config: &Config, request: arguments::Diff) -> Done {
    let from = Selector::parse(&request.from, &config.tz)?;
    let to = Selector::parse(&request.to, &config.tz)?;
    let include = (!request.fields.is_empty()).then(|| request.fields.clone());
    let options = DiffOptions { include, exclude: request.exclude.clone() };
    let diff = audit.diff(&request.table, &request.key, &from, &to, &options).await?;
    match config.format {
        Some(Format::Json) => output::json(&document(&diff))?,
        Some(Format::Csv) => {
            let mut out = std::io::stdout().lock();
            output::csv_line(&mut out, ["field", "old", "new"])?;
            for field in &diff.fields {
                let (old, new) = (output::csv_value(&field.old), output::csv_value(&field.new));
                output::csv_line(&mut out, [&field.field, &old, &new])?;
            }
        }
        _ => print(config, &diff)?,
    }
    Ok(Outcome::Done)
}

fn document(diff: &Diff) -> serde_json::Value {
    let version = |version: &Version| {
        json!({
            "version": version.number,
            "history_id": version.header.id,
            "history_date": version.header.date.to_string(),
            "history_user": version.header.user,
        })
    };
    let mut changes = serde_json::Map::new();
    let mut inside = serde_json::Map::new();
    for field in &diff.fields {
        changes.insert(field.field.clone(), json!([field.old, field.new]));
        if !field.inside.is_empty() {
            inside.insert(field.field.clone(), json!(field.inside));
        }
    }
    let label = |label: &Option<Label>| label.as_ref().map(ToString::to_string);
    let labels: serde_json::Map<_, _> = diff
        .labels
        .iter()
        .map(|(field, [old, new])| (field.clone(), json!([label(old), label(new)])))
        .collect();
    json!({
        "from": version(&diff.from), "to": version(&diff.to), "changes": changes, "inside": inside, "labels": labels,
    })
}

fn print(config: &Config, diff: &Diff) -> std::io::Result<()> {
    let mut out = Page::open();
    let version = |version: &Version| {
        let who = version.header.user.as_deref().map(|user| format!(" by {user}")).unwrap_or_default();
        harmless(&format!("version {} ({}{who})", version.number, version.header.date.in_zone(&config.tz)))
    };
    writeln!(out, "{}", paint(Meaning::Dim, &format!("{} → {}", version(&diff.from), version(&diff.to))))?;
    if diff.fields.is_empty() {
        writeln!(out, "no difference")?;
    }
    for field in &diff.fields {
        let name = paint(Meaning::Strong, &harmless(&field.field));
        if field.inside.is_empty() {
            writeln!(out, "{name}: {}", change::between(&field.old, &field.new))?;
        } else {
            writeln!(out, "{name}:")?;
            for place in &field.inside {
                let side =
                    |json: &Option<String>| json.as_deref().map_or_else(|| "nothing".to_owned(), harmless);
                writeln!(
                    out,
                    "  {}: {} → {}",
                    harmless(&place.path),
                    paint(Meaning::Removed, &side(&place.old)),
                    paint(Meaning::Added, &side(&place.new))
                )?;
            }
        }
        if let Some([old, new]) = diff.labels.get(&field.field) {
            let said = |label: &Option<Label>| {
                label.as_ref().map(|label| harmless(&label.to_string())).unwrap_or_default()
            };
            let labels = format!("  {} → {}", said(old), said(new));
            writeln!(out, "{}", paint(Meaning::Dim, &labels))?;
        }
    }
    out.flush()
}
