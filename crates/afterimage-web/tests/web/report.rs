//! Reports as files.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{self, Write};

use crate::support::*;
use afterimage::{Context, LogQuery, Prune, Redact, Retention, Tracking};
use afterimage_web::{ReportFailure, ReportFormat, ReportOptions, write_report};

fn options(format: ReportFormat) -> ReportOptions {
    ReportOptions {
        format,
        title: "Fourth <quarter>".to_owned(),
        zone: "Asia/Kolkata".to_owned(),
        by: Some("auditor".to_owned()),
        summary_only: false,
    }
}

async fn written(db: &TestDb, query: &str, options: &ReportOptions) -> String {
    let mut out = Vec::new();
    write_report(&db.audit, &LogQuery::parse(query).unwrap(), options, &mut out).await.unwrap();
    String::from_utf8(out).unwrap()
}

const SECRET: &str = "4111222233334444";

/// Two items that Ann and Bob write, with a card that is masked, a note that is a formula, and whatever may befall a history.
async fn books(db: &mut TestDb) {
    db.run("CREATE TABLE item (id INTEGER PRIMARY KEY, note TEXT, card TEXT, mail TEXT)").await;
    db.track("item", Tracking::new().mask(["card"]).keep(Retention::versions(3))).await;
    let writes = [
        ("ann", format!("INSERT INTO item VALUES (1, '=1+1', '{SECRET}', 'a@x'), (2, '<b>', NULL, NULL)")),
        ("bob", "UPDATE item SET note = 'a' WHERE id = 1".to_owned()),
        ("bob", "UPDATE item SET mail = 'b@x', card = '0' WHERE id = 1".to_owned()),
        ("ann", "UPDATE item SET note = 'c' WHERE id = 1".to_owned()),
        ("ann", "DELETE FROM item WHERE id = 2".to_owned()),
    ];
    for (who, sql) in writes {
        db.tick().await;
        db.run_as(who, "because, so", &sql).await;
    }
    let officer = Context::actor("officer").reason("request 12");
    db.audit.redact(&Redact::new("item", "1").fields(["mail"]), &officer).await.unwrap();
    db.audit.prune(&Prune::new(), &Context::actor("keeper").reason("as declared")).await.unwrap();
    db.audit.hold("item", None, &Context::actor("counsel").reason("case 7")).await.unwrap();
}

on_every_database! {
    async fn a_report_counts_tells_and_says_what_may_be_missing(db: &mut TestDb) {
        books(db).await;
        let json: serde_json::Value = serde_json::from_str(&written(db, "", &options(ReportFormat::Json)).await).unwrap();
        assert_eq!((json["title"].as_str(), json["by"].as_str(), json["zone"].as_str()), (Some("Fourth <quarter>"), Some("auditor"), Some("Asia/Kolkata")));
        let head = &json["head"];
        assert_eq!((head["records"].as_u64(), json["changes"].as_array().unwrap().len()), (Some(5), 5));
        let counts: Vec<String> = head["counts"].as_array().unwrap().iter()
            .map(|one| format!("{} {} {}", one["user"].as_str().unwrap(), one["action"].as_str().unwrap(), one["records"])).collect();
        assert_eq!(counts, ["ann create 1", "ann update 1", "ann delete 1", "bob update 2"]);
        let table = &head["tables"][0];
        assert_eq!((table["masked"][0].as_str(), table["keep"].as_str(), table["captured"].as_bool()), (Some("card"), Some("last 3 versions"), Some(true)));
        assert!(table["gaps"][0]["cause"].as_str().unwrap().contains("pruned, keeping last 3 versions"), "{table}");
        let removals: Vec<&str> = table["removals"].as_array().unwrap().iter().map(|one| one["what"].as_str().unwrap()).collect();
        assert_eq!((removals, table["holds"][0]["reason"].as_str()), (vec!["redact", "prune"], Some("case 7")));
        assert_eq!(json["changes"][3]["changes"]["note"], serde_json::json!([{"$unknown": true}, "a"]));
        assert_eq!(json["changes"][2]["changes"]["card"][1], serde_json::json!({"$masked": true}));

        let csv = written(db, "", &options(ReportFormat::Csv)).await;
        let parts = |part: &str| csv.lines().filter(|line| line.starts_with(&format!("{part},"))).count();
        assert_eq!([parts("report"), parts("table"), parts("gap"), parts("removal"), parts("hold"), parts("count")], [1, 1, 1, 2, 1, 4]);
        assert!(csv.contains("times are of Asia/Kolkata") && csv.contains("\"because, so\""), "{csv}");
        let html = written(db, "", &options(ReportFormat::Html)).await;
        assert!(html.contains("<h1>Fourth &#60;quarter&#62;</h1>") && !html.contains("<b>0") && html.contains("b&gt;"), "{html}");
        assert!(html.trim_end().ends_with("</html>") && !html.contains("src=") && !html.contains("href="));
        for text in [&csv, &html, &json.to_string()] {
            assert!(!text.contains(SECRET) && !text.contains("a@x"), "{text}");
        }
    }
}

