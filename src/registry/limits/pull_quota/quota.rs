//! Pull quota of one identity at one registry: the state that all requests share, and the errors of a spent quota.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use http::StatusCode;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::attempt::{AnswerHead, Reads};
use super::budget::{Report, Verdict, WINDOW};
use super::ledger::QuotaLedger;
use crate::oci::{Digest, RegistryHost};
use crate::registry::Flavor;
use crate::store::{ErrorKind, Reservation};

/// Latest report of a registry that counts manifest reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaState {
    /// The registry.
    pub registry: RegistryHost,
    /// The identity used at the registry, if known: a user name or `anonymous`, never a secret.
    pub identity: String,
    /// Maximum number of reads per window.
    pub limit: u64,
    /// Length of the window.
    pub window: Duration,
    /// Number of remaining reads in the window.
    pub remaining: u64,
    /// Number of reads that this program leaves to other users of the quota (`limits.reserve_pulls`).
    pub reserved: u64,
    /// Time of the report.
    pub reported: DateTime<Utc>,
}

/// Error of a read that the client does not send, because the quota does not allow the read.
#[derive(Debug)]
pub(crate) struct QuotaError {
    pub(crate) kind: ErrorKind,
    pub(crate) detail: String,
}

/// Pull quota of one identity at one registry.
#[derive(Debug)]
pub(crate) struct Quota {
    pub(super) inner: Arc<SharedQuota>,
    /// Lock for the request that queries the remaining reads. Only one task at a time sends this request.
    pub(super) probe_lock: tokio::sync::Mutex<()>,
}

/// State of a quota, shared by its requests and reservations.
#[derive(Debug)]
pub(super) struct SharedQuota {
    pub(super) registry: RegistryHost,
    /// Length of the window if the registry does not state a length. `None` if the flavour of the registry is not known
    /// to count reads.
    pub(super) unstated_window: Option<Duration>,
    ledger: Mutex<QuotaLedger>,
    /// Notified when a read in flight has ended.
    pub(super) ended: Notify,
}

impl Quota {
    pub(crate) fn new(registry: RegistryHost) -> Self {
        let unstated_window = Flavor::from_host(&registry).pull_quota_window;
        let inner = SharedQuota { registry, unstated_window, ledger: Mutex::default(), ended: Notify::new() };
        Self { inner: Arc::new(inner), probe_lock: tokio::sync::Mutex::default() }
    }

    /// Sets the number of reads that this program leaves to other users of the quota.
    pub(crate) fn set_reserve(&self, reads: u64) {
        self.inner.lock().budget.set_reserve(reads);
        // Waiting requests must check the quota again with the new number.
        self.inner.ended.notify_waiters();
    }

    /// Returns true if this response means that the quota is spent. The `Retry-After` of such a response does not delay
    /// other requests.
    pub(crate) fn refuses(&self, reads: Reads, answer: AnswerHead<'_>) -> bool {
        let counted = matches!(reads, Reads::Counted(_));
        answer.status == StatusCode::TOO_MANY_REQUESTS && reads != Reads::Nothing && self.inner.refuses(answer, counted)
    }

    /// Returns true if the client knows that the registry counts reads.
    pub(crate) fn counts(&self) -> bool {
        self.inner.unstated_window.is_some() || self.inner.lock().budget.reads_left(Utc::now()).is_some()
    }

    /// Returns the number of remaining reads. If the registry does not count reads, returns [`u64::MAX`]. If the state
    /// of the quota is unknown, returns `None`.
    pub(crate) fn reads_left(&self) -> Option<u64> {
        let state = self.inner.lock();
        state.budget.reads_left(Utc::now()).or((!state.budget.knows_nothing()).then_some(u64::MAX))
    }

    /// Waits until the client knows whether the registry counts reads. Cancel safe.
    pub(crate) async fn wait_until_known(&self) {
        loop {
            let ended = self.inner.ended.notified();
            if !self.inner.lock().budget.knows_nothing() {
                return;
            }
            ended.await;
        }
    }

    /// Returns the latest report of the quota. `None` if the registry has sent no report. The result has the `identity`
    /// that the caller passes.
    pub(crate) fn state(&self, identity: String) -> Option<QuotaState> {
        let state = self.inner.lock();
        let (report, at) = state.budget.latest_report(Utc::now())?;
        Some(QuotaState {
            registry: self.inner.registry.clone(),
            identity,
            limit: report.limit,
            window: report.window,
            remaining: report.remaining,
            reserved: state.budget.reserve_size(),
            reported: at,
        })
    }

