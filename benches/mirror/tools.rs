//! Measured tools: the floor, transship, skopeo, and tools from the option `--tool`. Each tool runs as one process.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde::Serialize;

use crate::corpus::Corpus;
use crate::floor;

/// Value of `daemon.memory` for transship, in MiB.
pub(crate) const MEMORY_MIB: u64 = 128;

/// Time between two reads of the peak memory.
const MEMORY_POLL: Duration = Duration::from_millis(5);

/// Tool that copies images.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Tool {
    /// Floor. The number is the maximum number of concurrent requests to each registry.
    Floor(usize),
    Transship,
    Skopeo,
    /// Name of a tool, and a command for `sh`. The command contains `{source}`, `{target}` and `{config}`.
    Other(String, String),
}

/// Work of one run: the source, the targets and the corpus.
pub(crate) struct Job<'a> {
    pub(crate) source: String,
    pub(crate) targets: Vec<String>,
    pub(crate) corpus: &'a Corpus,
    /// Folder for the configuration and the journal.
    pub(crate) folder: &'a Path,
    /// Maximum number of transship's concurrent requests to each registry.
    pub(crate) concurrent: usize,
    /// Certificate of the authority that signed the meters' certificates. `None` means plain HTTP.
    pub(crate) ca: Option<PathBuf>,
}

/// Resources that a run used.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Usage {
    #[serde(serialize_with = "seconds")]
    pub(crate) wall: Duration,
    /// User and system time of the process and its child processes, in steps of 10 ms.
    #[serde(serialize_with = "seconds")]
    pub(crate) cpu: Duration,
    /// Peak of the resident memory (`VmHWM`). The last read is at most 5 ms before the end of the process.
    pub(crate) peak_mib: f64,
    #[serde(skip)]
    pub(crate) began: Option<Instant>,
    /// Exit status and last log lines of a failed run.
    pub(crate) failure: Option<String>,
}

pub(crate) fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

impl Tool {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Floor(_) => "floor",
            Self::Transship => "transship",
            Self::Skopeo => "skopeo",
            Self::Other(name, _) => name,
        }
    }

    /// Returns a function that converts a source repository into the target repository. `skopeo sync` keeps only the
    /// last part of the name.
    pub(crate) fn renames(&self) -> fn(&str) -> &str {
        match self {
            Self::Skopeo => |name| name.rsplit('/').next().unwrap_or(name),
            _ => |name| name,
        }
    }

    pub(crate) fn run(&self, job: &Job<'_>) -> anyhow::Result<Usage> {
        measure(self.command(job)?)
    }

    fn command(&self, job: &Job<'_>) -> anyhow::Result<Command> {
        match self {
            Self::Floor(parallel) => floor_command(job, *parallel),
            Self::Transship => transship_command(job),
            Self::Skopeo => skopeo_command(job),
            Self::Other(_, line) => {
                let config = write(job, "sync.yaml", &transship_config(job))?;
                let line = line.replace("{source}", &job.source).replace("{config}", &config.to_string_lossy());
                let mut command = Command::new("sh");
                // With `exec`, the tool replaces the shell, and the benchmark measures the tool.
                command.arg("-c").arg(format!("exec {}", line.replace("{target}", &job.targets.join(","))));
                Ok(command)
            }
        }
    }
}

fn floor_command(job: &Job<'_>, parallel: usize) -> anyhow::Result<Command> {
    let work =
        floor::Work { source: job.source.clone(), targets: job.targets.clone(), parallel, corpus: job.corpus.clone() };
    let file = write(job, "floor.json", &serde_json::to_string(&work)?)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(floor::ARGUMENT).arg(file);
    Ok(command)
}

fn transship_command(job: &Job<'_>) -> anyhow::Result<Command> {
    let config = write(job, "sync.yaml", &transship_config(job))?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_transship"));
    clear_environment(&mut command);
    if std::env::var_os("TRANSSHIP_LOG").is_none() {
        command.env("TRANSSHIP_LOG", "warn");
    }
    if let Some(ca) = &job.ca {
        command.env("SSL_CERT_FILE", ca);
    }
    command.arg("once").arg("--config").arg(config);
    Ok(command)
}

/// Removes the environment variables that transship reads.
pub(crate) fn clear_environment(command: &mut Command) {
    for name in ["TRANSSHIP_CONFIG", "STATE_DIRECTORY", "XDG_STATE_HOME", "NOTIFY_SOCKET", "RUST_LOG"] {
        command.env_remove(name);
    }
    for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"] {
        command.env_remove(name);
    }
}

