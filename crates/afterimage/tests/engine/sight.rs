//! What somebody sees who may not see everything.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use crate::support::*;
use afterimage::{
    Afterimage, AsOfQuery, Context, DiffOptions, ErrorKind, LogQuery, PointInTime, Restore, Revert,
    RevertTable, RevertTransaction, Selector, Sight, TableName, Tracking, Value,
};

/// Sees no secrets, and of people everything but what they earn.
struct Clerk;

impl Sight for Clerk {
    fn sees_table(&self, table: &TableName) -> bool {
        table.to_string() != "secret"
    }

    fn sees_column(&self, _table: &TableName, column: &str) -> bool {
        column != "salary"
    }
}

async fn office(db: &mut TestDb, storage: afterimage::Storage) -> Afterimage {
    db.run("CREATE TABLE person (id INTEGER PRIMARY KEY, name VARCHAR(50), salary INTEGER)").await;
    db.run("CREATE TABLE secret (id INTEGER PRIMARY KEY, word VARCHAR(50))").await;
    db.track("person", Tracking::new().storage(storage)).await;
    db.track("secret", Tracking::new().storage(storage)).await;
    db.run("INSERT INTO person VALUES (1, 'Ann', 1234), (2, 'Bob', NULL)").await;
    db.run("INSERT INTO secret VALUES (1, 'mellon')").await;
    db.tick().await;
    db.run("UPDATE person SET salary = 4321, name = 'Anna' WHERE id = 1").await;
    db.audit.seen_through(Arc::new(Clerk))
}

async fn count(audit: &Afterimage, query: &str) -> usize {
    audit.log(&LogQuery::parse(query).unwrap()).await.unwrap().entries.len()
}

on_every_database! {
    async fn a_hidden_column_is_masked_wherever_it_would_be_shown(db: &mut TestDb) {
        for storage in STORAGES {
            let clerk = office(db, storage).await;
            let log = clerk.log(&LogQuery::parse("table:person key:1 action:update").unwrap()).await.unwrap();
            let salary = |c: &&afterimage::FieldChange| c.field == "salary";
            let change = log.entries[0].changes.iter().find(salary).unwrap();
            assert_eq!((&change.old, &change.new), (&Value::Masked, &Value::Masked));
            let versions = clerk.history("person", "1").await.unwrap();
            assert!(versions.iter().all(|version| version.row[2].1 == Value::Masked), "{versions:?}");
            assert_eq!(versions[0].row[1].1.to_string(), "Anna");
            let state = clerk.as_of(&AsOfQuery::new("person", PointInTime::Now)).await.unwrap();
            assert_eq!(state.rows[0][2], Value::Masked);
            // That there is none is not what is hidden.
            assert_eq!(state.rows[1][2], Value::Null);
            let options = DiffOptions::default();
            let diff = clerk.diff("person", "1", &Selector::Number(1), &Selector::Current, &options).await.unwrap();
            assert!(diff.fields.iter().all(|field| field.field == "name" || field.old == Value::Masked));
            // Whoever sees everything goes on doing so.
            let all = db.audit.history("person", "1").await.unwrap();
            assert_eq!(all[0].row[2].1.to_string(), "4321");
            for table in ["person", "secret"] {
                db.audit.untrack(table, true).await.unwrap();
                db.run(&format!("DROP TABLE {table}")).await;
            }
        }
    }
}

on_every_database! {
    async fn a_hidden_value_is_not_found_by_what_it_is(db: &mut TestDb) {
        let clerk = office(db, afterimage::Storage::Delta).await;
        for query in ["4321", "was:1234", "now:4321", "field:salary was:1234"] {
            assert!(count(&db.audit, query).await > 0, "{query}");
            assert_eq!(count(&clerk, query).await, 0, "{query}");
        }
        assert_eq!(count(&clerk, "now:Anna").await, 1);
        let filtered = AsOfQuery { filter: Some("salary > 4000".into()), ..AsOfQuery::new("person", PointInTime::Now) };
        assert_eq!(clerk.as_of(&filtered).await.unwrap_err().kind(), ErrorKind::Forbidden);
    }
}

on_every_database! {
    async fn a_hidden_table_is_not_there(db: &mut TestDb) {
        let clerk = office(db, afterimage::Storage::Snapshot).await;
        let untracked = db.audit.history("nothing", "1").await.unwrap_err();
        let hidden = clerk.history("secret", "1").await.unwrap_err();
        assert_eq!(hidden.kind(), untracked.kind());
        assert_eq!(hidden.to_string().replace("secret", "nothing"), untracked.to_string());
        assert_eq!(count(&clerk, "mellon").await, 0);
        assert_eq!(count(&db.audit, "mellon").await, 1);
        let tables: Vec<String> = clerk.tracked().await.unwrap().iter().map(|t| t.table.to_string()).collect();
        assert_eq!(tables, ["person"]);
        let status = clerk.status().await.unwrap();
        assert!(status.len() == 1 && status[0].is_healthy(), "{status:?}");
        let summary = clerk.log_summary(&LogQuery::parse("").unwrap()).await.unwrap();
        assert!(summary.counts.iter().all(|count| count.table.to_string() == "person"));
    }
}

