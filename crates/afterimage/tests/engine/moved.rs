//! Records that were moved to archives: what is asked is answered from both.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::archived::{address, files, manifest};
use crate::retention::{aged, count, days_ago, keeper, many, moment_ago};
use crate::support::*;
use afterimage::{
    Afterimage, Archive, Archived, AsOfQuery, Dedupe, ErrorKind, LogQuery, PointInTime, Prune, Redact,
    Restore, Retention, Revert, RevertTable, RevertTransaction, Selector, Sight, Storage, TableName,
    Tracking, Value,
};

async fn archive(db: &TestDb, folder: &Path, older_than: Retention) -> afterimage::Result<Archived> {
    let request = Archive::new(address(folder), older_than).tables(["item"]);
    Ok(db.audit.archive(&request, &keeper()).await?.remove(0))
}

/// Everything that is told of a table, wherever it is.
async fn told(
    db: &TestDb,
    keys: &[&str],
    at: &[PointInTime],
) -> (Vec<String>, Vec<Vec<String>>, Vec<Vec<serde_json::Value>>) {
    let plain = |mut header: afterimage::Header| {
        header.archive = None;
        format!("{header:?}")
    };
    let log = db.audit.log(&LogQuery::parse("table:item").unwrap()).await.unwrap().entries;
    let log = log.into_iter().map(|entry| format!("{} {:?}", plain(entry.header), entry.changes)).collect();
    let mut histories = Vec::new();
    for key in keys {
        let versions = db.audit.history("item", key).await.unwrap().into_iter();
        histories
            .push(versions.map(|version| format!("{} {:?}", plain(version.header), version.row)).collect());
    }
    let mut states = Vec::new();
    for at in at {
        states.push(db.as_of("item", at.clone()).await);
    }
    (log, histories, states)
}

/// The first in which they differ.
fn same<T: std::fmt::Debug + PartialEq>(
    now: &(Vec<String>, T, Vec<Vec<serde_json::Value>>),
    before: &(Vec<String>, T, Vec<Vec<serde_json::Value>>),
    when: &str,
) {
    let differs = now.0.iter().zip(&before.0).position(|(now, before)| now != before);
    if let Some(at) = differs {
        panic!(
            "{when}: {} and {} entries; the {at}th was {} and is {}",
            before.0.len(),
            now.0.len(),
            before.0[at],
            now.0[at]
        );
    }
    assert_eq!(now.0.len(), before.0.len(), "{when}");
    assert_eq!(now.1, before.1, "{when}");
    assert_eq!(now.2, before.2, "{when}");
}

