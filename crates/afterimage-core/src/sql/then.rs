//! A table's rows of a time under the table's columns of today: what programs expect that were written for today.

use super::Dialect;
use super::expression::{col, indented};
use super::log::{HEAD, Source};
use crate::Database;
use crate::layout::{Field, Keeping, Layout};
use crate::name::{Quoted, literal};
use crate::schema::{Column, Table};

/// What stands in for a masked text.
const MASKED: &str = "•••";

/// A query of the table's columns of today, in their order, of the rows that `state` gives, which has the columns of `then`:
///
/// - a column that has been renamed since has its name of today;
/// - one that was added since is NULL, or the constant that all rows got with it;
/// - one that is not tracked is what the row holds today, else NULL;
/// - one whose values are masked is `•••` where it is text, else NULL.
pub fn relation(dialect: &dyn Dialect, today: &Table, now: &Layout, then: &Layout, state: &str) -> String {
    let held: Vec<Held<'_>> =
        then.fields.iter().map(|field| Held { field, column: field.name.clone() }).collect();
    rows(dialect, today, now, &held, state, "")
}

/// The same of all versions that the table's rows ever had, or only of the latest of each row, after the columns of their
/// header and their mask.
pub fn versions(dialect: &dyn Dialect, today: &Table, source: &Source<'_>, latest: bool) -> String {
    let held: Vec<Held<'_>> =
        source.fields.iter().map(|field| Held { field, column: version_column(field) }).collect();
    let header: String =
        header(source.layout).iter().map(|column| format!("s.{column} AS {column}, ")).collect();
    let mut versions = dialect.versions(source);
    if latest {
        let newest = indented(&dialect.newest_of_each(source.layout, None, None), 2);
        versions = format!(
            "SELECT v.* FROM (\n  {}\n) AS v\nWHERE v.history_id IN (SELECT k.history_id FROM (\n  {newest}\n) AS k)",
            indented(&versions, 2)
        );
    }
    rows(dialect, today, source.layout, &held, &versions, &header)
}

/// The columns of the header and the mask, which versions have before those of the table.
pub fn header(layout: &Layout) -> Vec<String> {
    HEAD.into_iter().map(ToOwned::to_owned).chain(layout.word_columns()).collect()
}

/// What a field is called among versions.
pub fn version_column(field: &Field) -> String {
    format!("f{}", field.bit)
}

/// A field that a state has, and what it calls it.
#[derive(Debug)]
struct Held<'a> {
    field: &'a Field,
    column: String,
}

fn rows(
    dialect: &dyn Dialect,
    today: &Table,
    now: &Layout,
    held: &[Held<'_>],
    state: &str,
    header: &str,
) -> String {
    let in_state = |field: &Field| held.iter().find(|held| held.field.bit == field.bit);
    let key: Option<Vec<String>> =
        now.key_fields().map(|field| in_state(field).map(|held| held.column.clone())).collect();
    let key = key.filter(|_| today.columns.iter().any(|column| now.field(&column.name).is_none()));
    let columns: Vec<String> = today
        .columns
        .iter()
        .map(|column| {
            let value = match now.field(&column.name) {
                None if key.is_some() => col("t", &column.name),
                None => typed(dialect, column, "NULL"),
                Some(field) if field.keeping == Keeping::Masked => masked(dialect, column, in_state(field)),
                Some(field) => match in_state(field) {
                    Some(old) if old.field.keeping == Keeping::Masked => masked(dialect, column, Some(old)),
                    Some(old) => col("s", &old.column),
                    None => typed(dialect, column, column.fill.as_deref().unwrap_or("NULL")),
                },
            };
            format!("{value} AS {}", Quoted::new(&column.name))
        })
        .collect();
    let join = key.map_or_else(String::new, |key| {
        format!("\nLEFT JOIN {} AS t ON {}", dialect.live(now), dialect.same_row(now, &key))
    });
    format!("SELECT {header}{}\nFROM (\n  {}\n) AS s{join}", columns.join(", "), indented(state, 2))
}

fn masked(dialect: &dyn Dialect, column: &Column, held: Option<&Held<'_>>) -> String {
    match held {
        Some(old) if is_text(&column.sql_type) => {
            let mark = typed(dialect, column, &literal(MASKED));
            format!("CASE WHEN {} IS NOT NULL THEN {mark} END", col("s", &old.column))
        }
        _ => typed(dialect, column, "NULL"),
    }
}

/// PostgreSQL's values have a type wherever they stand.
fn typed(dialect: &dyn Dialect, column: &Column, value: &str) -> String {
    match dialect.database() {
        Database::Postgres => format!("CAST({value} AS {})", column.sql_type),
        Database::Sqlite | Database::MariaDb => value.to_owned(),
    }
}

/// Whether any text may stand in a column of that type.
fn is_text(sql_type: &str) -> bool {
    let sql_type = sql_type.to_lowercase();
    let first = sql_type.split(['(', ' ']).next().unwrap_or_default();
    let texts =
        ["text", "char", "clob", "varchar", "character", "tinytext", "mediumtext", "longtext", "citext"];
    texts.contains(&first) && !sql_type.ends_with(']')
}
