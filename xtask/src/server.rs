//! A throwaway PostgreSQL: its own folder, a free port, no durability; gone when dropped.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::{Outcome, quiet, run};

/// A running server.
#[derive(Debug)]
pub(crate) struct Postgres {
    // Stopped before its folder goes: fields drop in this order, after `Drop`.
    server: Child,
    port: u16,
    _folder: TempDir,
}

impl Postgres {
    /// Starts one, installing PostgreSQL where it is missing.
    pub(crate) fn start(options: &[&str]) -> Outcome<Self> {
        let binaries = find()?;
        let folder = tempfile::Builder::new().prefix("afterimage-postgres-").tempdir()?;
        let data = folder.path().join("data");
        let user = unprivileged();
        if user.is_some() {
            run(Command::new("chown").arg("postgres").arg(folder.path()))?;
        }
        let initdb = as_user(user, &binaries.join("initdb"))
            .args([
                "--username=postgres",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
                "-D",
            ])
            .arg(&data)
            .current_dir("/")
            .output()?;
        if !initdb.status.success() {
            return Err(format!("initdb failed: {}", String::from_utf8_lossy(&initdb.stderr)).into());
        }
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let log = std::fs::File::create(folder.path().join("log"))?;
        let server = as_user(user, &binaries.join("postgres"))
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string(), "-h", "127.0.0.1", "-k", "", "-F"])
            .args(["-c", "full_page_writes=off"])
            .args(options)
            .current_dir("/")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let started = Self { server, port, _folder: folder };
        started.wait(&binaries)?;
        Ok(started)
    }

    /// Its address.
    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    fn wait(&self, binaries: &Path) -> Outcome {
        let begun = Instant::now();
        let ready = binaries.join("pg_isready");
        while begun.elapsed() < Duration::from_secs(60) {
            if quiet(&ready.to_string_lossy(), &["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()]) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err("PostgreSQL did not start within a minute".into())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SIGINT: it disconnects everybody and stops, without waiting for them. (runuser passes it on.)
        let _ = Command::new("pkill").args(["-INT", "-P", &self.server.id().to_string()]).status();
        let _ = Command::new("kill").args(["-INT", &self.server.id().to_string()]).status();
        let _ = self.server.wait();
    }
}

/// The folder with `initdb` and `postgres`, of the newest version installed.
fn find() -> Outcome<PathBuf> {
    if let Some(found) = newest() {
        return Ok(found);
    }
    install("postgresql")?;
    newest().ok_or_else(|| "PostgreSQL is installed, but initdb is not under /usr/lib/postgresql".into())
}

fn newest() -> Option<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let version = path.file_name()?.to_str()?.parse().ok()?;
            path.join("bin/initdb").exists().then(|| (version, path.join("bin")))
        })
        .collect();
    versions.sort();
    versions.pop().map(|(_, path)| path)
}

/// Installs a program that the tests need, where it is missing.
pub(crate) fn need(program: &str, package: &str) -> Outcome {
    if quiet(program, &["--version"]) { Ok(()) } else { install(package) }
}

fn install(package: &str) -> Outcome {
    eprintln!("xtask: {package} is missing, installing it");
    let root = unprivileged().is_some();
    let apt = || if root { Command::new("apt-get") } else { sudo("apt-get") };
    run(apt().args(["update", "-q"]))?;
    run(apt()
        .args(["install", "-q", "-y", "--no-install-recommends", package])
        .env("DEBIAN_FRONTEND", "noninteractive"))
    .map_err(|error| {
        format!("{package} could not be installed ({error}): install it and run this again").into()
    })
}

fn sudo(program: &str) -> Command {
    let mut command = Command::new("sudo");
    command.arg(program);
    command
}

/// PostgreSQL refuses to run as root: then it runs as the user that its package makes.
fn unprivileged() -> Option<&'static str> {
    let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    root.then_some("postgres")
}

fn as_user(user: Option<&str>, program: &Path) -> Command {
    match user {
        None => Command::new(program),
        Some(user) => {
            let mut command = Command::new("setpriv");
            command
                .args([format!("--reuid={user}"), format!("--regid={user}")])
                .args(["--init-groups", "--"])
                .arg(program);
            command
        }
    }
}