on_every_database! {
    async fn records_leave_and_are_told_as_before_and_from_where(db: &mut TestDb) {
        for storage in STORAGES {
            let folder = tempfile::tempdir().unwrap();
            aged(db, Tracking::new().storage(storage).mask(["note"])).await;
            let times = [450, 350, 300, 250, 249, 150, 0].map(days_ago);
            let keys = ["1", "2", "3"];
            let before = told(db, &keys, &times).await;
            assert_eq!(count(db).await, "8");
            let done = archive(db, folder.path(), Retention::days(250)).await.unwrap();
            assert_eq!((done.records, done.moved, done.kept_by), (3, 3, None));
            assert_eq!(count(db).await, "5");
            assert_eq!(told(db, &keys, &times).await, before);
            db.verify().await;
            // Which part came from where.
            let log = db.audit.log(&LogQuery::parse("table:item").unwrap()).await.unwrap().entries;
            let url = address(folder.path());
            let archived: Vec<_> = log.iter().filter_map(|entry| entry.header.archive.as_deref()).collect();
            assert_eq!(archived, [url.as_str(); 3]);
            let versions = db.audit.history("item", "1").await.unwrap();
            assert_eq!(versions.iter().filter(|version| version.header.archive.is_some()).count(), 2);
            let json = serde_json::to_value(versions.last().unwrap()).unwrap();
            assert_eq!(json["archive"], url);
            let state = db.audit.as_of(&AsOfQuery::new("item", days_ago(450))).await.unwrap();
            assert_eq!((state.rows.len(), state.archived), (3, 2));
            assert_eq!(db.audit.count_as_of("item", &days_ago(450)).await.unwrap(), 3);
            assert_eq!(db.audit.count_as_of_up_to("item", &days_ago(450), 2).await.unwrap(), 2);
            assert_eq!(db.audit.as_of(&AsOfQuery::new("item", days_ago(249))).await.unwrap().archived, 0);
            // Pages of it.
            let page = AsOfQuery { limit: Some(1), after: Some("1".to_owned()), ..AsOfQuery::new("item", days_ago(450)) };
            assert_eq!(db.audit.as_of(&page).await.unwrap().rows[0][0], Value::Number("2".to_owned()));
            // One version, by whatever name, and what is read of the log by what it says.
            let first = db.audit.version("item", "1", &Selector::Number(1)).await.unwrap();
            assert!(first.header.archive.is_some());
            assert_eq!(db.audit.show("item", "1", &days_ago(350)).await.unwrap().row[1].1, Value::Number("1".to_owned()));
            for (query, answers) in [
                ("table:item key:1", 5), ("table:item action:create", 3), ("table:item was:1", 1), ("table:item now:1 field:n", 1),
                ("table:item actor:ann", 5), ("table:item -actor:ann", 3), ("table:item -key:1", 3), ("table:item action:delete", 1),
                ("table:item at:<2000-01-01", 0), ("table:item nothing-like-it", 0),
            ] {
                let found = db.audit.log(&LogQuery::parse(query).unwrap()).await.unwrap().entries;
                assert_eq!(found.len(), answers, "{query}: {found:#?}");
            }
            // Page by page.
            let mut query = LogQuery::parse("table:item").unwrap().limit(2);
            let mut paged = Vec::new();
            loop {
                let page = db.audit.log(&query).await.unwrap();
                paged.extend(page.entries.into_iter().map(|entry| entry.header.id));
                let Some(next) = page.next else { break };
                query = query.after(next);
            }
            assert_eq!(paged, log.iter().map(|entry| entry.header.id).collect::<Vec<_>>());
            // What is removed is recorded, and that it is not lost.
            let removal = db.audit.removals().await.unwrap().pop().unwrap();
            assert_eq!((removal.what.as_str(), removal.records, removal.recorded_by.as_deref()), ("archive", 3, Some("keeper")));
            assert_eq!(removal.rule.unwrap(), format!("older than 250 days, to {url}"));
            // What asks the database alone says so.
            let refused = AsOfQuery { filter: Some("n = 1".to_owned()), ..AsOfQuery::new("item", days_ago(350)) };
            let error = db.audit.as_of(&refused).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unknowable, "{error}");
            assert!(error.to_string().contains("no condition"), "{error}");
            let past = db.audit.at(days_ago(350)).await.unwrap();
            let error = past.sql("SELECT * FROM item").await.unwrap_err();
            assert!(error.to_string().contains("archive restore") && error.to_string().contains(&url), "{error}");
            drop(past);
            // Older and newer ones, by the same rule and by another; nothing twice.
            assert_eq!(archive(db, folder.path(), Retention::days(250)).await.unwrap().moved, 0);
            assert_eq!(archive(db, folder.path(), Retention::days(450)).await.unwrap().moved, 0, "a clock that went back");
            assert_eq!(archive(db, folder.path(), Retention::days(150)).await.unwrap().moved, 1);
            assert_eq!(told(db, &keys, &times).await, before);
            assert_eq!(Afterimage::verify_archive(&url).await.unwrap(), (vec![], 4));
            // And back.
            let back = db.audit.bring_back(&["item"], &keeper()).await.unwrap().remove(0);
            assert_eq!((back.records, back.archives), (4, vec![url.clone()]));
            assert_eq!(count(db).await, "8");
            let again = db.audit.bring_back(&["item"], &keeper()).await.unwrap().remove(0);
            assert_eq!((again.records, again.archives.len()), (0, 0));
            std::fs::remove_dir_all(folder.path()).unwrap();
            assert_eq!(told(db, &keys, &times).await, before);
            db.verify().await;
            db.audit.untrack("item", true).await.unwrap();
            db.run("DROP TABLE item").await;
        }
    }
}

