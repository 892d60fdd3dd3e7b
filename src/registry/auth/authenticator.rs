//! Authentication to one registry with one identity: the scheme that the registry requires, and the available
//! credentials and tokens. [`super::preemptive`] decides when the client sends credentials before the registry requires
//! credentials. [`super::send`] sends the requests.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use parking_lot::Mutex;
use tokio::time::Instant;
use url::Url;

use super::credentials::{Login, Programs, ServiceClients, Source};
use super::error::AuthError;
use super::grant::{Grant, GrantNumbers};
use super::preemptive::Preemptive;
use super::realm;
use super::request::RegistryRequest;
use super::scope::Scopes;
use super::token::Token;
use super::tokens::Tokens;
use crate::oci::RepositoryName;
use crate::registry::Credentials;
use crate::registry::http::challenge::{self, Challenge};
use crate::registry::http::denial;
use crate::registry::http::redirect;
use crate::registry::http::response::Response;
use crate::registry::http::sender::Sender;
use crate::registry::limits::pull_quota::Quota;
use crate::store::ErrorKind;

/// Time for which the client does not send a refused password again, if the registry never accepted the password.
/// Registries lock accounts after several wrong passwords.
const REFUSED_FOR: Duration = Duration::from_secs(60);

/// Authorization that the client can use without waiting.
#[derive(Debug)]
pub(super) enum Available {
    /// This authorization. `None` if the request needs no authorization.
    Grant(Option<Grant>),
    /// The authorization that was prepared earlier is still valid.
    AsPrepared,
    /// No valid authorization is stored. The client must first obtain an authorization.
    Nothing,
}

/// Returns true if a response with this status shows that the credentials of the request are valid.
pub(super) fn shows_valid_credentials(status: StatusCode) -> bool {
    status.is_success() || status.is_redirection() || status == StatusCode::NOT_FOUND
}

/// Scheme with which the client sends credentials.
#[derive(Debug, Clone)]
pub(super) enum Scheme {
    Basic,
    Bearer { realm: Url, service: Option<String> },
}

/// Authentication that a response requires.
#[derive(Debug)]
pub(super) enum Requires {
    /// A token. The challenge names the token service.
    Bearer(Challenge),
    /// A user name and a password.
    Basic,
    /// No authentication, or only schemes that this client does not support.
    Nothing,
}

/// Refusal of an `Authorization` header with a password.
#[derive(Clone)]
struct RefusedPassword {
    header: HeaderValue,
    at: Instant,
    /// Status and text of the registry's answer.
    text: String,
}

/// Authentication to one registry with one identity.
pub(crate) struct Authenticator {
    pub(super) sender: Arc<Sender>,
    pub(super) source: Source,
    /// Pull quota of this identity, if the registry counts pulls.
    pub(super) quota: Quota,
    scheme: Mutex<Option<Scheme>>,
    /// Basic authorization that the client sends, and the login in this authorization.
    login: tokio::sync::Mutex<Option<(Grant, Login)>>,
    /// State of the credentials that the client sends before the registry requires credentials.
    pub(super) preemptive: Preemptive,
    /// True if the registry has sent a Basic or Bearer challenge.
    has_required: AtomicBool,
    /// True if an answer has proven that the credentials are valid.
    is_proven: AtomicBool,
    /// Last `Authorization` header with a password that the registry accepted.
    accepted: Mutex<Option<HeaderValue>>,
    /// Last refusal of an `Authorization` header with a password that the registry never accepted.
    refused: Mutex<Option<RefusedPassword>>,
    tokens: Tokens,
    grants: GrantNumbers,
}

impl Authenticator {
    pub(crate) fn new(sender: Arc<Sender>, credentials: Option<Credentials>, clients: ServiceClients) -> Self {
        let host = sender.host.clone();
        Self {
            quota: Quota::new(host.clone()),
            source: Source::new(host, credentials, Programs::default()).with_clients(clients),
            sender,
            scheme: Mutex::default(),
            login: tokio::sync::Mutex::default(),
            preemptive: Preemptive::default(),
            has_required: AtomicBool::new(false),
            is_proven: AtomicBool::new(false),
            accepted: Mutex::default(),
            refused: Mutex::default(),
            tokens: Tokens::default(),
            grants: GrantNumbers::default(),
        }
    }

