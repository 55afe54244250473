//! A person's right to be forgotten: values that are removed on request, and what is said of them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support::*;
use afterimage::{
    AsOfQuery, Conflicts, Context, ErrorKind, LogQuery, Obstacle, PointInTime, Redact, Redacted, Restore,
    Revert, RevertTable, RevertTransaction, Selector, Storage, Tracking, Value,
};

fn officer() -> Context {
    Context::actor("officer").reason("request 12")
}

/// Ann, whose address changes twice and is then taken out; Bob, who is deleted.
async fn people(db: &mut TestDb, storage: Storage) -> PointInTime {
    db.run("CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT, email TEXT NOT NULL)").await;
    db.track("person", Tracking::new().storage(storage)).await;
    for sql in [
        "INSERT INTO person VALUES (1, 'Ann', 'ann@a.example'), (2, 'Bob', 'bob@b.example')",
        "UPDATE person SET email = 'ann@c.example' WHERE id = 1",
        "UPDATE person SET name = 'Anne' WHERE id = 1",
    ] {
        db.tick().await;
        db.run(sql).await;
    }
    let then = db.moment().await;
    db.run("UPDATE person SET email = 'gone' WHERE id = 1").await;
    db.tick().await;
    db.run("DELETE FROM person WHERE id = 2").await;
    db.tick().await;
    then
}

async fn redact(db: &TestDb, key: &str) -> Redacted {
    let request = Redact::new("person", key).fields(["email"]);
    let would = db.audit.redact(&request.clone().dry_run(true), &officer()).await.unwrap();
    let done = db.audit.redact(&request, &officer()).await.unwrap();
    assert_eq!(would, done);
    done
}

async fn over(db: &mut TestDb) {
    db.audit.untrack("person", true).await.unwrap();
    db.run("DROP TABLE person").await;
}

/// Everything that a history holds, as text.
async fn stored(db: &mut TestDb) -> String {
    let columns = db.by(
        "history_id || ' ' || coalesce(name, '') || ' ' || coalesce(email, '')",
        "history_id::text || ' ' || coalesce(name, '') || ' ' || coalesce(email, '')",
    );
    db.lines(&format!("SELECT {columns} FROM person_history ORDER BY history_id")).await.join("\n")
}

on_every_database! {
    async fn what_was_redacted_is_nowhere_and_is_not_said_to_have_been_null(db: &mut TestDb) {
        for storage in STORAGES {
            let then = people(db, storage).await;
            let done = redact(db, "1").await;
            assert_eq!((done.records, done.still_there.as_slice()), (3, &["email".to_owned()][..]));
            let stored = stored(db).await;
            assert!(!stored.contains("ann@") && stored.contains("bob@") && stored.contains("gone"), "{stored}");
            let told: Vec<String> = db.versions("person", "1").await.iter().skip(1).map(|v| changes(v).join("; ")).collect();
            assert_eq!(told, ["email: (redacted) -> (redacted)", "name: Ann -> Anne", "email: (redacted) -> gone"]);
            let first = db.versions("person", "1").await.remove(0);
            assert_eq!(row(&first), serde_json::json!({"id": 1, "name": "Ann", "email": {"$redacted": true}}));
            let log = db.audit.log(&LogQuery::parse("table:person key:1 field:email").unwrap()).await.unwrap();
            let told: Vec<String> = log.entries.iter().map(|entry| {
                let change = entry.changes.iter().find(|change| change.field == "email").unwrap();
                format!("{} -> {}", change.old, change.new)
            }).collect();
            assert_eq!(told, ["(redacted) -> gone", "(redacted) -> (redacted)", "∅ -> (redacted)"]);
            let rows = db.as_of("person", then.clone()).await;
            assert_eq!(rows[0], serde_json::json!({"id": 1, "name": "Anne", "email": {"$redacted": true}}));
            assert_eq!(rows[1]["email"], "bob@b.example");
            assert_eq!(db.as_of("person", PointInTime::Now).await[0]["email"], "gone");
            assert_eq!(db.audit.show("person", "1", &then).await.unwrap().row[2].1, Value::Redacted);
            for (query, found) in [("was:null", 1), ("now:null", 0), ("ann@a.example", 0), ("field:email now:gone", 1)] {
                let query = format!("table:person key:1 {query}");
                let log = db.audit.log(&LogQuery::parse(&query).unwrap()).await.unwrap();
                assert_eq!(log.entries.len(), found, "{query}: {:?}", log.entries);
            }
            db.verify().await;
            let removal = db.audit.removals().await.unwrap().pop().unwrap();
            assert_eq!((removal.what.as_str(), removal.records, removal.rule.as_deref()), ("redact", 3, Some("email of 1")));
            assert_eq!((removal.recorded_by.as_deref(), removal.reason.as_deref()), (Some("officer"), Some("request 12")));
            assert_eq!(removal.until, None);
            // There is nothing left to be redacted, until the row changes again.
            assert_eq!(redact(db, "1").await.records, 0);
            db.run("UPDATE person SET email = 'ann@d.example' WHERE id = 1").await;
            db.tick().await;
            db.run("UPDATE person SET email = '' WHERE id = 1").await;
            assert_eq!(redact(db, "1").await.records, 2);
            db.verify().await;
            over(db).await;
        }
    }
}

