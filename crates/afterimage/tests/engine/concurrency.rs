//! Many writers at once: money moves between accounts, and at no moment is any of it lost or made (laws 2, 6, 7, 8).

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::support::*;
use afterimage::{Action, Afterimage, Moment, PointInTime, Storage, Tracking, Value, Version};
use sqlx::PgConnection;

const ACCOUNTS: i64 = 12;
const EACH: i64 = 1_000;

async fn run(connection: &mut PgConnection, sql: String) -> bool {
    run_on(connection, &sql).await.is_ok()
}

fn now_from(text: &str) -> i64 {
    text.parse().unwrap()
}

/// Sums what an as-of shows of both tables: money lies in accounts, or on the way as a note. Every third row is asked for by itself,
/// too.
async fn total(db: &TestDb, at: &PointInTime) -> i64 {
    let mut sum = 0;
    for table in ["account", "note"] {
        for (n, row) in db.as_of(table, at.clone()).await.iter().enumerate() {
            sum += row["amount"].as_i64().unwrap();
            if n % 3 == 0 {
                let key = row["id"].as_str().map_or_else(|| row["id"].to_string(), str::to_owned);
                let version = db.audit.show(table, &key, at).await.unwrap();
                assert_eq!(
                    number(field(&version, "amount")),
                    row["amount"].as_i64().unwrap(),
                    "{table} {key}"
                );
                assert_ne!(version.header.action, Action::Delete);
            }
        }
    }
    sum
}

