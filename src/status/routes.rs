//! Routes of the status port. The routes answer from a snapshot in memory. Some pages also query a [`History`].

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use chrono::{DateTime, Utc};
use tokio::sync::watch;

use super::admission::{Admission, admit};
use super::history::{History, LimitedHistory};
use super::metrics::{Metrics, TextFormat};
use super::page;
use super::snapshot::Snapshot;
use crate::config::Config;

/// Clock of the status port. Tests replace the clock.
pub type Clock = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

/// Maximum age of the last iteration of the daemon's loop. If the last iteration is older, `/healthz` fails.
pub const HEALTHY_WITHIN: Duration = Duration::from_secs(60);

/// Data that the status port serves.
#[derive(Clone)]
pub struct Port {
    snapshot: watch::Receiver<Arc<Snapshot>>,
    metrics: Arc<Metrics>,
    clock: Clock,
    history: Arc<LimitedHistory>,
    admission: Admission,
}

impl Port {
    /// Creates a status port. For each request, the port reads the current values of `snapshot` and `config`. `config`
    /// decides which clients have access. The caller must listen at the address that `config` contains at the time of
    /// this call.
    #[must_use]
    pub fn new(
        snapshot: watch::Receiver<Arc<Snapshot>>,
        metrics: Arc<Metrics>,
        clock: Clock,
        config: watch::Receiver<Arc<Config>>,
    ) -> Self {
        Self {
            snapshot,
            metrics,
            clock,
            history: Arc::new(LimitedHistory::new(None)),
            admission: Admission::new(config),
        }
    }

    /// Adds past runs to the pages. Queries of `history` must not delay runs in progress.
    #[must_use]
    pub fn with_history(self, history: Arc<dyn History>) -> Self {
        Self { history: Arc::new(LimitedHistory::new(Some(history))), ..self }
    }

    /// Returns the routes of the status port.
    pub fn router(self) -> Router {
        let policy = HeaderValue::try_from(page::policy()).unwrap_or(HeaderValue::from_static("default-src 'none'"));
        Router::new()
            .route("/", get(overview))
            .route("/entry", get(entry))
            .route("/search", get(search))
            .route("/help", get(help))
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/status", get(status))
            .route("/metrics", get(metrics))
            .method_not_allowed_fallback(read_only)
            .fallback(unknown)
            .layer(axum::middleware::from_fn_with_state(self.admission.clone(), admit))
            .layer(axum::middleware::map_response(move |response| with_security_headers(response, policy.clone())))
            .with_state(self)
    }

    fn now(&self) -> DateTime<Utc> {
        (self.clock)()
    }

    /// Returns a 404 response: a page for a browser, and a line of text for other clients.
    fn not_found(&self, headers: &HeaderMap, message: &str) -> Response {
        if accepts_html(headers) {
            let page = page::not_found(&self.snapshot(), message, self.now());
            return (StatusCode::NOT_FOUND, html(page.into_string())).into_response();
        }
        (StatusCode::NOT_FOUND, format!("{message}\n")).into_response()
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.borrow().clone()
    }
}

impl std::fmt::Debug for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Port")
    }
}

/// Query parameters of the pages. Unknown parameters are ignored.
#[derive(serde::Deserialize)]
struct QueryParameters {
    /// Condition, such as failing: the overview then lists only the entries in this condition.
    show: Option<String>,
    /// Order of the entries.
    sort: Option<String>,
    /// Number of the displayed part of the list of entries, from 1. If the number is absent or invalid, the overview
    /// shows the first part.
    part: Option<String>,
    /// Name of the entry that the page describes.
    name: Option<String>,
    /// Text to search for.
    q: Option<String>,
}

async fn overview(State(port): State<Port>, Query(query): Query<QueryParameters>) -> Response {
    let view = page::View::from_query(query.show.as_deref(), query.sort.as_deref(), query.part.as_deref());
    html(page::overview(&port.snapshot(), &port.history, &view, port.now()).await.into_string())
}

async fn entry(State(port): State<Port>, Query(query): Query<QueryParameters>, headers: HeaderMap) -> Response {
    let name = query.name.unwrap_or_default();
    match page::entry(&port.snapshot(), &port.history, &port.admission.config(), &name, port.now()).await {
        Some(page) => html(page.into_string()),
        None => port.not_found(&headers, &format!("there is no entry {name:?} in the configuration")),
    }
}