    /// Reserves one read for each of these manifests: all or none.
    pub(crate) async fn reserve(&self, manifests: &[Digest]) -> Result<Reservation, QuotaError> {
        self.inner.wait_for_verdict(manifests.len() as u64, |state| state.reserve(manifests)).await?;
        let reserved = QuotaReservation { inner: Arc::clone(&self.inner), manifests: manifests.to_vec() };
        Ok(Some(Box::new(reserved)))
    }

    /// If the client knows nothing about the quota yet, restores an earlier report of this registry.
    pub(crate) fn recall(&self, state: &QuotaState) {
        if state.registry == self.inner.registry {
            let report = Report { limit: state.limit, window: state.window, remaining: state.remaining };
            self.inner.lock().budget.recall(report, state.reported);
        }
    }
}

impl SharedQuota {
    pub(super) fn lock(&self) -> MutexGuard<'_, QuotaLedger> {
        self.ledger.lock()
    }

    /// Calls `decide` until `decide` returns a final verdict. After [`Verdict::Later`], waits until a read in flight
    /// has ended. A read in flight waits for no other read, so this wait causes no deadlock. Cancel safe.
    pub(super) async fn wait_for_verdict(
        &self,
        reads: u64,
        mut decide: impl FnMut(&mut QuotaLedger) -> Verdict,
    ) -> Result<(), QuotaError> {
        loop {
            let ended = self.ended.notified();
            let verdict = decide(&mut self.lock());
            match verdict {
                Verdict::Taken => return Ok(()),
                Verdict::Later => ended.await,
                Verdict::Spent => return Err(self.spent_error(reads)),
                Verdict::Never => return Err(self.too_many_reads_error(reads)),
            }
        }
    }

    pub(super) fn spent_error(&self, reads: u64) -> QuotaError {
        let report = self.lock().budget.latest_report(Utc::now());
        let window = report.map_or(WINDOW, |(report, _)| report.window);
        let needs = if reads > 1 { format!("{reads} more manifests must be read, and ") } else { String::new() };
        let left = report.map_or_else(|| "is spent".to_owned(), |(report, at)| self.describe_reads_left(report, at));
        let detail = format!("{needs}the pull limit of {} {left}", self.registry);
        QuotaError { kind: ErrorKind::QuotaSpent(wait_for(window)), detail }
    }

    /// Returns text such as `leaves 21 of 100 pulls per 6h, of which 20 are reserved (reported 2026-11-21T09:00:00Z)`.
    fn describe_reads_left(&self, report: Report, at: DateTime<Utc>) -> String {
        let Report { limit, window, remaining } = report;
        let window = humantime::format_duration(window);
        let reserved = match self.lock().budget.reserve_size() {
            0 => String::new(),
            reserved => format!(", of which {reserved} are reserved"),
        };
        let at = at.to_rfc3339_opts(SecondsFormat::Secs, true);
        format!("leaves {remaining} of {limit} pulls per {window}{reserved} (reported {at})")
    }

    fn too_many_reads_error(&self, reads: u64) -> QuotaError {
        let state = self.lock();
        let (limit, reserved) =
            (state.budget.latest_report(Utc::now()).map_or(0, |(report, _)| report.limit), state.budget.reserve_size());
        let registry = &self.registry;
        let detail = format!(
            "{reads} more manifests must be read, and the pull limit of {registry} is {limit}, of which {reserved} are \
             reserved: authenticate with an account that has a larger limit, lower `limits.reserve_pulls`, or select \
             fewer `platforms`"
        );
        QuotaError { kind: ErrorKind::Refused, detail }
    }
}

/// Returns the wait before a new attempt: a twelfth of the window, at least one second. The wait is shorter than the
/// window, because a sliding window frees some reads before its end.
fn wait_for(window: Duration) -> Duration {
    (window / 12).max(Duration::from_secs(1))
}

/// Reservation of reads. The drop of the reservation releases its unused reads.
struct QuotaReservation {
    inner: Arc<SharedQuota>,
    manifests: Vec<Digest>,
}

impl Drop for QuotaReservation {
    fn drop(&mut self) {
        self.inner.lock().release(&self.manifests);
    }
}
