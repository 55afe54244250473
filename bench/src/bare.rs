//! What somebody writes in ten minutes who wants no more: a trigger that copies each row, with the time and what happened.

use crate::Outcome;
use crate::database::{Bench, Kind};
use crate::orders::{self, COLUMNS};

/// Its table.
pub(crate) const TABLE: &str = "orders_bare";

impl Bench {
    /// Creates the table, its log and its triggers anew.
    pub(crate) async fn fresh_bare_table(&mut self) -> Outcome {
        let columns = orders::columns(self.kind);
        let log = format!("{TABLE}_log");
        self.run(&format!("DROP TABLE IF EXISTS {TABLE}; DROP TABLE IF EXISTS {log}")).await?;
        self.run(&format!("CREATE TABLE {TABLE} ({columns})")).await?;
        let (number, time) = match self.kind {
            Kind::Postgres => ("bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "timestamptz"),
            Kind::Sqlite => ("integer PRIMARY KEY", "integer"),
            Kind::MariaDb => ("bigint AUTO_INCREMENT PRIMARY KEY", "datetime(6)"),
        };
        let copied = columns.replace(" PRIMARY KEY", "");
        self.run(&format!(
            "CREATE TABLE {log} (log_id {number}, log_date {time} NOT NULL, log_type char(1) NOT NULL, {copied}); CREATE INDEX {log}_key ON {log} (id, log_date)"
        ))
        .await?;
        for statement in triggers(self.kind, &log) {
            self.run(&statement).await?;
        }
        Ok(())
    }
}

fn triggers(kind: Kind, log: &str) -> Vec<String> {
    let columns = COLUMNS.join(", ");
    let copy = |time: &str, sign: &str, row: &str| {
        let values = COLUMNS.map(|column| format!("{row}.{column}")).join(", ");
        format!("INSERT INTO {log} (log_date, log_type, {columns}) VALUES ({time}, {sign}, {values})")
    };
    if kind == Kind::Postgres {
        let old = copy("now()", "'-'", "OLD");
        let new = copy("now()", "CASE TG_OP WHEN 'INSERT' THEN '+' ELSE '~' END", "NEW");
        return vec![
            format!(
                "CREATE OR REPLACE FUNCTION {log}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF TG_OP = 'DELETE' THEN {old}; ELSE {new}; END IF; RETURN NULL; END $$"
            ),
            format!(
                "CREATE TRIGGER {log} AFTER INSERT OR UPDATE OR DELETE ON {TABLE} FOR EACH ROW EXECUTE FUNCTION {log}()"
            ),
        ];
    }
    let each = [("insert", "'+'", "NEW"), ("update", "'~'", "NEW"), ("delete", "'-'", "OLD")];
    each.map(|(event, sign, row)| {
        let head = format!("CREATE TRIGGER {log}_{event} AFTER {event} ON {TABLE} FOR EACH ROW");
        match kind {
            Kind::Sqlite => format!(
                "{head} BEGIN {}; END",
                copy("CAST((julianday('now') - 2440587.5) * 86400000000 AS integer)", sign, row)
            ),
            _ => format!("{head} {}", copy("now(6)", sign, row)),
        }
    })
    .into()
}
