//! Upload endpoints (distribution-spec, "Pushing Blobs"): sessions, chunks, mounts.
//!
//! Each response about a session has a new `Location`, and PATCH and PUT at an older one are refused, as the
//! specification allows. Bytes that arrived before a connection broke are kept.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use axum::http::{Method, header};
use axum::response::Response;
use futures_util::StreamExt as _;
use transship::oci::Digest;

use super::faults::Fault;
use super::route::ReceivedRequest;
use super::{Shared, answer, quirks, transmit};

#[derive(Debug, Default)]
struct Session {
    repository: String,
    bytes: Vec<u8>,
    /// Position of the last chunk.
    last: usize,
    /// True if the response to a chunk is held.
    is_held: bool,
    state: u64,
}

/// Open sessions, by name.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    open: Mutex<HashMap<String, Session>>,
    opened: AtomicU64,
}

impl Sessions {
    pub(super) fn count(&self) -> usize {
        self.open.lock().unwrap().len()
    }

    /// Corrupts a byte of each session, as a failing storage does.
    pub(super) fn spoil(&self) {
        for session in self.open.lock().unwrap().values_mut() {
            session.bytes[0] ^= 1;
        }
    }

    /// Returns the total bytes of the sessions whose response to a chunk is held.
    pub(super) fn held(&self) -> Option<usize> {
        let open = self.open.lock().unwrap();
        let held = open.values().filter(|session| session.is_held).map(|session| session.bytes.len());
        held.reduce(|all, one| all + one)
    }

    fn begin(&self, repository: &str) -> String {
        let name = format!("session-{}", self.opened.fetch_add(1, Ordering::SeqCst));
        let session = Session { repository: repository.to_owned(), ..Session::default() };
        self.open.lock().unwrap().insert(name.clone(), session);
        name
    }

    fn with<T>(&self, name: &str, repository: &str, then: impl FnOnce(&mut Session) -> T) -> Option<T> {
        self.open.lock().unwrap().get_mut(name).filter(|session| session.repository == repository).map(then)
    }

    fn end(&self, name: &str) -> Option<Session> {
        self.open.lock().unwrap().remove(name)
    }
}

/// Answers a request for an upload.
pub(super) async fn answer(
    shared: &Shared,
    repository: &str,
    session: &str,
    request: ReceivedRequest,
    body: Body,
) -> Response {
    let length = shared.sessions.with(session, repository, |session| session.bytes.len());
    if length.is_some_and(|length| shared.faults.session_forgotten(length)) {
        shared.sessions.end(session);
    }
    let known = || shared.sessions.with(session, repository, |_| ()).is_some();
    let response = match (&request.method, session.is_empty()) {
        (&Method::POST, true) => open(shared, repository, &request, body).await,
        (_, true) => Some(answer::not_allowed()),
        _ if !known() => Some(answer::error(404, "BLOB_UPLOAD_UNKNOWN", session)),
        (&Method::PATCH, _) if shared.faults.has(&Fault::NoChunks) => {
            refuse_after_reading(body, answer::not_allowed()).await
        }
        (&Method::PATCH, _) => patch(shared, repository, session, &request, body).await,
        (&Method::PUT, _) => put(shared, repository, session, &request, body).await,
        (&Method::GET, _) => Some(progress(shared, repository, session, 204)),
        (&Method::DELETE, _) => {
            shared.sessions.end(session);
            Some(answer::empty(204, &[]))
        }
        _ => Some(answer::not_allowed()),
    };
    // The connection is broken, so no client receives this response.
    let response = response.unwrap_or_else(|| answer::error(500, "UNKNOWN", "the connection broke"));
    transmit::counted(response, request.progress)
}

async fn open(shared: &Shared, repository: &str, request: &ReceivedRequest, body: Body) -> Option<Response> {
    if let Some(mounted) = mount(shared, repository, request) {
        return Some(mounted);
    }
    let session = shared.sessions.begin(repository);
    if request.parameter("digest").is_some() {
        return finish(shared, repository, &session, request, body).await;
    }
    let minimum = shared.faults.find(|fault| if let Fault::ChunkMinimum(size) = fault { Some(*size) } else { None });
    let mut response = progress(shared, repository, &session, 202);
    if let Some(size) = minimum {
        answer::add(response.headers_mut(), &[("oci-chunk-min-length", size.to_string())]);
    }
    Some(response)
}

