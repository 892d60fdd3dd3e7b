//! Functions that find and read the configuration and the journal of a command, and that select entries.

use std::path::{Path, PathBuf};

use anyhow::anyhow;

use super::entry_pattern::{EntryPattern, select_names};
use crate::cli::context::invocation::Global;
use crate::cli::exit::Failure;
use crate::cli::output::writer;
use crate::config::{Config, Entry, Problems, default_journal};
use crate::journal::Journal;
use crate::registry::{Options, invalid_proxy_variables};

/// Default paths of the configuration, in order of precedence.
const DEFAULT_PATHS: [&str; 2] = ["sync.yaml", "/etc/transship/sync.yaml"];

/// Returns the path of the configuration from the arguments. If the arguments contain no path, returns the first
/// existing path of [`DEFAULT_PATHS`].
pub(crate) fn find(global: &Global) -> Result<PathBuf, Failure> {
    find_if_any(global).ok_or_else(|| {
        let places = DEFAULT_PATHS.join(" nor ");
        Failure::usage(anyhow!("there is no configuration: neither {places} exists; name a file with --config FILE"))
    })
}

/// Works like [`find`], but returns `None` if there is no configuration.
pub(crate) fn find_if_any(global: &Global) -> Option<PathBuf> {
    let first_existing = || existing_default_paths().next().map(PathBuf::from);
    global.config.clone().or_else(first_existing)
}

fn existing_default_paths() -> impl Iterator<Item = &'static str> {
    DEFAULT_PATHS.into_iter().filter(|path| Path::new(path).exists())
}

/// Prints the path of the configuration to standard error. If the output is for a program, or with `-q`, prints
/// nothing.
pub(crate) fn announce(global: &Global, path: &Path) {
    if global.announces_configuration {
        let ignored = existing_default_paths().nth(1).filter(|_| global.config.is_none());
        writer::print_note(announcement(path, ignored));
    }
}

/// Returns the line with the path of the configuration. `ignored` is a second existing file at a default path.
fn announcement(path: &Path, ignored: Option<&str>) -> String {
    let ignored = ignored.map(|ignored| format!(" (ignored: {ignored})")).unwrap_or_default();
    format!("configuration: {}{ignored}", path.display())
}

/// Folder in which systemd stores the credentials of the packaged service while the service runs.
const SERVICE_CREDENTIALS: &str = "/run/credentials/transship.service";

/// Reads a configuration. The environment of the process supplies the variables. Logs a warning for each invalid proxy
/// variable, but does not log the warnings of the configuration (see [`warn()`]).
pub(crate) fn read(path: &Path) -> Result<Config, Problems> {
    let config = crate::config::load(path, &environment)?;
    for name in invalid_proxy_variables(&environment) {
        tracing::warn!("ignored the environment variable {name}, which names no proxy: write http://HOST:PORT");
    }
    Ok(config)
}

pub(crate) fn warn(config: &Config) {
    for warning in &config.warnings {
        tracing::warn!(entry = warning.entry, "{warning}");
    }
}

/// Returns the value of an environment variable for the configuration parser.
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().or_else(|| service_variable(name, Path::new(SERVICE_CREDENTIALS)))
}

/// Returns the folder of the packaged service's credentials as the value of `CREDENTIALS_DIRECTORY`. systemd sets this
/// variable only for the service. With this value, a command that an administrator starts can read the credentials of
/// the service.
fn service_variable(name: &str, credentials: &Path) -> Option<String> {
    let is_available = name == "CREDENTIALS_DIRECTORY" && credentials.is_dir();
    is_available.then(|| credentials.to_string_lossy().into_owned())
}

/// Returns the options of registries that the configuration does not contain. The options come from the environment of
/// the process.
pub(crate) fn unlisted_options() -> Options {
    Options::unlisted(&|name| std::env::var(name).ok())
}

pub(crate) fn load(global: &Global) -> Result<Config, Failure> {
    let path = find(global)?;
    announce(global, &path);
    read(&path).map_err(Failure::usage)
}

/// Journal that a command reads, and the entry names of the configuration that contains the path of the journal.
#[derive(Debug)]
pub(crate) struct RecordedRuns {
    pub(crate) journal: Journal,
    /// Names of the entries in the configuration. If the arguments or the default path select the journal, the list is
    /// empty.
    pub(crate) configured: Vec<String>,
}

