//! How many requests it takes to learn whether a blob is here, and to begin it where it is not.

use std::sync::Arc;

use axum::response::Response;
use futures_util::future::join_all;

use super::scripted::{Asked, Server, answer, blob, plain, quick, refusal, verified};
use crate::registry::{Kind, Options, Registry, Repository};
use crate::store::{Sought, Target as _};

/// Has the blob `here`. How it answers a mount from the repository itself is the
/// test's affair.
fn registry(asked: &Asked, own_mount: impl Fn(bool) -> Response) -> Response {
    let names = |content: &str| asked.path.contains(&blob(content.as_bytes()).digest.to_string().replace(':', "%3A"));
    let is_here = asked.path.ends_with(&blob(b"here").digest.to_string()) || names("here");
    let session = || answer(202, &[("location", "/session")], "");
    match asked.method.as_str() {
        "HEAD" if is_here => answer(200, &[("content-length", "4")], ""),
        "HEAD" => answer(404, &[], ""),
        "POST" if asked.path.contains("from=a%2Fb") => own_mount(is_here),
        "POST" => session(),
        "PUT" => answer(201, &[], ""),
        _ => answer(204, &[], ""),
    }
}

/// 201 where the blob is, else a session.
fn mounts(is_here: bool) -> Response {
    if is_here { answer(201, &[], "") } else { answer(202, &[("location", "/session")], "") }
}

async fn seek(repository: &Repository, content: &str) -> &'static str {
    match repository.find_or_begin(&blob(content.as_bytes())).await.unwrap() {
        Sought::Found => "found",
        Sought::Mounted => "mounted",
        Sought::OtherLength(_) => "of another length",
        Sought::Session(session) => {
            session.send(verified(content.as_bytes())).await.unwrap();
            "sent"
        }
    }
}

/// The methods of the requests that this took.
async fn cost(server: &Server, repository: &Repository, content: &str) -> (&'static str, String) {
    let before = server.asked().len();
    let came = seek(repository, content).await;
    let methods: Vec<String> = server.asked()[before..].iter().map(|asked| asked.method.to_string()).collect();
    (came, methods.join(" "))
}

#[tokio::test]
async fn one_request_finds_or_begins_where_the_registry_has_shown_that_it_can() {
    let server = Server::start(|asked| registry(asked, mounts)).await;
    let repository = server.repository();
    for (content, expected) in [
        ("absent", ("sent", "HEAD POST PUT")),
        ("here", ("found", "HEAD POST")),
        ("here", ("found", "POST")),
        ("absent", ("sent", "POST PUT")),
    ] {
        let (came, methods) = cost(&server, &repository, content).await;
        assert_eq!((came, methods.as_str()), expected, "{content}");
    }
}

#[tokio::test]
async fn a_registry_that_opens_a_session_for_a_blob_that_it_has_is_asked_by_head() {
    let server = Server::start(|asked| registry(asked, |_| mounts(false))).await;
    let repository = server.repository();
    for (content, expected) in [
        ("here", ("found", "HEAD POST DELETE")),
        ("here", ("found", "HEAD")),
        ("absent", ("sent", "HEAD POST PUT")),
        ("here", ("found", "HEAD")),
    ] {
        let (came, methods) = cost(&server, &repository, content).await;
        assert_eq!((came, methods.as_str()), expected, "{content}");
    }
}

#[tokio::test]
async fn a_registry_that_refuses_such_a_mount_is_asked_by_head() {
    let server = Server::start(|asked| registry(asked, |_| refusal(400, "UNSUPPORTED"))).await;
    let repository = server.repository();
    for expected in ["HEAD POST", "HEAD", "HEAD"] {
        assert_eq!(cost(&server, &repository, "here").await, ("found", expected.to_owned()));
    }
}

#[tokio::test]
async fn a_registry_that_refuses_later_on_is_asked_by_head_again() {
    let server = Server::start(|asked| {
        registry(asked, |is_here| if asked.nth < 2 { mounts(is_here) } else { refusal(403, "DENIED") })
    })
    .await;
    let repository = server.repository();
    for expected in ["HEAD POST", "POST HEAD", "HEAD"] {
        assert_eq!(cost(&server, &repository, "here").await, ("found", expected.to_owned()));
    }
}

#[tokio::test]
async fn many_at_once_try_it_once() {
    let server = Server::start(|asked| registry(asked, |_| mounts(false))).await;
    let repository = server.repository();
    let all = join_all((0..16).map(|_| seek(&repository, "here"))).await;
    assert!(all.iter().all(|came| *came == "found"));
    assert_eq!((server.count("HEAD"), server.count("POST"), server.count("DELETE")), (16, 1, 1));
}

#[tokio::test]
async fn a_registry_where_a_post_is_dear_is_asked_by_head() {
    for kind in [Kind::Acr, Kind::Ecr] {
        let server = Server::start(|asked| registry(asked, mounts)).await;
        let options = Options { kind: Some(kind), ..plain() };
        let registry: Arc<Registry> = Registry::with_tempo(server.host.parse().unwrap(), options, quick()).unwrap();
        let repository = registry.repository("a/b".parse().unwrap());
        for _ in 0..3 {
            assert_eq!(cost(&server, &repository, "here").await, ("found", "HEAD".to_owned()));
        }
    }
}
