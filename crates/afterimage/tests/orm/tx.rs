//! A transaction with a context, as a connection of SeaORM's.

use afterimage::{Context, LogEntry, LogQuery, Tracking};
use futures_util::TryStreamExt as _;
use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, EntityTrait as _, PaginatorTrait as _, QueryFilter as _,
    QueryOrder as _, Set, StreamTrait as _, TransactionTrait as _,
};

use crate::on_every_database;
use crate::shop::{ROWS, SCHEMA, TABLES, customer, item, order};
use crate::support::*;

async fn shop(db: &mut TestDb) {
    db.run(SCHEMA).await;
    db.run(ROWS).await;
    for table in TABLES {
        db.track(table, Tracking::new()).await;
    }
}

async fn log(db: &TestDb, query: &str) -> Vec<LogEntry> {
    db.audit.log(&LogQuery::parse(query).unwrap()).await.unwrap().entries
}

fn new_order(id: i32, total: i32) -> order::ActiveModel {
    order::ActiveModel {
        id: Set(id),
        customer_id: Set(Some(1)),
        status: Set("open".to_owned()),
        total: Set(total),
    }
}

on_every_database! {
    async fn every_call_of_the_orm_is_recorded_with_its_context(db: &mut TestDb) {
        shop(db).await;
        let tx = db.audit.begin(&Context::actor("42").reason("stocktaking")).await.unwrap();
        new_order(10, 5).insert(&tx).await.unwrap();
        order::Entity::insert_many([new_order(11, 6), new_order(12, 7)]).exec(&tx).await.unwrap();
        order::ActiveModel { id: Set(10), total: Set(50), ..Default::default() }.update(&tx).await.unwrap();
        let raised = order::Entity::update_many()
            .col_expr(order::Column::Total, Expr::col(order::Column::Total).add(1))
            .filter(order::Column::Status.eq("open"))
            .exec(&tx)
            .await
            .unwrap();
        assert_eq!(raised.rows_affected, 5);
        order::Entity::delete_by_id(11).exec(&tx).await.unwrap();
        item::Entity::delete_many().filter(item::Column::OrderId.eq(2)).exec(&tx).await.unwrap();
        tx.commit().await.unwrap();
        let entries = log(db, "user:42 reason:stocktaking").await;
        // Three orders, one changed, five raised, one deleted, one item deleted.
        assert_eq!(entries.len(), 3 + 1 + 5 + 1 + 1);
        assert_eq!(order::Entity::find().count(&db.audit.begin(&Context::new()).await.unwrap()).await.unwrap(), 5);
        db.verify().await;
    }
}

on_every_database! {
    async fn what_is_nested_ends_by_itself(db: &mut TestDb) {
        shop(db).await;
        let tx = db.audit.begin(&Context::actor("42")).await.unwrap();
        let kept = tx.begin().await.unwrap();
        new_order(10, 1).insert(&kept).await.unwrap();
        let undone = kept.begin().await.unwrap();
        new_order(11, 1).insert(&undone).await.unwrap();
        undone.rollback().await.unwrap();
        new_order(12, 1).insert(&kept).await.unwrap();
        kept.commit().await.unwrap();
        let dropped = tx.begin().await.unwrap();
        new_order(13, 1).insert(&dropped).await.unwrap();
        drop(dropped);
        new_order(14, 1).insert(&tx).await.unwrap();
        let failed = tx
            .transaction::<_, (), sea_orm::DbErr>(|nested| {
                Box::pin(async move {
                    new_order(15, 1).insert(nested).await?;
                    Err(sea_orm::DbErr::Custom("changed my mind".to_owned()))
                })
            })
            .await;
        assert!(failed.unwrap_err().to_string().contains("changed my mind"));
        tx.commit().await.unwrap();
        let mut ids: Vec<String> = log(db, "user:42").await.iter().map(|one| one.key[0].1.to_string()).collect();
        ids.sort();
        assert_eq!(ids, ["10", "12", "14"]);
        db.verify().await;
    }
}

