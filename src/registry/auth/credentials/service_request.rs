//! Requests to the services of a cloud, with retries and a maximum length of the answer. The client follows no
//! redirects. If a service refuses a request, the error message contains the status and the error code, but no other
//! part of the answer.

use std::time::Duration;

use http::{HeaderValue, StatusCode};
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use url::Url;

use crate::registry::Tenant;
use crate::registry::auth::error::AuthError;
use crate::registry::http::error::{self, Approach, TransportError};
use crate::registry::http::redirect;
use crate::registry::http::response::{ResponseHead, sensitive};
use crate::registry::http::retry::{Attempts, Failure, Operation, RetryPolicy};
use crate::registry::limits::concurrency::{ConcurrencyLimiter, RequestClass};
use crate::registry::limits::pace::Class;
use crate::store::ErrorKind;

/// Time limit of one attempt.
const LIMIT: Duration = Duration::from_secs(30);
/// Maximum time from the first attempt to the last repetition. Azure's metadata service can be unavailable for 70 s.
const MAX_RETRY_TIME: Duration = Duration::from_secs(120);
/// Time limit to connect to a metadata service. The limit is short, because a metadata service is near or does not
/// exist.
const METADATA_CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// Maximum length of an answer, in bytes.
const MAX_ANSWER: usize = 64 * 1024;
/// Maximum length of an error code in an error message.
const MAX_CODE: usize = 60;

/// HTTP clients, limits and retry policy for requests to the services that issue credentials.
#[derive(Debug, Clone)]
pub(crate) struct ServiceClients {
    /// HTTP client of the registry.
    pub(crate) http: reqwest::Client,
    /// HTTP client for the services of a cloud, with the settings of the registry's client. This client always verifies
    /// certificates, because the services receive secrets.
    pub(crate) authority: reqwest::Client,
    /// Base URL of the registry's API.
    pub(crate) registry: Url,
    /// Concurrency limiter of the registry. The client uses the limiter only for requests to the registry itself, such
    /// as the exchange of an Azure token.
    pub(crate) limiter: ConcurrencyLimiter,
    pub(crate) retry_policy: RetryPolicy,
}

/// Answer of a service, with any status. The type does not implement `Debug`, because `Debug` output would show
/// secrets.
pub(super) struct CloudAnswer {
    head: ResponseHead,
    body: Vec<u8>,
    /// URL of the service that answered, for messages.
    place: String,
}

impl ServiceClients {
    /// Returns an HTTP client for a metadata service. The client uses no proxy, and trusts no certificate authority.
    pub(super) fn metadata_client(&self) -> Result<reqwest::Client, AuthError> {
        let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        let client =
            client.retry(reqwest::retry::never()).connect_timeout(METADATA_CONNECT_LIMIT).tls_certs_only([]).build();
        client.map_err(|error| AuthError::denied(error.without_url().to_string()))
    }

    /// Sends a request whose body is in memory, and reads the answer. Repeats the request after a transient failure,
    /// and after a status in `transient`. The client starts no repetition later than 120 seconds ([`MAX_RETRY_TIME`])
    /// after the first attempt.
    pub(super) async fn send(
        &self,
        request: reqwest::RequestBuilder,
        url: &Url,
        transient: &[StatusCode],
    ) -> Result<CloudAnswer, AuthError> {
        let started = Instant::now();
        let limiter = redirect::same_origin(url, &self.registry).then_some(&self.limiter);
        let mut attempts = Attempts::new(Operation::Token, &self.retry_policy);
        loop {
            let once = request.try_clone().ok_or_else(|| AuthError::denied("a request cannot be sent again"))?;
            let permit = match limiter {
                Some(limiter) => Some(limiter.enter(Tenant::default(), RequestClass::Token, Class::Token).await),
                None => None,
            };
            let outcome = exchange(once, url).await;
            drop(permit);
            let (failure, wait) = match &outcome {
                Ok(answer) => (answer.failure(transient), answer.head.retry_after),
                Err(error) => (error.failure(), None),
            };
            if let (Some(limiter), Some(Failure::Throttled), Some(wait)) = (limiter, failure, wait) {
                limiter.pause(wait);
            }
            let pause =
                failure.and_then(|failure| attempts.next_pause(failure)).map(|pause| pause + wait.unwrap_or_default());
            let Some(pause) = pause.filter(|pause| started.elapsed() + *pause < MAX_RETRY_TIME) else {
                return outcome.map_err(|error| AuthError {
                    kind: error.kind(),
                    detail: format!("request to {}: {}", redirect::shown(url), error.detail()),
                });
            };
            tracing::debug!(service = redirect::shown(url), ?pause, "repeating a request to a service of the cloud");
            tokio::time::sleep(pause).await;
        }
    }
}

