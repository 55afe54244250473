//! What is asked for.

use std::path::PathBuf;

use crate::Outcome;

const HELP: &str = "\
cargo xtask bench [--database postgres|sqlite|mariadb] [--only PART,…] [--peers] [--records N] [--longest N] [--rounds N] [--page FOLDER]

  --only      single, bulk, reading, storage, pruning, growth; web, where it is named
  --peers     also three packages of Django's, which are installed by pip into a folder of their own
  --records   the records of a history that is read, ten for each row [default: 1000000]
  --longest   the records of the longest history of those that grow [default: 10000000]
  --page      writes benchmarks.md and its pictures into this folder
  --seconds   so long people look at the web interface, each way [default: 60]
  --quick     100,000 records, three rounds, and fewer of everything";

/// What is asked for.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    pub(crate) database: Option<String>,
    pub(crate) only: Vec<String>,
    pub(crate) peers: bool,
    pub(crate) page: Option<PathBuf>,
    pub(crate) records: u32,
    pub(crate) longest: u32,
    pub(crate) rounds: usize,
    pub(crate) seconds: u64,
    /// Creations of single rows; two and a half times as many updates, a quarter as many deletions.
    pub(crate) single: u32,
    /// Rows of one statement.
    pub(crate) bulk: u32,
    /// As it was typed.
    pub(crate) text: String,
}

impl Arguments {
    pub(crate) fn parse() -> Outcome<Self> {
        Self::of(std::env::args().skip(1).collect())
    }

    fn of(words: Vec<String>) -> Outcome<Self> {
        let quick = words.iter().any(|word| word == "--quick");
        let mut asked = Self {
            records: if quick { 100_000 } else { 1_000_000 },
            longest: if quick { 100_000 } else { 10_000_000 },
            rounds: if quick { 3 } else { 5 },
            seconds: if quick { 10 } else { 60 },
            single: if quick { 400 } else { 2_000 },
            bulk: if quick { 5_000 } else { 20_000 },
            text: words.join(" "),
            ..Self::default()
        };
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} wants a value\n\n{HELP}"));
            match word.as_str() {
                "--quick" => {}
                "--peers" => asked.peers = true,
                "--database" => asked.database = Some(value()?),
                "--only" => asked.only = value()?.split(',').map(ToOwned::to_owned).collect(),
                "--page" => asked.page = Some(value()?.into()),
                "--records" => asked.records = value()?.parse()?,
                "--longest" => asked.longest = value()?.parse()?,
                "--seconds" => asked.seconds = value()?.parse()?,
                "--rounds" => asked.rounds = value()?.parse()?,
                _ => return Err(format!("{word}?\n\n{HELP}").into()),
            }
        }
        Ok(asked)
    }

    pub(crate) fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == part)
    }

    /// The rows of a history that is read.
    pub(crate) fn rows(&self) -> u32 {
        self.records / crate::orders::VERSIONS
    }
}
