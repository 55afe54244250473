//! `verify`: replays the records and compares with the live table.

use afterimage_core::{Field, Moment, TableName};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::catalog::{Entry, Gap, Stage};
use crate::database::Afterimage;
use crate::error::Result;
use crate::health::{self, Fault};
use crate::introspect;
use crate::migrate;
use crate::session::{Cell, Row, Session};

/// Differences kept of one table; the rest is counted.
const KEPT: usize = 1000;

/// Something that the records and the table do not agree on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Difference {
    /// A live row of which there is no record.
    Unrecorded {
        /// Its key.
        key: Vec<(String, String)>,
    },
    /// A row that the records know and the table does not.
    Vanished {
        /// Its key.
        key: Vec<(String, String)>,
    },
    /// A row whose columns differ.
    Differs {
        /// Its key.
        key: Vec<(String, String)>,
        /// The columns.
        columns: Vec<String>,
    },
    /// A record that does not follow from the one before it.
    Sequence {
        /// Its row's key.
        key: Vec<(String, String)>,
        /// Its number.
        history_id: i64,
        /// What is wrong.
        problem: String,
    },
}

impl Difference {
    /// The key of the row.
    pub fn key(&self) -> &[(String, String)] {
        match self {
            Self::Unrecorded { key }
            | Self::Vanished { key }
            | Self::Differs { key, .. }
            | Self::Sequence { key, .. } => key,
        }
    }
}

/// What `verify` found of one table.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The table.
    pub table: TableName,
    /// How many rows it has.
    pub rows: i64,
    /// How many records its history has.
    pub records: i64,
    /// How many differences there are.
    pub difference_count: u64,
    /// The first of them.
    pub differences: Vec<Difference>,
    /// What is not as it should be with its capture.
    pub faults: Vec<Fault>,
    /// Stretches in which changes may be missing.
    pub gaps: Vec<Gap>,
}

/// How far [`verify_with`](Afterimage::verify_with) has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verifying {
    /// The table that is next.
    pub table: TableName,
    /// Its number, from 1.
    pub number: usize,
    /// How many there are.
    pub of: usize,
}

impl Verdict {
    /// Whether the records give the live table, bit for bit, and go on doing so.
    pub fn is_whole(&self) -> bool {
        self.difference_count == 0 && self.faults.is_empty() && !self.gaps.iter().any(|gap| gap.to.is_none())
    }
}

impl Afterimage {
    /// Replays the records of the named tables, or of all, and compares with what is there, all as of one moment.
    /// The comparison runs inside the database, so its memory is the database's own limit; only differences come out.
    pub async fn verify(&self, tables: &[String]) -> Result<Vec<Verdict>> {
        self.verify_with(tables, |_| {}).await
    }

    /// The same, and tells which table is next: one of many records may take minutes.
    pub async fn verify_with(
        &self,
        tables: &[String],
        mut next: impl FnMut(&Verifying),
    ) -> Result<Vec<Verdict>> {
        self.reading(async |session| {
            let mut verdicts = Vec::new();
            let chosen = migrate::chosen(session, tables).await?;
            for (n, entry) in chosen.iter().enumerate() {
                let table = introspect::seen(session, &entry.table).await?;
                next(&Verifying { table, number: n + 1, of: chosen.len() });
                verdicts.push(verify_one(session, entry).await.map_err(|error| error.on(&entry.table))?);
            }
            Ok(verdicts)
        })
        .await
    }
}

/// Replays the records of one table, as the open transaction sees it.
pub(crate) async fn verify_one(session: &mut Session, entry: &Entry) -> Result<Verdict> {
    let layout = entry.layout()?;
    let dialect = session.dialect();
    let records = session.int(&dialect.count(&layout.history), &[]).await?.unwrap_or_default();
    let mut verdict = Verdict {
        table: introspect::seen(session, &entry.table).await?,
        rows: 0,
        records,
        difference_count: 0,
        differences: Vec::new(),
        faults: Vec::new(),
        gaps: entry.gaps.clone(),
    };
    let table = match health::whereabouts(session, entry).await? {
        Some(name) => introspect::exact(session, &name).await?,
        None => None,
    };
    let Some(table) = table else {
        verdict.faults.push(Fault::Gone);
        return Ok(verdict);
    };
    verdict.rows = session.int(&dialect.count(&table.name), &[]).await?.unwrap_or_default();
    if entry.stage == Stage::Stopped {
        return Ok(verdict);
    }
    verdict.faults = health::faults(session, entry, &table).await?;
    if verdict.faults.iter().any(|fault| matches!(fault, Fault::Changed(_) | Fault::Unfollowable(_))) {
        // The columns differ: until they are followed, there is nothing to compare them with.
        return Ok(verdict);
    }
    each_difference(session, entry, |difference| verdict.add(difference)).await?;
    let key = &layout.key;
    let mut broken = Vec::new();
    session
        .each(&dialect.broken_sequences(layout, entry.first()), &[], |row| {
            broken.push(sequence(row, key));
            Ok(true)
        })
        .await?;
    for one in broken {
        if !is_in_a_gap(session, entry, &one).await? {
            verdict.add(one);
        }
    }
    Ok(verdict)
}

