//! Fair queue over a limited resource: tenants are served in turn, and all of an amount is taken or nothing. It is used
//! for permits and rates of a registry, for bandwidth, and for memory.

mod queue;
mod tenant;
mod wait_queue;

pub use tenant::Tenant;
pub(crate) use wait_queue::{Resource, Unavailable, WaitQueue};
