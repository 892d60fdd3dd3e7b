//! Tests of counted reads: the reads that are sent, the reads that are withheld, and the reads that wait for other
//! reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use axum::response::Response;
use chrono::Utc;
use futures_util::future::join_all;

use super::scripted::{Received, Server, answer, me, plain, refusal};
use crate::oci::{Digest, Manifest, ManifestRef, MediaType};
use crate::registry::{Credentials, Limits, MirrorHealth, Mirrored, Options, QuotaState, Repository};
use crate::store::{ErrorKind, Source as _, StoreError};

const BODY: &str = r#"{"schemaVersion":2}"#;

fn tag(name: &str) -> ManifestRef {
    ManifestRef::Tag(name.parse().unwrap())
}

/// Returns a response with the manifest and a report of the remaining reads.
fn counted(remaining: i64) -> Response {
    limited("100;w=21600", &format!("{remaining};w=21600"))
}

fn limited(limit: &str, remaining: &str) -> Response {
    let digest = Digest::of(BODY.as_bytes()).to_string();
    let headers = [
        ("content-type", MediaType::OCI_MANIFEST),
        ("docker-content-digest", digest.as_str()),
        ("ratelimit-limit", limit),
        ("ratelimit-remaining", remaining),
    ];
    answer(200, &headers, BODY)
}

/// Returns an earlier report of the quota at this server.
fn earlier_report(server: &Server, remaining: u64) -> QuotaState {
    QuotaState {
        registry: server.host.parse().unwrap(),
        identity: "anonymous".into(),
        limit: 100,
        window: Duration::from_secs(21_600),
        remaining,
        reserved: 0,
        reported: Utc::now(),
    }
}

/// Answers like a registry with this number of remaining reads.
fn with_remaining(remaining_reads: i64) -> impl Fn(&Received) -> Response + Send + Sync + 'static {
    let remaining_reads = AtomicI64::new(remaining_reads);
    move |request| match request.method.as_str() {
        "GET" => match remaining_reads.fetch_sub(1, Ordering::SeqCst) - 1 {
            remaining if remaining >= 0 => counted(remaining),
            _ => answer(429, &[("retry-after", "21600")], "You have reached your pull rate limit."),
        },
        _ => counted(remaining_reads.load(Ordering::SeqCst)),
    }
}

async fn read_many(repository: &Repository, count: usize) -> Vec<Result<Manifest, StoreError>> {
    let reads = (0..count).map(|nth| async move { repository.manifest(&tag(&format!("v{nth}"))).await });
    join_all(reads).await
}

#[tokio::test]
async fn first_read_goes_alone_and_its_report_bounds_others() {
    let server = Server::start(with_remaining(4)).await;
    let read = read_many(&server.repository(), 20).await;
    assert_eq!(read.iter().filter(|read| read.is_ok()).count(), 4);
    assert_eq!((server.count("GET"), server.count("HEAD")), (4, 0));
    for error in read.into_iter().filter_map(Result::err) {
        assert_eq!(error.kind, ErrorKind::QuotaSpent(Duration::from_secs(1800)));
        let expected = format!("the pull limit of {} leaves 0 of 100 pulls per 6h (reported ", server.host);
        assert!(error.detail.starts_with(&expected), "{error}");
    }
}

