//! The log and the ways back, as checks of a case that was run.

use std::collections::BTreeMap;

use afterimage::{
    Action, Conflicts, Context, ErrorKind, LogEntry, LogQuery, Moment, PointInTime, Query, RevertTable,
    RevertTransaction,
};

use super::check;
use super::model;
use super::run::{Outcome, World};
use super::schema::TRACKED;

async fn log(world: &World, table: &str, query: &str) -> Outcome<Vec<LogEntry>> {
    let failed = |error: afterimage::Error| format!("log {query} of {table}: {error}");
    let mut query = LogQuery::parse(query).map_err(failed)?;
    query.query.tables.wanted.push(table.to_owned());
    Ok(world.db.audit.log(&query).await.map_err(failed)?.entries)
}

/// What an entry says, whichever the storage.
fn told(entry: &LogEntry) -> String {
    let header = &entry.header;
    format!(
        "{} {:?} {:?} {:?}: {:?}",
        entry.action().name(),
        entry.key,
        header.old_key,
        header.user,
        entry.changes
    )
}

/// The log tells the same over either storage, whatever is asked; and it is the versions' changes.
pub async fn told_alike(world: &mut World) -> Outcome {
    for table in 0..world.schema.tables.len() {
        // Where records inside a statement are out of order, the storages agree on where they lead, not on each.
        if world.schema.is_overtaken(table) {
            continue;
        }
        let names = TRACKED.map(|twin| world.schema.name(table, twin));
        let all = [log(world, &names[0], "").await?, log(world, &names[1], "").await?];
        let mut queries = vec![
            String::new(),
            "action:update".to_owned(),
            "-action:create".to_owned(),
            "was:null".to_owned(),
            "now:null".to_owned(),
        ];
        // Some of the values that there are, to be found again.
        for entry in all[0].iter().step_by(3).take(4) {
            let mut query = Query::default();
            for change in entry.changes.iter().rev().take(1) {
                query.change.fields.push(change.field.clone());
                query.change.was.push(change.old.to_string());
                query.change.now.push(change.new.to_string());
            }
            queries.push(query.to_string());
            let mut anywhere = Query::default();
            let text = entry
                .changes
                .iter()
                .map(|change| change.new.to_string())
                .find(|text| !text.trim().is_empty() && !text.contains('\0'));
            anywhere.text.extend(text.map(|text| afterimage::Phrase { text, negated: false }));
            queries.push(anywhere.to_string());
        }
        for query in queries.iter().filter(|query| !query.contains('\0')) {
            let lines = |entries: Vec<LogEntry>| entries.iter().map(told).collect::<Vec<_>>();
            let [a, b] =
                [lines(log(world, &names[0], query).await?), lines(log(world, &names[1], query).await?)];
            if a != b {
                return Err(format!(
                    "{}: the storages tell different logs of {query:?}\n{a:#?}\n{b:#?}",
                    names[0]
                ));
            }
        }
        let lives = check::lives(world, table, TRACKED[1]).await?;
        let by_id: BTreeMap<i64, &LogEntry> = all[1].iter().map(|entry| (entry.header.id, entry)).collect();
        for (key, versions) in &lives {
            for version in versions {
                let Some(entry) = by_id.get(&version.header.id) else {
                    // A departure is told by its arrival.
                    if version.header.action == Action::Delete {
                        continue;
                    }
                    return Err(format!("{} {key}: the log does not tell {version:?}", names[1]));
                };
                // What arrives where another row lived has nobody before it there; the log knows where it came from.
                if version.header.old_key.is_none() && entry.changes != version.changes {
                    return Err(format!(
                        "{} {key}: the log says {entry:#?}\nthe version {version:#?}",
                        names[1]
                    ));
                }
            }
        }
    }
    Ok(())
}

