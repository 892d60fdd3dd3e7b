//! Runs a program that knows a secret: for a limited time, with a limited output, and without a word of it in an error.

use std::ffi::{OsStr, OsString};
use std::io::{Error, ErrorKind as Io};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use crate::store::ErrorKind;

/// The most that a program may print: no secret comes near.
const MAX_OUTPUT: u64 = 64 * 1024;

/// How programs are found and how long they may take.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    /// Where programs are looked for; `None` is this process's own `PATH`.
    pub(crate) path: Option<OsString>,
    /// The time for one to end.
    pub(crate) limit: Duration,
}

impl Default for Programs {
    fn default() -> Self {
        Self { path: None, limit: Duration::from_secs(30) }
    }
}

/// What a program that ended has printed, and whether it ended well.
#[derive(Debug)]
pub(super) struct Ended {
    /// What it printed.
    pub(super) output: Vec<u8>,
    /// `None` after exit code 0, else how it ended: "exit status: 1".
    pub(super) failure: Option<String>,
}

impl Programs {
    /// Runs `program` with `input` to read, to its end. What is wrong comes as a fragment: "cannot be started: …".
    pub(super) async fn run(
        &self,
        program: &OsStr,
        arguments: &[String],
        input: &str,
    ) -> Result<Ended, (ErrorKind, String)> {
        let mut child = self.start(program, arguments).await.map_err(|error| match error.kind() {
            Io::NotFound => (ErrorKind::Denied, "is not installed, or not in PATH".to_owned()),
            _ => (ErrorKind::Denied, format!("cannot be started: {error}")),
        })?;
        let late = |_| format!("did not end within {}", humantime::format_duration(self.limit));
        // The child is killed when it is dropped.
        let finished = tokio::time::timeout(self.limit, finish(&mut child, input)).await.map_err(late);
        finished.flatten().map_err(|reason| (ErrorKind::Unavailable, reason))
    }

    async fn start(&self, program: &OsStr, arguments: &[String]) -> Result<Child, Error> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        if let Some(path) = &self.path {
            command.env("PATH", path);
        }
        for _ in 0..10 {
            match command.spawn() {
                // It is being replaced just now.
                Err(error) if error.kind() == Io::ExecutableFileBusy => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                started => return started,
            }
        }
        command.spawn()
    }
}

async fn finish(child: &mut Child, input: &str) -> Result<Ended, String> {
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read its input says what is wrong by how it ends.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        let read = stdout.take(MAX_OUTPUT + 1).read_to_end(&mut output).await;
        read.map_err(|error| format!("cannot be read: {error}"))?;
    }
    if output.len() as u64 > MAX_OUTPUT {
        return Err(format!("printed more than {MAX_OUTPUT} bytes"));
    }
    let status = child.wait().await.map_err(|error| format!("cannot be waited for: {error}"))?;
    Ok(Ended { output, failure: (!status.success()).then(|| status.to_string()) })
}
