//! Which tables can be tracked, and what is said of those that cannot: bad input gets a clear error, and nothing is
//! half done.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support::*;
use afterimage::{Storage, Tracking};
use serde_json::json;

async fn refused(db: &mut TestDb, table: &str, tracking: Tracking, expected: &str) {
    let before = things(db).await;
    let said = message(db.audit.track(table, tracking).await);
    assert!(said.contains(expected), "{table}: {said}");
    let after = things(db).await;
    let new: Vec<&String> = after.iter().filter(|name| !before.contains(name)).collect();
    assert!(new.iter().all(|name| name.contains("afterimage")), "{table} left {new:?}");
    assert!(db.audit.tracking(table).await.unwrap_or_default().is_none(), "{table}");
}

async fn things(db: &mut TestDb) -> Vec<String> {
    let sql = db.by3(
        "SELECT name FROM sqlite_schema ORDER BY 1",
        "SELECT n.nspname || '.' || relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema' UNION ALL SELECT tgname::text FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1",
        "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() UNION ALL SELECT trigger_name FROM information_schema.triggers WHERE event_object_schema = DATABASE() ORDER BY 1",
    );
    db.lines(sql).await
}

on_every_database! {
    async fn what_cannot_be_tracked_is_refused_with_the_way_out(db: &mut TestDb) {
        db.run("CREATE TABLE item (id int PRIMARY KEY, name text, secret text NOT NULL); CREATE TABLE keyless (n int); CREATE VIEW seen AS SELECT * FROM item;
                CREATE TABLE reserved (id int PRIMARY KEY, history_date int); CREATE TABLE taken (id int PRIMARY KEY); CREATE TABLE taken_history (id int)").await;
        let plain = Tracking::new();
        refused(db, "keyless", plain.clone(), "key").await;
        refused(db, "seen", plain.clone(), "a view").await;
        refused(db, "reserved", plain.clone(), "history_date").await;
        refused(db, "taken", plain.clone(), "that name is taken").await;
        refused(db, "itme", plain.clone(), "item").await;
        refused(db, "", plain.clone(), "").await;
        refused(db, "a\0b", plain.clone(), "").await;
        refused(db, "item", plain.clone().exclude(["nmae"]), "name").await;
        refused(db, "item", plain.clone().mask(["id"]), "cannot be masked").await;
        refused(db, "item", plain.clone().exclude(["id"]), "cannot be excluded").await;
        refused(db, "item", plain.clone().label("nmae"), "name").await;
        refused(db, "item", plain.clone().history("taken"), "that name is taken").await;
        db.track("taken", plain.clone().history("taken_versions")).await;
        db.run("INSERT INTO taken VALUES (1)").await;
        assert_eq!(db.signs("taken", "1").await, "+");
        assert!(message(db.audit.track("taken_versions", plain).await).contains("Afterimage's own"));
        db.verify().await;
    }
}

#[tokio::test]
async fn what_sqlite_alone_has_is_refused() {
    let mut db = TestDb::sqlite().await;
    db.run("CREATE VIRTUAL TABLE words USING fts5 (t); CREATE TEMP TABLE brief (id INTEGER PRIMARY KEY)")
        .await;
    refused(&mut db, "words", Tracking::new(), "virtual").await;
    refused(&mut db, "brief", Tracking::new(), "").await;
    refused(&mut db, "sqlite_schema", Tracking::new(), "").await;
}

#[tokio::test]
async fn what_postgres_alone_has_is_refused() {
    let mut db = TestDb::postgres().await;
    db.run(
        "CREATE TABLE item (id int PRIMARY KEY); CREATE MATERIALIZED VIEW kept AS SELECT * FROM item; CREATE SEQUENCE numbers;
         CREATE FOREIGN DATA WRAPPER far; CREATE SERVER there FOREIGN DATA WRAPPER far; CREATE FOREIGN TABLE abroad (id int) SERVER there;
         CREATE TABLE nullable_unique (id int UNIQUE); CREATE TABLE partly (id int NOT NULL, n int); CREATE UNIQUE INDEX ON partly (id) WHERE n > 0",
    )
    .await;
    for (table, expected) in [
        ("kept", "a materialised view"),
        ("numbers", "a sequence"),
        ("abroad", "a foreign table"),
        ("nullable_unique", "key"),
        ("partly", "key"),
        ("pg_catalog.pg_class", ""),
        ("nowhere.item", "there is no table"),
    ] {
        refused(&mut db, table, Tracking::new(), expected).await;
    }
    // A unique index over columns that cannot be NULL serves as a key.
    db.run("CREATE TABLE coded (code text NOT NULL UNIQUE, n int)").await;
    db.track("coded", Tracking::new()).await;
    db.run("INSERT INTO coded VALUES ('a', 1); UPDATE coded SET n = 2").await;
    assert_eq!(db.signs("coded", "a").await, "+~");
}

on_every_database! {
    async fn whatever_it_is_called(db: &mut TestDb) {
        let long = "n".repeat(63);
        let names = ["select", "a table", "with \"quotes\"", "it's", "Grüße 🦀", "semi;colon--", "per%cent", "back\\slash", "dot.ted", "$1", "{}", long.as_str()];
        for name in names {
            // MariaDB has no such characters in names.
            let name = if db.is_mariadb() { &name.replace('🦀', "ñ") } else { name };
            let quoted = format!("\"{}\"", name.replace('"', "\"\""));
            db.run(&format!("CREATE TABLE {quoted} ({quoted} int PRIMARY KEY, \"old\" text, \"new\" text, \"NEW.x\" text)")).await;
            db.run(&format!("INSERT INTO {quoted} VALUES (1, 'a', 'b', 'c')")).await;
            for storage in [Storage::Snapshot, Storage::Delta] {
                db.track(name, Tracking::new().storage(storage).mask(["old"])).await;
                db.run(&format!("UPDATE {quoted} SET \"new\" = 'x'")).await;
                db.run(&format!("INSERT INTO {quoted} VALUES (2, 'a', 'b', 'c'), (3, 'a', 'b', 'c')")).await;
                db.run(&format!("UPDATE {quoted} SET \"NEW.x\" = 'd', \"old\" = NULL")).await;
                db.run(&format!("UPDATE {quoted} SET {quoted} = 4 WHERE {quoted} = 3")).await;
                db.run(&format!("DELETE FROM {quoted} WHERE {quoted} > 1")).await;
                assert_eq!(db.signs(name, "2").await, "+~-", "{name}");
                assert_eq!(db.as_of(name, now()).await.len(), 1, "{name}");
                db.verify().await;
                db.audit.untrack(name, true).await.unwrap();
                db.run(&format!("UPDATE {quoted} SET \"new\" = 'b', \"old\" = 'a', \"NEW.x\" = 'c'")).await;
            }
        }
    }
}

#[tokio::test]
async fn tables_of_other_schemas_and_of_the_same_name() {
    let mut db = TestDb::postgres().await;
    db.run("CREATE SCHEMA \"my schema\"; CREATE TABLE \"my schema\".item (id int PRIMARY KEY); CREATE TABLE item (id int PRIMARY KEY, n int)").await;
    db.track("item", Tracking::new()).await;
    db.track("my schema.item", Tracking::new().storage(Storage::Delta)).await;
    db.run("INSERT INTO item VALUES (1, 1); INSERT INTO \"my schema\".item VALUES (1), (2)").await;
    assert_eq!(db.signs("my schema.item", "2").await, "+");
    assert_eq!(db.as_of("item", now()).await, [json!({"id": 1, "n": 1})]);
    db.verify().await;
}

/// Names that our own SQL uses for something.
const OURS: &str = "moment tx began who reason context explicit setting saved recorded olds news old new old_rows new_rows position r o n p h t c s f a b x q l m d i m0 f1 f2 d2 i2 k1 first last before problem baseline at rest present actor since state recursive action sequence key";

on_every_database! {
    async fn columns_that_are_called_like_what_our_own_sql_uses(db: &mut TestDb) {
        let names: Vec<&str> = OURS.split(' ').collect();
        let columns: Vec<String> = names.iter().map(|name| format!("\"{name}\" int")).collect();
        for key in ["id", "position", "tx", "before", "history", "old", "r", "f2", "last"] {
            for storage in [Storage::Snapshot, Storage::Delta] {
                for heir in ["", "CREATE TABLE heir () INHERITS (item)"] {
                    if !db.is_postgres() && !heir.is_empty() {
                        continue;
                    }
                    let columns: String = columns.iter().filter(|column| !column.starts_with(&format!("\"{key}\""))).map(|column| format!(", {column}")).collect();
                    db.run(&format!("CREATE TABLE item (\"{key}\" int PRIMARY KEY{columns}); {heir}")).await;
                    db.track("item", Tracking::new().storage(storage)).await;
                    db.run(&format!("INSERT INTO item (\"{key}\") VALUES (1)")).await;
                    db.run(&format!("INSERT INTO item (\"{key}\") VALUES (2), (3)")).await;
                    let (some, other) = (names[5], if key == "old" { "new" } else { "old" });
                    db.run(&format!("UPDATE item SET \"{some}\" = 5, \"{other}\" = 6 WHERE \"{key}\" = 1")).await;
                    db.run_as("ann", "why", &format!("UPDATE item SET \"{some}\" = 7, \"{other}\" = 7")).await;
                    db.run(&format!("UPDATE item SET \"{key}\" = \"{key}\" + 10")).await;
                    let life = db.versions("item", "11").await;
                    assert_eq!(life.len(), 4);
                    assert_eq!(changes(&life[3]), [format!("{key}: 1 -> 11")]);
                    assert_eq!(row(&life[2])["moment"], json!(null));
                    assert_eq!(row(&life[2])[some], 7);
                    db.run(&format!("DELETE FROM item WHERE \"{key}\" = 11; DELETE FROM item")).await;
                    db.verify().await;
                    db.audit.untrack("item", true).await.unwrap();
                    db.run(if heir.is_empty() { "DROP TABLE item" } else { "DROP TABLE item CASCADE" }).await;
                }
            }
        }
    }
}

on_every_database! {
    async fn wide_tables(db: &mut TestDb) {
        for width in [63, 64, 130, db.by(900, 700)] {
            for storage in [Storage::Snapshot, Storage::Delta] {
                let columns: String = (1..width).map(|i| format!(", c{i} int")).collect();
                db.run(&format!("CREATE TABLE item (id int PRIMARY KEY{columns})")).await;
                db.track("item", Tracking::new().storage(storage)).await;
                let last = width - 1;
                db.run("INSERT INTO item (id) VALUES (1), (2)").await;
                db.run(&format!("UPDATE item SET c{last} = 5, c1 = 6")).await;
                db.run(&format!("UPDATE item SET c{last} = 7 WHERE id = 1")).await;
                db.run("UPDATE item SET id = 3 WHERE id = 2; DELETE FROM item WHERE id = 3").await;
                let life = db.versions("item", "1").await;
                assert_eq!(changes(&life[1]), ["c1: ∅ -> 6".to_owned(), format!("c{last}: ∅ -> 5")]);
                assert_eq!(changes(&life[2]), [format!("c{last}: 5 -> 7")]);
                assert_eq!(db.as_of("item", at(&life[2])).await[0][format!("c{last}")], 7);
                db.verify().await;
                db.audit.untrack("item", true).await.unwrap();
                db.run("DROP TABLE item").await;
            }
        }
    }
}

on_every_database! {
    async fn what_is_chosen_is_recorded_and_no_more(db: &mut TestDb) {
        for storage in [Storage::Snapshot, Storage::Delta] {
            db.run("CREATE TABLE item (id int PRIMARY KEY, a int, b int, c text NOT NULL, d int)").await;
            db.track("item", Tracking::new().storage(storage).include(["a"]).mask(["c"]).record_unchanged(true)).await;
            db.run("INSERT INTO item VALUES (1, 1, 1, 'secret', 1); UPDATE item SET b = 2; UPDATE item SET a = 2, c = 'hidden'; UPDATE item SET c = 'hidden'").await;
            db.tick().await;
            let life = db.versions("item", "1").await;
            assert_eq!(life.iter().map(|version| version.header.action.sign()).collect::<String>(), "+~~~");
            assert!(changes(&life[1]).is_empty());
            assert_eq!(changes(&life[2]), ["a: 1 -> 2", "c: ••• -> •••"]);
            assert!(changes(&life[3]).is_empty());
            assert_eq!(row(&life[2]), json!({"id": 1, "a": 2, "c": {"$masked": true}}));
            for hidden in ["secret", "hidden"] {
                let sql = db.by(
                    format!("SELECT count(*) FROM item_history WHERE c LIKE '%{hidden}%'"),
                    format!("SELECT count(*) FROM item_history AS h WHERE h::text LIKE '%{hidden}%'"),
                );
                assert_eq!(db.text(&sql).await.unwrap(), "0");
            }
            db.verify().await;
            // Another choice begins an epoch; what was not recorded before is not known then.
            let before = at(life.last().unwrap());
            db.tick().await;
            db.track("item", Tracking::new().storage(storage)).await;
            db.tick().await;
            db.run("UPDATE item SET d = 9").await;
            assert_eq!(changes(db.versions("item", "1").await.last().unwrap()), ["d: 1 -> 9"]);
            assert_eq!(db.as_of("item", before).await, [json!({"id": 1, "a": 2, "c": {"$masked": true}})]);
            assert_eq!(db.as_of("item", now()).await, [json!({"id": 1, "a": 2, "b": 2, "c": "hidden", "d": 9})]);
            db.verify().await;
            db.audit.untrack("item", true).await.unwrap();
            db.run("DROP TABLE item").await;
        }
    }
}

on_every_database! {
    async fn storage_can_be_switched_and_switched_again(db: &mut TestDb) {
        db.run("CREATE TABLE item (id int PRIMARY KEY, a int, b int)").await;
        let mut moments = Vec::new();
        db.track("item", Tracking::new()).await;
        db.run("INSERT INTO item VALUES (1, 0, 0), (2, 0, 0)").await;
        for round in 1..=6 {
            let storage = if round % 2 == 0 { Storage::Snapshot } else { Storage::Delta };
            db.track("item", Tracking::new().storage(storage)).await;
            db.tick().await;
            db.run(&format!("UPDATE item SET a = {round}; UPDATE item SET b = {round} WHERE id = 2")).await;
            db.tick().await;
            moments.push((round, at(db.versions("item", "2").await.last().unwrap())));
        }
        for (round, moment) in moments {
            assert_eq!(db.as_of("item", moment).await, [
                json!({"id": 1, "a": round, "b": 0}),
                json!({"id": 2, "a": round, "b": round}),
            ]);
        }
        assert_eq!(changes(db.versions("item", "2").await.last().unwrap()), ["b: 5 -> 6"]);
        db.verify().await;
    }
}

on_every_database! {
    async fn two_at_once_track_it_once(db: &mut TestDb) {
        db.run("CREATE TABLE item (id int PRIMARY KEY); INSERT INTO item VALUES (1)").await;
        let (one, two) = (afterimage::Afterimage::connect(&db.url).await.unwrap(), db.audit.clone());
        let (a, b) = tokio::join!(one.track("item", Tracking::new()), two.track("item", Tracking::new()));
        let (a, b) = (a.unwrap(), b.unwrap());
        assert!(a.again != b.again, "one of them installs it");
        db.run("INSERT INTO item VALUES (2)").await;
        assert_eq!(db.signs("item", "2").await, "+");
        assert_eq!(db.signs("item", "1").await, "+");
        db.verify().await;
    }
}
