//! How long records are kept: pruning, holds, and what is said of what is gone.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use crate::support::*;
use afterimage::{
    AsOfQuery, Context, ErrorKind, LogQuery, Moment, PointInTime, Prune, Pruned, Retention, Revert,
    RevertTransaction, Selector, Track, Tracking, Value,
};

const DAY: i64 = 86_400_000_000;

pub(crate) fn keeper() -> Context {
    Context::actor("keeper").reason("as declared")
}

pub(crate) fn days_ago(days: i64) -> PointInTime {
    PointInTime::At(moment_ago(days))
}

pub(crate) fn moment_ago(days: i64) -> Moment {
    Moment::from_micros(Moment::now().as_micros() - days * DAY)
}

async fn at_days_ago(db: &TestDb, days: i64, sql: &[&str]) {
    let mut tx = db.audit.begin(&Context::actor("ann").at(moment_ago(days))).await.unwrap();
    for sql in sql {
        tx.execute(sql, &[]).await.unwrap();
    }
    tx.commit().await.unwrap();
}

/// Item 1 with a version every hundred days, the oldest 500 days old; items 2 and 3 as old, never changed and deleted.
pub(crate) async fn aged(db: &mut TestDb, tracking: Tracking) {
    db.run("CREATE TABLE item (id INTEGER PRIMARY KEY, n INTEGER, note TEXT)").await;
    db.run("INSERT INTO item VALUES (1, 0, 'a'), (2, 0, 'b'), (3, 0, NULL)").await;
    db.audit.allow_explicit_time(true).await.unwrap();
    let first = Track::new("item", tracking).context(Context::new().at(moment_ago(500)));
    db.audit.track_with(first, &mut |_| {}).await.unwrap();
    at_days_ago(db, 400, &["UPDATE item SET n = 1 WHERE id = 1", "DELETE FROM item WHERE id = 3"]).await;
    at_days_ago(db, 300, &["UPDATE item SET n = 2 WHERE id = 1"]).await;
    at_days_ago(db, 200, &["UPDATE item SET n = 3 WHERE id = 1"]).await;
    at_days_ago(db, 100, &["UPDATE item SET n = 4 WHERE id = 1"]).await;
}

/// What was there until a moment ago, once what was just written is older.
async fn until_just_now() -> Retention {
    tokio::time::sleep(Duration::from_millis(20)).await;
    Retention::until(Moment::from_micros(Moment::now().as_micros() - 10_000))
}

pub(crate) async fn count(db: &mut TestDb) -> String {
    db.text("SELECT count(*) FROM item_history").await.unwrap()
}

pub(crate) async fn prune(db: &TestDb, request: Prune) -> Pruned {
    db.audit.prune(&request, &keeper()).await.unwrap().remove(0)
}

fn numbers(versions: &[afterimage::Version]) -> Vec<String> {
    versions.iter().map(|version| version.row[1].1.to_string()).collect()
}

on_every_database! {
    async fn what_is_older_goes_but_what_was_current_at_the_cut_and_the_last_record_stay(db: &mut TestDb) {
        for storage in STORAGES {
            aged(db, Tracking::new().storage(storage).keep(Retention::days(250))).await;
            let before = [db.as_of("item", days_ago(249)).await, db.as_of("item", days_ago(150)).await];
            assert_eq!(count(db).await, "8");
            let would = prune(db, Prune::new().dry_run(true)).await;
            assert_eq!((would.records, count(db).await.as_str()), (3, "8"));
            let done = prune(db, Prune::new()).await;
            assert_eq!((done.records, count(db).await.as_str()), (3, "5"));
            // T14: a row that never changed keeps its only record; so does one that is deleted.
            assert_eq!(db.signs("item", "1").await, "~~~");
            assert_eq!(db.signs("item", "2").await, "+");
            assert_eq!(db.signs("item", "3").await, "-");
            assert_eq!(numbers(&db.versions("item", "1").await), ["2", "3", "4"]);
            db.verify().await;
            assert_eq!([db.as_of("item", days_ago(249)).await, db.as_of("item", days_ago(150)).await], before);
            let said = message(db.audit.as_of(&AsOfQuery::new("item", days_ago(251))).await);
            assert!(said.contains("were pruned, keeping 250 days") && said.contains("not known any more"), "{said}");
            assert_eq!(prune(db, Prune::new()).await.records, 0);
            db.audit.untrack("item", true).await.unwrap();
            db.run("DROP TABLE item").await;
        }
    }
}

