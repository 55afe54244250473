//! Records that changed nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use afterimage_core::record::all_fields;
use afterimage_core::sql::catalog as sql;
use afterimage_core::sql::log::{Position, Source};
use afterimage_core::sql::retention::{self, Duplicates};
use afterimage_core::{Context, Field, Moment, TableName, Value, layout, suggest};
use serde::Serialize;

use crate::batches::Batches;
use crate::catalog::Entry;
use crate::database::Afterimage;
use crate::error::{Error, ErrorKind, Result};
use crate::removal::{self, Held};
use crate::serialized::as_text;
use crate::session::{Cell, Row, Session};
use crate::{catalog, introspect, migrate};

/// Which records are looked at.
///
/// ```
/// # use afterimage::Dedupe;
/// let look = Dedupe::new().tables(["orders"]).ignore(["updated_at"]).dry_run(true);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Dedupe {
    tables: Vec<String>,
    ignore: Vec<String>,
    since: Option<Moment>,
    dry_run: bool,
}

impl Dedupe {
    /// Those of all tracked tables.
    pub fn new() -> Self {
        Self::default()
    }

    /// Of these tables only.
    #[must_use]
    pub fn tables<S: Into<String>>(mut self, tables: impl IntoIterator<Item = S>) -> Self {
        self.tables = tables.into_iter().map(Into::into).collect();
        self
    }

    /// Also those that changed nothing but these columns. As of a time between such a record and the next that stays, they then
    /// are what they were before it.
    #[must_use]
    pub fn ignore<S: Into<String>>(mut self, columns: impl IntoIterator<Item = S>) -> Self {
        self.ignore = columns.into_iter().map(Into::into).collect();
        self
    }

    /// Only records that are not older than this.
    #[must_use]
    pub fn since(mut self, moment: Moment) -> Self {
        self.since = Some(moment);
        self
    }

    /// Says what would go, and lets nothing go.
    #[must_use]
    pub fn dry_run(mut self, yes: bool) -> Self {
        self.dry_run = yes;
        self
    }
}

/// What went of one table, or would go.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Deduped {
    /// The table.
    #[serde(serialize_with = "as_text")]
    pub table: TableName,
    /// How many records went, or would go.
    pub records: u64,
    /// Why nothing may go.
    pub kept_by: Option<String>,
}

impl Afterimage {
    /// Removes records that changed nothing: updates whose fields all stayed as they were, as imports write them, and tables
    /// that record unchanged updates. Never a creation or a deletion, nor a record that gives a reason, or that somebody else
    /// wrote than the record before it; of rows that are there as of rows that are deleted.
    ///
    /// Every time can still be asked for, and says the same. What went is recorded ([`removals`](Self::removals)).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] where a column is to be ignored that no table has, or that is part of a key.
    pub async fn dedupe(&self, request: &Dedupe, context: &Context) -> Result<Vec<Deduped>> {
        self.sees_all()?;
        let chosen = self
            .reading(async |session| {
                let chosen = migrate::chosen(session, &request.tables).await?;
                check_ignored(&chosen, &request.ignore)?;
                Ok(chosen)
            })
            .await?;
        let mut all = Vec::new();
        for entry in chosen {
            let run = Run { audit: self, id: entry.id, request, context };
            all.push(run.dedupe().await.map_err(|error| error.on(&entry.table))?);
        }
        Ok(all)
    }
}

fn check_ignored(chosen: &[Arc<Entry>], ignore: &[String]) -> Result<()> {
    for name in ignore {
        let fields =
            || chosen.iter().filter_map(|entry| entry.layout().ok()).flat_map(|layout| &layout.fields);
        if chosen.iter().any(|entry| entry.layout().is_ok_and(|layout| layout.key.contains(name))) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("{name:?} is part of a key: it cannot be ignored"),
            ));
        }
        if !fields().any(|field| field.name == *name) {
            let hint = suggest::hint(name, fields().map(|field| field.name.as_str()));
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("no table looked at has a tracked column {name:?}{hint}"),
            ));
        }
    }
    Ok(())
}

struct Run<'a> {
    audit: &'a Afterimage,
    id: i64,
    request: &'a Dedupe,
    context: &'a Context,
}

/// A history that is looked at.
struct Looked {
    entry: Arc<Entry>,
    fields: Vec<Field>,
    ignored: Vec<i64>,
    held: Vec<Vec<Value>>,
    since: Option<Moment>,
}

impl Looked {
    fn duplicates(&self) -> Result<Duplicates<'_>> {
        let source =
            Source { layout: self.entry.layout()?, fields: &self.fields, sparse: self.entry.sparse() };
        Ok(Duplicates { source, ignored: &self.ignored, since: self.since, held: &self.held })
    }
}

/// A record that goes, the one that follows it, and what it said that it changed.
struct Duplicate {
    position: Position,
    next: Option<Position>,
    changed: Vec<i64>,
}

