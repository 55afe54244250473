//! What an audit trail costs: Afterimage, the same database without any, and with `--peers` three packages of Django's, on the
//! same tables and the same data, all sides in turns in one run (A B C A B C). What counts is the ratio.
//!
//! `cargo xtask bench` starts servers of its own and runs it.

mod arguments;
mod bare;
mod database;
mod filling;
mod growth;
mod orders;
mod page;
mod peers;
mod pruning;
mod reading;
mod report;
mod sides;
mod storage;
mod web;
mod writing;

use arguments::Arguments;
use database::{Bench, KINDS};
use page::Page;
use peers::Peers;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Outcome {
    let arguments = Arguments::parse()?;
    let mut page = Page::default();
    for (database, kind) in KINDS {
        if arguments.database.as_deref().is_some_and(|only| only != database) {
            continue;
        }
        let mut bench = Bench::open(kind).await?;
        let mut peers = if arguments.peers { Peers::start(&bench)? } else { Peers::none() };
        page.begin(&bench.describe().await?);
        if arguments.wants("single") {
            page.add(&writing::single(&mut bench, &mut peers, &arguments, true).await?);
            page.add(&writing::single(&mut bench, &mut peers, &arguments, false).await?);
        }
        if arguments.wants("bulk") {
            page.add(&writing::bulk(&mut bench, &mut peers, &arguments).await?);
        }
        if ["reading", "storage", "pruning"].into_iter().any(|part| arguments.wants(part)) {
            let written = reading::fill(&mut bench, &mut peers, arguments.rows()).await?;
            reading::fill_bare(&mut bench, written).await?;
            if arguments.wants("reading") {
                page.add(&reading::run(&mut bench, &mut peers, &arguments, written).await?);
                page.add(&reading::past(&mut bench, &arguments, written).await?);
            }
            if arguments.wants("storage") {
                page.add(&storage::run(&mut bench, &mut peers, written).await?);
            }
            if arguments.wants("pruning") {
                page.add(&pruning::run(&mut bench, &mut peers, &arguments, written).await?);
            }
        }
        if arguments.wants("growth") {
            page.grow(&growth::run(&mut bench, &arguments).await?);
        }
        // What it needs is built where it is asked for.
        if arguments.only.iter().any(|only| only == "web") {
            page.say("The web interface", &web::run(&mut bench, &arguments).await?);
        }
    }
    match &arguments.page {
        Some(folder) => page.write(folder, &arguments),
        None => Ok(()),
    }
}
