//! Which column of a file holds which field, and how a value of the database becomes one of Parquet's, and again what it was.

use std::collections::BTreeMap;
use std::sync::Arc;

use afterimage_core::sql::sqlite::Affinity;
use afterimage_core::value::Shown;
use afterimage_core::{Field, Keeping, Moment, Value};
use arrow_array::builder::{
    ArrayBuilder, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder,
    Int64Builder, StringBuilder, TimestampMicrosecondBuilder, UInt64Builder,
};
use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType, UInt64Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, TimeUnit};
use serde_json::value::RawValue;

use crate::error::{Error, Result};

/// What a masked value is called.
const MASKED: &str = "(masked)";

/// What Parquet's column of a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Integers of 64 bits.
    Int,
    /// The same without a sign.
    Unsigned,
    /// Floats of 64 bits.
    Float,
    /// The same, of a database that keeps those without a fraction as integers.
    Numeric,
    /// Exact decimals: digits, and how many of them are decimals.
    Decimal(u8, i8),
    /// Truth values.
    Bool,
    /// Days.
    Date,
    /// Moments.
    Timestamp,
    /// Times of day on some day, of no zone.
    LocalTimestamp,
    /// Bytes.
    Bytes,
    /// Text, and the text of everything else.
    Text,
}

impl Kind {
    /// That of a field.
    pub fn of(field: &Field) -> Self {
        if field.keeping == Keeping::Masked {
            return Self::Text;
        }
        let declared = field.sql_type.to_lowercase();
        let base = declared.split('(').next().unwrap_or_default().trim();
        let first = base.split_whitespace().next().unwrap_or_default();
        match field.shown {
            Shown::Bool => Self::Bool,
            Shown::Bytes => Self::Bytes,
            Shown::Timestamp => Self::Timestamp,
            Shown::LocalTimestamp => Self::LocalTimestamp,
            Shown::Number => match first {
                "float" | "double" | "real" | "float4" | "float8" => Self::Float,
                _ if declared.contains("unsigned") || first == "bit" => Self::Unsigned,
                _ => Self::Int,
            },
            Shown::Dynamic => of_affinity(&declared),
            Shown::Text if base == "date" => Self::Date,
            Shown::Text if matches!(base, "numeric" | "decimal") => decimal(&declared),
            Shown::Text | Shown::Json => Self::Text,
        }
    }

    pub(crate) fn data_type(self) -> DataType {
        match self {
            Self::Int => DataType::Int64,
            Self::Unsigned => DataType::UInt64,
            Self::Float | Self::Numeric => DataType::Float64,
            Self::Decimal(precision, scale) => DataType::Decimal128(precision, scale),
            Self::Bool => DataType::Boolean,
            Self::Date => DataType::Date32,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::LocalTimestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::Bytes => DataType::Binary,
            Self::Text => DataType::Utf8,
        }
    }
}

/// A column of SQLite's: of a type that is none of its own (`DATE`, `JSON`), it is text more often than not.
fn of_affinity(declared: &str) -> Kind {
    match Affinity::of(declared) {
        Affinity::Integer => Kind::Int,
        Affinity::Blob if !declared.is_empty() => Kind::Bytes,
        Affinity::Real => Kind::Float,
        Affinity::Numeric if declared.contains("num") || declared.contains("dec") => Kind::Numeric,
        Affinity::Text | Affinity::Blob | Affinity::Numeric => Kind::Text,
    }
}

/// `numeric(10,2)`; of more digits than Parquet's 38, or of as many as somebody likes, text.
fn decimal(declared: &str) -> Kind {
    let digits =
        declared.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map(|(digits, _)| digits);
    let Some(digits) = digits else { return Kind::Text };
    let mut numbers = digits.split(',').map(|number| number.trim().parse::<i8>().ok());
    let (precision, scale) = (numbers.next().flatten(), numbers.next().unwrap_or(Some(0)));
    match (precision, scale) {
        (Some(precision @ 1..=38), Some(scale @ 0..)) if scale <= precision => {
            Kind::Decimal(precision.unsigned_abs(), scale)
        }
        _ => Kind::Text,
    }
}

/// The columns of a file: one for each field.
#[derive(Debug, Clone)]
pub struct Columns {
    pub(crate) fields: Vec<Field>,
    pub(crate) kinds: Vec<Kind>,
}

impl Columns {
    /// Those of some fields, each under the name that it has in the history.
    pub fn new(fields: Vec<Field>) -> Self {
        let kinds = fields.iter().map(Kind::of).collect();
        Self { fields, kinds }
    }

    /// The fields.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }
}

/// Collects the values of one column.
pub(crate) struct Values {
    kind: Kind,
    shown: Shown,
    masked: bool,
    builder: Box<dyn ArrayBuilder>,
}

macro_rules! push {
    ($self:ident, $builder:ty, $value:expr) => {
        if let Some(builder) = $self.builder.as_any_mut().downcast_mut::<$builder>() {
            builder.append_option($value);
        }
    };
}

