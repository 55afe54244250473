//! Tracking an entity's table, by its own columns.

use std::marker::PhantomData;

use afterimage_core::{Storage, Tracking};
use sea_orm::{EntityTrait, IdenStatic as _, Iterable as _, PrimaryKeyToColumn as _};

use super::history::table_of;
use crate::registration::{Builder, Model};

/// How an entity's table is tracked.
#[derive(Debug, Clone)]
pub struct Options<E> {
    tracking: Tracking,
    entity: PhantomData<fn() -> E>,
}

impl<E: EntityTrait> Options<E> {
    /// Full records: the fastest to read as of a time. It is so unless told otherwise.
    #[must_use]
    pub fn snapshot(self) -> Self {
        self.with(|tracking| tracking.storage = Storage::Snapshot)
    }

    /// Sparse records, of what changed: the smallest.
    #[must_use]
    pub fn delta(self) -> Self {
        self.with(|tracking| tracking.storage = Storage::Delta)
    }

    /// Tracks this column, and of the others only those that are included too, and the key.
    #[must_use]
    pub fn include(self, column: E::Column) -> Self {
        self.with(|tracking| tracking.include.push(column.as_str().to_owned()))
    }

    /// Leaves this column out.
    #[must_use]
    pub fn exclude(self, column: E::Column) -> Self {
        self.with(|tracking| tracking.exclude.push(column.as_str().to_owned()))
    }

    /// Never stores this column's values: only that it changed, and whether it was NULL.
    #[must_use]
    pub fn mask(self, column: E::Column) -> Self {
        self.with(|tracking| tracking.mask.push(column.as_str().to_owned()))
    }

    /// The column whose value names a row for people.
    #[must_use]
    pub fn label(self, column: E::Column) -> Self {
        self.with(|tracking| tracking.label = Some(column.as_str().to_owned()))
    }

    /// Rows of this entity belong to a row of the tracked one.
    #[must_use]
    pub fn related<R: EntityTrait>(self) -> Self {
        self.with(|tracking| tracking.related.push(table_of::<R>().to_string()))
    }

    /// Records updates that change no tracked column too.
    #[must_use]
    pub fn record_unchanged(self) -> Self {
        self.with(|tracking| tracking.record_unchanged = true)
    }

    /// The name of the history, where it is not `<table>_history`.
    #[must_use]
    pub fn history(self, name: impl Into<String>) -> Self {
        self.with(|tracking| tracking.history = Some(name.into()))
    }

    fn with(mut self, set: impl FnOnce(&mut Tracking)) -> Self {
        set(&mut self.tracking);
        self
    }
}

impl Builder {
    /// An entity's table. That the table has the model's columns and its key is checked when it is installed.
    #[must_use]
    pub fn track<E: EntityTrait>(self, options: impl FnOnce(Options<E>) -> Options<E>) -> Self {
        let options = options(Options { tracking: Tracking::new(), entity: PhantomData });
        let model = Model {
            columns: E::Column::iter().map(|column| column.as_str().to_owned()).collect(),
            key: E::PrimaryKey::iter().map(|key| key.into_column().as_str().to_owned()).collect(),
        };
        self.registered(table_of::<E>().to_string(), options.tracking, Some(model))
    }
}
