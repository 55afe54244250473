//! How a history is cut into partitions, where the database has these.

use std::fmt;
use std::str::FromStr;

use jiff::{Timestamp, ToSpan as _, Zoned, civil::Weekday, tz::TimeZone};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::time::Moment;

/// The stretch of time that one partition holds, by the calendar in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Period {
    /// A day.
    Day,
    /// A week, from Monday on.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

const NAMES: [(&str, Period); 4] =
    [("day", Period::Day), ("week", Period::Week), ("month", Period::Month), ("year", Period::Year)];

/// How a history is cut into partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partitions {
    /// What one of them holds.
    pub by: Period,
    /// How many are made ahead of time, after that of now.
    pub ahead: u16,
}

impl Period {
    /// When the period began that a moment lies in.
    ///
    /// ```
    /// use afterimage_core::{Moment, Period};
    /// let moment = Moment::parse("2026-11-29T20:08", Moment::from_micros(0), "UTC").unwrap();
    /// let begin = Period::Month.begin(moment).unwrap();
    /// assert_eq!(begin.to_string(), "2026-11-01T00:00:00.000000Z");
    /// assert_eq!(Period::Month.after(begin).unwrap().to_string(), "2026-12-01T00:00:00.000000Z");
    /// assert_eq!(Period::Month.suffix(begin).unwrap(), "_2026_11");
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`] for a year that no calendar has.
    pub fn begin(self, moment: Moment) -> Result<Moment> {
        let at = calendar(moment)?;
        let day = match self {
            Self::Day => Ok(at),
            Self::Week => {
                let since = at.weekday().since(Weekday::Monday);
                at.checked_sub(i64::from(since).days())
            }
            Self::Month => at.first_of_month(),
            Self::Year => at.first_of_year(),
        };
        day.and_then(|day| day.start_of_day()).map(|day| moment_of(&day)).map_err(|_| no_such_year())
    }

    /// When the next one begins.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    pub fn after(self, begin: Moment) -> Result<Moment> {
        let span = match self {
            Self::Day => 1.day(),
            Self::Week => 1.week(),
            Self::Month => 1.month(),
            Self::Year => 1.year(),
        };
        calendar(begin)?.checked_add(span).map(|next| moment_of(&next)).map_err(|_| no_such_year())
    }

    /// What the name of the partition that begins at a moment ends with.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    pub fn suffix(self, begin: Moment) -> Result<String> {
        let pattern = match self {
            Self::Day | Self::Week => "_%Y_%m_%d",
            Self::Month => "_%Y_%m",
            Self::Year => "_%Y",
        };
        Ok(calendar(begin)?.strftime(pattern).to_string())
    }
}

fn calendar(moment: Moment) -> Result<Zoned> {
    let at = Timestamp::from_microsecond(moment.as_micros()).map_err(|_| no_such_year())?;
    Ok(at.to_zoned(TimeZone::UTC))
}

fn moment_of(at: &Zoned) -> Moment {
    Moment::from_micros(at.timestamp().as_microsecond())
}

fn no_such_year() -> Error {
    Error::new(ErrorKind::InvalidOption, "no calendar has that year")
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES.iter().find(|(_, period)| period == self).map_or("", |(name, _)| name))
    }
}

impl FromStr for Period {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let known = NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        known.map(|(_, period)| *period).ok_or_else(|| {
            Error::new(ErrorKind::InvalidOption, format!("{text:?} is no period"))
                .help("day, week, month or year")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_follow_one_another_without_a_hole() {
        let at = |text: &str| Moment::parse(text, Moment::from_micros(0), "UTC").unwrap();
        for (period, moment, begin, next, suffix) in [
            (Period::Day, "2024-02-29T23:59:59", "2024-02-29", "2024-03-01", "_2024_02_29"),
            (Period::Week, "2026-11-29T12:00", "2026-11-23", "2026-11-30", "_2026_11_23"),
            (Period::Week, "2026-11-30", "2026-11-30", "2026-12-07", "_2026_11_30"),
            (Period::Month, "2024-02-29", "2024-02-01", "2024-03-01", "_2024_02"),
            (Period::Month, "2026-12-31T23:59:59.999999", "2026-12-01", "2027-01-01", "_2026_12"),
            (Period::Year, "2026-11-29", "2026-01-01", "2027-01-01", "_2026"),
        ] {
            let begun = period.begin(at(moment)).unwrap();
            assert_eq!(begun, at(begin), "{period} {moment}");
            assert_eq!(period.after(begun).unwrap(), at(next));
            assert_eq!(period.suffix(begun).unwrap(), suffix);
            assert_eq!(period.begin(period.after(begun).unwrap()).unwrap(), at(next));
            assert_eq!(period.to_string().parse::<Period>().unwrap(), period);
        }
        assert!("fortnight".parse::<Period>().is_err());
        assert!(Period::Year.after(at("9999-01-01")).is_err());
    }
}
