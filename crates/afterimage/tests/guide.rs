//! The guide's Rust, as it stands there.

#![cfg(all(feature = "sea-orm", feature = "axum", feature = "sqlite"))]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]

#[allow(dead_code)]
#[path = "orm/shop.rs"]
mod shop;
mod support;

use std::sync::Arc;

use afterimage::orm::{Changed, Referred, Tracked, TrackedModel, diff};
use afterimage::tower::AuditLayer;
use afterimage::{
    Afterimage, Context, Error, LogQuery, ModelAudited, Moment, PointInTime, ViewsIn, assert_recorded,
};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, DatabaseConnection, EntityTrait, PaginatorTrait, QueryFilter, QuerySelect,
    Set,
};
use shop::{customer, item, order, tag};
use support::*;

const GUIDE: &str = include_str!("../../../docs/library.md");

/// Without what the formatter may set otherwise.
fn bare(text: &str) -> String {
    let text: String = text.split_whitespace().collect();
    text.replace(",)", ")").replace(",}", "}").replace(",]", "]")
}

#[test]
fn every_block_of_rust_is_one_of_these() {
    let this = bare(include_str!("guide.rs"));
    let blocks: Vec<&str> =
        GUIDE.split("```rust\n").skip(1).map(|block| block.split("```").next().unwrap()).collect();
    assert!(blocks.len() > 10);
    for block in blocks {
        assert!(this.contains(&bare(block)), "this is not tested:\n{block}");
    }
}

#[derive(Clone)]
struct User {
    id: i64,
    email: String,
}

async fn install(db: &DatabaseConnection) -> Result<Afterimage, Error> {
    let audit = Afterimage::from_sea_orm(db)?;
    Afterimage::builder()
        .track::<order::Entity>(|t| t.label(order::Column::Status).related::<item::Entity>())
        .track::<item::Entity>(|t| t.delta())
        .track::<customer::Entity>(|t| t.mask(customer::Column::Name))
        .track::<tag::Entity>(|t| t.exclude(tag::Column::Name))
        .install(&audit)
        .await?;
    Ok(audit)
}

async fn cancel(audit: &Afterimage, id: i32) -> Result<(), Error> {
    let tx = audit.begin(&Context::actor("42").reason("customer request")).await?;
    let cancelled =
        order::ActiveModel { id: Set(id), status: Set("cancelled".to_owned()), ..Default::default() };
    cancelled.update(&tx).await?;
    item::Entity::delete_many().filter(item::Column::OrderId.eq(id)).exec(&tx).await?;
    tx.commit().await
}

async fn import(audit: &Afterimage) -> Result<(), Error> {
    let mut tx = audit.begin(&Context::actor("import").reason("catalogue of July")).await?;
    tag::Entity::insert_many(
        (1001..=2000).map(|id| tag::ActiveModel { id: Set(id), name: Set(format!("tag {id}")) }),
    )
    .exec(&tx)
    .await?;
    tx.enter(&Context::new().reason("what the catalogue calls obsolete")).await?;
    tag::Entity::delete_many().filter(tag::Column::Id.gt(1900)).exec(&tx).await?;
    tx.leave().await?;
    tx.commit().await
}

async fn unrecorded(audit: &Afterimage) -> Result<(), Error> {
    let quiet = audit.clone().recording(false);
    let tx = quiet.begin(&Context::actor("import")).await?;
    tag::ActiveModel { id: Set(5000), name: Set("passing".to_owned()) }.insert(&tx).await?;
    tx.commit().await
}

async fn history(audit: &Afterimage, model: &order::Model) -> Result<(), Error> {
    for version in order::Entity::history_of(1).all(audit).await? {
        println!("{} {:?} {}", version.header.date, version.header.user, version.model.status);
    }
    let cancelled = order::Entity::history()
        .filter(order::Column::Status.eq("cancelled"))
        .changed(order::Column::Status)
        .by("42")
        .limit(50)
        .all(audit)
        .await?;
    let newest = model.history().one(audit).await?.unwrap();
    let before = model.history().after(&newest).one(audit).await?.unwrap();
    for change in before.diff(&newest) {
        println!("{:?}: {:?} → {:?}", change.column, change.old, change.new);
    }
    assert!(!cancelled.is_empty() && diff(model, model).is_empty());
    Ok(())
}

