//! A whole transaction undone: every row it touched as it would be without it.

use std::sync::Arc;

use afterimage_core::query::Query;
use afterimage_core::sql::{AsOf, Bound, Dialect, Rows, WriteBack, retention};
use afterimage_core::{Action, Context, Field, Keeping, Moment, Table, Value};
use serde_json::json;

use super::{
    Conflict, Restored, columns, defer_constraints, naming, not_known, own_transaction, parents_first,
    reading, redacted, stage, writable,
};
use crate::catalog::{self, Entry, Stage};
use crate::database::Afterimage;
use crate::error::{Error, ErrorKind, Result};
use crate::key;
use crate::log::{self, LogEntry, LogQuery};
use crate::session::{Cell, Session};
use crate::shelf;
use crate::writing::Writing;

/// What to do with rows that somebody changed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Conflicts {
    /// Write nothing at all.
    #[default]
    Refuse,
    /// Leave those rows alone.
    Skip,
    /// Bring them back too, so that what was changed again is lost. Not for a transaction: what came after it may rest
    /// on it.
    Overwrite,
}

/// A transaction to be undone.
#[derive(Debug, Clone)]
pub struct RevertTransaction {
    tx: String,
    conflicts: Conflicts,
    dry_run: bool,
}

impl RevertTransaction {
    /// Undoes the transaction of this number.
    pub fn new(tx: impl Into<String>) -> Self {
        Self { tx: tx.into(), conflicts: Conflicts::default(), dry_run: false }
    }

    /// What to do with rows that changed again after it.
    #[must_use]
    pub fn conflicts(mut self, conflicts: Conflicts) -> Self {
        self.conflicts = conflicts;
        self
    }

    /// Says what would be written, and writes nothing.
    #[must_use]
    pub fn dry_run(mut self, yes: bool) -> Self {
        self.dry_run = yes;
        self
    }
}

/// A table that it touched.
struct Touched {
    entry: Arc<Entry>,
    table: Table,
    /// Rows that are left alone, by key.
    except: Vec<Vec<Value>>,
    /// Changes of keys, in the order in which they happened: from and to.
    moves: Vec<(Vec<Value>, Vec<Value>)>,
}

impl Touched {
    fn is_left(&self, key: &[Value]) -> bool {
        self.except.iter().any(|left| same(left, key))
    }
}

/// Keys are compared as they are shown.
fn same(a: &[Value], b: &[Value]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_string() == b.to_string())
}

impl Afterimage {
    /// Undoes a transaction: its creations are deleted, its deletions come back, its updates are taken back, in the
    /// order that foreign keys ask for, in one transaction.
    ///
    /// A row that changed again since is a [`Conflict`]. Refused, with nothing written: a masked value that would be
    /// needed, a gap, and a deletion that would cascade to rows which the transaction never touched.
    pub async fn revert_transaction(
        &self,
        request: &RevertTransaction,
        context: &Context,
    ) -> Result<Restored> {
        if request.conflicts == Conflicts::Overwrite {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "what came after a transaction may rest on it: conflicts can be refused or skipped",
            ));
        }
        self.restoring(context, request.dry_run, async |tx| {
            let id = request.tx.as_str();
            let (touched, conflicts) = look(tx, id).await?;
            if !conflicts.is_empty() && request.conflicts == Conflicts::Refuse && !request.dry_run {
                return Err(refused(&conflicts));
            }
            tx.enter(&naming(json!({ "tx": id }))).await?;
            let session = &mut tx.session;
            defer_constraints(session).await?;
            let own = own_transaction(session).await?;
            undo(session, &touched, id, &own).await?;
            let meant: Vec<i64> = touched.iter().map(|one| one.entry.id).collect();
            without_collateral(session, &own, &meant, Rows::TouchedBy(id)).await?;
            Ok(Restored { conflicts, ..Restored::default() })
        })
        .await
    }
}

/// What reaches a table that is not there for whoever asks is refused, without a word of which.
pub(super) fn beyond() -> Error {
    Error::new(
        ErrorKind::Forbidden,
        "it reaches rows of a table that you may not write anything back to: nothing was written",
    )
}

pub(super) fn refused(conflicts: &[Conflict]) -> Error {
    let rows = if conflicts.len() == 1 { "row has" } else { "rows have" };
    let first = &conflicts[0];
    let who = first.newest.header.user.as_deref().map(|user| format!(" by {user}")).unwrap_or_default();
    Error::new(
        ErrorKind::Conflict,
        format!(
            "{} {rows} changed again since, such as {} {} on {}{who}: look at them with a dry run, or skip them",
            conflicts.len(),
            first.table,
            key_text(&first.key),
            first.newest.header.date,
        ),
    )
}

