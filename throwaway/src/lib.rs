//! Throwaway servers: each with its own folder, a free port, no durability; gone when dropped.
//!
//! Where a server's programs are missing they are installed, with `sudo` where need be; where that fails, it says so.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// What went wrong, for a person to read.
pub type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// Runs a command, whose output goes where ours goes.
pub fn run(command: &mut Command) -> Outcome {
    let status = command.status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{:?} failed: {status}", command.get_program()).into())
    }
}

/// Whether a command succeeds; what it prints is nobody's affair.
pub fn quiet(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}

/// A program that serves, and whose first line says where; it ends with us.
#[derive(Debug)]
pub struct Service {
    child: Child,
    address: String,
}

impl Service {
    /// Starts it, and waits until it has said where it is.
    pub fn start(command: &mut Command) -> Outcome<Self> {
        let child = command.stdout(Stdio::piped()).spawn()?;
        let mut service = Self { child, address: String::new() };
        let told = service.child.stdout.as_mut().ok_or("the service says nothing")?;
        let mut line = String::new();
        BufReader::new(told).read_line(&mut line)?;
        let address = line.split_whitespace().find(|word| word.starts_with("http://"));
        let address = address.ok_or("the service does not say where it is")?;
        address.trim_end_matches('/').clone_into(&mut service.address);
        Ok(service)
    }

    /// Its address, without a slash at its end.
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server's process, started by always the same command.
#[derive(Debug)]
struct Process {
    name: &'static str,
    command: Command,
    /// Succeeds as soon as the server answers.
    ready: Command,
    child: Child,
}

impl Process {
    fn start(name: &'static str, folder: &Path, mut command: Command, ready: Command) -> Outcome<Self> {
        let log = std::fs::File::options().create(true).append(true).open(folder.join("log"))?;
        command.stdout(Stdio::null()).stderr(log);
        let child = command.spawn()?;
        let mut started = Self { name, command, ready, child };
        started.wait()?;
        Ok(started)
    }

