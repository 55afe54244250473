//! The roads by which rows change on MariaDB: cascades, which fire no trigger, statements that ignore, replace or load,
//! and what no trigger sees at all.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support::*;
use afterimage::{Storage, Tracking};

/// Runs a test in both storages, each in a database of its own.
async fn in_both(test: impl AsyncFn(&mut TestDb, Storage)) {
    for storage in STORAGES {
        test(&mut TestDb::mariadb().await, storage).await;
    }
}

async fn signs(db: &mut TestDb, table: &str) -> Vec<String> {
    db.lines(&format!(
        "SELECT CONCAT(history_type, id) FROM {table}_history WHERE history_id > (SELECT MAX(n) FROM mark) ORDER BY history_id"
    ))
    .await
}

/// What is recorded from here on is what `signs` tells.
async fn mark(db: &mut TestDb) {
    db.run(
        "CREATE TABLE IF NOT EXISTS mark (n BIGINT); INSERT INTO mark SELECT NEXTVAL(afterimage_sequence)",
    )
    .await;
}

#[tokio::test]
async fn cascades_of_two_levels() {
    in_both(async |db, storage| {
        db.run("CREATE TABLE a (id INT PRIMARY KEY); CREATE TABLE b (id INT PRIMARY KEY, a INT REFERENCES a (id) ON DELETE CASCADE);
                CREATE TABLE c (id INT PRIMARY KEY, b INT REFERENCES b (id) ON DELETE CASCADE, note TEXT);
                CREATE TABLE d (id INT PRIMARY KEY, b INT REFERENCES b (id) ON DELETE SET NULL, note TEXT)")
            .await;
        for table in ["a", "b", "c", "d"] {
            db.track(table, Tracking::new().storage(storage)).await;
        }
        db.run("INSERT INTO a VALUES (1), (2), (3); INSERT INTO b VALUES (1, 1), (2, 1), (3, 2), (4, NULL);
                INSERT INTO c VALUES (1, 1, 'x'), (2, 2, 'y'), (3, 3, 'z'); INSERT INTO d VALUES (1, 1, 'x'), (2, 3, 'y')")
            .await;
        mark(db).await;
        db.run_as("ann", "clean", "DELETE FROM a WHERE id < 3").await;
        assert_eq!(signs(db, "b").await, ["-1", "-2", "-3"]);
        assert_eq!(signs(db, "c").await, ["-1", "-2", "-3"]);
        assert_eq!(signs(db, "d").await, ["~1", "~2"]);
        assert_eq!(changes(db.versions("d", "1").await.last().unwrap()), ["b: 1 -> ∅"]);
        assert_eq!(db.versions("c", "3").await.last().unwrap().header.user.as_deref(), Some("ann"));
        db.verify().await;
        assert_eq!(db.text("SELECT COUNT(*) FROM afterimage_pending_3").await.unwrap(), "0");
    })
    .await;
}

#[tokio::test]
async fn a_table_that_refers_to_itself_and_two_ways_to_one_row() {
    in_both(async |db, storage| {
        db.run("CREATE TABLE tree (id INT PRIMARY KEY, up INT REFERENCES tree (id) ON DELETE CASCADE, twin INT REFERENCES tree (id) ON DELETE SET NULL)").await;
        db.track("tree", Tracking::new().storage(storage)).await;
        db.run("INSERT INTO tree VALUES (1, NULL, NULL), (2, 1, NULL), (3, 2, 1), (4, 3, NULL), (5, NULL, 3), (6, 6, NULL), (7, 6, NULL)").await;
        mark(db).await;
        db.run("DELETE FROM tree WHERE id = 1").await;
        let mut recorded = signs(db, "tree").await;
        recorded.sort();
        assert_eq!(recorded, ["-1", "-2", "-3", "-4", "~5"]);
        db.verify().await;
        db.run("DELETE FROM tree WHERE id = 6").await;
        db.verify().await;
        assert_eq!(db.signs("tree", "6").await, "+-");
    })
    .await;
}

#[tokio::test]
async fn keys_that_change_with_those_they_refer_to() {
    in_both(async |db, storage| {
        db.run("CREATE TABLE team (id INT PRIMARY KEY, code VARCHAR(9) UNIQUE);
                CREATE TABLE member (team INT, id INT, code VARCHAR(9), PRIMARY KEY (team, id),
                  FOREIGN KEY (team) REFERENCES team (id) ON UPDATE CASCADE, FOREIGN KEY (code) REFERENCES team (code) ON UPDATE CASCADE ON DELETE SET NULL)")
            .await;
        db.track("member", Tracking::new().storage(storage)).await;
        db.run("INSERT INTO team VALUES (1, 'a'), (2, 'b'); INSERT INTO member VALUES (1, 1, 'a'), (1, 2, 'b'), (2, 1, NULL)").await;
        db.run("UPDATE team SET id = 7 WHERE id = 1").await;
        let life = db.versions("member", "team=7,id=2").await;
        assert_eq!(changes(life.last().unwrap()), ["team: 1 -> 7"]);
        assert_eq!(db.versions("member", "team=1,id=2").await.len(), life.len(), "the old key leads to the same row");
        db.run("UPDATE team SET code = 'c' WHERE id = 2").await;
        assert_eq!(changes(db.versions("member", "team=7,id=2").await.last().unwrap()), ["code: b -> c"]);
        db.run("UPDATE team SET id = 8, code = 'd' WHERE id = 7").await;
        let life = db.versions("member", "team=8,id=1").await;
        assert_eq!(changes(life.last().unwrap()), ["team: 7 -> 8", "code: a -> d"]);
        db.verify().await;
    })
    .await;
}

#[tokio::test]
async fn a_cascade_that_does_not_happen_leaves_no_record() {
    in_both(async |db, storage| {
        db.run("CREATE TABLE a (id INT PRIMARY KEY); CREATE TABLE b (id INT PRIMARY KEY, a INT REFERENCES a (id) ON DELETE CASCADE);
                CREATE TABLE keeper (a INT REFERENCES a (id))")
            .await;
        db.track("b", Tracking::new().storage(storage)).await;
        db.run("INSERT INTO a VALUES (1), (2), (3); INSERT INTO b VALUES (1, 1), (2, 2), (3, 3); INSERT INTO keeper VALUES (1)").await;
        mark(db).await;
        db.run("DELETE IGNORE FROM a WHERE id < 3").await;
        assert_eq!(signs(db, "b").await, ["-2"], "the first was kept");
        db.run("SET foreign_key_checks = 0; DELETE FROM a WHERE id = 3; SET foreign_key_checks = 1").await;
        assert_eq!(signs(db, "b").await, ["-2"], "nothing cascaded");
        assert!(db.try_run("START TRANSACTION; DELETE FROM a").await.is_err());
        db.run("ROLLBACK").await;
        db.verify().await;
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_followed_is_refused() {
    let mut db = TestDb::mariadb().await;
    db.run("CREATE TABLE a (id INT PRIMARY KEY, up INT REFERENCES a (id) ON DELETE CASCADE); CREATE TABLE b (id INT PRIMARY KEY, a INT REFERENCES a (id) ON DELETE CASCADE);
            CREATE TABLE notes (id INT PRIMARY KEY) ENGINE = Aria; CREATE SEQUENCE numbers; CREATE TABLE keyless (n INT)")
        .await;
    for (table, why) in [
        ("b", "fires no trigger"),
        ("notes", "no transactions"),
        ("numbers", "a sequence"),
        ("keyless", "key"),
    ] {
        let said = message(db.audit.track(table, Tracking::new()).await);
        assert!(said.contains(why), "{table}: {said}");
    }
}

#[tokio::test]
async fn an_ignored_update_leaves_no_record() {
    in_both(async |db, storage| {
        db.run("CREATE TABLE parent (id INT PRIMARY KEY); CREATE TABLE t (id INT PRIMARY KEY, u INT UNIQUE, p INT REFERENCES parent (id), n INT)").await;
        db.track("t", Tracking::new().storage(storage)).await;
        db.run("INSERT INTO parent VALUES (1); INSERT INTO t VALUES (1, 1, 1, 0), (2, 2, 1, 0), (3, 3, 1, 0)").await;
        mark(db).await;
        db.run("UPDATE IGNORE t SET u = 1 WHERE id = 2; UPDATE IGNORE t SET id = 1 WHERE id = 2; UPDATE IGNORE t SET p = 9 WHERE id = 3").await;
        assert_eq!(signs(db, "t").await, Vec::<String>::new());
        db.run("UPDATE IGNORE t SET u = u + 1, n = 5 ORDER BY u DESC").await;
        db.verify().await;
        db.run("UPDATE t SET id = id + 10 ORDER BY id DESC; UPDATE t SET id = id + 1 ORDER BY id DESC").await;
        assert_eq!(db.signs("t", "14").await, "+~++");
        db.verify().await;
    })
    .await;
}

#[tokio::test]
async fn statements_of_every_kind() {
    in_both(async |db, storage| {
        db.run("CREATE TABLE t (id INT PRIMARY KEY, u INT UNIQUE, n INT); CREATE TABLE s (id INT PRIMARY KEY, n INT)").await;
        db.track("t", Tracking::new().storage(storage)).await;
        db.run("INSERT INTO t VALUES (1, 1, 0), (2, 2, 0)").await;
        for sql in [
            "REPLACE INTO t VALUES (1, 1, 5)",
            "REPLACE INTO t VALUES (3, 2, 5)",
            "INSERT IGNORE INTO t VALUES (1, 9, 9), (4, 4, 4)",
            "INSERT INTO t VALUES (1, 9, 9) ON DUPLICATE KEY UPDATE n = n + 1, id = 10",
            "INSERT INTO s VALUES (3, 7), (4, 8)",
            "UPDATE t JOIN s USING (id) SET t.n = s.n, s.n = 0",
            "DELETE t, s FROM t JOIN s USING (id) WHERE t.id = 3",
            "INSERT INTO t (id) SELECT seq FROM seq_100_to_150",
            "UPDATE t SET n = id WHERE id >= 100 LIMIT 20",
            "DELETE FROM t WHERE id >= 140",
            "UPDATE t SET n = n",
        ] {
            db.run(sql).await;
            db.verify().await;
        }
        assert_eq!(db.signs("t", "2").await, "+-");
        assert_eq!(db.signs("t", "3").await, "+~-");
    })
    .await;
}

#[tokio::test]
async fn what_no_trigger_sees_is_found_by_verify() {
    let mut db = TestDb::mariadb().await;
    db.run("CREATE TABLE t (id INT PRIMARY KEY, n INT)").await;
    db.track("t", Tracking::new()).await;
    db.run("INSERT INTO t VALUES (1, 1), (2, 2); TRUNCATE t").await;
    assert_eq!(db.audit.verify(&[]).await.unwrap()[0].difference_count, 2);
    let findings = db.audit.doctor().await.unwrap();
    assert!(findings.iter().any(|found| found.finding.contains("TRUNCATE")), "{findings:?}");
    let mended = db.audit.resync(&afterimage::Resync::new("t"), &actor("1")).await.unwrap();
    assert_eq!((mended.records, mended.gaps), (2, 2));
    db.verify().await;
}

#[tokio::test]
async fn records_cannot_be_changed() {
    let mut db = TestDb::mariadb().await;
    db.run("CREATE TABLE t (id INT PRIMARY KEY, n INT)").await;
    db.track("t", Tracking::new()).await;
    db.run_as("ann", "why", "INSERT INTO t VALUES (1, 1)").await;
    for sql in [
        "UPDATE t_history SET n = 2",
        "UPDATE IGNORE t_history SET n = 2",
        "DELETE FROM t_history",
        "DELETE IGNORE FROM t_history",
        "REPLACE INTO t_history SELECT * FROM t_history",
        "UPDATE afterimage_scope SET actor = 'bob'",
        "DELETE FROM afterimage_scope",
    ] {
        let _ = db.try_run(sql).await;
        assert_eq!(db.signs("t", "1").await, "+", "{sql}");
        let version = db.versions("t", "1").await.remove(0);
        assert_eq!(
            (row(&version)["n"].clone(), version.header.user.as_deref()),
            (1.into(), Some("ann")),
            "{sql}"
        );
    }
}

/// A trigger belongs to the database of its table, and ours stand in this one.
#[tokio::test]
async fn a_cascade_from_another_database_is_refused() {
    let mut db = TestDb::mariadb().await;
    let other = TestDb::mariadb().await;
    let elsewhere = other.url.rsplit_once('/').unwrap().1.to_owned();
    db.run(&format!("CREATE TABLE {elsewhere}.parent (id INT PRIMARY KEY)")).await;
    // One of the same name stands here, and has nothing to do with it.
    db.run("CREATE TABLE parent (id INT PRIMARY KEY)").await;
    db.run(&format!("CREATE TABLE t (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES {elsewhere}.parent (id) ON DELETE CASCADE)")).await;
    let said = message(db.audit.track("t", Tracking::new()).await);
    assert!(said.contains("another database") && said.contains(&elsewhere), "{said}");
    db.run("ALTER TABLE t DROP CONSTRAINT t_ibfk_1").await;
    db.run(&format!("ALTER TABLE t ADD FOREIGN KEY (p) REFERENCES {elsewhere}.parent (id)")).await;
    db.track("t", Tracking::new()).await;
}

/// A row that is just like the one it was to become is not that one.
#[tokio::test]
async fn an_ignored_change_of_key_to_that_of_an_equal_row_leaves_no_record() {
    in_both(async |db, storage| {
        db.run("CREATE TABLE t (id INT PRIMARY KEY, note VARCHAR(10))").await;
        db.track("t", Tracking::new().storage(storage)).await;
        db.run("INSERT INTO t VALUES (1, 'x'), (2, 'x'), (3, 'y')").await;
        db.run("UPDATE IGNORE t SET id = 1").await;
        assert_eq!((db.signs("t", "1").await, db.signs("t", "2").await), ("+".into(), "+".into()));
        db.verify().await;
    })
    .await;
}

/// A timestamp's fraction is lost where MariaDB 10.11 compares it with a row looked up by its key.
#[tokio::test]
async fn an_update_of_a_unique_column_beside_a_timestamp_is_recorded() {
    in_both(async |db, storage| {
        db.run("CREATE TABLE t (id INT PRIMARY KEY, n INT UNIQUE, at TIMESTAMP(6) NULL)").await;
        db.track("t", Tracking::new().storage(storage)).await;
        db.run("INSERT INTO t VALUES (1, NULL, NULL)").await;
        db.run("UPDATE t SET n = 1, at = '2026-11-22 08:00:00.123456'").await;
        assert_eq!(db.signs("t", "1").await, "+~");
        db.verify().await;
    })
    .await;
}

/// 'A' and 'a' are one key to the server, and two rows one after the other to the history.
#[tokio::test]
async fn a_row_replaced_by_one_whose_key_differs_in_case_is_told_apart() {
    in_both(async |db, storage| {
        db.run("CREATE TABLE t (id VARCHAR(9) PRIMARY KEY, n INT)").await;
        db.track("t", Tracking::new().storage(storage)).await;
        db.run("REPLACE INTO t VALUES ('A', 1), ('a', 1)").await;
        assert_eq!((db.signs("t", "A").await, db.signs("t", "a").await), ("+-".into(), "+".into()));
        db.verify().await;
    })
    .await;
}

/// What a statement noted that failed stays noted; the transaction ends with its last record all the same.
#[tokio::test]
async fn a_transaction_ends_with_its_last_record_though_a_later_statement_failed() {
    let mut db = TestDb::mariadb().await;
    db.run("CREATE TABLE t (id INT PRIMARY KEY, n INT)").await;
    db.track("t", Tracking::new()).await;
    db.run("INSERT INTO t VALUES (1, 0)").await;
    db.run("START TRANSACTION; INSERT INTO afterimage_context (actor) VALUES ('ann'); UPDATE t SET n = 1; UPDATE t SET n = 2").await;
    assert!(db.try_run("INSERT INTO t VALUES (2, 0), (2, 0)").await.is_err());
    db.run("DELETE FROM afterimage_context; COMMIT").await;
    let last = db.versions("t", "1").await.pop().unwrap();
    assert_eq!(db.as_of("t", at(&last)).await, [serde_json::json!({"id": 1, "n": 2})]);
}
