//! The integration tests, one binary. Every server here is bound to a loopback address.
#![expect(unreachable_pub, reason = "one binary: what its modules share is `pub`, and nothing leaves it")]

mod acceptance_credentials;
mod acceptance_daemon;
mod acceptance_faults;
mod acceptance_journal;
mod acceptance_mirror;
mod acceptance_packaging;
mod acceptance_readme;
mod acceptance_rules;
mod acceptance_transport;
mod acceptance_uploads;
mod architecture;
mod client_faults;
mod conformance;
mod programs_themselves;
mod registry_itself;
mod support;
