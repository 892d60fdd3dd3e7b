//! Tests of `kill -9` during a system call that changes the journal's files. `strace` kills the process, and the call
//! has no effect.

use std::collections::BTreeMap;
use std::process::Command;

use super::{Mirror, assert_tried, instants};
use crate::support::programs::{DEADLINE, Output, Running};

/// System calls by which SQLite changes a file.
const CALLS: [&str; 5] = ["pwrite64", "fdatasync", "fsync", "ftruncate", "unlink"];

/// Runs `transship once` under strace, which traces the system calls on the journal. `options` are further options of
/// strace.
fn traced(mirror: &Mirror, options: &[&str]) -> Output {
    let journal = mirror.site.journal().display().to_string();
    let once = mirror.site.command(&["once"]);
    let mut command = Command::new("strace");
    command.args(["--follow-forks", "--quiet=all", "--output", "calls"]).args(options);
    for end in ["", "-wal", "-shm", "-journal"] {
        command.arg(format!("--trace-path={journal}{end}"));
    }
    command.arg(once.get_program()).args(once.get_args()).current_dir(mirror.site.folder());
    for (name, value) in once.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Running::start(&mut command).wait(DEADLINE)
}

/// Returns the maximum number of each system call by one thread in a run without a kill, because strace counts by
/// thread.
fn calls(mirror: &Mirror) -> BTreeMap<&'static str, usize> {
    traced(mirror, &[&format!("--trace={}", CALLS.join(","))]).expect_success();
    let lines = std::fs::read_to_string(mirror.site.path("calls")).expect("the log of strace");
    let mut by_thread: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for line in lines.lines() {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        *by_thread.entry((thread, call.trim_start().split('(').next().unwrap_or_default())).or_default() += 1;
    }
    let most = |call| by_thread.iter().filter(|((_, name), _)| *name == call).map(|(_, count)| *count).max();
    CALLS.iter().filter_map(|call| Some((*call, most(*call)?))).collect()
}

#[test]
fn kill_during_any_journal_write_loses_nothing() {
    let calls = calls(&Mirror::new("{mode: monolithic}", 3000));
    let syncs = calls.contains_key("fsync") || calls.contains_key("fdatasync");
    assert!(calls.contains_key("pwrite64") && syncs, "{calls:?}");
    let (mut tried, mut killed) = (0, 0);
    for (call, times) in calls {
        for nth in instants(times, 3) {
            let instant = format!("killed inside {call} number {nth} of {times}");
            let mirror = Mirror::new("{mode: monolithic}", 3000);
            let kill = format!("--inject={call}:signal=KILL:when={nth}");
            let output = traced(&mirror, &[&format!("--trace={call}"), &kill]);
            killed += usize::from(output.status.code().is_none());
            mirror.assert_no_tag_is_broken(&instant);
            let again = mirror.once();
            assert_eq!(again.code(), 0, "{instant}: {}\n{}", again.stdout, again.stderr);
            mirror.assert_complete(&instant);
            tried += 1;
        }
    }
    assert!(2 * killed > tried, "{killed} of {tried} runs were killed");
    assert_tried("kill_during_any_journal_write_loses_nothing", tried);
}
