//! Random histories: transactions of statements, and what happens to the tables between them.

use afterimage::Database;
use proptest::prelude::*;

use super::schema::{Column, Key, Role, Schema};

#[derive(Clone, Debug)]
pub enum Step {
    Transaction(Transaction),
    SwitchStorage(u8),
    AddColumn { table: u8, kind: u8, default: Option<u8> },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Writer {
    /// A connection that knows nothing of the library.
    Plain,
    /// The library's `begin`.
    Library,
    /// The database's own shell.
    Shell,
}

#[derive(Clone, Debug)]
pub struct Transaction {
    pub writer: Writer,
    pub context: bool,
    pub statements: Vec<Statement>,
    pub commits: bool,
    /// Whether some time passes before it.
    pub later: bool,
}

#[derive(Clone, Debug)]
pub enum Statement {
    Insert { table: u8, rows: Vec<Row>, conflict: Conflict },
    InsertFromItself { table: u8 },
    Update { table: u8, rows: Which, set: Vec<Set>, or: u8 },
    ChangeKey { table: u8, rows: Which, to: u8, or: u8 },
    ShiftKeys { table: u8, by: u8 },
    Delete { table: u8, rows: Which },
    Truncate { table: u8 },
    Savepoint { inner: Vec<Statement>, kept: bool },
    Pause,
}

#[derive(Clone, Debug)]
pub struct Row {
    pub key: u8,
    pub values: [u8; 8],
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Conflict {
    Fails,
    Ignored,
    Replaces,
    Updates,
}

#[derive(Clone, Debug)]
pub enum Which {
    All,
    Key(u8),
    Column(u8, u8),
}

#[derive(Clone, Debug)]
pub struct Set {
    pub column: u8,
    pub to: To,
}

#[derive(Clone, Debug)]
pub enum To {
    Literal(u8),
    Stepped,
    Itself,
}

pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => transactions().prop_map(Step::Transaction),
        1 => any::<u8>().prop_map(Step::SwitchStorage),
        1 => (any::<u8>(), any::<u8>(), any::<Option<u8>>())
            .prop_map(|(table, kind, default)| Step::AddColumn { table, kind, default }),
    ];
    prop::collection::vec(step, 1..9)
}

fn transactions() -> impl Strategy<Value = Transaction> {
    let writer = prop_oneof![5 => Just(Writer::Plain), 3 => Just(Writer::Library), 1 => Just(Writer::Shell)];
    (
        writer,
        any::<bool>(),
        prop::collection::vec(statements(), 1..6),
        prop::bool::weighted(0.85),
        any::<bool>(),
    )
        .prop_map(|(writer, context, statements, commits, later)| Transaction {
            writer,
            context,
            statements,
            commits,
            later,
        })
}

fn statements() -> impl Strategy<Value = Statement> {
    let row = || (any::<u8>(), any::<[u8; 8]>()).prop_map(|(key, values)| Row { key, values });
    let conflict = prop_oneof![
        Just(Conflict::Fails),
        Just(Conflict::Ignored),
        Just(Conflict::Replaces),
        Just(Conflict::Updates)
    ];
    let which = || {
        prop_oneof![
            1 => Just(Which::All),
            2 => any::<u8>().prop_map(Which::Key),
            1 => (any::<u8>(), any::<u8>()).prop_map(|(c, v)| Which::Column(c, v)),
        ]
    };
    let to =
        prop_oneof![3 => any::<u8>().prop_map(To::Literal), 2 => Just(To::Stepped), 1 => Just(To::Itself)];
    let set = prop::collection::vec((any::<u8>(), to).prop_map(|(column, to)| Set { column, to }), 1..3);
    let simple = prop_oneof![
        6 => (any::<u8>(), prop::collection::vec(row(), 1..5), conflict)
            .prop_map(|(table, rows, conflict)| Statement::Insert { table, rows, conflict }),
        1 => any::<u8>().prop_map(|table| Statement::InsertFromItself { table }),
        5 => (any::<u8>(), which(), set, any::<u8>())
            .prop_map(|(table, rows, set, or)| Statement::Update { table, rows, set, or }),
        3 => (any::<u8>(), which(), any::<u8>(), any::<u8>())
            .prop_map(|(table, rows, to, or)| Statement::ChangeKey { table, rows, to, or }),
        1 => (any::<u8>(), 1..4_u8).prop_map(|(table, by)| Statement::ShiftKeys { table, by }),
        3 => (any::<u8>(), which()).prop_map(|(table, rows)| Statement::Delete { table, rows }),
        1 => any::<u8>().prop_map(|table| Statement::Truncate { table }),
        1 => Just(Statement::Pause),
    ];
    let simple = simple.boxed();
    let savepoint = |inner: BoxedStrategy<Statement>| {
        (prop::collection::vec(inner, 1..4), any::<bool>())
            .prop_map(|(inner, kept)| Statement::Savepoint { inner, kept })
    };
    let nested = prop_oneof![4 => simple.clone(), 1 => savepoint(simple.clone())].boxed();
    prop_oneof![6 => simple, 1 => savepoint(nested)]
}

