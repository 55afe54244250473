//! `serve` and `user`, as somebody runs them.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use support::Desk;

fn shop() -> Desk {
    let desk = Desk::new();
    desk.sqlite3(
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, total NUMERIC); INSERT INTO orders VALUES (1, 1249)",
    );
    desk.says(&["track", "orders"]);
    desk.sqlite3("UPDATE orders SET total = 1149");
    desk
}

/// A service that runs, and where.
struct Service {
    child: Child,
    address: String,
}

impl Service {
    fn start(desk: &Desk) -> Self {
        Self::with(desk, &[])
    }

    fn with(desk: &Desk, arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_afterimage"))
            .args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json"])
            .args(arguments)
            .current_dir(desk.path())
            .env("DATABASE_URL", "shop.db")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.split("http://").nth(1).unwrap().split('/').next().unwrap().to_owned();
        Self { child, address }
    }

    fn send(&self, head: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        write!(stream, "{head}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn get(&self, path: &str, headers: &str) -> String {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: {}{headers}", self.address), "")
    }

    /// Asks it to stop; gives how it ended and what it had told.
    fn stop(mut self) -> (bool, String) {
        let done = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(done.success());
        let ended = self.child.wait().unwrap();
        let mut told = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
        (ended.success(), told)
    }
}

#[test]
fn it_serves_this_machine_until_it_is_stopped() {
    let desk = shop();
    let service = Service::start(&desk);
    let page = service.get("/?range=all", "");
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("1149"), "{page}");
    assert!(service.get("/healthz", "").contains("ok"));
    let metrics = service.get("/metrics", "");
    assert!(metrics.contains("afterimage_http_requests_total{status=\"2xx\"} 1"), "{metrics}");
    // A name of somebody else's that leads to this machine is not this machine.
    let rebound = service.send("GET / HTTP/1.1\r\nHost: evil.example", "");
    assert!(rebound.starts_with("HTTP/1.1 403"), "{rebound}");
    let (well, told) = service.stop();
    assert!(well);
    let answered = told.lines().find(|line| line.contains("\"path\":\"/\"")).unwrap();
    let line: serde_json::Value = serde_json::from_str(answered).unwrap();
    assert_eq!((&line["status"], &line["message"]), (&200.into(), &"answered".into()), "{answered}");
}

#[test]
fn other_machines_are_served_only_where_there_are_users() {
    let desk = shop();
    let (code, told) = desk.complains(&["serve", "--listen", "0.0.0.0:0"]);
    assert_eq!(code, 2);
    assert!(told.contains("there are no users"), "{told}");
}

#[test]
fn users_are_added_log_in_and_are_removed() {
    let desk = shop();
    std::fs::write(desk.path().join("password"), "correct horse battery\n").unwrap();
    let added = desk.says(&["user", "add", "ann", "--role", "reverter", "--password-file", "password"]);
    assert!(added.contains("ann can log in"), "{added}");
    let (code, told) = desk.complains(&["user", "add", "ann", "--password-file", "password"]);
    assert_eq!((code, told.contains("already")), (2, true), "{told}");
    let token = desk.says(&["user", "token", "ann", "ci", "--expires", "12h"]);
    let service = Service::start(&desk);
    assert!(service.get("/", "").starts_with("HTTP/1.1 303"));
    let bearer = format!("\r\nAuthorization: Bearer {}", token.trim());
    assert!(service.get("/api/log", &bearer).starts_with("HTTP/1.1 200"));
    let log_in = format!("POST /login HTTP/1.1\r\nHost: {}\r\nSec-Fetch-Site: same-origin", service.address);
    let entered = service.send(&log_in, "name=ann&password=correct+horse+battery");
    assert!(entered.contains("__Host-afterimage="), "{entered}");
    let cookie = entered.split("set-cookie: ").nth(1).unwrap().split(';').next().unwrap();
    assert!(service.get("/", &format!("\r\nCookie: {cookie}")).starts_with("HTTP/1.1 200"));
    let listed = desk.says(&["user", "list", "--format", "json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!((&listed[0]["name"], &listed[0]["tokens"][0]["name"]), (&"ann".into(), &"ci".into()));
    desk.says(&["user", "remove", "ann"]);
    assert!(service.get("/", &format!("\r\nCookie: {cookie}")).starts_with("HTTP/1.1 303"));
    let (_, told) = service.stop();
    assert!(
        told.contains("logged in") && !told.contains("battery") && !told.contains(token.trim()),
        "{told}"
    );
}

#[test]
fn who_did_what_is_kept_in_a_file_of_its_own() {
    let desk = shop();
    desk.says(&["user", "add", "ann", "--role", "viewer", "--no-password"]);
    let arguments = ["--access-log", "access.jsonl", "--trust-proxy", "127.0.0.1", "--user-header", "X-User"];
    let service = Service::with(&desk, &arguments);
    let ann = "\r\nX-User: ann\r\nX-Forwarded-For: 203.0.113.9";
    assert!(service.get("/storage", ann).contains("You are ann."));
    assert!(service.get("/storage", "\r\nX-User: mallory").starts_with("HTTP/1.1 303"));
    assert!(service.get("/r/orders/1/restore/1", ann).starts_with("HTTP/1.1 403"));
    assert!(service.get("/export.csv?range=all", ann).starts_with("HTTP/1.1 200"));
    assert!(service.get("/metrics", ann).starts_with("HTTP/1.1 403"));
    service.stop();
    let file = desk.path().join("access.jsonl");
    let kept = std::fs::read_to_string(&file).unwrap();
    let said: Vec<serde_json::Value> = kept.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let messages: Vec<&str> = said.iter().filter_map(|line| line["message"].as_str()).collect();
    assert_eq!(messages, ["a user whom nobody added was refused", "refused", "exported"], "{kept}");
    assert!(said[1]["who"].as_str().unwrap().contains("ann") && said[1]["path"] == "/r/orders/1/restore/1");
    let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn what_must_not_be_seen_has_to_be_there() {
    let desk = shop();
    desk.says(&["user", "add", "bob", "--hide", "orders.totl", "--no-password"]);
    let (code, told) = desk.complains(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(code, 2);
    assert!(told.contains("orders.totl") && told.contains("bob"), "{told}");
    desk.says(&["user", "remove", "bob"]);
    desk.says(&["user", "add", "bob", "--hide", "orders.id", "--no-password"]);
    assert!(desk.complains(&["serve", "--listen", "127.0.0.1:0"]).1.contains("beside the key"));
    let (code, told) = desk.complains(&["serve", "--trust-proxy", "somewhere"]);
    assert!(code == 2 && told.contains("somewhere"), "{told}");
}
