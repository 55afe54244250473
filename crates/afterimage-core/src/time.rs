//! Moments, and times as people type them.

use std::fmt;

use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// A point in time, in microseconds since 1970-01-01T00:00:00Z: what every database can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Moment(i64);

impl Moment {
    /// From microseconds since the epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// The system's clock.
    pub fn now() -> Self {
        Self(Timestamp::now().as_microsecond())
    }

    /// Reads a time as people type it; `now` and `zone` settle what is relative or has no zone of its own.
    ///
    /// Understood: ISO 8601 with or without zone, a date (its start), `now`, `today`, `yesterday`,
    /// `yesterday 15:00`, `2h ago`, `3 days ago`, `2h` (ago), `15:00` (today), `tue 15:00` and `monday` (the last one
    /// before today), and any of these with a zone behind it, such as `2026-11-22 15:00 Europe/Berlin`.
    ///
    /// A local time that a change of clocks skips counts from the hour before; of one that comes twice, the first is
    /// meant.
    ///
    /// ```
    /// use afterimage_core::Moment;
    /// let now = Moment::parse("2026-11-22T20:00:00Z", Moment::from_micros(0), "UTC").unwrap();
    /// assert_eq!(Moment::parse("2017-06-01", now, "UTC").unwrap().to_string(), "2017-06-01T00:00:00.000000Z");
    /// assert_eq!(Moment::parse("yesterday 15:00", now, "UTC").unwrap().to_string(), "2026-11-21T15:00:00.000000Z");
    /// assert_eq!(Moment::parse("2h ago", now, "UTC").unwrap().to_string(), "2026-11-22T18:00:00.000000Z");
    /// ```
    pub fn parse(text: &str, now: Self, zone: &str) -> Result<Self> {
        let wrong = |why: String| {
            Error::new(ErrorKind::InvalidTime, format!("{text:?} is not a time{why}"))
                .help("write 2026-11-22, 2026-11-22T15:00, 2026-11-22T15:00:00Z, \"yesterday 15:00\", \"tue 15:00\", \"2h ago\" or tx:ID, with a zone behind it if you like")
        };
        let (text, zone) = zone_behind(text.trim(), zone);
        let zone = TimeZone::get(zone)
            .map_err(|_| Error::new(ErrorKind::InvalidTime, format!("{zone:?} is not a time zone")))?;
        let now = now.zoned(&zone).map_err(|e| wrong(format!(": {e}")))?;
        let found = absolute(text, &zone).or_else(|| in_words(&text.to_lowercase(), &now));
        found.map(|t| Self(t.as_microsecond())).ok_or_else(|| wrong(String::new()))
    }

    /// From a moment as it is printed, or in another form of RFC 3339.
    ///
    /// ```
    /// use afterimage_core::Moment;
    /// let moment = Moment::from_micros(1_711_929_600_000_001);
    /// assert_eq!(Moment::from_text(&moment.to_string()), Some(moment));
    /// assert_eq!(Moment::from_text("yesterday"), None);
    /// ```
    pub fn from_text(text: &str) -> Option<Self> {
        text.parse::<Timestamp>().ok().map(|at| Self(at.as_microsecond()))
    }

    /// Reads a time as the span that it names: a date is that whole day, anything else that second. From, inclusive,
    /// and until, exclusive.
    ///
    /// ```
    /// use afterimage_core::Moment;
    /// let (from, until) = Moment::parse_span("2026-11-20", Moment::now(), "UTC").unwrap();
    /// assert_eq!(until.as_micros() - from.as_micros(), 86_400_000_000);
    /// ```
    pub fn parse_span(text: &str, now: Self, zone: &str) -> Result<(Self, Self)> {
        let from = Self::parse(text, now, zone)?;
        let (bare, zone) = zone_behind(text.trim(), zone);
        let is_day = bare.parse::<Date>().is_ok() && !bare.contains(':')
            || ["today", "yesterday"].contains(&bare.to_lowercase().as_str())
            || weekday(&bare.to_lowercase()).is_some();
        let day_later = || {
            let zone = TimeZone::get(zone).ok()?;
            let begin = from.zoned(&zone).ok()?;
            Some(Self(begin.tomorrow().ok()?.timestamp().as_microsecond()))
        };
        let until = if is_day { day_later() } else { None };
        Ok((from, until.unwrap_or(Self(from.0 + 1_000_000))))
    }

