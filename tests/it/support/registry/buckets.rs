//! Rate limit of Azure's registries: reads and writes fill separate buckets, which empty at a steady rate. A request
//! that does not fit is refused.

use std::sync::Mutex;
use std::time::Instant;

use axum::http::Method;
use axum::response::Response;

use super::answer;

/// Capacity of the buckets in requests, which is also the number of requests that drain per minute.
#[derive(Debug, Clone, Copy)]
pub struct Buckets {
    /// Capacity for GET and HEAD.
    pub reads: f64,
    /// Capacity for all other methods.
    pub writes: f64,
    /// Remaining capacity for writes at the start: other clients have used the rest.
    pub writes_left: f64,
}

/// Remaining capacity of the buckets.
#[derive(Debug, Default)]
pub(super) struct Room(Mutex<Option<State>>);

#[derive(Debug)]
struct State {
    reads: f64,
    writes: f64,
    since: Instant,
}

impl Room {
    /// Counts a request. Returns a refusal if the bucket has no capacity for the request.
    pub(super) fn enter(&self, buckets: &Buckets, method: &Method) -> Option<Response> {
        let mut state = self.0.lock().unwrap();
        let now = Instant::now();
        let fresh = || State { reads: buckets.reads, writes: buckets.writes_left, since: now };
        let state = state.get_or_insert_with(fresh);
        let minutes = (now - state.since).as_secs_f64() / 60.0;
        state.reads = (state.reads + minutes * buckets.reads).min(buckets.reads);
        state.writes = (state.writes + minutes * buckets.writes).min(buckets.writes);
        state.since = now;
        let room = if matches!(*method, Method::GET | Method::HEAD) { &mut state.reads } else { &mut state.writes };
        if *room < 1.0 {
            let mut response = answer::error(429, "TOOMANYREQUESTS", "too many requests");
            answer::add(response.headers_mut(), &[("retry-after", "1".into())]);
            return Some(response);
        }
        *room -= 1.0;
        None
    }
}
