//! Journal: one SQLite file that records runs, observed tags, transfers in flight and arrivals.
//!
//! Every SQL statement of the program is in `queries.rs`, `arrivals.rs`, `carrying.rs`, `intents.rs`,
//! `notifications.rs`, `quotas.rs`, `streaks.rs`, `prune.rs`, `pauses.rs`, `referrer_checks.rs`, `uploads.rs` and
//! `history/`, and the schema in `migrations.rs`. One thread owns the connection; [`Journal`] is a handle to it. There
//! is no column for a secret: identities are user names.

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
mod owner;
mod pauses;
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
pub use history::record::{RunMark, Search, SearchResults, SeenTag};
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
