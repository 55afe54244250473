//! Cascades, which fire no trigger: what a deletion or an update of a row elsewhere does to rows of the tracked table is
//! recorded from there.
//!
//! Before that row changes, the rows it may reach are laid aside in a pending table, as they are. After it, those that are
//! gone or differ get their records: so a cascade that was refused, ignored, or switched off leaves none.

use super::capture::{has_no_record, key_json, mask, prologue, special};
use super::check::{any_differs, field_differs};
use super::history::column_type;
use super::{NEXT, full_row, insert_into, kept, keys_are_equal};
use crate::layout::{Field, Layout};
use crate::name::Quoted;
use crate::schema::{Cascade, CascadeOn, Link, MariaDbShape, Table};
use crate::sql::Script;
use crate::sql::expression::{col, full_mask};

fn pending(layout: &Layout) -> String {
    format!("afterimage_pending_{}", layout.id)
}

const OWN: &str = "history_conn = CONNECTION_ID()";

/// The names of all triggers on the tables from which cascades come.
pub(super) fn trigger_names(layout: &Layout) -> Vec<String> {
    (0..layout.sources)
        .flat_map(|source| {
            ["before_delete", "after_delete", "before_update", "after_update"]
                .map(|what| format!("afterimage_{}_from_{source}_{what}", layout.id))
        })
        .collect()
}

pub(super) fn remove(layout: &Layout) -> Script {
    if layout.sources == 0 {
        return Script::new();
    }
    let mut script: Script =
        trigger_names(layout).into_iter().map(|name| format!("DROP TRIGGER IF EXISTS {name}")).collect();
    script.push(format!("DROP TABLE IF EXISTS {}", pending(layout)));
    script
}

pub(super) fn install(layout: &Layout, table: &Table, baseline: bool) -> Script {
    let Some(shape) = table.mariadb().filter(|shape| !shape.cascades.is_empty()) else {
        return Script::new();
    };
    let mut script = vec![create_pending(layout)];
    for (n, source) in shape.sources().into_iter().enumerate() {
        for on in [CascadeOn::Delete, CascadeOn::Update] {
            let cascades: Vec<&Cascade> =
                shape.cascades.iter().filter(|cascade| cascade.from == *source && cascade.on == on).collect();
            let (event, what) = match on {
                CascadeOn::Delete => ("DELETE", "delete"),
                CascadeOn::Update => ("UPDATE", "update"),
            };
            if cascades.is_empty() {
                continue;
            }
            let trigger = |time: &str, body: &str| {
                format!(
                    "CREATE OR REPLACE TRIGGER afterimage_{}_from_{n}_{}_{what} {time} {event} ON {} FOR EACH ROW\n{body}",
                    layout.id,
                    time.to_lowercase(),
                    source.quoted()
                )
            };
            script.push(trigger("BEFORE", &before(layout, shape, &cascades, baseline)));
            script.push(trigger("AFTER", &after(layout, &cascades)));
        }
    }
    script
}

/// In partitions by connection: whatever reads or clears a connection's rows also locks the gap beside them, where those
/// of the next would go.
fn create_pending(layout: &Layout) -> String {
    let mut columns =
        vec!["history_conn BIGINT UNSIGNED NOT NULL".to_owned(), "history_number BIGINT".to_owned()];
    columns.extend(layout.fields.iter().map(|field| {
        let null = if layout.is_key(field) { "NOT NULL" } else { "NULL" };
        format!("{} {} {null}", Quoted::new(&field.name), column_type(layout, field))
    }));
    let key = Quoted::list(layout.key.iter().map(String::as_str));
    columns.push(format!("PRIMARY KEY (history_conn, {key})"));
    format!(
        "CREATE OR REPLACE TABLE {} (\n  {}\n) ENGINE = InnoDB ROW_FORMAT = DYNAMIC\nPARTITION BY HASH (history_conn) PARTITIONS 32",
        pending(layout),
        columns.join(",\n  ")
    )
}

/// Lays rows of alias `t` aside.
fn lay_aside(layout: &Layout, from: &str) -> String {
    format!(
        "INSERT INTO {} (history_conn, {}) SELECT CONNECTION_ID(), {} FROM {from} ON DUPLICATE KEY UPDATE history_number = NULL;",
        pending(layout),
        Quoted::list(layout.fields.iter().map(|field| field.name.as_str())),
        full_row(layout, "t"),
    )
}

fn linked(link: &Link, child: &str, parent: &str) -> String {
    let terms: Vec<String> = link
        .columns
        .iter()
        .zip(&link.parent_columns)
        .map(|(own, theirs)| format!("{} = {}", col(child, own), col(parent, theirs)))
        .collect();
    terms.join(" AND ")
}

/// The rows at the end of a path that begins at the row `OLD`.
fn along(layout: &Layout, cascade: &Cascade) -> String {
    let last = cascade.path.len() - 1;
    let alias = |n: usize| if n == last { "t".to_owned() } else { format!("c{n}") };
    let tables: Vec<String> = cascade
        .path
        .iter()
        .enumerate()
        .map(|(n, link)| {
            let table = format!("{} AS {}", link.child.quoted(), alias(n));
            if n == 0 { table } else { format!("{table} ON {}", linked(link, &alias(n), &alias(n - 1))) }
        })
        .collect();
    let mut condition = linked(&cascade.path[0], &alias(0), "OLD");
    if cascade.from == layout.table {
        // The row itself has its own record.
        let own = keys_are_equal(layout, |field| col("t", &field.name), |field| col("OLD", &field.name));
        condition.push_str(&format!(" AND NOT ({own})"));
    }
    format!("{} WHERE {condition}", tables.join(" JOIN "))
}

