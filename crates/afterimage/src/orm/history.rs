//! An entity's versions, as models.

use std::fmt;

use afterimage_core::layout::{Keeping, names};
use afterimage_core::record::{Epoch, all_fields, epoch_at};
use afterimage_core::sql::then;
use afterimage_core::{Action, Field, Header, Layout, Moment, TableName};
use futures_util::TryStreamExt as _;
use futures_util::stream::BoxStream;
use sea_orm::sea_query::value::sea_value_to_json_value as to_json;
use sea_orm::sea_query::{Alias, Expr, ExprTrait as _, IntoIden as _, Order, SelectStatement};
use sea_orm::{
    ColumnTrait, DbErr, EntityTrait, FromQueryResult as _, IdenStatic as _, Iterable as _, ModelTrait,
    PrimaryKeyToColumn as _, QueryFilter, QueryOrder, QueryResult, QuerySelect, QueryTrait as _, Select,
    Value,
};

use super::backend;
use super::soft_delete::KeyOf;
use super::statement::Call;
use crate::database::Afterimage;
use crate::error::{Error, ErrorKind, Result};
use crate::past::Past;
use crate::restore::{Restore, Revert};
use crate::versions::Selector;

/// The column of an entity's model.
pub type ColumnOf<M> = <<M as ModelTrait>::Entity as EntityTrait>::Column;

/// A record of a row, as the model that the row was after it; of a deletion, the model that it was before.
pub struct Version<M: ModelTrait> {
    /// Who, why and when.
    pub header: Header,
    /// The row. A column that the table got later, and one that is masked, hold what
    /// [`Afterimage::at`](crate::Afterimage::at) says.
    pub model: M,
    /// Which columns the record changed: all of a creation and a deletion.
    pub changed: Vec<ColumnOf<M>>,
    /// Columns that the table did not have yet.
    pub missing: Vec<ColumnOf<M>>,
}

impl<M: ModelTrait> Version<M> {
    /// What differs in another version, from this one to that.
    pub fn diff(&self, other: &Self) -> Vec<Changed<ColumnOf<M>>> {
        diff(&self.model, &other.model)
    }

    /// A revert of the row to this version, for [`Afterimage::revert`](crate::Afterimage::revert).
    pub fn revert(&self) -> Revert {
        let table = table_of::<M::Entity>();
        Revert::new(table.to_string(), key_text(&self.model), Selector::Record(self.header.id))
    }

    /// A restore of the row, which has been deleted, for [`Afterimage::restore`](crate::Afterimage::restore).
    pub fn restore(&self) -> Restore {
        Restore::new(table_of::<M::Entity>().to_string(), key_text(&self.model))
    }
}

impl<M: ModelTrait> Clone for Version<M> {
    fn clone(&self) -> Self {
        Self {
            header: self.header.clone(),
            model: self.model.clone(),
            changed: self.changed.clone(),
            missing: self.missing.clone(),
        }
    }
}

impl<M: ModelTrait> fmt::Debug for Version<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Version")
            .field("header", &self.header)
            .field("model", &self.model)
            .field("changed", &self.changed)
            .field("missing", &self.missing)
            .finish()
    }
}

/// A column whose value differs.
#[derive(Debug, Clone, PartialEq)]
pub struct Changed<C> {
    /// The column.
    pub column: C,
    /// What it was.
    pub old: Value,
    /// What it is.
    pub new: Value,
}

/// What differs from one model to another, in the order of the columns.
pub fn diff<M: ModelTrait>(old: &M, new: &M) -> Vec<Changed<ColumnOf<M>>> {
    ColumnOf::<M>::iter()
        .filter_map(|column| {
            let (old, new) = (old.get(column), new.get(column));
            (old != new).then_some(Changed { column, old, new })
        })
        .collect()
}

/// The table of an entity.
pub(super) fn table_of<E: EntityTrait>() -> TableName {
    let entity = E::default();
    TableName { schema: entity.schema_name().map(ToOwned::to_owned), name: entity.table_name().to_owned() }
}

