//! SQLite: rows that `OR REPLACE` deletes without a word, and every other conflict clause.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support::*;
use afterimage::{Storage, Tracking};
use serde_json::json;

/// A row, the signs of its records with `recursive_triggers` off, and with it on.
type Signs = &'static [(&'static str, &'static str, &'static str)];

/// One write, done under every storage and every pragma that matters to it.
struct Case {
    schema: &'static str,
    before: &'static str,
    write: &'static str,
    /// Rows of `item`.
    signs: Signs,
}

async fn open(case: &Case, tracking: &Tracking, recursive: bool, foreign: bool) -> TestDb {
    let mut db = TestDb::sqlite().await;
    db.run(&format!("PRAGMA recursive_triggers = {recursive}; PRAGMA foreign_keys = {foreign}")).await;
    db.run(case.schema).await;
    db.track("item", tracking.clone()).await;
    db.run(case.before).await;
    db.tick().await;
    db
}

async fn check_with(case: Case, tracking: Tracking) {
    for storage in [Storage::Snapshot, Storage::Delta] {
        for (recursive, foreign) in [(false, false), (false, true), (true, false), (true, true)] {
            let tracking = tracking.clone().storage(storage);
            let mut db = open(&case, &tracking, recursive, foreign).await;
            let then = now();
            let before = db.as_of("item", then.clone()).await;
            db.tick().await;
            db.tick().await;
            // A statement that is to fail is one of the cases.
            let _ = db.try_run(case.write).await;
            let said = format!("{storage:?}, recursive {recursive}, foreign keys {foreign}: {}", case.write);
            for (key, off, on) in case.signs {
                let expected = if recursive { on } else { off };
                assert_eq!(db.signs("item", key).await, *expected, "{key}; {said}");
            }
            for verdict in db.audit.verify(&[]).await.unwrap() {
                assert!(verdict.is_whole(), "{said}: {:#?} {:?}", verdict.differences, verdict.faults);
            }
            let first =
                afterimage::PointInTime::At(db.versions("item", case.signs[0].0).await[0].header.date);
            assert_eq!(db.as_of("item", first).await, before, "as of before; {said}");
        }
    }
}

async fn check(case: Case) {
    check_with(case, Tracking::new()).await;
}

const CODES: &str = "CREATE TABLE item (id INTEGER PRIMARY KEY, code TEXT UNIQUE, n INTEGER)";
const ABC: &str = "INSERT INTO item VALUES (1, 'a', 0), (2, 'b', 0), (3, 'c', 0)";

#[tokio::test]
async fn through_the_key() {
    let write = "INSERT OR REPLACE INTO item VALUES (1, 'z', 9)";
    check(Case { schema: CODES, before: ABC, write, signs: &[("1", "+~", "+-+"), ("2", "+", "+")] }).await;
}

#[tokio::test]
async fn through_another_unique_index() {
    let write = "INSERT OR REPLACE INTO item VALUES (7, 'b', 9)";
    check(Case { schema: CODES, before: ABC, write, signs: &[("2", "+-", "+-"), ("7", "+", "+")] }).await;
}

#[tokio::test]
async fn through_both_at_once() {
    let write = "INSERT OR REPLACE INTO item VALUES (1, 'b', 9)";
    check(Case { schema: CODES, before: ABC, write, signs: &[("1", "+~", "+-+"), ("2", "+-", "+-")] }).await;
}

#[tokio::test]
async fn an_identical_row() {
    let write = "INSERT OR REPLACE INTO item VALUES (1, 'a', 0)";
    check(Case { schema: CODES, before: ABC, write, signs: &[("1", "+", "+-+")] }).await;
}

#[tokio::test]
async fn many_rows_of_one_statement_some_of_which_replace_each_other() {
    let write = "REPLACE INTO item VALUES (7, 'a', 1), (8, 'a', 2), (2, 'x', 3), (9, 'new', 4), (9, 'c', 5)";
    let signs = &[
        ("1", "+-", "+-"),
        ("7", "+-", "+-"),
        ("8", "+", "+"),
        ("2", "+~", "+-+"),
        ("9", "+~", "+-+"),
        ("3", "+-", "+-"),
    ];
    check(Case { schema: CODES, before: ABC, write, signs }).await;
}

