//! Versions as models.

use afterimage::orm::{Tracked as _, TrackedModel as _, Version, diff};
use afterimage::{Action, Context, Moment, Tracking};
use futures_util::TryStreamExt as _;
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, EntityTrait as _, IdenStatic, QueryFilter as _,
    QuerySelect as _, Set,
};

use crate::on_every_database;
use crate::shop::{SCHEMA, customer, order, order_tag};
use crate::support::*;

/// Two orders and what became of them: paid, cancelled for a reason, deleted.
async fn lives(db: &mut TestDb, tracking: Tracking) {
    db.run(SCHEMA).await;
    db.track("orders", tracking).await;
    db.track("order_tag", Tracking::new()).await;
    let new = |id| order::ActiveModel {
        id: Set(id),
        customer_id: Set(None),
        status: Set("open".to_owned()),
        total: Set(100 * id),
    };
    let tx = db.audit.begin(&Context::actor("ann").reason("a call")).await.unwrap();
    order::Entity::insert_many([new(1), new(2)]).exec(&tx).await.unwrap();
    tx.commit().await.unwrap();
    db.tick().await;
    let tx = db.audit.begin(&Context::actor("bob")).await.unwrap();
    let pay = order::ActiveModel { id: Set(1), status: Set("paid".to_owned()), ..Default::default() };
    pay.update(&tx).await.unwrap();
    tx.commit().await.unwrap();
    db.tick().await;
    let tx = db.audit.begin(&Context::actor("ann").reason("customer request")).await.unwrap();
    let cancel = order::ActiveModel {
        id: Set(1),
        status: Set("cancelled".to_owned()),
        total: Set(0),
        ..Default::default()
    };
    cancel.update(&tx).await.unwrap();
    order::Entity::delete_by_id(2).exec(&tx).await.unwrap();
    tx.commit().await.unwrap();
}

fn told(versions: &[Version<order::Model>]) -> Vec<String> {
    versions
        .iter()
        .map(|version| {
            let order::Model { id, status, total, .. } = &version.model;
            let who = version.header.user.as_deref().unwrap_or("?");
            format!("{} {id} {status} {total} by {who}", version.header.action.sign())
        })
        .collect()
}

const ALL: [&str; 5] = [
    "- 2 open 200 by ann",
    "~ 1 cancelled 0 by ann",
    "~ 1 paid 100 by bob",
    "+ 2 open 200 by ann",
    "+ 1 open 100 by ann",
];

on_every_database! {
    async fn every_version_is_a_whole_model(db: &mut TestDb) {
        for storage in STORAGES {
            let mut db = db.like().await;
            lives(&mut db, Tracking::new().storage(storage)).await;
            let audit = &db.audit;
            let all = order::Entity::history().all(audit).await.unwrap();
            assert_eq!(told(&all), ALL);
            let told_backwards: Vec<&str> = ALL.iter().rev().copied().collect();
            assert_eq!(told(&order::Entity::history().oldest_first().all(audit).await.unwrap()), told_backwards);

            // What a record changed, by the entity's own columns.
            let columns = |n: usize| all[n].changed.iter().map(IdenStatic::as_str).collect::<Vec<_>>();
            assert_eq!(columns(1), ["status", "total"]);
            assert_eq!(columns(2), ["status"]);
            assert_eq!(columns(4), ["id", "customer_id", "status", "total"]);
            assert!(all.iter().all(|version| version.missing.is_empty()));
            assert_eq!(all[1].header.reason.as_deref(), Some("customer request"));

            // Of one row; by model, by key, by a key of several columns.
            assert_eq!(told(&all[1].model.history().all(audit).await.unwrap()), [ALL[1], ALL[2], ALL[4]]);
            assert_eq!(told(&order::Entity::history_of(2).all(audit).await.unwrap()), [ALL[0], ALL[3]]);
            db.run("INSERT INTO tag VALUES (7, 'x'); INSERT INTO order_tag VALUES (1, 7)").await;
            let audit = &db.audit;
            assert_eq!(order_tag::Entity::history_of((1, 7)).all(audit).await.unwrap().len(), 1);

            // The latest of each row; those of rows that are gone.
            let latest = order::Entity::latest_of_each;
            assert_eq!(told(&latest().all(audit).await.unwrap()), [ALL[0], ALL[1]]);
            assert_eq!(told(&latest().action(Action::Delete).all(audit).await.unwrap()), [ALL[0]]);
            let paid = latest().filter(order::Column::Status.eq("paid"));
            assert_eq!(paid.count(audit).await.unwrap(), 0, "it is not any more");

            // By what a record says, by what the model says, and by both.
            let history = order::Entity::history;
            assert_eq!(told(&history().by("bob").all(audit).await.unwrap()), [ALL[2]]);
            assert_eq!(told(&history().action(Action::Delete).all(audit).await.unwrap()), [ALL[0]]);
            assert_eq!(told(&history().reason("a call").all(audit).await.unwrap()), [ALL[3], ALL[4]]);
            assert_eq!(told(&history().changed(order::Column::Total).by("ann").all(audit).await.unwrap()), [ALL[0], ALL[1], ALL[3], ALL[4]]);
            let paid = history().filter(order::Column::Status.eq("paid"));
            assert_eq!(told(&paid.clone().all(audit).await.unwrap()), [ALL[2]]);
            assert_eq!(paid.count(audit).await.unwrap(), 1);
            assert_eq!(history().count(audit).await.unwrap(), 5);
            let tx = all[1].header.tx.clone().unwrap();
            assert_eq!(told(&history().transaction(tx).all(audit).await.unwrap()), [ALL[0], ALL[1]]);
            let (from, to) = (all[2].header.date, all[2].header.date);
            assert_eq!(told(&history().since(from).until(to).all(audit).await.unwrap()), [ALL[2]]);
            assert!(history().since(Moment::now()).one(audit).await.unwrap().is_none());

            // Page after page, next and previous, and as a stream.
            let mut pages = Vec::new();
            let mut page = history().limit(2).all(audit).await.unwrap();
            while let Some(last) = page.last().cloned() {
                pages.extend(page);
                page = history().after(&last).limit(2).all(audit).await.unwrap();
            }
            assert_eq!(told(&pages), ALL);
            let previous = all[1].model.history().after(&all[1]).one(audit).await.unwrap().unwrap();
            assert_eq!(told(&[previous]), [ALL[2]]);
            let next = all[2].model.history().oldest_first().after(&all[2]).one(audit).await.unwrap().unwrap();
            assert_eq!(told(&[next]), [ALL[1]]);
            let streamed: Vec<_> = history().stream(audit).await.unwrap().try_collect().await.unwrap();
            assert_eq!(told(&streamed), ALL);
        }
    }
}

