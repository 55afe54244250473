//! Cases that the random histories of `laws.rs` found, shrunk.

use crate::support::*;
use afterimage::{Afterimage, AsOfQuery, PointInTime, Storage, Tracking};

#[tokio::test]
async fn an_added_column_has_its_default_from_the_first_moment_at_which_it_exists() {
    let mut db = TestDb::sqlite().await;
    db.run("CREATE TABLE item (id INTEGER PRIMARY KEY); INSERT INTO item VALUES (1)").await;
    db.track("item", Tracking::new()).await;
    // No literal that the history could take for its own default: each row gets a record.
    db.run("ALTER TABLE item ADD COLUMN added INTEGER DEFAULT 0x10").await;
    db.audit.migrate(&[], &[]).await.unwrap();
    let from = db.text("SELECT max(from_date) FROM afterimage_epoch").await.unwrap().parse().unwrap();
    let at = PointInTime::At(afterimage::Moment::from_micros(from));
    let state = db.audit.as_of(&AsOfQuery::new("item", at)).await.unwrap();
    assert_eq!(state.rows, [[afterimage::Value::Number("1".into()), afterimage::Value::Number("16".into())]]);
}

/// MariaDB orders text by its collation, in which 'ä' comes before 'b'; the index along which pages are read, by bytes.
#[tokio::test]
async fn pages_of_a_table_follow_one_another_in_the_order_that_they_have_themselves() {
    for storage in [Storage::Snapshot, Storage::Delta] {
        let mut db = TestDb::mariadb().await;
        db.run("CREATE TABLE item (k VARCHAR(9) PRIMARY KEY, n INTEGER)").await;
        db.track("item", Tracking::new().storage(storage)).await;
        db.run("INSERT INTO item VALUES ('ä', 1), ('b', 2), ('C', 3), ('d', 4)").await;
        let whole = AsOfQuery::new("item", PointInTime::Now);
        for filter in [None, Some("n > 0".to_owned())] {
            let whole = AsOfQuery { filter, ..whole.clone() };
            let rows = db.audit.as_of(&whole).await.unwrap().rows;
            let mut paged: Vec<Vec<afterimage::Value>> = Vec::new();
            for _ in 0..3 {
                let after = paged.last().map(|row| row[0].to_string());
                let query = AsOfQuery { limit: Some(2), after, ..whole.clone() };
                paged.extend(db.audit.as_of(&query).await.unwrap().rows);
            }
            assert_eq!(paged, rows);
        }
    }
}

/// SQLite carries a cascade out before it fires the triggers of the row that caused it (law 6).
#[tokio::test]
async fn a_row_that_refers_to_itself_may_change_its_key() {
    for storage in [Storage::Snapshot, Storage::Delta] {
        let mut db = TestDb::sqlite().await;
        db.run("CREATE TABLE item (id INTEGER PRIMARY KEY, boss INTEGER REFERENCES item ON UPDATE CASCADE)")
            .await;
        db.track("item", Tracking::new().storage(storage)).await;
        db.run("INSERT INTO item VALUES (3, 3)").await;
        db.run("UPDATE item SET id = 7").await;
        db.verify().await;
        assert_eq!(db.signs("item", "7").await, "++~");
    }
}

/// Where a table's own trigger writes the row again whose change of key a foreign key carries over to itself, PostgreSQL
/// fires it before ours sees what the cascade did. A limit: the records lead to what is there, and one of those in between
/// is out of order, so that a full record among them does not name all that differs from the one before it.
#[tokio::test]
async fn a_row_that_refers_to_itself_and_is_written_again_by_a_trigger_is_right_in_the_end() {
    for storage in [Storage::Snapshot, Storage::Delta] {
        let mut db = TestDb::postgres().await;
        db.run(
            "CREATE TABLE item (id INTEGER PRIMARY KEY, boss INTEGER REFERENCES item ON UPDATE CASCADE, touched INTEGER);
             CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               UPDATE item SET touched = coalesce(touched, 0) + 1 WHERE id = NEW.id; RETURN NULL; END $$;
             CREATE TRIGGER touch AFTER UPDATE ON item FOR EACH ROW
               WHEN (coalesce(NEW.touched, 0) < 3 AND NEW.touched IS NOT DISTINCT FROM OLD.touched) EXECUTE FUNCTION touch()",
        )
        .await;
        db.track("item", Tracking::new().storage(storage)).await;
        db.run("INSERT INTO item VALUES (6, 6, NULL)").await;
        db.run("UPDATE item SET id = 1").await;
        db.verify().await;
        let last = db.versions("item", "1").await.pop().unwrap();
        let values: Vec<String> = last.row.iter().map(|(_, value)| value.to_string()).collect();
        assert_eq!(values, ["1", "1", "2"], "{storage}");
        let state = db.audit.as_of(&AsOfQuery::new("item", PointInTime::Now)).await.unwrap();
        assert_eq!(state.rows, [last.row.into_iter().map(|(_, value)| value).collect::<Vec<_>>()]);
    }
}

#[tokio::test]
async fn a_record_cannot_be_replaced() {
    let mut db = TestDb::sqlite().await;
    db.run("CREATE TABLE item (id INTEGER PRIMARY KEY)").await;
    db.track("item", Tracking::new()).await;
    db.run("INSERT INTO item VALUES (1)").await;
    let replaced = db
        .try_run("INSERT OR REPLACE INTO item_history (history_id, history_type, id) VALUES (1, '-', 1)")
        .await;
    assert!(replaced.is_err(), "the record was replaced");
}

