//! What happened, newest first: filtered by everything, counted by day, actor, action and table.

use std::collections::BTreeMap;

use afterimage::{Action, LogPage, LogQuery, LogSummary, Moment};
use askama::Template;
use axum::http::StatusCode;
use axum::response::Response;

use super::histogram::{Histogram, histogram};
use super::line::{self, Day, Link};
use super::{PAGE, Shell};
use crate::access::Act;
use crate::asked::Asked;
use crate::failure::Failure;
use crate::filter::{Filter, LOOKED_BACK, NAMES, Parameters, RANGES, ago};
use crate::markup;

/// So many changes are counted; beyond, it is said that there are more.
const COUNTED: u64 = 10_000;

/// The same where each has to be looked at.
const LOOKED_AT: u64 = 1_000;

/// So many choices of a facet are offered.
const CHOICES: usize = 12;

/// A choice among values, with how many changes it has.
pub(crate) struct Choice {
    value: String,
    shown: String,
    count: String,
    chosen: bool,
}

/// A filter that is set, and the page without it.
pub(crate) struct Chip {
    text: String,
    without: String,
}

pub(crate) struct Facets {
    pub(crate) ranges: Vec<Choice>,
    pub(crate) actors: Vec<Choice>,
    pub(crate) actions: Vec<Choice>,
    pub(crate) tables: Vec<Choice>,
    pub(crate) columns: Vec<String>,
}

#[derive(Template)]
#[template(path = "activity.html")]
struct Page {
    shell: Shell,
    /// The actor whose page it is.
    actor: Option<String>,
    /// Where the form leads.
    action: String,
    facets: Facets,
    chips: Vec<Chip>,
    clear: String,
    count: String,
    period: String,
    /// Periods to choose from, on an actor's page.
    periods: Vec<Link>,
    histogram: Option<Histogram>,
    days: Vec<Day>,
    gaps: Vec<String>,
    note: Option<String>,
    ways_out: Vec<Link>,
    older: Option<String>,
    newest: Option<String>,
    csv: Option<String>,
    json: Option<String>,
    poll: Option<String>,
    /// What of the filter has no field of its own in the form.
    kept: Vec<(String, String)>,
    since: String,
    until: String,
    field: String,
    was: String,
    now: String,
    reason: String,
}

pub(crate) async fn page(asked: Asked) -> Result<Response, Failure> {
    if let Some(record) = named_record(&asked).await? {
        return Ok(super::see_other(&record));
    }
    show(asked, None).await
}

/// The record that a search names by its table and key: `order 17`, `orders 17`.
async fn named_record(asked: &Asked) -> Result<Option<String>, Failure> {
    let alone = asked.parameters.without(&["tz"]).pairs().count() == 1;
    let words: Vec<&str> = asked
        .parameters
        .first("q")
        .filter(|_| alone)
        .map_or_else(Vec::new, |q| q.split_whitespace().collect());
    let [name, key] = words.as_slice() else { return Ok(None) };
    let named =
        |table: &str| table.eq_ignore_ascii_case(name) || table.eq_ignore_ascii_case(&format!("{name}s"));
    let known = asked.audit.tracked().await?;
    let Some(table) = known.iter().find(|known| named(&known.table.name)) else { return Ok(None) };
    let mut query = LogQuery::default().limit(1);
    query.query.tables.wanted.push(table.table.to_string());
    query.query.keys.wanted.push((*key).to_owned());
    // A key that is none of this table is a word.
    let there = asked.audit.log(&query).await.is_ok_and(|page| !page.entries.is_empty());
    Ok(there.then(|| asked.links.record(&table.table.to_string(), key)))
}

/// What one actor did.
pub(crate) async fn actor(mut asked: Asked) -> Result<Response, Failure> {
    let actor = asked.part("id").to_owned();
    asked.parameters = asked.parameters.without(&["actor"]).with("actor", &actor);
    show(asked, Some(actor)).await
}

