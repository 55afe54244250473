//! Tables that change their shape: the history follows, and as-of shows each time's own columns (law 9).

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support::*;
use afterimage::{Context, State, Tracking};
use serde_json::{Value as Json, json};

/// By which road a schema change comes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Road {
    /// Some other tool changes the table; `migrate` comes after.
    Migrate,
    /// The library changes it and follows in one transaction.
    Alter,
    /// What `plan --after` prints, run by a plain client.
    Plan,
}

const ROADS: [Road; 3] = [Road::Migrate, Road::Alter, Road::Plan];

/// MariaDB commits at every change of a schema: the other roads need a transaction around it, and are refused.
fn roads(db: &TestDb) -> &'static [Road] {
    if db.is_mariadb() { &ROADS[..1] } else { &ROADS }
}

async fn change(db: &mut TestDb, road: Road, table: &str, ddl: &str) {
    db.tick().await;
    match road {
        Road::Migrate => {
            db.run(ddl).await;
            db.audit.migrate(&[], &[]).await.unwrap_or_else(|error| panic!("{ddl}: {error}"));
        }
        Road::Alter => {
            let mut tx = db.audit.begin(&Context::actor("dba")).await.unwrap();
            tx.alter(table, ddl).await.unwrap_or_else(|error| panic!("{ddl}: {error}"));
            tx.commit().await.unwrap();
        }
        Road::Plan => {
            let plan = db.audit.plan_after(table, ddl).await.unwrap_or_else(|error| panic!("{ddl}: {error}"));
            db.run(&format!("BEGIN;\n{};\nCOMMIT", plan.plan.up.join(";\n"))).await;
        }
    }
    for status in db.audit.status().await.unwrap() {
        assert_eq!(status.state, State::Ok, "{road:?} {ddl}: {:?}", status.faults);
    }
    db.verify().await;
    db.tick().await;
}

async fn rows(db: &TestDb, table: &str) -> Vec<Json> {
    db.as_of(table, now()).await
}

on_every_database! {
    async fn columns_come_go_and_come_back(db: &mut TestDb) {
        for &road in roads(db) {
            for storage in STORAGES {
                // On SQLite a column that a trigger names cannot be dropped: that takes the library, or a plan.
                let drops = !(db.is_sqlite() && road == Road::Migrate);
                db.run("CREATE TABLE item (id int PRIMARY KEY, a int, b text)").await;
                db.track("item", Tracking::new().storage(storage)).await;
                db.run("INSERT INTO item VALUES (1, 1, 'one'), (2, 2, 'two')").await;
                let first = db.moment().await;
                change(db, road, "item", "ALTER TABLE item ADD COLUMN c int").await;
                change(db, road, "item", "ALTER TABLE item ADD COLUMN d text NOT NULL DEFAULT 'it''s'").await;
                assert_eq!(rows(db, "item").await[0], json!({"id": 1, "a": 1, "b": "one", "c": null, "d": "it's"}));
                assert_eq!(db.as_of("item", first.clone()).await[0], json!({"id": 1, "a": 1, "b": "one"}));
                db.run("UPDATE item SET c = 3, d = 'x' WHERE id = 1").await;
                let life = db.versions("item", "1").await;
                assert_eq!(changes(life.last().unwrap()), ["c: ∅ -> 3", "d: it's -> x"], "{road:?} {storage:?}");
                db.run("INSERT INTO item VALUES (3, 3, 'three', 3, 'y')").await;
                let second = db.moment().await;
                if drops {
                    change(db, road, "item", "ALTER TABLE item DROP COLUMN b").await;
                    assert_eq!(rows(db, "item").await[1], json!({"id": 2, "a": 2, "c": null, "d": "it's"}));
                    assert_eq!(db.as_of("item", second.clone()).await[1], json!({"id": 2, "a": 2, "b": "two", "c": null, "d": "it's"}));
                    change(db, road, "item", "ALTER TABLE item ADD COLUMN b int DEFAULT 7").await;
                    db.run("UPDATE item SET b = 8 WHERE id = 2").await;
                    assert_eq!(changes(db.versions("item", "2").await.last().unwrap()), ["b: 7 -> 8"]);
                    assert_eq!(db.as_of("item", second.clone()).await[1]["b"], "two");
                    assert_eq!(db.as_of("item", first).await[0], json!({"id": 1, "a": 1, "b": "one"}));
                }
                db.run("DELETE FROM item").await;
                db.verify().await;
                db.audit.untrack("item", true).await.unwrap();
                db.run("DROP TABLE item").await;
            }
        }
    }
}

