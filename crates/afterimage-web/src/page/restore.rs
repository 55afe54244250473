//! An older version written back: what would change, field by field, a reason, and then the writing.

use afterimage::{
    Action, DiffOptions, ErrorKind, FieldDiff, Restore, Revert, Selector, Stale, Value, Version,
};
use askama::Template;
use axum::http::StatusCode;
use axum::response::Response;

use super::Shell;
use super::line::{self, By};
use crate::asked::Asked;
use crate::failure::Failure;
use crate::filter::Parameters;
use crate::markup::{self, Html, LONG, SHORT};

struct Row {
    name: Html,
    value: String,
    change: Html,
    ticked: bool,
    fixed: bool,
    note: Option<&'static str>,
}

/// Somebody changed it meanwhile: the three states, as far as they differ.
struct ThreeWay {
    then: u64,
    by: By,
    rows: Vec<(Html, Html, Html, Html)>,
}

#[derive(Template)]
#[template(path = "restore.html")]
struct Page {
    shell: Shell,
    table: String,
    table_url: String,
    key: String,
    record: String,
    here: String,
    number: u64,
    written: String,
    next: u64,
    expect: u64,
    gone: bool,
    warnings: Vec<String>,
    rows: Vec<Row>,
    reason: String,
    related: bool,
    problem: Option<String>,
    stale: Option<ThreeWay>,
}

/// What a form was filled in with.
#[derive(Debug, Default)]
struct Filled {
    /// The fields that are ticked; all, where nothing was chosen yet.
    fields: Option<Vec<String>>,
    reason: String,
    related: bool,
}

pub(crate) async fn page(asked: Asked) -> Result<Response, Failure> {
    let fields: Vec<String> = asked.parameters.all("field").map(ToOwned::to_owned).collect();
    let filled = Filled { fields: (!fields.is_empty()).then_some(fields), ..Filled::default() };
    form(&asked, filled, None, StatusCode::OK).await
}

pub(crate) async fn write(asked: Asked) -> Result<Response, Failure> {
    let body = String::from_utf8_lossy(&asked.body).into_owned();
    let sent = Parameters::read(&body);
    let filled = Filled {
        fields: Some(sent.all("field").map(ToOwned::to_owned).collect()),
        reason: sent.first("reason").unwrap_or_default().trim().to_owned(),
        related: sent.has("related", "yes"),
    };
    let expect = sent.first("expect").and_then(|expect| expect.parse::<u64>().ok());
    let Some(expect) = expect else {
        return Err(Failure::wrong("the form says of no version that it is current"));
    };
    if filled.reason.is_empty() {
        let failure = Failure::wrong("Say why: the reason is recorded with what is restored.");
        return form(&asked, filled, Some(failure), StatusCode::BAD_REQUEST).await;
    }
    let tracked = asked.table().await?;
    let (table, key) = (tracked.table.to_string(), asked.part("key").to_owned());
    let all = asked.audit.history(&table, &key).await?;
    let target = target(&asked, &all).await?;
    let context = asked.context(&filled.reason);
    let newest = all.first().ok_or_else(|| Failure::missing("There is no record of this row."))?;
    let fields = filled.fields.clone().unwrap_or_default();
    let written = if target.header.action == Action::Delete {
        let restore = Restore::new(&table, &key).related(filled.related);
        asked.audit.restore(&restore, &context).await
    } else {
        let gone = newest.header.action == Action::Delete;
        if !gone && fields.is_empty() {
            let failure = Failure::wrong("Tick what is to be restored.");
            return form(&asked, filled, Some(failure), StatusCode::BAD_REQUEST).await;
        }
        let revert =
            Revert::new(&table, &key, Selector::Record(target.header.id)).expect(Selector::Number(expect));
        let revert = if gone { revert } else { revert.fields(asked.writable(&tracked, fields)?) };
        asked.audit.revert(&revert, &context).await
    };
    match written {
        Ok(done) => {
            tracing::info!(
                target: "afterimage::access", id = asked.id, who = ?asked.visitor.name(), table, key,
                version = target.number, records = done.records, "restored"
            );
            Ok(super::see_other(&asked.links.record(&table, &key)))
        }
        Err(error) if matches!(error.kind(), ErrorKind::Connection | ErrorKind::Busy) => Err(error.into()),
        Err(error) => {
            let failure = Failure::from(error);
            let status = failure.status;
            form(&asked, filled, Some(failure), status).await
        }
    }
}