#[tokio::test]
async fn several_victims_of_one_row() {
    let schema = "CREATE TABLE item (id INTEGER PRIMARY KEY, a TEXT UNIQUE, b TEXT, c TEXT, UNIQUE (b, c))";
    let before = "INSERT INTO item VALUES (1, 'a', 'x', 'x'), (2, 'b', 'y', 'y'), (3, 'c', 'z', 'z'), (4, 'd', 'w', 'w')";
    let write = "INSERT OR REPLACE INTO item VALUES (1, 'b', 'z', 'z')";
    let signs = &[("1", "+~", "+-+"), ("2", "+-", "+-"), ("3", "+-", "+-"), ("4", "+", "+")];
    check(Case { schema, before, write, signs }).await;
}

#[tokio::test]
async fn through_a_partial_unique_index() {
    let schema = "CREATE TABLE item (id INTEGER PRIMARY KEY, code TEXT, live INTEGER);
        CREATE UNIQUE INDEX one_live ON item (code) WHERE live = '1'";
    let before = "INSERT INTO item VALUES (1, 'a', 1), (2, 'a', 0), (3, 'b', 1)";
    let write = "INSERT OR REPLACE INTO item VALUES (7, 'a', 1), (8, 'b', 0)";
    let signs = &[("1", "+-", "+-"), ("2", "+", "+"), ("3", "+", "+"), ("7", "+", "+"), ("8", "+", "+")];
    check(Case { schema, before, write, signs }).await;
}

#[tokio::test]
async fn through_a_partial_index_whose_condition_names_the_table() {
    let schema = "CREATE TABLE item (id INTEGER PRIMARY KEY, code TEXT, live INTEGER);
        CREATE UNIQUE INDEX one_live ON item (code) WHERE item.live IS NOT NULL";
    let before = "INSERT INTO item VALUES (1, 'a', 1)";
    let write = "INSERT OR REPLACE INTO item VALUES (7, 'a', 1)";
    check(Case { schema, before, write, signs: &[("1", "+-", "+-"), ("7", "+", "+")] }).await;
}

#[tokio::test]
async fn through_a_unique_index_on_expressions() {
    let schema = "CREATE TABLE item (id INTEGER PRIMARY KEY, code TEXT, n INTEGER);
        CREATE UNIQUE INDEX lowered ON item (lower(code), abs(n) DESC);
        CREATE UNIQUE INDEX cased ON item (CASE WHEN n = '5' THEN code COLLATE NOCASE END)";
    let before = "INSERT INTO item VALUES (1, 'A', -1), (2, 'B', 2), (3, 'C', 5)";
    let write =
        "INSERT OR REPLACE INTO item VALUES (7, 'a', 1); INSERT OR REPLACE INTO item VALUES (8, 'C', 5)";
    let signs = &[("1", "+-", "+-"), ("2", "+", "+"), ("7", "+", "+"), ("3", "+-", "+-"), ("8", "+", "+")];
    check(Case { schema, before, write, signs }).await;
}

#[tokio::test]
async fn through_an_expression_over_a_column_with_an_affinity() {
    let schema = "CREATE TABLE item (id INTEGER PRIMARY KEY, code TEXT, n INTEGER);
        CREATE UNIQUE INDEX cased ON item (CASE WHEN n = '5' THEN code END)";
    let before = "INSERT INTO item VALUES (1, 'A', 5)";
    let write = "INSERT OR REPLACE INTO item VALUES (7, 'A', 5)";
    check(Case { schema, before, write, signs: &[("1", "+-", "+-"), ("7", "+", "+")] }).await;
}

#[tokio::test]
async fn through_a_unique_column_that_is_not_tracked() {
    let tracking = Tracking::new().exclude(["code"]);
    let write =
        "INSERT OR REPLACE INTO item VALUES (7, 'b', 9); UPDATE OR REPLACE item SET code = 'a' WHERE id = 3";
    let signs = &[("1", "+-", "+-"), ("2", "+-", "+-"), ("3", "+", "+"), ("7", "+", "+")];
    check_with(Case { schema: CODES, before: ABC, write, signs }, tracking).await;
}

#[tokio::test]
async fn through_a_unique_index_on_a_generated_column() {
    for kind in ["STORED", "VIRTUAL"] {
        let schema: &'static str = format!(
            "CREATE TABLE item (id INTEGER PRIMARY KEY, code TEXT, n INTEGER, low TEXT AS (lower(code)) {kind} UNIQUE)"
        )
        .leak();
        let before = "INSERT INTO item VALUES (1, 'A', 0), (2, 'B', 0), (3, 'C', 0)";
        let write = "INSERT OR REPLACE INTO item VALUES (7, 'a', 9); UPDATE OR REPLACE item SET code = 'b' WHERE id = 3";
        let signs = &[("1", "+-", "+-"), ("2", "+-", "+-"), ("3", "+~", "+~"), ("7", "+", "+")];
        check(Case { schema, before, write, signs }).await;
    }
}

