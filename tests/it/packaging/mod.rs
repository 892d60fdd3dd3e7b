//! Tests of the files in `packaging/` with the programs that use them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::programs::{Output, Running};

mod container;
pub(crate) mod debian;
mod helm;
mod kubernetes;
pub(crate) mod prometheus;
mod systemd;

/// Time limit for a program on a busy machine.
const DEADLINE: Duration = Duration::from_secs(300);

/// Returns the path of a file of this repository.
fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Returns the text of a file of this repository.
fn text(name: &str) -> String {
    std::fs::read_to_string(file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Runs a program to its end.
fn run(command: &mut Command) -> Output {
    Running::start(command).wait(DEADLINE)
}
