//! Reading archives that records were moved to.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet};
use std::fs::File;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use afterimage_archive::{Archived, Columns, Glimpse, Reader, glimpse, read_numbers};
use afterimage_core::query::{Choice, Query, Wanted};
use afterimage_core::record::all_fields;
use afterimage_core::sql::archive::{compare_keys, is_in_byte_order, transactions_after};
use afterimage_core::sql::log::Position;
use afterimage_core::sql::{Bound, SHORT};
use afterimage_core::value::Shown;
use afterimage_core::{Action, Field, Header, Keeping, Moment, Period, Record, Value, layout};
use tempfile::NamedTempFile;

use super::folder_of;
use super::manifest::{Manifest, Part};
use super::store::{Store, sha256_of};
use crate::as_of::Point;
use crate::catalog::{self, Entry};
use crate::error::{Error, ErrorKind, Result};
use crate::session::Session;
use crate::shelf::{Moved, Shelved};
use crate::versions::key_of;

/// So many bytes of files are kept beside, of which it is known that they are what was written.
const KEPT: u64 = 1 << 30;

/// And so many of them, each of which is open.
const OPEN: usize = 400;

/// So few records are looked for by what stands beside files.
const FEW: usize = 1_000;

/// What a handle has fetched of archives.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shelves(Arc<Mutex<Fetched>>);

#[derive(Debug, Default)]
struct Fetched {
    /// By their addresses: each keeps its connections.
    stores: HashMap<String, Store>,
    /// By their SHA-256.
    manifests: HashMap<String, Arc<Manifest>>,
    /// The last one that was asked for at the end.
    files: Vec<(String, u64, Arc<NamedTempFile>)>,
}

impl Shelves {
    fn with<T>(&self, look: impl FnOnce(&mut Fetched) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where an archive is.
    pub(super) fn store(&self, url: &str) -> Result<Store> {
        if let Some(known) = self.with(|fetched| fetched.stores.get(url).cloned()) {
            return Ok(known);
        }
        let store = Store::open(url)?;
        self.with(|fetched| fetched.stores.insert(url.to_owned(), store.clone()));
        Ok(store)
    }

    /// The manifest of a run, which must be what the catalogue says that it is.
    pub(super) async fn manifest(&self, store: &Store, moved: &Moved) -> Result<Arc<Manifest>> {
        if let Some(known) = self.with(|fetched| fetched.manifests.get(&moved.sha256).cloned()) {
            return Ok(known);
        }
        let bytes = store.get(&moved.manifest).await?;
        if sha256_of(&bytes) != moved.sha256 {
            return Err(tampered(store, &moved.manifest));
        }
        let manifest = Arc::new(Manifest::read(&bytes, &moved.manifest)?);
        self.with(|fetched| fetched.manifests.insert(moved.sha256.clone(), Arc::clone(&manifest)));
        Ok(manifest)
    }

    /// Keeps nothing of a file.
    pub(super) fn forget(&self, sha256: &str) {
        self.with(|fetched| fetched.files.retain(|(known, ..)| known != sha256));
    }

    /// The file of a part.
    pub(super) async fn file(&self, store: &Store, path: &str, part: &Part) -> Result<File> {
        self.fetched(store, path, part.bytes, &part.sha256).await
    }

    /// A file, which must be what the manifest says that it is.
    async fn fetched(&self, store: &Store, path: &str, length: u64, expected: &str) -> Result<File> {
        let known = self.with(|fetched| {
            let at = fetched.files.iter().position(|(sha256, ..)| sha256 == expected)?;
            let kept = fetched.files.remove(at);
            let file = Arc::clone(&kept.2);
            fetched.files.push(kept);
            Some(file)
        });
        // Whoever tidies the temporary folder may have removed it.
        if let Some(known) = known.and_then(|known| known.reopen().ok()) {
            return Ok(known);
        }
        self.forget(expected);
        let mut beside = NamedTempFile::new()?;
        let (bytes, sha256) = store.fetch_into(path, beside.as_file_mut()).await?;
        if (bytes, sha256.as_str()) != (length, expected) {
            return Err(tampered(store, path));
        }
        let beside = Arc::new(beside);
        let file = beside.reopen()?;
        self.with(|fetched| {
            fetched.files.push((sha256, bytes, beside));
            while fetched.files.len() > OPEN
                || fetched.files.len() > 1
                    && fetched.files.iter().map(|(_, bytes, _)| bytes).sum::<u64>() > KEPT
            {
                fetched.files.remove(0);
            }
        });
        Ok(file)
    }
}

fn tampered(store: &Store, path: &str) -> Error {
    let message =
        format!("{path} in the archive {} is not what was written there: see `archive verify`", store.url);
    Error::new(ErrorKind::Unknowable, message)
}

/// A file of records.
struct OneFile {
    store: Store,
    path: String,
    /// The file beside it of the records that followed its own.
    beside: String,
    part: Part,
    url: Arc<str>,
    /// How long a transaction took at most.
    longest: i64,
}

/// All archives of a table.
pub(crate) struct Shelf {
    /// By month and cut, the oldest first: so they follow one another along each row, whenever they were written.
    files: Vec<OneFile>,
    fields: Vec<Field>,
    entry: Entry,
    in_byte_order: bool,
    shelves: Shelves,
}

impl Shelf {
    /// Those that records of a table were moved to; nothing where there are none.
    pub(crate) async fn of(session: &mut Session, entry: &Entry) -> Result<Option<Self>> {
        if entry.archives.is_empty() {
            return Ok(None);
        }
        let shelves = session.remembered().shelves.clone();
        let mut files = BTreeMap::new();
        for moved in &entry.archives {
            let store = shelves.store(&moved.url)?;
            let manifest = shelves.manifest(&store, moved).await.map_err(|error| error.on(&entry.table))?;
            let url: Arc<str> = moved.url.as_str().into();
            for (n, part) in manifest.parts.iter().enumerate() {
                let file = OneFile {
                    store: store.clone(),
                    path: format!("{}/{}", folder_of(&moved.manifest), part.path),
                    beside: format!("{}/{}", folder_of(&moved.manifest), part.followers.path),
                    part: part.clone(),
                    url: Arc::clone(&url),
                    longest: manifest.longest_transaction,
                };
                files.insert((Period::Month.begin(part.from)?, moved.cut, moved.id, n), file);
            }
        }
        Ok(Some(Self {
            files: files.into_values().collect(),
            fields: all_fields(&entry.epochs),
            in_byte_order: is_in_byte_order(entry.layout()?),
            entry: entry.clone(),
            shelves,
        }))
    }

