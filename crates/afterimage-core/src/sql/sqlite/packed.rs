//! Many values of a row as one JSON text: a driver that copies each value of a row on its own has one to copy.

use crate::layout::Field;
use crate::name::Quoted;
use crate::sql::log::{Asked, Holds, Source};

/// A constant that a function takes as its 33rd value or later may be something else from the second row on (SQLite 3.40, 3.51): what
/// it keeps for the next row, where one of the first 32 is a constant, it does not keep otherwise.
const AT_ONCE: usize = 32;

/// Of each field whether the history holds a value of it that JSON does not tell exactly: it has fifteen digits of a floating point
/// number, and no bytes.
pub(super) fn told_apart(source: &Source<'_>) -> String {
    let holds = |field: &Field| {
        let column = Quoted::new(&field.history);
        format!("max(CASE typeof({column}) WHEN 'real' THEN 1 WHEN 'blob' THEN 1 END)")
    };
    let each: Vec<String> = source.fields.iter().map(holds).collect();
    format!("SELECT {} FROM {}", each.join(", "), source.layout.history.quoted())
}

/// The columns by which these values are handed over: a JSON array, or arrays of arrays, in which they stand one after the other; then
/// those that are told apart, for which an empty array stands in it.
pub(super) fn columns(values: &[Asked]) -> Vec<String> {
    let in_json = |value: &Asked| match value.holds {
        Holds::Known => value.sql.clone(),
        // Bytes, which a column of texts takes too, are none to JSON, or JSON themselves.
        Holds::Given => format!("CAST({} AS TEXT)", value.sql),
        Holds::Anything => "json_array()".to_owned(),
    };
    let mut packed: Vec<String> = values.iter().map(in_json).collect();
    while packed.len() > 1 {
        packed = packed.chunks(AT_ONCE).map(|some| format!("json_array({})", some.join(", "))).collect();
    }
    let apart = values.iter().filter(|value| value.holds == Holds::Anything).map(|value| value.sql.clone());
    packed.into_iter().chain(apart).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_function_takes_more_values_than_it_keeps() {
        let holds = |n| match n % 20 {
            0 => Holds::Given,
            9 => Holds::Anything,
            _ => Holds::Known,
        };
        let asked = |n| Asked { sql: format!("h.c{n}"), holds: holds(n) };
        let columns = columns(&(0..34).map(asked).collect::<Vec<_>>());
        let expected = "json_array(json_array(CAST(h.c0 AS TEXT), h.c1, h.c2, h.c3, h.c4, h.c5, h.c6, h.c7, h.c8, json_array(), h.c10, h.c11, \
                        h.c12, h.c13, h.c14, h.c15, h.c16, h.c17, h.c18, h.c19, CAST(h.c20 AS TEXT), h.c21, h.c22, h.c23, h.c24, h.c25, \
                        h.c26, h.c27, h.c28, json_array(), h.c30, h.c31), json_array(h.c32, h.c33))";
        assert_eq!(columns, [expected, "h.c9", "h.c29"]);
    }
}
