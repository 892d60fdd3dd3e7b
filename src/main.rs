//! Entry point of the program: runs the command line and returns its exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    transship::cli::main(std::env::args_os())
}
