//! What is recorded, and what is not.

use afterimage::{AsOfQuery, Context, ErrorKind, LogQuery, Moment, PointInTime, Resync, Storage, Tracking};
use serde_json::json;

use crate::support::*;

/// `doc (id, rank, note)`, tracked, empty.
pub async fn docs(db: &mut TestDb, tracking: Tracking) {
    db.run("CREATE TABLE doc (id INTEGER PRIMARY KEY, rank INTEGER, note TEXT)").await;
    db.track("doc", tracking).await;
}

conformance! {
    "1" "a creation, an update and a deletion are three records, each with the row of then" => case_1(db, tracking) {
        docs(db, tracking).await;
        db.run("INSERT INTO doc VALUES (1, 1, 'what is up?')").await;
        db.run("UPDATE doc SET rank = 2").await;
        db.run_as("ann", "wrongEntry", "DELETE FROM doc").await;
        let versions = db.versions("doc", "1").await;
        let told: Vec<_> = versions.iter().map(|v| (v.header.action.sign(), row(v)["rank"].clone(), v.header.reason.as_deref())).collect();
        assert_eq!(told, [("+", json!(1), None), ("~", json!(2), None), ("-", json!(2), Some("wrongEntry"))]);
    }

    "2" "what is skipped, by who may, leaves no record but a gap; the next write is recorded" superseded by "law 9" => case_2(db, tracking) {
        docs(db, tracking).await;
        db.audit.allow_skip(true).await.unwrap();
        db.run("INSERT INTO doc VALUES (1, 3, 'a')").await;
        let mut tx = db.audit.begin(&actor("importer").skip()).await.unwrap();
        tx.execute("UPDATE doc SET rank = 4", &[]).await.unwrap();
        tx.commit().await.unwrap();
        db.run("UPDATE doc SET rank = 6").await;
        let ranks: Vec<_> = db.versions("doc", "1").await.iter().map(|v| row(v)["rank"].clone()).collect();
        assert_eq!(ranks, [json!(3), json!(6)]);
        assert_eq!(db.audit.log(&LogQuery::default()).await.unwrap().gaps.len(), 1);
        db.audit.resync(&Resync::new("doc"), &actor("9")).await.unwrap();
    }

    "3" "what is written while a table is not tracked leaves no record but a gap" superseded by "law 9" => case_3(db, tracking) {
        docs(db, tracking.clone()).await;
        db.run("INSERT INTO doc VALUES (1, 1, 'a')").await;
        db.audit.untrack("doc", false).await.unwrap();
        db.run("UPDATE doc SET rank = 2; INSERT INTO doc VALUES (2, 2, 'b')").await;
        assert_eq!((db.signs("doc", "1").await, db.signs("doc", "2").await), ("+".into(), String::new()));
        let error = db.audit.as_of(&AsOfQuery::new("doc", PointInTime::Now)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unknowable, "{error}");
        db.track("doc", tracking).await;
        assert_eq!(db.signs("doc", "1").await, "+~", "what is there now is written down");
        assert_eq!(db.as_of("doc", PointInTime::Now).await.len(), 2);
    }

    "4" "an explicit time that is older than the row's newest record is refused, not sorted in" superseded by "law 6" => case_4(db, tracking) {
        db.audit.allow_explicit_time(true).await.unwrap();
        docs(db, tracking).await;
        let day = |text: &str| Moment::parse(text, Moment::now(), "UTC").unwrap();
        let mut tx = db.audit.begin(&Context::new().at(day("2020-02-02"))).await.unwrap();
        tx.execute("INSERT INTO doc VALUES (1, 1, 'a')", &[]).await.unwrap();
        tx.commit().await.unwrap();
        let mut tx = db.audit.begin(&Context::new().at(day("2020-02-01"))).await.unwrap();
        let refused = message(tx.execute("UPDATE doc SET rank = 2", &[]).await);
        assert!(refused.contains("newer record"), "{refused}");
        drop(tx);
        let versions = db.versions("doc", "1").await;
        assert_eq!((versions.len(), versions[0].header.date), (1, day("2020-02-02")));
        assert!(versions[0].header.context.as_deref().unwrap().contains("recorded_at"), "the real time is kept");
    }

    "13" "an excluded column is not in the history, and a way back leaves it alone" => case_13(db, tracking) {
        docs(db, tracking.exclude(["note"])).await;
        db.run("INSERT INTO doc VALUES (1, 1, 'secret')").await;
        db.run("UPDATE doc SET note = 'other secret'").await;
        db.tick().await;
        db.run("UPDATE doc SET rank = 2, note = 'third secret'").await;
        db.tick().await;
        let versions = db.versions("doc", "1").await;
        assert_eq!(versions.len(), 2, "a change of only an excluded column leaves no record");
        assert_eq!(row(&versions[1]), json!({"id": 1, "rank": 2}));
        let back = afterimage::Revert::new("doc", "1", afterimage::Selector::Number(1));
        db.audit.revert(&back, &actor("9")).await.unwrap();
        assert_eq!(db.text("SELECT note FROM doc").await.as_deref(), Some("third secret"));
        db.run("DELETE FROM doc").await;
        db.audit.restore(&afterimage::Restore::new("doc", "1"), &actor("9")).await.unwrap();
        assert_eq!(db.text("SELECT note FROM doc").await, None, "of a deleted row it is not known");
    }

    "15" "rows of one statement have a record each, and share its fate" => case_15(db, tracking) {
        docs(db, tracking).await;
        db.run("INSERT INTO doc VALUES (1, 1, 'a'), (2, 2, 'b'), (3, 3, 'c'), (4, 4, 'd'), (5, 5, 'e')").await;
        db.run("INSERT INTO doc VALUES (5, 0, 'x'), (6, 6, 'f'), (7, 7, 'g') ON CONFLICT DO NOTHING").await;
        assert_eq!(db.audit.status().await.unwrap()[0].records, 7);
        assert!(db.try_run("INSERT INTO doc VALUES (8, 8, 'h'), (1, 1, 'dup')").await.is_err());
        assert_eq!(db.audit.status().await.unwrap()[0].records, 7);
        db.run_as("ann", "price match", "UPDATE doc SET rank = rank + 1 WHERE id <= 5").await;
        for key in ["1", "2", "3", "4", "5"] {
            let last = db.versions("doc", key).await.pop().unwrap();
            assert_eq!((last.header.action.sign(), last.header.reason.as_deref()), ("~", Some("price match")));
        }
    }

    "18, 19" "only what changed and is tracked is a change" => cases_18_and_19(db, tracking) {
        docs(db, tracking.clone()).await;
        db.run("INSERT INTO doc VALUES (1, 1, 'a')").await;
        db.run("UPDATE doc SET rank = 1, note = 'b'").await;
        db.run("UPDATE doc SET rank = 1, note = 'b'").await;
        let versions = db.versions("doc", "1").await;
        assert_eq!(versions.len(), 2, "an identical save leaves no record");
        assert_eq!(changes(&versions[1]), ["note: a -> b"]);
        db.audit.untrack("doc", true).await.unwrap();
        db.track("doc", tracking.clone().include(["rank"])).await;
        db.run("UPDATE doc SET note = 'c'").await;
        assert_eq!(db.signs("doc", "1").await, "+", "only what is included counts");
        db.audit.untrack("doc", true).await.unwrap();
        db.track("doc", tracking.include(["rank", "note"]).exclude(["rank"])).await;
        assert_eq!(row(&db.versions("doc", "1").await[0]), json!({"id": 1, "note": "c"}), "exclude wins");
    }

    "T1" "two writes of one moment are two versions in order" => trap_1(db, tracking) {
        docs(db, tracking).await;
        db.run("BEGIN; INSERT INTO doc VALUES (1, 1, 'a'); UPDATE doc SET rank = 2; UPDATE doc SET rank = 3; COMMIT").await;
        let versions = db.versions("doc", "1").await;
        let ranks: Vec<String> = versions.iter().map(|v| row(v)["rank"].to_string()).collect();
        assert_eq!(ranks, ["1", "2", "3"]);
        assert_eq!(db.as_of("doc", at(&versions[2])).await.len(), 1, "one row, however many records of that moment");
    }

    "T2, T3, T4" "a record holds what the database stored, not what a program meant to write" => traps_2_3_and_4(db, tracking) {
        db.run("CREATE TABLE doc (id INTEGER PRIMARY KEY, rank INTEGER DEFAULT 7, note TEXT DEFAULT 'none')").await;
        db.track("doc", tracking).await;
        db.run("INSERT INTO doc (id) VALUES (1)").await;
        db.run("UPDATE doc SET rank = rank + 1").await;
        db.run("UPDATE doc SET note = note || '!' WHERE id IN (1)").await;
        assert_eq!(row(&db.versions("doc", "1").await[2]), json!({"id": 1, "rank": 8, "note": "none!"}));
    }

    "T5" "a rejected write leaves no record" => trap_5(db, tracking) {
        docs(db, tracking).await;
        db.run("INSERT INTO doc VALUES (1, 1, 'a'), (2, 2, 'b')").await;
        assert!(db.try_run("UPDATE doc SET id = 1 WHERE id = 2").await.is_err());
        assert!(db.try_run("INSERT INTO doc VALUES (3, 3, 'c'), (1, 1, 'dup')").await.is_err());
        assert_eq!(db.audit.status().await.unwrap()[0].records, 2);
    }

    "T6" "an upsert is a creation or an update" => trap_6(db, tracking) {
        docs(db, tracking).await;
        let conflict = "INSERT INTO doc VALUES (1, 5, 'a') ON CONFLICT (id) DO UPDATE SET rank = doc.rank + 1";
        let upsert = db.by3(conflict, conflict, "INSERT INTO doc VALUES (1, 5, 'a') ON DUPLICATE KEY UPDATE rank = rank + 1");
        db.run(upsert).await;
        db.run(upsert).await;
        db.run("INSERT INTO doc VALUES (1, 9, 'z') ON CONFLICT DO NOTHING").await;
        let versions = db.versions("doc", "1").await;
        assert_eq!(db.signs("doc", "1").await, "+~");
        assert_eq!(changes(&versions[1]), ["rank: 5 -> 6"]);
    }

    "T17" "raw SQL, bulk statements and cascades are recorded" => trap_17(db, tracking) {
        docs(db, tracking.clone()).await;
        db.run("CREATE TABLE line (id INTEGER PRIMARY KEY, doc_id INTEGER REFERENCES doc (id) ON DELETE CASCADE)").await;
        db.run("CREATE TABLE mark (id INTEGER PRIMARY KEY, doc_id INTEGER REFERENCES doc (id) ON DELETE SET NULL)").await;
        db.track("line", tracking.clone()).await;
        db.track("mark", tracking).await;
        db.run("INSERT INTO doc VALUES (1, 0, 'a')").await;
        db.run("INSERT INTO line VALUES (1, 1), (2, 1)").await;
        db.run("INSERT INTO mark VALUES (1, 1)").await;
        db.run_as("ann", "cleaning up", "DELETE FROM doc").await;
        for (table, key, signs) in [("line", "1", "+-"), ("line", "2", "+-"), ("mark", "1", "+~")] {
            let last = db.versions(table, key).await.pop().unwrap();
            assert_eq!(db.signs(table, key).await, signs, "{table} {key}");
            assert_eq!(last.header.user.as_deref(), Some("ann"), "a cascade is the actor's too");
        }
        assert_eq!(changes(&db.versions("mark", "1").await[1]), ["doc_id: 1 -> ∅"]);
    }

    "T20" "change and record commit together, or neither" => trap_20(db, tracking) {
        docs(db, tracking).await;
        db.run("BEGIN; INSERT INTO doc VALUES (1, 1, 'a'); SAVEPOINT s; UPDATE doc SET rank = 2; ROLLBACK TO s; UPDATE doc SET rank = 3; COMMIT").await;
        db.run("BEGIN; UPDATE doc SET rank = 4; ROLLBACK").await;
        let ranks: Vec<String> = db.versions("doc", "1").await.iter().map(|v| row(v)["rank"].to_string()).collect();
        assert_eq!(ranks, ["1", "3"]);
    }
}
