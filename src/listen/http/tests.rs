//! Tests at a real socket with clients that are idle, are slow, send too much or violate the protocol. The server must
//! close these connections in time and answer other clients.

use axum::routing::{get, post};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;

use super::*;

/// More bytes than the buffers of a connection can store.
const LARGE: usize = 32 << 20;

struct Running {
    address: std::net::SocketAddr,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    /// Receiver that gets one message for each request for `/slow`.
    started: mpsc::UnboundedReceiver<()>,
}

fn routes(started: mpsc::UnboundedSender<()>) -> Router {
    let slow = || async move {
        started.send(()).unwrap();
        std::future::pending::<()>().await;
    };
    let large = axum::body::Bytes::from(vec![b'x'; LARGE]);
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/slow", get(slow))
        .route("/body", post(|body: axum::body::Bytes| async move { body.len().to_string() }))
        .route("/large", get(move || std::future::ready(large.clone())))
}

impl Running {
    /// Connects a client that waits for the answer of `/slow`, which never ends.
    async fn wait_for_slow(&mut self) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        self.started.recv().await.unwrap();
        stream
    }
}

async fn start(limits: Limits) -> Running {
    start_within(BOUNDS, limits).await
}

async fn start_within(bounds: Bounds, limits: Limits) -> Running {
    let listener = Listener::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.address().unwrap();
    let shutdown = CancellationToken::new();
    let (sender, started) = mpsc::unbounded_channel();
    let task = tokio::spawn(serve_within(listener, routes(sender), &["/healthz"], shutdown.clone(), bounds, limits));
    Running { address, shutdown, task, started }
}

async fn send_request(mut stream: impl ByteStream, request: &[u8]) -> String {
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

trait ByteStream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> ByteStream for T {}

/// Time limits that no test reaches.
const NO_LIMITS: Limits = Limits { head: Duration::from_secs(3600), whole: Duration::from_secs(3600) };

/// Returns true if the server closes this connection.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut [0; 64])).await;
    matches!(read, Ok(Ok(0) | Err(_)))
}

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test]
async fn socket_file_answers_like_an_address() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("status.sock");
    let listener = Listener::unix(&path).await.unwrap();
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(serve_routes(listener, routes(mpsc::unbounded_channel().0), &[], shutdown.clone()));
    let answer = send_request(UnixStream::connect(&path).await.unwrap(), HEALTH).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    shutdown.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn client_without_complete_head_is_closed_and_blocks_nobody() {
    let server = start(Limits { head: Duration::from_millis(50), ..NO_LIMITS }).await;
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(b"GET / HT").await.unwrap();
    let answer = send_request(TcpStream::connect(server.address).await.unwrap(), HEALTH).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(is_closed(&mut slow).await);
}

#[tokio::test]
async fn client_that_reads_nothing_is_closed_in_time() {
    let server = start(Limits { whole: Duration::from_millis(50), ..NO_LIMITS }).await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    assert!(is_closed(&mut idle).await);
}

#[tokio::test]
async fn idle_clients_cannot_lock_out_a_health_check() {
    let server = start(NO_LIMITS).await;
    let mut idle = Vec::new();
    for _ in 0..BOUNDS.waiting + 10 {
        idle.push(TcpStream::connect(server.address).await.unwrap());
    }
    let answer = send_request(TcpStream::connect(server.address).await.unwrap(), HEALTH).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let mut first = idle.remove(0);
    assert!(is_closed(&mut first).await, "the oldest idle connection was closed");
}

#[tokio::test]
async fn excess_answers_close_oldest_but_idle_clients_none() {
    let mut server = start(NO_LIMITS).await;
    let mut waiting = Vec::new();
    for _ in 0..BOUNDS.answered.unwrap() {
        waiting.push(server.wait_for_slow().await);
    }
    let mut idle = Vec::new();
    for _ in 0..2 * BOUNDS.waiting {
        idle.push(TcpStream::connect(server.address).await.unwrap());
    }
    assert!(is_closed(&mut idle[0]).await, "the oldest idle connection was closed");
    let answer = send_request(TcpStream::connect(server.address).await.unwrap(), HEALTH).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let read = tokio::time::timeout(Duration::from_millis(50), waiting[0].read(&mut [0; 64])).await;
    assert!(read.is_err(), "neither idle clients nor a health check closed a waiting answer: {read:?}");
    let _one_more = server.wait_for_slow().await;
    assert!(is_closed(&mut waiting[0]).await, "the oldest answer was closed");
}

