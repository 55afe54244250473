//! The baseline of a table that is written meanwhile: in batches by the key, each a short transaction. A row that somebody
//! holds is passed by, so that nobody is waited for; until the baseline is whole, its own change completes it.

use super::capture::{has_no_record, record_of};
use super::check;
use super::value::is_enumerated;
use super::{NEXT, full_row, insert_into};
use crate::layout::{Field, Layout};
use crate::name::literal;
use crate::sql::Script;
use crate::sql::expression::{col, full_mask};

/// Opens the transaction of one batch: it reads what is committed, and locks the rows that it takes, not the gaps beside
/// them.
pub const BATCH: &str = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; START TRANSACTION";

/// Asks whether the baseline of this table is for this connection to write, as long as it lives: 1 once no other does.
pub fn claim(id: i64) -> String {
    format!("SELECT GET_LOCK(CONCAT('afterimage.', MD5(DATABASE()), '.', {id}), 1)")
}

/// Records what happened, while triggers were missing, to rows that have a record already; the others are still to come.
pub fn mend(layout: &Layout, sparse: bool) -> Script {
    check::resync_recorded(layout, sparse, false)
}

/// About how many rows a table has, as far as the server knows without counting.
pub fn estimate(layout: &Layout) -> String {
    let name = literal(&layout.table.name);
    format!(
        "SELECT table_rows FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = {name}"
    )
}

/// Looks where a batch of so many rows ends, which begins where the last one ended.
pub fn look_ahead(layout: &Layout, first: bool, rows: i64) -> Script {
    let keys: Vec<String> = layout.key_fields().map(ordered).collect();
    let (begin, end) = (variables("begin", keys.len()), variables("end", keys.len()));
    let mut assigned = Vec::new();
    let mut beyond = String::new();
    if !first {
        assigned.extend(begin.iter().zip(&end).map(|(begin, end)| format!("{begin} = {end}")));
        beyond = format!("WHERE {} ", past(&keys, &begin, ">", ">"));
    }
    // Where there is no such row, nothing is selected into them.
    assigned.extend(end.iter().map(|end| format!("{end} = NULL")));
    vec![
        format!("SET {}", assigned.join(", ")),
        format!(
            "SELECT {} INTO {} FROM {} AS t {beyond}ORDER BY {} LIMIT 1 OFFSET {}",
            keys.join(", "),
            end.join(", "),
            layout.table.quoted(),
            keys.join(", "),
            rows.max(1) - 1,
        ),
    ]
}

/// Whether a look ahead found an end: 1, or 0 where the batch goes to the table's end.
pub const FOUND_END: &str = "SELECT @afterimage_end0 IS NOT NULL";

/// Writes the records of the batch that was looked for, up to its end or to the table's.
pub fn batch(layout: &Layout, first: bool, last: bool) -> String {
    let keys: Vec<String> = layout.key_fields().map(ordered).collect();
    let side = |side| variables(side, keys.len());
    let mut within = String::new();
    if !first {
        within.push_str(&format!("{} AND ", past(&keys, &side("begin"), ">", ">")));
    }
    if !last {
        within.push_str(&format!("{} AND ", past(&keys, &side("end"), "<", "<=")));
    }
    passing_by(layout, &within)
}

/// Writes the records of all rows that are still without, wherever they are.
pub fn rest(layout: &Layout) -> String {
    passing_by(layout, "")
}

/// How many rows are still without.
pub fn missing(layout: &Layout) -> String {
    format!(
        "SELECT count(*) FROM {} AS t WHERE NOT EXISTS ({})",
        layout.table.quoted(),
        record_of(layout, "t")
    )
}

/// Writes the records of all rows that are still without, in one go, as somebody does who runs it by hand.
pub(super) fn whole(layout: &Layout) -> Script {
    let source =
        format!("{} AS t JOIN afterimage_tracked AS s ON s.id = {}", layout.table.quoted(), layout.id);
    vec![insert(layout, "s.since", &source, &format!("NOT EXISTS ({})", record_of(layout, "t")))]
}

/// All that it reads it locks: a read that does not would fix a moment, and a row changed after that fail the statement.
fn passing_by(layout: &Layout, within: &str) -> String {
    let since = format!("(SELECT since FROM afterimage_tracked WHERE id = {} LOCK IN SHARE MODE)", layout.id);
    let source = format!("{} AS t", layout.table.quoted());
    let wanted = format!("{within}{}\nFOR UPDATE SKIP LOCKED", has_no_record(layout, "t"));
    insert(layout, &since, &source, &wanted)
}

fn insert(layout: &Layout, since: &str, source: &str, wanted: &str) -> String {
    format!(
        "{}
SELECT {NEXT}, {since}, '+', NULL, {}, NULL, {}
FROM {source}
WHERE {wanted}",
        insert_into(layout),
        full_mask(layout).join(", "),
        full_row(layout, "t"),
    )
}

/// Where one side of a batch is kept.
fn variables(side: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("@afterimage_{side}{n}")).collect()
}

/// A key column as it sorts: an enumeration by its number, which is not how it compares with text.
fn ordered(field: &Field) -> String {
    let column = col("t", &field.name);
    if is_enumerated(field) { format!("({column} + 0)") } else { column }
}

/// A key beyond another, column by column, so that its index is used; the last one may be the same if `end` allows it.
fn past(keys: &[String], other: &[String], sign: &str, end: &str) -> String {
    match (keys, other) {
        ([key], [value]) => format!("{key} {end} {value}"),
        ([key, keys @ ..], [value, other @ ..]) => {
            let rest = past(keys, other, sign, end);
            format!("({key} {sign} {value} OR {key} = {value} AND {rest})")
        }
        _ => "TRUE".to_owned(),
    }
}
