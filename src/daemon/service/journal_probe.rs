//! Probe of the journal. The probe finds out:
//! - whether the journal can be written;
//! - the size of the journal;
//! - whether the journal's files were removed or replaced.
//!
//! The probe is a separate task, so a journal that does not respond never blocks the loop.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::journal::{Journal, JournalError};
use crate::sync::format_instant;

/// Interval between two probes.
const INTERVAL: Duration = Duration::from_secs(15);

/// Maximum duration of a probe. If the probe takes longer, the journal counts as not writable.
const MAX_RESPONSE_TIME: Duration = Duration::from_secs(10);

/// Result of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProbeResult {
    /// True if the journal can be written, and its files were not removed or replaced since the last probe.
    pub(super) writable: bool,
    /// Size of the journal in bytes; `None` if the size is unknown.
    pub(super) bytes: Option<u64>,
    /// Description of a problem with the journal's files.
    pub(super) problem: Option<String>,
}

impl ProbeResult {
    const NO_RESPONSE: Self = Self { writable: false, bytes: None, problem: None };
}

/// Probe of the journal at intervals.
#[derive(Default)]
pub(super) struct JournalProbe {
    /// Start of the last probe.
    started: Option<Instant>,
    /// Probe under way. Its result contains the number of repairs of the journal.
    task: Option<JoinHandle<(ProbeResult, u64)>>,
    /// Number of repairs of the journal at the last result.
    repairs: u64,
}

impl JournalProbe {
    /// Starts a probe if a probe is due, and returns a new result if a result is available. Only one probe is under way
    /// at a time. If this probe takes longer than 10 s, returns a result with `writable: false`.
    pub(super) async fn poll(&mut self, journal: &Journal) -> Option<ProbeResult> {
        if self.task.is_none() && self.started.is_none_or(|started| started.elapsed() >= INTERVAL) {
            self.started = Some(Instant::now());
            self.task = Some(tokio::spawn(probe_journal(journal.clone(), self.repairs)));
        }
        match &mut self.task {
            Some(task) if task.is_finished() => {
                let ended = task.await;
                self.task = None;
                let (result, repairs) = ended.unwrap_or((ProbeResult::NO_RESPONSE, self.repairs));
                self.repairs = repairs;
                Some(result)
            }
            Some(_) if self.started.is_some_and(|started| started.elapsed() >= MAX_RESPONSE_TIME) => {
                Some(ProbeResult::NO_RESPONSE)
            }
            _ => None,
        }
    }
}

/// Aborts a probe under way. Otherwise the probe would keep the journal open after the end of the loop.
impl Drop for JournalProbe {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Probes the journal. If the journal was repaired since the last probe, this probe reports the journal as not
/// writable. So `/readyz` shows the repair.
async fn probe_journal(journal: Journal, repairs_before: u64) -> (ProbeResult, u64) {
    let (written, size) = futures_util::join!(journal.check_writable(), journal.size());
    let repairs = journal.repair_count();
    let problem = match &written {
        Err(error @ JournalError::Lost { .. }) => Some(error.to_string()),
        _ if repairs > repairs_before => {
            let (path, now) = (journal.path().display(), format_instant(chrono::Utc::now()));
            Some(format!(
                "{path}: the journal's files were removed or replaced, and the daemon restored the files before {now}"
            ))
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
        let is_sound = |found: &ProbeResult| found.writable && found.problem.is_none() && found.bytes.is_some();
        let (found, repairs) = probe_journal(journal.clone(), 0).await;
        assert!(is_sound(&found) && repairs == 0, "{found:?}");
        std::fs::remove_file(&path).unwrap();
        let (found, repairs) = probe_journal(journal.clone(), repairs).await;
        assert!(!found.writable && found.problem.as_ref().unwrap().contains("removed or replaced"), "{found:?}");
        assert!(path.exists());
        let (found, repairs) = probe_journal(journal.clone(), repairs).await;
        assert!(is_sound(&found) && repairs == 1, "{found:?}");
    }

    #[tokio::test]
    async fn unwritable_journal_is_unready_with_its_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/journal.db");
        let journal = Journal::open(&path).unwrap();
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path.parent().unwrap(), "a file where the folder was").unwrap();
        let (found, _) = probe_journal(journal.clone(), 0).await;
        assert!(!found.writable && found.problem.as_ref().unwrap().contains("cannot restore them"), "{found:?}");
        std::fs::remove_file(path.parent().unwrap()).unwrap();
        assert!(
            !probe_journal(journal, 0).await.0.writable && path.exists(),
            "the journal is written again as soon as its folder can be created"
        );
    }
}
