//! A history in partitions by time.
//!
//! What was there before becomes the first partition as it stands: nothing is copied. Records of a time for which no partition
//! was made go to one of their own, so that no write ever fails for want of a partition.

use super::history::{self, INDEXES, PRIMARY_KEY};
use super::read;
use crate::layout::{FULL_BIT, Field, Layout, word_column};
use crate::name::{Quoted, TableName, fitted, literal};
use crate::sql::expression::col;
use crate::sql::log::{self, Source};
use crate::sql::{AsOf, Bound, Dialect, Rows, Script, retention};
use crate::time::Moment;
use crate::value::Value;
use crate::{Database, Period, Result};

/// The condition by which a table shows that it can become a partition without being read under a lock.
const FENCE: &str = "afterimage_fence";

/// A stretch of time, from its first moment on, before its last; open where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// From when, inclusive.
    pub from: Option<Moment>,
    /// Until when, exclusive.
    pub to: Option<Moment>,
}

/// Reads the partitions of a history: schema, name, bounds as PostgreSQL writes them, in the order of their names.
pub fn list(layout: &Layout) -> String {
    format!(
        "SELECT n.nspname::text, c.relname::text, pg_catalog.pg_get_expr(c.relpartbound, c.oid) FROM pg_catalog.pg_inherits AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE i.inhparent = {}::regclass AND c.relispartition ORDER BY c.relname",
        regclass(&layout.history)
    )
}

/// Whether a history is in partitions: 1 or 0.
pub fn is_partitioned(layout: &Layout) -> String {
    format!(
        "SELECT (c.relkind = 'p')::int FROM pg_catalog.pg_class AS c WHERE c.oid = {}::regclass",
        regclass(&layout.history)
    )
}

/// The stretch of a partition, from its bounds as PostgreSQL writes them; `None` is the partition of everything else.
pub fn stretch(bounds: &str) -> Option<Stretch> {
    let side = |text: &str| match text.trim() {
        "(MINVALUE)" | "(MAXVALUE)" => Some(None),
        text => {
            let text = text.strip_prefix("('")?.strip_suffix("')")?;
            Moment::parse(text, Moment::from_micros(0), "UTC").ok().map(Some)
        }
    };
    let (from, to) = bounds.strip_prefix("FOR VALUES FROM ")?.split_once(" TO ")?;
    Some(Stretch { from: side(from)?, to: side(to)? })
}

/// What depends on a history, or stands on it, that would stay behind when it becomes a partition: each in words.
pub fn obstacles(layout: &Layout) -> String {
    let h = format!("{}::regclass", regclass(&layout.history));
    let named = |what: &str, name: &str| format!("'{what} ' || {name}");
    let ours: Vec<String> = INDEXES
        .iter()
        .map(|suffix| literal(&fitted(&layout.history.name, suffix, Database::Postgres)))
        .collect();
    let sources = [
        format!(
            "SELECT {} FROM pg_catalog.pg_depend AS d JOIN pg_catalog.pg_rewrite AS r ON r.oid = d.objid WHERE d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = {h} AND d.deptype = 'n'",
            named("the view", "r.ev_class::regclass")
        ),
        format!(
            "SELECT {} FROM pg_catalog.pg_rewrite AS r WHERE r.ev_class = {h}",
            named("the rule", "r.rulename")
        ),
        format!(
            "SELECT {} FROM pg_catalog.pg_depend AS d WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = {h}",
            named("the function", "d.objid::regprocedure")
        ),
        format!(
            "SELECT {} || ' of ' || c.conrelid::regclass FROM pg_catalog.pg_constraint AS c WHERE c.contype = 'f' AND {h} IN (c.confrelid, c.conrelid)",
            named("the foreign key", "c.conname")
        ),
        format!(
            "SELECT {} FROM pg_catalog.pg_trigger AS t WHERE t.tgrelid = {h} AND NOT t.tgisinternal AND t.tgname <> 'afterimage_append_only'",
            named("the trigger", "t.tgname")
        ),
        format!(
            "SELECT {} FROM pg_catalog.pg_policy AS p WHERE p.polrelid = {h}",
            named("the policy", "p.polname")
        ),
        // One that publishes partitions as the whole can go on where it is of all tables.
        format!(
            "SELECT {} FROM pg_catalog.pg_publication_tables AS t JOIN pg_catalog.pg_publication AS p ON p.pubname = t.pubname JOIN pg_catalog.pg_class AS c ON c.oid = {h} JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname = t.schemaname AND c.relname = t.tablename WHERE NOT (p.puballtables AND p.pubviaroot)",
            named("the publication", "p.pubname")
        ),
        format!(
            "SELECT 'row level security, which is on' FROM pg_catalog.pg_class AS c WHERE c.oid = {h} AND c.relrowsecurity"
        ),
        format!(
            "SELECT {} FROM pg_catalog.pg_statistic_ext AS s WHERE s.stxrelid = {h}",
            named("the statistics", "s.stxname")
        ),
        format!(
            "SELECT {} FROM pg_catalog.pg_class AS c, unnest(c.reloptions) AS o WHERE c.oid = {h}",
            named("the setting", "o")
        ),
        format!(
            "SELECT 'its tablespace, or that it is unlogged' FROM pg_catalog.pg_class AS c WHERE c.oid = {h} AND (c.reltablespace <> 0 OR c.relpersistence <> 'p')"
        ),
        format!(
            "SELECT {} FROM pg_catalog.pg_inherits AS i WHERE i.inhparent = {h} AND NOT (SELECT relkind = 'p' FROM pg_catalog.pg_class WHERE oid = {h})",
            named("the table that inherits from it", "i.inhrelid::regclass")
        ),
        format!(
            "SELECT {} FROM pg_catalog.pg_inherits AS i WHERE i.inhrelid = {h}",
            named("the table that it inherits from", "i.inhparent::regclass")
        ),
        format!(
            "SELECT {} FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = {h} AND a.attacl IS NOT NULL",
            named("the rights on the column", "a.attname")
        ),
        format!(
            "SELECT {} FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid WHERE i.indrelid = {h} AND NOT i.indisprimary AND c.relname NOT IN ({})",
            named("the index", "c.relname"),
            ours.join(", ")
        ),
    ];
    sources.join("\nUNION ")
}

