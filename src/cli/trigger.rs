//! `transship trigger ENTRY…`: asks the running daemon for runs now, by its control socket.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::anyhow;

use super::exit::{Exit, Failure};
use super::start::Context;
use super::{control, units};
use crate::control::{Answer, ClientError, Ended, Request, Said};

/// How long the daemon may take to take a request in: its loop may wait for its journal.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);

/// The arguments of `transship trigger`.
#[derive(Debug, clap::Args)]
pub struct Trigger {
    /// The entries
    #[arg(value_name = "ENTRY", required = true)]
    pub entries: Vec<String>,
    /// Wait until their runs have ended, and exit as `once` does; Ctrl-C ends the waiting and not the runs
    #[arg(long)]
    pub wait: bool,
    /// The control socket; by default where the configuration says, else that of the packaged service
    #[arg(long, value_name = "PATH")]
    pub at: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl Trigger {
    pub(super) async fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        let entries = once_each(&self.entries);
        let request = Request::Trigger { entries: entries.clone(), wait: self.wait };
        let once = entries.join(" ");
        let way_out = format!("`transship run` is the daemon, `transship once {once}` runs without one");
        perform(self.at.as_deref(), request, self.json, &way_out, context).await
    }
}

/// The names, each once.
pub(super) fn once_each(names: &[String]) -> Vec<String> {
    let names: BTreeSet<&String> = names.iter().collect();
    names.into_iter().cloned().collect()
}

/// Asks, prints the answers as they come, and ends as they say. `way_out` is said where no daemon listens.
pub(super) async fn perform(
    at: Option<&Path>,
    request: Request,
    json: bool,
    way_out: &str,
    context: &mut Context,
) -> Result<Exit, Failure> {
    let asked = follow(at, request, json, context).await;
    asked.map_err(|failure| with_way_out(failure, way_out))
}

async fn follow(at: Option<&Path>, request: Request, json: bool, context: &mut Context) -> Result<Exit, Failure> {
    let mut client = control::ask(at, &context.global, &request).await?;
    let (mut answers, mut missing) = (Vec::new(), request.entries().len());
    while let Some(answer) = client.next((missing > 0).then_some(TAKEN_WITHIN)).await? {
        missing = missing.saturating_sub(1);
        if !json {
            context.output.line(shown(&answer, &request))?;
            context.output.flush()?;
        }
        answers.push(answer);
    }
    if json {
        context.output.json(&answers)?;
    }
    exit(&answers, &request)
}

/// Where nobody listens, or answers, there is something to be done.
fn with_way_out(failure: Failure, way_out: &str) -> Failure {
    let Failure::Failed(error) = failure else { return failure };
    Failure::Failed(match error.downcast_ref() {
        Some(ClientError::Absent { .. }) => anyhow!("{error}: {way_out}"),
        Some(ClientError::Silent { .. }) => anyhow!("{error}; `systemctl status transship` and its log tell more"),
        _ => error,
    })
}

fn shown(answer: &Answer, request: &Request) -> String {
    let (entry, said) = match answer {
        Answer::Refused { error } => return error.clone(),
        Answer::Entry { entry, said } => (entry, said),
    };
    match said {
        Said::Queued => {
            format!("{entry}: asked for; begins now or when one of `daemon.entries_at_once` is free")
        }
        Said::WaitsAlready => format!("{entry}: waits for a place already"),
        Said::RunsAlready => format!("{entry}: runs already"),
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

/// As `once` ends; a name that is not there is a mistake of the command line. What outweighs is what is worse.
fn exit(answers: &[Answer], request: &Request) -> Result<Exit, Failure> {
    let exits = answers.iter().map(|answer| match answer {
        Answer::Refused { .. } => Exit::Failed,
        Answer::Entry { said, .. } => match said {
            Said::Unknown { .. } => Exit::Usage,
            Said::Refused { .. } => Exit::Failed,
            Said::Ended(ended) => of_run(ended),
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
        return Err(anyhow!("the daemon ended before it had said all").into());
    }
    let worst = [Exit::Usage, Exit::Failed, Exit::Held].into_iter().find(|exit| all.contains(exit));
    Ok(worst.unwrap_or(Exit::Ok))
}

fn of_run(ended: &Ended) -> Exit {
    match ended.outcome.as_str() {
        "succeeded" | "postponed" | "already_running" if ended.tags.refused + ended.tags.postponed > 0 => Exit::Held,
        "succeeded" | "already_running" => Exit::Ok,
        "postponed" => Exit::Held,
        _ => Exit::Failed,
    }
}

/// What helps where no daemon listens that could be paused or resumed.
pub(super) const NOBODY: &str = "`systemctl status transship` tells why, or name another socket by --at";

#[cfg(test)]
mod tests {
    use super::*;

    fn told(error: ClientError, way_out: &str) -> String {
        with_way_out(error.into(), way_out).to_string()
    }

    #[test]
    fn a_daemon_that_is_not_there_or_hangs_is_said_with_what_to_do() {
        let absent = ClientError::Absent { path: "c.sock".into() };
        let expected = "error: no daemon listens at c.sock: `systemctl status transship` tells why, or name another socket by --at";
        assert_eq!(told(absent, NOBODY), expected);
        let silent = ClientError::Silent { path: "c.sock".into(), within: TAKEN_WITHIN };
        let expected =
            "error: the daemon at c.sock says nothing for 30s; `systemctl status transship` and its log tell more";
        assert_eq!(told(silent, NOBODY), expected);
    }

    #[test]
    fn a_pause_is_told_with_its_end() {
        let answer = Answer::Entry { entry: "a".into(), said: Said::Paused };
        let until = "2026-11-21T19:15:00Z".parse().unwrap();
        let told = |until| shown(&answer, &Request::Pause { entries: vec!["a".into()], until });
        assert_eq!(told(Some(until)), "a: paused until 2026-11-21T19:15:00Z");
        assert_eq!(told(None), "a: paused");
    }
}
