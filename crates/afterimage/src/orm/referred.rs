//! The rows that foreign keys of a version name.

use std::fmt;

use sea_orm::{ColumnTrait, EntityTrait, ModelTrait, QueryFilter as _, Value};

use super::history::{Changed, Tracked as _, Version};
use crate::database::Afterimage;
use crate::error::Result;
use crate::versions::PointInTime;

/// The row that a foreign key names, as far as it is known.
pub enum Referred<M: ModelTrait> {
    /// None: the key is NULL.
    Nothing,
    /// A row that is there, as it is now.
    Present(M),
    /// A row that is not there any more: its last version, which says who deleted it, when, and what it was; unless it went
    /// on under another key.
    Gone(Box<Version<M>>),
    /// A row of which there is no record.
    Unknown(Value),
}

impl<M: ModelTrait> fmt::Debug for Referred<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("Nothing"),
            Self::Present(model) => f.debug_tuple("Present").field(model).finish(),
            Self::Gone(version) => f.debug_tuple("Gone").field(version).finish(),
            Self::Unknown(value) => f.debug_tuple("Unknown").field(value).finish(),
        }
    }
}

/// The model of the entity that a column belongs to.
type ModelOf<C> = <<C as ColumnTrait>::EntityName as EntityTrait>::Model;

impl<C> Changed<C> {
    /// The rows that a foreign key named before and names after, by the column of their tracked table that it refers to.
    ///
    /// ```no_run
    /// # mod customer { use sea_orm::entity::prelude::*;
    /// #   #[sea_orm::model] #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)] #[sea_orm(table_name = "customer")]
    /// #   pub struct Model { #[sea_orm(primary_key)] pub id: i32, pub name: String }
    /// #   impl ActiveModelBehavior for ActiveModel {} }
    /// # async fn example(change: afterimage::orm::Changed<()>, audit: afterimage::Afterimage) -> afterimage::Result<()> {
    /// use afterimage::orm::Referred;
    /// let (old, _) = change.referred(customer::Column::Id, &audit).await?;
    /// match old {
    ///     Referred::Present(customer) => println!("from {}", customer.name),
    ///     Referred::Gone(last) => println!("from {}, deleted by {:?}", last.model.name, last.header.user),
    ///     Referred::Nothing | Referred::Unknown(_) => {}
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn referred<K>(
        &self,
        key: K,
        audit: &Afterimage,
    ) -> Result<(Referred<ModelOf<K>>, Referred<ModelOf<K>>)>
    where
        K: ColumnTrait,
        K::EntityName: EntityTrait<Column = K>,
    {
        Ok((referred(key, &self.old, audit).await?, referred(key, &self.new, audit).await?))
    }
}

async fn referred<K>(key: K, value: &Value, audit: &Afterimage) -> Result<Referred<ModelOf<K>>>
where
    K: ColumnTrait,
    K::EntityName: EntityTrait<Column = K>,
{
    if *value == value.as_null() {
        return Ok(Referred::Nothing);
    }
    let now = audit.at(PointInTime::Now).await?;
    let there = K::EntityName::find().filter(key.eq(value.clone())).one(&now).await?;
    drop(now);
    if let Some(there) = there {
        return Ok(Referred::Present(there));
    }
    let last = K::EntityName::history().filter(key.eq(value.clone())).one(audit).await?;
    Ok(match last {
        Some(last) => Referred::Gone(Box::new(last)),
        None => Referred::Unknown(value.clone()),
    })
}