    /// How many records there are.
    pub(super) fn records(&self) -> u64 {
        self.files.iter().map(|file| file.part.records).sum()
    }

    /// Stretches of its records, the newest files first and of each the last ones: the place of the file, and those in it.
    pub(super) fn backwards(
        &self,
        many: usize,
    ) -> impl Iterator<Item = (usize, Range<usize>)> + Send + use<> {
        let counts = self.files.iter().map(|file| usize::try_from(file.part.records).unwrap_or_default());
        let counts: Vec<usize> = counts.collect();
        counts.into_iter().enumerate().rev().flat_map(move |(file, count)| {
            let ends = (0..count.div_ceil(many)).map(move |n| count - n * many);
            ends.map(move |end| (file, end.saturating_sub(many)..end))
        })
    }

    /// The records of a stretch.
    pub(super) async fn stretch(&self, file: usize, places: Range<usize>) -> Result<Vec<Shelved>> {
        match self.files.get(file) {
            Some(file) => self.read(file, places.collect()).await?.collect(),
            None => Ok(Vec::new()),
        }
    }

    async fn open(&self, file: &OneFile) -> Result<File> {
        let opened = self.shelves.file(&file.store, &file.path, &file.part).await;
        opened.map_err(|error| error.on(&self.entry.table))
    }

    /// What is seen in passing of a file's records.
    async fn glimpse(&self, file: &OneFile, headers: bool, see: impl FnMut(&Glimpse<'_>)) -> Result<()> {
        let opened = self.open(file).await?;
        glimpse(opened, headers, see).map_err(|error| Error::from(error).on(&self.entry.table))
    }

    /// The records at some places of a file.
    async fn read(&self, file: &OneFile, mut places: Vec<usize>) -> Result<Records<'_>> {
        places.sort_unstable();
        let reader = Reader::of_places(self.open(file).await?, &places)?;
        let columns = Places::of(reader.columns(), &self.fields);
        Ok(Records { shelf: self, reader, columns, url: Arc::clone(&file.url) })
    }

