//! Whatever a value is, it is read from a file as it was written.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use afterimage_archive::{Archived, Columns, Kind, Reader, Writer, glimpse, read_numbers, write_numbers};
use afterimage_core::value::Shown;
use afterimage_core::{Action, Field, Header, Keeping, Moment, Record, Value};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;

fn field(bit: u16, name: &str, sql_type: &str, shown: Shown) -> Field {
    Field {
        bit,
        name: name.to_owned(),
        history: name.to_owned(),
        sql_type: sql_type.to_owned(),
        collation: None,
        shown,
        plain_equality: true,
        keeping: Keeping::Stored,
        number: i32::from(bit),
    }
}

const TYPES: [(&str, Shown); 22] = [
    ("bigint", Shown::Number),
    ("bigint(20) unsigned", Shown::Number),
    ("double precision", Shown::Number),
    ("real", Shown::Number),
    ("numeric(10,2)", Shown::Text),
    ("numeric(38,38)", Shown::Text),
    ("numeric", Shown::Text),
    ("decimal(5)", Shown::Text),
    ("boolean", Shown::Bool),
    ("date", Shown::Text),
    ("timestamp with time zone", Shown::Timestamp),
    ("datetime(6)", Shown::LocalTimestamp),
    ("bytea", Shown::Bytes),
    ("jsonb", Shown::Json),
    ("text", Shown::Text),
    ("uuid", Shown::Text),
    ("INTEGER", Shown::Dynamic),
    ("REAL", Shown::Dynamic),
    ("NUMERIC", Shown::Dynamic),
    ("BLOB", Shown::Dynamic),
    ("", Shown::Dynamic),
    ("BOOLEAN", Shown::Bool),
];

fn values() -> impl Strategy<Value = Value> {
    let number = |text: &str| Value::Number(text.to_owned());
    let text = |text: &str| Value::Text(text.to_owned());
    prop_oneof![
        3 => Just(Value::Null),
        1 => prop::sample::select(vec![Value::Masked, Value::Redacted, Value::Unknown, Value::Bool(true), Value::Bool(false)]),
        3 => any::<i64>().prop_map(|int| Value::Number(int.to_string())),
        3 => any::<f64>().prop_map(Value::from_f64),
        3 => any::<i32>().prop_map(|int| Value::Text(format!("{}.{:02}", int / 100, (int % 100).abs()))),
        3 => any::<i64>().prop_map(|micros| Value::Text(Moment::from_micros(micros % 200_000_000_000_000_000).to_string())),
        2 => any::<i64>().prop_map(|micros| Value::Text(Moment::from_micros(micros % 200_000_000_000_000_000).to_string().replace('Z', ""))),
        2 => any::<i64>().prop_map(|micros| Value::Text(Moment::from_micros(micros % 200_000_000_000_000_000).to_string()[..10].to_owned())),
        2 => prop::collection::vec(any::<u8>(), 0..9).prop_map(Value::Bytes),
        2 => ".{0,12}".prop_map(Value::Text),
        1 => Just(Value::Json("{\"a\": [1.00, null]}".to_owned())),
        4 => prop::sample::select(vec![
            number("1e+300"), number("-0"), number("-0.0"), number("18446744073709551615"), number("007"), number("1.50"), number("0.1"),
            text("NaN"), text("infinity"), text("(masked)"), text("null"), text("{\"$redacted\":true}"), text("-0.00"), text("0044-03-15 BC"),
            text("-.5"), text("1"), text("2026-02-30"), text("2026-11-29T24:00:00.000000Z"), text("99999999999999999999999999999999999999"),
            number("99999999999999999999"), text(""), text("t"), number("1"), number("0"), number("9007199254740993"),
        ]),
    ]
}

fn records(fields: usize) -> impl Strategy<Value = Archived> {
    let some = || proptest::option::of(".{0,8}");
    let sides = (prop::collection::vec(values(), fields), prop::collection::vec(values(), fields));
    let header = (any::<i64>(), any::<i64>(), 0_usize..3, some(), some(), some(), some(), some());
    (
        header,
        sides,
        prop::collection::vec(any::<bool>(), fields),
        any::<i64>(),
        proptest::option::of(any::<i64>()),
    )
        .prop_map(
            |(
                (id, date, action, user, reason, context, tx, old_key),
                (values, before),
                changed,
                until,
                scope,
            )| {
                let mut mask = vec![1_i64];
                for (n, _) in changed.iter().enumerate().filter(|(_, changed)| **changed) {
                    let bit = n * 5 + 1;
                    mask.resize(mask.len().max(bit / 63 + 1), 0);
                    mask[bit / 63] |= 1 << (bit % 63);
                }
                let action = [Action::Create, Action::Update, Action::Delete][action];
                let date = Moment::from_micros(date);
                let header = Header { id, date, action, user, reason, context, tx, old_key, archive: None };
                Archived {
                    record: Record { header, mask, values },
                    before,
                    until: (Moment::from_micros(until), id.wrapping_add(1)),
                    began: scope.map(Moment::from_micros),
                    scope,
                    departed: id % 2 == 0,
                }
            },
        )
}

