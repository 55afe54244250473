//! What a long-lived handle remembers of the catalogue, and when it has to read it again.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support::*;
use afterimage::{Afterimage, AsOfQuery, ErrorKind, LogQuery, PointInTime, Query, Tracking};

async fn two_tables(db: &mut TestDb) -> Afterimage {
    db.run("CREATE TABLE doc (id INTEGER PRIMARY KEY, rank INTEGER)").await;
    db.run("CREATE TABLE place (id INTEGER PRIMARY KEY, rank INTEGER)").await;
    db.track("doc", Tracking::new()).await;
    db.run("INSERT INTO doc VALUES (1, 1)").await;
    assert_eq!(db.signs("doc", "1").await, "+", "what is tracked is remembered from here on");
    Afterimage::connect(&db.url).await.unwrap()
}

on_every_database! {
    async fn what_another_handle_changes_is_seen_at_once(db: &mut TestDb) {
        let other = two_tables(db).await;
        other.track("place", Tracking::new()).await.unwrap();
        db.run("INSERT INTO place VALUES (1, 1)").await;
        assert_eq!(db.signs("place", "1").await, "+");
        let page = db.audit.log(&LogQuery::from(Query::default())).await.unwrap();
        assert_eq!(page.entries.len(), 2);
        other.untrack("doc", true).await.unwrap();
        let error = db.audit.history("doc", "1").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
}

on_every_database! {
    async fn a_column_that_another_handle_followed_is_there_at_once(db: &mut TestDb) {
        let other = two_tables(db).await;
        db.run("ALTER TABLE doc ADD COLUMN note VARCHAR(20)").await;
        other.migrate(&[], &[]).await.unwrap();
        db.run("UPDATE doc SET note = 'x'").await;
        let state = db.audit.as_of(&AsOfQuery::new("doc", PointInTime::Now)).await.unwrap();
        assert_eq!(state.columns, ["id", "rank", "note"]);
    }
}

on_every_database! {
    async fn a_gap_is_seen_at_once(db: &mut TestDb) {
        let other = two_tables(db).await;
        let now = || AsOfQuery::new("doc", PointInTime::Now);
        db.audit.as_of(&now()).await.unwrap();
        other.untrack("doc", false).await.unwrap();
        let error = db.audit.as_of(&now()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unknowable, "{error}");
        other.track("doc", Tracking::new()).await.unwrap();
        db.audit.as_of(&now()).await.unwrap();
    }
}

on_every_database! {
    async fn what_was_rolled_back_is_not_remembered(db: &mut TestDb) {
        if db.is_mariadb() {
            // What changes a schema cannot be rolled back there.
            return;
        }
        two_tables(db).await;
        let mut tx = db.audit.begin(&actor("1")).await.unwrap();
        tx.alter("doc", "ALTER TABLE doc ADD COLUMN note VARCHAR(20)").await.unwrap();
        tx.rollback().await.unwrap();
        let state = db.audit.as_of(&AsOfQuery::new("doc", PointInTime::Now)).await.unwrap();
        assert_eq!(state.columns, ["id", "rank"]);
        db.verify().await;
    }
}

on_every_database! {
    async fn a_catalogue_that_is_gone_is_told_and_then_forgotten(db: &mut TestDb) {
        two_tables(db).await;
        db.run(db.by3(
            "PRAGMA foreign_keys = OFF; ALTER TABLE afterimage_setting RENAME TO elsewhere",
            "ALTER TABLE afterimage.setting RENAME TO elsewhere",
            "RENAME TABLE afterimage_setting TO elsewhere",
        )).await;
        assert!(db.audit.history("doc", "1").await.is_err());
        db.run(db.by3(
            "ALTER TABLE elsewhere RENAME TO afterimage_setting",
            "ALTER TABLE afterimage.elsewhere RENAME TO setting",
            "RENAME TABLE elsewhere TO afterimage_setting",
        )).await;
        assert_eq!(db.signs("doc", "1").await, "+");
    }
}

on_every_database! {
    /// Where tracking was interrupted before it had made the history, or somebody dropped it, the rest is told still.
    async fn a_history_that_is_not_there_is_a_fault_and_no_error(db: &mut TestDb) {
        db.run("CREATE TABLE doc (id INTEGER PRIMARY KEY); CREATE TABLE item (id INTEGER PRIMARY KEY)").await;
        db.track("doc", Tracking::new()).await;
        db.track("item", Tracking::new()).await;
        db.run("DROP TABLE doc_history").await;
        let status = db.audit.status().await.unwrap();
        assert!(!status[0].is_healthy() && status[1].is_healthy(), "{status:?}");
        let faults: Vec<String> = status[0].faults.iter().map(ToString::to_string).collect();
        assert!(faults.iter().any(|fault| fault.contains("doc_history is missing")), "{faults:?}");
    }
}
