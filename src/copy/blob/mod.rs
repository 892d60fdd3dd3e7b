//! Transfer of one blob from a source to its targets: single flight, memory, fan-out and resumption.

mod fan_out;
pub(super) mod memory;
mod read;
mod reservation;
mod send;
pub(super) mod single_flight;
pub(super) mod stragglers;
pub(super) mod suspension;
pub(super) mod transfer;
