//! The context on MariaDB: a plain client's, which counts for its own transaction and no other.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support::*;
use afterimage::{Context, Tracking};
use sqlx::{Connection as _, Executor as _};

async fn tracked() -> TestDb {
    let mut db = TestDb::mariadb().await;
    db.run("CREATE TABLE t (id INT PRIMARY KEY, n INT)").await;
    db.track("t", Tracking::new()).await;
    db.run("INSERT INTO t VALUES (1, 0)").await;
    db
}

async fn last_user(db: &TestDb) -> Option<String> {
    db.versions("t", "1").await.pop().unwrap().header.user
}

const SET: &str = "INSERT INTO afterimage_context (actor, reason) VALUES ('ann', 'why')";

#[tokio::test]
async fn a_forgotten_context_is_seen_by_no_other_transaction() {
    let mut db = tracked().await;
    db.run(&format!("START TRANSACTION; {SET}; UPDATE t SET n = 1; COMMIT")).await;
    assert_eq!(last_user(&db).await.as_deref(), Some("ann"));
    for sql in ["UPDATE t SET n = 2", "START TRANSACTION; UPDATE t SET n = 3; COMMIT"] {
        db.run(sql).await;
        assert_eq!(last_user(&db).await, None, "{sql}");
    }
    // The same connection says who it is now.
    db.run("START TRANSACTION; INSERT INTO afterimage_context (actor) VALUES ('bob'); UPDATE t SET n = 4; COMMIT").await;
    assert_eq!(last_user(&db).await.as_deref(), Some("bob"));
    db.verify().await;
}

#[tokio::test]
async fn a_context_ends_with_its_transaction_however_that_ends() {
    let mut db = tracked().await;
    db.run(&format!("START TRANSACTION; {SET}; UPDATE t SET n = 1; ROLLBACK; UPDATE t SET n = 2")).await;
    assert_eq!(last_user(&db).await, None);
    db.run(&format!(
        "START TRANSACTION; SAVEPOINT earlier; {SET}; ROLLBACK TO earlier; UPDATE t SET n = 3; COMMIT"
    ))
    .await;
    assert_eq!(last_user(&db).await, None);
    // What changes a schema commits, and the context with it.
    db.run(&format!(
        "START TRANSACTION; {SET}; UPDATE t SET n = 4; CREATE TABLE other (id INT); UPDATE t SET n = 5"
    ))
    .await;
    assert_eq!(last_user(&db).await, None);
    db.run("SET autocommit = 0; INSERT INTO afterimage_context (actor) VALUES ('cy'); UPDATE t SET n = 6; COMMIT; UPDATE t SET n = 7; COMMIT; SET autocommit = 1").await;
    let users: Vec<Option<String>> =
        db.versions("t", "1").await.into_iter().rev().take(2).map(|version| version.header.user).collect();
    assert_eq!(users, [None, Some("cy".to_owned())]);
}

#[tokio::test]
async fn what_a_context_may_not_be_is_refused() {
    let mut db = tracked().await;
    for (sql, why) in [
        (SET.to_owned(), "begin one first"),
        (format!("START TRANSACTION; {SET}; {SET}"), "set already"),
        (
            "START TRANSACTION; INSERT INTO afterimage_context (extra) VALUES ('[1]')".to_owned(),
            "JSON object",
        ),
        ("START TRANSACTION; INSERT INTO afterimage_context (at) VALUES (1)".to_owned(), "explicit time"),
        ("START TRANSACTION; INSERT INTO afterimage_context (skip) VALUES (1)".to_owned(), "skip needs"),
    ] {
        let said = db.try_run(&sql).await.unwrap_err();
        assert!(said.contains(why), "{sql}: {said}");
        db.run("ROLLBACK").await;
    }
    // Cached in variables, it is asked again of the table: a right is not to be had by setting them.
    db.run("UPDATE t SET n = 1 WHERE (@afterimage_special := 1) = 1").await;
    db.run("SET timestamp = 1000; UPDATE t SET n = 2; SET timestamp = DEFAULT").await;
    let newest = db.versions("t", "1").await.pop().unwrap().header.date;
    let age = afterimage::Moment::now().as_micros() - newest.as_micros();
    assert!((0..60_000_000).contains(&age), "the clock is not the client's: {newest}");
}

