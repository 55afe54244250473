//! Rows that are marked as deleted instead of being deleted.

use sea_orm::sea_query::{Expr, ExprTrait as _, IntoValueTuple as _};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, EntityTrait, Iterable as _, PrimaryKeyToColumn as _, PrimaryKeyTrait,
    QueryFilter as _, Select,
};

use crate::error::Result;

/// The type of an entity's key.
pub type KeyOf<E> = <<E as EntityTrait>::PrimaryKey as PrimaryKeyTrait>::ValueType;

/// An entity with a column that says when a row was deleted, and is NULL as long as it was not.
///
/// To the history that is a change like any other: [`history_of`](super::Tracked::history_of) with
/// [`changed`](super::History::changed) tells when and by whom a row was deleted, and brought back.
///
/// ```
/// use afterimage::orm::SoftDelete;
///
/// mod note {
///     use sea_orm::entity::prelude::*;
///
///     #[sea_orm::model]
///     #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
///     #[sea_orm(table_name = "note")]
///     pub struct Model {
///         #[sea_orm(primary_key)]
///         pub id: i32,
///         pub deleted_at: Option<String>,
///     }
///
///     impl ActiveModelBehavior for ActiveModel {}
/// }
///
/// impl SoftDelete for note::Entity {
///     fn deleted_at() -> note::Column {
///         note::Column::DeletedAt
///     }
/// }
/// ```
pub trait SoftDelete: EntityTrait {
    /// The column.
    fn deleted_at() -> Self::Column;

    /// The rows that are not deleted.
    fn find_present() -> Select<Self> {
        Self::find().filter(Self::deleted_at().is_null())
    }

    /// The rows that are.
    fn find_deleted() -> Select<Self> {
        Self::find().filter(Self::deleted_at().is_not_null())
    }

    /// Marks a row as deleted now; says whether it was there and was not.
    fn soft_delete<C: ConnectionTrait>(
        key: KeyOf<Self>,
        db: &C,
    ) -> impl Future<Output = Result<bool>> + Send {
        mark::<Self, C>(key, Self::deleted_at().is_null(), Expr::current_timestamp(), db)
    }

    /// Brings a row back; says whether it was deleted.
    fn undelete<C: ConnectionTrait>(key: KeyOf<Self>, db: &C) -> impl Future<Output = Result<bool>> + Send {
        mark::<Self, C>(key, Self::deleted_at().is_not_null(), Expr::cust("NULL"), db)
    }
}

async fn mark<E: SoftDelete, C: ConnectionTrait>(
    key: KeyOf<E>,
    only: Expr,
    to: Expr,
    db: &C,
) -> Result<bool> {
    let mut update = E::update_many().col_expr(E::deleted_at(), to).filter(only);
    for (column, value) in E::PrimaryKey::iter().zip(key.into_value_tuple()) {
        update = update.filter(Expr::col(column.into_column()).eq(value));
    }
    Ok(update.exec(db).await?.rows_affected > 0)
}
