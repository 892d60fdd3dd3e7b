//! Command `transship completions SHELL`: prints the completion script of a shell, for packages and dotfiles.

use clap::CommandFactory as _;

use crate::cli::arguments::Arguments;
use crate::cli::exit::{Exit, Failure};
use crate::cli::main::Context;

/// Arguments of `transship completions`.
#[derive(Debug, clap::Args)]
pub struct Completions {
    /// Shell to print the script for
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

impl Completions {
    pub(crate) fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Arguments::command(), "transship", &mut script);
        context.output.raw(&script)?;
        Ok(Exit::Ok)
    }
}
