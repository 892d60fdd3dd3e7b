//! What runs and plans report, as the command line prints them.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::copy::event::BlobCounts;
use crate::oci::{Digest, Tag};
use crate::plan::{Action, Verdict};
use crate::store::{Side, Step};

/// What a run did.
#[derive(Debug, Clone, Serialize)]
pub struct RunReport {
    /// The entry.
    pub entry: String,
    /// When it began.
    pub started: DateTime<Utc>,
    /// When it ended.
    pub ended: DateTime<Utc>,
    /// How it ended.
    pub outcome: RunOutcome,
    /// Every tag at every target.
    pub tags: Vec<TagReport>,
    /// What went wrong beside single tags.
    pub problems: Vec<String>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    /// Every tag is right.
    Succeeded,
    /// Something failed.
    Failed,
    /// It was ended before its time.
    Interrupted,
}

/// What became of one tag at one target.
#[derive(Debug, Clone, Serialize)]
pub struct TagReport {
    /// The source repository.
    pub source: String,
    /// The target repository.
    pub target: String,
    /// The tag, `None` for a pinned digest.
    pub tag: Option<Tag>,
    /// The digest at the target.
    pub digest: Option<Digest>,
    /// The digest at the source.
    pub source_digest: Option<Digest>,
    /// What happened.
    pub outcome: TagOutcome,
    /// How the blobs came.
    pub blobs: BlobCounts,
    /// Bytes sent.
    pub bytes: u64,
}

/// What happened to a tag.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TagOutcome {
    /// It is new at the target.
    Copied,
    /// It moved.
    Replaced {
        /// What it stood for before.
        previous: Digest,
    },
    /// It was right already.
    Kept,
    /// A rule forbids it to move.
    Refused {
        /// The reason.
        reason: String,
    },
    /// It could not be brought about.
    Failed {
        /// The end that failed.
        side: Side,
        /// Doing what.
        step: Step,
        /// With what.
        subject: String,
        /// What happened.
        message: String,
    },
}

/// What a run of one entry would do.
#[derive(Debug, Clone, Serialize)]
pub struct PlanReport {
    /// The entry.
    pub entry: String,
    /// Every chosen tag at every target.
    pub tags: Vec<PlannedTag>,
    /// For every tag of every source why it is in or out; empty unless it was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub verdicts: Vec<SourceVerdict>,
    /// What could not be found out.
    pub problems: Vec<String>,
}

/// What would happen to one tag at one target.
#[derive(Debug, Clone, Serialize)]
pub struct PlannedTag {
    /// The source repository.
    pub source: String,
    /// The target repository.
    pub target: String,
    /// The tag, `None` for a pinned digest.
    pub tag: Option<Tag>,
    /// The digest that the target is to have.
    pub digest: Digest,
    /// What would happen.
    #[serde(flatten)]
    pub action: Action,
}

/// Why a tag of a source is in or out.
#[derive(Debug, Clone, Serialize)]
pub struct SourceVerdict {
    /// The source repository.
    pub source: String,
    /// The tag and the reason.
    #[serde(flatten)]
    pub verdict: Verdict,
}
