//! What is known of mirrors: which are left alone for a while because they failed, and which have been wrong about a digest.
//! A hint for what is read from where, never more; it is kept in memory and forgotten with the configuration.

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Mirror;
use crate::oci::Digest;
use crate::store::{ErrorKind, StoreError};

/// How long a mirror that failed is left alone; twice as long each time in a row.
const FIRST_REST: Duration = Duration::from_secs(30);

/// And at most.
const LONGEST_REST: Duration = Duration::from_secs(600);

/// Of so many mirrors and their repositories it is known that they failed; of more, those that are awake first are forgotten.
const MOST_RESTS: usize = 1024;

/// So many wrong digests are known; of more, the oldest are forgotten.
const MOST_WRONG: usize = 4096;

/// What all mirrors of one configuration were like.
#[derive(Debug, Default)]
pub struct MirrorHealth {
    state: Mutex<State>,
    /// Told when a mirror goes to rest.
    rested: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// By mirror, or by the place of one of its repositories.
    rests: HashMap<String, Rest>,
    wrong: HashSet<(String, Digest)>,
    /// The same, oldest first.
    order: VecDeque<(String, Digest)>,
}

#[derive(Debug, Clone, Copy)]
struct Rest {
    until: Instant,
    length: Duration,
}

impl MirrorHealth {
    /// The answer of a mirror at `place`, one of its repositories; `None` where there is no use to ask it, or none any more:
    /// what waits for a mirror that turns out to be down goes on to the next with the first who noticed.
    pub(super) async fn ask<T>(
        &self,
        mirror: &Mirror,
        place: &str,
        digest: &Digest,
        answer: impl Future<Output = Result<T, StoreError>>,
    ) -> Option<Result<T, StoreError>> {
        let mirror = mirror.to_string();
        tokio::pin!(answer);
        loop {
            let rested = self.rested.notified();
            tokio::pin!(rested);
            rested.as_mut().enable();
            if self.is_left_alone(&mirror, place, digest) {
                return None;
            }
            tokio::select! {
                biased;
                answer = &mut answer => return Some(answer),
                () = rested => {}
            }
        }
    }

    fn is_left_alone(&self, mirror: &str, place: &str, digest: &Digest) -> bool {
        let (state, now) = (self.lock(), Instant::now());
        let rests = |name: &str| state.rests.get(name).is_some_and(|rest| rest.until > now);
        rests(mirror) || rests(place) || state.wrong.contains(&(place.to_owned(), *digest))
    }

    /// Takes in that a mirror gave something whole: its next rest is a short one again.
    pub(super) fn served(&self, mirror: &Mirror, place: &str) {
        let mirror = mirror.to_string();
        self.lock().rests.retain(|name, _| *name != mirror && name != place);
    }

    /// Takes in that a mirror failed to give what this digest names.
    pub(super) fn failed(&self, mirror: &Mirror, place: &str, digest: &Digest, error: &StoreError) {
        match error.kind {
            ErrorKind::NotFound => {}
            ErrorKind::Corrupt => {
                tracing::warn!(%mirror, %error, "a mirror gave wrong bytes and is not asked for them again");
                self.lock().remember_wrong(place, *digest);
            }
            // Another repository may be open.
            ErrorKind::Denied
            | ErrorKind::Refused
            | ErrorKind::Locked
            | ErrorKind::Unsupported
            | ErrorKind::MissingContent => {
                self.rest(place, Duration::ZERO, error);
            }
            ErrorKind::Busy(patience) => self.rest(&mirror.to_string(), patience.unwrap_or_default(), error),
            ErrorKind::QuotaSpent(patience) => self.rest(&mirror.to_string(), patience, error),
            ErrorKind::Unavailable | ErrorKind::NotTaken | ErrorKind::Invalid => {
                self.rest(&mirror.to_string(), Duration::ZERO, error)
            }
        }
    }

