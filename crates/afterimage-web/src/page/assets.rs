//! What pages are made of beside themselves: a stylesheet, a script, htmx. Each has its content in its name.

use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use crate::asked::Asked;
use crate::failure::Failure;
use crate::web::typed;

/// The stylesheet.
pub(crate) const STYLE: &str = "style.css";
/// Keys, and what is copied.
pub(crate) const SCRIPT: &str = "page.js";
/// htmx, pinned; see `assets/htmx-LICENSE`.
pub(crate) const HTMX: &str = "htmx-4.0.1.min.js";

/// A file of them.
struct File {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
    /// What changes with its content, so that it can be kept for ever.
    version: u64,
}

macro_rules! file {
    ($name:expr, $kind:literal, $path:literal) => {
        File { name: $name, kind: $kind, bytes: include_bytes!($path), version: hash(include_bytes!($path)) }
    };
}

static FILES: [File; 3] = [
    file!(STYLE, "text/css; charset=utf-8", "../../assets/style.css"),
    file!(SCRIPT, "text/javascript; charset=utf-8", "../../assets/page.js"),
    file!(HTMX, "text/javascript; charset=utf-8", "../../assets/htmx-4.0.1.min.js"),
];

/// FNV-1a, 64 bit: it only has to differ where the content does.
pub(crate) const fn hash(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0100_0000_01b3);
        at += 1;
    }
    hash
}

/// The version of a file, for its address.
pub(crate) fn version(name: &str) -> u64 {
    FILES.iter().find(|file| file.name == name).map_or(0, |file| file.version)
}

/// The file of a name.
pub(crate) fn named(name: &str) -> Response {
    match FILES.iter().find(|file| file.name == name) {
        Some(file) => typed(StatusCode::OK, file.kind, file.bytes),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

pub(crate) async fn file(asked: Asked) -> Result<Response, Failure> {
    Ok(named(asked.part("name")))
}
