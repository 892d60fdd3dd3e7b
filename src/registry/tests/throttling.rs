//! Tests of throttling and failures: repeated requests, the number of attempts, and waiting requests.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{TryStreamExt as _, poll, stream};

use super::scripted::{Server, answer, blob, noise, plain, session, verified};
use crate::oci::{Descriptor, Digest, ManifestRef};
use crate::registry::limits::concurrency::RequestClass;
use crate::registry::limits::pace::Class;
use crate::registry::{LimitSetting, Limits, Options, Rate, Repository, Tenant};
use crate::store::{ErrorKind, Source as _, StoreError};

fn manifest_ref() -> ManifestRef {
    ManifestRef::Digest(Digest::of(b"x"))
}

#[tokio::test]
async fn retry_after_pauses_the_whole_registry() {
    let server = Server::start(|request| match request.nth {
        0 => answer(429, &[("retry-after", "1")], "slow down"),
        _ => answer(404, &[], ""),
    })
    .await;
    let registry = server.registry();
    let first = registry.repository("a/b".parse().unwrap());
    let began = Instant::now();
    let task = tokio::spawn(async move { first.resolve(&manifest_ref()).await });
    while server.lines().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // The first response is in transit. The server would refuse a request that the client sends before the client has
    // this response.
    while registry.meter().repeats == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    registry.repository("c/d".parse().unwrap()).resolve(&manifest_ref()).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(task.await.unwrap().unwrap(), None);
    assert_eq!(server.lines().len(), 3);
    assert!(registry.meter().throttled > Duration::from_millis(500));
}

#[tokio::test]
async fn failing_registry_gets_five_attempts() {
    let server = Server::start(|_| answer(503, &[], "<html>")).await;
    let registry = server.registry();
    let error = registry.repository("a/b".parse().unwrap()).resolve(&manifest_ref()).await.unwrap_err();
    assert_eq!((error.kind, error.detail.as_str()), (ErrorKind::Unavailable, "503 Service Unavailable"));
    assert_eq!(server.lines().len(), 5);
    let meter = registry.meter();
    assert_eq!((meter.repeats, meter.requests.len()), (4, 1));
    assert_eq!((meter.requests[0].method, meter.requests[0].status, meter.requests[0].count), ("HEAD", Some(503), 5));
}

#[tokio::test]
async fn throttling_registry_gets_ten_attempts_then_busy() {
    let server = Server::start(|_| answer(429, &[("retry-after", "0")], "")).await;
    let error = server.repository().manifest(&manifest_ref()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Busy(Some(Duration::ZERO)));
    assert_eq!(server.lines().len(), 10);
}

/// Reads a blob repeatedly, like the callers of the client, while the error permits a retry. Returns the last error and
/// the number of calls.
async fn read_while_it_may_be_repeated(repository: &Repository, blob: &Descriptor) -> (StoreError, usize) {
    for calls in 1..1000 {
        let read = match repository.blob(blob, 0).await {
            Ok(bytes) => bytes.try_for_each(|_| async { Ok(()) }).await,
            Err(error) => Err(error),
        };
        match read.unwrap_err() {
            error if error.may_be_repeated() => {}
            error => return (error, calls),
        }
    }
    panic!("the reads are repeated without end")
}

#[tokio::test]
async fn one_budget_bounds_blob_requests_across_all_layers() {
    let failing = || answer(500, &[], "");
    let resetting = || {
        let pieces = [Ok(Bytes::from(noise(1000))), Err(std::io::Error::other("reset"))];
        answer(200, &[], Body::from_stream(stream::iter(pieces)))
    };
    let answers: [fn() -> Response; 2] = [failing, resetting];
    for answers in answers {
        let server = Server::start(move |_| answers()).await;
        let repository = server.repository();
        let wanted = blob(&noise(5000));
        let (error, _) = read_while_it_may_be_repeated(&repository, &wanted).await;
        assert_eq!((error.kind, error.given_up), (ErrorKind::Unavailable, true));
        assert_eq!(server.lines().len(), 9);
        let (_, calls) = read_while_it_may_be_repeated(&repository, &wanted).await;
        assert_eq!((calls, server.lines().len()), (1, 10), "another tag with the same blob sends one request");
        let (_, calls) = read_while_it_may_be_repeated(&repository, &blob(b"another")).await;
        assert!(calls > 1, "another blob has its own budget");
    }
}

#[tokio::test]
async fn endless_throttling_defers_the_tag() {
    let server = Server::start(|_| answer(429, &[], "")).await;
    let (error, _) = read_while_it_may_be_repeated(&server.repository(), &blob(b"x")).await;
    assert_eq!(error.kind, ErrorKind::Busy(None));
    assert_eq!(error.deferral(), Some(Duration::from_secs(60)));
    assert_eq!(server.lines().len(), 20);
}

#[tokio::test]
async fn failing_token_service_is_not_queried_per_scope() {
    let server = Server::start(|request| match request.path.starts_with("/token") {
        true => answer(503, &[], ""),
        false => answer(401, &[("www-authenticate", &format!("Bearer realm=\"{}/token\"", request.own))], ""),
    })
    .await;
    let registry = server.registry();
    for name in ["a/b", "c/d", "e/f"] {
        let error = registry.repository(name.parse().unwrap()).resolve(&manifest_ref()).await.unwrap_err();
        assert_eq!((error.kind, error.may_be_repeated()), (ErrorKind::Unavailable, false), "{error}");
    }
    assert_eq!(server.count("GET /token"), 5);
}