impl RecordedRuns {
    /// Returns the names of the entries that the patterns select from the configuration and the journal. Without
    /// patterns, returns an empty list, which means every entry. The journal also contains `(copy)` and removed
    /// entries.
    pub(crate) async fn select(&self, patterns: &[EntryPattern]) -> Result<Vec<String>, Failure> {
        if patterns.is_empty() {
            return Ok(Vec::new());
        }
        let recorded = self.journal.entry_names().await?;
        let mut names: Vec<&str> = self.configured.iter().map(String::as_str).collect();
        names.extend(recorded.iter().map(String::as_str).filter(|name| !self.configured.iter().any(|own| own == name)));
        Ok(select_names(patterns, &names)?.into_iter().map(str::to_owned).collect())
    }
}

/// Opens a journal for reading. The function selects the first of these journals:
/// - the journal in the arguments
/// - the journal at the default path, if there is no configuration
/// - the journal in the configuration
pub(crate) fn recorded_runs(journal: Option<&Path>, global: &Global) -> Result<RecordedRuns, Failure> {
    let (path, configured) = match journal {
        Some(path) => (path.to_owned(), Vec::new()),
        None => match (find_if_any(global), default_journal(&environment)) {
            (None, Some(path)) if path.exists() => (path, Vec::new()),
            _ => {
                let config = load(global)?;
                let names = config.entries.iter().map(|entry| entry.name.to_string()).collect();
                (config.daemon.journal, names)
            }
        },
    };
    Ok(RecordedRuns { journal: Journal::open_existing(&path)?, configured })
}

/// Returns the names of the entries, in the order of the file.
pub(crate) fn entry_names(config: &Config) -> Vec<&str> {
    config.entries.iter().map(|entry| entry.name.as_str()).collect()
}

/// Returns the entries that the patterns select, in the order of the file. Without patterns, returns all entries.
pub(crate) fn select_entries<'a>(config: &'a Config, patterns: &[EntryPattern]) -> Result<Vec<&'a Entry>, Failure> {
    let selected = select_names(patterns, &entry_names(config))?;
    Ok(config.entries.iter().filter(|entry| selected.contains(&entry.name.as_str())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::context::entry_pattern::tests::patterns;

    fn config() -> Config {
        let text = "version: 1\nsync:\n  - {name: api, source: h.example/a, target: t.example/a}\n  \
                    - {name: python-base, source: h.example/b, target: t.example/b}\n";
        crate::config::parse("sync.yaml", text, &|_| Some("/tmp".into())).unwrap()
    }

    fn names(chosen: &[&str]) -> Result<Vec<String>, String> {
        let config = config();
        let entries = super::select_entries(&config, &patterns(chosen)).map_err(|failure| failure.to_string())?;
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
    fn configuration_is_announced_with_the_ignored_default() {
        assert_eq!(announcement(Path::new("a.yaml"), None), "configuration: a.yaml");
        let both = announcement(Path::new("sync.yaml"), Some("/etc/transship/sync.yaml"));
        assert_eq!(both, "configuration: sync.yaml (ignored: /etc/transship/sync.yaml)");
    }

    #[test]
    fn entries_are_selected_in_the_order_of_the_file() {
        assert_eq!(names(&[]).unwrap(), ["api", "python-base"]);
        assert_eq!(names(&["python-base", "api"]).unwrap(), ["api", "python-base"]);
        assert_eq!(names(&["python-*"]).unwrap(), ["python-base"]);
    }

    #[test]
    fn unknown_entry_is_refused_with_a_suggestion() {
        let none = crate::config::parse("f", "{version: 1, daemon: {journal: /j}, sync: []}", &|_| None).unwrap();
        let refused = super::select_entries(&none, &patterns(&["x"])).unwrap_err().to_string();
        assert_eq!(refused, r#"error: there is no entry "x": the configuration has no entries"#);
        assert_eq!(
            names(&["pyton-base"]).unwrap_err(),
            r#"error: there is no entry "pyton-base": did you mean "python-base"?"#
        );
        assert_eq!(names(&["x"]).unwrap_err(), r#"error: there is no entry "x"; the entries are api, python-base"#);
    }
}
