//! The past connection: statements written for today, asked of the tables as they were.

mod views;

use std::sync::Arc;

use afterimage_core::past::Question;
use afterimage_core::record::all_fields;
use afterimage_core::sql::log::Source;
use afterimage_core::sql::{self, Bound, then};
use afterimage_core::{Database, Table, TableName};
use futures_util::TryStreamExt as _;
use tokio::sync::Mutex;

use crate::as_of::{Point, Wanted, answerable, resolve, state_sql};
use crate::catalog::{self, Entry};
use crate::database::Afterimage;
use crate::error::{Error, ErrorKind, Result};
use crate::introspect;
use crate::once;
use crate::session::Session;
use crate::versions::PointInTime;

pub use views::ViewsIn;

/// A connection on which every query sees the tracked tables as of one time. Cheap to clone.
///
/// It reads in one transaction, which is open as long as it lives: let go of it soon.
#[derive(Debug, Clone)]
pub struct Past {
    what: What,
    pub(crate) database: Database,
    today: Vec<String>,
    pub(crate) reading: Arc<Mutex<Reading>>,
}

/// What stands in for a table.
#[derive(Debug, Clone)]
enum What {
    AsOf(PointInTime),
    /// All versions, or only the latest of each row.
    Versions {
        latest: bool,
    },
}

/// The transaction, and what was found out in it.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) session: Session,
    tables: Vec<(TableName, Found)>,
}

/// What a table that is read was found to be.
#[derive(Debug, Clone)]
enum Found {
    /// To be read as it is today.
    Today,
    Tracked(Arc<Tracked>),
}

/// What is known of a tracked table that is read.
#[derive(Debug)]
struct Tracked {
    entry: Arc<Entry>,
    today: Table,
    /// As of when; nothing for its versions.
    point: Option<Point>,
}

impl Afterimage {
    /// A connection to the past: every query on it sees the tracked tables as of that time, under their columns of today.
    ///
    /// Writes are refused before they reach the database. So is, by name, a table that is not tracked, since what it was
    /// is not known: see [`and_today`](Past::and_today). Of a column that was added since, each row has NULL, or the
    /// constant that it got when the column was added; of one that is not tracked, what the row holds today, or NULL where
    /// it is gone; of one whose values are masked, `•••` where it is text, else NULL.
    ///
    /// On MariaDB statements are read in ANSI mode: text stands in single quotes.
    pub async fn at(&self, at: PointInTime) -> Result<Past> {
        self.past(What::AsOf(at)).await
    }

    /// A connection on which every tracked table is the list of all versions of its rows, under its columns of today, with
    /// those of their records beside them: `history_id`, `history_date` in microseconds since 1970, `history_type`,
    /// `history_user`, `history_change_reason`, `history_context`, `history_tx`, `history_old_key`, `history_changed`.
    ///
    /// It is a [`Past`] like that of [`at`](Self::at) in everything else.
    pub async fn all_versions(&self) -> Result<Past> {
        self.past(What::Versions { latest: false }).await
    }

    /// The same with one version of each row alone, the latest: of a row that is deleted, its deletion.
    pub async fn latest_versions(&self) -> Result<Past> {
        self.past(What::Versions { latest: true }).await
    }

    async fn past(&self, what: What) -> Result<Past> {
        let mut session = self.open(self.dialect().open(false)).await?;
        session.remembered().sees_one_moment = true;
        session.remembered().eyes = self.eyes.clone();
        Ok(Past {
            what,
            database: self.database(),
            today: Vec::new(),
            reading: Arc::new(Mutex::new(Reading { session, tables: Vec::new() })),
        })
    }
}

impl Past {
    /// Reads a table or a view that is not tracked as it is today, beside the others as they were.
    #[must_use]
    pub fn and_today(mut self, table: impl Into<String>) -> Self {
        self.today.push(table.into());
        self
    }

    /// The statement that is sent for this one.
    pub async fn sql(&self, sql: &str) -> Result<String> {
        let mut reading = self.reading.lock().await;
        self.rewritten(&mut reading, sql).await
    }

