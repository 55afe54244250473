//! Logging in and out.

use askama::Template;
use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};

use super::{COOKIE, Users, cookie, store};
use crate::access::Authorizer as _;
use crate::address::is_within;
use crate::filter::Parameters;
use crate::page::{self, assets};
use crate::web;

/// What is sent to log in is never longer than this.
const LONGEST_BODY: usize = 8 * 1024;

#[derive(Template)]
#[template(path = "log_in.html")]
struct Page {
    to: String,
    name: String,
    problem: Option<String>,
}

/// Where somebody logs in who then goes on to an address.
pub(super) fn address(to: &Uri) -> String {
    let to = to.path_and_query().map_or("/", |path| path.as_str());
    if to == "/" { "/login".to_owned() } else { Parameters::default().with("to", to).on("/login") }
}

impl Users {
    /// The pages for logging in, `/login`, and out, `/logout`: to be merged with the router of [`Web`](crate::Web) that
    /// these users authorize, both at the root.
    pub fn router<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        let (show, enter, leave) = (self.clone(), self.clone(), self.clone());
        Router::new()
            .route(
                "/login",
                get(move |request: Request| async move { show.show(request).await })
                    .post(move |request: Request| async move { enter.enter(request).await }),
            )
            .route("/logout", post(move |request: Request| async move { leave.leave(&request) }))
    }

    async fn show(self, request: Request) -> Response {
        let (head, _) = request.into_parts();
        let parameters = Parameters::read(head.uri.query().unwrap_or_default());
        let to = within(parameters.first("to"));
        // Whoever is known already has nothing to do here.
        if self.visitor(&head).await.is_ok() {
            return page::see_other(&to);
        }
        form(StatusCode::OK, Page { to, name: String::new(), problem: None })
    }

    async fn enter(self, request: Request) -> Response {
        let (head, body) = request.into_parts();
        if !web::from_here(&head.headers) {
            return StatusCode::FORBIDDEN.into_response();
        }
        let Ok(body) = axum::body::to_bytes(body, LONGEST_BODY).await else {
            return StatusCode::PAYLOAD_TOO_LARGE.into_response();
        };
        let sent = Parameters::read(&String::from_utf8_lossy(&body));
        let text = |name: &str| sent.first(name).unwrap_or_default().to_owned();
        let (name, password, to) = (text("name"), text("password"), within(sent.first("to")));
        if name.chars().count() > store::LONGEST_NAME || password.len() > store::LONGEST {
            let problem = Some("There is no user of that name and password.".to_owned());
            return form(StatusCode::UNAUTHORIZED, Page { to, name: String::new(), problem });
        }
        let client = self.proxy.client(&head);
        let address = client.map(|client| client.to_string()).unwrap_or_default();
        let Ok(_waiting) = self.inner.waiting.try_acquire() else {
            tracing::warn!(target: "afterimage::access", name, address, "too many log in at once");
            let problem = Some("Too many people log in at once. Try again.".to_owned());
            return form(StatusCode::SERVICE_UNAVAILABLE, Page { to, name, problem });
        };
        if let Err(wait) = self.inner.attempts.begin(&name, client) {
            tracing::warn!(target: "afterimage::access", name, address, "too many attempts to log in");
            let minutes = wait.as_secs() / 60 + 1;
            let problem = Some(format!("Too many attempts. Try again in {minutes} minutes."));
            let mut response = form(StatusCode::TOO_MANY_REQUESTS, Page { to, name, problem });
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
            return response;
        }
        let users = match self.current() {
            Ok(users) => users,
            Err(error) => {
                tracing::error!(%error, "the users cannot be read");
                return StatusCode::INTERNAL_SERVER_ERROR.into_response();
            }
        };
        let user = users.into_iter().find(|user| user.name == name);
        let hash = user.as_ref().map(|user| user.password_hash().to_owned());
        let is_theirs = {
            let _turn = self.inner.hashing.acquire().await;
            tokio::task::spawn_blocking(move || store::verify(&password, hash.as_deref()))
                .await
                .unwrap_or(false)
        };
        let Some(user) = user.filter(|_| is_theirs) else {
            tracing::warn!(target: "afterimage::access", name, address, "refused to log in");
            let problem = Some("There is no user of that name and password.".to_owned());
            return form(StatusCode::UNAUTHORIZED, Page { to, name, problem });
        };
        self.inner.attempts.succeeded(&name, client);
        // A session that a browser brought along is not the one that begins.
        if let Some(old) = cookie(&head.headers) {
            self.inner.sessions.end(old);
        }
        tracing::info!(target: "afterimage::access", name, address, "logged in");
        let cookie = self.inner.sessions.begin(&user);
        with_cookie(
            page::see_other(&to),
            &format!("{COOKIE}={cookie}; Path=/; Secure; HttpOnly; SameSite=Lax"),
        )
    }

    fn leave(&self, request: &Request) -> Response {
        if !web::from_here(request.headers()) {
            return StatusCode::FORBIDDEN.into_response();
        }
        if let Some(cookie) = cookie(request.headers()) {
            self.inner.sessions.end(cookie);
        }
        let gone = format!("{COOKIE}=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0");
        with_cookie(page::see_other("/login"), &gone)
    }
}

/// Where somebody goes on to.
fn within(to: Option<&str>) -> String {
    to.filter(|to| is_within(to)).unwrap_or("/").to_owned()
}

fn with_cookie(mut response: Response, cookie: &str) -> Response {
    if let Ok(cookie) = HeaderValue::from_str(cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    secured(response)
}

fn secured(mut response: Response) -> Response {
    web::secure(response.headers_mut(), crate::Answer::Page, "");
    response
}

fn form(status: StatusCode, page: Page) -> Response {
    secured(page::with_status(status, &page).unwrap_or_else(|failure| failure.status.into_response()))
}

/// The stylesheet of the page for logging in.
fn style() -> String {
    format!("/assets/{}?v={:x}", assets::STYLE, assets::version(assets::STYLE))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;

    use super::*;

    #[test]
    fn nobody_is_led_to_another_site() {
        for evil in [
            "https://evil.example",
            "//evil.example",
            "/\\evil.example",
            "\\\\evil",
            "/\t/evil.example",
            "evil",
        ] {
            assert_eq!(within(Some(evil)), "/", "{evil}");
        }
        assert_eq!(within(Some("/r/orders?x=1")), "/r/orders?x=1");
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, HeaderValue::from_static("a=b; __Host-afterimage=xyz; c=d"));
        assert_eq!(cookie(&headers), Some("xyz"));
    }
}