async fn show(mut asked: Asked, actor: Option<String>) -> Result<Response, Failure> {
    let parameters = asked.parameters.only(&NAMES);
    let filter = match Filter::read(&asked.parameters, asked.now, &asked.zone) {
        Ok(filter) => filter,
        Err(failure) => return refused(&asked, actor, &failure).await,
    };
    asked.sought = filter.sought();
    let found = match found(&asked, &filter).await {
        Ok(found) => found,
        Err(failure)
            if failure.status == StatusCode::BAD_REQUEST || failure.status == StatusCode::NOT_FOUND =>
        {
            return refused(&asked, actor, &failure).await;
        }
        Err(failure) => return Err(failure),
    };
    let Found { page, query, range, note } = found;
    // Counted without the choices of each facet, so that the others of it can be chosen.
    let unchosen = Filter::read(&asked.parameters.without(&["actor", "action"]), asked.now, &asked.zone)?;
    let mut wide = LogQuery::from(unchosen.query).limit(if filter.is_cheap() { COUNTED } else { LOOKED_AT });
    (wide.query.from, wide.query.before) = (query.from, query.before);
    let all_are_here = filter.after.is_none() && page.next.is_none();
    let chosen = parameters.first("actor").or(parameters.first("action")).is_some();
    let asked_for = LogQuery { query: query.clone(), ..wide.clone() };
    let counted = match all_are_here {
        // Nothing has to be looked for twice.
        true => LogSummary::of(&page.entries),
        false => asked.audit.log_summary(&asked_for).await?,
    };
    let summary = match actor {
        None if chosen => asked.audit.log_summary(&wide).await?,
        _ => counted.clone(),
    };
    let total: u64 = counted.counts.iter().map(|count| count.records).sum();
    let count = match (total, counted.more) {
        (1, false) => "1 change".to_owned(),
        (total, false) => format!("{} changes", grouped(total)),
        (total, true) => format!("{}+ changes", grouped(total)),
    };
    let path = match &actor {
        Some(actor) => format!("/actor/{}", crate::address::encoded(actor)),
        None => "/".to_owned(),
    };
    let on = |parameters: &Parameters| asked.address(&path, parameters);
    let exports = asked.audit_for(Act::Export).tracked().await.is_ok_and(|tables| !tables.is_empty());
    // What is taken away is what is seen, its period included.
    let exported = if parameters.first("range").is_some() || filter.bounded {
        parameters.clone()
    } else {
        parameters.clone().with("range", range.unwrap_or("all"))
    };
    let export = |path: &str| asked.address(path, &exported);
    let first_page = filter.after.is_none();
    let newest = page.entries.first().map(|entry| entry.cursor());
    let title = match &actor {
        Some(actor) => format!("What {actor} did"),
        None => "Activity".to_owned(),
    };
    let empty = page.entries.is_empty();
    super::html(&Page {
        facets: facets(&asked, &summary, &parameters, range, &page).await?,
        chips: chips(&parameters, actor.is_some(), on),
        clear: asked.links.to(&path),
        count,
        period: period(&asked, &query),
        periods: if actor.is_some() { periods(on) } else { Vec::new() },
        histogram: histogram(&asked, &counted, &parameters),
        days: line::days(&asked, &page.entries),
        gaps: gaps(&asked, &page),
        ways_out: if empty || (!filter.bounded && !filter.is_cheap()) {
            ways_out(&parameters, on)
        } else {
            Vec::new()
        },
        older: page
            .next
            .filter(|_| !empty)
            .map(|next| on(&exported.clone().with("before", next.to_string()))),
        newest: (!first_page).then(|| on(&parameters)),
        csv: exports.then(|| export("/export.csv")),
        json: exports.then(|| export("/export.json")),
        poll: newest.filter(|_| first_page && filter.query.before.is_none()).map(|newest| {
            let than = exported.clone().with("than", newest.to_string()).with("path", path.clone());
            asked.address("/new", &than)
        }),
        kept: kept(&parameters),
        since: one(&parameters, "since"),
        until: one(&parameters, "until"),
        field: one(&parameters, "field"),
        was: one(&parameters, "was"),
        now: one(&parameters, "now"),
        reason: one(&parameters, "reason"),
        action: asked.links.to(&path),
        shell: Shell::new(&asked, "activity", title),
        note,
        actor,
    })
}

