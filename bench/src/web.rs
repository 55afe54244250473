//! The web interface under load: twenty people at once, the service on one core.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use afterimage_throwaway::Service;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tempfile::NamedTempFile;

use crate::Outcome;
use crate::arguments::Arguments;
use crate::database::{Bench, Kind};
use crate::orders::VERSIONS;
use crate::peers::Peers;
use crate::reading::{self, Written};
use crate::report::percentile;

/// So many people look at once.
const PEOPLE: usize = 20;

/// And read so long before they go on.
const THINKING: Duration = Duration::from_secs(1);

type Http = Client<HttpConnector, Empty<hyper::body::Bytes>>;

/// A page, by what it is and where.
type Visit = (&'static str, String);

/// What a service said of its own failure.
fn last_words(log: &NamedTempFile) -> String {
    let log = std::fs::read_to_string(log.path()).unwrap_or_default();
    let failures = log.lines().filter(|line| line.contains("panicked") || line.contains("ERROR"));
    failures.take(5).collect::<Vec<_>>().join("\n")
}

/// How long each page took, at the median and the 95th percentile.
pub(crate) async fn run(bench: &mut Bench, arguments: &Arguments) -> Outcome<String> {
    let written = reading::fill(bench, &mut Peers::none(), arguments.rows()).await?;
    let log = NamedTempFile::new()?;
    let service = serve(bench, &log)?;
    let visits = Arc::new(visits(bench, written).await?);
    let mut text = format!(
        "{} records of two tables over 100 days, the service on one core, {PEOPLE} people for {} s each way: \
         with a second of reading between two pages, and without. Milliseconds.\n\n\
         | page | median | p95 | median, without reading | p95, without reading |\n| --- | ---: | ---: | ---: | ---: |\n",
        u64::from(written.rows) * u64::from(VERSIONS) * 2,
        arguments.seconds
    );
    let visit_all = async |period, thinking| {
        let visited = visit_all(service.address(), &visits, period, thinking).await;
        visited.map_err(|error| format!("{error}\n{}", last_words(&log)))
    };
    // The first round fills caches.
    visit_all(Duration::from_secs(5), Duration::ZERO).await?;
    let period = Duration::from_secs(arguments.seconds);
    let reading = visit_all(period, THINKING).await?;
    let rushing = visit_all(period, Duration::ZERO).await?;
    let all =
        |times: &[(&str, Vec<f64>)]| times.iter().flat_map(|(_, times)| times.clone()).collect::<Vec<_>>();
    let mut lines: Vec<(&str, Vec<f64>, Vec<f64>)> =
        reading.iter().zip(&rushing).map(|((name, a), (_, b))| (*name, a.clone(), b.clone())).collect();
    lines.push(("all", all(&reading), all(&rushing)));
    for (name, reading, rushing) in lines {
        text.push_str(&format!(
            "| {name} | {:.1} | {:.1} | {:.1} | {:.1} |\n",
            percentile(&reading, 0.5),
            percentile(&reading, 0.95),
            percentile(&rushing, 0.5),
            percentile(&rushing, 0.95)
        ));
    }
    Ok(text)
}

/// Starts the program, on the first core alone where that can be said.
fn serve(bench: &Bench, log: &NamedTempFile) -> Outcome<Service> {
    let program = std::env::var("AFTERIMAGE_BENCH_PROGRAM").map_err(
        |_| "no AFTERIMAGE_BENCH_PROGRAM: run this by `cargo xtask bench`, which builds the program",
    )?;
    let url = match bench.kind {
        Kind::Sqlite => bench.url().replace("?mode=rwc", ""),
        _ => bench.url().to_owned(),
    };
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", "0"]).arg(program).args([
        "--database-url",
        &url,
        "serve",
        "--listen",
        "127.0.0.1:0",
    ]);
    Service::start(command.stderr(log.reopen()?))
}

