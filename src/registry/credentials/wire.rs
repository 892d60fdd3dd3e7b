//! Small questions to the services of a cloud, asked over the network: how they are repeated, how much is read, and what is
//! told of a refusal. No redirect is followed, and nothing that was answered is ever told but a code.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode};
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use url::Url;

use super::sensitive;
use crate::registry::auth::AuthError;
use crate::registry::pace::Class;
use crate::registry::permits::{Door, Gate};
use crate::registry::retry::{self, Attempts, Failure, Kind, Tempo};
use crate::registry::trouble::{self, Approach, Trouble};
use crate::registry::{Party, locate};
use crate::store::ErrorKind;

/// The time for one exchange.
const LIMIT: Duration = Duration::from_secs(30);
/// No pause begins that would end later than this after the first attempt. Azure's metadata service may be away for 70 s.
const PATIENCE: Duration = Duration::from_secs(120);
/// A metadata service is near, or not there.
const NEAR: Duration = Duration::from_secs(2);
/// The most of an answer that is read.
const MAX_ANSWER: usize = 64 * 1024;
/// The most of a code that is told.
const MAX_CODE: usize = 60;

/// What is needed to ask over the network.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    /// The registry's own client.
    pub(crate) http: reqwest::Client,
    /// For the services of a cloud: the same, but it believes nobody unseen, whatever the registry is allowed. Secrets are
    /// shown there.
    pub(crate) authority: reqwest::Client,
    /// The registry's address.
    pub(crate) registry: Url,
    /// Its gate: what is asked of the registry itself is one more request of it.
    pub(crate) gate: Gate,
    pub(crate) tempo: Tempo,
}

/// An answer, good or bad. No `Debug`: it would show secrets.
pub(super) struct Answered {
    pub(super) status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
    /// Who answered, for people.
    place: String,
}

impl Wire {
    /// A client for a metadata service: without a proxy, and without any authorities.
    pub(super) fn near(&self) -> Result<reqwest::Client, AuthError> {
        let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        let client = client.retry(reqwest::retry::never()).connect_timeout(NEAR).tls_certs_only([]).build();
        client.map_err(|error| AuthError::denied(error.without_url().to_string()))
    }

    /// Sends a request whose body is in memory, and reads its answer. What may pass is tried again, also an answer of one of
    /// these statuses. Ends within three minutes.
    pub(super) async fn ask(
        &self,
        request: reqwest::RequestBuilder,
        url: &Url,
        passing: &[StatusCode],
    ) -> Result<Answered, AuthError> {
        let began = Instant::now();
        let gate = locate::same_origin(url, &self.registry).then_some(&self.gate);
        let mut attempts = Attempts::of(Kind::Token, &self.tempo);
        loop {
            let once = request.try_clone().ok_or_else(|| AuthError::denied("a request cannot be sent again"))?;
            let entered = match gate {
                Some(gate) => Some(gate.enter(Party::default(), Door::Token, Class::Token).await),
                None => None,
            };
            let outcome = exchange(once, url).await;
            drop(entered);
            let (failure, wait) = match &outcome {
                Ok(answered) => (answered.failure(passing), retry::retry_after(&answered.headers, chrono::Utc::now())),
                Err(trouble) => (trouble.failure(), None),
            };
            if let (Some(gate), Some(Failure::Throttled), Some(wait)) = (gate, failure, wait) {
                gate.pause(wait);
            }
            let pause =
                failure.and_then(|failure| attempts.again(failure)).map(|pause| pause + wait.unwrap_or_default());
            let Some(pause) = pause.filter(|pause| began.elapsed() + *pause < PATIENCE) else {
                return outcome.map_err(|trouble| AuthError {
                    kind: trouble.kind(),
                    detail: format!("asking {}: {}", locate::shown(url), trouble.detail()),
                });
            };
            tracing::debug!(service = locate::shown(url), ?pause, "a service of the cloud is asked again");
            tokio::time::sleep(pause).await;
        }
    }
}

async fn exchange(request: reqwest::RequestBuilder, url: &Url) -> Result<Answered, Trouble> {
    let broken = |error: reqwest::Error| trouble::describe(&error, url, &Approach::default());
    let mut response = request.timeout(LIMIT).send().await.map_err(broken)?;
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(broken)? {
        body.extend_from_slice(&piece);
        if body.len() > MAX_ANSWER {
            return Err(Trouble::Unusable(format!("it answered more than {MAX_ANSWER} bytes")));
        }
    }
    Ok(Answered { status, headers, body, place: locate::shown(url) })
}

impl Answered {
    fn failure(&self, passing: &[StatusCode]) -> Option<Failure> {
        let passes = passing.contains(&self.status).then_some(Failure::Throttled);
        passes.or_else(|| retry::failure_of(self.status, &self.headers))
    }

    /// The same where it is good; of a refusal, the status and the code that `code_of` finds in it are told.
    pub(super) fn good(self, code_of: impl FnOnce(&[u8]) -> Option<String>) -> Result<Self, AuthError> {
        if self.status.is_success() {
            return Ok(self);
        }
        let code: String = code_of(&self.body).unwrap_or_default();
        let code: String = code.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(MAX_CODE).collect();
        let code = if code.is_empty() { code } else { format!(", {code}") };
        let passes = self.status.is_server_error() || self.status == StatusCode::TOO_MANY_REQUESTS;
        let kind = if passes { ErrorKind::Unavailable } else { ErrorKind::Denied };
        Err(AuthError { kind, detail: format!("{} refused: {}{code}", self.place, self.status) })
    }

    /// The body as JSON.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, AuthError> {
        // Why it cannot be read is not told: it could quote a token.
        serde_json::from_slice(&self.body).map_err(|_| self.unusable("with something else than a token"))
    }

    /// The body as text.
    pub(super) fn text(&self) -> Result<&str, AuthError> {
        std::str::from_utf8(&self.body).map_err(|_| self.unusable("with something else than text"))
    }

    /// An answer that lacks what it should have: "without a token".
    pub(super) fn unusable(&self, what: &str) -> AuthError {
        AuthError { kind: ErrorKind::Invalid, detail: format!("{} answered {what}", self.place) }
    }
}

/// A header that no log shows.
pub(super) fn hidden(text: &str) -> Result<HeaderValue, AuthError> {
    let value =
        HeaderValue::from_str(text).map_err(|_| AuthError::denied("a credential does not fit into a header"))?;
    Ok(sensitive(value))
}

/// A form, as it is posted.
pub(super) fn form(client: &reqwest::Client, url: &Url, pairs: &[(&str, &str)]) -> reqwest::RequestBuilder {
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    client.post(url.clone()).header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(body)
}

/// The address of a path below another one.
pub(super) fn below(base: &Url, path: &str) -> Result<Url, AuthError> {
    let base = format!("{}/", base.as_str().trim_end_matches('/'));
    let url = Url::parse(&base).and_then(|base| base.join(path));
    url.map_err(|_| AuthError::denied("the address of a service cannot be read"))
}
