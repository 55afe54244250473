//! Questions whose text is the same whatever they ask about, so that a database keeps them prepared.

use super::Dialect;
use crate::time::Moment;
use crate::value::Value;

/// A question of ours: its text, and the values of its parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// The text.
    pub sql: String,
    /// What its parameters stand for, in their order: texts, and bytes.
    pub given: Vec<Value>,
    /// Whether the same text will come again, so that it pays to have it prepared.
    pub kept: bool,
}

impl Question {
    /// One that asks about nothing in particular: each time the same.
    pub fn fixed(dialect: &dyn Dialect, sql: String) -> Self {
        Self { sql, given: Vec::new(), kept: dialect.parameter(1, About::Text("")).is_some() }
    }

    /// One that will not come again.
    pub fn once(sql: String) -> Self {
        Self { sql, given: Vec::new(), kept: false }
    }
}

/// Something that a question asks about.
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

/// What a question asks about, while its text is written: beside it, where the database keeps questions prepared, or in it.
#[derive(Debug)]
pub(super) struct Given<'d> {
    dialect: &'d dyn Dialect,
    values: Vec<Value>,
    beside: bool,
}

impl<'d> Given<'d> {
    pub(super) fn beside(dialect: &'d dyn Dialect) -> Self {
        Self { dialect, values: Vec::new(), beside: dialect.parameter(1, About::Text("")).is_some() }
    }

    pub(super) fn inside(dialect: &'d dyn Dialect) -> Self {
        Self { dialect, values: Vec::new(), beside: false }
    }

    /// How the text names it: as a parameter, or by what `literal` writes.
    pub(super) fn name(&mut self, about: About<'_>, literal: impl FnOnce() -> String) -> String {
        let parameter = match self.beside {
            true => self.dialect.parameter(self.values.len() + 1, about),
            false => None,
        };
        match parameter {
            Some((name, value)) => {
                self.values.push(value);
                name
            }
            None => literal(),
        }
    }

    pub(super) fn moment(&mut self, moment: Moment) -> String {
        let dialect = self.dialect;
        self.name(About::Moment(moment), || dialect.moment(moment))
    }

    pub(super) fn number(&mut self, number: i64) -> String {
        self.name(About::Number(number), || number.to_string())
    }

    pub(super) fn ask(self, sql: String) -> Question {
        Question { sql, given: self.values, kept: self.beside }
    }
}
