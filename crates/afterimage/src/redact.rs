//! Redaction: a person's right to be forgotten.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use afterimage_core::record::{RowJson, all_fields};
use afterimage_core::sql::retention::{self, Redacting};
use afterimage_core::sql::{Bound, catalog as sql};
use afterimage_core::{Action, Context, Field, Moment, TableName, Value, Version, suggest};
use serde::Serialize;

use crate::catalog::{self, Entry};
use crate::database::Afterimage;
use crate::error::{Error, ErrorKind, Result};
use crate::hold::said;
use crate::prune::{self, Held};
use crate::session::Session;
use crate::{introspect, versions};

/// Fields of a row that are to be removed from its history.
///
/// ```
/// # use afterimage::Redact;
/// let request = Redact::new("customers", "7").fields(["email", "phone"]).dry_run(true);
/// ```
#[derive(Debug, Clone)]
pub struct Redact {
    table: String,
    key: String,
    fields: Vec<String>,
    dry_run: bool,
}

impl Redact {
    /// Of this row, by its key.
    pub fn new(table: impl Into<String>, key: impl Into<String>) -> Self {
        Self { table: table.into(), key: key.into(), fields: Vec::new(), dry_run: false }
    }

    /// These fields, by any name that they ever had.
    #[must_use]
    pub fn fields<S: Into<String>>(mut self, fields: impl IntoIterator<Item = S>) -> Self {
        self.fields = fields.into_iter().map(Into::into).collect();
        self
    }

    /// Says what would go, and lets nothing go.
    #[must_use]
    pub fn dry_run(mut self, yes: bool) -> Self {
        self.dry_run = yes;
        self
    }
}

/// What was redacted, or would be.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Redacted {
    /// The table.
    #[serde(serialize_with = "prune::as_text")]
    pub table: TableName,
    /// In how many records a value was removed, or would be.
    pub records: u64,
    /// Fields that the row itself still has a value in: that value stays in its newest records, as it stays in the row.
    pub still_there: Vec<String>,
}

impl Afterimage {
    /// Removes the values of chosen fields of one row from all its records, through every change of its key: in their place
    /// the history says that they were [`Redacted`](crate::Value::Redacted). What the row itself holds now stays, in the row and
    /// in the records that say so: change it first, and then redact what it was.
    ///
    /// Who asked for it and why is recorded ([`removals`](Self::removals)). To plain SQL, and on the past connection, a value
    /// that was redacted is NULL. What cannot be known any more is not written back either.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] where the table or the row is under a [hold](Self::hold); [`ErrorKind::InvalidInput`] where no
    /// reason is given, or for a field that is part of the key, by which records are found.
    pub async fn redact(&self, request: &Redact, context: &Context) -> Result<Redacted> {
        self.sees_all()?;
        if said(context, "reason").is_none() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "a redaction needs a reason, which is kept in its place",
            ));
        }
        if request.dry_run {
            return self.reading(async |session| Ok(plan(session, request).await?.1)).await;
        }
        self.removing(async |session| run(session, request, context).await).await
    }
}

/// Values that are to be removed of the records of one key.
struct Part {
    key: Vec<(String, Value)>,
    fields: Vec<Field>,
    /// The number of the first record.
    from: i64,
    /// The record before which it ends.
    before: (Moment, i64),
}

/// The fields that somebody names, of today or of before.
fn fields(entry: &Entry, names: &[String]) -> Result<Vec<Field>> {
    let refuse = |message: String| Error::new(ErrorKind::InvalidInput, message).on(&entry.table);
    if names.is_empty() {
        return Err(refuse("which fields are to be redacted?".to_owned()));
    }
    let all = all_fields(&entry.epochs);
    let mut found: Vec<Field> = Vec::new();
    for name in names {
        let then =
            entry.epochs.iter().flat_map(|epoch| &epoch.layout.fields).filter(|field| field.name == *name);
        let bits: Vec<u16> = then.map(|field| field.bit).collect();
        if bits.is_empty() {
            let hint = suggest::hint(name, all.iter().map(|field| field.name.as_str()));
            return Err(refuse(format!("there is no tracked column {name:?}{hint}")));
        }
        if entry.epochs.iter().any(|epoch| epoch.layout.key.contains(name)) {
            return Err(refuse(format!("{name:?} is part of the key, by which records are found")));
        }
        for field in all.iter().filter(|field| bits.contains(&field.bit)) {
            if found.iter().all(|known| known.bit != field.bit) {
                found.push(field.clone());
            }
        }
    }
    Ok(found)
}