/// Returns a configuration with one entry for each repository. The limits are high, as for a private registry.
fn transship_config(job: &Job<'_>) -> String {
    let journal = job.folder.join("journal.db");
    let mut text = format!(
        "version: 1\ndaemon:\n  journal: {}\n  status: off\n  entries_at_once: 32\n  memory: {MEMORY_MIB}MiB\n\
         registries:\n",
        journal.display()
    );
    for host in job.targets.iter().chain([&job.source]) {
        let plain = if job.ca.is_none() { "plain_http: true, " } else { "" };
        text += &format!("  \"{host}\": {{{plain}limits: {{concurrent: {}}}}}\n", job.concurrent);
    }
    text += "sync:\n";
    for repository in &job.corpus.repositories {
        let name = &repository.name;
        let targets: Vec<String> = job.targets.iter().map(|target| format!("\"{target}/{name}\"")).collect();
        let (entry, source) = (name.replace('/', "-"), &job.source);
        text += &format!("  - {{name: {entry}, source: \"{source}/{name}\", targets: [{}]}}\n", targets.join(", "));
    }
    text
}

fn skopeo_command(job: &Job<'_>) -> anyhow::Result<Command> {
    let [target] = &job.targets[..] else { anyhow::bail!("skopeo supports only one target") };
    let mut text = format!("\"{}\":\n  tls-verify: false\n  images:\n", job.source);
    for repository in &job.corpus.repositories {
        text += &format!("    {}: []\n", repository.name);
    }
    let file = write(job, "skopeo.yaml", &text)?;
    let mut command = Command::new("skopeo");
    command.args([
        "--insecure-policy",
        "sync",
        "--all",
        "--dest-tls-verify=false",
        "--src",
        "yaml",
        "--dest",
        "docker",
    ]);
    command.arg(file).arg(target);
    Ok(command)
}

fn write(job: &Job<'_>, name: &str, text: &str) -> anyhow::Result<PathBuf> {
    let path = job.folder.join(name);
    std::fs::write(&path, text).with_context(|| path.display().to_string())?;
    Ok(path)
}

/// Runs a command until the command ends. The CPU time is the increase of the CPU time of all ended child processes.
/// During the measurement, no other child process may end.
pub(crate) fn measure(mut command: Command) -> anyhow::Result<Usage> {
    let program = command.get_program().to_string_lossy().into_owned();
    let log = tempfile::NamedTempFile::new()?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.reopen()?);
    let before = children_cpu()?;
    let began = Instant::now();
    let mut child = command.spawn().with_context(|| format!("{program} cannot be started"))?;
    let ended = Arc::new(AtomicBool::new(false));
    let watcher = {
        let (ended, process) = (ended.clone(), child.id());
        std::thread::spawn(move || watch_memory(process, &ended))
    };
    let status = child.wait()?;
    let wall = began.elapsed();
    ended.store(true, Ordering::Relaxed);
    let peak_mib = watcher.join().unwrap_or_default() as f64 / 1024.0;
    let cpu = children_cpu()?.saturating_sub(before);
    let failure = (!status.success()).then(|| {
        let log = std::fs::read_to_string(log.path()).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(5).collect();
        format!("{program}: {status}: {}", last.into_iter().rev().collect::<Vec<_>>().join(" | "))
    });
    Ok(Usage { wall, cpu, peak_mib, began: Some(began), failure })
}

/// Returns the peak of a process's resident memory, in KiB. The function reads the peak at intervals, and may miss an
/// increase directly before the end.
fn watch_memory(process: u32, ended: &AtomicBool) -> u64 {
    let mut most = 0;
    while !ended.load(Ordering::Relaxed) {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let mark =
            status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        most = most.max(mark.unwrap_or(0));
        std::thread::sleep(MEMORY_POLL);
    }
    most
}

/// Returns the CPU time of all child processes that have ended.
fn children_cpu() -> anyhow::Result<Duration> {
    cpu("self", 13)
}

/// Returns the CPU time of a process. `process` is a process id or `self`.
pub(crate) fn own_cpu(process: &str) -> anyhow::Result<Duration> {
    cpu(process, 11)
}

/// Returns the sum of two adjacent fields of `/proc/PID/stat`. Field 0 is the process state (proc(5)).
fn cpu(process: &str, first: usize) -> anyhow::Result<Duration> {
    const TICK: Duration = Duration::from_millis(10);
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("/proc/PID/stat")?;
    let ticks: Vec<u32> =
        fields.split_whitespace().skip(first).take(2).filter_map(|field| field.parse().ok()).collect();
    ensure!(ticks.len() == 2, "/proc/PID/stat has other fields than expected");
    Ok(TICK * ticks.iter().sum::<u32>())
}
