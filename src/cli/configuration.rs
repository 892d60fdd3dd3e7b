//! Which `sync.yaml` a command reads, and which of its entries it is about.

use std::path::{Path, PathBuf};

use anyhow::anyhow;

use super::arguments::Global;
use super::exit::Failure;
use super::filter::Filter;
use crate::config::{Config, Entry, Problems, UnknownEntry, default_journal};
use crate::journal::Journal;
use crate::registry::{Options, false_proxies};

/// Where a configuration is looked for, in this order, when none is named.
const PLACES: [&str; 2] = ["/etc/transship/sync.yaml", "sync.yaml"];

/// The configuration that is named, else the first that exists.
pub(super) fn find(global: &Global) -> Result<PathBuf, Failure> {
    find_if_any(global).ok_or_else(|| {
        let places = PLACES.join(" nor ");
        Failure::usage(anyhow!("there is no configuration: neither {places} exists, name one with --config FILE"))
    })
}

/// As [`find`], `None` where none is named and none exists.
pub(super) fn find_if_any(global: &Global) -> Option<PathBuf> {
    let there = || PLACES.iter().map(PathBuf::from).find(|path| path.exists());
    global.config.clone().or_else(there)
}

/// Where systemd keeps what it hands to the packaged service, while that runs.
const HANDED_OVER: &str = "/run/credentials/transship.service";

/// Reads a configuration with the environment of the process, and warns of what should not be so in that. See [`warn()`].
pub(super) fn read(path: &Path) -> Result<Config, Problems> {
    let config = crate::config::load(path, &environment)?;
    for name in false_proxies(&environment) {
        tracing::warn!("the environment variable {name} names no proxy and is passed over: write http://HOST:PORT");
    }
    Ok(config)
}

/// Logs what should not be so in a configuration, for the commands that run its entries. `check` prints it.
pub(super) fn warn(config: &Config) {
    for warning in &config.warnings {
        tracing::warn!(entry = warning.entry, "{warning}");
    }
}

/// The environment that a configuration is read with, at the start and at a reload.
pub(super) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().or_else(|| of_service(name, Path::new(HANDED_OVER)))
}

/// What systemd sets for the service only, so that a command by hand finds the secrets of the daemon that runs.
fn of_service(name: &str, handed_over: &Path) -> Option<String> {
    let is_there = name == "CREDENTIALS_DIRECTORY" && handed_over.is_dir();
    is_there.then(|| handed_over.to_string_lossy().into_owned())
}

/// How registries are spoken to that no configuration names, by the environment of the process.
pub(super) fn unlisted() -> Options {
    Options::unlisted(&|name| std::env::var(name).ok())
}

/// Finds and reads the configuration.
pub(super) fn load(global: &Global) -> Result<Config, Failure> {
    read(&find(global)?).map_err(Failure::usage)
}

/// The journal to read: the one that is named, else the configuration's, else the one at the default place, which has the copies by hand.
pub(super) fn journal(filter: &Filter, global: &Global) -> Result<Journal, Failure> {
    let path = match &filter.journal {
        Some(path) => path.clone(),
        None => match (find_if_any(global), default_journal(&environment)) {
            (None, Some(path)) if path.exists() => path,
            _ => load(global)?.daemon.journal,
        },
    };
    Ok(Journal::open_existing(&path)?)
}

/// The entries of these names, in the order of the file; all of them where no name is given.
pub(super) fn chosen<'a>(config: &'a Config, names: &[String]) -> Result<Vec<&'a Entry>, Failure> {
    for name in names {
        if !config.entries.iter().any(|entry| entry.name.as_str() == name) {
            return Err(Failure::usage(unknown(config, name)));
        }
    }
    let wanted = |entry: &&Entry| names.is_empty() || names.iter().any(|name| name == entry.name.as_str());
    Ok(config.entries.iter().filter(wanted).collect())
}

fn unknown(config: &Config, name: &str) -> UnknownEntry {
    let names: Vec<&str> = config.entries.iter().map(|entry| entry.name.as_str()).collect();
    UnknownEntry::among(name, &names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let text = "version: 1\nsync:\n  - {name: api, source: h.example/a, target: t.example/a}\n  \
                    - {name: python-base, source: h.example/b, target: t.example/b}\n";
        crate::config::parse("sync.yaml", text, &|_| Some("/tmp".into())).unwrap()
    }

    fn names(chosen: &[&str]) -> Result<Vec<String>, String> {
        let names: Vec<String> = chosen.iter().map(|name| (*name).to_owned()).collect();
        let config = config();
        let entries = super::chosen(&config, &names).map_err(|failure| failure.to_string())?;
        Ok(entries.iter().map(|entry| entry.name.to_string()).collect())
    }

    #[test]
    fn by_hand_the_secrets_of_the_service_are_found_while_it_runs() {
        let folder = tempfile::tempdir().unwrap();
        let there = folder.path().to_str().unwrap().to_owned();
        assert_eq!(of_service("CREDENTIALS_DIRECTORY", folder.path()), Some(there));
        assert_eq!(of_service("HOME", folder.path()), None, "that one name alone");
        assert_eq!(of_service("CREDENTIALS_DIRECTORY", &folder.path().join("gone")), None);
    }

    #[test]
    fn no_name_means_every_entry_and_names_keep_the_order_of_the_file() {
        assert_eq!(names(&[]).unwrap(), ["api", "python-base"]);
        assert_eq!(names(&["python-base", "api"]).unwrap(), ["api", "python-base"]);
        assert_eq!(names(&["python-base"]).unwrap(), ["python-base"]);
    }

    #[test]
    fn an_unknown_entry_is_refused_with_a_way_out() {
        let none = crate::config::parse("f", "{version: 1, daemon: {journal: /j}, sync: []}", &|_| None).unwrap();
        let refused = super::chosen(&none, &["x".to_owned()]).unwrap_err().to_string();
        assert_eq!(refused, r#"error: there is no entry "x": the configuration has none"#);
        assert_eq!(
            names(&["pyton-base"]).unwrap_err(),
            r#"error: there is no entry "pyton-base": did you mean "python-base"?"#
        );
        assert_eq!(names(&["x"]).unwrap_err(), r#"error: there is no entry "x", there are api, python-base"#);
    }
}
