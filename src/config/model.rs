//! The configuration as the rest of the program knows it: every value parsed, every default filled in, every
//! rule across entries checked. Not the YAML as written.

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

use super::{Endpoint, Hooks, Warning};

/// All that one `sync.yaml` says.
#[derive(Debug, Clone)]
pub struct Config {
    /// Settings of the process itself.
    pub daemon: Daemon,
    /// How to speak to registries; one that is not here has the defaults.
    pub registries: BTreeMap<RegistryHost, Options>,
    /// What to keep in step, in the order of the file; names are unique.
    pub entries: Vec<Entry>,
    /// Things that work and should not be so, each with its place.
    pub warnings: Vec<Warning>,
}

impl Config {
    /// The registries whose certificates are not looked at, a sentence each.
    #[must_use]
    pub fn unverified(&self) -> Vec<String> {
        let of =
            |(host, options): (&RegistryHost, &Options)| Some(format!("{host}: {}", options.transport.tls.warning()?));
        self.registries.iter().filter_map(of).collect()
    }

    /// Where a registry's content can be read as well.
    #[must_use]
    pub fn mirrors_of(&self, host: &RegistryHost) -> &[Mirror] {
        self.registries.get(host).map_or(&[], |options| &options.transport.mirrors)
    }

    /// The registries that it names: those of all entries, those with settings of their own, and mirrors.
    #[must_use]
    pub fn hosts(&self) -> BTreeSet<RegistryHost> {
        let of_entries = self.entries.iter().flat_map(|entry| std::iter::once(&entry.source).chain(&entry.targets));
        let hosts = of_entries.filter_map(Endpoint::host).chain(self.registries.keys());
        hosts.chain(self.mirrors().map(|mirror| &mirror.host)).cloned().collect()
    }

    /// All mirrors of all registries.
    pub fn mirrors(&self) -> impl Iterator<Item = &Mirror> {
        self.registries.values().flat_map(|options| &options.transport.mirrors)
    }
}

/// Settings of the process itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Daemon {
    /// The SQLite file of the journal.
    pub journal: PathBuf,
    /// How long the history of runs is kept, 1 to 3653 days; `None` is for ever. Default 90 days. Evidence is always kept.
    pub keep_history: Option<Duration>,
    /// Where the status port listens, and who may read there. Default `127.0.0.1:9180`, by who is on this machine.
    pub status: Status,
    /// Where it is asked for things. Default: as the environment says.
    pub control: ControlSocket,
    /// Where push events are taken. Default nowhere.
    pub hooks: Option<Hooks>,
    /// How many entries may run at once, 1 to 256. Default 4.
    pub entries_at_once: usize,
    /// Ceiling in bytes for buffers of transfers in flight, 16 MiB at least. Default 128 MiB.
    pub memory: u64,
    /// Bytes a second of all registries together, by the time of day. Default no limit.
    pub bandwidth: Option<Bandwidth>,
    /// How long running transfers may go on after SIGTERM, up to an hour. Default 30 s.
    pub shutdown_grace: Duration,
    /// Who is told of what happens to any entry and to the configuration. Default nobody.
    pub notify: Vec<Notify>,
}

/// The socket file by which the daemon is asked for runs, pauses and their ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlSocket {
    /// There is none.
    Off,
    /// At the path that the file says.
    At(PathBuf),
    /// The file says nothing: where the environment has a folder for it. The daemon goes without where it cannot be made.
    Usual(PathBuf),
}

/// The status port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Where it listens.
    pub listen: StatusPort,
    /// Who may read there.
    pub readers: Readers,
}

/// Who may read at the status port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readers {
    /// Who is on this machine: on a loopback address who asks for it by such a name, on a socket file whom its mode lets in.
    Local,
    /// Who shows this token, of 16 bytes at least.
    Token(Secret),
    /// Whoever reaches it.
    Anyone,
}

/// Where a port listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatusPort {
    /// Nowhere.
    Off,
    /// On an IP address.
    Tcp(SocketAddr),
    /// On a socket in the file system.
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

/// One item of `sync:`: what to keep in step, from where to where, when, under which rules.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its name, unique in the file.
    pub name: EntryName,
    /// Where to read.
    pub source: Endpoint,
    /// Where to write: one at least, all different, none the source.
    pub targets: Vec<Endpoint>,
    /// Who to be, where that is not who the registries' own options say.
    pub credentials: EntryCredentials,
    /// Which tags. Default all.
    pub selection: plan::Selection,
    /// Which platforms of an index; `None` is all of them, the index verbatim.
    pub platforms: Option<Vec<Platform>>,
    /// Whether what refers to an image (signatures, SBOMs) comes along. Default true.
    pub referrers: bool,
    /// Whether layers that can be had elsewhere are copied. Default skip.
    pub foreign_layers: plan::ForeignLayers,
    /// When it runs by itself. Default never.
    pub schedule: Schedule,
    /// Whether it also runs when the daemon starts. Default false.
    pub on_start: bool,
    /// The time zone of the schedule. Default UTC.
    pub timezone: chrono_tz::Tz,
    /// A run starts up to this much later than the schedule says, by chance; up to a day. Default 0.
    pub jitter: Duration,
    /// A run that takes longer is ended, 1 s to 7 days; `None` is no limit, the default.
    pub timeout: Option<Duration>,
    /// What happens to a tag that the target has with another digest. Default always.
    pub overwrite: plan::Overwrite,
    /// Who is told of what happens to it, beside those of the daemon. Default nobody.
    pub notify: Vec<Notify>,
}

/// Who one entry is to be at its registries; `None` is who the registry's own options say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EntryCredentials {
    /// At the source's registry.
    pub source: Option<Credentials>,
    /// At the registry of all targets, which is one where this is said.
    pub target: Option<Credentials>,
}

impl EntryCredentials {
    /// Those that are said, source before target.
    pub fn both(&self) -> impl Iterator<Item = &Credentials> {
        self.source.iter().chain(&self.target)
    }
}

/// The name of an entry: up to 64 letters, digits, `.`, `_` and `-`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryName(Arc<str>);

/// Why a text is not an [`EntryName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a name of an entry: 1 to 64 letters, digits, `.`, `_` and `-`")]
pub struct EntryNameError(String);

impl EntryName {
    /// A name that no entry of a configuration can have, for what runs without one.
    #[must_use]
    pub fn reserved(name: &'static str) -> Self {
        debug_assert!(name.parse::<Self>().is_err(), "an entry could have the name {name}");
        Self(name.into())
    }

    /// The text.
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
