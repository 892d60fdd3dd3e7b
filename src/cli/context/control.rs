//! Adapter between the control socket and the daemon: `transship run` passes requests to the daemon's loop, and the
//! commands that send requests find the socket.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::configuration;
use crate::cli::arguments::Global;
use crate::cli::exit::Failure;
use crate::config::{ControlSocket, UnknownEntry};
use crate::control::{self, Client, Ended, Replies, Request, Said, Socket, SocketError};
use crate::daemon::{Accepted, Command, Control, Finished, Refusal};
use crate::journal::Trigger;
use crate::status::Snapshot;
use crate::sync::RunOutcome;

/// Socket of the packaged service.
const SERVICE: &str = "/run/transship/control.sock";

/// Listens at the control socket, if the configuration has one, and answers requests until `end`.
pub(crate) async fn listen(
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
            tracing::warn!(
                %error,
                "commands such as trigger cannot reach this daemon: set daemon.control to another path or to off"
            );
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
                let command = Command::Run { entry: entry.clone(), trigger: Trigger::Requested, only: None };
                match control.follow(command).await {
                    Ok((accepted, ended)) => {
                        replies.send(&entry, reply_to(accepted)).await;
                        followed.extend(wait.then_some((entry, ended)));
                    }
                    Err(refusal) => replies.send(&entry, refusal_reply(refusal, snapshots)).await,
                }
            }
            // Each answer is sent when its run ends. A long run delays the answers after it.
            for (entry, ended) in followed {
                replies.send(&entry, result_of_run(ended.await.ok())).await;
            }
        }
        Request::Pause { entries, until } => {
            for entry in entries {
                send_command(control, snapshots, &replies, Command::Pause { entry: entry.clone(), until }, &entry)
                    .await;
            }
        }
        Request::Resume { entries } => {
            for entry in entries {
                send_command(control, snapshots, &replies, Command::Resume { entry: entry.clone() }, &entry).await;
            }
        }
    }
}

async fn send_command(
    control: &Control,
    snapshots: &watch::Receiver<Arc<Snapshot>>,
    replies: &Replies,
    command: Command,
    entry: &str,
) {
    let answered = control.ask(command).await;
    replies.send(entry, answered.map_or_else(|refusal| refusal_reply(refusal, snapshots), reply_to)).await;
}

fn reply_to(accepted: Accepted) -> Said {
    match accepted {
        Accepted::Queued => Said::Queued,
        Accepted::WaitsAlready => Said::WaitsAlready,
        Accepted::RunsAlready => Said::RunsAlready,
        Accepted::Paused => Said::Paused,
        Accepted::Resumed => Said::Resumed,
        Accepted::NotPaused => Said::NotPaused,
    }
}

/// Returns the reply to a refused command. The names of similar entries are looked up here, because the daemon's loop
/// has no time for it.
fn refusal_reply(refusal: Refusal, snapshots: &watch::Receiver<Arc<Snapshot>>) -> Said {
    match refusal {
        Refusal::UnknownEntry(name) => {
            let snapshot = snapshots.borrow().clone();
            let names: Vec<&str> = snapshot.entries.iter().map(|entry| entry.name.as_str()).collect();
            Said::Unknown { error: UnknownEntry::among(&name, &names).to_string() }
        }
        other => Said::Refused { error: other.to_string() },
    }
}

fn result_of_run(finished: Option<Finished>) -> Said {
    let Some(Finished { run, outcome, tags, problem }) = finished else {
        return Said::Refused { error: "the result of its run is unknown: see the log of the daemon".into() };
    };
    let problem = match &outcome {
        RunOutcome::AlreadyRunning { pid, .. } => Some(format!("process {pid} runs it")),
        _ => problem,
    };
    Said::Ended(Ended { run, outcome: outcome_word(&outcome).to_owned(), tags, problem })
}

fn outcome_word(outcome: &RunOutcome) -> &'static str {
    match outcome {
        RunOutcome::Succeeded => "succeeded",
        RunOutcome::Failed => "failed",
        RunOutcome::Deferred => "deferred",
        RunOutcome::TimedOut => "timed_out",
        RunOutcome::Interrupted => "interrupted",
        RunOutcome::AlreadyRunning { .. } => "already_running",
    }
}

/// Sends a request to the daemon. The socket is the first of these:
/// - `at`,
/// - the one that the configuration names,
/// - the one of the packaged service.
///
/// An unreadable configuration is ignored if the packaged service has a socket, because a running daemon keeps the last
/// good configuration.
pub(crate) async fn send_request(at: Option<&Path>, global: &Global, request: &Request) -> Result<Client, Failure> {
    if let Some(path) = at {
        return Ok(Client::send(path, request).await?);
    }
    let path = match configuration::load(global).map(|config| config.daemon.control) {
        Ok(ControlSocket::At(path)) => path,
        Ok(ControlSocket::Usual(path)) if path.exists() => path,
        Err(failure) if !Path::new(SERVICE).exists() => return Err(failure),
        _ => PathBuf::from(SERVICE),
    };
    Ok(Client::send(&path, request).await?)
}
