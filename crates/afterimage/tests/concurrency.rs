//! Many writers at once: money moves between accounts, and at no moment is any of it lost or made (laws 2, 6, 7, 8).

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use afterimage::{Moment, PointInTime, Storage, Tracking};
use sqlx::PgConnection;
use support::*;

const ACCOUNTS: i64 = 12;
const EACH: i64 = 1_000;

async fn run(connection: &mut PgConnection, sql: String) -> bool {
    run_on(connection, &sql).await.is_ok()
}

fn now_from(text: &str) -> i64 {
    text.parse().unwrap()
}

/// Sums what an as-of shows of both tables: money lies in accounts, or on the way as a note.
async fn total(db: &TestDb, at: &PointInTime) -> i64 {
    let mut sum = 0;
    for table in ["account", "note"] {
        for row in db.as_of(table, at.clone()).await {
            sum += row["amount"].as_i64().unwrap();
        }
    }
    sum
}

/// `pause` keeps some transactions open for so long between their two halves.
async fn money_moves(storage: Storage, pause: Duration, rounds: u64, isolation: &str) {
    let mut db = TestDb::postgres().await;
    db.run("CREATE TABLE account (id int PRIMARY KEY, amount bigint NOT NULL); CREATE TABLE note (id text PRIMARY KEY, amount bigint NOT NULL)").await;
    db.run(&format!("INSERT INTO account SELECT i, {EACH} FROM generate_series(1, {ACCOUNTS}) AS i")).await;
    db.track("account", Tracking::new().storage(storage)).await;
    db.track("note", Tracking::new().storage(storage)).await;
    let begun =
        now_from(&db.text("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint").await.unwrap());
    let mut writers = Vec::new();
    for writer in 0..4_u64 {
        let mut connection = db.another().await;
        assert!(run(&mut connection, "SET deadlock_timeout = '20ms'".into()).await);
        let isolation = isolation.to_owned();
        writers.push(tokio::spawn(async move {
            let mut seed = writer + 1;
            let mut moved = 0;
            for round in 0..rounds {
                let mut next = |below: i64| {
                    seed = (seed * 48_271) % 2_147_483_647;
                    i64::try_from(seed).unwrap() % below
                };
                let (from, to, amount) = (next(ACCOUNTS) + 1, next(ACCOUNTS) + 1, next(50) + 1);
                let note = format!("{writer}-{round}");
                let wait = if next(4) == 0 { pause } else { Duration::ZERO };
                let halves = match next(4) {
                    // Straight across; by way of a note that stays until the next transaction, or goes with it.
                    0 => [
                        format!("UPDATE account SET amount = amount - {amount} WHERE id = {from}"),
                        format!("INSERT INTO note VALUES ('{note}', {amount})"),
                    ],
                    1 => [
                        format!("INSERT INTO note VALUES ('{note}', {amount})"),
                        format!("UPDATE account SET amount = amount - {amount} WHERE id = {from}; UPDATE note SET id = id || '!' WHERE id = '{note}'; UPDATE note SET amount = amount + 1 WHERE id = '{note}!'; UPDATE account SET amount = amount - 1 WHERE id = {to}"),
                    ],
                    2 => [
                        format!("UPDATE account SET amount = amount - {amount} WHERE id = {from}; SAVEPOINT s; DELETE FROM account; ROLLBACK TO s"),
                        format!("UPDATE account SET amount = amount + {amount} WHERE id = {to}"),
                    ],
                    _ => [
                        format!("WITH gone AS (DELETE FROM note WHERE id IN (SELECT id FROM note WHERE id LIKE '{writer}-%' LIMIT 1) RETURNING amount) UPDATE account SET amount = amount + coalesce((SELECT sum(amount) FROM gone), 0) WHERE id = {to}"),
                        format!("INSERT INTO account VALUES ({from}, 0) ON CONFLICT (id) DO UPDATE SET amount = account.amount"),
                    ],
                };
                let [first, second] = halves;
                let mut fine = run(&mut connection, format!("BEGIN ISOLATION LEVEL {isolation}; {first}")).await;
                tokio::time::sleep(wait).await;
                fine = fine && run(&mut connection, second).await;
                // Deadlocks and serialization failures are rolled back, as anybody would.
                let end = if fine && next(10) > 0 { "COMMIT" } else { "ROLLBACK" };
                moved += u64::from(run(&mut connection, end.into()).await && end == "COMMIT");
            }
            moved
        }));
    }
    let mut moved = 0;
    for writer in writers {
        moved += writer.await.unwrap();
    }
    assert!(moved > rounds, "{moved} transactions of {} committed", rounds * 4);
    db.verify().await;
    let ended =
        now_from(&db.text("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint").await.unwrap());
    // Every moment at which something was recorded, and moments in between.
    let mut moments: Vec<i64> = db
        .lines("SELECT DISTINCT ((extract(epoch FROM history_date) * 1000000)::bigint)::text FROM (SELECT history_date FROM account_history UNION SELECT history_date FROM note_history) AS h ORDER BY 1")
        .await
        .iter()
        .map(|line| now_from(line))
        .filter(|moment| *moment > begun)
        .collect();
    let step = moments.len() / 40 + 1;
    moments = moments.into_iter().step_by(step).flat_map(|moment| [moment - 1, moment, moment + 1]).collect();
    moments.extend((0..15).map(|n| begun + (ended - begun) * n / 15));
    for moment in moments {
        let at = PointInTime::At(Moment::from_micros(moment.max(begun)));
        assert_eq!(total(&db, &at).await, ACCOUNTS * EACH, "{storage:?}, {isolation}, at {moment}");
    }
    // And right after any transaction.
    let transactions = db
        .lines("SELECT DISTINCT history_tx::text FROM account_history WHERE history_date > (SELECT since FROM afterimage.tracked WHERE table_name = 'account')")
        .await;
    for tx in transactions.iter().step_by(transactions.len() / 25 + 1) {
        assert_eq!(total(&db, &PointInTime::After(tx.clone())).await, ACCOUNTS * EACH, "after {tx}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_made_at_any_moment() {
    for storage in [Storage::Snapshot, Storage::Delta] {
        money_moves(storage, Duration::from_millis(15), 40, "READ COMMITTED").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_above_read_committed() {
    money_moves(Storage::Snapshot, Duration::from_millis(5), 40, "REPEATABLE READ").await;
    money_moves(Storage::Delta, Duration::from_millis(5), 40, "SERIALIZABLE").await;
}

/// A transaction that lasts over a second says so in its records, and is found by that.
#[tokio::test(flavor = "multi_thread")]
async fn nor_while_transactions_are_long() {
    money_moves(Storage::Snapshot, Duration::from_millis(1_300), 8, "READ COMMITTED").await;
}
