//! Two states of a row, compared field by field.

use std::collections::BTreeSet;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value as Json;
use serde_json::value::RawValue;

use crate::error::{Error, ErrorKind, Result};
use crate::suggest;
use crate::value::Value;

/// Which fields are compared.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DiffOptions {
    /// Only these; all, where not given.
    pub include: Option<Vec<String>>,
    /// Not these; wins over `include`.
    pub exclude: Vec<String>,
}

/// A field that differs.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldDiff {
    /// Its name.
    pub field: String,
    /// Its value in the older state; NULL where that has no such column.
    pub old: Value,
    /// Its value in the newer one.
    pub new: Value,
    /// Of two JSON values, where inside they differ.
    pub inside: Vec<PathDiff>,
}

/// A place inside JSON that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathDiff {
    /// Where, as a JSON pointer (RFC 6901).
    pub path: String,
    /// What is there in the older value, as JSON; `None` where there is nothing.
    pub old: Option<String>,
    /// What is there in the newer one.
    pub new: Option<String>,
}

/// The fields that differ, in the order of the newer row's columns; those that only the older has come last.
///
/// An unknown name among those to be included is an error, among those to be left out it is not.
///
/// ```
/// use afterimage_core::Value;
/// use afterimage_core::diff::{DiffOptions, diff};
/// let row = |total: &str| vec![("id".to_owned(), Value::Number("1".into())), ("total".to_owned(), Value::Text(total.into()))];
/// let differences = diff(&row("1249.00"), &row("1149.00"), &DiffOptions::default())?;
/// assert_eq!(differences.len(), 1);
/// assert_eq!(differences[0].field, "total");
/// # Ok::<(), afterimage_core::Error>(())
/// ```
pub fn diff(
    old: &[(String, Value)],
    new: &[(String, Value)],
    options: &DiffOptions,
) -> Result<Vec<FieldDiff>> {
    let mut names: Vec<&str> = new.iter().map(|(name, _)| name.as_str()).collect();
    names.extend(old.iter().map(|(name, _)| name.as_str()).filter(|name| !has(new, name)));
    for name in options.include.iter().flatten() {
        if !names.contains(&name.as_str()) {
            let hint = suggest::hint(name, names.iter().copied());
            return Err(Error::new(
                ErrorKind::InvalidOption,
                format!("neither version has a column {name:?}{hint}"),
            ));
        }
    }
    let asked_for = |name: &str| {
        let among = |names: &[String]| names.iter().any(|known| known == name);
        options.include.as_deref().is_none_or(among) && !among(&options.exclude)
    };
    let value = |row: &[(String, Value)], name: &str| {
        row.iter().find(|(known, _)| known == name).map_or(Value::Null, |(_, value)| value.clone())
    };
    Ok(names
        .into_iter()
        .filter(|name| asked_for(name))
        .filter_map(|name| field_diff(name, value(old, name), value(new, name)))
        .collect())
}

fn has(row: &[(String, Value)], name: &str) -> bool {
    row.iter().any(|(known, _)| known == name)
}

fn field_diff(field: &str, old: Value, new: Value) -> Option<FieldDiff> {
    let inside = match (&old, &new) {
        _ if old == new => return None,
        (Value::Json(a), Value::Json(b)) => match inside(a, b) {
            // The same but for blanks or the order of members.
            Some(inside) if inside.is_empty() => return None,
            inside => inside.unwrap_or_default(),
        },
        _ => Vec::new(),
    };
    Some(FieldDiff { field: field.to_owned(), old, new, inside })
}

/// The places at which two JSON texts differ; `None` where one of them cannot be read.
pub fn inside(old: &str, new: &str) -> Option<Vec<PathDiff>> {
    let (old, new) = (Tree::read(old)?, Tree::read(new)?);
    let mut differences = Vec::new();
    compare("", Some(&old), Some(&new), &mut differences);
    Some(differences)
}