/// A model's key, as JSON.
fn key_text<M: ModelTrait>(model: &M) -> String {
    let key = <M::Entity as EntityTrait>::PrimaryKey::iter().map(|key| {
        let column = key.into_column();
        (column.as_str().to_owned(), to_json(&model.get(column)))
    });
    serde_json::Value::Object(key.collect()).to_string()
}

/// The history of an entity.
pub trait Tracked: EntityTrait {
    /// All versions of all rows, newest first: a select like any other, with filters on the columns of the model and those
    /// of the records.
    ///
    /// A filter here is one on versions. One on the state of a time is for
    /// [`Afterimage::at`](crate::Afterimage::at).
    fn history() -> History<Self> {
        History::new(Self::find())
    }

    /// All versions that ever had this key.
    fn history_of(key: KeyOf<Self>) -> History<Self> {
        History::new(Self::find_by_id(key))
    }

    /// One version of each row, the latest: of a row that is deleted, its deletion. So
    /// `latest_of_each().action(Action::Delete)` are the rows that can be restored.
    fn latest_of_each() -> History<Self> {
        History { latest: true, ..History::new(Self::find()) }
    }
}

impl<E: EntityTrait> Tracked for E {}

/// The history of a model.
pub trait TrackedModel: ModelTrait {
    /// All versions that ever had this model's key, newest first.
    fn history(&self) -> History<Self::Entity> {
        let mut history = History::new(Self::Entity::find());
        for key in <Self::Entity as EntityTrait>::PrimaryKey::iter() {
            let column = key.into_column();
            history = history.filter(column.eq(self.get(column)));
        }
        history
    }
}

impl<M: ModelTrait> TrackedModel for M {}

/// Versions of an entity's rows, to be asked for.
#[derive(Debug, Clone)]
pub struct History<E: EntityTrait> {
    select: Select<E>,
    changed: Vec<E::Column>,
    oldest_first: bool,
    latest: bool,
}

impl<E: EntityTrait> QueryFilter for History<E> {
    type QueryStatement = SelectStatement;

    fn query(&mut self) -> &mut SelectStatement {
        QueryFilter::query(&mut self.select)
    }
}

impl<E: EntityTrait> QueryOrder for History<E> {
    type QueryStatement = SelectStatement;

    fn query(&mut self) -> &mut SelectStatement {
        QueryFilter::query(&mut self.select)
    }
}

impl<E: EntityTrait> QuerySelect for History<E> {
    type QueryStatement = SelectStatement;

    fn query(&mut self) -> &mut SelectStatement {
        QueryFilter::query(&mut self.select)
    }
}

impl<E: EntityTrait> History<E> {
    fn new(select: Select<E>) -> Self {
        Self { select, changed: Vec::new(), oldest_first: false, latest: false }
    }

    /// The versions that it asks of.
    async fn versions(&self, audit: &Afterimage) -> Result<Past> {
        if self.latest { audit.latest_versions().await } else { audit.all_versions().await }
    }

    /// Oldest first.
    #[must_use]
    pub fn oldest_first(mut self) -> Self {
        self.oldest_first = true;
        self
    }

    /// Only records by this actor.
    #[must_use]
    pub fn by(self, actor: impl Into<String>) -> Self {
        self.filter(column::<E>("history_user").eq(actor.into()))
    }

    /// Only records that did this.
    #[must_use]
    pub fn action(self, action: Action) -> Self {
        self.filter(column::<E>("history_type").eq(action.sign()))
    }

    /// Only records for this reason.
    #[must_use]
    pub fn reason(self, reason: impl Into<String>) -> Self {
        self.filter(column::<E>("history_change_reason").eq(reason.into()))
    }

    /// Only records of this transaction.
    #[must_use]
    pub fn transaction(self, tx: impl Into<String>) -> Self {
        self.filter(column::<E>("history_tx").eq(tx.into()))
    }

    /// Only records dated then or later.
    #[must_use]
    pub fn since(self, moment: Moment) -> Self {
        self.filter(column::<E>("history_date").gte(moment.as_micros()))
    }

