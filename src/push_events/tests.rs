//! Tests of the port over a socket, from the view of a sender. The configuration changes during the tests, and the
//! daemon is a fake that only records the run requests.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::hmac;
use futures_util::{StreamExt as _, stream};
use reqwest::{Method, Response, StatusCode};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Deliver, Port, Push, Undelivered};
use crate::config::{self, Config};
use crate::listen::{Listener, serve_events};
use crate::status::Metrics;

const SECRET: &str = "0123456789abcdef";

/// Fake of the daemon. The fake records the run requests. If `ending` is true, the fake refuses all requests.
#[derive(Default)]
struct FakeDaemon {
    runs: Mutex<Vec<String>>,
    ending: bool,
}

#[async_trait]
impl Deliver for FakeDaemon {
    async fn run(&self, entry: &str, pushes: &[&Push]) -> Result<(), Undelivered> {
        if self.ending {
            return Err(Undelivered::Ending);
        }
        if entry == "odd" {
            return Err(Undelivered::Refused("refused in this test".to_owned()));
        }
        let tags: Vec<&str> = pushes.iter().map(|push| push.tag.as_str()).collect();
        self.runs.lock().unwrap().push(format!("{entry}: {}", tags.join(" ")));
        Ok(())
    }
}

struct Bench {
    address: String,
    client: reqwest::Client,
    daemon: Arc<FakeDaemon>,
    metrics: Arc<Metrics>,
    config: watch::Sender<Arc<Config>>,
    folder: tempfile::TempDir,
    _end: DropGuard,
}

fn config(receivers: &str) -> Config {
    let text = format!(
        "version: 1\ndaemon: {{push_events: {{listen: \"127.0.0.1:0\", receivers: {{{receivers}}}}}}}\nsync:\n\
         - {{name: app, source: h.example/team/app, target: t.example/app}}\n\
         - {{name: tree, source: \"h.example/team/**\", target: \"t.example/team/**\"}}\n\
         - {{name: odd, source: h.example/odd, target: t.example/odd}}\n"
    );
    config::parse("sync.yaml", &text, &|_| Some("/tmp".into())).unwrap()
}

fn receiver(name: &str, kind: &str) -> String {
    format!("{name}: {{kind: {kind}, secret: {SECRET}, registry: h.example}}")
}

impl Bench {
    async fn new(receivers: &str) -> Self {
        Self::with(receivers, FakeDaemon::default()).await
    }

    async fn with(receivers: &str, daemon: FakeDaemon) -> Self {
        let (sender, config) = watch::channel(Arc::new(config(receivers)));
        let metrics = Arc::new(Metrics::new("0", chrono::DateTime::UNIX_EPOCH));
        let daemon = Arc::new(daemon);
        let port = Port::new(config, metrics.clone(), daemon.clone());
        let listener = Listener::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = format!("http://{}", listener.address().unwrap());
        let end = CancellationToken::new();
        tokio::spawn(serve_events(listener, port.router(), end.clone()));
        let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        Self { address, client, daemon, metrics, config: sender, folder, _end: end.drop_guard() }
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.address))
    }

    async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> (u16, String) {
        status_and_text(self.request(Method::POST, path).bearer_auth(SECRET).body(body).send().await.unwrap()).await
    }

    fn runs(&self) -> Vec<String> {
        std::mem::take(&mut self.daemon.runs.lock().unwrap())
    }

    /// Returns the number of events with this result.
    fn counted(&self, receiver: &str, result: &str) -> u64 {
        let text = self.metrics.encode();
        let line = format!("transship_push_events_total{{receiver=\"{receiver}\",result=\"{result}\"}} ");
        text.lines().find_map(|found| found.strip_prefix(&line)?.parse().ok()).unwrap()
    }
}

async fn status_and_text(answer: Response) -> (u16, String) {
    (answer.status().as_u16(), answer.text().await.unwrap())
}

fn pushed(repository: &str, tag: &str) -> String {
    let target = format!("{{\"repository\": \"{repository}\", \"tag\": \"{tag}\"}}");
    format!("{{\"events\": [{{\"action\": \"push\", \"target\": {target}}}]}}")
}

