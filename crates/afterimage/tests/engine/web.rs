//! The middleware: every request writes in its own name.

#![cfg(all(feature = "axum", feature = "sea-orm"))]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::support::*;
use afterimage::tower::{AuditLayer, RequestContext};
use afterimage::{Afterimage, Context, LogQuery, Tracking, current, in_scope, scope};
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{Request, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{get, post};
use sea_orm::{ActiveModelTrait as _, Set};
use tokio::sync::Semaphore;
use tower::ServiceExt as _;

/// Who a request was found to be of.
#[derive(Clone)]
struct User(String);

/// Reads a token off the request, as an application's own middleware does.
async fn authenticate(mut request: Request<Body>, next: Next) -> Response {
    let token = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    if let Some(user) =
        token.and_then(|token| token.strip_prefix("Bearer ")).map(|user| User(user.to_owned()))
    {
        request.extensions_mut().insert(user);
    }
    next.run(request).await
}

fn layer() -> AuditLayer {
    AuditLayer::new(|request| match request.extensions.get::<User>() {
        Some(User(name)) => Context::actor(name).label(format!("{name}@example.com")),
        None => Context::new(),
    })
    .trusted_proxies(["10.0.0.0/8", "::1"])
    .unwrap()
}

fn told(context: &Context) -> String {
    let text = |key: &str| context.get(key).and_then(|value| value.as_str()).unwrap_or("-").to_owned();
    format!("{} {} {}", text("actor"), text("remote_addr"), text("correlation_id"))
}

fn app<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    router.layer(layer()).layer(from_fn(authenticate))
}

fn request(path: &str, peer: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::builder().uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut request = request.body(Body::empty()).unwrap();
    let peer: SocketAddr = peer.parse().unwrap();
    request.extensions_mut().insert(ConnectInfo(peer));
    request
}

