//! Report of a finished run, for the summary, `--json`, the journal and the status port.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};

use crate::config::Warning;
use crate::copy::CopyError;
use crate::copy::event::{Arrival, BlobCounts, LeftBehind};
use crate::journal::{Outcome, RunEnd, TagCounts};
use crate::oci::{Digest, Tag};
use crate::store::{Side, Step, StoreError};

/// Formats an instant as in the log: RFC 3339 in UTC, in whole seconds.
pub(crate) fn format_instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Report of one run of one entry.
#[derive(Debug, Clone, serde::Serialize)]
pub struct RunReport {
    /// Name of the entry.
    pub entry: String,
    /// Number of the run in the journal, if there is a journal.
    pub run: Option<i64>,
    /// Time at which the run started.
    pub started: DateTime<Utc>,
    /// Time at which the run ended.
    pub ended: DateTime<Utc>,
    /// Outcome of the run.
    #[serde(flatten)]
    pub outcome: RunOutcome,
    /// Every tag and pinned digest at every target.
    pub tags: Vec<TagReport>,
    /// Failures that do not belong to a single tag: of a listing, a catalog or the journal.
    pub problems: Vec<String>,
    /// Referrers and signatures that belong to tags that are now at the target, were wanted, and did not arrive.
    pub left_behind: Vec<LeftBehindReport>,
    /// Manifests whose referrers could not be determined. The manifests are at the target. The next run checks again
    /// for their referrers.
    pub in_doubt: Vec<InDoubt>,
    /// Selected items that the source did not have, such as a pattern without a match. Missing items do not change the
    /// outcome.
    pub warnings: Vec<Warning>,
}

/// Manifest whose referrers could not be determined.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct InDoubt {
    /// Source repository.
    pub source: String,
    /// Digest of the manifest.
    pub digest: Digest,
    /// Reason for which the referrers could not be determined.
    pub reason: String,
}

/// Referrer or signature that did not arrive with its image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct LeftBehindReport {
    /// Target repository.
    pub target: String,
    /// Name of the item, and the reason why the item did not arrive.
    #[serde(flatten)]
    pub left: LeftBehind,
}

/// Outcome of a run.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum RunOutcome {
    /// Every tag is as the entry requires, or was held back by a rule.
    Succeeded,
    /// A tag failed, or another part of the run did.
    Failed,
    /// Nothing failed, and some tags wait until their source may be read again.
    Deferred,
    /// The entry's `timeout` expired first.
    TimedOut,
    /// The process received the request to end first.
    Interrupted,
    /// The run did nothing: another process that shares the journal is running this entry.
    AlreadyRunning {
        /// Process ID of that process.
        pid: u32,
        /// Time at which its run started.
        since: DateTime<Utc>,
    },
}

/// Report of one tag, or one pinned digest, at one target.
#[derive(Debug, Clone, serde::Serialize)]
pub struct TagReport {
    /// Source repository.
    pub source: String,
    /// Target repository.
    pub target: String,
    /// Tag; `None` for a digest.
    pub tag: Option<Tag>,
    /// Digest that the target is to have. `None` if it could not be determined.
    pub digest: Option<Digest>,
    /// Digest at the source. This digest differs from `digest` if an index was derived for some platforms.
    pub source_digest: Option<Digest>,
    /// Outcome of the tag.
    #[serde(flatten)]
    pub outcome: TagOutcome,
    /// Number of its blobs by the way in which they came.
    pub blobs: BlobCounts,
    /// Bytes sent for it.
    pub bytes: u64,
}

/// Outcome of a tag at a target.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum TagOutcome {
    /// The target did not have the tag, and has it now.
    Copied,
    /// The tag pointed at another digest at the target.
    Replaced {
        /// Digest that the tag had before.
        previous: Digest,
        /// Tag under which the previous digest was kept, if the entry requests that.
        kept_as: Option<Tag>,
    },
    /// The tag was already correct.
    Unchanged,
    /// A rule holds the tag for now. The tag may be released later, automatically or by a person.
    Held {
        /// The rule, and its reason.
        reason: String,
    },
    /// A rule of the entry forbids the change, or the target's registry does: the tag is locked or immutable there.
    Blocked {
        /// The rule and its reason, or the message of the registry.
        reason: String,
    },
    /// The tag waits: its source counts reads, and the allowed number has been used.
    Deferred {
        /// Time at which to check if more reads are allowed.
        until: DateTime<Utc>,
        /// Message about the limit.
        reason: String,
    },
    /// Two entries claim the tag for different sources. The tag is written for neither.
    Conflict {
        /// Names of the entries: both, and more if there are more.
        entries: Vec<String>,
    },
    /// The tag failed; the target's tag is unchanged.
    Failed {
        /// Side that failed.
        side: Option<Side>,
        /// Step that failed.
        step: Option<Step>,
        /// Digest or tag that the step worked on.
        subject: Option<String>,
        /// Complete message.
        message: String,
    },
}

