//! Locks of PostgreSQL's that keep nobody waiting for long: asked for in turns.

use std::time::{Duration, Instant};

use crate::error::{ErrorKind, Result};
use crate::session::Session;

/// How a lock is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turns {
    /// How long one attempt may keep others waiting behind it.
    pub(crate) length: &'static str,
    /// How long to go on trying.
    pub(crate) patience: Duration,
    /// How long to leave it to others, at first and at most.
    pub(crate) pauses: [Duration; 2],
}

impl Turns {
    /// Runs a statement that needs locks, in the open transaction. Whether it came to its turn.
    pub(crate) async fn take(&self, session: &mut Session, statement: &str) -> Result<bool> {
        let begun = Instant::now();
        let [mut pause, longest] = self.pauses;
        session.run(&format!("SET LOCAL lock_timeout = '{}'", self.length)).await?;
        loop {
            session.run("SAVEPOINT afterimage_turn").await?;
            match session.run(statement).await {
                Ok(_) => {
                    session.run("RELEASE SAVEPOINT afterimage_turn").await?;
                    return Ok(true);
                }
                Err(error) if error.kind() == ErrorKind::Busy && begun.elapsed() < self.patience => {
                    session.run("ROLLBACK TO SAVEPOINT afterimage_turn").await?;
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(longest);
                }
                Err(error) if error.kind() == ErrorKind::Busy => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }
}