#[tokio::test]
async fn through_a_collation() {
    let schema = "CREATE TABLE item (id TEXT PRIMARY KEY COLLATE NOCASE, code TEXT, n INTEGER);
        CREATE UNIQUE INDEX codes ON item (code COLLATE NOCASE)";
    let before = "INSERT INTO item VALUES ('a', 'X', 0), ('b', 'Y', 0), ('c', 'Z', 0)";
    let write =
        "INSERT OR REPLACE INTO item VALUES ('A', 'x', 1); INSERT OR REPLACE INTO item VALUES ('d', 'y', 1)";
    // 'a' left and 'A' arrived: two keys, of which `history` shows each its own records.
    let signs = &[("a", "+-", "+-"), ("A", "+", "+"), ("b", "+-", "+-"), ("c", "+", "+"), ("d", "+", "+")];
    check(Case { schema, before, write, signs }).await;
}

#[tokio::test]
async fn through_the_rowid_of_a_table_with_another_key() {
    let schema = "CREATE TABLE item (code TEXT PRIMARY KEY, n INTEGER)";
    let before = "INSERT INTO item (rowid, code, n) VALUES (1, 'a', 0), (2, 'b', 0), (3, 'c', 0)";
    let write = "INSERT OR REPLACE INTO item (rowid, code, n) VALUES (1, 'z', 1); UPDATE OR REPLACE item SET rowid = 2 WHERE code = 'c'";
    let signs = &[("a", "+-", "+-"), ("z", "+", "+"), ("b", "+-", "+-"), ("c", "+", "+")];
    check(Case { schema, before, write, signs }).await;
}

#[tokio::test]
async fn without_rowid_and_a_composite_key() {
    let schema = "CREATE TABLE item (a INTEGER, b TEXT, code TEXT UNIQUE, PRIMARY KEY (b, a)) WITHOUT ROWID";
    let before = "INSERT INTO item VALUES (1, 'x', 'p'), (2, 'y', 'q'), (3, 'z', 'r')";
    let write = "INSERT OR REPLACE INTO item VALUES (1, 'x', 'q'); UPDATE OR REPLACE item SET a = 1, b = 'x' WHERE code = 'r'";
    let signs = &[("a=1,b=x", "+~-+", "+-+-+"), ("a=2,b=y", "+-", "+-")];
    check_keyed(Case { schema, before, write, signs }).await;
}

/// As `check`, where lineages through key changes are not of interest.
async fn check_keyed(case: Case) {
    for storage in [Storage::Snapshot, Storage::Delta] {
        for recursive in [false, true] {
            let mut db = open(&case, &Tracking::new().storage(storage), recursive, true).await;
            db.run(case.write).await;
            for (key, off, on) in case.signs {
                let (a, b) = key.split_once(',').unwrap();
                let (a, b) = (a.trim_start_matches("a="), b.trim_start_matches("b="));
                let all = db.lines(&format!("SELECT history_type FROM item_history WHERE a = {a} AND b = '{b}' ORDER BY history_date, history_id")).await;
                assert_eq!(all.concat(), if recursive { *on } else { *off }, "{key} {storage:?}");
            }
            db.verify().await;
        }
    }
}

