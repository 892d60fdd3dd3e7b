//! Records about the writes to archives that are not published yet. The journal gets these records after the
//! publication, at the end of the run. So the journal never says that an archive has content that it does not have.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::config::{Endpoint, Entry};
use crate::copy::event::Arrival;
use crate::journal::ReferrerCheck;
use crate::oci::Digest;
use crate::sync::report::run_report::TagOutcome;

/// Record about an archive.
#[derive(Debug, Clone)]
pub(crate) enum StagedRecord {
    /// Evidence that a tag or digest was written, with the outcome if the report contains one.
    Evidence(Box<Arrival>, Option<TagOutcome>),
    /// Check of the referrers of a digest.
    ReferrerCheck {
        /// Source of the digest.
        source: String,
        /// The check, whose target is the archive.
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

/// Staged records of one run. All clones share the records.
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

    /// Stages a record if its target is an archive. Otherwise returns the record, which the caller must write.
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
