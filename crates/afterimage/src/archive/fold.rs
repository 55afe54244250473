//! From the records of a history, row by row, to what an archive keeps of them.

use std::collections::VecDeque;

use afterimage_archive::Archived;
use afterimage_core::{Action, Field, Moment, Record, Value, layout};

use crate::catalog::Entry;
use crate::error::Result;
use crate::session::{Cell, Row};
use crate::versions;

/// Takes records row by row, oldest first, and gives those that another record followed by the cut: all but the one that was current
/// then, and what transactions wrote that had not ended.
pub(super) struct Rows<'e> {
    entry: &'e Entry,
    fields: &'e [Field],
    /// The places of the key among the fields.
    key: Vec<usize>,
    unfinished: &'e [String],
    /// The number and the key of the row.
    row: Option<(Option<i64>, Vec<Value>)>,
    /// The whole row as it stood after the last record.
    state: Vec<Value>,
    /// Whether the last record was of a row that is there.
    there: bool,
    /// Records that nothing is known to have followed.
    waiting: VecDeque<Archived>,
}

impl<'e> Rows<'e> {
    pub(super) fn new(entry: &'e Entry, fields: &'e [Field], unfinished: &'e [String]) -> Result<Self> {
        let place = |key: &Field| fields.iter().position(|field| field.bit == key.bit);
        Ok(Self {
            entry,
            fields,
            key: entry.layout()?.key_fields().filter_map(place).collect(),
            unfinished,
            row: None,
            state: Vec::new(),
            there: false,
            waiting: VecDeque::new(),
        })
    }

    /// Takes the next of [`row_by_row`](afterimage_core::sql::archive::row_by_row); gives what it shows to have been followed.
    pub(super) fn next(&mut self, mut row: Row) -> Result<Vec<Archived>> {
        let arrived_from = row.split_off(row.len() - self.fields.len());
        let rest = row.split_off(row.len() - 4);
        let number = rest[0].int();
        let (began, scope) = (rest[1].int().map(Moment::from_micros), rest[2].int());
        let departed = rest[3].int() == Some(1);
        let record = versions::record(row, self.entry.layout()?, self.fields)?;
        let key: Vec<Value> = self.key.iter().map(|place| record.values[*place].clone()).collect();
        let same = self.row.as_ref().is_some_and(|(known, known_key)| match number {
            Some(_) => *known == number,
            None => *known_key == key,
        });
        if !same {
            self.waiting.clear();
            self.row = Some((number, key));
            self.state = vec![Value::Null; self.fields.len()];
            self.there = false;
        }
        let at = (record.header.date, record.header.id);
        if let Some(last) = self.waiting.back_mut() {
            last.until = at;
        }
        let finished = !record.header.tx.as_ref().is_some_and(|tx| self.unfinished.contains(tx));
        let followed = if finished { self.waiting.drain(..).collect() } else { Vec::new() };
        let whole = self.whole(record, same, arrived_from);
        let (record, before) = whole;
        self.waiting.push_back(Archived { record, before, until: at, began, scope, departed });
        Ok(followed)
    }

    /// The record with the whole row, and what its changed fields were before.
    fn whole(&mut self, mut record: Record, same: bool, arrived_from: Row) -> (Record, Vec<Value>) {
        let full = layout::is_full(&record.mask);
        let old = std::mem::take(&mut self.state);
        let header = &record.header;
        let values = std::mem::take(&mut record.values).into_iter().enumerate();
        let says = |place: usize| {
            full || layout::names(&record.mask, &self.fields[place]) || self.key.contains(&place)
        };
        let mut now: Vec<Value> =
            values.map(|(place, value)| if says(place) { value } else { old[place].clone() }).collect();
        self.state.clone_from(&now);
        let arrived = header.action == Action::Create && header.old_key.is_some();
        let mut olds: Vec<Value> = match (header.action, arrived) {
            (Action::Create, true) => {
                let cells = self.fields.iter().zip(arrived_from);
                cells.map(|(field, cell): (_, Cell)| versions::value(field, cell)).collect()
            }
            (Action::Update, _) => old,
            _ => vec![Value::Null; self.fields.len()],
        };
        let unknown = match header.action {
            Action::Update => !same || !self.there,
            _ => arrived && olds.iter().all(Value::is_null),
        };
        let at = (header.date, header.id);
        self.entry.redact_record(self.fields, at, &mut now, Some(&mut olds));
        for (field, old) in self.fields.iter().zip(&mut olds) {
            let changed = layout::names(&record.mask, field);
            if !changed || !(arrived || header.action == Action::Update) {
                *old = Value::Null;
            } else if unknown {
                *old = Value::Unknown;
            }
        }
        self.there = header.action != Action::Delete;
        record.values = now;
        (record, olds)
    }
}
