//! Pruning: the older half of the records deleted, by one statement.

use crate::Outcome;
use crate::database::Bench;
use crate::peers::Peers;
use crate::reading::Written;
use crate::report::Measured;
use crate::sides::tracked;

pub(crate) async fn run(bench: &mut Bench, peers: &mut Peers, written: Written) -> Outcome<Measured> {
    let mut measured = Measured::new(
        "Deleting old records",
        "The older half of the records, once, by one statement or by what the package has for it; no condition but the time. The triggers that guard records are kept from it.".to_owned(),
    );
    let middle = written.days_before(50).as_micros();
    for (side, table) in tracked() {
        bench.settle().await?;
        let delete = bench.prune(table, middle).await?;
        measured.add(&side, vec![("deletion", bench.timed(&delete).await?)]);
    }
    peers.add(&mut measured, "pruning", &[])?;
    Ok(measured)
}
