//! PostgreSQL: every road by which a row changes leaves its records, in order (laws 1, 2, 3 and 6), at every level
//! of capture and in both storages.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support::*;
use afterimage::Tracking;

/// What stands around the table, which decides at which level it is captured.
const SURROUNDINGS: [&str; 5] = [
    "CREATE TABLE item (id int PRIMARY KEY, n int, t text)",
    // A user's row trigger, which may write the table again: captured on the first row of a statement.
    "CREATE TABLE item (id int PRIMARY KEY, n int, t text);
     CREATE FUNCTION quiet() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
     CREATE TRIGGER quiet AFTER INSERT OR UPDATE OR DELETE ON item FOR EACH ROW EXECUTE FUNCTION quiet()",
    // A table that inherits from it: captured row by row.
    "CREATE TABLE item (id int PRIMARY KEY, n int, t text);
     CREATE TABLE heir (extra int) INHERITS (item)",
    "CREATE TABLE item (id int PRIMARY KEY, n int, t text) PARTITION BY HASH (id);
     CREATE TABLE item_0 PARTITION OF item FOR VALUES WITH (MODULUS 2, REMAINDER 0);
     CREATE TABLE item_1 (t text, id int NOT NULL, n int);
     ALTER TABLE item ATTACH PARTITION item_1 FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
    // Partitions and a user's row trigger: row by row.
    "CREATE TABLE item (id int PRIMARY KEY, n int, t text) PARTITION BY HASH (id);
     CREATE TABLE item_0 PARTITION OF item FOR VALUES WITH (MODULUS 2, REMAINDER 0);
     CREATE TABLE item_1 PARTITION OF item FOR VALUES WITH (MODULUS 2, REMAINDER 1);
     CREATE FUNCTION quiet() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
     CREATE TRIGGER quiet AFTER INSERT OR UPDATE OR DELETE ON item FOR EACH ROW EXECUTE FUNCTION quiet()",
];

/// A write after which the named rows have these signs.
type Road<'a> = (&'a str, &'a [(&'a str, &'a str)]);

