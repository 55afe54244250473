//! Faults: whoever writes, tracks, migrates or reverts is killed on the way, or the server is, or the disk is full.
//! Afterwards nothing is torn, `status` tells how it is, and the same command can be run again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use afterimage_throwaway::{MariaDb, Postgres};
use support::{stderr, stdout};
use tempfile::TempDir;

/// What a way back writes is told record by record, which takes its time.
fn rows_of(act: Act) -> u32 {
    if act == Act::Revert { 3_000 } else { 20_000 }
}

/// Where a database lives, and its server, which is this test's own.
enum Place {
    Sqlite(TempDir),
    Postgres(Postgres),
    MariaDb(MariaDb),
}

impl Place {
    fn sqlite() -> Self {
        let place = Self::Sqlite(tempfile::tempdir().unwrap());
        place.sql("PRAGMA journal_mode = WAL");
        place
    }

    fn postgres() -> Self {
        let place = Self::Postgres(Postgres::start(&[]).unwrap());
        place.sql_on("postgres", "CREATE DATABASE shop");
        place
    }

    fn mariadb() -> Self {
        // What it has committed outlives the process.
        let place = Self::MariaDb(MariaDb::start(&["--innodb-flush-log-at-trx-commit=2"]).unwrap());
        place.sql_on("mysql", "CREATE DATABASE shop");
        place
    }

    fn server(&self) -> String {
        match self {
            Self::Sqlite(folder) => folder.path().display().to_string(),
            Self::Postgres(server) => server.url().rsplit_once('/').unwrap().0.to_owned(),
            Self::MariaDb(server) => server.url(),
        }
    }

    fn url(&self) -> String {
        match self {
            Self::Sqlite(_) => format!("{}/shop.db", self.server()),
            Self::Postgres(_) | Self::MariaDb(_) => format!("{}/shop", self.server()),
        }
    }

