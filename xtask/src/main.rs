//! The project's own commands: `cargo xtask test`, `cargo xtask bench`.

mod api;
mod features;
mod licences;
mod pictures;
mod readers;
mod service;

use std::process::{Command, ExitCode};

use afterimage_throwaway::{self as server, Outcome, quiet, run};
use serde_json::Value;

const HELP: &str = "\
cargo xtask test [ARGS…]    runs all tests against throwaway servers; ARGS go to cargo nextest (or cargo test)
cargo xtask bench [ARGS…]   measures what an audit trail costs, beside the plain table and beside others: --help
cargo xtask features        checks that each feature of the library compiles alone
cargo xtask licences        checks that every dependency's licence is one we may use
cargo xtask browser [ARGS…] runs the tests of the web interface that need a browser; installs Chromium where it is missing
cargo xtask api [ARGS…]     holds the REST API against its document: made-up requests (schemathesis takes ARGS), a generated client
cargo xtask readers         lets DuckDB and PySpark read an archive, and compares what they say with the database
cargo xtask pictures        takes the guide's pictures of the web interface, in Chromium
cargo xtask shell           starts a throwaway PostgreSQL, prints its address, and stops it when you press Enter";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let outcome = match command.as_str() {
        "test" => test(&rest),
        "bench" => bench(&rest),
        "features" => features::check(),
        "licences" => licences::check(),
        "browser" => browser(&rest),
        "api" => api::check(&rest),
        "readers" => readers::check(),
        "pictures" => pictures::take(),
        "shell" => shell(),
        _ => {
            eprintln!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A command of cargo's, that knows nothing of the one that runs us. Of what it tells a program it runs, some build scripts want to
/// know: the same command by hand would build all that depends on them anew.
fn cargo() -> Command {
    let mut cargo = Command::new("cargo");
    for (name, _) in std::env::vars_os() {
        let told = name.to_string_lossy();
        if told.starts_with("CARGO_PKG_") || told.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(name);
        }
    }
    cargo
}

fn test(rest: &[String]) -> Outcome {
    server::need("sqlite3", "sqlite3")?;
    server::need("valgrind", "valgrind")?;
    let postgres = server::Postgres::start(&["-c", "max_connections=200"])?;
    let mariadb = server::MariaDb::start(&server::MARIADB_UNSYNCED)?;
    let mut tests = cargo();
    if quiet("cargo", &["nextest", "--version"]) {
        tests.args(["nextest", "run", "--workspace", "--all-features"]);
    } else {
        tests.args(["test", "--workspace", "--all-features", "--lib", "--bins", "--tests"]);
    }
    tests.args(rest).env("AFTERIMAGE_TEST_POSTGRES", postgres.url());
    run(tests.env("AFTERIMAGE_TEST_MARIADB", mariadb.url()))?;
    if rest.is_empty() {
        // Neither runner above runs the examples in the documentation.
        run(cargo().args(["test", "--workspace", "--all-features", "--doc"]))?;
    }
    Ok(())
}

fn browser(rest: &[String]) -> Outcome {
    let driver = server::Chromedriver::start()?;
    let mut tests = cargo();
    tests.args(["test", "--workspace", "--all-features", "--test", "browser"]).args(rest);
    run(tests.args(["--", "--ignored", "--nocapture"]).env("AFTERIMAGE_TEST_CHROMEDRIVER", driver.url()))
}

fn bench(rest: &[String]) -> Outcome {
    // As durable as in production, with room for all sides' tables; nothing that happens now and then happens to one side only.
    let tuned = [
        "-c",
        "fsync=on",
        "-c",
        "full_page_writes=on",
        "-c",
        "shared_buffers=2GB",
        "-c",
        "max_wal_size=4GB",
        "-c",
        "autovacuum=off",
    ];
    let postgres = server::Postgres::start(&tuned)?;
    let tuned = ["--innodb-buffer-pool-size=2G", "--innodb-log-file-size=1G"];
    let mariadb = server::MariaDb::start(&tuned)?;
    let mut program = cargo();
    program.args(["run", "--quiet", "--release", "--package", "afterimage-bench", "--"]).args(rest);
    if rest.iter().any(|argument| argument == "--peers") {
        let requirements = std::path::Path::new("bench/peers/requirements.txt");
        program.env("AFTERIMAGE_BENCH_PYTHON", python("bench-peers", requirements)?);
    }
    if rest.iter().any(|argument| argument.split(',').any(|part| part == "web")) {
        run(cargo().args(["build", "--quiet", "--release", "--package", "afterimage-cli"]))?;
        let served = std::env::current_dir()?.join("target/release/afterimage");
        program.env("AFTERIMAGE_BENCH_PROGRAM", served);
    }
    program.env("AFTERIMAGE_BENCH_POSTGRES", postgres.url());
    run(program.env("AFTERIMAGE_BENCH_MARIADB", mariadb.url()))
}

/// A Python of a name that has these packages.
fn python(name: &str, requirements: &std::path::Path) -> Outcome<std::path::PathBuf> {
    let folder = std::env::current_dir()?.join("target").join(name);
    let python = folder.join("bin/python");
    if !python.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    }
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(requirements))?;
    Ok(python)
}

/// What cargo knows of this workspace.
fn metadata(arguments: &[&str]) -> Result<Value, Box<dyn std::error::Error>> {
    let mut asked = cargo();
    let output = asked.args(["metadata", "--format-version", "1", "--locked"]).args(arguments).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn shell() -> Outcome {
    let postgres = server::Postgres::start(&[])?;
    let mariadb = server::MariaDb::start(&server::MARIADB_UNSYNCED)?;
    println!("{}\n{}", postgres.url(), mariadb.url());
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}
