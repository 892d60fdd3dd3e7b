//! Records that the journal stores and returns, as plain values, and the text forms of their fields.

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
    /// The previous run deferred tags, and their source may be read again.
    Continued,
    /// A person started the run in a separate process.
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
pub enum Begun {
    /// The run is recorded as in progress, and the caller must record its end.
    Started(RunId),
    /// Another run of the entry is in progress, in this process or in another process that shares the journal.
    AlreadyRunning {
        /// Id of the process of that run.
        pid: u32,
        /// Time at which that run started.
        since: DateTime<Utc>,
    },
}

/// Outcome of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every tag is as the entry requires.
    Succeeded,
    /// At least one tag failed, or the run failed as a whole.
    Failed,
    /// No tag failed, and some tags wait until their source may be read again.
    Deferred,
    /// The run was stopped, or its process ended without recording the end of the run.
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

    /// Returns true if this outcome counts as a failure of the entry. An interruption counts neither as a failure nor
    /// as a success.
    #[must_use]
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::TimedOut)
    }

    /// Returns true if a run with this outcome failed and nevertheless left less work for the next run. This is true if
    /// the run timed out, and had sent bytes, or copied or replaced tags. `bytes` and `tags` are the results of the
    /// run.
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
    /// Tags that did not exist at a target before the run copied them.
    pub copied: u64,
    /// Tags that had another digest at a target before the run replaced them.
    pub replaced: u64,
    /// Tags that already had the correct digest at a target.
    pub unchanged: u64,
    /// Tags that a rule holds, and that may be released later, automatically or by a person.
    pub held: u64,
    /// Tags that a rule of the entry or a lock at a target forbids to write.
    pub blocked: u64,
    /// Tags that wait until their source may be read again.
    pub deferred: u64,
    /// Tags that two entries would write from different sources.
    pub conflict: u64,
    /// Tags that an error prevented from being copied or compared.
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

    /// Returns the number of all tags.
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

/// Results of a run, to be recorded at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEnd {
    /// Outcome of the run.
    pub outcome: Outcome,
    /// Results by tag.
    pub tags: TagCounts,
    /// Bytes of blobs and manifests that the run sent.
    pub bytes: u64,
    /// First error, for people. If no error occurred, the reason why tags wait. `None` if no tags wait.
    pub error: Option<String>,
    /// Time at which the next run can copy the waiting tags. `None` if no tags wait.
    pub deferred_until: Option<DateTime<Utc>>,
}

/// Run as the command `history` shows it.
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
    /// First error, for people. If no error occurred, the reason why tags wait. `None` if no tags wait.
    #[serde(rename = "problems", serialize_with = "json_form::one_as_list::serialize")]
    pub error: Option<String>,
    /// Time at which the next run can copy the waiting tags. `None` if no tags wait.
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

/// State of a transfer, to be recorded.
#[derive(Debug, Clone)]
pub struct TransferNote {
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

/// Evidence as the command `evidence` shows it: one tag or digest that was written at a target.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct EvidenceRecord {
    /// Number of the evidence. Later evidence has a higher number.
    pub id: i64,
    /// Run that copied the content.
    pub run: RunId,
    /// Name of the entry.
    pub entry: String,
    /// The arrival: its source, target and digest.
    #[serde(flatten)]
    pub arrival: Arrival,
    /// Time at which a later run found the intended content at the target, because this run was interrupted. In this
    /// case, `ended` is the time right before the write. `None` if the run itself recorded the arrival.
    #[serde(serialize_with = "json_form::optional_instant")]
    pub recovered: Option<DateTime<Utc>>,
}

/// Open intent of an ended run: the arrival that the run was about to complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// Number of the intent.
    pub id: i64,
    /// Name of the run's entry.
    pub entry: String,
    /// Intended arrival. Its `ended` is the time at which the intent was recorded.
    pub arrival: Arrival,
}

/// Tag with the digests that a run found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// The tag.
    pub tag: Tag,
    /// Digest at the source.
    pub source_digest: Digest,
    /// Digest at the target. `None` if the tag does not exist there.
    pub target_digest: Option<Digest>,
}

/// Tag with the digests that a run of an entry found last.
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
    /// Digest at the target. `None` if the tag did not exist there.
    pub target_digest: Option<Digest>,
    /// Time at which a run first found the tag with this digest at the source.
    #[serde(serialize_with = "json_form::instant")]
    pub first_seen: DateTime<Utc>,
    /// Time at which a run last found the tag with this digest at the source.
    #[serde(serialize_with = "json_form::instant")]
    pub last_seen: DateTime<Utc>,
}

/// Filter for runs, which are shown latest first. The default shows all runs.
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

/// Filter for evidence, which is shown latest first. The default shows all evidence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EvidenceFilter {
    /// Show only evidence of these entries. An empty list means every entry.
    pub entries: Vec<String>,
    /// Show only evidence with this source or target: a repository, `repository:tag` or `repository@digest`.
    pub reference: Option<String>,
    /// Show only evidence with this digest at the source or at the target.
    pub digest: Option<DigestPrefix>,
    /// Show only arrivals at or after this time.
    pub since: Option<DateTime<Utc>>,
    /// Show only arrivals before this time.
    pub until: Option<DateTime<Utc>>,
    /// Maximum number of records.
    pub limit: Option<u32>,
}

/// Digest or the beginning of a digest: at least 12 hexadecimal digits, with or without `sha256:` before them.
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
    /// Returns the pattern for SQL's LIKE. The text contains no character that is a wildcard for LIKE.
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
