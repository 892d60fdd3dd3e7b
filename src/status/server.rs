//! Serves the routes on a listener, so that no client, slow or hostile, can hold up the daemon or each other.
//!
//! One request a connection, [`AT_ONCE`] connections, and a time limit for each. There is no TLS and no keep-alive.
//! Whoever asks can ask again, so the oldest makes room for one more; who tells an event may not tell it twice, so those are
//! let wait for a moment.

use std::collections::VecDeque;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::listener::{Connection, Listener};
use super::routes::Port;

/// Connections at once. One more ends the oldest, so that idle clients cannot lock a health check out.
const AT_ONCE: usize = 64;
/// How long a client may take.
const LIMITS: Limits = Limits { head: Duration::from_secs(5), whole: Duration::from_secs(30), sure: Duration::ZERO };
/// The same for who tells events.
const OF_EVENTS: Limits = Limits { sure: Duration::from_secs(2), ..LIMITS };
/// The largest request head, in bytes.
const HEAD_AT_MOST: usize = 16 << 10;
/// How long answers under way are waited for at shutdown.
const DRAIN: Duration = Duration::from_secs(1);
/// How long to wait after a failed accept (out of file descriptors) before the next.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

/// How long a client may take.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// For its request's head.
    head: Duration,
    /// In all, the reading of the answer included.
    whole: Duration,
    /// Of that, what it has whoever else comes. Those wait.
    sure: Duration,
}

/// Answers requests until `shutdown`, then ends within a second. Dropping the future closes every connection.
pub async fn serve(listener: Listener, port: Port, shutdown: CancellationToken) {
    serve_within(listener, port.router(), shutdown, LIMITS).await;
}

/// Takes events by these routes in the same way, a storm of them one after the other.
pub async fn serve_events(listener: Listener, router: axum::Router, shutdown: CancellationToken) {
    serve_within(listener, router, shutdown, OF_EVENTS).await;
}

async fn serve_within(listener: Listener, router: axum::Router, shutdown: CancellationToken, limits: Limits) {
    let mut connections = JoinSet::new();
    let mut oldest_first: VecDeque<(Instant, AbortHandle)> = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(connection) => {
                tokio::select! {
                    () = make_room(&mut oldest_first, &mut connections, limits.sure) => {}
                    () = shutdown.cancelled() => break,
                }
                let answering = connections.spawn(answer(connection, router.clone(), limits));
                oldest_first.push_back((Instant::now(), answering));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    // Whoever is still reading after this is closed when the set is dropped.
    let _ = tokio::time::timeout(DRAIN, drained).await;
}

/// Waits until there is a place for one more: the oldest loses its own once it had what is `sure`.
async fn make_room(oldest_first: &mut VecDeque<(Instant, AbortHandle)>, connections: &mut JoinSet<()>, sure: Duration) {
    loop {
        oldest_first.retain(|(_, connection)| !connection.is_finished());
        let Some((since, oldest)) = oldest_first.front().filter(|_| oldest_first.len() >= AT_ONCE) else { return };
        let left = sure.saturating_sub(since.elapsed());
        if left.is_zero() {
            oldest.abort();
            oldest_first.pop_front();
            continue;
        }
        tokio::select! {
            _ = connections.join_next() => {}
            () = tokio::time::sleep(left) => {}
        }
    }
}

/// One request and its answer. A client that breaks off or breaks the protocol is of no interest to anybody.
async fn answer(connection: Connection, router: axum::Router, limits: Limits) {
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(HEAD_AT_MOST)
        .keep_alive(false)
        .serve_connection(TokioIo::new(connection), TowerToHyperService::new(router));
    let _ = tokio::time::timeout(limits.whole, serving).await;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpStream, UnixStream};
    use tokio::sync::watch;

    use super::super::metrics::Metrics;
    use super::super::snapshot::tests::{at, working};
    use super::*;

    struct Running {
        address: std::net::SocketAddr,
        shutdown: CancellationToken,
        task: tokio::task::JoinHandle<()>,
        _snapshots: watch::Sender<Arc<super::super::Snapshot>>,
    }

    fn port() -> (Port, watch::Sender<Arc<super::super::Snapshot>>) {
        let (sender, receiver) = watch::channel(Arc::new(working()));
        (Port::new(receiver, Arc::new(Metrics::new("0.0.0", at(0))), Arc::new(|| at(1))), sender)
    }

    async fn start(limits: Limits) -> Running {
        let listener = Listener::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.address().unwrap();
        let shutdown = CancellationToken::new();
        let (port, snapshots) = port();
        let task = tokio::spawn(serve_within(listener, port.router(), shutdown.clone(), limits));
        Running { address, shutdown, task, _snapshots: snapshots }
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
    const PATIENT: Limits =
        Limits { head: Duration::from_secs(3600), whole: Duration::from_secs(3600), sure: Duration::ZERO };

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
        let (port, _snapshots) = port();
        let task = tokio::spawn(serve(listener, port, shutdown.clone()));
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
        for _ in 0..AT_ONCE + 10 {
            idle.push(TcpStream::connect(server.address).await.unwrap());
        }
        let answer = ask(TcpStream::connect(server.address).await.unwrap(), HEALTH).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let mut first = idle.remove(0);
        assert!(is_ended(&mut first).await, "the oldest was ended");
    }

    #[tokio::test]
    async fn where_events_are_taken_a_crowd_waits_for_its_turn_and_idle_clients_lock_nobody_out() {
        let waits = |sure| start(Limits { sure, ..PATIENT });
        let server = waits(Duration::from_secs(3600)).await;
        let asked: Vec<_> = (0..AT_ONCE * 4)
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
        for _ in 0..AT_ONCE + 10 {
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
