//! Tests of access to the status port, by raw requests at a real socket.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::config;
use crate::listen::{Listener, serve_routes};
use crate::status::snapshot::tests::{second, working};
use crate::status::{Metrics, Port};

const TOKEN: &str = "the token, of: 32 bytes and more";

/// Returns a configuration with this `daemon.status`.
fn configured(status: &str) -> Arc<Config> {
    let text = format!("version: 1\ndaemon: {{status: {status}}}\nsync: []\n");
    let environment = |name: &str| (name == "HOME").then(|| "/home/me".to_owned());
    Arc::new(config::parse("sync.yaml", &text, &environment).unwrap())
}

fn guarded(listen: &str) -> Arc<Config> {
    configured(&format!("{{listen: \"{listen}\", token: \"{TOKEN}\"}}"))
}

/// Status port on a loopback address that applies the rules for the address in its configuration.
struct Served {
    address: std::net::SocketAddr,
    config: watch::Sender<Arc<Config>>,
    shutdown: CancellationToken,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn port(config: watch::Receiver<Arc<Config>>) -> Port {
    let (_, snapshots) = watch::channel(Arc::new(working()));
    Port::new(snapshots, Arc::new(Metrics::new("0", second(0))), Arc::new(|| second(1)), config)
}

async fn serve(config: Arc<Config>) -> Served {
    let listener = Listener::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let (address, shutdown) = (listener.address().unwrap(), CancellationToken::new());
    let (config, receiver) = watch::channel(config);
    tokio::spawn(serve_routes(listener, port(receiver).router(), &[], shutdown.clone()));
    Served { address, config, shutdown }
}

impl Served {
    /// Sends a request with these header lines. Returns the status, the head and the body of the response.
    async fn request(&self, target: &str, headers: &[&str]) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        stream.write_all(format!("GET {target} HTTP/1.1\r\n{headers}\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), head.to_owned(), body.to_owned())
    }

    async fn status(&self, target: &str, headers: &[&str]) -> u16 {
        self.request(target, headers).await.0
    }
}

const PATHS: [&str; 6] = ["/", "/entry?name=python-base", "/search?q=x", "/status", "/metrics", "/nothing-here"];

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

fn basic(pair: &str) -> String {
    format!("Authorization: Basic {}", STANDARD.encode(pair))
}

#[tokio::test]
async fn without_token_only_health_and_readiness_are_served() {
    let served = serve(guarded("0.0.0.0:9180")).await;
    for path in PATHS {
        let (status, head, body) = served.request(path, &["Host: transship.example"]).await;
        assert_eq!(status, 401, "{path}");
        let expected = "this request needs the token of daemon.status: send the token as a bearer token, or \
                        as the password of Basic authentication with any user name\n";
        assert_eq!(body, expected, "{path}");
        let challenges: Vec<&str> = head.lines().filter_map(|line| line.strip_prefix("www-authenticate: ")).collect();
        assert_eq!(challenges, CHALLENGES);
        assert!(head.contains("content-security-policy: "), "{head}");
    }
    for path in HEALTH_CHECKS {
        assert_eq!(served.status(path, &["Host: 10.0.0.7:9180"]).await, 200, "{path}");
    }
}

#[tokio::test]
async fn token_is_accepted_as_bearer_and_basic_password() {
    let served = serve(guarded("0.0.0.0:9180")).await;
    for header in [
        bearer(TOKEN),
        format!("authorization: bearer   {TOKEN}"),
        basic(&format!("operator:{TOKEN}")),
        basic(&format!(":{TOKEN}")),
    ] {
        assert_eq!(served.status("/status", &["Host: transship.example", &header]).await, 200, "{header}");
    }
    for header in [
        bearer("the token, of: 32 bytes and less"),
        bearer(""),
        bearer(&TOKEN[1..]),
        bearer(&format!("{TOKEN}x")),
        format!("Authorization: {TOKEN}"),
        format!("Authorization: Digest {TOKEN}"),
        basic(TOKEN),
        basic("operator:"),
        basic(&format!("{TOKEN}:operator")),
        "Authorization: Basic ====".to_owned(),
        "Authorization: Bearer \u{e9}".to_owned(),
        "X-Authorization: Bearer".to_owned(),
    ] {
        assert_eq!(served.status("/status", &["Host: x", &header]).await, 401, "{header}");
    }
}

#[tokio::test]
async fn new_token_applies_at_once_unlike_other_address() {
    let served = serve(guarded("0.0.0.0:9180")).await;
    let another = TOKEN.replace("32", "99");
    served.config.send_replace(configured(&format!("{{listen: \"0.0.0.0:9180\", token: \"{another}\"}}")));
    assert_eq!(served.status("/status", &["Host: x", &bearer(TOKEN)]).await, 401);
    assert_eq!(served.status("/status", &["Host: x", &bearer(&another)]).await, 200);
    for elsewhere in ["127.0.0.1:9180", "unix:/run/x.sock", "off", "{listen: \"0.0.0.0:9181\", insecure: true}"] {
        served.config.send_replace(configured(elsewhere));
        assert_eq!(served.status("/status", &["Host: localhost"]).await, 401, "{elsewhere}");
    }
    served.config.send_replace(configured("{listen: \"0.0.0.0:9180\", insecure: true}"));
    assert_eq!(served.status("/status", &["Host: x"]).await, 200);
}

#[tokio::test]
async fn unreadable_or_short_token_admits_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let served = serve(configured(&format!("{{listen: \"0.0.0.0:9180\", token: {{file: {}}}}}", file.display()))).await;
    assert_eq!(served.status("/status", &["Host: x", &bearer(TOKEN)]).await, 200);
    for content in [Some(""), Some("x"), Some("123456789abcdef\n"), None] {
        match content {
            Some(content) => std::fs::write(&file, content).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
        let shown = bearer(content.unwrap_or_default().trim());
        let (status, _, body) = served.request("/status", &["Host: x", &shown]).await;
        let expected = "the token of the status port cannot be used: see the daemon's log\n";
        assert_eq!((status, body.as_str()), (500, expected), "{content:?}");
    }
}

#[tokio::test]
async fn foreign_host_name_on_loopback_is_rejected() {
    let served = serve(configured("127.0.0.1:9180")).await;
    for host in ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:9180", "[::1]:9180", "127.1.2.3"] {
        assert_eq!(served.status("/status", &[&format!("Host: {host}")]).await, 200, "{host}");
    }
    for host in [
        "evil.example",
        "evil.example:9180",
        "localhost.evil.example",
        "10.0.0.5",
        "127.0.0.1.evil.example",
        "a@b@c",
        "",
    ] {
        for path in PATHS {
            assert_eq!(served.status(path, &[&format!("Host: {host}")]).await, 421, "{host:?} {path}");
        }
        assert_eq!(served.status("/healthz", &[&format!("Host: {host}")]).await, 200, "{host:?}");
    }
    let (_, _, body) = served.request("/status", &["Host: evil.example"]).await;
    assert_eq!(
        body,
        "\"evil.example\" is not a name of this machine: use localhost or 127.0.0.1, or configure under \
         daemon.status in sync.yaml how the port is protected\n"
    );
    for headers in [&[][..], &["Host: localhost", "Host: evil.example"]] {
        assert_eq!(served.status("/status", headers).await, 400, "{headers:?}");
    }
}

#[tokio::test]
async fn absolute_form_request_is_checked_by_both_names() {
    let served = serve(configured("127.0.0.1:9180")).await;
    for (target, host, expected) in [
        ("http://localhost/status", "localhost", 200),
        ("http://evil.example/status", "localhost", 421),
        ("http://localhost/status", "evil.example", 421),
    ] {
        assert_eq!(served.status(target, &[&format!("Host: {host}")]).await, expected, "{target} {host}");
    }
}

#[tokio::test]
async fn any_host_name_is_accepted_when_insecure_or_socket() {
    let served = serve(configured("{listen: \"0.0.0.0:9180\", insecure: true}")).await;
    assert_eq!(served.status("/status", &["Host: transship.example"]).await, 200);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("status.sock");
    let listener = Listener::unix(&path).await.unwrap();
    let (_config, receiver) = watch::channel(configured("unix:/run/transship/status.sock"));
    let shutdown = CancellationToken::new();
    tokio::spawn(serve_routes(listener, port(receiver).router(), &[], shutdown.clone()));
    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream.write_all(b"GET /status HTTP/1.1\r\nHost: anything\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    shutdown.cancel();
}
