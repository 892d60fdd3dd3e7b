//! `transship status`: what the daemon is doing, asked at its status port, else the journal's last word.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use chrono::{DateTime, Utc};
use reqwest::StatusCode;
use reqwest::redirect::Policy;
use secrecy::ExposeSecret as _;

use super::exit::{Exit, Failure};
use super::output::Output;
use super::start::Context;
use super::table::{Align, Table};
use super::{configuration, history, units};
use crate::config::{Readers, StatusPort};
use crate::journal::Journal;
use crate::registry::Secret;
use crate::status::{EntryState, Quota, Snapshot, TransferState};

/// How long the daemon may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The arguments of `transship status`.
#[derive(Debug, clap::Args)]
pub struct Status {
    /// Where the status port is, ADDRESS:PORT or unix:PATH; by default where the configuration says
    #[arg(long, value_name = "PLACE", value_parser = status_port)]
    pub at: Option<StatusPort>,
    /// With --at, where the port asks for a token: the file that holds it
    #[arg(long, value_name = "FILE", requires = "at")]
    pub token_file: Option<PathBuf>,
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

/// Asks the daemon, with the token that it may want.
async fn ask(port: &StatusPort, token: Option<&Secret>) -> Result<Snapshot, anyhow::Error> {
    // The token is for whom it was asked for, and for nobody who is named in an answer.
    let client = reqwest::Client::builder().no_proxy().redirect(Policy::none()).timeout(ANSWER_WITHIN);
    let (client, url) = match port {
        StatusPort::Tcp(address) => (client, format!("http://{}/status", reached(*address))),
        StatusPort::Unix(path) => (client.unix_socket(path.clone()), "http://localhost/status".to_owned()),
        StatusPort::Off => return Err(anyhow!("the configuration says `status: off`")),
    };
    // The innermost cause tells a person most: the rest says that a request failed.
    let silent =
        |error: reqwest::Error| anyhow!("no daemon answers at {port}: {}", anyhow::Error::from(error).root_cause());
    let mut request = client.build()?.get(url);
    if let Some(token) = token {
        let token = token.read().await.context("the token of the status port cannot be read")?;
        request = request.bearer_auth(token.expose_secret());
    }
    let answer = request.send().await.map_err(silent)?;
    if answer.status() == StatusCode::UNAUTHORIZED {
        return Err(anyhow!("the daemon at {port} refuses {}", refused(token)));
    }
    let answer = answer.error_for_status().map_err(silent)?;
    // Another version may have a shape of its own: that is said rather than half understood.
    let body: serde_json::Value = answer.json().await.map_err(silent)?;
    match body["version"].as_u64() {
        Some(version) if version == u64::from(Snapshot::VERSION) => Ok(serde_json::from_value(body)?),
        version => {
            Err(anyhow!("the daemon at {port} tells its status in version {version:?}, which this program cannot read"))
        }
    }
}

/// An address that stands for all of this machine's is asked at its own loopback.
fn reached(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn refused(token: Option<&Secret>) -> &'static str {
    match token {
        None => "to answer without its token: name the file that holds it by --token-file",
        Some(_) => "this token: it goes by the one of daemon.status in its sync.yaml",
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
            let token = self.token_file.clone().map(Secret::File);
            return self.tell(&ask(port, token.as_ref()).await?, &mut context.output);
        }
        let daemon = configuration::load(&context.global)?.daemon;
        let token = match &daemon.status.readers {
            Readers::Token(token) => Some(token),
            Readers::Local | Readers::Anyone => None,
        };
        match ask(&daemon.status.listen, token).await {
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
        let environment = |name: &str| (name == "HOME").then(|| "/home/me".to_owned());
        let config = crate::config::parse("sync.yaml", "version: 1\nsync: []", &environment).unwrap();
        let (_in_force, config) = watch::channel(Arc::new(config));
        let port = Port::new(receiver, Arc::new(Metrics::new("0", at(0))), Arc::new(|| at(0)), config);
        let shutdown = CancellationToken::new();
        tokio::spawn(serve_routes(tcp, port.clone().router(), shutdown.clone()));
        tokio::spawn(serve_routes(unix, port.router(), shutdown.clone()));
        assert_eq!(ask(&address, None).await.unwrap(), snapshot());
        assert_eq!(ask(&StatusPort::Unix(socket), None).await.unwrap(), snapshot());
        shutdown.cancel();
    }

    #[tokio::test]
    async fn the_token_is_sent_and_a_refusal_says_where_it_comes_from() {
        let folder = tempfile::tempdir().unwrap();
        let (file, another) = (folder.path().join("token"), folder.path().join("another"));
        std::fs::write(&file, "0123456789abcdef\n").unwrap();
        std::fs::write(&another, "fedcba9876543210\n").unwrap();
        let text = format!(
            "version: 1\ndaemon: {{status: {{listen: \"0.0.0.0:9180\", token: {{file: {}}}}}}}\nsync: []\n",
            file.display()
        );
        let environment = |name: &str| (name == "HOME").then(|| "/home/me".to_owned());
        let config = crate::config::parse("sync.yaml", &text, &environment).unwrap();
        let (_in_force, config) = watch::channel(Arc::new(config));
        let (_sender, receiver) = watch::channel(Arc::new(snapshot()));
        let tcp = Listener::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let port = StatusPort::Tcp(tcp.address().unwrap());
        let router = Port::new(receiver, Arc::new(Metrics::new("0", at(0))), Arc::new(|| at(0)), config).router();
        let shutdown = CancellationToken::new();
        tokio::spawn(serve_routes(tcp, router, shutdown.clone()));
        assert_eq!(ask(&port, Some(&Secret::File(file))).await.unwrap(), snapshot());
        let refused = ask(&port, None).await.unwrap_err().to_string();
        let expected = "refuses to answer without its token: name the file that holds it by --token-file";
        assert_eq!(refused, format!("the daemon at {port} {expected}"));
        let refused = ask(&port, Some(&Secret::File(another))).await.unwrap_err().to_string();
        let expected = "refuses this token: it goes by the one of daemon.status in its sync.yaml";
        assert_eq!(refused, format!("the daemon at {port} {expected}"));
        shutdown.cancel();
    }

    #[test]
    fn an_address_for_all_of_this_machines_is_asked_at_loopback() {
        for (written, asked) in
            [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("10.0.0.5:1", "10.0.0.5:1"), ("[::1]:1", "[::1]:1")]
        {
            assert_eq!(reached(written.parse().unwrap()).to_string(), asked);
        }
    }

    #[tokio::test]
    async fn a_silent_port_is_told_with_its_address() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = format!("{:#}", ask(&StatusPort::Tcp(address), None).await.unwrap_err());
        assert!(error.starts_with(&format!("no daemon answers at {address}: ")), "{error}");
    }
}
