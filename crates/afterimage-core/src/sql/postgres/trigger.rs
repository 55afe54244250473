//! The triggers. Their names begin with `!`, so that they fire before anybody else's.

use super::capture::name;
use crate::layout::Layout;
use crate::name::TableName;
use crate::schema::Table;
use crate::sql::Script;

/// At which level a table is captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Once a statement, after all.
    Statement,
    /// Once a statement, on its first row, before anybody else's row trigger can write the table again.
    FirstRow,
    /// Row by row.
    EachRow,
}

/// The level that keeps every law for this table at the least cost.
pub fn level(table: &Table) -> Level {
    match table.postgres() {
        Some(shape) if shape.inherits => Level::EachRow,
        Some(shape) if shape.written_again && shape.partitioned => Level::EachRow,
        Some(shape) if shape.written_again => Level::FirstRow,
        _ => Level::Statement,
    }
}

/// A trigger as it has to stand in `pg_trigger`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    /// On which table.
    pub table: TableName,
    /// Its name.
    pub name: &'static str,
    /// The statement that creates it.
    pub create: String,
}

/// The triggers of a table and of its partitions. A statement aimed at a partition fires the partition's own
/// statement triggers and no others; row triggers come to the partitions by themselves.
pub fn triggers(layout: &Layout, table: &Table) -> Vec<Trigger> {
    let partitions = table.postgres().map(|shape| shape.partitions.as_slice()).unwrap_or_default();
    let tree = std::iter::once(&layout.table).chain(partitions);
    let level = level(table);
    let mut triggers = Vec::new();
    for (depth, on) in tree.enumerate() {
        let quoted = on.quoted();
        let mut add = |name: &'static str, clause: &str, function: &str| {
            let create = format!(
                "CREATE OR REPLACE TRIGGER \"{name}\" {clause} EXECUTE FUNCTION {}()",
                self::name(layout.id, function)
            );
            triggers.push(Trigger { table: on.clone(), name, create: create.replace("{on}", &quoted) });
        };
        match level {
            Level::EachRow if depth == 0 => {
                add("!afterimage_row", "AFTER INSERT OR UPDATE OR DELETE ON {on} FOR EACH ROW", "row");
            }
            Level::EachRow => {}
            Level::Statement | Level::FirstRow => {
                let each = if level == Level::Statement { "STATEMENT" } else { "ROW" };
                let transitions = [
                    ("!afterimage_insert", "INSERT", "NEW TABLE AS new_rows", "insert"),
                    ("!afterimage_update", "UPDATE", "OLD TABLE AS old_rows NEW TABLE AS new_rows", "update"),
                    ("!afterimage_delete", "DELETE", "OLD TABLE AS old_rows", "delete"),
                ];
                for (name, event, tables, function) in transitions {
                    add(
                        name,
                        &format!("AFTER {event} ON {{on}} REFERENCING {tables} FOR EACH {each}"),
                        function,
                    );
                }
            }
        }
        add("!afterimage_truncate", "BEFORE TRUNCATE ON {on} FOR EACH STATEMENT", "truncate");
    }
    triggers
}

/// Creating a trigger keeps writers out, but not readers; dropping one would keep out both. So they are replaced.
pub(super) fn create(layout: &Layout, table: &Table) -> Script {
    triggers(layout, table).into_iter().map(|trigger| trigger.create).collect()
}
