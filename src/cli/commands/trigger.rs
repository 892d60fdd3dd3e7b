//! Command `transship trigger ENTRY…`: requests runs from the running daemon through its control socket.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::anyhow;

use crate::cli::context::control;
use crate::cli::exit::{Exit, Failure};
use crate::cli::main::Context;
use crate::cli::output::units;
use crate::control::{Answer, ClientError, Ended, Request, Said};

/// Time limit for the daemon to answer a request. Its loop may wait for its journal.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Arguments of `transship trigger`.
#[derive(Debug, clap::Args)]
pub struct Trigger {
    /// Entries to run
    #[arg(value_name = "ENTRY", required = true)]
    pub entries: Vec<String>,
    /// Wait until the runs have ended, and exit as `once` does; Ctrl-C ends the wait but not the runs
    #[arg(long)]
    pub wait: bool,
    /// Control socket; by default the configuration's, else that of the packaged service
    #[arg(long, value_name = "PATH")]
    pub at: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl Trigger {
    pub(crate) async fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        let entries = deduplicate(&self.entries);
        let request = Request::Trigger { entries: entries.clone(), wait: self.wait };
        let once = entries.join(" ");
        let remedy = format!("start it with `transship run`, or run without a daemon: `transship once {once}`");
        perform(self.at.as_deref(), request, self.json, &remedy, context).await
    }
}

/// Returns the names, each once.
pub(crate) fn deduplicate(names: &[String]) -> Vec<String> {
    let names: BTreeSet<&String> = names.iter().collect();
    names.into_iter().cloned().collect()
}

/// Sends a request, prints the answers as they come, and returns the exit code for them. The error contains `remedy`
/// if no daemon listens.
pub(crate) async fn perform(
    at: Option<&Path>,
    request: Request,
    json: bool,
    remedy: &str,
    context: &mut Context,
) -> Result<Exit, Failure> {
    let asked = follow(at, request, json, context).await;
    asked.map_err(|failure| with_remedy(failure, remedy))
}

async fn follow(at: Option<&Path>, request: Request, json: bool, context: &mut Context) -> Result<Exit, Failure> {
    let mut client = control::send_request(at, &context.global, &request).await?;
    let (mut answers, mut missing) = (Vec::new(), request.entries().len());
    while let Some(answer) = client.next((missing > 0).then_some(ANSWER_TIMEOUT)).await? {
        missing = missing.saturating_sub(1);
        if !json {
            context.output.line(answer_line(&answer, &request))?;
            context.output.flush()?;
        }
        answers.push(answer);
    }
    if json {
        context.output.json(&answers)?;
    }
    exit(&answers, &request)
}

/// Adds a remedy to the error if no daemon listens or answers.
fn with_remedy(failure: Failure, remedy: &str) -> Failure {
    let Failure::Failed(error) = failure else { return failure };
    Failure::Failed(match error.downcast_ref() {
        Some(ClientError::Absent { .. }) => anyhow!("{error}: {remedy}"),
        Some(ClientError::Silent { .. }) => anyhow!("{error}; see `systemctl status transship` and its log"),
        _ => error,
    })
}

fn answer_line(answer: &Answer, request: &Request) -> String {
    let (entry, said) = match answer {
        Answer::Refused { error } => return error.clone(),
        Answer::Entry { entry, said } => (entry, said),
    };
    match said {
        Said::Queued => {
            format!("{entry}: requested; starts now, or when `daemon.entries_at_once` permits")
        }
        Said::WaitsAlready => format!("{entry}: already waits for a slot"),
        Said::RunsAlready => format!("{entry}: already running"),
        Said::Paused => match request {
            Request::Pause { until: Some(until), .. } => format!("{entry}: paused until {}", units::moment(*until)),
            _ => format!("{entry}: paused"),
        },
        Said::Resumed => format!("{entry}: resumed"),
        Said::NotPaused => format!("{entry}: was not paused"),
        Said::Ended(Ended { outcome, tags, problem, .. }) => {
            let problem = problem.as_ref().map(|problem| format!(": {problem}")).unwrap_or_default();
            format!("{entry}: {}, {tags}{problem}", outcome.replace('_', " "))
        }
        Said::Unknown { error } => error.clone(),
        Said::Refused { error } => format!("{entry}: {error}"),
    }
}

/// Returns the same exit code as `once`, or [`Exit::Usage`] for an unknown entry. The worst answer decides.
fn exit(answers: &[Answer], request: &Request) -> Result<Exit, Failure> {
    let exits = answers.iter().map(|answer| match answer {
        Answer::Refused { .. } => Exit::Failed,
        Answer::Entry { said, .. } => match said {
            Said::Unknown { .. } => Exit::Usage,
            Said::Refused { .. } => Exit::Failed,
            Said::Ended(ended) => exit_of_run(ended),
            _ => Exit::Ok,
        },
    });
    let all: Vec<Exit> = exits.collect();
    let wait = matches!(request, Request::Trigger { wait: true, .. });
    let is_last = |answer: &&Answer| match answer {
        Answer::Entry { said: Said::Queued | Said::WaitsAlready | Said::RunsAlready, .. } => !wait,
        Answer::Entry { .. } => true,
        Answer::Refused { .. } => false,
    };
    let refused = answers.iter().any(|answer| matches!(answer, Answer::Refused { .. }));
    if !refused && answers.iter().filter(is_last).count() < request.entries().len() {
        return Err(anyhow!("the daemon ended before it had sent all answers").into());
    }
    let worst = [Exit::Usage, Exit::Failed, Exit::Withheld].into_iter().find(|exit| all.contains(exit));
    Ok(worst.unwrap_or(Exit::Ok))
}

fn exit_of_run(ended: &Ended) -> Exit {
    match ended.outcome.as_str() {
        "succeeded" | "deferred" | "already_running" if ended.tags.withheld() > 0 => Exit::Withheld,
        "succeeded" | "already_running" => Exit::Ok,
        "deferred" => Exit::Withheld,
        _ => Exit::Failed,
    }
}

/// Remedy if no daemon listens that could pause or resume entries.
pub(crate) const NO_DAEMON_REMEDY: &str = "see `systemctl status transship`, or name another socket with --at";

#[cfg(test)]
mod tests {
    use super::*;

    fn message(error: ClientError, remedy: &str) -> String {
        with_remedy(error.into(), remedy).to_string()
    }

    #[test]
    fn absent_or_silent_daemon_is_reported_with_a_remedy() {
        let absent = ClientError::Absent { path: "c.sock".into() };
        let expected = "error: no daemon listens at c.sock: see `systemctl status transship`, \
                        or name another socket with --at";
        assert_eq!(message(absent, NO_DAEMON_REMEDY), expected);
        let silent = ClientError::Silent { path: "c.sock".into(), within: ANSWER_TIMEOUT };
        let expected =
            "error: the daemon at c.sock has not answered for 30s; see `systemctl status transship` and its log";
        assert_eq!(message(silent, NO_DAEMON_REMEDY), expected);
    }

    #[test]
    fn pause_is_shown_with_its_end() {
        let answer = Answer::Entry { entry: "a".into(), said: Said::Paused };
        let until = "2026-11-21T19:15:00Z".parse().unwrap();
        let line = |until| answer_line(&answer, &Request::Pause { entries: vec!["a".into()], until });
        assert_eq!(line(Some(until)), "a: paused until 2026-11-21T19:15:00Z");
        assert_eq!(line(None), "a: paused");
    }
}
