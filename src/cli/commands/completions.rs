//! Command `transship completions SHELL`: prints the completion script of a shell, for packages and dotfiles.

use crate::cli::context::invocation::Context;
use crate::cli::exit::{Exit, Failure};

/// Arguments of `transship completions`.
#[derive(Debug, clap::Args)]
pub struct Completions {
    /// Shell to print the script for
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

impl Completions {
    /// Prints the script for the command line that `program` defines.
    pub(crate) fn perform(self, mut program: clap::Command, context: &mut Context) -> Result<Exit, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut program, "transship", &mut script);
        context.output.raw(&script)?;
        Ok(Exit::Ok)
    }
}
