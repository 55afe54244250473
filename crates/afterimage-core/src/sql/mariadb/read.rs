//! Reading: the records of a row, and a table as of a time.
//!
//! A number is taken under the row's lock: along a row, numbers and dates rise together, so that the newest record of a
//! key is the one with the highest number.

use super::value::{self, handed_over, is_text};
use crate::layout::{Field, Layout};
use crate::name::Quoted;
use crate::sql::expression::{balanced, col, mask_names};
use crate::sql::question::Question;
use crate::sql::scoped::{beyond, key_columns, within};
use crate::sql::{AsOf, Bound, Rows, SHORT, scoped};
use crate::value::Value;

/// The records of a transaction.
pub(super) fn of_tx(alias: &str, tx: &str) -> String {
    let of = |column: &str| format!("(SELECT w.{column} FROM afterimage_scope AS w WHERE w.id = {tx})");
    format!(
        "({alias}.history_date >= {} AND {alias}.history_date <= COALESCE({}, 9223372036854775807) AND {alias}.history_scope IN (SELECT w.id FROM afterimage_scope AS w WHERE w.tx = {tx}))",
        of("began"),
        of("last_date"),
    )
}

/// The columns of a record's header but for the mask; the context is alias `c`.
pub(super) fn head(alias: &str) -> [String; 8] {
    scoped::head(alias, "CHAR")
}

pub(super) fn header(alias: &str, layout: &Layout) -> String {
    scoped::header(alias, layout, "CHAR")
}

pub(super) fn records_of_key(layout: &Layout, fields: &[Field], key: &[Value], bound: Bound) -> Question {
    let columns: String =
        fields.iter().map(|field| format!(", {}", handed_over(field, &col("h", &field.history)))).collect();
    let (is, given) = match bound {
        Bound::Time(_) | Bound::Position(..) => {
            (key_is(layout, |field| col("h", &field.history), key), Vec::new())
        }
        // However it is spelt, by the column's own comparison.
        Bound::Now => {
            let parameters = layout.key_fields().map(|field| {
                format!("{} = {}", col("h", &field.history), value::given(&field.sql_type, field.shown, "?"))
            });
            (parameters.collect::<Vec<_>>().join(" AND "), key.to_vec())
        }
    };
    let sql = format!(
        "SELECT {}{columns}
FROM {} AS h LEFT JOIN afterimage_scope AS c ON c.id = h.history_scope
WHERE {} AND {}
ORDER BY h.history_date, h.history_id",
        header("h", layout),
        layout.history.quoted(),
        is,
        within("h", bound),
    );
    Question { sql, given, kept: false, alone: None }
}

/// An arrival has the number after its departure's.
pub(super) fn arrival_of(layout: &Layout) -> String {
    let key: Vec<String> =
        layout.key_fields().map(|field| handed_over(field, &col("h", &field.history))).collect();
    format!(
        "SELECT h.history_id, {} FROM {} AS h WHERE h.history_id = ? + 1 AND h.history_date = ? AND h.history_old_key IS NOT NULL",
        key.join(", "),
        layout.history.quoted()
    )
}

/// The columns of a key, called as `name` says, have these values. Text compares by bytes, whatever the column does.
pub(super) fn key_is(layout: &Layout, column: impl Fn(&Field) -> String, key: &[Value]) -> String {
    let terms: Vec<String> = layout
        .key_fields()
        .zip(key)
        .map(|(field, given)| {
            let column = column(field);
            let given = value::key_literal(&field.sql_type, field.shown, given);
            if is_text(field) {
                format!("{column} = {given} AND CONVERT({column} USING utf8mb4) COLLATE utf8mb4_nopad_bin = {given}")
            } else {
                format!("{column} = {given}")
            }
        })
        .collect();
    format!("({})", terms.join(" AND "))
}

