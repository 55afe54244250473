//! Who is logged in.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use super::store::User;

/// A session ends so long after it was used last.
const IDLE: Duration = Duration::from_secs(2 * 3600);

/// And so long after it began, however it is used.
const LONGEST: Duration = Duration::from_secs(12 * 3600);

/// 256 bits, as text for addresses.
pub(super) fn random() -> String {
    let mut bytes = [0; 32];
    // An operating system without randomness has no sessions either.
    #[allow(clippy::expect_used, reason = "there is nothing that would be safe to go on with")]
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The bits of such a text.
pub(super) fn bytes(text: &str) -> Option<[u8; 32]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

/// By what a secret is known again, without being kept.
pub(super) fn fingerprint(secret: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(secret.as_bytes()))
}

#[derive(Debug)]
struct Session {
    user: String,
    /// The password with which it began.
    password: String,
    began: Instant,
    used: Instant,
}

/// The sessions there are, by the fingerprints of their cookies.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<String, Session>>);

impl Sessions {
    /// Begins one; gives its cookie.
    pub(super) fn begin(&self, user: &User) -> String {
        let cookie = random();
        let now = Instant::now();
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| session.is_alive(now));
        let password = user.password_hash().to_owned();
        sessions.insert(
            fingerprint(&cookie),
            Session { user: user.name.clone(), password, began: now, used: now },
        );
        cookie
    }

    /// Whose a cookie is, if they still are there with that password; and whether that counts as using it.
    pub(super) fn user_of(&self, cookie: &str, users: &[User], counts: bool) -> Option<User> {
        let now = Instant::now();
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let session = sessions.get_mut(&fingerprint(cookie)).filter(|session| session.is_alive(now))?;
        let known = |user: &&User| user.name == session.user && user.password_hash() == session.password;
        let user = users.iter().find(known)?.clone();
        if counts {
            session.used = now;
        }
        Some(user)
    }

    pub(super) fn end(&self, cookie: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&fingerprint(cookie));
    }
}

impl Session {
    fn is_alive(&self, now: Instant) -> bool {
        now.duration_since(self.used) < IDLE && now.duration_since(self.began) < LONGEST
    }
}
