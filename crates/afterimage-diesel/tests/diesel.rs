//! Transactions of Diesel's on the real databases: SQLite by Diesel itself, PostgreSQL and MariaDB by diesel-async.

#![cfg(all(feature = "sqlite", feature = "postgres", feature = "mysql", feature = "async"))]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[path = "../../afterimage/tests/support/mod.rs"]
mod support;

use afterimage::{Storage, Tracking, ViewsIn};
use afterimage_diesel::{AsyncAudited as _, Audited as _, Context, Recorded};
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, Pool};
use diesel::result::Error;
use diesel_async::{AsyncConnection, AsyncMysqlConnection, AsyncPgConnection, SimpleAsyncConnection as _};
use support::TestDb;

diesel::table! {
    orders {
        id -> Integer,
        status -> Text,
    }
}

/// What the guide shows is compiled here, and run.
const GUIDE: &str = include_str!("../../../docs/diesel.md");

#[test]
fn what_the_guide_shows_is_tested() {
    let this: String = include_str!("diesel.rs").split_whitespace().collect();
    let blocks: Vec<&str> =
        GUIDE.split("```rust\n").skip(1).filter_map(|block| block.split("```").next()).collect();
    assert_eq!(blocks.len(), 3);
    for block in blocks {
        let bare: String = block.split_whitespace().collect();
        assert!(this.contains(&bare), "this is not tested:\n{block}");
    }
}

fn cancel(connection: &mut SqliteConnection, user: &str) -> QueryResult<usize> {
    connection.audited_transaction(&Context::actor(user).reason("customer request"), |connection| {
        diesel::update(orders::table.find(1)).set(orders::status.eq("cancelled")).execute(connection)
    })
}

async fn cancel_soon(connection: &mut AsyncPgConnection, user: &str) -> QueryResult<usize> {
    let context = Context::actor(user).reason("customer request");
    connection
        .audited_transaction(&context, async |connection| {
            let cancelled = diesel::update(orders::table.find(1)).set(orders::status.eq("cancelled"));
            diesel_async::RunQueryDsl::execute(cancelled, connection).await
        })
        .await
}

fn then(connection: &mut SqliteConnection, views: &[String]) -> QueryResult<Vec<(i32, String)>> {
    connection.with_views(views, |connection| orders::table.order(orders::id).load(connection))
}

const OPEN: &str = "CREATE TABLE orders (id INTEGER PRIMARY KEY, status VARCHAR(20) NOT NULL); INSERT INTO orders VALUES (1, 'open')";

fn why() -> Context {
    Context::actor("7").reason("it's \"so\" 🙂 \\").with("ticket", 5)
}

async fn tracked(mut db: TestDb) -> TestDb {
    db.run(OPEN).await;
    db.track("orders", Tracking::new()).await;
    db
}

/// The newest record of the order: its number along the row, who wrote it, and why.
async fn newest(db: &TestDb) -> (u64, Option<String>, Option<String>) {
    let newest = db.audit.history("orders", "1").await.unwrap().swap_remove(0);
    (newest.number, newest.header.user, newest.header.reason)
}

fn said(number: u64) -> (u64, Option<String>, Option<String>) {
    (number, Some("7".to_owned()), Some("it's \"so\" 🙂 \\".to_owned()))
}

fn sqlite(db: &TestDb) -> SqliteConnection {
    let path = db.url.trim_start_matches("sqlite://").split('?').next().unwrap().to_owned();
    let mut connection = SqliteConnection::establish(&path).unwrap();
    diesel::sql_query("PRAGMA busy_timeout = 5000").execute(&mut connection).unwrap();
    connection
}

fn set(connection: &mut SqliteConnection, status: &str) -> QueryResult<usize> {
    diesel::update(orders::table.find(1)).set(orders::status.eq(status)).execute(connection)
}

fn is_told(error: &Error, words: &str) {
    assert!(matches!(error, Error::QueryBuilderError(_)) && error.to_string().contains(words), "{error:?}");
}

