//! Lookup of the `sync.yaml` that a command reads, and of the entries that the command names.

use std::path::{Path, PathBuf};

use anyhow::anyhow;

use super::entry_pattern::{EntryPattern, select_names};
use crate::cli::context::invocation::Global;
use crate::cli::exit::Failure;
use crate::cli::output::writer;
use crate::config::{Config, Entry, Problems, default_journal};
use crate::journal::Journal;
use crate::registry::{Options, invalid_proxy_variables};

/// Paths of the configuration if the arguments name none. The first existing file is used: the file in the working
/// folder takes precedence over the file of the daemon.
const DEFAULT_PATHS: [&str; 2] = ["sync.yaml", "/etc/transship/sync.yaml"];

/// Returns the path of the configuration that the arguments name, or else the first existing path of [`DEFAULT_PATHS`].
pub(crate) fn find(global: &Global) -> Result<PathBuf, Failure> {
    find_if_any(global).ok_or_else(|| {
        let places = DEFAULT_PATHS.join(" nor ");
        Failure::usage(anyhow!("there is no configuration: neither {places} exists, name one with --config FILE"))
    })
}

/// Works as [`find`], but returns `None` if no configuration is named and none exists.
pub(crate) fn find_if_any(global: &Global) -> Option<PathBuf> {
    let first_existing = || existing_default_paths().next().map(PathBuf::from);
    global.config.clone().or_else(first_existing)
}

fn existing_default_paths() -> impl Iterator<Item = &'static str> {
    DEFAULT_PATHS.into_iter().filter(|path| Path::new(path).exists())
}

/// Prints the name of the configuration that the command reads, unless the output is for a program or `-q` is given.
pub(crate) fn announce(global: &Global, path: &Path) {
    if global.announces_configuration {
        let ignored = existing_default_paths().nth(1).filter(|_| global.config.is_none());
        writer::print_note(announcement(path, ignored));
    }
}

/// Returns the line that names the configuration, and the file at a default path that the command ignores.
fn announcement(path: &Path, ignored: Option<&str>) -> String {
    let ignored = ignored.map(|ignored| format!(" (ignored: {ignored})")).unwrap_or_default();
    format!("configuration: {}{ignored}", path.display())
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
    let path = find(global)?;
    announce(global, &path);
    read(&path).map_err(Failure::usage)
}

/// Journal to show, and the entries of the configuration that names it.
#[derive(Debug)]
pub(crate) struct RecordedRuns {
    pub(crate) journal: Journal,
    /// Names of the configuration's entries. Empty if no configuration names the journal.
    pub(crate) configured: Vec<String>,
}

impl RecordedRuns {
    /// Returns the names of the selected entries. An empty list means every entry. The names are those of the
    /// configuration and those in the journal, which also has removed entries and `(copy)`.
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

/// Opens the journal to read, the first of these that applies:
/// - the journal that the arguments name,
/// - the journal at the default path, which records the runs of `copy`, if no configuration is found,
/// - the journal that the configuration names.
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

/// Returns the entries that the patterns select, in the order of the file, or all entries if there is no pattern.
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
