//! The command line's contract: what scripts rely on.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use support::{Desk, settled, stderr, stdout};

#[test]
fn json_of_every_question() {
    let desk = Desk::shop();
    settled(|| {
        insta::assert_snapshot!("history.json", desk.says(&["history", "orders", "1", "--format", "json"]));
        insta::assert_snapshot!("show.json", desk.says(&["show", "orders", "1", "--format", "json"]));
        insta::assert_snapshot!("as-of.json", desk.says(&["as-of", "orders", "now", "--format", "json"]));
        insta::assert_snapshot!("status.json", desk.says(&["status", "--format", "json"]));
        insta::assert_snapshot!("verify.json", desk.says(&["verify", "--format", "json"]));
        insta::assert_snapshot!("doctor.json", desk.says(&["doctor", "--format", "json"]));
    });
}

#[test]
fn tables_and_csv_of_every_question() {
    let desk = Desk::shop();
    settled(|| {
        insta::assert_snapshot!("history.table", desk.says(&["history", "orders", "1"]));
        insta::assert_snapshot!("history.csv", desk.says(&["history", "orders", "1", "--format", "csv"]));
        insta::assert_snapshot!("show.table", desk.says(&["show", "orders", "1"]));
        insta::assert_snapshot!("as-of.table", desk.says(&["as-of", "orders", "now"]));
        insta::assert_snapshot!("as-of.csv", desk.says(&["as-of", "orders", "now", "--format", "csv"]));
        insta::assert_snapshot!("status.table", desk.says(&["status"]));
        insta::assert_snapshot!("verify.text", desk.says(&["verify"]));
    });
}

#[test]
fn a_plan_is_sql_that_another_tool_can_run() {
    let desk = Desk::new();
    desk.sqlite3(
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, status TEXT); INSERT INTO orders VALUES (1, 'open')",
    );
    let plan = desk.says(&["plan", "orders"]);
    assert!(desk.says(&["status"]).contains("nothing is tracked"), "a plan changes nothing");
    desk.sqlite3(&plan);
    desk.sqlite3("UPDATE orders SET status = 'paid'");
    let history = desk.says(&["history", "orders", "1", "--format", "csv"]);
    assert_eq!(history.lines().count(), 3, "{history}");
    assert!(desk.says(&["verify"]).contains("whole"));
    let after =
        desk.says(&["plan", "orders", "--after", "ALTER TABLE orders ADD COLUMN vat NUMERIC DEFAULT 19"]);
    desk.sqlite3(&after);
    desk.sqlite3("UPDATE orders SET vat = 7");
    assert!(desk.says(&["history", "orders", "1"]).contains("vat: 19 → 7"));
    assert!(desk.says(&["verify"]).contains("orders: whole"));
}

#[test]
fn exit_codes_tell_wrong_usage_from_errors_from_findings() {
    let desk = Desk::shop();
    assert_eq!(desk.run(&["status", "--check"]).status.code(), Some(0));
    assert_eq!(desk.run(&["as-of", "orders"]).status.code(), Some(2));
    assert_eq!(desk.run(&["show", "orders", "99"]).status.code(), Some(1));
    assert_eq!(desk.run(&["show", "orders", "2"]).status.code(), Some(1), "it was deleted");
    desk.sqlite3("DROP TRIGGER afterimage_1_update; UPDATE orders SET total = 0");
    assert_eq!(desk.run(&["verify"]).status.code(), Some(3));
    assert_eq!(desk.run(&["status", "--check"]).status.code(), Some(3));
    assert_eq!(desk.run(&["doctor"]).status.code(), Some(3));
    assert!(desk.says(&["migrate"]).contains("gap"));
    assert_eq!(desk.run(&["verify"]).status.code(), Some(0));
}

#[test]
fn what_cannot_be_done_is_said_with_the_way_out() {
    let desk = Desk::shop();
    desk.sqlite3(
        "CREATE TABLE keyless (a TEXT); CREATE VIEW v AS SELECT 1 AS id; CREATE TABLE taken (id INTEGER PRIMARY KEY);
         CREATE TABLE taken_history (x); CREATE TABLE reserved (id INTEGER PRIMARY KEY, history_note TEXT)",
    );
    let cases: [(&[&str], &str); 11] = [
        (&["track", "keyless"], "keyless: it has no primary key"),
        (&["track", "v"], "v: it is a view"),
        (&["track", "taken"], "that name is taken: choose another with the option history"),
        (&["track", "reserved"], "rename the column"),
        (&["track", "ordes"], "there is no table \"ordes\"; did you mean \"orders\"?"),
        (&["track", "orders", "--exclude", "totl"], "there is no column \"totl\"; did you mean \"total\"?"),
        (&["track", "orders", "--mask", "id"], "the key column \"id\" cannot be masked"),
        (&["history", "odrers", "1"], "\"odrers\" is not tracked; did you mean \"orders\"?"),
        (&["show", "orders", "1", "--at", "someday"], "\"someday\" is not a time"),
        (
            &["show", "orders", "1", "--at", "2001-01-01"],
            "what it was at 2001-01-01T00:00:00.000000Z is not known",
        ),
        (&["as-of", "orders", "now", "--where", "1) ; DELETE FROM orders; --"], "is not one condition"),
    ];
    for (arguments, expected) in cases {
        let (code, message) = desk.complains(arguments);
        assert_eq!(code, 1, "{arguments:?}: {message}");
        assert!(message.contains(expected), "{arguments:?}: {message}");
    }
    assert!(desk.says(&["verify"]).contains("whole"), "nothing was half done");
}

#[test]
fn a_password_never_appears() {
    let desk = Desk::new();
    for url in
        ["postgres://ann:hunter2@127.0.0.1:1/shop", "postgres://ann:hunter2@[bad", "mysql://ann:hunter2@h/db"]
    {
        let output = desk.run_on(url, &["status"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(!stderr(&output).contains("hunter2"), "{}", stderr(&output));
        assert!(stderr(&output).contains("ann:***"), "{}", stderr(&output));
    }
}

#[test]
fn a_masked_value_is_nowhere() {
    let desk = Desk::shop();
    let bytes = std::fs::read(desk.path().join("shop.db")).unwrap();
    let wal = std::fs::read(desk.path().join("shop.db-wal")).unwrap_or_default();
    let both = [bytes, wal].concat();
    let found = |text: &str| both.windows(text.len()).filter(|window| *window == text.as_bytes()).count();
    assert!(found("5555") > 0, "the live row holds it");
    let history = desk.says(&["history", "orders", "1", "--format", "json"]);
    assert!(
        history.contains(r#""$masked": true"#) && !history.contains("4111") && !history.contains("5555"),
        "{history}"
    );
}

#[test]
fn the_address_may_stand_in_a_file() {
    let desk = Desk::shop();
    std::fs::write(desk.path().join("afterimage.toml"), "database_url = 'shop.db'\nformat = 'json'\n")
        .unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_afterimage"))
        .arg("status")
        .current_dir(desk.path())
        .env_remove("DATABASE_URL")
        .output()
        .unwrap();
    assert!(stdout(&output).starts_with("[\n"), "{} {}", stdout(&output), stderr(&output));
}
