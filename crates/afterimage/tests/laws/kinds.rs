//! The types of columns, and the values that are worth trying in them: those that a careless copy or comparison would
//! take for one another.

use afterimage::{Database, Value};

/// How PostgreSQL's text of a value is shown.
#[derive(Clone, Copy, PartialEq)]
pub enum Show {
    Number,
    Bool,
    Bytes,
    Text,
    Zoned,
    Local,
    Json,
}

/// A type of column.
pub struct Kind {
    pub sql: &'static str,
    pub literals: &'static [&'static str],
    /// A server-side expression that changes the value, with `@` for the column.
    pub step: &'static str,
    pub show: Show,
}

const fn kind(sql: &'static str, literals: &'static [&'static str], step: &'static str, show: Show) -> Kind {
    Kind { sql, literals, step, show }
}

const SQLITE: [Kind; 10] = [
    kind("INTEGER", &["0", "1", "-7", "9223372036854775807", "'x'", "2.5"], "@ + 1", Show::Text),
    kind("TEXT", &["'a'", "'A'", "''", "'äé€'", "1", "'O''Brien'"], "@ || 'x'", Show::Text),
    kind("TEXT COLLATE NOCASE", &["'a'", "'A'", "'b'", "'B'"], "upper(@)", Show::Text),
    kind("NUMERIC", &["1", "1.5", "'1.50'", "'x'", "1e20"], "@ * 1.5", Show::Text),
    kind("REAL", &["0.1", "3", "1e300", "9e999", "'abc'"], "@ + 0.2", Show::Text),
    kind("BOOLEAN", &["0", "1", "TRUE"], "NOT @", Show::Text),
    kind("BLOB", &["X''", "X'00FF'", "X'6162'", "'ab'", "1"], "hex(@)", Show::Text),
    kind("", &["1", "1.0", "'1'", "X'31'", "0.0", "'a'"], "CAST(@ AS TEXT)", Show::Text),
    kind("VARCHAR(10)", &["'a'", "'longer than ten'", "7"], "substr(@, 2)", Show::Text),
    kind("TIMESTAMP", &["'2026-11-22 10:00:00'", "'2026-11-22T10:00:00Z'", "0"], "@", Show::Text),
];

const POSTGRES: [Kind; 15] = [
    kind("integer", &["0", "1", "-7", "2147483646"], "@ + 1", Show::Number),
    kind("bigint", &["0", "9223372036854775806", "-1"], "@ + 1", Show::Number),
    kind("text", &["'a'", "'A'", "''", "'äé€'", "'O''Brien'"], "@ || 'x'", Show::Text),
    kind("varchar(4)", &["'a'", "'abcd'", "'a  '"], "left(@, 1)", Show::Text),
    kind(
        "numeric",
        &["1", "1.0", "1.00", "'NaN'", "123456789012345678901234567890.5"],
        "@ * 1.0",
        Show::Text,
    ),
    kind("numeric(8,2)", &["1", "109.90", "-0.5"], "@ + 0.01", Show::Text),
    kind("double precision", &["0", "'-0'", "0.1", "'NaN'", "'Infinity'", "1e300"], "@ + 0.2", Show::Number),
    kind("real", &["0", "'-0'", "0.1", "1e30"], "@ + 0.2", Show::Number),
    kind("boolean", &["true", "false"], "NOT @", Show::Bool),
    kind("bytea", &["'\\x'", "'\\x00ff'", "'\\x6162'"], "@ || '\\x00'::bytea", Show::Bytes),
    kind(
        "timestamptz",
        &["'2026-11-22 10:00:00+02'", "'2026-11-22 08:00:00.123456Z'"],
        "@ + interval '1 day'",
        Show::Zoned,
    ),
    kind(
        "timestamp",
        &["'2026-11-22 10:00:00'", "'1999-12-31 23:59:59.5'"],
        "@ + interval '1 month'",
        Show::Local,
    ),
    kind("jsonb", &["'{\"a\": 1}'", "'{\"a\": 1.0}'", "'[]'", "'null'"], "jsonb_build_array(@)", Show::Json),
    kind("json", &["'{\"a\":1}'", "'{\"a\": 1}'", "'{\"a\":1,\"a\":2}'"], "@", Show::Json),
    kind("interval", &["'1 month'", "'30 days'", "'720 hours'"], "@ * 2", Show::Text),
];

const MARIADB: [Kind; 15] = [
    kind("INTEGER", &["0", "1", "-7", "2147483646"], "@ + 1", Show::Number),
    kind("TEXT", &["'a'", "'A'", "''", "'äé€'", "'O''Brien'", "'a '"], "@ || 'x'", Show::Text),
    kind("BIGINT UNSIGNED", &["0", "18446744073709551614", "1"], "@ + 1", Show::Number),
    kind("VARCHAR(10)", &["'a'", "'A'", "'a '", "'á'", "'ten letter'"], "LEFT(@, 1)", Show::Text),
    kind("VARCHAR(10) COLLATE utf8mb4_bin", &["'a'", "'A'", "'a '"], "UPPER(@)", Show::Text),
    kind("DECIMAL(30,10)", &["1", "-0.5", "12345678901234567890.1234567891"], "@ * 1.5", Show::Text),
    kind("DOUBLE", &["0e0", "0.1e0", "-2.5e0", "1e300"], "@ + 0.2e0", Show::Number),
    kind("BOOLEAN", &["TRUE", "FALSE"], "NOT @", Show::Number),
    kind("VARBINARY(6)", &["X''", "X'00FF'", "X'6162'", "'AB'"], "CONCAT(@, X'00')", Show::Bytes),
    kind(
        "DATETIME(6)",
        &["'2026-11-22 10:00:00'", "'1999-12-31 23:59:59.5'"],
        "@ + INTERVAL 1 MONTH",
        Show::Local,
    ),
    kind(
        "TIMESTAMP(6) NULL",
        &["'2026-11-22 10:00:00'", "'2026-11-22 08:00:00.123456'"],
        "@ + INTERVAL 1 DAY",
        Show::Zoned,
    ),
    kind("TIME(3)", &["'10:00:00'", "'-838:59:59'", "'24:00:00.5'"], "@", Show::Text),
    kind("ENUM('a', 'b', 'ü')", &["'a'", "'b'", "'ü'"], "@", Show::Text),
    kind("json", &["'{\"a\":1}'", "'{\"a\": 1}'", "'[]'", "'null'"], "JSON_ARRAY(@)", Show::Json),
    kind("BIT(9)", &["b'0'", "b'101'", "511"], "@ ^ 1", Show::Number),
];

/// The types of a database.
pub fn kinds(database: Database) -> &'static [Kind] {
    match database {
        Database::Sqlite => &SQLITE,
        Database::MariaDb => &MARIADB,
        _ => &POSTGRES,
    }
}

