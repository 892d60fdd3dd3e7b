//! One attempt to send a request, with redirects, time limits, and the body of the answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use http::header::LOCATION;
use http::{HeaderValue, Method, StatusCode};
use url::Url;

use super::blob_body::BlobBody;
use super::error::{TransportError, describe, describe_interruption};
use super::redact::Secrets;
use super::redirect;
use super::request::{Expects, HttpRequest, Payload, SMALL};
use super::response::{Body, MAX_REFUSAL, Response, ResponseHead};
use super::retry::{Failure, Operation};
use super::sender::Sender;
use super::wrong_port;
use crate::fair_queue::Tenant;
use crate::registry::limits::concurrency::Permit;

/// Maximum number of redirects that the client follows for one request.
const MAX_REDIRECTS: usize = 10;

/// Credentials of one attempt, and the listener for the registry's answers.
#[derive(Clone, Copy)]
pub(crate) struct Authorization<'a> {
    /// Value of the header `Authorization`; `None` for an anonymous request.
    pub(crate) header: Option<&'a HeaderValue>,
    /// URL of the only origin that receives the header.
    pub(crate) origin: &'a Url,
    /// Listener for the registry's own answers.
    pub(crate) listener: &'a dyn AnswerListener,
}

/// Listener for answers. A higher layer implements the listener. The sender calls the listener for each answer of the
/// registry itself, including redirects. The call comes before the sender reads the body. The sender does not report
/// answers of other hosts.
pub(crate) trait AnswerListener: Sync {
    /// Records an answer to a request with this `Authorization`. Returns true if the answer's `Retry-After` must not
    /// pause all requests to the registry.
    fn record_answer(&self, authorization: Option<&HeaderValue>, head: &ResponseHead) -> bool;
}

/// Listener that records nothing.
struct NoListener;

impl AnswerListener for NoListener {
    fn record_answer(&self, _: Option<&HeaderValue>, _: &ResponseHead) -> bool {
        false
    }
}

impl<'a> Authorization<'a> {
    /// Returns the authorization of an anonymous request to this origin.
    pub(crate) fn anonymous(origin: &'a Url) -> Self {
        Self { header: None, origin, listener: &NoListener }
    }
}

impl Sender {
    /// Sends the request once, follows redirects, and reads the body of the answer. If the body is a blob, the caller
    /// reads the body. Before this call, the caller has acquired the permit.
    pub(crate) async fn attempt(
        self: &Arc<Self>,
        request: &mut HttpRequest,
        authorization: Authorization<'_>,
        (tenant, permit): (Tenant, Permit),
    ) -> Result<Response, TransportError> {
        let sent_bytes = request.bytes_in_memory();
        let answer = match (&request.payload, request.expects) {
            (Payload::Stream(outgoing), _) => {
                let watch = outgoing.watch();
                watch.start_request();
                let exchange = self.exchange_whole(request, authorization, SMALL);
                tokio::select! {
                    answer = exchange => answer?,
                    stalled = watch.stalled(self.retry_policy.idle, self.retry_policy.commit) => {
                        return Err(TransportError::Broken(stalled));
                    }
                }
            }
            (_, Expects::Small(max_bytes)) => {
                // A request with a large body has additional time: one second for each 16 KiB.
                let extra = Duration::from_secs(sent_bytes as u64 / 16_384);
                let limit = self.retry_policy.exchange_limit(request.operation) + extra;
                complete_within(limit, self.exchange_whole(request, authorization, max_bytes)).await?
            }
            (_, Expects::Blob(_)) => {
                let limit = self.retry_policy.header.unwrap_or(self.retry_policy.idle);
                let (head, response) = complete_within(limit, self.exchange(request, authorization)).await?;
                if head.status.is_success() {
                    let body = BlobBody::new(Arc::clone(self), response, tenant, permit);
                    return Ok(head.with_body(Body::Streamed(body)));
                }
                complete_within(self.retry_policy.idle, self.read_whole(head, response, MAX_REFUSAL)).await?
            }
        };
        self.meter.sent(sent_bytes);
        let body = answer.bytes();
        self.wait_for_bandwidth(tenant, body.len()).await;
        if let Some(error) = wrong_port::error_from_response(answer.status, &body, &answer.url) {
            return Err(error);
        }
        let refused = answer.status.is_client_error() || answer.status.is_server_error();
        let secrets =
            || Secrets::default().with_header(authorization.header).with_query(&request.url).with_query(&answer.url);
        let body = if refused { secrets().redact(body) } else { body };
        let elsewhere = !redirect::same_origin(&answer.url, authorization.origin);
        Ok(Response { body: Body::Whole(body), elsewhere, ..answer })
    }

    /// Sends the request once, follows redirects, and reads the whole body of the answer.
    pub(super) async fn exchange_whole(
        &self,
        request: &mut HttpRequest,
        authorization: Authorization<'_>,
        max_bytes: usize,
    ) -> Result<Response, TransportError> {
        let (head, response) = self.exchange(request, authorization).await?;
        self.read_whole(head, response, max_bytes).await
    }

