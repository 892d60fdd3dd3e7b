//! Concurrency limiter of a registry: the limit of requests in flight, the request rates, and the order of the waiting
//! requests.
//!
//! A copy reads and writes at the same time, often within one registry. These rules prevent a deadlock of reads and
//! writes:
//!
//! - A write acquires its permit only once its first bytes are available. So the holder of a write permit waits for no
//!   read permit.
//! - A read that resumes in the middle of a write waits for no permit.
//! - A read releases its permit at its last byte.
//! - Blob reads never take the last permit, so one write can always start. If the limit drops below the number of reads
//!   in flight, one write can still start.
//!
//! An upload holds its slot until its source has delivered all bytes. One tenant can have at most seven uploads for
//! each slot that remains free. So a tenant with a slow source cannot occupy all slots. For example, one tenant can
//! have 28 uploads if the limit is 32 requests in flight.
//!
//! A request that waits for a rate, or for the end of a pause, holds no permit. So writes that exceed their rate do not
//! delay reads. Tenants take turns. Within one tenant and priority, requests get permits in the order of their arrival.
//!
//! The limit adapts to the registry:
//!
//! - If the registry asks the client to slow down, the limiter halves the limit.
//! - When the number of successes since the last change equals the limit, the limiter raises the limit by one. The
//!   configured maximum bounds the limit.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::pace::{Buckets, Class};
use super::snapshot::ConcurrencyLoad;
use crate::fair_queue::{Resource, Tenant, Unavailable, WaitQueue};
use crate::registry::LimitsInForce;

/// Maximum number of uploads of a tenant for each slot that remains free.
const MAX_UPLOAD_SHARE: usize = 7;

/// Default number of requests in flight.
pub(crate) const DEFAULT_CONCURRENT: usize = 32;

/// Class of a request. The class determines the priority of the request, and the permit that the request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestClass {
    /// Request whose response does not wait for another request, such as the read of a manifest.
    Common,
    /// Read of a blob from its first byte. The transfer of the body waits for the write to the target.
    BlobRead,
    /// Blob read that resumes in the middle of a write. The read needs no permit.
    BlobResumed,
    /// Bytes or commit of an upload that has started. A started upload occupies memory, and the read from its source is
    /// still in progress. So this request precedes requests that start an upload or a read.
    Continued,
    /// Token request for a request that holds a permit. The token request needs no permit.
    Token,
}

/// Counter that a permit increments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PermitCount {
    Read,
    /// Upload of this tenant that has started.
    Upload(Tenant),
    Other,
}

impl RequestClass {
    /// Returns the priority of a request as an index into [`CLASSES`]. `class` is the request's class for rates. The
    /// queue serves the priorities 0 to 2 first ([`Resource::PREFERRED`]).
    fn priority(self, class: Class) -> usize {
        match (self, class) {
            (Self::Continued, _) => 0,
            (Self::BlobResumed, _) => 1,
            (Self::Token, _) => 2,
            (Self::Common, Class::Read | Class::Token) => 3,
            (Self::Common, Class::ReferrerList) => 4,
            (Self::Common, Class::Write) => 5,
            (Self::Common, Class::Upload) => 6,
            (Self::Common, Class::Delete) => 7,
            (Self::BlobRead, _) => 8,
        }
    }
}

/// Request class and rate class of each priority. The index in the list is the priority.
const CLASSES: [(RequestClass, Class); 9] = [
    (RequestClass::Continued, Class::Write),
    (RequestClass::BlobResumed, Class::Read),
    (RequestClass::Token, Class::Token),
    (RequestClass::Common, Class::Read),
    (RequestClass::Common, Class::ReferrerList),
    (RequestClass::Common, Class::Write),
    (RequestClass::Common, Class::Upload),
    (RequestClass::Common, Class::Delete),
    (RequestClass::BlobRead, Class::Read),
];

type Queue = WaitQueue<ConcurrencyState, { CLASSES.len() }>;

/// Permit of a request. The request holds the permit until the client has read the body. The default permit does not
/// count against the limit.
#[derive(Debug, Default)]
pub(crate) struct Permit {
    number: u64,
    counted: Option<(Arc<Queue>, PermitCount)>,
}

