//! A record as people read it: who did what to which row, and every value that it changed.

use afterimage::{Action, FieldChange, Header, LogEntry, Moment, Needle, TableName, Value};

use crate::address::{encoded, key_text};
use crate::asked::Asked;
use crate::markup::{self, Html, SHORT};

/// So many changes of a record are shown in a list.
const SHOWN: usize = 8;

/// A link to somebody or something.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) text: Html,
    pub(crate) to: String,
}

/// A field of a record, and what became of its value.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    pub(crate) name: Html,
    /// Its whole history.
    pub(crate) to: String,
    pub(crate) change: Html,
    /// On which side what is looked for stands.
    pub(crate) found: Option<&'static str>,
}

/// Who, when and why.
#[derive(Debug, Clone)]
pub(crate) struct By {
    /// For programs.
    pub(crate) exactly: String,
    /// With its day.
    pub(crate) time: String,
    /// How long ago, where that is not long.
    pub(crate) ago: String,
    /// The time of day only.
    pub(crate) clock: String,
    pub(crate) actor: Option<Link>,
    /// Who it was as far as the database knows, where nobody said.
    pub(crate) source: Option<Html>,
    pub(crate) reason: Option<Html>,
    pub(crate) request: Option<Link>,
    pub(crate) transaction: Option<Link>,
    /// What an older state was written back from.
    pub(crate) restored: Option<Html>,
    /// Whether it came from an archive.
    pub(crate) archived: bool,
}

/// A record in a list.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) by: By,
    pub(crate) verb: &'static str,
    pub(crate) record: Link,
    pub(crate) event: String,
    pub(crate) fields: Vec<Field>,
    /// How many more fields changed.
    pub(crate) more: usize,
    pub(crate) day: String,
    /// What ties it to its neighbours: their request, or else their transaction.
    tie: Option<String>,
}

/// Records that one request or transaction wrote, one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    /// Said of more than one: how many, and by what.
    pub(crate) note: Option<Link>,
    /// Why, where all say the same.
    pub(crate) reason: Option<Html>,
    pub(crate) lines: Vec<Line>,
}

/// The records of one day.
#[derive(Debug, Clone)]
pub(crate) struct Day {
    pub(crate) name: String,
    pub(crate) groups: Vec<Group>,
}

/// Records as they come, by days and by what wrote them.
pub(crate) fn days(asked: &Asked, entries: &[LogEntry]) -> Vec<Day> {
    let mut days: Vec<Day> = Vec::new();
    for line in entries.iter().map(|entry| line(asked, entry)) {
        if days.last().is_none_or(|day| day.name != line.day) {
            days.push(Day { name: line.day.clone(), groups: Vec::new() });
        }
        let Some(day) = days.last_mut() else { continue };
        match day.groups.last_mut() {
            Some(group) if line.tie.is_some() && group.lines[0].tie == line.tie => group.lines.push(line),
            _ => day.groups.push(Group { note: None, reason: None, lines: vec![line] }),
        }
    }
    for group in days.iter_mut().flat_map(|day| &mut day.groups).filter(|group| group.lines.len() > 1) {
        let first = &group.lines[0].by;
        let (what, link) = match (&first.request, &first.transaction) {
            (Some(request), _) => ("one request", request),
            (None, Some(transaction)) => ("one transaction", transaction),
            (None, None) => continue,
        };
        let text = format!("{} changes, {what}", group.lines.len());
        group.note = Some(Link { text: markup::text(&text), to: link.to.clone() });
        let reason = first.reason.clone();
        let same = group.lines.iter().all(|line| line.by.reason == reason);
        // Said once is enough.
        for by in group.lines.iter_mut().map(|line| &mut line.by) {
            (by.request, by.transaction) = (None, None);
            if same {
                by.reason = None;
            }
        }
        group.reason = reason.filter(|_| same);
    }
    days
}

/// Records that would be written, which nothing can lead to yet.
pub(crate) fn preview(asked: &Asked, entries: &[LogEntry]) -> Vec<Line> {
    let lines = entries.iter().map(|entry| line(asked, entry));
    lines
        .map(|line| Line {
            event: String::new(),
            by: By { request: None, transaction: None, ..line.by },
            ..line
        })
        .collect()
}

pub(crate) fn line(asked: &Asked, entry: &LogEntry) -> Line {
    let table = entry.table.to_string();
    let key = key_text(&entry.key);
    let action = entry.action();
    let restored = entry.header.context_member("restored_from").is_some();
    let by = by(asked, &entry.header);
    Line {
        verb: verb(action, entry.header.old_key.is_some(), restored),
        record: Link { text: markup::text(&format!("{table} {key}")), to: asked.links.record(&table, &key) },
        event: asked.links.event(entry),
        fields: fields(asked, &table, &key, action, &entry.changes, SHOWN),
        more: entry.changes.len().saturating_sub(SHOWN),
        day: entry.header.date.formatted(&asked.zone, "%A %-d %B %Y"),
        tie: entry.header.context_member("correlation_id").or_else(|| entry.header.tx.clone()),
        by,
    }
}