#[tokio::test]
async fn on_sqlite() {
    let db = tracked(TestDb::sqlite().await).await;
    let mut connection = sqlite(&db);
    let met = connection.audited_transaction(&why(), |connection| {
        let met = set(connection, "paid")?;
        // A savepoint that is kept, and one that is not.
        connection.transaction(|connection| set(connection, "packed"))?;
        let undone: QueryResult<()> = connection.transaction(|connection| {
            set(connection, "lost")?;
            Err(Error::RollbackTransaction)
        });
        assert_eq!(undone, Err(Error::RollbackTransaction));
        Ok::<_, Error>(met)
    });
    assert_eq!((met, newest(&db).await), (Ok(1), said(3)));

    // What gives an error leaves nothing, and no context to whoever comes next.
    let failed: QueryResult<()> = connection.audited_transaction(&why(), |connection| {
        set(connection, "lost")?;
        Err(Error::NotFound)
    });
    assert_eq!((failed, newest(&db).await), (Err(Error::NotFound), said(3)));
    set(&mut connection, "shipped").unwrap();
    assert_eq!(newest(&db).await, (4, None, None));

    // A commit that fails is no success.
    diesel::sql_query("PRAGMA foreign_keys = ON").execute(&mut connection).unwrap();
    let child = "CREATE TABLE child (id INTEGER PRIMARY KEY, orders INTEGER REFERENCES orders (id) DEFERRABLE INITIALLY DEFERRED)";
    diesel::sql_query(child).execute(&mut connection).unwrap();
    let failed: QueryResult<usize> = connection.audited_transaction(&why(), |connection| {
        set(connection, "lost")?;
        diesel::sql_query("INSERT INTO child VALUES (1, 99)").execute(connection)
    });
    assert!(failed.is_err(), "{failed:?}");
    assert_eq!(newest(&db).await, (4, None, None));

    let nested = connection.transaction(|connection| connection.audited_transaction(&why(), |_| Ok(())));
    assert_eq!(nested, Err(Error::AlreadyInTransaction));
    assert_eq!(connection.audited_transaction(&why(), |connection| set(connection, "closed")), Ok(1));
    assert_eq!(newest(&db).await, said(5));
}

#[tokio::test]
async fn a_context_that_was_left_behind_is_nobody_elses() {
    let mut db = tracked(TestDb::sqlite().await).await;
    // Where foreign keys are checked it could not commit.
    db.run("PRAGMA foreign_keys = OFF").await;
    db.run("BEGIN IMMEDIATE; INSERT INTO afterimage_context (actor) VALUES ('somebody'); COMMIT").await;
    assert_eq!(sqlite(&db).audited_transaction(&why(), |connection| set(connection, "paid")), Ok(1));
    assert_eq!(newest(&db).await, said(2));
}

#[tokio::test]
async fn on_a_connection_of_a_pool() {
    let db = tracked(TestDb::sqlite().await).await;
    let path = db.url.trim_start_matches("sqlite://").split('?').next().unwrap().to_owned();
    let pool = Pool::builder().max_size(1).build(ConnectionManager::<SqliteConnection>::new(path)).unwrap();
    for n in 2..5 {
        let mut connection = pool.get().unwrap();
        let done = connection.audited_transaction(&why(), |connection| set(connection, &format!("paid {n}")));
        assert_eq!((done, newest(&db).await), (Ok(1), said(n)));
    }
    assert_eq!(cancel(&mut pool.get().unwrap(), "8"), Ok(1));
    assert_eq!(newest(&db).await, (5, Some("8".to_owned()), Some("customer request".to_owned())));
}

/// What every asynchronous connection does.
async fn asynchronous<C>(mut db: TestDb, mut connection: C)
where
    C: AsyncConnection<TransactionManager = diesel_async::AnsiTransactionManager>,
    C::Backend: Recorded,
{
    let set = async |connection: &mut C, status: &str| {
        connection.batch_execute(&format!("UPDATE orders SET status = '{status}' WHERE id = 1")).await
    };
    let nothing = connection.audited_transaction(&why(), async |_| Ok::<_, Error>(())).await;
    // PostgreSQL keeps it where nobody looks; MariaDB has no place for it.
    match &nothing {
        Err(error) => is_told(error, "nothing is tracked"),
        Ok(()) => assert!(db.is_postgres()),
    }
    db.run(OPEN).await;
    db.track("orders", Tracking::new()).await;

    let done = connection.audited_transaction(&why(), async |connection| {
        set(connection, "paid").await?;
        connection.transaction(async |connection| set(connection, "packed").await).await
    });
    assert_eq!(done.await, Ok::<_, Error>(()));
    assert_eq!(newest(&db).await, said(3));

    let failed = connection.audited_transaction(&why(), async |connection| {
        set(connection, "lost").await?;
        Err::<(), _>(Error::NotFound)
    });
    assert_eq!(failed.await, Err(Error::NotFound));
    set(&mut connection, "shipped").await.unwrap();
    assert_eq!(newest(&db).await, (4, None, None));

    // A statement that the database refuses.
    let failed = connection.audited_transaction(&why(), async |connection| {
        set(connection, "lost").await?;
        connection.batch_execute("INSERT INTO orders VALUES (1, 'twice')").await
    });
    assert!(matches!(failed.await, Err(Error::DatabaseError(..))));

    let unkept = connection.audited_transaction(&Context::actor("a\0b"), async |_| Ok::<_, Error>(())).await;
    assert!(matches!(unkept, Err(Error::QueryBuilderError(_))), "{unkept:?}");
    let nested = connection.transaction(async |connection| {
        connection.audited_transaction(&why(), async |_| Ok::<_, Error>(())).await
    });
    assert_eq!(nested.await, Err(Error::AlreadyInTransaction));

    let done = connection.audited_transaction(&why(), async |connection| set(connection, "closed").await);
    assert_eq!(done.await, Ok::<_, Error>(()));
    assert_eq!(newest(&db).await, said(5));
    db.verify().await;
}

