//! How much the histories take, and how fast they grow.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support::*;
use afterimage::{Context, Tracking};

on_every_database! {
    async fn what_a_history_takes_is_told(db: &mut TestDb) {
        db.run("CREATE TABLE doc (id INTEGER PRIMARY KEY, note VARCHAR(500))").await;
        db.run("CREATE TABLE \"odd 'name'\" (id INTEGER PRIMARY KEY)".replace('"', db.by3("\"", "\"", "`")).as_str()).await;
        db.track("doc", Tracking::new()).await;
        db.track("odd 'name'", Tracking::new()).await;
        let many = db.by3(
            "INSERT INTO doc WITH RECURSIVE g(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM g WHERE i < 1000) SELECT i, hex(zeroblob(200)) FROM g",
            "INSERT INTO doc SELECT i, repeat('a', 400) FROM generate_series(1, 1000) AS i",
            "INSERT INTO doc SELECT seq, repeat('a', 400) FROM seq_1_to_1000",
        );
        db.run(many).await;
        db.run("UPDATE doc SET note = 'b'").await;
        db.run("DELETE FROM doc WHERE id > 500").await;
        if db.is_mariadb() {
            db.run("ANALYZE TABLE doc, doc_history").await;
        }
        let stats = db.audit.stats().await.unwrap();
        let [doc, odd] = stats.as_slice() else { panic!("{stats:?}") };
        assert_eq!((doc.status.records, doc.rows, doc.estimated), (2500, 500, false));
        assert_eq!(doc.records_per_row(), Some(5.0));
        assert!((doc.per_day - 2500.0).abs() < 1.0, "{}", doc.per_day);
        let (table, index) = (doc.table_bytes.unwrap().0, doc.index_bytes.unwrap().0);
        assert!((400_000..4_000_000).contains(&table) && (30_000..1_000_000).contains(&index), "{table} {index}");
        let year = doc.bytes_in(365).unwrap();
        assert!(year.0 > 300 * doc.bytes().unwrap().0 && year > doc.bytes().unwrap());
        assert!(doc.oldest.unwrap() <= doc.newest.unwrap());
        assert_eq!((odd.status.records, odd.rows, odd.oldest, odd.records_per_row()), (0, 0, None, None));
        assert_eq!(odd.bytes_in(365), None);
        // Of a table that is gone it is told what is left.
        db.run("DROP TABLE doc").await;
        let gone = db.audit.stats().await.unwrap().remove(0);
        assert_eq!((gone.status.records, gone.rows), (2500, 0));
        assert!(!gone.status.is_healthy());
    }
}

on_every_database! {
    async fn growth_is_that_of_the_last_days_and_not_of_what_was_long_ago(db: &mut TestDb) {
        db.run("CREATE TABLE doc (id INTEGER PRIMARY KEY)").await;
        db.track("doc", Tracking::new()).await;
        db.audit.allow_explicit_time(true).await.unwrap();
        let old = afterimage::Moment::from_micros(afterimage::Moment::now().as_micros() - 90 * 86_400_000_000);
        let mut tx = db.audit.begin(&Context::actor("a").at(old)).await.unwrap();
        for id in 1..=50 {
            tx.execute(&format!("INSERT INTO doc VALUES ({id})"), &[]).await.unwrap();
        }
        tx.commit().await.unwrap();
        db.run("INSERT INTO doc VALUES (99)").await;
        let stats = db.audit.stats().await.unwrap().remove(0);
        assert_eq!(stats.status.records, 51);
        assert!(stats.per_day <= 1.0, "{}", stats.per_day);
        assert_eq!(stats.oldest, Some(old));
    }
}
