//! `POST /hooks/NAME`: who sends proves itself, what was pushed is matched with the sources of entries, and the daemon is asked
//! for runs. The answer waits for no run.

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
use super::payload::{self, Told};
use super::push::Pushed;
use crate::config::{Config, Receiver};
use crate::listen::Seldom;
use crate::status::{HookResult, Metrics};

/// The largest body, in bytes.
const BODY_AT_MOST: usize = 1 << 20;

/// Takes runs that are asked for.
#[async_trait]
pub trait Deliver: Send + Sync {
    /// Asks for a run of an entry for what was pushed. Does not wait for it.
    ///
    /// # Errors
    /// Why there will be none.
    async fn run(&self, entry: &str, pushes: &[&Push]) -> Result<(), Undelivered>;
}

/// Why there will be no run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undelivered {
    /// The daemon begins nothing any more; the next one may.
    #[error("the daemon is ending")]
    Ending,
    /// Nothing for this entry, for this reason.
    #[error("{0}")]
    Refused(String),
}

/// The port for push events.
#[derive(Clone)]
pub struct Port {
    config: watch::Receiver<Arc<Config>>,
    metrics: Arc<Metrics>,
    deliver: Arc<dyn Deliver>,
    unproven: Arc<Seldom>,
    unusable: Arc<Seldom>,
    nameless: Arc<Seldom>,
}

/// What is answered.
#[derive(Debug, serde::Serialize)]
struct Answer {
    /// The entries that read from where was pushed.
    entries: Vec<String>,
}

impl std::fmt::Debug for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Port")
    }
}

impl Port {
    /// A port with the receivers and entries that `config` holds at the time of a request.
    #[must_use]
    pub fn new(config: watch::Receiver<Arc<Config>>, metrics: Arc<Metrics>, deliver: Arc<dyn Deliver>) -> Self {
        // From the first request on, which may come before the loop has taken up its work.
        metrics.hook_events().follow(config.borrow().receivers().map(|(name, _)| name.as_str()));
        Self { config, metrics, deliver, unproven: Arc::default(), unusable: Arc::default(), nameless: Arc::default() }
    }

    /// Its routes.
    pub fn router(self) -> Router {
        Router::new()
            .route("/hooks/{name}", post(hook))
            .method_not_allowed_fallback(|| async {
                refusal(StatusCode::METHOD_NOT_ALLOWED, "events are sent by POST")
            })
            .fallback(|| async { refusal(StatusCode::NOT_FOUND, "there is nothing but /hooks/NAME") })
            .with_state(self)
    }

