//! Routing of one request: its object, its authorisation, and the handler that answers it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use axum::response::Response;

use super::faults::{Fault, Harm, NTH};
use super::log::InProgress;
use super::wire::Wire;
use super::{Shared, answer, auth, blobs, lists, manifests, quirks, transmit, uploads};

/// Object that a path names (distribution-spec, "Endpoints").
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Object {
    Ping,
    Token,
    /// A path under `/oauth2/`, which belongs to a cloud.
    Cloud(String),
    Catalog,
    Tags(String),
    /// Azure Container Registry's own list of tags.
    AcrTags(String),
    Manifest(String, String),
    Blob(String, String),
    /// An upload. The name of the session is empty in the request that opens it.
    Upload(String, String),
    Referrers(String, String),
    Unknown,
}

/// Request without its body.
#[derive(Debug)]
pub(super) struct ReceivedRequest {
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) query: Vec<(String, String)>,
    /// Path and query.
    pub(super) address: String,
    pub(super) wire: Wire,
    pub(super) progress: InProgress,
}

impl ReceivedRequest {
    /// Returns a parameter of the query.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Answers any request to the registry.
pub(super) async fn handle(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(wire): ConnectInfo<Wire>,
    request: axum::extract::Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let object = read_path(parts.uri.path());
    let request = receive_request(&shared, &object, &parts, wire);
    let entry = request.progress.entry.clone();
    let harm = shared.faults.harm();
    let wire = request.wire.clone();
    let response = match harm {
        None => answer(&shared, object, request, body).await,
        Some(harm) => answer_with_harm(&shared, harm, object, request, body).await,
    };
    shared.faults.hold_answer(entry.kind(), parts.uri.path()).await;
    if matches!(harm, Some(Harm::Reset | Harm::Unanswered)) {
        wire.break_off();
    }
    entry.answered(response.status().as_u16());
    response
}

/// Answers a request that suffers harm.
async fn answer_with_harm(
    shared: &Arc<Shared>,
    harm: Harm,
    object: Object,
    request: ReceivedRequest,
    body: Body,
) -> Response {
    if harm == Harm::Held {
        shared.faults.hold(NTH).await;
    }
    if matches!(harm, Harm::Unanswered | Harm::CutAnswer | Harm::Held | Harm::HeldAnswer) {
        let response = answer(shared, object, request, body).await;
        if harm == Harm::HeldAnswer {
            shared.faults.hold(NTH).await;
        }
        return if harm == Harm::CutAnswer { cut(response).await } else { response };
    }
    // Read the body first: if a connection closes with unread bytes, the client may lose the response.
    drop(axum::body::to_bytes(body, usize::MAX).await);
    match harm {
        Harm::Status(status) => answer::error(status, "UNKNOWN", "a fault of the test"),
        Harm::Page => answer::with(200, &[("content-type", "text/html".into())], "<html>hello</html>"),
        _ => answer::empty(200, &[]),
    }
}

/// Returns the first half of a response, with the length of the whole in its header.
async fn cut(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let whole = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    if whole.is_empty() {
        return Response::from_parts(parts, Body::empty());
    }
    parts.headers.insert(axum::http::header::CONTENT_LENGTH, whole.len().into());
    let half = whole.slice(..whole.len() / 2);
    let pieces = [Ok(half), Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset))];
    Response::from_parts(parts, Body::from_stream(futures_util::stream::iter(pieces)))
}

fn receive_request(shared: &Shared, object: &Object, parts: &Parts, wire: Wire) -> ReceivedRequest {
    let query = url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes());
    let query: Vec<_> = query.into_owned().collect();
    let is_mount = parts.method == Method::POST && query.iter().any(|(key, _)| key == "mount");
    let noun = if is_mount { "mount" } else { object.noun() };
    let progress = shared.log.begin(noun, &parts.method, parts.uri.path(), &parts.headers);
    let address = parts.uri.to_string();
    ReceivedRequest { method: parts.method.clone(), headers: parts.headers.clone(), query, address, wire, progress }
}

