//! Events of a run in progress. They feed the progress bars of `once` and the status of the daemon.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::run_report::TagReport;
use crate::copy::event::{Event, PlannedBytes};

/// Event during a run.
#[derive(Debug, Clone)]
pub enum RunEvent {
    /// The run started. The number of bytes that it sends changes during the run.
    Started(Arc<PlannedBytes>),
    /// The run ended.
    Ended,
    /// The transfer of a blob started, ended or failed.
    Transfer(Event),
    /// Number of further tags for which the run will report an outcome. A tag counts once for each of its targets.
    Chosen(u64),
    /// The outcome of a tag at one target.
    Tag(Box<TagReport>),
}

/// Sender of the events of runs, each with the name of its entry. The channel is bounded: a slow receiver slows the
/// runs down instead of filling the memory. If the receiver no longer exists, the sender drops the events.
#[derive(Debug, Clone)]
pub struct RunObserver {
    sender: Option<mpsc::Sender<(String, RunEvent)>>,
}

impl RunObserver {
    /// Creates an observer and its receiver.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<(String, RunEvent)>) {
        let (sender, receiver) = mpsc::channel(256);
        (Self { sender: Some(sender) }, receiver)
    }

    /// Creates an observer without a receiver, which drops all events.
    #[must_use]
    pub fn nobody() -> Self {
        Self { sender: None }
    }

    /// Sends an event of the run of `entry`.
    pub(crate) async fn notify(&self, entry: &str, event: RunEvent) {
        if let Some(sender) = &self.sender {
            let _ = sender.send((entry.to_owned(), event)).await;
        }
    }
}
