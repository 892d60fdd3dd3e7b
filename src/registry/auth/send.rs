//! Requests with one identity. This file adds credentials to requests, answers challenges, and applies the pull quota.
//! The layer below repeats failed requests ([`crate::registry::http::send`]).

use http::{HeaderValue, StatusCode};
use tokio::time::Instant;

use super::authenticator::{Authenticator, Available};
use super::error::AuthError;
use super::grant::Grant;
use super::request::RegistryRequest;
use crate::fair_queue::Tenant;
use crate::registry::http::context::Context;
use crate::registry::http::denial::DeniedIdentity;
use crate::registry::http::error::TransportError;
use crate::registry::http::exchange::{AnswerListener, Authorization};
use crate::registry::http::request::HttpRequest;
use crate::registry::http::response::{Response, ResponseHead};
use crate::registry::http::retry::{Failure, Operation};
use crate::registry::http::send::{Attempt, SendOnce};
use crate::registry::limits::concurrency::Permit;
use crate::registry::limits::pull_quota::{AnswerHead, AttemptEnd, ProbeGuard, QuotaError, Reads};
use crate::store::{ErrorKind, StoreError};

/// Maximum number of times that the credentials of a request are obtained again because they expired during the wait
/// for the permit. After that, the request is sent with the credentials that were obtained last.
const MAX_TRIES: usize = 2;

/// Request with one identity while the request is being sent.
struct AuthenticatedRequest<'a> {
    authenticator: &'a Authenticator,
    context: &'a Context,
    request: RegistryRequest,
    /// True if the client has already answered a challenge to this request.
    was_challenged: bool,
    /// Guard that makes other counted reads wait while this request determines the pull quota. The guard is dropped
    /// after the attempt, unless its answer is a challenge.
    probe: Option<ProbeGuard<'a>>,
}

/// Listener to the registry's answers to one request, which records them for the password and the pull quota.
pub(super) struct Listener<'a> {
    pub(super) authenticator: &'a Authenticator,
    /// Effect of the request on the pull quota.
    pub(super) reads: Reads,
}

impl AnswerListener for Listener<'_> {
    fn record_answer(&self, authorization: Option<&HeaderValue>, head: &ResponseHead) -> bool {
        if let Some(header) = authorization {
            self.authenticator.record_answer(header, head.status);
        }
        // The wait for a new pull quota delays only counted reads.
        let ResponseHead { status, headers, retry_after, .. } = head;
        self.authenticator.quota.refuses(self.reads, AnswerHead { status: *status, headers, retry_after: *retry_after })
    }
}

impl Authenticator {
    /// Sends a request, and repeats it until an answer is final. A final answer is a success or a refusal, with any
    /// status.
    ///
    /// # Errors
    /// Returns an error if no usable answer is received, or if no token is obtained for the request.
    pub(crate) async fn send(&self, context: &Context, request: RegistryRequest) -> Result<Response, StoreError> {
        let probe = self.probe_quota(context, &request).await;
        let mut request = AuthenticatedRequest { authenticator: self, context, request, was_challenged: false, probe };
        self.sender.send(context, &mut request).await
    }

    /// Sends a request without credentials, once.
    ///
    /// # Errors
    /// Returns an error if no usable answer is received.
    pub(crate) async fn send_anonymously(
        &self,
        tenant: Tenant,
        mut request: RegistryRequest,
    ) -> Result<Response, TransportError> {
        let permit = self.sender.acquire_permit(tenant, &request.http).await;
        let authorization = Authorization::anonymous(&self.sender.base);
        self.sender.attempt(&mut request.http, authorization, (tenant, permit)).await
    }

    /// Adds the identity of the request to an answer that denies the request. Stores the registry's text, if the answer
    /// refuses a password.
    fn with_denied_identity(&self, answer: Response, used: Option<&Grant>) -> Response {
        if !matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
            || !self.sender.is_own(&answer.url)
        {
            return answer;
        }
        if let Some(used) = used {
            self.record_refusal_text(used.header(), answer.detail());
        }
        let denied = match (used, self.source.describe_identity()) {
            (Some(_), Some(name)) => {
                let check = self.source.describe_check();
                Some(DeniedIdentity::Named { name, check, is_proven: self.is_proven() })
            }
            (_, None) => Some(DeniedIdentity::Anonymous),
            // The credentials could not be sent with this request.
            (None, Some(_)) => None,
        };
        Response { denied, ..answer }
    }

    /// Returns true if an answer is a 401 of the registry itself.
    pub(super) fn is_challenge(&self, answer: &Response) -> bool {
        answer.status == StatusCode::UNAUTHORIZED && self.sender.is_own(&answer.url)
    }

