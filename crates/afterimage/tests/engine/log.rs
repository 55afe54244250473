//! The log over all tracked tables, and what can be asked of it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support::*;
use afterimage::{Action, LogEntry, LogQuery, Tracking};

/// Orders and customers, each changed by somebody for some reason.
async fn shop(db: &mut TestDb, storage: afterimage::Storage) {
    let total = db.by3("NUMERIC", "numeric(12,2)", "DECIMAL(12,2)");
    db.run(&format!(
        "CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT, city TEXT);
         CREATE TABLE orders (id INTEGER PRIMARY KEY, status TEXT, total {total}, note TEXT, card TEXT)"
    ))
    .await;
    db.track("customer", Tracking::new().storage(storage)).await;
    db.track("orders", Tracking::new().storage(storage).mask(["card"])).await;
    db.run_as("1", "first order", "INSERT INTO orders VALUES (1, 'open', 1249.00, NULL, '4111')").await;
    db.tick().await;
    db.run_as("2", "", "INSERT INTO customer VALUES (7, 'Bobby Tables', 'Ko\u{308}ln')").await;
    db.tick().await;
    db.run_as("1", "price match", "UPDATE orders SET total = 1149.00 WHERE id = 1").await;
    db.tick().await;
    db.run("UPDATE orders SET note = 'do not ship', card = '5555' WHERE id = 1").await;
    db.tick().await;
    db.run_as("2", "", "UPDATE customer SET id = 8 WHERE id = 7").await;
    db.tick().await;
    db.run_as("1", "closing", "DELETE FROM orders WHERE id = 1").await;
    db.tick().await;
}

async fn found(db: &TestDb, query: &str) -> Vec<LogEntry> {
    db.audit.log(&LogQuery::parse(query).unwrap()).await.unwrap().entries
}

/// An entry in one line.
fn line(entry: &LogEntry) -> String {
    let key: Vec<String> = entry.key.iter().map(|(_, value)| value.to_string()).collect();
    let changes: Vec<String> =
        entry.changes.iter().map(|c| format!("{}: {} -> {}", c.field, c.old, c.new)).collect();
    format!("{} {} {}: {}", entry.action().name(), entry.table.name, key.join(","), changes.join(", "))
}

async fn lines(db: &TestDb, query: &str) -> Vec<String> {
    found(db, query).await.iter().map(line).collect()
}

/// What SQLite keeps of a number is the number.
fn plain(lines: Vec<String>) -> Vec<String> {
    lines.into_iter().map(|line| line.replace(".00", "")).collect()
}

on_every_database! {
    async fn the_log_tells_all_tables_newest_first_with_old_and_new_values(db: &mut TestDb) {
        shop(db, afterimage::Storage::Delta).await;
        assert_eq!(plain(lines(db, "").await), [
            "delete orders 1: id: 1 -> ∅, status: open -> ∅, total: 1149 -> ∅, note: do not ship -> ∅, card: ••• -> ∅",
            "update customer 8: id: 7 -> 8",
            "update orders 1: note: ∅ -> do not ship, card: ••• -> •••",
            "update orders 1: total: 1249 -> 1149",
            "create customer 7: id: ∅ -> 7, name: ∅ -> Bobby Tables, city: ∅ -> Ko\u{308}ln",
            "create orders 1: id: ∅ -> 1, status: ∅ -> open, total: ∅ -> 1249, card: ∅ -> •••",
        ]);
    }
}

on_every_database! {
    async fn either_storage_gives_the_same_log(db: &mut TestDb) {
        shop(db, afterimage::Storage::Snapshot).await;
        let other = &mut db.like().await;
        shop(other, afterimage::Storage::Delta).await;
        for query in ["", "table:orders", "was:1249", "now:null", "-field:total", "ship", "action:update"] {
            assert_eq!(lines(db, query).await, lines(other, query).await, "{query}");
        }
    }
}

