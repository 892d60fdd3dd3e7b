//! Whether the journal can be written, how large it is, and whether its file is still the one that was opened: asked beside the loop, which
//! a journal that does not answer holds up in nothing.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::journal::{Journal, JournalError};
use crate::sync::report::told;

/// How often it is asked.
const BETWEEN: Duration = Duration::from_secs(15);

/// How long it may take to answer and still count as writable.
const WITHIN: Duration = Duration::from_secs(10);

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Whether it can be written, and nothing has happened to it since it was asked last.
    pub(super) writable: bool,
    /// Its size, where that can be told.
    pub(super) bytes: Option<u64>,
    /// What happened to its file, in a sentence.
    pub(super) problem: Option<String>,
}

impl Found {
    const NO_ANSWER: Self = Self { writable: false, bytes: None, problem: None };
}

/// When it was asked last, and the answer that is waited for.
#[derive(Default)]
pub(super) struct Probing {
    asked: Option<Instant>,
    answer: Option<JoinHandle<(Found, u64)>>,
    /// How often the journal was mended until the last answer.
    mended: u64,
}

impl Probing {
    /// What is new. One question is under way at a time: one that hangs is waited for, and meanwhile nothing can be written.
    pub(super) async fn turn(&mut self, journal: &Journal) -> Option<Found> {
        if self.answer.is_none() && self.asked.is_none_or(|asked| asked.elapsed() >= BETWEEN) {
            self.asked = Some(Instant::now());
            self.answer = Some(tokio::spawn(ask(journal.clone(), self.mended)));
        }
        match &mut self.answer {
            Some(answer) if answer.is_finished() => {
                let found = answer.await;
                self.answer = None;
                let (found, mended) = found.unwrap_or((Found::NO_ANSWER, self.mended));
                self.mended = mended;
                Some(found)
            }
            Some(_) if self.asked.is_some_and(|asked| asked.elapsed() >= WITHIN) => Some(Found::NO_ANSWER),
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

/// A journal that was mended since it was asked last counts as not writable once, so that whoever watches the readiness sees it.
async fn ask(journal: Journal, mended_before: u64) -> (Found, u64) {
    let (written, size) = futures_util::join!(journal.check_writable(), journal.size());
    let mended = journal.times_mended();
    let problem = match &written {
        Err(error @ JournalError::Lost { .. }) => Some(error.to_string()),
        _ if mended > mended_before => {
            let (path, now) = (journal.path().display(), told(chrono::Utc::now()));
            Some(format!("{path}: its files were removed or replaced, which was found and mended before {now}"))
        }
        _ => None,
    };
    (Found { writable: written.is_ok() && problem.is_none(), bytes: size.ok(), problem }, mended)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_journal_that_was_removed_is_not_ready_once_and_mended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let journal = Journal::open(&path).unwrap();
        let well = |found: &Found| found.writable && found.problem.is_none() && found.bytes.is_some();
        let (found, mended) = ask(journal.clone(), 0).await;
        assert!(well(&found) && mended == 0, "{found:?}");
        std::fs::remove_file(&path).unwrap();
        let (found, mended) = ask(journal.clone(), mended).await;
        assert!(!found.writable && found.problem.as_ref().unwrap().contains("removed or replaced"), "{found:?}");
        assert!(path.exists());
        let (found, mended) = ask(journal.clone(), mended).await;
        assert!(well(&found) && mended == 1, "{found:?}");
    }

    #[tokio::test]
    async fn a_journal_that_cannot_be_written_anew_is_not_ready_and_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/journal.db");
        let journal = Journal::open(&path).unwrap();
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path.parent().unwrap(), "a file where the folder was").unwrap();
        let (found, _) = ask(journal.clone(), 0).await;
        assert!(!found.writable && found.problem.as_ref().unwrap().contains("cannot be written again"), "{found:?}");
        std::fs::remove_file(path.parent().unwrap()).unwrap();
        assert!(!ask(journal, 0).await.0.writable && path.exists(), "it is written anew as soon as it can be");
    }
}