impl Permit {
    /// Returns the sequence number of the request among all requests that got a permit.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some((queue, count)) = self.counted.take() {
            queue.change(|state| state.leave(count));
        }
    }
}

/// Concurrency limiter of one registry.
#[derive(Debug, Clone)]
pub(crate) struct ConcurrencyLimiter(Arc<Queue>);

/// Requests in flight, and the limits of these requests.
#[derive(Debug)]
struct ConcurrencyState {
    own: Weak<Queue>,
    /// Configured maximum of requests in flight; `limit` is at most this value.
    configured: usize,
    /// Current maximum of requests in flight.
    limit: usize,
    /// Number of the first request after the limit was last halved. Responses to earlier requests do not change the
    /// limit.
    halved_at: u64,
    /// Number of successes since the limit was last changed.
    successes: usize,
    /// Number of blob reads in flight.
    reads: usize,
    /// Number of all other requests in flight.
    others: usize,
    /// Number of requests in `others` that belong to started uploads, by tenant. Uploads of the default tenant are
    /// exempt and not counted here.
    uploads: HashMap<Tenant, usize>,
    /// Number of permits granted so far.
    entered: u64,
    buckets: Buckets,
}

impl ConcurrencyLimiter {
    pub(crate) fn new(limits: &LimitsInForce) -> Self {
        let configured = in_flight(limits);
        Self(WaitQueue::new(|own| ConcurrencyState {
            own: own.clone(),
            configured,
            limit: configured,
            halved_at: 0,
            successes: 0,
            reads: 0,
            others: 0,
            uploads: HashMap::new(),
            entered: 0,
            buckets: Buckets::new(limits),
        }))
    }

    /// Waits until a permit is free, and no rate and no pause delays the request. Also returns the time for which rates
    /// or a pause delayed the request. Cancel safe: if the caller stops waiting, the next waiter gets the permit.
    pub(crate) async fn enter(&self, tenant: Tenant, request: RequestClass, class: Class) -> (Permit, Duration) {
        let (permit, waited) = self.0.acquire(tenant, request.priority(class), NonZeroU32::MIN).await;
        // The queue exists during this call, so `acquire` always returns a permit.
        (permit.unwrap_or_default(), waited)
    }

    pub(crate) fn pause(&self, wait: Duration) {
        let until = Instant::now() + wait;
        self.0.change(|state| state.buckets.pause(until));
    }

    /// Returns true if a pause is in force. If time passes between the grant of a permit and the request, the caller
    /// should call this function before the request.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused_for().is_some()
    }

    /// Returns the remaining time of the current pause. `None` if no pause is in force.
    pub(crate) fn paused_for(&self) -> Option<Duration> {
        let now = Instant::now();
        self.0.with_resource(|state| state.buckets.paused(now).map(|until| until - now))
    }

    pub(crate) fn load(&self) -> ConcurrencyLoad {
        self.0.with_resource(|state| ConcurrencyLoad {
            in_flight: state.reads + state.others,
            limit: state.limit,
            configured: state.configured,
            rates: state.buckets.rates(),
        })
    }

    /// Replaces the limits, also for waiting requests. Granted permits stay valid. A rate that does not change keeps
    /// its state.
    pub(crate) fn set_limits(&self, limits: &LimitsInForce) {
        self.0.change(|state| {
            state.configure(in_flight(limits));
            state.buckets.set(limits);
        });
    }

    /// Records that the request of this number succeeded.
    pub(crate) fn answered(&self, number: u64) {
        self.0.change(|state| state.answered(number));
    }

    /// Records that the response to the request of this number asked the client to slow down. If this response lowers
    /// the limit, returns the new limit.
    pub(crate) fn throttled(&self, number: u64) -> Option<usize> {
        // A lower limit admits no waiting request, so this method does not serve the queue.
        self.0.with_resource(|state| state.throttled(number))
    }
}

fn in_flight(limits: &LimitsInForce) -> usize {
    limits.concurrent.value.unwrap_or(DEFAULT_CONCURRENT).max(1)
}

impl Resource for ConcurrencyState {
    type Grant = Permit;

