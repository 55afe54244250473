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
use support::{BASE, TestDb, shop};

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
