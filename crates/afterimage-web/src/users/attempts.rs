//! How often somebody may try to log in.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many times in vain, within [`WINDOW`], and the next has to wait.
const MOST: u32 = 5;

/// Of one address more: many people may share it.
const MOST_OF_ADDRESS: u32 = 30;

const WINDOW: Duration = Duration::from_secs(15 * 60);

/// No more names and addresses than this are remembered; the oldest are forgotten first.
const REMEMBERED: usize = 10_000;

/// What was tried in vain of late, by name and by address.
#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<HashMap<String, (u32, Instant)>>);

impl Attempts {
    /// How long it has to be waited before this may be tried.
    pub(super) fn wait(&self, name: &str, address: &str) -> Option<Duration> {
        let now = Instant::now();
        let tried = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = |key: &str, most: u32| {
            let (count, first) = tried.get(key)?;
            let left = WINDOW.checked_sub(now.duration_since(*first))?;
            (*count >= most).then_some(left)
        };
        left(&of_name(name), MOST).max(left(&of_address(address), MOST_OF_ADDRESS))
    }

    /// It was tried in vain.
    pub(super) fn failed(&self, name: &str, address: &str) {
        let now = Instant::now();
        let mut tried = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tried.retain(|_, (_, first)| now.duration_since(*first) < WINDOW);
        if tried.len() >= REMEMBERED
            && let Some(oldest) =
                tried.iter().min_by_key(|(_, (_, first))| *first).map(|(key, _)| key.clone())
        {
            tried.remove(&oldest);
        }
        for key in [of_name(name), of_address(address)] {
            tried.entry(key).or_insert((0, now)).0 += 1;
        }
    }

    /// It was them: what they mistyped before is forgotten.
    pub(super) fn succeeded(&self, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&of_name(name));
    }
}

fn of_name(name: &str) -> String {
    format!("name {name}")
}

fn of_address(address: &str) -> String {
    format!("address {address}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_five_times_in_vain_it_has_to_be_waited_for_that_name_only() {
        let attempts = Attempts::default();
        for _ in 0..5 {
            assert_eq!(attempts.wait("ann", "a"), None);
            attempts.failed("ann", "a");
        }
        assert!(attempts.wait("ann", "b").is_some());
        assert_eq!(attempts.wait("bob", "a"), None);
        for _ in 0..25 {
            attempts.failed("somebody", "a");
        }
        assert!(attempts.wait("bob", "a").is_some());
        attempts.succeeded("ann");
        assert_eq!(attempts.wait("ann", "b"), None);
    }
}
