//! Law 5: a context belongs to one transaction, on a pool of one connection, whatever ends that transaction.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use crate::support::*;
use afterimage::{Afterimage, Context, Tracking};

/// The library on a pool of a single connection, which every transaction has to hand on.
async fn on_one_connection(db: &TestDb) -> Afterimage {
    if db.is_sqlite() {
        let options = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1);
        Afterimage::from_sqlite(options.connect(&db.url).await.unwrap())
    } else if db.is_mariadb() {
        let options = sqlx::mysql::MySqlPoolOptions::new().max_connections(1);
        Afterimage::from_mariadb(options.connect(&db.url).await.unwrap())
    } else {
        let options = sqlx::postgres::PgPoolOptions::new().max_connections(1);
        Afterimage::from_postgres(options.connect(&db.url).await.unwrap())
    }
}

async fn tracked(db: &mut TestDb) -> Afterimage {
    db.run("CREATE TABLE item (id INTEGER PRIMARY KEY, n INTEGER NOT NULL)").await;
    db.track("item", Tracking::new()).await;
    db.run("INSERT INTO item VALUES (1, 0)").await;
    on_one_connection(db).await
}

/// A plain write by the pool's next borrower is recorded without anybody's context.
async fn the_next_write_is_nobodys(db: &mut TestDb, audit: &Afterimage) {
    audit.execute("UPDATE item SET n = n + 1 WHERE id = 1").await.unwrap();
    let last = db.versions("item", "1").await.pop().unwrap();
    assert_eq!(last.header.user, None, "{last:?}");
    assert_eq!(last.header.reason, None, "{last:?}");
    let live = db.text("SELECT n FROM item WHERE id = 1").await.unwrap();
    assert_eq!(row(&last)["n"].to_string(), live, "the write was kept, and recorded");
}

on_every_database! {
    async fn after_commit_rollback_and_drop(db: &mut TestDb) {
        let audit = tracked(db).await;
        let mut tx = audit.begin(&Context::actor("ann").reason("why")).await.unwrap();
        tx.execute("UPDATE item SET n = n + 1", &[]).await.unwrap();
        tx.commit().await.unwrap();
        let last = db.versions("item", "1").await.pop().unwrap();
        assert_eq!((last.header.user.as_deref(), last.header.reason.as_deref()), (Some("ann"), Some("why")));
        the_next_write_is_nobodys(db, &audit).await;

        let mut tx = audit.begin(&Context::actor("bob")).await.unwrap();
        tx.execute("UPDATE item SET n = 100", &[]).await.unwrap();
        tx.rollback().await.unwrap();
        the_next_write_is_nobodys(db, &audit).await;

        let mut tx = audit.begin(&Context::actor("cy")).await.unwrap();
        tx.execute("UPDATE item SET n = 100", &[]).await.unwrap();
        drop(tx);
        the_next_write_is_nobodys(db, &audit).await;
        assert!(db.versions("item", "1").await.iter().all(|v| v.header.user.as_deref() != Some("bob")));
        db.verify().await;
    }
}

on_every_database! {
    async fn after_a_failed_statement_and_a_panic(db: &mut TestDb) {
        let audit = tracked(db).await;
        let mut tx = audit.begin(&Context::actor("ann")).await.unwrap();
        assert!(tx.execute("INSERT INTO item VALUES (1, 1)", &[]).await.is_err());
        drop(tx);
        the_next_write_is_nobodys(db, &audit).await;

        let own = audit.clone();
        let panicked = tokio::spawn(async move {
            let mut tx = own.begin(&Context::actor("bob")).await.unwrap();
            tx.execute("UPDATE item SET n = 100", &[]).await.unwrap();
            panic!("on purpose");
        });
        assert!(panicked.await.unwrap_err().is_panic());
        the_next_write_is_nobodys(db, &audit).await;
        db.verify().await;
    }
}

