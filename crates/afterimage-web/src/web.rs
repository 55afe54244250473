//! The router: each request finds its route, is let in or not, and is answered.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use afterimage::Afterimage;
use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts as _, OriginalUri, RawPathParams, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodFilter, on};

use crate::access::{Act, Authorizer, Refusal};
use crate::asked::Asked;
use crate::failure::Failure;
use crate::links::{self, ByLink};
use crate::routes::{Answer, Need, ROUTES, Route};
use crate::views::Views;
use crate::{api, page};

/// What is sent with a form or a request to write back is never longer than this.
const LONGEST_BODY: usize = 1 << 20;

/// The header by which a request is known from elsewhere.
const CORRELATION: &str = "x-correlation-id";

/// What pages may load, and do: nothing but what comes from here.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src data:; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The web interface and REST API over one database.
#[derive(Clone)]
pub struct Web {
    inner: Arc<Inner>,
}

/// What an address and a method lead to.
#[derive(Clone, Copy)]
enum Found {
    Route(Route),
    Nothing,
    /// An address that is there for other methods.
    OtherMethod,
}

#[derive(Clone)]
struct Inner {
    audit: Afterimage,
    authorizer: Arc<dyn Authorizer>,
    zone: String,
    views: Option<Arc<dyn Views>>,
    link_key: Option<Arc<[u8]>>,
}

impl std::fmt::Debug for Web {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Web").field("audit", &self.inner.audit).finish_non_exhaustive()
    }
}

impl Web {
    /// Over a database, for those whom `authorizer` lets in.
    pub fn new(audit: Afterimage, authorizer: impl Authorizer) -> Self {
        let authorizer = Arc::new(authorizer);
        let zone = "UTC".to_owned();
        Self { inner: Arc::new(Inner { audit, authorizer, zone, views: None, link_key: None }) }
    }