on_every_database! {
    async fn of_a_row_whose_records_are_left_earlier_times_are_still_told(db: &mut TestDb) {
        aged(db, Tracking::new()).await;
        prune(db, Prune::new().tables(["item"]).keep(Retention::days(250))).await;
        let show = async |key: &str, days| db.audit.show("item", key, &days_ago(days)).await;
        // The record of 300 days ago is there, and so is all that came after it.
        assert_eq!(show("1", 299).await.unwrap().row[1].1.to_string(), "2");
        assert_eq!(show("2", 450).await.unwrap().row[1].1.to_string(), "0");
        let gone = show("1", 350).await.unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::Unknowable);
        assert!(gone.to_string().contains("pruned"), "{gone}");
        let gone = message(show("9", 350).await);
        assert!(gone.contains("pruned"), "{gone}");
        let at = |days| Selector::At(days_ago(days));
        assert_eq!(db.audit.version("item", "1", &at(299)).await.unwrap().number, 1);
        assert!(message(db.audit.version("item", "1", &at(350)).await).contains("pruned"));
    }
}

on_every_database! {
    async fn what_a_field_was_before_the_first_record_that_is_left_is_not_said_to_be_null(db: &mut TestDb) {
        for storage in STORAGES {
            aged(db, Tracking::new().storage(storage)).await;
            prune(db, Prune::new().tables(["item"]).keep(Retention::days(250))).await;
            let first = db.versions("item", "1").await.remove(0);
            assert_eq!((first.changes[0].field.as_str(), &first.changes[0].old), ("n", &Value::Unknown));
            assert_eq!(first.changes[0].new.to_string(), "2");
            let log = db.audit.log(&LogQuery::parse("table:item key:1").unwrap()).await.unwrap();
            let told: Vec<String> = log
                .entries
                .iter()
                .map(|entry| format!("{} -> {}", entry.changes[0].old, entry.changes[0].new))
                .collect();
            assert_eq!(told, ["3 -> 4", "2 -> 3", "? -> 2"]);
            assert!(serde_json::to_string(&log.entries[2]).unwrap().contains(r#""n":[{"$unknown":true},2]"#));
            assert_eq!(log.gaps.len(), 1);
            assert!(log.gaps[0].1.cause.contains("pruned, keeping 250 days"), "{:?}", log.gaps);
            assert_eq!(log.gaps[0].1.recorded_by.as_deref(), Some("keeper"));
            for was in ["was:null", "was:1", "was:?"] {
                let found = db.audit.log(&LogQuery::parse(&format!("table:item key:1 {was}")).unwrap()).await.unwrap();
                assert_eq!(found.entries.len(), 0, "{was}");
            }
            db.audit.untrack("item", true).await.unwrap();
            db.run("DROP TABLE item").await;
        }
    }
}

on_every_database! {
    async fn what_was_pruned_is_not_what_is_written_back(db: &mut TestDb) {
        for storage in STORAGES {
            aged(db, Tracking::new().storage(storage)).await;
            let tx = |versions: &[afterimage::Version], n: usize| versions[n].header.tx.clone().unwrap();
            let versions = db.versions("item", "1").await;
            let deletion = db.versions("item", "3").await.pop().unwrap().header.tx.unwrap();
            let (kept, whole) = (tx(&versions, 2), tx(&versions, 4));
            prune(db, Prune::new().tables(["item"]).keep(Retention::days(250))).await;
            for gone in [&kept, &deletion] {
                let refused = db.audit.revert_transaction(&RevertTransaction::new(gone), &actor("9")).await.unwrap_err();
                assert_eq!(refused.kind(), ErrorKind::Unknowable, "{refused}");
                assert!(refused.to_string().contains("pruned"), "{refused}");
            }
            db.audit.revert_transaction(&RevertTransaction::new(&whole), &actor("9")).await.unwrap();
            assert_eq!(db.text("SELECT n FROM item WHERE id = 1").await.unwrap(), "3");
            db.audit.revert(&Revert::new("item", "1", Selector::Number(1)), &actor("9")).await.unwrap();
            assert_eq!(db.text("SELECT n FROM item WHERE id = 1").await.unwrap(), "2");
            db.audit.restore(&afterimage::Restore::new("item", "3"), &actor("9")).await.unwrap();
            assert_eq!(db.text("SELECT n FROM item WHERE id = 3").await.unwrap(), "0");
            db.verify().await;
            db.audit.untrack("item", true).await.unwrap();
            db.run("DROP TABLE item").await;
        }
    }
}

on_every_database! {
    async fn so_many_versions_of_each_row_are_kept(db: &mut TestDb) {
        for storage in STORAGES {
            aged(db, Tracking::new().storage(storage).keep(Retention::versions(2))).await;
            let done = prune(db, Prune::new()).await;
            assert_eq!((done.records, numbers(&db.versions("item", "1").await)), (3, vec!["3".to_owned(), "4".to_owned()]));
            db.verify().await;
            // As of the oldest version that is left on, everything is told.
            assert_eq!(db.as_of("item", days_ago(199)).await.len(), 2);
            assert!(message(db.audit.as_of(&AsOfQuery::new("item", days_ago(201))).await).contains("keeping last 2 versions"));
            assert_eq!(db.audit.show("item", "2", &days_ago(450)).await.unwrap().number, 1);
            db.run("UPDATE item SET n = 9").await;
            assert_eq!(prune(db, Prune::new()).await.records, 1);
            // What any rule keeps is kept.
            let both = Retention::versions(1).and(Retention::days(150));
            assert_eq!(prune(db, Prune::new().tables(["item"]).keep(both)).await.records, 1);
            let signs = [db.signs("item", "1").await, db.signs("item", "2").await, db.signs("item", "3").await];
            assert_eq!(signs, ["~~", "+~", "-"]);
            db.audit.untrack("item", true).await.unwrap();
            db.run("DROP TABLE item").await;
        }
    }
}

on_every_database! {
    async fn an_application_that_registers_its_tables_again_leaves_what_an_operator_said(db: &mut TestDb) {
        aged(db, Tracking::new()).await;
        db.audit.set_retention("item", Some(Retention::days(250))).await.unwrap();
        for tracking in [Tracking::new(), Tracking::new().label("note"), Tracking::new().storage(afterimage::Storage::Delta)] {
            db.track("item", tracking).await;
            assert_eq!(db.audit.tracking("item").await.unwrap().unwrap().retention, Some(Retention::days(250)));
        }
        db.track("item", Tracking::new().keep(Retention::versions(2))).await;
        assert_eq!(prune(db, Prune::new().dry_run(true)).await.keep, Retention::versions(2));
        db.audit.set_retention("item", None).await.unwrap();
        db.track("item", Tracking::new()).await;
        assert_eq!(db.audit.prune(&Prune::new(), &keeper()).await.unwrap(), []);
        db.verify().await;
    }
}

on_every_database! {
    async fn a_hold_keeps_what_a_retention_does_not(db: &mut TestDb) {
        aged(db, Tracking::new().keep(Retention::days(50))).await;
        let why = Context::actor("counsel").reason("case 7");
        assert!(message(db.audit.hold("item", None, &Context::actor("x")).await).contains("reason"));
        let table = db.audit.hold("item", None, &why).await.unwrap();
        let held = prune(db, Prune::new()).await;
        assert_eq!((held.records, held.kept_by.as_deref()), (0, Some("it is under a hold: case 7")));
        let row = db.audit.hold("item", Some("1"), &why).await.unwrap();
        db.audit.lift_hold(table, &Context::actor("judge")).await.unwrap();
        assert!(message(db.audit.lift_hold(table, &Context::actor("judge")).await).contains("no hold"));
        let would = prune(db, Prune::new().dry_run(true)).await;
        let done = prune(db, Prune::new()).await;
        // Of item 3, the creation; of item 1, nothing.
        assert_eq!((would.records, done.records, done.rows_held), (1, 1, 1));
        assert_eq!(db.signs("item", "1").await, "+~~~~");
        db.audit.lift_hold(row, &Context::actor("judge")).await.unwrap();
        assert_eq!(prune(db, Prune::new()).await.records, 4);
        let holds = db.audit.holds().await.unwrap();
        let said: Vec<_> = holds
            .iter()
            .map(|(_, hold)| (hold.placed_by.as_deref(), hold.lifted_by.as_deref(), hold.lifted.is_some()))
            .collect();
        assert_eq!(said, vec![(Some("counsel"), Some("judge"), true); 2]);
        let until: Retention = "until 2999-01-01, 1 day".parse().unwrap();
        let kept = prune(db, Prune::new().tables(["item"]).keep(until)).await;
        assert_eq!((kept.records, kept.kept_by.as_deref()), (0, Some("it is kept 1 day, until 2999-01-01")));
    }
}

on_every_database! {
    async fn what_went_is_written_down_and_the_rest_is_guarded(db: &mut TestDb) {
        aged(db, Tracking::new()).await;
        let nothing = db.audit.prune(&Prune::new().tables(["item"]), &keeper()).await.unwrap_err();
        assert!(nothing.to_string().contains("nothing says how long"), "{nothing}");
        assert_eq!(db.audit.prune(&Prune::new(), &keeper()).await.unwrap(), []);
        db.audit.set_retention("item", Some(Retention::days(250))).await.unwrap();
        assert_eq!(db.audit.tracking("item").await.unwrap().unwrap().retention, Some(Retention::days(250)));
        prune(db, Prune::new()).await;
        let removals = db.audit.removals().await.unwrap();
        let one = &removals[0];
        assert_eq!((one.what.as_str(), one.records, one.rule.as_deref()), ("prune", 3, Some("250 days")));
        assert_eq!((one.recorded_by.as_deref(), one.reason.as_deref()), (Some("keeper"), Some("as declared")));
        assert!(one.until.unwrap() > moment_ago(251) && one.began <= one.ended);
        for tampering in ["DELETE FROM item_history", "UPDATE item_history SET n = 7"] {
            assert!(db.try_run(tampering).await.is_err(), "{tampering}");
        }
        // Where somebody opens a removal, it is for their transaction only.
        let opened = db.by3(
            "UPDATE afterimage_removal SET open_in = 1",
            "UPDATE afterimage.removal SET open_in = pg_current_xact_id()::text::bigint",
            "UPDATE afterimage_removal SET open_in = CONNECTION_ID()",
        );
        if db.is_sqlite() {
            db.run("PRAGMA foreign_keys = 1").await;
            assert!(db.try_run(opened).await.is_err());
        } else if db.is_postgres() {
            db.run(opened).await;
            assert!(db.try_run("DELETE FROM item_history").await.is_err());
        }
        assert_eq!(count(db).await, "5");
        db.audit.untrack("item", true).await.unwrap();
        let removals = db.audit.removals().await.unwrap();
        let last = removals.last().unwrap();
        assert_eq!((last.what.as_str(), last.table.ends_with("item"), last.records), ("untrack", true, 5));
    }
}

/// Nine hundred rows, changed twice; their history is to go up to now.
pub(crate) async fn many(db: &mut TestDb, tracking: Tracking) -> (PointInTime, Prune) {
    db.run("CREATE TABLE item (id INTEGER PRIMARY KEY, n INTEGER, note TEXT)").await;
    let series = db.by3(
        "WITH RECURSIVE s (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 900) SELECT i, 0, 'x' FROM s",
        "SELECT i, 0, 'x' FROM generate_series(1, 900) AS i",
        "SELECT seq, 0, 'x' FROM seq_1_to_900",
    );
    db.run(&format!("INSERT INTO item {series}")).await;
    db.track("item", tracking).await;
    db.run("UPDATE item SET n = 1").await;
    db.tick().await;
    db.run("UPDATE item SET note = 'y'").await;
    let cut = db.moment().await;
    let PointInTime::At(moment) = cut else { unreachable!() };
    (cut, Prune::new().tables(["item"]).keep(Retention::until(moment)))
}

on_every_database! {
    async fn a_run_that_is_killed_at_any_point_loses_nothing_and_the_next_goes_on(db: &mut TestDb) {
        for storage in STORAGES {
            let (cut, request) = many(db, Tracking::new().storage(storage)).await;
            let there = db.as_of("item", cut.clone()).await;
            let mut killed = 0;
            // On a slow machine too, some come as far as a batch that is not the first.
            for wait in [1, 4, 9, 16, 25, 36, 81, 144, 225, 324] {
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
            // One whose process dies between two batches.
            let (audit, asked) = (db.audit.clone(), request.clone());
            let run = tokio::spawn(async move {
                audit.prune_with(&asked, &keeper(), &mut |_| panic!("killed")).await
            });
            let _ = run.await;
            assert_eq!(db.as_of("item", cut.clone()).await, there);
            prune(db, request.clone()).await;
            assert_eq!(count(db).await, "900");
            assert_eq!(db.as_of("item", cut).await, there);
            db.verify().await;
            let gone: u64 = db.audit.removals().await.unwrap().iter().filter(|one| one.what == "prune").map(|one| one.records).sum();
            assert_eq!(gone % 1800, 0);
            db.audit.untrack("item", true).await.unwrap();
            db.run("DROP TABLE item").await;
        }
    }
}

on_every_database! {
    async fn two_at_once_remove_what_one_would_and_writers_go_on(db: &mut TestDb) {
        let (cut, request) = many(db, Tracking::new().storage(afterimage::Storage::Delta)).await;
        let there = db.as_of("item", cut.clone()).await;
        let runs: Vec<_> = (0..2)
            .map(|_| {
                let (audit, asked) = (db.audit.clone(), request.clone());
                tokio::spawn(async move { audit.prune(&asked, &keeper()).await })
            })
            .collect();
        for n in 2..12 {
            let mut tx = db.audit.begin(&actor("7")).await.unwrap();
            tx.execute(&format!("UPDATE item SET n = {n} WHERE id = {n}"), &[]).await.unwrap();
            tx.commit().await.unwrap();
        }
        let mut gone = 0;
        for run in runs {
            gone += run.await.unwrap().unwrap()[0].records;
        }
        assert_eq!(gone, 1800);
        assert_eq!(count(db).await, "910");
        assert_eq!(db.as_of("item", cut).await, there);
        db.verify().await;
    }
}

on_every_database! {
    async fn contexts_go_with_the_last_of_their_records(db: &mut TestDb) {
        if db.is_postgres() {
            return;
        }
        aged(db, Tracking::new()).await;
        let contexts = "SELECT count(*) FROM afterimage_scope WHERE actor = 'ann'";
        assert_eq!(db.text(contexts).await.unwrap(), "4");
        prune(db, Prune::new().tables(["item"]).keep(Retention::days(150))).await;
        // Of 400 days ago the deletion is left, of 300 nothing.
        assert_eq!(db.text(contexts).await.unwrap(), "3");
        assert!(db.try_run("DELETE FROM afterimage_scope").await.is_err());
        db.verify().await;
    }
}

on_every_database! {
    async fn a_transactions_first_context_stays_as_long_as_any_of_its_records(db: &mut TestDb) {
        for table in ["item", "other"] {
            db.run(&format!("CREATE TABLE {table} (id INTEGER PRIMARY KEY, n INTEGER)")).await;
            db.track(table, Tracking::new()).await;
        }
        // Of one transaction with two contexts: the first wrote one table, the second the other, at two times.
        let mut tx = db.audit.begin(&actor("ann")).await.unwrap();
        tx.execute("INSERT INTO item VALUES (1, 0)", &[]).await.unwrap();
        tx.enter(&Context::new().reason("more")).await.unwrap();
        tx.execute("INSERT INTO other VALUES (1, 0)", &[]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
        tx.execute("INSERT INTO other VALUES (2, 0)", &[]).await.unwrap();
        tx.leave().await.unwrap();
        tx.commit().await.unwrap();
        let written = db.versions("other", "1").await.remove(0).header;
        db.tick().await;
        db.run("UPDATE item SET n = 1").await;
        prune(db, Prune::new().tables(["item"]).keep(until_just_now().await)).await;
        // Half of it is never shown, and all of it is found.
        let between = PointInTime::At(Moment::from_micros(written.date.as_micros() + 1_000));
        assert!(db.as_of("other", between).await.is_empty());
        let found = db.audit.log(&LogQuery::parse(&format!("tx:{}", written.tx.unwrap())).unwrap()).await.unwrap();
        assert_eq!(found.entries.len(), 2);
        // They go together, where nothing is left of it.
        db.run("UPDATE other SET n = 1").await;
        prune(db, Prune::new().tables(["other"]).keep(until_just_now().await)).await;
        if !db.is_postgres() {
            let left = "SELECT count(*) FROM afterimage_scope WHERE actor = 'ann' OR reason = 'more'";
            assert_eq!(db.text(left).await.unwrap(), "0");
        }
        db.verify().await;
    }
}

on_every_database! {
    async fn rows_whose_key_changed_are_pruned_along_their_way(db: &mut TestDb) {
        for storage in STORAGES {
            db.run("CREATE TABLE item (id INTEGER PRIMARY KEY, n INTEGER, note TEXT)").await;
            db.track("item", Tracking::new().storage(storage)).await;
            db.run("INSERT INTO item VALUES (1, 0, 'a')").await;
            db.tick().await;
            db.run("UPDATE item SET id = 2").await;
            db.tick().await;
            db.run("UPDATE item SET n = 1").await;
            db.tick().await;
            // The old key is another row's now.
            db.run("INSERT INTO item VALUES (1, 5, 'b')").await;
            let cut = db.moment().await;
            db.run("UPDATE item SET n = n + 1").await;
            let there = db.as_of("item", cut.clone()).await;
            let PointInTime::At(moment) = cut else { unreachable!() };
            // Both records of the first life of key 1, and the arrival under 2.
            assert_eq!(prune(db, Prune::new().tables(["item"]).keep(Retention::until(moment))).await.records, 3);
            assert_eq!(db.as_of("item", cut).await, there);
            assert_eq!((db.signs("item", "1").await.as_str(), db.signs("item", "2").await.as_str()), ("+~", "~~"));
            db.verify().await;
            db.audit.untrack("item", true).await.unwrap();
            db.run("DROP TABLE item").await;
        }
    }
}

on_every_database! {
    async fn a_catalogue_of_before_there_was_retention_is_brought_up_to_date(db: &mut TestDb) {
        aged(db, Tracking::new().keep(Retention::days(250))).await;
        let earlier = match db.is_postgres() {
            true => "DROP TABLE afterimage.removal, afterimage.hold, afterimage.redaction, afterimage.archive".to_owned(),
            false => "DROP TABLE afterimage_removal; DROP TABLE afterimage_hold; DROP TABLE afterimage_redaction; DROP TABLE afterimage_archive".to_owned(),
        };
        let guards = db.by3(
            "DROP TRIGGER afterimage_scope_delete; DROP TRIGGER item_history_no_delete; CREATE TRIGGER item_history_no_delete BEFORE DELETE ON item_history BEGIN SELECT RAISE(ABORT, 'no'); END; DROP TRIGGER item_history_no_update",
            "",
            "DROP TRIGGER afterimage_scope_delete; DROP TRIGGER afterimage_1_no_delete; DROP TRIGGER afterimage_1_no_update",
        );
        db.run(guards).await;
        db.run(&earlier).await;
        let audit = afterimage::Afterimage::connect(&db.url).await.unwrap();
        assert_eq!(audit.removals().await.unwrap(), []);
        assert_eq!(audit.log(&LogQuery::parse("table:item").unwrap()).await.unwrap().entries.len(), 8);
        if !db.is_postgres() {
            let refused = audit.prune(&Prune::new(), &keeper()).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Drifted, "{refused}");
            audit.migrate(&[], &[]).await.unwrap();
        }
        assert_eq!(audit.prune(&Prune::new(), &keeper()).await.unwrap()[0].records, 3);
        db.verify().await;
    }
}

on_every_database! {
    async fn a_catalogue_of_before_there_were_archives_is_brought_up_to_date(db: &mut TestDb) {
        aged(db, Tracking::new()).await;
        db.run(&format!("DROP TABLE {}", db.by("afterimage_archive", "afterimage.archive"))).await;
        let audit = afterimage::Afterimage::connect(&db.url).await.unwrap();
        assert_eq!(audit.log(&LogQuery::parse("table:item").unwrap()).await.unwrap().entries.len(), 8);
        let folder = tempfile::tempdir().unwrap();
        let older = afterimage::Archive::new(crate::archived::address(folder.path()), Retention::days(250));
        assert_eq!(audit.archive(&older, &keeper()).await.unwrap()[0].moved, 3);
        assert_eq!(audit.log(&LogQuery::parse("table:item").unwrap()).await.unwrap().entries.len(), 8);
    }
}

#[tokio::test]
async fn whoever_does_not_see_all_removes_nothing() {
    let mut db = TestDb::sqlite().await;
    aged(&mut db, Tracking::new().keep(Retention::days(50))).await;
    let audit = db.audit.seen_through(std::sync::Arc::new(Nothing));
    for refused in [
        audit.prune(&Prune::new(), &keeper()).await.map(drop),
        audit.hold("item", None, &keeper()).await.map(drop),
        audit.removals().await.map(drop),
    ] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Forbidden);
    }
}

/// Somebody who may see nothing.
#[derive(Debug)]
struct Nothing;

impl afterimage::Sight for Nothing {
    fn sees_table(&self, _: &afterimage::TableName) -> bool {
        false
    }

    fn sees_column(&self, _: &afterimage::TableName, _: &str) -> bool {
        false
    }
}

on_every_database! {
    async fn a_hold_is_of_a_row_that_is_there_and_outlives_untracking(db: &mut TestDb) {
        aged(db, Tracking::new()).await;
        let why = Context::actor("counsel").reason("case 7");
        let nobody = db.audit.hold("item", Some("9"), &why).await.unwrap_err();
        assert_eq!(nobody.kind(), ErrorKind::NotFound);
        db.audit.hold("item", Some("01"), &why).await.unwrap();
        assert_eq!(db.audit.holds().await.unwrap()[0].1.key.as_deref().map(|key| key.replace('"', "")), Some("{id:1}".to_owned()));
        let refused = db.audit.untrack("item", true).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
        assert_eq!(count(db).await, "8");
        db.run("UPDATE item SET n = 9 WHERE id = 2").await;
        db.verify().await;
    }
}

on_every_database! {
    async fn a_transaction_of_which_a_part_was_pruned_is_not_undone(db: &mut TestDb) {
        for storage in STORAGES {
            db.run("CREATE TABLE item (id INTEGER PRIMARY KEY, n INTEGER, note TEXT)").await;
            db.track("item", Tracking::new().storage(storage)).await;
            db.run("INSERT INTO item VALUES (1, 0, 'a')").await;
            db.tick().await;
            let mut tx = db.audit.begin(&actor("ann")).await.unwrap();
            tx.execute("UPDATE item SET n = 1 WHERE id = 1", &[]).await.unwrap();
            tx.execute("INSERT INTO item VALUES (5, 0, 'b')", &[]).await.unwrap();
            tx.commit().await.unwrap();
            let id = db.versions("item", "5").await[0].header.tx.clone().unwrap();
            for n in 2..5 {
                db.tick().await;
                db.run(&format!("UPDATE item SET n = {n} WHERE id = 1")).await;
            }
            prune(db, Prune::new().tables(["item"]).keep(Retention::versions(1))).await;
            let refused = db.audit.revert_transaction(&RevertTransaction::new(&id), &actor("9")).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Unknowable, "{refused}");
            assert_eq!(db.text("SELECT count(*) FROM item").await.unwrap(), "2");
            db.audit.untrack("item", true).await.unwrap();
            db.run("DROP TABLE item").await;
        }
    }
}

