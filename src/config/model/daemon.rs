//! Settings of the daemon.

use std::path::PathBuf;
use std::time::Duration;

use super::push_events::PushEvents;
use super::status::Status;
use crate::notify::Notify;
use crate::registry::Bandwidth;

/// Settings under `daemon`.
#[derive(Debug, Clone, PartialEq)]
pub struct Daemon {
    /// Path of the journal, an SQLite file.
    pub journal: PathBuf,
    /// Time for which the journal keeps runs, 1 to 3653 days. `None` means forever. Default 90 days. The journal always
    /// keeps evidence.
    pub keep_history: Option<Duration>,
    /// Address of the status port, and the permitted clients. Default: `127.0.0.1:9180` for clients on this machine.
    pub status: Status,
    /// Control socket. The default depends on the environment.
    pub control: ControlSocket,
    /// Address for push events, and the senders of the events. Default: none.
    pub push_events: Option<PushEvents>,
    /// Maximum number of concurrently running entries, 1 to 256. Default 4.
    pub entries_at_once: usize,
    /// Maximum memory for transfer buffers, in bytes, at least 16 MiB. Default 128 MiB.
    pub memory: u64,
    /// Maximum bandwidth of all registries together, in bytes per second. The limit can depend on the time of day.
    /// Default: no limit.
    pub bandwidth: Option<Bandwidth>,
    /// Time that running transfers have after a SIGTERM, up to one hour. Default 30 s.
    pub shutdown_grace: Duration,
    /// Receivers of notifications about every entry and about the configuration. Default: none.
    pub notify: Vec<Notify>,
}

/// Control socket, on which the daemon accepts requests to trigger, pause and resume entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlSocket {
    /// No socket.
    Off,
    /// Socket at the configured path.
    At(PathBuf),
    /// Socket in a folder from the environment. If the daemon cannot create this socket, the daemon runs without a
    /// socket.
    Usual(PathBuf),
}
