//! Runs a random history, and remembers what there was after every commit.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;

use afterimage::{Context, Database, Storage, Tx};

use super::model::{self, Commit, Snapshot};
use super::schema::{Schema, TRACKED, TWINS};
use super::send::{Connection, envelope, pass, script, shell, statements};
use super::writes::{Conflict, Row, Statement, Step, Transaction, Writer, add_column, added};
use crate::support::{self, TestDb};

/// A schema and what happens to it.
#[derive(Clone)]
pub struct Case {
    pub schema: Schema,
    pub steps: Vec<Step>,
}

/// A case that was run.
pub struct World {
    pub db: TestDb,
    pub schema: Schema,
    pub commits: Vec<Commit>,
    /// Which storage the first twin of each table has now; the second has the other.
    first: Vec<Storage>,
}

/// What a check after every commit and rollback gets to see.
pub type Outcome<T = ()> = Result<T, String>;

/// Messages of what Afterimage refuses, as documented: such a case says nothing.
pub const REFUSED: [&str; 2] = ["twice, and its key with it", "fires no trigger on MariaDB"];

fn other(storage: Storage) -> Storage {
    if storage == Storage::Snapshot { Storage::Delta } else { Storage::Snapshot }
}

/// The rows that were there before tracking began.
pub fn before(table: usize, count: u8) -> Statement {
    let rows = (0..count).map(|n| Row { key: n, values: [n + 1; 8] }).collect();
    Statement::Insert { table: table as u8, rows, conflict: Conflict::Ignored }
}

impl World {
    /// Runs a case; `check` looks at the world after every transaction.
    pub async fn run(db: TestDb, case: &Case, check: impl AsyncFn(&mut World) -> Outcome) -> Outcome<World> {
        let mut world = World {
            db,
            schema: case.schema.clone(),
            commits: Vec::new(),
            first: vec![Storage::Snapshot; case.schema.tables.len()],
        };
        world.set_up().await?;
        for (number, step) in case.steps.iter().enumerate() {
            match step {
                Step::Transaction(transaction) => world.transaction(number, transaction).await?,
                Step::SwitchStorage(table) => {
                    let table = world.schema.table(*table);
                    world.first[table] = other(world.first[table]);
                    world.track(table).await?;
                    world.remember(None, true).await?;
                }
                Step::AddColumn { table, kind, default } => world.add_column(*table, *kind, *default).await?,
            }
            check(&mut world).await?;
        }
        Ok(world)
    }

    async fn set_up(&mut self) -> Outcome {
        if self.db.is_sqlite() && self.schema.recursive_triggers {
            self.db.run("PRAGMA recursive_triggers = 1").await;
        }
        for table in 0..self.schema.tables.len() {
            for twin in TWINS {
                for sql in self.schema.create(table, twin) {
                    self.db.try_run(&sql).await.map_err(|error| format!("{sql}: {error}"))?;
                }
                let rows = self.schema.tables[table].before;
                if let (1.., Some(sql)) = (rows, before(table, rows).sql(&self.schema, twin)) {
                    let _ = self.db.try_run(&sql).await;
                }
            }
        }
        for table in 0..self.schema.tables.len() {
            self.track(table).await?;
        }
        self.remember(None, true).await
    }

