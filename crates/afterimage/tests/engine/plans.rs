//! No question about one row scans the history; no page of a table reads all of it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support::*;
use afterimage::{Database, LogQuery, Moment, Query, Storage, Tracking, Value};
use afterimage_core::Layout;
use afterimage_core::sql::log::{self, Part, Read, Source};
use afterimage_core::sql::question::Question;
use afterimage_core::sql::{AsOf, Bound, Rows, dialect};

/// A table of 2,000 rows with three versions each, as wide as rows are, analysed.
async fn filled(db: &mut TestDb, storage: Storage) -> Layout {
    db.run("CREATE TABLE doc (id INTEGER PRIMARY KEY, rank INTEGER, note TEXT)").await;
    db.track("doc", Tracking::new().storage(storage)).await;
    let many = db.by3(
        "INSERT INTO doc WITH RECURSIVE g(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM g WHERE i < 2000) SELECT i, 0, hex(zeroblob(200)) FROM g",
        "INSERT INTO doc SELECT i, 0, repeat('a', 400) FROM generate_series(1, 2000) AS i",
        "INSERT INTO doc SELECT seq, 0, repeat('a', 400) FROM seq_1_to_2000",
    );
    db.run(many).await;
    db.run("UPDATE doc SET rank = 1").await;
    db.run("UPDATE doc SET rank = 2").await;
    db.run(db.by3("ANALYZE", "VACUUM ANALYZE", "ANALYZE TABLE doc, doc_history")).await;
    // Of a table as small as this one, PostgreSQL would rather read everything.
    db.run(db.by3("SELECT 1", "SET enable_seqscan = off; SET enable_bitmapscan = off", "DO 0")).await;
    let epoch = db.by("afterimage_epoch", "afterimage.epoch");
    serde_json::from_str(&db.text(&format!("SELECT layout FROM {epoch}")).await.unwrap()).unwrap()
}

/// What an `EXPLAIN` says of a question; on PostgreSQL of the plan that it keeps, whatever is asked about.
pub(crate) async fn explained(db: &mut TestDb, explain: &str, question: &Question) -> String {
    let given: Vec<String> = question.given.iter().map(|value| format!("'{value}'")).collect();
    if !db.is_postgres() {
        let mut sql = question.sql.clone();
        for (n, value) in given.iter().enumerate() {
            let numbered = format!("?{}", n + 1);
            let is = sql.contains(&numbered);
            sql = if is { sql.replace(&numbered, value) } else { sql.replacen('?', value, 1) };
        }
        return db.lines(&format!("{explain} {sql}")).await.join("\n");
    }
    db.run(&format!("SET plan_cache_mode = force_generic_plan; PREPARE asked AS {}", question.sql)).await;
    let values = if given.is_empty() { String::new() } else { format!("({})", given.join(", ")) };
    let plan = db.lines(&format!("{explain} EXECUTE asked{values}")).await.join("\n");
    db.run("DEALLOCATE asked; RESET plan_cache_mode").await;
    plan
}

/// The plan of a question.
async fn plan(db: &mut TestDb, question: &Question) -> String {
    let explain = db.by3("EXPLAIN QUERY PLAN", "EXPLAIN", "EXPLAIN FORMAT = JSON");
    explained(db, explain, question).await
}

fn scans_history(plan: &str) -> bool {
    plan.lines().any(|line| {
        let sqlite =
            line.starts_with("SCAN h") || line.starts_with("SCAN l") || line.starts_with("SCAN doc_history");
        sqlite || (line.contains("Seq Scan on") && line.contains("history"))
    }) || reads_all_of(plan, "h")
        || reads_all_of(plan, "l")
}

/// MariaDB's plan, as JSON, reads a whole table.
fn reads_all_of(plan: &str, alias: &str) -> bool {
    let lines: Vec<&str> = plan.lines().map(str::trim).collect();
    let name = format!("\"table_name\": \"{alias}\",");
    lines.windows(2).any(|pair| pair[0] == name && pair[1].starts_with("\"access_type\": \"ALL\""))
}

