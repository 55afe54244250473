//! PostgreSQL: histories in partitions by time.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::retention::{aged, count, days_ago, keeper, many, moment_ago, prune};
use crate::support::*;
use afterimage::{
    AsOfQuery, ErrorKind, Hold, LogQuery, Moment, Partition, Partitioned, Period, Prune, Retention, Storage,
    Tracking,
};

async fn partition(db: &TestDb, request: Partition) -> Partitioned {
    db.audit.partition(&request).await.unwrap().remove(0)
}

fn of_item() -> Partition {
    Partition::new().tables(["item"])
}

async fn parts(db: &mut TestDb) -> Vec<String> {
    db.lines("SELECT c.relname::text FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid WHERE i.inhparent = 'item_history'::regclass ORDER BY 1").await
}

#[tokio::test]
async fn a_history_goes_on_in_partitions_as_if_nothing_had_happened() {
    for storage in STORAGES {
        let mut db = TestDb::postgres().await;
        aged(&mut db, Tracking::new().storage(storage)).await;
        let ask = async |db: &TestDb| {
            let log = db.audit.log(&LogQuery::parse("").unwrap()).await.unwrap();
            let then = [db.as_of("item", days_ago(350)).await, db.as_of("item", days_ago(1)).await];
            (log, then, db.versions("item", "1").await)
        };
        let before = ask(&db).await;
        let done = partition(&db, of_item()).await;
        assert!(done.begun);
        assert_eq!((done.by, done.made.len()), (Period::Month, done.partitions - 1));
        assert_eq!(parts(&mut db).await.len(), done.partitions);
        assert_eq!(ask(&db).await, before);
        let again = partition(&db, Partition::new()).await;
        assert!(!again.begun && again.made.is_empty(), "{again:?}");
        // What is written goes on, by a writer that had its plans ready.
        db.run("UPDATE item SET n = 5 WHERE id = 1; DELETE FROM item WHERE id = 2").await;
        assert_eq!(db.signs("item", "1").await, "+~~~~~");
        db.verify().await;
        // Records are kept as they are, in each of them too.
        for part in parts(&mut db).await.iter().map(String::as_str).chain(["item_history"]) {
            for change in ["UPDATE {} SET history_user = 'me'", "DELETE FROM {}", "TRUNCATE {}"] {
                let refused = db.try_run(&change.replace("{}", part)).await.unwrap_err();
                assert!(refused.contains("cannot be changed or deleted"), "{refused}");
            }
        }
        // Its columns change, and whoever tracks it again leaves the partitions.
        db.run("ALTER TABLE item ADD COLUMN more text DEFAULT 'm'; ALTER TABLE item ALTER COLUMN note TYPE varchar(40)").await;
        db.audit.migrate(&[], &[]).await.unwrap();
        db.run("UPDATE item SET more = 'x'").await;
        db.track("item", Tracking::new().storage(storage).label("note")).await;
        assert!(db.audit.tracked_table("item").await.unwrap().tracking.partitions.is_some());
        db.run("UPDATE item SET more = 'y'").await;
        db.verify().await;
        assert_eq!(db.audit.doctor().await.unwrap(), []);
        db.audit.untrack("item", true).await.unwrap();
        assert_eq!(
            db.text("SELECT count(*) FROM pg_class WHERE relname LIKE 'item\\_history%'").await.unwrap(),
            "0"
        );
    }
}

