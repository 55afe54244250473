//! What changed between a layout and the table of today, and the layout that follows it.

use std::fmt;

use crate::error::{Error, ErrorKind, Result};
use crate::layout::{self, Field, Keeping, Layout, LeftOut};
use crate::name::TableName;
use crate::schema::{Column, Table};
use crate::tracking::Tracking;

/// One difference between what is recorded and what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// The table has another name.
    TableRenamed(TableName),
    /// A column that is to be tracked and is not yet.
    Added(String),
    /// A column that is gone, or is not to be tracked any more.
    Dropped(String),
    /// A column with another name.
    Renamed {
        /// Its name in the records until now.
        from: String,
        /// Its name today.
        to: String,
    },
    /// A column of another type.
    Retyped {
        /// The column.
        name: String,
        /// Its type in the records until now.
        from: String,
        /// Its type today.
        to: String,
        /// Whether the history's column can take the new type and keep every old value as it is.
        widened: bool,
    },
    /// A column that is masked now, or no longer.
    Keeping(String),
    /// Full records instead of sparse ones, or the other way round; or whether unchanged updates are recorded.
    Options,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TableRenamed(name) => write!(f, "the table is called {name} now"),
            Self::Added(name) => write!(f, "column {name:?} is new"),
            Self::Dropped(name) => write!(f, "column {name:?} is gone"),
            Self::Renamed { from, to } => write!(f, "column {from:?} is called {to:?} now"),
            Self::Retyped { name, from, to, .. } => write!(f, "column {name:?} was {from}, is {to}"),
            Self::Keeping(name) => write!(f, "column {name:?} changes between masked and stored"),
            Self::Options => f.write_str("the options changed"),
        }
    }
}

/// A layout that fits the table of today.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// The layout from now on.
    pub layout: Layout,
    /// The options, with renamed columns renamed in them.
    pub tracking: Tracking,
    /// What differs.
    pub changes: Vec<Change>,
}

/// How renames are recognised.
#[derive(Debug, Clone, Default)]
pub struct Renames {
    /// Old and new names somebody told us.
    pub told: Vec<(String, String)>,
    /// What a column's number says.
    pub numbers: Numbers,
}

/// What it means that a column has the number of an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Numbers {
    /// Nothing: SQLite's are positions, and another column may have taken the place.
    #[default]
    Nothing,
    /// That it is the same column under another name, unless there still is one of the old name. So on PostgreSQL,
    /// where a restored table may be numbered anew; and on SQLite while our triggers stand, since it refuses to drop
    /// a column that they name.
    Rename,
    /// That it is the same column, whatever its name: on PostgreSQL within one transaction.
    Identity,
}

/// Follows the table: what a layout must become to record the table of today.
pub fn follow(old: &Layout, tracking: &Tracking, table: &Table, renames: &Renames) -> Result<Followed> {
    layout::check_trackable(table)?;
    let mut tracking = tracking.clone();
    let mut changes = Vec::new();
    if table.name != old.table {
        changes.push(Change::TableRenamed(table.name.clone()));
    }
    let new_name =
        |name: &str, number: i32| same_column(name, number, old, table, renames).map(|c| c.name.clone());

    for left_out in &old.left_out {
        match new_name(&left_out.name, left_out.number) {
            Some(to) if to != left_out.name => rename_option(&mut tracking, &left_out.name, &to),
            _ => {}
        }
    }
    for field in &old.fields {
        match new_name(&field.name, field.number) {
            Some(to) if to != field.name => {
                changes.push(Change::Renamed { from: field.name.clone(), to: to.clone() });
                rename_option(&mut tracking, &field.name, &to);
            }
            _ => {}
        }
    }
    let key_today: Vec<String> =
        old.key_fields().filter_map(|field| new_name(&field.name, field.number)).collect();
    if key_today != table.key {
        return Err(Error::new(
            ErrorKind::Untrackable,
            format!("its key was ({}) and is ({}) now", old.key.join(", "), table.key.join(", ")),
        )
        .table(&table.name)
        .help("untrack it (its history stays) and track it again with another history name"));
    }
    tracking.check(table)?;

    let mut layout = Layout {
        table: table.name.clone(),
        key: table.key.clone(),
        fields: Vec::new(),
        storage: tracking.storage,
        record_unchanged: tracking.record_unchanged,
        shared_key: table.shares_keys(),
        sources: table.cascade_sources(),
        left_out: Vec::new(),
        ..old.clone()
    };
    let mut kept = Vec::new();
    for column in &table.columns {
        if !tracking.covers(&column.name, &table.key) {
            layout.left_out.push(LeftOut { name: column.name.clone(), number: column.number });
            continue;
        }
        let before = old
            .fields
            .iter()
            .find(|field| new_name(&field.name, field.number).is_some_and(|today| today == column.name));
        let field = match before {
            Some(before) => match continued(before, column, &tracking, &mut changes) {
                Some(field) => field,
                None => fresh(&mut layout, old, column, &tracking),
            },
            None => {
                changes.push(Change::Added(column.name.clone()));
                fresh(&mut layout, old, column, &tracking)
            }
        };
        kept.extend(before.map(|before| before.bit));
        layout.fields.push(field);
    }
    for field in old.fields.iter().filter(|field| !layout.fields.iter().any(|f| f.bit == field.bit)) {
        if !kept.contains(&field.bit) {
            changes.push(Change::Dropped(field.name.clone()));
        }
        if !layout.retired.contains(&field.history) {
            layout.retired.push(field.history.clone());
        }
    }
    if (old.storage, old.record_unchanged) != (layout.storage, layout.record_unchanged) {
        changes.push(Change::Options);
    }
    Ok(Followed { layout, tracking, changes })
}

