//! Bound listeners: on an IP address or on a socket file.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixSocket};

use super::connections::Accept;

/// Maximum number of connections that wait to be accepted. The system can have a lower limit (`net.core.somaxconn`). If
/// the queue is full, the system drops the first packet of a new connection. The client repeats this packet only after
/// a second.
const BACKLOG: u32 = 4096;

/// Bound listener.
#[derive(Debug)]
pub enum Listener {
    /// Listener on an IP address.
    Tcp(TcpListener),
    /// Listener on a socket file.
    Unix(UnixListener),
}

/// Accepted connection, over TCP or over a socket file.
pub type Connection = Box<dyn ByteChannel>;

/// Bidirectional byte stream.
pub trait ByteChannel: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteChannel for T {}

impl Listener {
    /// Binds an IP address; port 0 selects a free port.
    ///
    /// # Errors
    /// Errors of the system.
    pub async fn tcp(address: SocketAddr) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // Without this option, a restart must wait until the system forgets ended connections.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG).map(Self::Tcp)
    }

    /// Binds a socket file. Replaces a socket at which no process listens, such as the socket of a killed process.
    ///
    /// # Errors
    /// Errors of the system; [`io::ErrorKind::AddrInUse`] if another process listens at the path, or the path is not a
    /// socket.
    pub async fn unix(path: &Path) -> io::Result<Self> {
        let bind = || {
            let socket = UnixSocket::new_stream()?;
            socket.bind(path)?;
            socket.listen(BACKLOG).map(Self::Unix)
        };
        match bind() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_abandoned_socket(path).await => {
                std::fs::remove_file(path)?;
                bind()
            }
            bound => bound,
        }
    }

    /// Returns the bound IP address; `None` for a socket file.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }
}

impl Accept for Listener {
    type Connection = Connection;

    async fn accept(&self) -> io::Result<Connection> {
        Ok(match self {
            Self::Tcp(listener) => Box::new(listener.accept().await?.0),
            Self::Unix(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

/// Returns true if the path is a socket at which no process listens.
async fn is_abandoned_socket(path: &Path) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    let answer = tokio::net::UnixStream::connect(path).await;
    is_socket && answer.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn abandoned_socket_is_replaced_but_active_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("status.sock");
        let listening = Listener::unix(&path).await.unwrap();
        let refused = Listener::unix(&path).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        drop(listening);
        assert!(path.exists());
        Listener::unix(&path).await.unwrap();
    }

    #[tokio::test]
    async fn unaccepted_crowd_of_clients_is_connected_at_once() {
        let at_most = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap().trim().parse().unwrap();
        let listener = Listener::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.address().unwrap();
        let mut crowd = Vec::new();
        for number in 0..500.min(at_most) {
            let connect = tokio::net::TcpStream::connect(address);
            let connected = tokio::time::timeout(std::time::Duration::from_secs(20), connect).await;
            crowd.push(connected.unwrap_or_else(|_| panic!("connection {number} is dropped")).unwrap());
        }
    }

    #[tokio::test]
    async fn file_that_is_no_socket_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.txt");
        std::fs::write(&path, "mine").unwrap();
        assert!(Listener::unix(&path).await.is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }
}
