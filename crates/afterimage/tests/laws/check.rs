//! The laws, as checks of a case that was run.

use std::collections::BTreeMap;

use afterimage::{
    Action, AsOfQuery, Database, ErrorKind, Moment, PointInTime, RowJson, Start, Value, Version,
};

use super::model::{self, Snapshot};
use super::run::{Outcome, World};
use super::schema::{TRACKED, TWINS};

/// Laws 1, 2 and 3: after every commit the records give the live tables.
pub async fn whole(world: &mut World) -> Outcome {
    for verdict in world.db.audit.verify(&[]).await.map_err(|error| error.to_string())? {
        if !verdict.is_whole() {
            return Err(format!("{}: {:#?} {:?}", verdict.table, verdict.differences, verdict.faults));
        }
    }
    Ok(())
}

async fn as_of(world: &World, table: &str, at: i64, start: Start) -> Outcome<Snapshot> {
    let query = AsOfQuery { start, ..AsOfQuery::new(table, PointInTime::At(Moment::from_micros(at))) };
    let state = world.db.audit.as_of(&query).await.map_err(|error| format!("{table} as of {at}: {error}"))?;
    Ok(Snapshot { columns: state.columns, rows: state.rows })
}

pub async fn shows(world: &World, at: i64, expected: &[Snapshot], why: &str) -> Outcome {
    for (table, expected) in expected.iter().enumerate() {
        for twin in TRACKED {
            let name = world.schema.name(table, twin);
            for start in [Start::Records, Start::LiveRows] {
                let found = as_of(world, &name, at, start).await?;
                if found != *expected {
                    return Err(format!(
                        "{name} as of {at} from {start:?}, {why}:\nfound    {found:?}\nexpected {expected:?}"
                    ));
                }
            }
        }
    }
    Ok(())
}

/// Law 7: every remembered moment shows what was remembered, over either storage, in key order, page by page too.
pub async fn remembered(world: &mut World) -> Outcome {
    for (at, expected) in world.moments() {
        shows(world, at, expected, "a moment after a commit").await?;
    }
    let Some((at, expected)) = world.moments().pop_last() else { return Ok(()) };
    for (table, expected) in expected.iter().enumerate() {
        for twin in TRACKED {
            let name = world.schema.name(table, twin);
            let found = paged(world, &name, at).await?;
            if found != expected.rows {
                return Err(format!(
                    "{name} as of {at}, page by page:\nfound    {found:?}\nexpected {:?}",
                    expected.rows
                ));
            }
        }
    }
    Ok(())
}

/// A table as of a time, two rows at a time.
async fn paged(world: &World, table: &str, at: i64) -> Outcome<Vec<Vec<Value>>> {
    let moment = Moment::from_micros(at);
    let tracked = world.db.audit.tracked_table(table).await.map_err(|error| error.to_string())?;
    let key: Vec<&str> = tracked
        .columns
        .iter()
        .filter(|column| tracked.key.contains(&column.name))
        .map(|column| column.name_at(moment))
        .collect();
    let mut rows: Vec<Vec<Value>> = Vec::new();
    let mut query = AsOfQuery { limit: Some(2), ..AsOfQuery::new(table, PointInTime::At(moment)) };
    loop {
        let page = world.db.audit.as_of(&query).await.map_err(|error| format!("{query:?}: {error}"))?;
        let Some(last) = page.rows.last() else { return Ok(rows) };
        let named = page.columns.iter().cloned().zip(last.iter().cloned());
        let last: Vec<(String, Value)> = named.filter(|(name, _)| key.contains(&name.as_str())).collect();
        query.after = Some(serde_json::to_string(&RowJson(&last)).map_err(|error| error.to_string())?);
        rows.extend(page.rows);
    }
}

/// Law 8: at no record's date is there a part of a transaction.
pub async fn undivided(world: &mut World) -> Outcome {
    undivided_from(world, world.commits[0].at.as_micros() + 1).await
}

/// The same, of dates from a moment on.
pub async fn undivided_from(world: &mut World, from: i64) -> Outcome {
    let from = from.max(world.commits[0].at.as_micros() + 1);
    let mut dates: Vec<i64> =
        world.commits.iter().flat_map(|commit| &commit.added).map(|record| record.date).collect();
    dates.retain(|date| *date >= from);
    dates.sort_unstable();
    dates.dedup();
    for date in dates {
        // One microsecond before a record is a moment too.
        for at in [date - 1, date].into_iter().filter(|at| *at >= from) {
            let ended = |n: &usize| world.commits[*n].added.iter().all(|record| record.date <= at);
            let began = |n: &usize| world.commits[*n].added.iter().any(|record| record.date <= at);
            let open = (0..world.commits.len()).find(|n| began(n) && !ended(n));
            if open.is_some_and(|n| !world.commits[n].identified) {
                continue;
            }
            // A migration follows one table after the other, each in a transaction of its own.
            let migrating = |n: usize| {
                n > 0 && columns(&world.commits[n].tables) != columns(&world.commits[n - 1].tables)
            };
            if open.is_some_and(migrating) {
                continue;
            }
            // Commits that recorded nothing changed nothing that is shown.
            let last = (0..world.commits.len()).rev().find(|n| began(n) && ended(n)).unwrap_or_default();
            let columns_later = (last + 1..world.commits.len()).any(|n| {
                world.commits[n].at.as_micros() <= at
                    && columns(&world.commits[n].tables) != columns(&world.commits[last].tables)
            });
            if !columns_later {
                shows(world, at, &world.commits[last].tables, &format!("after commit {last}, open {open:?}"))
                    .await?;
            }
        }
    }
    Ok(())
}