on_every_database! {
    async fn of_a_deleted_row_all_goes_and_another_of_its_key_keeps_what_it_has(db: &mut TestDb) {
        for storage in STORAGES {
            let then = people(db, storage).await;
            let done = redact(db, "2").await;
            assert_eq!((done.records, done.still_there.len()), (2, 0));
            assert!(!stored(db).await.contains("bob@"));
            db.run("INSERT INTO person VALUES (2, 'Eve', 'eve@e.example')").await;
            db.tick().await;
            db.run("UPDATE person SET email = 'eve@f.example' WHERE id = 2").await;
            let told: Vec<String> = db.versions("person", "2").await.iter().map(|v| v.row[2].1.to_string()).collect();
            assert_eq!(told, ["(redacted)", "(redacted)", "eve@e.example", "eve@f.example"]);
            let last = db.audit.log(&LogQuery::parse("table:person key:2").unwrap().limit(1)).await.unwrap();
            assert_eq!(last.entries[0].changes[0].old.to_string(), "eve@e.example");
            assert_eq!(db.as_of("person", PointInTime::Now).await[1]["email"], "eve@f.example");
            assert_eq!(db.as_of("person", then).await[1]["email"], serde_json::json!({"$redacted": true}));
            db.verify().await;
            over(db).await;
        }
    }
}

on_every_database! {
    async fn a_row_is_redacted_through_changes_of_its_key(db: &mut TestDb) {
        for storage in STORAGES {
            people(db, storage).await;
            for sql in ["UPDATE person SET id = 7 WHERE id = 1", "UPDATE person SET email = 'x' WHERE id = 7", "INSERT INTO person VALUES (1, 'Eve', 'eve@e.example')"] {
                db.tick().await;
                db.run(sql).await;
            }
            assert_eq!(redact(db, "7").await.records, 5);
            let left = stored(db).await;
            assert!(!left.contains("ann@") && !left.contains("gone") && left.contains("eve@e.example"), "{left}");
            let told: Vec<String> = db.versions("person", "7").await.iter().map(|v| v.row[2].1.to_string()).collect();
            assert_eq!(told, ["(redacted)", "(redacted)", "(redacted)", "(redacted)", "(redacted)", "x"]);
            assert_eq!(db.versions("person", "1").await.last().unwrap().row[2].1.to_string(), "eve@e.example");
            db.verify().await;
            over(db).await;
        }
    }
}

on_every_database! {
    async fn what_was_redacted_is_not_written_back_as_nothing(db: &mut TestDb) {
        for storage in STORAGES {
            let then = people(db, storage).await;
            let versions = db.versions("person", "1").await;
            let tx = versions[3].header.tx.clone();
            redact(db, "1").await;
            redact(db, "2").await;
            let by = officer();
            let audit = &db.audit;
            let refused = |error: afterimage::Error| {
                assert_eq!(error.kind(), ErrorKind::Unknowable, "{error}");
                assert!(error.to_string().contains("redacted"), "{error}");
            };
            refused(audit.revert(&Revert::new("person", "1", Selector::Number(1)), &by).await.unwrap_err());
            refused(audit.revert(&Revert::new("person", "1", Selector::Number(1)).fields(["email"]), &by).await.unwrap_err());
            refused(audit.restore(&Restore::new("person", "2"), &by).await.unwrap_err());
            refused(audit.revert_table(&RevertTable::new("person", then.clone()), &by).await.unwrap_err());
            if let Some(tx) = tx {
                refused(audit.revert_transaction(&RevertTransaction::new(tx), &by).await.unwrap_err());
            }
            let preview = audit.preview_revert("person", "1", &Selector::Number(1)).await.unwrap();
            let email = preview.fields.iter().find(|field| field.field == "email").unwrap();
            assert_eq!(email.obstacle, Some(Obstacle::Redacted));
            // What is known comes back.
            audit.revert(&Revert::new("person", "1", Selector::Number(1)).fields(["name"]), &by).await.unwrap();
            audit.restore(&Restore::new("person", "2").set("email", Some("new".to_owned())), &by).await.unwrap();
            let names = RevertTable::new("person", then).fields(["name"]).conflicts(Conflicts::Overwrite);
            audit.revert_table(&names, &by).await.unwrap();
            assert_eq!(db.text("SELECT name || email FROM person WHERE id = 1").await.unwrap(), "Annegone");
            assert_eq!(db.text("SELECT name || email FROM person WHERE id = 2").await.unwrap(), "Bobnew");
            db.verify().await;
            over(db).await;
        }
    }
}

