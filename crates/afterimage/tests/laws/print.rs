//! A failing case, as it is printed.

use std::fmt;

use afterimage::Storage;

use super::run::{Case, before};
use super::schema::TWINS;
use super::send::{Line, lines};
use super::writes::{Step, add_column, added};

/// The schema, and every statement, as SQL that can be pasted.
impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut schema = self.schema.clone();
        writeln!(f, "\n-- recursive_triggers {}", schema.recursive_triggers)?;
        for table in 0..schema.tables.len() {
            for sql in schema.create(table, TWINS[0]) {
                writeln!(f, "{sql};")?;
            }
            let rows = schema.tables[table].before;
            if rows > 0 {
                writeln!(f, "{};", before(table, rows).sql(&schema, TWINS[0]).unwrap_or_default())?;
            }
            let tracking = schema.tracking(table, Storage::Snapshot);
            writeln!(
                f,
                "-- track {} mask {:?} exclude {:?}",
                schema.name(table, TWINS[0]),
                tracking.mask,
                tracking.exclude
            )?;
        }
        for (number, step) in self.steps.iter().enumerate() {
            match step {
                Step::SwitchStorage(table) => {
                    writeln!(f, "-- switch storage of {}", schema.name(schema.table(*table), TWINS[0]))?
                }
                Step::AddColumn { table, kind, default } => {
                    let table = schema.table(*table);
                    let column = added(&schema, table, *kind);
                    writeln!(f, "{}; -- migrate", add_column(&schema, table, &column, *default, TWINS[0]))?;
                    schema.tables[table].columns.push(column);
                }
                Step::Transaction(t) => {
                    let end = if t.commits { "COMMIT" } else { "ROLLBACK" };
                    writeln!(
                        f,
                        "BEGIN; -- {number}: {:?}, context {}, later {}",
                        t.writer, t.context, t.later
                    )?;
                    for line in lines(&t.statements, 0) {
                        match line {
                            Line::Plain(sql) => writeln!(f, "  {sql};")?,
                            Line::Each(statement) => {
                                writeln!(f, "  {};", statement.sql(&schema, TWINS[0]).unwrap_or_default())?
                            }
                            Line::Pause => writeln!(f, "  -- a moment passes")?,
                        }
                    }
                    writeln!(f, "{end};")?;
                }
            }
        }
        Ok(())
    }
}
