//! Who is let in where: every address there is, for everybody.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support::{BASE, Somebody, TestDb, shop};
use afterimage_web::{Act, Answer, FileViews, Need, ROUTES, Route, Router};
use axum::http::{Request, StatusCode};

/// The address of a route, of the table given.
fn address(route: &Route, table: &str, tx: &str, event: &str) -> String {
    let path = route
        .path
        .replace("{table}", table)
        .replace("{key}", if table == "orders" { "17" } else { "7" })
        .replace("{version}", "1")
        .replace("{range}", "1..1")
        .replace("{field}", "id")
        .replace("{event}", event)
        .replace("{name}", "style.css")
        .replace("{id}", tx);
    let query = match route.path {
        "/new" => "?than=1.1",
        "/export.csv" | "/export.json" | "/report.html" | "/report.csv" | "/report.json" | "/report.pdf" => {
            "?range=all"
        }
        "/asof/{table}/csv" => "?at=now",
        "/link" if route.method == "GET" => "?address=/storage",
        "/api/tables/{table}/records/{key}/diff" => "?from=1&to=1",
        _ => "",
    };
    format!("{BASE}{}{query}", path.trim_end_matches('/'))
}

/// What somebody gets of a table that they may do this with, or may not.
fn expected(route: &Route, user: Option<&str>, table: &str) -> StatusCode {
    let Some(user) = user else {
        return if route.need == Need::Nothing { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
    };
    let sees = user != "clerk" || table == "orders";
    let may = |act: Act| match act {
        Act::View => sees,
        Act::Export => user != "clerk",
        Act::Revert => matches!(user, "reverter" | "admin"),
        _ => false,
    };
    match route.need {
        Need::Nothing | Need::Visit => StatusCode::OK,
        Need::OfTable(_) if !sees => StatusCode::NOT_FOUND,
        // The transaction of these tests is one of orders.
        Need::OfTable(act) | Need::OfEach(act) if !may(act) => StatusCode::FORBIDDEN,
        _ => StatusCode::OK,
    }
}

on_every_database! {
    async fn everybody_is_let_in_where_they_may_and_nowhere_else(db: &mut TestDb) {
        shop(db).await;
        let newest = db.audit.history("orders", "17").await.unwrap().remove(0);
        // bob's.
        let tx = db.audit.history("orders", "17").await.unwrap()[2].header.tx.clone().unwrap();
        let event = format!("{}.{}", newest.header.date.as_micros(), newest.header.id);
        let folder = tempfile::tempdir().unwrap();
        let views = FileViews::open(folder.path().join("views.json")).unwrap();
        let router = Router::new().nest(BASE, crate::support::web(db.audit.clone()).views(views).links([7; 32]).router());
        let somebody = Somebody { router, user: Some("admin") };
        for route in ROUTES {
            for table in ["orders", "customer"] {
                for user in [None, Some("clerk"), Some("viewer"), Some("reverter"), Some("admin")] {
                    let asks = somebody.called(user);
                    let address = address(route, table, &tx, &event);
                    let answer = match route.method {
                        // Nothing is sent, so that nothing is written: whoever is let in is told what is missing.
                        "POST" => asks.send(Request::post(&address), "").await,
                        _ => asks.get(&address).await,
                    };
                    let expected = expected(route, user, table);
                    let told = match (answer.status, route.method) {
                        (StatusCode::SEE_OTHER | StatusCode::NOT_MODIFIED, _) => StatusCode::OK,
                        (StatusCode::BAD_REQUEST | StatusCode::CONFLICT, "POST") => StatusCode::OK,
                        // What it would undo has been changed since: still it may be looked at.
                        (StatusCode::CONFLICT, _) => StatusCode::OK,
                        (status, _) => status,
                    };
                    assert_eq!(told, expected, "{user:?} {route:?} {address}: {}", answer.text);
                    if route.answer == Answer::Json && !answer.status.is_success() && answer.status != StatusCode::NOT_MODIFIED {
                        assert_eq!(answer.headers["content-type"], "application/problem+json", "{route:?}");
                    }
                    for header in ["content-security-policy", "x-content-type-options", "referrer-policy", "cache-control"] {
                        assert!(answer.headers.contains_key(header), "{route:?} lacks {header}");
                    }
                }
            }
        }
    }
}

on_every_database! {
    async fn whoever_the_host_refuses_gets_nothing(db: &mut TestDb) {
        let somebody = Somebody::new(db, "stranger");
        for route in ROUTES.iter().filter(|route| route.need != Need::Nothing && route.method == "GET") {
            let answer = somebody.get(&address(route, "orders", "1", "1.1")).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{route:?}");
        }
    }
}