on_every_database! {
    async fn a_redaction_is_refused_under_a_hold_without_a_reason_and_for_a_key(db: &mut TestDb) {
        people(db, Storage::Snapshot).await;
        let request = Redact::new("person", "1").fields(["email"]);
        let kind = |refused: Result<Redacted, afterimage::Error>| {
            let error = refused.unwrap_err();
            (error.kind(), error.to_string())
        };
        let (no_reason, said) = kind(db.audit.redact(&request, &Context::actor("x")).await);
        assert!(no_reason == ErrorKind::InvalidInput && said.contains("reason"), "{said}");
        for (fields, why) in [(&["id"][..], "key"), (&["emial"], "did you mean"), (&[], "which fields")] {
            let (wrong, said) = kind(db.audit.redact(&Redact::new("person", "1").fields(fields.to_vec()), &officer()).await);
            assert!(wrong == ErrorKind::InvalidInput && said.contains(why), "{said}");
        }
        let why = Context::actor("counsel").reason("case 7");
        let row = db.audit.hold("person", Some("1"), &why).await.unwrap();
        assert_eq!(kind(db.audit.redact(&request, &officer()).await).0, ErrorKind::Conflict);
        assert_eq!(redact(db, "2").await.records, 2);
        db.audit.lift_hold(row, &why).await.unwrap();
        db.audit.hold("person", None, &why).await.unwrap();
        assert!(kind(db.audit.redact(&request, &officer()).await).1.contains("case 7"));
        assert_eq!(db.audit.as_of(&AsOfQuery::new("person", PointInTime::Now)).await.unwrap().rows.len(), 1);
        assert!(stored(db).await.contains("ann@a.example"));
    }
}

on_every_database! {
    async fn a_key_column_that_is_renamed_loses_neither_holds_nor_redactions(db: &mut TestDb) {
        db.run("CREATE TABLE pair (a INTEGER, b INTEGER, mail TEXT, PRIMARY KEY (a, b))").await;
        db.track("pair", Tracking::new()).await;
        for sql in ["INSERT INTO pair VALUES (1, 2, 'a@x'), (2, 1, 'b@x')", "UPDATE pair SET mail = ''"] {
            db.tick().await;
            db.run(sql).await;
        }
        let request = |key: &str| Redact::new("pair", key).fields(["mail"]);
        assert_eq!(db.audit.redact(&request("a=1,b=2"), &officer()).await.unwrap().records, 1);
        db.audit.hold("pair", Some("a=2,b=1"), &officer()).await.unwrap();
        db.alter("pair", "ALTER TABLE pair RENAME COLUMN a TO aa").await;
        if !db.is_mariadb() {
            db.alter("pair", "ALTER TABLE pair RENAME COLUMN b TO a").await;
        }
        let key = |first: &str, second: &str| db.by3(format!("aa={first},a={second}"), format!("aa={first},a={second}"), format!("aa={first},b={second}"));
        let versions = db.versions("pair", &key("1", "2")).await;
        assert_eq!(versions[0].row[2].1, Value::Redacted);
        let held = db.audit.redact(&request(&key("2", "1")), &officer()).await.unwrap_err();
        assert_eq!(held.kind(), ErrorKind::Conflict);
        let holds = db.audit.holds().await.unwrap();
        let shown: serde_json::Value = serde_json::from_str(holds[0].1.key.as_deref().unwrap()).unwrap();
        assert_eq!(shown["aa"], 2);
        let keep = afterimage::Prune::new().tables(["pair"]).keep(afterimage::Retention::versions(1));
        assert_eq!(db.audit.prune(&keep, &officer()).await.unwrap()[0].records, 1);
        db.verify().await;
    }
}

on_every_database! {
    async fn whoever_had_the_key_before_is_somebody_else(db: &mut TestDb) {
        for storage in STORAGES {
            people(db, storage).await;
            db.run("INSERT INTO person VALUES (2, 'Eve', 'eve@e.example')").await;
            db.tick().await;
            db.run("UPDATE person SET email = '' WHERE id = 2").await;
            let done = redact(db, "2").await;
            assert_eq!((done.records, done.other_lives), (1, 1));
            let left = stored(db).await;
            assert!(left.contains("bob@") && !left.contains("eve@"), "{left}");
            let all = Redact::new("person", "2").fields(["email"]).every_life(true);
            assert_eq!(db.audit.redact(&all, &officer()).await.unwrap().records, 2);
            assert!(!stored(db).await.contains("bob@"));
            db.verify().await;
            over(db).await;
        }
    }
}

