//! How many instructions the pure core takes for what it does most often: the same on every machine, whatever else runs there.
//!
//! Valgrind counts them, which `cargo xtask test` installs. They are those of the build that is tested, and of its compiler: a newer
//! one may take others.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::hint::black_box;
use std::process::Command;

use afterimage_core::layout::{Field, Keeping, Layout};
use afterimage_core::matching::{Changed, Matcher, Seen};
use afterimage_core::record::{Epoch, Fold, all_fields};
use afterimage_core::sql::log::{self, Part, Read, Source};
use afterimage_core::sql::{AsOf, Bound, Rows, dialect};
use afterimage_core::value::Shown;
use afterimage_core::{Action, Database, Header, Moment, Query, Record, Storage, TableName, Value};

/// What is counted, and what it took. A change that takes a tenth more says so here, and one that takes a quarter less.
const COUNTED: [(&str, fn(), u64); 4] = [
    ("versions_of_a_thousand_records", versions_of_a_thousand_records, 37_360_000),
    ("a_thousand_values_of_each_kind", a_thousand_values_of_each_kind, 17_060_000),
    ("a_query_held_against_a_thousand_records", a_query_held_against_a_thousand_records, 28_940_000),
    ("the_questions_of_a_page", the_questions_of_a_page, 1_560_000),
];

/// Which of them a run under Valgrind is to do.
const ASKED: &str = "AFTERIMAGE_INSTRUCTIONS_OF";

#[test]
fn nothing_takes_many_more_than_it_did() {
    let mut counted = Vec::new();
    for (name, _, expected) in COUNTED {
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(format!("--toggle-collect=*{name}*"))
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "work", "--ignored", "--test-threads=1"])
            .env(ASKED, name)
            .output()
            .expect("valgrind is not there: `cargo xtask test` installs it");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let instructions =
            said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
        let instructions: u64 = instructions.unwrap_or_else(|| panic!("{said}"));
        assert!(instructions > 0, "{name}: nothing was counted");
        counted.push((name, instructions, expected));
    }
    let as_it_was = |instructions: u64, expected: u64| {
        (expected - expected / 4..=expected + expected / 10).contains(&instructions)
    };
    let other: Vec<_> =
        counted.iter().filter(|(_, instructions, expected)| !as_it_was(*instructions, *expected)).collect();
    assert!(other.is_empty(), "not what it took: {other:?} of {counted:?}");
}

#[test]
#[ignore = "what Valgrind runs"]
fn work() {
    let Ok(asked) = std::env::var(ASKED) else { return };
    let (_, does, _) = COUNTED.into_iter().find(|(name, ..)| *name == asked).unwrap();
    does();
}

fn layout(storage: Storage) -> Layout {
    let columns = [
        ("id", "bigint", Shown::Number),
        ("status", "text", Shown::Text),
        ("total", "numeric(10,2)", Shown::Text),
        ("notes", "jsonb", Shown::Json),
        ("created_at", "timestamp with time zone", Shown::Timestamp),
    ];
    let field = |(n, (name, sql_type, shown)): (u16, (&str, &str, Shown))| Field {
        bit: n + 1,
        name: name.to_owned(),
        history: name.to_owned(),
        sql_type: sql_type.to_owned(),
        collation: None,
        shown,
        plain_equality: true,
        keeping: Keeping::Stored,
        number: i32::from(n) + 1,
    };
    let table = |name: &str| TableName::new("public", name);
    Layout {
        id: 1,
        table: table("orders"),
        history: table("orders_history"),
        key: vec!["id".to_owned()],
        fields: (0..).zip(columns).map(field).collect(),
        next_bit: 6,
        storage,
        record_unchanged: false,
        only: false,
        shared_key: false,
        sources: 0,
        retired: Vec::new(),
        left_out: Vec::new(),
    }
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// A creation and its updates, sparse.
fn records(layout: &Layout) -> Vec<Record> {
    let record = |n: i64| Record {
        header: Header {
            id: n,
            date: Moment::from_micros(n * 1_000_000),
            action: if n == 0 { Action::Create } else { Action::Update },
            user: Some("7".to_owned()),
            reason: Some("price match".to_owned()),
            context: None,
            tx: Some(n.to_string()),
            old_key: None,
            archive: None,
        },
        mask: if n == 0 { layout.full_mask() } else { vec![0b1100] },
        values: vec![
            Value::Number("1".to_owned()),
            text("shipped"),
            text(&format!("{n}.50")),
            if n == 0 { Value::Json("{\"a\": 1}".to_owned()) } else { Value::Null },
            Value::Null,
        ],
    };
    (0..1000).map(record).collect()
}

fn versions_of_a_thousand_records() {
    let epochs = [Epoch { number: 1, from: Moment::from_micros(0), layout: layout(Storage::Delta) }];
    let mut fold = Fold::new(&epochs);
    for record in records(&epochs[0].layout) {
        black_box(fold.next(record).unwrap());
    }
}

fn a_thousand_values_of_each_kind() {
    for n in 0..1000 {
        for (shown, given) in [
            (Shown::Number, n.to_string()),
            (Shown::Bool, "t".to_owned()),
            (Shown::Bytes, format!("\\x{n:08}")),
            (Shown::Timestamp, format!("2026-11-30 10:11:12.{n:06}+00")),
            (Shown::Json, format!("{{\"n\": {n}}}")),
            (Shown::Text, format!("{n}.00")),
        ] {
            black_box(Value::from_text(shown, given));
        }
    }
}

fn a_query_held_against_a_thousand_records() {
    let query = Query::parse(
        r#"actor:7 field:total was:"1,249" now:1149 reason:"price match" shipped"#,
        Moment::now(),
        "UTC",
    )
    .unwrap();
    let matcher = Matcher::new(&query);
    let layout = layout(Storage::Delta);
    let names = ["total".to_owned()];
    for n in 0..1000 {
        let (id, old, new) = (Value::Number(n.to_string()), text("1249.00"), text(&format!("{n}.00")));
        let seen = Seen {
            user: Some("7"),
            label: Some("Ann"),
            reason: Some("a price match"),
            key: &[(&layout.fields[0], &id)],
            changes: &[Changed { field: &layout.fields[2], names: &names, old: &old, new: &new }],
        };
        black_box(matcher.accepts(&seen));
    }
}

fn the_questions_of_a_page() {
    for database in [Database::Postgres, Database::Sqlite, Database::MariaDb] {
        let (sql, layout) = (dialect(database), layout(Storage::Delta));
        let epochs = [Epoch { number: 1, from: Moment::from_micros(0), layout: layout.clone() }];
        let fields = all_fields(&epochs);
        let part = Part {
            source: Source { layout: &layout, fields: &fields, sparse: true },
            keys: vec![vec![text("42")]],
            not_keys: Vec::new(),
            changed: Vec::new(),
            refers: Vec::new(),
            latest: false,
            archived_until: None,
        };
        let bound = Bound::Time(Moment::from_micros(1_795_384_800_000_000));
        black_box(log::newest_records(sql, &part, Read::Changed, &Query::default(), None, 51));
        black_box(sql.records_of_key(&layout, &fields, &[text("42")], bound, &[]));
        black_box(sql.as_of(&AsOf {
            layout: &layout,
            fields: &fields,
            sparse: true,
            bound,
            unfinished: &[],
            rows: Rows::All,
            first: false,
        }));
    }
}
