//! The shop, as its users meet it.

#![allow(clippy::unwrap_used, missing_docs)]

use afterimage::{Afterimage, Context, Moment};
use afterimage_example_shop::{Alerts, api, models::customer, services, start};
use axum::body::Body;
use http::{Method, Request, StatusCode};
use sea_orm::{ActiveModelTrait as _, Set};
use serde_json::{Value, json};
use tower::ServiceExt as _;

async fn shop() -> (Afterimage, Alerts) {
    let mut options = sea_orm::ConnectOptions::new("sqlite::memory:");
    options.max_connections(1);
    let db = sea_orm::Database::connect(options).await.unwrap();
    let (audit, alerts) = start(&db).await.unwrap();
    let tx = audit.begin(&Context::actor("setup")).await.unwrap();
    let ann = customer::ActiveModel { id: Set(1), name: Set("Ann".to_owned()), card: Set(None) };
    ann.insert(&tx).await.unwrap();
    tx.commit().await.unwrap();
    (audit, alerts)
}

async fn ask(audit: &Afterimage, method: Method, path: &str, who: &str, body: Value) -> (StatusCode, Value) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("x-user", who)
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))
        .unwrap();
    let response = api::router(audit.clone()).oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = axum::body::to_bytes(response.into_body(), 100_000).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

#[tokio::test]
async fn an_order_and_what_became_of_it() {
    let (audit, _) = shop().await;
    let placed = json!({ "customer": 1, "items": [["pen", 3], ["ink", 9]] });
    let (status, order) = ask(&audit, Method::POST, "/orders", "ann", placed).await;
    assert_eq!((status, &order), (StatusCode::OK, &json!({ "id": 1, "total": 12 })));
    let then = Moment::now();
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let why = json!({ "reason": "changed their mind" });
    assert_eq!(ask(&audit, Method::POST, "/orders/1/cancel", "bob", why).await.0, StatusCode::NO_CONTENT);

    let (_, history) = ask(&audit, Method::GET, "/orders/1/history", "carl", Value::Null).await;
    assert_eq!(history[0]["by"], "bob");
    assert_eq!(
        (&history[0]["reason"], &history[0]["status"]),
        (&json!("changed their mind"), &json!("cancelled"))
    );
    assert_eq!((&history[1]["by"], &history[1]["action"]), (&json!("ann"), &json!("create")));

    let (_, was) = ask(&audit, Method::GET, &format!("/orders/1?at={then}"), "carl", Value::Null).await;
    assert_eq!(was, json!({ "id": 1, "status": "open", "total": 12, "items": ["pen", "ink"] }));
    assert_eq!(
        ask(&audit, Method::POST, "/orders/1/undo", "dora", Value::Null).await.0,
        StatusCode::NO_CONTENT
    );
    let (_, now) = ask(&audit, Method::GET, "/orders/1", "carl", Value::Null).await;
    assert_eq!(now["status"], "open");
    assert_eq!(ask(&audit, Method::GET, "/orders/9", "carl", Value::Null).await.0, StatusCode::NOT_FOUND);
    assert_eq!(
        ask(&audit, Method::GET, "/orders/1?at=2001-01-01", "carl", Value::Null).await.0,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn what_a_cascade_took_is_in_the_report() {
    let (audit, _) = shop().await;
    let from = Moment::now();
    services::order_place(&audit, 1, &[("pen", 3)]).await.unwrap();
    services::order_cancel(&audit, 1, "a test").await.unwrap();
    assert_eq!(services::clean_up(&audit).await.unwrap(), 1);
    let report = services::compliance_report(&audit, from, Moment::now()).await.unwrap();
    assert!(report.contains(",delete,item,1,clean up,id order_id name price\n"), "{report}");
    assert!(report.contains(",update,orders,1,a test,status\n"), "{report}");
    assert!(audit.verify(&[]).await.unwrap().iter().all(afterimage::Verdict::is_whole));
}

#[tokio::test]
async fn who_touches_a_card_is_heard_of_and_its_number_nowhere() {
    let (audit, alerts) = shop().await;
    let tx = audit.begin(&Context::actor("eve")).await.unwrap();
    let card = customer::ActiveModel { id: Set(1), card: Set(Some("4111".to_owned())), ..Default::default() };
    card.update(&tx).await.unwrap();
    tx.commit().await.unwrap();
    let tx = audit.begin(&Context::actor("ann")).await.unwrap();
    customer::ActiveModel { id: Set(1), name: Set("Anna".to_owned()), ..Default::default() }
        .update(&tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    audit.events_told().await;
    let raised = alerts.raised();
    assert_eq!(raised.last().unwrap(), "eve changed the card of customer 1");
    assert!(!format!("{:?}", audit.history("customer", "1").await.unwrap()).contains("4111"));
}

/// The history in a browser: for whoever is known, under the shop's own roof, and what they write back is theirs.
#[tokio::test]
async fn the_history_has_its_pages() {
    let (audit, _) = shop().await;
    let placed = json!({ "customer": 1, "items": [["pen", 3]] });
    ask(&audit, Method::POST, "/orders", "ann", placed).await;
    let why = json!({ "reason": "changed their mind" });
    ask(&audit, Method::POST, "/orders/1/cancel", "bob", why).await;
    let visit = async |method: Method, path: &str, cookie: &str, body: &'static str| {
        let request = Request::builder().method(method).uri(path).header("cookie", cookie);
        let request = request.header("sec-fetch-site", "same-origin").body(Body::from(body)).unwrap();
        let response = api::router(audit.clone()).oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = axum::body::to_bytes(response.into_body(), 100_000).await.unwrap();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    };
    assert_eq!(visit(Method::GET, "/history", "", "").await.0, StatusCode::SEE_OTHER);
    let (status, page) = visit(Method::GET, "/history", "user=carl", "").await;
    assert!(status.is_success() && page.contains("changed their mind"), "{page}");
    let orders = audit.tracked().await.unwrap().remove(0).table.to_string();
    let form = "expect=2&field=status&reason=they+want+it+after+all";
    let path = format!("/history/r/{orders}/1/restore/1");
    assert_eq!(visit(Method::POST, &path, "user=carl", form).await.0, StatusCode::SEE_OTHER);
    let newest = audit.history(&orders, "1").await.unwrap().remove(0);
    assert_eq!(newest.header.user.as_deref(), Some("carl"));
}
