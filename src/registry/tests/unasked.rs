//! Registries that serve everybody and show more to a login: they never ask for it.

use futures_util::TryStreamExt as _;

use super::scripted::{Asked, Server, answer, blob, me, plain, refusal, session};
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

/// Shows `public/…` to everybody, and `hidden/…` to whoever shows `MINE`; refuses other logins.
fn hiding(asked: &Asked) -> axum::response::Response {
    let known = match asked.header("authorization") {
        None => false,
        Some(shown) if shown == MINE => true,
        Some(_) => return answer(401, &[], ""),
    };
    match asked.path.as_str() {
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
async fn a_catalog_is_read_with_the_configured_credentials_from_the_first_page() {
    let server = Server::start(hiding).await;
    let names = |registry: std::sync::Arc<Registry>| async move {
        registry.catalog().map_ok(|name| name.to_string()).try_collect::<Vec<_>>().await.unwrap()
    };
    assert_eq!(names(server.registry_as(me())).await, ["hidden/a", "public/a"]);
    assert_eq!(server.lines(), ["GET /v2/", "GET /v2/_catalog?n=1000"]);
    assert_eq!(names(server.registry()).await, ["public/a"]);
}

#[tokio::test]
async fn a_repository_hidden_as_404_is_asked_for_again_with_credentials() {
    let server = Server::start(hiding).await;
    let registry = server.registry_as(me());
    assert!(resolve(&registry, "public/a").await.unwrap());
    assert_eq!(server.asked()[0].header("authorization"), None, "what is open needs no login");
    assert!(!registry.has_proven_login());
    assert!(resolve(&registry, "hidden/a").await.unwrap());
    assert!(registry.has_proven_login());
    let lines = ["HEAD /v2/public/a/manifests/latest", "HEAD /v2/hidden/a/manifests/latest", "GET /v2/"];
    assert_eq!(server.lines(), [&lines[..], &lines[1..2]].concat());
    // From then on every request has them: nothing is asked twice.
    assert!(!resolve(&registry, "hidden/none").await.unwrap());
    assert_eq!((server.asked()[4].header("authorization"), server.asked().len()), (Some(MINE), 5));
}

#[tokio::test]
async fn a_login_is_proven_by_what_is_refused_without_it() {
    let server = Server::start(|asked| match asked.path.as_str() {
        path if path.contains("/tags/list")
            && (path.contains("public") || asked.header("authorization") == Some(MINE)) =>
        {
            answer(200, &[], r#"{"tags":["latest"]}"#)
        }
        _ => hiding(asked),
    })
    .await;
    let registry = server.registry_as(me());
    assert_eq!(registry.catalog().try_collect::<Vec<_>>().await.unwrap().len(), 2);
    let [public, hidden] = ["public/a", "hidden/a"].map(|name| registry.repository(name.parse().unwrap()));
    assert!(hidden.may_pull().await.unwrap().exists && !registry.has_proven_login(), "it may take anything");
    assert!(!public.proves_login().await && !registry.has_proven_login());
    assert!(hidden.proves_login().await && registry.has_proven_login());
}

#[tokio::test]
async fn a_refusal_without_a_challenge_is_answered_with_credentials() {
    for status in [401, 403, 404] {
        let server = Server::start(move |asked| match asked.header("authorization") {
            _ if asked.path == "/v2/" => answer(200, &[], "{}"),
            Some(MINE) if asked.method == "POST" => answer(202, &[("location", "/session")], ""),
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
async fn a_challenge_of_the_api_tells_how_to_show_the_credentials() {
    let server = Server::start(|asked| match asked.header("authorization") {
        _ if asked.path.starts_with("/token") => answer(200, &[], r#"{"token":"good"}"#),
        Some("Bearer good") => image(),
        _ if asked.path == "/v2/" => {
            let challenge = format!(r#"Bearer realm="{}/token",service="s""#, asked.own);
            answer(401, &[("www-authenticate", &challenge)], "")
        }
        _ => answer(404, &[], ""),
    })
    .await;
    assert!(resolve(&server.registry_as(me()), "a/b").await.unwrap());
    let shown: Vec<_> =
        server.asked().iter().filter(|asked| asked.header("authorization") == Some(MINE)).cloned().collect();
    assert_eq!(
        shown.iter().map(Asked::line).collect::<Vec<_>>(),
        ["GET /token?service=s&scope=repository%3Aa%2Fb%3Apull"]
    );
}

#[tokio::test]
async fn a_wrong_password_shown_unasked_is_denied_and_shown_once_a_minute() {
    let server = Server::start(hiding).await;
    let password = Secret::Value("wrong".to_owned().into());
    let credentials = Some(Credentials::Password { username: "me".into(), password });
    let registry = server.registry_as(Options { credentials, ..plain() });
    for _ in 0..3 {
        assert_eq!(resolve(&registry, "hidden/a").await.unwrap_err().kind, ErrorKind::Denied);
        assert!(resolve(&registry, "public/a").await.unwrap(), "what is open stays open");
    }
    let shown = server.asked().iter().filter(|asked| asked.header("authorization").is_some()).count();
    assert_eq!(shown, 1);
    let Err(LoginError::Registry(error)) = registry.log_in(true).await else { panic!("it was let in") };
    assert_eq!(error.kind, ErrorKind::Denied);
}

#[tokio::test]
async fn an_open_registry_is_shown_credentials_once_they_are_needed_and_proves_nothing() {
    let server =
        Server::start(|asked| if asked.path == "/v2/" { answer(200, &[], "") } else { answer(404, &[], "") }).await;
    let registry = server.registry_as(me());
    for _ in 0..3 {
        assert!(!resolve(&registry, "a/b").await.unwrap());
    }
    assert_eq!((server.count("HEAD"), server.count("GET /v2/")), (4, 1), "{:?}", server.lines());
    assert_eq!(registry.log_in(false).await.unwrap(), LetIn::Unasked);
}

#[tokio::test]
async fn a_host_without_an_entry_of_dockers_is_asked_once_and_anonymously() {
    let server = Server::start(|_| answer(404, &[], "")).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    std::fs::write(&file, r#"{"auths": {"other.example": {"auth": "bWU6aHVudGVyMg=="}}}"#).unwrap();
    let config = DockerConfig { files: vec![file], required: false, namespace: None };
    let registry = server.registry_as(Options { credentials: Some(Credentials::DockerConfig(config)), ..plain() });
    assert!(!resolve(&registry, "a/b").await.unwrap());
    assert!(!registry.repository("a/b".parse().unwrap()).has_blob(&blob(b"x")).await.unwrap());
    assert_eq!(server.lines().len(), 2);
    assert!(server.asked().iter().all(|asked| asked.header("authorization").is_none()));
}

#[tokio::test]
async fn a_login_that_cannot_be_had_leaves_the_anonymous_answer() {
    let server = Server::start(hiding).await;
    let env = Vec::new();
    let helper = Credentials::Helper { name: "not-installed-here".into(), env };
    let registry = server.registry_as(Options { credentials: Some(helper), ..plain() });
    assert!(!resolve(&registry, "hidden/a").await.unwrap());
    // A catalog would be shorter than it is.
    let error = registry.catalog().try_collect::<Vec<_>>().await.unwrap_err();
    assert!(error.detail.contains("docker-credential-not-installed-here is not installed"), "{error}");
}
