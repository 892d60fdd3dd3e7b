//! Commands for the running daemon, and the channel from the senders of commands to the daemon's main loop. The channel
//! checks no permissions: the control socket and the port for push events authorize their clients first.

use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, oneshot};

use crate::journal::{TagCounts, Trigger};
use crate::sync::{RunOutcome, RunReport, TagFilter};

/// Maximum number of commands that wait for the loop.
const MAX_WAITING: usize = 64;

/// Sender of commands to the daemon. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Control(mpsc::Sender<PendingCommand>);

/// Receiver of commands in the daemon, for [`Setup`](super::Setup).
#[derive(Debug)]
pub struct Commands(mpsc::Receiver<PendingCommand>);

/// Command for the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Starts a run of an entry now.
    Run {
        /// Name of the entry.
        entry: String,
        /// Trigger that the journal records for the run.
        trigger: Trigger,
        /// Tags to which the run is limited; `None` for all tags that the entry selects.
        only: Option<TagFilter>,
    },
    /// Pauses an entry. Until the end of the pause, neither the schedule nor a push starts a run of the entry.
    Pause {
        /// Name of the entry.
        entry: String,
        /// Time at which the pause ends automatically; `None` if a person has to resume the entry.
        until: Option<DateTime<Utc>>,
    },
    /// Ends the pause of an entry.
    Resume {
        /// Name of the entry.
        entry: String,
    },
}

/// Result of an accepted command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// The run is queued, and starts when one of the `entries_at_once` slots is free. Runs for push events are queued
    /// after one second.
    Queued,
    /// A run of the entry is already waiting: for a slot, for more push events, or for the end of a pause.
    WaitsAlready,
    /// A run of the entry is in progress already.
    RunsAlready,
    /// The entry is paused. A run under way stops after its current tags.
    Paused,
    /// The entry is no longer paused.
    Resumed,
    /// The entry was not paused.
    NotPaused,
}

/// Reason why the daemon refuses a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No entry has this name.
    #[error("there is no entry {0:?} in the configuration that is in force")]
    UnknownEntry(String),
    /// The entry is paused.
    #[error("the entry is paused: `transship resume {0}` ends the pause")]
    Paused(String),
    /// The journal cannot record the pause or its end, so the daemon changed nothing.
    #[error("the journal cannot record the change, so nothing was changed: {0}")]
    Unwritten(String),
    /// The daemon is shutting down and starts no more runs.
    #[error("the daemon is shutting down")]
    Ending,
}

/// Report of a run that ended, for callers that wait for the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Number of the run in the journal; `None` if the journal did not record the run.
    pub run: Option<i64>,
    /// Outcome of the run.
    pub outcome: RunOutcome,
    /// Number of tags by outcome.
    pub tags: TagCounts,
    /// First problem of the run.
    pub problem: Option<String>,
}

/// Command with the channels for its answers.
#[derive(Debug)]
pub(super) struct PendingCommand {
    pub(super) command: Command,
    pub(super) answer: oneshot::Sender<Result<Accepted, Refusal>>,
    /// Channel for the report of the ended run. `None` if the sender does not wait for the end of the run.
    pub(super) ended: Option<oneshot::Sender<Finished>>,
}

impl Control {
    /// Creates a sender of commands and the daemon's receiver.
    #[must_use]
    pub fn new() -> (Self, Commands) {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        (Self(sender), Commands(receiver))
    }

    /// Sends a command and waits until the loop accepts or refuses the command.
    ///
    /// # Errors
    /// Returns the refusal of the loop. If the daemon has ended, returns [`Refusal::Ending`].
    pub async fn ask(&self, command: Command) -> Result<Accepted, Refusal> {
        self.send(command, None).await
    }

    /// Sends a command like [`Control::ask`], and returns a receiver for the end of the entry's run. The run may start
    /// later or be under way already. In the following cases, no run of the entry will end, and the receiver returns an
    /// error:
    /// - the entry was paused before the run started;
    /// - the entry was removed from the configuration before the run started;
    /// - the daemon shut down.
    ///
    /// # Errors
    /// Returns the same errors as [`Control::ask`].
    pub async fn follow(&self, command: Command) -> Result<(Accepted, oneshot::Receiver<Finished>), Refusal> {
        let (sender, ended) = oneshot::channel();
        Ok((self.send(command, Some(sender)).await?, ended))
    }

    async fn send(&self, command: Command, ended: Option<oneshot::Sender<Finished>>) -> Result<Accepted, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.0.send(PendingCommand { command, answer, ended }).await.map_err(|_| Refusal::Ending)?;
        answered.await.unwrap_or(Err(Refusal::Ending))
    }
}

impl Finished {
    /// Creates the report for waiting callers from the complete report of a run.
    pub(super) fn from_report(report: &RunReport) -> Self {
        Self {
            run: report.run,
            outcome: report.outcome.clone(),
            tags: report.counts(),
            problem: report.first_problem(),
        }
    }
}

impl Command {
    /// Returns the name of the command's entry.
    pub(super) fn entry(&self) -> &str {
        match self {
            Self::Run { entry, .. } | Self::Pause { entry, .. } | Self::Resume { entry } => entry,
        }
    }
}

impl Commands {
    /// Returns the next command. If all senders are dropped, the future never completes. Cancel safe.
    pub(super) async fn next(&mut self) -> PendingCommand {
        match self.0.recv().await {
            Some(command) => command,
            None => std::future::pending().await,
        }
    }
}
