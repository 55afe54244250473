//! What a test remembers, read with plain SQL and nothing else.

use afterimage::{Database, Moment, Value};
use sqlx::{AssertSqlSafe, Executor as _, Row as _, TypeInfo as _, ValueRef as _};

use super::schema::{Role, Schema, TRACKED, TWINS};
use crate::support::{TestDb, Writer};

/// A table's rows in key order, as the history should show them.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Snapshot {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Value>>,
}

/// A record, as the history table holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub id: i64,
    pub date: i64,
    pub user: Option<String>,
    pub reason: Option<String>,
}

/// What there was after a commit.
#[derive(Clone, Debug)]
pub struct Commit {
    /// A moment after it and before the next.
    pub at: Moment,
    /// The state of each table.
    pub tables: Vec<Snapshot>,
    /// The records it added, over all tables.
    pub added: Vec<Record>,
    /// Who and why.
    pub context: Option<(String, String)>,
    /// Whether its records say that they belong together.
    pub identified: bool,
}

/// Reads every table, and holds the twins against each other: capture must not change what a statement does.
pub async fn snapshots(db: &mut TestDb, schema: &Schema) -> Result<Vec<Snapshot>, String> {
    let mut all = Vec::new();
    for table in 0..schema.tables.len() {
        let [s, d, p] = [
            live(db, schema, table, TWINS[0]).await,
            live(db, schema, table, TWINS[1]).await,
            live(db, schema, table, TWINS[2]).await,
        ];
        if s != p || d != p {
            return Err(format!(
                "the tracked and the plain table went different ways: {}\nsnapshot {s:?}\ndelta {d:?}\nplain {p:?}",
                schema.name(table, "*")
            ));
        }
        all.push(s);
    }
    Ok(all)
}

pub async fn live(db: &mut TestDb, schema: &Schema, table: usize, twin: &str) -> Snapshot {
    let columns = schema.columns(table);
    let database = schema.database;
    let list: Vec<String> = columns
        .iter()
        .map(
            |(name, kind, _)| {
                if database == Database::Sqlite { name.clone() } else { kind.as_text(database, name) }
            },
        )
        .collect();
    // Ordered by the columns, not by the text that is selected of them.
    let sql = format!(
        "SELECT {} FROM {} AS t ORDER BY {}",
        list.join(", "),
        schema.quoted(table, twin),
        schema.order(table)
    );
    let mut rows: Vec<Vec<Value>> = match &mut db.writer {
        Writer::Sqlite(c) => {
            let rows = c.fetch_all(sqlx::raw_sql(AssertSqlSafe(sql))).await.unwrap();
            rows.iter().map(|row| (0..columns.len()).map(|n| sqlite_value(row, n)).collect()).collect()
        }
        Writer::Postgres(c) => {
            let sql = format!("SET timezone = 'UTC'; {sql}");
            let rows = c.fetch_all(sqlx::raw_sql(AssertSqlSafe(sql))).await.unwrap();
            rows.iter()
                .map(|row| columns.iter().enumerate().map(|(n, c)| c.1.value_of(row.get(n))).collect())
                .collect()
        }
        Writer::MariaDb(c) => {
            let rows = c.fetch_all(sqlx::raw_sql(AssertSqlSafe(sql))).await.unwrap();
            rows.iter()
                .map(|row| columns.iter().enumerate().map(|(n, c)| c.1.value_of(row.get(n))).collect())
                .collect()
        }
    };
    for (n, (_, _, role)) in columns.iter().enumerate() {
        if *role == Role::Masked {
            rows.iter_mut().filter(|row| row[n] != Value::Null).for_each(|row| row[n] = Value::Masked);
        }
    }
    let shown: Vec<bool> = columns.iter().map(|(_, _, role)| *role != Role::Excluded).collect();
    let keep = |row: Vec<Value>| {
        row.into_iter().zip(&shown).filter(|(_, shown)| **shown).map(|(value, _)| value).collect()
    };
    Snapshot {
        rows: rows.into_iter().map(keep).collect(),
        columns: columns
            .iter()
            .filter(|(_, _, role)| *role != Role::Excluded)
            .map(|(name, ..)| name.clone())
            .collect(),
    }
}

fn sqlite_value(row: &sqlx::sqlite::SqliteRow, n: usize) -> Value {
    let raw = row.try_get_raw(n).unwrap();
    if raw.is_null() {
        return Value::Null;
    }
    match raw.type_info().name() {
        "INTEGER" => Value::Number(row.get_unchecked::<i64, _>(n).to_string()),
        "REAL" => Value::from_f64(row.get_unchecked(n)),
        "BLOB" => Value::Bytes(row.get_unchecked(n)),
        _ => Value::Text(row.get_unchecked(n)),
    }
}

/// A moment before whatever comes next.
pub async fn moment(db: &mut TestDb) -> Moment {
    let sql = db.by3(
        "SELECT history_date FROM afterimage_state",
        "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
        "SELECT afterimage_clock()",
    );
    Moment::from_micros(db.text(sql).await.unwrap().parse().unwrap())
}

/// Every record of the tables, as the histories hold them.
pub async fn records(db: &mut TestDb, schema: &Schema) -> Vec<Record> {
    let mut all = Vec::new();
    for table in 0..schema.tables.len() {
        for twin in TRACKED {
            let history = format!("\"{}_history\"", schema.name(table, twin));
            let sql = db.by(
                format!("SELECT history_id, history_date, actor, reason FROM {history} LEFT JOIN afterimage_scope ON id = history_scope"),
                format!("SELECT history_id, (extract(epoch FROM history_date) * 1000000)::bigint, history_user, history_change_reason FROM {history}"),
            );
            let rows: Vec<(i64, i64, Option<String>, Option<String>)> = match &mut db.writer {
                Writer::Sqlite(c) => sqlx::query_as(AssertSqlSafe(sql)).fetch_all(c).await.unwrap(),
                Writer::Postgres(c) => sqlx::query_as(AssertSqlSafe(sql)).fetch_all(c).await.unwrap(),
                Writer::MariaDb(c) => sqlx::query_as(AssertSqlSafe(sql)).fetch_all(c).await.unwrap(),
            };
            all.extend(rows.into_iter().map(|(id, date, user, reason)| Record { id, date, user, reason }));
        }
    }
    all
}
