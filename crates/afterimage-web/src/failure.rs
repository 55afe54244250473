//! What went wrong, as a page or as problem details (RFC 9457).

use afterimage::{ErrorKind, Stale};
use axum::http::StatusCode;

/// An answer that is none.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    pub(crate) detail: String,
    /// Who asked, for the log.
    pub(crate) who: Option<String>,
    /// Where to log in.
    pub(crate) log_in: Option<String>,
    /// A revert that expected another current version.
    pub(crate) stale: Option<Box<Stale>>,
}

impl Failure {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), who: None, log_in: None, stale: None }
    }

    pub(crate) fn wrong(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(crate) fn missing(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    /// What it is called.
    pub(crate) fn title(&self) -> &'static str {
        match self.status {
            StatusCode::BAD_REQUEST => "That cannot be asked so",
            StatusCode::UNAUTHORIZED => "Who are you?",
            StatusCode::FORBIDDEN => "Not permitted",
            StatusCode::NOT_FOUND => "Not found",
            StatusCode::METHOD_NOT_ALLOWED => "Not in this way",
            StatusCode::CONFLICT => "It has changed",
            StatusCode::PAYLOAD_TOO_LARGE => "Too much",
            StatusCode::UNPROCESSABLE_ENTITY => "The history cannot say",
            StatusCode::SERVICE_UNAVAILABLE => "The database cannot be reached",
            _ => "Something went wrong",
        }
    }
}

impl From<afterimage::Error> for Failure {
    fn from(error: afterimage::Error) -> Self {
        let status = match error.kind() {
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::InvalidInput | ErrorKind::Untrackable => StatusCode::BAD_REQUEST,
            ErrorKind::Forbidden => StatusCode::FORBIDDEN,
            ErrorKind::Unknowable => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorKind::Conflict | ErrorKind::Drifted => StatusCode::CONFLICT,
            ErrorKind::Connection | ErrorKind::Busy => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let stale = error.stale().cloned().map(Box::new);
        // What a database says of its own accord is for whoever looks after it.
        let detail = if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(%error, "a question failed");
            "the database refused the question; the log of the service says why".to_owned()
        } else if error.kind() == ErrorKind::Connection {
            tracing::error!(%error, "the database cannot be reached");
            "it will be tried again with the next request".to_owned()
        } else {
            error.to_string()
        };
        Self { stale, ..Self::new(status, detail) }
    }
}
