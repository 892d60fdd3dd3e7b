//! Tests of the registry client against registries, proxies and faults.

mod acr;
mod behaviors;
mod client_faults;
mod conformance;
mod connections;
mod docker_hub;
mod limits;
mod mirrors;
mod servers;
mod statuses;
mod transport;
mod uploads;
