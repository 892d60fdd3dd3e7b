//! `transship status`: what the daemon is doing, asked at its status port, else the journal's last word.

use std::time::Duration;

use anyhow::anyhow;
use chrono::{DateTime, Utc};

use super::exit::{Exit, Failure};
use super::output::Output;
use super::start::Context;
use super::table::{Align, Table};
use super::{configuration, history, units};
use crate::config::StatusPort;
use crate::journal::Journal;
use crate::status::{EntryState, Quota, Snapshot, TransferState};

/// How long the daemon may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The arguments of `transship status`.
#[derive(Debug, clap::Args)]
pub struct Status {
    /// Where the status port is, ADDRESS:PORT or unix:PATH; by default where the configuration says
    #[arg(long, value_name = "PLACE", value_parser = status_port)]
    pub at: Option<StatusPort>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

fn status_port(text: &str) -> Result<StatusPort, String> {
    match text.strip_prefix("unix:") {
        Some(path) => Ok(StatusPort::Unix(path.into())),
        None => text.parse().map(StatusPort::Tcp).map_err(|_| "expected 127.0.0.1:9180 or unix:PATH".to_owned()),
    }
}

/// Asks the daemon.
async fn ask(port: &StatusPort) -> Result<Snapshot, anyhow::Error> {
    let client = reqwest::Client::builder().no_proxy().timeout(ANSWER_WITHIN);
    let (client, url) = match port {
        StatusPort::Tcp(address) => (client, format!("http://{address}/status")),
        StatusPort::Unix(path) => (client.unix_socket(path.clone()), "http://localhost/status".to_owned()),
        StatusPort::Off => return Err(anyhow!("the configuration says `status: off`")),
    };
    // The innermost cause tells a person most: the rest says that a request failed.
    let silent =
        |error: reqwest::Error| anyhow!("no daemon answers at {port}: {}", anyhow::Error::from(error).root_cause());
    let answer = client.build()?.get(url).send().await.and_then(|answer| answer.error_for_status()).map_err(silent)?;
    // Another version may have a shape of its own: that is said rather than half understood.
    let body: serde_json::Value = answer.json().await.map_err(silent)?;
    match body["version"].as_u64() {
        Some(version) if version == u64::from(Snapshot::VERSION) => Ok(serde_json::from_value(body)?),
        version => {
            Err(anyhow!("the daemon at {port} tells its status in version {version:?}, which this program cannot read"))
        }
    }
}

/// Prints a snapshot for people.
fn print(snapshot: &Snapshot, now: DateTime<Utc>, output: &mut Output) -> std::io::Result<()> {
    let up = units::between(snapshot.started, now);
    let ready = if snapshot.obstacles().is_empty() { "ready" } else { "not ready" };
    output.line(format!("running for {up}, {ready}"))?;
    for obstacle in snapshot.obstacles() {
        output.line(format!("  {obstacle}"))?;
    }
    if let Some(loaded) = snapshot.configuration.loaded_at {
        output.line(format!("configuration {} read {}", snapshot.configuration.path, units::moment(loaded)))?;
    }
    if let Some(problem) = &snapshot.configuration.problem {
        output.line(format!("the last edit was refused, the configuration before it goes on:\n{problem}"))?;
    }
    output.line("")?;
    output.table(&entries(&snapshot.entries))?;
    for entry in &snapshot.entries {
        if let Some(error) = entry.last_run.as_ref().and_then(|run| run.error.as_ref()) {
            let again =
                if entry.failures > 1 { format!(" ({} times in a row)", entry.failures) } else { String::new() };
            output.line(format!("{}: {error}{again}", entry.name))?;
        }
    }
    for quota in &snapshot.quotas {
        output.line(pulls_left(quota))?;
    }
    if !snapshot.in_flight.is_empty() {
        output.line("")?;
        output.table(&transfers(&snapshot.in_flight))?;
    }
    Ok(())
}

/// `docker.io as mirror-bot: 76 of 200 pulls left in 6h, 20 kept back (told 2026-11-21T09:00:00Z)`.
fn pulls_left(quota: &Quota) -> String {
    let Quota { registry, identity, limit, window_seconds, remaining, kept, told } = quota;
    let window = humantime::format_duration(Duration::from_secs(*window_seconds));
    let kept = if *kept > 0 { format!(", {kept} kept back") } else { String::new() };
    let told = units::moment(*told);
    format!("{registry} as {identity}: {remaining} of {limit} pulls left in {window}{kept} (told {told})")
}

fn entries(entries: &[EntryState]) -> Table {
    let mut table = Table::new(&[
        ("ENTRY", Align::Left),
        ("NOW", Align::Left),
        ("LAST RUN", Align::Left),
        ("OUTCOME", Align::Left),
        ("TAGS", Align::Left),
        ("NEXT RUN", Align::Left),
    ]);
    for entry in entries {
        let running = entry.running.as_ref();
        let idle = if entry.paused_since.is_some() { "paused" } else { "idle" };
        let now = running.map_or_else(|| idle.into(), |run| format!("running since {}", units::moment(run.since)));
        let next = entry.next_firing.map_or_else(|| not_by_itself(entry), units::moment);
        let (ended, outcome, tags) = match &entry.last_run {
            Some(run) => (units::moment(run.ended), run.outcome.clone(), run.counts.to_string()),
            None => ("none yet".into(), String::new(), String::new()),
        };
        table.row([entry.name.clone(), now, ended, outcome, tags, next]);
    }
    table
}

/// Why an entry has no next run.
fn not_by_itself(entry: &EntryState) -> String {
    match (entry.paused_since, entry.paused_until) {
        (Some(_), Some(until)) => format!("paused until {}", units::moment(until)),
        (Some(since), None) => format!("paused since {}", units::moment(since)),
        (None, _) => "by hand only".to_owned(),
    }
}

fn transfers(transfers: &[TransferState]) -> Table {
    let mut table = Table::new(&[
        ("BLOB", Align::Left),
        ("SENT", Align::Right),
        ("OF", Align::Right),
        ("FROM", Align::Left),
        ("TO", Align::Left),
    ]);
    for transfer in transfers {
        let (sent, size) = (units::bytes(transfer.sent), units::bytes(transfer.size));
        table.row([transfer.digest.short(), sent, size, transfer.source.clone(), transfer.target.clone()]);
    }
    table
}

impl Status {
    pub(super) async fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        if let Some(port) = &self.at {
            return self.tell(&ask(port).await?, &mut context.output);
        }
        let daemon = configuration::load(&context.global)?.daemon;
        match ask(&daemon.status).await {
            Ok(snapshot) => self.tell(&snapshot, &mut context.output),
            Err(silence) if self.json => Err(silence.into()),
            Err(silence) => {
                context.output.line(format!("{silence}\nwhat the journal knows of each entry's last run:\n"))?;
                let runs = Journal::open_existing(&daemon.journal)?.last_runs().await?;
                history::print(&runs, &mut context.output)?;
                Ok(Exit::Failed)
            }
        }
    }

