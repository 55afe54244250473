//! The same questions as JSON.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support::{BASE, Somebody, TestDb, shop};
use afterimage::Tracking;
use axum::http::{Request, StatusCode};
use serde_json::json;

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

on_every_database! {
    async fn what_no_statement_can_hold_is_the_askers_mistake(db: &mut TestDb) {
        shop(db).await;
        let viewer = Somebody::new(db, "viewer");
        for path in ["/api/log?reason=a%00b", "/api/log?q=%00", "/api/log?actor=a%00", "/api/summary?now=%00"] {
            assert_eq!(viewer.get(path).await.status, StatusCode::BAD_REQUEST, "{path}");
        }
        for path in ["/api/tables/customer/records/%00", "/r/line/order_id=17,what=%00", "/tx/%00"] {
            let status = viewer.get(path).await.status;
            assert!(status.is_client_error(), "{path} {status}");
        }
    }
}

on_every_database! {
    async fn json_is_answered_as_it_is_however_large_or_deep(db: &mut TestDb) {
        let number = "123456789012345678901234567890.5";
        let (json, cast) = (db.by3("JSON", "jsonb", "JSON"), db.by3("json", "", ""));
        db.run(&format!("CREATE TABLE doc (id INTEGER PRIMARY KEY, body {json})")).await;
        db.track("doc", Tracking::new()).await;
        let deep = format!("{}1{}", "[".repeat(30), "]".repeat(30));
        for (id, body) in [(1, format!("{{\"n\": {number}}}")), (2, deep), (3, "{\"huge\": 1e400}".to_owned())] {
            db.run(&format!("INSERT INTO doc VALUES ({id}, {cast}('{body}'))")).await;
            db.run(&format!("UPDATE doc SET body = {cast}('{{\"n\": 1}}') WHERE id = {id}")).await;
        }
        let viewer = Somebody::new(db, "viewer");
        for path in ["/api/log?range=all", "/api/tables/doc/records/1/history", "/api/tables/doc/records/1/diff?from=1&to=2"] {
            let text = viewer.get(path).await.ok();
            assert!(text.contains("123456789012345678901234567890"), "{path}: {text}");
        }
        for id in [2, 3] {
            for rest in ["history", "diff?from=1&to=2"] {
                viewer.get(&format!("/api/tables/doc/records/{id}/{rest}")).await.ok();
            }
        }
        let csv = viewer.get("/export.csv?range=all").await.ok();
        assert!(csv.lines().skip(1).all(|line| line.contains(",doc,")) && csv.contains("123456789012345678901234567890"), "{csv}");
    }
}

on_every_database! {
    async fn a_page_of_a_table_goes_on_where_a_row_has_gone(db: &mut TestDb) {
        shop(db).await;
        let viewer = Somebody::new(db, "viewer");
        let first = viewer.get("/api/tables/customer/as-of?limit=1").await.json();
        assert_eq!((&first["rows"][0]["id"], &first["next"]), (&json!(7), &json!("7")));
        db.run("DELETE FROM customer WHERE id = 7").await;
        let then = first["at"].as_str().unwrap();
        let next = viewer.get(&format!("/api/tables/customer/as-of?limit=1&after=7&at={then}")).await.json();
        assert_eq!((&next["rows"][0]["id"], &next["next"]), (&json!(8), &json!(null)));
        let wrong = viewer.get("/api/tables/customer/as-of?after=x").await.status;
        assert!(wrong != StatusCode::INTERNAL_SERVER_ERROR, "{wrong}");
    }
}

on_every_database! {
    async fn what_writes_never_says_that_nothing_changed(db: &mut TestDb) {
        shop(db).await;
        let reverter = Somebody::new(db, "reverter");
        let request = Request::post(format!("{BASE}/api/tables/orders/records/17/revert")).header("if-none-match", "*");
        let done = reverter.send(request, r#"{"to": 1, "fields": ["total"], "reason": "price"}"#).await;
        assert_eq!(done.status, StatusCode::OK);
        assert!(done.text.contains("1249"));
    }
}

on_every_database! {
    async fn what_is_not_there_is_told_as_the_rest_is(db: &mut TestDb) {
        let viewer = Somebody::new(db, "viewer");
        let missing = viewer.get("/api/nope").await;
        assert_eq!((missing.status, &missing.headers["content-type"]), (StatusCode::NOT_FOUND, &"application/problem+json".parse().unwrap()));
        let other = viewer.post_json("/api/tables", &json!({})).await;
        assert_eq!((other.status, &other.headers["content-type"]), (StatusCode::METHOD_NOT_ALLOWED, &"application/problem+json".parse().unwrap()));
        assert!(other.headers["allow"].to_str().unwrap().contains("GET") && other.headers.contains_key("content-security-policy"));
        let page = viewer.post("/storage", &[]).await;
        assert!(page.status == StatusCode::METHOD_NOT_ALLOWED && page.text.contains("Not in this way"));
    }
}

on_every_database! {
    async fn nobody_restores_what_they_do_not_see(db: &mut TestDb) {
        shop(db).await;
        db.run("DELETE FROM orders WHERE id = 17").await;
        let careful = Somebody::new(db, "careful");
        let path = "/api/tables/orders/records/17/restore";
        for body in [json!({"reason": "x", "set": {"risk": 5, "card": null}}), json!({"reason": "x", "set": {"card": null}})] {
            let refused = careful.post_json(path, &body).await;
            assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.text);
        }
    }
}