/// JSON whose numbers keep their digits.
#[derive(Debug, PartialEq)]
enum Tree {
    Members(Vec<(String, Tree)>),
    Items(Vec<Tree>),
    Text(String),
    Leaf(String),
}

impl Tree {
    fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        Some(match text.as_bytes().first()? {
            b'{' => {
                let members: Members<'_> = serde_json::from_str(text).ok()?;
                let read = |(name, raw): (String, &RawValue)| Some((name, Self::read(raw.get())?));
                Self::Members(members.0.into_iter().map(read).collect::<Option<_>>()?)
            }
            b'[' => {
                let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
                Self::Items(items.into_iter().map(|raw| Self::read(raw.get())).collect::<Option<_>>()?)
            }
            b'"' => Self::Text(serde_json::from_str(text).ok()?),
            _ => Self::Leaf(text.to_owned()),
        })
    }

    fn to_json(&self) -> String {
        let quoted = |text: &str| Json::String(text.to_owned()).to_string();
        match self {
            Self::Members(members) => {
                let members: Vec<String> = members
                    .iter()
                    .map(|(name, value)| format!("{}:{}", quoted(name), value.to_json()))
                    .collect();
                format!("{{{}}}", members.join(","))
            }
            Self::Items(items) => {
                format!("[{}]", items.iter().map(Self::to_json).collect::<Vec<_>>().join(","))
            }
            Self::Text(text) => quoted(text),
            Self::Leaf(text) => text.clone(),
        }
    }
}

/// An object's members, each name once: the last one counts, as in a database's own JSON.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Members<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<'a>(std::marker::PhantomData<&'a ()>);
        impl<'de: 'a, 'a> serde::de::Visitor<'de> for Visitor<'a> {
            type Value = Members<'a>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: serde::de::MapAccess<'de>>(self, mut map: M) -> Result<Members<'a>, M::Error> {
                let mut members: Vec<(String, &'a RawValue)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &'a RawValue>()? {
                    match members.iter_mut().find(|(known, _)| *known == name) {
                        Some(known) => known.1 = value,
                        None => members.push((name, value)),
                    }
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visitor(std::marker::PhantomData))
    }
}

fn compare(path: &str, old: Option<&Tree>, new: Option<&Tree>, differences: &mut Vec<PathDiff>) {
    match (old, new) {
        (Some(Tree::Members(a)), Some(Tree::Members(b))) => {
            let member = |members: &'_ [(String, Tree)], name: &str| {
                members.iter().position(|(known, _)| known == name)
            };
            let names: BTreeSet<&String> = a.iter().chain(b).map(|(name, _)| name).collect();
            for name in names {
                let path = format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"));
                let (old, new) = (member(a, name).map(|at| &a[at].1), member(b, name).map(|at| &b[at].1));
                compare(&path, old, new, differences);
            }
        }
        (Some(Tree::Items(a)), Some(Tree::Items(b))) => {
            for at in 0..a.len().max(b.len()) {
                compare(&format!("{path}/{at}"), a.get(at), b.get(at), differences);
            }
        }
        (old, new) if old == new => {}
        (old, new) => differences.push(PathDiff {
            path: path.to_owned(),
            old: old.map(Tree::to_json),
            new: new.map(Tree::to_json),
        }),
    }
}

