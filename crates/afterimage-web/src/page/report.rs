//! Reports as files.

use std::io::{Read as _, Seek as _, SeekFrom};

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::stream;

use super::exports::{asked_for, attachment};
use crate::access::Act;
use crate::asked::Asked;
use crate::failure::Failure;
use crate::report::{ReportFailure, ReportFormat, ReportOptions, write_report};

pub(crate) async fn html(asked: Asked) -> Result<Response, Failure> {
    file(asked, ReportFormat::Html, "report.html", "text/html; charset=utf-8").await
}

pub(crate) async fn csv(asked: Asked) -> Result<Response, Failure> {
    file(asked, ReportFormat::Csv, "report.csv", "text/csv; charset=utf-8").await
}

pub(crate) async fn json(asked: Asked) -> Result<Response, Failure> {
    file(asked, ReportFormat::Json, "report.json", "application/json").await
}

pub(crate) async fn pdf(asked: Asked) -> Result<Response, Failure> {
    #[cfg(feature = "pdf")]
    return file(asked, ReportFormat::Pdf, "report.pdf", "application/pdf").await;
    #[cfg(not(feature = "pdf"))]
    {
        let _ = asked;
        Err(Failure::missing("This service was built without reports as PDF."))
    }
}

/// The report is written whole before any of it is sent: it is of one moment, which nobody who reads slowly holds open.
async fn file(
    asked: Asked,
    format: ReportFormat,
    name: &str,
    kind: &'static str,
) -> Result<Response, Failure> {
    let audit = asked.audit_for(Act::Export);
    let filter = asked_for(&asked)?;
    let title = asked.parameters.first("title").filter(|title| !title.is_empty()).unwrap_or("Changes");
    let options = ReportOptions {
        format,
        title: title.chars().take(200).collect(),
        zone: asked.zone.clone(),
        by: asked.visitor.name(),
        summary_only: asked.parameters.has("summary", "only"),
    };
    let unwritten = |error: std::io::Error| {
        tracing::error!(%error, "a report could not be written");
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, format!("The report could not be written: {error}"))
    };
    let mut file = tempfile::tempfile().map_err(unwritten)?;
    match write_report(&audit, &filter.query.into(), &options, &mut file).await {
        Ok(()) => {}
        Err(ReportFailure::Asking(error)) => return Err(error.into()),
        Err(ReportFailure::TooMuch(message)) => return Err(Failure::wrong(message)),
        Err(ReportFailure::Writing(error)) => return Err(unwritten(error)),
    }
    file.seek(SeekFrom::Start(0)).map_err(unwritten)?;
    tracing::info!(
        target: "afterimage::access", id = asked.id, who = ?asked.visitor.name(), path = asked.path, "exported"
    );
    let chunks = stream::unfold(file, async |mut file| {
        let mut chunk = vec![0; 64 * 1024];
        match file.read(&mut chunk) {
            Ok(0) => None,
            Ok(read) => {
                chunk.truncate(read);
                Some((Ok(Bytes::from(chunk)), file))
            }
            Err(error) => Some((Err(error), file)),
        }
    });
    Ok(attachment(name, kind, Body::from_stream(Box::pin(chunks))))
}
