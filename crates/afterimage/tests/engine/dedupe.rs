//! Records that changed nothing, and rows that have no record.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support::*;
use afterimage::{AsOfQuery, Context, Dedupe, ErrorKind, LogQuery, PointInTime, Storage, Tracking};

async fn item(db: &mut TestDb, storage: Storage) {
    db.run("CREATE TABLE item (id INTEGER PRIMARY KEY, n INTEGER, seen INTEGER, note TEXT)").await;
    db.track("item", Tracking::new().storage(storage).record_unchanged(true)).await;
}

async fn writes(db: &mut TestDb, statements: &[&str]) {
    for sql in statements {
        db.tick().await;
        db.run(sql).await;
    }
}

async fn dedupe(db: &TestDb, request: Dedupe) -> u64 {
    let would = db.audit.dedupe(&request.clone().dry_run(true), &actor("keeper")).await.unwrap();
    let done = db.audit.dedupe(&request, &actor("keeper")).await.unwrap();
    assert_eq!(would, done);
    db.verify().await;
    done[0].records
}

async fn count(db: &mut TestDb) -> String {
    db.text("SELECT count(*) FROM item_history").await.unwrap()
}

async fn over(db: &mut TestDb) {
    db.audit.untrack("item", true).await.unwrap();
    db.run("DROP TABLE item").await;
}

on_every_database! {
    async fn what_changed_nothing_goes_and_the_rest_stays(db: &mut TestDb) {
        for storage in STORAGES {
            item(db, storage).await;
            writes(db, &["INSERT INTO item VALUES (1, 0, 0, 'a')", "UPDATE item SET n = 0", "UPDATE item SET n = 1"]).await;
            let before = db.audit.as_of(&AsOfQuery::new("item", PointInTime::Now)).await.unwrap();
            assert_eq!(dedupe(db, Dedupe::new()).await, 1);
            assert_eq!((count(db).await.as_str(), db.signs("item", "1").await.as_str()), ("2", "+~"));
            assert_eq!(db.audit.as_of(&AsOfQuery::new("item", PointInTime::Now)).await.unwrap(), before);
            // The newest too, where it says nothing; and of a row that is deleted.
            writes(db, &["UPDATE item SET n = 1", "UPDATE item SET n = 1", "DELETE FROM item"]).await;
            assert_eq!(dedupe(db, Dedupe::new().tables(["item"])).await, 2);
            assert_eq!(db.signs("item", "1").await, "+~-");
            assert_eq!(dedupe(db, Dedupe::new()).await, 0);
            let removals = db.audit.removals().await.unwrap();
            let said: Vec<(&str, u64)> = removals.iter().map(|one| (one.what.as_str(), one.records)).collect();
            assert_eq!(said[said.len() - 2..], [("dedupe", 1), ("dedupe", 2)]);
            // Every time can still be asked for: there is no horizon.
            assert!(removals.iter().all(|one| one.until.is_none()));
            over(db).await;
        }
    }
}

on_every_database! {
    async fn only_what_is_not_older_than_the_window_goes(db: &mut TestDb) {
        item(db, Storage::Snapshot).await;
        writes(db, &["INSERT INTO item VALUES (1, 0, 0, 'a')"]).await;
        for _ in 0..4 {
            writes(db, &["UPDATE item SET n = 0"]).await;
        }
        let PointInTime::At(window) = db.moment().await else { unreachable!() };
        writes(db, &["UPDATE item SET n = 0", "UPDATE item SET n = 0"]).await;
        assert_eq!((count(db).await.as_str(), dedupe(db, Dedupe::new().since(window)).await), ("7", 2));
        assert_eq!(count(db).await, "5");
        let PointInTime::At(window) = db.moment().await else { unreachable!() };
        writes(db, &["UPDATE item SET n = 1", "UPDATE item SET n = 1"]).await;
        assert_eq!(dedupe(db, Dedupe::new().since(window)).await, 1);
        assert_eq!(count(db).await, "6");
    }
}

on_every_database! {
    async fn creations_deletions_reasons_and_other_actors_stay(db: &mut TestDb) {
        for storage in STORAGES {
            item(db, storage).await;
            let same = "UPDATE item SET n = 0";
            // T13: a row that is deleted and comes back as it was is no duplicate.
            writes(db, &["INSERT INTO item VALUES (1, 0, 0, 'a')", "DELETE FROM item", "INSERT INTO item VALUES (1, 0, 0, 'a')"]).await;
            db.run_as("ann", "checked", same).await;
            let mut tx = db.audit.begin(&Context::actor("bob")).await.unwrap();
            tx.execute(same, &[]).await.unwrap();
            tx.commit().await.unwrap();
            let mut tx = db.audit.begin(&Context::actor("bob")).await.unwrap();
            tx.execute(same, &[]).await.unwrap();
            tx.commit().await.unwrap();
            // Of the two of Bob's, the second: the first says that he looked at it after Ann.
            assert_eq!(dedupe(db, Dedupe::new()).await, 1);
            assert_eq!(db.signs("item", "1").await, "+-+~~");
            let log = db.audit.log(&LogQuery::default().limit(2)).await.unwrap();
            let users: Vec<_> = log.entries.iter().map(|entry| entry.header.user.as_deref().unwrap()).collect();
            assert_eq!(users, ["bob", "ann"]);
            over(db).await;
        }
    }
}

