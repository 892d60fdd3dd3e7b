//! Health of mirrors: back-offs of failed mirrors, and digests for which a mirror returned wrong bytes. The health is
//! in memory only. A reload of the configuration resets the health.

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::Future;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Mirror;
use crate::oci::Digest;
use crate::store::{ErrorKind, StoreError};

/// Length of the first back-off of a failed mirror. Each further failure doubles the length, until the mirror succeeds.
const FIRST_BACK_OFF: Duration = Duration::from_secs(30);

/// Longest back-off.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(600);

/// Maximum number of remembered back-offs, of mirrors and of single repositories at mirrors. At the maximum, a new
/// back-off replaces the back-off that ends first.
const MAX_BACK_OFFS: usize = 1024;

/// Maximum number of remembered wrong digests. At the maximum, a new wrong digest replaces the oldest wrong digest.
const MAX_WRONG_DIGESTS: usize = 4096;

/// Health of all mirrors of one configuration.
#[derive(Debug, Default)]
pub struct MirrorHealth {
    state: Mutex<MirrorHealthState>,
    /// Notified when a back-off begins.
    back_off_began: Notify,
}

#[derive(Debug, Default)]
struct MirrorHealthState {
    /// Back-offs. The key is the name of a mirror, or the address of one repository at a mirror.
    back_offs: HashMap<String, BackOff>,
    /// Addresses of repositories at mirrors, each with a digest for which the repository returned wrong bytes.
    wrong: HashSet<(String, Digest)>,
    /// The items of `wrong`, oldest first.
    order: VecDeque<(String, Digest)>,
}

#[derive(Debug, Clone, Copy)]
struct BackOff {
    until: Instant,
    length: Duration,
}

impl MirrorHealth {
    /// Waits for `answer`, the response of the mirror to a request. The request concerns the repository `place` at the
    /// mirror. In the following cases, returns `None`, and the caller tries the next mirror:
    ///
    /// - A back-off of the mirror or the repository is in force.
    /// - The repository has returned wrong bytes for the digest.
    /// - A back-off of the mirror or the repository begins during the wait, because a concurrent request failed.
    pub(super) async fn try_mirror<T>(
        &self,
        mirror: &Mirror,
        place: &str,
        digest: &Digest,
        answer: impl Future<Output = Result<T, StoreError>>,
    ) -> Option<Result<T, StoreError>> {
        let mirror = mirror.to_string();
        tokio::pin!(answer);
        loop {
            let back_off_begins = self.back_off_began.notified();
            tokio::pin!(back_off_begins);
            back_off_begins.as_mut().enable();
            if self.is_skipped(&mirror, place, digest) {
                return None;
            }
            tokio::select! {
                biased;
                answer = &mut answer => return Some(answer),
                () = back_off_begins => {}
            }
        }
    }

    fn is_skipped(&self, mirror: &str, place: &str, digest: &Digest) -> bool {
        let (state, now) = (self.lock(), Instant::now());
        let is_backed_off = |name: &str| state.back_offs.get(name).is_some_and(|back_off| back_off.until > now);
        is_backed_off(mirror) || is_backed_off(place) || state.wrong.contains(&(place.to_owned(), *digest))
    }

    /// Records that a mirror served a complete object. After this success, the next back-off of the mirror lasts 30
    /// seconds ([`FIRST_BACK_OFF`]).
    pub(super) fn record_success(&self, mirror: &Mirror, place: &str) {
        let mirror = mirror.to_string();
        self.lock().back_offs.retain(|name, _| *name != mirror && name != place);
    }

    pub(super) fn record_failure(&self, mirror: &Mirror, place: &str, digest: &Digest, error: &StoreError) {
        match error.kind {
            ErrorKind::NotFound => {}
            ErrorKind::Corrupt => {
                tracing::warn!(
                    %mirror, %error,
                    "a mirror sent wrong bytes; this content is not requested from the mirror again"
                );
                self.lock().remember_wrong(place, *digest);
            }
            // These errors concern only the repository. Other repositories at the mirror are perhaps accessible.
            ErrorKind::Denied
            | ErrorKind::Refused
            | ErrorKind::Locked
            | ErrorKind::Unsupported
            | ErrorKind::MissingContent => {
                self.back_off(place, Duration::ZERO, error);
            }
            ErrorKind::Busy(wait) => self.back_off(&mirror.to_string(), wait.unwrap_or_default(), error),
            ErrorKind::QuotaSpent(wait) => self.back_off(&mirror.to_string(), wait, error),
            ErrorKind::Unavailable | ErrorKind::Unprocessed | ErrorKind::Invalid => {
                self.back_off(&mirror.to_string(), Duration::ZERO, error)
            }
        }
    }

    fn back_off(&self, name: &str, least: Duration, error: &StoreError) {
        let Some(length) = self.lock().start_back_off(name, least) else { return };
        let rest = humantime::format_duration(Duration::from_secs(length.as_secs()));
        tracing::warn!(mirror = name, %rest, %error, "a mirror failed: it is not used for a while");
        self.back_off_began.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, MirrorHealthState> {
        self.state.lock()
    }
}

impl MirrorHealthState {
    /// Starts a back-off of at least `least`, and returns its length. If a back-off of `name` is already in force,
    /// returns `None`.
    fn start_back_off(&mut self, name: &str, least: Duration) -> Option<Duration> {
        let (now, before) = (Instant::now(), self.back_offs.get(name).copied());
        if before.is_some_and(|before| before.until > now) {
            return None;
        }
        let length = before.map_or(FIRST_BACK_OFF, |before| (before.length * 2).min(LONGEST_BACK_OFF));
        if self.back_offs.len() >= MAX_BACK_OFFS
            && let Some(first) =
                self.back_offs.iter().min_by_key(|(_, back_off)| back_off.until).map(|(name, _)| name.clone())
        {
            self.back_offs.remove(&first);
        }
        let duration = length.max(least);
        self.back_offs.insert(name.to_owned(), BackOff { until: now + duration, length });
        Some(duration)
    }

