//! `verify` and `resync`: what the records give, against what is there. Both run inside the database; only differences
//! come out.

use super::capture::mask;
use super::catalog::identify_statement;
use super::read::{WORKED_OUT_ONCE, replay};
use super::{NEXT, full_row, insert_into, kept, keys_are_equal, values_differ};
use crate::layout::{Field, Keeping, Layout};
use crate::name::Quoted;
use crate::sql::expression::{balanced, col, full_mask};
use crate::sql::{First, Script};

/// `r.key` is `t.key` by the stored image.
fn joined(layout: &Layout) -> String {
    keys_are_equal(layout, |field| col("t", &field.name), |field| col("r", &field.name))
}

pub(super) fn field_differs(field: &Field) -> String {
    match field.keeping {
        Keeping::Stored => values_differ(field, &col("t", &field.name), &col("r", &field.name)),
        Keeping::Masked => format!("NOT ({} <=> {})", kept(field, "t"), col("r", &field.name)),
    }
}

pub(super) fn any_differs(layout: &Layout) -> String {
    balanced(&layout.fields.iter().map(field_differs).collect::<Vec<_>>(), "OR", "FALSE")
}

fn keys(layout: &Layout, alias: &str) -> String {
    layout
        .key_fields()
        .map(|field| super::value::handed_over(field, &col(alias, &field.name)))
        .collect::<Vec<_>>()
        .join(", ")
}

pub(super) fn differences(layout: &Layout, sparse: bool) -> String {
    let live = layout.table.quoted();
    // Looked up by key, row by row.
    let mut replay = replay(layout, &layout.fields, sparse);
    if !replay.ends_with(WORKED_OUT_ONCE) {
        replay.push_str(WORKED_OUT_ONCE);
    }
    // The keys alone: with values looked up for it, MariaDB 10.11 loses its way ("unknown column" in the look-up).
    let there = super::read::replay(layout, &[], sparse);
    let nothing = vec!["0"; layout.words().max(1)].join(", ");
    format!(
        "SELECT {live_keys}, {words}, 1, r.{present} IS NOT NULL FROM {live} AS t LEFT JOIN (SELECT 1 AS {present}, r.* FROM (
{replay}
) AS r) AS r ON {on}
WHERE r.{present} IS NULL OR {differs}
UNION ALL
SELECT {recorded_keys}, {nothing}, 0, 1 FROM (
{there}
) AS r WHERE NOT EXISTS (SELECT 1 FROM {live} AS t WHERE {on})",
        live_keys = keys(layout, "t"),
        recorded_keys = keys(layout, "r"),
        words = mask(layout, field_differs).join(", "),
        present = "history_present",
        on = joined(layout),
        differs = any_differs(layout),
    )
}

pub(super) fn broken_sequences(layout: &Layout, first: First) -> String {
    let begins = first.cannot_be(&super::MariaDb);
    let key = layout.key_fields().map(|field| col("h", &field.history)).collect::<Vec<_>>().join(", ");
    let names = layout
        .key_fields()
        .map(|field| Quoted::new(&field.history).to_string())
        .collect::<Vec<_>>()
        .join(", ");
    let shown: Vec<String> = layout
        .key_fields()
        .map(|field| super::value::handed_over(field, &Quoted::new(&field.history).to_string()))
        .collect();
    format!(
        "SELECT {}, history_id, history_problem FROM (
  SELECT {names}, history_id, CASE
    WHEN history_type = '+' AND history_before IN ('+', '~') THEN 'created while it was there'
    WHEN history_type IN ('~', '-') AND ({begins}history_before = '-') THEN 'changed or deleted while it was not there'
    WHEN history_id_before > history_id THEN 'dated before an earlier record'
  END AS history_problem
  FROM (SELECT {key}, h.history_id, h.history_date, h.history_type,
      LAG(h.history_type) OVER w AS history_before, LAG(h.history_id) OVER w AS history_id_before
    FROM {} AS h WINDOW w AS (PARTITION BY {key} ORDER BY h.history_date, h.history_id)) AS followed
) AS judged
WHERE history_problem IS NOT NULL",
        shown.join(", "),
        layout.history.quoted()
    )
}

/// Dated all alike: at the epoch that the same transaction began, or now.
pub(super) fn resync(layout: &Layout, sparse: bool, new_epoch: bool) -> Script {
    let mut script = resync_recorded(layout, sparse, new_epoch);
    script.push(format!(
        "{}
SELECT {NEXT}, @afterimage_date, '+', @afterimage_scope, {}, NULL, {}
FROM {} AS t
WHERE NOT EXISTS (SELECT 1 FROM afterimage_replay AS r WHERE {})",
        insert_into(layout),
        full_mask(layout).join(", "),
        full_row(layout, "t"),
        layout.table.quoted(),
        joined(layout),
    ));
    script
}

/// The same for the rows that the records say are there, and no others.
pub(super) fn resync_recorded(layout: &Layout, sparse: bool, new_epoch: bool) -> Script {
    let live = layout.table.quoted();
    let replay = replay(layout, &layout.fields, sparse);
    let on = joined(layout);
    let full = full_mask(layout).join(", ");
    let mut changed = mask(layout, field_differs);
    changed[0] = format!("1 + {}", changed[0]);
    let kept_already: Vec<String> = layout.fields.iter().map(|field| col("r", &field.name)).collect();
    let date = if new_epoch {
        format!("(SELECT MAX(from_date) FROM afterimage_epoch WHERE table_id = {})", layout.id)
    } else {
        "afterimage_clock()".to_owned()
    };
    // What is written to the history cannot be read from it at once.
    vec![
        "DROP TEMPORARY TABLE IF EXISTS afterimage_replay".to_owned(),
        format!(
            "CREATE TEMPORARY TABLE afterimage_replay (KEY history_key ({})) AS\n{replay}",
            Quoted::list(layout.key.iter().map(String::as_str))
        ),
        format!("BEGIN NOT ATOMIC\n{};\nEND", identify_statement()),
        format!("SET @afterimage_date = {date}"),
        format!(
            "{}
SELECT {NEXT}, @afterimage_date, '-', @afterimage_scope, {full}, NULL, {}
FROM afterimage_replay AS r
WHERE NOT EXISTS (SELECT 1 FROM {live} AS t WHERE {on})",
            insert_into(layout),
            kept_already.join(", "),
        ),
        format!(
            "{}
SELECT {NEXT}, @afterimage_date, '~', @afterimage_scope, {}, NULL, {}
FROM {live} AS t JOIN afterimage_replay AS r ON {on}
WHERE {}",
            insert_into(layout),
            changed.join(", "),
            full_row(layout, "t"),
            any_differs(layout),
        ),
    ]
}
