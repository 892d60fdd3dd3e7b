//! Proxy with a fixed address in front of a server. The server may die and restart elsewhere, and bytes are counted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::front::Front;

/// Port whose connections are forwarded to a server, if one is set. Bytes pass unchanged.
#[derive(Debug)]
pub struct Gate {
    front: Front,
    upstream: watch::Sender<Option<SocketAddr>>,
    passed: Arc<Passed>,
}

/// Number of bytes that have passed.
#[derive(Debug, Default)]
struct Passed {
    towards: AtomicU64,
    back: AtomicU64,
}

impl Gate {
    /// Starts a proxy in front of the server at `upstream`.
    pub fn start(upstream: &str) -> Self {
        let (sender, upstream) = watch::channel(Some(upstream.parse().unwrap()));
        let passed = Arc::<Passed>::default();
        let counted = passed.clone();
        let front = Front::start(move |stream, _| pass(stream, upstream.clone(), counted.clone()));
        Self { front, upstream: sender, passed }
    }

    /// Returns the address as `127.0.0.1:PORT`, which never changes.
    pub fn host(&self) -> String {
        self.front.host()
    }

    /// Ends every connection, and each new one as soon as it is accepted.
    pub fn close(&self) {
        self.upstream.send_replace(None);
    }

    /// Forwards to this server from now on.
    pub fn forward_to(&self, upstream: &str) {
        self.upstream.send_replace(Some(upstream.parse().unwrap()));
    }

    /// Returns the number of bytes sent to the server so far.
    pub fn bytes_sent(&self) -> u64 {
        self.passed.towards.load(Ordering::Relaxed)
    }

    /// Returns the number of bytes received from the server so far.
    pub fn bytes_received(&self) -> u64 {
        self.passed.back.load(Ordering::Relaxed)
    }
}

async fn pass(mut stream: TcpStream, mut upstream: watch::Receiver<Option<SocketAddr>>, passed: Arc<Passed>) {
    let Some(address) = *upstream.borrow_and_update() else { return };
    let Ok(mut server) = TcpStream::connect(address).await else { return };
    let ((from, to), (from_server, to_server)) = (stream.split(), server.split());
    let both = async {
        tokio::join!(count(from, to_server, &passed.towards), count(from_server, to, &passed.back));
    };
    tokio::select! {
        () = both => {}
        _ = upstream.changed() => {}
    }
}

/// Copies until either side ends, and counts the bytes.
async fn count(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, bytes: &AtomicU64) {
    let mut buffer = vec![0; 256 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
        bytes.fetch_add(length as u64, Ordering::Relaxed);
    }
    let _ = to.shutdown().await;
}
