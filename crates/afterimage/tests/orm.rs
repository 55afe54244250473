//! SeaORM on a transaction with a context, and on the past.

#![cfg(feature = "sea-orm")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]

#[path = "orm/cases.rs"]
mod cases;
#[path = "orm/history.rs"]
mod history;
#[path = "orm/past.rs"]
mod past;
#[path = "orm/registration.rs"]
mod registration;
#[path = "orm/shop.rs"]
mod shop;
#[path = "orm/soft_delete.rs"]
mod soft_delete;
mod support;
#[path = "orm/tx.rs"]
mod tx;
