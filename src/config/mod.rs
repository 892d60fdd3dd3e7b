//! The configuration: the text of a `sync.yaml` in, a [`Config`] of domain types or all that is wrong with it out.

mod difference;
mod endpoint;
mod model;

pub use difference::{Difference, difference};
pub use endpoint::{Endpoint, EndpointError};
pub use model::{Config, Daemon, Entry, EntryName, EntryNameError, StatusPort};
