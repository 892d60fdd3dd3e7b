//! Command `transship status`: prints the daemon's state from its status port, or else the offline status from the
//! journal.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use chrono::{DateTime, Utc};
use reqwest::StatusCode;
use reqwest::redirect::Policy;
use secrecy::ExposeSecret as _;

use super::offline_status::LastWord;
use crate::cli::context::configuration;
use crate::cli::exit::{Exit, Failure};
use crate::cli::main::Context;
use crate::cli::output::table::{Align, Table};
use crate::cli::output::units;
use crate::cli::output::writer::{Output, print_error};
use crate::config::{Config, Readers, StatusPort};
use crate::journal::{Journal, JournalError};
use crate::registry::Secret;
use crate::status::{
    EntryState, FailedRun, HEALTHY_WITHIN, LimitsState, Quota, RegistryState, RunningState, Snapshot, TransferState,
};

/// Time limit for the daemon's response.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Arguments of `transship status`.
#[derive(Debug, clap::Args)]
pub struct Status {
    /// Place of the status port, ADDRESS:PORT or unix:PATH; by default the configuration's
    #[arg(long, value_name = "PLACE", value_parser = status_port)]
    pub at: Option<StatusPort>,
    /// With --at, if the port requires a token: the file that holds it
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

/// Requests the status from the daemon, with a token if the port requires one.
async fn request_status(port: &StatusPort, token: Option<&Secret>) -> Result<Snapshot, anyhow::Error> {
    // The token is meant for this daemon only, so redirects are not followed.
    let client = reqwest::Client::builder().no_proxy().redirect(Policy::none()).timeout(ANSWER_WITHIN);
    let (client, url) = match port {
        StatusPort::Tcp(address) => (client, format!("http://{}/status", address_to_connect(*address))),
        StatusPort::Unix(path) => (client.unix_socket(path.clone()), "http://localhost/status".to_owned()),
        StatusPort::Off => return Err(anyhow!("the configuration says `status: off`")),
    };
    // The innermost cause is the most useful to a person. The outer ones only say that a request failed.
    let silent = |error: reqwest::Error| {
        let hangs = if error.is_timeout() { "; see `systemctl status transship` and its log" } else { "" };
        anyhow!("no daemon answers at {port}: {}{hangs}", anyhow::Error::from(error).root_cause())
    };
    let mut request = client.build()?.get(url);
    if let Some(token) = token {
        let token = token.read().await.context("the token of the status port cannot be read")?;
        request = request.bearer_auth(token.expose_secret());
    }
    let answer = request.send().await.map_err(silent)?;
    if answer.status() == StatusCode::UNAUTHORIZED {
        return Err(anyhow!("the daemon at {port} refuses {}", token_refusal(token)));
    }
    let answer = answer.error_for_status().map_err(silent)?;
    // Another version may have another format. The error says so, and the response is not read further.
    let body: serde_json::Value = answer.json().await.map_err(silent)?;
    match body["version"].as_u64() {
        Some(version) if version == u64::from(Snapshot::VERSION) => Ok(serde_json::from_value(body)?),
        version => Err(anyhow!(
            "the daemon at {port} reports its status in version {version:?}, which this program cannot read"
        )),
    }
}

/// Returns the address to connect to: the loopback address in place of an unspecified one.
fn address_to_connect(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn token_refusal(token: Option<&Secret>) -> &'static str {
    match token {
        None => "a request without its token: name the file that holds it with --token-file",
        Some(_) => "this token: it expects the token of daemon.status in its sync.yaml",
    }
}

/// Prints a snapshot as text.
fn print(snapshot: &Snapshot, now: DateTime<Utc>, output: &mut Output) -> std::io::Result<()> {
    let up = units::between(snapshot.started, now);
    let ready = if snapshot.obstacles().is_empty() { "ready" } else { "not ready" };
    output.line(format!("running for {up}, {ready}"))?;
    if let Some(stuck) = stalled_for(snapshot, now) {
        let iterated = humantime::format_duration(Duration::from_secs(stuck.as_secs()));
        output.line(format!("  not healthy: the loop last iterated {iterated} ago"))?;
    }
    for obstacle in snapshot.obstacles() {
        output.line(format!("  {obstacle}"))?;
    }
    if let Some(loaded) = snapshot.configuration.loaded_at {
        output.line(format!("configuration {} read {}", snapshot.configuration.path, units::moment(loaded)))?;
    }
    if let Some(problem) = &snapshot.configuration.problem {
        output.line(format!("the last edit was refused, the previous configuration stays active:\n{problem}"))?;
    }
    if let Some(setback) = &snapshot.clock_set_back {
        let (by, noticed) = (Duration::from_secs(setback.seconds), units::moment(setback.noticed));
        let by = humantime::format_duration(by);
        output.line(format!("the clock was set back by {by} (noticed {noticed}): schedules follow the new time"))?;
    }
    output.line("")?;
    output.table(&entries(&snapshot.entries))?;
    for entry in &snapshot.entries {
        if let Some(error) = entry.last_run.as_ref().and_then(|run| run.error.as_ref()) {
            output.line(last_error(&entry.name, error, entry.failures, None))?;
        }
    }
    for warning in &snapshot.warnings {
        let of_entry = warning.entry.as_ref().map(|entry| format!("{entry}: ")).unwrap_or_default();
        output.line(format!("{of_entry}warning: {warning}"))?;
    }
    for waiting in &snapshot.waiting {
        output.line(format!("{}: waits for a slot since {}", waiting.entry, units::moment(waiting.since)))?;
    }
    for registry in &snapshot.registries {
        if let Some(held_up) = throttling(registry, now) {
            output.line(held_up)?;
        }
    }
    for quota in &snapshot.quotas {
        output.line(pulls_left(quota))?;
    }
    if !snapshot.in_flight.is_empty() {
        output.line("")?;
        output.table(&transfers(&snapshot.in_flight))?;
        let more = snapshot.transfers.saturating_sub(snapshot.in_flight.len() as u64);
        if more > 0 {
            output.line(format!("and {more} more"))?;
        }
    }
    if !snapshot.recent_failures.is_empty() {
        output.line("")?;
        output.table(&failures(&snapshot.recent_failures))?;
    }
    Ok(())
}

/// Returns the time since the last iteration of the daemon's loop, if it is too long.
fn stalled_for(snapshot: &Snapshot, now: DateTime<Utc>) -> Option<Duration> {
    (now - snapshot.loop_iterated_at).to_std().ok().filter(|silent| *silent > HEALTHY_WITHIN)
}

/// Returns a line such as `api: source: listing tags: denied (3 times in a row; backed off until
/// 2026-11-21T03:08:00Z)`.
pub(crate) fn last_error(entry: &str, error: &str, failures: u32, backed_off: Option<DateTime<Utc>>) -> String {
    let until = backed_off.map(|until| format!("; backed off until {}", units::moment(until))).unwrap_or_default();
    let again = if failures > 1 { format!(" ({failures} times in a row{until})") } else { String::new() };
    format!("{entry}: {error}{again}")
}

/// Returns a line about a registry that is paused, or that gets fewer concurrent requests than its limit, after
/// throttling.
fn throttling(registry: &RegistryState, now: DateTime<Utc>) -> Option<String> {
    let (name, limits) = (&registry.registry, &registry.limits);
    if let Some(until) = registry.paused_until.filter(|until| *until > now) {
        return Some(format!("{name}: throttled until {}", units::moment(until)));
    }
    let slowed = limits.concurrent < limits.concurrent_at_most;
    slowed.then(|| {
        let LimitsState { concurrent, concurrent_at_most, .. } = limits;
        format!("{name}: throttled, at most {concurrent} instead of {concurrent_at_most} requests are in flight")
    })
}

fn failures(failures: &[FailedRun]) -> Table {
    let mut table = Table::new(&[
        ("FAILED RUN", Align::Right),
        ("ENTRY", Align::Left),
        ("ENDED", Align::Left),
        ("OUTCOME", Align::Left),
        ("WHY", Align::Left),
    ]);
    for run in failures {
        let (ended, why) = (units::moment(run.ended), run.error.clone().unwrap_or_default());
        table.row([run.run.to_string(), run.entry.clone(), ended, run.outcome.clone(), why]);
    }
    table
}

/// Returns a line such as `docker.io as mirror-bot: 76 of 200 pulls left in 6h, 20 reserved (reported
/// 2026-11-21T09:00:00Z)`.
fn pulls_left(quota: &Quota) -> String {
    let Quota { registry, identity, limit, window_seconds, remaining, reserved, reported } = quota;
    let window = humantime::format_duration(Duration::from_secs(*window_seconds));
    let reserved = if *reserved > 0 { format!(", {reserved} reserved") } else { String::new() };
    let reported = units::moment(*reported);
    format!("{registry} as {identity}: {remaining} of {limit} pulls left in {window}{reserved} (reported {reported})")
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
        let now = running.map_or_else(|| idle.into(), progress);
        let next = match (entry.next_firing, entry.deferred_until) {
            (Some(next), Some(until)) if next == until => format!("{} for tags that wait", units::moment(next)),
            (Some(next), _) => units::moment(next),
            (None, _) => no_next_run(entry),
        };
        let (ended, outcome, tags) = match &entry.last_run {
            Some(run) => (units::moment(run.ended), run.outcome.clone(), run.counts.to_string()),
            None => ("none yet".into(), String::new(), String::new()),
        };
        table.row([entry.name.clone(), now, ended, outcome, tags, next]);
    }
    table
}

