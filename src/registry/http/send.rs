//! One request to one registry: its permit, pace, credentials, redirects, repetitions, and limits of time and size.
//! Only the caller knows the meaning of the request.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::LOCATION;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio::time::Instant;
use url::Url;

use super::body::Outgoing;
use super::error::{TransportError, broken_off, describe};
use super::redact::Secrets;
use super::redirect;
use super::response::{Body, CREDENTIALS, Context, MAX_REFUSAL, Response};
use super::retry::{self, Attempts, Failure, Operation};
use super::retry_budget::Budget;
use super::wrong_port;
use crate::registry::auth::authenticator::{AtHand, AuthError, Grant};
use crate::registry::auth::scope::Scopes;
use crate::registry::limits::concurrency::{Permit, RequestClass};
use crate::registry::limits::pace::Class;
use crate::registry::limits::pull_quota::Reads;
use crate::registry::{Registry, Tenant};
use crate::store::{ErrorKind, StoreError};

/// Most redirects that one request follows.
const MAX_REDIRECTS: usize = 10;

/// Most attempts to obtain a request's credentials. After those, the request is sent with the credentials that were
/// prepared last.
const MOST_TRIES: usize = 2;

/// Largest answer that is not a blob, in bytes.
pub(crate) const SMALL: usize = 64 * 1024;

/// A request to be sent.
#[derive(Debug)]
pub(crate) struct RegistryRequest {
    pub(crate) kind: Operation,
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Payload,
    pub(crate) scopes: Scopes,
    pub(crate) expects: Expects,
    /// True if the request uses the referrers API.
    pub(crate) lists_referrers: bool,
    /// True if a redirect to another kind of address, which is a storage service's, counts as the answer.
    pub(crate) stops_at_store: bool,
    /// Effect of the request on a pull quota.
    pub(crate) reads: Reads,
    /// True if credentials are sent although the registry has not requested them.
    pub(crate) as_somebody: bool,
    /// True if the registry refused the request without credentials.
    pub(crate) was_refused: bool,
}

/// Body of a request.
#[derive(Debug)]
pub(crate) enum Payload {
    Empty,
    /// Body in memory, which can be sent again.
    Bytes(Bytes),
    /// Streamed body, which can be sent once.
    Stream(Outgoing),
}

/// Expected body of the answer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Expects {
    /// Body of at most this many bytes, read completely.
    Small(usize),
    /// Blob, read by the caller.
    Blob(RequestClass),
}

impl RegistryRequest {
    /// Returns a request without a body that expects a small answer.
    pub(crate) fn new(kind: Operation, method: Method, url: Url, scopes: Scopes) -> Self {
        let (headers, payload, expects) = (HeaderMap::new(), Payload::Empty, Expects::Small(SMALL));
        let (lists_referrers, stops_at_store, reads) = (false, false, Reads::Nothing);
        let (as_somebody, was_refused) = (false, false);
        Self {
            kind,
            method,
            url,
            headers,
            payload,
            scopes,
            expects,
            lists_referrers,
            stops_at_store,
            reads,
            as_somebody,
            was_refused,
        }
    }

    /// Returns a GET or HEAD request.
    pub(crate) fn read(method: Method, url: Url, scopes: Scopes) -> Self {
        Self::new(Operation::Read, method, url, scopes)
    }

