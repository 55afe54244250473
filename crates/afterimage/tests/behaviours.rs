//! What the well-known history packages of another ecosystem are tested for, and where they are wrong, as cases over
//! plain tables. A case that a law decides otherwise says so.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use afterimage::{AsOfQuery, Context, ErrorKind, Moment, PointInTime, Storage, Track, Tracking};
use serde_json::json;
use support::*;

fn both() -> [Tracking; 2] {
    [Tracking::new(), Tracking::new().storage(Storage::Delta)]
}

/// `doc (id, rank, note)`, tracked, empty.
async fn docs(db: &mut TestDb, tracking: Tracking) {
    db.run("DROP TABLE IF EXISTS doc").await;
    db.run("CREATE TABLE doc (id INTEGER PRIMARY KEY, rank INTEGER, note TEXT)").await;
    db.track("doc", tracking).await;
}

async fn done(db: &mut TestDb) {
    db.verify().await;
    db.audit.untrack("doc", true).await.unwrap();
}

async fn count(db: &TestDb, at: &PointInTime, filter: &str) -> usize {
    let query = AsOfQuery { filter: Some(filter.to_owned()), ..AsOfQuery::new("doc", at.clone()) };
    db.audit.as_of(&query).await.unwrap().rows.len()
}

on_every_database! {
    async fn case_3_writes_while_untracked_leave_no_record_but_a_gap(db: &mut TestDb) {
        docs(db, Tracking::new()).await;
        db.run("INSERT INTO doc VALUES (1, 1, 'a')").await;
        db.audit.untrack("doc", false).await.unwrap();
        db.run("UPDATE doc SET rank = 2").await;
        assert_eq!(db.signs("doc", "1").await, "+");
        let error = db.audit.as_of(&AsOfQuery::new("doc", PointInTime::Now)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unknowable, "{error}");
        db.track("doc", Tracking::new()).await;
        assert_eq!(db.signs("doc", "1").await, "+~", "what is there now is written down");
        assert_eq!(db.as_of("doc", PointInTime::Now).await, [json!({"id": 1, "rank": 2, "note": "a"})]);
        done(db).await;
    }
}

on_every_database! {
    // Superseded by law 6: an explicit time older than the row's newest record is refused, not sorted in.
    async fn case_4_an_older_explicit_time_is_refused(db: &mut TestDb) {
        db.audit.allow_explicit_time(true).await.unwrap();
        docs(db, Tracking::new()).await;
        let day = |text: &str| Moment::parse(text, Moment::now(), "UTC").unwrap();
        let mut tx = db.audit.begin(&Context::new().at(day("2020-02-02"))).await.unwrap();
        tx.execute("INSERT INTO doc VALUES (1, 1, 'a')", &[]).await.unwrap();
        tx.commit().await.unwrap();
        let mut tx = db.audit.begin(&Context::new().at(day("2020-02-01"))).await.unwrap();
        let refused = message(tx.execute("UPDATE doc SET rank = 2", &[]).await);
        assert!(refused.contains("newer record"), "{refused}");
        drop(tx);
        let versions = db.versions("doc", "1").await;
        assert_eq!(versions.len(), 1);
        assert_eq!(versions[0].header.date, day("2020-02-02"));
        assert!(versions[0].header.context.as_deref().unwrap().contains("recorded_at"), "the real time is kept");
    }
}

on_every_database! {
    async fn case_5_as_of_is_inclusive_and_tells_before_from_after(db: &mut TestDb) {
        for tracking in both() {
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
            done(db).await;
        }
    }
}

on_every_database! {
    async fn case_6_as_of_filters_the_state_of_that_time(db: &mut TestDb) {
        for tracking in both() {
            docs(db, tracking).await;
            db.tick().await;
            db.run("INSERT INTO doc VALUES (1, 42, 'a'), (2, 84, 'b')").await;
            let t1 = at(&db.versions("doc", "1").await[0]);
            db.tick().await;
            db.run("UPDATE doc SET rank = 51 WHERE id = 2").await;
            db.run("DELETE FROM doc WHERE id = 1").await;
            assert_eq!((count(db, &t1, "1 = 1").await, count(db, &t1, "rank >= 75").await), (2, 1));
            assert_eq!((count(db, &PointInTime::Now, "1 = 1").await, count(db, &PointInTime::Now, "rank >= 75").await), (1, 0));
            assert_eq!(db.audit.count_as_of("doc", &t1).await.unwrap(), 2);
            assert_eq!(db.audit.count_as_of("doc", &PointInTime::Now).await.unwrap(), 1);
            done(db).await;
        }
    }
}