on_every_database! {
    async fn after_a_cancelled_future_wherever_it_was(db: &mut TestDb) {
        let audit = tracked(db).await;
        for n in 0_u64..150 {
            let own = audit.clone();
            let work = tokio::spawn(async move {
                let mut tx = own.begin(&Context::actor(format!("cancelled-{n}"))).await?;
                tx.execute("UPDATE item SET n = n + 1000", &[]).await?;
                // Never committed: whatever of it is seen later has leaked.
                tokio::time::sleep(Duration::from_secs(60)).await;
                tx.commit().await
            });
            tokio::time::sleep(Duration::from_micros(n * 20)).await;
            work.abort();
            assert!(work.await.unwrap_err().is_cancelled());
            audit.execute("UPDATE item SET n = n + 1 WHERE id = 1").await.unwrap();
        }
        the_next_write_is_nobodys(db, &audit).await;
        assert_eq!(db.text("SELECT n FROM item WHERE id = 1").await.unwrap(), "151");
        let versions = db.versions("item", "1").await;
        assert_eq!(versions.len(), 152, "each write has its record");
        assert!(versions.iter().all(|version| version.header.user.is_none()));
        db.verify().await;
    }
}

on_every_database! {
    async fn scopes_nest_like_a_stack(db: &mut TestDb) {
        let audit = tracked(db).await;
        let mut tx = audit.begin(&Context::actor("ann").reason("outer").correlation_id("r1")).await.unwrap();
        let update = "UPDATE item SET n = n + 1";
        tx.execute(update, &[]).await.unwrap();
        tx.enter(&Context::new().reason("inner")).await.unwrap();
        tx.execute(update, &[]).await.unwrap();
        tx.enter(&Context::actor("bob").reason("innermost")).await.unwrap();
        tx.execute(update, &[]).await.unwrap();
        tx.leave().await.unwrap();
        tx.execute(update, &[]).await.unwrap();
        tx.leave().await.unwrap();
        tx.execute(update, &[]).await.unwrap();
        assert!(tx.leave().await.is_err(), "the outermost stays");
        tx.commit().await.unwrap();
        let versions = db.versions("item", "1").await;
        let said: Vec<String> = versions[1..]
            .iter()
            .map(|v| format!("{}: {}", v.header.user.as_deref().unwrap(), v.header.reason.as_deref().unwrap()))
            .collect();
        assert_eq!(said, ["ann: outer", "ann: inner", "bob: innermost", "ann: inner", "ann: outer"]);
        assert!(versions[1..].iter().all(|v| v.header.context.as_deref().unwrap().contains("r1")));
        assert!(versions[1..].windows(2).all(|pair| pair[0].header.tx == pair[1].header.tx), "it is one transaction");
    }
}

on_every_database! {
    async fn whatever_a_context_holds_comes_back_as_it_was(db: &mut TestDb) {
        let audit = tracked(db).await;
        let nasty = "o'neil\\'; DROP TABLE item; -- \u{1f980} \"quoted\" $1 ?1 {json} \n\ttab";
        let context = Context::actor(nasty)
            .label(nasty)
            .reason(nasty)
            .remote_addr("2001:db8::1")
            .with("nested", serde_json::json!({"list": [1, 2.5, null, true], "text": nasty}));
        let mut tx = audit.begin(&context).await.unwrap();
        tx.execute("UPDATE item SET n = 7", &[]).await.unwrap();
        tx.commit().await.unwrap();
        let last = db.versions("item", "1").await.pop().unwrap();
        assert_eq!(last.header.user.as_deref(), Some(nasty));
        assert_eq!(last.header.reason.as_deref(), Some(nasty));
        let rest: serde_json::Value = serde_json::from_str(last.header.context.as_deref().unwrap()).unwrap();
        assert_eq!(rest["label"], nasty);
        assert_eq!(rest["remote_addr"], "2001:db8::1");
        assert_eq!(rest["nested"], serde_json::json!({"list": [1, 2.5, null, true], "text": nasty}));
    }
}

on_every_database! {
    async fn a_context_before_anything_is_tracked_is_refused_or_harmless(db: &mut TestDb) {
        let audit = on_one_connection(db).await;
        match audit.begin(&Context::actor("ann")).await {
            Ok(tx) => tx.commit().await.unwrap(),
            Err(error) => assert!(error.to_string().contains("nothing is tracked"), "{error}"),
        }
        audit.execute("CREATE TABLE later (id INTEGER PRIMARY KEY)").await.unwrap();
    }
}
