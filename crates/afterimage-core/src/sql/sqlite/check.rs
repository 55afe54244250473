//! `verify` and `resync`: what the records give, against what is there. Both run inside the database, which spills to
//! disk what does not fit in memory; only differences come out.

use super::baseline::adopt_numbers;
use super::history::{full_row, insert_into};
use super::read::replay;
use super::{differs, kept};
use crate::layout::{Field, Keeping, Layout};
use crate::name::Quoted;
use crate::sql::expression::{balanced, col, fields_by_word, full_mask};
use crate::sql::{First, Script};

/// `r.key` is `t.key` by the stored image.
fn joined(layout: &Layout) -> String {
    super::same_key(layout, "t", "r")
}

fn field_differs(field: &Field) -> String {
    match field.keeping {
        Keeping::Stored => differs(field, "t", "r"),
        Keeping::Masked => format!("({} IS NOT {})", kept(field, "t"), col("r", &field.name)),
    }
}

fn words(layout: &Layout) -> Vec<String> {
    fields_by_word(layout)
        .into_iter()
        .map(|fields| {
            let bits: Vec<String> = fields
                .into_iter()
                .map(|field| format!("{} * {}", field_differs(field), field.word_and_bit().1))
                .collect();
            balanced(&bits, "+", "0")
        })
        .collect()
}

fn any_differs(layout: &Layout) -> String {
    balanced(&layout.fields.iter().map(field_differs).collect::<Vec<_>>(), "OR", "0")
}

fn keys(layout: &Layout, alias: &str) -> String {
    layout.key_fields().map(|field| col(alias, &field.name)).collect::<Vec<_>>().join(", ")
}

fn first_key(layout: &Layout, alias: &str) -> String {
    layout.key.first().map(|name| col(alias, name)).unwrap_or_default()
}

pub(super) fn differences(layout: &Layout, sparse: bool) -> String {
    let live = layout.table.quoted();
    let replay = replay(layout, sparse);
    let nothing = vec!["0"; layout.words()].join(", ");
    format!(
        "WITH r AS MATERIALIZED (
{replay}
)
SELECT {live_keys}, {words}, 1, r.{present} IS NOT NULL FROM {live} AS t LEFT JOIN (SELECT 1 AS {present}, r.* FROM r) AS r ON {on}
WHERE r.{present} IS NULL OR {differs}
UNION ALL
SELECT {recorded_keys}, {nothing}, 0, 1 FROM r WHERE NOT EXISTS (SELECT 1 FROM {live} AS t WHERE {on})",
        live_keys = keys(layout, "t"),
        recorded_keys = keys(layout, "r"),
        words = words(layout).join(", "),
        present = "history_present",
        on = joined(layout),
        differs = any_differs(layout),
    )
}

pub(super) fn broken_sequences(layout: &Layout, first: First) -> String {
    let begins = first.cannot_be(&super::Sqlite);
    let key = layout.key_fields().map(|field| col("h", &field.history)).collect::<Vec<_>>().join(", ");
    let names = layout
        .key_fields()
        .map(|field| Quoted::new(&field.history).to_string())
        .collect::<Vec<_>>()
        .join(", ");
    format!(
        "SELECT {names}, history_id, history_problem FROM (
  SELECT {names}, history_id, CASE
    WHEN history_type = '+' AND history_before IN ('+', '~') THEN 'created while it was there'
    WHEN history_type IN ('~', '-') AND ({begins}history_before = '-') THEN 'changed or deleted while it was not there'
    WHEN history_id_before > history_id THEN 'dated before an earlier record'
  END AS history_problem
  FROM (SELECT {key}, h.history_id, h.history_date, h.history_type,
      lag(h.history_type) OVER w AS history_before, lag(h.history_id) OVER w AS history_id_before
    FROM {} AS h WINDOW w AS (PARTITION BY {key} ORDER BY h.history_date, h.history_id))
)
WHERE history_problem IS NOT NULL",
        layout.history.quoted()
    )
}

/// Its records are dated by the tick that dated the epoch or the end of the gap before it.
pub(super) fn resync(layout: &Layout, sparse: bool) -> Script {
    let live = layout.table.quoted();
    let replay = replay(layout, sparse);
    let on = joined(layout);
    let full = full_mask(layout).join(", ");
    let mut changed = words(layout);
    changed[0] = format!("1 + {}", changed[0]);
    // What the records give is worked out once; as a subquery it would be once for each row it is asked about.
    let into = format!("WITH r AS MATERIALIZED (\n{replay}\n)\n{}", insert_into(layout));
    let number = |order: &str| {
        format!("s.history_id + row_number() OVER (ORDER BY {order}), coalesce(s.at, s.history_date)")
    };
    let kept_already: Vec<String> = layout.fields.iter().map(|field| col("r", &field.name)).collect();
    vec![
        format!(
            "{into}
SELECT {}, '-', s.scope, {full}, NULL, {}
FROM r, afterimage_state AS s
WHERE NOT EXISTS (SELECT 1 FROM {live} AS t WHERE {on})",
            number(&first_key(layout, "r")),
            kept_already.join(", "),
        ),
        adopt_numbers(layout),
        format!(
            "{into}
SELECT {}, '~', s.scope, {}, NULL, {}
FROM {live} AS t JOIN r ON {on}, afterimage_state AS s
WHERE {}",
            number(&first_key(layout, "r")),
            changed.join(", "),
            full_row(layout, "t"),
            any_differs(layout),
        ),
        adopt_numbers(layout),
        format!(
            "{into}
SELECT {}, '+', s.scope, {full}, NULL, {}
FROM {live} AS t LEFT JOIN (SELECT 1 AS history_present, r.* FROM r) AS r ON {on}, afterimage_state AS s
WHERE r.history_present IS NULL",
            number(&first_key(layout, "t")),
            full_row(layout, "t"),
        ),
        adopt_numbers(layout),
    ]
}