async fn referred(audit: &Afterimage, change: &Changed<order::Column>) -> Result<(), Error> {
    let (old, _) = change.referred(customer::Column::Id, audit).await?;
    if let Referred::Gone(last) = old {
        println!("from {}, deleted by {:?}", last.model.name, last.header.user);
    }
    Ok(())
}

async fn the_past(audit: &Afterimage) -> Result<(), Error> {
    let past = audit.at(PointInTime::parse("2 seconds ago", "Europe/Berlin")?).await?;
    let order = order::Entity::find_by_id(1).one(&past).await?;
    let with_items = order::Entity::find().find_with_related(item::Entity).all(&past).await?;
    let open = order::Entity::find().filter(order::Column::Status.eq("open")).count(&past).await?;
    let statements = past.views(&["orders", "item"], ViewsIn::Session).await?;
    let _ = (order, with_items, open, statements);
    Ok(())
}

async fn log(audit: &Afterimage) -> Result<(), Error> {
    let page = audit
        .log(&LogQuery::parse("table:orders user:42 field:status now:cancelled since:1d")?.limit(50))
        .await?;
    for entry in &page.entries {
        println!("{} {} {:?}", entry.header.date, entry.table, entry.changes);
    }
    Ok(())
}

async fn back(audit: &Afterimage) -> Result<(), Error> {
    let opened = order::Entity::history_of(1).oldest_first().one(audit).await?.unwrap();
    audit.revert(&opened.revert().fields(["status"]), &Context::actor("42").reason("a mistake")).await?;
    let deleted = item::Entity::history().action(afterimage::Action::Delete).one(audit).await?.unwrap();
    audit.restore(&deleted.restore(), &Context::actor("42")).await?;
    Ok(())
}

fn listen(audit: &Afterimage) {
    audit.subscribe_to_model::<order::Entity>(|event: Arc<ModelAudited>| async move {
        println!("{:?} changed {:?}", event.actor(), event.changed_columns::<order::Entity>());
        Ok(())
    });
}

fn layer() -> Result<AuditLayer, Error> {
    AuditLayer::new(|request| match request.extensions.get::<User>() {
        Some(user) => Context::actor(user.id.to_string()).label(&user.email),
        None => Context::new(),
    })
    .trusted_proxies(["10.0.0.0/8"])
}

async fn job(audit: &Afterimage) -> Result<(), Error> {
    afterimage::scope(Context::actor("nightly job"), async {
        let tx = audit.begin(&Context::new().reason("stocktaking")).await?;
        tx.commit().await
    })
    .await
}

#[tokio::test]
async fn it_does_what_it_says() {
    let mut db = TestDb::sqlite().await;
    db.run(shop::SCHEMA).await;
    db.run(shop::ROWS).await;
    let connection = sea_orm::Database::connect(&db.url).await.unwrap();
    let audit = install(&connection).await.unwrap();
    listen(&audit);
    layer().unwrap();
    let _ = User { id: 1, email: String::new() };
    cancel(&audit, 1).await.unwrap();
    assert_recorded!(audit, "table:orders key:1 action:update user:42 reason:\"customer request\"");
    import(&audit).await.unwrap();
    let since = Moment::from_micros(Moment::now().as_micros() - 60_000_000);
    assert_eq!(
        tag::Entity::history().since(since).action(afterimage::Action::Delete).count(&audit).await.unwrap(),
        100
    );
    let model = order::Entity::find_by_id(1).one(&connection).await.unwrap().unwrap();
    history(&audit, &model).await.unwrap();
    log(&audit).await.unwrap();
    back(&audit).await.unwrap();
    job(&audit).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(2100)).await;
    the_past(&audit).await.unwrap();
    audit.events_told().await;
    assert!(audit.verify(&[]).await.unwrap().iter().all(afterimage::Verdict::is_whole));
    let change = Changed { column: order::Column::CustomerId, old: Some(1).into(), new: None::<i32>.into() };
    referred(&audit, &change).await.unwrap();
    audit.allow_skip(true).await.unwrap();
    unrecorded(&audit).await.unwrap();
    assert_eq!(tag::Entity::history_of(5000).count(&audit).await.unwrap(), 0);
}

#[tokio::test]
#[should_panic(expected = "nothing was recorded that answers")]
async fn what_was_not_recorded_fails_the_test() {
    let mut db = TestDb::sqlite().await;
    db.run(shop::SCHEMA).await;
    db.track("tag", afterimage::Tracking::new()).await;
    db.run("INSERT INTO tag VALUES (1, 'x')").await;
    assert_recorded!(db.audit, "table:tag action:delete");
}