on_every_database! {
    async fn columns_are_renamed(db: &mut TestDb) {
        for &road in roads(db) {
            for storage in STORAGES {
                db.run("CREATE TABLE item (id int PRIMARY KEY, a int, secret text, quiet int, \"group\" int)").await;
                db.track("item", Tracking::new().storage(storage).mask(["secret"]).exclude(["quiet"]).label("a")).await;
                db.run("INSERT INTO item VALUES (1, 1, 's3cret', 1, 1)").await;
                let first = db.moment().await;
                change(db, road, "item", "ALTER TABLE item RENAME COLUMN a TO \"order\"").await;
                change(db, road, "item", "ALTER TABLE item RENAME COLUMN secret TO password").await;
                change(db, road, "item", "ALTER TABLE item RENAME COLUMN quiet TO still").await;
                change(db, road, "item", "ALTER TABLE item RENAME COLUMN id TO number").await;
                db.run("UPDATE item SET \"order\" = 2, password = 'h1dden', still = 2").await;
                let life = db.versions("item", "1").await;
                assert_eq!(life.iter().map(|v| v.header.action.sign()).collect::<String>(), "+~", "{road:?}: a rename is no change of a row");
                assert_eq!(changes(&life[1]), ["order: 1 -> 2", "password: ••• -> •••"]);
                assert_eq!(rows(db, "item").await, [json!({"number": 1, "order": 2, "password": {"$masked": true}, "group": 1})]);
                assert_eq!(db.as_of("item", first).await, [json!({"id": 1, "a": 1, "secret": {"$masked": true}, "group": 1})]);
                let tracking = db.audit.tracking("item").await.unwrap().unwrap();
                assert_eq!((tracking.mask, tracking.exclude, tracking.label), (vec!["password".into()], vec!["still".into()], Some("order".into())));
                let sql = db.by3("SELECT sql || (SELECT group_concat(quote(secret)) FROM item_history) FROM sqlite_schema WHERE name = 'item_history'", "SELECT string_agg(h::text, '') FROM item_history AS h", "SELECT GROUP_CONCAT(CONCAT_WS(',', secret, history_old_key)) FROM item_history");
                let history = db.text(sql).await.unwrap();
                assert!(!history.contains("s3cret") && !history.contains("h1dden"), "{history}");
                // A name that is free again.
                change(db, road, "item", "ALTER TABLE item ADD COLUMN a text DEFAULT 'new'").await;
                db.run("UPDATE item SET a = 'newer'").await;
                assert_eq!(changes(db.versions("item", "1").await.last().unwrap()), ["a: new -> newer"]);
                db.audit.untrack("item", true).await.unwrap();
                db.run("DROP TABLE item").await;
            }
        }
    }
}

on_every_database! {
    async fn tables_are_renamed(db: &mut TestDb) {
        for &road in roads(db) {
            for storage in STORAGES {
                db.run("CREATE TABLE item (id int PRIMARY KEY, a int)").await;
                db.track("item", Tracking::new().storage(storage)).await;
                db.run("INSERT INTO item VALUES (1, 1)").await;
                change(db, road, "item", "ALTER TABLE item RENAME TO thing").await;
                db.run("UPDATE thing SET a = 2; CREATE TABLE item (id int PRIMARY KEY); INSERT INTO item VALUES (9)").await;
                assert_eq!(db.signs("thing", "1").await, "+~");
                assert!(message(db.audit.history("item", "9").await).contains("not tracked"));
                db.verify().await;
                if db.is_postgres() {
                    db.run("CREATE SCHEMA IF NOT EXISTS elsewhere").await;
                    change(db, road, "thing", "ALTER TABLE thing SET SCHEMA elsewhere").await;
                    db.run("UPDATE elsewhere.thing SET a = 3").await;
                    assert_eq!(db.signs("elsewhere.thing", "1").await, "+~~");
                }
                db.audit.untrack("thing", true).await.unwrap();
                db.run(db.by("DROP TABLE thing; DROP TABLE item", "DROP TABLE elsewhere.thing; DROP TABLE item")).await;
            }
        }
    }
}

