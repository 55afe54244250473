//! Capture: the functions behind the triggers.
//!
//! They run with the owner's rights, since writers have none on the history, and under the writer's `search_path`,
//! which is not to be trusted; setting our own would cost a single-row write some nine microseconds, so every
//! operator, function and type is qualified instead. (`pg_temp` comes before `pg_catalog` when types are looked up.)
//!
//! plpgsql keeps a plan for the session, made for whatever the first call brought. So one row has a statement of its
//! own, the common case made cheap; and before the statement for many, nested loops and compilation are switched off,
//! or a plan made for two rows would pair a hundred thousand with a hundred thousand.

use super::history::{full_row, insert_columns, kept};
use super::trigger::Level;
use super::{live, message_name, read};
use crate::layout::{Field, Keeping, Layout};
use crate::name::{Quoted, fingerprint, literal};
use crate::sql::expression::{balanced, col, fields_by_word, full_mask, indented};
use crate::tracking::Storage;

/// A trigger function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Its name, in schema `afterimage`.
    pub name: String,
    /// Its body; what the catalogue keeps as `prosrc`, to the letter.
    pub body: String,
    settings: &'static str,
}

impl Function {
    fn new(name: String, settings: &'static str, body: &str) -> Self {
        let body = format!("\n-- afterimage {:08x}\n{body}\n", fingerprint(body));
        Self { name, body, settings }
    }

    /// The statement that creates it, or replaces an older one.
    pub fn create(&self) -> String {
        format!(
            "CREATE OR REPLACE FUNCTION {}() RETURNS trigger\nLANGUAGE plpgsql SECURITY DEFINER{}\nAS $afterimage${}$afterimage$",
            self.name, self.settings, self.body
        )
    }
}

/// The names of a table's functions, whichever of them it has.
pub(super) fn names(id: i64) -> [String; 5] {
    ["insert", "update", "delete", "row", "truncate"].map(|what| name(id, what))
}

pub(super) fn name(id: i64, what: &str) -> String {
    format!("afterimage.capture_{id}_{what}")
}

/// The functions of a table.
pub fn functions(layout: &Layout, level: Level) -> Vec<Function> {
    let function = |what: &str, body: String| Function::new(name(layout.id, what), "", &body);
    let mut functions = match level {
        Level::EachRow => vec![function("row", each_row(layout))],
        Level::Statement | Level::FirstRow => {
            let first = level == Level::FirstRow;
            vec![
                function("insert", whole_rows(layout, "+", "new_rows", "NEW", first)),
                function("update", update(layout, first)),
                function("delete", whole_rows(layout, "-", "old_rows", "OLD", first)),
            ]
        }
    };
    functions.push(Function::new(
        name(layout.id, "truncate"),
        "\nSET search_path = pg_catalog, pg_temp SET row_security = off",
        &truncate(layout),
    ));
    functions
}

const VARIABLES: &str = "  moment pg_catalog.timestamptz := pg_catalog.clock_timestamp();
  tx bigint := pg_catalog.pg_current_xact_id()::pg_catalog.text::bigint;
  began pg_catalog.timestamptz;
  who pg_catalog.text;
  reason pg_catalog.text;
  context pg_catalog.jsonb;
  explicit pg_catalog.text;
  setting pg_catalog.text;";

