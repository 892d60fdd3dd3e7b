//! Authorization at one registry: the scheme that the registry requires, and the credentials or tokens that are
//! available. For each scope, one request for a token is in flight at a time. What is sent to a registry that has not
//! required authentication yet is in [`super::preemptive`].

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use parking_lot::Mutex;
use tokio::time::Instant;
use url::Url;

use super::challenge::{self, Challenge};
use super::credentials::{Login, Programs, Source, Wire};
use super::preemptive::Unasked;
use super::realm;
use super::scope::Scopes;
use super::token::Token;
use crate::oci::RegistryHost;
use crate::registry::http::redirect;
use crate::registry::http::response::Response;
use crate::registry::http::send::RegistryRequest;
use crate::registry::limits::pull_quota::Quota;
use crate::registry::{Credentials, Registry};
use crate::store::ErrorKind;

/// Maximum number of scopes whose tokens are stored.
const MAX_SLOTS: usize = 1024;

/// Time for which a refused password that never worked is not sent again: registries lock accounts.
const REFUSED_FOR: Duration = Duration::from_secs(60);

/// Time for which a token service that gave no answer after all retries gets no further request. Otherwise each scope
/// would wait as long.
const SILENT_FOR: Duration = Duration::from_secs(10);

/// Time for which the client requests tokens to pull only, after the token service refused a token to push, where
/// pulling is enough.
const NARROWED_FOR: Duration = Duration::from_secs(300);

/// Reason why there is no authorization.
#[derive(Debug, Clone)]
pub(crate) struct AuthError {
    pub(crate) kind: ErrorKind,
    pub(crate) detail: String,
}

impl AuthError {
    pub(crate) fn denied(detail: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Denied, detail: detail.into() }
    }
}

/// `Authorization` header with a serial number that distinguishes it from other grants.
#[derive(Debug, Clone)]
pub(crate) struct Grant {
    header: HeaderValue,
    generation: u64,
}

impl Grant {
    pub(crate) fn header(&self) -> &HeaderValue {
        &self.header
    }
}

/// Authorization that is available for a request without waiting.
#[derive(Debug)]
pub(crate) enum AtHand {
    /// This header, or none if the request needs none.
    Grant(Option<Grant>),
    /// The authorization that was prepared earlier is still valid.
    AsPrepared,
    /// Nothing: the authorization has to be obtained first.
    Nothing,
}

/// Returns true if a status shows that the credentials of the request are valid.
pub(crate) fn shows_valid_credentials(status: StatusCode) -> bool {
    status.is_success() || status.is_redirection() || status == StatusCode::NOT_FOUND
}

/// Scheme by which credentials are sent.
#[derive(Debug, Clone)]
pub(crate) enum Scheme {
    Basic,
    Bearer { realm: Url, service: Option<String> },
}

/// Kind of authentication that a response requires.
#[derive(Debug)]
pub(crate) enum Asks {
    /// A token, by this challenge.
    Bearer(Challenge),
    /// A user name and a password.
    Basic,
    /// None, or a scheme that this client does not support.
    Nothing,
}

/// Authorization of one registry.
#[derive(Debug)]
pub(crate) struct Auth {
    pub(crate) source: Source,
    /// Pulls that this identity has left, where the registry counts them.
    pub(crate) quota: Quota,
    scheme: Mutex<Option<Scheme>>,
    /// Authorization that is sent to a registry that requires a password.
    login: tokio::sync::Mutex<Option<(Grant, Login)>>,
    /// Authorization that is sent to a registry that has not required any.
    pub(crate) unasked: Unasked,
    /// True if the registry itself has required credentials.
    asked: AtomicBool,
    /// True if the registry has accepted our credentials, and does not accept everybody.
    proven: AtomicBool,
    /// Last password header that the registry accepted.
    taken: Mutex<Option<HeaderValue>>,
    /// Last password header that the registry refused, where it never accepted that header, and the time of the
    /// refusal.
    wrong: Mutex<Option<(HeaderValue, Instant)>>,
    slots: Mutex<HashMap<String, Arc<Slot>>>,
    /// Token service that gave no answer, with the time and the reason.
    silent: Mutex<Option<(Url, Instant, AuthError)>>,
    generations: AtomicU64,
}

