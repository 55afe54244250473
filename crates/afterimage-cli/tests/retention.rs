//! What removes records, and what reports on them, on the command line.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use support::{Desk, settled};

fn versions() -> Desk {
    let desk = Desk::new();
    desk.sqlite3("CREATE TABLE orders (id INTEGER PRIMARY KEY, status TEXT, mail TEXT); INSERT INTO orders VALUES (1, 'open', 'a@x'), (2, 'open', NULL)");
    desk.says(&["track", "orders"]);
    for n in 0..5 {
        desk.sqlite3(&format!("UPDATE orders SET status = 's{n}' WHERE id = 1"));
    }
    desk
}

#[test]
fn what_is_kept_is_said_once_and_stays() {
    let desk = versions();
    let (code, said) = desk.complains(&["prune", "orders"]);
    assert!(code == 1 && said.contains("nothing says how long"), "{said}");
    assert!(desk.says(&["prune"]).contains("no table says how long"));
    desk.says(&["track", "orders", "--keep", "last 2 versions"]);
    // Other options leave it as it is.
    desk.says(&["track", "orders", "--label", "status"]);
    let status = desk.says(&["status", "--format", "json"]);
    assert!(
        status.contains("\"retention\": \"last 2 versions\"") && status.contains("\"label\""),
        "{status}"
    );
    let would = desk.says(&["prune", "--dry-run"]);
    assert_eq!(would, "orders: 4 records would go, keeping last 2 versions\n");
    let done = desk.says(&["prune", "--actor", "keeper", "--reason", "as declared"]);
    assert!(done.starts_with("orders: 4 records gone, keeping last 2 versions, whole from "), "{done}");
    assert_eq!(desk.says(&["prune"]), "orders: nothing to prune, keeping last 2 versions\n");
    let json: serde_json::Value =
        serde_json::from_str(&desk.says(&["removals", "--format", "json"])).unwrap();
    assert_eq!((json[0]["what"].as_str(), json[0]["records"].as_u64()), (Some("prune"), Some(4)));
    assert_eq!(
        (json[0]["recorded_by"].as_str(), json[0]["reason"].as_str()),
        (Some("keeper"), Some("as declared"))
    );
    desk.says(&["track", "orders", "--keep", "ever"]);
    assert!(desk.says(&["prune"]).contains("no table says how long"));
    let (code, said) = desk.complains(&["track", "orders", "--keep", "a while"]);
    assert!(code == 2 && said.contains("does not say what is kept"), "{said}");
    let (code, said) = desk.complains(&["prune", "--keep", "1 day"]);
    assert!(code == 2 && said.contains("of which tables"), "{said}");
}

#[test]
fn a_history_that_is_dropped_is_dropped_by_somebody() {
    let desk = versions();
    desk.says(&["untrack", "orders", "--drop-history", "--actor", "keeper", "--reason", "case closed"]);
    let json: serde_json::Value =
        serde_json::from_str(&desk.says(&["removals", "--format", "json"])).unwrap();
    let told = ["what", "recorded_by", "reason"].map(|member| json[0][member].as_str().unwrap());
    assert_eq!(told, ["untrack", "keeper", "case closed"]);
}

#[test]
fn the_settings_say_what_is_kept_too() {
    let desk = versions();
    std::fs::write(desk.path().join("afterimage.toml"), "[retention]\norders = 'last 1 version'\n").unwrap();
    assert!(desk.says(&["prune", "--dry-run"]).starts_with("orders: 5 records would go"));
    let done: serde_json::Value = serde_json::from_str(&desk.says(&["prune", "--format", "json"])).unwrap();
    assert_eq!(
        (done[0]["table"].as_str(), done[0]["records"].as_u64(), done[0]["keep"].as_str()),
        (Some("orders"), Some(5), Some("last 1 version"))
    );
    std::fs::write(desk.path().join("afterimage.toml"), "[retention]\norders = 'a while'\n").unwrap();
    let (code, said) = desk.complains(&["prune"]);
    assert!(code == 2 && said.contains("does not say what is kept"), "{said}");
}

