//! Pruning: the older half of the records, by one statement, and by `prune`, which keeps what every later question needs.

use std::time::Instant;

use afterimage::{Context, Moment, Partition, Prune, Retention};

use crate::Outcome;
use crate::arguments::Arguments;
use crate::bare;
use crate::database::{Bench, Kind};
use crate::peers::Peers;
use crate::reading::{self, Written};
use crate::report::Measured;
use crate::sides::{bare_side, tracked};

pub(crate) async fn run(
    bench: &mut Bench,
    peers: &mut Peers,
    arguments: &Arguments,
    written: Written,
) -> Outcome<Measured> {
    let mut measured = Measured::new(
        "Deleting old records",
        "The older half of the records, once. Deletion: by one statement or by what the package has for it, with no condition but the time; the triggers that guard records are kept from it. Prune: what the program has for it, in batches between which others write, and which leaves of each row what tells how it was since.".to_owned(),
    );
    for (side, table) in tracked() {
        bench.settle().await?;
        let delete = bench.prune(table, written.days_before(50).as_micros()).await?;
        measured.add(&side, vec![("deletion", bench.timed(&delete).await?)]);
    }
    bench.settle().await?;
    let before = bare::moment(bench.kind, &written.days_before(50).as_micros().to_string());
    let delete = format!("DELETE FROM {} WHERE log_date < {before}", bare::LOG);
    measured.add(&bare_side(), vec![("deletion", bench.timed(&delete).await?)]);
    peers.add(&mut measured, "pruning", &[])?;
    let again = reading::fill(bench, &mut Peers::none(), arguments.rows()).await?;
    prune(bench, &mut measured, "prune", again).await?;
    if bench.kind == Kind::Postgres {
        let again = reading::fill(bench, &mut Peers::none(), arguments.rows()).await?;
        for (_, table) in tracked() {
            bench.audit.partition(&Partition::new().tables([table])).await?;
            cut_in_two(bench, table, again.days_before(50)).await?;
        }
        bench.analyze().await?;
        prune(bench, &mut measured, "prune, in partitions", again).await?;
    }
    Ok(measured)
}

async fn prune(bench: &mut Bench, measured: &mut Measured, name: &'static str, written: Written) -> Outcome {
    for (side, table) in tracked() {
        bench.settle().await?;
        let request = Prune::new().tables([table]).keep(Retention::until(written.days_before(50)));
        let begun = Instant::now();
        let pruned = bench.audit.prune(&request, &Context::actor("bench")).await?;
        let took = begun.elapsed().as_secs_f64();
        if pruned.iter().all(|pruned| pruned.records == 0) {
            return Err(format!("{table}: {name} found nothing").into());
        }
        measured.add(&side, vec![(name, took)]);
    }
    Ok(())
}

/// Cuts what the first partition of a history holds at a moment, as if it had been in partitions all along.
async fn cut_in_two(bench: &mut Bench, table: &str, at: Moment) -> Outcome {
    let history = format!("{table}_history");
    let first = format!(
        "FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid WHERE i.inhparent = '{history}'::regclass AND pg_get_expr(c.relpartbound, c.oid) LIKE '%MINVALUE%'"
    );
    let name = bench.text(&format!("SELECT c.oid::regclass {first}")).await?;
    let end = "substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO .''(.*)''.')";
    let end = bench.text(&format!("SELECT {end} {first}")).await?;
    bench
        .run(&format!(
            "BEGIN;
             ALTER TABLE {history} DETACH PARTITION {name};
             ALTER TABLE {name} DISABLE TRIGGER ALL;
             CREATE TABLE {table}_older (LIKE {history} INCLUDING ALL);
             INSERT INTO {table}_older SELECT * FROM {name} WHERE history_date < '{at}';
             DELETE FROM {name} WHERE history_date < '{at}';
             ALTER TABLE {name} ENABLE TRIGGER ALL;
             ALTER TABLE {history} ATTACH PARTITION {table}_older FOR VALUES FROM (MINVALUE) TO ('{at}');
             ALTER TABLE {history} ATTACH PARTITION {name} FOR VALUES FROM ('{at}') TO ('{end}');
             CREATE TRIGGER afterimage_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}_older EXECUTE FUNCTION afterimage.append_only();
             COMMIT"
        ))
        .await
}
