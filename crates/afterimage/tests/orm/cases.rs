//! The cases of the well-known history packages that are about models, through the typed library: each test is named after
//! its case, and those that begin with `t` after a trap.

use afterimage::orm::{Changed, Referred, Tracked as _, TrackedModel as _, Version, diff};
use afterimage::{Action, Context, Moment, PointInTime, Tracking};
use sea_orm::sea_query::{Expr, ExprTrait as _, OnConflict};
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, DbErr, EntityTrait as _, IdenStatic as _, ModelTrait as _,
    QueryFilter as _, QueryOrder as _, Set, TransactionTrait as _,
};

use crate::on_every_database;
use crate::shop::{SCHEMA, TABLES, customer, item, order, order_tag, tag};
use crate::support::*;

async fn shop(db: &mut TestDb) {
    db.run(SCHEMA).await;
    for table in TABLES {
        db.track(table, Tracking::new()).await;
    }
    db.run("INSERT INTO customer VALUES (1, 'Ann'), (2, 'Bob')").await;
}

fn new(id: i32, total: i32) -> order::ActiveModel {
    order::ActiveModel {
        id: Set(id),
        customer_id: Set(Some(1)),
        status: Set("open".to_owned()),
        total: Set(total),
    }
}

fn total(id: i32, total: i32) -> order::ActiveModel {
    order::ActiveModel { id: Set(id), total: Set(total), ..Default::default() }
}

fn signs(versions: &[Version<order::Model>]) -> Vec<String> {
    versions.iter().map(|one| format!("{}{}", one.header.action.sign(), one.model.total)).collect()
}

/// Commits one thing, by an actor, and gives the time right after it.
macro_rules! commit {
    ($db:expr, $actor:expr, $($work:expr),+ $(,)?) => {{
        let tx = $db.audit.begin(&Context::actor($actor)).await.unwrap();
        $($work(&tx).await.unwrap();)+
        tx.commit().await.unwrap();
        $db.moment().await
    }};
}

on_every_database! {
    async fn case_02_what_is_skipped_and_nothing_else(db: &mut TestDb) {
        shop(db).await;
        if !db.is_postgres() {
            db.audit.allow_skip(true).await.unwrap();
        }
        commit!(db, "a", async |tx| new(1, 3).insert(tx).await);
        let tx = db.audit.begin(&Context::new().skip()).await.unwrap();
        total(1, 4).update(&tx).await.unwrap();
        tx.commit().await.unwrap();
        let tx = db.audit.begin(&Context::new().skip()).await.unwrap();
        assert!(new(1, 5).insert(&tx).await.is_err());
        drop(tx);
        commit!(db, "a", async |tx| total(1, 6).update(tx).await);
        let versions = order::Entity::history_of(1).oldest_first().all(&db.audit).await.unwrap();
        assert_eq!(signs(&versions), ["+3", "~6"]);

        // The switch of a whole handle: off, and on again.
        let off = db.audit.clone().recording(false);
        let tx = off.begin(&Context::actor("a")).await.unwrap();
        total(1, 7).update(&tx).await.unwrap();
        tx.commit().await.unwrap();
        let tx = off.recording(true).begin(&Context::actor("a")).await.unwrap();
        total(1, 8).update(&tx).await.unwrap();
        tx.commit().await.unwrap();
        let versions = order::Entity::history_of(1).oldest_first().all(&db.audit).await.unwrap();
        assert_eq!(signs(&versions), ["+3", "~6", "~8"]);
    }
}

on_every_database! {
    async fn case_08_the_one_before_and_the_one_after(db: &mut TestDb) {
        shop(db).await;
        commit!(db, "a", async |tx| new(1, 1).insert(tx).await);
        for n in 2..=4 {
            commit!(db, "a", async |tx| total(1, n).update(tx).await);
        }
        let audit = &db.audit;
        let versions = order::Entity::history_of(1).oldest_first().all(audit).await.unwrap();
        let previous = async |version: &Version<order::Model>| {
            version.model.history().after(version).one(audit).await.unwrap().map(|one| one.model.total)
        };
        let next = async |version: &Version<order::Model>| {
            version.model.history().oldest_first().after(version).one(audit).await.unwrap().map(|one| one.model.total)
        };
        assert_eq!((previous(&versions[1]).await, previous(&versions[0]).await), (Some(1), None));
        assert_eq!((next(&versions[3]).await, next(&versions[0]).await), (None, Some(2)));
    }
}

