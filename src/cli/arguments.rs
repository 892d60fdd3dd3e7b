//! Arguments of the whole program, and the function that runs the command in the arguments. Each file in `commands`
//! contains the arguments of one command.

use clap::{CommandFactory as _, Parser, Subcommand};
use tokio_util::sync::CancellationToken;
use tracing::Level;

use super::commands::{
    check, completions, copy, evidence, history, import_config, inspect, limits, login_check, man, next, once, pause,
    plan, repositories, resume, run, schema, status, tags, trigger,
};
use super::context::invocation::{Context, Global};
use super::exit::{Exit, Failure};
use super::output::writer;

/// Keeps container registries in step: copies missing images by digest, on a schedule, and records each run in a
/// journal.
#[derive(Debug, Parser)]
#[command(name = "transship", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 success, 1 at least one tag failed, 2 usage or configuration, \
                        3 changes pending, 4 tags withheld by a rule or a pull limit, 5 the journal is damaged, \
                        130 interrupted.")]
pub struct Arguments {
    /// Arguments of every command.
    #[command(flatten)]
    pub global: Global,
    /// Command to run.
    #[command(subcommand)]
    pub command: Command,
}

impl Arguments {
    /// Returns true for `once` and `copy` without `--json`, `-q` and `-v`: these commands print a report as text.
    pub(super) fn prints_report(&self) -> bool {
        let is_report = match &self.command {
            Command::Once(once) => !once.json,
            Command::Copy(copy) => !copy.json,
            _ => false,
        };
        is_report && !self.global.quiet && self.global.verbose == 0
    }
}

/// Commands of the program.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon
    Run(run::Run),
    /// Run every entry (or the named ones) once, now
    Once(once::Once),
    /// Show the changes that a run would make; change nothing
    Plan(plan::Plan),
    /// Show the next scheduled runs, offline
    Next(next::Next),
    /// Check the configuration, offline
    Check(check::Check),
    /// Check the login and the permissions of the entries at each registry
    LoginCheck(login_check::LoginCheck),
    /// Copy one tag, one digest or one repository, without a configuration
    Copy(copy::Copy),
    /// Show the tags of a repository with their digests
    Tags(tags::Tags),
    /// Show the repositories of a registry, or those below a prefix
    #[command(visible_alias = "ls")]
    Repositories(repositories::Repositories),
    /// Show the closure of a manifest, with sizes
    Inspect(inspect::Inspect),
    /// Show the limits of each registry and their origin, offline
    Limits(limits::Limits),
    /// Show the runs in the journal
    History(history::History),
    /// Show the recorded arrivals: time, source, target and digest
    Evidence(evidence::Evidence),
    /// Show the state of the daemon
    Status(status::Status),
    /// Convert the configuration of regsync, skopeo, image-syncer, dregsy or zot to a `sync.yaml`
    ImportConfig(import_config::ImportConfig),
    /// Start a run of an entry now, in the running daemon
    Trigger(trigger::Trigger),
    /// Pause the scheduled runs of entries, in the running daemon. A run in progress finishes its current tags; its
    /// remaining tags follow after the pause
    Pause(pause::Pause),
    /// End the pauses of entries. Scheduled runs during the pause are not caught up
    Resume(resume::Resume),
    /// Print the JSON Schema of the configuration, of /status or of a notification
    Schema(schema::Schema),
    /// Print the completion script of a shell
    Completions(completions::Completions),
    /// Print the manual page
    Man(man::Man),
}

impl Command {
    /// Returns the log level if TRANSSHIP_LOG is not set. On a terminal, `once` and `copy` log only warnings, because
    /// these commands also show progress bars and a summary.
    pub(super) fn log_level(&self) -> Level {
        match self {
            Self::Run(_) => Level::INFO,
            Self::Once(_) | Self::Copy(_) if !writer::stderr_is_terminal() => Level::INFO,
            _ => Level::WARN,
        }
    }

