//! Retry policy of requests. For each operation and failure, the policy determines the number of repetitions and the
//! pauses. The caller adds the wait of `Retry-After` to a pause.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

use crate::registry::Timeouts;

/// Maximum number of repetitions after [`Failure::Unprocessed`]. The number is large, because some proxies end each
/// connection after a few requests.
const MAX_UNPROCESSED: u32 = 200;

/// Longest pause before a repetition after [`Failure::Unprocessed`]. The first repetition has no pause.
const MAX_UNPROCESSED_PAUSE: Duration = Duration::from_millis(100);

/// Maximum number of throttled attempts of a blob lookup or a mount.
const MAX_AUXILIARY_THROTTLES: usize = 3;

/// Default time limit of a manifest read at a mirror.
const MIRROR_MANIFEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Operation of a request, for the retry policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// GET or HEAD without a more specific operation.
    Read,
    /// GET of a manifest at a mirror. The client does not repeat the GET, because other hosts can answer.
    MirrorManifest,
    /// HEAD of a blob. If the HEAD fails, the client uploads the blob.
    FindBlob,
    /// HEAD of a blob at a registry where the last HEAD of a blob failed.
    FindBlobOnce,
    /// POST that mounts a blob. If the mount fails, the client uploads the blob.
    Mount,
    /// Request of a token.
    Token,
    /// DELETE of a manifest.
    Delete,
    /// POST of a new upload session. A repeated POST leaves an idle session at the registry until the session expires.
    OpenUpload,
    /// PATCH of a chunk that is in memory. If the connection breaks, the number of stored bytes is unknown.
    Chunk,
    /// PUT that completes an upload session. If the PUT has a body, the body is in memory.
    Commit,
    /// PUT of a streamed body. The client cannot send the body a second time.
    Streamed,
    /// PUT of a manifest.
    WriteManifest,
    /// DELETE of an upload session that is no longer needed.
    CancelUpload,
}

/// Failure of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No connection was established, so the registry has not received the request.
    NotSent,
    /// The registry closed the connection cleanly before processing the request.
    Unprocessed,
    /// The connection broke, a time limit ended, or the answer was unreadable. The registry may have executed the
    /// request.
    Broken,
    /// 429, or 503 with `Retry-After`: the registry refused the request before executing it.
    Throttled,
    /// Status 408, or a 5xx that is not [`Self::Throttled`].
    ServerError,
}

/// Returns true if the policy allows a repetition of this operation after this failure.
fn may_repeat(operation: Operation, failure: Failure) -> bool {
    use Failure::{Broken, NotSent, ServerError, Throttled, Unprocessed};
    match operation {
        Operation::Streamed => false,
        _ if failure == Unprocessed => true,
        Operation::Read
        | Operation::FindBlob
        | Operation::Token
        | Operation::Delete
        | Operation::OpenUpload
        | Operation::WriteManifest => {
            matches!(failure, NotSent | Unprocessed | Broken | Throttled | ServerError)
        }
        Operation::Chunk | Operation::Commit => matches!(failure, NotSent | Throttled),
        Operation::FindBlobOnce | Operation::Mount => failure == Throttled,
        Operation::CancelUpload | Operation::MirrorManifest => false,
    }
}

/// Attempts, pauses and time limits of the requests of a client.
#[derive(Debug, Clone)]
pub(crate) struct RetryPolicy {
    /// Pause before the first repetition. Each later pause is about twice the previous pause.
    pub(crate) first_pause: Duration,
    /// Longest pause before a repetition.
    pub(crate) longest_pause: Duration,
    /// Maximum number of failed attempts of one request.
    pub(crate) attempts: usize,
    /// Maximum number of throttled attempts of one request. The client counts throttled attempts and failed attempts
    /// separately.
    pub(crate) max_throttles: usize,
    /// Time limit to open a connection, including the TLS handshake.
    pub(crate) connect: Duration,
    /// Maximum time without a transferred byte in either direction.
    pub(crate) idle: Duration,
    /// Time limit for the headers of an answer with a blob; `None` means the value of `idle`.
    pub(crate) header: Option<Duration>,
    /// Time limit for a request and its whole answer, if the answer is not a blob.
    pub(crate) total: Duration,
    /// Maximum time from the last byte of an uploaded blob to the answer of the registry.
    pub(crate) commit: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(20),
            attempts: 5,
            max_throttles: 10,
            connect: Duration::from_secs(15),
            idle: Duration::from_secs(60),
            header: None,
            total: Duration::from_secs(90),
            commit: Duration::from_secs(300),
        }
    }
}

