//! The journal: what ran, what was seen, what is in flight and what arrived, in one SQLite file.
//!
//! Every SQL statement of the program stands in `queries.rs`, `quotas.rs` and `referrer_checks.rs`, and the schema in `schema.rs`. One thread owns the
//! connection; [`Journal`] is a handle to it. There is no column for a secret: identities are user names.

mod error;
mod file;
mod group;
#[cfg(test)]
mod group_tests;
mod handle;
mod owner;
mod queries;
mod quotas;
mod record;
mod referrer_checks;
mod schema;
mod streaks;
#[cfg(test)]
mod tests;
mod uploads;

pub use error::JournalError;
pub use handle::Journal;
pub use quotas::QuotaRecord;
pub use record::{
    Begun, DigestPrefix, DigestPrefixError, EvidenceFilter, EvidenceRecord, HistoryFilter, LastEnds, Observation,
    Outcome, RunEnd, RunId, RunRecord, TagCounts, TagRecord, TransferNote, TransferState, Trigger,
};
pub use referrer_checks::ReferrerCheck;
pub use streaks::FailureStreak;
pub use uploads::UploadRecord;
