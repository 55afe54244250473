//! `doctor`: what could go wrong, and the mend.

use afterimage_core::drift::Change;
use afterimage_core::schema::MariaDbShape;
use serde::Serialize;

use crate::catalog::{self, Entry};
use crate::database::Afterimage;
use crate::error::Result;
use crate::health::{self, Fault};
use crate::introspect;
use crate::session::{Cell, Session};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Notice,
    /// Something may go wrong.
    Warning,
    /// Changes are being lost, or attributed wrongly.
    Danger,
}

/// A hazard, and the mend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The table, where it concerns one.
    pub table: Option<String>,
    /// What was found.
    pub finding: String,
    /// What to do.
    pub mend: String,
}

impl Finding {
    pub(crate) fn new(
        severity: Severity,
        table: Option<&Entry>,
        finding: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self {
            severity,
            table: table.map(|entry| entry.table.to_string()),
            finding: finding.into(),
            mend: mend.into(),
        }
    }
}

impl Afterimage {
    /// Looks for hazards: in the installation, in each tracked table, and in the database's settings.
    pub async fn doctor(&self) -> Result<Vec<Finding>> {
        self.reading(async |session| {
            let mut findings = Vec::new();
            if !catalog::exists(session).await? {
                findings.push(Finding::new(
                    Severity::Notice,
                    None,
                    "nothing is tracked",
                    "afterimage track TABLE",
                ));
                return Ok(findings);
            }
            for entry in catalog::entries(session).await? {
                if entry.stage != catalog::Stage::Stopped {
                    let mut of_this = Vec::new();
                    of_table(session, &entry, &mut of_this).await?;
                    let seen = introspect::seen(session, &entry.table).await?.to_string();
                    findings.extend(
                        of_this.into_iter().map(|finding| Finding { table: Some(seen.clone()), ..finding }),
                    );
                }
            }
            match session {
                #[cfg(feature = "postgres")]
                Session::Postgres(_) => postgres(session, &mut findings).await?,
                #[cfg(feature = "sqlite")]
                Session::Sqlite(_) => sqlite(session, &mut findings).await?,
                #[cfg(feature = "mysql")]
                Session::MariaDb(_) => mariadb(session, &mut findings).await?,
            }
            findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
            Ok(findings)
        })
        .await
    }
}