#[tokio::test]
async fn health_check_is_answered_within_crowd_of_clients() {
    let listener = Listener::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.address().unwrap();
    // All clients wait to be accepted. One client in five sends a health check. The others send a part of a head, or
    // nothing.
    let (mut slow, mut checks) = (Vec::new(), Vec::new());
    for number in 0..400 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        match number % 5 {
            0 => {
                stream.write_all(HEALTH).await.unwrap();
                checks.push(stream);
            }
            even if even % 2 == 0 => {
                stream.write_all(b"GET / HT").await.unwrap();
                slow.push(stream);
            }
            _ => slow.push(stream),
        }
    }
    let shutdown = CancellationToken::new();
    let bounds = Bounds { waiting: 4, grace: Duration::from_millis(1), ..BOUNDS };
    let router = routes(mpsc::unbounded_channel().0);
    let task = tokio::spawn(serve_within(listener, router, &["/healthz"], shutdown.clone(), bounds, NO_LIMITS));
    for (number, mut check) in checks.into_iter().enumerate() {
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(20), check.read_to_end(&mut answer)).await;
        assert!(matches!(read, Ok(Ok(_))) && answer.starts_with(b"HTTP/1.1 200 OK"), "check {number}: {read:?}");
    }
    assert!(is_closed(&mut slow[0]).await, "the oldest slow client was closed");
    shutdown.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn too_large_head_is_rejected() {
    let server = start(NO_LIMITS).await;
    let mut request = b"GET / HTTP/1.1\r\nHost: x\r\nX: ".to_vec();
    request.resize(MAX_HEAD + 1, b'x');
    let answer = send_request(TcpStream::connect(server.address).await.unwrap(), &request).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn shutdown_ends_server_despite_idle_client() {
    let server = start(NO_LIMITS).await;
    let _idle = TcpStream::connect(server.address).await.unwrap();
    server.shutdown.cancel();
    server.task.await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

/// Sends `request`, and returns all bytes that the server sends before the end of the connection.
async fn exchange(server: &Running, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    // The write fails if the server closes the connection early.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the connection stays open after {:?}", String::from_utf8_lossy(request));
    String::from_utf8(answer).unwrap()
}

async fn is_healthy(server: &Running) -> bool {
    exchange(server, HEALTH).await.starts_with("HTTP/1.1 200 OK\r\n")
}

#[tokio::test]
async fn connection_carries_only_one_request() {
    let server = start(NO_LIMITS).await;
    for (request, expected) in [
        (HEALTH.repeat(3), "HTTP/1.1 200 OK"),
        (
            b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\nKeep-Alive: timeout=600\r\n\r\n".to_vec(),
            "HTTP/1.1 200 OK",
        ),
        (b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), "HTTP/1.1 200 OK"),
        (b"GET http://x/healthz HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), "HTTP/1.1 200 OK"),
        (
            b"GET /healthz HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n".to_vec(),
            "HTTP/1.1 200 OK",
        ),
        (b"GET /healthz HTTP/1.0\r\n\r\n".to_vec(), "HTTP/1.0 200 OK"),
        // The server does not wait for a body that the route does not read.
        (b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\nx".to_vec(), "HTTP/1.1 405 "),
        (b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), "HTTP/1.1 40"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), ""),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), "HTTP/1.1 400 "),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n".to_vec(), "HTTP/1.1 400 "),
    ] {
        let answer = exchange(&server, &request).await;
        let request = String::from_utf8_lossy(&request);
        assert!(answer.starts_with(expected), "{request:?}: {answer:?}");
        assert_eq!(answer.matches("HTTP/1.").count(), usize::from(!expected.is_empty()), "{request:?}: {answer:?}");
        assert!(!request.starts_with("HEAD") || answer.ends_with("\r\n\r\n"), "{answer:?}");
    }
}

#[tokio::test]
async fn heads_with_many_lines_or_long_addresses_are_rejected() {
    let server = start(NO_LIMITS).await;
    let many: String = (0..200).map(|i| format!("X-{i}: y\r\n")).collect();
    let request = format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{many}\r\n");
    assert!(exchange(&server, request.as_bytes()).await.starts_with("HTTP/1.1 431 "));
    let request = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(MAX_HEAD));
    assert!(exchange(&server, request.as_bytes()).await.starts_with("HTTP/1.1 4"));
    assert!(is_healthy(&server).await);
}

#[tokio::test]
async fn client_sending_byte_by_byte_is_closed_in_time() {
    let server = start(Limits { head: Duration::from_millis(200), whole: Duration::from_secs(2) }).await;
    for begin in
        ["GET /healthz HTTP/1.1\r\nHost: ", "POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"]
    {
        let mut slow = TcpStream::connect(server.address).await.unwrap();
        slow.write_all(begin.as_bytes()).await.unwrap();
        let (mut reading, mut writing) = slow.into_split();
        let drops = async {
            while writing.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let mut received = Vec::new();
        tokio::select! {
            // Reading ends when the connection is closed.
            _ = reading.read_to_end(&mut received) => {}
            () = drops => {}
            () = tokio::time::sleep(Duration::from_secs(20)) => panic!("not closed: {begin}"),
        }
        assert!(is_healthy(&server).await);
    }
}

#[tokio::test]
async fn greedy_client_that_reads_nothing_is_closed_in_time() {
    let server = start(Limits { whole: Duration::from_secs(1), ..NO_LIMITS }).await;
    let mut greedy = Vec::new();
    for _ in 0..2 * BOUNDS.answered.unwrap() {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        greedy.push(stream);
        assert!(is_healthy(&server).await);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    for mut stream in greedy {
        let mut read = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut read)).await;
        assert!(ended.is_ok() && read.len() < LARGE, "{} bytes", read.len());
    }
}

#[tokio::test]
async fn crowd_of_event_senders_waits_for_slots() {
    let start_events = |grace| start_within(Bounds { grace, ..EVENT_BOUNDS }, NO_LIMITS);
    let server = start_events(Duration::from_secs(3600)).await;
    let senders: Vec<_> = (0..EVENT_BOUNDS.waiting * 4)
        .map(|_| {
            let address = server.address;
            tokio::spawn(async move { send_request(TcpStream::connect(address).await.unwrap(), HEALTH).await })
        })
        .collect();
    for answer in senders {
        let answer = answer.await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer:?}");
    }
    let server = start_events(Duration::from_millis(20)).await;
    let mut idle = Vec::new();
    for _ in 0..EVENT_BOUNDS.waiting + 10 {
        idle.push(TcpStream::connect(server.address).await.unwrap());
    }
    let answer = send_request(TcpStream::connect(server.address).await.unwrap(), HEALTH).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}
