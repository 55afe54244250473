//! How often somebody may try to log in.

use std::collections::HashMap;
use std::net::IpAddr;
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
    /// Tries, and counts it, as if it were in vain: many that come at once are no way around it. How long it has to be waited,
    /// where it may not be tried.
    pub(super) fn begin(&self, name: &str, address: Option<IpAddr>) -> Result<(), Duration> {
        let now = Instant::now();
        let mut tried = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = |key: &str, most: u32| {
            let (count, first) = tried.get(key)?;
            let left = WINDOW.checked_sub(now.duration_since(*first))?;
            (*count >= most).then_some(left)
        };
        let of_address = address.map(of_address);
        let of_address = of_address.as_deref();
        if let Some(left) =
            left(&of_name(name), MOST).max(of_address.and_then(|key| left(key, MOST_OF_ADDRESS)))
        {
            return Err(left);
        }
        tried.retain(|_, (_, first)| now.duration_since(*first) < WINDOW);
        while tried.len() + 2 > REMEMBERED {
            // Whoever has to wait is not forgotten for the sake of others.
            let harmless = tried.iter().filter(|(_, (count, _))| *count < MOST);
            match harmless.min_by_key(|(_, (_, first))| *first).map(|(key, _)| key.clone()) {
                Some(oldest) => tried.remove(&oldest),
                None => return Err(WINDOW),
            };
        }
        for key in std::iter::once(of_name(name)).chain(of_address.map(ToOwned::to_owned)) {
            tried.entry(key).or_insert((0, now)).0 += 1;
        }
        Ok(())
    }

    /// It was them: what they mistyped before is forgotten.
    pub(super) fn succeeded(&self, name: &str, address: Option<IpAddr>) {
        let mut tried = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tried.remove(&of_name(name));
        if let Some((count, _)) = address.and_then(|address| tried.get_mut(&of_address(address))) {
            *count = count.saturating_sub(1);
        }
    }
}

fn of_name(name: &str) -> String {
    format!("name {name}")
}

fn of_address(address: IpAddr) -> String {
    // Of version 6, whoever has one address has all of its network.
    match address {
        IpAddr::V4(address) => format!("address {address}"),
        IpAddr::V6(address) => format!("network {:x?}", &address.segments()[..4]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_five_times_in_vain_it_has_to_be_waited_for_that_name_only() {
        let attempts = Attempts::default();
        let (a, b) = (Some(IpAddr::from([192, 0, 2, 1])), Some(IpAddr::from([192, 0, 2, 2])));
        for _ in 0..5 {
            assert_eq!(attempts.begin("ann", a), Ok(()));
        }
        assert!(attempts.begin("ann", b).is_err());
        for n in 0..25 {
            assert_eq!(attempts.begin(&format!("somebody {n}"), a), Ok(()));
        }
        assert!(attempts.begin("bob", a).is_err());
        // Whoever is right does not use up what others of that address may get wrong.
        attempts.succeeded("somebody 3", a);
        assert_eq!(attempts.begin("bob", a), Ok(()));
        attempts.succeeded("ann", a);
        assert_eq!(attempts.begin("ann", b), Ok(()));
        let other = |last: u16| Some(IpAddr::from([0x2001, 0xdb8, 0, 7, 0, 0, 0, last]));
        for n in 0..30u16 {
            assert_eq!(attempts.begin(&format!("six {n}"), other(n)), Ok(()));
        }
        assert!(attempts.begin("six", other(99)).is_err());
        // Behind a proxy that says nothing, everybody has its address.
        for n in 0..100 {
            assert_eq!(attempts.begin(&format!("n{n}"), None), Ok(()));
        }
    }
}
