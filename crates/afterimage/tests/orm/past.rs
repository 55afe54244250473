//! The past, as a connection of SeaORM's, and for statements as they are.

use afterimage::{Past, Storage, Tracking};
use futures_util::TryStreamExt as _;
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, ConnectionTrait as _, DerivePartialModel,
    EntityLoaderTrait as _, EntityTrait as _, ExprTrait as _, FromQueryResult, LoaderTrait as _,
    PaginatorTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _, QueryTrait as _,
    RelationTrait as _, Set, Statement,
};

use crate::on_every_database;
use crate::shop::{ROWS, SCHEMA, TABLES, customer, item, order, order_tag, tag};
use crate::support::*;

/// A shop whose every table changed after the moment that is given back.
async fn shop(db: &mut TestDb, storage: Storage) -> Past {
    db.run(SCHEMA).await;
    db.run(ROWS).await;
    for table in TABLES {
        db.track(table, Tracking::new().storage(storage)).await;
    }
    db.run("UPDATE orders SET status = 'packed', total = total + 11 WHERE id = 1").await;
    let then = db.moment().await;
    for change in [
        "UPDATE orders SET status = 'cancelled', total = 0, customer_id = 2",
        "DELETE FROM order_tag WHERE order_id = 1",
        "INSERT INTO order_tag VALUES (3, 1)",
        "DELETE FROM item WHERE id = 2",
        "UPDATE item SET name = 'pencil', order_id = 3 WHERE id = 1",
        "UPDATE customer SET name = 'Anna' WHERE id = 1",
        "UPDATE tag SET name = 'present' WHERE id = 1",
        "INSERT INTO orders VALUES (4, 1, 'open', 400)",
    ] {
        db.run(change).await;
    }
    db.audit.at(then).await.unwrap()
}

fn ids(orders: &[order::Model]) -> Vec<i32> {
    orders.iter().map(|order| order.id).collect()
}

#[derive(DerivePartialModel)]
#[sea_orm(entity = "order::Entity")]
struct Short {
    id: i32,
    status: String,
}

#[derive(FromQueryResult)]
struct Sum {
    customer: String,
    total: i64,
}

