//! Fair queue of callers that wait for a limited resource. The tenants are served in turn, and each caller gets its
//! whole amount or nothing. The queue is used for permits and rates of a registry, for bandwidth, and for memory.

mod queue;
mod tenant;
mod wait_queue;

pub use tenant::Tenant;
pub(crate) use wait_queue::{Resource, Unavailable, WaitQueue};
