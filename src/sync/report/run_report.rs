//! Report of a finished run, for the summary, `--json`, the journal and the status port.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};

use crate::config::Warning;
use crate::copy::CopyError;
use crate::copy::event::{Arrival, BlobCounts, LeftBehind};
use crate::journal::{Outcome, RunEnd, TagCounts};
use crate::json_form;
use crate::oci::{Digest, ManifestRef, Tag};
use crate::store::{Side, Step, StoreError};
use crate::sync::endpoints::clients::RateLimited;

/// Formats an instant as in the log: RFC 3339 in UTC, in whole seconds.
pub(crate) fn format_instant(instant: DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Report of one run of one entry. Its JSON also has the sums `counts` and `bytes`.
#[derive(Debug, Clone)]
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
    pub outcome: RunOutcome,
    /// Reports of all tags and pinned digests, one for each target.
    pub tags: Vec<TagReport>,
    /// Failures that do not belong to a single tag: of a listing, a catalog or the journal.
    pub problems: Vec<String>,
    /// Referrers and signatures that should have been copied with their tags, but were not. The tags themselves are at
    /// the targets.
    pub left_behind: Vec<LeftBehindReport>,
    /// Manifests whose referrers could not be determined. The manifests themselves are at the targets. The next run
    /// checks for the referrers again.
    pub in_doubt: Vec<InDoubt>,
    /// Warnings about selected items that the source does not have, such as a pattern without a match. They do not
    /// change the outcome.
    pub warnings: Vec<Warning>,
    /// Registries that had asked for a pause when the run was interrupted or timed out.
    pub waiting_for: Vec<RateLimited>,
}

impl serde::Serialize for RunReport {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Json<'a> {
            run: Option<i64>,
            entry: &'a str,
            #[serde(serialize_with = "json_form::instant")]
            started: DateTime<Utc>,
            #[serde(serialize_with = "json_form::instant")]
            ended: DateTime<Utc>,
            #[serde(flatten)]
            outcome: &'a RunOutcome,
            counts: TagCounts,
            bytes: u64,
            tags: &'a [TagReport],
            problems: &'a [String],
            left_behind: &'a [LeftBehindReport],
            in_doubt: &'a [InDoubt],
            warnings: &'a [Warning],
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            waiting_for: &'a [RateLimited],
        }
        let Self { entry, run, started, ended, outcome, tags, problems, left_behind, in_doubt, warnings, waiting_for } =
            self;
        let json = Json {
            run: *run,
            entry,
            started: *started,
            ended: *ended,
            outcome,
            counts: self.counts(),
            bytes: self.bytes(),
            tags,
            problems,
            left_behind,
            in_doubt,
            warnings,
            waiting_for,
        };
        json.serialize(serializer)
    }
}

/// Manifest whose referrers could not be determined.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct InDoubt {
    /// Source repository.
    pub source: String,
    /// Digest of the manifest.
    pub digest: Digest,
    /// Reason why the referrers could not be determined.
    pub reason: String,
}

/// Referrer or signature that was not copied with its image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct LeftBehindReport {
    /// Target repository.
    pub target: String,
    /// Name of the item, and the reason why the item was not copied.
    #[serde(flatten)]
    pub left: LeftBehind,
}

/// Outcome of a run.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum RunOutcome {
    /// Every tag is as the entry requires, or a rule withheld the tag.
    Succeeded,
    /// A tag or another part of the run failed.
    Failed,
    /// Nothing failed, and some tags wait until the pull quota of their source allows further reads.
    Deferred,
    /// The entry's `timeout` expired before the run was finished.
    TimedOut,
    /// The run was stopped before it was finished.
    Interrupted,
    /// The run did nothing: another process that shares the journal is running this entry.
    AlreadyRunning {
        /// Process ID of the other process.
        pid: u32,
        /// Time at which the other process started its run.
        #[serde(serialize_with = "json_form::instant")]
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
    /// Tag at the target; `None` for a digest.
    pub tag: Option<Tag>,
    /// Tag at the source, if the entry gives it another name at the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_tag: Option<Tag>,
    /// Digest that the target should have. `None` if the digest could not be determined.
    pub digest: Option<Digest>,
    /// Digest at the source. This digest differs from `digest` if an index was derived for some platforms.
    pub source_digest: Option<Digest>,
    /// Outcome of the tag.
    #[serde(flatten)]
    pub outcome: TagOutcome,
    /// Number of blobs, by the way in which the target got each blob.
    pub blobs: BlobCounts,
    /// Number of bytes sent for the tag.
    pub bytes: u64,
}

