//! Which `sync.yaml` a command reads, and which of its entries it is about.

use std::path::{Path, PathBuf};

use anyhow::anyhow;

use super::arguments::Global;
use super::exit::Failure;
use crate::config::{Config, Entry};

/// Where a configuration is looked for, in this order, when none is named.
const PLACES: [&str; 2] = ["/etc/transship/sync.yaml", "sync.yaml"];

/// The configuration that is named, else the first that exists.
pub(super) fn find(global: &Global) -> Result<PathBuf, Failure> {
    find_if_any(global).ok_or_else(|| {
        let places = PLACES.join(" nor ");
        Failure::usage(anyhow!("there is no configuration: neither {places} exists; name one with --config FILE"))
    })
}

/// As [`find`], `None` where none is named and none exists.
pub(super) fn find_if_any(global: &Global) -> Option<PathBuf> {
    let there = || PLACES.iter().map(PathBuf::from).find(|path| path.exists());
    global.config.clone().or_else(there)
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

fn unknown(config: &Config, name: &str) -> anyhow::Error {
    let near = |entry: &&Entry| strsim::damerau_levenshtein(entry.name.as_str(), name);
    match config.entries.iter().min_by_key(near).filter(|entry| near(entry) <= 1 + name.len() / 4) {
        Some(entry) => anyhow!("there is no entry {name:?}: did you mean {:?}?", entry.name.as_str()),
        None => {
            let names: Vec<&str> = config.entries.iter().map(|entry| entry.name.as_str()).collect();
            anyhow!("there is no entry {name:?}: there are {}", names.join(", "))
        }
    }
}