    async fn track(&mut self, table: usize) -> Outcome {
        for (twin, storage) in TRACKED.into_iter().zip([self.first[table], other(self.first[table])]) {
            let tracking = self.schema.tracking(table, storage);
            self.db
                .audit
                .track(self.schema.name(table, twin), tracking)
                .await
                .map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    async fn add_column(&mut self, table: u8, kind: u8, default: Option<u8>) -> Outcome {
        let table = self.schema.table(table);
        let column = added(&self.schema, table, kind);
        for twin in TWINS {
            let sql = add_column(&self.schema, table, &column, default, twin);
            self.db.try_run(&sql).await.map_err(|error| format!("{sql}: {error}"))?;
        }
        self.schema.tables[table].columns.push(column);
        let names = TRACKED.map(|twin| self.schema.name(table, twin));
        self.db.audit.migrate(&names, &[]).await.map_err(|error| format!("migrate: {error}"))?;
        self.remember(None, true).await
    }

    /// Remembers what there is now; what was recorded since the last time belongs to this commit.
    async fn remember(&mut self, context: Option<(String, String)>, identified: bool) -> Outcome {
        let known: BTreeSet<i64> =
            self.commits.iter().flat_map(|c| &c.added).map(|record| record.id).collect();
        let records = model::records(&mut self.db, &self.schema).await;
        let added = records.into_iter().filter(|record| !known.contains(&record.id)).collect();
        let tables = model::snapshots(&mut self.db, &self.schema).await?;
        let at = model::moment(&mut self.db).await;
        self.commits.push(Commit { at, tables, added, context, identified });
        Ok(())
    }

    async fn transaction(&mut self, number: usize, transaction: &Transaction) -> Outcome {
        if transaction.later && self.db.is_sqlite() {
            pass(2).await;
        }
        let context =
            transaction.context.then(|| (format!("user {number}"), format!("it's reason {number}")));
        match transaction.writer {
            Writer::Plain => self.plain(transaction, context.as_ref()).await?,
            Writer::Library => self.library(transaction, context.as_ref()).await?,
            Writer::Shell => self.shell(transaction, context.as_ref()).await?,
        }
        if transaction.commits {
            // A transaction that the library began without saying who is still a transaction that it began.
            let identified =
                self.db.is_postgres() || context.is_some() || transaction.writer == Writer::Library;
            return self.remember(context, identified).await;
        }
        let (count, commits) = (model::records(&mut self.db, &self.schema).await.len(), &self.commits);
        let known: usize = commits.iter().map(|commit| commit.added.len()).sum();
        if count != known {
            return Err(format!("a transaction that was rolled back left {} records", count.abs_diff(known)));
        }
        let now = model::snapshots(&mut self.db, &self.schema).await?;
        if Some(&now) != self.commits.last().map(|commit| &commit.tables) {
            return Err("a transaction that was rolled back left changes".to_owned());
        }
        Ok(())
    }

    async fn plain(&mut self, transaction: &Transaction, context: Option<&(String, String)>) -> Outcome {
        let schema = self.schema.clone();
        let [begin, end] = envelope(schema.database, transaction, context);
        self.db.try_run(&begin).await?;
        let result = match &mut self.db.writer {
            support::Writer::Sqlite(c) => {
                statements(&mut Connection::Sqlite(c), &schema, &transaction.statements).await
            }
            support::Writer::Postgres(c) => {
                statements(&mut Connection::Postgres(c), &schema, &transaction.statements).await
            }
            support::Writer::MariaDb(c) => {
                statements(&mut Connection::MariaDb(c), &schema, &transaction.statements).await
            }
        };
        self.db.try_run(&end).await.map_err(|error| format!("{end}: {error}"))?;
        result
    }

    async fn library(&mut self, transaction: &Transaction, context: Option<&(String, String)>) -> Outcome {
        let context = context.map(|(actor, reason)| Context::actor(actor).reason(reason)).unwrap_or_default();
        let failed = |error: afterimage::Error| error.to_string();
        let mut tx: Tx = self.db.audit.begin(&context).await.map_err(failed)?;
        let mut connection = match self.schema.database {
            Database::Sqlite => Connection::Sqlite(tx.sqlite().map_err(failed)?),
            Database::MariaDb => Connection::MariaDb(tx.mariadb().map_err(failed)?),
            _ => Connection::Postgres(tx.postgres().map_err(failed)?),
        };
        statements(&mut connection, &self.schema, &transaction.statements).await?;
        if transaction.commits { tx.commit().await } else { tx.rollback().await }.map_err(failed)
    }

    async fn shell(&mut self, transaction: &Transaction, context: Option<&(String, String)>) -> Outcome {
        let script = script(&self.schema, transaction, context);
        let mut command = shell(&self.db);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = child.map_err(|error| format!("the shell does not start: {error}"))?;
        if let Some(mut input) = child.stdin.take() {
            use tokio::io::AsyncWriteExt as _;
            input.write_all(script.as_bytes()).await.map_err(|error| error.to_string())?;
        }
        let output = child.wait_with_output().await.map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stderr);
        if said.contains("afterimage:") || said.contains("connection") {
            Err(said.into_owned())
        } else {
            Ok(())
        }
    }
}

impl World {
    /// The state that each moment after a commit should show: the last commit's, where several share a moment.
    pub fn moments(&self) -> BTreeMap<i64, &Vec<Snapshot>> {
        self.commits.iter().map(|commit| (commit.at.as_micros(), &commit.tables)).collect()
    }
}