impl RetryPolicy {
    /// Returns the same policy with the timeouts that an operator set.
    pub(crate) fn with_timeouts(self, timeouts: Timeouts) -> Self {
        let Timeouts { connect, idle, header } = timeouts;
        Self {
            connect: connect.unwrap_or(self.connect),
            idle: idle.unwrap_or(self.idle),
            header: header.or(self.header),
            // The defaults have the same difference: `total` is 90 seconds, and `idle` is 60 seconds.
            total: header.map_or(self.total, |header| header + Duration::from_secs(30)),
            ..self
        }
    }

    /// Returns the time limit for a request and its whole answer, if the answer is not a blob. The limit is shorter at
    /// a mirror, because other hosts can answer.
    pub(crate) fn exchange_limit(&self, operation: Operation) -> Duration {
        match operation {
            Operation::MirrorManifest => self.header.unwrap_or(MIRROR_MANIFEST_TIMEOUT),
            _ => self.total,
        }
    }
}

/// Counters of the attempts of one request.
#[derive(Debug)]
pub(crate) struct Attempts {
    operation: Operation,
    failures: usize,
    throttles: usize,
    not_taken: u32,
    /// Maximum number of failed attempts, and maximum number of throttled attempts.
    limits: (usize, usize),
    pauses: ExponentialBackoff,
}

impl Attempts {
    pub(crate) fn new(operation: Operation, policy: &RetryPolicy) -> Self {
        let pauses = ExponentialBuilder::new()
            .with_min_delay(policy.first_pause)
            .with_max_delay(policy.longest_pause)
            .with_max_times(policy.attempts + policy.max_throttles)
            .with_jitter()
            .build();
        let max_throttles = match operation {
            Operation::FindBlob | Operation::FindBlobOnce | Operation::Mount => {
                policy.max_throttles.min(MAX_AUXILIARY_THROTTLES)
            }
            _ => policy.max_throttles,
        };
        Self { operation, failures: 1, throttles: 1, not_taken: 0, limits: (policy.attempts, max_throttles), pauses }
    }

