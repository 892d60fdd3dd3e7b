//! Counters of push events by receiver and result. Only receivers in the configuration have series.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

/// Result of a push event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PushEventResult {
    /// An entry reads from the pushed repository.
    Matched,
    /// No entry reads from the pushed repository.
    Unmatched,
    /// The event is not a push of a tag.
    Ignored,
    /// The event cannot be parsed.
    Unreadable,
    /// The sender did not authenticate.
    Unauthorized,
}

impl PushEventResult {
    const ALL: [Self; 5] = [Self::Matched, Self::Unmatched, Self::Ignored, Self::Unreadable, Self::Unauthorized];
}

impl EncodeLabelValue for PushEventResult {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.write_str(match self {
            Self::Matched => "matched",
            Self::Unmatched => "unmatched",
            Self::Ignored => "ignored",
            Self::Unreadable => "unreadable",
            Self::Unauthorized => "unauthorized",
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Labels {
    receiver: String,
    result: PushEventResult,
}

/// Counters of push events. Clones share the counters.
#[derive(Debug, Clone, Default)]
pub struct PushEventCounts {
    pub(super) family: Family<Labels, Counter>,
    /// The receivers of the configuration in force.
    receivers: Arc<Mutex<BTreeSet<String>>>,
}

impl PushEventCounts {
    /// Sets the receivers of the configuration in force. Removes the series of all other receivers, and starts the
    /// series of new receivers at zero.
    pub fn follow<'a>(&self, receivers: impl IntoIterator<Item = &'a str>) {
        let configured: BTreeSet<String> = receivers.into_iter().map(str::to_owned).collect();
        let mut current = self.receivers.lock();
        for labels in current.difference(&configured).flat_map(|receiver| all_labels(receiver)) {
            self.family.remove(&labels);
        }
        for labels in configured.iter().flat_map(|receiver| all_labels(receiver)) {
            self.family.get_or_create(&labels).inc_by(0);
        }
        *current = configured;
    }

    /// Counts `count` events of a receiver with this result. Ignores a receiver that is no longer in the configuration.
    pub fn count(&self, receiver: &str, result: PushEventResult, count: usize) {
        let current = self.receivers.lock();
        if current.contains(receiver) {
            self.family.get_or_create(&Labels { receiver: receiver.to_owned(), result }).inc_by(count as u64);
        }
    }
}

fn all_labels(receiver: &str) -> [Labels; 5] {
    PushEventResult::ALL.map(|result| Labels { receiver: receiver.to_owned(), result })
}