    /// Sends the request once, and follows redirects. Does not read the body of the answer.
    async fn exchange(
        &self,
        request: &mut HttpRequest,
        authorization: Authorization<'_>,
    ) -> Result<(ResponseHead, reqwest::Response), TransportError> {
        let mut url = request.url.clone();
        let mut header = authorization.header;
        for _ in 0..=MAX_REDIRECTS {
            if !redirect::same_origin(&url, authorization.origin) {
                // After a redirect to another origin, the client never sends the credentials again, even if a later
                // redirect leads back to the first origin.
                header = None;
            }
            let http = self.client_for(request.operation, &url).await?;
            let sent = http.execute(request.build(url.clone(), header)?).await;
            self.meter.answered(&request.method, sent.as_ref().ok().map(reqwest::Response::status));
            let response = sent.map_err(|error| describe(&error, &url, &self.approach(&url)))?;
            self.has_answered.store(true, Ordering::Relaxed);
            let mut head = ResponseHead::from_reqwest(&response);
            if self.is_own(&url) {
                if !authorization.listener.record_answer(header, &head) {
                    self.apply_retry_after(&head);
                }
                redirect::add_prefix(&self.base, &mut head.headers);
            }
            let Some(location) = redirect_location(&head) else { return Ok((head, response)) };
            if request.stops_at_store
                && !redirect::resolve_location(&url, &location).is_ok_and(|next| is_same_content(&request.url, &next))
            {
                return Ok((head, response));
            }
            if !follows(request, head.status) {
                let detail =
                    format!("a redirect ({}) cannot be followed for a {} request", head.status, request.method);
                let to_tls = redirect::resolve_location(&url, &location)
                    .is_ok_and(|next| url.scheme() == "http" && next.scheme() == "https");
                let hint = if to_tls { "; the redirect leads to HTTPS: remove `plain_http`" } else { "" };
                return Err(TransportError::Unusable(detail + hint));
            }
            url = redirect::resolve_location(&url, &location)
                .map_err(|error| TransportError::Unusable(format!("a redirect cannot be followed: {error}")))?;
        }
        Err(TransportError::Unusable(format!("more than {MAX_REDIRECTS} redirects")))
    }

    /// If the answer asks the client to slow down, pauses all requests to the registry for the time in `Retry-After`.
    fn apply_retry_after(&self, head: &ResponseHead) {
        if let Some(wait) = head.retry_after.filter(|_| head.failure() == Some(Failure::Throttled)) {
            self.limiter.pause(wait);
        }
    }

    /// Reads the body of an answer. Reads only about [`MAX_REFUSAL`] bytes of a refusal. Returns an error if a success
    /// has more than `max_bytes` bytes.
    async fn read_whole(
        &self,
        head: ResponseHead,
        mut response: reqwest::Response,
        max_bytes: usize,
    ) -> Result<Response, TransportError> {
        let is_success = head.status.is_success();
        let max_bytes = if is_success { max_bytes } else { MAX_REFUSAL };
        let mut body = BytesMut::new();
        while let Some(piece) = response.chunk().await.map_err(|error| describe_interruption(&error, &head.url))? {
            self.meter.received(piece.len());
            if body.len() + piece.len() > max_bytes {
                if is_success {
                    return Err(TransportError::Unusable(format!("the answer is larger than {max_bytes} bytes")));
                }
                break;
            }
            body.extend_from_slice(&piece);
        }
        Ok(head.with_body(Body::Whole(body.freeze())))
    }
}

async fn complete_within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, TransportError>>,
) -> Result<T, TransportError> {
    let late =
        |_| Err(TransportError::Broken(format!("no complete answer within {}", humantime::format_duration(limit))));
    tokio::time::timeout(limit, work).await.unwrap_or_else(late)
}

/// Returns true if the client may follow a redirect with this status. The client never sends the body of a token
/// request to another URL, because the body contains the login.
fn follows(request: &HttpRequest, status: StatusCode) -> bool {
    let keeps_method = matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
    let is_read = matches!(request.method, Method::GET | Method::HEAD);
    is_read || (keeps_method && request.can_be_sent_again() && request.operation != Operation::Token)
}

/// Returns true if two URLs end in the same two path segments, such as `/blobs/sha256:…`.
fn is_same_content(own: &Url, other: &Url) -> bool {
    let tail = |url: &Url| url.path().rsplitn(3, '/').take(2).map(str::to_owned).collect::<Vec<_>>();
    tail(own) == tail(other)
}

fn redirect_location(head: &ResponseHead) -> Option<String> {
    let redirects = matches!(head.status.as_u16(), 301 | 302 | 303 | 307 | 308);
    let location = head.headers.get(LOCATION).filter(|_| redirects)?;
    Some(String::from_utf8_lossy(location.as_bytes()).into_owned())
}
