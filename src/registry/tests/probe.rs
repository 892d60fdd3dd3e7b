//! Tests of the requests of `login-check`, against servers that answer like real registries.

use futures_util::StreamExt as _;

use super::scripted::{Received, Server, answer, me, refusal};
use crate::registry::{AcceptedIdentity, LoginError, Options, Proof, Readable, Scheme, Secret, StatedLimits};
use crate::registry::{Credentials, Registry};
use crate::store::ErrorKind;

async fn greeted(server: &Server) -> Result<Scheme, (ErrorKind, String)> {
    server.registry().greet().await.map(|greeting| greeting.scheme).map_err(|error| (error.kind, error.detail))
}

#[tokio::test]
async fn greeting_reports_the_challenge_with_one_request() {
    for (challenge, scheme) in [
        (None, Scheme::Nothing),
        (Some("Basic realm=\"x\""), Scheme::Basic),
        (Some("Bearer realm=\"OWN/token?secret=x\",service=\"s\""), Scheme::Bearer("OWN/token".to_owned())),
    ] {
        let server = Server::start(move |request| match challenge {
            None => answer(200, &[], "{}"),
            Some(challenge) => answer(401, &[("www-authenticate", &challenge.replace("OWN", &request.own))], ""),
        })
        .await;
        let expected = match scheme {
            Scheme::Bearer(at) => Scheme::Bearer(at.replace("OWN", &format!("http://{}", server.host))),
            other => other,
        };
        let greeting = server.registry_as(me()).greet().await.unwrap();
        assert_eq!((greeting.scheme, greeting.proof, greeting.version.as_str()), (expected, Proof::None, "HTTP/1.1"));
        assert_eq!(server.lines(), ["GET /v2/"]);
        assert_eq!(server.requests()[0].header("authorization"), None);
    }
}

#[tokio::test]
async fn greeting_distinguishes_no_registry_from_failing_registry() {
    let greeting_error = async |answered: fn(&Received) -> axum::response::Response| {
        let server = Server::start(answered).await;
        let (kind, detail) = greeted(&server).await.unwrap_err();
        assert_eq!(server.lines().len(), 1, "the request is not repeated");
        (kind, detail.replace(&server.host, "HOST"))
    };
    let error = |kind, detail: &str| (kind, detail.to_owned());
    assert_eq!(
        greeting_error(|_| answer(404, &[], "nothing here")).await,
        error(
            ErrorKind::Invalid,
            "http://HOST/v2/ answers 404 Not Found: this is not a registry; check the host name and `path_prefix`"
        )
    );
    assert_eq!(
        greeting_error(|_| answer(302, &[("location", "/login")], "")).await,
        error(
            ErrorKind::Invalid,
            "http://HOST/v2/ answers 302 Found: this is not a registry; check the host name and `path_prefix`"
        )
    );
    assert_eq!(
        greeting_error(|_| answer(429, &[("retry-after", "30")], "")).await,
        (
            ErrorKind::Busy(Some(std::time::Duration::from_secs(30))),
            "429 Too Many Requests; the registry requests a wait of 30s".to_owned()
        )
    );
    assert_eq!(
        greeting_error(|_| refusal(403, "DENIED")).await,
        error(ErrorKind::Denied, "403 Forbidden, DENIED: said so")
    );
    assert_eq!(
        greeting_error(|_| answer(401, &[("www-authenticate", "Negotiate")], "")).await,
        error(
            ErrorKind::Refused,
            "the registry requires the unsupported authentication scheme negotiate; the \
            supported schemes are Basic and Bearer"
        )
    );
    assert_eq!(
        greeting_error(|_| answer(401, &[], "")).await,
        error(ErrorKind::Refused, "the registry requires authentication, but states no scheme")
    );
    assert_eq!(
        greeting_error(|_| answer(401, &[("www-authenticate", "Bearer realm=\"http://169.254.169.254/token\"")], ""))
            .await
            .0,
        ErrorKind::Refused
    );
    assert_eq!(
        greeting_error(|_| answer(400, &[], "Client sent an HTTP request to an HTTPS server.")).await,
        error(ErrorKind::Invalid, "http://HOST requires TLS; remove `plain_http`")
    );
}

#[tokio::test]
async fn pull_limits_are_read_from_uncounted_head() {
    let server = Server::start(|request| match request.path.contains("/tags/list") {
        true => answer(200, &[], r#"{"name":"a/b","tags":["not a tag","v1"]}"#),
        false => answer(200, &[("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", "76;w=21600")], ""),
    })
    .await;
    let readable = server.repository().check_pull().await.unwrap();
    let limits: StatedLimits = [("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", "76;w=21600")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    assert_eq!(readable, Readable { exists: true, limits });
    assert_eq!(server.lines(), ["GET /v2/a/b/tags/list?n=1", "HEAD /v2/a/b/manifests/v1"]);
}

#[tokio::test]
async fn push_right_is_proven_by_a_cancelled_upload() {
    // Amazon's registry does not support DELETE of an upload.
    for status in [204, 405] {
        let server = Server::start(move |request| match request.method.as_str() {
            "POST" => answer(202, &[("location", "/session")], ""),
            _ => answer(status, &[], ""),
        })
        .await;
        server.repository().check_push().await.unwrap();
        assert_eq!(server.lines(), ["POST /v2/a/b/blobs/uploads/", "DELETE /session"]);
    }
    let server = Server::start(|_| refusal(403, "DENIED")).await;
    assert_eq!(server.repository().check_push().await.unwrap_err().kind, ErrorKind::Denied);
}

#[tokio::test]
async fn identity_token_without_scope_is_tried_as_last_resort() {
    let server = Server::start(|request| match (request.path.as_str(), request.header("authorization")) {
        ("/token", _) => refusal(401, "DENIED"),
        (_, None) => answer(401, &[("www-authenticate", &format!("Bearer realm=\"{}/token\"", request.own))], ""),
        _ => answer(200, &[], ""),
    })
    .await;
    let token = Credentials::Token(Secret::Value("hunter2".to_owned().into()));
    let registry: std::sync::Arc<Registry> = server.registry_as(Options { credentials: Some(token), ..me() });
    assert_eq!(registry.log_in(true).await.unwrap(), AcceptedIdentity::Unknown("token".to_owned()));
    assert_eq!(server.lines().len(), 0);
    let Err(LoginError::Registry(error)) = registry.log_in(false).await else { panic!("the login succeeded") };
    assert_eq!(error.kind, ErrorKind::Denied);
    let open = Server::start(|_| answer(200, &[], "")).await;
    assert_eq!(open.registry_as(me()).log_in(true).await.unwrap(), AcceptedIdentity::NotRequested);
    assert_eq!(server.registry().log_in(true).await.unwrap(), AcceptedIdentity::Anonymous);
}

#[tokio::test]
async fn web_server_that_answers_everything_is_no_registry() {
    let server = Server::start(|_| answer(200, &[("content-type", "text/html; charset=utf-8")], "<html></html>")).await;
    let registry = server.registry();
    let repository = registry.repository("a/b".parse().unwrap());
    let pull = repository.check_pull().await.unwrap_err();
    let page = "the server answers 200 with text/html; charset=utf-8: this is not a registry; \
                check the host name and `path_prefix`";
    assert_eq!((pull.kind, pull.detail.as_str()), (ErrorKind::Invalid, page));
    let push = repository.check_push().await.unwrap_err();
    assert_eq!((push.kind, push.detail.as_str()), (ErrorKind::Invalid, page));
    let listed = repository.list_tags().next().await.unwrap().unwrap_err();
    assert_eq!(listed.detail, page);
}