#[tokio::test]
async fn what_no_partition_was_made_for_finds_its_place_later() {
    let mut db = TestDb::postgres().await;
    aged(&mut db, Tracking::new()).await;
    partition(&db, of_item().by(Period::Day).ahead(0)).await;
    // Time goes on, and nobody makes partitions: those that there are end fifty days ago.
    db.cut_up("item", &[moment_ago(50)]).await;
    for part in parts(&mut db)
        .await
        .iter()
        .filter(|part| !["item_part_0", "item_history_rest"].contains(&part.as_str()))
    {
        db.run(&format!("DROP TABLE {part}")).await;
    }
    db.run("UPDATE item SET n = 50 WHERE id = 1").await;
    let rest = "SELECT count(*) FROM item_history_rest";
    assert_eq!(db.text(rest).await.unwrap(), "1");
    let warned = db.audit.doctor().await.unwrap();
    assert!(
        warned[0].finding.contains("no partition was made for") && warned[0].mend.contains("partition"),
        "{warned:?}"
    );
    let second = partition(&db, Partition::new()).await;
    assert_eq!((second.made.len(), second.by), (1, Period::Day), "{second:?}");
    assert_eq!(db.text(rest).await.unwrap(), "0");
    db.run("UPDATE item SET n = 51 WHERE id = 1").await;
    assert_eq!(db.text(rest).await.unwrap(), "0");
    db.verify().await;
    assert_eq!(db.signs("item", "1").await, "+~~~~~~");
    assert_eq!(db.audit.doctor().await.unwrap(), []);
    // More of them, of another length: what is there stays.
    let third = partition(&db, of_item().by(Period::Year).ahead(2)).await;
    assert!(third.made.len() >= 2, "{third:?}");
    assert_eq!(third.until.unwrap(), {
        let mut until = Period::Year.begin(Moment::now()).unwrap();
        for _ in 0..3 {
            until = Period::Year.after(until).unwrap();
        }
        until
    });
}