on_every_database! {
    async fn what_is_written_down_of_removals_stays(db: &mut TestDb) {
        aged(db, Tracking::new()).await;
        prune(db, Prune::new().tables(["item"]).keep(Retention::days(250))).await;
        db.audit.hold("item", None, &Context::actor("counsel").reason("case 7")).await.unwrap();
        let schema = db.by("afterimage_", "afterimage.");
        for tampering in [
            "DELETE FROM {}removal",
            "UPDATE {}removal SET records = 0",
            "UPDATE {}removal SET recorded_by = 'nobody'",
            "UPDATE {}removal SET until_date = NULL",
            "DELETE FROM {}hold",
            "UPDATE {}hold SET reason = ''",
        ] {
            let sql = tampering.replace("{}", schema);
            assert!(db.try_run(&sql).await.is_err(), "{sql}");
        }
        // Not even a removal opens what is under a hold.
        let opened = db.by3(
            "UPDATE afterimage_removal SET open_in = 1",
            "UPDATE afterimage.removal SET open_in = pg_current_xact_id()::text::bigint",
            "UPDATE afterimage_removal SET open_in = CONNECTION_ID()",
        );
        assert!(db.try_run(&format!("BEGIN; {opened}; DELETE FROM item_history; COMMIT")).await.is_err());
        db.try_run("ROLLBACK").await.ok();
        assert_eq!(count(db).await, "5");
        assert!(db.audit.doctor().await.unwrap().iter().all(|found| !found.finding.contains("left open")));
        if db.is_sqlite() {
            db.run("PRAGMA foreign_keys = 0; UPDATE afterimage_removal SET open_in = 1").await;
            assert!(db.audit.doctor().await.unwrap().iter().any(|found| found.finding.contains("left open")));
        }
    }
}

