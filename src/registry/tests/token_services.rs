//! Tests of token services: the services that get requests, the requested scopes, and the services that get
//! credentials.

use std::sync::Arc;

use super::scripted::{Server, answer, blob, me, plain, quick, refusal};
use crate::oci::ManifestRef;
use crate::registry::http::resolver::Lookup;
use crate::registry::{Options, Registry, TokenService, Transport};
use crate::store::{ErrorKind, Source as _, StoreError, Target as _};

/// Starts a token service that accepts every request.
async fn tokens() -> Server {
    Server::start(|_| answer(200, &[], r#"{"token":"good"}"#)).await
}

/// Starts a registry that requires tokens of the service at this address.
async fn registry_of(realm: String) -> Server {
    Server::start(move |request| match request.header("authorization") {
        Some("Bearer good") => answer(404, &[], ""),
        _ => answer(401, &[("www-authenticate", &format!(r#"Bearer realm="{realm}",service="s""#))], ""),
    })
    .await
}

async fn resolve(server: &Server, options: Options, lookup: Lookup) -> Result<(), StoreError> {
    let registry: Arc<Registry> =
        Registry::with_lookup(server.host.parse().unwrap(), options, quick(), lookup).unwrap();
    let tag = ManifestRef::Tag("latest".parse().unwrap());
    registry.repository("a/b".parse().unwrap()).resolve(&tag).await.map(drop)
}

fn port(server: &Server) -> &str {
    server.host.rsplit_once(':').unwrap().1
}

#[tokio::test]
async fn token_service_name_beside_registry_gets_the_request() {
    let tokens = tokens().await;
    let server = registry_of(format!("http://tokens.example:{}/token", port(&tokens))).await;
    resolve(&server, plain(), Lookup::fixed(&[("tokens.example", &["127.0.0.1"])])).await.unwrap();
    assert_eq!(tokens.lines().len(), 1);
}

#[tokio::test]
async fn token_service_name_with_private_address_is_refused() {
    type Known = &'static [(&'static str, &'static [&'static str])];
    let table: [(Known, &str); 3] = [
        (&[("tokens.example", &["169.254.169.254"])], "169.254.169.254, a link-local address"),
        (&[("tokens.example", &["168.63.129.16"])], "168.63.129.16, a metadata service"),
        (&[("tokens.example", &["10.0.0.1"])], "10.0.0.1, a private address"),
    ];
    for (known, what) in table {
        let server = registry_of("http://tokens.example:9/token".to_owned()).await;
        let error = resolve(&server, plain(), Lookup::fixed(known)).await.unwrap_err();
        let expected = format!("the token service tokens.example has the address {what}: ");
        assert!(error.detail.contains(&expected), "{error}");
        assert_eq!(server.lines().len(), 1);
    }
    let server = registry_of("http://10.0.0.1:9/token".to_owned()).await;
    let error = resolve(&server, plain(), Lookup::fixed(&[])).await.unwrap_err();
    assert!(error.detail.contains("a token service at http://10.0.0.1:9/token, a private address"), "{error}");
}

#[tokio::test]
async fn token_service_redirect_to_private_address_is_refused() {
    for to in ["http://10.0.0.1:9/x", "http://meta.example:9/x"] {
        let tokens = Server::start(move |_| answer(307, &[("location", to)], "")).await;
        let server = registry_of(format!("http://{}/token", tokens.host)).await;
        let known = Lookup::fixed(&[("meta.example", &["169.254.169.254"])]);
        let error = resolve(&server, me(), known).await.unwrap_err();
        assert!(error.detail.contains("10.0.0.1") || error.detail.contains("169.254.169.254"), "{error}");
        assert_eq!(tokens.lines().len(), 1);
    }
}

#[tokio::test]
async fn plain_http_realm_elsewhere_gets_credentials_only_if_named() {
    let tokens = tokens().await;
    let server = registry_of(format!("http://tokens.example:{}/token", port(&tokens))).await;
    let known = || Lookup::fixed(&[("tokens.example", &["127.0.0.1"])]);
    let error = resolve(&server, me(), known()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused);
    let expected = format!(
        "the registry speaks plain HTTP and names a token service on another host, http://tokens.example:{}/token: \
         no credentials are sent to it, unless `token_service` of the registry names it",
        port(&tokens)
    );
    assert_eq!((error.detail, tokens.lines().len()), (expected, 0));
    // A loopback address by another name counts as the same host.
    let server = registry_of(format!("http://localhost:{}/token", port(&tokens))).await;
    let tokens_by_name = resolve(&server, me(), Lookup::fixed(&[("localhost", &["127.0.0.1"])])).await;
    assert!(tokens_by_name.is_ok(), "{tokens_by_name:?}");
    let with = |service: &str| {
        let token_service = Some(service.parse::<TokenService>().unwrap());
        Options { transport: Transport { token_service, ..Transport::default() }, ..me() }
    };
    let server = registry_of(format!("http://127.0.0.1:{}/token", port(&tokens))).await;
    resolve(&server, with("127.0.0.1"), Lookup::fixed(&[])).await.unwrap();
    let mine = tokens.requests().iter().filter(|request| request.header("authorization").is_some()).count();
    assert_eq!(mine, 2);
}

#[tokio::test]
async fn target_is_read_with_push_token_from_start() {
    let server = Server::start(|request| match request.header("authorization") {
        _ if request.path.starts_with("/token") => answer(200, &[], r#"{"token":"good"}"#),
        Some("Bearer good") => answer(404, &[], ""),
        _ => answer(401, &[("www-authenticate", &format!(r#"Bearer realm="{}/token""#, request.own))], ""),
    })
    .await;
    let target = server.registry_as(me()).repository("a/b".parse().unwrap()).for_writing();
    let tag = ManifestRef::Tag("latest".parse().unwrap());
    target.resolve(&tag).await.unwrap();
    target.has_blob(&blob(b"x")).await.unwrap();
    let tokens: Vec<_> = server.lines().into_iter().filter(|line| line.contains("/token")).collect();
    assert_eq!(tokens, ["GET /token?scope=repository%3Aa%2Fb%3Apull%2Cpush"]);
}

#[tokio::test]
async fn login_without_push_right_still_reads_target() {
    let server = Server::start(|request| match request.header("authorization") {
        _ if request.path.contains("push") => refusal(403, "DENIED"),
        _ if request.path.starts_with("/token") => answer(200, &[], r#"{"token":"good"}"#),
        Some("Bearer good") => answer(404, &[], ""),
        _ => answer(401, &[("www-authenticate", &format!(r#"Bearer realm="{}/token""#, request.own))], ""),
    })
    .await;
    let target = server.registry_as(me()).repository("a/b".parse().unwrap()).for_writing();
    let tag = ManifestRef::Tag("latest".parse().unwrap());
    for _ in 0..3 {
        assert_eq!(target.resolve(&tag).await.unwrap(), None);
    }
    let tokens = server.lines().into_iter().filter(|line| line.contains("/token")).count();
    assert_eq!(tokens, 2, "{:?}", server.lines());
    assert_eq!(target.begin_upload(&blob(b"x"), None).await.map(drop).unwrap_err().kind, ErrorKind::Denied);
}

#[tokio::test]
async fn refused_blob_lookup_counts_as_absent_at_targets_only() {
    let server = Server::start(|request| match request.method.as_str() {
        "POST" => answer(202, &[("location", "/session")], ""),
        _ => refusal(403, "DENIED"),
    })
    .await;
    let repository = server.repository();
    assert_eq!(repository.has_blob(&blob(b"x")).await.unwrap_err().kind, ErrorKind::Denied);
    assert!(!repository.for_writing().has_blob(&blob(b"x")).await.unwrap());
}
