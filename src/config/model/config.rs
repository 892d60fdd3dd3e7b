//! Complete configuration.

use std::collections::{BTreeMap, BTreeSet};

use super::daemon::Daemon;
use super::endpoint::Endpoint;
use super::entry::{Entry, EntryName};
use super::push_events::Receiver;
use crate::config::diagnostics::warning::Warning;
use crate::oci::RegistryHost;
use crate::registry::{Mirror, Options};

/// Content of a `sync.yaml` and its included files.
#[derive(Debug, Clone)]
pub struct Config {
    /// Settings of the daemon.
    pub daemon: Daemon,
    /// Options of the registries under `registries`. Any other registry has default options.
    pub registries: BTreeMap<RegistryHost, Options>,
    /// Entries in the order of the file. Each name is unique.
    pub entries: Vec<Entry>,
    /// Warnings about settings that are permitted but not recommended.
    pub warnings: Vec<Warning>,
}

impl Config {
    /// Returns a sentence for each registry whose certificate is not verified.
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

    /// Returns the registries of the entries, the registries under `registries`, and all mirrors.
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

    /// Returns the senders of push events, by name.
    pub fn receivers(&self) -> impl Iterator<Item = (&EntryName, &Receiver)> {
        self.daemon.push_events.iter().flat_map(|port| &port.receivers)
    }
}
