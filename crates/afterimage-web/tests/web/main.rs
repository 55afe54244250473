//! The web interface and the API as they answer, on every database; in a browser, see `browser.rs`.

#[macro_use]
#[path = "../support/mod.rs"]
mod support;

mod api;
mod pages;
mod report;
mod rights;
#[cfg(feature = "users")]
mod users;
