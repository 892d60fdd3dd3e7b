//! Tests of a pause that a registry requests while another request waits to be sent.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::scripted::{Server, answer, me, noise, plain, session, verified};
use crate::oci::{Digest, ManifestRef};
use crate::registry::{Bandwidth, Bucket, Figure, Limits, Load, Options, Rate, Registry, Timeouts, Transport};
use crate::store::Source as _;

const SECOND: Duration = Duration::from_secs(1);

fn manifest_ref() -> ManifestRef {
    ManifestRef::Digest(Digest::of(b"x"))
}

#[tokio::test]
async fn request_waits_for_pause_that_began_during_token_fetch() {
    let registry: Arc<OnceLock<Arc<Registry>>> = Arc::default();
    let pause_began: Arc<OnceLock<Instant>> = Arc::default();
    let (shared, when) = (Arc::clone(&registry), Arc::clone(&pause_began));
    let server = Server::start(move |request| {
        if request.path.starts_with("/token") {
            // The pause begins as if another request had just got a 429.
            shared.get().unwrap().sender().limiter.pause(SECOND);
            when.get_or_init(Instant::now);
            return answer(200, &[], r#"{"token":"t"}"#);
        }
        match request.header("authorization") {
            Some(_) => answer(404, &[], ""),
            None => answer(401, &[("www-authenticate", &format!("Bearer realm=\"{}/token\"", request.own))], ""),
        }
    })
    .await;
    let registry = registry.get_or_init(|| server.registry_as(me()));
    registry.repository("a/b".parse().unwrap()).resolve(&manifest_ref()).await.unwrap();
    assert!(pause_began.get().unwrap().elapsed() >= SECOND);
    assert_eq!((server.count("GET /token"), server.count("HEAD")), (1, 2));
}

#[tokio::test]
async fn pause_of_registry_token_endpoint_applies_to_all_requests() {
    let server = Server::start(|request| match request.path.starts_with("/token") {
        true if request.nth == 1 => answer(429, &[("retry-after", "1")], ""),
        true => answer(200, &[], r#"{"token":"t"}"#),
        false if request.path.contains("open") || request.header("authorization").is_some() => answer(404, &[], ""),
        false => answer(401, &[("www-authenticate", &format!("Bearer realm=\"{}/token\"", request.own))], ""),
    })
    .await;
    let registry = server.registry_as(me());
    let began = Instant::now();
    let closed = tokio::spawn({
        let closed = registry.repository("a/b".parse().unwrap());
        async move { closed.resolve(&manifest_ref()).await }
    });
    while registry.meter().repeats == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    registry.repository("open".parse().unwrap()).resolve(&manifest_ref()).await.unwrap();
    assert!(began.elapsed() >= SECOND);
    closed.await.unwrap().unwrap();
}

#[tokio::test]
async fn upload_that_waits_for_a_pause_is_not_stalled() {
    let server = Server::start(|request| match request.method.as_str() {
        "POST" => answer(202, &[("location", "/session")], ""),
        _ => answer(201, &[], ""),
    })
    .await;
    let timeouts = Timeouts { idle: Some(SECOND), ..Timeouts::default() };
    let registry = server.registry_as(Options { transport: Transport { timeouts, ..Transport::default() }, ..plain() });
    let content = noise(300_000);
    let session = session(&registry.repository("a/b".parse().unwrap()), &content).await.unwrap();
    registry.sender().limiter.pause(2 * SECOND);
    session.send(verified(&content)).await.unwrap();
    assert_eq!(server.count("PUT"), 1);
}

#[test]
fn load_shows_limits_and_a_pause_in_force() {
    let per = Duration::from_secs(60);
    let mut limits =
        Limits { concurrent: Figure::Set(6), bandwidth: Some(Bandwidth::always(4096)), ..Limits::default() };
    *limits.figure_mut(Bucket::Writes) = Figure::Set(Rate { count: 10, per });
    let options = Options { limits: limits.clone(), ..Options::default() };
    let registry = Registry::new("a.example".parse().unwrap(), options).unwrap();
    let expected = Load {
        in_flight: 0,
        concurrent: 6,
        configured: 6,
        rates: vec![(Bucket::Writes, Rate { count: 10, per })],
        bandwidth: Some(4096),
        paused_for: None,
    };
    assert_eq!(registry.load(), expected);

    registry.sender().limiter.throttled(0);
    registry.sender().limiter.pause(per);
    registry.set_limits(&Limits { bandwidth: None, ..limits });
    let load = registry.load();
    assert_eq!((load.concurrent, load.configured, load.bandwidth), (3, 6, None));
    assert!(load.paused_for.is_some_and(|wait| wait <= per && wait > per / 2), "{load:?}");
    assert_eq!(registry.identity(), "anonymous");
}
