//! What capture costs, against the plain table: bulk and single-row writes, and reading as of a time, on PostgreSQL,
//! SQLite and MariaDB, in both storages. All sides run in turns in one run (A B C A B C); what counts is the ratio of medians.
//!
//! `cargo xtask bench` starts servers of its own and runs it. `--quick` takes a tenth of the rows and fewer rounds,
//! `--database` one of the three, `--part` writing, reading or asking.

mod asking;
mod database;
mod reading;
mod writing;

use database::{Bench, KINDS};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// How much to do.
#[derive(Debug, Clone, Copy)]
struct Size {
    rows: u32,
    rounds: usize,
    single: u32,
}

#[tokio::main]
async fn main() -> Outcome {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let size = if quick {
        Size { rows: 10_000, rounds: 3, single: 500 }
    } else {
        Size { rows: 100_000, rounds: 5, single: 3_000 }
    };
    let option = |name: &str| std::env::args().skip_while(|argument| argument != name).nth(1);
    let (only, part) = (option("--database"), option("--part"));
    let wanted = |name: &str| part.as_deref().is_none_or(|part| part == name);
    println!("Medians of {} rounds, the sides in turns; {} rows.\n", size.rounds, size.rows);
    for (database, kind) in KINDS {
        if only.as_deref().is_some_and(|only| only != database) {
            continue;
        }
        let mut bench = Bench::open(kind).await?;
        println!("## {}\n", bench.name());
        if wanted("writing") {
            writing::run(&mut bench, size).await?;
        }
        if wanted("reading") {
            reading::run(&mut bench, size).await?;
        }
        if wanted("asking") {
            asking::run(&mut bench, size).await?;
        }
    }
    Ok(())
}

/// The middle one.
fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN)
}
