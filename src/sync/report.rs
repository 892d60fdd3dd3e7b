//! What a run has to say when it is over, for the summary, `--json`, the journal and the status port.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};

use crate::config::Warning;
use crate::copy::CopyError;
use crate::copy::event::{Arrival, BlobCounts, LeftBehind};
use crate::journal::TagCounts;
use crate::oci::{Digest, Tag};
use crate::store::{Side, Step, StoreError};

/// An instant as it stands in the log: RFC 3339 in UTC, by the second.
pub(crate) fn told(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// One run of one entry.
#[derive(Debug, Clone, serde::Serialize)]
pub struct RunReport {
    /// The entry's name.
    pub entry: String,
    /// The run's number in the journal, where there is one.
    pub run: Option<i64>,
    /// When it began.
    pub started: DateTime<Utc>,
    /// When it was over.
    pub ended: DateTime<Utc>,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: RunOutcome,
    /// Every tag and pinned digest at every target.
    pub tags: Vec<TagReport>,
    /// What failed that is no single tag: a listing, a catalog, the journal.
    pub problems: Vec<String>,
    /// What belongs to tags that are there now, was wanted, and did not come: referrers and signatures.
    pub left_behind: Vec<LeftBehindReport>,
    /// The manifests of which nobody could tell what refers to them. They are there; what may refer to them is looked for again in the
    /// next run.
    pub in_doubt: Vec<InDoubt>,
    /// Things that are selected and were not there, as a pattern without a match. They change no outcome.
    pub warnings: Vec<Warning>,
}

/// A manifest of which nobody could tell what refers to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct InDoubt {
    /// The source repository.
    pub source: String,
    /// The manifest.
    pub digest: Digest,
    /// Why nobody could tell.
    pub reason: String,
}

/// A referrer or signature that did not come with its image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct LeftBehindReport {
    /// The target repository.
    pub target: String,
    /// What it is, and why it did not come.
    #[serde(flatten)]
    pub left: LeftBehind,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum RunOutcome {
    /// Every tag is as it should be, or was held back by a rule.
    Succeeded,
    /// A tag failed, or something else did.
    Failed,
    /// All went well, and some tags wait until their source may be read again.
    Postponed,
    /// The entry's `timeout` passed first.
    TimedOut,
    /// The process was told to end first.
    Interrupted,
    /// Nothing was done: another process that shares the journal runs this entry.
    AlreadyRunning {
        /// That process.
        pid: u32,
        /// Since when.
        since: DateTime<Utc>,
    },
}

/// One tag, or one pinned digest, at one target.
#[derive(Debug, Clone, serde::Serialize)]
pub struct TagReport {
    /// The source repository.
    pub source: String,
    /// The target repository.
    pub target: String,
    /// The tag; `None` for a digest.
    pub tag: Option<Tag>,
    /// The digest that the target is to have. `None` where it could not be told.
    pub digest: Option<Digest>,
    /// The digest at the source. Another one than `digest` where an index was derived for some platforms.
    pub source_digest: Option<Digest>,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: TagOutcome,
    /// How its blobs came.
    pub blobs: BlobCounts,
    /// Bytes sent for it.
    pub bytes: u64,
}

/// What became of a tag.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum TagOutcome {
    /// It was not at the target and is now.
    Copied,
    /// It stood for another digest at the target.
    Replaced {
        /// That digest.
        previous: Digest,
        /// The tag under which it was kept, where the entry asks for that.
        kept_as: Option<Tag>,
    },
    /// It was right already.
    Kept,
    /// A rule of the entry held it back.
    Refused {
        /// Which, and why.
        reason: String,
    },
    /// The target's registry lets nobody write the tag: it is locked or immutable there.
    Blocked {
        /// What it said.
        reason: String,
    },
    /// It waits: its source counts what is read, and as much as is allowed has been.
    Postponed {
        /// When to look whether more may be read.
        until: DateTime<Utc>,
        /// What was told of the limit.
        reason: String,
    },
    /// Two entries claim it for different sources, and neither gets it.
    Contested {
        /// Both, and perhaps more, by name.
        entries: Vec<String>,
    },
    /// It failed; the target's tag is as it was.
    Failed {
        /// The end that failed.
        side: Option<Side>,
        /// What was being done.
        step: Option<Step>,
        /// The digest or tag that it was done with.
        subject: Option<String>,
        /// All of it in words.
        message: String,
    },
}

impl TagOutcome {
    /// A failure of a copy, or that it is to wait.
    #[must_use]
    pub fn failed(error: &CopyError) -> Self {
        if let Some(wait) = error.deferral() {
            return Self::postponed(wait, error.to_string());
        }
        if error.is_locked() {
            return Self::Blocked { reason: error.to_string() };
        }
        Self::Failed { side: error.side(), step: error.step(), subject: error.subject(), message: error.to_string() }
    }

