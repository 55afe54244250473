//! What is deleted, the last first, each with the way back.

use afterimage::{Database, LogQuery};
use askama::Template;
use axum::response::Response;

use super::line::{self, Line};
use super::{PAGE, Shell};
use crate::access::Act;
use crate::address::key_text;
use crate::asked::Asked;
use crate::failure::Failure;
use crate::filter::{Filter, LOOKED_BACK, NAMES, ago};

#[derive(Template)]
#[template(path = "deleted.html")]
struct Page {
    shell: Shell,
    here: String,
    tables: Vec<(String, bool)>,
    filtered: bool,
    /// Where it is looked for in all time, where it was not.
    wider: Option<String>,
    rows: Vec<(Line, Option<String>)>,
    older: Option<String>,
}

pub(crate) async fn page(mut asked: Asked) -> Result<Response, Failure> {
    let parameters = asked.parameters.only(&NAMES);
    let filter = Filter::read(&asked.parameters, asked.now, &asked.zone)?;
    asked.sought = filter.sought();
    // MariaDB has no index of what is deleted alone.
    let indexed = asked.audit.database() != Database::MariaDb;
    let bounded = filter.bounded || indexed && filter.is_cheap();
    let mut query = LogQuery { after: filter.after, ..LogQuery::from(filter.query).limit(PAGE).latest() };
    if !bounded {
        query.query.from = Some(ago(asked.now, LOOKED_BACK));
    }
    query.query.actions.wanted = vec!["delete".parse().map_err(afterimage::Error::from)?];
    let found = asked.audit.log(&query).await?;
    let known = asked.audit.tracked().await?;
    let here = "/deleted";
    super::html(&Page {
        tables: known
            .iter()
            .map(|table| {
                let name = table.table.to_string();
                let chosen = parameters.has("table", &name);
                (name, chosen)
            })
            .collect(),
        filtered: !parameters.is_empty(),
        rows: found
            .entries
            .iter()
            .map(|entry| {
                // The whole life of the row is counted on its own page: here its record says which version it is.
                let (table, key) = (entry.table.to_string(), key_text(&entry.key));
                let restore = asked
                    .may(Act::Revert, &entry.table)
                    .then(|| asked.links.within(&table, &key, &format!("/restore/id%3A{}", entry.header.id)));
                (line::line(&asked, entry), restore)
            })
            .collect(),
        older: found.next.map(|next| {
            let parameters = parameters.clone().with("before", next.to_string());
            asked.address(here, &parameters)
        }),
        wider: (!bounded).then(|| asked.address(here, &parameters.clone().with("range", "all"))),
        here: asked.links.to(here),
        shell: Shell::new(&asked, "deleted", "Deleted"),
    })
}
