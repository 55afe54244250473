//! A table as of a recent time, from its live rows: those that nobody wrote since are what they were, and only the others
//! are read from their records.
//!
//! That is less work where few records are newer than the time, and tells the same wherever the records give the live
//! table: whoever asks sees to it that capture is whole, and that the columns are those of that time.

use super::expression::col;
use super::{AsOf, Bound, Dialect};
use crate::layout::{Field, Layout};
use crate::name::Quoted;

/// The state, in the order of the key; nothing where the database has no good way.
pub fn as_of(dialect: &dyn Dialect, as_of: &AsOf<'_>) -> Option<String> {
    let AsOf { layout, fields, bound, .. } = as_of;
    let written = dialect.written_since(as_of)?;
    let rest = fields.iter().filter(|field| !layout.is_key(field));
    let columns: Vec<String> = layout
        .key_fields()
        .chain(rest)
        .map(|field: &Field| format!("{} AS {}", dialect.kept(field, "t"), Quoted::new(&field.name)))
        .collect();
    let same: Vec<String> = layout
        .key_fields()
        .map(|field| format!("{} = {}", col("x", &field.history), col("t", &field.name)))
        .collect();
    Some(format!(
        "SELECT {}
FROM {} AS t
WHERE NOT EXISTS (SELECT 1 FROM {} AS x WHERE {} AND {})
UNION ALL
{written}
ORDER BY {}",
        columns.join(", "),
        dialect.live(layout),
        layout.history.quoted(),
        same.join(" AND "),
        dialect.beyond("x", *bound),
        Quoted::list(layout.key.iter().map(String::as_str)),
    ))
}

/// How many rows the table had: those of now, less those created since, and those deleted since.
pub fn count_as_of(dialect: &dyn Dialect, layout: &Layout, bound: Bound) -> String {
    format!(
        "SELECT (SELECT count(*) FROM {}) - (SELECT coalesce(sum(CASE h.history_type WHEN '+' THEN 1 WHEN '-' THEN -1 END), 0) FROM {} AS h WHERE {})",
        dialect.live(layout),
        layout.history.quoted(),
        dialect.beyond("h", bound),
    )
}

/// One row: how many records are beyond the bound, and how many within, neither counted further than asked for.
pub fn amounts(dialect: &dyn Dialect, layout: &Layout, bound: Bound, beyond: u32, within: u32) -> String {
    let history = layout.history.quoted();
    let count = |condition: String, most: u32| {
        format!(
            "(SELECT count(*) FROM (SELECT 1 FROM {history} AS h WHERE {condition} LIMIT {most}) AS counted)"
        )
    };
    format!(
        "SELECT {}, {}",
        count(dialect.beyond("h", bound), beyond),
        count(dialect.within("h", bound), within)
    )
}
