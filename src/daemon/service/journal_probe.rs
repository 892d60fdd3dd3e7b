//! Probe of the journal: if it can be written, its size, and if its file is still the one that was opened. The probe
//! runs beside the loop, so a journal that does not respond never blocks the loop.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::journal::{Journal, JournalError};
use crate::sync::format_instant;

/// Interval between two probes.
const BETWEEN: Duration = Duration::from_secs(15);

/// Longest response time of a journal that counts as writable.
const WITHIN: Duration = Duration::from_secs(10);

/// Result of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// True if the journal can be written and nothing happened to its file since the last probe.
    pub(super) writable: bool,
    /// Size of the journal in bytes, if it is known.
    pub(super) bytes: Option<u64>,
    /// Sentence about the problem of its file.
    pub(super) problem: Option<String>,
}

impl Found {
    const NO_ANSWER: Self = Self { writable: false, bytes: None, problem: None };
}

/// Start of the last probe, and the result that is awaited.
#[derive(Default)]
pub(super) struct Probing {
    asked: Option<Instant>,
    answer: Option<JoinHandle<(Found, u64)>>,
    /// Number of repairs of the journal until the last result.
    mended: u64,
}

impl Probing {
    /// Returns a new result, if there is one. Only one probe is under way at a time: the daemon waits for a probe that
    /// hangs, and meanwhile the journal counts as not writable.
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

/// A probe under way holds the journal open, so it ends with the loop.
impl Drop for Probing {
    fn drop(&mut self) {
        if let Some(answer) = &self.answer {
            answer.abort();
        }
    }
}

/// Probes the journal. A journal that was repaired since the last probe counts as not writable once, so that
/// monitoring of the readiness sees the repair.
async fn ask(journal: Journal, mended_before: u64) -> (Found, u64) {
    let (written, size) = futures_util::join!(journal.check_writable(), journal.size());
    let mended = journal.times_mended();
    let problem = match &written {
        Err(error @ JournalError::Lost { .. }) => Some(error.to_string()),
        _ if mended > mended_before => {
            let (path, now) = (journal.path().display(), format_instant(chrono::Utc::now()));
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