/// What the transaction touched, parents first, and which of its rows changed again.
async fn look(tx: &mut Writing, id: &str) -> Result<(Vec<Touched>, Vec<Conflict>)> {
    reading(&mut tx.session, async |session| {
        let mut tables = Vec::new();
        for (entry, seen) in catalog::with_seen(session).await? {
            let Ok(layout) = entry.layout() else { continue };
            let sql = session.dialect().count_of_tx(layout, id)?;
            if session.int(&sql, &[]).await?.unwrap_or_default() > 0 {
                let seen = seen.ok_or_else(beyond)?;
                let table = writable(session, &seen).await?;
                tables.push((seen, table));
            }
        }
        if tables.is_empty() && shelf::last_of(session, id, None).await?.is_some() {
            return Err(Error::new(ErrorKind::Unknowable, IN_ARCHIVE));
        }
        if tables.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, format!("there is no record of a transaction {id}")));
        }
        refuse_pruned(session, id).await?;
        let mut touched = Vec::new();
        let mut conflicts = Vec::new();
        for (entry, table) in parents_first(session, tables).await? {
            let moves = moves(session, &entry, id).await?;
            let sql = session.dialect().overwritten(entry.layout()?, id)?;
            let found = newest(session, &entry, &sql).await?;
            let mut except: Vec<Vec<Value>> = found.iter().map(|conflict| values(&conflict.key)).collect();
            conflicts.extend(found);
            // A row is left alone under all the keys it had.
            for _ in 0..moves.len() {
                for (from, to) in &moves {
                    let left = |key: &[Value]| except.iter().any(|left| same(left, key));
                    match (left(from), left(to)) {
                        (true, false) => except.push(to.clone()),
                        (false, true) => except.push(from.clone()),
                        _ => {}
                    }
                }
            }
            touched.push(Touched { entry, table, except, moves });
        }
        Ok((touched, conflicts))
    })
    .await
}

const IN_ARCHIVE: &str = "records of before or of that transaction are in an archive: bring them back with `archive restore` first";

/// What a transaction did cannot be undone where some of its records, or what was before them, may have been pruned.
async fn refuse_pruned(session: &mut Session, id: &str) -> Result<()> {
    let all = catalog::with_seen(session).await?;
    let histories = catalog::histories(all.iter().map(|(entry, _)| entry));
    let sql = retention::began(session.dialect(), &histories, id)?;
    let began = session.int(&sql, &[]).await?.map(Moment::from_micros);
    let pruned = |(entry, _): &&(Arc<Entry>, Option<Arc<Entry>>)| {
        entry.horizon().is_some_and(|horizon| began.is_none_or(|began| began <= horizon))
    };
    match all.iter().find(pruned) {
        Some((_, None)) => Err(beyond()),
        Some((entry, Some(_))) if entry.archived_until().is_some_and(|until| Some(until) >= began) => {
            Err(Error::new(ErrorKind::Unknowable, IN_ARCHIVE).on(&entry.table))
        }
        Some((entry, Some(_))) => Err(Error::new(
            ErrorKind::Unknowable,
            "records of before or of that transaction were pruned: it cannot be undone any more",
        )
        .on(&entry.table)),
        None => Ok(()),
    }
}

fn values(key: &[(String, Value)]) -> Vec<Value> {
    key.iter().map(|(_, value)| value.clone()).collect()
}

/// The records at the positions that a query gives, each as a conflict.
pub(super) async fn newest(session: &mut Session, entry: &Arc<Entry>, sql: &str) -> Result<Vec<Conflict>> {
    let mut positions = Vec::new();
    for row in session.rows(sql, &[]).await.map_err(|error| error.on(&entry.table))? {
        let int = |at: usize| row.get(at).and_then(Cell::int).unwrap_or_default();
        positions.push((Moment::from_micros(int(0)), int(1)));
    }
    let newest = log::at(session, entry, &positions).await?;
    Ok(newest
        .into_iter()
        .map(|newest| Conflict { table: newest.table.clone(), key: newest.key.clone(), newest })
        .collect())
}

