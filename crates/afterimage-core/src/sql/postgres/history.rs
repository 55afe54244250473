//! The history table and the baseline.

use super::live;
use crate::layout::{Field, Keeping, Layout, word_column};
use crate::name::{Quoted, fitted};
use crate::sql::Script;
use crate::sql::expression::{col, full_mask};
use crate::{Database, TableName};

pub(super) fn create(layout: &Layout) -> Script {
    let mut columns = vec![
        "history_id bigint NOT NULL DEFAULT nextval('afterimage.history_id')".to_owned(),
        "history_date timestamptz NOT NULL".to_owned(),
        "history_tx bigint NOT NULL".to_owned(),
    ];
    columns.extend(layout.word_columns().map(|word| format!("{word} bigint NOT NULL")));
    columns.extend(
        [
            // The start of the transaction, where it is more than a second before the record.
            "history_tx_start timestamptz",
            "history_type \"char\" NOT NULL",
            "history_user text",
            "history_change_reason text",
            "history_context jsonb",
            "history_old_key jsonb",
        ]
        .map(ToOwned::to_owned),
    );
    columns.extend(layout.fields.iter().map(column));
    columns.push(format!("PRIMARY KEY {PRIMARY_KEY}"));
    let mut script =
        vec![format!("CREATE TABLE {} (\n  {}\n)", layout.history.quoted(), columns.join(",\n  "))];
    script.extend(indexes(layout));
    script.extend(guards(&layout.history));
    script
}

pub(super) const PRIMARY_KEY: &str = "(history_date, history_id)";

/// What the names of its indexes end with.
pub(super) const INDEXES: [&str; 5] = ["_key", "_long", "_user", "_tx", "_gone"];

/// The indexes of a history, but for that of its primary key.
pub(super) fn indexes(layout: &Layout) -> Script {
    let name = |suffix: &str| Quoted::new(&fitted(&layout.history.name, suffix, Database::Postgres));
    indexes_named(layout, &|suffix| format!(" {}", name(suffix)))
}

/// The same under names that PostgreSQL finds.
pub(super) fn unnamed_indexes(layout: &Layout) -> Script {
    indexes_named(layout, &|_| String::new())
}

fn indexes_named(layout: &Layout, index: &dyn Fn(&str) -> String) -> Script {
    let table = layout.history.quoted();
    vec![
        format!(
            "CREATE INDEX{} ON {table} ({}, history_date DESC, history_id DESC) INCLUDE (history_type)",
            index("_key"),
            Quoted::list(layout.key_fields().map(|field| field.history.as_str())),
        ),
        format!(
            "CREATE INDEX{} ON {table} (history_tx_start) WHERE history_tx_start IS NOT NULL",
            index("_long")
        ),
        // Without the number it takes half: what is of one moment is sorted when it is read.
        format!(
            "CREATE INDEX{} ON {table} (history_user, history_date DESC) WHERE history_user IS NOT NULL",
            index("_user")
        ),
        // What a transaction wrote: its records stand together, so that an index of whole stretches finds them, and takes
        // next to nothing.
        format!(
            "CREATE INDEX{} ON {table} USING brin (history_tx) WITH (pages_per_range = 32, autosummarize = on)",
            index("_tx")
        ),
        // What is deleted, found without looking at what is not.
        format!(
            "CREATE INDEX{} ON {table} (history_date DESC, history_id DESC) WHERE history_type = '-'",
            index("_gone")
        ),
    ]
}

/// What keeps records as they are.
pub(super) fn guards(history: &TableName) -> Script {
    let table = history.quoted();
    vec![
        format!("REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON {table} FROM PUBLIC"),
        format!(
            "CREATE TRIGGER afterimage_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}\nFOR EACH STATEMENT EXECUTE FUNCTION afterimage.append_only()"
        ),
    ]
}

fn column(field: &Field) -> String {
    match field.keeping {
        Keeping::Masked => format!("{} boolean", Quoted::new(&field.history)),
        Keeping::Stored => {
            let collation = field.collation.as_ref().map(|c| format!(" COLLATE {c}")).unwrap_or_default();
            format!("{} {}{collation}", Quoted::new(&field.history), field.sql_type)
        }
    }
}

pub(super) fn alter(old: &Layout, new: &Layout, fills: &[(u16, String)]) -> Script {
    let table = new.history.quoted();
    let mut script: Script = (old.words()..new.words())
        .map(|word| format!("ALTER TABLE {table} ADD COLUMN {} bigint NOT NULL DEFAULT 0", word_column(word)))
        .collect();
    for field in &new.fields {
        let name = Quoted::new(&field.history);
        if let Some(before) = old.fields.iter().find(|before| before.bit == field.bit) {
            if before.sql_type != field.sql_type && field.keeping == Keeping::Stored {
                script.push(format!("ALTER TABLE {table} ALTER COLUMN {name} TYPE {}", field.sql_type));
            }
            continue;
        }
        if field.bit < old.next_bit {
            continue;
        }
        // Every record written before the column existed then reads as the value the rows were given.
        match fills.iter().find(|(bit, _)| *bit == field.bit) {
            None => script.push(format!("ALTER TABLE {table} ADD COLUMN {}", column(field))),
            Some((_, literal)) => {
                let fill = if field.keeping == Keeping::Masked { "true" } else { literal };
                script.push(format!("ALTER TABLE {table} ADD COLUMN {} DEFAULT {fill}", column(field)));
                script.push(format!("ALTER TABLE {table} ALTER COLUMN {name} DROP DEFAULT"));
            }
        }
    }
    script
}

