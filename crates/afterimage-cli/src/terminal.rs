//! The terminal: whether there is one, how wide it is, what colours mean, and a pager for what is longer than it, and
//! what is being waited for.

use std::io::{self, IsTerminal as _, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Deserialize;

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Colour {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What a colour says; never by colour alone.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Meaning {
    Added,
    Removed,
    Dim,
    Strong,
    Warning,
}

/// Settled once, when the program starts: 0 not yet, 1 plain, 2 coloured.
static COLOURED: AtomicU8 = AtomicU8::new(0);

/// Settles whether to colour.
pub(crate) fn settle(colour: Colour) {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    let coloured = match colour {
        Colour::Always => true,
        Colour::Never => false,
        Colour::Auto => set("CLICOLOR_FORCE") || (io::stdout().is_terminal() && !set("NO_COLOR") && !dumb),
    };
    COLOURED.store(1 + u8::from(coloured), Ordering::Relaxed);
}

/// Whether to colour.
pub(crate) fn coloured() -> bool {
    COLOURED.load(Ordering::Relaxed) == 2
}

/// A text in the colour of its meaning.
pub(crate) fn paint(meaning: Meaning, text: &str) -> String {
    if !coloured() || text.is_empty() {
        return text.to_owned();
    }
    let style = match meaning {
        Meaning::Added => AnsiColor::Green.on_default(),
        Meaning::Removed => AnsiColor::Red.on_default(),
        Meaning::Dim => Style::new().dimmed(),
        Meaning::Strong => Style::new().bold(),
        Meaning::Warning => AnsiColor::Yellow.on_default().bold(),
    };
    format!("{}{text}{}", style.render(), style.render_reset())
}

/// The pager of the settings; empty for none.
static PAGER: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();

/// Settles which pager to use; empty for none, `None` for what the environment says.
pub(crate) fn settle_pager(pager: Option<String>) {
    let _ = PAGER.set(pager);
}

/// Where answers for people go: through a pager on a terminal, else straight out.
#[derive(Debug)]
pub(crate) struct Page {
    pager: Option<Child>,
}

impl Page {
    /// Opens it.
    pub(crate) fn open() -> Self {
        let wanted = PAGER.get().and_then(Option::as_deref);
        if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
            return Self { pager: None };
        }
        let from_environment =
            || ["AFTERIMAGE_PAGER", "PAGER"].iter().find_map(|name| std::env::var(name).ok());
        let pager = wanted.map(str::to_owned).or_else(from_environment).unwrap_or_else(|| "less".to_owned());
        let mut words = pager.split_whitespace();
        let Some(program) = words.next() else { return Self { pager: None } };
        let mut command = Command::new(program);
        command.args(words).stdin(Stdio::piped());
        if std::env::var_os("LESS").is_none() {
            // Quit where it all fits, keep colours, leave the screen as it was.
            command.env("LESS", "FRX");
        }
        Self { pager: command.spawn().ok() }
    }
}

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.pager.as_mut().and_then(|pager| pager.stdin.as_mut()) {
            Some(pager) => pager.write(bytes),
            None => io::stdout().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.pager.as_mut().and_then(|pager| pager.stdin.as_mut()) {
            Some(pager) => pager.flush(),
            None => io::stdout().flush(),
        }
    }
}

/// The program does not end before whoever reads has.
impl Drop for Page {
    fn drop(&mut self) {
        if let Some(mut pager) = self.pager.take() {
            drop(pager.stdin.take());
            let _ = pager.wait();
        }
    }
}

/// Says on a terminal what is being waited for and for how long already, once that is a while.
#[derive(Debug)]
pub(crate) struct Waiting {
    bar: ProgressBar,
    appears: tokio::task::JoinHandle<()>,
}

impl Waiting {
    /// Begins; it ends with the value.
    pub(crate) fn begin(message: impl Into<String>) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
            bar.set_style(style);
        }
        let waiting = bar.clone();
        let appears = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(500)).await;
            waiting.set_draw_target(ProgressDrawTarget::stderr());
            waiting.enable_steady_tick(Duration::from_millis(100));
        });
        let waiting = Self { bar, appears };
        waiting.goes_on(message);
        waiting
    }

    /// Says what is waited for now.
    pub(crate) fn goes_on(&self, message: impl Into<String>) {
        self.bar.set_message(message.into());
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.appears.abort();
        self.bar.finish_and_clear();
    }
}

/// A progress bar that appears once there is something to wait for.
#[derive(Debug, Default)]
pub(crate) struct Bar(std::sync::OnceLock<ProgressBar>);

impl Bar {
    /// Shows how many of how many there are.
    pub(crate) fn show(&self, message: &str, done: u64, total: Option<u64>, what: &str) {
        let bar = self.0.get_or_init(|| {
            let bar = ProgressBar::new(total.unwrap_or_default());
            let template = format!("{{msg}} {{bar:30}} {{human_pos}} of {{human_len}} {what}, {{eta}} left");
            if let Ok(style) = ProgressStyle::with_template(&template) {
                bar.set_style(style);
            }
            bar.set_message(message.to_owned());
            bar
        });
        bar.set_position(done);
    }
}