impl Run<'_> {
    async fn look(&self, session: &mut Session) -> Result<(Deduped, Option<Looked>)> {
        let entry = catalog::entries(session).await?.into_iter().find(|entry| entry.id == self.id);
        let entry = entry.ok_or_else(|| Error::new(ErrorKind::NotFound, "it was untracked meanwhile"))?;
        let Held { table, rows } = Held::of(&entry)?;
        let deduped =
            Deduped { table: introspect::seen(session, &entry.table).await?, records: 0, kept_by: table };
        if deduped.kept_by.is_some() {
            return Ok((deduped, None));
        }
        let layout = entry.layout()?;
        let mut ignored = vec![0; layout.words()];
        for field in layout.fields.iter().filter(|field| self.request.ignore.contains(&field.name)) {
            let (word, bit) = field.word_and_bit();
            ignored[word] |= bit;
        }
        let fields = all_fields(&entry.epochs);
        Ok((deduped, Some(Looked { fields, ignored, held: rows, since: self.request.since, entry })))
    }

    async fn dedupe(&self) -> Result<Deduped> {
        let (mut deduped, total) = self
            .audit
            .reading(async |session| {
                let (deduped, looked) = self.look(session).await?;
                let Some(looked) = looked else { return Ok((deduped, 0)) };
                let sql = retention::count_duplicates(session.dialect(), &looked.duplicates()?);
                let total = session.int(&sql, &[]).await?.unwrap_or_default().unsigned_abs();
                if total > 0 && !self.request.dry_run {
                    removal::guarded(session, &looked.entry).await?;
                }
                Ok((deduped, total))
            })
            .await?;
        if self.request.dry_run {
            deduped.records = total;
            return Ok(deduped);
        }
        let mut removal = None;
        let mut after = None;
        let mut batches = Batches::new(self.audit.database(), removal::FIRST_BATCH, removal::LARGEST_BATCH);
        while deduped.records < total {
            batches.begin().await;
            let size = batches.size();
            let gone = self
                .audit
                .removing(async |session| self.batch(session, &mut after, size, &mut removal).await);
            let gone = gone.await?;
            batches.end();
            match gone {
                0 => break,
                gone => deduped.records += gone,
            }
        }
        Ok(deduped)
    }

    /// Lets a batch go, in one transaction with the record of it.
    async fn batch(
        &self,
        session: &mut Session,
        after: &mut Option<Position>,
        size: i64,
        removal: &mut Option<i64>,
    ) -> Result<u64> {
        catalog::ensure(session).await?;
        let (_, looked) = self.look(session).await?;
        let Some(looked) = looked else { return Ok(0) };
        let duplicates = looked.duplicates()?;
        let source = &duplicates.source;
        let dialect = session.dialect();
        let sql = retention::next_duplicates(dialect, &duplicates, *after, size);
        let goes: Vec<Duplicate> = session.ask(&sql).await?.iter().filter_map(duplicate).collect();
        let Some(last) = goes.last() else { return Ok(0) };
        *after = Some(last.position);
        session.run_all(&dialect.tick()).await?;
        let id =
            removal::enter(session, source.layout, "dedupe", self.rule().as_deref(), self.context, *removal)
                .await?;
        session.run(&sql::open_removal(dialect, id, None)).await?;
        for (words, positions) in handed_on(&goes) {
            let fields: Vec<&Field> =
                looked.fields.iter().filter(|field| layout::names(&words, field)).collect();
            session.run(&retention::take_over(dialect, source, &fields, &words, &positions)).await?;
        }
        let positions: Vec<Position> = goes.iter().map(|one| one.position).collect();
        let gone = session.run(&retention::remove(dialect, source.layout, &positions)).await?;
        session.run(&sql::close_removal(dialect, id, gone)).await?;
        *removal = Some(id);
        Ok(gone)
    }

    fn rule(&self) -> Option<String> {
        let ignoring =
            (!self.request.ignore.is_empty()).then(|| format!("ignoring {}", self.request.ignore.join(", ")));
        let since = self.request.since.map(|since| format!("since {since}"));
        let rules: Vec<String> = ignoring.into_iter().chain(since).collect();
        (!rules.is_empty()).then(|| rules.join(", "))
    }
}

fn duplicate(row: &Row) -> Option<Duplicate> {
    let int = |at: usize| row.get(at).and_then(Cell::int);
    let position = |at: usize| Some((Moment::from_micros(int(at)?), int(at + 1)?));
    let mut changed: Vec<i64> = (4..row.len()).map(|at| int(at).unwrap_or_default()).collect();
    if let Some(word) = changed.first_mut() {
        *word &= !(1 << layout::FULL_BIT);
    }
    Some(Duplicate { position: position(0)?, next: position(2), changed })
}

/// What records that stay have to say in place of those that go: which, by what they are to say.
fn handed_on(goes: &[Duplicate]) -> BTreeMap<Vec<i64>, Vec<Position>> {
    let mut said: BTreeMap<Position, Vec<i64>> = BTreeMap::new();
    // The order of positions is that of each row: what one hands on to another that goes, that one hands on.
    for one in goes {
        let mut words = said.remove(&one.position).unwrap_or_else(|| vec![0; one.changed.len()]);
        words.iter_mut().zip(&one.changed).for_each(|(word, changed)| *word |= changed);
        if let (Some(next), true) = (one.next, words.iter().any(|word| *word != 0)) {
            let there = said.entry(next).or_insert_with(|| vec![0; words.len()]);
            there.iter_mut().zip(&words).for_each(|(there, word)| *there |= word);
        }
    }
    let mut by_words: BTreeMap<Vec<i64>, Vec<Position>> = BTreeMap::new();
    for (position, words) in said {
        by_words.entry(words).or_default().push(position);
    }
    by_words
}
