//! Retries of one request: it is sent until its answer is final, as often as the retry policy and the retry budget of
//! its item allow. Only the caller knows the meaning of the request.

use std::time::Duration;

use super::context::Context;
use super::error::TransportError;
use super::request::HttpRequest;
use super::response::Response;
use super::retry::{Attempts, Failure, Operation};
use super::retry_budget::Budget;
use super::sender::Sender;
use crate::store::{ErrorKind, StoreError};

/// Request with the parts that a higher layer adds to each attempt: credentials, and a read of a pull quota.
pub(crate) trait SendOnce: Send {
    /// Returns the request.
    fn request(&self) -> &HttpRequest;

    /// Sends the request until the higher layer has nothing to add to it.
    ///
    /// # Errors
    /// Returns an error that ends the request: no further attempt can succeed.
    fn send_once(&mut self) -> impl Future<Output = Result<Attempt, StoreError>> + Send;
}

/// Result of one attempt.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// The answer is final: the retry policy does not apply.
    Final(Response),
    /// The retry policy decides.
    Ended {
        outcome: Result<Response, TransportError>,
        /// Number of the attempt's permit.
        permit: u64,
        /// Time since the attempt was sent.
        took: Duration,
    },
}

impl Sender {
    /// Sends a request until a final answer arrives: success or refusal, of any status.
    ///
    /// # Errors
    /// Returns an error if no usable answer arrives, or if `once` returns an error.
    pub(crate) async fn send(&self, context: &Context, once: &mut impl SendOnce) -> Result<Response, StoreError> {
        let mut attempts = Attempts::new(once.request().operation, &self.retry_policy);
        loop {
            let (outcome, permit, took) = match once.send_once().await? {
                Attempt::Final(answer) => return Ok(answer),
                Attempt::Ended { outcome, permit, took } => (outcome, permit, took),
            };
            let (pause, error) = match outcome {
                Ok(answer) => match self.pause_after(context, &answer, permit, &mut attempts, took) {
                    Some(pause) => (pause, answer.refusal(context)),
                    None => match self.check_protocol(once.request(), &answer).await {
                        Some(trouble) => return Err(context.error(trouble.kind(), trouble.detail())),
                        None => return Ok(answer),
                    },
                },
                Err(trouble) => match trouble
                    .failure()
                    .and_then(|failure| pause_within(&context.budget, &mut attempts, failure, took))
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
    pub(crate) fn refuse_if_paused(&self, context: &Context, request: &HttpRequest) -> Result<(), StoreError> {
        match self.paused_for() {
            Some(wait) if request.operation == Operation::StandIn => {
                Err(context.error(ErrorKind::Busy(Some(wait)), "the registry has asked for a pause"))
            }
            _ => Ok(()),
        }
    }

    /// Returns the pause before this request is sent again; `None` if the answer is final.
    fn pause_after(
        &self,
        context: &Context,
        answer: &Response,
        permit: u64,
        attempts: &mut Attempts,
        took: Duration,
    ) -> Option<Duration> {
        let Some(failure) = answer.failure() else {
            self.limiter.answered(permit);
            context.budget.record_success();
            return None;
        };
        if failure == Failure::Throttled
            && let Some(limit) = self.limiter.throttled(permit)
        {
            tracing::debug!(registry = %self.host, limit, "the registry throttles: sending fewer requests at once");
        }
        let stated = answer.retry_after.unwrap_or_default();
        let pause = pause_within(&context.budget, attempts, failure, took)?;
        context.budget.record_stated_wait(stated);
        Some(pause + stated)
    }
}

/// Returns the pause before a request that failed after `took` is sent again; `None` if it is not sent again. Both the
/// attempts of this request and the retry budget of its item limit the repetitions.
fn pause_within(budget: &Budget, attempts: &mut Attempts, failure: Failure, took: Duration) -> Option<Duration> {
    let pause = budget.record_failure(failure, took).then(|| attempts.next_pause(failure))??;
    budget.record_pause(pause);
    Some(pause)
}
