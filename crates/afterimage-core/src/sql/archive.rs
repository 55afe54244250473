//! Reading the records of a history for an archive: row by row, each row's in order.

use super::log::{self, Source};
use super::{Bound, Dialect};
use crate::sql::expression::col;
use crate::sql::scoped::key_columns;

/// All records up to a bound, of one row after the other, oldest first within it. Of each, after its header, its mask and its fields
/// as [`records_of_key`](Dialect::records_of_key) has them: a number that is the same for all of a row, when its transaction had begun
/// at the latest, in microseconds, the number of its context, where contexts stand beside records, and the fields of the departure that
/// it arrived from.
pub fn row_by_row(dialect: &dyn Dialect, source: &Source<'_>, bound: Bound) -> String {
    let spelling = log::spelling(dialect.database());
    let layout = source.layout;
    let key = key_columns(layout, "h");
    let mut columns: Vec<String> = spelling.head().to_vec();
    columns.extend(layout.word_columns().map(|word| format!("h.{word}")));
    columns.extend(source.fields.iter().map(|field| spelling.shown(field, "h")));
    columns.push(match layout.key_fields().all(|field| field.plain_equality) {
        // Whoever reads them sees by the key itself where a row ends.
        true => "NULL".to_owned(),
        false => format!("dense_rank() OVER (ORDER BY {key})"),
    });
    let [began, scope] = spelling.transaction();
    columns.extend([began, scope]);
    columns.extend(source.fields.iter().map(|field| spelling.shown(field, "d")));
    // What was before follows from the records themselves.
    let source = Source { sparse: true, ..*source };
    format!(
        "SELECT {}\nFROM {}\nWHERE {}\nORDER BY {key}, {}, h.history_id",
        columns.join(", "),
        spelling.from(&source, true),
        dialect.within("h", bound),
        col("h", "history_date"),
    )
}
