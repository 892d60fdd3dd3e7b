//! Tests of credentials: which servers receive credentials, and how many token requests the client sends.

use futures_util::future::join_all;
use std::io::Write as _;

use super::scripted::{Received, Server, answer, blob, me, plain, refusal, session};
use crate::oci::ManifestRef;
use crate::registry::{Azure, AzureIdentity, Credentials, LimitSetting, Limits, Options, Secret};
use crate::store::{ErrorKind, Source as _, Target as _};

fn latest() -> ManifestRef {
    ManifestRef::Tag("latest".parse().unwrap())
}

/// Answers like a registry that requires `Bearer good`, and issues this token at `/token`. The registry has no content,
/// and accepts all mounts.
fn with_tokens(request: &Received) -> axum::response::Response {
    if request.path.starts_with("/token") {
        return answer(200, &[], r#"{"access_token":"good","expires_in":300}"#);
    }
    if request.header("authorization") != Some("Bearer good") {
        let challenge = format!(r#"Bearer realm="{}/token",service="the service""#, request.own);
        return answer(401, &[("www-authenticate", "Negotiate"), ("www-authenticate", &challenge)], "");
    }
    if request.method == "POST" { answer(201, &[], "") } else { answer(404, &[], "") }
}

#[tokio::test]
async fn concurrent_first_requests_need_one_token() {
    let server = Server::start(with_tokens).await;
    let repository = server.repository();
    let tag = latest();
    let all = join_all((0..32).map(|_| repository.resolve(&tag))).await;
    assert!(all.into_iter().all(|found| found.unwrap().is_none()));
    assert_eq!(server.count("GET /token"), 1);
    assert_eq!(server.count("GET /v2/ "), 0);
    let token = server.requests().into_iter().find(|request| request.path.starts_with("/token")).unwrap();
    assert_eq!(token.path, "/token?service=the+service&scope=repository%3Aa%2Fb%3Apull");
    assert_eq!(token.header("authorization"), None);
}

/// Starts a registry and its token service. The token service issues tokens only to the user "you", and answers 429 to
/// other users.
async fn with_a_busy_token_service() -> (Server, Server) {
    let tokens = Server::start(|request| match request.header("authorization") {
        Some("Basic eW91OnNlY3JldA==") => answer(200, &[], r#"{"access_token":"good","expires_in":300}"#),
        _ => answer(429, &[("retry-after", "3600")], ""),
    })
    .await;
    let realm = format!("http://{}/token", tokens.host);
    let registry = Server::start(move |request| {
        let challenge = format!(r#"Bearer realm="{realm}",service="x""#);
        match request.header("authorization") {
            Some("Bearer good") => answer(404, &[], ""),
            _ => answer(401, &[("www-authenticate", &challenge)], ""),
        }
    })
    .await;
    (registry, tokens)
}

#[tokio::test]
async fn waiting_for_a_token_holds_no_permit() {
    let (server, tokens) = with_a_busy_token_service().await;
    let limits = Limits { concurrent: LimitSetting::Set(1), ..Limits::default() };
    let mine = server.registry_as(Options { limits, ..me() });
    let password = Secret::Value("secret".to_owned().into());
    let yours = mine.with_identity(Some(Credentials::Password { username: "you".into(), password })).unwrap();
    let waiting = tokio::spawn(async move {
        let (one, other) = ("a/b".parse().unwrap(), "c/d".parse().unwrap());
        let (tag, first, second) = (latest(), mine.repository(one), mine.repository(other));
        drop(futures_util::join!(first.resolve(&tag), second.resolve(&tag)));
    });
    while tokens.requests().len() < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    let (tag, repository) = (latest(), yours.repository("a/b".parse().unwrap()));
    let found = tokio::time::timeout(std::time::Duration::from_secs(20), repository.resolve(&tag)).await;
    assert_eq!(found.expect("the permit is free").unwrap(), None);
    assert!(!waiting.is_finished());
    waiting.abort();
}

#[tokio::test]
async fn known_registry_gets_its_token_before_the_request() {
    let server = Server::start(with_tokens).await;
    let registry = server.registry_as(me());
    for name in ["a/b", "c/d"] {
        registry.repository(name.parse().unwrap()).resolve(&latest()).await.unwrap();
    }
    assert_eq!(
        server.lines(),
        [
            "HEAD /v2/a/b/manifests/latest",
            "GET /token?service=the+service&scope=repository%3Aa%2Fb%3Apull",
            "HEAD /v2/a/b/manifests/latest",
            "GET /token?service=the+service&scope=repository%3Ac%2Fd%3Apull",
            "HEAD /v2/c/d/manifests/latest",
        ]
    );
    assert_eq!(server.requests()[1].header("authorization"), Some("Basic bWU6aHVudGVyMg=="));
    assert_eq!(registry.meter().tokens, 2);
}

#[tokio::test]
async fn mount_requests_both_repositories_in_one_token() {
    let server = Server::start(with_tokens).await;
    let repository = server.repository();
    repository.begin_upload(&blob(b"x"), Some(&"c/d".parse().unwrap())).await.unwrap();
    assert_eq!(server.count("GET /token"), 1);
    assert_eq!(
        server.count(
            "GET /token?service=the+service&scope=repository%3Aa%2Fb%3Apull%2Cpush&scope=repository%3Ac%2Fd%3Apull"
        ),
        1
    );
}

#[tokio::test]
async fn push_token_is_reused_for_a_pull() {
    let server = Server::start(with_tokens).await;
    let repository = server.repository();
    let _ = session(&repository, b"x").await;
    repository.resolve(&latest()).await.unwrap();
    assert_eq!(server.count("GET /token"), 1);
}

#[tokio::test]
async fn rejected_token_is_renewed_once() {
    // The registry accepts the first token for two requests, and the second token without limit.
    let server = Server::start(|request| {
        if request.path.starts_with("/token") {
            return answer(200, &[], format!(r#"{{"token":"t{}"}}"#, request.nth));
        }
        let token = request.header("authorization").unwrap_or_default();
        if token == "Bearer t1" && request.nth < 4 || token > "Bearer t1" {
            return answer(404, &[], "");
        }
        answer(401, &[("www-authenticate", &format!("Bearer realm=\"{}/token\"", request.own))], "")
    })
    .await;
    let repository = server.repository();
    for _ in 0..4 {
        repository.resolve(&latest()).await.unwrap();
    }
    assert_eq!(server.count("GET /token"), 2);
}

#[tokio::test]
async fn lasting_refusal_is_denied_after_one_new_token() {
    let server = Server::start(|request| {
        if request.path.starts_with("/token") {
            return answer(200, &[], r#"{"token":"t"}"#);
        }
        let challenge = format!("Bearer realm=\"{}/token\",error=\"insufficient_scope\"", request.own);
        answer(401, &[("www-authenticate", &challenge)], r#"{"errors":[{"code":"DENIED","message":"not you, t"}]}"#)
    })
    .await;
    let error = server.repository().manifest(&latest()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied);
    let place = &server.host;
    assert_eq!(
        error.to_string(),
        format!(
            "{place}/a/b: reading manifest latest: 401 Unauthorized, DENIED: no*** you, ***; the token does not grant \
             this action; the request was sent without credentials: set `credentials` for this registry, or run \
             `docker login`"
        )
    );
    assert_eq!(server.lines().len(), 3);
}

#[tokio::test]
async fn password_is_sent_after_challenge_and_wrong_one_once() {
    let server = Server::start(|request| match request.header("authorization") {
        Some("Basic bWU6aHVudGVyMg==") if request.path.contains("/good/") => answer(404, &[], ""),
        _ => answer(401, &[("www-authenticate", "basic realm=\"x\"")], "you said bWU6aHVudGVyMg=="),
    })
    .await;
    let registry = server.registry_as(me());
    let good = registry.repository("good".parse().unwrap());
    good.resolve(&latest()).await.unwrap();
    good.resolve(&latest()).await.unwrap();
    let sent: Vec<bool> = server.requests().iter().map(|request| request.header("authorization").is_some()).collect();
    assert_eq!(sent, [false, true, true]);
    let bad = registry.repository("bad".parse().unwrap());
    let error = bad.manifest(&latest()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied);
    assert_eq!(server.lines().len(), 4);
    for shown in [format!("{error:?}"), format!("{registry:?}"), format!("{:?}", me())] {
        assert!(!shown.contains("hunter2") && !shown.contains("bWU6"), "{shown}");
    }
    let error = server.repository().manifest(&latest()).await.unwrap_err();
    let none = "requires a user name and a password, and none are configured: set `credentials` for this registry, or \
                run `docker login`";
    assert!(error.detail.ends_with(none), "{error}");
    assert_eq!(registry.repository("x".parse().unwrap()).identity(), "me");
    assert_eq!(server.repository().identity(), "anonymous");
}

#[tokio::test]
async fn unproven_refused_password_is_withheld_for_a_minute() {
    let server = Server::start(|request| match request.header("authorization") {
        Some("Basic bWU6aHVudGVyMg==") if request.path.contains("/good/") => answer(404, &[], ""),
        _ => answer(401, &[("www-authenticate", "basic realm=\"x\"")], ""),
    })
    .await;
    let shown = || server.requests().iter().filter(|request| request.header("authorization").is_some()).count();
    let registry = server.registry_as(me());
    let [bad, good] = ["bad", "good"].map(|name| registry.repository(name.parse().unwrap()));
    let mut details = Vec::new();
    for _ in 0..5 {
        let error = bad.resolve(&latest()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Denied);
        details.push(error.detail);
    }
    let refused = "401 Unauthorized; the registry refused me (password from the configuration): check the user name \
                   and the password";
    assert_eq!((shown(), details), (1, vec![refused.to_owned(); 5]), "the first cause is kept");
    later(61).await;
    good.resolve(&latest()).await.unwrap();
    assert_eq!(shown(), 2);
    for _ in 0..3 {
        let lacking = "401 Unauthorized; me (password from the configuration) lacks the right to pull from this \
                       repository: grant that right at the registry";
        assert_eq!(bad.resolve(&latest()).await.unwrap_err().detail, lacking);
    }
    assert_eq!(shown(), 5, "the password is correct, and only this repository is denied");
}

/// Advances the clock by this many seconds.
async fn later(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn refused_password_is_read_again_from_its_file() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "old").unwrap();
    let path = file.path().to_owned();
    let server = Server::start(|request| match request.header("authorization") {
        // `me:new` in base64.
        Some("Basic bWU6bmV3") => answer(404, &[], ""),
        _ => answer(401, &[("www-authenticate", "Basic realm=\"x\"")], ""),
    })
    .await;
    let credentials = Credentials::Password { username: "me".into(), password: Secret::File(path.clone()) };
    let registry = server.registry_as(Options { credentials: Some(credentials), ..plain() });
    let repository = registry.repository("a/b".parse().unwrap());
    assert_eq!(repository.resolve(&latest()).await.unwrap_err().kind, ErrorKind::Denied);
    std::fs::write(&path, "new\r\n").unwrap();
    repository.resolve(&latest()).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let credentials = Credentials::Password { username: "me".into(), password: Secret::File(path.clone()) };
    let registry = server.registry_as(Options { credentials: Some(credentials), ..plain() });
    let error = registry.repository("a/b".parse().unwrap()).resolve(&latest()).await.unwrap_err();
    let start = format!("the password of me cannot be read from {}: ", path.display());
    assert!(error.detail.starts_with(&start), "{error}");
}

/// Answers like a registry that requires `Bearer good`. The token service issues this token for a POST with the
/// identity token `i d/t`.
fn with_identity_tokens(request: &Received) -> axum::response::Response {
    if request.path.starts_with("/token") {
        let form: std::collections::HashMap<_, _> = url::form_urlencoded::parse(&request.body).into_owned().collect();
        let token = form.get("refresh_token").map(String::as_str);
        if request.method != "POST" || token != Some("i d/t") {
            let said = format!(r#"{{"errors":[{{"code":"DENIED","message":"not {}"}}]}}"#, token.unwrap_or("you"));
            return answer(401, &[], said);
        }
        return answer(200, &[], r#"{"access_token":"good","expires_in":300}"#);
    }
    if request.header("authorization") != Some("Bearer good") {
        let challenge = format!(r#"Bearer realm="{}/token",service="s""#, request.own);
        return answer(401, &[("www-authenticate", &challenge)], "");
    }
    answer(404, &[], "")
}

fn options_with(credentials: Credentials) -> Options {
    Options { credentials: Some(credentials), ..plain() }
}

fn secret_value(secret: &str) -> Secret {
    Secret::Value(secret.to_owned().into())
}

#[tokio::test]
async fn identity_token_is_exchanged_for_access_tokens() {
    let server = Server::start(with_identity_tokens).await;
    let registry = server.registry_as(options_with(Credentials::Token(secret_value("i d/t"))));
    let repository = registry.repository("a/b".parse().unwrap());
    repository.resolve(&latest()).await.unwrap();
    assert_eq!(repository.identity(), "token");
    let request = &server.requests()[1];
    assert_eq!((request.line().as_str(), request.header("authorization")), ("POST /token", None));
    assert_eq!(request.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(
        request.body,
        "grant_type=refresh_token&client_id=transship&service=s&scope=repository%3Aa%2Fb%3Apull&refresh_token=i+d%2Ft"
    );
}

#[tokio::test]
async fn refused_identity_token_is_withheld_and_sent_once() {
    let server = Server::start(with_identity_tokens).await;
    let registry = server.registry_as(options_with(Credentials::Token(secret_value("hunter2"))));
    let error = registry.repository("a/b".parse().unwrap()).manifest(&latest()).await.unwrap_err();
    let place = &server.host;
    assert_eq!(
        error.to_string(),
        format!(
            "{place}/a/b: reading manifest latest: the token service http://{place}/token refused token (token from \
             the configuration): 401 Unauthorized, DENIED: not ***; check the token"
        )
    );
    assert_eq!(server.count("POST /token"), 1);
    assert!(!format!("{registry:?} {error:?}").contains("hunter2"));
}

#[tokio::test]
async fn refused_identity_token_is_read_again_from_file() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "old").unwrap();
    let path = file.path().to_owned();
    let renewed = path.clone();
    // The server renews the file after the client has read it, and before the server refuses the token.
    let server = Server::start(move |request| {
        if request.body.ends_with(b"=old") {
            std::fs::write(&renewed, "i d/t").unwrap();
        }
        with_identity_tokens(request)
    })
    .await;
    let registry = server.registry_as(options_with(Credentials::Token(Secret::File(path))));
    registry.repository("a/b".parse().unwrap()).resolve(&latest()).await.unwrap();
    assert_eq!(server.count("POST /token"), 2);
}

#[tokio::test]
async fn identity_token_request_follows_no_redirect() {
    let elsewhere = Server::start(|_| answer(200, &[], r#"{"token":"x"}"#)).await;
    let to = format!("http://{}/token", elsewhere.host);
    let server = Server::start(move |request| match request.path.as_str() {
        "/token" => answer(307, &[("location", &to)], ""),
        _ => answer(401, &[("www-authenticate", &format!("Bearer realm=\"{}/token\"", request.own))], ""),
    })
    .await;
    let registry = server.registry_as(options_with(Credentials::Token(secret_value("hunter2"))));
    let error = registry.repository("a/b".parse().unwrap()).manifest(&latest()).await.unwrap_err();
    assert!(
        error.detail.ends_with("a redirect (307 Temporary Redirect) cannot be followed for a POST request"),
        "{error}"
    );
    assert!(elsewhere.lines().is_empty());
}

#[tokio::test]
async fn basic_challenge_refuses_a_token_without_password() {
    let server = Server::start(|_| answer(401, &[("www-authenticate", "Basic realm=x")], "")).await;
    let registry = server.registry_as(options_with(Credentials::Token(secret_value("hunter2"))));
    let error = registry.repository("a/b".parse().unwrap()).manifest(&latest()).await.unwrap_err();
    let only_token = "requires a user name and a password, and only a token is configured: set `username` and \
                      `password` under `credentials`";
    assert!(error.detail.ends_with(only_token), "{error}");
    let registry = server.registry_as(options_with(Credentials::Anonymous));
    assert_eq!(registry.repository("a/b".parse().unwrap()).identity(), "anonymous");
}

#[tokio::test]
async fn token_service_at_metadata_address_gets_no_request() {
    let server =
        Server::start(|_| answer(401, &[("www-authenticate", "Bearer realm=\"http://169.254.169.254/t\"")], "")).await;
    let registry = server.registry_as(me());
    let error = registry.repository("a/b".parse().unwrap()).manifest(&latest()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused);
    assert!(error.detail.contains("http://169.254.169.254/t: transship sends no request to this service"), "{error}");
    assert_eq!(registry.meter().tokens, 0);
}

#[tokio::test]
async fn refusing_token_service_is_queried_once_for_waiters() {
    let server = Server::start(|request| {
        if request.path.starts_with("/token") {
            return refusal(403, "DENIED");
        }
        answer(401, &[("www-authenticate", &format!("Bearer realm=\"{}/token\"", request.own))], "")
    })
    .await;
    let repository = server.registry_as(me()).repository("a/b".parse().unwrap());
    let tag = latest();
    let all = join_all((0..8).map(|_| repository.manifest(&tag))).await;
    for error in all.into_iter().map(Result::unwrap_err) {
        assert_eq!(error.kind, ErrorKind::Denied);
        let expected = format!(
            "the token service http://{}/token refused me (password from the configuration): 403 Forbidden, DENIED: \
             said so; check the user name and the password, and the rights of this user",
            server.host
        );
        assert_eq!(error.detail, expected);
    }
    assert!(server.count("GET /token") < 8, "{:?}", server.lines());
}

fn azure(server: &Server, identity: AzureIdentity) -> Options {
    let own: url::Url = format!("http://{}/elsewhere", server.host).parse().unwrap();
    options_with(Credentials::Azure(Azure { identity, imds: own.clone(), authority: own }))
}

/// Answers like Azure's registry, metadata service and Entra in one server. The Entra token is `entra`, the refresh
/// token is `refresh`, and the access tokens are `good`.
fn with_azure(request: &Received) -> axum::response::Response {
    let body = String::from_utf8_lossy(&request.body).into_owned();
    let managed = "/elsewhere/metadata/identity/oauth2/token?api-version=2018-02-01\
                   &resource=https%3A%2F%2Fcontainerregistry.azure.net";
    match request.path.as_str() {
        path if path.starts_with(managed) && request.header("metadata") == Some("true") => {
            answer(200, &[], r#"{"access_token":"entra","expires_in":"3600"}"#)
        }
        "/elsewhere/t/oauth2/v2.0/token" if body.contains("=hunter2") => {
            answer(200, &[], r#"{"access_token":"entra","expires_in":3600}"#)
        }
        "/elsewhere/t/oauth2/v2.0/token" => {
            answer(401, &[], format!(r#"{{"error":"invalid_client","error_description":"{body}"}}"#))
        }
        "/oauth2/exchange" if body.contains("access_token=entra") => answer(200, &[], r#"{"refresh_token":"refresh"}"#),
        "/oauth2/token" if body.contains("refresh_token=refresh") => answer(200, &[], r#"{"access_token":"good"}"#),
        _ if request.header("authorization") == Some("Bearer good") => answer(404, &[], ""),
        _ => {
            let challenge = format!(r#"Bearer realm="{}/oauth2/token",service="s""#, request.own);
            answer(401, &[("www-authenticate", &challenge)], "")
        }
    }
}

#[tokio::test]
async fn azure_identity_gets_one_refresh_token_per_registry() {
    let application = |secret: &str| AzureIdentity::Application {
        client_id: "app".into(),
        tenant_id: "t".into(),
        client_secret: secret_value(secret),
    };
    let workload =
        AzureIdentity::Workload { client_id: "app".into(), tenant_id: "t".into(), token: secret_value("hunter2") };
    for (identity, name, first) in [
        (
            AzureIdentity::Managed { client_id: None },
            "managed identity",
            "GET /elsewhere/metadata/identity/oauth2/token",
        ),
        (
            AzureIdentity::Managed { client_id: Some("mine".into()) },
            "mine",
            "GET /elsewhere/metadata/identity/oauth2/token",
        ),
        (workload, "app", "POST /elsewhere/t/oauth2/v2.0/token"),
        (application("hunter2"), "app", "POST /elsewhere/t/oauth2/v2.0/token"),
    ] {
        let server = Server::start(with_azure).await;
        let registry = server.registry_as(azure(&server, identity));
        for repository in ["a/b", "c/d"] {
            registry.repository(repository.parse().unwrap()).resolve(&latest()).await.unwrap();
        }
        assert_eq!((server.count(first), server.count("POST /oauth2/exchange")), (1, 1), "{:?}", server.lines());
        assert_eq!(server.count("POST /oauth2/token"), 2);
        assert_eq!(registry.repository("x".parse().unwrap()).identity(), name);
    }
    let server = Server::start(with_azure).await;
    let registry = server.registry_as(azure(&server, application("canary")));
    let error = registry.repository("a/b".parse().unwrap()).manifest(&latest()).await.unwrap_err();
    let place = format!("http://{}/elsewhere/t/oauth2/v2.0/token", server.host);
    assert_eq!(error.detail, format!("{place} refused: 401 Unauthorized, invalid_client"));
}

#[tokio::test]
async fn missing_token_service_is_no_refusal_of_credentials() {
    let server = Server::start(|request| match request.path.as_str() {
        path if path.starts_with("/token") => answer(404, &[], ""),
        _ => {
            let challenge = format!("Bearer realm=\"{}/token\",service=\"s\"", request.own);
            answer(401, &[("www-authenticate", &challenge)], "")
        }
    })
    .await;
    let registry = server.registry_as(me());
    let error = registry.repository("a/b".parse().unwrap()).resolve(&latest()).await.unwrap_err();
    let expected = format!(
        "the token service http://{}/token answered 404 Not Found: check the address of the token service",
        server.host
    );
    assert_eq!((error.kind, error.detail), (ErrorKind::Invalid, expected));
}