/// Returns the state of a run, such as `running since 2026-11-21T03:00:00Z, 3 of 5 tags, 12.3 MiB`.
fn progress(run: &RunningState) -> String {
    let done = run.counts.total();
    let tags = run.tags.map(|all| format!(", {done} of {all} tags")).unwrap_or_default();
    let sent = if run.bytes > 0 { format!(", {}", units::bytes(run.bytes)) } else { String::new() };
    format!("running since {}{tags}{sent}", units::moment(run.since))
}

/// Returns the reason why an entry has no next run.
fn no_next_run(entry: &EntryState) -> String {
    entry.paused_since.map_or_else(|| "manual only".to_owned(), |since| units::pause(since, entry.paused_until))
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
    pub(crate) async fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        if let Some(port) = &self.at {
            let token = self.token_file.clone().map(Secret::File);
            return self.print_snapshot(&request_status(port, token.as_ref()).await?, &mut context.output);
        }
        let config = match configuration::load(&context.global) {
            Ok(config) => config,
            Err(mistake) => return self.without_configuration(mistake, &StatusPort::default(), context).await,
        };
        let token = match &config.daemon.status.readers {
            Readers::Token(token) => Some(token),
            Readers::Local | Readers::Anyone => None,
        };
        match request_status(&config.daemon.status.listen, token).await {
            Ok(snapshot) => self.print_snapshot(&snapshot, &mut context.output),
            Err(silence) if self.json => Err(silence.into()),
            Err(silence) => {
                let silence = format!("{silence} (a changed port takes effect at the daemon's next start)");
                context.output.line(silence)?;
                print_offline_status(&config, Utc::now(), &mut context.output).await?;
                Ok(Exit::Failed)
            }
        }
    }

    /// Reports the mistake in the configuration, and the status of the daemon at `usual`. A broken edit of the file
    /// does not affect a running daemon. A daemon whose configuration names no other port listens at `usual`.
    async fn without_configuration(
        &self,
        mistake: Failure,
        usual: &StatusPort,
        context: &mut Context,
    ) -> Result<Exit, Failure> {
        let Ok(snapshot) = request_status(usual, None).await else { return Err(with_remedy(mistake)) };
        let exit = self.print_snapshot(&snapshot, &mut context.output)?;
        context.output.flush()?;
        print_error(&mistake);
        Ok(exit)
    }

    fn print_snapshot(&self, snapshot: &Snapshot, output: &mut Output) -> Result<Exit, Failure> {
        let now = Utc::now();
        if self.json {
            output.json(snapshot)?;
        } else {
            print(snapshot, now, output)?;
        }
        Ok(if stalled_for(snapshot, now).is_some() { Exit::Failed } else { Exit::Ok })
    }
}

