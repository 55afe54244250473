//! The peers' cases about versions, and the traps that they fell into.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support::*;
use afterimage::{AsOfQuery, Selector, Tracking};

on_every_database! {
    /// Case 8: the version before and the version after, also where columns are left out.
    async fn each_version_has_its_neighbours(db: &mut TestDb) {
        for storage in STORAGES {
            db.run("CREATE TABLE doc (id INTEGER PRIMARY KEY, rank INTEGER, cache TEXT)").await;
            db.track("doc", Tracking::new().storage(storage).exclude(["cache"])).await;
            db.run("INSERT INTO doc VALUES (1, 1, 'x')").await;
            for rank in 2..5 {
                db.tick().await;
                db.run(&format!("UPDATE doc SET rank = {rank}, cache = '{rank}'")).await;
            }
            let version = async |number| db.audit.version("doc", "1", &Selector::Number(number)).await;
            let second = version(2).await.unwrap();
            assert_eq!(version(second.number - 1).await.unwrap().row[1].1.to_string(), "1");
            assert_eq!(version(second.number + 1).await.unwrap().row[1].1.to_string(), "3");
            assert!(version(0).await.is_err() && version(5).await.is_err());
            for (text, number) in [("current", 4), ("previous", 3), ("v2", 2), (&format!("id:{}", second.header.id), 2)] {
                let selector = Selector::parse(text, "UTC").unwrap();
                assert_eq!(db.audit.version("doc", "1", &selector).await.unwrap().number, number, "{text}");
            }
            db.audit.untrack("doc", true).await.unwrap();
            db.run("DROP TABLE doc").await;
        }
    }
}

on_every_database! {
    /// Case 7: the newest record of each row; those that are deleted apart.
    async fn the_latest_of_each_row_and_the_deleted_ones(db: &mut TestDb) {
        for storage in STORAGES {
            db.run("CREATE TABLE doc (id INTEGER PRIMARY KEY, rank INTEGER)").await;
            db.track("doc", Tracking::new().storage(storage)).await;
            for sql in [
                "INSERT INTO doc VALUES (1, 10), (2, 20), (3, 30), (4, 40)",
                "UPDATE doc SET rank = rank + 1 WHERE id IN (2, 3)",
                "DELETE FROM doc WHERE id IN (3, 4)",
                "INSERT INTO doc VALUES (4, 42)",
            ] {
                db.run(sql).await;
                db.tick().await;
            }
            let told = |entries: Vec<afterimage::LogEntry>| -> Vec<String> {
                let value = |e: &afterimage::LogEntry| {
                    let change = e.changes.iter().find(|c| c.field == "rank").unwrap();
                    if e.header.action.sign() == "-" { change.old.to_string() } else { change.new.to_string() }
                };
                entries.iter().map(|e| format!("{}{}={}", e.header.action.sign(), e.key[0].1, value(e))).collect()
            };
            assert_eq!(told(db.audit.latest_of_each("doc", None).await.unwrap()), ["+1=10", "~2=21", "+4=42"]);
            assert_eq!(told(db.audit.latest_of_each("doc", Some(1)).await.unwrap()), ["+1=10"]);
            assert_eq!(told(db.audit.deleted_rows("doc", None).await.unwrap()), ["-3=31"]);
            db.audit.untrack("doc", true).await.unwrap();
            db.run("DROP TABLE doc").await;
        }
    }
}

on_every_database! {
    /// Trap T15: a condition on the key of a table as of a time is one on its key.
    async fn a_condition_on_the_key_is_one_on_the_rows_key(db: &mut TestDb) {
        db.run("CREATE TABLE doc (id INTEGER PRIMARY KEY, rank INTEGER)").await;
        db.track("doc", Tracking::new()).await;
        db.run("INSERT INTO doc VALUES (10, 1), (20, 2), (30, 3)").await;
        db.tick().await;
        db.run("UPDATE doc SET rank = rank + 1").await;
        for (condition, count) in [("id IN (10, 30)", 2), ("NOT id = 10", 2), ("id IN (1, 2, 3, 4, 5, 6)", 0)] {
            let query = AsOfQuery { filter: Some(condition.to_owned()), ..AsOfQuery::new("doc", now()) };
            assert_eq!(db.audit.as_of(&query).await.unwrap().rows.len(), count, "{condition}");
        }
    }
}

on_every_database! {
    /// Case 17: related tables as of one time.
    async fn several_tables_as_of_one_time_fit_together(db: &mut TestDb) {
        db.run(
            "CREATE TABLE org (id INTEGER PRIMARY KEY, name TEXT);
             CREATE TABLE person (id INTEGER PRIMARY KEY, org INTEGER REFERENCES org, name TEXT)",
        )
        .await;
        for table in ["org", "person"] {
            db.track(table, Tracking::new()).await;
        }
        db.run("INSERT INTO org VALUES (1, 'original'); INSERT INTO person VALUES (1, 1, 'p1')").await;
        let first = db.moment().await;
        db.run("INSERT INTO person VALUES (2, 1, 'p2'); UPDATE org SET name = 'modified'").await;
        let second = db.moment().await;
        db.run("DELETE FROM person WHERE id = 1").await;
        let third = db.moment().await;
        for (at, name, people) in [(first, "original", 1), (second, "modified", 2), (third, "modified", 1)] {
            let states = db.audit.as_of_tables(&["org", "person"], &at).await.unwrap();
            assert_eq!((states[0].rows[0][1].to_string(), states[1].rows.len()), (name.to_owned(), people));
            let (_, related) = db.audit.show_with_related("org", "1", &at).await.unwrap();
            assert_eq!(related[0].rows.rows.len(), people);
        }
    }
}

on_every_database! {
    /// Case 16: what has records gets none again; one bad name, and nothing is written.
    async fn a_baseline_is_written_once(db: &mut TestDb) {
        db.run("CREATE TABLE doc (id INTEGER PRIMARY KEY, rank INTEGER); INSERT INTO doc VALUES (1, 1), (2, 2)").await;
        assert_eq!(db.audit.track("doc", Tracking::new()).await.unwrap().baseline, 2);
        assert_eq!(db.audit.track("doc", Tracking::new()).await.unwrap().baseline, 0);
        assert_eq!(db.signs("doc", "1").await, "+");
        assert!(db.audit.track("dok", Tracking::new()).await.is_err());
        assert_eq!(db.audit.status().await.unwrap().len(), 1);
    }
}
