//! Pull quota of one identity at a registry that counts manifest reads (Docker Hub's `ratelimit-limit` and
//! `ratelimit-remaining`). A read beyond the quota is not sent. The arithmetic is in `budget.rs`. Nothing here knows
//! which tag is worth a read.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use http::{HeaderMap, StatusCode};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::oci::{Digest, RegistryHost};
use crate::store::{ErrorKind, Reservation};

mod budget;
#[cfg(test)]
mod tests;

use budget::{Budget, Outcome, Report, Verdict, WINDOW};

/// The longest `Retry-After` of a 429 that concerns the request rate.
///
/// * A 429 with a longer `Retry-After` is the quota's.
/// * A 429 with a shorter one concerns the request rate.
/// * A 429 without one is the quota's if it answers a counted read.
const PATIENCE: Duration = Duration::from_secs(60);

/// Accepted quota windows, in seconds. Any gateway reports limits per second, minute or month under the same header
/// names; those concern the request rate or something else.
const WINDOWS: RangeInclusive<u64> = 600..=86_400;

/// Latest report of a registry that counts manifest reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaState {
    /// The registry.
    pub registry: RegistryHost,
    /// The identity used at the registry, as far as it is known: a user name or `anonymous`, never a secret.
    pub identity: String,
    /// Reads per window.
    pub limit: u64,
    /// Length of the window.
    pub window: Duration,
    /// Reads left in the window.
    pub remaining: u64,
    /// Reads reserved for other users of the quota (`limits.reserve_pulls`).
    pub reserved: u64,
    /// Time of the report.
    pub reported: DateTime<Utc>,
}

/// Effect of a request on the quota.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Reads {
    /// No effect.
    #[default]
    Nothing,
    /// HEAD of a manifest: free, and its answer reports the remaining reads.
    Free,
    /// GET of a manifest, by this digest or by a tag: counted.
    Counted(Option<Digest>),
}

/// Head of an answer, as far as the quota is concerned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AnswerHead<'a> {
    pub(crate) status: StatusCode,
    pub(crate) headers: &'a HeaderMap,
    /// Wait that the answer's `Retry-After` asks for.
    pub(crate) retry_after: Option<Duration>,
}

/// End of an attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) enum AttemptEnd<'a> {
    Answered(AnswerHead<'a>),
    /// The registry has not seen the request.
    NotSent,
    /// No answer came, and the registry may have counted the request.
    Lost,
}

/// Reason why a read is not sent: the quota does not allow it.
#[derive(Debug)]
pub(crate) struct QuotaError {
    pub(crate) kind: ErrorKind,
    pub(crate) detail: String,
}

/// Pull quota of one identity at one registry.
#[derive(Debug)]
pub(crate) struct Quota {
    inner: Arc<Inner>,
    /// Held by the request that finds out the remaining reads. The other requests wait for its result.
    finding_out: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Inner {
    registry: RegistryHost,
    state: Mutex<State>,
    ended: Notify,
}

#[derive(Debug, Default)]
struct State {
    budget: Budget,
    /// Manifests with reserved reads.
    reserved: HashMap<Digest, SetAside>,
}

/// Reserved reads of one manifest. A read cannot be attributed to one of the reservations that name its manifest, so
/// there are at most as many reserved reads as reservations.
#[derive(Debug, Default)]
struct SetAside {
    reservations: u64,
    reads: u64,
}

impl Quota {
    pub(crate) fn new(registry: RegistryHost) -> Self {
        let inner = Inner { registry, state: Mutex::default(), ended: Notify::new() };
        Self { inner: Arc::new(inner), finding_out: tokio::sync::Mutex::default() }
    }

    /// Sets the number of reads that are reserved for others.
    pub(crate) fn set_reserve(&self, reads: u64) {
        self.inner.lock().budget.set_reserve(reads);
        // A waiting request may now be admitted, or must fail.
        self.inner.ended.notify_waiters();
    }

    /// Returns true if this answer means that the quota is spent. Its `Retry-After` then delays no other kind of
    /// request.
    pub(crate) fn refuses(&self, reads: Reads, answer: AnswerHead<'_>) -> bool {
        let counted = matches!(reads, Reads::Counted(_));
        answer.status == StatusCode::TOO_MANY_REQUESTS && reads != Reads::Nothing && self.inner.refuses(answer, counted)
    }

    /// Returns true if the registry is known to count reads.
    pub(crate) fn counts(&self) -> bool {
        self.inner.registry.is_docker_hub() || self.inner.lock().budget.reads_left(Utc::now()).is_some()
    }

