//! A shop with axum and SeaORM whose orders have a history.
//!
//! What the history took: [`tracking`] says which models have one, [`api::router`] has one layer more, and the services
//! begin their transactions with [`Afterimage::begin`](afterimage::Afterimage::begin).

pub mod api;
pub mod models;
pub mod services;

use std::sync::{Arc, Mutex};

use afterimage::{Afterimage, Builder, Error, ModelAudited};
use sea_orm::{ConnectionTrait as _, DatabaseConnection};

use models::{customer, item, order, order_tag, tag};

/// Which models have a history.
pub fn tracking() -> Builder {
    Afterimage::builder()
        .track::<order::Entity>(|t| t.label(order::Column::Status).related::<item::Entity>())
        .track::<customer::Entity>(|t| t.label(customer::Column::Name).mask(customer::Column::Card))
        .track::<item::Entity>(|t| t.delta())
        .track::<tag::Entity>(|t| t)
        .track::<order_tag::Entity>(|t| t)
}

/// Starts the shop: its tables, their histories, and who wants to know.
pub async fn start(db: &DatabaseConnection) -> Result<(Afterimage, Alerts), Error> {
    db.execute_unprepared(models::SCHEMA).await?;
    let audit = Afterimage::from_sea_orm(db)?;
    tracking().install(&audit).await?;
    let alerts = Alerts::default();
    let desk = alerts.clone();
    audit.subscribe_to_model::<customer::Entity>(move |event: Arc<ModelAudited>| {
        let desk = desk.clone();
        async move {
            desk.raise(&event);
            Ok(())
        }
    });
    Ok((audit, alerts))
}

/// Who touched what is sensitive: here a list, elsewhere a message to whoever is on duty.
#[derive(Debug, Clone, Default)]
pub struct Alerts(Arc<Mutex<Vec<String>>>);

impl Alerts {
    fn raise(&self, event: &ModelAudited) {
        let columns = event.changed_columns::<customer::Entity>();
        if columns.iter().any(|column| matches!(column, customer::Column::Card)) {
            let who = event.actor().unwrap_or("somebody");
            let alert = format!("{who} changed the card of customer {}", event.key()[0].1);
            self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(alert);
        }
    }

    /// What was raised until now.
    pub fn raised(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}
