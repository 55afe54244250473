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
        insta::assert_snapshot!("stats.json", desk.says(&["stats", "--format", "json"]));
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
        insta::assert_snapshot!("stats.table", desk.says(&["stats"]));
        insta::assert_snapshot!("stats.csv", desk.says(&["stats", "--format", "csv"]));
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
fn views_of_the_past_are_sql_that_another_tool_can_run() {
    let desk = Desk::shop();
    let views = desk.says(&["views", "tx:1"]);
    assert_eq!(
        desk.sqlite3_says(&format!("{views} SELECT * FROM orders")),
        "1|open|1149|•••\n2|open|80.5|\n"
    );
    assert_eq!(desk.sqlite3_says("SELECT * FROM orders"), "1|open|1149|5555\n", "of that session alone");
    let time = desk.says(&["views", "0s ago", "orders"]);
    assert!(
        time.starts_with("-- As of 20") && time.contains("CREATE TEMPORARY VIEW \"orders\" AS"),
        "{time}"
    );
    let refused = desk.run(&["views", "tx:1", "--schema", "july"]);
    assert!(stderr(&refused).contains("SQLite has no schemas"));
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

#[test]
fn the_log_and_the_ways_back() {
    let desk = Desk::shop();
    settled(|| {
        insta::assert_snapshot!("log.json", desk.says(&["log", "--format", "json"]));
        insta::assert_snapshot!("log.text", desk.says(&["log", "--table", "orders", "--limit", "2"]));
        insta::assert_snapshot!("log.csv", desk.says(&["log", "--user", "42", "--format", "csv"]));
        insta::assert_snapshot!(
            "diff.json",
            desk.says(&["diff", "orders", "1", "1", "2", "--format", "json"])
        );
        insta::assert_snapshot!("diff.text", desk.says(&["diff", "orders", "1", "1", "2"]));
        let revert = [
            "revert",
            "orders",
            "1",
            "--to",
            "1",
            "--fields",
            "total",
            "--reason",
            "too cheap",
            "--actor",
            "7",
        ];
        insta::assert_snapshot!("revert-dry.text", desk.says(&[&revert[..], &["--dry-run"]].concat()));
        insta::assert_snapshot!("revert.json", desk.says(&[&revert[..], &["--format", "json"]].concat()));
        insta::assert_snapshot!("revert-again.text", desk.says(&revert));
        let restore = ["restore", "orders", "2", "--reason", "deleted by mistake", "--actor", "7"];
        insta::assert_snapshot!("restore.text", desk.says(&restore));
        insta::assert_snapshot!("resync.text", desk.says(&["resync", "orders"]));
    });
    assert!(desk.says(&["log", "--action", "restore", "--format", "csv"]).lines().count() == 3);
    assert!(desk.says(&["verify"]).contains("orders: whole"));
}

#[test]
fn ways_back_that_are_refused_say_why_and_write_nothing() {
    let desk = Desk::shop();
    let cases: [(&[&str], i32, &str); 12] = [
        (&["revert", "orders", "1", "--to", "1"], 2, "why? Give --reason"),
        (&["revert", "orders", "1", "--reason", "x"], 2, "revert to what?"),
        (&["revert", "--reason", "x"], 2, "revert what?"),
        (&["revert", "orders", "1", "--to", "1", "--tx", "1", "--reason", "x"], 2, "give either"),
        (&["revert", "orders", "1", "--to", "1", "--reason", "x"], 1, "\"card\" is masked"),
        (
            &["revert", "orders", "1", "--to", "9", "--reason", "x"],
            1,
            "there is no such version: version 9; it has 3",
        ),
        (
            &["revert", "orders", "1", "--to", "2", "--fields", "totl", "--reason", "x"],
            1,
            "did you mean \"total\"?",
        ),
        (
            &["revert", "orders", "1", "--to", "2", "--expect", "2", "--reason", "x"],
            1,
            "version 2 was expected to be current, and version 3 is",
        ),
        (&["revert", "--tx", "99", "--reason", "x"], 1, "no record of a transaction 99"),
        (&["restore", "orders", "1", "--reason", "x"], 1, "is not deleted"),
        (&["log", "-q", "feild:total"], 1, "did you mean \"field\"?"),
        (&["diff", "orders", "1", "current", "tomorrow"], 1, "\"tomorrow\" is not a time"),
    ];
    for (arguments, code, complaint) in cases {
        let (found, said) = desk.complains(arguments);
        assert!(found == code && said.contains(complaint), "{arguments:?}: {found} {said}");
    }
    assert_eq!(desk.says(&["log", "--format", "csv"]).lines().count(), 6);
}

#[test]
fn a_transaction_and_an_update_without_its_where_are_taken_back() {
    let desk = Desk::shop();
    desk.sqlite3("INSERT INTO orders (id, status, total) SELECT id + 10, 'open', 5 FROM orders; UPDATE orders SET card = NULL");
    std::thread::sleep(std::time::Duration::from_millis(5));
    let then = desk.says(&["log", "--limit", "1", "--format", "json"]);
    let then =
        serde_json::from_str::<serde_json::Value>(&then).unwrap()[0]["date"].as_str().unwrap().to_owned();
    desk.sqlite3("BEGIN; INSERT INTO afterimage_context (actor) VALUES ('9'); UPDATE orders SET status = 'oops'; DELETE FROM afterimage_context; COMMIT");
    let log: serde_json::Value =
        serde_json::from_str(&desk.says(&["log", "--user", "9", "--format", "json"])).unwrap();
    let tx = log[0]["tx"].as_str().unwrap();
    assert!(desk.says(&["revert", "--tx", tx, "--dry-run"]).contains("2 records would be written"));
    assert!(desk.says(&["revert", "--tx", tx, "--reason", "oops"]).contains("2 records written"));
    assert_eq!(
        desk.says(&["as-of", "orders", "now", "--where", "status = 'oops'"]).lines().last(),
        Some("0 rows")
    );
    desk.sqlite3("UPDATE orders SET status = 'worse'");
    let back = [
        "revert",
        "orders",
        "--to",
        &then,
        "--where",
        "id > 5",
        "--conflicts",
        "overwrite",
        "--reason",
        "worse",
    ];
    assert!(desk.says(&back).contains("1 record written"));
    assert_eq!(
        desk.says(&["as-of", "orders", "now", "--where", "status = 'worse'"]).lines().last(),
        Some("1 rows")
    );
}

#[test]
fn a_log_is_followed_as_it_grows() {
    use std::io::{BufRead as _, BufReader};
    let desk = Desk::shop();
    let mut following = std::process::Command::new(env!("CARGO_BIN_EXE_afterimage"))
        .args(["log", "--follow", "--format", "json"])
        .current_dir(desk.path())
        .env("DATABASE_URL", "shop.db")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    // It may not have begun to follow when the first of these is written.
    let writer = std::thread::spawn(move || {
        for total in 1..200 {
            desk.sqlite3(&format!("UPDATE orders SET total = {total} WHERE id = 1"));
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        desk
    });
    let line = lines.next().unwrap().unwrap();
    following.kill().unwrap();
    following.wait().unwrap();
    let entry: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&entry["action"], &entry["table"]), (&"update".into(), &"orders".into()));
    drop(writer.join().unwrap());
}

#[test]
fn the_program_describes_itself() {
    let desk = Desk::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(desk.says(&["completions", shell]).contains("afterimage"), "{shell}");
    }
    desk.says(&["man", "pages"]);
    assert!(
        std::fs::read_to_string(desk.path().join("pages/afterimage-revert.1"))
            .unwrap()
            .contains("UPDATE without WHERE")
    );
}

#[test]
fn colour_is_where_it_is_asked_for_and_nowhere_else() {
    let desk = Desk::shop();
    assert!(!desk.says(&["log"]).contains('\u{1b}'));
    assert!(desk.says(&["log", "--color", "always"]).contains("\u{1b}["));
}