/// Adds the remedy to the error about an unreadable configuration: the way to reach a daemon whose port is then
/// unknown.
fn with_remedy(mistake: Failure) -> Failure {
    let text = mistake.to_string();
    let remedy = format!(
        "{}; a running daemon keeps the last good configuration: reach it with `transship status --at ADDRESS:PORT`",
        text.strip_prefix("error: ").unwrap_or(&text)
    );
    match mistake {
        Failure::Usage(error) => Failure::Usage(error.context(remedy)),
        Failure::Failed(error) => Failure::Failed(error.context(remedy)),
    }
}

/// Prints the offline status: from the journal and the configuration, or from the configuration alone if there is no
/// journal.
async fn print_offline_status(config: &Config, now: DateTime<Utc>, output: &mut Output) -> Result<(), Failure> {
    let (word, known) = match Journal::open_existing(&config.daemon.journal) {
        Ok(journal) => {
            (LastWord::read(&journal).await?, "last runs in the journal, and next scheduled runs:".to_owned())
        }
        Err(error @ JournalError::Missing { .. }) => (LastWord::default(), format!("{error}; next scheduled runs:")),
        Err(error) => return Err(error.into()),
    };
    output.line(format!("{known}\n"))?;
    Ok(word.print(&config.entries, now, output)?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::watch;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::cli::output::writer::tests::Paper;
    use crate::journal::TagCounts;
    use crate::listen::{Listener, serve_routes};
    use crate::oci::Digest;
    use crate::status::{ConfigurationState, LastRun, Metrics, Port, WaitingState};

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
            counts: TagCounts { unchanged: 2, failed: 1, ..TagCounts::default() },
            error: Some("source: listing tags: denied".into()),
        };
        let entry = EntryState {
            name: "api".into(),
            source: "h/a".into(),
            targets: vec!["t/a".into()],
            schedule: "* * * * *".into(),
            timezone: "UTC".into(),
            next_firing: None,
            deferred_until: None,
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
            reserved: 20,
            reported: at(0),
        };
        let quotas = vec![quota];
        Snapshot { configuration, entries: vec![entry], in_flight: vec![transfer], quotas, ..Snapshot::starting(at(0)) }
    }

    #[test]
    fn text_shows_entries_errors_and_transfers() {
        let paper = Paper::default();
        print(&snapshot(), at(60), &mut paper.output()).unwrap();
        let expected = format!(
            "running for 1m, not ready\n  the journal cannot be written\n  the daemon is starting or ending\n\
             configuration /etc/transship/sync.yaml read 2027-01-15T08:00:00Z\n\
             the last edit was refused, the previous configuration stays active:\nsync.yaml:3:1: unknown key\n\n\
             ENTRY  NOW   LAST RUN              OUTCOME  TAGS                   NEXT RUN\n\
             api    idle  2027-01-15T08:00:30Z  failed   2 unchanged, 1 failed  manual only\n\
             api: source: listing tags: denied (3 times in a row)\n\
             docker.io as mirror-bot: 76 of 200 pulls left in 6h, 20 reserved (reported 2027-01-15T08:00:00Z)\n\n\
             BLOB             SENT       OF  FROM  TO\n{}  1.0 KiB  2.0 KiB  h/a   t/a\n",
            Digest::of(b"x").short()
        );
        assert_eq!(paper.text(), expected);
    }

    #[test]
    fn text_shows_running_waiting_paused_throttled_and_failed() {
        let calm = snapshot();
        let idle = EntryState { last_run: None, failures: 0, ..calm.entries[0].clone() };
        let counts = TagCounts { copied: 2, unchanged: 1, ..TagCounts::default() };
        let run = RunningState { since: at(10), trigger: "schedule".into(), counts, tags: Some(5), bytes: 3 << 20 };
        let entries = vec![
            EntryState { name: "runs".into(), running: Some(run), next_firing: Some(at(3600)), ..idle.clone() },
            EntryState {
                name: "waits".into(),
                next_firing: Some(at(90)),
                deferred_until: Some(at(90)),
                ..idle.clone()
            },
            EntryState { name: "rests".into(), paused_since: Some(at(0)), paused_until: Some(at(86_400)), ..idle },
        ];
        let registry = |name: &str, concurrent, paused_until| RegistryState {
            registry: name.into(),
            identities: Vec::new(),
            in_flight: 0,
            limits: LimitsState { concurrent, concurrent_at_most: 32, ..LimitsState::default() },
            paused_until,
            throttled_seconds: 0.0,
            requests: 0,
            bytes_in: 0,
            bytes_out: 0,
        };
        let (entry, outcome, error) = ("runs".into(), "failed".into(), Some("source: listing tags: denied".into()));
        let snapshot = Snapshot {
            configuration: ConfigurationState::default(),
            entries,
            waiting: vec![WaitingState { entry: "waits".into(), since: at(30), trigger: "schedule".into() }],
            registries: vec![registry("a", 32, None), registry("b", 8, None), registry("c", 16, Some(at(120)))],
            transfers: 3,
            recent_failures: vec![FailedRun { entry, run: 7, outcome, ended: at(5), error }],
            quotas: Vec::new(),
            ..calm
        };
        let paper = Paper::default();
        print(&snapshot, at(60), &mut paper.output()).unwrap();
        let text = paper.text();
        let expected = format!(
            "\
ENTRY  NOW                                                       LAST RUN  OUTCOME  TAGS  NEXT RUN
runs   running since 2027-01-15T08:00:10Z, 3 of 5 tags, 3.0 MiB  none yet                 2027-01-15T09:00:00Z
waits  idle                                                      none yet                 2027-01-15T08:01:30Z \
for tags that wait
rests  paused                                                    none yet                 paused since \
2027-01-15T08:00:00Z, until 2027-01-16T08:00:00Z
waits: waits for a slot since 2027-01-15T08:00:30Z
b: throttled, at most 8 instead of 32 requests are in flight
c: throttled until 2027-01-15T08:02:00Z

BLOB             SENT       OF  FROM  TO
{}  1.0 KiB  2.0 KiB  h/a   t/a
and 2 more

FAILED RUN  ENTRY  ENDED                 OUTCOME  WHY
         7  runs   2027-01-15T08:00:05Z  failed   source: listing tags: denied
",
            Digest::of(b"x").short()
        );
        assert_eq!(text.split_once("\n\n").unwrap().1, expected);
    }

    #[tokio::test]
    async fn status_is_requested_by_address_and_by_socket() {
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
        tokio::spawn(serve_routes(tcp, port.clone().router(), &[], shutdown.clone()));
        tokio::spawn(serve_routes(unix, port.router(), &[], shutdown.clone()));
        assert_eq!(request_status(&address, None).await.unwrap(), snapshot());
        assert_eq!(request_status(&StatusPort::Unix(socket), None).await.unwrap(), snapshot());
        shutdown.cancel();
    }

    fn status_command(json: bool) -> Status {
        Status { at: None, token_file: None, json }
    }

    #[test]
    fn stalled_daemon_loop_exits_with_failure() {
        let paper = Paper::default();
        let stuck = Snapshot { loop_iterated_at: Utc::now() - chrono::TimeDelta::minutes(5), ..snapshot() };
        assert_eq!(status_command(false).print_snapshot(&stuck, &mut paper.output()).unwrap(), Exit::Failed);
        assert!(paper.text().contains("\n  not healthy: the loop last iterated 5m "), "{}", paper.text());
        let turning = Snapshot { loop_iterated_at: Utc::now(), ..snapshot() };
        assert_eq!(status_command(true).print_snapshot(&turning, &mut paper.output()).unwrap(), Exit::Ok);
        assert_eq!(status_command(true).print_snapshot(&stuck, &mut paper.output()).unwrap(), Exit::Failed);
    }

    #[tokio::test]
    async fn default_port_is_tried_if_the_configuration_is_invalid() {
        let mistake = || Failure::usage(crate::config::parse("f", "version: 2\n", &|_| Some("/t".into())).unwrap_err());
        let config = crate::config::parse("f", "version: 1\nsync: []", &|_| Some("/t".into())).unwrap();
        let (_in_force, config) = watch::channel(Arc::new(config));
        let turning = Snapshot { loop_iterated_at: Utc::now(), ..snapshot() };
        let (_sender, receiver) = watch::channel(Arc::new(turning));
        let tcp = Listener::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let usual = StatusPort::Tcp(tcp.address().unwrap());
        let router = Port::new(receiver, Arc::new(Metrics::new("0", at(0))), Arc::new(|| at(0)), config).router();
        let shutdown = CancellationToken::new();
        let served = tokio::spawn(serve_routes(tcp, router, &[], shutdown.clone()));
        let paper = Paper::default();
        let mut context = Context { output: paper.output(), ..crate::cli::main::tests::context() };
        let exit = status_command(false).without_configuration(mistake(), &usual, &mut context).await.unwrap();
        assert_eq!(exit, Exit::Ok);
        assert!(paper.text().starts_with("running for "), "{}", paper.text());

        shutdown.cancel();
        served.await.unwrap();
        let failure = status_command(false).without_configuration(mistake(), &usual, &mut context).await.unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
        let remedy = "; a running daemon keeps the last good configuration: \
                      reach it with `transship status --at ADDRESS:PORT`";
        assert_eq!(failure.to_string(), format!("{}{remedy}", mistake()));
    }

    #[tokio::test]
    async fn missing_journal_leaves_only_the_next_runs() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "version: 1\ndaemon: {{journal: {}/journal.db}}\nsync:\n\
             - {{name: a, source: h.example/a, target: t.example/a, schedule: \"0 3 * * *\"}}\n",
            folder.path().display()
        );
        let config = crate::config::parse("f", &text, &|_| Some("/t".into())).unwrap();
        let paper = Paper::default();
        print_offline_status(&config, at(0), &mut paper.output()).await.unwrap();
        let (known, rest) = paper.text().split_once("\n\n").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        assert!(known.ends_with("; next scheduled runs:"), "{known}");
        assert_eq!(
            rest,
            "ENTRY  LAST RUN  OUTCOME  TAGS  NEXT RUN\na      none yet                 2027-01-16T03:00:00Z\n"
        );
    }

    #[tokio::test]
    async fn token_is_sent_and_a_refusal_names_its_origin() {
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
        tokio::spawn(serve_routes(tcp, router, &[], shutdown.clone()));
        assert_eq!(request_status(&port, Some(&Secret::File(file))).await.unwrap(), snapshot());
        let refused = request_status(&port, None).await.unwrap_err().to_string();
        let expected = "refuses a request without its token: name the file that holds it with --token-file";
        assert_eq!(refused, format!("the daemon at {port} {expected}"));
        let refused = request_status(&port, Some(&Secret::File(another))).await.unwrap_err().to_string();
        let expected = "refuses this token: it expects the token of daemon.status in its sync.yaml";
        assert_eq!(refused, format!("the daemon at {port} {expected}"));
        shutdown.cancel();
    }

    #[test]
    fn unspecified_address_is_reached_at_loopback() {
        for (written, asked) in
            [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("10.0.0.5:1", "10.0.0.5:1"), ("[::1]:1", "[::1]:1")]
        {
            assert_eq!(address_to_connect(written.parse().unwrap()).to_string(), asked);
        }
    }

    #[tokio::test]
    async fn closed_port_is_reported_with_its_address() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = format!("{:#}", request_status(&StatusPort::Tcp(address), None).await.unwrap_err());
        assert!(error.starts_with(&format!("no daemon answers at {address}: ")), "{error}");
    }
}