    /// Returns the remaining reads: [`u64::MAX`] if the registry does not count reads, `None` if nothing is known yet.
    pub(crate) fn reads_left(&self) -> Option<u64> {
        let state = self.inner.lock();
        state.budget.reads_left(Utc::now()).or((!state.budget.knows_nothing()).then_some(u64::MAX))
    }

    /// Waits until it is known whether the registry counts reads. Cancel safe.
    pub(crate) async fn wait_until_known(&self) {
        loop {
            let ended = self.inner.ended.notified();
            if !self.inner.lock().budget.knows_nothing() {
                return;
            }
            ended.await;
        }
    }

    /// Returns the latest report of the quota, if the registry has sent one. The identity is only shown.
    pub(crate) fn state(&self, identity: String) -> Option<QuotaState> {
        let state = self.inner.lock();
        let (told, at) = state.budget.latest_report(Utc::now())?;
        Some(QuotaState {
            registry: self.inner.registry.clone(),
            identity,
            limit: told.limit,
            window: told.window,
            remaining: told.remaining,
            reserved: state.budget.reserve_size(),
            reported: at,
        })
    }

    /// Reserves one read for each of these manifests: all or none.
    pub(crate) async fn reserve(&self, manifests: &[Digest]) -> Result<Reservation, QuotaError> {
        self.inner.wait_for_verdict(manifests.len() as u64, |state| state.reserve(manifests)).await?;
        let reserved = Reserved { inner: Arc::clone(&self.inner), manifests: manifests.to_vec() };
        Ok(Some(Box::new(reserved)))
    }

    /// Restores an earlier report of this registry. It is in force until the registry's next report.
    pub(crate) fn recall(&self, state: &QuotaState) {
        if state.registry == self.inner.registry {
            let told = Report { limit: state.limit, window: state.window, remaining: state.remaining };
            self.inner.lock().budget.recall(told, state.reported);
        }
    }

    /// Returns a guard if a counted read must first find out the remaining reads. One request gets the guard at a time;
    /// the others wait until it is dropped.
    pub(crate) async fn start_probe(&self, reads: Reads) -> Option<ProbeGuard<'_>> {
        let Reads::Counted(digest) = reads else { return None };
        if !self.inner.lock().needs_query(digest.as_ref()) {
            return None;
        }
        let turn = self.finding_out.lock().await;
        if !self.inner.lock().needs_query(digest.as_ref()) {
            return None;
        }
        Some(ProbeGuard { quota: &self.inner, _turn: turn })
    }

    /// Waits until a request with this effect may be sent.
    ///
    /// # Errors
    /// Returns an error for a counted read beyond the quota.
    pub(crate) async fn start_attempt(&self, reads: Reads) -> Result<Attempt<'_>, QuotaError> {
        let inner = self.inner.as_ref();
        let attempt = |counted, reserved| Attempt { quota: Some(inner), counted, reserved, number: 0 };
        match reads {
            Reads::Nothing => Ok(Attempt::default()),
            Reads::Free => Ok(attempt(false, None)),
            Reads::Counted(digest) => {
                let mut was_reserved = false;
                let take = |state: &mut State| {
                    let (verdict, reserved) = state.take_read(digest.as_ref());
                    was_reserved = reserved;
                    verdict
                };
                inner.wait_for_verdict(1, take).await?;
                Ok(attempt(true, digest.filter(|_| was_reserved)))
            }
        }
    }
}

impl State {
    fn reserve(&mut self, manifests: &[Digest]) -> Verdict {
        let verdict = self.budget.reserve(manifests.len() as u64, Utc::now());
        if verdict == Verdict::Taken {
            for digest in manifests {
                let aside = self.reserved.entry(*digest).or_default();
                aside.reservations += 1;
                aside.reads += 1;
            }
        }
        verdict
    }

    /// Ends a reservation and releases the reads that no other reservation may need.
    fn release(&mut self, manifests: &[Digest]) {
        for digest in manifests {
            let Some(aside) = self.reserved.get_mut(digest) else { continue };
            aside.reservations -= 1;
            let unused = aside.reads.saturating_sub(aside.reservations);
            aside.reads -= unused;
            self.budget.release(unused);
            if aside.reservations == 0 {
                self.reserved.remove(digest);
            }
        }
    }

    /// Reserves a read again that the registry did not count, if a reservation may still need it.
    fn reserve_again(&mut self, digest: &Digest) {
        if let Some(aside) = self.set_aside(Some(digest)).filter(|aside| aside.reads < aside.reservations) {
            aside.reads += 1;
            self.budget.reserve_again();
        }
    }

