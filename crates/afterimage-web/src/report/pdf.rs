//! A report as PDF: A4, in one font that comes with the program.

use std::io::{self, Write};

use krilla::Document;
use krilla::color::rgb;
use krilla::geom::Point;
use krilla::metadata::Metadata;
use krilla::page::PageSettings;
use krilla::paint::Fill;
use krilla::text::{Font, TextDirection};
use skrifa::instance::{LocationRef, Size};
use skrifa::{FontRef, MetadataProvider as _};

/// DejaVu Sans, which has Latin, Greek, Cyrillic, and more.
const FONT: &[u8] = include_bytes!("../../assets/fonts/DejaVuSans.ttf");

/// What stands for a character that the font does not have.
const MISSING: char = '□';

const WIDTH: f32 = 595.0;
const HEIGHT: f32 = 842.0;
const MARGIN: f32 = 42.0;
/// What a line may take.
const ROOM: f32 = WIDTH - MARGIN - MARGIN;
/// Above it, the page's own line.
const BOTTOM: f32 = HEIGHT - 50.0;

/// Of a line to the next, for each point of its size.
const LEADING: f32 = 1.4;

/// How a text looks.
#[derive(Debug, Clone, Copy)]
pub(super) enum Look {
    Title,
    Heading,
    Text,
    /// What is less to be looked at.
    Note,
    /// What was.
    Old,
    /// What is.
    New,
}

impl Look {
    fn size(self) -> f32 {
        match self {
            Self::Title => 18.0,
            Self::Heading => 12.5,
            Self::Text | Self::Old | Self::New | Self::Note => 8.5,
        }
    }

    fn colour(self) -> rgb::Color {
        match self {
            Self::Title | Self::Heading | Self::Text => rgb::Color::new(27, 31, 36),
            Self::Note => rgb::Color::new(87, 96, 106),
            Self::Old => rgb::Color::new(164, 14, 38),
            Self::New => rgb::Color::new(17, 99, 41),
        }
    }
}

/// A piece of text at its place on a page.
struct Piece {
    x: f32,
    y: f32,
    look: Look,
    text: String,
}

/// A document that is written from its top to its bottom.
pub(super) struct Pdf {
    metrics: FontRef<'static>,
    title: String,
    pages: Vec<Vec<Piece>>,
    page: Vec<Piece>,
    y: f32,
    /// Characters that the font does not have.
    missing: u64,
}

impl Pdf {
    pub(super) fn new(title: &str) -> io::Result<Self> {
        Ok(Self {
            metrics: FontRef::new(FONT).map_err(io::Error::other)?,
            title: title.to_owned(),
            pages: Vec::new(),
            page: Vec::new(),
            y: MARGIN,
            missing: 0,
        })
    }

    /// Leaves some room, but not at the top of a page.
    pub(super) fn space(&mut self, points: f32) {
        if !self.page.is_empty() {
            self.y += points;
        }
    }

    /// Begins a page where there is no room left for so many lines of text.
    pub(super) fn keep_together(&mut self, lines: u16) {
        let wanted = f32::from(lines) * Look::Text.size() * LEADING;
        if self.y + wanted > BOTTOM {
            self.turn();
        }
    }

    /// A paragraph between two places, from the left margin on; gives how many lines it took.
    pub(super) fn paragraph(&mut self, look: Look, text: &str) {
        self.cells(&[(0.0, ROOM, look, text)]);
    }

    /// Texts beside one another: of each where it begins, how wide it may be, its look. What is longer goes on below.
    pub(super) fn cells(&mut self, cells: &[(f32, f32, Look, &str)]) {
        let mut columns: Vec<(f32, Look, std::vec::IntoIter<String>)> = cells
            .iter()
            .map(|(x, width, look, text)| (*x, *look, self.wrapped(*look, text, *width).into_iter()))
            .collect();
        let height = cells.iter().map(|(_, _, look, _)| look.size()).fold(0.0, f32::max) * LEADING;
        loop {
            let line: Vec<(f32, Look, String)> =
                columns.iter_mut().filter_map(|(x, look, lines)| Some((*x, *look, lines.next()?))).collect();
            if line.is_empty() {
                return;
            }
            if self.y + height > BOTTOM {
                self.turn();
            }
            self.y += height;
            let y = self.y;
            self.page.extend(line.into_iter().map(|(x, look, text)| Piece { x: MARGIN + x, y, look, text }));
        }
    }

    fn width(&self, look: Look, text: &str) -> f32 {
        let metrics = self.metrics.glyph_metrics(Size::new(look.size()), LocationRef::default());
        let map = self.metrics.charmap();
        text.chars().filter_map(|c| metrics.advance_width(map.map(c)?)).sum()
    }