/// The changes of keys that the transaction made, oldest first. Along the way, what it did to masked fields: what they
/// were cannot be given back.
async fn moves(session: &mut Session, entry: &Entry, id: &str) -> Result<Vec<(Vec<Value>, Vec<Value>)>> {
    let layout = entry.layout()?;
    let mut query = Query::default();
    query.tables.wanted.push(entry.table.to_string());
    query.transactions.wanted.push(id.to_owned());
    let mut moves = Vec::new();
    let mut lost: Option<(Field, String)> = None;
    let mut gone: Option<String> = None;
    let masked: Vec<&Field> = layout.fields.iter().filter(|field| field.keeping == Keeping::Masked).collect();
    log::each(session, &LogQuery::from(query), |record: LogEntry| {
        if let Some(change) = record.changes.iter().find(|change| change.old == Value::Redacted) {
            gone = Some(change.field.clone());
        }
        if let Some(old) = &record.header.old_key
            && let Ok(from) = key::values(layout, old)
        {
            moves.push((from, values(&record.key)));
        }
        let needed = record
            .changes
            .iter()
            // A creation made it; whatever an update made of it, NULL too, is not known.
            .filter(|change| record.header.action == Action::Update || !change.old.is_null())
            .find_map(|change| masked.iter().find(|field| field.name == change.field));
        if let (Some(field), None) = (needed, &lost) {
            lost = Some((Field::clone(field), key_text(&record.key)));
        }
        true
    })
    .await?;
    if let Some(field) = gone {
        return Err(redacted(entry, &field, "revert its rows one by one"));
    }
    if let Some((field, key)) = lost {
        let otherwise = format!(
            "the transaction changed it in the row {key}: revert its rows one by one, with chosen fields"
        );
        return Err(not_known(entry, &field, &otherwise));
    }
    moves.reverse();
    Ok(moves)
}

fn key_text(key: &[(String, Value)]) -> String {
    key.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}

/// Keys go back the way they came; what was deleted is inserted, parents first; what changed is updated; what was
/// created is deleted, children first.
async fn undo(session: &mut Session, touched: &[Touched], id: &str, own: &str) -> Result<()> {
    for one in touched.iter().rev() {
        for (from, to) in one.moves.iter().rev().filter(|(from, _)| !one.is_left(from)) {
            let sql = session.dialect().move_row(one.entry.layout()?, to, from);
            session.run(&sql).await.map_err(|error| error.on(&one.entry.table))?;
        }
    }
    type Statement = fn(&dyn Dialect, &WriteBack<'_>) -> String;
    let forward: [Statement; 2] = [|sql, back| sql.insert_from(back), |sql, back| sql.update_from(back)];
    for statement in forward {
        for one in touched {
            one.write(session, (id, own), statement).await?;
        }
    }
    for one in touched.iter().rev() {
        one.write(session, (id, own), |sql, back| sql.delete_beyond(back, Rows::TouchedBy(id))).await?;
    }
    Ok(())
}

impl Touched {
    async fn write(
        &self,
        session: &mut Session,
        (id, own): (&str, &str),
        statement: impl Fn(&dyn Dialect, &WriteBack<'_>) -> String,
    ) -> Result<()> {
        let layout = self.entry.layout()?;
        let columns = columns::common(layout, &self.table, layout);
        let state = without(session, &self.entry, id, own)?;
        // What is masked and comes back was NULL: else it would have been refused.
        let null =
            columns::masked(layout, &self.table).map(|column| (column.clone(), None)).collect::<Vec<_>>();
        let back = WriteBack {
            layout,
            columns: &columns,
            key: &layout.key,
            state: &state,
            now_at: None,
            set: &null,
            except: &self.except,
        };
        stage(session, &back, Rows::TouchedBy(id)).await?;
        let sql = statement(session.dialect(), &back);
        session.run(&sql).await.map(drop).map_err(|error| error.on(&self.entry.table))
    }
}

/// The rows that a transaction touched, as they would be had it not been: nobody else wrote them since.
///
/// What this very transaction has written by now is left out too: its own records of those rows come after all others.
pub(super) fn without(session: &Session, entry: &Entry, id: &str, own: &str) -> Result<String> {
    let layout = entry.layout()?;
    Ok(session.dialect().as_of(&AsOf {
        layout,
        fields: &layout.fields,
        sparse: entry.sparse(),
        bound: Bound::Now,
        unfinished: &[id.to_owned(), own.to_owned()],
        rows: Rows::TouchedBy(id),
        first: false,
    }))
}

/// Refuses where the open transaction also changed rows that it was not meant to: a cascade reached further.
pub(super) async fn without_collateral(
    session: &mut Session,
    own: &str,
    meant: &[i64],
    rows: Rows<'_>,
) -> Result<()> {
    let dialect = session.dialect();
    for (entry, seen) in catalog::with_seen(session).await? {
        let Ok(layout) = entry.layout() else { continue };
        if entry.stage == Stage::Stopped {
            continue;
        }
        let rows = if meant.contains(&entry.id) { rows } else { Rows::Keys(&[]) };
        let sql = dialect.count_collateral(layout, own, rows)?;
        let count = session.int(&sql, &[]).await?.unwrap_or_default();
        if count > 0 && seen.is_none() {
            return Err(beyond());
        }
        if count > 0 {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!(
                    "{count} of its rows would change too, by a cascade or a trigger, which were not to be reverted: nothing was written"
                ),
            )
            .on(&entry.table));
        }
    }
    Ok(())
}