    fn set_aside(&mut self, digest: Option<&Digest>) -> Option<&mut SetAside> {
        self.reserved.get_mut(digest?)
    }

    fn needs_query(&self, digest: Option<&Digest>) -> bool {
        let is_reserved = digest.and_then(|digest| self.reserved.get(digest)).is_some_and(|aside| aside.reads > 0);
        !is_reserved && self.budget.needs_query(Utc::now())
    }

    /// Takes one read. The `bool` is true if the read was reserved.
    fn take_read(&mut self, digest: Option<&Digest>) -> (Verdict, bool) {
        if let Some(aside) = self.set_aside(digest).filter(|aside| aside.reads > 0) {
            aside.reads -= 1;
            self.budget.take_reserved();
            return (Verdict::Taken, true);
        }
        (self.budget.take_read(Utc::now()), false)
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Repeats `ask` until its verdict is final. On [`Verdict::Later`] it waits for a read in flight; such a read waits
    /// for no other read. Cancel safe.
    async fn wait_for_verdict(&self, reads: u64, mut ask: impl FnMut(&mut State) -> Verdict) -> Result<(), QuotaError> {
        loop {
            let ended = self.ended.notified();
            let verdict = ask(&mut self.lock());
            match verdict {
                Verdict::Taken => return Ok(()),
                Verdict::Later => ended.await,
                Verdict::Spent => return Err(self.spent_error(reads)),
                Verdict::Never => return Err(self.too_many_reads_error(reads)),
            }
        }
    }

    fn spent_error(&self, reads: u64) -> QuotaError {
        let told = self.lock().budget.latest_report(Utc::now());
        let window = told.map_or(WINDOW, |(told, _)| told.window);
        let needs = if reads > 1 { format!("{reads} more manifests must be read, and ") } else { String::new() };
        let left = told.map_or_else(|| "is spent".to_owned(), |(told, at)| self.describe_reads_left(told, at));
        let detail = format!("{needs}the pull limit of {} {left}", self.registry);
        QuotaError { kind: ErrorKind::QuotaSpent(wait_for(window)), detail }
    }

    /// Returns text such as `leaves 21 of 100 in 6h, of which 20 are reserved (reported 2026-11-21T09:00:00Z)`.
    fn describe_reads_left(&self, told: Report, at: DateTime<Utc>) -> String {
        let Report { limit, window, remaining } = told;
        let window = humantime::format_duration(window);
        let reserved = match self.lock().budget.reserve_size() {
            0 => String::new(),
            reserved => format!(", of which {reserved} are reserved"),
        };
        let at = at.to_rfc3339_opts(SecondsFormat::Secs, true);
        format!("leaves {remaining} of {limit} in {window}{reserved} (reported {at})")
    }

    fn too_many_reads_error(&self, reads: u64) -> QuotaError {
        let state = self.lock();
        let (limit, reserved) =
            (state.budget.latest_report(Utc::now()).map_or(0, |(told, _)| told.limit), state.budget.reserve_size());
        let registry = &self.registry;
        let detail = format!(
            "{reads} more manifests must be read, and the pull limit of {registry} is {limit}, of which {reserved} are \
             reserved: authenticate with an account that has a larger limit, lower `limits.reserve_pulls`, or select fewer \
             `platforms`"
        );
        QuotaError { kind: ErrorKind::Refused, detail }
    }
}

/// Returns the pause before the quota is checked again. No registry documents how its window moves, and a check is
/// free.
fn wait_for(window: Duration) -> Duration {
    (window / 12).max(Duration::from_secs(1))
}

/// Reserved reads. Dropping it releases the reads that were not used.
struct Reserved {
    inner: Arc<Inner>,
    manifests: Vec<Digest>,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.inner.lock().release(&self.manifests);
    }
}

/// One attempt of one request. If it is dropped before its outcome is recorded, nobody knows whether the registry
/// counted it.
#[derive(Debug, Default)]
pub(crate) struct Attempt<'a> {
    quota: Option<&'a Inner>,
    counted: bool,
    /// The manifest, if its read was reserved.
    reserved: Option<Digest>,
    /// Number of the attempt; 0 until it is sent.
    number: u64,
}

/// Guard of the request that finds out the remaining reads. It is held until the answer is known or cannot be had.
pub(crate) struct ProbeGuard<'a> {
    quota: &'a Inner,
    _turn: tokio::sync::MutexGuard<'a, ()>,
}

