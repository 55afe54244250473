//! `cargo run -p afterimage-example-shop`, then:
//!
//! ```text
//! curl -X POST localhost:3000/orders -H 'x-user: ann' -H 'content-type: application/json' -d '{"customer":1,"items":[["pen",3]]}'
//! curl -X POST localhost:3000/orders/1/cancel -H 'x-user: bob' -H 'content-type: application/json' -d '{"reason":"changed their mind"}'
//! curl localhost:3000/orders/1/history
//! ```
//!
//! And in a browser <http://localhost:3000/history>.

use sea_orm::ConnectionTrait as _;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let db = sea_orm::Database::connect("sqlite://shop.db?mode=rwc").await?;
    let (audit, _alerts) = afterimage_example_shop::start(&db).await?;
    db.execute_unprepared("INSERT OR IGNORE INTO customer (id, name) VALUES (1, 'Ann Example')").await?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, afterimage_example_shop::api::router(audit)).await?;
    Ok(())
}