fn columns() -> Columns {
    // Their bits are spread over two words of the mask.
    let fields = TYPES.iter().enumerate().map(|(n, (sql_type, shown))| {
        field(u16::try_from(n * 5 + 1).unwrap(), &format!("c{n}"), sql_type, *shown)
    });
    Columns::new(fields.collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_written_is_read(records in prop::collection::vec(records(TYPES.len()), 0..40)) {
        let mut writer = Writer::new(columns(), Vec::new()).unwrap();
        for record in &records {
            writer.push(record).unwrap();
        }
        let file = bytes::Bytes::from(writer.finish().unwrap());
        let reader = Reader::open(file.clone()).unwrap();
        let columns = columns();
        prop_assert_eq!(reader.columns().fields(), columns.fields());
        let read: Vec<Archived> = reader.map(Result::unwrap).collect();
        prop_assert_eq!(&read, &records);
        // What is seen of it in passing, and the records at some places.
        let mut places = Vec::new();
        glimpse(file.clone(), true, |seen| {
            let Archived { record, until, began, .. } = &records[seen.place];
            let header = &record.header;
            assert_eq!((seen.at, seen.until, seen.began), ((header.date, header.id), *until, *began));
            assert_eq!((seen.action, seen.departed), (Some(header.action), records[seen.place].departed));
            let said = [&header.user, &header.reason, &header.context, &header.tx, &header.old_key];
            assert_eq!([seen.user, seen.reason, seen.context, seen.tx, seen.old_key], said.map(|text| text.as_deref()));
            if header.id % 3 == 0 {
                places.push(seen.place);
            }
        }).unwrap();
        let some: Vec<Archived> = Reader::of_places(file, &places).unwrap().map(Result::unwrap).collect();
        let wanted: Vec<Archived> = records.into_iter().filter(|archived| archived.record.header.id % 3 == 0).collect();
        prop_assert_eq!(some, wanted);
    }
}

proptest! {
    #[test]
    fn numbers_come_back_sorted(numbers in prop::collection::vec(any::<i64>(), 0..300)) {
        let written = bytes::Bytes::from(write_numbers(numbers.clone()).unwrap());
        let mut sorted = numbers;
        sorted.sort_unstable();
        prop_assert_eq!(read_numbers(written).unwrap(), sorted);
    }
}

#[test]
fn a_column_has_the_type_that_it_had() {
    let kinds: Vec<Kind> =
        TYPES.iter().map(|(sql_type, shown)| Kind::of(&field(1, "c", sql_type, *shown))).collect();
    use Kind::*;
    assert_eq!(
        kinds,
        [
            Int,
            Unsigned,
            Float,
            Float,
            Decimal(10, 2),
            Decimal(38, 38),
            Text,
            Decimal(5, 0),
            Bool,
            Date,
            Timestamp,
            LocalTimestamp,
            Bytes,
            Text,
            Text,
            Text,
            Int,
            Float,
            Numeric,
            Bytes,
            Text,
            Bool
        ]
    );
    let masked = Field { keeping: Keeping::Masked, ..field(1, "c", "bigint", Shown::Number) };
    assert_eq!(Kind::of(&masked), Text);
}

#[test]
fn what_is_no_archive_is_refused_in_words() {
    let open =
        |bytes: &[u8]| Reader::open(bytes::Bytes::copy_from_slice(bytes)).map(drop).unwrap_err().to_string();
    assert!(open(b"").contains("no sound Parquet"));
    assert!(open(b"not at all what it should be").contains("no sound Parquet"));
    let mut writer = Writer::new(columns(), Vec::new()).unwrap();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..100 {
        writer.push(&records(TYPES.len()).new_tree(&mut runner).unwrap().current()).unwrap();
    }
    let file = writer.finish().unwrap();
    // Cut off anywhere, or with any byte changed: an error, or other records, never a panic.
    for at in (0..file.len()).step_by(97) {
        let read = |bytes: Vec<u8>| match Reader::open(bytes::Bytes::from(bytes)) {
            Ok(reader) => drop(reader.take(200).take_while(Result::is_ok).count()),
            Err(error) => drop(error.to_string()),
        };
        read(file[..at].to_vec());
        let mut changed = file.clone();
        changed[at] ^= 0x55;
        read(changed);
    }
}
