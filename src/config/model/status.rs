//! Status port: its address and its permitted clients.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::registry::Secret;

/// Status port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Address on which the port listens.
    pub listen: StatusPort,
    /// Clients that may read the port.
    pub readers: Readers,
}

/// Clients that may read the status port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readers {
    /// Clients on this machine. If the address is a loopback address, the client must use a loopback name in the
    /// request. If the address is a socket file, the file mode decides.
    Local,
    /// Clients with this token, at least 16 bytes.
    Token(Secret),
    /// Every client.
    Anyone,
}

/// Address on which a port listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatusPort {
    /// No address: the port is off.
    Off,
    /// IP address with a port.
    Tcp(SocketAddr),
    /// Socket in the file system.
    Unix(PathBuf),
}

impl Default for StatusPort {
    fn default() -> Self {
        Self::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9180))
    }
}

impl fmt::Display for StatusPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