fn response(status: StatusCode, text: &str) -> (u16, String) {
    (status.as_u16(), text.to_owned())
}

#[tokio::test]
async fn response_names_the_entries_that_will_run() {
    let bench = Bench::new(&receiver("build", "distribution")).await;
    let both = response(StatusCode::ACCEPTED, r#"{"entries":["app","tree"]}"#);
    assert_eq!(bench.post("/hooks/build", pushed("team/app", "v1")).await, both);
    assert_eq!(bench.runs(), ["app: v1", "tree: v1"]);
    let nobody = response(StatusCode::OK, r#"{"entries":[]}"#);
    for (body, why) in [
        (pushed("other", "v1"), "no entry reads it"),
        (pushed("odd", "v1"), "the daemon refuses it"),
        (r#"{"events": []}"#.to_owned(), "nothing happened"),
        (pushed("team/app", "v1").replace("push", "pull"), "no push"),
    ] {
        assert_eq!(bench.post("/hooks/build", body).await, nobody, "{why}");
    }
    assert_eq!(bench.runs(), [""; 0]);
    let counted =
        ["matched", "unmatched", "ignored", "unreadable", "unauthorized"].map(|result| bench.counted("build", result));
    assert_eq!(counted, [2, 1, 1, 0, 0]);
}

#[tokio::test]
async fn unauthenticated_request_is_refused_without_a_reason() {
    let bench = Bench::new(
        &[("build", "distribution"), ("hub", "docker_hub"), ("github", "ghcr")]
            .map(|(name, kind)| receiver(name, kind))
            .join(", "),
    )
    .await;
    let refused = response(StatusCode::UNAUTHORIZED, "authentication failed\n");
    let request = |path| bench.request(Method::POST, path).body(pushed("team/app", "v1"));
    let signature = |key: &str| {
        let body = pushed("team/app", "v1");
        let signed = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), body.as_bytes());
        format!("sha256={}", hex::encode(signed))
    };
    for (request, how) in [
        (request("/hooks/build"), "without a secret"),
        (request("/hooks/build").bearer_auth("0123456789abcdeX"), "with another token"),
        (request("/hooks/build").basic_auth("x", Some(SECRET)), "with a password"),
        (request("/hooks/build?token=0123456789abcdef"), "with a token in the address, which only Docker Hub may use"),
        (request("/hooks/hub?token=0123456789abcdeX"), "with another token in the address"),
        (request("/hooks/build").header("X-Hub-Signature-256", signature(SECRET)), "signed, which only GitHub may do"),
        (
            request("/hooks/github").header("X-Hub-Signature-256", signature("0123456789abcdeX")),
            "signed with another key",
        ),
        (
            request("/hooks/github").header("X-Hub-Signature-256", signature(SECRET)).body(pushed("team/app", "v2")),
            "with the signature of another body",
        ),
    ] {
        assert_eq!(status_and_text(request.send().await.unwrap()).await, refused, "{how}");
    }
    assert_eq!(bench.runs(), [""; 0]);
    let counted = ["build", "hub", "github"].map(|name| bench.counted(name, "unauthorized"));
    assert_eq!(counted, [5, 1, 2]);
    let ping =
        request("/hooks/github").header("X-Hub-Signature-256", signature(SECRET)).header("X-GitHub-Event", "ping");
    assert_eq!(ping.send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn invalid_event_is_refused_with_a_reason() {
    let bench = Bench::new(&receiver("build", "distribution")).await;
    let unreadable = "not a valid distribution event: expected value at line 1 column 1\n";
    assert_eq!(bench.post("/hooks/build", "payload=1").await, response(StatusCode::BAD_REQUEST, unreadable));
    let unknown = response(StatusCode::NOT_FOUND, "there is no receiver of this name\n");
    assert_eq!(bench.post("/hooks/nobody", pushed("team/app", "v1")).await, unknown);
    assert_eq!(
        bench.post("/nowhere", "").await,
        response(StatusCode::NOT_FOUND, "not found: this port serves only /hooks/NAME\n")
    );
    let form = bench.request(Method::POST, "/hooks/build").bearer_auth(SECRET);
    let form = form.header("content-type", "application/x-www-form-urlencoded").body("payload=%7B%7D");
    let refused = "the body is a form: set the sender's content type to application/json\n";
    assert_eq!(
        status_and_text(form.send().await.unwrap()).await,
        response(StatusCode::UNSUPPORTED_MEDIA_TYPE, refused)
    );
    for name in ["build", "nobody"] {
        let answer = bench.request(Method::GET, &format!("/hooks/{name}")).send().await.unwrap();
        assert_eq!(answer.headers()["allow"], "POST");
        assert_eq!(status_and_text(answer).await, response(StatusCode::METHOD_NOT_ALLOWED, "send events with POST\n"));
    }
    assert_eq!(bench.counted("build", "unreadable"), 2);
    assert_eq!(bench.runs(), [""; 0]);
}

#[tokio::test]
async fn events_without_registry_do_not_block_the_others() {
    let bench = Bench::new(&format!("bare: {{kind: distribution, secret: {SECRET}}}")).await;
    let event = |host: &str, tag: &str| {
        let target = format!("{{\"repository\": \"team/app\", \"tag\": \"{tag}\"}}");
        format!("{{\"action\": \"push\", \"target\": {target}, \"request\": {{\"host\": \"{host}\"}}}}")
    };
    let odd = ["h.example.", "x:0", "", "a b"].map(|host| event(host, "v1"));
    let events = format!("{{\"events\": [{}, {}]}}", odd.join(", "), event("h.example", "v2"));
    assert_eq!(
        bench.post("/hooks/bare", events).await,
        response(StatusCode::ACCEPTED, r#"{"entries":["app","tree"]}"#)
    );
    assert_eq!(bench.runs(), ["app: v2", "tree: v2"]);
    let nobody = response(StatusCode::OK, r#"{"entries":[]}"#);
    assert_eq!(
        bench.post("/hooks/bare", pushed("team/app", "v1")).await,
        nobody,
        "accepted, so that the sender does not repeat it for ever"
    );
    let counted = ["matched", "ignored", "unreadable"].map(|result| bench.counted("bare", result));
    assert_eq!(counted, [1, 5, 0]);
}

#[tokio::test]
async fn body_with_60000_tags_is_read_in_seconds() {
    let bench = Bench::new(&receiver("build", "harbor")).await;
    let resources: Vec<String> = (0..60_000).map(|number| format!("{{\"tag\":\"{number}\"}}")).collect();
    let repository = "{\"repo_full_name\":\"team/app\"}";
    let data = format!("{{\"repository\":{repository},\"resources\":[{}]}}", resources.join(","));
    let body = format!("{{\"type\":\"PUSH_ARTIFACT\",\"event_data\":{data}}}");
    assert!(body.len() < 1 << 20, "{}", body.len());
    let answer = tokio::time::timeout(Duration::from_secs(10), bench.post("/hooks/build", body)).await;
    assert_eq!(answer.expect("the time grows with the square of the number of tags").0, 202);
    assert_eq!(bench.counted("build", "matched"), 60_000);
}

#[tokio::test]
async fn long_body_is_refused_and_unauthenticated_body_unread() {
    let bench = Bench::new(&[receiver("build", "distribution"), receiver("github", "ghcr")].join(", ")).await;
    let too_long = response(StatusCode::PAYLOAD_TOO_LARGE, "an event may have at most 1 MiB\n");
    let long = " ".repeat((1 << 20) + 1);
    assert_eq!(bench.post("/hooks/build", long.clone()).await, too_long, "by its declared length");
    let pieces = stream::iter(vec![Ok::<_, std::io::Error>(long[1..].to_owned()), Ok(" ".to_owned())]);
    assert_eq!(bench.post("/hooks/build", reqwest::Body::wrap_stream(pieces)).await, too_long, "by its actual length");
    let fits = pushed("team/app", "v1") + &" ".repeat((1 << 20) - pushed("team/app", "v1").len());
    assert_eq!(bench.post("/hooks/build", fits).await.0, 202);
    let without_end = || reqwest::Body::wrap_stream(stream::pending::<std::io::Result<Vec<u8>>>());
    let request = |path| bench.request(Method::POST, path).body(without_end());
    let signature = format!("sha256={}", "0".repeat(64));
    for (stranger, how) in [
        (request("/hooks/build").bearer_auth("someone-else-than-that"), "with another token"),
        (
            request("/hooks/build").header("X-Hub-Signature-256", &signature),
            "with a signature, which this kind does not use",
        ),
        (request("/hooks/github").header("X-Hub-Signature-256", &signature[..69]), "with an invalid signature"),
    ] {
        let answer = tokio::time::timeout(Duration::from_secs(10), stranger.send()).await.expect(how);
        assert_eq!(answer.unwrap().status(), StatusCode::UNAUTHORIZED, "{how}");
    }
}

#[tokio::test]
async fn ending_daemon_asks_senders_to_repeat_their_event() {
    let ending = FakeDaemon { ending: true, ..FakeDaemon::default() };
    let bench = Bench::with(&receiver("build", "distribution"), ending).await;
    let request = bench.request(Method::POST, "/hooks/build").bearer_auth(SECRET).body(pushed("team/app", "v1"));
    let answer = request.send().await.unwrap();
    assert_eq!(answer.headers()["retry-after"], "10");
    assert_eq!(
        status_and_text(answer).await,
        response(StatusCode::SERVICE_UNAVAILABLE, "the daemon is shutting down: send the event again\n")
    );
    assert_eq!(
        bench.post("/hooks/build", pushed("other", "v1")).await.0,
        200,
        "an event that concerns no entry is still accepted"
    );
}

#[tokio::test]
async fn receivers_follow_changes_of_the_configuration() {
    let bench = Bench::new(&receiver("build", "distribution")).await;
    let status = async |path: &str| bench.post(path, pushed("team/app", "v1")).await.0;
    assert_eq!((status("/hooks/build").await, status("/hooks/other").await), (202, 404));
    bench.config.send_replace(Arc::new(config(&receiver("other", "distribution"))));
    assert_eq!((status("/hooks/build").await, status("/hooks/other").await), (404, 202));
    let rotated = receiver("other", "distribution").replace(SECRET, "fedcba9876543210");
    bench.config.send_replace(Arc::new(config(&rotated)));
    assert_eq!(status("/hooks/other").await, 401);
    bench.config.send_replace(Arc::new(config(&receiver("other", "harbor"))));
    assert_eq!(status("/hooks/other").await, 400);
}

#[tokio::test]
async fn secret_file_is_read_per_request_and_weak_secret_refused() {
    let bench = Bench::new(&receiver("build", "distribution")).await;
    let path = bench.folder.path().join("secret");
    std::fs::write(&path, format!("{SECRET}\n")).unwrap();
    let in_file = format!("build: {{kind: distribution, secret: {{file: {}}}, registry: h.example}}", path.display());
    bench.config.send_replace(Arc::new(config(&in_file)));
    let send = async |token: &str| {
        let request = bench.request(Method::POST, "/hooks/build").bearer_auth(token).body(pushed("team/app", "v1"));
        status_and_text(request.send().await.unwrap()).await
    };
    assert_eq!(send(SECRET).await.0, 202);
    std::fs::write(&path, "fedcba9876543210").unwrap();
    assert_eq!((send(SECRET).await.0, send("fedcba9876543210").await.0), (401, 202));
    let unusable =
        response(StatusCode::INTERNAL_SERVER_ERROR, "the secret of this receiver cannot be used: see the log\n");
    for poor in ["", "\n", "123456789abcdef"] {
        std::fs::write(&path, poor).unwrap();
        assert_eq!(send(poor.trim()).await, unusable, "{poor:?}");
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(send("").await, unusable);
}

#[tokio::test]
async fn thousand_concurrent_events_are_all_accepted() {
    let bench = Bench::new(&receiver("build", "distribution")).await;
    let send = |number: usize| bench.post("/hooks/build", pushed("team/app", &format!("v{number}")));
    // More concurrent requests than the listener has slots.
    let answers: Vec<u16> =
        stream::iter(0..1000).map(send).buffer_unordered(250).map(|answer| answer.0).collect().await;
    assert_eq!(answers.iter().filter(|status| **status == 202).count(), 1000);
    assert_eq!(bench.runs().len(), 2000);
}