    /// The very next moment.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    fn zoned(self, zone: &TimeZone) -> Result<Zoned, jiff::Error> {
        Ok(Timestamp::from_microsecond(self.0)?.to_zoned(zone.clone()))
    }

    /// The moment for people, in a zone that is named elsewhere: to the second, and further where there is more.
    ///
    /// ```
    /// use afterimage_core::Moment;
    /// assert_eq!(Moment::from_micros(0).in_zone("Europe/Berlin"), "1970-01-01 01:00:00");
    /// assert_eq!(Moment::from_micros(1_500_000).in_zone("UTC"), "1970-01-01 00:00:01.5");
    /// ```
    pub fn in_zone(self, zone: &str) -> String {
        TimeZone::get(zone)
            .ok()
            .and_then(|zone| self.zoned(&zone).ok())
            .map_or_else(|| self.to_string(), |z| z.strftime("%Y-%m-%d %H:%M:%S%.f").to_string())
    }
}

impl Moment {
    /// The moment in a zone, in a format of `strftime`; as ISO 8601 where the zone or the format is none.
    ///
    /// ```
    /// use afterimage_core::Moment;
    /// assert_eq!(Moment::from_micros(0).formatted("Europe/Berlin", "%a %-d %b %Y, %H:%M"), "Thu 1 Jan 1970, 01:00");
    /// ```
    pub fn formatted(self, zone: &str, format: &str) -> String {
        let zoned = TimeZone::get(zone).ok().and_then(|zone| self.zoned(&zone).ok());
        zoned
            .and_then(|zoned| jiff::fmt::strtime::format(format, &zoned).ok())
            .unwrap_or_else(|| self.to_string())
    }

    /// When its day begins in a zone, and when the next one does.
    pub fn day(self, zone: &str) -> Result<(Self, Self)> {
        let wrong = |error: jiff::Error| Error::new(ErrorKind::InvalidTime, error.to_string());
        let zone = TimeZone::get(zone).map_err(wrong)?;
        let begin = self.zoned(&zone).and_then(|at| at.start_of_day()).map_err(wrong)?;
        let next = begin.tomorrow().and_then(|at| at.start_of_day()).map_err(wrong)?;
        Ok((Self(begin.timestamp().as_microsecond()), Self(next.timestamp().as_microsecond())))
    }

