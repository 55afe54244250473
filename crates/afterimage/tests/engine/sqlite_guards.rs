//! SQLite: change and record together or not at all, and records that stay (laws 1 and 4).

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support::*;
use afterimage::Tracking;

async fn one_item() -> TestDb {
    let mut db = TestDb::sqlite().await;
    db.run("CREATE TABLE item (id INTEGER PRIMARY KEY, n INTEGER CHECK (n < 100))").await;
    db.track("item", Tracking::new()).await;
    db.run("INSERT INTO item VALUES (1, 0)").await;
    db
}

#[tokio::test]
async fn what_fails_or_is_rolled_back_leaves_nothing() {
    let mut db = one_item().await;
    assert!(db.try_run("INSERT INTO item VALUES (2, 0), (3, 100)").await.is_err());
    assert!(db.try_run("UPDATE item SET n = n + 100").await.is_err());
    db.run("BEGIN; UPDATE item SET n = 1; SAVEPOINT s; UPDATE item SET n = 2; INSERT INTO item VALUES (5, 5); ROLLBACK TO s; UPDATE item SET n = 3; COMMIT").await;
    db.run("BEGIN; DELETE FROM item; ROLLBACK").await;
    db.run("SAVEPOINT outer; UPDATE item SET n = 7; ROLLBACK TO outer; RELEASE outer").await;
    let said: Vec<String> = db.versions("item", "1").await.iter().skip(1).flat_map(changes).collect();
    assert_eq!(said, ["n: 0 -> 1", "n: 1 -> 3"]);
    assert_eq!(db.text("SELECT count(*) FROM item_history").await.unwrap(), "3");
    db.verify().await;
}

#[tokio::test]
async fn a_record_that_cannot_be_written_fails_the_write_under_every_conflict_clause() {
    let mut db = one_item().await;
    db.run("CREATE TABLE kept AS SELECT * FROM item_history; DROP TABLE item_history").await;
    for clause in ["", "OR IGNORE", "OR REPLACE", "OR FAIL"] {
        assert!(db.try_run(&format!("INSERT {clause} INTO item VALUES (2, 0)")).await.is_err(), "{clause}");
        assert!(db.try_run(&format!("UPDATE {clause} item SET n = 2")).await.is_err(), "{clause}");
        assert!(db.try_run("DELETE FROM item").await.is_err());
    }
    assert_eq!(db.text("SELECT count(*) || ':' || sum(n) FROM item").await.unwrap(), "1:0");
}

#[tokio::test]
async fn a_number_that_is_taken_fails_the_write_under_every_conflict_clause() {
    let mut db = one_item().await;
    db.run("INSERT INTO item VALUES (9, 9); UPDATE afterimage_state SET history_id = 0").await;
    for clause in ["", "OR IGNORE", "OR REPLACE", "OR FAIL"] {
        assert!(db.try_run(&format!("INSERT {clause} INTO item VALUES (2, 0)")).await.is_err(), "{clause}");
        assert!(
            db.try_run(&format!("UPDATE {clause} item SET n = 2 WHERE id = 1")).await.is_err(),
            "{clause}"
        );
    }
    assert_eq!(db.text("SELECT count(*) || ':' || sum(n) FROM item").await.unwrap(), "2:9");
    assert_eq!(db.text("SELECT count(*) FROM item_history").await.unwrap(), "2");
}

#[tokio::test]
async fn records_can_only_be_added() {
    let mut db = one_item().await;
    for tampering in [
        "UPDATE item_history SET n = 5",
        "DELETE FROM item_history",
        "INSERT OR REPLACE INTO item_history (history_id, history_type, id) VALUES (1, '-', 1)",
        "REPLACE INTO item_history SELECT * FROM item_history",
        "UPDATE OR REPLACE item_history SET history_id = 5",
        "INSERT INTO item_history SELECT * FROM item_history WHERE true ON CONFLICT DO UPDATE SET n = 5",
    ] {
        for recursive in ["ON", "OFF"] {
            db.run(&format!("PRAGMA recursive_triggers = {recursive}")).await;
            assert!(db.try_run(tampering).await.is_err(), "{tampering}");
        }
    }
    assert_eq!(db.text("SELECT n FROM item_history").await.unwrap(), "0");
    db.verify().await;
}

#[tokio::test]
async fn a_guard_that_somebody_dropped_is_told() {
    let mut db = one_item().await;
    db.run("DROP TRIGGER item_history_no_delete").await;
    let status = db.audit.status().await.unwrap().remove(0);
    assert!(!status.is_healthy(), "{status:?}");
    db.audit.migrate(&[], &[]).await.unwrap();
    assert!(db.audit.status().await.unwrap()[0].is_healthy());
    assert!(db.try_run("DELETE FROM item_history").await.is_err());
    db.verify().await;
}

#[tokio::test]
async fn temporary_tables_of_our_names_change_nothing() {
    let mut db = one_item().await;
    db.run("CREATE TEMP TABLE item_history (x); CREATE TEMP TABLE afterimage_state (x); CREATE TEMP TABLE afterimage_pending_1 (x)").await;
    db.run("INSERT INTO item VALUES (2, 2); UPDATE item SET n = 5 WHERE id = 1; REPLACE INTO item VALUES (2, 3); DELETE FROM item WHERE id = 2").await;
    assert_eq!(db.signs("item", "1").await, "+~");
    assert_eq!(db.signs("item", "2").await, "+~-");
    assert_eq!(db.text("SELECT count(*) FROM temp.item_history").await.unwrap(), "0");
    db.verify().await;
}

#[tokio::test]
async fn a_writer_that_trusts_no_schema_is_recorded() {
    let mut db = one_item().await;
    db.run("PRAGMA trusted_schema = OFF").await;
    db.run("INSERT INTO item VALUES (2, 2); UPDATE item SET id = 3 WHERE id = 2; REPLACE INTO item VALUES (3, 3); DELETE FROM item WHERE id = 1").await;
    db.run("BEGIN; INSERT INTO afterimage_context (actor, at) VALUES ('ann', NULL); UPDATE item SET n = 8; DELETE FROM afterimage_context; COMMIT").await;
    let last = db.versions("item", "3").await.pop().unwrap();
    assert_eq!(last.header.user.as_deref(), Some("ann"));
    db.verify().await;
}

#[tokio::test]
async fn a_masked_value_of_a_row_about_to_be_replaced_is_kept_nowhere_in_clear() {
    let mut db = TestDb::sqlite().await;
    db.run("CREATE TABLE doc (id INTEGER PRIMARY KEY, rank INTEGER, note TEXT)").await;
    db.track("doc", Tracking::new().mask(["note"])).await;
    db.run("INSERT INTO doc VALUES (1, 1, 'Sensitive')").await;
    db.run("INSERT OR IGNORE INTO doc VALUES (1, 2, 'Sensitive too')").await;
    let pending = db.text("SELECT group_concat(note) FROM afterimage_pending_1").await.unwrap();
    assert_eq!(pending, "1", "only that it was not NULL");
    db.run("INSERT OR REPLACE INTO doc VALUES (1, 1, 'Other')").await;
    assert_eq!(db.signs("doc", "1").await, "+~");
    assert_eq!(changes(&db.versions("doc", "1").await[1]), ["note: ••• -> •••"]);
    db.verify().await;
}
