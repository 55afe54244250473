//! PostgreSQL: partitions and inheritance, by every road.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support::*;
use afterimage::{State, Tracking};
use serde_json::json;

/// Two levels; leaves whose columns stand in another order, and one with a dropped column.
const TREE: &str =
    "CREATE TABLE item (region text, id int, n int, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
    CREATE TABLE north PARTITION OF item FOR VALUES IN ('n') PARTITION BY RANGE (id);
    CREATE TABLE north_low (n int, gone int, id int NOT NULL, region text NOT NULL);
    ALTER TABLE north_low DROP COLUMN gone;
    ALTER TABLE north ATTACH PARTITION north_low FOR VALUES FROM (0) TO (100);
    CREATE TABLE north_high PARTITION OF north FOR VALUES FROM (100) TO (200);
    CREATE TABLE south PARTITION OF item FOR VALUES IN ('s');
    CREATE TABLE elsewhere PARTITION OF item DEFAULT";

const QUIET: &str =
    "CREATE FUNCTION quiet() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
    CREATE TRIGGER quiet AFTER INSERT OR UPDATE OR DELETE ON item FOR EACH ROW EXECUTE FUNCTION quiet()";

#[tokio::test]
async fn aimed_at_the_root_at_a_leaf_or_between() {
    for storage in STORAGES {
        for beside in ["", QUIET] {
            let mut db = TestDb::postgres().await;
            db.run(TREE).await;
            db.run(beside).await;
            db.track("item", Tracking::new().storage(storage)).await;
            db.run("INSERT INTO item VALUES ('n', 1, 0), ('n', 150, 0), ('s', 1, 0), ('x', 1, 0)").await;
            db.run("INSERT INTO north VALUES ('n', 2, 0); INSERT INTO north_low (region, id, n) VALUES ('n', 3, 0); INSERT INTO south SELECT 's', i, 0 FROM generate_series(2, 9) AS i").await;
            db.run("UPDATE item SET n = n + 1; UPDATE north SET n = n + 1; UPDATE north_low SET n = n + 1; UPDATE ONLY item SET n = 77").await;
            for (key, signs) in [("n,3", "+~~~"), ("n,150", "+~~"), ("s,9", "+~"), ("x,1", "+~")] {
                let (region, id) = key.split_once(',').unwrap();
                assert_eq!(db.signs("item", &format!("region={region},id={id}")).await, signs, "{key}");
            }
            db.verify().await;
            // Rows that move from one partition to another, of other levels too.
            db.run("UPDATE item SET id = 180 WHERE region = 'n' AND id = 1; UPDATE north SET id = 50 WHERE id = 150; UPDATE item SET region = 's', id = 77 WHERE id = 2 AND region = 'n'; UPDATE item SET region = 'q', n = 9 WHERE region = 's' AND id < 4").await;
            // Row by row, PostgreSQL calls it a deletion and an insertion.
            let by_row = !beside.is_empty();
            assert_eq!(db.signs("item", "region=n,id=180").await, if by_row { "+" } else { "+~~~+" });
            assert_eq!(db.signs("item", "region=q,id=3").await, if by_row { "+" } else { "+~+" });
            assert!(
                db.text(
                    "SELECT count(*) FROM item_history WHERE id = 1 AND region = 'n' AND history_type = '-'"
                )
                .await
                    == Some("1".into())
            );
            db.verify().await;
            db.run("DELETE FROM north WHERE id = 50; DELETE FROM south; DELETE FROM item WHERE region = 'x'; TRUNCATE north_low; TRUNCATE item").await;
            assert_eq!(db.signs("item", "region=n,id=3").await, "+~~~-");
            assert!(db.as_of("item", now()).await.is_empty());
            db.verify().await;
            db.run("COPY north_low (n, id, region) FROM PROGRAM 'echo 1,7,n' (FORMAT csv); INSERT INTO item VALUES ('n', 7, 5), ('s', 7, 5) ON CONFLICT (region, id) DO UPDATE SET n = excluded.n").await;
            assert_eq!(db.signs("item", "region=n,id=7").await, "+~");
            db.verify().await;
        }
    }
}

