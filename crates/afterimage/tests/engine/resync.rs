//! What went unrecorded, on purpose or not: skipping with its right, gaps, and `resync`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support::*;
use afterimage::{AsOfQuery, Context, Database, LogQuery, PointInTime, Resync, Revert, Selector, Tracking};

/// Writes under a context that leaves it unrecorded.
async fn skipping(db: &mut TestDb, sql: &str) -> Result<(), String> {
    let set = db.by(
        "INSERT INTO afterimage_context (actor, skip) VALUES ('importer', 1)",
        r#"SELECT set_config('afterimage.context', '{"actor":"importer","skip":true}', true)"#,
    );
    let clear = db.by("DELETE FROM afterimage_context;", "");
    let done = db.try_run(&format!("BEGIN; {set}; {sql}; {clear} COMMIT")).await;
    if done.is_err() {
        db.try_run("ROLLBACK").await.ok();
    }
    done
}

async fn doc(db: &mut TestDb) {
    db.run("CREATE TABLE doc (id INTEGER PRIMARY KEY, rating INTEGER)").await;
}

on_every_database! {
    async fn skipping_leaves_no_record_and_a_gap_until_a_resync(db: &mut TestDb) {
        doc(db).await;
        for storage in STORAGES {
            db.track("doc", Tracking::new().storage(storage)).await;
            db.audit.allow_skip(true).await.unwrap();
            db.run("INSERT INTO doc VALUES (1, 3)").await;
            let known = db.moment().await;
            skipping(db, "UPDATE doc SET rating = 4; INSERT INTO doc VALUES (2, 2); DELETE FROM doc WHERE id = 2").await.unwrap();
            let unknown = db.moment().await;
            db.run("UPDATE doc SET rating = 6").await;
            let versions = db.versions("doc", "1").await;
            assert_eq!(versions.iter().map(|v| v.row[1].1.to_string()).collect::<Vec<_>>(), ["3", "6"]);
            assert_eq!(db.as_of("doc", known.clone()).await.len(), 1);
            for at in [unknown.clone(), PointInTime::Now] {
                let said = message(db.audit.as_of(&AsOfQuery::new("doc", at)).await);
                assert!(said.contains("gap") && said.contains("writes were skipped"), "{said}");
            }
            let gaps = db.audit.log(&LogQuery::default()).await.unwrap().gaps;
            assert_eq!((gaps.len(), gaps[0].1.recorded_by.as_deref()), (1, Some("importer")));
            let refused = message(db.audit.revert(&Revert::new("doc", "1", Selector::Number(1)), &Context::new()).await);
            assert!(refused.contains("resync it first"), "{refused}");
            assert!(db.audit.doctor().await.unwrap().iter().any(|found| found.finding.contains("writes were skipped")));
            let done = db.audit.resync(&Resync::new("doc"), &actor("9")).await.unwrap();
            assert_eq!((done.records, done.gaps), (0, 1));
            assert_eq!(db.as_of("doc", PointInTime::Now).await.len(), 1);
            assert!(message(db.audit.as_of(&AsOfQuery::new("doc", unknown)).await).contains("gap"));
            db.verify().await;
            db.audit.untrack("doc", true).await.unwrap();
            db.run("DELETE FROM doc").await;
        }
    }
}

on_every_database! {
    async fn skipping_needs_a_right(db: &mut TestDb) {
        doc(db).await;
        db.track("doc", Tracking::new()).await;
        if !db.is_postgres() {
            let refused = skipping(db, "INSERT INTO doc VALUES (1, 3)").await.unwrap_err();
            assert!(refused.contains("skip needs the setting skip"), "{refused}");
        } else {
            let role = format!("plain_{}", std::process::id());
            db.run(&format!("CREATE ROLE {role}; GRANT INSERT ON doc TO {role}; SET ROLE {role}")).await;
            let refused = skipping(db, "INSERT INTO doc VALUES (1, 3)").await.unwrap_err();
            assert!(refused.contains("skip needs EXECUTE on afterimage.skip()"), "{refused}");
            assert!(db.try_run("SELECT afterimage.skips('true', 1, now(), 'x')").await.is_err());
            db.run(&format!("RESET ROLE; GRANT EXECUTE ON FUNCTION afterimage.skip() TO {role}; SET ROLE {role}")).await;
            skipping(db, "INSERT INTO doc VALUES (1, 3)").await.unwrap();
            db.run(&format!("RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}")).await;
        }
        let everybody = db.by(
            "UPDATE afterimage_setting SET value = 'allowed' WHERE name = 'skip'",
            "GRANT EXECUTE ON FUNCTION afterimage.skip() TO PUBLIC",
        );
        db.run(everybody).await;
        assert!(db.audit.doctor().await.unwrap().iter().any(|found| found.finding.contains("write without records")));
        let nonsense = db.by(
            r#"INSERT INTO afterimage_context (extra) VALUES ('{"skip":true}')"#,
            r#"SELECT set_config('afterimage.context', '{"skip":"yes"}', true); INSERT INTO doc VALUES (7, 3)"#,
        );
        assert!(db.try_run(&format!("BEGIN; {nonsense}; COMMIT")).await.is_err());
        db.try_run("ROLLBACK").await.ok();
    }
}