on_every_database! {
    async fn every_filter_finds_its_changes_and_no_others(db: &mut TestDb) {
        for storage in STORAGES {
            db.run("DROP TABLE IF EXISTS orders; DROP TABLE IF EXISTS customer").await;
            if storage != STORAGES[0] {
                for table in ["orders", "customer"] {
                    db.audit.untrack(table, true).await.unwrap();
                }
            }
            shop(db, storage).await;
            for (query, expected) in [
                ("table:orders", 4),
                ("-table:orders", 2),
                ("table:orders table:customer", 6),
                ("table:orders key:1", 4),
                ("table:orders key:2", 0),
                ("key:8", 1),
                ("table:customer -key:8", 1),
                ("actor:1", 3),
                ("actor:1 actor:2", 5),
                ("-actor:1", 3),
                ("actor:1 at:>1h", 3),
                ("actor:2 at:>1h table:customer", 2),
                ("actor:1 at:<1h", 0),
                ("action:create", 2),
                ("action:update", 3),
                ("-action:update", 3),
                ("action:delete", 1),
                ("action:restore", 0),
                ("field:total", 3),
                ("field:total action:update", 1),
                ("-field:total", 3),
                ("was:1249", 1),
                ("was:1,249 now:\"1149\"", 1),
                ("now:1249 was:null", 1),
                ("field:status was:1249", 0),
                ("-was:1249 table:orders", 3),
                ("reason:price", 1),
                ("reason:pri", 0),
                ("-reason:price table:orders", 3),
                ("köln", 1),
                ("\"price match\"", 1),
                ("ship", 2),
                ("-ship table:orders", 2),
                ("bobby", 1),
                ("bob", 0),
                ("4111", 0),
                ("1149", 2),
                ("since:1h", 6),
                ("until:1h", 0),
                ("at:today", 6),
            ] {
                assert_eq!(found(db, query).await.len(), expected, "{query} over {storage}: {:?}", lines(db, query).await);
            }
        }
    }
}

on_every_database! {
    async fn a_transaction_and_a_request_can_be_asked_for(db: &mut TestDb) {
        db.run("CREATE TABLE doc (id INTEGER PRIMARY KEY, rank INTEGER)").await;
        db.track("doc", Tracking::new()).await;
        let set = db.by(
            "INSERT INTO afterimage_context (actor, correlation_id, label) VALUES ('1', '7f3a', 'ann@example.com')",
            r#"SELECT set_config('afterimage.context', '{"actor":"1","correlation_id":"7f3a","label":"ann@example.com"}', true)"#,
        );
        let clear = db.by("DELETE FROM afterimage_context;", "");
        db.run(&format!("BEGIN; {set}; INSERT INTO doc VALUES (1, 1); INSERT INTO doc VALUES (2, 2); UPDATE doc SET rank = 3; {clear} COMMIT")).await;
        db.run("INSERT INTO doc VALUES (3, 3)").await;
        let of_request = found(db, "request:7f3a").await;
        assert_eq!(of_request.len(), 4);
        assert_eq!(found(db, "-request:7f3a").await.len(), 1);
        assert_eq!(found(db, "label:ann@example.com").await.len(), 4);
        let tx = of_request[0].header.tx.clone().unwrap();
        assert_eq!(found(db, &format!("tx:{tx}")).await, of_request);
        assert_eq!(found(db, &format!("-tx:{tx}")).await.len(), 1);
        assert_eq!(found(db, "tx:999999999").await, []);
        assert_eq!(found(db, "tx:nonsense").await, []);
    }
}

on_every_database! {
    async fn pages_follow_one_another_without_loss_whatever_is_asked(db: &mut TestDb) {
        shop(db, afterimage::Storage::Delta).await;
        db.run("INSERT INTO customer SELECT id + 100, name, city FROM customer").await;
        let all: Vec<String> = lines(db, "").await;
        for query in ["", "-field:city"] {
            let whole = lines(db, query).await;
            let mut paged = Vec::new();
            let mut wanted = LogQuery::parse(query).unwrap().limit(2);
            loop {
                let page = db.audit.log(&wanted).await.unwrap();
                assert!(page.entries.len() <= 2);
                paged.extend(page.entries.iter().map(line));
                let Some(next) = page.next else { break };
                wanted = wanted.after(next.to_string().parse().unwrap());
            }
            assert_eq!(paged, whole);
        }
        assert_eq!(all.len(), 7);
        assert!("yesterday".parse::<afterimage::Cursor>().is_err());
    }
}

on_every_database! {
    async fn what_nobody_tracks_is_named(db: &mut TestDb) {
        shop(db, afterimage::Storage::Snapshot).await;
        let refused = async |query: &str| message(db.audit.log(&LogQuery::parse(query).unwrap()).await);
        assert!(refused("table:order").await.contains("did you mean \"orders\"?"));
        assert!(refused("field:totl").await.contains("did you mean \"total\"?"));
    }
}

on_every_database! {
    async fn a_renamed_column_is_found_by_either_name(db: &mut TestDb) {
        db.run("CREATE TABLE doc (id INTEGER PRIMARY KEY, rank INTEGER)").await;
        db.track("doc", Tracking::new()).await;
        db.run("INSERT INTO doc VALUES (1, 5)").await;
        db.alter("doc", "ALTER TABLE doc RENAME COLUMN rank TO place").await;
        db.tick().await;
        db.run("UPDATE doc SET place = 6").await;
        for query in ["field:rank", "field:place"] {
            assert_eq!(lines(db, query).await, ["update doc 1: place: 5 -> 6", "create doc 1: id: ∅ -> 1, rank: ∅ -> 5"]);
        }
        assert_eq!(lines(db, "field:rank now:5").await.len(), 1);
    }
}

