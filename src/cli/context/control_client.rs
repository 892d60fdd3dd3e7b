//! Client of the control socket for the commands `trigger`, `pause` and `resume`. A command sends one request for each
//! entry to the running daemon, prints the replies, and computes the exit code.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::anyhow;
use chrono::Utc;
use clap_complete::engine::ArgValueCompleter;

use super::entry_pattern::{EntryPattern, select_names};
use super::{completion, configuration};
use crate::cli::context::invocation::Context;
use crate::cli::context::invocation::Global;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::units::Times;
use crate::cli::output::writer;
use crate::config::ControlSocket;
use crate::control::{
    Action, Client, ClientError, ENTRIES_AT_MOST, EntryResult, PauseOptions, Reply, Request, RunResult, TriggerOptions,
};

/// Control socket of the packaged service.
const SERVICE: &str = "/run/transship/control.sock";

/// Time limit for the daemon's reply. Before the reply, the daemon can wait for a write to its journal.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Arguments that `trigger`, `pause` and `resume` share.
#[derive(Debug, clap::Args)]
pub struct DaemonArguments {
    /// Path of the control socket [default: the path in the configuration, or else the path of the packaged service]
    #[arg(long, value_name = "PATH")]
    pub at: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Entries for a command. The user must give entries or `--all`.
#[derive(Debug, Clone, clap::Args)]
pub struct ExplicitEntries {
    /// Entries to act on, by name or by glob ("app-*")
    #[arg(value_name = "ENTRY", required_unless_present = "all", add = ArgValueCompleter::new(completion::entries))]
    pub entries: Vec<EntryPattern>,
    /// Act on every entry
    #[arg(long, conflicts_with = "entries")]
    pub all: bool,
}

/// Remedy for the error of `pause` and `resume` if no daemon listens.
pub(crate) const NO_DAEMON_REMEDY: &str = "start a daemon with `daemon.control` in its configuration, or name its \
                                           socket with --at; for the packaged service, see \
                                           `systemctl status transship`";

/// Returns the names of the selected entries without duplicates. If the arguments contain a glob or `--all`, requests
/// the entry names from the daemon. The function does not check literal names: the daemon reports unknown entries.
async fn resolve(selected: &ExplicitEntries, socket: &Path) -> Result<Vec<String>, Failure> {
    let literal = |pattern: &EntryPattern| match pattern {
        EntryPattern::Name(name) => Some(name.clone()),
        EntryPattern::Pattern(_) => None,
    };
    let literal: Option<Vec<String>> = selected.entries.iter().map(literal).collect();
    if let Some(mut names) = literal.filter(|_| !selected.all) {
        names.sort();
        names.dedup();
        return Ok(names);
    }
    let known = Client::list_entries(socket, ANSWER_TIMEOUT).await?;
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    Ok(select_names(&selected.entries, &known)?.into_iter().map(str::to_owned).collect())
}

impl DaemonArguments {
    /// Sends `action` for each entry, prints each reply, and returns the exit code for all replies. If no daemon
    /// listens, the error contains `remedy`.
    pub(crate) async fn request(
        &self,
        action: Action,
        entries: &ExplicitEntries,
        remedy: &str,
        context: &mut Context,
    ) -> Result<Exit, Failure> {
        let path = socket_path(self.at.as_deref(), &context.global)?;
        let entries = resolve(entries, &path).await.map_err(|failure| with_remedy(failure, remedy))?;
        let replies = self.print_replies(action, &entries, &path, context).await;
        let replies = replies.map_err(|failure| with_remedy(failure, remedy))?;
        exit(&replies, action, entries.len())
    }

    async fn print_replies(
        &self,
        action: Action,
        entries: &[String],
        path: &Path,
        context: &mut Context,
    ) -> Result<Vec<Reply>, Failure> {
        let replies = self.collect_replies(action, entries, path, context).await?;
        if self.json {
            context.output.json(&replies)?;
        }
        Ok(replies)
    }

    /// Sends the requests and returns all replies. The daemon replies once to each entry immediately. If the command
    /// waits for the runs, the daemon sends a second reply for each run at its end. Without `--json`, prints each reply
    /// when the reply arrives.
    async fn collect_replies(
        &self,
        action: Action,
        entries: &[String],
        path: &Path,
        context: &mut Context,
    ) -> Result<Vec<Reply>, Failure> {
        let (mut replies, mut waiting) = (Vec::new(), Vec::new());
        // Each waiting request keeps one connection open until the run ends.
        if entries.len() > ENTRIES_AT_MOST && is_waiting(action) {
            let error = format!(
                "the command waits for {} entries, and at most {ENTRIES_AT_MOST} are allowed: name fewer entries, or \
                    omit --wait",
                entries.len()
            );
            self.print_reply(&Reply::Refused { error: error.clone() }, action, context)?;
            return Ok(vec![Reply::Refused { error }]);
        }
        for entry in entries {
            let mut client = Client::connect(path, &Request { entry: entry.clone(), action }).await?;
            let Some(reply) = client.next(Some(ANSWER_TIMEOUT)).await? else { return Ok(replies) };
            self.print_reply(&reply, action, context)?;
            if is_followed_by_end(&reply, action) {
                waiting.push(client);
            }
            replies.push(reply);
        }
        // The command waits for the runs in the order of the entries. If the first run is long, the results of later
        // entries are printed after the first run.
        for mut client in waiting {
            let Some(reply) = client.next(None).await? else { return Ok(replies) };
            self.print_reply(&reply, action, context)?;
            replies.push(reply);
        }
        Ok(replies)
    }

