//! A link to a page, for somebody who is no user.

use afterimage::{Moment, PointInTime};
use askama::Template;
use axum::http::StatusCode;
use axum::response::Response;

use super::Shell;
use crate::address::is_within;
use crate::asked::Asked;
use crate::failure::Failure;
use crate::filter::Parameters;
use crate::links;

/// A link is valid for so many days at most.
const LONGEST: i64 = 365;

#[derive(Template)]
#[template(path = "link.html")]
struct Page {
    shell: Shell,
    here: String,
    address: String,
    days: String,
    problem: Option<String>,
    /// The link, and until when it is valid.
    made: Option<(String, String)>,
}

pub(crate) async fn page(asked: Asked) -> Result<Response, Failure> {
    let address = asked.parameters.first("address").unwrap_or_default().to_owned();
    show(&asked, address, "7".to_owned(), None, None)
}

fn show(
    asked: &Asked,
    address: String,
    days: String,
    problem: Option<&str>,
    made: Option<(String, String)>,
) -> Result<Response, Failure> {
    if asked.link_key.is_none() {
        return Err(Failure::missing("No links are made here."));
    }
    if !is_within(&address) {
        return Err(Failure::wrong("A link leads to a page of this history."));
    }
    let status = if problem.is_some() { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    let page = Page {
        here: asked.links.to("/link"),
        shell: Shell::new(asked, "", "A link for somebody"),
        problem: problem.map(ToOwned::to_owned),
        address,
        days,
        made,
    };
    super::with_status(status, &page)
}

/// The address with the time that it says, if it does, as a moment: what a word or a zone means is not for whoever has the link.
fn settled(asked: &Asked, address: &str) -> Result<String, Failure> {
    let Some((path, query)) = address.split_once('?') else { return Ok(address.to_owned()) };
    let parameters = Parameters::read(query);
    let at = match parameters.first("at") {
        None => return Ok(address.to_owned()),
        Some("now") => asked.now,
        Some(text) => match PointInTime::parse(text, &asked.zone)? {
            PointInTime::At(moment) => moment,
            _ => return Ok(address.to_owned()),
        },
    };
    Ok(parameters.without(&["at"]).with("at", at.to_string()).on(path))
}

pub(crate) async fn make(asked: Asked) -> Result<Response, Failure> {
    let body = String::from_utf8_lossy(&asked.body).into_owned();
    let sent = Parameters::read(&body);
    let text = |name: &str| sent.first(name).unwrap_or_default().trim().to_owned();
    let (address, days) = (text("address"), text("days"));
    let (Some(key), Some(by)) = (&asked.link_key, asked.visitor.actor()) else {
        return Err(Failure::missing("No links are made here."));
    };
    let Some(valid) = days.parse::<i64>().ok().filter(|days| (1..=LONGEST).contains(days)) else {
        let problem = format!("It is valid for 1 to {LONGEST} days.");
        return show(&asked, address, days, Some(&problem), None);
    };
    let address = settled(&asked, &address)?;
    let until = Moment::from_micros(asked.now.as_micros() + valid * 86_400_000_000);
    let token = links::token(key, &address, until, &by);
    let link = asked.links.below(&format!("{}{token}", links::PREFIX)).exactly(&address);
    tracing::info!(
        target: "afterimage::access", id = asked.id, who = ?asked.visitor.name(), address, until = %until, "a link was made"
    );
    let until = asked.time(until);
    show(&asked, address, days, None, Some((link, until)))
}