    pub(crate) async fn rewritten(&self, reading: &mut Reading, sql: &str) -> Result<String> {
        let question = Question::read(self.database, sql)?;
        for own in question.own_names() {
            let own = TableName::bare(own.clone());
            if introspect::named(&mut reading.session, &own).await?.is_some() {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    format!(
                        "this statement calls something {:?}, which is the name of a table: call it something else",
                        own.name
                    ),
                ));
            }
        }
        let mut instead = Vec::new();
        for table in question.tables() {
            if let Found::Tracked(tracked) = self.find(reading, table).await? {
                let first = question.takes_the_first_by(&tracked.entry.layout()?.key);
                instead.push((table.clone(), self.query(&tracked, first)?));
            }
        }
        Ok(question.instead(&instead))
    }

    async fn find(&self, reading: &mut Reading, table: &TableName) -> Result<Found> {
        if let Some((_, found)) = reading.tables.iter().find(|(known, _)| known == table) {
            return Ok(found.clone());
        }
        let found = self.find_anew(&mut reading.session, table).await?;
        reading.tables.push((table.clone(), found.clone()));
        Ok(found)
    }

    /// The tracked table that a name means; nothing for another one.
    pub(crate) async fn tracked(
        &self,
        session: &mut Session,
        name: &TableName,
    ) -> Result<Option<Arc<Entry>>> {
        match introspect::named(session, name).await? {
            Some(exact) => catalog::find_exact(session, &exact).await,
            None => Err(Error::new(ErrorKind::NotFound, format!("there is no table {:?}", name.to_string()))),
        }
    }

    async fn find_anew(&self, session: &mut Session, name: &TableName) -> Result<Found> {
        let Some(entry) = self.tracked(session, name).await? else {
            let seen = name.to_string();
            if self.today.iter().any(|table| *table == seen || *table == name.name) {
                return Ok(Found::Today);
            }
            return Err(Error::new(
                ErrorKind::Unknowable,
                format!(
                    "{seen:?} is not tracked: what it was is not known. Track it, or read it as it is today with `and_today`"
                ),
            ));
        };
        let today = of_today(session, &entry).await?;
        let point = match &self.what {
            What::AsOf(at) => {
                let point = resolve(session, &entry, at).await?;
                answerable(&entry, point.bound)?;
                Some(point)
            }
            What::Versions { latest: true } => None,
            What::Versions { latest: false } => {
                // Of a moment before all of them.
                entry.refuse_archived(Bound::Time(entry.since))?;
                None
            }
        };
        Ok(Found::Tracked(Arc::new(Tracked { entry, today, point })))
    }

    /// What stands in for a table; `first` where only its first rows will be read.
    fn query(&self, Tracked { entry, today, point }: &Tracked, first: bool) -> Result<String> {
        let dialect = sql::dialect(self.database);
        let now = entry.layout()?;
        let Some(point) = point else {
            let fields = all_fields(&entry.epochs);
            let source = Source { layout: now, fields: &fields, sparse: entry.sparse() };
            let latest = matches!(self.what, What::Versions { latest: true });
            return Ok(then::versions(dialect, today, &source, latest));
        };
        let wanted = Wanted { first, ..Wanted::default() };
        let (state, then) = state_sql(dialect, entry, point, &wanted)?;
        Ok(then::relation(dialect, today, now, then, &state))
    }
}

/// A tracked table as it is today, whose columns the history must all know.
async fn of_today(session: &mut Session, entry: &Entry) -> Result<Table> {
    let Some(today) = introspect::exact(session, &entry.table).await? else {
        return Err(Error::new(ErrorKind::Drifted, "the table is gone").on(&entry.table));
    };
    let now = entry.layout()?;
    let unknown = today.columns.iter().find(|column| {
        now.field(&column.name).is_none() && !now.left_out.iter().any(|left| left.name == column.name)
    });
    match unknown {
        Some(column) => Err(Error::new(
            ErrorKind::Drifted,
            format!("its column {:?} is not known to the history: migrate", column.name),
        )
        .on(&entry.table)),
        None => Ok(today),
    }
}

