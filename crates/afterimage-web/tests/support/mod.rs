//! A shop with a history, the web interface over it, and somebody who asks.

#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

#[macro_use]
#[path = "../../../afterimage/tests/support/mod.rs"]
mod database;

use afterimage::{Afterimage, Context, Storage, TableName, Tracking};
use afterimage_web::{Act, Refusal, Rights, Role, Router, Visitor, Web};
use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

pub use database::TestDb;

/// Where the tests nest the router.
pub const BASE: &str = "/admin/history";

/// What is masked in the shop, and must be seen nowhere.
pub const SECRETS: [&str; 2] = ["4111222233334444", "5555666677778888"];

/// Sees orders without their risk, and nothing else; writes nothing back and takes nothing away.
struct Clerk;

impl Rights for Clerk {
    fn may(&self, act: Act, table: &TableName) -> bool {
        act == Act::View && table.name == "orders"
    }

    fn sees(&self, _table: &TableName, column: &str) -> bool {
        column != "risk"
    }
}

/// Writes back what they see, which is everything but the risk of orders.
struct Careful;

impl Rights for Careful {
    fn may(&self, _act: Act, _table: &TableName) -> bool {
        true
    }

    fn sees(&self, _table: &TableName, column: &str) -> bool {
        column != "risk"
    }
}

fn authorize(request: &Parts) -> Result<Visitor, Refusal> {
    let user = request.headers.get("x-user").and_then(|user| user.to_str().ok());
    let context = |user: &str| Context::actor(user).label(format!("{user} the {user}"));
    match user {
        Some("clerk") => Ok(Visitor::new(context("clerk"), Clerk)),
        Some("careful") => Ok(Visitor::new(context("careful"), Careful)),
        Some("viewer") => Ok(Visitor::new(context("viewer"), Role::Viewer)),
        Some("reverter") => Ok(Visitor::new(context("reverter"), Role::Reverter)),
        Some("admin") => Ok(Visitor::new(context("admin"), Role::Admin)),
        Some(_) => Err(Refusal::Forbidden),
        None => Err(Refusal::Unknown { log_in: None }),
    }
}

pub fn web(audit: Afterimage) -> Web {
    Web::new(audit, authorize)
}

pub fn router(audit: Afterimage) -> Router {
    Router::new().nest(BASE, web(audit).router())
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn ok(self) -> String {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text);
        self.text
    }

    pub fn json(self) -> serde_json::Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text);
        serde_json::from_str(&self.text).unwrap()
    }

    pub fn location(&self) -> String {
        self.headers["location"].to_str().unwrap().to_owned()
    }
}

/// Somebody who asks.
#[derive(Clone)]
pub struct Somebody {
    pub router: Router,
    pub user: Option<&'static str>,
}

impl Somebody {
    pub fn new(db: &TestDb, user: &'static str) -> Self {
        Self { router: router(db.audit.clone()), user: Some(user) }
    }

    pub fn called(&self, user: Option<&'static str>) -> Self {
        Self { user, ..self.clone() }
    }

    pub async fn send(&self, request: axum::http::request::Builder, body: impl Into<Body>) -> Answer {
        let request = match self.user {
            Some(user) => request.header("x-user", user),
            None => request,
        };
        let request = request.header("host", "shop.example").body(body.into()).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer {
            status: head.status,
            headers: head.headers,
            // A PDF is no text.
            text: String::from_utf8_lossy(&bytes).into_owned(),
        }
    }

    /// A page or an answer below where the router is nested, or the whole address.
    pub async fn get(&self, path: &str) -> Answer {
        // The root of a nested router has no slash at its end.
        let path = if path.starts_with("/?") { &path[1..] } else { path };
        let path = if path.starts_with(BASE) {
            path.to_owned()
        } else {
            format!("{BASE}{}", path.trim_end_matches('/'))
        };
        self.send(Request::get(path), Body::empty()).await
    }

    pub async fn post(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        let mut body = form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(form);
        let request = Request::post(format!("{BASE}{path}"))
            .header("sec-fetch-site", "same-origin")
            .header("content-type", "application/x-www-form-urlencoded");
        self.send(request, body.finish()).await
    }

    pub async fn post_json(&self, path: &str, body: &serde_json::Value) -> Answer {
        let request = Request::post(format!("{BASE}{path}")).header("content-type", "application/json");
        self.send(request, body.to_string()).await
    }
}

/// Orders, customers and lines of orders, written by alice and bob, and by nobody in particular.
pub async fn shop(db: &mut TestDb) {
    let total = db.by3("NUMERIC", "numeric(12,2)", "DECIMAL(12,2)");
    db.run(&format!(
        "CREATE TABLE customer (id INTEGER PRIMARY KEY, name VARCHAR(100), city VARCHAR(100));
         CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER, status VARCHAR(20), total {total}, notes TEXT, card VARCHAR(30), risk INTEGER);
         CREATE TABLE line (order_id INTEGER, what VARCHAR(50), n INTEGER, PRIMARY KEY (order_id, what))"
    ))
    .await;
    db.track("customer", Tracking::new().label("name")).await;
    db.track("orders", Tracking::new().storage(Storage::Delta).mask(["card"])).await;
    db.track("line", Tracking::new()).await;
    for (actor, reason, sql) in [
        (
            "alice",
            "first orders",
            "INSERT INTO customer VALUES (7, 'Bobby Tables', 'Köln'), (8, '<script>alert(1)</script>', '=1+1')",
        ),
        (
            "alice",
            "first orders",
            "INSERT INTO orders VALUES (17, 7, 'placed', 1249.00, 'Please leave the parcel with the neighbour at number 14 if nobody is home; ring twice, then call.', '4111222233334444', 0), (14, 8, 'placed', 20.50, NULL, NULL, 3)",
        ),
        ("alice", "", "INSERT INTO line VALUES (17, 'chair, oak=dark', 1), (17, 'a/b?c#d', 2)"),
        ("bob", "price match", "UPDATE orders SET total = 1149.00 WHERE id = 17"),
        (
            "bob",
            "customer called",
            "UPDATE orders SET notes = 'Please leave the parcel with the neighbour at number 41 if nobody is home; ring twice, then call.', card = '5555666677778888', risk = 880088 WHERE id = 17",
        ),
        ("bob", "duplicate", "DELETE FROM orders WHERE id = 14"),
    ] {
        db.run_as(actor, reason, sql).await;
        db.tick().await;
    }
    db.run("UPDATE orders SET status = 'shipped' WHERE id = 17").await;
    db.tick().await;
}

/// What stands between two marks, everywhere in a page.
pub fn between<'t>(text: &'t str, begin: &str, end: &str) -> Vec<&'t str> {
    text.split(begin).skip(1).filter_map(|rest| rest.split(end).next()).collect()
}

/// A page's text, without markup.
pub fn said(html: &str) -> String {
    let mut text = String::new();
    let mut inside = false;
    for c in html.split("<main").nth(1).unwrap_or(html).chars() {
        match c {
            '<' => inside = true,
            '>' => {
                inside = false;
                text.push(' ');
            }
            c if !inside => text.push(c),
            _ => {}
        }
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").replace("&#34;", "\"").replace("&#39;", "'").replace("&quot;", "\"")
}
