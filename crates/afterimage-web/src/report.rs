//! Reports as files: CSV, JSON, and HTML that stands alone and can be printed. Each is written as it is read.

#[cfg(feature = "pdf")]
mod pdf;

use std::io::{self, Write};

use afterimage::{Afterimage, Error, LogEntry, LogQuery, Moment, ReportHead, ReportSink, ReportTable, Value};
use askama::Template;

use crate::address::key_text;
use crate::csv::{csv_line, csv_value};
use crate::markup::{self, Html};

/// What a report is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportFormat {
    /// A line for each count and for each changed field, harmless to spreadsheets.
    Csv,
    /// One document.
    Json,
    /// One page without anything beside it, which can be printed.
    Html,
    /// A document of pages, of up to [`MOST_IN_PDF`] changes: it is whole only once all of it is there.
    #[cfg(feature = "pdf")]
    Pdf,
}

/// So many changes are told in a PDF.
#[cfg(feature = "pdf")]
pub const MOST_IN_PDF: u64 = 50_000;

/// How a report is written.
#[derive(Debug, Clone)]
pub struct ReportOptions {
    /// As what.
    pub format: ReportFormat,
    /// What it is called.
    pub title: String,
    /// The zone of its times, such as Europe/Berlin.
    pub zone: String,
    /// Who made it.
    pub by: Option<String>,
    /// Only what there is altogether, without the changes one by one.
    pub summary_only: bool,
}

/// Why a report could not be written.
#[derive(Debug)]
pub enum ReportFailure {
    /// It could not be asked for.
    Asking(Error),
    /// There is more than such a document holds.
    TooMuch(String),
    /// What was read could not be written.
    Writing(io::Error),
}

impl std::fmt::Display for ReportFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Asking(error) => write!(f, "{error}"),
            Self::TooMuch(message) => f.write_str(message),
            Self::Writing(error) => write!(f, "the report could not be written: {error}"),
        }
    }
}

impl std::error::Error for ReportFailure {}

/// Writes a report on what answers a query. Where it fails, what was written so far is without its end.
pub async fn write_report(
    audit: &Afterimage,
    query: &LogQuery,
    options: &ReportOptions,
    out: &mut (dyn Write + Send),
) -> Result<(), ReportFailure> {
    let mut writer = Writer {
        #[cfg(feature = "pdf")]
        pdf: pdf::Pdf::new(&options.title).map_err(ReportFailure::Writing)?,
        out,
        options,
        first: true,
        failed: None,
    };
    audit.report(query, &mut writer).await.map_err(ReportFailure::Asking)?;
    match writer.failed.take() {
        Some(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            return Err(ReportFailure::TooMuch(error.to_string()));
        }
        Some(error) => return Err(ReportFailure::Writing(error)),
        None => {}
    }
    writer.end().map_err(ReportFailure::Writing)
}

struct Writer<'a> {
    out: &'a mut (dyn Write + Send),
    options: &'a ReportOptions,
    first: bool,
    failed: Option<io::Error>,
    #[cfg(feature = "pdf")]
    pdf: pdf::Pdf,
}

impl ReportSink for Writer<'_> {
    fn begin(&mut self, head: &ReportHead) -> bool {
        let begun = self.head(head);
        self.goes_on(begun) && !self.options.summary_only
    }

    fn change(&mut self, entry: &LogEntry) -> bool {
        let written = self.entry(entry);
        self.goes_on(written)
    }
}

/// Everything that a line of CSV may say.
const COLUMNS: [&str; 13] = [
    "part", "table", "user", "action", "records", "date", "until", "key", "reason", "field", "old", "new",
    "note",
];

/// A line of CSV that is about one thing.
#[derive(Default)]
struct Line<'a> {
    part: &'a str,
    table: String,
    user: String,
    action: &'a str,
    records: String,
    date: String,
    until: String,
    key: String,
    reason: String,
    field: String,
    old: String,
    new: String,
    note: String,
}