    /// The time zone in which times are shown and read where an address says none; UTC, where none is given.
    #[must_use]
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.inner).zone = zone.into();
        self
    }

    /// Where the views are kept that somebody wants to find again; without this, none are.
    #[must_use]
    pub fn views(mut self, views: impl Views) -> Self {
        Arc::make_mut(&mut self.inner).views = Some(Arc::new(views));
        self
    }

    /// Whoever may take something away as a file can make links, signed with this key, to a page for somebody who is no user:
    /// to look at only, and for a while. The [`Authorizer`] has to know people [by their name](Authorizer::named). Another key
    /// ends all links.
    #[must_use]
    pub fn links(mut self, key: [u8; 32]) -> Self {
        Arc::make_mut(&mut self.inner).link_key = Some(Arc::from(key));
        self
    }

    /// The router. It can be nested under any path, or served as it is; it fits a router of any state.
    pub fn router<S: Clone + Send + Sync + 'static>(self) -> Router<S> {
        let Some(key) = self.inner.link_key.clone() else { return self.pages() };
        // The same pages, for whoever has a link.
        let authorizer = Arc::new(ByLink { key, host: Arc::clone(&self.inner.authorizer) });
        let linked = Inner { authorizer, views: None, link_key: None, ..Inner::clone(&self.inner) };
        let linked = Self { inner: Arc::new(linked) };
        self.pages().nest(&format!("{}{{token}}", links::PREFIX), linked.pages())
    }

    fn pages<S: Clone + Send + Sync + 'static>(self) -> Router<S> {
        let mut router = Router::new();
        for route in ROUTES {
            let web = self.clone();
            let filter = if route.method() == Method::POST { MethodFilter::POST } else { MethodFilter::GET };
            let handler =
                move |request: Request| async move { web.answer(Found::Route(*route), request).await };
            router = router.route(route.path, on(filter, handler));
        }
        let (elsewhere, otherwise) = (self.clone(), self);
        router
            .fallback(move |request: Request| async move { elsewhere.answer(Found::Nothing, request).await })
            .method_not_allowed_fallback(move |request: Request| async move {
                otherwise.answer(Found::OtherMethod, request).await
            })
    }

    async fn answer(self, found: Found, request: Request) -> Response {
        let begun = Instant::now();
        let (mut head, body) = request.into_parts();
        // Nested, the first page is found without a slash at its end; with one it is meant, too.
        let first = head.uri.path() == "/" && head.method == Method::GET;
        let route = match found {
            Found::Route(route) => Some(route),
            Found::Nothing => ROUTES.first().filter(|_| first).copied(),
            Found::OtherMethod => None,
        };
        let id = correlation(&head.headers);
        let base = base(&head);
        let of_api = head.uri.path().starts_with("/api/");
        let kind = route.map_or(if of_api { Answer::Json } else { Answer::Page }, |route| route.answer);
        let params = RawPathParams::from_request_parts(&mut head, &()).await;
        let in_path: Option<HashMap<String, String>> =
            params.ok().map(|params| params.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect());
        let answered = match &route {
            _ if in_path.is_none() => Err(Failure::wrong("the address is not UTF-8")),
            Some(route) => self.let_in(*route, &head, body, in_path.unwrap_or_default(), &base, &id).await,
            None if matches!(found, Found::OtherMethod) => {
                Err(Failure::new(StatusCode::METHOD_NOT_ALLOWED, format!("{} is not for this.", head.method)))
            }
            None => Err(Failure::missing("There is no such page.")),
        };
        let mut response = match answered {
            Ok(response) => response,
            Err(failure) => {
                let status = failure.status;
                if status == StatusCode::FORBIDDEN {
                    tracing::warn!(
                        target: "afterimage::access", id, who = ?failure.who, method = %head.method,
                        path = head.uri.path(), detail = failure.detail, "refused"
                    );
                }
                if let Some(address) = failure.log_in.as_deref().filter(|_| kind == Answer::Page) {
                    page::see_other(address)
                } else {
                    let mut response = match kind {
                        Answer::Json => api::problem(&failure, &id),
                        Answer::Part => status.into_response(),
                        Answer::Page | Answer::Asset => {
                            page::failure(&failure, &base, &head, &id, &self.inner.zone)
                        }
                    };
                    if status == StatusCode::SERVICE_UNAVAILABLE {
                        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
                    }
                    response
                }
            }
        };
        secure(response.headers_mut(), kind, &id);
        tracing::info!(
            target: "afterimage::web",
            id, method = %head.method, path = head.uri.path(), status = response.status().as_u16(),
            micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX), "answered"
        );
        response
    }

    async fn let_in(
        &self,
        route: Route,
        head: &axum::http::request::Parts,
        body: Body,
        in_path: HashMap<String, String>,
        base: &str,
        id: &str,
    ) -> Result<Response, Failure> {
        if route.need == Need::Nothing {
            return Ok(page::assets::named(in_path.get("name").map_or("", String::as_str)));
        }
        let writes = route.method() == Method::POST;
        if writes && !from_here(&head.headers) {
            return Err(Failure::forbidden("This was sent from another site, so that nothing was written."));
        }
        let visitor = match self.inner.authorizer.visitor(head).await {
            Ok(visitor) => visitor,
            Err(Refusal::Unknown { log_in }) => {
                let failure = Failure::new(StatusCode::UNAUTHORIZED, "Log in first.");
                return Err(Failure { log_in, ..failure });
            }
            Err(Refusal::Expired) => return Err(Failure::forbidden("This link is valid no more.")),
            Err(_) => return Err(Failure::forbidden("You are not permitted to see this.")),
        };
        let body = if writes {
            axum::body::to_bytes(body, LONGEST_BODY)
                .await
                .map_err(|_| Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "At most 1 MiB can be sent."))?
                .to_vec()
        } else {
            Vec::new()
        };
        let zone = &self.inner.zone;
        let (base, id) = (base.to_owned(), id.to_owned());
        let who = visitor.name();
        let (views, key) = (self.inner.views.clone(), self.inner.link_key.clone());
        let asked = Asked::new(&self.inner.audit, visitor, views, key, base, head, in_path, body, id, zone)?;
        Self::permitted(route, asked).await.map_err(|failure| Failure { who, ..failure })
    }

    async fn permitted(route: Route, mut asked: Asked) -> Result<Response, Failure> {
        if let Need::OfTable(act) = route.need {
            let table = asked.find_table().await?;
            // Whoever may view the table may know that this is what they may not do.
            if act != Act::View && !asked.may(act, &table.table) {
                let what = if act == Act::Revert { "write anything back to" } else { "export from" };
                return Err(Failure::forbidden(format!("You may see {}, and not {what} it.", table.table)));
            }
        }
        if route.need == Need::OfEach(Act::Export) && asked.audit_for(Act::Export).tracked().await?.is_empty()
        {
            return Err(Failure::forbidden("There is no table that you may export from."));
        }
        (route.handler)(asked).await
    }
}

