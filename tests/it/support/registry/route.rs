//! One request from its path to its answer: what it asks for, whether it may, who answers.

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

/// What a path names (distribution-spec, "Endpoints").
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Object {
    Ping,
    Token,
    /// A path under `/oauth2/`, which is a cloud's own.
    Cloud(String),
    Catalog,
    Tags(String),
    /// Azure Container Registry's own list of tags.
    AcrTags(String),
    Manifest(String, String),
    Blob(String, String),
    /// An upload; the session's name is empty at its opening.
    Upload(String, String),
    Referrers(String, String),
    Unknown,
}

/// A request without its body.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) query: Vec<(String, String)>,
    /// Path and query.
    pub(super) address: String,
    pub(super) wire: Wire,
    pub(super) progress: InProgress,
}

impl Asked {
    /// A parameter of the query.
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
    let asked = asked(&shared, &object, &parts, wire);
    let entry = asked.progress.entry.clone();
    let harm = shared.faults.harm();
    let wire = asked.wire.clone();
    let response = match harm {
        None => answer(&shared, object, asked, body).await,
        Some(harm) => harmed(&shared, harm, object, asked, body).await,
    };
    shared.faults.hold_answer(entry.kind(), parts.uri.path()).await;
    if matches!(harm, Some(Harm::Reset | Harm::Unanswered)) {
        wire.break_off();
    }
    entry.answered(response.status().as_u16());
    response
}

/// Answers a request that comes to harm.
async fn harmed(shared: &Arc<Shared>, harm: Harm, object: Object, asked: Asked, body: Body) -> Response {
    if harm == Harm::Held {
        shared.faults.hold(NTH).await;
    }
    if matches!(harm, Harm::Unanswered | Harm::CutAnswer | Harm::Held | Harm::HeldAnswer) {
        let response = answer(shared, object, asked, body).await;
        if harm == Harm::HeldAnswer {
            shared.faults.hold(NTH).await;
        }
        return if harm == Harm::CutAnswer { cut(response).await } else { response };
    }
    // The body is taken in first: a connection that ends with bytes unread may take the answer along.
    drop(axum::body::to_bytes(body, usize::MAX).await);
    match harm {
        Harm::Status(status) => answer::error(status, "UNKNOWN", "a fault of the test"),
        Harm::Page => answer::with(200, &[("content-type", "text/html".into())], "<html>hello</html>"),
        _ => answer::empty(200, &[]),
    }
}

/// The first half of an answer, whose length is stated as that of the whole.
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

fn asked(shared: &Shared, object: &Object, parts: &Parts, wire: Wire) -> Asked {
    let query = url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes());
    let query: Vec<_> = query.into_owned().collect();
    let is_mount = parts.method == Method::POST && query.iter().any(|(key, _)| key == "mount");
    let noun = if is_mount { "mount" } else { object.noun() };
    let progress = shared.log.begin(noun, &parts.method, parts.uri.path(), &parts.headers);
    let address = parts.uri.to_string();
    Asked { method: parts.method.clone(), headers: parts.headers.clone(), query, address, wire, progress }
}

async fn answer(shared: &Arc<Shared>, object: Object, asked: Asked, body: Body) -> Response {
    if let Some(delay) = shared.faults.delay() {
        tokio::time::sleep(delay).await;
    }
    shared.faults.hold(asked.progress.entry.kind()).await;
    let mut body = body;
    let kind = asked.progress.entry.kind();
    if let Some(response) = quirks::answers(shared, kind, &asked.address) {
        drop(axum::body::to_bytes(body, usize::MAX).await);
        return transmit::counted(response, asked.progress);
    }
    if quirks::echoes(shared, kind).is_some() {
        let mut sent = asked.address.clone();
        if object == Object::Token {
            let form = axum::body::to_bytes(std::mem::take(&mut body), 64 * 1024).await.unwrap_or_default();
            sent = format!("{sent}?{}", String::from_utf8_lossy(&form));
        }
        let response = quirks::echo(shared, kind, &asked.headers, &sent).expect("it echoes");
        return transmit::counted(response, asked.progress);
    }
    if object == Object::Token {
        return transmit::counted(auth::token(shared, &asked, body).await, asked.progress);
    }
    if let Object::Cloud(path) = &object {
        return transmit::counted(auth::of_cloud(shared, path, body).await, asked.progress);
    }
    let room = || shared.room.enter(shared.setup.buckets.as_ref()?, &asked.method);
    if let Some(response) = turned_away(shared).or_else(room) {
        // Taken in first, as nginx does: a connection that ends with bytes unread may take the answer along.
        drop(axum::body::to_bytes(body, usize::MAX).await);
        return transmit::counted(response, asked.progress);
    }
    if let Some(response) = auth::refuse(shared, &object, &asked) {
        return transmit::counted(response, asked.progress);
    }
    if let Some(response) = quirks::refuse(shared, &object, &asked) {
        return transmit::counted(response, asked.progress);
    }
    match object {
        Object::Blob(repository, digest) => blobs::answer(shared, &repository, &digest, asked),
        Object::Manifest(repository, reference) => {
            manifests::answer(shared, &repository, &reference, asked, body).await
        }
        Object::Upload(repository, session) => uploads::answer(shared, &repository, &session, asked, body).await,
        other => {
            let response = match other {
                Object::Ping => answer::json(&serde_json::json!({})),
                Object::Catalog => lists::catalog(shared, &asked),
                Object::Tags(repository) => lists::tags(shared, &repository, &asked),
                Object::AcrTags(repository) => lists::acr_tags(shared, &repository, &asked),
                Object::Referrers(repository, subject) => lists::referrers(shared, &repository, &subject, &asked),
                _ => answer::error(404, "UNSUPPORTED", "there is nothing under this path"),
            };
            transmit::counted(response, asked.progress)
        }
    }
}

fn turned_away(shared: &Shared) -> Option<Response> {
    let (status, retry_after) = shared.faults.turned_away()?;
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

    /// The repository that the path names.
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
    // Uploads come first: their path holds `/blobs/` too.
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
