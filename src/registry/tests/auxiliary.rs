//! Tests of auxiliary steps, such as the lookup of a blob. If such a step fails, the client still copies the blob.
//! Without proof, the client never assumes that a blob exists.

use std::sync::atomic::{AtomicBool, Ordering};

use axum::response::Response;

use super::scripted::{Received, Server, answer, blob, noise, plain, quick, verified};
use crate::registry::http::retry::RetryPolicy;
use crate::registry::{Flavor, Options, Registry, Repository};
use crate::store::{BlobLookup, Target as _, UploadStart};

/// Returns a repository of a registry at which the client looks up blobs by HEAD. The client makes at most two
/// attempts.
fn repository(server: &Server) -> Repository {
    let options = Options { flavor: Some(Flavor::ECR), ..plain() };
    let policy = RetryPolicy { attempts: 2, max_throttles: 2, ..quick() };
    Registry::with_retry_policy(server.host.parse().unwrap(), options, policy)
        .unwrap()
        .repository("a/b".parse().unwrap())
}

/// Answers upload requests like a correct registry, and all other requests by 404.
fn upload(request: &Received) -> Response {
    match request.method.as_str() {
        "POST" => answer(202, &[("location", "/v2/a/b/blobs/uploads/1")], ""),
        "PUT" => answer(201, &[], ""),
        _ => answer(404, &[], ""),
    }
}

async fn find_or_send(server: &Server, content: &[u8]) -> &'static str {
    match repository(server).find_or_begin(&blob(content)).await.unwrap() {
        BlobLookup::Found => "found",
        BlobLookup::Mounted => "mounted",
        BlobLookup::OtherLength(stored) => {
            match repository(server).begin_replacement(&blob(content), stored).await.unwrap() {
                UploadStart::Mounted => "mounted",
                UploadStart::Session(session) => {
                    session.send(verified(content)).await.unwrap();
                    "sent over another length"
                }
            }
        }
        BlobLookup::Session(session) => {
            session.send(verified(content)).await.unwrap();
            "sent"
        }
    }
}

#[tokio::test]
async fn blob_is_sent_for_any_failed_lookup_status() {
    let content = noise(100);
    for status in 200..600 {
        let server = Server::start(move |request| match request.method.as_str() {
            "HEAD" => {
                let headers = [("location", "http://127.0.0.1:1/store/x?sig=1"), ("content-length", "100")];
                answer(status, &headers, "")
            }
            _ => upload(request),
        })
        .await;
        // The client sends no HEAD to the storage service, because some storage URLs are valid only for GET.
        let expected = if status < 400 { "found" } else { "sent" };
        assert_eq!(find_or_send(&server, &content).await, expected, "{status}");
    }
}

#[tokio::test]
async fn redirect_without_location_does_not_prove_the_blob() {
    for status in [300, 301, 302, 303, 304, 305, 307, 308] {
        let server = Server::start(move |request| match request.method.as_str() {
            "HEAD" => answer(status, &[], ""),
            _ => upload(request),
        })
        .await;
        assert_eq!(find_or_send(&server, &noise(100)).await, "sent", "{status}");
    }
}

#[tokio::test]
async fn redirect_to_same_blob_at_registry_is_followed() {
    for (status, expected) in [(200, "found"), (404, "sent")] {
        let other = Server::start(move |_| answer(status, &[("content-length", "100")], "")).await;
        let place = format!("http://{}/v2/moved/a/b/blobs/", other.host);
        let server = Server::start(move |request| match request.method.as_str() {
            "HEAD" => {
                let location = format!("{place}{}", request.path.rsplit_once('/').unwrap().1);
                answer(307, &[("location", &location)], "")
            }
            _ => upload(request),
        })
        .await;
        assert_eq!(find_or_send(&server, &noise(100)).await, expected);
        assert_eq!(other.lines().len(), 1);
    }
}

#[tokio::test]
async fn registry_with_failed_lookup_gets_one_head_per_blob() {
    let server =
        Server::start(|request| if request.method == "HEAD" { answer(500, &[], "") } else { upload(request) }).await;
    let repository = repository(&server);
    for heads in [2, 3, 4] {
        assert!(matches!(repository.find_or_begin(&blob(b"x")).await.unwrap(), BlobLookup::Session(_)));
        assert_eq!(server.count("HEAD"), heads);
    }
}

#[tokio::test]
async fn length_that_contradicts_descriptor_is_checked_by_get() {
    let content = noise(100);
    // Columns: length that a HEAD states, response to a ranged GET, result.
    for (stated, status, range, expected) in [
        ("0", 206, "bytes 0-0/100", "found"),
        ("7", 206, "bytes 0-0/100", "found"),
        ("0", 206, "bytes 0-0/7", "sent over another length"),
        ("0", 416, "bytes */0", "sent over another length"),
        ("7", 404, "", "sent"),
        ("7", 500, "", "sent"),
        ("100", 599, "", "found"),
    ] {
        let was_sent = AtomicBool::new(false);
        let server = Server::start(move |request| match request.method.as_str() {
            "HEAD" if was_sent.load(Ordering::SeqCst) => answer(200, &[("content-length", "100")], ""),
            "HEAD" => answer(200, &[("content-length", stated)], ""),
            "GET" => answer(status, &[("content-range", range)], "x"),
            "PUT" => {
                was_sent.store(true, Ordering::SeqCst);
                upload(request)
            }
            _ => upload(request),
        })
        .await;
        assert_eq!(find_or_send(&server, &content).await, expected, "{stated} {status} {range}");
    }
    // A server that ignores the range sends the whole blob, and states its length.
    let whole = content.clone();
    let server = Server::start(move |request| match request.method.as_str() {
        "HEAD" => answer(200, &[("content-length", "0")], ""),
        "GET" => answer(200, &[], whole.clone()),
        _ => upload(request),
    })
    .await;
    assert_eq!(find_or_send(&server, &content).await, "found");
}

#[tokio::test]
async fn blob_is_sent_for_any_failed_mount_status() {
    for status in 200..600 {
        let server = Server::start(move |request| match request.path.contains("mount=") {
            true => answer(status, &[], ""),
            false => upload(request),
        })
        .await;
        let started = repository(&server).begin_upload(&blob(b"x"), Some(&"c/d".parse().unwrap())).await.unwrap();
        match started {
            UploadStart::Mounted => assert_eq!(status, 201),
            UploadStart::Session(session) => session.send(verified(b"x")).await.unwrap(),
        }
    }
}

#[tokio::test]
async fn mount_that_names_another_blob_is_rejected() {
    let other = blob(b"other").digest.to_string();
    let server = Server::start(move |request| match request.path.contains("mount=") {
        true => answer(201, &[("docker-content-digest", &other)], ""),
        false => upload(request),
    })
    .await;
    let started = repository(&server).begin_upload(&blob(b"x"), Some(&"c/d".parse().unwrap())).await.unwrap();
    assert!(matches!(started, UploadStart::Session(_)));
}

#[tokio::test]
async fn session_is_cancelled_once_for_any_answer() {
    for status in 200..600 {
        let server = Server::start(move |request| match request.method.as_str() {
            "DELETE" => answer(status, &[], ""),
            _ => upload(request),
        })
        .await;
        let UploadStart::Session(session) = repository(&server).begin_upload(&blob(b"x"), None).await.unwrap() else {
            panic!("mounted without a mount request")
        };
        session.cancel().await;
        assert_eq!(server.count("DELETE"), 1, "{status}");
    }
}