on_every_database! {
    async fn sql_in_a_query_is_text(db: &mut TestDb) {
        shop(db, afterimage::Storage::Snapshot).await;
        for query in [
            "actor:\"' OR 1=1 --\"", "\"'; DROP TABLE orders; --\"", "reason:\"\\\\' OR true\"", "key:\"1' OR '1'='1\" table:customer",
            "now:\"100%\"", "now:\"_\"", "was:\"\\\\\"", "correlation:\"'\"",
        ] {
            let answer = db.audit.log(&LogQuery::parse(query).unwrap()).await;
            assert!(answer.map_or(true, |page| page.entries.is_empty()), "{query}");
        }
        assert_eq!(found(db, "").await.len(), 6);
    }
}

on_every_database! {
    async fn an_old_value_stands_far_before_the_page(db: &mut TestDb) {
        db.run("CREATE TABLE doc (id INTEGER PRIMARY KEY, rank INTEGER, note TEXT)").await;
        db.track("doc", Tracking::new().storage(afterimage::Storage::Delta)).await;
        db.run("INSERT INTO doc VALUES (1, 0, 'first')").await;
        for rank in 1..30 {
            db.tick().await;
            db.run(&format!("UPDATE doc SET rank = {rank}")).await;
        }
        db.tick().await;
        db.run("UPDATE doc SET note = 'last'").await;
        let newest = db.audit.log(&LogQuery::default().limit(1)).await.unwrap();
        assert_eq!(line(&newest.entries[0]), "update doc 1: note: first -> last");
        assert_eq!(newest.entries[0].action(), Action::Update);
        assert_eq!(found(db, "was:first").await.len(), 1);
    }
}

on_every_database! {
    async fn the_latest_record_of_each_row_page_by_page(db: &mut TestDb) {
        for storage in STORAGES {
            shop(db, storage).await;
            db.run("INSERT INTO orders VALUES (2, 'open', 5, NULL, NULL)").await;
            db.tick().await;
            db.run("UPDATE orders SET status = 'paid' WHERE id = 2").await;
            let latest = async |query: &str| {
                let page = db.audit.log(&LogQuery::parse(query).unwrap().latest()).await.unwrap();
                plain(page.entries.iter().map(line).collect())
            };
            assert_eq!(latest("").await, [
                "update orders 2: status: open -> paid",
                "delete orders 1: id: 1 -> ∅, status: open -> ∅, total: 1149 -> ∅, note: do not ship -> ∅, card: ••• -> ∅",
                "update customer 8: id: 7 -> 8",
            ]);
            let deleted = latest("action:delete").await;
            assert!(deleted.len() == 1 && deleted[0].starts_with("delete orders 1"), "{deleted:?}");
            let first = db.audit.log(&LogQuery::parse("").unwrap().latest().limit(1)).await.unwrap();
            let next = LogQuery::parse("").unwrap().latest().limit(1).after(first.next.unwrap());
            assert_eq!(db.audit.log(&next).await.unwrap().entries[0].key[0].1.to_string(), "1");
            for table in ["customer", "orders"] {
                db.audit.untrack(table, true).await.unwrap();
                db.run(&format!("DROP TABLE {table}")).await;
            }
        }
    }
}

on_every_database! {
    async fn a_summary_counts_what_the_log_tells(db: &mut TestDb) {
        shop(db, afterimage::Storage::Snapshot).await;
        for query in ["", "table:orders", "actor:1", "action:update", "closing", "field:total", "since:1h"] {
            let query = LogQuery::parse(query).unwrap();
            let entries = db.audit.log(&query).await.unwrap().entries;
            let summary = db.audit.log_summary(&query).await.unwrap();
            assert!(!summary.more);
            assert_eq!(summary.records, entries.len() as u64, "{query:?}");
            for count in &summary.counts {
                let same = entries.iter().filter(|entry| {
                    let after = entry.header.date.as_micros() - count.quarter.as_micros();
                    entry.table == count.table
                        && entry.action() == count.action
                        && entry.header.user == count.user
                        && (0..900_000_000).contains(&after)
                });
                assert_eq!(same.count() as u64, count.records, "{count:?}");
            }
        }
        let some = db.audit.log_summary(&LogQuery::parse("").unwrap().limit(2)).await.unwrap();
        assert_eq!((some.records, some.more), (2, true));
    }
}

on_every_database! {
    async fn a_record_is_found_by_its_place(db: &mut TestDb) {
        shop(db, afterimage::Storage::Delta).await;
        for entry in found(db, "").await {
            let at = afterimage::Cursor::of_record(entry.header.date, entry.header.id);
            let page = db.audit.log(&LogQuery::parse("").unwrap().after(at).limit(1)).await.unwrap();
            assert_eq!(page.entries, [entry]);
        }
    }
}
