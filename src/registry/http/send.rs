//! Retries of one request. The sender repeats the request until its answer is final, or until the retry policy or the
//! retry budget of the item allows no further attempt. The caller interprets the final answer.

use std::time::Duration;

use chrono::{SecondsFormat, TimeDelta, Utc};

use super::context::Context;
use super::error::TransportError;
use super::request::HttpRequest;
use super::response::Response;
use super::retry::{Attempts, Failure, Operation};
use super::retry_budget::Budget;
use super::sender::Sender;
use crate::store::{ErrorKind, StoreError};

/// Request of a higher layer. For each attempt, the higher layer adds the credentials and updates the pull quota.
pub(crate) trait SendOnce: Send {
    /// Returns the request.
    fn request(&self) -> &HttpRequest;

    /// Performs one attempt. The higher layer may send the request again within the attempt, for example to add
    /// credentials.
    ///
    /// # Errors
    /// Returns an error that ends the request: no further attempt can succeed.
    fn send_once(&mut self) -> impl Future<Output = Result<Attempt, StoreError>> + Send;
}

/// Result of one attempt.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// The answer is final, so the retry policy does not apply.
    Final(Response),
    /// The attempt has ended, and the retry policy decides if the request is repeated.
    Ended {
        outcome: Result<Response, TransportError>,
        /// Number of the attempt's permit.
        permit: u64,
        /// Time since the attempt was sent.
        took: Duration,
    },
}

impl Sender {
    /// Sends a request, and repeats it until an answer is final. A final answer is a success or a refusal, with any
    /// status.
    ///
    /// # Errors
    /// Returns an error if no usable answer is received, or if `once` returns an error.
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
                        Some(error) => return Err(context.error(error.kind(), error.detail())),
                        None => return Ok(answer),
                    },
                },
                Err(error) => match error
                    .failure()
                    .and_then(|failure| pause_within(&context.budget, &mut attempts, failure, took))
                {
                    Some(pause) => (pause, context.error(error.kind(), error.detail())),
                    None => return Err(context.error(error.kind(), error.detail())),
                },
            };
            self.meter.repeated();
            tracing::debug!(%error, pause = ?pause, "repeating a request");
            tokio::time::sleep(pause).await;
        }
    }

    /// Returns an error if the request is for a mirror that has requested a pause, because other mirrors can serve the
    /// request.
    pub(crate) fn refuse_if_paused(&self, context: &Context, request: &HttpRequest) -> Result<(), StoreError> {
        match self.paused_for() {
            Some(wait) if request.operation == Operation::StandIn => {
                Err(context.error(ErrorKind::Busy(Some(wait)), "the registry has requested a pause"))
            }
            _ => Ok(()),
        }
    }

    /// Logs that requests wait because the registry limits their rate, at the first wait of a series.
    fn log_rate_limit(&self, pause: Duration) {
        if self.rate_limit_log.record(pause) {
            let until = TimeDelta::from_std(pause).ok().and_then(|pause| Utc::now().checked_add_signed(pause));
            let until = until.map(|until| until.to_rfc3339_opts(SecondsFormat::Secs, true));
            tracing::warn!(registry = %self.host, until, "rate limited: requests to the registry wait");
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
        if failure == Failure::Throttled {
            self.log_rate_limit(pause + stated);
        }
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