#[tokio::test]
async fn without_a_context_the_database_says_who_it_was() {
    let mut db = tracked().await;
    db.run("UPDATE t SET n = 1").await;
    let version = db.versions("t", "1").await.pop().unwrap();
    assert_eq!(version.header.user, None);
    assert!(
        version.header.context_member("session_user").unwrap().starts_with("root@"),
        "{:?}",
        version.header
    );
    assert_eq!(version.header.tx, None);
}

#[tokio::test]
async fn sixteen_writers_each_under_their_own_name() {
    let mut db = tracked().await;
    db.run("INSERT INTO t SELECT seq, 0 FROM seq_2_to_16").await;
    let writers = (1..=16).map(|n| {
        let url = db.url.clone();
        tokio::spawn(async move {
            let mut connection = sqlx::MySqlConnection::connect(&url).await.unwrap();
            for round in 0..25 {
                let forgets = (n + round) % 3 == 0;
                // Rows of one's own, and one that all fight over.
                let sql = format!(
                    "START TRANSACTION; INSERT INTO afterimage_context (actor) VALUES ('{n}'); UPDATE t SET n = {n} * 1000 + {round} WHERE id = {n}; \
                     UPDATE t SET n = {n} * 1000 + {round} WHERE id = 1; {} COMMIT",
                    if forgets { "" } else { "DELETE FROM afterimage_context;" }
                );
                // Each locks its own row and then the one of all: without us nobody could run into a deadlock.
                connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql))).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    for id in 1..=16 {
        for version in db.versions("t", &id.to_string()).await {
            if let Some(n) = row(&version)["n"].as_i64().filter(|n| *n >= 1000) {
                assert_eq!(version.header.user, Some((n / 1000).to_string()));
            }
        }
    }
    assert_eq!(db.audit.status().await.unwrap()[0].records, 16 + 15 * 25 * 2 + 25);
    db.verify().await;
}

#[tokio::test]
async fn a_users_pool_keeps_the_settings_that_are_its_own() {
    let db = tracked().await;
    let pool = sqlx::MySqlPool::connect(&db.url).await.unwrap();
    let mode = "SELECT CONCAT(@@sql_mode, @@time_zone, @@optimizer_switch)";
    let before: String = sqlx::query_scalar(mode).fetch_one(&pool).await.unwrap();
    let audit = afterimage::Afterimage::from_mariadb(pool.clone());
    let mut tx = audit.begin(&Context::actor("ann").reason("it's \"so\"\\")).await.unwrap();
    sqlx::query("UPDATE `t` SET n = \"5\"").execute(tx.mariadb().unwrap()).await.unwrap();
    tx.commit().await.unwrap();
    audit.history("t", "1").await.unwrap();
    let after: String = sqlx::query_scalar(mode).fetch_one(&pool).await.unwrap();
    assert_eq!(before, after);
    assert_eq!(last_user(&db).await.as_deref(), Some("ann"));
}

/// Whoever asks of a time looks through those that may have been unfinished then: what is over soon must not stay among them.
#[tokio::test]
async fn a_short_transaction_leaves_nothing_that_looks_unfinished() {
    let mut db = tracked().await;
    let mut tx = db.audit.begin(&actor("ann")).await.unwrap();
    tx.execute("UPDATE t SET n = 1", &[]).await.unwrap();
    tx.enter(&Context::new().reason("nested")).await.unwrap();
    tx.execute("UPDATE t SET n = 2", &[]).await.unwrap();
    tx.leave().await.unwrap();
    tx.execute("UPDATE t SET n = 3", &[]).await.unwrap();
    tx.commit().await.unwrap();
    let unfinished = "SELECT count(*) FROM afterimage_scope WHERE lasting_long IS NOT NULL";
    assert_eq!(db.text(unfinished).await.as_deref(), Some("0"));
    let scopes = "SELECT count(*) FROM afterimage_scope WHERE actor = 'ann'";
    assert_eq!(db.text(scopes).await.as_deref(), Some("3"));
}
