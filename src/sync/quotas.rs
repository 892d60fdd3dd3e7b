//! Exchange of pull quotas between registry clients and the journal: it saves the quotas that registries reported, and
//! restores them, so that a new process queries a quota before it reads.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::{Endpoints, Engine};
use crate::journal::QuotaRecord;
use crate::oci::RegistryHost;
use crate::registry::{QuotaState, Registry};

/// State of quotas outside the clients that hold them.
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    /// Quotas that the journal had at the last query, for clients that do not exist yet.
    recalled: Mutex<Vec<QuotaState>>,
    /// Quotas that were last written to the journal.
    noted: Mutex<HashMap<(RegistryHost, String), QuotaState>>,
}

impl Quotas {
    /// Passes a new client the quotas that were known before it.
    pub(crate) fn tell(&self, registry: &Registry) {
        let recalled = self.recalled.lock();
        recalled.iter().for_each(|quota| registry.recall_quota(quota));
    }

    fn recall(&self, endpoints: &Endpoints, quotas: Vec<QuotaState>) {
        *self.recalled.lock() = quotas;
        endpoints.clients().iter().for_each(|registry| self.tell(registry));
    }

    /// Returns the quotas that the journal does not have yet.
    fn news(&self, endpoints: &Endpoints) -> Vec<QuotaState> {
        let mut noted = self.noted.lock();
        let told = endpoints.clients().into_iter().filter_map(|registry| registry.quota());
        let mut is_new = |quota: &QuotaState| {
            let key = (quota.registry.clone(), quota.identity.clone());
            noted.insert(key, quota.clone()).as_ref() != Some(quota)
        };
        told.filter(|quota| is_new(quota)).collect()
    }
}

impl Engine {
    /// Reads the known quotas from the journal.
    pub(crate) async fn recall_quotas(&self) {
        let Some(journal) = &self.journal else { return };
        match journal.quotas().await {
            Ok(records) => {
                let quotas = records.into_iter().filter_map(read).collect();
                self.endpoints.quotas().recall(&self.endpoints, quotas);
            }
            Err(error) => tracing::warn!(%error, "the journal could not be asked for pull limits; registries are"),
        }
    }

    /// Writes to the journal the quotas that registries have reported since the last call.
    pub(crate) async fn note_quotas(&self) {
        let Some(journal) = &self.journal else { return };
        for quota in self.endpoints.quotas().news(&self.endpoints) {
            if let Err(error) = journal.record_quota(record(quota)).await {
                tracing::warn!(%error, "the journal could not remember a pull limit; the registry will be asked");
            }
        }
    }
}

fn record(quota: QuotaState) -> QuotaRecord {
    let QuotaState { registry, identity, limit, window, remaining, reserved: _, reported } = quota;
    QuotaRecord { registry: registry.to_string(), identity, limit, window, remaining, reported }
}

fn read(record: QuotaRecord) -> Option<QuotaState> {
    let QuotaRecord { registry, identity, limit, window, remaining, reported } = record;
    Some(QuotaState { registry: registry.parse().ok()?, identity, limit, window, remaining, reserved: 0, reported })
}