on_every_database! {
    async fn a_run_that_is_killed_at_any_point_loses_nothing_and_the_next_goes_on(db: &mut TestDb) {
        let folder = tempfile::tempdir().unwrap();
        let (cut, _) = many(db, Tracking::new().storage(Storage::Delta)).await;
        let PointInTime::At(until) = cut else { unreachable!() };
        let older = Retention::until(until);
        let before = told(db, &["1", "450", "900"], std::slice::from_ref(&cut)).await;
        let mut killed = 0;
        for wait in [5, 20, 40, 60, 80, 100, 120, 140, 160, 200] {
            let (audit, older) = (db.audit.clone(), older.clone());
            let request = Archive::new(address(folder.path()), older).tables(["item"]);
            let run = tokio::spawn(async move { audit.archive(&request, &keeper()).await });
            tokio::time::sleep(Duration::from_millis(wait)).await;
            killed += usize::from(!run.is_finished());
            run.abort();
            let _ = run.await;
            same(&told(db, &["1", "450", "900"], std::slice::from_ref(&cut)).await, &before, &format!("killed after {wait} ms"));
            db.verify().await;
        }
        assert!(killed > 0);
        archive(db, folder.path(), older).await.unwrap();
        assert_eq!(count(db).await, "900");
        assert_eq!(told(db, &["1", "450", "900"], std::slice::from_ref(&cut)).await, before);
        db.verify().await;
        // As records are brought back, too.
        for wait in [5, 20, 40, 60] {
            let audit = db.audit.clone();
            let run = tokio::spawn(async move { audit.bring_back(&["item"], &keeper()).await });
            tokio::time::sleep(Duration::from_millis(wait)).await;
            run.abort();
            let _ = run.await;
            same(&told(db, &["1", "450", "900"], std::slice::from_ref(&cut)).await, &before, &format!("killed after {wait} ms"));
        }
        db.audit.bring_back(&["item"], &keeper()).await.unwrap();
        assert_eq!(count(db).await, "2700");
        assert_eq!(told(db, &["1", "450", "900"], &[cut]).await, before);
        db.verify().await;
    }
}

on_every_database! {
    async fn two_at_once_move_what_one_would_and_writers_go_on(db: &mut TestDb) {
        let folder = tempfile::tempdir().unwrap();
        let (cut, _) = many(db, Tracking::new()).await;
        let PointInTime::At(until) = cut else { unreachable!() };
        let there = db.as_of("item", cut.clone()).await;
        let runs: Vec<_> = (0..2)
            .map(|_| {
                let audit = db.audit.clone();
                let request = Archive::new(address(folder.path()), Retention::until(until)).tables(["item"]);
                tokio::spawn(async move { audit.archive(&request, &keeper()).await })
            })
            .collect();
        for n in 2..12 {
            let mut tx = db.audit.begin(&actor("7")).await.unwrap();
            tx.execute(&format!("UPDATE item SET n = {n} WHERE id = {n}"), &[]).await.unwrap();
            tx.commit().await.unwrap();
        }
        for run in runs {
            // Whoever comes second finds that records went meanwhile.
            match run.await.unwrap() {
                Ok(_) => {}
                Err(error) => assert!(matches!(error.kind(), ErrorKind::Conflict | ErrorKind::Busy), "{error}"),
            }
        }
        archive(db, folder.path(), Retention::until(until)).await.unwrap();
        assert_eq!(count(db).await, "910");
        assert_eq!(db.as_of("item", cut).await, there);
        let log = db.audit.log(&LogQuery::parse("table:item").unwrap()).await.unwrap().entries;
        assert_eq!(log.len(), 2710);
        // What came to nothing is not left there for others to read.
        assert_eq!(Afterimage::verify_archive(&address(folder.path())).await.unwrap(), (vec![], 1800));
        db.verify().await;
    }
}

on_every_database! {
    async fn what_is_being_brought_back_is_in_no_second_archive(db: &mut TestDb) {
        let folder = tempfile::tempdir().unwrap();
        let (cut, _) = many(db, Tracking::new()).await;
        let PointInTime::At(until) = cut else { unreachable!() };
        archive(db, folder.path(), Retention::until(until)).await.unwrap();
        // Killed as it goes on.
        let audit = db.audit.clone();
        let mut killed = |progress: afterimage::Archiving| assert_eq!(progress.done, 0, "killed");
        let run = tokio::spawn(async move { audit.bring_back_with(&["item"], &keeper(), &mut killed).await });
        assert!(run.await.is_err());
        assert_ne!(count(db).await, "900");
        let refused = archive(db, folder.path(), Retention::until(until)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict);
        assert!(refused.to_string().contains("bring them back first"), "{refused}");
        db.audit.bring_back(&["item"], &keeper()).await.unwrap();
        assert_eq!(count(db).await, "2700");
        assert_eq!(archive(db, folder.path(), Retention::until(until)).await.unwrap().moved, 1800);
        db.verify().await;
    }
}

