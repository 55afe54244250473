//! The page of figures: Markdown, and pictures of how they grow.

use std::fmt::Write as _;
use std::path::Path;

use crate::Outcome;
use crate::arguments::Arguments;
use crate::growth::Growth;
use crate::report::{Measured, shown};

/// What was measured so far; it is printed as it comes.
#[derive(Debug, Default)]
pub(crate) struct Page {
    databases: Vec<Measurements>,
    pictures: Vec<(String, String)>,
}

/// The sections about one database.
#[derive(Debug, PartialEq)]
struct Measurements {
    /// Its name and version.
    heading: String,
    /// Each with its title.
    sections: Vec<(String, String)>,
}

impl Measurements {
    fn name(&self) -> &str {
        self.heading.split(' ').next().unwrap_or_default()
    }
}

const HEAD: &str = "# Benchmarks

Made by `cargo xtask bench --peers --page docs`; with `--only` it puts some sections into the page anew, and each section says what it was measured by, when and where.

Compare the ratios in brackets: in each round every side runs, in turns, and the ratio is the median over all rounds. The times are medians too, of which only those of one section can be compared. Trust none that you have not measured yourself.
";

impl Page {
    pub(crate) fn begin(&mut self, database: &str) {
        println!("## {database}\n");
        self.databases.push(Measurements { heading: database.to_owned(), sections: Vec::new() });
    }

    pub(crate) fn add(&mut self, measured: &Measured) {
        self.say(measured.title(), &measured.markdown());
    }

    /// A section.
    pub(crate) fn say(&mut self, title: &str, text: &str) {
        println!("### {title}\n\n{text}");
        if let Some(database) = self.databases.last_mut() {
            database.sections.push((title.to_owned(), text.trim().to_owned()));
        }
    }

    /// A table for each figure, and a picture of all.
    pub(crate) fn grow(&mut self, growth: &Growth) {
        let database = self.databases.last().map(|database| database.name().to_lowercase());
        let name = format!("growth-{}.svg", database.unwrap_or_default());
        let mut text = format!(
            "Medians with ever longer histories, ten records a row.\n\n![how figures grow]({name})\n\n"
        );
        let head: Vec<String> = growth.iter().map(|(records, _)| grouped(*records)).collect();
        let _ = writeln!(text, "| | records: {} |\n| --- |{}", head.join(" | "), " --- |".repeat(head.len()));
        let lines = lines(growth);
        for (line, points) in &lines {
            let figure = line.split_once(": ").map_or("", |(_, figure)| figure);
            let cells: Vec<String> = points.iter().map(|(_, value)| shown(figure, *value)).collect();
            let _ = writeln!(text, "| {line} | {} |", cells.join(" | "));
        }
        self.say("Growth", &text);
        self.pictures.push((name, picture(&lines)));
    }

    /// Writes the page and its pictures; what was not measured stays as it is there.
    pub(crate) fn write(mut self, folder: &Path, arguments: &Arguments) -> Outcome {
        std::fs::create_dir_all(folder)?;
        for (name, picture) in &self.pictures {
            std::fs::write(folder.join(name), picture)?;
        }
        let measured = format!(
            "*Measured on {} by `cargo xtask bench {}`. {}*",
            afterimage::Moment::now().to_string().split('T').next().unwrap_or_default(),
            arguments.text,
            machine(),
        );
        for (_, text) in self.databases.iter_mut().flat_map(|database| &mut database.sections) {
            *text = format!("{text}\n\n{measured}");
        }
        let file = folder.join("benchmarks.md");
        let known = if file.exists() { read(&std::fs::read_to_string(&file)?) } else { Vec::new() };
        std::fs::write(file, written(&merged(known, self.databases)))?;
        Ok(())
    }
}

/// The sections of a page.
fn read(page: &str) -> Vec<Measurements> {
    let section = |text: &str| {
        let (title, text) = text.split_once('\n').unwrap_or((text, ""));
        (title.to_owned(), text.trim().to_owned())
    };
    let databases = page.split("\n## ").skip(1);
    databases
        .map(|text| {
            let mut parts = text.split("\n### ");
            let heading = parts.next().unwrap_or_default().trim().to_owned();
            Measurements { heading, sections: parts.map(section).collect() }
        })
        .collect()
}

/// The same with sections that were measured anew.
fn merged(mut known: Vec<Measurements>, new: Vec<Measurements>) -> Vec<Measurements> {
    for database in new {
        let Some(old) = known.iter_mut().find(|old| old.name() == database.name()) else {
            known.push(database);
            continue;
        };
        old.heading = database.heading;
        for (title, text) in database.sections {
            match old.sections.iter_mut().find(|(known, _)| *known == title) {
                Some((_, old)) => *old = text,
                None => old.sections.push((title, text)),
            }
        }
    }
    known
}

fn written(databases: &[Measurements]) -> String {
    let mut page = HEAD.to_owned();
    for database in databases {
        let _ = write!(page, "\n## {}\n", database.heading);
        for (title, text) in &database.sections {
            let _ = write!(page, "\n### {title}\n\n{text}\n");
        }
    }
    page
}

