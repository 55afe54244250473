//! The pages as somebody without JavaScript gets them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeSet, VecDeque};

use crate::support::*;
use afterimage::{Archive, Context, PointInTime, Retention, Tracking};
use axum::http::{Request, StatusCode};

/// Follows every link from the first page, up to so many pages, and gives each with its text.
async fn crawl(somebody: &Somebody, from: &str, limit: usize) -> Vec<(String, Answer)> {
    let mut waiting = VecDeque::from([from.to_owned()]);
    let mut seen = BTreeSet::from([from.to_owned()]);
    let mut pages = Vec::new();
    while let Some(address) = waiting.pop_front() {
        if pages.len() == limit {
            break;
        }
        let answer = somebody.get(&address).await;
        let mut links = Vec::new();
        if answer.status == StatusCode::SEE_OTHER {
            links.push(answer.location());
        } else if answer.text.contains("<html") {
            for attribute in ["href=\"", "data-row=\"", "hx-get=\""] {
                links.extend(
                    between(&answer.text, attribute, "\"")
                        .into_iter()
                        .map(|link| link.replace("&#38;", "&").replace("&amp;", "&")),
                );
            }
        }
        for link in links {
            let link = link.split('#').next().unwrap().to_owned();
            let link = if let Some(query) = link.strip_prefix('?') {
                format!("{}?{query}", address.split('?').next().unwrap())
            } else {
                link
            };
            if !link.is_empty() && !link.starts_with("data:") && seen.insert(link.clone()) {
                waiting.push_back(link);
            }
        }
        pages.push((address, answer));
    }
    pages
}

on_every_database! {
    async fn every_page_is_there_wherever_its_records_are(db: &mut TestDb) {
        shop(db).await;
        let admin = Somebody::new(db, "admin");
        let before = crawl(&admin, &format!("{BASE}?range=all"), 300).await;
        let folder = tempfile::tempdir().unwrap();
        let PointInTime::At(end) = db.moment().await else { unreachable!() };
        let archive = Archive::new(format!("file://{}", folder.path().display()), Retention::until(end));
        let done = db.audit.archive(&archive, &Context::actor("keeper")).await.unwrap();
        assert!(done.iter().all(|one| one.moved == one.records) && done.iter().any(|one| one.moved > 0));
        let admin = Somebody::new(db, "admin");
        let mut archived = 0;
        for (address, was) in &before {
            let answer = admin.get(address).await;
            // What was done then cannot be undone from there, and the page says so.
            let told = address.ends_with("/undo") && said(&answer.text).contains("archive restore");
            assert!(answer.status == was.status || told, "{address}: {} {}", answer.status, said(&answer.text));
            for secret in SECRETS {
                assert!(!answer.text.contains(secret), "{address} shows {secret}");
            }
            archived += usize::from(answer.text.contains("<span class=\"badge\">archived</span>"));
        }
        assert!(archived > 5, "{archived} pages say what came from an archive");
    }
}

on_every_database! {
    async fn every_link_leads_to_a_page_that_is_there(db: &mut TestDb) {
        shop(db).await;
        let admin = Somebody::new(db, "admin");
        let pages = crawl(&admin, &format!("{BASE}?range=all"), 500).await;
        assert!(pages.len() > 60, "{}", pages.len());
        for (address, answer) in &pages {
            assert!(address.starts_with(BASE), "{address}");
            // What a masked value would be needed for cannot be undone, and the page says so.
            let told = address.ends_with("/undo") && said(&answer.text).contains("\"card\" is masked");
            let fine = answer.status == StatusCode::OK || answer.status == StatusCode::SEE_OTHER || told;
            assert!(fine, "{address}: {} {}", answer.status, said(&answer.text));
            for secret in SECRETS {
                assert!(!answer.text.contains(secret), "{address} shows {secret}");
            }
            if !answer.text.contains("<html") {
                continue;
            }
            assert_eq!(between(&answer.text, "<h1", "</h1>").len(), 1, "{address}");
            assert!(answer.text.ends_with("</html>") || answer.text.trim_end().ends_with("</html>"), "{address}");
            assert!(!answer.text.contains("<script>") && !answer.text.contains(" style=") && !answer.text.contains(" onclick="), "{address}");
            assert!(answer.text.len() < 60_000, "{address}: {} bytes", answer.text.len());
            let ids: Vec<&str> = between(&answer.text, " id=\"", "\"");
            assert_eq!(ids.len(), ids.iter().collect::<BTreeSet<_>>().len(), "{address}: {ids:?}");
        }
    }
}

