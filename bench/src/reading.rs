//! Reading: a history of a hundred days, ten versions of each row, one change after the other at equal distances.

use std::time::Instant;

use afterimage::{AsOfQuery, LogQuery, Moment, PointInTime, Query};

use crate::Outcome;
use crate::arguments::Arguments;
use crate::bare;
use crate::database::{Bench, TABLES};
use crate::orders::{Order, VERSIONS};
use crate::peers::Peers;
use crate::report::{Figures, Measured, Side, median};
use crate::sides::{tables_and_bare, tracked};

const DAY: i64 = 86_400_000_000;

/// So many rows are asked for one by one in each round.
const ONE_BY_ONE: u32 = 40;

/// So many times what is short is asked for in each round, of which the middle counts.
const OFTEN: usize = 9;

/// When a history was written, in microseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    pub(crate) rows: u32,
    pub(crate) end: i64,
}

impl Written {
    /// The microseconds from one change to the next.
    fn step(self) -> i64 {
        100 * DAY / i64::from(self.rows * VERSIONS)
    }

    pub(crate) fn days_before(self, days: i64) -> Moment {
        Moment::from_micros(self.end - days * DAY)
    }

    /// A total that the day in the middle gave: it has the updates from the fifth version to the sixth, of the first hundredth of ten.
    pub(crate) fn total(self) -> f64 {
        Order::new(i64::from(self.rows) / 20, 5).cents as f64 / 100.0
    }

    pub(crate) fn changes(self) -> f64 {
        f64::from(self.rows * VERSIONS)
    }

    pub(crate) fn middle(self) -> PointInTime {
        PointInTime::At(self.days_before(50))
    }

    pub(crate) fn span(self) -> Span {
        Span {
            day: self.days_before(50),
            next: self.days_before(49),
            hour: Moment::from_micros(self.end - DAY / 24),
        }
    }
}

/// The times that questions name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    /// When a day in the middle begins.
    pub(crate) day: Moment,
    /// When it ends.
    pub(crate) next: Moment,
    /// When the last hour begins.
    pub(crate) hour: Moment,
}

/// Fills the tables of all sides but for the bare one.
pub(crate) async fn fill(bench: &mut Bench, peers: &mut Peers, rows: u32) -> Outcome<Written> {
    bench.fresh_tables().await?;
    let written = Written { rows, end: Moment::now().as_micros() };
    for (side, table) in TABLES {
        if side == "plain" {
            bench.fill_plain(table, rows, VERSIONS).await?;
        } else {
            bench.fill_history(table, side == "delta", rows, VERSIONS, written.end, written.step()).await?;
        }
    }
    bench.analyze().await?;
    peers.tell("fill", &[("rows", rows.into()), ("end", written.end.into())])?;
    Ok(written)
}

/// Fills the log of a bare trigger with the same history.
pub(crate) async fn fill_bare(bench: &mut Bench, written: Written) -> Outcome {
    bench.fill_bare(written.rows, VERSIONS, written.end, written.step()).await?;
    bench.analyze().await
}

/// Every question, of every side that can answer it.
pub(crate) async fn run(
    bench: &mut Bench,
    peers: &mut Peers,
    arguments: &Arguments,
    written: Written,
) -> Outcome<Measured> {
    let mut measured = Measured::new(
        "Reading",
        format!(
            "{} records over {} rows, {} users and 100 days. Plain reads the live table, and a bare trigger's log gives its new values by one statement each, without what was before. Afterimage answers through the library, with old and new values; in brackets: times plain. All but counts and whole tables is asked several times each round, and the middle counts.",
            written.rows * VERSIONS,
            written.rows,
            crate::orders::USERS
        ),
    );
    // The first round fills caches.
    for round in 0..=arguments.rounds {
        for (side, table) in tables_and_bare() {
            let figures = match side.name.as_str() {
                "plain" => live(bench, table, written).await?,
                _ if table == bare::TABLE => bare::ask(bench, written).await?,
                _ => then(bench, table, written).await?,
            };
            if round > 0 {
                measured.add(&side, figures);
            }
        }
        if round > 0 {
            peers.add(&mut measured, "reading", &[])?;
        } else {
            peers.tell("reading", &[])?;
        }
    }
    Ok(measured)
}