    fn kill(&mut self) -> Outcome {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn restart(&mut self) -> Outcome {
        let begun = Instant::now();
        loop {
            self.child = self.command.spawn()?;
            match self.wait() {
                // Processes of the one that was killed may still be on their way out.
                Err(error) if begun.elapsed() > PATIENCE => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
                Ok(()) => return Ok(()),
            }
        }
    }

    /// Waits until it answers, or has ended.
    fn wait(&mut self) -> Outcome {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if self.ready.output().is_ok_and(|output| output.status.success()) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("{} ended as it started: {status}", self.name).into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(format!("{} did not start within {} s", self.name, PATIENCE.as_secs()).into())
    }
}

/// A running chromedriver.
#[derive(Debug)]
pub struct Chromedriver {
    child: Child,
    port: u16,
}

impl Chromedriver {
    /// Starts one, installing it and Chromium where they are missing.
    pub fn start() -> Outcome<Self> {
        need("chromium", "chromium")?;
        need("chromedriver", "chromium-driver")?;
        let port = free_port()?;
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={port}")).stdout(Stdio::null()).stderr(Stdio::null());
        let mut started = Self { child: command.spawn()?, port };
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Some(status) = started.child.try_wait()? {
                return Err(format!("chromedriver ended as it started: {status}").into());
            }
            if begun.elapsed() > PATIENCE {
                return Err(format!("chromedriver did not start within {} s", PATIENCE.as_secs()).into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(started)
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Chromedriver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running PostgreSQL.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    port: u16,
    folder: TempDir,
}

impl Postgres {
    /// Starts one, installing PostgreSQL where it is missing.
    pub fn start(options: &[&str]) -> Outcome<Self> {
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
        let port = free_port()?;
        let mut command = as_user(user, &binaries.join("postgres"));
        command.arg("-D").arg(data);
        command.args(["-p", &port.to_string(), "-h", "127.0.0.1", "-k", "", "-F"]);
        command.args(["-c", "full_page_writes=off"]).args(options).current_dir("/");
        let mut ready = Command::new(binaries.join("pg_isready"));
        ready.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]);
        let process = Process::start("PostgreSQL", folder.path(), command, ready)?;
        Ok(Self { process, port, folder })
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Its own folder, which the user that it runs as may write.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Kills it and its processes, as the machine's own death would.
    pub fn kill(&mut self) -> Outcome {
        quiet("pkill", &["-KILL", "-P", &self.process.child.id().to_string()]);
        self.process.kill()
    }

    /// Starts it again on what it left.
    pub fn restart(&mut self) -> Outcome {
        self.process.restart()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SIGINT: it disconnects everybody and stops, without waiting for them.
        quiet("kill", &["-INT", &self.process.child.id().to_string()]);
        let _ = self.process.child.wait();
    }
}

/// With these a MariaDB of version 10 does not wait for the disk: what it has written may be gone with the machine, and with nothing
/// less.
pub const MARIADB_UNSYNCED: [&str; 2] = ["--innodb-flush-method=nosync", "--sync-frm=0"];

/// A running MariaDB.
#[derive(Debug)]
pub struct MariaDb {
    process: Process,
    port: u16,
    folder: TempDir,
}

impl MariaDb {
    /// Starts one, installing MariaDB where it is missing.
    pub fn start(options: &[&str]) -> Outcome<Self> {
        let program = mariadbd()?;
        let folder = tempfile::Builder::new().prefix("afterimage-mariadb-").tempdir()?;
        let here = folder.path().display();
        let place = [
            format!("--user={}", owner()?),
            format!("--datadir={here}/data"),
            // Of its own: a server that starts clears away what others have left in theirs, and are using.
            format!("--tmpdir={here}"),
        ];
        let made = Command::new("mariadb-install-db")
            .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"])
            .args(&place)
            .output()?;
        if !made.status.success() {
            return Err(
                format!("mariadb-install-db failed: {}", String::from_utf8_lossy(&made.stderr)).into()
            );
        }
        let port = free_port()?;
        let mut command = Command::new(program);
        command.arg("--no-defaults").args(&place);
        command.args([format!("--port={port}"), format!("--socket={here}/socket")]);
        command.args(["--bind-address=127.0.0.1", "--skip-name-resolve", "--skip-log-bin"]);
        command.args(["--innodb-flush-log-at-trx-commit=0", "--max-connections=300"]).args(options);
        let mut ready = Command::new("mariadb-admin");
        ready.args(["--no-defaults", "--host=127.0.0.1", "--user=root", "--silent"]);
        ready.args([format!("--port={port}"), "ping".to_owned()]);
        let process = Process::start("MariaDB", folder.path(), command, ready)?;
        Ok(Self { process, port, folder })
    }

    /// Its address, without a database.
    pub fn url(&self) -> String {
        format!("mariadb://root@127.0.0.1:{}", self.port)
    }

    /// Its own folder; its databases are in `data`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Kills it, as the machine's own death would.
    pub fn kill(&mut self) -> Outcome {
        self.process.kill()
    }

    /// Starts it again on what it left.
    pub fn restart(&mut self) -> Outcome {
        self.process.restart()
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

fn free_port() -> Outcome<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Who runs MariaDB: it has to be told where that is root.
fn owner() -> Outcome<String> {
    if is_root() { Ok("root".to_owned()) } else { user_name() }
}

/// The server's program, which is not on everybody's path.
fn mariadbd() -> Outcome<PathBuf> {
    let find = || {
        ["/usr/sbin/mariadbd", "/usr/bin/mariadbd", "/usr/local/bin/mariadbd"]
            .map(PathBuf::from)
            .into_iter()
            .find(|path| path.exists())
    };
    if let Some(found) = find() {
        return Ok(found);
    }
    install("mariadb-server")?;
    find().ok_or_else(|| "MariaDB is installed, but mariadbd is nowhere to be found".into())
}

fn user_name() -> Outcome<String> {
    Ok(String::from_utf8(Command::new("id").arg("-un").output()?.stdout)?.trim().to_owned())
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
pub fn need(program: &str, package: &str) -> Outcome {
    if quiet(program, &["--version"]) { Ok(()) } else { install(package) }
}

fn install(package: &str) -> Outcome {
    eprintln!("{package} is missing, installing it");
    let root = is_root();
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
    is_root().then_some("postgres")
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
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
