//! PostgreSQL: every column type, with values that only their images tell apart (laws 3 and 7).

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support::*;
use afterimage::{Storage, Tracking};

/// A type, and values none of which has the same image as the one before it.
const TYPES: [(&str, &[&str]); 63] = [
    ("smallint", &["1", "-32768", "NULL", "0"]),
    ("integer", &["1", "-2147483648", "NULL"]),
    ("bigint", &["9223372036854775807", "-9223372036854775808", "NULL"]),
    ("numeric", &["1.0", "1.00", "1", "'NaN'", "'Infinity'", "-0.5", "1e300", "NULL", "0", "0.0"]),
    ("numeric(9,2)", &["1.005", "2", "'NaN'", "NULL"]),
    ("real", &["1.5", "0", "'-0'", "'NaN'", "'Infinity'", "1e-45", "NULL"]),
    ("double precision", &["0.1", "0.1::float8 + 1e-17 + 0.2", "0", "'-0'", "'NaN'", "5e-324", "NULL"]),
    ("money", &["12.34", "-1", "NULL"]),
    ("boolean", &["true", "false", "NULL"]),
    (
        "text",
        &[
            "''",
            "'a'",
            "'A'",
            "'é'",
            "E'e\\u0301'",
            "'a '",
            "repeat('long ', 5000)",
            "repeat('long ', 5001)",
            "NULL",
            "E'\\t\\n\\\\'",
        ],
    ),
    ("varchar(5)", &["'a'", "'a '", "'A'", "NULL"]),
    ("char(4)", &["'a'", "'A'", "''", "NULL"]),
    ("\"char\"", &["'a'", "'b'", "NULL"]),
    ("name", &["'a'", "'b'", "NULL"]),
    ("bytea", &["''", "'\\x00'", "'\\x0000'", "decode(repeat('ab', 9000), 'hex')", "NULL"]),
    ("date", &["'2020-02-29'", "'infinity'", "'-infinity'", "'4714-11-24 BC'", "NULL"]),
    ("time", &["'23:59:59.999999'", "'24:00'", "'00:00'", "NULL"]),
    ("time(0)", &["'23:59:58.4'", "'00:00'"]),
    ("timetz", &["'12:00+00'", "'13:00+01'", "NULL"]),
    ("timestamp", &["'2020-03-29 02:30'", "'infinity'", "'0044-03-15 BC'", "NULL"]),
    ("timestamptz", &["'2020-03-29 02:30+00'", "'-infinity'", "'294276-12-31 23:59:59.999999+00'", "NULL"]),
    ("timestamptz(3)", &["'2020-03-29 02:30:00.1234+00'", "NULL"]),
    ("interval", &["'1 day'", "'24 hours'", "'1 month'", "'30 days'", "'-1 year 2 days'", "NULL"]),
    ("interval year to month", &["'14 months'", "'2 years'"]),
    ("interval second(2)", &["'1.239'", "'2'"]),
    ("uuid", &["'00000000-0000-0000-0000-000000000001'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'", "NULL"]),
    ("json", &["'{}'", "'{ }'", "'{\"a\":1,\"a\":2}'", "'[1.0]'", "'[1]'", "'null'", "NULL"]),
    ("jsonb", &["'{}'", "'{\"a\":1}'", "'[1.0]'", "'[1.00]'", "'null'", "NULL"]),
    ("jsonpath", &["'$.a'", "'$.b'", "NULL"]),
    ("xml", &["'<a/>'", "'<a></a>'", "NULL"]),
    ("inet", &["'10.0.0.1'", "'10.0.0.1/24'", "'::1'", "NULL"]),
    ("cidr", &["'10.0.0.0/8'", "'::/0'", "NULL"]),
    ("macaddr", &["'08:00:2b:01:02:03'", "'08:00:2b:01:02:04'"]),
    ("macaddr8", &["'08:00:2b:01:02:03:04:05'", "NULL"]),
    ("bit(3)", &["B'101'", "B'111'", "NULL"]),
    ("bit varying(5)", &["B'1'", "B'10'", "B''", "NULL"]),
    ("point", &["'(1,2)'", "'(1,3)'", "'(0,0)'", "'(-0,0)'", "NULL"]),
    ("line", &["'{1,2,3}'", "NULL"]),
    ("lseg", &["'(1,2),(3,4)'", "'(3,4),(1,2)'", "NULL"]),
    ("box", &["'(1,2),(3,4)'", "'(0,0),(2,2)'", "NULL"]),
    ("path", &["'((1,2),(3,4))'", "'[(1,2),(3,4)]'", "NULL"]),
    ("polygon", &["'((1,2),(3,4),(5,6))'", "NULL"]),
    ("circle", &["'<(1,2),3>'", "'<(1,3),3>'", "NULL"]),
    ("tsvector", &["'a b'", "'a:1 b:2'", "NULL"]),
    ("tsquery", &["'a & b'", "'a | b'", "NULL"]),
    ("int4range", &["'[1,2)'", "'empty'", "'(,)'", "NULL"]),
    ("numrange", &["'[1.0,2)'", "'[1.00,2)'", "NULL"]),
    ("tstzrange", &["'[2020-01-01,)'", "'empty'", "NULL"]),
    ("int4multirange", &["'{[1,2)}'", "'{}'", "NULL"]),
    ("integer[]", &["'{}'", "'{1}'", "'[0:0]={1}'", "'{{1,2},{3,4}}'", "'{NULL}'", "NULL"]),
    ("text[]", &["'{}'", "'{\"\"}'", "'{\"NULL\"}'", "'{NULL}'", "'{a,A}'", "NULL"]),
    ("numeric(5,1)[]", &["'{1,2}'", "'{1,3}'", "NULL"]),
    ("double precision[]", &["'{0}'", "'{-0}'", "'{NaN}'", "NULL"]),
    ("timestamptz[]", &["'{2020-01-01}'", "'{2020-01-02}'", "NULL"]),
    ("jsonb[]", &["array['{\"a\":1}'::jsonb]", "array['{\"a\":2}'::jsonb]", "NULL"]),
    ("oid", &["1", "4294967295", "NULL"]),
    ("regclass", &["'pg_class'", "'pg_type'", "NULL"]),
    ("pg_lsn", &["'0/1'", "'0/2'", "NULL"]),
    ("xid8", &["'1'", "'18446744073709551615'", "NULL"]),
    ("mood", &["'sad'", "'so-so'", "NULL"]),
    ("coin", &["ROW(1, 'a')", "ROW(1, 'A')", "ROW(NULL, NULL)", "NULL", "ROW(NULL, NULL)", "ROW(1.0, NULL)"]),
    ("positive", &["1", "2", "NULL"]),
    ("sleepy", &["'{a}'", "'{b}'", "NULL"]),
];

