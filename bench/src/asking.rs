//! Asking: a million records over a hundred thousand rows and a hundred days, one every 8.64 seconds.

use std::time::Instant;

use afterimage::{AsOfQuery, LogQuery, Moment, PointInTime, Query};

use crate::database::{Bench, SIDES};
use crate::{Outcome, Size, median};

const VERSIONS: u32 = 10;
const DAY: i64 = 86_400_000_000;

pub(crate) async fn run(bench: &mut Bench, size: Size) -> Outcome {
    bench.fresh_tables().await?;
    let end = Moment::now().as_micros();
    let step = 100 * DAY / i64::from(size.rows * VERSIONS);
    let mut answers: Vec<(&str, Vec<(&'static str, f64)>)> = Vec::new();
    for (side, table) in SIDES.into_iter().skip(1) {
        bench.fill_history(table, side == "delta", size.rows, VERSIONS, end, step).await?;
        bench.analyze().await?;
        let at = |micros: i64| Moment::from_micros(micros);
        let (day, next) = (at(end - 50 * DAY), at(end - 49 * DAY));
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
        let logs: [(&'static str, LogQuery); 6] = [
            ("newest page of everything", asked(&|_| {}).limit(50)),
            ("the last hour", asked(&|query| query.from = Some(at(end - DAY / 24)))),
            (
                "a user's day",
                asked(&|query| {
                    of_day(query);
                    query.actors.wanted.push("7".into());
                }),
            ),
            (
                "new value, a day",
                asked(&|query| {
                    of_day(query);
                    query.change.now.push("v4-777".into());
                }),
            ),
            (
                "old value, a day",
                asked(&|query| {
                    of_day(query);
                    query.change.was.push("v4-777".into());
                }),
            ),
            (
                "words anywhere, a day",
                asked(&|query| {
                    of_day(query);
                    query.text.push(afterimage::Phrase { text: "v4-777".into(), negated: false });
                }),
            ),
        ];
        let keys: Vec<String> = (1..=50).map(|n| (n * size.rows / 50).to_string()).collect();
        let keys = keys.join(", ");
        let mut times: Vec<(&'static str, Vec<f64>)> = Vec::new();
        for round in 0..size.rounds + 1 {
            let mut note = |name: &'static str, begun: Instant| {
                let seconds = begun.elapsed().as_secs_f64();
                // The first round fills caches.
                if round == 0 {
                    times.push((name, Vec::new()));
                } else if let Some((_, times)) = times.iter_mut().find(|(known, _)| *known == name) {
                    times.push(seconds);
                }
            };
            for (name, query) in &logs {
                let begun = Instant::now();
                let page = bench.audit.log(query).await?;
                note(name, begun);
                if page.entries.is_empty() && !name.contains("value") && !name.contains("words") {
                    return Err(format!("{side}: {name} is empty").into());
                }
            }
            let begun = Instant::now();
            let key = (round * 977) as u32 % size.rows + 1;
            bench.audit.history(table, &key.to_string()).await?;
            note("a row's versions and changes", begun);
            for (name, back) in [("as of, 1 % of the records after", 1), ("as of, half of them after", 50)] {
                let begun = Instant::now();
                let then = PointInTime::At(at(end - back * DAY));
                let found = bench.audit.as_of(&AsOfQuery::new(table, then.clone())).await?.rows.len();
                note(name, begun);
                if found != size.rows as usize {
                    return Err(format!("{side}, {name}: {found} rows instead of {}", size.rows).into());
                }
                if back == 50 {
                    let begun = Instant::now();
                    let mut query = AsOfQuery::new(table, then);
                    query.filter = Some("qty > 3".to_owned());
                    query.limit = Some(50);
                    bench.audit.as_of(&query).await?;
                    note("as of, filtered, 50 rows", begun);
                }
            }
            let then = bench.audit.at(PointInTime::At(day)).await?;
            for (name, rows, rest) in [
                ("by the past connection, one row by its key", 1, format!("WHERE id = {key}")),
                ("by the past connection, 50 rows by their keys", 50, format!("WHERE id IN ({keys})")),
                (
                    "by the past connection, a page of 50, filtered",
                    50,
                    "WHERE qty > 3 ORDER BY id LIMIT 50".to_owned(),
                ),
                ("by the past connection, all rows", size.rows as usize, String::new()),
            ] {
                let begun = Instant::now();
                let found = bench.rows_of_then(&then, &format!("SELECT * FROM {table} {rest}")).await?;
                note(name, begun);
                if found != rows {
                    return Err(format!("{side}, {name}: {found} rows instead of {rows}").into());
                }
            }
        }
        answers.push((side, times.into_iter().map(|(name, times)| (name, median(times))).collect()));
    }
    println!(
        "{} records over {} rows and 100 days; all through the library.\n",
        size.rows * VERSIONS,
        size.rows
    );
    println!(
        "| | {} |\n| --- | --- | --- |",
        answers.iter().map(|(side, _)| *side).collect::<Vec<_>>().join(" | ")
    );
    for (n, (name, _)) in answers[0].1.iter().enumerate() {
        let cells: Vec<String> =
            answers.iter().map(|(_, times)| format!("{:.2} ms", times[n].1 * 1e3)).collect();
        println!("| {name} | {} |", cells.join(" | "));
    }
    println!();
    Ok(())
}
