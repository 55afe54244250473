//! How much a history takes, and how fast it grows, without reading all of it.

use super::Dialect;
use crate::Database;
use crate::layout::Layout;
use crate::name::literal;
use crate::time::Moment;

/// One row: the records of a history and the rows of its table, as far as the database knows them without counting, and the
/// bytes of the history's table and of its indexes. NULL is what it does not know.
pub fn sizes(dialect: &dyn Dialect, layout: &Layout) -> String {
    let (history, table) = (&layout.history, &layout.table);
    match dialect.database() {
        Database::Postgres => {
            // A table, and its partitions where it has any.
            let all = |name: &crate::TableName| {
                let of = format!("{}::regclass", literal(&name.quoted()));
                format!(
                    "(SELECT {of} AS relid UNION SELECT p.relid FROM pg_catalog.pg_partition_tree({of}) AS p) AS p JOIN pg_catalog.pg_class AS c ON c.oid = p.relid AND c.relkind = 'r'"
                )
            };
            // One that was never analysed has -1.
            let rows = |name: &crate::TableName| {
                format!(
                    "(SELECT CASE WHEN bool_and(c.reltuples >= 0) THEN sum(c.reltuples)::bigint END FROM {})",
                    all(name)
                )
            };
            let bytes = |size: &str| {
                format!("(SELECT sum(pg_catalog.{size}(p.relid))::bigint FROM {})", all(history))
            };
            format!(
                "SELECT {}, {}, {}, {}",
                rows(history),
                rows(table),
                bytes("pg_table_size"),
                bytes("pg_indexes_size")
            )
        }
        Database::Sqlite => {
            let name = literal(&history.name);
            format!(
                "SELECT NULL, NULL, (SELECT pgsize FROM dbstat WHERE name = {name} AND aggregate = 1), (SELECT sum(s.pgsize) FROM sqlite_schema AS i JOIN dbstat AS s ON s.name = i.name AND s.aggregate = 1 WHERE i.type = 'index' AND i.tbl_name = {name})"
            )
        }
        Database::MariaDb => {
            let of = |column: &str, name: &crate::TableName| {
                format!(
                    "(SELECT CAST(t.{column} AS SIGNED) FROM information_schema.tables AS t WHERE t.table_schema = DATABASE() AND t.table_name = {})",
                    literal(&name.name)
                )
            };
            format!(
                "SELECT {}, {}, {}, {}",
                of("table_rows", history),
                of("table_rows", table),
                of("data_length", history),
                of("index_length", history)
            )
        }
    }
}

/// One row: how many of the newest records, up to so many, are not older than a moment, the date of the oldest of these, and
/// those of the oldest and the newest record of all, in microseconds.
pub fn growth(dialect: &dyn Dialect, layout: &Layout, since: Moment, most: u64) -> String {
    let history = layout.history.quoted();
    let since = dialect.moment(since);
    let least = |which: &str| dialect.micros(&format!("(SELECT {which}(history_date) FROM {history})"));
    format!(
        "SELECT count(*), {}, {}, {} FROM (SELECT history_date FROM {history} WHERE history_date >= {since} ORDER BY history_date DESC LIMIT {most}) AS newest",
        dialect.micros("min(newest.history_date)"),
        least("min"),
        least("max"),
    )
}