/// The middle of what several times took.
pub(crate) async fn often(mut once: impl AsyncFnMut() -> Outcome<f64>) -> Outcome<f64> {
    let mut times = Vec::new();
    for _ in 0..OFTEN {
        times.push(once().await?);
    }
    median(times).ok_or_else(|| "nothing was timed".into())
}

/// The rows that are asked for one by one.
pub(crate) fn keys(rows: u32) -> Vec<i64> {
    (0..ONE_BY_ONE).map(|n| i64::from(n * 997 % rows + 1)).collect()
}

async fn live(bench: &mut Bench, table: &str, written: Written) -> Outcome<Figures> {
    let mut figures = Figures::new();
    let count = bench.fetch(&format!("SELECT count(*) FROM {table}")).await?.1;
    figures.push(("as of the middle: count", count));
    let (found, all) = bench.fetch(&format!("SELECT * FROM {table} ORDER BY id")).await?;
    expect("all rows", found, written.rows as usize)?;
    figures.push(("as of the middle: all rows", all));
    let mut one = Vec::new();
    let by_key = format!("SELECT * FROM {table} WHERE id = {}", bench.parameter());
    for key in keys(written.rows) {
        one.push(bench.fetch_of(&by_key, key).await?.1);
    }
    figures.extend(median(one).map(|one| ("as of the middle: one row", one)));
    let filtered = format!("SELECT * FROM {table} WHERE status = 'shipped' LIMIT 50");
    let filtered = often(async || Ok(bench.fetch(&filtered).await?.1)).await?;
    figures.push(("as of the middle: 50 rows, filtered", filtered));
    Ok(figures)
}

async fn then(bench: &mut Bench, table: &'static str, written: Written) -> Outcome<Figures> {
    let audit = &bench.audit;
    let mut figures = Figures::new();
    let late = PointInTime::At(written.days_before(1));
    for (count_name, rows_name, at) in [
        ("as of the middle: count", "as of the middle: all rows", written.middle()),
        ("as of a day ago, 1 % of the records after it: count", "as of a day ago: all rows", late),
    ] {
        let begun = Instant::now();
        let found = audit.count_as_of(table, &at).await?;
        figures.push((count_name, begun.elapsed().as_secs_f64()));
        expect(count_name, usize::try_from(found)?, written.rows as usize)?;
        let begun = Instant::now();
        let found = audit.as_of(&AsOfQuery::new(table, at)).await?.rows.len();
        figures.push((rows_name, begun.elapsed().as_secs_f64()));
        expect(rows_name, found, written.rows as usize)?;
    }
    let [mut one, mut newest, mut versions] = [const { Vec::new() }; 3];
    for key in keys(written.rows) {
        let key = key.to_string();
        let begun = Instant::now();
        audit.show(table, &key, &written.middle()).await?;
        one.push(begun.elapsed().as_secs_f64());
        let mut query = Query::default();
        query.tables.wanted.push(table.to_owned());
        query.keys.wanted.push(key.clone());
        let begun = Instant::now();
        let found = audit.log(&LogQuery::from(query).limit(50)).await?.entries.len();
        newest.push(begun.elapsed().as_secs_f64());
        expect("a row's newest 50", found, VERSIONS as usize)?;
        let begun = Instant::now();
        audit.history(table, &key).await?;
        versions.push(begun.elapsed().as_secs_f64());
    }
    figures.extend(median(one).map(|one| ("as of the middle: one row", one)));
    let mut filtered = AsOfQuery::new(table, written.middle());
    filtered.filter = Some("status = 'shipped'".to_owned());
    filtered.limit = Some(50);
    let filtered = often(async || {
        let begun = Instant::now();
        let found = audit.as_of(&filtered).await?.rows.len();
        expect("a filtered page", found, 50)?;
        Ok(begun.elapsed().as_secs_f64())
    });
    figures.push(("as of the middle: 50 rows, filtered", filtered.await?));
    figures.extend(median(newest).map(|newest| ("the newest 50 changes of a row", newest)));
    figures.extend(median(versions).map(|versions| ("a row's versions, with what changed", versions)));
    for (name, query) in questions(table, written) {
        let seconds = often(async || {
            let begun = Instant::now();
            let found = audit.log(&query).await?.entries.len();
            if found == 0 {
                return Err(format!("{table}: {name} is empty").into());
            }
            Ok(begun.elapsed().as_secs_f64())
        });
        figures.push((name, seconds.await?));
    }
    Ok(figures)
}