impl Writer<'_> {
    fn goes_on(&mut self, written: io::Result<()>) -> bool {
        match written {
            Ok(()) => true,
            Err(error) => {
                self.failed = Some(error);
                false
            }
        }
    }

    fn at(&self, moment: Moment) -> String {
        moment.in_zone(&self.options.zone)
    }

    fn line(&mut self, line: Line<'_>) -> io::Result<()> {
        let Line { part, table, user, action, records, date, until, key, reason, field, old, new, note } =
            line;
        let cells =
            [part, &table, &user, action, &records, &date, &until, &key, &reason, &field, &old, &new, &note];
        let mut bytes = Vec::new();
        csv_line(&mut bytes, cells, true);
        self.out.write_all(&bytes)
    }

    fn head(&mut self, head: &ReportHead) -> io::Result<()> {
        match self.options.format {
            ReportFormat::Csv => self.begin_csv(head),
            ReportFormat::Json => {
                let about = serde_json::json!({
                    "title": self.options.title, "by": self.options.by, "zone": self.options.zone, "head": head,
                });
                // Its last brace is written at the end.
                let about = serde_json::to_string_pretty(&about)?;
                let open = about.trim_end().trim_end_matches('}').trim_end();
                write!(self.out, "{open},\n  \"changes\": [")
            }
            ReportFormat::Html => {
                let page = Head::new(self, head).render().map_err(io::Error::other)?;
                self.out.write_all(page.as_bytes())
            }
            #[cfg(feature = "pdf")]
            ReportFormat::Pdf => self.begin_pdf(head),
        }
    }

    fn begin_csv(&mut self, head: &ReportHead) -> io::Result<()> {
        let mut bytes = Vec::new();
        csv_line(&mut bytes, COLUMNS, true);
        self.out.write_all(&bytes)?;
        let (from, before) = (head.from.map(|at| self.at(at)), head.before.map(|at| self.at(at)));
        self.line(Line {
            part: "report",
            user: self.options.by.clone().unwrap_or_default(),
            records: head.records.to_string(),
            date: from.unwrap_or_default(),
            until: before.unwrap_or_default(),
            note: format!(
                "{}; made {}; times are of {}; asked for: {}",
                self.options.title,
                self.at(head.made),
                self.options.zone,
                if head.query.is_empty() { "everything" } else { &head.query }
            ),
            ..Line::default()
        })?;
        for table in &head.tables {
            for (part, from, until, note) in self.facts(table) {
                let table = table.table.to_string();
                self.line(Line { part, table, date: from, until, note, ..Line::default() })?;
            }
        }
        for count in &head.counts {
            self.line(Line {
                part: "count",
                table: count.table.to_string(),
                user: count.user.clone().unwrap_or_default(),
                action: count.action,
                records: count.records.to_string(),
                ..Line::default()
            })?;
        }
        Ok(())
    }

    /// What has to be known of a table: of what kind it is, from and until when, and what.
    fn facts(&self, table: &ReportTable) -> Vec<(&'static str, String, String, String)> {
        let mut facts = Vec::new();
        let mut fact = |part, from: Option<Moment>, until: Option<Moment>, note: String| {
            let text = |moment: Option<Moment>| moment.map(|moment| self.at(moment)).unwrap_or_default();
            facts.push((part, text(from), text(until), note));
        };
        let mut tracked =
            vec![if table.captured { "tracked since then" } else { "not tracked any more" }.to_owned()];
        if !table.masked.is_empty() {
            tracked.push(format!("values of {} are not shown", table.masked.join(", ")));
        }
        if !table.left_out.is_empty() {
            tracked.push(format!("without {}", table.left_out.join(", ")));
        }
        tracked.push(match &table.keep {
            Some(keep) => format!("kept: {keep}"),
            None => "kept for ever".to_owned(),
        });
        fact("table", Some(table.since), None, tracked.join("; "));
        for gap in &table.gaps {
            let of = gap.key.as_deref().map(|key| format!(" of {key}")).unwrap_or_default();
            fact("gap", Some(gap.from), gap.to, format!("changes{of} may be missing: {}", gap.cause));
        }
        for removal in &table.removals {
            let rule = removal.rule.as_deref().map(|rule| format!(" ({rule})")).unwrap_or_default();
            let who = removal.recorded_by.as_deref().map(|who| format!(" by {who}")).unwrap_or_default();
            let why = removal.reason.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
            let note = format!("{} of {} records{rule}{who}{why}", removal.what, removal.records);
            fact("removal", Some(removal.ended), None, note);
        }
        for hold in &table.holds {
            let of = hold.key.as_deref().map(|key| format!(" of {key}")).unwrap_or_default();
            fact("hold", Some(hold.placed), None, format!("nothing{of} is removed: {}", hold.reason));
        }
        facts
    }

    fn entry(&mut self, entry: &LogEntry) -> io::Result<()> {
        let first = std::mem::take(&mut self.first);
        let header = &entry.header;
        match self.options.format {
            ReportFormat::Csv => {
                let line = |field: String, old: String, new: String, writer: &Self| Line {
                    part: "change",
                    table: entry.table.to_string(),
                    user: header.user.clone().unwrap_or_default(),
                    action: entry.action().name(),
                    date: writer.at(header.date),
                    key: key_text(&entry.key),
                    reason: header.reason.clone().unwrap_or_default(),
                    note: header.context.clone().unwrap_or_default(),
                    field,
                    old,
                    new,
                    ..Line::default()
                };
                if entry.changes.is_empty() {
                    let line = line(String::new(), String::new(), String::new(), self);
                    return self.line(line);
                }
                for change in &entry.changes {
                    let line =
                        line(change.field.clone(), csv_value(&change.old), csv_value(&change.new), self);
                    self.line(line)?;
                }
                Ok(())
            }
            ReportFormat::Json => {
                self.out.write_all(if first { b"\n    " } else { b",\n    " })?;
                serde_json::to_writer(&mut *self.out, entry)?;
                Ok(())
            }
            ReportFormat::Html => {
                let row = Row::new(self, entry).render().map_err(io::Error::other)?;
                self.out.write_all(row.as_bytes())
            }
            #[cfg(feature = "pdf")]
            ReportFormat::Pdf => {
                self.entry_of_pdf(entry);
                Ok(())
            }
        }
    }

    #[cfg_attr(not(feature = "pdf"), allow(unused_mut, reason = "only a PDF is finished here"))]
    fn end(mut self) -> io::Result<()> {
        match self.options.format {
            ReportFormat::Csv => {}
            ReportFormat::Json => {
                let line = if self.first { "" } else { "\n  " };
                writeln!(self.out, "{line}]\n}}")?;
            }
            ReportFormat::Html => {
                let foot = Foot { changes: !self.options.summary_only }.render().map_err(io::Error::other)?;
                self.out.write_all(foot.as_bytes())?;
            }
            #[cfg(feature = "pdf")]
            ReportFormat::Pdf => {
                self.pdf.space(8.0);
                self.pdf.paragraph(pdf::Look::Note, "The end of the report.");
                self.pdf.finish(self.out)?;
            }
        }
        self.out.flush()
    }
}

