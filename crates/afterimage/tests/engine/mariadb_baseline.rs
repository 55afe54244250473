//! MariaDB's baseline goes in batches by the key, whatever the key is, and passes by whoever holds a row.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use crate::support::*;
use afterimage::{Track, Tracking};
use sqlx::{Connection as _, Executor as _};

/// Keys, each with what fills it with `{}` rows.
const KEYS: [(&str, &str); 7] = [
    ("a BIGINT UNSIGNED, PRIMARY KEY (a)", "seq"),
    ("a VARCHAR(40), b INT, PRIMARY KEY (a, b)", "CONCAT('x', seq % 7), seq"),
    ("a ENUM('z', 'm', 'a'), b INT, PRIMARY KEY (a, b)", "ELT(1 + seq % 3, 'z', 'm', 'a'), seq"),
    (
        "a SET('z', 'm', 'a'), b DATETIME(6), c INT, PRIMARY KEY (a, b, c)",
        "seq % 8, '2026-01-01' + INTERVAL seq % 5 DAY, seq",
    ),
    ("a UUID, PRIMARY KEY (a)", "UUID()"),
    ("a VARBINARY(20), PRIMARY KEY (a)", "UNHEX(MD5(seq))"),
    ("a DECIMAL(20,4), b TIME(3), PRIMARY KEY (b, a)", "seq / 3, SEC_TO_TIME(seq % 200000)"),
];

#[tokio::test]
async fn whatever_the_key_is_every_row_is_in_it_once() {
    // A whole number of first batches, and some more.
    for rows in [0, 1, 1_000, 2_345] {
        for (key, values) in KEYS {
            let mut db = TestDb::mariadb().await;
            db.run(&format!("CREATE TABLE item (n INT, {key})")).await;
            if rows > 0 {
                db.run(&format!("INSERT INTO item SELECT 0, {values} FROM seq_1_to_{rows}")).await;
            }
            let tracked = db.audit.track("item", Tracking::new()).await.unwrap();
            assert_eq!(tracked.baseline, rows, "{key}");
            db.verify().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_somebody_holds_is_passed_by_until_it_is_free() {
    let mut db = TestDb::mariadb().await;
    db.run("CREATE TABLE item (id INT PRIMARY KEY, n INT)").await;
    db.run("INSERT INTO item SELECT seq, 0 FROM seq_1_to_3000").await;
    let audit = db.audit.clone();
    let killed = tokio::spawn(async move {
        let request = Track::new("item", Tracking::new());
        audit.track_with(request, &mut |_| panic!("killed in its first batch")).await
    });
    assert!(killed.await.is_err());
    let mut holder = sqlx::MySqlConnection::connect(&db.url).await.unwrap();
    holder.execute("START TRANSACTION; SELECT * FROM item WHERE id IN (7, 2000) FOR UPDATE").await.unwrap();
    let audit = db.audit.clone();
    let resumed = tokio::spawn(async move { audit.track("item", Tracking::new()).await });
    let written = "SELECT count(*) FROM item_history";
    while db.text(written).await.unwrap() != "2998" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    db.run("UPDATE item SET n = 1 WHERE id = 8").await;
    assert!(!resumed.is_finished());
    holder.execute("UPDATE item SET n = 1 WHERE id = 7; COMMIT").await.unwrap();
    resumed.await.unwrap().unwrap();
    db.verify().await;
    assert_eq!(db.signs("item", "7").await, "+~");
    assert_eq!(db.signs("item", "8").await, "+~");
    assert_eq!(db.signs("item", "2000").await, "+");
}

/// Who waits for another run keeps no connection that this run needs.
#[tokio::test(flavor = "multi_thread")]
async fn more_tables_than_the_pool_has_connections_at_once() {
    let mut db = TestDb::mariadb().await;
    let tables: Vec<String> = (0..10).map(|n| format!("item{n}")).collect();
    for table in &tables {
        db.run(&format!("CREATE TABLE {table} (id INT PRIMARY KEY)")).await;
        db.run(&format!("INSERT INTO {table} SELECT seq FROM seq_1_to_2500")).await;
    }
    let tracking = tables.iter().chain(&tables).map(|table| {
        let (audit, table) = (db.audit.clone(), table.clone());
        tokio::spawn(async move { audit.track(table, Tracking::new()).await })
    });
    for tracked in tracking.collect::<Vec<_>>() {
        tracked.await.unwrap().unwrap();
    }
    db.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_while_some_triggers_were_missing_is_recorded_when_it_goes_on() {
    for storage in STORAGES {
        let mut db = TestDb::mariadb().await;
        db.run("CREATE TABLE item (id INT PRIMARY KEY, n INT)").await;
        db.run("INSERT INTO item SELECT seq, 0 FROM seq_1_to_3000").await;
        let (audit, tracking) = (db.audit.clone(), Tracking::new().storage(storage));
        let request = Track::new("item", tracking.clone());
        let killed = tokio::spawn(async move {
            audit.track_with(request, &mut |_| panic!("killed in its first batch")).await
        });
        assert!(killed.await.is_err());
        // As an install leaves them that is cut short: those of the baseline are the first.
        db.run("DROP TRIGGER afterimage_1_update").await;
        db.run("DROP TRIGGER afterimage_1_delete").await;
        db.run("UPDATE item SET n = 1 WHERE id IN (1, 2, 2500)").await;
        db.run("DELETE FROM item WHERE id IN (3, 2600)").await;
        db.run("INSERT INTO item VALUES (4000, 0)").await;
        db.audit.track("item", tracking).await.unwrap();
        db.verify().await;
        let gaps = "SELECT count(*) FROM afterimage_gap WHERE to_date IS NOT NULL";
        assert_eq!(db.text(gaps).await.as_deref(), Some("1"));
    }
}
