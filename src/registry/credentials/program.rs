//! Runs a program that knows a secret: for a limited time, with a limited output, and without a word of it in an error.

use std::ffi::{OsStr, OsString};
use std::io::{Error, ErrorKind as Io};
use std::process::Stdio;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
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
    /// Variables that they get beside those of this process that [`is_passed_on`].
    pub(crate) variables: Vec<(String, SecretString)>,
}

impl Default for Programs {
    fn default() -> Self {
        Self { path: None, limit: Duration::from_secs(30), variables: Vec::new() }
    }
}

/// The variables that a program gets of this process: what it needs to be found, to find its files, to get out, and to ask a
/// cloud. All others may be secrets of somebody else: `sync.yaml` takes its secrets from there.
const PASSED_ON: [&str; 16] = [
    "PATH",
    "HOME",
    "DOCKER_CONFIG",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "IDENTITY_ENDPOINT",
    "IDENTITY_HEADER",
    "IMDS_ENDPOINT",
    "MSI_ENDPOINT",
    "MSI_SECRET",
];

/// The beginnings of the names that clouds give to variables of their tools.
const OF_CLOUDS: [&str; 5] = ["AWS_", "AZURE_", "CLOUDSDK_", "GCE_METADATA_", "GOOGLE_"];

/// Whether programs get a variable of this process.
fn is_passed_on(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    PASSED_ON.contains(&name.as_ref()) || OF_CLOUDS.iter().any(|beginning| name.starts_with(beginning))
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
        command.env_clear().envs(std::env::vars_os().filter(|(name, _)| is_passed_on(name)));
        command.envs(self.variables.iter().map(|(name, value)| (name, value.expose_secret())));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_gets_no_variable_that_may_be_a_secret_of_others() {
        for name in
            ["PATH", "HOME", "DOCKER_CONFIG", "https_proxy", "AWS_PROFILE", "AZURE_CLIENT_ID", "CLOUDSDK_CONFIG"]
        {
            assert!(is_passed_on(OsStr::new(name)), "{name}");
        }
        for name in
            ["PASSWORD", "REGISTRY_TOKEN", "LD_PRELOAD", "PATH_", "XAWS_PROFILE", "NOTIFY_SOCKET", "TRANSSHIP_LOG"]
        {
            assert!(!is_passed_on(OsStr::new(name)), "{name}");
        }
    }
}