on_every_database! {
    async fn questions_about_one_row_use_its_key(db: &mut TestDb) {
        let layout = filled(db, Storage::Delta).await;
        let sql = dialect(db.audit.database());
        let now = Moment::now();
        let key = [Value::Text("42".to_owned())];
        for bound in [Bound::Now, Bound::Time(now), Bound::Position(now, 5)] {
            let plan = plan(db, &sql.records_of_key(&layout, &layout.fields, &key, bound, &[])).await;
            assert!(!scans_history(&plan) && plan.contains(db.by3("doc_history_key", "doc_history_key", "history_key")), "{bound:?}:\n{plan}");
        }
        let given = ["5", "1795384800000000"].map(|text| Value::Text(text.to_owned())).to_vec();
        let plan = plan(db, &Question { sql: sql.arrival_of(&layout), given, kept: true, alone: None }).await;
        assert!(!scans_history(&plan), "{plan}");
    }
}

on_every_database! {
    async fn which_transactions_had_not_ended_is_found_around_that_time(db: &mut TestDb) {
        let layout = filled(db, Storage::Delta).await;
        for bound in [Bound::Time(Moment::now()), Bound::Position(Moment::now(), 5)] {
            let sql = dialect(db.audit.database());
            for question in [Some(sql.unfinished(&[&layout], bound)), sql.unfinished_unless_long(&[&layout], bound)] {
                let Some(question) = question else { continue };
                let plan = plan(db, &question).await;
                assert!(!scans_history(&plan), "{bound:?}:\n{plan}");
                assert!(db.is_mariadb() || plan.contains("doc_history"), "{bound:?}:\n{plan}");
            }
        }
    }
}

on_every_database! {
    async fn a_count_reads_the_keys_index_alone(db: &mut TestDb) {
        let layout = filled(db, Storage::Snapshot).await;
        let bound = Bound::Time(Moment::now());
        let as_of = AsOf { layout: &layout, fields: &[], sparse: false, bound, unfinished: &[], rows: Rows::All, first: false };
        let sql = dialect(db.audit.database()).count_as_of(&as_of);
        let plan = plan(db, &Question::once(sql)).await;
        let covers = ["COVERING INDEX", "Index Only Scan", "\"using_index\": true"];
        assert!(covers.iter().any(|words| plan.contains(words)), "{plan}");
    }
}

#[tokio::test]
async fn a_page_of_a_table_as_of_a_time_stops_early() {
    let mut db = TestDb::postgres().await;
    let layout = filled(&mut db, Storage::Snapshot).await;
    let bound = Bound::Time(Moment::now());
    let as_of = AsOf {
        layout: &layout,
        fields: &layout.fields,
        sparse: false,
        bound,
        unfinished: &[],
        rows: Rows::All,
        first: false,
    };
    let sql = format!("{} LIMIT 5", dialect(db.audit.database()).as_of(&as_of));
    let plan = db.lines(&format!("EXPLAIN (ANALYZE, TIMING OFF, COSTS OFF) {sql}")).await.join("\n");
    let most = plan
        .lines()
        .filter_map(|line| line.split("rows=").nth(1)?.split(' ').next()?.parse::<u64>().ok())
        .max()
        .unwrap();
    assert!(most <= 20, "it read {most} rows of some step for five:\n{plan}");
}

/// MariaDB would find the few records of an early time by their date, and sort them.
#[tokio::test]
async fn a_page_of_an_early_time_is_read_in_the_order_of_the_key_on_mariadb() {
    let mut db = TestDb::mariadb().await;
    for storage in STORAGES {
        let layout = filled(&mut db, storage).await;
        let state = dialect(Database::MariaDb).as_of(&AsOf {
            layout: &layout,
            fields: &layout.fields,
            sparse: storage == Storage::Delta,
            bound: Bound::Time(Moment::from_micros(0)),
            unfinished: &[],
            rows: Rows::All,
            first: true,
        });
        let sql = format!("SELECT * FROM ({state}) AS t WHERE rank = 2 ORDER BY id LIMIT 50");
        let plan = plan(&mut db, &Question::once(sql)).await;
        assert!(plan.contains("history_key") && !plan.contains("filesort"), "{storage}:\n{plan}");
        db.audit.untrack("doc", true).await.unwrap();
        db.run("DROP TABLE doc").await;
    }
}