#[tokio::test]
async fn partitions_come_and_go() {
    let mut db = TestDb::postgres().await;
    db.run(TREE).await;
    db.track("item", Tracking::new()).await;
    db.run("INSERT INTO item VALUES ('s', 1, 0), ('n', 1, 0)").await;
    db.run("CREATE TABLE west PARTITION OF item FOR VALUES IN ('w')").await;
    // By the root it is captured at once; aimed at the new partition, only after `migrate`.
    db.run("INSERT INTO item VALUES ('w', 1, 0)").await;
    assert_eq!(db.signs("item", "region=w,id=1").await, "+");
    let status = db.audit.status().await.unwrap().remove(0);
    assert_eq!(status.state, State::Missing, "{status:?}");
    assert!(status.faults[0].to_string().contains("west"));
    db.audit.migrate(&[], &[]).await.unwrap();
    assert_eq!(db.audit.status().await.unwrap()[0].state, State::Ok);
    db.run("INSERT INTO west VALUES ('w', 2, 0); UPDATE west SET n = 1").await;
    assert_eq!(db.signs("item", "region=w,id=2").await, "+~");
    db.verify().await;

    // A detached partition takes its rows along: what they do there is no business of this history.
    db.run("ALTER TABLE item DETACH PARTITION south; UPDATE south SET n = 5; INSERT INTO south VALUES ('s', 2, 0)").await;
    let status = db.audit.status().await.unwrap().remove(0);
    assert_ne!(status.state, State::Ok, "{status:?}");
    db.audit.migrate(&[], &[]).await.unwrap();
    db.verify().await;
    assert!(db.signs("item", "region=s,id=1").await.ends_with('-'));
    db.run("UPDATE south SET n = 6; INSERT INTO south VALUES ('s', 3, 0)").await;
    db.verify().await;

    // Attached again, with other rows.
    db.run("ALTER TABLE item ATTACH PARTITION south FOR VALUES IN ('s')").await;
    db.audit.migrate(&[], &[]).await.unwrap();
    assert_eq!(db.as_of("item", now()).await.iter().filter(|row| row["region"] == "s").count(), 3);
    db.verify().await;
    db.run("UPDATE south SET n = 7").await;
    db.verify().await;
    // Dropped with its rows: nothing is told but by verify.
    db.run("DROP TABLE west").await;
    let verdict = db.audit.verify(&[]).await.unwrap().remove(0);
    assert_eq!(verdict.difference_count, 2);
}

/// Created and followed in one transaction, nothing can be written in between: no gap.
#[tokio::test]
async fn a_partition_with_a_plan() {
    let mut db = TestDb::postgres().await;
    db.run(TREE).await;
    db.track("item", Tracking::new()).await;
    let plan =
        db.audit.plan_after("item", "CREATE TABLE west PARTITION OF item FOR VALUES IN ('w')").await.unwrap();
    db.run(&format!("BEGIN; {}; COMMIT", plan.plan.up.join(";\n"))).await;
    db.run("INSERT INTO west VALUES ('w', 2, 0)").await;
    assert_eq!(db.signs("item", "region=w,id=2").await, "+");
    let verdict = db.audit.verify(&[]).await.unwrap().remove(0);
    assert!(verdict.is_whole() && verdict.gaps.is_empty(), "{verdict:?}");
}

#[tokio::test]
async fn a_partition_by_itself_is_refused_and_a_root_without_partitions_is_not() {
    let mut db = TestDb::postgres().await;
    db.run(TREE).await;
    let refused = message(db.audit.track("north_low", Tracking::new()).await);
    assert!(refused.contains("track the partitioned table"), "{refused}");
    db.run("CREATE TABLE empty_root (id int PRIMARY KEY) PARTITION BY RANGE (id)").await;
    db.track("empty_root", Tracking::new()).await;
    db.run("CREATE TABLE empty_leaf PARTITION OF empty_root DEFAULT; INSERT INTO empty_root VALUES (1)")
        .await;
    assert_eq!(db.signs("empty_root", "1").await, "+");
    db.audit.migrate(&[], &[]).await.unwrap();
    db.verify().await;
}

#[tokio::test]
async fn tables_that_inherit_have_histories_of_their_own() {
    for storage in STORAGES {
        let mut db = TestDb::postgres().await;
        db.run(
            "CREATE TABLE item (id int PRIMARY KEY, n int);
             CREATE TABLE heir (extra text, PRIMARY KEY (id)) INHERITS (item);
             INSERT INTO item VALUES (1, 0); INSERT INTO heir VALUES (2, 0, 'x')",
        )
        .await;
        db.track("item", Tracking::new().storage(storage)).await;
        db.track("heir", Tracking::new().storage(storage)).await;
        db.run("UPDATE item SET n = 1; INSERT INTO heir VALUES (3, 0, 'y'); DELETE FROM item WHERE id = 3; UPDATE heir SET extra = 'z'; UPDATE ONLY item SET n = 5").await;
        assert_eq!(db.signs("item", "1").await, "+~~");
        assert_eq!(db.signs("item", "2").await, "", "it is the heir's");
        assert_eq!(db.signs("heir", "2").await, "+~~");
        assert_eq!(db.signs("heir", "3").await, "+-");
        assert_eq!(db.as_of("item", now()).await, [json!({"id": 1, "n": 5})]);
        db.verify().await;
        db.run("TRUNCATE item").await;
        assert_eq!(db.signs("item", "1").await, "+~~-");
        assert_eq!(db.signs("heir", "2").await, "+~~-");
        db.verify().await;

        // A table that begins to inherit later.
        db.run("CREATE TABLE plain (id int PRIMARY KEY)").await;
        db.track("plain", Tracking::new().storage(storage)).await;
        db.run("CREATE TABLE late () INHERITS (plain); INSERT INTO plain VALUES (1); INSERT INTO late VALUES (2)").await;
        assert_ne!(db.audit.status().await.unwrap()[2].state, State::Ok);
        db.audit.migrate(&[], &[]).await.unwrap();
        db.run("DELETE FROM plain").await;
        assert_eq!(db.signs("plain", "1").await, "+-");
        assert_eq!(db.signs("plain", "2").await, "");
        db.verify().await;
    }
}
