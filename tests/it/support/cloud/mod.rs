//! In-process clouds: their metadata services, token services and the authentication of their registries. Each records
//! all secrets that it issued, so that a test can search for them.

pub mod aws;
pub mod azure;
pub mod gcp;
mod sigv4;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use base64::Engine as _;
use tokio_util::sync::CancellationToken;

use super::registry::Gate;

/// Request to a service.
#[derive(Debug, Clone)]
pub struct ServiceRequest {
    /// Method, such as GET.
    pub method: String,
    /// Path without its query.
    pub path: String,
    /// Query, decoded.
    pub query: BTreeMap<String, String>,
    /// Headers, with names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Body.
    pub body: String,
}

impl ServiceRequest {
    /// Returns a header; empty if it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Returns the body as a form.
    pub fn form(&self) -> BTreeMap<String, String> {
        url::form_urlencoded::parse(self.body.as_bytes()).into_owned().collect()
    }
}

/// Response of a service: a status, headers and a body.
pub type ServiceResponse = (u16, Vec<(&'static str, String)>, String);

/// Returns a 200 response with JSON.
pub fn json(value: &serde_json::Value) -> ServiceResponse {
    (200, vec![("content-type", "application/json".into())], value.to_string())
}

/// Returns a refusal without a body.
pub fn refused(status: u16) -> ServiceResponse {
    (status, Vec::new(), String::new())
}

/// Services on a loopback port. Dropping the value ends the services.
pub struct Services {
    address: SocketAddr,
    requested: Arc<Mutex<Vec<ServiceRequest>>>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Services {
    /// Starts services that answer with this function.
    pub fn start(answer: impl Fn(&ServiceRequest) -> ServiceResponse + Send + Sync + 'static) -> Self {
        let (stop, requested) = (CancellationToken::new(), Arc::new(Mutex::new(Vec::new())));
        let (ready, started) = mpsc::sync_channel(1);
        let (stopped, noted, answer) = (stop.clone(), requested.clone(), Arc::new(answer));
        let thread = std::thread::Builder::new().name("cloud".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
                ready.send(listener.local_addr().unwrap()).unwrap();
                let handle = move |request: axum::extract::Request| {
                    let (noted, answer) = (noted.clone(), answer.clone());
                    async move {
                        let requested = read(request).await;
                        noted.lock().unwrap().push(requested.clone());
                        respond(answer(&requested))
                    }
                };
                let serve = axum::serve(listener, Router::new().fallback(handle));
                stopped.run_until_cancelled(async { serve.await }).await;
            });
        });
        let address = started.recv().expect("the thread binds its port");
        Self { address, requested, stop, thread: Some(thread.unwrap()) }
    }

    /// Returns `http://127.0.0.1:PORT` with a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Returns the requests so far, each as `GET /path`.
    pub fn lines(&self) -> Vec<String> {
        self.requested.lock().unwrap().iter().map(|request| format!("{} {}", request.method, request.path)).collect()
    }

    /// Returns the number of requests `GET /path`.
    pub fn count(&self, line: &str) -> usize {
        self.lines().iter().filter(|requested| *requested == line).count()
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn read(request: axum::extract::Request) -> ServiceRequest {
    let (parts, body) = request.into_parts();
    let query = url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    let text = |value: &axum::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = parts.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap_or_default();
    let (method, path) = (parts.method.to_string(), parts.uri.path().to_owned());
    ServiceRequest { method, path, query, headers, body: String::from_utf8_lossy(&body).into_owned() }
}

fn respond((status, headers, body): ServiceResponse) -> Response {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    response.body(Body::from(body)).expect("the response is valid")
}

/// All issued secrets, each with its kind.
#[derive(Debug, Clone, Default)]
pub struct Given(Arc<Mutex<Vec<(String, String)>>>);

impl Given {
    /// Creates a unique secret of this kind.
    pub fn new_secret(&self, kind: &str) -> String {
        let mut bytes = [0; 24];
        aws_lc_rs::rand::fill(&mut bytes).expect("random bytes");
        let secret = format!("c4nary-{}", hex::encode(bytes));
        self.record(kind, &secret);
        secret
    }

    /// Records a secret that was created elsewhere.
    pub fn record(&self, kind: &str, secret: &str) {
        self.0.lock().unwrap().push((kind.to_owned(), secret.to_owned()));
    }

    /// Returns all secrets.
    pub fn secrets(&self) -> Vec<(String, String)> {
        self.0.lock().unwrap().clone()
    }
}

/// Passwords of one user of a registry for a limited time, by Basic.
#[derive(Clone)]
pub struct Passwords {
    user: &'static str,
    /// Validity of each password.
    live: Arc<Mutex<HashMap<String, Life>>>,
    /// Age at which the first password that is used is revoked.
    revoke_at: Option<Duration>,
    refusals: Arc<Mutex<Vec<String>>>,
}

#[derive(Debug, Clone, Copy)]
struct Life {
    first: bool,
    from: Instant,
    until: Instant,
}

impl Passwords {
    /// Creates an empty set.
    pub fn new(user: &'static str, revoke_at: Option<Duration>) -> Self {
        Self { user, live: Arc::default(), revoke_at, refusals: Arc::default() }
    }

    /// Adds a password that is valid for `lifetime`.
    pub fn add(&self, password: &str, lifetime: Duration) {
        let mut live = self.live.lock().unwrap();
        let from = Instant::now();
        let life = Life { first: live.is_empty(), from, until: from + lifetime };
        live.insert(password.to_owned(), life);
    }

    /// Returns the reasons of refusals: `nobody` (no credentials), `unknown`, `over` (expired) or `revoked`.
    pub fn refusals(&self) -> Vec<String> {
        self.refusals.lock().unwrap().clone()
    }

    fn refusal(&self, authorization: &str) -> Option<&'static str> {
        let Some(encoded) = authorization.strip_prefix("Basic ") else { return Some("nobody") };
        let decoded = base64::engine::general_purpose::STANDARD.decode(encoded).unwrap_or_default();
        let decoded = String::from_utf8_lossy(&decoded).into_owned();
        let password = decoded.strip_prefix(&format!("{}:", self.user));
        let live = self.live.lock().unwrap();
        let Some(life) = password.and_then(|password| live.get(password)) else { return Some("unknown") };
        if Instant::now() >= life.until {
            return Some("over");
        }
        let revoked = life.first && self.revoke_at.is_some_and(|age| life.from.elapsed() >= age);
        revoked.then_some("revoked")
    }
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passwords")
    }
}

impl Gate for Passwords {
    fn challenge(&self, authorization: &str, _: &str, _: &[String]) -> Option<String> {
        let refusal = self.refusal(authorization)?;
        self.refusals.lock().unwrap().push(refusal.to_owned());
        Some("Basic realm=\"cloud\"".to_owned())
    }

    fn answer(&self, _: &str, _: &[(String, String)]) -> (u16, String) {
        (404, "{}".to_owned())
    }
}