async fn of_table(session: &mut Session, entry: &Entry, findings: &mut Vec<Finding>) -> Result<()> {
    let table = match health::whereabouts(session, entry).await? {
        Some(name) => introspect::exact(session, &name).await?,
        None => None,
    };
    let Some(table) = table else {
        let mend = "afterimage untrack it: its history stays";
        findings.push(Finding::new(Severity::Danger, Some(entry), Fault::Gone.to_string(), mend));
        return Ok(());
    };
    for fault in health::faults(session, entry, &table).await? {
        // Triggers name the column still, and fail with every write; SQLite's are rewritten with a rename.
        let fails = table.sqlite().is_none()
            && matches!(fault, Fault::Changed(Change::Dropped(_) | Change::Renamed { .. }));
        let severity = if fails || fault.loses_changes() { Severity::Danger } else { Severity::Warning };
        let what = if fails { format!("{fault}: writes fail") } else { fault.to_string() };
        findings.push(Finding::new(severity, Some(entry), what, "afterimage migrate"));
    }
    if entry.stage == catalog::Stage::Baseline {
        let mend = "afterimage track it again: the baseline goes on where it stopped";
        findings.push(Finding::new(Severity::Warning, Some(entry), "its baseline is not finished", mend));
    }
    if catalog::has_open_removal(session, entry).await? {
        let finding =
            "a removal was left open by hand: on SQLite and MariaDB its records can be changed and deleted";
        let mend = format!(
            "UPDATE {} SET open_in = NULL, then afterimage verify",
            session.dialect().catalog_table("removal")
        );
        findings.push(Finding::new(Severity::Danger, Some(entry), finding, mend));
    }
    #[cfg(feature = "postgres")]
    crate::partition::look(session, entry, findings).await?;
    for gap in entry.gaps.iter().filter(|gap| gap.to.is_none()) {
        let finding = format!("a gap is open since {}: {}", gap.from, gap.cause);
        findings.push(Finding::new(Severity::Danger, Some(entry), finding, "afterimage track it again"));
    }
    if let Some(shape) = table.mariadb() {
        of_mariadb(shape, entry, findings);
    }
    if table.postgres().is_some_and(|shape| shape.inherits) {
        findings.push(Finding::new(
            Severity::Notice,
            Some(entry),
            "it inherits, or is inherited from: only its own rows are recorded, row by row",
            "track the tables that inherit from it too",
        ));
    }
    #[cfg(feature = "postgres")]
    if let (Session::Postgres(_), Some(shape)) = (&*session, table.postgres()) {
        // By its text: what a function writes, nobody can know before.
        let before = "SELECT string_agg(t.tgname, ', ' ORDER BY t.tgname) FROM pg_catalog.pg_trigger AS t JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid \
            JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid \
            WHERE t.tgrelid = $1::bigint::oid AND NOT t.tgisinternal AND t.tgtype & 3 = 3 \
            AND p.prosrc ~* ('(insert\\s+into|update|delete\\s+from|merge\\s+into)\\s+(only\\s+)?\\S*' || c.relname)";
        let oid = [Cell::Int(i64::from(shape.oid))];
        if let Some(Cell::Text(names)) = session.row(before, &oid).await?.and_then(|mut row| row.pop()) {
            findings.push(Finding::new(
                Severity::Warning,
                Some(entry),
                format!("the triggers {names} write the table before a row of it is written: what they change of rows of the same statement is recorded before that statement"),
                "make them AFTER … FOR EACH ROW, which is recorded in order",
            ));
        }
    }
    if table.postgres().is_some_and(|shape| shape.written_again && shape.partitioned) {
        findings.push(Finding::new(
            Severity::Warning,
            Some(entry),
            "it is partitioned and has row triggers that may write it again: records of one statement may then be out of order",
            "make those triggers write other rows than those of their statement, or run verify after them",
        ));
    }
    Ok(())
}

/// What this database does without firing a trigger.
fn of_mariadb(shape: &MariaDbShape, entry: &Entry, findings: &mut Vec<Finding>) {
    if let Some(way) = &shape.unfollowable {
        findings.push(Finding::new(
            Severity::Danger,
            Some(entry),
            format!("{way}: that fires no trigger, and is not recorded"),
            "make that foreign key RESTRICT and delete or change these rows first",
        ));
    }
    findings.push(Finding::new(
        Severity::Notice,
        Some(entry),
        "TRUNCATE and the exchange of partitions fire no trigger",
        "DELETE instead, and take the right DROP from whoever only writes; verify finds what was lost",
    ));
}

/// Rights that a plain writer should lack, and what whoever has them can do.
const RIGHTS: [(&str, &str); 2] =
    [("explicit_time", "date records by hand"), ("skip", "write without records, which makes gaps")];

/// The same where they are settings that hold for everybody who may write.
#[cfg(any(feature = "sqlite", feature = "mysql"))]
async fn allowed(session: &mut Session, written: &str, findings: &mut Vec<Finding>) -> Result<()> {
    for (setting, what) in RIGHTS {
        let sql =
            format!("SELECT count(*) FROM afterimage_setting WHERE name = '{setting}' AND value = 'allowed'");
        if session.int(&sql, &[]).await?.unwrap_or_default() > 0 {
            findings.push(Finding::new(
                Severity::Notice,
                None,
                format!("whoever may write {written} may {what}"),
                format!("after the import: UPDATE afterimage_setting SET value = 'refused' WHERE name = '{setting}'"),
            ));
        }
    }
    Ok(())
}

