//! Preemptive credentials: credentials for a registry that has not required credentials. A registry may never answer
//! 401, but give an authenticated user more access: a complete catalog, or a private repository that the registry hides
//! from anonymous users by a 404 (project-zot/zot#3869).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::authenticator::{Authenticator, Requires, Scheme, shows_valid_credentials};
use super::credentials::Login;
use super::error::AuthError;
use super::grant::Grant;
use super::request::RegistryRequest;
use crate::registry::Tenant;
use crate::registry::http::challenge;
use crate::registry::http::exchange::Authorization;
use crate::registry::http::request::HttpRequest;
use crate::registry::http::response::Response;
use crate::registry::http::retry::{Attempts, Operation};
use crate::registry::limits::concurrency::Permit;

/// Pause before the client again queries a source that has no login for this registry.
const NO_LOGIN_FOR: Duration = Duration::from_secs(60);

/// State of the preemptive credentials.
#[derive(Debug, Default)]
pub(super) struct Preemptive {
    /// True if the API's base URL has answered a request without credentials. The lock is held during this request.
    api_requires_nothing: tokio::sync::Mutex<bool>,
    /// Scheme of the preemptive credentials.
    scheme: Mutex<Option<Scheme>>,
    /// Time at which the source reported no login.
    no_login_since: Mutex<Option<Instant>>,
    /// True if the log contains a warning that the configured credentials could not be used.
    failed: AtomicBool,
}

impl Preemptive {
    fn has_no_login(&self) -> bool {
        let since = *self.no_login_since.lock();
        since.is_some_and(|since| since.elapsed() < NO_LOGIN_FOR)
    }
}

impl Authenticator {
    /// Returns the scheme of the preemptive credentials:
    ///
    /// * If the API requires a scheme, this scheme.
    /// * Otherwise, Basic for a password, and Bearer for an access token.
    ///
    /// Returns `None` if there are no credentials to send.
    ///
    /// # Errors
    /// Returns an error if the source of the credentials fails, or if the registry names a token service that must not
    /// receive credentials.
    pub(super) async fn choose_preemptive_scheme(&self) -> Result<Option<Scheme>, AuthError> {
        let state = &self.preemptive;
        let mut api_requires_nothing = state.api_requires_nothing.lock().await;
        if let Some(scheme) = self.scheme() {
            return Ok(Some(scheme));
        }
        if state.has_no_login() {
            return Ok(None);
        }
        let Some(login) = self.source.login().await? else {
            *state.no_login_since.lock() = Some(Instant::now());
            return Ok(None);
        };
        if !*api_requires_nothing {
            *api_requires_nothing = self.request_scheme_of_api().await?;
            if let Some(scheme) = self.scheme() {
                return Ok(Some(scheme));
            }
        }
        let scheme = match login {
            Login::Password { .. } => Some(Scheme::Basic),
            // The token is sent to the registry itself, without a token service.
            Login::Access(_) => Some(Scheme::Bearer { realm: self.sender.base.clone(), service: None }),
            Login::Token(_) => None,
        };
        state.scheme.lock().clone_from(&scheme);
        Ok(scheme)
    }

    /// Requests the API's base URL without credentials, and stores the scheme of a challenge. Returns true if the API
    /// answered, but required no supported scheme. Returns false after a challenge with a supported scheme, and without
    /// a usable answer.
    async fn request_scheme_of_api(&self) -> Result<bool, AuthError> {
        let sender = &self.sender;
        let Ok(url) = sender.address("/v2/") else { return Ok(false) };
        let mut request = HttpRequest::new(Operation::Token, Method::GET, url);
        let mut attempts = Attempts::new(Operation::Token, &sender.retry_policy);
        loop {
            sender.acquire_permit(Tenant::default(), &request).await;
            let no_permit = (Tenant::default(), Permit::default());
            let outcome = sender.attempt(&mut request, Authorization::anonymous(&sender.base), no_permit).await;
            let (failure, wait) = match &outcome {
                Ok(answer) => (answer.failure(), answer.retry_after),
                Err(error) => (error.failure(), None),
            };
            if let Some(pause) = failure.and_then(|failure| attempts.next_pause(failure)) {
                sender.meter.repeated();
                tokio::time::sleep(pause + wait.unwrap_or_default()).await;
                continue;
            }
            let Ok(answer) = outcome else { return Ok(false) };
            if self.is_challenge(&answer) {
                return Ok(matches!(self.learn_scheme(&answer)?, Requires::Nothing));
            }
            return Ok(failure.is_none());
        }
    }

    /// Returns true if the client should repeat a refused request with credentials. `used` is `None` for a request
    /// without credentials. A 404 counts as a refusal, because a registry may hide a private repository by a 404. For a
    /// request with credentials, this method only records the result.
    pub(super) async fn needs_credentials(
        &self,
        request: &RegistryRequest,
        used: Option<&Grant>,
        answer: &Response,
    ) -> bool {
        if let Some(used) = used {
            self.record_preemptive_use(request, used, answer.status);
            return false;
        }
        let refuses = match answer.status {
            StatusCode::NOT_FOUND | StatusCode::FORBIDDEN => true,
            // `handle_challenge` answers a challenge with a supported scheme.
            StatusCode::UNAUTHORIZED => challenge::challenges(&answer.headers)
                .iter()
                .all(|challenge| !matches!(challenge.scheme.as_str(), "basic" | "bearer")),
            _ => false,
        };
        let is_own = self.sender.is_own(&answer.url) && self.sender.is_own(&request.http.url);
        if !refuses || !is_own || request.is_preemptive || !request.http.can_be_sent_again() {
            return false;
        }
        let found = tokio::time::timeout(
            self.sender.retry_policy.exchange_limit(request.http.operation),
            self.choose_preemptive_scheme(),
        )
        .await;
        match found {
            Ok(Ok(scheme)) => scheme.is_some(),
            Ok(Err(error)) => {
                if !self.preemptive.failed.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        registry = %self.sender.host, error = error.detail,
                        "request sent without credentials: the configured credentials could not be used"
                    );
                }
                false
            }
            Err(_) => false,
        }
    }

    /// Makes the scheme permanent if the registry did not reject preemptive credentials. Further requests then contain
    /// credentials from their first attempt on.
    fn record_preemptive_use(&self, request: &RegistryRequest, used: &Grant, status: StatusCode) {
        if !request.is_preemptive || !shows_valid_credentials(status) {
            return;
        }
        let scheme = self.preemptive.scheme.lock().clone();
        if let (None, Some(scheme)) = (self.scheme(), scheme) {
            self.set_scheme(scheme);
        }
        if request.was_refused && status.is_success() {
            self.record_accepted(used.header());
        }
    }
}
