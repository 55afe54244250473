//! Rows that SQLite hands over as one JSON text each, with what JSON does not tell exactly apart: the driver copies each value of a row
//! on its own, under a lock that its two threads share.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::error::{Error, ErrorKind, Result};
use crate::session::{Cell, Row, cell_of_sqlite};

/// The values of a row as [`row_by_row`](afterimage_core::sql::archive::row_by_row) asks for them.
pub(crate) fn unpacked(row: &SqliteRow) -> Result<Row> {
    let packed: &[u8] = row.try_get_unchecked(0)?;
    let read = match std::str::from_utf8(packed) {
        Ok(json) => read(json),
        Err(_) => read(&spelled(packed)).map(|mut cells| {
            cells.iter_mut().for_each(mean);
            cells
        }),
    };
    let unread =
        |error: &dyn fmt::Display| Error::new(ErrorKind::Database, format!("a row of SQLite's: {error}"));
    let cells = read.map_err(|error| unread(&error))?;
    let mut apart = 1..row.len();
    let mut told_apart = || apart.next().ok_or_else(|| unread(&"it has too few values"));
    cells
        .into_iter()
        .map(|cell| match cell {
            Some(cell) => Ok(cell),
            None => cell_of_sqlite(row, told_apart()?),
        })
        .collect()
}

/// The values of arrays in an array one after the other; nothing for one that is told apart.
fn read(json: &str) -> serde_json::Result<Vec<Option<Cell>>> {
    // As many as there may be, more or less, of short ones.
    let mut cells = Vec::with_capacity((json.len() / 6).min(256));
    let mut from = serde_json::Deserializer::from_str(json);
    Values(&mut cells).deserialize(&mut from)?;
    from.end()?;
    Ok(cells)
}

/// The characters that stand for bytes are the last 256 of a plane that is nobody's but its user's.
const BYTE: u32 = 0x10_FF00;

/// Bytes as a text: those that are no UTF-8, and those of characters that stand for bytes, by such characters.
fn spelled(bytes: &[u8]) -> String {
    let mut text = String::new();
    let byte = |byte: &u8| char::from_u32(BYTE + u32::from(*byte)).unwrap_or(char::REPLACEMENT_CHARACTER);
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match u32::from(character) < BYTE {
                true => text.push(character),
                false => text.extend(character.encode_utf8(&mut [0; 4]).as_bytes().iter().map(byte)),
            }
        }
        text.extend(chunk.invalid().iter().map(byte));
    }
    text
}

/// What was meant by a text that was spelled so: as every text that is no UTF-8, it is shown as the bytes it is.
fn mean(cell: &mut Option<Cell>) {
    let Some(Cell::Text(text)) = cell else { return };
    let mut bytes = Vec::new();
    for character in text.chars() {
        match u32::from(character).checked_sub(BYTE).and_then(|byte| u8::try_from(byte).ok()) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    *cell = Some(Cell::of_bytes(bytes));
}

/// Puts values behind others: those of an array one after the other, nothing for an empty one.
struct Values<'c>(&'c mut Vec<Option<Cell>>);

impl<'de> DeserializeSeed<'de> for Values<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> std::result::Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Values<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number, a text, null, or an array of these")
    }

    fn visit_unit<E>(self) -> std::result::Result<(), E> {
        self.0.push(Some(Cell::Null));
        Ok(())
    }

    fn visit_i64<E>(self, int: i64) -> std::result::Result<(), E> {
        self.0.push(Some(Cell::Int(int)));
        Ok(())
    }

    fn visit_u64<E: serde::de::Error>(self, int: u64) -> std::result::Result<(), E> {
        self.visit_i64(i64::try_from(int).map_err(E::custom)?)
    }

    /// A number, where some other crate asks `serde_json` for arbitrary precision.
    fn visit_map<A: MapAccess<'de>>(self, mut number: A) -> std::result::Result<(), A::Error> {
        use serde::de::Error as _;
        let digits = number.next_entry::<String, String>()?.map(|(_, digits)| digits);
        let int = digits.and_then(|digits| digits.parse().ok());
        self.visit_i64(int.ok_or_else(|| A::Error::custom("no whole number"))?)
    }

    fn visit_str<E>(self, text: &str) -> std::result::Result<(), E> {
        self.0.push(Some(Cell::Text(text.to_owned())));
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> std::result::Result<(), A::Error> {
        let before = self.0.len();
        while values.next_element_seed(Values(self.0))?.is_some() {}
        if self.0.len() == before {
            self.0.push(None);
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde::de::value::MapDeserializer;

    use super::*;

    #[test]
    fn values_are_read_in_whatever_arrays_they_stand() {
        let text = |text: &str| Some(Cell::Text(text.to_owned()));
        let read = read(r#"[[1,"a\u0000\"",[]],[null,-9223372036854775808,"[]"]]"#).unwrap();
        assert_eq!(
            read,
            [
                Some(Cell::Int(1)),
                text("a\0\""),
                None,
                Some(Cell::Null),
                Some(Cell::Int(i64::MIN)),
                text("[]")
            ]
        );
    }

    /// Whoever builds this with others may have asked `serde_json` for it.
    #[test]
    fn numbers_of_arbitrary_precision_are_read() {
        let mut cells = Vec::new();
        let number = [("$serde_json::private::Number", "9223372036854775807")];
        let map = MapDeserializer::<_, serde::de::value::Error>::new(number.into_iter());
        Values(&mut cells).deserialize(map).unwrap();
        assert_eq!(cells, [Some(Cell::Int(i64::MAX))]);
    }

    #[test]
    fn bytes_that_are_no_text_are_found_again() {
        let all: Vec<u8> =
            (0..=255).chain("\u{10feff}\u{10ff00}\u{10ffff}\u{e9}".bytes()).chain([0xC3]).collect();
        for bytes in [all.as_slice(), "é\u{10ffff}".as_bytes(), b"\xC3", b""] {
            let mut cell = Some(Cell::Text(spelled(bytes)));
            mean(&mut cell);
            assert_eq!(cell, Some(Cell::of_bytes(bytes.to_vec())));
        }
    }
}
