//! Attempts of requests that affect a quota, and the request that finds out the remaining reads.

use chrono::Utc;

use super::budget::{Outcome, Report};
use super::ledger::QuotaLedger;
use super::quota::{QuotaState, SharedQuota};
use crate::oci::Digest;
use crate::registry::Registry;
use crate::registry::http::error::TransportError;
use crate::registry::http::response::{Context, Response};
use crate::registry::http::retry;
use crate::registry::http::send::RegistryRequest;
use crate::store::StoreError;

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

/// One attempt of one request. If it is dropped before its outcome is recorded, nobody knows whether the registry
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

/// Guard of the request that finds out the remaining reads. It is held until the answer is known or cannot be had.
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

    /// Records the outcome of the attempt. Returns an error if the registry said that the quota is spent: a repeated
    /// request would be refused too.
    pub(crate) fn record_outcome(
        mut self,
        context: &Context,
        outcome: &Result<Response, TransportError>,
    ) -> Result<(), StoreError> {
        let Some(quota) = self.quota else { return Ok(()) };
        let heard = match outcome {
            Ok(answer) => quota.classify_answer(answer.status, &answer.headers, self.counted),
            Err(trouble) if trouble.failure() == Some(retry::Failure::NotSent) => Outcome::Uncounted,
            Err(_) => Outcome::Lost,
        };
        self.end(heard);
        if heard == Outcome::Refused { Err(quota.spent_error(context, 1)) } else { Ok(()) }
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

impl Registry {
    /// Returns the latest report of the quota, if the registry has sent one.
    #[must_use]
    pub fn quota(&self) -> Option<QuotaState> {
        self.auth.quota.state(self.auth.identity())
    }

    /// Restores an earlier report of this registry and identity. It is in force until the registry's next report.
    pub fn recall_quota(&self, state: &QuotaState) {
        let inner = &self.auth.quota.inner;
        if (&state.registry, &state.identity) == (&inner.registry, &self.auth.identity()) {
            let report = Report { limit: state.limit, window: state.window, remaining: state.remaining };
            inner.lock().budget.recall(report, state.reported);
        }
    }

    /// Finds out the remaining reads, if they must be known before a counted read. One request finds out, and the
    /// others wait:
    ///
    /// * At Docker Hub, and where there was a quota before, it sends a HEAD, which is free.
    /// * Elsewhere its own read shows whether there is a quota. The returned guard is held until that read is answered.
    pub(crate) async fn find_out_quota(&self, context: &Context, call: &RegistryRequest) -> Option<ProbeGuard<'_>> {
        let quota = &self.auth.quota;
        let Reads::Counted(digest) = call.reads else { return None };
        if !quota.inner.lock().needs_query(digest.as_ref()) {
            return None;
        }
        let turn = quota.finding_out.lock().await;
        if !quota.inner.lock().needs_query(digest.as_ref()) {
            return None;
        }
        let alone = ProbeGuard { quota: &quota.inner, _turn: turn };
        if !quota.counts() {
            return Some(alone);
        }
        // If the HEAD fails, the read fails too, and the read's error says more.
        let _ = Box::pin(self.send(context, call.as_head())).await;
        None
    }

    /// Waits until this request may be sent. A counted read beyond the quota is not sent.
    pub(crate) async fn attempt_within_quota(
        &self,
        context: &Context,
        call: &RegistryRequest,
    ) -> Result<Attempt<'_>, StoreError> {
        let inner = self.auth.quota.inner.as_ref();
        let attempt = |counted, reserved| Attempt { quota: Some(inner), counted, reserved, number: 0 };
        match &call.reads {
            Reads::Nothing => Ok(Attempt::default()),
            Reads::Free => Ok(attempt(false, None)),
            Reads::Counted(digest) => {
                let mut was_reserved = false;
                let take = |state: &mut QuotaLedger| {
                    let (verdict, reserved) = state.take_read(digest.as_ref());
                    was_reserved = reserved;
                    verdict
                };
                inner.wait_for_verdict(context, 1, take).await?;
                Ok(attempt(true, digest.filter(|_| was_reserved)))
            }
        }
    }
}
