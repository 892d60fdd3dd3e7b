//! Serves routes over HTTP/1.1 within bounds: one request a connection, and a time limit for each. There is no TLS, no HTTP/2
//! and no keep-alive.

use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio_util::sync::CancellationToken;

use super::connections::{Bounds, Place, serve};
use super::listener::{Connection, Listener};

/// Answers may be large, and each is whole in memory until it is read: so there are fewer of them.
const BOUNDS: Bounds = Bounds { asking: 64, answered: Some(16), sure: Duration::ZERO };
/// Whoever asks can ask again; an event may be told once. So those wait for a moment instead of ending each other.
const OF_EVENTS: Bounds = Bounds { asking: 64, answered: None, sure: Duration::from_secs(2) };
/// How long a client may take.
const LIMITS: Limits = Limits { head: Duration::from_secs(5), whole: Duration::from_secs(30) };
/// The largest request head, in bytes. Of headers hyper takes a hundred.
const HEAD_AT_MOST: usize = 16 << 10;

/// How long a client may take.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// For its request's head.
    head: Duration,
    /// In all, the sending of a body and the reading of the answer included.
    whole: Duration,
}

/// Answers requests until `shutdown`, then ends within a second. Dropping the future closes every connection.
pub async fn serve_routes(listener: Listener, router: Router, shutdown: CancellationToken) {
    serve_within(listener, router, shutdown, BOUNDS, LIMITS).await;
}

/// Takes events by these routes in the same way, but a storm of them one after the other.
pub async fn serve_events(listener: Listener, router: Router, shutdown: CancellationToken) {
    serve_within(listener, router, shutdown, OF_EVENTS, LIMITS).await;
}

async fn serve_within(listener: Listener, router: Router, shutdown: CancellationToken, bounds: Bounds, limits: Limits) {
    serve(listener, bounds, shutdown, |connection, place| answer(connection, place, router.clone(), limits)).await;
}

