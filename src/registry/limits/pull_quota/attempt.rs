//! Attempts to send requests that affect a pull quota, and the guard of the request that queries the remaining reads.

use std::time::Duration;

use chrono::Utc;
use http::{HeaderMap, StatusCode};

use super::budget::Outcome;
use super::ledger::QuotaLedger;
use super::quota::{Quota, QuotaError, SharedQuota};
use crate::oci::Digest;

/// Effect of a request on the quota.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Reads {
    /// No effect.
    #[default]
    Nothing,
    /// HEAD of a manifest. The registry does not count such a HEAD, and reports the remaining reads in the response.
    Free,
    /// GET of a manifest, by this digest or by a tag. The registry counts such a GET.
    Counted(Option<Digest>),
}

/// Parts of a response that concern the quota: the status and the headers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AnswerHead<'a> {
    pub(crate) status: StatusCode,
    pub(crate) headers: &'a HeaderMap,
    /// Wait that the header `Retry-After` of the response requests.
    pub(crate) retry_after: Option<Duration>,
}

/// End of an attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) enum AttemptEnd<'a> {
    Answered(AnswerHead<'a>),
    /// The client did not send the request.
    NotSent,
    /// The client received no response, and the registry may have counted the request.
    Lost,
}

/// One attempt to send one request. If the caller drops a sent attempt without a call of [`Attempt::record_end`], the
/// attempt counts as lost.
#[derive(Debug, Default)]
pub(crate) struct Attempt<'a> {
    quota: Option<&'a SharedQuota>,
    /// True if the registry counts the request as a read.
    counted: bool,
    /// Digest of the requested manifest, if the attempt uses a reserved read of this manifest.
    reserved: Option<Digest>,
    /// Number of the attempt. 0 before the client sends the request.
    number: u64,
}

/// Guard of the request that queries the remaining reads. The caller holds the guard until this request has ended.
pub(crate) struct ProbeGuard<'a> {
    quota: &'a SharedQuota,
    _lock: tokio::sync::MutexGuard<'a, ()>,
}

impl Drop for ProbeGuard<'_> {
    fn drop(&mut self) {
        self.quota.lock().budget.record_attempt(Utc::now());
    }
}

impl Attempt<'_> {
    pub(crate) fn mark_sent(&mut self) {
        if let Some(quota) = self.quota {
            self.number = quota.lock().budget.next_number();
        }
    }

    /// Records the outcome of the attempt.
    ///
    /// # Errors
    /// Returns an error if the registry refused the request because the quota is spent.
    pub(crate) fn record_end(mut self, end: AttemptEnd<'_>) -> Result<(), QuotaError> {
        let Some(quota) = self.quota else { return Ok(()) };
        let outcome = match end {
            AttemptEnd::Answered(answer) => quota.classify_answer(answer, self.counted),
            AttemptEnd::NotSent => Outcome::Uncounted,
            AttemptEnd::Lost => Outcome::Lost,
        };
        self.end(outcome);
        if outcome == Outcome::Refused { Err(quota.spent_error(1)) } else { Ok(()) }
    }

    fn end(&mut self, outcome: Outcome) {
        if let Some(quota) = self.quota.take() {
            let mut state = quota.lock();
            state.budget.record_outcome(self.number, self.counted, outcome, Utc::now());
            // The caller often repeats a read that the registry did not count. So this attempt returns the read to the
            // reservation.
            if let Some(digest) = self.reserved.filter(|_| outcome == Outcome::Uncounted) {
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

impl Quota {
    /// If the caller must query the remaining reads before this counted read, returns a guard for the query. Only one
    /// caller at a time has a guard. A second caller waits until the first caller drops the guard. The result of the
    /// first query is then recent, so the second caller gets `None`.
    pub(crate) async fn start_probe(&self, reads: Reads) -> Option<ProbeGuard<'_>> {
        let Reads::Counted(digest) = reads else { return None };
        if !self.inner.lock().needs_query(digest.as_ref()) {
            return None;
        }
        let lock = self.probe_lock.lock().await;
        if !self.inner.lock().needs_query(digest.as_ref()) {
            return None;
        }
        Some(ProbeGuard { quota: &self.inner, _lock: lock })
    }

    /// Waits until the quota allows a request with this effect.
    ///
    /// # Errors
    /// If the quota is too small for this counted read, returns an error.
    pub(crate) async fn start_attempt(&self, reads: Reads) -> Result<Attempt<'_>, QuotaError> {
        let inner = self.inner.as_ref();
        let attempt = |counted, reserved| Attempt { quota: Some(inner), counted, reserved, number: 0 };
        match reads {
            Reads::Nothing => Ok(Attempt::default()),
            Reads::Free => Ok(attempt(false, None)),
            Reads::Counted(digest) => {
                let mut was_reserved = false;
                let take = |state: &mut QuotaLedger| {
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
