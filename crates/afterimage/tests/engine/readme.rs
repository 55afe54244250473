//! The README's Rust, as it stands there.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support::*;
use afterimage::{Afterimage, Context, Tracking};

#[tokio::test]
async fn the_rust_of_the_readme_compiles_and_does_what_it_says() {
    let mut db = TestDb::postgres().await;
    db.run("CREATE TABLE orders (id int PRIMARY KEY, total numeric); INSERT INTO orders VALUES (1, 1249)")
        .await;
    db.track("orders", Tracking::new()).await;
    price_match(db.url.clone()).await.unwrap();
    let last = db.versions("orders", "1").await.pop().unwrap();
    assert_eq!(
        (last.header.user.as_deref(), changes(&last)),
        (Some("42"), vec!["total: 1249 -> 1149".into()])
    );

    let readme = include_str!("../../../../README.md");
    let rust = readme.split("```rust\n").nth(1).unwrap().split("```").next().unwrap();
    let this: String = include_str!("readme.rs").split_whitespace().collect();
    for statement in rust.split(";\n") {
        let statement: String = statement.split_whitespace().collect();
        assert!(this.contains(&statement), "{statement} is not what is tested here");
    }
}

async fn price_match(url: String) -> Result<(), Box<dyn std::error::Error>> {
    let audit = Afterimage::connect(&url).await?;
    let mut tx = audit.begin(&Context::actor("42").reason("price match")).await?;
    sqlx::query("UPDATE orders SET total = 1149 WHERE id = 1").execute(tx.postgres()?).await?;
    tx.commit().await?;
    Ok(())
}
