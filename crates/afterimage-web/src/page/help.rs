//! What can be asked, and the keys.

use askama::Template;
use axum::response::Response;

use super::Shell;
use crate::asked::Asked;
use crate::failure::Failure;

#[derive(Template)]
#[template(path = "help.html")]
struct Page {
    shell: Shell,
    examples: &'static [(&'static str, &'static str)],
    keys: &'static [(&'static str, &'static str)],
}

const EXAMPLES: &[(&str, &str)] = &[
    ("table:orders", "changes of this table"),
    ("table:orders key:17", "changes of this row"),
    ("actor:42", "changes by this user, by id"),
    ("label:bob", "changes by somebody of this name"),
    ("action:delete", "create, update, delete, or restore: what wrote an older state back"),
    ("field:total", "changes of this column"),
    ("was:1,249", "changes from this value"),
    ("now:1149", "changes to this value"),
    ("field:total was:1249 now:1149", "one and the same change"),
    ("reason:\"price match\"", "these words in the reason"),
    ("request:7f3a", "changes by this request, job or trace"),
    ("tx:7711", "changes by this database transaction"),
    ("at:yesterday", "of a day; at:>2h, at:2026-11-01..2026-11-20"),
    ("-action:delete", "the opposite of any of these"),
    ("köln", "words, anywhere"),
];

const KEYS: &[(&str, &str)] = &[
    ("/", "search"),
    ("j, k", "next, previous row"),
    ("Enter", "open the row"),
    ("x", "mark a version to compare"),
    ("c", "compare the marked versions"),
    ("[, ]", "older, newer version or page"),
    ("r", "the page from which to restore (never restores by itself)"),
    ("t", "to the box for a time"),
    ("g a", "to Activity"),
    ("?", "this page"),
    ("Esc", "leave a box"),
];

pub(crate) async fn page(asked: Asked) -> Result<Response, Failure> {
    super::html(&Page { shell: Shell::new(&asked, "", "Help"), examples: EXAMPLES, keys: KEYS })
}
