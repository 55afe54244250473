//! Events: what a committed transaction changed, told to whoever subscribed.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};

use afterimage_core::{Action, Moment, Query, TableName, Value};
use futures_util::FutureExt as _;
use tokio::sync::{mpsc, oneshot};

use crate::database::Afterimage;
use crate::error::{Error, Result};
use crate::log::{LogEntry, LogQuery};

/// A committed change of one row, as the modules of an application are told it.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelAudited {
    /// The record, as the log shows it.
    pub entry: LogEntry,
}

impl ModelAudited {
    /// The table.
    pub fn table(&self) -> &TableName {
        &self.entry.table
    }

    /// The row's key: columns and values.
    pub fn key(&self) -> &[(String, Value)] {
        &self.entry.key
    }

    /// What happened to the row.
    pub fn action(&self) -> Action {
        self.entry.action()
    }

    /// The columns that changed; all of a creation and a deletion.
    pub fn changed_fields(&self) -> impl Iterator<Item = &str> {
        self.entry.changes.iter().map(|change| change.field.as_str())
    }

    /// Who changed it.
    pub fn actor(&self) -> Option<&str> {
        self.entry.header.user.as_deref()
    }

    /// Why.
    pub fn reason(&self) -> Option<&str> {
        self.entry.header.reason.as_deref()
    }

    /// When.
    pub fn at(&self) -> Moment {
        self.entry.header.date
    }

    /// The id of the request, the job or the trace that it belongs to.
    pub fn correlation_id(&self) -> Option<String> {
        self.entry.header.context_member("correlation_id")
    }
}

/// Why a handler failed.
pub type HandlerError = Box<dyn std::error::Error + Send + Sync>;

type Handling = Pin<Box<dyn Future<Output = Result<(), HandlerError>> + Send>>;

/// Somebody who is told what changed.
pub trait Subscriber: Send + Sync + 'static {
    /// Is told one change. An error or a panic is reported, and harms nobody else; the next change is told all the same.
    fn handle(&self, event: Arc<ModelAudited>) -> Handling;
}

impl<F, H> Subscriber for F
where
    F: Fn(Arc<ModelAudited>) -> H + Send + Sync + 'static,
    H: Future<Output = Result<(), HandlerError>> + Send + 'static,
{
    fn handle(&self, event: Arc<ModelAudited>) -> Handling {
        Box::pin(self(event))
    }
}

/// A handler that failed.
#[derive(Debug)]
#[non_exhaustive]
pub struct Failed {
    /// What it was told.
    pub event: Arc<ModelAudited>,
    /// What it said.
    pub error: HandlerError,
}

type Report = Arc<dyn Fn(Failed) + Send + Sync>;

/// What waits to be told.
enum Told {
    /// A transaction was committed.
    Committed(String),
    /// Somebody waits until everything before is told.
    Settle(oneshot::Sender<()>),
}

/// What waits for one subscriber.
enum Message {
    Event(Arc<ModelAudited>),
    Settle(oneshot::Sender<()>),
}

/// One subscriber's queue.
#[derive(Clone)]
struct Queue {
    table: Option<String>,
    messages: mpsc::UnboundedSender<Message>,
}

/// The subscribers of a handle and its clones.
#[derive(Clone, Default)]
pub(crate) struct Subscribers {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    queues: RwLock<Vec<Queue>>,
    /// What is committed, on its way to the queues; once anybody subscribed.
    committed: RwLock<Option<mpsc::UnboundedSender<Told>>>,
    report: RwLock<Option<Report>>,
}

impl fmt::Debug for Subscribers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscribers").finish_non_exhaustive()
    }
}

impl Subscribers {
    /// Whether anybody wants to know.
    pub(crate) fn any(&self) -> bool {
        read(&self.inner.committed).is_some()
    }

    /// A transaction was committed.
    pub(crate) fn committed(&self, tx: String) {
        if let Some(committed) = read(&self.inner.committed) {
            // Nobody reads on once the runtime that they subscribed in has ended.
            let _ = committed.send(Told::Committed(tx));
        }
    }
}

fn read<T: Clone>(lock: &RwLock<T>) -> T {
    lock.read().unwrap_or_else(PoisonError::into_inner).clone()
}

fn write<T>(lock: &RwLock<T>, change: impl FnOnce(&mut T)) {
    change(&mut lock.write().unwrap_or_else(PoisonError::into_inner));
}

