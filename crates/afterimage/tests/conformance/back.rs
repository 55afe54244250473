//! Ways back.

use afterimage::{Restore, Revert, Selector, Storage, Tracking};

use super::capture::docs;
use crate::support::*;

conformance! {
    "14" "a revert is one more version, and a deleted row comes back under its key" => case_14(db, tracking) {
        docs(db, tracking).await;
        db.run("INSERT INTO doc VALUES (1, 1, 'first')").await;
        db.tick().await;
        db.run("UPDATE doc SET rank = 2").await;
        db.tick().await;
        db.audit.revert(&Revert::new("doc", "1", Selector::Number(1)), &actor("9")).await.unwrap();
        assert_eq!(db.signs("doc", "1").await, "+~~");
        db.run("DELETE FROM doc").await;
        db.audit.revert(&Revert::new("doc", "1", Selector::Number(1)), &actor("9")).await.unwrap();
        assert_eq!(db.signs("doc", "1").await, "+~~-+");
        let last = db.versions("doc", "1").await.pop().unwrap();
        assert_eq!((row(&last)["rank"].as_i64(), last.header.user.as_deref()), (Some(1), Some("9")));
    }

    "T16" "a row comes back with the links that went with it" => trap_16(db, tracking) {
        docs(db, tracking.clone()).await;
        db.run("CREATE TABLE link (id INTEGER PRIMARY KEY, doc_id INTEGER REFERENCES doc (id) ON DELETE CASCADE)").await;
        db.track("link", tracking).await;
        db.run("INSERT INTO doc VALUES (1, 1, 'a'); INSERT INTO link VALUES (1, 1), (2, 1)").await;
        db.run_as("ann", "oops", "DELETE FROM doc").await;
        db.tick().await;
        let done = db.audit.restore(&Restore::new("doc", "1").related(true), &actor("9")).await.unwrap();
        assert_eq!(done.records, 3);
        assert_eq!(db.text("SELECT count(*) FROM link WHERE doc_id = 1").await.as_deref(), Some("2"));
    }
}
