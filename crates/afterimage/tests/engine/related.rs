//! A row with the rows that belong to it: children, links, and what joined-table inheritance makes of both.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support::*;
use afterimage::{DiffOptions, Label, LogQuery, Selector, Storage, Tracking};

async fn polls(db: &mut TestDb, storage: Storage) {
    db.run(
        "CREATE TABLE place (id INTEGER PRIMARY KEY, name TEXT);
         CREATE TABLE poll (id INTEGER PRIMARY KEY, question TEXT);
         CREATE TABLE poll_place (poll INTEGER NOT NULL REFERENCES poll ON DELETE CASCADE, place INTEGER NOT NULL REFERENCES place ON DELETE CASCADE, PRIMARY KEY (poll, place));
         CREATE TABLE choice (id INTEGER PRIMARY KEY, poll INTEGER REFERENCES poll, text TEXT, votes INTEGER)",
    )
    .await;
    for table in ["place", "poll", "poll_place", "choice"] {
        db.track(table, Tracking::new().storage(storage)).await;
    }
    db.audit.track("poll", Tracking::new().storage(storage).label("question")).await.unwrap();
    db.run("INSERT INTO place VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd'); INSERT INTO poll VALUES (1, 'what is up?'), (2, 'other')").await;
    db.tick().await;
}

/// The rows of a table that belong to a row, as text.
async fn belonging(db: &TestDb, key: &str, at: &afterimage::PointInTime, table: &str) -> Vec<String> {
    let (_, related) = db.audit.show_with_related("poll", key, at).await.unwrap();
    let one = related.into_iter().find(|one| one.table.name == table).unwrap();
    one.rows
        .rows
        .iter()
        .map(|row| row.iter().map(ToString::to_string).collect::<Vec<_>>().join(":"))
        .collect()
}

fn lines(entries: &[afterimage::LogEntry]) -> Vec<String> {
    entries
        .iter()
        .map(|entry| {
            let key: Vec<String> = entry.key.iter().map(|(_, value)| value.to_string()).collect();
            format!("{} {} {}", entry.action().name(), entry.table.name, key.join(":"))
        })
        .collect()
}

on_every_database! {
    async fn links_are_added_and_removed_and_told_on_both_sides(db: &mut TestDb) {
        for storage in STORAGES {
            polls(db, storage).await;
            let created = db.moment().await;
            db.run("INSERT INTO poll_place VALUES (1, 1), (1, 2), (1, 3), (1, 4)").await;
            let added = db.moment().await;
            db.run("DELETE FROM poll_place WHERE poll = 1 AND place > 1; DELETE FROM poll_place WHERE poll = 77").await;
            let removed = db.moment().await;
            db.run("DELETE FROM poll_place WHERE poll = 1; DELETE FROM poll_place WHERE poll = 1").await;
            let cleared = db.moment().await;
            for (at, count) in [(&created, 0), (&added, 4), (&removed, 1), (&cleared, 0)] {
                assert_eq!(belonging(db, "1", at, "poll_place").await.len(), count);
            }
            let between = async |a, b| {
                let all = db.audit.diff_related("poll", "1", a, b).await.unwrap();
                all.into_iter().map(|c| (c.table.name, c.added.len(), c.removed.len(), c.changed.len())).collect::<Vec<_>>()
            };
            assert_eq!(between(&created, &added).await, [("poll_place".to_owned(), 4, 0, 0)]);
            assert_eq!(between(&added, &removed).await, [("poll_place".to_owned(), 0, 3, 0)]);
            assert_eq!(between(&created, &cleared).await, []);
            // What was not there leaves nothing, and nothing is told of it.
            let of_poll = db.audit.timeline("poll", "1", &LogQuery::default()).await.unwrap();
            assert_eq!(of_poll.entries.len(), 1 + 4 + 4, "{:?}", lines(&of_poll.entries));
            let of_place = db.audit.timeline("place", "2", &LogQuery::default()).await.unwrap();
            assert_eq!(lines(&of_place.entries), ["delete poll_place 1:2", "create poll_place 1:2", "create place 2"]);
            let other = db.audit.timeline("poll", "2", &LogQuery::default()).await.unwrap();
            assert_eq!(lines(&other.entries), ["create poll 2"]);
            // A linked place is deleted: no record of the poll, and its older states keep the link.
            db.run("INSERT INTO poll_place VALUES (1, 4)").await;
            let linked = db.moment().await;
            db.run("DELETE FROM place WHERE id = 4").await;
            assert_eq!(db.signs("poll", "1").await, "+");
            assert_eq!(belonging(db, "1", &linked, "poll_place").await, ["1:4"]);
            for table in ["choice", "poll_place", "poll", "place"] {
                db.audit.untrack(table, true).await.unwrap();
                db.run(&format!("DROP TABLE {table}")).await;
            }
        }
    }
}