/// Whether a way back may be refused so: the random schemas have constraints that an older state can violate.
fn may_refuse(error: &afterimage::Error) -> bool {
    matches!(error.kind(), ErrorKind::Conflict | ErrorKind::Unknowable)
        || error.sqlstate().is_some_and(|code| code.starts_with("23") || code == "428C9")
        || error.to_string().contains("constraint")
        || error.to_string().contains("doesn't have a default value")
}

/// Where a way back is not refused, it leads to what was there; and what it wrote is recorded.
pub async fn back(world: &mut World) -> Outcome {
    let moments: Vec<(i64, Vec<model::Snapshot>)> =
        world.moments().into_iter().map(|(at, tables)| (at, tables.clone())).collect();
    let last = world.commits[world.commits.len() - 1].tables.clone();
    let why = Context::actor("back").reason("property");
    for (at, expected) in moments.iter().rev().step_by(2).take(3) {
        if expected.iter().zip(&last).any(|(then, now)| then.columns != now.columns) {
            continue;
        }
        for (table, expected) in expected.iter().enumerate() {
            for twin in TRACKED {
                let name = world.schema.name(table, twin);
                let to = PointInTime::At(Moment::from_micros(*at));
                let request =
                    RevertTable::new(&*name, to).conflicts(Conflicts::Overwrite).delete_created(true);
                match world.db.audit.revert_table(&request, &why).await {
                    Ok(_) => {
                        let live = model::live(&mut world.db, &world.schema, table, twin).await;
                        if untouched(&live) != untouched(expected) {
                            return Err(format!(
                                "{name} back to {at}:\nfound    {live:?}\nexpected {expected:?}"
                            ));
                        }
                    }
                    Err(error) if may_refuse(&error) => {}
                    Err(error) => return Err(format!("{name} back to {at}: {error}")),
                }
            }
        }
    }
    undone(world, &why).await?;
    check::whole(world).await
}

/// Without the column that a trigger of the schema's own writes: it does so after a way back too.
fn untouched(state: &model::Snapshot) -> Vec<Vec<afterimage::Value>> {
    let touched = state.columns.iter().position(|column| column == "touched");
    let keep = |(at, value): (usize, &afterimage::Value)| (Some(at) != touched).then(|| value.clone());
    state.rows.iter().map(|row| row.iter().enumerate().filter_map(keep).collect()).collect()
}

/// The newest transaction undone is the state before it.
async fn undone(world: &mut World, why: &Context) -> Outcome {
    for table in 0..world.schema.tables.len() {
        let name = world.schema.name(table, TRACKED[0]);
        let before = model::live(&mut world.db, &world.schema, table, TRACKED[0]).await;
        let key = world.schema.key(table).join(", ");
        let quoted = world.schema.quoted(table, TRACKED[0]);
        let mut tx =
            world.db.audit.begin(&Context::actor("oops")).await.map_err(|error| error.to_string())?;
        let two = if world.db.is_mariadb() {
            format!("DELETE FROM {quoted} ORDER BY {key} LIMIT 2")
        } else {
            format!("DELETE FROM {quoted} WHERE ({key}) IN (SELECT {key} FROM {quoted} LIMIT 2)")
        };
        let deleted = tx.execute(&two, &[]).await;
        if deleted.is_err() {
            continue;
        }
        tx.commit().await.map_err(|error| error.to_string())?;
        let newest = log(world, &name, "actor:oops").await?;
        let Some(id) = newest.first().and_then(|entry| entry.header.tx.clone()) else { continue };
        match world.db.audit.revert_transaction(&RevertTransaction::new(id), why).await {
            Ok(_) => {
                let after = model::live(&mut world.db, &world.schema, table, TRACKED[0]).await;
                if untouched(&after) != untouched(&before) {
                    return Err(format!("{name}: undone it is {after:?}\nand it was {before:?}"));
                }
            }
            Err(error) if may_refuse(&error) => {}
            Err(error) => return Err(format!("{name} undone: {error}")),
        }
    }
    Ok(())
}
