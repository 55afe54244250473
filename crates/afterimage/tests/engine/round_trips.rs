//! How many round trips a transaction with a context takes, counted on the way to the server.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::*;
use afterimage::{Afterimage, AsOfQuery, Context, LogQuery, Moment, PointInTime, Query, Tracking};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Passes everything on, and counts how often the client speaks after the server did.
#[derive(Clone, Default)]
struct Counter {
    trips: Arc<AtomicUsize>,
    client_spoke_last: Arc<AtomicBool>,
}

impl Counter {
    /// Where a client connects instead of to the server at `port`.
    async fn before(&self, port: u16) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let counter = self.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(counter.clone().pass(from_client, to_server, true));
                tokio::spawn(counter.clone().pass(from_server, to_client, false));
            }
        });
        own
    }

    async fn pass(self, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, client: bool) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            if !self.client_spoke_last.swap(client, Ordering::SeqCst) && client {
                self.trips.fetch_add(1, Ordering::SeqCst);
            }
            if to.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    }

    /// How many trips that took, once everything is quiet again.
    async fn count(&self, work: impl Future<Output = ()>) -> usize {
        tokio::time::sleep(Duration::from_millis(100)).await;
        self.trips.store(0, Ordering::SeqCst);
        work.await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        self.trips.load(Ordering::SeqCst)
    }
}

const TRANSACTIONS: usize = 20;

/// The address of the same database behind a port.
fn behind(url: &str, port: u16) -> String {
    let (before, after) = url.rsplit_once(':').unwrap();
    format!("{before}:{port}/{}", after.split_once('/').unwrap().1)
}

fn port_of(url: &str) -> u16 {
    url.rsplit_once(':').unwrap().1.split('/').next().unwrap().parse().unwrap()
}

async fn table(db: &mut TestDb) {
    db.run("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER); INSERT INTO t VALUES (1, 0)").await;
    db.track("t", Tracking::new()).await;
}

const UPDATE: &str = "UPDATE t SET n = n + 1";

/// How many trips transactions take without a context, and with one.
macro_rules! trips {
    ($db:expr, $options:ty, $from:ident, $connection:ident) => {{
        table(&mut $db).await;
        let counter = Counter::default();
        let url = behind(&$db.url, counter.before(port_of(&$db.url)).await);
        let pool = <$options>::new().max_connections(1).connect(&url).await.unwrap();
        let audit = Afterimage::$from(pool.clone());
        let plain = async || {
            for _ in 0..TRANSACTIONS {
                let mut tx = pool.begin().await.unwrap();
                sqlx::query(UPDATE).execute(&mut *tx).await.unwrap();
                tx.commit().await.unwrap();
            }
        };
        let with_context = async || {
            for _ in 0..TRANSACTIONS {
                let mut tx = audit.begin(&Context::actor("42").reason("counting")).await.unwrap();
                sqlx::query(UPDATE).execute(tx.$connection().unwrap()).await.unwrap();
                tx.commit().await.unwrap();
            }
        };
        plain().await;
        with_context().await;
        (counter.count(plain()).await, counter.count(with_context()).await)
    }};
}

#[tokio::test]
async fn on_postgres_a_context_costs_none() {
    let mut db = TestDb::postgres().await;
    let (plain, ours) = trips!(db, sqlx::postgres::PgPoolOptions, from_postgres, postgres);
    assert!(plain >= 3 * TRANSACTIONS, "begin, update, commit at least: {plain}");
    assert_eq!(plain, ours);
}

#[tokio::test]
async fn on_mariadb_it_costs_one() {
    let mut db = TestDb::mariadb().await;
    let (plain, ours) = trips!(db, sqlx::mysql::MySqlPoolOptions, from_mariadb, mariadb);
    assert_eq!(plain + TRANSACTIONS, ours, "to clear it");
}

