//! What a run tells while it goes on, to whoever shows it: the progress bars of `once`, the status of the daemon.

use tokio::sync::mpsc;

use super::TagReport;
use crate::copy::event::Event;

/// Something that happened during a run.
#[derive(Debug, Clone)]
pub enum RunEvent {
    /// A blob began to move, arrived or failed.
    Transfer(Event),
    /// So many tags more are to be settled; one that goes to several targets counts once at each.
    Chosen(u64),
    /// A tag is settled at one target.
    Tag(Box<TagReport>),
}

/// Where happenings go, with the entry that they belong to. Bounded: a front that does not keep up slows the run down
/// rather than fill the memory; one that has gone is forgotten.
#[derive(Debug, Clone)]
pub struct RunObserver {
    sender: Option<mpsc::Sender<(String, RunEvent)>>,
}

impl RunObserver {
    /// A front and its other end.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<(String, RunEvent)>) {
        let (sender, receiver) = mpsc::channel(256);
        (Self { sender: Some(sender) }, receiver)
    }

    /// Nobody looks.
    #[must_use]
    pub fn nobody() -> Self {
        Self { sender: None }
    }

    pub(crate) async fn tell(&self, entry: &str, event: RunEvent) {
        if let Some(sender) = &self.sender {
            let _ = sender.send((entry.to_owned(), event)).await;
        }
    }
}
