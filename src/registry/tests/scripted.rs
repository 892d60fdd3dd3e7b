//! Scripted server, which gives the responses that a test defines, and records the requests.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, Method, Request};
use tokio::task::JoinHandle;

use crate::oci::{Descriptor, Digest, MediaType};
use crate::registry::http::retry::RetryPolicy;
use crate::registry::{Credentials, Options, Registry, Repository, Secret};
use crate::store::{StoreError, Target as _, Upload, UploadStart, Verified};

/// A received request.
#[derive(Debug, Clone)]
pub(super) struct Received {
    pub(super) method: Method,
    /// Path with the query.
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Number of earlier requests.
    pub(super) nth: usize,
    /// URL of the server: `http://127.0.0.1:PORT`.
    pub(super) own: String,
}

impl Received {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Returns the method and the path, such as `GET /v2/a/b/tags/list`.
    pub(super) fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

pub(super) struct Server {
    pub(super) host: String,
    log: Arc<Mutex<Vec<Received>>>,
    task: JoinHandle<()>,
}

impl Server {
    pub(super) async fn start(answer: impl Fn(&Received) -> Response + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let log: Arc<Mutex<Vec<Received>>> = Arc::default();
        let (seen, own, answer) = (Arc::clone(&log), format!("http://{host}"), Arc::new(answer));
        let handler = move |request: Request<Body>| {
            let (seen, own, answer) = (Arc::clone(&seen), own.clone(), Arc::clone(&answer));
            async move {
                let (parts, body) = request.into_parts();
                let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
                let path = parts.uri.path_and_query().unwrap().to_string();
                let received = {
                    let mut seen = seen.lock().unwrap();
                    let nth = seen.len();
                    seen.push(Received { method: parts.method, path, headers: parts.headers, body, nth, own });
                    seen[nth].clone()
                };
                answer(&received)
            }
        };
        let routes = axum::Router::new().fallback(handler);
        let task = tokio::spawn(async { axum::serve(listener, routes).await.unwrap() });
        Self { host, log, task }
    }

    pub(super) fn requests(&self) -> Vec<Received> {
        self.log.lock().unwrap().clone()
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.requests().iter().map(Received::line).collect()
    }

    /// Returns the number of requests whose line begins with this text.
    pub(super) fn count(&self, line: &str) -> usize {
        self.lines().iter().filter(|request| request.starts_with(line)).count()
    }

    pub(super) fn registry(&self) -> Arc<Registry> {
        self.registry_as(plain())
    }

    pub(super) fn registry_as(&self, options: Options) -> Arc<Registry> {
        Registry::with_retry_policy(self.host.parse().unwrap(), options, quick()).unwrap()
    }

    /// Returns the repository `a/b`, for anonymous requests.
    pub(super) fn repository(&self) -> Repository {
        self.registry().repository("a/b".parse().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(super) fn plain() -> Options {
    Options { plain_http: true, ..Options::default() }
}

pub(super) fn me() -> Options {
    let credentials =
        Credentials::Password { username: "me".into(), password: Secret::Value("hunter2".to_owned().into()) };
    Options { credentials: Some(credentials), ..plain() }
}

/// Returns a policy with short pauses. The time limits are the default limits, so a slow machine changes no result.
pub(super) fn quick() -> RetryPolicy {
    let pause = Duration::from_millis(1);
    RetryPolicy { first_pause: pause, longest_pause: pause, ..RetryPolicy::default() }
}

pub(super) fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response {
    let builder = headers.iter().fold(Response::builder().status(status), |b, (name, value)| b.header(*name, *value));
    builder.body(body.into()).unwrap()
}

pub(super) fn refusal(status: u16, code: &str) -> Response {
    answer(status, &[], format!(r#"{{"errors":[{{"code":"{code}","message":"said so"}}]}}"#))
}

pub(super) fn blob(content: &[u8]) -> Descriptor {
    Descriptor::new(MediaType::new("application/octet-stream"), Digest::of(content), content.len() as u64)
}

/// Returns content in pieces of 1,000 bytes.
pub(super) fn verified(content: &[u8]) -> Verified {
    let pieces: Vec<_> = content.chunks(1000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    Verified::new(stream::iter(pieces).boxed(), blob(content), "elsewhere/x")
}

pub(super) async fn session(repository: &Repository, content: &[u8]) -> Result<Box<dyn Upload>, StoreError> {
    match repository.begin_upload(&blob(content), None).await? {
        UploadStart::Session(session) => Ok(session),
        UploadStart::Mounted => panic!("mounted without a request to do so"),
    }
}

/// Returns this many bytes with different values.
pub(super) fn noise(length: usize) -> Vec<u8> {
    (0..length as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}