on_every_database! {
    async fn every_query_of_the_orm_sees_it(db: &mut TestDb) {
        for storage in STORAGES {
            let mut db = db.like().await;
            let past = shop(&mut db, storage).await;
            let one = order::Entity::find_by_id(1).one(&past).await.unwrap().unwrap();
            assert_eq!(one, order::Model { id: 1, customer_id: Some(1), status: "packed".to_owned(), total: 111 });
            assert!(order::Entity::find_by_id(4).one(&past).await.unwrap().is_none(), "it is not there yet");

            let open = order::Entity::find().filter(order::Column::Status.eq("open"));
            assert_eq!(ids(&open.clone().all(&past).await.unwrap()), [2]);
            assert_eq!(open.count(&past).await.unwrap(), 1);
            assert_eq!(order::Entity::find().count(&past).await.unwrap(), 3);

            // Joins: one to one, one to many, many to many; from both sides.
            let found = order::Entity::find_by_id(1).find_also_related(customer::Entity).one(&past).await;
            assert_eq!(found.unwrap().unwrap().1.unwrap().name, "Ann");
            let found = order::Entity::find()
                .find_with_related(item::Entity)
                .order_by_asc(order::Column::Id)
                .order_by_asc(item::Column::Id)
                .all(&past)
                .await
                .unwrap();
            let names: Vec<Vec<&str>> =
                found.iter().map(|(_, items)| items.iter().map(|item| item.name.as_str()).collect()).collect();
            assert_eq!(names, [vec!["pen", "ink"], vec!["desk"], vec![]]);
            let found = tag::Entity::find_by_id(1).find_with_related(order::Entity).all(&past).await.unwrap();
            assert_eq!((found[0].0.name.as_str(), ids(&found[0].1)), ("gift", vec![1]));

            // Loaders, those of the second kind too, and streams.
            let orders = order::Entity::find().order_by_asc(order::Column::Id).all(&past).await.unwrap();
            let items = orders.load_many(item::Entity, &past).await.unwrap();
            assert_eq!(items.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 0]);
            let tags = orders.load_many_to_many(tag::Entity, order_tag::Entity, &past).await.unwrap();
            assert_eq!(tags.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 0]);
            let loaded = order::Entity::load()
                .filter_by_id(1)
                .with(customer::Entity)
                .with(item::Entity)
                .with(tag::Entity)
                .one(&past)
                .await
                .unwrap()
                .unwrap();
            assert_eq!(loaded.customer.as_ref().unwrap().name, "Ann");
            assert_eq!(loaded.items.len(), 2);
            assert_eq!(loaded.tags[0].name, "gift");
            let mut streamed = order::Entity::find().order_by_desc(order::Column::Id).stream(&past).await.unwrap();
            assert_eq!(streamed.try_next().await.unwrap().unwrap().id, 3);
            drop(streamed);

            // Pages, cursors, parts of models, sums by raw columns, subqueries, unions.
            let pages = order::Entity::find().order_by_asc(order::Column::Id).paginate(&past, 2);
            assert_eq!(pages.num_pages().await.unwrap(), 2);
            assert_eq!(ids(&pages.fetch_page(1).await.unwrap()), [3]);
            let mut cursor = order::Entity::find().cursor_by(order::Column::Id);
            assert_eq!(ids(&cursor.after(1).first(5).all(&past).await.unwrap()), [2, 3]);
            let short = order::Entity::find_by_id(1).into_partial_model::<Short>().one(&past).await.unwrap().unwrap();
            assert_eq!((short.id, short.status.as_str()), (1, "packed"));
            let sums = order::Entity::find()
                .select_only()
                .column_as(customer::Column::Name, "customer")
                .column_as(order::Column::Total.sum().cast_as(db.by3("BIGINT", "BIGINT", "SIGNED")), "total")
                .join(sea_orm::JoinType::InnerJoin, order::Relation::Customer.def())
                .group_by(customer::Column::Name)
                .order_by_asc(customer::Column::Name)
                .into_model::<Sum>()
                .all(&past)
                .await
                .unwrap();
            let sums: Vec<(&str, i64)> = sums.iter().map(|sum| (sum.customer.as_str(), sum.total)).collect();
            assert_eq!(sums, [("Ann", 311), ("Bob", 300)]);
            let with_items = order::Entity::find().filter(order::Column::Id.in_subquery(
                item::Entity::find().select_only().column(item::Column::OrderId).into_query(),
            ));
            let with_items = with_items.order_by_asc(order::Column::Id).all(&past).await.unwrap();
            assert_eq!(ids(&with_items), [1, 2]);
            let pairs: Vec<(i32, String)> = order::Entity::find()
                .select_only()
                .columns([order::Column::Id, order::Column::Status])
                .order_by_asc(order::Column::Id)
                .limit(1)
                .into_tuple()
                .all(&past)
                .await
                .unwrap();
            assert_eq!(pairs, [(1, "packed".to_owned())]);

            // The same connection, asked again after more was written, tells the same.
            db.run("UPDATE orders SET total = -1").await;
            assert_eq!(order::Entity::find_by_id(1).one(&past).await.unwrap().unwrap().total, 111);
        }
    }
}

