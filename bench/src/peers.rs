//! Other audit trails, in processes of their own, which do the same work when they are told to.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Map, Value, json};

use crate::Outcome;
use crate::database::{Bench, Kind};
use crate::report::{Figures, Measured, Side};

const BARE: &str = "Django";

/// The packages, and what each runs on.
const PACKAGES: [(&str, bool); 4] =
    [(BARE, true), ("django-simple-history", true), ("django-auditlog", true), ("django-pghistory", false)];

/// The processes; none where nobody asked for them, or the packages do not know the database.
#[derive(Debug)]
pub(crate) struct Peers(Vec<Peer>);

#[derive(Debug)]
struct Peer {
    side: Side,
    process: Child,
    tell: ChildStdin,
    hear: BufReader<ChildStdout>,
    _folder: tempfile::TempDir,
}

impl Peers {
    pub(crate) fn none() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn start(bench: &Bench) -> Outcome<Self> {
        let kind = match bench.kind {
            Kind::Postgres => "postgres",
            Kind::Sqlite => "sqlite",
            // They want a client library to be compiled.
            Kind::MariaDb => return Ok(Self::none()),
        };
        let python = std::env::var("AFTERIMAGE_BENCH_PYTHON")
            .map_err(|_| "no AFTERIMAGE_BENCH_PYTHON: run this by `cargo xtask bench --peers`")?;
        let mut peers = Vec::new();
        for (name, everywhere) in PACKAGES {
            if !everywhere && bench.kind != Kind::Postgres {
                continue;
            }
            let folder = tempfile::tempdir()?;
            let address = match bench.kind {
                Kind::Postgres => bench.url().to_owned(),
                _ => folder.path().join("peer.db").display().to_string(),
            };
            let mut process = Command::new(&python)
                .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/peers/worker.py"))
                .args([name, kind, &address])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            let (tell, hear) = (process.stdin.take(), process.stdout.take());
            let (Some(tell), Some(hear)) = (tell, hear) else { return Err("no pipe".into()) };
            let side = Side { name: name.to_owned(), base: BARE.to_owned() };
            peers.push(Peer { side, process, tell, hear: BufReader::new(hear), _folder: folder });
        }
        Ok(Self(peers))
    }

    /// Has each of them do something, one after the other, and notes what it measured.
    pub(crate) fn add(&mut self, measured: &mut Measured, what: &str, with: &[(&str, Value)]) -> Outcome {
        for peer in &mut self.0 {
            let figures = peer.does(what, with)?;
            if !figures.is_empty() {
                measured.add(&peer.side, figures);
            }
        }
        Ok(())
    }

    /// The same, without noting anything.
    pub(crate) fn tell(&mut self, what: &str, with: &[(&str, Value)]) -> Outcome {
        self.0.iter_mut().try_for_each(|peer| peer.does(what, with).map(drop))
    }
}

impl Peer {
    /// A line of JSON each way.
    fn does(&mut self, what: &str, with: &[(&str, Value)]) -> Outcome<Figures> {
        let with: Map<String, Value> =
            with.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        writeln!(self.tell, "{}", json!([what, with]))?;
        let mut answer = String::new();
        self.hear.read_line(&mut answer)?;
        let figures: Map<String, Value> = serde_json::from_str(&answer)
            .map_err(|error| format!("{} did not {what}: {error}: {answer:?}", self.side.name))?;
        // There are a dozen names, which live as long as the process.
        let figure = |(name, value): (String, Value)| Some((&*name.leak(), value.as_f64()?));
        Ok(figures.into_iter().filter_map(figure).collect())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