fn columns(tables: &[Snapshot]) -> Vec<&Vec<String>> {
    tables.iter().map(|table| &table.columns).collect()
}

/// Laws 4 and 5: records say whose they are, and stay.
pub async fn attributed(world: &mut World) -> Outcome {
    for commit in &world.commits {
        let (user, reason) = commit.context.clone().unzip();
        if let Some(record) =
            commit.added.iter().find(|record| record.user != user || record.reason != reason)
        {
            return Err(format!("{record:?} should be of {user:?}, {reason:?}"));
        }
    }
    let before = model::records(&mut world.db, &world.schema).await;
    for table in 0..world.schema.tables.len() {
        for twin in TRACKED {
            let history = format!("\"{}_history\"", world.schema.name(table, twin));
            if world.db.text(&format!("SELECT count(*) FROM {history}")).await.as_deref() == Some("0") {
                continue;
            }
            for sql in [
                format!("UPDATE {history} SET history_date = history_date"),
                format!("DELETE FROM {history}"),
            ] {
                if world.db.try_run(&sql).await.is_ok() {
                    return Err(format!("{sql} is possible"));
                }
            }
        }
    }
    let after = model::records(&mut world.db, &world.schema).await;
    if after == before { Ok(()) } else { Err("records changed".to_owned()) }
}

/// All rows that ever were, by key, with their versions, oldest first.
pub async fn lives(world: &mut World, table: usize, twin: &str) -> Outcome<BTreeMap<String, Vec<Version>>> {
    let name = world.schema.name(table, twin);
    let key = world.schema.key(table);
    let parts: Vec<String> = key.iter().map(|k| format!("'{k}', {k}")).collect();
    let (object, text) = world.db.by3(
        ("json_object", "TEXT"),
        ("json_build_object", "TEXT"),
        // Keys that are one by their collation are two rows of a history.
        ("JSON_OBJECT", "CHAR) COLLATE utf8mb4_nopad_bin"),
    );
    let close = if world.db.is_mariadb() { "" } else { ")" };
    let sql = format!(
        "SELECT DISTINCT CAST({object}({}) AS {text}{close} AS x FROM \"{name}_history\"",
        parts.join(", ")
    );
    let keys = world.db.lines(&sql).await;
    let mut lives = BTreeMap::new();
    for key in keys {
        let mut versions = world
            .db
            .audit
            .history(&name, &key)
            .await
            .map_err(|error| format!("history {name} {key}: {error}"))?;
        versions.reverse();
        lives.insert(key, versions);
    }
    Ok(lives)
}

/// Laws 6 and 7, row by row: the records follow one another, and the last one is what is there.
pub async fn in_order(world: &mut World) -> Outcome {
    for table in 0..world.schema.tables.len() {
        for twin in TRACKED {
            let lives = lives(world, table, twin).await?;
            let live = &world.commits[world.commits.len() - 1].tables[table];
            for (key, versions) in &lives {
                let why = |what: &str| {
                    Err(format!("{} {key}: {what}\n{versions:#?}", world.schema.name(table, twin)))
                };
                let mut previous: Option<&Version> = None;
                for version in versions {
                    if let Some(wrong) = misfit(previous, version) {
                        return why(&wrong);
                    }
                    previous = Some(version);
                }
                let Some(last) = previous else { return why("no version") };
                let is_live = live.rows.iter().any(|row| is(live, row, last));
                // A deleted row may look just like another that is there: through changes of key, not under its own.
                let deleted = last.header.action == Action::Delete;
                if !is_live && !deleted {
                    return why("it is not there");
                }
            }
            for row in &live.rows {
                let named: Vec<(String, Value)> =
                    live.columns.iter().cloned().zip(row.iter().cloned()).collect();
                let key = serde_json::to_string(&RowJson(&named[..world.schema.key(table).len()])).unwrap();
                let versions = world.db.audit.history(&world.schema.name(table, twin), &key).await;
                let versions = versions.map_err(|error| error.to_string())?;
                if !versions
                    .first()
                    .is_some_and(|last| last.header.action != Action::Delete && is(live, row, last))
                {
                    return Err(format!(
                        "{} {key}: the row is {named:?}\n{versions:#?}",
                        world.schema.name(table, twin)
                    ));
                }
            }
        }
    }
    Ok(())
}