on_every_database! {
    async fn case_09_what_differs_in_native_types(db: &mut TestDb) {
        shop(db).await;
        commit!(db, "a", async |tx| new(1, 3).insert(tx).await);
        let changed = order::ActiveModel {
            id: Set(1),
            customer_id: Set(Some(2)),
            status: Set("idk".to_owned()),
            total: Set(0),
        };
        commit!(db, "a", async |tx| changed.clone().update(tx).await);
        let versions = order::Entity::history_of(1).all(&db.audit).await.unwrap();
        let told = |from: &order::Model, to: &order::Model| {
            diff(from, to).into_iter().map(|one| (one.column.as_str(), one.old, one.new)).collect::<Vec<_>>()
        };
        let (new, old) = (&versions[0].model, &versions[1].model);
        assert_eq!(
            told(old, new),
            [
                ("customer_id", Some(1).into(), Some(2).into()),
                ("status", "open".into(), "idk".into()),
                ("total", 3.into(), 0.into()),
            ]
        );
        let mirrored: Vec<_> = told(new, old).into_iter().map(|(column, old, new)| (column, new, old)).collect();
        assert_eq!(mirrored, told(old, new));
    }
}

on_every_database! {
    async fn case_10_what_a_row_referred_to_and_is_gone(db: &mut TestDb) {
        shop(db).await;
        let then = commit!(db, "a", async |tx| new(1, 3).insert(tx).await);
        let moved = order::ActiveModel { id: Set(1), customer_id: Set(Some(2)), ..Default::default() };
        commit!(db, "a", async |tx| moved.clone().update(tx).await, async |tx| {
            customer::Entity::delete_by_id(1).exec(tx).await
        });
        let first = order::Entity::history_of(1).oldest_first().one(&db.audit).await.unwrap().unwrap();
        assert_eq!(first.model.customer_id, Some(1), "the number stays");
        let past = db.audit.at(then).await.unwrap();
        let whose = first.model.find_related(customer::Entity).one(&past).await.unwrap().unwrap();
        assert_eq!(whose.name, "Ann");
        let gone = customer::Entity::history_of(1).one(&db.audit).await.unwrap().unwrap();
        assert_eq!((gone.header.action, gone.model.name.as_str()), (Action::Delete, "Ann"));

        // A difference as numbers, or as the rows that these name: one that is gone says so, and by whom.
        let second = order::Entity::history_of(1).one(&db.audit).await.unwrap().unwrap();
        let changes = first.diff(&second);
        assert_eq!((&changes[0].old, &changes[0].new), (&Some(1).into(), &Some(2).into()));
        let referred = changes[0].referred(customer::Column::Id, &db.audit).await.unwrap();
        let (Referred::Gone(ann), Referred::Present(bob)) = referred else { panic!("{referred:?}") };
        assert_eq!((ann.header.action, ann.model.name.as_str(), ann.header.user.as_deref()), (Action::Delete, "Ann", Some("a")));
        assert_eq!(bob.name, "Bob");
        let strange = Changed { column: order::Column::CustomerId, old: None::<i32>.into(), new: 77.into() };
        let referred = strange.referred(customer::Column::Id, &db.audit).await.unwrap();
        assert!(matches!(referred, (Referred::Nothing, Referred::Unknown(_))), "{referred:?}");
    }
}

