//! Which requests may be repeated after which failures, how often and how soon. The only place that decides so.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use chrono::{DateTime, Utc};
use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};

use super::Timeouts;

/// A `Retry-After` beyond this is believed to be a mistake.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// Most times that a request is sent again because the registry ended the connection before it looked at it. A proxy
/// that ends each connection after a few requests leaves most of those out that were sent together.
const MOST_NOT_TAKEN: u32 = 200;

/// The longest pause before that; the first has none.
const LONGEST_NOT_TAKEN: Duration = Duration::from_millis(100);

/// How often at most a request is sent to a registry that asks for patience, where the copy can do without its answer.
const AUXILIARY_PATIENCE: usize = 3;

/// How long a mirror has for a manifest, where the operator does not say.
const STAND_IN: Duration = Duration::from_secs(15);

/// What a request does, as far as repeating it is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// GET and HEAD.
    Read,
    /// GET at a mirror: what it does not give, others do.
    StandIn,
    /// HEAD of a blob: where nobody answers, the blob is sent.
    Look,
    /// HEAD of a blob at a registry that has failed to answer one before.
    Glance,
    /// POST that mounts a blob: where it fails, the blob is sent.
    Mount,
    /// Asking for a token.
    Token,
    /// DELETE of a manifest.
    Delete,
    /// POST of a new upload session. A second one leaves an idle session behind, which the registry forgets.
    OpenUpload,
    /// PATCH of a chunk that is in memory. Where it was cut off, nobody knows what has been stored.
    Chunk,
    /// PUT that ends a session, its bytes (if any) in memory.
    Commit,
    /// PUT of bytes that flow and are gone.
    Streamed,
    /// PUT of a manifest.
    WriteManifest,
    /// DELETE of a session that nobody needs.
    Farewell,
}

/// How a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No connection: the registry has not seen it.
    NotSent,
    /// The registry ended the connection in good order before it looked at the request.
    NotTaken,
    /// Cut off, timed out or unreadable: the registry may have done it.
    Broken,
    /// 429, or 503 with `Retry-After`: refused before it was done.
    Throttled,
    /// Any other 5xx, and 408.
    Failing,
}

/// The table.
fn may_repeat(kind: Kind, failure: Failure) -> bool {
    use Failure::{Broken, Failing, NotSent, NotTaken, Throttled};
    match kind {
        Kind::Streamed => false,
        _ if failure == NotTaken => true,
        Kind::Read | Kind::Look | Kind::Token | Kind::Delete | Kind::OpenUpload | Kind::WriteManifest => {
            matches!(failure, NotSent | NotTaken | Broken | Throttled | Failing)
        }
        Kind::Chunk | Kind::Commit => matches!(failure, NotSent | Throttled),
        Kind::Glance | Kind::Mount => failure == Throttled,
        Kind::Farewell | Kind::StandIn => false,
    }
}

/// Which failure a status is, if it is one that may pass.
pub(crate) fn failure_of(status: StatusCode, headers: &HeaderMap) -> Option<Failure> {
    match status {
        StatusCode::TOO_MANY_REQUESTS => Some(Failure::Throttled),
        StatusCode::SERVICE_UNAVAILABLE if headers.contains_key(RETRY_AFTER) => Some(Failure::Throttled),
        StatusCode::REQUEST_TIMEOUT => Some(Failure::Failing),
        // 501 and 505 are for good.
        StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED => None,
        status if status.is_server_error() => Some(Failure::Failing),
        _ => None,
    }
}

/// How long a registry asks us to wait: seconds or a date, at most [`LONGEST_PAUSE`].
pub(crate) fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            // The weekday says nothing that the date does not.
            let date = text.split_once(", ").map_or(text, |(_, date)| date);
            (DateTime::parse_from_rfc2822(date).ok()?.to_utc() - now).to_std().unwrap_or_default()
        }
    };
    Some(wait.min(LONGEST_PAUSE))
}