/// What somebody asks of some rows by their key reads their records only.
#[tokio::test]
async fn a_condition_on_the_key_reaches_the_index() {
    for storage in [Storage::Snapshot, Storage::Delta] {
        let mut db = TestDb::postgres().await;
        let layout = filled(&mut db, storage).await;
        let bound = Bound::Time(Moment::now());
        let sparse = storage == Storage::Delta;
        let as_of = AsOf {
            layout: &layout,
            fields: &layout.fields,
            sparse,
            bound,
            unfinished: &[],
            rows: Rows::All,
            first: false,
        };
        let sql = dialect(db.audit.database()).as_of(&as_of);
        let sql = format!("SELECT * FROM (\n{sql}\n) AS doc WHERE id BETWEEN 5 AND 7 ORDER BY id");
        let plan = db.lines(&format!("EXPLAIN {sql}")).await.join("\n");
        let conditions: Vec<&str> = plan.lines().filter(|line| line.contains("Index Cond")).collect();
        assert!(conditions.iter().any(|line| line.contains(">= 5")), "{plan}");
    }
}

/// How the records that answer a query are found, in one history and among others.
async fn plans_of_log(db: &mut TestDb, layout: &Layout, query: &str) -> [String; 2] {
    let query: Query = LogQuery::parse(query).unwrap().query;
    let source = Source { layout, fields: &layout.fields, sparse: true };
    let latest = query == Query::default().and(LogQuery::parse("action:delete").unwrap().query);
    let part = Part {
        source,
        keys: vec![],
        not_keys: vec![],
        changed: vec![],
        refers: vec![],
        latest,
        archived_until: None,
    };
    let dialect = dialect(db.audit.database());
    let records = log::newest_records(dialect, &part, Read::Changed, &query, None, 50);
    [plan(db, &records).await, plan(db, &log::positions(dialect, &[part], &query, None, 50)).await]
}

on_every_database! {
    /// Among ten million changes, few are deletions.
    async fn what_is_deleted_has_an_index_of_its_own(db: &mut TestDb) {
        let layout = filled(db, Storage::Delta).await;
        let [records, plan] = plans_of_log(db, &layout, "action:delete").await;
        assert!(!plan.contains("Join"), "{plan}");
        for plan in [records, plan] {
            assert!(db.is_mariadb() || plan.contains("doc_history_gone"), "{plan}");
        }
    }
}

/// Its records stand together among millions.
#[tokio::test]
async fn what_a_transaction_wrote_is_found_by_where_it_stands() {
    let mut db = TestDb::postgres().await;
    let layout = filled(&mut db, Storage::Delta).await;
    db.run("SET enable_indexscan = off; SET enable_bitmapscan = on").await;
    for plan in plans_of_log(&mut db, &layout, "tx:7711").await {
        assert!(plan.contains("doc_history_tx"), "{plan}");
    }
}

on_every_database! {
    async fn the_newest_page_a_period_and_an_actor_have_their_indexes(db: &mut TestDb) {
        let layout = filled(db, Storage::Delta).await;
        for query in ["", "at:>1h", "at:>1h now:2", "at:<1h"] {
            for plan in plans_of_log(db, &layout, query).await {
                let index = plan.contains(db.by3("doc_history_date", "doc_history_pkey", "history_date"));
                // Of everything, in the order of the index, so that it stops after a page: a scan, and none.
                let sorts = plan.contains("TEMP B-TREE FOR ORDER BY") && plan.contains("SCAN h");
                let scans = scans_history(&plan) && !plan.contains("SCAN h USING INDEX doc_history_date");
                assert!(index && !scans && !sorts, "{query}:\n{plan}");
            }
        }
        // On SQLite a context stands apart: an index by actor would cost every transaction a page, and a period is read.
        for plan in plans_of_log(db, &layout, "actor:7 at:>1h").await {
            let index = plan.contains(db.by3("doc_history_date", "doc_history_user", "history_date"));
            assert!(index && !scans_history(&plan), "{plan}");
        }
    }
}