/// Token of one scope. The slot stays locked while its token is fetched, so that one request is in flight.
type Slot = tokio::sync::Mutex<SlotState>;

#[derive(Debug, Default)]
struct SlotState {
    token: Option<(Grant, Instant)>,
    /// Grants that the registry required beyond those that the client considered necessary.
    extra: BTreeSet<String>,
    /// Last failure, for the callers that waited for the same request.
    failure: Option<(Instant, AuthError)>,
    /// Time at which the token service refused a token for these scopes, and gave one for a narrower scope.
    refused: Option<Instant>,
}

impl SlotState {
    fn is_refused(&self) -> bool {
        self.refused.is_some_and(|at| at.elapsed() < NARROWED_FOR)
    }

    fn fresh(&self) -> Option<Grant> {
        self.token.as_ref().filter(|(_, renew_at)| Instant::now() < *renew_at).map(|(grant, _)| grant.clone())
    }
}

impl Auth {
    pub(crate) fn new(host: RegistryHost, credentials: Option<Credentials>, wire: Wire) -> Self {
        let source = Source::new(host.clone(), credentials, Programs::default()).with_wire(wire);
        Self {
            quota: Quota::new(host),
            source,
            scheme: Mutex::default(),
            login: tokio::sync::Mutex::default(),
            unasked: Unasked::default(),
            asked: AtomicBool::new(false),
            proven: AtomicBool::new(false),
            taken: Mutex::default(),
            wrong: Mutex::default(),
            slots: Mutex::default(),
            silent: Mutex::default(),
            generations: AtomicU64::new(0),
        }
    }

    /// Returns the user name if it is known, else the source of the login, or `anonymous`.
    pub(crate) fn identity(&self) -> String {
        self.source.identity()
    }

    /// Returns true if the scheme by which to authenticate at the registry is known.
    pub(crate) fn knows_scheme(&self) -> bool {
        self.scheme().is_some()
    }