#[tokio::test]
async fn types_change_on_postgres() {
    for road in ROADS {
        for storage in STORAGES {
            let mut db = TestDb::postgres().await;
            db.run("CREATE TABLE item (id int PRIMARY KEY, n int, t varchar(10), x numeric(6, 2), m text, secret int)").await;
            db.track("item", Tracking::new().storage(storage).mask(["secret"])).await;
            db.run(
                "INSERT INTO item VALUES (1, 7, 'seven', 1.50, '12', 5), (2, NULL, NULL, NULL, NULL, NULL)",
            )
            .await;
            let first = db.moment().await;
            for ddl in [
                "ALTER TABLE item ALTER n TYPE bigint",
                "ALTER TABLE item ALTER t TYPE varchar(20)",
                "ALTER TABLE item ALTER t TYPE text",
                "ALTER TABLE item ALTER x TYPE numeric(8, 3)",
                "ALTER TABLE item ALTER m TYPE int USING m::int",
                "ALTER TABLE item ALTER secret TYPE text",
                "ALTER TABLE item ALTER n TYPE text, ADD COLUMN extra timestamptz DEFAULT '2020-01-01Z'",
            ] {
                change(&mut db, road, "item", ddl).await;
            }
            let before =
                json!({"id": 1, "n": 7, "t": "seven", "x": "1.50", "m": "12", "secret": {"$masked": true}});
            assert_eq!(db.as_of("item", first).await[0], before, "{road:?}");
            let today = &rows(&db, "item").await[0];
            assert_eq!((&today["n"], &today["x"], &today["m"]), (&json!("7"), &json!("1.500"), &json!(12)));
            db.run("UPDATE item SET n = 'eight', m = 13").await;
            assert_eq!(
                changes(db.versions("item", "1").await.last().unwrap()),
                ["n: 7 -> eight", "m: 12 -> 13"]
            );
            db.verify().await;
        }
    }
}

#[tokio::test]
async fn renamed_dropped_and_added_in_one_go_on_postgres() {
    for storage in STORAGES {
        for road in [Road::Alter, Road::Plan] {
            let mut db = TestDb::postgres().await;
            db.run("CREATE TABLE item (id int PRIMARY KEY, a int, b int, c int)").await;
            db.track("item", Tracking::new().storage(storage)).await;
            db.run("INSERT INTO item VALUES (1, 10, 20, 30)").await;
            let first = db.moment().await;
            change(
                &mut db,
                road,
                "item",
                "ALTER TABLE item RENAME a TO was_a; ALTER TABLE item RENAME b TO a; ALTER TABLE item DROP c; ALTER TABLE item ADD c int DEFAULT 5",
            )
            .await;
            db.run("UPDATE item SET was_a = 11, a = 21, c = 6").await;
            let life = db.versions("item", "1").await;
            assert_eq!(changes(life.last().unwrap()), ["was_a: 10 -> 11", "a: 20 -> 21", "c: 5 -> 6"]);
            assert_eq!(db.as_of("item", first).await, [json!({"id": 1, "a": 10, "b": 20, "c": 30})]);
        }
    }
}

/// Defaults that differ from row to row: nobody recorded them as they came, so `migrate` does.
#[tokio::test]
async fn a_default_of_its_own_for_every_row() {
    for storage in STORAGES {
        for road in ROADS {
            let mut db = TestDb::postgres().await;
            db.run("CREATE TABLE item (id int PRIMARY KEY); INSERT INTO item SELECT generate_series(1, 20)")
                .await;
            db.track("item", Tracking::new().storage(storage)).await;
            let first = db.moment().await;
            change(&mut db, road, "item", "ALTER TABLE item ADD serial bigint GENERATED ALWAYS AS IDENTITY, ADD lot float8 DEFAULT random(), ADD list int[] DEFAULT '{1,2}', ADD twice int GENERATED ALWAYS AS (id * 2) STORED").await;
            assert_eq!(db.as_of("item", first).await[4], json!({"id": 5}));
            assert_eq!(rows(&db, "item").await[4]["twice"], 10);
            assert_eq!(rows(&db, "item").await[4]["list"], json!([1, 2]));
            let life = db.versions("item", "5").await;
            assert_eq!(life.len(), 2, "{road:?}: the values of the new columns have a record");
            // Not for an instant does as-of show the columns without their values.
            let epoch = db
                .text("SELECT (extract(epoch FROM max(from_date)) * 1000000)::bigint FROM afterimage.epoch")
                .await
                .unwrap();
            let then = afterimage::PointInTime::At(afterimage::Moment::from_micros(epoch.parse().unwrap()));
            assert_eq!(db.as_of("item", then).await[4]["twice"], 10, "{road:?}");
        }
    }
}

