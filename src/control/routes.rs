//! Routes of the control socket, one for each action. A route parses the request, passes the request to the handler,
//! and encodes the handler's response.

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{DefaultBodyLimit, Extension, FromRequest as _, FromRequestParts as _, Path, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response as HttpResponse};
use axum::routing::{get, post};
use axum::{Router, extract};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use serde::de::DeserializeOwned;

use super::message::{Action, EntryList, EntryResult, Reply, Request, encode_line};
use crate::listen::Slot;

/// Maximum size of a request's body in bytes.
pub(super) const MAX_BODY: usize = 64 << 10;

/// Content type of a single reply.
const JSON: &str = "application/json";
/// Content type of several replies, each on a separate line.
const JSON_LINES: &str = "application/x-ndjson";

/// Function that executes a request.
pub(super) type Handler = Arc<dyn Fn(Request) -> BoxFuture<'static, Response> + Send + Sync>;
/// Function that returns the names of all entries, in the order of the configuration.
pub(super) type EntryNames = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// Response of the handler to a parsed request.
pub struct Response {
    status: StatusCode,
    result: EntryResult,
    /// Future of the second result. `None` if the response has only one result.
    end: Option<BoxFuture<'static, EntryResult>>,
}

impl Response {
    /// Creates a response with one result.
    #[must_use]
    pub fn new(status: StatusCode, result: EntryResult) -> Self {
        Self { status, result, end: None }
    }

    /// Adds a second result. When the future `end` completes, the server sends this result. If the client disconnects,
    /// the server drops `end`.
    #[must_use]
    pub fn then(self, end: impl Future<Output = EntryResult> + Send + 'static) -> Self {
        Self { end: Some(end.boxed()), ..self }
    }
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Response").field("status", &self.status).field("result", &self.result).finish_non_exhaustive()
    }
}

/// Client of a connection, and the connection's slot.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// User id of the client's process.
    pub(super) uid: u32,
    /// Process id of the client.
    pub(super) pid: Option<i32>,
    /// Slot of the connection.
    pub(super) slot: Arc<Slot>,
}

/// Reason why the server refuses a request without calling the handler.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    /// The head is not HTTP.
    #[error("cannot parse the request: {0}")]
    Head(hyper::Error),
    /// The name of the entry is not percent-encoded UTF-8.
    #[error("cannot parse the request: {0}")]
    Entry(PathRejection),
    /// The URL has a query, which no route reads.
    #[error("the request has a query: send options as JSON in the body")]
    Query,
    /// The body is not the JSON that the route expects.
    #[error("cannot parse the request: {0}")]
    Options(serde_json::Error),
    /// The body could not be read.
    #[error("cannot parse the request: {}", .0.body_text())]
    Body(BytesRejection),
    /// The body is longer than [`MAX_BODY`].
    #[error("the request's body is longer than {MAX_BODY} bytes")]
    TooLong,
    /// The body did not arrive in time.
    #[error("the request's body is incomplete after {}", humantime::format_duration(*.0))]
    Late(Duration),
    /// No route has this path.
    #[error(
        "there is no route {0}: the routes are /entries, /entries/ENTRY/trigger, /entries/ENTRY/pause and \
         /entries/ENTRY/resume"
    )]
    UnknownRoute(String),
    /// The route does not accept the method of the request.
    #[error("the route /entries accepts only GET, and the other routes of the control socket accept only POST")]
    WrongMethod,
    /// Too many other clients wait for responses.
    #[error("too many clients wait for responses: try again later")]
    Crowded,
}

impl RequestError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Head(_) | Self::Entry(_) | Self::Query | Self::Options(_) | Self::Body(_) => StatusCode::BAD_REQUEST,
            Self::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Late(_) => StatusCode::REQUEST_TIMEOUT,
            Self::UnknownRoute(_) => StatusCode::NOT_FOUND,
            Self::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::Crowded => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl Caller {
    /// Logs that the server refuses a request of this client.
    pub(super) fn log_refusal(&self, error: &RequestError) {
        let Self { uid, pid, slot: _ } = self;
        match error {
            RequestError::Crowded => {
                tracing::warn!(uid, pid, "refused a request at the control socket: too many clients wait for responses")
            }
            error => tracing::warn!(uid, pid, %error, "refused a request at the control socket"),
        }
    }

    /// Logs and returns the refusal of a request.
    fn refuse(&self, error: &RequestError) -> HttpResponse {
        self.log_refusal(error);
        let reply = encode_line(&Reply::Refused { error: error.to_string() });
        (error.status(), [(header::CONTENT_TYPE, JSON)], reply).into_response()
    }
}

