//! The types of MariaDB, exact in both storages: every value comes back as it is stored, and a change of its image is a
//! change.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support::*;
use afterimage::{LogQuery, Tracking};
use serde_json::{Value as Json, json};

/// A column's type, values in SQL, and what is shown of each.
fn types() -> Vec<(&'static str, Vec<(&'static str, Json)>)> {
    let text = |values: &[&'static str]| -> Vec<(&'static str, Json)> {
        values.iter().map(|sql| (*sql, json!(sql.trim_matches('\'')))).collect()
    };
    vec![
        ("TINYINT", vec![("-128", json!(-128)), ("127", json!(127))]),
        ("TINYINT(1)", vec![("1", json!(1)), ("2", json!(2))]),
        ("INT(5) ZEROFILL", vec![("42", json!(42)), ("0", json!(0))]),
        (
            "BIGINT",
            vec![
                ("-9223372036854775808", json!(i64::MIN)),
                ("9007199254740993", json!(9_007_199_254_740_993_i64)),
            ],
        ),
        (
            "BIGINT UNSIGNED",
            vec![
                ("18446744073709551615", json!(u64::MAX)),
                ("9223372036854775808", json!(9_223_372_036_854_775_808_u64)),
            ],
        ),
        ("BIT(64)", vec![("18446744073709551615", json!(u64::MAX)), ("b'101'", json!(5))]),
        (
            "DECIMAL(65,30)",
            text(&[
                "99999999999999999999999999999999999.123456789012345678901234567891",
                "-0.000000000000000000000000000001",
            ]),
        ),
        ("DECIMAL(10,2)", vec![("1.5", json!("1.50")), ("-7", json!("-7.00"))]),
        (
            "FLOAT",
            vec![
                ("0.1", json!(0.1)),
                ("16777217", json!(16_777_216)),
                ("1e-5", json!(0.00001)),
                ("0", json!(0)),
            ],
        ),
        ("DOUBLE", vec![("0.1 + 0.2e0", json!(0.1 + 0.2)), ("1.7976931348623157e308", json!(f64::MAX))]),
        ("YEAR", vec![("1901", json!(1901)), ("2155", json!(2155))]),
        ("DATE", text(&["'0000-00-00'", "'9999-12-31'", "'2024-02-30'"])),
        ("TIME(6)", text(&["'-838:59:59.999999'", "'24:00:00.000000'"])),
        (
            "DATETIME(6)",
            vec![
                ("'0000-00-00 00:00:00'", json!("0000-00-00T00:00:00.000000")),
                ("'2026-11-22 20:08:00.123456'", json!("2026-11-22T20:08:00.123456")),
            ],
        ),
        (
            "TIMESTAMP(6) NULL",
            vec![
                ("'2026-11-22 20:08:00.123456'", json!("2026-11-22T20:08:00.123456Z")),
                ("'1970-01-01 00:00:01'", json!("1970-01-01T00:00:01.000000Z")),
            ],
        ),
        ("CHAR(5)", text(&["'a'", "'A'", "'ä'"])),
        ("VARCHAR(20)", text(&["'a'", "'A'", "'a '", "'á'", "''"])),
        ("VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_german1_ci", text(&["'ä'", "'Ä'", "'ß'"])),
        ("VARCHAR(20) CHARACTER SET utf16", text(&["'🙂'", "'ä'"])),
        (
            "LONGTEXT",
            vec![
                ("REPEAT('x', 70000)", json!("x".repeat(70000))),
                ("CONCAT('a', CHAR(0), 'b')", json!("a\0b")),
            ],
        ),
        (
            "BINARY(4)",
            vec![("X'00FF'", json!({"$bytes": "AP8AAA"})), ("X'00FF0001'", json!({"$bytes": "AP8AAQ"}))],
        ),
        ("VARBINARY(9)", vec![("X''", json!({"$bytes": ""})), ("X'00'", json!({"$bytes": "AA"}))]),
        ("LONGBLOB", vec![("X'C3'", json!({"$bytes": "ww"})), ("X'00FF80'", json!({"$bytes": "AP-A"}))]),
        ("ENUM('one', 'two', 'it''s')", text(&["'one'", "'two'"])),
        ("SET('a', 'b', 'c')", vec![("'a,c'", json!("a,c")), ("''", json!(""))]),
        (
            "JSON",
            vec![
                ("'{\"b\": 1.0, \"a\": [1, null], \"b\": 2}'", json!({"b": 2, "a": [1, null]})),
                ("'[12345678901234567890.10]'", json!("big")),
            ],
        ),
        ("UUID", text(&["'123e4567-e89b-12d3-a456-426655440000'", "'00000000-0000-0000-0000-000000000001'"])),
        ("INET6", text(&["'2001:db8::ff00:42:8329'", "'::'"])),
        ("INET4", text(&["'10.0.0.1'", "'255.255.255.255'"])),
        (
            "POINT",
            vec![("POINT(1, 2)", json!("point")), ("ST_GeomFromText('POINT(1.5 2)', 4326)", json!("point"))],
        ),
    ]
}

