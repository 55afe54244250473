//! What somebody writes in an hour who wants no more: a trigger that copies each row, with the time and what happened (on PostgreSQL
//! also who it was), two indexes, and the questions, each by the statement that one would write for it. A key that changes is another
//! row to it.

use std::time::Instant;

use crate::Outcome;
use crate::database::{Bench, Kind};
use crate::orders::{self, COLUMNS, VERSIONS};
use crate::reading::{Span, Written, expect, keys, often};
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

/// PostgreSQL's are of the statement, as what writes many rows wants them.
fn triggers(kind: Kind) -> Vec<String> {
    let each = [("insert", "+", "NEW"), ("update", "~", "NEW"), ("delete", "-", "OLD")];
    let columns = COLUMNS.join(", ");
    let values = |row: &str| COLUMNS.map(|column| format!("{row}.{column}")).join(", ");
    let copy = |now: &str, sign: &str, row: &str| {
        format!("INSERT INTO {LOG} (log_date, log_type, {columns}) VALUES ({now}, '{sign}', {})", values(row))
    };
    let of = |(event, sign, row): (&str, &str, &str)| {
        let head = format!("CREATE TRIGGER {LOG}_{event} AFTER {event} ON {TABLE}");
        match kind {
            Kind::Postgres => {
                let who = "(SELECT (nullif(current_setting('afterimage.context', true), '')::json ->> 'actor')::bigint)";
                let copy = format!(
                    "INSERT INTO {LOG} (log_date, log_type, log_user, {columns}) SELECT now(), '{sign}', {who}, {} FROM changed",
                    values("changed")
                );
                vec![
                    format!(
                        "CREATE OR REPLACE FUNCTION {LOG}_{event}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {copy}; RETURN NULL; END $$"
                    ),
                    format!(
                        "{head} REFERENCING {row} TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION {LOG}_{event}()"
                    ),
                ]
            }
            Kind::Sqlite => {
                let now = "CAST((julianday('now') - 2440587.5) * 86400000000 AS integer)";
                vec![format!("{head} FOR EACH ROW BEGIN {}; END", copy(now, sign, row))]
            }
            Kind::MariaDb => vec![format!("{head} FOR EACH ROW {}", copy("now(6)", sign, row))],
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
        let then = at(then);
        let begun = Instant::now();
        let found = bench
            .text(&format!(
                "SELECT sum(CASE log_type WHEN '+' THEN 1 WHEN '-' THEN -1 ELSE 0 END) FROM {LOG} WHERE log_date <= {then}"
            ))
            .await?;
        figures.push((count_name, begun.elapsed().as_secs_f64()));
        expect(count_name, found.parse()?, written.rows as usize)?;
        let (found, all) = bench
            .fetch(&format!(
                "SELECT {columns} FROM (SELECT max(log_id) AS newest FROM {LOG} WHERE log_date <= {then} GROUP BY id) AS n JOIN {LOG} ON log_id = newest WHERE log_type <> '-' ORDER BY id"
            ))
            .await?;
        figures.push((rows_name, all));
        expect(rows_name, found, written.rows as usize)?;
    }
    let middle = at(written.days_before(50));
    let of_row = format!("FROM {LOG} WHERE id = {}", bench.parameter());
    let one = format!(
        "SELECT {columns} {of_row} AND log_date <= {middle} ORDER BY log_date DESC, log_id DESC LIMIT 1"
    );
    let newest = format!("SELECT * {of_row} ORDER BY log_date DESC, log_id DESC LIMIT 50");
    let versions = format!("SELECT * {of_row} ORDER BY log_date, log_id");
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
    let total = written.total();
    let Span { day, next, hour } = written.span();
    let (day, next, hour) = (at(day), at(next), at(hour));
    for (name, rest) in [
        (
            "as of the middle: 50 rows, filtered",
            format!(
                "WHERE l.log_date <= {middle} AND l.status = 'shipped' AND l.log_type <> '-' AND NOT EXISTS (SELECT 1 FROM {LOG} AS n WHERE n.id = l.id AND n.log_date <= {middle} AND n.log_id > l.log_id) ORDER BY l.id LIMIT 50"
            ),
        ),
        ("a first page of 50 changes", "ORDER BY l.log_date DESC, l.log_id DESC LIMIT 50".to_owned()),
        ("the last hour", format!("WHERE l.log_date >= {hour}")),
        ("a user's day", format!("WHERE l.log_user = 7 AND l.log_date >= {day} AND l.log_date < {next}")),
        (
            "a value that a column got, within a day",
            format!("WHERE l.total = {total:.2} AND l.log_date >= {day} AND l.log_date < {next}"),
        ),
    ] {
        let sql = format!("SELECT l.* FROM {LOG} AS l {rest}");
        let seconds = often(async || {
            let (found, seconds) = bench.fetch(&sql).await?;
            if found == 0 {
                return Err(format!("{LOG}: {name} is empty").into());
            }
            Ok(seconds)
        });
        figures.push((name, seconds.await?));
    }
    Ok(figures)
}