/// What each of these questions costs, asked twice before.
async fn questions(url: &str) -> Vec<(&'static str, usize)> {
    let counter = Counter::default();
    let audit = Afterimage::connect(&behind(url, counter.before(port_of(url)).await)).await.unwrap();
    // A transaction that ended within the last second before it might be one that had not.
    let then = PointInTime::At(Moment::from_micros(Moment::now().as_micros() + 2_000_000));
    let page = LogQuery::from(Query::default()).limit(50);
    let own_page = LogQuery::parse("table:t").unwrap().limit(50);
    let as_of = AsOfQuery { limit: Some(50), ..AsOfQuery::new("t", then.clone()) };
    let mut costs = Vec::new();
    for n in 0..3 {
        let asked = [
            ("versions", counter.count(async { drop(audit.history("t", "1").await.unwrap()) }).await),
            ("page of a table", counter.count(async { drop(audit.log(&own_page).await.unwrap()) }).await),
            ("page", counter.count(async { drop(audit.log(&page).await.unwrap()) }).await),
            ("show", counter.count(async { drop(audit.show("t", "1", &then).await.unwrap()) }).await),
            (
                "count",
                counter.count(async { assert_eq!(audit.count_as_of("t", &then).await.unwrap(), 1) }).await,
            ),
            ("as of", counter.count(async { drop(audit.as_of(&as_of).await.unwrap()) }).await),
        ];
        if n == 2 {
            costs.extend(asked);
        }
    }
    costs
}

/// What one question answers is asked alone, and its connection goes back to the pool, which looks whether it is still there: nobody
/// waits for that. Else the beginning, the catalogue's revision, the question, and its end, which nobody waits for. Of a table as of a
/// time also which transactions had not ended. A page of the log of several tables would take one more: it finds its records, and then reads
/// them.
#[tokio::test]
async fn a_question_on_postgres_takes_few() {
    let mut db = TestDb::postgres().await;
    table(&mut db).await;
    let expected =
        [("versions", 2), ("page of a table", 2), ("page", 4), ("show", 2), ("count", 6), ("as of", 5)];
    assert_eq!(questions(&db.url).await, expected);
    // Once one took long, which had not ended is another question; that one did is not found out each time anew.
    db.run("BEGIN; SELECT pg_sleep(1.1); UPDATE t SET n = n + 1; COMMIT").await;
    let expected =
        [("versions", 2), ("page of a table", 2), ("page", 4), ("show", 5), ("count", 6), ("as of", 5)];
    assert_eq!(questions(&db.url).await, expected);
}

/// What has to be told by more than one question is not begun alone where that is known before.
#[tokio::test]
async fn nothing_is_asked_twice_on_postgres() {
    let mut db = TestDb::postgres().await;
    table(&mut db).await;
    let counter = Counter::default();
    let audit = Afterimage::connect(&behind(&db.url, counter.before(port_of(&db.url)).await)).await.unwrap();
    let of = |text: &str| LogQuery::parse(text).unwrap().limit(50);
    for (query, expected) in [
        (of("table:t"), 2),
        (of("table:t key:1"), 2),
        (of("table:t key:1").limit(0), 2),
        (of("table:t").latest(), 2),
        (of("table:t actor:7"), 4),
        (of("table:t at:>1h"), 4),
        (of("table:t now:5"), 4),
        (of("table:t").limit(1000), 4),
    ] {
        let mut trips = Vec::new();
        for _ in 0..3 {
            trips.push(counter.count(async { drop(audit.log(&query).await.unwrap()) }).await);
        }
        assert_eq!(trips[2], expected, "{query:?} {trips:?}");
    }
    // A row that is not there needs a transaction to be told from one whose table changed.
    for _ in 0..2 {
        audit.version("t", "1", &afterimage::Selector::Number(99)).await.unwrap_err();
    }
    let missing =
        counter.count(async { drop(audit.version("t", "1", &afterimage::Selector::Number(99)).await) });
    assert_eq!(missing.await, 2);
}

/// Its connection goes back without locks, and still there: two more, which nobody waits for.
#[tokio::test]
async fn a_question_on_mariadb_takes_as_many() {
    let mut db = TestDb::mariadb().await;
    table(&mut db).await;
    let expected =
        [("versions", 6), ("page of a table", 6), ("page", 6), ("show", 7), ("count", 8), ("as of", 7)];
    assert_eq!(questions(&db.url).await, expected);
}
