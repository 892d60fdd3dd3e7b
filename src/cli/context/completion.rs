//! Candidates for shell completion: the names of entries and registries. The candidates come from the configuration and
//! the journal on this machine. If the configuration is unreadable, its names are omitted.

use std::ffi::OsStr;
use std::path::PathBuf;

use clap_complete::engine::CompletionCandidate;

use super::configuration;
use crate::cli::context::invocation::Global;
use crate::cli::logging::LogFormat;
use crate::cli::output::style::ColorMode;
use crate::config::{Config, default_journal};
use crate::journal::Journal;

/// Returns the entries of the configuration whose names begin with `current`.
pub(crate) fn entries(current: &OsStr) -> Vec<CompletionCandidate> {
    let global = global_arguments(std::env::args());
    matching(current, read_configuration(&global).iter().flat_map(entry_candidates))
}

/// Returns the entries of the configuration and of the journal whose names begin with `current`.
pub(crate) fn recorded_entries(current: &OsStr) -> Vec<CompletionCandidate> {
    let global = global_arguments(std::env::args());
    let config = read_configuration(&global);
    let configured: Vec<CompletionCandidate> = config.iter().flat_map(entry_candidates).collect();
    let journal = config.map(|config| config.daemon.journal).or_else(|| default_journal(&configuration::environment));
    let recorded = journal.and_then(recorded_names).unwrap_or_default().into_iter();
    let recorded = recorded.filter(|name| configured.iter().all(|known| known.get_value() != name.as_str()));
    let recorded: Vec<_> = recorded.map(CompletionCandidate::new).collect();
    matching(current, configured.into_iter().chain(recorded))
}

/// Returns the entries and the registries of the configuration whose names begin with `current`.
pub(crate) fn entries_and_registries(current: &OsStr) -> Vec<CompletionCandidate> {
    let global = global_arguments(std::env::args());
    let config = read_configuration(&global);
    let hosts = config.iter().flat_map(Config::hosts).map(|host| CompletionCandidate::new(host.to_string()));
    let hosts: Vec<_> = hosts.collect();
    matching(current, config.iter().flat_map(entry_candidates).chain(hosts))
}

fn matching(current: &OsStr, candidates: impl IntoIterator<Item = CompletionCandidate>) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    candidates.into_iter().filter(|candidate| candidate.get_value().to_string_lossy().starts_with(&*current)).collect()
}

/// Returns the name of each entry. The help text of a name is the entry's source.
fn entry_candidates(config: &Config) -> Vec<CompletionCandidate> {
    let candidate = |entry: &crate::config::Entry| {
        CompletionCandidate::new(entry.name.as_str()).help(Some(entry.source.to_string().into()))
    };
    config.entries.iter().map(candidate).collect()
}

fn read_configuration(global: &Global) -> Option<Config> {
    configuration::read(&configuration::find_if_any(global)?).ok()
}

fn recorded_names(path: PathBuf) -> Option<Vec<String>> {
    let journal = Journal::open_existing(&path).ok()?;
    let runtime = tokio::runtime::Builder::new_current_thread().build().ok()?;
    runtime.block_on(journal.entry_names()).ok()
}

/// Returns the global arguments with the configuration that the user's command line selects.
fn global_arguments(words: impl Iterator<Item = String>) -> Global {
    let config = named_configuration(words).map(PathBuf::from);
    let config = config.or_else(|| std::env::var_os("TRANSSHIP_CONFIG").map(PathBuf::from));
    Global {
        config,
        quiet: true,
        verbose: 0,
        log_format: LogFormat::Auto,
        color: ColorMode::Never,
        announces_configuration: false,
    }
}

/// Returns the value of `--config` in the user's command line. The shell passes the command line after a `--`, and does
/// not expand `~` in the value.
fn named_configuration(words: impl Iterator<Item = String>) -> Option<String> {
    const OPTIONS: [&str; 4] = ["--config", "--file", "-c", "-f"];
    let mut words = words.skip_while(|word| word != "--").skip(1);
    let mut named = None;
    while let Some(word) = words.next() {
        if OPTIONS.contains(&word.as_str()) {
            // Some shells split `--config=FILE` into three words.
            named = words.next().and_then(|value| if value == "=" { words.next() } else { Some(value) });
        } else if let Some((option, value)) = word.split_once('=')
            && OPTIONS.contains(&option)
        {
            named = Some(value.to_owned());
        }
    }
    named.map(|path| match (path.strip_prefix("~/"), std::env::var("HOME")) {
        (Some(rest), Ok(home)) => format!("{home}/{rest}"),
        _ => path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(words: &[&str]) -> Option<String> {
        named_configuration(words.iter().map(|word| (*word).to_owned()))
    }

    #[test]
    fn configuration_of_the_completed_command_line_is_found() {
        assert_eq!(named(&["transship", "--", "transship", "once", "-c", "a.yaml", "x"]).as_deref(), Some("a.yaml"));
        assert_eq!(named(&["t", "--", "t", "--config=b.yaml", "once"]).as_deref(), Some("b.yaml"));
        assert_eq!(named(&["t", "--", "t", "--file", "=", "c.yaml"]).as_deref(), Some("c.yaml"));
        assert_eq!(named(&["t", "--", "t", "once", ""]), None);
        assert_eq!(named(&["t", "-c", "a.yaml"]), None, "only the words after `--` are the command line");
    }

    #[test]
    fn candidates_begin_with_the_typed_text() {
        let text = "version: 1\nsync:\n  - {name: api, source: h.example/a, target: t.example/a}\n  \
                    - {name: base, source: h.example/b, target: t.example/b}\n";
        let config = crate::config::parse("sync.yaml", text, &|_| Some("/tmp".into())).unwrap();
        let found = matching(OsStr::new("a"), entry_candidates(&config));
        let found: Vec<_> = found.iter().map(|candidate| candidate.get_value().to_owned()).collect();
        assert_eq!(found, ["api"]);
    }
}