/// A query that cannot be asked, with what is wrong with it, and everything as it was typed.
async fn refused(asked: &Asked, actor: Option<String>, failure: &Failure) -> Result<Response, Failure> {
    let parameters = asked.parameters.only(&NAMES);
    let on = |parameters: &Parameters| asked.address("/", parameters);
    let summary = LogSummary::default();
    let page = Page {
        facets: facets(asked, &summary, &parameters, None, &LogPage::default()).await?,
        chips: chips(&parameters, false, on),
        clear: asked.links.to("/"),
        count: "nothing was asked".to_owned(),
        period: String::new(),
        periods: Vec::new(),
        histogram: None,
        days: Vec::new(),
        gaps: Vec::new(),
        note: Some(failure.detail.clone()),
        ways_out: vec![Link { text: markup::text("What can be asked"), to: asked.links.to("/help") }],
        older: None,
        newest: None,
        csv: None,
        json: None,
        poll: None,
        kept: kept(&parameters),
        since: one(&parameters, "since"),
        until: one(&parameters, "until"),
        field: one(&parameters, "field"),
        was: one(&parameters, "was"),
        now: one(&parameters, "now"),
        reason: one(&parameters, "reason"),
        action: asked.links.to("/"),
        shell: Shell::new(asked, "activity", "Activity"),
        actor,
    };
    super::with_status(StatusCode::BAD_REQUEST, &page)
}

fn one(parameters: &Parameters, name: &str) -> String {
    parameters.first(name).unwrap_or_default().to_owned()
}

/// What the form has no fields for, so that it is sent along.
fn kept(parameters: &Parameters) -> Vec<(String, String)> {
    parameters.only(&["key", "request", "tx", "label"]).pairs().cloned().collect()
}

/// A page of changes, and the period that it turned out to be about.
struct Found {
    page: LogPage,
    query: afterimage::Query,
    range: Option<&'static str>,
    note: Option<String>,
}

/// The changes of the period asked for; where none is, of the shortest of the usual ones that has any.
async fn found(asked: &Asked, filter: &Filter) -> Result<Found, Failure> {
    let ask = async |query: afterimage::Query| {
        let log = LogQuery { after: filter.after, ..LogQuery::from(query.clone()).limit(PAGE) };
        Ok::<_, Failure>((asked.audit.log(&log).await?, query))
    };
    if filter.bounded {
        let (page, query) = ask(filter.query.clone()).await?;
        return Ok(Found { page, query, range: None, note: None });
    }
    // What has to be looked for is looked for once, and not in all there is.
    if !filter.is_cheap() {
        let mut query = filter.query.clone();
        query.from = Some(ago(asked.now, LOOKED_BACK));
        let (page, query) = ask(query).await?;
        let note = page.next.is_none().then(|| "Looked for in the last 30 days.".to_owned());
        return Ok(Found { page, query, range: Some("30d"), note });
    }
    // The first page of nothing in particular says what is newest, however long ago that is.
    for (name, said, seconds) in &RANGES[1..] {
        let mut query = filter.query.clone();
        query.from = seconds.map(|seconds| ago(asked.now, seconds));
        let (page, query) = ask(query).await?;
        if page.entries.is_empty() && seconds.is_some() {
            continue;
        }
        let note = (*name != "24h" && !page.entries.is_empty()).then(|| match seconds {
            Some(_) => format!("Nothing more recent: these are the {said}."),
            None => "Nothing in the last 30 days: these are the newest changes.".to_owned(),
        });
        return Ok(Found { page, query, range: Some(name), note });
    }
    Ok(Found { page: LogPage::default(), query: filter.query.clone(), range: Some("all"), note: None })
}

/// Whether a value is among those chosen, or none is. What restored something is an update or a creation by its header.
fn accepts(parameters: &Parameters, name: &str, value: &str) -> bool {
    let mut all = parameters.all(name).peekable();
    all.peek().is_none() || all.any(|chosen| chosen == value || chosen == "restore")
}

