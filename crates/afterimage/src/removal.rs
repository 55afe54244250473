//! Removing records: what is written down of it, and what it has in common, whatever removes.

use afterimage_core::sql::catalog::{self as sql, Removing};
use afterimage_core::{Context, Layout, Moment, Value};
use serde::Serialize;

use crate::catalog::{Entry, Stage};
use crate::error::{Error, ErrorKind, Result};
use crate::hold::said;
use crate::serialized::{as_optional_text, as_text};
use crate::session::{Cell, Row, Session};
use crate::{health, key, migrate};

/// Records that go by one transaction, at first; the next takes as many as a moment allows.
pub(crate) const FIRST_BATCH: i64 = 500;

/// At most so many.
pub(crate) const LARGEST_BATCH: i64 = 5_000;

/// What records are removed by that an archive has.
pub(crate) const ARCHIVE: &str = "archive";

/// The number of a removal that is to come.
pub(crate) const TO_COME: i64 = i64::MAX;

/// What was removed of a history at one time, and by whose wish.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Removal {
    /// Its number.
    pub id: i64,
    #[serde(skip)]
    pub(crate) table_id: i64,
    /// The table.
    pub table: String,
    /// What removed: `prune`, `dedupe`, `redact`, `archive`, `untrack`.
    pub what: String,
    /// Up to where the history is not whole any more; `None` where every state can still be told.
    #[serde(serialize_with = "as_optional_text")]
    pub until: Option<Moment>,
    /// The rule it went by.
    pub rule: Option<String>,
    /// How many records.
    pub records: u64,
    /// Who asked for it.
    pub recorded_by: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// When it began.
    #[serde(serialize_with = "as_text")]
    pub began: Moment,
    /// When the last of its records went.
    #[serde(serialize_with = "as_text")]
    pub ended: Moment,
}

impl Removal {
    pub(crate) fn read(row: &Row) -> Self {
        let int = |at: usize| row.get(at).and_then(Cell::int);
        let moment = |at: usize| int(at).map(Moment::from_micros);
        let text = |at: usize| row.get(at).cloned().and_then(Cell::text);
        Self {
            id: int(0).unwrap_or_default(),
            table_id: int(1).unwrap_or_default(),
            table: text(2).unwrap_or_default(),
            what: text(3).unwrap_or_default(),
            until: moment(4),
            rule: text(5),
            records: int(6).unwrap_or_default().unsigned_abs(),
            recorded_by: text(7),
            reason: text(8),
            began: moment(9).unwrap_or(Moment::from_micros(0)),
            ended: moment(10).unwrap_or(Moment::from_micros(0)),
        }
    }

    /// One that has been said, and has not been done yet.
    #[cfg(feature = "postgres")]
    pub(crate) fn to_come(table_id: i64, until: Moment) -> Self {
        Self {
            id: TO_COME,
            table_id,
            table: String::new(),
            what: "prune".to_owned(),
            until: Some(until),
            rule: None,
            records: 0,
            recorded_by: None,
            reason: None,
            began: until,
            ended: until,
        }
    }

    /// In words: why something is not there any more.
    pub(crate) fn cause(&self) -> String {
        if self.id == TO_COME {
            return "about to be pruned, by a run that is under way or was interrupted".to_owned();
        }
        let rule = self.rule.as_deref().map(|rule| format!(", keeping {rule}")).unwrap_or_default();
        format!("pruned{rule}")
    }
}

/// The number of a removal that is entered, or was by an earlier batch of the same run.
pub(crate) async fn enter(
    session: &mut Session,
    layout: &Layout,
    what: &str,
    rule: Option<&str>,
    context: &Context,
    earlier: Option<i64>,
) -> Result<i64> {
    if let Some(id) = earlier {
        return Ok(id);
    }
    let dialect = session.dialect();
    let id = session.int(&sql::next_removal(dialect), &[]).await?.unwrap_or(1);
    let (by, reason) = (said(context, "actor"), said(context, "reason"));
    let removing = Removing { id, what, rule, by: by.as_deref(), reason: reason.as_deref() };
    session.run(&sql::insert_removal(dialect, layout, &removing)).await?;
    Ok(id)
}

/// What was removed of a history, but for one removal, in few words: another text where others have removed since.
pub(crate) fn others(entry: &Entry, but_for: Option<i64>) -> String {
    let others = entry.removals.iter().filter(|other| Some(other.id) != but_for && other.id != TO_COME);
    let (last, records) =
        others.fold((0, 0_u64), |(last, records), other| (other.id.max(last), records + other.records));
    format!("{last}:{records}")
}

/// What holds of a table keep.
pub(crate) struct Held {
    /// Why nothing of it may go.
    pub(crate) table: Option<String>,
    /// Rows of which nothing may go, each by its key, in the key's order.
    pub(crate) rows: Vec<Vec<Value>>,
}

impl Held {
    pub(crate) fn of(entry: &Entry) -> Result<Self> {
        let mut held = Self { table: None, rows: Vec::new() };
        for hold in entry.holds.iter().filter(|hold| hold.lifted.is_none()) {
            match &hold.key {
                None => held.table = Some(format!("it is under a hold: {}", hold.reason)),
                Some(key) => match key::of_kept(entry.layout()?, key) {
                    Some(key) => held.rows.push(key),
                    // Whichever row it is, nothing goes.
                    None => {
                        held.table =
                            Some(format!("a row is under a hold that cannot be read: {}", hold.reason))
                    }
                },
            }
        }
        Ok(held)
    }
}

/// Refuses where what guards the records knows of no removal.
pub(crate) async fn guarded(session: &mut Session, entry: &Entry) -> Result<()> {
    match entry.stage {
        Stage::Stopped => return Ok(()),
        Stage::Baseline => {
            let message = "its baseline is not finished: track it again to go on with it";
            return Err(Error::new(ErrorKind::Busy, message).on(&entry.table));
        }
        Stage::Active => {}
    }
    let table = migrate::find_today(session, entry).await?;
    match health::faults(session, entry, &table).await?.first() {
        Some(fault) => {
            Err(Error::new(ErrorKind::Drifted, format!("{fault}: migrate it first")).on(&entry.table))
        }
        None => Ok(()),
    }
}