    /// Returns the pause before the next attempt; `None` if the policy allows no other attempt. The first 200
    /// ([`MAX_UNPROCESSED`]) failures of the kind [`Failure::Unprocessed`] do not count as attempts.
    pub(crate) fn next_pause(&mut self, failure: Failure) -> Option<Duration> {
        if failure == Failure::Unprocessed && may_repeat(self.operation, failure) && self.not_taken < MAX_UNPROCESSED {
            self.not_taken += 1;
            return Some((Duration::from_millis(5) * (self.not_taken - 1)).min(MAX_UNPROCESSED_PAUSE));
        }
        let (used, limit) = match failure {
            Failure::Throttled => (&mut self.throttles, self.limits.1),
            _ => (&mut self.failures, self.limits.0),
        };
        if !may_repeat(self.operation, failure) || *used >= limit {
            return None;
        }
        *used += 1;
        self.pauses.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn possibly_executed_request_is_repeated_only_if_harmless() {
        use Failure::{Broken, NotSent, ServerError, Throttled};
        for operation in
            [Operation::Read, Operation::Token, Operation::Delete, Operation::OpenUpload, Operation::WriteManifest]
        {
            assert!([NotSent, Broken, Throttled, ServerError].iter().all(|failure| may_repeat(operation, *failure)));
        }
        for operation in [Operation::Chunk, Operation::Commit] {
            assert!(may_repeat(operation, NotSent) && may_repeat(operation, Throttled));
            assert!(!may_repeat(operation, Broken) && !may_repeat(operation, ServerError));
        }
        for operation in [Operation::Streamed, Operation::CancelUpload, Operation::MirrorManifest] {
            assert!(![NotSent, Broken, Throttled, ServerError].iter().any(|failure| may_repeat(operation, *failure)));
        }
    }

    #[test]
    fn unprocessed_request_is_repeated_without_using_an_attempt() {
        let policy = RetryPolicy { attempts: 3, ..RetryPolicy::default() };
        for operation in
            [Operation::Read, Operation::Chunk, Operation::Commit, Operation::MirrorManifest, Operation::CancelUpload]
        {
            let mut attempts = Attempts::new(operation, &policy);
            assert_eq!(attempts.next_pause(Failure::Unprocessed), Some(Duration::ZERO), "{operation:?}");
            let free = std::iter::from_fn(|| attempts.next_pause(Failure::Unprocessed)).take(199).collect::<Vec<_>>();
            assert!(
                free.len() == 199 && free.iter().all(|pause| *pause <= MAX_UNPROCESSED_PAUSE),
                "{operation:?}: {free:?}"
            );
            assert_eq!(attempts.failures, 1, "{operation:?}");
            let more = std::iter::from_fn(|| attempts.next_pause(Failure::Unprocessed)).count();
            assert_eq!(more, 2, "then each counts as any other failure: {operation:?}");
        }
        assert_eq!(
            Attempts::new(Operation::Streamed, &policy).next_pause(Failure::Unprocessed),
            None,
            "its bytes are gone"
        );
    }

    #[test]
    fn blob_lookup_and_mount_get_few_throttled_attempts() {
        for operation in [Operation::FindBlob, Operation::FindBlobOnce, Operation::Mount] {
            let mut attempts = Attempts::new(operation, &RetryPolicy::default());
            let throttled = std::iter::from_fn(|| attempts.next_pause(Failure::Throttled)).count();
            assert_eq!(throttled, MAX_AUXILIARY_THROTTLES - 1, "{operation:?}");
        }
    }

    #[test]
    fn attempts_are_bounded_and_throttles_count_separately() {
        let policy = RetryPolicy { attempts: 3, max_throttles: 4, ..RetryPolicy::default() };
        let mut attempts = Attempts::new(Operation::Read, &policy);
        let throttled = std::iter::from_fn(|| attempts.next_pause(Failure::Throttled)).count();
        let failed = std::iter::from_fn(|| attempts.next_pause(Failure::Broken)).count();
        assert_eq!((throttled, failed), (3, 2));
    }

    #[test]
    fn operator_timeouts_override_only_their_own_defaults() {
        let seconds = Duration::from_secs;
        let set = RetryPolicy::default().with_timeouts(Timeouts {
            connect: Some(seconds(1)),
            idle: None,
            header: Some(seconds(120)),
        });
        assert_eq!((set.connect, set.idle, set.header), (seconds(1), seconds(60), Some(seconds(120))));
        assert_eq!((set.total, set.commit), (seconds(150), seconds(300)));
        let unset = RetryPolicy::default().with_timeouts(Timeouts::default());
        assert_eq!((unset.connect, unset.header, unset.total), (seconds(15), None, seconds(90)));
    }

    #[test]
    fn pauses_grow_and_are_jittered_within_twice_their_length() {
        let mut attempts = Attempts::new(Operation::Read, &RetryPolicy::default());
        for least in [250, 500, 1000, 2000] {
            let pause = attempts.next_pause(Failure::Broken).unwrap().as_millis();
            assert!((least..=2 * least).contains(&pause), "{pause} after {least}");
        }
    }
}
