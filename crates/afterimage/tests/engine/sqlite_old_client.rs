//! SQLite: the system's `sqlite3`, an older version with its own settings, as the writer.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support::*;
use afterimage::{Storage, Tracking};
use tokio::io::AsyncWriteExt as _;

/// Runs SQL in the shell, which stops at the first error.
async fn shell(file: &std::path::Path, sql: &str) -> Result<String, String> {
    let mut child = tokio::process::Command::new("sqlite3")
        .args(["-batch", "-bail", "-cmd", ".timeout 5000"])
        .arg(file)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(sql.as_bytes()).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

const SCHEMA: &str = "CREATE TABLE item (id INTEGER PRIMARY KEY, code TEXT UNIQUE, n REAL, boss INTEGER REFERENCES item ON UPDATE CASCADE);
    CREATE UNIQUE INDEX cased ON item (lower(code), CASE WHEN n = '5' THEN code END) WHERE item.n IS NOT NULL";

#[tokio::test]
async fn bulk_writes_replacements_and_contexts() {
    for storage in [Storage::Snapshot, Storage::Delta] {
        let mut db = TestDb::sqlite().await;
        db.run(SCHEMA).await;
        db.track("item", Tracking::new().storage(storage)).await;
        shell(&db.file(), "WITH RECURSIVE g(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM g WHERE i < 1000) INSERT INTO item SELECT i, 'c' || i, i / 3.0, NULL FROM g;
            UPDATE item SET n = 1e308 * 10 WHERE id <= 100; DELETE FROM item WHERE id > 900;
            INSERT OR REPLACE INTO item VALUES (1, 'c2', 0.1 + 0.2, 1); REPLACE INTO item VALUES (5000, 'c3', -0.0, NULL);
            PRAGMA foreign_keys = ON; UPDATE item SET id = 6000 WHERE id = 1;
            UPDATE OR REPLACE item SET id = 4 WHERE id = 5;
            PRAGMA recursive_triggers = ON; REPLACE INTO item VALUES (7, 'c8', 5, NULL);
            PRAGMA trusted_schema = OFF; UPDATE item SET n = 9 WHERE id = 10;
            INSERT INTO item VALUES (10, 'c10', 1, NULL) ON CONFLICT DO UPDATE SET n = 11 RETURNING n;").await.unwrap();
        for (key, signs) in [
            ("2", "+~-"),
            ("3", "+~-"),
            ("5000", "+"),
            ("6000", "+~~+~"),
            ("4", "+~-+"),
            ("7", "+~-+"),
            ("8", "+~-"),
            ("10", "+~~~"),
            ("901", "+-"),
            ("500", "+"),
        ] {
            if key == "4" {
                let all =
                    db.lines("SELECT history_type FROM item_history WHERE id = 4 ORDER BY history_id").await;
                assert_eq!(all.concat(), signs);
                continue;
            }
            assert_eq!(db.signs("item", key).await, signs, "{key}");
        }
        let set = "INSERT INTO afterimage_context (actor, reason, extra) VALUES ('old', 'client', '{\"n\":null,\"big\":12345678901234567890}')";
        shell(&db.file(), &format!("BEGIN; {set}; UPDATE item SET n = 1 WHERE id = 500; UPDATE afterimage_context SET reason = 'then'; UPDATE item SET n = 2 WHERE id = 500; DELETE FROM afterimage_context; COMMIT;")).await.unwrap();
        let life = db.versions("item", "500").await;
        assert_eq!(life[1].header.context.as_deref(), Some("{\"n\":null,\"big\":12345678901234567890}"));
        assert_eq!(
            (life[2].header.user.as_deref(), life[2].header.reason.as_deref()),
            (Some("old"), Some("then"))
        );
        let forgotten = shell(
            &db.file(),
            &format!("PRAGMA foreign_keys = ON; BEGIN; {set}; UPDATE item SET n = 3 WHERE id = 500; COMMIT;"),
        )
        .await;
        assert!(forgotten.unwrap_err().contains("FOREIGN KEY"));
        assert_eq!(db.versions("item", "500").await.len(), 3);
        db.verify().await;
    }
}

#[tokio::test]
async fn what_plan_prints_runs_there_and_the_library_reads_it() {
    let mut db = TestDb::sqlite().await;
    db.run(SCHEMA).await;
    db.run("INSERT INTO item VALUES (1, 'a', 1, NULL), (2, 'b', 2, 1)").await;
    let script =
        |plan: &afterimage::PlannedTable| format!("BEGIN;\n{};\nCOMMIT;\n", plan.plan.up.join(";\n"));
    let plan = db.audit.plan("item", &Tracking::new().storage(Storage::Delta)).await.unwrap();
    shell(&db.file(), &script(&plan)).await.unwrap();
    shell(&db.file(), "UPDATE item SET n = 5 WHERE id = 1; REPLACE INTO item VALUES (3, 'b', 1, NULL);")
        .await
        .unwrap();
    assert!(db.audit.status().await.unwrap()[0].is_healthy(), "{:?}", db.audit.status().await.unwrap());
    assert_eq!(db.signs("item", "1").await, "+~");
    assert_eq!(db.signs("item", "2").await, "+-");
    db.verify().await;
    for change in [
        "ALTER TABLE item ADD COLUMN more TEXT DEFAULT 'd'",
        "ALTER TABLE item RENAME COLUMN more TO other",
        "ALTER TABLE item DROP COLUMN other",
    ] {
        let plan = db.audit.plan_after("item", change).await.unwrap();
        shell(&db.file(), &script(&plan)).await.unwrap();
        assert!(
            db.audit.status().await.unwrap()[0].is_healthy(),
            "{change}: {:?}",
            db.audit.status().await.unwrap()
        );
        db.verify().await;
    }
    shell(&db.file(), "UPDATE item SET n = 7 WHERE id = 1;").await.unwrap();
    assert_eq!(db.signs("item", "1").await, "+~~");
    db.verify().await;
}

#[tokio::test]
async fn a_plan_follows_the_tables_own_rename() {
    let mut db = TestDb::sqlite().await;
    db.run(SCHEMA).await;
    db.track("item", Tracking::new()).await;
    let plan = db.audit.plan_after("item", "ALTER TABLE item RENAME TO thing").await.unwrap();
    db.run("INSERT INTO item (id) VALUES (1)").await;
    shell(&db.file(), &format!("BEGIN;\n{};\nCOMMIT;\n", plan.plan.up.join(";\n"))).await.unwrap();
    shell(&db.file(), "DELETE FROM thing;").await.unwrap();
    assert_eq!(db.signs("thing", "1").await, "+-");
    db.verify().await;
}
