//! The context that a piece of work runs in, for those that begin transactions in it.

use std::future::Future;

use afterimage_core::Context;

tokio::task_local! {
    static CURRENT: Context;
}

/// Runs `work` in a context: what [`begin`](crate::Afterimage::begin) is not told inside it, the context says. Scopes nest;
/// an inner one says what differs.
///
/// It belongs to the task. What `work` spawns is outside of it, unless it takes it along: see [`in_scope`].
///
/// ```
/// # use afterimage::{Context, current, scope};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// scope(Context::actor("nightly job"), async {
///     assert_eq!(current(), Some(Context::actor("nightly job")));
/// })
/// .await;
/// assert_eq!(current(), None);
/// # }
/// ```
pub async fn scope<F: Future>(context: Context, work: F) -> F::Output {
    CURRENT.scope(within_current(&context), work).await
}

/// The context of the scope that this runs in.
pub fn current() -> Option<Context> {
    CURRENT.try_with(Clone::clone).ok()
}

/// `work` that takes the present scope along to wherever it runs: for what is spawned.
///
/// ```
/// # use afterimage::{Context, current, in_scope, scope};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// scope(Context::actor("42"), async {
///     assert_eq!(tokio::spawn(async { current() }).await.unwrap(), None);
///     assert_eq!(tokio::spawn(in_scope(async { current() })).await.unwrap(), Some(Context::actor("42")));
/// })
/// .await;
/// # }
/// ```
pub fn in_scope<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let context = current();
    async move {
        match context {
            Some(context) => CURRENT.scope(context, work).await,
            None => work.await,
        }
    }
}

/// A context inside that of the scope.
pub(crate) fn within_current(context: &Context) -> Context {
    CURRENT.try_with(|current| context.within(current)).unwrap_or_else(|_| context.clone())
}

/// Calls something in a scope.
#[cfg(feature = "tower")]
pub(crate) fn call_in<T>(context: Context, call: impl FnOnce() -> T) -> T {
    CURRENT.sync_scope(context, call)
}

/// A future in a scope.
#[cfg(feature = "tower")]
pub(crate) type InScope<F> = tokio::task::futures::TaskLocalFuture<Context, F>;

/// Puts a future into a scope.
#[cfg(feature = "tower")]
pub(crate) fn put_in<F: Future>(context: Context, work: F) -> InScope<F> {
    CURRENT.scope(context, work)
}