/// The pages that people look at, none of them twice in a row.
async fn visits(bench: &Bench, written: Written) -> Outcome<Vec<Visit>> {
    let newest = bench.audit.log(&afterimage::LogQuery::default().limit(1)).await?.entries;
    let newest = newest.first().ok_or("there is no record")?;
    let tx = newest.header.tx.clone().unwrap_or_default();
    let event = format!("{}.{}", newest.header.date.as_micros(), newest.header.id);
    let mut visits = Vec::new();
    for n in 1..=20u32 {
        let (table, key) = (["orders_snapshot", "orders_delta"][n as usize % 2], n * 997 % written.rows + 1);
        let then = afterimage::Moment::from_micros(written.end - i64::from(n) * 3_600_000_000);
        visits.extend([
            ("activity", "/".to_owned()),
            ("activity, next page", format!("/?before={}.{}", written.end - i64::from(n) * 60_000_000, 0)),
            ("activity, filtered", format!("/?range=24h&table={table}&action=update")),
            ("an actor's day", format!("/actor/{n}?range=24h")),
            ("an event", format!("/e/{event}")),
            ("a transaction", format!("/tx/{tx}")),
            ("records of a table", format!("/r/{table}")),
            ("a record", format!("/r/{table}/{key}")),
            ("a version", format!("/r/{table}/{key}/v/3")),
            ("compare", format!("/r/{table}/{key}/compare/2..current")),
            ("a field", format!("/r/{table}/{key}/field/total")),
            ("restore", format!("/r/{table}/{key}/restore/2")),
            ("a record as of a time", format!("/r/{table}/{key}/at?at={then}")),
            ("a table as of a time", format!("/asof/{table}?at={then}&after={key}")),
            ("deleted", "/deleted".to_owned()),
            ("storage", "/storage".to_owned()),
            ("the log as JSON", format!("/api/log?table={table}&limit=50")),
        ]);
    }
    Ok(visits)
}

/// Everybody looks at one page after the other, each beginning elsewhere.
async fn visit_all(
    home: &str,
    visits: &Arc<Vec<Visit>>,
    period: Duration,
    thinking: Duration,
) -> Outcome<Vec<(&'static str, Vec<f64>)>> {
    let end = Instant::now() + period;
    let people: Vec<_> = (0..PEOPLE)
        .map(|person| {
            let (home, visits) = (home.to_owned(), Arc::clone(visits));
            tokio::spawn(async move {
                visit(&home, &visits, person, end, thinking).await.map_err(|e| e.to_string())
            })
        })
        .collect();
    let mut times: Vec<(&'static str, Vec<f64>)> = Vec::new();
    for (name, _) in visits.iter() {
        if !times.iter().any(|(known, _)| known == name) {
            times.push((name, Vec::new()));
        }
    }
    for person in people {
        for (name, time) in person.await?? {
            times.iter_mut().filter(|(known, _)| *known == name).for_each(|(_, times)| times.push(time));
        }
    }
    Ok(times)
}

async fn visit(
    home: &str,
    visits: &[Visit],
    person: usize,
    end: Instant,
    thinking: Duration,
) -> Outcome<Vec<(&'static str, f64)>> {
    let http: Http = Client::builder(TokioExecutor::new()).build_http();
    let mut times = Vec::new();
    // Nobody begins where another does, nor at the same time.
    tokio::time::sleep(thinking * u32::try_from(person)? / u32::try_from(PEOPLE)?).await;
    for n in (person * visits.len() / PEOPLE..).take_while(|_| Instant::now() < end) {
        let (name, path) = &visits[n % visits.len()];
        let begun = Instant::now();
        let answer = http.get(format!("{home}{path}").parse()?).await?;
        let status = answer.status();
        answer.into_body().collect().await?;
        times.push((*name, begun.elapsed().as_secs_f64() * 1e3));
        if !status.is_success() {
            return Err(format!("{path}: {status}").into());
        }
        tokio::time::sleep(thinking).await;
    }
    Ok(times)
}