/// What a record keeps of a field's value in some row.
pub(super) fn kept(field: &Field, row: &str) -> String {
    match field.keeping {
        Keeping::Stored => col(row, &field.name),
        Keeping::Masked => format!("CASE WHEN {} IS DISTINCT FROM NULL THEN true END", col(row, &field.name)),
    }
}

/// The columns of a record, in the order in which all our inserts name them.
pub(super) fn insert_columns(layout: &Layout) -> String {
    let words: Vec<String> = layout.word_columns().collect();
    format!(
        "history_date, history_tx, history_tx_start, history_type, history_user, history_change_reason, history_context, history_old_key, {}, {}",
        words.join(", "),
        Quoted::list(layout.fields.iter().map(|field| field.history.as_str()))
    )
}

/// The values a full record keeps of a row.
pub(super) fn full_row(layout: &Layout, row: &str) -> String {
    layout.fields.iter().map(|field| kept(field, row)).collect::<Vec<_>>().join(", ")
}

/// `a.key = b.key`; the second by the history's own names.
pub(super) fn history_key_is(layout: &Layout, history: &str, row: &str) -> String {
    layout
        .key_fields()
        .map(|field| format!("{} = {}", col(history, &field.history), col(row, &field.name)))
        .collect::<Vec<_>>()
        .join(" AND ")
}

/// The columns that [`baseline_source`] gives, for COPY.
pub fn baseline_columns(layout: &Layout) -> String {
    insert_columns(layout)
}

/// The baseline's records as a query: one for each row that has no record yet, dated at the install.
pub fn baseline_source(layout: &Layout, since: &str) -> String {
    format!(
        "SELECT {since}, pg_current_xact_id()::text::bigint, NULL::timestamptz, '+'::\"char\", NULL::text, NULL::text, NULL::jsonb, NULL::jsonb, {}, {}\nFROM {} AS t\nWHERE NOT EXISTS (SELECT 1 FROM {} AS h WHERE {})",
        full_mask(layout).join(", "),
        full_row(layout, "t"),
        live(layout),
        layout.history.quoted(),
        history_key_is(layout, "h", "t"),
    )
}

pub(super) fn baseline(layout: &Layout) -> Script {
    let since = format!("(SELECT since FROM afterimage.tracked WHERE id = {})", layout.id);
    vec![format!(
        "INSERT INTO {} ({})\n{}",
        layout.history.quoted(),
        insert_columns(layout),
        baseline_source(layout, &since)
    )]
}

/// How many rows changed between the install and an interrupted baseline, so that their first state is lost.
pub fn interrupted(layout: &Layout) -> String {
    let key = Quoted::list(layout.key_fields().map(|field| field.history.as_str()));
    let history: &TableName = &layout.history;
    format!(
        "SELECT count(*) FROM (SELECT DISTINCT ON ({key}) history_type FROM {} ORDER BY {key}, history_date, history_id) AS first WHERE history_type <> '+'",
        history.quoted()
    )
}

/// The rows that changed between the install and an interrupted baseline: each is created where its history begins, by
/// what is known of it today, and says that this is not what it was.
pub fn late(layout: &Layout, since: &str) -> Script {
    let key = layout.key_fields().map(|field| col("h", &field.history)).collect::<Vec<_>>().join(", ");
    let history = layout.history.quoted();
    let live = live(layout);
    let known = |values: &str, from: &str| {
        format!(
            "INSERT INTO {history} ({})
SELECT {since}, pg_current_xact_id()::text::bigint, NULL::timestamptz, '+'::\"char\", NULL::text, 'its first state is not known: the baseline was interrupted', NULL::jsonb, NULL::jsonb, {}, {values}
FROM (SELECT DISTINCT ON ({key}) h.* FROM {history} AS h ORDER BY {key}, h.history_date, h.history_id) AS f
{from}",
            insert_columns(layout),
            full_mask(layout).join(", "),
        )
    };
    let is_live = history_key_is(layout, "f", "t");
    let deleted: Vec<String> = layout.fields.iter().map(|field| col("d", &field.history)).collect();
    let same_key: Vec<String> = layout
        .key_fields()
        .map(|field| format!("{} = {}", col("x", &field.history), col("f", &field.history)))
        .collect();
    vec![
        known(&full_row(layout, "t"), &format!("JOIN {live} AS t ON {is_live}\nWHERE f.history_type <> '+'")),
        // Gone meanwhile: its deletion holds it whole.
        known(
            &deleted.join(", "),
            &format!(
                "CROSS JOIN LATERAL (SELECT * FROM {history} AS x WHERE {} AND x.history_type = '-' ORDER BY x.history_date DESC, x.history_id DESC LIMIT 1) AS d\nWHERE f.history_type <> '+' AND NOT EXISTS (SELECT 1 FROM {live} AS t WHERE {is_live})",
                same_key.join(" AND "),
            ),
        ),
    ]
}