/// Who, why and when: once a statement. `rows` are the transition tables or rows whose keys an explicit time concerns.
fn context(layout: &Layout, rows: &[&str]) -> String {
    let checks: Vec<String> = rows
        .iter()
        .map(|rows| {
            let same: Vec<String> = layout
                .key_fields()
                .map(|field| same(field, &col("h", &field.history), &col("c", &field.name)))
                .collect();
            format!(
                "      OR EXISTS (SELECT 1 FROM {rows} AS c JOIN {} AS h ON {} WHERE h.history_date OPERATOR(pg_catalog.>) moment)",
                layout.history.quoted(),
                same.join(" AND ")
            )
        })
        .collect();
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
    IF context OPERATOR(pg_catalog.?) 'skip' THEN
      RAISE feature_not_supported USING MESSAGE = 'afterimage: skip is not available';
    END IF;
    context := context OPERATOR(pg_catalog.-) '{{actor,reason,at}}'::pg_catalog.text[];
    IF context OPERATOR(pg_catalog.=) '{{}}'::pg_catalog.jsonb THEN context := NULL; END IF;
    IF explicit IS NOT NULL THEN
      context := COALESCE(context, '{{}}'::pg_catalog.jsonb) OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_object('recorded_at', pg_catalog.to_char(moment OPERATOR(pg_catalog.||) '', ''));
      moment := afterimage.explicit_moment(explicit);
      began := NULL;
      IF false
{}
      THEN
        RAISE invalid_parameter_value USING MESSAGE = {} OPERATOR(pg_catalog.||) ' has a newer record of this row than the explicit time';
      END IF;
    END IF;
  ELSE
    context := pg_catalog.jsonb_build_object('session_user', session_user, 'application_name', pg_catalog.current_setting('application_name'), 'client_addr', pg_catalog.inet_client_addr());
  END IF;",
        checks.join("\n"),
        literal(&format!("afterimage: {}", layout.table)),
    )
    .replace(
        "pg_catalog.to_char(moment OPERATOR(pg_catalog.||) '', '')",
        "pg_catalog.to_char(pg_catalog.timezone('UTC', moment), 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
    )
}

/// The moment of the records: never before the newest one, should the clock have gone back. The look-up asks for
/// records of the future, so that it meets none.
fn date(layout: &Layout) -> String {
    format!(
        "CASE WHEN explicit IS NOT NULL THEN moment ELSE GREATEST(moment, (SELECT f.history_date FROM {} AS f WHERE f.history_date OPERATOR(pg_catalog.>) moment ORDER BY f.history_date DESC LIMIT 1)) END",
        layout.history.quoted()
    )
}

/// The header's values, in the order of `insert_columns`.
fn header(layout: &Layout, sign: &str, old_key: &str) -> String {
    format!("{}, tx, began, '{sign}'::pg_catalog.\"char\", who, reason, context, {old_key}", date(layout))
}

fn insert_into(layout: &Layout) -> String {
    format!("INSERT INTO {} ({})", layout.history.quoted(), insert_columns(layout))
}

/// Whether two values have the same stored image; NULL where either is NULL.
fn same(field: &Field, a: &str, b: &str) -> String {
    if field.plain_equality {
        return format!("{a} OPERATOR(pg_catalog.=) {b}");
    }
    match field.sql_type.split('(').next().unwrap_or_default() {
        "numeric" => format!(
            "({a} OPERATOR(pg_catalog.=) {b} AND (pg_catalog.scale({a}) OPERATOR(pg_catalog.=) pg_catalog.scale({b})) IS NOT FALSE)"
        ),
        "double precision" => {
            format!("pg_catalog.float8send({a}) OPERATOR(pg_catalog.=) pg_catalog.float8send({b})")
        }
        "real" => format!("pg_catalog.float4send({a}) OPERATOR(pg_catalog.=) pg_catalog.float4send({b})"),
        _ => format!("ROW({a})::record OPERATOR(pg_catalog.*=) ROW({b})::record"),
    }
}

/// `then` where the field's image is the same in both rows, else `otherwise`.
fn if_same(field: &Field, before: &str, after: &str, then: &str, otherwise: &str) -> String {
    let (a, b) = (col(before, &field.name), col(after, &field.name));
    let same = same(field, &a, &b);
    format!("CASE WHEN {same} THEN {then} WHEN {a} IS NULL AND {b} IS NULL THEN {then} ELSE {otherwise} END")
}

fn key_is_same(layout: &Layout, before: &str, after: &str) -> String {
    let terms: Vec<String> = layout
        .key_fields()
        .map(|field| format!("({})", same(field, &col(before, &field.name), &col(after, &field.name))))
        .collect();
    format!("({})", terms.join(" AND "))
}

