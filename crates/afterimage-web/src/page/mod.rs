//! Pages: HTML that is complete as it is, for people.

pub(crate) mod activity;
pub(crate) mod as_of;
pub(crate) mod assets;
pub(crate) mod compare;
pub(crate) mod deleted;
pub(crate) mod event;
pub(crate) mod exports;
pub(crate) mod field;
pub(crate) mod help;
mod histogram;
mod line;
pub(crate) mod link;
pub(crate) mod record;
pub(crate) mod records;
pub(crate) mod report;
pub(crate) mod restore;
pub(crate) mod storage;
pub(crate) mod tables;
pub(crate) mod transaction;
pub(crate) mod version;
pub(crate) mod views;

use afterimage::Moment;
use askama::Template;
use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use crate::address::Links;
use crate::asked::Asked;
use crate::failure::Failure;
use crate::filter::Parameters;
use crate::markup::{self, Html};
use crate::web::typed;

/// So many entries are on a page.
pub(crate) const PAGE: u64 = 50;

/// What is around every page.
#[derive(Debug)]
pub(crate) struct Shell {
    pub(crate) title: String,
    /// The part of the navigation it belongs to.
    pub(crate) tab: &'static str,
    pub(crate) links: Links,
    /// Who is looking.
    pub(crate) who: Option<String>,
    /// Where they log out.
    pub(crate) log_out: Option<String>,
    pub(crate) zone: String,
    /// What stands in the search box.
    pub(crate) search: String,
    pub(crate) id: String,
    /// The same page with times in UTC.
    pub(crate) in_utc: Option<String>,
    /// Where the views are that are kept, and where this page is kept among them.
    pub(crate) views: Option<(String, String)>,
    /// Where a link to this page is made.
    pub(crate) link: Option<String>,
}

impl Shell {
    pub(crate) fn new(asked: &Asked, tab: &'static str, title: impl Into<String>) -> Self {
        let path = asked.path.split('?').next().unwrap_or("/");
        let utc = asked.parameters.without(&["tz"]).with("tz", "UTC").on(path);
        Self {
            title: title.into(),
            tab,
            links: asked.links.clone(),
            who: asked.visitor.name(),
            log_out: asked.visitor.log_out().map(ToOwned::to_owned),
            search: asked.parameters.first("q").unwrap_or_default().to_owned(),
            id: asked.id.clone(),
            in_utc: (asked.zone != "UTC").then(|| asked.links.exactly(&utc)),
            link: (asked.link_key.is_some() && asked.visitor.actor().is_some()).then(|| {
                let link = Parameters::default().with("address", &asked.path);
                asked.links.to(&link.on("/link"))
            }),
            views: asked.views.is_some().then(|| {
                let keep = Parameters::default().with("address", &asked.path);
                (asked.links.to("/views"), asked.links.to(&keep.on("/views")))
            }),
            zone: asked.zone.clone(),
        }
    }

    /// The zone, where a form has to send it along.
    pub(crate) fn kept_zone(&self) -> Option<&str> {
        self.links.has_zone().then_some(self.zone.as_str())
    }

    /// Whether this is the part of the navigation that the page belongs to.
    pub(crate) fn at(&self, tab: &str) -> bool {
        self.tab == tab
    }
}

/// A page.
pub(crate) fn html(template: &impl Template) -> Result<Response, Failure> {
    with_status(StatusCode::OK, template)
}

pub(crate) fn with_status(status: StatusCode, template: &impl Template) -> Result<Response, Failure> {
    let html = template.render().map_err(|error| {
        tracing::error!(%error, "a page could not be written");
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "the page could not be written")
    })?;
    Ok(typed(status, "text/html; charset=utf-8", html))
}

/// Leads elsewhere.
pub(crate) fn see_other(address: &str) -> Response {
    let mut response = (StatusCode::SEE_OTHER, Body::empty()).into_response();
    match HeaderValue::from_str(address) {
        Ok(address) => {
            response.headers_mut().insert(header::LOCATION, address);
            response
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[derive(Template)]
#[template(path = "failure.html")]
struct FailurePage {
    shell: Shell,
    detail: Html,
    status: u16,
    /// What was asked, to be mended.
    asked: Option<String>,
}

/// The page that says what went wrong.
pub(crate) fn failure(failure: &Failure, base: &str, head: &Parts, id: &str, usual: &str) -> Response {
    let parameters = Parameters::read(head.uri.query().unwrap_or_default());
    let zone = parameters.first("tz").filter(|zone| Moment::is_zone(zone)).unwrap_or(usual).to_owned();
    let search = parameters.first("q").unwrap_or_default().to_owned();
    let page = FailurePage {
        shell: Shell {
            title: failure.title().to_owned(),
            tab: "",
            links: Links::new(base.to_owned(), &zone, usual),
            who: None,
            log_out: None,
            zone,
            search: search.clone(),
            id: id.to_owned(),
            in_utc: None,
            views: None,
            link: None,
        },
        detail: markup::text(&failure.detail),
        status: failure.status.as_u16(),
        asked: (failure.status == StatusCode::BAD_REQUEST && !search.is_empty()).then_some(search),
    };
    with_status(failure.status, &page).unwrap_or_else(|_| failure.status.into_response())
}
