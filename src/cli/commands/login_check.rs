//! Command `transship login-check`: tests the credentials at each registry of the configuration, and tests the
//! permissions that the entries need.

use clap_complete::engine::ArgValueCompleter;

use crate::cli::context::entry_pattern::EntryPattern;
use crate::cli::context::invocation::Context;
use crate::cli::context::registry_selection::RegistrySelection;
use crate::cli::context::{completion, configuration};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::writer::{self, Output};
use crate::sync::{Endpoints, LoginAnswer, LoginReport, login_check};

/// Arguments of `transship login-check`.
#[derive(Debug, clap::Args)]
pub struct LoginCheck {
    /// Entries whose access to check ("app-*"), and registries of the configuration to check [default: all]
    #[arg(value_name = "ENTRY|HOST", add = ArgValueCompleter::new(completion::entries_and_registries))]
    pub selected: Vec<EntryPattern>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl LoginCheck {
    pub(crate) async fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        let config = configuration::load(&context.global)?;
        let endpoints = Endpoints::new(config.registries.clone(), configuration::unlisted_options());
        let selection = RegistrySelection::read(&self.selected, &config)?;
        let hosts: Vec<_> = selection.all_hosts(&config).into_iter().collect();
        let reports = login_check(&selection.restrict(&config), &endpoints, &hosts).await.map_err(Failure::usage)?;
        if self.json {
            context.output.json(&reports)?;
        } else if context.global.quiet {
            print_failures(&reports);
        } else {
            print(&reports, &mut context.output)?;
        }
        Ok(if reports.iter().all(LoginReport::is_ok) { Exit::Ok } else { Exit::Failed })
    }
}

/// Prints one block for each registry, with one line for each check.
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
            output.outcome_line(format!("  {:<6}  {}: {}", verdict(check), subject(check), check.detail))?;
        }
    }
    Ok(())
}

fn print_failures(reports: &[LoginReport]) {
    for report in reports {
        for check in report.checks.iter().filter(|check| !check.ok) {
            writer::print_error(format!("error: {}: {}: {}", report.registry, subject(check), check.detail));
        }
    }
}

fn verdict(check: &LoginAnswer) -> &'static str {
    match (check.ok, check.warning) {
        (true, false) => "ok",
        (true, true) => "warn",
        (false, _) => "failed",
    }
}

/// Returns the description of a check, such as `push to a/b as me (entry x)`.
fn subject(check: &LoginAnswer) -> String {
    let what = match (check.check, &check.repository) {
        ("push", Some(repository)) => format!("push to {repository}"),
        ("pull", Some(repository)) => format!("pull of {repository}"),
        ("mirror", Some(repository)) => format!("mirrored pull of {repository}"),
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
