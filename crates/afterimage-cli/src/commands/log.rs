//! `log`.

use std::io::Write as _;
use std::time::Duration;

use afterimage::{Action, Afterimage, Cursor, LogEntry, LogPage, LogQuery, Moment, Query};

use super::{Done, Failure};
use crate::Outcome;
use crate::arguments;
use crate::change;
use crate::config::Config;
use crate::output::{self, Format, harmless, shown};
use crate::terminal::{Meaning, Page, paint};

/// Without a limit of his own, a person gets so many changes.
const A_PAGE: u64 = 50;

/// How often a log that is followed is looked at.
const EVERY: Duration = Duration::from_millis(500);

pub(super) async fn run(audit: &Afterimage, config: &Config, request: arguments::Log) -> Done {
    if let (true, [table], [key]) = (request.related, &*request.table, &*request.key) {
        return timeline(audit, config, table, key, &request).await;
    }
    let query = query(config, &request)?;
    if request.follow {
        return follow(audit, config, query).await;
    }
    let mut log = LogQuery::from(query);
    log.limit = request.limit;
    log.after = request.after.as_deref().map(str::parse::<Cursor>).transpose()?;
    let gaps = match config.format {
        Some(Format::Json) => json(audit, &log).await?,
        Some(Format::Csv) => csv(audit, &log).await?,
        _ => {
            log.limit = log.limit.or(Some(A_PAGE));
            let page = audit.log(&log).await?;
            print(config, &page)?;
            page.gaps
        }
    };
    missing(config, gaps);
    Ok(Outcome::Done)
}

/// The log of a row and of those that referred to it.
async fn timeline(
    audit: &Afterimage,
    config: &Config,
    table: &str,
    key: &str,
    request: &arguments::Log,
) -> Done {
    let mut query = query(config, request)?;
    // They say whose timeline it is, not what is asked of it.
    query.tables.wanted.clear();
    query.keys.wanted.clear();
    let mut log = LogQuery::from(query);
    log.limit = request.limit.or((config.format != Some(Format::Json)).then_some(A_PAGE));
    log.after = request.after.as_deref().map(str::parse::<Cursor>).transpose()?;
    let page = audit.timeline(table, key, &log).await?;
    match config.format {
        Some(Format::Json) => output::json(&page.entries)?,
        Some(Format::Csv) => {
            return Err(Failure::Usage("a timeline is printed as table or json".to_owned()));
        }
        _ => print(config, &page)?,
    }
    missing(config, page.gaps);
    Ok(Outcome::Done)
}

fn print(config: &Config, page: &LogPage) -> std::io::Result<()> {
    let mut out = Page::open();
    for entry in &page.entries {
        write!(out, "{}", block(entry, &config.tz))?;
    }
    if page.entries.is_empty() {
        writeln!(out, "no change answers")?;
    }
    if let Some(next) = page.next {
        let more = format!("older ones: --after {next}, or --limit N");
        writeln!(out, "{}", paint(Meaning::Dim, &more))?;
    }
    out.flush()
}

/// Says, beside the answer, where changes may be missing from it.
fn missing(config: &Config, gaps: Gaps) {
    for (table, gap) in gaps {
        let to = gap.to.map_or_else(|| "now".to_owned(), |to| to.in_zone(&config.tz));
        let of = gap.key.as_deref().map(|key| format!(" of {key}")).unwrap_or_default();
        let text = format!(
            "{table}: changes{of} may be missing from {} to {to}: {}",
            gap.from.in_zone(&config.tz),
            gap.cause
        );
        eprintln!("{}", harmless(&text));
    }
}

/// The options and `-q` together.
fn query(config: &Config, request: &arguments::Log) -> Result<Query, Failure> {
    let at = |text: &str| Moment::parse(text, Moment::now(), &config.tz).map_err(afterimage::Error::from);
    let mut query = Query::default();
    query.tables.wanted.clone_from(&request.table);
    query.keys.wanted.clone_from(&request.key);
    query.actors.wanted.clone_from(&request.user);
    query.correlations.wanted.clone_from(&request.correlation);
    query.transactions.wanted.clone_from(&request.tx);
    for action in &request.action {
        query.actions.wanted.push(action.parse().map_err(afterimage::Error::from)?);
    }
    query.change.fields.clone_from(&request.field);
    query.change.was.clone_from(&request.was);
    query.change.now.clone_from(&request.now);
    query.reasons =
        request.reason.iter().map(|text| afterimage::Phrase { text: text.clone(), negated: false }).collect();
    query.from = request.since.as_deref().map(at).transpose()?;
    query.before = request.until.as_deref().map(at).transpose()?.map(Moment::next);
    if let Some(typed) = &request.query {
        query = query.and(Query::parse(typed, Moment::now(), &config.tz).map_err(afterimage::Error::from)?);
    }
    Ok(query)
}