on_every_database! {
    async fn two_versions_are_compared_by_column(db: &mut TestDb) {
        lives(db, Tracking::new()).await;
        let versions = order::Entity::history_of(1).oldest_first().all(&db.audit).await.unwrap();
        let changes = versions[0].diff(&versions[2]);
        assert_eq!(changes.len(), 2);
        assert!(matches!(changes[0].column, order::Column::Status));
        assert_eq!((&changes[0].old, &changes[0].new), (&"open".into(), &"cancelled".into()));
        assert_eq!((&changes[1].old, &changes[1].new), (&100.into(), &0.into()));
        assert!(diff(&versions[0].model, &versions[0].model).is_empty());
    }
}

on_every_database! {
    async fn a_version_is_a_way_back(db: &mut TestDb) {
        for storage in STORAGES {
            let mut db = db.like().await;
            lives(&mut db, Tracking::new().storage(storage)).await;
            let audit = &db.audit;
            let paid = order::Entity::history_of(1).by("bob").one(audit).await.unwrap().unwrap();
            let why = Context::actor("carl").reason("it was paid");
            audit.revert(&paid.revert().fields(["total"]), &why).await.unwrap();
            let now = order::Entity::history_of(1).one(audit).await.unwrap().unwrap();
            assert_eq!(told(std::slice::from_ref(&now)), ["~ 1 cancelled 100 by carl"]);
            let stale = audit.revert(&paid.revert().expect(afterimage::Selector::Record(paid.header.id)), &why).await;
            assert!(message(stale).contains("changed"));
            let gone = order::Entity::history_of(2).action(Action::Delete).one(audit).await.unwrap().unwrap();
            audit.restore(&gone.restore(), &why).await.unwrap();
            let now = order::Entity::history_of(2).one(audit).await.unwrap().unwrap();
            assert_eq!(told(&[now]), ["+ 2 open 200 by carl"]);
        }
    }
}

on_every_database! {
    async fn a_column_that_was_not_there_yet_is_named(db: &mut TestDb) {
        for storage in STORAGES {
            let mut db = db.like().await;
            db.run("CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER, status VARCHAR(20) NOT NULL)").await;
            db.track("orders", Tracking::new().storage(storage)).await;
            db.run("INSERT INTO orders VALUES (1, NULL, 'open')").await;
            db.tick().await;
            db.alter("orders", "ALTER TABLE orders ADD COLUMN total INTEGER NOT NULL DEFAULT 3").await;
            db.run("UPDATE orders SET total = 4").await;
            let versions = order::Entity::history().oldest_first().all(&db.audit).await.unwrap();
            let total: Vec<(i32, usize)> =
                versions.iter().map(|version| (version.model.total, version.missing.len())).collect();
            assert_eq!(total, [(3, 1), (4, 0)]);
            assert!(matches!(versions[0].missing[0], order::Column::Total));
        }
    }
}

on_every_database! {
    async fn what_does_not_fit_says_so(db: &mut TestDb) {
        lives(db, Tracking::new().mask(["total"])).await;
        let refused = message(customer::Entity::history().all(&db.audit).await);
        assert!(refused.contains("\"customer\" is not tracked"), "{refused}");
        let refused = message(order::Entity::history().all(&db.audit).await);
        assert!(refused.contains("does not fit the model") && refused.contains("masked are total"), "{refused}");
        db.run("DROP TABLE order_tag; DROP TABLE item").await;
        db.audit.untrack("orders", true).await.unwrap();
        db.track("orders", Tracking::new().exclude(["total"])).await;
        let refused = message(order::Entity::history().changed(order::Column::Total).all(&db.audit).await);
        assert!(refused.contains("\"total\" is not tracked"), "{refused}");
    }
}
