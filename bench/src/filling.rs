//! Tables and histories as if they had been written over a hundred days.

use afterimage_core::Layout;

use crate::Outcome;
use crate::bare::{self, LOG};
use crate::database::{Bench, Kind};
use crate::orders::{self, COLUMNS, USERS};

/// What happened, as it is recorded.
const SIGN: &str = "CASE WHEN k = 0 THEN '+' ELSE '~' END";

/// Who wrote a version.
fn user() -> String {
    format!("1 + s * 19 % {USERS}")
}

impl Bench {
    /// The numbers from 1 on, to read from: a row each, with the one column `s`.
    fn numbers(&self, last: i64) -> String {
        match self.kind {
            Kind::Postgres => {
                format!("(SELECT s FROM generate_series(1::bigint, {last}::bigint) AS s) AS numbers")
            }
            Kind::Sqlite => format!(
                "(WITH RECURSIVE g(s) AS (SELECT 1 UNION ALL SELECT s + 1 FROM g WHERE s < {last}) SELECT s FROM g) AS numbers"
            ),
            Kind::MariaDb => format!("(SELECT seq AS s FROM seq_1_to_{last}) AS numbers"),
        }
    }

    /// The statement that creates so many orders in their version `k`.
    fn insert_orders(&self, table: &str, rows: u32, k: u32) -> String {
        format!(
            "INSERT INTO {table} SELECT {} FROM (SELECT s AS id, {k} AS k FROM {}) AS v",
            orders::values(self.kind).join(", "),
            self.numbers(rows.into())
        )
    }

    /// The statement that creates so many orders.
    pub(crate) fn insert(&self, table: &str, rows: u32) -> String {
        self.insert_orders(table, rows, 0)
    }

    /// Fills a table that has no history with the last versions.
    pub(crate) async fn fill_plain(&mut self, table: &str, rows: u32, versions: u32) -> Outcome {
        let fill = self.insert_orders(table, rows, versions - 1);
        self.run(&fill).await
    }

    /// Fills a history and its table as if each version had been written `step` microseconds after the one before, by
    /// one of 50 users, the last of them at `end`.
    pub(crate) async fn fill_history(
        &mut self,
        table: &str,
        sparse: bool,
        rows: u32,
        versions: u32,
        end: i64,
        step: i64,
    ) -> Outcome {
        let all = i64::from(rows * versions);
        let begin = end - all * step;
        let source = self.in_order(rows, versions);
        let layout = self.layout(table).await?;
        let live = self.insert_orders(table, rows, versions - 1);
        self.fill_unrecorded(table, &live).await?;
        // The bits of status and total, which is what an update changes; all of them and the full one of a creation.
        let bit = |name: &str| layout.field(name).map_or(0, |field| field.word_and_bit().1);
        let full = layout.full_mask()[0];
        let changed = bit("status") | bit("total") | i64::from(!sparse);
        let mask = format!("CASE WHEN k = 0 THEN {full} ELSE {changed} END");
        let (sign, user) = (SIGN, user());
        let kept: Vec<String> = COLUMNS
            .iter()
            .zip(orders::values(self.kind))
            .map(|(column, value)| match *column {
                "id" | "status" | "total" => value,
                _ if sparse => format!("CASE WHEN k = 0 THEN {value} END"),
                _ => value,
            })
            .collect();
        let (columns, kept) = (COLUMNS.join(", "), kept.join(", "));
        let numbers = self.numbers(all);
        let sql = match self.kind {
            Kind::Postgres => {
                let since = format!("to_timestamp(({begin} - 1) / 1e6)");
                format!(
                    "INSERT INTO {table}_history (history_date, history_tx, history_type, history_user, history_changed, {columns})
                     SELECT to_timestamp(({begin}::bigint + s * {step}::bigint) / 1e6), s, {sign}, ({user})::text, {mask}, {kept} FROM {source};
                     UPDATE afterimage.tracked SET since = {since} WHERE table_name = '{table}';
                     UPDATE afterimage.epoch SET from_date = {since} WHERE table_id = {}",
                    layout.id
                )
            }
            Kind::Sqlite => {
                let first: i64 = self.text("SELECT history_id FROM afterimage_state").await?.parse()?;
                let scope: i64 = self.text("SELECT last_scope FROM afterimage_state").await?.parse()?;
                format!(
                    "BEGIN;
                     INSERT INTO afterimage_scope (id, tx, actor, began, first_id, last_date, last_id)
                     SELECT {scope} + s, {scope} + s, CAST({user} AS TEXT), {begin} + s * {step}, {first} + s, {begin} + s * {step}, {first} + s FROM {numbers};
                     INSERT INTO {table}_history (history_id, history_date, history_type, history_scope, history_changed, {columns})
                     SELECT {first} + s, {begin} + s * {step}, {sign}, {scope} + s, {mask}, {kept} FROM {source};
                     UPDATE afterimage_state SET history_id = {first} + {all}, last_scope = {scope} + {all};
                     UPDATE afterimage_tracked SET since = {begin} - 1 WHERE table_name = '{table}';
                     UPDATE afterimage_epoch SET from_date = {begin} - 1 WHERE table_id = {};
                     COMMIT",
                    layout.id
                )
            }
            Kind::MariaDb => {
                let first: i64 = self.text("SELECT NEXTVAL(afterimage_sequence)").await?.parse()?;
                let scope: i64 = self.text("SELECT NEXTVAL(afterimage_scopes)").await?.parse()?;
                format!(
                    "INSERT INTO afterimage_scope (id, tx, actor, began, last_date)
                     SELECT {scope} + s, {scope} + s, {user}, {begin} + s * {step}, {begin} + s * {step} FROM {numbers};
                     INSERT INTO {table}_history (history_id, history_date, history_type, history_scope, history_changed, {columns})
                     SELECT {first} + 2 * s, {begin} + s * {step}, {sign}, {scope} + s, {mask}, {kept} FROM {source};
                     SELECT SETVAL(afterimage_sequence, {}), SETVAL(afterimage_scopes, {});
                     UPDATE afterimage_tracked SET since = {begin} - 1 WHERE table_name = '{table}';
                     UPDATE afterimage_epoch SET from_date = {begin} - 1 WHERE table_id = {}",
                    first + 2 * all,
                    scope + all,
                    layout.id
                )
            }
        };
        self.run(&sql).await
    }