async fn help(State(port): State<Port>) -> Response {
    html(page::help(&port.snapshot(), port.now()).into_string())
}

async fn search(State(port): State<Port>, Query(query): Query<QueryParameters>) -> Response {
    html(page::search(&port.snapshot(), &port.history, &query.q.unwrap_or_default(), port.now()).await.into_string())
}

fn html(page: String) -> Response {
    axum::response::Html(page).into_response()
}

async fn healthz(State(port): State<Port>) -> Response {
    // If the clock was set back, the time of the last iteration can be in the future until the next iteration.
    let age = (port.now() - port.snapshot().loop_iterated_at).abs().to_std().unwrap_or(Duration::MAX);
    if age <= HEALTHY_WITHIN {
        return "ok\n".into_response();
    }
    let age = humantime::format_duration(Duration::from_secs(age.as_secs()));
    (StatusCode::SERVICE_UNAVAILABLE, format!("the daemon's loop last iterated {age} ago\n")).into_response()
}

async fn readyz(State(port): State<Port>) -> Response {
    let obstacles = port.snapshot().obstacles();
    if obstacles.is_empty() {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", obstacles.join(", "))).into_response()
}

async fn status(State(port): State<Port>) -> Response {
    Json(&*port.snapshot()).into_response()
}

async fn metrics(State(port): State<Port>, headers: HeaderMap) -> impl IntoResponse {
    // The server ignores an `Accept` header that is not text.
    let accept: Vec<&str> = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let format = TextFormat::negotiate(&accept.join(","));
    let headers = [(header::CONTENT_TYPE, format.content_type()), (header::VARY, header::ACCEPT.as_str())];
    (headers, port.metrics.encode_as(format))
}

async fn unknown(State(port): State<Port>, uri: Uri, headers: HeaderMap) -> Response {
    let routes = "the routes are /, /entry, /search, /help, /healthz, /readyz, /status and /metrics";
    port.not_found(&headers, &format!("there is no route {}: {routes}", uri.path()))
}

/// Returns true if the client is a browser. A browser requests `text/html` in `Accept`, and other programs do not.
fn accepts_html(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|range| {
        range.split(';').next().is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case("text/html"))
    })
}

async fn read_only() -> (StatusCode, &'static str) {
    (StatusCode::METHOD_NOT_ALLOWED, "the status port is read-only: use GET\n")
}

