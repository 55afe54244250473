//! A table as of a time whose records are in archives, and in the database.

use std::collections::HashSet;
use std::iter::Peekable;

use afterimage_core::record::all_fields;
use afterimage_core::sql::archive::{compare_keys, of_transactions, rows_in_byte_order};
use afterimage_core::sql::log::Position;
use afterimage_core::sql::sqlite::Affinity;
use afterimage_core::value::Shown;
use afterimage_core::{Field, Layout, Moment, Value};

use crate::as_of::{AsOfQuery, Point, TableRead, Wanted, layout_at, shown, state_sql};
use crate::catalog::Entry;
use crate::error::{Error, ErrorKind, Result};
use crate::key;
use crate::session::{Cell, Row, Session};
use crate::shelf::{Shelf, Shelved};
use crate::versions::key_of;

/// The rows of a table, in byte order of their keys, one by one, until `take` says that it has enough.
pub(crate) async fn rows(
    session: &mut Session,
    entry: &Entry,
    point: &Point,
    query: &AsOfQuery,
    mut take: impl FnMut(&[String], Vec<Value>) -> bool,
) -> Result<TableRead> {
    if query.filter.is_some() {
        let message = "its records of then are in an archive, where no condition can be asked";
        return Err(Error::new(ErrorKind::Unknowable, message).on(&entry.table));
    }
    let Some(shelf) = Shelf::of(session, entry).await? else {
        return Err(
            Error::new(ErrorKind::Unknowable, "its archives are not in force any more").on(&entry.table)
        );
    };
    let layout = layout_at(entry, point.bound)?;
    let columns: Vec<String> = layout.fields.iter().map(|field| field.name.clone()).collect();
    let after = match &query.after {
        Some(text) => Some(typed_key(layout, text)?),
        None => None,
    };
    let mut left = query.limit.unwrap_or(u64::MAX);
    let mut from_archive = 0;
    // Whether to go on.
    let mut give = |row: Vec<Value>, archived: bool| {
        let beyond = after
            .as_ref()
            .is_none_or(|after| compare_keys(&key_of(layout, &layout.fields, &row), after).is_gt());
        if beyond && left > 0 {
            left -= 1;
            from_archive += u64::from(archived);
            return take(&columns, row) && left > 0;
        }
        left > 0
    };
    let unfinished = records_of_unfinished(session, &shelf, layout, point).await?;
    let mut archived = shelf.current(point, &unfinished).await?.peekable();
    let (state, _) = state_sql(session.dialect(), entry, point, &Wanted::default())?;
    let sql = rows_in_byte_order(session.dialect(), layout, &state);
    let fields = all_fields(&entry.epochs);
    let mut going = true;
    let read = session.ask_each(&sql, |row: Row| {
        let row = shown(entry, &layout.fields, point.bound, row);
        let key = key_of(layout, &layout.fields, &row);
        while let Some((own, shelved)) = next_up_to(&mut archived, Some(&key))? {
            if going && compare_keys(&own, &key).is_lt() {
                going = give(then(layout, &fields, &shelved), true);
            }
        }
        // What is in both is told once.
        going = going && give(row, false);
        Ok(going)
    });
    read.await.map_err(|error| error.on(&entry.table))?;
    while going && let Some((_, shelved)) = next_up_to(&mut archived, None)? {
        going = give(then(layout, &fields, &shelved), true);
    }
    Ok(TableRead { columns, archived: from_archive })
}

/// How many rows there are, up to so many.
pub(crate) async fn count(session: &mut Session, entry: &Entry, point: &Point, most: u64) -> Result<u64> {
    let query = AsOfQuery { limit: Some(most), ..AsOfQuery::new(String::new(), crate::PointInTime::Now) };
    let mut count = 0;
    let each = |_: &[String], _| {
        count += 1;
        true
    };
    rows(session, entry, point, &query, each).await?;
    Ok(count)
}

type Keyed = (Vec<Value>, Shelved);

/// The next row of an archive whose key is not beyond another.
fn next_up_to(
    rows: &mut Peekable<impl Iterator<Item = Result<Keyed>>>,
    key: Option<&[Value]>,
) -> Result<Option<Keyed>> {
    let within = |row: &Result<Keyed>| match (row, key) {
        (Ok((own, _)), Some(key)) => compare_keys(own, key).is_le(),
        _ => true,
    };
    rows.next_if(within).transpose()
}

/// The row of a record, in the columns of a time.
fn then(layout: &Layout, fields: &[Field], shelved: &Shelved) -> Vec<Value> {
    let value = |column: &Field| {
        let place = fields.iter().position(|field| field.bit == column.bit);
        place.and_then(|place| shelved.record.values.get(place)).cloned().unwrap_or(Value::Null)
    };
    layout.fields.iter().map(value).collect()
}

/// A key that somebody wrote, as its values are shown.
fn typed_key(layout: &Layout, text: &str) -> Result<Vec<Value>> {
    let typed = |(field, value): (&Field, Value)| match (field.shown, value) {
        (Shown::Dynamic, Value::Text(text)) => {
            let number = !matches!(Affinity::of(&field.sql_type), Affinity::Text | Affinity::Blob);
            match number && text.parse::<f64>().is_ok_and(f64::is_finite) {
                true => Value::Number(text),
                false => Value::Text(text),
            }
        }
        (shown, Value::Text(text)) => Value::from_text(shown, text),
        (_, other) => other,
    };
    Ok(layout.key_fields().zip(key::values(layout, text)?).map(typed).collect())
}

/// Where the records stand that transactions wrote which had not ended.
async fn records_of_unfinished(
    session: &mut Session,
    shelf: &Shelf,
    layout: &Layout,
    point: &Point,
) -> Result<HashSet<Position>> {
    if point.unfinished.is_empty() {
        return Ok(HashSet::new());
    }
    let sql = of_transactions(session.dialect(), layout, &point.unfinished, point.bound);
    let position = |row: Row| {
        Some((Moment::from_micros(row.first().and_then(Cell::int)?), row.get(1).and_then(Cell::int)?))
    };
    let mut found: HashSet<Position> = session.ask(&sql).await?.into_iter().filter_map(position).collect();
    found.extend(shelf.of_transactions(&point.unfinished, point.bound).await?);
    Ok(found)
}