#[tokio::test]
async fn every_type_is_exact() {
    for storage in STORAGES {
        let mut db = TestDb::mariadb().await;
        // As hostile as a client's session may be.
        db.run("SET SESSION time_zone = '+05:45', sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,ALLOW_INVALID_DATES', div_precision_increment = 0, lc_time_names = 'de_DE'").await;
        for (n, (kind, values)) in types().into_iter().enumerate() {
            let table = format!("t{n}");
            db.run(&format!("CREATE TABLE {table} (id INT PRIMARY KEY, v {kind}, w INT)")).await;
            db.track(&table, Tracking::new().storage(storage)).await;
            db.run(&format!("INSERT INTO {table} VALUES (1, NULL, 0)")).await;
            db.run("SET SESSION time_zone = '+00:00'").await;
            for (sql, _) in &values {
                db.run(&format!("UPDATE {table} SET v = {sql}")).await;
            }
            db.run("SET SESSION time_zone = '+05:45'").await;
            db.run(&format!("UPDATE {table} SET w = 1; UPDATE {table} SET v = v")).await;
            let versions = db.versions(&table, "1").await;
            assert_eq!(versions.len(), values.len() + 2, "{kind} over {storage}: each is another value");
            for ((sql, shown), version) in values.iter().zip(&versions[1..]) {
                let seen = row(version)["v"].clone();
                match shown.as_str() {
                    Some("point") => assert!(seen["$bytes"].is_string(), "{kind} {sql}: {seen}"),
                    Some("big") => {
                        let text = serde_json::to_string(&afterimage::RowJson(&version.row)).unwrap();
                        assert!(text.contains("12345678901234567890.10"), "{text}");
                    }
                    _ => assert_eq!(seen, *shown, "{kind} {sql} over {storage}"),
                }
            }
            let last = &row(versions.last().unwrap())["v"];
            assert_eq!(db.as_of(&table, now()).await[0]["v"], *last, "{kind}");
            // Whichever way it is asked.
            for version in &versions {
                assert_eq!(
                    db.as_of(&table, at(version)).await[0]["v"],
                    row(version)["v"],
                    "{kind} over {storage}"
                );
            }
            let told = LogQuery::parse(&format!("table:{table} field:v")).unwrap();
            let told = db.audit.log(&told).await.unwrap().entries;
            assert_eq!(told.len(), values.len(), "{kind} over {storage}");
            for entry in told {
                let version = versions.iter().find(|version| version.header.id == entry.header.id).unwrap();
                let change = entry.changes.iter().find(|change| change.field == "v").unwrap();
                assert_eq!(change.new, version.row[1].1, "{kind} over {storage}");
            }
            // What was is written back bit for bit.
            let revert = afterimage::Revert::new(&table, "1", afterimage::Selector::Number(2));
            db.audit.revert(&revert, &actor("1")).await.unwrap_or_else(|error| panic!("{kind}: {error}"));
            assert_eq!(
                row(db.versions(&table, "1").await.last().unwrap())["v"],
                row(&versions[1])["v"],
                "{kind}"
            );
            db.verify().await;
            assert_eq!(db.text(&format!("SELECT COUNT(*) FROM {table}_history AS h JOIN {table} AS t ON BINARY h.v <=> BINARY t.v WHERE h.history_id = (SELECT MAX(history_id) FROM {table}_history)")).await.unwrap(), "1", "{kind}");
            db.audit.untrack(&table, true).await.unwrap();
            db.run(&format!("DROP TABLE {table}")).await;
        }
    }
}

#[tokio::test]
async fn a_collation_in_the_address_changes_no_answer() {
    let mut db = TestDb::mariadb().await;
    db.run("CREATE TABLE t (id INT, at TIMESTAMP(6), name VARCHAR(20), PRIMARY KEY (id, at, name))").await;
    db.track("t", Tracking::new()).await;
    db.run("INSERT INTO t VALUES (1, '2024-02-29 10:00:00', 'é')").await;
    let key = r#"{"id": 1, "at": "2024-02-29T10:00:00.000000Z", "name": "é"}"#;
    for collation in ["utf8mb4_unicode_ci", "utf8mb4_bin", "utf8mb4_general_ci"] {
        let url = format!("{}?charset=utf8mb4&collation={collation}", db.url);
        let audit = afterimage::Afterimage::connect(&url).await.unwrap();
        assert_eq!(audit.history("t", key).await.unwrap().len(), 1, "{collation}");
        let found = audit.log(&LogQuery::parse("table:t was:é now:é").unwrap()).await;
        found.unwrap_or_else(|error| panic!("{collation}: {error}"));
    }
}