/// The mask of an update, word by word.
fn mask(layout: &Layout, before: &str, after: &str) -> Vec<String> {
    fields_by_word(layout)
        .into_iter()
        .map(|fields| {
            let bits: Vec<String> = fields
                .into_iter()
                .map(|field| {
                    if_same(field, before, after, "0::bigint", &format!("{}::bigint", field.word_and_bit().1))
                })
                .collect();
            balanced(&bits, "OPERATOR(pg_catalog.|)", "0::bigint")
        })
        .collect()
}

/// The columns of a rows' subquery: those that are recorded.
fn columns(layout: &Layout) -> String {
    Quoted::list(layout.fields.iter().map(|field| field.name.as_str()))
}

/// Settings under which a statement for many rows is planned, and their restoration.
const MANY: &str = "  saved := ARRAY[pg_catalog.current_setting('enable_nestloop'), pg_catalog.current_setting('enable_hashjoin'), pg_catalog.current_setting('jit'), pg_catalog.current_setting('work_mem')];
  PERFORM pg_catalog.set_config('enable_nestloop', 'off', true), pg_catalog.set_config('enable_hashjoin', 'off', true), pg_catalog.set_config('jit', 'off', true);
  IF pg_catalog.pg_size_bytes(saved[4]) OPERATOR(pg_catalog.<) 67108864 THEN
    PERFORM pg_catalog.set_config('work_mem', '64MB', true);
  END IF;";

const RESTORED: &str = "  PERFORM pg_catalog.set_config('enable_nestloop', saved[1], true), pg_catalog.set_config('enable_hashjoin', saved[2], true), pg_catalog.set_config('jit', saved[3], true), pg_catalog.set_config('work_mem', saved[4], true);";

/// Where somebody's row triggers may write the table again inside one statement, ours fires first of all, on the
/// first row, and records the whole statement; for the other rows there is nothing left to do.
///
/// Two cascades may have touched that row in the statement: of its changes, too, only the first counts, and by all
/// its columns, since what we leave out may be what the other changed.
fn first_row_only(rows: &[(&str, &str)], first: bool) -> String {
    if !first {
        return String::new();
    }
    let same: Vec<String> = rows
        .iter()
        .map(|(rows, row)| format!("EXISTS (SELECT FROM (SELECT * FROM {rows} LIMIT 1) AS first WHERE ROW(first.*)::record OPERATOR(pg_catalog.*=) ROW({row}.*)::record)"))
        .collect();
    format!("  IF NOT ({}) THEN\n    RETURN NULL;\n  END IF;\n", same.join(" AND "))
}

/// Creations or deletions.
fn whole_rows(layout: &Layout, sign: &str, rows: &str, row: &str, first: bool) -> String {
    let record = |from: &str| {
        format!(
            "{}\n  SELECT {}, {}, {}\n  FROM {from};",
            insert_into(layout),
            header(layout, sign, "NULL"),
            full_mask(layout).join(", "),
            full_row(layout, "r"),
        )
    };
    format!(
        "DECLARE\n{VARIABLES}\n  saved pg_catalog.text[];\n  recorded bigint;\nBEGIN\n{guard}{context}\n  {one}\n  GET DIAGNOSTICS recorded = ROW_COUNT;\n  IF recorded OPERATOR(pg_catalog.=) 1 OR NOT EXISTS (SELECT FROM {rows}) THEN\n    RETURN NULL;\n  END IF;\n{MANY}\n  {many}\n{RESTORED}\n  RETURN NULL;\nEND",
        guard = first_row_only(&[(rows, row)], first),
        context = context(layout, &[rows]),
        one = record(&format!(
            "(SELECT * FROM {rows} LIMIT 1) AS r\n  WHERE NOT EXISTS (SELECT FROM {rows} OFFSET 1)"
        )),
        many = record(&format!("{rows} AS r")),
    )
}