    pub(crate) fn header(mut self, name: http::HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    pub(crate) fn payload(mut self, payload: Payload) -> Self {
        self.payload = payload;
        self
    }

    pub(crate) fn expects(mut self, expects: Expects) -> Self {
        self.expects = expects;
        self
    }

    /// Marks the request as one to the referrers API.
    pub(crate) fn listing_referrers(self) -> Self {
        Self { lists_referrers: true, ..self }
    }

    /// Makes a redirect the answer, unless it leads to the same content at a registry. A storage service's signed URL
    /// may be valid for GET only.
    pub(crate) fn stopping_at_store(self) -> Self {
        Self { stops_at_store: true, ..self }
    }

    /// Sends credentials with the request, whether or not the registry has requested them.
    pub(crate) fn with_credentials(self) -> Self {
        Self { as_somebody: true, ..self }
    }

    /// Returns the same request with credentials, after it was refused without.
    fn with_credentials_after_refusal(self) -> Self {
        Self { as_somebody: true, was_refused: true, ..self }
    }

    pub(crate) fn reads(mut self, reads: Reads) -> Self {
        self.reads = reads;
        self
    }

    /// Returns a HEAD of the resource that this GET reads, with the same retry policy.
    pub(crate) fn as_head(&self) -> Self {
        let (url, scopes) = (self.url.clone(), self.scopes.clone());
        Self::new(self.kind, Method::HEAD, url, scopes).headers(self.headers.clone()).reads(Reads::Free)
    }

    fn headers(mut self, headers: HeaderMap) -> Self {
        self.headers = headers;
        self
    }

    fn door(&self) -> RequestClass {
        match (self.expects, self.kind) {
            (Expects::Blob(door), _) => door,
            (Expects::Small(_), Operation::Chunk | Operation::Commit | Operation::Streamed) => RequestClass::Continued,
            (Expects::Small(_), _) => RequestClass::Common,
        }
    }

    pub(crate) fn can_be_sent_again(&self) -> bool {
        !matches!(self.payload, Payload::Stream(_))
    }

    /// Returns the number of bytes in memory that the request sends.
    fn bytes_held(&self) -> usize {
        match &self.payload {
            Payload::Bytes(bytes) => bytes.len(),
            Payload::Empty | Payload::Stream(_) => 0,
        }
    }
}

impl Registry {
    /// Sends a request until a final answer arrives: success or refusal, of any status.
    ///
    /// # Errors
    /// Returns an error if no usable answer arrives, or if the request gets no token.
    pub(crate) async fn send(&self, context: &Context, mut call: RegistryRequest) -> Result<Response, StoreError> {
        let mut attempts = Attempts::new(call.kind, &self.tempo);
        let mut renewed = false;
        let mut alone = self.find_out_quota(context, &call).await;
        loop {
            self.refuse_if_paused(context, &call)?;
            let mut attempt = self.attempt_within_quota(context, &call).await?;
            self.meter.throttled(self.pace.spend(context.tenant, call.bytes_held()).await);
            // The token requests have been repeated already.
            let denied = |error: AuthError| context.error(error.kind, error.detail).mark_given_up();
            let (permit, grant) = self.acquire_permit(context.tenant, &call).await.map_err(denied)?;
            let number = permit.number();
            attempt.mark_sent();
            let sent = Instant::now();
            let outcome =
                self.attempt(&mut call, &self.base, grant.as_ref().map(Grant::header), (context.tenant, permit)).await;
            attempt.record_outcome(context, &outcome)?;
            // The guard is held while a challenge is answered.
            alone = alone.filter(|_| outcome.as_ref().is_ok_and(|answer| self.is_challenge(answer)));
            if let Ok(answer) = &outcome
                && self.needs_credentials(&call, grant.as_ref(), answer).await
            {
                call = call.with_credentials_after_refusal();
                continue;
            }
            let (pause, error) = match outcome {
                Ok(answer) if self.is_challenge(&answer) => {
                    let again = !renewed
                        && self.handle_challenge(&call.scopes, grant.as_ref(), &answer).await.map_err(denied)?;
                    if !again {
                        return Ok(answer);
                    }
                    if !call.can_be_sent_again() {
                        let detail =
                            "the registry rejected the token while the bytes were sent; a new one will be used";
                        return Err(context.error(ErrorKind::Unavailable, detail));
                    }
                    renewed = true;
                    continue;
                }
                Ok(answer) => match self.pause_after(context, &answer, number, &mut attempts, sent.elapsed()) {
                    Some(pause) => (pause, answer.refusal(context)),
                    None => match self.check_protocol(&call, &answer).await {
                        Some(trouble) => return Err(context.error(trouble.kind(), trouble.detail())),
                        None => return Ok(answer),
                    },
                },
                Err(trouble) => match trouble
                    .failure()
                    .and_then(|failure| pause_within(&context.budget, &mut attempts, failure, sent.elapsed()))
                {
                    Some(pause) => (pause, context.error(trouble.kind(), trouble.detail())),
                    None => return Err(context.error(trouble.kind(), trouble.detail())),
                },
            };
            self.meter.repeated();
            tracing::debug!(%error, pause = ?pause, "repeating a request");
            tokio::time::sleep(pause).await;
        }
    }

