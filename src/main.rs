//! Entry point of the program: turns the result of the command line into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    transship::cli::main(std::env::args_os())
}
