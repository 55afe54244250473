//! Since when changes of a table may have gone unrecorded: where a gap has to begin.

use afterimage_core::name::literal;
use afterimage_core::{Moment, Table};

use crate::catalog::Entry;
use crate::error::Result;
use crate::health::{self, Fault};
use crate::session::Session;

/// The moment since when changes may have gone unrecorded, if they may have.
///
/// A trigger was there when it wrote its last record; so each that is missing now is known to have worked until the
/// newest record of its kind. Where all are missing, they went with the table that they stood on.
pub(crate) async fn since(
    session: &mut Session,
    entry: &Entry,
    table: &Table,
    faults: &[Fault],
    stopped: bool,
) -> Result<Option<Moment>> {
    let lost: Vec<&str> = faults
        .iter()
        .filter_map(|fault| match fault {
            Fault::Missing(name) | Fault::Disabled(name) => Some(name.as_str()),
            _ => None,
        })
        .collect();
    if lost.is_empty() {
        return Ok(if stopped || entry.has_open_gap() {
            Some(newest(session, entry, "").await?)
        } else {
            None
        });
    }
    let named = |kind: &str| match table.postgres() {
        Some(_) => health::trigger_on(&format!("!afterimage_{kind}"), &table.name),
        None => health::trigger(&format!("afterimage_{}_{kind}", entry.id)),
    };
    let is_lost = |kind: &str| lost.contains(&named(kind).as_str());
    let kinds = [("insert", "+"), ("update", "~"), ("delete", "-")];
    if stopped || is_lost("row") || kinds.iter().all(|(kind, _)| is_lost(kind)) {
        return newest(session, entry, "").await.map(Some);
    }
    let mut since = newest(session, entry, "").await?;
    let mut told = 0;
    for (kind, sign) in kinds {
        if is_lost(kind) {
            told += 1;
            since = since.min(newest(session, entry, &format!("WHERE history_type = '{sign}'")).await?);
        }
    }
    let of_root = |name: &&&str| table.postgres().is_none() || name.ends_with(&format!(" on {}", table.name));
    if lost.iter().filter(of_root).count() > told {
        // Of what else stood there no record tells.
        since = since.min(newest(session, entry, "WHERE false").await?);
    }
    if !lost.iter().all(|name| of_root(&name)) {
        // A partition that has none of ours: attached by a transaction, and so whole until then.
        since = since.min(newest(session, entry, &before_attached(entry.id, table)).await?);
    }
    Ok(Some(since))
}

/// A condition on the records written before the oldest partition without capture came to the table.
fn before_attached(id: i64, table: &Table) -> String {
    format!(
        "WHERE history_tx < (SELECT min(pg_catalog.pg_current_xact_id()::text::bigint - pg_catalog.age(i.xmin)) \
         FROM pg_catalog.pg_partition_tree({}::regclass) AS p JOIN pg_catalog.pg_inherits AS i ON i.inhrelid = p.relid \
         WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_trigger AS t JOIN pg_catalog.pg_proc AS f ON f.oid = t.tgfoid \
         WHERE t.tgrelid = p.relid AND f.proname LIKE 'capture\\_{id}\\_%' AND t.tgenabled IN ('O', 'A')))",
        literal(&table.name.quoted())
    )
}

/// The moment of the newest record that fulfils a condition, or of the newest epoch.
async fn newest(session: &mut Session, entry: &Entry, condition: &str) -> Result<Moment> {
    let sql = format!(
        "SELECT {} FROM (SELECT max(history_date) AS d FROM {} {condition}) AS m",
        session.dialect().micros("d"),
        entry.layout()?.history.quoted()
    );
    let newest = session.int(&sql, &[]).await?.map(Moment::from_micros);
    let epoch = entry.epochs.last().map(|epoch| epoch.from);
    Ok(newest.max(epoch).unwrap_or(entry.since))
}
