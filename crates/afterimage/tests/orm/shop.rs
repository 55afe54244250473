//! A shop's models, as anybody would write them.

pub mod customer {
    use sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "customer")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i32,
        pub name: String,
        #[sea_orm(has_many)]
        pub orders: HasMany<super::order::Entity>,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

pub mod order {
    use sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "orders")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i32,
        pub customer_id: Option<i32>,
        pub status: String,
        pub total: i32,
        #[sea_orm(belongs_to, from = "customer_id", to = "id")]
        pub customer: BelongsTo<Option<super::customer::Entity>>,
        #[sea_orm(has_many)]
        pub items: HasMany<super::item::Entity>,
        #[sea_orm(has_many, via = "order_tag")]
        pub tags: HasMany<super::tag::Entity>,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

pub mod item {
    use sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "item")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i32,
        pub order_id: i32,
        pub name: String,
        #[sea_orm(belongs_to, from = "order_id", to = "id")]
        pub order: BelongsTo<super::order::Entity>,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

pub mod tag {
    use sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "tag")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i32,
        pub name: String,
        #[sea_orm(has_many, via = "order_tag")]
        pub orders: HasMany<super::order::Entity>,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

pub mod order_tag {
    use sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "order_tag")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub order_id: i32,
        #[sea_orm(primary_key, auto_increment = false)]
        pub tag_id: i32,
        #[sea_orm(belongs_to, from = "order_id", to = "id")]
        pub order: BelongsTo<super::order::Entity>,
        #[sea_orm(belongs_to, from = "tag_id", to = "id")]
        pub tag: BelongsTo<super::tag::Entity>,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

pub const TABLES: [&str; 5] = ["customer", "orders", "item", "tag", "order_tag"];

pub const SCHEMA: &str = "
    CREATE TABLE customer (id INTEGER PRIMARY KEY, name VARCHAR(100) NOT NULL);
    CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER REFERENCES customer (id),
      status VARCHAR(20) NOT NULL, total INTEGER NOT NULL);
    CREATE TABLE item (id INTEGER PRIMARY KEY, order_id INTEGER NOT NULL REFERENCES orders (id), name VARCHAR(100) NOT NULL);
    CREATE TABLE tag (id INTEGER PRIMARY KEY, name VARCHAR(100) NOT NULL);
    CREATE TABLE order_tag (order_id INTEGER NOT NULL REFERENCES orders (id), tag_id INTEGER NOT NULL REFERENCES tag (id),
      PRIMARY KEY (order_id, tag_id))";

pub const ROWS: &str = "
    INSERT INTO customer VALUES (1, 'Ann'), (2, 'Bob');
    INSERT INTO orders VALUES (1, 1, 'open', 100), (2, 1, 'open', 200), (3, 2, 'paid', 300);
    INSERT INTO item VALUES (1, 1, 'pen'), (2, 1, 'ink'), (3, 2, 'desk');
    INSERT INTO tag VALUES (1, 'gift'), (2, 'rush');
    INSERT INTO order_tag VALUES (1, 1), (2, 2)";