on_every_database! {
    async fn nothing_is_written(db: &mut TestDb) {
        let past = shop(db, Storage::Snapshot).await;
        let stolen = order::ActiveModel { id: Set(1), total: Set(1), ..Default::default() }.update(&past).await;
        assert!(stolen.unwrap_err().to_string().contains("the past can only be read"));
        assert!(order::Entity::delete_by_id(1).exec(&past).await.is_err());
        let new = tag::ActiveModel { id: Set(9), name: Set("x".to_owned()) };
        assert!(tag::Entity::insert(new).exec(&past).await.is_err());
        assert!(past.execute_unprepared("DELETE FROM item").await.is_err());
        let backend = past.get_database_backend();
        for sql in [
            "DELETE FROM item RETURNING id",
            "SELECT 1; DELETE FROM item",
            "WITH gone AS (DELETE FROM item RETURNING id) SELECT * FROM gone",
            "SELECT * FROM orders FOR UPDATE",
            "SELECT * INTO taken FROM orders",
            "CREATE TABLE x (id INTEGER)",
            "PRAGMA user_version = 1",
            "VACUUM",
        ] {
            let refused = past.query_all_raw(Statement::from_string(backend, sql)).await;
            let refused = refused.map(|rows| rows.len()).unwrap_err().to_string();
            assert!(refused.contains("cannot be asked of the past"), "{sql}: {refused}");
        }
        assert_eq!(order::Entity::find().count(&past).await.unwrap(), 3, "and it can still be asked");
        db.verify().await;
    }
}

on_every_database! {
    async fn what_is_not_known_is_refused_by_name(db: &mut TestDb) {
        db.run("CREATE TABLE rate (id INTEGER PRIMARY KEY, percent INTEGER); INSERT INTO rate VALUES (1, 19)").await;
        db.run("CREATE VIEW open_orders AS SELECT * FROM rate").await;
        let past = shop(db, Storage::Snapshot).await;
        let ask = async |past: &Past, sql: &str| {
            let rows = past.query_all_raw(Statement::from_string(past.get_database_backend(), sql)).await;
            rows.map(|rows| rows.len()).map_err(|error| error.to_string())
        };
        for table in ["rate", "open_orders"] {
            let refused = ask(&past, &format!("SELECT * FROM orders, {table}")).await.unwrap_err();
            assert!(refused.contains(&format!("{table:?} is not tracked")), "{refused}");
        }
        assert!(ask(&past, "SELECT * FROM nowhere").await.unwrap_err().contains("there is no table"));
        let clash = ask(&past, "WITH orders AS (SELECT * FROM orders) SELECT * FROM orders").await.unwrap_err();
        assert!(clash.contains("call it something else"), "{clash}");
        let past = past.and_today("rate");
        assert_eq!(ask(&past, "SELECT * FROM orders, rate").await.unwrap(), 3);
        let earlier = db.audit.at(afterimage::PointInTime::parse("2001-01-01", "UTC").unwrap()).await.unwrap();
        let refused = ask(&earlier, "SELECT * FROM orders").await.unwrap_err();
        assert!(refused.contains("it is tracked since"), "{refused}");
    }
}

on_every_database! {
    async fn columns_of_today_hold_what_was(db: &mut TestDb) {
        for storage in STORAGES {
            let mut db = db.like().await;
            db.run("CREATE TABLE doc (id INTEGER PRIMARY KEY, title VARCHAR(50), card VARCHAR(20), pin INTEGER, cache VARCHAR(50))").await;
            db.run("INSERT INTO doc VALUES (1, 'one', '4111', 7, 'c1'), (2, 'two', NULL, NULL, 'c2')").await;
            let tracking = Tracking::new().storage(storage).mask(["card", "pin"]).exclude(["cache"]);
            db.track("doc", tracking).await;
            let then = db.moment().await;
            db.run("UPDATE doc SET title = 'uno', cache = 'c1 of today' WHERE id = 1").await;
            db.run("DELETE FROM doc WHERE id = 2").await;
            db.alter("doc", "ALTER TABLE doc RENAME COLUMN title TO heading").await;
            db.alter("doc", "ALTER TABLE doc ADD COLUMN pages INTEGER NOT NULL DEFAULT 3").await;
            db.alter("doc", "ALTER TABLE doc ADD COLUMN note VARCHAR(20)").await;
            let past = db.audit.at(then).await.unwrap();
            let rows = past
                .query_all_raw(Statement::from_string(
                    past.get_database_backend(),
                    "SELECT id, heading, card, pin, cache, pages, note FROM doc ORDER BY id",
                ))
                .await
                .unwrap();
            let seen: Vec<_> = rows
                .iter()
                .map(|row| {
                    let text = |name: &str| row.try_get::<Option<String>>("", name).unwrap();
                    let number = |name: &str| row.try_get::<Option<i32>>("", name).unwrap();
                    (number("id"), text("heading"), text("card"), number("pin"), text("cache"), number("pages"), text("note"))
                })
                .collect();
            let some = |text: &str| Some(text.to_owned());
            assert_eq!(
                seen,
                [
                    (Some(1), some("one"), some("•••"), None, some("c1 of today"), Some(3), None),
                    (Some(2), some("two"), None, None, None, Some(3), None),
                ]
            );
        }
    }
}

