//! transship keeps container registries in step: see README.md for what it does and ARCHITECTURE.md for the map.
//!
//! Data goes one way: `config` -> `schedule` -> `plan` -> `copy` -> `journal` -> `status`.

pub mod cli;
pub mod config;
pub mod control;
pub mod copy;
pub mod daemon;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod hooks;
pub mod import;
pub mod journal;
pub mod layout;
pub mod listen;
pub mod notify;
pub mod oci;
pub mod plan;
pub mod registry;
pub mod regular_file;
pub mod schedule;
pub mod status;
pub mod store;