impl Values {
    pub(crate) fn new(kind: Kind, field: &Field) -> Self {
        let builder: Box<dyn ArrayBuilder> = match kind {
            Kind::Int => Box::new(Int64Builder::new()),
            Kind::Unsigned => Box::new(UInt64Builder::new()),
            Kind::Float | Kind::Numeric => Box::new(Float64Builder::new()),
            Kind::Decimal(..) => Box::new(Decimal128Builder::new().with_data_type(kind.data_type())),
            Kind::Bool => Box::new(BooleanBuilder::new()),
            Kind::Date => Box::new(Date32Builder::new()),
            Kind::Timestamp | Kind::LocalTimestamp => {
                Box::new(TimestampMicrosecondBuilder::new().with_data_type(kind.data_type()))
            }
            Kind::Bytes => Box::new(BinaryBuilder::new()),
            Kind::Text => Box::new(StringBuilder::new()),
        };
        Self { kind, shown: field.shown, masked: field.keeping == Keeping::Masked, builder }
    }

    /// Takes a value; whether that tells it exactly.
    pub(crate) fn push(&mut self, value: &Value) -> bool {
        let text = match value {
            Value::Number(text) | Value::Text(text) | Value::Json(text) => Some(text.as_str()),
            Value::Masked => Some(MASKED),
            _ => None,
        };
        match self.kind {
            Kind::Int => {
                let int: Option<i64> = text.and_then(|text| text.parse().ok());
                push!(self, Int64Builder, int);
                told_by_digits(value, int.is_some())
            }
            Kind::Unsigned => {
                let int: Option<u64> = text.and_then(|text| text.parse().ok());
                push!(self, UInt64Builder, int);
                told_by_digits(value, int.is_some())
            }
            Kind::Float | Kind::Numeric => {
                let float: Option<f64> = match value {
                    Value::Number(text) => text.parse().ok(),
                    _ => None,
                };
                push!(self, Float64Builder, float);
                told(value, float.map(|float| of_float(float, self.kind, self.shown)))
            }
            Kind::Decimal(precision, scale) => {
                let unscaled = text.and_then(|text| unscaled(text, precision, scale));
                push!(self, Decimal128Builder, unscaled);
                told(value, unscaled.map(|unscaled| Value::Text(scaled(unscaled, scale))))
            }
            Kind::Bool => {
                let truth = match value {
                    Value::Bool(truth) => Some(*truth),
                    Value::Number(text) if text == "0" || text == "1" => Some(text == "1"),
                    _ => None,
                };
                push!(self, BooleanBuilder, truth);
                matches!(value, Value::Bool(_) | Value::Null)
            }
            Kind::Date => {
                let day = text.and_then(day_of);
                push!(self, Date32Builder, day);
                told(value, day.and_then(day_text).map(Value::Text))
            }
            Kind::Timestamp => {
                let micros = text.filter(|text| text.ends_with('Z')).and_then(micros_of);
                push!(self, TimestampMicrosecondBuilder, micros);
                told(value, micros.map(|micros| Value::Text(Moment::from_micros(micros).to_string())))
            }
            Kind::LocalTimestamp => {
                let micros = text.filter(|text| !text.ends_with('Z')).and_then(micros_of);
                push!(self, TimestampMicrosecondBuilder, micros);
                told(value, micros.map(|micros| Value::Text(local(micros))))
            }
            Kind::Bytes => {
                let bytes = match value {
                    Value::Bytes(bytes) => Some(bytes.as_slice()),
                    _ => None,
                };
                push!(self, BinaryBuilder, bytes);
                bytes.is_some() || value.is_null()
            }
            Kind::Text => {
                let said = match value {
                    Value::Bool(truth) => Some(if *truth { "true" } else { "false" }),
                    _ => text,
                };
                push!(self, StringBuilder, said);
                match value {
                    Value::Null => true,
                    Value::Masked => self.masked,
                    Value::Json(_) => !self.masked && self.shown == Shown::Json,
                    Value::Text(_) => !self.masked && self.shown != Shown::Json,
                    _ => false,
                }
            }
        }
    }

    pub(crate) fn finish(&mut self) -> ArrayRef {
        self.builder.finish()
    }
}

/// The digits of a float, as its database would have them.
fn of_float(float: f64, kind: Kind, shown: Shown) -> Value {
    let whole = float.fract() == 0.0 && float.abs() < 9e15 && !(float == 0.0 && float.is_sign_negative());
    match (kind, shown) {
        (Kind::Numeric, _) if whole => Value::Number(format!("{float}")),
        (_, Shown::Number) if float.is_finite() => Value::Number(format!("{float}")),
        _ => Value::from_f64(float),
    }
}

/// Whether an integer that was read of a value is written with the same digits.
fn told_by_digits(value: &Value, is_int: bool) -> bool {
    match value {
        Value::Number(text) if is_int => {
            let digits = text.strip_prefix('-').unwrap_or(text);
            !text.starts_with('+') && (!digits.starts_with('0') || text == "0")
        }
        other => !is_int && other.is_null(),
    }
}

fn told(value: &Value, said: Option<Value>) -> bool {
    match said {
        Some(said) => said == *value,
        None => value.is_null(),
    }
}

