//! Counters of the requests to one registry since the start of the process, for the metrics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};
use parking_lot::Mutex;

const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
/// Highest status code (RFC 9110, section 15). Responses with a higher code count as this code.
const HIGHEST: u16 = 599;

/// Counters of one registry. Each request updates these counters.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    requests: Mutex<BTreeMap<(&'static str, Option<u16>), u64>>,
    tokens: AtomicU64,
    repeats: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    throttled_micros: AtomicU64,
}

/// Counters of one registry at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MeterSnapshot {
    /// Number of requests for each method and status code; zeros are omitted. Each redirect and each retry counts as a
    /// request.
    pub requests: Vec<RequestCount>,
    /// Number of requests to a token service.
    pub tokens: u64,
    /// Number of requests that repeated a failed request.
    pub repeats: u64,
    /// Bytes of bodies received.
    pub bytes_in: u64,
    /// Bytes of bodies sent.
    pub bytes_out: u64,
    /// Total time that requests waited for limits and for `Retry-After`.
    pub throttled: Duration,
}

/// Number of requests with a method and a status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestCount {
    /// `GET`, `HEAD`, `POST`, `PUT`, `PATCH` or `DELETE`.
    pub method: &'static str,
    /// Status code from 100 to 599; `None` if there was no response.
    pub status: Option<u16>,
    /// Number of requests.
    pub count: u64,
}

impl Meter {
    pub(crate) fn answered(&self, method: &Method, status: Option<StatusCode>) {
        let Some(method) = METHODS.into_iter().find(|name| *name == method.as_str()) else { return };
        let status = status.map(|status| status.as_u16().min(HIGHEST));
        *self.requests.lock().entry((method, status)).or_default() += 1;
    }

    pub(crate) fn asked_for_token(&self) {
        self.tokens.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn repeated(&self) {
        self.repeats.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn throttled(&self, waited: Duration) {
        let micros = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        self.throttled_micros.fetch_add(micros, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> MeterSnapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let requests = self.requests.lock().clone();
        let requests = requests.into_iter().map(|((method, status), count)| RequestCount { method, status, count });
        MeterSnapshot {
            requests: requests.collect(),
            tokens: read(&self.tokens),
            repeats: read(&self.repeats),
            bytes_in: read(&self.bytes_in),
            bytes_out: read(&self.bytes_out),
            throttled: Duration::from_micros(read(&self.throttled_micros)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_count_by_method_and_status() {
        let meter = Meter::default();
        for code in [429, 200, 429, 999] {
            meter.answered(&Method::GET, Some(StatusCode::from_u16(code).unwrap()));
        }
        meter.answered(&Method::HEAD, None);
        meter.answered(&Method::OPTIONS, None);
        let counted: Vec<_> =
            meter.snapshot().requests.iter().map(|count| (count.method, count.status, count.count)).collect();
        assert_eq!(counted, [("GET", Some(200), 1), ("GET", Some(429), 2), ("GET", Some(599), 1), ("HEAD", None, 1)]);
    }
}