/// A plan for any value expects much of a long history: what is asked often is not worth other processes, nor compiling it.
#[tokio::test]
async fn no_plan_that_is_kept_makes_room_for_a_long_history() {
    let mut db = TestDb::postgres().await;
    let layout = filled(&mut db, Storage::Delta).await;
    db.run(
        "UPDATE pg_class SET reltuples = 10000000 WHERE oid = 'doc_history'::regclass;
         SET min_parallel_table_scan_size = 0; SET min_parallel_index_scan_size = 0; SET enable_seqscan = on; SET enable_bitmapscan = on",
    )
    .await;
    let sql = dialect(db.audit.database());
    let source = Source { layout: &layout, fields: &layout.fields, sparse: true };
    let (now, key) = (Moment::now(), [Value::Text("42".to_owned())]);
    let asked = [
        ("a row", sql.records_of_key(&layout, &layout.fields, &key, Bound::Time(now), &[])),
        ("a row alone", sql.records_of_key(&layout, &layout.fields, &key, Bound::Time(now), &[&layout])),
        ("unfinished", sql.unfinished_unless_long(&[&layout], Bound::Time(now)).unwrap()),
        ("unfinished by place", sql.unfinished_unless_long(&[&layout], Bound::Position(now, 5)).unwrap()),
        ("records", sql.records_at(&source, Read::Changed, &[(now, 5), (now, 6)])),
    ];
    for (name, question) in asked {
        assert!(question.kept, "{name}");
        let plan = plan(&mut db, &question).await;
        assert!(
            !plan.contains("Gather") && !plan.contains("JIT") && !scans_history(&plan),
            "{name}:\n{plan}"
        );
        if name == "a row alone" {
            let by_key = |line: &str| line.contains("Index Cond: ((id = ") && line.contains("since.at");
            assert!(plan.lines().any(by_key), "{plan}");
        }
    }
}

/// Where one account writes nearly everything, the few changes of somebody else are found without going through all of its.
#[tokio::test]
async fn whoever_changes_little_is_found_by_their_index() {
    let mut db = TestDb::postgres().await;
    let layout = filled(&mut db, Storage::Delta).await;
    db.run(
        "SET session_replication_role = replica; UPDATE doc_history SET history_user = 'system';
         UPDATE doc_history SET history_user = CASE WHEN id < 5 THEN 'ann' ELSE 'bob' END WHERE id < 10 AND rank = 1;
         RESET session_replication_role; ANALYZE doc_history; SET enable_bitmapscan = on",
    )
    .await;
    for query in ["actor:ann", "actor:ann actor:bob", "actor:ann at:>1h"] {
        for plan in plans_of_log(&mut db, &layout, query).await {
            assert!(plan.contains("doc_history_user"), "{query}:\n{plan}");
        }
    }
}

on_every_database! {
    async fn the_records_of_a_page_are_looked_up_with_their_old_values(db: &mut TestDb) {
        for storage in STORAGES {
            if storage != STORAGES[0] {
                db.audit.untrack("doc", true).await.unwrap();
                db.run("DROP TABLE doc").await;
            }
            let layout = filled(db, storage).await;
            let source = Source { layout: &layout, fields: &layout.fields, sparse: storage == Storage::Delta };
            let positions = [(Moment::now(), 5), (Moment::now(), 6)];
            let plan = plan(db, &dialect(db.audit.database()).records_at(&source, Read::Changed, &positions)).await;
            assert!(!scans_history(&plan), "{storage}:\n{plan}");
        }
    }
}

on_every_database! {
    async fn the_first_rows_of_a_table_are_those_of_the_whole(db: &mut TestDb) {
        for storage in STORAGES {
            db.run("CREATE TABLE item (id INTEGER PRIMARY KEY, n INTEGER, t TEXT)").await;
            db.track("item", Tracking::new().storage(storage)).await;
            db.run("INSERT INTO item VALUES (1, 1, 'a'), (2, 2, 'b'), (3, 3, 'c'), (4, 4, NULL)").await;
            db.tick().await;
            db.run("UPDATE item SET n = n + 1; DELETE FROM item WHERE id = 2; UPDATE item SET t = NULL WHERE id = 3").await;
            let then = db.moment().await;
            db.run("UPDATE item SET n = 0; INSERT INTO item VALUES (5, 5, 'e')").await;
            let mut query = afterimage::AsOfQuery::new("item", then);
            query.filter = Some("n > 2".to_owned());
            let whole = db.audit.as_of(&query).await.unwrap();
            assert_eq!(whole.rows.len(), 2);
            for limit in 1..4 {
                query.limit = Some(limit);
                let first = db.audit.as_of(&query).await.unwrap();
                assert_eq!(first.rows[..], whole.rows[..whole.rows.len().min(limit as usize)], "{storage}");
            }
            db.audit.untrack("item", true).await.unwrap();
            db.run("DROP TABLE item").await;
        }
    }
}