/// A field with a new bit and a history column of its own; the history columns of all old fields count as taken.
fn fresh(layout: &mut Layout, old: &Layout, column: &Column, tracking: &Tracking) -> Field {
    let retired = layout.retired.clone();
    layout.retired.extend(old.fields.iter().map(|field| field.history.clone()));
    let field = layout.field_for(column, tracking);
    layout.retired = retired;
    field
}

/// The field goes on with its bit, or `None` where it needs a new one.
fn continued(
    before: &Field,
    column: &Column,
    tracking: &Tracking,
    changes: &mut Vec<Change>,
) -> Option<Field> {
    let keeping = if tracking.mask.contains(&column.name) { Keeping::Masked } else { Keeping::Stored };
    if keeping != before.keeping {
        changes.push(Change::Keeping(column.name.clone()));
        return None;
    }
    if before.sql_type != column.sql_type {
        let widened = keeping == Keeping::Masked || widens(&before.sql_type, &column.sql_type);
        changes.push(Change::Retyped {
            name: column.name.clone(),
            from: before.sql_type.clone(),
            to: column.sql_type.clone(),
            widened,
        });
        if !widened {
            return None;
        }
    }
    Some(Field {
        name: column.name.clone(),
        sql_type: column.sql_type.clone(),
        collation: column.collation.clone(),
        shown: column.shown,
        plain_equality: column.plain_equality,
        number: column.number,
        ..before.clone()
    })
}

/// Whether the history's column can take the new type without touching a stored value.
fn widens(from: &str, to: &str) -> bool {
    let length = |t: &str| -> Option<u32> {
        match t {
            "text" | "character varying" => Some(u32::MAX),
            _ => t.strip_prefix("character varying(")?.strip_suffix(')')?.parse().ok(),
        }
    };
    matches!((length(from), length(to)), (Some(from), Some(to)) if from <= to)
}

/// The column of today that a column of the layout has become.
fn same_column<'t>(
    name: &str,
    number: i32,
    old: &Layout,
    table: &'t Table,
    renames: &Renames,
) -> Option<&'t Column> {
    if let Some((_, to)) = renames.told.iter().find(|(from, _)| from == name) {
        return table.column(to);
    }
    let numbered = || table.columns.iter().find(|column| column.number == number);
    let known = |column: &Column| {
        old.fields.iter().any(|field| field.name == column.name)
            || old.left_out.iter().any(|c| c.name == column.name)
    };
    let told = |column: &Column| renames.told.iter().any(|(_, to)| *to == column.name);
    match renames.numbers {
        Numbers::Nothing => table.column(name),
        Numbers::Rename => {
            table.column(name).or_else(|| numbered().filter(|column| !known(column) && !told(column)))
        }
        Numbers::Identity => numbered(),
    }
}

fn rename_option(tracking: &mut Tracking, from: &str, to: &str) {
    let names = tracking
        .include
        .iter_mut()
        .chain(&mut tracking.exclude)
        .chain(&mut tracking.mask)
        .chain(&mut tracking.label);
    names.filter(|name| *name == from).for_each(|name| to.clone_into(name));
}