#[tokio::test]
async fn a_table_rebuilt_on_sqlite() {
    let rebuild = "CREATE TABLE new_item (id INTEGER PRIMARY KEY, a TEXT, extra INTEGER DEFAULT 4, b TEXT); INSERT INTO new_item (id, a, b) SELECT id, a, b FROM item; DROP TABLE item; ALTER TABLE new_item RENAME TO item";
    for storage in STORAGES {
        for road in ROADS {
            let mut db = TestDb::sqlite().await;
            db.run("CREATE TABLE item (id INTEGER PRIMARY KEY, a INTEGER, b TEXT)").await;
            db.track("item", Tracking::new().storage(storage)).await;
            db.run("INSERT INTO item VALUES (1, 1, 'one'), (2, 2, 'two')").await;
            let first = db.moment().await;
            db.run("UPDATE item SET a = 3 WHERE id = 2").await;
            if road == Road::Migrate {
                db.run(&format!("BEGIN; {rebuild}; COMMIT")).await;
                // Its triggers went with it: what was written since is not known.
                assert_eq!(db.audit.status().await.unwrap()[0].state, State::Missing);
                db.run("UPDATE item SET b = 'unseen' WHERE id = 2").await;
                let migrated = db.audit.migrate(&[], &[]).await.unwrap().remove(0);
                assert!(migrated.gap);
                db.tick().await;
            } else {
                change(&mut db, road, "item", rebuild).await;
            }
            assert_eq!(db.audit.status().await.unwrap()[0].state, State::Ok);
            assert_eq!(db.as_of("item", first).await[0], json!({"id": 1, "a": 1, "b": "one"}));
            assert_eq!(
                rows(&db, "item").await[0],
                json!({"id": 1, "a": "1", "extra": 4, "b": "one"}),
                "{road:?} {storage:?}"
            );
            db.run("UPDATE item SET extra = 5, b = 'x' WHERE id = 1").await;
            assert_eq!(
                changes(db.versions("item", "1").await.last().unwrap()),
                ["extra: 4 -> 5", "b: one -> x"]
            );
            db.verify().await;
        }
    }
}

/// On SQLite a column's number is its place: after a drop it says nothing about what the column was.
#[tokio::test]
async fn a_rename_is_not_guessed_where_something_was_dropped() {
    for storage in STORAGES {
        let mut db = TestDb::sqlite().await;
        db.run("CREATE TABLE item (id INTEGER PRIMARY KEY, a INTEGER, b INTEGER, c INTEGER)").await;
        db.track("item", Tracking::new().storage(storage)).await;
        db.run("INSERT INTO item VALUES (1, 10, 20, 30)").await;
        let first = db.moment().await;
        change(
            &mut db,
            Road::Alter,
            "item",
            "ALTER TABLE item DROP COLUMN b; ALTER TABLE item RENAME COLUMN c TO d",
        )
        .await;
        assert_eq!(db.as_of("item", first).await, [json!({"id": 1, "a": 10, "b": 20, "c": 30})]);
        assert_eq!(rows(&db, "item").await, [json!({"id": 1, "a": 10, "d": 30})]);
        // Told by name, it is one.
        db.run("INSERT INTO item VALUES (2, 1, 1)").await;
        change(&mut db, Road::Alter, "item", "ALTER TABLE item RENAME COLUMN d TO e").await;
        assert_eq!(db.signs("item", "2").await, "+");
    }
}

