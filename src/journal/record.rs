//! What the journal takes in and gives out: plain values, with the rules by which they print and parse.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::copy::event::{Arrival, Transfer};
use crate::oci::{Digest, Tag};

/// The number of a run within one journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub struct RunId(pub(super) i64);

impl RunId {
    pub(crate) fn numbered(number: i64) -> Self {
        Self(number)
    }

    /// The number itself.
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

/// The entry under which the journal has copies by hand that no configuration names. It is no name that an entry can have, and any number
/// of its runs may be under way at once.
pub const COPY: &str = "(copy)";

/// Why a run began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "trigger", rename_all = "lowercase")]
pub enum Trigger {
    /// Its schedule fired.
    Schedule {
        /// The instant that the schedule names.
        scheduled_at: DateTime<Utc>,
    },
    /// The daemon started.
    Start,
    /// Tags waited until their source could be read again.
    Continued,
    /// A person ran it by a process of their own.
    Hand,
    /// The running daemon was asked for it.
    Asked,
    /// A registry told that something was pushed.
    Pushed,
}

impl Trigger {
    /// The word for it: `schedule`, `start`, `continued`, `hand`, `asked` or `pushed`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Schedule { .. } => "schedule",
            Self::Start => "start",
            Self::Continued => "continued",
            Self::Hand => "hand",
            Self::Asked => "asked",
            Self::Pushed => "pushed",
        }
    }
}

/// The answer to the wish to run an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// The run is recorded and is the caller's.
    Started(RunId),
    /// The entry runs already, in this process or in another one that shares the journal.
    AlreadyRunning {
        /// The process that runs it.
        pid: u32,
        /// Since when.
        since: DateTime<Utc>,
    },
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every tag is as the entry wants it.
    Succeeded,
    /// At least one tag, or the run as a whole, failed.
    Failed,
    /// All went well, and some tags wait until their source may be read again.
    Postponed,
    /// It was stopped, or its process ended without saying so.
    Interrupted,
    /// It took longer than the entry's `timeout`.
    TimedOut,
}

impl Outcome {
    /// The word for it, as it stands in the journal and in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Postponed => "postponed",
            Self::Interrupted => "interrupted",
            Self::TimedOut => "timed_out",
        }
    }

    /// Whether it counts as a failure of the entry. What was interrupted says nothing.
    #[must_use]
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::TimedOut)
    }

    /// Whether the next run has less to do though this one failed: its timeout ended it while something arrived, bytes or tags.
    #[must_use]
    pub fn got_on(self, bytes: u64, copied: u64) -> bool {
        self == Self::TimedOut && (bytes > 0 || copied > 0)
    }

    pub(super) fn read(word: &str) -> Option<Self> {
        let all = [Self::Succeeded, Self::Failed, Self::Postponed, Self::Interrupted, Self::TimedOut];
        all.into_iter().find(|it| it.word() == word)
    }
}

/// What a run did with its tags. A tag that goes to several targets counts once at each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TagCounts {
    /// Written at a target, new or moved.
    pub copied: u64,
    /// Left as they were, because they agree.
    pub kept: u64,
    /// Left as they were by a rule.
    pub refused: u64,
    /// Left as they were for now: their source may not be read until later.
    #[serde(default)]
    pub postponed: u64,
    /// Left as they were by an error.
    pub failed: u64,
}

impl TagCounts {
    /// The counts with the word for each, in the order in which they are shown.
    #[must_use]
    pub fn named(&self) -> [(&'static str, u64); 5] {
        [
            ("copied", self.copied),
            ("kept", self.kept),
            ("refused", self.refused),
            ("postponed", self.postponed),
            ("failed", self.failed),
        ]
    }
}

/// `2 copied, 14 kept`; counts of zero are left out.
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

/// The end of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEnd {
    /// How it ended.
    pub outcome: Outcome,
    /// What it did with its tags.
    pub tags: TagCounts,
    /// Bytes of blobs and manifests that it sent.
    pub bytes: u64,
    /// The first error, for people; else why tags wait.
    pub error: Option<String>,
    /// When to go on, where tags wait.
    pub postponed_until: Option<DateTime<Utc>>,
}

/// A run, as `history` shows it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RunRecord {
    /// Its number.
    pub id: RunId,
    /// The entry's name.
    pub entry: String,
    /// Why it began.
    #[serde(flatten)]
    pub trigger: Trigger,
    /// The process that ran it.
    pub pid: u32,
    /// When it began.
    pub started: DateTime<Utc>,
    /// When it ended, as far as that is known.
    pub ended: Option<DateTime<Utc>>,
    /// How it ended; absent while it runs.
    pub outcome: Option<Outcome>,
    /// What it did with its tags.
    pub tags: TagCounts,
    /// Bytes of blobs and manifests that it sent.
    pub bytes: u64,
    /// The first error, for people; else why tags wait.
    pub error: Option<String>,
    /// When to go on, where tags wait.
    pub postponed_until: Option<DateTime<Utc>>,
}