    /// Determines the number of remaining reads, if it must be known before a counted read. One request determines the
    /// number, and the other counted reads wait:
    ///
    /// * At Docker Hub, or if the registry has reported a quota before, the client sends a HEAD, which is not counted.
    /// * At other registries, the counted read itself shows if there is a quota. The returned guard is held until that
    ///   read is answered.
    async fn probe_quota(&self, context: &Context, request: &RegistryRequest) -> Option<ProbeGuard<'_>> {
        let probe = self.quota.start_probe(request.reads).await?;
        if !self.quota.counts() {
            return Some(probe);
        }
        // If the HEAD fails, the read fails too, and the read's error has more details.
        let _ = Box::pin(self.send(context, request.to_head())).await;
        None
    }

    /// Waits until a request may be sent. Returns its permit and its credentials.
    async fn acquire_permit(
        &self,
        tenant: Tenant,
        request: &RegistryRequest,
    ) -> Result<(Permit, Option<Grant>), AuthError> {
        let mut tries = 0;
        loop {
            tries += 1;
            // The token is requested before the permit is acquired. A token request may take long, and a permit that is
            // held during this time would block other identities and uploads.
            let knew_scheme = self.knows_scheme();
            let prepared = self.prepare_credentials(request).await?;
            let permit = self.sender.acquire_permit(tenant, &request.http).await;
            // During the wait, the registry may have requested a pause or required credentials for the first time, and
            // the token may have expired. After [`MAX_TRIES`], the new token is used even if its lifetime is so short
            // that it has already expired.
            let grant = match self.available_authorization(request, knew_scheme) {
                Available::Grant(grant) => grant,
                Available::Nothing if tries > MAX_TRIES => prepared,
                Available::AsPrepared => prepared,
                Available::Nothing => continue,
            };
            if !self.sender.limiter.is_paused() {
                return Ok((permit, grant));
            }
        }
    }

    /// Obtains the credentials of a request. A request to a mirror has a short time limit for its token.
    async fn prepare_credentials(&self, request: &RegistryRequest) -> Result<Option<Grant>, AuthError> {
        let authorization = self.authorize(request);
        if request.http.operation != Operation::MirrorManifest {
            return authorization.await;
        }
        let limit = self.sender.retry_policy.exchange_limit(request.http.operation);
        let late = |_| {
            let detail = format!("no token within {}", humantime::format_duration(limit));
            Err(AuthError { kind: ErrorKind::Unavailable, detail })
        };
        tokio::time::timeout(limit, authorization).await.unwrap_or_else(late)
    }
}

impl SendOnce for AuthenticatedRequest<'_> {
    fn request(&self) -> &HttpRequest {
        &self.request.http
    }

    /// Sends the request. Sends it again with credentials after a challenge, or after a refusal without credentials.
    async fn send_once(&mut self) -> Result<Attempt, StoreError> {
        let (authenticator, context) = (self.authenticator, self.context);
        // The token requests have already been repeated, so the error is final.
        let denied = |error: AuthError| context.error(error.kind, error.detail).mark_given_up();
        let over_quota = |error: QuotaError| context.error(error.kind, error.detail);
        loop {
            authenticator.sender.refuse_if_paused(context, &self.request.http)?;
            let mut read = authenticator.quota.start_attempt(self.request.reads).await.map_err(over_quota)?;
            authenticator.sender.wait_for_bandwidth(context.tenant, self.request.http.bytes_in_memory()).await;
            let (permit, grant) = authenticator.acquire_permit(context.tenant, &self.request).await.map_err(denied)?;
            let number = permit.number();
            read.mark_sent();
            let sent = Instant::now();
            let outcome = self.exchange(grant.as_ref(), permit).await;
            read.record_end(end_of_attempt(&outcome)).map_err(over_quota)?;
            if !outcome.as_ref().is_ok_and(|answer| authenticator.is_challenge(answer)) {
                self.probe = None;
            }
            let answer = match outcome {
                Ok(answer) => answer,
                Err(_) => return Ok(Attempt::Ended { outcome, permit: number, took: sent.elapsed() }),
            };
            if authenticator.needs_credentials(&self.request, grant.as_ref(), &answer).await {
                self.request.add_credentials_after_refusal();
            } else if !authenticator.is_challenge(&answer) {
                let answer = authenticator.with_denied_identity(answer, grant.as_ref());
                return Ok(Attempt::Ended { outcome: Ok(answer), permit: number, took: sent.elapsed() });
            } else if self.was_challenged
                || !authenticator
                    .handle_challenge(&self.request.scopes, grant.as_ref(), &answer)
                    .await
                    .map_err(denied)?
            {
                let answer = authenticator.with_denied_identity(answer, grant.as_ref());
                return Ok(Attempt::Final(answer));
            } else if !self.request.http.can_be_sent_again() {
                let detail =
                    "the registry rejected the token while the bytes were sent; the next attempt uses a new token";
                return Err(context.error(ErrorKind::Unavailable, detail));
            } else {
                self.was_challenged = true;
            }
        }
    }
}

impl AuthenticatedRequest<'_> {
    async fn exchange(&mut self, grant: Option<&Grant>, permit: Permit) -> Result<Response, TransportError> {
        let (authenticator, tenant) = (self.authenticator, self.context.tenant);
        let listener = Listener { authenticator, reads: self.request.reads };
        let sender = &authenticator.sender;
        let authorization =
            Authorization { header: grant.map(Grant::header), origin: &sender.base, listener: &listener };
        sender.attempt(&mut self.request.http, authorization, (tenant, permit)).await
    }
}

/// Returns the end of an attempt, for the pull quota.
fn end_of_attempt(outcome: &Result<Response, TransportError>) -> AttemptEnd<'_> {
    match outcome {
        Ok(Response { status, headers, retry_after, .. }) => {
            AttemptEnd::Answered(AnswerHead { status: *status, headers, retry_after: *retry_after })
        }
        Err(error) if error.failure() == Some(Failure::NotSent) => AttemptEnd::NotSent,
        Err(_) => AttemptEnd::Lost,
    }
}