/// The column that a step adds.
pub fn added(schema: &Schema, table: usize, kind: u8) -> Column {
    let name = format!("added{}", schema.tables[table].columns.len());
    Column { name, kind, not_null: false, unique: false, role: Role::Plain }
}

/// `ALTER TABLE … ADD COLUMN`, for one twin.
pub fn add_column(schema: &Schema, table: usize, column: &Column, default: Option<u8>, twin: &str) -> String {
    let kind = schema.kind(column);
    let default = default.map(|choice| format!(" DEFAULT {}", kind.value(choice))).unwrap_or_default();
    format!("ALTER TABLE {} ADD COLUMN {} {}{default}", schema.quoted(table, twin), column.name, kind.sql)
}

impl Statement {
    /// The statement's SQL for one twin; none for those that are not one statement.
    pub fn sql(&self, schema: &Schema, twin: &str) -> Option<String> {
        // An integer that is no INTEGER PRIMARY KEY value gives the same error on all twins: nothing to avoid.
        Some(match self {
            Self::Insert { table, rows, conflict } => {
                insert(schema, schema.table(*table), rows, *conflict, twin)
            }
            Self::InsertFromItself { table } => {
                let table = schema.table(*table);
                let columns: Vec<String> =
                    schema.columns(table).into_iter().map(|(name, _, _)| name).collect();
                let (list, mut values) = (columns.join(", "), columns);
                values[0] = match schema.tables[table].key {
                    Key::Integer | Key::Composite => format!("{} + 9", values[0]),
                    Key::Text => "k || '+'".to_owned(),
                };
                let name = schema.quoted(table, twin);
                format!("INSERT INTO {name} ({list}) SELECT {} FROM {name}", values.join(", "))
            }
            Self::Update { table, rows, set, or } => {
                let table = schema.table(*table);
                let mut assigned: Vec<String> = Vec::new();
                let settable: Vec<_> = schema
                    .columns(table)
                    .into_iter()
                    .filter(|(name, ..)| !name.starts_with('k') && name != "touched")
                    .collect();
                for set in set {
                    let (name, kind, _) = &settable[usize::from(set.column) % settable.len()];
                    if assigned.iter().any(|a| a.starts_with(&format!("{name} ="))) {
                        continue;
                    }
                    let reference = name.starts_with('r');
                    assigned.push(match &set.to {
                        To::Literal(choice) if reference => {
                            format!("{name} = {}", reference_literal(*choice))
                        }
                        To::Literal(choice) => format!("{name} = {}", kind.literal(*choice)),
                        To::Stepped => format!("{name} = {}", kind.step.replace('@', name)),
                        To::Itself => format!("{name} = {name}"),
                    });
                }
                let (or, order) = update_or(*or, schema, table);
                format!(
                    "UPDATE{or} {}{order} SET {}{}",
                    schema.quoted(table, twin),
                    assigned.join(", "),
                    rows.sql(schema, table)
                )
            }
            Self::ChangeKey { table, rows, to, or } => {
                let table = schema.table(*table);
                let literals = schema.key_literals(table, *to);
                let set: Vec<String> = schema
                    .key(table)
                    .iter()
                    .zip(literals)
                    .map(|(name, literal)| format!("{name} = {literal}"))
                    .collect();
                let (or, order) = update_or(*or, schema, table);
                format!(
                    "UPDATE{or} {}{order} SET {}{}",
                    schema.quoted(table, twin),
                    set.join(", "),
                    rows.sql(schema, table)
                )
            }
            Self::ShiftKeys { table, by } => {
                let table = schema.table(*table);
                let (key, shifted) = match schema.tables[table].key {
                    Key::Integer => ("k", format!("{by} - k")),
                    Key::Text => ("k", "k || 'x'".to_owned()),
                    Key::Composite => ("k1", format!("{by} - k1")),
                };
                format!("UPDATE {} SET {key} = {shifted}", schema.quoted(table, twin))
            }
            Self::Delete { table, rows } => {
                let table = schema.table(*table);
                format!("DELETE FROM {}{}", schema.quoted(table, twin), rows.sql(schema, table))
            }
            Self::Truncate { table } => {
                let name = schema.quoted(schema.table(*table), twin);
                // On MariaDB it fires no trigger; verify finds it, as mariadb_roads.rs shows.
                let captured = schema.database == Database::Postgres;
                if captured { format!("TRUNCATE {name} CASCADE") } else { format!("DELETE FROM {name}") }
            }
            Self::Savepoint { .. } | Self::Pause => return None,
        })
    }
}

