//! Differences between two configurations. The functions do no I/O.

use std::collections::BTreeMap;

use super::{Config, Daemon, Endpoint, Entry, EntryName};
use crate::oci::RegistryHost;
use crate::registry::Options;

/// Differences between an old and a new configuration. Each list is sorted by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Entries that only the new configuration contains.
    pub added: Vec<EntryName>,
    /// Entries that only the old configuration contains.
    pub removed: Vec<EntryName>,
    /// Entries with different settings in the two configurations.
    pub changed: Vec<EntryName>,
    /// Registries with different options. An added or removed registry also has different options.
    pub registries: Vec<RegistryHost>,
    /// Keys under `daemon` with different values.
    pub daemon: Vec<&'static str>,
}

impl Difference {
    /// Returns true if there are no differences.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Compares two configurations. The order of the entries is ignored. If a secret is in a file, the function compares
/// the path of the file, not the secret.
#[must_use]
pub fn difference(old: &Config, new: &Config) -> Difference {
    let entries = compare_keys(&index_by_name(old), &index_by_name(new));
    let old_registries = old.registries.iter().collect();
    let new_registries = new.registries.iter().collect();
    let registries = compare_keys(&old_registries, &new_registries);
    let mut hosts: Vec<RegistryHost> =
        [registries.added, registries.removed, registries.changed].into_iter().flatten().cloned().collect();
    hosts.sort();
    let owned = |names: Vec<&EntryName>| names.into_iter().cloned().collect();
    Difference {
        added: owned(entries.added),
        removed: owned(entries.removed),
        changed: owned(entries.changed),
        registries: hosts,
        daemon: changed_settings(&old.daemon, &new.daemon),
    }
}

/// Differences between the keys and values of two maps.
struct KeyChanges<'a, K> {
    added: Vec<&'a K>,
    removed: Vec<&'a K>,
    changed: Vec<&'a K>,
}

fn compare_keys<'a, K: Ord, V: PartialEq>(old: &BTreeMap<&'a K, &V>, new: &BTreeMap<&'a K, &V>) -> KeyChanges<'a, K> {
    KeyChanges {
        added: new.keys().filter(|key| !old.contains_key(*key)).copied().collect(),
        removed: old.keys().filter(|key| !new.contains_key(*key)).copied().collect(),
        changed: new
            .iter()
            .filter(|(key, value)| old.get(*key).is_some_and(|before| before != *value))
            .map(|(key, _)| *key)
            .collect(),
    }
}

fn index_by_name(config: &Config) -> BTreeMap<&EntryName, &Entry> {
    config.entries.iter().map(|entry| (&entry.name, entry)).collect()
}

fn changed_settings(old: &Daemon, new: &Daemon) -> Vec<&'static str> {
    // The pattern names all fields. If a field is added, the compiler reports the missing field here.
    let Daemon {
        journal,
        keep_history,
        status,
        control,
        push_events,
        entries_at_once,
        memory,
        bandwidth,
        shutdown_grace,
        notify,
    } = old;
    [
        ("journal", *journal == new.journal),
        ("keep_history", *keep_history == new.keep_history),
        ("status", status.listen == new.status.listen),
        ("status.token", status.readers == new.status.readers),
        ("control", *control == new.control),
        (
            "push_events.listen",
            push_events.as_ref().map(|port| &port.listen) == new.push_events.as_ref().map(|port| &port.listen),
        ),
        (
            "push_events.receivers",
            push_events.as_ref().map(|port| &port.receivers) == new.push_events.as_ref().map(|port| &port.receivers),
        ),
        ("entries_at_once", *entries_at_once == new.entries_at_once),
        ("memory", *memory == new.memory),
        ("bandwidth", *bandwidth == new.bandwidth),
        ("shutdown_grace", *shutdown_grace == new.shutdown_grace),
        ("notify", *notify == new.notify),
    ]
    .into_iter()
    .filter_map(|(key, same)| (!same).then_some(key))
    .collect()
}

/// Returns the entries of the new configuration whose next run can have a different result:
/// - new entries
/// - entries with changed settings. Changes of `schedule`, `on_start`, `timezone` and `jitter` do not count.
/// - entries at a registry with changed options. Changes of the limits do not count.
#[must_use]
pub fn affected<'c>(difference: &Difference, old: &Config, new: &'c Config) -> Vec<&'c EntryName> {
    let options = |config: &Config, host: &RegistryHost| config.registries.get(host).cloned().unwrap_or_default();
    let is_another = |host: &&RegistryHost| !differ_in_limits_alone(&options(old, host), &options(new, host));
    let hosts: Vec<&RegistryHost> = difference.registries.iter().filter(is_another).collect();
    let before = index_by_name(old);
    let is_affected = |entry: &&Entry| {
        let mut entry_hosts = std::iter::once(&entry.source).chain(&entry.targets).filter_map(Endpoint::host);
        !before.get(&entry.name).is_some_and(|before| works_alike(before, entry))
            || entry_hosts.any(|host| hosts.contains(&host))
    };
    new.entries.iter().filter(is_affected).map(|entry| &entry.name).collect()
}

