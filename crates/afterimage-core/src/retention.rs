//! How long records are kept.

use std::fmt;
use std::str::FromStr;

use jiff::{Span, Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::time::Moment;

/// Which records of a table are kept: those that any of its rules keeps.
///
/// Whatever it says, a row's last record stays, and so does the version that was current at the cut.
///
/// ```
/// use afterimage_core::{Moment, Retention};
/// let retention: Retention = "365 days, last 20 versions".parse().unwrap();
/// assert_eq!(retention.to_string(), "365 days, last 20 versions");
/// let now = Moment::parse("2026-11-29", Moment::from_micros(0), "UTC").unwrap();
/// let cut = retention.cut(now).unwrap().unwrap();
/// assert_eq!(cut.moment.unwrap().to_string(), "2025-11-29T00:00:00.000000Z");
/// assert_eq!(cut.versions, Some(20));
/// let locked: Retention = "until 2030-01-01, 1 year".parse().unwrap();
/// assert_eq!(locked.cut(now).unwrap(), None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Retention {
    /// Records that are not older than this: a span of the calendar, such as `365 days` or `10 years`.
    span: Option<String>,
    /// So many of the newest records of each row.
    versions: Option<u32>,
    /// All of them, until this moment; from then on those of before may go.
    until: Option<Moment>,
}

/// Up to where records may go, at some moment: those that are older than the moment and than the versions, where there are
/// both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Records of before this.
    pub moment: Option<Moment>,
    /// Records with so many newer ones of the same row.
    pub versions: Option<u32>,
}

impl Retention {
    /// Keeps what is not older than so many days.
    pub fn days(days: u32) -> Self {
        Self { span: Some(format!("{days} days")), versions: None, until: None }
    }

    /// Keeps so many of the newest records of each row.
    pub fn versions(versions: u32) -> Self {
        Self { span: None, versions: Some(versions.max(1)), until: None }
    }

    /// Keeps everything until a moment, and from then on everything that is not older than it.
    pub fn until(moment: Moment) -> Self {
        Self { span: None, versions: None, until: Some(moment) }
    }

    /// Keeps what this keeps, and what another does.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            span: other.span.or(self.span),
            versions: other.versions.or(self.versions),
            until: other.until.or(self.until),
        }
    }

    /// Up to where records may go now; nothing, as long as all are kept.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`] where the span leads to a year that no calendar has.
    pub fn cut(&self, now: Moment) -> Result<Option<Cut>> {
        if self.until.is_some_and(|until| now < until) {
            return Ok(None);
        }
        let moment = match &self.span {
            Some(span) => Some(back(now, span)?),
            None if self.versions.is_none() => self.until,
            None => None,
        };
        Ok(Some(Cut { moment, versions: self.versions }))
    }
}

fn back(now: Moment, span: &str) -> Result<Moment> {
    let too_long = || Error::new(ErrorKind::InvalidOption, format!("{span:?} is too long a time to be kept"));
    let now = Timestamp::from_microsecond(now.as_micros()).map_err(|_| too_long())?;
    let then = now.to_zoned(TimeZone::UTC).checked_sub(parsed(span)?).map_err(|_| too_long())?;
    Ok(Moment::from_micros(then.timestamp().as_microsecond()))
}

fn parsed(text: &str) -> Result<Span> {
    let span: Span = text.parse().map_err(|_| wrong(text))?;
    if span.signum() > 0 { Ok(span) } else { Err(wrong(text)) }
}

fn wrong(rule: &str) -> Error {
    Error::new(ErrorKind::InvalidOption, format!("{rule:?} does not say what is kept"))
        .help("write \"365 days\", \"10 years\", \"last 20 versions\", \"until 2030-01-01\", or several of these with commas: what any of them keeps is kept")
}

