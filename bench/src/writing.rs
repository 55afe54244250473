//! Writing: three bulk statements, and many small transactions.

use std::time::Instant;

use crate::database::{Bench, Kind, SIDES};
use crate::{Outcome, Size, median};

pub(crate) async fn run(bench: &mut Bench, size: Size) -> Outcome {
    bulk(bench, size).await?;
    single(bench, size).await
}

async fn bulk(bench: &mut Bench, size: Size) -> Outcome {
    let mut seconds = vec![[Vec::new(), Vec::new(), Vec::new()]; SIDES.len()];
    for _ in 0..size.rounds {
        bench.fresh_tables().await?;
        for (side, (_, table)) in SIDES.iter().enumerate() {
            let statements = [
                bench.insert(table, size.rows),
                format!("UPDATE {table} SET status = 'paid', qty = qty + 1"),
                format!("DELETE FROM {table} WHERE id > 0"),
            ];
            for (n, statement) in statements.iter().enumerate() {
                bench.settle().await?;
                seconds[side][n].push(bench.timed(statement).await?);
            }
        }
    }
    println!("One statement, {} rows: times plain, and added µs a row.\n", size.rows);
    println!("| | insert | update (2 of 7 columns) | delete |\n| --- | --- | --- | --- |");
    let medians: Vec<[f64; 3]> = seconds.into_iter().map(|side| side.map(median)).collect();
    for ((side, _), times) in SIDES.iter().zip(&medians) {
        let cell = |n: usize| {
            let plain = medians[0][n];
            let added = (times[n] - plain) / f64::from(size.rows) * 1e6;
            if *side == "plain" {
                format!("{:.0} ms", plain * 1e3)
            } else {
                format!("{:.2} ({added:.1} µs)", times[n] / plain)
            }
        };
        println!("| {side} | {} | {} | {} |", cell(0), cell(1), cell(2));
    }
    println!();
    Ok(())
}

/// One update in its own transaction, with a context that the plain side sends too.
async fn single(bench: &mut Bench, size: Size) -> Outcome {
    bench.fresh_tables().await?;
    for (_, table) in SIDES {
        let insert = bench.insert(table, size.rows);
        bench.run(&insert).await?;
    }
    bench.settle().await?;
    let mut rates = vec![(Vec::new(), Vec::new()); SIDES.len()];
    for round in 0..size.rounds {
        for (side, (name, table)) in SIDES.into_iter().enumerate() {
            let parameter = bench.parameter();
            let update = format!("UPDATE {table} SET qty = qty + 1, status = 'paid' WHERE id = {parameter}");
            let (begin, end) = transaction(bench.kind, name);
            let begun = Instant::now();
            for n in 0..size.single {
                let id = i64::from(n * 37 + round as u32) % i64::from(size.rows) + 1;
                bench.run(begin).await?;
                bench.prepared(&update, id).await?;
                bench.run(end).await?;
            }
            rates[side].0.push(begun.elapsed().as_secs_f64() / f64::from(size.single));
            let begun = Instant::now();
            for n in 0..size.single {
                let id = i64::from(n * 41 + round as u32) % i64::from(size.rows) + 1;
                bench.prepared(&update, id).await?;
            }
            rates[side].1.push(begun.elapsed().as_secs_f64() / f64::from(size.single));
        }
    }
    println!("One row, its own transaction: throughput as a share of plain.\n");
    println!("| | with a context | autocommit, without |\n| --- | --- | --- |");
    let medians: Vec<(f64, f64)> = rates.into_iter().map(|(a, b)| (median(a), median(b))).collect();
    for ((side, _), times) in SIDES.iter().zip(&medians) {
        if *side == "plain" {
            println!("| plain | {:.0} µs | {:.0} µs |", times.0 * 1e6, times.1 * 1e6);
        } else {
            let share = |plain: f64, own: f64| plain / own * 100.0;
            println!(
                "| {side} | {:.0} % | {:.0} % |",
                share(medians[0].0, times.0),
                share(medians[0].1, times.1)
            );
        }
    }
    println!();
    Ok(())
}

/// How a transaction with a context begins and ends. PostgreSQL's and MariaDB's plain side sends the same messages;
/// SQLite's context has a table of its own, so plain goes without.
fn transaction(kind: Kind, side: &str) -> (&'static str, &'static str) {
    match (kind, side) {
        (Kind::Postgres, _) => (
            "BEGIN; SELECT set_config('afterimage.context', '{\"actor\":\"42\",\"reason\":\"price match\"}', true)",
            "COMMIT",
        ),
        (Kind::Sqlite, "plain") => ("BEGIN IMMEDIATE", "COMMIT"),
        (Kind::Sqlite, _) => (
            "BEGIN IMMEDIATE; INSERT INTO afterimage_context (actor, reason) VALUES ('42', 'price match')",
            "DELETE FROM afterimage_context; COMMIT",
        ),
        (Kind::MariaDb, _) => (
            "START TRANSACTION; INSERT INTO afterimage_context (actor, reason) VALUES ('42', 'price match')",
            "DELETE FROM afterimage_context WHERE number = @afterimage_context; COMMIT",
        ),
    }
}