on_every_database! {
    async fn what_is_hidden_is_not_written_back(db: &mut TestDb) {
        for storage in STORAGES {
            let clerk = office(db, storage).await;
            let me = Context::actor("c");
            let back = Revert::new("person", "1", Selector::Number(1));
            let stale = clerk.revert(&back.clone().expect(Selector::Number(1)), &me).await.unwrap_err();
            let stale = stale.stale().unwrap();
            for version in [&stale.then, &stale.target, &stale.now] {
                assert_eq!(version.row[2].1, Value::Masked);
                assert!(version.changes.iter().all(|c| c.field != "salary" || c.new == Value::Masked));
            }
            let asked_for = clerk.revert(&back.clone().fields(["salary"]), &me).await.unwrap_err();
            assert_eq!(asked_for.kind(), ErrorKind::Forbidden);
            let done = clerk.revert(&back, &me).await.unwrap();
            let fields: Vec<&str> = done.entries[0].changes.iter().map(|c| c.field.as_str()).collect();
            assert_eq!(fields, ["name"]);
            assert_eq!(db.text("SELECT salary FROM person WHERE id = 1").await.as_deref(), Some("4321"));
            // A row that is gone would come back without it.
            db.run("DELETE FROM person WHERE id = 1").await;
            for error in [
                clerk.revert(&Revert::new("person", "1", Selector::Number(1)), &me).await.unwrap_err(),
                clerk.restore(&Restore::new("person", "1"), &me).await.unwrap_err(),
                clerk.restore(&Restore::new("person", "1").set("salary", Some("9".into())), &me).await.unwrap_err(),
            ] {
                assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");
            }
            // Nobody's salary is needed for Bob, who has none.
            db.run("DELETE FROM person WHERE id = 2").await;
            assert_eq!(clerk.restore(&Restore::new("person", "2"), &me).await.unwrap().records, 1);
            db.verify().await;
            for table in ["person", "secret"] {
                db.audit.untrack(table, true).await.unwrap();
                db.run(&format!("DROP TABLE {table}")).await;
            }
        }
    }
}

on_every_database! {
    async fn a_hidden_column_is_hidden_by_whatever_name_it_had_and_when_it_is_gone(db: &mut TestDb) {
        let clerk = office(db, afterimage::Storage::Delta).await;
        db.alter("person", "ALTER TABLE person RENAME COLUMN name TO called").await;
        db.alter("person", "ALTER TABLE person DROP COLUMN salary").await;
        db.run("UPDATE person SET called = 'Annie' WHERE id = 1").await;
        let back = Revert::new("person", "1", Selector::Number(1));
        let whole = db.audit.revert(&back.clone().dry_run(true), &Context::actor("c")).await.unwrap_err();
        assert!(whole.to_string().contains("1234"), "{whole}");
        let seen = clerk.revert(&back, &Context::actor("c")).await.unwrap();
        assert_eq!(seen.entries[0].changes[0].new.to_string(), "Ann");
    }
}