    /// Returns the pull quota of this identity.
    pub(crate) fn quota(&self) -> &Quota {
        &self.quota
    }

    /// Returns the configured credentials; `None` for anonymous access.
    pub(crate) fn credentials(&self) -> Option<&Credentials> {
        self.source.credentials()
    }

    /// If the repository has its own credentials, returns these credentials. Returns `None` if the credentials of the
    /// whole registry apply.
    pub(crate) fn namespace_credentials(&self, name: &RepositoryName) -> Option<Credentials> {
        self.source.namespaced(name)
    }

    /// Reads the login from its source. Returns `None` for anonymous access.
    pub(crate) async fn read_login(&self) -> Result<Option<Login>, AuthError> {
        self.source.login().await
    }

    /// Returns the user name. If the user name is not known, returns the source of the login, or `anonymous`.
    pub(crate) fn identity(&self) -> String {
        self.source.identity()
    }

    /// Returns true if the client knows which scheme the registry requires.
    pub(super) fn knows_scheme(&self) -> bool {
        self.scheme().is_some()
    }

    /// Returns true if an answer has proven that the credentials are valid. Examples of a proof:
    ///
    /// - The token service issued a token for the credentials.
    /// - The registry refused a request without credentials, and accepted the same request with the credentials.
    pub(crate) fn is_proven(&self) -> bool {
        self.is_proven.load(Ordering::Relaxed)
    }

    /// Records that an answer has proven that the credentials are valid.
    pub(crate) fn prove(&self) {
        self.is_proven.store(true, Ordering::Relaxed);
    }

    /// Records that the registry accepted this header.
    pub(super) fn record_accepted(&self, header: &HeaderValue) {
        *self.accepted.lock() = Some(header.clone());
        self.prove();
    }

    pub(super) fn set_scheme(&self, scheme: Scheme) {
        *self.scheme.lock() = Some(scheme);
    }

    pub(super) fn scheme(&self) -> Option<Scheme> {
        self.scheme.lock().clone()
    }

    /// If the request had a password header, records the registry's answer to the password. Only a 401 counts as a
    /// refusal of the password, because other refusals usually have another cause.
    pub(super) fn record_answer(&self, header: &HeaderValue, status: StatusCode) {
        let is_basic =
            !matches!(self.scheme(), Some(Scheme::Bearer { .. })) && header.as_bytes().starts_with(b"Basic ");
        if !is_basic || self.was_accepted(header) {
            return;
        }
        if status == StatusCode::UNAUTHORIZED {
            // The body of the answer is not available yet. [`Self::record_refusal_text`] later replaces this text.
            let text = "401 Unauthorized".to_owned();
            *self.refused.lock() = Some(RefusedPassword { header: header.clone(), at: Instant::now(), text });
        } else if self.has_required.load(Ordering::Relaxed) && shows_valid_credentials(status) {
            // A registry that never requires authentication also accepts wrong credentials.
            self.record_accepted(header);
        }
    }

    /// Stores the text of the registry's answer, if this password header was refused.
    pub(super) fn record_refusal_text(&self, header: &HeaderValue, text: String) {
        if let Some(refused) = self.refused.lock().as_mut().filter(|refused| refused.header == *header) {
            refused.text = text;
        }
    }

    /// Returns the recorded refusal of this header. Returns `None` if the registry accepted the header before.
    fn refusal_of(&self, header: &HeaderValue) -> Option<RefusedPassword> {
        let refused = self.refused.lock().clone();
        refused.filter(|refused| refused.header == *header && !self.was_accepted(header))
    }

    fn was_accepted(&self, header: &HeaderValue) -> bool {
        self.accepted.lock().as_ref() == Some(header)
    }

