//! What somebody writes in an hour who wants no more: a trigger that copies each row, with the time, who it was and what happened, two
//! indexes, and the questions, each by the statement that one would write for it.

use std::time::Instant;

use crate::Outcome;
use crate::database::{Bench, Kind};
use crate::orders::{self, COLUMNS, VERSIONS};
use crate::reading::{Span, Written, expect, keys};
use crate::report::{Figures, median};

/// Its table.
pub(crate) const TABLE: &str = "orders_bare";

/// What its triggers write.
pub(crate) const LOG: &str = "orders_bare_log";

impl Bench {
    /// Creates the table, its log and its triggers anew.
    pub(crate) async fn fresh_bare_table(&mut self) -> Outcome {
        let columns = orders::columns(self.kind);
        self.run(&format!("DROP TABLE IF EXISTS {TABLE}; DROP TABLE IF EXISTS {LOG}")).await?;
        self.run(&format!("CREATE TABLE {TABLE} ({columns})")).await?;
        let (number, time) = match self.kind {
            Kind::Postgres => ("bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "timestamptz"),
            Kind::Sqlite => ("integer PRIMARY KEY", "integer"),
            Kind::MariaDb => ("bigint AUTO_INCREMENT PRIMARY KEY", "datetime(6)"),
        };
        let copied = columns.replace(" PRIMARY KEY", "");
        self.run(&format!(
            "CREATE TABLE {LOG} (log_id {number}, log_date {time} NOT NULL, log_type char(1) NOT NULL, log_user bigint, {copied});
             CREATE INDEX {LOG}_key ON {LOG} (id, log_date);
             CREATE INDEX {LOG}_date ON {LOG} (log_date)"
        ))
        .await?;
        for statement in triggers(self.kind) {
            self.run(&statement).await?;
        }
        Ok(())
    }
}

/// PostgreSQL's are of the statement: those of the row take half as long again for many.
fn triggers(kind: Kind) -> Vec<String> {
    let each = [("insert", "+", "NEW"), ("update", "~", "NEW"), ("delete", "-", "OLD")];
    let columns = COLUMNS.join(", ");
    let copy = |time: &str, who: &str, sign: &str, row: &str| {
        let values = COLUMNS.map(|column| format!("{row}.{column}")).join(", ");
        format!(
            "INSERT INTO {LOG} (log_date, log_type, log_user, {columns}) SELECT {time}, '{sign}', {who}, {values}"
        )
    };
    let of = |(event, sign, row): (&str, &str, &str)| {
        let head = format!("CREATE TRIGGER {LOG}_{event} AFTER {event} ON {TABLE}");
        match kind {
            Kind::Postgres => {
                let who =
                    "(nullif(current_setting('afterimage.context', true), '')::json ->> 'actor')::bigint";
                let copy = copy("now()", who, sign, "changed");
                vec![
                    format!(
                        "CREATE OR REPLACE FUNCTION {LOG}_{event}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {copy} FROM changed; RETURN NULL; END $$"
                    ),
                    format!(
                        "{head} REFERENCING {row} TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION {LOG}_{event}()"
                    ),
                ]
            }
            // Nobody says who it is.
            Kind::Sqlite => {
                let now = "CAST((julianday('now') - 2440587.5) * 86400000000 AS integer)";
                vec![format!("{head} FOR EACH ROW BEGIN {}; END", copy(now, "NULL", sign, row))]
            }
            Kind::MariaDb => vec![format!("{head} FOR EACH ROW {}", copy("now(6)", "NULL", sign, row))],
        }
    };
    each.into_iter().flat_map(of).collect()
}

/// A moment, from its microseconds.
pub(crate) fn moment(kind: Kind, micros: &str) -> String {
    match kind {
        Kind::Postgres => format!("to_timestamp(({micros})::bigint / 1e6)"),
        Kind::Sqlite => micros.to_owned(),
        Kind::MariaDb => format!("'1970-01-01' + INTERVAL ({micros}) MICROSECOND"),
    }
}

/// The questions that its log answers.
pub(crate) async fn ask(bench: &mut Bench, written: Written) -> Outcome<Figures> {
    let kind = bench.kind;
    let at = |when: afterimage::Moment| moment(kind, &when.as_micros().to_string());
    let columns = COLUMNS.join(", ");
    let mut figures = Figures::new();
    for (count_name, rows_name, then) in [
        ("as of the middle: count", "as of the middle: all rows", written.days_before(50)),
        (
            "as of a day ago, 1 % of the records after it: count",
            "as of a day ago: all rows",
            written.days_before(1),
        ),
    ] {
        let from = format!(
            "FROM {LOG} WHERE log_id IN (SELECT max(log_id) FROM {LOG} WHERE log_date <= {} GROUP BY id) AND log_type <> '-'",
            at(then)
        );
        let begun = Instant::now();
        let found = bench.text(&format!("SELECT count(*) {from}")).await?;
        figures.push((count_name, begun.elapsed().as_secs_f64()));
        expect(count_name, found.parse()?, written.rows as usize)?;
        let (found, all) = bench.fetch(&format!("SELECT {columns} {from} ORDER BY id")).await?;
        figures.push((rows_name, all));
        expect(rows_name, found, written.rows as usize)?;
    }
    let middle = at(written.days_before(50));
    let of_row = format!("FROM {LOG} WHERE id = {}", bench.parameter());
    let one = format!("SELECT {columns} {of_row} AND log_date <= {middle} ORDER BY log_date DESC LIMIT 1");
    let newest = format!("SELECT * {of_row} ORDER BY log_date DESC LIMIT 50");
    let versions = format!("SELECT * {of_row} ORDER BY log_date");
    for (name, sql, expected) in [
        ("as of the middle: one row", one, 1),
        ("the newest 50 changes of a row", newest, VERSIONS as usize),
        ("a row's versions, with what changed", versions, VERSIONS as usize),
    ] {
        let mut times = Vec::new();
        for key in keys(written.rows) {
            let (found, seconds) = bench.fetch_of(&sql, key).await?;
            times.push(seconds);
            expect(name, found, expected)?;
        }
        figures.extend(median(times).map(|seconds| (name, seconds)));
    }
    let Span { day, next, hour } = written.span();
    let (day, next, hour) = (at(day), at(next), at(hour));
    for (name, rest) in [
        (
            "as of the middle: 50 rows, filtered",
            format!(
                "WHERE l.log_date <= {middle} AND l.status = 'shipped' AND l.log_type <> '-' AND NOT EXISTS (SELECT 1 FROM {LOG} AS n WHERE n.id = l.id AND n.log_date <= {middle} AND n.log_date > l.log_date) ORDER BY l.log_date DESC LIMIT 50"
            ),
        ),
        ("a first page of 50 changes", "ORDER BY l.log_date DESC LIMIT 50".to_owned()),
        ("the last hour", format!("WHERE l.log_date >= {hour}")),
        ("a user's day", format!("WHERE l.log_user = 7 AND l.log_date >= {day} AND l.log_date < {next}")),
    ] {
        let (found, seconds) = bench.fetch(&format!("SELECT l.* FROM {LOG} AS l {rest}")).await?;
        figures.push((name, seconds));
        if found == 0 {
            return Err(format!("{LOG}: {name} is empty").into());
        }
    }
    Ok(figures)
}
