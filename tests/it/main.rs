//! The integration tests, one binary. Every server here is bound to a loopback address.
#![expect(unreachable_pub, reason = "one binary: what its modules share is `pub`, and nothing leaves it")]

mod acceptance_acr;
mod acceptance_cloud;
mod acceptance_control;
mod acceptance_credentials;
mod acceptance_daemon;
mod acceptance_docker_hub;
mod acceptance_facts;
mod acceptance_faults;
mod acceptance_hooks;
mod acceptance_import;
mod acceptance_journal;
mod acceptance_login;
mod acceptance_mirror;
mod acceptance_mirrors;
mod acceptance_notify;
mod acceptance_pace;
mod acceptance_packaging;
mod acceptance_page;
mod acceptance_readme;
mod acceptance_rules;
mod acceptance_schedule;
mod acceptance_secrets;
mod acceptance_servers;
mod acceptance_soak;
mod acceptance_transport;
mod acceptance_uploads;
mod architecture;
mod client_faults;
mod conformance;
mod facts;
mod programs_themselves;
mod registry_itself;
mod support;