#[tokio::test]
async fn first_read_goes_alone_until_it_is_authenticated() {
    let hub = with_remaining(3);
    let server = Server::start(move |request| match request.path.as_str() {
        path if path.starts_with("/token") => answer(200, &[], r#"{"token":"good"}"#),
        _ if request.header("authorization") == Some("Bearer good") => hub(request),
        _ => answer(401, &[("www-authenticate", &format!("Bearer realm=\"{}/token\"", request.own))], ""),
    })
    .await;
    let repository = server.registry_as(me()).repository("a/b".parse().unwrap());
    let read = read_many(&repository, 20).await;
    assert_eq!(read.iter().filter(|read| read.is_ok()).count(), 3);
    assert_eq!(server.count("GET /v2"), 1 + 3, "one read has no token");
}

#[tokio::test]
async fn recalled_quota_is_checked_by_one_head_first() {
    let server = Server::start(with_remaining(2)).await;
    let limits = Limits { reserve_pulls: 1, ..Limits::default() };
    let registry = server.registry_as(Options { limits, ..plain() });
    let state = earlier_report(&server, 50);
    registry.recall_quota(&QuotaState { identity: "somebody else".into(), ..state.clone() });
    assert_eq!(registry.quota(), None);
    registry.recall_quota(&state);
    let read = read_many(&registry.repository("a/b".parse().unwrap()), 20).await;
    assert_eq!(read.iter().filter(|read| read.is_ok()).count(), 1);
    assert_eq!((server.count("HEAD"), server.count("GET")), (1, 1));
    let quota = registry.quota().unwrap();
    assert_eq!((quota.remaining, quota.reserved, quota.limit), (1, 1, 100));
    let error = read.into_iter().find_map(Result::err).unwrap();
    assert!(error.detail.contains(" leaves 1 of 100 pulls per 6h, of which 1 are reserved (reported "), "{error}");
}

#[tokio::test]
async fn spent_quota_429_fails_at_once_and_delays_nothing() {
    let server = Server::start(|request| match (request.method.as_str(), request.path.contains("/blobs/")) {
        ("HEAD", false) => counted(50),
        ("GET", _) => answer(429, &[("retry-after", "21600"), ("content-type", "text/plain")], "Too Many Requests"),
        _ => answer(404, &[], ""),
    })
    .await;
    let repository = server.repository();
    repository.resolve(&tag("v1")).await.unwrap();
    for _ in 0..2 {
        let error = repository.manifest(&tag("v1")).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::QuotaSpent(Duration::from_secs(1800)));
    }
    assert_eq!(server.count("GET"), 1);
    repository.resolve(&tag("v2")).await.unwrap();
    assert_eq!(repository.manifest_reads_left(), Some(50), "the registry's own report has precedence");
}

#[tokio::test]
async fn rate_limit_429_is_repeated_after_its_pause() {
    let server = Server::start(|request| match request.nth {
        0 => counted(9),
        1 => answer(429, &[("retry-after", "0")], "Too Many Requests"),
        _ => counted(8),
    })
    .await;
    let repository = server.repository();
    repository.resolve(&tag("v1")).await.unwrap();
    repository.manifest(&tag("v1")).await.unwrap();
    assert_eq!(repository.manifest_reads_left(), Some(8));
}

#[tokio::test]
async fn reserved_reads_stay_available_for_their_manifests() {
    let digest = Digest::of(BODY.as_bytes());
    let server = Server::start(with_remaining(4)).await;
    let repository = server.repository();
    repository.manifest(&tag("v1")).await.unwrap();
    let reserved = repository.reserve_manifest_reads(&[digest, Digest::of(b"another")]).await.unwrap();
    repository.manifest(&tag("v2")).await.unwrap();
    let error = repository.manifest(&tag("v3")).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::QuotaSpent(_)), "{error}");
    let more = [digest, Digest::of(b"another")];
    let error = repository.reserve_manifest_reads(&more).await.err().unwrap();
    let expected =
        format!("2 more manifests must be read, and the pull limit of {} leaves 2 of 100 pulls per 6h", server.host);
    assert!(error.detail.starts_with(&expected), "{error}");
    repository.manifest(&digest.into()).await.unwrap();
    assert_eq!(repository.manifest_reads_left(), Some(0), "the group of three that did not fit has precedence");
    drop(reserved);
    repository.manifest(&digest.into()).await.unwrap_err();
}

#[tokio::test]
async fn registry_without_quota_gets_no_additional_requests() {
    let server = Server::start(|_| refusal(404, "MANIFEST_UNKNOWN")).await;
    let repository = server.repository();
    let read = read_many(&repository, 5).await;
    assert!(read.into_iter().all(|read| read.unwrap_err().kind == ErrorKind::NotFound));
    assert_eq!((server.count("GET"), server.count("HEAD")), (5, 0));
    assert_eq!((repository.counts_manifest_reads(), repository.manifest_reads_left()), (false, Some(u64::MAX)));
}

#[tokio::test]
async fn ratelimit_headers_of_other_windows_are_no_quota() {
    for limit in ["5", "5;w=60", "5;w=2678400"] {
        let server = Server::start(|_| limited(limit, "0")).await;
        let registry = server.registry();
        let read = read_many(&registry.repository("a/b".parse().unwrap()), 5).await;
        assert!(read.iter().all(Result::is_ok), "{limit}");
        assert_eq!((registry.quota(), server.count("HEAD")), (None, 0), "{limit}");
    }
}

