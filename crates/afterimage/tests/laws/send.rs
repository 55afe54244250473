//! How a transaction reaches the database: over a connection, or as a script for the database's shell.

use std::collections::BTreeMap;
use std::time::Duration;

use afterimage::Database;
use sqlx::{AssertSqlSafe, Executor as _};

use super::run::Outcome;
use super::schema::{Schema, TWINS};
use super::writes::{Statement, Transaction};
use crate::support::{MARIADB_MODE, TestDb};

/// One thing that a writer does.
pub enum Line {
    Each(Statement),
    Plain(String),
    Pause,
}

pub fn lines(statements: &[Statement], depth: usize) -> Vec<Line> {
    let mut all = Vec::new();
    for statement in statements {
        match statement {
            Statement::Savepoint { inner, kept } => {
                all.push(Line::Plain(format!("SAVEPOINT s{depth}")));
                all.extend(lines(inner, depth + 1));
                if !kept {
                    all.push(Line::Plain(format!("ROLLBACK TO s{depth}")));
                }
                all.push(Line::Plain(format!("RELEASE SAVEPOINT s{depth}")));
            }
            Statement::Pause => all.push(Line::Pause),
            other => all.push(Line::Each(other.clone())),
        }
    }
    all
}

/// The database's own shell, on this database.
pub fn shell(db: &TestDb) -> tokio::process::Command {
    use tokio::process::Command;
    let (mut command, arguments) = match db.audit.database() {
        Database::Sqlite => {
            (Command::new("sqlite3"), vec!["-batch".to_owned(), db.file().display().to_string()])
        }
        Database::MariaDb => {
            let address = db.url.rsplit_once('@').unwrap().1;
            let (host, name) = address.split_once('/').unwrap();
            let (host, port) = host.split_once(':').unwrap();
            let options = ["--no-defaults".to_owned(), "--force".to_owned(), "--user=root".to_owned()];
            let rest = [format!("--host={host}"), format!("--port={port}"), name.to_owned()];
            (Command::new("mariadb"), options.into_iter().chain(rest).collect())
        }
        _ => (Command::new(psql()), ["-q", "-X", "-d", &db.url].map(str::to_owned).to_vec()),
    };
    command.args(arguments);
    command
}

fn psql() -> std::path::PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found: BTreeMap<u32, _> = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin/psql"))))
        .collect();
    found.into_values().next_back().unwrap_or_else(|| "psql".into())
}

/// What stands before and after a transaction's statements, by the public contract.
pub fn envelope(
    database: Database,
    transaction: &Transaction,
    context: Option<&(String, String)>,
) -> [String; 2] {
    let end = if transaction.commits { "COMMIT" } else { "ROLLBACK" };
    let begin = if database == Database::MariaDb { "START TRANSACTION" } else { "BEGIN" };
    let Some((actor, reason)) = context else { return [begin.to_owned(), end.to_owned()] };
    let reason = reason.replace('\'', "''");
    match database {
        Database::Sqlite | Database::MariaDb => [
            format!("{begin}; INSERT INTO afterimage_context (actor, reason) VALUES ('{actor}', '{reason}')"),
            format!("DELETE FROM afterimage_context; {end}"),
        ],
        _ => [
            format!(
                "BEGIN; SELECT set_config('afterimage.context', '{{\"actor\":\"{actor}\",\"reason\":\"{reason}\"}}', true)"
            ),
            end.to_owned(),
        ],
    }
}

/// A transaction as the text that a shell is given.
pub fn script(schema: &Schema, transaction: &Transaction, context: Option<&(String, String)>) -> String {
    let [begin, end] = envelope(schema.database, transaction, context);
    let mut text = match schema.database {
        Database::Sqlite => format!(
            ".timeout 10000\nPRAGMA foreign_keys = ON;\nPRAGMA recursive_triggers = {};\n",
            u8::from(schema.recursive_triggers)
        ),
        Database::MariaDb => format!("{MARIADB_MODE};\n"),
        _ => "\\set ON_ERROR_ROLLBACK on\n".to_owned(),
    };
    text.push_str(&format!("{begin};\n"));
    for line in lines(&transaction.statements, 0) {
        match line {
            Line::Plain(sql) => text.push_str(&format!("{sql};\n")),
            Line::Each(statement) => {
                TWINS
                    .iter()
                    .filter_map(|twin| statement.sql(schema, twin))
                    .for_each(|sql| text.push_str(&format!("{sql};\n")));
            }
            Line::Pause => {}
        }
    }
    text.push_str(&format!("{end};\n"));
    text
}

/// SQLite's clock counts milliseconds, and is not ours to move.
pub async fn pass(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

pub enum Connection<'a> {
    Sqlite(&'a mut sqlx::SqliteConnection),
    Postgres(&'a mut sqlx::PgConnection),
    MariaDb(&'a mut sqlx::MySqlConnection),
}

impl Connection<'_> {
    async fn run(&mut self, sql: &str) -> Outcome {
        let query = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        match self {
            Self::Sqlite(c) => (**c).execute(query).await.map(drop),
            Self::Postgres(c) => (**c).execute(query).await.map(drop),
            Self::MariaDb(c) => (**c).execute(query).await.map(drop),
        }
        .map_err(|error| error.to_string())
    }

    /// Runs a statement that may fail, and leaves the transaction usable.
    async fn attempt(&mut self, sql: &str) -> Outcome {
        if !matches!(self, Self::Postgres(_)) {
            return self.run(sql).await;
        }
        let result = self.run(&format!("SAVEPOINT one; {sql}; RELEASE one")).await;
        if result.is_err() {
            self.run("ROLLBACK TO one; RELEASE one").await?;
        }
        result
    }
}

pub async fn statements(
    connection: &mut Connection<'_>,
    schema: &Schema,
    statements: &[Statement],
) -> Outcome {
    for line in lines(statements, 0) {
        match line {
            Line::Plain(sql) => connection.run(&sql).await?,
            Line::Pause => pass(2).await,
            Line::Each(statement) => {
                let mut outcomes = Vec::new();
                for sql in TWINS.iter().filter_map(|twin| statement.sql(schema, twin)) {
                    let outcome = connection.attempt(&sql).await;
                    if let Err(message) = outcome.as_ref()
                        && message.contains("afterimage:")
                    {
                        return Err(format!("{sql}: {message}"));
                    }
                    outcomes.push((sql, outcome));
                }
                if outcomes.iter().any(|(_, outcome)| outcome.is_ok() != outcomes[0].1.is_ok()) {
                    return Err(format!("the twins do not agree: {outcomes:#?}"));
                }
            }
        }
    }
    Ok(())
}
