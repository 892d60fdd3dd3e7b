//! Command `transship status`: prints the daemon's state from its status port, or else the offline status from the
//! journal.

use std::path::PathBuf;

use chrono::Utc;
use clap_complete::engine::ArgValueCompleter;

use super::offline_status;
use crate::cli::context::entry_pattern::{EntryPattern, select_names};
use crate::cli::context::invocation::Context;
use crate::cli::context::status_client::request_status;
use crate::cli::context::{completion, configuration, watch};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::snapshot::{print, stalled_for};
use crate::cli::output::writer::{Output, print_error};
use crate::config::{Config, Readers, StatusPort};
use crate::registry::Secret;
use crate::status::Snapshot;

/// Arguments of `transship status`.
#[derive(Debug, clap::Args)]
pub struct Status {
    /// Entries to show, by name or by glob ("app-*"); all by default
    #[arg(value_name = "ENTRY", add = ArgValueCompleter::new(completion::entries))]
    pub entries: Vec<EntryPattern>,
    /// Address of the status port, HOST:PORT or unix:PATH [default: the one in the configuration]
    #[arg(long, value_name = "ADDRESS", value_parser = status_port)]
    pub at: Option<StatusPort>,
    /// File with the token, if the status port at --at requires one
    #[arg(long, value_name = "FILE", requires = "at")]
    pub token_file: Option<PathBuf>,
    /// Show the state again every 2 seconds, until Ctrl-C
    #[arg(long, conflicts_with = "json")]
    pub watch: bool,
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

impl Status {
    pub(crate) async fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        if let Some(port) = self.at.clone() {
            let token = self.token_file.clone().map(Secret::File);
            if self.watch {
                let show = async |output: &mut Output| self.show_port(&port, token.as_ref(), output).await;
                return watch::repeat(context, show).await;
            }
            return self.show_port(&port, token.as_ref(), &mut context.output).await;
        }
        let config = match configuration::load(&context.global) {
            Ok(config) => config,
            Err(mistake) => return self.without_configuration(mistake, &StatusPort::default(), context).await,
        };
        if self.watch {
            return watch::repeat(context, async |output| self.show(&config, output).await).await;
        }
        self.show(&config, &mut context.output).await
    }

    async fn show_port(&self, port: &StatusPort, token: Option<&Secret>, output: &mut Output) -> Result<Exit, Failure> {
        self.print_snapshot(request_status(port, token).await?, output)
    }

    /// Prints the state of the daemon of this configuration, or the offline status if the daemon does not answer.
    async fn show(&self, config: &Config, output: &mut Output) -> Result<Exit, Failure> {
        let token = match &config.daemon.status.readers {
            Readers::Token(token) => Some(token),
            Readers::Local | Readers::Anyone => None,
        };
        match request_status(&config.daemon.status.listen, token).await {
            Ok(snapshot) => self.print_snapshot(snapshot, output),
            Err(silence) if self.json => Err(silence.into()),
            Err(silence) => {
                let silence = format!("{silence} (a changed port takes effect at the daemon's next start)");
                output.line(silence)?;
                offline_status::print(config, &self.entries, Utc::now(), output).await?;
                Ok(Exit::Failed)
            }
        }
    }

    /// Prints the status of the daemon at `default_port`, and the mistake in the configuration. A daemon still runs
    /// with the previous configuration after a broken edit of the file. It listens at `default_port` unless that
    /// configuration names another port.
    async fn without_configuration(
        &self,
        mistake: Failure,
        default_port: &StatusPort,
        context: &mut Context,
    ) -> Result<Exit, Failure> {
        let Ok(snapshot) = request_status(default_port, None).await else { return Err(with_remedy(mistake)) };
        let exit = self.print_snapshot(snapshot, &mut context.output)?;
        context.output.flush()?;
        print_error(&mistake);
        Ok(exit)
    }

    fn print_snapshot(&self, snapshot: Snapshot, output: &mut Output) -> Result<Exit, Failure> {
        let (snapshot, now) = (restrict(snapshot, &self.entries)?, Utc::now());
        if self.json {
            output.json(&snapshot)?;
        } else {
            print(&snapshot, now, output)?;
        }
        Ok(if stalled_for(&snapshot, now).is_some() { Exit::Failed } else { Exit::Ok })
    }
}

