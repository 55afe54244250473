//! A connection that a pool lends, and the transactions on it.

use std::ops::{Deref, DerefMut};

use sqlx_core::transaction::TransactionManager as _;

use crate::error::Result;
use crate::remembered::Remembered;

/// A pool's connection, whether a transaction is open on it, and what is known of the catalogue that it leads to.
#[derive(Debug)]
pub(crate) struct Lent<D: sqlx::Database> {
    connection: sqlx::pool::PoolConnection<D>,
    open: bool,
    remembered: Remembered,
}

impl<D: sqlx::Database> Lent<D> {
    pub(crate) fn pooled(connection: sqlx::pool::PoolConnection<D>, remembered: Remembered) -> Self {
        Self { connection, open: false, remembered }
    }

    /// Begins a transaction by a statement.
    pub(crate) async fn begin(
        pool: &sqlx::Pool<D>,
        begin: impl sqlx::SqlSafeStr,
        remembered: Remembered,
    ) -> Result<Self> {
        // Where it fails, it may have begun all the same.
        let mut lent = Self { connection: pool.acquire().await?, open: true, remembered };
        D::TransactionManager::begin(&mut lent.connection, Some(begin.into_sql_str())).await?;
        Ok(lent)
    }

    pub(crate) async fn commit(mut self) -> Result<()> {
        if self.open {
            self.commit_innermost().await?;
            self.open = false;
        }
        Ok(())
    }

    pub(crate) async fn rollback(mut self) -> Result<()> {
        if self.open {
            self.rollback_innermost().await?;
            self.open = false;
        }
        Ok(())
    }

    /// Begins a transaction inside the present one, by a savepoint.
    pub(crate) async fn nest(&mut self) -> Result<()> {
        Ok(D::TransactionManager::begin(&mut self.connection, None).await?)
    }

    pub(crate) async fn commit_innermost(&mut self) -> Result<()> {
        Ok(D::TransactionManager::commit(&mut self.connection).await?)
    }

    pub(crate) async fn rollback_innermost(&mut self) -> Result<()> {
        Ok(D::TransactionManager::rollback(&mut self.connection).await?)
    }

    /// Rolls the innermost transaction back before anything else is sent.
    pub(crate) fn start_rollback(&mut self) {
        D::TransactionManager::start_rollback(&mut self.connection);
    }

    pub(crate) fn remembered(&mut self) -> &mut Remembered {
        &mut self.remembered
    }
}

impl<D: sqlx::Database> Drop for Lent<D> {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        if D::NAME == "MySQL" {
            // Its driver loses count of the answers where somebody stopped waiting for one, as when a statement is prepared:
            // the connection would never come back to the pool. The server rolls back what was open on it.
            self.connection.close_on_drop();
        } else {
            for _ in 0..D::TransactionManager::get_transaction_depth(&self.connection) {
                self.start_rollback();
            }
        }
    }
}

impl<D: sqlx::Database> Deref for Lent<D> {
    type Target = D::Connection;

    fn deref(&self) -> &D::Connection {
        &self.connection
    }
}

impl<D: sqlx::Database> DerefMut for Lent<D> {
    fn deref_mut(&mut self) -> &mut D::Connection {
        &mut self.connection
    }
}
