//! Random schemas.

use afterimage::{Database, Storage, Tracking};
use proptest::prelude::*;

use super::kinds::{Kind, kinds};

/// Every table stands there three times: tracked with each storage, and not tracked at all. All three get the same
/// statements, so that the storages can be compared with each other, and a tracked table with a plain one.
pub const TWINS: [&str; 3] = ["s", "d", "p"];

/// The two of them that are tracked.
pub const TRACKED: [&str; 2] = ["s", "d"];

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Key {
    Integer,
    Text,
    Composite,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Role {
    Plain,
    Masked,
    Excluded,
}

#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    pub kind: u8,
    pub not_null: bool,
    pub unique: bool,
    pub role: Role,
}

/// A column that refers to another table, or to its own.
#[derive(Clone, Debug)]
pub struct Reference {
    pub to: u8,
    pub on_delete: &'static str,
    pub on_update: &'static str,
}

#[derive(Clone, Debug)]
pub struct Table {
    pub key: Key,
    pub columns: Vec<Column>,
    pub references: Vec<Reference>,
    /// A trigger of the user's that writes the same row again.
    pub touched: bool,
    /// Rows that are there before tracking begins.
    pub before: u8,
}

#[derive(Clone, Debug)]
pub struct Schema {
    pub database: Database,
    pub tables: Vec<Table>,
    pub recursive_triggers: bool,
}

const NAMES: [&str; 3] = ["item", "Odd Name", "order"];
const TEXT_KEYS: [&str; 7] = ["'a'", "'A'", "'b'", "''", "'ä'", "'1'", "'x,k2=''y'"];

pub fn schemas(database: Database) -> impl Strategy<Value = Schema> {
    (prop::collection::vec(tables(), 1..=3), any::<bool>())
        .prop_map(move |(tables, recursive_triggers)| Schema { database, tables, recursive_triggers })
}

fn tables() -> impl Strategy<Value = Table> {
    let key = prop_oneof![3 => Just(Key::Integer), 1 => Just(Key::Text), 1 => Just(Key::Composite)];
    let columns = prop::collection::vec((any::<u8>(), any::<u8>(), any::<u8>()), 1..=5);
    let references = prop::collection::vec(references(), 0..=2);
    (key, columns, references, prop::bool::weighted(0.2), 0..4_u8).prop_map(
        |(key, columns, references, touched, before)| {
            let columns = columns.into_iter().enumerate().map(|(n, (kind, flags, role))| Column {
                name: format!("c{n}"),
                kind,
                not_null: flags % 4 == 1,
                unique: flags % 16 >= 14,
                role: match role % 10 {
                    9 => Role::Masked,
                    8 => Role::Excluded,
                    _ => Role::Plain,
                },
            });
            Table { key, columns: columns.collect(), references, touched, before }
        },
    )
}

fn references() -> impl Strategy<Value = Reference> {
    let actions = || prop::sample::select(vec!["CASCADE", "SET NULL", "NO ACTION"]);
    (any::<u8>(), actions(), actions()).prop_map(|(to, on_delete, on_update)| Reference {
        to,
        on_delete,
        on_update,
    })
}

impl Schema {
    pub fn table(&self, choice: u8) -> usize {
        usize::from(choice) % self.tables.len()
    }

    /// The table's name, unquoted.
    #[allow(clippy::unused_self, reason = "which names there are is the schema's affair")]
    pub fn name(&self, table: usize, twin: &str) -> String {
        format!("{}_{twin}", NAMES[table])
    }

    pub fn quoted(&self, table: usize, twin: &str) -> String {
        format!("\"{}\"", self.name(table, twin))
    }