    fn remember_wrong(&mut self, place: &str, digest: Digest) {
        let wrong = (place.to_owned(), digest);
        if !self.wrong.insert(wrong.clone()) {
            return;
        }
        self.order.push_back(wrong);
        if self.order.len() > MAX_WRONG_DIGESTS
            && let Some(oldest) = self.order.pop_front()
        {
            self.wrong.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;
    use crate::store::Step;

    const PLACE: &str = "mirror.example/hub/app";

    fn mirror() -> Mirror {
        "mirror.example/hub".parse().unwrap()
    }

    fn digest() -> Digest {
        Digest::of(b"x")
    }

    fn error(kind: ErrorKind) -> StoreError {
        StoreError::new(PLACE, Step::ReadBlob, digest(), kind, "a failure")
    }

    async fn is_tried(health: &MirrorHealth, place: &str, digest: &Digest) -> bool {
        health.try_mirror(&mirror(), place, digest, ready(Err::<(), _>(error(ErrorKind::NotFound)))).await.is_some()
    }

    async fn serves(health: &MirrorHealth) {
        assert!(health.try_mirror(&mirror(), PLACE, &digest(), ready(Ok(()))).await.is_some());
        health.record_success(&mirror(), PLACE);
    }

    #[tokio::test(start_paused = true)]
    async fn failing_mirror_backs_off_longer_until_it_serves() {
        let (health, seconds) = (MirrorHealth::default(), Duration::from_secs);
        for length in [30, 60, 120, 240, 480, 600, 600] {
            health.record_failure(&mirror(), PLACE, &digest(), &error(ErrorKind::Unavailable));
            // A failure of a concurrent request does not change the back-off.
            health.record_failure(&mirror(), PLACE, &digest(), &error(ErrorKind::Unavailable));
            tokio::time::advance(seconds(length - 1)).await;
            assert!(!is_tried(&health, "mirror.example/hub/other", &digest()).await, "{length}");
            tokio::time::advance(seconds(1)).await;
            assert!(is_tried(&health, PLACE, &digest()).await, "{length}");
        }
        serves(&health).await;
        health.record_failure(&mirror(), PLACE, &digest(), &error(ErrorKind::Invalid));
        tokio::time::advance(seconds(30)).await;
        assert!(is_tried(&health, PLACE, &digest()).await);
    }

    #[tokio::test(start_paused = true)]
    async fn throttling_mirror_is_skipped_for_its_retry_after() {
        let health = MirrorHealth::default();
        health.record_failure(&mirror(), PLACE, &digest(), &error(ErrorKind::Busy(Some(Duration::from_secs(900)))));
        tokio::time::advance(Duration::from_secs(899)).await;
        assert!(!is_tried(&health, PLACE, &digest()).await);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(is_tried(&health, PLACE, &digest()).await);
    }

    #[tokio::test(start_paused = true)]
    async fn missing_wrong_or_refused_content_spares_rest_of_mirror() {
        let health = MirrorHealth::default();
        health.record_failure(&mirror(), PLACE, &digest(), &error(ErrorKind::NotFound));
        assert!(is_tried(&health, PLACE, &digest()).await);
        health.record_failure(&mirror(), PLACE, &digest(), &error(ErrorKind::Corrupt));
        assert!(!is_tried(&health, PLACE, &digest()).await);
        tokio::time::advance(LONGEST_BACK_OFF).await;
        assert!(!is_tried(&health, PLACE, &digest()).await, "a wrong digest is skipped permanently");
        assert!(is_tried(&health, PLACE, &Digest::of(b"y")).await);
        health.record_failure(&mirror(), PLACE, &digest(), &error(ErrorKind::Denied));
        assert!(!is_tried(&health, PLACE, &Digest::of(b"y")).await);
        assert!(is_tried(&health, "mirror.example/hub/open", &digest()).await);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_read_skips_mirror_once_another_finds_it_down() {
        let health = MirrorHealth::default();
        let (mirror, digest) = (mirror(), digest());
        let waiting = health.try_mirror(&mirror, PLACE, &digest, pending::<Result<(), StoreError>>());
        let noticing = async {
            tokio::task::yield_now().await;
            health.record_failure(&mirror, PLACE, &digest, &error(ErrorKind::Unavailable));
        };
        let (waited, ()) = tokio::join!(waiting, noticing);
        assert!(waited.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn remembered_mirror_failures_are_bounded() {
        let health = MirrorHealth::default();
        for number in 0..2 * MAX_WRONG_DIGESTS {
            let digest = Digest::of(number.to_string().as_bytes());
            health.record_failure(&mirror(), PLACE, &digest, &error(ErrorKind::Corrupt));
            health.record_failure(&mirror(), &format!("{PLACE}/{number}"), &digest, &error(ErrorKind::Denied));
        }
        let state = health.lock();
        assert_eq!(
            (state.wrong.len(), state.order.len(), state.back_offs.len()),
            (MAX_WRONG_DIGESTS, MAX_WRONG_DIGESTS, MAX_BACK_OFFS)
        );
    }
}
