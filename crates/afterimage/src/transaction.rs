//! `begin(context)`: one transaction, and who and why for it.

use std::sync::{Arc, PoisonError};

use afterimage_core::{Context, Database};
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

use crate::database::Afterimage;
use crate::error::{Error, ErrorKind, Result};
#[cfg(feature = "mysql")]
use crate::lent::Lent;
#[cfg(feature = "mysql")]
use crate::session::Session;
use crate::session::{Cell, cell};
use crate::writing::Writing;

/// A transaction with a context. Dropped without [`commit`](Tx::commit), it rolls back.
#[derive(Debug)]
pub struct Tx {
    database: Database,
    open: Arc<Mutex<Open>>,
    /// Nested ones that were dropped without an end, and still have to be rolled back.
    dropped: Dropped,
    /// Its number, where it is a nested one.
    nested: Option<u64>,
    over: bool,
}

/// What a transaction and those nested in it share.
#[derive(Debug)]
struct Open {
    /// Nothing once it is over.
    writing: Option<Writing>,
    /// Those that are nested in it, the innermost last.
    nested: Vec<Nested>,
    /// The number of the next.
    next: u64,
}

/// A nested transaction.
#[derive(Debug)]
struct Nested {
    number: u64,
    /// How many contexts there were when it began.
    contexts: usize,
}

type Dropped = Arc<std::sync::Mutex<Vec<u64>>>;

impl Afterimage {
    /// Begins a transaction whose records carry this context. The context travels in the same message as `BEGIN`.
    ///
    /// PostgreSQL: `BEGIN; SELECT set_config('afterimage.context', convert_from(decode('…','hex'),'UTF8'), true)`.
    /// SQLite: `BEGIN IMMEDIATE`, then `INSERT INTO afterimage_context …`.
    ///
    /// Inside a [`scope`](crate::scope), which is where requests run under the layer of the feature `tower`, what this context
    /// does not say the scope's says.
    ///
    /// It begins on a task of its own: a caller that is cancelled while it waits leaves no half-open transaction,
    /// and no context, to the pool's next borrower.
    pub async fn begin(&self, context: &Context) -> Result<Tx> {
        Ok(Tx::over(self.begin_writing(context).await?))
    }
}

impl Open {
    /// Rolls back, before anything else is sent, what nested ones left behind, and what is nested in those.
    fn settle(&mut self, dropped: &Dropped) {
        let dropped = std::mem::take(&mut *dropped.lock().unwrap_or_else(PoisonError::into_inner));
        for number in dropped {
            let Ok(depth) = self.depth(Some(number)) else { continue };
            for nested in self.nested.drain(depth - 1..).rev() {
                if let Some(writing) = &mut self.writing {
                    writing.session.start_rollback();
                    writing.contexts.truncate(nested.contexts);
                }
            }
        }
    }

    /// How deep a transaction lies, the outermost at 0.
    fn depth(&self, number: Option<u64>) -> Result<usize> {
        let Some(number) = number else { return Ok(0) };
        let place = self.nested.iter().position(|nested| nested.number == number);
        place.map(|place| place + 1).ok_or_else(is_over)
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        if let (Some(number), false) = (self.nested, self.over) {
            self.dropped.lock().unwrap_or_else(PoisonError::into_inner).push(number);
            // Where somebody is using it, whoever comes next settles it.
            if let Ok(mut open) = self.open.try_lock() {
                open.settle(&self.dropped);
            }
        }
    }
}

impl Tx {
    fn over(writing: Writing) -> Self {
        Self {
            database: writing.session.dialect().database(),
            open: Arc::new(Mutex::new(Open { writing: Some(writing), nested: Vec::new(), next: 0 })),
            dropped: Dropped::default(),
            nested: None,
            over: false,
        }
    }

    /// Which database this is.
    pub fn database(&self) -> Database {
        self.database
    }

