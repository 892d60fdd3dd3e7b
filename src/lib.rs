//! Library of transship, which keeps container registries in step. README.md describes its features, ARCHITECTURE.md
//! its structure.
//!
//! Data flows in one direction: `config` -> `schedule` -> `plan` -> `copy` -> `journal` -> `status`.

pub mod cli;
pub mod config;
pub mod control;
pub mod copy;
pub mod daemon;
mod fair_queue;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod import;
pub mod journal;
pub mod layout;
pub mod listen;
pub mod notify;
pub mod oci;
pub mod plan;
pub mod push_events;
pub mod registry;
pub mod regular_file;
pub mod schedule;
pub mod status;
pub mod store;
pub mod sync;
