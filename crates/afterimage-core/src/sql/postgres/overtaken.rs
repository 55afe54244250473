//! A change that is overtaken by another before it is recorded.
//!
//! What a foreign key does to rows (`CASCADE`, `SET NULL`, `SET DEFAULT`) fires their triggers only when the statement that
//! caused it ends. A trigger of somebody's may have written such a row again by then, and that has its record: the one of
//! the foreign key's change comes after it, with what the row was in between. So where this can happen, what is there
//! has the last word: a row that is not as the record just written says gets one more.

use super::capture::{numbered, whole};
use super::header::{header, insert_into};
use super::history::kept;
use super::image::{if_same, key_is_same, mask, stored_mask, updated_values};
use super::live;
use crate::layout::{Field, Layout};
use crate::schema::Table;
use crate::sql::expression::{balanced, col};

fn possible(table: &Table) -> bool {
    table.postgres().is_some_and(|shape| shape.overtaken)
}

/// The row of today under the key of another one, looked for one by one: a plan that joins would be kept for statements
/// of any size.
fn there(layout: &Layout, row: &str) -> String {
    format!(
        "LEFT JOIN LATERAL (SELECT true AS history_there, l.* FROM {} AS l\n    WHERE {} LIMIT 1) AS t ON true",
        live(layout),
        key_is_same(layout, row, "l"),
    )
}

/// A condition more on the update of a row to `row`: of one that is gone by now, that has its record.
pub(super) fn unless_gone(layout: &Layout, table: &Table, row: &str) -> String {
    if !possible(table) {
        return String::new();
    }
    format!(
        " AND (SELECT true FROM {} AS l WHERE {} LIMIT 1) IS TRUE",
        live(layout),
        key_is_same(layout, row, "l"),
    )
}

/// How each row was left by the statement whose `new_rows` these are.
pub(super) fn last_of_each(layout: &Layout, new_rows: &str) -> String {
    let key: Vec<String> = layout.key_fields().map(|field| col("r", &field.name)).collect();
    format!(
        "(SELECT * FROM (SELECT r.*, pg_catalog.row_number() OVER (PARTITION BY {} ORDER BY r.history_position DESC) AS history_nth
    FROM {} AS r) AS r WHERE r.history_nth OPERATOR(pg_catalog.=) 1)",
        key.join(", "),
        numbered(layout, new_rows),
    )
}

/// After the records of rows that are now `n` of `rows`: those that are something else.
pub(super) fn otherwise(layout: &Layout, table: &Table, rows: &str) -> String {
    if !possible(table) {
        return String::new();
    }
    let same: Vec<String> =
        layout.fields.iter().map(|field| if_same(field, "n", "t", "true", "false")).collect();
    let unchanged = |field: &Field, value: &str| if_same(field, "n", "t", "NULL", value);
    format!(
        "\n  {}\n  SELECT {}, {}, {}\n  FROM {rows} AS n {}\n  WHERE t.history_there AND NOT {};",
        insert_into(layout),
        header(layout, "~", "NULL"),
        stored_mask(layout, mask(layout, "n", "t")),
        updated_values(layout, |field| kept(field, "t"), unchanged),
        there(layout, "n"),
        balanced(&same, "AND", "true"),
    )
}

/// After the records of rows that moved, from `o` to `n` of `pairs`: those that are gone, and those that are back.
pub(super) fn moved(layout: &Layout, table: &Table, pairs: &str, new_rows: &str) -> String {
    if !possible(table) {
        return String::new();
    }
    let rows = |row: &str| format!("(SELECT {row}.* FROM {pairs}) AS {row} {}", there(layout, row));
    let gone = format!("{}\n  WHERE t.history_there IS NULL", rows("n"));
    let back = format!(
        "{}\n  WHERE t.history_there AND NOT EXISTS (SELECT FROM {new_rows} AS n WHERE {})",
        rows("o"),
        key_is_same(layout, "n", "o"),
    );
    format!("\n  {}\n  {}", whole(layout, "-", "n", "NULL", &gone), whole(layout, "+", "t", "NULL", &back))
}

/// After the records of rows that departed, `o` of `rows`: those that are back.
pub(super) fn back(layout: &Layout, table: &Table, rows: &str) -> String {
    if !possible(table) {
        return String::new();
    }
    let back = format!("{rows} AS o {}\n  WHERE t.history_there", there(layout, "o"));
    format!("\n  {}", whole(layout, "+", "t", "NULL", &back))
}
