//! What `packaging/` holds, judged by the programs that it is for.

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

/// How long such a program may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(300);

/// A file of this repository.
fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The text of a file of this repository.
fn text(name: &str) -> String {
    std::fs::read_to_string(file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Runs a program to its end.
fn run(command: &mut Command) -> Output {
    Running::start(command).wait(DEADLINE)
}
