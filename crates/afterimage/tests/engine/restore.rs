//! Every way back, and what stands in it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support::*;
use afterimage::{
    Conflicts, Context, ErrorKind, Restore, Revert, RevertTable, RevertTransaction, Selector, Storage,
    Tracking,
};

fn why(reason: &str) -> Context {
    Context::actor("9").reason(reason)
}

async fn doc(db: &mut TestDb, storage: Storage) {
    db.run("CREATE TABLE doc (id INTEGER PRIMARY KEY, rank INTEGER, note TEXT)").await;
    db.track("doc", Tracking::new().storage(storage)).await;
    db.run("INSERT INTO doc VALUES (1, 1, 'first')").await;
    db.tick().await;
    db.run("UPDATE doc SET rank = 2, note = NULL").await;
    db.tick().await;
    db.run("UPDATE doc SET rank = 3").await;
    db.tick().await;
}

async fn all(db: &mut TestDb, table: &str) -> Vec<String> {
    let concat = match table {
        "doc" => "id || ':' || coalesce(CAST(rank AS TEXT), '∅') || ':' || coalesce(note, '∅')",
        "parent" => "id || ':' || name",
        _ => "id || ':' || coalesce(CAST(parent AS TEXT), '∅') || ':' || text",
    };
    db.lines(&format!("SELECT {concat} FROM {table} ORDER BY id")).await
}

on_every_database! {
    async fn a_revert_writes_one_record_that_names_what_it_restored_from(db: &mut TestDb) {
        for storage in STORAGES {
            doc(db, storage).await;
            let done = db.audit.revert(&Revert::new("doc", "1", Selector::Number(1)), &why("mistake")).await.unwrap();
            assert_eq!((done.records, done.entries.len()), (1, 1));
            assert_eq!(all(db, "doc").await, ["1:1:first"]);
            let versions = db.versions("doc", "1").await;
            assert_eq!(versions.len(), 4);
            let last = versions.last().unwrap();
            assert_eq!((last.header.user.as_deref(), last.header.reason.as_deref()), (Some("9"), Some("mistake")));
            let context: serde_json::Value = serde_json::from_str(last.header.context.as_deref().unwrap()).unwrap();
            assert_eq!(context["restored_from"]["version"], 1);
            assert_eq!(context["restored_from"]["history_id"], versions[0].header.id);
            assert_eq!(row(last), row(&versions[0]));
            db.verify().await;
            // A second revert finds it so already, and writes nothing.
            let again = db.audit.revert(&Revert::new("doc", "1", Selector::Number(1)), &why("twice")).await.unwrap();
            assert_eq!(again.records, 0);
            assert_eq!(db.versions("doc", "1").await.len(), 4);
            db.audit.untrack("doc", true).await.unwrap();
            db.run("DROP TABLE doc").await;
        }
    }
}

on_every_database! {
    async fn chosen_fields_leave_the_others_alone(db: &mut TestDb) {
        doc(db, Storage::Delta).await;
        let request = Revert::new("doc", "1", Selector::Number(1)).fields(["note"]);
        db.audit.revert(&request, &why("note only")).await.unwrap();
        assert_eq!(all(db, "doc").await, ["1:3:first"]);
        for (field, complaint) in [("nte", "did you mean \"note\"?"), ("id", "is of the key")] {
            let request = Revert::new("doc", "1", Selector::Number(1)).fields([field]);
            let refused = message(db.audit.revert(&request, &why("x")).await);
            assert!(refused.contains(complaint), "{refused}");
        }
    }
}

on_every_database! {
    async fn a_dry_run_says_what_would_be_written_and_writes_nothing(db: &mut TestDb) {
        doc(db, Storage::Snapshot).await;
        let request = Revert::new("doc", "1", Selector::Previous).dry_run(true);
        let would = db.audit.revert(&request, &why("x")).await.unwrap();
        assert!(would.dry_run);
        assert_eq!(would.entries[0].changes[0].new.to_string(), "2");
        assert_eq!(all(db, "doc").await, ["1:3:∅"]);
        assert_eq!(db.versions("doc", "1").await.len(), 3);
    }
}

