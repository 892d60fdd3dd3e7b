//! What `login-check` asks, against servers that answer as some registry does.

use super::scripted::{Asked, Server, answer, me, refusal};
use crate::registry::{Credentials, Registry};
use crate::registry::{LetIn, Options, Proof, Readable, Scheme, Secret, StatedLimits};
use crate::store::ErrorKind;

async fn greeted(server: &Server) -> Result<Scheme, (ErrorKind, String)> {
    server.registry().greet().await.map(|greeting| greeting.scheme).map_err(|error| (error.kind, error.detail))
}

#[tokio::test]
async fn what_a_registry_asks_for_is_told_in_its_own_words_and_asked_for_once() {
    for (challenge, scheme) in [
        (None, Scheme::Nothing),
        (Some("Basic realm=\"x\""), Scheme::Basic),
        (Some("Bearer realm=\"OWN/token?secret=x\",service=\"s\""), Scheme::Bearer("OWN/token".to_owned())),
    ] {
        let server = Server::start(move |asked| match challenge {
            None => answer(200, &[], "{}"),
            Some(challenge) => answer(401, &[("www-authenticate", &challenge.replace("OWN", &asked.own))], ""),
        })
        .await;
        let expected = match scheme {
            Scheme::Bearer(at) => Scheme::Bearer(at.replace("OWN", &format!("http://{}", server.host))),
            other => other,
        };
        let greeting = server.registry_as(me()).greet().await.unwrap();
        assert_eq!((greeting.scheme, greeting.proof, greeting.version.as_str()), (expected, Proof::None, "HTTP/1.1"));
        assert_eq!(server.lines(), ["GET /v2/"]);
        assert_eq!(server.asked()[0].header("authorization"), None);
    }
}

#[tokio::test]
async fn what_is_no_registry_or_in_trouble_is_told_apart() {
    let says = async |answered: fn(&Asked) -> axum::response::Response| {
        let server = Server::start(answered).await;
        let (kind, detail) = greeted(&server).await.unwrap_err();
        assert_eq!(server.lines().len(), 1, "it is not repeated");
        (kind, detail.replace(&server.host, "HOST"))
    };
    let told = |kind, detail: &str| (kind, detail.to_owned());
    assert_eq!(
        says(|_| answer(404, &[], "nothing here")).await,
        told(ErrorKind::Invalid, "http://HOST/v2/ answers 404 Not Found: there is no registry; see `path_prefix`")
    );
    assert_eq!(
        says(|_| answer(302, &[("location", "/login")], "")).await,
        told(ErrorKind::Invalid, "http://HOST/v2/ answers 302 Found: there is no registry; see `path_prefix`")
    );
    assert_eq!(
        says(|_| answer(429, &[("retry-after", "30")], "")).await,
        (
            ErrorKind::Busy(Some(std::time::Duration::from_secs(30))),
            "429 Too Many Requests; it asks to wait 30s".to_owned()
        )
    );
    assert_eq!(says(|_| refusal(403, "DENIED")).await, told(ErrorKind::Denied, "403 Forbidden, DENIED: said so"));
    assert_eq!(
        says(|_| answer(401, &[("www-authenticate", "Negotiate")], "")).await,
        told(ErrorKind::Refused, "it wants to be shown negotiate, which is neither Basic nor Bearer")
    );
    assert_eq!(
        says(|_| answer(401, &[], "")).await,
        told(ErrorKind::Refused, "it wants to know who we are, and does not say how")
    );
    assert_eq!(
        says(|_| answer(401, &[("www-authenticate", "Bearer realm=\"http://169.254.169.254/token\"")], "")).await.0,
        ErrorKind::Refused
    );
    assert_eq!(
        says(|_| answer(400, &[], "Client sent an HTTP request to an HTTPS server.")).await,
        told(ErrorKind::Invalid, "http://HOST speaks TLS; leave `plain_http` out")
    );
}

#[tokio::test]
async fn limits_are_read_off_a_head_that_no_registry_counts() {
    let server = Server::start(|asked| match asked.path.contains("/tags/list") {
        true => answer(200, &[], r#"{"name":"a/b","tags":["not a tag","v1"]}"#),
        false => answer(200, &[("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", "76;w=21600")], ""),
    })
    .await;
    let readable = server.repository().may_pull().await.unwrap();
    let limits: StatedLimits = [("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", "76;w=21600")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    assert_eq!(readable, Readable { exists: true, limits });
    assert_eq!(server.lines(), ["GET /v2/a/b/tags/list?n=1", "HEAD /v2/a/b/manifests/v1"]);
}

#[tokio::test]
async fn a_right_to_push_is_proven_by_an_upload_that_is_given_up() {
    // Amazon's knows no DELETE of an upload.
    for farewell in [204, 405] {
        let server = Server::start(move |asked| match asked.method.as_str() {
            "POST" => answer(202, &[("location", "/session")], ""),
            _ => answer(farewell, &[], ""),
        })
        .await;
        server.repository().may_push().await.unwrap();
        assert_eq!(server.lines(), ["POST /v2/a/b/blobs/uploads/", "DELETE /session"]);
    }
    let server = Server::start(|_| refusal(403, "DENIED")).await;
    assert_eq!(server.repository().may_push().await.unwrap_err().kind, ErrorKind::Denied);
}

#[tokio::test]
async fn an_identity_token_is_tried_without_a_scope_only_where_nothing_else_tries_it() {
    let server = Server::start(|asked| match (asked.path.as_str(), asked.header("authorization")) {
        ("/token", _) => refusal(401, "DENIED"),
        (_, None) => answer(401, &[("www-authenticate", &format!("Bearer realm=\"{}/token\"", asked.own))], ""),
        _ => answer(200, &[], ""),
    })
    .await;
    let token = Credentials::Token(Secret::Value("hunter2".to_owned().into()));
    let registry: std::sync::Arc<Registry> = server.registry_as(Options { credentials: Some(token), ..me() });
    assert_eq!(registry.log_in(true).await.unwrap(), LetIn::Perhaps("token".to_owned()));
    assert_eq!(server.lines().len(), 0);
    assert_eq!(registry.log_in(false).await.unwrap_err().kind, ErrorKind::Denied);
    let open = Server::start(|_| answer(200, &[], "")).await;
    assert_eq!(open.registry_as(me()).log_in(true).await.unwrap(), LetIn::Unasked);
    assert_eq!(server.registry().log_in(true).await.unwrap(), LetIn::Anonymous);
}