async fn facets(
    asked: &Asked,
    summary: &LogSummary,
    parameters: &Parameters,
    range: Option<&str>,
    page: &LogPage,
) -> Result<Facets, Failure> {
    let mut actors: BTreeMap<String, u64> = BTreeMap::new();
    let mut actions: BTreeMap<&str, u64> = BTreeMap::new();
    let mut tables: BTreeMap<String, u64> = BTreeMap::new();
    for count in &summary.counts {
        let actor = count.user.clone().unwrap_or_default();
        let (of_actor, of_action) =
            (accepts(parameters, "actor", &actor), accepts(parameters, "action", count.action.name()));
        if of_action {
            *actors.entry(actor).or_default() += count.records;
        }
        if of_actor {
            *actions.entry(count.action.name()).or_default() += count.records;
        }
        if of_actor && of_action {
            *tables.entry(count.table.to_string()).or_default() += count.records;
        }
    }
    actors.remove("");
    let known = asked.audit.tracked().await?;
    let label = |id: &str| {
        let named = page.entries.iter().find(|entry| entry.header.user.as_deref() == Some(id));
        named.and_then(|entry| entry.header.context_member("label")).unwrap_or_else(|| id.to_owned())
    };
    let more = summary.more;
    let choices = |counts: Vec<(String, u64)>, name: &'static str| {
        let mut counts = counts;
        for chosen in parameters.all(name) {
            if !counts.iter().any(|(value, _)| value == chosen) {
                counts.push((chosen.to_owned(), 0));
            }
        }
        counts.sort_by_key(|(value, count)| (std::cmp::Reverse(*count), value.clone()));
        let place = |n: usize, value: &str| n < CHOICES || parameters.has(name, value);
        counts
            .into_iter()
            .enumerate()
            .filter(|(n, (value, _))| place(*n, value))
            .map(|(_, (value, count))| Choice {
                shown: if name == "actor" { label(&value) } else { value.clone() },
                count: if more && count > 0 { format!("{}+", grouped(count)) } else { grouped(count) },
                chosen: parameters.has(name, &value),
                value,
            })
            .collect()
    };
    let given = parameters.first("range").or(range);
    let custom = parameters.first("since").is_some() || parameters.first("until").is_some();
    let mut columns: Vec<String> = known
        .iter()
        .filter(|table| accepts(parameters, "table", &table.table.to_string()))
        .flat_map(|table| table.columns.iter().map(|column| column.name.clone()))
        .collect();
    columns.sort();
    columns.dedup();
    let all = [Action::Create, Action::Update, Action::Delete].map(Action::name);
    let mut counted: Vec<(String, u64)> =
        all.iter().map(|name| ((*name).to_owned(), actions.get(name).copied().unwrap_or_default())).collect();
    counted.retain(|(name, count)| *count > 0 || parameters.has("action", name) || summary.counts.is_empty());
    for table in &known {
        // One that nothing happened to can be chosen where nothing else is.
        if summary.counts.is_empty() {
            tables.entry(table.table.to_string()).or_default();
        }
    }
    Ok(Facets {
        ranges: RANGES
            .iter()
            .map(|(name, said, _)| Choice {
                value: (*name).to_owned(),
                shown: (*said).to_owned(),
                count: String::new(),
                chosen: given == Some(*name) && !custom,
            })
            .collect(),
        actors: choices(actors.into_iter().collect(), "actor"),
        actions: choices(counted, "action"),
        tables: choices(tables.into_iter().collect(), "table"),
        columns,
    })
}

/// The usual periods of what somebody did.
fn periods(on: impl Fn(&Parameters) -> String) -> Vec<Link> {
    let period = |text: &str, parameters: &[(&str, &str)]| {
        let all = parameters.iter().fold(Parameters::default(), |all, (name, value)| all.with(name, *value));
        Link { text: markup::text(text), to: on(&all) }
    };
    vec![
        period("last 24 hours", &[("range", "24h")]),
        period("yesterday", &[("since", "yesterday"), ("until", "yesterday")]),
        period("7 days", &[("range", "7d")]),
        period("30 days", &[("range", "30d")]),
    ]
}

