//! `verify` and `resync`: what the records give, against what is there. Both run inside the database, which spills to
//! disk what does not fit in memory; only differences come out.

use super::history::{full_row, insert_columns, kept};
use super::live;
use super::read::replay;
use crate::layout::{Field, Keeping, Layout};
use crate::name::Quoted;
use crate::sql::expression::{balanced, col, fields_by_word, full_mask};
use crate::sql::{First, Script};

fn field_differs(field: &Field) -> String {
    let (live, recorded) = (col("t", &field.name), col("r", &field.name));
    match field.keeping {
        Keeping::Masked => format!("{} IS DISTINCT FROM {recorded}", kept(field, "t")),
        Keeping::Stored if field.plain_equality => format!("{live} IS DISTINCT FROM {recorded}"),
        // The cast takes a domain to the type it stands on, which is what the history holds.
        Keeping::Stored => format!("ROW({live}::{})::record *<> ROW({recorded})::record", field.sql_type),
    }
}

fn words(layout: &Layout) -> Vec<String> {
    fields_by_word(layout)
        .into_iter()
        .map(|fields| {
            let bits: Vec<String> = fields
                .into_iter()
                .map(|field| {
                    format!(
                        "CASE WHEN {} THEN {} ELSE 0::bigint END",
                        field_differs(field),
                        field.word_and_bit().1
                    )
                })
                .collect();
            balanced(&bits, "+", "0::bigint")
        })
        .collect()
}

fn any_differs(layout: &Layout) -> String {
    let terms: Vec<String> =
        layout.fields.iter().map(|field| format!("({})", field_differs(field))).collect();
    balanced(&terms, "OR", "false")
}

fn joined(layout: &Layout) -> String {
    let terms: Vec<String> = layout
        .key_fields()
        .map(|field| format!("{} = {}", col("t", &field.name), col("r", &field.name)))
        .collect();
    terms.join(" AND ")
}

pub(super) fn differences(layout: &Layout, sparse: bool) -> String {
    let keys: Vec<String> = layout
        .key_fields()
        .map(|field| format!("coalesce({}::text, {}::text)", col("t", &field.name), col("r", &field.name)))
        .collect();
    format!(
        "SELECT {}, {}, (t.history_present IS NOT NULL)::int, (r.history_present IS NOT NULL)::int
FROM (SELECT true AS history_present, t.* FROM {} AS t) AS t
FULL JOIN (SELECT true AS history_present, r.* FROM (
{}
) AS r) AS r ON {}
WHERE t.history_present IS NULL OR r.history_present IS NULL OR {}",
        keys.join(", "),
        words(layout).join(", "),
        live(layout),
        replay(layout, sparse),
        joined(layout),
        any_differs(layout),
    )
}

/// Where the key is deferrable, two rows may share it until their transaction ends, so that one is created while the
/// other is there.
pub(super) fn broken_sequences(layout: &Layout, first: First) -> String {
    let begins = first.cannot_be(&super::Postgres);
    let alone = if layout.shared_key { "false AND " } else { "" };
    let key = Quoted::list(layout.key_fields().map(|field| field.history.as_str()));
    let shown: Vec<String> =
        layout.key_fields().map(|field| format!("{}::text", Quoted::new(&field.history))).collect();
    format!(
        "SELECT {}, history_id, history_problem FROM (
  SELECT {key}, history_id, CASE
    WHEN {alone}history_type = '+' AND history_before IN ('+', '~') THEN 'created while it was there'
    WHEN history_type IN ('~', '-') AND ({begins}history_before = '-') THEN 'changed or deleted while it was not there'
    WHEN history_id_before > history_id AND NOT history_baseline THEN 'dated before an earlier record'
  END AS history_problem
  FROM (SELECT {key}, history_id, history_date, history_type, lag(history_type) OVER w AS history_before, lag(history_id) OVER w AS history_id_before,
      row_number() OVER w = 2 AND lag(history_type) OVER w = '+' AS history_baseline
    FROM {} WINDOW w AS (PARTITION BY {key} ORDER BY history_date, history_id)) AS s
) AS p
WHERE history_problem IS NOT NULL",
        shown.join(", "),
        layout.history.quoted()
    )
}

/// One statement, so that all its records share one moment and one look at the table.
pub(super) fn resync(layout: &Layout, sparse: bool, new_epoch: bool) -> Script {
    let at = if new_epoch {
        format!(
            "(SELECT from_date FROM afterimage.epoch WHERE table_id = {} ORDER BY number DESC LIMIT 1)",
            layout.id
        )
    } else {
        "clock_timestamp()".to_owned()
    };
    let full = full_mask(layout).join(", ");
    let mut changed = words(layout);
    changed[0] = format!("1 + {}", changed[0]);
    let head = |sign: &str| {
        format!("m.at, m.tx, NULL::timestamptz, '{sign}'::\"char\", m.who, m.reason, m.rest, NULL::jsonb")
    };
    let recorded: Vec<String> = layout.fields.iter().map(|field| col("r", &field.name)).collect();
    let live = live(layout);
    let absent = |what: &str| format!("NOT EXISTS ({what})");
    vec![format!(
        "WITH r AS MATERIALIZED (
{replay}
), m AS MATERIALIZED (
  SELECT greatest({at}, (SELECT max(history_date) FROM {history})) AS at, pg_current_xact_id()::text::bigint AS tx,
    c ->> 'actor' AS who, c ->> 'reason' AS reason, nullif(c - '{{actor,reason}}'::text[], '{{}}') AS rest
  FROM (SELECT nullif(current_setting('afterimage.context', true), '')::jsonb AS c) AS c
)
INSERT INTO {history} ({columns})
SELECT {gone}, {full}, {recorded} FROM r, m WHERE {not_live}
UNION ALL
SELECT {differ}, {changed}, {row} FROM {live} AS t JOIN r ON {joined}, m WHERE {any}
UNION ALL
SELECT {new}, {full}, {row} FROM {live} AS t, m WHERE {not_recorded}",
        replay = replay(layout, sparse),
        history = layout.history.quoted(),
        columns = insert_columns(layout),
        gone = head("-"),
        differ = head("~"),
        new = head("+"),
        recorded = recorded.join(", "),
        changed = changed.join(", "),
        row = full_row(layout, "t"),
        joined = joined(layout),
        any = any_differs(layout),
        not_live = absent(&format!("SELECT 1 FROM {live} AS t WHERE {}", joined(layout))),
        not_recorded = absent(&format!("SELECT 1 FROM r WHERE {}", joined(layout))),
    )]
}