/// Whether a version is this live row, in the columns that there were at the version's time.
fn is(live: &Snapshot, row: &[Value], version: &Version) -> bool {
    let value = |name: &str| live.columns.iter().position(|column| column == name).map(|at| &row[at]);
    version.row.iter().all(|(name, recorded)| value(name) == Some(recorded))
}

/// What is wrong with a version, after the one before it.
fn misfit(previous: Option<&Version>, version: &Version) -> Option<String> {
    let number = version.number;
    let Some(before) = previous else {
        return (version.header.action != Action::Create)
            .then(|| "the first version is no creation".to_owned());
    };
    if version.header.date < before.header.date || version.header.id <= before.header.id {
        return Some(format!("version {number} is dated before the one before"));
    }
    let alive = before.header.action != Action::Delete;
    let moved = version.header.action == Action::Create && version.header.old_key.is_some();
    if alive == (version.header.action == Action::Create) && !moved {
        return Some(format!("version {number} does not follow"));
    }
    if version.header.action != Action::Update {
        return None;
    }
    if version.changes.is_empty() {
        return Some(format!("version {number} changes nothing"));
    }
    version.row.iter().find_map(|(name, value)| {
        let old = before.row.iter().find(|(before, _)| before == name).map(|(_, value)| value)?;
        match version.changes.iter().find(|change| change.field == *name) {
            None => (old != value).then(|| format!("version {number} does not say that {name} changed")),
            Some(change) if change.old != *old || change.new != *value => Some(format!(
                "version {number}: {name} was {old}, is {value}, and it says {} -> {}",
                change.old, change.new
            )),
            Some(change) if change.old == change.new && *value != Value::Masked => {
                Some(format!("version {number}: {name} did not change"))
            }
            Some(_) => None,
        }
    })
}

/// The storage is a matter of cost, never of what can be asked: both twins tell the same lives.
pub async fn alike(world: &mut World) -> Outcome {
    for table in 0..world.schema.tables.len() {
        let [first, second] =
            [lives(world, table, TRACKED[0]).await?, lives(world, table, TRACKED[1]).await?];
        let told = |lives: &BTreeMap<String, Vec<Version>>| -> Vec<String> {
            let version = |v: &Version| {
                format!("{:?} {:?} {:?} {:?}", v.header.action, v.header.old_key, v.row, v.changes)
            };
            lives
                .iter()
                .map(|(key, versions)| {
                    format!("{key}: {:#?}", versions.iter().map(version).collect::<Vec<_>>())
                })
                .collect()
        };
        for (a, b) in told(&first).into_iter().zip(told(&second)) {
            if a != b {
                return Err(format!("{}: the storages differ\n{a}\n{b}", world.schema.name(table, "*")));
            }
        }
        if first.len() != second.len() {
            return Err(format!("the storages know different rows: {:?} {:?}", first.keys(), second.keys()));
        }
    }
    Ok(())
}

/// Law 9: what is not known is said to be unknown; a gap is closed by tracking again.
pub async fn honest(world: &mut World) -> Outcome {
    let unknowable = async |world: &World, name: &str, at: Moment| {
        let query = AsOfQuery::new(name, PointInTime::At(at));
        match world.db.audit.as_of(&query).await {
            Err(error) if error.kind() == ErrorKind::Unknowable => Ok(()),
            other => Err(format!("{name} as of {at} should be unknowable, is {other:?}")),
        }
    };
    let name = world.schema.name(0, TRACKED[0]);
    let since = world.db.audit.status().await.map_err(|error| error.to_string())?;
    let since = since.iter().find(|status| status.table.name == name).ok_or("not in the status")?.since;
    unknowable(world, &name, Moment::from_micros(since.as_micros() - 1)).await?;

    let known = world.commits[world.commits.len() - 1].at;
    if world.schema.database == Database::Sqlite {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    let failed = |error: afterimage::Error| error.to_string();
    world.db.audit.untrack(&name, false).await.map_err(failed)?;
    let inside = model::moment(&mut world.db).await;
    for twin in TWINS {
        let table = world.schema.quoted(0, twin);
        let _ = world.db.try_run(&format!("DELETE FROM {table}")).await;
    }
    unknowable(world, &name, inside).await?;
    unknowable(world, &name, Moment::now()).await?;
    let tracking = world.schema.tracking(0, afterimage::Storage::Delta);
    world.db.audit.track(&*name, tracking).await.map_err(failed)?;
    unknowable(world, &name, inside).await?;
    whole(world).await?;
    let at = model::moment(&mut world.db).await;
    let tables = model::snapshots(&mut world.db, &world.schema).await?;
    let found = as_of(world, &name, at.as_micros(), Start::Records).await?;
    if found != tables[0] {
        return Err(format!("after the gap: found {found:?}, expected {:?}", tables[0]));
    }
    shows(world, known.as_micros(), &world.commits[world.commits.len() - 1].tables, "before the gap").await
}