on_every_database! {
    async fn what_somebody_may_not_see_is_on_no_page(db: &mut TestDb) {
        shop(db).await;
        let clerk = Somebody::new(db, "clerk");
        for (address, answer) in crawl(&clerk, &format!("{BASE}?range=all"), 300).await {
            let text = said(&answer.text);
            for hidden in ["Bobby", "880088", "chair"] {
                assert!(!text.contains(hidden), "{address} shows {hidden}: {text}");
            }
        }
        // Told apart from what is not there only to those who may know.
        let hidden = clerk.get("/r/customer/7").await;
        let missing = clerk.get("/r/nothing/7").await;
        assert_eq!((hidden.status, missing.status), (StatusCode::NOT_FOUND, StatusCode::NOT_FOUND));
        let plain = |answer: &Answer| said(&answer.text).replace("customer", "nothing").split("request").next().unwrap().to_owned();
        assert_eq!(plain(&hidden), plain(&missing));
        for query in ["q=K%C3%B6ln", "was=0&field=risk", "now=880088", "q=880088"] {
            let found = clerk.get(&format!("/?range=all&{query}")).await;
            assert!(said(&found.text).contains("No change answers this"), "{query}");
        }
    }
}

on_every_database! {
    /// T1, T15: a change on the border of a page has its values; changes of one request are one group.
    async fn a_page_border_hides_nothing(db: &mut TestDb) {
        shop(db).await;
        for n in 0..120 {
            db.run(&format!("UPDATE orders SET risk = {} WHERE id = 17", 1000 + n)).await;
            db.tick().await;
        }
        let viewer = Somebody::new(db, "viewer");
        let mut address = "/?range=all".to_owned();
        let mut seen = BTreeSet::new();
        loop {
            let page = viewer.get(&address).await.ok();
            for change in between(&page, "<dd>", "</dd>") {
                let values = said(change);
                if values.starts_with("removed: 1") && values.contains("added: 1") {
                    seen.insert(values);
                }
            }
            let older = between(&page, "rel=\"next\" data-key=\"[\" href=\"", "\"").first().map(|link| link.replace("&#38;", "&"));
            match older {
                Some(older) => address = older,
                None => break,
            }
        }
        // From 1000 to 1119, one by one.
        assert_eq!(seen.iter().filter(|values| values.contains("(+1")).count(), 119, "{seen:?}");
    }
}

on_every_database! {
    async fn changes_of_one_transaction_are_told_together(db: &mut TestDb) {
        shop(db).await;
        db.run_as("carol", "recall", "UPDATE customer SET city = 'Bonn'").await;
        let page = Somebody::new(db, "viewer").get("/?actor=carol").await.ok();
        assert!(said(&page).contains("2 changes, one transaction recall"), "{}", said(&page));
    }
}

on_every_database! {
    /// T3, T5: what is ticked is written, in one record that says what it restored from, who did it and why.
    async fn restoring_writes_what_is_ticked_and_nothing_else(db: &mut TestDb) {
        shop(db).await;
        let reverter = Somebody::new(db, "reverter");
        let form = reverter.get("/r/orders/17/restore/1").await.ok();
        let text = said(&form);
        assert!(text.contains("Fields to restore (5 differ)"), "{text}");
        assert!(form.contains("name=\"expect\" value=\"4\""));
        // It changed, and cannot be ticked: what it was is kept nowhere.
        assert!(form.contains("value=\"card\" disabled") && text.contains("what it was is kept nowhere"), "{text}");
        let sent = [("expect", "4"), ("field", "total"), ("field", "risk"), ("reason", "wrong price")];
        let done = reverter.post("/r/orders/17/restore/1", &sent).await;
        assert_eq!((done.status, done.location()), (StatusCode::SEE_OTHER, format!("{BASE}/r/orders/17")));
        let versions = db.audit.history("orders", "17").await.unwrap();
        assert_eq!(versions.len(), 5);
        let newest = &versions[0];
        let changed: Vec<&str> = newest.changes.iter().map(|change| change.field.as_str()).collect();
        assert_eq!(changed, ["total", "risk"]);
        assert_eq!(newest.header.user.as_deref(), Some("reverter"));
        assert_eq!(newest.header.reason.as_deref(), Some("wrong price"));
        assert!(newest.header.context_member("restored_from").unwrap().contains("\"version\":1"));
        assert_eq!(newest.header.context_member("source").as_deref(), Some("web"));
        assert!(said(&reverter.get("/r/orders/17").await.ok()).contains("restored 2 fields"));
        db.verify().await;
    }
}

