//! Command `transship completions SHELL`: prints a completion script for a shell. At each completion, the script calls
//! transship, which completes the names of commands, options and entries.

use std::ffi::OsString;

use clap_complete::env::{CompleteEnv, Shells};

use crate::cli::context::invocation::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::writer;

/// Environment variable that a completion script sets to the name of its shell.
const VARIABLE: &str = "TRANSSHIP_COMPLETE";

/// Name of the program in a completion script.
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

/// If a completion script called the program, prints the completions of the command line and returns the exit code.
/// `program` returns the definition of the command line.
pub(crate) fn answer_shell(arguments: &[OsString], program: fn() -> clap::Command) -> Option<Exit> {
    // `CompleteEnv` treats an empty variable like an absent variable.
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
