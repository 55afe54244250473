//! Retention, as checks of a case that was run.

use afterimage::{AsOfQuery, Context, ErrorKind, Moment, PointInTime, Prune, Pruned, Retention};

use super::check;
use super::model;
use super::run::{Outcome, World};
use super::schema::TRACKED;

fn failed(error: afterimage::Error) -> String {
    error.to_string()
}

async fn keep(world: &World, retention: Retention) -> Outcome<Vec<Pruned>> {
    let by = Context::actor("keeper").reason("a law");
    world.db.audit.prune(&Prune::new().tables(names(world)).keep(retention), &by).await.map_err(failed)
}

pub fn names(world: &World) -> Vec<String> {
    (0..world.schema.tables.len())
        .flat_map(|table| TRACKED.map(|twin| world.schema.name(table, twin)))
        .collect()
}

async fn rows_known(world: &mut World) -> Outcome<Vec<Vec<String>>> {
    let mut known = Vec::new();
    for table in 0..world.schema.tables.len() {
        for twin in TRACKED {
            known.push(check::lives(world, table, twin).await?.into_keys().collect());
        }
    }
    Ok(known)
}

/// Whatever went: every time from the cut on shows what was there, no part of a transaction, over either storage; every time
/// before says that it is not known; every row is still known; and the records give the live table.
pub async fn pruned(world: &mut World) -> Outcome {
    let mut dates: Vec<i64> =
        world.commits.iter().flat_map(|commit| &commit.added).map(|record| record.date).collect();
    dates.sort_unstable();
    let Some(mut cut) = dates.get(dates.len() / 2).copied() else { return Ok(()) };
    let in_parts = world.db.is_postgres() && dates.len().is_multiple_of(2);
    if in_parts {
        let borders = [dates[dates.len() / 4], cut].map(Moment::from_micros);
        let borders = if borders[0] < borders[1] { &borders[..] } else { &borders[1..] };
        for table in names(world) {
            world.db.cut_up(&table, borders).await;
        }
    }
    let before = rows_known(world).await?;
    let records = model::records(&mut world.db, &world.schema).await.len() as u64;
    let retention = Retention::until(Moment::from_micros(cut));
    if in_parts {
        // What goes, goes with its partition: up to the end of one.
        cut -= 1;
    }
    let would = world
        .db
        .audit
        .prune(&Prune::new().tables(names(world)).keep(retention.clone()).dry_run(true), &Context::new())
        .await
        .map_err(failed)?;
    let done = keep(world, retention.clone()).await?;
    if would != done {
        return Err(format!("it was to be {would:#?}, and was {done:#?}"));
    }
    let gone: u64 = done.iter().map(|one| one.records).sum();
    let left = model::records(&mut world.db, &world.schema).await.len() as u64;
    if left + gone != records {
        return Err(format!("of {records} records {gone} went, and {left} are left"));
    }
    check::whole(world).await?;
    for (at, expected) in world.moments() {
        if at >= cut {
            check::shows(world, at, expected, "after it was pruned").await?;
            continue;
        }
        for one in done.iter().filter(|one| one.records > 0) {
            let query = AsOfQuery::new(one.table.to_string(), PointInTime::At(Moment::from_micros(at)));
            match world.db.audit.as_of(&query).await {
                Err(error) if error.kind() == ErrorKind::Unknowable => {}
                other => return Err(format!("{} as of {at} was pruned, and is {other:?}", one.table)),
            }
        }
    }
    check::undivided_from(world, cut).await?;
    if rows_known(world).await? != before {
        return Err("a row is not known any more".to_owned());
    }
    let again = keep(world, retention).await?;
    if again.iter().any(|one| one.records > 0) {
        return Err(format!("pruned again, more went: {again:#?}"));
    }
    // By versions: of each row the newest record stays, so that both twins are alike again.
    keep(world, Retention::versions(2)).await?;
    check::whole(world).await?;
    let done = keep(world, Retention::versions(1)).await?;
    check::whole(world).await?;
    let rows: usize = before.iter().map(Vec::len).sum();
    let left = model::records(&mut world.db, &world.schema).await.len();
    if left != rows {
        return Err(format!("of {rows} rows, {left} records are left: {done:#?}"));
    }
    let horizon =
        done.iter().filter_map(|one| one.until).max().map_or(cut, |until| until.as_micros().max(cut));
    for (at, expected) in world.moments() {
        if at >= horizon {
            check::shows(world, at, expected, "after all versions but one were pruned").await?;
        }
    }
    check::undivided_from(world, horizon).await?;
    check::alike(world).await
}