/// `pause` keeps some transactions open for so long between their two halves.
async fn money_moves(storage: Storage, pause: Duration, rounds: u64, isolation: &str) {
    let mut db = TestDb::postgres().await;
    db.run("CREATE TABLE account (id int PRIMARY KEY, amount bigint NOT NULL); CREATE TABLE note (id text PRIMARY KEY, amount bigint NOT NULL)").await;
    db.run(&format!("INSERT INTO account SELECT i, {EACH} FROM generate_series(1, {ACCOUNTS}) AS i")).await;
    db.track("account", Tracking::new().storage(storage)).await;
    db.track("note", Tracking::new().storage(storage)).await;
    let begun =
        now_from(&db.text("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint").await.unwrap());
    let mut writers = Vec::new();
    for writer in 0..4_u64 {
        let mut connection = db.another().await;
        assert!(run(&mut connection, "SET deadlock_timeout = '20ms'".into()).await);
        let isolation = isolation.to_owned();
        writers.push(tokio::spawn(async move {
            let mut seed = writer + 1;
            let mut moved = 0;
            for round in 0..rounds {
                let mut next = |below: i64| {
                    seed = (seed * 48_271) % 2_147_483_647;
                    i64::try_from(seed).unwrap() % below
                };
                let (from, to, amount) = (next(ACCOUNTS) + 1, next(ACCOUNTS) + 1, next(50) + 1);
                let note = format!("{writer}-{round}");
                let wait = if next(4) == 0 { pause } else { Duration::ZERO };
                let halves = match next(4) {
                    // Straight across; by way of a note that stays until the next transaction, or goes with it.
                    0 => [
                        format!("UPDATE account SET amount = amount - {amount} WHERE id = {from}"),
                        format!("INSERT INTO note VALUES ('{note}', {amount})"),
                    ],
                    1 => [
                        format!("INSERT INTO note VALUES ('{note}', {amount})"),
                        format!("UPDATE account SET amount = amount - {amount} WHERE id = {from}; UPDATE note SET id = id || '!' WHERE id = '{note}'; UPDATE note SET amount = amount + 1 WHERE id = '{note}!'; UPDATE account SET amount = amount - 1 WHERE id = {to}"),
                    ],
                    2 => [
                        format!("UPDATE account SET amount = amount - {amount} WHERE id = {from}; SAVEPOINT s; DELETE FROM account; ROLLBACK TO s"),
                        format!("UPDATE account SET amount = amount + {amount} WHERE id = {to}"),
                    ],
                    _ => [
                        format!("WITH gone AS (DELETE FROM note WHERE id IN (SELECT id FROM note WHERE id LIKE '{writer}-%' LIMIT 1) RETURNING amount) UPDATE account SET amount = amount + coalesce((SELECT sum(amount) FROM gone), 0) WHERE id = {to}"),
                        format!("INSERT INTO account VALUES ({from}, 0) ON CONFLICT (id) DO UPDATE SET amount = account.amount"),
                    ],
                };
                let [first, second] = halves;
                let mut fine = run(&mut connection, format!("BEGIN ISOLATION LEVEL {isolation}; {first}")).await;
                tokio::time::sleep(wait).await;
                fine = fine && run(&mut connection, second).await;
                // Deadlocks and serialization failures are rolled back, as anybody would.
                let end = if fine && next(10) > 0 { "COMMIT" } else { "ROLLBACK" };
                moved += u64::from(run(&mut connection, end.into()).await && end == "COMMIT");
            }
            moved
        }));
    }
    let mut moved = 0;
    for writer in writers {
        moved += writer.await.unwrap();
    }
    assert!(moved > rounds, "{moved} transactions of {} committed", rounds * 4);
    db.verify().await;
    let ended =
        now_from(&db.text("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint").await.unwrap());
    // Every moment at which something was recorded, and moments in between.
    let mut moments: Vec<i64> = db
        .lines("SELECT DISTINCT ((extract(epoch FROM history_date) * 1000000)::bigint)::text FROM (SELECT history_date FROM account_history UNION SELECT history_date FROM note_history) AS h ORDER BY 1")
        .await
        .iter()
        .map(|line| now_from(line))
        .filter(|moment| *moment > begun)
        .collect();
    let step = moments.len() / 40 + 1;
    moments = moments.into_iter().step_by(step).flat_map(|moment| [moment - 1, moment, moment + 1]).collect();
    moments.extend((0..15).map(|n| begun + (ended - begun) * n / 15));
    for moment in moments {
        let at = PointInTime::At(Moment::from_micros(moment.max(begun)));
        assert_eq!(total(&db, &at).await, ACCOUNTS * EACH, "{storage:?}, {isolation}, at {moment}");
    }
    // And right after any transaction.
    let transactions = db
        .lines("SELECT DISTINCT history_tx::text FROM account_history WHERE history_date > (SELECT since FROM afterimage.tracked WHERE table_name = 'account')")
        .await;
    for tx in transactions.iter().step_by(transactions.len() / 25 + 1) {
        assert_eq!(total(&db, &PointInTime::After(tx.clone())).await, ACCOUNTS * EACH, "after {tx}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_made_at_any_moment() {
    for storage in [Storage::Snapshot, Storage::Delta] {
        money_moves(storage, Duration::from_millis(15), 40, "READ COMMITTED").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_above_read_committed() {
    money_moves(Storage::Snapshot, Duration::from_millis(5), 40, "REPEATABLE READ").await;
    money_moves(Storage::Delta, Duration::from_millis(5), 40, "SERIALIZABLE").await;
}

/// A transaction that lasts over a second says so in its records, and is found by that.
#[tokio::test(flavor = "multi_thread")]
async fn nor_while_transactions_are_long() {
    money_moves(Storage::Snapshot, Duration::from_millis(1_300), 8, "READ COMMITTED").await;
}

const WRITERS: u64 = 16;
const SHARED: u64 = 8;
const IN_EACH: i64 = 10_000;

/// What is in the accounts, and in the purses, which are empty at first.
const ALL_MONEY: i64 = SHARED as i64 * IN_EACH;

/// An account that is given another number has this one added to its own.
const ELSEWHERE: u64 = 100;

/// The same throws for the same transaction, however often it is tried.
struct Dice(u64);

impl Dice {
    fn of(writer: u64, round: u64) -> Self {
        Self(writer * 1_000 + round)
    }

    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

enum Step {
    /// A statement, and how many rows it has to meet.
    Write(String, u64),
    Run(&'static str),
    Pause(Duration),
}

/// What one transaction does between its context and its end. Whatever changes a row also counts its turn and leaves the
/// transaction's name in it: the order of turns and the name are the database's own word, without us.
fn steps(dice: &mut Dice, writer: u64, name: &str) -> Vec<Step> {
    let from = dice.below(SHARED) + 1;
    let to = (from + dice.below(SHARED - 1)) % SHARED + 1;
    let amount = dice.below(50) + 2;
    let pause = match dice.below(4) {
        0 => Step::Pause(Duration::from_millis(20 + dice.below(21))),
        _ => Step::Run("SELECT 1"),
    };
    let signed = format!("turn = turn + 1, moved_by = '{name}'");
    let add = |table: &str, amount: &str, id: u64| {
        Step::Write(format!("UPDATE {table} SET amount = amount {amount}, {signed} WHERE id = {id}"), 1)
    };
    let take = add("account", &format!("- {amount}"), from);
    let give = add("account", &format!("+ {}", amount - 1), to);
    let fee = add("purse", "+ 1", writer);
    let renumber = |sign: &str, id: u64, amount: u64| {
        Step::Write(
            format!(
                "UPDATE account SET id = id {sign} {ELSEWHERE}, amount = amount - {amount}, {signed} WHERE id = {id}"
            ),
            1,
        )
    };
    match dice.below(6) {
        0 => vec![take, pause, give, fee],
        1 => vec![fee, take, pause, give],
        // What is taken back to a savepoint has its locks, and nothing else.
        2 => vec![
            take,
            Step::Run("SAVEPOINT here"),
            Step::Write(format!("UPDATE account SET amount = 0, {signed} WHERE id IN ({from}, {to})"), 2),
            Step::Run("ROLLBACK TO here"),
            pause,
            fee,
            Step::Run("SAVEPOINT here"),
            give,
        ],
        // Both in one statement.
        3 | 4 => vec![
            fee,
            pause,
            Step::Write(
                format!(
                    "UPDATE account SET amount = amount + CASE id WHEN {from} THEN -{amount} ELSE {} END, {signed} WHERE id IN ({from}, {to})",
                    amount - 1
                ),
                2,
            ),
        ],
        // Away and back under its old number.
        _ => vec![renumber("+", from, 0), pause, renumber("-", from + ELSEWHERE, 1), fee],
    }
}

/// A connection that knows nothing of the library, and follows the public contract.
struct Client {
    connection: Writer,
    writer: u64,
}

/// Why a transaction is rolled back and tried again.
enum Again {
    Refused(sqlx::Error),
    /// The row was on its way to another number.
    NotThere,
}

impl From<sqlx::Error> for Again {
    fn from(error: sqlx::Error) -> Self {
        Self::Refused(error)
    }
}

impl Client {
    async fn connect(db: &TestDb, writer: u64) -> Self {
        let connection = Writer::connect(db.audit.database(), &db.url).await;
        let mut client = Self { connection, writer };
        if let Writer::Postgres(_) = client.connection {
            client.run("SET deadlock_timeout = '20ms'").await.unwrap();
        }
        client
    }

    async fn run(&mut self, sql: &str) -> Result<u64, sqlx::Error> {
        self.connection.run(sql).await
    }

    async fn begin(&mut self, first_try: bool) -> Result<(), sqlx::Error> {
        let isolation = match self.writer % 4 {
            1 => "REPEATABLE READ",
            3 => "SERIALIZABLE",
            _ => "READ COMMITTED",
        };
        match &self.connection {
            Writer::Postgres(_) => self.run(&format!("BEGIN ISOLATION LEVEL {isolation}")).await?,
            Writer::MariaDb(_) => {
                self.run(&format!("SET TRANSACTION ISOLATION LEVEL {isolation}")).await?;
                self.run("START TRANSACTION").await?
            }
            // Whoever reads before it writes may find that another wrote meanwhile.
            Writer::Sqlite(_) if self.writer % 4 == 1 && first_try => {
                self.run("BEGIN; SELECT count(*) FROM account").await?
            }
            Writer::Sqlite(_) => self.run("BEGIN IMMEDIATE").await?,
        };
        Ok(())
    }

    async fn set_context(&mut self, reason: &str) -> Result<(), sqlx::Error> {
        let actor = self.writer;
        let set = match &self.connection {
            Writer::Postgres(_) => format!(
                "SELECT set_config('afterimage.context', '{{\"actor\":\"{actor}\",\"reason\":\"{reason}\"}}', true)"
            ),
            _ => format!("INSERT INTO afterimage_context (actor, reason) VALUES ('{actor}', '{reason}')"),
        };
        self.run(&set).await.map(drop)
    }

    async fn commit(&mut self, forgets: bool) -> Result<(), sqlx::Error> {
        match &self.connection {
            Writer::Sqlite(_) => self.run("DELETE FROM afterimage_context").await?,
            // A forgotten one is harmless there.
            Writer::MariaDb(_) if !forgets => self.run("DELETE FROM afterimage_context").await?,
            _ => 0,
        };
        self.run("COMMIT").await.map(drop)
    }

    /// Whether it is committed; it may also want to be rolled back.
    async fn attempt(&mut self, round: u64, attempt: u64, name: &str) -> Result<bool, Again> {
        let mut dice = Dice::of(self.writer, round);
        self.begin(attempt == 0).await?;
        self.set_context(name).await?;
        for step in steps(&mut dice, self.writer, name) {
            match step {
                Step::Write(sql, rows) if self.run(&sql).await? != rows => return Err(Again::NotThere),
                Step::Write(..) => {}
                Step::Run(sql) => drop(self.run(sql).await?),
                Step::Pause(duration) => tokio::time::sleep(duration).await,
            }
        }
        if dice.below(8) == 0 {
            self.run("ROLLBACK").await?;
            return Ok(false);
        }
        self.commit(dice.below(3) == 0).await?;
        Ok(true)
    }

    /// The names of what it committed, and how often it had to try again.
    async fn work(mut self, audit: Afterimage, rounds: u64) -> (Vec<String>, u64) {
        let (mut committed, mut retries) = (Vec::new(), 0);
        for round in 0..rounds {
            for attempt in 0.. {
                let name = format!("{}-{round}-{attempt}", self.writer);
                match self.attempt(round, attempt, &name).await {
                    Ok(true) => committed.push(name),
                    Ok(false) => {}
                    Err(Again::Refused(error)) if !is_passing(&error) => panic!("{name}: {error}"),
                    Err(_) => {
                        // Where it was refused at once, or ended as a whole, there is nothing to roll back.
                        let _ = self.run("ROLLBACK").await;
                        retries += 1;
                        assert!(attempt < 1_000, "{name} is never done");
                        continue;
                    }
                }
                break;
            }
            if round % 8 == 7 {
                for at in [PointInTime::Now, now()] {
                    assert_eq!(money(&audit, &at).await, ALL_MONEY, "while others write, {at:?}");
                }
            }
        }
        (committed, retries)
    }
}

/// A deadlock, a serialization failure, a lock that another has.
fn is_passing(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    matches!(code.as_deref(), Some("40001" | "40P01" | "5" | "517"))
}

/// All money of both tables, read in one transaction.
async fn money(audit: &Afterimage, at: &PointInTime) -> i64 {
    let mut sum = 0;
    for state in audit.as_of_tables(&["account", "purse"], at).await.unwrap() {
        let amount = state.columns.iter().position(|column| column == "amount").unwrap();
        sum += state.rows.iter().map(|row| number(&row[amount])).sum::<i64>();
    }
    sum
}

fn number(value: &Value) -> i64 {
    value.to_string().parse().unwrap()
}

fn field<'v>(version: &'v Version, name: &str) -> &'v Value {
    &version.row.iter().find(|(field, _)| field == name).unwrap().1
}

/// The versions follow one another as the row's own turns do, and each carries the context of who made it.
fn assert_is_in_order(versions: &[Version]) {
    for version in &versions[1..] {
        let header = &version.header;
        let reason = header.reason.as_deref().expect("every transaction has a context");
        let writer = reason.split('-').next();
        assert_eq!(header.user.as_deref(), writer, "{header:?}");
        if header.action != Action::Delete {
            assert_eq!(field(version, "moved_by").to_string(), reason, "{header:?}");
        }
    }
    for pair in versions.windows(2) {
        let (before, after) = (&pair[0], &pair[1]);
        let position = |version: &Version| (version.header.date, version.header.id);
        assert!(position(before) < position(after), "{:?} and {:?}", before.header, after.header);
        let turns = number(field(after, "turn")) - number(field(before, "turn"));
        match after.header.action {
            Action::Update => {
                assert_eq!(turns, 1, "{before:?}\n{after:?}");
                for change in &after.changes {
                    assert_eq!(&change.old, field(before, &change.field), "{before:?}\n{after:?}");
                }
            }
            Action::Delete => assert_eq!(before.row, after.row),
            // Two turns happened under its other number, in the same transaction.
            Action::Create => {
                assert_eq!(turns, 2, "{before:?}\n{after:?}");
                assert_eq!(before.header.action, Action::Delete);
                assert_eq!(before.header.reason, after.header.reason);
            }
        }
    }
}

/// Every moment at which something was recorded, the last before it, and one on the way to the next: some of them.
fn sampled(dates: &BTreeSet<Moment>) -> Vec<Moment> {
    let dates: Vec<i64> = dates.iter().map(|date| date.as_micros()).collect();
    let moments = dates.windows(2).flat_map(|pair| [pair[0] - 1, pair[0], (pair[0] + pair[1]) / 2]);
    let step = (dates.len() / 24).max(1);
    let moments: Vec<i64> = moments.collect();
    moments.chunks(3).step_by(step).flatten().map(|moment| Moment::from_micros(*moment)).collect()
}

async fn sixteen_writers(mut db: TestDb, storage: Storage, rounds: u64) {
    for table in ["account", "purse"] {
        db.run(&format!("CREATE TABLE {table} (id INT PRIMARY KEY, amount BIGINT NOT NULL, turn INT NOT NULL, moved_by VARCHAR(40) NOT NULL)")).await;
    }
    for id in 1..=SHARED {
        db.run(&format!("INSERT INTO account VALUES ({id}, {IN_EACH}, 0, 'nobody')")).await;
    }
    for id in 1..=WRITERS {
        db.run(&format!("INSERT INTO purse VALUES ({id}, 0, 0, 'nobody')")).await;
    }
    for table in ["account", "purse"] {
        db.track(table, Tracking::new().storage(storage)).await;
    }
    db.tick().await;
    let mut clients = Vec::new();
    for writer in 1..=WRITERS {
        clients.push(Client::connect(&db, writer).await);
    }

    let begun = Instant::now();
    let writers: Vec<_> =
        clients.into_iter().map(|client| tokio::spawn(client.work(db.audit.clone(), rounds))).collect();
    let (mut committed, mut retries) = (BTreeSet::new(), 0);
    for writer in writers {
        let (names, tries) = writer.await.unwrap();
        committed.extend(names);
        retries += tries;
    }
    let lasted = begun.elapsed();

    db.verify().await;
    let (mut dates, mut seen, mut transactions) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
    for (table, rows) in [("account", SHARED), ("purse", WRITERS)] {
        for id in 1..=rows {
            let versions = db.versions(table, &id.to_string()).await;
            assert_is_in_order(&versions);
            for version in &versions[1..] {
                let header = version.header.clone();
                let (reason, tx) = (header.reason.unwrap(), header.tx.unwrap());
                let known = transactions.entry(tx.clone()).or_insert_with(|| reason.clone());
                assert_eq!(*known, reason, "both of transaction {tx}");
                dates.insert(header.date);
                seen.insert(reason.clone());
                if table == "purse" {
                    assert_eq!(header.user, Some(id.to_string()), "nobody else writes it");
                }
            }
        }
    }
    assert_eq!(seen, committed, "what was committed is what was recorded");
    assert_eq!(transactions.len(), committed.len());

    for moment in sampled(&dates) {
        assert_eq!(money(&db.audit, &PointInTime::At(moment)).await, ALL_MONEY, "{storage:?}, at {moment}");
    }
    for tx in transactions.keys().step_by(transactions.len() / 20 + 1) {
        let at = PointInTime::After(tx.clone());
        assert_eq!(money(&db.audit, &at).await, ALL_MONEY, "{storage:?}, after {tx}");
    }
    println!(
        "{:?}, {storage:?}: {} transactions of {WRITERS} writers committed, {retries} retries, {:.1} s; with what was asked {:.1} s",
        db.audit.database(),
        committed.len(),
        lasted.as_secs_f64(),
        begun.elapsed().as_secs_f64()
    );
    if !db.is_sqlite() {
        assert!(retries > 0, "nobody was in anybody's way: this tests nothing");
    }
}

/// Long and short transactions over few rows, with deadlocks and serialization failures tried again, as anybody would.
mod sixteen_writers_in_each_others_way {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn sqlite() {
        for storage in STORAGES {
            sixteen_writers(TestDb::sqlite().await, storage, 8).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn postgres() {
        for storage in STORAGES {
            sixteen_writers(TestDb::postgres().await, storage, 25).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn mariadb() {
        for storage in STORAGES {
            sixteen_writers(TestDb::mariadb().await, storage, 25).await;
        }
    }
}
