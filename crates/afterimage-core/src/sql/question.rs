//! Questions whose text is the same whatever they ask about, so that a database keeps them prepared.

use super::Dialect;
use crate::layout::{Field, Layout};
use crate::name::{TableName, literal};
use crate::time::Moment;
use crate::value::Value;

/// The text of a question about more histories than these is too long to be kept.
pub const MOST_KEPT: usize = 16;

/// A question of ours: its text, and the values of its parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// The text.
    pub sql: String,
    /// What its parameters stand for, in their order: texts, and bytes.
    pub given: Vec<Value>,
    /// Whether the same text will come again, so that it pays to have it prepared.
    pub kept: bool,
    /// The histories that it reads, where it may be asked alone.
    pub alone: Option<Alone>,
}

/// A question that may be asked in no transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alone {
    /// The histories that it reads.
    pub histories: Vec<TableName>,
    /// Whether its values are of types that everybody knows, none of which can hold money.
    pub plain: bool,
}

impl Question {
    /// One that will not come again.
    pub fn once(sql: String) -> Self {
        Self { sql, given: Vec::new(), kept: false, alone: None }
    }
}

/// Something that a question asks about, and is given beside its text.
#[derive(Debug, Clone, Copy)]
pub enum About<'a> {
    /// A text.
    Text(&'a str),
    /// A whole number.
    Number(i64),
    /// A moment.
    Moment(Moment),
    /// A value of a key, which is compared as its column says.
    Key(&'a Value),
}

impl About<'_> {
    /// As the value of a parameter, as a text or bytes.
    pub(super) fn value(self) -> Value {
        match self {
            Self::Text(text) => Value::Text(text.to_owned()),
            Self::Number(number) => Value::Text(number.to_string()),
            Self::Moment(moment) => Value::Text(moment.to_string()),
            Self::Key(value) => value.clone(),
        }
    }
}

/// What a question asks about, while its text is written: beside it, where the database keeps questions prepared, or in it.
#[derive(Debug)]
pub(super) struct Given<'d> {
    dialect: &'d dyn Dialect,
    values: Vec<Value>,
    beside: bool,
}

impl<'d> Given<'d> {
    pub(super) fn beside(dialect: &'d dyn Dialect) -> Self {
        Self { dialect, values: Vec::new(), beside: dialect.keeps_questions() }
    }

    pub(super) fn inside(dialect: &'d dyn Dialect) -> Self {
        Self { dialect, values: Vec::new(), beside: false }
    }

    /// How the text names it: as a parameter, or by what `literal` writes.
    fn name(&mut self, about: About<'_>, literal: impl FnOnce() -> String) -> String {
        if !self.beside {
            return literal();
        }
        let (name, value) = self.dialect.parameter(self.values.len() + 1, about);
        self.values.push(value);
        name
    }

    pub(super) fn text(&mut self, text: &str) -> String {
        self.name(About::Text(text), || literal(text))
    }

    /// A value of a key.
    pub(super) fn key(&mut self, value: &Value, literal: impl FnOnce() -> String) -> String {
        self.name(About::Key(value), literal)
    }

    pub(super) fn moment(&mut self, moment: Moment) -> String {
        let dialect = self.dialect;
        self.name(About::Moment(moment), || dialect.moment(moment))
    }

    pub(super) fn number(&mut self, number: i64) -> String {
        self.name(About::Number(number), || number.to_string())
    }

    /// The question of one table's history, for these of its fields, and of others that it only looks into, which may be asked alone.
    pub(super) fn ask_one(
        self,
        sql: String,
        layout: &Layout,
        others: &[&Layout],
        fields: &[Field],
    ) -> Question {
        let mut histories = vec![layout.history.clone()];
        histories.extend(
            others.iter().map(|other| other.history.clone()).filter(|other| *other != layout.history),
        );
        let alone = || Alone { histories, plain: self.dialect.are_plain(fields) };
        let alone = self.beside.then(alone);
        Question { alone, ..self.ask(sql) }
    }

    pub(super) fn ask(self, sql: String) -> Question {
        Question { sql, given: self.values, kept: self.beside, alone: None }
    }
}
