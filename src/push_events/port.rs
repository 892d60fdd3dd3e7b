//! Routes of `POST /hooks/NAME`. The handler authenticates a request, matches its pushes with the sources of the
//! entries, and requests runs of these entries from the daemon. The response does not wait for a run.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::post;
use secrecy::ExposeSecret as _;
use tokio::sync::watch;

use super::Push;
use super::authentication::proof;
use super::payload::{self, PushEvents};
use super::push::Pushed;
use crate::config::{Config, Receiver};
use crate::listen::OncePerMinute;
use crate::status::{Metrics, PushEventResult};

/// Maximum size of a body in bytes.
const MAX_BODY: usize = 1 << 20;

/// Recipient of run requests.
#[async_trait]
pub trait Deliver: Send + Sync {
    /// Requests a run of an entry for these pushes. Does not wait for the run.
    ///
    /// # Errors
    /// [`Undelivered`] if the run will not take place.
    async fn run(&self, entry: &str, pushes: &[&Push]) -> Result<(), Undelivered>;
}

/// Reason why a requested run will not take place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undelivered {
    /// The daemon is shutting down and starts no more runs. The sender can send the event again to the next daemon.
    #[error("the daemon is shutting down")]
    Ending,
    /// The daemon refuses a run of this entry, for this reason.
    #[error("{0}")]
    Refused(String),
}

/// Port for push events.
#[derive(Clone)]
pub struct Port {
    config: watch::Receiver<Arc<Config>>,
    metrics: Arc<Metrics>,
    deliver: Arc<dyn Deliver>,
    /// Rate limit for log messages about unauthenticated requests.
    unauthenticated_log: Arc<OncePerMinute>,
    /// Rate limit for log messages about unusable secrets.
    secret_log: Arc<OncePerMinute>,
    /// Rate limit for log messages about pushes without a registry.
    registry_log: Arc<OncePerMinute>,
}

/// Body of a response to an accepted event.
#[derive(Debug, serde::Serialize)]
struct Answer {
    /// Entries that read from the pushed repositories.
    entries: Vec<String>,
}

impl std::fmt::Debug for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Port")
    }
}

impl Port {
    /// Returns a port that uses the receivers and entries in `config` at the time of each request.
    #[must_use]
    pub fn new(config: watch::Receiver<Arc<Config>>, metrics: Arc<Metrics>, deliver: Arc<dyn Deliver>) -> Self {
        // The counters must exist before the first request, which may arrive before the daemon's loop has started.
        metrics.push_events().follow(config.borrow().receivers().map(|(name, _)| name.as_str()));
        Self {
            config,
            metrics,
            deliver,
            unauthenticated_log: Arc::default(),
            secret_log: Arc::default(),
            registry_log: Arc::default(),
        }
    }

    /// Returns the routes of the port.
    pub fn router(self) -> Router {
        Router::new()
            .route("/hooks/{name}", post(receive_event))
            .method_not_allowed_fallback(|| async { refusal(StatusCode::METHOD_NOT_ALLOWED, "send events with POST") })
            .fallback(|| async { refusal(StatusCode::NOT_FOUND, "not found: this port serves only /hooks/NAME") })
            .with_state(self)
    }