/// Questions to the log.
pub(crate) fn questions(table: &str, written: Written) -> Vec<(&'static str, LogQuery)> {
    let Span { day, next, hour } = written.span();
    let asked = |change: &dyn Fn(&mut Query)| {
        let mut query = Query::default();
        query.tables.wanted.push(table.to_owned());
        change(&mut query);
        LogQuery::from(query)
    };
    let of_day = |query: &mut Query| {
        query.from = Some(day);
        query.before = Some(next);
    };
    let total = written.total();
    vec![
        ("a first page of 50 changes", asked(&|_| {}).limit(50)),
        ("the last hour", asked(&|query| query.from = Some(hour))),
        (
            "a user's day",
            asked(&|query| {
                of_day(query);
                query.actors.wanted.push("7".into());
            }),
        ),
        (
            "a value that a column got, within a day",
            asked(&|query| {
                of_day(query);
                query.change.fields.push("total".into());
                query.change.now.push(format!("{total:.2}"));
            }),
        ),
    ]
}

pub(crate) fn expect(what: &str, found: usize, expected: usize) -> Outcome {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found} instead of {expected}").into()) }
}

/// A statement about a table: what it is called, how many rows it gives, and what stands behind the table's name.
type Statement = (&'static str, usize, String);

/// What each took, the middle of several times where it gives few rows; `fetch` gives how many there were.
async fn each(
    statements: &[Statement],
    table: &str,
    mut fetch: impl AsyncFnMut(&str) -> Outcome<usize>,
) -> Outcome<Figures> {
    let mut figures = Figures::new();
    for (name, expected, rest) in statements {
        let sql = format!("SELECT * FROM {table} {rest}");
        let mut once = async || {
            let begun = Instant::now();
            let found = fetch(&sql).await?;
            expect(name, found, *expected)?;
            Ok(begun.elapsed().as_secs_f64())
        };
        figures.push((*name, if *expected > 50 { once().await? } else { often(once).await? }));
    }
    Ok(figures)
}

/// Statements that know nothing of a history, on the past connection and on the live table.
pub(crate) async fn past(bench: &mut Bench, arguments: &Arguments, written: Written) -> Outcome<Measured> {
    let mut measured = Measured::new(
        "The past connection",
        "The same statements on the live table, and on a connection that shows the tables as of the middle; in brackets: times live. The first statement of such a connection finds out what the table was.".to_owned(),
    );
    let plain = Side { name: "live".to_owned(), base: "live".to_owned() };
    for round in 0..=arguments.rounds {
        let key = (round as u32 * 977) % written.rows + 1;
        let keys: Vec<String> = (1..=50).map(|n| (n * written.rows / 50).to_string()).collect();
        let statements = [
            ("a row by its key", 1, format!("WHERE id = {key}")),
            ("50 rows by their keys", 50, format!("WHERE id IN ({})", keys.join(", "))),
            (
                "a page of 50, filtered, by key",
                50,
                "WHERE status = 'shipped' ORDER BY id LIMIT 50".to_owned(),
            ),
            ("all rows", written.rows as usize, String::new()),
        ];
        let live = each(&statements, "orders_plain", async |sql| Ok(bench.fetch(sql).await?.0)).await?;
        if round > 0 {
            measured.add(&plain, live);
        }
        for (side, table) in tracked() {
            let then = bench.audit.at(written.middle()).await?;
            let begun = Instant::now();
            bench.rows_of_then(&then, &format!("SELECT * FROM {table} WHERE id = 1")).await?;
            let first = begun.elapsed().as_secs_f64();
            let mut figures =
                each(&statements, table, async |sql| bench.rows_of_then(&then, sql).await).await?;
            figures.push(("the first row by its key", first));
            if round > 0 {
                measured.add(&Side { base: plain.name.clone(), ..side }, figures);
            }
        }
    }
    Ok(measured)
}