#[cfg(feature = "sqlite")]
async fn sqlite(session: &mut Session, findings: &mut Vec<Finding>) -> Result<()> {
    allowed(session, "this file", findings).await?;
    let left = session.rows("SELECT actor FROM afterimage_context", &[]).await?;
    if let Some(actor) = left.into_iter().next().and_then(|mut row| row.pop()) {
        let actor = actor.text().unwrap_or_else(|| "nobody".to_owned());
        findings.push(Finding::new(
            Severity::Danger,
            None,
            format!("a client with foreign_keys off committed without deleting its context: every write is attributed to {actor:?}"),
            "DELETE FROM afterimage_context; and in that client PRAGMA foreign_keys = ON, which refuses such a COMMIT",
        ));
    }
    let pragmas = "SELECT group_concat(name, ', ') FROM sqlite_schema WHERE type = 'trigger' AND sql LIKE '%pragma\\_%' ESCAPE '\\' AND name NOT LIKE 'afterimage\\_%' ESCAPE '\\'";
    if let Some(Cell::Text(names)) = session.row(pragmas, &[]).await?.and_then(|mut row| row.pop()) {
        findings.push(Finding::new(
            Severity::Warning,
            None,
            format!("the triggers {names} use pragma functions: writers with trusted_schema off cannot write those tables"),
            "do without pragma functions in triggers",
        ));
    }
    Ok(())
}

#[cfg(feature = "postgres")]
async fn postgres(session: &mut Session, findings: &mut Vec<Finding>) -> Result<()> {
    for (function, what) in RIGHTS {
        let sql = format!(
            "SELECT pg_catalog.has_function_privilege('public', 'afterimage.{function}()', 'EXECUTE')"
        );
        if session.int(&sql, &[]).await? == Some(1) {
            findings.push(Finding::new(
                Severity::Warning,
                None,
                format!("everybody may {what}"),
                format!("REVOKE EXECUTE ON FUNCTION afterimage.{function}() FROM PUBLIC"),
            ));
        }
    }
    let replica = "SELECT count(*) FROM pg_catalog.pg_db_role_setting AS s, unnest(s.setconfig) AS c WHERE c LIKE 'session_replication_role=%' AND c NOT LIKE '%=origin'";
    if session.int(replica, &[]).await?.unwrap_or_default() > 0 {
        findings.push(Finding::new(
            Severity::Danger,
            None,
            "a role or database has session_replication_role set: its writes fire no triggers",
            "ALTER ROLE … RESET session_replication_role",
        ));
    }
    let subscriptions = "SELECT count(*) FROM pg_catalog.pg_stat_subscription";
    if session.int(subscriptions, &[]).await?.unwrap_or_default() > 0 {
        findings.push(Finding::new(
            Severity::Warning,
            None,
            "this database subscribes to another: what logical replication applies fires no triggers",
            "ALTER TABLE … ENABLE ALWAYS TRIGGER, or track on the publisher",
        ));
    }
    Ok(())
}

#[cfg(feature = "mysql")]
async fn mariadb(session: &mut Session, findings: &mut Vec<Finding>) -> Result<()> {
    allowed(session, "to this database", findings).await?;
    let forgotten = "SELECT count(*) FROM afterimage_session WHERE conn NOT IN (SELECT id FROM information_schema.processlist)";
    if session.int(forgotten, &[]).await?.unwrap_or_default() > 0 {
        findings.push(Finding::new(
            Severity::Notice,
            None,
            "clients committed without deleting their context: no other transaction sees it, but its row stays",
            "DELETE FROM afterimage_session WHERE conn NOT IN (SELECT id FROM information_schema.processlist)",
        ));
    }
    let replica = "SELECT (@@binlog_format = 'STATEMENT' AND @@log_bin) + 0";
    if session.int(replica, &[]).await?.unwrap_or_default() > 0 {
        findings.push(Finding::new(
            Severity::Danger,
            None,
            "the binary log is written by statement: a replica would record other numbers and times",
            "SET GLOBAL binlog_format = 'ROW'",
        ));
    }
    let refuses = "SELECT count(*) FROM information_schema.system_variables WHERE variable_name = 'innodb_snapshot_isolation'";
    if session.int(refuses, &[]).await? == Some(0) {
        findings.push(Finding::new(
            Severity::Warning,
            None,
            "this server does not refuse to write over what others wrote meanwhile: a revert or restore may undo a change made while it ran",
            "MariaDB 10.6.18, 10.11.8 or a later one",
        ));
    }
    Ok(())
}
