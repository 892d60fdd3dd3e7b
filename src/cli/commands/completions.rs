//! Command `transship completions SHELL`: prints the completion script of a shell, for packages and dotfiles. The
//! script calls the program for each completion, so that the shell completes the names of entries as well.

use std::ffi::OsString;

use clap_complete::env::{CompleteEnv, Shells};

use crate::cli::context::invocation::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::writer;

/// Variable with the name of the shell that requests completions.
const VARIABLE: &str = "TRANSSHIP_COMPLETE";

/// Name of the program, as a script calls it.
const PROGRAM: &str = "transship";

/// Arguments of `transship completions`.
#[derive(Debug, clap::Args)]
pub struct Completions {
    /// Shell to print the script for
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

impl Completions {
    pub(crate) fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        let shell = self.shell.to_string();
        let shells = Shells::builtins();
        let completer =
            shells.completer(&shell).ok_or_else(|| anyhow::anyhow!("there is no completion script for {shell}"))?;
        let mut script = Vec::new();
        completer.write_registration(VARIABLE, PROGRAM, PROGRAM, PROGRAM, &mut script)?;
        context.output.raw(&script)?;
        Ok(Exit::Ok)
    }
}

/// Prints the completions of a command line if a completion script called the program. Returns the exit code in that
/// case. `program` returns the definition of the command line.
pub(crate) fn answer_shell(arguments: &[OsString], program: fn() -> clap::Command) -> Option<Exit> {
    // The crate reads the variable again, and treats an empty value as absent.
    std::env::var_os(VARIABLE)?;
    let folder = std::env::current_dir().ok();
    let complete = CompleteEnv::with_factory(program).var(VARIABLE).bin(PROGRAM).completer(PROGRAM);
    match complete.try_complete(arguments.iter().cloned(), folder.as_deref()) {
        Ok(true) => Some(Exit::Ok),
        Ok(false) => None,
        Err(error) => {
            writer::print_error(error);
            Some(Exit::Failed)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;
    use crate::cli::context::invocation::tests::context;
    use crate::cli::output::writer::tests::OutputBuffer;

    #[test]
    fn script_of_every_shell_calls_the_program() {
        for shell in clap_complete::Shell::value_variants() {
            let buffer = OutputBuffer::default();
            let mut context = Context { output: buffer.output(), ..context() };
            Completions { shell: *shell }.perform(&mut context).unwrap();
            let script = buffer.text();
            assert!(script.contains(VARIABLE) && script.contains("transship"), "{shell}: {script}");
        }
    }
}