    /// Adds them to others.
    async fn read_into(&self, file: &OneFile, places: Vec<usize>, found: &mut Vec<Shelved>) -> Result<()> {
        if !places.is_empty() {
            for shelved in self.read(file, places).await? {
                found.push(shelved?);
            }
        }
        Ok(())
    }

    /// The records that came before some others along their rows: the last ones, or all of them. In no order.
    pub(crate) async fn before(&self, of: &[Position], all: bool) -> Result<Vec<Shelved>> {
        let mut sought: HashSet<Position> = of.iter().copied().collect();
        let mut found = Vec::new();
        for file in self.files.iter().rev() {
            let newest = sought.iter().max().copied();
            if newest.is_none_or(|newest| file.part.from > newest.0) || !self.leads_to(file, &sought).await? {
                continue;
            }
            let mut seen: Vec<(Position, Position)> = Vec::new();
            self.glimpse(file, false, |glimpse| seen.push((glimpse.at, glimpse.until))).await?;
            // The records of a row follow one another: from its end on, each leads to the one before.
            let mut places = Vec::new();
            for (place, (at, until)) in seen.iter().enumerate().rev() {
                if sought.remove(until) {
                    places.push(place);
                    if all {
                        sought.insert(*at);
                    }
                }
            }
            self.read_into(file, places, &mut found).await?;
        }
        Ok(found)
    }

    /// Whether a record of a file came before one of some: a small file beside tells.
    async fn leads_to(&self, file: &OneFile, sought: &HashSet<Position>) -> Result<bool> {
        if sought.len() > FEW {
            return Ok(true);
        }
        let beside = &file.part.followers;
        let fetched = self.shelves.fetched(&file.store, &file.beside, beside.bytes, &beside.sha256).await;
        let numbers = read_numbers(fetched.map_err(|error| error.on(&self.entry.table))?)?;
        Ok(sought.iter().any(|(_, id)| numbers.binary_search(id).is_ok()))
    }

    /// The records of some moments.
    pub(crate) async fn of_moments(&self, dates: &HashSet<Moment>) -> Result<Vec<Shelved>> {
        let holds = |part: &Part| dates.iter().any(|date| (part.from..=part.to).contains(date));
        self.chosen(holds, |glimpse| dates.contains(&glimpse.at.0)).await
    }

    /// The records at some positions.
    pub(crate) async fn at(&self, positions: &[Position]) -> Result<Vec<Shelved>> {
        let sought: HashSet<Position> = positions.iter().copied().collect();
        let (Some(first), Some(last)) = (sought.iter().min(), sought.iter().max()) else {
            return Ok(Vec::new());
        };
        let holds = |part: &Part| part.from <= last.0 && part.to >= first.0;
        let found = self.chosen(holds, |glimpse| sought.contains(&glimpse.at)).await?;
        let mut once = HashSet::new();
        Ok(found.into_iter().filter(|shelved| once.insert(shelved.at())).collect())
    }