    /// The database's own shell, about to run some SQL.
    fn shell(&self, database: &str, sql: &str) -> Command {
        let mut command;
        match self {
            Self::Sqlite(_) => {
                command = Command::new("sqlite3");
                command.args(["-batch", "-bail", "-cmd", ".timeout 10000", &self.url(), sql]);
            }
            Self::Postgres(_) => {
                command = Command::new("psql");
                command.args([
                    "-qXAt",
                    "-v",
                    "ON_ERROR_STOP=1",
                    "-d",
                    &format!("{}/{database}", self.server()),
                    "-c",
                    sql,
                ]);
            }
            Self::MariaDb(_) => {
                let port = self.server().rsplit_once(':').unwrap().1.to_owned();
                command = Command::new("mariadb");
                command.args([
                    "--no-defaults",
                    "-h127.0.0.1",
                    &format!("-P{port}"),
                    "-uroot",
                    "-N",
                    database,
                    "-e",
                    sql,
                ]);
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn sql_on(&self, database: &str, sql: &str) -> String {
        self.try_sql(database, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    fn try_sql(&self, database: &str, sql: &str) -> Result<String, String> {
        let output = self.shell(database, sql).output().unwrap();
        if output.status.success() { Ok(stdout(&output).trim().to_owned()) } else { Err(stderr(&output)) }
    }

    fn sql(&self, sql: &str) -> String {
        self.sql_on("shop", sql)
    }

    fn by(&self, sqlite: &str, postgres: &str, mariadb: &str) -> String {
        match self {
            Self::Sqlite(_) => sqlite,
            Self::Postgres(_) => postgres,
            Self::MariaDb(_) => mariadb,
        }
        .to_owned()
    }

    fn program(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_afterimage"));
        command.args(arguments).env("DATABASE_URL", self.url()).env_remove("RUST_BACKTRACE");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// What the program prints; it must succeed.
    fn says(&self, arguments: &[&str]) -> String {
        let output = self.program(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}{}", stdout(&output), stderr(&output));
        stdout(&output)
    }

    fn fill(&self, rows: u32) {
        self.sql("CREATE TABLE item (id INTEGER PRIMARY KEY, n INTEGER NOT NULL, note VARCHAR(100))");
        self.sql(&self.rows(1, rows));
    }

    fn rows(&self, from: u32, to: u32) -> String {
        let count = to - from + 1;
        self.by(
            &format!("INSERT INTO item WITH RECURSIVE g(i) AS (SELECT {from} UNION ALL SELECT i + 1 FROM g WHERE i < {to}) SELECT i, 0, 'a note of some length about ' || i FROM g"),
            &format!("INSERT INTO item SELECT i, 0, 'a note of some length about ' || i FROM generate_series({from}, {to}) AS i"),
            &format!("INSERT INTO item SELECT seq + {from} - 1, 0, CONCAT('a note of some length about ', seq) FROM seq_1_to_{count}"),
        )
    }

    fn under_a_context(&self, sql: &str) -> String {
        self.by(
            &format!("BEGIN; INSERT INTO afterimage_context (actor) VALUES ('ann'); {sql}; DELETE FROM afterimage_context; COMMIT"),
            &format!("BEGIN; SELECT set_config('afterimage.context', '{{\"actor\":\"ann\"}}', true); {sql}; COMMIT"),
            &format!("START TRANSACTION; INSERT INTO afterimage_context (actor) VALUES ('ann'); {sql}; DELETE FROM afterimage_context; COMMIT"),
        )
    }

    fn kill_server(&mut self) {
        match self {
            Self::Sqlite(_) => {}
            Self::Postgres(server) => {
                server.kill().unwrap();
                server.restart().unwrap();
            }
            Self::MariaDb(server) => {
                server.kill().unwrap();
                server.restart().unwrap();
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Victim {
    Writer,
    Server,
}

/// What is on its way when something is killed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    Write,
    Track,
    Migrate,
    Revert,
}

fn moment() -> String {
    let apart = || std::thread::sleep(Duration::from_millis(20));
    apart();
    let micros = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
    apart();
    let seconds = micros / 1_000_000;
    let output = Command::new("date")
        .args(["-u", "-d", &format!("@{seconds}"), "+%Y-%m-%dT%H:%M:%S"])
        .output()
        .unwrap();
    format!("{}.{:06}Z", stdout(&output).trim(), micros % 1_000_000)
}

impl Act {
    /// Brings the place to where the act begins, and says how to begin it.
    fn prepare(self, place: &Place) -> Box<dyn Fn(&Place) -> Command> {
        if self != Self::Track {
            place.says(&["track", "item"]);
        }
        match self {
            Self::Write => {
                Box::new(|place| place.shell("shop", &place.under_a_context("UPDATE item SET n = n + 1")))
            }
            Self::Track => Box::new(|place| place.program(&["track", "item"])),
            Self::Migrate => {
                place.sql("ALTER TABLE item ADD COLUMN more INTEGER");
                place.sql("UPDATE item SET more = id");
                Box::new(|place| place.program(&["migrate"]))
            }
            Self::Revert => {
                let then = moment();
                place.sql("UPDATE item SET n = n + 1");
                Box::new(move |place| {
                    place.program(&["revert", "item", "--to", &then, "--reason", "oops", "--yes"])
                })
            }
        }
    }

    /// What holds after the kill, however far it had come.
    fn is_untorn(self, place: &Place, when: Duration) {
        let status = place.says(&["status", "--format", "json"]);
        match self {
            Self::Write | Self::Revert => {
                assert_eq!(
                    place.sql("SELECT count(DISTINCT n) FROM item"),
                    "1",
                    "{self:?} killed after {when:?}"
                );
                place.says(&["verify"]);
            }
            // Others can write on, whatever is installed by then; and what is not whole yet is not called so.
            Self::Track | Self::Migrate => {
                place.sql("UPDATE item SET n = n + 1 WHERE id <= 3");
                let whole = place.program(&["verify"]).output().unwrap().status.success();
                assert!(!status.contains("\"ok\"") || whole, "{self:?} killed after {when:?}: {status}");
            }
        }
    }
}

fn kill(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Kills it earlier and later on its way, until it gets to its end before it is killed.
fn survives(mut place: Place, act: Act, victim: Victim) {
    place.fill(rows_of(act));
    let begin = act.prepare(&place);
    let mut delay = Duration::from_millis(25);
    let mut kills = 0;
    loop {
        let mut child = begin(&place).spawn().unwrap();
        let begun = Instant::now();
        while begun.elapsed() < delay && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        if child.try_wait().unwrap().is_some() {
            let output = child.wait_with_output().unwrap();
            assert!(
                output.status.success(),
                "{act:?} after {kills} kills: {}{}",
                stdout(&output),
                stderr(&output)
            );
            break;
        }
        match victim {
            Victim::Writer => kill(&mut child),
            Victim::Server => {
                place.kill_server();
                // What it says is read, else it would wait for that, and not end.
                let _ = child.wait_with_output().unwrap();
            }
        }
        kills += 1;
        act.is_untorn(&place, delay);
        if act == Act::Revert && place.sql("SELECT DISTINCT n FROM item") == "0" {
            // Killed when it was done, before it said so: another revert would have nothing left to do.
            break;
        }
        delay = delay * 11 / 5;
        assert!(kills < 12, "{act:?} never ends");
    }
    assert!(kills > 0, "{act:?} was too quick to be killed");
    place.says(&["verify"]);
    let status = place.says(&["status", "--format", "json"]);
    assert!(status.contains("\"ok\""), "{status}");
    if act == Act::Revert {
        assert_eq!(place.sql("SELECT DISTINCT n FROM item"), "0");
    }
    if act == Act::Track {
        let first = "SELECT count(*) FROM item_history WHERE history_type = '+'";
        assert_eq!(place.sql(first), rows_of(act).to_string(), "each row is created once");
    }
    println!("{act:?} survived {kills} kills of its {victim:?}");
}

macro_rules! survives {
    ($($name:ident: $act:expr, $($database:ident: $place:ident $victim:ident),*;)*) => {
        $(mod $name {
            use super::*;

            $(#[test]
            fn $database() {
                survives(Place::$place(), $act, Victim::$victim);
            })*
        })*
    };
}

survives! {
    a_bulk_write_that_is_killed: Act::Write, sqlite: sqlite Writer, postgres: postgres Writer, postgres_server: postgres Server, mariadb: mariadb Writer, mariadb_server: mariadb Server;
    track_that_is_killed: Act::Track, sqlite: sqlite Writer, postgres: postgres Writer, postgres_server: postgres Server, mariadb: mariadb Writer, mariadb_server: mariadb Server;
    migrate_that_is_killed: Act::Migrate, sqlite: sqlite Writer, postgres: postgres Writer, postgres_server: postgres Server, mariadb: mariadb Writer, mariadb_server: mariadb Server;
    revert_that_is_killed: Act::Revert, sqlite: sqlite Writer, postgres: postgres Writer, postgres_server: postgres Server, mariadb: mariadb Writer, mariadb_server: mariadb Server;
}

/// A small disk of its own.
struct Disk(TempDir);

impl Disk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let disk = Self(folder);
        disk.mount("size=24m");
        disk
    }

    fn mount(&self, options: &str) {
        let mut command = if stdout(&Command::new("id").arg("-u").output().unwrap()).trim() == "0" {
            Command::new("mount")
        } else {
            let mut sudo = Command::new("sudo");
            sudo.arg("mount");
            sudo
        };
        let output = command
            .args(["-t", "tmpfs", "-o", &format!("{options},mode=0777"), "tmpfs"])
            .arg(self.0.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "a disk to fill needs the right to mount one: {}", stderr(&output));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// Writes until the disk is full, then where there is room again.
fn full_disk(place: &Place, disk: &Disk) {
    place.sql("CREATE TABLE item (id INTEGER PRIMARY KEY, n INTEGER NOT NULL, note VARCHAR(100))");
    place.says(&["track", "item"]);
    let mut next = 1;
    let refused = loop {
        match place.try_sql("shop", &place.under_a_context(&place.rows(next, next + 19_999))) {
            Ok(_) => next += 20_000,
            Err(error) => break error,
        }
        assert!(next < 2_000_000, "the disk is never full");
    };
    let full = ["full", "No space left", "Disk", "I/O error"];
    assert!(full.iter().any(|words| refused.contains(words)), "{refused}");
    disk.mount("remount,size=300m");
    // It may have to notice, or to start again, before it takes anything.
    let begun = Instant::now();
    while place.try_sql("shop", "SELECT count(*) FROM item").is_err()
        && begun.elapsed() < Duration::from_secs(30)
    {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(
        place.sql("SELECT count(*) FROM item"),
        (next - 1).to_string(),
        "all of a statement, or nothing"
    );
    place.says(&["verify"]);
    place.sql(&place.under_a_context(&place.rows(next, next + 19_999)));
    place.says(&["verify"]);
    assert_eq!(place.sql("SELECT count(*) FROM item_history"), (next + 19_999).to_string());
}

mod a_full_disk_loses_nothing {
    use super::*;

    #[test]
    fn sqlite() {
        let disk = Disk::new();
        let folder = tempfile::Builder::new().tempdir_in(disk.0.path()).unwrap();
        let place = Place::Sqlite(folder);
        full_disk(&place, &disk);
    }

    #[test]
    fn postgres() {
        let disk = Disk::new();
        let place = Place::Postgres(Postgres::start(&[]).unwrap());
        let folder = disk.0.path().join("space");
        std::fs::create_dir(&folder).unwrap();
        let _ = Command::new("chown").arg("postgres").arg(&folder).status();
        place.sql_on("postgres", &format!("CREATE TABLESPACE small LOCATION '{}'", folder.display()));
        place.sql_on("postgres", "CREATE DATABASE shop TABLESPACE small");
        full_disk(&place, &disk);
    }

    #[test]
    fn mariadb() {
        let disk = Disk::new();
        let server = MariaDb::start(&["--innodb-flush-log-at-trx-commit=2"]).unwrap();
        let here = server.folder().join("data/shop");
        let place = Place::MariaDb(server);
        place.sql_on("mysql", "CREATE DATABASE shop");
        // The folder of a database may be a link to another disk.
        let there = disk.0.path().join("shop");
        std::fs::create_dir(&there).unwrap();
        std::fs::rename(here.join("db.opt"), there.join("db.opt"))
            .or_else(|_| std::fs::copy(here.join("db.opt"), there.join("db.opt")).map(drop))
            .unwrap();
        std::fs::remove_dir_all(&here).unwrap();
        std::os::unix::fs::symlink(&there, &here).unwrap();
        full_disk(&place, &disk);
    }
}
