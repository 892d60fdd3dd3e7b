//! The client of the distribution specification.

mod options;

pub use options::{Credentials, Limits, Options, Rate, Secret};
