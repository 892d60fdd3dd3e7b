//! Tests of the hosts that receive credentials and bytes if a registry refers to another host.

use futures_util::TryStreamExt as _;

use super::scripted::{Server, answer, blob, me, noise, session, verified};
use crate::oci::{Digest, ManifestRef};
use crate::store::{ErrorKind, Source as _};

#[tokio::test]
async fn credentials_stay_off_after_a_cross_origin_redirect() {
    let content = noise(5000);
    let body = content.clone();
    let back: std::sync::Arc<std::sync::OnceLock<String>> = std::sync::Arc::default();
    let to = std::sync::Arc::clone(&back);
    let storage = Server::start(move |request| {
        if request.path.starts_with("/return") {
            return answer(302, &[("location", &format!("http://{}/public", to.get().unwrap()))], "");
        }
        answer(200, &[], body.clone())
    })
    .await;
    let storage_host = storage.host.clone();
    let registry = Server::start(move |request| {
        if request.path == "/public" {
            return answer(200, &[], noise(5000));
        }
        if request.header("authorization").is_none() {
            return answer(401, &[("www-authenticate", "Basic realm=x")], "");
        }
        let to = if request.path.contains("/back/") { "return" } else { "blob?signature=1" };
        answer(307, &[("location", &format!("http://{storage_host}/{to}")), ("set-cookie", "a=b")], "")
    })
    .await;
    back.set(registry.host.clone()).unwrap();
    let client = registry.registry_as(me());
    for name in ["a/b", "back/again"] {
        let repository = client.repository(name.parse().unwrap());
        let read: Vec<_> = repository.blob(&blob(&content), 0).await.unwrap().try_collect().await.unwrap();
        assert_eq!(read.concat(), content);
    }
    for request in storage
        .requests()
        .into_iter()
        .chain(registry.requests().into_iter().filter(|request| request.path == "/public"))
    {
        assert_eq!((request.header("authorization"), request.header("cookie")), (None, None), "{}", request.line());
    }
    assert_eq!((storage.lines().len(), registry.count("GET /public")), (2, 1));
}

#[tokio::test]
async fn circular_redirect_ends_after_ten_hops() {
    let server = Server::start(|request| answer(302, &[("location", &format!("{}/x", request.path))], "")).await;
    let error = server.repository().manifest(&ManifestRef::Digest(Digest::of(b"x"))).await.unwrap_err();
    assert_eq!((error.kind, error.detail.as_str()), (ErrorKind::Invalid, "more than 10 redirects"));
    assert_eq!(server.lines().len(), 11);
}

#[tokio::test]
async fn upload_to_another_host_sends_no_credentials() {
    let storage = Server::start(|_| answer(201, &[], "")).await;
    let storage_host = storage.host.clone();
    let registry = Server::start(move |request| match request.header("authorization") {
        Some(_) => answer(202, &[("location", &format!("http://{storage_host}/put/here?state=a%2Fb&c"))], ""),
        None => answer(401, &[("www-authenticate", "Basic realm=x")], ""),
    })
    .await;
    let client = registry.registry_as(me());
    for size in [1000, 300_000] {
        let content = noise(size);
        let session = session(&client.repository("a/b".parse().unwrap()), &content).await.unwrap();
        session.send(verified(&content)).await.unwrap();
        let put = storage.requests().pop().unwrap();
        let digest = Digest::of(&content).to_string().replace(':', "%3A");
        assert_eq!(put.line(), format!("PUT /put/here?state=a%2Fb&c&digest={digest}"));
        assert_eq!(put.header("authorization"), None);
        assert_eq!(put.header("content-length"), Some(size.to_string().as_str()));
        assert_eq!(put.header("transfer-encoding"), None);
        assert_eq!(put.body, content);
    }
}

#[tokio::test]
async fn server_without_tls_differs_from_refused_connection() {
    let server = Server::start(|_| answer(200, &[], "")).await;
    let client = |host: &str, plain_http| {
        let options = crate::registry::Options { plain_http, ..Default::default() };
        let policy = super::scripted::quick();
        let registry = crate::registry::Registry::with_retry_policy(host.parse().unwrap(), options, policy).unwrap();
        registry.repository("a/b".parse().unwrap())
    };
    let reference = ManifestRef::Digest(Digest::of(b"x"));
    let detail = async |repository: crate::registry::Repository| {
        let error = repository.manifest(&reference).await.unwrap_err();
        (error.kind, error.detail)
    };
    let host = server.host.clone();
    assert_eq!(
        detail(client(&host, false)).await,
        (ErrorKind::Invalid, format!("https://{host} does not speak TLS; for plain HTTP set `plain_http: true`"))
    );
    drop(server);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    drop(listener);
    let refused = (ErrorKind::Unavailable, format!("http://{host} refused the connection"));
    assert_eq!(detail(client(&host, true)).await, refused);
}

#[tokio::test]
async fn plain_http_to_a_tls_server_is_explained() {
    let reference = ManifestRef::Digest(Digest::of(b"x"));
    for words in
        ["Client sent an HTTP request to an HTTPS server.", "<h1>The plain HTTP request was sent to HTTPS port</h1>"]
    {
        let server = Server::start(move |_| answer(400, &[], words)).await;
        let error = server.repository().manifest(&reference).await.unwrap_err();
        assert_eq!(error.detail, format!("http://{} requires TLS; remove `plain_http`", server.host));
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn configured_timeouts_limit_connection_and_answer() {
    use crate::registry::{Options, Registry, Timeouts, Transport};
    let short = Some(std::time::Duration::from_millis(50));
    // The system accepts the connections, but no server answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = silent.local_addr().unwrap().to_string();
    let detail = async |plain_http, timeouts| {
        let transport = Transport { timeouts, ..Transport::default() };
        let options = Options { plain_http, transport, ..Options::default() };
        let registry = Registry::with_retry_policy(host.parse().unwrap(), options, super::scripted::quick()).unwrap();
        let repository = registry.repository("a/b".parse().unwrap());
        let error = repository.blob(&super::scripted::blob(b"x"), 0).await.map(|_| ()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable);
        error.detail
    };
    let connect = Timeouts { connect: short, ..Timeouts::default() };
    assert_eq!(detail(false, connect).await, format!("connecting to https://{host} timed out"));
    let header = Timeouts { header: short, ..Timeouts::default() };
    assert_eq!(detail(true, header).await, "no complete answer within 50ms");
}