    /// The session, for somebody who shares it with nobody.
    pub(crate) fn writing(&mut self) -> Result<&mut Writing> {
        let Some(open) = Arc::get_mut(&mut self.open) else {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "this transaction is nested, or one nested in it is not over: its connection is shared, and can be used as SeaORM's only",
            ));
        };
        let open = open.get_mut();
        open.settle(&self.dropped);
        open.writing.as_mut().ok_or_else(is_over)
    }

    /// The session, for those who share it.
    pub(crate) async fn shared(&self) -> Result<MappedMutexGuard<'_, Writing>> {
        let mut open = self.open.lock().await;
        open.settle(&self.dropped);
        open.depth(self.nested)?;
        MutexGuard::try_map(open, |open| open.writing.as_mut()).map_err(|_| is_over())
    }

    /// Begins a transaction inside this one, by a savepoint. The contexts entered in it end with it.
    pub async fn nest(&self) -> Result<Self> {
        let mut open = self.open.lock().await;
        open.settle(&self.dropped);
        open.depth(self.nested)?;
        let writing = open.writing.as_mut().ok_or_else(is_over)?;
        writing.session.nest().await?;
        let contexts = writing.contexts.len();
        let number = open.next;
        open.next += 1;
        open.nested.push(Nested { number, contexts });
        drop(open);
        Ok(Self {
            database: self.database,
            open: Arc::clone(&self.open),
            dropped: Arc::clone(&self.dropped),
            nested: Some(number),
            over: false,
        })
    }

    /// The PostgreSQL connection, for queries.
    #[cfg(feature = "postgres")]
    pub fn postgres(&mut self) -> Result<&mut sqlx::PgConnection> {
        self.writing()?.session.postgres()
    }

    /// The SQLite connection, for queries.
    #[cfg(feature = "sqlite")]
    pub fn sqlite(&mut self) -> Result<&mut sqlx::SqliteConnection> {
        self.writing()?.session.sqlite()
    }

    /// The MariaDB connection, for queries.
    #[cfg(feature = "mysql")]
    pub fn mariadb(&mut self) -> Result<&mut sqlx::MySqlConnection> {
        self.writing()?.session.mariadb()
    }

    /// Sets a context inside the present one: what it does not say, the outer one says. Records from here on carry it,
    /// until [`leave`](Tx::leave).
    pub async fn enter(&mut self, context: &Context) -> Result<()> {
        self.shared().await?.enter(context).await
    }

    /// Goes back to the context outside the present one.
    pub async fn leave(&mut self) -> Result<()> {
        self.shared().await?.leave().await
    }

    /// Commits. A nested one becomes part of the one outside it; with one that has another nested in it that is not over,
    /// nothing is committed.
    pub async fn commit(mut self) -> Result<()> {
        let mut open = self.end().await?;
        match open.nested.last().map(|nested| nested.contexts) {
            Some(contexts) => {
                let writing = open.writing.as_mut().ok_or_else(is_over)?;
                writing.session.commit_nested().await?;
                writing.leave_to(contexts).await?;
                open.nested.pop();
            }
            None => {
                let writing = open.writing.take().ok_or_else(is_over)?;
                drop(open);
                writing.commit().await?;
            }
        }
        self.over = true;
        Ok(())
    }

    /// Rolls back.
    pub async fn rollback(mut self) -> Result<()> {
        let mut open = self.end().await?;
        match open.nested.last().map(|nested| nested.contexts) {
            Some(contexts) => {
                let writing = open.writing.as_mut().ok_or_else(is_over)?;
                writing.session.rollback_nested().await?;
                writing.contexts.truncate(contexts);
                open.nested.pop();
            }
            None => {
                let writing = open.writing.take().ok_or_else(is_over)?;
                drop(open);
                writing.rollback().await?;
            }
        }
        self.over = true;
        Ok(())
    }

    /// The shared state, for the end of the innermost one.
    async fn end(&self) -> Result<tokio::sync::OwnedMutexGuard<Open>> {
        let mut open = Arc::clone(&self.open).lock_owned().await;
        open.settle(&self.dropped);
        if open.nested.len() > open.depth(self.nested)? {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "a transaction nested in this one is not over: nothing was committed",
            ));
        }
        Ok(open)
    }
}

fn is_over() -> Error {
    Error::new(ErrorKind::InvalidInput, "the transaction is over")
}

impl Tx {
    /// Runs a statement with JSON values for its parameters: for tools that know their tables at run time only.
    /// Objects and arrays go in as their JSON text.
    pub async fn execute(&mut self, sql: &str, parameters: &[serde_json::Value]) -> Result<u64> {
        let cells: Vec<Cell> = parameters.iter().map(cell).collect();
        self.shared().await?.session.execute(sql, &cells).await
    }
}

impl Afterimage {
    /// Runs statements outside any context, each in its own transaction unless they say otherwise.
    pub async fn execute(&self, sql: &str) -> Result<()> {
        #[cfg(feature = "mysql")]
        if let Some(pool) = self.users_mariadb_pool() {
            let mut session = Session::MariaDb(Lent::pooled(&pool, self.remembered()).await?);
            return session.run(sql).await.map(drop);
        }
        self.session().await?.run(sql).await.map(drop)
    }
}
