//! A history with sqlx, as short as it gets: `cargo run -p afterimage-example-sqlx-minimal`.

use afterimage::{Afterimage, Context, PointInTime, Tracking};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    sqlx::query("CREATE TABLE orders (id INTEGER PRIMARY KEY, status TEXT)").execute(&pool).await?;

    let audit = Afterimage::from_sqlite(pool);
    audit.track("orders", Tracking::new()).await?;

    let mut tx = audit.begin(&Context::actor("ann")).await?;
    sqlx::query("INSERT INTO orders VALUES (1, 'open')").execute(tx.sqlite()?).await?;
    tx.commit().await?;

    let mut tx = audit.begin(&Context::actor("bob").reason("customer request")).await?;
    sqlx::query("UPDATE orders SET status = 'cancelled' WHERE id = 1").execute(tx.sqlite()?).await?;
    tx.commit().await?;

    let versions = audit.history("orders", "1").await?;
    for version in &versions {
        let who = version.header.user.as_deref().unwrap_or("?");
        let why = version.header.reason.as_deref().unwrap_or("no reason given");
        println!("version {} by {who} ({why})", version.number);
    }

    // As it was right after the first of them, through any query of one's own, as anything that is `FromRow`.
    let past = audit.at(PointInTime::At(versions[1].header.date)).await?;
    let orders: Vec<(i64, String)> =
        past.sqlite().fetch_all(sqlx::query("SELECT id, status FROM orders")).await?;
    for (id, status) in orders {
        println!("order {id} was {status}");
    }
    Ok(())
}
