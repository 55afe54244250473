//! The log as it grows: every committed record once, whichever transaction ends first.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support::*;
use afterimage::{Follow, LogQuery, Query, Tracking};

async fn new_keys(following: &mut Follow) -> Vec<String> {
    let entries = following.next().await.unwrap();
    entries.iter().map(|entry| entry.key[0].1.to_string()).collect()
}

on_every_database! {
    async fn what_is_committed_is_told_once(db: &mut TestDb) {
        db.run("CREATE TABLE doc (id INTEGER PRIMARY KEY, rank INTEGER)").await;
        db.track("doc", Tracking::new()).await;
        db.run("INSERT INTO doc VALUES (1, 1)").await;
        let mut following = db.audit.follow(Query::default()).await.unwrap();
        let mut of_high = db.audit.follow(LogQuery::parse("now:9").unwrap().query).await.unwrap();
        assert_eq!(new_keys(&mut following).await, [""; 0]);
        db.run("INSERT INTO doc VALUES (2, 9); INSERT INTO doc VALUES (3, 3)").await;
        assert_eq!(new_keys(&mut following).await, ["2", "3"]);
        assert_eq!(new_keys(&mut of_high).await, ["2"]);
        assert_eq!(new_keys(&mut following).await, [""; 0]);
    }
}

#[tokio::test]
async fn a_transaction_that_began_earlier_and_ends_later_is_not_lost() {
    let mut db = TestDb::postgres().await;
    db.run("CREATE TABLE doc (id INTEGER PRIMARY KEY, rank INTEGER)").await;
    db.track("doc", Tracking::new()).await;
    let mut before = db.another().await;
    run_on(&mut before, "BEGIN; INSERT INTO doc VALUES (1, 1)").await.unwrap();
    let mut following = db.audit.follow(Query::default()).await.unwrap();
    let mut slow = db.another().await;
    run_on(&mut slow, "BEGIN; INSERT INTO doc VALUES (2, 2)").await.unwrap();
    db.run("INSERT INTO doc VALUES (3, 3)").await;
    assert_eq!(new_keys(&mut following).await, ["3"]);
    db.run("INSERT INTO doc VALUES (4, 4)").await;
    assert_eq!(new_keys(&mut following).await, ["4"]);
    run_on(&mut slow, "INSERT INTO doc VALUES (5, 5); COMMIT").await.unwrap();
    assert_eq!(new_keys(&mut following).await, ["2", "5"]);
    run_on(&mut before, "COMMIT").await.unwrap();
    assert_eq!(new_keys(&mut following).await, ["1"]);
    let mut aborted = db.another().await;
    run_on(&mut aborted, "BEGIN; INSERT INTO doc VALUES (6, 6); ROLLBACK").await.unwrap();
    assert_eq!(new_keys(&mut following).await, [""; 0]);
}