    /// Only records dated then or earlier.
    #[must_use]
    pub fn until(self, moment: Moment) -> Self {
        self.filter(column::<E>("history_date").lte(moment.as_micros()))
    }

    /// Only records that changed this column; called again, either.
    #[must_use]
    pub fn changed(mut self, column: E::Column) -> Self {
        self.changed.push(column);
        self
    }

    /// Only records after this one, in the order asked for: where the page after a version's begins.
    #[must_use]
    pub fn after(self, version: &Version<E::Model>) -> Self {
        let (date, id) = (version.header.date.as_micros(), version.header.id);
        let (at, number) = (column::<E>("history_date"), column::<E>("history_id"));
        let beyond = |expr: Expr, value: i64| if self.oldest_first { expr.gt(value) } else { expr.lt(value) };
        let beyond = beyond(at.clone(), date).or(at.eq(date).and(beyond(number, id)));
        self.filter(beyond)
    }

    /// All of them.
    pub async fn all(self, audit: &Afterimage) -> Result<Vec<Version<E::Model>>> {
        let past = self.versions(audit).await?;
        let mut reading = past.reading.lock().await;
        let asked = self.asked(&past, &mut reading).await?;
        let rows = asked.call.all(&mut reading.session).await?;
        rows.iter().map(|row| asked.known.version(row)).collect()
    }

    /// The first of them.
    pub async fn one(self, audit: &Afterimage) -> Result<Option<Version<E::Model>>> {
        Ok(self.limit(1).all(audit).await?.pop())
    }

    /// How many there are.
    pub async fn count(self, audit: &Afterimage) -> Result<u64> {
        let past = self.versions(audit).await?;
        let mut reading = past.reading.lock().await;
        let known = Known::<E>::find(&past, &mut reading).await?;
        let mut query = self.narrowed(&known)?.into_query();
        query.clear_selects().clear_order_by().expr(Expr::cust("1"));
        let count = sea_orm::sea_query::Query::select()
            .expr_as(Expr::cust("COUNT(*)"), "versions")
            .from_subquery(query, "counted")
            .to_owned();
        let statement = backend(past.database).build(&count);
        let row = past.call(&mut reading, statement).await?.one(&mut reading.session).await?;
        let count: i64 = row.map_or(Ok(0), |row| row.try_get("", "versions"))?;
        Ok(u64::try_from(count).unwrap_or_default())
    }

    /// One by one, as they come. The transaction in which they are read is open as long as the stream lives.
    pub async fn stream(self, audit: &Afterimage) -> Result<BoxStream<'static, Result<Version<E::Model>>>>
    where
        E::Model: Send,
        E::Column: Send,
    {
        let past = self.versions(audit).await?;
        let mut reading = std::sync::Arc::clone(&past.reading).lock_owned().await;
        let Asked { call, known } = self.asked(&past, &mut reading).await?;
        Ok(Box::pin(async_stream::try_stream! {
            let mut rows = call.rows(&mut reading.session);
            while let Some(row) = rows.try_next().await? {
                yield known.version(&row)?;
            }
        }))
    }

    async fn asked(self, past: &Past, reading: &mut crate::past::Reading) -> Result<Asked<E>> {
        let known = Known::<E>::find(past, reading).await?;
        let order = if self.oldest_first { Order::Asc } else { Order::Desc };
        let mut select = self.narrowed(&known)?;
        for name in then::header(&known.layout) {
            QueryFilter::query(&mut select).expr_as(column::<E>(&name), Alias::new(&name));
        }
        for name in ["history_date", "history_id"] {
            QueryFilter::query(&mut select).order_by_expr(column::<E>(name), order.clone());
        }
        let statement = select.build(backend(past.database));
        let call = past.call(reading, statement).await?;
        Ok(Asked { call, known })
    }

