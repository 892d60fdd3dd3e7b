//! Who we are to one registry: which scheme it asks for, and the credentials or tokens at hand. One flight a scope. What
//! is shown to a registry that has not asked for it is in [`super::unasked`].

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
use super::unasked::Unasked;
use super::{Credentials, Registry, locate, realm};
use crate::oci::RegistryHost;
use crate::store::ErrorKind;

/// The most scopes whose tokens are kept.
const MAX_SLOTS: usize = 1024;

/// For so long a password that was refused, and never taken, is not shown again: registries lock accounts.
const REFUSED_FOR: Duration = Duration::from_secs(60);

/// For so long a token service that gave no answer after all repetitions is not asked again: each scope would wait as long.
const SILENT_FOR: Duration = Duration::from_secs(10);

/// For so long a token service that gives no token to push is asked for one to pull alone, where that is enough.
const NARROWED_FOR: Duration = Duration::from_secs(300);

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

/// Whether an answer says that what was shown is good.
pub(crate) fn is_taken(status: StatusCode) -> bool {
    status.is_success() || status.is_redirection() || status == StatusCode::NOT_FOUND
}

/// How credentials are shown.
#[derive(Debug, Clone)]
pub(crate) enum Scheme {
    Basic,
    Bearer { realm: Url, service: Option<String> },
}

/// How an answer asks for credentials.
#[derive(Debug)]
pub(crate) enum Asks {
    /// For a token, by this challenge.
    Bearer(Challenge),
    /// For a password.
    Basic,
    /// Not at all, or in a way that is not known here.
    Nothing,
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
    /// What is shown to a registry that has not asked.
    pub(crate) unasked: Unasked,
    /// Whether the registry itself asked for credentials, and whether it took ours where it turned nobody away.
    asked: AtomicBool,
    proven: AtomicBool,
    /// The last of these that was taken, and the last that was refused without ever having been taken.
    taken: Mutex<Option<HeaderValue>>,
    wrong: Mutex<Option<(HeaderValue, Instant)>>,
    slots: Mutex<HashMap<String, Arc<Slot>>>,
    /// The token service that gave no answer, when, and why.
    silent: Mutex<Option<(Url, Instant, AuthError)>>,
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
    /// When the token service gave no token for these, and one for less.
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
        let source = Source::new(host.clone(), credentials, Programs::default()).over(wire);
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

    /// A user name where it is known, else where the login comes from, or `anonymous`.
    pub(crate) fn identity(&self) -> String {
        self.source.identity()
    }

    /// Whether it is known how to show the registry who we are.
    pub(crate) fn was_asked(&self) -> bool {
        self.scheme().is_some()
    }