/// Removes the entries that the patterns do not select, with their failures and warnings. Facts about the daemon, the
/// registries and the blobs in transfer remain.
fn restrict(mut snapshot: Snapshot, patterns: &[EntryPattern]) -> Result<Snapshot, Failure> {
    if patterns.is_empty() {
        return Ok(snapshot);
    }
    let names: Vec<&str> = snapshot.entries.iter().map(|entry| entry.name.as_str()).collect();
    let selected: Vec<String> = select_names(patterns, &names)?.into_iter().map(str::to_owned).collect();
    let is_selected = |name: &String| selected.contains(name);
    snapshot.entries.retain(|entry| is_selected(&entry.name));
    snapshot.waiting.retain(|waiting| is_selected(&waiting.entry));
    snapshot.recent_failures.retain(|run| is_selected(&run.entry));
    snapshot.warnings.retain(|warning| warning.entry.as_ref().is_none_or(is_selected));
    Ok(snapshot)
}

/// Adds the remedy to the error about an unreadable configuration: without the configuration, the user must name the
/// address of the daemon's status port.
fn with_remedy(mistake: Failure) -> Failure {
    let text = mistake.to_string();
    let remedy = format!(
        "{}; a running daemon keeps the last valid configuration: query it with `transship status --at HOST:PORT`",
        text.strip_prefix("error: ").unwrap_or(&text)
    );
    match mistake {
        Failure::Usage(error) => Failure::Usage(error.context(remedy)),
        Failure::Failed(error) => Failure::Failed(error.context(remedy)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::watch;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::cli::context::entry_pattern::tests::patterns;
    use crate::cli::output::snapshot::tests::{snapshot, time_at};
    use crate::cli::output::writer::tests::OutputBuffer;
    use crate::listen::{Listener, serve_routes};
    use crate::status::{Metrics, Port};

    fn status_command(json: bool) -> Status {
        Status { entries: Vec::new(), at: None, token_file: None, watch: false, json }
    }

    #[test]
    fn stalled_daemon_loop_exits_with_failure() {
        let buffer = OutputBuffer::default();
        let stuck = Snapshot { loop_iterated_at: Utc::now() - chrono::TimeDelta::minutes(5), ..snapshot() };
        assert_eq!(status_command(false).print_snapshot(stuck.clone(), &mut buffer.output()).unwrap(), Exit::Failed);
        assert!(buffer.text().contains("\n  not healthy: the loop last iterated 5m "), "{}", buffer.text());
        let turning = Snapshot { loop_iterated_at: Utc::now(), ..snapshot() };
        assert_eq!(status_command(true).print_snapshot(turning, &mut buffer.output()).unwrap(), Exit::Ok);
        assert_eq!(status_command(true).print_snapshot(stuck, &mut buffer.output()).unwrap(), Exit::Failed);
    }

    #[test]
    fn only_selected_entries_of_the_daemon_are_shown() {
        let name = snapshot().entries[0].name.clone();
        let restricted = |texts: &[&str]| restrict(snapshot(), &patterns(texts));
        assert_eq!(restricted(&[]).unwrap().entries.len(), snapshot().entries.len());
        let one = restricted(&[&name]).unwrap();
        assert_eq!(one.entries.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), [&name]);
        assert!(one.recent_failures.iter().all(|run| run.entry == name));
        assert_eq!(restricted(&["nosuch-*"]).unwrap_err().exit(), Exit::Usage);
    }

    #[tokio::test]
    async fn default_port_is_tried_if_the_configuration_is_invalid() {
        let mistake = || Failure::usage(crate::config::parse("f", "version: 2\n", &|_| Some("/t".into())).unwrap_err());
        let config = crate::config::parse("f", "version: 1\nsync: []", &|_| Some("/t".into())).unwrap();
        let (_in_force, config) = watch::channel(Arc::new(config));
        let turning = Snapshot { loop_iterated_at: Utc::now(), ..snapshot() };
        let (_sender, receiver) = watch::channel(Arc::new(turning));
        let tcp = Listener::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let default_port = StatusPort::Tcp(tcp.address().unwrap());
        let router =
            Port::new(receiver, Arc::new(Metrics::new("0", time_at(0))), Arc::new(|| time_at(0)), config).router();
        let shutdown = CancellationToken::new();
        let served = tokio::spawn(serve_routes(tcp, router, &[], shutdown.clone()));
        let buffer = OutputBuffer::default();
        let mut context = Context { output: buffer.output(), ..crate::cli::context::invocation::tests::context() };
        let exit = status_command(false).without_configuration(mistake(), &default_port, &mut context).await.unwrap();
        assert_eq!(exit, Exit::Ok);
        assert!(buffer.text().starts_with("running for "), "{}", buffer.text());

        shutdown.cancel();
        served.await.unwrap();
        let failure =
            status_command(false).without_configuration(mistake(), &default_port, &mut context).await.unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
        let remedy = "; a running daemon keeps the last valid configuration: \
                      query it with `transship status --at HOST:PORT`";
        assert_eq!(failure.to_string(), format!("{}{remedy}", mistake()));
    }
}