on_every_database! {
    async fn what_another_run_is_moving_is_in_no_second_archive(db: &mut TestDb) {
        let folder = tempfile::tempdir().unwrap();
        let (cut, _) = many(db, Tracking::new()).await;
        let PointInTime::At(until) = cut else { unreachable!() };
        db.run("CREATE TABLE earlier (id INTEGER PRIMARY KEY)").await;
        db.track("earlier", Tracking::new()).await;
        // While a run is at another table, one begins with this, and is killed as it moves.
        let (url, place) = (db.url.clone(), address(folder.path()));
        let one = move || {
            let run = async {
                let audit = Afterimage::connect(&url).await.unwrap();
                let request = Archive::new(place, Retention::until(until)).tables(["item"]);
                let mut killed = |progress: afterimage::Archiving| assert!(!progress.removes, "killed");
                let _ = audit.archive_with(&request, &keeper(), &mut killed).await;
            };
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run);
        };
        let mut one = Some(one);
        let mut meanwhile = |_| {
            if let Some(one) = one.take() {
                assert!(std::thread::spawn(one).join().is_err());
            }
        };
        let request =
            Archive::new(address(folder.path()), Retention::until(until)).tables(["earlier", "item"]);
        let refused = db.audit.archive_with(&request, &keeper(), &mut meanwhile).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict);
        assert!(refused.to_string().contains("another run began to move records of it"), "{refused}");
        assert_eq!(archive(db, folder.path(), Retention::until(until)).await.unwrap().records, 0);
        assert_eq!(count(db).await, "900");
        assert_eq!(Afterimage::verify_archive(&address(folder.path())).await.unwrap(), (vec![], 1800));
        db.verify().await;
    }
}

on_every_database! {
    async fn what_others_removed_meanwhile_leaves_the_rest_where_it_is(db: &mut TestDb) {
        let folder = tempfile::tempdir().unwrap();
        aged(db, Tracking::new().storage(Storage::Delta)).await;
        db.run("UPDATE item SET n = n WHERE id = 2").await;
        let times = [450, 350, 250, 150, 0].map(days_ago);
        // Killed before the first record went.
        let audit = db.audit.clone();
        let request = Archive::new(address(folder.path()), Retention::days(250)).tables(["item"]);
        let mut killed = |progress: afterimage::Archiving| assert!(!progress.removes, "killed");
        let run = tokio::spawn(async move { audit.archive_with(&request, &keeper(), &mut killed).await });
        assert!(run.await.is_err());
        let before = told(db, &["1", "2", "3"], &times).await;
        db.audit.dedupe(&Dedupe::new().tables(["item"]), &keeper()).await.unwrap();
        let deduped = told(db, &["1", "2", "3"], &times).await;
        assert_eq!(before.2, deduped.2);
        archive(db, folder.path(), Retention::days(250)).await.unwrap();
        assert_eq!(told(db, &["1", "2", "3"], &times).await, deduped);
        db.verify().await;
        // What is pruned is not known, though an archive had some of it; what an archive has before a keyframe is.
        db.audit.prune(&Prune::new().tables(["item"]).keep(Retention::days(150)), &keeper()).await.unwrap();
        db.verify().await;
        assert_eq!(db.as_of("item", days_ago(149)).await, before.2[3]);
        assert_eq!(db.audit.as_of(&AsOfQuery::new("item", days_ago(160))).await.unwrap_err().kind(), ErrorKind::Unknowable);
    }
}

on_every_database! {
    async fn a_table_that_has_changed_since_is_told_by_its_columns_of_now(db: &mut TestDb) {
        let folder = tempfile::tempdir().unwrap();
        aged(db, Tracking::new()).await;
        archive(db, folder.path(), Retention::days(250)).await.unwrap();
        db.alter("item", "ALTER TABLE item RENAME COLUMN n TO number").await;
        db.alter("item", "ALTER TABLE item ADD COLUMN more INTEGER").await;
        db.audit.migrate(&[], &[]).await.unwrap();
        db.run("UPDATE item SET more = 1, number = 9 WHERE id = 1").await;
        assert_eq!(db.as_of("item", days_ago(350)).await, [
            serde_json::json!({"id": 1, "n": 1, "note": "a"}), serde_json::json!({"id": 2, "n": 0, "note": "b"}),
        ]);
        let versions = db.audit.history("item", "1").await.unwrap();
        assert_eq!(versions.len(), 6);
        assert_eq!(versions[5].row[1], ("n".to_owned(), Value::Number("0".to_owned())));
        assert_eq!(versions[4].changes[0].old, Value::Number("0".to_owned()));
        let found = db.audit.log(&LogQuery::parse("table:item field:number now:1").unwrap()).await.unwrap().entries;
        assert_eq!(found.len(), 1);
        assert!(found[0].header.archive.is_some());
        db.run("ALTER TABLE item RENAME TO thing").await;
        db.audit.migrate(&[], &[]).await.unwrap();
        assert_eq!(db.audit.history("thing", "1").await.unwrap().len(), 6);
        db.alter("thing", "ALTER TABLE thing DROP COLUMN note").await;
        assert_eq!(db.as_of("thing", days_ago(350)).await[0], serde_json::json!({"id": 1, "n": 1, "note": "a"}));
        let back = db.audit.bring_back(&["thing"], &keeper()).await.unwrap().remove(0);
        assert_eq!(back.records, 3);
        assert_eq!(db.as_of("thing", days_ago(350)).await[0], serde_json::json!({"id": 1, "n": 1, "note": "a"}));
    }
}

