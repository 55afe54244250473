//! One row, all that is known of it, and how an older state of it is written.

use std::sync::Arc;

use afterimage_core::sql::archive::row_of;
use afterimage_core::sql::{self, AsOf, Bound, Rows, WriteBack};
use afterimage_core::{Action, Column, Field, Keeping, Layout, Table, TableName, Value, Version, suggest};

use super::row::Stale;
use super::{columns, not_known, reading, redacted, stage, writable};
use crate::catalog::{self, Entry};
use crate::error::{Error, ErrorKind, Result};
use crate::session::Session;
use crate::versions::{self, Selector};
use crate::writing::Writing;
use crate::{introspect, key};

/// A row, and all that is known of it.
pub(super) struct Row {
    pub(super) entry: Arc<Entry>,
    pub(super) table: Table,
    /// The table, as this connection would name it.
    seen: TableName,
    pub(super) key: String,
    /// Its versions, oldest first.
    pub(super) versions: Vec<Version>,
    /// The key under which it lives, or lived last.
    pub(super) live_key: Vec<Value>,
    /// The live row, if there is one.
    live: Option<Vec<(String, Value)>>,
}

impl Row {
    pub(super) async fn look(tx: &mut Writing, table: &str, key_text: &str) -> Result<Self> {
        reading(&mut tx.session, async |session| {
            let entry = catalog::find(session, table).await?;
            let table = writable(session, &entry).await?;
            let layout = entry.layout()?.clone();
            let versions = versions::of_row(session, &entry, key_text).await?;
            let live_key = match versions.last() {
                Some(last) => key_of(&layout, &last.row),
                None => key::values(&layout, key_text)?,
            };
            let live = live_row(session, &layout, &live_key).await?;
            let seen = introspect::seen(session, &entry.table).await?;
            let row = Self { entry, table, seen, key: key_text.to_owned(), versions, live_key, live };
            row.is_as_recorded()?;
            Ok(row)
        })
        .await
    }

    pub(super) fn now(&self) -> Result<&Version> {
        self.versions.last().ok_or_else(|| {
            self.refuse(ErrorKind::NotFound, format!("there is no record of a row {}", self.key))
        })
    }

    pub(super) async fn select(&self, session: &mut Session, selector: &Selector) -> Result<Version> {
        reading(session, async |session| {
            versions::select(session, &self.entry, &self.versions, selector).await.cloned()
        })
        .await
    }

    fn layout(&self) -> Result<&Layout> {
        self.entry.layout()
    }

    pub(super) fn refuse(&self, kind: ErrorKind, message: String) -> Error {
        Error::new(kind, message).on(&self.entry.table)
    }

    pub(super) fn stale(&self, then: Version, target: Version, now: Version) -> Error {
        let who = now.header.user.as_deref().map(|user| format!(" by {user}")).unwrap_or_default();
        self.refuse(
            ErrorKind::Conflict,
            format!(
                "the row {} has changed: version {} was expected to be current, and version {} is, of {}{who}",
                self.key, then.number, now.number, now.header.date
            ),
        )
        .with_stale(Stale { table: self.seen.clone(), then, target, now })
    }

    /// What is there now must be what the records say: else something changed it that they do not know.
    fn is_as_recorded(&self) -> Result<()> {
        let now = self.now()?;
        let alive = now.header.action != Action::Delete;
        let differs = match &self.live {
            None => alive,
            Some(_) if !alive => {
                return Err(self.refuse(
                    ErrorKind::Unknowable,
                    format!(
                        "a row {} is there that its records know to be deleted: verify, then resync",
                        self.key
                    ),
                ));
            }
            Some(live) => {
                // By the columns that both know: the newest record may be older than some.
                let (today, then) = (self.layout()?, self.layout_of(now)?);
                today.fields.iter().any(|field| {
                    let before = then.fields.iter().find(|before| before.bit == field.bit);
                    let recorded = before.and_then(|before| value_of(&now.row, &before.name));
                    recorded.is_some_and(|recorded| Some(recorded) != value_of(live, &field.name))
                })
            }
        };
        if differs {
            return Err(self.refuse(
                ErrorKind::Unknowable,
                format!("the row {} is not what its records say: verify, then resync", self.key),
            ));
        }
        Ok(())
    }

    /// The layouts of each version's time.
    fn layout_of(&self, version: &Version) -> Result<&Layout> {
        self.entry
            .layout_at(version.header.date)
            .ok_or_else(|| self.refuse(ErrorKind::Unknowable, "the catalogue has no epoch of it".to_owned()))
    }

