//! A way to a server that keeps its own address: the server may die and come back elsewhere, and what passes is counted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::front::Front;

/// A port whose connections lead to a server, as long as there is one. Bytes pass as they are.
#[derive(Debug)]
pub struct Gate {
    front: Front,
    upstream: watch::Sender<Option<SocketAddr>>,
    passed: Arc<Passed>,
}

/// Bytes that have passed.
#[derive(Debug, Default)]
struct Passed {
    towards: AtomicU64,
    back: AtomicU64,
}

impl Gate {
    /// To the server at `upstream`.
    pub fn to(upstream: &str) -> Self {
        let (sender, upstream) = watch::channel(Some(upstream.parse().unwrap()));
        let passed = Arc::<Passed>::default();
        let counted = passed.clone();
        let front = Front::start(move |stream, _| pass(stream, upstream.clone(), counted.clone()));
        Self { front, upstream: sender, passed }
    }

    /// `127.0.0.1:PORT`, the same for as long as the gate stands.
    pub fn host(&self) -> String {
        self.front.host()
    }

    /// Ends every connection, and each new one as soon as it is there.
    pub fn close(&self) {
        self.upstream.send_replace(None);
    }

    /// Leads to this server from now on.
    pub fn lead_to(&self, upstream: &str) {
        self.upstream.send_replace(Some(upstream.parse().unwrap()));
    }

    /// How many bytes the server was sent so far.
    pub fn towards(&self) -> u64 {
        self.passed.towards.load(Ordering::Relaxed)
    }

    /// How many bytes came from the server so far.
    pub fn back(&self) -> u64 {
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

/// Copies until the end of either, and counts.
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
