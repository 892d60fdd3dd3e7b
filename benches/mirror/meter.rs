//! Proxy (meter) in front of a registry. The meter counts the traffic and simulates a round-trip time and a bandwidth.
//! Each meter runs on a separate thread, so meters do not delay each other.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::body::{Body, HttpBody as _};
use futures_util::StreamExt as _;
use http::header::{CONNECTION, HOST, RANGE, TRANSFER_ENCODING};
use http::{Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::counts::{CountedRequest, Counts};

/// Delays and limits of a meter.
#[derive(Clone, Default)]
pub(crate) struct Setup {
    /// Delay of each request and of each new connection. A TLS handshake takes a second delay.
    pub(crate) round_trip: Duration,
    /// Limit for the bodies in both directions together, in bytes per second.
    pub(crate) bandwidth: Option<u64>,
    /// TLS acceptor for connections of clients.
    pub(crate) tls: Option<TlsAcceptor>,
}

/// Running meter. Dropping the value ends the meter and its connections.
pub(crate) struct Meter {
    shared: Arc<Shared>,
    address: SocketAddr,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    upstream: SocketAddr,
    /// Round-trip time in microseconds.
    round_trip: AtomicU64,
    bandwidth: Option<u64>,
    tls: Option<TlsAcceptor>,
    /// Time until which the sent bytes occupy the bandwidth.
    free_at: Mutex<Instant>,
    counts: Mutex<Counts>,
    read: AtomicU64,
    written: AtomicU64,
    at_once: AtomicU64,
    most_at_once: AtomicU64,
    client: Client<HttpConnector, Body>,
}

impl Meter {
    pub(crate) fn start(upstream: SocketAddr, setup: Setup) -> anyhow::Result<Self> {
        let stop = CancellationToken::new();
        let (ready, started) = mpsc::sync_channel(1);
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("meter".into()).spawn(move || {
            let served = || -> anyhow::Result<()> {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(async {
                    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
                    let shared = Arc::new(Shared::new(upstream, setup));
                    ready.send((listener.local_addr()?, shared.clone())).context("no caller waits for the meter")?;
                    stopped.run_until_cancelled(accept(listener, shared)).await;
                    Ok(())
                })
            };
            if let Err(error) = served() {
                crate::report::print_progress(&format!("a meter ended: {error:#}"));
            }
        })?;
        let (address, shared) = started.recv().context("the meter did not start")?;
        Ok(Self { shared, address, stop, thread: Some(thread) })
    }

    /// Returns the address of the meter as `127.0.0.1:PORT`.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn set_round_trip(&self, round_trip: Duration) {
        self.shared.round_trip.store(round_trip.as_micros() as u64, Ordering::Relaxed);
    }

    /// Returns the counts since the previous call, and resets the counts.
    pub(crate) fn take(&self) -> Counts {
        let shared = &self.shared;
        let mut counts = std::mem::take(&mut *lock(&shared.counts));
        counts.bytes_read = shared.read.swap(0, Ordering::Relaxed);
        counts.bytes_written = shared.written.swap(0, Ordering::Relaxed);
        counts.most_at_once = shared.most_at_once.swap(0, Ordering::Relaxed);
        counts
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn new(upstream: SocketAddr, setup: Setup) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self {
            upstream,
            round_trip: AtomicU64::new(setup.round_trip.as_micros() as u64),
            bandwidth: setup.bandwidth,
            tls: setup.tls,
            free_at: Mutex::new(Instant::now()),
            counts: Mutex::default(),
            read: AtomicU64::new(0),
            written: AtomicU64::new(0),
            at_once: AtomicU64::new(0),
            most_at_once: AtomicU64::new(0),
            client: Client::builder(TokioExecutor::new()).build(connector),
        }
    }

    async fn delay_round_trip(&self) {
        let round_trip = self.round_trip.load(Ordering::Relaxed);
        if round_trip > 0 {
            tokio::time::sleep(Duration::from_micros(round_trip)).await;
        }
    }

    /// Waits until the bandwidth limit permits `bytes` more bytes.
    async fn throttle(&self, bytes: usize) {
        let Some(bandwidth) = self.bandwidth else { return };
        let until = {
            let mut free_at = lock(&self.free_at);
            *free_at = (*free_at).max(Instant::now()) + Duration::from_secs_f64(bytes as f64 / bandwidth as f64);
            *free_at
        };
        tokio::time::sleep_until(until.into()).await;
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        lock(&shared.counts).connections += 1;
        tokio::spawn(serve_connection(stream, shared.clone()));
    }
}