const OWN: &str = "CREATE TYPE mood AS ENUM ('sad', 'so-so', 'glad');
    CREATE TYPE coin AS (worth numeric, face text);
    CREATE DOMAIN positive AS numeric(7, 1) CHECK (VALUE > 0);
    CREATE DOMAIN sleepy AS text[]";

#[tokio::test]
async fn every_change_of_an_image_is_recorded_and_replayed() {
    for storage in [Storage::Snapshot, Storage::Delta] {
        for around in ["", "CREATE TABLE heir () INHERITS (item)"] {
            let mut db = TestDb::postgres().await;
            db.run(OWN).await;
            let columns: Vec<String> =
                TYPES.iter().enumerate().map(|(i, (sql, _))| format!("c{i} {sql}")).collect();
            db.run(&format!("CREATE TABLE item (id int PRIMARY KEY, {}); {around}", columns.join(", ")))
                .await;
            db.track("item", Tracking::new().storage(storage)).await;
            let firsts: Vec<String> =
                TYPES.iter().map(|(sql, values)| format!("({})::{sql}", values[0])).collect();
            db.run(&format!("INSERT INTO item VALUES (1, {0}), (2, {0})", firsts.join(", "))).await;
            let mut records = 1;
            for (i, (sql, values)) in TYPES.iter().enumerate() {
                for value in &values[1..] {
                    // Of both rows, so that the statement for many rows compares them; the second time changes nothing.
                    for _ in 0..2 {
                        db.run(&format!("UPDATE item SET c{i} = ({value})::{sql}")).await;
                    }
                    records += 1;
                    let signs = db.signs("item", "2").await;
                    assert_eq!(signs.len(), records, "{sql} became {value}, {storage:?} {around}: {signs}");
                }
            }
            db.verify().await;
            // And one row at a time.
            for (i, (sql, values)) in TYPES.iter().enumerate() {
                for value in values.iter().rev() {
                    db.run(&format!("UPDATE item SET c{i} = ({value})::{sql} WHERE id = 1")).await;
                }
            }
            db.run("DELETE FROM item WHERE id = 2").await;
            db.verify().await;
        }
    }
}

