//! Adapter between the control socket and the daemon: it passes the requests of clients to the daemon's loop, and
//! returns the loop's answers to them.

use std::sync::Arc;

use axum::http::StatusCode;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cli::exit::Failure;
use crate::config::{ControlSocket, UnknownEntry};
use crate::control::{
    self, Action, EntryResult, PauseOptions, Request, Response, ResumeOptions, RunResult, Socket, SocketError,
    TriggerOptions,
};
use crate::daemon::{Accepted, Command, Control, Finished, Refusal};
use crate::journal::Trigger;
use crate::status::Snapshot;
use crate::sync::RunOutcome;

/// Listens at the control socket, if the configuration has one, and answers requests until `end`.
pub(crate) async fn listen(
    place: &ControlSocket,
    control: Control,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    end: CancellationToken,
) -> Result<Option<tokio::task::JoinHandle<()>>, Failure> {
    let (path, is_configured) = match place {
        ControlSocket::Off => return Ok(None),
        ControlSocket::At(path) => (path, true),
        ControlSocket::Usual(path) => (path, false),
    };
    let socket = match Socket::bind(path).await {
        Ok(socket) => socket,
        Err(error @ SocketError::Unmade { .. }) if !is_configured => {
            tracing::warn!(
                %error,
                "commands such as trigger cannot reach this daemon: set daemon.control to another path or to off"
            );
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    tracing::info!(path = %path.display(), "the control socket listens");
    let names = snapshots.clone();
    let handle = move |request| {
        let (control, snapshots) = (control.clone(), snapshots.clone());
        async move {
            let executed = execute(&control, request).await;
            executed.unwrap_or_else(|refusal| refusal_response(refusal, &snapshots))
        }
    };
    let entry_names = move || names.borrow().entries.iter().map(|entry| entry.name.clone()).collect();
    Ok(Some(tokio::spawn(control::serve(socket, handle, entry_names, end))))
}

/// Passes a request to the daemon's loop. If the client waits for the end of a run, the response ends with the result
/// of the run.
async fn execute(control: &Control, Request { entry, action }: Request) -> Result<Response, Refusal> {
    let command = match action {
        Action::Trigger(TriggerOptions { wait }) => {
            let command = Command::Run { entry, trigger: Trigger::Requested, only: None };
            let (accepted, ended) = control.follow(command).await?;
            return Ok(if wait {
                accepted_response(StatusCode::OK, accepted).then(async { result_of_run(ended.await.ok()) })
            } else {
                accepted_response(StatusCode::ACCEPTED, accepted)
            });
        }
        Action::Pause(PauseOptions { until }) => Command::Pause { entry, until },
        Action::Resume(ResumeOptions {}) => Command::Resume { entry },
    };
    Ok(accepted_response(StatusCode::OK, control.ask(command).await?))
}

fn accepted_response(status: StatusCode, accepted: Accepted) -> Response {
    let result = match accepted {
        Accepted::Queued => EntryResult::Queued,
        Accepted::WaitsAlready => EntryResult::WaitsAlready,
        Accepted::RunsAlready => EntryResult::RunsAlready,
        Accepted::Paused => EntryResult::Paused,
        Accepted::Resumed => EntryResult::Resumed,
        Accepted::NotPaused => EntryResult::NotPaused,
    };
    Response::new(status, result)
}

/// Returns the response to a refused command. This function looks up entries with similar names, so that the lookup
/// does not delay the daemon's loop.
fn refusal_response(refusal: Refusal, snapshots: &watch::Receiver<Arc<Snapshot>>) -> Response {
    let status = match &refusal {
        Refusal::UnknownEntry(name) => {
            let snapshot = snapshots.borrow().clone();
            let names: Vec<&str> = snapshot.entries.iter().map(|entry| entry.name.as_str()).collect();
            let error = UnknownEntry::new(name, &names).to_string();
            return Response::new(StatusCode::NOT_FOUND, EntryResult::Unknown { error });
        }
        Refusal::Paused(_) => StatusCode::CONFLICT,
        Refusal::Unwritten(_) => StatusCode::INTERNAL_SERVER_ERROR,
        Refusal::Ending => StatusCode::SERVICE_UNAVAILABLE,
    };
    Response::new(status, EntryResult::Refused { error: refusal.to_string() })
}

fn result_of_run(finished: Option<Finished>) -> EntryResult {
    let Some(Finished { run, outcome, tags, problem }) = finished else {
        let error = "the result of its run is unknown: see the log of the daemon".to_owned();
        return EntryResult::Refused { error };
    };
    let problem = match &outcome {
        RunOutcome::AlreadyRunning { pid, .. } => Some(format!("process {pid} runs it")),
        _ => problem,
    };
    EntryResult::Ended(RunResult { run, outcome: outcome_word(&outcome).to_owned(), tags, problem })
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