    fn print_reply(&self, reply: &Reply, action: Action, context: &mut Context) -> Result<(), Failure> {
        if self.json {
            return Ok(());
        }
        let line = reply_line(reply, action, context.output.times(Utc::now()));
        let is_error = match reply {
            Reply::Refused { .. } => true,
            Reply::Entry { result, .. } => {
                matches!(result, EntryResult::Unknown { .. } | EntryResult::Refused { .. })
            }
        };
        if is_error {
            writer::print_error(format!("error: {line}"));
            return Ok(());
        }
        context.output.counts_line(line)?;
        Ok(context.output.flush()?)
    }
}

/// Returns the path of the control socket. The function uses the first of these paths:
/// - `at`
/// - the path in the configuration, or the default path of the daemon if this socket exists
/// - the path of the packaged service
///
/// If the configuration is unreadable and the socket of the packaged service exists, returns the path of the packaged
/// service.
fn socket_path(at: Option<&Path>, global: &Global) -> Result<PathBuf, Failure> {
    if let Some(path) = at {
        return Ok(path.to_owned());
    }
    match configuration::load(global).map(|config| config.daemon.control) {
        Ok(ControlSocket::At(path)) => Ok(path),
        Ok(ControlSocket::Usual(path)) if path.exists() => Ok(path),
        Err(failure) if !Path::new(SERVICE).exists() => Err(failure),
        _ => Ok(PathBuf::from(SERVICE)),
    }
}

/// Adds a remedy to an error that says that no daemon listens, or that the daemon does not reply.
fn with_remedy(failure: Failure, remedy: &str) -> Failure {
    let Failure::Failed(error) = failure else { return failure };
    Failure::Failed(match error.downcast_ref() {
        Some(ClientError::Absent { .. }) => anyhow!("{error}: {remedy}"),
        Some(ClientError::Silent { .. }) => anyhow!("{error}; see `systemctl status transship` and its log"),
        _ => error,
    })
}

fn reply_line(reply: &Reply, action: Action, times: Times) -> String {
    let (entry, result) = match reply {
        Reply::Refused { error } => return error.clone(),
        Reply::Entry { entry, result } => (entry, result),
    };
    match result {
        EntryResult::Queued => {
            format!("{entry}: requested; starts now, or when fewer than `daemon.entries_at_once` entries run")
        }
        EntryResult::WaitsAlready => format!("{entry}: already waits for a slot"),
        EntryResult::RunsAlready => format!("{entry}: already running"),
        EntryResult::Paused => match action {
            Action::Pause(PauseOptions { until: Some(until) }) => {
                format!("{entry}: paused {}", times.until(until))
            }
            _ => format!("{entry}: paused"),
        },
        EntryResult::Resumed => format!("{entry}: resumed"),
        EntryResult::NotPaused => format!("{entry}: was not paused"),
        EntryResult::Ended(RunResult { outcome, tags, problem, .. }) => {
            let problem = problem.as_ref().map(|problem| format!(": {problem}")).unwrap_or_default();
            format!("{entry}: {}, {tags}{problem}", outcome.replace('_', " "))
        }
        EntryResult::Unknown { error } => error.clone(),
        EntryResult::Refused { error } => format!("{entry}: {error}"),
    }
}

/// Returns true if the daemon sends a second reply after this reply. The second reply contains the result of the run.
fn is_followed_by_end(reply: &Reply, action: Action) -> bool {
    let is_accepted = matches!(
        reply,
        Reply::Entry { result: EntryResult::Queued | EntryResult::WaitsAlready | EntryResult::RunsAlready, .. }
    );
    is_accepted && is_waiting(action)
}

fn is_waiting(action: Action) -> bool {
    matches!(action, Action::Trigger(TriggerOptions { wait: true }))
}

/// Returns the most serious exit code of all replies. If the daemon ends before it has sent all replies, returns an
/// error.
fn exit(replies: &[Reply], action: Action, entries: usize) -> Result<Exit, Failure> {
    let exits = replies.iter().map(|reply| match reply {
        Reply::Refused { .. } => Exit::Failed,
        Reply::Entry { result, .. } => match result {
            EntryResult::Unknown { .. } => Exit::Usage,
            EntryResult::Refused { .. } => Exit::Failed,
            EntryResult::Ended(ended) => exit_of_run(ended),
            _ => Exit::Ok,
        },
    });
    let all: Vec<Exit> = exits.collect();
    let is_refused = |reply: &Reply| matches!(reply, Reply::Refused { .. });
    let last = replies.iter().filter(|reply| !is_refused(reply) && !is_followed_by_end(reply, action));
    if !replies.iter().any(is_refused) && last.count() < entries {
        return Err(anyhow!("the daemon closed the connection before it sent all replies").into());
    }
    let worst = [Exit::Usage, Exit::Failed, Exit::Withheld].into_iter().find(|exit| all.contains(exit));
    Ok(worst.unwrap_or(Exit::Ok))
}

fn exit_of_run(ended: &RunResult) -> Exit {
    match ended.outcome.as_str() {
        "succeeded" | "deferred" | "already_running" if ended.tags.withheld() > 0 => Exit::Withheld,
        "succeeded" | "already_running" => Exit::Ok,
        "deferred" => Exit::Withheld,
        _ => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::context::invocation::tests::context;
    use crate::cli::output::writer::tests::OutputBuffer;

    fn message(error: ClientError, remedy: &str) -> String {
        with_remedy(error.into(), remedy).to_string()
    }

    #[test]
    fn absent_or_silent_daemon_is_reported_with_a_remedy() {
        let absent = ClientError::Absent { path: "c.sock".into() };
        let expected = "error: no daemon listens at c.sock: start a daemon with `daemon.control` in its \
                        configuration, or name its socket with --at; for the packaged service, \
                        see `systemctl status transship`";
        assert_eq!(message(absent, NO_DAEMON_REMEDY), expected);
        let silent = ClientError::Silent { path: "c.sock".into(), within: ANSWER_TIMEOUT };
        let expected =
            "error: the daemon at c.sock has not answered for 30s; see `systemctl status transship` and its log";
        assert_eq!(message(silent, NO_DAEMON_REMEDY), expected);
    }

    #[test]
    fn pause_is_shown_with_its_end() {
        let reply = Reply::Entry { entry: "a".into(), result: EntryResult::Paused };
        let until = "2026-11-21T19:15:00Z".parse().unwrap();
        let line = |until| reply_line(&reply, Action::Pause(PauseOptions { until }), Times::Exact);
        assert_eq!(line(Some(until)), "a: paused until 2026-11-21T19:15:00Z");
        assert_eq!(line(None), "a: paused");
    }

    #[test]
    fn missing_end_of_a_run_is_an_error() {
        let reply = |result| Reply::Entry { entry: "a".into(), result };
        let wait = |wait| Action::Trigger(TriggerOptions { wait });
        let queued = [reply(EntryResult::Queued)];
        assert_eq!(exit(&queued, wait(false), 1).unwrap(), Exit::Ok);
        let ended = "error: the daemon closed the connection before it sent all replies";
        assert_eq!(exit(&queued, wait(true), 1).unwrap_err().to_string(), ended);
        assert_eq!(exit(&queued, wait(false), 2).unwrap_err().to_string(), ended);
        let run = RunResult { run: None, outcome: "deferred".into(), tags: Default::default(), problem: None };
        let replies = [reply(EntryResult::Queued), reply(EntryResult::Ended(run))];
        assert_eq!(exit(&replies, wait(true), 1).unwrap(), Exit::Withheld);
        let refused = [Reply::Refused { error: "no".into() }];
        assert_eq!(exit(&refused, wait(true), 300).unwrap(), Exit::Failed);
    }

    #[tokio::test]
    async fn wait_for_too_many_entries_is_refused_unsent() {
        let buffer = OutputBuffer::default();
        let mut context = Context { output: buffer.output(), ..context() };
        let arguments = DaemonArguments { at: Some("/nonexistent/control.sock".into()), json: true };
        let entries = (0..=ENTRIES_AT_MOST).map(|number| EntryPattern::Name(number.to_string())).collect();
        let entries = ExplicitEntries { entries, all: false };
        let trigger = |wait| Action::Trigger(TriggerOptions { wait });
        let exit = arguments.request(trigger(true), &entries, NO_DAEMON_REMEDY, &mut context).await.unwrap();
        assert_eq!(exit, Exit::Failed);
        let printed: serde_json::Value = serde_json::from_str(&buffer.text()).unwrap();
        let expected = "the command waits for 257 entries, and at most 256 are allowed: name fewer entries, or omit \
            --wait";
        assert_eq!(printed[0]["reason"], expected);
        let unlimited = arguments.request(trigger(false), &entries, NO_DAEMON_REMEDY, &mut context).await;
        assert!(unlimited.unwrap_err().to_string().contains("no daemon listens at"), "no limit without --wait");
    }
}