    /// Returns true if the output is for programs: JSON, CSV, a completion script or the source of the manual page.
    pub(super) fn is_for_programs(&self) -> bool {
        match self {
            Self::Run(_) | Self::ImportConfig(_) => false,
            Self::Once(command) => command.json,
            Self::Plan(command) => command.json,
            Self::Next(command) => command.json,
            Self::Check(command) => command.json,
            Self::LoginCheck(command) => command.json,
            Self::Copy(command) => command.json,
            Self::Tags(command) => command.json,
            Self::Repositories(command) => command.json,
            Self::Inspect(command) => command.json,
            Self::Limits(command) => command.json,
            Self::History(command) => command.json,
            Self::Evidence(command) => command.json || command.csv,
            Self::Status(command) => command.json,
            Self::Trigger(command) => command.daemon.json,
            Self::Pause(command) => command.daemon.json,
            Self::Resume(command) => command.daemon.json,
            Self::Schema(_) | Self::Completions(_) | Self::Man(_) => true,
        }
    }

    pub(super) async fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        let interrupted = context.interrupted.clone();
        match self {
            Self::Run(command) => command.perform(context).await,
            Self::Copy(command) => command.perform(context).await,
            Self::Once(command) => command.perform(context).await,
            Self::Plan(command) => unless_interrupted(&interrupted, command.perform(context)).await,
            Self::Check(command) => command.perform(context),
            Self::Next(command) => command.perform(context).await,
            Self::LoginCheck(command) => unless_interrupted(&interrupted, command.perform(context)).await,
            Self::Limits(command) => command.perform(context).await,
            // With `--watch`, a signal is the normal end, and the exit code is 0.
            Self::History(command) if command.watch => command.perform(context).await,
            Self::Status(command) if command.watch => command.perform(context).await,
            Self::History(command) => unless_interrupted(&interrupted, command.perform(context)).await,
            Self::Evidence(command) => unless_interrupted(&interrupted, command.perform(context)).await,
            Self::ImportConfig(command) => command.perform(context),
            Self::Schema(command) => command.perform(context),
            Self::Completions(command) => command.perform(context),
            Self::Man(command) => command.perform(Arguments::command(), context),
            Self::Tags(command) => unless_interrupted(&interrupted, command.perform(context)).await,
            Self::Repositories(command) => unless_interrupted(&interrupted, command.perform(context)).await,
            Self::Inspect(command) => unless_interrupted(&interrupted, command.perform(context)).await,
            Self::Trigger(command) => unless_interrupted(&interrupted, command.perform(context)).await,
            Self::Pause(command) => unless_interrupted(&interrupted, command.perform(context)).await,
            Self::Resume(command) => unless_interrupted(&interrupted, command.perform(context)).await,
            Self::Status(command) => unless_interrupted(&interrupted, command.perform(context)).await,
        }
    }
}

/// Runs `command` until the command ends. If a signal arrives first, drops `command`. The command must be safe to drop
/// at each `await`.
async fn unless_interrupted(
    interrupted: &CancellationToken,
    command: impl Future<Output = Result<Exit, Failure>>,
) -> Result<Exit, Failure> {
    tokio::select! {
        exit = command => exit,
        () = interrupted.cancelled() => Ok(Exit::Interrupted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_definition_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_and_argument_has_a_help_text() {
        let mut command = Arguments::command();
        command.build();
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            assert!(sub.get_about().is_some(), "{}", sub.get_name());
            for argument in sub.get_arguments().filter(|argument| !argument.is_hide_set()) {
                assert!(argument.get_help().is_some(), "{} {}", sub.get_name(), argument.get_id());
            }
        }
    }

    #[tokio::test]
    async fn interruption_ends_a_waiting_command() {
        let interrupted = CancellationToken::new();
        interrupted.cancel();
        let exit = unless_interrupted(&interrupted, std::future::pending()).await;
        assert!(matches!(exit, Ok(Exit::Interrupted)));
    }
}
