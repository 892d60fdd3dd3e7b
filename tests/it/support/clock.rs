//! Wall clock that a test sets for the programs that it starts, by Debian's libfaketime.
//!
//! The tests themselves may run under another clock (`tests/clocks`). Then `TRANSSHIP_TEST_CLOCK` contains the seconds
//! by which that clock is ahead of the machine's, and each [`Clock`] adds this offset.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use tempfile::TempDir;

/// Variable with the seconds by which the clock of the tests is ahead of the machine's.
const TEST_CLOCK: &str = "TRANSSHIP_TEST_CLOCK";

/// Returns the time of the machine's clock, whatever the time of the tests is.
pub fn machine_time() -> DateTime<Utc> {
    Utc::now() - TimeDelta::seconds(test_clock_offset())
}

fn test_clock_offset() -> i64 {
    std::env::var(TEST_CLOCK).map_or(0, |seconds| seconds.parse().expect("seconds"))
}

/// Makes a program use the machine's clock, whatever the time of the tests is.
pub fn use_machine_clock(command: &mut Command) {
    for name in ["LD_PRELOAD", "FAKETIME", "FAKETIME_DONT_FAKE_MONOTONIC", "NO_FAKE_STAT"] {
        command.env_remove(name);
    }
}

/// Clock with an offset from the machine's clock.
#[derive(Debug)]
pub struct Clock {
    folder: TempDir,
    seconds: AtomicI64,
}

impl Clock {
    /// Returns a clock that shows the time of the tests.
    pub fn new() -> Self {
        let seconds = AtomicI64::new(test_clock_offset());
        let clock = Self { folder: TempDir::new().expect("a temporary folder"), seconds };
        clock.advance(0);
        clock
    }

    /// Returns a clock that shows this time now, whatever the time of the tests is.
    pub fn showing(time: &str) -> Self {
        let clock = Self::new();
        let time: DateTime<Utc> = time.parse().expect("an instant");
        clock.advance(time.timestamp() - Utc::now().timestamp());
        clock
    }

    /// Advances the clock, or sets it back if `seconds` is negative.
    pub fn advance(&self, seconds: i64) {
        let now = self.seconds.fetch_add(seconds, Ordering::Relaxed) + seconds;
        let new = self.folder.path().join("new");
        std::fs::write(&new, format!("{now:+}\n")).expect("a file in a temporary folder");
        std::fs::rename(new, self.file()).expect("a name in a temporary folder");
    }

    /// Makes a program use this clock. Timers and the times of files stay real, because timers use the monotonic clock
    /// and the kernel sets the times of files.
    pub fn apply_to(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", library())
            // The variable would override the file.
            .env_remove("FAKETIME")
            .env("FAKETIME_TIMESTAMP_FILE", self.file())
            // Read the file at each call, not every ten seconds.
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("NO_FAKE_STAT", "1");
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("clock")
    }
}

/// Returns the path of the library in Debian's package, which depends on the machine's architecture.
fn library() -> PathBuf {
    let triples = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let found = triples.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1")).find(|path| path.exists());
    found.expect("libfaketime is missing: tests/run installs what the tests need")
}