/// The machine and the program, as far as they say.
fn machine() -> String {
    let first = |file: &str, key: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = first("/proc/meminfo", "MemTotal").unwrap_or_default();
    let model = first("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".to_owned());
    format!("Machine: {cores} cores ({model}), {memory} of memory. Afterimage {}.", env!("CARGO_PKG_VERSION"))
}

fn grouped(number: u32) -> String {
    let digits = number.to_string();
    let parts: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|part| std::str::from_utf8(part).ok()).collect();
    parts.join(",")
}

type Line = (String, Vec<(u32, f64)>);

/// Each figure of each side, along the number of records.
fn lines(growth: &Growth) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for (records, measured) in growth {
        for (side, figure, value) in measured.all() {
            let name = format!("{side}: {figure}");
            match lines.iter_mut().find(|(known, _)| *known == name) {
                Some((_, points)) => points.push((*records, value)),
                None => lines.push((name, vec![(*records, value)])),
            }
        }
    }
    lines
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 230.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 40.0;
const COLOURS: [&str; 6] = ["#1b6ca8", "#c0392b", "#27803b", "#8e44ad", "#b9770e", "#555555"];

/// Times, on logarithmic scales; one colour for each figure, dashes for the second side.
fn picture(lines: &[Line]) -> String {
    let times: Vec<&Line> = lines.iter().filter(|(name, _)| !name.contains("bytes")).collect();
    let points = times.iter().flat_map(|(_, points)| points);
    let (mut least, mut most, mut from, mut to) = (f64::MAX, f64::MIN, f64::MAX, f64::MIN);
    for (records, value) in points {
        (least, most) = (least.min(value.log10()), most.max(value.log10()));
        (from, to) = (from.min(f64::from(*records).log10()), to.max(f64::from(*records).log10()));
    }
    let (least, most) = (least.floor(), most.ceil());
    let x = |records: u32| {
        let share = (f64::from(records).log10() - from) / (to - from).max(0.1);
        share.mul_add(WIDTH - LEFT - RIGHT, LEFT)
    };
    let y = |value: f64| {
        let share = (most - value.log10()) / (most - least).max(0.1);
        share.mul_add(HEIGHT - TOP - BOTTOM, TOP)
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    let mut decade = least;
    while decade <= most {
        let at = y(10_f64.powf(decade));
        let label = shown("", 10_f64.powf(decade) * 1.000_001);
        let label = label.replace(".00", "").replace(".0 ", " ");
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#444\">{label}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            at + 4.0
        );
        decade += 1.0;
    }
    let mut sizes: Vec<u32> =
        times.iter().flat_map(|(_, points)| points.iter().map(|(records, _)| *records)).collect();
    sizes.sort_unstable();
    sizes.dedup();
    for records in sizes {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#444\">{}</text>",
            x(records),
            HEIGHT - BOTTOM + 20.0,
            grouped(records)
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#444\">records</text>",
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 4.0
    );
    // Each figure is named once, where its first line ends.
    let mut names: Vec<(&str, f64)> = Vec::new();
    for (name, points) in times {
        let (side, figure) = name.split_once(": ").unwrap_or(("", name));
        let Some((_, last)) = points.last() else { continue };
        let number = names.iter().position(|(known, _)| *known == figure).unwrap_or_else(|| {
            names.push((figure, y(*last)));
            names.len() - 1
        });
        let colour = COLOURS[number % COLOURS.len()];
        let dashes = if side == "delta" { " stroke-dasharray=\"5 4\"" } else { "" };
        let path: Vec<String> =
            points.iter().map(|(records, value)| format!("{:.1},{:.1}", x(*records), y(*value))).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}/>",
            path.join(" ")
        );
    }
    let mut labels: Vec<(f64, &str, &str)> = names
        .iter()
        .enumerate()
        .map(|(number, (name, end))| (*end + 4.0, *name, COLOURS[number % COLOURS.len()]))
        .collect();
    labels.push((TOP + 4.0, "solid: snapshot, dashed: delta", "#444"));
    labels.sort_by(|(one, ..), (other, ..)| one.total_cmp(other));
    let mut lowest = 0.0_f64;
    for (at, name, colour) in labels {
        lowest = at.max(lowest + 16.0);
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{lowest:.1}\" fill=\"{colour}\">{name}</text>",
            WIDTH - RIGHT + 8.0
        );
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(heading: &str, sections: &[(&str, &str)]) -> Measurements {
        let sections =
            sections.iter().map(|(title, text)| ((*title).to_owned(), (*text).to_owned())).collect();
        Measurements { heading: heading.to_owned(), sections }
    }

    #[test]
    fn what_was_not_measured_stays_on_the_page() {
        let old = [of("SQLite 1", &[("Reading", "| a |"), ("Growth", "| b |\n\n*then*")])];
        assert_eq!(read(&written(&old)), old);
        let new = vec![of("SQLite 2", &[("Growth", "| c |"), ("Storage", "| d |")]), of("MariaDB 1", &[])];
        let both = [
            of("SQLite 2", &[("Reading", "| a |"), ("Growth", "| c |"), ("Storage", "| d |")]),
            of("MariaDB 1", &[]),
        ];
        assert_eq!(merged(read(&written(&old)), new), both);
    }
}
