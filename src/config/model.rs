//! Model of the configuration for the rest of the program: every value parsed, every default filled in, every rule
//! across entries checked. It is not the YAML as written.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::notify::Notify;
use crate::oci::{Platform, RegistryHost};
use crate::plan;
use crate::registry::{Bandwidth, Credentials, Mirror, Options, Secret};
use crate::schedule::Schedule;

use super::{Endpoint, PushEvents, Warning};

/// Complete content of one `sync.yaml`.
#[derive(Debug, Clone)]
pub struct Config {
    /// Settings of the process itself.
    pub daemon: Daemon,
    /// Options of registries; a registry that is absent here has the defaults.
    pub registries: BTreeMap<RegistryHost, Options>,
    /// Entries to keep in sync, in the order of the file; names are unique.
    pub entries: Vec<Entry>,
    /// Settings that work but are not advisable, each with its place.
    pub warnings: Vec<Warning>,
}

impl Config {
    /// Returns one sentence for each registry whose certificates are not verified.
    #[must_use]
    pub fn unverified(&self) -> Vec<String> {
        let of =
            |(host, options): (&RegistryHost, &Options)| Some(format!("{host}: {}", options.transport.tls.warning()?));
        self.registries.iter().filter_map(of).collect()
    }

    /// Returns the mirrors from which a registry's content can also be read.
    #[must_use]
    pub fn mirrors_of(&self, host: &RegistryHost) -> &[Mirror] {
        self.registries.get(host).map_or(&[], |options| &options.transport.mirrors)
    }

    /// Returns the registries that the configuration names: those of all entries, those with settings of their own, and
    /// mirrors.
    #[must_use]
    pub fn hosts(&self) -> BTreeSet<RegistryHost> {
        let of_entries = self.entries.iter().flat_map(|entry| std::iter::once(&entry.source).chain(&entry.targets));
        let hosts = of_entries.filter_map(Endpoint::host).chain(self.registries.keys());
        hosts.chain(self.mirrors().map(|mirror| &mirror.host)).cloned().collect()
    }

    /// Returns all mirrors of all registries.
    pub fn mirrors(&self) -> impl Iterator<Item = &Mirror> {
        self.registries.values().flat_map(|options| &options.transport.mirrors)
    }
}

/// Settings of the process itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Daemon {
    /// SQLite file of the journal.
    pub journal: PathBuf,
    /// Retention time of the history of runs, 1 to 3653 days; `None` means forever. Default 90 days. Evidence is always
    /// kept.
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
    /// Bandwidth in bytes a second of all registries together, by the time of day. Default: no limit.
    pub bandwidth: Option<Bandwidth>,
    /// Time that running transfers may continue after SIGTERM, up to an hour. Default 30 s.
    pub shutdown_grace: Duration,
    /// Receivers of notifications about any entry and about the configuration. Default: none.
    pub notify: Vec<Notify>,
}

/// Socket file on which the daemon accepts requests for runs, for pauses and for the end of pauses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlSocket {
    /// No socket.
    Off,
    /// Socket at the path that the file names.
    At(PathBuf),
    /// Default socket, if the file names none: in the folder that the environment names. The daemon runs without a
    /// socket if it cannot create this one.
    Usual(PathBuf),
}

/// Status port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Address on which it listens.
    pub listen: StatusPort,
    /// Clients that may read it.
    pub readers: Readers,
}

/// Clients that may read the status port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readers {
    /// Clients on this machine. On a loopback address: clients that request it by a loopback name. On a socket file:
    /// users whom the file mode permits.
    Local,
    /// Clients that present this token, of at least 16 bytes.
    Token(Secret),
    /// Every client that can connect.
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

impl fmt::Display for StatusPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// One item of `sync:`: source, targets, content, schedule and rules.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Name of the entry, unique in the file.
    pub name: EntryName,
    /// Endpoint to read from.
    pub source: Endpoint,
    /// Endpoints to write to: at least one, all different, none equal to the source.
    pub targets: Vec<Endpoint>,
    /// Credentials of this entry, if they differ from those in the registries' own options.
    pub credentials: EntryCredentials,
    /// Selection of tags. Default: all tags.
    pub selection: plan::Selection,
    /// Platforms of an index to copy; `None` means all of them, the index verbatim.
    pub platforms: Option<Vec<Platform>>,
    /// True if the referrers of an image (signatures, SBOMs) are copied too. Default true.
    pub referrers: bool,
    /// Policy for layers that are available elsewhere: copy or skip them. Default skip.
    pub foreign_layers: plan::ForeignLayers,
    /// Schedule of automatic runs. Default never.
    pub schedule: Schedule,
    /// True if the entry also runs when the daemon starts. Default false.
    pub on_start: bool,
    /// Time zone of the schedule. Default UTC.
    pub timezone: chrono_tz::Tz,
    /// Maximum random delay of a scheduled run, up to a day. Default 0.
    pub jitter: Duration,
    /// Maximum duration of a run, after which the run is ended, 1 s to 7 days; `None` means no limit, the default.
    pub timeout: Option<Duration>,
    /// Policy for a tag that the target has with another digest. Default always.
    pub overwrite: plan::Overwrite,
    /// Receivers of notifications about this entry, in addition to those of the daemon. Default: none.
    pub notify: Vec<Notify>,
}

/// Credentials of one entry at its registries; `None` means those in the registry's own options.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EntryCredentials {
    /// Credentials at the source's registry.
    pub source: Option<Credentials>,
    /// Credentials at the registry of the targets. All targets are at one registry if this is set.
    pub target: Option<Credentials>,
}

impl EntryCredentials {
    /// Returns the credentials that are set, source before target.
    pub fn both(&self) -> impl Iterator<Item = &Credentials> {
        self.source.iter().chain(&self.target)
    }
}

/// Name of an entry: up to 64 letters, digits, `.`, `_` and `-`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryName(Arc<str>);

/// Error: a text is not a valid [`EntryName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a name of an entry: 1 to 64 letters, digits, `.`, `_` and `-`")]
pub struct EntryNameError(String);

impl EntryName {
    /// Returns a name that no entry of a configuration can have, for runs without an entry.
    #[must_use]
    pub fn reserved(name: &'static str) -> Self {
        debug_assert!(name.parse::<Self>().is_err(), "an entry could have the name {name}");
        Self(name.into())
    }

    /// Returns the text of the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EntryName {
    type Err = EntryNameError;

    fn from_str(text: &str) -> Result<Self, EntryNameError> {
        let good = (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if good { Ok(Self(text.into())) } else { Err(EntryNameError(text.to_owned())) }
    }
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl serde::Serialize for EntryName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}