    /// Returns the authorization for a request. Returns `None` in these cases:
    ///
    /// - The URL of the request does not belong to the registry.
    /// - The registry has not required credentials, and the request is not preemptive.
    /// - The source has no login for the scheme.
    pub(super) async fn authorize(&self, request: &RegistryRequest) -> Result<Option<Grant>, AuthError> {
        if !self.sender.is_own(&request.http.url) {
            return Ok(None);
        }
        let scheme = match self.scheme() {
            None if request.is_preemptive => self.choose_preemptive_scheme().await?,
            scheme => scheme,
        };
        match scheme {
            None => Ok(None),
            Some(Scheme::Basic) => self.show_login().await,
            Some(Scheme::Bearer { realm, service }) => {
                self.obtain_token_or_narrower(&realm, service.as_deref(), &request.scopes).await.map(Some)
            }
        }
    }

    /// Returns the authorization that the client can use without waiting. The rules are the rules of
    /// [`Authenticator::authorize`]. `knew_scheme` is true if the client knew the registry's scheme when the client
    /// prepared the earlier authorization.
    pub(super) fn available_authorization(&self, request: &RegistryRequest, knew_scheme: bool) -> Available {
        if !self.sender.is_own(&request.http.url) {
            return Available::Grant(None);
        }
        match self.scheme() {
            None if request.is_preemptive => Available::AsPrepared,
            None => Available::Grant(None),
            Some(_) if !knew_scheme => Available::Nothing,
            Some(Scheme::Basic) => Available::AsPrepared,
            Some(Scheme::Bearer { .. }) => {
                self.tokens.available(&request.scopes).map_or(Available::Nothing, |grant| Available::Grant(Some(grant)))
            }
        }
    }

    /// Returns the Basic authorization. Returns `None` if the source has no login.
    async fn show_login(&self) -> Result<Option<Grant>, AuthError> {
        let mut current = self.login.lock().await;
        let refusal = current.as_ref().and_then(|(grant, _)| self.refusal_of(grant.header()));
        let login = match (&*current, refusal) {
            (Some((_, refused)), Some(refusal)) if refusal.at.elapsed() < REFUSED_FOR => {
                Some(self.login_other_than(refused, &refusal).await?)
            }
            (Some(_), None) if !self.source.has_ended() => None,
            _ => self.source.login().await?,
        };
        if let Some(login) = login {
            *current = Some((self.grants.create_basic(&login)?, login));
        }
        Ok(current.as_ref().map(|(grant, _)| grant.clone()))
    }

    /// Returns a login that differs from the refused login. If the source has no such login, the error repeats the
    /// registry's answer to the refused login. All errors with this cause then have the same text.
    async fn login_other_than(&self, refused: &Login, refusal: &RefusedPassword) -> Result<Login, AuthError> {
        self.source.login_after_refusal(refused).await?.ok_or_else(|| {
            let name = self.source.describe_identity().unwrap_or_else(|| self.identity());
            AuthError::denied(format!(
                "{}; {}",
                refusal.text,
                denial::describe_refusal(&name, self.source.describe_check())
            ))
        })
    }

    /// Returns a token for these scopes. If the token service refuses these scopes, and narrower scopes are sufficient
    /// for the request, returns a token for the narrower scopes. Some services (GitLab) issue no token at all if the
    /// login has only a part of the requested rights.
    async fn obtain_token_or_narrower(
        &self,
        realm: &Url,
        service: Option<&str>,
        scopes: &Scopes,
    ) -> Result<Grant, AuthError> {
        let Some(narrower) = scopes.narrower() else { return self.obtain_token(realm, service, scopes).await };
        let slot = self.tokens.slot(&scopes.key());
        if slot.lock().await.is_refused() {
            return self.obtain_token(realm, service, narrower).await;
        }
        let refusal = match self.obtain_token(realm, service, scopes).await {
            Err(refusal) if refusal.kind == ErrorKind::Denied => refusal,
            outcome => return outcome,
        };
        match self.obtain_token(realm, service, narrower).await {
            Ok(grant) => {
                slot.lock().await.record_refusal();
                Ok(grant)
            }
            Err(_) => Err(refusal),
        }
    }

