//! Conditions of an entry that need attention or that a person filters by, such as failing or paused.

use chrono::{DateTime, TimeDelta, Utc};

use crate::status::{EntryState, RegistryState, Snapshot};

/// Condition of an entry. An entry may have several conditions at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// The last run failed or timed out.
    Failing,
    /// The entry waits: for a slot, for a registry that throttles, or because its tags are deferred.
    Waiting,
    /// The last run held tags back.
    Held,
    /// A person paused the entry.
    Paused,
    /// The last complete run found no tag for the selection, or for a part of it.
    NeverMatched,
    /// A run is in progress.
    Running,
}

impl Condition {
    /// All conditions, the most urgent first.
    pub(super) const ALL: [Self; 6] =
        [Self::Failing, Self::Waiting, Self::Held, Self::Paused, Self::NeverMatched, Self::Running];

    /// Returns the word in the address of the page.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Failing => "failing",
            Self::Waiting => "waiting",
            Self::Held => "held",
            Self::Paused => "paused",
            Self::NeverMatched => "never-matched",
            Self::Running => "running",
        }
    }

    /// Returns the text of the filter on the page.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Failing => "Failing",
            Self::Waiting => "Waiting",
            Self::Held => "Held",
            Self::Paused => "Paused",
            Self::NeverMatched => "Never matched",
            Self::Running => "Running",
        }
    }

    /// Returns the condition with this word in an address.
    pub(super) fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|condition| condition.word() == word)
    }

    /// Returns true if the entry has the condition.
    pub(super) fn applies_to(self, entry: &EntryState, snapshot: &Snapshot, now: DateTime<Utc>) -> bool {
        match self {
            Self::Failing => is_failing(entry),
            Self::Waiting => is_waiting(entry, snapshot, now),
            Self::Held => held_tags(entry) > 0,
            Self::Paused => entry.paused_since.is_some(),
            Self::NeverMatched => entry.never_matched,
            Self::Running => entry.running.is_some(),
        }
    }

    /// Returns the number of entries that have the condition.
    pub(super) fn count(self, snapshot: &Snapshot, now: DateTime<Utc>) -> usize {
        snapshot.entries.iter().filter(|entry| self.applies_to(entry, snapshot, now)).count()
    }
}

/// Returns true if the last run of the entry failed. An interrupted run is no failure, because the entry resumes it.
pub(super) fn is_failing(entry: &EntryState) -> bool {
    entry.last_run.as_ref().is_some_and(|run| matches!(run.outcome.as_str(), "failed" | "timed_out"))
}

/// Returns the number of tags that the last run held back.
pub(super) fn held_tags(entry: &EntryState) -> u64 {
    entry.last_run.as_ref().map_or(0, |run| run.counts.held)
}

fn is_waiting(entry: &EntryState, snapshot: &Snapshot, now: DateTime<Utc>) -> bool {
    let waits_for_registry = || entry.running.is_some() && throttling_registry(entry, snapshot, now).is_some();
    snapshot.waiting.iter().any(|waiting| waiting.entry == entry.name)
        || entry.deferred_until.is_some_and(|until| until > now)
        || waits_for_registry()
}

/// Returns the registry of the entry that throttles, with the end of its pause: the latest end if several throttle.
pub(super) fn throttling_registry<'s>(
    entry: &EntryState,
    snapshot: &'s Snapshot,
    now: DateTime<Utc>,
) -> Option<(&'s RegistryState, DateTime<Utc>)> {
    let used = throttled_registries(snapshot, now).filter(|(registry, _)| uses_registry(entry, &registry.registry));
    used.max_by_key(|(_, until)| *until)
}

/// Returns the registries that throttle, each with the end of its pause.
pub(super) fn throttled_registries(
    snapshot: &Snapshot,
    now: DateTime<Utc>,
) -> impl Iterator<Item = (&RegistryState, DateTime<Utc>)> {
    let end = move |registry: &RegistryState| registry.paused_until.filter(|until| *until > now);
    snapshot.registries.iter().filter_map(move |registry| Some((registry, end(registry)?)))
}

/// Returns true if the source or a target of the entry is at this registry.
pub(super) fn uses_registry(entry: &EntryState, registry: &str) -> bool {
    let is_at = |place: &String| place.split_once('/').is_some_and(|(host, _)| host == registry);
    is_at(&entry.source) || entry.targets.iter().any(is_at)
}

/// Time after which a wait is long: the headline names only long waits, because short ones are usual.
pub(super) const LONG_WAIT: TimeDelta = TimeDelta::minutes(1);

/// Time after which the wait for a slot is long. Runs of other entries use the slots, so this wait is longer.
pub(super) const LONG_WAIT_FOR_SLOT: TimeDelta = TimeDelta::minutes(10);