    /// Returns true if the registry has accepted the credentials and does not accept everybody: it required them, or it
    /// granted with them what it had refused without them.
    pub(crate) fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }

    pub(crate) fn prove(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }

    /// Records that the registry accepted this header.
    pub(crate) fn record_accepted(&self, shown: &HeaderValue) {
        *self.taken.lock() = Some(shown.clone());
        self.prove();
    }

    pub(crate) fn set_scheme(&self, scheme: Scheme) {
        *self.scheme.lock() = Some(scheme);
    }

    fn numbered(&self, header: HeaderValue) -> Grant {
        Grant { header, generation: self.generations.fetch_add(1, Ordering::Relaxed) }
    }

    pub(crate) fn scheme(&self) -> Option<Scheme> {
        self.scheme.lock().clone()
    }

    /// Records the registry's answer to a request with this header. Most refusals say nothing about the identity.
    pub(crate) fn record_answer(&self, shown: &HeaderValue, status: StatusCode) {
        let is_basic = !matches!(self.scheme(), Some(Scheme::Bearer { .. })) && shown.as_bytes().starts_with(b"Basic ");
        if !is_basic || self.was_accepted(shown) {
            return;
        }
        if status == StatusCode::UNAUTHORIZED {
            *self.wrong.lock() = Some((shown.clone(), Instant::now()));
        } else if self.asked.load(Ordering::Relaxed) && shows_valid_credentials(status) {
            // A registry that has not required authentication may accept any credentials.
            self.record_accepted(shown);
        }
    }

    /// Returns the time since the registry refused this header, if it never accepted the header.
    fn refused_for(&self, shown: &HeaderValue) -> Option<Duration> {
        let wrong = self.wrong.lock().clone();
        let (_, at) = wrong.filter(|(wrong, _)| wrong == shown && !self.was_accepted(shown))?;
        Some(at.elapsed())
    }

    fn was_accepted(&self, shown: &HeaderValue) -> bool {
        self.taken.lock().as_ref() == Some(shown)
    }

    /// Records the outcome of one token request after all retries.
    fn record_token_outcome(&self, realm: &Url, failure: Option<&AuthError>) {
        let silent = failure.filter(|failure| matches!(failure.kind, ErrorKind::Unavailable | ErrorKind::Busy(_)));
        let silent = silent.map(|failure| (realm.clone(), Instant::now(), failure.clone()));
        *self.silent.lock() = silent;
    }

    /// Returns the reason why a token service gave no answer within the last [`SILENT_FOR`].
    fn recent_failure_of(&self, realm: &Url) -> Option<AuthError> {
        let silent = self.silent.lock();
        let (_, _, failure) = silent.as_ref().filter(|(of, at, _)| of == realm && at.elapsed() < SILENT_FOR)?;
        Some(failure.clone())
    }

    fn slot(&self, key: &str) -> Arc<Slot> {
        let mut slots = self.slots.lock();
        if slots.len() >= MAX_SLOTS && !slots.contains_key(key) {
            // Slots in use have a second owner, and stay.
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        Arc::clone(slots.entry(key.to_owned()).or_default())
    }

    /// Returns the token of a larger scope if a valid one is stored: then the request needs no other token.
    fn wider_token(&self, scopes: &Scopes) -> Option<Grant> {
        let slots = self.slots.lock();
        slots.get(scopes.wider()?)?.try_lock().ok()?.fresh()
    }

    /// Returns the token of a smaller scope, if the token service refused these scopes and the smaller one is enough.
    fn narrower_token(&self, scopes: &Scopes) -> Option<Grant> {
        let narrower = scopes.narrower()?.key();
        self.slot(&scopes.key()).try_lock().ok()?.is_refused().then(|| self.slot(&narrower).try_lock().ok()?.fresh())?
    }
}

impl Registry {
    /// Returns the authorization for a request; `None` while the registry has not required any.
    pub(crate) async fn authorization(&self, call: &RegistryRequest) -> Result<Option<Grant>, AuthError> {
        if !redirect::same_origin(&call.url, &self.base) {
            return Ok(None);
        }
        let scheme = match self.auth.scheme() {
            None if call.as_somebody => self.scheme_unasked().await?,
            scheme => scheme,
        };
        match scheme {
            None => Ok(None),
            Some(Scheme::Basic) => self.login().await,
            Some(Scheme::Bearer { realm, service }) => {
                self.bearer_or_narrower(&realm, service.as_deref(), &call.scopes).await.map(Some)
            }
        }
    }

    /// Returns what [`Registry::authorization`] would return, without waiting. `knew_scheme` is true if the scheme of
    /// the registry was already known when the earlier authorization was prepared.
    pub(crate) fn available_authorization(&self, call: &RegistryRequest, knew_scheme: bool) -> AtHand {
        if !redirect::same_origin(&call.url, &self.base) {
            return AtHand::Grant(None);
        }
        match self.auth.scheme() {
            None if call.as_somebody => AtHand::AsPrepared,
            None => AtHand::Grant(None),
            Some(_) if !knew_scheme => AtHand::Nothing,
            Some(Scheme::Basic) => AtHand::AsPrepared,
            Some(Scheme::Bearer { .. }) => {
                let fresh = || self.auth.slot(&call.scopes.key()).try_lock().ok()?.fresh();
                let narrower = || self.auth.narrower_token(&call.scopes);
                self.auth
                    .wider_token(&call.scopes)
                    .or_else(fresh)
                    .or_else(narrower)
                    .map_or(AtHand::Nothing, |grant| AtHand::Grant(Some(grant)))
            }
        }
    }

