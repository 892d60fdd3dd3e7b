//! Who we are to one registry: which scheme it asks for, and the credentials or tokens at hand. One flight a scope;
//! nothing is asked for before a registry has shown that it wants to know.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use tokio::time::Instant;
use url::Url;

use super::answer::Answer;
use super::challenge::{self, Challenge};
use super::credentials::{Login, Programs, Source, Wire};
use super::quota::Quota;
use super::scope::Scopes;
use super::token::Token;
use super::transport::Call;
use super::{Credentials, Registry, locate, realm};
use crate::oci::RegistryHost;
use crate::store::ErrorKind;

/// The most scopes whose tokens are kept.
const MAX_SLOTS: usize = 1024;

/// For so long a password that was refused, and never taken, is not shown again: registries lock accounts.
const REFUSED_FOR: Duration = Duration::from_secs(60);

/// Why there is no authorization.
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

/// An `Authorization` header, and which of many it is.
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

/// What is at hand for a request.
#[derive(Debug)]
pub(crate) enum AtHand {
    /// This, or nothing where nothing is needed.
    Grant(Option<Grant>),
    /// What was seen to before is still good.
    AsPrepared,
    /// It is to be seen to first.
    Nothing,
}

/// What a registry asked for.
#[derive(Debug, Clone)]
enum Scheme {
    Basic,
    Bearer { realm: Url, service: Option<String> },
}

/// The authorization of one registry.
#[derive(Debug)]
pub(crate) struct Auth {
    pub(crate) source: Source,
    /// What this identity may read, where that is counted.
    pub(crate) quota: Quota,
    scheme: Mutex<Option<Scheme>>,
    /// What is shown to a registry that asks for a password.
    login: tokio::sync::Mutex<Option<(Grant, Login)>>,
    /// The last of these that was taken, and the last that was refused without ever having been taken.
    taken: Mutex<Option<HeaderValue>>,
    wrong: Mutex<Option<(HeaderValue, Instant)>>,
    slots: Mutex<HashMap<String, Arc<Slot>>>,
    generations: AtomicU64,
}

/// The token of one scope. Its lock is held while the token is fetched: that is what makes it one flight.
type Slot = tokio::sync::Mutex<SlotState>;

#[derive(Debug, Default)]
struct SlotState {
    token: Option<(Grant, Instant)>,
    /// What the registry asked for beyond what we thought is needed.
    extra: BTreeSet<String>,
    /// The last failure: for those who waited for it too.
    failure: Option<(Instant, AuthError)>,
}

impl SlotState {
    fn fresh(&self) -> Option<Grant> {
        self.token.as_ref().filter(|(_, renew_at)| Instant::now() < *renew_at).map(|(grant, _)| grant.clone())
    }
}

impl Auth {
    pub(crate) fn new(host: RegistryHost, credentials: Option<Credentials>, wire: Wire) -> Self {
        let source = Source::new(host.clone(), credentials, Programs::default()).over(wire);
        Self {
            quota: Quota::new(host),
            source,
            scheme: Mutex::default(),
            login: tokio::sync::Mutex::default(),
            taken: Mutex::default(),
            wrong: Mutex::default(),
            slots: Mutex::default(),
            generations: AtomicU64::new(0),
        }
    }

    /// A user name where it is known, else where the login comes from, or `anonymous`.
    pub(crate) fn identity(&self) -> String {
        self.source.identity()
    }

    /// Whether the registry has wanted to know who we are.
    pub(crate) fn was_asked(&self) -> bool {
        self.scheme().is_some()
    }

    fn numbered(&self, header: HeaderValue) -> Grant {
        Grant { header, generation: self.generations.fetch_add(1, Ordering::Relaxed) }
    }

    fn scheme(&self) -> Option<Scheme> {
        self.scheme.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes in what the registry answered who showed it this. Most refusals say nothing of who it was.
    pub(crate) fn answered(&self, shown: &HeaderValue, status: StatusCode) {
        if !matches!(self.scheme(), Some(Scheme::Basic)) || self.has_taken(shown) {
            return;
        }
        if status == StatusCode::UNAUTHORIZED {
            *self.wrong.lock().unwrap_or_else(PoisonError::into_inner) = Some((shown.clone(), Instant::now()));
        } else if status.is_success() || status.is_redirection() || status == StatusCode::NOT_FOUND {
            *self.taken.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown.clone());
        }
    }

    /// For how long this has been known to be wrong.
    fn wrong_for(&self, shown: &HeaderValue) -> Option<Duration> {
        let wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (_, at) = wrong.filter(|(wrong, _)| wrong == shown && !self.has_taken(shown))?;
        Some(at.elapsed())
    }

    fn has_taken(&self, shown: &HeaderValue) -> bool {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).as_ref() == Some(shown)
    }

    fn slot(&self, key: &str) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= MAX_SLOTS && !slots.contains_key(key) {
            // Those in use are held by whoever uses them.
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        Arc::clone(slots.entry(key.to_owned()).or_default())
    }

    /// The token of a larger scope, if there is a good one: then no other is needed.
    fn wider(&self, scopes: &Scopes) -> Option<Grant> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.get(scopes.wider()?)?.try_lock().ok()?.fresh()
    }
}

impl Registry {
    /// What to send along with a request; `None` as long as the registry has not asked for anything.
    pub(crate) async fn authorization(&self, call: &Call) -> Result<Option<Grant>, AuthError> {
        if !locate::same_origin(&call.url, &self.base) {
            return Ok(None);
        }
        match self.auth.scheme() {
            None => Ok(None),
            Some(Scheme::Basic) => self.login().await,
            Some(Scheme::Bearer { realm, service }) => {
                self.bearer(&realm, service.as_deref(), &call.scopes).await.map(Some)
            }
        }
    }

