//! Attempts of requests that affect a quota, and the request that determines the remaining reads.

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
    /// HEAD of a manifest: free, and its answer reports the remaining reads.
    Free,
    /// GET of a manifest, by this digest or by a tag: counted.
    Counted(Option<Digest>),
}

/// Parts of an answer's head that concern the quota.
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

/// One attempt of one request. If the attempt is dropped before its outcome is recorded, it is unknown if the registry
/// counted it.
#[derive(Debug, Default)]
pub(crate) struct Attempt<'a> {
    quota: Option<&'a SharedQuota>,
    counted: bool,
    /// The manifest, if its read was reserved.
    reserved: Option<Digest>,
    /// Number of the attempt; 0 until it is sent.
    number: u64,
}

/// Guard of the request that determines the remaining reads, held until the answer is known or cannot be obtained.
pub(crate) struct ProbeGuard<'a> {
    quota: &'a SharedQuota,
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

    /// Records the outcome of the attempt. Returns an error if the registry reported that the quota is spent: a
    /// repeated request would be refused too.
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

impl Quota {
    /// Returns a guard if a counted read must first determine the remaining reads. One request gets the guard at a
    /// time; the others wait until the guard is dropped.
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
