//! Case `slow-clients`: health checks at the daemon's status port while 500 slow clients occupy the port. A slow client
//! sends a request one byte at a time. If the daemon disconnects a slow client, the client reconnects immediately.

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

const SLOW: usize = 500;
/// Time between two bytes of a slow client.
const DRIP: Duration = Duration::from_millis(200);
/// Number of threads that make health checks, one check at a time.
const CHECKERS: usize = 4;
/// Time between two checks of one thread.
const PAUSE: Duration = Duration::from_millis(5);
/// Time limit of a check. A check that takes longer counts as refused.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for which the slow clients run before the first check.
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
        "{} health checks beside {SLOW} slow clients: median {:.1} ms, 90 % {:.1} ms, 99 % {:.1} ms, 99.9 % {:.1} ms, \
         longest {:.1} ms",
        measured.len(),
        quantile(0.5),
        quantile(0.9),
        quantile(0.99),
        quantile(0.999),
        quantile(1.0),
    ));
    Ok(report)
}

/// Returns the duration of each health check. `None` means a refused check. The checks run on separate threads, so the
/// slow clients of this process do not delay the checks.
async fn measure(address: SocketAddr, checks: usize) -> anyhow::Result<Vec<Option<Duration>>> {
    let mut crowd = JoinSet::new();
    for _ in 0..SLOW {
        crowd.spawn(run_slow_client(address));
    }
    tokio::time::sleep(HEAD_START).await;
    let checkers: Vec<_> =
        (0..CHECKERS).map(|_| tokio::task::spawn_blocking(move || run_checks(address, checks / CHECKERS))).collect();
    let mut all = Vec::new();
    for times in checkers {
        all.extend(times.await?);
    }
    anyhow::ensure!(crowd.try_join_next().is_none(), "a slow client ended before the checks did");
    Ok(all)
}

fn run_checks(address: SocketAddr, checks: usize) -> Vec<Option<Duration>> {
    let mut times = Vec::new();
    for _ in 0..checks {
        let began = Instant::now();
        times.push(check(address).is_ok_and(|healthy| healthy).then(|| began.elapsed()));
        std::thread::sleep(PAUSE);
    }
    times
}

/// Makes one health check over a new connection. Returns true if the status is 200.
fn check(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, CHECK_TIMEOUT)?;
    stream.set_read_timeout(Some(CHECK_TIMEOUT))?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer.starts_with(b"HTTP/1.1 200 "))
}

/// Runs one slow client forever.
async fn run_slow_client(address: SocketAddr) {
    loop {
        let connection = async {
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
        if connection.await.is_err() {
            // The daemon closed or refused the connection. Before a new attempt, other tasks can run.
            tokio::task::yield_now().await;
        }
    }
}

/// Process of an idle daemon. Dropping the value ends the process.
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
            if let Some((_, rest)) = line.split_once("the status port listens address=") {
                break rest.split_whitespace().next().unwrap_or_default().parse()?;
            }
        };
        // If nobody reads the log, the pipe becomes full and the daemon blocks.
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
