//! The web interface and REST API of Afterimage: one axum [`Router`] to nest in any service, under any path.
//!
//! ```
//! use afterimage::{Afterimage, Context};
//! use afterimage_web::{Refusal, Role, Visitor, Web};
//! use axum::Router;
//! use axum::http::request::Parts;
//!
//! # async fn example(audit: Afterimage) {
//! let authorize = |request: &Parts| match request.headers.get("x-user").and_then(|user| user.to_str().ok()) {
//!     Some(user) => Ok(Visitor::new(Context::actor(user), Role::Viewer)),
//!     None => Err(Refusal::Unknown { log_in: None }),
//! };
//! let app: Router = Router::new().nest("/history", Web::new(audit, authorize).router());
//! # }
//! ```
//!
//! Every state of a page is an address, and every page is complete without JavaScript. Who may see and do what is the
//! host's to say, by an [`Authorizer`]: asked once for each request, it names who asks ([`Visitor`]) and what they may
//! ([`Rights`]). A table that somebody may not view is not there for them; a column that they may not see is masked in
//! every page, answer, search and file.
//!
//! What is written back is refused where another site sent it: a request that a browser says comes from elsewhere
//! (`Sec-Fetch-Site`, or else `Origin`), so that no token in a form is needed.

mod access;
mod address;
mod api;
mod asked;
mod csv;
mod failure;
mod filter;
mod kept;
mod links;
mod markup;
mod page;
mod report;
mod routes;
#[cfg(feature = "users")]
pub mod users;
mod views;
mod web;

pub use access::{Act, Authorizer, Refusal, Rights, Role, Visitor};
#[doc(no_inline)]
pub use axum::Router;
#[cfg(feature = "pdf")]
pub use report::MOST_IN_PDF;
pub use report::{ReportFailure, ReportFormat, ReportOptions, write_report};
pub use routes::{Answer, Need, ROUTES, Route};
pub use views::{FileViews, View, Views};
pub use web::Web;