/// Outcome of a tag at a target.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum TagOutcome {
    /// The run wrote the tag. The target did not have the tag before.
    Copied,
    /// The run overwrote the tag, which had another digest at the target.
    Replaced {
        /// Digest that the tag had before.
        previous: Digest,
        /// Tag that keeps the previous digest, if the entry has `overwrite: keep_previous`.
        kept_as: Option<Tag>,
    },
    /// The target already had the tag with the right digest.
    Unchanged,
    /// A rule withholds the tag for now. The tag may be released later, automatically or by a person.
    Held {
        /// The rule and its reason.
        reason: String,
    },
    /// A rule forbids the change, or the tag is locked or immutable at the target's registry.
    Blocked {
        /// The rule and its reason, or the message of the registry.
        reason: String,
    },
    /// The tag waits, because the pull quota of its source is used up.
    Deferred {
        /// Time at which to check if more reads are allowed.
        #[serde(serialize_with = "json_form::instant")]
        until: DateTime<Utc>,
        /// Message about the limit.
        reason: String,
    },
    /// Several entries claim the tag from different sources, or an entry gives this name to several tags of its source.
    /// No run of these entries writes the tag.
    Conflict {
        /// Names of all entries that claim the tag. One name if the entry gives this name to several tags.
        entries: Vec<String>,
    },
    /// The tag could not be synced. The target's tag is unchanged.
    Failed {
        /// Source or target, whichever failed.
        side: Option<Side>,
        /// Step that failed.
        step: Option<Step>,
        /// Digest or tag that the step processed.
        subject: Option<String>,
        /// Complete error message.
        #[serde(rename = "reason")]
        message: String,
    },
}

impl TagOutcome {
    /// Returns the word for this outcome in the log, in summaries, in notifications and in JSON.
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

    /// Returns the outcome of a tag whose copy failed: failed, deferred, or blocked by a lock.
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

    /// Returns the outcome of a tag if a request failed before the copy: failed or deferred.
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

    /// Returns true for a failed tag and for a conflict.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Failed { .. } | Self::Conflict { .. })
    }

    /// Returns true if a rule, a lock or a limit withholds the tag. None of these is a failure.
    #[must_use]
    pub fn is_withheld(&self) -> bool {
        matches!(self, Self::Held { .. } | Self::Blocked { .. } | Self::Deferred { .. })
    }

    /// Increments the count of this outcome.
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

    /// Returns true if the run changed the tag at the target.
    #[must_use]
    pub fn is_change(&self) -> bool {
        matches!(self, Self::Copied | Self::Replaced { .. })
    }
}

impl TagReport {
    /// Returns the class of a failed, conflicting, held or blocked tag, or `None` for any other outcome. Failures for
    /// the same reason have the same class: the source, the target and the message without the tag and without digests.
    #[must_use]
    pub fn failure_class(&self) -> Option<String> {
        let entry_names;
        let (side, step, message) = match &self.outcome {
            TagOutcome::Failed { side, step, message, .. } => (*side, *step, message.as_str()),
            TagOutcome::Held { reason } | TagOutcome::Blocked { reason } => (None, None, reason.as_str()),
            TagOutcome::Conflict { entries } => {
                entry_names = entries.join(" and ");
                (None, None, entry_names.as_str())
            }
            _ => return None,
        };
        let names = [&self.tag, &self.source_tag].map(|tag| tag.as_ref().map_or("", |tag| tag.as_str()));
        // A short tag may be part of any word. Messages have the tag as a separate word, so only whole words are
        // compared.
        let words = message.split(' ').map(|word| match word.trim_end_matches([':', ',']) {
            bare if names.contains(&bare) || bare.trim_matches(['(', ')']).parse::<Digest>().is_ok() => "…",
            _ => word,
        });
        let message = words.collect::<Vec<_>>().join(" ");
        Some(format!("{} {} {side:?} {step:?} {message}", self.source, self.target))
    }

