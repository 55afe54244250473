//! The same questions as JSON.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[macro_use]
mod support;

use axum::http::{Request, StatusCode};
use serde_json::json;
use support::{BASE, Somebody, TestDb, shop};

on_every_database! {
    async fn the_log_is_paged_from_end_to_end(db: &mut TestDb) {
        shop(db).await;
        let viewer = Somebody::new(db, "viewer");
        let whole = viewer.get("/api/log?range=all").await.json();
        let mut paged = Vec::new();
        let mut address = "/api/log?range=all&limit=3".to_owned();
        loop {
            let page = viewer.get(&address).await.json();
            paged.extend(page["entries"].as_array().unwrap().clone());
            match page["next"].as_str() {
                Some(next) => address = format!("/api/log?range=all&limit=3&before={next}"),
                None => break,
            }
        }
        assert_eq!(&paged, whole["entries"].as_array().unwrap());
        assert_eq!(paged.len(), 10);
        let entry = &paged[0];
        for member in ["id", "date", "action", "table", "key", "user", "reason", "context", "tx", "changes"] {
            assert!(entry.get(member).is_some(), "{member}");
        }
        let summary = viewer.get("/api/summary?range=all").await.json();
        assert_eq!(summary["records"], 10);
        for limit in ["0", "1001", "x"] {
            let refused = viewer.get(&format!("/api/log?limit={limit}")).await;
            assert_eq!(refused.status, StatusCode::BAD_REQUEST);
        }
    }
}

on_every_database! {
    async fn a_record_is_asked_for_in_every_way(db: &mut TestDb) {
        shop(db).await;
        let viewer = Somebody::new(db, "viewer");
        let record = viewer.get("/api/tables/orders/records/17").await.json();
        assert_eq!((&record["version"], &record["row"]["status"]), (&json!(4), &json!("shipped")));
        assert_eq!(record["row"]["card"], json!({"$masked": true}));
        let history = viewer.get("/api/tables/orders/records/17/history?limit=3").await.json();
        assert_eq!((&history["count"], history["results"].as_array().unwrap().len()), (&json!(4), 3));
        assert_eq!(history["results"][0]["history_type"], "~");
        let next = history["next"].as_str().unwrap();
        let last = viewer.get(next).await.json();
        assert_eq!((&last["results"][0]["version"], &last["next"]), (&json!(1), &json!(null)));
        let diff = viewer.get("/api/tables/orders/records/17/diff?from=1&to=2").await.json();
        let total: Vec<f64> = diff["changes"]["total"].as_array().unwrap().iter().map(|v| v.as_str().map_or_else(|| v.as_f64().unwrap(), |t| t.parse().unwrap())).collect();
        assert_eq!(total, [1249.0, 1149.0]);
        assert_eq!(viewer.get("/api/tables/orders/records/14").await.status, StatusCode::NOT_FOUND);
        let version = viewer.get("/api/tables/orders/records/17/versions/previous").await.json();
        assert_eq!(version["version"], 3);
        let rows = viewer.get("/api/tables/customer/as-of?limit=1").await.json();
        assert_eq!((&rows["rows"][0]["id"], &rows["next"]), (&json!(7), &json!("7")));
        let rows = viewer.get("/api/tables/customer/as-of?limit=1&after=7").await.json();
        assert_eq!((&rows["rows"][0]["id"], &rows["next"]), (&json!(8), &json!(null)));
    }
}

on_every_database! {
    async fn what_is_still_the_same_is_not_sent_again(db: &mut TestDb) {
        shop(db).await;
        let viewer = Somebody::new(db, "viewer");
        let first = viewer.get("/api/log?range=all").await;
        let tag = first.headers["etag"].to_str().unwrap().to_owned();
        let again = viewer.send(Request::get(format!("{BASE}/api/log?range=all")).header("if-none-match", &tag), "").await;
        assert_eq!((again.status, again.text.as_str()), (StatusCode::NOT_MODIFIED, ""));
        db.run("UPDATE customer SET city = 'Bonn' WHERE id = 7").await;
        let other = viewer.send(Request::get(format!("{BASE}/api/log?range=all")).header("if-none-match", &tag), "").await;
        assert_eq!(other.status, StatusCode::OK);
    }
}

