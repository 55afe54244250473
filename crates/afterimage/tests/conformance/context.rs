//! Who, and why.

use afterimage::{Context, Storage, Tracking};

use super::capture::docs;
use crate::support::*;

conformance! {
    "14" "whoever wrote a record is told by it, also once the user is gone" => case_14(db, tracking) {
        docs(db, tracking).await;
        db.run("CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT)").await;
        db.run("INSERT INTO person VALUES (42, 'ann')").await;
        let mut tx = db.audit.begin(&Context::actor("42").label("ann").reason("mine")).await.unwrap();
        tx.execute("INSERT INTO doc VALUES (1, 1, 'a')", &[]).await.unwrap();
        tx.commit().await.unwrap();
        db.run("DELETE FROM person").await;
        let header = db.versions("doc", "1").await.pop().unwrap().header;
        assert_eq!((header.user.as_deref(), header.reason.as_deref()), (Some("42"), Some("mine")));
    }

    "T18" "the actor's label is kept beside the id" => trap_18(db, tracking) {
        docs(db, tracking).await;
        let mut tx = db.audit.begin(&Context::actor("42").label("ann@example.com")).await.unwrap();
        tx.execute("INSERT INTO doc VALUES (1, 1, 'a')", &[]).await.unwrap();
        tx.commit().await.unwrap();
        let header = db.versions("doc", "1").await.pop().unwrap().header;
        assert_eq!(header.context_member("label").as_deref(), Some("ann@example.com"));
    }

    "T12" "contexts nest like a stack, and end with their transaction" => trap_12(db, tracking) {
        docs(db, tracking).await;
        let mut tx = db.audit.begin(&actor("outer")).await.unwrap();
        tx.execute("INSERT INTO doc VALUES (1, 1, 'a')", &[]).await.unwrap();
        tx.enter(&actor("inner")).await.unwrap();
        tx.execute("UPDATE doc SET rank = 2", &[]).await.unwrap();
        tx.leave().await.unwrap();
        tx.execute("UPDATE doc SET rank = 3", &[]).await.unwrap();
        tx.commit().await.unwrap();
        db.run("UPDATE doc SET rank = 4").await;
        let users: Vec<_> = db.versions("doc", "1").await.into_iter().map(|v| v.header.user).collect();
        assert_eq!(users, [Some("outer".into()), Some("inner".into()), Some("outer".into()), None]);
    }
}