/// Returns true if two versions of an entry are equal except for `schedule`, `on_start`, `timezone` and `jitter`.
fn works_alike(before: &Entry, entry: &Entry) -> bool {
    let Entry { schedule, on_start, timezone, jitter, .. } = entry.clone();
    Entry { schedule, on_start, timezone, jitter, ..before.clone() } == *entry
}

/// Returns true if two versions of a registry's options are equal except for the limits.
#[must_use]
pub fn differ_in_limits_alone(old: &Options, new: &Options) -> bool {
    Options { limits: new.limits.clone(), ..old.clone() } == *new
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn read(text: &str) -> Config {
        let environment = |name: &str| (name == "HOME").then(|| "/home/me".to_owned());
        parse("sync.yaml", text, &environment).unwrap()
    }

    const BEFORE: &str = r#"
version: 1
registries:
  a.example: {credentials: {username: me, password: one}}
  b.example: {plain_http: true}
sync:
  - {name: x, source: a.example/x, target: b.example/x}
  - {name: y, source: a.example/y, target: b.example/y}
"#;

    #[test]
    fn order_of_entries_and_registries_is_no_difference() {
        let reordered = r#"
version: 1
registries:
  b.example: {plain_http: true}
  a.example: {credentials: {username: me, password: one}}
sync:
  - {name: y, source: a.example/y, target: b.example/y}
  - {name: x, source: a.example/x, target: b.example/x}
"#;
        assert!(difference(&read(BEFORE), &read(reordered)).is_empty());
    }

    #[test]
    fn changed_credentials_of_an_entry_change_no_registry() {
        let with_username = |username: &str| {
            let credentials = format!("{{source: {{username: {username}, password: one}}}}");
            read(&BEFORE.replace("target: b.example/x", &format!("target: b.example/x, credentials: {credentials}")))
        };
        let found = difference(&with_username("me"), &with_username("you"));
        assert_eq!(found.changed.iter().map(EntryName::as_str).collect::<Vec<_>>(), ["x"]);
        assert!(found.registries.is_empty());
        assert!(difference(&with_username("me"), &with_username("me")).is_empty());
    }

    #[test]
    fn entry_is_affected_by_changes_of_itself_and_its_registries_except_limits() {
        let affected_by = |after: &str| {
            let (old, new) = (read(BEFORE), read(after));
            let names = affected(&difference(&old, &new), &old, &new);
            names.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(affected_by(&BEFORE.replace("b.example/y}", "b.example/y, referrers: false}")), ["y"]);
        assert_eq!(
            affected_by(&BEFORE.replace("b.example/y}", "b.example/y, schedule: '@hourly', jitter: 1m}")),
            [""; 0]
        );
        assert_eq!(affected_by(&BEFORE.replace("name: y", "name: z")), ["z"]);
        assert_eq!(affected_by(&BEFORE.replace("password: one", "password: two")), ["x", "y"]);
        assert_eq!(
            affected_by(&BEFORE.replace("plain_http: true", "plain_http: true, limits: {concurrent: 2}")),
            [""; 0]
        );
        assert_eq!(affected_by(BEFORE), [""; 0]);
    }

    #[test]
    fn added_removed_and_changed_names_are_listed() {
        let after = r#"
version: 1
daemon: {memory: 64MiB, status: off, bandwidth: 1MiB/s}
registries:
  a.example: {credentials: {username: me, password: two}}
  c.example: {plain_http: true}
sync:
  - {name: y, source: a.example/y, target: b.example/y, referrers: false}
  - {name: z, source: a.example/z, target: b.example/z}
"#;
        let found = difference(&read(BEFORE), &read(after));
        let names = |names: &[EntryName]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(&found.added), ["z"]);
        assert_eq!(names(&found.removed), ["x"]);
        assert_eq!(names(&found.changed), ["y"]);
        let hosts: Vec<&str> = found.registries.iter().map(RegistryHost::as_str).collect();
        assert_eq!(hosts, ["a.example", "b.example", "c.example"]);
        assert_eq!(found.daemon, ["status", "memory", "bandwidth"]);
    }
}