    pub fn kind(&self, column: &Column) -> &'static Kind {
        let kinds = kinds(self.database);
        &kinds[usize::from(column.kind) % kinds.len()]
    }

    /// A unique column needs a type that can be indexed.
    fn is_unique(&self, column: &Column) -> bool {
        column.unique && self.kind(column).is_indexable(self.database)
    }

    /// The references of a table: only to integer keys, to itself or to tables before it.
    pub fn references(&self, table: usize) -> Vec<(String, usize, &Reference)> {
        let targets: Vec<usize> = (0..=table).filter(|to| self.tables[*to].key == Key::Integer).collect();
        if targets.is_empty() {
            return Vec::new();
        }
        let references = self.tables[table].references.iter().enumerate();
        references.map(|(n, r)| (format!("r{n}"), targets[usize::from(r.to) % targets.len()], r)).collect()
    }

    /// Whether the table refers to itself.
    pub fn is_own_parent(&self, table: usize) -> bool {
        self.references(table).iter().any(|(_, to, _)| *to == table)
    }

    /// Whether on PostgreSQL the table's own trigger may come before those that fire for what a foreign key does to it.
    pub fn is_overtaken(&self, table: usize) -> bool {
        self.database == Database::Postgres && self.tables[table].touched && self.is_own_parent(table)
    }

    /// What a reference does when the key it refers to changes. On SQLite a row that refers to itself is written
    /// again before any trigger sees the first change; on PostgreSQL the table's own trigger writes it before ours sees
    /// what the cascade did: `regressions.rs` has both cases.
    fn on_update(&self, table: usize, to: usize, reference: &Reference) -> &'static str {
        let own = table == to;
        let out_of_order = self.database == Database::Sqlite || self.is_overtaken(table);
        if own && out_of_order { "NO ACTION" } else { reference.on_update }
    }

    /// The columns in the table's order, with whether they are shown.
    pub fn columns(&self, table: usize) -> Vec<(String, &'static Kind, Role)> {
        let integer = &kinds(self.database)[0];
        let text = kinds(self.database).iter().find(|kind| kind.sql.eq_ignore_ascii_case("text")).unwrap();
        let described = &self.tables[table];
        let mut columns: Vec<_> = self
            .key(table)
            .into_iter()
            .map(|name| {
                (
                    name.to_owned(),
                    if name == "k2" || described.key == Key::Text { text } else { integer },
                    Role::Plain,
                )
            })
            .collect();
        columns.extend(self.references(table).into_iter().map(|(name, _, _)| (name, integer, Role::Plain)));
        if described.touched {
            columns.push(("touched".to_owned(), integer, Role::Plain));
        }
        columns.extend(described.columns.iter().map(|c| (c.name.clone(), self.kind(c), c.role)));
        columns
    }

    pub fn key(&self, table: usize) -> Vec<&'static str> {
        match self.tables[table].key {
            Key::Integer | Key::Text => vec!["k"],
            Key::Composite => vec!["k1", "k2"],
        }
    }

    /// The order in which a table is told: by its key, whose text MariaDB compares by bytes there.
    pub fn order(&self, table: usize) -> String {
        let text = |name: &str| match self.database {
            Database::MariaDb => format!("BINARY t.{name}"),
            _ => format!("t.{name}"),
        };
        match self.tables[table].key {
            Key::Integer => "t.k".to_owned(),
            Key::Text => text("k"),
            Key::Composite => format!("t.k1, {}", text("k2")),
        }
    }

    /// The literals of a key: few, so that statements meet.
    pub fn key_literals(&self, table: usize, choice: u8) -> Vec<String> {
        let text = || TEXT_KEYS[usize::from(choice) % TEXT_KEYS.len()].to_owned();
        match self.tables[table].key {
            Key::Integer => vec![(choice % 9).to_string()],
            Key::Text => vec![text()],
            Key::Composite => vec![(choice % 2).to_string(), text()],
        }
    }

    pub fn tracking(&self, table: usize, storage: Storage) -> Tracking {
        let of = |role: Role| -> Vec<String> {
            self.tables[table].columns.iter().filter(|c| c.role == role).map(|c| c.name.clone()).collect()
        };
        Tracking::new().storage(storage).mask(of(Role::Masked)).exclude(of(Role::Excluded))
    }

    /// Creates one twin of a table.
    pub fn create(&self, table: usize, twin: &str) -> Vec<String> {
        let described = &self.tables[table];
        // A text that is indexed has a length on MariaDB.
        let text = if self.database == Database::MariaDb { "VARCHAR(90)" } else { "TEXT" };
        let mut parts = match described.key {
            Key::Integer => vec!["k INTEGER PRIMARY KEY".to_owned()],
            Key::Text => vec![format!("k {text} NOT NULL PRIMARY KEY")],
            Key::Composite => vec!["k1 INTEGER NOT NULL".to_owned(), format!("k2 {text} NOT NULL")],
        };
        for (name, to, reference) in self.references(table) {
            parts.push(format!(
                "{name} INTEGER REFERENCES {} (k) ON DELETE {} ON UPDATE {}",
                self.quoted(to, twin),
                reference.on_delete,
                self.on_update(table, to, reference)
            ));
        }
        if described.touched {
            parts.push("touched INTEGER".to_owned());
        }
        for column in &described.columns {
            // What is given as NULL to such a timestamp is the time of the statement, another for each twin.
            let nullable = !column.not_null || self.kind(column).sql.ends_with(" NULL");
            let not_null = if nullable { "" } else { " NOT NULL" };
            let unique = if self.is_unique(column) { " UNIQUE" } else { "" };
            parts.push(format!("{} {}{not_null}{unique}", column.name, self.kind(column).sql));
        }
        if described.key == Key::Composite {
            parts.push("PRIMARY KEY (k1, k2)".to_owned());
        }
        let name = self.quoted(table, twin);
        let mut script = vec![format!("CREATE TABLE {name} ({})", parts.join(", "))];
        if described.touched {
            script.extend(self.touching(table, twin));
        }
        script
    }

    fn touching(&self, table: usize, twin: &str) -> Vec<String> {
        let name = self.quoted(table, twin);
        let same: Vec<String> = self.key(table).into_iter().map(|k| format!("{k} = NEW.{k}")).collect();
        let same = same.join(" AND ");
        let trigger = format!("\"touch {}\"", self.name(table, twin));
        let touch = format!("UPDATE {name} SET touched = coalesce(touched, 0) + 1 WHERE {same}");
        if self.database == Database::MariaDb {
            // A trigger there cannot write its own table; it can change what is about to be written.
            let touch = "SET NEW.touched = LEAST(COALESCE(OLD.touched, 0) + 1, 3)";
            return vec![format!("CREATE TRIGGER {trigger} BEFORE UPDATE ON {name} FOR EACH ROW {touch}")];
        }
        if self.database == Database::Sqlite {
            let when = "coalesce(NEW.touched, 0) < 3 AND NEW.touched IS OLD.touched";
            return vec![format!(
                "CREATE TRIGGER {trigger} AFTER UPDATE ON {name} WHEN {when} BEGIN {touch}; END"
            )];
        }
        vec![
            format!(
                "CREATE FUNCTION {trigger}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {touch}; RETURN NULL; END $$"
            ),
            format!(
                "CREATE TRIGGER {trigger} AFTER UPDATE ON {name} FOR EACH ROW WHEN (coalesce(NEW.touched, 0) < 3 AND NEW.touched IS NOT DISTINCT FROM OLD.touched) EXECUTE FUNCTION {trigger}()"
            ),
        ]
    }
}
