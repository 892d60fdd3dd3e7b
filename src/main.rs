//! The program: turns a result into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    transship::cli::main(std::env::args_os())
}