/// The values of an update's record: all, or the changed ones.
fn updated_values(
    layout: &Layout,
    value: impl Fn(&Field) -> String,
    unchanged: impl Fn(&Field, &str) -> String,
) -> String {
    let full = layout.storage == Storage::Snapshot;
    layout
        .fields
        .iter()
        .map(
            |field| if full || layout.is_key(field) { value(field) } else { unchanged(field, &value(field)) },
        )
        .collect::<Vec<_>>()
        .join(", ")
}

/// The mask as it is stored: with the bit of a full record where records are full.
fn stored_mask(layout: &Layout, mut words: Vec<String>) -> String {
    if layout.storage == Storage::Snapshot {
        words[0] = format!("({} OPERATOR(pg_catalog.|) 1::bigint)", words[0]);
    }
    words.join(", ")
}

fn one_update(layout: &Layout) -> String {
    let sparse = |field: &Field, value: &str| if_same(field, "o", "n", "NULL", value);
    let changed = if layout.record_unchanged {
        String::new()
    } else {
        let same: Vec<String> =
            layout.fields.iter().map(|field| if_same(field, "o", "n", "true", "false")).collect();
        format!(" AND NOT {}", balanced(&same, "AND", "true"))
    };
    format!(
        "{}\n  SELECT {}, {}, {}\n  FROM (SELECT * FROM old_rows LIMIT 1) AS o, (SELECT * FROM new_rows LIMIT 1) AS n\n  WHERE NOT EXISTS (SELECT FROM new_rows OFFSET 1) AND {}{changed};",
        insert_into(layout),
        header(layout, "~", "NULL"),
        stored_mask(layout, mask(layout, "o", "n")),
        updated_values(layout, |field| kept(field, "n"), sparse),
        key_is_same(layout, "o", "n"),
    )
}

/// Old and new rows, paired by position: the tables are filled row by row, in step.
fn pairs(layout: &Layout) -> String {
    let columns = columns(layout);
    format!(
        "(SELECT pg_catalog.row_number() OVER () AS position, {columns} FROM old_rows) AS o\n    JOIN (SELECT pg_catalog.row_number() OVER () AS position, {columns} FROM new_rows) AS n ON o.position OPERATOR(pg_catalog.=) n.position"
    )
}

fn many_updates(layout: &Layout) -> String {
    let words: Vec<String> = (0..layout.words()).map(|word| format!("p.m{word}")).collect();
    let sparse = |field: &Field, value: &str| {
        let (word, bit) = field.word_and_bit();
        format!(
            "CASE WHEN (p.m{word} OPERATOR(pg_catalog.&) {bit}::bigint) OPERATOR(pg_catalog.<>) 0::bigint THEN {value} END"
        )
    };
    let masks: Vec<String> = mask(layout, "o", "n")
        .into_iter()
        .enumerate()
        .map(|(word, mask)| format!("{mask} AS m{word}"))
        .collect();
    let values: Vec<String> = layout
        .fields
        .iter()
        .map(|field| format!("{} AS {}", col("n", &field.name), Quoted::new(&field.name)))
        .collect();
    let changed = if layout.record_unchanged {
        String::new()
    } else {
        let any: Vec<String> =
            words.iter().map(|word| format!("{word} OPERATOR(pg_catalog.<>) 0::bigint")).collect();
        format!("\n  WHERE {}", any.join(" OR "))
    };
    // OFFSET 0 keeps the masks from being computed again for every column.
    format!(
        "{}\n  SELECT {}, {}, {}\n  FROM (SELECT {}, {}\n    FROM {}\n    WHERE {}\n    ORDER BY n.position OFFSET 0) AS p{changed};",
        insert_into(layout),
        header(layout, "~", "NULL"),
        stored_mask(layout, words.clone()),
        updated_values(layout, |field| kept(field, "p"), sparse),
        masks.join(", "),
        values.join(", "),
        indented(&pairs(layout), 0),
        key_is_same(layout, "o", "n"),
    )
}

