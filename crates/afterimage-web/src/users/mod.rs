//! Users of its own, for where there is no host that has them: kept in a file beside the service, never in the database
//! that is looked at, so that its role there need not write.
//!
//! Passwords are kept as Argon2id hashes, tokens as SHA-256 hashes of what is random anyway. Sessions are in memory: whoever
//! restarts the service logs everybody out. A file that others can read is refused.

mod attempts;
mod log_in;
mod proxy;
mod sessions;
mod store;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use afterimage::{Context, Moment, TableName};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};

pub use proxy::{IpNet, Proxy};
pub use store::{Grant, NewToken, Token, User, UsersError};

use crate::access::{Act, Authorizer, Refusal, Rights, Visitor};
use crate::kept::Kept;
use attempts::Attempts;
use sessions::Sessions;
use store::Store;

/// The cookie of a session. Its prefix makes browsers refuse one that is set from elsewhere, or without TLS; that of this
/// machine itself counts as safe.
const COOKIE: &str = "__Host-afterimage";

/// What a token begins with, so that one that was published by mistake is found.
const TOKEN_PREFIX: &str = "afterimage_";

/// The users of a file, and who of them is logged in.
#[derive(Clone)]
pub struct Users {
    inner: Arc<Inner>,
    proxy: Arc<Proxy>,
}

struct Inner {
    store: Mutex<Store>,
    sessions: Sessions,
    attempts: Attempts,
    /// So many passwords are looked at together: each takes memory and a moment.
    hashing: tokio::sync::Semaphore,
    /// So many more wait for that; whoever comes then is told to come again.
    waiting: tokio::sync::Semaphore,
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Users").finish_non_exhaustive()
    }
}

impl Users {
    /// The users of a file; none, where it is not there yet.
    pub fn open(file: impl Into<PathBuf>) -> Result<Self, UsersError> {
        let store = Store::open(file.into())?;
        Ok(Self {
            inner: Arc::new(Inner {
                store: Mutex::new(store),
                sessions: Sessions::default(),
                attempts: Attempts::default(),
                hashing: tokio::sync::Semaphore::new(2),
                waiting: tokio::sync::Semaphore::new(32),
            }),
            proxy: Arc::default(),
        })
    }

    /// A key for [links](crate::Web::links), kept in a file, which is made where it is missing: without it all links end.
    pub fn link_key(file: impl Into<PathBuf>) -> Result<[u8; 32], UsersError> {
        let mut kept = Kept::<String>::open(file.into())?;
        if kept.refresh()?.is_empty() {
            kept.change(|key| {
                *key = sessions::random();
                Ok::<_, String>(())
            })?;
        }
        sessions::bytes(kept.refresh()?).ok_or_else(|| UsersError::new("the key of links is not one"))
    }

    /// The same behind proxies.
    #[must_use]
    pub fn behind(mut self, proxy: Proxy) -> Self {
        self.proxy = Arc::new(proxy);
        self
    }

    /// What the file says now.
    fn current(&self) -> Result<Vec<User>, UsersError> {
        let mut store = self.inner.store.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(store.users()?.to_vec())
    }

    fn change<T>(&self, work: impl FnOnce(&mut Vec<User>) -> Result<T, UsersError>) -> Result<T, UsersError> {
        let mut store = self.inner.store.lock().unwrap_or_else(PoisonError::into_inner);
        store.change(work)
    }

    /// Everybody, without what is secret of them.
    pub fn list(&self) -> Result<Vec<User>, UsersError> {
        Ok(self.current()?.into_iter().map(User::without_secrets).collect())
    }

    /// Adds somebody who logs in with this password; without one, a proxy has to name them, or they have tokens only.
    pub fn add(
        &self,
        name: &str,
        label: Option<&str>,
        password: Option<&str>,
        grant: Grant,
    ) -> Result<(), UsersError> {
        let mut user = User::new(name, password, grant)?;
        user.label = label.map(ToOwned::to_owned);
        self.change(|users| {
            if users.iter().any(|known| known.name == user.name) {
                return Err(UsersError::new(format!("there is a user {name:?} already")));
            }
            users.push(user);
            Ok(())
        })
    }

    /// Removes somebody: sessions and tokens of theirs end at once.
    pub fn remove(&self, name: &str) -> Result<(), UsersError> {
        self.change(|users| {
            let before = users.len();
            users.retain(|user| user.name != name);
            if users.len() == before { Err(UsersError::no_user(name)) } else { Ok(()) }
        })
    }

    /// Gives somebody another password: sessions that began with the old one end.
    pub fn set_password(&self, name: &str, password: &str) -> Result<(), UsersError> {
        let hash = store::hash(password)?;
        self.change(|users| {
            let user = users.iter_mut().find(|user| user.name == name);
            user.ok_or_else(|| UsersError::no_user(name))?.set_hash(hash);
            Ok(())
        })
    }

