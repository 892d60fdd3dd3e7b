//! Lookup of the `sync.yaml` that a command reads, and of the entries that the command names.

use std::path::{Path, PathBuf};

use anyhow::anyhow;

use super::filter::Filter;
use crate::cli::context::invocation::Global;
use crate::cli::exit::Failure;
use crate::config::{Config, Entry, Problems, UnknownEntry, default_journal};
use crate::journal::Journal;
use crate::registry::{Options, invalid_proxy_variables};

/// Paths of the configuration if the arguments name none. The first existing file is used.
const DEFAULT_PATHS: [&str; 2] = ["/etc/transship/sync.yaml", "sync.yaml"];

/// Returns the path of the configuration that the arguments name, or else the first existing path of [`DEFAULT_PATHS`].
pub(crate) fn find(global: &Global) -> Result<PathBuf, Failure> {
    find_if_any(global).ok_or_else(|| {
        let places = DEFAULT_PATHS.join(" nor ");
        Failure::usage(anyhow!("there is no configuration: neither {places} exists, name one with --config FILE"))
    })
}

/// Works as [`find`], but returns `None` if no configuration is named and none exists.
pub(crate) fn find_if_any(global: &Global) -> Option<PathBuf> {
    let first_existing = || DEFAULT_PATHS.iter().map(PathBuf::from).find(|path| path.exists());
    global.config.clone().or_else(first_existing)
}

/// Folder in which systemd keeps the credentials of the packaged service while the service runs.
const SERVICE_CREDENTIALS: &str = "/run/credentials/transship.service";

/// Reads a configuration with the environment of the process, and logs a warning for each invalid proxy variable.
/// [`warn()`] logs the warnings of the configuration itself.
pub(crate) fn read(path: &Path) -> Result<Config, Problems> {
    let config = crate::config::load(path, &environment)?;
    for name in invalid_proxy_variables(&environment) {
        tracing::warn!("ignored the environment variable {name}, which names no proxy: write http://HOST:PORT");
    }
    Ok(config)
}

/// Logs the warnings of a configuration, for the commands that run its entries. The command `check` prints the warnings
/// instead.
pub(crate) fn warn(config: &Config) {
    for warning in &config.warnings {
        tracing::warn!(entry = warning.entry, "{warning}");
    }
}

/// Returns the value of an environment variable for the reader of the configuration, at the start and at a reload.
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().or_else(|| service_variable(name, Path::new(SERVICE_CREDENTIALS)))
}

/// Returns the value of `CREDENTIALS_DIRECTORY`, which systemd sets for the service only. So a command that a person
/// runs finds the secrets of the running service as well.
fn service_variable(name: &str, credentials: &Path) -> Option<String> {
    let is_available = name == "CREDENTIALS_DIRECTORY" && credentials.is_dir();
    is_available.then(|| credentials.to_string_lossy().into_owned())
}

/// Returns the options for registries that no configuration names, from the environment of the process.
pub(crate) fn unlisted_options() -> Options {
    Options::unlisted(&|name| std::env::var(name).ok())
}

/// Finds and reads the configuration.
pub(crate) fn load(global: &Global) -> Result<Config, Failure> {
    read(&find(global)?).map_err(Failure::usage)
}

/// Opens the journal to read, the first of these that applies:
/// - the journal that the arguments name,
/// - the journal at the default path, which records the runs of `copy`, if no configuration is found,
/// - the journal that the configuration names.
pub(crate) fn journal(filter: &Filter, global: &Global) -> Result<Journal, Failure> {
    let path = match &filter.journal {
        Some(path) => path.clone(),
        None => match (find_if_any(global), default_journal(&environment)) {
            (None, Some(path)) if path.exists() => path,
            _ => load(global)?.daemon.journal,
        },
    };
    Ok(Journal::open_existing(&path)?)
}

/// Returns the entries of these names, in the order of the file, or all entries if no name is given.
pub(crate) fn select_entries<'a>(config: &'a Config, names: &[String]) -> Result<Vec<&'a Entry>, Failure> {
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
    UnknownEntry::new(name, &names)
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
        let entries = super::select_entries(&config, &names).map_err(|failure| failure.to_string())?;
        Ok(entries.iter().map(|entry| entry.name.to_string()).collect())
    }

    #[test]
    fn service_credentials_are_found_while_the_service_runs() {
        let folder = tempfile::tempdir().unwrap();
        let there = folder.path().to_str().unwrap().to_owned();
        assert_eq!(service_variable("CREDENTIALS_DIRECTORY", folder.path()), Some(there));
        assert_eq!(service_variable("HOME", folder.path()), None, "only that variable has a value");
        assert_eq!(service_variable("CREDENTIALS_DIRECTORY", &folder.path().join("gone")), None);
    }

    #[test]
    fn entries_are_selected_in_the_order_of_the_file() {
        assert_eq!(names(&[]).unwrap(), ["api", "python-base"]);
        assert_eq!(names(&["python-base", "api"]).unwrap(), ["api", "python-base"]);
        assert_eq!(names(&["python-base"]).unwrap(), ["python-base"]);
    }

    #[test]
    fn unknown_entry_is_refused_with_a_suggestion() {
        let none = crate::config::parse("f", "{version: 1, daemon: {journal: /j}, sync: []}", &|_| None).unwrap();
        let refused = super::select_entries(&none, &["x".to_owned()]).unwrap_err().to_string();
        assert_eq!(refused, r#"error: there is no entry "x": the configuration has no entries"#);
        assert_eq!(
            names(&["pyton-base"]).unwrap_err(),
            r#"error: there is no entry "pyton-base": did you mean "python-base"?"#
        );
        assert_eq!(names(&["x"]).unwrap_err(), r#"error: there is no entry "x"; the entries are api, python-base"#);
    }
}
