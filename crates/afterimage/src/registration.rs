//! Which tables an application tracks, said in one place and installed when it starts.

use afterimage_core::{Table, Tracking};

use crate::database::Afterimage;
use crate::error::{Error, ErrorKind, Result};
use crate::health::State;
use crate::introspect;
use crate::plan::PlannedTable;

/// The tables that an application tracks.
///
/// ```
/// use afterimage::{Afterimage, Tracking};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
/// # sqlx::query("CREATE TABLE orders (id INTEGER PRIMARY KEY, status TEXT, cache_key TEXT)").execute(&pool).await?;
/// let audit = Afterimage::from_sqlite(pool);
/// Afterimage::builder().table("orders", Tracking::new().exclude(["cache_key"])).install(&audit).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Builder {
    tables: Vec<Registered>,
}

/// One table, and what a model of it takes for granted.
#[derive(Debug, Clone)]
struct Registered {
    table: String,
    tracking: Tracking,
    model: Option<Model>,
}

/// What a model takes for granted of its table.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) columns: Vec<String>,
    pub(crate) key: Vec<String>,
}

impl Afterimage {
    /// Says which tables an application tracks.
    pub fn builder() -> Builder {
        Builder::default()
    }
}

impl Builder {
    /// A table, by its name.
    #[must_use]
    pub fn table(self, table: impl Into<String>, tracking: Tracking) -> Self {
        self.registered(table.into(), tracking, None)
    }

    pub(crate) fn registered(mut self, table: String, tracking: Tracking, model: Option<Model>) -> Self {
        self.tables.push(Registered { table, tracking, model });
        self
    }

    /// Tracks every table, and follows those whose columns or options changed since. Run it at start-up: what is done
    /// already costs a look at each table, and instances that start at once wait for one another.
    ///
    /// A table that is not there, or does not fit its model, is an error that says what to add; those before it are tracked.
    pub async fn install(&self, audit: &Afterimage) -> Result<()> {
        for registered in &self.tables {
            registered.fits(audit).await?;
            audit.track(&registered.table, registered.tracking.clone()).await?;
        }
        Ok(())
    }

    /// Refuses to go on where something is not installed as it is said here: for an application whose role may not change
    /// schemas, and whose migrations hold what [`plan`](Self::plan) gives.
    pub async fn check(&self, audit: &Afterimage) -> Result<()> {
        let status = audit.status().await?;
        for registered in &self.tables {
            registered.fits(audit).await?;
            let tracking = audit.tracking(&registered.table).await?;
            let Some(tracking) = tracking else {
                return Err(Error::new(
                    ErrorKind::NotFound,
                    format!(
                        "{:?} is not tracked: run the migration that tracks it, or install",
                        registered.table
                    ),
                ));
            };
            if tracking != registered.tracking {
                return Err(Error::new(
                    ErrorKind::Drifted,
                    format!(
                        "{:?} is tracked with other options than the application says: install",
                        registered.table
                    ),
                ));
            }
            let found = status
                .iter()
                .find(|one| one.table.to_string() == registered.table || one.table.name == registered.table);
            if let Some(found) = found.filter(|found| found.state != State::Ok) {
                let faults: Vec<String> = found.faults.iter().map(ToString::to_string).collect();
                let why = if faults.is_empty() { format!("{:?}", found.state) } else { faults.join("; ") };
                return Err(Error::new(ErrorKind::Drifted, format!("{why}: migrate")).on(&found.table));
            }
        }
        Ok(())
    }

    /// The SQL that installs it, for any migration tool. Nothing is changed.
    pub async fn plan(&self, audit: &Afterimage) -> Result<Vec<PlannedTable>> {
        let mut planned = Vec::new();
        for registered in &self.tables {
            registered.fits(audit).await?;
            planned.push(audit.plan(&registered.table, &registered.tracking).await?);
        }
        Ok(planned)
    }
}

impl Registered {
    /// Whether the table is what its model takes for granted.
    async fn fits(&self, audit: &Afterimage) -> Result<()> {
        let Some(model) = &self.model else { return Ok(()) };
        let table = audit.reading(async |session| introspect::table(session, &self.table).await).await?;
        model.fits(&table)
    }
}

impl Model {
    fn fits(&self, table: &Table) -> Result<()> {
        let refuse = |message: String| Err(Error::new(ErrorKind::Drifted, message).on(&table.name));
        if let Some(column) = self.columns.iter().find(|column| table.column(column).is_none()) {
            return refuse(format!("its model has a column {column:?} that the table has not: add it"));
        }
        let sorted = |names: &[String]| {
            let mut names = names.to_vec();
            names.sort();
            names
        };
        if sorted(&self.key) != sorted(&table.key) {
            return refuse(format!(
                "its model's key is ({}), the table's is ({})",
                self.key.join(", "),
                table.key.join(", ")
            ));
        }
        Ok(())
    }
}