/// What happened, as one says it.
pub(crate) fn verb(action: Action, moved: bool, restored: bool) -> &'static str {
    match action {
        Action::Create if restored => "brought back",
        Action::Create => "created",
        Action::Update if moved => "changed the key of",
        Action::Update if restored => "restored",
        Action::Update => "changed",
        Action::Delete => "deleted",
    }
}

/// The fields of a record, up to so many, each with what became of its value.
pub(crate) fn fields(
    asked: &Asked,
    table: &str,
    key: &str,
    action: Action,
    changes: &[FieldChange],
    limit: usize,
) -> Vec<Field> {
    let mut changes: Vec<&FieldChange> = changes.iter().collect();
    // What was looked for is not among what is left out.
    changes.sort_by_key(|change| found(asked, change).is_none());
    changes.into_iter().take(limit).map(|change| field(asked, table, key, action, change, SHORT)).collect()
}

pub(crate) fn field(
    asked: &Asked,
    table: &str,
    key: &str,
    action: Action,
    change: &FieldChange,
    length: usize,
) -> Field {
    let shown = match action {
        Action::Create => markup::created(&change.new, length),
        Action::Delete => markup::deleted(&change.old, length),
        Action::Update => markup::change(&change.old, &change.new, length),
    };
    Field {
        name: markup::text(&change.field),
        to: asked.links.within(table, key, &format!("/field/{}", encoded(&change.field))),
        found: found(asked, change),
        change: shown,
    }
}

/// Where in a change what was looked for stands.
fn found(asked: &Asked, change: &FieldChange) -> Option<&'static str> {
    let has = |value: &Value, needles: &[Needle]| needles.iter().any(|needle| needle.is_in(value));
    let sought = &asked.sought;
    let was = has(&change.old, &sought.anywhere) || has(&change.old, &sought.was);
    let now = has(&change.new, &sought.anywhere) || has(&change.new, &sought.now);
    match (was, now) {
        (true, true) => Some("found on both sides"),
        (true, false) => Some("found in what it was"),
        (false, true) => Some("found in what it became"),
        (false, false) => None,
    }
}

pub(crate) fn by(asked: &Asked, header: &Header) -> By {
    let label = header.context_member("label");
    let actor = match (&header.user, label) {
        (Some(user), label) => {
            Some(Link { text: markup::text(label.as_deref().unwrap_or(user)), to: asked.links.actor(user) })
        }
        (None, _) => None,
    };
    let source = match &actor {
        Some(_) => None,
        None => ["label", "session_user", "application_name"]
            .iter()
            .find_map(|member| header.context_member(member))
            .map(|source| markup::text(&source)),
    };
    By {
        exactly: header.date.to_string(),
        time: asked.time(header.date),
        ago: ago(asked.now, header.date),
        clock: asked.clock(header.date),
        actor,
        source,
        reason: header.reason.as_deref().filter(|reason| !reason.is_empty()).map(markup::text),
        request: header.context_member("correlation_id").map(|id| Link {
            text: markup::text(&tail(&id)),
            to: asked.links.to(&format!("/?request={}&range=all", encoded(&id))),
        }),
        transaction: header
            .tx
            .as_deref()
            .map(|id| Link { text: markup::text(id), to: asked.links.transaction(id) }),
        restored: header.context_member("restored_from").map(|from| markup::text(&restored_from(&from))),
        archived: header.archive.is_some(),
    }
}

/// How long ago something was, as people say it of the last week; nothing of what is older, or still to come.
fn ago(now: Moment, then: Moment) -> String {
    let seconds = (now.as_micros() - then.as_micros()) / 1_000_000;
    let (number, unit) = match seconds {
        0..60 => return "just now".to_owned(),
        60..3_600 => (seconds / 60, "minute"),
        3_600..86_400 => (seconds / 3_600, "hour"),
        86_400..604_800 => (seconds / 86_400, "day"),
        _ => return String::new(),
    };
    format!("{number} {unit}{} ago", if number == 1 { "" } else { "s" })
}

/// The end of a long number: what tells it from its neighbours.
fn tail(id: &str) -> String {
    let count = id.chars().count();
    if count <= 12 { id.to_owned() } else { format!("…{}", id.chars().skip(count - 8).collect::<String>()) }
}

/// What a record restored from, in words.
pub(crate) fn restored_from(json: &str) -> String {
    let from: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
    let text =
        |name: &str| from.get(name).map(|value| value.as_str().map_or(value.to_string(), str::to_owned));
    match (text("version"), text("tx"), text("at"), text("after_tx")) {
        (Some(version), ..) => format!("from v{version}"),
        (_, Some(tx), ..) => format!("from before transaction {tx}"),
        (_, _, Some(at), _) => format!("from the table of {at}"),
        (.., Some(tx)) => format!("from the table after transaction {tx}"),
        _ => "from an older state".to_owned(),
    }
}

/// A row's name: its table and key, and its label where it has one.
pub(crate) fn title(table: &TableName, key: &str, label: Option<&Value>) -> String {
    match label {
        Some(label) if label.is_known() => format!("{table} {key}, {label}"),
        _ => format!("{table} {key}"),
    }
}
