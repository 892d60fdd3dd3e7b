//! Credentials that are sent to a registry that has not requested them. A registry may serve everybody and show more to
//! an authenticated user without ever answering 401: a complete catalog, or a private repository that it otherwise
//! hides as 404 (project-zot/zot#3869). Challenges of a registry that requests credentials are answered in
//! [`super::authenticator`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::authenticator::{Asks, AuthError, Grant, Scheme, shows_valid_credentials};
use super::challenge;
use super::credentials::Login;
use super::scope::Scopes;
use crate::registry::http::pagination::MAX_PAGE;
use crate::registry::http::redirect;
use crate::registry::http::response::Response;
use crate::registry::http::retry::{self, Attempts, Operation};
use crate::registry::http::send::{Expects, RegistryRequest};
use crate::registry::limits::concurrency::{Permit, RequestClass};
use crate::registry::limits::pace::Class;
use crate::registry::{Registry, Repository, Tenant};
use crate::store::Step;

/// Time for which a source without a login for this registry is not queried again.
const NOBODY_FOR: Duration = Duration::from_secs(60);

/// State of sending unrequested credentials.
#[derive(Debug, Default)]
pub(crate) struct Unasked {
    /// True if the API's base URL has answered without requesting credentials. The lock is held while that is found
    /// out.
    api_asks_nothing: tokio::sync::Mutex<bool>,
    /// Scheme by which credentials are sent in that case.
    scheme: Mutex<Option<Scheme>>,
    /// Time at which the source reported that it has no login.
    nobody: Mutex<Option<Instant>>,
    /// True if it has been logged that there is no login because its source failed.
    failed: AtomicBool,
}

impl Unasked {
    fn has_no_login(&self) -> bool {
        let nobody = *self.nobody.lock();
        nobody.is_some_and(|at| at.elapsed() < NOBODY_FOR)
    }
}

impl Registry {
    /// Returns the scheme by which to send credentials to a registry that has not requested them:
    ///
    /// * the scheme that its API requests;
    /// * if the API requests none, Basic for a password, and Bearer for an access token.
    ///
    /// Returns `None` if there are no credentials to send.
    ///
    /// # Errors
    /// Returns an error if the source of the credentials fails, or if the registry names a token service that must not
    /// get them.
    pub(crate) async fn scheme_unasked(&self) -> Result<Option<Scheme>, AuthError> {
        let unasked = &self.auth.unasked;
        let mut api_asks_nothing = unasked.api_asks_nothing.lock().await;
        if let Some(scheme) = self.auth.scheme() {
            return Ok(Some(scheme));
        }
        if unasked.has_no_login() {
            return Ok(None);
        }
        let Some(login) = self.auth.source.login().await? else {
            *unasked.nobody.lock() = Some(Instant::now());
            return Ok(None);
        };
        if !*api_asks_nothing {
            *api_asks_nothing = self.ask_api_for_scheme().await?;
            if let Some(scheme) = self.auth.scheme() {
                return Ok(Some(scheme));
            }
        }
        let scheme = match login {
            Login::Password { .. } => Some(Scheme::Basic),
            // The token goes to the registry itself, without a token service.
            Login::Access(_) => Some(Scheme::Bearer { realm: self.base.clone(), service: None }),
            Login::Token(_) => None,
        };
        unasked.scheme.lock().clone_from(&scheme);
        Ok(scheme)
    }

    /// Requests the API's base URL without credentials, and stores the scheme of its challenge. Returns true if the API
    /// answered without requesting credentials, and false if that is unknown because no answer came.
    async fn ask_api_for_scheme(&self) -> Result<bool, AuthError> {
        let Ok(url) = self.address("/v2/") else { return Ok(false) };
        let mut attempts = Attempts::new(Operation::Token, &self.tempo);
        loop {
            self.meter.throttled(self.gate.enter(Tenant::default(), RequestClass::Token, Class::Token).await.1);
            let mut call = RegistryRequest::new(Operation::Token, Method::GET, url.clone(), Scopes::none());
            let nobody = (Tenant::default(), Permit::default());
            let outcome = self.attempt(&mut call, &self.base, None, nobody).await;
            let (failure, asked) = match &outcome {
                Ok(answer) => (retry::failure_of(answer.status, &answer.headers), retry_after(answer)),
                Err(trouble) => (trouble.failure(), None),
            };
            if let Some(pause) = failure.and_then(|failure| attempts.next_pause(failure)) {
                self.meter.repeated();
                tokio::time::sleep(pause + asked.unwrap_or_default()).await;
                continue;
            }
            let Ok(answer) = outcome else { return Ok(false) };
            if answer.status == StatusCode::UNAUTHORIZED && redirect::same_origin(&answer.url, &self.base) {
                return Ok(matches!(self.learn_scheme(&answer)?, Asks::Nothing));
            }
            return Ok(failure.is_none());
        }
    }

