//! SQLite: every road by which a row changes leaves its records, in order (laws 1, 2, 3 and 6).

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support::*;
use afterimage::{Fault, State, Storage, Tracking};
use serde_json::json;

async fn tracked(schema: &str, storage: Storage, tables: &[&str]) -> TestDb {
    let mut db = TestDb::sqlite().await;
    db.run(schema).await;
    for table in tables {
        db.track(table, Tracking::new().storage(storage)).await;
    }
    db
}

#[tokio::test]
async fn cascades_of_two_levels_set_null_set_default_and_of_keys() {
    for storage in STORAGES {
        for recursive in ["OFF", "ON"] {
            let mut db = tracked(
                "CREATE TABLE a (id INTEGER PRIMARY KEY);
                 CREATE TABLE b (id INTEGER PRIMARY KEY, a INTEGER REFERENCES a ON DELETE CASCADE ON UPDATE CASCADE);
                 CREATE TABLE c (id INTEGER PRIMARY KEY, b INTEGER REFERENCES b ON DELETE CASCADE);
                 CREATE TABLE d (id INTEGER PRIMARY KEY, a INTEGER REFERENCES a ON DELETE SET NULL ON UPDATE SET NULL);
                 CREATE TABLE e (id INTEGER PRIMARY KEY, a INTEGER DEFAULT 1 REFERENCES a ON DELETE SET DEFAULT ON UPDATE SET DEFAULT)",
                storage,
                &["a", "b", "c", "d", "e"],
            )
            .await;
            db.run(&format!("PRAGMA recursive_triggers = {recursive}")).await;
            db.run("INSERT INTO a VALUES (1), (2), (3); INSERT INTO b VALUES (20, 2), (30, 3); INSERT INTO c VALUES (200, 20), (300, 30);
                    INSERT INTO d VALUES (20, 2), (30, 3); INSERT INTO e VALUES (20, 2), (30, 3)").await;
            db.run("DELETE FROM a WHERE id = 2").await;
            db.run("UPDATE a SET id = 33 WHERE id = 3").await;
            for (table, key, signs) in [
                ("a", "2", "+-"),
                ("b", "20", "+-"),
                ("c", "200", "+-"),
                ("d", "20", "+~"),
                ("e", "20", "+~"),
                ("a", "33", "++"),
                ("b", "30", "+~"),
                ("c", "300", "+"),
                ("d", "30", "+~"),
                ("e", "30", "+~"),
            ] {
                assert_eq!(db.signs(table, key).await, signs, "{table} {key}");
            }
            assert_eq!(changes(&db.versions("b", "30").await[1]), ["a: 3 -> 33"]);
            assert_eq!(changes(&db.versions("e", "20").await[1]), ["a: 2 -> 1"]);
            assert!(db.try_run("DELETE FROM a").await.is_err());
            assert_eq!(db.signs("b", "30").await, "+~");
            assert_eq!(db.signs("a", "1").await, "+", "one refers to it, and the statement failed");
            db.verify().await;
        }
    }
}

#[tokio::test]
async fn a_delete_of_everything_is_recorded_row_by_row() {
    for storage in STORAGES {
        let mut db = tracked("CREATE TABLE item (id INTEGER PRIMARY KEY, n)", storage, &["item"]).await;
        db.run("WITH RECURSIVE g(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM g WHERE i < 300) INSERT INTO item SELECT i, i FROM g").await;
        db.run("DELETE FROM item").await;
        assert_eq!(
            db.text("SELECT count(*) FROM item_history WHERE history_type = '-'").await.unwrap(),
            "300"
        );
        assert!(db.as_of("item", now()).await.is_empty());
        db.verify().await;
    }
}

#[tokio::test]
async fn keys_swap_by_way_of_negative_ones_and_the_rowid_is_written_by_name() {
    for storage in STORAGES {
        let mut db = tracked("CREATE TABLE item (id INTEGER PRIMARY KEY, n TEXT)", storage, &["item"]).await;
        db.run("INSERT INTO item VALUES (1, 'one'), (2, 'two'), (3, 'three')").await;
        db.tick().await;
        db.run("UPDATE item SET id = -id - 1").await;
        db.tick().await;
        db.run("UPDATE item SET id = -id").await;
        assert_eq!(
            db.as_of("item", now()).await,
            [json!({"id": 2, "n": "one"}), json!({"id": 3, "n": "two"}), json!({"id": 4, "n": "three"}),]
        );
        let life = db.versions("item", "4").await;
        assert_eq!(life.iter().map(|v| row(v)["id"].as_i64().unwrap()).collect::<Vec<_>>(), [3, -4, 4]);
        db.tick().await;
        db.run("UPDATE item SET rowid = 50 WHERE id = 4").await;
        assert_eq!(changes(db.versions("item", "50").await.last().unwrap()), ["id: 4 -> 50"]);
        db.verify().await;
    }
}

#[tokio::test]
async fn a_row_that_refers_to_itself_follows_its_own_key() {
    for storage in STORAGES {
        for recursive in ["OFF", "ON"] {
            let mut db = tracked(
                "CREATE TABLE item (id INTEGER PRIMARY KEY, n INTEGER, boss INTEGER REFERENCES item ON UPDATE CASCADE)",
                storage,
                &["item"],
            )
            .await;
            db.run(&format!("PRAGMA recursive_triggers = {recursive}")).await;
            db.run("INSERT INTO item VALUES (3, 0, 3), (4, 0, 3), (5, 0, 4)").await;
            db.tick().await;
            db.run("UPDATE item SET id = 7, n = 1 WHERE id = 3").await;
            let life = db.versions("item", "7").await;
            assert_eq!(db.signs("item", "7").await, "++~");
            assert_eq!(changes(&life[1]), ["id: 3 -> 7", "n: 0 -> 1"]);
            assert_eq!(changes(&life[2]), ["boss: 3 -> 7"]);
            assert_eq!(changes(db.versions("item", "4").await.last().unwrap()), ["boss: 3 -> 7"]);
            db.verify().await;
            // What was ignored is not taken for a move later.
            db.run("UPDATE OR IGNORE item SET id = 4 WHERE id = 7; UPDATE item SET n = 9 WHERE id = 4").await;
            assert_eq!(changes(db.versions("item", "4").await.last().unwrap()), ["n: 0 -> 9"]);
            db.run("UPDATE OR REPLACE item SET id = 5 WHERE id = 4; UPDATE item SET n = n + 1").await;
            db.verify().await;
        }
    }
}

#[tokio::test]
async fn a_row_that_refers_to_itself_by_another_unique_column_or_through_another_table() {
    for storage in STORAGES {
        let mut db = tracked(
            "CREATE TABLE item (id INTEGER PRIMARY KEY, code TEXT UNIQUE, boss TEXT REFERENCES item (code) ON UPDATE CASCADE, n INTEGER);
             CREATE TABLE left_side (id INTEGER PRIMARY KEY, twin INTEGER UNIQUE REFERENCES right_side (twin) ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED);
             CREATE TABLE right_side (id INTEGER PRIMARY KEY, twin INTEGER UNIQUE, back INTEGER REFERENCES left_side (twin) ON UPDATE SET NULL)",
            storage,
            &["item", "left_side", "right_side"],
        )
        .await;
        db.run("INSERT INTO item VALUES (1, 'a', 'a', 0), (2, 'b', 'a', 0)").await;
        db.tick().await;
        db.run("UPDATE item SET code = 'z', n = 1 WHERE id = 1").await;
        let said: Vec<String> = db.versions("item", "1").await.iter().skip(1).flat_map(changes).collect();
        assert_eq!(said, ["code: a -> z", "n: 0 -> 1", "boss: a -> z"]);
        db.run("INSERT INTO right_side VALUES (1, 5, NULL); INSERT INTO left_side VALUES (1, 5); UPDATE right_side SET back = 5").await;
        db.tick().await;
        db.run("UPDATE right_side SET twin = 6").await;
        let said: Vec<String> =
            db.versions("right_side", "1").await.iter().skip(2).flat_map(changes).collect();
        assert_eq!(said, ["twin: 5 -> 6", "back: 5 -> ∅"]);
        db.verify().await;
    }
}

#[tokio::test]
async fn what_the_table_is_made_of_does_not_matter() {
    let shapes = [
        ("CREATE TABLE item (k TEXT, l REAL, v, PRIMARY KEY (k, l)) WITHOUT ROWID", "'a', -1.5"),
        ("CREATE TABLE item (k BLOB, l ANY, v ANY, PRIMARY KEY (l, k)) STRICT", "x'00ff', 7"),
        ("CREATE TABLE item (k INTEGER, l TEXT, v, PRIMARY KEY (k, l))", "-9223372036854775808, 'x,l=y'"),
        ("CREATE TABLE item (k, l, v, PRIMARY KEY (k, l))", "1, '1'"),
    ];
    for storage in STORAGES {
        for (schema, key) in shapes {
            let mut db = tracked(schema, storage, &["item"]).await;
            db.run(&format!("INSERT INTO item VALUES ({key}, 1)")).await;
            for value in ["1.0", "'1'", "x'31'", "NULL", "'a'", "'A'", "'A'"] {
                db.tick().await;
                db.run(&format!("UPDATE item SET v = {value}")).await;
            }
            let signs =
                db.lines("SELECT history_type FROM item_history ORDER BY history_date, history_id").await;
            // A strict ANY keeps each value as it is; so does a column without a type.
            assert_eq!(signs.concat(), "+~~~~~~", "{schema}");
            db.verify().await;
            db.run("DELETE FROM item").await;
            db.verify().await;
        }
    }
}

#[tokio::test]
async fn generated_columns_and_collations() {
    for storage in STORAGES {
        let mut db = tracked(
            "CREATE TABLE item (id TEXT PRIMARY KEY COLLATE NOCASE, name TEXT COLLATE NOCASE, n INTEGER COLLATE NOCASE, twice AS (n || n) VIRTUAL, thrice TEXT AS (name || n) STORED)",
            storage,
            &["item"],
        )
        .await;
        db.run("INSERT INTO item (id, name, n) VALUES ('k', 'abc', 1)").await;
        db.tick().await;
        db.run("UPDATE item SET name = 'ABC'").await;
        db.tick().await;
        db.run("UPDATE item SET n = 'text'").await;
        db.tick().await;
        db.run("UPDATE item SET n = 'TEXT'").await;
        db.tick().await;
        db.run("UPDATE item SET id = 'K'").await;
        let life = db.versions("item", "K").await;
        assert_eq!(changes(&life[1]), ["name: abc -> ABC", "thrice: abc1 -> ABC1"]);
        assert_eq!(
            changes(&life[3]),
            ["n: text -> TEXT", "twice: texttext -> TEXTTEXT", "thrice: ABCtext -> ABCTEXT"]
        );
        assert_eq!(changes(&life[4]), ["id: k -> K"]);
        db.verify().await;
    }
}

#[tokio::test]
async fn a_row_without_a_key_is_refused() {
    let mut db = tracked("CREATE TABLE item (id TEXT PRIMARY KEY, n)", Storage::Delta, &["item"]).await;
    db.run("INSERT INTO item VALUES ('a', 1)").await;
    assert!(db.try_run("INSERT INTO item VALUES (NULL, 1)").await.unwrap_err().contains("without a key"));
    assert!(db.try_run("INSERT OR IGNORE INTO item VALUES (NULL, 1)").await.is_err());
    assert!(db.try_run("UPDATE OR IGNORE item SET id = NULL").await.is_err());
    assert_eq!(db.text("SELECT count(*) FROM item").await.unwrap(), "1");
    db.verify().await;
}

#[tokio::test]
async fn updates_from_joins_returning_views_and_attached_files() {
    for storage in STORAGES {
        let mut db = tracked(
            "CREATE TABLE item (id INTEGER PRIMARY KEY, n INTEGER); CREATE TABLE price (item INTEGER, n INTEGER);
             CREATE VIEW shown AS SELECT id, n FROM item WHERE n > 0;
             CREATE TRIGGER shown_insert INSTEAD OF INSERT ON shown BEGIN INSERT INTO item VALUES (NEW.id, NEW.n); END;
             CREATE TRIGGER shown_update INSTEAD OF UPDATE ON shown BEGIN UPDATE item SET n = NEW.n WHERE id = OLD.id; END;
             CREATE TRIGGER shown_delete INSTEAD OF DELETE ON shown BEGIN DELETE FROM item WHERE id = OLD.id; END",
            storage,
            &["item"],
        )
        .await;
        db.run("INSERT INTO shown VALUES (1, 1), (2, 2), (3, 3); INSERT INTO price VALUES (1, 10), (2, 20), (2, 21)").await;
        db.run("UPDATE item SET n = price.n FROM price WHERE price.item = item.id").await;
        assert_eq!(
            db.text("SELECT n FROM item WHERE id = 2").await,
            Some(row(db.versions("item", "2").await.last().unwrap())["n"].to_string())
        );
        assert_eq!(db.lines("UPDATE item SET n = n + 1 WHERE id = 1 RETURNING n || ''").await.len(), 1);
        assert_eq!(db.lines("INSERT INTO item VALUES (9, 9) RETURNING n || ''").await.len(), 1);
        db.run("UPDATE shown SET n = 5 WHERE id = 3; DELETE FROM shown WHERE id = 3").await;
        assert_eq!(db.signs("item", "1").await, "+~~");
        assert_eq!(db.signs("item", "2").await, "+~");
        assert_eq!(db.signs("item", "3").await, "+~-");
        assert_eq!(db.signs("item", "9").await, "+");
        let file = db.file();
        let mut other = TestDb::sqlite().await;
        other.run(&format!("CREATE TABLE item (id INTEGER PRIMARY KEY, n INTEGER); ATTACH '{}' AS far; INSERT INTO far.item VALUES (77, 7); UPDATE far.item SET n = 8 WHERE id = 77", file.display())).await;
        assert_eq!(db.signs("item", "77").await, "+~");
        db.verify().await;
    }
}

const TOUCHING: &str = "CREATE TRIGGER touch AFTER UPDATE OF n ON item BEGIN UPDATE item SET touched = touched + 1 WHERE id = NEW.id; END;
    CREATE TRIGGER touch_insert AFTER INSERT ON item BEGIN UPDATE item SET touched = 1 WHERE id = NEW.id; END";

#[tokio::test]
async fn a_users_trigger_that_writes_the_same_row_again_comes_second() {
    for storage in STORAGES {
        for first in [true, false] {
            let mut db = TestDb::sqlite().await;
            db.run("CREATE TABLE item (id INTEGER PRIMARY KEY, n INTEGER, touched INTEGER)").await;
            if first {
                db.run(TOUCHING).await;
            }
            db.track("item", Tracking::new().storage(storage)).await;
            if !first {
                db.run(TOUCHING).await;
                let status = db.audit.status().await.unwrap().remove(0);
                assert_eq!(
                    status.faults,
                    [Fault::Order("touch".into()), Fault::Order("touch_insert".into())]
                );
                assert_eq!(status.state, State::Outdated);
                db.audit.migrate(&[], &[]).await.unwrap();
            }
            assert_eq!(db.audit.status().await.unwrap()[0].state, State::Ok);
            db.run("INSERT INTO item VALUES (1, 0, 0)").await;
            db.tick().await;
            db.run("UPDATE item SET n = 5").await;
            let life = db.versions("item", "1").await;
            assert_eq!(db.signs("item", "1").await, "+~~~");
            assert_eq!(changes(&life[1]), ["touched: 0 -> 1"]);
            assert_eq!(changes(&life[2]), ["n: 0 -> 5"]);
            assert_eq!(changes(&life[3]), ["touched: 1 -> 2"]);
            assert_eq!(life[2].header.date, life[3].header.date, "one statement, one moment");
            db.verify().await;
        }
    }
}

#[tokio::test]
async fn whatever_the_text_of_a_key_its_arrival_names_it() {
    let mut db = tracked("CREATE TABLE item (id TEXT PRIMARY KEY, n)", Storage::Delta, &["item"]).await;
    let key = (1..0x20_u8).map(char::from).collect::<String>() + "\"\\\u{7f}é\u{1f980}'";
    let hex: String = key.bytes().map(|byte| format!("{byte:02x}")).collect();
    db.run(&format!("INSERT INTO item VALUES (CAST(x'{hex}' AS TEXT), 1); UPDATE item SET id = 'b'")).await;
    let old: serde_json::Value = serde_json::from_str(
        db.versions("item", "b").await.last().unwrap().header.old_key.as_deref().unwrap(),
    )
    .unwrap();
    assert_eq!(old, json!({ "id": key }));
    assert_eq!(db.signs("item", "b").await, "++");
    db.verify().await;
}