on_every_database! {
    async fn case_7_the_latest_of_each_row(db: &mut TestDb) {
        for tracking in both() {
            docs(db, tracking).await;
            for sql in [
                "INSERT INTO doc VALUES (1, 10, 'a')", "INSERT INTO doc VALUES (2, 20, 'b')", "UPDATE doc SET rank = 21 WHERE id = 2",
                "INSERT INTO doc VALUES (3, 30, 'c')", "UPDATE doc SET rank = 31 WHERE id = 3", "DELETE FROM doc WHERE id = 3",
                "INSERT INTO doc VALUES (4, 40, 'd')", "DELETE FROM doc WHERE id = 4", "INSERT INTO doc VALUES (4, 42, 'e')",
            ] {
                db.run(sql).await;
            }
            let mut latest = Vec::new();
            for key in ["1", "2", "3", "4"] {
                let last = db.versions("doc", key).await.pop().unwrap();
                latest.push(format!("{}{}", last.header.action.sign(), row(&last)["rank"]));
            }
            assert_eq!(latest, ["+10", "~21", "-31", "+42"]);
            done(db).await;
        }
    }
}

on_every_database! {
    async fn case_13_an_excluded_column_is_not_in_the_history(db: &mut TestDb) {
        for tracking in both() {
            docs(db, tracking.exclude(["note"])).await;
            db.run("INSERT INTO doc VALUES (1, 1, 'secret')").await;
            db.run("UPDATE doc SET note = 'other secret'").await;
            db.run("UPDATE doc SET rank = 2, note = 'third secret'").await;
            let versions = db.versions("doc", "1").await;
            assert_eq!(versions.len(), 2, "a change of only an excluded column leaves no record");
            assert_eq!(row(&versions[1]), json!({"id": 1, "rank": 2}));
            done(db).await;
        }
    }
}

on_every_database! {
    async fn cases_18_and_19_only_what_changed_and_is_tracked_is_a_change(db: &mut TestDb) {
        for tracking in both() {
            docs(db, tracking.clone()).await;
            db.run("INSERT INTO doc VALUES (1, 1, 'a')").await;
            db.run("UPDATE doc SET rank = 1, note = 'b'").await;
            db.run("UPDATE doc SET rank = 1, note = 'b'").await;
            let versions = db.versions("doc", "1").await;
            assert_eq!(versions.len(), 2, "an identical save leaves no record");
            assert_eq!(changes(&versions[1]), ["note: a -> b"]);
            done(db).await;

            docs(db, tracking.include(["rank"])).await;
            db.run("INSERT INTO doc VALUES (1, 1, 'a')").await;
            db.run("UPDATE doc SET note = 'b'").await;
            assert_eq!(db.signs("doc", "1").await, "+", "only what is included counts");
            done(db).await;

            docs(db, Tracking::new().include(["rank", "note"]).exclude(["rank"])).await;
            db.run("INSERT INTO doc VALUES (1, 1, 'a')").await;
            assert_eq!(row(&db.versions("doc", "1").await[0]), json!({"id": 1, "note": "a"}), "exclude wins");
            done(db).await;
        }
    }
}

