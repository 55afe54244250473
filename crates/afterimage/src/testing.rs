//! For tests of one's own audit.

use crate::database::Afterimage;
use crate::log::{LogEntry, LogQuery};

/// The changes that answer a query, which a test expects to be there.
///
/// # Panics
///
/// Where there are none: with the newest changes that are there.
#[doc(hidden)]
#[allow(clippy::panic, reason = "it is what a test is told by")]
pub async fn recorded(audit: &Afterimage, query: &str) -> Vec<LogEntry> {
    let ask = async |query: LogQuery| match audit.log(&query).await {
        Ok(page) => page.entries,
        Err(error) => panic!("the log cannot be asked: {error}"),
    };
    let parsed = match LogQuery::parse(query) {
        Ok(parsed) => parsed,
        Err(error) => panic!("{query:?} is no query: {error}"),
    };
    let found = ask(parsed).await;
    if found.is_empty() {
        let newest: Vec<String> = ask(LogQuery::default().limit(10))
            .await
            .iter()
            .map(|entry| serde_json::to_string(entry).unwrap_or_default())
            .collect();
        panic!("nothing was recorded that answers {query:?}; the newest changes are:\n{}", newest.join("\n"));
    }
    found
}

/// Asserts that something was recorded that answers a query of the log, and gives it.
///
/// ```
/// # use afterimage::{Afterimage, Context, Tracking, assert_recorded};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
/// # sqlx::query("CREATE TABLE orders (id INTEGER PRIMARY KEY)").execute(&pool).await?;
/// # let audit = Afterimage::from_sqlite(pool);
/// # audit.track("orders", Tracking::new()).await?;
/// # let mut tx = audit.begin(&Context::actor("42")).await?;
/// # sqlx::query("INSERT INTO orders VALUES (1)").execute(tx.sqlite()?).await?;
/// # tx.commit().await?;
/// let entries = assert_recorded!(audit, "table:orders key:1 action:create user:42");
/// assert_eq!(entries.len(), 1);
/// # Ok(())
/// # }
/// ```
#[macro_export]
macro_rules! assert_recorded {
    ($audit:expr, $query:expr) => {
        $crate::testing::recorded(&$audit, $query).await
    };
}
