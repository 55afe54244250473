//! What writing a state back has in common on every database.

use super::WriteBack;
use super::expression::col;
use crate::layout::Field;
use crate::name::Quoted;
use crate::schema::Column;

/// What the state calls a column of the key.
pub(super) fn then<'b>(back: &'b WriteBack<'_>) -> impl Fn(&Field) -> String + 'b {
    |field| {
        let place = back.layout.key.iter().position(|name| *name == field.name);
        place.and_then(|place| back.key.get(place)).unwrap_or(&field.name).clone()
    }
}

/// The columns of an insert and their values: those of the state, alias `s`, and those that somebody gave.
pub(super) fn inserted(
    back: &WriteBack<'_>,
    given: impl Fn(&Column, Option<&str>) -> String,
) -> (String, String) {
    let set = back.set.iter().map(|(column, _)| column.name.as_str());
    let names = Quoted::list(back.columns.iter().map(|(field, _)| field.name.as_str()).chain(set));
    let values: Vec<String> = back
        .columns
        .iter()
        .map(|(_, then)| col("s", then))
        .chain(back.set.iter().map(|(column, value)| given(column, value.as_deref())))
        .collect();
    (names, values.join(", "))
}
