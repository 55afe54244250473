//! Two instances of a service start at the same time: each makes sure of the tables it needs, while others write.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support::*;
use afterimage::{Afterimage, Database, State, Tracking};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const TABLES: [&str; 3] = ["basket", "article", "price"];

/// What a service does when it starts.
async fn start(audit: Afterimage, storage: afterimage::Storage) {
    for table in TABLES {
        audit.track(table, Tracking::new().storage(storage)).await.unwrap();
    }
    audit.migrate(&[], &[]).await.unwrap();
}

/// Writes on until it is told to stop; gives how much it wrote.
async fn write_on(url: String, database: Database, from: i64, stop: Arc<AtomicBool>) -> i64 {
    let mut id = from;
    let mut connection = Writer::connect(database, &url).await;
    while !stop.load(Ordering::Relaxed) {
        let table = TABLES[usize::try_from(id % 3).unwrap()];
        match connection.run(&format!("INSERT INTO {table} (id, n) VALUES ({id}, 0)")).await {
            Ok(_) => id += 1,
            // A schema change is on its way, and its triggers have not followed: it is refused, never unrecorded.
            Err(error) => {
                let message = error.to_string();
                let passing = [
                    "locked",
                    "migrate",
                    "Deadlock",
                    "deadlock",
                    "Record has changed",
                    "doesn't match",
                    "changed since",
                ];
                assert!(passing.iter().any(|words| message.contains(words)), "{message}");
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        }
    }
    id - from
}

async fn two_at_once(mut db: TestDb) {
    for (round, storage) in STORAGES.into_iter().cycle().take(6).enumerate() {
        for table in TABLES {
            db.run(&format!("CREATE TABLE {table} (id int PRIMARY KEY, n int)")).await;
            db.run(&format!("INSERT INTO {table} VALUES (1, 0), (2, 0)")).await;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let writer = tokio::spawn(write_on(db.url.clone(), db.audit.database(), 100, Arc::clone(&stop)));

        let instances =
            [Afterimage::connect(&db.url).await.unwrap(), Afterimage::connect(&db.url).await.unwrap()];
        let starting = instances.clone().map(|instance| tokio::spawn(start(instance, storage)));
        for started in starting {
            started.await.unwrap();
        }
        // A release that brings a column: each of the new instances follows it.
        for table in TABLES {
            while let Err(message) = db.try_run(&format!("ALTER TABLE {table} ADD COLUMN more int")).await {
                assert!(message.contains("locked"), "{message}");
            }
        }
        let starting = instances.map(|instance| tokio::spawn(start(instance, storage)));
        for started in starting {
            started.await.unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        assert!(writer.await.unwrap() > 0, "nobody wrote meanwhile");

        db.verify().await;
        for status in db.audit.status().await.unwrap() {
            assert_eq!(status.state, State::Ok, "round {round}: {status:?}");
        }
        for table in TABLES {
            let (epoch, tracked) =
                db.by(("afterimage_epoch", "afterimage_tracked"), ("afterimage.epoch", "afterimage.tracked"));
            let layouts = format!(
                "SELECT count(*) FROM {epoch} JOIN {tracked} AS t ON t.id = table_id WHERE t.table_name = '{table}'"
            );
            assert_eq!(db.text(&layouts).await.as_deref(), Some("2"), "each layout is entered once: {table}");
            assert_eq!(db.signs(table, "1").await.matches('+').count(), 1, "each row is created once");
            db.audit.untrack(table, true).await.unwrap();
            db.run(&format!("DROP TABLE {table}")).await;
        }
    }
}

mod two_instances_start_at_once {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn sqlite() {
        two_at_once(TestDb::sqlite().await).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn postgres() {
        two_at_once(TestDb::postgres().await).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn mariadb() {
        two_at_once(TestDb::mariadb().await).await;
    }
}