/// How many indexes of ours a history has, that of its key among them.
pub fn count_indexes(layout: &Layout) -> String {
    format!(
        "SELECT count(*) FROM pg_catalog.pg_index WHERE indrelid = {}::regclass AND indisvalid",
        regclass(&layout.history)
    )
}

/// So many there should be.
pub const INDEX_COUNT: usize = INDEXES.len() + 1;

/// The names that a partition, or what is not one yet, is to have.
pub fn named(layout: &Layout, suffix: &str) -> TableName {
    layout.history.sibling(fitted(&layout.history.name, suffix, Database::Postgres))
}

/// What the name of a partition ends with that holds everything until a moment.
pub fn until(period: Period, to: Moment) -> Result<String> {
    Ok(format!("_until{}", period.suffix(to)?))
}

/// What that of the partition of everything else ends with.
pub const REST: &str = "_rest";

/// The name that the table in parts has until it takes the place of the history.
pub fn parent(layout: &Layout) -> TableName {
    named(layout, "_in_parts")
}

/// Says of a table that all its records, those to come too, are of a stretch. Whoever writes another is refused.
pub fn fence(table: &TableName, stretch: Stretch) -> Script {
    fence_by(table, &of(stretch))
}

fn fence_by(table: &TableName, condition: &str) -> Script {
    vec![
        unfence(table),
        format!("ALTER TABLE {} ADD CONSTRAINT {FENCE} CHECK ({condition}) NOT VALID", table.quoted()),
    ]
}

/// Looks whether it is so; writers go on.
pub fn validate(table: &TableName) -> String {
    format!("ALTER TABLE {} VALIDATE CONSTRAINT {FENCE}", table.quoted())
}

/// Says so no longer.
pub fn unfence(table: &TableName) -> String {
    format!("ALTER TABLE {} DROP CONSTRAINT IF EXISTS {FENCE}", table.quoted())
}

/// Which of the history and its partitions still say so: schema and name.
pub fn fenced(layout: &Layout) -> String {
    let h = format!("{}::regclass", regclass(&layout.history));
    format!(
        "SELECT n.nspname::text, c.relname::text, pg_catalog.pg_get_constraintdef(k.oid) FROM pg_catalog.pg_constraint AS k JOIN pg_catalog.pg_class AS c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE k.conname = '{FENCE}' AND (c.oid = {h} OR EXISTS (SELECT 1 FROM pg_catalog.pg_inherits AS i WHERE i.inhparent = {h} AND i.inhrelid = c.oid))"
    )
}

