//! A folder, the program, and the system's `sqlite3` as somebody else's program.

#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

pub struct Desk {
    folder: TempDir,
}

impl Desk {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Runs the program in the folder, on `shop.db`.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.run_on("shop.db", arguments)
    }

    pub fn run_on(&self, database: &str, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_afterimage"))
            .args(arguments)
            .current_dir(self.path())
            .env("DATABASE_URL", database)
            .env_remove("RUST_BACKTRACE")
            .output()
            .unwrap()
    }

    /// What the program prints; it must succeed.
    pub fn says(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        stdout(&output)
    }

    /// What the program complains about, and the code it ends with.
    pub fn complains(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments);
        (output.status.code().unwrap(), stderr(&output))
    }

    /// Another program writes.
    pub fn sqlite3(&self, sql: &str) {
        self.sqlite3_says(sql);
    }

    /// The same, and what it prints.
    pub fn sqlite3_says(&self, sql: &str) -> String {
        let output =
            Command::new("sqlite3").arg("-bail").arg(self.path().join("shop.db")).arg(sql).output().unwrap();
        assert!(output.status.success(), "{sql}: {}", stderr(&output));
        stdout(&output)
    }

    /// A shop with two orders, tracked, and a price changed for a reason.
    pub fn shop() -> Self {
        let desk = Self::new();
        desk.sqlite3(
            "PRAGMA journal_mode = WAL; CREATE TABLE orders (id INTEGER PRIMARY KEY, status TEXT NOT NULL, total NUMERIC, card TEXT);
             INSERT INTO orders VALUES (1, 'open', 1249, '4111'), (2, 'open', 80.5, NULL)",
        );
        desk.says(&["track", "orders", "--mask", "card"]);
        desk.sqlite3(
            "BEGIN; INSERT INTO afterimage_context (actor, label, reason) VALUES ('42', 'ann@example.com', 'price match');
             UPDATE orders SET total = 1149 WHERE id = 1; DELETE FROM afterimage_context; COMMIT;
             UPDATE orders SET card = '5555' WHERE id = 1; DELETE FROM orders WHERE id = 2",
        );
        desk
    }
}

/// Another program writes on PostgreSQL.
pub fn psql(url: &str, sql: &str) {
    let done = Command::new("psql").args([url, "-q", "-v", "ON_ERROR_STOP=1", "-c", sql]).output().unwrap();
    assert!(done.status.success(), "{sql}: {}", stderr(&done));
}

/// Another program writes on MariaDB.
pub fn mariadb(server: &str, database: &str, sql: &str) {
    let port = format!("-P{}", server.rsplit_once(':').unwrap().1);
    let arguments = ["--no-defaults", "-h127.0.0.1", &port, "-uroot", database, "-e", sql];
    let arguments = arguments.iter().filter(|argument| !argument.is_empty());
    let done = Command::new("mariadb").args(arguments).output().unwrap();
    assert!(done.status.success(), "{sql}: {}", stderr(&done));
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Snapshots without what differs from run to run.
pub fn settled(check: impl FnOnce()) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.add_filter(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z", "[time]");
    // In a table the time's fraction, and with it the width of its column, varies.
    settings.add_filter(r"20[0-9]{2}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)? *", "[time] ");
    settings.add_filter(r"─{3,}", "───");
    settings.add_filter(r"(when \(UTC\)|since|oldest) +", "$1 ");
    settings.add_filter(r"\n {20,}", "\n          ");
    settings.add_filter(r"--after [0-9.]+", "--after [cursor]");
    settings.add_filter(r"--tx [0-9]+", "--tx [transaction]");
    settings.add_filter(r"in [0-9]+\.[0-9] s", "in [duration]");
    settings.bind(check);
}