impl Drop for ProbeGuard<'_> {
    fn drop(&mut self) {
        self.quota.lock().budget.record_attempt(Utc::now());
    }
}

impl Attempt<'_> {
    /// Marks the attempt as sent now.
    pub(crate) fn mark_sent(&mut self) {
        if let Some(quota) = self.quota {
            self.number = quota.lock().budget.next_number();
        }
    }

    /// Records the outcome of the attempt. Returns an error if the registry said that the quota is spent: a repeated
    /// request would be refused too.
    pub(crate) fn record_end(mut self, end: AttemptEnd<'_>) -> Result<(), QuotaError> {
        let Some(quota) = self.quota else { return Ok(()) };
        let heard = match end {
            AttemptEnd::Answered(answer) => quota.classify_answer(answer, self.counted),
            AttemptEnd::NotSent => Outcome::Uncounted,
            AttemptEnd::Lost => Outcome::Lost,
        };
        self.end(heard);
        if heard == Outcome::Refused { Err(quota.spent_error(1)) } else { Ok(()) }
    }

    fn end(&mut self, heard: Outcome) {
        if let Some(quota) = self.quota.take() {
            let mut state = quota.lock();
            state.budget.record_outcome(self.number, self.counted, heard, Utc::now());
            // The read may be sent again soon. A read that waits for a long pause was counted or refused, and is not
            // reserved again.
            if let Some(digest) = self.reserved.filter(|_| heard == Outcome::Uncounted) {
                state.reserve_again(&digest);
            }
            drop(state);
            quota.ended.notify_waiters();
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.end(if self.number > 0 { Outcome::Lost } else { Outcome::Uncounted });
    }
}

impl Inner {
    fn classify_answer(&self, answer: AnswerHead<'_>, counted: bool) -> Outcome {
        let (status, told) = (answer.status, self.parse_report(answer.headers));
        if status == StatusCode::TOO_MANY_REQUESTS {
            return self.classify_429(told, answer, counted);
        }
        match told {
            Some(told) => Outcome::Reported(told),
            None if status.is_success() => Outcome::Silent,
            None if status.is_server_error() => Outcome::Lost,
            None if status == StatusCode::UNAUTHORIZED || self.registry.is_docker_hub() => Outcome::Uncounted,
            // A registry that counts reads reports it in every answer.
            None if self.lock().budget.knows_nothing() => Outcome::Silent,
            None => Outcome::Uncounted,
        }
    }

    /// Classifies a 429. Others who share the account or the address may have used up the quota.
    fn classify_429(&self, told: Option<Report>, answer: AnswerHead<'_>, counted: bool) -> Outcome {
        match told {
            Some(told) if told.remaining > 0 => Outcome::Reported(told),
            Some(told) => {
                self.lock().budget.recall(told, Utc::now());
                Outcome::Refused
            }
            None if self.refuses(answer, counted) => Outcome::Refused,
            None => Outcome::Uncounted,
        }
    }

    fn parse_report(&self, headers: &HeaderMap) -> Option<Report> {
        parse_headers(headers, self.registry.is_docker_hub().then_some(WINDOW))
    }

    /// Returns true if a 429 with this head is the quota's.
    fn refuses(&self, answer: AnswerHead<'_>, counted: bool) -> bool {
        if let Some(told) = self.parse_report(answer.headers) {
            return told.remaining == 0;
        }
        let is_counting = self.registry.is_docker_hub() || self.lock().budget.latest_report(Utc::now()).is_some();
        is_counting && answer.retry_after.map_or(counted, |asked| asked > PATIENCE)
    }
}

/// Parses the headers `ratelimit-limit: 100;w=21600` and `ratelimit-remaining: 76;w=21600`. Headers that state no
/// window get `unstated` as the window's length.
fn parse_headers(headers: &HeaderMap, unstated: Option<Duration>) -> Option<Report> {
    let read = |name: &str| {
        let text = headers.get(name)?.to_str().ok()?;
        let (count, parameters) = text.split_once(';').unwrap_or((text, ""));
        let window =
            parameters.split(';').find_map(|parameter| parameter.trim().strip_prefix("w=")?.parse::<u64>().ok());
        Some((count.trim().parse::<u64>().ok()?, window))
    };
    let (limit, window) = read("ratelimit-limit")?;
    let (remaining, _) = read("ratelimit-remaining")?;
    let window = match window {
        Some(seconds) => WINDOWS.contains(&seconds).then_some(Duration::from_secs(seconds)),
        None => unstated,
    }?;
    Some(Report { limit, window, remaining })
}
