//! Sender of requests to one registry: its connections, limits and counters, shared by all identities. The sender sends
//! the credentials that the caller provides, and handles no challenges. `send.rs` has the retries, and `exchange.rs`
//! has one attempt of a request.

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
use crate::registry::limits::rate_limit_log::RateLimitLog;
use crate::registry::{LimitsInForce, TokenService, Transport};

/// Sender of requests to one registry, and to the hosts that its answers name: token services and the targets of
/// redirects.
pub(crate) struct Sender {
    pub(crate) host: RegistryHost,
    /// Base URL of the API: scheme, host, port, and the path before `v2/`. The path is `/` unless the operator set a
    /// prefix.
    pub(crate) base: Url,
    pub(super) http: reqwest::Client,
    /// HTTP client for token services at other hosts, created at the first request to such a service.
    guarded: OnceLock<reqwest::Client>,
    lookup: Lookup,
    /// Proxy of the requests, for messages.
    pub(super) via: Via,
    /// True if any request has been answered.
    pub(super) has_answered: AtomicBool,
    pub(crate) transport: Transport,
    pub(crate) pace: Pace,
    pub(crate) limiter: ConcurrencyLimiter,
    /// Record of the pauses that the registry asked for.
    pub(super) rate_limit_log: RateLimitLog,
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
            rate_limit_log: RateLimitLog::default(),
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

    /// Returns a new HTTP client of the registry that verifies certificates; `None` if the sender's own client already
    /// verifies certificates.
    pub(crate) fn verifying_client(&self) -> Option<reqwest::Result<reqwest::Client>> {
        let transport = self.transport.verifying()?;
        Some(connect::http_client(&self.base, &self.retry_policy, &transport))
    }

    /// Returns the URL of `path` at this registry. The path begins with `/`: `/v2/…`.
    pub(crate) fn address(&self, path: &str) -> Result<Url, url::ParseError> {
        self.base.join(path.trim_start_matches('/'))
    }

    /// Returns true if a URL has the registry's own origin: scheme, host and port.
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

    /// Waits until the request has a permit, and until all rate limits that apply to it allow it. Cancel safe.
    pub(crate) async fn acquire_permit(&self, tenant: Tenant, request: &HttpRequest) -> Permit {
        let (permit, waited) = self.limiter.enter(tenant, request.request_class(), request.rate_class()).await;
        self.meter.throttled(waited);
        permit
    }

    /// Waits until this many bytes of a body may pass.
    pub(crate) async fn wait_for_bandwidth(&self, tenant: Tenant, bytes: usize) {
        self.meter.throttled(self.pace.spend(tenant, bytes).await);
    }

    /// Returns the remaining time of a pause that the registry requested; `None` if there is no pause.
    pub(crate) fn paused_for(&self) -> Option<Duration> {
        self.limiter.paused_for()
    }

    /// Returns the HTTP client for a request of this operation to `url`. A token request to another host, and a
    /// redirect of such a request, is sent only to an address that `resolver.rs` allows. If the request uses a proxy,
    /// the proxy resolves the host name, so only a literal address is checked.
    pub(super) async fn client_for(&self, operation: Operation, url: &Url) -> Result<&reqwest::Client, TransportError> {
        let configured = self.token_service();
        if operation != Operation::Token || self.is_own(url) {
            return Ok(&self.http);
        }
        let allowed = judge_address(url, &self.base, configured, &self.lookup).await;
        allowed.map_err(|error| TransportError::Unusable(error.to_string()))?;
        if configured.is_some_and(|service| service.is_at(url)) || self.proxy_to(url).is_some() {
            return Ok(&self.http);
        }
        if let Some(client) = self.guarded.get() {
            return Ok(client);
        }
        let guard = GuardedResolver { lookup: self.lookup.clone(), registry: self.base.clone() };
        let created = connect::guarded_client(&self.base, &self.retry_policy, &self.transport, guard);
        let client = created.map_err(|error| {
            TransportError::Unusable(format!(
                "cannot create the HTTP client for token services: {}",
                error.without_url()
            ))
        })?;
        Ok(self.guarded.get_or_init(|| client))
    }
}
