//! Records of the journal as plain values, and the words for their fields in the journal and in JSON.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::copy::event::{Arrival, Transfer};
use crate::json_form;
use crate::oci::{Digest, Tag};

/// Number of a run within one journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub struct RunId(pub(super) i64);

impl RunId {
    pub(crate) fn numbered(number: i64) -> Self {
        Self(number)
    }

    /// Returns the number.
    #[must_use]
    pub fn number(self) -> i64 {
        self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Entry name under which the journal records manual copies (`transship copy`). No entry of a configuration can have
/// this name. Any number of manual copies may be in progress at once.
pub const COPY: &str = "(copy)";

/// Trigger of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "trigger", rename_all = "snake_case")]
pub enum Trigger {
    /// The run was due by the schedule of the entry.
    Schedule {
        /// Time at which the run was due.
        #[serde(serialize_with = "json_form::instant")]
        scheduled_at: DateTime<Utc>,
    },
    /// The daemon started.
    Start,
    /// The run resumes earlier work: deferred tags, or a run that a pause or an edit of the configuration stopped.
    Continued,
    /// A command such as `transship once` started the run in its own process.
    Manual,
    /// A person requested the run from the running daemon.
    Requested,
    /// A registry sent a push event.
    PushEvent,
}

impl Trigger {
    /// Returns the name in the journal and in JSON: `schedule`, `start`, `continued`, `manual`, `requested` or
    /// `push_event`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Schedule { .. } => "schedule",
            Self::Start => "start",
            Self::Continued => "continued",
            Self::Manual => "manual",
            Self::Requested => "requested",
            Self::PushEvent => "push_event",
        }
    }
}

/// Result of an attempt to start a run of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunStart {
    /// The journal recorded the run as in progress. The caller must record the end of the run.
    Started(RunId),
    /// Another run of the entry is in progress, in this process or in another process that shares the journal.
    AlreadyRunning {
        /// Id of the process that executes the run in progress.
        pid: u32,
        /// Time at which the run in progress started.
        since: DateTime<Utc>,
    },
}

/// Outcome of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// No tag failed, and no tag was deferred. Rules may have held or blocked tags.
    Succeeded,
    /// At least one tag failed, or an error stopped the run.
    Failed,
    /// No tag failed, and some tags wait until the pull quota of their source registry allows reads.
    Deferred,
    /// The daemon or an operator stopped the run, or the process of the run ended without recording the end of the run.
    Interrupted,
    /// The run took longer than the entry's `timeout`.
    TimedOut,
}

impl Outcome {
    /// Returns the name in the journal and in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Deferred => "deferred",
            Self::Interrupted => "interrupted",
            Self::TimedOut => "timed_out",
        }
    }

    /// Returns true if this outcome counts as a failure of the entry. An interrupted run is neither a failure nor a
    /// success.
    #[must_use]
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::TimedOut)
    }

    /// Returns true if the run timed out, but sent bytes, or copied or replaced tags. `bytes` and `tags` are the
    /// results of the run.
    #[must_use]
    pub fn made_progress(self, bytes: u64, tags: TagCounts) -> bool {
        self == Self::TimedOut && (bytes > 0 || tags.changed() > 0)
    }

    pub(super) fn read(word: &str) -> Option<Self> {
        let all = [Self::Succeeded, Self::Failed, Self::Deferred, Self::Interrupted, Self::TimedOut];
        all.into_iter().find(|outcome| outcome.word() == word)
    }
}

/// Numbers of tags of a run, by result. A tag with several targets counts once for each target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TagCounts {
    /// Tags that the run created at a target.
    pub copied: u64,
    /// Tags that the run moved to another digest at a target.
    pub replaced: u64,
    /// Tags that already had the correct digest at a target.
    pub unchanged: u64,
    /// Tags that a rule holds. A later run or a person can release the tags.
    pub held: u64,
    /// Tags that a rule of the entry or a lock at a target forbids to write.
    pub blocked: u64,
    /// Tags that wait until the registry of their source allows reads again.
    pub deferred: u64,
    /// Tags that two entries would write at the same target from different sources.
    pub conflict: u64,
    /// Tags that could not be copied or compared because of an error.
    pub failed: u64,
}

impl TagCounts {
    /// Returns the name and the value of each count, in the order of display.
    #[must_use]
    pub fn named(&self) -> [(&'static str, u64); 8] {
        [
            ("copied", self.copied),
            ("replaced", self.replaced),
            ("unchanged", self.unchanged),
            ("held", self.held),
            ("blocked", self.blocked),
            ("deferred", self.deferred),
            ("conflict", self.conflict),
            ("failed", self.failed),
        ]
    }

    /// Returns the sum of all counts.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.named().iter().map(|(_, count)| count).sum()
    }

