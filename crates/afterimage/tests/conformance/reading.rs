//! Versions, the state as of a time, and differences.

use afterimage::{AsOfQuery, DiffOptions, PointInTime, Selector, Storage, Tracking};
use serde_json::json;

use super::capture::docs;
use crate::support::*;

async fn count(db: &TestDb, at: &PointInTime, filter: &str) -> usize {
    let query = AsOfQuery { filter: Some(filter.to_owned()), ..AsOfQuery::new("doc", at.clone()) };
    db.audit.as_of(&query).await.unwrap().rows.len()
}

conformance! {
    "5" "as of a record's time it is part of it; before a row's creation is told from after its deletion" => case_5(db, tracking) {
        docs(db, tracking).await;
        db.tick().await;
        db.run("INSERT INTO doc VALUES (2, 0, 'other')").await;
        for sql in ["INSERT INTO doc VALUES (1, 1, 'a')", "UPDATE doc SET rank = 2 WHERE id = 1", "UPDATE doc SET rank = 3 WHERE id = 1", "DELETE FROM doc WHERE id = 1"] {
            db.tick().await;
            db.run(sql).await;
        }
        let versions = db.versions("doc", "1").await;
        for (version, rank) in versions[..3].iter().zip(1..) {
            let seen = db.audit.show("doc", "1", &at(version)).await.unwrap();
            assert_eq!(row(&seen)["rank"], rank);
        }
        let before = db.versions("doc", "2").await;
        assert!(message(db.audit.show("doc", "1", &at(&before[0])).await).contains("did not exist yet"));
        let deleted = db.audit.show("doc", "1", &PointInTime::Now).await.unwrap();
        assert_eq!(deleted.header.action, afterimage::Action::Delete);
    }

    "6" "a filter of a table as of a time is one on the state of that time" => case_6(db, tracking) {
        docs(db, tracking).await;
        db.tick().await;
        let t0 = db.moment().await;
        db.run("INSERT INTO doc VALUES (1, 42, 'a'), (2, 84, 'b')").await;
        let t1 = db.moment().await;
        db.run("UPDATE doc SET rank = 51 WHERE id = 2").await;
        db.run("DELETE FROM doc WHERE id = 1").await;
        let counts = async |at| (count(db, at, "1 = 1").await, count(db, at, "rank >= 75").await);
        assert_eq!(counts(&t0).await, (0, 0));
        assert_eq!(counts(&t1).await, (2, 1));
        assert_eq!(counts(&PointInTime::Now).await, (1, 0));
        assert_eq!(db.audit.count_as_of("doc", &t1).await.unwrap(), 2);
        assert_eq!(db.audit.count_as_of("doc", &PointInTime::Now).await.unwrap(), 1);
    }

    "7" "the latest record of each row" => case_7(db, tracking) {
        docs(db, tracking).await;
        for sql in [
            "INSERT INTO doc VALUES (1, 10, 'a')", "INSERT INTO doc VALUES (2, 20, 'b')", "UPDATE doc SET rank = 21 WHERE id = 2",
            "INSERT INTO doc VALUES (3, 30, 'c')", "UPDATE doc SET rank = 31 WHERE id = 3", "DELETE FROM doc WHERE id = 3",
            "INSERT INTO doc VALUES (4, 40, 'd')", "DELETE FROM doc WHERE id = 4", "INSERT INTO doc VALUES (4, 42, 'e')",
        ] {
            db.run(sql).await;
        }
        let told = |entries: Vec<afterimage::LogEntry>| -> Vec<String> {
            entries.iter().map(|e| format!("{}{}", e.header.action.sign(), e.key[0].1)).collect()
        };
        assert_eq!(told(db.audit.latest_of_each("doc", None).await.unwrap()), ["+1", "~2", "+4"]);
        assert_eq!(told(db.audit.deleted_rows("doc", None).await.unwrap()), ["-3"]);
        assert_eq!(row(&db.versions("doc", "4").await.pop().unwrap())["rank"], 42);
    }

    "8" "the version before and the version after, also where columns are left out" => case_8(db, tracking) {
        docs(db, tracking.exclude(["note"])).await;
        db.run("INSERT INTO doc VALUES (1, 1, 'x')").await;
        for rank in 2..5 {
            db.tick().await;
            db.run(&format!("UPDATE doc SET rank = {rank}, note = '{rank}'")).await;
        }
        let version = async |number| db.audit.version("doc", "1", &Selector::Number(number)).await;
        let second = version(2).await.unwrap();
        assert_eq!(row(&version(second.number - 1).await.unwrap())["rank"], 1);
        assert_eq!(row(&version(second.number + 1).await.unwrap())["rank"], 3);
        assert!(version(0).await.is_err() && version(5).await.is_err());
    }

    "9" "a difference names the fields that differ, typed; mirrored when asked the other way round" => case_9(db, tracking) {
        docs(db, tracking).await;
        db.run("INSERT INTO doc VALUES (1, 0, 'idk')").await;
        db.tick().await;
        db.run("UPDATE doc SET rank = 3, note = 'hmm'").await;
        let diff = async |from, to, options: DiffOptions| {
            let diff = db.audit.diff("doc", "1", &Selector::Number(from), &Selector::Number(to), &options).await?;
            Ok::<_, afterimage::Error>(diff.fields.iter().map(|f| format!("{} {} {}", f.field, f.old, f.new)).collect::<Vec<_>>())
        };
        let only = |names: &[&str], not: &[&str]| DiffOptions {
            include: Some(names.iter().map(ToString::to_string).collect()),
            exclude: not.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(diff(1, 2, DiffOptions::default()).await.unwrap(), ["rank 0 3", "note idk hmm"]);
        assert_eq!(diff(2, 1, DiffOptions::default()).await.unwrap(), ["rank 3 0", "note hmm idk"]);
        assert_eq!(diff(1, 2, only(&["rank", "note"], &["note"])).await.unwrap(), ["rank 0 3"], "exclude wins");
        assert_eq!(diff(1, 2, only(&[], &[])).await.unwrap(), [""; 0]);
        assert!(message(diff(1, 2, only(&["nope"], &[])).await).contains("neither version has a column"));
    }

    "T15" "a condition on the key of a table as of a time is one on its key" => trap_15(db, tracking) {
        docs(db, tracking).await;
        for id in [7, 8, 9] {
            db.run(&format!("INSERT INTO doc VALUES ({id}, 0, 'a')")).await;
        }
        db.run("UPDATE doc SET rank = 1").await;
        let now = db.moment().await;
        for (filter, rows) in [("id IN (7, 9)", 2), ("NOT id = 8", 2), ("id = 1", 0)] {
            assert_eq!(count(db, &now, filter).await, rows, "{filter}");
        }
        assert_eq!(db.as_of("doc", now).await[1], json!({"id": 8, "rank": 1, "note": "a"}));
    }
}