#[tokio::test]
async fn keys_of_every_kind_are_found_again() {
    let mut db = TestDb::postgres().await;
    db.run(OWN).await;
    db.run("CREATE EXTENSION IF NOT EXISTS citext").await;
    for (kind, key, shown) in [
        ("uuid", "'8C6A3AFE-0000-4000-8000-000000000001'", "8c6a3afe-0000-4000-8000-000000000001"),
        ("uuid", "'8c6a3afe-0000-4000-8000-000000000001'", "8C6A3AFE-0000-4000-8000-000000000001"),
        ("bigint", "-9223372036854775808", "-9223372036854775808"),
        ("text", "'x,id=y \"z\"'", "{\"id\": \"x,id=y \\\"z\\\"\"}"),
        ("varchar(3)", "'abc'", "abc"),
        ("char(4)", "'ab'", "ab"),
        ("numeric(9,2)", "1.5", "1.50"),
        ("timestamptz", "'2020-01-01T12:00:00+02'", "2020-01-01T10:00:00Z"),
        ("date", "'2020-01-01'", "2020-01-01"),
        ("boolean", "true", "true"),
        ("bytea", "'\\x00ff'", "\\x00ff"),
        ("mood", "'glad'", "glad"),
        ("citext", "'MiXed'", "mixed"),
        ("positive", "7", "7"),
        ("inet", "'10.0.0.1'", "10.0.0.1"),
        ("\"char\"", "'x'", "x"),
    ] {
        for storage in [Storage::Snapshot, Storage::Delta] {
            db.run(&format!("CREATE TABLE item (id {kind} PRIMARY KEY, n int)")).await;
            db.track("item", Tracking::new().storage(storage)).await;
            db.run(&format!("INSERT INTO item VALUES ({key}, 0)")).await;
            db.run("UPDATE item SET n = 1").await;
            db.run(&format!("UPDATE item SET n = 2 WHERE id = {key}")).await;
            assert_eq!(db.signs("item", shown).await, "+~~", "{kind} {shown}");
            let then = at(&db.versions("item", shown).await[1]);
            let shown_then = db.audit.show("item", shown, &then).await.unwrap();
            assert_eq!(row(&shown_then)["n"], 1, "{kind}");
            db.verify().await;
            db.audit.untrack("item", true).await.unwrap();
            db.run("DROP TABLE item").await;
        }
    }
}

#[tokio::test]
async fn collations_that_take_different_texts_for_equal() {
    let mut db = TestDb::postgres().await;
    db.run("CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
        .await;
    for storage in [Storage::Snapshot, Storage::Delta] {
        db.run("CREATE TABLE item (id text COLLATE nocase PRIMARY KEY, t text COLLATE nocase)").await;
        db.track("item", Tracking::new().storage(storage)).await;
        db.run("INSERT INTO item VALUES ('a', 'x'), ('b', 'x'); UPDATE item SET t = 'X'; UPDATE item SET t = 'x' WHERE id = 'A'").await;
        assert_eq!(db.signs("item", "A").await, "+~~");
        db.run("UPDATE item SET id = 'A' WHERE id = 'a'").await;
        let last = db.versions("item", "a").await.pop().unwrap();
        assert_eq!(row(&last)["id"], "A");
        db.verify().await;
        db.run("DELETE FROM item").await;
        db.verify().await;
        db.audit.untrack("item", true).await.unwrap();
        db.run("DROP TABLE item").await;
    }
}