fn before(layout: &Layout, shape: &MariaDbShape, cascades: &[&Cascade], baseline: bool) -> String {
    let pending = pending(layout);
    let mut body = vec![format!("DELETE FROM {pending} WHERE {OWN};")];
    for cascade in cascades {
        let fill = lay_aside(layout, &along(layout, cascade));
        body.push(match cascade.on {
            CascadeOn::Delete => fill,
            CascadeOn::Update => format!("IF {} THEN\n    {fill}\n  END IF;", moved(cascade)),
        });
    }
    if cascades.iter().any(|cascade| cascade.on == CascadeOn::Delete) {
        let next = |link: &Link| {
            let known = keys_are_equal(layout, |field| col("k", &field.name), |field| col("t", &field.name));
            lay_aside(
                layout,
                &format!(
                    "{} AS t JOIN {pending} AS r ON r.{OWN} AND {} WHERE NOT EXISTS (SELECT 1 FROM {pending} AS k WHERE k.{OWN} AND {known})",
                    layout.table.quoted(),
                    linked(link, "t", "r"),
                ),
            )
        };
        for own in shape.own.iter().filter(|own| own.deletes) {
            body.push(format!("REPEAT\n    {}\n  UNTIL ROW_COUNT() = 0 END REPEAT;", next(&own.link)));
        }
        for own in shape.own.iter().filter(|own| !own.deletes) {
            body.push(next(&own.link));
        }
    }
    if baseline {
        let from = format!("{pending} AS r JOIN afterimage_tracked AS s ON s.id = {}", layout.id);
        let already = |field: &Field| col("r", &field.name);
        body.push(format!(
            "{}\n  SELECT {NEXT}, s.since, '+', NULL, {}, NULL, {} FROM {from} WHERE r.{OWN} AND {};",
            insert_into(layout),
            full_mask(layout).join(", "),
            layout.fields.iter().map(already).collect::<Vec<_>>().join(", "),
            has_no_record(layout, "r"),
        ));
    }
    format!("BEGIN\n  {}\nEND", body.join("\n  "))
}

/// Whether an update touches the columns by which the rows refer to it.
fn moved(cascade: &Cascade) -> String {
    let terms: Vec<String> = cascade.path[0]
        .parent_columns
        .iter()
        .map(|name| format!("NOT (BINARY {} <=> BINARY {})", col("OLD", name), col("NEW", name)))
        .collect();
    format!("({})", terms.join(" OR "))
}

fn after(layout: &Layout, cascades: &[&Cascade]) -> String {
    let pending = pending(layout);
    let live = layout.table.quoted();
    let same = keys_are_equal(layout, |field| col("t", &field.name), |field| col("r", &field.name));
    let gone = format!("NOT EXISTS (SELECT 1 FROM {live} AS t WHERE {same})");
    let full = full_mask(layout).join(", ");
    let was: Vec<String> = layout.fields.iter().map(|field| col("r", &field.name)).collect();
    let into = insert_into(layout);
    let header = |number: &str, sign: &str| format!("{number}, now, '{sign}', @afterimage_scope");
    let mut records = vec![format!(
        "{into}\n      SELECT {}, {full}, NULL, {} FROM {pending} AS r WHERE r.{OWN} AND {gone};",
        header("r.history_number", "-"),
        was.join(", "),
    )];
    // A key that came along with the one it refers to: the row is found where it arrived.
    for cascade in cascades {
        let link = &cascade.path[0];
        let arrives =
            cascade.on == CascadeOn::Update && link.columns.iter().any(|column| layout.key.contains(column));
        if !arrives {
            continue;
        }
        let there = keys_are_equal(
            layout,
            |field| col("t", &field.name),
            |field| match link.columns.iter().position(|column| *column == field.name) {
                Some(at) => col("NEW", &link.parent_columns[at]),
                None => col("r", &field.name),
            },
        );
        records.push(format!(
            "{into}\n      SELECT {}, {full}, {}, {} FROM {pending} AS r JOIN {live} AS t ON {there} WHERE r.{OWN} AND NOT EXISTS (SELECT 1 FROM {live} AS o WHERE {});",
            header("r.history_number + 1", "+"),
            key_json(layout, "r"),
            full_row(layout, "t"),
            keys_are_equal(layout, |field| col("o", &field.name), |field| col("r", &field.name)),
        ));
    }
    let snapshot = layout.storage == crate::Storage::Snapshot;
    let mut changed = mask(layout, field_differs);
    if snapshot {
        changed[0] = format!("1 + {}", changed[0]);
    }
    let now: Vec<String> = layout
        .fields
        .iter()
        .map(|field| {
            if snapshot || layout.is_key(field) {
                kept(field, "t")
            } else {
                format!("IF({}, {}, NULL)", field_differs(field), kept(field, "t"))
            }
        })
        .collect();
    records.push(format!(
        "{into}\n      SELECT {}, {}, NULL, {} FROM {pending} AS r JOIN {live} AS t ON {same} WHERE r.{OWN} AND {};",
        header("r.history_number", "~"),
        changed.join(", "),
        now.join(", "),
        any_differs(layout),
    ));
    format!(
        "IF EXISTS (SELECT 1 FROM {pending} AS r WHERE r.{OWN}) THEN
  BEGIN
{prologue}{special}
    IF recorded THEN
      UPDATE {pending} SET history_number = {NEXT} WHERE {OWN};
      {records}
      SET @afterimage_date = now;
    END IF;
    DELETE FROM {pending} WHERE {OWN};
  END;
END IF",
        prologue = prologue(layout),
        special = special(layout, &[]),
        records = records.join("\n      "),
    )
}