on_every_database! {
    async fn cases_11_12_links_and_t7_t8_t16(db: &mut TestDb) {
        shop(db).await;
        let tags = (1..=4).map(|id| tag::ActiveModel { id: Set(id), name: Set(format!("t{id}")) });
        let link = |tag_id| order_tag::ActiveModel { order_id: Set(1), tag_id: Set(tag_id) };
        let created = commit!(db, "a", async |tx| new(1, 1).insert(tx).await, async |tx| {
            tag::Entity::insert_many(tags.clone()).exec(tx).await
        });
        let added = commit!(db, "a", async |tx| order_tag::Entity::insert_many((1..=4).map(link)).exec(tx).await);
        let removed = commit!(db, "a", async |tx| {
            order_tag::Entity::delete_many().filter(order_tag::Column::TagId.gt(1)).exec(tx).await
        });
        // From the other side it is the same table.
        let cleared = commit!(db, "b", async |tx| {
            order_tag::Entity::delete_many().filter(order_tag::Column::TagId.eq(1)).exec(tx).await
        });
        commit!(db, "c", async |tx| order_tag::Entity::delete_many().exec(tx).await);
        for (at, count) in [(&created, 0), (&added, 4), (&removed, 1), (&cleared, 0)] {
            let past = db.audit.at(at.clone()).await.unwrap();
            let (order, tags) =
                order::Entity::find_by_id(1).find_with_related(tag::Entity).all(&past).await.unwrap().pop().unwrap();
            assert_eq!((order.total, tags.len()), (1, count));
        }
        let links = order_tag::Entity::history().oldest_first().all(&db.audit).await.unwrap();
        let told: Vec<String> = links
            .iter()
            .map(|one| format!("{}{} {}", one.header.action.sign(), one.model.tag_id, one.header.user.as_deref().unwrap()))
            .collect();
        assert_eq!(told[..4], ["+1 a", "+2 a", "+3 a", "+4 a"]);
        assert_eq!(told[7], "-1 b");
        assert_eq!(told.len(), 8, "clearing what is empty records nothing");
        let of_order = order::Entity::history_of(1).count(&db.audit).await.unwrap();
        assert_eq!(of_order, 1, "a link is no change of the row");
    }
}

on_every_database! {
    async fn case_14_ways_back(db: &mut TestDb) {
        shop(db).await;
        commit!(db, "a", async |tx| new(1, 3).insert(tx).await);
        commit!(db, "b", async |tx| total(1, 9).update(tx).await);
        let history = || order::Entity::history_of(1);
        let first = history().oldest_first().one(&db.audit).await.unwrap().unwrap();
        db.audit.revert(&first.revert(), &Context::actor("c")).await.unwrap();
        assert_eq!(signs(&history().all(&db.audit).await.unwrap()), ["~3", "~9", "+3"]);
        commit!(db, "d", async |tx| order::Entity::delete_by_id(1).exec(tx).await);
        let gone = history().one(&db.audit).await.unwrap().unwrap();
        db.audit.restore(&gone.restore(), &Context::actor("e")).await.unwrap();
        let versions = history().all(&db.audit).await.unwrap();
        assert_eq!(signs(&versions), ["+3", "-3", "~3", "~9", "+3"]);
        let who: Vec<&str> = versions.iter().map(|one| one.header.user.as_deref().unwrap()).collect();
        assert_eq!(who, ["e", "d", "c", "b", "a"]);
    }
}

on_every_database! {
    async fn case_15_bulk_calls(db: &mut TestDb) {
        shop(db).await;
        commit!(db, "a", async |tx| order::Entity::insert_many((1..=5).map(|id| new(id, id))).exec(tx).await);
        let history = order::Entity::history;
        assert_eq!(history().action(Action::Create).count(&db.audit).await.unwrap(), 5);
        commit!(db, "b", async |tx| {
            let conflict = OnConflict::column(order::Column::Id).do_nothing_on([order::Column::Id]).to_owned();
            order::Entity::insert_many([new(5, 0), new(6, 6), new(7, 7)]).on_conflict(conflict).exec_without_returning(tx).await
        });
        assert_eq!(history().by("b").count(&db.audit).await.unwrap(), 2);
        let tx = db.audit.begin(&Context::actor("c")).await.unwrap();
        assert!(order::Entity::insert_many([new(8, 8), new(1, 1)]).exec(&tx).await.is_err());
        tx.rollback().await.unwrap();
        assert_eq!(history().by("c").count(&db.audit).await.unwrap(), 0);
        commit!(db, "d", async |tx| {
            order::Entity::update_many()
                .col_expr(order::Column::Total, Expr::col(order::Column::Total).add(10))
                .filter(order::Column::Id.lte(5))
                .exec(tx)
                .await
        });
        let raised = history().by("d").order_by_asc(order::Column::Id).all(&db.audit).await.unwrap();
        assert_eq!(signs(&raised), ["~11", "~12", "~13", "~14", "~15"], "and they say what is stored");
        db.verify().await;
    }
}

