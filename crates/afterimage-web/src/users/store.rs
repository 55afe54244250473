//! The file of users.

use std::path::PathBuf;

use afterimage::Moment;
use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use serde::{Deserialize, Serialize};

use crate::access::Role;
use crate::kept::Kept;

/// A shorter password is refused.
const SHORTEST: usize = 10;

/// What is kept where there is none: no password is that.
const NO_PASSWORD: &str = "!";

/// A longer one is not looked at.
pub(super) const LONGEST: usize = 1000;

/// Nor a longer name.
pub(super) const LONGEST_NAME: usize = 100;

/// Why users could not be read or changed.
#[derive(Debug)]
pub struct UsersError(String);

impl UsersError {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    pub(super) fn no_user(name: &str) -> Self {
        Self::new(format!("there is no user {name:?}"))
    }
}

impl From<String> for UsersError {
    fn from(message: String) -> Self {
        Self(message)
    }
}

impl std::fmt::Display for UsersError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsersError {}

/// What somebody may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// What they may do with what they may view.
    pub role: Role,
    /// The tables that they may view, as the service names them; all, where it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tables: Option<Vec<String>>,
    /// Columns whose values they never see, as `table.column`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hidden: Vec<String>,
}

impl Grant {
    /// This role, for every table.
    pub fn new(role: Role) -> Self {
        Self { role, tables: None, hidden: Vec::new() }
    }

    /// The same with no more than this role.
    pub(super) fn narrowed(&self, role: Role) -> Self {
        Self { role: self.role.min(role), ..self.clone() }
    }
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The name they log in with, and by which what they write back is recorded.
    pub name: String,
    /// What they are called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// What they may.
    #[serde(flatten)]
    pub grant: Grant,
    /// Argon2id, as a PHC string.
    password: String,
    /// Tokens for programs of theirs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<Token>,
}

/// A token for a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// What it is called.
    pub name: String,
    /// No more than this, whatever its user may.
    pub role: Role,
    /// Until when it is valid, in microseconds since 1970.
    pub expires: Moment,
    /// SHA-256 of it.
    fingerprint: String,
}

/// A token to be made.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// What it is called.
    pub name: String,
    /// No more than this, whatever its user may.
    pub role: Role,
    /// Until when it is valid.
    pub expires: Moment,
}

impl NewToken {
    pub(super) fn kept(self, fingerprint: String) -> Token {
        Token { name: self.name, role: self.role, expires: self.expires, fingerprint }
    }
}

impl User {
    pub(super) fn new(name: &str, password: Option<&str>, grant: Grant) -> Result<Self, UsersError> {
        let fits = (1..=LONGEST_NAME).contains(&name.chars().count()) && !name.chars().any(char::is_control);
        if !fits || name.trim() != name {
            return Err(UsersError::new(format!("{name:?} cannot be the name of a user")));
        }
        let password = match password {
            Some(password) => hash(password)?,
            None => NO_PASSWORD.to_owned(),
        };
        Ok(Self { name: name.to_owned(), label: None, grant, password, tokens: Vec::new() })
    }

    pub(super) fn without_secrets(self) -> Self {
        let tokens = self.tokens.into_iter().map(|token| Token { fingerprint: String::new(), ..token });
        Self { password: String::new(), tokens: tokens.collect(), ..self }
    }

    pub(super) fn set_hash(&mut self, hash: String) {
        self.password = hash;
    }

    /// What a session of theirs rests on: with another password it ends.
    pub(super) fn password_hash(&self) -> &str {
        &self.password
    }

    pub(super) fn add_token(&mut self, token: Token) -> Result<(), UsersError> {
        if self.tokens.iter().any(|known| known.name == token.name) {
            return Err(UsersError::new(format!("{:?} has a token {:?} already", self.name, token.name)));
        }
        self.tokens.push(token);
        Ok(())
    }

    pub(super) fn revoke_token(&mut self, name: &str) -> Result<(), UsersError> {
        let before = self.tokens.len();
        self.tokens.retain(|token| token.name != name);
        if self.tokens.len() == before {
            return Err(UsersError::new(format!("{:?} has no token {name:?}", self.name)));
        }
        Ok(())
    }

    /// The token of this fingerprint, while it is valid.
    pub(super) fn token_of(&self, fingerprint: &str, now: Moment) -> Option<&Token> {
        self.tokens.iter().find(|token| token.fingerprint == fingerprint && now < token.expires)
    }
}

/// A password as it is kept.
pub(super) fn hash(password: &str) -> Result<String, UsersError> {
    if password.chars().count() < SHORTEST {
        return Err(UsersError::new(format!("a password has {SHORTEST} characters at least")));
    }
    if password.len() > LONGEST {
        return Err(UsersError::new(format!("a password has {LONGEST} bytes at most")));
    }
    let hash = Argon2::default().hash_password(password.as_bytes());
    hash.map(|hash| hash.to_string())
        .map_err(|error| UsersError::new(format!("the password cannot be kept: {error}")))
}

/// Whether this is the password of that hash. Where there is no such user, as much is done as where there is.
pub(super) fn verify(password: &str, hash: Option<&str>) -> bool {
    static NOBODY: std::sync::LazyLock<String> =
        std::sync::LazyLock::new(|| self::hash("nobody has this password").unwrap_or_default());
    if password.len() > LONGEST {
        return false;
    }
    let parsed = PasswordHash::new(hash.unwrap_or(&NOBODY));
    let is =
        parsed.is_ok_and(|parsed| Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok());
    is && hash.is_some()
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    users: Vec<User>,
}

/// The file.
#[derive(Debug)]
pub(super) struct Store(Kept<File>);

impl Store {
    pub(super) fn open(path: PathBuf) -> Result<Self, UsersError> {
        Ok(Self(Kept::open(path)?))
    }

    /// Who there is now.
    pub(super) fn users(&mut self) -> Result<&[User], UsersError> {
        Ok(&self.0.refresh()?.users)
    }

    pub(super) fn change<T>(
        &mut self,
        work: impl FnOnce(&mut Vec<User>) -> Result<T, UsersError>,
    ) -> Result<T, UsersError> {
        self.0.change(|file| work(&mut file.users))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_kept_as_argon2id_and_known_again() {
        let kept = hash("correct horse battery").unwrap();
        assert!(kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{kept}");
        assert!(verify("correct horse battery", Some(&kept)));
        assert!(!verify("correct horse batterx", Some(&kept)));
        assert!(!verify("nobody has this password", None));
        assert!(hash("short").is_err());
    }
}