on_every_database! {
    async fn a_row_is_still_told_with_those_that_belonged_to_it(db: &mut TestDb) {
        for storage in STORAGES {
            let folder = tempfile::tempdir().unwrap();
            db.run("CREATE TABLE owner (id INTEGER PRIMARY KEY, name TEXT); CREATE TABLE item (id INTEGER PRIMARY KEY, owner INTEGER, note TEXT, FOREIGN KEY (owner) REFERENCES owner (id))").await;
            for table in ["owner", "item"] {
                db.track(table, Tracking::new().storage(storage)).await;
            }
            db.run("INSERT INTO owner VALUES (1, 'ann'), (2, 'bob'); INSERT INTO item VALUES (7, 1, 'a'), (8, 2, 'b'), (9, 2, 'c')").await;
            db.tick().await;
            // The next say nothing of whose it is, and what does is in the archive.
            db.run("UPDATE item SET note = 'changed'").await;
            db.tick().await;
            db.run("UPDATE item SET owner = 1 WHERE id = 9").await;
            let PointInTime::At(end) = db.moment().await else { unreachable!() };
            let timeline = async |db: &TestDb| {
                let page = db.audit.timeline("owner", "1", &LogQuery::parse("").unwrap()).await.unwrap();
                page.entries.iter().map(|entry| format!("{} {:?} {:?}", entry.table.name, entry.key, entry.changes)).collect::<Vec<_>>()
            };
            let before = timeline(db).await;
            assert_eq!(before.len(), 4, "{before:#?}");
            archive(db, folder.path(), Retention::until(end)).await.unwrap();
            assert_eq!(count(db).await, "3");
            assert_eq!(timeline(db).await, before, "{storage}");
            db.audit.untrack("item", true).await.unwrap();
            db.audit.untrack("owner", true).await.unwrap();
            db.run("DROP TABLE item; DROP TABLE owner").await;
        }
    }
}

on_every_database! {
    async fn what_is_held_stays(db: &mut TestDb) {
        let folder = tempfile::tempdir().unwrap();
        aged(db, Tracking::new()).await;
        let row = db.audit.hold("item", Some("1"), &keeper()).await.unwrap();
        let done = archive(db, folder.path(), Retention::days(250)).await.unwrap();
        assert_eq!((done.records, done.moved), (1, 1));
        assert_eq!(db.signs("item", "1").await, "+~~~~");
        assert_eq!(db.as_of("item", days_ago(450)).await.len(), 3);
        db.audit.hold("item", None, &keeper()).await.unwrap();
        let done = archive(db, folder.path(), Retention::days(50)).await.unwrap();
        assert!(done.kept_by.unwrap().contains("under a hold") && done.records == 0);
        db.audit.lift_hold(row, &keeper()).await.unwrap();
        assert_eq!(db.audit.log(&LogQuery::parse("table:item").unwrap()).await.unwrap().entries.len(), 8, "told once");
    }
}

