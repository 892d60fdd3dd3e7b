//! Whether the journal can be written, and how large it is: asked beside the loop, which a journal that does not answer holds up
//! in nothing.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::journal::Journal;

/// How often it is asked.
const BETWEEN: Duration = Duration::from_secs(15);

/// How long it may take to answer and still count as writable.
const WITHIN: Duration = Duration::from_secs(10);

/// Whether it can be written, and its size where that can be told.
type Found = (bool, Option<u64>);

/// When it was asked last, and the answer that is waited for.
#[derive(Default)]
pub(super) struct Probing {
    asked: Option<Instant>,
    answer: Option<JoinHandle<Found>>,
}

impl Probing {
    /// What is new. One question is under way at a time: one that hangs is waited for, and meanwhile nothing can be written.
    pub(super) async fn turn(&mut self, journal: &Journal) -> Option<Found> {
        if self.answer.is_none() && self.asked.is_none_or(|asked| asked.elapsed() >= BETWEEN) {
            self.asked = Some(Instant::now());
            self.answer = Some(tokio::spawn(ask(journal.clone())));
        }
        match &mut self.answer {
            Some(answer) if answer.is_finished() => {
                let found = answer.await.unwrap_or((false, None));
                self.answer = None;
                Some(found)
            }
            Some(_) if self.asked.is_some_and(|asked| asked.elapsed() >= WITHIN) => Some((false, None)),
            _ => None,
        }
    }
}

/// A question that is under way holds the journal open: it ends with the loop.
impl Drop for Probing {
    fn drop(&mut self) {
        if let Some(answer) = &self.answer {
            answer.abort();
        }
    }
}

async fn ask(journal: Journal) -> Found {
    let (writable, size) = futures_util::join!(journal.check_writable(), journal.size());
    (writable.is_ok(), size.ok())
}