fn of(stretch: Stretch) -> String {
    let from = stretch.from.map(|from| format!("history_date >= {}", at(from)));
    let to = stretch.to.map(|to| format!("history_date < {}", at(to)));
    let both: Vec<String> = from.into_iter().chain(to).collect();
    if both.is_empty() { "TRUE".to_owned() } else { both.join(" AND ") }
}

fn at(moment: Moment) -> String {
    super::Postgres.moment(moment)
}

fn regclass(table: &TableName) -> String {
    literal(&table.quoted())
}

fn bounds(stretch: Stretch) -> String {
    let side = |moment: Option<Moment>, open: &str| {
        moment.map_or_else(|| open.to_owned(), |moment| literal(&moment.to_string()))
    };
    format!("FOR VALUES FROM ({}) TO ({})", side(stretch.from, "MINVALUE"), side(stretch.to, "MAXVALUE"))
}

/// The statements that give a table the owner and the rights of another, and no others: one each.
pub fn rights(from: &TableName, to: &TableName) -> String {
    let (of, to) = (regclass(from), literal(&to.quoted()));
    format!(
        "SELECT format('ALTER TABLE %s OWNER TO %I', {to}, pg_catalog.pg_get_userbyid(c.relowner)) FROM pg_catalog.pg_class AS c WHERE c.oid = {of}::regclass AND c.relowner <> (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user)
UNION ALL SELECT DISTINCT format('REVOKE ALL ON TABLE %s FROM %s', {to}, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE format('%I', pg_catalog.pg_get_userbyid(a.grantee)) END)
FROM pg_catalog.pg_class AS c, pg_catalog.aclexplode(c.relacl) AS a WHERE c.oid IN ({of}::regclass, {to}::regclass)
UNION ALL SELECT format('GRANT %s ON TABLE %s TO %s%s', a.privilege_type, {to}, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE format('%I', pg_catalog.pg_get_userbyid(a.grantee)) END, CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
FROM pg_catalog.pg_class AS c, pg_catalog.aclexplode(coalesce(c.relacl, pg_catalog.acldefault('r', c.relowner))) AS a WHERE c.oid = {of}::regclass"
    )
}

/// Makes an empty table in parts with the columns and indexes of a history, beside it.
pub fn create_parent(layout: &Layout) -> Script {
    let name = parent(layout);
    let mut script = vec![
        format!(
            "CREATE TABLE {} (LIKE {} INCLUDING ALL EXCLUDING INDEXES EXCLUDING STATISTICS) PARTITION BY RANGE (history_date)",
            name.quoted(),
            layout.history.quoted()
        ),
        unfence(&name),
        format!(
            "ALTER TABLE {} ADD CONSTRAINT {} PRIMARY KEY {PRIMARY_KEY}",
            name.quoted(),
            Quoted::new(&fitted(&name.name, "_pkey", Database::Postgres))
        ),
    ];
    script.extend(history::indexes(&Layout { history: name.clone(), ..layout.clone() }));
    script.extend(history::guards(&name));
    script
}

/// Makes a table that can become a partition of another, with what keeps its records as they are.
pub fn create_part(parent: &TableName, name: &TableName) -> Script {
    let mut script = vec![format!("CREATE TABLE {} (LIKE {} INCLUDING ALL)", name.quoted(), parent.quoted())];
    script.extend(guards(name));
    script
}

/// Makes one whose records are not kept as they are yet, nor found by any index.
pub fn create_copy(parent: &TableName, name: &TableName) -> String {
    format!("CREATE TABLE {} (LIKE {} INCLUDING ALL EXCLUDING INDEXES)", name.quoted(), parent.quoted())
}

/// The indexes that it needs to become a partition, under names that PostgreSQL finds.
pub fn index_copy(layout: &Layout, name: &TableName) -> Script {
    let mut script = vec![format!("ALTER TABLE {} ADD PRIMARY KEY {PRIMARY_KEY}", name.quoted())];
    script.extend(history::unnamed_indexes(&Layout { history: name.clone(), ..layout.clone() }));
    script
}

/// What keeps the records of a table as they are.
pub fn guards(table: &TableName) -> Script {
    history::guards(table)
}

/// Makes it one.
pub fn attach(parent: &TableName, part: &TableName, stretch: Stretch) -> String {
    format!("ALTER TABLE {} ATTACH PARTITION {} {}", parent.quoted(), part.quoted(), bounds(stretch))
}

/// Makes it that of everything else.
pub fn attach_rest(parent: &TableName, part: &TableName) -> String {
    format!("ALTER TABLE {} ATTACH PARTITION {} DEFAULT", parent.quoted(), part.quoted())
}

/// Makes a partition a table again.
pub fn detach(parent: &TableName, part: &TableName) -> String {
    format!("ALTER TABLE {} DETACH PARTITION {}", parent.quoted(), part.quoted())
}

/// Names a table anew.
pub fn rename(table: &TableName, name: &str) -> String {
    format!("ALTER TABLE {} RENAME TO {}", table.quoted(), Quoted::new(name))
}

/// Removes a table, if it is there.
pub fn drop(table: &TableName) -> String {
    format!("DROP TABLE IF EXISTS {}", table.quoted())
}

/// What a copy of ours is called for.
const COPY: &str = "afterimage: what is to stay of a history, until it takes its place";

/// Says of a table that it is such a copy.
pub fn mark_copy(table: &TableName) -> String {
    format!("COMMENT ON TABLE {} IS '{COPY}'", table.quoted())
}

/// Whether a table is there, and whether it is such a copy: 1 or 0 each.
pub fn copy(table: &TableName) -> String {
    let table = regclass(table);
    format!(
        "SELECT (pg_catalog.to_regclass({table}) IS NOT NULL)::int, coalesce(pg_catalog.obj_description(pg_catalog.to_regclass({table}), 'pg_class') = '{COPY}', false)::int"
    )
}

/// Says of a table that it is none any more.
pub fn unmark_copy(table: &TableName) -> String {
    format!("COMMENT ON TABLE {} IS NULL", table.quoted())
}

/// Refuses every record from now on.
pub fn close(table: &TableName) -> Script {
    fence_by(table, "false")
}

/// The number of the transaction.
pub const THIS: &str = "SELECT pg_catalog.pg_current_xact_id()::text::bigint";

/// Takes, for a session, what only one may have that moves the partitions of a history: 1 or 0.
pub fn claim(id: i64) -> String {
    format!(
        "SELECT pg_catalog.pg_try_advisory_lock(1634101616, {})::int",
        i32::try_from(id).unwrap_or(i32::MAX)
    )
}

/// The settings by which it is said of histories up to where they are about to be told no more: the number of the table, and the
/// moment in microseconds.
pub const LEAVING: &str =
    "SELECT substr(name, 9)::bigint, value::bigint FROM afterimage.setting WHERE name LIKE 'leaving.%'";

const REVISED: &str = "UPDATE afterimage.setting SET value = gen_random_uuid()::text WHERE name = 'revision'";

/// Says so of one.
pub fn leaving(id: i64, until: Moment) -> Script {
    let until = until.as_micros();
    vec![
        format!(
            "INSERT INTO afterimage.setting (name, value) VALUES ('leaving.{id}', '{until}') ON CONFLICT (name) DO UPDATE SET value = excluded.value"
        ),
        REVISED.to_owned(),
    ]
}

/// Says so no more.
pub fn not_leaving(id: i64) -> Script {
    vec![format!("DELETE FROM afterimage.setting WHERE name = 'leaving.{id}'"), REVISED.to_owned()]
}

/// How many rows a table has, and partitions together, as the planner knows; -1 where it does not.
pub fn estimates(table: &TableName, parts: &[TableName]) -> String {
    let of = |tables: &[TableName]| {
        let tables: Vec<String> =
            tables.iter().map(|table| format!("pg_catalog.to_regclass({})", regclass(table))).collect();
        format!(
            "(SELECT CASE WHEN bool_or(c.reltuples < 0) THEN -1 ELSE sum(c.reltuples)::bigint END FROM pg_catalog.pg_class AS c WHERE c.oid IN ({}))",
            tables.join(", ")
        )
    };
    format!("SELECT {}, {}", of(std::slice::from_ref(table)), of(parts))
}

/// Keeps the planner's statistics of a table, and of what it consists of.
pub fn analyze(table: &TableName) -> String {
    format!("ANALYZE {}", table.quoted())
}

/// Who reads this database and may not see what a transaction wrote: each in words that are another's once it has ended. The numbers
/// of transactions by which the system says what somebody sees have 32 bits only.
pub fn blind_to(tx: i64) -> String {
    format!(
        "SELECT a.pid || ' ' || coalesce(a.xact_start::text, a.backend_xmin::text) FROM pg_catalog.pg_stat_activity AS a WHERE a.backend_xmin IS NOT NULL AND a.backend_type IS DISTINCT FROM 'autovacuum worker' AND a.pid <> pg_catalog.pg_backend_pid() AND (a.datid IS NULL OR a.datid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())) AND pg_catalog.age(a.backend_xmin) >= pg_catalog.age('{}'::xid)",
        tx.rem_euclid(1 << 32)
    )
}

/// What a question about all of a history needs to be quick.
pub const QUICKLY: &str = "SET LOCAL jit = off; SET LOCAL work_mem = '64MB'";

/// Keeps everybody from a history; what its partitions hold is still there for whoever reads it already.
pub fn lock(layout: &Layout) -> String {
    format!("LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE", layout.history.quoted())
}

/// The history becomes the first partition of the table that stands beside it, and that takes its place.
pub fn take_place(layout: &Layout, first: &TableName, to: Moment) -> Script {
    let history = &layout.history;
    let parts = parent(layout);
    let index = |stem: &str, suffix: &str| history.sibling(fitted(stem, suffix, Database::Postgres));
    let mut script = vec![rename(history, &first.name)];
    let rename_index = |from: &TableName, to: &TableName| {
        format!("ALTER INDEX IF EXISTS {} RENAME TO {}", from.quoted(), Quoted::new(&to.name))
    };
    let suffixes = || INDEXES.iter().copied().chain(["_pkey"]);
    script.extend(
        suffixes().map(|suffix| rename_index(&index(&history.name, suffix), &index(&first.name, suffix))),
    );
    script.push(rename(&parts, &history.name));
    script.extend(
        suffixes().map(|suffix| rename_index(&index(&parts.name, suffix), &index(&history.name, suffix))),
    );
    script.push(attach(history, first, Stretch { from: None, to: Some(to) }));
    script.push(unfence(first));
    script
}

/// The columns of a history, as they are named to copy records.
pub fn columns(layout: &Layout) -> String {
    format!(
        "SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = {}::regclass AND a.attnum > 0 AND NOT a.attisdropped",
        regclass(&layout.history)
    )
}

/// Which records of before a moment are to stay, where those from it on are to be told.
#[derive(Debug, Clone, Copy)]
pub struct Staying<'a> {
    /// The history.
    pub layout: &'a Layout,
    /// The moment.
    pub before: Moment,
    /// Transactions that had not ended then: what was current before them stays.
    pub unfinished: &'a [String],
    /// Rows of which everything stays, each by its key, in the key's order.
    pub held: &'a [Vec<Value>],
}