    /// The records of some files of which something is true.
    async fn chosen(
        &self,
        holds: impl Fn(&Part) -> bool,
        mut wanted: impl FnMut(&Glimpse<'_>) -> bool,
    ) -> Result<Vec<Shelved>> {
        let mut found = Vec::new();
        for file in self.files.iter().filter(|file| holds(&file.part)) {
            let mut places = Vec::new();
            self.glimpse(file, false, |glimpse| {
                if wanted(glimpse) {
                    places.push(glimpse.place);
                }
            })
            .await?;
            self.read_into(file, places, &mut found).await?;
        }
        Ok(found)
    }

    /// The positions of the newest records that may answer a query, older than one of them and of some only, newest first: whose
    /// headers do.
    pub(crate) async fn newest(
        &self,
        query: &Query,
        after: Option<Position>,
        of: Option<&HashSet<Position>>,
        limit: usize,
    ) -> Result<Vec<Position>> {
        // Two runs may have written the same.
        let mut newest: BTreeSet<Position> = BTreeSet::new();
        let headers = asks_for_headers(query);
        for file in self.files.iter().rev() {
            let part = &file.part;
            let beyond = after.is_some_and(|(date, _)| part.from > date)
                || query.before.is_some_and(|before| part.from >= before)
                || query.from.is_some_and(|from| part.to < from);
            let full = newest.len() >= limit;
            if beyond || full && newest.first().is_some_and(|oldest| part.to < oldest.0) {
                continue;
            }
            self.glimpse(file, headers, |glimpse| {
                let within = of.is_none_or(|of| of.contains(&glimpse.at))
                    && after.is_none_or(|after| glimpse.at < after)
                    && query.before.is_none_or(|before| glimpse.at.0 < before)
                    && query.from.is_none_or(|from| glimpse.at.0 >= from);
                if within && !glimpse.departed && (!headers || may_answer(query, glimpse)) {
                    newest.insert(glimpse.at);
                    if newest.len() > limit {
                        newest.pop_first();
                    }
                }
            })
            .await?;
        }
        Ok(newest.into_iter().rev().collect())
    }

    /// The rows that were current at a point, in byte order of their keys, each once. `unfinished` is where the records of before it
    /// stand that transactions wrote which had not ended.
    pub(crate) async fn current(&self, point: &Point, unfinished: &HashSet<Position>) -> Result<Current<'_>> {
        let mut rows = Current { shelf: self, heads: BinaryHeap::new(), last: None };
        let Some(moment) = point.bound.moment() else { return Ok(rows) };
        let beyond = |position: Position| !point.bound.includes(position);
        let headers = !point.unfinished.is_empty();
        for file in &self.files {
            let part = &file.part;
            if part.from > moment || unfinished.is_empty() && part.until < moment {
                continue;
            }
            let mut places = Vec::new();
            self.glimpse(file, headers, |glimpse| {
                let finished = glimpse.tx.is_none_or(|tx| !point.unfinished.iter().any(|id| id == tx));
                let current = !beyond(glimpse.at)
                    && (beyond(glimpse.until) || unfinished.contains(&glimpse.until))
                    && finished;
                if current && glimpse.action != Some(Action::Delete) {
                    places.push(glimpse.place);
                }
            })
            .await?;
            if !places.is_empty() {
                let records = self.read(file, places).await?;
                match self.in_byte_order {
                    true => rows.add(Box::new(records))?,
                    false => {
                        let mut all = records.collect::<Result<Vec<_>>>()?;
                        all.sort_by(|a, b| compare_keys(&self.key(a), &self.key(b)));
                        rows.add(Box::new(all.into_iter().map(Ok)))?;
                    }
                }
            }
        }
        Ok(rows)
    }

    /// The values of a record's key.
    fn key(&self, shelved: &Shelved) -> Vec<Value> {
        let Ok(layout) = self.entry.layout() else { return Vec::new() };
        key_of(layout, &self.fields, &shelved.record.values)
    }

    /// Where the records of some transactions stand, up to a bound.
    pub(crate) async fn of_transactions(&self, ids: &[String], bound: Bound) -> Result<Vec<Position>> {
        let mut found = Vec::new();
        let moment = bound.moment().unwrap_or_else(Moment::now);
        // One that began long before may have records here: how long it took, those that it wrote later tell.
        for file in self.files.iter().filter(|file| file.part.from <= moment) {
            self.glimpse(file, true, |glimpse| {
                if bound.includes(glimpse.at) && glimpse.tx.is_some_and(|tx| ids.iter().any(|id| id == tx)) {
                    found.push(glimpse.at);
                }
            })
            .await?;
        }
        Ok(found)
    }

