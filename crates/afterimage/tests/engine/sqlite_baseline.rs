//! SQLite: the baseline of a table too large for one transaction, while others write.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use crate::sqlite_turns::{LONG, least_of_three, longest_wait};
use crate::support::*;
use afterimage::{State, Track, Tracking};

const ROWS: i64 = 12_000;

struct Shape {
    schema: &'static str,
    /// A row of number `i`.
    values: &'static str,
    key: &'static str,
}

const SHAPES: [Shape; 4] = [
    Shape {
        schema: "CREATE TABLE item (id INTEGER PRIMARY KEY, code TEXT UNIQUE, n INTEGER)",
        values: "i, 'c' || i, 0",
        key: "id",
    },
    Shape {
        schema: "CREATE TABLE item (a INTEGER, id TEXT, code TEXT UNIQUE, n INTEGER, PRIMARY KEY (a, id)) WITHOUT ROWID",
        values: "i % 7, CAST(CASE i % 3 WHEN 0 THEN x'ff' ELSE x'61' END || i AS TEXT), 'c' || i, 0",
        key: "a, id",
    },
    Shape {
        schema: "CREATE TABLE item (rowid TEXT PRIMARY KEY, code TEXT UNIQUE, n INTEGER)",
        values: "'k' || i, 'c' || i, 0",
        key: "\"rowid\"",
    },
    Shape {
        schema: "CREATE TABLE item (rowid TEXT, _rowid_ REAL, oid BLOB, code TEXT UNIQUE, n INTEGER, PRIMARY KEY (oid, rowid, _rowid_))",
        values: "'k' || i, i / 3.0, CAST(i AS BLOB), 'c' || i, 0",
        key: "\"oid\", \"rowid\", _rowid_",
    },
];

async fn filled(shape: &Shape) -> TestDb {
    let mut db = TestDb::sqlite().await;
    db.run(shape.schema).await;
    db.run(&format!(
        "WITH RECURSIVE g(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM g WHERE i < {ROWS}) INSERT INTO item SELECT {} FROM g",
        shape.values
    ))
    .await;
    db
}

async fn count(db: &mut TestDb, sql: &str) -> i64 {
    db.text(sql).await.unwrap().parse().unwrap()
}

/// The first record of every row is its creation, in number and in time; rows that were there have one baseline each.
async fn check(db: &mut TestDb, shape: &Shape) {
    assert_eq!(db.audit.status().await.unwrap()[0].state, State::Ok);
    let key = shape.key;
    let since = "(SELECT since FROM afterimage_tracked)";
    let doubled = format!(
        "SELECT count(*) FROM (SELECT 1 FROM item_history WHERE history_date = {since} AND history_type = '+' GROUP BY {key} HAVING count(*) > 1)"
    );
    assert_eq!(count(db, &doubled).await, 0);
    assert_eq!(
        count(
            db,
            &format!("SELECT count(*) FROM item_history WHERE history_date = {since} AND history_type = '+'")
        )
        .await,
        ROWS
    );
    let first = format!(
        "SELECT count(*) FROM (SELECT history_type AS type, row_number() OVER (PARTITION BY {key} ORDER BY history_id) AS n FROM item_history) WHERE n = 1 AND type <> '+'"
    );
    assert_eq!(count(db, &first).await, 0);
    db.verify().await;
    let then = afterimage::PointInTime::At(afterimage::Moment::from_micros(
        count(db, &format!("SELECT {since}")).await,
    ));
    assert_eq!(db.audit.count_as_of("item", &then).await.unwrap(), ROWS);
}

#[tokio::test(flavor = "multi_thread")]
async fn others_write_meanwhile_and_nobody_waits_long() {
    for shape in &SHAPES {
        let least = least_of_three(async || waited_for(shape).await).await;
        assert!(least < LONG, "a writer waited {least:?}: {}", shape.schema);
    }
}

/// How long a writer waited at most while the baseline of a table was written.
async fn waited_for(shape: &Shape) -> Duration {
    let mut db = filled(shape).await;
    let audit = db.audit.clone();
    let (begin, begun) = tokio::sync::oneshot::channel::<()>();
    let mut begin = Some(begin);
    let work = async move {
        let mut progress = |_| {
            if let Some(begin) = begin.take() {
                begin.send(()).unwrap();
            }
        };
        audit.track_with(Track::new("item", Tracking::new()), &mut progress).await.unwrap();
    };
    let values = shape.values;
    let write = move |i: i64| {
        // From the end, where the baseline has not been yet, and from the beginning.
        let at = if i % 2 == 0 { ROWS - i * 11 % ROWS } else { i * 7 % ROWS } + 1;
        let code = format!("'c{at}'");
        match i % 5 {
            0 => format!("UPDATE item SET n = n + 1 WHERE code = {code}"),
            1 => format!("DELETE FROM item WHERE code = {code}"),
            2 => {
                format!("INSERT OR REPLACE INTO item SELECT {values} FROM (SELECT {} AS i)", ROWS + i)
            }
            3 => {
                format!("UPDATE OR REPLACE item SET code = 'c{}' WHERE code = {code}", at % ROWS + 1)
            }
            _ => format!("INSERT OR REPLACE INTO item SELECT {values} FROM (SELECT {at} AS i)"),
        }
    };
    let (longest, _) = longest_wait(&db.url, begun, work, write).await;
    check(&mut db, shape).await;
    longest
}

#[tokio::test]
async fn a_baseline_that_was_killed_goes_on() {
    for shape in &SHAPES {
        let mut db = filled(shape).await;
        let mut killed = 0;
        for round in 0..40_u64 {
            // At any time, and right after a batch.
            let limit = Duration::from_millis(1 + round % 7 * 3);
            let batch = tokio::sync::Notify::new();
            let kill = async {
                match round % 3 {
                    0 => batch.notified().await,
                    _ => tokio::time::sleep(limit).await,
                }
            };
            let request = Track::new("item", Tracking::new());
            let mut written = |_| batch.notify_one();
            let done = tokio::select! {
                biased;
                () = kill => false,
                done = db.audit.track_with(request, &mut written) => done.is_ok(),
            };
            let stage = db.audit.status().await.unwrap();
            if stage.first().is_some_and(|status| status.state == State::Baseline) {
                killed += 1;
                assert!(
                    db.audit.as_of(&afterimage::AsOfQuery::new("item", now())).await.is_err(),
                    "not known yet"
                );
                db.run(&format!(
                    "UPDATE item SET n = n + 1 WHERE code = 'c{}'; DELETE FROM item WHERE code = 'c{}'",
                    ROWS - killed,
                    ROWS / 2 + killed
                ))
                .await;
            }
            if done {
                break;
            }
        }
        db.audit.track("item", Tracking::new()).await.unwrap();
        assert!(killed > 0, "it was never caught in the middle");
        check(&mut db, shape).await;
    }
}