    /// Returns the number of tags that the run copied or replaced.
    #[must_use]
    pub fn changed(&self) -> u64 {
        self.copied + self.replaced
    }

    /// Returns the number of tags that a rule, a lock or a limit withheld.
    #[must_use]
    pub fn withheld(&self) -> u64 {
        self.held + self.blocked + self.deferred
    }
}

/// Prints the counts, for example `2 copied, 14 unchanged`. Counts of zero are omitted.
impl fmt::Display for TagCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<String> = self
            .named()
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(word, count)| format!("{count} {word}"))
            .collect();
        f.write_str(if shown.is_empty() { "no tags" } else { "" })?;
        f.write_str(&shown.join(", "))
    }
}

/// Results of a run. The caller records the results at the end of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEnd {
    /// Outcome of the run.
    pub outcome: Outcome,
    /// Results by tag.
    pub tags: TagCounts,
    /// Bytes of blobs and manifests that the run sent.
    pub bytes: u64,
    /// First error of the run, as text for people. If the run had no error but deferred tags, the reason for the delay.
    /// Otherwise `None`.
    pub error: Option<String>,
    /// Earliest time at which a run can copy the deferred tags. `None` if the run deferred no tag.
    pub deferred_until: Option<DateTime<Utc>>,
}

/// Record of a run. The command `history` prints the fields of this record.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RunRecord {
    /// Number of the run.
    #[serde(rename = "run")]
    pub id: RunId,
    /// Name of the entry.
    pub entry: String,
    /// Trigger of the run.
    #[serde(flatten)]
    pub trigger: Trigger,
    /// Id of the process of the run.
    pub pid: u32,
    /// Time at which the run started.
    #[serde(serialize_with = "json_form::instant")]
    pub started: DateTime<Utc>,
    /// Time at which the run ended. `None` while the run is in progress, and for a run whose process ended without
    /// recording the end.
    #[serde(serialize_with = "json_form::optional_instant")]
    pub ended: Option<DateTime<Utc>>,
    /// Outcome of the run. `None` while the run is in progress.
    pub outcome: Option<Outcome>,
    /// Results by tag.
    #[serde(rename = "counts")]
    pub tags: TagCounts,
    /// Bytes of blobs and manifests that the run sent.
    pub bytes: u64,
    /// First error of the run, as text for people. If the run had no error but deferred tags, the reason for the delay.
    /// Otherwise `None`.
    #[serde(rename = "problems", serialize_with = "json_form::one_as_list::serialize")]
    pub error: Option<String>,
    /// Earliest time at which a run can copy the deferred tags. `None` if the run deferred no tag.
    #[serde(serialize_with = "json_form::optional_instant")]
    pub deferred_until: Option<DateTime<Utc>>,
}

/// Times of the last success and the last failure of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastEnds {
    /// Name of the entry.
    pub entry: String,
    /// Time at which a run last succeeded. Runs that only copied pushed tags do not count.
    pub success: Option<DateTime<Utc>>,
    /// Time at which a run last failed or timed out.
    pub failure: Option<DateTime<Utc>>,
}

/// New state of a transfer.
#[derive(Debug, Clone)]
pub struct TransferUpdate {
    /// The transfer: its blob, source and target.
    pub transfer: Arc<Transfer>,
    /// State of the transfer.
    pub state: TransferState,
    /// Time at which the transfer reached the state.
    pub at: DateTime<Utc>,
}

/// State of a transfer.
#[derive(Debug, Clone)]
pub enum TransferState {
    /// The transfer has started.
    Started,
    /// The blob is committed at its target.
    Finished,
    /// The blob was not committed. The text is the reason.
    Failed(String),
}

/// Evidence that a run wrote a tag or digest at a target. The command `evidence` prints the fields of this record.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct EvidenceRecord {
    /// Number of the evidence. Later evidence has a higher number.
    pub id: i64,
    /// Run that copied the content.
    pub run: RunId,
    /// Name of the entry.
    pub entry: String,
    /// Written tag or digest, with its source and target.
    #[serde(flatten)]
    pub arrival: Arrival,
    /// Time at which a later run found the content at the target, if the first run ended before the record of its
    /// evidence. In this case, `ended` is the time right before the write. `None` if the first run recorded the
    /// evidence itself.
    #[serde(serialize_with = "json_form::optional_instant")]
    pub recovered: Option<DateTime<Utc>>,
}