/// The version that is to be written back.
async fn target(asked: &Asked, all: &[Version]) -> Result<Version, Failure> {
    let text = asked.part("version");
    let selector = super::version::selector(asked, text)?;
    if let Selector::Number(number) = selector {
        let found = all.iter().find(|version| version.number == number).cloned();
        return found.ok_or_else(|| Failure::missing(format!("There is no version {number}.")));
    }
    Ok(asked.audit.version(asked.part("table"), asked.part("key"), &selector).await?)
}

async fn form(
    asked: &Asked,
    filled: Filled,
    failure: Option<Failure>,
    status: StatusCode,
) -> Result<Response, Failure> {
    let tracked = asked.table().await?;
    let (table, key) = (tracked.table.to_string(), asked.part("key").to_owned());
    let all = asked.audit.history(&table, &key).await?;
    let target = target(asked, &all).await?;
    let newest = all.first().ok_or_else(|| Failure::missing("There is no record of this row."))?;
    let gone = newest.header.action == Action::Delete;
    let known = |name: &str| tracked.columns.iter().any(|column| column.name == *name);
    let mut warnings = Vec::new();
    for (name, value) in &target.row {
        if !known(name) && !value.is_null() {
            warnings.push(format!("{name} is no column any more: what it was then cannot be written back."));
        }
        if gone && *value == Value::Masked {
            warnings.push(format!(
                "{name} was not kept, or is hidden from you: it cannot be given back from here."
            ));
        }
    }
    for column in
        tracked.columns.iter().filter(|column| !target.row.iter().any(|(name, _)| *name == column.name))
    {
        warnings.push(format!("{} was no column then: it stays as it is.", column.name));
    }
    let rows = if gone { whole(&target) } else { differing(&filled, newest, &target, &known)? };
    let (problem, stale) = match failure {
        Some(failure) => {
            let stale = failure.stale.as_deref().map(|stale| three_way(asked, stale));
            (Some(failure.detail), stale)
        }
        None => (None, None),
    };
    let what = if gone {
        format!("Restore {table} {key}")
    } else {
        format!("Restore {table} {key} to v{}", target.number)
    };
    let who = target.header.context_member("label").or_else(|| target.header.user.clone());
    let by = who.map(|who| format!(" by {who}")).unwrap_or_default();
    let page = Page {
        shell: Shell::new(asked, "records", what),
        table_url: asked.links.table(&tracked.table),
        record: asked.links.record(&table, &key),
        here: asked.links.within(&table, &key, &format!("/restore/{}", target.number)),
        number: target.number,
        written: format!("{}{by}", asked.time(target.header.date)),
        next: newest.number + 1,
        // Whoever sees the three states knows what is current.
        expect: newest.number,
        gone,
        warnings,
        rows,
        reason: filled.reason,
        related: filled.related,
        problem,
        stale,
        table,
        key,
    };
    super::with_status(status, &page)
}

/// What comes back of a deleted row.
fn whole(target: &Version) -> Vec<Row> {
    target
        .row
        .iter()
        .map(|(name, value)| Row {
            name: markup::text(name),
            value: name.clone(),
            change: markup::created(value, LONG),
            ticked: true,
            fixed: true,
            note: None,
        })
        .collect()
}

fn differing(
    filled: &Filled,
    newest: &Version,
    target: &Version,
    known: &impl Fn(&str) -> bool,
) -> Result<Vec<Row>, Failure> {
    let differences: Vec<FieldDiff> = afterimage::diff(&newest.row, &target.row, &DiffOptions::default())
        .map_err(afterimage::Error::from)?;
    Ok(differences
        .iter()
        .filter(|field| known(&field.field) && target.row.iter().any(|(name, _)| *name == field.field))
        .map(|field| {
            let fixed = field.new == Value::Masked || field.old == Value::Masked;
            Row {
                name: markup::text(&field.field),
                value: field.field.clone(),
                change: markup::change(&field.old, &field.new, LONG),
                ticked: !fixed && filled.fields.as_ref().is_none_or(|fields| fields.contains(&field.field)),
                fixed,
                note: fixed.then_some("its value is not kept, or hidden from you"),
            }
        })
        .collect())
}

fn three_way(asked: &Asked, stale: &Stale) -> ThreeWay {
    let value = |version: &Version, name: &str| {
        version.row.iter().find(|(known, _)| known == name).map_or(Value::Null, |(_, value)| value.clone())
    };
    let rows = stale
        .now
        .row
        .iter()
        .filter_map(|(name, now)| {
            let (then, target) = (value(&stale.then, name), value(&stale.target, name));
            let differs = then != *now || target != *now;
            let shown = |value: &Value| markup::value(value, SHORT);
            differs.then(|| (markup::text(name), shown(&then), shown(&target), shown(now)))
        })
        .collect();
    ThreeWay { then: stale.then.number, by: line::by(asked, &stale.now.header), rows }
}