on_every_database! {
    async fn what_is_redacted_of_a_row_is_in_no_file_of_its_archives(db: &mut TestDb) {
        let folder = tempfile::tempdir().unwrap();
        aged(db, Tracking::new()).await;
        db.run("UPDATE item SET note = 'ann@example.org' WHERE id = 1; UPDATE item SET note = 'bob@example.org' WHERE id = 2; UPDATE item SET note = ''; UPDATE item SET n = 7").await;
        let PointInTime::At(end) = db.moment().await else { unreachable!() };
        archive(db, folder.path(), Retention::until(end)).await.unwrap();
        let holds = |what: &str| {
            let holds = |path| std::fs::read(path).unwrap().windows(what.len()).any(|window| window == what.as_bytes());
            files(folder.path()).into_iter().any(holds)
        };
        // Text in a file may be compressed: it is looked for in what is read.
        let reads = |what: &str| {
            let records = crate::archived::read(folder.path());
            records.values().any(|(_, one)| format!("{one:?}").contains(what))
        };
        assert!(reads("ann@example.org") && reads("bob@example.org"));
        let would = db.audit.redact(&Redact::new("item", "1").fields(["note"]).dry_run(true), &keeper()).await.unwrap();
        let done = db.audit.redact(&Redact::new("item", "1").fields(["note"]), &keeper()).await.unwrap();
        assert_eq!((would.records, would.in_archives), (done.records, true));
        assert!(!holds("ann@example.org") && !reads("ann@example.org") && reads("bob@example.org"));
        let url = address(folder.path());
        assert_eq!(Afterimage::verify_archive(&url).await.unwrap().0, []);
        let versions = db.audit.history("item", "1").await.unwrap();
        assert!(versions.iter().any(|version| version.header.archive.is_some() && version.row[2].1 == Value::Redacted));
        assert_eq!(db.as_of("item", days_ago(350)).await[0]["note"], serde_json::json!({"$redacted": true}));
        // Again it changes nothing, and the other row keeps what it was.
        let before = files(folder.path());
        db.audit.redact(&Redact::new("item", "1").fields(["note"]), &keeper()).await.unwrap();
        assert_eq!(files(folder.path()), before);
        assert_eq!(db.as_of("item", days_ago(350)).await[1]["note"], "b");
        db.audit.bring_back(&["item"], &keeper()).await.unwrap();
        assert_eq!(db.as_of("item", days_ago(350)).await[0]["note"], serde_json::json!({"$redacted": true}));
        assert_eq!(db.text("SELECT count(*) FROM item_history WHERE note LIKE 'ann%'").await.unwrap(), "0");
    }
}

#[tokio::test]
async fn a_file_that_is_gone_or_another_is_said_to_be_and_nothing_else_is_harmed() {
    let mut db = TestDb::sqlite().await;
    let folder = tempfile::tempdir().unwrap();
    aged(&mut db, Tracking::new()).await;
    archive(&db, folder.path(), Retention::days(250)).await.unwrap();
    let before = told(&db, &["1"], &[days_ago(350)]).await;
    let some = files(folder.path()).remove(0);
    let sound = std::fs::read(&some).unwrap();
    let mut changed = sound.clone();
    changed[sound.len() / 2] ^= 1;
    for (bytes, kind, said) in [
        (Some(changed), ErrorKind::Unknowable, "is not what was written there"),
        (None, ErrorKind::NotFound, "cannot be read"),
    ] {
        match &bytes {
            Some(bytes) => std::fs::write(&some, bytes).unwrap(),
            None => std::fs::remove_file(&some).unwrap(),
        }
        // Nothing is remembered of it by a new handle.
        let audit = Afterimage::connect(&db.url).await.unwrap();
        let log = LogQuery::parse("table:item").unwrap();
        for error in [
            audit.log(&log).await.map(drop).unwrap_err(),
            audit.history("item", "1").await.map(drop).unwrap_err(),
            audit.as_of(&AsOfQuery::new("item", days_ago(450))).await.map(drop).unwrap_err(),
            audit.bring_back(&["item"], &keeper()).await.map(drop).unwrap_err(),
        ] {
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(said) && error.to_string().contains("file://"), "{error}");
        }
        // Of what is here, everything is told.
        assert_eq!(audit.as_of(&AsOfQuery::new("item", days_ago(200))).await.unwrap().rows.len(), 2);
        let newest = audit.log(&log.clone().limit(1)).await.unwrap();
        assert_eq!(newest.entries.len(), 1);
        std::fs::write(&some, &sound).unwrap();
    }
    assert_eq!(told(&db, &["1"], &[days_ago(350)]).await, before);
    // A manifest that says something else.
    let manifest = manifest(&folder.path().join("item/_manifests"));
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replace("\"records\": 3", "\"records\": 4")).unwrap();
    let audit = Afterimage::connect(&db.url).await.unwrap();
    assert!(message(audit.history("item", "1").await).contains("is not what was written there"));
}