#[tokio::test]
async fn long_refusal_of_a_head_delays_nothing_else() {
    let server = Server::start(|request| match request.method.as_str() {
        "HEAD" => answer(429, &[("retry-after", "3600")], ""),
        _ => counted(50),
    })
    .await;
    let registry = server.registry();
    let repository = registry.repository("a/b".parse().unwrap());
    repository.manifest(&tag("v1")).await.unwrap();
    let head = tokio::time::timeout(Duration::from_secs(30), repository.resolve(&tag("v1"))).await;
    let error = head.expect("the answer comes at once").unwrap_err();
    assert_eq!(error.kind, ErrorKind::QuotaSpent(Duration::from_secs(1800)));
    assert!(!registry.sender().limiter.is_paused());
    assert_eq!(server.count("HEAD"), 1);
}

#[tokio::test]
async fn uncounted_read_stays_reserved() {
    let (hub, denies) = (with_remaining(3), Arc::new(AtomicBool::default()));
    let denying = Arc::clone(&denies);
    let server = Server::start(move |request| match denying.load(Ordering::SeqCst) {
        true => answer(401, &[], ""),
        false => hub(request),
    })
    .await;
    let (repository, digest) = (server.repository(), Digest::of(BODY.as_bytes()));
    repository.manifest(&tag("v1")).await.unwrap();
    let _reserved = repository.reserve_manifest_reads(&[digest, Digest::of(b"another")]).await.unwrap();
    denies.store(true, Ordering::SeqCst);
    repository.manifest(&digest.into()).await.unwrap_err();
    denies.store(false, Ordering::SeqCst);
    let error = repository.manifest(&tag("v2")).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::QuotaSpent(_)), "{error}");
    repository.manifest(&digest.into()).await.unwrap();
}

#[tokio::test]
async fn shared_manifest_keeps_one_read_per_reservation() {
    let digest = Digest::of(BODY.as_bytes());
    let server = Server::start(with_remaining(4)).await;
    let repository = server.repository();
    repository.manifest(&tag("v1")).await.unwrap();
    let one = repository.reserve_manifest_reads(&[digest]).await.unwrap();
    let two = repository.reserve_manifest_reads(&[digest, Digest::of(b"another")]).await.unwrap();
    repository.manifest(&digest.into()).await.unwrap();
    drop(one);
    let error = repository.manifest(&tag("v2")).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::QuotaSpent(_)), "{error}");
    repository.manifest(&digest.into()).await.unwrap();
    drop(two);
    repository.manifest(&tag("v2")).await.unwrap();
}

#[tokio::test]
async fn recalled_mirror_quota_is_checked_once() {
    let origin = Server::start(with_remaining(9)).await;
    let mirror = Server::start(|_| answer(500, &[], "")).await;
    let copy = mirror.registry();
    copy.recall_quota(&earlier_report(&mirror, 5));
    let copy = copy.repository("hub/a/b".parse().unwrap());
    let name = format!("{}/hub", mirror.host).parse().unwrap();
    let source = Mirrored::new(origin.repository(), vec![(name, copy)], Arc::<MirrorHealth>::default());
    source.manifest(&Digest::of(BODY.as_bytes()).into()).await.unwrap();
    assert_eq!((mirror.count("HEAD"), mirror.count("GET")), (1, 1));
}

#[tokio::test]
async fn quota_reports_the_identity_that_was_resolved() {
    let hub = with_remaining(3);
    let server = Server::start(move |request| match request.header("authorization") {
        Some(_) => hub(request),
        None => answer(401, &[("www-authenticate", "Basic realm=\"x\"")], ""),
    })
    .await;
    let line = vec!["echo".to_owned(), "bot:hunter2".to_owned()];
    let credentials = Some(Credentials::Command { line, username: None, env: Vec::new() });
    let registry = server.registry_as(Options { credentials, ..plain() });
    registry.repository("a/b".parse().unwrap()).manifest(&tag("v1")).await.unwrap();
    assert_eq!(registry.quota().unwrap().identity, "bot");
}