on_every_database! {
    async fn a_childs_records_belong_to_whom_it_then_referred(db: &mut TestDb) {
        for storage in STORAGES {
            polls(db, storage).await;
            db.run("INSERT INTO choice VALUES (10, 1, 'yes', 0)").await;
            db.tick().await;
            db.run("UPDATE choice SET votes = 1").await;
            db.tick().await;
            let first = db.moment().await;
            db.run("UPDATE choice SET poll = 2").await;
            db.tick().await;
            db.run("UPDATE choice SET votes = 2").await;
            let second = db.moment().await;
            let of = async |key: &str| lines(&db.audit.timeline("poll", key, &LogQuery::default()).await.unwrap().entries);
            // Its departure to the other poll is told on both sides.
            assert_eq!(of("1").await, ["update choice 10", "update choice 10", "create choice 10", "create poll 1"]);
            assert_eq!(of("2").await, ["update choice 10", "update choice 10", "create poll 2"]);
            assert_eq!(belonging(db, "1", &first, "choice").await, ["10:1:yes:1"]);
            assert_eq!(belonging(db, "1", &second, "choice").await, [""; 0]);
            assert_eq!(belonging(db, "2", &second, "choice").await, ["10:2:yes:2"]);
            for table in ["choice", "poll_place", "poll", "place"] {
                db.audit.untrack(table, true).await.unwrap();
                db.run(&format!("DROP TABLE {table}")).await;
            }
        }
    }
}

on_every_database! {
    async fn a_difference_names_the_rows_that_it_refers_to(db: &mut TestDb) {
        polls(db, Storage::Delta).await;
        db.run("INSERT INTO choice VALUES (10, 1, 'idk', 0)").await;
        db.tick().await;
        db.run("UPDATE choice SET poll = 2, text = 'hmm', votes = 3").await;
        db.tick().await;
        let audit = db.audit.clone();
        let compare = async |from, to| {
            audit.diff("choice", "10", &from, &to, &DiffOptions::default()).await.unwrap()
        };
        let diff = compare(Selector::Number(1), Selector::Number(2)).await;
        let said: Vec<String> = diff.fields.iter().map(|f| format!("{} {} {}", f.field, f.old, f.new)).collect();
        assert_eq!(said, ["poll 1 2", "text idk hmm", "votes 0 3"]);
        assert_eq!(diff.labels["poll"], [Some(Label::Named("what is up?".into())), Some(Label::Named("other".into()))]);
        db.run("UPDATE choice SET poll = NULL; DELETE FROM poll").await;
        let diff = compare(Selector::Number(1), Selector::Number(2)).await;
        assert_eq!(diff.labels["poll"][0], Some(Label::Deleted(Some("what is up?".into()))));
        assert_eq!(diff.fields[0].old.to_string(), "1");
        let mirrored = compare(Selector::Number(2), Selector::Number(1)).await;
        assert_eq!((mirrored.fields[0].old.to_string(), mirrored.fields[0].new.to_string()), ("2".into(), "1".into()));
        let refused = db.audit.diff("choice", "10", &Selector::Number(1), &Selector::Number(2), &DiffOptions { include: Some(vec!["nope".into()]), exclude: vec![] }).await;
        assert!(message(refused).contains("neither version has a column \"nope\""));
    }
}

on_every_database! {
    async fn a_child_of_joined_table_inheritance_has_its_own_records_and_its_parents(db: &mut TestDb) {
        db.run(
            "CREATE TABLE place (id INTEGER PRIMARY KEY, name TEXT);
             CREATE TABLE restaurant (id INTEGER PRIMARY KEY REFERENCES place ON DELETE CASCADE, rating INTEGER)",
        )
        .await;
        for table in ["place", "restaurant"] {
            db.track(table, Tracking::new()).await;
        }
        db.run("INSERT INTO place VALUES (1, 'a'); INSERT INTO restaurant VALUES (1, 3)").await;
        db.tick().await;
        db.run("UPDATE restaurant SET rating = 4").await;
        db.tick().await;
        db.run("DELETE FROM place").await;
        assert_eq!(db.signs("place", "1").await, "+-");
        assert_eq!(db.signs("restaurant", "1").await, "+~-");
        let all = db.audit.timeline("place", "1", &LogQuery::default()).await.unwrap();
        assert_eq!(all.entries.len(), 5, "{:?}", lines(&all.entries));
    }
}

on_every_database! {
    async fn related_tables_can_be_declared(db: &mut TestDb) {
        polls(db, Storage::Snapshot).await;
        db.audit.track("poll", Tracking::new().related(["choice"])).await.unwrap();
        let (_, related) = db.audit.show_with_related("poll", "1", &now()).await.unwrap();
        assert_eq!(related.iter().map(|one| one.table.name.as_str()).collect::<Vec<_>>(), ["choice"]);
        db.audit.track("poll", Tracking::new().related(["place"])).await.unwrap();
        assert!(message(db.audit.timeline("poll", "1", &LogQuery::default()).await).contains("by no tracked foreign key"));
    }
}