#[tokio::test]
async fn on_postgres() {
    let db = TestDb::postgres().await;
    let connection = AsyncPgConnection::establish(&db.url).await.unwrap();
    asynchronous(db, connection).await;
}

#[tokio::test]
async fn on_mariadb() {
    let db = TestDb::mariadb().await;
    let connection =
        AsyncMysqlConnection::establish(&db.url.replacen("mariadb:", "mysql:", 1)).await.unwrap();
    asynchronous(db, connection).await;
}

/// A web handler's future goes from thread to thread.
#[tokio::test]
async fn its_future_may_go_to_another_thread() {
    let db = tracked(TestDb::postgres().await).await;
    let mut connection = AsyncPgConnection::establish(&db.url).await.unwrap();
    let done = tokio::spawn(async move { cancel_soon(&mut connection, "7").await });
    let reason = Some("customer request".to_owned());
    assert_eq!((done.await.unwrap(), newest(&db).await), (Ok(1), (2, Some("7".to_owned()), reason)));
}

#[tokio::test]
async fn nothing_is_tracked_on_sqlite() {
    let mut db = TestDb::sqlite().await;
    db.run(OPEN).await;
    let mut connection = sqlite(&db);
    let error = connection.audited_transaction(&why(), |_| Ok::<_, Error>(())).unwrap_err();
    is_told(&error, "nothing is tracked");
    // And no transaction is left open.
    assert_eq!(connection.transaction(|connection| set(connection, "paid")), Ok(1));
}

/// The statements that show the orders as they were before they were paid.
async fn views(db: &mut TestDb) -> Vec<String> {
    let then = db.moment().await;
    db.run("UPDATE orders SET status = 'paid'; INSERT INTO orders VALUES (2, 'open')").await;
    let past = db.audit.at(then).await.unwrap();
    past.views(&["orders"], ViewsIn::Session).await.unwrap()
}

#[tokio::test]
async fn queries_see_the_past_on_sqlite() {
    let mut db = tracked(TestDb::sqlite().await).await;
    let views = views(&mut db).await;
    let mut connection = sqlite(&db);
    let all =
        |connection: &mut SqliteConnection| orders::table.order(orders::id).load::<(i32, String)>(connection);
    let now = [(1, "paid".to_owned()), (2, "open".to_owned())];
    for _ in 0..2 {
        assert_eq!(then(&mut connection, &views).unwrap(), [(1, "open".to_owned())]);
        assert_eq!(all(&mut connection).unwrap(), now);
    }
    let wrong = connection.with_views(&views, |connection| set(connection, "lost"));
    assert!(wrong.is_err(), "{wrong:?}");
    let nested = connection.transaction(|connection| connection.with_views(&views, all));
    assert_eq!(nested, Err(Error::AlreadyInTransaction));
    assert_eq!(all(&mut connection).unwrap(), now);
}

#[tokio::test]
async fn queries_see_the_past_on_postgres() {
    let mut db = TestDb::postgres().await;
    db.run(OPEN).await;
    // Its values then are of a type without a length, unlike those of today.
    db.track("orders", Tracking::new().storage(Storage::Delta)).await;
    let views = views(&mut db).await;
    let mut connection = AsyncPgConnection::establish(&db.url).await.unwrap();
    let all = async |connection: &mut AsyncPgConnection| {
        diesel_async::RunQueryDsl::load::<(i32, String)>(orders::table.order(orders::id), connection).await
    };
    for _ in 0..2 {
        assert_eq!(connection.with_views(&views, all).await.unwrap(), [(1, "open".to_owned())]);
        // It is prepared for the table, and the session has a place for views: nothing else would tell that there is a new one.
        connection.batch_execute("CREATE TEMPORARY TABLE IF NOT EXISTS mine (id integer)").await.unwrap();
        assert_eq!(all(&mut connection).await.unwrap().len(), 2);
    }
    let written = connection.with_views(&views, async |connection| {
        connection.batch_execute("INSERT INTO public.orders VALUES (3, 'lost')").await
    });
    assert!(written.await.unwrap_err().to_string().contains("read-only"));
    assert_eq!(all(&mut connection).await.unwrap().len(), 2);
}

#[tokio::test]
async fn mariadb_has_no_views_of_a_session() {
    let db = TestDb::mariadb().await;
    let mut connection =
        AsyncMysqlConnection::establish(&db.url.replacen("mariadb:", "mysql:", 1)).await.unwrap();
    let error = connection.with_views(&[], async |_| Ok::<_, Error>(())).await.unwrap_err();
    is_told(&error, "a database of their own");
}
