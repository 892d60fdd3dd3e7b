//! Pulls counted as Docker Hub does: GET of a manifest counts, HEAD is free, both tell what is left. The test moves the clock.

use std::collections::VecDeque;
use std::sync::Mutex;

use axum::http::HeaderMap;
use axum::response::Response;

use super::answer;

/// How many pulls there are in a window.
#[derive(Debug, Clone, Copy)]
pub struct PullLimit {
    /// So many.
    pub limit: usize,
    /// In so many seconds.
    pub window: u64,
    /// Whether each pull is forgotten a window after it was made. Otherwise all are, at the end of each window.
    pub slides: bool,
}

/// What was pulled.
#[derive(Debug, Default)]
pub(super) struct Pulls(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    now: u64,
    /// When each pull was made that is in the window.
    made: VecDeque<u64>,
    beyond: usize,
}

impl Counted {
    fn forget(&mut self, limit: &PullLimit) {
        let now = self.now;
        let is_over = |made: u64| match limit.slides {
            true => made + limit.window <= now,
            false => made / limit.window < now / limit.window,
        };
        self.made.retain(|made| !is_over(*made));
    }
}

impl Pulls {
    pub(super) fn pass(&self, seconds: u64) {
        self.0.lock().unwrap().now += seconds;
    }

    pub(super) fn by_others(&self, pulls: usize) {
        let mut counted = self.0.lock().unwrap();
        let now = counted.now;
        counted.made.extend(std::iter::repeat_n(now, pulls));
    }

    pub(super) fn beyond(&self) -> usize {
        self.0.lock().unwrap().beyond
    }

    pub(super) fn left(&self, limit: &PullLimit) -> usize {
        let mut counted = self.0.lock().unwrap();
        counted.forget(limit);
        limit.limit.saturating_sub(counted.made.len())
    }

    /// Counts a pull, or turns it away.
    pub(super) fn pull(&self, limit: &PullLimit) -> Option<Response> {
        let mut counted = self.0.lock().unwrap();
        counted.forget(limit);
        if counted.made.len() >= limit.limit {
            counted.beyond += 1;
            let headers = [("content-type", "text/plain".into()), ("retry-after", limit.window.to_string())];
            let told = "You have reached your pull rate limit.";
            return Some(answer::with(429, &headers, told));
        }
        let now = counted.now;
        counted.made.push_back(now);
        None
    }

    /// States the limit and what is left of it.
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
