//! Settings of the process.

use std::path::PathBuf;
use std::time::Duration;

use super::push_events::PushEvents;
use super::status::Status;
use crate::notify::Notify;
use crate::registry::Bandwidth;

/// Settings of the process.
#[derive(Debug, Clone, PartialEq)]
pub struct Daemon {
    /// SQLite file of the journal.
    pub journal: PathBuf,
    /// Retention time of the run history, 1 to 3653 days. `None` means forever. Default 90 days. Evidence is kept
    /// forever.
    pub keep_history: Option<Duration>,
    /// Address and readers of the status port. Default `127.0.0.1:9180`, readable by users of this machine.
    pub status: Status,
    /// Control socket. Default: determined by the environment.
    pub control: ControlSocket,
    /// Address and senders of push events. Default: none.
    pub push_events: Option<PushEvents>,
    /// Number of entries that may run at once, 1 to 256. Default 4.
    pub entries_at_once: usize,
    /// Limit in bytes for buffers of transfers in flight, at least 16 MiB. Default 128 MiB.
    pub memory: u64,
    /// Bandwidth in bytes per second of all registries together, by the time of day. Default: no limit.
    pub bandwidth: Option<Bandwidth>,
    /// Time after SIGTERM in which running transfers may continue, up to an hour. Default 30 s.
    pub shutdown_grace: Duration,
    /// Receivers of notifications about any entry and about the configuration. Default: none.
    pub notify: Vec<Notify>,
}

/// Socket file on which the daemon accepts requests to trigger, pause and resume entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlSocket {
    /// No socket.
    Off,
    /// Socket at the path from the configuration.
    At(PathBuf),
    /// Default socket, in a folder from the environment. If the daemon cannot create the default socket, the daemon
    /// runs without a socket.
    Usual(PathBuf),
}