impl FromStr for Retention {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut retention = Self { span: None, versions: None, until: None };
        for rule in text.split(',').map(str::trim) {
            let rule = rule.strip_prefix("keep ").unwrap_or(rule);
            let twice = if let Some(rest) = rule.strip_prefix("last ") {
                let mut words = rest.split_whitespace();
                let (count, unit, end) = (words.next(), words.next(), words.next());
                let count: u32 = count
                    .and_then(|digits| digits.parse().ok())
                    .filter(|n| *n > 0)
                    .ok_or_else(|| wrong(rule))?;
                if !matches!(unit, Some("version" | "versions")) || end.is_some() {
                    return Err(wrong(rule));
                }
                retention.versions.replace(count).is_some()
            } else if let Some(day) = rule.strip_prefix("until ") {
                let moment = Moment::parse(day, Moment::now(), "UTC").map_err(|_| wrong(rule))?;
                retention.until.replace(moment).is_some()
            } else {
                parsed(rule)?;
                retention.span.replace(rule.to_owned()).is_some()
            };
            if twice {
                return Err(Error::new(
                    ErrorKind::InvalidOption,
                    format!("{text:?} has two rules of one kind"),
                ));
            }
        }
        Ok(retention)
    }
}

impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rules = Vec::new();
        rules.extend(self.span.clone());
        rules.extend(
            self.versions.map(|count| format!("last {count} version{}", if count == 1 { "" } else { "s" })),
        );
        rules.extend(self.until.map(|until| {
            let text = until.to_string();
            format!("until {}", text.strip_suffix("T00:00:00.000000Z").unwrap_or(&text))
        }));
        f.write_str(&rules.join(", "))
    }
}

impl TryFrom<String> for Retention {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Retention> for String {
    fn from(retention: Retention) -> Self {
        retention.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Moment {
        Moment::parse(text, Moment::from_micros(0), "UTC").unwrap()
    }

    #[test]
    fn what_is_written_is_read_again() {
        for text in [
            "365 days",
            "10 years",
            "1 year 6 months",
            "last 1 version",
            "last 20 versions",
            "until 2030-01-01",
            "until 2030-01-01T12:30:00.000000Z",
            "5y, last 3 versions, until 2030-01-01",
        ] {
            let retention: Retention = text.parse().unwrap();
            assert_eq!(retention.to_string(), text);
            let json = serde_json::to_string(&retention).unwrap();
            assert_eq!(serde_json::from_str::<Retention>(&json).unwrap(), retention);
        }
        assert_eq!("keep 90 days".parse::<Retention>().unwrap(), Retention::days(90));
        assert_eq!(
            "last 3 versions, 90 days".parse::<Retention>().unwrap(),
            Retention::days(90).and(Retention::versions(3))
        );
    }

    #[test]
    fn what_does_not_say_what_is_kept_is_refused() {
        for text in [
            "",
            "days",
            "0 days",
            "-5 days",
            "365",
            "last 0 versions",
            "last versions",
            "last 3",
            "last 3 versions of all",
            "until",
            "until never",
            "for ever",
            "1 year,",
            "1 year, 2 years",
            "last 2 versions, last 3 versions",
        ] {
            assert!(text.parse::<Retention>().is_err(), "{text}");
        }
        assert!(
            "30000 years"
                .parse::<Retention>()
                .map(|long| long.cut(at("2026-01-01")))
                .map_or(true, |cut| cut.is_err())
        );
    }

    #[test]
    fn the_cut_follows_the_calendar() {
        let cut = |text: &str, now: &str| text.parse::<Retention>().unwrap().cut(at(now)).unwrap();
        let moment = |text: &str| Some(Cut { moment: Some(at(text)), versions: None });
        assert_eq!(cut("1 year", "2024-02-29T12:00"), moment("2023-02-28T12:00"));
        assert_eq!(cut("1 month", "2026-03-31"), moment("2026-02-28"));
        assert_eq!(cut("until 2026-01-01", "2026-05-01"), moment("2026-01-01"));
        assert_eq!(cut("until 2026-01-01, 30 days", "2026-05-31"), moment("2026-05-01"));
        assert_eq!(cut("until 2027-01-01, 30 days", "2026-05-31"), None);
        assert_eq!(
            cut("until 2026-01-01, last 3 versions", "2026-05-31"),
            Some(Cut { moment: None, versions: Some(3) })
        );
    }
}
