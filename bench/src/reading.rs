//! Reading: 10 versions of each row, as of the middle.

use afterimage::{Moment, PointInTime};
use afterimage_core::sql::{AsOf, Bound, Rows, dialect, mariadb};

use crate::database::{Bench, Kind, SIDES};
use crate::{Outcome, Size, median};

const VERSIONS: u32 = 10;

/// How often one row is asked for in each round.
const ROWS_A_ROUND: usize = 20;

pub(crate) async fn run(bench: &mut Bench, size: Size) -> Outcome {
    bench.fresh_tables().await?;
    let mut middle = Moment::now();
    for (_, table) in SIDES {
        let insert = bench.insert(table, size.rows);
        bench.run(&insert).await?;
    }
    for version in 1..VERSIONS {
        for (_, table) in SIDES {
            bench.run(&format!("UPDATE {table} SET status = 'v{version}', qty = qty + 1")).await?;
        }
        if version == VERSIONS / 2 {
            tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
            middle = Moment::now();
            tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
        }
    }
    bench.analyze().await?;
    let sql = dialect(bench.audit.database());
    // What the library sets where it reads.
    match bench.kind {
        Kind::Postgres => bench.run("SET jit = off; SET work_mem = '64MB'").await?,
        Kind::Sqlite => {}
        Kind::MariaDb => bench.run(mariadb::SESSION).await?,
    }
    let mut rows = Vec::new();
    for (side, table) in SIDES {
        let [mut fetch, mut count, mut one, mut row] = [const { Vec::new() }; 4];
        let (fetch_sql, count_sql, row_sql) = if side == "plain" {
            let parameter = match bench.kind {
                Kind::Postgres => "$1::text::bigint",
                Kind::Sqlite => "?",
                Kind::MariaDb => "CAST(? AS SIGNED)",
            };
            (
                format!("SELECT * FROM {table} ORDER BY id"),
                format!("SELECT count(*) FROM {table}"),
                format!("SELECT * FROM {table} WHERE id = {parameter}"),
            )
        } else {
            let layout = bench.layout(table).await?;
            let bound = Bound::Time(middle);
            let as_of = AsOf {
                layout: &layout,
                fields: &layout.fields,
                sparse: side == "delta",
                bound,
                unfinished: &[],
                rows: Rows::All,
                first: false,
            };
            let row_sql = sql.records_of_key(&layout, &layout.fields, bound);
            (sql.as_of(&as_of), sql.count_as_of(&as_of), row_sql)
        };
        for round in 0..size.rounds {
            let (found, seconds) = bench.fetch(&fetch_sql).await?;
            if found != size.rows as usize {
                return Err(format!("{side}: {found} rows instead of {}", size.rows).into());
            }
            fetch.push(seconds);
            count.push(bench.fetch(&count_sql).await?.1);
            for n in 0..ROWS_A_ROUND {
                let key = (round * 977 + n * 331) % size.rows as usize + 1;
                row.push(bench.fetch_row(&row_sql, &key.to_string()).await?);
                if side != "plain" {
                    let begun = std::time::Instant::now();
                    bench.audit.show(table, &key.to_string(), &PointInTime::At(middle)).await?;
                    one.push(begun.elapsed().as_secs_f64());
                }
            }
        }
        rows.push((side, median(fetch), median(count), median(row), median(one)));
    }
    println!(
        "{} rows with {VERSIONS} versions each, as of the middle; plain is the live table.\n",
        size.rows
    );
    println!(
        "| | whole table | count | one row | one row, through the library |\n| --- | --- | --- | --- | --- |"
    );
    for (side, fetch, count, row, one) in &rows {
        let ratio = fetch / rows[0].1;
        let one = if one.is_nan() { String::new() } else { format!("{:.2} ms", one * 1e3) };
        println!(
            "| {side} | {:.0} ms ({ratio:.2}) | {:.1} ms | {:.2} ms | {one} |",
            fetch * 1e3,
            count * 1e3,
            row * 1e3
        );
    }
    println!();
    Ok(())
}