    /// The transactions that had begun by a bound and wrote records beyond it. Into the other go those that wrote shortly before.
    async fn unfinished(
        &self,
        bound: Bound,
        into: &mut HashSet<String>,
        shortly_before: &mut HashSet<String>,
    ) -> Result<()> {
        let Some(moment) = bound.moment() else { return Ok(()) };
        let before = Moment::from_micros(moment.as_micros().saturating_sub(SHORT));
        for file in &self.files {
            let latest = Moment::from_micros(moment.as_micros().saturating_add(file.longest));
            if file.part.to < before || file.part.from > latest {
                continue;
            }
            self.glimpse(file, true, |glimpse| {
                let Some(tx) = glimpse.tx else { return };
                if before <= glimpse.at.0 && glimpse.at.0 <= moment && !shortly_before.contains(tx) {
                    shortly_before.insert(tx.to_owned());
                }
                let had_begun = glimpse.began.is_some_and(|began| began <= moment);
                if had_begun && !bound.includes(glimpse.at) && !into.contains(tx) {
                    into.insert(tx.to_owned());
                }
            })
            .await?;
        }
        Ok(())
    }
}

/// The transactions that had begun by a bound and had not ended, as the archives of all tables tell.
pub(crate) async fn unfinished(session: &mut Session, bound: Bound) -> Result<Vec<String>> {
    let (mut found, mut shortly_before) = (HashSet::new(), HashSet::new());
    let all = catalog::entries(session).await?;
    for entry in all.iter().filter(|entry| entry.is_archived_at(bound)) {
        if let Some(shelf) = Shelf::of(session, entry).await? {
            shelf.unfinished(bound, &mut found, &mut shortly_before).await?;
        }
    }
    // What does not say that it began earlier is told by what it wrote shortly before, and shortly after.
    let histories = catalog::histories(&all);
    if let Some(sql) = transactions_after(session.dialect(), &histories, bound, SHORT)
        && !shortly_before.is_empty()
    {
        let after = session.ask(&sql).await?.into_iter().filter_map(|mut row| row.pop()?.text());
        found.extend(after.filter(|tx| shortly_before.contains(tx)));
    }
    Ok(found.into_iter().collect())
}

/// Where the last record of a transaction stands, as the archives of all tables tell; `near` is when it wrote others.
pub(crate) async fn last_of(
    session: &mut Session,
    tx: &str,
    near: Option<Moment>,
) -> Result<Option<Position>> {
    let mut last = None;
    for entry in catalog::entries(session).await? {
        let Some(shelf) = Shelf::of(session, &entry).await? else { continue };
        for file in &shelf.files {
            let around = |by: i64| near.map(|near| Moment::from_micros(near.as_micros().saturating_add(by)));
            if around(-file.longest).is_some_and(|from| file.part.to < from)
                || around(file.longest).is_some_and(|to| file.part.from > to)
            {
                continue;
            }
            shelf
                .glimpse(file, true, |glimpse| {
                    if glimpse.tx == Some(tx) {
                        last = last.max(Some(glimpse.at));
                    }
                })
                .await?;
        }
    }
    Ok(last)
}

/// The place in a file of each of a table's fields, as it is now.
struct Places(Vec<Option<usize>>);

impl Places {
    fn of(columns: &Columns, fields: &[Field]) -> Self {
        let place = |field: &Field| columns.fields().iter().position(|known| known.bit == field.bit);
        Self(fields.iter().map(place).collect())
    }

    fn values(&self, fields: &[Field], mut values: Vec<Value>) -> Vec<Value> {
        let each = fields.iter().zip(&self.0).map(|(field, place)| {
            let value = place.and_then(|place| values.get_mut(place));
            let value = value.map_or(Value::Null, |value| std::mem::replace(value, Value::Null));
            match (value, field.keeping, field.shown) {
                (value @ (Value::Null | Value::Unknown), ..) => value,
                (_, Keeping::Masked, _) => Value::Masked,
                // The column is of another type by now.
                (Value::Number(digits), _, Shown::Text) => Value::Text(digits),
                (Value::Text(text), _, Shown::Number) => Value::from_text(Shown::Number, text),
                (value, ..) => value,
            }
        });
        each.collect()
    }
}

/// Records of a file.
struct Records<'s> {
    shelf: &'s Shelf,
    reader: Reader,
    columns: Places,
    url: Arc<str>,
}

impl Iterator for Records<'_> {
    type Item = Result<Shelved>;

    fn next(&mut self) -> Option<Self::Item> {
        let archived = match self.reader.next()? {
            Ok(archived) => archived,
            Err(error) => return Some(Err(Error::from(error).on(&self.shelf.entry.table))),
        };
        let Archived { record: Record { mut header, mask, values }, before, until, began, scope, .. } =
            archived;
        let fields = &self.shelf.fields;
        header.archive = Some(Arc::clone(&self.url));
        let values = self.columns.values(fields, values);
        let mut before = self.columns.values(fields, before);
        let mut record = Record { header, mask, values };
        redact(&self.shelf.entry, fields, &mut record, &mut before);
        Some(Ok(Shelved { record, before, until, began, scope }))
    }
}

type Sorted<'s> = Box<dyn Iterator<Item = Result<Shelved>> + Send + 's>;