/// What a field was called at a version's time.
fn name_then<'e>(entry: &'e Entry, version: &Version, field: &Field) -> Option<&'e String> {
    let layout = entry.layout_at(version.header.date)?;
    layout.fields.iter().find(|then| then.bit == field.bit).map(|then| &then.name)
}

fn value_then<'v>(entry: &Entry, version: &'v Version, field: &Field) -> Option<&'v Value> {
    let name = name_then(entry, version, field)?;
    version.row.iter().find(|(known, _)| known == name).map(|(_, value)| value)
}

/// The record from which on the row has the value of a field that it has now; none where it is deleted.
fn stays<'v>(entry: &Entry, versions: &'v [Version], field: &Field) -> Option<&'v Version> {
    versions.last().filter(|last| last.header.action != Action::Delete)?;
    let says = |version: &&Version| {
        let name = name_then(entry, version, field);
        version.header.action == Action::Create
            || version.changes.iter().any(|change| Some(&change.field) == name)
    };
    versions.iter().rev().find(says).or_else(|| versions.first())
}

fn key_of(entry: &Entry, version: &Version) -> Result<Vec<(String, Value)>> {
    let layout = entry.layout()?;
    let value = |field: &Field| value_then(entry, version, field).cloned().unwrap_or(Value::Null);
    Ok(layout.key_fields().map(|field| (field.name.clone(), value(field))).collect())
}

fn values(key: &[(String, Value)]) -> Vec<Value> {
    key.iter().map(|(_, value)| value.clone()).collect()
}

/// A stretch of a row's life under one key: its first record, and the number at which it ends.
struct Stretch {
    key: Vec<(String, Value)>,
    from: i64,
    until: i64,
}

fn stretches(entry: &Entry, versions: &[Version]) -> Result<Vec<Stretch>> {
    let mut stretches: Vec<Stretch> = Vec::new();
    for version in versions {
        let (key, id) = (key_of(entry, version)?, version.header.id);
        match stretches.last_mut() {
            Some(last) if last.key == key => last.until = id + 1,
            last => {
                if let Some(last) = last {
                    // Its departure has a number before the arrival's.
                    last.until = id;
                }
                stretches.push(Stretch { key, from: id, until: id + 1 });
            }
        }
    }
    Ok(stretches)
}

async fn plan(session: &mut Session, request: &Redact) -> Result<(Arc<Entry>, Redacted, Vec<Part>)> {
    let entry = catalog::find(session, &request.table).await?;
    let fields = fields(&entry, &request.fields)?;
    let versions = versions::of_row(session, &entry, &request.key).await?;
    let stretches = stretches(&entry, &versions)?;
    refuse_held(&entry, &stretches)?;
    let mut done = Redacted {
        table: introspect::seen(session, &entry.table).await?,
        records: 0,
        still_there: Vec::new(),
    };
    let mut parts: Vec<Part> = Vec::new();
    let mut records = BTreeSet::new();
    for field in fields {
        let stays = stays(&entry, &versions, &field);
        if stays.and_then(|version| value_then(&entry, version, &field)).is_some_and(|value| !value.is_null())
        {
            done.still_there.push(field.name.clone());
        }
        let end = stays.map_or(i64::MAX, |version| version.header.id);
        for Stretch { key, from, until } in &stretches {
            let (from, before) = (*from, end.min(*until));
            let holds = |version: &&Version| {
                (from..before).contains(&version.header.id)
                    && value_then(&entry, version, &field)
                        .is_some_and(|value| !value.is_null() && *value != Value::Redacted)
            };
            let held: Vec<i64> = versions.iter().filter(holds).map(|version| version.header.id).collect();
            if held.is_empty() {
                continue;
            }
            records.extend(held);
            let next = versions.iter().find(|version| version.header.id >= before).or(versions.last());
            let date = next.map_or_else(Moment::now, |version| version.header.date);
            match parts.iter_mut().find(|part| part.key == *key && part.before.1 == before) {
                Some(part) => part.fields.push(field.clone()),
                None => parts.push(Part {
                    key: key.clone(),
                    fields: vec![field.clone()],
                    from,
                    before: (date, before),
                }),
            }
        }
    }
    done.records = records.len() as u64;
    Ok((entry, done, parts))
}

fn refuse_held(entry: &Entry, stretches: &[Stretch]) -> Result<()> {
    let Held { table, rows } = Held::of(entry)?;
    let is_held = |stretch: &Stretch| rows.iter().any(|held| texts(held) == texts(&values(&stretch.key)));
    let row = stretches.iter().any(is_held).then(|| "the row is under a hold".to_owned());
    match table.or(row) {
        Some(why) => {
            Err(Error::new(ErrorKind::Conflict, format!("nothing is redacted: {why}")).on(&entry.table))
        }
        None => Ok(()),
    }
}