/// Hands over every row of which the records and the table do not agree.
async fn each_difference(
    session: &mut Session,
    entry: &Entry,
    mut take: impl FnMut(Difference),
) -> Result<()> {
    let layout = entry.layout()?;
    let sql = session.dialect().differences(layout, entry.sparse());
    session
        .each(&sql, &[], |row| {
            take(difference(row, &layout.key, layout.words(), &layout.fields));
            Ok(true)
        })
        .await
}

/// Within a gap that somebody recorded, records need not follow from one another: what came between is not known.
async fn is_in_a_gap(session: &mut Session, entry: &Entry, difference: &Difference) -> Result<bool> {
    let Difference::Sequence { key, history_id, .. } = difference else { return Ok(false) };
    if entry.gaps.is_empty() {
        return Ok(false);
    }
    let history = entry.layout()?.history.quoted();
    let sql = format!(
        "SELECT {} FROM {history} WHERE history_id = {history_id}",
        session.dialect().micros("history_date")
    );
    let Some(date) = session.int(&sql, &[]).await?.map(Moment::from_micros) else { return Ok(false) };
    let text = key_text(key);
    // A gap's last moment is that of the records which closed it.
    let within = |gap: &Gap| gap.from <= date && gap.to.is_none_or(|to| date <= to);
    Ok(entry.gaps.iter().any(|gap| {
        within(gap) && gap.key.as_ref().is_none_or(|of| crate::key::is_same(entry, of, bare(key, &text)))
    }))
}

/// A key as [`crate::key`] reads it: of a single column, the value alone.
fn bare<'k>(key: &'k [(String, String)], text: &'k str) -> &'k str {
    match key {
        [(_, value)] => value,
        _ => text,
    }
}

impl Verdict {
    fn add(&mut self, difference: Difference) {
        self.difference_count += 1;
        if self.differences.len() < KEPT {
            self.differences.push(difference);
        }
    }
}

fn named(key: &[String], cells: Vec<Cell>) -> Vec<(String, String)> {
    key.iter().cloned().zip(cells.into_iter().map(|cell| cell.text().unwrap_or_default())).collect()
}

fn difference(mut row: Row, key: &[String], words: usize, fields: &[Field]) -> Difference {
    let rest = row.split_off(key.len());
    let key = named(key, row);
    let flag = |at: usize| rest.get(at).and_then(Cell::int) == Some(1);
    match (flag(words), flag(words + 1)) {
        (true, false) => Difference::Unrecorded { key },
        (false, _) => Difference::Vanished { key },
        (true, true) => {
            let mask: Vec<i64> = rest[..words].iter().map(|cell| cell.int().unwrap_or_default()).collect();
            let columns = fields
                .iter()
                .filter(|field| afterimage_core::layout::names(&mask, field))
                .map(|field| field.name.clone())
                .collect();
            Difference::Differs { key, columns }
        }
    }
}

fn sequence(mut row: Row, key: &[String]) -> Difference {
    let mut rest = row.split_off(key.len()).into_iter();
    let history_id = rest.next().and_then(|cell| cell.int()).unwrap_or_default();
    let problem = rest.next().and_then(Cell::text).unwrap_or_default();
    Difference::Sequence { key: named(key, row), history_id, problem }
}

/// `id=1` or `a=1,b=2`.
fn key_text(key: &[(String, String)]) -> String {
    key.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unrecorded { key } => write!(f, "row {} is there, and no record says so", key_text(key)),
            Self::Vanished { key } => write!(f, "row {} is gone, and no record says so", key_text(key)),
            Self::Differs { key, columns } => {
                write!(f, "row {} differs from its records in {}", key_text(key), columns.join(", "))
            }
            Self::Sequence { key, history_id, problem } => {
                write!(f, "record {history_id} of row {}: {problem}", key_text(key))
            }
        }
    }
}

impl Serialize for Difference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (kind, key) = match self {
            Self::Unrecorded { key } => ("unrecorded", key),
            Self::Vanished { key } => ("vanished", key),
            Self::Differs { key, .. } => ("differs", key),
            Self::Sequence { key, .. } => ("sequence", key),
        };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("kind", kind)?;
        map.serialize_entry("key", &key.iter().cloned().collect::<std::collections::BTreeMap<_, _>>())?;
        match self {
            Self::Differs { columns, .. } => map.serialize_entry("columns", columns)?,
            Self::Sequence { history_id, problem, .. } => {
                map.serialize_entry("history_id", history_id)?;
                map.serialize_entry("problem", problem)?;
            }
            Self::Unrecorded { .. } | Self::Vanished { .. } => {}
        }
        map.end()
    }
}

impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let faults: Vec<String> = self.faults.iter().map(ToString::to_string).collect();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("table", &self.table.to_string())?;
        map.serialize_entry("whole", &self.is_whole())?;
        map.serialize_entry("rows", &self.rows)?;
        map.serialize_entry("records", &self.records)?;
        map.serialize_entry("difference_count", &self.difference_count)?;
        map.serialize_entry("differences", &self.differences)?;
        map.serialize_entry("faults", &faults)?;
        map.serialize_entry("gaps", &self.gaps)?;
        map.end()
    }
}