    /// With the condition on what a record changed.
    fn narrowed(self, known: &Known<E>) -> Result<Select<E>> {
        let mut any: Option<Expr> = None;
        for wanted in &self.changed {
            let field = known.fields.iter().find(|field| field.name == wanted.as_str()).ok_or_else(|| {
                Error::new(
                    ErrorKind::InvalidInput,
                    format!("its column {:?} is not tracked", wanted.as_str()),
                )
                .on(&known.layout.table)
            })?;
            let (word, bit) = field.word_and_bit();
            let mask = column::<E>(&afterimage_core::layout::word_column(word));
            let names = mask.bit_and(bit).ne(0);
            any = Some(match any {
                Some(others) => others.or(names),
                None => names,
            });
        }
        Ok(match any {
            Some(any) => self.select.filter(any),
            None => self.select,
        })
    }
}

/// A column of the entity's records.
fn column<E: EntityTrait>(name: &str) -> Expr {
    Expr::col((E::default().into_iden(), Alias::new(name)))
}

/// A question, and how its answer is read.
struct Asked<E: EntityTrait> {
    call: Call,
    known: Known<E>,
}

/// What is known of an entity's history.
struct Known<E: EntityTrait> {
    layout: Layout,
    epochs: Vec<Epoch>,
    fields: Vec<Field>,
    entity: std::marker::PhantomData<fn() -> E>,
}

impl<E: EntityTrait> Known<E> {
    async fn find(past: &Past, reading: &mut crate::past::Reading) -> Result<Self> {
        let entry = past.tracked(&mut reading.session, &table_of::<E>()).await?;
        let Some(entry) = entry else {
            let table = table_of::<E>();
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("{:?} is not tracked, so it has no history: track it", table.to_string()),
            ));
        };
        Ok(Self {
            layout: entry.layout()?.clone(),
            epochs: entry.epochs.clone(),
            fields: all_fields(&entry.epochs),
            entity: std::marker::PhantomData,
        })
    }

    fn version(&self, row: &QueryResult) -> Result<Version<E::Model>> {
        let text = |name: &str| row.try_get::<Option<String>>("", name);
        let id: i64 = row.try_get("", "history_id")?;
        let sign = text("history_type")?.unwrap_or_default();
        let header = Header {
            id,
            date: Moment::from_micros(row.try_get("", "history_date")?),
            action: Action::from_sign(&sign).ok_or_else(|| {
                Error::new(ErrorKind::Unknowable, format!("record {id} has no type")).on(&self.layout.table)
            })?,
            user: text("history_user")?,
            reason: text("history_change_reason")?,
            context: text("history_context")?,
            tx: text("history_tx")?,
            old_key: text("history_old_key")?,
            archive: None,
        };
        let mask = self
            .layout
            .word_columns()
            .map(|word| row.try_get::<Option<i64>>("", &word).map(Option::unwrap_or_default))
            .collect::<Result<Vec<i64>, DbErr>>()?;
        let then = epoch_at(&self.epochs, header.date).map_or(&self.layout, |epoch| &epoch.layout);
        let had = |field: &Field| then.fields.iter().any(|old| old.bit == field.bit);
        let tracked = |column: &E::Column| self.layout.field(column.as_str());
        let model = E::Model::from_query_result(row, "").map_err(|error| self.unreadable(error))?;
        Ok(Version {
            model,
            changed: E::Column::iter()
                .filter(|column| tracked(column).is_some_and(|field| had(field) && names(&mask, field)))
                .collect(),
            missing: E::Column::iter()
                .filter(|column| tracked(column).is_some_and(|field| !had(field)))
                .collect(),
            header,
        })
    }

    /// Why a row is no model: often since a column of it is masked, which is NULL where it is no text.
    fn unreadable(&self, error: DbErr) -> Error {
        let masked: Vec<&str> = self
            .layout
            .fields
            .iter()
            .filter(|field| field.keeping == Keeping::Masked)
            .map(|field| field.name.as_str())
            .collect();
        let hint = if masked.is_empty() {
            String::new()
        } else {
            format!(" (masked are {}: what is no text is NULL then)", masked.join(", "))
        };
        Error::new(ErrorKind::InvalidInput, format!("a version does not fit the model: {error}{hint}"))
            .on(&self.layout.table)
    }
}
