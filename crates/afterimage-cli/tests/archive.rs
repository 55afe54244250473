//! Archives in a bucket.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/s3.rs"]
mod s3;
mod support;

use std::process::{Command, Output};

use s3::Bucket;
use support::{Desk, stderr, stdout};

/// Two tables, each with records that others followed.
fn two_tables() -> Desk {
    let desk = Desk::new();
    for table in ["orders", "items"] {
        desk.sqlite3(&format!("CREATE TABLE {table} (id INTEGER PRIMARY KEY, n INTEGER); INSERT INTO {table} VALUES (1, 0), (2, 0)"));
        desk.says(&["track", table]);
        desk.sqlite3(&format!("UPDATE {table} SET n = 1; UPDATE {table} SET n = 2"));
    }
    std::thread::sleep(std::time::Duration::from_millis(1100));
    desk
}

fn run(desk: &Desk, endpoint: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_afterimage"))
        .args(arguments)
        .current_dir(desk.path())
        .env("DATABASE_URL", "shop.db")
        .env("AWS_ENDPOINT", endpoint)
        .env("AWS_ALLOW_HTTP", "true")
        .env("AWS_REGION", "eu-central-1")
        .env("AWS_ACCESS_KEY_ID", "the-key")
        .env("AWS_SECRET_ACCESS_KEY", "the-secret")
        .output()
        .unwrap()
}

const ARCHIVE: [&str; 5] = ["archive", "--older-than", "1 second", "--to", "s3://bucket/shop/old"];
const VERIFY: [&str; 3] = ["archive", "verify", "s3://bucket/shop/old"];

#[test]
fn a_bucket_takes_an_archive_and_gives_it_again() {
    let desk = two_tables();
    let bucket = Bucket::with_room_for(100);
    let done = run(&desk, &bucket.endpoint, &ARCHIVE);
    assert!(done.status.success(), "{}", stderr(&done));
    assert_eq!(stdout(&done).lines().filter(|line| line.contains("4 records of before")).count(), 2);
    let keys = bucket.keys();
    assert!(keys.len() == 6 && keys.iter().all(|key| key.starts_with("shop/old/")), "{keys:?}");
    assert!(keys.iter().any(|key| key.starts_with("shop/old/orders/month=")), "{keys:?}");
    let verified = run(&desk, &bucket.endpoint, &VERIFY);
    assert_eq!(stdout(&verified), "8 records sound, 0 faults\n", "{}", stderr(&verified));
    // They have left the database, and are told all the same, and from where.
    assert_eq!(desk.sqlite3_says("SELECT count(*) FROM orders_history"), "2\n");
    let told = |arguments: &[&str]| stdout(&run(&desk, &bucket.endpoint, arguments));
    let log = told(&["log", "--table", "orders"]);
    assert_eq!((log.matches("updated").count(), log.matches("archived").count()), (4, 4), "{log}");
    let history = told(&["history", "orders", "1"]);
    assert_eq!(history.matches("(archived)").count(), 2, "{history}");
    let json = told(&["history", "orders", "1", "--format", "json"]);
    assert_eq!(json.matches("\"archive\": \"s3://bucket/shop/old\"").count(), 2, "{json}");
    assert!(told(&["removals"]).contains("older than 1 second, to s3://bucket/shop/old"));
    // A program without the keys says what it lacks, and what is here is told by any.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let failed = run(&desk, &format!("http://{gone}"), &["history", "orders", "1"]);
    assert!(
        stderr(&failed).contains("the archive s3://bucket/shop/old cannot be read"),
        "{}",
        stderr(&failed)
    );
    assert!(desk.says(&["show", "orders", "1"]).contains('2'));
    let back = told(&["archive", "restore", "orders"]);
    assert_eq!(back, "orders: 4 records brought back from s3://bucket/shop/old, which is a copy now\n");
    assert!(!desk.says(&["log", "--table", "orders"]).contains("archived"));
}

#[test]
fn a_bucket_that_is_full_half_way_loses_nothing_and_it_can_be_run_again() {
    let desk = two_tables();
    // One table whole, and the file of the other without its manifest.
    let bucket = Bucket::with_room_for(5);
    let failed = run(&desk, &bucket.endpoint, &ARCHIVE);
    let said = stderr(&failed);
    assert_eq!(failed.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot be written") && said.contains("archived 4 records"), "{said}");
    assert!(!said.contains("the-secret"), "{said}");
    // Nothing is left of what came to nothing, for others to read twice.
    let verified = run(&desk, &bucket.endpoint, &VERIFY);
    assert_eq!(stdout(&verified), "4 records sound, 0 faults\n", "{}", stderr(&verified));
    assert_eq!(
        desk.sqlite3_says("SELECT count(*) FROM items_history; SELECT count(*) FROM orders_history"),
        "6\n2\n"
    );
    desk.says(&["verify"]);
    bucket.make_room_for(100);
    let again = run(&desk, &bucket.endpoint, &ARCHIVE);
    assert!(again.status.success(), "{}", stderr(&again));
    let verified = run(&desk, &bucket.endpoint, &VERIFY);
    assert_eq!(stdout(&verified), "8 records sound, 0 faults\n", "{}", stderr(&verified));
}

#[test]
fn a_bucket_that_is_not_there_is_said_to_be() {
    let desk = two_tables();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let failed = run(&desk, &format!("http://{gone}"), &ARCHIVE);
    let said = stderr(&failed);
    assert_eq!(failed.status.code(), Some(1));
    assert!(said.contains("the archive s3://bucket/shop/old cannot be written"), "{said}");
    assert!(!said.contains("the-secret") && !said.contains("the-key"), "{said}");
}