    /// Returns an error if the request goes to a mirror that asked for a pause: other mirrors can serve it.
    fn refuse_if_paused(&self, context: &Context, call: &RegistryRequest) -> Result<(), StoreError> {
        match self.gate.paused_for() {
            Some(wait) if call.kind == Operation::StandIn => {
                Err(context.error(ErrorKind::Busy(Some(wait)), "the registry has asked for a pause"))
            }
            _ => Ok(()),
        }
    }

    /// Waits until a request may be sent. Returns its permit and its credentials.
    async fn acquire_permit(
        &self,
        tenant: Tenant,
        call: &RegistryRequest,
    ) -> Result<(Permit, Option<Grant>), AuthError> {
        let class = Class::from_kind(call.kind, call.lists_referrers);
        let mut tries = 0;
        loop {
            tries += 1;
            // The token is fetched before the permit is acquired. A token request may take long, and a permit held
            // meanwhile would block other identities and uploads.
            let knew_scheme = self.auth.knows_scheme();
            let prepared = self.prepare_credentials(call).await?;
            let (permit, waited) = self.gate.enter(tenant, call.door(), class).await;
            self.meter.throttled(waited);
            // During the wait three things may have happened: the registry asked for a pause, it requested credentials
            // for the first time, or a token expired. A token that expires immediately is still good for this request.
            let grant = match self.available_authorization(call, knew_scheme) {
                AtHand::Grant(grant) => grant,
                AtHand::Nothing if tries > MOST_TRIES => prepared,
                AtHand::AsPrepared => prepared,
                AtHand::Nothing => continue,
            };
            if !self.gate.is_paused() {
                return Ok((permit, grant));
            }
        }
    }

    /// Ensures that a request's credentials are available. The token of a mirror's request has a short time limit.
    async fn prepare_credentials(&self, call: &RegistryRequest) -> Result<Option<Grant>, AuthError> {
        let authorization = self.authorization(call);
        if call.kind != Operation::StandIn {
            return authorization.await;
        }
        let limit = self.tempo.exchange_limit(call.kind);
        let late = |_| {
            let detail = format!("no token within {}", humantime::format_duration(limit));
            Err(AuthError { kind: ErrorKind::Unavailable, detail })
        };
        tokio::time::timeout(limit, authorization).await.unwrap_or_else(late)
    }

    fn is_challenge(&self, answer: &Response) -> bool {
        answer.status == StatusCode::UNAUTHORIZED && redirect::same_origin(&answer.url, &self.base)
    }

    /// Returns the pause before this request is sent again; `None` if the answer is final.
    fn pause_after(
        &self,
        context: &Context,
        answer: &Response,
        number: u64,
        attempts: &mut Attempts,
        took: Duration,
    ) -> Option<Duration> {
        let Some(failure) = retry::failure_of(answer.status, &answer.headers) else {
            self.gate.answered(number);
            context.budget.record_success();
            return None;
        };
        if failure == Failure::Throttled
            && let Some(limit) = self.gate.throttled(number)
        {
            tracing::debug!(registry = %self.host(), limit, "the registry throttles: sending fewer requests at once");
        }
        let asked = retry::retry_after(&answer.headers, chrono::Utc::now());
        let (pause, asked) = (pause_within(&context.budget, attempts, failure, took)?, asked.unwrap_or_default());
        context.budget.record_stated_wait(asked);
        Some(pause + asked)
    }

    /// Applies the answer's `Retry-After` to every other request of the registry, before the body is read.
    fn apply_retry_after(&self, response: &reqwest::Response) {
        let throttled = retry::failure_of(response.status(), response.headers()) == Some(Failure::Throttled);
        if let Some(asked) = retry::retry_after(response.headers(), chrono::Utc::now()).filter(|_| throttled) {
            self.gate.pause(asked);
        }
    }