#[cfg(feature = "pdf")]
impl Writer<'_> {
    fn begin_pdf(&mut self, head: &ReportHead) -> io::Result<()> {
        use pdf::Look::{Heading, Note, Text, Title};
        if head.records > MOST_IN_PDF && !self.options.summary_only {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!(
                    "{} changes are too many for a PDF, which has {MOST_IN_PDF} at most: ask for less, for a summary, or for HTML",
                    head.records
                ),
            ));
        }
        let about = Head::new(self, head);
        let pdf = &mut self.pdf;
        pdf.paragraph(Title, &about.title);
        pdf.space(6.0);
        let made = match &about.by {
            Some(by) => format!("{} by {by}", about.made),
            None => about.made.clone(),
        };
        let query = if about.query.is_empty() { "everything" } else { &about.query };
        for (what, text) in [
            ("Made", made.as_str()),
            ("Period", &about.period),
            ("Times", &format!("of {}", about.zone)),
            ("Asked for", query),
            ("Changes", &about.records.to_string()),
        ] {
            pdf.cells(&[(0.0, 60.0, Note, what), (64.0, 440.0, Text, text)]);
        }
        let columns =
            [(0.0, 160.0), (165.0, 145.0), (315.0, 45.0), (365.0, 45.0), (415.0, 45.0), (465.0, 45.0)];
        let line = |pdf: &mut pdf::Pdf, look, cells: [&str; 6]| {
            let cells: Vec<_> =
                columns.iter().zip(cells).map(|((x, width), text)| (*x, *width, look, text)).collect();
            pdf.cells(&cells);
        };
        pdf.space(14.0);
        pdf.keep_together(4);
        pdf.paragraph(Heading, "Who did what");
        pdf.space(3.0);
        line(pdf, Note, ["Who", "Table", "Created", "Updated", "Deleted", "Together"]);
        for count in &about.counts {
            let who = if count.user.is_empty() { "(nobody said)" } else { &count.user };
            let numbers =
                [count.create, count.update, count.delete, count.all].map(|number| number.to_string());
            let [create, update, delete, all] = &numbers;
            line(pdf, Text, [who, &count.table, create, update, delete, all]);
        }
        pdf.space(14.0);
        pdf.keep_together(4);
        pdf.paragraph(Heading, "What is known of these tables");
        pdf.space(3.0);
        for fact in &about.facts {
            let times = match fact.until.as_str() {
                "" => fact.from.clone(),
                until => format!("{} to {until}", fact.from),
            };
            let what = format!("{}: {}", fact.kind, fact.note);
            pdf.cells(&[
                (0.0, 120.0, Text, &fact.table),
                (125.0, 150.0, Note, &times),
                (280.0, 230.0, Text, &what),
            ]);
        }
        if !self.options.summary_only {
            pdf.space(14.0);
            pdf.keep_together(6);
            pdf.paragraph(Heading, "Every change, newest first");
            pdf.space(3.0);
        }
        Ok(())
    }

    fn entry_of_pdf(&mut self, entry: &LogEntry) {
        use pdf::Look::{New, Note, Old, Text};
        let row = Row::new(self, entry);
        let pdf = &mut self.pdf;
        pdf.space(5.0);
        pdf.keep_together(3);
        let who = if row.user.is_empty() { "(nobody said)" } else { &row.user };
        let what = format!("{} {} {}", row.action, row.table, row.key);
        pdf.cells(&[(0.0, 115.0, Note, &row.date), (120.0, 130.0, Text, who), (255.0, 255.0, Text, &what)]);
        if !row.reason.is_empty() {
            pdf.cells(&[(120.0, 390.0, Note, &row.reason)]);
        }
        for change in &entry.changes {
            let cut = |value: &Value| -> String {
                let text = if value.is_null() { "none".to_owned() } else { value.to_string() };
                match text.char_indices().nth(LONGEST) {
                    Some((at, _)) => format!("{}…", &text[..at]),
                    None => text,
                }
            };
            let (old, new) = (cut(&change.old), cut(&change.new));
            let name = (120.0, 130.0, Text, change.field.as_str());
            match row.action {
                "create" => pdf.cells(&[name, (255.0, 255.0, New, &new)]),
                "delete" => pdf.cells(&[name, (255.0, 255.0, Old, &old)]),
                _ => pdf.cells(&[name, (255.0, 125.0, Old, &old), (385.0, 125.0, New, &new)]),
            }
        }
    }
}