    /// Creates the report of a tag or digest that was copied.
    pub(crate) fn arrived(arrival: &Arrival, outcome: TagOutcome) -> Self {
        Self {
            source: arrival.source.clone(),
            target: arrival.target.clone(),
            tag: arrival.tag.clone(),
            source_tag: renamed_tag(arrival),
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
            waiting_for: Vec::new(),
        }
    }

    /// Returns true if nothing failed and the run was not stopped early. Withheld and deferred tags are no failures.
    #[must_use]
    pub fn is_well(&self) -> bool {
        matches!(self.outcome, RunOutcome::Succeeded | RunOutcome::Deferred | RunOutcome::AlreadyRunning { .. })
    }

    /// Returns true in one of these cases:
    /// - a rule, a lock or a pull quota withheld a tag,
    /// - a referrer or a signature was not copied with its tag.
    #[must_use]
    pub fn has_withheld_items(&self) -> bool {
        !self.left_behind.is_empty() || self.tags.iter().any(|tag| tag.outcome.is_withheld())
    }

    /// Returns a reason, followed by the registries for which the run waited.
    pub(crate) fn with_waits(&self, reason: &str) -> String {
        let waits: Vec<String> = self.waiting_for.iter().map(RateLimited::in_words).collect();
        if waits.is_empty() { reason.to_owned() } else { format!("{reason}, waiting for {}", waits.join(" and ")) }
    }

    /// Returns the time at which the entry should run again because of deferred tags; `None` if there are none.
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

    /// Returns the first of these messages:
    /// - a failure that does not belong to a tag,
    /// - a failed or conflicting tag,
    /// - the timeout or interruption of the run,
    /// - a deferred tag,
    /// - an item that was not copied with its tag.
    #[must_use]
    pub fn first_problem(&self) -> Option<String> {
        let tag_problem = |tag: &TagReport| match &tag.outcome {
            TagOutcome::Failed { message, .. } => Some(message.clone()),
            TagOutcome::Conflict { entries } => Some(conflict_message(tag, entries)),
            _ => None,
        };
        let cut_short = match self.outcome {
            RunOutcome::TimedOut => Some(self.with_waits("the run took longer than its timeout")),
            RunOutcome::Interrupted => Some(self.with_waits("the run was interrupted")),
            _ => None,
        };
        let deferred = || self.tags.iter().find_map(deferral_reason);
        let failed = self.problems.first().cloned().or_else(|| self.tags.iter().find_map(tag_problem)).or(cut_short);
        failed.or_else(deferred).or_else(|| self.left_behind.first().map(LeftBehindReport::in_words))
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

/// Returns the tag at the source of a copy that gave the tag another name.
fn renamed_tag(arrival: &Arrival) -> Option<Tag> {
    let ManifestRef::Tag(tag) = &arrival.source_reference else { return None };
    arrival.tag.as_ref().filter(|name| *name != tag).map(|_| tag.clone())
}

/// Returns the reason why a tag is deferred.
fn deferral_reason(tag: &TagReport) -> Option<String> {
    match &tag.outcome {
        TagOutcome::Deferred { reason, .. } => Some(reason.clone()),
        _ => None,
    }
}

/// Returns the message for a conflicting tag.
pub(crate) fn conflict_message(tag: &TagReport, entries: &[String]) -> String {
    let name = tag.tag.as_ref().map(ToString::to_string).unwrap_or_default();
    if let [entry] = entries {
        let from = tag.source_tag.as_ref().or(tag.tag.as_ref()).map(ToString::to_string).unwrap_or_default();
        return format!(
            "the tag {from} would get the name {name} at {}, which the entry {entry} also gives to another tag: give \
             each tag a name of its own",
            tag.target
        );
    }
    format!("{}:{name} is claimed by the entries {} from different sources", tag.target, entries.join(" and "))
}
