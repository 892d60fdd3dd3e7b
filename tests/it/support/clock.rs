//! A clock on the wall that a test sets, for programs that it starts: Debian's libfaketime.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicI64, Ordering};

use tempfile::TempDir;

/// How far the clock of a program goes ahead of the real one, or behind it.
#[derive(Debug)]
pub struct Clock {
    folder: TempDir,
    seconds: AtomicI64,
}

impl Clock {
    /// A clock that shows the real time.
    pub fn new() -> Self {
        let clock = Self { folder: TempDir::new().expect("a temporary folder"), seconds: AtomicI64::new(0) };
        clock.advance(0);
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
