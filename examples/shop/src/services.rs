//! What the shop does. Whoever calls these need not think of the history, but for saying why.

use afterimage::{Afterimage, Context, Error, LogQuery, Moment, PointInTime, Restored, Revert, Selector};
use sea_orm::{ActiveModelTrait as _, ColumnTrait as _, EntityTrait as _, QueryFilter as _, Set};

use crate::models::{item, order};

/// Places an order with its items, by one bulk insert.
pub async fn order_place(
    audit: &Afterimage,
    customer: i32,
    items: &[(&str, i32)],
) -> Result<order::Model, Error> {
    let tx = audit.begin(&Context::new()).await?;
    let order = order::ActiveModel {
        customer_id: Set(customer),
        status: Set("open".to_owned()),
        total: Set(items.iter().map(|(_, price)| price).sum()),
        ..Default::default()
    };
    let order = order.insert(&tx).await?;
    let items = items.iter().map(|(name, price)| item::ActiveModel {
        order_id: Set(order.id),
        name: Set((*name).to_owned()),
        price: Set(*price),
        ..Default::default()
    });
    item::Entity::insert_many(items).exec(&tx).await?;
    tx.commit().await?;
    Ok(order)
}

/// Cancels an order, for a reason.
pub async fn order_cancel(audit: &Afterimage, id: i32, reason: &str) -> Result<(), Error> {
    let tx = audit.begin(&Context::new().reason(reason)).await?;
    let cancelled =
        order::ActiveModel { id: Set(id), status: Set("cancelled".to_owned()), ..Default::default() };
    cancelled.update(&tx).await?;
    tx.commit().await
}

/// Deletes all orders that are cancelled; their items go by a cascade, of which the ORM knows nothing and the history does.
pub async fn clean_up(audit: &Afterimage) -> Result<u64, Error> {
    let tx = audit.begin(&Context::new().reason("clean up")).await?;
    let gone = order::Entity::delete_many().filter(order::Column::Status.eq("cancelled")).exec(&tx).await?;
    tx.commit().await?;
    Ok(gone.rows_affected)
}

/// An order with its items, as both were at a time.
pub async fn order_as_of(
    audit: &Afterimage,
    id: i32,
    at: PointInTime,
) -> Result<Option<(order::Model, Vec<item::Model>)>, Error> {
    let past = audit.at(at).await?;
    Ok(order::Entity::find_by_id(id).find_with_related(item::Entity).all(&past).await?.pop())
}

/// Takes an order back to what it was before its newest change, and says so.
pub async fn order_undo(audit: &Afterimage, id: i32) -> Result<Restored, Error> {
    let previous = Revert::new("orders", id.to_string(), Selector::Previous);
    audit.revert(&previous, &Context::new().reason("undone")).await
}

/// Every change of a period, for whoever has to sign it: who, when, what and why.
pub async fn compliance_report(audit: &Afterimage, from: Moment, until: Moment) -> Result<String, Error> {
    let query = LogQuery::parse(&format!("since:{from} until:{until}"))?;
    let mut report = String::from("when,who,what,table,row,why,fields\n");
    for entry in audit.log(&query).await?.entries.iter().rev() {
        let fields: Vec<&str> = entry.changes.iter().map(|change| change.field.as_str()).collect();
        report.push_str(&format!(
            "{},{},{},{},{},{},{}\n",
            entry.header.date,
            entry.header.user.as_deref().unwrap_or("?"),
            entry.action().name(),
            entry.table,
            entry.key[0].1,
            entry.header.reason.as_deref().unwrap_or_default(),
            fields.join(" ")
        ));
    }
    Ok(report)
}
