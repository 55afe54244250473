//! What every record of a statement says: who, why and when.

use super::history::insert_columns;
use crate::layout::Layout;
use crate::name::literal;
use crate::sql::expression::col;

/// What a trigger function declares.
pub(super) const VARIABLES: &str = "  moment pg_catalog.timestamptz := pg_catalog.clock_timestamp();
  tx bigint := pg_catalog.pg_current_xact_id()::pg_catalog.text::bigint;
  began pg_catalog.timestamptz;
  who pg_catalog.text;
  reason pg_catalog.text;
  context pg_catalog.jsonb;
  explicit pg_catalog.text;
  setting pg_catalog.text;";

/// Who, why and when: once a statement. `rows` are the transition tables or rows whose keys an explicit time concerns;
/// none, where it concerns all.
pub(super) fn context(layout: &Layout, rows: &[&str]) -> String {
    let history = layout.history.quoted();
    let mut checks: Vec<String> = rows
        .iter()
        .map(|rows| {
            let same: Vec<String> = layout
                .key_fields()
                .map(|field| {
                    // By the type's own equality: the table's side may be a domain, of which there are no images to compare.
                    format!("{} OPERATOR(pg_catalog.=) {}", col("h", &field.history), col("c", &field.name))
                })
                .collect();
            format!(
                "      OR EXISTS (SELECT 1 FROM {rows} AS c JOIN {history} AS h ON {} WHERE h.history_date OPERATOR(pg_catalog.>) moment)",
                same.join(" AND ")
            )
        })
        .collect();
    // A statement that wrote nothing has nothing to skip.
    let written =
        rows.first().map(|rows| format!(" AND EXISTS (SELECT FROM {rows} AS c)")).unwrap_or_default();
    if rows.is_empty() {
        // All rows are concerned.
        checks.push(format!(
            "      OR EXISTS (SELECT 1 FROM {history} AS h WHERE h.history_date OPERATOR(pg_catalog.>) moment)"
        ));
    }
    format!(
        "  IF moment OPERATOR(pg_catalog.>) (pg_catalog.now() OPERATOR(pg_catalog.+) interval '1 second') THEN
    began := pg_catalog.now();
  END IF;
  setting := pg_catalog.current_setting('afterimage.context', true);
  IF setting OPERATOR(pg_catalog.<>) '' THEN
    context := setting::pg_catalog.jsonb;
    who := context OPERATOR(pg_catalog.->>) 'actor';
    reason := context OPERATOR(pg_catalog.->>) 'reason';
    explicit := context OPERATOR(pg_catalog.->>) 'at';
    IF context OPERATOR(pg_catalog.?) 'skip'{} THEN
      IF afterimage.skips(context OPERATOR(pg_catalog.->) 'skip', {}, moment, who) THEN
        RETURN NULL;
      END IF;
    END IF;
    context := context OPERATOR(pg_catalog.-) '{{actor,reason,at,skip}}'::pg_catalog.text[];
    IF context OPERATOR(pg_catalog.=) '{{}}'::pg_catalog.jsonb THEN context := NULL; END IF;
    IF explicit IS NOT NULL THEN
      context := COALESCE(context, '{{}}'::pg_catalog.jsonb) OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_object('recorded_at', pg_catalog.to_char(pg_catalog.timezone('UTC', moment), 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'));
      moment := afterimage.explicit_moment(explicit);
      began := NULL;
      IF false
{}
      THEN
        RAISE invalid_parameter_value USING MESSAGE = {} OPERATOR(pg_catalog.||) ' has a newer record of this row than the explicit time';
      END IF;
    END IF;
  ELSE
    setting := pg_catalog.current_setting('application_name');
    IF setting OPERATOR(pg_catalog.=) '' THEN setting := NULL; END IF;
    context := pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object('session_user', session_user, 'application_name', setting, 'client_addr', pg_catalog.inet_client_addr()));
  END IF;",
        written,
        layout.id,
        checks.join("\n"),
        literal(&format!("afterimage: {}", layout.table)),
    )
}

/// The moment of the records: never before the newest one, should the clock have gone back. The look-up asks for
/// records of the future, so that it meets none.
pub(super) fn date(layout: &Layout) -> String {
    format!(
        "CASE WHEN explicit IS NOT NULL THEN moment ELSE GREATEST(moment, (SELECT f.history_date FROM {} AS f WHERE f.history_date OPERATOR(pg_catalog.>) moment ORDER BY f.history_date DESC LIMIT 1)) END",
        layout.history.quoted()
    )
}

/// The header's values, in the order of `insert_columns`.
pub(super) fn header(layout: &Layout, sign: &str, old_key: &str) -> String {
    format!("{}, tx, began, '{sign}'::pg_catalog.\"char\", who, reason, context, {old_key}", date(layout))
}

pub(super) fn insert_into(layout: &Layout) -> String {
    format!("INSERT INTO {} ({})", layout.history.quoted(), insert_columns(layout))
}
