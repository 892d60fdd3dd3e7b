//! Between the control socket and the daemon, at both ends: `transship run` puts what comes in before the loop, and the
//! commands that ask find the socket.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::arguments::Global;
use super::configuration;
use super::exit::Failure;
use crate::config::{ControlSocket, UnknownEntry};
use crate::control::{self, Client, Ended, Replies, Request, Said, Socket, SocketError};
use crate::daemon::{Accepted, Command, Control, Finished, Refusal, RunOutcome};
use crate::journal::Trigger;
use crate::status::Snapshot;

/// Where the packaged service has its socket.
const SERVICE: &str = "/run/transship/control.sock";

/// Listens at the socket, if there is to be one, and answers until `end`.
pub(super) async fn listen(
    place: &ControlSocket,
    control: Control,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    end: CancellationToken,
) -> Result<Option<tokio::task::JoinHandle<()>>, Failure> {
    let (path, is_wish) = match place {
        ControlSocket::Off => return Ok(None),
        ControlSocket::At(path) => (path, true),
        ControlSocket::Usual(path) => (path, false),
    };
    let socket = match Socket::bind(path).await {
        Ok(socket) => socket,
        Err(error @ SocketError::Unmade { .. }) if !is_wish => {
            tracing::warn!(%error, "nobody can ask for runs: name another path by daemon.control, or off");
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    tracing::info!(path = %path.display(), "the control socket listens");
    let work = move |request, replies| {
        let (control, snapshots) = (control.clone(), snapshots.clone());
        async move { perform(&control, &snapshots, request, replies).await }
    };
    Ok(Some(tokio::spawn(control::serve(socket, work, end))))
}

async fn perform(control: &Control, snapshots: &watch::Receiver<Arc<Snapshot>>, request: Request, replies: Replies) {
    match request {
        Request::Trigger { entries, wait } => {
            let mut followed = Vec::new();
            for entry in entries {
                let command = Command::Run { entry: entry.clone(), trigger: Trigger::Asked, only: None };
                match control.follow(command).await {
                    Ok((accepted, ended)) => {
                        replies.say(&entry, said(accepted)).await;
                        followed.extend(wait.then_some((entry, ended)));
                    }
                    Err(refusal) => replies.say(&entry, refused(refusal, snapshots)).await,
                }
            }
            // Each is told when it ends; one that takes long is told of after those before it.
            for (entry, ended) in followed {
                replies.say(&entry, end_of(ended.await.ok())).await;
            }
        }
        Request::Pause { entries, until } => {
            for entry in entries {
                one(control, snapshots, &replies, Command::Pause { entry: entry.clone(), until }, &entry).await;
            }
        }
        Request::Resume { entries } => {
            for entry in entries {
                one(control, snapshots, &replies, Command::Resume { entry: entry.clone() }, &entry).await;
            }
        }
    }
}

async fn one(
    control: &Control,
    snapshots: &watch::Receiver<Arc<Snapshot>>,
    replies: &Replies,
    command: Command,
    entry: &str,
) {
    let answered = control.ask(command).await;
    replies.say(entry, answered.map_or_else(|refusal| refused(refusal, snapshots), said)).await;
}

fn said(accepted: Accepted) -> Said {
    match accepted {
        Accepted::Queued => Said::Queued,
        Accepted::WaitsAlready => Said::WaitsAlready,
        Accepted::RunsAlready => Said::RunsAlready,
        Accepted::Paused => Said::Paused,
        Accepted::Resumed => Said::Resumed,
        Accepted::NotPaused => Said::NotPaused,
    }
}

/// Looked up here and not in the loop, which has no time for guesses.
fn refused(refusal: Refusal, snapshots: &watch::Receiver<Arc<Snapshot>>) -> Said {
    match refusal {
        Refusal::UnknownEntry(name) => {
            let snapshot = snapshots.borrow().clone();
            let names: Vec<&str> = snapshot.entries.iter().map(|entry| entry.name.as_str()).collect();
            Said::Unknown { error: UnknownEntry::among(&name, &names).to_string() }
        }
        other => Said::Refused { error: other.to_string() },
    }
}

fn end_of(finished: Option<Finished>) -> Said {
    let Some(Finished { run, outcome, tags, problem }) = finished else {
        return Said::Refused {
            error: "nothing is known of the end of its run: the log of the daemon tells why".into(),
        };
    };
    let problem = match &outcome {
        RunOutcome::AlreadyRunning { pid, .. } => Some(format!("process {pid} runs it")),
        _ => problem,
    };
    Said::Ended(Ended { run, outcome: word(&outcome).to_owned(), tags, problem })
}

fn word(outcome: &RunOutcome) -> &'static str {
    match outcome {
        RunOutcome::Succeeded => "succeeded",
        RunOutcome::Failed => "failed",
        RunOutcome::Postponed => "postponed",
        RunOutcome::TimedOut => "timed_out",
        RunOutcome::Interrupted => "interrupted",
        RunOutcome::AlreadyRunning { .. } => "already_running",
    }
}

/// Asks the daemon at `at`, else where the configuration says, else where the packaged service listens. A configuration that
/// cannot be read now says nothing: the daemon goes on by the last good one.
pub(super) async fn ask(at: Option<&Path>, global: &Global, request: &Request) -> Result<Client, Failure> {
    if let Some(path) = at {
        return Ok(Client::ask(path, request).await?);
    }
    let path = match configuration::load(global).map(|config| config.daemon.control) {
        Ok(ControlSocket::At(path)) => path,
        Ok(ControlSocket::Usual(path)) if path.exists() => path,
        Err(failure) if !Path::new(SERVICE).exists() => return Err(failure),
        _ => PathBuf::from(SERVICE),
    };
    Ok(Client::ask(&path, request).await?)
}