    /// Whether the registry has taken the credentials where it does not take everybody: it asked for them, or it gave with
    /// them what it had refused without.
    pub(crate) fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }

    pub(crate) fn prove(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }

    /// Takes in that what was shown is good.
    pub(crate) fn has_proven(&self, shown: &HeaderValue) {
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown.clone());
        self.prove();
    }

    pub(crate) fn set_scheme(&self, scheme: Scheme) {
        *self.scheme.lock().unwrap_or_else(PoisonError::into_inner) = Some(scheme);
    }

    fn numbered(&self, header: HeaderValue) -> Grant {
        Grant { header, generation: self.generations.fetch_add(1, Ordering::Relaxed) }
    }

    pub(crate) fn scheme(&self) -> Option<Scheme> {
        self.scheme.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes in what the registry answered who showed it this. Most refusals say nothing of who it was.
    pub(crate) fn answered(&self, shown: &HeaderValue, status: StatusCode) {
        let is_basic = !matches!(self.scheme(), Some(Scheme::Bearer { .. })) && shown.as_bytes().starts_with(b"Basic ");
        if !is_basic || self.has_taken(shown) {
            return;
        }
        if status == StatusCode::UNAUTHORIZED {
            *self.wrong.lock().unwrap_or_else(PoisonError::into_inner) = Some((shown.clone(), Instant::now()));
        } else if self.asked.load(Ordering::Relaxed) && is_taken(status) {
            // A registry that has not asked may take anything.
            self.has_proven(shown);
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

    /// Takes in what a token service answered after all repetitions of one request.
    fn has_asked(&self, realm: &Url, failure: Option<&AuthError>) {
        let silent = failure.filter(|failure| matches!(failure.kind, ErrorKind::Unavailable | ErrorKind::Busy(_)));
        let silent = silent.map(|failure| (realm.clone(), Instant::now(), failure.clone()));
        *self.silent.lock().unwrap_or_else(PoisonError::into_inner) = silent;
    }

    /// Why a token service gave no answer within the last [`SILENT_FOR`].
    fn silence_of(&self, realm: &Url) -> Option<AuthError> {
        let silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, _, failure) = silent.as_ref().filter(|(of, at, _)| of == realm && at.elapsed() < SILENT_FOR)?;
        Some(failure.clone())
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

    /// The token of a smaller scope, where the token service gave none for these and that scope is enough.
    fn less(&self, scopes: &Scopes) -> Option<Grant> {
        let less = scopes.narrower()?.key();
        self.slot(&scopes.key()).try_lock().ok()?.is_refused().then(|| self.slot(&less).try_lock().ok()?.fresh())?
    }
}

impl Registry {
    /// What to send along with a request; `None` as long as the registry has not asked for anything.
    pub(crate) async fn authorization(&self, call: &Call) -> Result<Option<Grant>, AuthError> {
        if !locate::same_origin(&call.url, &self.base) {
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
                self.bearer_or_less(&realm, service.as_deref(), &call.scopes).await.map(Some)
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
            None if call.as_somebody => AtHand::AsPrepared,
            None => AtHand::Grant(None),
            Some(_) if !was_asked => AtHand::Nothing,
            Some(Scheme::Basic) => AtHand::AsPrepared,
            Some(Scheme::Bearer { .. }) => {
                let fresh = || self.auth.slot(&call.scopes.key()).try_lock().ok()?.fresh();
                let less = || self.auth.less(&call.scopes);
                self.auth
                    .wider(&call.scopes)
                    .or_else(fresh)
                    .or_else(less)
                    .map_or(AtHand::Nothing, |grant| AtHand::Grant(Some(grant)))
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

    /// A token of these scopes, or of less where that is enough and the token service refuses the whole: some give nothing at
    /// all to a login that may do part of what it asks for (GitLab's).
    async fn bearer_or_less(&self, realm: &Url, service: Option<&str>, scopes: &Scopes) -> Result<Grant, AuthError> {
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
        if let Some(failure) = self.auth.silence_of(realm) {
            return Err(failure);
        }
        let grants: BTreeSet<&str> = scopes.grants().iter().chain(&state.extra).map(String::as_str).collect();
        let fetched = self.fetch_token(realm, service, &grants).await;
        self.auth.has_asked(realm, fetched.as_ref().err());
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

    /// Takes in a 401. Says whether there is a point in asking again.
    pub(crate) async fn challenged(
        &self,
        scopes: &Scopes,
        used: Option<&Grant>,
        answer: &Answer,
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
        self.refused(used).await
    }

    /// Takes in how a registry asks for credentials.
    pub(crate) fn learn_scheme(&self, answer: &Answer) -> Result<Asks, AuthError> {
        let challenges = challenge::challenges(&answer.headers);
        let of = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme == scheme).cloned();
        if let Some(bearer) = of("bearer") {
            self.learn_bearer(&bearer)?;
            self.auth.asked.store(true, Ordering::Relaxed);
            return Ok(Asks::Bearer(bearer));
        }
        if of("basic").is_none() {
            return Ok(Asks::Nothing);
        }
        self.auth.asked.store(true, Ordering::Relaxed);
        self.auth.set_scheme(Scheme::Basic);
        Ok(Asks::Basic)
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
        let realm = realm::read(challenge.get("realm").unwrap_or_default(), &self.base, self.token_service())
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

fn password_of(login: &Login) -> Result<HeaderValue, AuthError> {
    let token = "the registry asks for a user name and a password, and there is a token alone";
    login.basic()?.ok_or_else(|| AuthError::denied(token))
}
