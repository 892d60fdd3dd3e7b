//! Authentication to one registry in one identity: the scheme that the registry requires, and the credentials or tokens
//! that are available. The credentials that are sent to a registry that has not required authentication yet are in
//! [`super::preemptive`], the requests with credentials in [`super::send`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use parking_lot::Mutex;
use tokio::time::Instant;
use url::Url;

use super::credentials::{Login, Programs, Source, Wire};
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
use crate::registry::http::redirect;
use crate::registry::http::response::Response;
use crate::registry::http::sender::Sender;
use crate::registry::limits::pull_quota::Quota;
use crate::store::ErrorKind;

/// Time for which a refused password that never worked is not sent again: registries lock accounts.
const REFUSED_FOR: Duration = Duration::from_secs(60);

/// Authorization that is available for a request without waiting.
#[derive(Debug)]
pub(super) enum Available {
    /// This header, or none if the request needs none.
    Grant(Option<Grant>),
    /// The authorization that was prepared earlier is still valid.
    AsPrepared,
    /// No authorization: it has to be obtained first.
    Nothing,
}

/// Returns true if a status shows that the credentials of the request are valid.
pub(super) fn shows_valid_credentials(status: StatusCode) -> bool {
    status.is_success() || status.is_redirection() || status == StatusCode::NOT_FOUND
}

/// Scheme by which credentials are sent.
#[derive(Debug, Clone)]
pub(super) enum Scheme {
    Basic,
    Bearer { realm: Url, service: Option<String> },
}

/// Kind of authentication that a response requires.
#[derive(Debug)]
pub(super) enum Requires {
    /// A token, by this challenge.
    Bearer(Challenge),
    /// A user name and a password.
    Basic,
    /// None, or a scheme that this client does not support.
    Nothing,
}

/// Authentication to one registry in one identity.
pub(crate) struct Authenticator {
    pub(super) sender: Arc<Sender>,
    pub(super) source: Source,
    /// Remaining pulls of this identity, if the registry counts them.
    pub(super) quota: Quota,
    scheme: Mutex<Option<Scheme>>,
    /// Authorization that is sent to a registry that requires a password.
    login: tokio::sync::Mutex<Option<(Grant, Login)>>,
    /// State of sending credentials to a registry that has not required any.
    pub(super) preemptive: Preemptive,
    /// True if the registry itself has required credentials.
    has_required: AtomicBool,
    /// True if the registry has accepted the credentials, and does not accept everybody.
    is_proven: AtomicBool,
    /// Last password header that the registry accepted.
    accepted: Mutex<Option<HeaderValue>>,
    /// Last password header that the registry refused and never accepted, and the time of the refusal.
    refused: Mutex<Option<(HeaderValue, Instant)>>,
    tokens: Tokens,
    grants: GrantNumbers,
}