async fn run(session: &mut Session, request: &Redact, context: &Context) -> Result<Redacted> {
    catalog::ensure(session).await?;
    let (entry, done, parts) = plan(session, request).await?;
    if parts.is_empty() {
        return Ok(done);
    }
    prune::guarded(session, &entry).await?;
    let dialect = session.dialect();
    let layout = entry.layout()?;
    session.run_all(&dialect.tick()).await?;
    let rule = format!("{} of {}", request.fields.join(", "), request.key);
    let removal = prune::enter(session, layout, "redact", Some(&rule), context, None).await?;
    session.run(&sql::open_removal(dialect, removal, None)).await?;
    for part in &parts {
        let fields: Vec<&Field> = part.fields.iter().collect();
        let key = values(&part.key);
        let redacting =
            Redacting { layout, key: &key, from: part.from, before: part.before.1, fields: &fields };
        session.run(&retention::redact(dialect, &redacting)).await?;
        let json = serde_json::to_string(&RowJson(&part.key)).unwrap_or_default();
        for field in fields {
            let entered = sql::insert_redaction(dialect, entry.id, &json, field.bit, part.before, removal);
            session.run(&entered).await?;
        }
    }
    session.run(&sql::close_removal(dialect, removal, done.records)).await?;
    Ok(done)
}

/// That a field of a row was redacted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Redaction {
    bit: u16,
    /// In all records before this one.
    before_id: i64,
    /// As of all times before this.
    before: Moment,
}

/// What was redacted of a table, by the keys of its rows as they are shown.
pub(crate) type Redactions = HashMap<Vec<String>, Vec<Redaction>>;

impl Redaction {
    pub(crate) fn new(bit: u16, before_id: i64, before: Moment) -> Self {
        Self { bit, before_id, before }
    }
}

pub(crate) fn texts(key: &[Value]) -> Vec<String> {
    key.iter().map(ToString::to_string).collect()
}

impl Entry {
    /// What was redacted of the row that has these values in these fields.
    fn redactions_of(&self, fields: &[Field], values: &[Value]) -> &[Redaction] {
        if self.redactions.is_empty() {
            return &[];
        }
        let Ok(layout) = self.layout() else { return &[] };
        let value = |key: &Field| {
            let place = fields.iter().position(|field| field.bit == key.bit)?;
            values.get(place).map(ToString::to_string)
        };
        let key: Option<Vec<String>> = layout.key_fields().map(value).collect();
        key.and_then(|key| self.redactions.get(&key)).map_or(&[], Vec::as_slice)
    }

    /// Says of the values of a record what of them was redacted; and of those before it, where there are any.
    pub(crate) fn redact_record(
        &self,
        fields: &[Field],
        id: i64,
        values: &mut [Value],
        mut olds: Option<&mut [Value]>,
    ) {
        let redactions = self.redactions_of(fields, values).to_vec();
        for Redaction { bit, before_id, .. } in redactions {
            let Some(place) = fields.iter().position(|field| field.bit == bit) else { continue };
            if id < before_id {
                values[place] = Value::Redacted;
            }
            if let (true, Some(olds)) = (id <= before_id, olds.as_deref_mut()) {
                olds[place] = Value::Redacted;
            }
        }
    }

    /// The same of a row as of a time.
    pub(crate) fn redact_row(&self, fields: &[Field], bound: Bound, values: &mut [Value]) {
        let redactions = self.redactions_of(fields, values).to_vec();
        for Redaction { bit, before, before_id } in redactions {
            let then = match bound {
                Bound::Now => false,
                Bound::Time(at) => at < before,
                Bound::Position(at, id) => (at, id) < (before, before_id),
            };
            if let Some(place) = fields.iter().position(|field| field.bit == bit)
                && then
                && values[place].is_null()
            {
                values[place] = Value::Redacted;
            }
        }
    }

    /// A row of which something was redacted that it had after a moment, by its key as it is shown; of these columns, or of any.
    pub(crate) fn redacted_since(&self, since: Moment, columns: &[String]) -> Option<&Vec<String>> {
        let asked = |bit: u16| {
            let named =
                self.layout().ok().and_then(|layout| layout.fields.iter().find(|field| field.bit == bit));
            columns.is_empty() || named.is_some_and(|field| columns.contains(&field.name))
        };
        let is = |one: &Redaction| since < one.before && asked(one.bit);
        self.redactions.iter().find(|(_, redactions)| redactions.iter().any(is)).map(|(key, _)| key)
    }
}
