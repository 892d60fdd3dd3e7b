//! Fair queue of callers that wait for a limited resource: permits and rates of a registry, bandwidth, or memory. The
//! queue serves the tenants (for example, the entries of `sync.yaml`) in turn. A caller waits until the whole amount
//! that it requested is available.

mod queue;
mod tenant;
mod wait_queue;

pub use tenant::Tenant;
pub(crate) use wait_queue::{Resource, Unavailable, WaitQueue};
