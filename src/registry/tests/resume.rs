//! Tests of uploads that another process did not finish: the uploads that are recorded, and the query of the session
//! for its position.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use super::scripted::{Received, Server, answer, blob, noise, plain, refusal, session};
use crate::oci::Digester;
use crate::registry::{Options, Repository, UploadMode, Uploads};
use crate::store::{ErrorKind, ProgressSink, Step, StoreError, Target as _, UploadProgress, UploadSession, Verified};

/// Size of a blob, in bytes.
const SIZE: usize = 350_000;
/// Number of bytes that the first process sends, in chunks of 100,000 bytes.
const STORED: usize = 200_000;

fn chunked(server: &Server) -> Repository {
    let upload = Uploads { mode: UploadMode::Chunked, chunk: Some(100_000) };
    server.registry_as(Options { upload, ..plain() }).repository("a/b".parse().unwrap())
}

/// Starts an upload whose source fails after `sent` bytes. Returns the last recorded progress of the upload.
pub(super) async fn interrupt_upload(repository: &Repository, content: &[u8], sent: usize) -> Option<UploadSession> {
    let recorded = Arc::new(Mutex::new(None));
    let into = recorded.clone();
    let progress: ProgressSink = Arc::new(move |record| {
        *into.lock().unwrap() = Some(record);
        Box::pin(async {})
    });
    let broken = StoreError::new("elsewhere/x", Step::ReadBlob, "x", ErrorKind::Unavailable, "gone");
    // `Verified` withholds the piece after the last piece that is sent.
    let pieces = content[..sent + 300].chunks(300).map(|piece| Ok(Bytes::copy_from_slice(piece)));
    let pieces: Vec<_> = pieces.chain([Err(broken)]).collect();
    let bytes = Verified::new(stream::iter(pieces).boxed(), blob(content), "elsewhere/x").with_progress(Some(progress));
    session(repository, content).await.unwrap().send(bytes).await.unwrap_err();
    recorded.lock().unwrap().take()
}

/// Sends the rest of an interrupted upload.
pub(super) async fn resume_upload_rest(
    repository: &Repository,
    content: &[u8],
    record: &UploadSession,
) -> Result<(), StoreError> {
    let upload = repository.resume_upload(&blob(content), record).await?.expect("the session is at that position");
    let standing = upload.standing().unwrap().clone();
    let rest = Bytes::copy_from_slice(&content[usize::try_from(standing.stored).unwrap()..]);
    let bytes = stream::iter([Ok(rest)]).boxed();
    upload.send(Verified::resume(bytes, blob(content), "elsewhere/x", standing)).await
}

fn session_at(path: &str, last: usize) -> axum::response::Response {
    answer(202, &[("location", path), ("range", &format!("0-{last}"))], "")
}

/// Answers like a registry that puts the number of stored bytes into the URL of a session.
fn sessions(request: &Received) -> axum::response::Response {
    let address = |length: usize| format!("/v2/a/b/blobs/uploads/1?_nouploadcache=false&_state={length}");
    match request.method.as_str() {
        "POST" => answer(202, &[("location", &address(0))], ""),
        "PATCH" => {
            let end = request.header("content-range").unwrap().split_once('-').unwrap().1.parse::<usize>().unwrap() + 1;
            session_at(&address(end), end - 1)
        }
        "GET" => session_at(&format!("{}&_state=queried", address(STORED)), STORED - 1),
        "PUT" => answer(201, &[], ""),
        _ => answer(200, &[("content-length", &SIZE.to_string())], ""),
    }
}

#[tokio::test]
async fn another_process_resumes_at_the_session_location() {
    let server = Server::start(sessions).await;
    let content = noise(SIZE);
    let record = interrupt_upload(&chunked(&server), &content, STORED).await.unwrap();
    assert_eq!(record.standing.stored, STORED as u64);
    let mut hashed = Digester::like(&blob(&content).digest);
    hashed.update(&content[..STORED]);
    assert_eq!(record.standing.hashed.to_state(), hashed.to_state());
    let before = server.requests().len();

    resume_upload_rest(&chunked(&server), &content, &record).await.unwrap();
    let requests = server.requests().split_off(before);
    let lines: Vec<String> = requests.iter().map(Received::line).collect();
    let own = "/v2/a/b/blobs/uploads/1?_nouploadcache=false&_state=";
    assert_eq!(lines[0], format!("GET {own}{STORED}"));
    assert_eq!(lines[1], format!("PATCH {own}{STORED}&_state=queried"));
    assert_eq!(requests[1].header("content-range"), Some("200000-299999"));
    assert_eq!(requests[2].header("content-range"), Some("300000-349999"));
    assert!(requests[1].body == content[200_000..300_000] && requests[2].body == content[300_000..]);
    assert_eq!(lines[3], format!("PUT {own}350000&digest={}", blob(&content).digest.to_string().replace(':', "%3A")));
}