    /// Gives somebody a token for programs, and what it is: it is told only now.
    pub fn add_token(&self, name: &str, token: NewToken) -> Result<String, UsersError> {
        let secret = format!("{TOKEN_PREFIX}{}", sessions::random());
        let kept = token.kept(sessions::fingerprint(&secret));
        self.change(|users| {
            let user = users.iter_mut().find(|user| user.name == name);
            user.ok_or_else(|| UsersError::no_user(name))?.add_token(kept)
        })?;
        Ok(secret)
    }

    /// Takes a token of somebody's away.
    pub fn revoke_token(&self, name: &str, token: &str) -> Result<(), UsersError> {
        self.change(|users| {
            let user = users.iter_mut().find(|user| user.name == name);
            user.ok_or_else(|| UsersError::no_user(name))?.revoke_token(token)
        })
    }

    /// Somebody by their name: of the file, or else whom a proxy may name.
    fn known(&self, name: &str) -> Result<Option<User>, UsersError> {
        match self.current()?.into_iter().find(|user| user.name == name) {
            Some(user) => Ok(Some(user)),
            None => self.proxy.others().map(|role| User::new(name, None, Grant::new(role))).transpose(),
        }
    }

    /// Whose session or token a request has, or whom a trusted proxy names.
    fn of_request(&self, head: &Parts) -> Result<Option<Entered>, UsersError> {
        let entered = |user: User| Entered { grant: user.grant.clone(), by_session: false, user };
        let headers = &head.headers;
        if let Some(secret) = bearer(headers) {
            let fingerprint = sessions::fingerprint(secret);
            let found = self.current()?.into_iter().find_map(|user| {
                let token = user.token_of(&fingerprint, Moment::now())?.clone();
                let grant = user.grant.narrowed(token.role);
                Some(Entered { grant, ..entered(user) })
            });
            return Ok(found);
        }
        if let Some(name) = self.proxy.user(head) {
            let known = self.known(name)?;
            if known.is_none() {
                tracing::warn!(target: "afterimage::access", name, "a user whom nobody added was refused");
            }
            return Ok(known.map(entered));
        }
        let Some(cookie) = cookie(headers) else { return Ok(None) };
        let users = self.current()?;
        // What a page asks for of its own accord is not somebody's being there.
        let alone = head.uri.path() == "/new";
        let user = self.inner.sessions.user_of(cookie, &users, !alone);
        Ok(user.map(|user| Entered { by_session: true, ..entered(user) }))
    }
}

/// Somebody who was let in.
struct Entered {
    user: User,
    /// What they may by this.
    grant: Grant,
    /// Whether they logged in, so that they can log out.
    by_session: bool,
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(';')).find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == COOKIE).then_some(value)
    })
}

impl Rights for Grant {
    fn may(&self, act: Act, table: &TableName) -> bool {
        let name = table.to_string();
        self.tables.as_ref().is_none_or(|tables| tables.contains(&name)) && self.role.may(act, table)
    }

    fn sees(&self, table: &TableName, column: &str) -> bool {
        let name = format!("{table}.{column}").to_lowercase();
        // The schema, and how it is written, are no way around it.
        let is_it = |hidden: &String| {
            let hidden = hidden.to_lowercase();
            hidden == name
                || table.schema.is_none()
                    && hidden.strip_suffix(&name).is_some_and(|schema| schema.ends_with('.'))
        };
        !self.hidden.iter().any(is_it)
    }
}

#[async_trait::async_trait]
impl Authorizer for Users {
    async fn named(&self, actor: &str) -> Option<Visitor> {
        let user = self.known(actor).ok()??;
        Some(Visitor::new(Context::actor(actor), user.grant))
    }

    async fn visitor(&self, request: &Parts) -> Result<Visitor, Refusal> {
        let by_token = request.headers.contains_key(header::AUTHORIZATION);
        match self.of_request(request) {
            Ok(Some(Entered { user, grant, by_session })) => {
                let mut context = Context::actor(&user.name);
                if let Some(label) = &user.label {
                    context = context.label(label);
                }
                if let Some(address) = self.proxy.client(request) {
                    context = context.remote_addr(address.to_string());
                }
                let visitor = Visitor::new(context, grant);
                Ok(if by_session { visitor.log_out_at("/logout") } else { visitor })
            }
            Ok(None) => {
                if by_token {
                    tracing::warn!(target: "afterimage::access", path = request.uri.path(), "an unknown token was refused");
                }
                Err(Refusal::Unknown { log_in: Some(log_in::address(&request.uri)) })
            }
            Err(error) => {
                tracing::error!(%error, "the users cannot be read");
                Err(Refusal::Forbidden)
            }
        }
    }
}