    async fn obtain_token(&self, realm: &Url, service: Option<&str>, scopes: &Scopes) -> Result<Grant, AuthError> {
        if let Some(grant) = self.tokens.wider(scopes) {
            return Ok(grant);
        }
        let started = Instant::now();
        let slot = self.tokens.slot(&scopes.key());
        let mut state = slot.lock().await;
        if let Some(grant) = state.fresh() {
            return Ok(grant);
        }
        if let Some(failure) = state.failure_since(started) {
            return Err(failure);
        }
        if let Some(failure) = self.tokens.recent_failure_of(realm) {
            return Err(failure);
        }
        let grants: BTreeSet<&str> = scopes.grants().iter().chain(&state.extra).map(String::as_str).collect();
        let fetched = self.fetch_token(realm, service, &grants).await;
        self.tokens.record_outcome(realm, fetched.as_ref().err());
        match fetched {
            Ok(Token { header, renew_at }) => {
                let grant = self.grants.create_grant(header);
                state.store(grant.clone(), renew_at);
                Ok(grant)
            }
            Err(failure) => {
                state.record_failure(failure.clone());
                Err(failure)
            }
        }
    }

    /// Handles a 401 response. Returns true if the caller should repeat the request.
    pub(super) async fn handle_challenge(
        &self,
        scopes: &Scopes,
        used: Option<&Grant>,
        answer: &Response,
    ) -> Result<bool, AuthError> {
        match self.learn_scheme(answer)? {
            Requires::Bearer(bearer) => {
                self.tokens.remove(scopes, used, bearer.get("scope")).await;
                return Ok(true);
            }
            Requires::Basic => {}
            Requires::Nothing => return Ok(false),
        }
        let Some(used) = used else {
            let none = "the registry requires a user name and a password, and none are configured";
            let none = || AuthError::denied(format!("{none}: {}", denial::SET_CREDENTIALS));
            return self.show_login().await?.map(|_| true).ok_or_else(none);
        };
        self.handle_refused_password(used).await
    }

    /// Reads the challenges of an answer. Records and returns the scheme that the registry requires.
    pub(super) fn learn_scheme(&self, answer: &Response) -> Result<Requires, AuthError> {
        let challenges = challenge::challenges(&answer.headers);
        let find = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme == scheme).cloned();
        if let Some(bearer) = find("bearer") {
            self.learn_bearer(&bearer)?;
            self.has_required.store(true, Ordering::Relaxed);
            return Ok(Requires::Bearer(bearer));
        }
        if find("basic").is_none() {
            return Ok(Requires::Nothing);
        }
        self.has_required.store(true, Ordering::Relaxed);
        self.set_scheme(Scheme::Basic);
        Ok(Requires::Basic)
    }

    /// Handles a 401 response to a password. If the source has another password by now, stores this password and
    /// returns true. The caller should then repeat the request.
    ///
    /// If the source has no other password, returns false. If the registry never accepted the password, the client does
    /// not send the password for 60 seconds ([`REFUSED_FOR`]), because more attempts can lock the account.
    async fn handle_refused_password(&self, used: &Grant) -> Result<bool, AuthError> {
        let mut current = self.login.lock().await;
        let refused = match &*current {
            Some((grant, login)) if grant.is_same(used) => login.clone(),
            _ => return Ok(true),
        };
        if self.was_accepted(used.header()) {
            *current = None;
        }
        let Some(login) = self.source.login_after_refusal(&refused).await? else { return Ok(false) };
        *current = Some((self.grants.create_basic(&login)?, login));
        Ok(true)
    }

    fn learn_bearer(&self, challenge: &Challenge) -> Result<(), AuthError> {
        let realm =
            realm::read(challenge.get("realm").unwrap_or_default(), &self.sender.base, self.sender.token_service())
                .map_err(|error| AuthError { kind: ErrorKind::Refused, detail: error.to_string() })?;
        let service = challenge.get("service").map(str::to_owned);
        let mut scheme = self.scheme.lock();
        if let Some(Scheme::Bearer { realm: known, .. }) = &*scheme
            && !redirect::same_origin(known, &realm)
        {
            let (known, realm) = (redirect::shown(known), redirect::shown(&realm));
            tracing::warn!(
                registry = %self.sender.host, known, realm,
                "the registry names a different token service than before, which receives the credentials from now on: \
                 check that this is intended"
            );
        }
        *scheme = Some(Scheme::Bearer { realm, service });
        Ok(())
    }
}
