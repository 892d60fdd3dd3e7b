//! Sender of requests to one registry: its connections, limits and counters, shared by all identities. The sender sends
//! the credentials that it receives and knows no authentication. `send.rs` has the retries, `exchange.rs` one attempt.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use url::Url;

use super::connect::{self, Via};
use super::error::{Approach, TransportError};
use super::redirect;
use super::request::HttpRequest;
use super::resolver::{GuardedResolver, Lookup, judge_address};
use super::retry::{Operation, RetryPolicy};
use super::retry_budget::Budgets;
use crate::fair_queue::Tenant;
use crate::oci::RegistryHost;
use crate::registry::limits::concurrency::{ConcurrencyLimiter, Permit};
use crate::registry::limits::counters::Meter;
use crate::registry::limits::pace::Pace;
use crate::registry::{LimitsInForce, TokenService, Transport};

/// Sender of requests to one registry, and to the services that its answers name.
pub(crate) struct Sender {
    pub(crate) host: RegistryHost,
    /// Scheme and authority of the API, with the path before `v2/`: `/`, unless there is a prefix.
    pub(crate) base: Url,
    pub(super) http: reqwest::Client,
    /// HTTP client for token services at other hosts, created at the first request to one.
    guarded: OnceLock<reqwest::Client>,
    lookup: Lookup,
    pub(super) via: Via,
    /// True if a server has ever answered at this address.
    pub(super) has_answered: AtomicBool,
    pub(crate) transport: Transport,
    pub(crate) pace: Pace,
    pub(crate) limiter: ConcurrencyLimiter,
    pub(crate) meter: Meter,
    pub(crate) retry_policy: RetryPolicy,
    /// Retry budgets of the items that have failed.
    pub(crate) budgets: Arc<Budgets>,
}

impl Sender {
    /// Creates a sender. Sends no request yet.
    ///
    /// # Errors
    /// Returns the HTTP client's error if it cannot be set up.
    pub(crate) fn new(
        host: RegistryHost,
        base: Url,
        transport: Transport,
        limits: &LimitsInForce,
        retry_policy: RetryPolicy,
        lookup: Lookup,
    ) -> reqwest::Result<Self> {
        let retry_policy = retry_policy.with_timeouts(transport.timeouts);
        Ok(Self {
            http: connect::http_client(&base, &retry_policy, &transport)?,
            guarded: OnceLock::new(),
            lookup,
            via: Via::new(&base, &transport),
            has_answered: AtomicBool::new(false),
            pace: Pace::new(limits),
            limiter: ConcurrencyLimiter::new(limits),
            meter: Meter::default(),
            budgets: Arc::default(),
            host,
            base,
            transport,
            retry_policy,
        })
    }

    /// Returns the HTTP client of the registry.
    pub(crate) fn client(&self) -> &reqwest::Client {
        &self.http
    }

    /// Returns a new HTTP client of the registry that verifies certificates; `None` if the sender's own client does.
    pub(crate) fn verifying_client(&self) -> Option<reqwest::Result<reqwest::Client>> {
        let transport = self.transport.verifying()?;
        Some(connect::http_client(&self.base, &self.retry_policy, &transport))
    }

    /// Returns the URL of `path` at this registry. The path begins with `/`: `/v2/…`.
    pub(crate) fn address(&self, path: &str) -> Result<Url, url::ParseError> {
        self.base.join(path.trim_start_matches('/'))
    }

    /// Returns true if a URL has the registry's own origin.
    pub(crate) fn is_own(&self, url: &Url) -> bool {
        redirect::same_origin(url, &self.base)
    }

    /// Returns the token service that the operator configured.
    pub(crate) fn token_service(&self) -> Option<&TokenService> {
        self.transport.token_service.as_ref()
    }

    /// Returns the proxy on the path to `url`, without its credentials.
    pub(crate) fn proxy_to(&self, url: &Url) -> Option<String> {
        self.via.proxy_to(url)
    }

    /// Returns facts about the connection to `url`, for the text of an error.
    pub(super) fn approach(&self, url: &Url) -> Approach {
        Approach {
            via: self.proxy_to(url),
            shows_certificate: self.transport.tls.identity.is_some(),
            has_answered: self.has_answered.load(Ordering::Relaxed),
        }
    }

    /// Waits until a request may be sent: for a permit and for all rates in which it counts. Cancel safe.
    pub(crate) async fn acquire_permit(&self, tenant: Tenant, request: &HttpRequest) -> Permit {
        let (permit, waited) = self.limiter.enter(tenant, request.request_class(), request.rate_class()).await;
        self.meter.throttled(waited);
        permit
    }

    /// Waits until this many bytes of a body may pass.
    pub(crate) async fn wait_for_bandwidth(&self, tenant: Tenant, bytes: usize) {
        self.meter.throttled(self.pace.spend(tenant, bytes).await);
    }

    /// Returns the remaining time of a pause that the registry asked for.
    pub(crate) fn paused_for(&self) -> Option<Duration> {
        self.limiter.paused_for()
    }

    /// Returns the HTTP client for a request of this operation to `url`. A request to a token service at another host,
    /// and to the target of its redirects, goes only to an address that this function has checked. Through a proxy, the
    /// proxy resolves the name.
    pub(super) async fn client_for(&self, operation: Operation, url: &Url) -> Result<&reqwest::Client, TransportError> {
        let named = self.token_service();
        if operation != Operation::Token || self.is_own(url) {
            return Ok(&self.http);
        }
        let judged = judge_address(url, &self.base, named, &self.lookup).await;
        judged.map_err(|error| TransportError::Unusable(error.to_string()))?;
        if named.is_some_and(|named| named.is_at(url)) || self.proxy_to(url).is_some() {
            return Ok(&self.http);
        }
        if let Some(client) = self.guarded.get() {
            return Ok(client);
        }
        let guard = GuardedResolver { lookup: self.lookup.clone(), registry: self.base.clone() };
        let made = connect::guarded_client(&self.base, &self.retry_policy, &self.transport, guard);
        let made =
            made.map_err(|error| TransportError::Unusable(format!("no HTTP client: {}", error.without_url())))?;
        Ok(self.guarded.get_or_init(|| made))
    }
}
