//! Status port: the daemon's state over HTTP for health checks, Prometheus and people.
//!
//! It reads a [`Snapshot`] that the daemon's loop publishes, and the [`Metrics`] that the loop updates. It changes
//! nothing, sends no request to a registry and opens no file: a request here can never disturb a run. The pages query
//! past runs from a [`History`], within limits.

mod admission;
#[cfg(test)]
pub(crate) mod doc_tests;
mod history;
mod metrics;
mod page;
mod push_events;
mod routes;
mod snapshot;

pub use admission::HEALTH_CHECKS;
pub use history::{History, HistoryResult};
pub use metrics::{Delivery, Direction, EndedRun, Metrics};
pub use push_events::{PushEventCounts, PushEventResult};
pub use routes::{Clock, HEALTHY_WITHIN, Port};
pub use snapshot::{
    ClockSetback, ConfigurationState, EntryState, FailedRun, JournalState, LastRun, LimitsState, Quota, RateState,
    RegistryState, RunningState, SCHEMA, Snapshot, TransferState, WaitingState,
};