on_every_database! {
    async fn a_context_entered_in_a_nested_one_ends_with_it(db: &mut TestDb) {
        shop(db).await;
        let tx = db.audit.begin(&Context::actor("42").reason("outer")).await.unwrap();
        let mut kept = tx.begin().await.unwrap();
        kept.enter(&Context::new().reason("inner")).await.unwrap();
        new_order(10, 1).insert(&kept).await.unwrap();
        kept.commit().await.unwrap();
        new_order(11, 1).insert(&tx).await.unwrap();
        let mut dropped = tx.begin().await.unwrap();
        dropped.enter(&Context::new().reason("dropped")).await.unwrap();
        drop(dropped);
        new_order(12, 1).insert(&tx).await.unwrap();
        tx.commit().await.unwrap();
        let reasons: Vec<Option<String>> =
            log(db, "user:42").await.into_iter().rev().map(|one| one.header.reason).collect();
        let reasons: Vec<&str> = reasons.iter().map(|reason| reason.as_deref().unwrap()).collect();
        assert_eq!(reasons, ["inner", "outer", "outer"]);
    }
}

on_every_database! {
    async fn nothing_is_committed_while_a_nested_one_is_open(db: &mut TestDb) {
        shop(db).await;
        for deep in [false, true] {
            let mut tx = db.audit.begin(&Context::actor("42")).await.unwrap();
            let nested = tx.begin().await.unwrap();
            new_order(10, 1).insert(&nested).await.unwrap();
            let deeper = if deep { Some(nested.begin().await.unwrap()) } else { None };
            let shared = match db.audit.database() {
                afterimage::Database::Postgres => tx.postgres().map(drop),
                afterimage::Database::MariaDb => tx.mariadb().map(drop),
                _ => tx.sqlite().map(drop),
            };
            assert!(shared.unwrap_err().to_string().contains("its connection is shared"));
            let refused = tx.commit().await.unwrap_err();
            assert!(refused.to_string().contains("nested in this one is not over"), "{refused}");
            drop(deeper);
            drop(nested);
            // Its connection came back clean, whatever depth it was dropped at.
            let after = db.audit.begin(&Context::actor("43")).await.unwrap();
            assert_eq!(order::Entity::find().count(&after).await.unwrap(), 3);
            after.commit().await.unwrap();
            assert!(log(db, "user:42").await.is_empty());
        }
    }
}

on_every_database! {
    async fn rows_are_streamed(db: &mut TestDb) {
        shop(db).await;
        let tx = db.audit.begin(&Context::actor("42")).await.unwrap();
        let mut names = Vec::new();
        {
            let mut rows = customer::Entity::find().order_by_asc(customer::Column::Id).stream(&tx).await.unwrap();
            while let Some(row) = rows.try_next().await.unwrap() {
                names.push(row.name);
            }
        }
        assert_eq!(names, ["Ann", "Bob"]);
        // One that is dropped half-way leaves a connection that works.
        let stream = tx.stream_raw(sea_orm::Statement::from_string(
            sea_orm::ConnectionTrait::get_database_backend(&tx),
            "SELECT id FROM orders",
        ));
        let mut stream = stream.await.unwrap();
        stream.try_next().await.unwrap().unwrap();
        drop(stream);
        new_order(10, 1).insert(&tx).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(log(db, "user:42").await.len(), 1);
    }
}

on_every_database! {
    async fn one_ends_only_with_those_nested_in_it(db: &mut TestDb) {
        shop(db).await;
        let tx = db.audit.begin(&Context::actor("42")).await.unwrap();
        new_order(10, 1).insert(&tx).await.unwrap();
        // Committed while a deeper one is open: nothing of either is.
        let outer = tx.begin().await.unwrap();
        new_order(11, 1).insert(&outer).await.unwrap();
        let inner = outer.begin().await.unwrap();
        new_order(12, 1).insert(&inner).await.unwrap();
        let refused = outer.commit().await.unwrap_err();
        assert!(refused.to_string().contains("nested in this one is not over"), "{refused}");
        // Its place is taken by others; it writes into none of them, and takes none of them along.
        let other = tx.begin().await.unwrap();
        let deeper = other.begin().await.unwrap();
        new_order(13, 1).insert(&deeper).await.unwrap();
        let refused = new_order(14, 1).insert(&inner).await.unwrap_err();
        assert!(refused.to_string().contains("the transaction is over"), "{refused}");
        drop(inner);
        deeper.commit().await.unwrap();
        other.commit().await.unwrap();
        tx.commit().await.unwrap();
        let mut ids: Vec<String> = log(db, "user:42").await.iter().map(|one| one.key[0].1.to_string()).collect();
        ids.sort();
        assert_eq!(ids, ["10", "13"]);
        db.verify().await;
    }
}