    /// The version's state as a query, typed.
    fn state(&self, session: &Session, target: &Version) -> Result<String> {
        let layout = self.layout_of(target)?;
        if target.header.archive.is_some() {
            let value = |field: &Field| value_of(&target.row, &field.name).cloned().unwrap_or(Value::Null);
            let values: Vec<Value> = layout.fields.iter().map(value).collect();
            return Ok(row_of(session.dialect(), layout, &target.header, &values));
        }
        if target.header.action == Action::Delete {
            let position = (target.header.date, target.header.id);
            return Ok(sql::recorded(session.dialect(), layout, position));
        }
        let keys = [key_of(layout, &target.row)];
        Ok(session.dialect().as_of(&AsOf {
            layout,
            fields: &layout.fields,
            sparse: self.entry.sparse(),
            bound: Bound::Position(target.header.date, target.header.id),
            unfinished: &[],
            rows: Rows::Keys(&keys),
            first: false,
        }))
    }

    pub(super) async fn update(&self, tx: &mut Writing, target: &Version, fields: &[String]) -> Result<()> {
        let (today, then) = (self.layout()?, self.layout_of(target)?);
        let mut columns = columns::common(today, &self.table, then);
        if fields.is_empty() {
            let since: Vec<&Version> =
                self.versions.iter().filter(|version| version.number > target.number).collect();
            let changed = |field: &Field| {
                since.iter().any(|version| {
                    self.layout_of(version)
                        .ok()
                        .and_then(|layout| layout.fields.iter().find(|then| then.bit == field.bit))
                        .is_some_and(|then| version.changes.iter().any(|change| change.field == then.name))
                })
            };
            let others: Vec<&str> = columns
                .iter()
                .filter(|(field, _)| !today.is_key(field))
                .map(|(field, _)| field.name.as_str())
                .collect();
            let way_out = format!("revert chosen fields only: {}", others.join(", "));
            columns::nothing_lost(&self.entry, then, &target.row, changed, &way_out)?;
            columns.retain(|(field, _)| !today.is_key(field));
        } else {
            columns = columns::chosen(columns, &self.entry, &self.table, fields)?;
        }
        let live = self.live.as_deref().unwrap_or_default();
        columns.retain(|(field, name)| value_of(live, &field.name) != value_of(&target.row, name));
        let gone = |(_, name): &&(Field, String)| value_of(&target.row, name) == Some(&Value::Redacted);
        if let Some((field, _)) = columns.iter().find(gone) {
            return Err(redacted(&self.entry, &field.name, "revert other fields"));
        }
        if columns.is_empty() {
            // It is so already: a second revert writes nothing.
            return Ok(());
        }
        self.parents_are_there(&mut tx.session, target, &columns, &[]).await?;
        let state = self.state(&tx.session, target)?;
        let back = WriteBack {
            layout: today,
            columns: &columns,
            key: &[],
            state: &state,
            now_at: Some(&self.live_key),
            set: &[],
            except: &[],
        };
        stage(&mut tx.session, &back, Rows::All).await?;
        let sql = tx.session.dialect().update_from(&back);
        let written = tx.session.run(&sql).await.map_err(|error| error.on(&self.entry.table))?;
        if written != 1 {
            return Err(self.refuse(
                ErrorKind::Conflict,
                format!("{written} rows would have been written instead of one: nothing was"),
            ));
        }
        Ok(())
    }

    pub(super) async fn insert(
        &self,
        tx: &mut Writing,
        target: &Version,
        set: &[(String, Option<String>)],
    ) -> Result<()> {
        let (today, then) = (self.layout()?, self.layout_of(target)?);
        let mut set = self.given(set)?;
        let is_set = |name: &str| set.iter().any(|(column, _)| column.name == name);
        for field in &then.fields {
            let needed = value_of(&target.row, &field.name).is_some_and(|value| !value.is_null());
            let now = today.fields.iter().find(|known| known.bit == field.bit);
            let gone = value_of(&target.row, &field.name) == Some(&Value::Redacted);
            if let (Some(now), true) = (now, gone)
                && !is_set(&now.name)
            {
                let way_out =
                    format!("give it a value: --set '{}=…', or none: --set-null {}", now.name, now.name);
                return Err(redacted(&self.entry, &now.name, &way_out));
            }
            if let Some(now) = now
                && needed
                && now.keeping == Keeping::Masked
                && !is_set(&now.name)
            {
                let way_out = format!("give it a value: --set '{}=…'", now.name);
                return Err(not_known(&self.entry, now, &way_out));
            }
        }
        let mut columns = columns::common(today, &self.table, then);
        columns.retain(|(field, _)| !is_set(&field.name));
        // What is masked and was there was NULL, and is not to become what the column has by default.
        for column in columns::masked(today, &self.table) {
            let bit = today.field(&column.name).map(|field| field.bit);
            let was_there = then.fields.iter().any(|field| Some(field.bit) == bit);
            if was_there && !set.iter().any(|(known, _)| known.name == column.name) {
                set.push((column.clone(), None));
            }
        }
        self.parents_are_there(&mut tx.session, target, &columns, &set).await?;
        let key = columns::key_then(today, then)?;
        let state = self.state(&tx.session, target)?;
        let back = WriteBack {
            layout: today,
            columns: &columns,
            key: &key,
            state: &state,
            now_at: None,
            set: &set,
            except: &[],
        };
        stage(&mut tx.session, &back, Rows::All).await?;
        let sql = tx.session.dialect().insert_from(&back);
        let written = tx.session.run(&sql).await.map_err(|error| error.on(&self.entry.table))?;
        if written != 1 {
            return Err(self.refuse(ErrorKind::Conflict, format!("the key {} was taken meanwhile", self.key)));
        }
        Ok(())
    }

