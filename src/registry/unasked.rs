//! Credentials that are shown to a registry that has not asked for them. A registry may serve everybody and show more to
//! a login without ever answering 401: a filtered catalog, or a private repository that is hidden as 404
//! (project-zot/zot#3869). How a registry that asks is answered is in [`super::auth`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::{Method, StatusCode};
use tokio::time::Instant;

use super::answer::Answer;
use super::auth::{Asks, AuthError, Grant, Scheme, is_taken};
use super::credentials::Login;
use super::pace::Class;
use super::paging::MAX_PAGE;
use super::permits::{Door, Permit};
use super::retry::{self, Attempts, Kind};
use super::scope::Scopes;
use super::transport::{Call, Expects};
use super::{Party, Registry, Repository, challenge, locate};
use crate::store::Step;

/// For so long a source that has no login for this registry is not asked again for this.
const NOBODY_FOR: Duration = Duration::from_secs(60);

/// What is known of showing credentials unasked.
#[derive(Debug, Default)]
pub(crate) struct Unasked {
    /// Whether the API's own address has answered without asking for credentials. Its lock is held while that is found out.
    api_asks_nothing: tokio::sync::Mutex<bool>,
    /// How credentials are shown in that case.
    scheme: Mutex<Option<Scheme>>,
    /// When the source said that it has no login.
    nobody: Mutex<Option<Instant>>,
    /// Whether it has been logged that there is no login because its source failed.
    failed: AtomicBool,
}

impl Unasked {
    fn is_nobody(&self) -> bool {
        let nobody = *self.nobody.lock().unwrap_or_else(PoisonError::into_inner);
        nobody.is_some_and(|at| at.elapsed() < NOBODY_FOR)
    }
}

impl Registry {
    /// How to show our credentials to a registry that has not asked for them: as its API asks for them; where that does not
    /// ask, a password by Basic and an access token as it is. `None` where there is nothing to show.
    ///
    /// # Errors
    /// Where the source of the credentials fails, or the registry names a token service that must not get them.
    pub(crate) async fn scheme_unasked(&self) -> Result<Option<Scheme>, AuthError> {
        let unasked = &self.auth.unasked;
        let mut api_asks_nothing = unasked.api_asks_nothing.lock().await;
        if let Some(scheme) = self.auth.scheme() {
            return Ok(Some(scheme));
        }
        if unasked.is_nobody() {
            return Ok(None);
        }
        let Some(login) = self.auth.source.login().await? else {
            *unasked.nobody.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
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
            // It goes to the registry itself: no token service is asked.
            Login::Access(_) => Some(Scheme::Bearer { realm: self.base.clone(), service: None }),
            Login::Token(_) => None,
        };
        unasked.scheme.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&scheme);
        Ok(scheme)
    }

    /// Requests the API's own address without credentials, and takes in how it asks for them. Says whether it answered
    /// without asking; without an answer nothing is known.
    async fn ask_api_for_scheme(&self) -> Result<bool, AuthError> {
        let Ok(url) = self.address("/v2/") else { return Ok(false) };
        let mut attempts = Attempts::of(Kind::Token, &self.tempo);
        loop {
            self.meter.throttled(self.gate.enter(Party::default(), Door::Token, Class::Token).await.1);
            let mut call = Call::new(Kind::Token, Method::GET, url.clone(), Scopes::none());
            let nobody = (Party::default(), Permit::default());
            let outcome = self.attempt(&mut call, &self.base, None, nobody).await;
            let (failure, asked) = match &outcome {
                Ok(answer) => (retry::failure_of(answer.status, &answer.headers), retry_after(answer)),
                Err(trouble) => (trouble.failure(), None),
            };
            if let Some(pause) = failure.and_then(|failure| attempts.again(failure)) {
                self.meter.repeated();
                tokio::time::sleep(pause + asked.unwrap_or_default()).await;
                continue;
            }
            let Ok(answer) = outcome else { return Ok(false) };
            if answer.status == StatusCode::UNAUTHORIZED && locate::same_origin(&answer.url, &self.base) {
                return Ok(matches!(self.learn_scheme(&answer)?, Asks::Nothing));
            }
            return Ok(failure.is_none());
        }
    }

    /// Whether a request that went without credentials (`shown` is `None`) and was refused is to be sent again with them, and
    /// takes in what became of one that went with them unasked. A 404 may hide what others may see.
    pub(crate) async fn shows_more(&self, call: &Call, shown: Option<&Grant>, answer: &Answer) -> bool {
        if let Some(shown) = shown {
            self.was_shown_unasked(call, shown, answer.status);
            return false;
        }
        let refuses = match answer.status {
            StatusCode::NOT_FOUND | StatusCode::FORBIDDEN => true,
            // A challenge that is understood is answered as such.
            StatusCode::UNAUTHORIZED => challenge::challenges(&answer.headers)
                .iter()
                .all(|challenge| !matches!(challenge.scheme.as_str(), "basic" | "bearer")),
            _ => false,
        };
        let is_own = locate::same_origin(&answer.url, &self.base) && locate::same_origin(&call.url, &self.base);
        if !refuses || !is_own || call.as_somebody || !call.can_be_sent_again() {
            return false;
        }
        let found = tokio::time::timeout(self.tempo.whole(call.kind), self.scheme_unasked()).await;
        match found {
            Ok(Ok(scheme)) => scheme.is_some(),
            Ok(Err(error)) => {
                if !self.auth.unasked.failed.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        registry = %self.host(), error = error.detail,
                        "requested without credentials, for there are none though they are configured"
                    );
                }
                false
            }
            Err(_) => false,
        }
    }

    /// A registry that does not turn away what it was shown unasked gets it with every request: one that serves everybody
    /// ignores it, and one that hides things need not be asked twice.
    fn was_shown_unasked(&self, call: &Call, shown: &Grant, status: StatusCode) {
        if !call.as_somebody || !is_taken(status) {
            return;
        }
        let scheme = self.auth.unasked.scheme.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let (None, Some(scheme)) = (self.auth.scheme(), scheme) {
            self.auth.set_scheme(scheme);
        }
        if call.was_refused && status.is_success() {
            self.auth.has_proven(shown.header());
        }
    }
}

impl Repository {
    /// Whether a request without credentials is refused here. Of a repository that was readable with them this proves that they
    /// were taken, which is remembered: a registry that ignores credentials would serve both.
    ///
    /// Sends one request, and repeats it for nothing. What goes wrong with it proves nothing.
    pub async fn proves_login(&self) -> bool {
        let context = self.context(Step::ListTags, "");
        let Ok(url) = self.url(&context, "tags/list?n=1") else { return false };
        let (permit, waited) = self.registry.gate.enter(self.party, Door::Common, Class::Read).await;
        self.registry.meter.throttled(waited);
        let mut call = Call::read(Method::GET, url, self.reading()).expects(Expects::Small(MAX_PAGE));
        let outcome = self.registry.attempt(&mut call, &self.registry.base, None, (self.party, permit)).await;
        let is_refused = outcome.is_ok_and(|answer| {
            let refusals = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::NOT_FOUND];
            refusals.contains(&answer.status) && locate::same_origin(&answer.url, &self.registry.base)
        });
        if is_refused {
            self.registry.auth.prove();
        }
        is_refused
    }
}

fn retry_after(answer: &Answer) -> Option<Duration> {
    retry::retry_after(&answer.headers, chrono::Utc::now())
}
