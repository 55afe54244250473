//! Law 2: every committed row change has its record, by whatever road it came.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support::*;
use afterimage::{Storage, Tracking};
use serde_json::json;

const POLLS: &str = "CREATE TABLE poll (id INTEGER PRIMARY KEY, question TEXT NOT NULL, votes INTEGER)";

fn both() -> [Tracking; 2] {
    [Tracking::new(), Tracking::new().storage(Storage::Delta)]
}

on_every_database! {
    async fn a_life_is_a_creation_updates_and_a_deletion(db: &mut TestDb) {
        for tracking in both() {
            db.run("DROP TABLE IF EXISTS poll").await;
            db.run(POLLS).await;
            db.track("poll", tracking).await;
            db.run("INSERT INTO poll VALUES (1, 'what''s up?', 0)").await;
            db.run("UPDATE poll SET votes = votes + 1").await;
            db.run_as("42", "wrongEntry", "DELETE FROM poll WHERE id = 1").await;

            let versions = db.versions("poll", "1").await;
            assert_eq!(db.signs("poll", "1").await, "+~-");
            assert_eq!(row(&versions[0]), json!({"id": 1, "question": "what's up?", "votes": 0}));
            assert_eq!(row(&versions[1]), json!({"id": 1, "question": "what's up?", "votes": 1}));
            assert_eq!(row(&versions[2]), json!({"id": 1, "question": "what's up?", "votes": 1}));
            assert_eq!(changes(&versions[1]), ["votes: 0 -> 1"]);
            assert_eq!(versions[1].header.reason, None);
            assert_eq!(versions[2].header.user.as_deref(), Some("42"));
            assert_eq!(versions[2].header.reason.as_deref(), Some("wrongEntry"));
            db.verify().await;
            db.audit.untrack("poll", true).await.unwrap();
        }
    }
}

on_every_database! {
    async fn rows_that_were_there_get_a_baseline(db: &mut TestDb) {
        db.run(POLLS).await;
        db.run("INSERT INTO poll VALUES (1, 'a', 0), (2, 'b', 0)").await;
        let tracked = db.audit.track("poll", Tracking::new()).await.unwrap();
        assert_eq!(tracked.baseline, 2);
        db.run("UPDATE poll SET votes = 5 WHERE id = 2").await;
        assert_eq!(db.signs("poll", "2").await, "+~");
        assert_eq!(db.as_of("poll", now()).await, [
            json!({"id": 1, "question": "a", "votes": 0}),
            json!({"id": 2, "question": "b", "votes": 5}),
        ]);
        db.verify().await;
    }
}

on_every_database! {
    async fn a_change_of_key_is_a_departure_and_an_arrival(db: &mut TestDb) {
        for tracking in both() {
            db.run("DROP TABLE IF EXISTS poll").await;
            db.run(POLLS).await;
            db.track("poll", tracking).await;
            db.run("INSERT INTO poll VALUES (1, 'a', 0), (2, 'b', 0)").await;
            let before = db.moment().await;
            db.run("UPDATE poll SET id = 7, votes = 3 WHERE id = 1").await;
            db.tick().await;
            db.run("UPDATE poll SET votes = 4 WHERE id = 7").await;
            let versions = db.versions("poll", "7").await;
            assert_eq!(db.signs("poll", "7").await, "++~");
            assert_eq!(changes(&versions[1]), ["id: 1 -> 7", "votes: 0 -> 3"]);
            assert_eq!(versions[1].header.old_key.as_deref().map(|k| k.replace(' ', "")), Some(r#"{"id":1}"#.to_owned()));
            assert_eq!(db.versions("poll", "1").await.len(), 3, "the old key leads to the same row");
            assert_eq!(db.as_of("poll", before).await.len(), 2);
            assert_eq!(db.as_of("poll", at(&versions[1])).await[1], json!({"id": 7, "question": "a", "votes": 3}));
            db.verify().await;
            db.audit.untrack("poll", true).await.unwrap();
        }
    }
}

on_every_database! {
    async fn bulk_statements_are_recorded_row_by_row(db: &mut TestDb) {
        for tracking in both() {
            db.run("DROP TABLE IF EXISTS poll").await;
            db.run(POLLS).await;
            db.track("poll", tracking).await;
            let many = db.by(
                "INSERT INTO poll WITH RECURSIVE g(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM g WHERE i < 500) SELECT i, 'q' || i, 0 FROM g",
                "INSERT INTO poll SELECT i, 'q' || i, 0 FROM generate_series(1, 500) AS i",
            );
            db.run(many).await;
            db.run("UPDATE poll SET votes = id % 2").await;
            db.run("DELETE FROM poll WHERE id > 250").await;
            assert_eq!(db.signs("poll", "1").await, "+~");
            assert_eq!(db.signs("poll", "2").await, "+", "an update that changes nothing leaves no record");
            assert_eq!(db.signs("poll", "499").await, "+~-");
            assert_eq!(db.as_of("poll", now()).await.len(), 250);
            db.verify().await;
            db.audit.untrack("poll", true).await.unwrap();
        }
    }
}