on_every_database! {
    /// T4: somebody changed the row meanwhile; nothing is lost, neither what they wrote nor what was typed.
    async fn a_stale_form_writes_nothing_and_keeps_what_was_typed(db: &mut TestDb) {
        shop(db).await;
        let reverter = Somebody::new(db, "reverter");
        db.run_as("carol", "fraud", "UPDATE orders SET notes = 'URGENT: do not ship' WHERE id = 17").await;
        let sent = [("expect", "4"), ("field", "notes"), ("reason", "typed \"with\" care")];
        let stale = reverter.post("/r/orders/17/restore/1", &sent).await;
        assert_eq!(stale.status, StatusCode::CONFLICT);
        let text = said(&stale.text);
        for part in ["URGENT: do not ship", "When you looked, v4", "Now, v5", "carol", "fraud", "typed \"with\" care"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(db.audit.history("orders", "17").await.unwrap().len(), 5);
        // Whoever has seen the three states can go on.
        assert!(stale.text.contains("name=\"expect\" value=\"5\"") && stale.text.contains("value=\"notes\" checked"));
        // A double click is the same: the second finds another version current.
        let sent = [("expect", "5"), ("field", "total"), ("reason", "twice")];
        assert_eq!(reverter.post("/r/orders/17/restore/1", &sent).await.status, StatusCode::SEE_OTHER);
        assert_eq!(reverter.post("/r/orders/17/restore/1", &sent).await.status, StatusCode::CONFLICT);
        assert_eq!(db.audit.history("orders", "17").await.unwrap().len(), 6);
    }
}

on_every_database! {
    async fn a_form_without_a_reason_or_a_field_says_so_and_writes_nothing(db: &mut TestDb) {
        shop(db).await;
        let reverter = Somebody::new(db, "reverter");
        for (sent, told) in [
            (vec![("expect", "4"), ("field", "total"), ("reason", "  ")], "Say why"),
            (vec![("expect", "4"), ("reason", "because")], "Tick what is to be restored"),
            (vec![("expect", "4"), ("field", "nothing"), ("reason", "because")], "nothing"),
        ] {
            let refused = reverter.post("/r/orders/17/restore/1", &sent).await;
            assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", said(&refused.text));
            assert!(said(&refused.text).contains(told), "{told}: {}", said(&refused.text));
        }
        assert_eq!(db.audit.history("orders", "17").await.unwrap().len(), 4);
    }
}

on_every_database! {
    /// T6: a deleted record is found, looked at, and brought back, in three clicks.
    async fn a_deleted_record_comes_back_to_life(db: &mut TestDb) {
        shop(db).await;
        let reverter = Somebody::new(db, "reverter");
        let list = reverter.get("/deleted").await.ok();
        assert!(said(&list).contains("bob deleted orders 14"), "{}", said(&list));
        let restore = between(&list, "class=\"details\" href=\"", "\"")[0].to_owned();
        for page in ["/r/orders/14", "/r/orders/14/v/1", "/r/orders/14/v/2", "/r/orders/14/compare/1..2", "/r/orders/14/field/total", "/r/orders/14/at?at=now", &restore] {
            reverter.get(page).await.ok();
        }
        let path = restore.strip_prefix(BASE).unwrap();
        let done = reverter.post(path, &[("expect", "2"), ("reason", "not a duplicate")]).await;
        assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", said(&done.text));
        let newest = &db.audit.history("orders", "14").await.unwrap()[0];
        assert_eq!((newest.number, newest.header.reason.as_deref()), (3, Some("not a duplicate")));
        assert!(newest.header.context_member("restored_from").is_some());
        assert!(!said(&reverter.get("/deleted").await.ok()).contains("orders 14"));
        db.verify().await;
    }
}

on_every_database! {
    /// T8, T9: values as people type them, actors exactly.
    async fn people_find_what_they_look_for(db: &mut TestDb) {
        shop(db).await;
        let viewer = Somebody::new(db, "viewer");
        for (query, count) in [
            ("q=k%C3%B6ln", "1 change"), ("q=1%2C149", "1 change"), ("was=1249", "1 change"), ("now=1149.00&field=total", "1 change"),
            ("actor=bob", "3 changes"), ("q=label:bob", "0 changes"), ("q=actor:bob+action:delete", "1 change"),
            ("reason=price+match", "1 change"), ("action=delete", "1 change"), ("table=line", "2 changes"),
            ("table=line&table=customer", "4 changes"),
        ] {
            let page = viewer.get(&format!("/?range=all&{query}")).await.ok();
            let sum = said(between(&page, "class=\"sum\"", "</p>")[0]);
            assert!(sum.contains(&format!(" {count}")), "{query}: {sum}");
        }
        // What was found is pointed out, and on which side.
        let found = said(&viewer.get("/?range=all&q=1%2C149").await.ok());
        assert!(found.contains("−8 %) found in what it became"), "{found}");
        assert!(said(&viewer.get("/?range=all&was=1249").await.ok()).contains("found in what it was"));
        assert!(!said(&viewer.get("/?range=all&actor=bob").await.ok()).contains("found in"));
        // Two words that are a table and a key are a record.
        let found = viewer.get("/?q=order+17").await;
        assert_eq!((found.status, found.location()), (StatusCode::SEE_OTHER, format!("{BASE}/r/orders/17")));
    }
}

on_every_database! {
    async fn a_table_is_shown_as_it_was_and_compared_with_another_time(db: &mut TestDb) {
        shop(db).await;
        let first = moment_of_first_orders(db).await;
        let viewer = Somebody::new(db, "viewer");
        let page = said(&viewer.get(&format!("/asof/orders?at={first}")).await.ok());
        assert!(page.contains("2 rows, as of") && page.contains("1249") && !page.contains("1149"), "{page}");
        let page = said(&viewer.get(&format!("/asof/orders?at={first}&to=now")).await.ok());
        assert!(page.contains("0 added 1 removed 1 changed"), "{page}");
        assert!(page.contains("removed: placed → added: shipped"), "{page}");
        let found = said(&viewer.get("/asof/orders?at=now&has=shipped").await.ok());
        assert!(found.contains("1 rows have it"), "{found}");
        let before = viewer.get("/asof/orders?at=2000-01-01").await;
        assert_eq!(before.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(said(&before.text).contains("it is tracked since"), "{}", said(&before.text));
    }
}

on_every_database! {
    async fn a_transaction_is_undone_as_a_whole(db: &mut TestDb) {
        shop(db).await;
        db.run_as("carol", "wrong file", "UPDATE customer SET city = 'Bonn'").await;
        let tx = db.audit.history("customer", "7").await.unwrap()[0].header.tx.clone().unwrap();
        let reverter = Somebody::new(db, "reverter");
        let preview = said(&reverter.get(&format!("/tx/{tx}/undo")).await.ok());
        assert!(preview.contains("This would write 2 records") && preview.contains("added: Köln"), "{preview}");
        assert_eq!(db.audit.history("customer", "7").await.unwrap().len(), 2);
        let refused = reverter.post(&format!("/tx/{tx}/undo"), &[("reason", "")]).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
        let done = reverter.post(&format!("/tx/{tx}/undo"), &[("reason", "the wrong file")]).await;
        assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", said(&done.text));
        assert!(said(&reverter.get(&done.location()).await.ok()).contains("2 changes : 2 updated in customer"));
        // Again it would take back what has been changed since.
        let again = reverter.post(&format!("/tx/{tx}/undo"), &[("reason", "again")]).await;
        assert_eq!(again.status, StatusCode::CONFLICT);
        assert!(said(&again.text).contains("2 rows have changed again since"), "{}", said(&again.text));
        db.verify().await;
    }
}

on_every_database! {
    /// T7, T14: masked in the file too, and no formula in it.
    async fn a_file_is_masked_and_harmless(db: &mut TestDb) {
        shop(db).await;
        let viewer = Somebody::new(db, "viewer");
        let csv = viewer.get("/export.csv?range=all").await;
        assert!(csv.headers["content-disposition"].to_str().unwrap().contains("changes.csv"));
        let csv = csv.ok();
        assert_eq!(csv.lines().count(), 11, "{csv}");
        assert!(SECRETS.iter().all(|secret| !csv.contains(secret)) && csv.contains("$masked"));
        let state = viewer.get("/asof/customer/csv?at=now").await.ok();
        assert!(state.contains(",'=1+1") && state.contains("Köln"), "{state}");
        let kept = viewer.get("/asof/customer/csv?at=now&formulas=keep").await.ok();
        assert!(kept.contains(",=1+1"), "{kept}");
        let json: serde_json::Value = serde_json::from_str(&viewer.get("/export.json?range=all").await.ok()).unwrap();
        assert_eq!(json.as_array().unwrap().len(), 10);
        let unbounded = viewer.get("/export.csv").await;
        assert_eq!(unbounded.status, StatusCode::BAD_REQUEST);
    }
}

on_every_database! {
    async fn a_wrong_question_says_what_is_wrong_and_is_kept(db: &mut TestDb) {
        shop(db).await;
        let viewer = Somebody::new(db, "viewer");
        let wrong = viewer.get("/?q=acter:bob").await;
        assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
        let text = said(&wrong.text);
        assert!(text.contains("did you mean \"actor\"?") && wrong.text.contains("value=\"acter:bob\""), "{text}");
        for (path, status) in [
            ("/?field=nothing&range=all", StatusCode::BAD_REQUEST),
            ("/?table=nothing", StatusCode::NOT_FOUND),
            ("/?since=whenever", StatusCode::BAD_REQUEST),
            ("/?tz=Mars/Olympus", StatusCode::BAD_REQUEST),
            ("/?before=x", StatusCode::BAD_REQUEST),
            ("/r/nothing", StatusCode::NOT_FOUND),
            ("/r/orders/99", StatusCode::NOT_FOUND),
            ("/r/orders/17/v/99", StatusCode::NOT_FOUND),
            ("/r/orders/17/compare/3", StatusCode::BAD_REQUEST),
            ("/r/orders/17/field/nothing", StatusCode::NOT_FOUND),
            ("/e/1.2", StatusCode::NOT_FOUND),
            ("/tx/999999999", StatusCode::NOT_FOUND),
            ("/nowhere", StatusCode::NOT_FOUND),
        ] {
            let answer = viewer.get(path).await;
            // What is wrong with a filter is said where the filter is.
            let status = if path.contains("table=nothing") { StatusCode::BAD_REQUEST } else { status };
            assert_eq!(answer.status, status, "{path}: {}", said(&answer.text));
            assert!(answer.text.contains("</html>"), "{path}");
        }
    }
}

on_every_database! {
    async fn nothing_that_another_site_sends_is_written(db: &mut TestDb) {
        shop(db).await;
        let reverter = Somebody::new(db, "reverter");
        let body = "expect=4&field=total&reason=evil";
        for (header, value) in [("sec-fetch-site", "cross-site"), ("origin", "https://evil.example"), ("origin", "null")] {
            let request = Request::post(format!("{BASE}/r/orders/17/restore/1")).header(header, value);
            let refused = reverter.send(request, body).await;
            assert_eq!(refused.status, StatusCode::FORBIDDEN, "{header}: {value}");
        }
        assert_eq!(db.audit.history("orders", "17").await.unwrap().len(), 4);
    }
}

on_every_database! {
    async fn names_with_anything_in_them_have_their_pages(db: &mut TestDb) {
        shop(db).await;
        let viewer = Somebody::new(db, "viewer");
        let page = viewer.get("/r/line").await.ok();
        let links: Vec<&str> = between(&page, "<th scope=\"row\"><a href=\"", "\"");
        assert_eq!(links.len(), 2, "{page}");
        for link in links {
            assert!(said(&viewer.get(link).await.ok()).contains("1 version"), "{link}");
        }
        let page = viewer.get("/r/customer/8").await.ok();
        assert!(!page.contains("<script>alert") && page.contains("&lt;script&gt;alert(1)"));
    }
}

/// A moment after the first orders were written, and before anything else happened to them.
async fn moment_of_first_orders(db: &TestDb) -> afterimage::Moment {
    let versions = db.audit.history("orders", "17").await.unwrap();
    let lines = db.audit.history("line", "order_id=17,what=a/b?c#d").await.unwrap();
    assert!(lines[0].header.date < versions[versions.len() - 2].header.date);
    lines[0].header.date
}

#[tokio::test]
async fn a_database_that_is_gone_has_a_page_that_says_so() {
    let pool = sqlx::postgres::PgPoolOptions::new()
        .acquire_timeout(std::time::Duration::from_secs(2))
        .connect_lazy("postgres://nobody:s3cret@127.0.0.1:1/nothing")
        .unwrap();
    let router = router(afterimage::Afterimage::from_postgres(pool));
    let admin = Somebody { router, user: Some("admin") };
    for path in ["/", "/r/orders/17", "/api/log"] {
        let answer = admin.get(path).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{path}: {}", answer.text);
        assert!(answer.headers.contains_key("retry-after") && !answer.text.contains("s3cret"));
    }
}

on_every_database! {
    async fn a_form_offers_only_what_can_be_written_back(db: &mut TestDb) {
        db.run("CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER, b INTEGER, twice INTEGER GENERATED ALWAYS AS (a * 2) STORED)").await;
        db.track("t", Tracking::new()).await;
        db.run("INSERT INTO t (id, a, b) VALUES (1, 1, 1)").await;
        db.run("UPDATE t SET id = 2, a = 5, b = 5 WHERE id = 1").await;
        db.alter("t", "ALTER TABLE t RENAME COLUMN b TO c").await;
        db.alter("t", "ALTER TABLE t ADD COLUMN d INTEGER").await;
        db.run("UPDATE t SET d = 4 WHERE id = 2").await;
        let reverter = Somebody::new(db, "reverter");
        let form = reverter.get("/r/t/2/restore/1").await.ok();
        let boxes = between(&form, "name=\"field\" value=\"", ">");
        assert_eq!(boxes, ["id\" disabled", "a\" checked", "c\" checked", "twice\" disabled"]);
        assert!(said(&form).contains("it was no column then"), "{}", said(&form));
        let field = said(&reverter.get("/r/t/2/field/c").await.ok());
        assert!(field.contains("2 values") && !field.contains("no such column"), "{field}");
        let compare = said(&reverter.get("/r/t/2/compare/1..current").await.ok());
        assert!(!compare.contains(" b "), "{compare}");
        let sent = [("expect", "3"), ("field", "a"), ("field", "c"), ("reason", "back")];
        let done = reverter.post("/r/t/2/restore/1", &sent).await;
        assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", said(&done.text));
        assert_eq!(db.text("SELECT c FROM t").await.as_deref(), Some("1"));
        db.verify().await;
    }
}

on_every_database! {
    async fn an_earlier_deletion_is_not_undone_once_more(db: &mut TestDb) {
        shop(db).await;
        let reverter = Somebody::new(db, "reverter");
        db.run("INSERT INTO orders (id, status) VALUES (14, 'new')").await;
        db.run("DELETE FROM orders WHERE id = 14").await;
        assert_eq!(reverter.get("/r/orders/14/restore/2").await.status, StatusCode::CONFLICT);
        let sent = [("expect", "2"), ("reason", "back")];
        assert_eq!(reverter.post("/r/orders/14/restore/4", &sent).await.status, StatusCode::CONFLICT);
        assert_eq!(reverter.post("/r/orders/14/restore/4", &[("expect", "4"), ("reason", "back")]).await.status, StatusCode::SEE_OTHER);
    }
}

on_every_database! {
    async fn what_is_counted_is_what_was_asked_for(db: &mut TestDb) {
        shop(db).await;
        let viewer = Somebody::new(db, "viewer");
        for _ in 0..60 {
            db.run_as("carol", "", "UPDATE customer SET city = city || '.'").await;
        }
        let all = said(&viewer.get("/?range=all&actor=carol").await.ok());
        assert!(all.contains("120 changes"), "{all}");
        let reverter = Somebody::new(db, "reverter");
        reverter.post("/r/orders/17/restore/1", &[("expect", "4"), ("field", "total"), ("reason", "x")]).await;
        let restored = said(&viewer.get("/?range=all&action=restore").await.ok());
        assert!(restored.contains("1 change"), "{restored}");
    }
}

on_every_database! {
    async fn two_times_differ_by_what_changed_and_not_by_columns_that_came(db: &mut TestDb) {
        shop(db).await;
        let afterimage::PointInTime::At(then) = db.moment().await else { panic!() };
        db.alter("customer", "ALTER TABLE customer RENAME COLUMN city TO town").await;
        db.alter("customer", "ALTER TABLE customer ADD COLUMN note VARCHAR(20)").await;
        db.run("UPDATE customer SET note = 'vip' WHERE id = 7").await;
        let viewer = Somebody::new(db, "viewer");
        let page = said(&viewer.get(&format!("/asof/customer?at={then}&to=now")).await.ok());
        assert!(page.contains("1 changed") && page.contains("vip") && !page.contains("town"), "{page}");
    }
}

on_every_database! {
    async fn a_search_among_records_says_how_each_is_now(db: &mut TestDb) {
        shop(db).await;
        db.run_as("bob", "", "DELETE FROM customer WHERE id = 8").await;
        let page = said(&Somebody::new(db, "viewer").get("/r/customer?words=K%C3%B6ln").await.ok());
        assert!(page.contains("7 current"), "{page}");
        let page = said(&Somebody::new(db, "viewer").get("/r/customer?words=%3D1%2B1").await.ok());
        assert!(page.contains("8 deleted"), "{page}");
    }
}

#[tokio::test]
async fn a_gap_of_one_row_is_told_on_its_page() {
    let db = &mut TestDb::sqlite().await;
    shop(db).await;
    // By somebody who goes around the triggers.
    let of = |what: &str| {
        format!("SELECT {what} FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'customer'")
    };
    let (triggers, names) = (db.lines(&of("sql")).await, db.lines(&of("name")).await);
    for name in names {
        db.run(&format!("DROP TRIGGER {name}")).await;
    }
    db.run("UPDATE customer SET city = 'Bonn' WHERE id = 7").await;
    for trigger in triggers {
        db.run(&trigger).await;
    }
    db.audit.resync(&afterimage::Resync::new("customer"), &afterimage::Context::actor("ops")).await.unwrap();
    let viewer = Somebody::new(db, "viewer");
    let page = said(&viewer.get("/r/customer/7").await.ok());
    assert!(page.contains("may be missing"), "{page}");
    assert!(!said(&viewer.get("/r/customer/8").await.ok()).contains("may be missing"));
}

on_every_database! {
    async fn a_zone_can_be_left_and_a_wrong_one_is_no_trap(db: &mut TestDb) {
        shop(db).await;
        let router = axum::Router::new().nest(BASE, crate::support::web(db.audit.clone()).zone("Europe/Berlin").router());
        let viewer = Somebody { router, user: Some("viewer") };
        let page = viewer.get("/storage").await.ok();
        assert!(page.contains("Times are in Europe/Berlin") && page.contains("tz=UTC\">Show UTC"), "{page}");
        let utc = viewer.get("/storage?tz=UTC").await.ok();
        assert!(utc.contains("Times are in UTC") && utc.contains("/deleted?tz=UTC"), "{utc}");
        let wrong = viewer.get("/storage?tz=Nonsense").await;
        assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
        assert!(!wrong.text.contains("tz=Nonsense"), "{}", wrong.text);
    }
}

on_every_database! {
    async fn records_of_odd_keys_have_pages(db: &mut TestDb) {
        db.run("CREATE TABLE odd (k VARCHAR(20) PRIMARY KEY, v INTEGER)").await;
        db.track("odd", Tracking::new()).await;
        for key in ["", ".", "..", "a/b", "%", "x y", "{}"] {
            db.run(&format!("INSERT INTO odd VALUES ('{key}', 1)")).await;
        }
        let viewer = Somebody::new(db, "viewer");
        let list = viewer.get("/r/odd").await.ok();
        let links = between(&list, "<th scope=\"row\"><a href=\"", "\"");
        assert_eq!(links.len(), 7);
        for link in links {
            // As a browser reads it: a segment of dots leads up.
            assert!(!link.rsplit('/').next().is_some_and(|last| ["", ".", ".."].contains(&last)), "{link}");
            let page = viewer.get(&link.replace("&#38;", "&")).await;
            assert_eq!(page.status, StatusCode::OK, "{link}");
        }
    }
}

#[tokio::test]
async fn a_view_is_kept_shared_and_forgotten() {
    let db = &mut TestDb::sqlite().await;
    shop(db).await;
    let folder = tempfile::tempdir().unwrap();
    let views = afterimage_web::FileViews::open(folder.path().join("views.json")).unwrap();
    let router = axum::Router::new().nest(BASE, crate::support::web(db.audit.clone()).views(views).router());
    let viewer = Somebody { router, user: Some("viewer") };
    let admin = viewer.called(Some("admin"));
    let page = viewer.get("/?range=all&table=orders").await.ok();
    let keep = between(&page, "· <a href=\"", "\">Keep this view")[0].replace("&#38;", "&");
    let form = viewer.get(&keep).await.ok();
    let address = between(&form, "name=\"address\" value=\"", "\"")[0].replace("&#38;", "&");
    assert_eq!(address, "/?range=all&table=orders");
    let sent = [("do", "keep"), ("name", "Orders & <more>"), ("address", address.as_str())];
    assert_eq!(viewer.post("/views", &sent).await.status, StatusCode::SEE_OTHER);
    let mine = viewer.get("/views").await.ok();
    assert!(said(&mine).contains("yours") && !mine.contains("<more>"), "{}", said(&mine));
    let link = between(&mine, "<th scope=\"row\"><a href=\"", "\"")[0].replace("&#38;", "&");
    assert!(viewer.get(&link).await.ok().contains("orders 17"));
    // Nobody else finds it before it is shared, nor forgets it then.
    assert!(!admin.get("/views").await.ok().contains("Orders"));
    let named = |does| [("do", does), ("name", "Orders & <more>")];
    assert_eq!(viewer.post("/views", &named("share")).await.status, StatusCode::SEE_OTHER);
    let theirs = admin.get("/views").await.ok();
    assert!(theirs.contains("Orders") && theirs.contains("viewer") && !theirs.contains("Forget"));
    admin.post("/views", &named("forget")).await;
    assert!(viewer.get("/views").await.ok().contains("Orders"));
    assert_eq!(admin.post("/views", &named("unshare")).await.status, StatusCode::NOT_FOUND);
    viewer.post("/views", &named("forget")).await;
    assert!(!viewer.get("/views").await.ok().contains("Orders"));
    for address in ["//evil.example", "/\\evil.example", "https://evil.example", ""] {
        let refused = viewer.post("/views", &[("do", "keep"), ("name", "x"), ("address", address)]).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{address}");
    }
    let nameless = viewer.post("/views", &[("do", "keep"), ("name", " "), ("address", "/storage")]).await;
    assert!(nameless.status == StatusCode::BAD_REQUEST && said(&nameless.text).contains("A view has a name"));
    // Where none are kept, nothing leads there.
    let router = axum::Router::new().nest(BASE, crate::support::web(db.audit.clone()).router());
    let without = Somebody { router, user: Some("viewer") };
    assert!(!without.get("/storage").await.ok().contains("Keep this view"));
    assert_eq!(without.get("/views").await.status, StatusCode::NOT_FOUND);
}

on_every_database! {
    async fn a_version_names_the_rows_that_it_referred_to(db: &mut TestDb) {
        db.run("CREATE TABLE person (id INTEGER PRIMARY KEY, name VARCHAR(50))").await;
        db.run("CREATE TABLE pet (id INTEGER PRIMARY KEY, owner INTEGER REFERENCES person (id))").await;
        db.track("person", Tracking::new().label("name")).await;
        db.track("pet", Tracking::new()).await;
        db.run("INSERT INTO person VALUES (1, 'Ann')").await;
        db.tick().await;
        db.run("INSERT INTO pet VALUES (1, 1)").await;
        db.tick().await;
        db.run("UPDATE person SET name = 'Anna' WHERE id = 1").await;
        let viewer = Somebody::new(db, "viewer");
        let page = viewer.get("/r/pet/1/v/1").await.ok();
        assert!(said(&page).contains("1 person Ann "), "{}", said(&page));
        let link = between(&page, "<td>", "</td>").into_iter().find_map(|cell| between(cell, "href=\"", "\"").first().copied());
        let then = said(&viewer.get(&link.unwrap().replace("&#38;", "&")).await.ok());
        assert!(then.contains("person 1 Ann") || then.contains("Ann"), "{then}");
        assert!(said(&viewer.get("/r/pet/1").await.ok()).contains("just now"));
    }
}