async fn exchange(request: reqwest::RequestBuilder, url: &Url) -> Result<CloudAnswer, TransportError> {
    let broken = |error: reqwest::Error| error::describe(&error, url, &Approach::default());
    let mut response = request.timeout(LIMIT).send().await.map_err(broken)?;
    let head = ResponseHead::from_reqwest(&response);
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(broken)? {
        body.extend_from_slice(&piece);
        if body.len() > MAX_ANSWER {
            return Err(TransportError::Unusable(format!("the answer is larger than {MAX_ANSWER} bytes")));
        }
    }
    Ok(CloudAnswer { head, body, place: redirect::shown(url) })
}

impl CloudAnswer {
    fn failure(&self, transient: &[StatusCode]) -> Option<Failure> {
        let is_transient = transient.contains(&self.head.status).then_some(Failure::Throttled);
        is_transient.or_else(|| self.head.failure())
    }

    /// Returns the answer if its status is a success.
    ///
    /// # Errors
    /// Returns an error with the status. If `code_of` finds an error code in the body, the error also contains this
    /// code.
    pub(super) fn require_success(self, code_of: impl FnOnce(&[u8]) -> Option<String>) -> Result<Self, AuthError> {
        if self.head.status.is_success() {
            return Ok(self);
        }
        let code: String = code_of(&self.body).unwrap_or_default();
        let code: String = code.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(MAX_CODE).collect();
        let code = if code.is_empty() { code } else { format!(", {code}") };
        let is_transient = self.head.status.is_server_error() || self.head.status == StatusCode::TOO_MANY_REQUESTS;
        let kind = if is_transient { ErrorKind::Unavailable } else { ErrorKind::Denied };
        Err(AuthError { kind, detail: format!("{} refused: {}{code}", self.place, self.head.status) })
    }

    /// Returns the body as JSON.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, AuthError> {
        // The error omits the parser's reason, because the reason could quote a token.
        serde_json::from_slice(&self.body).map_err(|_| self.unusable("without a token"))
    }

    /// Returns the body as text.
    pub(super) fn text(&self) -> Result<&str, AuthError> {
        std::str::from_utf8(&self.body).map_err(|_| self.unusable("with something other than text"))
    }

    /// Creates the error for an unusable answer. `what` is the end of the error text: "without a token".
    pub(super) fn unusable(&self, what: &str) -> AuthError {
        AuthError { kind: ErrorKind::Invalid, detail: format!("{} answered {what}", self.place) }
    }
}

/// Returns a header value that `Debug` output hides.
pub(super) fn hidden_header(text: &str) -> Result<HeaderValue, AuthError> {
    let value = HeaderValue::from_str(text)
        .map_err(|_| AuthError::denied("a credential contains characters that a header must not contain"))?;
    Ok(sensitive(value))
}

/// Returns a POST request with a URL-encoded form.
pub(super) fn form(client: &reqwest::Client, url: &Url, pairs: &[(&str, &str)]) -> reqwest::RequestBuilder {
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    client.post(url.clone()).header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(body)
}

/// Returns the URL of `path` below `base`.
pub(super) fn url_below(base: &Url, path: &str) -> Result<Url, AuthError> {
    let base = format!("{}/", base.as_str().trim_end_matches('/'));
    let url = Url::parse(&base).and_then(|base| base.join(path));
    url.map_err(|_| AuthError::denied("the URL of a service is not valid"))
}
