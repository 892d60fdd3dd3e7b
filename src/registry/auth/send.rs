//! Requests with one identity. This file adds credentials to requests, answers challenges, and applies the pull quota.
//! [`crate::registry::http::send`] repeats failed requests.

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

/// Maximum number of renewals of a request's credentials while the request waits for its permit. After that, the client
/// sends the request with the last credentials.
const MAX_TRIES: usize = 2;

/// Request that the client sends with one identity.
struct AuthenticatedRequest<'a> {
    authenticator: &'a Authenticator,
    context: &'a Context,
    request: RegistryRequest,
    /// True if the client has already answered a challenge to this request.
    was_challenged: bool,
    /// Guard during a request that determines the pull quota. Other counted reads wait until the client drops the
    /// guard. The client drops the guard after the attempt. If the answer is a challenge, the client keeps the guard
    /// for the next attempt.
    probe: Option<ProbeGuard<'a>>,
}

/// Listener that records each answer to a request, for the password and for the pull quota.
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
        let ResponseHead { status, headers, retry_after, .. } = head;
        self.authenticator.quota.refuses(self.reads, AnswerHead { status: *status, headers, retry_after: *retry_after })
    }
}

impl Authenticator {
    /// Sends a request, and repeats the request until the answer is final. A final answer is a success or a refusal,
    /// with any status.
    ///
    /// # Errors
    /// Returns an error if the client receives no usable answer, or obtains no token for the request.
    pub(crate) async fn send(&self, context: &Context, request: RegistryRequest) -> Result<Response, StoreError> {
        let probe = self.probe_quota(context, &request).await;
        let mut request = AuthenticatedRequest { authenticator: self, context, request, was_challenged: false, probe };
        self.sender.send(context, &mut request).await
    }

    /// Sends a request once, without credentials.
    ///
    /// # Errors
    /// Returns an error if the client receives no usable answer.
    pub(crate) async fn send_anonymously(
        &self,
        tenant: Tenant,
        mut request: RegistryRequest,
    ) -> Result<Response, TransportError> {
        let permit = self.sender.acquire_permit(tenant, &request.http).await;
        let authorization = Authorization::anonymous(&self.sender.base);
        self.sender.attempt(&mut request.http, authorization, (tenant, permit)).await
    }

    /// If the registry denied the request, adds the identity of the request to the answer. If the registry refused a
    /// password, stores the text of the refusal.
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
            // The client has credentials, but sent this request without them.
            (None, Some(_)) => None,
        };
        Response { denied, ..answer }
    }

    /// Returns true if the registry itself answered with 401. A 401 from another origin, after a redirect, does not
    /// count.
    pub(super) fn is_challenge(&self, answer: &Response) -> bool {
        answer.status == StatusCode::UNAUTHORIZED && self.sender.is_own(&answer.url)
    }

    /// Determines the remaining pull quota before a counted read, if the client needs this number. One request
    /// determines the quota, and the other counted reads wait:
    ///
    /// * If the client knows that the registry counts reads, the client sends a HEAD. The registry does not count a
    ///   HEAD.
    /// * Otherwise, the answer to the counted read shows whether the registry has a quota. The caller holds the
    ///   returned guard until this answer.
    async fn probe_quota(&self, context: &Context, request: &RegistryRequest) -> Option<ProbeGuard<'_>> {
        let probe = self.quota.start_probe(request.reads).await?;
        if !self.quota.counts() {
            return Some(probe);
        }
        // If the HEAD fails, the read probably fails too, and the error of the read has more details.
        let _ = Box::pin(self.send(context, request.to_head())).await;
        None
    }

    /// Waits for the permit and the credentials of a request. Returns both when the client can send the request at
    /// once.
    async fn acquire_permit(
        &self,
        tenant: Tenant,
        request: &RegistryRequest,
    ) -> Result<(Permit, Option<Grant>), AuthError> {
        let mut tries = 0;
        loop {
            tries += 1;
            // The client requests the token before the permit. A token request can take long, and a permit held during
            // this time would block other identities and uploads.
            let knew_scheme = self.knows_scheme();
            let prepared = self.prepare_credentials(request).await?;
            let permit = self.sender.acquire_permit(tenant, &request.http).await;
            // During the wait for the permit, the registry can have requested a pause or sent its first challenge, or
            // the token can have expired. After two renewals ([`MAX_TRIES`]), the client uses the new token even if
            // this token has already expired.
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

    /// Obtains the credentials of a request. For a request to a mirror, a short time limit applies.
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

    /// Sends the request. Repeats the request with credentials after a challenge, or after a refusal without
    /// credentials.
    async fn send_once(&mut self) -> Result<Attempt, StoreError> {
        let (authenticator, context) = (self.authenticator, self.context);
        // The client has already repeated the failed token request, so this error is final.
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

/// Returns how the attempt ended, in the terms of the pull quota.
fn end_of_attempt(outcome: &Result<Response, TransportError>) -> AttemptEnd<'_> {
    match outcome {
        Ok(Response { status, headers, retry_after, .. }) => {
            AttemptEnd::Answered(AnswerHead { status: *status, headers, retry_after: *retry_after })
        }
        Err(error) if error.failure() == Some(Failure::NotSent) => AttemptEnd::NotSent,
        Err(_) => AttemptEnd::Lost,
    }
}