/// Mounts a blob; `None` opens a session instead.
fn mount(shared: &Shared, repository: &str, request: &ReceivedRequest) -> Option<Response> {
    let (digest, from) = (request.parameter("mount")?, request.parameter("from")?);
    let digest: Digest = digest.parse().ok()?;
    if shared.faults.has(&Fault::MountRefused) || shared.faults.has(&Fault::BlobCollected(digest)) {
        return None;
    }
    let blob = shared.store.blob(from, &digest).filter(|_| quirks::mounts(shared, from, &digest))?;
    shared.store.put_blob_as(repository, digest, blob);
    Some(created(shared, repository, &digest))
}

async fn patch(
    shared: &Shared,
    repository: &str,
    session: &str,
    request: &ReceivedRequest,
    body: Body,
) -> Option<Response> {
    let stored = shared.sessions.with(session, repository, |session| session.bytes.len())?;
    if shared.faults.hold_chunk(stored).await {
        request.wire.break_off();
        return None;
    }
    if let Some(refused) = refuse(shared, repository, session, request) {
        return refuse_after_reading(body, refused).await;
    }
    let size = answer::text(&request.headers, header::CONTENT_LENGTH).parse::<usize>().ok();
    let limit = shared.faults.find(|fault| if let Fault::ChunkLimit(size) = fault { Some(*size) } else { None });
    if limit.zip(size).is_some_and(|(limit, size)| size > limit) {
        return refuse_after_reading(body, answer::error(416, "SIZE_INVALID", "the chunk is too large")).await;
    }
    if let Some(stores) = shared.faults.chunk_fails() {
        let before = shared.sessions.with(session, repository, |session| session.bytes.len())?;
        take(shared, repository, session, request, body).await;
        shared.sessions.with(session, repository, |session| session.bytes.truncate(before + stores));
        return Some(answer::error(500, "UNKNOWN", "the storage failed"));
    }
    shared.sessions.with(session, repository, |session| session.last = session.bytes.len());
    let status = if shared.faults.has(&Fault::ChunkCreated) { 201 } else { 202 };
    if !take(shared, repository, session, request, body).await {
        return None;
    }
    let length = shared.sessions.with(session, repository, |session| session.bytes.len())?;
    if let Some(keeps) = shared.faults.chunk_answer_held(length) {
        shared.sessions.with(session, repository, |session| {
            session.bytes.truncate(stored + keeps);
            session.is_held = true;
        });
        shared.faults.hold_chunk_answer().await;
        request.wire.break_off();
        return None;
    }
    Some(progress(shared, repository, session, status))
}

async fn put(
    shared: &Shared,
    repository: &str,
    session: &str,
    request: &ReceivedRequest,
    body: Body,
) -> Option<Response> {
    if request.parameter("digest").is_none() {
        return Some(answer::error(400, "DIGEST_INVALID", "there is no digest in the query"));
    }
    if let Some(refused) = refuse(shared, repository, session, request) {
        return refuse_after_reading(body, refused).await;
    }
    finish(shared, repository, session, request, body).await
}

/// Reads the last bytes and commits. Stores nothing if the digest is wrong.
async fn finish(
    shared: &Shared,
    repository: &str,
    session: &str,
    request: &ReceivedRequest,
    body: Body,
) -> Option<Response> {
    if let Some(refused) = refuse_body(shared, request) {
        return refuse_after_reading(body, refused).await;
    }
    if !take(shared, repository, session, request, body).await {
        return None;
    }
    let session = shared.sessions.end(session)?;
    let stated = request.parameter("digest").unwrap_or_default();
    match stated.parse::<Digest>() {
        Ok(digest) if digest.same_algorithm_of(&session.bytes) == digest => {
            let from = if shared.faults.has(&Fault::KeepsLastChunk) { session.last } else { 0 };
            shared.store.put_blob_as(repository, digest, bytes::Bytes::from(session.bytes).slice(from..));
            if shared.faults.commit_cut() {
                request.wire.break_off();
                return None;
            }
            Some(created(shared, repository, &digest))
        }
        _ => Some(answer::error(400, "DIGEST_INVALID", stated)),
    }
}