async fn answer(shared: &Arc<Shared>, object: Object, request: ReceivedRequest, body: Body) -> Response {
    if let Some(delay) = shared.faults.delay() {
        tokio::time::sleep(delay).await;
    }
    shared.faults.hold(request.progress.entry.kind()).await;
    let mut body = body;
    let kind = request.progress.entry.kind();
    if let Some(response) = quirks::answers(shared, kind, &request.address) {
        drop(axum::body::to_bytes(body, usize::MAX).await);
        return transmit::counted(response, request.progress);
    }
    if quirks::echoes(shared, kind).is_some() {
        let mut sent = request.address.clone();
        if object == Object::Token {
            let form = axum::body::to_bytes(std::mem::take(&mut body), 64 * 1024).await.unwrap_or_default();
            sent = format!("{sent}?{}", String::from_utf8_lossy(&form));
        }
        let response = quirks::echo(shared, kind, &request.headers, &sent).expect("the fault is set");
        return transmit::counted(response, request.progress);
    }
    if object == Object::Token {
        return transmit::counted(auth::token(shared, &request, body).await, request.progress);
    }
    if let Object::Cloud(path) = &object {
        return transmit::counted(auth::answer_cloud_path(shared, path, body).await, request.progress);
    }
    let room = || shared.room.enter(shared.setup.buckets.as_ref()?, &request.method);
    if let Some(response) = rate_limit_refusal(shared).or_else(room) {
        // Read the body first, as nginx does: if a connection closes with unread bytes, the client may lose the
        // response.
        drop(axum::body::to_bytes(body, usize::MAX).await);
        return transmit::counted(response, request.progress);
    }
    if let Some(response) = auth::refuse(shared, &object, &request) {
        return transmit::counted(response, request.progress);
    }
    if let Some(response) = quirks::refuse(shared, &object, &request) {
        return transmit::counted(response, request.progress);
    }
    match object {
        Object::Blob(repository, digest) => blobs::answer(shared, &repository, &digest, request),
        Object::Manifest(repository, reference) => {
            manifests::answer(shared, &repository, &reference, request, body).await
        }
        Object::Upload(repository, session) => uploads::answer(shared, &repository, &session, request, body).await,
        other => {
            let response = match other {
                Object::Ping => answer::json(&serde_json::json!({})),
                Object::Catalog => lists::catalog(shared, &request),
                Object::Tags(repository) => lists::tags(shared, &repository, &request),
                Object::AcrTags(repository) => lists::acr_tags(shared, &repository, &request),
                Object::Referrers(repository, subject) => lists::referrers(shared, &repository, &subject, &request),
                _ => answer::error(404, "UNSUPPORTED", "there is nothing under this path"),
            };
            transmit::counted(response, request.progress)
        }
    }
}

fn rate_limit_refusal(shared: &Shared) -> Option<Response> {
    let (status, retry_after) = shared.faults.rate_limit_refusal()?;
    let mut response = match status {
        429 if shared.faults.has(&Fault::PlainTextRefusals) => {
            answer::with(429, &[("content-type", "text/plain".into())], "You have reached your pull rate limit\n")
        }
        429 => answer::error(429, "TOOMANYREQUESTS", "slow down"),
        status => answer::with(status, &[("content-type", "text/html".into())], "<html><h1>Unavailable</h1></html>"),
    };
    if let Some(seconds) = retry_after {
        answer::add(response.headers_mut(), &[("retry-after", seconds.to_string())]);
    }
    Some(response)
}

impl Object {
    fn noun(&self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Token => "token",
            Self::Cloud(_) => "cloud",
            Self::Catalog => "catalog",
            Self::Tags(_) => "tags",
            Self::AcrTags(_) => "acr-tags",
            Self::Manifest(..) => "manifest",
            Self::Blob(..) => "blob",
            Self::Upload(..) => "upload",
            Self::Referrers(..) => "referrers",
            Self::Unknown => "unknown",
        }
    }

    /// Returns the repository that the path names.
    pub(super) fn repository(&self) -> Option<&str> {
        match self {
            Self::Tags(name)
            | Self::AcrTags(name)
            | Self::Manifest(name, _)
            | Self::Blob(name, _)
            | Self::Upload(name, _) => Some(name),
            Self::Referrers(name, _) => Some(name),
            _ => None,
        }
    }
}

fn read_path(path: &str) -> Object {
    if path == "/token" {
        return Object::Token;
    }
    if path.starts_with("/oauth2/") {
        return Object::Cloud(path.to_owned());
    }
    if let Some(name) = path.strip_prefix("/acr/v1/").and_then(|rest| rest.strip_suffix("/_tags")) {
        return Object::AcrTags(name.to_owned());
    }
    let Some(rest) = path.strip_prefix("/v2/") else {
        return if path == "/v2" { Object::Ping } else { Object::Unknown };
    };
    if rest.is_empty() {
        return Object::Ping;
    }
    if rest == "_catalog" {
        return Object::Catalog;
    }
    if let Some(name) = rest.strip_suffix("/tags/list") {
        return Object::Tags(name.to_owned());
    }
    let split = |middle: &str| rest.rsplit_once(middle).map(|(name, last)| (name.to_owned(), last.to_owned()));
    // Check uploads first: their paths contain `/blobs/` too.
    if let Some((name, session)) = split("/blobs/uploads/").or_else(|| split("/blobs/uploads")) {
        Object::Upload(name, session)
    } else if let Some((name, digest)) = split("/blobs/") {
        Object::Blob(name, digest)
    } else if let Some((name, reference)) = split("/manifests/") {
        Object::Manifest(name, reference)
    } else if let Some((name, subject)) = split("/referrers/") {
        Object::Referrers(name, subject)
    } else {
        Object::Unknown
    }
}
