//! Health checks at the daemon's status port, while slow clients crowd it. Each slow client sends a part of a request's head and then
//! one byte more from time to time; one that the daemon ends comes back at once.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use crate::Bench;
use crate::report::{Figure, Report};
use crate::tools;

/// How many clients are slow.
const SLOW: usize = 500;
/// How long a slow client waits before its next byte.
const DRIP: Duration = Duration::from_millis(200);
/// How many ask for health at once, each one check after the other.
const ASKERS: usize = 4;
/// The pause of an asker between two checks, so that the checks spread over the time of the crowd.
const PAUSE: Duration = Duration::from_millis(5);
/// How long a check may take before it counts as refused.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the crowd is there before the first check.
const HEAD_START: Duration = Duration::from_secs(1);

pub(super) fn health_checks(bench: &Bench) -> anyhow::Result<Report> {
    let checks = if bench.options.quick { 1_000 } else { 10_000 };
    let folder = tempfile::tempdir()?;
    let daemon = Daemon::start(folder.path())?;
    let measured = bench.wait(measure(daemon.address, checks))?;
    drop(daemon);

    let mut times: Vec<f64> = measured.iter().flatten().map(Duration::as_secs_f64).map(|time| time * 1e3).collect();
    times.sort_by(f64::total_cmp);
    let refused = measured.len() - times.len();
    let quantile = |part: f64| {
        let at = (times.len() as f64 * part).ceil() as usize;
        times.get(at.clamp(1, times.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
    };
    let mut report = Report::new("slow-clients");
    report.figures = vec![
        Figure::count("health checks refused", refused as f64, 0.0),
        Figure::time("99.9 % of the health checks, ms", quantile(0.999), 100.0),
    ];
    report.notes.push(format!(
        "{} health checks beside {SLOW} slow clients: median {:.1} ms, 90 % {:.1} ms, 99 % {:.1} ms, 99.9 % {:.1} ms, longest {:.1} ms",
        measured.len(),
        quantile(0.5),
        quantile(0.9),
        quantile(0.99),
        quantile(0.999),
        quantile(1.0),
    ));
    Ok(report)
}

/// The time of each health check; `None` where it was refused. Who asks has threads of its own: what the crowd costs this process is
/// not to count for the daemon.
async fn measure(address: SocketAddr, checks: usize) -> anyhow::Result<Vec<Option<Duration>>> {
    let mut crowd = JoinSet::new();
    for _ in 0..SLOW {
        crowd.spawn(dawdle(address));
    }
    tokio::time::sleep(HEAD_START).await;
    let askers: Vec<_> =
        (0..ASKERS).map(|_| tokio::task::spawn_blocking(move || ask(address, checks / ASKERS))).collect();
    let mut all = Vec::new();
    for times in askers {
        all.extend(times.await?);
    }
    anyhow::ensure!(crowd.try_join_next().is_none(), "the crowd has to stay until the end");
    Ok(all)
}

fn ask(address: SocketAddr, checks: usize) -> Vec<Option<Duration>> {
    let mut times = Vec::new();
    for _ in 0..checks {
        let began = Instant::now();
        times.push(check(address).is_ok_and(|healthy| healthy).then(|| began.elapsed()));
        std::thread::sleep(PAUSE);
    }
    times
}

/// One health check over a connection of its own; `false` is another answer than 200.
fn check(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer.starts_with(b"HTTP/1.1 200 "))
}

/// A slow client, for ever.
async fn dawdle(address: SocketAddr) {
    loop {
        let dawdling = async {
            let mut stream = tokio::net::TcpStream::connect(address).await?;
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: ").await?;
            loop {
                let mut byte = [0];
                match tokio::time::timeout(DRIP, stream.read(&mut byte)).await {
                    Ok(Ok(0) | Err(_)) => return std::io::Result::Ok(()),
                    Ok(Ok(_)) => {}
                    Err(_) => stream.write_all(b"x").await?,
                }
            }
        };
        if dawdling.await.is_err() {
            // Its connection was refused or reset.
            tokio::task::yield_now().await;
        }
    }
}

/// A daemon with nothing to do, ended with this value.
struct Daemon {
    child: Child,
    address: SocketAddr,
}

impl Daemon {
    fn start(folder: &std::path::Path) -> anyhow::Result<Self> {
        let config = folder.join("sync.yaml");
        let text = format!(
            "version: 1\ndaemon: {{journal: {}, status: \"127.0.0.1:0\"}}\nsync:\n  \
             - {{name: idle, source: \"oci-layout:{1}/from\", target: \"oci-layout:{1}/to\", schedule: never}}\n",
            folder.join("journal.db").display(),
            folder.display()
        );
        std::fs::write(&config, text)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_transship"));
        tools::clear_environment(&mut command);
        command.env("TRANSSHIP_LOG", "info").args(["run", "--config"]).arg(config);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let log = BufReader::new(child.stderr.take().context("the daemon's log")?);
        let mut daemon = Self { child, address: ([127, 0, 0, 1], 0).into() };
        let mut lines = log.lines();
        daemon.address = loop {
            let line = lines.next().context("the daemon ended before its status port answered")??;
            if let Some((_, rest)) = line.split_once("the status port answers address=") {
                break rest.split_whitespace().next().unwrap_or_default().parse()?;
            }
        };
        // Read to its end, so that the daemon never waits for its log.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(daemon)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
