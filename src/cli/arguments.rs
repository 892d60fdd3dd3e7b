//! The shape of the command line as a whole. What a single command takes stands in its own file.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::logging::LogFormat;
use super::{
    check, completions, copy, evidence, history, import_config, inspect, limits, login_check, man, next, once, pause,
    plan, resume, run, schema, status, tags, trigger,
};

/// Keeps container registries in step: copies what is missing, by digest, on a timer, with a journal.
#[derive(Debug, Parser)]
#[command(name = "transship", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 all is well, 1 at least one tag failed, 2 usage or configuration, \
                        3 changes pending, 4 held by a rule or by a pull limit, 130 interrupted.")]
pub struct Arguments {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The configuration [default: /etc/transship/sync.yaml, then ./sync.yaml]
    #[arg(long, short, global = true, value_name = "FILE", env = "TRANSSHIP_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// The form of log lines on standard error; TRANSSHIP_LOG holds the filter (info, debug, transship=trace)
    #[arg(long, global = true, value_name = "FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon
    Run(run::Run),
    /// Run every (named) entry once, now
    Once(once::Once),
    /// Show what a run would change; change nothing
    Plan(plan::Plan),
    /// Show when entries will run by themselves, offline
    Next(next::Next),
    /// Check the configuration, offline
    Check(check::Check),
    /// Ask each registry whether it lets us in and grants what the entries need
    LoginCheck(login_check::LoginCheck),
    /// Copy one tag, one digest or one repository, without a configuration
    Copy(copy::Copy),
    /// Show the tags of a repository with their digests
    Tags(tags::Tags),
    /// Show what a manifest reaches, with sizes
    Inspect(inspect::Inspect),
    /// Show what each registry is asked for at most, and who says so
    Limits(limits::Limits),
    /// Show the runs of the journal
    History(history::History),
    /// Show what arrived, when, from where and under which digest
    Evidence(evidence::Evidence),
    /// Show what the daemon is doing
    Status(status::Status),
    /// Tell the configuration of regsync or `skopeo sync` as a `sync.yaml`
    ImportConfig(import_config::ImportConfig),
    /// Ask the running daemon for a run of an entry, now
    Trigger(trigger::Trigger),
    /// Keep entries from beginning runs by themselves, in the running daemon
    Pause(pause::Pause),
    /// End the pauses of entries
    Resume(resume::Resume),
    /// Print the JSON Schema of the configuration, of /status or of a notification
    Schema(schema::Schema),
    /// Print the completions of a shell
    Completions(completions::Completions),
    /// Print the manual page
    Man(man::Man),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_and_argument_says_what_it_is() {
        let mut command = Arguments::command();
        command.build();
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            assert!(sub.get_about().is_some(), "{}", sub.get_name());
            for argument in sub.get_arguments().filter(|argument| !argument.is_hide_set()) {
                assert!(argument.get_help().is_some(), "{} {}", sub.get_name(), argument.get_id());
            }
        }
    }
}
