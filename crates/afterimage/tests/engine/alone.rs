//! Questions that one statement answers, in no transaction: they say what they say in one.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::{Duration, Instant};

use crate::support::*;
use afterimage::{Afterimage, Context, LogPage, LogQuery, Moment, PointInTime, Tracking, Version};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Executor as _};

/// A handle whose sessions begin so.
async fn with_sessions(db: &TestDb, settings: &'static str) -> Afterimage {
    let options = PgPoolOptions::new().max_connections(1).after_connect(move |connection, _| {
        Box::pin(async move { connection.execute(sqlx::raw_sql(AssertSqlSafe(settings))).await.map(drop) })
    });
    Afterimage::from_postgres(options.connect(&db.url).await.unwrap())
}

/// The versions of a row and the log of its table: read in a transaction the first time, and alone from then on.
async fn asked(audit: &Afterimage) -> (Vec<Version>, LogPage) {
    let log = LogQuery::parse("table:doc").unwrap().limit(50);
    (audit.history("doc", "1").await.unwrap(), audit.log(&log).await.unwrap())
}

#[tokio::test]
async fn values_look_the_same_whatever_a_session_is_set_to() {
    let mut db = TestDb::postgres().await;
    db.run(
        "CREATE TABLE doc (id INTEGER PRIMARY KEY, at timestamptz, day date, took interval, ratio double precision, bytes bytea, paid money);
         SET TimeZone = 'UTC'; SET lc_monetary = 'C'",
    )
    .await;
    for money in [true, false] {
        if !money {
            db.audit.untrack("doc", true).await.unwrap();
            db.run("DELETE FROM doc; ALTER TABLE doc DROP COLUMN paid").await;
        }
        db.track("doc", Tracking::new()).await;
        db.run(
            "INSERT INTO doc VALUES (1, '2026-11-30 12:00+01', '2026-11-30', '1 day 02:00', 0.1, '\\xff00')",
        )
        .await;
        db.run("UPDATE doc SET ratio = 0.30000000000000004, at = at + interval '1 hour'").await;
        let expected = asked(&db.audit).await;
        for settings in [
            "SELECT 1",
            "SET TimeZone = 'Asia/Kathmandu'",
            "SET DateStyle = 'German, DMY'",
            "SET IntervalStyle = 'iso_8601'",
            "SET extra_float_digits = 0",
            "SET bytea_output = 'escape'",
            "SET lc_monetary = 'C.UTF-8'",
            "SET standard_conforming_strings = off",
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            "SET search_path = pg_catalog",
        ] {
            let audit = with_sessions(&db, settings).await;
            let first = asked(&audit).await;
            if settings.contains("search_path") {
                // There the table has another name.
                assert_eq!(first.1.entries[0].table.to_string(), "public.doc");
            } else {
                assert_eq!(first, expected, "{settings}");
            }
            for _ in 0..2 {
                assert_eq!(asked(&audit).await, first, "{settings}");
            }
        }
    }
}

