//! Journal: one SQLite file that records runs, observed tags, transfers, intents and evidence.
//!
//! An arrival is a tag or digest that was written at a target. An intent is the record of an arrival before the write,
//! and evidence is the record after it.
//!
//! Each file contains the SQL statements for one kind of record, and `migrations.rs` contains the schema. One thread
//! owns the connection, and [`Journal`] is a handle to this thread. No column stores a secret: identities are user
//! names.

mod arrivals;
mod carrying;
mod error;
mod file;
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
pub use history::record::{ListEnd, RunMark, Search, SearchResults, SeenTag};
pub use notifications::{NewNotification, ReceiverFact, StoredNotification};
pub use pauses::PauseRecord;
pub use prune::Pruned;
pub use quotas::QuotaRecord;
pub use record::{
    Begun, COPY, DigestPrefix, DigestPrefixError, EvidenceFilter, EvidenceRecord, HistoryFilter, Intent, LastEnds,
    Observation, Outcome, RunEnd, RunId, RunRecord, TagCounts, TagRecord, TransferNote, TransferState, Trigger,
};
pub use referrer_checks::ReferrerCheck;
pub use streaks::FailureStreak;
pub use uploads::UploadRecord;
