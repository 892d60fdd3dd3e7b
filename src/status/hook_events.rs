//! How many push events each receiver took and what came of them, as a family of series that follows the configuration.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

/// What came of a push event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HookResult {
    /// An entry reads from where was pushed.
    Matched,
    /// None does.
    Unmatched,
    /// It was no push of a tag.
    Ignored,
    /// It was not understood.
    Unreadable,
    /// Who sent it did not prove itself.
    Unauthorized,
}

impl HookResult {
    const ALL: [Self; 5] = [Self::Matched, Self::Unmatched, Self::Ignored, Self::Unreadable, Self::Unauthorized];
}

impl EncodeLabelValue for HookResult {
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
    result: HookResult,
}

/// The counters. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct HookEvents {
    pub(super) family: Family<Labels, Counter>,
    /// The receivers of the configuration in force.
    receivers: Arc<Mutex<BTreeSet<String>>>,
}

impl HookEvents {
    /// These are the receivers of the configuration in force: series of others go, those of new ones begin at zero.
    pub fn follow<'a>(&self, receivers: impl IntoIterator<Item = &'a str>) {
        let named: BTreeSet<String> = receivers.into_iter().map(str::to_owned).collect();
        let mut known = self.receivers.lock().unwrap_or_else(PoisonError::into_inner);
        for gone in known.difference(&named).flat_map(|receiver| all(receiver)) {
            self.family.remove(&gone);
        }
        for labels in named.iter().flat_map(|receiver| all(receiver)) {
            self.family.get_or_create(&labels).inc_by(0);
        }
        *known = named;
    }

    /// So many events for a receiver had this result. Nothing is counted for one that the configuration names no more.
    pub fn count(&self, receiver: &str, result: HookResult, count: usize) {
        let known = self.receivers.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(receiver) {
            self.family.get_or_create(&Labels { receiver: receiver.to_owned(), result }).inc_by(count as u64);
        }
    }
}

fn all(receiver: &str) -> [Labels; 5] {
    HookResult::ALL.map(|result| Labels { receiver: receiver.to_owned(), result })
}