/// How patient a client is. Tests are less so.
#[derive(Debug, Clone)]
pub(crate) struct Tempo {
    /// The first pause before a repetition; each further one is about twice as long.
    pub(crate) first_pause: Duration,
    /// The longest of them.
    pub(crate) longest_pause: Duration,
    /// How often a request is sent at most when the registry fails.
    pub(crate) attempts: usize,
    /// How often at most when the registry asks for patience, which is no failure.
    pub(crate) patience: usize,
    /// To open a connection, with TLS.
    pub(crate) connect: Duration,
    /// Without a single byte in either direction.
    pub(crate) idle: Duration,
    /// For the answer with a blob to begin; `None` is as `idle`.
    pub(crate) header: Option<Duration>,
    /// For a whole exchange with a small answer.
    pub(crate) total: Duration,
    /// For a registry to store a blob after its last byte.
    pub(crate) commit: Duration,
}

impl Default for Tempo {
    fn default() -> Self {
        Self {
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(20),
            attempts: 5,
            patience: 10,
            connect: Duration::from_secs(15),
            idle: Duration::from_secs(60),
            header: None,
            total: Duration::from_secs(90),
            commit: Duration::from_secs(300),
        }
    }
}

impl Tempo {
    /// The same with what an operator set.
    pub(crate) fn with(self, timeouts: Timeouts) -> Self {
        let Timeouts { connect, idle, header } = timeouts;
        Self {
            connect: connect.unwrap_or(self.connect),
            idle: idle.unwrap_or(self.idle),
            header: header.or(self.header),
            // By default half a minute more than an answer has to begin.
            total: header.map_or(self.total, |header| header + Duration::from_secs(30)),
            ..self
        }
    }

    /// For a whole exchange with a small answer. Who asks a mirror can ask others, so a mirror gets less.
    pub(crate) fn whole(&self, kind: Kind) -> Duration {
        match kind {
            Kind::StandIn => self.header.unwrap_or(STAND_IN),
            _ => self.total,
        }
    }
}

/// The attempts of one request.
#[derive(Debug)]
pub(crate) struct Attempts {
    kind: Kind,
    failures: usize,
    throttles: usize,
    not_taken: u32,
    limits: (usize, usize),
    pauses: ExponentialBackoff,
}

impl Attempts {
    pub(crate) fn of(kind: Kind, tempo: &Tempo) -> Self {
        let pauses = ExponentialBuilder::new()
            .with_min_delay(tempo.first_pause)
            .with_max_delay(tempo.longest_pause)
            .with_max_times(tempo.attempts + tempo.patience)
            .with_jitter()
            .build();
        let patience = match kind {
            Kind::Look | Kind::Glance | Kind::Mount => tempo.patience.min(AUXILIARY_PATIENCE),
            _ => tempo.patience,
        };
        Self { kind, failures: 1, throttles: 1, not_taken: 0, limits: (tempo.attempts, patience), pauses }
    }

