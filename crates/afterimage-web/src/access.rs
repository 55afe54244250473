//! Who asks, and what they may: the host's users and rights.

use std::sync::Arc;

use afterimage::{Context, Sight, TableName};
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};

/// Something that somebody may do with a table and its history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Act {
    /// See it: without this the table is not there.
    View,
    /// Take its records away as a file.
    Export,
    /// Write old values back.
    Revert,
}

/// What somebody may.
pub trait Rights: Send + Sync {
    /// Whether they may do this with this table.
    fn may(&self, act: Act, table: &TableName) -> bool;

    /// Whether they see the values of this column, of a table that they may view. The columns of a key always are seen.
    fn sees(&self, table: &TableName, column: &str) -> bool {
        let _ = (table, column);
        true
    }
}

/// Rights that are the same for every table; each has those of the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sees everything and takes it away as a file.
    Viewer,
    /// Writes old values back, too.
    Reverter,
    /// Everything there is.
    Admin,
}

impl Rights for Role {
    fn may(&self, act: Act, _table: &TableName) -> bool {
        match act {
            Act::View | Act::Export => true,
            Act::Revert => *self != Self::Viewer,
        }
    }
}

/// Somebody who asks.
#[derive(Clone)]
pub struct Visitor {
    context: Context,
    rights: Arc<dyn Rights>,
    log_out: Option<String>,
}

impl Visitor {
    /// Somebody of these rights. What they write back is recorded with this context: who they are.
    pub fn new(context: Context, rights: impl Rights + 'static) -> Self {
        Self { context, rights: Arc::new(rights), log_out: None }
    }

    /// Where they log out, by a form that is sent there.
    #[must_use]
    pub fn log_out_at(mut self, address: impl Into<String>) -> Self {
        self.log_out = Some(address.into());
        self
    }

    pub(crate) fn log_out(&self) -> Option<&str> {
        self.log_out.as_deref()
    }

    /// Who they are.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// By what they are known.
    pub(crate) fn actor(&self) -> Option<String> {
        self.context.get("actor").and_then(|name| name.as_str()).map(ToOwned::to_owned)
    }

    /// What they are called, for people.
    pub(crate) fn name(&self) -> Option<String> {
        let member = |key: &str| self.context.get(key).and_then(|name| name.as_str()).map(ToOwned::to_owned);
        member("label").or_else(|| member("actor"))
    }

    /// Whether they may do this with this table.
    pub fn may(&self, act: Act, table: &TableName) -> bool {
        self.rights.may(Act::View, table) && self.rights.may(act, table)
    }

    /// Whether they see the values of this column.
    pub(crate) fn sees(&self, table: &TableName, column: &str) -> bool {
        self.rights.sees(table, column)
    }

    /// What they see of the database when they do this.
    pub(crate) fn sight(&self, act: Act) -> Arc<dyn Sight> {
        Arc::new(Seeing { rights: Arc::clone(&self.rights), act })
    }
}

impl std::fmt::Debug for Visitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Visitor").field("context", &self.context).finish_non_exhaustive()
    }
}

/// Of what somebody sees, that with which they may do something.
struct Seeing {
    rights: Arc<dyn Rights>,
    act: Act,
}

impl Sight for Seeing {
    fn sees_table(&self, table: &TableName) -> bool {
        self.rights.may(Act::View, table) && self.rights.may(self.act, table)
    }

    fn sees_column(&self, table: &TableName, column: &str) -> bool {
        self.rights.sees(table, column)
    }
}

/// Why somebody is not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// They have to say who they are, at this address of the host's, where there is one.
    Unknown {
        /// Where to log in.
        log_in: Option<String>,
    },
    /// It is known who they are, and they may not.
    Forbidden,
    /// They had a link that is valid no more.
    Expired,
}

/// The host's users and rights: asked once for each request.
///
/// A function from the head of a request will do:
///
/// ```
/// use afterimage::Context;
/// use afterimage_web::{Refusal, Role, Visitor};
/// use axum::http::request::Parts;
///
/// # #[derive(Clone)]
/// # struct User { id: i64, email: String, staff: bool }
/// fn authorize(request: &Parts) -> Result<Visitor, Refusal> {
///     // What the host's own middleware found out.
///     match request.extensions.get::<User>() {
///         Some(user) if user.staff => {
///             Ok(Visitor::new(Context::actor(user.id.to_string()).label(&user.email), Role::Reverter))
///         }
///         Some(_) => Err(Refusal::Forbidden),
///         None => Err(Refusal::Unknown { log_in: Some("/login".into()) }),
///     }
/// }
/// ```
#[async_trait::async_trait]
pub trait Authorizer: Send + Sync + 'static {
    /// Who asks, and what they may.
    async fn visitor(&self, request: &Parts) -> Result<Visitor, Refusal>;

    /// Somebody by their actor, as they would be let in now: for [links](crate::Web::links) that they made. Nobody, where the host
    /// does not say.
    async fn named(&self, actor: &str) -> Option<Visitor> {
        let _ = actor;
        None
    }
}

#[async_trait::async_trait]
impl<F: Fn(&Parts) -> Result<Visitor, Refusal> + Send + Sync + 'static> Authorizer for F {
    async fn visitor(&self, request: &Parts) -> Result<Visitor, Refusal> {
        self(request)
    }
}