impl TagOutcome {
    /// Returns the word for it in the log, in summaries, in notifications and in JSON.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Copied => "copied",
            Self::Replaced { .. } => "replaced",
            Self::Unchanged => "unchanged",
            Self::Held { .. } => "held",
            Self::Blocked { .. } => "blocked",
            Self::Deferred { .. } => "deferred",
            Self::Conflict { .. } => "conflict",
            Self::Failed { .. } => "failed",
        }
    }

    /// Returns the outcome of a copy that failed or has to wait.
    #[must_use]
    pub fn failed(error: &CopyError) -> Self {
        if let Some(wait) = error.deferral() {
            return Self::deferred(wait, error.to_string());
        }
        if error.is_locked() {
            return Self::Blocked { reason: error.to_string() };
        }
        Self::Failed { side: error.side(), step: error.step(), subject: error.subject(), message: error.to_string() }
    }

    /// Returns the outcome of a tag if an endpoint failed, or has to wait, before the copy.
    #[must_use]
    pub fn failed_at(side: Side, error: &StoreError) -> Self {
        if let Some(wait) = error.deferral() {
            return Self::deferred(wait, format!("{side} {error}"));
        }
        Self::Failed {
            side: Some(side),
            step: Some(error.step),
            subject: Some(error.subject.clone()).filter(|subject| !subject.is_empty()),
            message: format!("{side} {error}"),
        }
    }

    fn deferred(wait: Duration, reason: String) -> Self {
        Self::Deferred { until: Utc::now() + wait, reason }
    }

    /// Returns true if the tag is not as the entry requires, for a reason other than the entry's own rule.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Failed { .. } | Self::Conflict { .. })
    }

    /// Returns true if a rule, a lock or a limit withholds the tag. None of these is a failure.
    #[must_use]
    pub fn is_withheld(&self) -> bool {
        matches!(self, Self::Held { .. } | Self::Blocked { .. } | Self::Deferred { .. })
    }

    /// Adds the outcome to the count that it belongs to.
    pub(crate) fn count_in(&self, counts: &mut TagCounts) {
        match self {
            Self::Copied => counts.copied += 1,
            Self::Replaced { .. } => counts.replaced += 1,
            Self::Unchanged => counts.unchanged += 1,
            Self::Held { .. } => counts.held += 1,
            Self::Blocked { .. } => counts.blocked += 1,
            Self::Deferred { .. } => counts.deferred += 1,
            Self::Conflict { .. } => counts.conflict += 1,
            Self::Failed { .. } => counts.failed += 1,
        }
    }

    /// Returns true if the target was changed.
    #[must_use]
    pub fn is_change(&self) -> bool {
        matches!(self, Self::Copied | Self::Replaced { .. })
    }
}

impl TagReport {
    /// Returns the class of a failure or refusal. Equal failures have equal classes: the class is the message without
    /// the tag and the digests in it. Returns `None` if nothing failed.
    #[must_use]
    pub fn failure_class(&self) -> Option<String> {
        let claimed_by;
        let (side, step, message) = match &self.outcome {
            TagOutcome::Failed { side, step, message, .. } => (*side, *step, message.as_str()),
            TagOutcome::Held { reason } | TagOutcome::Blocked { reason } => (None, None, reason.as_str()),
            TagOutcome::Conflict { entries } => {
                claimed_by = entries.join(" and ");
                (None, None, claimed_by.as_str())
            }
            _ => return None,
        };
        let tag = self.tag.as_ref().map_or("", |tag| tag.as_str());
        // A short tag may be part of any word. Messages have the tag as a separate word, so only whole words are
        // compared.
        let words = message.split(' ').map(|word| match word.trim_end_matches([':', ',']) {
            bare if bare == tag || bare.trim_matches(['(', ')']).parse::<Digest>().is_ok() => "…",
            _ => word,
        });
        let message = words.collect::<Vec<_>>().join(" ");
        Some(format!("{} {} {side:?} {step:?} {message}", self.source, self.target))
    }

    pub(crate) fn arrived(arrival: &Arrival, outcome: TagOutcome) -> Self {
        Self {
            source: arrival.source.clone(),
            target: arrival.target.clone(),
            tag: arrival.tag.clone(),
            digest: Some(arrival.digest),
            source_digest: Some(arrival.source_digest),
            outcome,
            blobs: arrival.blobs,
            bytes: arrival.bytes,
        }
    }
}