    fn rest(&self, name: &str, least: Duration, error: &StoreError) {
        let Some(length) = self.lock().rest(name, least) else { return };
        let rest = humantime::format_duration(Duration::from_secs(length.as_secs()));
        tracing::warn!(mirror = name, %rest, %error, "a mirror failed and is left alone for a while");
        self.rested.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// How long the rest is that begins now; `None` where one goes on.
    fn rest(&mut self, name: &str, least: Duration) -> Option<Duration> {
        let (now, before) = (Instant::now(), self.rests.get(name).copied());
        if before.is_some_and(|before| before.until > now) {
            return None;
        }
        let length = before.map_or(FIRST_REST, |before| (before.length * 2).min(LONGEST_REST));
        if self.rests.len() >= MOST_RESTS
            && let Some(first) = self.rests.iter().min_by_key(|(_, rest)| rest.until).map(|(name, _)| name.clone())
        {
            self.rests.remove(&first);
        }
        let rest = length.max(least);
        self.rests.insert(name.to_owned(), Rest { until: now + rest, length });
        Some(rest)
    }

    fn remember_wrong(&mut self, place: &str, digest: Digest) {
        let wrong = (place.to_owned(), digest);
        if !self.wrong.insert(wrong.clone()) {
            return;
        }
        self.order.push_back(wrong);
        if self.order.len() > MOST_WRONG
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
        StoreError::new(PLACE, Step::ReadBlob, digest(), kind, "so it is")
    }

    async fn is_asked(health: &MirrorHealth, place: &str, digest: &Digest) -> bool {
        health.ask(&mirror(), place, digest, ready(Err::<(), _>(error(ErrorKind::NotFound)))).await.is_some()
    }

    async fn serves(health: &MirrorHealth) {
        assert!(health.ask(&mirror(), PLACE, &digest(), ready(Ok(()))).await.is_some());
        health.served(&mirror(), PLACE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_mirror_that_failed_rests_longer_each_time_until_it_serves() {
        let (health, seconds) = (MirrorHealth::default(), Duration::from_secs);
        for length in [30, 60, 120, 240, 480, 600, 600] {
            health.failed(&mirror(), PLACE, &digest(), &error(ErrorKind::Unavailable));
            // Others that were under way fail as well, which says nothing new.
            health.failed(&mirror(), PLACE, &digest(), &error(ErrorKind::Unavailable));
            tokio::time::advance(seconds(length - 1)).await;
            assert!(!is_asked(&health, "mirror.example/hub/other", &digest()).await, "{length}");
            tokio::time::advance(seconds(1)).await;
            assert!(is_asked(&health, PLACE, &digest()).await, "{length}");
        }
        serves(&health).await;
        health.failed(&mirror(), PLACE, &digest(), &error(ErrorKind::Invalid));
        tokio::time::advance(seconds(30)).await;
        assert!(is_asked(&health, PLACE, &digest()).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_mirror_that_asks_for_patience_rests_as_long_as_it_says() {
        let health = MirrorHealth::default();
        health.failed(&mirror(), PLACE, &digest(), &error(ErrorKind::Busy(Some(Duration::from_secs(900)))));
        tokio::time::advance(Duration::from_secs(899)).await;
        assert!(!is_asked(&health, PLACE, &digest()).await);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(is_asked(&health, PLACE, &digest()).await);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_mirror_lacks_was_wrong_about_or_refuses_does_not_make_all_of_it_rest() {
        let health = MirrorHealth::default();
        health.failed(&mirror(), PLACE, &digest(), &error(ErrorKind::NotFound));
        assert!(is_asked(&health, PLACE, &digest()).await);
        health.failed(&mirror(), PLACE, &digest(), &error(ErrorKind::Corrupt));
        assert!(!is_asked(&health, PLACE, &digest()).await);
        tokio::time::advance(LONGEST_REST).await;
        assert!(!is_asked(&health, PLACE, &digest()).await, "never again");
        assert!(is_asked(&health, PLACE, &Digest::of(b"y")).await);
        health.failed(&mirror(), PLACE, &digest(), &error(ErrorKind::Denied));
        assert!(!is_asked(&health, PLACE, &Digest::of(b"y")).await);
        assert!(is_asked(&health, "mirror.example/hub/open", &digest()).await);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_mirror_goes_on_when_another_finds_it_down() {
        let health = MirrorHealth::default();
        let (mirror, digest) = (mirror(), digest());
        let waiting = health.ask(&mirror, PLACE, &digest, pending::<Result<(), StoreError>>());
        let noticing = async {
            tokio::task::yield_now().await;
            health.failed(&mirror, PLACE, &digest, &error(ErrorKind::Unavailable));
        };
        let (waited, ()) = tokio::join!(waiting, noticing);
        assert!(waited.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded() {
        let health = MirrorHealth::default();
        for number in 0..2 * MOST_WRONG {
            let digest = Digest::of(number.to_string().as_bytes());
            health.failed(&mirror(), PLACE, &digest, &error(ErrorKind::Corrupt));
            health.failed(&mirror(), &format!("{PLACE}/{number}"), &digest, &error(ErrorKind::Denied));
        }
        let state = health.lock();
        assert_eq!((state.wrong.len(), state.order.len(), state.rests.len()), (MOST_WRONG, MOST_WRONG, MOST_RESTS));
    }
}