#[tokio::test]
async fn what_would_stay_behind_is_named() {
    let mut db = TestDb::postgres().await;
    aged(&mut db, Tracking::new()).await;
    db.run("CREATE VIEW seen AS SELECT * FROM item_history; CREATE INDEX mine ON item_history (note)").await;
    let refused = db.audit.partition(&of_item()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    let said = refused.to_string();
    assert!(said.contains("the view seen") && said.contains("the index mine"), "{said}");
    db.run("DROP VIEW seen; DROP INDEX mine").await;
    let role = format!("r_{}", db.text("current_database()").await.unwrap());
    db.run(&format!("CREATE ROLE {role}; GRANT SELECT ON item_history TO {role}; ALTER TABLE item_history OWNER TO {role}; GRANT CREATE ON SCHEMA public TO {role}")).await;
    partition(&db, of_item()).await;
    let mut auditor = db.another().await;
    run_on(&mut auditor, &format!("SET ROLE {role}; SELECT * FROM item_history")).await.unwrap();
    assert_eq!(
        db.text("SELECT string_agg(DISTINCT relowner::regrole::text, ',') FROM pg_class WHERE relname LIKE 'item\\_history%' AND relkind IN ('r', 'p')").await.unwrap(),
        role
    );
    db.run("UPDATE item SET n = 9").await;
    db.verify().await;
    // Nobody else may what nobody else could.
    let other = format!("{role}_other");
    db.run(&format!("CREATE ROLE {other}; ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {other}")).await;
    partition(&db, of_item().ahead(6)).await;
    let may = format!(
        "SELECT count(*) FROM pg_class WHERE relname LIKE 'item\\_history%' AND relkind IN ('r', 'p') AND has_table_privilege('{other}', oid, 'SELECT')"
    );
    assert_eq!(db.text(&may).await.unwrap(), "0");
    db.run(&format!("DROP OWNED BY {other} CASCADE")).await;
    db.run(&format!("DROP ROLE {other}")).await;
    db.run(&format!("DROP OWNED BY {role} CASCADE")).await;
    db.run(&format!("DROP ROLE {role}")).await;
}

#[tokio::test]
async fn elsewhere_there_are_none() {
    for mut db in [TestDb::sqlite().await, TestDb::mariadb().await] {
        aged(&mut db, Tracking::new()).await;
        let said = message(db.audit.partition(&of_item()).await);
        assert!(said.contains("on PostgreSQL only"), "{said}");
    }
}

#[tokio::test]
async fn whole_partitions_go_and_what_was_current_stays() {
    for storage in STORAGES {
        let mut db = TestDb::postgres().await;
        aged(&mut db, Tracking::new().storage(storage).keep(Retention::days(150))).await;
        db.cut_up("item", &[450, 350, 250, 120, 50].map(moment_ago)).await;
        let count_before = parts(&mut db).await.len();
        db.verify().await;
        let before = [249, 190, 149, 99, 0].map(days_ago);
        let ask = async |db: &TestDb| {
            let mut states = Vec::new();
            for at in &before {
                states.push(db.as_of("item", at.clone()).await);
            }
            states
        };
        let there = ask(&db).await;
        // Up to 250 days ago: the partition in which 150 days ago lies is not cut through.
        let would = prune(&db, Prune::new().dry_run(true)).await;
        assert_eq!((would.records, count(&mut db).await.as_str()), (3, "8"));
        let done = prune(&db, Prune::new()).await;
        assert_eq!((done.records, done.until, count(&mut db).await.as_str()), (3, would.until, "5"));
        assert_eq!(ask(&db).await, there);
        assert_eq!(parts(&mut db).await.len(), count_before - 2, "three became one");
        db.verify().await;
        assert_eq!(db.signs("item", "1").await, "~~~");
        assert_eq!(db.signs("item", "3").await, "-");
        let said = message(db.audit.as_of(&AsOfQuery::new("item", days_ago(251))).await);
        assert!(said.contains("were pruned, keeping 150 days"), "{said}");
        assert_eq!(prune(&db, Prune::new()).await.records, 0);
        let refused = db.try_run("DELETE FROM item_history").await.unwrap_err();
        assert!(refused.contains("cannot be changed or deleted"), "{refused}");
        // Exactly: what is left of before 150 days ago goes one by one.
        let exact = prune(&db, Prune::new().exact(true)).await;
        assert_eq!((exact.records, count(&mut db).await.as_str()), (1, "4"));
        for (at, state) in before.iter().zip(&there).skip(2) {
            assert_eq!(db.as_of("item", at.clone()).await, *state);
        }
        db.verify().await;
        // What is written meanwhile goes on; a later cut takes what an earlier one left.
        db.run("UPDATE item SET n = n + 1, note = 'z'").await;
        let later = prune(&db, Prune::new().tables(["item"]).keep(Retention::days(30))).await;
        assert_eq!(later.records, 1);
        assert_eq!(db.signs("item", "1").await, "~~");
        assert_eq!(db.as_of("item", before[4].clone()).await, there[4]);
        db.verify().await;
        let removals = db.audit.removals().await.unwrap();
        let gone: Vec<u64> = removals.iter().map(|removal| removal.records).collect();
        assert_eq!(gone, [3, 1, 1]);
    }
}

#[tokio::test]
async fn what_is_held_or_unfinished_stays_where_partitions_go() {
    for storage in STORAGES {
        let mut db = TestDb::postgres().await;
        aged(&mut db, Tracking::new().storage(storage)).await;
        db.cut_up("item", &[350, 250, 150].map(moment_ago)).await;
        db.audit.hold("item", Some("1"), &keeper()).await.unwrap();
        let request = Prune::new().tables(["item"]).keep(Retention::days(140));
        let done = prune(&db, request.clone()).await;
        assert_eq!((done.records, done.rows_held), (1, 1), "only item 3 had something to lose");
        assert_eq!(db.signs("item", "1").await, "+~~~~");
        db.verify().await;
        let Hold { id, .. } = db.audit.holds().await.unwrap().remove(0).1;
        db.audit.lift_hold(id, &keeper()).await.unwrap();
        assert_eq!(prune(&db, request).await.records, 3);
        assert_eq!(db.signs("item", "1").await, "~~");
        db.verify().await;
        db.audit.hold("item", None, &keeper()).await.unwrap();
        let kept = prune(&db, Prune::new().tables(["item"]).keep(Retention::days(1))).await;
        assert!(kept.kept_by.is_some());
    }
    // A transaction that had not ended at the cut: what was current before it stays too.
    let mut db = TestDb::postgres().await;
    db.run("CREATE TABLE item (id INTEGER PRIMARY KEY, n INTEGER, note TEXT); INSERT INTO item VALUES (1, 0), (2, 0)").await;
    db.track("item", Tracking::new().storage(Storage::Delta)).await;
    db.run("UPDATE item SET n = 1").await;
    db.run("BEGIN; UPDATE item SET n = 2 WHERE id = 1; SELECT pg_sleep(0.01)").await;
    let afterimage::PointInTime::At(cut) = db.moment().await else { unreachable!() };
    db.run("SELECT pg_sleep(0.01); UPDATE item SET n = 2 WHERE id = 2; COMMIT").await;
    let there = db.as_of("item", afterimage::PointInTime::At(cut)).await;
    assert_eq!(there[0]["n"], 1);
    db.cut_up("item", &[cut]).await;
    let done = prune(&db, Prune::new().tables(["item"]).keep(Retention::until(cut))).await;
    assert_eq!(done.records, 2);
    assert_eq!(db.as_of("item", afterimage::PointInTime::At(cut)).await, there);
    db.verify().await;
}

#[tokio::test]
async fn a_run_that_is_killed_leaves_everything_and_the_next_goes_on() {
    for storage in STORAGES {
        let mut db = TestDb::postgres().await;
        let (cut, request) = many(&mut db, Tracking::new().storage(storage)).await;
        let afterimage::PointInTime::At(moment) = cut else { unreachable!() };
        db.cut_up("item", &[moment]).await;
        let there = db.as_of("item", cut.clone()).await;
        let mut killed = 0;
        for wait in [1, 3, 5, 8, 12, 16, 20, 25, 30, 40] {
            let (audit, asked) = (db.audit.clone(), request.clone());
            let run = tokio::spawn(async move { audit.prune(&asked, &keeper()).await });
            tokio::time::sleep(Duration::from_millis(wait)).await;
            killed += usize::from(!run.is_finished());
            run.abort();
            let _ = run.await;
            assert_eq!(db.as_of("item", cut.clone()).await, there);
            db.verify().await;
        }
        assert!(killed > 0);
        prune(&db, request).await;
        assert_eq!(count(&mut db).await, "900");
        assert_eq!(db.as_of("item", cut).await, there);
        db.verify().await;
        assert_eq!(
            db.text("SELECT count(*) FROM pg_class WHERE relname = 'item_history_staying'").await.unwrap(),
            "0"
        );
        let gone: u64 = db.audit.removals().await.unwrap().iter().map(|one| one.records).sum();
        assert_eq!(gone, 1800);
    }
}

/// Who began to read before sees what was there; partitions go when the last of these has finished.
#[tokio::test]
async fn whoever_reads_meanwhile_sees_all_that_was_there() {
    let mut db = TestDb::postgres().await;
    let (cut, request) = many(&mut db, Tracking::new()).await;
    let afterimage::PointInTime::At(moment) = cut else { unreachable!() };
    db.cut_up("item", &[moment]).await;
    let mut reader = db.another().await;
    run_on(&mut reader, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM item LIMIT 1").await.unwrap();
    let (audit, asked) = (db.audit.clone(), request.clone());
    let run = tokio::spawn(async move { audit.prune(&asked, &keeper()).await });
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(!run.is_finished());
    let all: i64 =
        sqlx::query_scalar("SELECT count(*) FROM item_history").fetch_one(&mut reader).await.unwrap();
    assert_eq!(all, 2700);
    run_on(&mut reader, "COMMIT").await.unwrap();
    assert_eq!(run.await.unwrap().unwrap()[0].records, 1800);
    assert_eq!(count(&mut db).await, "900");
}

/// While it goes, what is to go takes no more records; nothing is lost that was written before or after.
#[tokio::test]
async fn what_is_to_go_takes_no_records_meanwhile() {
    let mut db = TestDb::postgres().await;
    let (cut, request) = many(&mut db, Tracking::new()).await;
    let afterimage::PointInTime::At(moment) = cut else { unreachable!() };
    db.cut_up("item", &[moment]).await;
    db.audit.allow_explicit_time(true).await.unwrap();
    let write = async |db: &TestDb| {
        let then = Moment::from_micros(moment.as_micros() - 1);
        let mut tx = db.audit.begin(&afterimage::Context::actor("ann").at(then)).await.unwrap();
        tx.execute("INSERT INTO item VALUES (1000, 7, 'late')", &[]).await?;
        tx.commit().await
    };
    let mut reader = db.another().await;
    run_on(&mut reader, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM item LIMIT 1").await.unwrap();
    let (audit, asked) = (db.audit.clone(), request.clone());
    let run = tokio::spawn(async move { audit.prune(&asked, &keeper()).await });
    tokio::time::sleep(Duration::from_millis(400)).await;
    let refused = write(&db).await.unwrap_err().to_string();
    assert!(refused.contains("afterimage_fence"), "{refused}");
    let warned = db.audit.doctor().await.unwrap();
    assert!(warned[0].finding.starts_with("a run of prune was interrupted, or is going on"), "{warned:?}");
    // What will be gone is told no more, and another run waits for none.
    let said = message(
        db.audit
            .as_of(&AsOfQuery::new(
                "item",
                afterimage::PointInTime::At(Moment::from_micros(moment.as_micros() - 5)),
            ))
            .await,
    );
    assert!(said.contains("about to be pruned"), "{said}");
    let other = db.audit.prune(&request, &keeper()).await.unwrap_err();
    assert_eq!(other.kind(), ErrorKind::Busy);
    db.run("UPDATE item SET n = 3 WHERE id = 7").await;
    run_on(&mut reader, "COMMIT").await.unwrap();
    assert_eq!(run.await.unwrap().unwrap()[0].records, 1800);
    write(&db).await.unwrap();
    assert_eq!(count(&mut db).await, "902");
    db.verify().await;
    assert_eq!(db.audit.doctor().await.unwrap(), []);
}

/// Whatever keeps it from what it began, all is as it was.
#[tokio::test]
async fn a_run_that_gives_up_leaves_everything() {
    let mut db = TestDb::postgres().await;
    let (cut, request) = many(&mut db, Tracking::new()).await;
    let afterimage::PointInTime::At(moment) = cut else { unreachable!() };
    db.cut_up("item", &[moment]).await;
    let early = afterimage::PointInTime::At(Moment::from_micros(moment.as_micros() - 5));
    let there = db.as_of("item", early.clone()).await;
    // A table of somebody's that has the name.
    db.run("CREATE TABLE item_history_staying AS SELECT 'precious' AS what").await;
    let refused = db.audit.prune(&request, &keeper()).await.unwrap_err();
    assert!(refused.to_string().contains("item_history_staying"), "{refused}");
    assert_eq!(db.text("SELECT what FROM item_history_staying").await.unwrap(), "precious");
    db.run("DROP TABLE item_history_staying").await;
    // A hold that is placed as it goes.
    let mut reader = db.another().await;
    run_on(&mut reader, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM item LIMIT 1").await.unwrap();
    let (audit, asked) = (db.audit.clone(), request.clone());
    let run = tokio::spawn(async move { audit.prune(&asked, &keeper()).await });
    tokio::time::sleep(Duration::from_millis(400)).await;
    let hold = db.audit.hold("item", Some("3"), &keeper()).await.unwrap();
    run_on(&mut reader, "COMMIT").await.unwrap();
    assert_eq!(run.await.unwrap().unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(db.as_of("item", early).await, there);
    assert_eq!((db.audit.doctor().await.unwrap(), db.audit.removals().await.unwrap()), (vec![], vec![]));
    assert_eq!(
        db.text("SELECT count(*) FROM pg_class WHERE relname = 'item_history_staying'").await.unwrap(),
        "0"
    );
    db.audit.lift_hold(hold, &keeper()).await.unwrap();
    assert_eq!(prune(&db, request).await.records, 1800);
    db.verify().await;
}

/// A transaction that writes elsewhere for long keeps nobody from it: whoever reads sees what was committed before.
#[tokio::test]
async fn who_writes_elsewhere_is_not_waited_for() {
    let mut db = TestDb::postgres().await;
    let (cut, request) = many(&mut db, Tracking::new()).await;
    let afterimage::PointInTime::At(moment) = cut else { unreachable!() };
    db.cut_up("item", &[moment]).await;
    let mut elsewhere = TestDb::postgres().await;
    elsewhere.run("BEGIN; SELECT pg_current_xact_id()").await;
    db.run("ALTER TABLE item ADD COLUMN e boolean").await;
    db.audit.migrate(&[], &[]).await.unwrap();
    let writer = Writing::begin(&db, 900).await;
    assert_eq!(prune(&db, request).await.records, 1800);
    writer.end().await;
    elsewhere.run("COMMIT").await;
}

/// Somebody who updates single rows of `item` without a pause.
struct Writing {
    stop: Arc<AtomicBool>,
    longest: tokio::task::JoinHandle<Duration>,
}

impl Writing {
    async fn begin(db: &TestDb, rows: u64) -> Self {
        let mut connection = db.another().await;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let longest = tokio::spawn(async move {
            let (mut longest, mut i) = (Duration::ZERO, 1_u64);
            while !stopped.load(Ordering::Relaxed) {
                i = (i * 48_271) % 2_147_483_647;
                let update = format!("UPDATE item SET e = NOT e WHERE id = {}", i % rows + 1);
                let begun = Instant::now();
                run_on(&mut connection, &update).await.unwrap();
                longest = longest.max(begun.elapsed());
            }
            longest
        });
        tokio::time::sleep(Duration::from_millis(30)).await;
        Self { stop, longest }
    }

    /// How long the longest of its statements took.
    async fn end(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        self.longest.await.unwrap()
    }
}

/// Rows whose records go with their partition: as many as fit a test. `AFTERIMAGE_PARTS_ROWS=50000` is the long run, of half a
/// million records, which prints what it took.
#[tokio::test(flavor = "multi_thread")]
async fn records_go_with_their_partition_and_nobody_waits_long() {
    let asked = std::env::var("AFTERIMAGE_PARTS_ROWS").ok().and_then(|rows| rows.parse::<u64>().ok());
    let rows = asked.unwrap_or(3_000);
    for storage in STORAGES {
        let mut db = TestDb::postgres().await;
        db.run(&format!(
            "CREATE TABLE item (id INTEGER PRIMARY KEY, n INTEGER, a TEXT, b TEXT, c NUMERIC(10,2), d TIMESTAMPTZ, e BOOLEAN);
             INSERT INTO item SELECT i, 0, 'some words ' || i, 'more', i, now(), true FROM generate_series(1, {rows}) AS i"
        ))
        .await;
        db.track("item", Tracking::new().storage(storage)).await;
        for n in 1..=10 {
            db.run(&format!("UPDATE item SET n = {n}, c = c + 1")).await;
        }
        db.run("ANALYZE item_history").await;
        let writer = Writing::begin(&db, rows).await;
        let begun = Instant::now();
        partition(&db, of_item()).await;
        let put = begun.elapsed();
        let waited_then = writer.end().await;
        let afterimage::PointInTime::At(cut) = db.moment().await else { unreachable!() };
        db.cut_up("item", &[cut]).await;
        db.run("VACUUM ANALYZE item_history, item").await;
        let there = db.as_of("item", afterimage::PointInTime::At(cut)).await;
        let writer = Writing::begin(&db, rows).await;
        let begun = Instant::now();
        let done = prune(&db, Prune::new().tables(["item"]).keep(Retention::until(cut))).await;
        let pruned = begun.elapsed();
        let waited = writer.end().await;
        assert!(done.records >= rows * 10);
        println!(
            "{storage}: put into partitions in {put:?}, a writer waited {waited_then:?}; {} records pruned in {pruned:?}, a writer waited {waited:?}",
            done.records
        );
        assert_eq!(db.as_of("item", afterimage::PointInTime::At(cut)).await, there);
        db.verify().await;
        for waited in [waited_then, waited] {
            assert!(waited < Duration::from_millis(200), "a writer waited {waited:?}");
        }
    }
}