async fn body(response: Response) -> String {
    let bytes = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What the handler finds, as an extractor and as the scope it runs in.
async fn seen(peer: &str, headers: &[(&str, &str)]) -> String {
    let handler = async |RequestContext(context): RequestContext| {
        assert_eq!(current(), Some(context.clone()));
        told(&context)
    };
    let app = app(Router::new().route("/", get(handler)));
    body(app.oneshot(request("/", peer, headers)).await.unwrap()).await
}

#[tokio::test]
async fn an_address_is_believed_from_our_own_proxies_only() {
    let id = ("x-correlation-id", "r1");
    let asked = async |peer: &str, forwarded: &[&str]| {
        let headers: Vec<(&str, &str)> =
            forwarded.iter().map(|value| ("x-forwarded-for", *value)).chain([id]).collect();
        seen(peer, &headers).await
    };
    assert_eq!(asked("203.0.113.9:4711", &[]).await, "- 203.0.113.9 r1");
    assert_eq!(asked("203.0.113.9:4711", &["1.2.3.4"]).await, "- 203.0.113.9 r1", "forged");
    assert_eq!(asked("10.0.0.1:4711", &["198.51.100.7"]).await, "- 198.51.100.7 r1");
    assert_eq!(
        asked("10.0.0.1:4711", &["1.2.3.4, 198.51.100.7, 10.9.9.9"]).await,
        "- 198.51.100.7 r1",
        "forged in front"
    );
    assert_eq!(
        asked("10.0.0.1:4711", &["1.2.3.4", "198.51.100.7:55"]).await,
        "- 198.51.100.7 r1",
        "in two headers"
    );
    assert_eq!(
        asked("10.0.0.1:4711", &["198.51.100.7, nonsense"]).await,
        "- 10.0.0.1 r1",
        "as far as it is clear"
    );
    assert_eq!(asked("10.0.0.1:4711", &[]).await, "- 10.0.0.1 r1");
    assert_eq!(asked("[::1]:4711", &["\"[2001:db8::7]:99\""]).await, "- 2001:db8::7 r1");
    assert_eq!(asked("[::ffff:10.0.0.1]:4711", &["198.51.100.7"]).await, "- 198.51.100.7 r1", "mapped");
}

#[tokio::test]
async fn who_asks_is_who_authentication_found() {
    let headers = [("authorization", "Bearer ann"), ("x-correlation-id", "r1")];
    assert_eq!(seen("192.0.2.1:1", &headers).await, "ann 192.0.2.1 r1");
}

#[tokio::test]
async fn a_request_has_an_id_in_any_case() {
    let id = async |headers: &[(&str, &str)]| {
        seen("192.0.2.1:1", headers).await.rsplit_once(' ').unwrap().1.to_owned()
    };
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    assert_eq!(id(&[("traceparent", &parent)]).await, trace);
    assert_eq!(id(&[("traceparent", &parent), ("x-correlation-id", "mine")]).await, "mine");
    let long = "x".repeat(129);
    for strange in ["", "  ", &long] {
        let made = id(&[("x-correlation-id", strange), ("traceparent", "00-short-1-1")]).await;
        assert_eq!(made.len(), 36, "{made}");
    }
    assert_ne!(id(&[]).await, id(&[]).await);
}

#[tokio::test]
async fn without_the_layer_the_extractor_says_so() {
    let app = Router::new().route("/", get(async |_: RequestContext| "never"));
    let response = app.oneshot(request("/", "192.0.2.1:1", &[])).await.unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(body(response).await.contains("AuditLayer is not among"));
}

#[test]
fn a_network_that_is_none_is_refused() {
    let refused = AuditLayer::new(|_| Context::new()).trusted_proxies(["10.0.0.0/33"]).unwrap_err();
    assert!(refused.to_string().contains("\"10.0.0.0/33\" is no network"));
}

#[tokio::test]
async fn what_is_spawned_is_outside_unless_it_is_taken_along() {
    scope(Context::actor("1").reason("outer"), async {
        scope(Context::new().reason("inner"), async {
            assert_eq!(current(), Some(Context::actor("1").reason("inner")));
            assert_eq!(tokio::spawn(async { current() }).await.unwrap(), None);
            assert_eq!(tokio::spawn(in_scope(async { current() })).await.unwrap(), current());
        })
        .await;
        assert_eq!(current(), Some(Context::actor("1").reason("outer")));
    })
    .await;
    assert_eq!(current(), None);
}

/// A row that says who asked for it.
mod note {
    use sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "note")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i64,
        pub who: String,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

/// Writes a row in a transaction that begins without being told who asks: through SeaORM, or as SQL.
async fn write(audit: &Afterimage, id: i64, who: String) -> Result<(), afterimage::Error> {
    let mut tx = audit.begin(&Context::new().reason(format!("order {id}"))).await?;
    tokio::task::yield_now().await;
    if id % 2 == 0 {
        note::ActiveModel { id: Set(id), who: Set(who) }.insert(&tx).await?;
    } else {
        let sql = format!("INSERT INTO note (id, who) VALUES ({id}, '{who}')");
        tx.execute(&sql, &[]).await?;
    }
    tokio::task::yield_now().await;
    tx.commit().await
}

async fn handler(State(audit): State<Afterimage>, Path((id, who)): Path<(i64, String)>) -> StatusCode {
    match write(&audit, id, who).await {
        Ok(()) => StatusCode::OK,
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Writes, and then fails: `after` says how.
async fn failing(State(audit): State<Afterimage>, Path((id, after)): Path<(i64, String)>) -> StatusCode {
    let mut tx = audit.begin(&Context::new()).await.unwrap();
    tx.execute(&format!("INSERT INTO note (id, who) VALUES ({id}, 'nobody')"), &[]).await.unwrap();
    assert_ne!(after, "panic");
    StatusCode::IM_A_TEAPOT
}

on_every_database! {
    async fn case_24_who_asks_and_from_where(db: &mut TestDb) {
        db.run("CREATE TABLE note (id BIGINT PRIMARY KEY, who VARCHAR(20))").await;
        db.track("note", Tracking::new()).await;
        let routes = |audit: &Afterimage| {
            let router = Router::new().route("/{id}/{who}", post(handler)).route("/fail/{id}/{after}", post(failing));
            app(router).with_state(audit.clone())
        };
        let ask = async |app: &Router, path: &str, headers: &[(&str, &str)]| {
            let mut request = request(path, "10.0.0.1:4711", headers);
            *request.method_mut() = axum::http::Method::POST;
            // In a task of its own, as a server does: a panic is the task's.
            let answer = tokio::spawn(app.clone().oneshot(request)).await;
            assert_eq!(current(), None, "nothing is left of it");
            answer.map(|answer| answer.unwrap().status())
        };
        let app = routes(&db.audit);
        let asked = [
            ("ann", "127.0.0.3:1234", Some("ann"), "127.0.0.3"),
            ("anonymous", "[2606:4700:4700::1001]:1234", None, "2606:4700:4700::1001"),
            ("1234", "2606:4700:4700::1111", Some("1234"), "2606:4700:4700::1111"),
            ("nobody", "203.0.113.5", None, "203.0.113.5"),
        ];
        for (id, (who, forwarded, actor, _)) in asked.iter().enumerate() {
            let token = actor.map(|actor| format!("Bearer {actor}"));
            let mut headers = vec![("x-forwarded-for", *forwarded)];
            headers.extend(token.as_deref().map(|token| ("authorization", token)));
            assert_eq!(ask(&app, &format!("/{id}/{who}"), &headers).await.unwrap(), StatusCode::OK);
        }
        // What fails, by an answer or by a panic, leaves neither a row nor a record.
        assert_eq!(ask(&app, "/fail/8/answer", &[]).await.unwrap(), StatusCode::IM_A_TEAPOT);
        assert!(ask(&app, "/fail/9/panic", &[]).await.unwrap_err().is_panic());
        // Nobody's record is of whoever came before.
        db.audit.execute("INSERT INTO note (id, who) VALUES (10, 'no request')").await.unwrap();
        // What is switched off is written and not recorded.
        if !db.is_postgres() {
            db.audit.allow_skip(true).await.unwrap();
        }
        let off = routes(&db.audit.clone().recording(false));
        assert_eq!(ask(&off, "/11/ann", &[("authorization", "Bearer ann")]).await.unwrap(), StatusCode::OK);

        let mut entries = db.audit.log(&LogQuery::parse("table:note").unwrap()).await.unwrap().entries;
        entries.reverse();
        let told: Vec<(String, Option<&str>, Option<String>)> = entries
            .iter()
            .map(|entry| {
                let address = entry.header.context_member("remote_addr");
                (entry.key[0].1.to_string(), entry.header.user.as_deref(), address)
            })
            .collect();
        let mut expected: Vec<(String, Option<&str>, Option<String>)> = asked
            .iter()
            .enumerate()
            .map(|(id, (_, _, actor, address))| (id.to_string(), *actor, Some((*address).to_owned())))
            .collect();
        expected.push(("10".to_owned(), None, None));
        assert_eq!(told, expected);
        let rows = db.lines(&format!("SELECT CAST(id AS {}) FROM note ORDER BY note.id", db.by3("TEXT", "TEXT", "CHAR"))).await;
        assert_eq!(rows, ["0", "1", "2", "3", "10", "11"]);

        // What cannot be recorded is not written.
        db.run("DROP TABLE note_history").await;
        let refused = ask(&app, "/12/ann", &[("authorization", "Bearer ann")]).await.unwrap();
        assert_eq!(refused, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(db.text("SELECT count(*) FROM note WHERE id = 12").await.as_deref(), Some("0"));
    }
}

const REQUESTS: i64 = 12_000;

/// How long a caller waits at most before it hangs up, in microseconds.
const PATIENCE: u64 = 20_000;

/// So many of them at a time: more than any machine answers before most have hung up.
const AT_ONCE: usize = 200;

on_every_database! {
    async fn thousands_of_requests_each_write_in_their_own_name_while_most_callers_hang_up(db: &mut TestDb) {
        db.run("CREATE TABLE note (id BIGINT PRIMARY KEY, who VARCHAR(20))").await;
        db.track("note", Tracking::new()).await;
        let app = app(Router::new().route("/{id}/{who}", post(handler))).with_state(db.audit.clone());
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        let mut tasks = tokio::task::JoinSet::new();
        for id in 0..REQUESTS {
            let app = app.clone();
            let turn = Arc::clone(&turns).acquire_owned().await.unwrap();
            tasks.spawn(async move {
                let _turn = turn;
                let who = format!("user{}", id % 7);
                let token = format!("Bearer {who}");
                let correlation = format!("r{id}");
                let headers = [("authorization", token.as_str()), ("x-correlation-id", &correlation)];
                let mut request = request(&format!("/{id}/{who}"), "192.0.2.1:1", &headers);
                *request.method_mut() = axum::http::Method::POST;
                let answer = app.oneshot(request);
                // Five of six callers hang up, wherever their request is by then.
                if id % 6 == 0 {
                    return Some(answer.await.unwrap().status());
                }
                let patience = Duration::from_micros((id as u64 * 37) % PATIENCE);
                tokio::time::timeout(patience, answer).await.map_or(None, |answer| Some(answer.unwrap().status()))
            });
        }
        let mut answered = HashMap::new();
        while let Some(answer) = tasks.join_next().await {
            *answered.entry(answer.unwrap()).or_insert(0) += 1;
        }
        assert!(!answered.contains_key(&Some(StatusCode::INTERNAL_SERVER_ERROR)), "{answered:?}");
        assert!(answered[&Some(StatusCode::OK)] >= REQUESTS / 6, "{answered:?}");
        assert!(answered[&None] >= 5 * REQUESTS / 6 - REQUESTS / 60, "most hung up before they were answered: {answered:?}");
        let query = LogQuery::parse("table:note").unwrap().limit(2 * REQUESTS as u64);
        let entries = db.audit.log(&query).await.unwrap().entries;
        assert!(entries.len() >= REQUESTS as usize / 6);
        for entry in &entries {
            let who = entry.changes.iter().find(|change| change.field == "who").unwrap().new.to_string();
            let id = entry.key[0].1.to_string();
            assert_eq!(entry.header.user.as_deref(), Some(who.as_str()), "record {id}");
            assert_eq!(entry.header.context_member("correlation_id").as_deref(), Some(format!("r{id}").as_str()));
            assert_eq!(entry.header.reason.as_deref(), Some(format!("order {id}").as_str()));
        }
        // Nothing is left in the pool: who writes next without a context is nobody.
        for id in 0..8 {
            db.audit.execute(&format!("INSERT INTO note (id, who) VALUES ({}, 'nobody')", 100_000 + id)).await.unwrap();
        }
        let after = db.audit.log(&LogQuery::parse("table:note now:nobody").unwrap()).await.unwrap().entries;
        assert_eq!(after.len(), 8);
        assert!(after.iter().all(|entry| entry.header.user.is_none()));
        db.verify().await;
    }
}
