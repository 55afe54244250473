//! Holds: what keeps records from being removed.

use afterimage_core::sql::catalog as sql;
use afterimage_core::{Context, Moment, TableName};
use serde::Serialize;

use crate::catalog::{self, Entry};
use crate::database::Afterimage;
use crate::error::{Error, ErrorKind, Result};
use crate::removal::Removal;
use crate::serialized::{as_optional_text, as_text};
use crate::session::{Cell, Row};
use crate::{introspect, key, versions};

/// What keeps records from being removed, whatever a retention says.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Hold {
    /// Its number.
    pub id: i64,
    #[serde(skip)]
    pub(crate) table_id: i64,
    /// The row, by its key as JSON; `None` where it is the whole table.
    pub key: Option<String>,
    /// Why.
    pub reason: String,
    /// Who placed it.
    pub placed_by: Option<String>,
    /// When.
    #[serde(serialize_with = "as_text")]
    pub placed: Moment,
    /// Who lifted it.
    pub lifted_by: Option<String>,
    /// When it was lifted; `None` as long as it is in force.
    #[serde(serialize_with = "as_optional_text")]
    pub lifted: Option<Moment>,
}

impl Hold {
    pub(crate) fn read(row: &Row) -> Self {
        let int = |at: usize| row.get(at).and_then(Cell::int);
        let moment = |at: usize| int(at).map(Moment::from_micros);
        let text = |at: usize| row.get(at).cloned().and_then(Cell::text);
        Self {
            id: int(0).unwrap_or_default(),
            table_id: int(1).unwrap_or_default(),
            key: text(2),
            reason: text(3).unwrap_or_default(),
            placed_by: text(4),
            placed: moment(5).unwrap_or(Moment::from_micros(0)),
            lifted_by: text(6),
            lifted: moment(7),
        }
    }

    /// The same, with its key by the names that the key's columns have now.
    pub(crate) fn named(&self, entry: &Entry) -> Self {
        let named = |kept: &String| key::named_kept(entry.layout().ok()?, kept);
        Self {
            key: self.key.as_ref().map(|kept| named(kept).unwrap_or_else(|| kept.clone())),
            ..self.clone()
        }
    }
}

impl Afterimage {
    /// Places a legal hold on a table, or on one row of it: as long as it is in force, no record of it is removed or redacted,
    /// whatever its retention says. `context` says who places it and, as its reason, why. Gives the number by which it is
    /// [lifted](Self::lift_hold).
    ///
    /// A row is held by its key: were that to change, hold it under the other key too.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] where no reason is given, or where the key is none of the table's; [`ErrorKind::NotFound`] where
    /// there is no record of such a row.
    pub async fn hold(&self, table: &str, key: Option<&str>, context: &Context) -> Result<i64> {
        self.sees_all()?;
        let reason = said(context, "reason").ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, "a hold needs a reason, by which others know why it is there")
        })?;
        let by = said(context, "actor");
        self.writing(async |session| {
            catalog::ensure(session).await?;
            let entry = catalog::find(session, table).await?;
            // By the key as the records have it: a hold by another spelling would hold nothing.
            let key = match key {
                Some(text) => Some(key::kept(&versions::key_of_row(session, &entry, text).await?)),
                None => None,
            };
            let dialect = session.dialect();
            session.run_all(&dialect.tick()).await?;
            session.run(&sql::insert_hold(dialect, entry.id, key.as_deref(), &reason, by.as_deref())).await?;
            let last = format!("SELECT max(id) FROM {}", dialect.catalog_table("hold"));
            Ok(session.int(&last, &[]).await?.unwrap_or_default())
        })
        .await
    }

    /// Lifts a hold, by its number.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] where there is none of that number in force.
    pub async fn lift_hold(&self, id: i64, context: &Context) -> Result<()> {
        self.sees_all()?;
        let by = said(context, "actor");
        self.writing(async |session| {
            catalog::ensure(session).await?;
            let dialect = session.dialect();
            session.run_all(&dialect.tick()).await?;
            match session.run(&sql::lift_hold(dialect, id, by.as_deref())).await? {
                0 => Err(Error::new(ErrorKind::NotFound, format!("there is no hold {id} in force"))),
                _ => Ok(()),
            }
        })
        .await
    }

    /// All holds that were ever placed on tables that are tracked, oldest first.
    pub async fn holds(&self) -> Result<Vec<(TableName, Hold)>> {
        self.sees_all()?;
        self.reading(async |session| {
            let mut all = Vec::new();
            for entry in catalog::entries(session).await? {
                let table = introspect::seen(session, &entry.table).await?;
                all.extend(entry.holds.iter().map(|hold| (table.clone(), hold.named(&entry))));
            }
            all.sort_by_key(|(_, hold)| hold.id);
            Ok(all)
        })
        .await
    }

    /// Everything that was ever removed from the histories, oldest first.
    pub async fn removals(&self) -> Result<Vec<Removal>> {
        self.sees_all()?;
        self.reading(catalog::removals).await
    }

    /// Refuses a handle that is [seen through](Self::seen_through) somebody's eyes.
    pub(crate) fn sees_all(&self) -> Result<()> {
        match self.eyes.are_somebodys() {
            false => Ok(()),
            true => Err(Error::new(
                ErrorKind::Forbidden,
                "what is kept, and for how long, is for whoever may see everything",
            )),
        }
    }
}

/// What a context says, as text.
pub(crate) fn said(context: &Context, key: &str) -> Option<String> {
    context.get(key).and_then(|value| value.as_str()).map(ToOwned::to_owned)
}