    /// The same of the log of a bare trigger.
    pub(crate) async fn fill_bare(&mut self, rows: u32, versions: u32, end: i64, step: i64) -> Outcome {
        self.fill_plain(bare::TABLE, rows, versions).await?;
        let begin = end - i64::from(rows * versions) * step;
        // What is deleted would leave its place behind.
        let empty = if self.kind == Kind::Sqlite { "DELETE FROM" } else { "TRUNCATE TABLE" };
        let fill = format!(
            "{empty} {LOG};
             INSERT INTO {LOG} (log_date, log_type, log_user, {}) SELECT {}, {SIGN}, {}, {} FROM {}",
            COLUMNS.join(", "),
            bare::moment(self.kind, &format!("{begin} + s * {step}")),
            user(),
            orders::values(self.kind).join(", "),
            self.in_order(rows, versions)
        );
        self.run(&fill).await
    }

    /// So many versions of so many orders, one after the other: `s` numbers them, `k` is which of the order's it is.
    fn in_order(&self, rows: u32, versions: u32) -> String {
        // MariaDB's slash gives a fraction.
        let over = if self.kind == Kind::MariaDb { "DIV" } else { "/" };
        let numbers = self.numbers(i64::from(rows * versions));
        format!(
            "(SELECT s, (s - 1) % {rows} + 1 AS id, (s - 1) {over} {rows} AS k FROM {numbers}) AS v ORDER BY s"
        )
    }

    /// Runs a statement that fills a table, and leaves no record of it.
    async fn fill_unrecorded(&mut self, table: &str, fill: &str) -> Outcome {
        let sql = match self.kind {
            Kind::Postgres => as_replicated(fill),
            Kind::Sqlite => self.without_triggers(table, fill).await?,
            // Which fires no trigger.
            Kind::MariaDb => format!("{fill}; TRUNCATE TABLE {table}_history"),
        };
        self.run(&sql).await
    }

    /// The layout of a tracked table, from the catalogue.
    pub(crate) async fn layout(&mut self, table: &str) -> Outcome<Layout> {
        let schema = if self.kind == Kind::Postgres { "afterimage." } else { "afterimage_" };
        let json = self
            .text(&format!("SELECT layout FROM {schema}epoch WHERE table_id = (SELECT id FROM {schema}tracked WHERE table_name = '{table}') ORDER BY number DESC LIMIT 1"))
            .await?;
        Ok(serde_json::from_str(&json)?)
    }
    /// What runs a statement without the triggers of a table, which SQLite can only drop and create.
    async fn without_triggers(&mut self, table: &str, sql: &str) -> Outcome<String> {
        let triggers = format!("FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = '{table}'");
        let list = |columns: &str| format!("SELECT group_concat({columns}, ';') {triggers}");
        let drop = self.text(&list("'DROP TRIGGER \"' || name || '\"'")).await?;
        let create = self.text(&list("sql")).await?;
        Ok(format!("BEGIN; {drop}; {sql}; {create}; COMMIT"))
    }

    /// What deletes the records of a history before a time in microseconds.
    pub(crate) async fn prune(&mut self, table: &str, before: i64) -> Outcome<String> {
        let history = format!("{table}_history");
        let delete = |time: &str| format!("DELETE FROM {history} WHERE history_date < {time}");
        Ok(match self.kind {
            Kind::Postgres => as_replicated(&delete(&format!("to_timestamp({before} / 1e6)"))),
            Kind::Sqlite => self.without_triggers(&history, &delete(&before.to_string())).await?,
            Kind::MariaDb => {
                let guard = format!("afterimage_{}_no_delete", self.layout(table).await?.id);
                let guarded = "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'afterimage: records cannot be changed or deleted'";
                format!(
                    "DROP TRIGGER {guard}; {}; CREATE TRIGGER {guard} BEFORE DELETE ON {history} FOR EACH ROW {guarded}",
                    delete(&before.to_string())
                )
            }
        })
    }
}

/// PostgreSQL fires no trigger where a session applies what was replicated.
fn as_replicated(sql: &str) -> String {
    format!("SET session_replication_role = replica; {sql}; RESET session_replication_role")
}
