//! The status port: what the daemon is doing, told over HTTP to health checks, Prometheus and people.
//!
//! It reads a [`Snapshot`] that the daemon's loop publishes and the [`Metrics`] that the loop folds facts into.
//! It changes nothing, asks no registry and opens no file: a request here can never disturb a run. What the pages tell of the past
//! is asked of a [`History`], within limits.

mod admission;
#[cfg(test)]
pub(crate) mod doc_tests;
mod history;
mod hook_events;
mod metrics;
mod page;
mod routes;
mod snapshot;

pub use admission::HEALTH_CHECKS;
pub use history::{Answer, History};
pub use hook_events::{HookEvents, HookResult};
pub use metrics::{Delivery, Direction, EndedRun, Metrics};
pub use routes::{Clock, HEALTHY_WITHIN, Port};
pub use snapshot::{
    ClockSetback, ConfigurationState, EntryState, FailedRun, JournalState, LastRun, LimitsState, Quota, RateState,
    RegistryState, RunningState, SCHEMA, Snapshot, TransferState, WaitingState,
};