#[tokio::test]
async fn possibly_stored_upload_is_not_sent_again() {
    for size in [1000, 300_000] {
        let server = Server::start(|request| match request.method.as_str() {
            "POST" => answer(202, &[("location", "/session")], ""),
            _ => answer(500, &[], ""),
        })
        .await;
        let content = noise(size);
        let session = session(&server.repository(), &content).await.unwrap();
        let error = session.send(verified(&content)).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable);
        assert_eq!(server.count("PUT"), 1);
    }
}

#[tokio::test]
async fn throttled_upload_in_memory_is_sent_again() {
    let server = Server::start(|request| match (request.method.as_str(), request.nth) {
        ("POST", _) => answer(202, &[("location", "/session")], ""),
        (_, 1) => answer(429, &[], ""),
        _ => answer(201, &[], ""),
    })
    .await;
    let content = noise(1000);
    session(&server.repository(), &content).await.unwrap().send(verified(&content)).await.unwrap();
    assert_eq!(server.requests().last().unwrap().body, content);
}

#[tokio::test]
async fn requests_stay_within_the_configured_rate() {
    let server = Server::start(|_| answer(404, &[], "")).await;
    let rate = Rate { count: 20, per: Duration::from_secs(1) };
    let limits = Limits { requests: LimitSetting::Set(rate), ..Limits::default() };
    let registry = server.registry_as(Options { limits, ..plain() });
    let repository = registry.repository("a/b".parse().unwrap());
    let began = Instant::now();
    let reference = manifest_ref();
    let all = join_all((0..30).map(|_| repository.resolve(&reference))).await;
    assert!(all.iter().all(Result::is_ok));
    // The client sends two requests without a wait, then 19 requests per second.
    assert!(began.elapsed() >= Duration::from_millis(28 * 1000 / 19 - 60), "{:?}", began.elapsed());
}

#[tokio::test]
async fn blob_read_holds_its_permit_and_leaves_one() {
    let server = Server::start(|request| match request.method.as_str() {
        "GET" => answer(200, &[], noise(10_000)),
        _ => answer(404, &[], ""),
    })
    .await;
    let limits = Limits { concurrent: LimitSetting::Set(2), ..Limits::default() };
    let registry = server.registry_as(Options { limits, ..plain() });
    let repository = registry.repository("a/b".parse().unwrap());
    let content = blob(&noise(10_000));
    let first = repository.blob(&content, 0).await.unwrap();
    let second = tokio::spawn({
        let (repository, content) = (repository.clone(), content.clone());
        async move { repository.blob(&content, 0).await.map(drop) }
    });
    for _ in 0..3 {
        repository.resolve(&manifest_ref()).await.unwrap();
    }
    assert_eq!(server.count("GET"), 1);
    drop(first);
    second.await.unwrap().unwrap();
    assert_eq!(server.count("GET"), 2);
}

#[tokio::test]
async fn token_expired_before_streamed_upload_is_transient_failure() {
    let server = Server::start(|request| match (request.path.starts_with("/token"), request.method.as_str()) {
        (true, _) => answer(200, &[], format!(r#"{{"token":"t{}"}}"#, request.nth)),
        (_, "POST") if request.header("authorization").is_some() => answer(202, &[("location", "/session")], ""),
        (_, "PUT") if request.header("authorization") > Some("Bearer t1") => answer(201, &[], ""),
        _ => answer(401, &[("www-authenticate", &format!("Bearer realm=\"{}/token\"", request.own))], ""),
    })
    .await;
    let repository = server.repository();
    let content = noise(300_000);
    let error = session(&repository, &content).await.unwrap().send(verified(&content)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    session(&repository, &content).await.unwrap().send(verified(&content)).await.unwrap();
}

#[tokio::test]
async fn open_upload_finishes_before_a_waiting_read() {
    for size in [1000, 300_000] {
        let server = Server::start(|request| match request.method.as_str() {
            "POST" => answer(202, &[("location", "/session")], ""),
            "PUT" => answer(201, &[], ""),
            _ => answer(404, &[], ""),
        })
        .await;
        let limits = Limits { concurrent: LimitSetting::Set(1), ..Limits::default() };
        let registry = server.registry_as(Options { limits, ..plain() });
        let repository = registry.repository("a/b".parse().unwrap());
        let content = noise(size);
        let session = session(&repository, &content).await.unwrap();
        let held = registry.sender().limiter.enter(Tenant::default(), RequestClass::Common, Class::Read).await;
        let reference = manifest_ref();
        let (mut resolving, mut sending) = (repository.resolve(&reference), session.send(verified(&content)));
        assert!(poll!(&mut resolving).is_pending() && poll!(&mut sending).is_pending());
        drop(held);
        let (found, sent) = tokio::join!(resolving, sending);
        assert_eq!((found.unwrap(), sent.unwrap()), (None, ()));
        let methods: Vec<String> = server.requests().iter().map(|request| request.method.to_string()).collect();
        assert_eq!(methods, ["POST", "PUT", "HEAD"]);
    }
}
