//! Changes as a file: streamed, masked as they are seen, and harmless to spreadsheets.

use afterimage::{Afterimage, ChangesJson, Cursor, LogEntry, LogQuery};
use askama::Template;
use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;

use super::Shell;
use crate::access::Act;
use crate::address::key_text;
use crate::asked::Asked;
use crate::csv::csv_line;
use crate::failure::Failure;
use crate::filter::Filter;

/// So many changes are read at a time.
const CHUNK: u64 = 1_000;

#[derive(Template)]
#[template(path = "exports.html")]
struct Page {
    shell: Shell,
    csv: String,
    json: String,
    report: String,
    report_pdf: Option<String>,
    tables: Vec<String>,
}

pub(crate) async fn page(asked: Asked) -> Result<Response, Failure> {
    let known = asked.audit_for(Act::Export).tracked().await?;
    super::html(&Page {
        shell: Shell::new(&asked, "exports", "Exports"),
        csv: asked.links.to("/export.csv"),
        json: asked.links.to("/export.json"),
        report: asked.links.to("/report.html"),
        report_pdf: cfg!(feature = "pdf").then(|| asked.links.to("/report.pdf")),
        tables: known.iter().map(|table| table.table.to_string()).collect(),
    })
}

const COLUMNS: [&str; 10] =
    ["id", "date", "action", "table", "key", "user", "reason", "context", "tx", "changes"];

pub(crate) async fn csv(asked: Asked) -> Result<Response, Failure> {
    let guarded = !asked.parameters.has("formulas", "keep");
    let mut head = Vec::new();
    csv_line(&mut head, COLUMNS, false);
    let line = move |file: &mut Vec<u8>, entry: &LogEntry, _first: bool| {
        let (header, text) = (&entry.header, |text: &Option<String>| text.clone().unwrap_or_default());
        // As `COLUMNS` says, each as it is: a number in a JSON column keeps all of its digits.
        let cells = [
            header.id.to_string(),
            header.date.to_string(),
            entry.action().name().to_owned(),
            entry.table.to_string(),
            key_text(&entry.key),
            text(&header.user),
            text(&header.reason),
            text(&header.context),
            text(&header.tx),
            serde_json::to_string(&ChangesJson(&entry.changes)).unwrap_or_default(),
        ];
        csv_line(file, cells, guarded);
    };
    export(asked, "changes.csv", "text/csv; charset=utf-8", head, line, b"").await
}

pub(crate) async fn json(asked: Asked) -> Result<Response, Failure> {
    let line = |file: &mut Vec<u8>, entry: &LogEntry, first: bool| {
        file.extend_from_slice(if first { b"  " } else { b",\n  " });
        // Into memory, which does not fail.
        let _ = serde_json::to_writer(file, entry);
    };
    export(asked, "changes.json", "application/json", b"[\n".to_vec(), line, b"\n]\n").await
}

/// What a file is to hold: everything only where that is said.
pub(super) fn asked_for(asked: &Asked) -> Result<Filter, Failure> {
    let filter = Filter::read(&asked.parameters, asked.now, &asked.zone)?;
    if !filter.bounded {
        return Err(Failure::wrong("Say from when: since=2026-11-01, or range=all for everything."));
    }
    Ok(filter)
}

/// What is still to be sent of a file.
struct Sending<F> {
    audit: Afterimage,
    query: LogQuery,
    line: F,
    end: &'static [u8],
    begin: Vec<u8>,
    first: bool,
    next: Option<Cursor>,
    over: bool,
}

/// Streams the changes of a filter, a page at a time: whoever reads slowly holds no transaction open.
async fn export<F>(
    asked: Asked,
    name: &str,
    kind: &'static str,
    begin: Vec<u8>,
    line: F,
    end: &'static [u8],
) -> Result<Response, Failure>
where
    F: Fn(&mut Vec<u8>, &LogEntry, bool) + Send + Sync + 'static,
{
    let filter = asked_for(&asked)?;
    let audit = asked.audit_for(Act::Export);
    let mut query = LogQuery::from(filter.query).limit(CHUNK);
    // What is written while the file is being read is not part of it.
    let present = asked.present().await?.next();
    query.query.before = Some(query.query.before.map_or(present, |before| before.min(present)));
    // What can be wrong with the query shows before anything is sent.
    audit.log(&LogQuery { limit: Some(1), ..query.clone() }).await?;
    tracing::info!(
        target: "afterimage::access", id = asked.id, who = ?asked.visitor.name(), path = asked.path, "exported"
    );
    let sending = Sending { audit, query, line, end, begin, first: true, next: filter.after, over: false };
    let chunks = stream::unfold(sending, async |mut sending| {
        if sending.over {
            return None;
        }
        let query = LogQuery { after: sending.next, ..sending.query.clone() };
        match sending.audit.log(&query).await {
            Ok(page) => {
                let mut file = std::mem::take(&mut sending.begin);
                for entry in &page.entries {
                    (sending.line)(&mut file, entry, std::mem::take(&mut sending.first));
                }
                sending.next = page.next;
                sending.over = page.next.is_none();
                if sending.over {
                    file.extend_from_slice(sending.end);
                }
                Some((Ok(Bytes::from(file)), sending))
            }
            // What was sent stays without its end, so that nobody takes it for the whole.
            Err(error) => {
                sending.over = true;
                tracing::error!(%error, "an export broke off");
                Some((Err(std::io::Error::other("the database broke off")), sending))
            }
        }
    });
    Ok(attachment(name, kind, Body::from_stream(Box::pin(chunks))))
}

/// A file to be kept.
pub(super) fn attachment(name: &str, kind: &'static str, body: Body) -> Response {
    let harmless: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect();
    let mut response = (StatusCode::OK, [(header::CONTENT_TYPE, kind)], body).into_response();
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{harmless}\"")) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, value);
    }
    response
}
