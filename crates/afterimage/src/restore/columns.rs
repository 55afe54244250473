//! Which columns are written back, and what stands in the way.

use afterimage_core::{Column, Field, Keeping, Layout, Table, Value, suggest};

use super::not_known;
use crate::catalog::Entry;
use crate::error::{Error, ErrorKind, Result};

/// The columns of today that a state of then can fill: the field of today, and what it was called.
pub(super) fn common(today: &Layout, table: &Table, then: &Layout) -> Vec<(Field, String)> {
    today
        .fields
        .iter()
        .filter(|field| {
            field.keeping == Keeping::Stored
                && table.column(&field.name).is_some_and(|column| !column.generated)
        })
        .filter_map(|field| {
            let before = then.fields.iter().find(|before| before.bit == field.bit)?;
            (before.keeping == Keeping::Stored).then(|| (field.clone(), before.name.clone()))
        })
        .collect()
}

/// The columns of today that are masked, and that a statement can write.
pub(super) fn masked<'t>(today: &'t Layout, table: &'t Table) -> impl Iterator<Item = &'t Column> {
    let masked = today.fields.iter().filter(|field| field.keeping == Keeping::Masked);
    masked.filter_map(|field| table.column(&field.name)).filter(|column| !column.generated)
}

/// The columns of the key as a state of then calls them.
pub(super) fn key_then(today: &Layout, then: &Layout) -> Result<Vec<String>> {
    today
        .key_fields()
        .map(|field| {
            then.fields
                .iter()
                .find(|before| before.bit == field.bit)
                .map(|before| before.name.clone())
                .ok_or_else(|| {
                    Error::new(ErrorKind::Unknowable, "it had another key then: its rows cannot be matched")
                        .on(&today.table)
                })
        })
        .collect()
}

/// Of the columns, those that somebody chose. Each must be one that can be written back.
pub(super) fn chosen(
    common: Vec<(Field, String)>,
    entry: &Entry,
    table: &Table,
    fields: &[String],
) -> Result<Vec<(Field, String)>> {
    let today = entry.layout()?;
    for name in fields {
        let refuse = |why: String| Err(Error::new(ErrorKind::InvalidInput, why).on(&today.table));
        let Some(field) = today.field(name) else {
            let known = today.fields.iter().map(|field| field.name.as_str());
            let hint = suggest::hint(name, known);
            let what = if table.column(name).is_some() {
                "its history is not kept"
            } else {
                "there is no such column"
            };
            return refuse(format!("{name:?} cannot be reverted: {what}{hint}"));
        };
        if today.is_key(field) {
            return refuse(format!("{name:?} is of the key, by which the row is found: change it by hand"));
        }
        if entry.hides(field) {
            return Err(not_known(entry, field, ""));
        }
        if field.keeping == Keeping::Masked {
            return refuse(format!("{name:?} is masked: what it was is kept nowhere"));
        }
        if table.column(name).is_some_and(|column| column.generated) {
            return refuse(format!("{name:?} is computed by the database"));
        }
        if !common.iter().any(|(known, _)| known.name == *name) {
            return refuse(format!("{name:?} did not exist then"));
        }
    }
    Ok(common.into_iter().filter(|(field, _)| fields.contains(&field.name)).collect())
}

/// Refuses where all fields are asked for and one of them cannot be given back: a column that is gone, or a masked
/// value that changed since. `changed` says whether a field of today's changed since. What is hidden is not asked for.
pub(super) fn nothing_lost(
    entry: &Entry,
    then: &Layout,
    row: &[(String, Value)],
    changed: impl Fn(&Field) -> bool,
    way_out: &str,
) -> Result<()> {
    let today = entry.layout()?;
    let refuse = |why: String| Err(Error::new(ErrorKind::Unknowable, why).on(&today.table));
    for before in then.fields.iter().filter(|before| !entry.hides(before)) {
        let value = row.iter().find(|(name, _)| *name == before.name).map(|(_, value)| value);
        let is_null = value.is_none_or(Value::is_null);
        match today.fields.iter().find(|field| field.bit == before.bit) {
            None if !is_null => {
                return refuse(format!(
                    "the column {:?} is gone, and it held {}: {way_out}",
                    before.name,
                    value.map(ToString::to_string).unwrap_or_default()
                ));
            }
            Some(field) if field.keeping == Keeping::Masked && changed(field) => {
                return Err(not_known(entry, field, way_out));
            }
            _ => {}
        }
    }
    Ok(())
}
