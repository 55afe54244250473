//! Stored images: whether two rows have the same, field by field, and what an update's record keeps of them.

use super::read::is_array;
use crate::layout::{Field, Layout};
use crate::sql::expression::{balanced, col, fields_by_word};
use crate::tracking::Storage;

/// How two values of a type are compared.
enum Comparison {
    /// By an expression that is NULL where either value is.
    OfValues(String),
    /// By one that never is.
    OfImages(String),
}

fn comparison(field: &Field, a: &str, b: &str) -> Comparison {
    if field.plain_equality {
        return Comparison::OfValues(format!("{a} OPERATOR(pg_catalog.=) {b}"));
    }
    let bare = field.sql_type.split('(').next().unwrap_or_default();
    match if is_array(field) { "array" } else { bare } {
        "numeric" => Comparison::OfValues(format!(
            "({a} OPERATOR(pg_catalog.=) {b} AND (pg_catalog.scale({a}) OPERATOR(pg_catalog.=) pg_catalog.scale({b})) IS NOT FALSE)"
        )),
        "double precision" => Comparison::OfValues(format!(
            "pg_catalog.float8send({a}) OPERATOR(pg_catalog.=) pg_catalog.float8send({b})"
        )),
        "real" => Comparison::OfValues(format!(
            "pg_catalog.float4send({a}) OPERATOR(pg_catalog.=) pg_catalog.float4send({b})"
        )),
        _ => Comparison::OfImages(format!(
            "ROW({a})::pg_catalog.record OPERATOR(pg_catalog.*=) ROW({b})::pg_catalog.record"
        )),
    }
}

/// Whether two values that are not NULL have the same stored image.
pub(super) fn same(field: &Field, a: &str, b: &str) -> String {
    match comparison(field, a, b) {
        Comparison::OfValues(same) | Comparison::OfImages(same) => same,
    }
}

/// `then` where the field's image is the same in both rows, else `otherwise`.
pub(super) fn if_same(field: &Field, before: &str, after: &str, then: &str, otherwise: &str) -> String {
    let (a, b) = (col(before, &field.name), col(after, &field.name));
    match comparison(field, &a, &b) {
        Comparison::OfValues(same) => {
            format!(
                "CASE WHEN {same} THEN {then} WHEN {a} IS NULL AND {b} IS NULL THEN {then} ELSE {otherwise} END"
            )
        }
        // A composite value of nothing but NULLs IS NULL too, but is another image than NULL.
        Comparison::OfImages(same) => format!("CASE WHEN {same} THEN {then} ELSE {otherwise} END"),
    }
}

pub(super) fn key_is_same(layout: &Layout, before: &str, after: &str) -> String {
    let terms: Vec<String> = layout
        .key_fields()
        .map(|field| format!("({})", same(field, &col(before, &field.name), &col(after, &field.name))))
        .collect();
    format!("({})", terms.join(" AND "))
}

/// The mask of an update, word by word.
pub(super) fn mask(layout: &Layout, before: &str, after: &str) -> Vec<String> {
    fields_by_word(layout)
        .into_iter()
        .map(|fields| {
            let bits: Vec<String> = fields
                .into_iter()
                .map(|field| {
                    if_same(field, before, after, "0::bigint", &format!("{}::bigint", field.word_and_bit().1))
                })
                .collect();
            balanced(&bits, "OPERATOR(pg_catalog.|)", "0::bigint")
        })
        .collect()
}

/// The values of an update's record: all, or the changed ones.
pub(super) fn updated_values(
    layout: &Layout,
    value: impl Fn(&Field) -> String,
    unchanged: impl Fn(&Field, &str) -> String,
) -> String {
    let full = layout.storage == Storage::Snapshot;
    layout
        .fields
        .iter()
        .map(
            |field| if full || layout.is_key(field) { value(field) } else { unchanged(field, &value(field)) },
        )
        .collect::<Vec<_>>()
        .join(", ")
}

/// The mask as it is stored: with the bit of a full record where records are full.
pub(super) fn stored_mask(layout: &Layout, mut words: Vec<String>) -> String {
    if layout.storage == Storage::Snapshot {
        words[0] = format!("({} OPERATOR(pg_catalog.|) 1::bigint)", words[0]);
    }
    words.join(", ")
}
