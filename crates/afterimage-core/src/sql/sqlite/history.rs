//! The history table: no constraint that a record could violate, since the writer's conflict clause would then decide
//! about our record; and key columns of the table's own types, since an index on an untyped column is not used.

use super::kept;
use crate::layout::{Field, Keeping, Layout};
use crate::name::Quoted;
use crate::sql::Script;

pub(super) fn create(layout: &Layout) -> Script {
    let mut columns = vec![
        "history_id INTEGER PRIMARY KEY".to_owned(),
        "history_date INTEGER".to_owned(),
        "history_type TEXT".to_owned(),
        "history_scope INTEGER".to_owned(),
    ];
    columns.extend(layout.word_columns().map(|word| format!("{word} INTEGER")));
    columns.push("history_old_key TEXT".to_owned());
    columns.extend(layout.fields.iter().map(column));
    let table = layout.history.quoted();
    let mut script = vec![format!("CREATE TABLE {table} (\n  {}\n)", columns.join(",\n  "))];
    script.push(format!(
        "CREATE INDEX {} ON {table} ({}, history_date, history_id, history_type)",
        Quoted::new(&format!("{}_key", layout.history.name)),
        Quoted::list(layout.key_fields().map(|field| field.history.as_str())),
    ));
    // What is newest, and what a period holds, over all tables. Numbers alone would not do: a record may be dated by
    // hand, earlier than others with lower numbers.
    script.push(format!(
        "CREATE INDEX {} ON {table} (history_date)",
        Quoted::new(&format!("{}_date", layout.history.name))
    ));
    // What is deleted, found without looking at what is not.
    script.push(format!(
        "CREATE INDEX {} ON {table} (history_date) WHERE history_type = '-'",
        Quoted::new(&format!("{}_gone", layout.history.name))
    ));
    script
}

/// Records can be added, and that is all. `OR REPLACE` deletes without a word, so what it would replace is refused
/// before: no record's number is given twice.
pub(super) fn guards(layout: &Layout) -> Script {
    let table = layout.history.quoted();
    let guard = |event: &str, message: &str| {
        let name = Quoted::new(&format!("{}_no_{}", layout.history.name, event.to_lowercase()));
        [
            format!("DROP TRIGGER IF EXISTS {name}"),
            format!(
                "CREATE TRIGGER {name} BEFORE {event} ON {table}
WHEN NOT EXISTS (SELECT 1 FROM afterimage_removal AS r WHERE r.table_id = {id} AND r.open_in IS NOT NULL)
  OR EXISTS (SELECT 1 FROM afterimage_hold AS l WHERE l.table_id = {id} AND l.key IS NULL AND l.lifted IS NULL)
BEGIN
  SELECT RAISE(ABORT, 'afterimage: {message}');
END",
                id = layout.id
            ),
        ]
    };
    let unchanging = "records cannot be changed or deleted";
    let mut script = [guard("UPDATE", unchanging), guard("DELETE", unchanging)].concat();
    let name = Quoted::new(&format!("{}_no_replace", layout.history.name));
    script.push(format!("DROP TRIGGER IF EXISTS {name}"));
    // Where writes are skipped, their records are not written, and a gap says so.
    script.push(format!(
        "CREATE TRIGGER {name} BEFORE INSERT ON {table}
WHEN (SELECT s.skip FROM afterimage_state AS s) IS NOT NULL OR EXISTS (SELECT 1 FROM {table} AS h WHERE h.history_id = NEW.history_id)
BEGIN
  INSERT INTO afterimage_gap (table_id, from_date, cause, recorded_by)
  SELECT {id}, NEW.history_date, 'writes were skipped', c.actor
  FROM afterimage_state AS s LEFT JOIN afterimage_scope AS c ON c.id = s.scope
  WHERE s.skip IS NOT NULL AND NOT EXISTS (SELECT 1 FROM afterimage_gap AS g WHERE g.table_id = {id} AND g.key IS NULL AND g.to_date IS NULL);
  SELECT RAISE(IGNORE) FROM afterimage_state AS s WHERE s.skip IS NOT NULL;
  SELECT RAISE(ABORT, 'afterimage: a record of that number is there already');
END",
        id = layout.id
    ));
    script
}

fn column(field: &Field) -> String {
    format!("{} {}", Quoted::new(&field.history), stored_type(field)).trim_end().to_owned()
}

fn stored_type(field: &Field) -> &str {
    match field.keeping {
        Keeping::Stored => &field.sql_type,
        Keeping::Masked => "INTEGER",
    }
}

pub(super) fn alter(old: &Layout, new: &Layout, fills: &[(u16, String)]) -> Script {
    let table = new.history.quoted();
    let mut script: Script = (old.words()..new.words())
        .map(|word| format!("ALTER TABLE {table} ADD COLUMN {} INTEGER", crate::layout::word_column(word)))
        .collect();
    for field in &new.fields {
        if old.next_bit > field.bit {
            continue;
        }
        // Every record written before the column existed then reads as the value the rows were given.
        let fill = fills.iter().find(|(bit, _)| *bit == field.bit).map(|(_, literal)| match field.keeping {
            Keeping::Stored => format!(" DEFAULT {literal}"),
            Keeping::Masked => " DEFAULT 1".to_owned(),
        });
        script.push(format!("ALTER TABLE {table} ADD COLUMN {}{}", column(field), fill.unwrap_or_default()));
    }
    script
}

/// `INSERT INTO history (…)` up to the SELECT that follows.
pub(super) fn insert_into(layout: &Layout) -> String {
    format!(
        "INSERT INTO {} ({}, {})",
        layout.history.quoted(),
        super::header_columns(layout),
        super::history_columns(layout)
    )
}

/// The values a full record keeps of a row.
pub(super) fn full_row(layout: &Layout, row: &str) -> String {
    layout.fields.iter().map(|field| kept(field, row)).collect::<Vec<_>>().join(", ")
}
