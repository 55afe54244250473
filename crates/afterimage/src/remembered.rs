//! What was read of the catalogue before, and whether it still stands.
//!
//! Every change of the catalogue gives it another revision, a random one, in the transaction that makes the change. So one
//! small question tells whether what another transaction read is what this one would read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use afterimage_core::sql::catalog as sql;

use crate::catalog::{self, Entry};
use crate::error::Result;
use crate::session::{Cell, Session};
#[cfg(feature = "archive")]
use crate::shelf::Shelves;
use crate::sight::Eyes;

/// All tracked tables, in the order in which they were tracked.
pub(crate) type Entries = Vec<Arc<Entry>>;

/// A revision of the catalogue, where its tables are that are named without a schema, and what it says.
#[derive(Debug, Clone)]
struct Reading {
    revision: String,
    default_schema: Option<String>,
    entries: Entries,
}

/// What a session takes for granted that is in no transaction: the catalogue as it was read last. It may ask one question, which
/// tells whether that still stands.
#[derive(Debug, Clone)]
struct Guess {
    reading: Reading,
    asked: Asked,
}

/// How far the one question has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    NotYet,
    Now,
    /// It was answered, and what was taken for granted stands.
    Answered,
    /// Something else was to be asked, too.
    More,
}

/// What a session remembers of the catalogue.
#[derive(Debug, Clone, Default)]
pub(crate) struct Remembered {
    /// What all sessions of a handle know.
    shared: Arc<Mutex<Option<Reading>>>,
    /// Whether this session's transaction sees one moment and does not write.
    pub(crate) sees_one_moment: bool,
    /// Who asks. What changes the catalogue itself is asked by nobody in particular.
    pub(crate) eyes: Eyes,
    /// Where it sees one moment, it need not ask twice.
    of_this_moment: Option<Entries>,
    /// What was fetched of archives.
    #[cfg(feature = "archive")]
    pub(crate) shelves: Shelves,
    /// Nor where tables are that are named without a schema.
    default_schema: Option<String>,
    guess: Option<Guess>,
    /// Whether its sessions turned out to be set otherwise than a question needs them.
    guesses_no_more: Arc<AtomicBool>,
    /// Whether there turned out to be transactions that took long: which had not ended takes another question then.
    long_ones: Arc<AtomicBool>,
}

impl Remembered {
    fn last(&self) -> Option<Reading> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The schema that a table without one is in, as far as that is known of this moment.
    #[cfg(feature = "postgres")]
    pub(crate) fn default_schema(&self) -> Option<String> {
        self.default_schema.clone()
    }

    /// For a session that is in no transaction, of somebody with these eyes; nothing where nothing was read yet, or sessions are
    /// not as a question needs them.
    pub(crate) fn guessing(self, eyes: Eyes) -> Option<Self> {
        let reading = self.last().filter(|_| !self.guesses_no_more.load(Ordering::Relaxed))?;
        let default_schema = reading.default_schema.clone();
        let guess = Some(Guess { reading, asked: Asked::NotYet });
        Some(Self { sees_one_moment: true, eyes, default_schema, guess, ..self })
    }

    /// Whether this session is in no transaction.
    pub(crate) fn guesses(&self) -> bool {
        self.guess.is_some()
    }

    /// Whether the session may send a statement: one that is in no transaction only its question.
    pub(crate) fn may_ask(&mut self) -> bool {
        let Some(guess) = self.guess.as_mut().filter(|guess| guess.asked != Asked::Now) else { return true };
        guess.asked = Asked::More;
        false
    }

    /// One that is in no transaction would have to ask something else, too.
    pub(crate) fn asks_more(&mut self) {
        if let Some(guess) = &mut self.guess {
            guess.asked = Asked::More;
        }
    }

    /// The handle's sessions are not set as a question needs them that is asked alone.
    pub(crate) fn guesses_no_more(&self) {
        self.guesses_no_more.store(true, Ordering::Relaxed);
    }