/// The same tables in a schema of their own.
mod elsewhere {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(schema_name = "depot", table_name = "orders")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i32,
        pub status: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

#[tokio::test]
async fn a_schema_is_named_and_handled() {
    let mut db = TestDb::postgres().await;
    let _ = shop(&mut db, Storage::Snapshot).await;
    db.run("CREATE SCHEMA depot; CREATE TABLE depot.orders (id INTEGER PRIMARY KEY, status VARCHAR(20) NOT NULL); INSERT INTO depot.orders VALUES (7, 'here')").await;
    db.track("depot.orders", Tracking::new()).await;
    let then = db.moment().await;
    db.run("UPDATE depot.orders SET status = 'gone'").await;
    let past = db.audit.at(then).await.unwrap();
    let found =
        elsewhere::Entity::find().filter(elsewhere::Column::Status.eq("here")).all(&past).await.unwrap();
    assert_eq!(found, [elsewhere::Model { id: 7, status: "here".to_owned() }]);
    assert_eq!(order::Entity::find().count(&past).await.unwrap(), 4, "beside the one of the same name");
    let both = Statement::from_string(
        past.get_database_backend(),
        "SELECT o.id FROM orders AS o JOIN depot.orders AS d ON d.status = 'here'",
    );
    assert_eq!(past.query_all_raw(both).await.unwrap().len(), 4);
}

#[tokio::test]
async fn masked_texts_in_an_array_are_null() {
    let mut db = TestDb::postgres().await;
    db.run("CREATE TABLE card (id int PRIMARY KEY, numbers varchar(20)[]); INSERT INTO card VALUES (1, '{4111,5555}')").await;
    db.track("card", Tracking::new().mask(["numbers"])).await;
    let past = db.audit.at(now()).await.unwrap();
    let rows: Vec<(i32, Option<Vec<String>>)> =
        past.postgres().fetch_all(sqlx::query("SELECT id, numbers FROM card")).await.unwrap();
    assert_eq!(rows, [(1, None)]);
}

/// A struct of one's own, as `#[derive(FromRow)]` would make it: that would compile sqlx and its drivers once more, for the compiler.
macro_rules! from_row {
    ($(#[$about:meta])* struct $name:ident { $($field:ident: $type:ty),* $(,)? }) => {
        $(#[$about])*
        #[derive(Debug, PartialEq)]
        struct $name { $($field: $type),* }

        impl<'r, R: sqlx::Row> sqlx::FromRow<'r, R> for $name
        where
            &'static str: sqlx::ColumnIndex<R>,
            $($type: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,)*
        {
            fn from_row(row: &'r R) -> sqlx::Result<Self> {
                Ok(Self { $($field: row.try_get(stringify!($field))?),* })
            }
        }
    };
}

from_row! {
    /// A line of a query that joins.
    struct Line {
        id: i32,
        name: String,
        total: i32,
    }
}

from_row! {
    /// A version, its record's columns beside the row's.
    struct Told {
        history_type: String,
        history_user: Option<String>,
        status: String,
        total: i32,
    }
}

const LINES: &str = "SELECT o.id, c.name, o.total FROM orders AS o JOIN customer AS c ON c.id = o.customer_id WHERE o.total > ? ORDER BY o.id";

const VERSIONS: &str = "SELECT * FROM orders WHERE id = ? ORDER BY history_date DESC, history_id DESC";

async fn asked<T>(past: &Past, sql: &'static str, parameter: i32) -> Vec<T>
where
    T: for<'r> sqlx::FromRow<'r, sqlx::sqlite::SqliteRow>
        + for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow>
        + for<'r> sqlx::FromRow<'r, sqlx::mysql::MySqlRow>,
{
    match past.get_database_backend() {
        sea_orm::DbBackend::Postgres => {
            let sql = sqlx::AssertSqlSafe(sql.replace('?', "$1"));
            past.postgres().fetch_all(sqlx::query(sql).bind(parameter)).await.unwrap()
        }
        sea_orm::DbBackend::MySql => {
            past.mariadb().fetch_all(sqlx::query(sql).bind(parameter)).await.unwrap()
        }
        _ => past.sqlite().fetch_all(sqlx::query(sql).bind(parameter)).await.unwrap(),
    }
}

on_every_database! {
    async fn queries_of_sqlx_see_it_too(db: &mut TestDb) {
        for storage in STORAGES {
            let mut db = db.like().await;
            let past = shop(&mut db, storage).await;
            let line = |id, name: &str, total| Line { id, name: name.to_owned(), total };
            assert_eq!(asked::<Line>(&past, LINES, 150).await, [line(2, "Ann", 200), line(3, "Bob", 300)]);

            let versions = db.audit.all_versions().await.unwrap();
            let told = |sign: &str, status: &str, total| Told {
                history_type: sign.to_owned(),
                history_user: None,
                status: status.to_owned(),
                total,
            };
            assert_eq!(
                asked::<Told>(&versions, VERSIONS, 1).await,
                [told("~", "cancelled", 0), told("~", "packed", 111), told("+", "open", 100)]
            );
            let sql = past.sql("SELECT count(*) FROM orders WHERE status = 'packed'").await.unwrap();
            assert!(sql.contains("afterimage_then_0") && sql.contains("WHERE status = 'packed'"));
            assert_eq!(past.sql("SELECT 1 AS one").await.unwrap(), "SELECT 1 AS one", "which reads no table");
        }
    }
}

/// MariaDB is told statements without parameters another way.
#[tokio::test]
async fn values_are_the_same_with_and_without_parameters_on_mariadb() {
    type Values = (u64, bool, f32, f64, String, Vec<u8>, Option<i16>);
    let db = &mut TestDb::mariadb().await;
    db.run("CREATE TABLE t (id BIGINT UNSIGNED PRIMARY KEY, yes BOOLEAN, f FLOAT, d DOUBLE, t TEXT, b VARBINARY(9), n SMALLINT)").await;
    db.track("t", Tracking::new()).await;
    db.run(
        "INSERT INTO t VALUES (18446744073709551615, 1, 0.1, 1e100, CONCAT('it''s ''é'' ', CHAR(92), ' 🐢'), X'00FF27', NULL)",
    )
    .await;
    let then = db.moment().await;
    let past = db.audit.at(then).await.unwrap();
    let without = "SELECT id, yes, f, d, t, b, n FROM t WHERE t LIKE 'it''s %' /* ; DROP TABLE t; */";
    let without: Vec<Values> = past.mariadb().fetch_all(sqlx::query(without)).await.unwrap();
    let with = sqlx::query("SELECT id, yes, f, d, t, b, n FROM t WHERE d > ?").bind(1.0);
    assert_eq!(without, past.mariadb().fetch_all::<Values>(with).await.unwrap());
    let told = (u64::MAX, true, 0.1, 1e100, r"it's 'é' \ 🐢".to_owned(), vec![0, 255, 39], None);
    assert_eq!(without, [told]);
}