on_every_database! {
    async fn a_row_that_came_back_to_its_key_is_one_row(db: &mut TestDb) {
        for storage in STORAGES {
            people(db, storage).await;
            for id in [7, 1] {
                db.tick().await;
                db.run(&format!("UPDATE person SET id = {id} WHERE name = 'Anne'")).await;
            }
            db.tick().await;
            db.run("UPDATE person SET email = 'z' WHERE id = 1").await;
            let done = redact(db, "1").await;
            assert_eq!((done.records, done.other_lives), (6, 0));
            let left = stored(db).await;
            assert!(!left.contains("ann@") && !left.contains("gone"), "{left}");
            db.verify().await;
            over(db).await;
        }
    }
}

#[tokio::test]
async fn of_keys_that_were_all_shifted_each_row_is_its_own() {
    for storage in STORAGES {
        let mut db = TestDb::postgres().await;
        db.run("CREATE TABLE person (id INTEGER PRIMARY KEY DEFERRABLE, name TEXT, email TEXT)").await;
        db.track("person", Tracking::new().storage(storage)).await;
        db.run("INSERT INTO person VALUES (1, 'one', '1@x'), (2, 'two', '2@x'), (3, 'three', '3@x')").await;
        db.run("UPDATE person SET id = id + 1").await;
        db.run("UPDATE person SET email = '' WHERE id IN (3, 4)").await;
        let names: Vec<String> =
            db.versions("person", "4").await.iter().map(|v| v.row[1].1.to_string()).collect();
        assert_eq!(names, ["three", "three", "three"]);
        redact(&db, "4").await;
        let left = stored(&mut db).await;
        assert!(!left.contains("3@x") && left.contains("2@x") && left.contains("1@x"), "{left}");
        assert_eq!(redact(&db, "3").await.other_lives, 1);
        let left = stored(&mut db).await;
        assert!(!left.contains("2@x") && left.contains("1@x"), "{left}");
        let log = db.audit.log(&LogQuery::parse("table:person key:4").unwrap()).await.unwrap();
        let moved = log.entries.iter().find(|entry| entry.header.old_key.is_some()).unwrap();
        let mail = moved.changes.iter().find(|change| change.field == "email");
        assert!(mail.is_none_or(|change| change.old == Value::Redacted), "{moved:?}");
    }
}

#[tokio::test]
async fn a_baseline_that_came_late_is_redacted_too() {
    let mut db = TestDb::postgres().await;
    db.run("CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT, email TEXT)").await;
    db.track("person", Tracking::new()).await;
    db.run("SET session_replication_role = replica; INSERT INTO person VALUES (1, 'Ann', 'ann@a.example'); SET session_replication_role = origin").await;
    db.run("UPDATE person SET name = 'Anne'; UPDATE person SET email = ''").await;
    // As a baseline in batches writes it: dated at the install, with a number of today.
    db.run("INSERT INTO person_history (history_date, history_tx, history_type, history_changed, id, name, email) SELECT since, 1, '+', 15, 1, 'Ann', 'ann@a.example' FROM afterimage.tracked").await;
    assert_eq!(redact(&db, "1").await.records, 2);
    assert!(!stored(&mut db).await.contains("ann@"));
    let told: Vec<String> = db.versions("person", "1").await.iter().map(|v| v.row[2].1.to_string()).collect();
    assert_eq!(told, ["(redacted)", "(redacted)", ""]);
}

on_every_database! {
    async fn what_was_null_is_not_said_to_have_been_redacted(db: &mut TestDb) {
        for storage in STORAGES {
            db.run("CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT, email TEXT)").await;
            db.track("person", Tracking::new().storage(storage)).await;
            let mut moments = Vec::new();
            for sql in ["INSERT INTO person VALUES (1, 'a', NULL)", "UPDATE person SET email = 'x'", "UPDATE person SET email = NULL", "UPDATE person SET email = 'y'", "UPDATE person SET email = NULL, name = 'b'"] {
                db.tick().await;
                db.run(sql).await;
                moments.push(db.moment().await);
            }
            assert_eq!(redact(db, "1").await.records, 2);
            let told: Vec<String> = db.versions("person", "1").await.iter().skip(1).map(|v| changes(v).join("; ")).collect();
            assert_eq!(told, ["email: ∅ -> (redacted)", "email: (redacted) -> ∅", "email: ∅ -> (redacted)", "name: a -> b; email: (redacted) -> ∅"]);
            for (at, redacted) in moments.into_iter().zip([false, true, false, true, false]) {
                let email = &db.as_of("person", at).await[0]["email"];
                assert_eq!(email.is_object(), redacted, "{email}");
            }
            db.verify().await;
            over(db).await;
        }
    }
}
