//! Preemptive credentials: credentials that the client sends before the registry requires credentials. Some registries
//! never answer 401, but show more content to an authenticated user. Examples are a complete catalog, and a private
//! repository that the registry hides from anonymous users with a 404 (project-zot/zot#3869).

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

/// Minimum time between two queries of a source of credentials that has no login for this registry.
const NO_LOGIN_FOR: Duration = Duration::from_secs(60);

/// State of the preemptive credentials.
#[derive(Debug, Default)]
pub(super) struct Preemptive {
    /// True if the registry answered a request to the root of the API and required no credentials. The client holds the
    /// lock during this request.
    api_requires_nothing: tokio::sync::Mutex<bool>,
    /// Scheme with which the client sends the preemptive credentials.
    scheme: Mutex<Option<Scheme>>,
    /// Time of the last query in which the source of credentials had no login.
    no_login_since: Mutex<Option<Instant>>,
    /// True if the client has logged that the configured credentials could not be used.
    failed: AtomicBool,
}

impl Preemptive {
    fn has_no_login(&self) -> bool {
        let since = *self.no_login_since.lock();
        since.is_some_and(|since| since.elapsed() < NO_LOGIN_FOR)
    }
}

impl Authenticator {
    /// Returns the scheme with which the client sends the preemptive credentials:
    ///
    /// * If the API requires a scheme, returns this scheme.
    /// * Otherwise, returns Basic for a password, and Bearer for an access token.
    ///
    /// Returns `None` if the source has no login, or if the API requires no scheme and the login is an identity token.
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
            // The client sends the token to the registry itself, without a token service.
            Login::Access(_) => Some(Scheme::Bearer { realm: self.sender.base.clone(), service: None }),
            Login::Token(_) => None,
        };
        state.scheme.lock().clone_from(&scheme);
        Ok(scheme)
    }

    /// Requests the root of the API without credentials. Returns true if the registry answers, and requires no
    /// supported scheme. Returns false in these cases:
    ///
    /// * The registry requires a supported scheme. In this case, the method stores the scheme.
    /// * The client receives no usable answer.
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

    /// Returns true if the client should repeat a refused request with preemptive credentials. A 404 counts as a
    /// refusal, because a registry can hide a private repository with a 404.
    ///
    /// `used` is the grant of the request; `None` for a request without credentials. If the request had credentials,
    /// records the result and returns false.
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
            // `handle_challenge` handles a challenge with a supported scheme.
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

    /// Records the result of a request with preemptive credentials. If the registry accepted the credentials, every
    /// later request contains credentials from the first attempt on.
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