impl Authenticator {
    pub(crate) fn new(sender: Arc<Sender>, credentials: Option<Credentials>, wire: Wire) -> Self {
        let host = sender.host.clone();
        Self {
            quota: Quota::new(host.clone()),
            source: Source::new(host, credentials, Programs::default()).with_wire(wire),
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

    /// Returns the configured credentials; `None` is anonymous.
    pub(crate) fn credentials(&self) -> Option<&Credentials> {
        self.source.credentials()
    }

    /// Returns the credentials of one repository if they are not those of the whole registry.
    pub(crate) fn namespace_credentials(&self, name: &RepositoryName) -> Option<Credentials> {
        self.source.namespaced(name)
    }

    /// Reads the login from its source; `None` is anonymous.
    pub(crate) async fn read_login(&self) -> Result<Option<Login>, AuthError> {
        self.source.login().await
    }

    /// Returns the user name if it is known, else the source of the login, or `anonymous`.
    pub(crate) fn identity(&self) -> String {
        self.source.identity()
    }

    /// Returns true if the scheme by which to authenticate at the registry is known.
    pub(super) fn knows_scheme(&self) -> bool {
        self.scheme().is_some()
    }

    /// Returns true if the registry has accepted the credentials and does not accept everybody. Either the registry
    /// required credentials, or it granted a request with credentials that it had refused without credentials.
    pub(crate) fn is_proven(&self) -> bool {
        self.is_proven.load(Ordering::Relaxed)
    }

    pub(crate) fn prove(&self) {
        self.is_proven.store(true, Ordering::Relaxed);
    }

    /// Records that the registry accepted this header.
    pub(super) fn record_accepted(&self, shown: &HeaderValue) {
        *self.accepted.lock() = Some(shown.clone());
        self.prove();
    }

    pub(super) fn set_scheme(&self, scheme: Scheme) {
        *self.scheme.lock() = Some(scheme);
    }

    pub(super) fn scheme(&self) -> Option<Scheme> {
        self.scheme.lock().clone()
    }

    /// Records the registry's answer to a request with this header. Most refusals are not about the identity.
    pub(super) fn record_answer(&self, shown: &HeaderValue, status: StatusCode) {
        let is_basic = !matches!(self.scheme(), Some(Scheme::Bearer { .. })) && shown.as_bytes().starts_with(b"Basic ");
        if !is_basic || self.was_accepted(shown) {
            return;
        }
        if status == StatusCode::UNAUTHORIZED {
            *self.refused.lock() = Some((shown.clone(), Instant::now()));
        } else if self.has_required.load(Ordering::Relaxed) && shows_valid_credentials(status) {
            // A registry that has not required authentication may accept any credentials.
            self.record_accepted(shown);
        }
    }

    /// Returns the time since the registry refused this header, if it never accepted the header.
    fn refused_for(&self, shown: &HeaderValue) -> Option<Duration> {
        let wrong = self.refused.lock().clone();
        let (_, at) = wrong.filter(|(wrong, _)| wrong == shown && !self.was_accepted(shown))?;
        Some(at.elapsed())
    }

    fn was_accepted(&self, shown: &HeaderValue) -> bool {
        self.accepted.lock().as_ref() == Some(shown)
    }

    /// Returns the authorization for a request; `None` while the registry has not required any.
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

    /// Returns what [`Authenticator::authorize`] would return, without waiting. `knew_scheme` is true if the scheme of
    /// the registry was already known when the earlier authorization was prepared.
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

    /// Returns the authorization by the user name and the password, if there are credentials.
    async fn show_login(&self) -> Result<Option<Grant>, AuthError> {
        let mut shown = self.login.lock().await;
        let refused_for = shown.as_ref().and_then(|(grant, _)| self.refused_for(grant.header()));
        let login = match (&*shown, refused_for) {
            (Some((_, refused)), Some(refused_for)) if refused_for < REFUSED_FOR => {
                Some(self.login_other_than(refused).await?)
            }
            (Some(_), None) if !self.source.has_ended() => None,
            _ => self.source.login().await?,
        };
        if let Some(login) = login {
            *shown = Some((self.grants.create_basic(&login)?, login));
        }
        Ok(shown.as_ref().map(|(grant, _)| grant.clone()))
    }

    async fn login_other_than(&self, refused: &Login) -> Result<Login, AuthError> {
        self.source.login_after_refusal(refused).await?.ok_or_else(|| {
            let who = self.identity();
            let again = "the same password is not sent again for a minute";
            AuthError::denied(format!("the registry has just refused {who}: {again}"))
        })
    }

    /// Returns a token for these scopes. If the token service refuses them and narrower scopes are enough, returns a
    /// token for the narrower scopes: some services (GitLab) issue no token at all if the login has only a part of the
    /// requested rights.
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

    /// Handles a 401 response. Returns true if the request is worth repeating.
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
            return self.show_login().await?.map(|_| true).ok_or_else(|| AuthError::denied(none));
        };
        self.handle_refused_password(used).await
    }

    /// Records the scheme that a registry requires.
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

    /// Handles the refusal of a password. Returns true if the request is worth repeating:
    ///
    /// - If the password was renewed since it was read, the new one is sent.
    /// - A wrong password is sent once, and not again for a while: further attempts would lock the account.
    /// - If the registry accepted the password before, the password is correct, and the refusal has another reason.
    async fn handle_refused_password(&self, used: &Grant) -> Result<bool, AuthError> {
        let mut shown = self.login.lock().await;
        let refused = match &*shown {
            Some((grant, login)) if grant.is_same(used) => login.clone(),
            _ => return Ok(true),
        };
        if self.was_accepted(used.header()) {
            *shown = None;
        }
        let Some(login) = self.source.login_after_refusal(&refused).await? else { return Ok(false) };
        *shown = Some((self.grants.create_basic(&login)?, login));
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