#[tokio::test]
async fn a_row_that_two_cascades_touch_in_one_statement_is_recorded_once_each_also_beside_a_users_trigger() {
    for storage in [Storage::Snapshot, Storage::Delta] {
        let mut db = TestDb::postgres().await;
        db.run(
            "CREATE TABLE boss (id int PRIMARY KEY);
             CREATE TABLE item (id int PRIMARY KEY, a int REFERENCES boss ON UPDATE SET NULL, b int REFERENCES boss ON UPDATE CASCADE, touched int DEFAULT 0);
             CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
               $$ BEGIN UPDATE item SET touched = touched + 1 WHERE id = NEW.id; RETURN NULL; END $$;
             CREATE TRIGGER touch AFTER UPDATE ON item FOR EACH ROW WHEN (OLD.touched = NEW.touched) EXECUTE FUNCTION touch()",
        )
        .await;
        db.track("item", Tracking::new().storage(storage)).await;
        db.run("INSERT INTO boss VALUES (1); INSERT INTO item VALUES (1, 1, 1)").await;
        db.run("UPDATE boss SET id = 2").await;
        let told: Vec<String> = db.versions("item", "1").await.iter().skip(1).flat_map(changes).collect();
        assert_eq!(told, ["a: 1 -> ∅", "b: 1 -> 2", "touched: 0 -> 1", "touched: 1 -> 2"]);
        db.verify().await;
    }
}

/// SQLite was once told to refuse writes while a filter ran, on a connection that a cancelled caller gave back so.
#[tokio::test]
async fn a_filter_cannot_write_and_leaves_the_connection_as_it_was() {
    let mut db = TestDb::sqlite().await;
    db.run("CREATE TABLE item (id INTEGER PRIMARY KEY, t TEXT)").await;
    db.track("item", Tracking::new()).await;
    db.run("INSERT INTO item VALUES (1, 'a;)'), (2, 'b')").await;
    let mut query = AsOfQuery::new("item", PointInTime::Now);
    query.filter = Some("t = 'a;)' -- the first".into());
    assert_eq!(db.audit.as_of(&query).await.unwrap().rows.len(), 1);
    for filter in ["1); DELETE FROM item; --", "1; DELETE FROM item", "id = 1) UNION SELECT (1", "t = 'a"] {
        query.filter = Some(filter.into());
        assert!(message(db.audit.as_of(&query).await).contains("not one condition"), "{filter}");
    }
    let pool = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1).connect(&db.url).await.unwrap();
    let audit = afterimage::Afterimage::from_sqlite(pool.clone());
    query.filter = Some("id > 0".into());
    for wait in 0..60 {
        let limit = std::time::Duration::from_micros(wait * 50);
        let _ = tokio::time::timeout(limit, audit.as_of(&query)).await;
        sqlx::query("UPDATE item SET t = t || 'x'").execute(&pool).await.unwrap();
    }
    db.verify().await;
}

/// An update of a key that its statement ignored was taken for one that took place, once its row was gone.
#[tokio::test]
async fn an_ignored_change_of_a_key_is_not_recorded_later() {
    let mut db = TestDb::sqlite().await;
    db.run(
        "PRAGMA foreign_keys = ON;
         CREATE TABLE item (k INTEGER PRIMARY KEY, c INTEGER);
         CREATE TABLE part (k INTEGER PRIMARY KEY, item INTEGER REFERENCES item ON DELETE CASCADE ON UPDATE CASCADE, touched INTEGER);
         CREATE TRIGGER touch AFTER UPDATE ON part WHEN NEW.touched IS OLD.touched BEGIN UPDATE part SET touched = 1 WHERE k = NEW.k; END",
    )
    .await;
    for table in ["item", "part"] {
        db.track(table, Tracking::new()).await;
    }
    db.run("INSERT INTO item VALUES (0, 1), (6, 1); UPDATE OR IGNORE item SET k = 6 WHERE k = 0; DELETE FROM item").await;
    assert_eq!((db.signs("item", "0").await, db.signs("item", "6").await), ("+-".into(), "+-".into()));
    db.verify().await;
}

/// Whoever stops waiting for a commit does not leave a transaction open to the next borrower of the connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_nobody_waits_for_leaves_nothing_open() {
    let mut db = TestDb::sqlite().await;
    db.run("CREATE TABLE item (id INTEGER PRIMARY KEY, n INTEGER); INSERT INTO item VALUES (1, 0)").await;
    db.track("item", Tracking::new()).await;
    let one = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1);
    let audit = Afterimage::from_sqlite(one.connect(&db.url).await.unwrap());
    for n in 0_u64..400 {
        let mut tx = audit.begin(&actor("1")).await.unwrap();
        tx.execute("UPDATE item SET n = n + 1", &[]).await.unwrap();
        let mut commit = Box::pin(tx.commit());
        // Asked for, and given up at any point of it.
        let asked = std::future::poll_fn(|context| {
            let _ = commit.as_mut().poll(context);
            std::task::Poll::Ready(())
        });
        asked.await;
        std::thread::sleep(std::time::Duration::from_micros(n % 100 * 3));
        drop(commit);
        for _ in 0..2 {
            audit.history("item", "1").await.unwrap();
        }
    }
}
