//! Counters of what one registry was asked, for the metrics. Monotonic from the start of the process.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};

const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
const STATUSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// The live counters.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    requests: [[AtomicU64; STATUSES.len()]; METHODS.len()],
    tokens: AtomicU64,
    repeats: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    throttled_micros: AtomicU64,
}

/// The counters of one registry at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MeterSnapshot {
    /// Requests by method and class of status; only those that happened. Each redirect and each repetition counts.
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

/// How often a method ended with a class of status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestCount {
    /// `GET`, `HEAD`, `POST`, `PUT`, `PATCH` or `DELETE`.
    pub method: &'static str,
    /// `2xx` and so on; `none` where no answer came.
    pub status: &'static str,
    /// How often.
    pub count: u64,
}

impl Meter {
    pub(crate) fn answered(&self, method: &Method, status: Option<StatusCode>) {
        let Some(row) = METHODS.iter().position(|name| *name == method.as_str()) else { return };
        let column = status.map_or(0, |status| usize::from(status.as_u16() / 100)).min(STATUSES.len() - 1);
        self.requests[row][column].fetch_add(1, Ordering::Relaxed);
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
        let requests = METHODS.iter().zip(&self.requests).flat_map(|(method, row)| {
            STATUSES.iter().zip(row).map(|(status, count)| RequestCount { method, status, count: read(count) })
        });
        MeterSnapshot {
            requests: requests.filter(|request| request.count > 0).collect(),
            tokens: read(&self.tokens),
            repeats: read(&self.repeats),
            bytes_in: read(&self.bytes_in),
            bytes_out: read(&self.bytes_out),
            throttled: Duration::from_micros(read(&self.throttled_micros)),
        }
    }
}