/// What becomes of rows that collide, and on SQLite a fixed order for it: it would read a table with triggers along another
/// index, and another row would come first.
fn update_or(choice: u8, schema: &Schema, table: usize) -> (&'static str, &'static str) {
    let sqlite = schema.database == Database::Sqlite && !schema.is_own_parent(table);
    match choice % 6 {
        0 if sqlite => (" OR REPLACE", " NOT INDEXED"),
        1 if sqlite => (" OR IGNORE", " NOT INDEXED"),
        0 | 1 if schema.database == Database::MariaDb => (" IGNORE", ""),
        _ => ("", ""),
    }
}

fn reference_literal(choice: u8) -> String {
    if choice.is_multiple_of(4) { "NULL".to_owned() } else { (choice % 9).to_string() }
}

fn insert(schema: &Schema, table: usize, rows: &[Row], conflict: Conflict, twin: &str) -> String {
    let sqlite = schema.database == Database::Sqlite;
    let mariadb = schema.database == Database::MariaDb;
    let columns = schema.columns(table);
    let key = schema.key(table);
    let names: Vec<&str> =
        columns.iter().map(|(name, ..)| name.as_str()).filter(|name| *name != "touched").collect();
    let tuples: Vec<String> = rows
        .iter()
        .map(|row| {
            let mut values = schema.key_literals(table, row.key);
            let rest = columns[key.len()..].iter().filter(|(name, ..)| name != "touched");
            values.extend(rest.zip(row.values.iter().cycle()).map(|((name, kind, _), choice)| {
                if name.starts_with('r') {
                    reference_literal(*choice)
                } else {
                    kind.literal(*choice).to_owned()
                }
            }));
            format!("({})", values.join(", "))
        })
        .collect();
    let others: Vec<&&str> = names.iter().filter(|name| !key.contains(name)).collect();
    let (verb, tail) = match conflict {
        Conflict::Fails => ("INSERT", String::new()),
        Conflict::Ignored if sqlite => ("INSERT OR IGNORE", String::new()),
        Conflict::Ignored if mariadb => ("INSERT IGNORE", String::new()),
        Conflict::Replaces if mariadb => ("REPLACE", String::new()),
        Conflict::Updates if mariadb => {
            let set: Vec<String> = others.iter().map(|name| format!("{name} = VALUES({name})")).collect();
            ("INSERT", format!(" ON DUPLICATE KEY UPDATE {}", set.join(", ")))
        }
        Conflict::Ignored => ("INSERT", " ON CONFLICT DO NOTHING".to_owned()),
        // SQLite itself lets REPLACE break a reference of a table to itself, unless a trigger looks on.
        Conflict::Replaces if sqlite && !schema.is_own_parent(table) => ("INSERT OR REPLACE", String::new()),
        Conflict::Replaces | Conflict::Updates => {
            let set: Vec<String> = others.iter().map(|name| format!("{name} = excluded.{name}")).collect();
            ("INSERT", format!(" ON CONFLICT ({}) DO UPDATE SET {}", key.join(", "), set.join(", ")))
        }
    };
    format!(
        "{verb} INTO {} ({}) VALUES {}{tail}",
        schema.quoted(table, twin),
        names.join(", "),
        tuples.join(", ")
    )
}

impl Which {
    fn sql(&self, schema: &Schema, table: usize) -> String {
        match self {
            Self::All => String::new(),
            Self::Key(choice) => {
                let literals = schema.key_literals(table, *choice);
                let same: Vec<String> = schema
                    .key(table)
                    .iter()
                    .zip(literals)
                    .map(|(name, literal)| format!("{name} = {literal}"))
                    .collect();
                format!(" WHERE {}", same.join(" AND "))
            }
            Self::Column(column, choice) => {
                let columns = &schema.tables[table].columns;
                let column = &columns[usize::from(*column) % columns.len()];
                let kind = schema.kind(column);
                if choice % 3 == 0 || kind.sql == "json" {
                    return format!(" WHERE {} IS NOT NULL", column.name);
                }
                format!(" WHERE {} <> {}", column.name, kind.value(*choice))
            }
        }
    }
}