/// Rows whose key changed: all departures, then all arrivals, so that a swap is exact.
fn moves(layout: &Layout, record: impl Fn(&str, &str, &str, &str) -> String) -> (String, String) {
    let moved = format!("NOT {}", key_is_same(layout, "o", "n"));
    let from = format!("{}\n  WHERE {moved}\n  ORDER BY o.position", pairs(layout));
    (record("-", "o", "NULL", &from), record("+", "n", &old_key(layout, "o"), &from))
}

fn old_key(layout: &Layout, row: &str) -> String {
    format!("pg_catalog.{}", read::key_json(layout, row, false))
}

fn update(layout: &Layout, first: bool) -> String {
    let record = |sign: &str, row: &str, old_key: &str, from: &str| {
        format!(
            "{}\n  SELECT {}, {}, {}\n  FROM {from};",
            insert_into(layout),
            header(layout, sign, old_key),
            full_mask(layout).join(", "),
            full_row(layout, row),
        )
    };
    let (departures, arrivals) = moves(layout, record);
    // One row touched twice by one statement (two cascades), of which one changes its key: no order of ours is right.
    let tangled = format!(
        "SELECT FROM {p}\n    JOIN (SELECT pg_catalog.row_number() OVER () AS position, {c} FROM new_rows) AS a ON a.position OPERATOR(pg_catalog.<) o.position AND {same}\n    JOIN (SELECT pg_catalog.row_number() OVER () AS position, {c} FROM old_rows) AS b ON b.position OPERATOR(pg_catalog.=) a.position AND NOT {moved}\n    WHERE {image}",
        p = pairs(layout),
        c = columns(layout),
        same = key_is_same(layout, "a", "o"),
        moved = key_is_same(layout, "b", "a"),
        image = layout
            .fields
            .iter()
            .map(|field| if_same(field, "a", "o", "true", "false"))
            .collect::<Vec<_>>()
            .join(" AND "),
    );
    let name = message_name(&layout.table);
    format!(
        "DECLARE\n{VARIABLES}\n  saved pg_catalog.text[];\n  recorded bigint;\n  olds bigint;\n  news bigint;\nBEGIN\n{guard}{context}\n  {one}\n  GET DIAGNOSTICS recorded = ROW_COUNT;\n  IF recorded OPERATOR(pg_catalog.=) 1 THEN\n    RETURN NULL;\n  END IF;\n  olds := (SELECT pg_catalog.count(*) FROM old_rows);\n  news := (SELECT pg_catalog.count(*) FROM new_rows);\n  IF olds OPERATOR(pg_catalog.<>) news THEN\n    RAISE internal_error USING MESSAGE = 'afterimage: the old and new rows of ' OPERATOR(pg_catalog.||) {name} OPERATOR(pg_catalog.||) ' do not pair';\n  END IF;\n  IF news OPERATOR(pg_catalog.=) 0 THEN\n    RETURN NULL;\n  END IF;\n{MANY}\n  IF news OPERATOR(pg_catalog.>) 1 THEN\n  {many}\n  GET DIAGNOSTICS recorded = ROW_COUNT;\n  END IF;\n  IF recorded OPERATOR(pg_catalog.<) news AND EXISTS (SELECT FROM {pairs} WHERE NOT {same_key}) THEN\n    IF EXISTS ({tangled}) THEN\n      RAISE feature_not_supported USING MESSAGE = 'afterimage: this statement changes a row of ' OPERATOR(pg_catalog.||) {name} OPERATOR(pg_catalog.||) ' twice, and its key with it: split it in two';\n    END IF;\n  {departures}\n  {arrivals}\n  END IF;\n{RESTORED}\n  RETURN NULL;\nEND",
        guard = first_row_only(&[("old_rows", "OLD"), ("new_rows", "NEW")], first),
        context = context(layout, &["old_rows", "new_rows"]),
        one = one_update(layout),
        many = many_updates(layout),
        pairs = pairs(layout),
        same_key = key_is_same(layout, "o", "n"),
    )
}