/// Intent of an ended run, without evidence. The journal does not know whether the run wrote the tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// Number of the intent.
    pub id: i64,
    /// Name of the run's entry.
    pub entry: String,
    /// Tag or digest that the run was about to write. Its field `ended` is the time at which the run recorded the
    /// intent.
    pub arrival: Arrival,
}

/// Tag with the digests that a run found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// The tag.
    pub tag: Tag,
    /// Digest at the source.
    pub source_digest: Digest,
    /// Digest at the target. `None` if the tag does not exist at the target.
    pub target_digest: Option<Digest>,
}

/// Tag of an entry, with the digests from the latest observation of the tag.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TagRecord {
    /// Source repository or layout.
    pub source: String,
    /// Target repository or layout.
    pub target: String,
    /// The tag.
    pub tag: Tag,
    /// Digest at the source.
    pub source_digest: Digest,
    /// Digest at the target. `None` if the tag did not exist at the target.
    pub target_digest: Option<Digest>,
    /// Time at which a run first found the tag with this digest at the source.
    #[serde(serialize_with = "json_form::instant")]
    pub first_seen: DateTime<Utc>,
    /// Time at which a run last found the tag with this digest at the source.
    #[serde(serialize_with = "json_form::instant")]
    pub last_seen: DateTime<Utc>,
}

/// Filter for runs. The default selects all runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistoryFilter {
    /// Show only runs of these entries. An empty list means every entry.
    pub entries: Vec<String>,
    /// Show only runs that failed or timed out.
    pub failed: bool,
    /// Show only runs that started at or after this time.
    pub since: Option<DateTime<Utc>>,
    /// Show only runs that started before this time.
    pub until: Option<DateTime<Utc>>,
    /// Maximum number of runs.
    pub limit: Option<u32>,
}

/// Filter for evidence. The default selects all evidence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EvidenceFilter {
    /// Show only evidence of these entries. An empty list means every entry.
    pub entries: Vec<String>,
    /// Show only evidence with this source or target: a repository, `repository:tag` or `repository@digest`.
    pub reference: Option<String>,
    /// Show only evidence with this digest at the source or at the target.
    pub digest: Option<DigestPrefix>,
    /// Show only evidence of writes at or after this time.
    pub since: Option<DateTime<Utc>>,
    /// Show only evidence of writes before this time.
    pub until: Option<DateTime<Utc>>,
    /// Maximum number of records.
    pub limit: Option<u32>,
}

/// Digest or the beginning of a digest: 12 to 128 lower-case hexadecimal digits, with or without an algorithm such as
/// `sha256:` before the digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigestPrefix(String);

/// Error of a text that is not a [`DigestPrefix`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not the beginning of a digest: \
     expected at least 12 lower-case hex digits, with or without sha256: before them"
)]
pub struct DigestPrefixError(String);

impl FromStr for DigestPrefix {
    type Err = DigestPrefixError;

    fn from_str(text: &str) -> Result<Self, DigestPrefixError> {
        let (algorithm, digits) = text.split_once(':').map_or((None, text), |(name, digits)| (Some(name), digits));
        let is_valid = algorithm.is_none_or(|algorithm| Digest::ALGORITHMS.contains(&algorithm))
            && (12..=128).contains(&digits.len())
            && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if is_valid { Ok(Self(text.to_owned())) } else { Err(DigestPrefixError(text.to_owned())) }
    }
}

impl fmt::Display for DigestPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl From<Digest> for DigestPrefix {
    fn from(digest: Digest) -> Self {
        Self(digest.to_string())
    }
}

impl DigestPrefix {
    /// Returns the pattern for SQL's LIKE. A digest contains no wildcard of LIKE.
    pub(super) fn like(&self) -> String {
        if self.0.contains(':') { format!("{}%", self.0) } else { format!("%:{}%", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timed_out_run_made_progress_by_bytes_copies_or_replacements() {
        let none = TagCounts { unchanged: 3, blocked: 1, failed: 2, ..TagCounts::default() };
        let (copied, replaced) = (TagCounts { copied: 1, ..none }, TagCounts { replaced: 1, ..none });
        let progress = |bytes, tags| Outcome::TimedOut.made_progress(bytes, tags);
        assert_eq!(
            [(0, none), (1, none), (0, copied), (0, replaced)].map(|(bytes, tags)| progress(bytes, tags)),
            [false, true, true, true]
        );
        assert!(!Outcome::Failed.made_progress(1, copied), "a back-off follows any other failure");
    }
}
