//! The sides of a comparison in this process: each way to write, without an audit trail and with one in either storage.

use afterimage::{Afterimage, Context, Tx};
use sea_orm::{
    ActiveModelTrait as _, ConnectionTrait, DatabaseConnection, EntityTrait as _, Set, TransactionTrait as _,
};
use sqlx::AssertSqlSafe;

use crate::Outcome;
use crate::bare;
use crate::database::{Bench, Connection, Kind, PRAGMAS, TABLES};
use crate::orders::Order;
use crate::report::Side;

/// Statements for many rows: the plain table, and one tracked in each storage.
pub(crate) fn tables() -> Vec<(Side, &'static str)> {
    sides("")
}

/// The same, and what somebody wrote by hand who wanted no more than a copy of each row.
pub(crate) fn tables_and_bare() -> Vec<(Side, &'static str)> {
    and_bare("")
}

/// Those that have a history.
pub(crate) fn tracked() -> Vec<(Side, &'static str)> {
    tables().into_iter().filter(|(side, _)| side.name != side.base).collect()
}

fn sides(how: &str) -> Vec<(Side, &'static str)> {
    let named = |name: &str| format!("{name}{how}");
    TABLES
        .into_iter()
        .map(|(name, table)| (Side { name: named(name), base: named("plain") }, table))
        .collect()
}

fn and_bare(how: &str) -> Vec<(Side, &'static str)> {
    let mut sides = sides(how);
    sides.insert(1, (bare_doing(how), bare::TABLE));
    sides
}

/// A trigger that somebody wrote by hand.
pub(crate) fn bare_side() -> Side {
    bare_doing("")
}

fn bare_doing(how: &str) -> Side {
    Side { name: format!("bare trigger{how}"), base: format!("plain{how}") }
}

/// How a single row is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layer {
    /// One statement, which commits by itself, of somebody who does not say who it is.
    Alone,
    /// A transaction of a client that knows the database only.
    Client,
    /// A transaction of this library's, and of a pool of the driver's.
    Sqlx,
    /// The same through SeaORM.
    SeaOrm,
}

impl Layer {
    pub(crate) const ALL: [Self; 4] = [Self::Alone, Self::Client, Self::Sqlx, Self::SeaOrm];

    pub(crate) fn sides(self) -> Vec<(Side, &'static str)> {
        match self {
            Self::Alone => and_bare(", one statement"),
            Self::Client => and_bare(", SQL"),
            Self::Sqlx => sides(", sqlx"),
            Self::SeaOrm => sides(", SeaORM"),
        }
    }
}

macro_rules! entity {
    ($($module:ident: $table:literal),*) => {
        $(
            /// The orders of one side.
            #[allow(unreachable_pub)] // What the derived code wants to be `pub` is so within this module.
            mod $module {
                use sea_orm::entity::prelude::*;

                #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
                #[sea_orm(table_name = $table)]
                pub struct Model {
                    #[sea_orm(primary_key, auto_increment = false)]
                    pub id: i64,
                    pub status: String,
                    pub total: Decimal,
                    pub customer_notes: String,
                    pub internal_notes: String,
                    pub created_at: DateTimeUtc,
                    pub last_modified_at: DateTimeUtc,
                }

                #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
                pub enum Relation {}

                impl ActiveModelBehavior for ActiveModel {}
            }
        )*
    };
}

entity!(plain: "orders_plain", snapshot: "orders_snapshot", delta: "orders_delta");

/// One write of a single row.
#[derive(Debug, Clone)]
pub(crate) enum Write {
    Create(Order),
    Update(Order),
    Delete(i64),
}

impl Write {
    fn sql(&self, kind: Kind, table: &str) -> String {
        let sql = match self {
            Self::Create(_) => {
                format!("INSERT INTO {table} VALUES (?, ?, ? / 100.0, ?, ?, '2026-01-01', '2026-01-01')")
            }
            Self::Update(_) => format!("UPDATE {table} SET status = ?, total = ? / 100.0 WHERE id = ?"),
            Self::Delete(_) => format!("DELETE FROM {table} WHERE id = ?"),
        };
        if kind != Kind::Postgres {
            return sql;
        }
        let mut parts =
            sql.replace("? / 100.0", "?::bigint / 100.0").split('?').map(str::to_owned).collect::<Vec<_>>();
        let last = parts.pop().unwrap_or_default();
        parts.iter().zip(1..).map(|(part, n)| format!("{part}${n}")).collect::<String>() + &last
    }
}

/// Executes a write on a connection of whichever driver.
macro_rules! execute {
    ($write:expr, $sql:expr, $connection:expr) => {{
        let query = sqlx::query(AssertSqlSafe($sql));
        match $write {
            Write::Create(Order { id, status, cents, customer_notes, internal_notes }) => {
                query
                    .bind(id)
                    .bind(status)
                    .bind(cents)
                    .bind(customer_notes)
                    .bind(internal_notes)
                    .execute($connection)
                    .await?;
            }
            Write::Update(order) => {
                query.bind(order.status).bind(order.cents).bind(order.id).execute($connection).await?;
            }
            Write::Delete(id) => {
                query.bind(id).execute($connection).await?;
            }
        }
    }};
}

/// A program with a pool, which writes through the library, and through SeaORM.
#[derive(Debug)]
pub(crate) struct Program {
    kind: Kind,
    orm: DatabaseConnection,
    audit: Afterimage,
}

