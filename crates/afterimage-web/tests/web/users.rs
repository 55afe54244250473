//! Users of its own: logging in and out, tokens, and what each may.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support::{TestDb, said, shop};
use afterimage::Moment;
use afterimage_web::users::{Grant, NewToken, Users};
use afterimage_web::{Role, Router, Web};
use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

const PASSWORD: &str = "correct horse battery";

/// The service, its users, and the folder they are kept in.
async fn service(db: &mut TestDb) -> (Router, Users, tempfile::TempDir) {
    shop(db).await;
    let folder = tempfile::tempdir().unwrap();
    let users = Users::open(folder.path().join("users.json")).unwrap();
    users.add("ann", Some("Ann Smith"), Some(PASSWORD), Grant::new(Role::Reverter)).unwrap();
    let hidden = vec!["orders.notes".to_owned()];
    let grant = Grant { tables: Some(vec!["orders".into()]), hidden, ..Grant::new(Role::Viewer) };
    users.add("bob", None, Some(PASSWORD), grant).unwrap();
    let router = users.router().merge(Web::new(db.audit.clone(), users.clone()).router());
    (router, users, folder)
}

struct Answer {
    status: StatusCode,
    location: String,
    cookie: String,
    text: String,
}

async fn send(router: &Router, request: axum::http::request::Builder, body: &str) -> Answer {
    let request = request.header("host", "history.example").body(Body::from(body.to_owned())).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    let header =
        |name: &str| head.headers.get(name).map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
    Answer { status: head.status, location: header("location"), cookie: header("set-cookie"), text }
}

async fn log_in(router: &Router, name: &str, password: &str) -> Answer {
    let mut body = form_urlencoded::Serializer::new(String::new());
    body.extend_pairs([("name", name), ("password", password), ("to", "/r/orders/17")]);
    let request = Request::post("/login").header("sec-fetch-site", "same-origin");
    send(router, request, &body.finish()).await
}

/// The cookie's name and value.
fn pair(answer: &Answer) -> String {
    answer.cookie.split(';').next().unwrap().to_owned()
}

async fn get(router: &Router, path: &str, cookie: &str) -> Answer {
    send(router, Request::get(path).header("cookie", cookie), "").await
}

#[tokio::test]
async fn somebody_logs_in_goes_on_where_they_were_and_logs_out() {
    let db = &mut TestDb::sqlite().await;
    let (router, _users, _folder) = service(db).await;
    let stranger = get(&router, "/r/orders/17", "").await;
    assert_eq!(
        (stranger.status, &*stranger.location),
        (StatusCode::SEE_OTHER, "/login?to=%2Fr%2Forders%2F17")
    );
    assert_eq!(get(&router, "/api/log", "").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(get(&router, &stranger.location, "").await.status, StatusCode::OK);
    let wrong = log_in(&router, "ann", "correct horse batterx").await;
    assert_eq!((wrong.status, &*wrong.cookie), (StatusCode::UNAUTHORIZED, ""));
    let entered = log_in(&router, "ann", PASSWORD).await;
    assert_eq!((entered.status, &*entered.location), (StatusCode::SEE_OTHER, "/r/orders/17"));
    for part in ["__Host-afterimage=", "Path=/", "Secure", "HttpOnly", "SameSite=Lax"] {
        assert!(entered.cookie.contains(part), "{}", entered.cookie);
    }
    let cookie = pair(&entered);
    let page = get(&router, "/r/orders/17", &cookie).await;
    assert!(said(&page.text).contains("You are Ann Smith.") && page.text.contains("action=\"/logout\""));
    let written = Request::post("/r/orders/17/restore/1")
        .header("cookie", &cookie)
        .header("sec-fetch-site", "same-origin");
    let done = send(&router, written, "expect=4&field=total&reason=wrong+price").await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.text);
    assert_eq!(db.audit.history("orders", "17").await.unwrap()[0].header.user.as_deref(), Some("ann"));
    let again = log_in(&router, "ann", PASSWORD).await;
    assert_ne!(pair(&again), cookie);
    let leave = Request::post("/logout").header("cookie", &cookie).header("sec-fetch-site", "same-origin");
    assert!(send(&router, leave, "").await.cookie.contains("Max-Age=0"));
    assert_eq!(get(&router, "/", &cookie).await.status, StatusCode::SEE_OTHER);
    assert_eq!(get(&router, "/", &pair(&again)).await.status, StatusCode::OK);
}

