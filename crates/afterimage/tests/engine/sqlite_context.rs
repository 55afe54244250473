//! SQLite: the context as a plain client sets it, by the public contract (laws 5 and 8).

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use crate::support::*;
use afterimage::{Afterimage, Context, Moment, PointInTime, Tracking};
use serde_json::{Value as Json, json};

const SET: &str = "INSERT INTO afterimage_context (actor, reason) VALUES ('ann', 'why')";
const CLEAR: &str = "DELETE FROM afterimage_context";
const UPDATE: &str = "UPDATE item SET n = n + 1";

fn moment(text: &str) -> Moment {
    Moment::parse(text, Moment::now(), "UTC").unwrap()
}

async fn one_item() -> TestDb {
    let mut db = TestDb::sqlite().await;
    db.run("CREATE TABLE item (id INTEGER PRIMARY KEY, n INTEGER)").await;
    db.track("item", Tracking::new()).await;
    db.run("INSERT INTO item VALUES (1, 0)").await;
    db
}

async fn users(db: &TestDb) -> Vec<String> {
    db.versions("item", "1").await.iter().skip(1).map(|v| v.header.user.clone().unwrap_or_default()).collect()
}

#[tokio::test]
async fn a_forgotten_context_is_refused_at_commit() {
    let mut db = one_item().await;
    db.run(&format!("BEGIN; {SET}; {UPDATE}")).await;
    assert!(db.try_run("COMMIT").await.unwrap_err().contains("FOREIGN KEY"));
    db.run(&format!("{CLEAR}; COMMIT; {UPDATE}")).await;
    assert_eq!(users(&db).await, ["ann", ""]);
    db.run("SAVEPOINT s").await;
    db.run(SET).await;
    assert!(db.try_run("RELEASE s").await.is_err());
    db.run("ROLLBACK TO s; RELEASE s").await;
    assert!(db.try_run(SET).await.unwrap_err().contains("FOREIGN KEY"), "outside a transaction");
    db.run(UPDATE).await;
    assert_eq!(users(&db).await, ["ann", "", ""]);
    db.verify().await;
}

#[tokio::test]
async fn a_context_leaks_where_foreign_keys_are_off_until_somebody_looks() {
    let mut db = one_item().await;
    assert!(db.audit.doctor().await.unwrap().is_empty());
    db.run(&format!("PRAGMA foreign_keys = OFF; BEGIN; {SET}; {UPDATE}; COMMIT")).await;
    let found = db.audit.doctor().await.unwrap();
    assert!(found.iter().any(|f| f.finding.contains("ann") && f.mend.contains(CLEAR)), "{found:?}");
    let mut tx = db.audit.begin(&Context::actor("bob")).await.unwrap();
    tx.execute(UPDATE, &[]).await.unwrap();
    tx.commit().await.unwrap();
    db.run(UPDATE).await;
    assert_eq!(users(&db).await, ["ann", "bob", ""]);
    assert!(db.audit.doctor().await.unwrap().is_empty());
    db.verify().await;
}

#[tokio::test]
async fn what_is_rolled_back_takes_the_context_with_it() {
    let mut db = one_item().await;
    db.run(&format!("BEGIN; {SET}; {UPDATE}; ROLLBACK; {UPDATE}")).await;
    db.run(&format!("BEGIN; {UPDATE}; SAVEPOINT s; {SET}; {UPDATE}; ROLLBACK TO s; {UPDATE}; COMMIT")).await;
    assert_eq!(users(&db).await, ["", "", ""]);
    assert_eq!(db.text("SELECT count(*) FROM afterimage_scope").await.unwrap(), "0");
    db.verify().await;
}