on_every_database! {
    async fn rows_are_brought_back_from_versions_in_an_archive(db: &mut TestDb) {
        let folder = tempfile::tempdir().unwrap();
        aged(db, Tracking::new().storage(Storage::Delta)).await;
        db.run("INSERT INTO item VALUES (7, 70, 'seven'); UPDATE item SET note = 'sieben' WHERE id = 7; DELETE FROM item WHERE id = 7").await;
        let PointInTime::At(end) = db.moment().await else { unreachable!() };
        archive(db, folder.path(), Retention::until(end)).await.unwrap();
        assert_eq!(count(db).await, "4", "the last of each row");
        // Rows that moved or went are still known, and what they were.
        let deleted = db.audit.deleted_rows("item", None).await.unwrap();
        assert_eq!(deleted.len(), 2);
        assert!(deleted.iter().all(|entry| entry.changes.len() >= 2), "{deleted:?}");
        let back = Restore::new("item", "7");
        db.audit.restore(&back, &keeper()).await.unwrap();
        assert_eq!(db.as_of("item", now()).await[2], serde_json::json!({"id": 7, "n": 70, "note": "sieben"}));
        let back = Revert::new("item", "7", Selector::Number(1));
        db.audit.revert(&back, &keeper()).await.unwrap();
        assert_eq!(db.as_of("item", now()).await[2], serde_json::json!({"id": 7, "n": 70, "note": "seven"}));
        let back = Revert::new("item", "1", Selector::At(days_ago(350))).fields(["n"]);
        db.audit.revert(&back, &keeper()).await.unwrap();
        assert_eq!(db.as_of("item", now()).await[0]["n"], 1);
        db.verify().await;
        // A whole table is not: that is said.
        let table = RevertTable::new("item", days_ago(350));
        assert!(message(db.audit.revert_table(&table, &keeper()).await).contains("archive restore"));
        let all = db.audit.all_versions().await.unwrap();
        assert!(message(all.sql("SELECT * FROM item").await).contains("archive restore"));
        drop(all);
        let latest = db.audit.latest_versions().await.unwrap();
        latest.sql("SELECT * FROM item").await.unwrap();
        drop(latest);
        // Counts are of all that is told.
        let log = db.audit.log(&LogQuery::parse("table:item").unwrap()).await.unwrap().entries.len() as u64;
        let summary = db.audit.log_summary(&LogQuery::parse("table:item").unwrap()).await.unwrap();
        assert_eq!((summary.records, summary.more), (log, false));
    }
}

on_every_database! {
    async fn what_was_pruned_after_an_archive_is_not_made_up_when_that_is_brought_back(db: &mut TestDb) {
        let folder = tempfile::tempdir().unwrap();
        aged(db, Tracking::new()).await;
        archive(db, folder.path(), Retention::days(350)).await.unwrap();
        db.audit.prune(&Prune::new().tables(["item"]).keep(Retention::days(150)), &keeper()).await.unwrap();
        let pruned = db.audit.history("item", "1").await.unwrap();
        assert_eq!(pruned.len(), 2, "what was pruned in between leads nowhere");
        let back = db.audit.bring_back(&["item"], &keeper()).await.unwrap().remove(0);
        assert_eq!(back.records, 1, "the row that was deleted before");
        assert_eq!(db.audit.history("item", "1").await.unwrap(), pruned);
        assert_eq!(db.audit.show("item", "1", &days_ago(250)).await.unwrap_err().kind(), ErrorKind::Unknowable);
        db.verify().await;
    }
}

on_every_database! {
    async fn an_archive_that_was_redacted_leads_on_to_what_is_older(db: &mut TestDb) {
        let folder = tempfile::tempdir().unwrap();
        db.run("CREATE TABLE item (id INTEGER PRIMARY KEY, n INTEGER, note TEXT)").await;
        db.run("INSERT INTO item VALUES (1, 0, 'a'), (2, 0, 'b')").await;
        db.track("item", Tracking::new()).await;
        // Two archives of one month.
        for n in 1..=2 {
            db.run(&format!("UPDATE item SET n = {n}; UPDATE item SET note = 'note {n}'")).await;
            let PointInTime::At(end) = db.moment().await else { unreachable!() };
            archive(db, folder.path(), Retention::until(end)).await.unwrap();
        }
        let (before, _, _) = told(db, &["1"], &[]).await;
        let history = db.audit.history("item", "1").await.unwrap();
        assert_eq!(history.len(), 5);
        // The older one is written anew, after the newer one was.
        db.audit.redact(&Redact::new("item", "2").fields(["note"]), &keeper()).await.unwrap();
        let versions = db.audit.history("item", "1").await.unwrap();
        assert_eq!(versions.iter().map(|version| version.header.id).collect::<Vec<_>>(), history.iter().map(|version| version.header.id).collect::<Vec<_>>());
        assert_eq!(told(db, &["1"], &[]).await.0.len(), before.len());
    }
}