/// Begins with the rows (1, 10, a), (2, 20, b) and (3, 30, c).
async fn check(roads: &[Road<'_>]) {
    for storage in STORAGES {
        for surroundings in SURROUNDINGS {
            let mut db = TestDb::postgres().await;
            db.run(surroundings).await;
            db.track("item", Tracking::new().storage(storage)).await;
            for (write, signs) in roads {
                db.run("TRUNCATE item; INSERT INTO item VALUES (1, 10, 'a'), (2, 20, 'b'), (3, 30, 'c')")
                    .await;
                let past = db.text("SELECT coalesce(max(history_id), 0) FROM item_history").await.unwrap();
                db.run(write).await;
                for (key, expected) in *signs {
                    let found = db
                        .lines(&format!("SELECT history_type::text FROM item_history WHERE id = {key} AND history_id > {past} ORDER BY history_date, history_id"))
                        .await
                        .concat();
                    assert_eq!(found, *expected, "row {key} after {write}\n{storage:?}, {surroundings}");
                }
                for verdict in db.audit.verify(&[]).await.unwrap() {
                    assert!(
                        verdict.is_whole(),
                        "{write}\n{storage:?}, {surroundings}\n{:#?} {:?}",
                        verdict.differences,
                        verdict.faults
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn plain_and_bulk_statements() {
    check(&[
        ("INSERT INTO item VALUES (4, 0, NULL)", &[("4", "+")]),
        ("INSERT INTO item SELECT i, i, 'x' FROM generate_series(10, 60) AS i", &[("10", "+"), ("60", "+")]),
        ("UPDATE item SET n = n + 1", &[("1", "~"), ("2", "~"), ("3", "~")]),
        ("UPDATE item SET n = n, t = t", &[("1", ""), ("2", "")]),
        ("UPDATE item SET n = 20", &[("1", "~"), ("2", ""), ("3", "~")]),
        ("UPDATE item SET n = NULL WHERE id = 1; UPDATE item SET n = NULL WHERE id = 1", &[("1", "~")]),
        ("DELETE FROM item", &[("1", "-"), ("2", "-"), ("3", "-")]),
        ("DELETE FROM item WHERE false; UPDATE item SET n = 1 WHERE false; INSERT INTO item SELECT 1 WHERE false", &[("1", "")]),
        ("COPY item FROM PROGRAM 'printf \"7,7,x\\n8,8,y\\n\"' (FORMAT csv)", &[("7", "+"), ("8", "+")]),
        ("UPDATE item SET n = v.n FROM (VALUES (1, 5), (1, 6), (3, 7)) AS v (id, n) WHERE v.id = item.id", &[("1", "~"), ("2", ""), ("3", "~")]),
        ("DELETE FROM item USING (VALUES (1), (1), (3)) AS v (id) WHERE v.id = item.id", &[("1", "-"), ("3", "-")]),
        ("BEGIN; DECLARE c CURSOR FOR SELECT * FROM ONLY item WHERE id = 2 FOR UPDATE; FETCH c; COMMIT", &[("2", "")]),
        ("PREPARE change (int) AS UPDATE item SET n = $1 WHERE id = 2; EXECUTE change (1); EXECUTE change (2); DEALLOCATE change", &[("2", "~~")]),
        ("CREATE OR REPLACE VIEW shown AS SELECT * FROM item; UPDATE shown SET n = 0 WHERE id = 1; DELETE FROM shown WHERE id = 2", &[("1", "~"), ("2", "-")]),
    ])
    .await;
}

#[tokio::test]
async fn upserts() {
    check(&[
        ("INSERT INTO item VALUES (1, 0, 'z'), (9, 0, 'z') ON CONFLICT DO NOTHING", &[("1", ""), ("9", "+")]),
        ("INSERT INTO item VALUES (1, 0, 'z'), (9, 0, 'z') ON CONFLICT (id) DO UPDATE SET n = excluded.n", &[("1", "~"), ("9", "+")]),
        ("INSERT INTO item VALUES (1, 0, 'z') ON CONFLICT (id) DO UPDATE SET n = excluded.n WHERE item.n = 99", &[("1", "")]),
        ("INSERT INTO item VALUES (1, 0, 'z') ON CONFLICT (id) DO UPDATE SET t = item.t", &[("1", "")]),
        ("INSERT INTO item VALUES (1, 0, 'z'), (2, 0, 'z'), (8, 0, 'z'), (9, 0, 'z') ON CONFLICT (id) DO UPDATE SET n = item.n + 1", &[("1", "~"), ("2", "~"), ("8", "+"), ("9", "+")]),
    ])
    .await;
}

#[tokio::test]
async fn merges() {
    let source = "USING (VALUES (1, 'del'), (2, 'upd'), (9, 'new')) AS s (id, what) ON s.id = item.id";
    let merge = format!(
        "MERGE INTO item {source} WHEN MATCHED AND what = 'del' THEN DELETE WHEN MATCHED THEN UPDATE SET n = 0 WHEN NOT MATCHED THEN INSERT VALUES (s.id, 0, what)"
    );
    let again = "MERGE INTO item USING (VALUES (1, 1), (NULL, 1)) AS s (old, id) ON s.old = item.id WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (s.id, 0, 'again')";
    let nothing =
        format!("MERGE INTO item {source} WHEN MATCHED THEN DO NOTHING WHEN NOT MATCHED THEN DO NOTHING");
    check(&[
        (merge.as_str(), &[("1", "-"), ("2", "~"), ("9", "+")]),
        (again, &[("1", "-+")]),
        (nothing.as_str(), &[("1", ""), ("9", "")]),
    ])
    .await;
}

#[tokio::test]
async fn data_modifying_expressions() {
    check(&[
        ("WITH gone AS (DELETE FROM item WHERE id = 1 RETURNING id) INSERT INTO item SELECT id, 0, 'again' FROM gone", &[("1", "-+")]),
        ("WITH a AS (INSERT INTO item VALUES (8, 0, '')), b AS (UPDATE item SET n = 0 WHERE id = 1), c AS (UPDATE item SET n = 0 WHERE id = 2) DELETE FROM item WHERE id = 3", &[("8", "+"), ("1", "~"), ("2", "~"), ("3", "-")]),
        ("WITH moved AS (UPDATE item SET id = 9 WHERE id = 1 RETURNING 1 AS old) INSERT INTO item SELECT old, 0, 'heir' FROM moved", &[("1", "-+"), ("9", "+")]),
    ])
    .await;
}

#[tokio::test]
async fn keys_change() {
    check(&[
        ("UPDATE item SET id = 9 WHERE id = 1", &[("1", "-"), ("9", "+")]),
        ("UPDATE item SET id = -id, n = 0", &[("1", "-"), ("-1", "+"), ("-3", "+")]),
        ("UPDATE item SET id = CASE id WHEN 3 THEN 9 ELSE id END, n = 0", &[("1", "~"), ("2", "~"), ("3", "-"), ("9", "+")]),
        ("BEGIN; UPDATE item SET id = 0 WHERE id = 1; UPDATE item SET id = 1 WHERE id = 2; UPDATE item SET id = 2 WHERE id = 0; COMMIT", &[("1", "-+"), ("2", "-+"), ("0", "+-")]),
    ])
    .await;
}

#[tokio::test]
async fn what_is_rolled_back_leaves_nothing() {
    check(&[
        ("BEGIN; UPDATE item SET n = 0; ROLLBACK", &[("1", ""), ("2", "")]),
        ("BEGIN; UPDATE item SET n = 0 WHERE id = 1; SAVEPOINT s; UPDATE item SET n = 0 WHERE id = 2; ROLLBACK TO s; UPDATE item SET n = 0 WHERE id = 3; COMMIT", &[("1", "~"), ("2", ""), ("3", "~")]),
        ("DO $$ BEGIN
            UPDATE item SET n = 0 WHERE id = 1;
            BEGIN INSERT INTO item VALUES (8, 0, ''), (1, 0, ''); EXCEPTION WHEN unique_violation THEN DELETE FROM item WHERE id = 2; END;
            FOR i IN 1..3 LOOP UPDATE item SET n = i WHERE id = 3; END LOOP;
          END $$", &[("1", "~"), ("8", ""), ("2", "-"), ("3", "~~~")]),
    ])
    .await;
}

#[tokio::test]
async fn everything_goes_at_once() {
    check(&[
        ("TRUNCATE item", &[("1", "-"), ("3", "-")]),
        ("BEGIN; UPDATE item SET n = 0 WHERE id = 1; TRUNCATE item; INSERT INTO item VALUES (1, 1, 'new'); COMMIT", &[("1", "~-+"), ("2", "-")]),
        ("CREATE TABLE IF NOT EXISTS part (item int); TRUNCATE item, part RESTART IDENTITY CASCADE", &[("1", "-"), ("2", "-")]),
    ])
    .await;
    let mut db = TestDb::postgres().await;
    db.run("CREATE TABLE item (id int PRIMARY KEY); CREATE TABLE part (id int PRIMARY KEY, item int REFERENCES item); INSERT INTO item VALUES (1); INSERT INTO part VALUES (5, 1)").await;
    db.track("item", Tracking::new()).await;
    db.track("part", Tracking::new()).await;
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        let refused = db.try_run(&format!("BEGIN ISOLATION LEVEL {level}; TRUNCATE item CASCADE")).await;
        assert!(refused.unwrap_err().contains("READ COMMITTED only"));
        db.run("ROLLBACK").await;
    }
    db.run_as("ann", "spring cleaning", "TRUNCATE item CASCADE").await;
    assert_eq!(db.signs("part", "5").await, "+-");
    let last = db.versions("item", "1").await.pop().unwrap();
    assert_eq!(
        (last.header.user.as_deref(), last.header.reason.as_deref()),
        (Some("ann"), Some("spring cleaning"))
    );
    db.verify().await;
}

#[tokio::test]
async fn deferred_keys_shift_and_swap() {
    for storage in STORAGES {
        for more in ["", "; CREATE TABLE heir () INHERITS (item)"] {
            let mut db = TestDb::postgres().await;
            db.run(&format!("CREATE TABLE item (a int, b text, n int, PRIMARY KEY (b, a) DEFERRABLE){more}"))
                .await;
            db.track("item", Tracking::new().storage(storage)).await;
            db.run("INSERT INTO item SELECT i, 'x', 10 * i FROM generate_series(1, 50) AS i").await;
            db.run("UPDATE item SET a = 3 - a WHERE a < 3").await;
            db.run("UPDATE item SET a = a + 1").await;
            let order: Vec<i64> =
                db.as_of("item", now()).await.iter().map(|row| row["n"].as_i64().unwrap()).collect();
            assert_eq!(order[..3], [20, 10, 30]);
            let last = db.versions("item", "b=x,a=3").await.pop().unwrap();
            assert_eq!(last.header.old_key.as_deref(), Some(r#"{"a": 2, "b": "x"}"#));
            db.verify().await;
            // By statements of their own, two rows share a key meanwhile.
            for write in [
                "UPDATE item SET a = 3 WHERE n = 20; UPDATE item SET a = 2 WHERE n = 10",
                "UPDATE item SET a = 9 WHERE n = 30; UPDATE item SET n = 0 WHERE n = 30; DELETE FROM item WHERE a = 9 AND n <> 0",
                "INSERT INTO item VALUES (20, 'x', -1), (21, 'x', -1); DELETE FROM item WHERE a IN (20, 21) AND n > 0; UPDATE item SET n = -2 WHERE n = -1",
            ] {
                db.run(&format!("BEGIN; SET CONSTRAINTS ALL DEFERRED; {write}; COMMIT")).await;
                db.verify().await;
            }
        }
    }
}

#[tokio::test]
async fn cascades_of_two_levels_set_null_set_default_and_of_keys() {
    for storage in STORAGES {
        let mut db = TestDb::postgres().await;
        db.run(
            "CREATE TABLE a (id int PRIMARY KEY);
             CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a ON DELETE CASCADE ON UPDATE CASCADE);
             CREATE TABLE c (id int PRIMARY KEY, b int REFERENCES b ON DELETE CASCADE);
             CREATE TABLE d (id int PRIMARY KEY, a int REFERENCES a ON DELETE SET NULL ON UPDATE SET NULL);
             CREATE TABLE e (id int PRIMARY KEY, a int DEFAULT 1 REFERENCES a ON DELETE SET DEFAULT ON UPDATE SET DEFAULT);
             CREATE TABLE f (id int PRIMARY KEY REFERENCES a ON DELETE CASCADE ON UPDATE CASCADE, n int);
             CREATE TABLE tree (id int PRIMARY KEY, boss int REFERENCES tree ON DELETE CASCADE)",
        )
        .await;
        for table in ["a", "b", "c", "d", "e", "f", "tree"] {
            db.track(table, Tracking::new().storage(storage)).await;
        }
        db.run("INSERT INTO a VALUES (1), (2), (3); INSERT INTO b VALUES (20, 2), (30, 3); INSERT INTO c VALUES (200, 20), (300, 30);
                INSERT INTO d VALUES (20, 2), (30, 3); INSERT INTO e VALUES (20, 2), (30, 3); INSERT INTO f VALUES (3, 0);
                INSERT INTO tree VALUES (1, 1), (2, 1), (3, 2), (4, 3), (5, NULL)").await;
        db.run_as("ann", "why", "DELETE FROM a WHERE id = 2").await;
        db.run("UPDATE a SET id = 33 WHERE id = 3; DELETE FROM tree WHERE id = 1").await;
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
            ("f", "33", "++"),
            ("tree", "4", "+-"),
            ("tree", "5", "+"),
        ] {
            assert_eq!(db.signs(table, key).await, signs, "{table} {key}");
        }
        assert_eq!(
            db.versions("c", "200").await[1].header.user.as_deref(),
            Some("ann"),
            "of the writer, though the cascade runs as the owner"
        );
        assert!(db.try_run("DELETE FROM a WHERE id = 1").await.is_err());
        assert_eq!(db.signs("a", "1").await, "+", "one refers to it, and the statement failed");
        db.verify().await;
    }
}

#[tokio::test]
async fn a_row_touched_twice_with_its_key_in_one_statement_is_refused() {
    for storage in STORAGES {
        let mut db = TestDb::postgres().await;
        db.run("CREATE TABLE item (id int PRIMARY KEY, boss int REFERENCES item ON UPDATE CASCADE)").await;
        db.track("item", Tracking::new().storage(storage)).await;
        db.run("INSERT INTO item VALUES (1, NULL), (2, 1), (3, 3)").await;
        db.run("UPDATE item SET id = 11 WHERE id = 1").await;
        assert_eq!(changes(db.versions("item", "2").await.last().unwrap()), ["boss: 1 -> 11"]);
        let refused = db.try_run("UPDATE item SET id = 33 WHERE id = 3").await.unwrap_err();
        assert!(refused.contains("split it in two"), "{refused}");
        db.run("BEGIN; UPDATE item SET boss = NULL WHERE id = 3; UPDATE item SET id = 33 WHERE id = 3; UPDATE item SET boss = 33 WHERE id = 33; COMMIT").await;
        assert_eq!(db.signs("item", "33").await, "+~+~");
        db.verify().await;
    }
}

const TOUCH: &str = "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.touched < NEW.n THEN UPDATE item SET touched = touched + 1 WHERE id = NEW.id; END IF; RETURN NULL; END $$;
  CREATE TRIGGER touch AFTER INSERT OR UPDATE ON item FOR EACH ROW EXECUTE FUNCTION touch()";

#[tokio::test]
async fn a_users_row_trigger_that_writes_the_table_again_comes_second() {
    for storage in STORAGES {
        for first in [true, false] {
            let mut db = TestDb::postgres().await;
            db.run("CREATE TABLE item (id int PRIMARY KEY, n int, touched int DEFAULT 0)").await;
            if first {
                db.run(TOUCH).await;
            }
            db.track("item", Tracking::new().storage(storage)).await;
            if !first {
                db.run(TOUCH).await;
                assert_eq!(db.audit.status().await.unwrap()[0].state, afterimage::State::Outdated);
                db.audit.migrate(&[], &[]).await.unwrap();
            }
            assert_eq!(db.audit.status().await.unwrap()[0].state, afterimage::State::Ok);
            db.run("INSERT INTO item VALUES (1, 2), (2, 0), (3, 1)").await;
            db.run("UPDATE item SET n = n + 1").await;
            assert_eq!(db.signs("item", "1").await, "+~~~~");
            assert_eq!(db.signs("item", "2").await, "+~~");
            let told: Vec<String> = db.versions("item", "1").await.iter().skip(1).flat_map(changes).collect();
            assert_eq!(told, ["touched: 0 -> 1", "touched: 1 -> 2", "n: 2 -> 3", "touched: 2 -> 3"]);
            db.verify().await;
            db.run("DROP TRIGGER touch ON item").await;
            db.audit.migrate(&[], &[]).await.unwrap();
            db.run("UPDATE item SET n = 100").await;
            assert_eq!(db.signs("item", "2").await, "+~~~");
            db.verify().await;
        }
    }
}

#[tokio::test]
async fn what_triggers_before_the_row_make_of_it_is_what_is_recorded() {
    for storage in STORAGES {
        let mut db = TestDb::postgres().await;
        db.run(
            "CREATE TABLE item (id int PRIMARY KEY, n int, t text, twice int GENERATED ALWAYS AS (n * 2) STORED);
             CREATE FUNCTION tidy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               IF TG_OP = 'DELETE' THEN IF OLD.n = 13 THEN RETURN NULL; END IF; RETURN OLD; END IF;
               IF NEW.n = 13 THEN RETURN NULL; END IF; NEW.t := upper(NEW.t); RETURN NEW; END $$;
             CREATE TRIGGER tidy BEFORE INSERT OR UPDATE OR DELETE ON item FOR EACH ROW EXECUTE FUNCTION tidy();
             CREATE FUNCTION reckon() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               IF pg_trigger_depth() = 1 THEN UPDATE item SET t = t || '!' WHERE n = 7; END IF; RETURN NULL; END $$;
             CREATE TRIGGER reckon AFTER UPDATE ON item FOR EACH STATEMENT EXECUTE FUNCTION reckon()",
        )
        .await;
        db.track("item", Tracking::new().storage(storage)).await;
        db.run("INSERT INTO item VALUES (1, 1, 'a'), (2, 13, 'b')").await;
        db.run("UPDATE item SET n = 7").await;
        assert_eq!(db.signs("item", "2").await, "");
        let told: Vec<String> = db.versions("item", "1").await.iter().skip(1).flat_map(changes).collect();
        assert_eq!(told, ["n: 1 -> 7", "twice: 2 -> 14", "t: A -> A!"]);
        db.run("UPDATE item SET n = 13; DELETE FROM item").await;
        assert_eq!(
            db.signs("item", "1").await,
            "+~~~-",
            "the statement's own trigger fires though no row was updated"
        );
        db.verify().await;
    }
}

/// One plan serves a session: made for one row, it would take minutes for twenty thousand.
#[tokio::test]
async fn a_large_statement_after_small_ones_is_not_slow() {
    for storage in STORAGES {
        let mut db = TestDb::postgres().await;
        db.run("CREATE TABLE item (id int PRIMARY KEY, n int); SET plan_cache_mode = force_generic_plan")
            .await;
        db.track("item", Tracking::new().storage(storage)).await;
        for key in 0..8 {
            db.run(&format!("INSERT INTO item VALUES ({key}, 0); UPDATE item SET n = 1 WHERE id = {key}"))
                .await;
        }
        db.run("INSERT INTO item SELECT i, 0 FROM generate_series(100, 20000) AS i").await;
        let started = std::time::Instant::now();
        db.run("UPDATE item SET n = n + 1; UPDATE item SET id = -id; DELETE FROM item").await;
        assert!(started.elapsed().as_secs() < 6, "{:?}", started.elapsed());
        db.verify().await;
    }
}

/// A limit: statement triggers of one kind fire once, after the last part of that kind.
#[tokio::test]
async fn verify_finds_a_statement_that_deletes_inserts_and_deletes_again() {
    let mut db = TestDb::postgres().await;
    db.run("CREATE TABLE item (id int PRIMARY KEY)").await;
    db.track("item", Tracking::new()).await;
    db.run("INSERT INTO item VALUES (1), (2)").await;
    db.run("WITH one AS (DELETE FROM item WHERE id = 1 RETURNING id), two AS (INSERT INTO item SELECT id FROM one RETURNING id) DELETE FROM item WHERE id IN (SELECT id + 1 FROM two)").await;
    assert_eq!(db.signs("item", "2").await, "+-");
    let whole = db.audit.verify(&[]).await.unwrap().iter().all(afterimage::Verdict::is_whole);
    assert_eq!(whole, db.signs("item", "1").await == "+-+", "verify says whether the order is the true one");
}

/// A limit: what a trigger changes before a row is written, of rows that the statement wrote already.
#[tokio::test]
async fn doctor_and_verify_find_a_trigger_that_writes_before_the_row() {
    let mut db = TestDb::postgres().await;
    db.run(
        "CREATE TABLE item (id int PRIMARY KEY, chosen bool);
         CREATE FUNCTION only_one() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE item SET chosen = false WHERE id <> NEW.id AND chosen; RETURN NEW; END $$;
         CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
         CREATE TRIGGER only_one BEFORE INSERT OR UPDATE ON item FOR EACH ROW WHEN (NEW.chosen) EXECUTE FUNCTION only_one();
         CREATE TRIGGER harmless BEFORE UPDATE ON item FOR EACH ROW EXECUTE FUNCTION touch()",
    )
    .await;
    db.track("item", Tracking::new()).await;
    let findings: Vec<String> =
        db.audit.doctor().await.unwrap().iter().map(|finding| finding.finding.clone()).collect();
    assert!(findings.iter().any(|finding| finding.contains("triggers only_one write")), "{findings:?}");
    db.run("INSERT INTO item VALUES (1, true)").await;
    db.run("INSERT INTO item VALUES (2, true)").await;
    db.verify().await;
    db.run("INSERT INTO item VALUES (3, true), (4, true)").await;
    assert!(!db.audit.verify(&[]).await.unwrap()[0].is_whole());
}

/// What a foreign key does to a row fires the row's triggers only when the statement that caused it ends. By then a
/// trigger of somebody's may have written the row again, and have its record.
#[tokio::test]
async fn what_a_foreign_key_did_is_recorded_after_what_came_of_it() {
    let writes = [
        ("UPDATE child SET total = 9 WHERE id = 1", "a column more"),
        ("UPDATE child SET parent = 2 WHERE id = 1", "the same column again"),
        ("DELETE FROM child WHERE id = 1", "gone"),
        ("UPDATE child SET id = 7 WHERE id = 1", "under another key"),
        ("DELETE FROM child WHERE id = 1; INSERT INTO child VALUES (1, 2, 30)", "another row"),
    ];
    let actions = ["DELETE SET NULL", "DELETE SET DEFAULT", "UPDATE CASCADE"];
    for storage in STORAGES {
        for partition in ["", "PARTITION BY RANGE (id)"] {
            for action in actions {
                for (write, what) in writes {
                    let mut db = TestDb::postgres().await;
                    db.run("CREATE TABLE parent (id int PRIMARY KEY)").await;
                    db.run(&format!(
                        "CREATE TABLE child (id int PRIMARY KEY, parent int DEFAULT 3 REFERENCES parent ON {action}, total int) {partition}"
                    ))
                    .await;
                    if !partition.is_empty() {
                        db.run("CREATE TABLE child_0 PARTITION OF child DEFAULT").await;
                        // Row by row.
                        db.run("CREATE FUNCTION quiet() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
                                CREATE TRIGGER quiet AFTER UPDATE ON child FOR EACH ROW EXECUTE FUNCTION quiet()").await;
                    }
                    db.run(&format!(
                        "CREATE FUNCTION more() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {write}; RETURN NULL; END $$;
                         CREATE TRIGGER more AFTER UPDATE OR DELETE ON parent FOR EACH ROW EXECUTE FUNCTION more()"
                    ))
                    .await;
                    db.run("INSERT INTO parent VALUES (1), (2), (3); INSERT INTO child VALUES (1, 1, 10), (2, 1, 20), (3, 2, 30)").await;
                    db.track("child", Tracking::new().storage(storage)).await;
                    let cause = if action.starts_with("UPDATE") {
                        "UPDATE parent SET id = 8 WHERE id = 1"
                    } else {
                        "DELETE FROM parent WHERE id = 1"
                    };
                    db.run(cause).await;
                    for verdict in db.audit.verify(&[]).await.unwrap() {
                        assert!(
                            verdict.is_whole(),
                            "{action}, {what}, {storage:?} {partition}\n{:#?} {:?}\n{:#?}",
                            verdict.differences,
                            verdict.faults,
                            db.lines("SELECT h::text FROM child_history AS h ORDER BY history_id").await,
                        );
                    }
                }
            }
        }
    }
}
