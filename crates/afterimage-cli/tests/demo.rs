//! The demo: its tour, the facts of its data, and that its commands are ones to try.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use support::{Desk, mariadb, psql, settled, stderr, stdout};

const FILE: &str = "afterimage-demo.db";

fn demo() -> (Desk, String) {
    let desk = Desk::new();
    let output = desk.run_on("unused", &["demo"]);
    assert!(output.status.success(), "{}", stderr(&output));
    (desk, stdout(&output))
}

#[test]
fn the_tour() {
    let (_desk, tour) = demo();
    settled(|| insta::assert_snapshot!("demo", tour));
}

/// What is known of the data, asked of the database where a demo ran.
fn facts_hold(desk: &Desk, database: &str) {
    let says = |arguments: &[&str]| {
        let output = desk.run_on(database, arguments);
        format!("{}{}", stdout(&output), stderr(&output))
    };
    let row = |key: &str, at: &str| says(&["show", "country_codes", key, "--at", at, "--format", "json"]);
    assert!(row("SWZ", "2017-06-01").contains(r#""name": "Swaziland""#));
    assert!(row("SWZ", "2019-06-01").contains(r#""name": "Eswatini""#));
    assert!(row("TUR", "2026-06-01").contains(r#""currency": null"#));
    assert!(row("TUR", "now").contains(r#""currency": "TRY""#), "the tour gives it back");
    for (at, developed) in
        [("2017-10-18", false), ("2017-10-20", true), ("2024-09-26", true), ("2024-09-28", false)]
    {
        assert_eq!(row("DEU", at).contains("\"developed\""), developed, "as of {at}");
    }
    // How a context's JSON is spaced is the database's.
    let macedonia = says(&["history", "country_codes", "MKD", "--format", "json"]).replace("\": \"", "\":\"");
    assert!(macedonia.contains(r#""revision":"1055072""#), "{macedonia}");
    let verdict = says(&["verify"]);
    assert!(verdict.contains("country_codes: whole; 1855 records, 249 rows, 0 differences"), "{verdict}");
    assert!(says(&["as-of", "country_codes", "2013-12-01"]).contains("is not known"));
}

#[test]
fn the_facts_of_the_data_hold() {
    let (desk, _) = demo();
    facts_hold(&desk, FILE);
}

/// On request: in a database of its own on a server, twice, and never where anything else is tracked.
fn on_a_server(url: &str, sql: &dyn Fn(&str)) {
    let desk = Desk::new();
    for _ in 0..2 {
        let output = desk.run_on("unused", &["demo", "--into", url]);
        assert!(output.status.success(), "{}", stderr(&output));
        let tour = stdout(&output).replace(&afterimage::redacted(url), FILE);
        settled(|| insta::assert_snapshot!("demo", tour));
        facts_hold(&desk, url);
    }
    assert!(!desk.path().join(FILE).exists());
    sql("CREATE TABLE accounts (id INTEGER PRIMARY KEY)");
    assert!(desk.run_on(url, &["track", "accounts"]).status.success());
    let output = desk.run_on("unused", &["demo", "--into", url]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("accounts is tracked in that database"), "{}", stderr(&output));
    facts_hold(&desk, url);
}

#[test]
fn into_postgres() {
    let server = std::env::var("AFTERIMAGE_TEST_POSTGRES").expect("run by `cargo xtask test`");
    let name = format!("demo_{}", std::process::id());
    let url = format!("{}/{name}", server.rsplit_once('/').unwrap().0);
    psql(&server, &format!("CREATE DATABASE {name}"));
    on_a_server(&url, &|sql| psql(&url, sql));
}

#[test]
fn into_mariadb() {
    let server = std::env::var("AFTERIMAGE_TEST_MARIADB").expect("run by `cargo xtask test`");
    let name = format!("demo_{}", std::process::id());
    mariadb(&server, "", &format!("CREATE DATABASE {name}"));
    on_a_server(&format!("{server}/{name}"), &|sql| mariadb(&server, &name, sql));
}

#[test]
fn it_can_be_run_again_and_never_takes_a_file_that_is_not_its_own() {
    let (desk, _) = demo();
    assert!(desk.run_on("unused", &["demo"]).status.success());
    let elsewhere = Desk::new();
    std::fs::write(elsewhere.path().join(FILE), "precious").unwrap();
    let output = elsewhere.run_on("unused", &["demo"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(std::fs::read(elsewhere.path().join(FILE)).unwrap(), b"precious");
}
