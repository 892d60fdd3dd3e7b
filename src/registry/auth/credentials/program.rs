//! Runner of programs that print a secret. The runner limits the time and the output of a program. No error message
//! contains the output of a program.

use std::ffi::{OsStr, OsString};
use std::io::{Error, ErrorKind as Io};
use std::process::Stdio;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use crate::store::ErrorKind;

/// Maximum number of bytes that a program may print.
const MAX_OUTPUT: u64 = 64 * 1024;

/// Search path, time limit and environment variables of programs.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    /// Search path of programs; `None` means the `PATH` of this process.
    pub(crate) path: Option<OsString>,
    /// Time limit of one run of a program.
    pub(crate) limit: Duration,
    /// Additional environment variables of a program. The program also inherits the variables that [`is_passed_on`]
    /// selects.
    pub(crate) variables: Vec<(String, SecretString)>,
}

impl Default for Programs {
    fn default() -> Self {
        Self { path: None, limit: Duration::from_secs(30), variables: Vec::new() }
    }
}

/// Environment variables of this process that a program inherits: search path, files, proxy and cloud. A program
/// inherits no other variables, because other variables can contain the secrets of other registries.
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

/// Prefixes of more variables that a program inherits. The command-line tools of the clouds read these variables.
const CLOUD_PREFIXES: [&str; 5] = ["AWS_", "AZURE_", "CLOUDSDK_", "GCE_METADATA_", "GOOGLE_"];

/// Returns true if a program inherits this environment variable of this process.
fn is_passed_on(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    PASSED_ON.contains(&name.as_ref()) || CLOUD_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Output and exit status of a program that has ended.
#[derive(Debug)]
pub(super) struct ProgramOutput {
    /// Standard output of the program.
    pub(super) output: Vec<u8>,
    /// `None` after exit code 0, otherwise the exit status as text: "exit status: 1".
    pub(super) failure: Option<String>,
}

impl Programs {
    /// Runs `program` with `input` as standard input, and waits until the program ends. The text of an error is the end
    /// of a sentence that begins with the program's name: "cannot be started: …".
    pub(super) async fn run(
        &self,
        program: &OsStr,
        arguments: &[String],
        input: &str,
    ) -> Result<ProgramOutput, (ErrorKind, String)> {
        let mut child = self.start(program, arguments).await.map_err(|error| match error.kind() {
            Io::NotFound => (ErrorKind::Denied, "is not installed, or not in PATH".to_owned()),
            _ => (ErrorKind::Denied, format!("cannot be started: {error}")),
        })?;
        let late = |_| format!("did not end within {}", humantime::format_duration(self.limit));
        // Dropping the child kills the program.
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
                // Another process is still writing the file of the program.
                Err(error) if error.kind() == Io::ExecutableFileBusy => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                started => return started,
            }
        }
        command.spawn()
    }
}

async fn finish(child: &mut Child, input: &str) -> Result<ProgramOutput, String> {
    if let Some(mut stdin) = child.stdin.take() {
        // A program can ignore its input, so a failed write is not an error.
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
    Ok(ProgramOutput { output, failure: (!status.success()).then(|| status.to_string()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_inherits_no_variable_that_may_be_secret() {
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