on_every_database! {
    async fn what_is_ignored_is_told_by_the_next_record_that_stays(db: &mut TestDb) {
        for storage in STORAGES {
            item(db, storage).await;
            writes(db, &[
                "INSERT INTO item VALUES (1, 0, 0, 'a'), (2, 0, 0, 'b')",
                "UPDATE item SET seen = 1 WHERE id = 1",
                "UPDATE item SET seen = 2 WHERE id = 1",
                "UPDATE item SET n = 1 WHERE id = 1",
                "UPDATE item SET seen = 3",
            ]).await;
            let newest = db.as_of("item", PointInTime::Now).await;
            // The newest of each row says what is there now, and stays.
            assert_eq!(dedupe(db, Dedupe::new().ignore(["seen"])).await, 2);
            assert_eq!((db.signs("item", "1").await.as_str(), db.signs("item", "2").await.as_str()), ("+~~", "+~"));
            assert_eq!(db.as_of("item", PointInTime::Now).await, newest);
            let told: Vec<String> = db.versions("item", "1").await.iter().skip(1).map(|v| changes(v).join("; ")).collect();
            assert_eq!(told, ["n: 0 -> 1; seen: 0 -> 2", "seen: 2 -> 3"]);
            let log = db.audit.log(&LogQuery::parse("table:item key:1 field:n").unwrap()).await.unwrap();
            assert_eq!(log.entries[0].changes.len(), 2);
            writes(db, &["DELETE FROM item"]).await;
            assert_eq!(dedupe(db, Dedupe::new().ignore(["seen"])).await, 2);
            assert_eq!(db.versions("item", "1").await.last().unwrap().row[2].1.to_string(), "3");
            over(db).await;
        }
    }
}

on_every_database! {
    async fn what_cannot_be_ignored_is_said(db: &mut TestDb) {
        item(db, Storage::Snapshot).await;
        for (column, said) in [("seem", "did you mean"), ("id", "part of a key")] {
            let refused = db.audit.dedupe(&Dedupe::new().ignore([column]), &actor("k")).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InvalidInput);
            assert!(refused.to_string().contains(said), "{refused}");
        }
        db.audit.hold("item", None, &Context::actor("c").reason("case 7")).await.unwrap();
        writes(db, &["INSERT INTO item VALUES (1, 0, 0, 'a')", "UPDATE item SET n = 0"]).await;
        let kept = db.audit.dedupe(&Dedupe::new(), &actor("k")).await.unwrap().remove(0);
        assert_eq!((kept.records, kept.kept_by.as_deref()), (0, Some("it is under a hold: case 7")));
    }
}

on_every_database! {
    async fn many_duplicates_in_a_row_go_in_batches(db: &mut TestDb) {
        for storage in STORAGES {
            item(db, storage).await;
            let rows: Vec<String> = (1..=400).map(|id| format!("({id}, 0, 0, 'x')")).collect();
            writes(db, &[&format!("INSERT INTO item VALUES {}", rows.join(", "))]).await;
            for n in 1..=4 {
                writes(db, &[&format!("UPDATE item SET seen = {n}")]).await;
            }
            writes(db, &["UPDATE item SET note = 'y'"]).await;
            assert_eq!(dedupe(db, Dedupe::new().ignore(["seen"])).await, 1600);
            assert_eq!(changes(&db.versions("item", "7").await[1]), ["seen: 0 -> 4", "note: x -> y"]);
            over(db).await;
        }
    }
}

on_every_database! {
    async fn rows_without_a_record_get_their_baseline_later_and_once(db: &mut TestDb) {
        db.run("CREATE TABLE item (id INTEGER PRIMARY KEY, n INTEGER)").await;
        db.run("INSERT INTO item VALUES (1, 0), (2, 0), (3, 0)").await;
        let without = afterimage::Track::new("item", Tracking::new()).no_baseline(true);
        db.audit.track_with(without, &mut |_| {}).await.unwrap();
        db.run("UPDATE item SET n = 1 WHERE id = 1").await;
        let unknown = db.moment().await;
        assert_eq!(db.audit.baseline("item", &actor("keeper")).await.unwrap(), 2);
        let known = db.moment().await;
        assert_eq!(db.audit.baseline("item", &actor("keeper")).await.unwrap(), 0);
        assert_eq!((db.signs("item", "1").await.as_str(), db.signs("item", "2").await.as_str()), ("~", "+"));
        // What was before the first record of a row that changed is not known.
        assert_eq!(changes(&db.versions("item", "1").await[0]), ["n: ? -> 1"]);
        assert_eq!(db.as_of("item", known).await.len(), 3);
        assert!(message(db.audit.as_of(&AsOfQuery::new("item", unknown)).await).contains("gap"));
        let first = &db.versions("item", "2").await[0].header;
        assert_eq!((first.user.as_deref(), first.context_member("baseline").as_deref()), (Some("keeper"), Some("true")));
        db.verify().await;
    }
}