    async fn login(&self) -> Result<Option<Grant>, AuthError> {
        let mut shown = self.auth.login.lock().await;
        let refused_for = shown.as_ref().and_then(|(grant, _)| self.auth.refused_for(grant.header()));
        let login = match (&*shown, refused_for) {
            (Some((_, refused)), Some(refused_for)) if refused_for < REFUSED_FOR => {
                Some(self.login_other_than(refused).await?)
            }
            (Some(_), None) if !self.auth.source.has_ended() => None,
            _ => self.auth.source.login().await?,
        };
        if let Some(login) = login {
            *shown = Some((self.auth.numbered(basic_header(&login)?), login));
        }
        Ok(shown.as_ref().map(|(grant, _)| grant.clone()))
    }

    async fn login_other_than(&self, refused: &Login) -> Result<Login, AuthError> {
        self.auth.source.login_after_refusal(refused).await?.ok_or_else(|| {
            let who = self.auth.identity();
            let again = "the same password is not sent again for a minute";
            AuthError::denied(format!("the registry has just refused {who}: {again}"))
        })
    }

    /// Returns a token for these scopes. If the token service refuses them, returns a token for narrower scopes where
    /// those are enough: some services (GitLab) give no token at all to a login that may do only a part of what the
    /// request names.
    async fn bearer_or_narrower(
        &self,
        realm: &Url,
        service: Option<&str>,
        scopes: &Scopes,
    ) -> Result<Grant, AuthError> {
        let Some(narrower) = scopes.narrower() else { return self.bearer(realm, service, scopes).await };
        let slot = self.auth.slot(&scopes.key());
        if slot.lock().await.is_refused() {
            return self.bearer(realm, service, narrower).await;
        }
        let refusal = match self.bearer(realm, service, scopes).await {
            Err(refusal) if refusal.kind == ErrorKind::Denied => refusal,
            outcome => return outcome,
        };
        match self.bearer(realm, service, narrower).await {
            Ok(grant) => {
                slot.lock().await.refused = Some(Instant::now());
                Ok(grant)
            }
            Err(_) => Err(refusal),
        }
    }

    async fn bearer(&self, realm: &Url, service: Option<&str>, scopes: &Scopes) -> Result<Grant, AuthError> {
        if let Some(grant) = self.auth.wider_token(scopes) {
            return Ok(grant);
        }
        let started = Instant::now();
        let slot = self.auth.slot(&scopes.key());
        let mut state = slot.lock().await;
        if let Some(grant) = state.fresh() {
            return Ok(grant);
        }
        if let Some((at, failure)) = &state.failure
            && *at > started
        {
            return Err(failure.clone());
        }
        if let Some(failure) = self.auth.recent_failure_of(realm) {
            return Err(failure);
        }
        let grants: BTreeSet<&str> = scopes.grants().iter().chain(&state.extra).map(String::as_str).collect();
        let fetched = self.fetch_token(realm, service, &grants).await;
        self.auth.record_token_outcome(realm, fetched.as_ref().err());
        match fetched {
            Ok(Token { header, renew_at }) => {
                let grant = self.auth.numbered(header);
                state.token = Some((grant.clone(), renew_at));
                state.failure = None;
                Ok(grant)
            }
            Err(failure) => {
                state.failure = Some((Instant::now(), failure.clone()));
                Err(failure)
            }
        }
    }

    /// Handles a 401 response. Returns true if the request is worth repeating.
    pub(crate) async fn handle_challenge(
        &self,
        scopes: &Scopes,
        used: Option<&Grant>,
        answer: &Response,
    ) -> Result<bool, AuthError> {
        match self.learn_scheme(answer)? {
            Asks::Bearer(bearer) => {
                self.drop_token(scopes, used, bearer.get("scope")).await;
                return Ok(true);
            }
            Asks::Basic => {}
            Asks::Nothing => return Ok(false),
        }
        let Some(used) = used else {
            let none = "the registry asks for a user name and a password, and none are configured";
            return self.login().await?.map(|_| true).ok_or_else(|| AuthError::denied(none));
        };
        self.handle_refused_password(used).await
    }

