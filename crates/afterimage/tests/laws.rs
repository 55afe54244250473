//! The laws of the design, as properties of random schemas and random histories.
//!
//! The model is the live table: what plain SQL read after a commit is what the history has to show of that moment,
//! whatever wrote it. `PROPTEST_CASES` asks for more cases: `PROPTEST_CASES=1000 cargo xtask test --test laws` is the long run.
//! Where it does not, a law begins none after some seconds but the first few.

#[path = "support/archived.rs"]
mod archived;
mod support;

#[allow(
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    clippy::unwrap_used,
    clippy::expect_used
)]
mod laws {
    pub mod archive;
    pub mod back;
    pub mod check;
    pub mod kinds;
    pub mod model;
    pub mod print;
    pub mod prune;
    pub mod run;
    pub mod schema;
    pub mod send;
    pub mod writes;
}

use std::cell::Cell;
use std::time::{Duration, Instant};

use afterimage::Database;
use laws::run::{Case, Outcome, REFUSED, World};
use laws::{archive, back, check, prune};
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestCaseError, TestRunner};
use support::TestDb;

/// At most so many cases of a law are tried, where no number is asked for.
const CASES: u32 = 24;
/// So many at least, whatever they take, beside those that failed once.
const AT_LEAST: usize = 8;
/// Others, where they begin in this time.
const BEGIN_WITHIN: Duration = Duration::from_secs(5);

fn cases(database: Database) -> impl Strategy<Value = Case> {
    (laws::schema::schemas(database), laws::writes::steps())
        .prop_map(|(schema, steps)| Case { schema, steps })
}

async fn nothing(_: &mut World) -> Outcome {
    Ok(())
}

/// Runs random histories; `after_each` looks after every transaction, `at_the_end` at the end.
#[allow(clippy::unwrap_used)]
fn property(
    name: &str,
    database: Database,
    after_each: impl AsyncFn(&mut World) -> Outcome,
    at_the_end: impl AsyncFn(&mut World) -> Outcome,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    let kept = format!("tests/laws/kept/{name}.{database}.txt").to_lowercase();
    let lines = std::fs::read_to_string(&kept).unwrap_or_default();
    let at_least = AT_LEAST + lines.lines().filter(|line| line.starts_with("cc ")).count();
    let config = Config {
        cases: asked.unwrap_or(CASES),
        // A case that fails is kept, shrunk, and tried first from then on.
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(Box::leak(kept.into_boxed_str())))),
        max_shrink_iters: 400,
        max_shrink_time: 40_000,
        max_global_rejects: 10_000,
        ..Config::default()
    };
    let (begun, tried, held) = (Instant::now(), Cell::new(0), Cell::new(0));
    let outcome = TestRunner::new(config).run(&cases(database), |case| {
        let enough = held.get() >= at_least && begun.elapsed() > BEGIN_WITHIN;
        // One that failed, or panicked, is made smaller for as long as that takes.
        if asked.is_none() && enough && held.get() == tried.get() {
            return Ok(());
        }
        tried.set(tried.get() + 1);
        let outcome = runtime.block_on(async {
            let db = match database {
                Database::Sqlite => TestDb::sqlite().await,
                Database::MariaDb => TestDb::mariadb().await,
                _ => TestDb::postgres().await,
            };
            let mut world = World::run(db, &case, &after_each).await?;
            at_the_end(&mut world).await
        });
        match outcome {
            Ok(()) => {
                held.set(held.get() + 1);
                Ok(())
            }
            Err(message) if REFUSED.iter().any(|words| message.contains(words)) => {
                tried.set(tried.get() - 1);
                Err(TestCaseError::reject("refused, as documented"))
            }
            Err(message) => Err(TestCaseError::fail(message)),
        }
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

macro_rules! laws {
    ($($(#[$doc:meta])* $name:ident: $after_each:expr, $at_the_end:expr;)*) => {
        $(
            $(#[$doc])*
            mod $name {
                use super::*;

                #[test]
                fn sqlite() {
                    property(stringify!($name), Database::Sqlite, $after_each, $at_the_end);
                }

                #[test]
                fn postgres() {
                    property(stringify!($name), Database::Postgres, $after_each, $at_the_end);
                }

                #[test]
                fn mariadb() {
                    property(stringify!($name), Database::MariaDb, $after_each, $at_the_end);
                }
            }
        )*
    };
}

laws! {
    /// Laws 1, 2, 3.
    every_commit_is_recorded_as_it_is_and_no_rollback_is: check::whole, nothing;
    /// Law 7.
    every_moment_shows_what_was_there: nothing, check::remembered;
    /// Law 8.
    no_moment_shows_a_part_of_a_transaction: nothing, check::undivided;
    /// Laws 4 and 5.
    records_say_whose_they_are_and_stay: nothing, check::attributed;
    /// Law 6.
    records_follow_one_another_to_what_is_there: nothing, check::in_order;
    /// Storage is a matter of cost.
    both_storages_tell_the_same: nothing, check::alike;
    /// Of the log too.
    both_storages_tell_the_same_log: nothing, back::told_alike;
    /// What is written back is what was there.
    a_way_back_leads_to_what_was_there: nothing, back::back;
    /// What is pruned is not what is still asked for.
    pruned_history_is_right_from_the_cut_on: nothing, prune::pruned;
    /// What is archived is what was recorded.
    an_archive_says_what_the_records_say: nothing, archive::archived;
    /// Wherever the records are, the answers are the same.
    what_is_moved_to_an_archive_is_answered_as_before: nothing, archive::moved;
    /// Law 9.
    what_is_not_known_is_said: nothing, check::honest;
}