/// PostgreSQL keeps a plan for any time only where it looks no dearer than one for the time that is asked about.
#[tokio::test]
async fn a_row_as_of_a_time_is_not_planned_each_time() {
    let mut db = TestDb::postgres().await;
    for table in ["doc", "other"] {
        db.run(&format!("CREATE TABLE {table} (id INTEGER PRIMARY KEY, n INTEGER)")).await;
        db.track(table, Tracking::new()).await;
        db.run(&format!("INSERT INTO {table} SELECT n, n FROM generate_series(1, 2000) AS n")).await;
        for _ in 0..3 {
            db.run(&format!("UPDATE {table} SET n = n + 1")).await;
        }
    }
    db.run("VACUUM ANALYZE").await;
    let at = PointInTime::At(Moment::now());
    let pool = PgPoolOptions::new().max_connections(1).connect(&db.url).await.unwrap();
    let audit = Afterimage::from_postgres(pool.clone());
    for key in 1..20 {
        let key = key.to_string();
        assert_eq!(audit.show("doc", &key, &at).await.unwrap().number, 4);
    }
    // What asks is itself among them, as the last.
    let plans: (i64, i64) = sqlx::query_as(
        "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement LIKE '%AS transactions FROM%' ORDER BY prepare_time LIMIT 1",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert!(matches!(plans, (10.., ..=5)), "{plans:?}");
}

/// A policy hides records from whoever asks: that is an error, as it is in a transaction, and not half an answer.
#[tokio::test]
async fn what_a_policy_hides_is_not_left_out() {
    let mut db = TestDb::postgres().await;
    db.run("CREATE TABLE doc (id INTEGER PRIMARY KEY, n INTEGER)").await;
    db.track("doc", Tracking::new()).await;
    db.run("INSERT INTO doc VALUES (1, 1); UPDATE doc SET n = 2").await;
    let role = format!("reader_{}", std::process::id());
    db.run(&format!(
        "CREATE ROLE {role}; GRANT USAGE ON SCHEMA afterimage TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA afterimage TO {role}; GRANT SELECT ON doc, doc_history TO {role}"
    ))
    .await;
    let as_reader: &'static str = Box::leak(format!("SET ROLE {role}").into_boxed_str());
    let reader = with_sessions(&db, as_reader).await;
    let whole = asked(&reader).await;
    assert_eq!(whole, asked(&reader).await);
    assert_eq!(whole.0.len(), 2);
    db.run(&format!(
        "ALTER TABLE doc_history ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON doc_history FOR SELECT TO {role} USING (n < 2)"
    ))
    .await;
    for _ in 0..2 {
        let error = reader.history("doc", "1").await.unwrap_err();
        assert!(error.to_string().contains("row-level security"), "{error}");
    }
    db.run("ALTER TABLE doc_history DISABLE ROW LEVEL SECURITY").await;
    assert_eq!(asked(&reader).await, whole);
    // What a row was as of a time depends on what transactions wrote elsewhere.
    db.run("CREATE TABLE other (id INTEGER PRIMARY KEY, n INTEGER)").await;
    db.track("other", Tracking::new()).await;
    db.run(&format!("GRANT SELECT ON other, other_history TO {role}")).await;
    let later = PointInTime::At(Moment::from_micros(Moment::now().as_micros() + 5_000_000));
    for _ in 0..2 {
        assert_eq!(reader.show("doc", "1", &later).await.unwrap().number, 2);
    }
    db.run("ALTER TABLE other_history ENABLE ROW LEVEL SECURITY").await;
    for _ in 0..2 {
        let error = reader.show("doc", "1", &later).await.unwrap_err();
        assert!(error.to_string().contains("row-level security"), "{error}");
    }
    db.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

/// Whoever set a limit to what they wait does not wait twice.
#[tokio::test]
async fn nobody_waits_twice() {
    let mut db = TestDb::postgres().await;
    db.run("CREATE TABLE doc (id INTEGER PRIMARY KEY, n INTEGER)").await;
    db.track("doc", Tracking::new()).await;
    db.run("INSERT INTO doc VALUES (1, 1)").await;
    let audit = with_sessions(&db, "SET lock_timeout = '500ms'").await;
    assert_eq!(asked(&audit).await, asked(&audit).await);
    db.run("BEGIN; LOCK TABLE doc_history IN ACCESS EXCLUSIVE MODE").await;
    let begun = Instant::now();
    let error = audit.history("doc", "1").await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("55P03"), "{error}");
    assert!(begun.elapsed() < Duration::from_millis(950), "{:?}", begun.elapsed());
    db.run("ROLLBACK").await;
    assert_eq!(audit.history("doc", "1").await.unwrap().len(), 1);
}

on_every_database! {
    /// A question that nobody waits for any more leaves its connection to the next, of a pool that has no other.
    async fn a_question_that_is_dropped_is_forgotten(db: &mut TestDb) {
        db.run("CREATE TABLE doc (id INTEGER PRIMARY KEY, n INTEGER); INSERT INTO doc VALUES (1, 0)").await;
        db.track("doc", Tracking::new()).await;
        for n in 1..40 {
            db.run(&format!("UPDATE doc SET n = {n}")).await;
        }
        let expected = asked(&db.audit).await;
        for step in 0..20 {
            let short = Duration::from_micros(step * 50);
            let _ = tokio::time::timeout(short, db.audit.history("doc", "1")).await;
            let _ = tokio::time::timeout(short, asked(&db.audit)).await;
            assert_eq!(asked(&db.audit).await, expected);
        }
    }
}

on_every_database! {
    /// What another handle has changed shows in the first question that is asked from then on.
    async fn what_changed_meanwhile_shows(db: &mut TestDb) {
        db.run("CREATE TABLE doc (id INTEGER PRIMARY KEY, n INTEGER, secret VARCHAR(20))").await;
        db.track("doc", Tracking::new()).await;
        db.run("INSERT INTO doc VALUES (1, 1, 'before')").await;
        assert_eq!(asked(&db.audit).await, asked(&db.audit).await);
        let other = Afterimage::connect(&db.url).await.unwrap();
        other.track("doc", Tracking::new().mask(["secret"])).await.unwrap();
        db.run("UPDATE doc SET secret = 'after'").await;
        let (versions, page) = asked(&db.audit).await;
        // That it is masked from then on is a record of its own.
        assert_eq!((versions.len(), page.entries.len()), (3, 3));
        for told in [format!("{versions:?}"), format!("{page:?}")] {
            assert!(!told.contains("after"), "{told}");
        }
        db.run("ALTER TABLE doc ADD COLUMN note VARCHAR(20)").await;
        other.migrate(&[], &[]).await.unwrap();
        db.run("UPDATE doc SET note = 'new'").await;
        let (versions, page) = asked(&db.audit).await;
        assert!(format!("{:?}", versions[0]).contains("note") && format!("{:?}", page.entries[0]).contains("note"));
        // A row that nothing is recorded of, and one whose key was another's.
        assert!(db.audit.history("doc", "7").await.is_err());
        db.run("UPDATE doc SET id = 2; INSERT INTO doc VALUES (1, 5, NULL, NULL)").await;
        assert_eq!(db.audit.history("doc", "2").await.unwrap().len(), 5);
        assert_eq!(asked(&db.audit).await.1.entries.len(), 6);
        other.untrack("doc", true).await.unwrap();
        assert!(db.audit.history("doc", "1").await.unwrap_err().to_string().contains("not tracked"));
    }
}

on_every_database! {
    /// A row as of a time is what it was before a transaction that had not ended then, however long that took.
    async fn what_had_not_ended_is_no_part_of_a_row(db: &mut TestDb) {
        db.run("CREATE TABLE doc (id INTEGER PRIMARY KEY, n INTEGER); CREATE TABLE other (id INTEGER PRIMARY KEY, n INTEGER)").await;
        db.run("INSERT INTO doc VALUES (1, 0); INSERT INTO other VALUES (1, 0)").await;
        db.track("doc", Tracking::new()).await;
        db.track("other", Tracking::new().history("b")).await;
        let date = async |db: &TestDb, table: &str| db.audit.history(table, "1").await.unwrap()[0].header.date;
        let then = async |db: &TestDb, micros: i64| {
            let version = db.audit.show("doc", "1", &PointInTime::At(Moment::from_micros(micros))).await.unwrap();
            version.row[1].1.to_string()
        };
        for (round, pause) in [0, 10, 1_200].into_iter().enumerate() {
            let (before, after) = (round.to_string(), (round + 1).to_string());
            tokio::time::sleep(Duration::from_millis(2)).await;
            let mut tx = db.audit.begin(&Context::actor("ann")).await.unwrap();
            tx.execute(&format!("UPDATE doc SET n = {after}"), &[]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(pause)).await;
            tx.execute(&format!("UPDATE other SET n = {after}"), &[]).await.unwrap();
            tx.commit().await.unwrap();
            let (first, last) = (date(db, "doc").await.as_micros(), date(db, "other").await.as_micros());
            // Twice each: the first time that a handle is asked it does not know the catalogue.
            for _ in 0..2 {
                for at in [first, (first + last) / 2, last - 1] {
                    if at < last {
                        assert_eq!(db.as_of("doc", PointInTime::At(Moment::from_micros(at))).await[0]["n"].to_string(), before);
                        assert_eq!(then(db, at).await, before, "{pause}: {at} of {first} to {last}");
                    }
                }
                assert_eq!(then(db, last).await, after);
                assert_eq!(then(db, last + 3_000_000).await, after);
            }
        }
    }
}

/// Nor is one that it dated by hand, long before: the rest of it tells that it had not ended. The other databases have one time for
/// all of a transaction.
#[tokio::test]
async fn what_was_dated_by_hand_ends_with_its_transaction() {
    let db = &mut TestDb::postgres().await;
    db.run("CREATE TABLE doc (id INTEGER PRIMARY KEY, n INTEGER); CREATE TABLE other (id INTEGER PRIMARY KEY, n INTEGER)").await;
    db.track("doc", Tracking::new()).await;
    db.track("other", Tracking::new()).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let mut tx = db.audit.begin(&Context::actor("ann")).await.unwrap();
    let long_before = Moment::from_micros(Moment::now().as_micros() - 1_300_000);
    tx.enter(&Context::new().at(long_before)).await.unwrap();
    tx.execute("INSERT INTO doc VALUES (1, 0)", &[]).await.unwrap();
    tx.leave().await.unwrap();
    tx.execute("INSERT INTO other VALUES (1, 0)", &[]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    tx.execute("INSERT INTO other VALUES (2, 0)", &[]).await.unwrap();
    tx.commit().await.unwrap();
    let date = async |db: &TestDb, key: &str| db.audit.history("other", key).await.unwrap()[0].header.date;
    let (first, last) = (date(db, "1").await, date(db, "2").await);
    assert!(first < last);
    let rows = db.as_of("doc", PointInTime::At(first)).await;
    for _ in 0..2 {
        let shown = db.audit.show("doc", "1", &PointInTime::At(first)).await;
        assert_eq!(shown.is_ok(), !rows.is_empty(), "{shown:?} {rows:?}");
        assert!(db.audit.show("doc", "1", &PointInTime::At(last)).await.is_ok());
    }
}