#[tokio::test]
async fn a_second_context_is_refused_and_an_update_is_for_what_follows() {
    let mut db = one_item().await;
    db.run(&format!("BEGIN; {SET}; {UPDATE}")).await;
    assert!(db.try_run(SET).await.unwrap_err().contains("set already"));
    db.run(&format!("UPDATE afterimage_context SET reason = 'then'; {UPDATE}; UPDATE afterimage_context SET label = 'Ann', actor = NULL; {UPDATE}; {CLEAR}; COMMIT")).await;
    let life = db.versions("item", "1").await;
    let said: Vec<_> =
        life.iter().skip(1).map(|v| (v.header.user.as_deref(), v.header.reason.as_deref())).collect();
    assert_eq!(said, [(Some("ann"), Some("why")), (Some("ann"), Some("then")), (None, Some("then"))]);
    assert!(life[1].header.tx.is_some());
    assert!(life[1..].iter().all(|version| version.header.tx == life[1].header.tx));
    assert_eq!(life[3].header.context.as_deref(), Some(r#"{"label":"Ann"}"#));
    db.verify().await;
}

#[tokio::test]
async fn a_context_under_which_nothing_was_written_leaves_nothing() {
    let mut db = one_item().await;
    db.run(&format!("BEGIN; {SET}; UPDATE afterimage_context SET reason = 'x'; SELECT 1; {CLEAR}; COMMIT"))
        .await;
    assert_eq!(db.text("SELECT count(*) FROM afterimage_scope").await.unwrap(), "0");
    db.audit.begin(&Context::actor("x")).await.unwrap().commit().await.unwrap();
    assert_eq!(db.text("SELECT count(*) FROM afterimage_scope").await.unwrap(), "0");
    // Of a context set twice only the part that was written under stays.
    db.run(&format!("BEGIN; {SET}; {UPDATE}; UPDATE afterimage_context SET reason = 'x'; {CLEAR}; COMMIT"))
        .await;
    assert_eq!(db.text("SELECT count(*) FROM afterimage_scope").await.unwrap(), "1");
    db.run(&format!("BEGIN; {SET}; UPDATE afterimage_context SET reason = 'x'; {UPDATE}; {CLEAR}; COMMIT"))
        .await;
    let last = db.versions("item", "1").await.pop().unwrap();
    assert_eq!(last.header.reason.as_deref(), Some("x"));
    let tx = last.header.tx.unwrap();
    let after = db.as_of("item", PointInTime::After(tx)).await;
    assert_eq!(after, [json!({"id": 1, "n": 2})]);
}

#[tokio::test]
async fn extra_is_kept_as_it_is_and_what_is_no_object_is_refused() {
    let mut db = one_item().await;
    let extra = r#"{"a":null,"b":{"c":null,"d":[null,1e400,0.1,12345678901234567890123]},"big":9223372036854775807,"e":"\u00e9 \"q\"","label":"own"}"#;
    db.run(&format!("BEGIN; INSERT INTO afterimage_context (actor, extra, remote_addr) VALUES (7, '{extra}', '::1'); {UPDATE}; UPDATE afterimage_context SET reason = 'r'; {UPDATE}; {CLEAR}; COMMIT")).await;
    let life = db.versions("item", "1").await;
    assert_eq!(life[1].header.user.as_deref(), Some("7"));
    for version in &life[1..] {
        let text = version.header.context.as_deref().unwrap();
        for part in [
            r#""a":null"#,
            r#""b":{"c":null,"d":[null,1e400,0.1,12345678901234567890123]}"#,
            r#""big":9223372036854775807"#,
            r#""label":"own""#,
            r#""remote_addr":"::1""#,
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
    for bad in ["[1]", "1", "null", "{", "text", r#"{"skip":true}"#] {
        let refused = db
            .try_run(&format!("BEGIN; INSERT INTO afterimage_context (actor, extra) VALUES ('a', '{bad}')"))
            .await;
        assert!(refused.unwrap_err().contains("afterimage:"), "{bad}");
        db.run("ROLLBACK").await;
    }
}

#[tokio::test]
async fn an_explicit_time_needs_the_setting_and_is_never_out_of_order() {
    let mut db = one_item().await;
    let at = |at: &str| {
        format!(
            "BEGIN; INSERT INTO afterimage_context (actor, at) VALUES ('imp', {at}); {UPDATE}; {CLEAR}; COMMIT"
        )
    };
    assert!(db.try_run(&at("'2020-01-01'")).await.unwrap_err().contains("explicit_time"));
    db.run("ROLLBACK").await;
    db.audit.allow_explicit_time(true).await.unwrap();
    for bad in ["'2999-01-01'", "9999999999999999", "'soon'", "x'00'", "1.5", "'2020-01-01'", "''"] {
        assert!(db.try_run(&at(bad)).await.unwrap_err().contains("afterimage:"), "{bad}");
        db.run("ROLLBACK").await;
    }
    db.run("CREATE TABLE old (id INTEGER PRIMARY KEY, n INTEGER)").await;
    let began = Context::actor("imp").at(moment("2019-01-01T00:00:00Z"));
    db.audit
        .track_with(afterimage::Track::new("old", Tracking::new()).context(began), &mut |_| {})
        .await
        .unwrap();
    let before = Moment::now();
    db.run(&format!("BEGIN; INSERT INTO afterimage_context (actor, at) VALUES ('imp', '2020-01-01T00:00:00.5Z'); INSERT INTO old VALUES (1, 1); {CLEAR}; COMMIT")).await;
    db.run(&format!("BEGIN; INSERT INTO afterimage_context (actor, at) VALUES ('imp', '2021-01-01'); UPDATE old SET n = 2; {CLEAR}; COMMIT")).await;
    let older = format!(
        "BEGIN; INSERT INTO afterimage_context (actor, at) VALUES ('imp', '2020-06-01'); UPDATE old SET id = 5; {CLEAR}; COMMIT"
    );
    assert!(db.try_run(&older).await.unwrap_err().contains("newer record"));
    db.run("ROLLBACK").await;
    let life = db.versions("old", "1").await;
    assert_eq!(
        life.iter().map(|v| v.header.date.to_string()).collect::<Vec<_>>(),
        ["2020-01-01T00:00:00.500000Z", "2021-01-01T00:00:00.000000Z"]
    );
    let context: Json = serde_json::from_str(life[0].header.context.as_deref().unwrap()).unwrap();
    let recorded = moment(context["recorded_at"].as_str().unwrap());
    assert!(recorded.as_micros() + 1_000_000 > before.as_micros() && recorded <= Moment::now());
    assert_eq!(
        db.as_of("old", PointInTime::At(moment("2020-03-01T00:00:00Z"))).await,
        [json!({"id": 1, "n": 1})]
    );
    db.verify().await;
}

#[tokio::test]
async fn contexts_that_records_refer_to_stay_as_they_are() {
    let mut db = one_item().await;
    db.run(&format!("BEGIN; {SET}; {UPDATE}; {CLEAR}; COMMIT")).await;
    for tampering in [
        "UPDATE afterimage_scope SET actor = 'bob'",
        "UPDATE afterimage_scope SET last_date = 0",
        "UPDATE OR REPLACE afterimage_scope SET id = 7",
        "DELETE FROM afterimage_scope",
        "INSERT OR REPLACE INTO afterimage_scope (id, tx, actor, began, first_id) VALUES (1, 1, 'bob', 0, 0)",
    ] {
        assert!(db.try_run(tampering).await.is_err(), "{tampering}");
    }
    // Not while its transaction runs either, once a record refers to it.
    db.run(&format!("BEGIN; {SET}; {UPDATE}")).await;
    for tampering in [
        "UPDATE afterimage_scope SET reason = 'x' WHERE last_date IS NULL",
        "DELETE FROM afterimage_scope WHERE last_date IS NULL",
    ] {
        assert!(db.try_run(tampering).await.is_err(), "{tampering}");
    }
    db.run(&format!("{CLEAR}; COMMIT")).await;
    assert_eq!(users(&db).await, ["ann", "ann"]);
}

#[tokio::test]
async fn as_of_shows_a_transaction_whole_or_not_at_all() {
    let mut db = one_item().await;
    db.run("INSERT INTO item VALUES (2, 0)").await;
    db.tick().await;
    db.run(&format!("BEGIN; {SET}; UPDATE item SET n = 1 WHERE id = 1")).await;
    db.tick().await;
    db.tick().await;
    db.run("UPDATE afterimage_context SET reason = 'later'; UPDATE item SET n = 1 WHERE id = 2").await;
    db.tick().await;
    db.run(&format!("INSERT INTO item VALUES (3, 1); {CLEAR}; COMMIT")).await;
    let dates = db.lines("SELECT CAST(history_date AS TEXT) FROM item_history ORDER BY history_id").await;
    let at =
        |n: usize, more: i64| PointInTime::At(Moment::from_micros(dates[n].parse::<i64>().unwrap() + more));
    let before = [json!({"id": 1, "n": 0}), json!({"id": 2, "n": 0})];
    for point in [at(1, 0), at(2, 0), at(2, 1), at(3, 0), at(3, 1), at(4, -1)] {
        assert_eq!(db.as_of("item", point.clone()).await, before, "{point:?}");
        assert_eq!(db.audit.count_as_of("item", &point).await.unwrap(), 2);
        assert_eq!(row(&db.audit.show("item", "1", &point).await.unwrap())["n"], 0);
        assert!(db.audit.show("item", "3", &point).await.is_err());
    }
    let tx = db.versions("item", "3").await[0].header.tx.clone().unwrap();
    for point in [at(4, 0), at(4, 1), PointInTime::After(tx.clone())] {
        let rows = db.as_of("item", point.clone()).await;
        assert!(rows.len() == 3 && rows.iter().all(|row| row["n"] == 1), "{point:?} {rows:?}");
    }
    db.tick().await;
    db.run("UPDATE item SET n = 9").await;
    assert_eq!(db.as_of("item", PointInTime::After(tx)).await[0]["n"], 1);
    db.verify().await;
}

/// A write of which nothing is recorded takes a time too: the transaction ended, for whoever asks, with its last record.
#[tokio::test]
async fn a_transaction_ends_with_its_last_record() {
    let mut db = TestDb::sqlite().await;
    db.run("CREATE TABLE item (id INTEGER PRIMARY KEY, place INTEGER UNIQUE); INSERT INTO item VALUES (1, 1), (2, 2)")
        .await;
    db.track("item", Tracking::new().exclude(["place"])).await;
    db.tick().await;
    db.run(&format!("BEGIN; {SET}; DELETE FROM item WHERE id = 2")).await;
    db.tick().await;
    db.run(&format!("UPDATE OR REPLACE item SET place = 7; {CLEAR}; COMMIT")).await;
    let deleted = db.text("SELECT max(history_date) FROM item_history").await.unwrap().parse().unwrap();
    let point = PointInTime::At(Moment::from_micros(deleted));
    assert_eq!(db.as_of("item", point).await, [json!({"id": 1})]);
}

#[tokio::test]
async fn nothing_is_left_by_a_cancelled_engine_call_on_a_pool_of_one() {
    let mut db = one_item().await;
    db.run("CREATE TABLE other (id INTEGER PRIMARY KEY, n INTEGER); INSERT INTO other VALUES (1, 1)").await;
    let options = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1);
    let audit = Afterimage::from_sqlite(options.connect(&db.url).await.unwrap());
    for n in 0_u64..120 {
        let limit = Duration::from_micros(n * 40);
        let storage = if n % 2 == 0 { afterimage::Storage::Delta } else { afterimage::Storage::Snapshot };
        let context = Context::actor("cancelled");
        let request = afterimage::Track::new("item", Tracking::new().storage(storage)).context(context);
        let _ = tokio::time::timeout(limit, audit.track_with(request, &mut |_| {})).await;
        audit.execute(UPDATE).await.unwrap();
        let _ = tokio::time::timeout(limit, audit.verify(&[])).await;
        let _ = tokio::time::timeout(limit, async {
            let mut tx = audit.begin(&Context::actor("gone")).await?;
            tx.alter("item", "ALTER TABLE item ADD COLUMN more TEXT").await?;
            tokio::time::sleep(Duration::from_secs(60)).await;
            tx.commit().await
        })
        .await;
        db.run(UPDATE).await;
    }
    assert_eq!(db.text("SELECT n FROM item").await.unwrap(), "240");
    assert!(users(&db).await.iter().all(String::is_empty));
    assert_eq!(db.versions("item", "1").await.len(), 241);
    db.verify().await;
}
