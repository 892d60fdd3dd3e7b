//! Journal records about writes to an archive (a tar file). A run writes to a new file, and replaces the archive by the
//! new file at the end of the run. This step is the publication of the archive. The journal gets the records after the
//! publication. So the journal contains no record of content that the archive does not have.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::config::{Endpoint, Entry};
use crate::copy::event::Arrival;
use crate::journal::ReferrerCheck;
use crate::oci::Digest;
use crate::sync::report::run_report::TagOutcome;

/// Record about a write to a target.
#[derive(Debug, Clone)]
pub(crate) enum StagedRecord {
    /// Evidence that a tag or digest was written, and the outcome for the report. `None` if the report does not mention
    /// the write.
    Evidence(Box<Arrival>, Option<TagOutcome>),
    /// Check for new referrers of a digest.
    ReferrerCheck {
        /// Source of the digest.
        source: String,
        /// The check. Its `target` is the archive.
        check: Box<ReferrerCheck>,
    },
    /// List of referrers that was written to the archive.
    ReferrersList {
        /// The archive.
        target: String,
        /// Digest of the list at the source.
        listed: Digest,
        /// Digest of the list in the archive.
        written: Digest,
    },
}

impl StagedRecord {
    /// Returns the target of the write.
    fn target(&self) -> &str {
        match self {
            Self::Evidence(arrival, _) => &arrival.target,
            Self::ReferrerCheck { check, .. } => &check.target,
            Self::ReferrersList { target, .. } => target,
        }
    }
}

/// Records of one run that wait for the publication of their archive. All clones share the records.
#[derive(Debug, Clone)]
pub(crate) struct StagedRecords {
    /// Archives to which the run writes.
    archives: Arc<[String]>,
    records: Arc<Mutex<Vec<StagedRecord>>>,
}

impl StagedRecords {
    /// Creates an empty list for a run of this entry.
    pub(crate) fn new(entry: &Entry) -> Self {
        let archives = entry.targets.iter().filter(|target| matches!(target, Endpoint::Archive(_)));
        Self { archives: archives.map(ToString::to_string).collect(), records: Arc::default() }
    }

    /// If the target of the record is an archive, keeps the record until [`StagedRecords::take`] and returns `None`.
    /// Otherwise returns the record, and the caller must write the record to the journal.
    pub(crate) fn stage(&self, record: StagedRecord) -> Option<StagedRecord> {
        if !self.archives.iter().any(|archive| archive == record.target()) {
            return Some(record);
        }
        self.records.lock().push(record);
        None
    }

    /// Removes and returns the records about an archive, oldest first.
    pub(crate) fn take(&self, target: &str) -> Vec<StagedRecord> {
        self.records.lock().extract_if(.., |record| record.target() == target).collect()
    }
}
