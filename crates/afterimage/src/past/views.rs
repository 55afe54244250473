//! Views of the past, for programs that cannot be given our connection.

use std::collections::BTreeSet;
use std::sync::Arc;

use afterimage_core::{Database, Quoted, TableName, sql};

use super::{Found, Past, Reading, Tracked, What};
use crate::catalog::{self, Entry, Stage};
use crate::error::{Error, ErrorKind, Result};
use crate::versions::PointInTime;

/// Where views of the past are to stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ViewsIn<'a> {
    /// In the session that makes them, which alone sees them: temporary views, found before the tables of their names.
    /// Not on MariaDB, which has none.
    Session,
    /// In a schema that is made for them (on MariaDB a database), for whomever it is granted to. Not on SQLite, which has none.
    Schema(&'a str),
}

impl Past {
    /// The statements that make a view of each of these tables, or of all that are tracked, under the table's own name: what
    /// this connection sees in its place, for any other program. They are for a client of the same database, and change
    /// nothing but that the views are there.
    ///
    /// A view shows the columns that its table has today, and knows which transactions had not ended: so make them anew
    /// after a schema change, and of a time since which every transaction has ended. PostgreSQL changes no column that a view
    /// shows: drop the views before.
    pub async fn views(&self, tables: &[&str], place: ViewsIn<'_>) -> Result<Vec<String>> {
        let refuse = |message: &str| Err(Error::new(ErrorKind::InvalidInput, message));
        if matches!(self.what, What::AsOf(PointInTime::Now)) {
            return refuse("views of the past are of one time; those of now are the tables");
        }
        match (self.database, place) {
            (Database::MariaDb, ViewsIn::Session) => {
                return refuse("MariaDB has no temporary views: name a database that is to be made for them");
            }
            (Database::Sqlite, ViewsIn::Schema(_)) => {
                return refuse("SQLite has no schemas: views are of the session that makes them");
            }
            _ => {}
        }
        let mut reading = self.reading.lock().await;
        let mut statements = sql::dialect(self.database).session_of_a_script();
        if let ViewsIn::Schema(name) = place {
            let kind = if self.database == Database::MariaDb { "DATABASE" } else { "SCHEMA" };
            statements.push(format!("CREATE {kind} {}", Quoted::new(name)));
        }
        let mut names = BTreeSet::new();
        for table in self.named_or_all(&mut reading, tables).await? {
            let Found::Tracked(tracked) = self.find(&mut reading, &table).await? else { continue };
            let name = &tracked.entry.table.name;
            if !names.insert(name.clone()) {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    format!("there are two tables {name:?}, of which only one can have a view of that name"),
                ));
            }
            let query = self.query(&self.beside_views(&tracked), false)?;
            statements.push(format!("{} AS\n{query}", self.create(name, place)));
        }
        Ok(statements)
    }

    fn create(&self, table: &str, place: ViewsIn<'_>) -> String {
        let name = match place {
            ViewsIn::Session => TableName::bare(table),
            ViewsIn::Schema(schema) => TableName::new(schema, table),
        };
        let kind = match (self.database, place) {
            (_, ViewsIn::Session) => "TEMPORARY VIEW",
            // One that is merged into a statement could be written through.
            (Database::MariaDb, _) => "ALGORITHM = TEMPTABLE VIEW",
            _ => "VIEW",
        };
        format!("CREATE {kind} {}", name.quoted())
    }

    async fn named_or_all(&self, reading: &mut Reading, tables: &[&str]) -> Result<Vec<TableName>> {
        if tables.is_empty() {
            let entries = catalog::entries(&mut reading.session).await?;
            let tracked = entries.iter().filter(|entry| entry.stage != Stage::Stopped);
            return Ok(tracked.map(|entry| entry.table.clone()).collect());
        }
        let mut names = Vec::new();
        for table in tables {
            names.push(catalog::find(&mut reading.session, table).await?.table.clone());
        }
        Ok(names)
    }

    /// On SQLite a temporary view would find itself, where it means its table.
    fn beside_views(&self, tracked: &Arc<Tracked>) -> Arc<Tracked> {
        if self.database != Database::Sqlite {
            return Arc::clone(tracked);
        }
        let mut entry: Entry = (*tracked.entry).clone();
        for epoch in &mut entry.epochs {
            let layout = &mut epoch.layout;
            layout.table.schema = Some("main".to_owned());
            layout.history.schema = Some("main".to_owned());
        }
        Arc::new(Tracked {
            entry: Arc::new(entry),
            today: tracked.today.clone(),
            point: tracked.point.clone(),
        })
    }
}
