//! Selection of registries by the arguments of `limits` and `login-check`: entries and host names.

use std::collections::BTreeSet;

use super::configuration::entry_names;
use super::entry_pattern::{EntryPattern, select_names, unmatched};
use crate::cli::exit::Failure;
use crate::config::{Config, Endpoint, Entry};
use crate::oci::RegistryHost;

/// Registries and entries that the arguments name. Both are empty if there are no arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RegistrySelection {
    /// Named registries. They need not be in the configuration.
    pub(crate) hosts: BTreeSet<RegistryHost>,
    /// Names of the selected entries.
    pub(crate) entries: Vec<String>,
}

impl RegistrySelection {
    /// Reads the arguments. A name of an entry takes precedence over a host with the same name. A text without a dot
    /// and without a port is never a host, except `localhost`.
    ///
    /// # Errors
    /// A usage error for a text that is neither an entry nor a host, and for a glob that matches no entry.
    pub(crate) fn read(patterns: &[EntryPattern], config: &Config) -> Result<Self, Failure> {
        let names = entry_names(config);
        let mut selection = Self { hosts: BTreeSet::new(), entries: Vec::new() };
        for pattern in patterns {
            match (select_names(std::slice::from_ref(pattern), &names), pattern) {
                (Ok(selected), _) => selection.entries.extend(selected.into_iter().map(str::to_owned)),
                (Err(_), EntryPattern::Name(text)) if is_host_name(text) => {
                    selection.hosts.insert(text.parse().map_err(Failure::usage)?);
                }
                (Err(_), _) => return Err(unmatched(pattern, &names)),
            }
        }
        Ok(selection)
    }

    /// Returns true if the arguments name nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.hosts.is_empty() && self.entries.is_empty()
    }

    /// Returns the named registries, and the registries of the selected entries with their mirrors.
    pub(crate) fn all_hosts(&self, config: &Config) -> BTreeSet<RegistryHost> {
        let entries = config.entries.iter().filter(|entry| self.has_entry(entry));
        let endpoints = entries.flat_map(|entry| std::iter::once(&entry.source).chain(&entry.targets));
        let mut hosts: BTreeSet<RegistryHost> = endpoints.filter_map(Endpoint::host).cloned().collect();
        let mirrors = hosts.iter().flat_map(|host| config.mirrors_of(host)).map(|mirror| mirror.host.clone());
        hosts.extend(mirrors.collect::<Vec<_>>());
        hosts.extend(self.hosts.iter().cloned());
        hosts
    }

    /// Returns the configuration without the entries that are not selected. If the arguments name hosts, all entries
    /// remain, because each of them may use the hosts.
    pub(crate) fn restrict(&self, config: &Config) -> Config {
        let mut restricted = config.clone();
        if self.hosts.is_empty() && !self.entries.is_empty() {
            restricted.entries.retain(|entry| self.has_entry(entry));
        }
        restricted
    }

    fn has_entry(&self, entry: &Entry) -> bool {
        self.entries.iter().any(|name| name == entry.name.as_str())
    }
}

/// Returns true for a text that can be the name of a registry, as in a reference.
pub(crate) fn is_host_name(text: &str) -> bool {
    text.contains(['.', ':']) || text == "localhost"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::context::entry_pattern::tests::patterns;

    const CONFIG: &str = "
version: 1
registries: {h.example: {mirrors: [m.example]}}
sync:
  - {name: api, source: h.example/a, target: t.example/a}
  - {name: base.v1, source: s.example/b, target: t.example/b}
";

    fn hosts(texts: &[&str]) -> Result<Vec<String>, String> {
        let config = crate::config::parse("sync.yaml", CONFIG, &|_| Some("/tmp".into())).unwrap();
        let selection = RegistrySelection::read(&patterns(texts), &config).map_err(|failure| failure.to_string())?;
        Ok(selection.all_hosts(&config).iter().map(ToString::to_string).collect())
    }

    #[test]
    fn entries_and_hosts_select_registries() {
        assert_eq!(hosts(&[]).unwrap(), Vec::<String>::new());
        assert_eq!(hosts(&["api"]).unwrap(), ["h.example", "m.example", "t.example"]);
        assert_eq!(hosts(&["base.*", "ghcr.io"]).unwrap(), ["ghcr.io", "s.example", "t.example"]);
        assert_eq!(hosts(&["base.v1"]).unwrap(), ["s.example", "t.example"], "an entry takes precedence over a host");
    }

    #[test]
    fn text_that_is_neither_entry_nor_host_is_refused() {
        assert_eq!(hosts(&["apj"]).unwrap_err(), r#"error: there is no entry "apj": did you mean "api"?"#);
        assert_eq!(hosts(&["x-*"]).unwrap_err(), r#"error: no entry matches "x-*"; the entries are api, base.v1"#);
    }

    #[test]
    fn hosts_keep_all_entries_and_entries_only_themselves() {
        let config = crate::config::parse("sync.yaml", CONFIG, &|_| Some("/tmp".into())).unwrap();
        let count = |texts: &[&str]| {
            RegistrySelection::read(&patterns(texts), &config).unwrap().restrict(&config).entries.len()
        };
        assert_eq!((count(&[]), count(&["api"]), count(&["t.example"])), (2, 1, 2));
    }
}
