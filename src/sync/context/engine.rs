//! Services that runs share, the request for a run, and the signals that stop a run.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::config::{Config, Entry};
use crate::copy::Copier;
use crate::journal::{Journal, Trigger};
use crate::registry::Options;
use crate::sync::endpoints::clients::Endpoints;
use crate::sync::endpoints::pull_quotas::{read_quotas, record_quota};
use crate::sync::selection::tag_filter::TagFilter;

/// Services that all runs with one configuration share.
#[derive(Debug, Clone)]
pub struct Engine {
    /// Copier that all runs of the process share.
    pub copier: Arc<Copier>,
    /// Clients of the registries, and the layouts.
    pub endpoints: Arc<Endpoints>,
    /// Journal. `None` if the process records no runs, because the user disabled the journal or has no writable
    /// journal.
    pub journal: Option<Journal>,
}

/// Request for a run.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// Entry to run.
    pub entry: Arc<Entry>,
    /// All entries of the configuration, to find conflicts between entries.
    pub entries: Arc<Vec<Arc<Entry>>>,
    /// Reason for the run.
    pub trigger: Trigger,
    /// Filter for pushed tags. `None` means all tags that the entry selects.
    pub only: Option<TagFilter>,
}

impl RunRequest {
    /// Returns requests for a manual run of every entry, in the order of the configuration.
    #[must_use]
    pub fn manual(config: &Config) -> Vec<Self> {
        let entries: Arc<Vec<_>> = Arc::new(config.entries.iter().cloned().map(Arc::new).collect());
        let request = |entry: &Arc<Entry>| Self {
            entry: entry.clone(),
            entries: entries.clone(),
            trigger: Trigger::Manual,
            only: None,
        };
        entries.iter().map(request).collect()
    }
}

/// Signals that stop a run.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// Signal to drain. The run starts no new tags, and finishes the tags in progress.
    pub drain: CancellationToken,
    /// Signal to stop at once. The run suspends its uploads, and the next run can resume these uploads.
    pub now: CancellationToken,
}

impl Engine {
    /// Creates the engine of a configuration. Sends no request. `unlisted` contains the options for registries that the
    /// configuration does not name.
    #[must_use]
    pub fn new(config: &Config, unlisted: Options, journal: Option<Journal>) -> Self {
        let endpoints = Endpoints::new(config.registries.clone(), unlisted).within(config.daemon.bandwidth.clone());
        Self { copier: Copier::new(config.daemon.memory), endpoints: Arc::new(endpoints), journal }
    }

    /// Passes the known pull quotas from the journal to the registry clients.
    pub(crate) async fn load_quotas(&self) {
        let Some(journal) = &self.journal else { return };
        if let Some(quotas) = read_quotas(journal).await {
            self.endpoints.set_known_quotas(quotas);
        }
    }

    /// Records in the journal the pull quotas that registries have reported since the last call.
    pub(crate) async fn record_quotas(&self) {
        let Some(journal) = &self.journal else { return };
        for quota in self.endpoints.take_unrecorded_quotas() {
            record_quota(journal, quota).await;
        }
    }
}