/// The rows of alias `row` are those asked for; their key's columns are called as `name` says.
pub(super) fn among(
    layout: &Layout,
    row: &str,
    name: impl Fn(&Field) -> String,
    rows: Rows<'_>,
) -> Option<String> {
    let own = || layout.key_fields().map(|field| col(row, &name(field))).collect::<Vec<_>>().join(", ");
    let by = |condition: String| {
        format!(
            "({}) IN (SELECT {} FROM {} AS x WHERE {condition})",
            own(),
            key_columns(layout, "x"),
            layout.history.quoted()
        )
    };
    match rows {
        Rows::All => None,
        Rows::Keys(keys) => {
            let each: Vec<String> =
                keys.iter().map(|key| key_is(layout, |field| col(row, &name(field)), key)).collect();
            Some(format!("({})", balanced(&each, "OR", "FALSE")))
        }
        Rows::After(key) => {
            let terms: Vec<(String, String)> = layout
                .key_fields()
                .zip(key)
                .map(|(field, given)| {
                    let value = value::key_literal(&field.sql_type, field.shown, given);
                    (col(row, &name(field)), value)
                })
                .collect();
            // As a comparison of rows it would not be read along the index.
            Some(terms.into_iter().rev().fold(String::new(), |rest, (column, value)| match rest.as_str() {
                "" => format!("{column} > {value}"),
                rest => format!("({column} >= {value} AND ({column} > {value} OR {rest}))"),
            }))
        }
        Rows::TouchedBy(tx) => Some(by(of_tx("x", tx))),
        Rows::Beyond(bound) => Some(by(beyond("x", bound))),
    }
}

/// The records that an as-of looks at.
fn condition(as_of: &AsOf<'_>) -> String {
    let AsOf { layout, bound, unfinished, rows, .. } = as_of;
    let mut condition = within("h", *bound);
    if let Some(among) = among(layout, "h", |field| field.history.clone(), *rows) {
        condition.push_str(" AND ");
        condition.push_str(&among);
    }
    condition.push_str(&scoped::not_of("h", unfinished));
    condition
}

/// The creations less the deletions until then.
pub(super) fn count_as_of(as_of: &AsOf<'_>) -> String {
    format!(
        "SELECT CAST(COALESCE(SUM(CASE h.history_type WHEN '+' THEN 1 WHEN '-' THEN -1 END), 0) AS SIGNED) FROM {} AS h WHERE {}",
        as_of.layout.history.quoted(),
        condition(as_of),
    )
}

/// A field under its present name and, where it is text, under the collation that the table has.
fn named(layout: &Layout, field: &Field, expression: &str) -> String {
    let collate = match &field.collation {
        Some(collation) if layout.is_key(field) => format!(" COLLATE {collation}"),
        _ => String::new(),
    };
    format!("{expression}{collate} AS {}", Quoted::new(&field.name))
}

/// A join has 61 tables at most there.
const MOST_JOINED: usize = 50;

pub(super) fn as_of(as_of: &AsOf<'_>) -> String {
    let AsOf { layout, fields, sparse, .. } = as_of;
    if as_of.first {
        return first_as_of(as_of);
    }
    let history = layout.history.quoted();
    let rest: Vec<&Field> = fields.iter().filter(|field| !layout.is_key(field)).collect();
    // A condition of an outer query on the key reaches into `n` only by way of its own columns, which hold any of equal keys.
    let key = key_columns(layout, "h");
    let of_key = |field: &Field| col(if field.plain_equality { "n" } else { "l" }, &field.history);
    let mut columns: Vec<String> =
        layout.key_fields().map(|field| named(layout, field, &of_key(field))).collect();
    let mut newest = String::new();
    let mut joins = String::new();
    // A look-up in the list of columns would be the same, but where a condition of an outer query is merged with it,
    // 10.11 refuses it as an unknown column; so a query with more of them than can be joined is kept from being merged.
    let joined = rest.len() <= MOST_JOINED;
    for field in rest {
        let value = if *sparse {
            newest.push_str(&format!(
                ",\n    MAX(CASE WHEN {} THEN h.history_id END) AS history_f{}",
                mask_names("h", field),
                field.bit
            ));
            let alias = format!("v{}", field.bit);
            let on = format!("{alias}.history_id = n.history_f{}", field.bit);
            if joined {
                joins.push_str(&format!("\nLEFT JOIN {history} AS {alias} ON {on}"));
                col(&alias, &field.history)
            } else {
                format!("(SELECT {} FROM {history} AS {alias} WHERE {on})", col(&alias, &field.history))
            }
        } else {
            col("l", &field.history)
        };
        columns.push(named(layout, field, &value));
    }
    format!(
        "SELECT {}
FROM (SELECT {key}, MAX(h.history_id) AS history_last{newest}
  FROM {history} AS h WHERE {} GROUP BY {key}) AS n
JOIN {history} AS l ON l.history_id = n.history_last{joins}
WHERE l.history_type <> '-'
ORDER BY {}{}",
        columns.join(", "),
        condition(as_of),
        key_columns(layout, "l"),
        if joined || !sparse { "" } else { WORKED_OUT_ONCE },
    )
}