    /// The lines of a text: words as they are, as long as they fit.
    fn wrapped(&mut self, look: Look, text: &str, width: f32) -> Vec<String> {
        let text = self.shown(text);
        let mut lines = Vec::new();
        for paragraph in text.split('\n') {
            let mut line = String::new();
            for word in paragraph.split_inclusive(' ') {
                if self.width(look, &line) + self.width(look, word.trim_end()) <= width {
                    line.push_str(word);
                    continue;
                }
                if !line.is_empty() {
                    lines.push(std::mem::take(&mut line).trim_end().to_owned());
                }
                for c in word.chars() {
                    line.push(c);
                    if self.width(look, line.trim_end()) > width && line.chars().count() > 1 {
                        line.pop();
                        lines.push(std::mem::take(&mut line));
                        line.push(c);
                    }
                }
            }
            lines.push(line.trim_end().to_owned());
        }
        lines
    }

    /// The text as the font can show it.
    fn shown(&mut self, text: &str) -> String {
        let map = self.metrics.charmap();
        let mut missing = 0;
        let shown = text
            .chars()
            .map(|c| match c {
                '\n' => c,
                c if c.is_control() => ' ',
                c if map.map(c).is_none() => {
                    missing += 1;
                    MISSING
                }
                c => c,
            })
            .collect();
        self.missing += missing;
        shown
    }

    /// Lays the page down, and takes the next.
    fn turn(&mut self) {
        let foot = format!("{}, page {}", self.title, self.pages.len() + 1);
        let foot = self.wrapped(Look::Note, &foot, ROOM).into_iter().next().unwrap_or_default();
        self.page.push(Piece { x: MARGIN, y: HEIGHT - 28.0, look: Look::Note, text: foot });
        self.pages.push(std::mem::take(&mut self.page));
        self.y = MARGIN;
    }

    /// Writes it, with what has to be said of its characters.
    pub(super) fn finish(mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.missing > 0 {
            let said = format!(
                "{} characters are shown as {MISSING}, since the font of this document does not have them; the report as HTML does.",
                self.missing
            );
            self.paragraph(Look::Note, &said);
        }
        self.turn();
        let font = Font::new(FONT.into(), 0).ok_or_else(|| io::Error::other("the font cannot be read"))?;
        let size = PageSettings::from_wh(WIDTH, HEIGHT).ok_or_else(|| io::Error::other("no such page"))?;
        let mut document = Document::new();
        document.set_metadata(Metadata::new().title(self.title).creator("Afterimage".to_owned()));
        for pieces in self.pages {
            let mut page = document.start_page_with(size.clone());
            let mut surface = page.surface();
            for Piece { x, y, look, text } in pieces {
                surface.set_fill(Some(Fill { paint: look.colour().into(), ..Fill::default() }));
                let at = Point::from_xy(x, y);
                surface.draw_text(at, font.clone(), look.size(), &text, false, TextDirection::Auto);
            }
            surface.finish();
            page.finish();
        }
        let bytes = document.finish().map_err(|error| io::Error::other(format!("{error:?}")))?;
        out.write_all(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_no_wider_than_they_may_be_and_lose_nothing() {
        let mut pdf = Pdf::new("t").unwrap();
        let text = "Größe, size and размер: aVeryLongWordThatFitsNowhereAndHasToBeCutSomewhere, and on";
        for width in [20.0, 60.0, 200.0, 2000.0] {
            let lines = pdf.wrapped(Look::Text, text, width);
            assert!(lines.iter().all(|line| pdf.width(Look::Text, line) <= width), "{lines:?}");
            let without = |text: &str| text.chars().filter(|c| *c != ' ').collect::<String>();
            assert_eq!(without(&lines.concat()), without(text));
        }
        assert_eq!(pdf.wrapped(Look::Text, "a\nb", 100.0), ["a", "b"]);
    }

    #[test]
    fn what_the_font_does_not_have_is_counted_and_nothing_is_a_command() {
        let mut pdf = Pdf::new("t").unwrap();
        assert_eq!(pdf.shown("日本\u{1b}[0m ok"), "□□ [0m ok");
        assert_eq!(pdf.missing, 2);
        let mut bytes = Vec::new();
        pdf.paragraph(Look::Text, &"x ".repeat(20_000));
        pdf.finish(&mut bytes).unwrap();
        assert!(bytes.starts_with(b"%PDF-") && bytes.len() > 1_000);
    }
}