impl Kind {
    /// One of the literals, or NULL, which comes first.
    pub fn literal(&self, choice: u8) -> &'static str {
        let at = usize::from(choice) % (self.literals.len() + 1);
        if at == 0 { "NULL" } else { self.literals[at - 1] }
    }

    /// One of the literals that is not NULL.
    pub fn value(&self, choice: u8) -> &'static str {
        self.literals[usize::from(choice) % self.literals.len()]
    }

    /// Whether a column of this type can be indexed as it is.
    pub fn is_indexable(&self, database: Database) -> bool {
        self.sql != "json" && (database != Database::MariaDb || self.sql != "TEXT")
    }

    /// The expression whose text the database shall give for a column of this type; SQLite hands over values.
    pub fn as_text(&self, database: Database, column: &str) -> String {
        if database == Database::MariaDb {
            return match self.show {
                Show::Zoned => format!("DATE_FORMAT({column}, '%Y-%m-%dT%H:%i:%s.%fZ')"),
                Show::Local => format!("DATE_FORMAT({column}, '%Y-%m-%dT%H:%i:%s.%f')"),
                Show::Bytes => format!("LOWER(HEX({column}))"),
                Show::Number => format!("CAST({column} + 0 AS CHAR)"),
                Show::Bool | Show::Text | Show::Json => format!("CAST({column} AS CHAR)"),
            };
        }
        match self.show {
            Show::Zoned => {
                format!("to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
            }
            Show::Local => format!("to_char({column}, 'YYYY-MM-DD\"T\"HH24:MI:SS.US')"),
            Show::Bytes => format!("encode({column}, 'hex')"),
            Show::Number | Show::Bool | Show::Text | Show::Json => format!("{column}::text"),
        }
    }

    /// That text as the value that should be shown.
    pub fn value_of(&self, text: Option<String>) -> Value {
        let Some(text) = text else { return Value::Null };
        match self.show {
            Show::Number if text.ends_with(|c: char| c.is_ascii_digit()) => Value::Number(text),
            Show::Bool => Value::Bool(text == "true"),
            Show::Bytes => {
                let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
                Value::Bytes((0..text.len()).step_by(2).map(byte).collect())
            }
            Show::Json => Value::Json(text),
            Show::Number | Show::Text | Show::Zoned | Show::Local => Value::Text(text),
        }
    }
}