/// Executor of parsed requests.
#[derive(Clone)]
struct Executor {
    handler: Handler,
    entry_names: EntryNames,
    /// Time limit for a client to send the body of its request.
    body_within: Duration,
}

/// Returns the routes. Each request must have a [`Caller`] as an extension.
pub(super) fn router(handler: Handler, entry_names: EntryNames, body_within: Duration) -> Router {
    Router::new()
        .route("/entries", get(list_entries))
        .route("/entries/{entry}/trigger", post(trigger))
        .route("/entries/{entry}/pause", post(pause))
        .route("/entries/{entry}/resume", post(resume))
        .method_not_allowed_fallback(refuse_method)
        .fallback(refuse_path)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Executor { handler, entry_names, body_within })
}

async fn list_entries(State(executor): State<Executor>) -> HttpResponse {
    let reply = encode_line(&EntryList { entries: (executor.entry_names)() });
    ([(header::CONTENT_TYPE, JSON)], reply).into_response()
}

async fn trigger(
    State(executor): State<Executor>,
    caller: Extension<Caller>,
    request: extract::Request,
) -> HttpResponse {
    executor.respond(&caller, request, Action::Trigger).await
}

async fn pause(State(executor): State<Executor>, caller: Extension<Caller>, request: extract::Request) -> HttpResponse {
    executor.respond(&caller, request, Action::Pause).await
}

async fn resume(
    State(executor): State<Executor>,
    caller: Extension<Caller>,
    request: extract::Request,
) -> HttpResponse {
    executor.respond(&caller, request, Action::Resume).await
}

async fn refuse_method(caller: Extension<Caller>) -> HttpResponse {
    caller.refuse(&RequestError::WrongMethod)
}

async fn refuse_path(caller: Extension<Caller>, uri: Uri) -> HttpResponse {
    caller.refuse(&RequestError::UnknownRoute(uri.path().to_owned()))
}

impl Executor {
    /// Parses and executes a request with options of the type `O`, and returns the response.
    async fn respond<O: DeserializeOwned + Default>(
        &self,
        caller: &Caller,
        request: extract::Request,
        action: fn(O) -> Action,
    ) -> HttpResponse {
        let (entry, action) = match parse(request, self.body_within).await {
            Ok((entry, options)) => (entry, action(options)),
            Err(error) => return caller.refuse(&error),
        };
        if !caller.slot.try_start_answer() {
            return caller.refuse(&RequestError::Crowded);
        }
        let Caller { uid, pid, slot: _ } = caller;
        tracing::info!(uid, pid, entry, "{} requested at the control socket", action.word());
        let response = (self.handler)(Request { entry: entry.clone(), action }).await;
        encode(entry, response)
    }
}

/// Returns the name of the entry and the options. An absent body means default options.
async fn parse<O: DeserializeOwned + Default>(
    request: extract::Request,
    body_within: Duration,
) -> Result<(String, O), RequestError> {
    let (mut parts, body) = request.into_parts();
    let Path(entry) = Path::<String>::from_request_parts(&mut parts, &()).await.map_err(RequestError::Entry)?;
    if parts.uri.query().is_some() {
        return Err(RequestError::Query);
    }
    let read = Bytes::from_request(extract::Request::from_parts(parts, body), &());
    let body = match tokio::time::timeout(body_within, read).await {
        Ok(Ok(body)) => body,
        Ok(Err(error)) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => return Err(RequestError::TooLong),
        Ok(Err(error)) => return Err(RequestError::Body(error)),
        Err(_) => return Err(RequestError::Late(body_within)),
    };
    if body.is_empty() {
        return Ok((entry, O::default()));
    }
    Ok((entry, serde_json::from_slice(&body).map_err(RequestError::Options)?))
}

/// Encodes a response as HTTP: one or two lines of JSON. The server sends the second line when the second result is
/// available.
fn encode(entry: String, Response { status, result, end }: Response) -> HttpResponse {
    let first = encode_line(&Reply::Entry { entry: entry.clone(), result });
    let Some(end) = end else { return (status, [(header::CONTENT_TYPE, JSON)], first).into_response() };
    let second = end.map(move |result| encode_line(&Reply::Entry { entry, result }));
    let lines = stream::once(ready(first)).chain(stream::once(second)).map(Ok::<_, Infallible>);
    (status, [(header::CONTENT_TYPE, JSON_LINES)], Body::from_stream(lines)).into_response()
}