/// Returns true if an interrupted upload resumes when the registry gives these answers.
async fn resumes_with_answer(
    answers: impl Fn() -> axum::response::Response + Send + Sync + 'static,
) -> Result<bool, StoreError> {
    resumes_with_size(SIZE, answers).await
}

/// Returns true if an interrupted upload of a blob of this size resumes when the registry gives these answers.
async fn resumes_with_size(
    size: usize,
    answers: impl Fn() -> axum::response::Response + Send + Sync + 'static,
) -> Result<bool, StoreError> {
    let server = Server::start(move |_| answers()).await;
    let content = noise(size);
    let session = format!("http://{}/v2/a/b/blobs/uploads/1", server.host);
    let standing = UploadProgress { stored: STORED as u64, hashed: Digester::like(&blob(&content).digest) };
    let record = UploadSession { session, standing, ahead: None };
    chunked(&server).resume_upload(&blob(&content), &record).await.map(|upload| upload.is_some())
}

#[tokio::test]
async fn unknown_or_different_session_restarts_the_upload() {
    let place = "/v2/a/b/blobs/uploads/1";
    assert!(resumes_with_answer(|| session_at(place, STORED - 1)).await.unwrap());
    for last in [STORED - 2, STORED, 0] {
        assert!(!resumes_with_answer(move || session_at(place, last)).await.unwrap(), "{last}");
    }
    assert!(!resumes_with_answer(|| answer(204, &[], "")).await.unwrap(), "the answer states no position");
    assert!(!resumes_with_answer(|| refusal(404, "BLOB_UPLOAD_UNKNOWN")).await.unwrap());
    assert!(!resumes_with_answer(|| refusal(400, "BLOB_UPLOAD_INVALID")).await.unwrap());
}

#[tokio::test]
async fn session_as_long_as_the_blob_restarts() {
    let at_recorded_position = || session_at("/v2/a/b/blobs/uploads/1", STORED - 1);
    assert!(resumes_with_size(STORED + 1, at_recorded_position).await.unwrap());
    for size in [STORED, STORED - 1] {
        assert!(
            !resumes_with_size(size, at_recorded_position).await.unwrap(),
            "a manifest may state another size: {size}"
        );
    }
}

#[tokio::test]
async fn failing_registry_does_not_restart_the_upload() {
    assert_eq!(resumes_with_answer(|| answer(500, &[], "")).await.unwrap_err().kind, ErrorKind::Unavailable);
}

#[tokio::test]
async fn upload_is_recorded_unless_address_grants_access() {
    let content = noise(SIZE);
    for (query, is_recorded) in [
        ("", true),
        ("?_state=c3RhdGU%3D", true),
        ("?_nouploadcache=false&_state=c3RhdGU%3D", true),
        ("?_state=c3RhdGU%3D&sig=abc", false),
        ("?X-Amz-Signature=abc", false),
        ("?upload_id=1", false),
    ] {
        let server = Server::start(move |request| match request.method.as_str() {
            "POST" | "PATCH" => answer(202, &[("location", &format!("/v2/a/b/blobs/uploads/1{query}"))], ""),
            _ => answer(404, &[], ""),
        })
        .await;
        assert_eq!(interrupt_upload(&chunked(&server), &content, STORED).await.is_some(), is_recorded, "{query}");
    }
    let storage = Server::start(|_| answer(202, &[], "")).await;
    let elsewhere = format!("http://{}/session", storage.host);
    let server = Server::start(move |_| answer(202, &[("location", &elsewhere)], "")).await;
    assert!(
        interrupt_upload(&chunked(&server), &content, STORED).await.is_none(),
        "the session is at a storage service"
    );
    assert!(storage.count("PATCH /session") >= 2, "{:?}", storage.lines());
}

#[tokio::test]
async fn journal_session_at_another_host_gets_no_request() {
    let (server, other) = (Server::start(sessions).await, Server::start(sessions).await);
    let content = noise(SIZE);
    let hashed = Digester::like(&blob(&content).digest);
    for session in [format!("http://{}/v2/a/b/blobs/uploads/1", other.host), "no address".to_owned()] {
        let record = UploadSession {
            session,
            standing: UploadProgress { stored: STORED as u64, hashed: hashed.clone() },
            ahead: None,
        };
        assert!(chunked(&server).resume_upload(&blob(&content), &record).await.unwrap().is_none());
    }
    assert_eq!(other.lines(), Vec::<String>::new());
}
