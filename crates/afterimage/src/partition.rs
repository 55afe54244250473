//! Histories in partitions by time, on PostgreSQL.

#[cfg(feature = "postgres")]
mod parts;

use afterimage_core::{Database, Moment, Partitions, Period, TableName};
use serde::Serialize;

use crate::catalog::{self, Entry};
use crate::database::Afterimage;
use crate::error::{Error, ErrorKind, Result};
use crate::serialized::{as_optional_text, as_text};
#[cfg(feature = "postgres")]
pub(crate) use parts::{PATIENCE, Parts, as_owner, claim, fences, in_turn, look};

/// How many partitions are made ahead where nobody says.
const AHEAD: u16 = 3;

/// Which histories are to be in partitions.
///
/// ```no_run
/// # use afterimage::{Afterimage, Partition, Period};
/// # async fn nightly(audit: &Afterimage) -> Result<(), afterimage::Error> {
/// // Once:
/// audit.partition(&Partition::new().tables(["orders"]).by(Period::Month)).await?;
/// // And from then on, more often than a month:
/// audit.partition(&Partition::new()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Partition {
    tables: Vec<String>,
    by: Option<Period>,
    ahead: Option<u16>,
}

impl Partition {
    /// Those of all tables whose histories are in partitions already: what is missing ahead of time is made.
    pub fn new() -> Self {
        Self::default()
    }

    /// Those of these tables, whether they are in partitions already or not.
    #[must_use]
    pub fn tables<S: Into<String>>(mut self, tables: impl IntoIterator<Item = S>) -> Self {
        self.tables = tables.into_iter().map(Into::into).collect();
        self
    }

    /// One for each of these; a month, where nobody ever said. What is there already stays as it is.
    #[must_use]
    pub fn by(mut self, period: Period) -> Self {
        self.by = Some(period);
        self
    }

    /// Makes so many ahead of time, after that of now; three, where nobody ever said.
    #[must_use]
    pub fn ahead(mut self, count: u16) -> Self {
        self.ahead = Some(count);
        self
    }

    fn wanted(&self, entry: &Entry) -> Partitions {
        let known = entry.tracking.partitions;
        Partitions {
            by: self.by.or(known.map(|known| known.by)).unwrap_or(Period::Month),
            ahead: self.ahead.or(known.map(|known| known.ahead)).unwrap_or(AHEAD),
        }
    }
}

/// The partitions of one history.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Partitioned {
    /// The table.
    #[serde(serialize_with = "as_text")]
    pub table: TableName,
    /// What one partition holds.
    #[serde(serialize_with = "as_text")]
    pub by: Period,
    /// Whether the history was put into partitions only now: what it held became the first one.
    pub begun: bool,
    /// The partitions that were made.
    pub made: Vec<String>,
    /// How many there are now.
    pub partitions: usize,
    /// Up to where there is one for every time.
    #[serde(serialize_with = "as_optional_text")]
    pub until: Option<Moment>,
}

impl Afterimage {
    /// Puts histories into partitions by time, and makes those ahead of time that are missing, so that letting old records go
    /// ([`prune`](Self::prune)) takes a whole partition at once.
    ///
    /// What a history holds becomes its first partition as it stands: it is read once, without keeping writers waiting, and
    /// not copied; then it takes the place of the history in a transaction of some milliseconds, which gives up its turn
    /// whenever somebody would have to wait longer than 40 ms for it. A record of a time that no partition was made for goes
    /// to one of its own: nothing fails for want of one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] on a database other than PostgreSQL; [`ErrorKind::Conflict`] where views, foreign keys or
    /// whatever else depend on a history would stay behind with its first partition, with their names; [`ErrorKind::Busy`]
    /// where its turn did not come.
    pub async fn partition(&self, request: &Partition) -> Result<Vec<Partitioned>> {
        self.sees_all()?;
        if self.database() != Database::Postgres {
            let message = "histories in partitions there are on PostgreSQL only: prune works in batches here";
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let chosen = self.reading(async |session| match request.tables.is_empty() {
            true => {
                let all = catalog::entries(session).await?;
                Ok(all.into_iter().filter(|entry| entry.tracking.partitions.is_some()).collect())
            }
            false => crate::migrate::chosen(session, &request.tables).await,
        });
        let mut done = Vec::new();
        for entry in chosen.await? {
            let one = async {
                #[cfg(feature = "postgres")]
                let _claimed = claim(self, entry.id).await?;
                self.partitioned(&entry, request.wanted(&entry)).await
            };
            match one.await.map_err(|error| error.on(&entry.table)) {
                Ok(one) => done.push(one),
                Err(error) => {
                    return Err(done.iter().fold(error, |error, done: &Partitioned| {
                        error.after(format!("{} is in {} partitions", done.table, done.partitions))
                    }));
                }
            }
        }
        Ok(done)
    }

    #[cfg(not(feature = "postgres"))]
    async fn partitioned(&self, _entry: &Entry, _wanted: Partitions) -> Result<Partitioned> {
        Err(Error::new(ErrorKind::InvalidInput, "this build knows nothing of PostgreSQL"))
    }
}
