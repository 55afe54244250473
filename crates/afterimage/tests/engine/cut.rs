//! Connections that are cut, and a server that starts again, under a pool that goes on.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::{Duration, Instant};

use crate::support::*;
use afterimage::{ErrorKind, PointInTime, Storage, Tracking, Tx};
use afterimage_throwaway::{MariaDb, Postgres};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

enum Server {
    Postgres(Postgres),
    MariaDb(MariaDb),
}

impl Server {
    fn kill(&mut self) {
        match self {
            Self::Postgres(server) => server.kill().unwrap(),
            Self::MariaDb(server) => server.kill().unwrap(),
        }
    }

    fn restart(&mut self) {
        match self {
            Self::Postgres(server) => server.restart().unwrap(),
            Self::MariaDb(server) => server.restart().unwrap(),
        }
    }
}

/// What a transaction is at when its connection is cut.
#[derive(Debug, Clone, Copy)]
enum At {
    /// None is open: the pool has it.
    Rest,
    /// It has begun, with a context.
    Begin,
    /// It has written.
    Written,
    /// A statement waits for a lock.
    Statement,
    /// It has written in a context inside its own.
    Nested,
}

/// Cuts every connection to the database but the one that does it; first those that wait for another, which would have
/// what they wait for once that one is cut.
async fn cut(db: &TestDb) {
    if db.is_postgres() {
        let mut admin = sqlx::PgConnection::connect(&db.url).await.unwrap();
        let sql = "SELECT pg_terminate_backend(pid, 5000) FROM (SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() ORDER BY wait_event_type = 'Lock' DESC NULLS LAST OFFSET 0) AS others";
        admin.execute(sql).await.unwrap();
    } else {
        let mut admin = sqlx::MySqlConnection::connect(&db.url).await.unwrap();
        let sql = "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID() ORDER BY info IS NULL";
        loop {
            let others: Vec<i64> = sqlx::query_scalar(sql).fetch_all(&mut admin).await.unwrap();
            if others.is_empty() {
                return;
            }
            for id in others {
                // It may have gone by itself meanwhile.
                let _ = admin.execute(sqlx::raw_sql(AssertSqlSafe(format!("KILL {id}")))).await;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn add(tx: &mut Tx) -> Result<u64, afterimage::Error> {
    tx.execute("UPDATE item SET n = n + 1", &[]).await
}

/// Nobody waits longer than this for a connection that is gone.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(15), what).await.expect("it hangs")
}

async fn cut_at(db: &mut TestDb, state: At, round: usize) {
    let cut_one = actor("cut");
    match state {
        At::Rest => {
            let tx = db.audit.begin(&cut_one).await.unwrap();
            tx.rollback().await.unwrap();
            cut(db).await;
        }
        At::Begin | At::Written | At::Nested => {
            let mut tx = db.audit.begin(&cut_one).await.unwrap();
            if matches!(state, At::Nested) {
                tx.enter(&actor("inner")).await.unwrap();
            }
            if !matches!(state, At::Begin) {
                add(&mut tx).await.unwrap();
            }
            cut(db).await;
            if round.is_multiple_of(2) {
                soon(tx.commit()).await.expect_err("what was cut is not committed");
            } else {
                soon(add(&mut tx)).await.expect_err("what was cut writes nothing");
                let _ = soon(tx.rollback()).await;
            }
        }
        At::Statement => {
            let mut holder = db.audit.begin(&actor("holder")).await.unwrap();
            add(&mut holder).await.unwrap();
            let mut tx = db.audit.begin(&cut_one).await.unwrap();
            let waiting = tokio::spawn(async move { add(&mut tx).await });
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(!waiting.is_finished());
            cut(db).await;
            soon(waiting).await.unwrap().expect_err("what was cut writes nothing");
            soon(holder.commit()).await.expect_err("that one was cut as well");
        }
    }
}

/// Whoever comes next has what is theirs, and nothing of the one that was cut.
async fn goes_on(db: &mut TestDb, name: &str, expected: i64) {
    soon(db.audit.execute("UPDATE item SET note = note + 1")).await.unwrap();
    let mut tx = soon(db.audit.begin(&actor(name))).await.unwrap();
    assert_eq!(soon(add(&mut tx)).await.unwrap(), 100);
    soon(tx.commit()).await.unwrap();

    let versions = soon(db.audit.history("item", "7")).await.unwrap();
    let users: Vec<Option<&str>> =
        versions[..2].iter().map(|version| version.header.user.as_deref()).collect();
    assert_eq!(users, [Some(name), None]);
    assert!(
        versions.iter().all(
            |version| !["cut", "inner", "holder"].contains(&version.header.user.as_deref().unwrap_or(""))
        )
    );
    let rows = db.as_of("item", PointInTime::Now).await;
    assert!(rows.iter().all(|row| row["n"] == expected), "{rows:?}");
    for verdict in soon(db.audit.verify(&[])).await.unwrap() {
        assert!(verdict.is_whole(), "{verdict:?}");
    }
}

async fn made(db: &mut TestDb, storage: Storage) {
    db.run("CREATE TABLE item (id int PRIMARY KEY, n int NOT NULL, note int NOT NULL)").await;
    let ids: Vec<String> = (1..=100).map(|id| format!("({id}, 0, 0)")).collect();
    db.run(&format!("INSERT INTO item VALUES {}", ids.join(", "))).await;
    db.track("item", Tracking::new().storage(storage)).await;
}

async fn cut_in_every_state(mut db: TestDb, storage: Storage) {
    made(&mut db, storage).await;
    let states = [At::Rest, At::Begin, At::Written, At::Statement, At::Nested];
    let mut expected = 0;
    for round in 0..2 {
        for state in states {
            cut_at(&mut db, state, round).await;
            expected += 1;
            goes_on(&mut db, &format!("{state:?}"), expected).await;
        }
    }
}

mod connections_cut_in_every_state {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn postgres() {
        for storage in STORAGES {
            cut_in_every_state(TestDb::postgres().await, storage).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn mariadb() {
        for storage in STORAGES {
            cut_in_every_state(TestDb::mariadb().await, storage).await;
        }
    }
}

async fn server_restarts(mut db: TestDb, mut server: Server) {
    made(&mut db, Storage::Delta).await;
    goes_on(&mut db, "before", 1).await;
    let mut tx = db.audit.begin(&actor("cut")).await.unwrap();
    add(&mut tx).await.unwrap();
    server.kill();
    soon(tx.commit()).await.expect_err("nobody is there");
    // While it is away, that is what is said, by whoever asks and whoever writes.
    let begun = Instant::now();
    let early = actor("early");
    let (begin, history) = tokio::join!(soon(db.audit.begin(&early)), soon(db.audit.history("item", "7")));
    for error in [begin.expect_err("nobody is there"), history.expect_err("nobody is there")] {
        assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
    }
    assert!(begun.elapsed() < Duration::from_secs(15));
    server.restart();
    goes_on(&mut db, "after", 2).await;
    let tracked = soon(db.audit.track("item", Tracking::new().storage(Storage::Delta))).await.unwrap();
    assert!(tracked.again);
}

mod a_server_that_starts_again_under_a_pool {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn postgres() {
        let server = Postgres::start(&[]).unwrap();
        server_restarts(TestDb::on_postgres(&server.url()).await, Server::Postgres(server)).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn mariadb() {
        // What it has committed outlives the process.
        let server = MariaDb::start(&["--innodb-flush-log-at-trx-commit=2"]).unwrap();
        server_restarts(TestDb::on_mariadb(&server.url()).await, Server::MariaDb(server)).await;
    }
}
