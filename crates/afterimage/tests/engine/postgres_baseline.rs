//! PostgreSQL: the baseline of a table that others write, killed runs, locks that cannot be had, rights that are
//! missing.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::*;
use afterimage::{Afterimage, State, Storage, Track, Tracking};

const ROWS: i64 = 60_000;

/// Tables large enough that their baseline is not written under the lock: plain, partitioned, captured row by row.
const SHAPES: [&str; 3] = [
    "CREATE TABLE item (id int PRIMARY KEY, n int, t text)",
    "CREATE TABLE item (id int PRIMARY KEY, n int, t text) PARTITION BY RANGE (id); CREATE TABLE low PARTITION OF item FOR VALUES FROM (MINVALUE) TO (30000); CREATE TABLE high PARTITION OF item DEFAULT",
    "CREATE TABLE item (id int PRIMARY KEY, n int, t text); CREATE TABLE heir () INHERITS (item)",
];

async fn filled(shape: &str) -> TestDb {
    let mut db = TestDb::postgres().await;
    db.run(shape).await;
    db.run(&format!(
        "INSERT INTO item SELECT i, 0, repeat('text ', 20) FROM generate_series(1, {ROWS}) AS i; ANALYZE"
    ))
    .await;
    db
}

/// No row missed, none twice: whatever happened meanwhile, each row's life begins with a creation, once.
async fn check(db: &mut TestDb) {
    db.verify().await;
    let begins = "SELECT count(*) FROM (SELECT DISTINCT ON (id) history_type FROM item_history ORDER BY id, history_date, history_id) AS f WHERE history_type <> '+'";
    assert_eq!(db.text(begins).await.unwrap(), "0");
    assert_eq!(
        db.text("SELECT count(*) FROM item_history WHERE history_type = '+' AND history_user IS NULL AND id <= 60000 AND history_date = (SELECT since FROM afterimage.tracked)").await.unwrap(),
        ROWS.to_string()
    );
    let since = db
        .text("SELECT (extract(epoch FROM since) * 1000000)::bigint FROM afterimage.tracked")
        .await
        .unwrap();
    let since = afterimage::PointInTime::At(afterimage::Moment::from_micros(since.parse().unwrap()));
    assert_eq!(db.audit.count_as_of("item", &since).await.unwrap(), ROWS);
}