    /// Performs one exchange, redirects included, and reads the body of its answer. Credentials are sent only to the
    /// origin of `home`. The exchange starts at once, because the caller has waited for the pace.
    pub(crate) async fn attempt(
        &self,
        call: &mut RegistryRequest,
        home: &Url,
        credentials: Option<&HeaderValue>,
        (tenant, permit): (Tenant, Permit),
    ) -> Result<Response, TransportError> {
        let held = call.bytes_held();
        let answer = match (&call.payload, call.expects) {
            (Payload::Stream(outgoing), _) => {
                let watch = outgoing.watch();
                watch.start_request();
                let sent = async { self.read_whole(self.exchange(call, home, credentials).await?, SMALL).await };
                tokio::select! {
                    answer = sent => answer?,
                    stalled = watch.stalled(self.tempo.idle, self.tempo.commit) => {
                        return Err(TransportError::Broken(stalled));
                    }
                }
            }
            (_, Expects::Small(most)) => {
                // A large body gets additional time, at 16 KiB/s.
                let limit = self.tempo.exchange_limit(call.kind) + Duration::from_secs(held as u64 / 16_384);
                let whole = async { self.read_whole(self.exchange(call, home, credentials).await?, most).await };
                complete_within(limit, whole).await?
            }
            (_, Expects::Blob(_)) => {
                let begins = self.tempo.header.unwrap_or(self.tempo.idle);
                let response = complete_within(begins, self.exchange(call, home, credentials)).await?;
                if response.status().is_success() {
                    return Ok(streamed_answer(response, permit));
                }
                complete_within(self.tempo.idle, self.read_whole(response, MAX_REFUSAL)).await?
            }
        };
        self.meter.sent(held);
        let body = answer.bytes();
        self.meter.throttled(self.pace.spend(tenant, body.len()).await);
        if let Some(trouble) = wrong_port::error_from_response(answer.status, &body, &answer.url) {
            return Err(trouble);
        }
        let refused = answer.status.is_client_error() || answer.status.is_server_error();
        let secrets = || Secrets::default().with_header(credentials).with_query(&call.url).with_query(&answer.url);
        let body = if refused { secrets().redact(body) } else { body };
        let elsewhere = !redirect::same_origin(&answer.url, home);
        Ok(Response { body: Body::Whole(body), elsewhere, ..answer })
    }