async fn with_security_headers(mut response: Response, policy: HeaderValue) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    let fixed: [(HeaderName, &'static str); 3] = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::super::snapshot::tests::{second, working};
    use super::*;
    use crate::listen::{Listener, serve_routes};

    fn open_configuration() -> watch::Receiver<Arc<Config>> {
        let environment = |name: &str| (name == "HOME").then(|| "/home/me".to_owned());
        watch::channel(Arc::new(crate::config::parse("x", "version: 1\nsync: []", &environment).unwrap())).1
    }

    /// Serves `snapshot` on a real socket, with `now` as the time, and requests `path`.
    async fn request(snapshot: Snapshot, now: DateTime<Utc>, method: &str, path: &str) -> (u16, String) {
        let (_sender, receiver) = watch::channel(Arc::new(snapshot));
        let listener = Listener::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let url = format!("http://{}{path}", listener.address().unwrap());
        let port = Port::new(
            receiver,
            Arc::new(Metrics::new("1.2.3", second(0))),
            Arc::new(move || now),
            open_configuration(),
        );
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(serve_routes(listener, port.router(), &[], shutdown.clone()));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let response = client.request(method.parse().unwrap(), url).send().await.unwrap();
        let answer = (response.status().as_u16(), response.text().await.unwrap());
        shutdown.cancel();
        task.await.unwrap();
        answer
    }

    #[test]
    fn only_browsers_get_a_page_for_an_unknown_address() {
        let accepts = |value: &str| accepts_html(&HeaderMap::from_iter([(header::ACCEPT, value.parse().unwrap())]));
        assert!(accepts("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8") && accepts("image/png, Text/HTML;q=0.7"));
        assert!(!accepts("*/*") && !accepts("application/json") && !accepts_html(&HeaderMap::new()));
    }

    async fn get(snapshot: Snapshot, path: &str) -> (u16, String) {
        request(snapshot, second(1), "GET", path).await
    }

    #[tokio::test]
    async fn healthz_needs_loop_iteration_within_a_minute() {
        assert_eq!(request(working(), second(60), "GET", "/healthz").await, (200, "ok\n".into()));
        let silent = (503, "the daemon's loop last iterated 1m 1s ago\n".into());
        assert_eq!(request(working(), second(61), "GET", "/healthz").await, silent);
    }

    #[tokio::test]
    async fn failed_run_or_rejected_edit_keeps_daemon_ready() {
        let mut snapshot = working();
        snapshot.configuration.problem = Some("sync.yaml:3:1: unknown key".into());
        assert_eq!(get(snapshot, "/readyz").await, (200, "ready\n".into()));
    }

    #[tokio::test]
    async fn readyz_names_each_obstacle() {
        let mut snapshot = working();
        snapshot.journal.writable = false;
        assert_eq!(get(snapshot.clone(), "/readyz").await, (503, "not ready: the journal cannot be written\n".into()));
        snapshot.configuration.loaded_at = None;
        let (code, words) = get(snapshot, "/readyz").await;
        assert_eq!((code, words.contains("no configuration is loaded")), (503, true));
    }

    #[tokio::test]
    async fn status_route_returns_the_snapshot() {
        let (code, body) = get(working(), "/status").await;
        assert_eq!((code, serde_json::from_str(&body).unwrap()), (200, working()));
    }

    #[tokio::test]
    async fn known_routes_answer_and_unknown_ones_explain() {
        assert!(get(working(), "/metrics").await.1.contains("transship_build_info{version=\"1.2.3\"} 1\n"));
        assert!(get(working(), "/").await.1.starts_with("<!DOCTYPE html>"));
        let unknown = "there is no route /nope: the routes are /, /entry, /search, /help, /healthz, /readyz, /status \
                       and /metrics\n";
        assert_eq!(get(working(), "/nope?x=1").await, (404, unknown.into()));
        let refused = (405, "the status port is read-only: use GET\n".into());
        assert_eq!(request(working(), second(1), "POST", "/status").await, refused);
        assert_eq!(request(working(), second(1), "HEAD", "/healthz").await, (200, String::new()));
    }

    #[tokio::test]
    async fn metrics_route_answers_in_the_accepted_format() {
        let (_sender, receiver) = watch::channel(Arc::new(working()));
        let listener = Listener::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let url = format!("http://{}/metrics", listener.address().unwrap());
        let metrics = Arc::new(Metrics::new("1.2.3", second(0)));
        let port = Port::new(receiver, metrics, Arc::new(|| second(1)), open_configuration());
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(serve_routes(listener, port.router(), &[], shutdown.clone()));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let (prometheus, open_metrics) = ("text/plain; version=0.0.4;", "application/openmetrics-text; version=1.0.0;");
        for (accept, expected) in [
            (&[][..], prometheus),
            (&["*/*"], prometheus),
            (&["text/plain;version=0.0.4"], prometheus),
            (&["application/openmetrics-text;version=1.0.0,text/plain;q=0.5"], open_metrics),
            (&["text/plain;q=0.5", "application/openmetrics-text"], open_metrics),
        ] {
            let request = accept.iter().fold(client.get(&url), |request, range| request.header("accept", *range));
            let response = request.send().await.unwrap();
            let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
            assert!(content_type.starts_with(expected), "{accept:?}: {content_type}");
            assert_eq!(response.headers()["vary"], "accept");
            let text = response.text().await.unwrap();
            assert_eq!(text.ends_with("# EOF\n"), expected == open_metrics, "{accept:?}: {text}");
            assert_eq!(text.contains("# TYPE transship_build info\n"), expected == open_metrics, "{accept:?}: {text}");
        }
        shutdown.cancel();
        task.await.unwrap();
    }

    #[tokio::test]
    async fn thousand_entries_take_at_most_a_mebibyte() {
        let mut snapshot = working();
        let one = snapshot.entries.remove(0);
        let named = |i| super::super::EntryState { name: format!("entry-{i}"), ..one.clone() };
        snapshot.entries = (0..1000).map(named).collect();
        for path in ["/", "/status"] {
            let (status, body) = get(snapshot.clone(), path).await;
            assert!(status == 200 && body.len() < 1 << 20, "{path}: {} bytes", body.len());
        }
    }
}