#[tokio::test(flavor = "multi_thread")]
async fn others_write_meanwhile_and_nobody_waits_long() {
    for shape in SHAPES {
        for storage in [Storage::Snapshot, Storage::Delta] {
            let db = filled(shape).await;
            let stop = Arc::new(AtomicBool::new(false));
            let mut writers = Vec::new();
            for seed in 1..=2_i64 {
                let mut writer = db.another().await;
                let stop = stop.clone();
                writers.push(tokio::spawn(async move {
                    let (mut longest, mut i) = (Duration::ZERO, seed);
                    while !stop.load(Ordering::Relaxed) {
                        i = (i * 48_271) % 2_147_483_647;
                        let key = i % ROWS + 1;
                        let sql = match i % 7 {
                            0 => format!("DELETE FROM item WHERE id = {key}"),
                            1 => format!("INSERT INTO item VALUES ({key}, 1, 'again') ON CONFLICT (id) DO UPDATE SET n = item.n + 1"),
                            2 => format!("INSERT INTO item VALUES ({}, 1, 'new') ON CONFLICT DO NOTHING", ROWS + key),
                            3 => format!("BEGIN; UPDATE item SET n = 5 WHERE id = {key}; ROLLBACK"),
                            4 => format!("UPDATE item SET n = n + 1 WHERE id BETWEEN {key} AND {key} + 20"),
                            _ => format!("UPDATE item SET n = n + 1 WHERE id = {key}"),
                        };
                        let begun = Instant::now();
                        // Two writers may run into each other: a deadlock is theirs, not ours.
                        if run_on(&mut writer, &sql).await.is_err() {
                            run_on(&mut writer, "ROLLBACK").await.unwrap();
                        }
                        longest = longest.max(begun.elapsed());
                        tokio::time::sleep(Duration::from_micros(500)).await;
                    }
                    longest
                }));
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
            let mut steps = 0;
            let request = Track::new("item", Tracking::new().storage(storage));
            let since_rows = db.audit.track_with(request, &mut |_| steps += 1).await.unwrap();
            assert!(steps > 1 && since_rows.baseline > 0);
            tokio::time::sleep(Duration::from_millis(50)).await;
            stop.store(true, Ordering::Relaxed);
            let mut longest = Duration::ZERO;
            for writer in writers {
                longest = longest.max(writer.await.unwrap());
            }
            db.verify().await;
            assert!(longest < Duration::from_millis(200), "a writer waited {longest:?}: {shape}");
        }
    }
}

#[tokio::test]
async fn a_baseline_that_was_killed_goes_on() {
    for shape in SHAPES {
        let mut db = filled(shape).await;
        let mut killed = 0;
        for round in 0..30_u64 {
            let limit = Duration::from_millis(20 + round * 11);
            let request = Track::new("item", Tracking::new());
            let done = tokio::time::timeout(limit, db.audit.track_with(request, &mut |_| {})).await;
            if db.audit.status().await.unwrap().first().is_some_and(|status| status.state == State::Baseline)
            {
                killed += 1;
                assert!(
                    db.audit.as_of(&afterimage::AsOfQuery::new("item", now())).await.is_err(),
                    "not known yet"
                );
            }
            if matches!(done, Ok(Ok(_))) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(killed > 0, "it was never caught in the middle: {shape}");
        check(&mut db).await;
        assert_eq!(
            db.text("SELECT count(*) FROM item_history").await.unwrap(),
            ROWS.to_string(),
            "none twice"
        );
    }
}

/// What changed between a killed run and the next has lost its first state: a gap says so.
#[tokio::test]
async fn what_changed_while_nobody_wrote_the_baseline_is_a_gap() {
    for storage in [Storage::Snapshot, Storage::Delta] {
        interrupted(&Tracking::new().storage(storage)).await;
    }
}

async fn interrupted(tracking: &Tracking) {
    let mut db = filled(SHAPES[0]).await;
    let mut limit = 10;
    while db.audit.status().await.unwrap().first().is_none_or(|status| status.state != State::Baseline) {
        db.audit.untrack("item", true).await.ok();
        let request = Track::new("item", tracking.clone());
        tokio::time::timeout(Duration::from_millis(limit), db.audit.track_with(request, &mut |_| {}))
            .await
            .ok();
        limit += 7;
        assert!(limit < 5_000, "it was never caught in the middle");
    }
    // The server notices a moment later that nobody is there any more.
    let held = "SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database WHERE d.datname = current_database() AND l.locktype = 'advisory'";
    while db.text(held).await.unwrap() != "0" {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    db.run(&format!("UPDATE item SET n = 1 WHERE id >= {ROWS} - 2; DELETE FROM item WHERE id IN ({ROWS} - 1, {ROWS} - 3); INSERT INTO item VALUES ({ROWS} + 1, 0, '')")).await;
    db.audit.track("item", tracking.clone()).await.unwrap();
    let verdict = db.audit.verify(&[]).await.unwrap().remove(0);
    assert_eq!(verdict.gaps.len(), 1, "{verdict:?}");
    assert!(verdict.gaps[0].cause.contains("4 rows changed before they were in it"), "{:?}", verdict.gaps);
    assert!(verdict.faults.is_empty() && verdict.differences.is_empty(), "{:?}", verdict.differences);
    assert_eq!(db.audit.count_as_of("item", &now()).await.unwrap(), ROWS - 1);
    assert_eq!(db.signs("item", &(ROWS - 1).to_string()).await, "+~-");
    let first = db.versions("item", &ROWS.to_string()).await.remove(0);
    assert_eq!(
        first.header.reason.as_deref(),
        Some("its first state is not known: the baseline was interrupted")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_one_run_writes_a_baseline() {
    let mut db = filled(SHAPES[0]).await;
    let other = Afterimage::connect(&db.url).await.unwrap();
    let (begin, begun) = tokio::sync::oneshot::channel::<()>();
    let mut begin = Some(begin);
    let second = tokio::spawn(async move {
        begun.await.unwrap();
        other.track("item", Tracking::new()).await
    });
    let mut progress = |_| {
        if let Some(begin) = begin.take() {
            begin.send(()).unwrap();
            // Blocking on purpose: the second run has to find the first in the middle.
            std::thread::sleep(Duration::from_millis(400));
        }
    };
    db.audit.track_with(Track::new("item", Tracking::new()), &mut progress).await.unwrap();
    assert_eq!(
        second.await.unwrap().unwrap().baseline,
        0,
        "the second waits for the first, and finds it done"
    );
    check(&mut db).await;
}

/// The lock is asked for in short turns, so that writers who come meanwhile are not kept waiting behind it.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_taken_keeps_nobody_waiting() {
    let mut db = TestDb::postgres().await;
    db.run("CREATE TABLE item (id int PRIMARY KEY, n int); INSERT INTO item VALUES (1, 0), (2, 0)").await;
    let mut holder = db.another().await;
    run_on(&mut holder, "BEGIN; UPDATE item SET n = 1 WHERE id = 1").await.unwrap();
    let audit = db.audit.clone();
    let tracking = tokio::spawn(async move { audit.track("item", Tracking::new()).await });
    let mut longest = Duration::ZERO;
    for _ in 0..20 {
        let begun = Instant::now();
        db.run("UPDATE item SET n = n + 1 WHERE id = 2").await;
        longest = longest.max(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    assert!(!tracking.is_finished());
    run_on(&mut holder, "COMMIT").await.unwrap();
    tracking.await.unwrap().unwrap();
    assert!(longest < Duration::from_millis(200), "a writer waited {longest:?}");
    db.run("UPDATE item SET n = 0").await;
    assert_eq!(db.signs("item", "1").await, "+~");
    db.verify().await;
}

#[tokio::test]
async fn without_the_rights_nothing_is_half_installed() {
    let mut db = TestDb::postgres().await;
    let name = db.text("current_database()").await.unwrap();
    let role = format!("weak_{name}");
    db.run(&format!("CREATE TABLE item (id int PRIMARY KEY); CREATE ROLE {role} LOGIN PASSWORD 'hunter2'; GRANT ALL ON item TO {role}")).await;
    let url = db.url.replace("postgres@", &format!("{role}:hunter2@"));
    let weak = Afterimage::connect(&url).await.unwrap();
    let said = message(weak.track("item", Tracking::new()).await);
    assert!(said.contains("permission denied") && !said.contains("hunter2"), "{said}");
    assert_eq!(db.text("SELECT count(*) FROM pg_class WHERE relname LIKE '%history%' AND relnamespace = 'public'::regnamespace").await.unwrap(), "0");
    assert_eq!(db.text("SELECT count(*) FROM pg_namespace WHERE nspname = 'afterimage'").await.unwrap(), "0");
    // With the catalogue there, and a right to create things, the table is still not its own.
    db.run(&format!("CREATE TABLE mine (id int PRIMARY KEY); GRANT CREATE ON DATABASE {name} TO {role}; GRANT CREATE ON SCHEMA public TO {role}")).await;
    db.track("mine", Tracking::new()).await;
    let said = message(weak.track("item", Tracking::new()).await);
    assert!(said.contains("permission denied"), "{said}");
    assert_eq!(db.text("SELECT count(*) FROM pg_class WHERE relname = 'item_history'").await.unwrap(), "0");
    drop(weak);
    let wrong = Afterimage::connect(&db.url.replace("postgres@", &format!("{role}:wr0ng@"))).await;
    if let Err(error) = wrong {
        assert!(!error.to_string().contains("wr0ng") && !format!("{error:?}").contains("wr0ng"), "{error:?}");
    }
    let nowhere = Afterimage::connect("postgres://ann:s3cret@127.0.0.1:1/nowhere").await.unwrap_err();
    assert!(
        !nowhere.to_string().contains("s3cret") && nowhere.to_string().contains("127.0.0.1"),
        "{nowhere}"
    );
    db.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}
