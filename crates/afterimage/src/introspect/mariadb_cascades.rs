//! By which foreign keys a change elsewhere reaches a table without firing its triggers.

use afterimage_core::TableName;
use afterimage_core::schema::{Cascade, CascadeOn, Link, OwnLink};

use crate::error::Result;
use crate::session::Session;

/// A foreign key of the database.
#[derive(Debug)]
struct Key {
    parent: TableName,
    link: Link,
    on_delete: String,
    on_update: String,
}

impl Key {
    fn deletes(&self) -> bool {
        self.on_delete == "CASCADE"
    }

    fn changes_on_delete(&self) -> bool {
        ["CASCADE", "SET NULL", "SET DEFAULT"].contains(&self.on_delete.as_str())
    }

    fn changes_on_update(&self) -> bool {
        ["CASCADE", "SET NULL", "SET DEFAULT"].contains(&self.on_update.as_str())
    }
}

/// What is known of a table's cascades.
#[derive(Debug, Default)]
pub(super) struct Cascades {
    pub(super) all: Vec<Cascade>,
    pub(super) own: Vec<OwnLink>,
    pub(super) unfollowable: Option<String>,
}

pub(super) async fn of(session: &mut Session, table: &TableName) -> Result<Cascades> {
    let keys = keys(session).await?;
    let mut found = Cascades::default();
    for key in keys.iter().filter(|key| key.link.child == *table) {
        let itself = key.parent == *table;
        if itself && key.changes_on_delete() {
            found.own.push(OwnLink { link: key.link.clone(), deletes: key.deletes() });
        }
        if key.changes_on_delete() {
            let way =
                Cascade { from: key.parent.clone(), on: CascadeOn::Delete, path: vec![key.link.clone()] };
            found.upward(&keys, table, way);
        }
        // A table's own rows cannot follow a changed key: the server refuses the change.
        if key.changes_on_update() && !itself {
            found.update(&keys, key);
        }
    }
    Ok(found)
}

impl Cascades {
    /// A deletion of rows of that table, and of those whose deletion takes them along.
    fn upward(&mut self, keys: &[Key], table: &TableName, way: Cascade) {
        self.refuse_from_elsewhere(&way.from);
        let above = keys.iter().filter(|key| key.link.child == way.from && key.deletes());
        if way.from != *table {
            for key in above {
                if key.parent == way.from {
                    self.refuse(format!(
                        "rows of {} go with others of the same table, and rows of this one with them",
                        way.from
                    ));
                } else if way.path.iter().any(|link| link.child == key.parent) {
                    self.refuse(format!("its foreign keys and those of {} cascade in a circle", key.parent));
                } else {
                    let path = std::iter::once(key.link.clone()).chain(way.path.clone()).collect();
                    self.upward(
                        keys,
                        table,
                        Cascade { from: key.parent.clone(), on: CascadeOn::Delete, path },
                    );
                }
            }
        }
        self.all.push(way);
    }

    fn update(&mut self, keys: &[Key], key: &Key) {
        let above = keys.iter().any(|above| {
            above.link.child == key.parent
                && above.changes_on_update()
                && above.link.columns.iter().any(|column| key.link.parent_columns.contains(column))
        });
        if above {
            self.refuse(format!("a change of a key reaches it through {}", key.parent));
        }
        self.refuse_from_elsewhere(&key.parent);
        let path = vec![key.link.clone()];
        self.all.push(Cascade { from: key.parent.clone(), on: CascadeOn::Update, path });
    }

    /// A trigger belongs to the database of its table, and ours stand in this one.
    fn refuse_from_elsewhere(&mut self, parent: &TableName) {
        if parent.schema.is_some() {
            self.refuse(format!("a cascade reaches it from {parent}, in another database"));
        }
    }

    fn refuse(&mut self, way: String) {
        self.unfollowable.get_or_insert(way);
    }
}

/// Each of the two lists is asked for by its own schema: joined by it, the server opens the tables of all databases.
async fn keys(session: &mut Session) -> Result<Vec<Key>> {
    let sql = "SELECT k.table_name, k.constraint_name, k.column_name, k.referenced_table_name, k.referenced_column_name, r.delete_rule, r.update_rule, NULLIF(k.referenced_table_schema, DATABASE()) \
      FROM information_schema.key_column_usage AS k JOIN information_schema.referential_constraints AS r \
        ON r.constraint_name = k.constraint_name AND r.table_name = k.table_name \
      WHERE k.table_schema = DATABASE() AND r.constraint_schema = DATABASE() AND k.referenced_table_name IS NOT NULL \
      ORDER BY k.table_name, k.constraint_name, k.ordinal_position";
    let mut keys: Vec<Key> = Vec::new();
    let mut last = None;
    for row in session.rows(sql, &[]).await? {
        let mut texts = row.into_iter().map(crate::session::Cell::text);
        let schema = texts.next_back().flatten();
        let mut next = || texts.next().flatten().unwrap_or_default();
        let (table, constraint, column) = (next(), next(), next());
        let (parent, parent_column, on_delete, on_update) = (next(), next(), next(), next());
        let this = Some((table.clone(), constraint));
        match keys.last_mut().filter(|_| last == this) {
            Some(key) => {
                key.link.columns.push(column);
                key.link.parent_columns.push(parent_column);
            }
            None => keys.push(Key {
                parent: TableName { schema, name: parent },
                link: Link {
                    child: TableName::bare(table),
                    columns: vec![column],
                    parent_columns: vec![parent_column],
                },
                on_delete,
                on_update,
            }),
        }
        last = this;
    }
    Ok(keys)
}