/// One request and its answer. A client that breaks off or breaks the protocol is of no interest to anybody.
async fn answer(connection: Connection, place: Place, router: Router, limits: Limits) {
    let routes = TowerToHyperService::new(router);
    let service = service_fn(move |request: Request<Incoming>| {
        place.be_answered();
        routes.call(request)
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(HEAD_AT_MOST)
        .keep_alive(false)
        .serve_connection(TokioIo::new(connection), service);
    let _ = tokio::time::timeout(limits.whole, serving).await;
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpStream, UnixStream};
    use tokio::sync::mpsc;

    use super::*;

    struct Running {
        address: std::net::SocketAddr,
        shutdown: CancellationToken,
        task: tokio::task::JoinHandle<()>,
        /// A word for each request for `/slow`.
        began: mpsc::UnboundedReceiver<()>,
    }

    fn routes(began: mpsc::UnboundedSender<()>) -> Router {
        let slow = || async move {
            began.send(()).unwrap();
            std::future::pending::<()>().await;
        };
        Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/slow", get(slow))
            .route("/large", get(|| async { vec![b'x'; 16 << 20] }))
    }

    async fn start(limits: Limits) -> Running {
        start_within(BOUNDS, limits).await
    }

    async fn start_within(bounds: Bounds, limits: Limits) -> Running {
        let listener = Listener::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.address().unwrap();
        let shutdown = CancellationToken::new();
        let (sender, began) = mpsc::unbounded_channel();
        let task = tokio::spawn(serve_within(listener, routes(sender), shutdown.clone(), bounds, limits));
        Running { address, shutdown, task, began }
    }

    async fn ask(mut stream: impl ByteStream, request: &[u8]) -> String {
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    trait ByteStream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin {}
    impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> ByteStream for T {}

    /// No limit that a test could wait for.
    const PATIENT: Limits = Limits { head: Duration::from_secs(3600), whole: Duration::from_secs(3600) };

    /// Whether the server ends this connection.
    async fn is_ended(stream: &mut TcpStream) -> bool {
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut [0; 64])).await;
        matches!(read, Ok(Ok(0) | Err(_)))
    }

    const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";

    #[tokio::test]
    async fn a_socket_file_answers_like_an_address() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("status.sock");
        let listener = Listener::unix(&path).await.unwrap();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(serve_routes(listener, routes(mpsc::unbounded_channel().0), shutdown.clone()));
        let answer = ask(UnixStream::connect(&path).await.unwrap(), HEALTH).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        shutdown.cancel();
        task.await.unwrap();
    }

    #[tokio::test]
    async fn a_client_that_sends_no_head_is_closed_and_holds_up_nobody() {
        let server = start(Limits { head: Duration::from_millis(50), ..PATIENT }).await;
        let mut slow = TcpStream::connect(server.address).await.unwrap();
        slow.write_all(b"GET / HT").await.unwrap();
        let answer = ask(TcpStream::connect(server.address).await.unwrap(), HEALTH).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(is_ended(&mut slow).await);
    }

    #[tokio::test]
    async fn a_client_that_reads_nothing_is_ended_in_time() {
        let server = start(Limits { whole: Duration::from_millis(50), ..PATIENT }).await;
        let mut idle = TcpStream::connect(server.address).await.unwrap();
        assert!(is_ended(&mut idle).await);
    }

    #[tokio::test]
    async fn idle_clients_cannot_lock_a_health_check_out() {
        let server = start(PATIENT).await;
        let mut idle = Vec::new();
        for _ in 0..BOUNDS.asking + 10 {
            idle.push(TcpStream::connect(server.address).await.unwrap());
        }
        let answer = ask(TcpStream::connect(server.address).await.unwrap(), HEALTH).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let mut first = idle.remove(0);
        assert!(is_ended(&mut first).await, "the oldest was ended");
    }

    #[tokio::test]
    async fn idle_clients_end_no_answer_and_too_many_answers_end_the_oldest() {
        let mut server = start(PATIENT).await;
        let mut waiting = Vec::new();
        for _ in 0..BOUNDS.answered.unwrap() {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            stream.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            waiting.push(stream);
            server.began.recv().await.unwrap();
        }
        let mut idle = Vec::new();
        for _ in 0..200 {
            idle.push(TcpStream::connect(server.address).await.unwrap());
        }
        assert!(is_ended(&mut idle[0]).await, "the oldest of the idle was ended");
        let read = tokio::time::timeout(Duration::from_millis(50), waiting[0].read(&mut [0; 64])).await;
        assert!(read.is_err(), "who waits for an answer was not ended: {read:?}");
        let answer = ask(TcpStream::connect(server.address).await.unwrap(), HEALTH).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(is_ended(&mut waiting[0]).await, "the oldest answer was ended");
    }

    #[tokio::test]
    async fn where_events_are_taken_a_crowd_waits_for_its_turn_and_idle_clients_lock_nobody_out() {
        let waits = |sure| start_within(Bounds { sure, ..OF_EVENTS }, PATIENT);
        let server = waits(Duration::from_secs(3600)).await;
        let asked: Vec<_> = (0..OF_EVENTS.asking * 4)
            .map(|_| {
                let address = server.address;
                tokio::spawn(async move { ask(TcpStream::connect(address).await.unwrap(), HEALTH).await })
            })
            .collect();
        for answer in asked {
            let answer = answer.await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer:?}");
        }
        let server = waits(Duration::from_millis(20)).await;
        let mut idle = Vec::new();
        for _ in 0..OF_EVENTS.asking + 10 {
            idle.push(TcpStream::connect(server.address).await.unwrap());
        }
        let answer = ask(TcpStream::connect(server.address).await.unwrap(), HEALTH).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }

    #[tokio::test]
    async fn a_head_too_large_is_refused() {
        let server = start(PATIENT).await;
        let mut request = b"GET / HTTP/1.1\r\nHost: x\r\nX: ".to_vec();
        request.resize(HEAD_AT_MOST + 1, b'x');
        let answer = ask(TcpStream::connect(server.address).await.unwrap(), &request).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }

    #[tokio::test]
    async fn shutdown_ends_the_server_although_a_client_idles() {
        let server = start(PATIENT).await;
        let _idle = TcpStream::connect(server.address).await.unwrap();
        server.shutdown.cancel();
        server.task.await.unwrap();
        assert!(TcpStream::connect(server.address).await.is_err());
    }
}
