//! Every address there is, with what it takes to be let in: one table, from which the router is built and against which
//! rights are tested.

use axum::http::Method;

use crate::access::Act;
use crate::asked::{Asked, Future};
use crate::{api, page};

/// What an address answers with, also where it refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// A page for people.
    Page,
    /// A part of a page, which the page itself asks for: where somebody is not let in, nothing.
    Part,
    /// JSON for programs, errors as problem details.
    Json,
    /// A file that is the same for everybody.
    Asset,
}

/// What somebody must be permitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing: anybody is let in.
    Nothing,
    /// To be known. They see what they may view.
    Visit,
    /// This, with the table in the address.
    OfTable(Act),
    /// This, with each table that it turns out to be about: others are left out, or it is refused.
    OfEach(Act),
}

pub(crate) type Handler = fn(Asked) -> Future;

/// An address.
#[derive(Clone, Copy)]
pub struct Route {
    /// How it is asked.
    pub method: &'static str,
    /// Where it is, below wherever the router is nested.
    pub path: &'static str,
    /// What somebody must be permitted.
    pub need: Need,
    /// What it answers with.
    pub answer: Answer,
    pub(crate) handler: Handler,
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} ({:?}, {:?})", self.method, self.path, self.need, self.answer)
    }
}

impl Route {
    pub(crate) fn method(&self) -> Method {
        if self.method == "POST" { Method::POST } else { Method::GET }
    }
}

macro_rules! routes {
    ($($method:ident $path:literal $need:expr, $answer:ident => $($handler:ident)::+;)*) => {
        /// All of them.
        pub const ROUTES: &[Route] = &[$(Route {
            method: stringify!($method),
            path: $path,
            need: $need,
            answer: Answer::$answer,
            handler: |asked| Box::pin($($handler)::+(asked)),
        }),*];
    };
}

use Act::{Export, Revert, View};
use Need::{Nothing, OfEach, OfTable, Visit};

routes! {
    GET "/" Visit, Page => page::activity::page;
    GET "/new" Visit, Part => page::activity::new;
    GET "/e/{event}" Visit, Page => page::event::page;
    GET "/r" Visit, Page => page::tables::page;
    GET "/r/{table}" OfTable(View), Page => page::records::page;
    GET "/r/{table}/{key}" OfTable(View), Page => page::record::page;
    GET "/r/{table}/{key}/at" OfTable(View), Page => page::version::at;
    GET "/r/{table}/{key}/v/{version}" OfTable(View), Page => page::version::page;
    GET "/r/{table}/{key}/compare" OfTable(View), Page => page::compare::choose;
    GET "/r/{table}/{key}/compare/{range}" OfTable(View), Page => page::compare::page;
    GET "/r/{table}/{key}/field/{field}" OfTable(View), Page => page::field::page;
    GET "/r/{table}/{key}/restore/{version}" OfTable(Revert), Page => page::restore::page;
    POST "/r/{table}/{key}/restore/{version}" OfTable(Revert), Page => page::restore::write;
    GET "/asof" Visit, Page => page::as_of::tables;
    GET "/asof/{table}" OfTable(View), Page => page::as_of::page;
    GET "/asof/{table}/csv" OfTable(Export), Page => page::as_of::csv;
    GET "/tx/{id}" Visit, Page => page::transaction::page;
    GET "/tx/{id}/undo" OfEach(Revert), Page => page::transaction::undo;
    POST "/tx/{id}/undo" OfEach(Revert), Page => page::transaction::write;
    GET "/actor/{id}" Visit, Page => page::activity::actor;
    GET "/deleted" Visit, Page => page::deleted::page;
    GET "/exports" OfEach(Export), Page => page::exports::page;
    GET "/export.csv" OfEach(Export), Page => page::exports::csv;
    GET "/export.json" OfEach(Export), Page => page::exports::json;
    GET "/report.html" OfEach(Export), Page => page::report::html;
    GET "/report.csv" OfEach(Export), Page => page::report::csv;
    GET "/report.json" OfEach(Export), Page => page::report::json;
    GET "/report.pdf" OfEach(Export), Page => page::report::pdf;
    GET "/storage" Visit, Page => page::storage::page;
    GET "/views" Visit, Page => page::views::page;
    POST "/views" Visit, Page => page::views::write;
    GET "/link" OfEach(Export), Page => page::link::page;
    POST "/link" OfEach(Export), Page => page::link::make;
    GET "/help" Visit, Page => page::help::page;
    GET "/assets/{name}" Nothing, Asset => page::assets::file;
    GET "/api" Visit, Page => api::explorer;
    GET "/api/openapi.json" Visit, Json => api::openapi;
    GET "/api/tables" Visit, Json => api::tables;
    GET "/api/log" Visit, Json => api::log;
    GET "/api/summary" Visit, Json => api::summary;
    GET "/api/events/{event}" Visit, Json => api::event;
    GET "/api/tables/{table}/as-of" OfTable(View), Json => api::as_of;
    GET "/api/tables/{table}/records/{key}" OfTable(View), Json => api::record;
    GET "/api/tables/{table}/records/{key}/history" OfTable(View), Json => api::history;
    GET "/api/tables/{table}/records/{key}/versions/{version}" OfTable(View), Json => api::version;
    GET "/api/tables/{table}/records/{key}/diff" OfTable(View), Json => api::diff;
    POST "/api/tables/{table}/records/{key}/revert" OfTable(Revert), Json => api::revert;
    POST "/api/tables/{table}/records/{key}/restore" OfTable(Revert), Json => api::restore;
    POST "/api/transactions/{id}/revert" OfEach(Revert), Json => api::revert_transaction;
}
