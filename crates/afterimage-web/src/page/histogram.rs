//! How many changes there were when: bars, and the same as links.

use afterimage::{LogSummary, Moment};

use crate::asked::Asked;
use crate::filter::Parameters;

const HOUR: i64 = 3_600_000_000;

/// A bar of the chart.
#[derive(Debug, Clone)]
pub(crate) struct Bar {
    pub(crate) x: u64,
    pub(crate) y: u64,
    pub(crate) height: u64,
    pub(crate) name: String,
    pub(crate) count: u64,
    /// The changes of that time.
    pub(crate) to: String,
}

/// The chart, 1000 wide and 50 high.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    pub(crate) bars: Vec<Bar>,
    pub(crate) width: u64,
    pub(crate) from: String,
    pub(crate) until: String,
}

/// No more bars than this are drawn.
const MOST: i64 = 62;

/// The chart of some counts; none where it would be a single bar.
pub(crate) fn histogram(asked: &Asked, summary: &LogSummary, filter: &Parameters) -> Option<Histogram> {
    let times = || summary.counts.iter().map(|count| count.quarter);
    let (first, last) = (times().min()?, times().max()?);
    let span = last.as_micros() - first.as_micros();
    let spans = spans(asked, first, last, span);
    if spans.len() < 2 {
        return None;
    }
    let counts: Vec<u64> = spans
        .iter()
        .map(|(begin, end)| {
            let within = summary.counts.iter().filter(|count| (*begin..*end).contains(&count.quarter));
            within.map(|count| count.records).sum()
        })
        .collect();
    let highest = counts.iter().copied().max().unwrap_or(1).max(1);
    let width = 1000 / spans.len() as u64;
    let hours = span < 48 * HOUR;
    let bars = spans
        .iter()
        .zip(&counts)
        .enumerate()
        .map(|(n, ((begin, end), count))| {
            // Whatever is there at all can be seen.
            let height = if *count == 0 { 1 } else { (count * 48 / highest).max(3) };
            let filter = filter
                .without(&["range", "since", "until", "before"])
                .with("since", begin.to_string())
                .with("until", Moment::from_micros(end.as_micros() - 1).to_string());
            Bar {
                x: n as u64 * width,
                y: 50 - height,
                height,
                name: begin.formatted(&asked.zone, if hours { "%a %-d %b %H:%M" } else { "%a %-d %b %Y" }),
                count: *count,
                to: asked.address("/", &filter),
            }
        })
        .collect();
    let (from, until) =
        (spans.first()?.0, Moment::from_micros(spans.last()?.1.as_micros() - 1).min(asked.now));
    let name = |at: Moment| at.formatted(&asked.zone, if hours { "%a %-d %b %H:%M" } else { "%-d %b %Y" });
    Some(Histogram { bars, width, from: name(from), until: name(until) })
}

/// Hours, days, or as many days together as it takes.
fn spans(asked: &Asked, first: Moment, last: Moment, span: i64) -> Vec<(Moment, Moment)> {
    let mut spans = Vec::new();
    if span < 48 * HOUR {
        let begin = first.as_micros() - first.as_micros().rem_euclid(HOUR);
        let mut at = begin;
        while at <= last.as_micros() {
            spans.push((Moment::from_micros(at), Moment::from_micros(at + HOUR)));
            at += HOUR;
        }
        return spans;
    }
    let days = span / (24 * HOUR) + 2;
    let together = (days + MOST - 1) / MOST;
    let mut at = first;
    while at <= last {
        let Ok((begin, _)) = at.day(&asked.zone) else { break };
        let mut end = begin;
        for _ in 0..together {
            match end.day(&asked.zone) {
                Ok((_, next)) => end = next,
                Err(_) => break,
            }
        }
        if end <= begin {
            break;
        }
        spans.push((begin, end));
        at = end;
    }
    spans
}