#[tokio::test]
async fn case_20_the_same_instant_in_another_zone_is_no_change() {
    let mut db = TestDb::postgres().await;
    db.run("CREATE TABLE event (id int PRIMARY KEY, at timestamptz, doc jsonb, raw json)").await;
    db.track("event", Tracking::new()).await;
    db.run(r#"INSERT INTO event VALUES (1, '2017-01-10 12:00+00', '{"a": 1, "b": 2}', '{"a": 1, "b": 2}')"#)
        .await;
    db.run(r#"UPDATE event SET at = '2017-01-10 13:00+01', doc = '{"b": 2, "a": 1}'"#).await;
    assert_eq!(db.signs("event", "1").await, "+");
    db.run("UPDATE event SET at = at + interval '1 hour'").await;
    assert_eq!(db.signs("event", "1").await, "+~");
    // Superseded by law 3: the type json keeps its text, so another text is another stored image.
    db.run(r#"UPDATE event SET raw = '{"b": 2, "a": 1}'"#).await;
    assert_eq!(db.signs("event", "1").await, "+~~");
    db.verify().await;
}

on_every_database! {
    async fn case_21_a_reference_to_another_row_with_the_same_label_is_a_change(db: &mut TestDb) {
        docs(db, Tracking::new()).await;
        db.run("CREATE TABLE link (id INTEGER PRIMARY KEY, doc_id INTEGER REFERENCES doc (id))").await;
        db.track("link", Tracking::new()).await;
        db.run("INSERT INTO doc VALUES (1, 0, 'same'), (2, 0, 'same')").await;
        db.run("INSERT INTO link VALUES (1, 1)").await;
        db.run("UPDATE link SET doc_id = 2").await;
        db.run("UPDATE doc SET note = 'renamed' WHERE id = 2").await;
        let versions = db.versions("link", "1").await;
        assert_eq!(versions.len(), 2, "the label of the other row is the other row's");
        assert_eq!(changes(&versions[1]), ["doc_id: 1 -> 2"]);
        db.verify().await;
    }
}

on_every_database! {
    // Superseded by the design: a mask is of the whole value and tells nothing of its length.
    async fn case_22_and_trap_11_a_masked_value_is_nowhere_in_clear(db: &mut TestDb) {
        for tracking in both() {
            docs(db, tracking.mask(["rank", "note"])).await;
            db.run("INSERT INTO doc VALUES (1, 4111, 'Sensitive data'), (2, NULL, NULL)").await;
            db.run("UPDATE doc SET rank = 5555, note = 'Sensitive'").await;
            let versions = db.versions("doc", "1").await;
            assert_eq!(row(&versions[1]), json!({"id": 1, "rank": {"$masked": true}, "note": {"$masked": true}}));
            assert_eq!(changes(&versions[1]), ["rank: ••• -> •••", "note: ••• -> •••"]);
            assert_eq!(changes(&db.versions("doc", "2").await[1]), ["rank: ∅ -> •••", "note: ∅ -> •••"]);
            let kept = db.by(
                "SELECT group_concat(coalesce(rank, '') || coalesce(note, '')) FROM doc_history",
                "SELECT string_agg(doc_history::text, '') FROM doc_history",
            );
            let kept = db.text(kept).await.unwrap();
            assert!(!kept.contains("4111") && !kept.contains("5555") && !kept.contains("Sensitive"), "{kept}");
            done(db).await;
        }
    }
}

on_every_database! {
    async fn trap_1_two_writes_of_one_moment_are_two_versions_in_order(db: &mut TestDb) {
        docs(db, Tracking::new()).await;
        db.run("BEGIN; INSERT INTO doc VALUES (1, 1, 'a'); UPDATE doc SET rank = 2; UPDATE doc SET rank = 3; COMMIT").await;
        let versions = db.versions("doc", "1").await;
        let ranks: Vec<String> = versions.iter().map(|v| row(v)["rank"].to_string()).collect();
        assert_eq!(ranks, ["1", "2", "3"]);
        assert_eq!(db.as_of("doc", at(&versions[2])).await.len(), 1, "one row, however many records of that moment");
        done(db).await;
    }
}

on_every_database! {
    async fn traps_2_3_and_4_a_record_holds_what_the_database_stored(db: &mut TestDb) {
        for tracking in both() {
            db.run("DROP TABLE IF EXISTS doc").await;
            db.run("CREATE TABLE doc (id INTEGER PRIMARY KEY, rank INTEGER DEFAULT 7, note TEXT DEFAULT 'none')").await;
            db.track("doc", tracking).await;
            db.run("INSERT INTO doc (id) VALUES (1)").await;
            db.run("UPDATE doc SET rank = rank + 1").await;
            db.run("UPDATE doc SET note = note || '!' WHERE id IN (1)").await;
            assert_eq!(row(&db.versions("doc", "1").await[2]), json!({"id": 1, "rank": 8, "note": "none!"}));
            done(db).await;
        }
    }
}

on_every_database! {
    async fn trap_5_a_rejected_write_leaves_no_record(db: &mut TestDb) {
        docs(db, Tracking::new()).await;
        db.run("INSERT INTO doc VALUES (1, 1, 'a'), (2, 2, 'b')").await;
        assert!(db.try_run("UPDATE doc SET id = 1 WHERE id = 2").await.is_err());
        assert!(db.try_run("INSERT INTO doc VALUES (3, 3, 'c'), (1, 1, 'dup')").await.is_err());
        assert_eq!(db.audit.status().await.unwrap()[0].records, 2);
        done(db).await;
    }
}

on_every_database! {
    async fn trap_6_an_upsert_is_a_creation_or_an_update(db: &mut TestDb) {
        for tracking in both() {
            docs(db, tracking).await;
            let upsert = "INSERT INTO doc VALUES (1, 5, 'a') ON CONFLICT (id) DO UPDATE SET rank = doc.rank + 1";
            db.run(upsert).await;
            db.run(upsert).await;
            db.run("INSERT INTO doc VALUES (1, 9, 'z') ON CONFLICT DO NOTHING").await;
            let versions = db.versions("doc", "1").await;
            assert_eq!(db.signs("doc", "1").await, "+~");
            assert_eq!(changes(&versions[1]), ["rank: 5 -> 6"]);
            done(db).await;
        }
    }
}

on_every_database! {
    async fn trap_9_null_is_not_the_text_that_looks_like_it(db: &mut TestDb) {
        docs(db, Tracking::new()).await;
        db.run("INSERT INTO doc VALUES (1, NULL, NULL)").await;
        for note in ["'None'", "'null'", "''", "NULL"] {
            db.run(&format!("UPDATE doc SET note = {note}")).await;
        }
        let versions = db.versions("doc", "1").await;
        let notes: Vec<String> = versions.iter().map(|v| row(v)["note"].to_string()).collect();
        assert_eq!(notes, ["null", "\"None\"", "\"null\"", "\"\"", "null"]);
        assert_eq!(changes(&versions[0]), ["id: ∅ -> 1"], "a column that is null at creation is no change");
        done(db).await;
    }
}

on_every_database! {
    async fn trap_10_bytes_that_are_no_text(db: &mut TestDb) {
        let (kind, bytes) = db.by(("BLOB", "X'00FF80'"), ("bytea", "'\\x00ff80'::bytea"));
        db.run(&format!("CREATE TABLE doc (id INTEGER PRIMARY KEY, body {kind})")).await;
        db.track("doc", Tracking::new().storage(Storage::Delta)).await;
        db.run("INSERT INTO doc VALUES (1, NULL)").await;
        db.run(&format!("UPDATE doc SET body = {bytes}")).await;
        assert_eq!(row(&db.versions("doc", "1").await[1]), json!({"id": 1, "body": {"$bytes": "AP-A"}}));
        done(db).await;
    }
}

on_every_database! {
    async fn traps_17_and_18_cascades_are_recorded_and_the_actor_survives(db: &mut TestDb) {
        docs(db, Tracking::new()).await;
        db.run("CREATE TABLE line (id INTEGER PRIMARY KEY, doc_id INTEGER REFERENCES doc (id) ON DELETE CASCADE)").await;
        db.run("CREATE TABLE mark (id INTEGER PRIMARY KEY, doc_id INTEGER REFERENCES doc (id) ON DELETE SET NULL)").await;
        db.track("line", Tracking::new()).await;
        db.track("mark", Tracking::new().storage(Storage::Delta)).await;
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
        db.verify().await;
    }
}

on_every_database! {
    async fn trap_20_change_and_record_commit_together(db: &mut TestDb) {
        docs(db, Tracking::new()).await;
        db.run("BEGIN; INSERT INTO doc VALUES (1, 1, 'a'); SAVEPOINT s; UPDATE doc SET rank = 2; ROLLBACK TO s; UPDATE doc SET rank = 3; COMMIT").await;
        db.run("BEGIN; UPDATE doc SET rank = 4; ROLLBACK").await;
        let ranks: Vec<String> = db.versions("doc", "1").await.iter().map(|v| row(v)["rank"].to_string()).collect();
        assert_eq!(ranks, ["1", "3"]);
        done(db).await;
    }
}

on_every_database! {
    async fn law_9_before_tracking_began_is_not_known(db: &mut TestDb) {
        db.run("CREATE TABLE doc (id INTEGER PRIMARY KEY)").await;
        db.run("INSERT INTO doc VALUES (1)").await;
        let before = PointInTime::At(Moment::now());
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        db.audit.track_with(Track::new("doc", Tracking::new()), &mut |_| {}).await.unwrap();
        let error = db.audit.as_of(&AsOfQuery::new("doc", before)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unknowable, "{error}");
        assert_eq!(db.as_of("doc", PointInTime::Now).await.len(), 1);
    }
}

#[tokio::test]
async fn a_masked_value_of_a_row_about_to_be_replaced_is_kept_nowhere_in_clear() {
    let mut db = TestDb::sqlite().await;
    docs(&mut db, Tracking::new().mask(["note"])).await;
    db.run("INSERT INTO doc VALUES (1, 1, 'Sensitive')").await;
    db.run("INSERT OR IGNORE INTO doc VALUES (1, 2, 'Sensitive too')").await;
    let pending = db.text("SELECT group_concat(note) FROM afterimage_pending_1").await.unwrap();
    assert_eq!(pending, "1", "only that it was not NULL");
    db.run("INSERT OR REPLACE INTO doc VALUES (1, 1, 'Other')").await;
    assert_eq!(db.signs("doc", "1").await, "+~");
    assert_eq!(changes(&db.versions("doc", "1").await[1]), ["note: ••• -> •••"]);
    done(&mut db).await;
}
