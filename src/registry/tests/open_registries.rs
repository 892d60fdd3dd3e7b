//! Tests of registries that accept anonymous requests and never request credentials, but show more content to an
//! authenticated user.

use futures_util::TryStreamExt as _;

use super::scripted::{Received, Server, answer, blob, me, plain, refusal, session};
use crate::oci::ManifestRef;
use crate::registry::{Credentials, DockerConfig, LetIn, LoginError, Options, Registry, Secret};
use crate::store::{ErrorKind, Source as _, StoreError, Target as _};

const MINE: &str = "Basic bWU6aHVudGVyMg==";

fn latest() -> ManifestRef {
    ManifestRef::Tag("latest".parse().unwrap())
}

async fn resolve(registry: &std::sync::Arc<Registry>, name: &str) -> Result<bool, StoreError> {
    registry.repository(name.parse().unwrap()).resolve(&latest()).await.map(|found| found.is_some())
}

fn image() -> axum::response::Response {
    let digest = crate::oci::Digest::of(b"x").to_string();
    let kind = "application/vnd.oci.image.manifest.v1+json";
    answer(200, &[("content-type", kind), ("docker-content-digest", &digest), ("content-length", "1")], "")
}

/// Answers like a registry that shows `public/…` to all clients, and `hidden/…` only to requests with `MINE`. The
/// registry refuses other logins.
fn hiding(request: &Received) -> axum::response::Response {
    let known = match request.header("authorization") {
        None => false,
        Some(shown) if shown == MINE => true,
        Some(_) => return answer(401, &[], ""),
    };
    match request.path.as_str() {
        "/v2/" => answer(200, &[], "{}"),
        path if path.starts_with("/v2/_catalog") && known => {
            answer(200, &[], r#"{"repositories":["hidden/a","public/a"]}"#)
        }
        path if path.starts_with("/v2/_catalog") => answer(200, &[], r#"{"repositories":["public/a"]}"#),
        path if path.starts_with("/v2/public/a/manifests") => image(),
        path if path.starts_with("/v2/hidden/a/manifests") && known => image(),
        _ => refusal(404, "NAME_UNKNOWN"),
    }
}

#[tokio::test]
async fn catalog_is_read_with_credentials_from_first_page() {
    let server = Server::start(hiding).await;
    let names = |registry: std::sync::Arc<Registry>| async move {
        registry.catalog().map_ok(|name| name.to_string()).try_collect::<Vec<_>>().await.unwrap()
    };
    assert_eq!(names(server.registry_as(me())).await, ["hidden/a", "public/a"]);
    assert_eq!(server.lines(), ["GET /v2/", "GET /v2/_catalog?n=1000"]);
    assert_eq!(names(server.registry()).await, ["public/a"]);
}

#[tokio::test]
async fn hidden_repository_is_requested_again_with_credentials() {
    let server = Server::start(hiding).await;
    let registry = server.registry_as(me());
    assert!(resolve(&registry, "public/a").await.unwrap());
    assert_eq!(server.requests()[0].header("authorization"), None, "an open repository needs no login");
    assert!(!registry.has_proven_login());
    assert!(resolve(&registry, "hidden/a").await.unwrap());
    assert!(registry.has_proven_login());
    let lines = ["HEAD /v2/public/a/manifests/latest", "HEAD /v2/hidden/a/manifests/latest", "GET /v2/"];
    assert_eq!(server.lines(), [&lines[..], &lines[1..2]].concat());
    // All later requests have the credentials, and no request is sent twice.
    assert!(!resolve(&registry, "hidden/none").await.unwrap());
    assert_eq!((server.requests()[4].header("authorization"), server.requests().len()), (Some(MINE), 5));
}

#[tokio::test]
async fn login_is_proven_by_refusal_without_it() {
    let server = Server::start(|request| match request.path.as_str() {
        path if path.contains("/tags/list")
            && (path.contains("public") || request.header("authorization") == Some(MINE)) =>
        {
            answer(200, &[], r#"{"tags":["latest"]}"#)
        }
        _ => hiding(request),
    })
    .await;
    let registry = server.registry_as(me());
    assert_eq!(registry.catalog().try_collect::<Vec<_>>().await.unwrap().len(), 2);
    let [public, hidden] = ["public/a", "hidden/a"].map(|name| registry.repository(name.parse().unwrap()));
    assert!(
        hidden.check_pull().await.unwrap().exists && !registry.has_proven_login(),
        "the registry may accept any login"
    );
    assert!(!public.proves_login().await && !registry.has_proven_login());
    assert!(hidden.proves_login().await && registry.has_proven_login());
}

#[tokio::test]
async fn refusal_without_challenge_is_repeated_with_credentials() {
    for status in [401, 403, 404] {
        let server = Server::start(move |request| match request.header("authorization") {
            _ if request.path == "/v2/" => answer(200, &[], "{}"),
            Some(MINE) if request.method == "POST" => answer(202, &[("location", "/session")], ""),
            Some(MINE) => image(),
            _ => answer(status, &[], ""),
        })
        .await;
        assert!(resolve(&server.registry_as(me()), "a/b").await.unwrap(), "{status}");
        let registry = server.registry_as(me());
        session(&registry.repository("a/b".parse().unwrap()), b"x").await.unwrap();
        let error = server.repository().manifest(&latest()).await.unwrap_err();
        assert_eq!(error.kind, if status == 404 { ErrorKind::NotFound } else { ErrorKind::Denied });
    }
}

#[tokio::test]
async fn api_challenge_determines_scheme_of_unrequested_credentials() {
    let server = Server::start(|request| match request.header("authorization") {
        _ if request.path.starts_with("/token") => answer(200, &[], r#"{"token":"good"}"#),
        Some("Bearer good") => image(),
        _ if request.path == "/v2/" => {
            let challenge = format!(r#"Bearer realm="{}/token",service="s""#, request.own);
            answer(401, &[("www-authenticate", &challenge)], "")
        }
        _ => answer(404, &[], ""),
    })
    .await;
    assert!(resolve(&server.registry_as(me()), "a/b").await.unwrap());
    let shown: Vec<_> =
        server.requests().iter().filter(|request| request.header("authorization") == Some(MINE)).cloned().collect();
    assert_eq!(
        shown.iter().map(Received::line).collect::<Vec<_>>(),
        ["GET /token?service=s&scope=repository%3Aa%2Fb%3Apull"]
    );
}

#[tokio::test]
async fn wrong_unrequested_password_is_sent_once_a_minute() {
    let server = Server::start(hiding).await;
    let password = Secret::Value("wrong".to_owned().into());
    let credentials = Some(Credentials::Password { username: "me".into(), password });
    let registry = server.registry_as(Options { credentials, ..plain() });
    for _ in 0..3 {
        assert_eq!(resolve(&registry, "hidden/a").await.unwrap_err().kind, ErrorKind::Denied);
        assert!(resolve(&registry, "public/a").await.unwrap(), "an open repository stays open");
    }
    let shown = server.requests().iter().filter(|request| request.header("authorization").is_some()).count();
    assert_eq!(shown, 1);
    let Err(LoginError::Registry(error)) = registry.log_in(true).await else { panic!("the login succeeded") };
    assert_eq!(error.kind, ErrorKind::Denied);
}

#[tokio::test]
async fn open_registry_gets_credentials_but_proves_no_login() {
    let server =
        Server::start(|request| if request.path == "/v2/" { answer(200, &[], "") } else { answer(404, &[], "") }).await;
    let registry = server.registry_as(me());
    for _ in 0..3 {
        assert!(!resolve(&registry, "a/b").await.unwrap());
    }
    assert_eq!((server.count("HEAD"), server.count("GET /v2/")), (4, 1), "{:?}", server.lines());
    assert_eq!(registry.log_in(false).await.unwrap(), LetIn::Unasked);
}

#[tokio::test]
async fn host_without_docker_entry_gets_one_anonymous_request() {
    let server = Server::start(|_| answer(404, &[], "")).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    std::fs::write(&file, r#"{"auths": {"other.example": {"auth": "bWU6aHVudGVyMg=="}}}"#).unwrap();
    let config = DockerConfig { files: vec![file], required: false, namespace: None };
    let registry = server.registry_as(Options { credentials: Some(Credentials::DockerConfig(config)), ..plain() });
    assert!(!resolve(&registry, "a/b").await.unwrap());
    assert!(!registry.repository("a/b".parse().unwrap()).has_blob(&blob(b"x")).await.unwrap());
    assert_eq!(server.lines().len(), 2);
    assert!(server.requests().iter().all(|request| request.header("authorization").is_none()));
}

#[tokio::test]
async fn failing_login_source_leaves_the_anonymous_answer() {
    let server = Server::start(hiding).await;
    let env = Vec::new();
    let helper = Credentials::Helper { name: "not-installed-here".into(), env };
    let registry = server.registry_as(Options { credentials: Some(helper), ..plain() });
    assert!(!resolve(&registry, "hidden/a").await.unwrap());
    // Without the login, the catalog would be incomplete.
    let error = registry.catalog().try_collect::<Vec<_>>().await.unwrap_err();
    assert!(error.detail.contains("docker-credential-not-installed-here is not installed"), "{error}");
}