/// What a page of a report begins with.
#[derive(Template)]
#[template(path = "report_head.html")]
struct Head {
    title: String,
    made: String,
    by: Option<String>,
    zone: String,
    period: String,
    query: String,
    records: u64,
    counts: Vec<Count>,
    facts: Vec<Fact>,
    changes: bool,
}

struct Count {
    user: String,
    table: String,
    create: u64,
    update: u64,
    delete: u64,
    all: u64,
}

struct Fact {
    table: String,
    kind: &'static str,
    from: String,
    until: String,
    note: String,
}

impl Head {
    fn new(writer: &Writer<'_>, head: &ReportHead) -> Self {
        let mut counts: Vec<Count> = Vec::new();
        for count in &head.counts {
            let (user, table) = (count.user.clone().unwrap_or_default(), count.table.to_string());
            if counts.last().is_none_or(|last| last.user != user || last.table != table) {
                counts.push(Count { user, table, create: 0, update: 0, delete: 0, all: 0 });
            }
            if let Some(last) = counts.last_mut() {
                match count.action {
                    "create" => last.create += count.records,
                    "delete" => last.delete += count.records,
                    _ => last.update += count.records,
                }
                last.all += count.records;
            }
        }
        let facts = head
            .tables
            .iter()
            .flat_map(|table| {
                let name = table.table.to_string();
                let fact =
                    move |(kind, from, until, note)| Fact { table: name.clone(), kind, from, until, note };
                writer.facts(table).into_iter().map(fact)
            })
            .collect();
        let period = match (head.from, head.before) {
            (None, None) => "everything that is recorded".to_owned(),
            (Some(from), None) => format!("from {} on", writer.at(from)),
            (None, Some(before)) => format!("before {}", writer.at(before)),
            (Some(from), Some(before)) => format!("from {} to before {}", writer.at(from), writer.at(before)),
        };
        Self {
            title: writer.options.title.clone(),
            made: writer.at(head.made),
            by: writer.options.by.clone(),
            zone: writer.options.zone.clone(),
            period,
            query: head.query.clone(),
            records: head.records,
            counts,
            facts,
            changes: !writer.options.summary_only,
        }
    }
}

#[derive(Template)]
#[template(path = "report_row.html")]
struct Row {
    date: String,
    user: String,
    action: &'static str,
    table: String,
    key: String,
    reason: String,
    fields: Vec<(String, Html, Html)>,
}

/// So many characters of a value are shown.
const LONGEST: usize = 2_000;

impl Row {
    fn new(writer: &Writer<'_>, entry: &LogEntry) -> Self {
        let label = entry.header.context_member("label");
        let user = match (&entry.header.user, label) {
            (Some(user), Some(label)) => format!("{label} ({user})"),
            (Some(user), None) => user.clone(),
            (None, label) => label.unwrap_or_default(),
        };
        let value = |value: &Value| markup::value(value, LONGEST);
        Self {
            date: writer.at(entry.header.date),
            user,
            action: entry.action().name(),
            table: entry.table.to_string(),
            key: key_text(&entry.key),
            reason: entry.header.reason.clone().unwrap_or_default(),
            fields: entry
                .changes
                .iter()
                .map(|change| (change.field.clone(), value(&change.old), value(&change.new)))
                .collect(),
        }
    }
}

#[derive(Template)]
#[template(path = "report_foot.html")]
struct Foot {
    changes: bool,
}