    /// What [`Registry::authorization`] would give, without waiting. `was_asked` is whether the registry had wanted to know who we
    /// are when that was asked.
    pub(crate) fn at_hand(&self, call: &Call, was_asked: bool) -> AtHand {
        if !locate::same_origin(&call.url, &self.base) {
            return AtHand::Grant(None);
        }
        match self.auth.scheme() {
            None => AtHand::Grant(None),
            Some(_) if !was_asked => AtHand::Nothing,
            Some(Scheme::Basic) => AtHand::AsPrepared,
            Some(Scheme::Bearer { .. }) => {
                let slot = self.auth.slot(&call.scopes.key());
                let fresh = || slot.try_lock().ok()?.fresh();
                self.auth.wider(&call.scopes).or_else(fresh).map_or(AtHand::Nothing, |grant| AtHand::Grant(Some(grant)))
            }
        }
    }

    async fn login(&self) -> Result<Option<Grant>, AuthError> {
        let mut shown = self.auth.login.lock().await;
        let wrong_for = shown.as_ref().and_then(|(grant, _)| self.auth.wrong_for(grant.header()));
        let login = match (&*shown, wrong_for) {
            (Some((_, refused)), Some(wrong_for)) if wrong_for < REFUSED_FOR => Some(self.other_than(refused).await?),
            (Some(_), None) if !self.auth.source.has_ended() => None,
            _ => self.auth.source.login().await?,
        };
        if let Some(login) = login {
            *shown = Some((self.auth.numbered(password_of(&login)?), login));
        }
        Ok(shown.as_ref().map(|(grant, _)| grant.clone()))
    }

    async fn other_than(&self, refused: &Login) -> Result<Login, AuthError> {
        self.auth.source.another(refused).await?.ok_or_else(|| {
            let who = self.auth.identity();
            let again = "the same password is not shown to it again for a minute";
            AuthError::denied(format!("the registry has just refused {who}: {again}"))
        })
    }

    async fn bearer(&self, realm: &Url, service: Option<&str>, scopes: &Scopes) -> Result<Grant, AuthError> {
        if let Some(grant) = self.auth.wider(scopes) {
            return Ok(grant);
        }
        let asked = Instant::now();
        let slot = self.auth.slot(&scopes.key());
        let mut state = slot.lock().await;
        if let Some(grant) = state.fresh() {
            return Ok(grant);
        }
        if let Some((at, failure)) = &state.failure
            && *at > asked
        {
            return Err(failure.clone());
        }
        let grants: BTreeSet<&str> = scopes.grants().iter().chain(&state.extra).map(String::as_str).collect();
        match self.fetch_token(realm, service, &grants).await {
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

    /// Takes in a 401. Says whether there is a point in asking again.
    pub(crate) async fn challenged(
        &self,
        scopes: &Scopes,
        used: Option<&Grant>,
        answer: &Answer,
    ) -> Result<bool, AuthError> {
        let challenges = challenge::challenges(&answer.headers);
        let of = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme == scheme);
        if let Some(bearer) = of("bearer") {
            self.learn_bearer(bearer)?;
            self.drop_token(scopes, used, bearer.get("scope")).await;
            return Ok(true);
        }
        if of("basic").is_none() {
            return Ok(false);
        }
        *self.auth.scheme.lock().unwrap_or_else(PoisonError::into_inner) = Some(Scheme::Basic);
        let Some(used) = used else {
            let none = "the registry asks for a user name and a password, and none are configured";
            return self.login().await?.map(|_| true).ok_or_else(|| AuthError::denied(none));
        };
        self.refused(used).await
    }

    /// Takes in that a password was refused. Where it was renewed since it was read, there is a point in asking again; a
    /// wrong one is shown once, and not again for a while: asking on would lock the account. One that was taken before is
    /// right, and what was refused is something else.
    async fn refused(&self, used: &Grant) -> Result<bool, AuthError> {
        let mut shown = self.auth.login.lock().await;
        let refused = match &*shown {
            Some((grant, login)) if grant.generation == used.generation => login.clone(),
            _ => return Ok(true),
        };
        if self.auth.has_taken(used.header()) {
            *shown = None;
        }
        let Some(login) = self.auth.source.another(&refused).await? else { return Ok(false) };
        *shown = Some((self.auth.numbered(password_of(&login)?), login));
        Ok(true)
    }

    fn learn_bearer(&self, challenge: &Challenge) -> Result<(), AuthError> {
        let realm = realm::read(challenge.get("realm").unwrap_or_default(), &self.base)
            .map_err(|error| AuthError { kind: ErrorKind::Refused, detail: error.to_string() })?;
        let service = challenge.get("service").map(str::to_owned);
        let mut scheme = self.auth.scheme.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Scheme::Bearer { realm: known, .. }) = &*scheme
            && !locate::same_origin(known, &realm)
        {
            let (known, realm) = (locate::shown(known), locate::shown(&realm));
            tracing::warn!(registry = %self.host(), known, realm, "the registry names another token service than before, which gets the credentials now: see that it is meant");
        }
        *scheme = Some(Scheme::Bearer { realm, service });
        Ok(())
    }

    /// Forgets the token that was refused, unless somebody has a new one by now.
    async fn drop_token(&self, scopes: &Scopes, used: Option<&Grant>, wanted: Option<&str>) {
        let wider = scopes.wider().map(str::to_owned);
        for key in wider.into_iter().chain([scopes.key()]) {
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

fn password_of(login: &Login) -> Result<HeaderValue, AuthError> {
    let token = "the registry asks for a user name and a password, and there is a token alone";
    login.basic()?.ok_or_else(|| AuthError::denied(token))
}