/// When the runs of an entry last ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastEnds {
    /// The entry's name.
    pub entry: String,
    /// When one last succeeded; one for pushed tags alone is no success of the entry.
    pub success: Option<DateTime<Utc>>,
    /// When one last ended otherwise.
    pub failure: Option<DateTime<Utc>>,
}

/// What became of a blob on its way, to be noted.
#[derive(Debug, Clone)]
pub struct TransferNote {
    /// The blob and its way.
    pub transfer: Arc<Transfer>,
    /// What became of it.
    pub state: TransferState,
    /// When.
    pub at: DateTime<Utc>,
}

/// What became of a blob on its way.
#[derive(Debug, Clone)]
pub enum TransferState {
    /// Its bytes begin to move.
    Started,
    /// It is committed at its target.
    Finished,
    /// It did not arrive, for this reason.
    Failed(String),
}

/// Evidence, as `evidence` shows it: one tag and digest that arrived.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct EvidenceRecord {
    /// Its number; later evidence has a higher one.
    pub id: i64,
    /// The run that brought it.
    pub run: RunId,
    /// The entry's name.
    pub entry: String,
    /// What arrived, from where, under which digest.
    #[serde(flatten)]
    pub arrival: Arrival,
    /// When a later run found at the target what this one was about to write when it was cut off; `ended` is then the instant right before
    /// the write. `None` where the run itself recorded the arrival.
    pub recovered: Option<DateTime<Utc>>,
}

/// An arrival that was about to happen when its run was cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// Its number.
    pub id: i64,
    /// The entry whose run it is of.
    pub entry: String,
    /// What was about to arrive. Its `ended` is the instant at which this was recorded.
    pub arrival: Arrival,
}

/// One tag as a run saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// The tag.
    pub tag: Tag,
    /// The digest at the source.
    pub source_digest: Digest,
    /// The digest at the target, where the tag exists.
    pub target_digest: Option<Digest>,
}

/// A tag of an entry, as it was last seen.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TagRecord {
    /// The source place.
    pub source: String,
    /// The target place.
    pub target: String,
    /// The tag.
    pub tag: Tag,
    /// The digest at the source.
    pub source_digest: Digest,
    /// The digest at the target, where the tag existed.
    pub target_digest: Option<Digest>,
    /// When the tag was first seen with this digest at the source.
    pub first_seen: DateTime<Utc>,
    /// When it was last seen.
    pub last_seen: DateTime<Utc>,
}

/// Which runs to show, the latest first. The default shows all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistoryFilter {
    /// Of this entry only.
    pub entry: Option<String>,
    /// Begun at or after this instant.
    pub since: Option<DateTime<Utc>>,
    /// Begun before this instant.
    pub until: Option<DateTime<Utc>>,
    /// At most so many.
    pub limit: Option<u32>,
}

/// Which evidence to show, the latest first. The default shows all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EvidenceFilter {
    /// Of this entry only.
    pub entry: Option<String>,
    /// At this place, source or target: a repository, with `:tag` or `@digest` behind it or without.
    pub reference: Option<String>,
    /// With this digest at the source or at the target.
    pub digest: Option<DigestPrefix>,
    /// Arrived at or after this instant.
    pub since: Option<DateTime<Utc>>,
    /// Arrived before this instant.
    pub until: Option<DateTime<Utc>>,
    /// At most so many.
    pub limit: Option<u32>,
}

/// A digest or its beginning: at least 12 hexadecimal digits, with or without `sha256:` before them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigestPrefix(String);

/// A text that is not a [`DigestPrefix`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not the beginning of a digest: expected at least 12 lower-case hex digits, with or without sha256: before them"
)]
pub struct DigestPrefixError(String);

impl FromStr for DigestPrefix {
    type Err = DigestPrefixError;

    fn from_str(text: &str) -> Result<Self, DigestPrefixError> {
        let (algorithm, digits) = text.split_once(':').map_or((None, text), |(name, digits)| (Some(name), digits));
        let good = algorithm.is_none_or(|algorithm| Digest::ALGORITHMS.contains(&algorithm))
            && (12..=128).contains(&digits.len())
            && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if good { Ok(Self(text.to_owned())) } else { Err(DigestPrefixError(text.to_owned())) }
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
    /// As a pattern of SQL's LIKE. The text holds nothing that LIKE would take for a wildcard.
    pub(super) fn like(&self) -> String {
        if self.0.contains(':') { format!("{}%", self.0) } else { format!("%:{}%", self.0) }
    }
}
