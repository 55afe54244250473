//! Redaction: a person's right to be forgotten.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use afterimage_core::record::all_fields;
use afterimage_core::sql::log::Position;
use afterimage_core::sql::retention::{self, Redacting};
use afterimage_core::sql::{Bound, catalog as sql};
use afterimage_core::{Action, Context, Field, Moment, TableName, Value, Version, suggest};
use serde::Serialize;

use crate::catalog::{self, Entry};
use crate::database::Afterimage;
use crate::error::{Error, ErrorKind, Result};
use crate::hold::said;
use crate::removal::{self, Held};
use crate::serialized::as_text;
use crate::session::Session;
use crate::{introspect, key, versions};

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
    every_life: bool,
    dry_run: bool,
}

impl Redact {
    /// Of this row, by its key.
    pub fn new(table: impl Into<String>, key: impl Into<String>) -> Self {
        Self { table: table.into(), key: key.into(), fields: Vec::new(), every_life: false, dry_run: false }
    }

    /// These fields, by any name that they ever had.
    #[must_use]
    pub fn fields<S: Into<String>>(mut self, fields: impl IntoIterator<Item = S>) -> Self {
        self.fields = fields.into_iter().map(Into::into).collect();
        self
    }

    /// Also of the rows that had this key before, and went or left it; else of the last one that had it only.
    #[must_use]
    pub fn every_life(mut self, yes: bool) -> Self {
        self.every_life = yes;
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
    #[serde(serialize_with = "as_text")]
    pub table: TableName,
    /// In how many records a value was removed, or would be.
    pub records: u64,
    /// Fields that the row itself still has a value in: that value stays in its newest records, as it stays in the row.
    pub still_there: Vec<String>,
    /// Whether records of the table are in archives, whose files are written anew where they hold one of these.
    pub in_archives: bool,
    /// How many other rows had this key before, of which nothing was redacted: see [`Redact::every_life`].
    pub other_lives: usize,
}

impl Afterimage {
    /// Removes the values of chosen fields of one row from all its records, through every change of its key: in their place
    /// the history says that they were [`Redacted`](crate::Value::Redacted). What the row itself holds now stays, in the row and
    /// in the records that say so: change it first, and then redact what it was.
    ///
    /// Archives that records of the table were moved to are written anew without them. Copies, and what was brought back of archives,
    /// are files that nothing here knows of.
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
        // What is in archives is fetched before anybody has to wait for this.
        #[cfg(feature = "archive")]
        self.reading(async |session| plan(session, request).await).await?;
        let done = self.removing(async |session| run(session, request, context).await).await?;
        #[cfg(feature = "archive")]
        if done.in_archives {
            self.redact_archives(&request.table).await?;
        }
        Ok(done)
    }
}

/// Values that are to be removed of the records of one key.
struct Part {
    key: Vec<(String, Value)>,
    fields: Vec<Field>,
    /// From this record on, before the other.
    range: [Position; 2],
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

/// A stretch of a row's life under one key, and where the next one begins.
struct Stretch<'v> {
    key: Vec<(String, Value)>,
    versions: Vec<&'v Version>,
    until: Position,
}

fn position(version: &Version) -> Position {
    (version.header.date, version.header.id)
}

fn stretches<'v>(entry: &Entry, versions: &'v [Version]) -> Result<Vec<Stretch<'v>>> {
    let mut stretches: Vec<Stretch<'v>> = Vec::new();
    for version in versions {
        let key = key_of(entry, version)?;
        let (date, id) = position(version);
        match stretches.last_mut() {
            Some(last) if last.key == key => {
                last.versions.push(version);
                last.until = (date, id + 1);
            }
            last => {
                if let Some(last) = last {
                    // Its departure has a number before the arrival's.
                    last.until = (date, id);
                }
                stretches.push(Stretch { key, versions: vec![version], until: (date, id + 1) });
            }
        }
    }
    Ok(stretches)
}

impl Stretch<'_> {
    /// Where it had values that are to go, in records before a position; and in how many records these are.
    fn held(
        &self,
        entry: &Entry,
        field: &Field,
        end: Option<Position>,
        records: &mut BTreeSet<i64>,
    ) -> Vec<[Position; 2]> {
        let until = end.map_or(self.until, |end| end.min(self.until));
        let mut ranges: Vec<[Position; 2]> = Vec::new();
        let mut open = false;
        for version in self.versions.iter().filter(|version| position(version) < until) {
            let at = position(version);
            let value = value_then(entry, version, field);
            if !value.is_some_and(|value| !value.is_null() && *value != Value::Redacted) {
                if let (true, Some(last)) = (open, ranges.last_mut()) {
                    last[1] = at;
                }
                open = false;
                continue;
            }
            records.insert(at.1);
            if !open {
                ranges.push([at, until]);
            }
            open = true;
        }
        ranges
    }
}