/// What is set, in words, and the page without each.
fn chips(parameters: &Parameters, of_actor: bool, on: impl Fn(&Parameters) -> String) -> Vec<Chip> {
    parameters
        .pairs()
        .filter(|(name, _)| !(of_actor && name == "actor"))
        .map(|(name, value)| {
            let text = match name.as_str() {
                "q" => format!("“{value}”"),
                "range" => RANGES
                    .iter()
                    .find(|(range, ..)| range == value)
                    .map_or_else(|| value.clone(), |(_, said, _)| (*said).to_owned()),
                "was" => format!("was {value}"),
                "now" => format!("became {value}"),
                name => format!("{name}: {value}"),
            };
            Chip { text, without: on(&parameters.less(name, value)) }
        })
        .collect()
}

fn period(asked: &Asked, query: &afterimage::Query) -> String {
    let day = |moment: Moment| moment.formatted(&asked.zone, "%-d %b %Y %H:%M");
    match (query.from, query.before) {
        (Some(from), Some(before)) => {
            format!("{} to {}", day(from), day(Moment::from_micros(before.as_micros() - 1)))
        }
        (Some(from), None) => format!("since {}", day(from)),
        (None, Some(before)) => format!("until {}", day(Moment::from_micros(before.as_micros() - 1))),
        (None, None) => "of all time".to_owned(),
    }
}

fn gaps(asked: &Asked, page: &LogPage) -> Vec<String> {
    page.gaps
        .iter()
        .map(|(table, gap)| {
            let until = gap.to.map_or_else(|| "now".to_owned(), |to| asked.time(to));
            let row = gap.key.as_deref().map(|key| format!(" of row {key}")).unwrap_or_default();
            format!(
                "Changes of {table}{row} may be missing from {} to {until}: {}",
                asked.time(gap.from),
                gap.cause
            )
        })
        .collect()
}

/// Where nothing is found: what to leave out.
fn ways_out(parameters: &Parameters, on: impl Fn(&Parameters) -> String) -> Vec<Link> {
    let link = |text: &str, parameters: &Parameters| Link { text: markup::text(text), to: on(parameters) };
    let mut ways = Vec::new();
    let period = ["range", "since", "until"];
    if parameters.first("range") != Some("all") {
        ways.push(link("Look in all time", &parameters.without(&period).with("range", "all")));
    }
    if !parameters.without(&period).is_empty() {
        ways.push(link("Drop every filter", &parameters.only(&period)));
    }
    ways
}

/// A number with its thousands apart.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[derive(Template)]
#[template(path = "new.html")]
struct New {
    count: String,
    to: String,
}

/// How many changes there are that a page does not show yet.
pub(crate) async fn new(asked: Asked) -> Result<Response, Failure> {
    let than = asked.parameters.first("than").and_then(|than| than.parse::<afterimage::Cursor>().ok());
    let than = than.ok_or_else(|| Failure::wrong("newer than what?"))?;
    let filter = Filter::read(&asked.parameters, asked.now, &asked.zone)?;
    let mut query = LogQuery::from(filter.query).limit(PAGE + 1);
    let since = than.date();
    query.query.from = Some(query.query.from.map_or(since, |from| from.max(since)));
    let entries = asked.audit.log(&query).await?.entries;
    let newer = entries.iter().filter(|entry| entry.cursor().is_newer_than(than)).count();
    let path = asked.parameters.first("path").filter(|path| path.starts_with("/actor/")).unwrap_or("/");
    super::html(&New {
        count: match newer {
            0 => String::new(),
            1 => "1 new change".to_owned(),
            n if n as u64 > PAGE => format!("{PAGE}+ new changes"),
            n => format!("{n} new changes"),
        },
        to: asked.address(path, &asked.parameters.only(&NAMES)),
    })
}