/// What stays, by date and number: of each row what was current then, what transactions wrote that had not ended, and what is held.
fn staying_positions(staying: &Staying<'_>) -> String {
    let Staying { layout, before, unfinished, held } = staying;
    let history = layout.history.quoted();
    let spelling = log::spelling(Database::Postgres);
    let older = format!("h.history_date < {}", at(*before));
    let key = layout.key_fields().map(|field| col("h", &field.history)).collect::<Vec<_>>().join(", ");
    let mut positions = vec!["SELECT n.history_date, n.history_id FROM newest AS n".to_owned()];
    if !unfinished.is_empty() {
        let ids: Vec<&str> = unfinished.iter().map(String::as_str).collect();
        positions.push(format!(
            "SELECT h.history_date, h.history_id FROM {history} AS h WHERE {older} AND {} AND NOT EXISTS (SELECT 1 FROM newest AS n WHERE {} AND (n.history_date, n.history_id) > (h.history_date, h.history_id))",
            spelling.of_transaction(&ids),
            spelling.same_row(layout, "n", "h"),
        ));
    }
    positions.extend(held.iter().map(|key| {
        format!(
            "SELECT h.history_date, h.history_id FROM {history} AS h WHERE {older} AND {}",
            spelling.key_is(layout, key)
        )
    }));
    format!(
        "WITH newest AS MATERIALIZED (SELECT DISTINCT ON ({key}) {key}, h.history_date, h.history_id FROM {history} AS h WHERE {older}{} ORDER BY {key}, h.history_date DESC, h.history_id DESC),
staying AS MATERIALIZED ({})",
        spelling.not_of("h", unfinished),
        positions.join("\nUNION "),
    )
}