#[tokio::test]
async fn of_many_contexts_those_stay_that_records_refer_to() {
    let mut db = TestDb::sqlite().await;
    db.run("PRAGMA synchronous = 0; CREATE TABLE item (id INTEGER PRIMARY KEY, n INTEGER)").await;
    db.track("item", Tracking::new()).await;
    db.run("INSERT INTO item VALUES (0, 0)").await;
    // More than are looked at together; every thousandth wrote what stays.
    for n in 0..6_000 {
        let stays =
            if n % 1_000 == 0 { format!("INSERT INTO item VALUES ({n} + 1, 0);") } else { String::new() };
        let set = "INSERT INTO afterimage_context (actor) VALUES ('ann')";
        let sql = format!(
            "BEGIN; {set}; {stays} UPDATE item SET n = n + 1 WHERE id = 0; DELETE FROM afterimage_context; COMMIT"
        );
        db.run(&sql).await;
    }
    prune(&db, Prune::new().tables(["item"]).keep(until_just_now().await)).await;
    // What is current stays: the last change of the one row, too.
    assert_eq!(db.text("SELECT count(*) FROM afterimage_scope WHERE actor = 'ann'").await.unwrap(), "7");
    db.verify().await;
}

#[tokio::test]
async fn contexts_that_records_refer_to_stay_whatever_their_dates() {
    let mut db = TestDb::mariadb().await;
    db.run("CREATE TABLE item (id INTEGER PRIMARY KEY, n INTEGER, note TEXT)").await;
    db.audit.allow_explicit_time(true).await.unwrap();
    let begin = Track::new("item", Tracking::new()).context(Context::new().at(moment_ago(500)));
    db.audit.track_with(begin, &mut |_| {}).await.unwrap();
    let at = |days: i64| moment_ago(days).as_micros();
    db.run(&format!(
        "START TRANSACTION; INSERT INTO afterimage_context (actor, reason, at) VALUES ('importer', 'batch', {}); INSERT INTO item VALUES (1, 0, 'a'); UPDATE afterimage_context SET at = {}; INSERT INTO item VALUES (2, 0, 'b'); DELETE FROM afterimage_context; COMMIT",
        at(300), at(301)
    )).await;
    db.run("INSERT INTO item VALUES (3, 0, 'c')").await;
    db.run("UPDATE item SET n = 1 WHERE id = 3").await;
    let keep = Retention::until(Moment::from_micros(Moment::now().as_micros() - 1));
    prune(&db, Prune::new().tables(["item"]).keep(keep)).await;
    for key in ["1", "2"] {
        assert_eq!(db.versions("item", key).await[0].header.user.as_deref(), Some("importer"));
    }
}
