//! Fair queue of callers that wait for a limited resource: permits and rates of a registry, bandwidth, or memory. The
//! queue serves the tenants in turn. Each caller gets its whole amount or nothing.

mod queue;
mod tenant;
mod wait_queue;

pub use tenant::Tenant;
pub(crate) use wait_queue::{Resource, Unavailable, WaitQueue};