on_every_database! {
    async fn case_17_what_belongs_together_as_of_the_same_time(db: &mut TestDb) {
        shop(db).await;
        let place = |id, name: &str| item::ActiveModel { id: Set(id), order_id: Set(1), name: Set(name.to_owned()) };
        let rename = |status: &str| order::ActiveModel { id: Set(1), status: Set(status.to_owned()), ..Default::default() };
        let t1 = commit!(db, "a", async |tx| new(1, 1).insert(tx).await, async |tx| place(1, "p1").insert(tx).await);
        let t2 = commit!(db, "a", async |tx| place(2, "p2").insert(tx).await, async |tx| rename("modified").update(tx).await);
        let t3 = commit!(db, "a", async |tx| item::Entity::delete_by_id(1).exec(tx).await);
        let seen = async |at: &PointInTime| {
            let past = db.audit.at(at.clone()).await.unwrap();
            let items = item::Entity::find()
                .find_also_related(order::Entity)
                .order_by_asc(item::Column::Id)
                .all(&past)
                .await
                .unwrap();
            items.into_iter().map(|(item, order)| format!("{} of {}", item.name, order.unwrap().status)).collect::<Vec<_>>()
        };
        assert_eq!(seen(&t1).await, ["p1 of open"]);
        assert_eq!(seen(&t2).await, ["p1 of modified", "p2 of modified"]);
        assert_eq!(seen(&t3).await, ["p2 of modified"]);
    }
}

on_every_database! {
    async fn t12_contexts_are_a_stack(db: &mut TestDb) {
        shop(db).await;
        let mut tx = db.audit.begin(&Context::actor("outer").label("Olga").reason("r")).await.unwrap();
        new(1, 1).insert(&tx).await.unwrap();
        tx.enter(&Context::actor("inner")).await.unwrap();
        let nested = tx.begin().await.unwrap();
        new(2, 2).insert(&nested).await.unwrap();
        sea_orm::TransactionSession::commit(nested).await.unwrap();
        tx.leave().await.unwrap();
        new(3, 3).insert(&tx).await.unwrap();
        tx.commit().await.unwrap();
        let versions = order::Entity::history().oldest_first().all(&db.audit).await.unwrap();
        let who: Vec<(&str, Option<String>)> = versions
            .iter()
            .map(|one| (one.header.user.as_deref().unwrap(), one.header.context_member("label")))
            .collect();
        let olga = Some("Olga".to_owned());
        assert_eq!(who, [("outer", olga.clone()), ("inner", None), ("outer", olga)], "and nobody has another's name");
        assert!(versions.iter().all(|one| one.header.reason.as_deref() == Some("r")));
    }
}

on_every_database! {
    async fn a_transaction_that_is_cancelled_is_as_if_it_had_not_begun(db: &mut TestDb) {
        shop(db).await;
        let audit = db.audit.clone();
        for micros in (0..4000).step_by(100) {
            let work = async {
                let tx = audit.begin(&Context::actor("ghost")).await?;
                new(1, 1).insert(&tx).await?;
                let nested = tx.begin().await?;
                new(2, 2).insert(&nested).await?;
                std::future::pending::<()>().await;
                Ok::<(), DbErr>(())
            };
            let cancelled = tokio::time::timeout(std::time::Duration::from_micros(micros), work).await;
            assert!(cancelled.is_err());
        }
        commit!(db, "real", async |tx| new(3, 3).insert(tx).await);
        let versions = order::Entity::history().all(&db.audit).await.unwrap();
        assert_eq!(signs(&versions), ["+3"]);
        assert_eq!(versions[0].header.user.as_deref(), Some("real"));
        let since = Moment::from_micros(0);
        assert_eq!(order::Entity::history().by("ghost").since(since).count(&db.audit).await.unwrap(), 0);
        db.verify().await;
    }
}
