//! An older version written back: what would change, field by field, a reason, and then the writing.

use afterimage::{
    Action, ErrorKind, Obstacle, PreviewedField, Restore, Revert, RevertPreview, Selector, Stale, Value,
    Version,
};
use askama::Template;
use axum::http::StatusCode;
use axum::response::Response;

use super::Shell;
use super::line::{self, By};
use crate::access::Act;
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
    note: Option<String>,
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
    let (table, key) = asked.row()?;
    let selector = super::version::selector(&asked, asked.part("version"))?;
    let RevertPreview { target, current, .. } = asked.audit.preview_revert(&table, &key, &selector).await?;
    let context = asked.context(&filled.reason);
    let fields = filled.fields.clone().unwrap_or_default();
    let audit = asked.audit_for(Act::Revert);
    let written = if target.header.action == Action::Delete {
        only_the_last_deletion(&target, &current)?;
        let restore = Restore::new(&table, &key).related(filled.related).expect(Selector::Number(expect));
        audit.restore(&restore, &context).await
    } else {
        let gone = current.header.action == Action::Delete;
        if !gone && fields.is_empty() {
            let failure = Failure::wrong("Tick what is to be restored.");
            return form(&asked, filled, Some(failure), StatusCode::BAD_REQUEST).await;
        }
        let revert =
            Revert::new(&table, &key, Selector::Record(target.header.id)).expect(Selector::Number(expect));
        let revert = if gone { revert } else { revert.fields(fields) };
        audit.revert(&revert, &context).await
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

/// What came back after its deletion is not brought back once more by that.
fn only_the_last_deletion(target: &Version, current: &Version) -> Result<(), Failure> {
    if target.number == current.number {
        return Ok(());
    }
    let detail = format!(
        "v{} is a deletion after which the record came back: it is at v{} now.",
        target.number, current.number
    );
    Err(Failure::new(StatusCode::CONFLICT, detail))
}

async fn form(
    asked: &Asked,
    filled: Filled,
    failure: Option<Failure>,
    status: StatusCode,
) -> Result<Response, Failure> {
    let tracked = asked.table()?;
    let (table, key) = asked.row()?;
    let selector = super::version::selector(asked, asked.part("version"))?;
    let preview = asked.audit.preview_revert(&table, &key, &selector).await?;
    let (target, newest) = (&preview.target, &preview.current);
    if target.header.action == Action::Delete {
        only_the_last_deletion(target, newest)?;
    }
    let gone = newest.header.action == Action::Delete;
    let beside = |field: &&PreviewedField| matches!(field.obstacle, Some(Obstacle::New | Obstacle::Gone));
    let warned = |field: &PreviewedField| {
        field.obstacle.map(|obstacle| format!("{} cannot be written back: {obstacle}.", field.field))
    };
    let warnings: Vec<String> =
        preview.fields.iter().filter(|field| gone || beside(field)).filter_map(warned).collect();
    let rows: Vec<Row> =
        preview.fields.iter().filter(|field| !beside(field)).map(|field| row(&filled, field, gone)).collect();
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

fn row(filled: &Filled, field: &PreviewedField, gone: bool) -> Row {
    let fixed = field.obstacle.is_some();
    Row {
        name: markup::text(&field.field),
        value: field.field.clone(),
        change: if gone {
            markup::created(&field.then, LONG)
        } else {
            markup::change(&field.now, &field.then, LONG)
        },
        ticked: !fixed && filled.fields.as_ref().is_none_or(|fields| fields.contains(&field.field)),
        fixed,
        note: field.obstacle.map(|obstacle| obstacle.to_string()),
    }
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
