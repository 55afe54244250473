//! Storage: what a change takes on the disk, with its indexes.

use crate::Outcome;
use crate::database::{Bench, Kind};
use crate::orders::VERSIONS;
use crate::peers::Peers;
use crate::reading::Written;
use crate::report::{Figures, Measured};
use crate::sides::tracked;

pub(crate) async fn run(bench: &mut Bench, peers: &mut Peers, written: Written) -> Outcome<Measured> {
    let mut measured = Measured::new(
        "Storage",
        "Bytes for each change of the same history: 10 % creations, the rest updates of 2 of 7 columns, each of a user and without any other context.".to_owned(),
    );
    for (side, table) in tracked() {
        measured.add(&side, figures(bench, table, written).await?);
    }
    peers.add(&mut measured, "storage", &[])?;
    Ok(measured)
}

/// Of the history of one table, by change.
pub(crate) async fn figures(bench: &mut Bench, table: &str, written: Written) -> Outcome<Figures> {
    let changes = f64::from(written.rows * VERSIONS);
    let history = format!("{table}_history");
    let (records, indexes) = sizes(bench, &history).await?;
    let mut figures: Figures =
        vec![("bytes of records", records / changes), ("bytes of indexes", indexes / changes)];
    let mut all = (records + indexes) / changes;
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
