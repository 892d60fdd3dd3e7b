//! Journal: one SQLite file that records runs, observed tags, transfers, intents and evidence.
//!
//! An arrival is a tag or digest that a run writes at a target. An intent records an arrival before the write. Evidence
//! records an arrival after the write.
//!
//! `migrations.rs` contains the schema. The SQL statements are in other files, one file for each kind of record. One
//! thread owns the connection, and [`Journal`] is a handle to this thread. No column contains a secret. The columns for
//! identities contain user names or words such as `anonymous`.

mod arrivals;
mod carrying;
mod error;
mod file;
mod file_header;
mod group;
#[cfg(test)]
mod group_tests;
mod handle;
mod history;
mod intents;
#[cfg(test)]
mod migration_tests;
mod migrations;
mod notifications;
mod open_journal;
#[cfg(test)]
mod open_journal_tests;
mod pauses;
mod process_lock;
mod prune;
#[cfg(test)]
mod prune_tests;
mod queries;
mod quotas;
mod record;
mod referrer_checks;
mod streaks;
#[cfg(test)]
mod tests;
mod uploads;

pub use error::JournalError;
pub use handle::Journal;
pub use history::record::{FoundTag, ListEnd, RunSummary, Search, SearchResults};
pub use notifications::{NewNotification, ReceiverFact, StoredNotification};
pub use pauses::PauseRecord;
pub use prune::Pruned;
pub use quotas::QuotaRecord;
pub use record::{
    COPY, DigestPrefix, DigestPrefixError, EvidenceFilter, EvidenceRecord, HistoryFilter, Intent, LastEnds,
    Observation, Outcome, RunEnd, RunId, RunRecord, RunStart, TagCounts, TagRecord, TransferState, TransferUpdate,
    Trigger,
};
pub use referrer_checks::ReferrerCheck;
pub use streaks::FailureStreak;
pub use uploads::UploadRecord;