on_every_database! {
    async fn a_stale_revert_is_refused_and_shows_three_states(db: &mut TestDb) {
        doc(db, Storage::Snapshot).await;
        let request = Revert::new("doc", "1", Selector::Number(1)).expect(Selector::Number(2));
        let error = db.audit.revert(&request, &why("x")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        let stale = error.stale().unwrap();
        assert_eq!([stale.then.number, stale.target.number, stale.now.number], [2, 1, 3]);
        assert_eq!(all(db, "doc").await, ["1:3:∅"]);
        let fresh = Revert::new("doc", "1", Selector::Number(1)).expect(Selector::Number(3));
        db.audit.revert(&fresh, &why("x")).await.unwrap();
    }
}

on_every_database! {
    async fn versions_that_are_not_there_are_refused(db: &mut TestDb) {
        doc(db, Storage::Snapshot).await;
        db.run("INSERT INTO doc VALUES (2, 7, 'other')").await;
        let id = db.versions("doc", "2").await[0].header.id;
        for selector in [Selector::Number(0), Selector::Number(4), Selector::Record(id)] {
            let error = db.audit.revert(&Revert::new("doc", "1", selector), &why("x")).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        }
        let missing = Revert::new("doc", "77", Selector::Previous);
        assert!(message(db.audit.revert(&missing, &why("x")).await).contains("no record of a row 77"));
        let before = Selector::parse("2001-01-01", "UTC").unwrap();
        assert!(message(db.audit.revert(&Revert::new("doc", "1", before), &why("x")).await).contains("tracked since"));
    }
}

on_every_database! {
    async fn a_deleted_row_comes_back_under_its_key(db: &mut TestDb) {
        for storage in STORAGES {
            doc(db, storage).await;
            db.run("DELETE FROM doc").await;
            let done = db.audit.restore(&Restore::new("doc", "1"), &why("undelete")).await.unwrap();
            assert_eq!(done.records, 1);
            assert_eq!(all(db, "doc").await, ["1:3:∅"]);
            assert_eq!(db.signs("doc", "1").await, "+~~-+");
            let error = db.audit.restore(&Restore::new("doc", "1"), &why("x")).await.unwrap_err();
            assert!(error.to_string().contains("is not deleted"), "{error}");
            db.run("DELETE FROM doc").await;
            db.audit.revert(&Revert::new("doc", "1", Selector::Number(1)), &why("as it was")).await.unwrap();
            assert_eq!(all(db, "doc").await, ["1:1:first"]);
            let deletion = Revert::new("doc", "1", Selector::Number(4));
            assert!(message(db.audit.revert(&deletion, &why("x")).await).contains("is its deletion"));
            db.verify().await;
            db.audit.untrack("doc", true).await.unwrap();
            db.run("DROP TABLE doc").await;
        }
    }
}

on_every_database! {
    async fn a_row_that_changed_its_key_is_reverted_where_it_lives_now(db: &mut TestDb) {
        doc(db, Storage::Delta).await;
        db.run("UPDATE doc SET id = 5").await;
        db.tick().await;
        db.audit.revert(&Revert::new("doc", "5", Selector::Number(1)), &why("x")).await.unwrap();
        assert_eq!(all(db, "doc").await, ["5:1:first"]);
    }
}

on_every_database! {
    async fn masked_excluded_generated_and_gone_columns(db: &mut TestDb) {
        db.run(
            "CREATE TABLE doc (id INTEGER PRIMARY KEY, rank INTEGER, note TEXT, card TEXT, cache TEXT DEFAULT 'fresh', twice INTEGER GENERATED ALWAYS AS (rank * 2) STORED)",
        )
        .await;
        db.track("doc", Tracking::new().mask(["card"]).exclude(["cache"])).await;
        db.run("INSERT INTO doc (id, rank, note, card, cache) VALUES (1, 1, 'a', '4111', 'old')").await;
        db.tick().await;
        db.run("UPDATE doc SET rank = 2, cache = 'new'").await;
        db.tick().await;
        db.audit.revert(&Revert::new("doc", "1", Selector::Number(1)), &why("card stayed")).await.unwrap();
        assert_eq!(db.text("SELECT rank || cache || card || twice FROM doc").await.unwrap(), "1new41112");
        db.tick().await;
        db.run("UPDATE doc SET card = '5555', rank = 9").await;
        db.tick().await;
        let refused = message(db.audit.revert(&Revert::new("doc", "1", Selector::Number(1)), &why("x")).await);
        assert!(refused.contains("\"card\" is masked") && refused.contains("rank, note"), "{refused}");
        db.audit.revert(&Revert::new("doc", "1", Selector::Number(1)).fields(["rank"]), &why("x")).await.unwrap();
        assert_eq!(db.text("SELECT rank || card FROM doc").await.unwrap(), "15555");
        for field in ["card", "twice", "cache"] {
            let request = Revert::new("doc", "1", Selector::Number(1)).fields([field]);
            assert!(db.audit.revert(&request, &why("x")).await.is_err(), "{field}");
        }
        db.run("DELETE FROM doc").await;
        let refused = message(db.audit.restore(&Restore::new("doc", "1"), &why("x")).await);
        assert!(refused.contains("--set 'card=…'"), "{refused}");
        let with = Restore::new("doc", "1").set("card", Some("none".into()));
        db.audit.restore(&with, &why("x")).await.unwrap();
        assert_eq!(db.text("SELECT rank || cache || card || twice FROM doc").await.unwrap(), "1freshnone2");
        db.alter("doc", "ALTER TABLE doc DROP COLUMN note").await;
        db.tick().await;
        let request = Revert::new("doc", "1", Selector::Number(1));
        let refused = message(db.audit.revert(&request, &why("x")).await);
        assert!(refused.contains("masked") || refused.contains("\"note\" is gone"), "{refused}");
        db.audit.revert(&request.fields(["rank"]), &why("x")).await.unwrap();
    }
}

async fn family(db: &mut TestDb, storage: Storage) {
    db.run(
        "CREATE TABLE parent (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
         CREATE TABLE child (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES parent ON DELETE CASCADE, text TEXT NOT NULL)",
    )
    .await;
    for table in ["parent", "child"] {
        db.track(table, Tracking::new().storage(storage)).await;
    }
    db.run("INSERT INTO parent VALUES (1, 'ann'), (2, 'bob'); INSERT INTO child VALUES (10, 1, 'a'), (11, 1, 'b'), (20, 2, 'c')").await;
    db.tick().await;
}

/// The number of the newest transaction in the log.
async fn newest_tx(db: &TestDb) -> String {
    let page = db.audit.log(&afterimage::LogQuery::default().limit(1)).await.unwrap();
    page.entries[0].header.tx.clone().unwrap()
}

on_every_database! {
    async fn a_row_comes_back_with_what_was_deleted_with_it(db: &mut TestDb) {
        family(db, Storage::Delta).await;
        db.run_as("1", "spring cleaning", "DELETE FROM parent WHERE id = 1").await;
        db.tick().await;
        assert_eq!(all(db, "child").await, ["20:2:c"]);
        let orphan = message(db.audit.restore(&Restore::new("child", "10"), &why("x")).await);
        assert!(orphan.contains("refers by parent to the row id=1 of parent, which is not there"), "{orphan}");
        let done = db.audit.restore(&Restore::new("parent", "1").related(true), &why("undo")).await.unwrap();
        assert_eq!(done.records, 3);
        assert_eq!(all(db, "child").await, ["10:1:a", "11:1:b", "20:2:c"]);
        db.verify().await;
    }
}

on_every_database! {
    async fn a_whole_transaction_is_undone_in_the_order_of_its_keys(db: &mut TestDb) {
        for storage in STORAGES {
            family(db, storage).await;
            let before = (all(db, "parent").await, all(db, "child").await);
            db.run_as(
                "1",
                "all at once",
                "UPDATE child SET text = 'z' WHERE id = 20; DELETE FROM parent WHERE id = 1; INSERT INTO parent VALUES (3, 'eve');
                 INSERT INTO child VALUES (30, 3, 'd'); UPDATE child SET id = 21, parent = 3 WHERE id = 20; UPDATE parent SET name = 'rob' WHERE id = 2",
            )
            .await;
            db.tick().await;
            let tx = newest_tx(db).await;
            let would = db.audit.revert_transaction(&RevertTransaction::new(&tx).dry_run(true), &why("x")).await.unwrap();
            assert!(would.dry_run && would.records > 0);
            let done = db.audit.revert_transaction(&RevertTransaction::new(&tx), &why("undo")).await.unwrap();
            assert_eq!(done.records, would.records);
            assert_eq!((all(db, "parent").await, all(db, "child").await), before, "{storage}");
            db.verify().await;
            assert!(done.entries.iter().all(|entry| entry.header.context_member("restored_from").unwrap().contains(&tx)));
            // Undone once, its rows have changed since.
            let again = db.audit.revert_transaction(&RevertTransaction::new(&tx), &why("twice")).await.unwrap_err();
            assert_eq!(again.kind(), ErrorKind::Conflict);
            for table in ["child", "parent"] {
                db.audit.untrack(table, true).await.unwrap();
                db.run(&format!("DROP TABLE {table}")).await;
            }
        }
    }
}

on_every_database! {
    async fn a_row_changed_since_is_a_conflict_to_refuse_or_to_skip(db: &mut TestDb) {
        family(db, Storage::Snapshot).await;
        db.run_as("1", "oops", "UPDATE child SET text = 'oops'").await;
        db.tick().await;
        let tx = newest_tx(db).await;
        db.run_as("2", "right", "UPDATE child SET text = 'right' WHERE id = 11").await;
        db.tick().await;
        let refused = db.audit.revert_transaction(&RevertTransaction::new(&tx), &why("x")).await.unwrap_err();
        assert!(refused.to_string().contains("1 row has changed again since, such as child id=11"), "{refused}");
        assert!(refused.to_string().contains("by 2"), "{refused}");
        let skip = RevertTransaction::new(&tx).conflicts(Conflicts::Skip);
        let done = db.audit.revert_transaction(&skip, &why("undo")).await.unwrap();
        assert_eq!((done.records, done.conflicts.len()), (2, 1));
        assert_eq!(all(db, "child").await, ["10:1:a", "11:1:right", "20:2:c"]);
        assert!(message(db.audit.revert_transaction(&RevertTransaction::new("999999999"), &why("x")).await).contains("no record of a transaction"));
    }
}

on_every_database! {
    async fn undoing_never_takes_rows_of_others_along(db: &mut TestDb) {
        family(db, Storage::Snapshot).await;
        db.run_as("1", "new", "INSERT INTO parent VALUES (3, 'eve')").await;
        db.tick().await;
        let tx = newest_tx(db).await;
        db.run_as("2", "later", "INSERT INTO child VALUES (30, 3, 'd')").await;
        db.tick().await;
        let refused = message(db.audit.revert_transaction(&RevertTransaction::new(&tx), &why("x")).await);
        assert!(refused.contains("1 of its rows would change too"), "{refused}");
        assert_eq!(all(db, "child").await.len(), 4);
    }
}

on_every_database! {
    async fn an_update_without_its_where_is_taken_back(db: &mut TestDb) {
        for storage in STORAGES {
            family(db, storage).await;
            let then = db.moment().await;
            db.run("UPDATE child SET text = 'oops'").await;
            db.tick().await;
            db.run("INSERT INTO child VALUES (12, 1, 'new'); DELETE FROM child WHERE id = 20").await;
            db.tick().await;
            let refused = db.audit.revert_table(&RevertTable::new("child", then.clone()), &why("x")).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Conflict);
            let only = RevertTable::new("child", then.clone()).filter("id = 10");
            let overwriting = only.conflicts(Conflicts::Overwrite);
            db.audit.revert_table(&overwriting, &why("one")).await.unwrap();
            assert_eq!(all(db, "child").await, ["10:1:a", "11:1:oops", "12:1:new"]);
            let rest = RevertTable::new("child", then.clone()).conflicts(Conflicts::Overwrite);
            let done = db.audit.revert_table(&rest, &why("all")).await.unwrap();
            assert_eq!((done.records, done.stayed), (2, 1));
            assert_eq!(all(db, "child").await, ["10:1:a", "11:1:b", "12:1:new", "20:2:c"]);
            let whole = RevertTable::new("child", then).conflicts(Conflicts::Overwrite).delete_created(true);
            db.audit.revert_table(&whole, &why("all of it")).await.unwrap();
            assert_eq!(all(db, "child").await, ["10:1:a", "11:1:b", "20:2:c"]);
            db.verify().await;
            for table in ["child", "parent"] {
                db.audit.untrack(table, true).await.unwrap();
                db.run(&format!("DROP TABLE {table}")).await;
            }
        }
    }
}