    pub(crate) async fn exchange(
        &self,
        call: &mut RegistryRequest,
        home: &Url,
        credentials: Option<&HeaderValue>,
    ) -> Result<reqwest::Response, TransportError> {
        let mut url = call.url.clone();
        let mut credentials = credentials;
        for _ in 0..=MAX_REDIRECTS {
            if !redirect::same_origin(&url, home) {
                // Credentials stay off for good. A request that has left the origin does not send them when a redirect
                // leads back either.
                credentials = None;
            }
            let http = self.client_for(call.kind, &url).await?;
            let sent = http.execute(request(call, url.clone(), credentials)?).await;
            self.meter.answered(&call.method, sent.as_ref().ok().map(reqwest::Response::status));
            let mut response = sent.map_err(|error| describe(&error, &url, &self.approach(&url)))?;
            self.has_answered.store(true, Ordering::Relaxed);
            if let Some(shown) = credentials.filter(|_| redirect::same_origin(&url, &self.base)) {
                self.auth.record_answer(shown, response.status());
            }
            let is_spent = self.auth.quota.refuses(call.reads, response.status(), response.headers());
            if redirect::same_origin(&url, &self.base) && !is_spent {
                self.apply_retry_after(&response);
            }
            if redirect::same_origin(&url, &self.base) {
                redirect::add_prefix(&self.base, response.headers_mut());
            }
            let Some(location) = redirect_location(&response) else { return Ok(response) };
            if call.stops_at_store
                && !redirect::resolve_location(&url, &location).is_ok_and(|next| is_same_content(&call.url, &next))
            {
                return Ok(response);
            }
            let kept = matches!(response.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
            let reads = matches!(call.method, Method::GET | Method::HEAD);
            // A token request with a body contains the login, which goes to no other host.
            let follows = reads || (kept && call.can_be_sent_again() && call.kind != Operation::Token);
            if !follows {
                let detail = format!("a redirect ({}) that cannot be followed with {}", response.status(), call.method);
                let to_tls = redirect::resolve_location(&url, &location)
                    .is_ok_and(|next| url.scheme() == "http" && next.scheme() == "https");
                let hint = if to_tls { "; it leads to HTTPS: leave `plain_http` out" } else { "" };
                return Err(TransportError::Unusable(detail + hint));
            }
            url = redirect::resolve_location(&url, &location)
                .map_err(|astray| TransportError::Unusable(format!("a redirect: {astray}")))?;
        }
        Err(TransportError::Unusable(format!("more than {MAX_REDIRECTS} redirects")))
    }

    /// Reads a body to its end; of a refusal, only the beginning.
    pub(crate) async fn read_whole(
        &self,
        mut response: reqwest::Response,
        most: usize,
    ) -> Result<Response, TransportError> {
        let (status, headers, url) = (response.status(), response.headers().clone(), response.url().clone());
        let most = if status.is_success() { most } else { MAX_REFUSAL };
        let mut body = BytesMut::new();
        while let Some(piece) = response.chunk().await.map_err(|error| broken_off(&error, &url))? {
            self.meter.received(piece.len());
            if body.len() + piece.len() > most {
                if status.is_success() {
                    return Err(TransportError::Unusable(format!("the answer is larger than {most} bytes")));
                }
                break;
            }
            body.extend_from_slice(&piece);
        }
        Ok(Response { status, headers, url, elsewhere: false, body: Body::Whole(body.freeze()) })
    }
}

/// Returns the pause before a request that failed after `took` is sent again; `None` if it is not sent again. The
/// budgets of this request and of its item are both limited.
fn pause_within(budget: &Budget, attempts: &mut Attempts, failure: Failure, took: Duration) -> Option<Duration> {
    let pause = budget.record_failure(failure, took).then(|| attempts.next_pause(failure))??;
    budget.record_pause(pause);
    Some(pause)
}

async fn complete_within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, TransportError>>,
) -> Result<T, TransportError> {
    let late =
        |_| Err(TransportError::Broken(format!("no complete answer within {}", humantime::format_duration(limit))));
    tokio::time::timeout(limit, work).await.unwrap_or_else(late)
}

fn streamed_answer(response: reqwest::Response, permit: Permit) -> Response {
    let (status, headers, url) = (response.status(), response.headers().clone(), response.url().clone());
    Response { status, headers, url, elsewhere: false, body: Body::Flowing(response, permit) }
}

fn request(
    call: &mut RegistryRequest,
    url: Url,
    credentials: Option<&HeaderValue>,
) -> Result<reqwest::Request, TransportError> {
    let mut request = reqwest::Request::new(call.method.clone(), url);
    request.headers_mut().clone_from(&call.headers);
    if let Some(credentials) = credentials {
        request.headers_mut().insert(CREDENTIALS, credentials.clone());
    }
    match &mut call.payload {
        Payload::Empty => {}
        Payload::Bytes(bytes) => *request.body_mut() = Some(bytes.clone().into()),
        Payload::Stream(outgoing) => {
            let body = outgoing
                .take()
                .ok_or_else(|| TransportError::Unusable("the bytes have been sent already".to_owned()))?;
            *request.body_mut() = Some(body);
        }
    }
    Ok(request)
}

/// Returns true if two URLs end in the same two path segments, such as `/blobs/sha256:…`.
fn is_same_content(own: &Url, other: &Url) -> bool {
    let tail = |url: &Url| url.path().rsplitn(3, '/').take(2).map(str::to_owned).collect::<Vec<_>>();
    tail(own) == tail(other)
}

fn redirect_location(response: &reqwest::Response) -> Option<String> {
    let redirects = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let location = response.headers().get(LOCATION).filter(|_| redirects)?;
    Some(String::from_utf8_lossy(location.as_bytes()).into_owned())
}
