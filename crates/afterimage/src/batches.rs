//! Transactions one after the other, each as large as others can wait for, with a turn for others between them.

use std::time::{Duration, Instant};

use afterimage_core::Database;

/// How long others may wait for one.
const MOMENT: Duration = Duration::from_millis(50);

/// How long others are left alone after so long a transaction. SQLite's lock knows no queue: who waits for it asks again after 1, 2, 5,
/// 10, 15, 20, 25, 25, 25, 50 and 50 milliseconds, and then every 100. It is as long as those pauses are by then.
fn turn(took: Duration) -> Duration {
    match took.as_millis() {
        0..25 => took,
        25..128 => Duration::from_millis(25),
        128..228 => Duration::from_millis(50),
        _ => Duration::from_millis(100),
    }
}

/// How many rows each takes.
#[derive(Debug)]
pub(crate) struct Batches {
    size: i64,
    largest: i64,
    turns: bool,
    begun: Instant,
    /// When others had their turn.
    due: Instant,
}

impl Batches {
    /// The first takes so many, and none takes more than `largest`.
    pub(crate) fn new(database: Database, first: i64, largest: i64) -> Self {
        let now = Instant::now();
        Self { size: first, largest, turns: database == Database::Sqlite, begun: now, due: now }
    }

    /// Each takes as many, whatever `size` says.
    #[cfg(feature = "archive")]
    pub(crate) fn of(database: Database, many: usize) -> Self {
        let many = i64::try_from(many).unwrap_or(i64::MAX);
        Self::new(database, many, many)
    }

    /// How many rows the next one takes.
    pub(crate) fn size(&self) -> i64 {
        self.size
    }

    /// Waits until others had their turn; the next one begins.
    pub(crate) async fn begin(&mut self) {
        let rest = self.due.saturating_duration_since(Instant::now());
        if !rest.is_zero() {
            tokio::time::sleep(rest).await;
        }
        self.begun = Instant::now();
    }

    /// It has ended: the next takes as many as are done in a moment, going by this one.
    pub(crate) fn end(&mut self) {
        let took = self.begun.elapsed();
        let share = MOMENT.as_secs_f64() / took.as_secs_f64().max(1e-4);
        self.size = ((self.size as f64 * share.clamp(0.25, 2.0)) as i64).max(100).min(self.largest);
        if self.turns {
            self.due = Instant::now() + turn(took);
        }
    }
}