    /// Records the scheme that a registry requires.
    pub(crate) fn learn_scheme(&self, answer: &Response) -> Result<Asks, AuthError> {
        let challenges = challenge::challenges(&answer.headers);
        let find = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme == scheme).cloned();
        if let Some(bearer) = find("bearer") {
            self.learn_bearer(&bearer)?;
            self.auth.asked.store(true, Ordering::Relaxed);
            return Ok(Asks::Bearer(bearer));
        }
        if find("basic").is_none() {
            return Ok(Asks::Nothing);
        }
        self.auth.asked.store(true, Ordering::Relaxed);
        self.auth.set_scheme(Scheme::Basic);
        Ok(Asks::Basic)
    }

    /// Handles the refusal of a password. Returns true if the request is worth repeating:
    ///
    /// - A password that was renewed since it was read is sent.
    /// - A wrong password is sent once, and not again for a while: further attempts would lock the account.
    /// - A password that the registry accepted before is correct, and the refusal has another reason.
    async fn handle_refused_password(&self, used: &Grant) -> Result<bool, AuthError> {
        let mut shown = self.auth.login.lock().await;
        let refused = match &*shown {
            Some((grant, login)) if grant.generation == used.generation => login.clone(),
            _ => return Ok(true),
        };
        if self.auth.was_accepted(used.header()) {
            *shown = None;
        }
        let Some(login) = self.auth.source.login_after_refusal(&refused).await? else { return Ok(false) };
        *shown = Some((self.auth.numbered(basic_header(&login)?), login));
        Ok(true)
    }

    fn learn_bearer(&self, challenge: &Challenge) -> Result<(), AuthError> {
        let realm = realm::read(challenge.get("realm").unwrap_or_default(), &self.base, self.token_service())
            .map_err(|error| AuthError { kind: ErrorKind::Refused, detail: error.to_string() })?;
        let service = challenge.get("service").map(str::to_owned);
        let mut scheme = self.auth.scheme.lock();
        if let Some(Scheme::Bearer { realm: known, .. }) = &*scheme
            && !redirect::same_origin(known, &realm)
        {
            let (known, realm) = (redirect::shown(known), redirect::shown(&realm));
            tracing::warn!(
                registry = %self.host(), known, realm,
                "the registry names a different token service than before, which receives the credentials from now on: \
                 check that this is intended"
            );
        }
        *scheme = Some(Scheme::Bearer { realm, service });
        Ok(())
    }

    /// Removes the refused token from its slots, unless another request has replaced it already.
    async fn drop_token(&self, scopes: &Scopes, used: Option<&Grant>, wanted: Option<&str>) {
        let wider = scopes.wider().map(str::to_owned);
        let narrower = scopes.narrower().map(Scopes::key);
        for key in wider.into_iter().chain(narrower).chain([scopes.key()]) {
            let slot = self.auth.slot(&key);
            let mut state = slot.lock().await;
            let current = state.token.as_ref().map(|(grant, _)| grant.generation);
            if current.is_some() && current == used.map(|used| used.generation) {
                state.token = None;
            }
            if key == scopes.key() {
                let wanted = wanted.unwrap_or_default().split_whitespace().filter(|wanted| wanted.len() <= 512);
                let extra = wanted.filter(|wanted| !scopes.covers(wanted)).take(4).map(str::to_owned);
                state.extra = extra.collect();
            }
        }
    }
}

fn basic_header(login: &Login) -> Result<HeaderValue, AuthError> {
    let token = "the registry asks for a user name and a password, and only a token is configured";
    login.basic()?.ok_or_else(|| AuthError::denied(token))
}