impl Afterimage {
    /// Tells a subscriber every change that a transaction of this handle's (or a clone's) committed: after the commit, never
    /// one that was rolled back, in the order of the records. Each subscriber has a queue and a task of its own, so that a
    /// slow or failing one keeps nobody waiting.
    ///
    /// It is told what [`begin`](Self::begin)'s transactions and the ways back wrote, whatever of it triggers and cascades did
    /// too. What other programs write is in the log; [`follow`](Self::follow) tells that. What has not been told when the
    /// process ends is not told again. While anybody is subscribed, a commit asks the database one thing more.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use afterimage::{Afterimage, Context, ModelAudited, Tracking};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    /// # sqlx::query("CREATE TABLE orders (id INTEGER PRIMARY KEY, status TEXT)").execute(&pool).await?;
    /// # let audit = Afterimage::from_sqlite(pool);
    /// # audit.track("orders", Tracking::new()).await?;
    /// audit.subscribe_to("orders", |event: Arc<ModelAudited>| async move {
    ///     println!("{:?} changed {:?}", event.actor(), event.changed_fields().collect::<Vec<_>>());
    ///     Ok(())
    /// });
    /// let mut tx = audit.begin(&Context::actor("42")).await?;
    /// sqlx::query("INSERT INTO orders VALUES (1, 'open')").execute(tx.sqlite()?).await?;
    /// tx.commit().await?;
    /// audit.events_told().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn subscribe(&self, subscriber: impl Subscriber) {
        self.add_subscriber(None, subscriber);
    }

    /// Tells a subscriber the changes of one table: see [`subscribe`](Self::subscribe).
    pub fn subscribe_to(&self, table: impl Into<String>, subscriber: impl Subscriber) {
        self.add_subscriber(Some(table.into()), subscriber);
    }

    /// Is called for every handler that failed, besides the log.
    pub fn on_failed_handler(&self, report: impl Fn(Failed) + Send + Sync + 'static) {
        write(&self.subscribers.inner.report, |slot| *slot = Some(Arc::new(report)));
    }

    /// Waits until everything that is committed by now has been told.
    pub async fn events_told(&self) {
        let Some(committed) = read(&self.subscribers.inner.committed) else { return };
        let (settled, wait) = oneshot::channel();
        if committed.send(Told::Settle(settled)).is_ok() {
            let _ = wait.await;
        }
    }

    fn add_subscriber(&self, table: Option<String>, subscriber: impl Subscriber) {
        let inner = &self.subscribers.inner;
        let (messages, waiting) = mpsc::unbounded_channel();
        write(&inner.queues, |queues| queues.push(Queue { table, messages }));
        tokio::spawn(work(waiting, Arc::new(subscriber), Arc::downgrade(inner)));
        write(&inner.committed, |slot| {
            if slot.is_none() {
                let (committed, waiting) = mpsc::unbounded_channel();
                *slot = Some(committed);
                // Without the subscribers: when the last handle goes, the queue closes, and the task ends.
                let reader = self.without_subscribers();
                tokio::spawn(dispatch(reader, waiting, Arc::downgrade(inner)));
            }
        });
    }
}

/// Reads what was committed, and puts it into the queues.
async fn dispatch(
    audit: Afterimage,
    mut waiting: mpsc::UnboundedReceiver<Told>,
    inner: std::sync::Weak<Inner>,
) {
    while let Some(told) = waiting.recv().await {
        let Some(inner) = inner.upgrade() else { return };
        match told {
            Told::Committed(tx) => match entries(&audit, tx).await {
                Ok(entries) => {
                    let queues = read(&inner.queues);
                    for entry in entries {
                        let event = Arc::new(ModelAudited { entry });
                        for queue in &queues {
                            if queue.wants(event.table()) {
                                let _ = queue.messages.send(Message::Event(Arc::clone(&event)));
                            }
                        }
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "a committed transaction could not be read, its events are not told")
                }
            },
            Told::Settle(settled) => {
                for queue in read(&inner.queues) {
                    let (done, wait) = oneshot::channel();
                    if queue.messages.send(Message::Settle(done)).is_ok() {
                        let _ = wait.await;
                    }
                }
                let _ = settled.send(());
            }
        }
    }
}

impl Queue {
    fn wants(&self, table: &TableName) -> bool {
        self.table.as_ref().is_none_or(|wanted| *wanted == table.name || *wanted == table.to_string())
    }
}

/// What a transaction wrote, oldest first.
async fn entries(audit: &Afterimage, tx: String) -> Result<Vec<LogEntry>, Error> {
    let mut query = Query::default();
    query.transactions.wanted.push(tx);
    let mut entries = audit.log(&LogQuery::from(query)).await?.entries;
    entries.reverse();
    Ok(entries)
}

/// Tells one subscriber, one change after the other.
async fn work(
    mut waiting: mpsc::UnboundedReceiver<Message>,
    subscriber: Arc<dyn Subscriber>,
    inner: std::sync::Weak<Inner>,
) {
    while let Some(message) = waiting.recv().await {
        let event = match message {
            Message::Event(event) => event,
            Message::Settle(done) => {
                let _ = done.send(());
                continue;
            }
        };
        let handling = std::panic::AssertUnwindSafe(async { subscriber.handle(Arc::clone(&event)).await });
        let error = match handling.catch_unwind().await {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => error,
            Err(panic) => format!("it panicked: {}", said(panic.as_ref())).into(),
        };
        tracing::error!(%error, table = %event.table(), "a handler of events failed");
        let report = inner.upgrade().and_then(|inner| read(&inner.report));
        if let Some(report) = report {
            report(Failed { event, error });
        }
    }
}

fn said(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a word")
}