    /// How long to wait before the request is sent again; `None` when it is not.
    ///
    /// A request that the registry did not look at counts as no attempt.
    pub(crate) fn again(&mut self, failure: Failure) -> Option<Duration> {
        if failure == Failure::NotTaken && may_repeat(self.kind, failure) && self.not_taken < MOST_NOT_TAKEN {
            self.not_taken += 1;
            return Some((Duration::from_millis(5) * (self.not_taken - 1)).min(LONGEST_NOT_TAKEN));
        }
        let (used, limit) = match failure {
            Failure::Throttled => (&mut self.throttles, self.limits.1),
            _ => (&mut self.failures, self.limits.0),
        };
        if !may_repeat(self.kind, failure) || *used >= limit {
            return None;
        }
        *used += 1;
        self.pauses.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(value: &str) -> Option<u64> {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
        let now = DateTime::parse_from_rfc3339("1994-11-06T08:49:07Z").unwrap().to_utc();
        retry_after(&headers, now).map(|wait| wait.as_secs())
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_never_more_than_an_hour() {
        assert_eq!(after("7"), Some(7));
        assert_eq!(after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(30));
        assert_eq!(after("Sun, 06 Nov 1994 08:49:00 GMT"), Some(0));
        assert_eq!(after("86400"), Some(3600));
        assert_eq!(after("Sun, 06 Nov 2094 08:49:37 GMT"), Some(3600));
        assert_eq!(after("soon"), None);
        assert_eq!(after("-1"), None);
    }

    #[test]
    fn what_may_have_been_done_is_repeated_only_where_that_does_no_harm() {
        use Failure::{Broken, Failing, NotSent, Throttled};
        for kind in [Kind::Read, Kind::Token, Kind::Delete, Kind::OpenUpload, Kind::WriteManifest] {
            assert!([NotSent, Broken, Throttled, Failing].iter().all(|failure| may_repeat(kind, *failure)));
        }
        for kind in [Kind::Chunk, Kind::Commit] {
            assert!(may_repeat(kind, NotSent) && may_repeat(kind, Throttled));
            assert!(!may_repeat(kind, Broken) && !may_repeat(kind, Failing));
        }
        for kind in [Kind::Streamed, Kind::Farewell, Kind::StandIn] {
            assert!(![NotSent, Broken, Throttled, Failing].iter().any(|failure| may_repeat(kind, *failure)));
        }
    }

    #[test]
    fn what_a_registry_did_not_look_at_is_sent_again_without_counting() {
        let tempo = Tempo { attempts: 3, ..Tempo::default() };
        for kind in [Kind::Read, Kind::Chunk, Kind::Commit, Kind::StandIn, Kind::Farewell] {
            let mut attempts = Attempts::of(kind, &tempo);
            assert_eq!(attempts.again(Failure::NotTaken), Some(Duration::ZERO), "{kind:?}");
            let free = std::iter::from_fn(|| attempts.again(Failure::NotTaken)).take(199).collect::<Vec<_>>();
            assert!(free.len() == 199 && free.iter().all(|pause| *pause <= LONGEST_NOT_TAKEN), "{kind:?}: {free:?}");
            assert_eq!(attempts.failures, 1, "{kind:?}");
            let more = std::iter::from_fn(|| attempts.again(Failure::NotTaken)).count();
            assert_eq!(more, 2, "then it counts as any other failure: {kind:?}");
        }
        assert_eq!(Attempts::of(Kind::Streamed, &tempo).again(Failure::NotTaken), None, "its bytes are gone");
    }

    #[test]
    fn a_look_and_a_mount_get_little_patience() {
        for kind in [Kind::Look, Kind::Glance, Kind::Mount] {
            let mut attempts = Attempts::of(kind, &Tempo::default());
            let throttled = std::iter::from_fn(|| attempts.again(Failure::Throttled)).count();
            assert_eq!(throttled, AUXILIARY_PATIENCE - 1, "{kind:?}");
        }
    }

    #[test]
    fn attempts_are_bounded_and_a_throttle_is_no_failure() {
        let tempo = Tempo { attempts: 3, patience: 4, ..Tempo::default() };
        let mut attempts = Attempts::of(Kind::Read, &tempo);
        let throttled = std::iter::from_fn(|| attempts.again(Failure::Throttled)).count();
        let failed = std::iter::from_fn(|| attempts.again(Failure::Broken)).count();
        assert_eq!((throttled, failed), (3, 2));
    }

    #[test]
    fn what_an_operator_sets_counts_and_the_rest_stays() {
        let seconds = Duration::from_secs;
        let set = Tempo::default().with(Timeouts { connect: Some(seconds(1)), idle: None, header: Some(seconds(120)) });
        assert_eq!((set.connect, set.idle, set.header), (seconds(1), seconds(60), Some(seconds(120))));
        assert_eq!((set.total, set.commit), (seconds(150), seconds(300)));
        let unset = Tempo::default().with(Timeouts::default());
        assert_eq!((unset.connect, unset.header, unset.total), (seconds(15), None, seconds(90)));
    }

    #[test]
    fn pauses_grow_and_are_jittered_within_twice_their_length() {
        let mut attempts = Attempts::of(Kind::Read, &Tempo::default());
        for least in [250, 500, 1000, 2000] {
            let pause = attempts.again(Failure::Broken).unwrap().as_millis();
            assert!((least..=2 * least).contains(&pause), "{pause} after {least}");
        }
    }
}