    fn tell(&self, snapshot: &Snapshot, output: &mut Output) -> Result<Exit, Failure> {
        if self.json {
            output.json(snapshot)?;
        } else {
            print(snapshot, Utc::now(), output)?;
        }
        Ok(Exit::Ok)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::watch;
    use tokio_util::sync::CancellationToken;

    use super::super::output::tests::Paper;
    use super::*;
    use crate::journal::TagCounts;
    use crate::listen::{Listener, serve_routes};
    use crate::oci::Digest;
    use crate::status::{ConfigurationState, LastRun, Metrics, Port};

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn snapshot() -> Snapshot {
        let configuration = ConfigurationState {
            path: "/etc/transship/sync.yaml".into(),
            loaded_at: Some(at(0)),
            problem: Some("sync.yaml:3:1: unknown key".into()),
            ..ConfigurationState::default()
        };
        let last_run = LastRun {
            run: 1,
            outcome: "failed".into(),
            started: Some(at(20)),
            ended: at(30),
            bytes: 0,
            counts: TagCounts { kept: 2, failed: 1, ..TagCounts::default() },
            error: Some("source: listing tags: denied".into()),
        };
        let entry = EntryState {
            name: "api".into(),
            source: "h/a".into(),
            targets: vec!["t/a".into()],
            schedule: "* * * * *".into(),
            timezone: "UTC".into(),
            next_firing: None,
            postponed_until: None,
            running: None,
            last_run: Some(last_run),
            last_success: None,
            last_failure: Some(at(30)),
            failures: 3,
            paused_since: None,
            paused_until: None,
        };
        let transfer = TransferState {
            source: "h/a".into(),
            target: "t/a".into(),
            digest: Digest::of(b"x"),
            size: 2048,
            sent: 1024,
            since: None,
            bytes_per_second: None,
        };
        let quota = Quota {
            registry: "docker.io".into(),
            identity: "mirror-bot".into(),
            limit: 200,
            window_seconds: 21_600,
            remaining: 76,
            kept: 20,
            told: at(0),
        };
        let quotas = vec![quota];
        Snapshot { configuration, entries: vec![entry], in_flight: vec![transfer], quotas, ..Snapshot::starting(at(0)) }
    }

    #[test]
    fn people_read_entries_errors_and_transfers() {
        let paper = Paper::default();
        print(&snapshot(), at(60), &mut paper.output()).unwrap();
        let expected = format!(
            "running for 1m, not ready\n  the journal cannot be written\n  the daemon is starting or ending\n\
             configuration /etc/transship/sync.yaml read 2027-01-15T08:00:00Z\n\
             the last edit was refused, the configuration before it goes on:\nsync.yaml:3:1: unknown key\n\n\
             ENTRY  NOW   LAST RUN              OUTCOME  TAGS              NEXT RUN\n\
             api    idle  2027-01-15T08:00:30Z  failed   2 kept, 1 failed  by hand only\n\
             api: source: listing tags: denied (3 times in a row)\n\
             docker.io as mirror-bot: 76 of 200 pulls left in 6h, 20 kept back (told 2027-01-15T08:00:00Z)\n\n\
             BLOB             SENT       OF  FROM  TO\n{}  1.0 KiB  2.0 KiB  h/a   t/a\n",
            Digest::of(b"x").short()
        );
        assert_eq!(paper.text(), expected);
    }

    #[tokio::test]
    async fn the_daemon_is_asked_by_address_and_by_socket() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("status.sock");
        let tcp = Listener::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = StatusPort::Tcp(tcp.address().unwrap());
        let unix = Listener::unix(&socket).await.unwrap();
        let (_sender, receiver) = watch::channel(Arc::new(snapshot()));
        let port = Port::new(receiver, Arc::new(Metrics::new("0", at(0))), Arc::new(|| at(0)));
        let shutdown = CancellationToken::new();
        tokio::spawn(serve_routes(tcp, port.clone().router(), shutdown.clone()));
        tokio::spawn(serve_routes(unix, port.router(), shutdown.clone()));
        assert_eq!(ask(&address).await.unwrap(), snapshot());
        assert_eq!(ask(&StatusPort::Unix(socket)).await.unwrap(), snapshot());
        shutdown.cancel();
    }

    #[tokio::test]
    async fn a_silent_port_is_told_with_its_address() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = format!("{:#}", ask(&StatusPort::Tcp(address)).await.unwrap_err());
        assert!(error.starts_with(&format!("no daemon answers at {address}: ")), "{error}");
    }
}