async fn plan(session: &mut Session, request: &Redact) -> Result<(Arc<Entry>, Redacted, Vec<Part>)> {
    let entry = catalog::find(session, &request.table).await?;
    let fields = fields(&entry, &request.fields)?;
    let mut lives = versions::lives(session, &entry, &request.key).await?;
    let others = lives.len() - 1;
    if !request.every_life {
        lives.drain(..others);
    }
    let mut done = Redacted {
        table: introspect::seen(session, &entry.table).await?,
        records: 0,
        still_there: Vec::new(),
        in_archives: !entry.archives.is_empty(),
        other_lives: if request.every_life { 0 } else { others },
    };
    let mut parts: Vec<Part> = Vec::new();
    let mut records = BTreeSet::new();
    for versions in &lives {
        let stretches = stretches(&entry, versions)?;
        refuse_held(&entry, &stretches)?;
        for field in &fields {
            let stays = stays(&entry, versions, field);
            let value = stays.and_then(|version| value_then(&entry, version, field));
            if value.is_some_and(|value| !value.is_null()) && !done.still_there.contains(&field.name) {
                done.still_there.push(field.name.clone());
            }
            for stretch in &stretches {
                for range in stretch.held(&entry, field, stays.map(position), &mut records) {
                    match parts.iter_mut().find(|part| part.key == stretch.key && part.range == range) {
                        Some(part) => part.fields.push(field.clone()),
                        None => {
                            parts.push(Part { key: stretch.key.clone(), fields: vec![field.clone()], range })
                        }
                    }
                }
            }
        }
    }
    done.records = records.len() as u64;
    Ok((entry, done, parts))
}

fn refuse_held(entry: &Entry, stretches: &[Stretch<'_>]) -> Result<()> {
    let Held { table, rows } = Held::of(entry)?;
    let is_held = |stretch: &Stretch<'_>| rows.iter().any(|held| texts(held) == texts(&values(&stretch.key)));
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
    removal::guarded(session, &entry).await?;
    let dialect = session.dialect();
    let layout = entry.layout()?;
    session.run_all(&dialect.tick()).await?;
    let rule = format!("{} of {}", request.fields.join(", "), request.key);
    let removal = removal::enter(session, layout, "redact", Some(&rule), context, None).await?;
    session.run(&sql::open_removal(dialect, removal, None)).await?;
    for part in &parts {
        let fields: Vec<&Field> = part.fields.iter().collect();
        let key = values(&part.key);
        let [from, before] = part.range;
        let redacting = Redacting { layout, key: &key, from, before, fields: &fields };
        session.run(&retention::redact(dialect, &redacting)).await?;
        for field in fields {
            let kept = key::kept(&key);
            let entered = sql::insert_redaction(dialect, entry.id, &kept, field.bit, part.range, removal);
            session.run(&entered).await?;
        }
    }
    session.run(&sql::close_removal(dialect, removal, done.records)).await?;
    Ok(done)
}

/// That a field of a row was redacted, in its records from one on, before another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Redaction {
    bit: u16,
    from: Position,
    before: Position,
}

/// What was redacted of a table, by the keys of its rows as they are shown.
pub(crate) type Redactions = HashMap<Vec<String>, Vec<Redaction>>;

impl Redaction {
    pub(crate) fn new(bit: u16, from: Position, before: Position) -> Self {
        Self { bit, from, before }
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
        at: Position,
        values: &mut [Value],
        olds: Option<&mut [Value]>,
    ) {
        if self.redactions.is_empty() {
            return;
        }
        let place = |bit: u16| fields.iter().position(|field| field.bit == bit);
        if let Some(olds) = olds {
            // An arrival was another key's before.
            let arrived = self.layout().is_ok_and(|layout| {
                layout.key_fields().all(|key| place(key.bit).is_some_and(|place| !olds[place].is_null()))
            });
            let then = self.redactions_of(fields, if arrived { olds } else { values }).to_vec();
            for Redaction { bit, from, before } in then {
                if let (Some(place), true) = (place(bit), from < at && at <= before) {
                    olds[place] = Value::Redacted;
                }
            }
        }
        for Redaction { bit, from, before } in self.redactions_of(fields, values).to_vec() {
            if let (Some(place), true) = (place(bit), from <= at && at < before) {
                values[place] = Value::Redacted;
            }
        }
    }

    /// The same of a row as of a time.
    pub(crate) fn redact_row(&self, fields: &[Field], bound: Bound, values: &mut [Value]) {
        for Redaction { bit, from, before } in self.redactions_of(fields, values).to_vec() {
            let then = match bound {
                Bound::Now => false,
                Bound::Time(at) => from.0 <= at && at < before.0,
                Bound::Position(at, id) => from <= (at, id) && (at, id) < before,
            };
            if let Some(place) = fields.iter().position(|field| field.bit == bit)
                && then
                && values[place].is_null()
            {
                values[place] = Value::Redacted;
            }
        }
    }

    /// A field of a row that is NULL, and in which something was redacted at any time.
    pub(crate) fn may_be_redacted(&self, fields: &[Field], values: &[Value]) -> Option<String> {
        let is_null = |one: &Redaction| {
            let place = fields.iter().position(|field| field.bit == one.bit)?;
            values[place].is_null().then(|| fields[place].name.clone())
        };
        self.redactions_of(fields, values).iter().find_map(is_null)
    }

    /// A row of which something was redacted that it had after a moment, by its key as it is shown; of these columns, or of any.
    pub(crate) fn redacted_since(&self, since: Moment, columns: &[String]) -> Option<&Vec<String>> {
        let asked = |bit: u16| {
            let named =
                self.layout().ok().and_then(|layout| layout.fields.iter().find(|field| field.bit == bit));
            columns.is_empty() || named.is_some_and(|field| columns.contains(&field.name))
        };
        let is = |one: &Redaction| since < one.before.0 && asked(one.bit);
        self.redactions.iter().find(|(_, redactions)| redactions.iter().any(is)).map(|(key, _)| key)
    }
}