/// One change as people read it.
pub(crate) fn block(entry: &LogEntry, tz: &str) -> String {
    let header = &entry.header;
    let (sign, meaning) = match entry.action() {
        Action::Create => ("+ created", Meaning::Added),
        Action::Update if header.old_key.is_some() => ("~ key changed", Meaning::Strong),
        Action::Update => ("~ updated", Meaning::Strong),
        Action::Delete => ("- deleted", Meaning::Removed),
    };
    let key: Vec<String> = match entry.key.as_slice() {
        [(_, value)] => vec![shown(value)],
        several => {
            several.iter().map(|(name, value)| format!("{}={}", harmless(name), shown(value))).collect()
        }
    };
    let who = match (header.user.as_deref(), header.context_member("label")) {
        (Some(user), Some(label)) => format!("{label} ({user})"),
        (Some(user), None) => user.to_owned(),
        (None, Some(label)) => label,
        (None, None) => header.context_member("session_user").unwrap_or_default(),
    };
    let by = if who.is_empty() { String::new() } else { format!("  by {}", harmless(&who)) };
    let tx = header.tx.as_deref().map(|tx| paint(Meaning::Dim, &format!("  tx {tx}"))).unwrap_or_default();
    let archived = header.archive.as_ref().map(|_| paint(Meaning::Dim, "  archived")).unwrap_or_default();
    let mut block = format!(
        "{}  {}  {} {}{by}{tx}{archived}\n",
        paint(Meaning::Dim, &format!("{} {tz}", header.date.in_zone(tz))),
        paint(meaning, sign),
        harmless(&entry.table.to_string()),
        paint(Meaning::Strong, &key.join(",")),
    );
    if let Some(reason) = header.reason.as_deref().filter(|reason| !reason.is_empty()) {
        block.push_str(&format!("    “{}”\n", harmless(reason)));
    }
    if let Some(from) = header.context_member("restored_from") {
        block.push_str(&format!("    restored from {}\n", harmless(&source(&from))));
    }
    for change in &entry.changes {
        block.push_str(&format!("    {}\n", change::line(entry.action(), change)));
    }
    block
}

/// What a record restored from, in words.
fn source(json: &str) -> String {
    let from: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
    let text =
        |name: &str| from.get(name).map(|value| value.as_str().map_or(value.to_string(), str::to_owned));
    match (text("version"), text("tx"), text("at"), text("after_tx")) {
        (Some(version), ..) => format!("version {version}"),
        (_, Some(tx), ..) => format!("before transaction {tx}"),
        (_, _, Some(at), _) => format!("the table of {at}"),
        (.., Some(tx)) => format!("the table after transaction {tx}"),
        _ => json.to_owned(),
    }
}

type Gaps = Vec<(afterimage::TableName, afterimage::Gap)>;

/// Changes leave as they come: a log of any length takes no memory.
async fn json(audit: &Afterimage, log: &LogQuery) -> Result<Gaps, Failure> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut written = Ok(());
    let mut separator = "[\n  ";
    let (_, gaps) = audit
        .log_each(log, |entry| {
            written = out
                .write_all(std::mem::replace(&mut separator, ",\n  ").as_bytes())
                .and_then(|()| serde_json::to_writer(&mut out, &entry).map_err(Into::into));
            written.is_ok()
        })
        .await?;
    written?;
    out.write_all(if separator.starts_with('[') { b"[]\n" } else { b"\n]\n" })?;
    out.flush()?;
    Ok(gaps)
}

async fn csv(audit: &Afterimage, log: &LogQuery) -> Result<Gaps, Failure> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let columns = ["id", "date", "action", "table", "key", "user", "reason", "context", "tx", "changes"];
    output::csv_line(&mut out, columns)?;
    let mut written = Ok(());
    let (_, gaps) = audit
        .log_each(log, |entry| {
            let document = serde_json::to_value(&entry).unwrap_or_default();
            let cells = columns.map(|column| match document.get(column) {
                None | Some(serde_json::Value::Null) => String::new(),
                Some(serde_json::Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
            });
            written = output::csv_line(&mut out, cells);
            written.is_ok()
        })
        .await?;
    written?;
    out.flush()?;
    Ok(gaps)
}

/// Prints changes as they are committed, until interrupted; as JSON, one a line.
async fn follow(audit: &Afterimage, config: &Config, query: Query) -> Done {
    let mut following = audit.follow(query).await?;
    loop {
        for entry in following.next().await? {
            let mut out = std::io::stdout().lock();
            if config.format == Some(Format::Json) {
                serde_json::to_writer(&mut out, &entry).map_err(std::io::Error::from)?;
                writeln!(out)?;
            } else {
                write!(out, "{}", block(&entry, &config.tz))?;
            }
            out.flush()?;
        }
        tokio::time::sleep(EVERY).await;
    }
}