/// Where statement triggers cannot see all (inheritance), or cannot see in order (partitions with row triggers of
/// somebody else's): row by row.
fn each_row(layout: &Layout) -> String {
    let record = |sign: &str, row: &str, old_key: &str, mask: &str, values: &str| {
        let _ = row;
        format!("{}\n    SELECT {}, {mask}, {values};", insert_into(layout), header(layout, sign, old_key))
    };
    let full = full_mask(layout).join(", ");
    let of = |row: &str| format!("(SELECT {row}.*)");
    let sparse = |field: &Field, value: &str| if_same(field, "OLD", "NEW", "NULL", value);
    let unchanged: Vec<String> =
        layout.fields.iter().map(|field| if_same(field, "OLD", "NEW", "true", "false")).collect();
    let skip = if layout.record_unchanged {
        String::new()
    } else {
        format!("    IF {} THEN\n      RETURN NULL;\n    END IF;\n", balanced(&unchanged, "AND", "true"))
    };
    format!(
        "DECLARE\n{VARIABLES}\nBEGIN\n  IF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN\n{context_new}\n    {inserted}\n  ELSIF TG_OP OPERATOR(pg_catalog.=) 'DELETE' THEN\n{context_old}\n    {deleted}\n  ELSE\n{skip}{context_both}\n    IF {same_key} THEN\n    {updated}\n    ELSE\n    {departed}\n    {arrived}\n    END IF;\n  END IF;\n  RETURN NULL;\nEND",
        context_new = context(layout, &[&of("NEW")]),
        context_old = context(layout, &[&of("OLD")]),
        context_both = context(layout, &[&of("OLD"), &of("NEW")]),
        inserted = record("+", "NEW", "NULL", &full, &full_row(layout, "NEW")),
        deleted = record("-", "OLD", "NULL", &full, &full_row(layout, "OLD")),
        same_key = key_is_same(layout, "OLD", "NEW"),
        updated = record(
            "~",
            "NEW",
            "NULL",
            &stored_mask(layout, mask(layout, "OLD", "NEW")),
            &updated_values(layout, |field| kept(field, "NEW"), sparse),
        ),
        departed = record("-", "OLD", "NULL", &full, &full_row(layout, "OLD")),
        arrived = record("+", "NEW", &old_key(layout, "OLD"), &full, &full_row(layout, "NEW")),
    )
}

/// Every row of the truncated table departs. The trigger runs before, while they are there; with a snapshot older
/// than its lock it could miss some, so that is refused.
fn truncate(layout: &Layout) -> String {
    let record = format!(
        "{}\nSELECT $1, $2, NULL, ''-''::pg_catalog.\"char\", $3, $4, $5, NULL, {}, {}\nFROM ONLY %s AS r",
        insert_into(layout).replace('\'', "''"),
        full_mask(layout).join(", "),
        full_row(layout, "r").replace('\'', "''"),
    )
    .replace('%', "%%")
    .replace("ONLY %%s", "ONLY %s");
    let _ = (live(layout), Keeping::Stored);
    format!(
        "DECLARE\n{VARIABLES}\nBEGIN\n  IF pg_catalog.current_setting('transaction_isolation') OPERATOR(pg_catalog.<>) 'read committed' AND pg_catalog.current_setting('transaction_isolation') OPERATOR(pg_catalog.<>) 'read uncommitted' THEN\n    RAISE feature_not_supported USING MESSAGE = 'afterimage: TRUNCATE of ' OPERATOR(pg_catalog.||) {name} OPERATOR(pg_catalog.||) ' can be recorded under READ COMMITTED only';\n  END IF;\n{context}\n  EXECUTE pg_catalog.format('{record}', TG_RELID::pg_catalog.regclass)\n  USING {date}, tx, who, reason, context;\n  RETURN NULL;\nEND",
        name = message_name(&layout.table),
        context = context(layout, &[]),
        date = date(layout),
    )
}