impl RunReport {
    /// Creates the report of a run without tags and problems.
    #[must_use]
    pub fn new(entry: &str, started: DateTime<Utc>, ended: DateTime<Utc>, outcome: RunOutcome) -> Self {
        Self {
            entry: entry.to_owned(),
            run: None,
            started,
            ended,
            outcome,
            tags: Vec::new(),
            problems: Vec::new(),
            left_behind: Vec::new(),
            in_doubt: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Returns true if every tag is as the entry requires, was held back by the entry's own rule, or waits.
    #[must_use]
    pub fn is_well(&self) -> bool {
        matches!(self.outcome, RunOutcome::Succeeded | RunOutcome::Deferred | RunOutcome::AlreadyRunning { .. })
    }

    /// Returns true in one of these cases:
    /// - a rule or a lock held a tag back,
    /// - the limit of a source that counts reads held a tag back,
    /// - an item that belongs to a tag was not copied.
    #[must_use]
    pub fn is_held(&self) -> bool {
        !self.left_behind.is_empty() || self.tags.iter().any(|tag| tag.outcome.is_withheld())
    }

    /// Returns the time at which to resume, if tags wait.
    #[must_use]
    pub fn deferred_until(&self) -> Option<DateTime<Utc>> {
        let until = |tag: &TagReport| match tag.outcome {
            TagOutcome::Deferred { until, .. } => Some(until),
            _ => None,
        };
        self.tags.iter().filter_map(until).max()
    }

    /// Returns the total number of bytes sent.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.tags.iter().map(|tag| tag.bytes).sum()
    }

    /// Returns the message of the first failure. If nothing failed, returns the reason why tags wait. If none wait,
    /// returns the first item that was not copied.
    #[must_use]
    pub fn first_problem(&self) -> Option<String> {
        let tag_problem = |tag: &TagReport| match &tag.outcome {
            TagOutcome::Failed { message, .. } => Some(message.clone()),
            TagOutcome::Conflict { entries } => Some(conflict_message(tag, entries)),
            _ => None,
        };
        let cut_short = match self.outcome {
            RunOutcome::TimedOut => Some("the run took longer than its timeout".to_owned()),
            RunOutcome::Interrupted => Some("the run was interrupted".to_owned()),
            _ => None,
        };
        let waits = || self.tags.iter().find_map(deferral_reason);
        let failed = self.problems.first().cloned().or_else(|| self.tags.iter().find_map(tag_problem)).or(cut_short);
        failed.or_else(waits).or_else(|| self.left_behind.first().map(LeftBehindReport::in_words))
    }

    /// Returns the number of tags by outcome.
    #[must_use]
    pub fn counts(&self) -> TagCounts {
        let mut counts = TagCounts::default();
        self.tags.iter().for_each(|tag| tag.outcome.count_in(&mut counts));
        counts
    }

    /// Returns the outcome in the journal's terms.
    #[must_use]
    pub fn journal_outcome(&self) -> Outcome {
        match self.outcome {
            RunOutcome::Succeeded | RunOutcome::AlreadyRunning { .. } => Outcome::Succeeded,
            RunOutcome::Failed => Outcome::Failed,
            RunOutcome::Deferred => Outcome::Deferred,
            RunOutcome::TimedOut => Outcome::TimedOut,
            RunOutcome::Interrupted => Outcome::Interrupted,
        }
    }

    /// Returns the end of the run as the journal records it.
    pub(crate) fn to_journal(&self) -> RunEnd {
        RunEnd {
            outcome: self.journal_outcome(),
            tags: self.counts(),
            bytes: self.bytes(),
            error: self.first_problem(),
            deferred_until: self.deferred_until(),
        }
    }
}

impl LeftBehindReport {
    /// Returns a message with the item that was not copied, the target that lacks the item, and the reason.
    #[must_use]
    pub fn in_words(&self) -> String {
        let LeftBehindReport { target, left } = self;
        format!("left behind, not at {target}: {}: {}", left.what, left.reason)
    }
}

/// Returns the reason why a tag waits.
fn deferral_reason(tag: &TagReport) -> Option<String> {
    match &tag.outcome {
        TagOutcome::Deferred { reason, .. } => Some(reason.clone()),
        _ => None,
    }
}

/// Returns the message for a conflicts tag.
pub(crate) fn conflict_message(tag: &TagReport, entries: &[String]) -> String {
    let name = tag.tag.as_ref().map(ToString::to_string).unwrap_or_default();
    format!("{}:{name} is claimed by the entries {} from different sources", tag.target, entries.join(" and "))
}