/// The same, row by row in the order of the key's index, so that it stops as soon as nobody asks for more.
///
/// A condition of an outer query is merged with this one's and tried first, for each record: so what has to be looked up of
/// a sparse one is looked up by `n`, which is there only where the index told that it is the newest of its row.
fn first_as_of(as_of: &AsOf<'_>) -> String {
    let AsOf { layout, fields, sparse, .. } = as_of;
    let history = layout.history.quoted();
    let (found, join) = if *sparse {
        ("n", format!(" STRAIGHT_JOIN {history} AS n ON n.history_id = l.history_id"))
    } else {
        ("l", String::new())
    };
    let newest = |value: &str, row: &str, names: &str| {
        let same: Vec<String> = layout
            .key_fields()
            .map(|field| format!("{} = {}", col("h", &field.history), col(row, &field.history)))
            .collect();
        format!(
            "(SELECT {value} FROM {history} AS h WHERE {} AND {}{names} ORDER BY h.history_date DESC, h.history_id DESC LIMIT 1)",
            same.join(" AND "),
            condition(as_of)
        )
    };
    let mut columns: Vec<String> =
        layout.key_fields().map(|field| named(layout, field, &col("l", &field.history))).collect();
    for field in fields.iter().filter(|field| !layout.is_key(field)) {
        let value = if *sparse {
            newest(&col("h", &field.history), found, &format!(" AND {}", mask_names("h", field)))
        } else {
            col(found, &field.history)
        };
        columns.push(named(layout, field, &value));
    }
    let among = among(layout, "l", |field| field.history.clone(), as_of.rows);
    format!(
        "SELECT {}
FROM {history} AS l{join}
WHERE {}({}) IS TRUE AND {found}.history_type <> '-' AND l.history_id = {}
ORDER BY {}",
        columns.join(", "),
        among.map(|among| format!("{among} AND ")).unwrap_or_default(),
        // Which spares looking for the newest of its row, but is not to be what the records are found by.
        within("l", as_of.bound),
        newest("h.history_id", "l", ""),
        key_columns(layout, "l")
    )
}

/// Ends a query that is worked out once, as it stands; else it is merged into the one around it, and worked out anew for
/// each of its rows.
pub(super) const WORKED_OUT_ONCE: &str = "\nLIMIT 9223372036854775807";

/// The state of now from the records, for comparing with the live table.
pub(super) fn replay(layout: &Layout, fields: &[Field], sparse: bool) -> String {
    as_of(&AsOf { layout, fields, sparse, bound: Bound::Now, unfinished: &[], rows: Rows::All, first: false })
}

/// Those that had begun by then and have records later. Where one ended is an upper bound, since what a statement noted that
/// failed stays noted; of one whose client forgot to say it, only the records tell.
pub(super) fn unfinished(histories: &[&Layout], bound: Bound) -> String {
    let Some(at) = bound.moment() else { return "SELECT NULL FROM DUAL WHERE FALSE".to_owned() };
    let at = at.as_micros();
    let later: Vec<String> = histories
        .iter()
        .map(|layout| {
            format!(
                "EXISTS (SELECT 1 FROM {} AS h WHERE h.history_date > {at} AND h.history_date <= COALESCE(s.last_date, 9223372036854775807) AND h.history_scope IN (SELECT w.id FROM afterimage_scope AS w WHERE w.tx = s.id))",
                layout.history.quoted()
            )
        })
        .collect();
    let later = balanced(&later, "OR", "FALSE");
    let ended = |when: String| {
        format!(
            "SELECT CAST(s.id AS CHAR) FROM afterimage_scope AS s WHERE {when} AND s.began <= {at} AND s.tx = s.id AND {later}"
        )
    };
    [
        ended(format!("s.lasting > {at} AND s.lasting <= {at} + {SHORT}")),
        ended(format!("s.lasting_long > {at}")),
    ]
    .join("\nUNION ALL\n")
}

pub(super) fn position_of_tx(histories: &[&Layout], tx: &str) -> String {
    let each: Vec<String> = histories
        .iter()
        .map(|layout| {
            format!(
                "SELECT * FROM (SELECT h.history_date, h.history_id FROM {} AS h WHERE {} ORDER BY h.history_date DESC, h.history_id DESC LIMIT 1) AS newest_{}",
                layout.history.quoted(),
                of_tx("h", tx),
                layout.id
            )
        })
        .collect();
    if each.is_empty() {
        return "SELECT NULL, NULL FROM DUAL WHERE FALSE".to_owned();
    }
    format!(
        "SELECT history_date, history_id FROM (\n{}\n) AS found ORDER BY history_date DESC, history_id DESC LIMIT 1",
        each.join("\nUNION ALL\n")
    )
}
