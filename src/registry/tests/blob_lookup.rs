//! Tests of the number of requests that find a blob, or start its upload if the blob is absent.

use std::sync::Arc;

use axum::response::Response;
use futures_util::future::join_all;

use super::scripted::{Received, Server, answer, blob, plain, quick, refusal, verified};
use crate::registry::{Flavor, Options, Registry, Repository};
use crate::store::{BlobLookup, Target as _};

/// Answers like a registry with the blob `here`. `own_mount` returns the response to a mount from the repository
/// itself.
fn registry(request: &Received, own_mount: impl Fn(bool) -> Response) -> Response {
    let names = |content: &str| request.path.contains(&blob(content.as_bytes()).digest.to_string().replace(':', "%3A"));
    let is_here = request.path.ends_with(&blob(b"here").digest.to_string()) || names("here");
    let session = || answer(202, &[("location", "/session")], "");
    match request.method.as_str() {
        "HEAD" if is_here => answer(200, &[("content-length", "4")], ""),
        "HEAD" => answer(404, &[], ""),
        "POST" if request.path.contains("from=a%2Fb") => own_mount(is_here),
        "POST" => session(),
        "PUT" => answer(201, &[], ""),
        _ => answer(204, &[], ""),
    }
}

/// Returns 201 if the blob exists, and otherwise opens a session.
fn mounts(is_here: bool) -> Response {
    if is_here { answer(201, &[], "") } else { answer(202, &[("location", "/session")], "") }
}

async fn find_or_send(repository: &Repository, content: &str) -> &'static str {
    match repository.find_or_begin(&blob(content.as_bytes())).await.unwrap() {
        BlobLookup::Found => "found",
        BlobLookup::Mounted => "mounted",
        BlobLookup::OtherLength(_) => "of another length",
        BlobLookup::Session(session) => {
            session.send(verified(content.as_bytes())).await.unwrap();
            "sent"
        }
    }
}

/// Returns the result of a lookup, and the methods of its requests.
async fn cost(server: &Server, repository: &Repository, content: &str) -> (&'static str, String) {
    let before = server.requests().len();
    let result = find_or_send(repository, content).await;
    let methods: Vec<String> = server.requests()[before..].iter().map(|request| request.method.to_string()).collect();
    (result, methods.join(" "))
}

#[tokio::test]
async fn proven_own_mount_finds_or_starts_with_one_request() {
    let server = Server::start(|request| registry(request, mounts)).await;
    let repository = server.repository();
    for (content, expected) in [
        ("absent", ("sent", "HEAD POST PUT")),
        ("here", ("found", "HEAD POST")),
        ("here", ("found", "POST")),
        ("absent", ("sent", "POST PUT")),
    ] {
        let (result, methods) = cost(&server, &repository, content).await;
        assert_eq!((result, methods.as_str()), expected, "{content}");
    }
}

#[tokio::test]
async fn session_for_existing_blob_switches_lookup_to_head() {
    let server = Server::start(|request| registry(request, |_| mounts(false))).await;
    let repository = server.repository();
    for (content, expected) in [
        ("here", ("found", "HEAD POST DELETE")),
        ("here", ("found", "HEAD")),
        ("absent", ("sent", "HEAD POST PUT")),
        ("here", ("found", "HEAD")),
    ] {
        let (result, methods) = cost(&server, &repository, content).await;
        assert_eq!((result, methods.as_str()), expected, "{content}");
    }
}

#[tokio::test]
async fn refused_own_mount_switches_lookup_to_head() {
    let server = Server::start(|request| registry(request, |_| refusal(400, "UNSUPPORTED"))).await;
    let repository = server.repository();
    for expected in ["HEAD POST", "HEAD", "HEAD"] {
        assert_eq!(cost(&server, &repository, "here").await, ("found", expected.to_owned()));
    }
}

#[tokio::test]
async fn later_refusal_of_own_mount_switches_to_head() {
    let server = Server::start(|request| {
        registry(request, |is_here| if request.nth < 2 { mounts(is_here) } else { refusal(403, "DENIED") })
    })
    .await;
    let repository = server.repository();
    for expected in ["HEAD POST", "POST HEAD", "HEAD"] {
        assert_eq!(cost(&server, &repository, "here").await, ("found", expected.to_owned()));
    }
}

#[tokio::test]
async fn concurrent_lookups_test_own_mount_once() {
    let server = Server::start(|request| registry(request, |_| mounts(false))).await;
    let repository = server.repository();
    let all = join_all((0..16).map(|_| find_or_send(&repository, "here"))).await;
    assert!(all.iter().all(|result| *result == "found"));
    assert_eq!((server.count("HEAD"), server.count("POST"), server.count("DELETE")), (16, 1, 1));
}

#[tokio::test]
async fn registry_with_costly_posts_is_queried_by_head() {
    for kind in [Flavor::ACR, Flavor::ECR] {
        let server = Server::start(|request| registry(request, mounts)).await;
        let options = Options { flavor: Some(kind), ..plain() };
        let registry: Arc<Registry> =
            Registry::with_retry_policy(server.host.parse().unwrap(), options, quick()).unwrap();
        let repository = registry.repository("a/b".parse().unwrap());
        for _ in 0..3 {
            assert_eq!(cost(&server, &repository, "here").await, ("found", "HEAD".to_owned()));
        }
    }
}
