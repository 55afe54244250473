//! Storage: what a change takes on the disk, with its indexes.

use afterimage::Context;

use crate::Outcome;
use crate::bare;
use crate::database::{Bench, Kind};
use crate::peers::Peers;
use crate::reading::Written;
use crate::report::{Figures, Measured};
use crate::sides::{bare_side, tracked};

pub(crate) async fn run(bench: &mut Bench, peers: &mut Peers, written: Written) -> Outcome<Measured> {
    let mut measured = Measured::new(
        "Storage",
        format!(
            "Bytes for each change of the same history: 10 % creations, the rest updates of 2 of 7 columns, each of a user and without any other context. Then what {} other keys of a context add to each of {CHANGES} updates, each in a transaction of its own; MariaDB's files grow by too much at a time to tell.",
            KEYS.len()
        ),
    );
    for (side, table) in tracked() {
        let mut figures = figures(bench, table, written).await?;
        // MariaDB's files grow by a megabyte at a time.
        if bench.kind != Kind::MariaDb {
            figures.push(("bytes of five keys", of_keys(bench, table).await?));
        }
        measured.add(&side, figures);
    }
    let (mut figures, all) = of_log(bench, bare::LOG, written).await?;
    figures.push(("bytes in all", all));
    measured.add(&bare_side(), figures);
    peers.add(&mut measured, "storage", &[])?;
    Ok(measured)
}

/// Of the history of one table, by change.
pub(crate) async fn figures(bench: &mut Bench, table: &str, written: Written) -> Outcome<Figures> {
    let (mut figures, mut all) = of_log(bench, &format!("{table}_history"), written).await?;
    if bench.kind != Kind::Postgres {
        // Contexts have a table of their own, which all histories share; here each change has one.
        let (contexts, indexes) = sizes(bench, "afterimage_scope").await?;
        let count: f64 = bench.text("SELECT count(*) FROM afterimage_scope").await?.parse()?;
        let contexts = (contexts + indexes) / count;
        figures.push(("bytes of contexts", contexts));
        all += contexts;
    }
    figures.push(("bytes in all", all));
    Ok(figures)
}

/// Of the table that has a row for each change; and both together.
async fn of_log(bench: &mut Bench, log: &str, written: Written) -> Outcome<(Figures, f64)> {
    let (records, indexes) = sizes(bench, log).await?;
    let [records, indexes] = [records, indexes].map(|bytes| bytes / written.changes());
    Ok((vec![("bytes of records", records), ("bytes of indexes", indexes)], records + indexes))
}

/// So many changes show what a context takes.
const CHANGES: u32 = 4_000;

/// What a program commonly knows of a request.
const KEYS: [(&str, &str); 5] = [
    ("request", "0192f6a4-6a52-7c31-9f5e-6f2b7a0f3c11"),
    ("path", "/orders/1249/items"),
    ("method", "PATCH"),
    ("session", "5d41402abc4b2a76"),
    ("version", "2026.11.3"),
];

/// What five keys of a context add to a change.
async fn of_keys(bench: &mut Bench, table: &str) -> Outcome<f64> {
    bench.set_durable(false).await?;
    let update =
        format!("UPDATE {table} SET status = 'of a key', total = total + 1 WHERE id = {}", bench.parameter());
    let mut took = [0.0; 2];
    for (took, keys) in took.iter_mut().zip([KEYS.as_slice(), &[]]) {
        let before = of_history_and_contexts(bench, table).await?;
        for n in 0..CHANGES {
            let context =
                keys.iter().fold(Context::actor("7"), |context, (key, value)| context.with(*key, *value));
            let mut tx = bench.audit.begin(&context).await?;
            // One text for all: MariaDB's driver takes each other one back, and waits for it.
            tx.execute(&update, &[(n + 1).into()]).await?;
            tx.commit().await?;
        }
        *took = (of_history_and_contexts(bench, table).await? - before) / f64::from(CHANGES);
    }
    bench.set_durable(true).await?;
    Ok(took[0] - took[1])
}

async fn of_history_and_contexts(bench: &mut Bench, table: &str) -> Outcome<f64> {
    bench.analyze().await?;
    let (records, indexes) = sizes(bench, &format!("{table}_history")).await?;
    let contexts = match bench.kind {
        Kind::Postgres => 0.0,
        _ => {
            let (contexts, indexes) = sizes(bench, "afterimage_scope").await?;
            contexts + indexes
        }
    };
    Ok(records + indexes + contexts)
}

/// The bytes of a table, and of its indexes.
async fn sizes(bench: &mut Bench, table: &str) -> Outcome<(f64, f64)> {
    let [own, indexes] = match bench.kind {
        Kind::Postgres => [format!("pg_table_size('{table}')"), format!("pg_indexes_size('{table}')")],
        Kind::Sqlite => ["table", "index"].map(|kind| {
            format!("SELECT coalesce(sum(s.pgsize), 0) FROM dbstat AS s JOIN sqlite_schema AS m ON m.name = s.name WHERE s.aggregate = 1 AND m.type = '{kind}' AND m.tbl_name = '{table}'")
        }),
        Kind::MariaDb => ["data_length", "index_length"].map(|column| {
            format!("SELECT {column} FROM information_schema.tables WHERE table_schema = database() AND table_name = '{table}'")
        }),
    };
    let select = |sql: String| if sql.starts_with("SELECT") { sql } else { format!("SELECT {sql}") };
    let own = bench.text(&select(own)).await?.parse()?;
    Ok((own, bench.text(&select(indexes)).await?.parse()?))
}
