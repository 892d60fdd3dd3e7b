//! The integration tests, one binary. Every server here is bound to a loopback address.

mod support;