    /// Returns true if a request that was sent without credentials (`shown` is `None`) and refused should be sent again
    /// with them. Also records the outcome of a request that was sent with unrequested credentials. A 404 may hide a
    /// repository that others can see.
    pub(crate) async fn needs_credentials(
        &self,
        call: &RegistryRequest,
        shown: Option<&Grant>,
        answer: &Response,
    ) -> bool {
        if let Some(shown) = shown {
            self.record_unrequested_use(call, shown, answer.status);
            return false;
        }
        let refuses = match answer.status {
            StatusCode::NOT_FOUND | StatusCode::FORBIDDEN => true,
            // A challenge with a known scheme is answered as a challenge.
            StatusCode::UNAUTHORIZED => challenge::challenges(&answer.headers)
                .iter()
                .all(|challenge| !matches!(challenge.scheme.as_str(), "basic" | "bearer")),
            _ => false,
        };
        let is_own = redirect::same_origin(&answer.url, &self.base) && redirect::same_origin(&call.url, &self.base);
        if !refuses || !is_own || call.as_somebody || !call.can_be_sent_again() {
            return false;
        }
        let found = tokio::time::timeout(self.tempo.exchange_limit(call.kind), self.scheme_unasked()).await;
        match found {
            Ok(Ok(scheme)) => scheme.is_some(),
            Ok(Err(error)) => {
                if !self.auth.unasked.failed.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        registry = %self.host(), error = error.detail,
                        "requested without credentials: they are configured, but their source has none"
                    );
                }
                false
            }
            Err(_) => false,
        }
    }

    /// Makes the scheme permanent if the registry did not reject the unrequested credentials. A registry that serves
    /// everybody ignores them, and one that hides repositories then needs no second request.
    fn record_unrequested_use(&self, call: &RegistryRequest, shown: &Grant, status: StatusCode) {
        if !call.as_somebody || !shows_valid_credentials(status) {
            return;
        }
        let scheme = self.auth.unasked.scheme.lock().clone();
        if let (None, Some(scheme)) = (self.auth.scheme(), scheme) {
            self.auth.set_scheme(scheme);
        }
        if call.was_refused && status.is_success() {
            self.auth.record_accepted(shown.header());
        }
    }
}

impl Repository {
    /// Returns true if the registry refuses a request without credentials here. For a repository that was readable with
    /// credentials, this proves that the registry accepted them, and the proof is remembered: a registry that ignores
    /// credentials would answer both requests.
    ///
    /// Sends one request and does not repeat it. A failure proves nothing.
    pub async fn proves_login(&self) -> bool {
        let context = self.context(Step::ListTags, "");
        let Ok(url) = self.url(&context, "tags/list?n=1") else { return false };
        let (permit, waited) = self.registry.gate.enter(self.tenant, RequestClass::Common, Class::Read).await;
        self.registry.meter.throttled(waited);
        let mut call = RegistryRequest::read(Method::GET, url, self.reading()).expects(Expects::Small(MAX_PAGE));
        let outcome = self.registry.attempt(&mut call, &self.registry.base, None, (self.tenant, permit)).await;
        let is_refused = outcome.is_ok_and(|answer| {
            let refusals = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::NOT_FOUND];
            refusals.contains(&answer.status) && redirect::same_origin(&answer.url, &self.registry.base)
        });
        if is_refused {
            self.registry.auth.prove();
        }
        is_refused
    }
}

fn retry_after(answer: &Response) -> Option<Duration> {
    retry::retry_after(&answer.headers, chrono::Utc::now())
}
