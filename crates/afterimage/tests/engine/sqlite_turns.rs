//! SQLite's lock knows no queue: who waits for it asks again, less and less often. What writes batch after batch leaves others a turn.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::{Duration, Instant};

use crate::archived::address;
use crate::retention::keeper;
use crate::support::*;
use afterimage::{Archive, Dedupe, PointInTime, Prune, Retention, Tracking};
use sqlx::{Connection as _, Executor as _};

/// A row has so many records that changed it, and as many that did not.
const TIMES: usize = 4;

async fn filled(rows: u32) -> (TestDb, Retention) {
    let mut db = TestDb::sqlite().await;
    db.run("CREATE TABLE item (id INTEGER PRIMARY KEY, n INTEGER, note TEXT)").await;
    db.track("item", Tracking::new().record_unchanged(true)).await;
    db.run(&format!("WITH RECURSIVE g(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM g WHERE i < {rows}) INSERT INTO item SELECT i, 0, 'a note of ' || i FROM g")).await;
    for _ in 0..TIMES {
        db.run("UPDATE item SET n = n + 1; UPDATE item SET n = n").await;
    }
    let PointInTime::At(cut) = db.moment().await else { unreachable!() };
    (db, Retention::until(cut))
}

/// How long a writer waits at most while something goes on, from when it begins, and how often it writes.
pub(crate) async fn longest_wait(
    url: &str,
    begins: impl Future + Send + 'static,
    work: impl Future<Output = ()>,
    sql: impl Fn(i64) -> String + Send + 'static,
) -> (Duration, i64) {
    let mut writer = sqlx::SqliteConnection::connect(url).await.unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let writing = tokio::spawn(async move {
        begins.await;
        let (mut longest, mut written, mut stopped) = (Duration::ZERO, 0, stopped);
        // What it has to do it does, however soon the other is done.
        while written < 40 || stopped.try_recv() == Err(tokio::sync::oneshot::error::TryRecvError::Empty) {
            written += 1;
            let sql = sqlx::AssertSqlSafe(sql(written));
            let begun = Instant::now();
            writer.execute(sqlx::raw_sql(sql)).await.unwrap();
            longest = longest.max(begun.elapsed());
            tokio::time::sleep(Duration::from_micros(300)).await;
        }
        (longest, written)
    });
    work.await;
    stop.send(()).unwrap();
    writing.await.unwrap()
}

/// Nobody waits as long.
pub(crate) const LONG: Duration = Duration::from_millis(200);

/// The least of three waits, or the first that is not long: what else the machine does makes one longer, and none shorter.
pub(crate) async fn least_of_three(wait: impl AsyncFn() -> Duration) -> Duration {
    let mut least = Duration::MAX;
    for _ in 0..3 {
        least = least.min(wait().await);
        if least < LONG {
            break;
        }
    }
    least
}

#[tokio::test(flavor = "multi_thread")]
async fn what_removes_or_brings_back_leaves_writers_their_turn() {
    // As many as take a second or so, however they go.
    for (what, rows) in [("dedupe", 12_000), ("prune", 8_000), ("archive", 4_000), ("restore", 4_000)] {
        let least = least_of_three(async || waited_for(what, rows).await).await;
        assert!(least < LONG, "{what}: a writer waited {least:?}");
    }
}

async fn waited_for(what: &str, rows: u32) -> Duration {
    let folder = tempfile::tempdir().unwrap();
    let (db, keep) = filled(rows).await;
    let archive = Archive::new(address(folder.path()), keep.clone());
    if what == "restore" {
        db.audit.archive(&archive, &keeper()).await.unwrap();
    }
    let audit = db.audit.clone();
    let work = async {
        match what {
            "dedupe" => drop(audit.dedupe(&Dedupe::new(), &keeper()).await.unwrap()),
            "prune" => drop(audit.prune(&Prune::new().keep(keep), &keeper()).await.unwrap()),
            "restore" => drop(audit.bring_back(&[], &keeper()).await.unwrap()),
            _ => drop(audit.archive(&archive, &keeper()).await.unwrap()),
        }
    };
    let one = |n: i64| format!("UPDATE item SET note = 'written' WHERE id = {}", n % 4000 + 1);
    let begun = Instant::now();
    let (longest, written) = longest_wait(&db.url, std::future::ready(()), work, one).await;
    eprintln!("{what}: {written} writes in {:?}, the longest took {longest:?}", begun.elapsed());
    db.verify().await;
    longest
}