    /// Whether there is a time zone of this name.
    pub fn is_zone(name: &str) -> bool {
        TimeZone::get(name).is_ok()
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Timestamp::from_microsecond(self.0) {
            Ok(t) => write!(f, "{}", t.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")),
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}

/// A zone at the end, after a blank, and what stands before it.
fn zone_behind<'t>(text: &'t str, zone: &'t str) -> (&'t str, &'t str) {
    match text.rsplit_once(char::is_whitespace) {
        Some((time, last)) if (last.contains('/') || last == "UTC") && TimeZone::get(last).is_ok() => {
            (time.trim_end(), last)
        }
        _ => (text, zone),
    }
}

/// A day of the week, by its name or the first three letters of it or more.
fn weekday(word: &str) -> Option<Weekday> {
    const DAYS: [(&str, Weekday); 7] = [
        ("monday", Weekday::Monday),
        ("tuesday", Weekday::Tuesday),
        ("wednesday", Weekday::Wednesday),
        ("thursday", Weekday::Thursday),
        ("friday", Weekday::Friday),
        ("saturday", Weekday::Saturday),
        ("sunday", Weekday::Sunday),
    ];
    let word = word.strip_prefix("last ").unwrap_or(word);
    DAYS.iter().find(|(name, _)| word.len() >= 3 && name.starts_with(word)).map(|(_, day)| *day)
}

fn absolute(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    if let Ok(t) = text.parse::<Timestamp>() {
        return Some(t);
    }
    let local = match text.parse::<Date>() {
        Ok(date) if !text.contains(':') => date.at(0, 0, 0, 0),
        _ => text.replacen(' ', "T", 1).parse::<DateTime>().ok()?,
    };
    Some(local.to_zoned(zone.clone()).ok()?.timestamp())
}

fn in_words(text: &str, now: &Zoned) -> Option<Timestamp> {
    if text == "now" {
        return Some(now.timestamp());
    }
    if let Some(amount) = text.strip_suffix("ago") {
        let span: Span = amount.trim().parse().ok()?;
        return Some(now.checked_sub(span).ok()?.timestamp());
    }
    if let Ok(span) = text.parse::<Span>() {
        return (!span.is_negative()).then(|| now.checked_sub(span).ok())?.map(|then| then.timestamp());
    }
    let (word, clock) = match text.rsplit_once(' ') {
        Some((word, clock)) if clock.contains(':') => (word, clock),
        None if text.contains(':') => ("today", text),
        _ => (text, "00:00"),
    };
    let days_back = match (word, weekday(word)) {
        ("today", _) => 0,
        ("yesterday", _) => 1,
        (_, Some(day)) => match now.weekday().since(day) {
            0 => 7,
            days => i64::from(days),
        },
        _ => return None,
    };
    let date = now.date().checked_sub(Span::new().days(days_back)).ok()?;
    let time: jiff::civil::Time = clock.trim().parse().ok()?;
    Some(date.to_datetime(time).to_zoned(now.time_zone().clone()).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, zone: &str) -> String {
        let now = Moment::from_micros(1_795_384_800_123_456);
        Moment::parse(text, now, zone).map_or_else(|e| e.to_string(), |m| m.to_string())
    }

    #[test]
    fn a_date_is_the_start_of_that_day_in_the_zone_asked_for() {
        assert_eq!(at("2026-07-01", "UTC"), "2026-07-01T00:00:00.000000Z");
        assert_eq!(at("2026-07-01", "Europe/Berlin"), "2026-06-30T22:00:00.000000Z");
    }

    #[test]
    fn a_time_with_its_own_zone_keeps_it() {
        assert_eq!(at("2013-12-09T12:03:46+03:00", "Asia/Tokyo"), "2013-12-09T09:03:46.000000Z");
    }

    #[test]
    fn words_count_from_now() {
        assert_eq!(at("now", "UTC"), Moment::from_micros(1_795_384_800_123_456).to_string());
        assert_eq!(
            at("3 days ago", "UTC"),
            Moment::from_micros(1_795_384_800_123_456 - 3 * 86_400_000_000).to_string()
        );
    }

    #[test]
    fn a_span_alone_is_that_long_ago() {
        assert_eq!(at("90m", "UTC"), at("90 minutes ago", "UTC"));
        assert_eq!(at("1h30m", "UTC"), at("90m", "UTC"));
    }

    #[test]
    fn days_of_the_week_are_the_last_ones_before_today() {
        // It is a Sunday.
        assert_eq!(at("tue 15:00", "UTC"), "2026-11-17T15:00:00.000000Z");
        assert_eq!(at("last sunday", "UTC"), "2026-11-15T00:00:00.000000Z");
        assert_eq!(at("15:00", "UTC"), "2026-11-22T15:00:00.000000Z");
    }

    #[test]
    fn a_zone_behind_a_time_is_its_zone() {
        assert_eq!(at("2026-07-01 15:00 Europe/Berlin", "UTC"), "2026-07-01T13:00:00.000000Z");
        assert_eq!(at("yesterday 15:00 America/New_York", "UTC"), "2026-11-21T20:00:00.000000Z");
    }

    #[test]
    fn times_at_a_change_of_clocks() {
        // In Berlin 02:30 came twice on 2026-10-25, and never on 2026-03-29.
        assert_eq!(at("2026-10-25T02:30", "Europe/Berlin"), "2026-10-25T00:30:00.000000Z");
        assert_eq!(at("2026-03-29T02:30", "Europe/Berlin"), "2026-03-29T01:30:00.000000Z");
    }

    #[test]
    fn nonsense_is_refused_with_examples() {
        let message = at("next blue moon", "UTC");
        assert!(message.contains("\"next blue moon\" is not a time"), "{message}");
        assert!(message.contains("yesterday 15:00"), "{message}");
        assert!(at("2026-11-22", "Mars/Olympus").contains("not a time zone"));
    }
}