#[test]
fn holds_redactions_duplicates_and_baselines() {
    let desk = versions();
    let (code, said) = desk.complains(&["hold", "orders"]);
    assert!(code == 1 && said.contains("reason"), "{said}");
    assert_eq!(desk.says(&["hold"]), "nothing is held\n");
    assert!(desk.says(&["hold", "orders", "1", "--reason", "case 7"]).contains("orders 1 is held"));
    let (code, said) =
        desk.complains(&["redact", "orders", "1", "--fields", "mail", "--reason", "request 12"]);
    assert!(code == 1 && said.contains("under a hold"), "{said}");
    assert!(desk.says(&["hold", "--format", "csv"]).contains("case 7"));
    desk.says(&["hold", "--lift", "1"]);
    let would =
        desk.says(&["redact", "orders", "1", "--fields", "mail", "--reason", "request 12", "--dry-run"]);
    assert!(would.contains("nothing to redact") && would.contains("still has a value in mail"), "{would}");
    desk.sqlite3("UPDATE orders SET mail = NULL WHERE id = 1");
    let done = desk.says(&["redact", "orders", "1", "--fields", "mail", "--reason", "request 12"]);
    assert_eq!(done, "orders 1: redacted in 6 records\n");
    assert!(!desk.sqlite3_says("SELECT * FROM orders_history").contains("a@x"));
    assert_eq!(desk.says(&["dedupe", "--dry-run"]), "orders: 0 records would go\n");
    assert_eq!(desk.says(&["dedupe", "orders", "--ignore", "status"]), "orders: 5 records gone\n");
    assert_eq!(desk.says(&["baseline", "orders"]), "orders: every row has a record\n");
    desk.sqlite3("CREATE TABLE late (id INTEGER PRIMARY KEY); INSERT INTO late VALUES (1), (2)");
    desk.says(&["track", "late", "--no-baseline"]);
    let (code, _) = desk.complains(&["baseline", "late", "laet"]);
    assert_eq!((code, desk.says(&["baseline", "late"]).as_str()), (1, "late: baseline of 2 rows\n"));
    assert!(desk.says(&["verify"]).contains("late: whole"));
}

#[test]
fn a_report_is_a_file_of_the_kind_its_name_says() {
    let desk = Desk::shop();
    assert_eq!(desk.says(&["report", "-o", "r.pdf"]), "");
    assert!(std::fs::read(desk.path().join("r.pdf")).unwrap().starts_with(b"%PDF-"));
    for name in ["r.html", "r.csv", "r.json"] {
        assert_eq!(desk.says(&["report", "-o", name, "--title", "The shop"]), "");
        let text = std::fs::read_to_string(desk.path().join(name)).unwrap();
        assert!(text.contains("The shop"), "{text}");
    }
    let (code, said) = desk.complains(&["report", "-o", "r.xls"]);
    assert!(code == 2 && said.contains(".xls"), "{said}");
    let (code, said) = desk.complains(&["report", "-o", "nowhere/r.html"]);
    assert!(code == 1 && !said.is_empty());
    settled(|| {
        insta::assert_snapshot!("report.csv", desk.says(&["report", "--as", "csv"]));
    });
    let none = desk.says(&["report", "--as", "json", "--until", "2001-01-01"]);
    let json: serde_json::Value = serde_json::from_str(&none).unwrap();
    assert_eq!(
        (json["head"]["before"].as_str(), json["head"]["records"].as_u64()),
        (Some("2001-01-02T00:00:00.000000Z"), Some(0))
    );
}

#[test]
fn partitions_are_postgresqls() {
    let desk = versions();
    let (code, said) = desk.complains(&["partition", "orders", "--by", "month"]);
    assert!(code == 1 && said.contains("on PostgreSQL only"), "{said}");
    let (code, said) = desk.complains(&["partition", "orders", "--by", "fortnight"]);
    assert!(code == 2 && said.contains("day, week, month or year"), "{said}");
}

#[test]
fn old_records_are_archived_and_checked() {
    let desk = versions();
    let folder = desk.path().join("old");
    let url = format!("file://{}", folder.display());
    let (code, said) = desk.complains(&["archive", "orders"]);
    assert!(code == 2 && said.contains("--older-than"), "{said}");
    let (code, said) =
        desk.complains(&["archive", "--older-than", "1 day", "--to", "s3://key:secret@bucket/folder"]);
    assert!(code == 1 && said.contains("AWS_ACCESS_KEY_ID") && !said.contains("secret@"), "{said}");
    let nothing = desk.says(&["archive", "orders", "--older-than", "1 year", "--to", &url]);
    assert!(nothing.starts_with("orders: nothing that is older than "), "{nothing}");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let done = desk.says(&["archive", "--older-than", "1 second", "--to", &url, "--actor", "keeper"]);
    assert!(done.starts_with("orders: 5 records of before ") && done.contains(" in 1 file, "), "{done}");
    assert_eq!(desk.says(&["archive", "verify", &url]), "5 records sound, 0 faults\n");
    std::fs::remove_dir_all(folder.join("orders/_manifests")).unwrap();
    let found = desk.run(&["archive", "verify", &url]);
    assert_eq!(found.status.code(), Some(3));
    assert!(support::stdout(&found).contains("no manifest names it"));
}
