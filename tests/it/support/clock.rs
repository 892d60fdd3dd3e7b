//! A clock on the wall that a test sets, for programs that it starts: Debian's libfaketime.
//!
//! The tests themselves may run by another clock (`tests/clocks`): then `TRANSSHIP_TEST_CLOCK` has how many seconds that one is ahead
//! of the machine's, and programs go by theirs on top of it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use tempfile::TempDir;

/// How many seconds the clock of the tests is ahead of the machine's.
const OF_THE_TESTS: &str = "TRANSSHIP_TEST_CLOCK";

/// The time by the machine's clock, whatever the time of the tests is.
pub fn of_the_machine() -> DateTime<Utc> {
    Utc::now() - TimeDelta::seconds(ahead_of_the_machine())
}

fn ahead_of_the_machine() -> i64 {
    std::env::var(OF_THE_TESTS).map_or(0, |seconds| seconds.parse().expect("seconds"))
}

/// Lets a program go by the machine's clock, whatever the time of the tests is.
pub fn unrule(command: &mut Command) {
    for name in ["LD_PRELOAD", "FAKETIME", "FAKETIME_DONT_FAKE_MONOTONIC", "NO_FAKE_STAT"] {
        command.env_remove(name);
    }
}

/// How far the clock of a program goes ahead of the machine's, or behind it.
#[derive(Debug)]
pub struct Clock {
    folder: TempDir,
    seconds: AtomicI64,
}

impl Clock {
    /// A clock that shows the time of the tests.
    pub fn new() -> Self {
        let seconds = AtomicI64::new(ahead_of_the_machine());
        let clock = Self { folder: TempDir::new().expect("a temporary folder"), seconds };
        clock.advance(0);
        clock
    }

    /// A clock that shows this time now, whatever the time of the tests is.
    pub fn showing(time: &str) -> Self {
        let clock = Self::new();
        let time: DateTime<Utc> = time.parse().expect("an instant");
        clock.advance(time.timestamp() - Utc::now().timestamp());
        clock
    }

    /// Sets it forward, or back.
    pub fn advance(&self, seconds: i64) {
        let now = self.seconds.fetch_add(seconds, Ordering::Relaxed) + seconds;
        let new = self.folder.path().join("new");
        std::fs::write(&new, format!("{now:+}\n")).expect("a file in a temporary folder");
        std::fs::rename(new, self.file()).expect("a name in a temporary folder");
    }

    /// Lets a program go by it. Timers stay real, as they go by the monotonic clock; so do the times of files.
    pub fn rule(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", library())
            // It would go before the file.
            .env_remove("FAKETIME")
            .env("FAKETIME_TIMESTAMP_FILE", self.file())
            // Looked at each time, not every ten seconds.
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("NO_FAKE_STAT", "1");
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("clock")
    }
}

/// Where Debian's package has it, by the machine's kind.
fn library() -> PathBuf {
    let triples = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let found = triples.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1")).find(|path| path.exists());
    found.expect("libfaketime is missing: tests/run installs what the tests need")
}
