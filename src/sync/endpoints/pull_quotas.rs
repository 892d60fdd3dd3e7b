//! Exchange of pull quotas between registry clients and the journal. The journal records the quotas that registries
//! report. A new process reads these quotas. So its clients know which registries have a quota, and query the quota
//! before the first read.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::journal::{Journal, QuotaRecord};
use crate::oci::RegistryHost;
use crate::registry::{QuotaState, Registry};

/// Pull quotas that the process has read from the journal or recorded in the journal.
#[derive(Debug, Default)]
pub(crate) struct PullQuotas {
    /// Quotas from the last query of the journal, for clients that are created later.
    known: Mutex<Vec<QuotaState>>,
    recorded: Mutex<HashMap<(RegistryHost, String), QuotaState>>,
}

impl PullQuotas {
    pub(crate) fn apply_to(&self, registry: &Registry) {
        let known = self.known.lock();
        known.iter().for_each(|quota| registry.recall_quota(quota));
    }

    /// Replaces the known quotas. The new quotas apply only to clients that are created after this call.
    pub(crate) fn set_known(&self, quotas: Vec<QuotaState>) {
        *self.known.lock() = quotas;
    }

    /// For each client whose quota has changed since the last call, returns the quota and marks the quota as recorded.
    pub(crate) fn take_unrecorded(&self, clients: &[Arc<Registry>]) -> Vec<QuotaState> {
        let mut recorded = self.recorded.lock();
        let reported = clients.iter().filter_map(|registry| registry.quota());
        let mut is_new = |quota: &QuotaState| {
            let key = (quota.registry.clone(), quota.identity.clone());
            recorded.insert(key, quota.clone()).as_ref() != Some(quota)
        };
        reported.filter(|quota| is_new(quota)).collect()
    }
}

/// Reads the known quotas from the journal. Returns `None` if the journal fails.
pub(crate) async fn read_quotas(journal: &Journal) -> Option<Vec<QuotaState>> {
    match journal.quotas().await {
        Ok(records) => Some(records.into_iter().filter_map(state_from_record).collect()),
        Err(error) => {
            tracing::warn!(%error, "cannot query the journal for pull limits: querying the registries");
            None
        }
    }
}

pub(crate) async fn record_quota(journal: &Journal, quota: QuotaState) {
    if let Err(error) = journal.record_quota(record_from_state(quota)).await {
        tracing::warn!(%error, "cannot record a pull limit: the registry will be queried");
    }
}

fn record_from_state(quota: QuotaState) -> QuotaRecord {
    let QuotaState { registry, identity, limit, window, remaining, reserved: _, reported } = quota;
    QuotaRecord { registry: registry.to_string(), identity, limit, window, remaining, reported }
}

fn state_from_record(record: QuotaRecord) -> Option<QuotaState> {
    let QuotaRecord { registry, identity, limit, window, remaining, reported } = record;
    Some(QuotaState { registry: registry.parse().ok()?, identity, limit, window, remaining, reserved: 0, reported })
}