on_every_database! {
    async fn nothing_is_written_back_where_the_records_may_not_tell(db: &mut TestDb) {
        doc(db, Storage::Snapshot).await;
        let bypass = db.by(
            "DROP TRIGGER afterimage_1_update",
            "SET session_replication_role = replica",
        );
        db.run(bypass).await;
        db.run("UPDATE doc SET rank = 77").await;
        db.run(db.by("", "RESET session_replication_role")).await;
        let refused = message(db.audit.revert(&Revert::new("doc", "1", Selector::Number(1)), &why("x")).await);
        assert!(refused.contains(db.by("migrate", "verify, then resync")), "{refused}");
        assert_eq!(all(db, "doc").await, ["1:77:∅"]);
    }
}

on_every_database! {
    async fn a_condition_that_is_wrong_or_writes_is_refused(db: &mut TestDb) {
        doc(db, Storage::Snapshot).await;
        let wipes = "CREATE FUNCTION wipes() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN DELETE FROM doc; RETURN true; END $$";
        db.run(db.by("", wipes)).await;
        let then = db.moment().await;
        for condition in ["no_such_column = 1", "1); DELETE FROM doc; --", "id = (DELETE FROM doc RETURNING id)", "((", "true) AS a) AS s; DELETE FROM doc; SELECT * FROM (SELECT 1 WHERE (true", "wipes()"] {
            let request = RevertTable::new("doc", then.clone()).filter(condition);
            assert!(db.audit.revert_table(&request, &why("x")).await.is_err(), "{condition}");
        }
        assert_eq!(all(db, "doc").await, ["1:3:∅"]);
    }
}

on_every_database! {
    async fn a_masked_row_that_left_its_key_cannot_be_brought_back_with_its_table(db: &mut TestDb) {
        db.run("CREATE TABLE doc (id INTEGER PRIMARY KEY, note TEXT)").await;
        db.track("doc", Tracking::new().mask(["note"])).await;
        db.run("INSERT INTO doc VALUES (1, 'secret')").await;
        let then = db.moment().await;
        db.run("UPDATE doc SET id = 2").await;
        let whole = RevertTable::new("doc", then).conflicts(Conflicts::Overwrite).delete_created(true);
        let refused = message(db.audit.revert_table(&whole, &why("x")).await);
        assert!(refused.contains("masked field"), "{refused}");
        assert_eq!(db.text("SELECT id || note FROM doc").await.unwrap(), "2secret");
    }
}
