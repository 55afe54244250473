//! Events: what a committed transaction changed, told to whoever subscribed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::*;
use afterimage::{Context, ModelAudited, Revert, Selector, Tracking};

/// Everything that was told, in words.
#[derive(Clone, Default)]
struct Ear(Arc<Mutex<Vec<String>>>);

impl Ear {
    fn hears(&self, event: &ModelAudited) {
        let fields: Vec<&str> = event.changed_fields().collect();
        self.0.lock().unwrap().push(format!(
            "{} {} {} by {}: {}",
            event.table().name,
            event.key()[0].1,
            event.action().name(),
            event.actor().unwrap_or("?"),
            fields.join(",")
        ));
    }

    fn heard(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    fn listen(
        &self,
    ) -> impl Fn(Arc<ModelAudited>) -> std::future::Ready<Result<(), afterimage::HandlerError>> + use<> {
        let ear = self.clone();
        move |event| {
            ear.hears(&event);
            std::future::ready(Ok(()))
        }
    }
}

async fn shop(db: &mut TestDb) {
    db.run("CREATE TABLE orders (id INTEGER PRIMARY KEY, status VARCHAR(20)); CREATE TABLE item (id INTEGER PRIMARY KEY, order_id INTEGER, FOREIGN KEY (order_id) REFERENCES orders (id) ON DELETE CASCADE)").await;
    db.track("orders", Tracking::new()).await;
    db.track("item", Tracking::new()).await;
}

on_every_database! {
    async fn what_is_committed_is_told_in_order(db: &mut TestDb) {
        shop(db).await;
        let (all, items) = (Ear::default(), Ear::default());
        db.audit.subscribe(all.listen());
        db.audit.subscribe_to("item", items.listen());
        let audit = db.audit.clone();
        let mut tx = audit.begin(&Context::actor("ann")).await.unwrap();
        tx.execute("INSERT INTO orders VALUES (1, 'open'), (2, 'open')", &[]).await.unwrap();
        tx.execute("INSERT INTO item VALUES (7, 1)", &[]).await.unwrap();
        tx.execute("UPDATE orders SET status = 'paid' WHERE id = 2", &[]).await.unwrap();
        assert!(all.heard().is_empty(), "nothing is told before it is true");
        tx.commit().await.unwrap();
        let mut tx = audit.begin(&Context::actor("bob")).await.unwrap();
        tx.execute("DELETE FROM orders WHERE id = 1", &[]).await.unwrap();
        tx.commit().await.unwrap();
        audit.events_told().await;
        let mut told = all.heard();
        // What a cascade reaches comes before or after what it came from, as the database does it.
        told[4..].sort();
        assert_eq!(
            told,
            [
                "orders 1 create by ann: id,status",
                "orders 2 create by ann: id,status",
                "item 7 create by ann: id,order_id",
                "orders 2 update by ann: status",
                "item 7 delete by bob: id,order_id",
                "orders 1 delete by bob: id,status",
            ]
        );
        assert_eq!(items.heard(), ["item 7 create by ann: id,order_id", "item 7 delete by bob: id,order_id"]);
        let back = Revert::new("orders", "2", Selector::Number(1));
        audit.revert(&back, &Context::actor("carl")).await.unwrap();
        audit.events_told().await;
        assert_eq!(all.heard(), ["orders 2 update by carl: status"]);
    }
}

on_every_database! {
    async fn what_is_rolled_back_is_never_told(db: &mut TestDb) {
        shop(db).await;
        let ear = Ear::default();
        db.audit.subscribe(ear.listen());
        let audit = db.audit.clone();
        let mut tx = audit.begin(&Context::actor("ann")).await.unwrap();
        tx.execute("INSERT INTO orders VALUES (1, 'open')", &[]).await.unwrap();
        tx.rollback().await.unwrap();
        let mut tx = audit.begin(&Context::actor("ann")).await.unwrap();
        tx.execute("INSERT INTO orders VALUES (2, 'open')", &[]).await.unwrap();
        drop(tx);
        let mut tx = audit.begin(&Context::actor("ann")).await.unwrap();
        tx.execute("INSERT INTO orders VALUES (3, 'open')", &[]).await.unwrap();
        let mut nested = tx.nest().await.unwrap();
        nested.execute("INSERT INTO orders VALUES (4, 'open')", &[]).await.unwrap();
        nested.rollback().await.unwrap();
        tx.commit().await.unwrap();
        // One that writes nothing tells nothing.
        audit.begin(&Context::actor("ann")).await.unwrap().commit().await.unwrap();
        audit.events_told().await;
        assert_eq!(ear.heard(), ["orders 3 create by ann: id,status"]);
    }
}

on_every_database! {
    async fn a_handler_that_fails_harms_nobody(db: &mut TestDb) {
        shop(db).await;
        let (ear, failures) = (Ear::default(), Arc::new(Mutex::new(Vec::new())));
        let audit = db.audit.clone();
        audit.subscribe(|event: Arc<ModelAudited>| async move {
            if event.key()[0].1.to_string() == "2" { Err("no more twos".into()) } else { Ok(()) }
        });
        audit.subscribe(|_: Arc<ModelAudited>| async move { panic!("what now?") });
        audit.subscribe(|_: Arc<ModelAudited>| async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok(())
        });
        audit.subscribe(ear.listen());
        let reported = Arc::clone(&failures);
        audit.on_failed_handler(move |failed| {
            reported.lock().unwrap().push(format!("{}: {}", failed.event.key()[0].1, failed.error));
        });
        let mut tx = audit.begin(&Context::actor("ann")).await.unwrap();
        tx.execute("INSERT INTO orders VALUES (1, 'open'), (2, 'open')", &[]).await.unwrap();
        tx.commit().await.unwrap();
        audit.events_told().await;
        assert_eq!(ear.heard().len(), 2);
        let mut failures = std::mem::take(&mut *failures.lock().unwrap());
        failures.sort();
        assert_eq!(failures, ["1: it panicked: what now?", "2: it panicked: what now?", "2: no more twos"]);
        db.verify().await;
    }
}
