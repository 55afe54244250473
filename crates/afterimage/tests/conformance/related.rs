//! Rows that belong to a row: children, links, parents.

use afterimage::{DiffOptions, Label, LogQuery, PointInTime, Selector, Storage, Tracking};

use crate::support::*;

async fn polls(db: &mut TestDb, tracking: &Tracking) {
    db.run(
        "CREATE TABLE place (id INTEGER PRIMARY KEY, name TEXT);
         CREATE TABLE poll (id INTEGER PRIMARY KEY, question TEXT);
         CREATE TABLE poll_place (poll INTEGER NOT NULL REFERENCES poll ON DELETE CASCADE, place INTEGER NOT NULL REFERENCES place ON DELETE CASCADE, PRIMARY KEY (poll, place));
         CREATE TABLE choice (id INTEGER PRIMARY KEY, poll INTEGER REFERENCES poll ON DELETE SET NULL, votes INTEGER)",
    )
    .await;
    for table in ["place", "poll_place", "choice"] {
        db.track(table, tracking.clone()).await;
    }
    db.track("poll", tracking.clone().label("question")).await;
    db.run("INSERT INTO place VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd'); INSERT INTO poll VALUES (1, 'what is up?'), (2, 'other')").await;
    db.tick().await;
}

/// How many links the first poll had.
async fn links(db: &TestDb, at: &PointInTime) -> usize {
    let (_, related) = db.audit.show_with_related("poll", "1", at).await.unwrap();
    related.iter().find(|one| one.table.name == "poll_place").unwrap().rows.rows.len()
}

async fn told(db: &TestDb, table: &str, key: &str) -> Vec<String> {
    let page = db.audit.timeline(table, key, &LogQuery::default()).await.unwrap();
    page.entries.iter().map(|entry| format!("{} {}", entry.action().name(), entry.table.name)).collect()
}

conformance! {
    "10" "a difference names the rows that it refers to, deleted ones too" => case_10(db, tracking) {
        polls(db, &tracking).await;
        db.run("INSERT INTO choice VALUES (10, 1, 0)").await;
        db.tick().await;
        db.run("UPDATE choice SET poll = 2").await;
        db.tick().await;
        let (first, second) = (Selector::Number(1), Selector::Number(2));
        let labels = async |db: &TestDb| {
            let diff = db.audit.diff("choice", "10", &first, &second, &DiffOptions::default()).await.unwrap();
            assert_eq!((diff.fields[0].old.to_string(), diff.fields[0].new.to_string()), ("1".into(), "2".into()));
            diff.labels["poll"].clone()
        };
        let named = |name: &str| Some(Label::Named(name.into()));
        assert_eq!(labels(db).await, [named("what is up?"), named("other")]);
        db.run("DELETE FROM poll").await;
        assert_eq!(labels(db).await[0], Some(Label::Deleted(Some("what is up?".into()))));
    }

    "11" "links added, removed and cleared are told as what was there between two times" => case_11(db, tracking) {
        polls(db, &tracking).await;
        let created = db.moment().await;
        db.run("INSERT INTO poll_place VALUES (1, 1), (1, 2), (1, 3), (1, 4)").await;
        let added = db.moment().await;
        db.run("DELETE FROM poll_place WHERE poll = 1 AND place > 1").await;
        let removed = db.moment().await;
        db.run("DELETE FROM poll_place WHERE poll = 1").await;
        let cleared = db.moment().await;
        for (at, count) in [(&created, 0), (&added, 4), (&removed, 1), (&cleared, 0)] {
            assert_eq!(links(db, at).await, count);
        }
        let between = async |from, to| {
            let changed = db.audit.diff_related("poll", "1", from, to).await.unwrap();
            changed.iter().map(|c| (c.added.len(), c.removed.len())).collect::<Vec<_>>()
        };
        assert_eq!(between(&created, &added).await, [(4, 0)]);
        assert_eq!(between(&created, &cleared).await, []);
    }

    "12" "a linked row's deletion is no record of its neighbour, whose older states keep the link" => case_12(db, tracking) {
        polls(db, &tracking).await;
        db.run("INSERT INTO poll_place VALUES (1, 4)").await;
        let linked = db.moment().await;
        db.run("DELETE FROM place WHERE id = 4; UPDATE poll SET question = 'new'").await;
        assert_eq!(db.signs("poll", "1").await, "+~");
        assert_eq!((links(db, &linked).await, links(db, &now()).await), (1, 0));
    }

    "17" "a row as of a time comes with the rows that belonged to it then" => case_17(db, tracking) {
        db.run("CREATE TABLE org (id INTEGER PRIMARY KEY, name TEXT); CREATE TABLE person (id INTEGER PRIMARY KEY, org INTEGER REFERENCES org)").await;
        for table in ["org", "person"] {
            db.track(table, tracking.clone()).await;
        }
        db.run("INSERT INTO org VALUES (1, 'original'); INSERT INTO person VALUES (1, 1)").await;
        let t1 = db.moment().await;
        db.run("INSERT INTO person VALUES (2, 1); UPDATE org SET name = 'modified'").await;
        let t2 = db.moment().await;
        db.run("DELETE FROM person WHERE id = 1").await;
        let t3 = db.moment().await;
        for (at, name, people) in [(&t1, "original", vec!["1"]), (&t2, "modified", vec!["1", "2"]), (&t3, "modified", vec!["2"])] {
            let (org, related) = db.audit.show_with_related("org", "1", at).await.unwrap();
            assert_eq!(row(&org)["name"], name);
            let there: Vec<String> = related[0].rows.rows.iter().map(|row| row[0].to_string()).collect();
            assert_eq!(there, people);
        }
    }

    "T7" "clearing what is empty leaves no record" => trap_7(db, tracking) {
        polls(db, &tracking).await;
        db.run("INSERT INTO poll_place VALUES (1, 1)").await;
        db.run("DELETE FROM poll_place WHERE poll = 2; DELETE FROM poll_place WHERE poll = 1; DELETE FROM poll_place WHERE poll = 1").await;
        assert_eq!(told(db, "poll", "1").await, ["delete poll_place", "create poll_place", "create poll"]);
        assert_eq!(told(db, "poll", "2").await, ["create poll"]);
    }

    "T8" "a link is told on both of its sides, from whichever it was written" => trap_8(db, tracking) {
        polls(db, &tracking).await;
        db.run("INSERT INTO poll_place VALUES (1, 2)").await;
        db.tick().await;
        db.run("UPDATE poll_place SET place = 3").await;
        assert_eq!(told(db, "place", "3").await, ["update poll_place", "create place"]);
        assert_eq!(told(db, "poll", "1").await, ["update poll_place", "create poll_place", "create poll"]);
    }

    "T19" "a child of joined-table inheritance has its own records, and its parent's" => trap_19(db, tracking) {
        db.run("CREATE TABLE place (id INTEGER PRIMARY KEY, name TEXT); CREATE TABLE restaurant (id INTEGER PRIMARY KEY REFERENCES place ON DELETE CASCADE, rating INTEGER)").await;
        for table in ["place", "restaurant"] {
            db.track(table, tracking.clone()).await;
        }
        db.run("INSERT INTO place VALUES (1, 'a'); INSERT INTO restaurant VALUES (1, 3)").await;
        db.tick().await;
        db.run("UPDATE restaurant SET rating = 4").await;
        db.tick().await;
        db.run("DELETE FROM place").await;
        assert_eq!((db.signs("place", "1").await, db.signs("restaurant", "1").await), ("+-".into(), "+~-".into()));
        assert_eq!(told(db, "place", "1").await.len(), 5);
    }
}
