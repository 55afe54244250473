//! What an application tracks, installed when it starts.

use afterimage::{Afterimage, Storage, Tracking};
use sea_orm::{ConnectOptions, EntityTrait as _, PaginatorTrait as _};

use crate::on_every_database;
use crate::shop::{ROWS, SCHEMA, customer, item, order, order_tag, tag};
use crate::support::*;

mod wider {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "tag")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i32,
        pub name: String,
        pub colour: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

mod keyless {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "order_tag")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub order_id: i32,
        pub tag_id: i32,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

fn shop() -> afterimage::Builder {
    Afterimage::builder()
        .track::<order::Entity>(|t| {
            t.delta().mask(order::Column::Total).label(order::Column::Status).related::<item::Entity>()
        })
        .track::<item::Entity>(|t| t.exclude(item::Column::Name))
        .track::<customer::Entity>(|t| t)
        .track::<order_tag::Entity>(|t| t.snapshot())
        .table("tag", Tracking::new())
}

on_every_database! {
    async fn it_is_installed_once_and_followed(db: &mut TestDb) {
        db.run(SCHEMA).await;
        db.run(ROWS).await;
        let audit = &db.audit;
        let missing = message(shop().check(audit).await);
        assert!(missing.contains("\"orders\" is not tracked"), "{missing}");
        if !db.is_mariadb() {
            let planned = shop().plan(audit).await.unwrap();
            assert_eq!(planned.len(), 5);
        }
        shop().install(audit).await.unwrap();
        shop().check(audit).await.unwrap();
        let before = audit.status().await.unwrap();
        shop().install(audit).await.unwrap();
        assert_eq!(before, audit.status().await.unwrap(), "a second time changes nothing");
        let tracking = audit.tracking("orders").await.unwrap().unwrap();
        assert_eq!(
            tracking,
            Tracking::new().storage(Storage::Delta).mask(["total"]).label("status").related(["item"])
        );
        db.run("ALTER TABLE customer ADD COLUMN note VARCHAR(20)").await;
        let drifted = message(shop().check(&db.audit).await);
        assert!(drifted.contains("note") && drifted.contains("migrate"), "{drifted}");
        shop().install(&db.audit).await.unwrap();
        shop().check(&db.audit).await.unwrap();
        let other = Afterimage::builder().table("tag", Tracking::new().storage(Storage::Delta));
        assert!(message(other.check(&db.audit).await).contains("other options"));
        db.verify().await;
    }
}

on_every_database! {
    async fn what_does_not_fit_is_named(db: &mut TestDb) {
        let builder = Afterimage::builder().track::<tag::Entity>(|t| t);
        let missing = message(builder.install(&db.audit).await);
        assert!(missing.contains("there is no table \"tag\""), "{missing}");
        db.run(SCHEMA).await;
        let wider = message(Afterimage::builder().track::<wider::Entity>(|t| t).install(&db.audit).await);
        assert!(wider.contains("a column \"colour\" that the table has not"), "{wider}");
        let key = message(Afterimage::builder().track::<keyless::Entity>(|t| t).install(&db.audit).await);
        assert!(key.contains("model's key is (order_id), the table's is (order_id, tag_id)"), "{key}");
        assert!(db.audit.status().await.unwrap().is_empty());
    }
}

on_every_database! {
    async fn the_pool_of_the_orm_is_the_one_that_is_used(db: &mut TestDb) {
        db.run(SCHEMA).await;
        let mut options = ConnectOptions::new(db.url.replace("mariadb://", "mysql://"));
        options.max_connections(2);
        let connection = sea_orm::Database::connect(options).await.unwrap();
        let audit = Afterimage::from_sea_orm(&connection).unwrap();
        shop().install(&audit).await.unwrap();
        assert_eq!(order::Entity::find().count(&connection).await.unwrap(), 0);
        assert_eq!(audit.database(), db.audit.database());
    }
}
