//! `resync`: after the records and the table were found to differ, what is there now is written down.

use afterimage_core::sql::{catalog as sql, postgres};
use afterimage_core::{Context, Database, Moment, Query};
use serde_json::json;

use crate::catalog::{self, Entry, Stage};
use crate::database::Afterimage;
use crate::error::{Error, ErrorKind, Result};
use crate::health;
use crate::log::{self, LogQuery};
use crate::migrate;
use crate::session::Session;
use crate::verify::{self, Difference};

/// A table to be looked at again.
#[derive(Debug, Clone)]
pub struct Resync {
    table: String,
    /// Only rows of which there is no record at all.
    missing_only: bool,
}

/// What `resync` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resynced {
    /// Records written: one for each row that differed.
    pub records: u64,
    /// Gaps that are now recorded and closed.
    pub gaps: u64,
}

impl Resync {
    /// Looks at this table.
    pub fn new(table: impl Into<String>) -> Self {
        Self { table: table.into(), missing_only: false }
    }
}

impl Afterimage {
    /// Records what is there now of every row that the records say otherwise about: a record each, whose context has
    /// `"observed": true`, since nobody knows who changed the row, nor when. From the row's last record until now is a
    /// gap; open gaps of the table are closed.
    ///
    /// The table is locked against writers meanwhile.
    pub async fn resync(&self, request: &Resync, context: &Context) -> Result<Resynced> {
        let context = Context::new().with("observed", true).within(context);
        self.resync_as(request, &context).await
    }

    /// Writes the baseline of rows that have no record: of a table that was tracked without one, or into which rows came while
    /// it was not captured. From then on the table's times can be asked for; earlier ones, where its rows may have been others,
    /// stay a gap. Gives how many rows got a record; called again, none does.
    ///
    /// The table is locked against writers meanwhile.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] where rows differ from the records that they have, which is for [`resync`](Self::resync) to mend.
    pub async fn baseline(&self, table: &str, context: &Context) -> Result<u64> {
        let context = Context::new().with("baseline", true).within(context);
        let request = Resync { missing_only: true, ..Resync::new(table) };
        Ok(self.resync_as(&request, &context).await?.records)
    }

    async fn resync_as(&self, request: &Resync, context: &Context) -> Result<Resynced> {
        let mut tx = self.begin_writing(context).await?;
        match run(&mut tx.session, request).await {
            Ok(done) => {
                tx.commit().await?;
                Ok(done)
            }
            Err(error) => {
                let _ = tx.rollback().await;
                Err(error)
            }
        }
    }
}

async fn run(session: &mut Session, request: &Resync) -> Result<Resynced> {
    if session.dialect().database() == Database::Postgres {
        session.run(postgres::SESSION).await?;
    }
    let entry = catalog::find(session, &request.table).await?;
    let refuse = |kind, message: &str| Err(Error::new(kind, message).on(&entry.table));
    if entry.stage != Stage::Active {
        return refuse(ErrorKind::InvalidInput, "it is not tracked at present: track it again");
    }
    let table = migrate::find_today(session, &entry).await?;
    if let Some(fault) = health::faults(session, &entry, &table).await?.first() {
        return refuse(ErrorKind::Drifted, &format!("{fault}: migrate it first, which resyncs too"));
    }
    migrate::lock(session, &table).await?;
    let dialect = session.dialect();
    session.run_all(&dialect.tick()).await?;
    let verdict = verify::verify_one(session, &entry).await?;
    let others = verdict.differences.iter().find(|other| !matches!(other, Difference::Unrecorded { .. }));
    if let (true, Some(other)) = (request.missing_only, others) {
        return refuse(ErrorKind::Conflict, &format!("{other}: resync it"));
    }
    let mut gaps = Vec::new();
    if verdict.difference_count > verdict.differences.len() as u64 {
        // More than are told one by one: the whole table gets one gap, since nobody knows when it began to differ.
        gaps.push((None, entry.since));
    } else {
        for difference in &verdict.differences {
            let key = key_json(difference);
            let since = newest_of(session, &entry, &key).await?;
            gaps.push((Some(key), since));
        }
    }
    let mut records = 0;
    for statement in dialect.resync(entry.layout()?, entry.sparse(), false) {
        let written = session.run(&statement).await.map_err(|error| error.on(&entry.table))?;
        if writes_records(&statement) {
            records += written;
        }
    }
    let now = newest_of_all(session, &entry).await?;
    let until = if records > 0 { dialect.moment(now) } else { dialect.clock().to_owned() };
    let closed = entry.gaps.iter().filter(|gap| gap.to.is_none()).count();
    session.run(&sql::close_gaps(dialect, entry.id, &until)).await?;
    // Where the table's own gap was open, it covers the rows too.
    if !entry.has_open_gap() {
        for (key, since) in &gaps {
            let since = dialect.moment(*since);
            let cause = "changed without a record";
            let gap = sql::insert_gap(dialect, entry.id, key.as_deref(), &since, &until, cause, "resync");
            session.run(&gap).await?;
        }
    }
    let gaps = if entry.has_open_gap() { closed } else { closed + gaps.len() };
    Ok(Resynced { records, gaps: gaps as u64 })
}

/// Whether a statement of the script that resyncs writes records; the others count and date.
pub(crate) fn writes_records(statement: &str) -> bool {
    !["UPDATE", "BEGIN", "SET", "DROP", "CREATE"].iter().any(|word| statement.starts_with(word))
}

fn key_json(difference: &Difference) -> String {
    let members: serde_json::Map<String, serde_json::Value> =
        difference.key().iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    serde_json::Value::Object(members).to_string()
}

/// The moment of a row's last record, or that of the tracking's beginning.
async fn newest_of(session: &mut Session, entry: &Entry, key: &str) -> Result<Moment> {
    let mut query = Query::default();
    query.tables.wanted.push(entry.table.to_string());
    query.keys.wanted.push(key.to_owned());
    let mut newest = None;
    log::each(session, &LogQuery::from(query).limit(1), |record| {
        newest = Some(record.header.date);
        true
    })
    .await?;
    Ok(newest.unwrap_or(entry.since))
}

async fn newest_of_all(session: &mut Session, entry: &Entry) -> Result<Moment> {
    let history = entry.layout()?.history.quoted();
    let sql = format!(
        "SELECT {} FROM (SELECT max(history_date) AS d FROM {history}) AS m",
        session.dialect().micros("d")
    );
    Ok(session.int(&sql, &[]).await?.map_or(entry.since, Moment::from_micros))
}
