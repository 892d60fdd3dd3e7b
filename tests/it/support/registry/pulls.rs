//! Pull limit of Docker Hub: GET of a manifest counts, HEAD is free, and both report the remaining pulls. The test
//! advances the clock.

use std::collections::VecDeque;
use std::sync::Mutex;

use axum::http::HeaderMap;
use axum::response::Response;

use super::answer;

/// Limit of pulls in a window.
#[derive(Debug, Clone, Copy)]
pub struct PullLimit {
    /// Number of pulls.
    pub limit: usize,
    /// Length of the window, in seconds.
    pub window: u64,
    /// True: each pull expires one window after it was made. False: all pulls expire at the end of each window.
    pub slides: bool,
}

/// Pulls so far.
#[derive(Debug, Default)]
pub(super) struct Pulls(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    now: u64,
    /// Times of the pulls in the window.
    made: VecDeque<u64>,
    refused: usize,
}

impl Counted {
    fn expire(&mut self, limit: &PullLimit) {
        let now = self.now;
        let is_over = |made: u64| match limit.slides {
            true => made + limit.window <= now,
            false => made / limit.window < now / limit.window,
        };
        self.made.retain(|made| !is_over(*made));
    }
}

impl Pulls {
    pub(super) fn advance_clock(&self, seconds: u64) {
        self.0.lock().unwrap().now += seconds;
    }

    pub(super) fn add_foreign(&self, pulls: usize) {
        let mut counted = self.0.lock().unwrap();
        let now = counted.now;
        counted.made.extend(std::iter::repeat_n(now, pulls));
    }

    pub(super) fn refused(&self) -> usize {
        self.0.lock().unwrap().refused
    }

    pub(super) fn left(&self, limit: &PullLimit) -> usize {
        let mut counted = self.0.lock().unwrap();
        counted.expire(limit);
        limit.limit.saturating_sub(counted.made.len())
    }

    /// Counts a pull. Returns the refusal if the limit is reached.
    pub(super) fn pull(&self, limit: &PullLimit) -> Option<Response> {
        let mut counted = self.0.lock().unwrap();
        counted.expire(limit);
        if counted.made.len() >= limit.limit {
            counted.refused += 1;
            let headers = [("content-type", "text/plain".into()), ("retry-after", limit.window.to_string())];
            return Some(answer::with(429, &headers, "You have reached your pull rate limit."));
        }
        let now = counted.now;
        counted.made.push_back(now);
        None
    }

    /// Adds the headers with the limit and the remaining pulls.
    pub(super) fn state(&self, limit: &PullLimit, headers: &mut HeaderMap) {
        let PullLimit { limit: all, window, .. } = limit;
        let left = self.left(limit);
        let stated = [
            ("ratelimit-limit", format!("{all};w={window}")),
            ("ratelimit-remaining", format!("{left};w={window}")),
            ("docker-ratelimit-source", "127.0.0.1".into()),
        ];
        answer::add(headers, &stated);
    }
}