async fn serve_connection(stream: TcpStream, shared: Arc<Shared>) {
    shared.delay_round_trip().await;
    match shared.tls.clone() {
        None => serve(stream, shared).await,
        Some(tls) => {
            shared.delay_round_trip().await;
            if let Ok(stream) = tls.accept(stream).await {
                serve(stream, shared).await;
            }
        }
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, shared: Arc<Shared>) {
    let service = service_fn(move |request| forward(shared.clone(), request));
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new());
    server.http2().timer(TokioTimer::new()).max_concurrent_streams(250);
    // A disconnected client is not an error of the meter.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

async fn forward(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, hyper::Error> {
    let at_once = AtOnce::new(&shared);
    shared.delay_round_trip().await;
    let (parts, body) = request.into_parts();
    let is_continued = parts.headers.get(RANGE).is_some_and(|range| !range.as_bytes().starts_with(b"bytes=0-"));
    let counted_request =
        CountedRequest::read(&parts.method, parts.uri.path(), parts.uri.query().unwrap_or_default(), is_continued);
    let answer = shared.client.request(onward(&shared, parts, body)).await;
    let Ok(answer) = answer else {
        lock(&shared.counts).answered(counted_request, StatusCode::BAD_GATEWAY);
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = StatusCode::BAD_GATEWAY;
        return Ok(answer);
    };
    let (mut parts, body) = answer.into_parts();
    lock(&shared.counts).answered(counted_request, parts.status);
    parts.headers.remove(CONNECTION);
    parts.headers.remove(TRANSFER_ENCODING);
    parts.version = Version::default();
    Ok(Response::from_parts(parts, counted(body, shared.clone(), |shared| &shared.read, Some(at_once))))
}

fn onward(shared: &Arc<Shared>, mut parts: http::request::Parts, body: Incoming) -> Request<Body> {
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    parts.uri = format!("http://{}{path}", shared.upstream).parse::<Uri>().unwrap_or_default();
    parts.version = Version::HTTP_11;
    for name in [HOST, CONNECTION, TRANSFER_ENCODING] {
        parts.headers.remove(name);
    }
    parts.extensions.clear();
    Request::from_parts(parts, counted(body, shared.clone(), |shared| &shared.written, None))
}

/// Returns the same body, and counts the bytes of the body. `until_end` is dropped at the end of the body.
fn counted(body: Incoming, shared: Arc<Shared>, into: fn(&Shared) -> &AtomicU64, until_end: Option<AtOnce>) -> Body {
    if body.is_end_stream() {
        return Body::empty();
    }
    let stream = Body::new(body).into_data_stream();
    Body::from_stream(stream.then(move |piece| {
        let _until_end = &until_end;
        let bytes = piece.as_ref().map_or(0, bytes::Bytes::len);
        into(&shared).fetch_add(bytes as u64, Ordering::Relaxed);
        let shared = shared.bandwidth.map(|_| shared.clone());
        async move {
            if let Some(shared) = shared {
                shared.throttle(bytes).await;
            }
            piece
        }
    }))
}

/// Guard that counts a request until the guard is dropped.
struct AtOnce(Arc<Shared>);

impl AtOnce {
    fn new(shared: &Arc<Shared>) -> Self {
        let now = shared.at_once.fetch_add(1, Ordering::Relaxed) + 1;
        shared.most_at_once.fetch_max(now, Ordering::Relaxed);
        Self(shared.clone())
    }
}

impl Drop for AtOnce {
    fn drop(&mut self) {
        self.0.at_once.fetch_sub(1, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