/// How many records are older than the moment, and how many of these stay.
pub fn count_staying(staying: &Staying<'_>) -> String {
    format!(
        "{}\nSELECT (SELECT count(*) FROM {} WHERE history_date < {}), (SELECT count(*) FROM staying)",
        staying_positions(staying),
        staying.layout.history.quoted(),
        at(staying.before)
    )
}

/// Copies what stays into a table.
pub fn copy_staying(staying: &Staying<'_>, into: &TableName, columns: &str) -> String {
    format!(
        "{}\nINSERT INTO {} ({columns}) SELECT {columns} FROM {} AS h JOIN staying AS s USING (history_date, history_id) WHERE h.history_date < {}",
        staying_positions(staying),
        into.quoted(),
        staying.layout.history.quoted(),
        at(staying.before)
    )
}

/// How many records are older than a moment.
pub fn count_before(layout: &Layout, before: Moment) -> String {
    format!("SELECT count(*) FROM {} WHERE history_date < {}", layout.history.quoted(), at(before))
}

/// Makes the records of a copy hold the whole row which do not, but for those of rows that are held, of which nothing goes.
pub fn fill(staying: &Staying<'_>, source: &Source<'_>, copy: &TableName) -> Script {
    let Staying { layout, before, unfinished, held } = staying;
    let spelling = log::spelling(Database::Postgres);
    let fields: Vec<&Field> = source.fields.iter().filter(|field| !layout.is_key(field)).collect();
    let mut which = vec![format!("h.{} & {} = 0", word_column(0), 1_i64 << FULL_BIT)];
    which.extend(held.iter().map(|key| format!("NOT ({})", spelling.key_is(layout, key))));
    let which = which.join(" AND ");
    // What was current then is the table as of then: all rows of it together.
    let then: Vec<Field> = fields
        .iter()
        .map(|field| Field { name: format!("history_v{}", field.bit), ..(*field).clone() })
        .collect();
    let bound = Bound::Time(Moment::from_micros(before.as_micros().saturating_sub(1)));
    let state = read::state(&AsOf {
        layout,
        fields: &then,
        sparse: true,
        bound,
        unfinished,
        rows: Rows::All,
        first: false,
    });
    let set: Vec<String> = then
        .iter()
        .map(|field| format!("{} = {}", Quoted::new(&field.history), col("s", &field.name)))
        .collect();
    let mut script = vec![format!(
        "UPDATE {} AS h SET {}{} = h.{} | {}\nFROM (\n{state}\n) AS s WHERE {} AND {which}{}",
        copy.quoted(),
        set.iter().map(|set| format!("{set}, ")).collect::<String>(),
        word_column(0),
        word_column(0),
        1_i64 << FULL_BIT,
        history::history_key_is(layout, "h", "s"),
        spelling.not_of("h", unfinished),
    )];
    if !unfinished.is_empty() {
        // What had not ended then, record by record.
        script.push(format!(
            "UPDATE {} AS h SET\n  {}\nWHERE {which}",
            copy.quoted(),
            retention::taken_over(spelling, source, &fields, &[1 << FULL_BIT]).join(",\n  "),
        ));
    }
    script
}

/// Says of a table that holds no record of a moment or later that it does not.
pub fn all_before(table: &TableName, before: Moment) -> String {
    let stretch = Stretch { from: None, to: Some(before) };
    format!("ALTER TABLE {} ADD CONSTRAINT {FENCE} CHECK ({})", table.quoted(), of(stretch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_read_as_they_are_written() {
        let moment = |text: &str| Some(Moment::parse(text, Moment::from_micros(0), "UTC").unwrap());
        for known in [
            Stretch { from: None, to: moment("2027-01-01") },
            Stretch { from: moment("2026-12-01"), to: moment("2027-01-01") },
            Stretch { from: moment("2026-12-01T01:02:03.5"), to: None },
        ] {
            assert_eq!(stretch(&bounds(known)), Some(known));
        }
        let as_postgres_writes = "FOR VALUES FROM ('2026-12-01 00:00:00+00') TO ('2027-01-01 00:00:00+00')";
        let stretch_of = stretch(as_postgres_writes).unwrap();
        assert_eq!(stretch_of, Stretch { from: moment("2026-12-01"), to: moment("2027-01-01") });
        assert_eq!(stretch("DEFAULT"), None);
    }
}