    /// What the request tells of, once it has proven itself.
    async fn take(&self, name: &str, receiver: &Receiver, request: Request) -> Result<Told, Response> {
        let (head, body) = request.into_parts();
        let secret = receiver.secret_now().await.map_err(|problem| {
            if self.unusable.now() {
                tracing::error!(
                    receiver = name,
                    problem,
                    "the secret of a receiver cannot be used; it is said once a minute"
                );
            }
            refusal(StatusCode::INTERNAL_SERVER_ERROR, "the secret of this receiver cannot be used: see the log")
        })?;
        let secret = secret.expose_secret();
        let Some(proof) = proof(receiver.kind, secret, &head.headers, head.uri.query()) else {
            return Err(self.not_proven(name));
        };
        let body = whole(&head.headers, body).await?;
        if !proof.holds(secret, &body) {
            return Err(self.not_proven(name));
        }
        let event = head.headers.get("x-github-event").and_then(|event| event.to_str().ok());
        let is_form = |kind: &header::HeaderValue| kind.as_bytes().starts_with(b"application/x-www-form-urlencoded");
        if head.headers.get(header::CONTENT_TYPE).is_some_and(is_form) && !body.starts_with(b"{") {
            self.count(name, HookResult::Unreadable, 1);
            let message = "this is a form: choose the content type application/json at the sender";
            return Err(refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
        payload::read(receiver, event, &body).map_err(|error| {
            self.count(name, HookResult::Unreadable, 1);
            tracing::warn!(receiver = name, %error, "an event was not understood");
            refusal(StatusCode::BAD_REQUEST, &error.to_string())
        })
    }

    /// Does not say why. Once a minute it is in the log.
    fn not_proven(&self, name: &str) -> Response {
        self.count(name, HookResult::Unauthorized, 1);
        if self.unproven.now() {
            tracing::warn!(
                receiver = name,
                "a request that did not prove itself was refused; more within a minute are not told"
            );
        }
        refusal(StatusCode::UNAUTHORIZED, "who sends must prove itself")
    }

    /// Asks for a run of each entry that reads from where was pushed; their names.
    async fn deliver(&self, name: &str, config: &Config, told: &Told) -> Result<Vec<String>, Undelivered> {
        let (mut entries, mut matched) = (Vec::new(), HashSet::new());
        let pushed = Pushed::of(&told.pushes);
        for entry in &config.entries {
            let pushes = pushed.at(&entry.source);
            if pushes.is_empty() {
                continue;
            }
            matched.extend(pushes.iter().copied());
            match self.deliver.run(entry.name.as_str(), &pushes).await {
                Ok(()) => entries.push(entry.name.to_string()),
                Err(Undelivered::Ending) => return Err(Undelivered::Ending),
                Err(Undelivered::Refused(reason)) => {
                    tracing::info!(receiver = name, entry = %entry.name, reason, "pushed, and not run");
                }
            }
        }
        self.count(name, HookResult::Matched, matched.len());
        self.count(name, HookResult::Unmatched, told.pushes.len() - matched.len());
        self.count(name, HookResult::Ignored, told.ignored);
        if told.without_registry > 0 && self.nameless.now() {
            tracing::warn!(
                receiver = name,
                pushes = told.without_registry,
                "pushes that do not tell their registry are ignored: write `registry` at this receiver; it is said once a minute"
            );
        }
        Ok(entries)
    }

    fn count(&self, receiver: &str, result: HookResult, count: usize) {
        self.metrics.hook_events().count(receiver, result, count);
    }
}

async fn hook(State(port): State<Port>, Path(name): Path<String>, request: Request) -> Response {
    let config = port.config.borrow().clone();
    let Some((name, receiver)) = config.receivers().find(|(known, _)| known.as_str() == name) else {
        return refusal(StatusCode::NOT_FOUND, "there is no receiver of this name");
    };
    let name = name.as_str();
    let told = match port.take(name, receiver, request).await {
        Ok(told) => told,
        Err(refusal) => return refusal,
    };
    match port.deliver(name, &config, &told).await {
        Ok(entries) if entries.is_empty() => {
            tracing::debug!(
                receiver = name,
                pushes = told.pushes.len(),
                ignored = told.ignored,
                "no entry reads from there"
            );
            Json(Answer { entries }).into_response()
        }
        Ok(entries) => {
            let (first, pushes) = (told.pushes.first().map(shown), told.pushes.len());
            tracing::info!(receiver = name, pushes, first, entries = entries.join(", "), "pushed");
            (StatusCode::ACCEPTED, Json(Answer { entries })).into_response()
        }
        Err(_) => {
            let mut answer = refusal(StatusCode::SERVICE_UNAVAILABLE, "the daemon is ending: send it again");
            answer.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("10"));
            answer
        }
    }
}

fn shown(push: &Push) -> String {
    format!("{}/{}:{}", push.registry, push.repository, push.tag)
}

async fn whole(headers: &HeaderMap, body: Body) -> Result<axum::body::Bytes, Response> {
    let too_large = || refusal(StatusCode::PAYLOAD_TOO_LARGE, "an event has 1 MiB at most");
    let stated = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if stated.is_some_and(|length| length > BODY_AT_MOST) {
        return Err(too_large());
    }
    // Without a stated length, breaking off is as much a client's fault as being too long.
    to_bytes(body, BODY_AT_MOST).await.map_err(|_| too_large())
}

fn refusal(status: StatusCode, message: &str) -> Response {
    (status, format!("{message}\n")).into_response()
}