    fn hides(&self, column: &str) -> bool {
        self.layout().ok().and_then(|today| today.field(column)).is_some_and(|field| self.entry.hides(field))
    }

    /// The columns that somebody gives a value of their own.
    fn given(&self, set: &[(String, Option<String>)]) -> Result<Vec<(Column, Option<String>)>> {
        set.iter()
            .map(|(name, value)| match self.table.column(name) {
                Some(column) if self.hides(&column.name) => Err(self.refuse(
                    ErrorKind::Forbidden,
                    format!("{name:?} is hidden from you, so that you cannot give it a value"),
                )),
                Some(column) if !column.generated => Ok((column.clone(), value.clone())),
                Some(_) => {
                    Err(self.refuse(ErrorKind::InvalidInput, format!("{name:?} is computed by the database")))
                }
                None => {
                    let known = self.table.columns.iter().map(|column| column.name.as_str());
                    Err(self.refuse(
                        ErrorKind::InvalidInput,
                        format!("there is no column {name:?}{}", suggest::hint(name, known)),
                    ))
                }
            })
            .collect()
    }

    /// Whoever the row will refer to must be there: said by name, where the database would say the constraint's.
    async fn parents_are_there(
        &self,
        session: &mut Session,
        target: &Version,
        columns: &[(Field, String)],
        set: &[(Column, Option<String>)],
    ) -> Result<()> {
        let references = introspect::references(session, &self.table).await?;
        for reference in references {
            let value = |name: &String| {
                if let Some((_, value)) = set.iter().find(|(column, _)| column.name == *name) {
                    return value.clone().map(Value::Text);
                }
                let (_, then) = columns.iter().find(|(field, _)| field.name == *name)?;
                value_of(&target.row, then).cloned()
            };
            let values: Vec<Value> = reference.columns.iter().filter_map(value).collect();
            if values.len() < reference.columns.len() || values.iter().any(Value::is_null) {
                // Not all of it is written, or a NULL refers to nobody.
                continue;
            }
            let Some(parent) = introspect::exact(session, &reference.target).await? else { continue };
            if !row_is_there(session, &parent, &reference.target_columns, &values).await? {
                let named: Vec<String> = reference
                    .target_columns
                    .iter()
                    .zip(&values)
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect();
                let by = reference.columns.join(", ");
                let eyes = session.remembered().eyes.clone();
                let what = if eyes.see(session, &reference.target).await? {
                    let seen = introspect::seen(session, &reference.target).await?;
                    format!(
                        "to the row {} of {seen}, which is not there: restore that first",
                        named.join(",")
                    )
                } else {
                    "to a row that is not there".to_owned()
                };
                return Err(self.refuse(ErrorKind::Conflict, format!("it refers by {by} {what}")));
            }
        }
        Ok(())
    }
}

fn value_of<'r>(row: &'r [(String, Value)], name: &str) -> Option<&'r Value> {
    row.iter().find(|(known, _)| known == name).map(|(_, value)| value)
}

/// The key's values of a row of that time.
fn key_of(layout: &Layout, row: &[(String, Value)]) -> Vec<Value> {
    layout
        .key
        .iter()
        .map(|name| {
            row.iter().find(|(known, _)| known == name).map_or(Value::Null, |(_, value)| value.clone())
        })
        .collect()
}

async fn live_row(
    session: &mut Session,
    layout: &Layout,
    key: &[Value],
) -> Result<Option<Vec<(String, Value)>>> {
    let dialect = session.dialect();
    let fields: Vec<&Field> = layout.fields.iter().collect();
    let sql = dialect.shown(layout, &dialect.live_row(layout, &layout.fields, key), &fields);
    let row = session.row(&sql, &[]).await.map_err(|error| error.on(&layout.table))?;
    Ok(row.map(|cells| {
        layout
            .fields
            .iter()
            .zip(cells)
            .map(|(field, cell)| (field.name.clone(), versions::value(field, cell)))
            .collect()
    }))
}

/// Whether a table has a row with these values in these columns.
async fn row_is_there(
    session: &mut Session,
    table: &Table,
    columns: &[String],
    values: &[Value],
) -> Result<bool> {
    let known: Vec<&Column> = columns.iter().filter_map(|name| table.column(name)).collect();
    let sql = session.dialect().row_exists(&table.name, &known, values);
    Ok(session.int(&sql, &[]).await?.unwrap_or_default() > 0)
}
