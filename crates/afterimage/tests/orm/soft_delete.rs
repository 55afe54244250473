//! Rows that are marked as deleted.

use afterimage::orm::{SoftDelete, Tracked as _};
use afterimage::{Context, Tracking};
use sea_orm::{EntityTrait as _, PaginatorTrait as _};

use crate::on_every_database;
use crate::support::*;

mod note {
    use sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "note")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub book: i32,
        #[sea_orm(primary_key, auto_increment = false)]
        pub page: i32,
        pub deleted_at: Option<DateTime>,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

impl SoftDelete for note::Entity {
    fn deleted_at() -> note::Column {
        note::Column::DeletedAt
    }
}

on_every_database! {
    async fn the_history_tells_when_and_by_whom(db: &mut TestDb) {
        let kind = db.by3("TIMESTAMP", "TIMESTAMP", "DATETIME");
        db.run(&format!("CREATE TABLE note (book INTEGER, page INTEGER, deleted_at {kind} NULL, PRIMARY KEY (book, page))")).await;
        db.run("INSERT INTO note (book, page) VALUES (1, 1), (1, 2)").await;
        db.track("note", Tracking::new()).await;
        for (actor, gone) in [("ann", true), ("bob", false)] {
            let tx = db.audit.begin(&Context::actor(actor)).await.unwrap();
            let done = async |again: bool| {
                let changed = if gone {
                    note::Entity::soft_delete((1, 2), &tx).await
                } else {
                    note::Entity::undelete((1, 2), &tx).await
                };
                assert_eq!(changed.unwrap(), !again);
            };
            done(false).await;
            done(true).await;
            assert!(!note::Entity::soft_delete((9, 9), &tx).await.unwrap());
            let (present, deleted) = if gone { (1, 1) } else { (2, 0) };
            assert_eq!(note::Entity::find_present().count(&tx).await.unwrap(), present);
            assert_eq!(note::Entity::find_deleted().count(&tx).await.unwrap(), deleted);
            assert_eq!(note::Entity::find().count(&tx).await.unwrap(), 2);
            tx.commit().await.unwrap();
        }
        let deletions = note::Entity::history_of((1, 2)).changed(note::Column::DeletedAt).by("ann").all(&db.audit).await.unwrap();
        assert!(deletions[0].model.deleted_at.is_some());
        let back = note::Entity::history_of((1, 2)).one(&db.audit).await.unwrap().unwrap();
        assert_eq!((back.header.user.as_deref(), back.model.deleted_at), (Some("bob"), None));
        db.verify().await;
    }
}
