//! Counters of what one registry was asked, for the metrics. Monotonic from the start of the process.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::{Method, StatusCode};

const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
/// What is above it is no code (RFC 9110, section 15), and counts as this one: so there are 500 of them at most.
const HIGHEST: u16 = 599;

/// The live counters.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    requests: Mutex<BTreeMap<(&'static str, Option<u16>), u64>>,
    tokens: AtomicU64,
    repeats: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    throttled_micros: AtomicU64,
}

/// The counters of one registry at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MeterSnapshot {
    /// Requests by method and code of status; only those that happened. Each redirect and each repetition counts.
    pub requests: Vec<RequestCount>,
    /// How many of them asked a token service.
    pub tokens: u64,
    /// How many of them repeated one that failed.
    pub repeats: u64,
    /// Bytes of bodies received.
    pub bytes_in: u64,
    /// Bytes of bodies sent.
    pub bytes_out: u64,
    /// How long requests waited for limits and for `Retry-After`, added up.
    pub throttled: Duration,
}

/// How often a method ended with a code of status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestCount {
    /// `GET`, `HEAD`, `POST`, `PUT`, `PATCH` or `DELETE`.
    pub method: &'static str,
    /// 100 to 599, `None` where no answer came.
    pub status: Option<u16>,
    /// How often.
    pub count: u64,
}

impl Meter {
    pub(crate) fn answered(&self, method: &Method, status: Option<StatusCode>) {
        let Some(method) = METHODS.into_iter().find(|name| *name == method.as_str()) else { return };
        let status = status.map(|status| status.as_u16().min(HIGHEST));
        *self.requests.lock().unwrap_or_else(PoisonError::into_inner).entry((method, status)).or_default() += 1;
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
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
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
    fn requests_count_by_method_and_code_as_it_was_answered() {
        let meter = Meter::default();
        for code in [429, 200, 429, 999] {
            meter.answered(&Method::GET, Some(StatusCode::from_u16(code).unwrap()));
        }
        meter.answered(&Method::HEAD, None);
        meter.answered(&Method::OPTIONS, None);
        let counted: Vec<_> = meter.snapshot().requests.iter().map(|of| (of.method, of.status, of.count)).collect();
        assert_eq!(counted, [("GET", Some(200), 1), ("GET", Some(429), 2), ("GET", Some(599), 1), ("HEAD", None, 1)]);
    }
}