    /// Authenticates the request and returns the pushes in it.
    async fn authenticate_and_parse(
        &self,
        name: &str,
        receiver: &Receiver,
        request: Request,
    ) -> Result<PushEvents, Response> {
        let (head, body) = request.into_parts();
        let secret = receiver.secret_now().await.map_err(|problem| {
            if self.secret_log.is_due() {
                tracing::error!(
                    receiver = name,
                    problem,
                    "the secret of a receiver cannot be used; this message is logged at most once a minute"
                );
            }
            refusal(StatusCode::INTERNAL_SERVER_ERROR, "the secret of this receiver cannot be used: see the log")
        })?;
        let secret = secret.expose_secret();
        let Some(proof) = proof(receiver.kind, secret, &head.headers, head.uri.query()) else {
            return Err(self.refuse_unauthenticated(name));
        };
        let body = read_body(&head.headers, body).await?;
        if !proof.is_valid(secret, &body) {
            return Err(self.refuse_unauthenticated(name));
        }
        let event = head.headers.get("x-github-event").and_then(|event| event.to_str().ok());
        let is_form = |kind: &header::HeaderValue| kind.as_bytes().starts_with(b"application/x-www-form-urlencoded");
        if head.headers.get(header::CONTENT_TYPE).is_some_and(is_form) && !body.starts_with(b"{") {
            self.count(name, PushEventResult::Unreadable, 1);
            let message = "the body is a form: set the sender's content type to application/json";
            return Err(refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
        payload::read(receiver, event, &body).map_err(|error| {
            self.count(name, PushEventResult::Unreadable, 1);
            tracing::warn!(receiver = name, %error, "cannot parse an event");
            refusal(StatusCode::BAD_REQUEST, &error.to_string())
        })
    }

    /// Returns the response to an unauthenticated request, which gives no reason. Logs such requests at most once a
    /// minute.
    fn refuse_unauthenticated(&self, name: &str) -> Response {
        self.count(name, PushEventResult::Unauthorized, 1);
        if self.unauthenticated_log.is_due() {
            tracing::warn!(
                receiver = name,
                "refused an unauthenticated request; further ones within a minute are not logged"
            );
        }
        refusal(StatusCode::UNAUTHORIZED, "authentication failed")
    }

    /// Requests a run of each entry that reads from a pushed repository. Returns the names of these entries.
    async fn deliver(&self, name: &str, config: &Config, events: &PushEvents) -> Result<Vec<String>, Undelivered> {
        let (mut entries, mut matched) = (Vec::new(), HashSet::new());
        let pushed = Pushed::new(&events.pushes);
        for entry in &config.entries {
            let pushes = pushed.matching(&entry.source, &entry.repositories);
            if pushes.is_empty() {
                continue;
            }
            matched.extend(pushes.iter().copied());
            match self.deliver.run(entry.name.as_str(), &pushes).await {
                Ok(()) => entries.push(entry.name.to_string()),
                Err(Undelivered::Ending) => return Err(Undelivered::Ending),
                Err(Undelivered::Refused(reason)) => {
                    tracing::info!(
                        receiver = name,
                        entry = %entry.name,
                        reason,
                        "an entry that reads from the pushed repository is not run"
                    );
                }
            }
        }
        self.count(name, PushEventResult::Matched, matched.len());
        self.count(name, PushEventResult::Unmatched, events.pushes.len() - matched.len());
        self.count(name, PushEventResult::Ignored, events.ignored);
        if events.without_registry > 0 && self.registry_log.is_due() {
            tracing::warn!(
                receiver = name,
                pushes = events.without_registry,
                "ignored pushes that name no registry: set `registry` at this receiver; \
                 this message is logged at most once a minute"
            );
        }
        Ok(entries)
    }

    fn count(&self, receiver: &str, result: PushEventResult, count: usize) {
        self.metrics.push_events().count(receiver, result, count);
    }
}

async fn receive_event(State(port): State<Port>, Path(name): Path<String>, request: Request) -> Response {
    let config = port.config.borrow().clone();
    let Some((name, receiver)) = config.receivers().find(|(receiver, _)| receiver.as_str() == name) else {
        return refusal(StatusCode::NOT_FOUND, "there is no receiver of this name");
    };
    let name = name.as_str();
    let events = match port.authenticate_and_parse(name, receiver, request).await {
        Ok(events) => events,
        Err(refusal) => return refusal,
    };
    match port.deliver(name, &config, &events).await {
        Ok(entries) if entries.is_empty() => {
            tracing::debug!(
                receiver = name,
                pushes = events.pushes.len(),
                ignored = events.ignored,
                "no entry reads from the pushed repositories"
            );
            Json(Answer { entries }).into_response()
        }
        Ok(entries) => {
            let (first, pushes) = (events.pushes.first().map(format_push), events.pushes.len());
            tracing::info!(receiver = name, pushes, first, entries = entries.join(", "), "pushed");
            (StatusCode::ACCEPTED, Json(Answer { entries })).into_response()
        }
        Err(_) => {
            let mut answer =
                refusal(StatusCode::SERVICE_UNAVAILABLE, "the daemon is shutting down: send the event again");
            answer.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("10"));
            answer
        }
    }
}

fn format_push(push: &Push) -> String {
    format!("{}/{}:{}", push.registry, push.repository, push.tag)
}

/// Reads the body, up to its maximum size.
async fn read_body(headers: &HeaderMap, body: Body) -> Result<axum::body::Bytes, Response> {
    let too_large = || refusal(StatusCode::PAYLOAD_TOO_LARGE, "an event may have at most 1 MiB");
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|length| length > MAX_BODY) {
        return Err(too_large());
    }
    // The body is too long, or the client interrupted it. In the second case, no client reads the response.
    to_bytes(body, MAX_BODY).await.map_err(|_| too_large())
}

fn refusal(status: StatusCode, message: &str) -> Response {
    (status, format!("{message}\n")).into_response()
}
