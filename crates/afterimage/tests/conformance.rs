//! The conformance suite: what the well-known history packages of another ecosystem are tested for, and where they are
//! wrong, as cases over plain tables, each run on every database in both storages. A case that a law or the design decides
//! otherwise says so. `docs/conformance.md` is the table that this suite writes.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

/// A case, as the table tells it.
#[derive(Debug)]
pub struct Case {
    number: &'static str,
    title: &'static str,
    superseded: &'static [&'static str],
}

/// Cases, each with a database of its own and the tracking whose storage is tried; whatever was done, the records give the
/// live tables in the end.
macro_rules! conformance {
    ($($number:literal $title:literal $(superseded by $law:literal)? => $name:ident($db:ident, $tracking:ident) $body:block)*) => {
        pub const CASES: &[crate::Case] = &[
            $(crate::Case { number: $number, title: $title, superseded: &[$($law)?] }),*
        ];

        $(mod $name {
            use super::*;

            async fn case($db: &mut TestDb, $tracking: Tracking) $body

            async fn run(mut db: TestDb, storage: Storage) {
                case(&mut db, Tracking::new().storage(storage)).await;
                db.verify().await;
            }

            #[tokio::test]
            async fn sqlite_snapshot() {
                run(TestDb::sqlite().await, Storage::Snapshot).await;
            }

            #[tokio::test]
            async fn sqlite_delta() {
                run(TestDb::sqlite().await, Storage::Delta).await;
            }

            #[tokio::test]
            async fn postgres_snapshot() {
                run(TestDb::postgres().await, Storage::Snapshot).await;
            }

            #[tokio::test]
            async fn postgres_delta() {
                run(TestDb::postgres().await, Storage::Delta).await;
            }

            #[tokio::test]
            async fn mariadb_snapshot() {
                run(TestDb::mariadb().await, Storage::Snapshot).await;
            }

            #[tokio::test]
            async fn mariadb_delta() {
                run(TestDb::mariadb().await, Storage::Delta).await;
            }
        })*
    };
}

#[allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]
mod conformance {
    pub mod back;
    pub mod capture;
    pub mod context;
    pub mod reading;
    pub mod related;
    pub mod retention;
    pub mod values;
}

use conformance::{back, capture, context, reading, related, retention, values};

const ALL: [&[Case]; 7] = [
    capture::CASES,
    values::CASES,
    context::CASES,
    reading::CASES,
    related::CASES,
    back::CASES,
    retention::CASES,
];

/// What is no table's affair, and where it is tested instead.
const ELSEWHERE: [(&str, &str); 4] = [
    ("23", "how a long value is shown: the tests of the web interface; what is kept is never cut"),
    ("24", "who makes a request, and from where: `tests/engine/web.rs`, with the middleware"),
    (
        "T12",
        "two requests at once: in `tests/engine`, `sqlite_context.rs`, `context.rs`, `mariadb_context.rs`, and `web.rs` with the middleware",
    ),
    ("T21", "who may revert in the web interface: the tests of the web interface"),
];

fn table() -> String {
    let mut cases: Vec<&Case> = ALL.iter().copied().flatten().collect();
    let order = |number: &str| {
        let digits: String = number.chars().filter(char::is_ascii_digit).collect();
        (number.starts_with('T'), digits.parse::<u32>().unwrap_or_default())
    };
    cases.sort_by_key(|case| order(case.number.split(',').next().unwrap_or_default()));
    let mut text = "# Conformance\n\nWhat the well-known history packages of another ecosystem are tested for (1 to 25), and where they are wrong (T1 to T21), as \
cases over plain tables. This table is written by the suite, `crates/afterimage/tests/conformance.rs`, which runs each case \
on each database in each storage: a cell that did not hold would fail it.\n\n| | case | SQLite snapshot | delta | PostgreSQL snapshot | delta | MariaDB snapshot | delta |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n".to_owned();
    for case in cases {
        let superseded: String =
            case.superseded.iter().map(|law| format!(" *(superseded by {law})*")).collect();
        text.push_str(&format!("| {} | {}{superseded} | ✓ | ✓ | ✓ | ✓ | ✓ | ✓ |\n", case.number, case.title));
    }
    text.push_str("\nNot among them:\n\n");
    for (number, why) in ELSEWHERE {
        text.push_str(&format!("- {number}: {why}\n"));
    }
    text
}

/// `AFTERIMAGE_WRITE_DOCS=1` writes it anew.
#[test]
fn the_table_in_the_docs_is_what_this_suite_runs() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/conformance.md");
    if std::env::var_os("AFTERIMAGE_WRITE_DOCS").is_some() {
        std::fs::write(path, table()).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), table(), "write it anew with AFTERIMAGE_WRITE_DOCS=1");
}

#[test]
fn every_case_is_here_or_said_to_be_elsewhere() {
    let here = ALL.iter().copied().flatten().flat_map(|case| case.number.split(", "));
    let known: Vec<&str> = here.chain(ELSEWHERE.iter().map(|(number, _)| *number)).collect();
    let all = (1..=25).map(|n| n.to_string()).chain((1..=21).map(|n| format!("T{n}")));
    let missing: Vec<String> = all.filter(|number| !known.contains(&number.as_str())).collect();
    assert_eq!(missing, [""; 0]);
}
