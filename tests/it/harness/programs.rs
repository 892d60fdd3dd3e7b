//! Tests of the helpers that run programs: capture of output, signals, and the end of a program with its handle.

use std::process::Command;

use crate::support::programs::{DEADLINE, Running, transship};

fn sleeper() -> Running {
    let script = "echo ready; echo warning >&2; trap 'echo bye; exit 7' TERM; while :; do sleep 0.05; done";
    let mut running = Running::start(Command::new("sh").args(["-c", script]));
    running.wait_until("its first line", |running| running.stderr().contains("warning").then_some(()));
    running
}

#[test]
fn program_output_signals_and_exit_are_observed() {
    let running = sleeper();
    assert_eq!(running.stdout(), "ready\n");
    running.signal("TERM");
    let output = running.wait(DEADLINE);
    assert_eq!((output.code(), output.stdout.as_str(), output.stderr.as_str()), (7, "ready\nbye\n", "warning\n"));
    assert_eq!(sleeper().kill().code(), -1);
}

#[test]
fn dropped_program_is_killed() {
    let running = sleeper();
    let process = format!("/proc/{}", running.id());
    assert!(std::path::Path::new(&process).exists());
    drop(running);
    assert!(!std::path::Path::new(&process).exists());
}

#[test]
#[should_panic(expected = "tests/run installs what the tests need")]
fn missing_program_is_reported_with_an_install_hint() {
    Running::start(&mut Command::new("no-such-program"));
}

#[test]
fn transship_can_be_run() {
    let output = transship(&["--version"]).expect_success();
    assert_eq!(output.stderr, "");
}