/// The path under which the router is nested: what the address has before what is matched here.
pub(crate) fn base(head: &axum::http::request::Parts) -> String {
    let here = head.uri.path();
    let whole = head.extensions.get::<OriginalUri>().map_or(here, |original| original.0.path());
    // Nested, the root of the router has a slash where the address may have none.
    let base = whole.strip_suffix(here).or_else(|| whole.strip_suffix(here.trim_end_matches('/')));
    base.unwrap_or_default().trim_end_matches('/').to_owned()
}

/// Whether a request that writes comes from a page of this service, or from a program that is no browser.
///
/// Browsers say where a request comes from, and no page can make them say otherwise; see "Cross-Site Request Forgery" by
/// Filippo Valsorda, 2025, and `http.CrossOriginProtection` of Go 1.25.
pub(crate) fn from_here(headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    match text(HeaderName::from_static("sec-fetch-site")) {
        Some(site) => site == "same-origin" || site == "none",
        None => match text(header::ORIGIN) {
            None => true,
            Some(origin) => {
                let authority = origin.split_once("://").map(|(_, authority)| authority);
                authority.is_some() && authority == text(header::HOST)
            }
        },
    }
}

/// The number by which a request is known: given from outside, where it is harmless.
fn correlation(headers: &HeaderMap) -> String {
    let given = headers.get(CORRELATION).and_then(|value| value.to_str().ok());
    given
        .filter(|id| {
            (1..=64).contains(&id.len())
                && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        })
        .map_or_else(|| uuid::Uuid::now_v7().to_string(), ToOwned::to_owned)
}

/// What every answer says of how it may be used.
pub(crate) fn secure(headers: &mut HeaderMap, kind: Answer, id: &str) {
    let mut set = |name: HeaderName, value: &'static str| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    set(header::CONTENT_SECURITY_POLICY, POLICY);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "same-origin");
    set(header::X_FRAME_OPTIONS, "DENY");
    set(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    set(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    set(HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()");
    set(
        header::CACHE_CONTROL,
        if kind == Answer::Asset { "public, max-age=31536000, immutable" } else { "private, no-cache" },
    );
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(HeaderName::from_static(CORRELATION), id);
    }
}

/// An answer with a type.
pub(crate) fn typed(status: StatusCode, kind: &'static str, body: impl Into<Body>) -> Response {
    (status, [(header::CONTENT_TYPE, kind)], body.into()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn what_another_site_sends_is_not_from_here() {
        let here = [("host", "shop.example"), ("origin", "https://shop.example")];
        assert!(from_here(&headers(&here)));
        assert!(from_here(&headers(&[("host", "shop.example")])));
        assert!(from_here(&headers(&[("sec-fetch-site", "same-origin")])));
        for other in [
            [("host", "shop.example"), ("origin", "https://evil.example")],
            [("host", "shop.example"), ("origin", "null")],
            [("origin", "https://shop.example"), ("sec-fetch-site", "cross-site")],
            [("origin", "https://a.shop.example"), ("sec-fetch-site", "same-site")],
        ] {
            assert!(!from_here(&headers(&other)), "{other:?}");
        }
    }

    #[test]
    fn a_correlation_id_from_outside_is_taken_only_where_it_is_harmless() {
        assert_eq!(correlation(&headers(&[("x-correlation-id", "7f3a")])), "7f3a");
        assert_ne!(correlation(&headers(&[("x-correlation-id", "a b<c>")])), "a b<c>");
    }
}
