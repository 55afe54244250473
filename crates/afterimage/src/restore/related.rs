//! The rows that went with a deleted row, brought back with it.

use afterimage_core::sql::{Rows, WriteBack};
use afterimage_core::{Field, Keeping, Quoted, Table, Value, Version};

use super::transaction::{beyond, without};
use super::{columns, not_known, own_transaction, redacted, stage, writable};
use crate::catalog::{self, Entry, Stage};
use crate::error::{Error, ErrorKind, Result};
use crate::session::Session;
use crate::writing::Writing;
use crate::{introspect, versions};

/// Brings back the rows that referred to a row and were deleted in the same transaction, and those that referred to
/// them, and so on.
pub(super) async fn restore(
    tx: &mut Writing,
    parent: &Entry,
    table: &Table,
    key: &[Value],
    deletion: &Version,
) -> Result<()> {
    let Some(id) = deletion.header.tx.clone() else {
        return Err(Error::new(
            ErrorKind::Unknowable,
            "the row was deleted without a context, so which rows went with it cannot be told: restore them one by one",
        )
        .on(&parent.table));
    };
    let session = &mut tx.session;
    let mut others = Vec::new();
    for (entry, seen) in catalog::with_seen(session).await? {
        if entry.stage == Stage::Active
            && let Some(child) = introspect::exact(session, &entry.table).await?
        {
            let references = introspect::references(session, &child).await?;
            others.push((entry, seen, child, references));
        }
    }
    let own = own_transaction(session).await?;
    let layout = parent.layout()?;
    // The parents as a query: the row itself first, then what was brought back for it.
    let condition = session.dialect().live_row(layout, &layout.fields, key);
    let mut parents = vec![(table.name.clone(), condition)];
    let mut depth = 0;
    while let Some((target, parent_rows)) = parents.pop() {
        depth += 1;
        if depth > MOST_LEVELS {
            return Err(
                Error::new(ErrorKind::Conflict, "the rows refer to one another in a circle").on(&target)
            );
        }
        for (whole, seen, child, references) in &others {
            for reference in references.iter().filter(|reference| reference.target == target) {
                let entry = seen.as_ref().unwrap_or(whole);
                let state = without(session, entry, &id, &own)?;
                let same: Vec<String> = reference
                    .columns
                    .iter()
                    .zip(&reference.target_columns)
                    .map(|(column, other)| format!("w.{} = p.{}", Quoted::new(column), Quoted::new(other)))
                    .collect();
                let state = format!(
                    "SELECT w.* FROM (\n{state}\n) AS w WHERE EXISTS (SELECT 1 FROM (\n{parent_rows}\n) AS p WHERE {})",
                    same.join(" AND ")
                );
                let layout = entry.layout()?;
                if reference.columns.iter().any(|column| layout.field(column).is_none()) {
                    continue;
                }
                if seen.is_none() {
                    let sql = format!("SELECT count(*) FROM (\n{state}\n) AS s");
                    if session.int(&sql, &[]).await?.unwrap_or_default() > 0 {
                        return Err(beyond());
                    }
                    continue;
                }
                writable(session, entry).await?;
                refuse_masked(entry)?;
                refuse_redacted(session, entry, &state).await?;
                let columns = columns::common(layout, child, layout);
                let back = WriteBack {
                    layout,
                    columns: &columns,
                    key: &layout.key,
                    state: &state,
                    now_at: None,
                    set: &[],
                    except: &[],
                };
                stage(session, &back, Rows::All).await?;
                let sql = session.dialect().insert_from(&back);
                let written = session.run(&sql).await.map_err(|error| error.on(&entry.table))?;
                if written > 0 {
                    parents.push((child.name.clone(), state));
                }
            }
        }
    }
    Ok(())
}

/// No chain of references is longer.
const MOST_LEVELS: usize = 100;

async fn refuse_redacted(session: &mut Session, entry: &Entry, state: &str) -> Result<()> {
    if entry.redactions.is_empty() {
        return Ok(());
    }
    let layout = entry.layout()?;
    let fields: Vec<&Field> = layout.fields.iter().collect();
    for row in session.ask(&session.dialect().shown(layout, state, &fields)).await? {
        let values: Vec<Value> =
            layout.fields.iter().zip(row).map(|(field, cell)| versions::value(field, cell)).collect();
        if let Some(field) = entry.may_be_redacted(&layout.fields, &values) {
            return Err(redacted(entry, &field, "restore its rows one by one, and give it a value"));
        }
    }
    Ok(())
}

fn refuse_masked(entry: &Entry) -> Result<()> {
    match entry.layout()?.fields.iter().find(|field| field.keeping == Keeping::Masked) {
        Some(field) => Err(not_known(entry, field, "restore its rows one by one, and give it a value")),
        None => Ok(()),
    }
}