on_every_database! {
    async fn what_is_hidden_is_neither_restored_nor_undone_along_with_the_rest(db: &mut TestDb) {
        db.run("CREATE TABLE person (id INTEGER PRIMARY KEY, name VARCHAR(50), salary INTEGER)").await;
        db.run("CREATE TABLE secret (id INTEGER PRIMARY KEY, person INTEGER REFERENCES person (id))").await;
        db.track("person", Tracking::new()).await;
        db.track("secret", Tracking::new()).await;
        db.run("INSERT INTO person VALUES (1, 'Ann', NULL)").await;
        db.run("INSERT INTO secret VALUES (77, 1)").await;
        db.run_as("bob", "out", "DELETE FROM secret; DELETE FROM person").await;
        let clerk = db.audit.seen_through(Arc::new(Clerk));
        let me = Context::actor("c");
        let tx = db.audit.log(&LogQuery::parse("action:delete").unwrap()).await.unwrap().entries[0].header.tx.clone().unwrap();
        for error in [
            clerk.restore(&Restore::new("person", "1").related(true), &me).await.unwrap_err(),
            clerk.revert_transaction(&RevertTransaction::new(&tx), &me).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        assert_eq!(clerk.restore(&Restore::new("person", "1"), &me).await.unwrap().records, 1);
        assert_eq!(db.text("SELECT count(*) FROM secret").await.as_deref(), Some("0"));
    }
}

on_every_database! {
    async fn whether_a_row_of_a_hidden_table_is_there_is_not_told(db: &mut TestDb) {
        db.run("CREATE TABLE secret (id INTEGER PRIMARY KEY, word VARCHAR(50))").await;
        db.run("CREATE TABLE person (id INTEGER PRIMARY KEY, secret INTEGER REFERENCES secret (id))").await;
        db.track("person", Tracking::new()).await;
        db.track("secret", Tracking::new()).await;
        db.run("INSERT INTO secret VALUES (1, 'mellon'), (2, 'x')").await;
        db.run("INSERT INTO person VALUES (1, 1)").await;
        db.run("UPDATE person SET secret = 2").await;
        db.run("DELETE FROM secret WHERE id = 1").await;
        let clerk = db.audit.seen_through(Arc::new(Clerk));
        let diff = async |audit: &Afterimage| {
            audit.diff("person", "1", &Selector::Number(1), &Selector::Current, &DiffOptions::default()).await.unwrap().labels
        };
        assert!(!diff(&db.audit).await.is_empty());
        assert!(diff(&clerk).await.is_empty());
    }
}

on_every_database! {
    async fn an_undeletion_that_expects_another_deletion_is_refused(db: &mut TestDb) {
        let _ = office(db, afterimage::Storage::Delta).await;
        db.run("DELETE FROM person WHERE id = 2").await;
        db.run("INSERT INTO person VALUES (2, 'Bert', 5)").await;
        db.run("DELETE FROM person WHERE id = 2").await;
        let me = Context::actor("c");
        let restore = Restore::new("person", "2");
        let stale = db.audit.restore(&restore.clone().expect(Selector::Number(2)), &me).await.unwrap_err();
        assert_eq!(stale.kind(), ErrorKind::Conflict);
        assert_eq!(stale.stale().unwrap().target.row[1].1.to_string(), "Bert");
        assert_eq!(db.audit.restore(&restore.expect(Selector::Number(4)), &me).await.unwrap().records, 1);
    }
}

on_every_database! {
    async fn the_past_connection_sees_no_more(db: &mut TestDb) {
        let clerk = office(db, afterimage::Storage::Snapshot).await;
        let past = clerk.at(PointInTime::Now).await.unwrap();
        assert!(past.sql("SELECT word FROM secret").await.is_err());
        let counted = past.sql("SELECT count(salary) FROM person").await.unwrap();
        let whole = db.audit.at(PointInTime::Now).await.unwrap().sql("SELECT count(salary) FROM person").await.unwrap();
        assert_eq!(db.text(&counted).await.as_deref(), Some("0"));
        assert_eq!(db.text(&whole).await.as_deref(), Some("1"));
    }
}

on_every_database! {
    async fn what_is_hidden_or_masked_and_was_null_does_not_come_back_as_something_else(db: &mut TestDb) {
        let me = Context::actor("c");
        db.run("CREATE TABLE person (id INTEGER PRIMARY KEY, name VARCHAR(50), salary INTEGER DEFAULT 1000, pin INTEGER DEFAULT 9)").await;
        db.track("person", Tracking::new().mask(["pin"])).await;
        db.run("INSERT INTO person VALUES (1, 'Ann', NULL, NULL), (2, 'Bob', NULL, NULL), (3, 'Cy', NULL, NULL)").await;
        db.run("DELETE FROM person WHERE id = 1").await;
        db.run_as("bob", "out", "DELETE FROM person WHERE id = 2").await;
        let clerk = db.audit.seen_through(Arc::new(Clerk));
        assert_eq!(clerk.restore(&Restore::new("person", "1"), &me).await.unwrap().records, 1);
        let newest = |audit: &Afterimage, query: &str| {
            let (audit, query) = (audit.clone(), LogQuery::parse(query).unwrap());
            async move { audit.log(&query).await.unwrap().entries[0].header.tx.clone().unwrap() }
        };
        let tx = newest(&db.audit, "actor:bob").await;
        assert_eq!(clerk.revert_transaction(&RevertTransaction::new(&tx), &me).await.unwrap().records, 1);
        assert_eq!(db.text("SELECT count(*) FROM person WHERE salary IS NULL AND pin IS NULL").await.as_deref(), Some("3"));
        // What an update made of a NULL cannot be taken back by somebody who does not see it, nor be left as it is.
        db.run_as("bob", "raise", "UPDATE person SET name = 'Cyd', salary = 9000 WHERE id = 3").await;
        let tx = newest(&db.audit, "actor:bob reason:raise").await;
        let refused = clerk.revert_transaction(&RevertTransaction::new(&tx), &me).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Forbidden, "{refused}");
        assert_eq!(db.audit.revert_transaction(&RevertTransaction::new(&tx), &me).await.unwrap().records, 1);
        db.verify().await;
    }
}

on_every_database! {
    async fn no_condition_tells_what_is_hidden(db: &mut TestDb) {
        let clerk = office(db, afterimage::Storage::Snapshot).await;
        let at = db.moment().await;
        let elsewhere = "EXISTS (SELECT 1 FROM secret WHERE word = 'mellon')";
        for condition in ["salary > 4000", elsewhere] {
            let back = RevertTable::new("person", at.clone()).filter(condition).fields(["name"]).dry_run(true);
            let refused = clerk.revert_table(&back, &Context::actor("c")).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Forbidden, "{refused}");
        }
    }
}