impl Serialize for PathDiff {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw =
            |json: &Option<String>| json.as_ref().and_then(|json| RawValue::from_string(json.clone()).ok());
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("path", &self.path)?;
        // A member that is not there is left out; one that is null is null.
        for (name, side) in [("old", raw(&self.old)), ("new", raw(&self.new))] {
            if let Some(side) = side {
                map.serialize_entry(name, &side)?;
            }
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(values: &[(&str, Option<&str>)]) -> Vec<(String, Value)> {
        values
            .iter()
            .map(|(name, value)| {
                let value = value.map_or(Value::Null, |text| Value::Text(text.to_owned()));
                ((*name).to_owned(), value)
            })
            .collect()
    }

    fn fields(differences: &[FieldDiff]) -> Vec<&str> {
        differences.iter().map(|one| one.field.as_str()).collect()
    }

    fn only(include: Option<&[&str]>, exclude: &[&str]) -> DiffOptions {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<String>>();
        DiffOptions { include: include.map(owned), exclude: owned(exclude) }
    }

    #[test]
    fn fields_can_be_included_and_excluded() {
        let old =
            row(&[("choice", Some("idk")), ("poll", Some("2")), ("votes", Some("0")), ("same", Some("x"))]);
        let new =
            row(&[("choice", Some("hmm")), ("poll", Some("1")), ("votes", Some("3")), ("same", Some("x"))]);
        let found = |options: &DiffOptions| {
            diff(&old, &new, options)
                .map(|all| fields(&all).into_iter().map(str::to_owned).collect::<Vec<_>>())
        };
        assert_eq!(found(&DiffOptions::default()).unwrap(), ["choice", "poll", "votes"]);
        assert_eq!(found(&only(Some(&[]), &[])).unwrap(), [""; 0]);
        assert_eq!(found(&only(Some(&["poll", "votes"]), &["votes"])).unwrap(), ["poll"]);
        assert_eq!(found(&only(None, &["nope", "poll"])).unwrap(), ["choice", "votes"]);
        assert!(
            found(&only(Some(&["vote"]), &[])).unwrap_err().to_string().contains("did you mean \"votes\"?")
        );
    }

    #[test]
    fn a_column_that_one_side_lacks_reads_as_null() {
        let differences = diff(
            &row(&[("a", Some("1")), ("gone", Some("x"))]),
            &row(&[("a", Some("1")), ("new", Some("y"))]),
            &DiffOptions::default(),
        )
        .unwrap();
        assert_eq!(fields(&differences), ["new", "gone"]);
        assert!(differences[0].old.is_null() && differences[1].new.is_null());
    }

    #[test]
    fn json_is_compared_inside() {
        let places =
            inside(r#"{"a":{"b":[1,2]},"x/y":1,"n":1}"#, r#"{"n":1, "a":{"b":[1,3,null]},"x/y":2}"#).unwrap();
        let shown: Vec<String> = places
            .iter()
            .map(|p| format!("{} {:?} {:?}", p.path, p.old.as_deref(), p.new.as_deref()))
            .collect();
        assert_eq!(
            shown,
            [r#"/a/b/1 Some("2") Some("3")"#, r#"/a/b/2 None Some("null")"#, r#"/x~1y Some("1") Some("2")"#]
        );
        let long = "123456789012345678901234567890.10";
        assert_eq!(inside(&format!("[{long}]"), "[1]").unwrap()[0].old.as_deref(), Some(long));
    }

    #[test]
    fn json_in_another_order_is_no_difference() {
        let json = |text: &str| vec![("j".to_owned(), Value::Json(text.to_owned()))];
        let same = diff(&json(r#"{"a":1,"b":2}"#), &json(r#"{ "b" : 2, "a" : 1 }"#), &DiffOptions::default())
            .unwrap();
        assert_eq!(same, []);
    }

    proptest! {
        #[test]
        fn swapping_the_sides_mirrors_the_difference(
            old in prop::collection::vec(prop::option::of("[ab]{0,2}"), 4),
            new in prop::collection::vec(prop::option::of("[ab]{0,2}"), 4),
        ) {
            let row = |values: &[Option<String>]| -> Vec<(String, Value)> {
                values.iter().enumerate().map(|(n, v)| (format!("c{n}"), v.clone().map_or(Value::Null, Value::Text))).collect()
            };
            let there = diff(&row(&old), &row(&new), &DiffOptions::default()).unwrap();
            let back: Vec<FieldDiff> = diff(&row(&new), &row(&old), &DiffOptions::default()).unwrap().into_iter()
                .map(|d| FieldDiff { field: d.field, old: d.new, new: d.old, inside: d.inside }).collect();
            prop_assert_eq!(there, back);
            prop_assert!(diff(&row(&old), &row(&old), &DiffOptions::default()).unwrap().is_empty());
        }
    }
}