impl Program {
    pub(crate) async fn open(bench: &Bench, durable: bool) -> Outcome<Self> {
        let mut options = sea_orm::ConnectOptions::new(bench.url().replace("mariadb://", "mysql://"));
        options.max_connections(1).sqlx_logging(false);
        let orm = sea_orm::Database::connect(options).await?;
        if bench.kind == Kind::Sqlite {
            for pragma in PRAGMAS {
                orm.execute_unprepared(pragma).await?;
            }
        }
        orm.execute_unprepared(bench.durability(durable)).await?;
        let audit = Afterimage::from_sea_orm(&orm)?;
        Ok(Self { kind: bench.kind, orm, audit })
    }

    /// Makes one write in a transaction of its own.
    pub(crate) async fn write(&self, layer: Layer, table: &str, write: &Write, user: &str) -> Outcome {
        match (layer, table) {
            (Layer::SeaOrm, "orders_plain") => {
                let tx = self.orm.begin().await?;
                plainly(&tx, write).await?;
                tx.commit().await?;
            }
            (Layer::SeaOrm, _) => {
                let tx: Tx = self.audit.begin(&Context::actor(user)).await?;
                match table {
                    "orders_snapshot" => in_snapshot(&tx, write).await?,
                    _ => in_delta(&tx, write).await?,
                }
                tx.commit().await?;
            }
            (_, "orders_plain") => {
                let sql = write.sql(self.kind, table);
                macro_rules! in_transaction {
                    ($pool:expr) => {{
                        let mut tx = $pool.begin().await?;
                        execute!(write, sql, &mut *tx);
                        tx.commit().await?;
                    }};
                }
                match self.kind {
                    Kind::Postgres => in_transaction!(self.orm.get_postgres_connection_pool()),
                    Kind::Sqlite => in_transaction!(self.orm.get_sqlite_connection_pool()),
                    Kind::MariaDb => in_transaction!(self.orm.get_mysql_connection_pool()),
                }
            }
            _ => {
                let sql = write.sql(self.kind, table);
                let mut tx = self.audit.begin(&Context::actor(user)).await?;
                match self.kind {
                    Kind::Postgres => execute!(write, sql, tx.postgres()?),
                    Kind::Sqlite => execute!(write, sql, tx.sqlite()?),
                    Kind::MariaDb => execute!(write, sql, tx.mariadb()?),
                }
                tx.commit().await?;
            }
        }
        Ok(())
    }
}

impl Bench {
    /// Makes one write as a client that knows the database only.
    pub(crate) async fn write(&mut self, layer: Layer, table: &str, write: &Write, user: &str) -> Outcome {
        let (begin, end) = transaction(self.kind, table, user);
        if layer == Layer::Client {
            self.run(&begin).await?;
        }
        let sql = write.sql(self.kind, table);
        match self.connection() {
            Connection::Postgres(connection) => execute!(write, sql, connection),
            Connection::Sqlite(connection) => execute!(write, sql, connection),
            Connection::MariaDb(connection) => execute!(write, sql, connection),
        }
        if layer == Layer::Client {
            self.run(end).await?;
        }
        Ok(())
    }
}

/// How a transaction that says who writes begins and ends. The plain side of PostgreSQL and MariaDB, and the bare trigger, send the same
/// messages; SQLite's context has a table of its own, so these go without.
fn transaction(kind: Kind, table: &str, user: &str) -> (String, &'static str) {
    match kind {
        Kind::Postgres => (
            format!("BEGIN; SELECT set_config('afterimage.context', '{{\"actor\":\"{user}\"}}', true)"),
            "COMMIT",
        ),
        Kind::Sqlite if matches!(table, "orders_plain" | bare::TABLE) => {
            ("BEGIN IMMEDIATE".to_owned(), "COMMIT")
        }
        Kind::Sqlite => (
            format!("BEGIN IMMEDIATE; INSERT INTO afterimage_context (actor) VALUES ('{user}')"),
            "DELETE FROM afterimage_context; COMMIT",
        ),
        Kind::MariaDb => (
            format!("START TRANSACTION; INSERT INTO afterimage_context (actor) VALUES ('{user}')"),
            "DELETE FROM afterimage_context WHERE number = @afterimage_context; COMMIT",
        ),
    }
}

macro_rules! writer {
    ($($name:ident: $module:ident),*) => {
        $(
            async fn $name(tx: &impl ConnectionTrait, write: &Write) -> Outcome {
                use sea_orm::prelude::{Decimal, DateTimeUtc};
                let time: DateTimeUtc = std::time::SystemTime::UNIX_EPOCH.into();
                match write {
                    Write::Create(order) => {
                        $module::ActiveModel {
                            id: Set(order.id),
                            status: Set(order.status.to_owned()),
                            total: Set(Decimal::new(order.cents, 2)),
                            customer_notes: Set(order.customer_notes.clone()),
                            internal_notes: Set(order.internal_notes.clone()),
                            created_at: Set(time),
                            last_modified_at: Set(time),
                        }
                        .insert(tx)
                        .await?;
                    }
                    Write::Update(order) => {
                        $module::ActiveModel {
                            id: Set(order.id),
                            status: Set(order.status.to_owned()),
                            total: Set(Decimal::new(order.cents, 2)),
                            ..Default::default()
                        }
                        .update(tx)
                        .await?;
                    }
                    Write::Delete(id) => {
                        $module::Entity::delete_by_id(*id).exec(tx).await?;
                    }
                }
                Ok(())
            }
        )*
    };
}

writer!(plainly: plain, in_snapshot: snapshot, in_delta: delta);
