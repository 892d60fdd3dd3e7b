//! Log of the registry's requests, for tests that count them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::http::{HeaderMap, Method};

/// Request headers that the log keeps.
const KEPT: [&str; 7] =
    ["accept", "content-length", "content-range", "content-type", "range", "transfer-encoding", "user-agent"];

/// One request and its result.
#[derive(Debug, Clone)]
pub struct Request {
    /// Object and method: `manifest HEAD`, `blob GET`, `mount POST`, `upload PATCH`, `tags GET`, `token GET`.
    pub kind: String,
    /// Path, without the query.
    pub path: String,
    /// Arrival of the request's head.
    pub began: Instant,
    /// Status; 0 before the response.
    pub status: u16,
    /// Bytes of the body that the client sent.
    pub received: u64,
    /// Bytes of the body that the registry sent.
    pub sent: u64,
    /// Some of the request's headers; `authorization` is only its scheme.
    pub headers: BTreeMap<String, String>,
}

/// Request in progress, until the last clone of this value is dropped.
#[derive(Debug)]
pub(super) struct Entry {
    request: Request,
    status: AtomicU16,
    received: AtomicU64,
    sent: AtomicU64,
}

/// Requests since the start, or since [`Log::clear`].
#[derive(Debug, Default)]
pub struct Log {
    entries: Mutex<Vec<Arc<Entry>>>,
    at_once: Arc<AtomicUsize>,
    most_at_once: AtomicUsize,
}

/// Guard that counts a request as in progress.
#[derive(Debug)]
pub(super) struct InProgress {
    pub(super) entry: Arc<Entry>,
    at_once: Arc<AtomicUsize>,
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.at_once.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Log {
    pub(super) fn begin(&self, object: &str, method: &Method, path: &str, headers: &HeaderMap) -> InProgress {
        let kept = |name: &str| Some((name.to_owned(), headers.get(name)?.to_str().ok()?.to_owned()));
        let mut headers_kept: BTreeMap<_, _> = KEPT.into_iter().filter_map(kept).collect();
        if let Some((name, value)) = kept("authorization") {
            headers_kept.insert(name, value.split(' ').next().unwrap_or_default().to_owned());
        }
        let request = Request {
            kind: format!("{object} {method}"),
            path: path.to_owned(),
            began: Instant::now(),
            status: 0,
            received: 0,
            sent: 0,
            headers: headers_kept,
        };
        let entry = Arc::new(Entry {
            request,
            status: AtomicU16::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
        });
        self.entries.lock().unwrap().push(entry.clone());
        let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(now, Ordering::SeqCst);
        InProgress { entry, at_once: self.at_once.clone() }
    }

    /// Returns all requests, in the order in which they arrived.
    pub fn requests(&self) -> Vec<Request> {
        self.entries.lock().unwrap().iter().map(|entry| entry.read()).collect()
    }

    /// Returns the requests of one kind.
    pub fn requests_of(&self, kind: &str) -> Vec<Request> {
        self.requests().into_iter().filter(|request| request.kind == kind).collect()
    }

    /// Returns the number of requests of one kind.
    pub fn count(&self, kind: &str) -> usize {
        self.requests_of(kind).len()
    }

    /// Returns the number of requests of each kind.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for request in self.requests() {
            *counts.entry(request.kind).or_default() += 1;
        }
        counts
    }

    /// Returns the number of manifest pulls as Docker Hub counts them: GET by tag or digest with status 200.
    pub fn pulls(&self) -> usize {
        self.requests_of("manifest GET").iter().filter(|request| request.status == 200).count()
    }

    /// Returns the largest number of requests that were in progress at the same time.
    pub fn most_at_once(&self) -> usize {
        self.most_at_once.load(Ordering::SeqCst)
    }

    /// Removes all requests from the log.
    pub fn clear(&self) {
        self.entries.lock().unwrap().clear();
        self.most_at_once.store(0, Ordering::SeqCst);
    }
}

impl Entry {
    pub(super) fn kind(&self) -> &str {
        &self.request.kind
    }

    fn read(&self) -> Request {
        Request {
            status: self.status.load(Ordering::SeqCst),
            received: self.received.load(Ordering::SeqCst),
            sent: self.sent.load(Ordering::SeqCst),
            ..self.request.clone()
        }
    }

    pub(super) fn answered(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    pub(super) fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::SeqCst);
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::SeqCst);
    }
}
