//! Status port: the daemon's state over HTTP for health checks, Prometheus and people.
//!
//! The port reads a [`Snapshot`] that the daemon's loop publishes, and the [`Metrics`] that the loop updates. The pages
//! also query past runs from a [`History`], within limits. The port changes nothing and sends no request to a registry,
//! so a request to the port never disturbs a run.

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
pub use metrics::{Delivery, Direction, EndedRun, Metrics, TextFormat};
pub use push_events::{PushEventCounts, PushEventResult};
pub use routes::{Clock, HEALTHY_WITHIN, Port};
pub use snapshot::{
    ClockSetback, ConfigurationState, EntryState, FailedRun, JournalState, LastRun, LimitsState, Quota, RateState,
    RegistryState, RunningState, SCHEMA, Snapshot, TransferState, WaitingState,
};