#[tokio::test]
async fn a_float_is_found_by_the_digits_that_are_shown() {
    let mut db = TestDb::mariadb().await;
    db.run("CREATE TABLE t (id INT PRIMARY KEY, v FLOAT)").await;
    db.track("t", Tracking::new()).await;
    db.run("INSERT INTO t VALUES (1, 3.1415927), (2, 3.14159), (3, 16777217), (4, 0.1), (5, -2.5e-7)").await;
    for (text, id) in [("3.1415927", 1), ("3.14159", 2), ("16777216", 3), ("0.1", 4), ("-0.00000025", 5)] {
        let found = db.audit.log(&LogQuery::parse(&format!("now:{text}")).unwrap()).await.unwrap().entries;
        let found: Vec<String> = found.iter().map(|entry| entry.key[0].1.to_string()).collect();
        assert_eq!(found, [id.to_string()], "{text}");
    }
}

#[tokio::test]
async fn a_key_of_any_type_finds_its_row() {
    for (kind, one, two, key) in [
        ("BIGINT UNSIGNED", "18446744073709551615", "18446744073709551614", "18446744073709551615"),
        ("VARCHAR(20) COLLATE utf8mb4_general_ci", "'Ann'", "'bob'", "Ann"),
        ("CHAR(3) CHARACTER SET latin1", "'ä'", "'b'", "ä"),
        ("VARBINARY(8)", "X'00FF'", "X'00FE'", "\\x00ff"),
        ("UUID", "'123e4567-e89b-12d3-a456-426655440000'", "UUID()", "123e4567-e89b-12d3-a456-426655440000"),
        ("DATE", "'2024-02-29'", "'2024-02-28'", "2024-02-29"),
        (
            "TIMESTAMP(6) DEFAULT '2000-01-01'",
            "'2024-02-29 10:00:00.5'",
            "'2024-02-28'",
            "2024-02-29T10:00:00.500000Z",
        ),
        ("DECIMAL(10,2)", "1.5", "2.5", "1.50"),
        ("ENUM('x', 'y')", "'x'", "'y'", "x"),
    ] {
        for storage in STORAGES {
            let mut db = TestDb::mariadb().await;
            db.run(&format!("CREATE TABLE t (id {kind} PRIMARY KEY, n INT)")).await;
            db.run(&format!("INSERT INTO t VALUES ({one}, 0)")).await;
            db.track("t", Tracking::new().storage(storage)).await;
            db.run(&format!("UPDATE t SET n = 1; UPDATE t SET n = 2; UPDATE t SET id = {two}")).await;
            assert_eq!(db.signs("t", key).await, "+~~+", "{kind}");
            let versions = db.versions("t", key).await;
            let shown = row(versions.last().unwrap())["id"].clone();
            db.verify().await;
            db.run("DELETE FROM t").await;
            let restore =
                afterimage::Restore::new("t", serde_json::to_string(&json!({"id": shown})).unwrap());
            db.audit.restore(&restore, &actor("1")).await.unwrap_or_else(|error| panic!("{kind}: {error}"));
            db.verify().await;
        }
    }
}

/// Under a collation by which they are equal, another case or another space is a change, of a value and of a key.
#[tokio::test]
async fn what_a_collation_takes_for_equal_is_still_a_change() {
    for storage in STORAGES {
        let mut db = TestDb::mariadb().await;
        db.run("CREATE TABLE t (id VARCHAR(9) COLLATE utf8mb4_general_ci PRIMARY KEY, v VARCHAR(9) COLLATE utf8mb4_general_ci)").await;
        db.track("t", Tracking::new().storage(storage)).await;
        db.run("INSERT INTO t VALUES ('a', 'a'); UPDATE t SET v = 'A'; UPDATE t SET v = 'á'; UPDATE t SET v = 'a '; UPDATE t SET v = 'a '").await;
        assert_eq!(db.signs("t", "a").await, "+~~~");
        db.run("UPDATE t SET id = 'A'").await;
        assert_eq!(changes(db.versions("t", "A").await.last().unwrap()), ["id: a -> A"]);
        db.verify().await;
    }
}

#[tokio::test]
async fn generated_invisible_and_versioned_columns() {
    for storage in STORAGES {
        let mut db = TestDb::mariadb().await;
        db.run("CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, n INT, twice INT AS (n * 2) VIRTUAL, kept INT AS (n * 3) PERSISTENT, hidden INT INVISIBLE DEFAULT 5) WITH SYSTEM VERSIONING").await;
        db.track("t", Tracking::new().storage(storage)).await;
        db.run("INSERT INTO t (n) VALUES (1), (2); UPDATE t SET n = 5, hidden = 6 WHERE id = 1").await;
        let versions = db.versions("t", "1").await;
        assert_eq!(changes(&versions[1]), ["n: 1 -> 5", "twice: 2 -> 10", "kept: 3 -> 15", "hidden: 5 -> 6"]);
        db.verify().await;
        let revert = afterimage::Revert::new("t", "1", afterimage::Selector::Number(1));
        db.audit.revert(&revert, &actor("1")).await.unwrap();
        assert_eq!(
            db.text("SELECT CONCAT(n, twice, kept, hidden) FROM t WHERE id = 1").await.unwrap(),
            "1235"
        );
        db.run("DELETE FROM t WHERE id = 2").await;
        db.audit.restore(&afterimage::Restore::new("t", "2"), &actor("1")).await.unwrap();
        db.verify().await;
    }
}
