//! Tokens of one identity, by scope. For each scope, at most one token request is in flight.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use url::Url;

use super::error::AuthError;
use super::grant::Grant;
use super::scope::Scopes;
use crate::store::ErrorKind;

/// Maximum number of slots before the client removes unused slots.
const MAX_SLOTS: usize = 1024;

/// Time for which the client sends no request to a token service. The time begins when the token service has not
/// answered a request and all repetitions of the request.
const SILENT_FOR: Duration = Duration::from_secs(10);

/// Time for which the client requests a pull token instead of a push token, if a pull token is sufficient. The time
/// begins when the token service refuses the push token.
const NARROWED_FOR: Duration = Duration::from_secs(300);

/// Tokens of one identity.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    slots: Mutex<HashMap<String, Arc<TokenSlot>>>,
    /// Token service that did not answer the last request, the time of the failure, and the error.
    silent: Mutex<Option<(Url, Instant, AuthError)>>,
}

/// Token of one scope. A token request holds the lock, so at most one request is in flight.
pub(super) type TokenSlot = tokio::sync::Mutex<TokenSlotState>;

#[derive(Debug, Default)]
pub(super) struct TokenSlotState {
    /// Token, and the time at which the client renews the token.
    token: Option<(Grant, Instant)>,
    /// Grants that the registry required in addition to the grants of the scope.
    pub(super) extra: BTreeSet<String>,
    /// Time and error of the last failed token request, for the callers that waited for this request.
    failure: Option<(Instant, AuthError)>,
    /// Time at which the token service refused a token for these scopes, but issued a token for narrower scopes.
    refused: Option<Instant>,
}

impl TokenSlotState {
    /// Returns true if the token service recently refused a token for these scopes.
    pub(super) fn is_refused(&self) -> bool {
        self.refused.is_some_and(|since| since.elapsed() < NARROWED_FOR)
    }

    /// Returns the token, if the client does not have to renew the token yet.
    pub(super) fn fresh(&self) -> Option<Grant> {
        self.token.as_ref().filter(|(_, renew_at)| Instant::now() < *renew_at).map(|(grant, _)| grant.clone())
    }

    /// Returns the failure of a request that ended after `started`.
    pub(super) fn failure_since(&self, started: Instant) -> Option<AuthError> {
        self.failure.as_ref().filter(|(at, _)| *at > started).map(|(_, failure)| failure.clone())
    }

    pub(super) fn store(&mut self, grant: Grant, renew_at: Instant) {
        (self.token, self.failure) = (Some((grant, renew_at)), None);
    }

    pub(super) fn record_failure(&mut self, failure: AuthError) {
        self.failure = Some((Instant::now(), failure));
    }

    pub(super) fn record_refusal(&mut self) {
        self.refused = Some(Instant::now());
    }
}

impl Tokens {
    /// Returns the slot of the scopes with this key.
    pub(super) fn slot(&self, key: &str) -> Arc<TokenSlot> {
        let mut slots = self.slots.lock();
        if slots.len() >= MAX_SLOTS && !slots.contains_key(key) {
            // A second reference to a slot means that a task uses the slot. The map keeps each slot with a second
            // reference.
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        Arc::clone(slots.entry(key.to_owned()).or_default())
    }

    /// Returns a stored, valid token for these scopes. Does not wait for a token request in flight.
    pub(super) fn available(&self, scopes: &Scopes) -> Option<Grant> {
        let fresh = || self.slot(&scopes.key()).try_lock().ok()?.fresh();
        self.wider(scopes).or_else(fresh).or_else(|| self.narrower(scopes))
    }

    /// Returns a stored, valid token for the larger set of grants of these scopes.
    pub(super) fn wider(&self, scopes: &Scopes) -> Option<Grant> {
        let slots = self.slots.lock();
        slots.get(scopes.wider()?)?.try_lock().ok()?.fresh()
    }

    /// If the token service refused a token for these scopes, returns a stored, valid token for the smaller set of
    /// grants.
    fn narrower(&self, scopes: &Scopes) -> Option<Grant> {
        let narrower = scopes.narrower()?.key();
        self.slot(&scopes.key()).try_lock().ok()?.is_refused().then(|| self.slot(&narrower).try_lock().ok()?.fresh())?
    }

    /// Removes the refused token `used` from the slots of these scopes, and of the larger and smaller sets. If a slot
    /// already has a newer token, the slot keeps the newer token. `wanted` contains the scopes that the registry
    /// requires. The next token request includes these scopes.
    pub(super) async fn remove(&self, scopes: &Scopes, used: Option<&Grant>, wanted: Option<&str>) {
        let wider = scopes.wider().map(str::to_owned);
        let narrower = scopes.narrower().map(Scopes::key);
        for key in wider.into_iter().chain(narrower).chain([scopes.key()]) {
            let slot = self.slot(&key);
            let mut state = slot.lock().await;
            if let (Some((current, _)), Some(used)) = (&state.token, used)
                && current.is_same(used)
            {
                state.token = None;
            }
            if key == scopes.key() {
                let wanted = wanted.unwrap_or_default().split_whitespace().filter(|wanted| wanted.len() <= 512);
                let extra = wanted.filter(|wanted| !scopes.covers(wanted)).take(4).map(str::to_owned);
                state.extra = extra.collect();
            }
        }
    }

    /// Records the result of one token request after all retries.
    pub(super) fn record_outcome(&self, realm: &Url, failure: Option<&AuthError>) {
        let silent = failure.filter(|failure| matches!(failure.kind, ErrorKind::Unavailable | ErrorKind::Busy(_)));
        let silent = silent.map(|failure| (realm.clone(), Instant::now(), failure.clone()));
        *self.silent.lock() = silent;
    }

    /// Returns the error of the last token request, if the token service at `realm` did not answer this request, and
    /// the request ended in the last 10 seconds ([`SILENT_FOR`]).
    pub(super) fn recent_failure_of(&self, realm: &Url) -> Option<AuthError> {
        let silent = self.silent.lock();
        let (_, _, failure) =
            silent.as_ref().filter(|(service, since, _)| service == realm && since.elapsed() < SILENT_FOR)?;
        Some(failure.clone())
    }
}
