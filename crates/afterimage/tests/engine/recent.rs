//! A table as of a recent time: from the live rows, where that is less work and tells the same.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support::*;
use afterimage::{AsOfQuery, Start, Storage, TableState, Tracking};

const ROWS: usize = 12_000;

/// A table of so many rows that reading its records is work.
async fn large(db: &mut TestDb, tracking: Tracking) {
    db.run("CREATE TABLE doc (id INTEGER PRIMARY KEY, rank INTEGER, note TEXT, secret VARCHAR(20), hidden INTEGER)").await;
    db.run(&db.by3(
        format!("INSERT INTO doc WITH RECURSIVE g(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM g WHERE i < {ROWS}) SELECT i, i % 7, 'n' || i, CASE WHEN i % 3 THEN 's' END, i FROM g"),
        format!("INSERT INTO doc SELECT i, i % 7, 'n' || i, CASE WHEN i % 3 > 0 THEN 's' END, i FROM generate_series(1, {ROWS}) AS i"),
        format!("INSERT INTO doc SELECT seq, seq % 7, CONCAT('n', seq), IF(seq % 3, 's', NULL), seq FROM seq_1_to_{ROWS}"),
    ))
    .await;
    db.track("doc", tracking.mask(["secret"]).exclude(["hidden"])).await;
}

async fn ask(db: &TestDb, query: AsOfQuery) -> TableState {
    db.audit.as_of(&query).await.unwrap()
}

on_every_database! {
    async fn both_ways_tell_the_same(db: &mut TestDb) {
        for storage in STORAGES {
            large(db, Tracking::new().storage(storage)).await;
            db.run("UPDATE doc SET rank = rank + 1 WHERE id <= 100").await;
            let then = db.moment().await;
            db.run("UPDATE doc SET rank = -1, hidden = 0 WHERE id BETWEEN 50 AND 150").await;
            db.run("UPDATE doc SET note = NULL, secret = 'x' WHERE id IN (3, 160)").await;
            db.run("DELETE FROM doc WHERE id IN (7, 170)").await;
            db.run("INSERT INTO doc (id, rank, note) VALUES (20001, 1, 'new'), (7, 1, 'again')").await;
            db.run("UPDATE doc SET id = 30000 WHERE id = 180").await;
            let asked = AsOfQuery::new("doc", then.clone());
            let from_records = ask(db, AsOfQuery { start: Start::Records, ..asked.clone() }).await;
            assert_eq!(from_records.rows.len(), ROWS);
            for start in [Start::LeastWork, Start::LiveRows] {
                assert!(ask(db, AsOfQuery { start, ..asked.clone() }).await == from_records, "{start:?}");
            }
            let filter = Some("rank = 4 OR id = 180".to_owned());
            let some = ask(db, AsOfQuery { filter: filter.clone(), start: Start::Records, ..asked.clone() }).await;
            assert!(some.rows.len() > 1000);
            assert!(ask(db, AsOfQuery { filter, ..asked.clone() }).await == some);
            assert_eq!(db.audit.count_as_of("doc", &then).await.unwrap(), i64::try_from(ROWS).unwrap());
            db.audit.untrack("doc", true).await.unwrap();
            db.run("DROP TABLE doc").await;
        }
    }
}

/// Takes the triggers away, writes, and puts them back just as they were.
async fn behind_our_back(db: &mut TestDb, write: &str) {
    if db.is_postgres() {
        db.run(&format!(
            "SET session_replication_role = replica; {write}; SET session_replication_role = DEFAULT"
        ))
        .await;
        return;
    }
    let triggers = db
        .lines("SELECT sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'doc' ORDER BY rowid")
        .await;
    let names = db.lines("SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'doc'").await;
    for name in names {
        db.run(&format!("DROP TRIGGER \"{name}\"")).await;
    }
    db.run(write).await;
    for trigger in triggers {
        db.run(&trigger).await;
    }
}

/// Where the live rows say something else than the records, it shows where an as-of began: as docs/limits.md says.
async fn begins_with_the_live_rows(mut db: TestDb, storage: Storage) {
    large(&mut db, Tracking::new().storage(storage)).await;
    let then = db.moment().await;
    db.run("UPDATE doc SET rank = -1 WHERE id = 1").await;
    behind_our_back(&mut db, "UPDATE doc SET rank = 1000").await;
    let shows = async |db: &TestDb, start| {
        let state = ask(db, AsOfQuery { start, ..AsOfQuery::new("doc", then.clone()) }).await;
        (state.rows[0][1].to_string(), state.rows[1][1].to_string())
    };
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(shows(&db, Start::LeastWork).await, pair("1", "1000"), "what is unwritten since is as it is");
    assert_eq!(shows(&db, Start::Records).await, pair("1", "2"));
    assert!(!db.audit.verify(&[]).await.unwrap()[0].is_whole(), "and verify tells");
    // As soon as anything tells that the two may differ, the records alone are read.
    db.run("ALTER TABLE doc ADD COLUMN more INTEGER").await;
    assert_eq!(shows(&db, Start::LeastWork).await, pair("1", "2"), "the table has changed");
    db.audit.migrate(&[], &[]).await.unwrap();
    assert_eq!(shows(&db, Start::LiveRows).await, pair("1", "2"), "its columns were others then");
}

#[tokio::test]
async fn it_begins_with_the_live_rows_postgres() {
    for storage in STORAGES {
        begins_with_the_live_rows(TestDb::postgres().await, storage).await;
    }
}

#[tokio::test]
async fn it_begins_with_the_live_rows_sqlite() {
    for storage in STORAGES {
        begins_with_the_live_rows(TestDb::sqlite().await, storage).await;
    }
}

#[tokio::test]
async fn who_may_not_read_the_table_is_answered_from_its_records() {
    let mut db = TestDb::postgres().await;
    large(&mut db, Tracking::new()).await;
    let then = db.moment().await;
    db.run("UPDATE doc SET rank = -1 WHERE id = 1").await;
    let role = format!("auditor_{}", std::process::id());
    db.run(&format!("DROP ROLE IF EXISTS {role}; CREATE ROLE {role} LOGIN; GRANT SELECT ON doc_history TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA afterimage TO {role}")).await;
    let url = db.url.replace("postgres@", &format!("{role}@"));
    let auditor = afterimage::Afterimage::connect(&url).await.unwrap();
    let state = auditor.as_of(&AsOfQuery::new("doc", then.clone())).await.unwrap();
    assert_eq!(state.rows.len(), ROWS);
    assert_eq!(auditor.count_as_of("doc", &then).await.unwrap(), 12_000);
    drop(auditor);
    db.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}