on_every_database! {
    async fn a_table_that_is_gone(db: &mut TestDb) {
        db.run("CREATE TABLE item (id int PRIMARY KEY, a int)").await;
        db.track("item", Tracking::new()).await;
        db.run("INSERT INTO item VALUES (1, 1)").await;
        let then = db.moment().await;
        db.run("UPDATE item SET a = 2").await;
        db.run("DROP TABLE item").await;
        assert_eq!(db.audit.status().await.unwrap()[0].state, State::Gone);
        assert!(!db.audit.verify(&[]).await.unwrap()[0].is_whole());
        assert!(message(db.audit.migrate(&[], &[]).await).contains("the table is gone"));
        assert_eq!(db.as_of("item", then.clone()).await.len(), 1, "its history is still there");
        // Another table by its name is not taken for it unseen.
        db.run("CREATE TABLE item (id int PRIMARY KEY, a int); INSERT INTO item VALUES (2, 2)").await;
        assert_eq!(db.audit.status().await.unwrap()[0].state, State::Missing);
        let migrated = db.audit.migrate(&[], &[]).await.unwrap().remove(0);
        assert!(migrated.gap && migrated.resynced == 2, "{migrated:?}");
        db.verify().await;
        assert_eq!(db.as_of("item", then).await[0], json!({"id": 1, "a": 1}));
        db.audit.untrack("item", false).await.unwrap();
        assert_eq!(db.audit.status().await.unwrap()[0].state, State::Stopped);
        assert_eq!(db.signs("item", "1").await, "+~-");
    }
}

on_every_database! {
    async fn another_key_cannot_be_followed(db: &mut TestDb) {
        db.run("CREATE TABLE item (id int PRIMARY KEY, a int NOT NULL)").await;
        db.track("item", Tracking::new()).await;
        db.run("INSERT INTO item VALUES (1, 1)").await;
        let change = db.by3(
            "CREATE TABLE other (id int, a int NOT NULL, PRIMARY KEY (id, a)); DROP TABLE item; ALTER TABLE other RENAME TO item",
            "ALTER TABLE item DROP CONSTRAINT item_pkey, ADD PRIMARY KEY (id, a)",
            "ALTER TABLE item DROP PRIMARY KEY, ADD PRIMARY KEY (id, a)",
        );
        let said = message(db.audit.plan_after("item", change).await);
        let expected = db.by3("its key was (id) and is (id, a) now", "its key was (id) and is (id, a) now", "without making it");
        assert!(said.contains(expected), "{said}");
        db.run(change).await;
        let said = message(db.audit.migrate(&[], &[]).await);
        assert!(said.contains("untrack it"), "{said}");
        assert_ne!(db.audit.status().await.unwrap()[0].state, State::Ok);
    }
}

on_every_database! {
    async fn a_change_that_fails_leaves_everything_as_it_was(db: &mut TestDb) {
        db.run("CREATE TABLE item (id int PRIMARY KEY, a int)").await;
        db.track("item", Tracking::new()).await;
        let mut tx = db.audit.begin(&Context::new()).await.unwrap();
        assert!(tx.alter("item", "ALTER TABLE item DROP COLUMN nowhere").await.is_err());
        drop(tx);
        assert!(db.audit.plan_after("item", "ALTER TABLE item ADD COLUMN").await.is_err());
        assert!(db.audit.plan_after("item", "DROP TABLE item").await.is_err());
        db.run("INSERT INTO item VALUES (1, 1)").await;
        assert_eq!(db.audit.status().await.unwrap()[0].state, State::Ok);
        assert_eq!(db.signs("item", "1").await, "+");
        db.verify().await;
    }
}

#[tokio::test]
async fn doctor_says_that_writes_fail_until_a_column_is_followed() {
    let mut db = TestDb::postgres().await;
    db.run("CREATE TABLE item (id int PRIMARY KEY, a int, b int)").await;
    db.track("item", Tracking::new()).await;
    db.run("INSERT INTO item VALUES (1, 1, 1)").await;
    for change in ["ALTER TABLE item RENAME a TO c", "ALTER TABLE item DROP b"] {
        db.run(change).await;
        assert!(db.try_run("UPDATE item SET id = 2").await.is_err(), "nothing is lost in silence");
        let worst = db.audit.doctor().await.unwrap().remove(0);
        assert_eq!(worst.severity, afterimage::Severity::Danger);
        assert!(worst.finding.contains("writes fail"), "{worst:?}");
        db.audit.migrate(&[], &[]).await.unwrap();
        db.run("UPDATE item SET id = id + 1").await;
    }
    db.verify().await;
}
