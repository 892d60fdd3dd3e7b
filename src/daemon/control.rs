//! What the running daemon can be asked for, and how it is asked. Who may ask is decided where the wish comes in.

use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, oneshot};

use super::Finished;
use crate::journal::Trigger;
use crate::sync::TagFilter;

/// How many wishes may wait for the loop. It turns within a second.
const WAITING: usize = 64;

/// Asks the daemon. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Control(mpsc::Sender<Asked>);

/// The daemon's end, for [`Setup`](super::Setup).
#[derive(Debug)]
pub struct Commands(mpsc::Receiver<Asked>);

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A run of an entry, now.
    Run {
        /// The entry's name.
        entry: String,
        /// Who asks.
        trigger: Trigger,
        /// The tags that it is to be about; `None` is all that the entry wants.
        only: Option<TagFilter>,
    },
    /// That an entry begins no run by itself, nor by a push.
    Pause {
        /// The entry's name.
        entry: String,
        /// When that ends by itself; `None` where somebody has to resume it.
        until: Option<DateTime<Utc>>,
    },
    /// The end of an entry's pause.
    Resume {
        /// The entry's name.
        entry: String,
    },
}

/// What became of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// The entry runs as soon as one of the `entries_at_once` places is free.
    Queued,
    /// It waits for such a place already, or for what else is pushed within a moment.
    WaitsAlready,
    /// It runs already.
    RunsAlready,
    /// It is paused; a run under way ends with the tags that it is at.
    Paused,
    /// It is paused no longer.
    Resumed,
    /// It was not paused.
    NotPaused,
}

/// Why a command is not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No entry is called so.
    #[error("there is no entry {0:?} in the configuration that is in force")]
    UnknownEntry(String),
    /// The entry is paused.
    #[error("it is paused: `transship resume {0}` ends that")]
    Paused(String),
    /// The pause or its end cannot be written down, so it is not in force.
    #[error("the journal cannot be written, and all is as it was: {0}")]
    Unwritten(String),
    /// The daemon begins nothing any more.
    #[error("the daemon is ending")]
    Ending,
}

/// A command with the way back.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) command: Command,
    pub(super) answer: oneshot::Sender<Result<Accepted, Refusal>>,
    /// To be told how the entry's run ended, where somebody waits for that.
    pub(super) ended: Option<oneshot::Sender<Finished>>,
}

impl Control {
    /// A control and the daemon's end of it.
    #[must_use]
    pub fn new() -> (Self, Commands) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(sender), Commands(receiver))
    }

    /// Asks, and waits until the loop has taken it in.
    ///
    /// # Errors
    /// What the loop says against it; [`Refusal::Ending`] also where the daemon has ended.
    pub async fn ask(&self, command: Command) -> Result<Accepted, Refusal> {
        self.pass_on(command, None).await
    }

    /// Asks as [`Control::ask`] does, and tells the end of the entry's run, then or already under way. The receiver fails where
    /// there will be none: the entry has left the configuration, or its run broke down.
    ///
    /// # Errors
    /// As [`Control::ask`].
    pub async fn follow(&self, command: Command) -> Result<(Accepted, oneshot::Receiver<Finished>), Refusal> {
        let (told, ended) = oneshot::channel();
        Ok((self.pass_on(command, Some(told)).await?, ended))
    }

    async fn pass_on(&self, command: Command, ended: Option<oneshot::Sender<Finished>>) -> Result<Accepted, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.0.send(Asked { command, answer, ended }).await.map_err(|_| Refusal::Ending)?;
        answered.await.unwrap_or(Err(Refusal::Ending))
    }
}

impl Command {
    /// The entry that it is about.
    pub(super) fn entry(&self) -> &str {
        match self {
            Self::Run { entry, .. } | Self::Pause { entry, .. } | Self::Resume { entry } => entry,
        }
    }
}

impl Commands {
    /// The next one; pending for ever where nobody can ask any more. Cancel safe.
    pub(super) async fn next(&mut self) -> Asked {
        match self.0.recv().await {
            Some(asked) => asked,
            None => std::future::pending().await,
        }
    }
}
