//! Two versions of a record side by side: the fields that differ, long texts word by word.

use afterimage::{Action, DiffOptions, FieldDiff, Version};
use askama::Template;
use axum::response::Response;

use super::Shell;
use super::line::{self, By};
use crate::access::Act;
use crate::address::encoded;
use crate::asked::Asked;
use crate::failure::Failure;
use crate::markup::{self, Html, LONG, SHORT};

struct Inside {
    path: String,
    change: Html,
}

struct Row {
    name: Html,
    to: String,
    old: Html,
    new: Html,
    old_label: Option<String>,
    new_label: Option<String>,
    inside: Vec<Inside>,
    restore: Option<String>,
}

#[derive(Template)]
#[template(path = "compare.html")]
struct Page {
    shell: Shell,
    table: String,
    table_url: String,
    key: String,
    record: String,
    choose: String,
    choices: Vec<(String, String)>,
    from: String,
    to: String,
    from_by: By,
    to_by: By,
    swap: String,
    json: String,
    restore: Option<String>,
    may_restore: bool,
    sum: String,
    same: usize,
    show: String,
    rows: Vec<Row>,
    unchanged: Vec<(Html, Html)>,
    between: Vec<(u64, By, &'static str)>,
}

/// From a form, to the address of the comparison.
pub(crate) async fn choose(asked: Asked) -> Result<Response, Failure> {
    let version = |name: &str, or: &str| asked.parameters.first(name).unwrap_or(or).to_owned();
    let (a, b) = (version("a", "previous"), version("b", "current"));
    let range = format!("/compare/{}", encoded(&format!("{a}..{b}")));
    Ok(super::see_other(&asked.links.within(asked.part("table"), asked.part("key"), &range)))
}

pub(crate) async fn page(asked: Asked) -> Result<Response, Failure> {
    let tracked = asked.table()?;
    let (table, key) = asked.row()?;
    let range = asked.part("range");
    let (a, b) = range.split_once("..").ok_or_else(|| {
        Failure::wrong(format!("{range:?} is not two versions, such as 3..7 or previous..current"))
    })?;
    let selectors = (super::version::selector(&asked, a)?, super::version::selector(&asked, b)?);
    let options = DiffOptions::default();
    let diff = asked.audit.diff(&table, &key, &selectors.0, &selectors.1, &options).await?;
    let all = asked.audit.history(&table, &key).await?;
    let last = all.first().map_or(0, |newest| newest.number);
    let (from, to) = (&diff.from, &diff.to);
    let may_restore = asked.may(Act::Revert, &tracked.table);
    let restorable = may_restore && from.number != last && from.header.action != Action::Delete;
    let within = |rest: &str| asked.links.within(&table, &key, rest);
    let restore = within(&format!("/restore/{}", from.number));
    let rows: Vec<Row> = diff
        .fields
        .iter()
        .map(|field| {
            let labels = diff.labels.get(&field.field);
            let label =
                |side: usize| labels.and_then(|labels| labels[side].as_ref()).map(ToString::to_string);
            let mut row = row(field);
            row.to = within(&format!("/field/{}", encoded(&field.field)));
            row.old_label = label(0).filter(|label| !label.is_empty());
            row.new_label = label(1).filter(|label| !label.is_empty());
            row.restore = restorable.then(|| {
                let sign = if restore.contains('?') { '&' } else { '?' };
                format!("{restore}{sign}field={}", encoded(&field.field))
            });
            row
        })
        .collect();
    let unchanged: Vec<(Html, Html)> = to
        .row
        .iter()
        .filter(|(name, _)| !diff.fields.iter().any(|field| field.field == *name))
        .map(|(name, value)| (markup::text(name), markup::value(value, SHORT)))
        .collect();
    let same = unchanged.len();
    let shown = asked.parameters.has("unchanged", "show");
    let here = format!("/compare/{}", encoded(&format!("{}..{}", from.number, to.number)));
    let (low, high) = (from.number.min(to.number), from.number.max(to.number));
    let between: Vec<&Version> =
        all.iter().rev().filter(|version| version.number > low && version.number <= high).collect();
    let mut by: Vec<String> = between
        .iter()
        .filter_map(|version| version.header.context_member("label").or_else(|| version.header.user.clone()))
        .collect();
    by.dedup();
    let by = if by.is_empty() { String::new() } else { format!(" by {}", by.join(", ")) };
    let fields =
        if rows.len() == 1 { "1 field differs".to_owned() } else { format!("{} fields differ", rows.len()) };
    let steps = if between.len() == 1 { "1 change".to_owned() } else { format!("{} changes", between.len()) };
    super::html(&Page {
        sum: format!("{fields} after {steps}{by}"),
        choices: choices(&all, from, to),
        swap: within(&format!("/compare/{}..{}", to.number, from.number)),
        json: asked.links.to(&format!(
            "/api/tables/{}/records/{}/diff?from={}&to={}",
            encoded(&table),
            encoded(&key),
            from.number,
            to.number
        )),
        restore: restorable.then(|| restore.clone()),
        show: {
            let here = within(&here);
            format!("{here}{}unchanged=show", if here.contains('?') { '&' } else { '?' })
        },
        from_by: line::by(&asked, &from.header),
        to_by: line::by(&asked, &to.header),
        between: between
            .iter()
            .map(|version| {
                let header = &version.header;
                let restored = header.context_member("restored_from").is_some();
                let verb = line::verb(header.action, header.old_key.is_some(), restored);
                (version.number, line::by(&asked, header), verb)
            })
            .collect(),
        unchanged: if shown { unchanged } else { Vec::new() },
        from: from.number.to_string(),
        to: to.number.to_string(),
        choose: within("/compare"),
        table_url: asked.links.table(&tracked.table),
        record: asked.links.record(&table, &key),
        shell: Shell::new(&asked, "records", format!("{table} {key}: v{} → v{}", from.number, to.number)),
        may_restore,
        same,
        rows,
        table,
        key,
    })
}

/// The versions to choose from: all of a few, else those around.
fn choices(all: &[Version], from: &Version, to: &Version) -> Vec<(String, String)> {
    const FEW: usize = 200;
    let last = all.first().map_or(0, |newest| newest.number);
    all.iter()
        .enumerate()
        .filter(|(n, version)| *n < FEW || version.number == from.number || version.number == to.number)
        .map(|(_, version)| {
            let said = match version.number {
                number if number == last => format!("v{number}, current"),
                number if number + 1 == last => format!("v{number}, previous"),
                number => format!("v{number}"),
            };
            (version.number.to_string(), said)
        })
        .collect()
}

fn row(field: &FieldDiff) -> Row {
    let (old, new) = markup::sides(&field.old, &field.new);
    let json = |text: &Option<String>| {
        text.as_ref().map_or(afterimage::Value::Null, |text| afterimage::Value::Json(text.clone()))
    };
    Row {
        name: markup::text(&field.field),
        to: String::new(),
        old,
        new,
        old_label: None,
        new_label: None,
        inside: field
            .inside
            .iter()
            .map(|inside| Inside {
                path: if inside.path.is_empty() { "(whole)".to_owned() } else { inside.path.clone() },
                change: markup::change(&json(&inside.old), &json(&inside.new), LONG),
            })
            .collect(),
        restore: None,
    }
}