/// Returns a refusal after reading the body, as nginx and Go do for a while: if a connection closes at once, the client
/// loses the response.
async fn refuse_after_reading(body: Body, refusal: Response) -> Option<Response> {
    let mut pieces = body.into_data_stream();
    while pieces.next().await.is_some_and(|piece| piece.is_ok()) {}
    Some(refusal)
}

async fn take(shared: &Shared, repository: &str, session: &str, request: &ReceivedRequest, body: Body) -> bool {
    let add = |piece: &bytes::Bytes| {
        shared.sessions.with(session, repository, |session| session.bytes.extend_from_slice(piece));
    };
    transmit::receive(shared, request, body, add).await
}

/// Returns the reason to refuse a PATCH or PUT, if there is one.
fn refuse(shared: &Shared, repository: &str, session: &str, request: &ReceivedRequest) -> Option<Response> {
    let (length, state) = shared.sessions.with(session, repository, |session| (session.bytes.len(), session.state))?;
    if request.parameter("sig") != quirks::signature(shared) {
        return Some(answer::error(403, "DENIED", "the signature is missing or wrong"));
    }
    if request.parameter("_state") != Some(&state.to_string()) {
        return Some(answer::error(400, "BLOB_UPLOAD_INVALID", "this is not the newest Location of the upload"));
    }
    if let Some(range) = request.headers.get(header::CONTENT_RANGE) {
        let size = answer::text(&request.headers, header::CONTENT_LENGTH).parse::<usize>().ok();
        let range = range.to_str().ok().and_then(|range| range.split_once('-'));
        let range = range.and_then(|(first, last)| Some((first.parse::<usize>().ok()?, last.parse::<usize>().ok()?)));
        if range.is_none_or(|(first, last)| first != length || Some(last + 1 - first.min(last + 1)) != size) {
            return Some(progress(shared, repository, session, 416));
        }
    }
    refuse_body(shared, request)
}

fn refuse_body(shared: &Shared, request: &ReceivedRequest) -> Option<Response> {
    let size = answer::text(&request.headers, header::CONTENT_LENGTH).parse::<usize>().ok();
    if size.is_none() && shared.faults.has(&Fault::UploadNeedsLength) {
        return Some(answer::error(411, "SIZE_INVALID", "Content-Length is needed"));
    }
    let limit = shared.faults.find(|fault| if let Fault::UploadBodyLimit(size) = fault { Some(*size) } else { None });
    let over = limit.zip(size).is_some_and(|(limit, size)| size > limit);
    over.then(|| {
        answer::with(413, &[("content-type", "text/html".into())], "<html>413 Request Entity Too Large</html>")
    })
}

/// Returns the progress of an upload, under a new `Location`.
fn progress(shared: &Shared, repository: &str, session: &str, status: u16) -> Response {
    let next = |session: &mut Session| {
        session.state += 1;
        (session.bytes.len(), session.state)
    };
    let Some((length, state)) = shared.sessions.with(session, repository, next) else {
        return answer::error(404, "BLOB_UPLOAD_UNKNOWN", session);
    };
    let signature = quirks::signature(shared).map(|signature| {
        let signature: String = url::form_urlencoded::byte_serialize(signature.as_bytes()).collect();
        format!("&sig={signature}")
    });
    let state = format!("{state}{}", signature.unwrap_or_default());
    answer::empty(
        status,
        &[
            ("location", location(shared, &format!("/v2/{repository}/blobs/uploads/{session}?_state={state}"))),
            ("docker-upload-uuid", session.to_owned()),
            ("range", format!("0-{}", length.saturating_sub(1))),
        ],
    )
}

fn created(shared: &Shared, repository: &str, digest: &Digest) -> Response {
    let path = format!("/v2/{repository}/blobs/{digest}");
    answer::empty(201, &[("location", location(shared, &path)), ("docker-content-digest", digest.to_string())])
}

fn location(shared: &Shared, path: &str) -> String {
    if shared.faults.has(&Fault::RelativeLocation) { path.to_owned() } else { format!("http://{}{path}", shared.host) }
}
