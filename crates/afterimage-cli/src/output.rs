//! Printing: tables for people, JSON and CSV for programs.

use std::io::{self, IsTerminal as _, Write};

use afterimage::Value;
use clap::ValueEnum;
use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};
use serde::{Deserialize, Serialize};

use crate::change;
use crate::terminal::{self, Page};

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// Aligned columns.
    Table,
    /// One JSON document.
    Json,
    /// Comma-separated values, with a header.
    Csv,
}

/// Prints one value as JSON, readable.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)
}

/// Prints a table with a header; on a terminal it fits the width.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>) -> io::Result<()> {
    let underlined = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));
    let mut table = Table::new();
    table.load_style(underlined);
    if io::stdout().is_terminal() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    let right: Vec<bool> = (0..header.len()).map(|at| is_of_numbers(&rows, at)).collect();
    if terminal::coloured() {
        table.enforce_styling();
        table.set_header(header.iter().map(|name| Cell::new(*name).add_attribute(Attribute::Bold)));
    } else {
        table.set_header(header.iter().copied());
    }
    for row in rows {
        table.add_row(row);
    }
    for (column, right) in table.column_iter_mut().zip(right) {
        if right {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut page = Page::open();
    writeln!(page, "{}", table.trim_fmt())?;
    page.flush()
}

/// Whether a column holds numbers, and nothing else but what stands for no value: numbers end at the right.
fn is_of_numbers(rows: &[Vec<String>], at: usize) -> bool {
    let cells =
        || rows.iter().filter_map(|row| row.get(at)).filter(|text| !["∅", "•••"].contains(&text.as_str()));
    cells().next().is_some() && cells().all(|text| change::is_number(text))
}

/// Prints one line of CSV.
pub(crate) fn csv_line<S: AsRef<str>>(
    out: &mut impl Write,
    fields: impl IntoIterator<Item = S>,
) -> io::Result<()> {
    let mut first = true;
    for field in fields {
        if !std::mem::take(&mut first) {
            out.write_all(b",")?;
        }
        let field = field.as_ref();
        if field.contains(['"', ',', '\n', '\r']) {
            write!(out, "\"{}\"", field.replace('"', "\"\""))?;
        } else {
            out.write_all(field.as_bytes())?;
        }
    }
    out.write_all(b"\r\n")
}

/// A value in CSV: NULL is nothing at all, empty text is quoted by whoever can tell; the rest as in JSON, text bare.
pub(crate) fn csv_value(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Text(text) => text.clone(),
        other => serde_json::to_string(other).unwrap_or_default(),
    }
}

/// A value in a terminal: nothing in it can move the cursor or turn the line around.
pub(crate) fn shown(value: &Value) -> String {
    harmless(&value.to_string())
}

/// Text whose control characters are visible.
pub(crate) fn harmless(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{61c}');
    text.chars()
        .map(|c| match c {
            '\n' => "⏎".to_owned(),
            c if c.is_control() || turns(c) => c.escape_unicode().to_string(),
            c => c.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_value_reaches_the_terminal_as_a_command() {
        assert_eq!(harmless("a\u{1b}[31mb\u{202e}c\nd"), "a\\u{1b}[31mb\\u{202e}c⏎d");
    }

    #[test]
    fn csv_quotes_what_needs_it() {
        let mut out = Vec::new();
        csv_line(&mut out, ["a", "b,c", "say \"hi\"", ""]).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a,\"b,c\",\"say \"\"hi\"\"\",\r\n");
    }
}
