//! The history table: beside its table, every column NULL-able, keys compared by bytes.

use super::value::is_text;
use crate::layout::{Field, Keeping, Layout};
use crate::name::Quoted;
use crate::sql::Script;

pub(super) fn create(layout: &Layout) -> Script {
    let mut columns = vec![
        "history_id BIGINT NOT NULL".to_owned(),
        "history_date BIGINT NOT NULL".to_owned(),
        "history_type CHAR(1) CHARACTER SET ascii COLLATE ascii_bin NOT NULL".to_owned(),
        "history_scope BIGINT".to_owned(),
    ];
    columns.extend(layout.word_columns().map(|word| format!("{word} BIGINT NOT NULL DEFAULT 0")));
    columns.push("history_old_key LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin".to_owned());
    columns.extend(layout.fields.iter().map(|field| column(layout, field)));
    columns.push("PRIMARY KEY (history_id)".to_owned());
    columns.push(format!(
        "KEY {} ({}, history_date, history_id, history_type)",
        Quoted::new("history_key"),
        Quoted::list(layout.key_fields().map(|field| field.history.as_str())),
    ));
    // What is newest, and what a period holds, over all tables.
    columns.push(format!("KEY {} (history_date, history_id)", Quoted::new("history_date")));
    vec![format!(
        "CREATE TABLE IF NOT EXISTS {} (\n  {}\n) ENGINE = InnoDB ROW_FORMAT = DYNAMIC",
        layout.history.quoted(),
        columns.join(",\n  ")
    )]
}

/// Records can be added, and that is all.
pub(super) fn guards(layout: &Layout) -> Script {
    ["UPDATE", "DELETE"]
        .map(|event| {
            let name = format!("afterimage_{}_no_{}", layout.id, event.to_lowercase());
            format!(
                "CREATE OR REPLACE TRIGGER {name} BEFORE {event} ON {} FOR EACH ROW
IF NOT EXISTS (SELECT 1 FROM afterimage_removal AS r WHERE r.open_in = CONNECTION_ID() AND r.table_id = {id})
  OR EXISTS (SELECT 1 FROM afterimage_hold AS l WHERE l.table_id = {id} AND l.\"key\" IS NULL AND l.lifted IS NULL) THEN
  SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'afterimage: records cannot be changed or deleted';
END IF",
                layout.history.quoted(),
                id = layout.id
            )
        })
        .to_vec()
}

fn collation(field: &Field) -> Option<&str> {
    field.collation.as_deref().filter(|_| is_text(field))
}

/// How the text of a key compares in a history: by bytes, in the character set that its column has.
pub(super) fn key_collation(field: &Field) -> Option<String> {
    let charset = collation(field)?.split('_').next()?;
    Some(format!("{charset}_nopad_bin"))
}

/// A key's text compares by bytes, its trailing spaces too: as a record of the same row only what is the same.
pub(super) fn column_type(layout: &Layout, field: &Field) -> String {
    if field.keeping == Keeping::Masked {
        return "TINYINT".to_owned();
    }
    let collation =
        if layout.is_key(field) { key_collation(field) } else { collation(field).map(str::to_owned) };
    let collate = collation.map(|name| format!(" COLLATE {name}")).unwrap_or_default();
    format!("{}{collate}", field.sql_type)
}

fn column(layout: &Layout, field: &Field) -> String {
    format!("{} {} NULL", Quoted::new(&field.history), column_type(layout, field))
}

pub(super) fn alter(old: &Layout, new: &Layout, fills: &[(u16, String)]) -> Script {
    let table = new.history.quoted();
    let mut script: Script = (old.words()..new.words())
        .map(|word| {
            format!(
                "ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {} BIGINT NOT NULL DEFAULT 0",
                crate::layout::word_column(word)
            )
        })
        .collect();
    for field in new.fields.iter().filter(|field| field.bit >= old.next_bit) {
        // Every record written before the column existed then reads as the value the rows were given.
        let fill = fills.iter().find(|(bit, _)| *bit == field.bit).map(|(_, literal)| match field.keeping {
            Keeping::Stored => format!(" DEFAULT {literal}"),
            Keeping::Masked => " DEFAULT 1".to_owned(),
        });
        let add = format!("ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {}", column(new, field));
        script.push(format!("{add}{}", fill.clone().unwrap_or_default()));
        if fill.is_some() {
            // For those that are there only: a sparse record does not name the field, and has nothing in it.
            script.push(format!(
                "ALTER TABLE {table} ALTER COLUMN {} DROP DEFAULT",
                Quoted::new(&field.history)
            ));
        }
    }
    script
}