#[tokio::test]
async fn update_or_replace_moves_a_row_onto_another() {
    let write = "UPDATE OR REPLACE item SET id = 2, code = 'c' WHERE id = 1";
    for storage in [Storage::Snapshot, Storage::Delta] {
        for recursive in [false, true] {
            let case = Case { schema: CODES, before: ABC, write, signs: &[] };
            let mut db = open(&case, &Tracking::new().storage(storage), recursive, true).await;
            db.run(write).await;
            let all = db
                .lines("SELECT history_type || id || coalesce(history_old_key, '') FROM item_history WHERE history_id > 3 ORDER BY history_id")
                .await;
            let victims: Vec<&String> = all.iter().filter(|line| *line == "-2" || *line == "-3").collect();
            assert_eq!(victims.len(), 2, "{all:?}");
            assert_eq!(all[2..], ["-1", r#"+2{"id":1}"#], "the departures come before the arrival");
            db.verify().await;
        }
    }
}

#[tokio::test]
async fn ignored_and_failing_rows_leave_nothing() {
    let cases: [(&'static str, Signs); 6] = [
        (
            "INSERT OR IGNORE INTO item VALUES (1, 'z', 1), (7, 'b', 1), (8, 'y', 1)",
            &[("1", "+", "+"), ("2", "+", "+"), ("7", "", ""), ("8", "+", "+")],
        ),
        (
            "INSERT OR FAIL INTO item VALUES (8, 'y', 1), (1, 'z', 1), (9, 'x', 1)",
            &[("1", "+", "+"), ("8", "+", "+"), ("9", "", "")],
        ),
        ("INSERT OR ABORT INTO item VALUES (8, 'y', 1), (1, 'z', 1)", &[("1", "+", "+"), ("8", "", "")]),
        ("UPDATE OR IGNORE item SET code = 'a'", &[("1", "+", "+"), ("2", "+", "+"), ("3", "+", "+")]),
        ("UPDATE OR IGNORE item SET id = id + 1", &[("1", "+", "+"), ("2", "+", "+")]),
        (
            "UPDATE OR FAIL item SET code = CASE id WHEN 1 THEN 'x' ELSE 'c' END, n = 5",
            &[("1", "+~", "+~"), ("2", "+", "+"), ("3", "+", "+")],
        ),
    ];
    for (write, signs) in cases {
        check(Case { schema: CODES, before: ABC, write, signs }).await;
    }
}

#[tokio::test]
async fn upserts() {
    let cases: [(&'static str, Signs); 5] = [
        (
            "INSERT INTO item VALUES (1, 'z', 1), (8, 'y', 1) ON CONFLICT DO NOTHING",
            &[("1", "+", "+"), ("8", "+", "+")],
        ),
        (
            "INSERT INTO item VALUES (1, 'z', 1), (8, 'y', 1) ON CONFLICT (id) DO UPDATE SET n = n + 1",
            &[("1", "+~", "+~"), ("8", "+", "+")],
        ),
        (
            "INSERT INTO item VALUES (8, 'a', 1) ON CONFLICT (code) DO UPDATE SET n = excluded.n WHERE n = 5",
            &[("1", "+", "+"), ("8", "", "")],
        ),
        (
            "INSERT INTO item VALUES (8, 'a', 1) ON CONFLICT (code) DO UPDATE SET id = 70",
            &[("70", "++", "++"), ("8", "", "")],
        ),
        (
            "REPLACE INTO item VALUES (1, 'b', 1); INSERT INTO item VALUES (3, 'z', 1) ON CONFLICT (id) DO UPDATE SET code = 'a', n = 3; REPLACE INTO item VALUES (3, 'b', 1)",
            &[("1", "+~-", "+-+-"), ("2", "+-", "+-"), ("3", "+~~", "+~-+")],
        ),
    ];
    for (write, signs) in cases {
        check(Case { schema: CODES, before: ABC, write, signs }).await;
    }
}

#[tokio::test]
async fn a_conflict_clause_of_the_table_itself() {
    let schema = "CREATE TABLE item (id INTEGER PRIMARY KEY ON CONFLICT REPLACE, code TEXT UNIQUE ON CONFLICT REPLACE, n INTEGER NOT NULL ON CONFLICT REPLACE DEFAULT 4)";
    let write = "INSERT INTO item VALUES (1, 'b', NULL); UPDATE item SET code = 'c' WHERE id = 1";
    let signs = &[("1", "+~~", "+-+~"), ("2", "+-", "+-"), ("3", "+-", "+-")];
    check(Case { schema, before: ABC, write, signs }).await;
}

#[tokio::test]
async fn replacing_a_parent_whose_children_are_in_the_same_table() {
    for storage in [Storage::Snapshot, Storage::Delta] {
        for action in ["CASCADE", "SET NULL"] {
            for recursive in [false, true] {
                let mut db = TestDb::sqlite().await;
                db.run(&format!("PRAGMA recursive_triggers = {recursive}")).await;
                // The reference is unique, so that the cascade's update may itself replace.
                db.run(&format!(
                    "CREATE TABLE item (id INTEGER PRIMARY KEY, boss INTEGER UNIQUE REFERENCES item ON DELETE {action}, code TEXT UNIQUE)"
                ))
                .await;
                db.track("item", Tracking::new().storage(storage)).await;
                db.run("INSERT INTO item VALUES (1, NULL, 'a'), (2, 1, 'b'), (3, 2, 'c'), (4, NULL, 'd'), (5, 4, 'e')").await;
                db.run("INSERT OR REPLACE INTO item VALUES (1, NULL, 'd')").await;
                let gone = db.text("SELECT count(*) FROM item WHERE id = 4").await.unwrap();
                assert_eq!(gone, "0");
                assert_eq!(db.signs("item", "4").await, "+-", "{action} {recursive}");
                let child = if action == "CASCADE" { "+-" } else { "+~" };
                assert_eq!(db.signs("item", "2").await, child, "{action} {recursive}");
                assert_eq!(db.signs("item", "5").await, child, "{action} {recursive}");
                db.verify().await;
            }
        }
    }
}

#[tokio::test]
async fn replacing_a_parent_cascades_to_another_table() {
    for recursive in [false, true] {
        let mut db = TestDb::sqlite().await;
        db.run(&format!("PRAGMA recursive_triggers = {recursive}")).await;
        db.run("CREATE TABLE item (id INTEGER PRIMARY KEY, code TEXT UNIQUE); CREATE TABLE part (id INTEGER PRIMARY KEY, item INTEGER REFERENCES item ON DELETE CASCADE)").await;
        db.track("item", Tracking::new()).await;
        db.track("part", Tracking::new()).await;
        db.run("INSERT INTO item VALUES (1, 'a'), (2, 'b'); INSERT INTO part VALUES (1, 1), (2, 2)").await;
        db.run("INSERT OR REPLACE INTO item VALUES (3, 'b')").await;
        assert_eq!(db.signs("item", "2").await, "+-");
        assert_eq!(db.signs("part", "2").await, "+-");
        assert_eq!(db.as_of("part", now()).await, [json!({"id": 1, "item": 1})]);
        db.verify().await;
    }
}

#[tokio::test]
async fn a_users_trigger_writes_the_table_while_a_row_is_being_replaced() {
    for when in ["BEFORE", "AFTER"] {
        let mut db = TestDb::sqlite().await;
        db.run(CODES).await;
        db.run(&format!("CREATE TRIGGER own {when} INSERT ON item WHEN NEW.id < 100 BEGIN INSERT INTO item VALUES (NEW.id + 100, 'own' || NEW.id, 0); END")).await;
        db.track("item", Tracking::new()).await;
        db.run(ABC).await;
        db.run("INSERT OR REPLACE INTO item VALUES (7, 'b', 9)").await;
        assert_eq!(db.signs("item", "2").await, "+-", "{when}");
        assert_eq!(db.signs("item", "107").await, "+", "{when}");
        db.verify().await;
    }
}

#[tokio::test]
async fn through_a_key_whose_collation_is_not_its_columns() {
    let schema = "CREATE TABLE item (id TEXT, n INTEGER, PRIMARY KEY (id COLLATE NOCASE))";
    let before = "INSERT INTO item VALUES ('a', 1), ('b', 2)";
    let write = "INSERT OR REPLACE INTO item VALUES ('A', 3)";
    check(Case { schema, before, write, signs: &[("a", "+-", "+-"), ("A", "+", "+"), ("b", "+", "+")] })
        .await;
}

#[tokio::test]
async fn by_a_default_in_the_place_of_a_null() {
    let schema = "CREATE TABLE item (id INTEGER PRIMARY KEY, code TEXT NOT NULL DEFAULT 'x' UNIQUE, n INTEGER NOT NULL DEFAULT 7);
        CREATE UNIQUE INDEX twice ON item (n * 2)";
    let before = "INSERT INTO item VALUES (1, 'x', 1), (2, 'y', 7), (3, 'z', 3)";
    let write =
        "INSERT OR REPLACE INTO item VALUES (8, NULL, 8); UPDATE OR REPLACE item SET n = NULL WHERE id = 3";
    let signs = &[("1", "+-", "+-"), ("2", "+-", "+-"), ("3", "+~", "+~"), ("8", "+", "+")];
    check(Case { schema, before, write, signs }).await;
}

#[tokio::test]
async fn not_under_an_explicit_time_before_its_newest_record() {
    let mut db = TestDb::sqlite().await;
    db.run("CREATE TABLE item (id INTEGER PRIMARY KEY, code TEXT UNIQUE)").await;
    db.track("item", Tracking::new()).await;
    db.audit.allow_explicit_time(true).await.unwrap();
    db.run("INSERT INTO item VALUES (1, 'x'), (2, 'y')").await;
    let at = "BEGIN; INSERT INTO afterimage_context (at) VALUES ('2020-01-01T00:00:00Z')";
    for write in
        ["INSERT OR REPLACE INTO item VALUES (9, 'x')", "UPDATE OR REPLACE item SET code = 'x' WHERE id = 2"]
    {
        let refused = db.try_run(&format!("{at}; {write}")).await.unwrap_err();
        assert!(refused.contains("newer record"), "{write}: {refused}");
        db.run("ROLLBACK").await;
    }
    db.verify().await;
}
