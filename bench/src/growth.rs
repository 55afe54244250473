//! Growth: the same questions and writes with ever longer histories.

use std::time::Instant;

use afterimage::LogQuery;

use crate::Outcome;
use crate::arguments::Arguments;
use crate::database::Bench;
use crate::orders::{Order, VERSIONS};
use crate::peers::Peers;
use crate::reading::{self, questions};
use crate::report::{Figures, Measured, median};
use crate::sides::{Layer, Write, tracked};
use crate::storage;

/// What was measured with so many records.
pub(crate) type Growth = Vec<(u32, Measured)>;

/// So many times each is done.
const TIMES: u32 = 40;

pub(crate) async fn run(bench: &mut Bench, arguments: &Arguments) -> Outcome<Growth> {
    let mut growth = Growth::new();
    for records in [10_000, 100_000, 1_000_000, 10_000_000] {
        if records > arguments.longest {
            break;
        }
        let written = reading::fill(bench, &mut Peers::none(), records / VERSIONS).await?;
        bench.set_durable(false).await?;
        let mut measured = Measured::new(format!("{records} records"), String::new());
        for (side, table) in tracked() {
            let audit = bench.audit.clone();
            let keys: Vec<i64> = (0..TIMES).map(|n| i64::from(n * 997 % written.rows + 1)).collect();
            let mut figures = Figures::new();
            let [mut one, mut versions] = [const { Vec::new() }; 2];
            for key in &keys {
                let begun = Instant::now();
                audit.show(table, &key.to_string(), &written.middle()).await?;
                one.push(begun.elapsed().as_secs_f64());
                let begun = Instant::now();
                audit.history(table, &key.to_string()).await?;
                versions.push(begun.elapsed().as_secs_f64());
            }
            figures.extend(median(one).map(|one| ("a row as of the middle", one)));
            figures.extend(median(versions).map(|versions| ("a row's versions", versions)));
            let page = questions(table, written).swap_remove(0).1;
            figures.push(("a first page of 50", several(&audit, &page).await?));
            let begun = Instant::now();
            audit.count_as_of(table, &written.middle()).await?;
            figures.push(("count as of the middle", begun.elapsed().as_secs_f64()));
            let sizes = storage::figures(bench, table, written).await?;
            figures.extend(sizes.last().map(|(_, bytes)| ("bytes of a change", *bytes)));
            let mut update = Vec::new();
            for key in &keys {
                let begun = Instant::now();
                bench.write(Layer::Alone, table, &Write::Update(Order::new(*key, 77)), "7").await?;
                update.push(begun.elapsed().as_secs_f64());
            }
            figures.extend(median(update).map(|update| ("an update of a row", update)));
            measured.add(&side, figures);
        }
        growth.push((records, measured));
    }
    Ok(growth)
}

async fn several(audit: &afterimage::Afterimage, query: &LogQuery) -> Outcome<f64> {
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let begun = Instant::now();
        audit.log(query).await?;
        times.push(begun.elapsed().as_secs_f64());
    }
    Ok(median(times).unwrap_or_default())
}
