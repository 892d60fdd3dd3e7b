//! `transship login-check`: whether each registry of the configuration lets us in and grants what the entries need.

use super::configuration;
use super::exit::{Exit, Failure};
use super::output::Output;
use super::start::Context;
use crate::daemon::{Endpoints, LoginAnswer, LoginReport, login_check};
use crate::oci::RegistryHost;

/// The arguments of `transship login-check`.
#[derive(Debug, clap::Args)]
pub struct LoginCheck {
    /// The registries of the configuration to ask [default: all]
    #[arg(value_name = "HOST")]
    pub hosts: Vec<RegistryHost>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl LoginCheck {
    pub(super) async fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        let config = configuration::load(&context.global)?;
        let endpoints = Endpoints::new(config.registries.clone(), configuration::unlisted());
        let reports = login_check(&config, &endpoints, &self.hosts).await.map_err(Failure::usage)?;
        if self.json {
            context.output.json(&reports)?;
        } else {
            print(&reports, &mut context.output)?;
        }
        Ok(if reports.iter().all(LoginReport::is_ok) { Exit::Ok } else { Exit::Failed })
    }
}

/// One block a registry, one line a check.
fn print(reports: &[LoginReport], output: &mut Output) -> std::io::Result<()> {
    if reports.is_empty() {
        return output.line("the configuration has no registries");
    }
    for (at, report) in reports.iter().enumerate() {
        if at > 0 {
            output.line("")?;
        }
        output.line(&report.registry)?;
        for check in &report.checks {
            output.line(format!(
                "  {:<6}  {}: {}",
                if check.ok { "ok" } else { "failed" },
                subject(check),
                check.detail
            ))?;
        }
    }
    Ok(())
}

/// `push to a/b as me (entry x)`.
fn subject(check: &LoginAnswer) -> String {
    let what = match (check.check, &check.repository) {
        ("push", Some(repository)) => format!("push to {repository}"),
        ("pull", Some(repository)) => format!("pull of {repository}"),
        ("auth", _) => "asks for".to_owned(),
        (other, _) => other.to_owned(),
    };
    let as_whom = check.identity.as_ref().map(|identity| format!(" as {identity}")).unwrap_or_default();
    let entries = match check.entries.as_slice() {
        [] => String::new(),
        [one] => format!(" (entry {one})"),
        [one, others @ ..] => format!(" (entry {one} and {} more)", others.len()),
    };
    format!("{what}{as_whom}{entries}")
}
