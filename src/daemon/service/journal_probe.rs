//! Probe of the journal: if it can be written, its size, and if its file is still the one that was opened. The probe
//! runs beside the loop, so a journal that does not respond never blocks the loop.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::journal::{Journal, JournalError};
use crate::sync::format_instant;

/// Interval between two probes.
const INTERVAL: Duration = Duration::from_secs(15);

/// Longest response time of a journal that counts as writable.
const WITHIN: Duration = Duration::from_secs(10);

/// Result of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProbeResult {
    /// True if the journal can be written and nothing happened to its file since the last probe.
    pub(super) writable: bool,
    /// Size of the journal in bytes, if it is known.
    pub(super) bytes: Option<u64>,
    /// Sentence about the problem of its file.
    pub(super) problem: Option<String>,
}

impl ProbeResult {
    const NO_ANSWER: Self = Self { writable: false, bytes: None, problem: None };
}

/// Start of the last probe, and the result that is awaited.
#[derive(Default)]
pub(super) struct JournalProbe {
    started: Option<Instant>,
    task: Option<JoinHandle<(ProbeResult, u64)>>,
    /// Number of repairs of the journal until the last result.
    repairs: u64,
}

impl JournalProbe {
    /// Returns a new result, if there is one. Only one probe is under way at a time: the daemon waits for a probe that
    /// hangs, and meanwhile the journal counts as not writable.
    pub(super) async fn poll(&mut self, journal: &Journal) -> Option<ProbeResult> {
        if self.task.is_none() && self.started.is_none_or(|started| started.elapsed() >= INTERVAL) {
            self.started = Some(Instant::now());
            self.task = Some(tokio::spawn(probe_journal(journal.clone(), self.repairs)));
        }
        match &mut self.task {
            Some(answer) if answer.is_finished() => {
                let found = answer.await;
                self.task = None;
                let (found, repairs) = found.unwrap_or((ProbeResult::NO_ANSWER, self.repairs));
                self.repairs = repairs;
                Some(found)
            }
            Some(_) if self.started.is_some_and(|started| started.elapsed() >= WITHIN) => Some(ProbeResult::NO_ANSWER),
            _ => None,
        }
    }
}

/// A probe under way holds the journal open, so it ends with the loop.
impl Drop for JournalProbe {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Probes the journal. A journal that was repaired since the last probe counts as not writable once, so that
/// monitoring of the readiness sees the repair.
async fn probe_journal(journal: Journal, repairs_before: u64) -> (ProbeResult, u64) {
    let (written, size) = futures_util::join!(journal.check_writable(), journal.size());
    let repairs = journal.times_mended();
    let problem = match &written {
        Err(error @ JournalError::Lost { .. }) => Some(error.to_string()),
        _ if repairs > repairs_before => {
            let (path, now) = (journal.path().display(), format_instant(chrono::Utc::now()));
            Some(format!("{path}: its files were removed or replaced, which was found and mended before {now}"))
        }
        _ => None,
    };
    (ProbeResult { writable: written.is_ok() && problem.is_none(), bytes: size.ok(), problem }, repairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn removed_journal_is_unready_once_and_repaired() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let journal = Journal::open(&path).unwrap();
        let well = |found: &ProbeResult| found.writable && found.problem.is_none() && found.bytes.is_some();
        let (found, repairs) = probe_journal(journal.clone(), 0).await;
        assert!(well(&found) && repairs == 0, "{found:?}");
        std::fs::remove_file(&path).unwrap();
        let (found, repairs) = probe_journal(journal.clone(), repairs).await;
        assert!(!found.writable && found.problem.as_ref().unwrap().contains("removed or replaced"), "{found:?}");
        assert!(path.exists());
        let (found, repairs) = probe_journal(journal.clone(), repairs).await;
        assert!(well(&found) && repairs == 1, "{found:?}");
    }

    #[tokio::test]
    async fn unwritable_journal_is_unready_with_its_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/journal.db");
        let journal = Journal::open(&path).unwrap();
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path.parent().unwrap(), "a file where the folder was").unwrap();
        let (found, _) = probe_journal(journal.clone(), 0).await;
        assert!(!found.writable && found.problem.as_ref().unwrap().contains("cannot be written again"), "{found:?}");
        std::fs::remove_file(path.parent().unwrap()).unwrap();
        assert!(
            !probe_journal(journal, 0).await.0.writable && path.exists(),
            "it is written anew as soon as it can be"
        );
    }
}