/// Says of the values of a record, and of those before it, what of them was redacted since. Whether there was anything.
pub(super) fn redact(entry: &Entry, fields: &[Field], record: &mut Record, before: &mut [Value]) -> bool {
    if entry.redactions.is_empty() {
        return false;
    }
    let Record { header, mask, values } = record;
    let (then, then_before) = (values.clone(), before.to_vec());
    let unchanged: Vec<usize> = (0..fields.len()).filter(|n| !layout::names(mask, &fields[*n])).collect();
    let arrived = header.action == Action::Create && header.old_key.is_some();
    for n in unchanged.iter().filter(|_| arrived) {
        before[*n] = values[*n].clone();
    }
    let olds = if arrived || header.action == Action::Update { Some(&mut *before) } else { None };
    entry.redact_record(fields, (header.date, header.id), values, olds);
    for n in unchanged {
        before[n] = Value::Null;
    }
    *values != then || *before != then_before
}

/// The next row of a file, and what comes after it.
struct Head<'s> {
    key: Vec<Value>,
    next: Shelved,
    rest: Sorted<'s>,
}

/// The least key comes first, and of one key the newest.
impl Ord for Head<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        compare_keys(&other.key, &self.key).then_with(|| self.next.at().cmp(&other.next.at()))
    }
}

impl PartialOrd for Head<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head<'_> {}

/// The rows of several files, merged: each with its key.
pub(crate) struct Current<'s> {
    shelf: &'s Shelf,
    heads: BinaryHeap<Head<'s>>,
    last: Option<Vec<Value>>,
}

impl<'s> Current<'s> {
    fn add(&mut self, mut rest: Sorted<'s>) -> Result<()> {
        if let Some(next) = rest.next() {
            let next = next?;
            self.heads.push(Head { key: self.shelf.key(&next), next, rest });
        }
        Ok(())
    }

    fn advance(&mut self) -> Result<Option<(Vec<Value>, Shelved)>> {
        while let Some(Head { key, next, rest }) = self.heads.pop() {
            self.add(rest)?;
            // Two runs may have written the same.
            if self.last.as_ref().is_none_or(|last| !compare_keys(last, &key).is_eq()) {
                self.last = Some(key.clone());
                return Ok(Some((key, next)));
            }
        }
        Ok(None)
    }
}

impl Iterator for Current<'_> {
    type Item = Result<(Vec<Value>, Shelved)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}

fn asks_for_headers(query: &Query) -> bool {
    let asks = |choice: &Choice| !choice.wanted.is_empty() || !choice.not.is_empty();
    asks(&query.actors)
        || asks(&query.correlations)
        || asks(&query.transactions)
        || !query.actions.wanted.is_empty()
        || !query.actions.not.is_empty()
}

/// Whether what a query asks of headers is so.
fn may_answer(query: &Query, glimpse: &Glimpse<'_>) -> bool {
    let one_of = |choice: &Choice, said: Option<&str>| {
        let is = |wanted: &String| said == Some(wanted.as_str());
        (choice.wanted.is_empty() || choice.wanted.iter().any(is)) && !choice.not.iter().any(is)
    };
    if !one_of(&query.actors, glimpse.user) || !one_of(&query.transactions, glimpse.tx) {
        return false;
    }
    let header = || Header {
        id: glimpse.at.1,
        date: glimpse.at.0,
        action: glimpse.action.unwrap_or(Action::Update),
        user: None,
        reason: None,
        context: glimpse.context.map(ToOwned::to_owned),
        tx: None,
        old_key: None,
        archive: None,
    };
    let correlated = query.correlations.wanted.is_empty() && query.correlations.not.is_empty()
        || one_of(&query.correlations, header().context_member("correlation_id").as_deref());
    let arrived = glimpse.old_key.is_some();
    let is = |wanted: &Wanted| match (wanted, glimpse.action) {
        (Wanted::Create, action) => action == Some(Action::Create) && !arrived,
        (Wanted::Update, action) => {
            action == Some(Action::Update) || action == Some(Action::Create) && arrived
        }
        (Wanted::Delete, action) => action == Some(Action::Delete),
        (Wanted::Restore, _) => header().context_member("restored_from").is_some(),
    };
    let actions = &query.actions;
    correlated && (actions.wanted.is_empty() || actions.wanted.iter().any(is)) && !actions.not.iter().any(is)
}