#[tokio::test]
async fn each_sees_what_was_granted_and_no_more() {
    let db = &mut TestDb::sqlite().await;
    let (router, _users, _folder) = service(db).await;
    let bob = pair(&log_in(&router, "bob", PASSWORD).await);
    let page = get(&router, "/?range=all", &bob).await;
    assert!(
        page.text.contains("orders 17")
            && !page.text.contains("customer 7")
            && !page.text.contains("neighbour")
    );
    assert_eq!(get(&router, "/r/customer/7", &bob).await.status, StatusCode::NOT_FOUND);
    assert_eq!(get(&router, "/r/orders/17/restore/1", &bob).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn whoever_is_removed_or_gets_another_password_is_out_at_once() {
    let db = &mut TestDb::sqlite().await;
    let (router, users, folder) = service(db).await;
    let ann = pair(&log_in(&router, "ann", PASSWORD).await);
    let bob = pair(&log_in(&router, "bob", PASSWORD).await);
    // As another program does it, which the service finds in the file.
    let elsewhere = Users::open(folder.path().join("users.json")).unwrap();
    elsewhere.remove("ann").unwrap();
    assert_eq!(get(&router, "/", &ann).await.status, StatusCode::SEE_OTHER);
    assert_eq!(get(&router, "/", &bob).await.status, StatusCode::OK);
    users.set_password("bob", "another horse battery").unwrap();
    assert_eq!(get(&router, "/", &bob).await.status, StatusCode::SEE_OTHER);
    assert_eq!(log_in(&router, "bob", PASSWORD).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(log_in(&router, "bob", "another horse battery").await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn passwords_cannot_be_tried_for_ever() {
    let db = &mut TestDb::sqlite().await;
    let (router, _users, _folder) = service(db).await;
    for _ in 0..5 {
        assert_eq!(log_in(&router, "ann", "not her password").await.status, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(log_in(&router, "ann", PASSWORD).await.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(log_in(&router, "bob", PASSWORD).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_token_is_valid_until_it_expires_and_for_no_more_than_it_says() {
    let db = &mut TestDb::sqlite().await;
    let (router, users, folder) = service(db).await;
    let hour = |hours: i64| Moment::from_micros(Moment::now().as_micros() + hours * 3_600_000_000);
    let token = |name: &str, role, expires| NewToken { name: name.to_owned(), role, expires };
    let reads = users.add_token("ann", token("reads", Role::Viewer, hour(1))).unwrap();
    let writes = users.add_token("ann", token("writes", Role::Admin, hour(1))).unwrap();
    let expired = users.add_token("ann", token("expired", Role::Admin, hour(-1))).unwrap();
    let asks = async |token: &str| {
        let request = Request::get("/api/log?range=all").header("authorization", format!("Bearer {token}"));
        send(&router, request, "").await.status
    };
    assert_eq!(asks(&reads).await, StatusCode::OK);
    assert_eq!(asks(&expired).await, StatusCode::UNAUTHORIZED);
    assert_eq!(asks("afterimage_guessed").await, StatusCode::UNAUTHORIZED);
    let reverts = async |token: &str| {
        let request = Request::post("/api/tables/orders/records/17/revert")
            .header("authorization", format!("Bearer {token}"));
        send(&router, request, r#"{"to": 1, "fields": ["total"], "reason": "price"}"#).await.status
    };
    assert_eq!(reverts(&reads).await, StatusCode::FORBIDDEN);
    // No more than its user may, either.
    assert_eq!(reverts(&writes).await, StatusCode::OK);
    users.revoke_token("ann", "reads").unwrap();
    assert_eq!(asks(&reads).await, StatusCode::UNAUTHORIZED);
    let kept = std::fs::read_to_string(folder.path().join("users.json")).unwrap();
    assert!(!kept.contains(&writes) && !kept.contains(PASSWORD));
}

#[tokio::test]
async fn another_site_logs_nobody_in() {
    let db = &mut TestDb::sqlite().await;
    let (router, _users, _folder) = service(db).await;
    let request = Request::post("/login").header("sec-fetch-site", "cross-site");
    let refused = send(&router, request, &format!("name=ann&password={PASSWORD}")).await;
    assert_eq!((refused.status, &*refused.cookie), (StatusCode::FORBIDDEN, ""));
}

#[tokio::test]
async fn what_is_hidden_is_hidden_however_it_is_written() {
    use afterimage_web::Rights as _;
    let named = |hidden: &str| Grant { hidden: vec![hidden.to_owned()], ..Grant::new(Role::Viewer) };
    let table = afterimage::TableName { schema: None, name: "orders".into() };
    for hidden in ["orders.ssn", "Orders.SSN", "public.orders.ssn"] {
        assert!(!named(hidden).sees(&table, "ssn"), "{hidden}");
    }
    assert!(named("myorders.ssn").sees(&table, "ssn"));
    let elsewhere = afterimage::TableName { schema: Some("sales".into()), name: "orders".into() };
    assert!(named("public.orders.ssn").sees(&elsewhere, "ssn"));
}

#[tokio::test]
async fn what_a_page_asks_for_by_itself_leads_nobody_to_log_in() {
    let db = &mut TestDb::sqlite().await;
    let (router, _users, _folder) = service(db).await;
    let poll = get(&router, "/new?than=1.1", "").await;
    assert_eq!((poll.status, &*poll.location, &*poll.text), (StatusCode::UNAUTHORIZED, "", ""));
}

#[tokio::test]
async fn a_proxy_that_is_trusted_says_who_asks() {
    use std::net::SocketAddr;

    use afterimage_web::users::Proxy;
    use axum::extract::ConnectInfo;
    use axum::http::HeaderName;

    let db = &mut TestDb::sqlite().await;
    let (_, users, _folder) = service(db).await;
    users.add("carl", None, None, Grant::new(Role::Reverter)).unwrap();
    let proxy = Proxy::at(["10.0.0.0/8".parse().unwrap()]).user_header(HeaderName::from_static("x-user"));
    let asks = async |proxy: Proxy, peer: [u8; 4], user: &str| {
        let users = users.clone().behind(proxy);
        let router: Router = users.router().merge(Web::new(db.audit.clone(), users).router());
        let from = ConnectInfo(SocketAddr::from((peer, 1234)));
        let request = Request::get("/storage").header("x-user", user).extension(from);
        send(&router, request, "").await
    };
    let entered = asks(proxy.clone(), [10, 0, 0, 1], "carl").await;
    assert!(entered.status == StatusCode::OK && said(&entered.text).contains("You are carl."));
    // Nobody is logged in, who would have to log out.
    assert!(!entered.text.contains("/logout"));
    assert_eq!(asks(proxy.clone(), [192, 0, 2, 1], "carl").await.status, StatusCode::SEE_OTHER);
    assert_eq!(asks(proxy.clone(), [10, 0, 0, 1], "mallory").await.status, StatusCode::SEE_OTHER);
    let others = proxy.role_of_others(Role::Viewer);
    assert_eq!(asks(others, [10, 0, 0, 1], "mallory").await.status, StatusCode::OK);
    // Who has no password cannot log in by one.
    let router: Router = users.router();
    assert_eq!(log_in(&router, "carl", "!").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn many_that_come_at_once_try_no_more_passwords() {
    let db = &mut TestDb::sqlite().await;
    let (router, _users, _folder) = service(db).await;
    let tries = (0..20).map(|_| log_in(&router, "ann", "not her password"));
    let tried = futures_util::future::join_all(tries).await;
    let refused = tried.iter().filter(|answer| answer.status == StatusCode::UNAUTHORIZED).count();
    assert_eq!(refused, 5);
}

#[tokio::test]
async fn a_link_shows_one_page_to_somebody_who_is_no_user_for_a_while() {
    let db = &mut TestDb::sqlite().await;
    let (_, users, folder) = service(db).await;
    let key = Users::link_key(folder.path().join("key.json")).unwrap();
    assert_eq!(Users::link_key(folder.path().join("key.json")).unwrap(), key);
    let web = Web::new(db.audit.clone(), users.clone()).links(key);
    let router: Router = users.router().merge(web.router());
    let bob = pair(&log_in(&router, "bob", PASSWORD).await);
    let page = get(&router, "/r/orders/17", &bob).await.text;
    let form =
        crate::support::between(&page, "<p><a href=\"", "\">Link for somebody")[0].replace("&#38;", "&");
    assert!(get(&router, &form, &bob).await.text.contains("value=\"/r/orders/17\""));
    let make = async |address: &str, days: &str| {
        let request = Request::post("/link").header("cookie", &bob).header("sec-fetch-site", "same-origin");
        let mut body = form_urlencoded::Serializer::new(String::new());
        body.extend_pairs([("address", address), ("days", days)]);
        send(&router, request, &body.finish()).await
    };
    for (address, days) in
        [("/r/orders/17", "0"), ("/r/orders/17", "x"), ("/r/orders/17", "400"), ("//evil", "7")]
    {
        assert_eq!(make(address, days).await.status, StatusCode::BAD_REQUEST, "{address} {days}");
    }
    let made = make("/r/orders/17", "7").await.text;
    let link = crate::support::between(&made, "<p><a href=\"", "\"")[0].replace("&#38;", "&");
    let seen = get(&router, &link, "").await;
    assert_eq!(seen.status, StatusCode::OK, "{}", seen.text);
    // What bob does not see, nobody sees by his link; and nothing can be done with it.
    assert!(
        seen.text.contains("1149") && !seen.text.contains("neighbour") && !seen.text.contains("/restore/")
    );
    assert!(!seen.text.contains("export.csv") && !seen.text.contains("Link for somebody"));
    let version = crate::support::between(&seen.text, "<a class=\"number\" href=\"", "\"")[0];
    assert!(version.starts_with("/s/"), "{version}");
    assert_eq!(get(&router, version, "").await.status, StatusCode::OK);
    let style = crate::support::between(&seen.text, "rel=\"stylesheet\" href=\"", "\"")[0];
    assert_eq!(get(&router, style, "").await.status, StatusCode::OK);
    let root = link.strip_suffix("/r/orders/17").unwrap();
    for elsewhere in [
        "",
        "/r/orders",
        "/r/orders/14",
        "/r/customer/7",
        "/export.csv?range=all",
        "/report.html?range=all",
        "/api/log",
        "/r/orders/17/restore/1",
        "/link?address=/",
        "/views",
    ] {
        let refused = get(&router, &format!("{root}{elsewhere}"), "").await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{elsewhere}");
    }
    let write =
        Request::post(format!("{root}/r/orders/17/restore/1")).header("sec-fetch-site", "same-origin");
    assert_eq!(send(&router, write, "expect=4&field=total&reason=x").await.status, StatusCode::FORBIDDEN);
    let forged = link.replacen("/s/ey", "/s/eY", 1);
    assert_eq!(get(&router, &forged, "").await.status, StatusCode::FORBIDDEN);
    // A view is linked with its filters.
    let made = make("/?range=all&table=orders", "7").await.text;
    let view = crate::support::between(&made, "<p><a href=\"", "\"")[0].replace("&#38;", "&");
    let seen = get(&router, &view, "").await;
    assert!(seen.text.contains("orders 17"), "{view} {} {}", seen.status, said(&seen.text));
    assert_eq!(get(&router, &view.replace("orders", "customer"), "").await.status, StatusCode::FORBIDDEN);
    // It ends with whoever made it.
    users.remove("bob").unwrap();
    let over = get(&router, &link, "").await;
    assert!(over.status == StatusCode::FORBIDDEN && over.text.contains("valid no more"), "{}", over.text);
}
