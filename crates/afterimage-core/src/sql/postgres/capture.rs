//! Capture: the functions behind the triggers.
//!
//! They run with the owner's rights, since writers have none on the history, and under the writer's `search_path`,
//! which is not to be trusted; setting our own would cost a single-row write some nine microseconds, so every
//! operator, function and type is qualified instead. (`pg_temp` comes before `pg_catalog` when types are looked up.)
//!
//! plpgsql keeps a plan for the session, made for whatever the first call brought. So one row has a statement of its
//! own, the common case made cheap; and before the statement for many, nested loops and compilation are switched off,
//! or a plan made for two rows would pair a hundred thousand with a hundred thousand.

use super::header::{VARIABLES, context, date, header, insert_into};
use super::history::{full_row, kept};
use super::image::{if_same, key_is_same, mask, stored_mask, updated_values};
use super::trigger::{Level, level};
use super::{live, message_name, overtaken, read};
use crate::layout::{Field, Layout};
use crate::name::{Quoted, fingerprint};
use crate::schema::Table;
use crate::sql::expression::{balanced, col, full_mask};

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
        let body = format!(
            "
#variable_conflict use_variable
-- afterimage {:08x}
{body}
",
            fingerprint(body)
        );
        Self { name, body, settings }
    }

    /// The statements that create it, or replace an older one. It runs with its owner's rights, so that nobody else may
    /// make a trigger of it on a table of their own.
    pub fn create(&self) -> [String; 2] {
        [self.replace(), format!("REVOKE ALL ON FUNCTION {}() FROM PUBLIC", self.name)]
    }

    fn replace(&self) -> String {
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
pub fn functions(layout: &Layout, table: &Table) -> Vec<Function> {
    let level = level(table);
    let function = |what: &str, body: String| Function::new(name(layout.id, what), "", &body);
    let mut functions = match level {
        Level::EachRow => vec![function("row", each_row(layout, table))],
        Level::Statement | Level::FirstRow => {
            let first = level == Level::FirstRow;
            vec![
                function("insert", created(layout, first)),
                function("update", update(layout, table, first)),
                function("delete", deleted(layout, table, first)),
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

/// The rows of a transition table, numbered. (A column may be called like a variable: so they are qualified. What we
/// add begins with `history_`, as no column of a tracked table does.)
pub(super) fn numbered(layout: &Layout, rows: &str) -> String {
    let columns: Vec<String> = layout.fields.iter().map(|field| col("r", &field.name)).collect();
    format!(
        "(SELECT pg_catalog.row_number() OVER () AS history_position, {} FROM {rows} AS r)",
        columns.join(", ")
    )
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
        .map(|(rows, row)| format!("EXISTS (SELECT FROM (SELECT * FROM {rows} LIMIT 1) AS first WHERE ROW(first.*)::pg_catalog.record OPERATOR(pg_catalog.*=) ROW({row}.*)::pg_catalog.record)"))
        .collect();
    format!(
        "  IF NOT ({}) THEN
    RETURN NULL;
  END IF;
",
        same.join(" AND ")
    )
}

/// A full record of each row that `from` gives under the name `row`.
pub(super) fn whole(layout: &Layout, sign: &str, row: &str, old_key: &str, from: &str) -> String {
    format!(
        "{}\n  SELECT {}, {}, {}\n  FROM {from};",
        insert_into(layout),
        header(layout, sign, old_key),
        full_mask(layout).join(", "),
        full_row(layout, row),
    )
}

/// Until its transaction ends, a row may share a deferrable key with another. Once one of them departs, the key's
/// newest record says that nobody is there; so whoever is has a record again.
///
/// `departed` gives the rows that departed as `o`; `arrived` those that arrived, and have their record, as `n`.
/// Nothing, where keys are never shared.
fn still_there(layout: &Layout, departed: &str, arrived: Option<&str>) -> String {
    if !layout.shared_key {
        return String::new();
    }
    let arrived = arrived.map_or_else(String::new, |rows| {
        format!("\n    AND NOT EXISTS (SELECT FROM {rows} AND {})", key_is_same(layout, "n", "t"))
    });
    let from = format!(
        "{} AS t\n  WHERE EXISTS (SELECT FROM {departed} AND {}){arrived}",
        live(layout),
        key_is_same(layout, "o", "t"),
    );
    format!("\n  {}", whole(layout, "+", "t", "NULL", &from))
}

fn created(layout: &Layout, first: bool) -> String {
    whole_rows(layout, "+", ("new_rows", "NEW"), first, "")
}

fn deleted(layout: &Layout, table: &Table, first: bool) -> String {
    let mut then = still_there(layout, "old_rows AS o WHERE true", None);
    then.push_str(&overtaken::back(layout, table, "old_rows"));
    whole_rows(layout, "-", ("old_rows", "OLD"), first, &then)
}

/// Creations or deletions, and what comes after them.
fn whole_rows(layout: &Layout, sign: &str, (rows, row): (&str, &str), first: bool, then: &str) -> String {
    let one =
        format!("(SELECT * FROM {rows} LIMIT 1) AS r\n  WHERE NOT EXISTS (SELECT FROM {rows} OFFSET 1)");
    format!(
        "DECLARE
{VARIABLES}
  saved pg_catalog.text[];
  recorded bigint;
BEGIN
{guard}{context}
  {one}
  GET DIAGNOSTICS recorded = ROW_COUNT;
  IF recorded OPERATOR(pg_catalog.<>) 1 AND EXISTS (SELECT FROM {rows}) THEN
{MANY}
  {many}
{RESTORED}
  END IF;{then}
  RETURN NULL;
END",
        guard = first_row_only(&[(rows, row)], first),
        context = context(layout, &[rows]),
        one = whole(layout, sign, "r", "NULL", &one),
        many = whole(layout, sign, "r", "NULL", &format!("{rows} AS r")),
    )
}

fn one_update(layout: &Layout, table: &Table) -> String {
    let pair = "(SELECT * FROM old_rows LIMIT 1) AS o, (SELECT * FROM new_rows LIMIT 1) AS n";
    updates(layout, table, pair, "NOT EXISTS (SELECT FROM new_rows OFFSET 1) AND ", "")
}

fn many_updates(layout: &Layout, table: &Table) -> String {
    updates(layout, table, &pairs(layout), "", "\n    ORDER BY n.history_position")
}

/// Old and new rows, paired by position: the tables are filled row by row, in step.
fn pairs(layout: &Layout) -> String {
    format!(
        "{} AS o\n    JOIN {} AS n ON o.history_position OPERATOR(pg_catalog.=) n.history_position",
        numbered(layout, "old_rows"),
        numbered(layout, "new_rows"),
    )
}

/// The records of rows that changed but for their key: `from` gives them as `o` and `n`, where `condition` (which ends with `AND`, if
/// it says anything) holds.
fn updates(layout: &Layout, table: &Table, from: &str, condition: &str, order: &str) -> String {
    let words: Vec<String> = (0..layout.words()).map(|word| format!("p.history_mask{word}")).collect();
    let sparse = |field: &Field, value: &str| {
        let (word, bit) = field.word_and_bit();
        format!(
            "CASE WHEN (p.history_mask{word} OPERATOR(pg_catalog.&) {bit}::bigint) OPERATOR(pg_catalog.<>) 0::bigint THEN {value} END"
        )
    };
    let masks: Vec<String> = mask(layout, "o", "n")
        .into_iter()
        .enumerate()
        .map(|(word, mask)| format!("{mask} AS history_mask{word}"))
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
        "{}
  SELECT {}, {}, {}
  FROM (SELECT {}, {}
    FROM {from}
    WHERE {condition}{}{}{order}
    OFFSET 0) AS p{changed};",
        insert_into(layout),
        header(layout, "~", "NULL"),
        stored_mask(layout, words.clone()),
        updated_values(layout, |field| kept(field, "p"), sparse),
        masks.join(", "),
        values.join(", "),
        key_is_same(layout, "o", "n"),
        overtaken::unless_gone(layout, table, "n"),
    )
}

fn old_key(layout: &Layout, row: &str) -> String {
    format!("pg_catalog.{}", read::key_json(layout, row, false))
}

fn update(layout: &Layout, table: &Table, first: bool) -> String {
    // Of the rows whose key changed, all departures, then all arrivals, so that a swap is exact.
    let moved = format!("{}\n  WHERE NOT {}", pairs(layout), key_is_same(layout, "o", "n"));
    let ordered = format!("{moved}\n  ORDER BY o.history_position");
    let departures = whole(layout, "-", "o", "NULL", &ordered);
    let arrivals = whole(layout, "+", "n", &old_key(layout, "o"), &ordered);
    let mut others = still_there(layout, &moved, Some(&moved));
    others.push_str(&overtaken::moved(layout, table, &moved, "new_rows"));
    let last_word = overtaken::otherwise(layout, table, &overtaken::last_of_each(layout, "new_rows"));
    // One row touched twice by one statement (two cascades), of which one changes its key: no order of ours is right.
    let tangled = format!(
        "SELECT FROM {p}
    JOIN {news} AS a ON a.history_position OPERATOR(pg_catalog.<) o.history_position AND {same}
    JOIN {olds} AS b ON b.history_position OPERATOR(pg_catalog.=) a.history_position AND NOT {moved}
    WHERE {image}",
        p = pairs(layout),
        news = numbered(layout, "new_rows"),
        olds = numbered(layout, "old_rows"),
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
        "DECLARE
{VARIABLES}
  saved pg_catalog.text[];
  recorded bigint;
  olds bigint;
  news bigint;
BEGIN
{guard}{context}
  {one}
  GET DIAGNOSTICS recorded = ROW_COUNT;
  IF recorded OPERATOR(pg_catalog.=) 1 THEN{last_word}
    RETURN NULL;
  END IF;
  olds := (SELECT pg_catalog.count(*) FROM old_rows);
  news := (SELECT pg_catalog.count(*) FROM new_rows);
  IF olds OPERATOR(pg_catalog.<>) news THEN
    RAISE internal_error USING MESSAGE = 'afterimage: the old and new rows of ' OPERATOR(pg_catalog.||) {name} OPERATOR(pg_catalog.||) ' do not pair';
  END IF;
  IF news OPERATOR(pg_catalog.=) 0 THEN
    RETURN NULL;
  END IF;
{MANY}
  IF news OPERATOR(pg_catalog.>) 1 THEN
  {many}
  GET DIAGNOSTICS recorded = ROW_COUNT;
  END IF;
  IF recorded OPERATOR(pg_catalog.<) news AND EXISTS (SELECT FROM {moved}) THEN
    IF EXISTS ({tangled}) THEN
      RAISE feature_not_supported USING MESSAGE = 'afterimage: this statement changes a row of ' OPERATOR(pg_catalog.||) {name} OPERATOR(pg_catalog.||) ' twice, and its key with it: split it in two';
    END IF;
  {departures}
  {arrivals}{others}
  END IF;
{RESTORED}{last_word}
  RETURN NULL;
END",
        guard = first_row_only(&[("old_rows", "OLD"), ("new_rows", "NEW")], first),
        context = context(layout, &["old_rows", "new_rows"]),
        one = one_update(layout, table),
        many = many_updates(layout, table),
    )
}

/// Where statement triggers cannot see all (inheritance), or cannot see in order (partitions with row triggers of
/// somebody else's): row by row.
fn each_row(layout: &Layout, table: &Table) -> String {
    let record = |sign: &str, old_key: &str, mask: &str, values: &str| {
        format!("{}\n    SELECT {}, {mask}, {values}", insert_into(layout), header(layout, sign, old_key))
    };
    let others = still_there(layout, "(SELECT OLD.*) AS o WHERE true", None);
    let deleted_others = format!("{others}{}", overtaken::back(layout, table, "(SELECT OLD.*)"));
    let moved = overtaken::moved(layout, table, "(SELECT OLD.*) AS o, (SELECT NEW.*) AS n", "(SELECT NEW.*)");
    let last_word = overtaken::otherwise(layout, table, "(SELECT NEW.*)");
    let full = full_mask(layout).join(", ");
    let of = |row: &str| format!("(SELECT {row}.*)");
    let sparse = |field: &Field, value: &str| if_same(field, "OLD", "NEW", "NULL", value);
    let unchanged: Vec<String> =
        layout.fields.iter().map(|field| if_same(field, "OLD", "NEW", "true", "false")).collect();
    let skip = if layout.record_unchanged {
        String::new()
    } else {
        format!(
            "    IF ({}) THEN
      RETURN NULL;
    END IF;
",
            balanced(&unchanged, "AND", "true")
        )
    };
    format!(
        "DECLARE
{VARIABLES}
BEGIN
  IF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN
{context_new}
    {inserted};
  ELSIF TG_OP OPERATOR(pg_catalog.=) 'DELETE' THEN
{context_old}
    {deleted};{deleted_others}
  ELSE
{skip}{context_both}
    IF {same_key} THEN
    {updated}{unless_gone};
    ELSE
    {departed};{others}
    {arrived};{moved}
    END IF;{last_word}
  END IF;
  RETURN NULL;
END",
        context_new = context(layout, &[&of("NEW")]),
        context_old = context(layout, &[&of("OLD")]),
        context_both = context(layout, &[&of("OLD"), &of("NEW")]),
        inserted = record("+", "NULL", &full, &full_row(layout, "NEW")),
        deleted = record("-", "NULL", &full, &full_row(layout, "OLD")),
        same_key = key_is_same(layout, "OLD", "NEW"),
        updated = record(
            "~",
            "NULL",
            &stored_mask(layout, mask(layout, "OLD", "NEW")),
            &updated_values(layout, |field| kept(field, "NEW"), sparse),
        ),
        unless_gone = overtaken::unless_gone(layout, table, "NEW").replacen(" AND", "\n    WHERE", 1),
        departed = record("-", "NULL", &full, &full_row(layout, "OLD")),
        arrived = record("+", &old_key(layout, "OLD"), &full, &full_row(layout, "NEW")),
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
    format!(
        "DECLARE
{VARIABLES}
BEGIN
  IF pg_catalog.current_setting('transaction_isolation') OPERATOR(pg_catalog.<>) 'read committed' AND pg_catalog.current_setting('transaction_isolation') OPERATOR(pg_catalog.<>) 'read uncommitted' THEN
    RAISE feature_not_supported USING MESSAGE = 'afterimage: TRUNCATE of ' OPERATOR(pg_catalog.||) {name} OPERATOR(pg_catalog.||) ' can be recorded under READ COMMITTED only';
  END IF;
{context}
  EXECUTE pg_catalog.format('{record}', TG_RELID::pg_catalog.regclass)
  USING {date}, tx, who, reason, context;
  RETURN NULL;
END",
        name = message_name(&layout.table),
        context = context(layout, &[]),
        date = date(layout),
    )
}
