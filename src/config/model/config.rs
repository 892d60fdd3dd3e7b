//! Complete configuration: the daemon's settings, the options of registries, the entries and the warnings.

use std::collections::{BTreeMap, BTreeSet};

use super::daemon::Daemon;
use super::endpoint::Endpoint;
use super::entry::{Entry, EntryName};
use super::push_events::Receiver;
use crate::config::diagnostics::warning::Warning;
use crate::oci::RegistryHost;
use crate::registry::{Mirror, Options};

/// Content of one `sync.yaml` with its included files.
#[derive(Debug, Clone)]
pub struct Config {
    /// Settings of the process.
    pub daemon: Daemon,
    /// Options of registries. All other registries have the default options.
    pub registries: BTreeMap<RegistryHost, Options>,
    /// Entries in the order of the file. Names are unique.
    pub entries: Vec<Entry>,
    /// Warnings about inadvisable settings, each with its place.
    pub warnings: Vec<Warning>,
}

impl Config {
    /// Returns one sentence for each registry whose certificates are not verified.
    #[must_use]
    pub fn unverified(&self) -> Vec<String> {
        let warning =
            |(host, options): (&RegistryHost, &Options)| Some(format!("{host}: {}", options.transport.tls.warning()?));
        self.registries.iter().filter_map(warning).collect()
    }

    /// Returns the mirrors of a registry.
    #[must_use]
    pub fn mirrors_of(&self, host: &RegistryHost) -> &[Mirror] {
        self.registries.get(host).map_or(&[], |options| &options.transport.mirrors)
    }

    /// Returns the registries of all entries, the registries with options, and the mirrors.
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

    /// Returns the configured senders of push events, by name.
    pub fn receivers(&self) -> impl Iterator<Item = (&EntryName, &Receiver)> {
        self.daemon.push_events.iter().flat_map(|port| &port.receivers)
    }
}
