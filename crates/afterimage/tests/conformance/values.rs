//! When a value is another, and what is kept of one.

use afterimage::{Storage, Tracking};
use serde_json::json;

use super::capture::docs;
use crate::support::*;

conformance! {
    "20" "the same instant in another zone is no change; another text of the same JSON is what the type makes of it" superseded by "law 3" => case_20(db, tracking) {
        let (instant, document) = db.by3(("TIMESTAMP", "TEXT"), ("timestamptz", "jsonb"), ("TIMESTAMP NULL", "JSON"));
        db.run(&format!("CREATE TABLE event (id INTEGER PRIMARY KEY, at {instant}, doc {document})")).await;
        db.track("event", tracking).await;
        let [noon, same, later] = db.by3(
            ["'2017-01-10T12:00:00Z'"; 3],
            ["'2017-01-10 12:00+00'", "'2017-01-10 13:00+01'", "'2017-01-10 14:00+01'"],
            ["'2017-01-10 12:00:00'", "'2017-01-10 13:00:00'", "'2017-01-10 14:00:00'"],
        );
        let zone = |zone: &str| if db.is_mariadb() { format!("SET time_zone = '{zone}'; ") } else { String::new() };
        let (utc, east) = (zone("+00:00"), zone("+01:00"));
        db.run(&format!(r#"{utc}INSERT INTO event VALUES (1, {noon}, '{{"a": 1, "b": 2}}')"#)).await;
        db.run(&format!("{east}UPDATE event SET at = {same}")).await;
        assert_eq!(db.signs("event", "1").await, "+");
        if !db.is_sqlite() {
            // There a time is a text, and the same text is all that can be the same.
            db.run(&format!("{east}UPDATE event SET at = {later}")).await;
            assert_eq!(db.signs("event", "1").await, "+~");
        }
        let before = db.versions("event", "1").await.len();
        db.run(&format!(r#"{utc}UPDATE event SET doc = '{{"b": 2, "a": 1}}'"#)).await;
        // PostgreSQL's jsonb keeps the document; a text is another stored image.
        let more = if db.is_postgres() { 0 } else { 1 };
        assert_eq!(db.versions("event", "1").await.len(), before + more);
    }

    "21" "a reference to another row with the same label is a change, its label is the other row's affair" => case_21(db, tracking) {
        docs(db, tracking.clone()).await;
        db.run("CREATE TABLE link (id INTEGER PRIMARY KEY, doc_id INTEGER REFERENCES doc (id))").await;
        db.track("link", tracking).await;
        db.run("INSERT INTO doc VALUES (1, 0, 'same'), (2, 0, 'same')").await;
        db.run("INSERT INTO link VALUES (1, 1)").await;
        db.run("UPDATE link SET doc_id = 2").await;
        db.run("UPDATE doc SET note = 'renamed' WHERE id = 2").await;
        let versions = db.versions("link", "1").await;
        assert_eq!(versions.len(), 2);
        assert_eq!(changes(&versions[1]), ["doc_id: 1 -> 2"]);
    }

    "22, T11" "a masked value is nowhere in clear, and its mask tells nothing of it" superseded by "the design: masks are of the whole value" => case_22_and_trap_11(db, tracking) {
        docs(db, tracking.mask(["rank", "note"])).await;
        db.run("INSERT INTO doc VALUES (1, 4111, 'Sensitive data'), (2, NULL, NULL)").await;
        db.run("UPDATE doc SET rank = 5555, note = 'Sensitive'").await;
        let versions = db.versions("doc", "1").await;
        assert_eq!(row(&versions[1]), json!({"id": 1, "rank": {"$masked": true}, "note": {"$masked": true}}));
        assert_eq!(changes(&versions[1]), ["rank: ••• -> •••", "note: ••• -> •••"]);
        assert_eq!(changes(&db.versions("doc", "2").await[1]), ["rank: ∅ -> •••", "note: ∅ -> •••"]);
        let kept = db.by3(
            "SELECT group_concat(coalesce(rank, '') || coalesce(note, '')) FROM doc_history",
            "SELECT string_agg(doc_history::text, '') FROM doc_history",
            "SELECT GROUP_CONCAT(CONCAT_WS('', rank, note)) FROM doc_history",
        );
        let kept = db.text(kept).await.unwrap();
        assert!(!kept.contains("4111") && !kept.contains("5555") && !kept.contains("Sensitive"), "{kept}");
    }

    "T9" "NULL is not the text that looks like it" => trap_9(db, tracking) {
        docs(db, tracking).await;
        db.run("INSERT INTO doc VALUES (1, NULL, NULL)").await;
        for note in ["'None'", "'null'", "''", "NULL"] {
            db.run(&format!("UPDATE doc SET note = {note}")).await;
        }
        let versions = db.versions("doc", "1").await;
        let notes: Vec<String> = versions.iter().map(|v| row(v)["note"].to_string()).collect();
        assert_eq!(notes, ["null", "\"None\"", "\"null\"", "\"\"", "null"]);
        assert_eq!(changes(&versions[0]), ["id: ∅ -> 1"], "a column that is null at creation is no change");
    }

    "T10" "bytes that are no text" => trap_10(db, tracking) {
        let (kind, bytes) = db.by(("BLOB", "X'00FF80'"), ("bytea", "'\\x00ff80'::bytea"));
        db.run(&format!("CREATE TABLE doc (id INTEGER PRIMARY KEY, body {kind})")).await;
        db.track("doc", tracking).await;
        db.run("INSERT INTO doc VALUES (1, NULL)").await;
        db.run(&format!("UPDATE doc SET body = {bytes}")).await;
        assert_eq!(row(&db.versions("doc", "1").await[1]), json!({"id": 1, "body": {"$bytes": "AP-A"}}));
    }
}
