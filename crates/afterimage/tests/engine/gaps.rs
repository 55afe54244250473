//! What is not known is said (law 9): without a baseline, after triggers went missing, while a table changed under
//! whoever tracks it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support::*;
use afterimage::{AsOfQuery, ErrorKind, Moment, PointInTime, State, Storage, Track, Tracking};
use serde_json::json;

on_every_database! {
    async fn without_a_baseline_a_table_is_not_known_until_it_is_resynced(db: &mut TestDb) {
        db.run("CREATE TABLE item (id int PRIMARY KEY, a text NOT NULL); INSERT INTO item VALUES (1, 'a'), (2, 'b'), (3, 'c')").await;
        let sparse = Track::new("item", Tracking::new().storage(Storage::Delta)).no_baseline(true);
        let refused = message(db.audit.track_with(sparse, &mut |_| {}).await);
        assert!(refused.contains("build on a baseline"), "{refused}");
        db.audit.track_with(Track::new("item", Tracking::new()).no_baseline(true), &mut |_| {}).await.unwrap();
        db.run("UPDATE item SET a = 'z' WHERE id = 1; DELETE FROM item WHERE id = 2").await;
        assert_eq!(db.signs("item", "1").await, "~", "what a row's records say, they say");
        let said = message(db.audit.as_of(&AsOfQuery::new("item", now())).await);
        assert!(said.contains("no baseline was written"), "{said}");
        assert!(message(db.audit.count_as_of("item", &now()).await).contains("no baseline"));
        assert!(db.audit.migrate(&[], &[]).await.unwrap()[0].gap);
        db.tick().await;
        assert_eq!(db.as_of("item", now()).await, [json!({"id": 1, "a": "z"}), json!({"id": 3, "a": "c"})]);
        assert_eq!(db.audit.count_as_of("item", &now()).await.unwrap(), 2);
        db.verify().await;
        // Of an empty table everything is known from the beginning.
        db.run("CREATE TABLE bare (id int PRIMARY KEY)").await;
        db.audit.track_with(Track::new("bare", Tracking::new()).no_baseline(true), &mut |_| {}).await.unwrap();
        db.run("INSERT INTO bare VALUES (1)").await;
        assert_eq!(db.as_of("bare", now()).await.len(), 1);
    }
}

on_every_database! {
    async fn a_gap_begins_with_the_last_record_of_the_trigger_that_is_missing(db: &mut TestDb) {
        db.run("CREATE TABLE item (id int PRIMARY KEY, n int)").await;
        db.track("item", Tracking::new()).await;
        db.run("INSERT INTO item VALUES (1, 0), (2, 0), (3, 0); DELETE FROM item WHERE id = 3").await;
        let known = db.moment().await;
        db.run("DELETE FROM item WHERE id = 2; UPDATE item SET n = 1").await;
        db.run(db.by("DROP TRIGGER afterimage_1_delete", "DROP TRIGGER \"!afterimage_delete\" ON item")).await;
        db.tick().await;
        db.run("DELETE FROM item WHERE id = 1").await;
        let unknown = db.moment().await;
        db.run("INSERT INTO item VALUES (4, 0)").await;
        let plan = db.audit.plan("item", &Tracking::new()).await.unwrap().plan.up.join("\n");
        assert!(plan.contains("its triggers were missing"), "{plan}");
        assert!(db.audit.migrate(&[], &[]).await.unwrap()[0].gap);
        db.verify().await;
        let said = message(db.audit.as_of(&AsOfQuery::new("item", unknown)).await);
        assert!(said.contains("gap"), "{said}");
        assert_eq!(db.as_of("item", known).await.len(), 2);
    }
}