#[tokio::test]
async fn what_is_here_is_told_without_the_archive() {
    let mut db = TestDb::sqlite().await;
    let folder = tempfile::tempdir().unwrap();
    aged(&mut db, Tracking::new()).await;
    archive(&db, folder.path(), Retention::days(250)).await.unwrap();
    std::fs::remove_dir_all(folder.path()).unwrap();
    let audit = Afterimage::connect(&db.url).await.unwrap();
    let log = LogQuery::parse("table:item at:>2026-01-01").unwrap();
    let since = format!("table:item since:{}", moment_ago(220));
    for query in [log.limit(1), LogQuery::parse(&since).unwrap()] {
        assert!(!audit.log(&query).await.unwrap().entries.is_empty());
    }
    assert_eq!(audit.log_summary(&LogQuery::parse(&since).unwrap()).await.unwrap().records, 2);
    assert_eq!(
        audit.show("item", "1", &days_ago(150)).await.unwrap().row[1].1,
        Value::Number("3".to_owned())
    );
    assert_eq!(audit.count_as_of("item", &days_ago(150)).await.unwrap(), 2);
}

on_every_database! {
    async fn a_transaction_is_looked_at_again_once_its_records_are_brought_back(db: &mut TestDb) {
        let folder = tempfile::tempdir().unwrap();
        db.run("CREATE TABLE item (id INTEGER PRIMARY KEY, n INTEGER, note TEXT); INSERT INTO item VALUES (1, 0, 'a')").await;
        db.track("item", Tracking::new()).await;
        db.run_as("7", "by mistake", "UPDATE item SET n = 5").await;
        let tx = db.versions("item", "1").await[1].header.tx.clone().unwrap();
        db.run("UPDATE item SET note = 'b'").await;
        let PointInTime::At(end) = db.moment().await else { unreachable!() };
        archive(db, folder.path(), Retention::until(end)).await.unwrap();
        let after = AsOfQuery::new("item", PointInTime::After(tx.clone()));
        let state = db.audit.as_of(&after).await.unwrap();
        assert_eq!((state.rows.len(), state.archived), (1, 1));
        let of_tx = LogQuery::parse(&format!("tx:{tx}")).unwrap();
        assert_eq!(db.audit.log(&of_tx).await.unwrap().entries.len(), 1);
        let undo = RevertTransaction::new(&tx);
        assert!(message(db.audit.revert_transaction(&undo, &keeper()).await).contains("archive"));
        db.audit.prune(&Prune::new().tables(["item"]).keep(Retention::versions(9)), &keeper()).await.unwrap();
        db.audit.bring_back(&["item"], &keeper()).await.unwrap();
        // The row was changed again since, which is said now.
        let refused = db.audit.revert_transaction(&undo, &keeper()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
        db.verify().await;
    }
}

struct NoNotes;

impl Sight for NoNotes {
    fn sees_table(&self, _: &TableName) -> bool {
        true
    }

    fn sees_column(&self, _: &TableName, column: &str) -> bool {
        column != "note"
    }
}

#[tokio::test]
async fn whoever_may_not_see_a_column_does_not_see_it_in_an_archive() {
    let mut db = TestDb::sqlite().await;
    let folder = tempfile::tempdir().unwrap();
    aged(&mut db, Tracking::new()).await;
    archive(&db, folder.path(), Retention::days(250)).await.unwrap();
    let clerk = db.audit.seen_through(Arc::new(NoNotes));
    let versions = clerk.history("item", "1").await.unwrap();
    assert!(versions.iter().all(|version| version.row[2].1 == Value::Masked));
    let state = clerk.as_of(&AsOfQuery::new("item", days_ago(350))).await.unwrap();
    assert!(state.rows.iter().all(|row| row[2] == Value::Masked) && state.archived > 0);
    assert_eq!(clerk.log(&LogQuery::parse("table:item was:a").unwrap()).await.unwrap().entries.len(), 0);
    let refused = clerk.archive(&Archive::new(address(folder.path()), Retention::days(1)), &keeper()).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Forbidden);
    let refused = clerk.bring_back(&["item"], &keeper()).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Forbidden);
    assert!(moment_ago(1) < afterimage::Moment::now());
}
