//! `track` and `untrack`.

use afterimage::{Afterimage, Progress, Track as Request, Tracked, Tracking};

use super::{Done, Failure};
use crate::Outcome;
use crate::arguments::Track;
use crate::config::Config;
use crate::output::{self, Format};
use crate::terminal::Bar;

pub(super) async fn track(audit: &Afterimage, config: &Config, request: Track) -> Done {
    let tables = if request.all { audit.tables().await? } else { request.tables.clone() };
    if tables.is_empty() {
        return Err(Failure::Usage("there is no table to track".to_owned()));
    }
    let mut tracked = Vec::new();
    for table in tables {
        // Said again without options, a table keeps those it has.
        let tracking = match audit.tracking(&table).await? {
            Some(present) if !request.options.any() => present,
            _ => request.options.tracking(),
        };
        let kept = request.options.keep.as_ref().map(|keep| &keep.0);
        let tracking = match kept {
            Some(keep) => Tracking { retention: keep.clone(), ..tracking },
            None => tracking,
        };
        let bar = Bar::default();
        let one = Request::new(&table, tracking).no_baseline(request.no_baseline);
        match audit.track_with(one, &mut shown(&bar)).await {
            Ok(done) => {
                if kept == Some(&None) {
                    audit.set_retention(&table, None).await?;
                }
                tracked.push(done);
            }
            Err(error) if request.all && error.kind() == afterimage::ErrorKind::Untrackable => {
                eprintln!("afterimage: left out: {error}");
            }
            Err(error) => return Err(error.into()),
        }
    }
    report(config, &tracked)?;
    Ok(Outcome::Done)
}

fn shown(bar: &Bar) -> impl FnMut(Progress) + Send {
    |progress| bar.show(&progress.table.to_string(), progress.done, progress.total, "rows")
}

fn report(config: &Config, tracked: &[Tracked]) -> Result<(), Failure> {
    if config.format == Some(Format::Json) {
        let all: Vec<_> = tracked
            .iter()
            .map(|one| {
                serde_json::json!({
                    "table": one.table.to_string(), "history": one.history.to_string(), "baseline": one.baseline, "again": one.again,
                })
            })
            .collect();
        return Ok(output::json(&all)?);
    }
    for one in tracked {
        let rows = if one.baseline == 1 { "row" } else { "rows" };
        let what = if one.again { "is up to date" } else { "is tracked" };
        println!("{} {what}: history in {}, baseline of {} {rows}", one.table, one.history, one.baseline);
    }
    Ok(())
}

pub(super) async fn untrack(audit: &Afterimage, table: &str, drop_history: bool) -> Done {
    audit.untrack(table, drop_history).await?;
    println!(
        "{table} is not tracked any more; its history {}",
        if drop_history { "is gone" } else { "stays" }
    );
    Ok(Outcome::Done)
}
