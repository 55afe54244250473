//! The web interface in a real browser: `cargo xtask browser` runs these, with a Chromium that it installs.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[allow(unused_macros)]
#[macro_use]
mod support;
#[path = "support/browser.rs"]
mod browser;

use afterimage::{Afterimage, Context};
use afterimage_web::{FileViews, Refusal, Role, Visitor, Web};
use axum::Router;
use axum::http::request::Parts;
use browser::Browser;
use serde_json::json;
use support::{BASE, SECRETS, TestDb, shop};

const AXE: &str = include_str!("axe/axe.min.js");

fn anybody(_: &Parts) -> Result<Visitor, Refusal> {
    Ok(Visitor::new(Context::actor("ann").label("Ann Smith"), Role::Admin))
}

/// The shop, served; and a browser before it.
async fn opened(db: &mut TestDb, scripts: bool) -> Browser {
    shop(db).await;
    db.run_as(
        "bob",
        "late discount",
        "UPDATE orders SET total = 1099.00, status = 'delivered' WHERE id = 17",
    )
    .await;
    let views =
        FileViews::open(std::env::temp_dir().join(format!("views-{}.json", std::process::id()))).unwrap();
    let web = Web::new(db.audit.clone(), anybody).views(views).links([7; 32]);
    let router = Router::new().nest(BASE, web.router());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let home = format!("http://{}{BASE}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    tokio::task::block_in_place(|| Browser::open(home, scripts))
}

async fn transaction(audit: &Afterimage) -> String {
    audit.history("orders", "17").await.unwrap()[0].header.tx.clone().unwrap()
}

/// Every page there is.
async fn pages(audit: &Afterimage) -> Vec<String> {
    let tx = transaction(audit).await;
    let mut pages: Vec<String> = [
        "?range=all",
        "?range=all&actor=bob",
        "?q=acter:bob",
        "/actor/bob",
        "/r",
        "/r/orders",
        "/r/orders?words=placed",
        "/r/orders/17",
        "/r/orders/14",
        "/r/orders/17/v/2",
        "/r/orders/17/at?at=2000-01-01",
        "/r/orders/17/compare/1..5",
        "/r/orders/17/field/total",
        "/r/orders/17/restore/1",
        "/r/orders/14/restore/2",
        "/asof",
        "/asof/orders?at=now",
        "/asof/orders?at=now&to=now",
        "/deleted",
        "/exports",
        "/storage",
        "/help",
        "/views?address=/storage",
        "/link?address=/storage",
        "/api",
        "/nowhere",
    ]
    .map(ToOwned::to_owned)
    .to_vec();
    pages.push(format!("/tx/{tx}"));
    pages.push(format!("/tx/{tx}/undo"));
    pages
}

/// T11, T12: no fault of accessibility, nothing that has to be scrolled sideways, nothing that weighs.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a browser: cargo xtask browser"]
async fn every_page_is_accessible_at_every_width_light_and_dark() {
    let db = &mut TestDb::sqlite().await;
    let browser = opened(db, true).await;
    let pages = pages(&db.audit).await;
    tokio::task::block_in_place(|| {
        let rules = r#"["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]"#;
        for page in &pages {
            browser.go(page);
            browser.complaints();
            for (width, dark) in
                [(1280, false), (1280, true), (390, false), (390, true), (320, false), (320, true)]
            {
                browser.look(width, dark);
                let found = browser.run_async(&format!(
                    "{AXE}; const done = arguments[arguments.length - 1]; axe.run(document, {{runOnly: {rules}}}).then(r => done(r.violations.map(v => v.id + ': ' + v.nodes[0].html)))"
                ));
                assert_eq!(found, json!([]), "{page} at {width}, dark: {dark}");
                let beyond = browser.run("return document.documentElement.scrollWidth - window.innerWidth");
                assert!(beyond.as_i64().unwrap() <= 0, "{page} at {width} is {beyond} pixels too wide");
            }
            assert_eq!(browser.complaints(), [""; 0], "{page}");
        }
        browser.look(1280, false);
        browser.cdp("Network.setCacheDisabled", &json!({"cacheDisabled": true}));
        for page in &pages {
            browser.go(page);
            let weighed = browser.run(
                "const all = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]; return [all.length, all.reduce((sum, one) => sum + one.decodedBodySize, 0)]",
            );
            let [requests, bytes] = [0, 1].map(|at| weighed[at].as_u64().unwrap());
            assert!(requests <= 4 && bytes <= 100 * 1024, "{page}: {requests} requests, {bytes} bytes");
        }
    });
}

/// The twelve tasks that people have with a history, each in no more clicks than was aimed at, with what the pages bring along
/// and without it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a browser: cargo xtask browser"]
async fn the_twelve_tasks_are_possible_and_short() {
    for scripts in [true, false] {
        twelve_tasks(scripts).await;
    }
}

async fn twelve_tasks(scripts: bool) {
    let db = &mut TestDb::sqlite().await;
    let browser = opened(db, scripts).await;
    let audit = db.audit.clone();
    let count = audit.history("orders", "17").await.unwrap().len();
    assert_eq!(count, 5);
    let second = audit.history("orders", "17").await.unwrap()[3].header.date;
    println!("scripts: {scripts}\n| task | clicks | pages | words | reading, s |");
    let clicks = |task: &str, most: usize| {
        let (clicks, pages, words) = browser.effort();
        println!("| {task} | {clicks} | {pages} | {words} | {} |", (words * 10).div_ceil(42));
        assert!(clicks <= most, "{task} took {clicks} clicks");
    };
    tokio::task::block_in_place(|| {
        browser.look(1280, false);
        browser.go("");
        assert_eq!(browser.run("return typeof htmx !== 'undefined'"), json!(scripts));
        browser.effort();
        // a: who changed the total of 17 from 1249 to 1149, and when?
        if scripts {
            browser.keys("/");
        }
        browser.type_into("#search", "order 17\u{e007}");
        browser.wait_for("5 versions");
        browser.run("document.querySelector('#field').value = 'total'");
        browser.press("Filter");
        browser.wait("the filter", || browser.path().contains("field=total"));
        browser.wait_for("bob changed 1 field");
        assert!(browser.text().contains("1249") && browser.text().contains("price match"));
        clicks("a", 2);
        // b: 17 as it was at a time.
        browser.go("/r/orders/17");
        browser.type_into("#at", &format!("{second}\u{e007}"));
        browser.wait_for("v2, in force");
        clicks("b", 1);
        // c: all orders as of a time.
        browser.go("/asof/orders?at=now");
        browser.wait_for("1 row, as of");
        clicks("c", 0);
        // d: compare v1 and v3.
        browser.go("/r/orders/17");
        browser.click("input[name=a][value='1']");
        browser.click("input[name=b][value='3']");
        browser.press("Compare the marked versions");
        browser.wait_for("v1 → v3");
        assert!(browser.text().contains("3 fields differ"), "{}", browser.text());
        clicks("d", 3);
        // e: back to v3 with a reason.
        browser.go("/r/orders/17");
        browser.press("Restore v3…");
        browser.wait_for("Fields to restore");
        browser.type_into("#reason", "the discount was a mistake");
        browser.press("Restore the ticked fields");
        browser.wait_for("6 versions");
        clicks("e", 2);
        // f: bring 14 back.
        browser.go("");
        browser.effort();
        browser.press("Deleted");
        browser.press("Restore");
        browser.wait_for("What comes back");
        browser.type_into("#reason", "not a duplicate");
        browser.press("Restore this record");
        browser.wait_for("3 versions");
        clicks("f", 3);
        // g: everything that bob did.
        browser.go("");
        browser.tick("input[name=actor][value=bob]");
        if !scripts {
            browser.tick("#filter button");
        }
        browser.wait_for("4 changes");
        assert!(!browser.text().contains("alice changed"));
        clicks("g", 2);
        // h: all of one transaction.
        browser.go("/r/orders/17/v/2");
        browser.press("transaction");
        browser.wait_for("1 change");
        clicks("h", 1);
        // i: changes as a file.
        browser.go("?range=7d");
        let file = browser.run("return document.querySelector('a[href*=\"export.csv\"]').href");
        assert!(file.as_str().unwrap().contains("range=7d"), "{file}");
        clicks("i", 2);
        // j: a value that once was there.
        browser.go("");
        browser.effort();
        browser.type_into("#search", "was:1249\u{e007}");
        browser.wait_for("1 change");
        clicks("j", 0);
        // k: how much there is.
        browser.press("Storage");
        browser.wait_for("Records a day");
        clicks("k", 1);
        // l: one field back.
        browser.go("/r/orders/17/compare/1..current");
        browser.click("a[href*='field=total']");
        browser.wait_for("Restore orders 17 to v1");
        let ticked = browser
            .run("return [...document.querySelectorAll('input[name=field]:checked')].map(e => e.value)");
        assert_eq!(ticked, json!(["total"]));
        browser.type_into("#reason", "the price was right");
        browser.press("Restore the ticked fields");
        browser.wait_for("7 versions");
        clicks("l", 3);
    });
    let newest = audit.history("orders", "17").await.unwrap().remove(0);
    assert_eq!((newest.changes.len(), newest.header.user.as_deref()), (1, Some("ann")));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a browser: cargo xtask browser"]
async fn results_are_exchanged_in_place_and_keys_do_what_they_say() {
    let db = &mut TestDb::sqlite().await;
    let browser = opened(db, true).await;
    tokio::task::block_in_place(|| {
        browser.look(1280, false);
        browser.go("?range=all");
        browser.run("window.stayed = true");
        browser.tick("input[name=action][value=delete]");
        browser.wait_for("1 change");
        assert_eq!(browser.run("return window.stayed"), json!(true));
        assert_eq!(browser.path(), "?range=all&action=delete");
        // Back is where it was, with everything on it.
        browser.run("history.back()");
        browser.wait_for("11 changes");
        browser.keys("jj");
        assert!(browser.run("return document.querySelectorAll('[data-here]').length") == json!(1));
        browser.keys("?");
        browser.wait_for("What can be asked");
        browser.keys("ga");
        browser.wait("the first page", || browser.path().is_empty());
        browser.go("/r/orders/17/v/2");
        browser.keys("]");
        browser.wait("the next version", || browser.path() == "/r/orders/17/v/3");
        browser.keys("[");
        browser.wait("the version before", || browser.path() == "/r/orders/17/v/2");
        browser.keys("r");
        browser.wait("the page from which to restore", || browser.path() == "/r/orders/17/restore/2");
        browser.go("/r/customer/8");
        assert_eq!(browser.run("return document.querySelectorAll('main script').length"), json!(0));
        assert_eq!(browser.complaints(), [""; 0]);
    });
    let before = db.audit.history("orders", "17").await.unwrap().len();
    assert_eq!(before, 5, "no key writes");
}

/// T1 to T9 and T15 as somebody sees them, on a screen and on a phone, with the pages' scripts and without (T10); T11 and T12 are
/// above, T13 is measured by `cargo xtask bench`, T14 is of files.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a browser: cargo xtask browser"]
async fn what_was_wrong_elsewhere_is_right_here() {
    for (scripts, width) in [(true, 1280), (true, 320), (false, 1280), (false, 390)] {
        acceptance(scripts, width).await;
    }
}

async fn acceptance(scripts: bool, width: u32) {
    let db = &mut TestDb::sqlite().await;
    let browser = opened(db, scripts).await;
    for n in 0..60 {
        db.run_as("carol", "", &format!("UPDATE customer SET city = 'step {n}' WHERE id = 7")).await;
        db.tick().await;
    }
    db.run_as("dora", "recall", "UPDATE line SET n = n + 1").await;
    let audit = db.audit.clone();
    let at = format!("scripts: {scripts}, {width} wide");
    tokio::task::block_in_place(|| {
        browser.look(width, false);
        // T1: a change on the boundary of a page is shown, once.
        let mut told = String::new();
        browser.go("?range=all&actor=carol");
        loop {
            told.push_str(&browser.text());
            match browser
                .run("return document.querySelector('a[rel=next]')?.getAttribute('href') ?? null")
                .as_str()
            {
                Some(older) => browser.go(older.strip_prefix(BASE).unwrap()),
                None => break,
            }
        }
        for n in 1..60 {
            let change = format!("step {} → added: step {n} ", n - 1);
            assert_eq!(told.matches(&change).count(), 1, "{change} {at}: {told}");
        }
        // T2: every field of a change is there.
        browser.go("/r/orders/17");
        assert!(browser.text().contains("risk") && browser.text().contains("880088"), "{at}");
        // T7: what is masked is seen nowhere.
        for page in [
            "/r/orders/17",
            "/r/orders/17/v/3",
            "/r/orders/17/compare/1..current",
            "?q=4111222233334444",
            "/r/orders/17/field/card",
        ] {
            browser.go(page);
            let html = browser.run("return document.querySelector('main').innerHTML.replace(/q=4111222233334444|“4111222233334444”|value=\"4111222233334444\"/g, '')");
            assert!(SECRETS.iter().all(|secret| !html.as_str().unwrap().contains(secret)), "{page} {at}");
        }
        // T8, T9: values as people type them; an actor exactly.
        for (query, sum) in
            [("q=k%C3%B6ln", "2 changes"), ("q=1%2C149", "2 changes"), ("actor=bob", "4 changes")]
        {
            browser.go(&format!("?range=all&{query}"));
            assert!(browser.text().contains(sum), "{query} {at}: {}", browser.text());
        }
        // T15: what one transaction did is told as that.
        browser.go("?range=all&actor=dora");
        assert!(browser.text().contains("2 changes, one transaction"), "{at}: {}", browser.text());
        // T6: a deleted record has all of its pages.
        for page in [
            "/r/orders/14",
            "/r/orders/14/v/1",
            "/r/orders/14/v/2",
            "/r/orders/14/compare/1..2",
            "/r/orders/14/field/total",
        ] {
            browser.go(page);
            assert!(!browser.text().contains("Not found") && browser.text().contains("14"), "{page} {at}");
        }
    });
    // T4: somebody else was faster, and nothing is lost.
    tokio::task::block_in_place(|| {
        browser.go("/r/orders/17/restore/1?field=total");
        browser.type_into("#reason", "typed with care");
    });
    db.run_as("eve", "fraud", "UPDATE orders SET notes = 'URGENT: do not ship' WHERE id = 17").await;
    tokio::task::block_in_place(|| {
        browser.press("Restore the ticked fields");
        browser.wait_for("changed it meanwhile");
        let text = browser.text();
        assert!(text.contains("URGENT: do not ship") && text.contains("fraud"), "{at}: {text}");
        let typed = browser.run("return document.querySelector('#reason').value");
        assert_eq!(typed, json!("typed with care"), "{at}");
        // T3, T5: what is ticked is written, in one record that says from what, by whom and why.
        browser.press("Restore the ticked fields");
        browser.wait_for("restored 1 field");
    });
    let newest = audit.history("orders", "17").await.unwrap().remove(0);
    let changed: Vec<&str> = newest.changes.iter().map(|change| change.field.as_str()).collect();
    assert_eq!(changed, ["total"], "{at}");
    assert_eq!(newest.header.reason.as_deref(), Some("typed with care"));
    assert!(newest.header.context_member("restored_from").unwrap().contains("\"version\":1"));
    db.verify().await;
}