    /// The preferred priorities are 0 to 2: started uploads, resumed reads and token requests.
    const PREFERRED: usize = 3;

    fn take(&mut self, tenant: Tenant, priority: usize, _: NonZeroU32, now: Instant) -> Result<Permit, Unavailable> {
        let (request, class) = CLASSES[priority];
        let count = match request {
            RequestClass::Continued if tenant != Tenant::default() => Some(PermitCount::Upload(tenant)),
            RequestClass::Common | RequestClass::Continued => Some(PermitCount::Other),
            RequestClass::BlobRead => Some(PermitCount::Read),
            RequestClass::BlobResumed => Some(PermitCount::Read).filter(|count| self.admits(*count)),
            RequestClass::Token => None,
        };
        if count.is_some_and(|count| !self.admits(count)) {
            return Err(Unavailable::UntilChanged);
        }
        if matches!(count, Some(PermitCount::Upload(tenant)) if self.has_full_share(tenant)) {
            return Err(Unavailable::ForTenant);
        }
        self.buckets.take(class, now).map_err(Unavailable::Until)?;
        Ok(self.create_permit(count))
    }
}

impl ConcurrencyState {
    fn enter(&mut self, count: PermitCount) {
        match count {
            PermitCount::Read => self.reads += 1,
            PermitCount::Upload(tenant) => {
                self.others += 1;
                *self.uploads.entry(tenant).or_default() += 1;
            }
            PermitCount::Other => self.others += 1,
        }
    }

    fn leave(&mut self, count: PermitCount) {
        match count {
            PermitCount::Read => self.reads -= 1,
            PermitCount::Upload(tenant) => {
                self.others -= 1;
                if let Some(uploads) = self.uploads.get_mut(&tenant) {
                    *uploads -= 1;
                    if *uploads == 0 {
                        self.uploads.remove(&tenant);
                    }
                }
            }
            PermitCount::Other => self.others -= 1,
        }
    }

    /// Returns true if one more upload of this tenant would leave too few free slots. The first upload of a tenant can
    /// always start.
    fn has_full_share(&self, tenant: Tenant) -> bool {
        let Some(uploads) = self.uploads.get(&tenant) else { return false };
        let free = self.limit.saturating_sub(self.reads + self.others + 1);
        *uploads >= MAX_UPLOAD_SHARE * free
    }

    /// Returns true if the limit permits one more request of this kind.
    fn admits(&self, count: PermitCount) -> bool {
        match count {
            PermitCount::Upload(_) | PermitCount::Other => self.others < self.limit.saturating_sub(self.reads).max(1),
            // If the limit is 1, one blob read and one other request can be in flight at the same time. Otherwise no
            // copy within the registry could finish.
            PermitCount::Read if self.limit == 1 => self.reads == 0,
            PermitCount::Read => self.reads < self.limit - 1 && self.reads + self.others < self.limit,
        }
    }

    /// Creates a permit that counts in `count`, or in no counter if `count` is `None`.
    fn create_permit(&mut self, count: Option<PermitCount>) -> Permit {
        let number = self.entered;
        self.entered += 1;
        let counted = count.and_then(|count| Some((self.own.upgrade()?, count)));
        if let Some((_, count)) = counted {
            self.enter(count);
        }
        Permit { number, counted }
    }

    fn answered(&mut self, number: u64) {
        if number < self.halved_at || self.limit == self.configured {
            return;
        }
        self.successes += 1;
        if self.successes >= self.limit {
            self.limit += 1;
            self.successes = 0;
        }
    }

    fn throttled(&mut self, number: u64) -> Option<usize> {
        if number < self.halved_at {
            return None;
        }
        self.halved_at = self.entered;
        self.successes = 0;
        let before = self.limit;
        self.limit = (before / 2).max(1);
        (self.limit < before).then_some(self.limit)
    }

    /// Replaces the configured maximum. If throttling has lowered the limit, the limit stays lowered until successes
    /// raise the limit to the new maximum.
    fn configure(&mut self, configured: usize) {
        let untouched = self.limit == self.configured;
        self.limit = if untouched { configured } else { self.limit.min(configured) };
        self.configured = configured;
    }
}

#[cfg(test)]
mod tests;