on_every_database! {
    async fn a_skipped_write_that_fails_leaves_the_next_one_recorded(db: &mut TestDb) {
        doc(db).await;
        db.track("doc", Tracking::new()).await;
        db.audit.allow_skip(true).await.unwrap();
        db.run("INSERT INTO doc VALUES (1, 3)").await;
        assert!(skipping(db, "INSERT INTO doc VALUES (1, 4)").await.is_err());
        db.run("UPDATE doc SET rating = 5").await;
        assert_eq!(db.signs("doc", "1").await, "+~");
        assert_eq!(db.audit.log(&LogQuery::default()).await.unwrap().gaps, []);
        // By the library, with the context among others; a statement that writes nothing skips nothing.
        let mut tx = db.audit.begin(&actor("1").skip()).await.unwrap();
        tx.execute("UPDATE doc SET rating = 6 WHERE id = 99", &[]).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(db.audit.log(&LogQuery::default()).await.unwrap().gaps, []);
        let mut tx = db.audit.begin(&actor("1").skip()).await.unwrap();
        tx.execute("UPDATE doc SET rating = 6", &[]).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(db.signs("doc", "1").await, "+~");
        assert_eq!(db.audit.log(&LogQuery::default()).await.unwrap().gaps.len(), 1);
    }
}

on_every_database! {
    async fn a_resync_records_what_is_there_and_says_that_it_was_only_observed(db: &mut TestDb) {
        for storage in STORAGES {
            doc(db).await;
            db.track("doc", Tracking::new().storage(storage)).await;
            db.run("INSERT INTO doc VALUES (1, 1), (2, 2), (3, 3), (4, 4)").await;
            let before = db.moment().await;
            // By somebody who goes around the triggers.
            let around = "UPDATE doc SET rating = 9 WHERE id = 1; DELETE FROM doc WHERE id = 2; INSERT INTO doc VALUES (5, 5)";
            if db.is_sqlite() {
                let triggers = db.lines("SELECT sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'doc'").await;
                let names = db.lines("SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'doc'").await;
                for name in names {
                    db.run(&format!("DROP TRIGGER {name}")).await;
                }
                db.run(around).await;
                for trigger in triggers {
                    db.run(&trigger).await;
                }
            } else if db.is_mariadb() {
                let triggers = db.lines("SELECT 'CREATE TRIGGER ' || trigger_name || ' ' || action_timing || ' ' || event_manipulation || ' ON doc FOR EACH ROW ' || action_statement FROM information_schema.triggers WHERE event_object_schema = DATABASE() AND event_object_table = 'doc'").await;
                for name in db.lines("SELECT trigger_name FROM information_schema.triggers WHERE event_object_schema = DATABASE() AND event_object_table = 'doc'").await {
                    db.run(&format!("DROP TRIGGER {name}")).await;
                }
                db.run(around).await;
                for trigger in triggers {
                    db.run(&trigger).await;
                }
            } else {
                db.run(&format!("SET session_replication_role = replica; {around}; RESET session_replication_role")).await;
            }
            let differing = db.moment().await;
            assert_eq!(db.audit.verify(&[]).await.unwrap()[0].difference_count, 3);
            let done = db.audit.resync(&Resync::new("doc"), &actor("9").reason("found by verify")).await.unwrap();
            assert_eq!((done.records, done.gaps), (3, 3));
            db.verify().await;
            // Nobody knows how long row 5 had been there.
            assert!(message(db.audit.as_of(&AsOfQuery::new("doc", before.clone())).await).contains("gap"));
            assert_eq!(db.audit.show("doc", "4", &before).await.unwrap().row[1].1.to_string(), "4");
            assert_eq!(db.as_of("doc", PointInTime::Now).await.len(), 4);
            assert!(message(db.audit.as_of(&AsOfQuery::new("doc", differing.clone())).await).contains("gap"));
            // Of a row that nobody touched, all is known.
            assert_eq!(db.audit.show("doc", "3", &differing).await.unwrap().row[1].1.to_string(), "3");
            assert!(message(db.audit.show("doc", "1", &differing).await).contains("gap"));
            let observed = db.versions("doc", "1").await.pop().unwrap();
            assert_eq!(observed.header.context_member("observed").as_deref(), Some("true"));
            assert_eq!(observed.header.reason.as_deref(), Some("found by verify"));
            let again = db.audit.resync(&Resync::new("doc"), &actor("9")).await.unwrap();
            assert_eq!((again.records, again.gaps), (0, 0));
            db.audit.untrack("doc", true).await.unwrap();
            db.run("DROP TABLE doc").await;
        }
    }
}

