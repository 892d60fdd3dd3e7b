//! Status port: its address, and the permitted clients.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::registry::Secret;

/// Settings of the status port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Address on which the port listens.
    pub listen: StatusPort,
    /// Clients that have permission to read the status.
    pub readers: Readers,
}

/// Clients that have permission to read the status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readers {
    /// Clients on this machine. If the address is a loopback address, the host name in the request must be a loopback
    /// name. If the address is a socket file, the permissions of the file apply.
    Local,
    /// Clients that send this token, which has at least 16 bytes.
    Token(Secret),
    /// Every client.
    Anyone,
}

/// Address of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatusPort {
    /// No address: the port is disabled.
    Off,
    /// IP address and TCP port.
    Tcp(SocketAddr),
    /// Path of a Unix socket.
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
