//! `views`.

use afterimage::{Afterimage, Database, PointInTime, ViewsIn};

use super::{Done, Failure};
use crate::Outcome;
use crate::arguments::Views;
use crate::config::Config;
use crate::output::{self, Format};

pub(super) async fn run(audit: &Afterimage, config: &Config, request: Views) -> Done {
    if config.format == Some(Format::Csv) {
        return Err(Failure::Usage("views are statements: as SQL, or with --format json".to_owned()));
    }
    let at = PointInTime::parse(&request.time, &config.tz)?;
    let place = request.schema.as_deref().map_or(ViewsIn::Session, ViewsIn::Schema);
    let tables: Vec<&str> = request.tables.iter().map(String::as_str).collect();
    let statements = audit.at(at.clone()).await?.views(&tables, place).await?;
    if config.format == Some(Format::Json) {
        output::json(&statements)?;
        return Ok(Outcome::Done);
    }
    if let PointInTime::At(moment) = at {
        println!("-- As of {moment}.");
    }
    // Elsewhere such statements end whatever transaction they are in.
    let whole = audit.database() != Database::MariaDb;
    if whole {
        println!("BEGIN;");
    }
    for statement in &statements {
        println!("{statement};");
    }
    if whole {
        println!("COMMIT;");
    }
    Ok(Outcome::Done)
}