impl Past {
    /// For queries of sqlx's, on PostgreSQL.
    #[cfg(feature = "postgres")]
    pub fn postgres(&self) -> PastOn<'_, sqlx::Postgres> {
        PastOn { past: self, connection: |session| session.postgres() }
    }

    /// For queries of sqlx's, on SQLite.
    ///
    /// ```
    /// # use afterimage::{Afterimage, PointInTime, Tracking};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    /// # let setup = "CREATE TABLE orders (id INTEGER PRIMARY KEY, status TEXT); INSERT INTO orders VALUES (1, 'open')";
    /// # sqlx::raw_sql(setup).execute(&pool).await?;
    /// # let audit = Afterimage::from_sqlite(pool);
    /// # audit.track("orders", Tracking::new()).await?;
    /// let past = audit.at(PointInTime::parse("now", "UTC")?).await?;
    /// let query = sqlx::query("SELECT id, status FROM orders WHERE id = ?").bind(1);
    /// let orders: Vec<(i64, String)> = past.sqlite().fetch_all(query).await?;
    /// assert_eq!(orders, [(1, "open".to_owned())]);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "sqlite")]
    pub fn sqlite(&self) -> PastOn<'_, sqlx::Sqlite> {
        PastOn { past: self, connection: |session| session.sqlite() }
    }

    /// For queries of sqlx's, on MariaDB.
    #[cfg(feature = "mysql")]
    pub fn mariadb(&self) -> PastOn<'_, sqlx::MySql> {
        PastOn { past: self, connection: |session| session.mariadb() }
    }
}

/// The past, for queries of sqlx's on one database. Rows are of any type that reads itself off a row.
#[derive(Debug, Clone, Copy)]
pub struct PastOn<'p, D: sqlx::Database> {
    past: &'p Past,
    connection: fn(&mut Session) -> Result<&mut D::Connection>,
}

impl<D: sqlx::Database + sqlx::database::HasStatementCache> PastOn<'_, D>
where
    for<'c> &'c mut D::Connection: sqlx::Executor<'c, Database = D>,
    D::Arguments: sqlx::IntoArguments<D>,
{
    /// All rows of a query.
    pub async fn fetch_all<'q, T>(&self, query: impl sqlx::Execute<'q, D>) -> Result<Vec<T>>
    where
        T: for<'r> sqlx::FromRow<'r, D::Row>,
    {
        let mut rows = Vec::new();
        self.each(query, |row| {
            rows.push(T::from_row(&row)?);
            Ok(true)
        })
        .await?;
        Ok(rows)
    }

    /// The first row of a query, if there is one.
    pub async fn fetch_optional<'q, T>(&self, query: impl sqlx::Execute<'q, D>) -> Result<Option<T>>
    where
        T: for<'r> sqlx::FromRow<'r, D::Row>,
    {
        let mut first = None;
        self.each(query, |row| {
            first = Some(T::from_row(&row)?);
            Ok(false)
        })
        .await?;
        Ok(first)
    }

    /// The first row of a query; that there is none is an error.
    pub async fn fetch_one<'q, T>(&self, query: impl sqlx::Execute<'q, D>) -> Result<T>
    where
        T: for<'r> sqlx::FromRow<'r, D::Row>,
    {
        self.fetch_optional(query).await?.ok_or_else(|| sqlx::Error::RowNotFound.into())
    }

    /// Hands over the rows one by one, until `take` says that it has enough.
    pub async fn each<'q>(
        &self,
        mut query: impl sqlx::Execute<'q, D>,
        mut take: impl FnMut(D::Row) -> Result<bool>,
    ) -> Result<()> {
        let arguments = query.take_arguments().map_err(sqlx::Error::Encode)?.unwrap_or_default();
        let mut reading = self.past.reading.lock().await;
        let sql = self.past.rewritten(&mut reading, query.sql().as_str()).await?;
        let connection = (self.connection)(&mut reading.session)?;
        let mut rows = once::rows(connection, sql, arguments);
        while let Some(row) = rows.try_next().await? {
            if !take(row)? {
                break;
            }
        }
        Ok(())
    }
}