/// The value that stands in a row of a column, which is of that kind.
pub(crate) fn value_at(column: &Arc<dyn Array>, kind: Kind, field: &Field, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    match kind {
        Kind::Int => Value::Number(column.as_primitive::<Int64Type>().value(row).to_string()),
        Kind::Unsigned => Value::Number(column.as_primitive::<UInt64Type>().value(row).to_string()),
        Kind::Float | Kind::Numeric => {
            of_float(column.as_primitive::<Float64Type>().value(row), kind, field.shown)
        }
        Kind::Decimal(_, scale) => {
            Value::Text(scaled(column.as_primitive::<Decimal128Type>().value(row), scale))
        }
        Kind::Bool => Value::Bool(column.as_boolean().value(row)),
        Kind::Date => {
            Value::Text(day_text(column.as_primitive::<Date32Type>().value(row)).unwrap_or_default())
        }
        Kind::Timestamp => Value::Text(
            Moment::from_micros(column.as_primitive::<TimestampMicrosecondType>().value(row)).to_string(),
        ),
        Kind::LocalTimestamp => {
            Value::Text(local(column.as_primitive::<TimestampMicrosecondType>().value(row)))
        }
        Kind::Bytes => Value::Bytes(column.as_binary::<i32>().value(row).to_vec()),
        Kind::Text => {
            let text = column.as_string::<i32>().value(row).to_owned();
            match (field.keeping, field.shown) {
                (Keeping::Masked, _) => Value::Masked,
                (_, Shown::Json) => Value::Json(text),
                _ => Value::Text(text),
            }
        }
    }
}

/// A value as JSON that tells it from every other: as it is shown, but for what that does not tell from text.
pub(crate) fn other_of(value: &Value) -> Result<Box<RawValue>> {
    let tagged = |tag: &str, text: &str| serde_json::value::to_raw_value(&BTreeMap::from([(tag, text)]));
    Ok(match value {
        Value::Json(text) => tagged("$json", text)?,
        Value::Number(text) => match RawValue::from_string(text.clone()) {
            Ok(number) if number.get() == text => number,
            _ => tagged("$number", text)?,
        },
        _ => serde_json::value::to_raw_value(value)?,
    })
}

/// The value of such JSON.
pub(crate) fn of_other(json: &RawValue) -> Result<Value> {
    let text = json.get();
    let nothing = || Error::new(format!("{text} stands in the file, which says nothing"));
    Ok(match text.bytes().next() {
        Some(b'n') => Value::Null,
        Some(b't') => Value::Bool(true),
        Some(b'f') => Value::Bool(false),
        Some(b'"') => Value::Text(serde_json::from_str(text)?),
        Some(b'{') => {
            let object: BTreeMap<String, serde_json::Value> = serde_json::from_str(text)?;
            let (tag, value) = object.first_key_value().ok_or_else(nothing)?;
            match (tag.as_str(), value.as_str()) {
                ("$bytes", Some(text)) => Value::from_base64(text).ok_or_else(nothing)?,
                ("$json", Some(text)) => Value::Json(text.to_owned()),
                ("$number", Some(text)) => Value::Number(text.to_owned()),
                ("$masked", None) => Value::Masked,
                ("$redacted", None) => Value::Redacted,
                ("$unknown", None) => Value::Unknown,
                _ => return Err(nothing()),
            }
        }
        _ => Value::Number(text.to_owned()),
    })
}

/// `12.30` at two decimals is 1230; nothing where it has others, or too many digits.
fn unscaled(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let scale = usize::try_from(scale).ok()?;
    let digits = whole.trim_start_matches('-');
    let plain = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if fraction.len() > scale || digits.is_empty() || !plain(digits) || !plain(fraction) {
        return None;
    }
    let number: i128 = format!("{whole}{fraction:0<scale$}").parse().ok()?;
    (number.unsigned_abs() < 10_u128.pow(u32::from(precision))).then_some(number)
}

fn scaled(unscaled: i128, scale: i8) -> String {
    let scale = usize::from(scale.unsigned_abs());
    let sign = if unscaled < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

const DAY_MICROS: i64 = 86_400_000_000;

fn micros_of(text: &str) -> Option<i64> {
    Some(
        match text.strip_suffix('Z') {
            Some(_) => Moment::from_text(text)?,
            None => Moment::from_text(&format!("{text}Z"))?,
        }
        .as_micros(),
    )
}

fn local(micros: i64) -> String {
    let mut text = Moment::from_micros(micros).to_string();
    text.pop();
    text
}

fn day_of(text: &str) -> Option<i32> {
    let plain = text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    let micros = plain.then(|| micros_of(&format!("{text}T00:00:00"))).flatten()?;
    i32::try_from(micros.div_euclid(DAY_MICROS)).ok()
}

fn day_text(day: i32) -> Option<String> {
    let text = Moment::from_micros(i64::from(day).checked_mul(DAY_MICROS)?).to_string();
    text.split_once('T').map(|(day, _)| day.to_owned())
}