on_every_database! {
    async fn a_report_tells_what_was_asked_for_and_no_more(db: &mut TestDb) {
        books(db).await;
        let csv = written(db, "actor:bob field:mail", &options(ReportFormat::Csv)).await;
        assert_eq!(csv.matches("\r\nchange,").count(), 2, "{csv}");
        assert_eq!(csv.matches("\r\ncount,").count(), 1);
        assert!(csv.contains(r#"asked for: actor:""bob"" field:""mail"""#), "{csv}");
        let nothing = written(db, "actor:nobody", &options(ReportFormat::Html)).await;
        assert!(nothing.contains("No change answers.") && nothing.contains("case 7"));
        let json: serde_json::Value =
            serde_json::from_str(&written(db, "actor:nobody", &options(ReportFormat::Json)).await).unwrap();
        assert_eq!((json["head"]["records"].as_u64(), json["changes"].as_array().unwrap().len()), (Some(0), 0));
        for format in [ReportFormat::Csv, ReportFormat::Json, ReportFormat::Html] {
            let summary = ReportOptions { summary_only: true, ..options(format) };
            let text = written(db, "", &summary).await;
            assert!(text.contains("bob") && !text.contains("because"), "{text}");
        }
    }
}

#[tokio::test]
async fn nothing_in_a_report_runs_in_a_spreadsheet() {
    let mut db = TestDb::sqlite().await;
    db.run("CREATE TABLE item (id INTEGER PRIMARY KEY, note TEXT)").await;
    db.track("item", Tracking::new()).await;
    db.run_as("=cmd", "+why", "INSERT INTO item VALUES (1, '@note'), (2, '-2'), (3, '\tx')").await;
    let csv = written(&db, "", &options(ReportFormat::Csv)).await;
    for cell in [",'=cmd,", ",'+why,", ",'@note,", ",-2,", "'\tx"] {
        assert!(csv.contains(cell), "{cell}: {csv}");
    }
}

on_every_database! {
    async fn a_report_is_taken_away_by_whoever_may(db: &mut TestDb) {
        shop(db).await;
        let viewer = Somebody::new(db, "viewer");
        for (path, kind) in [("/report.html", "text/html"), ("/report.csv", "text/csv"), ("/report.json", "application/json")] {
            assert_eq!(viewer.get(path).await.status, axum::http::StatusCode::BAD_REQUEST, "a period has to be said");
            let answer = viewer.get(&format!("{path}?range=all&title=The+year&tz=Asia/Kolkata")).await;
            assert!(answer.headers["content-type"].to_str().unwrap().starts_with(kind));
            assert!(answer.headers["content-disposition"].to_str().unwrap().starts_with("attachment"));
            let text = answer.ok();
            assert!(text.contains("The year") && text.contains("Asia/Kolkata") && text.contains("viewer"), "{text}");
            assert!(SECRETS.iter().all(|secret| !text.contains(secret)));
        }
        let summary = viewer.get("/report.html?range=all&summary=only").await.ok();
        assert!(!summary.contains("Every change"));
        assert!(viewer.get("/exports").await.ok().contains("/report.html"));
        // What somebody may not take away is not in it.
        let clerk = viewer.called(Some("clerk"));
        let text = clerk.get("/report.json?range=all").await;
        assert!(text.status != axum::http::StatusCode::OK || !text.text.contains("customers"), "{}", text.text);
    }
}

#[cfg(feature = "pdf")]
#[tokio::test]
async fn a_report_as_pdf_is_one() {
    let mut db = TestDb::sqlite().await;
    books(&mut db).await;
    for summary_only in [false, true] {
        let options = ReportOptions { summary_only, ..options(ReportFormat::Pdf) };
        let mut out = Vec::new();
        write_report(&db.audit, &LogQuery::default(), &options, &mut out).await.unwrap();
        assert!(out.starts_with(b"%PDF-") && out.trim_ascii_end().ends_with(b"%%EOF"));
        let failed = write_report(&db.audit, &LogQuery::default(), &options, &mut Full(100)).await;
        assert!(matches!(failed, Err(ReportFailure::Writing(_))), "{failed:?}");
    }
}

/// A disk that is full after so many bytes.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 < bytes.len() {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        self.0 -= bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_disk_that_is_full_is_told_and_the_report_has_no_end() {
    let mut db = TestDb::sqlite().await;
    books(&mut db).await;
    for format in [ReportFormat::Csv, ReportFormat::Json, ReportFormat::Html] {
        let whole = written(&db, "", &options(format)).await.len();
        for room in [0, 10, whole / 2, whole - 40] {
            let failed =
                write_report(&db.audit, &LogQuery::default(), &options(format), &mut Full(room)).await;
            assert!(matches!(failed, Err(ReportFailure::Writing(_))), "{format:?} {room}: {failed:?}");
        }
    }
}