    /// Whether it is known that there are transactions that took long.
    pub(crate) fn knows_long_ones(&self) -> bool {
        self.long_ones.load(Ordering::Relaxed)
    }

    /// There are.
    pub(crate) fn learns_of_long_ones(&self) {
        self.long_ones.store(true, Ordering::Relaxed);
    }

    /// Whether its question was answered, and what it took for granted stands, and nothing else was to be asked.
    pub(crate) fn guessed_right(&self) -> bool {
        self.guess.as_ref().is_some_and(|guess| guess.asked == Asked::Answered)
    }

    /// The revision and the schema that its question is to find; nothing where it was asked already.
    pub(crate) fn ask(&mut self) -> Option<[Option<String>; 2]> {
        let guess = self.guess.as_mut()?;
        if guess.asked != Asked::NotYet {
            guess.asked = Asked::More;
            return None;
        }
        guess.asked = Asked::Now;
        Some([Some(guess.reading.revision.clone()), guess.reading.default_schema.clone()])
    }

    /// Its question found them.
    pub(crate) fn answered(&mut self) {
        if let Some(guess) = &mut self.guess {
            guess.asked = Asked::Answered;
        }
    }

    fn keep(&self, reading: Option<Reading>) {
        *self.shared.lock().unwrap_or_else(PoisonError::into_inner) = reading;
    }
}

/// All tracked tables that are there for whoever asks.
pub(crate) async fn entries(session: &mut Session) -> Result<Entries> {
    if let Some(entries) = &session.remembered().of_this_moment {
        return Ok(entries.clone());
    }
    let whole = whole(session).await?;
    let eyes = session.remembered().eyes.clone();
    let entries = eyes.over(session, whole).await?;
    if session.remembered().sees_one_moment {
        session.remembered().of_this_moment = Some(entries.clone());
    }
    Ok(entries)
}

/// All tracked tables, each with what of it is there for whoever asks.
pub(crate) async fn with_seen(session: &mut Session) -> Result<Vec<(Arc<Entry>, Option<Arc<Entry>>)>> {
    let whole = whole(session).await?;
    let eyes = session.remembered().eyes.clone();
    let seen = eyes.over(session, whole.clone()).await?;
    let seen = |entry: &Entry| seen.iter().find(|seen| seen.id == entry.id).cloned();
    Ok(whole.into_iter().map(|entry| (Arc::clone(&entry), seen(&entry))).collect())
}

/// All tracked tables, whoever asks: read anew only where the catalogue has changed since they were read last.
async fn whole(session: &mut Session) -> Result<Entries> {
    if let Some(guess) = &session.remembered().guess {
        return Ok(guess.reading.entries.clone());
    }
    if !session.remembered().sees_one_moment {
        // What a transaction that writes makes of the catalogue may never be committed: it is nobody else's to remember.
        let there = catalog::exists(session).await?;
        return if there { catalog::read(session).await } else { Ok(Entries::new()) };
    }
    let last = session.remembered().last();
    // A catalogue that was there once is hardly gone: only then is it an error that its revision cannot be read.
    if last.is_none() && !catalog::exists(session).await? {
        return Ok(Entries::new());
    }
    let revision = session.answers(&sql::revision(session.dialect())).await;
    let revision = match revision {
        Ok(mut rows) => {
            let mut row = rows.pop().unwrap_or_default();
            session.remembered().default_schema = row.pop().and_then(Cell::text);
            row.pop().and_then(Cell::text)
        }
        Err(error) => {
            session.remembered().keep(None);
            return Err(error);
        }
    };
    let default_schema = session.remembered().default_schema.clone();
    let entries = match (last, &revision) {
        (Some(last), Some(revision)) if last.revision == *revision => {
            if last.default_schema == default_schema {
                return Ok(last.entries);
            }
            last.entries
        }
        _ => catalog::read(session).await?,
    };
    let reading = revision.map(|revision| Reading { revision, default_schema, entries: entries.clone() });
    session.remembered().keep(reading);
    Ok(entries)
}