    /// A failure of an endpoint before the copy, or that it is to wait.
    #[must_use]
    pub fn failed_at(side: Side, error: &StoreError) -> Self {
        if let Some(wait) = error.deferral() {
            return Self::postponed(wait, format!("{side} {error}"));
        }
        Self::Failed {
            side: Some(side),
            step: Some(error.step),
            subject: Some(error.subject.clone()).filter(|subject| !subject.is_empty()),
            message: format!("{side} {error}"),
        }
    }

    fn postponed(wait: Duration, reason: String) -> Self {
        Self::Postponed { until: Utc::now() + wait, reason }
    }

    /// Whether the tag is not as the entry wants it for a reason other than the entry's own rule.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Failed { .. } | Self::Contested { .. })
    }

    /// Whether the tag is held back or waits, which is no failure.
    #[must_use]
    pub fn is_held(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Blocked { .. } | Self::Postponed { .. })
    }

    /// Counts it where it belongs.
    pub(crate) fn count_in(&self, counts: &mut TagCounts) {
        match self {
            Self::Copied | Self::Replaced { .. } => counts.copied += 1,
            Self::Kept => counts.kept += 1,
            Self::Refused { .. } | Self::Blocked { .. } => counts.refused += 1,
            Self::Postponed { .. } => counts.postponed += 1,
            Self::Contested { .. } | Self::Failed { .. } => counts.failed += 1,
        }
    }

    /// Whether the target was changed.
    #[must_use]
    pub fn is_change(&self) -> bool {
        matches!(self, Self::Copied | Self::Replaced { .. })
    }
}

impl TagReport {
    /// What tells equal failures and refusals apart from others: their text without the tag and the digests that it names. `None`
    /// where nothing failed.
    #[must_use]
    pub fn failure_class(&self) -> Option<String> {
        let claimed_by;
        let (side, step, message) = match &self.outcome {
            TagOutcome::Failed { side, step, message, .. } => (*side, *step, message.as_str()),
            TagOutcome::Refused { reason } | TagOutcome::Blocked { reason } => (None, None, reason.as_str()),
            TagOutcome::Contested { entries } => {
                claimed_by = entries.join(" and ");
                (None, None, claimed_by.as_str())
            }
            _ => return None,
        };
        let tag = self.tag.as_ref().map_or("", |tag| tag.as_str());
        // A short tag may be part of any word: it is looked for where messages have it, as a word of its own.
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
    /// Whether every tag is as the entry wants it, was held back by the entry's own rule, or waits.
    #[must_use]
    pub fn is_well(&self) -> bool {
        matches!(self.outcome, RunOutcome::Succeeded | RunOutcome::Postponed | RunOutcome::AlreadyRunning { .. })
    }

    /// Whether a rule or a lock held a tag back, or the limit of a source that counts what is read; or something that belongs to a
    /// tag was left behind.
    #[must_use]
    pub fn is_held(&self) -> bool {
        !self.left_behind.is_empty() || self.tags.iter().any(|tag| tag.outcome.is_held())
    }

    /// When to go on, where tags wait.
    #[must_use]
    pub fn postponed_until(&self) -> Option<DateTime<Utc>> {
        let until = |tag: &TagReport| match tag.outcome {
            TagOutcome::Postponed { until, .. } => Some(until),
            _ => None,
        };
        self.tags.iter().filter_map(until).max()
    }

    /// Bytes sent in all.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.tags.iter().map(|tag| tag.bytes).sum()
    }

    /// The first thing that went wrong, in words; else why tags wait; else what was left behind.
    #[must_use]
    pub fn first_problem(&self) -> Option<String> {
        let of_tag = |tag: &TagReport| match &tag.outcome {
            TagOutcome::Failed { message, .. } => Some(message.clone()),
            TagOutcome::Contested { entries } => Some(contested_message(tag, entries)),
            _ => None,
        };
        let cut_short = match self.outcome {
            RunOutcome::TimedOut => Some("the run took longer than its timeout".to_owned()),
            RunOutcome::Interrupted => Some("the run was interrupted".to_owned()),
            _ => None,
        };
        let waits = || self.tags.iter().find_map(waits);
        let failed = self.problems.first().cloned().or_else(|| self.tags.iter().find_map(of_tag)).or(cut_short);
        failed.or_else(waits).or_else(|| self.left_behind.first().map(LeftBehindReport::in_words))
    }
}

impl LeftBehindReport {
    /// What was left behind, where it is missing, and why.
    #[must_use]
    pub fn in_words(&self) -> String {
        let LeftBehindReport { target, left } = self;
        format!("left behind, not at {target}: {}: {}", left.what, left.reason)
    }
}

fn waits(tag: &TagReport) -> Option<String> {
    match &tag.outcome {
        TagOutcome::Postponed { reason, .. } => Some(reason.clone()),
        _ => None,
    }
}

/// How a contested tag is told.
pub(crate) fn contested_message(tag: &TagReport, entries: &[String]) -> String {
    let name = tag.tag.as_ref().map(ToString::to_string).unwrap_or_default();
    format!("{}:{name} is claimed by the entries {} from different sources", tag.target, entries.join(" and "))
}