on_every_database! {
    // Whatever the key: what is compared with what is looked up by an index.
    async fn what_went_unrecorded_is_found_and_resync_is_not_slow(db: &mut TestDb) {
        const ROWS: u32 = 8_000;
        for (kind, cast) in [("INTEGER", "i"), ("VARCHAR(60)", db.by3("'k' || i", "'k' || i", "CONCAT('k', i)"))] {
            db.run(&format!("CREATE TABLE doc (id {kind} PRIMARY KEY, rating INTEGER)")).await;
            let rows = |from: u32, to: u32, rating: u32| match db.audit.database() {
                Database::Postgres => format!("INSERT INTO doc SELECT {cast}, {rating} FROM generate_series({from}, {to}) AS i"),
                Database::MariaDb => format!("INSERT INTO doc SELECT {cast}, {rating} FROM (SELECT seq + {from} - 1 AS i FROM seq_1_to_{}) AS g", to - from + 1),
                _ => format!("INSERT INTO doc WITH RECURSIVE g(i) AS (SELECT {from} UNION ALL SELECT i + 1 FROM g WHERE i < {to}) SELECT {cast}, {rating} FROM g"),
            };
            let (first, more) = (rows(1, ROWS, 0), rows(ROWS + 1, 2 * ROWS, 0));
            db.run(&first).await;
            db.track("doc", Tracking::new()).await;
            db.audit.allow_skip(true).await.unwrap();
            let clock = std::time::Instant::now();
            db.verify().await;
            let whole = clock.elapsed();
            skipping(db, &format!("DELETE FROM doc WHERE rating = 0; {first}; UPDATE doc SET rating = 2; {more}")).await.unwrap();
            let clock = std::time::Instant::now();
            assert!(!db.audit.verify(&[]).await.unwrap()[0].is_whole());
            let broken = clock.elapsed();
            let clock = std::time::Instant::now();
            let done = db.audit.resync(&Resync::new("doc"), &actor("9")).await.unwrap();
            let mended = clock.elapsed();
            assert_eq!(done.records, u64::from(2 * ROWS));
            db.verify().await;
            // Linear in the rows, they are within a few times of looking at a whole table; quadratic, thousands.
            assert!(broken < whole * 40, "{kind}: verify took {broken:?}, of a whole table {whole:?}");
            assert!(mended < whole * 60, "{kind}: resync took {mended:?}, verify of a whole table {whole:?}");
            db.audit.untrack("doc", true).await.unwrap();
            db.run("DROP TABLE doc").await;
        }
    }
}

on_every_database! {
    async fn verify_tells_which_table_is_next(db: &mut TestDb) {
        for table in ["one", "two"] {
            db.run(&format!("CREATE TABLE {table} (id INTEGER PRIMARY KEY)")).await;
            db.track(table, Tracking::new()).await;
        }
        let mut told = Vec::new();
        let verdicts = db
            .audit
            .verify_with(&[], |next| told.push(format!("{} {} of {}", next.table, next.number, next.of)))
            .await
            .unwrap();
        assert_eq!(told, ["one 1 of 2", "two 2 of 2"]);
        assert!(verdicts.iter().all(afterimage::Verdict::is_whole));
    }
}