#[tokio::test]
async fn the_gap_of_a_later_partition_begins_with_it() {
    let mut db = TestDb::postgres().await;
    db.run("CREATE TABLE item (id int PRIMARY KEY, n int) PARTITION BY RANGE (id); CREATE TABLE low PARTITION OF item FOR VALUES FROM (0) TO (100)").await;
    db.track("item", Tracking::new()).await;
    db.run("INSERT INTO item VALUES (1, 0), (2, 0)").await;
    let known = db.moment().await;
    db.run("UPDATE item SET n = 1").await;
    db.run("CREATE TABLE high PARTITION OF item FOR VALUES FROM (100) TO (200)").await;
    db.run("INSERT INTO high VALUES (150, 0)").await;
    let unknown = db.moment().await;
    db.run("UPDATE low SET n = 2").await;
    db.audit.migrate(&[], &[]).await.unwrap();
    assert!(message(db.audit.as_of(&AsOfQuery::new("item", unknown)).await).contains("gap"));
    assert_eq!(db.as_of("item", known).await.len(), 2);
    db.verify().await;
}

#[tokio::test]
async fn rows_that_shared_a_key_are_counted_once_each() {
    let mut db = TestDb::postgres().await;
    db.run("CREATE TABLE item (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, name text)").await;
    db.track("item", Tracking::new()).await;
    db.run("INSERT INTO item VALUES (1, 'a'), (2, 'b')").await;
    db.run("BEGIN; UPDATE item SET id = 2 WHERE name = 'a'; UPDATE item SET id = 1 WHERE name = 'b'; COMMIT")
        .await;
    db.verify().await;
    assert_eq!(db.audit.count_as_of("item", &now()).await.unwrap(), 2);
}

/// Whoever has the lock before us may change the table while we wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_changes_while_track_or_migrate_waits_for_it() {
    let mut db = TestDb::postgres().await;
    db.run("CREATE TABLE item (id int PRIMARY KEY, a int, b int); INSERT INTO item VALUES (1, 1, 1)").await;
    let mut other = db.another().await;
    for round in ["track", "migrate"] {
        let (change, write) = if round == "track" {
            (
                "BEGIN; UPDATE item SET a = 2; ALTER TABLE item DROP COLUMN b; ALTER TABLE item ADD COLUMN c int DEFAULT 3",
                "UPDATE item SET c = 4",
            )
        } else {
            (
                "BEGIN; UPDATE item SET a = 3; ALTER TABLE item ADD COLUMN e int DEFAULT 5",
                "UPDATE item SET e = 6",
            )
        };
        if round == "migrate" {
            db.run("ALTER TABLE item ADD COLUMN d int").await;
        }
        // Held, but not altered yet, when the other begins to wait.
        let (hold, alter) = change.split_once("; ALTER").unwrap();
        run_on(&mut other, hold).await.unwrap();
        let audit = db.audit.clone();
        let waiting = tokio::spawn(async move {
            if round == "track" {
                audit.track("item", Tracking::new()).await.map(drop)
            } else {
                audit.migrate(&[], &[]).await.map(drop)
            }
        });
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
        run_on(&mut other, &format!("ALTER{alter}; COMMIT")).await.unwrap();
        waiting.await.unwrap().unwrap();
        assert_eq!(db.audit.status().await.unwrap()[0].state, State::Ok, "{round}");
        db.run(write).await;
        db.verify().await;
        let last = db.versions("item", "1").await.pop().unwrap();
        assert_eq!(changes(&last), [if round == "track" { "c: 3 -> 4" } else { "e: 5 -> 6" }]);
    }
}

on_every_database! {
    async fn before_tracking_began_is_not_known(db: &mut TestDb) {
        db.run("CREATE TABLE doc (id INTEGER PRIMARY KEY)").await;
        db.run("INSERT INTO doc VALUES (1)").await;
        let before = PointInTime::At(Moment::now());
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        db.audit.track_with(Track::new("doc", Tracking::new()), &mut |_| {}).await.unwrap();
        let error = db.audit.as_of(&AsOfQuery::new("doc", before)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unknowable, "{error}");
        assert_eq!(db.as_of("doc", PointInTime::Now).await.len(), 1);
    }
}
