//! Writing: many small transactions, and three statements for many rows.

use std::time::Instant;

use crate::Outcome;
use crate::arguments::Arguments;
use crate::database::Bench;
use crate::orders::{Order, USERS};
use crate::peers::Peers;
use crate::report::{Figures, Measured};
use crate::sides::{Layer, Program, Write, tables_and_bare};

/// What is written, in three parts of single rows.
fn plan(count: u32) -> [(&'static str, Vec<Write>); 3] {
    let count = i64::from(count);
    let creations = (1..=count).map(|id| Write::Create(Order::new(id, 0))).collect();
    // Which row is next looks arbitrary, and is the same for all.
    let updates =
        (0..count * 5 / 2).map(|n| Write::Update(Order::new(n * 7919 % count + 1, 1 + n / count))).collect();
    let deletions = (0..count / 4).map(|n| Write::Delete(n * 4 + 1)).collect();
    [("create", creations), ("update", updates), ("delete", deletions)]
}

/// Single rows, each in a transaction of its own that says who writes; `durable` ones wait until they are on the disk.
pub(crate) async fn single(
    bench: &mut Bench,
    peers: &mut Peers,
    arguments: &Arguments,
    durable: bool,
) -> Outcome<Measured> {
    let how = if durable { "as durable as the database is by default" } else { "not waiting for the disk" };
    let mut measured = Measured::new(
        format!("One row in a transaction, {}", if durable { "durable" } else { "not waiting for the disk" }),
        format!(
            "{} creations, {} updates of 2 of 7 columns and {} deletions, each in a transaction of its own that says who writes, {how}: per transaction, and (times) the same without an audit trail. *One statement* commits by itself and names nobody; *SQL* is a client that knows the database only; *sqlx* and *SeaORM* go through this library, and plain through the driver's pool.",
            arguments.single,
            arguments.single * 5 / 2,
            arguments.single / 4
        ),
    );
    let plan = plan(arguments.single);
    for _ in 0..arguments.rounds {
        bench.fresh_tables().await?;
        bench.set_durable(durable).await?;
        let program = Program::open(bench, durable).await?;
        for layer in Layer::ALL {
            for (side, table) in layer.sides() {
                bench.settle().await?;
                let mut figures = Figures::new();
                for (name, writes) in &plan {
                    let begun = Instant::now();
                    for (n, write) in writes.iter().enumerate() {
                        match layer {
                            Layer::Alone | Layer::Client => {
                                bench.write(layer, table, write, &user(n)).await?
                            }
                            Layer::Sqlx | Layer::SeaOrm => {
                                program.write(layer, table, write, &user(n)).await?
                            }
                        }
                    }
                    figures.push((name, begun.elapsed().as_secs_f64() / writes.len() as f64));
                }
                measured.add(&side, figures);
                bench.run(&format!("DELETE FROM {table} WHERE id > 0")).await?;
            }
        }
        peers.add(
            &mut measured,
            "single",
            &[("rows", arguments.single.into()), ("durable", durable.into())],
        )?;
        bench.set_durable(true).await?;
    }
    Ok(measured)
}

fn user(n: usize) -> String {
    (1 + n as u32 * 19 % USERS).to_string()
}

/// Many rows by one statement each.
pub(crate) async fn bulk(bench: &mut Bench, peers: &mut Peers, arguments: &Arguments) -> Outcome<Measured> {
    let rows = arguments.bulk;
    let mut measured = Measured::new(
        "Many rows in a statement",
        format!(
            "{rows} rows created, updated (2 of 7 columns) and deleted, by one statement each; by Django's `bulk_create` in batches of 1,000, `update` and `delete`. An audit trail that recorded none of them is left out."
        ),
    );
    for _ in 0..arguments.rounds {
        bench.fresh_tables().await?;
        for (side, table) in tables_and_bare() {
            let statements = [
                ("create", bench.insert(table, rows)),
                ("update", format!("UPDATE {table} SET status = 'bulk', total = total + 1")),
                ("delete", format!("DELETE FROM {table} WHERE id > 0")),
            ];
            let mut figures = Figures::new();
            for (name, statement) in statements {
                bench.settle().await?;
                figures.push((name, bench.timed(&statement).await?));
            }
            measured.add(&side, figures);
        }
        peers.add(&mut measured, "bulk", &[("rows", rows.into())])?;
    }
    Ok(measured)
}
