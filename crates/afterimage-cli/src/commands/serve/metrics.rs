//! How many requests were answered, how, and how fast: in the text format of Prometheus.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;

/// The upper bounds of what is counted together, in microseconds.
const BOUNDS: [u64; 9] = [1_000, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000];

/// The classes of answers: 1xx to 5xx.
const CLASSES: usize = 5;

/// What was counted.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    answers: [AtomicU64; CLASSES],
    within: [AtomicU64; BOUNDS.len()],
    micros: AtomicU64,
}

impl Metrics {
    fn count(&self, status: u16, micros: u64) {
        let class = usize::from(status / 100).clamp(1, CLASSES) - 1;
        self.answers[class].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
        for (within, bound) in self.within.iter().zip(BOUNDS) {
            if micros <= bound {
                within.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::from(
            "# HELP afterimage_http_requests_total Requests answered.\n# TYPE afterimage_http_requests_total counter\n",
        );
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        for (class, count) in self.answers.iter().enumerate() {
            let _ = writeln!(
                text,
                "afterimage_http_requests_total{{status=\"{}xx\"}} {}",
                class + 1,
                read(count)
            );
        }
        text.push_str(
            "# HELP afterimage_http_request_seconds How long answers took to begin.\n# TYPE afterimage_http_request_seconds histogram\n",
        );
        for (within, bound) in self.within.iter().zip(BOUNDS) {
            let seconds = bound as f64 / 1e6;
            let _ =
                writeln!(text, "afterimage_http_request_seconds_bucket{{le=\"{seconds}\"}} {}", read(within));
        }
        let all: u64 = self.answers.iter().map(read).sum();
        let _ = writeln!(text, "afterimage_http_request_seconds_bucket{{le=\"+Inf\"}} {all}");
        let _ = writeln!(text, "afterimage_http_request_seconds_sum {}", read(&self.micros) as f64 / 1e6);
        let _ = writeln!(text, "afterimage_http_request_seconds_count {all}");
        text
    }
}

/// Counts what passes.
pub(super) async fn counting(metrics: Arc<Metrics>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let response = next.run(request).await;
    let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    metrics.count(response.status().as_u16(), micros);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_told_cumulatively() {
        let metrics = Metrics::default();
        metrics.count(200, 4_000);
        metrics.count(404, 30_000);
        let text = metrics.text();
        for line in [
            "afterimage_http_requests_total{status=\"2xx\"} 1",
            "afterimage_http_request_seconds_bucket{le=\"0.005\"} 1",
            "afterimage_http_request_seconds_bucket{le=\"0.05\"} 2",
            "afterimage_http_request_seconds_bucket{le=\"+Inf\"} 2",
            "afterimage_http_request_seconds_sum 0.034",
        ] {
            assert!(text.lines().any(|told| told == line), "{line} in\n{text}");
        }
    }
}