on_every_database! {
    async fn a_record_is_reverted_and_a_stale_expectation_is_told(db: &mut TestDb) {
        shop(db).await;
        let reverter = Somebody::new(db, "reverter");
        let path = "/api/tables/orders/records/17/revert";
        let dry = reverter.post_json(path, &json!({"to": 1, "fields": ["total"], "dry_run": true})).await.json();
        assert_eq!((&dry["records"], &dry["dry_run"]), (&json!(1), &json!(true)));
        let stale = reverter.post_json(path, &json!({"to": 1, "fields": ["total"], "expect": 3, "reason": "x"})).await;
        assert_eq!(stale.status, StatusCode::CONFLICT);
        let problem: serde_json::Value = serde_json::from_str(&stale.text).unwrap();
        assert_eq!((&problem["then"]["version"], &problem["target"]["version"], &problem["now"]["version"]), (&json!(3), &json!(1), &json!(4)));
        assert_eq!(reverter.post_json(path, &json!({"to": 1})).await.status, StatusCode::BAD_REQUEST);
        assert_eq!(reverter.post_json(path, &json!({"to": 1, "reasn": "x"})).await.status, StatusCode::BAD_REQUEST);
        let done = reverter.post_json(path, &json!({"to": "1", "fields": ["total"], "expect": 4, "reason": "price"})).await.json();
        assert_eq!(done["entries"][0]["user"], "reverter");
        let restore = "/api/tables/orders/records/14/restore";
        let done = reverter.post_json(restore, &json!({"reason": "not a duplicate"})).await.json();
        assert_eq!(done["entries"][0]["action"], "create");
        assert_eq!(reverter.post_json(restore, &json!({"reason": "again"})).await.status, StatusCode::CONFLICT);
        let tx = done["entries"][0]["tx"].as_str().unwrap();
        let undo = format!("/api/transactions/{tx}/revert");
        let done = reverter.post_json(&undo, &json!({"reason": "a duplicate after all"})).await.json();
        assert_eq!(done["entries"][0]["action"], "delete");
        db.verify().await;
    }
}

on_every_database! {
    async fn the_document_says_where_it_is_served(db: &mut TestDb) {
        let viewer = Somebody::new(db, "viewer");
        let document = viewer.get("/api/openapi.json").await.json();
        assert_eq!((&document["openapi"], &document["servers"][0]["url"]), (&json!("3.1.0"), &json!(BASE)));
        let tried = viewer.get("/api?operation=version&table=orders&key=a%2Fb&version=1").await;
        assert_eq!(tried.location(), format!("{BASE}/api/tables/orders/records/a%2Fb/versions/1"));
    }
}

on_every_database! {
    async fn nobody_writes_back_what_they_do_not_see(db: &mut TestDb) {
        shop(db).await;
        let careful = Somebody::new(db, "careful");
        let path = "/api/tables/orders/records/17/revert";
        let refused = careful.post_json(path, &json!({"to": 1, "fields": ["risk"], "reason": "x"})).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.text);
        let form = [("expect", "4"), ("field", "risk"), ("reason", "x")];
        assert_eq!(careful.post("/r/orders/17/restore/1", &form).await.status, StatusCode::FORBIDDEN);
        assert_eq!(db.audit.history("orders", "17").await.unwrap().len(), 4);
        // Without fields, it is all that they see; what is masked for everybody stays out of it, too.
        let done = careful.post_json(path, &json!({"to": 3, "reason": "x"})).await.json();
        assert_eq!(done["entries"][0]["changes"].as_object().unwrap().keys().collect::<Vec<_>>(), ["status"]);
    }
}
